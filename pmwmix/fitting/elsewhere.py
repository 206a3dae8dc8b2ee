"""Where else to start a climb that may have ended on a local maximum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.judge import boundary_parameters
from pmwmix.fitting.ladder import rungs
from pmwmix.fitting.optimise import decrement
from pmwmix.fitting.problem import Problem
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.values import profiled_values

CHEAP = 20_000  # numbers in the cross-products of the lowest units, or rows times nodes: a climb of milliseconds
CHEAP_PAIRS = 2_000  # rows of a pairwise likelihood
CHEAP_CROSSED = 200  # effects beyond those of the factor that is eliminated
MULTIPLES = np.geomspace(0.5, 64.0, 10)  # of the moment estimates, and of sigma
ANGLES = np.pi * (np.arange(48) - 23) / 48  # of two effects with a correlation of one
LOOKS = 100_000  # numbers that are formed to look around: some milliseconds, with fewer rays where groups are many
MOST = 3  # climbs from what was seen
DEVIATIONS = (1.0, 4.0, 16.0)  # of the random effects on the scale of the linear predictor
WITHIN = 4.0  # of the log-likelihood: what the other parameters may make up for
BEND = 0.35  # logistic coefficients grow with sqrt(1 + 0.35 sd²) (Zeger, Liang & Albert 1988)


def other_starts(problem: Problem, k: int, optimum: Any) -> Iterator[Array]:
    """Give further points to climb from where something suggests it and another climb is cheap.

    Parameters
    ----------
    problem : Problem
    k : int
    optimum : Optimum

    Yields
    ------
    ndarray
        Parameters that are climbed. Of a linear model: if the climb ended on the boundary or not at all, or below what
        a look around sees, the peaks of the likelihood along rays of theta; the same parameters with variances at zero,
        if the likelihood is higher there, so that its profile has a valley on the way. Of the others: larger variances
        if one is zero, a variance of zero if it is not, unless either is far below. Under a residual structure, whose
        correlation and random effects may stand in for each other, and of mixtures, its own further starts alone.
    """
    objective = problem.objective
    if objective.n_rho or objective.many_maxima:
        yield from objective.starts(k)[1:]
    elif problem.layout.n_theta and _is_cheap(problem):
        yield from (_linear if objective.closed_form else _integrated)(problem, k, optimum)


def is_higher(problem: Problem, k: int, point: Any, other: Any, noise: float) -> bool:
    """Whether a point is higher than another, by the finest rule as well: few nodes see peaks that are none."""
    objective = problem.objective
    if not point.value < other.value - noise:
        return False
    if objective.closed_form or objective.crossed or objective.many_maxima or not (finest := rungs(problem.layout)):
        return True
    fine = objective.with_nodes(finest[-1])
    return bool(fine.at(point.psi, k).value < fine.at(other.psi, k).value - noise)


def _is_cheap(problem: Problem) -> bool:
    objective = problem.objective
    if objective.crossed and objective.crossing.n_dense > CHEAP_CROSSED:
        return False
    if objective.composite:
        return bool(len(objective.part) <= CHEAP_PAIRS)
    if objective.closed_form:
        return bool(problem.blocks.zz.size <= CHEAP)
    if not objective.direct:
        return False
    each = zip(objective.n_agq, problem.layout.q, strict=True)
    return float(len(objective.rows.w)) * float(np.prod([n**q for n, q in each])) <= CHEAP


def _linear(problem: Problem, k: int, optimum: Any) -> Iterator[Array]:
    layout, theta, value = problem.layout, optimum.point.theta, optimum.point.value
    ended = bool(boundary_parameters(layout, theta).any() or not optimum.converged)
    peaks, (end, height) = _seen(problem, k)
    yield from (peak for peak, height in peaks if ended or height < value)
    if height < value:
        yield end
    places = [int(j) for j in np.flatnonzero(layout.diagonal) if theta[j] != 0]
    trials = [_with_zeros(layout, theta, group) for group in [[j] for j in places] + [places] * (len(places) > 1)]
    for trial, height in zip(trials, _values(problem, k, trials), strict=True):
        if height < value:
            yield trial


def _with_zeros(layout: ThetaLayout, theta: Array, places: list[int]) -> Array:
    trial = theta.copy()
    trial[places] = 0.0
    return layout.canonical(trial, tol=0.0)


def _values(problem: Problem, k: int, thetas: list[Array]) -> Array:
    """Minus the log-likelihood at every theta."""
    objective = problem.objective
    if objective.crossed or objective.composite or not thetas:
        return np.array([objective.at(theta, k).value for theta in thetas])
    return profiled_values(problem.blocks, problem.structure, np.reshape(thetas, (-1, problem.layout.n_theta)), k)


def _seen(problem: Problem, k: int) -> tuple[list[tuple[Array, float]], tuple[Array, float]]:
    """Look along rays: the best few peaks and the best of the far ends, each with minus its log-likelihood."""
    rays = [problem.objective.start(k)]
    if not (problem.objective.crossed or problem.objective.composite or problem.layout.structures):
        every = _rays(problem.layout)
        rays += every[:: 1 + len(every) * len(MULTIPLES) * problem.blocks.zx.size // LOOKS]
    points = [multiple * ray for ray in rays for multiple in MULTIPLES]
    heights = _values(problem, k, points).reshape(len(rays), -1)
    inner = heights[:, 1:-1]
    peaks = np.argwhere((inner <= heights[:, :-2]) & (inner <= heights[:, 2:]))
    order = np.argsort(inner[tuple(peaks.T)])
    out: list[tuple[Array, float]] = []
    taken: list[Array] = []
    for ray, at in peaks[order]:
        if not any(abs(ray - other[0]) <= 2 and abs(at - other[1]) <= 2 for other in taken) and len(out) < MOST:
            out.append((MULTIPLES[at + 1] * rays[ray], float(inner[ray, at])))
        taken.append(np.array([ray, at]))
    last = int(heights[:, -1].argmin())
    return out, (MULTIPLES[-1] * rays[last], float(heights[last, -1]))


def _rays(layout: ThetaLayout) -> list[Array]:
    """Directions of theta with one effect alone, or two with a correlation of one, at one level."""
    out = []
    for entries in layout.entries:
        column = {(i, j): at for i, j, at in entries}
        alone = [np.eye(layout.n_theta)[column[i, i]] for i, j in column if i == j]
        pairs = [(j, i) for i, j in column if i > j]
        turned = [(pair, angle) for pair in pairs for angle in ANGLES]
        if len(alone) > 1 or len(layout.entries) > 1:
            out += alone
        for (first, second), angle in turned:
            ray = np.zeros(layout.n_theta)
            ray[column[first, first]], ray[column[second, first]] = np.cos(angle), np.sin(angle)
            out.append(ray)
    return out


def _integrated(problem: Problem, k: int, optimum: Any) -> Iterator[Array]:
    objective, layout, psi, value = problem.objective, problem.layout, optimum.point.psi, optimum.point.value
    p, t = problem.structure.p, layout.n_theta
    theta = psi[p : p + t]
    zero = boundary_parameters(layout, theta)
    if zero.any() or not optimum.converged:
        for deviation in DEVIATIONS:
            trial = psi.copy()
            trial[:p] *= np.sqrt(1.0 + BEND * deviation**2) if problem.link.can_separate else 1.0
            trial[p : p + t] = np.where(zero & layout.diagonal, deviation, theta)
            if objective.at(trial, k).value < value + WITHIN:
                yield trial
    if not zero.all():
        trial = psi.copy()
        trial[p : p + t] = 0.0
        there = objective.at(trial, k)
        own = np.diag(there.hessian)[p : p + t][layout.diagonal]
        if own.min() >= 0.0 and there.value - 0.5 * decrement(there) < value + WITHIN:  # else no maximum is there
            yield trial
