"""From any table or file to plain columns: numbers as float arrays, everything else as categories."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from pmwmix.data.bygroup import TablePart
from pmwmix.errors import DataError, missing_columns, some
from pmwmix.readers.files import read_columns
from pmwmix.readers.formats import contents
from pmwmix.readers.report import report_of, value_labels

EXACT = 2**53  # largest whole number up to which float64 holds every one


class Table:
    """Columns by name, read only when asked for; the caller's data are never modified.

    Parameters
    ----------
    data : pandas, polars or pyarrow table, or path
        Paths end in .csv, .csv.gz, .parquet, .sav, .zsav, .dta, .sas7bdat, .xpt, .rds, .txt or .dat.
    preset : Preset, optional
        Survey whose labels of missing answers are known, for paths.

    Raises
    ------
    DataError
        If the data are of no known kind, have no rows, or repeat a column name.
    """

    def __init__(self, data: Any, preset: Any = None) -> None:
        self._path = Path(data) if isinstance(data, str | Path) else None
        self._preset = preset
        self._frame: Any = None if self._path is not None else _native(data)
        self.n_rows = 0
        self.declared: dict[str, pd.CategoricalDtype] = {}  # categories of the columns read so far, used or not
        names = contents(self._path).names if self._path is not None else getattr(self._frame, "columns", ())
        self.names = _unique(names)

    @property
    def is_part(self) -> bool:
        """Whether it holds the rows of one group of a sorted table."""
        return isinstance(self._frame, TablePart)

    @property
    def index(self) -> pd.Index:
        """Row labels: the caller's own for pandas, else 0, 1, ..., n - 1."""
        if isinstance(self._frame, pd.DataFrame | TablePart):
            return self._frame.index
        return pd.RangeIndex(self.n_rows)

    @property
    def labels(self) -> dict[str, str]:
        """Variable labels: those of the file, or of the report that `read_survey` left in the table."""
        if self._path is not None:
            return dict(contents(self._path).labels)
        whole = self._frame.sorted.table if isinstance(self._frame, TablePart) else None
        return whole.labels if whole is not None else dict(report_of(self._frame).get("labels", {}))

    @property
    def values(self) -> Mapping[str, Mapping[Any, str]]:
        """Value labels by column, code to text, from where `labels` come."""
        if self._path is not None:
            return contents(self._path).values
        whole = self._frame.sorted.table if isinstance(self._frame, TablePart) else None
        if whole is not None:
            return whole.values
        return {name: value_labels(pairs) for name, pairs in report_of(self._frame).get("values", {}).items()}

    def columns(self, needed: Sequence[str], role: str = "") -> dict[str, pd.Series]:
        """Read the needed columns, all missing ones in one error; index 0, 1, ..., n - 1."""
        missing = [name for name in dict.fromkeys(needed) if name not in self.names]
        if missing:
            raise missing_columns(missing, self.names, role)
        wanted = list(dict.fromkeys(needed))
        frame = self._whole(wanted)
        self.n_rows = len(frame)
        if self.n_rows == 0:
            raise DataError("The table has no rows. Every column is empty. Check the file or the filter.")
        own = {str(name): name for name in frame.columns}
        out = {}
        for name in wanted:
            series = _series(frame, own[name])
            if isinstance(series.dtype, pd.CategoricalDtype):
                self.declared[name] = series.dtype
            out[name] = plain(series, name)
        return out

    def _whole(self, wanted: Sequence[str]) -> Any:
        if self._path is not None:
            return read_columns(self._path, wanted, self._preset)
        return self._frame.fetch(wanted) if isinstance(self._frame, TablePart) else self._frame


class WiderTable(Table):
    """A table with columns added to it; the caller's data stay as they are.

    Parameters
    ----------
    table : Table
    extra : dict of Series
        Plain columns, as `table.plain` makes them.
    """

    def __init__(self, table: Table, extra: Mapping[str, pd.Series]) -> None:
        self.__dict__.update(table.__dict__)
        self._extra = {**getattr(table, "_extra", {}), **extra}
        self.names = [*table.names, *(name for name in extra if name not in table.names)]

    def columns(self, needed: Sequence[str], role: str = "") -> dict[str, pd.Series]:
        """Read columns as `Table.columns` does, the added ones among them."""
        own = [name for name in needed if name not in self._extra]
        read = super().columns(own, role) if own else {}
        if not own:
            self.n_rows = len(next(iter(self._extra.values())))
        return {name: self._extra[name] if name in self._extra else read[name] for name in dict.fromkeys(needed)}


