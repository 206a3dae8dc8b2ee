"""Rows of a model by cluster, weighted by the inverse of their covariance.

Equations are those of docs/small-sample.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.problem import Problem
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.likelihood.linear.recursion import UnitTree, factor, walk_down


@dataclass(frozen=True)
class Rows:
    """Standardised rows, sorted by cluster.

    ``X`` (n, p); ``OX`` and ``POX`` ΩX and ΦΩX (n, p); ``e`` residuals (n,); ``ZL`` Z_lΛ_l of every level (n, q_l);
    ``units`` the unit of every row (n,) per level; ``edges`` first row of every cluster, and n; ``whole`` whether every
    cluster is one unit of the only level; ``noise`` the rows' own variances (n,) in Φ, None where they are 1;
    ``beyond`` (J, p) what the influence of a cluster on standardised beta has beyond M X'Ωe; None for nothing.
    """

    X: Array
    OX: Array
    POX: Array
    e: Array
    ZL: list[Array]
    units: list[Array]
    edges: Array
    whole: bool
    noise: Array | None = None
    beyond: Array | None = None


def standardised_rows(problem: Problem, frame: ModelFrame, design: DesignColumns, k: int, fit: Estimate) -> Rows:
    """Give the rows of an outcome of a linear model by cluster, with the model's covariance in them."""
    order, edges, whole = by_cluster(frame)
    transform, levels = fit.transform, frame.hierarchy.levels
    raw = np.column_stack([design.x.columns[j] for j in problem.kept])[order]
    X = raw @ transform.A_x
    e = (design.y[k][order] - raw @ fit.beta) / transform.y_scale
    ZL = []
    for level, Lambda in enumerate(problem.layout.unpack(fit.point.theta)):
        ZL.append(random_of(design, level)[order] @ transform.A_z[level] @ Lambda)
    units = [level.index[order] for level in levels]
    OX = weigh_by_model(X, ZL, units, weights_of(frame, order))
    return Rows(X, OX, through_model(OX, ZL, units), e, ZL, units, edges, whole)


def by_cluster(frame: ModelFrame) -> tuple[Array, Array, bool]:
    """Give the order of the rows by cluster, the ``edges`` of the clusters in it, and ``whole``, as in `Rows`."""
    levels = frame.hierarchy.levels
    top = levels[-1].index if levels else np.arange(frame.n)
    cluster = top if frame.clusters is None else frame.clusters.psu[top]
    edges = np.concatenate([[0], np.cumsum(np.bincount(cluster))])
    whole = not levels or (len(levels) == 1 and len(edges) - 1 == levels[0].n)
    return np.argsort(cluster, kind="stable"), edges, whole


def random_of(design: DesignColumns, level: int) -> Array:
    """Raw columns (n, q) of the random effects of a level."""
    return np.column_stack([c for b in design.blocks if b.level == level for c in b.matrix.columns])


def weights_of(frame: ModelFrame, order: Array) -> tuple[Array, ...]:
    """Conditional weights of rows, in some order, and units, those of the top level relative to their mean."""
    rows = frame.w[0][order]
    return (rows, *frame.w[1:-1], frame.w[-1] / frame.w[-1].mean()) if frame.hierarchy.levels else (rows,)


def through_model(OX: Array, ZL: Sequence[Array], units: Sequence[Array]) -> Array:
    """Compute ΦΩX, Φ being I + ΣZ_lΛ_lΛ_l'Z_l'."""
    parts = (_gather(z, sum_by(z[:, :, None] * OX[:, None], u), u) for z, u in zip(ZL, units, strict=True))
    return OX + sum(parts)


def weigh_by_model(X: Array, ZL: Sequence[Array], units: Sequence[Array], w: Sequence[Array]) -> Array:
    """Compute ΩX: rows weighted by the inverse of V, with the sampling weights in it (small-sample, eqs. 11-12).

    Parameters
    ----------
    X : ndarray, shape (n, p)
    ZL : sequence of ndarray, each (n, q_l)
        Z_lΛ_l, bottom-up.
    units : sequence of ndarray of int, each (n,)
        Unit of every row, bottom-up; units are numbered so that those of one parent stand side by side.
    w : sequence of ndarray
        Conditional weights of the rows and of the units of every level.

    Returns
    -------
    ndarray, shape (n, p)
    """
    if not units:
        return X * w[0][:, None]
    n_units = [len(weight) for weight in w[1:]]
    parents = [_of_units(up, low, n) for low, up, n in zip(units, units[1:], n_units, strict=False)]
    tree = UnitTree(tuple(parents), tuple(w[1:]))
    Lambdas = [np.eye(Z.shape[1])[None] for Z in ZL]  # they stand in the columns already
    Z_all = np.hstack(ZL)
    WZ = Z_all * w[0][:, None]
    C, rhs = (sum_by(WZ[:, :, None] * V[:, None], units[0]).transpose(1, 2, 0) for V in (Z_all, X))
    # ΩX is X less the modes that its columns have as outcomes, times all weights of the rows
    left, total = X, w[0]
    modes = walk_down(tree, factor(tree, Lambdas, C[:, :, None], rhs[:, :, None]), Lambdas)
    for Z, (_, b), unit, weight in zip(ZL, modes, units, w[1:], strict=True):
        left = left - _gather(Z, b[:, :, 0].transpose(2, 0, 1), unit)
        total = total * weight[unit]
    return left * total[:, None]


def _of_units(values: Array, unit: Array, n: int) -> Array:
    """Value of any row of each unit, for values that its rows share."""
    out = np.zeros(n, dtype=np.int64)
    out[unit] = values
    return out


def sums_of(rows: Rows) -> tuple[Array, Array]:
    """Inverse of X'ΩX and X'ΩΦΩX, both (p, p)."""
    M = np.linalg.inv(rows.X.T @ rows.OX)
    return 0.5 * (M + M.T), rows.OX.T @ rows.POX


def sum_by(values: Array, unit: Array) -> Array:
    """Sum (n, ...) over the rows of every unit."""
    flat = values.reshape(len(values), -1)
    return np.array([np.bincount(unit, column) for column in flat.T]).T.reshape(-1, *values.shape[1:])


def _gather(rows: Array, by_unit: Array, unit: Array) -> Array:
    """Multiply every row (n, q) by its unit's matrix (q, m)."""
    return np.einsum("nq,nqm->nm", rows, by_unit[unit])
