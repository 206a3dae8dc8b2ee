"""Ordered categories whose thresholds depend on predictors: partial proportional odds; Peterson & Harrell (1990)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.errors import DataError, some
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._categorical import Labelled, drawn, labels_in
from pmwmix.families._outcomes import categories_of
from pmwmix.families.cumulative import Cumulative
from pmwmix.links import Link
from pmwmix.spec.outcome import Outcome, Response
from pmwmix.spec.predictors import THRESHOLDS, Predictor

BASE = "cumulative"
NAME = f"{BASE}({THRESHOLDS})"
LEAST = 1e-3  # distance of neighbouring thresholds below which the density is continued, and falls fast


class PartialOdds(Labelled, Cumulative):
    """Cumulative-link model with thresholds of their own: P(y <= j) = F(tau_j + eta_j - eta).

    Parameters
    ----------
    labels : tuple of str
        Categories, in order; empty as long as no outcome has been seen.

    Notes
    -----
    Every threshold has a linear predictor eta_j of its own (Peterson & Harrell 1990 [1]_); phi are the thresholds tau.
    Nothing keeps tau_j + eta_j in order: where neighbours are closer than `LEAST` or cross, the density is continued by
    one that falls exponentially, which keeps the climb away and every derivative finite.

    References
    ----------
    .. [1] Peterson, B. & Harrell, F. E. (1990). Partial proportional odds models for ordinal response variables.
       Applied Statistics, 39(2), 205-217. doi: 10.2307/2347760
    """

    stem, shown = NAME, BASE
    is_mixture = True
    is_sampled = False

    def __init__(self, labels: tuple[str, ...] = ()) -> None:
        super().__init__(labels)
        names = tuple(f"{a}|{b}" for a, b in pairwise(labels)) or (THRESHOLDS,)
        self.further = tuple(Predictor(name, ("identity",), "1") for name in names)

    def settled(self, outcome: Outcome, constant: bool = False) -> Family:
        """Give the family of the categories that occur; that of proportional odds if no threshold has a predictor."""
        base: Family = FAMILIES[BASE]
        labels = base.read(outcome).categories
        found: Family = FAMILIES[PartialOdds(labels).name]
        return base if constant else found

    def predictor_words(self, name: str) -> str:
        """Name the threshold."""
        return f"the threshold {name}"

    def read(self, outcome: Outcome) -> Response:
        """Give category codes, of the same categories in all plausible values."""
        _, _, labels = categories_of(outcome, BASE)
        if labels != self.labels:
            raise DataError(
                f"All plausible values of an outcome need the same categories. One of {outcome.name!r} has "
                f"{some(labels)}, and the first has {some(self.labels)}. Merge rare categories with others."
            )
        return super().read(outcome)

    def log_density_of(
        self, links: Sequence[Any], y: Any, extra: tuple[Any, ...], etas: Sequence[Any], phi: list[Any]
    ) -> Any:
        """Log-probability of the category; sums of masks pick the thresholds of each row."""
        tau = [cut + eta for cut, eta in zip(phi, etas[1:], strict=True)]
        last = float(len(tau))
        upper = sum(pt.eq(y, float(k)) * tau[k] for k in range(len(tau)))
        lower = sum(pt.eq(y, float(k + 1)) * tau[k] for k in range(len(tau)))
        gap = pt.switch(pt.eq(y, 0.0) | pt.eq(y, last), 1.0, upper - lower)
        upper = pt.switch(gap > LEAST, upper, lower + LEAST)
        fall = pt.switch(gap > LEAST, 0.0, gap / LEAST - 1.0)  # as steep as the logarithm of a probability that small
        return fall + links[0].log_interval(upper, lower, etas[0], pt.eq(y, 0.0), pt.eq(y, last))

    def log_density(self, link: Any, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-probability with the same thresholds in every row."""
        return self.log_density_of([link], y, extra, [eta, *(0.0 for _ in phi)], phi)

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give those of proportional odds."""
        eta, phi = super().start(link, response, w)
        return eta, np.array(list(Cumulative.parameters(self, phi)[0].values()))

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give the thresholds."""
        return {f"{j}|{j + 1}": float(value) for j, value in enumerate(phi, 1)}, np.eye(len(phi))

    def with_thresholds(self, phi: Array, cuts: Array) -> Array:
        """They are phi."""
        return cuts

    def crossed(self, etas: Sequence[Array], phi: Array) -> Array:
        """Mark the rows (n,) in which thresholds are not in order."""
        tau = np.stack([np.asarray(cut + eta) for cut, eta in zip(phi, etas[1:], strict=True)], axis=-1)
        return np.asarray((np.diff(tau, axis=-1) <= 0.0).any(axis=-1))

    def mean_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array) -> Array:
        """Give the probabilities of the categories (n, C).

        Raises
        ------
        DataError
            If one is negative.
        """
        crossed = np.flatnonzero(self.crossed(etas, phi))
        if len(crossed):
            raise DataError(
                f"A probability would be negative: thresholds are not in order. In {len(crossed)} of {len(etas[0])} "
                f"rows, the first of them number {crossed[0]}, one that depends on predictors crosses its neighbour. "
                f"Leave out rows far from the data, or the predictor of the thresholds."
            )
        below = [links[0].mean(cut + eta - etas[0]) for cut, eta in zip(phi, etas[1:], strict=True)]
        return np.diff(np.stack(below, axis=-1), axis=-1, prepend=0.0, append=1.0)

    def mean(self, link: Link, eta: Array, phi: Array) -> Array:
        """Give the probabilities with the same thresholds in every row."""
        return self.mean_of([link], [eta, *(np.zeros_like(eta) for _ in phi)], phi)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give NaN: rows differ in their thresholds."""
        return float("nan")

    def draw_of(
        self,
        rng: np.random.Generator,
        links: Sequence[Link],
        etas: Sequence[Array],
        phi: Array,
        extra: tuple[Array, ...],
    ) -> Array:
        """Draw category codes."""
        return drawn(rng, np.cumsum(self.mean_of(links, etas, phi), axis=1)[:, :-1])


@cache
def with_thresholds(name: str) -> Family | None:
    """Make the family of such a name, ``'cumulative(thresholds)["a", "b", "c"]'``; None if it is none."""
    labels = labels_in(name, NAME)
    return None if labels is None else PartialOdds(labels)
