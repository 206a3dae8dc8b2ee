"""The probit link, F the standard normal distribution; McCullagh & Nelder (1989), section 4.3.1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from scipy import special

from pmwmix.links._base import LINKS, Array, ProbabilityLink
from pmwmix.links._curves import log_normal_cdf


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

    def log_difference(self, upper: Any, lower: Any) -> Any:
        """Log F(upper) + log(1 - F(lower) / F(upper)), symbolic, both ends reflected where the middle is above 0."""
        above = upper + lower > 0.0
        larger = log_normal_cdf(pt.switch(above, -lower, upper))
        smaller = log_normal_cdf(pt.switch(above, -upper, lower))
        return larger + pt.log(-pt.expm1(smaller - larger))

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
