"""SAS: .sas7bdat. Value labels are kept by SAS in another file (.sas7bcat), which is not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pmwmix.readers.foreign import contents_of, pyreadstat, read_rows
from pmwmix.readers.source import Contents, Format, Tick


def _contents(path: Path) -> Contents:
    return contents_of(path, pyreadstat(path).read_sas7bdat)


def _read(path: Path, names: list[str], rows: np.ndarray | None, tick: Tick | None) -> pd.DataFrame:
    return read_rows(path, pyreadstat(path).read_sas7bdat, names, rows, tick)


SAS = Format(_contents, _read)
