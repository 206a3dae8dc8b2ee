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

SMALL = 9  # points, of tables


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
    document.add_heading(title, level=0)
    for block in blocks:
        document.add_heading(block.heading, level=1)
        for item in block.items:
            _add(document, item)
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
    from docx.shared import Pt

    columns = [[str(cell) for cell in table.iloc[:, j]] for j in range(table.shape[1])]
    right = [False, *(is_numeric(cells) for cells in columns)]
    out = document.add_table(rows=1, cols=len(right), style="Light List")
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
    document.add_paragraph()
