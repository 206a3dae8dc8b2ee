"""A report as a Word document, by python-docx."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pmwmix.errors import OptionError
from pmwmix.reports.equation import Equation, Sign
from pmwmix.results.rendering import is_numeric

SMALL = 8  # points, of tables
LETTER = 68_000  # a letter of that size, in Word's units of 1 / 914400 inch
MOST, PADDING = 40, 1  # letters of a column, and between columns
MARGIN = 40  # left and right of a cell, in twentieths of a point


def write_word(title: str, blocks: Sequence[Any], picture: tuple[str, bytes | None], path: Path) -> None:
    """Write headings, paragraphs, lists, tables and the picture, in the styles of Word's own template.

    Parameters
    ----------
    title : str
    blocks : sequence of Block
    picture : (str, bytes or None)
        Heading and PNG.
    path : Path

    Raises
    ------
    OptionError
        If python-docx is missing.
    """
    try:
        import docx
    except ImportError as error:
        raise OptionError(
            "Word files are written by python-docx. It is not installed. Call pip install 'pmwmix[tables]', or save "
            "the report as .md or .html."
        ) from error
    document: Any = docx.Document()
    document.core_properties.title = title
    for section in document.sections:
        section.left_margin = section.right_margin = docx.shared.Inches(1)
    document.add_heading(title, level=0)
    for block in blocks:
        document.add_heading(block.heading, level=1)
        for item, following in zip(block.items, [*block.items[1:], None], strict=True):
            _add(document, item)
            if isinstance(item, str) and isinstance(following, pd.DataFrame):
                document.paragraphs[-1].paragraph_format.keep_with_next = True
    heading, image = picture
    if image is not None:
        document.add_heading(heading, level=1)
        section = document.sections[0]
        width = section.page_width - section.left_margin - section.right_margin
        document.add_picture(io.BytesIO(image), width=width)
    document.save(str(path))


def _add(document: Any, item: Any) -> None:
    if isinstance(item, Equation):
        for line in item.lines:
            _add_line(document.add_paragraph(), line)
        document.add_paragraph(item.legend)
    elif isinstance(item, pd.DataFrame):
        _add_table(document, item)
    elif isinstance(item, list):
        for one in item:
            document.add_paragraph(one, style="List Bullet")
    else:
        document.add_paragraph(item)


def _add_line(paragraph: Any, line: Sequence[Sign | str]) -> None:
    """Write a line of an equation as runs, indices as subscripts."""
    for one in line:
        if isinstance(one, str):
            paragraph.add_run(one)
            continue
        paragraph.add_run(one.base).italic = not one.upright
        if one.index:
            paragraph.add_run(one.index).font.subscript = True
        if one.squared:
            paragraph.add_run("2").font.superscript = True


def _add_table(document: Any, table: pd.DataFrame) -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn
    from docx.shared import Pt

    columns = [[str(cell) for cell in table.iloc[:, j]] for j in range(table.shape[1])]
    right = [False, *(is_numeric(cells) for cells in columns)]
    out = document.add_table(rows=1, cols=len(right), style="Light Shading")
    heads = [str(table.index.name or ""), *map(str, table.columns)]
    lines = [heads, *([str(label), *row] for label, *row in zip(table.index, *columns, strict=True))]
    for i, cells in enumerate(lines):
        row = out.rows[0] if i == 0 else out.add_row()
        for cell, text, is_number in zip(row.cells, cells, right, strict=True):
            paragraph = cell.paragraphs[0]
            run = paragraph.add_run(text)
            run.font.size = Pt(SMALL)
            run.bold = i == 0
            if is_number:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
            paragraph.paragraph_format.keep_with_next = i + 1 < min(len(lines), 30)  # tables are not torn
    _widen(document, out, lines)
    look = out._tbl.tblPr.find(qn("w:tblLook"))
    look.attrib.clear()
    look.set(qn("w:val"), "0620")  # a first row, no bands of grey
    margins = OxmlElement("w:tblCellMar")
    for side in ("left", "right"):
        one = OxmlElement(f"w:{side}")
        one.set(qn("w:w"), str(MARGIN))
        one.set(qn("w:type"), "dxa")
        margins.append(one)
    look.addprevious(margins)  # where the schema wants it
    document.add_paragraph()


def _widen(document: Any, table: Any, lines: Sequence[Sequence[str]]) -> None:
    """Share the width of the page out: every column has room for its longest word, sentences get what is left."""
    section = document.sections[0]
    page = section.page_width - section.left_margin - section.right_margin
    columns = list(zip(*lines, strict=True))
    words = [max((len(word) for text in column for word in text.split()), default=0) + PADDING for column in columns]
    letter = LETTER * min(1.3, page / (LETTER * sum(words)))  # capitals are wide
    least = [letter * word for word in words]
    wished = [
        letter * max(min(max(map(len, one)), MOST) + PADDING, word) for one, word in zip(columns, words, strict=True)
    ]
    free, wanted = max(page - sum(least), 0), sum(wished) - sum(least)
    part = min(1.0, free / wanted) if wanted else 0.0
    table.autofit = False
    for column, low, wish in zip(table.columns, least, wished, strict=True):
        column.width = int(low + part * (wish - low))
        for cell in column.cells:
            cell.width = column.width
