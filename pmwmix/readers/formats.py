"""Which reader serves which ending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import FileError, some
from pmwmix.interrupt import interruptible
from pmwmix.readers.columnar import COLUMNAR
from pmwmix.readers.fixedwidth import FIXED
from pmwmix.readers.rdata import R_DATA
from pmwmix.readers.sas import SAS, TRANSPORT
from pmwmix.readers.sav import SAV
from pmwmix.readers.source import Contents, Format, Tick
from pmwmix.readers.stata import STATA
from pmwmix.readers.text import TEXT

FORMATS = {
    ".csv": TEXT, ".csv.gz": TEXT, ".parquet": COLUMNAR, ".pq": COLUMNAR,
    ".sav": SAV, ".zsav": SAV, ".dta": STATA, ".sas7bdat": SAS, ".xpt": TRANSPORT,
    ".rds": R_DATA, ".rdata": R_DATA, ".rda": R_DATA, ".txt": FIXED, ".dat": FIXED,
}  # fmt: skip


def ending(path: Path) -> str | None:
    """Give the known ending of a file name, or None."""
    return next((end for end in FORMATS if path.name.lower().endswith(end)), None)


def format_of(path: Path) -> Format:
    """Give the reader of a file.

    Raises
    ------
    FileError
        If the ending is unknown or the file does not exist.
    """
    end = ending(path)
    if end is None:
        raise FileError(
            f"Files of this kind cannot be read. Got {path.name!r}. Use one of {', '.join(FORMATS)}, or read the file "
            f"yourself and pass the table."
        )
    try:
        there = path.exists()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise FileError(f"There is no such file. Looked for {str(path)!r}. Check the path.")
    return FORMATS[end]


def read_rows(path: Path, names: Sequence[str], rows: Array | None, tick: Tick | None) -> pd.DataFrame:
    """Read chosen columns of chosen rows, as `Format.read` does; an interruption does not wait for it.

    Raises
    ------
    FileError
    """
    return interruptible(format_of(path).read, path, list(names), rows, tick)


def contents(path: Path) -> Contents:
    """Read what a file holds, without its data.

    Raises
    ------
    FileError
        Also if it holds no column, or one name twice.
    """
    found: Contents = interruptible(format_of(path).contents, path)
    if not found.names:
        raise FileError(f"The file has no columns. {path.name!r} is empty. Check the path.")
    if len(set(found.names)) < len(found.names):
        twice = [name for name, n in Counter(found.names).items() if n > 1]
        places = [str(k) for k, name in enumerate(found.names, 1) if name == twice[0]]
        raise FileError(
            f"Column names must differ. {path.name!r} repeats {some(twice)}: columns {', '.join(places)} are all "
            f"called {twice[0]!r}. Rename or drop the copies."
        )
    return found
