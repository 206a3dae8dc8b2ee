"""From any table or file to plain columns: numbers as float arrays, everything else as categories."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from pmwmix.errors import DataError, OptionError, missing_columns, near, some

Array = np.ndarray
READERS = {".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet", ".pq": "parquet"}


class Table:
    """Columns by name, read only when asked for; the caller's data are never modified.

    Parameters
    ----------
    data : pandas, polars or pyarrow table, or path
        Paths end in .csv, .csv.gz or .parquet.

    Raises
    ------
    DataError
        If the data are of no known kind, have no rows, or repeat a column name.
    """

    def __init__(self, data: Any) -> None:
        self._path = Path(data) if isinstance(data, str | Path) else None
        self._frame = None if self._path is not None else _native(data)
        self.n_rows = 0
        self.names = _path_columns(self._path) if self._path is not None else _names(self._frame)

    @property
    def index(self) -> pd.Index:
        """Row labels: the caller's own for pandas, else 0, 1, ..., n - 1."""
        native = None if self._frame is None else self._frame.to_native()
        if isinstance(native, pd.DataFrame):
            return native.index
        return pd.RangeIndex(self.n_rows)

    def columns(self, needed: Sequence[str], role: str = "") -> dict[str, pd.Series]:
        """Read the needed columns, all missing ones in one error; index 0, 1, ..., n - 1."""
        missing = [name for name in dict.fromkeys(needed) if name not in self.names]
        if missing:
            raise missing_columns(missing, self.names, role)
        wanted = list(dict.fromkeys(needed))
        frame = _native(_read(self._path, wanted)) if self._path is not None else self._frame
        self.n_rows = len(frame)
        if self.n_rows == 0:
            raise DataError("The table has no rows. Every column is empty. Check the file or the filter before the fit.")
        return {name: plain(_series(frame, name), name) for name in wanted}


def _native(data: Any) -> Any:
    try:
        frame = nw.from_native(data, allow_series=False)
    except TypeError as error:
        raise DataError(
            f"This kind of data cannot be read. Got {type(data).__module__}.{type(data).__qualname__}. "
            f"Pass a pandas, polars or pyarrow table, or a path to .csv, .csv.gz or .parquet."
        ) from error
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    return frame


def _names(frame: Any) -> list[str]:
    names = [str(name) for name in frame.columns]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"Column names must differ. Repeated: {some(twice)}. Rename or drop the copies.")
    return names


def _kind(path: Path) -> str:
    kind = next((kind for ending, kind in READERS.items() if path.name.lower().endswith(ending)), None)
    if kind is None:
        raise DataError(
            f"Files of this kind cannot be read. Got {path.name!r}. Use one of {', '.join(READERS)}, or read the file "
            f"yourself and pass the table."
        )
    if not path.exists():
        raise DataError(f"There is no such file. Looked for {str(path)!r}. Check the path.")
    return kind


def _path_columns(path: Path) -> list[str]:
    try:
        if _kind(path) == "csv":
            return [str(name) for name in pd.read_csv(path, nrows=0).columns]
        import pyarrow.parquet

        return list(pyarrow.parquet.read_schema(path).names)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"The file cannot be read. {path.name!r} says: {error}. Check that it is what its ending claims."
        ) from error


def _read(path: Path | None, wanted: Sequence[str]) -> pd.DataFrame:
    assert path is not None
    if _kind(path) == "csv":  # only empty fields and NA are missing: a category called "None" stays a category
        return pd.read_csv(path, usecols=list(wanted), keep_default_na=False, na_values=["", "NA"], low_memory=False)
    return pd.read_parquet(path, columns=list(wanted))


def _series(frame: Any, name: str) -> pd.Series:
    series = frame[name]
    native = series.to_native()
    if isinstance(native, pd.Series):
        return native
    if series.dtype.is_numeric() or series.dtype == nw.Boolean:
        return pd.Series(series.cast(nw.Float64).to_numpy(), name=name)
    return series.to_pandas()


