"""From a ModelFrame to estimates of a generalised model: start, climb, judge, raise the number of nodes if need be.

The counterpart of `estimate.py` for likelihoods without a closed form; numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg

from pmwmix.clusters import Clusters
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.estimate import (
    COLLINEAR_TOL,
    Estimate,
    boundary_parameters,
    flat_directions,
    layout_of,
    moving_basis,
)
from pmwmix.families import FAMILIES, Family
from pmwmix.frame import DesignColumns, ModelFrame
from pmwmix.likelihood.crossproducts import Blocks
from pmwmix.likelihood.integrated import IntegratedObjective, IntegratedPoint, RowArrays
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.marginal import MarginalStructure
from pmwmix.likelihood.modes import conditional_covariances
from pmwmix.likelihood.smallmat import UNROLL
from pmwmix.likelihood.standardise import RandomColumns, Transform, standardise
from pmwmix.likelihood.tiles import cut
from pmwmix.links import LINKS, Link
from pmwmix.optimise import FAR, Status, minimise
from pmwmix.outcome import Response
from pmwmix.variance import VARIANCES, VarianceInput, inverse_along

Array = np.ndarray
CELLS = 400_000  # rows x nodes x parameters that are held at once for one intermediate of the Hessian
MIN_ROWS, MAX_ROWS = 512, 16_384  # per chunk
LADDER = (3, 5, 7, 11, 15, 21, 31)  # numbers of nodes that the automatic choice goes through
STILL = 0.1  # of a standard error: estimates that move less from one rung to the next have settled
SEPARATED = 20.0  # standard error of a standardised coefficient that no data with both outcomes everywhere gives


@dataclass(frozen=True)
class GeneralProblem:
    """One set of predictors, ready to be fitted for each of its outcomes.

    Parameters
    ----------
    layout : ThetaLayout
    structure : MarginalStructure
    objective : IntegratedObjective
    transform : Transform
        Between the standardised and the raw scale; the fixed columns of ``kept``, the intercept included.
    kept : ndarray of int
        Fixed columns in the model; without the intercept where thresholds stand in for it.
    dropped : tuple of str
    top_scale : float
    responses : list of Response
    constants : list of float
        Weighted sum of what the log-densities do not depend on, at the scale of the weights used.
    names : tuple of str
        Of the kept fixed columns.
    n_total : float
        Weighted number of rows.
    tree : (tuple of ndarray, tuple of ndarray)
        Parents and weights of the units, bottom-up.
    """

    layout: ThetaLayout
    structure: MarginalStructure
    objective: IntegratedObjective
    transform: Transform
    kept: Array
    dropped: tuple[str, ...]
    top_scale: float
    responses: list[Response]
    constants: list[float]
    names: tuple[str, ...]
    n_total: float
    tree: tuple[tuple[Array, ...], tuple[Array, ...]]
    reml: bool = False

    @property
    def family(self) -> Family:
        """The distribution."""
        return FAMILIES[self.structure.family]

    @property
    def link(self) -> Link:
        """The link function."""
        return LINKS[self.structure.link]


@dataclass(frozen=True)
class GeneralEstimate(Estimate):
    """One fit of one outcome of a generalised model, on the raw scale.

    Parameters
    ----------
    terms : tuple of str
        Names of ``beta``: thresholds first in an ordinal model.
    eta_beta : ndarray, shape (p,)
        Coefficients of the linear predictor alone.
    phi : ndarray, shape (n_phi,)
        Further parameters of the family on the working scale.
    reported : dict
        The same as they are reported.
    reported_vcov : ndarray
    n_agq : tuple of int
        Nodes per dimension and level.
    moved : float
        Largest change of an estimate, in standard errors, when the nodes are next increased; NaN if that was not
        tried.
    modes : list of (ndarray (G_l, q_l), ndarray (G_l, q_l))
        Conditional modes of the random effects on the raw scale and their standard errors, bottom-up.
    """

    terms: tuple[str, ...] = ()
    eta_beta: Any = None
    phi: Any = None
    reported: Any = None
    reported_vcov: Any = None
    n_agq: tuple[int, ...] = ()
    moved: float = float("nan")
    modes: Any = None  # list of (b, se), see `modes_of`


def node_numbers(n_agq: Any, layout: ThetaLayout, names: Sequence[str]) -> tuple[int, ...] | None:
    """Check the numbers of nodes against the levels; None asks for the automatic choice.

    Raises
    ------
    OptionError, NotSupportedError
    """
    if n_agq is None:
        return None
    many = tuple(n_agq) if isinstance(n_agq, tuple | list) else (n_agq,) * len(layout.q)
    if len(many) != len(layout.q):
        raise OptionError(
            f"There is one number of nodes per level. Got n_agq={n_agq!r} for {len(layout.q)} levels "
            f"({', '.join(names)}). Give as many numbers, lowest level first, or a single one."
        )
    for n, q, name in zip(many, layout.q, names, strict=True):
        if n > 1 and q > UNROLL:
            raise NotSupportedError(
                f"Several nodes per dimension are there for up to {UNROLL} random effects per group. Level {name!r} has "
                f"{q}, which would take {n}^{q} nodes. Use n_agq=1 (Laplace) there."
            )
        if n**q > 100_000:
            raise OptionError(
                f"So many nodes do not fit into memory. Level {name!r} with {q} random effects has {n}^{q} of them. "
                f"Use fewer."
            )
    return many


def make_general(
    frame: ModelFrame, design: DesignColumns, engine: str, n_agq: tuple[int, ...], chunk_cells: int | None = None
) -> GeneralProblem:
    """Standardise, drop collinear columns, cut the rows into chunks and set up the objective."""
    hierarchy = frame.hierarchy
    family = FAMILIES[frame.family]
    random = [RandomColumns(b.level, b.matrix.names, b.matrix.columns) for b in design.blocks]
    names = list(design.x.names)
    columns, transforms = standardise(design.x.columns, names, random, [np.zeros(frame.n)])
    top_scale = float(frame.w[-1].mean())
    w_levels = (*frame.w[1:-1], frame.w[-1] / top_scale)
    total = _cumulated(frame.w[0], w_levels, hierarchy.row_parents)
    standard = {int(j): _standard(columns, int(j)) for j in {*columns.x.tolist(), *columns.z.tolist()}}
    X = [standard[int(j)] for j in columns.x]
    kept = independent([x if x is not None else np.ones(frame.n) for x in X], total)
    dropped = tuple(name for j, name in enumerate(names) if j not in set(kept.tolist()))
    transform = _subset(transforms[0], kept)
    in_model = kept if family.has_intercept else np.array([j for j in kept if names[j] != "Intercept"], dtype=int)
    layout = layout_of(frame)
    response = design.responses[0]
    structure = MarginalStructure(
        layout=layout,
        p=len(in_model),
        family=frame.family,
        link=frame.link,
        n_phi=family.n_phi(response),
        ones=tuple(name == "Intercept" for term in random for name in term.names),
        adaptive=tuple(n > 1 for n in n_agq),
    )
    rows = RowArrays(
        [X[j] for j in in_model],
        [standard[int(j)] for j in columns.z],
        np.zeros(frame.n) if design.offset is None else design.offset,
        frame.w[0],
        design.y,
        [one.extra for one in design.responses],
    )
    size = structure.p + layout.n_theta + structure.n_phi
    nodes = int(np.prod([n**q for n, q in zip(n_agq, layout.q, strict=True)]))
    per_chunk = int(np.clip((chunk_cells or CELLS) // (nodes * size), MIN_ROWS, MAX_ROWS))
    chunks = cut(hierarchy.order, hierarchy.starts, hierarchy.parents, w_levels, per_chunk)
    return GeneralProblem(
        layout=layout,
        structure=structure,
        objective=IntegratedObjective(structure, chunks, rows, n_agq, engine),
        transform=transform,
        kept=in_model,
        dropped=dropped,
        top_scale=top_scale,
        responses=design.responses,
        constants=[float(total @ one.constant) for one in design.responses],
        names=tuple(names[j] for j in in_model),
        n_total=float(total.sum()),
        tree=(hierarchy.parents, w_levels),
    )


def _standard(columns: Any, j: int) -> Array:
    scaler = columns.scaler
    return np.ascontiguousarray((columns.values[j] - scaler.shift[j]) / scaler.scale[j])


def _cumulated(w_rows: Array, w_levels: Sequence[Array], parents: Sequence[Array]) -> Array:
    """Weight of every row in the whole likelihood: the product over the levels."""
    out, index = np.array(w_rows, dtype=float), np.arange(len(w_rows))
    for parent, w in zip(parents, w_levels, strict=True):
        index = parent[index]
        out = out * w[index]
    return out


def independent(X: Sequence[Array], w: Array) -> Array:
    """Positions of the columns that are not linear combinations of the ones before them."""
    p = len(X)
    S = np.array([[float(np.dot(w * X[i], X[j])) if j <= i else 0.0 for j in range(p)] for i in range(p)])
    S = S + np.tril(S, -1).T
    size = np.sqrt(np.maximum(np.diag(S), 1e-300))
    S = S / np.outer(size, size)
    kept: list[int] = []
    L = np.zeros_like(S)
    for j in range(p):
        row = scipy.linalg.solve_triangular(L[: len(kept), : len(kept)], S[kept, j], lower=True) if kept else np.zeros(0)
        left = S[j, j] - row @ row
        if left > COLLINEAR_TOL:
            L[len(kept), : len(kept)], L[len(kept), len(kept)] = row, np.sqrt(left)
            kept.append(j)
    return np.array(kept, dtype=int)


def _subset(transform: Transform, kept: Array) -> Transform:
    intercept = transform.intercept
    place = None if intercept is None else int(np.flatnonzero(kept == intercept)[0])
    return replace(transform, A_x=transform.A_x[np.ix_(kept, kept)], intercept=place)


def starting_point(problem: GeneralProblem, k: int) -> Array:
    """Least squares of the family's starting linear predictor on the fixed columns; random effects of moderate size."""
    rows, response = problem.objective.rows, problem.responses[k]
    eta, phi = problem.family.start(problem.link, response, rows.w)
    beta = np.zeros(problem.structure.p)
    if problem.structure.p:
        X = np.array(rows.X)
        left = eta - rows.offset
        G = (X * rows.w) @ X.T
        beta = np.linalg.solve(G + 1e-9 * np.trace(G) / len(G) * np.eye(len(G)), (X * rows.w) @ left)
    return np.concatenate([beta, problem.layout.start(0.5), phi])


