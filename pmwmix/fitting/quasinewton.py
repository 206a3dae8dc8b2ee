"""Replicates of a generalised model: the same objective with other weights, refitted or stepped once. Numbers only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import Likelihood

NEAR = 1e-9  # squared distance to the optimum, in standard errors, at which a warm-started refit stops
INSIDE = 0.05  # a diagonal entry of Λ below this is tried at the boundary too
ROUGH = 1e-3  # the same at which the last step of the one-step option is taken: what is left is of second order
STEPS = 12


class QuasiNewton:
    """Quasi-Newton steps in a replicate from the full-sample estimate (replicates, eqs. 11 and 13).

    The inverse Hessian is that of the full sample, corrected by what each step shows of the replicate's own.
    """

    def __init__(self, objective: Likelihood, k: int, psi: Array, inverse: Array, gradient: Array | None):
        self.objective, self.k, self.psi, self.inverse = objective, k, psi, inverse
        self.gradient = objective.at(psi, k).gradient if gradient is None else gradient
        self.value, self.moved = np.inf, False

    @property
    def decrement(self) -> float:
        """Squared distance to the optimum, in standard errors."""
        return float(self.gradient @ self.inverse @ self.gradient)

    def next(self) -> Array:
        """Where the next step leads."""
        return self.psi - self.inverse @ self.gradient

    def step(self, inside: Callable[[Array], bool]) -> bool:
        """Take it; False, and nothing changed, if it leads to the boundary or upwards."""
        psi = self.next()
        if not inside(psi):
            return False
        point = self.objective.at(psi, self.k)
        if not point.value <= self.value + 1e-11 * max(1.0, abs(point.value)):
            return False
        self.inverse = _bfgs(self.inverse, psi - self.psi, point.gradient - self.gradient)
        self.psi, self.gradient, self.value, self.moved = psi, point.gradient, point.value, True
        return True


def _bfgs(H: Array, step: Array, change: Array) -> Array:
    """Update an inverse Hessian by a step and the change of the gradient along it (replicates, eq. 13)."""
    along = float(step @ change)
    if along <= 1e-12 * float(np.linalg.norm(step) * np.linalg.norm(change)):
        return H
    E = np.eye(len(H)) - np.outer(step, change) / along
    return E @ H @ E.T + np.outer(step, step) / along
