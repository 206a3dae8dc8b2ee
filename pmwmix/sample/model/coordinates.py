"""Coordinates without bounds for covariances: log standard deviations and Fisher's z of partial correlations.

Any real vector stands for a positive definite covariance, so that draws can be moved linearly in them. Numpy only.
"""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.layout import ThetaLayout

NEAR_ONE = 1.0 - 1e-9
TINY = 1e-150


def to_free(layout: ThetaLayout, theta: Array) -> Array:
    """Turn draws of theta (..., n_theta) into coordinates of the same shape.

    The place of a diagonal entry holds the log standard deviation of its random effect, that of another the Fisher z
    of a partial correlation.
    """
    out = np.array(theta, dtype=float)
    for entries in layout.entries:
        place = {(i, j): k for i, j, k in entries}
        for (i, j), k in place.items():
            row = [place[i, m] for m in range(i + 1) if (i, m) in place]
            size = np.sqrt((theta[..., row] ** 2).sum(axis=-1))
            if i == j:
                out[..., k] = np.log(np.maximum(size, TINY))
                continue
            before = [place[i, m] for m in range(j) if (i, m) in place]
            left = np.maximum(size**2 - (theta[..., before] ** 2).sum(axis=-1), TINY)
            out[..., k] = np.arctanh(np.clip(theta[..., k] / np.sqrt(left), -NEAR_ONE, NEAR_ONE))
    return out


def from_free(layout: ThetaLayout, free: Array) -> Array:
    """Undo `to_free`; diagonals become positive."""
    out = np.array(free, dtype=float)
    for entries in layout.entries:
        place = {(i, j): k for i, j, k in entries}
        for i in sorted({i for i, _ in place}):
            size = np.exp(free[..., place[i, i]])
            left = np.ones_like(size)
            for j in range(i):
                if (i, j) in place:
                    r = np.tanh(free[..., place[i, j]])
                    out[..., place[i, j]] = size * r * np.sqrt(left)
                    left = left * (1.0 - r**2)
            out[..., place[i, i]] = size * np.sqrt(left)
    return out


def jacobian(layout: ThetaLayout, free: Array) -> Array:
    """Differentiate theta in the coordinates (n_theta, n_theta), by central differences."""
    h = 1e-6
    steps = h * np.eye(len(free))
    return ((from_free(layout, free + steps) - from_free(layout, free - steps)) / (2.0 * h)).T


def limits(layout: ThetaLayout, theta: Array, tol: float) -> Array:
    """Mark coordinates that are infinite at theta (n_theta,): standard deviations of zero, correlations of one."""
    out = np.zeros(len(theta), dtype=bool)
    for entries in layout.entries:
        place = {(i, j): k for i, j, k in entries}
        sizes = {
            i: float(np.sqrt(sum(theta[place[i, m]] ** 2 for m in range(i + 1) if (i, m) in place)))
            for i in {i for i, _ in place}
        }
        for (i, j), k in place.items():
            if i == j:
                out[k] = sizes[i] <= tol
                continue
            before = sum(theta[place[i, m]] ** 2 for m in range(j) if (i, m) in place)
            left = np.sqrt(max(sizes[i] ** 2 - before, 0.0))
            out[k] = sizes[i] <= tol or sizes[j] <= tol or left <= tol or abs(theta[k]) >= left * (1.0 - 1e-6)
    return out


__all__ = ["from_free", "jacobian", "limits", "to_free"]
