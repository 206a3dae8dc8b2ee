"""From a ModelFrame to estimates: one climb and one judge for every likelihood, an outcome after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.choose import Plan, make_problem
from pmwmix.fitting.elsewhere import is_higher, other_starts
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.fixedvariances import PartlyFree, climbed_beside_fixed
from pmwmix.fitting.judge import judge
from pmwmix.fitting.optimise import Optimum, Status, minimise
from pmwmix.fitting.problem import Problem
from pmwmix.fitting.secondorder import laplace_error, moved_by
from pmwmix.frame.clusters import Clusters
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.likelihood.constraint import OnSurface

RIGHT = 0.1  # of the log-likelihood, weights relative to their mean: what one more rung may change it by
LOWER = 1e-9  # of the size of the values: what another climb has to be better by
MOST_ROUNDS = 100
STILL = 0.1  # of a standard error: estimates that move less from one rung to the next have settled


def estimate(problem: Problem, k: int, start: Array | None, vcov: str, clusters: Clusters | None) -> Estimate:
    """Fit outcome ``k``: climb from ``start``, judge, and return to the raw scale."""
    objective, scale = problem.objective, max(problem.n_total, 1.0)
    if problem.fixed is not None:
        return judge(problem, k, climbed_beside_fixed(problem, scale, k, start), vcov, clusters)
    optimum = climbed(objective, scale, k, start)
    best, climbs, endless = optimum, 1, False
    own = objective.n_rho or objective.many_maxima
    for other in other_starts(problem, k, optimum) if start is None or not own else ():
        climbs += 1
        found = climbed(objective, scale, k, other)
        if is_higher(problem, k, found.point, best.point, LOWER * max(scale, abs(best.point.value))):
            best = found if found.converged else best
            endless = endless or found.status is Status.UNBOUNDED
    gained = problem.top_scale * (optimum.point.value - best.point.value)
    fit = replace(judge(problem, k, best, vcov, clusters), gained=gained, n_starts=climbs)
    return replace(fit, converged=False, status=Status.LOCAL) if endless and fit.converged else fit


def climbed(objective: Any, scale: float, k: int, start: Array | None) -> Optimum:
    """Climb a likelihood from given parameters; structured covariances are kept."""
    layout = objective.structure.layout
    if not layout.structures:
        begin = objective.start(k) if start is None else start
        return minimise(lambda free: objective.at(free, k), begin, scale=scale, boundary=objective.boundary)
    along = OnSurface(objective, layout)
    begin = along.start(k) if start is None else along.inside(start)
    found = minimise(lambda free: along.at(free, k), begin, scale=scale, boundary=along.boundary)
    return replace(found, point=found.point.whole)


def without_random_part(problem: Problem, k: int, fit: Estimate, vcov: str, clusters: Clusters | None) -> Estimate:
    """Fit the same model with all random effects held at zero: a generalised linear model."""
    p, t = problem.structure.p, problem.layout.n_theta
    free = np.r_[:p, p + t : len(fit.point.theta) - getattr(problem.structure, "n_shape", 0)]
    begin = np.where(np.isin(np.arange(len(fit.point.theta)), free), fit.point.theta, 0.0)

    def at(values: Array) -> PartlyFree:
        psi = begin.copy()
        psi[free] = values
        return PartlyFree(problem.objective.at(psi, k), free)

    found = minimise(at, begin[free], scale=max(problem.n_total, 1.0))
    return judge(problem, k, replace(found, point=found.point.point), vcov, clusters)


def fit_outcomes(
    frame: ModelFrame, plan: Plan, vcov: str, progress: Callable[[Sequence[Any]], Any] = iter
) -> tuple[list[Estimate], list[tuple[Problem, int]]]:
    """Fit every plausible value, each climb starting where the one before ended.

    Parameters
    ----------
    frame : ModelFrame
    plan : Plan
    vcov : str
    progress : callable

    Returns
    -------
    list of Estimate
    list of (Problem, int)
        Problem and number of the outcome in it.
    """
    fits: list[Estimate] = []
    places: list[tuple[Problem, int]] = []
    start: Array | None = None
    problem: Problem | None = None
    plan.check(frame, vcov)
    for d, k in progress([(d, k) for d, design in enumerate(frame.designs) for k in range(len(design.y))]):
        if k == 0:
            problem = make_problem(frame, frame.designs[d], plan)
        assert problem is not None
        fit, problem = _climb_ladder(problem, k, start, vcov, frame.clusters)
        if start is not None and not fit.converged:
            fit, problem = _climb_ladder(problem, k, None, vcov, frame.clusters)
        start = None if fit.singular or not fit.converged else fit.point.theta
        fits.append(fit)
        places.append((problem, k))
    return fits, places


def _climb_ladder(
    problem: Problem, k: int, start: Array | None, vcov: str, clusters: Clusters | None
) -> tuple[Estimate, Problem]:
    """Fit, and while estimates or the log-likelihood would still move with more nodes, fit again with more."""
    fit, problem = _settle(problem, k, start, vcov, clusters)
    moved, error = laplace_error(problem, fit, k)
    finer = problem.finer()
    if (more := problem.compared()) is not None and fit.converged:
        return _beside(fit, problem, more, k), problem
    while finer is not None:
        there = finer.objective.at(fit.point.theta, k)
        moved, error = movement(finer, fit, there), abs(there.value - fit.point.value)
        if (moved < STILL and error < RIGHT) or not fit.converged:
            return replace(fit, moved=moved, loglik_error=finer.top_scale * error), problem
        problem, finer = finer, finer.finer()
        fit = estimate(problem, k, fit.point.theta, vcov, clusters)
    if moved >= STILL and fit.converged and problem.ladder:
        fit = replace(fit, converged=False, status=Status.COARSE)
    return replace(fit, moved=moved, loglik_error=problem.top_scale * error), problem


def _beside(fit: Estimate, problem: Problem, finer: Problem, k: int) -> Estimate:
    """Compare a fit by a number of nodes that was asked for with more of them, at its estimates."""
    there = finer.objective.at(fit.point.theta, k)
    moved, error = movement(finer, fit, there), problem.top_scale * abs(there.value - fit.point.value)
    rough = moved >= STILL and fit.status is Status.CONVERGED
    return replace(fit, moved=moved, loglik_error=error, status=Status.ROUGH if rough else fit.status)


def _settle(
    problem: Problem, k: int, start: Array | None, vcov: str, clusters: Clusters | None
) -> tuple[Estimate, Problem]:
    """Fit, and while what the likelihood is made from moves with the estimates (fitted values), fit again."""
    newer, fit = problem.objective.renewed(None, k), None
    for _ in range(MOST_ROUNDS):
        problem = problem if newer is None else replace(problem, objective=newer)
        fit = estimate(problem, k, start, vcov, clusters)
        newer = problem.objective.renewed(fit.point, k)
        if newer is None or not fit.converged:
            return fit, problem
        start = fit.point.theta
    assert fit is not None
    return replace(fit, converged=False, status=Status.UNSETTLED), problem


def movement(finer: Problem, fit: Estimate, point: Any) -> float:
    """How far one Newton step on the finer rule takes the estimates, in standard errors (theory, eq. 51).

    ``point`` is the finer rule at the estimates.
    """
    return moved_by(finer, fit, point.gradient, fit.point.hessian)
