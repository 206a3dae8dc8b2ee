"""Tables of text cells as text, HTML and LaTeX: numbers aligned at their points, and none ever broken."""

from __future__ import annotations

import html
import io
import re
import shutil
from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

WIDEST, NARROWEST = 120, 40
GAP = 2  # blanks between columns
BESIDE = 60  # columns from which facts stand beside their names
LABEL = 16  # a column of words is folded down to this before columns of numbers are stacked
NUMBER = re.compile(r"[<>]?[+-]?\d[\d,]*(\.\d*)?(e[+-]?\d+)?%?|[+-]?Inf", re.IGNORECASE)
FIGURE, POINT = "\u2007", "\u2008"  # spaces as wide as a digit and as a point
STYLE = """
.pmwmix{font-family:system-ui,sans-serif;line-height:1.45}
.pmwmix h2{font-size:1.25rem;margin:.2rem 0}.pmwmix h3{font-size:1rem;margin:1.1rem 0 .3rem}
.pmwmix table{border-collapse:collapse;font-variant-numeric:tabular-nums;color:inherit;margin:0}
.pmwmix th,.pmwmix td{padding:.2rem .7rem;text-align:right;border:0;white-space:nowrap;font-size:inherit}
.pmwmix .words{text-align:left;white-space:normal}.pmwmix thead th{vertical-align:bottom}
.pmwmix thead th{border-bottom:1.5px solid currentColor}.pmwmix tbody th{font-weight:normal}
.pmwmix tbody tr:nth-child(even){background:color-mix(in srgb,currentColor 6%,transparent)}
.pmwmix dl{display:grid;grid-template-columns:max-content auto;gap:.15rem 1rem;margin:.4rem 0}
.pmwmix dt{opacity:.75;font-weight:normal}.pmwmix dd{margin:0}.pmwmix ul{margin:.3rem 0;padding-left:1.2rem}
.pmwmix .scroll{overflow-x:auto}
"""


def screen_width() -> int:
    """Columns of the terminal, between 40 and 120; 80 where there is none."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, NARROWEST), WIDEST)


def is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers: its cells are numbers or empty, and not all empty."""
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(NUMBER.fullmatch(cell) for cell in filled)


def aligned(cells: Sequence[str], blank: str = " ", point: str = " ") -> list[str]:
    """Pad numbers on the right so that their points stand in one line when they are flush right."""
    if not is_numeric(cells):
        return list(cells)
    tails = [cell.partition(".")[2] for cell in cells]
    longest = max(map(len, tails))
    missing = [longest - len(tail) for tail in tails]
    return [
        cell + ((point if "." not in cell else "") + blank * gap if cell and longest else "")
        for cell, gap in zip(cells, missing, strict=True)
    ]


def text_table(table: pd.DataFrame, width: int) -> str:
    """Lay a table out in so many columns of the screen.

    Where it is too wide, headings take two lines, then labels are folded, then columns are stacked: blocks of as many
    as there is room for, one below the other, each with the labels. A number is never broken.
    """
    columns = [[str(cell) for cell in table.iloc[:, j]] for j in range(table.shape[1])]
    heads, numeric = [str(name) for name in table.columns], [_is_short(cells) for cells in columns]
    columns = [aligned(cells) for cells in columns]
    labels = [str(label) for label in table.index]
    if _wide(labels, heads, columns) > width:
        heads = [_two_lines(head) if short else head for head, short in zip(heads, numeric, strict=True)]
    least = [_size(head, cells) if short else min(_size(head, cells), LABEL)
             for head, cells, short in zip(heads, columns, numeric, strict=True)]  # fmt: skip
    own = _size(str(table.index.name or ""), labels)
    out = []
    for block in _blocks(least, width - min(own, LABEL) - GAP):
        room = max(width - sum(least[j] + GAP for j in block), min(own, LABEL))
        shown = [fold(label, room) for label in labels]
        out.append(_drawn(table, shown, [(heads[j], columns[j], numeric[j]) for j in block], width))
    return "\n\n".join(out)


def _is_short(cells: Sequence[str]) -> bool:
    """Whether cells are numbers, or a few signs, that are set flush right and not folded."""
    return is_numeric(cells) or max(map(cell_len, cells), default=0) <= 24


def _two_lines(head: str) -> str:
    return "\n".join(head.rsplit(" ", 1))


def _size(head: str, cells: Sequence[str]) -> int:
    return max(cell_len(line) for text in (head, *cells) for line in (text.split("\n") or [""]))


def _wide(labels: Sequence[str], heads: Sequence[str], columns: Sequence[Sequence[str]]) -> int:
    return _size("", labels) + sum(_size(head, cells) + GAP for head, cells in zip(heads, columns, strict=True))


