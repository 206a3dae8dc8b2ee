"""Successes in a number of trials whose probability varies from row to row; Crowder (1978)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
from scipy import special

from pmwmix._types import Array
from pmwmix.errors import DataError
from pmwmix.families._base import FAMILIES
from pmwmix.families._outcomes import SHAPES
from pmwmix.families._rising import log_rising_near
from pmwmix.families.binomial import Binomial
from pmwmix.links import Link
from pmwmix.spec.outcome import Outcome, Response

EDGE = 1e-12  # from 0 and 1, of expected probabilities that are drawn about


class BetaBinomial(Binomial):
    """Beta-binomial distribution: y successes in n trials, of probability p ~ beta with mean mu; phi = log(a + b).

    Notes
    -----
    log f = log C(n, y) + log B(y + a, n - y + b) - log B(a, b) with a = mu phi and b = (1 - mu) phi (Crowder 1978 [1]_,
    eq. 1); the variance is n mu (1 - mu) (phi + n) / (phi + 1), that of the binomial family for phi -> infinity. It is
    written with ratios of gamma functions, so that this limit and means near 0 and 1 keep their digits.

    References
    ----------
    .. [1] Crowder, M. J. (1978). Beta-binomial Anova for proportions. Applied Statistics, 27(1), 34-37.
       doi: 10.2307/2346223
    """

    name = "beta-binomial"
    links = ("logit", "probit", "cloglog")
    has_expected_information = False
    has_mean_score = False
    formulas = MappingProxyType({"phi": (0, 1.0)})

    def cumulant(self, link: Link) -> Any:
        """Give none: it is no exponential family."""
        return None

    def read(self, outcome: Outcome) -> Response:
        """Give successes, trials and the log binomial coefficient."""
        response = super().read(outcome)
        if (response.extra[0] < 2.0).all():
            raise DataError(
                f"The beta-binomial family needs rows of two or more trials, or its phi says nothing. {outcome.name!r} "
                f"has one trial in all {len(response.y)} rows. Use family='binomial', or cbind(successes, failures)."
            )
        return response

    def has_one_peak(self, link: Link) -> bool:
        """Not proven."""
        return False

    def n_phi(self, response: Response) -> int:
        """Give 1: log phi."""
        return 1

    def log_density(self, link: Any, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without the binomial coefficient."""
        n = extra[0]
        hit, miss = link.log_cdf(eta), link.log_sf(eta)
        rising = log_rising_near(phi[0] + hit, y) + log_rising_near(phi[0] + miss, n - y)
        return rising - log_rising_near(phi[0], n) + y * hit + (n - y) * miss

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the binomial's linear predictor, drawn half-way to the mean, and phi of moderate size."""
        y, n = response.y, response.extra[0]
        mean = float(np.sum(w * y) / np.sum(w * n))
        own = (y + 0.5) / (n + 1.0)
        excess = np.sum(w * np.square(y - n * mean)) / np.sum(w * n * mean * (1.0 - mean))  # (phi + n) / (phi + 1)
        size = float(np.average(n, weights=w))
        phi = np.clip((size - excess) / max(excess - 1.0, 0.05), 0.5, 100.0)
        return link.eta(0.5 * (own + mean)), np.log([phi])

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give phi."""
        size = float(np.exp(phi[0]))
        return {"phi": size}, np.array([[size]])

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give n mu (1 - mu) (phi + n) / (phi + 1)."""
        size = np.exp(phi[0])
        return super().variance(mean, phi, extra) * (size + extra[0]) / (size + 1.0)

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give twice the log-density at mu = y / n less that at mu, where positive."""
        n, size = extra[0], np.exp(phi[0])

        def at(mu: Array) -> Array:
            a, b = np.maximum(mu * size, 1e-300), np.maximum((1.0 - mu) * size, 1e-300)
            return special.betaln(y + a, n - y + b) - special.betaln(a, b)

        return np.maximum(2.0 * (at(y / n) - at(mean)), 0.0)

    def latent_variance(self, link: Any, mean: float, phi: Array) -> float:
        """Give NaN: what the beta distribution adds depends on the number of trials."""
        return float("nan")

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """Keep expected probabilities off 0 and 1, and bound phi."""
        low, high = (float(link.eta(np.array(p))) for p in (EDGE, 1.0 - EDGE))
        return np.clip(eta, low, high), np.clip(phi, *SHAPES)

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw numbers of successes."""
        mean, size = link.mean(eta), np.exp(phi[0])
        p = rng.beta(mean * size, (1.0 - mean) * size)
        return rng.binomial(extra[0].astype(np.int64), p).astype(float)


FAMILIES.add("beta-binomial", BetaBinomial())
