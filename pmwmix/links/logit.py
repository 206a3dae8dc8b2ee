"""The logit link, F the logistic distribution; McCullagh & Nelder (1989), section 4.3.1."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from pmwmix._types import Array
from pmwmix.links._base import LINKS, ProbabilityLink
from pmwmix.links._curves import log_one_minus_exp, logistic, softplus


class Logit(ProbabilityLink):
    """eta = log(p / (1 - p))."""

    name = "logit"
    latent_variance = np.pi**2 / 3.0

    def mean_graph(self, eta: Any) -> Any:
        """Probability, symbolic."""
        return logistic(eta)

    def log_cdf(self, eta: Any) -> Any:
        """Log F, symbolic."""
        return -softplus(-eta)

    def log_sf(self, eta: Any) -> Any:
        """Log (1 - F), symbolic."""
        return -softplus(eta)

    def log_difference(self, upper: Any, lower: Any, eta: Any = 0.0) -> Any:
        """Log F(upper - eta) + log(1 - F(lower - eta)) + log(1 - exp(lower - upper)), symbolic."""
        return log_one_minus_exp(upper - lower) - softplus(eta - upper) - softplus(lower - eta)

    def log_binomial(self, successes: Any, failures: Any, eta: Any) -> Any:
        """Log-probability of successes and failures, symbolic."""
        return successes * eta - (successes + failures) * softplus(eta)

    def mean(self, eta: Array) -> Array:
        """Probability."""
        return special.expit(eta)

    def slope(self, eta: Array) -> Array:
        """Logistic density."""
        return special.expit(eta) * special.expit(-np.asarray(eta))

    def eta(self, mean: Array) -> Array:
        """Log odds."""
        return special.logit(mean)


LINKS.add("logit", Logit())
