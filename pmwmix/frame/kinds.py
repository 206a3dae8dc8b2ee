"""What columns hold that are read piece by piece: numbers, or which categories in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.data.pieces import Piece
from pmwmix.errors import DataError


@dataclass
class Kinds:
    """What columns hold: numbers, or which categories in which order."""

    categories: dict[str, list[Any]] = field(default_factory=dict)
    declared: dict[str, list[Any]] = field(default_factory=dict)
    ordered: dict[str, bool] = field(default_factory=dict)
    numbers: set[str] = field(default_factory=set)
    values: dict[str, set[float]] = field(default_factory=dict)
    sorted_only: set[str] = field(default_factory=set)
    keys: frozenset[str] = frozenset()

    def meet(self, piece: Piece, names: Sequence[str]) -> None:
        """Note the kinds of the columns of a piece, and refuse those that are of another kind than before."""
        for name in names:
            column = piece.columns[name]
            if isinstance(column.dtype, pd.CategoricalDtype):
                if column.notna().any():
                    self.categories.setdefault(name, [])
            elif not np.isnan(column.to_numpy()).all():
                self.numbers.add(name)
            self._check(name)
            if name in piece.declared:
                self._declare(name, piece.declared[name])

    def _check(self, name: str) -> None:
        if name in self.numbers and name in self.categories:
            raise DataError(
                f"A column is of one kind in all pieces. {name!r} holds numbers in some and text, or ids too long "
                f"for numbers, in others. Write it as one kind."
            )

    def join(self, other: Kinds) -> None:
        """Note what was met in other pieces, which come behind these."""
        self.numbers |= other.numbers
        self.sorted_only |= other.sorted_only
        for name, found in other.categories.items():
            own = self.categories.setdefault(name, [])
            own += [one for one in found if one not in set(own)]
        for name in (*self.categories, *self.numbers):
            self._check(name)
        for name, order in other.declared.items():
            self._declare(name, pd.CategoricalDtype(order, ordered=other.ordered[name]))
        for name, values in other.values.items():
            self.values[name] = self.values.get(name, set()) | values

    def _declare(self, name: str, dtype: pd.CategoricalDtype) -> None:
        new, old = list(dtype.categories), self.declared.get(name)
        if old is None or (len(new) > len(old) and new[: len(old)] == old):
            self.declared[name], self.ordered[name] = new, bool(dtype.ordered)
        elif old[: len(new)] != new:
            self.sorted_only.add(name)

    def uniform(self, column: pd.Series, name: str) -> pd.Series:
        """Give a column of a piece the kind that it has in all: missing values alone have none."""
        if name in self.categories:
            if not isinstance(column.dtype, pd.CategoricalDtype):
                return pd.Series(pd.Categorical([None] * len(column)), name=name)
        elif isinstance(column.dtype, pd.CategoricalDtype):
            return pd.Series(np.full(len(column), np.nan), name=name)
        return column

    def settle(self) -> dict[str, pd.CategoricalDtype]:
        """Order the categories that occurred: as declared, or sorted."""
        out = {}
        for name, found in self.categories.items():
            if name in self.keys:
                continue
            order = self.declared.get(name) if name not in self.sorted_only else None
            known = set(found)
            kept = [one for one in order if one in known] if order is not None else sorted(found, key=_sortable)
            out[name] = pd.CategoricalDtype(kept, ordered=self.ordered.get(name, False) and order is not None)
        return out


def _sortable(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value
