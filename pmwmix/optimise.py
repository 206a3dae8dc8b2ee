"""Climb to the maximum: Newton steps inside a trust region, and a sentence about how it went.

Knows an objective only as a function that returns value, gradient and Hessian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from scipy.optimize import minimize

Array = np.ndarray


class Status(Enum):
    """How a climb ended, as full sentences."""

    CONVERGED = "Converged: the gradient is zero up to rounding and no direction leads higher."
    SINGULAR = (
        "Converged on the boundary: a variance is zero or a correlation is one, so the data support fewer random "
        "effects than the model has; estimates of the other parameters are those of the smaller model."
    )
    FLAT = (
        "Converged, but a direction of the random effects is not identified: the data cannot tell some of the "
        "variances apart; drop a random term or a level."
    )
    MAX_STEPS = (
        "Stopped before the maximum was reached: the gradient is not zero. Rescale predictors with very large "
        "spread, or drop a random slope whose variance is near zero."
    )


@dataclass(frozen=True)
class Optimum:
    """Where a climb ended.

    Parameters
    ----------
    point : object
        What the objective returned there: has ``theta``, ``value``, ``gradient``, ``hessian``.
    status : Status
    converged : bool
    n_steps : int
        Evaluations of the objective.
    path : list of float
        Values along the way.
    """

    point: Any
    status: Status
    converged: bool
    n_steps: int
    path: list[float] = field(default_factory=list)


def minimise(
    objective: Callable[[Array], Any],
    start: Array,
    *,
    scale: float = 1.0,
    max_steps: int = 100,
    canonical: Callable[[Array], Array] | None = None,
) -> Optimum:
    """Minimise with exact gradient and Hessian (scipy's trust-exact), then polish with plain Newton steps.

    Parameters
    ----------
    objective : callable
        theta (P,) -> object with ``value``, ``gradient`` (P,), ``hessian`` (P, P).
    start : ndarray, shape (P,)
    scale : float
        Typical size of the value, by which it is divided.
    max_steps : int
    canonical : callable, optional
        Rewrites theta at the end into its one spelling.

    Returns
    -------
    Optimum

    Notes
    -----
    The decrement g'H⁻¹g is the squared distance to the optimum in standard errors; a climb has converged when it is
    below 1e-10.
    """
    seen: dict[bytes, Any] = {}
    path: list[float] = []

    def at(theta: Array) -> Any:
        key = theta.tobytes()
        if key not in seen:
            if len(seen) > 3:
                seen.pop(next(iter(seen)))
            seen[key] = objective(theta)
            path.append(seen[key].value)
        return seen[key]

    found = minimize(
        lambda theta: at(theta).value / scale,
        np.asarray(start, dtype=float),
        method="trust-exact",
        jac=lambda theta: at(theta).gradient / scale,
        hess=lambda theta: at(theta).hessian / scale,
        options={"gtol": 1e-6, "maxiter": max_steps, "initial_trust_radius": 0.5, "max_trust_radius": 8.0},
    )
    point = _polish(at, at(found.x), scale)
    point = _to_boundary(at, point, canonical, scale)
    converged = decrement(point) < 1e-10 * max(1.0, 1e-6 * abs(point.value))
    status = Status.CONVERGED if converged else Status.MAX_STEPS
    return Optimum(point, status, converged, len(path), path)


def decrement(point: Any) -> float:
    """Squared Newton decrement; directions without curvature count only through their gradient."""
    values, vectors = np.linalg.eigh(point.hessian)
    along = vectors.T @ point.gradient
    floor = 1e-8 * max(float(values.max()), 1e-300)
    return float(np.sum(along**2 / np.maximum(np.abs(values), floor)))


def _polish(at: Callable[[Array], Any], point: Any, scale: float, steps: int = 4) -> Any:
    """Take Newton steps while they shrink the gradient: they reach full precision where values no longer differ."""
    for _ in range(steps):
        values, vectors = np.linalg.eigh(point.hessian)
        floor = 1e-8 * max(float(values.max()), 1e-300)
        curved = values > floor
        if decrement(point) < 1e-18 or (values < -floor).any():
            return point
        along = vectors.T @ point.gradient
        step = -vectors[:, curved] @ (along[curved] / values[curved])
        trial = at(point.theta + step)
        noise = 1e-9 * max(scale, abs(point.value))
        if not np.isfinite(trial.value) or trial.value > point.value + noise:
            return point
        if np.linalg.norm(trial.gradient) >= np.linalg.norm(point.gradient):
            return point
        point = trial
    return point


def _to_boundary(at: Callable[[Array], Any], point: Any, canonical: Callable[[Array], Array] | None, scale: float) -> Any:
    """Rewrite theta canonically; variances that are zero up to rounding become exact zeros if nothing is lost."""
    if canonical is None:
        return point
    theta = canonical(point.theta)
    trial = at(theta)
    return trial if trial.value <= point.value + 1e-9 * max(scale, 1.0) else point
