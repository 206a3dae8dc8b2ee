"""Ordered categories by thresholds on a latent scale; McCullagh (1980), Agresti (2010)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.errors import DataError, some
from pmwmix.families._base import FAMILIES
from pmwmix.families._categorical import Categorical, drawn, notes_on_unused
from pmwmix.families._outcomes import categories_of
from pmwmix.links import Link
from pmwmix.links._curves import bounded_exp
from pmwmix.spec.outcome import Outcome, Response
from pmwmix.spec.predictors import THRESHOLDS


class Cumulative(Categorical):
    """Cumulative-link model: P(y <= j) = F(tau_j - eta) with thresholds tau_1 < tau_2 < ...

    Notes
    -----
    log f = log [F(tau_y - eta) - F(tau_(y-1) - eta)] (McCullagh 1980 [1]_; Agresti 2010 [2]_, chapters 3 and 5).
    Category y of the table is number y here, from 0 on. phi = (tau_1, log(tau_2 - tau_1), log(tau_3 - tau_2), ...). The
    thresholds take the place of the intercept.

    References
    ----------
    .. [1] McCullagh, P. (1980). Regression models for ordinal data. J. R. Stat. Soc. B, 42(2), 109-142.
    .. [2] Agresti, A. (2010). Analysis of Ordinal Categorical Data, 2nd ed. Wiley.
    """

    name = "cumulative"
    links: tuple[str, ...] = ("logit", "probit", "cloglog", "loglog", "cauchit")
    has_intercept = False
    open_formulas: Mapping[str, str] = MappingProxyType({THRESHOLDS: f"cumulative({THRESHOLDS})"})

    def mean_words(self, outcome: str, written: str, categories: tuple[str, ...]) -> str:
        """Say that it is a probability."""
        return f"Probability of {outcome}"

    def read(self, outcome: Outcome) -> Response:
        """Give category codes 0, 1, ... of the categories that occur, in order."""
        numeric = outcome.categories is None
        _need_order(outcome, self.name)
        used, codes, labels = categories_of(outcome, self.name)
        if len(used) < 3:
            raise DataError(
                f"The {self.name} family needs three or more categories. {outcome.name!r} has {len(used)}: "
                f"{some(labels)}. Use family='binomial' for two categories."
            )
        notes = []
        if numeric:
            notes.append(f"The numbers of {outcome.name!r} are categories in this order: {', '.join(labels)}")
        notes += notes_on_unused(outcome, labels)
        return Response(codes.astype(float), (), np.zeros(len(codes)), labels, tuple(notes))

    def n_phi(self, response: Response) -> int:
        """Give the number of thresholds."""
        return len(response.categories) - 1

    def log_density(self, link: Any, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-probability of the category; sums of masks pick the thresholds of each row."""
        tau = [phi[0]]
        for gap in phi[1:]:
            tau.append(tau[-1] + bounded_exp(gap))
        upper = sum(pt.eq(y, float(k)) * tau[k] for k in range(len(tau)))
        lower = sum(pt.eq(y, float(k + 1)) * tau[k] for k in range(len(tau)))
        return link.log_interval(upper, lower, eta, pt.eq(y, 0.0), pt.eq(y, float(len(tau))))

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give thresholds from the shares of the categories, and a quarter of each category's latent middle."""
        codes = response.y.astype(np.int64)
        share = np.bincount(codes, w / w.mean(), len(response.categories)) + 0.5
        cumulated = np.cumsum(share) / share.sum()
        tau = link.eta(cumulated[:-1])
        middle = link.eta(cumulated - 0.5 * share / share.sum())[codes]
        phi = np.concatenate([tau[:1], np.log(np.maximum(np.diff(tau), 1e-3))])
        return 0.25 * (middle - np.average(middle, weights=w)), phi

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give the thresholds."""
        gaps = np.concatenate([[1.0], np.exp(phi[1:])])
        tau = _thresholds(phi)
        return {f"{j}|{j + 1}": float(value) for j, value in enumerate(tau, 1)}, np.tril(np.tile(gaps, (len(phi), 1)))

    def with_thresholds(self, phi: Array, cuts: Array) -> Array:
        """Move the first; the others are gaps."""
        return np.concatenate([cuts[:1], phi[1:]])

    def mean(self, link: Link, eta: Array, phi: Array) -> Array:
        """Give the probabilities of the categories (n, C)."""
        below = link.mean(_thresholds(phi) - np.asarray(eta)[:, None])
        return np.diff(below, axis=1, prepend=0.0, append=1.0)

    def latent_variance(self, link: Any, mean: float, phi: Array) -> float:
        """Give the variance of the distribution F."""
        return float(link.latent_variance)

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw category codes."""
        below = link.mean(_thresholds(phi) - np.asarray(eta)[:, None])
        return drawn(rng, below)


def _thresholds(phi: Array) -> Array:
    return phi[0] + np.concatenate([[0.0], np.cumsum(np.exp(phi[1:]))])


def _need_order(outcome: Outcome, family: str) -> None:
    """Refuse more than two categories without an order."""
    labels = outcome.categories or ()
    if labels and not outcome.ordered and len(np.unique(outcome.values)) > 2:
        raise DataError(
            f"The {family} family needs ordered categories. {outcome.name!r} has categories without an order: "
            f"{some(labels)}. Declare it, as with pandas: data[{outcome.name!r}] = pandas.Categorical("
            f"data[{outcome.name!r}], categories=[...], ordered=True), or use family='multinomial'."
        )


FAMILIES.add("cumulative", Cumulative())
