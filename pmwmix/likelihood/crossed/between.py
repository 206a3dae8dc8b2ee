"""The block between the eliminated factor and the others, for weights that change. Numpy and scipy only.

Kept cell by cell where units meet few of the other effects, whole where most meet most.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from pmwmix._types import Array
from pmwmix.likelihood.crossed.units import Crossing

UNIT, PAIR, CELL = 1e-5, 4e-9, 1e-9  # seconds for a unit, a pair of its cells, a number of a dense row added to another


class Between:
    """Where the units of the eliminated factor meet the effects of the dense block.

    Parameters
    ----------
    crossing : Crossing
        One random effect per unit and factor.
    """

    def __init__(self, crossing: Crossing) -> None:
        self.crossing, self.cells = crossing, crossing.cells
        self.shape = (crossing.n_units[0], crossing.n_dense)
        self.bounds = np.append(0, np.cumsum(np.bincount(self.cells.unit, minlength=self.shape[0])))

    def sums(self, values: Array) -> Array:
        """Sum values of rows, per random column of the others (Q_B, n), over cells (N,)."""
        return np.bincount(self.cells.of.ravel(), values.ravel(), minlength=len(self.cells.unit))

    def matrix(self, values: Array) -> Any:
        """Lay the values of cells (N,) out as (G, D)."""
        if self.crossing.sparse:
            return csr_array((values, self.cells.place, self.bounds), shape=self.shape)
        out = np.zeros(self.shape)
        out[self.cells.unit, self.cells.place] = values
        return out

    def product(self, left: Any, right: Any) -> Array:
        """Multiply two such matrices, A'B (D, D)."""
        found = left.T @ right
        return found if isinstance(found, np.ndarray) else found.toarray()

    def through(self, values: Array, N: Array) -> Array:
        """Give CN (N,) in the cells alone, for the matrix C of values and a symmetric N (D, D)."""
        if not self.crossing.sparse:
            return (self.matrix(values) @ N)[self.cells.unit, self.cells.place]
        if self._by_unit:
            return self._unit_by_unit(values, N)
        out = np.empty(len(values))
        whole, step = self.matrix(values), max(4_000_000 // self.shape[1], 1)
        for start in range(0, self.shape[0], step):
            stop = min(start + step, self.shape[0])
            here = slice(self.bounds[start], self.bounds[stop])
            rows = whole[start:stop] @ N
            out[here] = rows[self.cells.unit[here] - start, self.cells.place[here]]
        return out

    @cached_property
    def _by_unit(self) -> bool:
        """Whether a loop over the units is faster than a product with all of N."""
        loop = UNIT * self.shape[0] + PAIR * self.crossing.n_pairs
        return loop < CELL * len(self.cells.unit) * self.shape[1]

    def _unit_by_unit(self, values: Array, N: Array) -> Array:
        out, place = np.empty(len(values)), self.cells.place
        for start, stop in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True):
            here = place[start:stop]
            out[start:stop] = N[here[:, None], here] @ values[start:stop]
        return out
