"""From a ModelFrame to estimates of a generalised model: start, climb, judge, raise the number of nodes if need be.

The counterpart of `estimate.py` for likelihoods without a closed form; numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.estimate import Estimate, GeneralEstimate
from pmwmix.fitting.fewclusters import KINDS, with_few_clusters
from pmwmix.fitting.general import make_general, node_numbers, starting_point, with_nodes
from pmwmix.fitting.judge import (
    boundary_parameters,
    flat_directions,
    general_basis,
    judge,
    light_point,
    linear_covariance,
    linear_loglik,
    moving_basis,
)
from pmwmix.fitting.linear import make_problem, starting_theta
from pmwmix.fitting.optimise import Status, minimise
from pmwmix.fitting.problem import GeneralProblem, Problem, layout_of
from pmwmix.frame.clusters import Clusters
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.likelihood.crossed.linear import CrossedLinearObjective
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.variance import inverse_along

LADDER = (3, 5, 7, 11, 15, 21, 31)  # numbers of nodes that the automatic choice goes through
MOST = {1: 31, 2: 15, 3: 7}  # nodes per dimension by the number of random effects of a level; Laplace beyond
STILL = 0.1  # of a standard error: estimates that move less from one rung to the next have settled


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
    basis = general_basis(p, fit.boundary, fit.flat, finer.structure.n_phi)
    V = inverse_along(fit.point.hessian, basis)
    step, error = V @ point.gradient, np.sqrt(np.maximum(np.diag(V), 0.0))
    moving = error > 0
    return float(np.max(np.abs(step[moving]) / error[moving], initial=0.0)) if t else 0.0


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
    V = linear_covariance(problem, point, basis, k, vcov, clusters)
    J = transform.jacobian(layout, point.theta, point.sigma)
    V = J @ V @ J.T
    sigma = transform.y_scale * point.sigma
    return Estimate(
        beta=transform.beta(point.beta),
        Psi=tuple(transform.Psi(layout, point.theta, point.sigma)),
        sigma=sigma,
        theta=transform.theta(layout, point.theta),
        loglik=linear_loglik(problem, point, transform),
        vcov=V,
        boundary=boundary,
        flat=np.abs(flat).max(axis=1, initial=0.0) > 0.01,
        status=status,
        converged=optimum.converged,
        singular=singular,
        n_steps=optimum.n_steps,
        point=light_point(point),
        transform=transform,
    )


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
            fit = with_few_clusters(problem, frame, frame.designs[d], k, fit, vcov)
        start = None if fit.singular or not fit.converged else fit.point.theta
        fits.append(fit)
        places.append((problem, k))
    return fits, places