def estimate_general(
    problem: GeneralProblem, k: int, start: Array | None, vcov: str, clusters: Clusters | None
) -> GeneralEstimate:
    """Fit outcome ``k``: climb from ``start``, judge, and return to the raw scale."""
    objective, layout, p = problem.objective, problem.layout, problem.structure.p
    t = layout.n_theta

    def boundary(psi: Array) -> list[Array]:
        return [np.concatenate([psi[:p], theta, psi[p + t :]]) for theta in layout.boundary_candidates(psi[p : p + t])]

    begin = starting_point(problem, k) if start is None else start
    optimum = minimise(lambda psi: objective.at(psi, k), begin, scale=max(problem.n_total, 1.0), boundary=boundary)
    return judge(problem, k, optimum, vcov, clusters)


def judge(problem: GeneralProblem, k: int, optimum: Any, vcov: str, clusters: Clusters | None) -> GeneralEstimate:
    """Turn the end of a climb into an estimate on the raw scale."""
    objective, layout, p = problem.objective, problem.layout, problem.structure.p
    t, point = layout.n_theta, optimum.point
    theta = point.theta[p : p + t]
    at_boundary = boundary_parameters(layout, theta)
    flat = _flat(point, at_boundary, p, t)
    basis = _basis(p, at_boundary, flat, problem.structure.n_phi)
    singular, converged, status = bool(at_boundary.any()), optimum.converged, optimum.status
    V = _covariance(problem, point, basis, vcov, clusters)
    separated = _separated(problem, point, basis)
    if separated or np.abs(point.theta[:p]).max(initial=0.0) > FAR:
        status, converged = Status.SEPARATED, False
    elif converged:
        status = Status.FLAT if flat.any() else Status.SINGULAR if singular else Status.CONVERGED
    map_ = raw_map(problem, k, point.theta)
    V = map_.jacobian @ V @ map_.jacobian.T
    n_coef, n_extra = len(map_.coef), len(map_.reported)
    light = replace_point(point)
    return GeneralEstimate(
        beta=map_.coef,
        Psi=tuple(map_.Psi),
        sigma=map_.sigma,
        theta=map_.theta,
        loglik=float(problem.top_scale * -point.value + problem.top_scale * problem.constants[k]),
        vcov=V[: n_coef + t, : n_coef + t],
        boundary=at_boundary,
        flat=flat,
        status=status,
        converged=converged,
        singular=singular,
        n_steps=optimum.n_steps,
        point=light,
        transform=problem.transform,
        terms=map_.terms,
        eta_beta=map_.eta_beta,
        phi=point.theta[p + t :],
        reported=map_.reported,
        reported_vcov=V[n_coef + t :, n_coef + t :] if n_extra else np.zeros((0, 0)),
        n_agq=objective.n_agq,
        modes=modes_of(problem, point, k),
    )


