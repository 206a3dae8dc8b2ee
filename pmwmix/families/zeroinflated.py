"""Counts with more zeros than their distribution has; Lambert (1992)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from scipy import special

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._outcomes import need_counts, need_zeros
from pmwmix.families.negbinomial import NegativeBinomial
from pmwmix.families.poisson import Poisson
from pmwmix.links import Link
from pmwmix.links._curves import softplus
from pmwmix.spec.outcome import Outcome, Response
from pmwmix.spec.predictors import Predictor

SHARES = (0.02, 0.98)  # of extra zeros, to start from


class ZeroInflated(Family):
    """Zero with probability pi, else a count of the distribution f: pi has a linear predictor ``zi``, a logit link.

    Parameters
    ----------
    counts : Family
        Distribution f of the counts.

    Notes
    -----
    P(0) = pi + (1 - pi) f(0), P(y) = (1 - pi) f(y) for y > 0 (Lambert 1992 [1]_, section 2; predictors,
    eqs. 1-2). The mean is (1 - pi) mu, the variance (1 - pi) (V + pi mu²) with V that of f.

    References
    ----------
    .. [1] Lambert, D. (1992). Zero-inflated Poisson regression, with an application to defects in manufacturing.
       Technometrics, 34(1), 1-14. doi: 10.2307/1269547
    """

    links = ("log",)
    further = (Predictor("zi", ("logit",), default="1"),)
    is_mixture = True

    def __init__(self, counts: Family) -> None:
        self.name, self.counts, self.formulas = f"zero-inflated-{counts.name}", counts, counts.formulas

    def read(self, outcome: Outcome) -> Response:
        """Give the counts and, of those above 0, minus log y!."""
        y = need_counts(outcome, self.name)
        need_zeros(outcome, y, self.name, f"Use family={self.counts.name!r}.")
        return Response(y, (), -special.gammaln(y + 1.0))

    def has_one_peak(self, link: Link) -> bool:
        """Deny it: a zero is likely at a small mean and, as an extra one, at any."""
        return False

    def n_phi(self, response: Response) -> int:
        """As the counts."""
        return self.counts.n_phi(response)

    def log_density_of(
        self, links: Sequence[Link], y: Any, extra: tuple[Any, ...], etas: Sequence[Any], phi: list[Any]
    ) -> Any:
        """Log-density without log y!; that of 0 as log pi + log(1 + f(0) (1 - pi) / pi), which does not cancel."""
        log_f = self.counts.log_density(links[0], y, (), etas[0], phi)
        zero = links[1].log_cdf(etas[1]) + softplus(log_f - etas[1])  # type: ignore[attr-defined]
        return pt.switch(pt.eq(y, 0.0), zero, links[1].log_sf(etas[1]) + log_f)  # type: ignore[attr-defined]

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give that of the counts with zeros drawn towards the mean of the others."""
        y = response.y
        above = float(np.average(y[y > 0], weights=w[y > 0]))
        _, phi = self.counts.start(link, response, w)
        return link.eta(0.5 * (y + above)), phi

    def starts(self, links: Sequence[Link], response: Response, w: Array) -> tuple[list[Array], Array]:
        """Start the share of extra zeros from half of all zeros."""
        eta, phi = self.start(links[0], response, w)
        share = 0.5 * np.average(response.y == 0, weights=w)
        return [eta, np.full(len(eta), links[1].eta(np.clip(share, *SHARES)))], phi

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """As the counts."""
        return self.counts.parameters(phi)

    def mean_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array) -> Array:
        """Give (1 - pi) mu."""
        return (1.0 - links[1].mean(etas[1])) * links[0].mean(etas[0])

    def variance_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give (1 - pi) (V + pi mu²)."""
        mean, share = links[0].mean(etas[0]), links[1].mean(etas[1])
        return (1.0 - share) * (self.counts.variance(mean, phi, ()) + share * np.square(mean))

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give NaN: the mean has two linear predictors."""
        return float("nan")

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """As the counts."""
        return self.counts.drawable(link, eta, phi)

    def draw_of(
        self,
        rng: np.random.Generator,
        links: Sequence[Link],
        etas: Sequence[Array],
        phi: Array,
        extra: tuple[Array, ...],
    ) -> Array:
        """Draw counts, and a zero in their place with probability pi."""
        drawn = self.counts.draw(rng, links[0], etas[0], phi, ())
        return np.where(rng.uniform(size=np.shape(drawn)) < links[1].mean(etas[1]), 0.0, drawn)


for _counts in (Poisson(), NegativeBinomial()):
    FAMILIES.add(f"zero-inflated-{_counts.name}", ZeroInflated(_counts))
