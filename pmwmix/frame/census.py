"""The first pass over data that are read piece by piece: units, sums of weights, categories, and a sample of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.pieces import GIB, Piece, Stream
from pmwmix.data.shares import shares_of
from pmwmix.data.table import plain
from pmwmix.errors import DataError, MemoryBudgetError
from pmwmix.frame.centring import unused_values
from pmwmix.frame.complete import complete_rows, without_weightless
from pmwmix.frame.kinds import Kinds
from pmwmix.frame.matrices import MAX_CATEGORIES
from pmwmix.running import run_on
from pmwmix.spec.centring import Centring
from pmwmix.spec.formula import ModelFormula

FULL, LEAST = 2_000, 20  # rows of the sample from one of the first pieces, and from late ones
LOOSE = 100_000  # rows of the table of units that are put together at once
NOTHING = -np.finfo(float).max  # stands for a missing number, which equals nothing
BYTES = 64  # that a cell of that table takes while it is put together


@dataclass(frozen=True)
class Wanted:
    """What is counted.

    Parameters
    ----------
    formula : ModelFormula
    model : list of str
        Columns that must be complete.
    weights : dict
        Level, or place, to weight column, as `weight_columns` gives them.
    design : list of str
        Columns of strata and PSU.
    groups : list of str
        Columns that name groups of centring.
    centred : list of str
        Columns whose means are wanted.
    factors : list of str
        Columns whose values are wanted, if they are numbers: those in ``C()``.
    plans : sequence of Centring
    pv : dict
        Columns of every plausible-value set.
    """

    formula: ModelFormula
    model: list[str]
    weights: Mapping[str, str | None]
    design: list[str]
    groups: list[str]
    centred: list[str]
    factors: list[str]
    plans: Sequence[Centring]
    pv: Mapping[str, Sequence[str]]

    @property
    def of_rows(self) -> str | None:
        """Weight column of the rows."""
        return next((name for level, name in self.weights.items() if level in ("#0", "obs")), None)

    @property
    def of_units(self) -> list[str]:
        """Weight columns of the levels above."""
        return [name for level, name in self.weights.items() if level not in ("#0", "obs") and name is not None]

    @property
    def keys(self) -> list[str]:
        """Columns whose combinations are told apart."""
        groups = [name for term in self.formula.grouping for name in term.factors]
        return list(dict.fromkeys([*groups, *self.of_units, *self.design, *self.groups]))

    def model_factors(self) -> list[str]:
        """Columns that predictors or outcomes use, and not groups alone."""
        f = self.formula
        slopes = [name for term in f.random for name in term.variables]
        return list(dict.fromkeys([*f.fixed_variables, *f.offset_variables, *f.response_variables, *slopes]))

    @property
    def every(self) -> list[str]:
        """All columns that are read."""
        weights = [name for name in self.weights.values() if name is not None]
        return list(dict.fromkeys([*self.model, *weights, *self.design]))


@dataclass
class Census:
    """What one pass over the rows found.

    Parameters
    ----------
    units : dict of str to Series, each (U,)
        Combinations of the columns of `Wanted.keys`.
    sums : DataFrame, U rows
        ``n`` complete rows, ``used`` those of positive weight; ``total, squares, low, high`` of their weights; ``below
        NAME`` rows whose weight is below column NAME's; ``sum NAME`` their weighted sum of a centred column.
    n_read, dropped, zero
        As in `ModelFrame`.
    unused : dict
        Centred column to the rows that have a value and are not fitted.
    dtypes : dict
        Categories of the columns that have them.
    sample : dict of str to Series
        Some rows, among them one of every category.
    shares : list of (Stream, dict of str to Series, int)
        Parts of the source that other processes read: keys of the units that have rows in the fit there, and how many.
    """

    units: dict[str, pd.Series]
    sums: pd.DataFrame
    n_read: int
    dropped: dict[str, int]
    zero: dict[str, int]
    unused: dict[str, int]
    dtypes: dict[str, pd.CategoricalDtype]
    sample: dict[str, pd.Series]
    shares: list[tuple[Stream, dict[str, pd.Series], int]] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Number of rows in the fit."""
        return int(self.sums["used"].sum())


