"""Weights of rows that are known only by their sums in the units of the lowest level. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pmwmix._types import Array
from pmwmix.weights.conditional import WeightStats


@dataclass(frozen=True)
class RowSums:
    """Weights of rows, as scalings and statistics need them: per lowest unit j of G_1, each (G_1,).

    Parameters
    ----------
    n : ndarray
        Number of rows.
    total, squares : ndarray
        Σw and Σw².
    low, high : ndarray
        Smallest and largest w.
    factor : ndarray
        What the weight column, or 1 where there is none, was multiplied with.
    is_column : bool
        Whether a column is multiplied, and not 1.
    """

    n: Array
    total: Array
    squares: Array
    low: Array
    high: Array
    factor: Array
    is_column: bool

    @classmethod
    def ones(cls, n: Array) -> RowSums:
        """Rows of weight 1, ``n`` (G_1,) of them in each unit."""
        one = np.ones(len(n))
        return cls(n, n.astype(float), n.astype(float), one, one, one, False)

    def __len__(self) -> int:
        """Give the number of rows."""
        return int(self.n.sum())

    def times(self, factor: Array) -> RowSums:
        """Multiply the weights in every unit with a factor (G_1,)."""
        return replace(
            self,
            total=self.total * factor,
            squares=self.squares * factor**2,
            low=self.low * factor,
            high=self.high * factor,
            factor=self.factor * factor,
        )

    @property
    def statistics(self) -> WeightStats:
        """Statistics over the rows, as `WeightStats.of` gives them."""
        n, total, low, high = len(self), float(self.total.sum()), float(self.low.min()), float(self.high.max())
        if high == 0:
            return WeightStats(n, 0.0, 0.0, low, high, float("nan"), 0.0)
        mean, squares = total / high / n, float((self.squares / high**2).sum())
        spread = 0.0 if low == high else float(np.sqrt(max(squares / n - mean**2, 0.0)) / mean)
        return WeightStats(n, total / n, total, low, high, spread, (n * mean) ** 2 / squares)
