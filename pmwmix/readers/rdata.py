"""R: .rds, .RData and .rda of plain data frames, read by pyreadr; factors become categories."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import FileError, MissingPackageError, some
from pmwmix.readers.source import Contents, Format, Tick, unreadable


def _frame(path: Path) -> pd.DataFrame:
    try:
        state = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return _loaded(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)  # names, then columns: R's files can only be read whole
def _loaded(path: Path, changed: int, size: int) -> pd.DataFrame:
    try:
        import pyreadr
    except ImportError as error:
        raise MissingPackageError(
            f"Files of R need the package pyreadr, which is not installed. {path.name!r} is one. "
            f'Install it with: pip install "pmwmix[readers]"'
        ) from error
    try:
        found: dict[Any, Any] = dict(pyreadr.read_r(str(path)))
    except (pyreadr.custom_errors.PyreadrError, pyreadr.custom_errors.LibrdataError, OSError, ValueError) as error:
        raise unreadable(path, error) from error
    frames = {name: one for name, one in found.items() if isinstance(one, pd.DataFrame)}
    if len(frames) != 1:
        what = f"{len(frames)}: {some(sorted(map(str, frames)))}" if frames else "none"
        raise FileError(
            f"A file of R must hold one data frame. {path.name!r} has {what}. Write one in R: saveRDS(d, 'd.rds')."
        )
    return next(iter(frames.values()))


def _contents(path: Path) -> Contents:
    frame = _frame(path)
    return Contents(path=path, names=[str(name) for name in frame.columns], n_rows=len(frame))


def _read(path: Path, names: list[str], rows: np.ndarray | None, tick: Tick | None) -> pd.DataFrame:
    frame = _frame(path)[names]
    if tick is not None:
        tick(path.stat().st_size)
    return (frame if rows is None else frame[rows]).reset_index(drop=True)


R_DATA = Format(_contents, _read)
