"""Parameters of a model fitted to new outcomes for the rows it was fitted to, each climb starting at the first fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.choose import Plan, make_problem
from pmwmix.fitting.climb import MOST_ROUNDS, climbed
from pmwmix.fitting.fixedvariances import climbed_beside_fixed
from pmwmix.fitting.judge import is_sound
from pmwmix.fitting.rawscale import all_parameters, raw_map
from pmwmix.frame.modelframe import DesignColumns
from pmwmix.prediction.rows import LiveRows
from pmwmix.spec.outcome import Outcome, Response

AT_ONCE = 50  # outcomes whose cross-products are formed together: a task of an executor
NEWTON_STEPS = 9
CLOSE = 1e-10  # squared distance to the maximum, in standard errors, at which a climb ends
INSIDE = 1e-3  # a diagonal entry of Λ below this asks for the full climb, which tries the boundary


@dataclass(frozen=True)
class Refits:
    """What was found in some refits.

    Parameters
    ----------
    values : ndarray, shape (R, P)
        Coefficients, variance components in theta order, level-1 variance, reported parameters of the family.
    converged : ndarray of bool, shape (R,)
    """

    values: Array
    converged: Array


def refit_outcomes(one: Any, rows: LiveRows, draw: Callable[[np.random.Generator], Array], seed: Any, n: int) -> Refits:
    """Draw outcomes and fit the model to each.

    Parameters
    ----------
    one : FitResult
        Of one plausible value.
    rows : LiveRows
    draw : callable
        Generator -> outcome (n_rows,).
    seed : sequence of int
    n : int

    Returns
    -------
    Refits
    """
    rng = np.random.default_rng(seed)
    outcomes = [draw(rng) for _ in range(n)]
    design = with_outcomes(one, rows, outcomes)
    settings = one.settings
    nodes = rows.fit.n_agq or settings.n_agq
    plan = Plan(rows.engine, settings.method == "reml", nodes or None, settings.chunk_size)
    problem = make_problem(replace(rows.frame, designs=[design]), design, plan)
    return _climb_each(problem, rows.fit.point.theta, len(outcomes))


def with_outcomes(one: Any, rows: LiveRows, outcomes: Sequence[Array]) -> DesignColumns:
    """Give the columns of a fit with other outcomes, each (n,), of several (m, n)."""
    offset = rows.design.offset
    if one.has_closed_form and one.outcomes:
        return replace(rows.design, y=[y[0] for y in outcomes], beside=[tuple(y[1:]) for y in outcomes], bases=())
    if one.has_closed_form:
        return replace(rows.design, y=[y if offset is None else y - offset for y in outcomes], bases=())
    responses = [_redrawn(one, rows, y) for y in outcomes]
    return replace(rows.design, y=[read.y for read in responses], responses=responses, bases=())


def _redrawn(one: Any, rows: LiveRows, y: Array) -> Response:
    """Read an outcome as the family does, where more than the outcome itself hangs on it."""
    family, response = one.distribution[0], rows.response
    assert response is not None
    if one.outcomes:
        found: Response = family.redrawn(response, y)
        return found
    if family.per_trial or not response.extra:
        return replace(response, y=y)
    return family.read(Outcome("a drawn outcome", y))


def _climb_each(problem: Any, start: Array, n: int) -> Refits:
    values, converged = [], []
    for k in range(n):
        used, found, reached = _settled(problem, start, k)
        map_ = raw_map(used, k, found.psi)
        values.append(all_parameters(used, k, found.psi, map_)[0])
        converged.append(reached and is_sound(used, map_.shape))
    return Refits(np.array(values), np.array(converged))


def _settled(problem: Any, start: Array, k: int) -> tuple[Any, Any, bool]:
    """Climb, and again while what the likelihood is made from (fitted values) moves with the estimates."""
    newer = problem.objective.renewed(None, k)
    for _ in range(MOST_ROUNDS):
        problem = problem if newer is None else replace(problem, objective=newer)
        found, reached = _climb(problem, start, k)
        newer = problem.objective.renewed(found, k)
        if newer is None or not reached:
            return problem, found, reached
        start = found.theta
    return problem, found, False


def _climb(problem: Any, start: Array, k: int) -> tuple[Any, bool]:
    """Climb from the first fit with plain Newton steps, and in full where they lead to the boundary or nowhere."""
    objective, layout = problem.objective, problem.layout
    if problem.fixed is not None:
        best = climbed_beside_fixed(problem, max(problem.n_total, 1.0), k, start)
        return best.point, best.converged
    if not layout.q and objective.closed_form:
        return objective.at(np.zeros(0), k), True
    if objective.closed_form and not objective.n_rho and not layout.structures:
        point = objective.at(start, k)
        for _ in range(NEWTON_STEPS):
            try:
                step = np.linalg.solve(point.hessian, point.gradient)
            except np.linalg.LinAlgError:
                break
            if 0.0 <= float(point.gradient @ step) < CLOSE and np.linalg.eigvalsh(point.hessian)[0] > 0.0:
                return point, True
            if not (point.theta - step)[layout.diagonal].min() > INSIDE:
                break
            point = objective.at(point.theta - step, k)
            if not np.isfinite(point.value):
                break
    found = climbed(objective, max(problem.n_total, 1.0), k, start)
    return found.point, found.converged


def joined(parts: Sequence[Refits]) -> Refits:
    """Put the refits of several tasks together."""
    return Refits(np.concatenate([one.values for one in parts]), np.concatenate([one.converged for one in parts]))
