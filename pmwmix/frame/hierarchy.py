"""Levels from the data: group codes, nesting, row order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import code
from pmwmix.errors import DataError
from pmwmix.spec.randomterms import RandomTerm

RESERVED = ("obs", "Residual")


@dataclass(frozen=True)
class Level:
    """One grouping level.

    Parameters
    ----------
    name : str
        ``"schoolid"`` or ``"classid:schoolid"``.
    factors : tuple of str
        Columns whose combination names a unit.
    labels : list
        Label of each unit: the value, or a tuple of texts ``("7", "3")`` for a combination.
    index : ndarray of int, shape (n,)
        Unit of each row.
    """

    name: str
    factors: tuple[str, ...]
    labels: list[object]
    index: Array

    @property
    def n(self) -> int:
        """Number of units."""
        return len(self.labels)


@dataclass(frozen=True)
class Hierarchy:
    """All levels, bottom-up, with the row order that makes the lowest units contiguous.

    Parameters
    ----------
    levels : tuple of Level
    order : ndarray of int, shape (n,), or None
        None if the rows are in that order already.
    starts : ndarray of int, shape (G_1 + 1,)
    parents : tuple of ndarray of int
        ``parents[l]`` (G_l,) is the unit one level up.
    single_child : tuple of str
        Levels whose units all have one child among the units below; their variances cannot be told apart.
    crossed : tuple of str
        Names of the first two factors that are not nested, empty if all are. The levels are then factors side by side,
        the one with the most units first; ``parents`` gives the unit of each unit's first row and only lends lengths.
    """

    levels: tuple[Level, ...]
    order: Array | None
    starts: Array
    parents: tuple[Array, ...]
    single_child: tuple[str, ...]
    crossed: tuple[str, ...] = ()

    @property
    def row_parents(self) -> tuple[Array, ...]:
        """Parents starting with the rows: the form in which weights want them."""
        return (self.levels[0].index, *self.parents) if self.levels else ()

    def position(self, name: str) -> int:
        """Index of a level by its name, whichever way an interaction is written."""
        wanted = sorted(name.split(":"))
        return next(i for i, level in enumerate(self.levels) if sorted(level.name.split(":")) == wanted)


def find_levels(random: Sequence[RandomTerm], columns: Mapping[str, pd.Series]) -> Hierarchy:
    """Code every grouping factor, order the levels from the data and find out whether they are nested.

    Parameters
    ----------
    random : sequence of RandomTerm
    columns : mapping of name to Series
        Group columns without missing values.

    Returns
    -------
    Hierarchy
        More units means lower; with equal numbers the factor that the formula names first is the lower one.
    """
    if not random:
        return Hierarchy((), None, np.zeros(1, dtype=np.int64), (), ())
    reserved = [term.group for term in random if term.group in RESERVED]
    if reserved:
        raise DataError(
            f"A grouping factor must not be called 'obs' or 'Residual', which stand for the rows. The formula groups "
            f"by {reserved[0]!r}. Rename the column."
        )
    factors = {tuple(sorted(term.factors)): term for term in reversed(random)}
    terms = [factors[key] for key in dict.fromkeys(tuple(sorted(term.factors)) for term in random)]
    return arrange([_coded(term, columns) for term in terms])


def _coded(term: RandomTerm, columns: Mapping[str, pd.Series]) -> Level:
    index, labels = code([columns[name] for name in term.factors])
    return Level(term.group, term.factors, labels, index)


def arrange(factors: Sequence[Level]) -> Hierarchy:
    """Order factors by their number of units, find out whether they are nested, and sort their units accordingly."""
    factors = sorted(factors, key=lambda factor: -factor.n)
    crossed = next(((low.name, up.name) for low, up in pairwise(factors) if not _nested(low, up)), ())
    levels = tuple(factors) if crossed else _sorted_levels(factors)
    lowest = levels[0].index
    sizes = np.bincount(lowest, minlength=levels[0].n)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    order = None if np.all(lowest[1:] >= lowest[:-1]) else np.argsort(lowest, kind="stable")
    parents = tuple(_first_of(up.index, low.index, low.n) for low, up in pairwise(levels))
    single = tuple(up.name for low, up in pairwise(levels) if up.n == low.n and not crossed)
    return Hierarchy(levels, order, starts, parents, single, crossed)


def _first_of(values: Array, index: Array, n: int) -> Array:
    """Value of the first row of each unit."""
    out = np.zeros(n, dtype=np.int64)
    out[index[::-1]] = values[::-1]
    return out


def _nested(lower: Level, upper: Level) -> bool:
    """Whether every unit of the lower factor stands in one unit of the upper one."""
    return bool(np.all(_first_of(upper.index, lower.index, lower.n)[lower.index] == upper.index))


def _sorted_levels(factors: Sequence[Level]) -> tuple[Level, ...]:
    """Renumber the units so that sorting by the lowest level sorts by every level above."""
    levels: list[Level] = []
    above: Array | None = None
    for factor in reversed(factors):
        index, labels = factor.index, factor.labels
        if above is not None:
            parent = _first_of(above, index, len(labels))
            place = np.lexsort((np.arange(len(labels)), parent))
            rank = np.empty(len(labels), dtype=np.int64)
            rank[place] = np.arange(len(labels))
            index, labels = rank[index], [labels[i] for i in place]
        levels.insert(0, replace(factor, labels=labels, index=index))
        above = index
    return tuple(levels)