def plain(series: pd.Series, name: str) -> pd.Series:
    """Turn a column into float64 (NaN is missing) or a categorical without unused categories.

    Raises
    ------
    DataError
        For dates, lists and other kinds that a model cannot use.
    """
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Series(series.array.remove_unused_categories(), name=name)
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_numeric_dtype(dtype):
        if pd.api.types.is_complex_dtype(dtype):
            raise DataError(f"Complex numbers cannot be modelled. Column {name!r} has them. Use real numbers.")
        return pd.Series(series.to_numpy(dtype=float, na_value=np.nan), name=name, copy=False)
    if pd.api.types.is_datetime64_any_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        raise DataError(
            f"Dates cannot be modelled as they are. Column {name!r} is {dtype}. Turn it into a number or a category."
        )
    return _from_objects(series, name)


def _from_objects(series: pd.Series, name: str) -> pd.Series:
    values = series.to_numpy(dtype=object, na_value=None)
    kinds = {type(value) for value in values[:5000]}
    if kinds & {list, dict, set, tuple, np.ndarray}:
        raise DataError(f"Cells must hold one value. Column {name!r} holds lists or the like. Unpack it first.")
    present = [value for value in values if value is not None]
    if present and not any(isinstance(value, str) for value in present):
        try:
            numbers = np.array([np.nan if value is None else float(value) for value in values])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"Column {name!r} mixes kinds of values. Found {some(sorted({type(v).__name__ for v in present}))}. "
                f"Make it all numbers or all text."
            ) from error
        return pd.Series(numbers, name=name)
    text = [value if value is None or isinstance(value, str) else str(value) for value in values]
    return pd.Series(pd.Categorical(text), name=name)


def expand_pv(pv: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, list[str]]:
    """Find the columns of every plausible-value set.

    Parameters
    ----------
    pv : dict or None
        Set name to a template with one ``{}`` for the number, or to a list of columns.
    names : sequence of str
        Columns of the table.

    Returns
    -------
    dict
        Set name to its columns in order of their number.

    Raises
    ------
    OptionError, MissingColumnsError, DataError
    """
    if pv is None:
        return {}
    if not isinstance(pv, Mapping):
        raise OptionError(f'Plausible values are a dict. Got {type(pv).__name__}. Write pv={{"math": "PV{{}}MATH"}}.')
    out = {}
    for name, spec in pv.items():
        if name in names:
            raise DataError(
                f"A plausible-value set must not be called like a column. {name!r} is both. Rename the set or the column."
            )
        out[str(name)] = _expand_one(str(name), spec, names)
    return out


def _expand_one(name: str, spec: Any, names: Sequence[str]) -> list[str]:
    if isinstance(spec, str):
        if spec.count("{}") != 1:
            raise OptionError(
                f"A template has exactly one {{}} where the number stands. That of {name!r} is {spec!r}. "
                f"Write for example 'PV{{}}MATH', or give a list of columns."
            )
        before, after = spec.split("{}")
        pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
        found = {int(match[1]): column for column in names if (match := pattern.fullmatch(column))}
        if not found:
            raise missing_columns([spec], names, f"plausible values of {name!r}")
        gaps = sorted(set(range(1, max(found) + 1)) - set(found)) if min(found) <= 1 else []
        if gaps:
            raise DataError(
                f"Plausible values of {name!r} have gaps. Missing: {some([spec.format(g) for g in gaps])}. "
                f"Add the columns, or list those to use."
            )
        return [found[number] for number in sorted(found)]
    if not isinstance(spec, Iterable):
        raise OptionError(f"The columns of {name!r} are a template or a list. Got {spec!r}. Write 'PV{{}}MATH'.")
    columns = [str(column) for column in spec]
    missing = [column for column in columns if column not in names]
    if missing:
        raise missing_columns(missing, names, f"plausible values of {name!r}")
    twice = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
    if twice or not columns:
        raise DataError(
            f"Plausible values of {name!r} must be different columns, at least one. "
            f"Given: {some(twice or ['none'])}{' twice' if twice else ''}. List each column once."
        )
    return columns


def suggest(name: str, names: Sequence[str]) -> str:
    """Give the nearest column as a question, or nothing."""
    return near(name, names)
