"""The cauchit link, F the Cauchy distribution; Koenker & Yoon (2009)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.links._base import LINKS, ProbabilityLink
from pmwmix.links._curves import NARROW, log_cauchy_cdf

LOG_PI = float(np.log(np.pi))


class Cauchit(ProbabilityLink):
    """tan(pi (p - 1/2)) = eta; the distribution F has no variance."""

    name = "cauchit"
    latent_variance = float("nan")

    def mean_graph(self, eta: Any) -> Any:
        """Probability, symbolic; the angle from the negative axis keeps the lower tail exact."""
        return pt.arctan2(1.0, -eta) / np.pi

    def log_cdf(self, eta: Any) -> Any:
        """Log F, symbolic."""
        return log_cauchy_cdf(eta)

    def log_sf(self, eta: Any) -> Any:
        """Log (1 - F), symbolic."""
        return log_cauchy_cdf(-eta)

    def log_difference(self, upper: Any, lower: Any, eta: Any = 0.0) -> Any:
        """Log of the angle between the two ends, symbolic."""
        return pt.log(pt.arctan2(pt.maximum(upper - lower, NARROW), 1.0 + (upper - eta) * (lower - eta))) - LOG_PI

    def log_interval(self, upper: Any, lower: Any, eta: Any, is_first: Any, is_last: Any) -> Any:
        """Log-probability of an interval, symbolic; the tails are so heavy that no end is far enough away."""
        lower, upper = pt.switch(is_first, upper - 1.0, lower), pt.switch(is_last, lower + 1.0, upper)
        outer = self.log_cdf(pt.switch(is_first, upper - eta, eta - lower))
        return pt.switch(is_first | is_last, outer, self.log_difference(upper, lower, eta))

    def mean(self, eta: Array) -> Array:
        """Probability."""
        return np.arctan2(1.0, -np.asarray(eta, dtype=float)) / np.pi

    def slope(self, eta: Array) -> Array:
        """Cauchy density."""
        return 1.0 / (np.pi * (1.0 + np.square(eta)))

    def eta(self, mean: Array) -> Array:
        """Cauchy quantile."""
        return -1.0 / np.tan(np.pi * np.asarray(mean))


LINKS.add("cauchit", Cauchit())
