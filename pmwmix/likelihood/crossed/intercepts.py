"""Rows, effects and their joint curvature where every unit of every crossed factor has one effect. Numpy only.

Effects are pairs of arrays, (G,) of the eliminated factor and (D,) of the dense block; whitened ones are u, and
b = Lambda u.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.linalg import lapack

from pmwmix._types import Array
from pmwmix.likelihood.crossed.between import Between
from pmwmix.likelihood.crossed.inverse import scaled_inverse
from pmwmix.likelihood.crossed.units import Crossing

Effects = tuple[Array, Array]


class EffectRows:
    """Which effects the rows have, and how much of them.

    Parameters
    ----------
    crossing : Crossing
        One random effect per unit and factor.
    Z : sequence of ndarray, each (n,)
        Random columns, factor after factor.
    ones : sequence of bool
        Random columns that are one in every row.
    """

    def __init__(self, crossing: Crossing, Z: Sequence[Array], ones: Sequence[bool]) -> None:
        self.crossing, self.between = crossing, Between(crossing)
        self.unit, self.place = crossing.index[0], crossing.place
        self.G, self.D, self.n_factors = crossing.n_units[0], crossing.n_dense, len(crossing.n_units)
        self.factors = np.split(np.arange(self.D), np.cumsum(crossing.n_units[1:])[:-1])
        self.Z, self.ones = Z, ones
        F = range(self.n_factors - 1)
        self.meeting = {(f, g): self.place[f] * self.D + self.place[g] for f in F for g in range(f)}

    def times(self, f: int, values: Array) -> Array:
        """Multiply rows (n,) with the random column of a factor."""
        return values if self.ones[f] else values * self.Z[f]

    def by_factor(self, effects: Effects) -> list[Array]:
        """Cut effects into those of each factor."""
        return [effects[0], *(effects[1][at] for at in self.factors)]

    def terms(self, effects: Effects) -> list[Array]:
        """Give what every factor's effect adds to the rows, (n,) each."""
        high = (self.times(f, effects[1][at]) for f, at in enumerate(self.place, start=1))
        return [self.times(0, effects[0][self.unit]), *high]

    def total(self, effects: Effects) -> Array:
        """Give what all effects add to the rows, Z b (n,)."""
        return np.sum(self.terms(effects), axis=0)

    def sums(self, values: Array) -> Effects:
        """Sum rows (n,) over each effect, Z'r."""
        low = np.bincount(self.unit, self.times(0, values), minlength=self.G)
        return low, np.bincount(self.place.ravel(), self._all_others(values).ravel(), minlength=self.D)

    def _all_others(self, values: Array) -> Array:
        return np.array([self.times(f, values) for f in range(1, self.n_factors)])

    def weighted(self, kappa: Array) -> tuple[Array, Array, Array]:
        """Z'KZ for K = diag(kappa): of the eliminated factor (G,), by cells (N,), of the dense block (D, D)."""
        low = self.times(0, kappa)
        own = np.bincount(self.unit, self.times(0, low), minlength=self.G)
        dense = np.zeros((self.D, self.D))
        for f in range(1, self.n_factors):
            part = self.times(f, kappa)
            diagonal = np.bincount(self.place[f - 1], self.times(f, part), minlength=self.D)
            dense[np.diag_indices(self.D)] += diagonal
            for g in range(1, f):
                both = np.bincount(self.meeting[f - 1, g - 1], self.times(g, part), minlength=self.D**2)
                dense += both.reshape(self.D, self.D) + both.reshape(self.D, self.D).T
        return own, self.between.sums(self._all_others(low)), dense

    def shares(self, low: Array, across: Array, high: Array) -> list[Array]:
        """Give z_f z'N_f of every row and factor f, (n,) each; they add up to z'Nz, z being its row of Z.

        Parameters
        ----------
        low : ndarray, shape (G,)
            Diagonal of N for the eliminated factor.
        across : ndarray, shape (N,)
            Between it and the others, in the cells.
        high : ndarray, shape (D, D)
            Of the dense block.
        """
        out = [self.times(0, self.times(0, low[self.unit]))]
        for f, cell in enumerate(self.between.cells.of, start=1):
            met = self.times(0, self.times(f, across[cell]))
            out[0] = out[0] + met
            out.append(met + self.times(f, self.times(f, np.diag(high)[self.place[f - 1]])))
        for f, g in self.meeting:
            met = self.times(f + 1, self.times(g + 1, high[self.place[f], self.place[g]]))
            out[f + 1], out[g + 1] = out[f + 1] + met, out[g + 1] + met
        return out