def replace_point(point: IntegratedPoint) -> IntegratedPoint:
    """Keep the point with its Hessian, without what is as long as there are units."""
    kept = replace(point, modes=[], scores=np.zeros((0, len(point.theta))))
    kept._hessian.append(point.hessian)
    return kept


def _flat(point: Any, at_boundary: Array, p: int, t: int) -> Array:
    """Mark covariance parameters that the data do not identify."""
    H = point.hessian
    others = np.ones(len(H), dtype=bool)
    others[p : p + t] = False
    A = H[p : p + t, p : p + t]
    if others.any():
        cross = H[p : p + t][:, others]
        A = A - cross @ np.linalg.lstsq(H[np.ix_(others, others)], cross.T, rcond=None)[0]

    @dataclass
    class Profiled:
        hessian: Array

    directions = flat_directions(Profiled(A), at_boundary)
    return np.abs(directions).max(axis=1, initial=0.0) > 0.01


def _basis(p: int, at_boundary: Array, flat: Array, n_phi: int) -> Array:
    inside = np.eye(len(at_boundary))[:, ~(at_boundary | flat)]
    return scipy.linalg.block_diag(np.eye(p), inside, np.eye(n_phi))


def general_variance_input(
    problem: GeneralProblem, point: Any, basis: Array, vcov: str, clusters: Clusters | None
) -> VarianceInput:
    """Gather what a variance method may use, at the actual scale of the weights."""
    scale, size = problem.top_scale, len(point.theta)
    scores = scale * point.scores
    p = problem.structure.p if vcov == "robust-block" else size
    information, n_top = scale * point.hessian, len(scores)
    if clusters is None:
        return VarianceInput(information, scores, p, basis, np.arange(n_top), np.zeros(n_top, dtype=np.int64))
    return VarianceInput(
        information, scores, p, basis, clusters.psu, clusters.stratum, clusters.fraction, clusters.lonely
    )


