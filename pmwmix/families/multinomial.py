"""Unordered categories by log odds against a baseline; McFadden (1974), Agresti (2013)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy import special

from pmwmix._types import Array
from pmwmix.errors import DataError, some
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._categorical import Labelled, drawn, labels_in, log_share, notes_on_unused
from pmwmix.families._outcomes import categories_of
from pmwmix.links import Link
from pmwmix.spec.outcome import Outcome, Response
from pmwmix.spec.predictors import Predictor

NAME = "multinomial"


class Multinomial(Labelled):
    """Multinomial logit: every category but the first, the baseline, has a linear predictor, its log odds.

    Parameters
    ----------
    labels : tuple of str
        Categories, the baseline first; empty as long as no outcome has been seen.

    Notes
    -----
    log f = eta_y - log(1 + sum_k exp(eta_k)) with eta = 0 of the baseline (Agresti 2013 [1]_, section 8.1). It is
    computed as minus the logarithm of a sum over the other categories, which does not cancel.

    References
    ----------
    .. [1] Agresti, A. (2013). Categorical Data Analysis, 3rd ed. Wiley.
    """

    stem = shown = NAME
    links = ("logit",)
    is_mixture = True
    has_mean_derivatives = True

    def __init__(self, labels: tuple[str, ...] = ()) -> None:
        super().__init__(labels)
        self.first = labels[1] if labels else None
        self.further = tuple(Predictor(label, self.links) for label in labels[2:])

    def settled(self, outcome: Outcome, constant: bool = False) -> Family:
        """Give the family of the categories that occur."""
        _, _, labels = categories_of(outcome, NAME)
        if len(labels) < 2:
            raise DataError(
                f"The outcome does not vary. {outcome.name!r} is {some(labels)} in all {len(outcome.values)} rows. "
                "Check the column, or the rows that are left after incomplete ones were dropped."
            )
        found: Family = FAMILIES[Multinomial(labels).name]
        return found

    def predictor_words(self, name: str) -> str:
        """Give the odds that they are."""
        return f"the log odds of {name} against {self.labels[0]}"

    def mean_words(self, outcome: str, written: str, categories: tuple[str, ...]) -> str:
        """Say that it is a probability."""
        return f"Probability of {outcome}"

    def read(self, outcome: Outcome) -> Response:
        """Give category codes, 0 of the baseline."""
        _, codes, labels = categories_of(outcome, NAME)
        if labels != self.labels:
            lacking = [label for label in self.labels if label not in labels]
            which = f"lacks {some(lacking)}" if lacking else f"has {some([x for x in labels if x not in self.labels])}"
            raise DataError(
                f"All plausible values of an outcome need the same categories. One of {outcome.name!r} {which}, and "
                f"the first has {some(self.labels)}. Merge rare categories with others."
            )
        notes = [f"The baseline is {labels[0]!r} (column {outcome.name!r}): coefficients are log odds against it"]
        notes += notes_on_unused(outcome, labels)
        return Response(codes.astype(float), (), np.zeros(len(codes)), labels, tuple(notes))

    def log_density(self, link: Link, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-probability of one of two categories."""
        return self.log_density_of([link], y, extra, [eta], phi)

    def log_density_of(
        self, links: Sequence[Link], y: Any, extra: tuple[Any, ...], etas: Sequence[Any], phi: list[Any]
    ) -> Any:
        """Log-probability of the category."""
        return log_share(y, etas)

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give that of the first category against the baseline."""
        return self.starts([link] * (len(self.labels) - 1), response, w)[0][0], np.zeros(0)

    def starts(self, links: Sequence[Link], response: Response, w: Array) -> tuple[list[Array], Array]:
        """Give log odds of the shares, drawn a little towards the row's own category."""
        codes = response.y.astype(np.int64)
        share = np.bincount(codes, w / w.mean(), len(self.labels)) + 0.5
        drawn = 0.5 * (codes[:, None] == np.arange(len(self.labels)))
        odds = np.log(share / share[0]) + drawn - drawn[:, :1]
        return [odds[:, k] for k in range(1, len(self.labels))], np.zeros(0)

    def mean_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array) -> Array:
        """Give the probabilities of the categories (n, C)."""
        eta = np.stack([np.zeros_like(etas[0]), *etas], axis=-1)
        return np.asarray(special.softmax(eta, axis=-1))

    def mean_derivatives(self, links: Sequence[Link], etas: Sequence[Array], second: bool) -> tuple[Array, ...]:
        """Give p_c, p_c (d_ck - p_k) and p_c [(d_ck - p_k)(d_cm - p_m) - p_k (d_km - p_m)]; d_ck is 1 if c = k."""
        p = self.mean_of(links, etas, np.zeros(0))
        same = np.eye(len(self.labels))[:, 1:]
        gap = same - p[:, None, 1:]  # (n, C, K)
        if not second:
            return p, p[:, :, None] * gap
        between = p[:, 1:, None] * (same[1:] - p[:, None, 1:])  # (n, K, K)
        return p, p[:, :, None] * gap, p[:, :, None, None] * (gap[..., :, None] * gap[..., None, :] - between[:, None])

    def mean(self, link: Link, eta: Array, phi: Array) -> Array:
        """Give the probabilities of two categories (n, 2)."""
        return self.mean_of([link], [eta], phi)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give NaN: there are several linear predictors."""
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
        below = np.cumsum(self.mean_of(links, etas, phi), axis=1)[:, :-1]
        return drawn(rng, below)


@cache
def with_categories(name: str) -> Family | None:
    """Make the family of such a name, ``'multinomial["a", "b"]'``; None if it is none."""
    labels = labels_in(name, NAME)
    return Multinomial(labels) if labels else None


FAMILIES.add(NAME, Multinomial())
