"""Cross-products by pairs of outcomes, and what a residual covariance makes of them. Numpy only.

Rows hold m outcomes with residual covariance σ²R, R with a 1 in its first place. A column of X or Z belongs to one
outcome, so that products under W = R⁻¹ are those of the columns alone times an entry of W (outcomes, eqs. 3-4): the
rows are read once whatever R.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.jets import Jet
from pmwmix.likelihood.linear.crossproducts import Blocks, build
from pmwmix.likelihood.paths import inner_weight
from pmwmix.likelihood.standardise import Columns


@dataclass(frozen=True)
class PairProducts:
    """Cross-products of all columns, whichever outcomes they belong to.

    Parameters
    ----------
    blocks : Blocks
        Of the columns alone; the m outcomes of plausible value k are its outcomes k m to k m + m - 1.
    yy : ndarray, shape (K, m, m, G_L)
        Of the outcomes of one plausible value.
    of_z, of_x : ndarray of int, shape (Q,), (p,)
        Outcome that a random or fixed column belongs to.
    """

    blocks: Blocks
    yy: Array
    of_z: Array
    of_x: Array

    @property
    def m(self) -> int:
        """Number of outcomes of a row."""
        return self.yy.shape[1]

    @property
    def n_rho(self) -> int:
        """Number of parameters of R: its Cholesky factor without the first entry."""
        return self.m * (self.m + 1) // 2 - 1

    @cached_property
    def zz(self) -> Array:
        """Products of the random columns per lowest unit (G_1, Q, Q)."""
        Q = len(self.of_z)
        rows, columns = np.tril_indices(Q)
        out = np.empty((self.blocks.n_units[0], Q, Q))
        out[:, rows, columns] = out[:, columns, rows] = self.blocks.zz.T
        return out

    @cached_property
    def zx(self) -> Array:
        """Those with the fixed columns (G_1, Q, p)."""
        return np.ascontiguousarray(self.blocks.zx.transpose(2, 0, 1))

    def zy(self, k: int) -> Array:
        """Those with the outcomes of plausible value ``k`` (G_1, Q, m)."""
        return self.blocks.zy[k * self.m : (k + 1) * self.m].transpose(2, 1, 0)

    def xy(self, k: int) -> Array:
        """Products of the fixed columns and the outcomes (p, m, G_L)."""
        return self.blocks.xy[k * self.m : (k + 1) * self.m].transpose(1, 0, 2)

    def sides(self, k: int, W: Array) -> Array:
        """Products of the random columns with [X, y] under weights W (..., m, m): (..., G_1, Q, p + 1)."""
        x = self.zx * W[..., None, self.of_z[:, None], self.of_x]
        y = np.einsum("gqb,...qb->...gq", self.zy(k), W[..., self.of_z, :], optimize=True)
        return np.concatenate([x, y[..., None]], axis=-1)

    def own(self, k: int, W: Array) -> Array:
        """Products of [X, y] per top-level unit under W (..., m, m): (..., G_L, p + 1, p + 1)."""
        p = len(self.of_x)
        out = np.empty((*W.shape[:-2], self.yy.shape[-1], p + 1, p + 1))
        out[..., :p, :p] = self.blocks.each_xx.transpose(2, 0, 1) * W[..., None, self.of_x[:, None], self.of_x]
        out[..., :p, p] = np.einsum("pbg,...pb->...gp", self.xy(k), W[..., self.of_x, :], optimize=True)
        out[..., p, :p] = out[..., :p, p]
        out[..., p, p] = np.einsum("abg,...ab->...g", self.yy[k], W, optimize=True)
        return out

    def total(self, k: int) -> tuple[Array, Array, Array]:
        """Sum X'X (p, p), X'y (p, m) and y'y (m, m) over the sample."""
        w = self.blocks.w[-1]
        return self.blocks.total_xx, self.xy(k) @ w, self.yy[k] @ w

    def under(self, W: Array, k: int) -> Blocks:
        """Give the cross-products of one plausible value of stacked outcomes under W (m, m)."""
        blocks, p = self.blocks, len(self.of_x)
        rows, columns = np.tril_indices(len(self.of_z))
        sides, own = self.sides(k, W), self.own(k, W)
        return replace(
            blocks,
            zz=blocks.zz * W[self.of_z[rows], self.of_z[columns]][:, None],
            zx=sides[..., :p].transpose(1, 2, 0),
            zy=sides[..., p].T[None],
            xx=own[:, :p, :p].transpose(1, 2, 0),
            xy=own[:, :p, p].T[None],
            yy=own[:, p, p][None],
            n_w=blocks.n_w * self.m,
        )

    def apart(self) -> Blocks:
        """Give those of outcomes without residual correlation and of one variance, of all plausible values."""
        each = [self.under(np.eye(self.m), k) for k in range(len(self.yy))]
        zy, xy, yy = (np.concatenate([getattr(one, name) for one in each]) for name in ("zy", "xy", "yy"))
        return replace(each[0], zy=zy, xy=xy, yy=yy)

    def subset(self, kept: Array) -> PairProducts:
        """Keep some fixed columns."""
        blocks = self.blocks
        blocks = blocks.subset(kept)
        return replace(self, blocks=blocks, of_x=self.of_x[kept])

    def factor(self, rho: Array) -> Jet:
        """Cholesky factor of R (m, m) at its parameters, columns first, diagonal entries as logarithms."""
        L = Jet.constant(np.eye(self.m), self.n_rho)
        for number, (i, j) in enumerate(self.places):
            value = float(rho[number]) if i != j else float(np.exp(rho[number]))
            L.value[i, j], L.first[number, i, j] = value, 1.0 if i != j else value
            if i == j:
                L.second[number * (number + 3) // 2, i, j] = value
        return L

    @property
    def places(self) -> list[tuple[int, int]]:
        """Entries of the factor that are parameters, columns first."""
        return [(i, j) for j in range(self.m) for i in range(j, self.m)][1:]

    def rho(self, R: Array) -> Array:
        """Parameters of a covariance matrix (m, m), whatever its scale."""
        L = np.linalg.cholesky(R / R[0, 0])
        return np.array([L[i, j] if i != j else np.log(L[i, j]) for i, j in self.places])


def pair_products(
    columns: Columns,
    of: tuple[Array, Array],
    m: int,
    order: Array | None,
    starts: Array,
    w_obs: Array | None,
    parents: tuple[Array, ...],
    w: tuple[Array, ...],
) -> PairProducts:
    """Read the rows once.

    Parameters
    ----------
    columns : Columns
        Outcomes of one plausible value stand beside each other.
    of : (ndarray of int (Q,), ndarray of int (p,))
        Outcomes of the random and of the fixed columns.
    m : int
        Outcomes of a row.
    order, starts, w_obs, parents, w
        As in `crossproducts.build`.
    """
    blocks = build(columns, order, starts, w_obs, parents, w, each=True)
    K, inner, top = len(columns.y) // m, inner_weight(parents, w), blocks.paths()[0][0]
    at: Any = slice(None) if order is None else order
    weights = 1.0 if w_obs is None else w_obs[at]
    yy = np.empty((K, m, m, len(w[-1])))
    for k in range(K):
        y = [columns.standard(int(j))[at] for j in columns.y[k * m : (k + 1) * m]]
        for a in range(m):
            yy[k, a, a] = blocks.yy[k * m + a]
            for b in range(a):
                units = np.add.reduceat(y[a] * y[b] * weights, starts[:-1]) * inner
                yy[k, a, b] = yy[k, b, a] = np.bincount(top, units, minlength=len(w[-1]))
    return PairProducts(blocks, yy, *of)
