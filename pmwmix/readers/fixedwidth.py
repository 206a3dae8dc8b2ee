"""Text of fixed width, as PISA 2000 to 2012 were published: .txt and .dat with the SPSS or SAS syntax beside them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import FileError
from pmwmix.readers.sas_syntax import read_sas
from pmwmix.readers.source import Contents, Format, Tick, opened, unreadable
from pmwmix.readers.spss_syntax import read_spss
from pmwmix.readers.syntax import Layout, Place, syntax_of, text_of_syntax

BYTES_AT_ONCE = 32_000_000


def layout_of(path: Path) -> Layout:
    """Give the columns of a text file as its syntax has them.

    Raises
    ------
    FileError
    """
    try:
        syntax = syntax_of(path)
        return _layout(syntax, syntax.stat().st_mtime_ns)
    except OSError as error:
        raise unreadable(path, error) from error


@lru_cache(maxsize=16)
def _layout(syntax: Path, changed: int) -> Layout:
    read = read_sas if syntax.suffix.lower() == ".sas" else read_spss
    text = text_of_syntax(syntax)
    if syntax.suffix.lower() == ".txt" and "data list" not in " ".join(text.lower().split()):
        read = read_sas
    return read(text, syntax.name)


def _contents(path: Path) -> Contents:
    layout = layout_of(path)
    try:
        with opened(path) as file:
            lines, last = 0, b"\n"
            while chunk := file.read(BYTES_AT_ONCE):
                lines, last = lines + chunk.count(b"\n"), chunk
    except OSError as error:
        raise unreadable(path, error) from error
    return Contents(
        path=path,
        names=list(layout.places),
        n_rows=lines + (not last.endswith(b"\n")),
        labels=layout.labels,
        values=layout.values,
        declared=layout.declared,
        numeric=frozenset(name for name, place in layout.places.items() if not place.text),
        blanks=True,
    )


def _read(path: Path, names: list[str], rows: Array | None, tick: Tick | None) -> pd.DataFrame:
    places = {name: layout_of(path).places[name] for name in names}
    parts: dict[str, list[Array]] = {name: [] for name in names}
    seen = 0
    try:
        for lines in _lines(path, tick):
            cells = _matrix(lines, max(place.last for place in places.values()))
            chosen = np.ones(len(cells), dtype=bool) if rows is None else rows[seen : seen + len(cells)]
            for name, place in places.items():
                parts[name].append(_column(cells[chosen], place, name, path))
            seen += len(cells)
    except OSError as error:
        raise unreadable(path, error) from error
    columns = {name: np.concatenate(pieces) if pieces else np.empty(0) for name, pieces in parts.items()}
    return pd.DataFrame({name: pd.Series(values) for name, values in columns.items()}, columns=names, copy=False)


def _lines(path: Path, tick: Tick | None) -> Iterator[list[bytes]]:
    """Give the lines of the file in pieces."""
    with opened(path, tick) as file:
        while lines := file.readlines(BYTES_AT_ONCE):
            yield [line.rstrip(b"\r\n\x1a") for line in lines]


def _matrix(lines: list[bytes], width: int) -> Array:
    """Lay lines out as characters, (n, width); short ones are filled up with blanks."""
    joined = b"".join(line[:width].ljust(width) for line in lines)
    return np.frombuffer(joined, dtype="S1").reshape(len(lines), width)


def _column(cells: Array, place: Place, name: str, path: Path) -> Array:
    """Numbers, or text without blanks around it, of one column, (n,)."""
    width = place.last - place.first + 1
    field = np.ascontiguousarray(cells[:, place.first - 1 : place.last]).view(f"S{width}").ravel()
    stripped = np.char.strip(field)
    if place.text:
        return np.array([one.decode("utf-8", errors="replace") for one in stripped.tolist()], dtype=object)
    empty = (stripped == b"") | (stripped == b".")
    try:
        values: Array = np.where(empty, b"nan", stripped).astype(float)
    except ValueError:
        bad = next(one for one in stripped[~empty].tolist() if not _is_number(one)).decode("latin-1")
        raise FileError(
            f"A column of numbers holds something else. {name!r} of {path.name!r} has {bad!r} in characters "
            f"{place.first} to {place.last} of a line. Check that the syntax belongs to the file."
        ) from None
    if place.decimals:
        implied = np.char.find(stripped, b".") < 0
        values = np.where(implied, values / 10.0**place.decimals, values)
    return values


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


FIXED = Format(_contents, _read)
