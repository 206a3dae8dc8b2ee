"""Sampling weights: columns by level, total -> conditional weights, checks, and statistics. Numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import OptionError, WeightError, near, some
from pmwmix.spec.formula import ModelFormula

LARGEST = 1e50  # squares and products of weights must not overflow
CONSTANT_RTOL = 1e-6  # weight columns are often stored in single precision


@dataclass(frozen=True, slots=True)
class WeightStats:
    """Statistics of one level's weights.

    Parameters
    ----------
    n : int
        Number of rows or units.
    mean, sum, min, max : float
    cv : float
        Standard deviation over mean.
    n_eff : float
        Effective size (Σw)² / Σw² (Kish).
    """

    n: int
    mean: float
    sum: float
    min: float
    max: float
    cv: float
    n_eff: float

    @classmethod
    def of(cls, w: Array) -> WeightStats:
        """Summarise the weights ``w`` (n,)."""
        total, mean, largest = float(w.sum()), float(w.mean()), float(w.max())
        v = w / largest if largest > 0 else w  # squares of very large or small weights would leave the range of floats
        squares = float((v**2).sum())
        spread = float(v.std() / v.mean()) if squares else float("nan")
        effective = float(v.sum()) ** 2 / squares if squares else 0.0
        return cls(len(w), mean, total, float(w.min()), largest, spread, effective)


def weight_columns(weights: Any, formula: ModelFormula) -> dict[str, str | None]:
    """Key the weight columns by ``"obs"`` / group name, or by position ``"#0"`` when given as a list."""
    if weights is None:
        return {}
    if isinstance(weights, str):
        return {"#0": weights}
    if isinstance(weights, Mapping | Sequence):
        names = list(weights.values()) if isinstance(weights, Mapping) else list(weights)
        wrong = [name for name in names if name is not None and not isinstance(name, str)]
        if wrong:
            raise OptionError(
                f"Weights are column names. Got {type(wrong[0]).__name__} {wrong[0]!r} among them. "
                f'Write weights=["W_FSTUWT", "W_FSCHWT"].'
            )
    if isinstance(weights, Mapping):
        groups = list(dict.fromkeys(term.group for term in formula.grouping))
        out: dict[str, str | None] = {}
        for key, column in weights.items():
            group = _group_key(str(key), groups)
            if group in out:
                raise OptionError(
                    f"A level has one weight. Level {group!r} is given {out[group]!r} and {column!r}. Leave one out."
                )
            out[group] = column
        return out
    if isinstance(weights, Sequence):
        levels = ["obs", *{tuple(sorted(term.factors)): term.group for term in formula.grouping}.values()]
        if len(names) > len(levels):
            raise OptionError(
                f"There are more weights than levels. Given {len(names)}: {some(names)}; the levels are "
                f"{some(levels)}. Leave out the weights of levels that are not in the model."
            )
        return {f"#{position}": name for position, name in enumerate(names)}
    raise OptionError(
        f"Weights are column names, bottom-up. Got {type(weights).__name__}. "
        f'Write weights=["W_FSTUWT", "W_FSCHWT"], or a dict keyed by "obs" and group names.'
    )


def _group_key(key: str, groups: Sequence[str]) -> str:
    if key == "obs":
        return key
    for group in groups:
        if sorted(group.split(":")) == sorted(key.split(":")):
            return group
    matches = [group for group in groups if group.split(":")[0] == key]
    if len(matches) == 1:
        return matches[0]
    raise OptionError(
        f"Weights are keyed by 'obs' and the groups of the formula. {key!r} is neither.{near(key, [*groups, 'obs'])} "
        f"The groups are {some(groups)}."
    )


def check_values(w: Array, column: str, labels: Sequence[object]) -> None:
    """Refuse NaN, infinite and negative weights, naming the column and the first rows' groups.

    Raises
    ------
    WeightError
    """
    for bad, word, cure in (
        (np.isnan(w), "missing", "Fill them, or drop those rows before the fit"),
        (np.isinf(w), "infinite", "Check how the column was computed"),
        (np.abs(w) > LARGEST, "absurdly large", f"Divide the column so that it stays below {LARGEST:g}"),
        (w < 0, "negative", "Sampling weights are at least 0; check the column"),
    ):
        if bad.any():
            where = some(dict.fromkeys(labels[i] for i in np.flatnonzero(bad)[:2000]))
            raise WeightError(
                f"Weights in column {column!r} are {word} in {int(bad.sum())} rows. They belong to {where}. {cure}."
            )


def unit_weights(w: Array, index: Array, n_units: int, column: str, level: str, labels: Sequence[object]) -> Array:
    """Take the weight of each unit from its rows.

    Parameters
    ----------
    w : ndarray, shape (n,)
    index : ndarray of int, shape (n,)
        Unit of each row.
    n_units : int
    column, level : str
        For the message.
    labels : sequence
        Labels of the units.

    Returns
    -------
    ndarray, shape (n_units,)

    Raises
    ------
    WeightError
        If the weight varies inside a unit.
    """
    low, high = np.full(n_units, np.inf), np.full(n_units, -np.inf)
    np.minimum.at(low, index, w)
    np.maximum.at(high, index, w)
    varies = high - low > CONSTANT_RTOL * np.abs(high)
    if varies.any():
        units = np.flatnonzero(varies)
        shown = "; ".join(f"{labels[u]}: {low[u]:.6g}-{high[u]:.6g}" for u in units[:5])
        more = f" and {len(units) - 5} more" if len(units) > 5 else ""
        raise WeightError(
            f"Weights of level {level!r} must be constant within a {level}, but column {column!r} varies in "
            f"{len(units)} of {n_units}. First ones: {shown}{more}. Check that it is the {level}'s own weight, not "
            f"that of its members; a weight of the rows goes first in weights=[...]."
        )
    return high


def conditional_weights(totals: Sequence[Array | None], parents: Sequence[Array], conditional: bool) -> list[Array]:
    """Divide each level's total weight by that of the unit above (theory, eq. 1).

    Parameters
    ----------
    totals : list of ndarray or None
        Bottom-up, rows first. None is a level left out: its conditional weight is 1.
    parents : list of ndarray of int
        Unit one level up of each member, one entry fewer.
    conditional : bool
        The given weights are conditional already.

    Returns
    -------
    list of ndarray
        Conditional weights; the top level keeps its own. A unit with weight 0 hands 0 down.
    """
    lengths = [len(parent) for parent in parents]
    top = totals[-1]
    n_top = len(top) if top is not None else int(parents[-1].max()) + 1 if len(parents) else 0
    lengths.append(n_top)
    if conditional:
        return [np.ones(n) if w is None else w.astype(float) for w, n in zip(totals, lengths, strict=True)]
    out: list[Array] = []
    total_above: Array = np.ones(n_top) if top is None else top.astype(float)
    out.append(total_above)
    for level in range(len(totals) - 2, -1, -1):
        above = total_above[parents[level]]
        own = totals[level]
        if own is None:
            out.insert(0, np.ones(lengths[level]))
            total_above = above
        else:
            out.insert(0, np.divide(own, above, out=np.zeros(len(own)), where=above > 0))
            total_above = own.astype(float)
    return out


def total_weights(conditional: Sequence[Array], parents: Sequence[Array]) -> list[Array]:
    """Multiply conditional weights down the hierarchy: the total weight of every row and unit."""
    out = [conditional[-1]]
    for w, parent in zip(reversed(conditional[:-1]), reversed(list(parents)), strict=True):
        out.insert(0, w * out[0][parent])
    return out


def order_weights(weights: Mapping[str, str | None], hierarchy: Any) -> tuple[str | None, ...]:
    """Put the weight columns in the order of the levels of a `Hierarchy`, rows first."""
    names = ["obs", *(level.name for level in hierarchy.levels)]
    if not weights:
        return (None,) * len(names)
    if next(iter(weights)).startswith("#"):
        columns = list(weights.values())
        return tuple(columns + [None] * (len(names) - len(columns)))
    return tuple(weights.get(name) for name in names)
