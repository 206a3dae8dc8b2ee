"""A linear model ready to be fitted: standardised columns, their cross-products, and the objective; numbers only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError
from pmwmix.fitting.collinear import independent_columns, subset_columns, subset_transform
from pmwmix.fitting.problem import Problem, crossing_of, layout_of, random_columns
from pmwmix.frame.crossing import parts_of
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure, build
from pmwmix.likelihood.linear.flat import FlatObjective
from pmwmix.likelihood.linear.objective import Objective
from pmwmix.likelihood.standardise import Columns, standardise

EXACT_TOL = 1e-13  # share of the outcome's variation that predictors leave over when they determine it


@dataclass(frozen=True)
class LaidOut:
    """Cross-products of all fixed columns, what makes their likelihood once some are dropped, and the weights' scale.

    ``objective`` takes cross-products and the positions of their fixed columns.
    """

    blocks: Blocks
    objective: Callable[[Blocks, Array], Any]
    top_scale: float = 1.0


LayOut = Callable[[ModelFrame, Columns, bool, str], LaidOut]


def make_linear(frame: ModelFrame, design: DesignColumns, reml: bool, engine: str, lay_out: LayOut) -> Problem:
    """Standardise, form cross-products, drop collinear columns and set up the objective.

    Parameters
    ----------
    frame : ModelFrame
    design : DesignColumns
    reml : bool
    engine : str
    lay_out : callable
        `nested`, `crossed` or `flat`.
    """
    names = design.x.names
    known = design if frame.stream is None else frame.stream.sample_of(design)
    random, n_levels = random_columns(known), len(frame.hierarchy.levels)
    columns, transforms = standardise(known.x.columns, list(names), random, known.y, n_levels=n_levels)
    laid = lay_out(frame, columns, reml, engine)
    blocks, kept = laid.blocks, independent_columns(laid.blocks)
    if len(kept) < len(names):
        blocks, transforms = subset_columns(blocks, kept), [subset_transform(t, kept) for t in transforms]
    _check_outcomes(blocks, frame)
    objective = laid.objective(blocks, kept)
    return Problem(
        objective=objective,
        layout=objective.structure.layout,
        transforms=transforms,
        kept=kept,
        names=tuple(names[j] for j in kept),
        dropped=tuple(name for j, name in enumerate(names) if j not in set(kept.tolist())),
        top_scale=objective.scale if objective.composite else laid.top_scale,
        n_total=objective.n_free,
        tree=(blocks.parents, blocks.w),
        reml=reml,
        blocks=blocks,
    )


def nested(frame: ModelFrame, columns: Columns, reml: bool, engine: str) -> LaidOut:
    """Lay a model with nested random effects out."""
    hierarchy, layout, scale = frame.hierarchy, layout_of(frame), _top_scale(frame, reml)
    w_obs = None if np.all(frame.w[0] == 1.0) else frame.w[0]
    w = (*frame.w[1:-1], frame.w[-1] / scale)
    blocks = build(columns, hierarchy.order, hierarchy.starts, w_obs, hierarchy.parents, w)
    return LaidOut(blocks, lambda used, kept: Objective(used, Structure(layout, len(kept), reml), engine), scale)


def streamed(frame: ModelFrame, columns: Columns, reml: bool, engine: str, design: DesignColumns) -> LaidOut:
    """Lay a model with nested random effects out whose rows are read piece by piece."""
    from pmwmix.fitting.streamed import streamed_blocks  # that other fits do not wait for it

    layout, scale = layout_of(frame), _top_scale(frame, reml)
    blocks = streamed_blocks(frame, design, (*frame.w[1:-1], frame.w[-1] / scale))
    return LaidOut(blocks, lambda used, kept: Objective(used, Structure(layout, len(kept), reml), engine), scale)


def structured(frame: ModelFrame, columns: Columns, reml: bool, engine: str) -> LaidOut:
    """Lay a model with a residual structure out: nested random effects, groups without any, or independent rows."""
    from pmwmix.likelihood.linear.dense import CORRELATIONS  # that other fits do not wait for it
    from pmwmix.likelihood.linear.residuals import Residual, Spread
    from pmwmix.likelihood.linear.structured import Source, StructuredObjective, sorted_rows

    assert frame.residual is not None
    hierarchy, layout, scale, asked = frame.hierarchy, layout_of(frame), _top_scale(frame, reml), frame.residual
    starts, parents, w = hierarchy.starts, hierarchy.parents, (*frame.w[1:-1], frame.w[-1] / scale)
    order, w_obs = hierarchy.order, None if np.all(frame.w[0] == 1.0) else frame.w[0]
    if not hierarchy.levels:
        starts, parents = np.unique(np.append(np.arange(0, frame.n, 512), frame.n)), ()
        w, w_obs = (np.ones(len(starts) - 1),), frame.w[0] / scale
    blocks = build(columns, order, starts, w_obs, parents, w, each=True)
    rows, correlation = sorted_rows(columns, starts, order, asked.where, w_obs), None
    if asked.spec.correlation is not None:
        correlation = CORRELATIONS[asked.spec.correlation](rows.where, starts, asked.spec.nugget)
        rows = rows.from_first() if correlation.relative else rows
    spread = Spread(asked.names, asked.ratios, asked.logs) if asked.spec.variance else None
    source = Source(rows, Residual(correlation, spread), np.arange(0), asked.fitted, frame.designs[0].offset)

    def objective(used: Blocks, kept: Array) -> Any:
        return StructuredObjective(used, Structure(layout, len(kept), reml), replace(source, kept=kept), engine)

    return LaidOut(blocks, objective, scale)


def flat(frame: ModelFrame, columns: Columns, reml: bool, engine: str) -> LaidOut:
    """Lay a model without random terms out; its rows are the units of the robust variance."""
    layout, scale = ThetaLayout(()), _top_scale(frame, reml)
    w = frame.w[0] / scale
    edges = np.unique(np.append(np.arange(0, frame.n, 4096), frame.n))
    blocks = build(columns, None, edges, w, (), (np.ones(len(edges) - 1),))
    return LaidOut(
        blocks, lambda used, kept: FlatObjective(used, Structure(layout, len(kept), reml), columns, kept, w), scale
    )


def crossed(frame: ModelFrame, columns: Columns, reml: bool, engine: str) -> LaidOut:
    """Lay a model with crossed factors out; independent parts of the sample are the units of the robust variance."""
    from pmwmix.likelihood.crossed.linear import CrossedLinearObjective, numbers_held

    layout = layout_of(frame)
    crossing = crossing_of(frame, layout, lambda found: numbers_held(found, layout, engine))
    sizes = np.bincount(crossing.part)
    order = None if len(sizes) == 1 else np.argsort(crossing.part, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    blocks = build(columns, order, starts, frame.w[0], (), (np.ones(len(sizes)),))

    def objective(used: Blocks, kept: Array) -> Any:
        structure = Structure(layout, len(kept), reml)
        return CrossedLinearObjective(used, structure, crossing, columns, kept, frame.w[0], engine)

    return LaidOut(blocks, objective)


def pairwise(frame: ModelFrame, columns: Columns, reml: bool, engine: str) -> LaidOut:
    """Lay the pairs of a model out; the whole sample without weights gives starts and conditional modes."""
    from pmwmix.likelihood.linear.pairs import Units
    from pmwmix.likelihood.linear.pairwise import PairwiseObjective

    hierarchy = frame.hierarchy
    bare = replace(frame, w=tuple(np.ones(len(w)) for w in frame.w))
    whole = (crossed if hierarchy.crossed else nested)(bare, columns, reml, engine)
    w = frame.own_w or frame.w
    units = Units(tuple(level.index for level in hierarchy.levels), w[0], w[1:])
    part = parts_of(hierarchy) if hierarchy.crossed else hierarchy.levels[-1].index

    def objective(used: Blocks, kept: Array) -> PairwiseObjective:
        of_whole = whole.objective(used, kept)
        return PairwiseObjective(of_whole, of_whole.structure, units, columns, kept, part)

    return LaidOut(whole.blocks, objective)


def _top_scale(frame: ModelFrame, reml: bool) -> float:
    """Mean of the top-level weights, which are used relative to it, so that multiplying them all changes nothing."""
    return 1.0 if reml else float(frame.w[-1].mean())


def _check_outcomes(blocks: Blocks, frame: ModelFrame) -> None:
    for k in range(len(blocks.yy)):
        S = blocks.S0(k)
        left = S[-1, -1] - S[-1, :-1] @ np.linalg.solve(S[:-1, :-1], S[:-1, -1])
        if left < EXACT_TOL * S[-1, -1]:
            raise DataError(
                f"The predictors explain the outcome without any error. {frame.formula.response!r} is a linear "
                f"combination of {frame.formula.fixed!r}. Drop the predictor that was computed from it."
            )
