"""Comma-separated text: .csv and .csv.gz."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import FileError
from pmwmix.readers.source import Contents, Format, Tick, opened, unreadable

ROWS_AT_ONCE = 100_000
BLANKS = ["NA", *(" " * n for n in range(33))]  # SPSS writes a blank for a missing number
UNREADABLE = (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OSError, EOFError, csv.Error, zlib.error)


def _contents(path: Path) -> Contents:
    try:
        with _text(path) as file:  # pandas would rename copies: "y", "y.1"
            names: list[str] = next((row for row in csv.reader(file) if not _is_blank(row)), [])
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    if any("\0" in name for name in names) or (len(names) == 1 and re.search("[;\t]", names[0])):
        raise FileError(
            f"The file is not separated by commas. The first line of {path.name!r} is {names[0][:60]!r}. "
            f"Read it yourself, with its separator, and pass the table."
        )
    return Contents(path, [name for name in names if name])


def _text(path: Path) -> Any:
    packed = path.name.lower().endswith(".gz")
    return (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="")


def _is_blank(row: list[str]) -> bool:
    return len(row) < 2 and not "".join(row).strip()


def _read(path: Path, names: list[str], rows: np.ndarray | None, tick: Tick | None) -> pd.DataFrame:
    # only empty fields and NA are missing: a category called "None" stays a category
    options: dict[str, Any] = {
        "usecols": names, "low_memory": False, "keep_default_na": False, "na_values": BLANKS, "index_col": False,
        "compression": "gzip" if path.name.lower().endswith(".gz") else None,
    }  # fmt: skip
    try:
        state = path.stat()
        _check_fields(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        if rows is None:
            with opened(path, tick) as file:
                return pd.read_csv(file, **options)[names]
        parts = _chunks(path, rows, tick, options)
        mixed = {name: str for name in names if len({pd.api.types.is_numeric_dtype(part[name]) for part in parts}) > 1}
        if mixed:  # numbers in one chunk and text in another are text
            parts = _chunks(path, rows, None, {**options, "dtype": mixed})
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    return pd.concat(parts, ignore_index=True)[names]


def _chunks(path: Path, rows: np.ndarray, tick: Tick | None, options: dict[str, Any]) -> list[pd.DataFrame]:
    with opened(path, tick) as file, pd.read_csv(file, chunksize=ROWS_AT_ONCE, **options) as chunks:
        return [chunk[rows[chunk.index]] for chunk in chunks]


@lru_cache(maxsize=64)
def _check_fields(path: Path, changed: int, size: int) -> None:
    """Refuse lines with more or fewer fields than the first; pandas would shift them, or fill them up, in silence.

    Raises
    ------
    FileError
        It names the line.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    names = pc.ReadOptions(autogenerate_column_names=True, use_threads=False)
    blank = pc.ParseOptions(
        newlines_in_values=True,
        invalid_row_handler=lambda row: "skip" if row.actual_columns < 2 and not row.text.strip() else "error",
    )
    one = pc.ConvertOptions(include_columns=["f0"], column_types={"f0": pa.binary()})
    packed = "gzip" if path.name.lower().endswith(".gz") else None
    try:
        with pa.input_stream(str(path), compression=packed) as file, pc.open_csv(file, names, blank, one) as batches:
            for _ in batches:
                pass
    except pa.ArrowException as error:
        _say_line(path)
        raise unreadable(path, error) from error


def _say_line(path: Path) -> None:
    """Find the first line with more or fewer fields than the header, and refuse the file."""
    with _text(path) as file:
        lines = csv.reader(file)
        width, first = 0, 1
        for row in lines:
            found, line = len(row), first
            first = lines.line_num + 1
            if _is_blank(row) or found == (width := width or found):
                continue
            said = "more" if found > width else "fewer"
            raise FileError(
                f"All lines must have as many fields as the first. Line {line} of {path.name!r} has {found}, "
                f"{said} than the {width} of the header. Put text that holds a comma in quotes, and check that the "
                f"file is complete."
            )


TEXT = Format(_contents, _read)
