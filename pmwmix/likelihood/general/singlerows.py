"""Rows of models with one grouping level, in numpy: tiles of rows, sums over units, derivatives of densities.

Arrays have their tiles' rows last, (..., T, L), each tile the rows of one unit, filled up with rows of weight zero.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.families import FAMILIES
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.partials import partials
from pmwmix.likelihood.general.tiles import Chunk
from pmwmix.likelihood.rows import in_blocks
from pmwmix.links import LINKS

LONGEST = 64  # rows of a tile
TILE = 4  # rows that a tile costs beside its own


class SingleRows:
    """The rows of one chunk of the sample.

    Parameters
    ----------
    structure : MarginalStructure
    chunk : Chunk
    rows : RowArrays
    k : int
        Outcome.
    known : (ndarray, list of ndarray)
        `distinct` of the rows.

    Notes
    -----
    ``V`` (r, T, L) are the fixed columns and those random columns that are none of them; ``places`` (q,) finds the
    random ones among them. The density of a row is ``linear`` eta + ``omega`` l(eta): where it is that of a natural
    exponential family, l is the cumulant function alone and asks for no outcome.
    """

    def __init__(
        self, structure: MarginalStructure, chunk: Chunk, rows: RowArrays, k: int, known: tuple[Array, list[Array]]
    ) -> None:
        self.structure, self.n_units = structure, chunk.n_units[0]
        self.curve = FAMILIES[structure.family].cumulant(LINKS[structure.link]) if not structure.further else None
        tiles = chunk.tile_to[0] < self.n_units
        there = chunk.real[:, tiles].T
        sizes = np.bincount(chunk.tile_to[0][tiles], there.sum(axis=1), self.n_units).astype(np.int64)
        self.at, real, self.tile_to = _laid_out(chunk.rows[:, tiles].T[there], sizes)
        self.alone = len(self.tile_to) == self.n_units
        self.starts = np.flatnonzero(np.append(True, self.tile_to[1:] != self.tile_to[:-1]))
        self.w = np.where(real, rows.w[self.at], 0.0)
        self.offset = rows.offset[self.at]
        self.places, columns = known
        self.V = np.empty((len(columns), *self.at.shape))
        for one, column in zip(self.V, columns, strict=True):
            one[...] = column[self.at]
        self.Z = self.V[self.places]
        a, b = np.tril_indices(len(self.Z))
        self.ZZ = self.Z[a] * self.Z[b]
        self.top = chunk.w[0][: self.n_units]
        self._read(rows, k)

    def of_outcome(self, rows: RowArrays, k: int) -> SingleRows:
        """Give the same rows with another outcome."""
        other = copy(self)
        other._read(rows, k)
        return other

    def _read(self, rows: RowArrays, k: int) -> None:
        self.y, self.extra = rows.y[k][self.at], [part[self.at] for part in rows.extra[k]]
        if self.curve is None:
            self.omega, self.linear = self.w, None
        else:
            trials = self.extra[0] if FAMILIES[self.structure.family].per_trial else 1.0
            self.omega, self.linear = -self.w * trials, self.w * self.y
        self.weighted = np.ascontiguousarray((self.omega * self.V).transpose(1, 2, 0))  # (T, L, r)
        r, G = len(self.V), self.n_units
        self.constant = np.zeros((r, G)) if self.linear is None else self.sums(self.linear, self.V)

    def fixed(self, beta: Array) -> Array:
        """Give the fixed part of the linear predictor (T, L)."""
        return self.offset + np.einsum("p,ptl->tl", beta, self.V[: len(beta)])

    def spread(self, values: Array) -> Array:
        """Give every tile (..., T, 1) the values (..., G) of its unit."""
        return (values if self.alone else values[..., self.tile_to])[..., None]

    def sums(self, values: Array, products: Array | None = None) -> Array:
        """Sum values (..., T, L), times products (m, T, L), over each unit: (..., G) or (m, ..., G)."""
        if products is None:
            return self.units(values.sum(axis=-1))
        subscripts = "mtl,tl->mt" if values.ndim == 2 else "mtl,ptl->mpt"
        return self.units(np.einsum(subscripts, products, values))

    def units(self, tiles: Array, axis: int = -1) -> Array:
        """Sum tiles over each unit."""
        return tiles if self.alone else np.add.reduceat(tiles, self.starts, axis=axis)

    def derivatives(self, eta: Array, phi: Array, order: int, span: slice = slice(None)) -> dict[str, Array]:
        """Give l and its derivatives at linear predictors (T, L) or (T, K, L), without weights, as `Partials`.

        Parameters
        ----------
        eta, phi : ndarray
        order : int
            Highest one.
        span : slice
            Tiles that are meant.
        """
        if self.curve is not None:
            return {f"l{j}": part for j, part in enumerate(type(self.curve).up_to(eta, order))}
        s = self.structure
        y, *extra = (part[span] if eta.ndim == 2 else part[span, None] for part in (self.y, *self.extra))
        return partials(s.family, s.link, s.n_phi, order)(eta, y, extra, phi)


def distinct(rows: RowArrays) -> tuple[Array, list[Array]]:
    """Place the random columns among the fixed ones, behind which those stand that are none of them."""
    columns, places = list(rows.X), []
    for z in rows.Z:
        same = [j for j, column in enumerate(columns) if _alike(column, z)]
        places.append(same[0] if same else len(columns))
        columns += [] if same else [z]
    return np.array(places), columns


def _alike(one: Any, other: Any) -> bool:
    """Whether two columns (n,), which may stand on disk, have the same values."""
    first = slice(0, 2)
    if not np.array_equal(one[first], other[first]):
        return False
    return all(np.array_equal(*values) for _, values in in_blocks((one, other)))


def _laid_out(index: Array, sizes: Array) -> tuple[Array, Array, Array]:
    """Lay rows, sorted by their units, out in tiles that waste little.

    Parameters
    ----------
    index : ndarray of int, shape (n,)
    sizes : ndarray of int, shape (G,)

    Returns
    -------
    ndarray of int, shape (T, L)
        Entries of ``index``; padding repeats the first row of the unit.
    ndarray of bool, shape (T, L)
        Places that hold a row.
    ndarray of int, shape (T,)
        Unit of each tile.
    """
    lengths = np.arange(1, min(LONGEST, int(sizes.max())) + 1)
    count, often = np.unique(sizes, return_counts=True)
    lanes = int(lengths[np.argmin(((-(-count // lengths[:, None])) @ often) * (lengths + TILE))])
    tiles = -(-sizes // lanes)
    tile_to = np.repeat(np.arange(len(sizes)), tiles)
    within = np.arange(len(tile_to)) - np.repeat(np.cumsum(tiles) - tiles, tiles)
    place = within[:, None] * lanes + np.arange(lanes)
    first = (np.cumsum(sizes) - sizes)[tile_to]
    real = place < sizes[tile_to][:, None]
    at: Any = index[first[:, None] + np.where(real, place, 0)]
    return at, real, tile_to
