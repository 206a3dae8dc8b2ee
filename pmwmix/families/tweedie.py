"""Amounts with exact zeros, sums of a Poisson number of gamma amounts; Jorgensen (1987), Dunn & Smyth (2005)."""

from __future__ import annotations

import re
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pytensor.tensor as pt
from scipy import special

from pmwmix._types import Array
from pmwmix.errors import DataError, OptionError
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._compound import jump_sum
from pmwmix.families._outcomes import (
    MOST,
    SHAPES,
    bounded_counts,
    need_numbers,
    need_variation,
    refuse,
    weighted_moments,
)
from pmwmix.links import Link
from pmwmix.links._curves import BoundedExp, Symbolic, bounded_exp, softplus
from pmwmix.spec.outcome import Outcome, Response

LOWEST, HIGHEST = 1.01, 1.99  # powers: nearer to 1 the density is spikes, nearer to 2 zeros disappear
NAME = re.compile(r"tweedie\((?P<power>\d{1,3}(?:\.\d{0,15})?)\)")


class BoundedExpm1(BoundedExp):
    """Exp(x) - 1, exact near 0, continued as `BoundedExp`."""

    def formula(self, xp: Any, sp: Any, x: Any) -> Any:
        """Subtract 1."""
        value = super().formula(xp, sp, x)
        return xp.where(x < 1.0, xp.expm1(xp.minimum(x, 1.0)), value - 1.0) if self.order == 0 else value


bounded_expm1: Symbolic = BoundedExpm1()


