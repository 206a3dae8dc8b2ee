"""Where else to start a climb that may have ended on a local maximum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.judge import boundary_parameters
from pmwmix.fitting.problem import Problem

CHEAP = 20_000  # numbers in the cross-products of the lowest units: a climb then takes some milliseconds
MULTIPLES = np.geomspace(0.5, 64.0, 8)  # of the moment estimates


def other_starts(problem: Problem, k: int, optimum: Any) -> Iterator[Array]:
    """Give further points to climb from where something suggests it and another climb is cheap.

    Parameters
    ----------
    problem : Problem
    k : int
    optimum : Optimum

    Yields
    ------
    ndarray, shape (n_theta,)
        Of a linear model: if the climb ended on the boundary or not at all, the peaks of the likelihood along multiples
        of the moment estimates; the same parameters with variances at zero, if the likelihood is higher there, so that
        its profile has a valley on the way. Under a residual structure, whose correlation and random effects may
        stand in for each other, its own further starts alone.
    """
    objective, layout = problem.objective, problem.layout
    if objective.n_rho:
        yield from objective.starts(k)[1:]
        return
    if not objective.closed_form or problem.blocks is None or not layout.n_theta or problem.blocks.zz.size > CHEAP:
        return
    theta = optimum.point.theta
    if boundary_parameters(layout, theta).any() or not optimum.converged:
        yield from _peaks(objective, k)
    places = [int(j) for j in np.flatnonzero(layout.diagonal) if theta[j] != 0]
    for group in [[j] for j in places] + ([places] if len(places) > 1 else []):
        trial = theta.copy()
        trial[group] = 0.0
        trial = layout.canonical(trial, tol=0.0)
        if objective.at(trial, k).value < optimum.point.value:
            yield trial


def _peaks(objective: Any, k: int) -> Iterator[Array]:
    start = objective.start(k)
    values = np.array([objective.at(multiple * start, k).value for multiple in MULTIPLES])
    for j in range(1, len(values) - 1):
        if values[j] <= min(values[j - 1], values[j + 1]):
            yield MULTIPLES[j] * start