def usable(piece: Piece, wanted: Wanted, kinds: Kinds) -> tuple[dict[str, pd.Series], Array, Array, dict, dict]:
    """Give a piece's columns, its complete rows, those of positive weight, and how many were lost to which column."""
    own = set(wanted.every)
    columns = {name: kinds.uniform(one, name) if name in own else one for name, one in piece.columns.items()}
    complete, dropped = complete_rows(columns, wanted.model, len(piece))
    used, zero = without_weightless(columns, wanted.weights, wanted.formula, complete)
    return columns, complete, used, dropped, zero


def take_census(stream: Stream, wanted: Wanted, role: str = "") -> tuple[Census, Kinds]:
    """Read all rows once.

    Raises
    ------
    PmwmixError
        Every problem with columns, weights or memory, in words.
    """
    shares = shares_of(stream)
    if not shares:
        return count(stream, wanted, role).finish()
    tasks = [(share, wanted, role) for share in shares]
    parts = list(run_on(stream.executor, count, tasks, "parts of the source"))
    each = [(share, *part.units.used()) for share, part in zip(shares, parts, strict=True)]
    whole = parts[0]
    whole.units.budget = stream.budget
    for part in parts[1:]:
        whole.join(part)
    found, kinds = whole.finish()
    return replace(found, shares=[one for one in each if one[2]]), kinds


@dataclass
class Counted:
    """What a pass over some rows, or all, has found so far; fields as in `Census`."""

    wanted: Wanted
    kinds: Kinds
    units: _Units
    sample: _Sample
    n_read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    zero: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)

    def join(self, other: Counted) -> None:
        """Put the rows of another pass behind these."""
        self.kinds.join(other.kinds)
        self.units.join(other.units)
        self.sample.parts += other.sample.parts
        self.n_read += other.n_read
        for mine, theirs in ((self.dropped, other.dropped), (self.zero, other.zero), (self.unused, other.unused)):
            mine.update(theirs)

    def finish(self) -> tuple[Census, Kinds]:
        """Give what was found in all rows."""
        if self.n_read == 0:
            raise DataError("The source has no rows. Every piece is empty. Check the files or the filter.")
        wanted, table = self.wanted, self.units.finish()
        keys = {name: plain(table[name], name) for name in wanted.keys}
        dtypes = self.kinds.settle()
        lost = {name: self.dropped[name] for name in wanted.model if name in self.dropped}
        counts = (self.n_read, lost, dict(self.zero), dict(self.unused))
        return Census(keys, table, *counts, dtypes, self.sample.finish(dtypes)), self.kinds


def count(stream: Stream, wanted: Wanted, role: str) -> Counted:
    """Read the rows of a source, or of a share of one, once."""
    kinds = Kinds(keys=frozenset(wanted.keys) - set(wanted.model_factors()))
    out = Counted(wanted, kinds, _Units(wanted, stream.budget), _Sample(kinds, wanted))
    for number, piece in enumerate(stream.pieces(wanted.every, role)):
        kinds.meet(piece, wanted.every)
        columns, complete, used, lost, weightless = usable(piece, wanted, kinds)
        out.n_read += len(piece)
        out.dropped.update(lost)
        out.zero.update(weightless)
        out.unused.update(unused_values(wanted.plans, columns, wanted.pv, complete))
        out.units.add(columns, complete, used)
        out.sample.add(columns, used, number)
    return out


