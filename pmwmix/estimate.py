"""From a ModelFrame to estimates: cross-products, climb, covariance, one outcome after the other.

The stage where likelihood, optimiser and variance meet; numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg

from pmwmix.clusters import Clusters
from pmwmix.crossing import parts_of
from pmwmix.errors import DataError
from pmwmix.frame import DesignColumns, ModelFrame
from pmwmix.likelihood.crossedlinear import CrossedLinearObjective
from pmwmix.likelihood.crossedmodes import Crossing
from pmwmix.likelihood.crossproducts import Blocks, Columns, build
from pmwmix.likelihood.flat import FlatObjective
from pmwmix.likelihood.gaussian import Structure
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.objective import Objective, Point
from pmwmix.likelihood.standardise import RandomColumns, Transform, standardise
from pmwmix.optimise import Optimum, Status, minimise
from pmwmix.variance import VARIANCES, VarianceInput, inverse_along
from pmwmix.variance.small_sample import KINDS, small_sample

Array = np.ndarray
SINGULAR_TOL = 1e-5  # of a standardised standard deviation, relative to sigma
FLAT_CURVATURE = 1e-7  # curvature of the profiled likelihood below this share of the largest counts as none
EXACT_TOL = 1e-13  # share of the outcome's variation that predictors leave over when they determine it
COLLINEAR_TOL = 1e-11  # of a standardised column's squared length that the columns before it leave unexplained


@dataclass(frozen=True)
class Estimate:
    """One fit of one outcome, on the raw scale.

    Parameters
    ----------
    beta : ndarray, shape (p,)
    Psi : tuple of ndarray
        Covariance matrix of the random effects per level.
    sigma : float
    theta : ndarray, shape (n_theta,)
        Cholesky factors of Psi / sigma², lme4's theta.
    loglik : float
        (Restricted) pseudo-log-likelihood.
    vcov : ndarray, shape (P, P)
        Covariance of (beta, variance components, sigma²).
    boundary : ndarray of bool, shape (n_theta,)
        Parameters held at the boundary.
    flat : ndarray of bool, shape (n_theta,)
        Parameters that the data do not identify.
    status : Status
    converged, singular : bool
    n_steps : int
    point : Point
        On the standardised scale.
    transform : Transform
    replicates : ReplicateEstimates or None
        What the replicates gave, for functions of the parameters.
    """

    beta: Array
    Psi: tuple[Array, ...]
    sigma: float
    theta: Array
    loglik: float
    vcov: Array
    boundary: Array
    flat: Array
    status: Status
    converged: bool
    singular: bool
    n_steps: int
    point: Any
    transform: Transform
    small_df: Array | None = None
    replicates: Any = None


@dataclass(frozen=True)
class Problem:
    """One set of predictors with its cross-products, ready to be fitted for each of its outcomes.

    Parameters
    ----------
    blocks : Blocks
        With top-level weights divided by ``top_scale``.
    layout : ThetaLayout
    objective : Objective, FlatObjective or CrossedLinearObjective
    transforms : list of Transform
        One per outcome.
    kept : ndarray of int
        Fixed columns in the model; the others are collinear.
    dropped : tuple of str
    top_scale : float
    reml : bool
    """

    blocks: Blocks
    layout: ThetaLayout
    objective: Objective | FlatObjective | CrossedLinearObjective
    transforms: list[Transform]
    kept: Array
    dropped: tuple[str, ...]
    top_scale: float
    reml: bool


def layout_of(frame: ModelFrame) -> ThetaLayout:
    """Read the sizes of the random terms, level by level."""
    blocks = frame.designs[0].blocks
    levels = range(len(frame.hierarchy.levels))
    return ThetaLayout(tuple(tuple(len(b.matrix.names) for b in blocks if b.level == level) for level in levels))


def make_problem(frame: ModelFrame, design: DesignColumns, reml: bool, engine: str) -> Problem:
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
    dropped = tuple(name for j, name in enumerate(design.x.names) if j not in set(kept.tolist()))
    if dropped:
        blocks, transforms = _subset(blocks, kept), [subset_transform(t, kept) for t in transforms]
    _check_outcomes(blocks, frame)
    layout = layout_of(frame)
    objective = Objective(blocks, Structure(layout, len(kept), reml), engine)
    return Problem(blocks, layout, objective, transforms, kept, dropped, top_scale, reml)


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
    dropped = tuple(name for j, name in enumerate(design.x.names) if j not in set(kept.tolist()))
    if dropped:
        blocks, transforms = _subset(blocks, kept), [subset_transform(t, kept) for t in transforms]
    _check_outcomes(blocks, frame)
    layout = ThetaLayout(())
    objective = FlatObjective(blocks, Structure(layout, len(kept), reml), columns, kept, w)
    return Problem(blocks, layout, objective, transforms, kept, dropped, top_scale, reml)


def crossing_of(frame: ModelFrame, layout: ThetaLayout) -> Crossing:
    """Lay the crossed factors of a frame out, and check that they fit into memory."""
    levels = frame.hierarchy.levels
    index, n_units = tuple(level.index for level in levels), tuple(level.n for level in levels)
    crossing = Crossing(index, n_units, layout.q, parts_of(frame.hierarchy))
    crossing.check_size([level.name for level in levels])
    return crossing


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
    dropped = tuple(name for j, name in enumerate(design.x.names) if j not in set(kept.tolist()))
    if dropped:
        blocks, transforms = _subset(blocks, kept), [subset_transform(t, kept) for t in transforms]
    _check_outcomes(blocks, frame)
    structure = Structure(layout, len(kept), reml)
    objective = CrossedLinearObjective(blocks, structure, crossing, columns, kept, frame.w[0], engine)
    return Problem(blocks, layout, objective, transforms, kept, dropped, 1.0, reml)


def _check_outcomes(blocks: Blocks, frame: ModelFrame) -> None:
    for k in range(len(blocks.yy)):
        S = blocks.S0(k)
        left = S[-1, -1] - S[-1, :-1] @ np.linalg.solve(S[:-1, :-1], S[:-1, -1])
        if left < EXACT_TOL * S[-1, -1]:
            raise DataError(
                f"The predictors explain the outcome without any error. {frame.formula.response!r} is a linear "
                f"combination of {frame.formula.fixed!r}. Drop the predictor that was computed from it."
            )


def independent_columns(blocks: Blocks) -> Array:
    """Positions of the fixed columns that are not linear combinations of the ones before them."""
    return independent(blocks.xx @ blocks.w[-1])


def independent(S: Array) -> Array:
    """Positions of columns, given by their cross-products (p, p), that are no combination of the ones before them."""
    size = np.sqrt(np.maximum(np.diag(S), 1e-300))
    S = S / np.outer(size, size)
    kept: list[int] = []
    L = np.zeros_like(S)
    for j in range(len(S)):
        row = np.zeros(len(kept))
        for i, column in enumerate(kept):
            row[i] = (S[j, column] - row[:i] @ L[i, :i]) / L[i, i]
        left = S[j, j] - row @ row
        if left > COLLINEAR_TOL:
            i = len(kept)
            L[i, :i], L[i, i] = row, np.sqrt(left)
            kept.append(j)
    return np.array(kept, dtype=int)


def _subset(blocks: Blocks, kept: Array) -> Blocks:
    return replace(
        blocks, zx=blocks.zx[:, kept], xx=np.ascontiguousarray(blocks.xx[np.ix_(kept, kept)]), xy=blocks.xy[:, kept]
    )


def subset_transform(transform: Transform, kept: Array) -> Transform:
    """Keep some of the fixed columns."""
    intercept = transform.intercept
    place = None if intercept is None else int(np.flatnonzero(kept == intercept)[0])
    return replace(transform, A_x=transform.A_x[np.ix_(kept, kept)], intercept=place)


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


def estimate(problem: Problem, k: int, start: Array | None, vcov: str, clusters: Clusters | None) -> Estimate:
    """Fit outcome ``k``: climb from ``start``, judge, and return to the raw scale."""
    objective, layout = problem.objective, problem.layout
    begin = start
    if begin is None:
        crossed = isinstance(objective, CrossedLinearObjective)
        begin = layout.start(0.4) if crossed else starting_theta(problem.blocks, layout, k)
    optimum = minimise(
        lambda theta: objective.at(theta, k),
        begin,
        scale=max(objective.n_free, 1.0),
        boundary=layout.boundary_candidates,
    )
    point = optimum.point
    boundary = boundary_parameters(layout, point.theta)
    flat = flat_directions(point, boundary)
    singular = bool(boundary.any())
    status = optimum.status
    if optimum.converged:
        status = Status.FLAT if flat.shape[1] else Status.SINGULAR if singular else Status.CONVERGED
    transform = problem.transforms[k]
    basis = moving_basis(len(point.beta), boundary, flat)
    V = _covariance(problem, point, basis, k, vcov, clusters)
    J = transform.jacobian(layout, point.theta, point.sigma)
    V = J @ V @ J.T
    sigma = transform.y_scale * point.sigma
    return Estimate(
        beta=transform.beta(point.beta),
        Psi=tuple(transform.Psi(layout, point.theta, point.sigma)),
        sigma=sigma,
        theta=transform.theta(layout, point.theta),
        loglik=_loglik(problem, point, transform),
        vcov=V,
        boundary=boundary,
        flat=np.abs(flat).max(axis=1, initial=0.0) > 0.01,
        status=status,
        converged=optimum.converged,
        singular=singular,
        n_steps=optimum.n_steps,
        point=_light(point),
        transform=transform,
    )


def _light(point: Point) -> Point:
    """Forget the raw outputs of the graph, which are as long as there are units."""
    return replace(point, raw={})


def _loglik(problem: Problem, point: Point, transform: Transform) -> float:
    n = problem.objective.n_free
    value = -point.value - n * np.log(transform.y_scale)
    if problem.reml:
        value += np.linalg.slogdet(transform.A_x)[1]
    return float(problem.top_scale * value)


def boundary_parameters(layout: ThetaLayout, theta: Array) -> Array:
    """Mark the parameters of zero columns of Λ: a variance of zero, or a correlation of one."""
    out = np.zeros(layout.n_theta, dtype=bool)
    for Lambda, entries in zip(layout.unpack(theta), layout.entries, strict=True):
        zero = np.diag(Lambda) <= SINGULAR_TOL
        for _, j, k in entries:
            out[k] = zero[j]
    return out


def flat_directions(point: Any, boundary: Array) -> Array:
    """Orthonormal directions (n_theta, m) in which the profiled likelihood does not curve: not identified."""
    return directions_without_curvature(point.hessian, boundary)


def directions_without_curvature(hessian: Array, boundary: Array) -> Array:
    """Do the same, given the Hessian of the profiled likelihood (n_theta, n_theta)."""
    free = np.flatnonzero(~boundary)
    out = np.zeros((len(boundary), 0))
    if not len(free):
        return out
    values, vectors = np.linalg.eigh(hessian[np.ix_(free, free)])
    flat = values < FLAT_CURVATURE * max(float(values.max()), 1e-300)
    out = np.zeros((len(boundary), int(flat.sum())))
    out[free] = vectors[:, flat]
    return out


def moving_basis(p: int, boundary: Array, flat: Array) -> Array:
    """Orthonormal basis (P, r) of the directions that are neither on the boundary nor flat."""
    t = len(boundary)
    fixed = np.hstack([np.eye(t)[:, boundary], flat])
    inside = scipy.linalg.null_space(fixed.T) if fixed.shape[1] else np.eye(t)
    return scipy.linalg.block_diag(np.eye(p), inside, np.eye(1))


def variance_input(
    problem: Problem, point: Point, basis: Array, k: int, clusters: Clusters | None, scored: bool = True
) -> VarianceInput:
    """Gather what a variance method may use, on the standardised scale and at the actual scale of the weights."""
    p, scale = len(point.beta), problem.top_scale
    scores = scale * problem.objective.scores(point, k) if scored else None
    n_top = 1 if scores is None else len(scores)
    information = scale * point.information
    if clusters is None:
        return VarianceInput(information, scores, p, basis, np.arange(n_top), np.zeros(n_top, dtype=np.int64))
    return VarianceInput(
        information, scores, p, basis, clusters.psu, clusters.stratum, clusters.fraction, clusters.lonely
    )


def _covariance(problem: Problem, point: Point, basis: Array, k: int, vcov: str, clusters: Clusters | None) -> Array:
    method: Callable[[VarianceInput], Array] = VARIANCES[vcov]
    return method(variance_input(problem, point, basis, k, clusters, scored=vcov != "model"))


def satterthwaite(problem: Problem, fit: Estimate) -> Array:
    """Satterthwaite degrees of freedom of every coefficient, 2 V² / Var(V) (Kuznetsova et al. 2017; theory, eq. 26).

    Parameters
    ----------
    problem : Problem
    fit : Estimate

    Returns
    -------
    ndarray, shape (p,)
    """
    point, p = fit.point, len(fit.beta)
    S = np.asarray(problem.objective.at(point.theta).raw["S_xx"])
    basis = moving_basis(p, fit.boundary, flat_directions(point, fit.boundary))
    A = inverse_along(point.information * problem.top_scale, basis)[p:, p:]
    U = np.linalg.solve(S, fit.transform.A_x.T)  # S⁻¹ A_x' e_c for every raw coefficient c
    V = point.sigma**2 * np.einsum("cb,bc->c", fit.transform.A_x, U)
    by_theta = -(point.sigma**2) * problem.objective.contrast_derivative(point.theta, U).T
    gradient = np.concatenate([by_theta, 2.0 * V[:, None]], axis=1)
    return 2.0 * V**2 / np.einsum("ck,kl,cl->c", gradient, A, gradient)


def _few_clusters(
    problem: Problem, frame: ModelFrame, design: DesignColumns, k: int, fit: Estimate, kind: str
) -> Estimate:
    """Put the small-sample covariance of the coefficients, apart from the variance parameters, in its place."""
    small, df = small_sample(problem, frame, design, k, fit, kind)
    p = len(fit.beta)
    return replace(fit, vcov=scipy.linalg.block_diag(small, fit.vcov[p:, p:]), small_df=df)


def fit_all(
    frame: ModelFrame,
    reml: bool,
    vcov: str,
    engine: str,
    progress: Callable[[Sequence[Any]], Any] = iter,
) -> tuple[list[Estimate], list[tuple[Problem, int]]]:
    """Fit every plausible value, each climb starting where the one before ended."""
    fits: list[Estimate] = []
    places: list[tuple[Problem, int]] = []
    start: Array | None = None
    jobs = [(d, k) for d, design in enumerate(frame.designs) for k in range(len(design.y))]
    problem: Problem | None = None
    for d, k in progress(jobs):
        if k == 0:
            problem = make_problem(frame, frame.designs[d], reml, engine)
        assert problem is not None
        fit = estimate(problem, k, start, vcov, frame.clusters)
        if start is not None and not fit.converged:
            fit = estimate(problem, k, None, vcov, frame.clusters)
        if vcov in KINDS:
            fit = _few_clusters(problem, frame, frame.designs[d], k, fit, vcov)
        start = None if fit.singular or not fit.converged else fit.point.theta
        fits.append(fit)
        places.append((problem, k))
    return fits, places


__all__ = ["Estimate", "Optimum", "Problem", "estimate", "fit_all", "make_problem", "satterthwaite"]