class Tweedie(Family):
    """Tweedie distribution with mean mu and variance dispersion * mu^power, phi = (log d, logit of the power).

    Parameters
    ----------
    power : float, optional
        Held at this value; estimated if left out, between `LOWEST` and `HIGHEST`.

    Notes
    -----
    A sum of N gamma amounts, N Poisson with mean mu^(2 - p) / (d (2 - p)), the amounts with shape (2 - p) / (p - 1) and
    scale d (p - 1) mu^(p - 1). Of zero, log f = -mu^(2 - p) / (d (2 - p)); of y > 0 (Dunn & Smyth 2005 [1]_, eqs. 1-5),

        log f = -y^(2 - p) / d [expm1(-(p - 1) l) / (p - 1) + expm1((2 - p) l) / (2 - p)] + T + log(b) / 2
                - log(2 pi) - log y,

    l = log(mu / y), b = (2 - p) / (p - 1), T the series of `_compound`. Only the bracket depends on mu, so that
    derivatives in the linear predictor are elementary; it is the unit deviance, so that nothing cancels for small
    dispersions.

    References
    ----------
    .. [1] Dunn, P. K. & Smyth, G. K. (2005). Series evaluation of Tweedie exponential dispersion model densities.
       Statistics and Computing, 15, 267-280. doi: 10.1007/s11222-005-4070-y
    """

    links = ("log",)
    formulas = MappingProxyType({"phi": (0, 1.0)})  # the dispersion
    n_extra = 1  # log y, 0 for zeros
    has_mean_score = True

    def __init__(self, power: float | None = None) -> None:
        self.power = power
        self.name = "tweedie" if power is None else f"tweedie({power:.15g})"

    def __reduce__(self) -> Any:
        return FAMILIES.__getitem__, (self.name,)

    def read(self, outcome: Outcome) -> Response:
        """Give the values, their logarithms where positive, and minus log y - log(2 pi) there."""
        y = need_numbers(outcome, "tweedie")
        rule = "The tweedie family needs amounts, numbers from 0 on."
        refuse(outcome, y < 0, rule, "Correct the negative values, or use family='gaussian'.")
        if not y.any():
            raise DataError(
                f"The tweedie family cannot be fitted to zeros alone. All {len(y)} values of {outcome.name!r} are 0. "
                "Check the column, or the rows that are left after incomplete ones were dropped."
            )
        need_variation(outcome, y)
        log_y = np.log(np.where(y > 0, y, 1.0))
        return Response(y, (log_y,), np.where(y > 0, -log_y - np.log(2.0 * np.pi), 0.0))

    def n_phi(self, response: Response) -> int:
        """Give 2: log dispersion and the logit of the power in its range; 1 where the power is held."""
        return 2 if self.power is None else 1

    def log_density(self, link: Link, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without the constant."""
        above, below = self._sides(phi)  # p - 1 and 2 - p
        zero = bounded_exp(below * link.log_mean(eta) - phi[0]) / below
        log_c = below * extra[0] - phi[0]
        ratio = link.log_mean(eta) - extra[0]
        deviance = bounded_expm1(-above * ratio) / above + bounded_expm1(below * ratio) / below
        shape = below / above
        series = jump_sum(log_c - pt.log(below), shape) + 0.5 * pt.log(shape)
        return pt.switch(pt.eq(y, 0.0), -zero, series - bounded_exp(log_c) * deviance)

    def _sides(self, phi: list[Any]) -> tuple[Any, Any]:
        """Write p - 1 and 2 - p."""
        if self.power is not None:
            return pt.constant(self.power - 1.0), pt.constant(2.0 - self.power)
        low, width = LOWEST - 1.0, HIGHEST - LOWEST
        return low + width * pt.exp(-softplus(-phi[1])), low + width * pt.exp(-softplus(phi[1]))

    def power_of(self, phi: Array) -> Any:
        """Give the power, of phi (n_phi,) or (n_phi, n)."""
        return LOWEST + (HIGHEST - LOWEST) * special.expit(phi[1]) if self.power is None else self.power

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the link half-way from the mean to y, the power by the share of zeros, the dispersion by moments."""
        mean, variance = weighted_moments(response.y, w)
        zeros = float(np.average(response.y == 0.0, weights=w))
        jumps = -np.log(np.clip(zeros, 1e-3, 0.999))
        power = np.clip(2.0 - mean**2 / (variance * jumps), 1.2, 1.8) if self.power is None else self.power
        phi = [np.log(variance / mean**power)]
        if self.power is None:
            phi.append(special.logit((power - LOWEST) / (HIGHEST - LOWEST)))
        return link.eta(0.5 * (response.y + mean)), np.array(phi)

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give the dispersion, and the power unless it is held."""
        named, slopes = {"dispersion": float(np.exp(phi[0]))}, [float(np.exp(phi[0]))]
        if self.power is None:
            named["power"], share = float(self.power_of(phi)), special.expit(phi[1])
            slopes.append(float((HIGHEST - LOWEST) * share * (1.0 - share)))
        return named, np.diag(slopes)

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give dispersion * mu^power."""
        return np.exp(phi[0]) * mean ** self.power_of(phi)

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give the unit deviance, not divided by the dispersion (Dunn & Smyth 2005, section 2)."""
        p = self.power_of(phi)
        ratio = np.log(mean) - np.log(np.where(y > 0, y, 1.0))
        unit = np.expm1((1.0 - p) * ratio) / (p - 1.0) + np.expm1((2.0 - p) * ratio) / (2.0 - p)
        positive = np.where(y > 0, y, 1.0) ** (2.0 - p) * unit
        return np.maximum(2.0 * np.where(y > 0, positive, mean ** (2.0 - p) / (2.0 - p)), 0.0)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give the observation-level variance log(1 + dispersion mu^(power - 2))."""
        return float(np.log1p(np.exp(phi[0]) * mean ** (self.power_of(phi) - 2.0)))

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """Bound expected amounts, and the dispersion."""
        return bounded_counts(link, eta), np.concatenate([np.clip(phi[:1], *SHAPES), phi[1:]])

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw amounts: the sum of N gamma amounts is gamma with N times their shape."""
        mean, dispersion, p = link.mean(eta), np.exp(phi[0]), self.power_of(phi)
        expected = mean ** (2.0 - p) / (dispersion * (2.0 - p))
        jumps = rng.poisson(np.minimum(expected, MOST**1.5))
        shape, scale = (2.0 - p) / (p - 1.0), dispersion * (p - 1.0) * mean ** (p - 1.0)
        return np.where(jumps > 0, scale * rng.gamma(np.maximum(jumps, 1) * shape), 0.0)


@cache
def with_power(name: str) -> Tweedie | None:
    """Make the family of a name such as ``"tweedie(1.5)"``; None if it is no such name.

    Raises
    ------
    OptionError
        If the power is outside its range.
    """
    match = NAME.fullmatch(name)
    if match is None:
        return None
    power = float(match["power"])
    if not LOWEST <= power <= HIGHEST:
        ends = {0.0: "'gaussian'", 1.0: "'poisson'", 2.0: "'gamma'"}
        other = f"family={ends[power]} is that of power {power:g}" if power in ends else "use 'poisson' or 'gamma'"
        raise OptionError(
            f"The power of the tweedie family lies between {LOWEST:g} and {HIGHEST:g}. Got family={name!r}. Give a "
            f"power inside, or leave it out to estimate it; {other}."
        )
    return Tweedie(power)


FAMILIES.add("tweedie", Tweedie())
