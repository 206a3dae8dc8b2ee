"""Comma-separated text: .csv and .csv.gz."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import FileError
from pmwmix.readers.source import Contents, Format, Tick, opened, unreadable

ROWS_AT_ONCE = 100_000
UNREADABLE = (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OSError, EOFError, csv.Error, zlib.error)


def _contents(path: Path) -> Contents:
    packed = path.name.lower().endswith(".gz")
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if packed
            else path.open(encoding="utf-8-sig", newline="") as file
        ):  # pandas would rename copies: "y", "y.1"
            names: list[str] = next((row for row in csv.reader(file) if row), [])
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    if any("\0" in name for name in names) or (len(names) == 1 and re.search("[;\t]", names[0])):
        raise FileError(
            f"The file is not separated by commas. The first line of {path.name!r} is {names[0][:60]!r}. "
            f"Read it yourself, with its separator, and pass the table."
        )
    return Contents(path, [name for name in names if name])


def _read(path: Path, names: list[str], rows: np.ndarray | None, tick: Tick | None) -> pd.DataFrame:
    # only empty fields and NA are missing: a category called "None" stays a category
    options: dict[str, Any] = {
        "usecols": names, "low_memory": False, "keep_default_na": False, "na_values": ["", "NA"],
        "compression": "gzip" if path.name.lower().endswith(".gz") else None,
    }  # fmt: skip
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


TEXT = Format(_contents, _read)
