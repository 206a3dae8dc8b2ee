"""Read the data once: weighted cross-products per unit of standardised columns. Numpy only.

After this nothing depends on the number of rows (theory, eq. 5), unless residuals have a structure (`stacks.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.rowproducts import RowProducts, Split, check_room
from pmwmix.likelihood.paths import ancestors, inner_weight
from pmwmix.likelihood.standardise import Columns, Scaler

ROWS_PER_CHUNK = 32_768
CELLS_PER_CHUNK = 4_000_000  # of the cross-products held at once
WIDE = 64_000_000  # cells of X'WX of all top-level units, above which they are not held


@dataclass(frozen=True)
class Blocks:
    """What the likelihood needs to know of the data, for one set of predictors and K outcomes.

    Parameters
    ----------
    zz : ndarray, shape (Q (Q + 1) / 2, G_1)
        Lower triangle, row by row, of Z'WZ per lowest unit; Z holds the random columns of all levels, bottom-up.
    zx : ndarray, shape (Q, p, G_1)
    zy : ndarray, shape (K, Q, G_1)
    xx : ndarray, shape (p, p, G_L), or RowProducts
        X'WX per top-level unit; W includes the conditional weights of all levels below the top.
    xy : ndarray, shape (K, p, G_L)
    yy : ndarray, shape (K, G_L)
    n_w : ndarray, shape (G_L,)
        Weighted number of rows per top-level unit.
    parents : tuple of ndarray of int
        ``parents[l]`` (G_l,) is the parent unit of each unit, for every level but the top one.
    w : tuple of ndarray
        Conditional weights of the units, ``w[l]`` (G_l,), bottom-up; the last one is the top level's own weight.
    """

    zz: Array
    zx: Array
    zy: Array
    xx: Array | RowProducts
    xy: Array
    yy: Array
    n_w: Array
    parents: tuple[Array, ...]
    w: tuple[Array, ...]

    @cached_property
    def total_xx(self) -> Array:
        """X'WX over the whole sample (p, p)."""
        return self.total_under(self.w[-1])

    def total_under(self, w: Array) -> Array:
        """X'WX over the whole sample (p, p) under weights of the top-level units (G_L,)."""
        found: Array = self.xx.total(w) if isinstance(self.xx, RowProducts) else self.xx @ w
        return found

    @property
    def each_xx(self) -> Array:
        """X'WX of every top-level unit (p, p, G_L), refused where there is no room for it."""
        return self.xx.each() if isinstance(self.xx, RowProducts) else self.xx

    @property
    def wide(self) -> bool:
        """Whether X'WX of single units is not held."""
        return isinstance(self.xx, RowProducts)

    def part_xx(self, units: Any) -> Array:
        """X'WX of some top-level units together (p, p), without their own weights."""
        if not isinstance(self.xx, RowProducts):
            return np.asarray(self.xx[..., units].sum(axis=-1))
        chosen = np.zeros(len(self.w[-1]))
        chosen[units] = 1.0
        return self.xx.total(chosen)

    def xx_squares(self, b: Array) -> Array:
        """Give b'X'WXb of every top-level unit (D, G_L), for b (D, p)."""
        if isinstance(self.xx, RowProducts):
            return np.array([one @ self.xx.times(one) for one in b]).reshape(len(b), -1)
        return np.asarray(np.einsum("dp,pqg,dq->dg", b, self.xx, b, optimize=True))

    def xx_times(self, b: Array) -> Array:
        """X'WX b of every top-level unit (p, G_L)."""
        return self.xx.times(b) if isinstance(self.xx, RowProducts) else np.einsum("abg,b->ag", self.xx, b)

    def xx_traces(self, A: Array) -> Array:
        """tr(A X'WX) of every top-level unit (G_L,), for a symmetric A (p, p)."""
        return self.xx.traces(A) if isinstance(self.xx, RowProducts) else np.einsum("ab,abg->g", A, self.xx)

    def subset(self, kept: Array) -> Blocks:
        """Keep some fixed columns."""
        held, xx = self.xx, np.ix_(kept, kept)
        some = held.subset(kept) if isinstance(held, RowProducts) else np.ascontiguousarray(held[xx])
        return replace(self, zx=self.zx[:, kept], xx=some, xy=self.xy[:, kept])

    def reweighted(self, w: tuple[Array, ...]) -> Blocks:
        """Give the same under other weights of the top-level units."""
        if not isinstance(self.xx, RowProducts):
            return replace(self, w=w)
        return replace(self, w=w, xx=replace(self.xx, w_top=w[-1], whole=self.xx.total(w[-1])))

    @property
    def n_units(self) -> tuple[int, ...]:
        """Number of units at each level, bottom-up."""
        return tuple(len(w) for w in self.w)

    def paths(self) -> list[tuple[Array, Array]]:
        """Give, per level bottom-up, each unit's top-level unit and its weight cumulated to the top, (G_l,) each."""
        out = [(np.arange(len(self.w[-1])), self.w[-1])]
        for parent, w in zip(reversed(self.parents), reversed(self.w[:-1]), strict=True):
            to_top, w_total = out[0]
            out.insert(0, (to_top[parent], w * w_total[parent]))
        return out

    def S0(self, k: int) -> Array:
        """[X, y_k]'W[X, y_k] over the whole sample, shape (p + 1, p + 1)."""
        w = self.w[-1]
        p = self.xy.shape[1]
        S0 = np.empty((p + 1, p + 1))
        S0[:p, :p] = self.total_xx
        S0[:p, p] = S0[p, :p] = self.xy[k] @ w
        S0[p, p] = self.yy[k] @ w
        return S0

    @property
    def n_total(self) -> float:
        """Weighted number of rows."""
        return float(self.n_w @ self.w[-1])


