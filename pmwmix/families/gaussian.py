"""Normal residuals; McCullagh & Nelder (1989), chapter 3. Links other than the identity have no closed form."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._outcomes import need_numbers, need_variation, weighted_moments
from pmwmix.links import Link
from pmwmix.links._curves import bounded_exp
from pmwmix.spec.outcome import Outcome, Response


class Gaussian(Family):
    """Normal distribution with mean mu and standard deviation sigma; phi = log sigma.

    Notes
    -----
    log f = -((y - mu) / sigma)² / 2 - log sigma - log(2 pi) / 2 (McCullagh & Nelder 1989 [1]_, table 2.1).

    References
    ----------
    .. [1] McCullagh, P. & Nelder, J. A. (1989). Generalized Linear Models, 2nd ed. Chapman & Hall.
    """

    name = "gaussian"
    links = ("identity", "log", "inverse")
    formulas = MappingProxyType({"sigma": (0, 1.0)})
    has_expected_information = True
    has_mean_score = True
    has_scale = True

    def has_closed_form(self, link: Link) -> bool:
        """With the identity link."""
        return link.name == "identity"

    def has_linear_mean(self, link: Link) -> bool:
        """With the identity link."""
        return link.name == "identity"

    def has_one_peak(self, link: Link) -> bool:
        """With the identity link; a mean on another scale can be far off on either side."""
        return link.name == "identity"

    def read(self, outcome: Outcome) -> Response:
        """Give the values and minus log(2 pi) / 2."""
        y = need_numbers(outcome, self.name)
        need_variation(outcome, y)
        return Response(y, (), np.full(len(y), -0.5 * np.log(2.0 * np.pi)))

    def n_phi(self, response: Response) -> int:
        """Give 1: log sigma."""
        return 1

    def log_density(self, link: Link, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without the constant."""
        z = (y - link.mean_graph(eta)) * bounded_exp(-phi[0])
        return -0.5 * z * z - phi[0]

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the link of the mean, pulled a tenth of the way to y, and the standard deviation."""
        mean, variance = weighted_moments(response.y, w)
        mu = mean + 0.1 * (response.y - mean)
        if link.name != "identity":  # to positive means
            mu = np.maximum(mu, 0.1 * np.abs(response.y).max())
        return link.eta(mu), np.array([0.5 * np.log(variance)])

    def unit(self, link: Link, response: Response) -> float:
        """Give the standard deviation of the outcome, with the identity link."""
        return float(np.std(response.y)) if link.name == "identity" else 1.0

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give sigma."""
        sigma = float(np.exp(phi[0]))
        return {"sigma": sigma}, np.array([[sigma]])

    def scale(self, phi: Array) -> float:
        """Give sigma."""
        return self.parameters(phi)[0]["sigma"]

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give sigma²."""
        return np.full(np.shape(mean), np.exp(2.0 * phi[0]))

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give (y - mu)², not divided by sigma²."""
        return np.square(y - mean)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give sigma²; by the delta method where the link is not the identity."""
        slope = link.slope(link.eta(np.array([mean])))
        return float(np.exp(2.0 * phi[0]) / slope[0] ** 2)

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw values."""
        return rng.normal(link.mean(eta), np.exp(phi[0]))


FAMILIES.add("gaussian", Gaussian())
