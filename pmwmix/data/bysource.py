"""Groups of data that are read piece by piece: the engine that reads them picks the rows of a group."""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.bygroup import TablePart
from pmwmix.data.pieces import SQL, Stream, installed, opened
from pmwmix.errors import NotSupportedError


def picked(data: Any, by: str, value: Any) -> Any:
    """Give the rows of a source in which a column has a value; what reads the source picks them.

    Parameters
    ----------
    data : object
        A source that is read in pieces.
    by : str
    value : str or number

    Returns
    -------
    object
        A source of the same kind; of a path or SQL the data set or relation behind it.
    """
    module = type(data).__module__.partition(".")[0]
    if isinstance(data, str) and SQL.match(data):
        data, module = installed("duckdb", "SQL").sql(data), "_duckdb"
    if module in ("duckdb", "_duckdb"):
        text = repr(value) if not isinstance(value, str) else "'" + value.replace("'", "''") + "'"
        return data.filter('"' + by.replace('"', '""') + f'" = {text}')
    if module == "polars":
        return data.filter(installed("polars", "A LazyFrame").col(by) == value)
    if module in ("dask", "dask_expr"):
        return data[data[by] == value]
    import pyarrow.dataset as ds

    wanted = ds.field(by) == value
    if not isinstance(data, str | Path):
        return data.filter(wanted)
    whole = opened(Path(data))  # of its files only those that may have such rows
    files = list(whole.get_fragments(filter=wanted))
    return ds.FileSystemDataset(files, whole.schema, whole.format, whole.filesystem).filter(wanted)


@dataclass
class GroupedSource:
    """A source and the column of its groups.

    Parameters
    ----------
    data : object
        As it was given to `fit_groups`.
    by : str
    names : list of str
        All columns.
    budget : float
    used : dict
        Columns that fits have asked for, in order; for a source that cannot travel to other processes.
    """

    data: Any
    by: str
    names: list[str]
    budget: float
    used: dict[str, None] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    @property
    def travels(self) -> bool:
        """Whether another process can read it by itself."""
        module = type(self.data).__module__.partition(".")[0]
        if module == "pyarrow":  # unless it is filtered
            try:
                pickle.dumps(self.data)
            except (ValueError, TypeError, pickle.PicklingError):
                return False
        return isinstance(self.data, str | Path) or module in ("pyarrow", "polars")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "lock": None}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update({**values, "lock": threading.Lock()})


class SourcePart(TablePart):
    """The rows of one group of a source; read where they are asked for, and only the columns that are.

    Parameters
    ----------
    source : GroupedSource
    value : object
        Of the group.
    n : int
        Number of its rows.
    """

    def __init__(self, source: GroupedSource, value: Any, n: int) -> None:
        plain = SimpleNamespace(table=SimpleNamespace(names=source.names, labels={}, values={}))
        for name, one in {"sorted": plain, "first": 0, "last": n, "source": source, "value": value}.items():
            object.__setattr__(self, name, one)

    source: GroupedSource
    value: Any

    @property
    def rows(self) -> Array:
        """Rows of the group; those of the source are not numbered."""
        return np.arange(len(self))

    @property
    def index(self) -> pd.Index:
        """Labels of the rows."""
        return pd.RangeIndex(len(self))

    def picked(self) -> Any:
        """Give the source of this group alone, to be streamed."""
        return picked(self.source.data, self.source.by, self.value)

    def fetch(self, names: Sequence[str]) -> pd.DataFrame:
        """Read columns of the group.

        Raises
        ------
        FileError, DataError
        """
        with self.source.lock:
            self.source.used.update(dict.fromkeys(names))
            pieces = list(Stream.of(self.picked(), self.source.budget).pieces(names))
        out = {}
        for name in names:
            column = pd.concat([piece.columns[name] for piece in pieces], ignore_index=True)
            first = pieces[0].declared.get(name)
            alike = first is not None and all(piece.declared.get(name) == first for piece in pieces)
            out[name] = column.astype(first) if first is not None and alike else column
        return pd.DataFrame(out, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source.travels:
            return SourcePart, (self.source, self.value, len(self))
        return _as_it_is, (self.fetch(list(self.source.used)),)


def _as_it_is(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


def source_parts(data: Any, stream: Stream, by: str) -> tuple[list[Any], list[SourcePart], int]:
    """Find the groups of a source in one pass over their column.

    Parameters
    ----------
    data : object
        As it was given to `fit_groups`.
    stream : Stream
        Of it.
    by : str

    Returns
    -------
    list
        Groups, sorted. Whole numbers are ints.
    list of SourcePart
    int
        Rows without a group.
    """
    found, n = Counter[Any](), 0
    for piece in stream.pieces([by], "groups"):
        column = piece.columns[by]
        n += len(piece)
        found.update(column.astype(object).value_counts().to_dict())
    values = {int(v) if isinstance(v, float) and v.is_integer() else v: count for v, count in found.items() if count}
    source = GroupedSource(data, by, stream.names, stream.budget)
    labels = sorted(values, key=lambda v: (isinstance(v, str), v))
    return labels, [SourcePart(source, v, values[v]) for v in labels], n - sum(values.values())


def refuse_rows(subset: Any) -> None:
    """Refuse a subset by the numbers of rows, which a source does not have.

    Raises
    ------
    NotSupportedError
    """
    if subset is not None and not isinstance(subset, str):
        raise NotSupportedError(
            "A subset of data that are read in pieces is a column. Got an array. Name a column of true and false, or "
            "filter the source."
        )
