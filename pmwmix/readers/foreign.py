"""What the formats of SPSS, SAS and Stata share: they are read by pyreadstat, an optional package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import MissingPackageError
from pmwmix.readers.source import Contents, Tick, opened, row_pieces, unreadable

Reader = Callable[..., tuple[pd.DataFrame, Any]]


def pyreadstat(path: Path) -> Any:
    """Import pyreadstat.

    Raises
    ------
    MissingPackageError
    """
    try:
        import pyreadstat as package
    except ImportError as error:
        raise MissingPackageError(
            f"Files of SPSS, SAS and Stata need the package pyreadstat, which is not installed. {path.name!r} is one. "
            f'Install it with: pip install "pmwmix[readers]"'
        ) from error
    return package


def contents_of(path: Path, read: Reader) -> Contents:
    """Read names, labels and declared missing values, and no data.

    Raises
    ------
    FileError
    """
    meta = _call(path, read, None, metadataonly=True, user_missing=True)[1]
    strings = {name for name, kind in (meta.readstat_variable_types or {}).items() if kind.startswith("string")}
    ranges = {name: [(one["lo"], one["hi"]) for one in given] for name, given in (meta.missing_ranges or {}).items()}
    return Contents(
        path=path,
        names=list(meta.column_names),
        n_rows=meta.number_rows,
        labels={name: label for name, label in meta.column_names_to_labels.items() if label},
        values={name: dict(labels) for name, labels in meta.variable_value_labels.items() if labels},
        declared=ranges,
        numeric=frozenset(meta.column_names) - strings,
        blanks=True,
    )


def read_rows(path: Path, read: Reader, names: list[str], rows: Array | None, tick: Tick | None) -> pd.DataFrame:
    """Read columns; of many rows that are not wanted only the walk past them is paid.

    Raises
    ------
    FileError
    """
    parts = []
    for first, count, inside in row_pieces(rows):
        frame = _call(path, read, tick, usecols=names, user_missing=True, row_offset=first, row_limit=count)[0]
        parts.append(frame if inside is None else frame[inside])
    if not parts:
        return _call(path, read, None, usecols=names, user_missing=True, row_limit=1)[0].iloc[:0]
    out = parts[0] if len(parts) == 1 else pd.concat(parts)
    return out[names].reset_index(drop=True)


def _call(path: Path, read: Reader, tick: Tick | None, **options: Any) -> tuple[pd.DataFrame, Any]:
    package = pyreadstat(path)
    errors = (package.ReadstatError, package.PyreadstatError, OSError, ValueError, UnicodeError, OverflowError)
    try:
        if options.get("metadataonly"):
            return read(str(path), **options)
        with opened(path, tick) as file:
            return read(file, **options)
    except errors as error:
        raise unreadable(path, error) from error
