"""Correlations written as matrices of each group, of which the Cholesky factor is taken. Numpy only.

After Pinheiro & Bates (2000), sections 5.3.1 and 5.3.2; equations are those of docs/residuals.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.jets import Jet, through, times
from pmwmix.likelihood.linear.correlations import (
    CORRELATIONS,
    Correlation,
    Whiten,
    bounded,
    positive,
    power,
    reciprocal,
    share,
    shifted,
    typical_step,
)


class Dense:
    """A correlation by its matrix."""

    relative = True

    def matrix(self, rho: Sequence[Jet], where: Array) -> Jet:
        """Write Γ (1 or g, s, s) of groups with rows at ``where`` (1 or g, s, d)."""
        raise NotImplementedError

    def whiten(self, rho: Sequence[Jet], where: Array) -> tuple[Whiten, Jet]:
        """Multiply with L⁻¹ of Γ = LL'."""
        factor = self.matrix(rho, where).cholesky()
        inverse = factor.solve(Jet.constant(np.eye(where.shape[-2])[None], factor.t))
        diagonal = factor.map(np.diagonal, 0, -1, -2).map(_as_column)
        logs = through(diagonal, np.log(diagonal.value), 1.0 / diagonal.value, -(diagonal.value**-2.0))

        def apply(columns: Jet | Array) -> Jet:
            return inverse @ columns

        return apply, logs.map(_twice_summed)


def _as_column(values: Array) -> Array:
    return values[..., None]


def _twice_summed(values: Array) -> Array:
    return 2.0 * values.sum(axis=-2, keepdims=True)


def lags_of(where: Array) -> Array:
    """Distance of every two rows (g, s, s)."""
    gaps = where[..., :, None, :] - where[..., None, :, :]
    return np.abs(gaps[..., 0]) if gaps.shape[-1] == 1 else np.sqrt((gaps**2).sum(axis=-1))


def beside_one(off: Jet, where: Array) -> Jet:
    """Put 1 on the diagonal of matrices, whatever stands there."""
    s = where.shape[-2]
    return shifted(times(off, 1.0 - np.eye(s)), np.eye(s))


@dataclass(frozen=True)
class Symmetric(Dense):
    """The same correlation of all rows of a group (residuals, eq. 6), down to -1 / (size - 1)."""

    size: int

    names, scales = ("rho",), ("correlation",)

    @property
    def starts(self) -> tuple[Array, ...]:
        """Correlations of 0.2, 0.02 and 0.7."""
        low = -1.0 / (self.size - 1)
        return tuple(np.array([np.log((rho - low) / (1.0 - rho))]) for rho in (0.2, 0.02, 0.7))

    def report(self, rho: Sequence[Jet]) -> list[Jet]:
        """Give the correlation."""
        low = -1.0 / (self.size - 1)
        return [shifted(share(rho[0]).times(1.0 - low), low)]

    def matrix(self, rho: Sequence[Jet], where: Array) -> Jet:
        """Write the matrix."""
        s = where.shape[-2]
        return beside_one(times(self.report(rho)[0], np.ones((1, s, s))), where)


