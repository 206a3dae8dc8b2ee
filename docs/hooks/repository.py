"""The site and the repository: README and LICENSE as pages, links written for the repository, GitHub's anchors."""

import json
import posixpath
import re
from pathlib import Path

from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
EQUATIONS = {
    path.stem: set(re.findall(r"\\tag\{(\w+)\}", path.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "docs").glob("*.md"))
}
CITED = re.compile(rf"\b(({'|'.join(EQUATIONS)})(?: page)?, eqs?\. )(\d+[a-z]?)", flags=re.I)
NOTE = re.compile(r"\.\. (\[\d+\])|(\[\d+\])_(?!\w)")  # numpydoc's references
ROW = re.compile(r"^\|.*\|\s*$", flags=re.M)  # of a table: GitHub wants \| in its code, where Markdown here wants |
SPAN = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)")
CODE = re.compile(r"(<pre.*?</pre>|<a .*?</a>)", flags=re.S)
log = get_plugin_logger("repository")


def on_config(config):
    """Give headings the anchors that GitHub gives them."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files, config):
    """Add the README as a page."""
    files.append(File.generated(config, "readme.md", content=(ROOT / "README.md").read_text(encoding="utf-8")))
    return files


def source_of(page_uri: str) -> str:
    """Path in the repository of the file from which a page was made."""
    if page_uri == "readme.md":
        return "README.md"
    if page_uri.startswith("notebooks/"):
        return page_uri.removesuffix(".md") + ".ipynb"
    return f"docs/{page_uri}"


def page_of(path: str) -> str | None:
    """Page that is made from a file of the repository; None if there is none."""
    if path == "README.md":
        return "readme.md"
    if path.startswith("notebooks/") and path.endswith(".ipynb"):
        return path.removesuffix(".ipynb") + ".md"
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def title_of(path: str) -> str:
    """First heading of a Markdown file or notebook of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".ipynb"):
        text = "\n".join(line for cell in json.loads(text)["cells"] for line in "".join(cell["source"]).split("\n"))
    return re.search(r"^# (.+)$", text, flags=re.M)[1]


def on_page_markdown(markdown, page, config, files):
    """Turn links between files of the repository into links between pages, and file names in their text into titles.

    A link to a file that is no page becomes its text. A link to nothing stays, and the strict build fails on it. Bars
    in the code of tables lose the backslash that GitHub needs before them.
    """
    here = page.file.src_uri
    folder = posixpath.dirname(source_of(here))

    def turned(match: re.Match) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        if "://" in target or target.startswith("mailto:") or not (ROOT / path).is_file():
            return match[0]
        to = page_of(path)
        if to is None:
            return text
        if text in (target, path):
            text = title_of(path)
        return f"[{text}]({posixpath.relpath(to, posixpath.dirname(here) or '.')}{anchor})"

    return LINK.sub(turned, ROW.sub(lambda row: SPAN.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), markdown))


def on_page_content(html, page, config, files):
    """Link citations of the kind "theory, eq. 7" to the equation; take the marks of numpydoc off references."""
    folder = posixpath.dirname(page.url) or "."

    def linked(match: re.Match) -> str:
        before, name, number = match.groups()
        if number not in EQUATIONS[name.lower()]:
            log.warning(f"{page.file.src_uri} cites {match[0]!r}, which does not exist.")
        return f'{before}<a href="{posixpath.relpath(f"{name.lower()}.html", folder)}#eq-{number}">{number}</a>'

    parts = CODE.split(html)
    for place in range(0, len(parts), 2):
        part = CITED.sub(linked, parts[place])
        parts[place] = NOTE.sub(r"\1\2", part) if page.url.startswith("api/") else part
    return "".join(parts)
