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
from pmwmix.errors import NotSupportedError
from pmwmix.estimate import (
    Estimate,
    boundary_parameters,
    directions_without_curvature,
    layout_of,
)
from pmwmix.frame import ModelFrame
from pmwmix.generalproblem import GeneralProblem, all_parameters, make_general, node_numbers, raw_map, with_nodes
from pmwmix.likelihood.crossedobjective import CrossedObjective
from pmwmix.likelihood.crossproducts import Blocks
from pmwmix.likelihood.integrated import IntegratedPoint
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.modes import conditional_covariances
from pmwmix.links import ProbabilityLink
from pmwmix.optimise import FAR, Status, minimise
from pmwmix.variance import VARIANCES, VarianceInput, inverse_along
from pmwmix.variance.small_sample import KINDS

Array = np.ndarray
LADDER = (3, 5, 7, 11, 15, 21, 31)  # numbers of nodes that the automatic choice goes through
MOST = {1: 31, 2: 15, 3: 7}  # nodes per dimension by the number of random effects of a level; Laplace beyond
STILL = 0.1  # of a standard error: estimates that move less from one rung to the next have settled
SEPARATED = 20.0  # standard error of a standardised coefficient that no data with both outcomes everywhere gives


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
    latent : float
        Variance of level 1 on the scale of the linear predictor.
    joint : ndarray
        Covariance of (coefficients, variance components, ``latent``, ``reported``).
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
    latent: float = float("nan")
    joint: Any = None
    n_agq: tuple[int, ...] = ()
    moved: float = float("nan")
    modes: Any = None  # list of (b, se), see `modes_of`

    @property
    def reported_vcov(self) -> Array:
        """Covariance of the reported parameters of the family."""
        return self.joint[len(self.vcov) + 1 :, len(self.vcov) + 1 :]

    def with_covariance(self, joint: Array) -> GeneralEstimate:
        """Give the same estimate with another covariance of everything."""
        return replace(self, joint=joint, vcov=joint[: len(self.vcov), : len(self.vcov)])


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


@dataclass
class _Held:
    """A point of which only some parameters are free."""

    point: Any
    free: Array
    costly = True

    @property
    def theta(self) -> Array:
        return self.point.theta[self.free]

    @property
    def value(self) -> float:
        return self.point.value

    @property
    def gradient(self) -> Array:
        return self.point.gradient[self.free]

    @property
    def hessian(self) -> Array:
        return self.point.hessian[np.ix_(self.free, self.free)]


def without_random_part(
    problem: GeneralProblem, k: int, fit: GeneralEstimate, vcov: str, clusters: Clusters | None
) -> GeneralEstimate:
    """Fit the same model with all random effects held at zero: a generalised linear model."""
    p, t = problem.structure.p, problem.layout.n_theta
    free = np.r_[:p, p + t : len(fit.point.theta)]
    begin = np.where(np.isin(np.arange(len(fit.point.theta)), free), fit.point.theta, 0.0)

    def at(values: Array) -> _Held:
        psi = begin.copy()
        psi[free] = values
        return _Held(problem.objective.at(psi, k), free)

    found = minimise(at, begin[free], scale=max(problem.n_total, 1.0))
    return judge(problem, k, replace(found, point=found.point.point), vcov, clusters)


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
    if _separated(problem, point, basis):
        status, converged = Status.SEPARATED, False
    elif converged:
        status = Status.FLAT if flat.any() else Status.SINGULAR if singular else Status.CONVERGED
    map_ = raw_map(problem, k, point.theta)
    values, J = all_parameters(problem, k, point.theta, map_)
    joint, n = J @ V @ J.T, len(map_.coef) + t
    light = replace_point(point)
    return GeneralEstimate(
        beta=map_.coef,
        Psi=tuple(map_.Psi),
        sigma=map_.sigma,
        theta=map_.theta,
        loglik=float(problem.top_scale * -point.value + problem.top_scale * problem.constants[k]),
        vcov=joint[:n, :n],
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
        phi=map_.phi,
        reported=map_.reported,
        latent=float(values[n]),
        joint=joint,
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
    directions = directions_without_curvature(A, at_boundary)
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
    """Whether a coefficient runs off to infinity: huge, and known with no precision at all.

    Other links than to probabilities and logarithms have a linear predictor in units of the outcome, large or not.
    """
    p = problem.structure.p
    if not p or not (isinstance(problem.link, ProbabilityLink) or problem.link.name == "log"):
        return False
    V = inverse_along(point.hessian, basis)
    size, error = np.abs(point.theta[:p]), np.sqrt(np.maximum(np.diag(V)[:p], 0.0))
    if not np.isfinite(error).all():
        return True
    X = np.array(problem.objective.rows.X)
    alike = np.sqrt(np.maximum(np.diag(np.linalg.pinv(X @ X.T / X.shape[1], hermitian=True)), 1.0))
    reach = np.abs(X).max(axis=1) * size  # what the coefficient adds to the linear predictor at most
    # predictors much alike have large coefficients and errors as well, and that is no separation
    return bool(((size / alike > FAR) | ((error / alike > SEPARATED) & (reach > 1.0))).any())


def modes_of(problem: GeneralProblem, point: IntegratedPoint, k: int) -> list[tuple[Array, Array]]:
    """Conditional modes b (G_l, q_l) on the raw scale, and their standard errors, per level bottom-up."""
    objective, layout, transform = problem.objective, problem.layout, problem.transform
    p, t = problem.structure.p, layout.n_theta
    theta = point.theta[p : p + t]
    u = objective.modes(point)
    Lambdas = layout.unpack(theta)
    if isinstance(objective, CrossedObjective):
        V = objective.covariances(point)
    else:
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
    if vcov in KINDS:
        raise NotSupportedError(
            f"Small-sample variances are defined for linear models. Asked for vcov={vcov!r} with family="
            f"{frame.family!r}. Use vcov='robust', which has the factor J / (J - 1) of CR1."
        )
    if not frame.hierarchy.levels:
        raise NotSupportedError(
            f"A generalised model needs a random term. The formula {frame.formula.text!r} has none. "
            f"Add one such as (1 | school), or use a package for generalised linear models."
        )
    layout = layout_of(frame)
    nodes = node_numbers(n_agq, layout, frame.level_names[1:], bool(frame.hierarchy.crossed))
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
    return [tuple(min(n, MOST.get(q, 1)) for q in layout.q) for n in LADDER]


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
        if n_agq <= problem.objective.n_agq:
            continue
        finer = with_nodes(problem, n_agq)
        moved = movement(finer, fit, k)
        if moved < STILL or not fit.converged:
            break
        problem = finer
        fit = estimate_general(problem, k, fit.point.theta, vcov, clusters)
    return replace(fit, moved=moved), problem


def movement(finer: GeneralProblem, fit: GeneralEstimate, k: int) -> float:
    """How far one Newton step on the finer rule takes the estimates, in standard errors (theory, eq. 51)."""
    point, p, t = finer.objective.at(fit.point.theta, k), finer.structure.p, finer.layout.n_theta
    basis = _basis(p, fit.boundary, fit.flat, finer.structure.n_phi)
    V = inverse_along(fit.point.hessian, basis)
    step, error = V @ point.gradient, np.sqrt(np.maximum(np.diag(V), 0.0))
    moving = error > 0
    return float(np.max(np.abs(step[moving]) / error[moving], initial=0.0)) if t else 0.0
