"""SPSS: .sav and .zsav."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pmwmix.readers.foreign import contents_of, pyreadstat, read_rows
from pmwmix.readers.source import Contents, Format, Tick


def _contents(path: Path) -> Contents:
    return contents_of(path, pyreadstat(path).read_sav)


def _read(path: Path, names: list[str], rows: np.ndarray | None, tick: Tick | None) -> pd.DataFrame:
    return read_rows(path, pyreadstat(path).read_sav, names, rows, tick)


SAV = Format(_contents, _read)
