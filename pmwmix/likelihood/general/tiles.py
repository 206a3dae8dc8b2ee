"""Rows in tiles: the layout in which row-wise densities are evaluated, in chunks of whole top-level units. Numpy only.

The rows of a lowest unit fill tiles of a few rows each, the last one padded with rows of weight zero. Sums over rows
become sums over a short axis and then over tiles, and values of a unit are copied to tiles instead of rows. All chunks
have the same shape, so that one compiled function serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.engine import bucket
from pmwmix.likelihood.paths import ancestors

TINY = 1e-100


@dataclass(frozen=True)
class Chunk:
    """Some top-level units with everything below them; local numbering, padded.

    Parameters
    ----------
    rows : ndarray of int, shape (lanes, T)
        Row of the table in each place; padding repeats a row of the chunk.
    real : ndarray of bool, shape (lanes, T)
        Places that hold a row.
    tile_to : tuple of ndarray of int, each (T,)
        Unit of each tile at every level, bottom-up.
    parents : tuple of ndarray of int
        ``parents[l]`` (G_l,), without the top level.
    to_top : tuple of ndarray of int
        Top-level unit of every unit, bottom-up, the top level included.
    w : tuple of ndarray
        Conditional weights (G_l,), bottom-up, the top level's own included; zero for padding.
    omega : tuple of ndarray
        Weights cumulated from below the top level down to each unit; 1 at the top and for padding. Weights of zero, as
        replicates have them, count as `TINY` here, because some things are divided by it.
    units : tuple of slice
        Units of the whole sample at every level.
    """

    rows: Array
    real: Array
    tile_to: tuple[Array, ...]
    parents: tuple[Array, ...]
    to_top: tuple[Array, ...]
    w: tuple[Array, ...]
    omega: tuple[Array, ...]
    units: tuple[slice, ...]

    @property
    def n_units(self) -> tuple[int, ...]:
        """Number of real units per level."""
        return tuple(u.stop - u.start for u in self.units)


def lanes_for(sizes: Array) -> int:
    """Rows per tile that suit groups of these sizes: padding must stay small.

    Examples
    --------
    >>> lanes_for(np.array([25, 30, 28])), lanes_for(np.array([1, 1, 2]))
    (8, 1)
    """
    total = float(sizes.sum())
    for lanes in (32, 16, 8, 4, 2):
        if float((-(-sizes // lanes) * lanes).sum()) <= 1.25 * total:
            return lanes
    return 1


@dataclass(frozen=True)
class Cut:
    """Where a sample is cut into chunks, and their common shape.

    Parameters
    ----------
    spans : list of tuple of slice
        Units of every level in each chunk, bottom-up.
    lanes, T : int
        Rows per tile, and tiles per chunk.
    G : tuple of int
        Units per chunk, at every level.
    """

    spans: list[tuple[slice, ...]]
    lanes: int
    T: int
    G: tuple[int, ...]

    def part(self, first: int, last: int) -> Cut:
        """Give some of the chunks, their units numbered anew."""
        before = [one.start for one in self.spans[first]]
        moved = [
            tuple(slice(one.start - b, one.stop - b) for one, b in zip(span, before, strict=True))
            for span in self.spans[first:last]
        ]
        return replace(self, spans=moved)


def cut(
    order: Array | None,
    starts: Array,
    parents: tuple[Array, ...],
    w: tuple[Array, ...],
    rows_per_chunk: int,
) -> list[Chunk]:
    """Cut the sample into chunks of about ``rows_per_chunk`` rows.

    Parameters
    ----------
    order : ndarray of int, shape (n,), or None
        Row order that makes lowest units contiguous and sorts them by every level above.
    starts : ndarray of int, shape (G_1 + 1,)
    parents, w
        As in `crossproducts.Blocks`.
    rows_per_chunk : int

    Returns
    -------
    list of Chunk
    """
    return chunks_of(plan_cut(starts, parents, len(w[-1]), rows_per_chunk), order, starts, parents, w)


def plan_cut(starts: Array, parents: tuple[Array, ...], n_top: int, rows_per_chunk: int) -> Cut:
    """Say where to cut; arguments as in `cut`, with the number of top-level units."""
    sizes = np.diff(starts)
    lanes = lanes_for(sizes)
    tiles = -(-sizes // lanes)
    top = ancestors(parents, len(sizes))
    ends = np.searchsorted(top, np.arange(1, n_top + 1))  # lowest units before the end of each top-level unit
    row_ends = starts[ends]
    edges = [0]
    while edges[-1] < n_top:
        done = row_ends[edges[-1] - 1] if edges[-1] else 0
        last = int(np.searchsorted(row_ends, done + rows_per_chunk, side="right"))
        edges.append(min(max(last, edges[-1] + 1), n_top))
    # even chunks waste less padding than full ones and a small rest
    spans = [_span(edge, parents, ends) for edge in pairwise(edges)]
    T = bucket(max(int(tiles[span[0]].sum()) for span in spans))
    G = tuple(bucket(max(span[level].stop - span[level].start for span in spans) + 1) for level in range(len(spans[0])))
    return Cut(spans, lanes, T, G)


def chunks_of(
    where: Cut, order: Array | None, starts: Array, parents: tuple[Array, ...], w: tuple[Array, ...]
) -> list[Chunk]:
    """Lay the chunks of a cut out; arguments as in `cut`."""
    tiles = -(-np.diff(starts) // where.lanes)
    G = list(where.G)
    return [_chunk(span, order, starts, tiles, where.lanes, parents, w, where.T, G) for span in where.spans]


def _span(edge: tuple[int, int], parents: tuple[Array, ...], ends: Array) -> tuple[slice, ...]:
    """Units of every level below the top-level units ``edge``; units are sorted by their parents."""
    spans = [slice(*edge)]
    for parent in reversed(parents):
        upper = spans[0]
        spans.insert(0, slice(*(int(np.searchsorted(parent, at)) for at in (upper.start, upper.stop))))
    return tuple(spans)


def _chunk(
    units: tuple[slice, ...],
    order: Array | None,
    starts: Array,
    tiles: Array,
    lanes: int,
    parents: tuple[Array, ...],
    w: tuple[Array, ...],
    T: int,
    G: list[int],
) -> Chunk:
    lowest = units[0]
    count, first = tiles[lowest], starts[lowest.start : lowest.stop]
    size = np.diff(starts)[lowest]
    unit = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(unit)) - np.repeat(np.cumsum(count) - count, count)
    place = within[None, :] * lanes + np.arange(lanes)[:, None]
    real = np.zeros((lanes, T), dtype=bool)
    real[:, : len(unit)] = place < size[unit]
    position = np.full((lanes, T), starts[lowest.start], dtype=np.int64)
    position[:, : len(unit)] = np.where(real[:, : len(unit)], first[unit] + place, position[:, : len(unit)])
    rows = position if order is None else order[position]
    local, weights = [], []
    for level, span in enumerate(units):
        weights.append(_pad(w[level][span], G[level], 0.0))
        if level < len(units) - 1:
            local.append(_pad(parents[level][span] - units[level + 1].start, G[level], G[level + 1] - 1))
    tile_to = [_pad(unit, T, G[0] - 1)]
    for parent in local:
        tile_to.append(parent[tile_to[-1]])
    to_top = [np.arange(G[-1])]
    for parent in reversed(local):
        to_top.insert(0, to_top[0][parent])
    omega = _cumulated(weights, local, units)
    return Chunk(rows, real, tuple(tile_to), tuple(local), tuple(to_top), tuple(weights), omega, units)


def _cumulated(weights: list[Array], parents: Sequence[Array], units: tuple[slice, ...]) -> tuple[Array, ...]:
    omega = [np.ones(len(weights[-1]))]
    for level in range(len(units) - 2, -1, -1):
        real = np.arange(len(weights[level])) < units[level].stop - units[level].start
        omega.insert(0, np.where(real, np.maximum(weights[level], TINY), 1.0) * omega[0][parents[level]])
    return tuple(omega)


def reweighted(chunk: Chunk, w: Sequence[Array]) -> Chunk:
    """Give a chunk other weights of its units.

    Parameters
    ----------
    chunk : Chunk
    w : sequence of ndarray
        Conditional weights of all units of the sample, bottom-up.

    Returns
    -------
    Chunk
    """
    new = [_pad(values[span], len(old), 0.0) for values, span, old in zip(w, chunk.units, chunk.w, strict=True)]
    return replace(chunk, w=tuple(new), omega=_cumulated(new, chunk.parents, chunk.units))


def whole_tree(chunks: Sequence[Chunk]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Parents and weights of the units of all chunks together, bottom-up."""
    levels = range(len(chunks[0].units))

    def parents(level: int) -> Array:
        return np.concatenate([c.parents[level][: c.n_units[level]] + c.units[level + 1].start for c in chunks])

    weights = tuple(np.concatenate([c.w[level][: c.n_units[level]] for c in chunks]) for level in levels)
    return tuple(parents(level) for level in levels[:-1]), weights


def _pad(values: Array, n: int, fill: float) -> Array:
    out = np.full(n, fill, dtype=values.dtype)
    out[: len(values)] = values
    return out