def _covariance(problem: GeneralProblem, point: Any, basis: Array, vcov: str, clusters: Clusters | None) -> Array:
    method: Callable[[VarianceInput], Array] = VARIANCES[vcov]
    return method(general_variance_input(problem, point, basis, vcov, clusters))


def _separated(problem: GeneralProblem, point: Any, basis: Array) -> bool:
    """Whether a coefficient runs off to infinity: huge, and known with no precision at all."""
    p = problem.structure.p
    if not p:
        return False
    V = inverse_along(point.hessian, basis)
    error = np.sqrt(np.maximum(np.diag(V)[:p], 0.0))
    return bool(((error > SEPARATED) & (np.abs(point.theta[:p]) > 3.0)).any() or not np.isfinite(error).all())


@dataclass(frozen=True)
class RawMap:
    """Parameters on the raw scale, and the Jacobian of (coef, variance components, reported) in (beta, theta, phi)."""

    terms: tuple[str, ...]
    coef: Array
    eta_beta: Array
    Psi: list[Array]
    theta: Array
    reported: dict[str, float]
    sigma: float
    jacobian: Array


def raw_map(problem: GeneralProblem, k: int, psi: Array) -> RawMap:
    """Undo the standardisation (theory, eqs. 14-15)."""
    layout, transform, family = problem.layout, problem.transform, problem.family
    p, t = problem.structure.p, layout.n_theta
    beta, theta, phi = psi[:p], psi[p : p + t], psi[p + t :]
    reported, J_phi = family.parameters(phi)
    A_x, shift = transform.A_x, np.zeros(p)
    if not family.has_intercept and transform.intercept is not None:
        others = np.arange(len(A_x)) != transform.intercept
        shift, A_x = A_x[transform.intercept, others], A_x[np.ix_(others, others)]
    raw = A_x @ beta
    base = replace(transform, A_x=np.zeros((0, 0)), intercept=None)
    J_theta = base.jacobian(layout, theta, 1.0)[:-1, :-1]
    if family.has_intercept:
        terms, coef = problem.names, raw
        J_coef = np.hstack([A_x, np.zeros((p, t + len(phi)))])
    else:
        labels = problem.responses[k].categories
        cuts = np.array(list(reported.values())) - shift @ beta
        terms = (*(f"{a}|{b}" for a, b in zip(labels[:-1], labels[1:], strict=True)), *problem.names)
        coef = np.concatenate([cuts, raw])
        top = np.hstack([np.tile(-shift, (len(cuts), 1)), np.zeros((len(cuts), t)), J_phi])
        J_coef = np.vstack([top, np.hstack([A_x, np.zeros((p, t + len(phi)))])])
        reported, J_phi = {}, np.zeros((0, len(phi)))
    J = np.vstack(
        [
            J_coef,
            np.hstack([np.zeros((t, p)), J_theta, np.zeros((t, len(phi)))]),
            np.hstack([np.zeros((len(reported), p + t)), J_phi]),
        ]
    )
    sigma = reported.get("sigma", np.sqrt(reported["dispersion"]) if "dispersion" in reported else 1.0)
    return RawMap(
        terms, coef, raw, transform.Psi(layout, theta, 1.0), transform.theta(layout, theta), reported, float(sigma), J
    )


