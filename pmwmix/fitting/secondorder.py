"""By how much the terms that Laplace's approximation leaves out would move estimates of crossed models."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.judge import held_directions, moving_basis
from pmwmix.fitting.problem import Problem
from pmwmix.variance import inverse_along

STEP = 1e-3  # of standardised parameters: the terms are smooth, and modes are found to 1e-8


def laplace_error(problem: Problem, fit: Any, k: int) -> tuple[float, float]:
    """Give the movement of estimates in standard errors, and the size of the second-order term (crossed, eq. 17).

    NaN for both where they are not formed: in models with many effects, with several linear predictors, and for fits
    that have not converged.
    """
    objective = problem.objective
    if objective.closed_form or not objective.crossed or not fit.converged:
        return float("nan"), float("nan")
    from pmwmix.likelihood.crossed.onethread import with_threads_for
    from pmwmix.likelihood.crossed.secondorder import is_cheap  # takes PyTensor along, which linear fits do without

    if not is_cheap(objective):
        return float("nan"), float("nan")
    try:
        return with_threads_for(objective.crossing.n_dense, _terms, problem, fit, k)  # type: ignore[no-any-return]
    except np.linalg.LinAlgError:  # rows that curve upwards can leave no covariance matrix beside the modes
        return float("nan"), float("nan")


def _terms(problem: Problem, fit: Any, k: int) -> tuple[float, float]:
    from pmwmix.likelihood.crossed.secondorder import CELLS, second_order

    objective, psi = problem.objective, fit.point.theta
    cells, gradient = CELLS / len(psi), np.zeros(len(psi))
    p, t = problem.structure.p, problem.layout.n_theta
    fixed = np.r_[np.zeros(p, dtype=bool), fit.boundary | problem.held, np.zeros(len(psi) - p - t, dtype=bool)]
    here = objective.at(psi, k)
    base, error = second_order(objective, here, cells), second_order(objective, here)
    for j in np.flatnonzero(~fixed):
        moved = psi + STEP * (np.arange(len(psi)) == j)
        gradient[j] = (second_order(objective, objective.at(moved, k), cells) - base) / STEP
    return moved_by(problem, fit, -gradient, fit.point.hessian), abs(error)


def moved_by(problem: Problem, fit: Any, gradient: Array, hessian: Array) -> float:
    """How far one Newton step takes the estimates, in standard errors (theory, eq. 51)."""
    t, p, psi = problem.layout.n_theta, problem.structure.p, fit.point.theta
    flat = np.eye(t)[:, fit.flat]
    held = held_directions(problem, psi[p : p + t], fit.boundary)
    V = inverse_along(hessian, moving_basis(p, held, flat, len(psi) - p - t))
    step, error = V @ gradient, np.sqrt(np.maximum(np.diag(V), 0.0))
    moving = error > 0
    return float(np.max(np.abs(step[moving]) / error[moving], initial=0.0)) if t else 0.0
