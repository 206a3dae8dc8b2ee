"""Positive quantities whose logarithm is normal; Johnson, Kotz & Balakrishnan (1994), chapter 14."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._outcomes import positive, weighted_moments
from pmwmix.links import Link
from pmwmix.links._curves import bounded_exp
from pmwmix.spec.outcome import Outcome, Response

MOST = 300.0  # logarithms beyond which numpy draws no number


class LogNormal(Family):
    """Lognormal distribution: log y is normal with mean eta and standard deviation sigma; phi = log sigma.

    Notes
    -----
    log f = -((log y - eta) / sigma)² / 2 - log sigma - log y - log(2 pi) / 2 (Johnson, Kotz & Balakrishnan 1994 [1]_,
    eq. 14.2): the linear model of log y, whose likelihood it has but for the Jacobian. The median of y is exp(eta), the
    mean exp(eta + sigma² / 2).

    References
    ----------
    .. [1] Johnson, N. L., Kotz, S. & Balakrishnan, N. (1994). Continuous Univariate Distributions, vol. 1, 2nd ed.
       Wiley.
    """

    name = "lognormal"
    links = ("log",)
    formulas = MappingProxyType({"sigma": (0, 1.0)})
    has_scale = True
    is_mixture = True
    mean_depends_on_level_one = True
    n_extra = 1  # log y

    def is_quadratic(self, link: Link, moving: Sequence[int]) -> bool:
        """As the linear model of log y."""
        return not any(moving)

    def read(self, outcome: Outcome) -> Response:
        """Give the values, log y, and minus log y - log(2 pi) / 2."""
        return positive(outcome, self.name)

    def n_phi(self, response: Response) -> int:
        """Give 1: log sigma."""
        return 1

    def log_density(self, link: Link, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without the constant."""
        z = (extra[0] - eta) * bounded_exp(-phi[0])
        return -0.5 * z * z - phi[0]

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the mean of log y, pulled a tenth of the way to it, and its standard deviation."""
        (log_y,) = response.extra
        mean, variance = weighted_moments(log_y, w)
        return mean + 0.1 * (log_y - mean), np.array([0.5 * np.log(variance)])

    def unit(self, link: Link, response: Response) -> float:
        """Give the standard deviation of log y."""
        return float(np.std(response.extra[0]))

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give sigma."""
        sigma = float(np.exp(phi[0]))
        return {"sigma": sigma}, np.array([[sigma]])

    def scale(self, phi: Array) -> float:
        """Give sigma."""
        return self.parameters(phi)[0]["sigma"]

    def mean(self, link: Link, eta: Array, phi: Array) -> Array:
        """Give exp(eta + sigma² / 2)."""
        return link.mean(eta + 0.5 * np.exp(2.0 * phi[0]))

    def mean_by_level_one(self, mean: Array) -> Array:
        """Give mu / 2, the derivative in sigma²."""
        return 0.5 * mean

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give mu² (exp(sigma²) - 1)."""
        return np.square(mean) * np.expm1(np.exp(2.0 * phi[0]))

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give sigma², the variance of log y."""
        return float(np.exp(2.0 * phi[0]))

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """Bound the logarithms."""
        return np.clip(eta, -MOST, MOST), np.minimum(phi, 2.0)

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw positive values."""
        return np.exp(rng.normal(eta, np.exp(phi[0])))


FAMILIES.add("lognormal", LogNormal())
