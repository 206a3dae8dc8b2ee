"""The gallery: one script in docs/gallery for each plot, run while the site is built.

A script is a docstring ("Section: title", and words about this picture if there is something to say), a cell
``# %% data`` and a cell ``# %% plot`` that assigns ``plot``. The section is a heading of gallery.md. Without words of
its own a picture has those of the function's docstring, how to read the plot. Scripts with the same first cell share
it: it is run once. Pictures are kept in ``.rendered/gallery`` under a hash of the script and of the package.
"""

import ast
import hashlib
import re
import subprocess
import sys
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from reference import plots  # its neighbour here

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "docs" / "gallery"
PICTURES = ROOT / ".rendered" / "gallery"
CELL = re.compile(r"^# %%.*\n", flags=re.M)


def scripts() -> list[Path]:
    """Every script, in the order of names."""
    return sorted(path for path in SCRIPTS.glob("*.py") if not path.stem.startswith("_"))


def picture(script: Path) -> Path:
    """Where the picture of a script lies: its name changes with the script and with the package."""
    digest = hashlib.sha256(script.read_bytes())
    for path in sorted((ROOT / "pmwmix").rglob("*.py")):
        digest.update(path.read_bytes())
    return PICTURES / f"{script.stem}-{digest.hexdigest()[:16]}.png"


def on_files(files, config):
    """Draw what is not drawn yet and add the pictures to the site."""
    wanted = {script: picture(script) for script in scripts()}
    draw({script: path for script, path in wanted.items() if not path.exists()})
    for script, path in wanted.items():
        files.append(File.generated(config, f"gallery/{script.stem}.png", content=path.read_bytes()))
    return files


def draw(missing: dict[Path, Path]) -> None:
    """Run scripts in one process of their own; forget older pictures of the same scripts."""
    if not missing:
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    for script in missing:
        for old in PICTURES.glob(f"{script.stem}-{'[0-9a-f]' * 16}.png"):
            old.unlink()
    pairs = [str(path) for pair in missing.items() for path in pair]
    done = subprocess.run([sys.executable, __file__, *pairs], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise PluginError(f"A script of the gallery failed.\n{done.stdout}{done.stderr}")


def on_page_markdown(markdown, page, config, files):
    """Put the plots under their headings in gallery.md."""
    if page.file.src_uri != "gallery.md":
        return markdown
    for script in scripts():
        section, text = entry(script)
        heading = re.compile(rf"(^## {re.escape(section)}\n.*?)(?=^## |\Z)", flags=re.M | re.S)
        if not heading.search(markdown):
            raise PluginError(f"docs/gallery.md has no heading '## {section}', which {script.name} asks for.")
        markdown = heading.sub(lambda match, text=text: match[1].rstrip() + f"\n\n{text}\n\n", markdown)
    return re.sub(r"^## [^\n]*\n\s*(?=^## |\Z)", "", markdown, flags=re.M)  # headings with nothing below them


def entry(script: Path) -> tuple[str, str]:
    """Section of a script, and its title, text, picture and code."""
    source = script.read_text(encoding="utf-8")
    head, _, text = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
    section, colon, title = head.partition(": ")
    cells = CELL.split(source)
    if not colon or len(cells) < 3:
        raise PluginError(f"{script.name} needs a docstring 'Section: title' and two cells that begin with '# %%'.")
    used = [name for name in plots() if re.search(rf"\bplots\.{name}\(", source)]
    reading = [text.strip()] if text.strip() else [plots()[name] for name in used]
    links = ", ".join(f"[`pmwmix.plots.{name}`][pmwmix.plots.{name}.{name}]" for name in used)
    code = "\n\n".join(cell.strip() for cell in cells[1:])
    block = "\n".join(f"    {line}".rstrip() for line in f"```python\n{code}\n```".split("\n"))
    shown = f"![{title}](gallery/{script.stem}.png)"
    parts = [f"### {title}", shown, *reading, f"Reference: {links}", f'??? example "Code"\n\n{block}']
    return section, "\n\n".join(part for part in parts if part)


def main(pairs: list[str]) -> None:
    """Run scripts and save their plots; scripts with the same first cell share what it makes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shared: dict[str, dict] = {}
    for script, target in zip(pairs[::2], pairs[1::2], strict=True):
        print(script)
        text = Path(script).read_text(encoding="utf-8")
        data = list(CELL.finditer(text))[1].start()  # where the second cell begins
        shares = CELL.split(text[:data])[1]
        if shares not in shared:
            shared[shares] = {"__name__": "gallery"}
            exec(compile(text[:data], script, "exec"), shared[shares])
        names = dict(shared[shares])
        exec(compile("\n" * text[:data].count("\n") + text[data:], script, "exec"), names)
        names["plot"].savefig(target, bbox_inches="tight", dpi=110)
        plt.close("all")


if __name__ == "__main__":
    main(sys.argv[1:])
