"""Proportions without trials, inside (0, 1); Ferrari & Cribari-Neto (2004)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
from scipy import special

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._gamma import log_gamma
from pmwmix.families._outcomes import SHAPES, need_numbers, need_variation, refuse, weighted_moments
from pmwmix.links import Link
from pmwmix.links._curves import bounded_exp
from pmwmix.spec.outcome import Outcome, Response

EDGE = 1e-12  # from 0 and 1, of expected proportions that are drawn about
SQUEEZE = "(y * (n - 1) + 0.5) / n with n the number of rows (Smithson & Verkuilen 2006)"


class Beta(Family):
    """Beta distribution with mean mu and precision p: variance mu (1 - mu) / (1 + p); phi = log p.

    Notes
    -----
    log f = log gamma(p) - log gamma(mu p) - log gamma((1 - mu) p) + (mu p - 1) log y + ((1 - mu) p - 1) log(1 - y)
    (Ferrari & Cribari-Neto 2004 [1]_, eq. 4). The log-gammas are taken at 1 + mu p, and log mu apart, so that a mean
    near 0 or 1 stays finite.

    References
    ----------
    .. [1] Ferrari, S. & Cribari-Neto, F. (2004). Beta regression for modelling rates and proportions. J. Appl. Stat.,
       31(7), 799-815. doi: 10.1080/0266476042000214501
    """

    name = "beta"
    links = ("logit", "probit", "cloglog", "loglog", "cauchit")
    formulas = MappingProxyType({"phi": (0, 1.0)})  # the precision
    n_extra = 2  # log y and log(1 - y)

    def read(self, outcome: Outcome) -> Response:
        """Give the values, log y and log(1 - y), and minus their sum."""
        y = need_numbers(outcome, self.name)
        rule = "The outcome of the beta family must lie between 0 and 1, without the ends."
        outside = (y < 0) | (y > 1)
        refuse(outcome, outside, rule, "Divide it by its largest possible value, or use family='gaussian'.")
        advice = (
            f"Move such values inside, as by {SQUEEZE}; for successes of trials use family='binomial' with trials=."
        )
        refuse(outcome, (y == 0) | (y == 1), rule, advice)
        need_variation(outcome, y)
        extra = (np.log(y), np.log1p(-y))
        return Response(y, extra, -extra[0] - extra[1])

    def n_phi(self, response: Response) -> int:
        """Give 1: log precision."""
        return 1

    def log_density(self, link: Any, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without the constant."""
        precision = bounded_exp(phi[0])
        a = precision * link.mean_graph(eta)
        b = precision - a
        kernel = a * (extra[0] - extra[1]) + precision * extra[1] + link.log_binomial(1.0, 1.0, eta)
        return kernel - log_gamma(1.0 + a) - log_gamma(1.0 + b) + (log_gamma(precision) + 2.0 * phi[0])

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the link half-way from the mean to y, and the precision by moments."""
        mean, variance = weighted_moments(response.y, w)
        precision = np.clip(mean * (1.0 - mean) / variance - 1.0, 0.1, 1e4)
        return link.eta(0.5 * (response.y + mean)), np.log([precision])

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give the precision."""
        precision = float(np.exp(phi[0]))
        return {"precision": precision}, np.array([[precision]])

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give mu (1 - mu) / (1 + precision)."""
        return mean * (1.0 - mean) / (1.0 + np.exp(phi[0]))

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give twice the log-density at mu = y less that at mu, where positive (Ferrari & Cribari-Neto, section 3)."""
        precision = np.exp(phi[0])

        def at(mu: Array) -> Array:
            a, b = mu * precision, (1.0 - mu) * precision
            return a * np.log(y) + b * np.log1p(-y) - special.gammaln(a) - special.gammaln(b)

        return np.maximum(2.0 * (at(y) - at(mean)), 0.0)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give the observation-level variance by the delta method."""
        slope = link.slope(link.eta(np.array([mean])))
        return float(mean * (1.0 - mean) / (1.0 + np.exp(phi[0])) / slope[0] ** 2)

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """Keep expected proportions off 0 and 1, and bound the precision."""
        low, high = (float(link.eta(np.array(p))) for p in (EDGE, 1.0 - EDGE))
        return np.clip(eta, low, high), np.clip(phi, *SHAPES)

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw proportions."""
        mean, precision = link.mean(eta), np.exp(phi[0])
        return rng.beta(mean * precision, (1.0 - mean) * precision)


FAMILIES.add("beta", Beta())
