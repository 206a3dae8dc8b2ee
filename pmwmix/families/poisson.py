"""Counts with the variance of their mean; McCullagh & Nelder (1989), chapter 6."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._outcomes import bounded_counts, need_counts
from pmwmix.links import Link
from pmwmix.links._curves import bounded_exp
from pmwmix.spec.outcome import Outcome, Response


class Poisson(Family):
    """Poisson distribution: log f = y log(mu) - mu - log y!.

    Notes
    -----
    The level-1 variance on the log scale is log(1 + 1 / mu), on the square-root scale 1/4 (Nakagawa, Johnson &
    Schielzeth 2017 [1]_, table 1).

    References
    ----------
    .. [1] Nakagawa, S., Johnson, P. C. D. & Schielzeth, H. (2017). The coefficient of determination R² and
       intra-class correlation coefficient from generalized linear mixed-effects models revisited and expanded.
       J. R. Soc. Interface, 14, 20170213. doi: 10.1098/rsif.2017.0213
    """

    name = "poisson"
    links = ("log", "sqrt")
    has_expected_information = True
    has_mean_score = True

    def read(self, outcome: Outcome) -> Response:
        """Give the counts and minus log y!."""
        y = need_counts(outcome, self.name)
        return Response(y, (), -special.gammaln(y + 1.0))

    def log_density(self, link: Link, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without log y!."""
        return y * link.log_mean(eta) - link.mean_graph(eta)

    def cumulant(self, link: Link) -> Any:
        """Give exp(eta) of the log link."""
        return bounded_exp if link.name == "log" else None

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the link of y + 0.1, as R's ``poisson()``; no further parameters."""
        return link.eta(response.y + 0.1), np.zeros(0)

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give the mean."""
        return mean

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give 2 [y log(y / mu) - (y - mu)]."""
        return np.maximum(2.0 * (special.xlogy(y, y) - special.xlogy(y, mean) - (y - mean)), 0.0)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give the observation-level variance."""
        return 0.25 if link.name == "sqrt" else float(np.log1p(1.0 / mean))

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """Bound expected counts."""
        return bounded_counts(link, eta), phi

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw counts."""
        return rng.poisson(link.mean(eta)).astype(float)


FAMILIES.add("poisson", Poisson())
