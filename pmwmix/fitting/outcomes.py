"""A linear model of several outcomes ready to be fitted: products by pairs of outcomes, read once; numbers only."""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError, NotSupportedError
from pmwmix.fitting.collinear import independent_columns, subset_columns
from pmwmix.fitting.problem import Problem, layout_of, random_columns
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.likelihood.linear.crossproducts import Structure
from pmwmix.likelihood.linear.outcomes import SeveralObjective
from pmwmix.likelihood.linear.pairproducts import PairProducts, pair_products
from pmwmix.likelihood.standardise import Columns, Transform, standardise, together

EXACT_TOL = 1e-13  # share of an outcome's variation that predictors leave over when they determine it


def make_several(frame: ModelFrame, design: DesignColumns, reml: bool, engine: str) -> Problem:
    """Standardise, form products, drop collinear columns and set up the objective.

    Parameters
    ----------
    frame : ModelFrame
        With nested groups.
    design : DesignColumns
    reml : bool
    engine : str
    """
    outcomes, layout = frame.formula.outcomes, layout_of(frame)
    if not layout.q:  # a refit without random terms
        raise NotSupportedError(
            f"Several outcomes need random effects. Without them nothing is left of {frame.formula.text!r} but "
            f"regressions. Fit the outcomes one at a time."
        )
    m, hierarchy, of_x = len(outcomes), frame.hierarchy, design.of
    of_z = np.array([b.predictor for b in design.blocks for _ in b.names], dtype=int)
    names = [frame.formula.prefix(int(k)) + name for name, k in zip(_raw_names(design), of_x, strict=True)]
    columns, each = standard_columns(frame, design)
    scale = 1.0 if reml else float(frame.w[-1].mean())
    w_obs = None if np.all(frame.w[0] == 1.0) else frame.w[0]
    w = (*frame.w[1:-1], frame.w[-1] / scale)
    products = pair_products(columns, (of_z, of_x), m, hierarchy.order, hierarchy.starts, w_obs, hierarchy.parents, w)
    blocks = products.apart()
    kept = independent_columns(blocks)
    if len(kept) < len(names):
        blocks, products = subset_columns(blocks, kept), products.subset(kept)
    _check_outcomes(products, outcomes)
    transforms = [
        together(
            each[k * m : (k + 1) * m], of_x, [of_z[_places(design, level)] for level in range(len(layout.q))], kept
        )
        for k in range(len(design.y))
    ]
    objective = SeveralObjective(blocks, Structure(layout, len(kept), reml), products, engine)
    return Problem(
        objective=objective,
        layout=layout,
        transforms=transforms,
        kept=kept,
        names=tuple(names[j] for j in kept),
        dropped=tuple(name for j, name in enumerate(names) if j not in set(kept.tolist())),
        top_scale=scale,
        n_total=objective.n_free,
        tree=(blocks.parents, blocks.w),
        reml=reml,
        blocks=blocks,
    )


def standard_columns(frame: ModelFrame, design: DesignColumns) -> tuple[Columns, list[Transform]]:
    """Standardise the columns; outcomes of a plausible value stand beside each other, each with its transform."""
    x = [column for part in design.fixed for column in part.columns]
    y = [one for first, others in zip(design.y, design.beside, strict=True) for one in (first, *others)]
    of, y_of = design.of.tolist(), [*range(len(frame.formula.outcomes))] * len(design.y)
    return standardise(
        x, _raw_names(design), random_columns(design), y, of, len(frame.hierarchy.levels), y_of=y_of
    )  # fmt: skip


def _raw_names(design: DesignColumns) -> list[str]:
    return [name for part in design.fixed for name in part.names]


def _places(design: DesignColumns, level: int) -> Array:
    """Places of the random columns of a level."""
    return np.flatnonzero([b.level == level for b in design.blocks for _ in b.names])


def _check_outcomes(products: PairProducts, outcomes: tuple[str, ...]) -> None:
    """Refuse an outcome that the predictors, or other outcomes with them, determine.

    Raises
    ------
    DataError
    """
    for k in range(len(products.yy)):
        xx, xy, yy = products.total(k)
        for a, name in enumerate(outcomes):
            mine = np.flatnonzero(products.of_x == a)
            others = np.arange(a)
            S = np.block([[xx[np.ix_(mine, mine)], xy[np.ix_(mine, others)]],
                          [xy[np.ix_(mine, others)].T, yy[np.ix_(others, others)]]])  # fmt: skip
            side = np.concatenate([xy[mine, a], yy[others, a]])
            left = yy[a, a] - side @ np.linalg.lstsq(S, side, rcond=None)[0]
            if left < EXACT_TOL * yy[a, a]:
                raise DataError(
                    f"An outcome is explained without any error. {name!r} is a linear combination of its predictors "
                    f"and of the outcomes before it. Drop the outcome, or the predictor that was computed from it."
                )


__all__ = ["make_several"]
