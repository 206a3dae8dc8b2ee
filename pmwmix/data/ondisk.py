"""Columns that stand in files of a temporary folder and are mapped into memory where they are looked at."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import FileError

GIB = 2**30
BLOCK = 2**18  # rows that are looked at together
SPARE = 0.02  # of the space on the disk that is left alone
HOME = "TMPDIR"  # environment variable: where folders are made


class Column(np.memmap):
    """A column in a file, or some rows of it. It travels to other processes as a name and a place."""

    place: tuple[str, str, int, int, int] | None = None  # file, kind, rows of the file, first row, row after the last

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__() if self.place is None else (opened, self.place)

    def part(self, first: int, last: int) -> Column:
        """Give some rows."""
        assert self.place is not None
        out: Any = self[first:last]
        out.place = (*self.place[:3], self.place[3] + first, self.place[3] + last)
        found: Column = out
        return found

    def sum(self, *of: Any, **options: Any) -> Any:
        """Add up, block by block."""
        if of or options or self.ndim != 1:
            return np.asarray(self).sum(*of, **options)
        return float(sum(block.sum() for block in self._blocks()))

    def mean(self, *of: Any, **options: Any) -> Any:
        """Average, block by block."""
        return np.asarray(self).mean(*of, **options) if of or options or self.ndim != 1 else self.sum() / len(self)

    def std(self, *of: Any, **options: Any) -> Any:
        """Take the standard deviation, block by block."""
        if of or options or self.ndim != 1:
            return np.asarray(self).std(*of, **options)
        mean = self.mean()
        return float(np.sqrt(sum(((block - mean) ** 2).sum() for block in self._blocks()) / len(self)))

    def _blocks(self) -> Iterator[Array]:
        plain = np.asarray(self)
        for first in range(0, len(plain), BLOCK):
            yield plain[first : first + BLOCK]
            self.forget()

    def forget(self) -> None:
        """Take the pages out of this process; what was written stays in the file."""
        pages: Any = getattr(self, "_mmap", None)
        if pages is not None and hasattr(pages, "madvise"):
            pages.madvise(mmap.MADV_DONTNEED)


def opened(path: str, kind: str, n: int, first: int, last: int) -> Array:
    """Map some rows of a column.

    Raises
    ------
    FileError
        If it is gone, as when a worker does not see the folder of the process that wrote it.
    """
    try:
        whole = Column(path, dtype=np.dtype(kind), mode="r", shape=(n,))
    except (OSError, ValueError) as error:
        raise FileError(
            f"A column of the rows on disk cannot be read. {path}: {' '.join(str(error).split())[:200]}. All "
            f"processes need the same folder: set {HOME} to one that every machine sees, and leave it alone while the "
            f"fit is used."
        ) from error
    whole.place = (path, kind, n, 0, n)
    return whole.part(first, last)


class Store:
    """Columns of n rows in a folder of their own, which goes when the last that uses it goes.

    Parameters
    ----------
    n : int
    columns : int
        Number of columns that will be written, 8 bytes a row.

    Raises
    ------
    FileError
        If the disk has no room, before anything is written.
    """

    def __init__(self, n: int, columns: int) -> None:
        home = tempfile.gettempdir()
        self.n, needed = n, 8.0 * n * columns
        try:
            free = shutil.disk_usage(home).free
            if needed > (1.0 - SPARE) * free:
                size = f"{columns} columns of {n} rows take {needed / GIB:.3g} GiB, {free / GIB:.3g} are left"
                raise _no_room(home, size)
            self.folder = Path(tempfile.mkdtemp(prefix="pmwmix-", dir=home))
        except OSError as error:
            raise _no_room(home, f"{type(error).__name__}: {error.strerror}") from error
        self._away = weakref.finalize(self, shutil.rmtree, str(self.folder), True)
        self._number = 0

    def column(self, kind: str = "<f8") -> Column:
        """Make a column (n,) that can be written to; its bytes are taken from the disk at once."""
        path = self.folder / f"{self._number:04}.column"
        self._number += 1
        size = max(self.n * np.dtype(kind).itemsize, 1)
        try:
            with path.open("wb") as file:
                _take(file, size)
            out = Column(path, dtype=np.dtype(kind), mode="r+", shape=(self.n,))
        except OSError as error:
            self.remove()
            raise _no_room(str(self.folder), f"{type(error).__name__}: {error.strerror}") from error
        out.place = (str(path), kind, self.n, 0, self.n)
        return out

    def put(self, values: Array) -> Column:
        """Write a column as a whole, and give it back as one on disk."""
        out = self.column("<i8" if values.dtype.kind == "i" else "<f8")
        out[:] = values
        out.forget()
        return out

    def remove(self) -> None:
        """Delete the folder now."""
        self._away()


def _take(file: Any, size: int) -> None:
    """Take bytes from the disk, so that writing to the mapped file cannot fail."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    block = bytes(2**20)
    for first in range(0, size, len(block)):
        file.write(block[: min(len(block), size - first)])


def _no_room(where: str, what: str) -> FileError:
    return FileError(
        f"The rows cannot be sorted on disk. In {where}: {what}. Nothing was left there; free the disk, or set {HOME} "
        f"to a folder on a larger one."
    )