def _blocks(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Deal columns out to blocks that have room for them, in their order."""
    out: list[list[int]] = [[]]
    for j, size in enumerate(sizes):
        if out[-1] and sum(sizes[i] + GAP for i in out[-1]) + size > room:
            out.append([])
        out[-1].append(j)
    return out


def fold(label: str, width: int) -> str:
    """Break a label into lines of at most so many columns, at colons, brackets and blanks where it can be."""
    lines, line, indent = [], "", ""
    for piece in re.split(r"(?<=[\s:,)\]])(?![\s:,)\]])|(?=\[)", label):
        if line.strip() and cell_len(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line, indent = "  ", "  "
        line += piece
        while cell_len(line.rstrip()) > width:
            lines.append(line[:width])
            line, indent = indent + line[width:], "  "
    return "\n".join([*lines, line.rstrip()]) if line.strip() or not lines else "\n".join(lines)


def _drawn(table: pd.DataFrame, labels: list[str], columns: list[tuple[str, list[str], bool]], width: int) -> str:
    out = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0))
    lines = max((head.count("\n") for head, _, _ in columns), default=0)
    out.add_column(Text("\n" * lines + str(table.index.name or "")), no_wrap=True)
    shown = []
    for head, cells, short in columns:
        lifted, size = "\n" * (lines - head.count("\n")) + head, _size(head, cells) if short else 0
        out.add_column(Text(_flush_right(lifted, size)), no_wrap=short, overflow="fold")
        shown.append([_flush_right(cell, size) for cell in cells])
    for i, label in enumerate(labels):
        out.add_row(Text(label), *(Text(cells[i]) for cells in shown))
    return printed(out, max(width, _size("", labels) + sum(_size(h, c) + GAP if s else LABEL for h, c, s in columns)))


def _flush_right(text: str, size: int) -> str:
    """Pad every line on the left; rich would take the blanks on the right off, which align points."""
    return "\n".join(" " * (size - cell_len(line)) + line for line in text.split("\n"))


def text_facts(facts: Sequence[tuple[str, str]], width: int) -> str:
    """Lay names and what is said of them out in two columns, or below each other; what is said wraps within itself."""
    if width < BESIDE:
        pieces = [printed(name, width) + "\n" + _indented(value, width) for name, value in facts]
        return "\n".join(pieces)
    grid = RichTable.grid(padding=(0, GAP, 0, 0))
    grid.add_column(no_wrap=True)
    for name, value in facts:
        grid.add_row(Text(name), Text(value, overflow="fold"))
    return printed(grid, width)


def text_notes(notes: Sequence[str], width: int) -> str:
    """Write notes below each other, with a star and wrapped within themselves."""
    return "\n".join("* " + _indented(note, width)[2:] for note in notes)


def _indented(text: str, width: int) -> str:
    return "\n".join(f"  {line}" for line in printed(text, width - 2).split("\n"))


def printed(what: object, width: int) -> str:
    """Give what rich prints in so many columns, without colours and trailing blanks; text is taken as it is."""
    buffer, what = io.StringIO(), Text(what, overflow="fold") if isinstance(what, str) else what
    Console(file=buffer, width=width, no_color=True, force_terminal=False, force_jupyter=False, highlight=False).print(
        what
    )
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip("\n").split("\n"))


def html_table(table: pd.DataFrame) -> str:
    """Write a table as HTML: headings with their scope, numbers flush right and aligned at their points."""
    columns = [[str(cell) for cell in table.iloc[:, j]] for j in range(table.shape[1])]
    words = ["" if _is_short(cells) else " class='words'" for cells in columns]
    columns = [aligned(cells, FIGURE, POINT) for cells in columns]
    head = "".join(
        f"<th scope='col'{kind}>{html.escape(str(name))}</th>" for name, kind in zip(table.columns, words, strict=True)
    )
    rows = [
        f"<tr><th scope='row' class='words'>{html.escape(str(label))}</th>"
        + "".join(f"<td{kind}>{html.escape(cells[i])}</td>" for cells, kind in zip(columns, words, strict=True))
        + "</tr>"
        for i, label in enumerate(table.index)
    ]
    corner = f"<th scope='col' class='words'>{html.escape(str(table.index.name or ''))}</th>"
    return (
        f"<div class='scroll'><table><thead><tr>{corner}{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def latex_table(table: pd.DataFrame) -> str:
    """Write a table in LaTeX with booktabs."""
    shown = table.map(tex).rename(index=tex, columns=tex)
    kinds = ["r" if _is_short([str(cell) for cell in table.iloc[:, j]]) else "l" for j in range(table.shape[1])]
    return str(shown.style.to_latex(hrules=True, column_format="l" + "".join(kinds)))


TEX = {
    "\\": r"\textbackslash{}",
    "|": r"\textbar{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def tex(text: object) -> str:
    """Write text so that LaTeX prints it as it is."""
    return "".join(TEX.get(sign, sign) for sign in str(text))