@dataclass(frozen=True)
class Structure:
    """What decides the shape of the graph: everything else is data.

    Parameters
    ----------
    layout : ThetaLayout
    p : int
        Number of fixed columns.
    reml : bool
    """

    layout: ThetaLayout
    p: int
    reml: bool


def build(
    columns: Columns,
    order: Array | None,
    starts: Array,
    w_obs: Array | None,
    parents: tuple[Array, ...],
    w: tuple[Array, ...],
    each: bool = False,
) -> Blocks:
    """Form the cross-products of all lowest units.

    Parameters
    ----------
    columns : Columns
    order : ndarray of int, shape (n,), or None
        Row order that makes lowest units contiguous; None if they already are.
    starts : ndarray of int, shape (G_1 + 1,)
        First row of each lowest unit in that order, and n.
    w_obs : ndarray, shape (n,), or None
        Conditional level-1 weights in the original row order.
    parents, w
        As in `Blocks`.
    each : bool
        Whether products of fixed columns must be held for every top-level unit, however many there are.

    Returns
    -------
    Blocks

    Raises
    ------
    NotSupportedError
        If they would not fit into the memory that is left.
    """
    wide = not each and len(columns.x) ** 2 * len(w[-1]) > WIDE
    _check_room(columns, len(w[0]), 0 if wide else len(w[-1]))
    if wide:
        return _wide(columns, order, starts, w_obs, parents, w)
    sums = Sums.empty(columns, parents, w)
    sums.add(columns, order, starts, None, w_obs)
    return sums.blocks(parents, w)


def _check_room(columns: Columns, lowest: int, top: int) -> None:
    q, p, K = len(columns.z), len(columns.x), len(columns.y)
    cells = lowest * (q * (q + 1) / 2 + q * p + K * q) + top * (p * p + K * p + K + 1)
    check_room(8.0 * cells, p, top or lowest)


