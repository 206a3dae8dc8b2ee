"""Read the data once: weighted cross-products per unit of standardised columns. Numpy only.

After this nothing depends on the number of rows (theory, eq. 5). What is multiplied with what is the residual
structure's to say (`residuals.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.residuals import INDEPENDENT, Residual, UnitRows
from pmwmix.likelihood.paths import ancestors, inner_weight
from pmwmix.likelihood.standardise import Columns

ROWS_PER_CHUNK = 32_768
CELLS_PER_CHUNK = 4_000_000  # of the cross-products held at once


@dataclass(frozen=True)
class Blocks:
    """What the likelihood needs to know of the data, for one set of predictors and K outcomes.

    Cross-products have a leading axis, one entry for each block of a residual structure, which `at` takes the sum over;
    a structure without parameters is summed when the data are read, and there is no such axis.

    Parameters
    ----------
    zz : ndarray, shape (Q (Q + 1) / 2, G_1)
        Lower triangle, row by row, of Z'WZ per lowest unit; Z holds the random columns of all levels, bottom-up.
    zx : ndarray, shape (Q, p, G_1)
    zy : ndarray, shape (K, Q, G_1)
    xx : ndarray, shape (p, p, G_L)
        X'WX per top-level unit; W includes the conditional weights of all levels below the top.
    xy : ndarray, shape (K, p, G_L)
    yy : ndarray, shape (K, G_L)
    n_w : ndarray, shape (G_L,)
        Weighted number of rows per top-level unit.
    parents : tuple of ndarray of int
        ``parents[l]`` (G_l,) is the parent unit of each unit, for every level but the top one.
    w : tuple of ndarray
        Conditional weights of the units, ``w[l]`` (G_l,), bottom-up; the last one is the top level's own weight.
    counts : ndarray, shape (b, G_L), or None
        What the parts of log det R(rho) are multiplied by; None without a leading axis.
    """

    zz: Array
    zx: Array
    zy: Array
    xx: Array
    xy: Array
    yy: Array
    n_w: Array
    parents: tuple[Array, ...]
    w: tuple[Array, ...]
    counts: Array | None = None

    def at(self, coefficients: Sequence[float]) -> Blocks:
        """Sum the blocks with these coefficients: cross-products of R(rho)⁻¹, without a leading axis."""
        if self.counts is None:
            return self
        c = np.asarray(coefficients, dtype=float)
        zz, zx, zy = (np.tensordot(c, part, 1) for part in (self.zz, self.zx, self.zy))
        xx, xy, yy = (np.tensordot(c, part, 1) for part in (self.xx, self.xy, self.yy))
        return Blocks(zz, zx, zy, xx, xy, yy, self.n_w, self.parents, self.w)

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
        p = self.xx.shape[-2]
        S0 = np.empty((*self.yy.shape[:-2], p + 1, p + 1))
        S0[..., :p, :p] = self.xx @ w
        S0[..., :p, p] = S0[..., p, :p] = self.xy[..., k, :, :] @ w
        S0[..., p, p] = self.yy[..., k, :] @ w
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
    residual : Residual
    """

    layout: ThetaLayout
    p: int
    reml: bool
    residual: Residual = INDEPENDENT

    @property
    def n_rho(self) -> int:
        """Number of parameters of the residual structure."""
        return len(self.residual.parameters)

    @property
    def n_climbed(self) -> int:
        """Number of parameters that are not profiled out: theta, then rho."""
        return self.layout.n_theta + self.n_rho

    @property
    def lead(self) -> tuple[int, ...]:
        """Leading axis of all cross-products: the blocks of a residual structure with parameters."""
        return (self.residual.n_blocks,) if self.n_rho else ()

    def at(self, blocks: Blocks, climbed: Array) -> tuple[Blocks, Array]:
        """Give the cross-products at rho, and theta, of both in one vector (n,)."""
        theta, rho = np.split(climbed, [self.layout.n_theta])
        return blocks.at(self.residual.coefficients(list(rho))), theta


NOTHING: Mapping[str, Array] = MappingProxyType({})