def modes_of(problem: GeneralProblem, point: IntegratedPoint, k: int) -> list[tuple[Array, Array]]:
    """Conditional modes b (G_l, q_l) on the raw scale, and their standard errors, per level bottom-up."""
    objective, layout, transform = problem.objective, problem.layout, problem.transform
    p, t = problem.structure.p, layout.n_theta
    theta = point.theta[p : p + t]
    u = objective.modes(point)
    Lambdas = layout.unpack(theta)
    none = np.zeros((0, 0, 0))
    blocks = Blocks(objective.curvature(point), none, none, none, none, none, np.zeros(0), *problem.tree)
    V = conditional_covariances(blocks, layout, theta)
    out = []
    for values, L, A, cov in zip(u, Lambdas, transform.A_z, V, strict=True):
        b = (L @ values).T @ A.T
        variance = np.einsum("ia,gab,ib->gi", A, cov, A)
        out.append((b, np.sqrt(np.maximum(variance, 0.0))))
    return out


def fit_general(
    frame: ModelFrame,
    vcov: str,
    engine: str,
    n_agq: Any,
    progress: Callable[[Sequence[Any]], Any] = iter,
    chunk_cells: int | None = None,
) -> tuple[list[GeneralEstimate], list[tuple[GeneralProblem, int]]]:
    """Fit every plausible value, each climb starting where the one before ended.

    Parameters
    ----------
    frame : ModelFrame
    vcov, engine : str
    n_agq : int, tuple of int or None
    progress : callable
    chunk_cells : int, optional

    Returns
    -------
    list of GeneralEstimate
    list of (GeneralProblem, int)
        Problem and number of the outcome in it.
    """
    if not frame.hierarchy.levels:
        raise NotSupportedError(
            f"A generalised model needs a random term. The formula {frame.formula.text!r} has none. "
            f"Add one such as (1 | school), or use a package for generalised linear models."
        )
    layout = layout_of(frame)
    nodes = node_numbers(n_agq, layout, frame.level_names[1:])
    fits: list[GeneralEstimate] = []
    places: list[tuple[GeneralProblem, int]] = []
    start: Array | None = None
    jobs = [(d, k) for d, design in enumerate(frame.designs) for k in range(len(design.y))]
    problem: GeneralProblem | None = None
    for d, k in progress(jobs):
        if k == 0:
            first = nodes or _lowest_rung(layout)
            problem = make_general(frame, frame.designs[d], engine, first, chunk_cells)
        assert problem is not None
        fit, problem = _climb_ladder(problem, k, start, vcov, frame.clusters, nodes is None)
        if start is not None and not fit.converged:
            fit, problem = _climb_ladder(problem, k, None, vcov, frame.clusters, nodes is None)
        start = None if fit.singular or not fit.converged else fit.point.theta
        fits.append(fit)
        places.append((problem, k))
    return fits, places


