"""The pairwise composite likelihood of a linear model, profiled over beta and sigma (pairwise, eqs. 1-4)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import Likelihood, Point
from pmwmix.likelihood.linear.crossproducts import Structure
from pmwmix.likelihood.linear.objective import profiled_point
from pmwmix.likelihood.linear.pairs import Kinds, Listed, Units
from pmwmix.likelihood.standardise import Columns


class PairwiseObjective(Likelihood):
    """Minus the weighted log-likelihood of all pairs of rows that share a unit, divided by their mean weight.

    Parameters
    ----------
    whole : Likelihood
        The likelihood of the whole sample without weights, nested or crossed: conditional modes and starts are its.
    structure : Structure
    units : Units
    columns : Columns
    kept : ndarray of int
        Fixed columns in the model.
    part : ndarray of int, shape (n,)
        Independent unit of every row.
    """

    closed_form, composite = True, True

    def __init__(
        self, whole: Any, structure: Structure, units: Units, columns: Columns, kept: Array, part: Array
    ) -> None:
        self.whole, self.structure, self.engine, self.crossed = whole, structure, whole.engine, whole.crossed
        self._given = (whole, structure, units, columns, kept, part)
        self.part, self.n_calls, layout = part, 0, structure.layout
        used = [*columns.x[kept], *columns.y]
        self.columns = np.array([columns.standard(int(j)) for j in used])
        z, ends = [columns.standard(int(j)) for j in columns.z], np.cumsum([0, *layout.q])
        Z = [np.array(z[a:b]) for a, b in pairwise(ends)]
        constant = all(len(own) == 1 and bool(np.all(own == 1.0)) for own in Z)
        sums = Kinds(units, layout, self.columns) if constant else Listed(units, layout, self.columns, Z)
        self.scale = sums.total / sums.n_pairs if sums.total > 0 else 1.0
        self.sums = sums.scaled(self.scale)
        self.n_pairs = sums.n_pairs

    @property
    def crossing(self) -> Any:
        """How the factors of crossed random effects meet."""
        return self.whole.crossing

    @property
    def n_free(self) -> float:
        """Number of outcomes that the residual variance is over: two of every pair."""
        return 2.0 * float(self.sums.total)

    def _at(self, k: int) -> Array:
        return np.append(np.arange(self.structure.p), self.structure.p + k)

    def at(self, theta: Array, k: int = 0) -> Point:
        """Evaluate outcome ``k`` at theta (n_theta,)."""
        self.n_calls += 1
        theta = np.array(theta, dtype=float)
        return profiled_point(theta, self.sums(theta, self._at(k)), self.n_free)

    def row_scores(self, point: Point, k: int = 0) -> Array:
        """Gradient in the coefficients by rows (n, p), each linear in the row's own residual (crossed, eq. 18)."""
        X = self.columns[: self.structure.p]
        left = self.columns[self._at(k)[-1]] - point.beta @ X
        return (self.sums.applied(point.theta, X) * left / point.sigma**2).T

    def _shares(self, point: Point, k: int) -> Array:
        """Share of every row in the gradient (n, P): half of every pair that it is in (pairwise, eq. 8)."""
        X, y, sigma2 = self.columns[: self.structure.p], self.columns[self._at(k)[-1]], point.sigma**2
        found = self.sums.rows(point.theta, y - point.beta @ X)
        by_theta = -0.5 * (found["D_t"] + found["Q_t"] / sigma2)
        by_sigma = found["Q"] / sigma2 - 2.0 * found["N"]
        return np.vstack([X * found["e"] / sigma2, by_theta, by_sigma]).T

    def scores(self, point: Point, k: int = 0) -> Array:
        """Gradient of the log-likelihood share of every independent unit (G, P)."""
        return np.array([np.bincount(self.part, column) for column in self._shares(point, k).T]).T

    def modes(self, point: Point, k: int = 0) -> list[tuple[Array, Array]]:
        """Conditional modes and their covariances given the parameters, without weights."""
        modes: list[tuple[Array, Array]] = self.whole.modes(point, k)
        return modes

    def start(self, k: int = 0) -> Array:
        """Give the start of the whole likelihood."""
        start: Array = self.whole.start(k)
        return start

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the data."""
        return PairwiseObjective, self._given
