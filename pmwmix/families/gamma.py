"""Positive quantities with a constant coefficient of variation; McCullagh & Nelder (1989), chapter 8."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._gamma import stirling_error
from pmwmix.families._outcomes import SHAPES, positive, weighted_moments
from pmwmix.links import Link
from pmwmix.links._curves import bounded_exp
from pmwmix.spec.outcome import Outcome, Response


class Gamma(Family):
    """Gamma distribution with mean mu and variance dispersion * mu²; phi = log shape = -log dispersion.

    Notes
    -----
    log f = a log(a y / mu) - a y / mu - log gamma(a) - log y with a the shape (McCullagh & Nelder 1989 [1]_, section
    8.2), written as a (log r - r + 1) + (log a - log 2 pi) / 2 - s(a) - log y with r = y / mu and s Stirling's error,
    so that nothing cancels for large shapes. The level-1 variance on the log scale is log(1 + dispersion) (Nakagawa,
    Johnson & Schielzeth 2017 [2]_, table 1).

    References
    ----------
    .. [1] McCullagh, P. & Nelder, J. A. (1989). Generalized Linear Models, 2nd ed. Chapman & Hall.
    .. [2] Nakagawa, S., Johnson, P. C. D. & Schielzeth, H. (2017). The coefficient of determination R² and
       intra-class correlation coefficient from generalized linear mixed-effects models revisited and expanded.
       J. R. Soc. Interface, 14, 20170213. doi: 10.1098/rsif.2017.0213
    """

    name = "gamma"
    links = ("log", "inverse")
    formulas = MappingProxyType({"phi": (0, -1.0)})  # the dispersion
    has_expected_information = True
    has_mean_score = True
    n_extra = 1  # log y

    def read(self, outcome: Outcome) -> Response:
        """Give the values, log y, and minus log y - log(2 pi) / 2."""
        return positive(outcome, self.name)

    def n_phi(self, response: Response) -> int:
        """Give 1: log shape."""
        return 1

    def log_density(self, link: Link, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without the constant."""
        shape = bounded_exp(phi[0])
        kernel = extra[0] + 1.0 - link.log_mean(eta) - y * link.reciprocal_mean(eta)
        return shape * kernel + (0.5 * phi[0] - stirling_error(shape))

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the link half-way from the mean to y, and the shape by moments."""
        mean, variance = weighted_moments(response.y, w)
        shape = np.clip(mean**2 / variance, 0.05, 1e4)
        return link.eta(0.5 * (response.y + mean)), np.log([shape])

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give the dispersion, 1 / shape."""
        dispersion = float(np.exp(-phi[0]))
        return {"dispersion": dispersion}, np.array([[-dispersion]])

    def scale(self, phi: Array) -> float:
        """Give the root of the dispersion."""
        return float(np.sqrt(self.parameters(phi)[0]["dispersion"]))

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give dispersion * mu²."""
        return np.exp(-phi[0]) * np.square(mean)

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give 2 [(y - mu) / mu - log(y / mu)], not divided by the dispersion."""
        return np.maximum(2.0 * ((y - mean) / mean - np.log(y / mean)), 0.0)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give the observation-level variance; with the inverse link by the delta method."""
        dispersion = float(np.exp(-phi[0]))
        return float(np.log1p(dispersion)) if link.name == "log" else dispersion / mean**2

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """Bound the shape; a mean below zero, which the inverse link allows, has no draw."""
        phi = np.clip(phi, *SHAPES)
        return (np.where(eta > 0.0, eta, np.nan) if link.name == "inverse" else eta), phi

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw positive values."""
        shape = np.exp(phi[0])
        return rng.gamma(shape, link.mean(eta) / shape)


FAMILIES.add("gamma", Gamma())
