"""Sums over the units of the eliminated factor of what they add to the dense block. Numpy and scipy only.

A unit j adds s_j c_j c_j', c_j being its cross-products with the dense block (crossed, eq. 4). Where units meet few
effects the pairs of their cells are listed once, so that a sum for other s is one sparse product; else blocks of units
are multiplied whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csc_array, csr_array

from pmwmix._types import Array
from pmwmix.likelihood.crossed.units import Cells, Crossing, pairs_within

MAX_LISTED = 100_000_000  # pairs, of 12 bytes each
AT_ONCE = 2_000_000  # pairs, or cells of a block, that are made in one step


class Gram(Protocol):
    """Sums of c_j c_j' over units."""

    def sum(self, scale: Array) -> Array:
        """Sum s_j c_j c_j' for s (G,), not negative: (D, D), zero above the diagonal."""

    def along(self, N: Array) -> Array:
        """Give c_j'N c_j of every unit (G,) for a symmetric N (D, D)."""


class PairGram:
    """Keeps c_ja c_jb of every pair a >= b of effects that meet in a unit j.

    Parameters
    ----------
    cells : Cells
    values : ndarray, shape (N,)
        c of every cell.
    n_units, n_dense : int
    """

    def __init__(self, cells: Cells, values: Array, n_units: int, n_dense: int) -> None:
        self.n_dense = n_dense
        met = np.bincount(cells.unit, minlength=n_units)
        ends = np.cumsum(met * (met + 1) // 2)
        kind = np.int32 if max(n_dense**2, int(ends[-1])) < 2**31 else np.int64
        rows, products = np.empty(ends[-1], dtype=kind), np.empty(ends[-1])
        starts = np.cumsum(met) - met
        edges = np.append(np.searchsorted(ends, np.arange(0, ends[-1], AT_ONCE)), n_units)
        for first, last in pairwise(edges.tolist()):
            if first == last:
                continue
            one, other = pairs_within(met[first:last], starts[first])
            here = slice(ends[first] - met[first] * (met[first] + 1) // 2, ends[last - 1])
            rows[here] = cells.place[one] * n_dense + cells.place[other]
            products[here] = values[one] * values[other]
        bounds = np.append(0, ends).astype(kind)
        self.pairs = csc_array((products, rows, bounds), shape=(n_dense**2, n_units))
        self.squares = csr_array((values**2, cells.place, np.append(starts, len(values))), shape=(n_units, n_dense))

    def sum(self, scale: Array) -> Array:
        """Sum s_j c_j c_j' for s (G,): (D, D), zero above the diagonal."""
        return (self.pairs @ scale).reshape(self.n_dense, self.n_dense)

    def along(self, N: Array) -> Array:
        """Give c_j'N c_j of every unit (G,) for a symmetric N (D, D)."""
        return 2.0 * (self.pairs.T @ N.ravel()) - self.squares @ np.diag(N)


class BlockGram:
    """Multiplies blocks of units as whole matrices.

    Parameters
    ----------
    cross : csr_array or ndarray, shape (G, D)
        c of every unit.
    """

    def __init__(self, cross: Any) -> None:
        self.cross = cross

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Units, and their rows (m, D)."""
        G, D = self.cross.shape
        step = max(AT_ONCE // D, 1)
        for start in range(0, G, step):
            here = slice(start, start + step)
            block = self.cross[here]
            yield here, block if isinstance(block, np.ndarray) else block.toarray()

    def sum(self, scale: Array) -> Array:
        """Sum s_j c_j c_j' for s (G,), not negative: (D, D), zero above the diagonal."""
        out = np.zeros((self.cross.shape[1],) * 2)
        for here, block in self.blocks():
            half = block * np.sqrt(scale[here])[:, None]
            out += half.T @ half
        return np.tril(out)

    def along(self, N: Array) -> Array:
        """Give c_j'N c_j of every unit (G,) for a symmetric N (D, D)."""
        return np.concatenate([np.einsum("ja,ja->j", block @ N, block) for _, block in self.blocks()])


def gram_of(crossing: Crossing, cross: Array) -> Gram:
    """Choose what is faster, and what fits into memory.

    Parameters
    ----------
    crossing : Crossing
    cross : ndarray, shape (G, D), or (N,) by cells
    """
    if not crossing.sparse:
        return BlockGram(cross)
    G, D, cells = crossing.n_units[0], crossing.n_dense, crossing.cells
    if crossing.n_pairs <= MAX_LISTED:
        return PairGram(cells, cross, G, D)
    return BlockGram(csr_array((cross, (cells.unit, cells.place)), shape=(G, D)))