def _wide(
    columns: Columns,
    order: Array | None,
    starts: Array,
    w_obs: Array | None,
    parents: tuple[Array, ...],
    w: tuple[Array, ...],
) -> Blocks:
    """Form the cross-products of many fixed columns, which are not held per unit."""
    split, (n, lowest, G) = Split.of(columns, columns.x), (int(starts[-1]), len(w[0]), len(w[-1]))
    found = Sums.empty(bare := _without_x(columns), parents, w)
    found.add(bare, order, starts, None, w_obs)
    unit = np.empty(n, dtype=np.int64)
    unit[slice(None) if order is None else order] = np.repeat(np.arange(lowest), np.diff(starts))
    rows = np.ones(n) if w_obs is None else w_obs
    inner, top = rows * found.inner[unit], found.top[unit]
    zx = [split.summed(rows * columns.standard(int(j)), unit, lowest) for j in columns.z]
    xy = [split.summed(inner * columns.standard(int(j)), top, G) for j in columns.y]
    xx, p = RowProducts.of(split, inner, top, w[-1]), len(columns.x)
    return replace(
        found.blocks(parents, w),
        zx=np.array(zx).reshape(len(zx), p, lowest),
        xx=xx,
        xy=np.array(xy).reshape(len(xy), p, G),
    )


def _without_x(columns: Columns) -> Columns:
    """Leave the fixed columns out."""
    used, place = np.unique(np.concatenate([columns.z, columns.y]), return_inverse=True)
    scaler = Scaler(columns.scaler.shift[used], columns.scaler.scale[used])
    z, y = place[: len(columns.z)], place[len(columns.z) :]
    return Columns([columns.values[j] for j in used], z, np.zeros(0, dtype=int), y, scaler)


