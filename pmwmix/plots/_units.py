"""The groups that a plot shows: of a factor of the model, or of any column of its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.data.codes import code
from pmwmix.errors import OptionError, near
from pmwmix.inference.samples import table_of
from pmwmix.plots._base import group_name
from pmwmix.prediction.rows import LiveRows


@dataclass(frozen=True)
class Units:
    """Groups of the rows of a fit.

    Parameters
    ----------
    name : str
    index : ndarray of int, shape (n,)
        Group of every row, -1 where it is missing.
    labels : list
    level : int or None
        Place among the levels of the model; None for a column of the table.
    """

    name: str
    index: Array
    labels: list[Any]
    level: int | None = None

    @property
    def n(self) -> int:
        """Number of groups."""
        return len(self.labels)

    def count(self, values: Array | None = None) -> Array:
        """Rows of every group, or the sum of their values (n,)."""
        there = self.index >= 0
        return np.bincount(self.index[there], None if values is None else values[there], minlength=self.n)


def units_of(rows: LiveRows, one: Any, group: str | None, plot: str) -> Units:
    """Give the groups of a factor of the model, the lowest if None, or of a column of its table.

    Raises
    ------
    OptionError, NotSupportedError
    """
    levels = rows.frame.hierarchy.levels
    names = [level.name for level in levels]
    source = rows.frame.source
    columns = [] if source is None or source.table is None else source.table.names
    asked = str(group)
    if group is None or asked not in columns or asked in names:
        if not names and columns:
            raise OptionError(
                f"{plot}() shows groups. The model has no random term, and group={group!r}.{near(asked, columns)} "
                f"Pass group=, a column of its table."
            )
        level = names.index(group_name(names, group, plot))
        return Units(names[level], levels[level].index, levels[level].labels, level)
    column = table_of(one, f"{plot}()").columns([asked])[asked]
    kept = column if rows.frame.kept is None else column.take(rows.frame.kept)
    there = kept.notna().to_numpy()
    codes, labels = code([kept[there].reset_index(drop=True)])
    index = np.full(len(kept), -1)
    index[there] = codes
    return Units(asked, index, labels)