def build(
    columns: Columns,
    order: Array | None,
    starts: Array,
    w_obs: Array | None,
    parents: tuple[Array, ...],
    w: tuple[Array, ...],
    residual: Residual = INDEPENDENT,
    along: Mapping[str, Array] = NOTHING,
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
    residual : Residual
    along : mapping of str to ndarray (n,)
        What it reads of the rows, in the original order.

    Returns
    -------
    Blocks
    """
    z, x, y = columns.z, columns.x, columns.y
    G1, GL, p, K = len(starts) - 1, len(w[-1]), len(x), len(y)
    lead = (residual.n_blocks,) if residual.parameters else ()
    rows, cols = np.tril_indices(len(z))
    zz, zx, zy = np.empty((*lead, len(rows), G1)), np.empty((*lead, len(z), p, G1)), np.empty((*lead, K, len(z), G1))
    xx, xy, yy = np.zeros((*lead, p, p, GL)), np.zeros((*lead, K, p, GL)), np.zeros((*lead, K, GL))
    n_w, counts = np.zeros(GL), np.zeros((*lead, GL))
    top, inner = ancestors(parents, G1), inner_weight(parents, w)
    most = max(CELLS_PER_CHUNK // (residual.n_blocks * len(columns.values) ** 2), 1)
    for first, last in _chunks(starts, most):
        units = slice(first, last)
        here = _rows(columns, order, starts[first : last + 1], w_obs, along)
        C = _products(residual, here)
        zz[..., units] = np.moveaxis(C[..., z[rows], z[cols]], -2, -1)
        zx[..., units] = np.moveaxis(C[..., z[:, None], x], -3, -1)
        zy[..., units] = np.moveaxis(C[..., y[:, None], z], -3, -1)
        C *= inner[units, None, None]
        t, at = np.unique(top[units], return_inverse=True)
        if len(t) < last - first:
            C = _folded(C, at, len(t))
        xx[..., t] += np.moveaxis(C[..., x[:, None], x], -3, -1)
        xy[..., t] += np.moveaxis(C[..., y[:, None], x], -3, -1)
        yy[..., t] += np.moveaxis(C[..., y, y], -2, -1)
        n_w += np.bincount(top[units], _sizes(here) * inner[units], minlength=GL)
        if lead:
            counts += [np.bincount(top[units], n * inner[units], minlength=GL) for n in residual.counts(here)]
    return Blocks(zz, zx, zy, xx, xy, yy, n_w, parents, w, counts if lead else None)


def _products(residual: Residual, rows: UnitRows) -> Array:
    """Cross-products (b, g, m, m) of some units, or their sum (g, m, m) if the structure has no parameters."""
    C = residual.products(rows)
    if residual.parameters:
        return C
    constants = residual.coefficients(())
    return C[0] if list(constants) == [1.0] else np.tensordot(np.asarray(constants), C, 1)


def _folded(C: Array, at: Array, n: int) -> Array:
    """Sum units (..., g, m, m) into the ``n`` places ``at``."""
    out = np.zeros((*C.shape[:-3], n, *C.shape[-2:]))
    np.add.at(np.moveaxis(out, -3, 0), at, np.moveaxis(C, -3, 0))
    return out


def _chunks(starts: Array, most: int) -> list[tuple[int, int]]:
    """Cut the lowest units into runs of about `ROWS_PER_CHUNK` rows and at most ``most`` units."""
    edges = [0]
    while edges[-1] < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[edges[-1]] + ROWS_PER_CHUNK, side="right")) - 1
        edges.append(min(max(last, edges[-1] + 1), edges[-1] + most, len(starts) - 1))
    return list(pairwise(edges))


def _rows(
    columns: Columns, order: Array | None, starts: Array, w_obs: Array | None, along: Mapping[str, Array]
) -> UnitRows:
    """Give the rows of the units between ``starts``."""
    rows = slice(starts[0], starts[-1]) if order is None else order[starts[0] : starts[-1]]
    A = np.empty((starts[-1] - starts[0], len(columns.values)))
    for j, values in enumerate(columns.values):
        np.subtract(values[rows], columns.scaler.shift[j], out=A[:, j])
    A /= columns.scaler.scale
    w = None if w_obs is None else w_obs[rows]
    return UnitRows(A, np.diff(starts), w, {name: values[rows] for name, values in along.items()})


def _sizes(rows: UnitRows) -> Array:
    """Weighted number of rows of each unit (g,)."""
    if rows.w is None:
        return rows.sizes.astype(float)
    return np.add.reduceat(rows.w, np.cumsum(rows.sizes) - rows.sizes)