def _native(data: Any) -> Any:
    if isinstance(data, pd.DataFrame | TablePart):
        _unique(data.columns)
        return data
    try:
        frame = nw.from_native(data, allow_series=False)
        if isinstance(frame, nw.LazyFrame):
            frame = frame.collect()
        _unique(frame.columns)
    except nw.exceptions.DuplicateError:
        _unique(getattr(data, "column_names", ()))
        raise
    except TypeError as error:
        raise DataError(
            f"This kind of data cannot be read. Got {type(data).__module__}.{type(data).__qualname__}. "
            f"Pass a pandas, polars or pyarrow table, or a path to .csv, .parquet, .sav, .dta, .sas7bdat, .xpt, .rds."
        ) from error
    return frame


def _unique(columns: Iterable[object]) -> list[str]:
    """Column names as text, refused if one stands twice."""
    names = [str(name) for name in columns]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"Column names must differ. Repeated: {some(twice)}. Rename or drop the copies.")
    return names


def _series(frame: Any, name: Any) -> pd.Series:
    series = frame[name]
    if isinstance(series, pd.Series):
        return series
    native = series.to_native()
    if isinstance(native, pd.Series):
        return native
    if series.dtype.is_integer() and not series.is_empty() and _is_huge(series.min(), series.max()):
        return pd.Series(series.to_list(), dtype=object)
    if series.dtype.is_numeric() or series.dtype == nw.Boolean:
        return pd.Series(series.cast(nw.Float64).to_numpy(), name=name, copy=False)
    return native.to_pandas()  # narwhals' own turns missing cells of a pyarrow dictionary into a category


def _is_huge(low: Any, high: Any) -> bool:
    return high is not None and not pd.isna(high) and (int(high) > EXACT or int(low) < -EXACT)


def plain(series: pd.Series, name: str) -> pd.Series:
    """Turn a column into float64 (NaN is missing) or a categorical without unused categories.

    Whole numbers too long for float64 become categories, so that two ids never melt into one.

    Raises
    ------
    DataError
        For dates, lists and other kinds that a model cannot use.
    """
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Series(series.array.remove_unused_categories(), name=name)
    if pd.api.types.is_complex_dtype(dtype):
        raise _complex(name)
    if pd.api.types.is_integer_dtype(dtype) and len(series) and _is_huge(series.min(), series.max()):
        return pd.Series(pd.Categorical(series.astype(object)), name=name)
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_numeric_dtype(dtype):
        return pd.Series(series.to_numpy(dtype=float, na_value=np.nan), name=name, copy=False)
    dates = (pd.api.types.is_datetime64_any_dtype, pd.api.types.is_timedelta64_dtype)
    if isinstance(dtype, pd.PeriodDtype) or any(is_date(dtype) for is_date in dates):
        raise _date(name, dtype)
    return _from_objects(series, name)


def _complex(name: str) -> DataError:
    return DataError(f"Complex numbers cannot be modelled. Column {name!r} has them. Use real numbers.")


def _date(name: str, kind: object) -> DataError:
    return DataError(
        f"Dates cannot be modelled as they are. Column {name!r} is {kind}. Turn it into a number or a category."
    )


def _from_objects(series: pd.Series, name: str) -> pd.Series:
    values = series.astype(object).array.to_numpy(dtype=object, na_value=None)
    kinds = {type(value) for value in values} - {type(None)}
    if any(issubclass(kind, list | dict | set | tuple | np.ndarray) for kind in kinds):
        raise DataError(f"Cells must hold one value. Column {name!r} holds lists or the like. Unpack it first.")
    if any(issubclass(kind, datetime.date | datetime.time | datetime.timedelta) for kind in kinds):
        raise _date(name, f"made of {some(sorted(kind.__name__ for kind in kinds))}")
    if any(issubclass(kind, complex | np.complexfloating) for kind in kinds):
        raise _complex(name)
    if all(issubclass(kind, str) for kind in kinds):
        return pd.Series(pd.Categorical(values), name=name)
    if not any(issubclass(kind, str | bytes) for kind in kinds):
        try:
            numbers = np.array([np.nan if value is None else float(value) for value in values])
        except (TypeError, ValueError, OverflowError):
            numbers = None
        if numbers is not None and np.nanmax(np.abs(numbers), initial=0.0) <= EXACT:
            return pd.Series(numbers, name=name)
        if numbers is not None and all(issubclass(kind, int | np.integer) for kind in kinds):
            return pd.Series(pd.Categorical(values), name=name)
        if numbers is not None:
            return pd.Series(numbers, name=name)
    found = {kind: next(value for value in values if type(value) is kind) for kind in kinds}
    shown = ", ".join(sorted(f"{kind.__name__} {value!r}" for kind, value in found.items()))
    if len(kinds) == 1:
        raise DataError(
            f"Values of this kind cannot be modelled. Column {name!r} holds {shown}. Make it all numbers or all text."
        )
    raise DataError(f"Column {name!r} mixes kinds of values. Found {shown}. Make it all numbers or all text.")


def is_file(table: Table) -> bool:
    """Whether every reading of columns goes through a file again."""
    return getattr(table, "_path", None) is not None
