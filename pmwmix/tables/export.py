"""Tables of models as Word, Excel, LaTeX, HTML, CSV and text, by the packages of the extra ``tables``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pmwmix.errors import OptionError, near
from pmwmix.results.rendering import tex
from pmwmix.writing import replacing, target_of


def _maketables() -> Any:
    try:
        import maketables
    except ImportError as error:
        raise OptionError(
            "Word files and HTML for papers are written by maketables and great_tables. They are not installed. Call "
            "pip install 'pmwmix[tables]', or use save('table.tex') or save('table.csv')."
        ) from error
    return maketables


def _made(cells: pd.DataFrame, notes: Sequence[str]) -> Any:
    return _maketables().MTable(cells, notes=" ".join(notes))


def as_gt(cells: pd.DataFrame, notes: Sequence[str]) -> Any:
    """Give a ``great_tables.GT``."""
    return _made(cells, notes).make("gt")


def as_latex(rows: pd.DataFrame, parts: Sequence[str], notes: Sequence[str]) -> str:
    """Write the printed rows in LaTeX with booktabs, names of parts in italics, and the notes below.

    Parameters
    ----------
    rows : DataFrame
        Text by label.
    parts : sequence of str
        Labels that head a part.
    notes : sequence of str
    """
    width = rows.shape[1] + 1
    lines = [" & ".join(["", *map(tex, rows.columns)]), r"\midrule"]
    for label, cells in zip(rows.index, rows.to_numpy().tolist(), strict=True):
        if label in parts and not any(cells):
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{tex(label)}}}}}")
        else:
            lines.append(" & ".join(map(tex, [label, *cells])))
    body = "\n".join(line if line == r"\midrule" else rf"{line} \\" for line in lines)
    said = rf"\par\footnotesize {tex(' '.join(notes))}" + "\n" if notes else ""
    kinds = "l" + "r" * rows.shape[1]
    return f"\\begin{{tabular}}{{{kinds}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n{said}"


def _word(table: Any, path: Path) -> None:
    _made(table.cells, table.notes).make("docx").save(path)


def _excel(table: Any, path: Path) -> None:
    """Write the text on one sheet and the numbers on another."""
    try:
        import openpyxl
    except ImportError as error:
        raise OptionError(
            "Excel files are written by openpyxl. It is not installed. Call pip install 'pmwmix[tables]', or use "
            "save('table.csv')."
        ) from error
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Table"
    flat = table.printed_rows()
    sheet.append(["", *flat.columns])
    for label, row in flat.iterrows():
        sheet.append([label, *row])
    for note in table.notes:
        sheet.append([note])
    numbers = book.create_sheet("Numbers")
    numbers.append([*table.data.index.names, *table.data.columns])
    for key, row in table.data.iterrows():
        numbers.append([*key, *(None if pd.isna(value) else float(value) for value in row)])
    n_rows = 1 + len(flat)
    _lay_out(sheet, n_rows, 1)
    _lay_out(numbers, numbers.max_row, len(table.data.index.names))
    for row in sheet.iter_rows(max_row=n_rows):
        if row[0].value and not any(cell.value for cell in row[1:]):
            row[0].font = openpyxl.styles.Font(bold=True)  # the name of a part
    book.save(path)


def _lay_out(sheet: Any, n_rows: int, n_names: int) -> None:
    """Make columns as wide as their texts, in rows that are no notes, heads bold and numbers flush right."""
    from openpyxl.styles import Alignment, Font
    from openpyxl.worksheet.properties import PageSetupProperties

    for column in sheet.iter_cols(max_row=n_rows):
        texts = [f"{cell.value:.6g}" if isinstance(cell.value, float) else str(cell.value or "") for cell in column]
        sheet.column_dimensions[column[0].column_letter].width = min(max(map(len, texts)), 60) + 3
        column[0].font = Font(bold=True)
        for cell in column if column[0].column > n_names else ():
            cell.alignment = Alignment(horizontal="right")
    sheet.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
    sheet.page_setup.fitToHeight = 0  # as wide as a page, as long as it is
    sheet.freeze_panes = sheet.cell(row=2, column=n_names + 1)


def _text(content: Callable[[Any], str]) -> Callable[[Any, Path], None]:
    def write_text(table: Any, path: Path) -> None:
        path.write_text(content(table), encoding="utf-8")

    return write_text


KINDS: dict[str, Callable[[Any, Path], None]] = {
    ".docx": _word,
    ".xlsx": _excel,
    ".tex": _text(lambda table: table.to_latex()),
    ".html": _text(lambda table: table.to_html()),
    ".csv": _text(lambda table: table.data.to_csv()),
    ".txt": _text(lambda table: table.to_text(100) + "\n"),
}


def check_ending(path: Path) -> None:
    """Refuse a kind of file that no table is written to.

    Raises
    ------
    OptionError
    """
    if path.suffix not in KINDS:
        raise OptionError(
            f"A table is written to a file of a known kind. Got {path.name!r}.{near(path.suffix, list(KINDS))} Use one "
            f"of the endings {', '.join(KINDS)}."
        )


def write(table: Any, path: Path) -> Path:
    """Write a table in the kind of file that its ending says.

    Raises
    ------
    OptionError
    """
    check_ending(path)
    with replacing(target_of(path, "A table")) as new:
        KINDS[path.suffix](table, new)
    return path
