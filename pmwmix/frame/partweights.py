"""Weights of the one crossed factor whose groups share nothing with each other: the independent parts of the sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, some
from pmwmix.frame.crossing import check_named_weights, if_nested, parts_of
from pmwmix.frame.hierarchy import Hierarchy
from pmwmix.frame.levelweights import weigh, weight_notes
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.spec.design import Design
from pmwmix.weights.trimming import Trimmed


def weigh_parts(
    by_level: Sequence[str | None],
    columns: Mapping[str, pd.Series],
    hierarchy: Hierarchy,
    design: Design,
    scale: Any,
) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Trimmed, ...]]:
    """Turn weights of the rows and of the factor that is the parts into conditional ones, as `levelweights.weigh` does.

    Units of the other factors have weight 1, and scaling is that of rows within parts.

    Raises
    ------
    NotSupportedError, OptionError
        If the weights are those of another factor, or of several.
    """
    at = _factor_of(by_level, hierarchy)
    check_named_weights(design.weights, hierarchy)
    inner = _rows_in(hierarchy, at)
    of_both = (by_level[0], by_level[1 + at])
    cond, w, trimmed = weigh(of_both, columns, inner, bool(design.conditional), scale, design.trim)

    def whole(both: Sequence[Array]) -> tuple[Array, ...]:
        units = [np.ones(level.n) for level in hierarchy.levels]
        units[at] = both[1]
        return both[0], *units

    return whole(cond), whole(w), trimmed


def weighted_factor(frame: ModelFrame) -> int | None:
    """Give the position of the crossed factor that has weights; None where factors are nested or none has."""
    found = [at for at, weighted in enumerate(frame.weighted[1:]) if weighted and frame.hierarchy.crossed]
    return found[0] if found and not frame.pairwise else None


def part_weights(frame: ModelFrame, w: Array) -> Array:
    """Lay weights of the units of that factor out by independent parts (C,)."""
    at, part = weighted_factor(frame), parts_of(frame.hierarchy)
    assert at is not None
    out = np.ones(int(part.max()) + 1)
    out[part] = w[frame.hierarchy.levels[at].index]
    return out


def notes_on_parts(frame: ModelFrame, at: int, conditional: bool) -> tuple[str, ...]:
    """Say of the weights what a reader should know, as of those of nested models."""
    both, inner = (0, 1 + at), _rows_in(frame.hierarchy, at)
    by_level = [frame.weight_columns[k] for k in both]
    cond, w = ([of[k] for k in both] for of in (frame.cond, frame.w))
    return weight_notes(by_level, inner, cond, w, frame.scaling, conditional)


def _rows_in(hierarchy: Hierarchy, at: int) -> Hierarchy:
    """Give the rows and the units of one factor alone; nobody asks for their order."""
    return Hierarchy((hierarchy.levels[at],), None, np.zeros(1, dtype=np.int64), (), ())


def _factor_of(by_level: Sequence[str | None], hierarchy: Hierarchy) -> int:
    """Find the factor whose weights these are, and check that its units are the independent parts.

    Raises
    ------
    NotSupportedError
    """
    names, n = some([level.name for level in hierarchy.levels]), int(parts_of(hierarchy).max()) + 1
    weighted = [at for at, column in enumerate(by_level[1:]) if column is not None]
    for at in weighted:
        level, column = hierarchy.levels[at], by_level[1 + at]
        if level.n != n:
            parts = "part" if n == 1 else "parts"
            raise NotSupportedError(
                f"Weights of a crossed factor need groups that share no group of the other factors: elsewhere the "
                f"likelihood is no product over them. Column {column!r} weights {level.name!r}, and {names} are "
                f"crossed: the {level.n} groups of {level.name!r} hang together in {n} {parts}. "
                f'Weight the rows alone, weights={{"obs": ...}}, with the product of the weights; '
                f"{if_nested(hierarchy)}."
            )
    if len(weighted) > 1:
        both = some([hierarchy.levels[at].name for at in weighted])
        raise NotSupportedError(
            f"One crossed factor may have weights, that whose groups are the independent parts of the sample. Weights "
            f"are given for {both}. Give the product of both to one of them."
        )
    return weighted[0]
