"""Variances held at values (structured, eqs. 6-7): the climb beside them, and what they leave of the covariance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.fitting.optimise import Optimum, minimise
from pmwmix.fitting.problem import Problem
from pmwmix.likelihood.contract import Point, schur_onto

SMALLEST, LARGEST = 1e-6, 1e4  # of a standard deviation, on the standardised scale


@dataclass
class PartlyFree:
    """A point of which only some parameters are free."""

    point: Any
    free: Array
    costly = True

    @property
    def theta(self) -> Array:
        """Free parameters."""
        return self.point.theta[self.free]

    @property
    def value(self) -> float:
        """Minus the log-likelihood."""
        return self.point.value

    @property
    def gradient(self) -> Array:
        """Of ``value``."""
        return self.point.gradient[self.free]

    @property
    def hessian(self) -> Array:
        """Of ``value``."""
        return self.point.hessian[np.ix_(self.free, self.free)]


def held_sizes(problem: Problem, k: int) -> tuple[Array, float]:
    """Give what is held on the standardised scale.

    Returns
    -------
    ndarray, shape (n_theta,)
        Standard deviations of the held effects, 0 elsewhere.
    float
        Residual standard deviation; NaN where it is free.

    Raises
    ------
    OptionError
        If a value is no variance of this outcome.
    """
    assert problem.fixed is not None
    transform, sizes = problem.transforms[k], np.zeros(problem.layout.n_theta)
    for A, entries in zip(transform.A_z, problem.layout.entries, strict=True):
        for i, j, place in entries:
            if i == j and problem.held[place]:
                sizes[place] = np.sqrt(problem.fixed[place]) / (transform.y_scale * abs(A[i, i]))
    sigma = float(np.sqrt(problem.fixed[-1]) / transform.y_scale)
    _check_sizes(np.append(sizes[problem.held], sigma), problem.fixed[np.append(problem.held, True)])
    return sizes, sigma


def _check_sizes(sizes: Array, values: Array) -> None:
    """Refuse values that are no variances of this outcome.

    Raises
    ------
    OptionError
    """
    wrong = np.isfinite(values) & ((sizes > LARGEST) | (sizes < SMALLEST))
    if wrong.any():
        raise OptionError(
            f"A variance is held far outside the scale of the outcome and its predictors. Got {values[wrong][0]:g} in "
            f"fixed=, whose standard deviation would be {sizes[wrong][0]:.2g} times that of the data. Check its unit."
        )


def climbed_beside_fixed(problem: Problem, scale: float, k: int, start: Array | None) -> Optimum:
    """Climb over what is free; the point at the end is one of all parameters."""
    closed = problem.objective.closed_form
    return _closed_climb(problem, scale, k, start) if closed else _integrated_climb(problem, scale, k, start)


def _integrated_climb(problem: Problem, scale: float, k: int, start: Array | None) -> Optimum:
    objective, p, (sizes, _) = problem.objective, problem.structure.p, held_sizes(problem, k)
    begin = np.array(objective.start(k) if start is None else start)
    begin[p : p + len(sizes)][problem.held] = sizes[problem.held]
    free = np.ones(len(begin), dtype=bool)
    free[p : p + len(sizes)] = ~problem.held

    def whole(values: Array) -> Array:
        psi = begin.copy()
        psi[free] = values
        return psi

    found = minimise(
        lambda values: PartlyFree(objective.at(whole(values), k), free),
        begin[free],
        scale=scale,
        boundary=lambda values: [psi[free] for psi in objective.boundary(whole(values))],
    )
    return replace(found, point=found.point.point)


@dataclass
class _Beside:
    """A point of a linear model as its climb sees it: free parameters (theta without what is held, log sigma)."""

    whole: Point
    theta: Array
    gradient: Array
    hessian: Array
    costly = False

    @property
    def value(self) -> float:
        return self.whole.value


def _closed_climb(problem: Problem, scale: float, k: int, start: Array | None) -> Optimum:
    objective, held, (sizes, sigma) = problem.objective, problem.held, held_sizes(problem, k)
    free_sigma = not np.isfinite(sigma)

    def theta_of(values: Array) -> tuple[Array, float]:
        log_sigma = float(values[-1]) if free_sigma else float(np.log(sigma))
        theta = sizes * np.exp(-log_sigma)
        theta[~held] = values[: (~held).sum()]
        return theta, log_sigma

    def at(values: Array) -> _Beside:
        theta, log_sigma = theta_of(values)
        point, by_sigma, cross, curved = _with_sigma(objective.at(theta, k), log_sigma, objective.n_free)
        n = int((~held).sum())
        M = np.zeros((len(theta) + 1, n + free_sigma))
        M[:-1][~held, :n] = np.eye(n)
        if free_sigma:
            M[:-1, -1], M[-1, -1] = np.where(held, -theta, 0.0), 1.0
        H = np.block([[point.hessian, cross[:, None]], [cross[None], np.array([[curved]])]])
        H = M.T @ H @ M
        if free_sigma:
            H[-1, -1] += _bend(problem, point)
        return _Beside(point, values, M.T @ np.append(point.gradient, by_sigma), H)

    begin = np.array(objective.start(k) if start is None else start)
    inside = np.where(held, sizes, begin)
    first = begin[~held]
    if free_sigma:
        first = np.append(first, np.log(objective.at(inside, k).sigma))

    def boundary(values: Array) -> list[Array]:
        near = objective.boundary(theta_of(values)[0])
        return [np.concatenate([theta[~held], values[(~held).sum() :]]) for theta in near]

    found = minimise(at, first, scale=scale, boundary=boundary)
    return replace(found, point=found.point.whole)


def _with_sigma(point: Any, log_sigma: float, n: float) -> tuple[Point, float, Array, float]:
    """Move a profiled point to a given residual standard deviation (structured, eq. 7).

    Returns
    -------
    Point
        ``gradient`` and ``hessian`` are in theta, at that sigma, ``information`` of all parameters.
    float, ndarray (n_theta,), float
        First and second derivatives in log sigma, those with theta between them.
    """
    A, raw = np.array(point.information), point.raw
    own, sigma2, p, t = point.sigma**2, float(np.exp(2.0 * log_sigma)), len(point.beta), len(point.theta)
    Q, Q_t, more = n * own, -A[-1, p : p + t] * own, 1.0 / sigma2 - 1.0 / own
    if t and "Q_tt" not in raw:
        raise NotSupportedError(
            "Variances of crossed factors are held where each has one effect per unit and the engine is numpy. This "
            "model has several, or another engine was asked for. Leave engine out, or drop slopes."
        )
    if t:
        A[p : p + t, p : p + t] += 0.5 * np.asarray(raw["Q_tt"]) * more
    A[:p, :p] *= own / sigma2
    A[p:, :p] *= own / sigma2
    A[:p, p:] *= own / sigma2
    A[p : p + t, -1] *= own / sigma2
    A[-1, p : p + t] *= own / sigma2
    A[-1, -1] = 2.0 * Q / sigma2
    value = point.value + 0.5 * n * (np.log(sigma2 / own) - 1.0) + 0.5 * Q / sigma2
    gradient = point.gradient + 0.5 * Q_t * more
    inner = A[: p + t, : p + t]
    hessian = schur_onto(inner, slice(p, p + t)) if t else np.zeros((0, 0))
    moved = Point(point.theta, point.beta, float(np.exp(log_sigma)), float(value), gradient, hessian, A, raw)
    return moved, float(n - Q / sigma2), -Q_t / sigma2, float(2.0 * Q / sigma2)


def _bend(problem: Problem, point: Any) -> float:
    """Curvature along log sigma that comes from held effects: theta moves as 1 / sigma (structured, eq. 7)."""
    return float(point.gradient[problem.held] @ point.theta[problem.held])


def sigma_is_held(problem: Problem) -> bool:
    """Whether the residual variance is held at a value."""
    return problem.fixed is not None and bool(np.isfinite(problem.fixed[-1]))


def with_bend_of_fixed(problem: Problem, point: Any, A: Array) -> Array:
    """Add the curvature of the surface of held variances to an information (P, P)."""
    if problem.fixed is None or not problem.objective.closed_form or sigma_is_held(problem):
        return A
    out = A.copy()
    out[-1, -1] += _bend(problem, point)
    return out


def beside_fixed(problem: Problem, point: Any, basis: Array) -> Array:
    """Directions (P, r) in which parameters may move, of which ``basis`` are those with sigma free."""
    if problem.fixed is None or not problem.objective.closed_form:
        return basis
    if sigma_is_held(problem):
        return basis[:, :-1]
    out, p = basis.copy(), problem.structure.p
    out[p : p + len(point.theta), -1] = np.where(problem.held, -point.theta, 0.0)
    return out
