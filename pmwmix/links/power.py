"""Links to means that are not probabilities: identity, log, square root, inverse; McCullagh & Nelder (1989), 2.2.3."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.links._base import LINKS, Link
from pmwmix.links._curves import LARGE, bounded_exp, bounded_log, bounded_reciprocal, softplus


class Identity(Link):
    """mean = eta."""

    name = "identity"

    def mean_graph(self, eta: Any) -> Any:
        """Mean, symbolic."""
        return eta

    def mean(self, eta: Array) -> Array:
        """Mean."""
        return np.asarray(eta, dtype=float)

    def slope(self, eta: Array) -> Array:
        """One."""
        return np.ones_like(eta, dtype=float)

    def eta(self, mean: Array) -> Array:
        """Linear predictor."""
        return np.asarray(mean, dtype=float)


class Log(Link):
    """log(mean) = eta."""

    name = "log"
    can_separate = True

    def log_mean(self, eta: Any) -> Any:
        """Logarithm of the mean, symbolic."""
        return eta

    def mean_graph(self, eta: Any) -> Any:
        """Mean, symbolic."""
        return bounded_exp(eta)

    def log_one_plus(self, eta: Any, phi: Any) -> Any:
        """Log (1 + mean / exp(phi)), symbolic, without the exponential."""
        return softplus(eta - phi)

    def mean(self, eta: Array) -> Array:
        """Mean, no larger than `_curves.LARGE` on the log scale."""
        return np.exp(np.minimum(eta, LARGE))

    def slope(self, eta: Array) -> Array:
        """Mean."""
        return self.mean(eta)

    def eta(self, mean: Array) -> Array:
        """Logarithm."""
        return np.log(mean)


class Sqrt(Link):
    """sqrt(mean) = eta; a negative eta lies outside the range of the link and is pushed back."""

    name = "sqrt"

    def log_mean(self, eta: Any) -> Any:
        """Logarithm of the mean, symbolic."""
        return 2.0 * bounded_log(eta)

    def mean_graph(self, eta: Any) -> Any:
        """Mean, symbolic."""
        return eta * eta

    def mean(self, eta: Array) -> Array:
        """Mean."""
        return np.square(eta)

    def slope(self, eta: Array) -> Array:
        """Twice eta."""
        return 2.0 * np.asarray(eta)

    def eta(self, mean: Array) -> Array:
        """Square root."""
        return np.sqrt(mean)


class Inverse(Link):
    """1 / mean = eta > 0; what is not positive lies outside the range of the link and is pushed back."""

    name = "inverse"

    def log_mean(self, eta: Any) -> Any:
        """Logarithm of the mean, symbolic."""
        return -bounded_log(eta)

    def mean_graph(self, eta: Any) -> Any:
        """Mean, symbolic."""
        return bounded_reciprocal(eta)

    def reciprocal_mean(self, eta: Any) -> Any:
        """Eta itself."""
        return eta

    def mean(self, eta: Array) -> Array:
        """Mean."""
        return 1.0 / np.asarray(eta)

    def slope(self, eta: Array) -> Array:
        """Minus the squared mean."""
        return -1.0 / np.square(eta)

    def eta(self, mean: Array) -> Array:
        """Reciprocal."""
        return 1.0 / np.asarray(mean)


for _link in (Identity(), Log(), Sqrt(), Inverse()):
    LINKS.add(_link.name, _link)
