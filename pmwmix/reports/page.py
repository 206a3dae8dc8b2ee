"""A report as blocks of text, tables and equations, and its ways out: Markdown, HTML and Word."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pmwmix.errors import OptionError, near
from pmwmix.reports.equation import Equation, as_html, as_latex, as_text
from pmwmix.reports.word import write_word
from pmwmix.results.rendering import STYLE, html_table, is_numeric
from pmwmix.results.summary import PAGE
from pmwmix.writing import replacing, target_of

Item = str | list[str] | pd.DataFrame | Equation
KINDS = (".md", ".html", ".docx")
FIGURE = "Checks of the model (plots.check)"


@dataclass(frozen=True)
class Block:
    """A heading and what stands below it: paragraphs, lists, tables of text, equations."""

    heading: str
    items: list[Item]


@dataclass(frozen=True)
class Report:
    """What reviewers ask of a multilevel analysis, filled in from a fit.

    ``str()`` gives Markdown, notebooks show HTML, `save` writes .md, .html or .docx.

    Parameters
    ----------
    title : str
    blocks : list of Block
    draw : callable or None
        Gives the picture of the checks as PNG; called when it is needed.
    """

    title: str
    blocks: list[Block]
    draw: Callable[[], bytes] | None = None

    @cached_property
    def picture(self) -> bytes | None:
        """The picture of the checks (PNG); None without one."""
        return None if self.draw is None else self.draw()

    def to_markdown(self, picture: str | None = None) -> str:
        """Give the report as Markdown, equations in LaTeX between double dollars.

        Parameters
        ----------
        picture : str, optional
            Name of a file with the picture of the checks, to be linked.

        Returns
        -------
        str
        """
        pieces = [f"# {_plain(self.title)}"]
        for block in self.blocks:
            pieces.append(f"## {block.heading}")
            pieces += [_markdown(item) for item in block.items]
        if picture is not None:
            pieces += [f"## {FIGURE}", f"![{FIGURE}]({picture})"]
        return "\n\n".join(pieces) + "\n"

    def __str__(self) -> str:
        return self.to_markdown()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<style>{STYLE}</style><div class='pmwmix'>{self._body()}</div>"

    def to_html(self) -> str:
        """Give a whole HTML page with the picture in it, light or dark as the reader's browser is.

        Returns
        -------
        str
        """
        head = f"<meta charset='utf-8'><title>{html.escape(self.title)}</title>{PAGE}<style>{STYLE}</style>"
        shown = ""
        if self.picture is not None:
            code = base64.b64encode(self.picture).decode("ascii")
            look = "max-width:100%;background:white"
            shown = f"<h3>{FIGURE}</h3><img alt='{FIGURE}' style='{look}' src='data:image/png;base64,{code}'>"
        body = f"<main class='pmwmix-page'><div class='pmwmix'>{self._body()}{shown}</div></main>"
        return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>\n"

    def _body(self) -> str:
        pieces = [f"<h2>{html.escape(self.title)}</h2>"]
        for block in self.blocks:
            pieces.append(f"<h3>{html.escape(block.heading)}</h3>")
            pieces += [_html(item) for item in block.items]
        return "".join(pieces)

    def save(self, path: str | Path) -> Path:
        """Write the report to a file: .md (with a picture beside it), .html or .docx.

        Word is written by python-docx, which comes with ``pip install pmwmix[tables]``.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        Path

        Raises
        ------
        OptionError
            If the ending is none of these, or python-docx is missing.
        """
        path = Path(path)
        if path.suffix not in KINDS:
            raise OptionError(
                f"A report is written to a file of a known kind. Got {path.name!r}.{near(path.suffix, list(KINDS))} "
                f"Use one of the endings {', '.join(KINDS)}."
            )
        with replacing(target_of(path, "A report")) as new:
            if path.suffix == ".docx":
                write_word(self.title, self.blocks, (FIGURE, self.picture), new)
            elif path.suffix == ".html":
                new.write_text(self.to_html(), encoding="utf-8")
            else:
                new.write_text(self.to_markdown(self._beside(path)), encoding="utf-8")
        return path

    def _beside(self, path: Path) -> str | None:
        """Write the picture beside a Markdown file, and give its name."""
        if self.picture is None:
            return None
        other = path.with_name(f"{path.stem}-checks.png")
        with replacing(target_of(other, "The picture of a report")) as new:
            new.write_bytes(self.picture)
        return other.name


def _plain(text: str) -> str:
    """Keep Markdown from reading stars and underscores of names as its own."""
    return "".join(f"\\{letter}" if letter in "\\`*_|<>[]" else letter for letter in text)


def _markdown(item: Item) -> str:
    if isinstance(item, str):
        return _plain(item)
    if isinstance(item, Equation):
        lines = " \\\\\n".join(as_latex(line) for line in item.lines)
        return f"$$\n\\begin{{gathered}}\n{lines}\n\\end{{gathered}}\n$$\n\n{_plain(item.legend)}"
    if isinstance(item, list):
        return "\n".join(f"- {_plain(one)}" for one in item)
    heads = [str(item.index.name or ""), *map(str, item.columns)]
    rows = [[str(label), *map(str, row)] for label, row in zip(item.index, item.to_numpy().tolist(), strict=True)]
    sides = ["---:" if is_numeric([str(cell) for cell in item.iloc[:, j]]) else "---" for j in range(item.shape[1])]
    return "\n".join([_row(heads), f"|---|{'|'.join(sides)}|", *map(_row, rows)])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _html(item: Any) -> str:
    if isinstance(item, str):
        return f"<p>{html.escape(item)}</p>"
    if isinstance(item, Equation):
        lines = "<br>".join(as_html(line) for line in item.lines)
        return f"<p>{lines}</p><p>{html.escape(item.legend)}</p>"
    if isinstance(item, list):
        return "<ul>" + "".join(f"<li>{html.escape(one)}</li>" for one in item) + "</ul>"
    return html_table(item)


__all__ = ["Block", "Report", "as_text"]