class _Units:
    """The table of units, grown piece by piece."""

    def __init__(self, wanted: Wanted, budget: float) -> None:
        self.wanted, self.budget = wanted, budget
        self.loose: list[pd.DataFrame] = []
        self.n_loose, self.limit = 0, LOOSE

    def add(self, columns: Mapping[str, pd.Series], complete: Array, used: Array) -> None:
        """Add the complete rows of a piece, those next to each other in the same unit at once."""
        rows = np.flatnonzero(complete)
        if not len(rows):
            return
        keys = {name: _codes_and_labels(columns[name], rows) for name in self.wanted.keys}
        change = np.zeros(len(rows), dtype=bool)
        change[0] = True
        for values, _ in keys.values():
            change[1:] |= values[1:] != values[:-1]
        starts = np.flatnonzero(change)
        found: dict[str, Any] = {}
        for name, (values, labels) in keys.items():
            found[name] = values[starts] if labels is None else _labelled(values[starts], labels)
        found |= self._sums(columns, rows, used[rows], starts)
        self.loose.append(pd.DataFrame(found))
        self.n_loose += len(starts)
        if self.n_loose > self.limit:
            self._together()

    def _sums(self, columns: Mapping[str, pd.Series], rows: Array, used: Array, starts: Array) -> dict[str, Array]:
        wanted, one = self.wanted, used.astype(float)
        w = one if wanted.of_rows is None else columns[wanted.of_rows].to_numpy()[rows] * one

        def added(values: Array) -> Array:
            return np.add.reduceat(values, starts)

        out = {"n": np.diff(np.append(starts, len(rows))), "used": added(used.astype(np.int64))}
        out |= {"total": added(w), "squares": added(w * w)}
        out["low"] = np.minimum.reduceat(np.where(used, w, np.inf), starts)
        out["high"] = np.maximum.reduceat(w, starts)
        for name in wanted.of_units if wanted.of_rows is not None else ():
            below = used & (w < 0.999 * columns[name].to_numpy()[rows])
            out[f"below {name}"] = added(below.astype(np.int64))
        for name in wanted.centred:
            if columns[name].dtype.kind == "f":
                out[f"sum {name}"] = added(np.where(used, w * columns[name].to_numpy()[rows], 0.0))
        return out

    def _together(self) -> None:
        table = pd.concat(self.loose, ignore_index=True) if len(self.loose) > 1 else self.loose[0]
        how = {name: {"low": "min", "high": "max"}.get(name, "sum") for name in table.columns}
        how = {name: rule for name, rule in how.items() if name not in self.wanted.keys}
        grouped = table.groupby(self.wanted.keys, sort=False, dropna=False, observed=True)
        self.loose = [grouped.agg(how).reset_index()]
        self.n_loose = len(self.loose[0])
        self.limit = 2 * self.n_loose + LOOSE
        held = self.n_loose * len(table.columns) * BYTES
        if held > self.budget:
            raise MemoryBudgetError(
                f"The table of units would not fit into the memory budget. Columns {', '.join(self.wanted.keys)} have "
                f"{self.n_loose} combinations so far, which take {held / GIB:.2g} GiB of {self.budget / GIB:.2g}. "
                f"Raise memory=, or check that these columns are constant inside units."
            )

    def join(self, other: _Units) -> None:
        """Put another table below this one."""
        self.loose += other.loose
        self.n_loose += other.n_loose
        if self.n_loose > self.limit:
            self._together()

    def used(self) -> tuple[dict[str, pd.Series], int]:
        """Give the keys of the units that have rows in the fit, and the number of these rows."""
        table = self.finish()
        rows = table[table["used"] > 0].reset_index(drop=True)
        return {name: plain(rows[name], name) for name in self.wanted.keys}, int(rows["used"].sum())

    def finish(self) -> pd.DataFrame:
        """Give the table, a row per unit."""
        if not self.loose:
            return pd.DataFrame({name: np.zeros(0) for name in [*self.wanted.keys, "n", "used"]})
        self._together()
        table = self.loose[0]
        for name in self.wanted.keys:
            if table[name].dtype.kind == "f":
                table[name] = table[name].replace(NOTHING, np.nan)
        return table


