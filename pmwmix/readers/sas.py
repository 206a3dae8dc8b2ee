"""SAS: .sas7bdat and .xpt. Value labels are kept by SAS in another file (.sas7bcat), which is not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.readers.foreign import Reader, contents_of, pyreadstat, read_rows
from pmwmix.readers.source import Contents, Format, Tick


def _contents(path: Path) -> Contents:
    return contents_of(path, pyreadstat(path).read_sas7bdat)


def _read(path: Path, names: list[str], rows: np.ndarray | None, tick: Tick | None) -> pd.DataFrame:
    return read_rows(path, pyreadstat(path).read_sas7bdat, names, rows, tick)


SAS = Format(_contents, _read)


def _xport(path: Path) -> Reader:
    """Give a reader of transport files, which do not say how many rows they have."""
    read_xport = pyreadstat(path).read_xport

    def read(file: Any, user_missing: bool = False, **options: Any) -> tuple[pd.DataFrame, Any]:
        frame, meta = read_xport(file, **options)  # has no user_missing=
        if meta.number_rows is None:
            meta.number_rows = len(read_xport(str(path), usecols=meta.column_names[:1])[0])
        return frame, meta

    return read


def _transport_contents(path: Path) -> Contents:
    return contents_of(path, _xport(path))


def _read_transport(path: Path, names: list[str], rows: np.ndarray | None, tick: Tick | None) -> pd.DataFrame:
    return read_rows(path, _xport(path), names, rows, tick)


TRANSPORT = Format(_transport_contents, _read_transport)