class Curvature:
    """M = I + Lambda'Z'KZ Lambda, factored, and N = Lambda M⁻¹ Lambda' (crossed, eqs. 3-6).

    Parameters
    ----------
    rows : EffectRows
    theta : ndarray, shape (n_factors,)
    kappa : ndarray, shape (n,)

    Raises
    ------
    numpy.linalg.LinAlgError
        If M is not positive definite.
    """

    def __init__(self, rows: EffectRows, theta: Array, kappa: Array) -> None:
        self.rows, self.theta, self.between = rows, theta, rows.between
        self.own, self.values, S = rows.weighted(kappa)
        self.grown = 1.0 + theta[0] ** 2 * self.own
        self.scale = np.repeat(theta[1:], rows.crossing.n_units[1:])
        if self.grown.min() <= 0.0:
            raise np.linalg.LinAlgError("The curvature of an eliminated effect is not positive.")
        self.shrunk = theta[0] ** 2 / self.grown
        self.matrix = self.between.matrix(self.values)
        S -= self.between.product(self.between.matrix(self.at_cells(self.shrunk) * self.values), self.matrix)
        S *= self.scale
        S *= self.scale[:, None]
        S[np.diag_indices_from(S)] += 1.0
        self.factor, failed = lapack.dpotrf(S.T, lower=0, clean=1, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError("The joint curvature of the random effects is not positive definite.")

    @property
    def pivots(self) -> Effects:
        """Logarithms of squared pivots of M, (G,) and (D,): they add up to log det M, those of a part to its own."""
        return np.log(self.grown), 2.0 * np.log(np.diag(self.factor))

    def at_cells(self, low: Array) -> Array:
        """Repeat numbers of the eliminated factor's units (G,) in their cells (N,)."""
        return low[self.between.cells.unit]

    def scaled(self, effects: Effects) -> Effects:
        """Multiply effects with Lambda."""
        return self.theta[0] * effects[0], self.scale * effects[1]

    def solve(self, right: Effects) -> Effects:
        """Compute M⁻¹c."""
        half, theta = right[0] / self.grown, self.theta[0]
        rest = right[1] - self.scale * (self.matrix.T @ (theta * half))
        high = lapack.dpotrs(self.factor, rest, lower=0)[0]
        return half - theta * (self.matrix @ (self.scale * high)) / self.grown, high

    def times(self, right: Effects) -> Effects:
        """Compute Nc."""
        return self.scaled(self.solve(self.scaled(right)))

    @cached_property
    def high(self) -> Array:
        """N of the dense block (D, D)."""
        return scaled_inverse(self.factor, self.scale)

    @cached_property
    def met(self) -> Array:
        """C N of the dense block in the cells (N,), C being the cross-products of the eliminated factor."""
        return self.between.through(self.values, self.high)

    @cached_property
    def q(self) -> Array:
        """Diagonal of C N C' (G,)."""
        return self.by_unit(self.values * self.met)

    @cached_property
    def low(self) -> Array:
        """Diagonal of N of the eliminated factor (G,)."""
        return self.shrunk + self.shrunk**2 * self.q

    def by_unit(self, values: Array) -> Array:
        """Sum numbers of cells (N,) over units (G,)."""
        return np.bincount(self.between.cells.unit, values, minlength=len(self.own))

    @cached_property
    def shares(self) -> list[Array]:
        """`EffectRows.shares` of N."""
        return self.rows.shares(self.low, -self.at_cells(self.shrunk) * self.met, self.high)

    def shares_along(self, precision: Array, kappa: Array) -> list[Array]:
        """Differentiate `shares` along a change of 1 / theta² (n_factors,) and of the rows' curvature (n,)."""
        own, values, S = self.rows.weighted(kappa)
        unit = self.at_cells
        shrunk = -(self.shrunk**2) * (own + precision[0])
        half = self.between.matrix(values * unit(self.shrunk) + 0.5 * self.values * unit(shrunk))
        across = self.between.product(half, self.matrix)
        S -= across + across.T
        S[np.diag_indices_from(S)] += np.repeat(precision[1:], self.rows.crossing.n_units[1:])
        high = self.high @ S @ self.high
        np.negative(high, out=high)
        met = self.between.through(values, self.high) + self.between.through(self.values, high)
        q = self.by_unit(values * self.met + self.values * met)
        low = shrunk + 2.0 * self.shrunk * shrunk * self.q + self.shrunk**2 * q
        return self.rows.shares(low, -unit(shrunk) * self.met - unit(self.shrunk) * met, high)
