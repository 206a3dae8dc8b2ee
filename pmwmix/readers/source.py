"""What every file format offers: its contents without data, and chosen columns of chosen rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import FileError
from pmwmix.interrupt import was_left

Tick = Callable[[int], None]
PIECES = 8  # row ranges that a file is read in at most; each costs a walk to its first row
BUFFER = 1 << 20


@dataclass(frozen=True)
class Contents:
    """What a file holds, without its data.

    Parameters
    ----------
    path : Path
    names : list of str
    n_rows : int or None
        None where the format does not say.
    labels : dict
        Column to variable label.
    values : dict
        Column to its value labels, code to text.
    declared : dict
        Column to the ranges ``(low, high)`` of codes that the file itself declares missing.
    numeric : frozenset of str
        Columns of numbers; letters among their values are special missing codes (SAS, Stata).
    stored : dict or None
        The report that `pmwmix.convert` left in a parquet file.
    blanks : bool
        Whether blank text is how the format spells a missing answer (SPSS, SAS, Stata).
    """

    path: Path
    names: list[str]
    n_rows: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    declared: Mapping[str, list[tuple[Any, Any]]] = field(default_factory=dict)
    numeric: frozenset[str] = frozenset()
    stored: dict[str, Any] | None = None
    blanks: bool = False


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Parameters
    ----------
    contents : callable
        ``contents(path) -> Contents``.
    read : callable
        ``read(path, names, rows, tick) -> DataFrame`` of the columns ``names`` in the rows where ``rows`` is true
        (None: all), codes as they are in the file. ``tick`` is told the bytes read.
    """

    contents: Callable[[Path], Contents]
    read: Callable[[Path, list[str], Array | None, Tick | None], pd.DataFrame]


class Counted(io.RawIOBase):
    """A file that tells how many bytes were read from it."""

    def __init__(self, path: Path, tick: Tick | None) -> None:
        self._file = path.open("rb", buffering=0)
        self._tick = tick

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read, and tell; stop if nobody waits for it any more."""
        if was_left():
            raise OSError("interrupted")
        n = self._file.readinto(buffer) or 0
        if self._tick is not None:
            self._tick(n)
        return n

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go there."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where it stands."""
        return self._file.tell()

    def close(self) -> None:
        """Close."""
        self._file.close()
        super().close()


def opened(path: Path, tick: Tick | None = None) -> io.BufferedReader:
    """Open a file whose reading is counted."""
    return io.BufferedReader(Counted(path, tick), BUFFER)


def row_pieces(rows: Array | None) -> Iterator[tuple[int, int, Array | None]]:
    """Few ranges ``(first, count, which of them)`` that cover the wanted rows; a count of 0 is the whole file.

    Examples
    --------
    >>> [(first, count) for first, count, _ in row_pieces(np.array([False, True, True, False, True]))]
    [(1, 2), (4, 1)]
    """
    if rows is None:
        yield 0, 0, None
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if len(starts) > PIECES:
        gaps = starts[1:] - ends[:-1]
        cuts = np.sort(np.argsort(gaps)[len(gaps) - PIECES + 1 :])
        starts, ends = starts[[0, *(cuts + 1)]], ends[[*cuts, -1]]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        inside = rows[start:end]
        yield start, end - start, None if inside.all() else inside


def unreadable(path: Path, error: BaseException) -> FileError:
    """Build the error for a file that its format's reader refuses."""
    advice = "Check that it is what its ending claims and that it is complete"
    if isinstance(error, UnicodeDecodeError):
        advice = "Save it as UTF-8, or read it yourself with its encoding and pass the table"
    return FileError(f"The file cannot be read. {path.name!r} says: {str(error).strip().rstrip('.')}. {advice}.")
