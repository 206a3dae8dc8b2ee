"""Columns of rows that are read block by block, so that none of them is ever held as a whole. Numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array

ROWS = 2**18  # of a block


@dataclass(frozen=True)
class Same:
    """A column of one value."""

    value: float
    n: int

    def __len__(self) -> int:
        """Give the number of rows."""
        return self.n

    def __getitem__(self, at: Any) -> Array:
        """Give some rows."""
        return np.full(len(range(*at.indices(self.n))) if isinstance(at, slice) else np.shape(at), self.value)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        """Give all rows."""
        return np.full(self.n, self.value, dtype=dtype)

    def part(self, first: int, last: int) -> Same:
        """Give the same of some rows."""
        return Same(self.value, last - first)


@dataclass(frozen=True)
class Standard:
    """A standardised column: computed where it is looked at.

    Parameters
    ----------
    raw : Column, shape (n,)
        On disk.
    shift, scale : float
        ``(raw - shift) / scale`` is the column.
    """

    raw: Any
    shift: float
    scale: float

    def __len__(self) -> int:
        """Give the number of rows."""
        return len(self.raw)

    def __getitem__(self, at: Any) -> Array:
        """Compute some rows."""
        found: Array = (np.asarray(self.raw[at], dtype=float) - self.shift) / self.scale
        return found

    def forget(self) -> None:
        """Take the pages out of this process."""
        self.raw.forget()

    def part(self, first: int, last: int) -> Standard:
        """Give the same of some rows, still on disk."""
        return replace(self, raw=self.raw.part(first, last))


def standard(raw: Any, shift: float, scale: float, held: bool) -> Any:
    """Standardise a column: ``held`` in memory (n,), or where it is looked at, one on disk or a constant one."""
    if not held and hasattr(raw, "part"):
        return Standard(raw, shift, scale)
    if not held and raw.strides == (0,):
        return Same((float(raw[0]) - shift) / scale, len(raw))
    return np.ascontiguousarray((raw - shift) / scale)


def in_blocks(columns: Sequence[Any], rows: int = ROWS) -> Iterator[tuple[slice, Array]]:
    """Yield places of rows and the columns there, (p, m), one block after the other."""
    n = len(columns[0]) if len(columns) else 0
    for first in range(0, n, rows):
        at = slice(first, min(first + rows, n))
        yield at, np.array([column[at] for column in columns])
        for column in columns:
            getattr(column, "forget", bool)()
