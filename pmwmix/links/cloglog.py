"""The complementary log-log link and its mirror image; McCullagh & Nelder (1989), section 4.3.1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.links._base import LINKS, ProbabilityLink
from pmwmix.links._curves import LARGE, bounded_exp, log_gumbel_cdf, log_one_minus_exp


class Cloglog(ProbabilityLink):
    """log(-log(1 - p)) = eta, the hazard's link in discrete time."""

    name = "cloglog"
    latent_variance = np.pi**2 / 6.0

    def mean_graph(self, eta: Any) -> Any:
        """Probability, symbolic."""
        return -pt.expm1(-bounded_exp(eta))

    def log_cdf(self, eta: Any) -> Any:
        """Log F, symbolic."""
        return log_gumbel_cdf(eta)

    def log_sf(self, eta: Any) -> Any:
        """Log (1 - F), symbolic."""
        return -bounded_exp(eta)

    def log_difference(self, upper: Any, lower: Any, eta: Any = 0.0) -> Any:
        """Log (1 - F(lower)) + log(1 - exp(exp(lower) - exp(upper))), each end less eta, symbolic."""
        return log_gumbel_cdf(upper + log_one_minus_exp(upper - lower) - eta) - bounded_exp(lower - eta)

    def mean(self, eta: Array) -> Array:
        """Probability."""
        return -np.expm1(-np.exp(np.minimum(eta, LARGE)))

    def slope(self, eta: Array) -> Array:
        """Gumbel density."""
        eta = np.minimum(eta, LARGE)
        return np.exp(eta - np.exp(eta))

    def eta(self, mean: Array) -> Array:
        """Log of minus the log of the failure probability."""
        return np.log(-np.log1p(-np.asarray(mean)))


class Loglog(ProbabilityLink):
    """-log(-log p) = eta: cloglog of the failures, its sign changed."""

    name = "loglog"
    latent_variance = np.pi**2 / 6.0
    mirror = Cloglog()

    def mean_graph(self, eta: Any) -> Any:
        """Probability, symbolic."""
        return pt.exp(-bounded_exp(-eta))

    def log_cdf(self, eta: Any) -> Any:
        """Log F, symbolic."""
        return self.mirror.log_sf(-eta)

    def log_sf(self, eta: Any) -> Any:
        """Log (1 - F), symbolic."""
        return self.mirror.log_cdf(-eta)

    def log_difference(self, upper: Any, lower: Any, eta: Any = 0.0) -> Any:
        """Log (F(upper - eta) - F(lower - eta)), symbolic."""
        return self.mirror.log_difference(-lower, -upper, -eta)

    def mean(self, eta: Array) -> Array:
        """Probability."""
        return np.exp(-np.exp(np.minimum(-np.asarray(eta), LARGE)))

    def slope(self, eta: Array) -> Array:
        """Gumbel density, mirrored."""
        return self.mirror.slope(-np.asarray(eta))

    def eta(self, mean: Array) -> Array:
        """Minus the log of minus the log of the probability."""
        return -np.log(-np.log(mean))


LINKS.add("cloglog", Cloglog())
LINKS.add("loglog", Loglog())