@dataclass(frozen=True)
class Sums:
    """Cross-products that are being added up, a run of rows after the other.

    Parameters
    ----------
    zz, zx, zy, xx, xy, yy, n_w : ndarray
        As in `Blocks`.
    top : ndarray of int, shape (G_1,)
        Top-level unit of each lowest unit.
    inner : ndarray, shape (G_1,)
        Product of the conditional weights from each lowest unit to below the top.
    """

    zz: Array
    zx: Array
    zy: Array
    xx: Array
    xy: Array
    yy: Array
    n_w: Array
    top: Array
    inner: Array

    @classmethod
    def empty(cls, columns: Columns, parents: tuple[Array, ...], w: tuple[Array, ...]) -> Sums:
        """Start with zeros; ``w`` are weights of units, as in `Blocks`."""
        return cls.zeros(columns, ancestors(parents, len(w[0])), inner_weight(parents, w), len(w[-1]))

    @classmethod
    def zeros(cls, columns: Columns, top: Array, inner: Array, n_top: int) -> Sums:
        """Start with zeros of lowest units with these `top` and `inner`, of ``n_top`` at the top level."""
        q, p, K, G1, GL = len(columns.z), len(columns.x), len(columns.y), len(top), n_top
        shapes = ((q * (q + 1) // 2, G1), (q, p, G1), (K, q, G1), (p, p, GL), (K, p, GL), (K, GL), (GL,))
        zz, zx, zy, xx, xy, yy, n_w = map(np.zeros, shapes)
        return cls(zz, zx, zy, xx, xy, yy, n_w, top, inner)

    def some(self, units: Array) -> tuple[Array, Array, int]:
        """Say what `zeros` needs of some lowest units, sorted: their top-level units are numbered anew."""
        tops, top = np.unique(self.top[units], return_inverse=True)
        return top, self.inner[units], len(tops)

    def put(self, units: Array, found: Sums) -> None:
        """Add what was added up elsewhere for some lowest units, in `some` of this."""
        tops = np.unique(self.top[units])
        for name in ("zz", "zx", "zy"):
            getattr(self, name)[..., units] += getattr(found, name)
        for name in ("xx", "xy", "yy", "n_w"):
            getattr(self, name)[..., tops] += getattr(found, name)

    def add(
        self, columns: Columns, order: Array | None, starts: Array, units: Array | None, w_obs: Array | None
    ) -> None:
        """Add rows, those of one unit after those of another.

        Parameters
        ----------
        columns, order, starts, w_obs
            As in `build`.
        units : ndarray of int, or None
            Lowest unit, no two the same, of the rows between two starts; None if they are all there are.
        """
        z, x, y, m = columns.z, columns.x, columns.y, len(columns.values)
        rows, cols = np.tril_indices(len(z))
        for first, last in _chunks(starts, max(CELLS_PER_CHUNK // m**2, 1)):
            at: Any = slice(first, last) if units is None else _dense(units[first:last])
            A, sizes, weights = _rows(columns, order, starts[first : last + 1], w_obs)
            C = _products(A, sizes, weights).reshape(last - first, m * m)
            cells = np.ascontiguousarray(C.T)  # (m m, g), whose rows are quickly taken
            self.zz[:, at] += cells[z[rows] * m + z[cols]]
            self.zx[..., at] += cells[z[:, None] * m + x]
            self.zy[..., at] += cells[y[:, None] * m + z]
            inner = self.inner[at]
            if not np.all(inner == 1.0):
                cells *= inner
            tops, counted = self.top[at], _sizes(sizes, weights) * inner
            unique, place = np.unique(tops, return_inverse=True)
            if len(unique) < last - first:
                cells = np.ascontiguousarray(_folded(cells.T, place, len(unique)).T)
                tops, counted = unique, np.bincount(place, counted)
            t = _dense(tops)  # in the order of the units, which need not be theirs
            self.xx[..., t] += cells[x[:, None] * m + x]
            self.xy[..., t] += cells[y[:, None] * m + x]
            self.yy[:, t] += cells[y * m + y]
            self.n_w[t] += counted

    def blocks(self, parents: tuple[Array, ...], w: tuple[Array, ...]) -> Blocks:
        """Give what was added, with the weights of the units."""
        return Blocks(self.zz, self.zx, self.zy, self.xx, self.xy, self.yy, self.n_w, parents, w)


def _products(A: Array, sizes: Array, w: Array | None) -> Array:
    """Cross-products (g, m, m) of units, those of equal size at once."""
    C = np.empty((len(sizes), A.shape[1], A.shape[1]))
    offset = np.cumsum(sizes) - sizes
    for size in np.unique(sizes):
        units = np.flatnonzero(sizes == size)
        index = offset[units, None] + np.arange(size)
        part = A[index]
        weighted = part if w is None else part * w[index][:, :, None]
        C[units] = np.matmul(weighted.transpose(0, 2, 1), part)
    return C


def _dense(places: Array) -> Any:
    """Give places that follow upon each other as a slice, which numpy reads and writes without a copy."""
    last = int(places[0]) + len(places) if len(places) else 0
    return slice(int(places[0]), last) if len(places) and np.all(np.diff(places) == 1) else places


def _folded(C: Array, at: Array, n: int) -> Array:
    """Sum units (g, ...) into the ``n`` places ``at``."""
    out = np.zeros((n, *C.shape[1:]))
    np.add.at(out, at, C)
    return out


def _chunks(starts: Array, most: int) -> list[tuple[int, int]]:
    """Cut the lowest units into runs of about `ROWS_PER_CHUNK` rows and at most ``most`` units."""
    edges = [0]
    while edges[-1] < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[edges[-1]] + ROWS_PER_CHUNK, side="right")) - 1
        edges.append(min(max(last, edges[-1] + 1), edges[-1] + most, len(starts) - 1))
    return list(pairwise(edges))


def _rows(
    columns: Columns, order: Array | None, starts: Array, w_obs: Array | None
) -> tuple[Array, Array, Array | None]:
    """Give the standardised rows (n, m) of the units between ``starts``, the units' sizes, and the rows' weights."""
    rows = slice(starts[0], starts[-1]) if order is None else order[starts[0] : starts[-1]]
    A = np.empty((starts[-1] - starts[0], len(columns.values)))
    for j, values in enumerate(columns.values):
        np.subtract(values[rows], columns.scaler.shift[j], out=A[:, j])
    A /= columns.scaler.scale
    return A, np.diff(starts), None if w_obs is None else w_obs[rows]


def _sizes(sizes: Array, w: Array | None) -> Array:
    """Weighted number of rows of each unit (g,)."""
    return sizes.astype(float) if w is None else np.add.reduceat(w, np.cumsum(sizes) - sizes)
