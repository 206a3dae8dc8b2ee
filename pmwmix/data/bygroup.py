"""A table cut into groups: columns are sorted by group once, groups are slices of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import DataError
from pmwmix.readers.report import KEY


@dataclass
class SortedColumns:
    """Columns of a table in the order of its groups, each read and sorted once, when first asked for.

    Parameters
    ----------
    table : pmwmix.table.Table
    order : ndarray of int, shape (n,)
        Rows of the table, group by group.
    """

    table: Any
    order: Array
    held: dict[str, pd.Series] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def take(self, names: Sequence[str]) -> list[pd.Series]:
        """Give sorted columns (n,)."""
        with self.lock:
            new = [name for name in dict.fromkeys(names) if name not in self.held]
            for name, column in self.table.columns(new).items() if new else ():
                self.held[name] = column.take(self.order).reset_index(drop=True)
            return [self.held[name] for name in names]


@dataclass(frozen=True)
class TablePart:
    """The rows of one group, as slices of sorted columns; pickles as a table of the columns that were used so far.

    Parameters
    ----------
    sorted : SortedColumns
    first, last : int
        Places in the sorted columns.
    """

    sorted: SortedColumns
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def columns(self) -> list[str]:
        """All columns of the table."""
        return self.sorted.table.names

    @property
    def rows(self) -> Array:
        """Rows of the table, (n_group,)."""
        return self.sorted.order[self.first : self.last]

    @property
    def index(self) -> pd.Index:
        """Labels of the rows in the caller's table."""
        return self.sorted.table.index.take(self.rows)

    def fetch(self, names: Sequence[str]) -> pd.DataFrame:
        """Read columns; nothing is copied."""
        columns = self.sorted.take(names)
        return pd.DataFrame(
            {name: column.iloc[self.first : self.last] for name, column in zip(names, columns, strict=True)}, copy=False
        )

    def __reduce__(self) -> tuple[Any, ...]:
        held = list(self.sorted.held)
        labels = {name: label for name, label in self.sorted.table.labels.items() if name in held}
        values = {name: list(pairs.items()) for name, pairs in self.sorted.table.values.items() if name in held}
        return _whole, (self.fetch(held), self.index, {"labels": labels, "values": values})


def _whole(frame: pd.DataFrame, index: pd.Index, report: dict[str, Any]) -> pd.DataFrame:
    frame.index = index
    frame.attrs = {KEY: report}
    return frame


def sorted_parts(table: Any, by: str) -> tuple[list[Any], list[TablePart]]:
    """Split a table into its groups, whose rows keep their order; rows without a group are left out.

    Parameters
    ----------
    table : pmwmix.table.Table
    by : str
        Column of the groups.

    Returns
    -------
    list
        Groups: in the order of the categories, else sorted. Whole numbers are ints.
    list of TablePart
    """
    column = table.columns([by], "groups")[by]
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, labels = column.cat.codes.to_numpy(), column.cat.categories.tolist()
    else:
        codes, found = pd.factorize(column.to_numpy(), sort=True)
        labels = [int(value) if float(value).is_integer() else value for value in found.tolist()]
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(labels) + 1))
    columns = SortedColumns(table, order)
    return labels, [TablePart(columns, int(a), int(b)) for a, b in pairwise(ends)]


def own_rows(subset: Any, part: TablePart, n: int) -> Any:
    """Give the part of a subset, true or false for every row of the table, that is about a group.

    Raises
    ------
    DataError
    """
    if subset is None or isinstance(subset, str):
        return subset
    values = np.asarray(subset)
    if values.ndim != 1 or len(values) != n:
        raise DataError(
            f"A subset is true or false for every row of the table. It has {values.size} values for {n} rows. "
            f"Pass for example subset=(data['sex'] == 'F')."
        )
    return values[part.rows]