def _codes_and_labels(column: pd.Series, rows: Array) -> tuple[Array, Any]:
    """Values to compare (n,): numbers with one value for missing ones, or codes and their labels."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy()[rows], column.cat.categories
    return np.nan_to_num(column.to_numpy()[rows], nan=NOTHING), None


def _labelled(codes: Array, labels: Any) -> Array:
    every = np.empty(len(labels) + 1, dtype=object)
    every[:-1] = labels
    found: Array = every[codes]
    return found


class _Sample:
    """Rows for finding out what the formula makes of the columns, and their usual size."""

    def __init__(self, kinds: Kinds, wanted: Wanted) -> None:
        self.kinds, self.wanted = kinds, wanted
        self.parts: list[dict[str, pd.Series]] = []

    def add(self, columns: Mapping[str, pd.Series], used: Array, number: int) -> None:
        """Take some rows of a piece, and those with the first of a category."""
        rows = np.flatnonzero(used)
        if not len(rows):
            return
        new = [self._first(columns[name], name, rows) for name in self.wanted.model]
        most = max(FULL // (1 + number // 10), LEAST)
        spread = rows[:: -(-len(rows) // most)]
        chosen = np.unique(np.concatenate([spread, *new]))
        taken = {name: columns[name].take(chosen) for name in self.wanted.model}
        self.parts.append(
            {
                name: column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column
                for name, column in taken.items()
            }
        )

    def _first(self, column: pd.Series, name: str, rows: Array) -> Array:
        """First row of every category that was not met before."""
        if isinstance(column.dtype, pd.CategoricalDtype):
            if name in self.kinds.keys:
                return np.zeros(0, dtype=np.int64)
            codes, first = np.unique(column.cat.codes.to_numpy()[rows], return_index=True)
            known = self.kinds.categories[name]
            met = set(known)
            new = [(c, f) for c, f in zip(column.cat.categories[codes], first, strict=True) if c not in met]
            known += [c for c, _ in new]
            return rows[[f for _, f in new]].astype(np.int64)
        if name not in self.wanted.factors:
            return np.zeros(0, dtype=np.int64)
        values, first = np.unique(column.to_numpy()[rows], return_index=True)
        seen = self.kinds.values.setdefault(name, set())
        fresh = [(v, f) for v, f in zip(values.tolist(), first, strict=True) if v not in seen]
        if len(seen) <= MAX_CATEGORIES:
            seen |= {v for v, _ in fresh}
            return rows[[f for _, f in fresh]].astype(np.int64)
        return np.zeros(0, dtype=np.int64)

    def finish(self, dtypes: Mapping[str, pd.CategoricalDtype]) -> dict[str, pd.Series]:
        """Put the rows together."""
        out = {}
        for name in self.wanted.model if self.parts else ():
            whole = pd.concat([part[name] for part in self.parts], ignore_index=True)
            out[name] = whole.astype(dtypes[name]) if name in dtypes else plain(whole, name)
        return out


def prepared(
    stream: Stream,
    wanted: Wanted,
    kinds: Kinds,
    dtypes: Mapping[str, pd.CategoricalDtype],
    more: Sequence[str] = (),
    role: str = "replicate weights",
) -> Iterator[tuple[dict[str, pd.Series], Array]]:
    """Read again: the rows of the fit, piece by piece, with the categories of all; ``more`` columns beside them.

    With the positions of these rows in the source.
    """
    n = 0
    for piece in stream.pieces([*wanted.every, *more], role if more else ""):
        columns, _, used, _, _ = usable(piece, wanted, kinds)
        n += len(piece)
        if not used.any():
            continue
        rows = None if used.all() else np.flatnonzero(used)
        out = {}
        for name, column in columns.items():
            one = column if rows is None else column.take(rows).reset_index(drop=True)
            dtype = dtypes.get(name) or (piece.declared.get(name) if name in more else None)
            out[name] = one if dtype is None else one.astype(dtype)
        yield out, n - len(piece) + (np.arange(len(piece)) if rows is None else rows)
