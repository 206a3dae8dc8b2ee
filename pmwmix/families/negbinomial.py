"""Overdispersed counts, the variance quadratic in the mean; Hilbe (2011), model NB2."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
import pytensor.tensor as pt
from scipy import special

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._gamma import log_rising
from pmwmix.families._outcomes import SHAPES, bounded_counts, need_counts, weighted_moments
from pmwmix.links import Link
from pmwmix.links._curves import LARGE
from pmwmix.spec.outcome import Outcome, Response


class NegativeBinomial(Family):
    """Negative binomial distribution with mean mu and variance mu + mu²/theta; phi = log theta.

    Notes
    -----
    log f = log gamma(y + theta) - log gamma(theta) - log y! + y log(mu / theta) - (y + theta) log(1 + mu / theta)
    (Hilbe 2011 [1]_, chapter 8), written so that the limit theta -> infinity is the Poisson density to the last digits.
    The level-1 variance on the log scale is log(1 + 1 / mu + 1 / theta) (Nakagawa, Johnson & Schielzeth 2017 [2]_,
    table 1).

    References
    ----------
    .. [1] Hilbe, J. M. (2011). Negative Binomial Regression, 2nd ed. Cambridge University Press.
    .. [2] Nakagawa, S., Johnson, P. C. D. & Schielzeth, H. (2017). The coefficient of determination R² and
       intra-class correlation coefficient from generalized linear mixed-effects models revisited and expanded.
       J. R. Soc. Interface, 14, 20170213. doi: 10.1098/rsif.2017.0213
    """

    name = "negbinomial"
    links = ("log", "sqrt")
    formulas = MappingProxyType({"theta": (0, 1.0)})
    has_mean_score = True

    def read(self, outcome: Outcome) -> Response:
        """Give the counts and minus log y!."""
        y = need_counts(outcome, self.name)
        return Response(y, (), -special.gammaln(y + 1.0))

    def n_phi(self, response: Response) -> int:
        """Give 1: log theta."""
        return 1

    def log_density(self, link: Link, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without log y!."""
        log_theta = pt.minimum(phi[0], LARGE)  # Poisson long before
        theta = pt.exp(log_theta)
        return log_rising(theta, y) + y * link.log_mean(eta) - (y + theta) * link.log_one_plus(eta, log_theta)

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the link of y + (y == 0) / 6, as MASS's ``negative.binomial``, and theta by moments."""
        mean, variance = weighted_moments(response.y, w)
        theta = mean**2 / max(variance - mean, 0.01 * mean)
        return link.eta(np.maximum(response.y, 1.0 / 6.0)), np.log([np.clip(theta, 0.05, 100.0)])

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give theta."""
        theta = float(np.exp(phi[0]))
        return {"theta": theta}, np.array([[theta]])

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give mu + mu²/theta."""
        return mean + np.square(mean) * np.exp(-phi[0])

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give 2 [y log(y / mu) - (y + theta) log((y + theta) / (mu + theta))]."""
        theta = np.exp(phi[0])
        own = special.xlogy(y, y) - special.xlogy(y, mean)
        return np.maximum(2.0 * (own - (y + theta) * np.log1p((y - mean) / (mean + theta))), 0.0)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give the observation-level variance."""
        share = float(np.exp(-phi[0]))
        return 0.25 * (1.0 + mean * share) if link.name == "sqrt" else float(np.log1p(1.0 / mean + share))

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """Bound expected counts, and theta."""
        return bounded_counts(link, eta), np.clip(phi, *SHAPES)

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw counts: Poisson with a gamma mean."""
        mean = link.mean(eta)
        theta = np.exp(phi[0])
        return rng.poisson(mean * rng.gamma(theta, 1.0 / theta, mean.shape)).astype(float)


FAMILIES.add("negbinomial", NegativeBinomial())
