"""Climb to the maximum: Newton steps inside a trust region, and a sentence about how it went.

Knows an objective only as a function that returns value, gradient and Hessian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from scipy.optimize import minimize

from pmwmix._types import Array

CLOSE = 1e-6  # squared distance to the optimum in standard errors
FLAT = 1e-8  # curvature below this share of the largest counts as none
ROUNDING = 1e-13  # curvature below this share of the largest is not known
LONGEST = 8.0  # change of a parameter in one step
FAR = 1e2  # a random effect's standard deviation beyond this many sigma counts as unbounded


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
    EXTREME = (
        "Converged, but random effects nearly separate the outcomes: their standard deviation is above 10 on the scale "
        "of the linear predictor, where the likelihood hardly changes with it and quadrature needs many nodes. Do not "
        "rely on it; drop the random term, merge groups, or use a prior that bounds it."
    )
    UNBOUNDED = (
        "No maximum exists: the fit gets better without end while the random effects explain the outcome perfectly. "
        "Groups have too few rows for their random effects, or level-1 weights are far above 1 in tiny groups: use "
        "scaling='size' or drop random effects."
    )
    LOCAL = (
        "Stopped at a local maximum; no highest one exists, since the fit gets better without end where the random "
        "effects explain the outcome perfectly. Groups have too few rows for their random effects, or level-1 weights "
        "are far above 1 in tiny groups: use scaling='size' or drop random effects."
    )
    SEPARATED = (
        "No maximum exists: a coefficient grows without end because a predictor, or a combination of them, tells the "
        "outcomes apart without error (separation). Its standard error is huge; drop or merge that category, or use "
        "a family or prior that bounds it."
    )
    CROSSED = (
        "Stopped where thresholds are not in order: for some rows a category has a negative probability, so that this "
        "model does not fit these data. Leave a predictor of the thresholds out, or merge rare categories."
    )
    COARSE = (
        "Stopped before the integral over the random effects had settled: with the most nodes of the automatic choice "
        "estimates still move by more than a tenth of a standard error, as they do where random effects nearly "
        "separate the outcomes. Give n_agq a larger number, and do not rely on variances until they stay."
    )
    ROUGH = (
        "Converged, but only by the rule that n_agq asks for: with more nodes estimates would move by more than a "
        "tenth of a standard error. Leave n_agq out for as many nodes as they need, or report the approximation."
    )
    HEAVY = (
        "Stopped at random effects without a variance: their degrees of freedom fell to 2, so heavy are the tails that "
        "these groups ask for. Hold them, random='t(3)', or look at the groups that lie far out with fit.ranef()."
    )
    MASSES = (
        "Stopped at a mass point that no group is at, or at two in one place: the data support fewer masses than "
        "random= asks for, and variances and locations mean nothing. Take one mass fewer."
    )
    UNSETTLED = (
        "Stopped before the fitted values in the residual variance had settled: they still change from one fit to the "
        "next. Use a variance of a predictor in the place of power(fitted)."
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
    boundary: Callable[[Array], Sequence[Array]] | None = None,
) -> Optimum:
    """Minimise with exact gradient and Hessian (scipy's trust-exact), then polish with plain Newton steps.

    Parameters
    ----------
    objective : callable
        theta (P,) -> object with ``theta``, ``value``, ``gradient`` (P,), ``hessian`` (P, P).
    start : ndarray, shape (P,)
    scale : float
        Typical size of the value, by which it is divided.
    max_steps : int
    boundary : callable, optional
        theta -> nearby points on the boundary of the parameter space, worth trying.

    Returns
    -------
    Optimum

    Notes
    -----
    The decrement g'H⁻¹g is the squared distance to the optimum in standard errors; a climb has converged when it is
    below `CLOSE`. Close to a boundary the objective is flat in its last direction and Newton steps only halve the
    distance, therefore boundary points are tried and taken when nothing is lost.
    """
    trail = _Trail(objective)
    if not len(start):
        return Optimum(trail.at(start), Status.CONVERGED, True, 1, trail.path)
    begin: Array | None = np.asarray(start, dtype=float)
    for _ in range(4):
        assert begin is not None
        found = minimize(
            lambda theta: trail.at(theta).value / scale,
            begin,
            method="trust-exact",
            jac=lambda theta: trail.at(theta).gradient / scale,
            hess=lambda theta: trail.curvature(theta) / scale,
            options={"gtol": 1e-6, "maxiter": max_steps, "initial_trust_radius": 0.5, "max_trust_radius": 8.0},
        )
        point = trail.polish(trail.at(found.x), scale)
        for candidate in boundary(point.theta) if boundary is not None else ():
            trial = trail.at(candidate)
            if trial.value <= point.value + 1e-11 * max(scale, abs(point.value)):
                point = trail.polish(trial, scale)
        begin = trail.escape(point, scale)
        if begin is None:
            if trail.exact or not getattr(point, "frugal", False) or decrement(point) < CLOSE:
                break
            begin = point.theta
        trail.exact = True
    point = trail.follow(point, scale)
    converged = decrement(point) < CLOSE
    status = Status.CONVERGED if converged else Status.MAX_STEPS
    if not converged and np.abs(point.theta).max() > FAR:
        status = Status.UNBOUNDED
    return Optimum(point, status, converged, len(trail.path), trail.path)


class _Trail:
    """An objective that remembers its last few points and the path of values."""

    def __init__(self, objective: Callable[[Array], Any]) -> None:
        self.objective = objective
        self.seen: dict[bytes, Any] = {}
        self.path: list[float] = []
        self.secant: tuple[Any, Array] | None = None  # the point before, and its Hessian or what stood for it
        self.exact = False

    def at(self, theta: Array) -> Any:
        key = theta.tobytes()
        if key not in self.seen:
            if len(self.seen) > 3:
                self.seen.pop(next(iter(self.seen)))
            self.seen[key] = self.objective(theta)
            self.path.append(self.seen[key].value)
        return self.seen[key]

    def curvature(self, theta: Array) -> Array:
        """Give the Hessian; where points are ``frugal``, that of the first point, brought up to date by gradients.

        Symmetric rank-one updates (Nocedal & Wright 2006, eq. 6.24) keep the negative curvature that a trust region can
        use. Only the first climb takes them; what is said of its end rests on exact second derivatives, and where they
        do not confirm it, another climb with them follows.
        """
        point = self.at(theta)
        if self.secant is None or self.exact or not getattr(point, "frugal", False):
            H = point.hessian
        else:
            before, H = self.secant
            step = theta - before.theta
            gap = point.gradient - before.gradient - H @ step
            along = float(gap @ step)
            if abs(along) > 1e-8 * np.linalg.norm(gap) * np.linalg.norm(step):
                H = H + np.outer(gap, gap) / along
        self.secant = (point, H)
        return H

    def escape(self, point: Any, scale: float) -> Array | None:
        """Give a lower point along a direction of negative curvature, if there is one: the way off a saddle."""
        curvature, direction = _lowest(point)
        if curvature > -FLAT or np.abs(point.theta).max() > FAR:
            return None
        noise = 1e-11 * max(scale, abs(point.value))
        for length in (0.3, -0.3, 0.1, -0.1, 0.03, -0.03, 0.01, -0.01, 3e-3, -3e-3, 1e-3, -1e-3):
            trial = self.at(point.theta + length * direction)
            if np.isfinite(trial.value) and trial.value < point.value - noise:
                return trial.theta
        return None

    def polish(self, point: Any, scale: float, steps: int = 12) -> Any:
        """Take Newton steps while they shrink the decrement: full precision where values no longer differ.

        Where a Hessian is costly (``point.costly``), that of the first point serves all steps.
        """
        H = point.hessian
        for _ in range(steps):
            values, vectors = np.linalg.eigh(H)
            floor = FLAT * max(float(values.max()), 1e-300)
            if _decrement(H, point.gradient) < 1e-18 or (values < -floor).any():
                return point
            curved = values > floor
            along = vectors.T @ point.gradient
            trial = self.at(point.theta - vectors[:, curved] @ (along[curved] / values[curved]))
            noise = 1e-11 * max(scale, abs(point.value))
            if not np.isfinite(trial.value) or trial.value > point.value + noise:
                return point
            next_H = H if getattr(point, "costly", False) else trial.hessian
            if _decrement(next_H, trial.gradient) >= _decrement(H, point.gradient):
                return point
            point, H = trial, next_H
        return point

    def follow(self, point: Any, scale: float, steps: int = 60) -> Any:
        """Follow a parameter that runs to infinity until nothing is left to gain.

        There each Newton step shrinks gradient and curvature alike, the latter to far below what `polish` counts as
        curved: a negative binomial's theta where there is no overdispersion.
        """
        for _ in range(steps):
            now = decrement(point)
            if not CLOSE <= now < 1.0:
                return point
            values, vectors = np.linalg.eigh(point.hessian)
            if (values < -FLAT * float(values.max())).any():
                return point
            curved = values > ROUNDING * float(values.max())
            step = vectors[:, curved] @ ((vectors.T @ point.gradient)[curved] / values[curved])
            trial = self.at(point.theta - step / max(1.0, float(np.abs(step).max()) / LONGEST))
            noise = 1e-11 * max(scale, abs(point.value))
            if not np.isfinite(trial.value) or trial.value > point.value + noise or decrement(trial) >= now:
                return point
            point = trial
        return point


def _lowest(point: Any) -> tuple[float, Array]:
    """Smallest curvature, relative to the largest, and its direction."""
    values, vectors = np.linalg.eigh(point.hessian)
    return float(values[0] / max(float(np.abs(values).max()), 1e-300)), vectors[:, 0]


def decrement(point: Any) -> float:
    """Squared Newton decrement; directions without curvature count only through their gradient."""
    return _decrement(point.hessian, point.gradient)


def _decrement(H: Array, gradient: Array) -> float:
    values, vectors = np.linalg.eigh(H)
    along = vectors.T @ gradient
    floor = FLAT * max(float(values.max()), 1e-300)
    return float(np.sum(along**2 / np.maximum(np.abs(values), floor)))