def _rungs(layout: ThetaLayout) -> list[tuple[int, ...]]:
    """Numbers of nodes per level, from few to many; a level with many effects keeps to Laplace."""
    most = {1: 31, 2: 15, 3: 7}
    return [tuple(min(n, most.get(q, 1)) for q in layout.q) for n in LADDER]


def _lowest_rung(layout: ThetaLayout) -> tuple[int, ...]:
    return _rungs(layout)[1 if max(layout.q) == 1 and len(layout.q) == 1 else 0]


def _climb_ladder(
    problem: GeneralProblem, k: int, start: Array | None, vcov: str, clusters: Clusters | None, automatic: bool
) -> tuple[GeneralEstimate, GeneralProblem]:
    """Fit, and while the estimates would still move with more nodes, fit again with more."""
    fit = estimate_general(problem, k, start, vcov, clusters)
    if not automatic:
        return fit, problem
    moved = float("nan")
    for n_agq in _rungs(problem.layout):
        if n_agq <= problem.objective.n_agq or n_agq == problem.objective.n_agq:
            continue
        finer = with_nodes(problem, n_agq)
        moved = movement(finer, fit, k)
        if moved < STILL or not fit.converged:
            break
        problem = finer
        fit = estimate_general(problem, k, fit.point.theta, vcov, clusters)
        moved = float("nan")
    return replace(fit, moved=moved), problem


def with_nodes(problem: GeneralProblem, n_agq: tuple[int, ...]) -> GeneralProblem:
    """Give the same problem with other numbers of nodes."""
    structure = replace(problem.structure, adaptive=tuple(n > 1 for n in n_agq))
    return replace(problem, structure=structure, objective=problem.objective.with_nodes(n_agq, structure))


def movement(finer: GeneralProblem, fit: GeneralEstimate, k: int) -> float:
    """How far one Newton step on the finer rule takes the estimates, in standard errors; the largest over them."""
    point, p, t = finer.objective.at(fit.point.theta, k), finer.structure.p, finer.layout.n_theta
    basis = _basis(p, fit.boundary, fit.flat, finer.structure.n_phi)
    V = inverse_along(fit.point.hessian, basis)
    step, error = V @ point.gradient, np.sqrt(np.maximum(np.diag(V), 0.0))
    moving = error > 0
    return float(np.max(np.abs(step[moving]) / error[moving], initial=0.0)) if t else 0.0
