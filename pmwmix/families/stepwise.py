"""Ordered categories step by step: adjacent categories and continuation ratios; Agresti (2010), chapter 4."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytensor.tensor as pt
from scipy import special

from pmwmix._types import Array
from pmwmix.families._base import FAMILIES
from pmwmix.families._categorical import drawn, log_share
from pmwmix.families.cumulative import Cumulative
from pmwmix.links import Link
from pmwmix.spec.outcome import Response


class Stepwise(Cumulative):
    """An ordinal family whose thresholds need no order: phi are the thresholds themselves."""

    is_mixture = True
    is_sampled = False
    open_formulas: Mapping[str, str] = MappingProxyType({})

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give the thresholds."""
        return {f"{j}|{j + 1}": float(value) for j, value in enumerate(phi, 1)}, np.eye(len(phi))

    def with_thresholds(self, phi: Array, cuts: Array) -> Array:
        """They are phi."""
        return cuts

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give NaN: there is one latent variable per step."""
        return float("nan")

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw category codes."""
        below = np.cumsum(self.mean(link, eta, phi), axis=1)[:, :-1]
        return drawn(rng, below)


class Adjacent(Stepwise):
    """Adjacent-category logits: log P(y = j + 1) / P(y = j) = eta - tau_j.

    Notes
    -----
    P(y = j) is proportional to exp(j eta - tau_1 - ... - tau_j), categories counted from 0 (Agresti 2010 [1]_, section
    4.1; Masters' partial credit model). The log-density is minus the logarithm of a sum over the other categories,
    which does not cancel.

    References
    ----------
    .. [1] Agresti, A. (2010). Analysis of Ordinal Categorical Data, 2nd ed. Wiley.
    """

    name = "adjacent"
    links = ("logit",)

    def log_density(self, link: Any, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-probability of the category."""
        scores, sums = [], 0.0
        for j, tau in enumerate(phi, 1):
            sums = sums + tau
            scores.append(float(j) * eta - sums)
        return log_share(y, scores)

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give thresholds from the shares, and a pull towards the row's category."""
        share, pull = _shares(response, w)
        return pull, np.log(share[:-1] / share[1:])

    def mean(self, link: Link, eta: Array, phi: Array) -> Array:
        """Give the probabilities of the categories (n, C)."""
        below = np.concatenate([[0.0], np.cumsum(phi)])
        scores = np.arange(len(below)) * np.asarray(eta)[:, None] - below
        return np.asarray(special.softmax(scores, axis=1))


class Sequential(Stepwise):
    """Continuation ratios: P(y = j | y >= j) = F(tau_j - eta), to stop at a category once it is reached.

    Notes
    -----
    log f = log F(tau_y - eta) + sum over j < y of log(1 - F(tau_j - eta)), the first part not for the highest category
    (Agresti 2010 [1]_, section 4.2; Tutz 1991 [2]_): the likelihood of one binary outcome for every step that was
    tried.

    References
    ----------
    .. [1] Agresti, A. (2010). Analysis of Ordinal Categorical Data, 2nd ed. Wiley.
    .. [2] Tutz, G. (1991). Sequential models in categorical regression. Computational Statistics & Data Analysis,
       11(3), 275-295. doi:10.1016/0167-9473(91)90086-H
    """

    name = "sequential"
    links = ("logit", "probit", "cloglog")

    def log_density(self, link: Any, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-probability of the category."""
        total: Any = 0.0
        for j, tau in enumerate(phi):
            at = tau - eta
            stop = pt.switch(pt.eq(y, float(j)), link.log_cdf(at), 0.0)
            total = total + pt.switch(pt.gt(y, float(j)), link.log_sf(at), stop)
        return total

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give thresholds from the shares of those who stop, and a pull towards the row's category."""
        share, pull = _shares(response, w)
        return pull, link.eta(share[:-1] / np.cumsum(share[::-1])[::-1][:-1])

    def mean(self, link: Link, eta: Array, phi: Array) -> Array:
        """Give the probabilities of the categories (n, C)."""
        stop = link.mean(phi - np.asarray(eta)[:, None])
        left = np.cumprod(1.0 - stop, axis=1)
        before = np.concatenate([np.ones((len(stop), 1)), left[:, :-1]], axis=1)
        return np.concatenate([before * stop, left[:, -1:]], axis=1)


def _shares(response: Response, w: Array) -> tuple[Array, Array]:
    """Give the shares of the categories (C,), and a quarter of each row's distance from the mean category (n,)."""
    codes = response.y.astype(np.int64)
    share = np.bincount(codes, w / w.mean(), len(response.categories)) + 0.5
    middle = codes - np.average(codes, weights=w)
    return share / share.sum(), 0.25 * middle / max(float(np.std(codes)), 0.5)


FAMILIES.add("adjacent", Adjacent())
FAMILIES.add("sequential", Sequential())
