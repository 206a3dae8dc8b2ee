"""An objective whose point is (theta, ρ): parameters of residuals are climbed together with those of the effects."""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import Point
from pmwmix.likelihood.linear.objective import Objective


class ResidualObjective(Objective):
    """What a residual structure and several outcomes share: not every ρ has a covariance matrix, and none is zero."""

    def at(self, theta: Array, k: int = 0) -> Point:
        """Evaluate outcome ``k`` at (theta, ρ); where rounding leaves no covariance matrix, it is infinitely bad."""
        try:
            with np.errstate(all="ignore"):
                point = super().at(theta, k)
        except np.linalg.LinAlgError:
            return self._nowhere(theta)
        return point if np.isfinite(point.value) and np.isfinite(point.hessian).all() else self._nowhere(theta)

    def _nowhere(self, theta: Array) -> Point:
        n, p = len(theta), self.structure.p
        flat = np.eye(p + n + 1)
        return Point(np.array(theta), np.zeros(p), 1.0, np.inf, np.zeros(n), np.eye(n), flat, {})

    def boundary(self, free: Array) -> list[Array]:
        """List points with one or all small variances at zero; ρ stays."""
        t = self.structure.layout.n_theta
        found = self.structure.layout.boundary_candidates(free[:t])
        return [np.append(theta, free[t:]) for theta in found]
