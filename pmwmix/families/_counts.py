"""What zero-inflated, hurdle and truncated counts ask of the distribution of the counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.families._base import Family
from pmwmix.links import Link
from pmwmix.links._curves import LARGE, bounded_exp, log_gumbel_cdf, softplus

TINY = 1e-300  # a mean that is no smaller has a quotient
FAR_DOWN = -30.0  # below it log(log(1 + exp(x))) is x - exp(x) / 2 to all digits


class Counts:
    """A distribution of counts: its density is that of ``family``, with what is wanted of zeros."""

    def __init__(self, family: Family) -> None:
        self.family = family

    def log_positive(self, link: Link, eta: Any, phi: list[Any]) -> Any:
        """Log of the probability of a count above 0, symbolic."""
        raise NotImplementedError

    def positive(self, mean: Array, phi: Array) -> Array:
        """Probability of a count above 0 (n,)."""
        raise NotImplementedError

    def quantile_from_above(self, share: Array, mean: Array, phi: Array) -> Array:
        """Smallest count beyond which no more than ``share`` of the probability lies (n,)."""
        raise NotImplementedError

    def draw_positive(self, rng: np.random.Generator, mean: Array, phi: Array) -> Array:
        """Draw counts given that they are above 0."""
        mean = np.maximum(mean, TINY)
        beyond = self.positive(mean, phi) * rng.uniform(size=np.shape(mean))
        return np.maximum(self.quantile_from_above(beyond, mean, phi), 1.0)

    def moments_of_positive(self, mean: Array, phi: Array) -> tuple[Array, Array]:
        """Mean and mean square of counts above 0."""
        mean = np.maximum(mean, TINY)
        above = self.positive(mean, phi)
        return mean / above, (self.family.variance(mean, phi, ()) + np.square(mean)) / above


class PoissonCounts(Counts):
    """1 - exp(-mu), which with the log link is the complementary log-log curve."""

    def log_positive(self, link: Link, eta: Any, phi: list[Any]) -> Any:
        """Log(1 - exp(-mu)), symbolic."""
        return log_gumbel_cdf(link.log_mean(eta))

    def positive(self, mean: Array, phi: Array) -> Array:
        """1 - exp(-mu)."""
        return -np.expm1(-mean)

    def quantile_from_above(self, share: Array, mean: Array, phi: Array) -> Array:
        """By scipy."""
        from scipy import stats  # a second's import that only draws need

        return stats.poisson.isf(share, mean)


class NegativeBinomialCounts(Counts):
    """1 - (1 + mu / theta)^-theta."""

    def log_positive(self, link: Link, eta: Any, phi: list[Any]) -> Any:
        """Log(1 - exp(-exp(x))) with x = log theta + log log(1 + mu / theta), symbolic."""
        log_theta = pt.minimum(phi[0], LARGE)
        below = link.log_mean(eta) - log_theta
        near = pt.maximum(below, FAR_DOWN)
        log_log = pt.switch(below < FAR_DOWN, below - 0.5 * bounded_exp(pt.minimum(below, 0.0)), pt.log(softplus(near)))
        return log_gumbel_cdf(log_theta + log_log)

    def positive(self, mean: Array, phi: Array) -> Array:
        """1 - (1 + mu / theta)^-theta."""
        theta = np.exp(phi[0])
        return -np.expm1(-theta * np.log1p(mean / theta))

    def quantile_from_above(self, share: Array, mean: Array, phi: Array) -> Array:
        """By scipy."""
        from scipy import stats  # a second's import that only draws need

        theta = np.exp(phi[0])
        return stats.nbinom.isf(share, theta, theta / (theta + mean))