@dataclass(frozen=True)
class Unstructured(Dense):
    """A correlation of its own for every two occasions (residuals, eq. 6).

    The rows of its Cholesky factor are (r_1, ..., 1) divided by their lengths, so that every ρ gives a correlation
    matrix and every correlation matrix has one ρ.
    """

    occasions: tuple[float, ...]

    relative = False

    @property
    def names(self) -> tuple[str, ...]:
        """``cor(1,2)``, by the times themselves."""
        shown = [f"{time:g}" for time in self.occasions]
        return tuple(f"cor({shown[j]},{shown[i]})" for i, j in self._pairs)

    @property
    def scales(self) -> tuple[str, ...]:
        """Correlations."""
        return ("correlation",) * len(self._pairs)

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        return [(i, j) for i in range(len(self.occasions)) for j in range(i)]

    @property
    def starts(self) -> tuple[Array, ...]:
        """No correlation."""
        return (np.zeros(len(self._pairs)),)

    def full(self, rho: Sequence[Jet]) -> Jet:
        """Write the matrix of all occasions (1, T, T)."""
        T, t = len(self.occasions), rho[0].t
        U = Jet.constant(np.eye(T)[None], t)
        for one, (i, j) in zip(rho, self._pairs, strict=True):
            U.value[0, i, j], U.first[:, 0, i, j] = one.value[0, 0, 0], one.first[:, 0, 0, 0]
        square = times(U, U).map(np.sum, -1).map(_as_column)
        root = through(square, square.value**-0.5, -0.5 * square.value**-1.5, 0.75 * square.value**-2.5)
        L = times(root, U)
        return L @ L.T

    def report(self, rho: Sequence[Jet]) -> list[Jet]:
        """Give the correlations."""
        full = self.full(rho)
        return [full[i : i + 1, j : j + 1] for i, j in self._pairs]

    def matrix(self, rho: Sequence[Jet], where: Array) -> Jet:
        """Take the rows and columns of a group's occasions."""
        at = np.searchsorted(np.array(self.occasions), where[..., 0])
        return self.full(rho).map(_taken, at)


def _taken(values: Array, at: Array) -> Array:
    return values[..., 0, :, :][..., at[:, :, None], at[:, None, :]]


@dataclass(frozen=True)
class Toeplitz(Dense):
    """A correlation of its own for every lag, given by partial autocorrelations (Durbin & Levinson's recursion)."""

    n_lags: int

    @property
    def names(self) -> tuple[str, ...]:
        """``cor(lag 1)``."""
        return tuple(f"cor(lag {lag})" for lag in range(1, self.n_lags + 1))

    @property
    def scales(self) -> tuple[str, ...]:
        """Correlations."""
        return ("correlation",) * self.n_lags

    @property
    def starts(self) -> tuple[Array, ...]:
        """Correlations of 0.3, 0.02 and 0.8 at lag 1, and what follows from them."""
        return tuple(np.append(np.arctanh(rho), np.zeros(self.n_lags - 1)) for rho in (0.3, 0.02, 0.8))

    def report(self, rho: Sequence[Jet]) -> list[Jet]:
        """Give the autocorrelations of the partial ones: ρ_h = Σ_j a_j ρ_(h-j) + π_h (1 - Σ_j a_j ρ_j)."""
        found: list[Jet] = []
        weights: list[Jet] = []
        for one in rho:
            partial = bounded(one)
            carried = left = Jet.constant(np.zeros((1, 1, 1)), one.t)
            for weight, back, forth in zip(weights, reversed(found), found, strict=True):
                carried, left = carried + times(weight, back), left + times(weight, forth)
            found.append(carried + times(partial, shifted(left.times(-1.0), 1.0)))
            turned = list(reversed(weights))
            weights = [a - times(partial, b) for a, b in zip(weights, turned, strict=True)] + [partial]
        return found

    def matrix(self, rho: Sequence[Jet], where: Array) -> Jet:
        """Write the matrix."""
        lags, found = lags_of(where), self.report(rho)
        out = Jet.constant(np.broadcast_to(np.eye(lags.shape[-1]), lags.shape), rho[0].t)
        for lag, one in enumerate(found, start=1):
            out = out + times(one, (lags == lag).astype(float))
        return out


