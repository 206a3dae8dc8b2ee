"""Student's t residuals, for linear models that outliers do not pull; Lange, Little & Taylor (1989)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._gamma import log_rising
from pmwmix.families._outcomes import need_numbers, need_variation, weighted_moments
from pmwmix.links import Link
from pmwmix.links._curves import bounded_exp
from pmwmix.spec.outcome import Outcome, Response


class Student(Family):
    """Student's t distribution with location mu, scale sigma and df > 1; phi = (log sigma, log(df - 1)).

    Notes
    -----
    log f = log gamma((df + 1) / 2) - log gamma(df / 2) - log(df pi) / 2 - log sigma - (df + 1) / 2 log(1 + z² / df)
    with z = (y - mu) / sigma (Lange, Little & Taylor 1989 [1]_), written so that it tends to the normal density
    without cancellation. The variance is sigma² df / (df - 2), and does not exist up to two degrees of freedom.

    References
    ----------
    .. [1] Lange, K. L., Little, R. J. A. & Taylor, J. M. G. (1989). Robust statistical modeling using the t
       distribution. J. Am. Stat. Assoc., 84(408), 881-896. doi: 10.1080/01621459.1989.10478852
    """

    name = "student"
    links = ("identity",)
    formulas = MappingProxyType({"sigma": (0, 1.0)})
    has_scale = True

    def has_linear_mean(self, link: Link) -> bool:
        """With its only link."""
        return True

    def read(self, outcome: Outcome) -> Response:
        """Give the values and minus log(2 pi) / 2."""
        y = need_numbers(outcome, self.name)
        need_variation(outcome, y)
        return Response(y, (), np.full(len(y), -0.5 * np.log(2.0 * np.pi)))

    def n_phi(self, response: Response) -> int:
        """Give 2: log sigma and log(df - 1)."""
        return 2

    def log_density(self, link: Link, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without the constant."""
        df = 1.0 + bounded_exp(phi[1])
        z = (y - link.mean_graph(eta)) * bounded_exp(-phi[0])
        return (log_rising(0.5 * df, 0.5) - phi[0]) - (0.5 * df + 0.5) * pt.log1p(z * z / df)

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the mean, pulled a tenth of the way to y, and a scale from the variance for five degrees of freedom."""
        mean, variance = weighted_moments(response.y, w)
        return mean + 0.1 * (response.y - mean), np.array([0.5 * np.log(0.6 * variance), np.log(4.0)])

    def unit(self, link: Link, response: Response) -> float:
        """Give the standard deviation of the outcome, with the identity link."""
        return float(np.std(response.y)) if link.name == "identity" else 1.0

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give sigma and df."""
        sigma, above = np.exp(phi)
        return {"sigma": float(sigma), "df": float(1.0 + above)}, np.diag([sigma, above])

    def scale(self, phi: Array) -> float:
        """Give sigma."""
        return self.parameters(phi)[0]["sigma"]

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give sigma² df / (df - 2); NaN up to two degrees of freedom."""
        return np.broadcast_to(_variance(phi), np.shape(mean)).copy()

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give (df + 1) log(1 + z² / df)."""
        sigma, above = np.exp(phi)
        return (2.0 + above) * np.log1p(np.square((y - mean) / sigma) / (1.0 + above))

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give the variance of the residuals."""
        return float(_variance(phi))

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw values."""
        sigma, above = np.exp(phi)
        return link.mean(eta) + sigma * rng.standard_t(1.0 + above, np.shape(eta))


def _variance(phi: Array) -> Array:
    sigma, above = np.exp(phi)
    with np.errstate(divide="ignore"):
        return np.where(above > 1.0, sigma**2 * (1.0 + above) / (above - 1.0), np.nan)


FAMILIES.add("student", Student())
