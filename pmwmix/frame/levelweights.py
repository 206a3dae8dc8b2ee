"""From weight columns to scaled conditional weights of every level, their statistics and remarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import printed
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.frame.hierarchy import Hierarchy
from pmwmix.spec.design import Design
from pmwmix.weights.conditional import WeightStats, conditional_weights, unit_weights
from pmwmix.weights.scaling import Scaling, resolve_scaling, unscaled
from pmwmix.weights.sums import RowSums
from pmwmix.weights.trimming import TopScaled, Trimmed, trim_weights

MOST, SUSPICIOUS = 0.5, 0.05  # shares of rows
SAME = ("size", "effective")  # scalings that make the same of conditional weights and of these divided by the unit's


def weigh(
    by_level: Sequence[str | None],
    columns: Mapping[str, pd.Series],
    hierarchy: Hierarchy,
    conditional: bool,
    scale: Any,
    trim: Any = None,
) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Trimmed, ...]]:
    """Turn weight columns into conditional weights, before and after scaling, rows first; and what was trimmed."""
    totals: list[Array | None] = [None if by_level[0] is None else columns[by_level[0]].to_numpy()]
    for level, name in zip(hierarchy.levels, by_level[1:], strict=True):
        values = None
        if name is not None:
            labels = printed(level.labels)
            values = unit_weights(columns[name].to_numpy(), level.index, level.n, name, level.name, labels)
        totals.append(values)
    if isinstance(scale, TopScaled) and all(name is None for name in by_level):
        raise OptionError(
            f"A scale of the top level's weights needs weights. Got weights_top={scale.rule!r}, and the call has none. "
            f"Add weights=, or leave it out."
        )
    names, weighted = ["obs", *(level.name for level in hierarchy.levels)], [name is not None for name in by_level]
    if not hierarchy.levels:
        rows = totals[0] if totals[0] is not None else np.ones(len(next(iter(columns.values()))))
        cond, report = trim_weights((rows.astype(float),), names, weighted, trim)
        return cond, scale(cond, ()) if isinstance(scale, TopScaled) else cond, report
    parents = hierarchy.row_parents
    cond, report = trim_weights(conditional_weights(totals, parents, conditional), names, weighted, trim)
    if not any(weighted):
        return cond, cond, report
    return cond, tuple(scale(cond, tuple(parents))), report


def scale_of(design: Design, hierarchy: Hierarchy) -> tuple[str, Scaling]:
    """Give name and function of the scaling that a design asks for, with that of the top level.

    Raises
    ------
    NotSupportedError
        If crossed factors leave no top level.
    """
    name, scale = resolve_scaling(design.scaling)
    if design.weights_top is None:
        return name, scale
    if hierarchy.crossed:
        raise NotSupportedError(
            f"Crossed groups have no top level whose weights could be scaled. Got weights_top={design.weights_top!r} "
            f"with {', '.join(level.name for level in hierarchy.levels)}. Leave it out."
        )
    return name, TopScaled(scale if hierarchy.levels else unscaled, design.weights_top)


def crossed_weights(
    by_level: Sequence[str | None], columns: Mapping[str, pd.Series], hierarchy: Hierarchy, conditional: bool
) -> tuple[Array, ...]:
    """Give the weight of every row given its units, and those of the units of crossed factors (pairwise, eq. 9)."""
    n = len(hierarchy.levels[0].index)
    own, product = [], np.ones(n)
    for level, name in zip(hierarchy.levels, by_level[1:], strict=True):
        w = np.ones(level.n)
        if name is not None:
            labels = printed(level.labels)
            w = unit_weights(columns[name].to_numpy(), level.index, level.n, name, level.name, labels).astype(float)
        own.append(w)
        product *= w[level.index]
    if by_level[0] is None:
        return np.ones(n), *own
    rows = columns[by_level[0]].to_numpy().astype(float)
    return rows if conditional else rows / product, *own


def weight_statistics(
    hierarchy: Hierarchy, totals: Sequence[Array], w: Sequence[Array], weighted: bool
) -> dict[tuple[str, str], WeightStats]:
    """Statistics of the total weights and of the weights used, per level."""
    if not weighted:
        return {}
    names = ["obs", *(level.name for level in hierarchy.levels)]
    out = {}
    for name, total, used in zip(names, totals, w, strict=True):
        out[name, "total"] = WeightStats.of(total)
        out[name, "used"] = WeightStats.of(used)
    return out


def weight_notes(
    by_level: Sequence[str | None],
    hierarchy: Hierarchy,
    cond: Sequence[Array],
    w: Sequence[Array],
    scaling: str,
    conditional: bool,
    below: float | None = None,
) -> tuple[str, ...]:
    """Say what a reader should know of the weights: levels without one, missing scaling, double conversion.

    ``below`` is the share of rows with conditional weights below 1, where the rows are not at hand.
    """
    if all(name is None for name in by_level):
        return () if scaling == "none" else (f"Scaling {scaling!r} has no effect: there are no weights.",)
    names = ["obs", *(level.name for level in hierarchy.levels)]
    notes = [
        f"Level {name!r} has no weight column: its conditional weight is 1."
        for name, column in zip(names, by_level, strict=True)
        if column is None
    ]
    if by_level[0] is not None and hierarchy.levels:
        index, n, rows = hierarchy.levels[0].index, hierarchy.levels[0].n, w[0]
        if isinstance(rows, RowSums):
            ratio = rows.total / rows.n
        else:
            ratio = np.bincount(index, rows, minlength=n) / np.bincount(index, minlength=n)
        typical = float(np.median(ratio))
        if scaling == "none" and not 2 / 3 < typical < 1.5:
            notes.append(
                f"Level-1 weights are unscaled and average {typical:.3g} in the median {names[1]}, far from 1: each "
                f"{names[1]} then counts as if it had that many times its members, which biases the variances when "
                f"groups are small (Rabe-Hesketh & Skrondal 2006). Consider scaling='size'."
            )
        if conditional or by_level[1] is None:
            below = 0.0
        elif below is None:
            below = float(np.mean(cond[0] < 0.999))
        if below > (MOST if scaling in SAME else SUSPICIOUS):
            notes.append(
                f"{below:.0%} of the rows have a total weight below that of their {names[1]}, which no total weight "
                f"can have: column {by_level[0]!r} looks conditional already. If it is, pass conditional=True."
            )
    return tuple(notes)