@dataclass(frozen=True)
class MovingAverage(Dense):
    """ARMA(1, 1), or MA(1) without its autoregressive part (residuals, eq. 7).

    Correlation at lag 1 is (1 + φθ)(φ + θ) / (1 + 2φθ + θ²), at lag h that times φ^(h-1).
    """

    mixed: bool

    @property
    def names(self) -> tuple[str, ...]:
        """``phi`` and ``theta``."""
        return ("phi", "theta") if self.mixed else ("theta",)

    @property
    def scales(self) -> tuple[str, ...]:
        """Both between -1 and 1."""
        return ("correlation",) * len(self.names)

    @property
    def starts(self) -> tuple[Array, ...]:
        """Some correlation, little, and much."""
        pairs = ((0.3, 0.1), (0.02, 0.0), (0.8, -0.3)) if self.mixed else ((0.3,), (0.02,), (0.7,))
        return tuple(np.arctanh(pair) for pair in pairs)

    def report(self, rho: Sequence[Jet]) -> list[Jet]:
        """Give φ and θ."""
        return [bounded(one) for one in rho]

    def matrix(self, rho: Sequence[Jet], where: Array) -> Jet:
        """Write the matrix."""
        lags, (*_, theta) = lags_of(where), self.report(rho)
        square = times(theta, theta)
        if not self.mixed:
            first = times(theta, reciprocal(shifted(square, 1.0)))
            return beside_one(times(first, (lags == 1.0).astype(float)), where)
        phi = self.report(rho)[0]
        both = times(phi, theta)
        scale = reciprocal(shifted(both.times(2.0) + square, 1.0))
        first = times(times(shifted(both, 1.0), phi + theta), scale)
        return beside_one(times(times(first, np.ones_like(lags)), power(phi, np.maximum(lags - 1.0, 0.0))), where)


@dataclass(frozen=True)
class Spatial(Dense):
    """Correlation exp(-d / range) or exp(-(d / range)²) at distance d (residuals, eq. 8).

    With a nugget it is that times 1 - nugget for any two rows.
    """

    typical: float
    exponent: float
    nugget: bool

    @property
    def names(self) -> tuple[str, ...]:
        """``range`` and ``nugget``."""
        return ("range", "nugget") if self.nugget else ("range",)

    @property
    def scales(self) -> tuple[str, ...]:
        """A positive number and a share."""
        return ("positive", "share")[: len(self.names)]

    @property
    def starts(self) -> tuple[Array, ...]:
        """A range of the usual distance, of a quarter and of four times it; a nugget of 0.1."""
        return tuple(np.array([np.log(size), np.log(0.1 / 0.9)])[: len(self.names)] for size in (1.0, 0.25, 4.0))

    def report(self, rho: Sequence[Jet]) -> list[Jet]:
        """Give the range, in units of the distances, and the nugget."""
        return [positive(rho[0]).times(self.typical), *(share(one) for one in rho[1:])]

    def matrix(self, rho: Sequence[Jet], where: Array) -> Jet:
        """Write the matrix."""
        far = lags_of(where) / self.typical
        turned = positive(rho[0].times(-self.exponent))
        fall = times(turned, -(far**self.exponent))
        value = np.exp(fall.value)
        off = through(fall, value, value, value)
        if self.nugget:
            off = times(off, shifted(share(rho[1]).times(-1.0), 1.0))
        return beside_one(off, where)


def _symmetric(where: Array, starts: Array, nugget: bool) -> Correlation:
    return Symmetric(max(int(np.diff(starts).max()), 2))


def _unstructured(where: Array, starts: Array, nugget: bool) -> Correlation:
    return Unstructured(tuple(np.unique(where[:, 0]).tolist()))


def _toeplitz(where: Array, starts: Array, nugget: bool) -> Correlation:
    return Toeplitz(int((where[starts[1:] - 1] - where[starts[:-1]]).max()))


def _ma1(where: Array, starts: Array, nugget: bool) -> Correlation:
    return MovingAverage(False)


def _arma11(where: Array, starts: Array, nugget: bool) -> Correlation:
    return MovingAverage(True)


def _exponential(where: Array, starts: Array, nugget: bool) -> Correlation:
    return Spatial(typical_step(where, starts), 1.0, nugget)


def _gaussian(where: Array, starts: Array, nugget: bool) -> Correlation:
    return Spatial(typical_step(where, starts), 2.0, nugget)


CORRELATIONS.add("compsymm", _symmetric)
CORRELATIONS.add("unstructured", _unstructured)
CORRELATIONS.add("toeplitz", _toeplitz)
CORRELATIONS.add("ma1", _ma1)
CORRELATIONS.add("arma11", _arma11)
CORRELATIONS.add("exponential", _exponential)
CORRELATIONS.add("gaussian", _gaussian)
