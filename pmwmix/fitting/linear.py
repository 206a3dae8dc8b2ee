"""From a ModelFrame to estimates: cross-products, climb, covariance, one outcome after the other.

The stage where likelihood, optimiser and variance meet; numbers only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError
from pmwmix.fitting.collinear import independent_columns, subset_columns, subset_transform
from pmwmix.fitting.problem import Problem, crossing_of, layout_of
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.likelihood.crossed.linear import CrossedLinearObjective
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure, build
from pmwmix.likelihood.linear.flat import FlatObjective
from pmwmix.likelihood.linear.objective import Objective
from pmwmix.likelihood.standardise import Columns, RandomColumns, Transform, standardise

EXACT_TOL = 1e-13  # share of the outcome's variation that predictors leave over when they determine it


def make_linear(frame: ModelFrame, design: DesignColumns, reml: bool, engine: str) -> Problem:
    """Standardise, form cross-products, drop collinear columns and set up the objective."""
    hierarchy = frame.hierarchy
    random = [RandomColumns(b.level, b.matrix.names, b.matrix.columns) for b in design.blocks]
    columns, transforms = standardise(design.x.columns, list(design.x.names), random, design.y)
    w_obs = None if np.all(frame.w[0] == 1.0) else frame.w[0]
    # top-level weights are used relative to their mean, so that multiplying them all changes nothing
    top_scale = 1.0 if reml else float(frame.w[-1].mean())
    if not hierarchy.levels:
        return _flat_problem(frame, design, columns, transforms, reml, top_scale)
    if hierarchy.crossed:
        return _crossed_problem(frame, design, columns, transforms, reml, engine)
    w = (*frame.w[1:-1], frame.w[-1] / top_scale)
    blocks = build(columns, hierarchy.order, hierarchy.starts, w_obs, hierarchy.parents, w)
    kept = independent_columns(blocks)
    if len(kept) < len(design.x.names):
        blocks, transforms = subset_columns(blocks, kept), [subset_transform(t, kept) for t in transforms]
    _check_outcomes(blocks, frame)
    layout = layout_of(frame)
    objective = Objective(blocks, Structure(layout, len(kept), reml), engine)
    return _problem(objective, blocks, design, transforms, kept, top_scale)


def _problem(
    objective: Any, blocks: Blocks, design: DesignColumns, transforms: list[Transform], kept: Array, top_scale: float
) -> Problem:
    names = design.x.names
    return Problem(
        objective=objective,
        layout=objective.structure.layout,
        transforms=transforms,
        kept=kept,
        names=tuple(names[j] for j in kept),
        dropped=tuple(name for j, name in enumerate(names) if j not in set(kept.tolist())),
        top_scale=top_scale,
        n_total=objective.n_free,
        tree=(blocks.parents, blocks.w),
        reml=objective.structure.reml,
        blocks=blocks,
    )


def _flat_problem(
    frame: ModelFrame,
    design: DesignColumns,
    columns: Columns,
    transforms: list[Transform],
    reml: bool,
    top_scale: float,
) -> Problem:
    """Set up a model without random terms; its rows are the units of the robust variance."""
    w = frame.w[0] / top_scale
    edges = np.unique(np.append(np.arange(0, frame.n, 4096), frame.n))
    blocks = build(columns, None, edges, w, (), (np.ones(len(edges) - 1),))
    kept = independent_columns(blocks)
    if len(kept) < len(design.x.names):
        blocks, transforms = subset_columns(blocks, kept), [subset_transform(t, kept) for t in transforms]
    _check_outcomes(blocks, frame)
    layout = ThetaLayout(())
    objective = FlatObjective(blocks, Structure(layout, len(kept), reml), columns, kept, w)
    return _problem(objective, blocks, design, transforms, kept, top_scale)


def _crossed_problem(
    frame: ModelFrame, design: DesignColumns, columns: Columns, transforms: list[Transform], reml: bool, engine: str
) -> Problem:
    """Set up a model with crossed factors; independent parts of the sample are the units of the robust variance."""
    layout = layout_of(frame)
    crossing = crossing_of(frame, layout)
    sizes = np.bincount(crossing.part)
    order = None if len(sizes) == 1 else np.argsort(crossing.part, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    blocks = build(columns, order, starts, frame.w[0], (), (np.ones(len(sizes)),))
    kept = independent_columns(blocks)
    if len(kept) < len(design.x.names):
        blocks, transforms = subset_columns(blocks, kept), [subset_transform(t, kept) for t in transforms]
    _check_outcomes(blocks, frame)
    structure = Structure(layout, len(kept), reml)
    objective = CrossedLinearObjective(blocks, structure, crossing, columns, kept, frame.w[0], engine)
    return _problem(objective, blocks, design, transforms, kept, 1.0)


def _check_outcomes(blocks: Blocks, frame: ModelFrame) -> None:
    for k in range(len(blocks.yy)):
        S = blocks.S0(k)
        left = S[-1, -1] - S[-1, :-1] @ np.linalg.solve(S[:-1, :-1], S[:-1, -1])
        if left < EXACT_TOL * S[-1, -1]:
            raise DataError(
                f"The predictors explain the outcome without any error. {frame.formula.response!r} is a linear "
                f"combination of {frame.formula.fixed!r}. Drop the predictor that was computed from it."
            )


def starting_theta(blocks: Blocks, layout: ThetaLayout, k: int = 0) -> Array:
    """Moment estimates: spread of per-unit coefficients beyond what the residual variance explains, uncorrelated."""
    S0 = blocks.S0(k)
    p = len(S0) - 1
    beta = np.linalg.solve(S0[:p, :p], S0[:p, p])
    sigma2 = max((S0[p, p] - S0[p, :p] @ beta) / blocks.n_total, 1e-12)
    zr = blocks.zy[k] - np.einsum("apg,p->ag", blocks.zx, beta)
    rows, cols = np.tril_indices(sum(layout.q))
    zz = blocks.zz[rows == cols]
    out, offset = [], 0
    for level, q in enumerate(layout.q):
        diagonal = np.zeros((q, q))
        for a in range(q):
            size = np.maximum(zz[offset + a], 1e-12)
            coefficient = zr[offset + a] / size
            spread = float(np.average(coefficient**2, weights=size / (1.0 + 0.05 * size)))
            noise = float(np.average(sigma2 / size, weights=size / (1.0 + 0.05 * size)))
            diagonal[a, a] = np.sqrt(np.clip((spread - noise) / sigma2, 0.02, 4.0))
        out.append(diagonal)
        offset += q
        if level < len(layout.q) - 1:
            parent, n = blocks.parents[level], blocks.n_units[level + 1]
            zr = np.array([np.bincount(parent, row, minlength=n) for row in zr])
            zz = np.array([np.bincount(parent, row, minlength=n) for row in zz])
    return layout.pack(out)
