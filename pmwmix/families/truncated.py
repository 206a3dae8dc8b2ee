"""Counts above zero alone; Cameron & Trivedi (2013), chapter 4."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._counts import Counts, PoissonCounts
from pmwmix.families._outcomes import need_counts, need_variation, refuse
from pmwmix.families.poisson import Poisson
from pmwmix.links import Link
from pmwmix.spec.outcome import Outcome, Response


class Truncated(Family):
    """Counts of which zeros were never seen: mu is the mean with the zeros.

    Parameters
    ----------
    counts : Counts
        Distribution f with the zeros.

    Notes
    -----
    P(y) = f(y) / (1 - f(0)) for y > 0 (Cameron & Trivedi 2013 [1]_, eq. 4.5), the part above 0 of a hurdle.

    References
    ----------
    .. [1] Cameron, A. C. & Trivedi, P. K. (2013). Regression Analysis of Count Data, 2nd ed. Cambridge University
       Press.
    """

    links = ("log",)
    is_mixture = True

    def __init__(self, counts: Counts) -> None:
        self.name, self.counts = f"truncated-{counts.family.name}", counts

    def read(self, outcome: Outcome) -> Response:
        """Give the counts and minus log y!."""
        y = need_counts(outcome, self.name)
        rule = f"The {self.name} family needs counts from 1 on."
        plain = self.counts.family.name
        refuse(outcome, y == 0, rule, f"Use family={plain!r}, or family='hurdle-{plain}' for zeros of another kind.")
        need_variation(outcome, y)
        return Response(y, (), -special.gammaln(y + 1.0))

    def log_density(self, link: Link, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without log y!."""
        return self.counts.family.log_density(link, y, (), eta, phi) - self.counts.log_positive(link, eta, phi)

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the link half-way from the mean to y; no further parameters."""
        return link.eta(0.5 * (response.y + np.average(response.y, weights=w))), np.zeros(0)

    def mean(self, link: Link, eta: Array, phi: Array) -> Array:
        """Give mu / (1 - f(0))."""
        return self.counts.moments_of_positive(link.mean(eta), phi)[0]

    def variance_of(self, links: Any, etas: Any, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give the mean square less the squared mean."""
        mean, square = self.counts.moments_of_positive(links[0].mean(etas[0]), phi)
        return square - np.square(mean)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give NaN: the mean is not that of the link."""
        return float("nan")

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """Bound expected counts."""
        return self.counts.family.drawable(link, eta, phi)

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw counts above 0."""
        return self.counts.draw_positive(rng, link.mean(eta), phi)


FAMILIES.add("truncated-poisson", Truncated(PoissonCounts(Poisson())))
