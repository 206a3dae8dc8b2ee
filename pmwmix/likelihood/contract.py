"""What every likelihood answers: points with value, gradient, Hessian and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmwmix._types import Array

LOG_2PI = float(np.log(2 * np.pi))


@dataclass
class IntegratedPoint:
    """The objective at one point. Parameters are ordered (beta, theta, phi); P of them.

    Parameters
    ----------
    theta : ndarray, shape (P,)
        All parameters; the name is that of `optimise.minimise`.
    value : float
        Minus the pseudo-log-likelihood, without the constant of the outcome.
    gradient : ndarray, shape (P,)
    scores : ndarray, shape (G_L, P)
        Gradient of the weighted log-likelihood of every top-level unit.
    modes : list of list of ndarray
        Per chunk and level, padded.
    """

    theta: Array
    value: float
    gradient: Array
    scores: Array
    modes: list[list[Array]]
    source: Any
    outcome: int
    _hessian: list[Array] = field(default_factory=list)

    costly = True  # the Hessian takes several times as long as the rest

    @property
    def hessian(self) -> Array:
        """Exact second derivatives of ``value`` (P, P); computed when first asked for."""
        if not self._hessian:
            self._hessian.append(self.source.hessian(self))
        return self._hessian[0]


@dataclass(frozen=True)
class RowArrays:
    """Rows of the sample in the order of the table; standardised columns.

    Parameters
    ----------
    X : sequence of ndarray, each (n,)
    Z : sequence of ndarray, each (n,)
        Random columns of all levels, bottom-up.
    offset, w : ndarray, shape (n,)
    y : list of ndarray, each (n,)
        Outcomes.
    extra : list of tuple of ndarray
        Per outcome.
    """

    X: Sequence[Array]
    Z: Sequence[Array]
    offset: Array
    w: Array
    y: list[Array]
    extra: list[tuple[Array, ...]]


@dataclass(frozen=True)
class Point:
    """The objective at one theta. Free parameters are ordered (beta, theta, log sigma); P of them.

    Parameters
    ----------
    theta, beta : ndarray, shape (n_theta,), (p,)
    sigma : float
        Profiled residual standard deviation.
    value : float
        Minus the (restricted) pseudo-log-likelihood, profiled over beta and sigma.
    gradient, hessian : ndarray, shape (n_theta,), (n_theta, n_theta)
        Of ``value``.
    information : ndarray, shape (P, P)
        Negative Hessian of the joint (restricted) pseudo-log-likelihood.
    """

    theta: Array
    beta: Array
    sigma: float
    value: float
    gradient: Array
    hessian: Array
    information: Array
    raw: dict[str, Any]


def joint_information(Sxx: Array, Q_tb: Array, second: Array, Q_t: Array, sigma2: float, n: float) -> Array:
    """Negative Hessian of the log-likelihood in (beta, theta, log sigma) at a profiled point (theory, eq. 13)."""
    p, t = len(Sxx), len(Q_t)
    A = np.zeros((p + t + 1, p + t + 1))
    A[:p, :p] = Sxx / sigma2
    A[p : p + t, :p] = 0.5 * Q_tb / sigma2
    A[:p, p : p + t] = A[p : p + t, :p].T
    A[p : p + t, p : p + t] = second
    A[p : p + t, -1] = A[-1, p : p + t] = -Q_t / sigma2
    A[-1, -1] = 2.0 * n
    return A


def schur_onto(A: Array, keep: slice) -> Array:
    """Profile a quadratic form onto some of its coordinates: A_kk - A_ko A_oo⁻¹ A_ok."""
    kept = np.zeros(len(A), dtype=bool)
    kept[keep] = True
    cross = A[np.ix_(kept, ~kept)]
    return A[np.ix_(kept, kept)] - cross @ np.linalg.solve(A[np.ix_(~kept, ~kept)], cross.T)
