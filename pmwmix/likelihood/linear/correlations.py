"""Correlations of residuals inside a group: matrices, and square roots of their inverses, with derivatives in ρ.

Every correlation is a class with the members of `Correlation`, registered in `CORRELATIONS`. Numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit, logit

from pmwmix._registry import Registry
from pmwmix._types import Array
from pmwmix.likelihood.jets import Jet, through, times

CORRELATIONS = Registry("residual correlation")
Whiten = Callable[["Jet | Array"], Jet]


class Correlation(Protocol):
    """What a correlation says of itself.

    ``CORRELATIONS[name](where, starts, nugget)`` makes it from the places of all rows (n, d), group after group and
    sorted within groups, and the first row of every group (G + 1,).
    """

    @property
    def relative(self) -> bool:
        """Whether only differences of places count."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters as they are reported."""

    @property
    def scales(self) -> tuple[str, ...]:
        """Scale on which each is about normal: a key of `SCALES`."""

    @property
    def starts(self) -> tuple[Array, ...]:
        """Where ρ may start, some correlation first, then little and much; each ρ ranges over the whole line."""

    def report(self, rho: Sequence[Jet]) -> list[Jet]:
        """Give the parameters as they are reported."""

    def whiten(self, rho: Sequence[Jet], where: Array) -> tuple[Whiten, Jet]:
        """Give what multiplies columns (g, s, m) with a square root of Γ⁻¹, and log det Γ (1 or g, 1, 1).

        Parameters
        ----------
        rho : sequence of Jet
            Each of shape (1, 1, 1).
        where : ndarray, shape (1 or g, s, d)
            Places of the rows of each group; one of all groups if they have the same.
        """


def bounded(rho: Jet) -> Jet:
    """Map to (-1, 1) by the hyperbolic tangent."""
    value = np.tanh(rho.value)
    return through(rho, value, 1.0 - value**2, -2.0 * value * (1.0 - value**2))


def share(rho: Jet) -> Jet:
    """Map to (0, 1) by the logistic function."""
    value = expit(rho.value)
    slope = value * expit(-rho.value)
    return through(rho, value, slope, slope * (1.0 - 2.0 * value))


def positive(rho: Jet) -> Jet:
    """Map to positive numbers by the exponential."""
    value = np.exp(rho.value)
    return through(rho, value, value, value)


def power(base: Jet, exponent: Array) -> Jet:
    """Raise to powers that are whole numbers, or real ones where the base is positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = base.value**exponent
        slope = np.where(exponent == 0, 0.0, exponent * base.value ** (exponent - 1.0))
        twice = exponent * (exponent - 1.0)
        curvature = np.where(twice == 0, 0.0, twice * base.value ** (exponent - 2.0))
    return through(base, value, slope, curvature)


def reciprocal(a: Jet) -> Jet:
    """Divide 1 by every entry."""
    return through(a, 1.0 / a.value, -(a.value**-2.0), 2.0 * a.value**-3.0)


def shifted(a: Jet, by: float | Array) -> Jet:
    """Add a number."""
    return Jet(a.value + by, a.first, a.second)


@dataclass(frozen=True)
class Markov:
    """Correlation φ^d of rows that are d apart in time: each row depends on the one before it alone.

    Pinheiro & Bates (2000), section 5.3.1: AR(1) for whole times, φ of either sign; CAR(1) for any times, φ positive
    (residuals, eqs. 4-5).
    """

    whole: bool
    typical: float = 1.0

    names, relative = ("phi",), True

    @property
    def scales(self) -> tuple[str, ...]:
        """A correlation, or a share."""
        return ("correlation",) if self.whole else ("share",)

    @property
    def starts(self) -> tuple[Array, ...]:
        """Correlations at distance 1 of 0.3, 0.02 and 0.8; of any times at their usual distance."""
        if self.whole:
            return tuple(np.array([np.arctanh(phi)]) for phi in (0.3, 0.02, 0.8))
        return tuple(np.array([logit(phi ** (1.0 / self.typical))]) for phi in (0.3, 0.02, 0.8))

    def report(self, rho: Sequence[Jet]) -> list[Jet]:
        """Give φ."""
        return [bounded(rho[0]) if self.whole else share(rho[0])]

    def whiten(self, rho: Sequence[Jet], where: Array) -> tuple[Whiten, Jet]:
        """Subtract from each row what the one before it predicts: (a_i - φ^d a_(i-1)) / sqrt(1 - φ^(2d))."""
        (phi,) = self.report(rho)
        gaps = np.diff(where, axis=-2)
        passed = power(phi, gaps)
        square = times(passed, passed)
        with np.errstate(divide="ignore"):  # no digit is lost where φ^d is close to 1
            left = Jet(-np.expm1(2.0 * gaps * np.log(np.abs(phi.value))), -square.first, -square.second)
        root = through(left, left.value**-0.5, -0.5 * left.value**-1.5, 0.75 * left.value**-2.5)
        logs = through(left, np.log(left.value), 1.0 / left.value, -(left.value**-2.0))
        before = times(root, passed)

        def apply(columns: Jet | Array) -> Jet:
            if isinstance(columns, np.ndarray):
                columns = Jet.constant(columns)
            late = times(root, columns.map(_late)) - times(before, columns.map(_early))
            first = columns.map(_first).among(late.t)
            return Jet(*(np.concatenate(found, axis=-2) for found in zip(_parts(first), _parts(late), strict=True)))

        return apply, logs.map(_summed)


def _late(values: Array) -> Array:
    return values[..., 1:, :]


def _early(values: Array) -> Array:
    return values[..., :-1, :]


def _first(values: Array) -> Array:
    return values[..., :1, :]


def _summed(values: Array) -> Array:
    return values.sum(axis=-2, keepdims=True)


def _parts(jet: Jet) -> tuple[Array, Array, Array]:
    return jet.value, jet.first, jet.second


def typical_step(where: Array, starts: Array) -> float:
    """Give the usual distance of rows that follow each other in a group."""
    inside = np.ones(len(where) - 1, dtype=bool)
    inside[starts[1:-1] - 1] = False
    steps = np.sqrt((np.diff(where, axis=0)[inside] ** 2).sum(axis=1))
    return float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0


def _whole(where: Array, starts: Array, nugget: bool) -> Correlation:
    return Markov(True)


def _continuous(where: Array, starts: Array, nugget: bool) -> Correlation:
    return Markov(False, typical_step(where, starts))


CORRELATIONS.add("ar1", _whole)
CORRELATIONS.add("car1", _continuous)
