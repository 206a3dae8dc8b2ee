"""SAS: .sas7bdat with the catalogue (.sas7bcat) that holds its value labels, and .xpt."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import PmwmixWarning, some
from pmwmix.readers.foreign import Reader, contents_of, pyreadstat, read_rows
from pmwmix.readers.source import Contents, Format, Tick

CATALOGUE = ".sas7bcat"
USUAL = "formats"  # what SAS calls the catalogue of a library


def _contents(path: Path) -> Contents:
    """Names and labels of the data, with the values of the formats that stand in a catalogue beside it."""
    formats: dict[str, str] = {}

    def read(file: Any, **options: Any) -> tuple[pd.DataFrame, Any]:
        frame, meta = pyreadstat(path).read_sas7bdat(file, **options)
        formats.update({name: used for name, used in (meta.variable_to_label or {}).items() if used})
        return frame, meta

    contents = contents_of(path, read)
    known = {name.upper(): dict(labels) for name, labels in _catalogue(path, bool(formats)).items()}
    return replace(contents, values={name: known[f.upper()] for name, f in formats.items() if known.get(f.upper())})


def _catalogue(path: Path, needed: bool) -> dict[str, dict[Any, str]]:
    """Value labels by format: of the catalogue named as the data, of SAS's own name, or the only one in the folder.

    Warns
    -----
    PmwmixWarning
        If there are several of other names, or the catalogue cannot be read.
    """
    found = {one.stem.lower(): one for one in sorted(path.parent.iterdir()) if one.name.lower().endswith(CATALOGUE)}
    if not (needed and found):
        return {}
    one = found.get(path.stem.lower()) or found.get(USUAL) or (next(iter(found.values())) if len(found) == 1 else None)
    if one is None:
        _warn(
            f"It is not clear which catalogue holds the value labels of {path.name!r}. The folder has "
            f"{some([file.name for file in found.values()])}. Give one of them the name of the data, or "
            f"{USUAL + CATALOGUE!r}; until then there are none."
        )
        return {}
    package = pyreadstat(path)
    try:
        return dict(package.read_sas7bcat(str(one))[1].value_labels)
    except (package.ReadstatError, package.PyreadstatError, OSError, ValueError, UnicodeError) as error:
        _warn(
            f"The catalogue of value labels cannot be read. {one.name!r}: {str(error).rstrip('.')}. Codes have no "
            f"labels; save the data with them as .sav or .dta, or read the study's text with its syntax."
        )
    return {}


def _warn(text: str) -> None:
    warnings.warn(text, PmwmixWarning, stacklevel=2)


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
