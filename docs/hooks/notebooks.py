"""Notebooks as pages, with their outputs.

They are committed without outputs. ``tests/test_docs.py`` runs each of them and leaves the executed copy in
``.rendered/notebooks``; a copy of the same code that is younger than the package is shown, otherwise the notebook is
executed here.
"""

import base64
import re
from pathlib import Path

import nbformat
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
COPIES = ROOT / ".rendered" / "notebooks"
NAV_ENTRY = "notebooks/*"
IMAGES = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
log = get_plugin_logger("notebooks")
_html: list[str] = []
_serving = False  # while pages are written a copy that is older than the package will do


def on_startup(command, dirty):
    """Remember whether this is ``mkdocs serve``."""
    global _serving
    _serving = command == "serve"


def notebooks() -> list[Path]:
    """Every notebook, in order."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def on_config(config):
    """Put the notebooks in the place of ``notebooks/*`` in the navigation."""
    pages = [f"notebooks/{path.stem}.md" for path in notebooks()]
    for entry in config.nav or []:
        for name, below in entry.items() if isinstance(entry, dict) else ():
            if isinstance(below, list) and NAV_ENTRY in below:
                entry[name] = [page for one in below for page in (pages if one == NAV_ENTRY else [one])]
    return config


def on_files(files, config):
    """Add a page for every notebook, and its pictures."""
    _html.clear()
    for path in notebooks():
        text, pictures = as_markdown(executed(path), path.stem)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_content(html, page, config, files):
    """Put the tables of the outputs in, as the notebook has them."""
    return re.sub(r"(?:<p>)?\ue002(\d+)\ue003(?:</p>)?", lambda match: _html[int(match[1])], html)


def executed(path: Path) -> nbformat.NotebookNode:
    """Give the notebook with its outputs, from a copy if one is fresh."""
    book, copy = nbformat.read(path, 4), COPIES / path.name
    if copy.exists():
        old = nbformat.read(copy, 4)
        package = max(file.stat().st_mtime for file in (ROOT / "pmwmix").rglob("*.py"))
        same = [(c.cell_type, c.source) for c in old.cells] == [(c.cell_type, c.source) for c in book.cells]
        if same and (_serving or copy.stat().st_mtime > package):
            return old
    from nbclient import NotebookClient

    log.info(f"Executing {path.name}: there is no fresh copy in {COPIES.relative_to(ROOT)}")
    folder = {"metadata": {"path": str(path.parent)}}
    NotebookClient(book, timeout=600, kernel_name="python3", resources=folder).execute()
    COPIES.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, copy)
    return book


def as_markdown(book: nbformat.NotebookNode, stem: str) -> tuple[str, dict[str, bytes | str]]:
    """Give the page of a notebook and its pictures by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes | str] = {}
    for number, cell in enumerate(book.cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            parts.append(fenced(cell.source, "python"))
            for place, output in enumerate(cell.outputs):
                parts.append(shown(output, f"{stem}_{number}_{place}", pictures))
    return "\n\n".join(part for part in parts if part), pictures


def shown(output: nbformat.NotebookNode, name: str, pictures: dict[str, bytes | str]) -> str:
    """Give the Markdown of one output: picture, table or text."""
    if output.output_type == "stream":
        return fenced(COLOURS.sub("", output.text), "text")
    if output.output_type == "error":
        raise RuntimeError(f"{name}: {output.ename}: {output.evalue}")
    data = output.data
    for kind, ending in IMAGES.items():
        if kind in data:
            pictures[f"{name}.{ending}"] = data[kind] if ending == "svg" else base64.b64decode(data[kind])
            return f"![Figure]({name}.{ending})"
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.S)
        _html.append(f'<div class="output">{table}</div>')
        return f"\ue002{len(_html) - 1}\ue003"
    if "text/markdown" in data:
        return data["text/markdown"]
    return fenced(data.get("text/plain", ""), "text")


def fenced(text: str, language: str) -> str:
    """Text as a block of code; the fence is longer than any inside."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    css = " .output" if language == "text" else ""
    return f"{fence}{{ .{language}{css} }}\n{text.rstrip()}\n{fence}" if text.strip() else ""
