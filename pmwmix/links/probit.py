"""The probit link, F the standard normal distribution; McCullagh & Nelder (1989), section 4.3.1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from scipy import special

from pmwmix._types import Array
from pmwmix.links._base import LINKS, ProbabilityLink
from pmwmix.links._curves import log_normal_cdf, log_one_minus_exp


class Probit(ProbabilityLink):
    """Phi(eta) = p."""

    name = "probit"
    latent_variance = 1.0

    def mean_graph(self, eta: Any) -> Any:
        """Probability, symbolic."""
        return pt.exp(log_normal_cdf(eta))

    def log_cdf(self, eta: Any) -> Any:
        """Log F, symbolic."""
        return log_normal_cdf(eta)

    def log_sf(self, eta: Any) -> Any:
        """Log (1 - F), symbolic."""
        return log_normal_cdf(-eta)

    def log_difference(self, upper: Any, lower: Any, eta: Any = 0.0) -> Any:
        """Log F(upper) + log(1 - F(lower) / F(upper)), symbolic, both ends reflected where the middle is above eta."""
        above = upper + lower > 2.0 * eta
        larger = log_normal_cdf(pt.switch(above, eta - lower, upper - eta))
        smaller = log_normal_cdf(pt.switch(above, eta - upper, lower - eta))
        return larger + log_one_minus_exp(larger - smaller)

    def mean(self, eta: Array) -> Array:
        """Probability."""
        return special.ndtr(eta)

    def slope(self, eta: Array) -> Array:
        """Density of the normal distribution."""
        return np.exp(-0.5 * np.square(eta)) / np.sqrt(2.0 * np.pi)

    def eta(self, mean: Array) -> Array:
        """Quantile of the normal distribution."""
        return special.ndtri(mean)


LINKS.add("probit", Probit())
