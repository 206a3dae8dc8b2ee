"""Counts whose zeros have a model of their own; Mullahy (1986)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from scipy import special

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._counts import Counts, NegativeBinomialCounts, PoissonCounts
from pmwmix.families._outcomes import need_counts, need_zeros
from pmwmix.families.negbinomial import NegativeBinomial
from pmwmix.families.poisson import Poisson
from pmwmix.links import Link
from pmwmix.spec.outcome import Outcome, Response
from pmwmix.spec.predictors import Predictor

SHARES = (0.02, 0.98)  # of zeros, to start from


class Hurdle(Family):
    """Zero with probability pi, else a count above 0: pi has a linear predictor ``hu``, a logit link.

    Parameters
    ----------
    counts : Counts
        Distribution f of the counts, of which those above 0 are taken; mu is its mean with the zeros.

    Notes
    -----
    P(0) = pi, P(y) = (1 - pi) f(y) / (1 - f(0)) for y > 0 (Mullahy 1986 [1]_, section 2; predictors, eqs. 3-4). With
    m the mean and s the mean square of the counts above 0 the mean is (1 - pi) m, the variance
    (1 - pi) s - (1 - pi)² m².

    References
    ----------
    .. [1] Mullahy, J. (1986). Specification and testing of some modified count data models. J. Econometrics, 33(3),
       341-365. doi: 10.1016/0304-4076(86)90002-3
    """

    links = ("log",)
    further = (Predictor("hu", ("logit",), default="1"),)
    is_mixture = True
    mean_depends_on_parameters = True

    def __init__(self, counts: Counts) -> None:
        self.name, self.counts, self.formulas = f"hurdle-{counts.family.name}", counts, counts.family.formulas

    def read(self, outcome: Outcome) -> Response:
        """Give the counts and minus log y!."""
        y = need_counts(outcome, self.name)
        need_zeros(outcome, y, self.name, f"Use family={self.counts.family.name!r}.")
        return Response(y, (), -special.gammaln(y + 1.0))

    def has_one_peak(self, link: Link) -> bool:
        """Without theta: the two parts are log-concave, each in its own linear predictor."""
        return not self.formulas

    def n_phi(self, response: Response) -> int:
        """As the counts."""
        return self.counts.family.n_phi(response)

    def log_density_of(
        self, links: Sequence[Link], y: Any, extra: tuple[Any, ...], etas: Sequence[Any], phi: list[Any]
    ) -> Any:
        """Log-density without log y!."""
        log_f = self.counts.family.log_density(links[0], y, (), etas[0], phi)
        above = links[1].log_sf(etas[1]) + log_f  # type: ignore[attr-defined]
        above = above - self.counts.log_positive(links[0], etas[0], phi)
        return pt.switch(pt.eq(y, 0.0), links[1].log_cdf(etas[1]), above)  # type: ignore[attr-defined]

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the link half-way from the mean of the counts above 0 to each of them; zeros have that mean."""
        y = response.y
        above = float(np.average(y[y > 0], weights=w[y > 0]))
        _, phi = self.counts.family.start(link, response, w)
        return link.eta(np.where(y > 0, 0.5 * (y + above), above)), phi

    def starts(self, links: Sequence[Link], response: Response, w: Array) -> tuple[list[Array], Array]:
        """Start from the share of zeros."""
        eta, phi = self.start(links[0], response, w)
        share = np.average(response.y == 0, weights=w)
        return [eta, np.full(len(eta), links[1].eta(np.clip(share, *SHARES)))], phi

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """As the counts."""
        return self.counts.family.parameters(phi)

    def mean_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array) -> Array:
        """Give (1 - pi) m."""
        mean, _ = self.counts.moments_of_positive(links[0].mean(etas[0]), phi)
        return (1.0 - links[1].mean(etas[1])) * mean

    def variance_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give (1 - pi) s - (1 - pi)² m²."""
        mean, square = self.counts.moments_of_positive(links[0].mean(etas[0]), phi)
        share = 1.0 - links[1].mean(etas[1])
        return share * square - np.square(share * mean)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give NaN: the mean has two linear predictors."""
        return float("nan")

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """As the counts."""
        return self.counts.family.drawable(link, eta, phi)

    def draw_of(
        self,
        rng: np.random.Generator,
        links: Sequence[Link],
        etas: Sequence[Array],
        phi: Array,
        extra: tuple[Array, ...],
    ) -> Array:
        """Draw counts above 0, and a zero in their place with probability pi."""
        drawn = self.counts.draw_positive(rng, links[0].mean(etas[0]), phi)
        return np.where(rng.uniform(size=np.shape(drawn)) < links[1].mean(etas[1]), 0.0, drawn)


for _counts in (PoissonCounts(Poisson()), NegativeBinomialCounts(NegativeBinomial())):
    FAMILIES.add(f"hurdle-{_counts.family.name}", Hurdle(_counts))
