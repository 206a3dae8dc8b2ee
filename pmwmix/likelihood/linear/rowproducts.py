"""Cross-products of many fixed columns, taken from the rows where they are asked for. Numpy only.

Where p is large, p by p numbers per group would fill the memory: their total is held, what single groups say of
coefficients is found in another pass over the rows. Columns of a factor are read as one column of codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.data.indicator import Indicator
from pmwmix.errors import NotSupportedError
from pmwmix.likelihood.standardise import Columns
from pmwmix.memory import GIB, bytes_left

ROWS = 16_384  # that are worked on at once


@dataclass(frozen=True)
class Split:
    """Standardised columns X = [1, D, I] T: dense ones D, and indicators I of the codes of factors.

    Parameters
    ----------
    columns : Columns
    dense : ndarray of int
        Positions in ``columns.values`` of the columns that are no indicators and not constant.
    codes : list of ndarray of int, each (n,)
    sizes : list of int
        Number of codes of each, 0 included.
    T : ndarray, shape (1 + d + sum of sizes, p)
    """

    columns: Columns
    dense: Array
    codes: list[Array]
    sizes: list[int]
    T: Array

    @classmethod
    def of(cls, columns: Columns, x: Array) -> Split:
        """Split the columns at ``x`` (p,)."""
        given, shift, scale = columns.values, columns.scaler.shift[x], columns.scaler.scale[x]
        values: list[Any] = [given[j] for j in x]
        plain = [not isinstance(v, Indicator) and v.strides != (0,) for v in values]
        coded = [v for v in values if isinstance(v, Indicator)]
        codes = list({id(v.codes): v.codes for v in coded}.values())
        used = [[int(one.max()), *(v.code for v in coded if v.codes is one)] for one in codes]  # no row has some
        sizes = [max(of) + 1 for of in used]
        first = dict(zip(map(id, codes), 1 + sum(plain) + np.cumsum([0, *sizes]), strict=False))
        T = np.zeros((1 + sum(plain) + sum(sizes), len(x)))
        place = np.cumsum(plain)
        for j, value in enumerate(values):
            if plain[j]:
                T[place[j], j] = 1.0
            elif isinstance(value, Indicator):
                T[first[id(value.codes)] + value.code, j], T[0, j] = 1.0 / scale[j], -shift[j] / scale[j]
            else:
                T[0, j] = (float(value[0]) - shift[j]) / scale[j]
        return cls(columns, x[np.array(plain, dtype=bool)], codes, sizes, T)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.columns.values[0])

    def subset(self, kept: Array) -> Split:
        """Keep some columns."""
        return replace(self, T=self.T[:, kept])

    @property
    def edges(self) -> list[int]:
        """Where the rows of T of every factor begin."""
        return [int(one) for one in 1 + len(self.dense) + np.cumsum([0, *self.sizes])[:-1]]

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield places of rows, and [1, D] there (1 + d, rows)."""
        for first in range(0, self.n, ROWS):
            at = slice(first, min(first + ROWS, self.n))
            out = np.ones((1 + len(self.dense), at.stop - first))
            for row, j in zip(out[1:], self.dense, strict=True):
                np.subtract(self.columns.values[j][at], self.columns.scaler.shift[j], out=row)
                row /= self.columns.scaler.scale[j]
            yield at, out

    def times(self, b: Array) -> Array:
        """X b of all rows (n,) for b (p,)."""
        u, out = self.T @ b, np.empty(self.n)
        for at, D in self.blocks():
            out[at] = u[: len(D)] @ D
        for codes, first, size in zip(self.codes, self.edges, self.sizes, strict=True):
            out += u[first : first + size][codes]
        return out

    def summed(self, a: Array, index: Array, G: int) -> Array:
        """X'a by groups (p, G), for a (n,)."""
        ones = np.bincount(index, a, G)
        out = np.zeros((self.T.shape[1], G))
        out += self.T[0][:, None] * ones
        for i, j in enumerate(self.dense):
            of = np.flatnonzero(self.T[1 + i])
            if len(of):
                out[of] += self.T[1 + i, of][:, None] * np.bincount(index, a * self.columns.standard(int(j)), G)
        for codes, first, size in zip(self.codes, self.edges, self.sizes, strict=True):
            cells = np.bincount(index * np.int64(size) + codes, a, G * size).reshape(G, size)
            rows, at = np.nonzero(self.T[first : first + size])
            out[at] += cells[:, rows].T * self.T[first + rows, at][:, None]
        return out

    def total(self, w: Array) -> Array:
        """X'WX (p, p)."""
        m, d = len(self.T), 1 + len(self.dense)
        U = np.zeros((m, m))
        for at, D in self.blocks():
            U[:d, :d] += (D * w[at]) @ D.T
            for codes, first, size in zip(self.codes, self.edges, self.sizes, strict=True):
                for i, row in enumerate(D):
                    U[i, first : first + size] += np.bincount(codes[at], row * w[at], size)
        factors = list(zip(self.codes, self.edges, self.sizes, strict=True))
        for i, (codes, first, size) in enumerate(factors):
            U[range(first, first + size), range(first, first + size)] = np.bincount(codes, w, size)
            for others, place, width in factors[i + 1 :]:
                both = np.bincount(codes * np.int64(width) + others, w, size * width)
                U[first : first + size, place : place + width] = both.reshape(size, width)
        U = np.triu(U) + np.triu(U, 1).T
        return self.T.T @ U @ self.T

    def mapped(self, M: Array) -> Iterator[tuple[slice, Array]]:
        """Yield places of rows, and M x of every row there (m, rows), for M (m, p)."""
        N = self.T @ M.T
        for at, D in self.blocks():
            out = N[: len(D)].T @ D
            for codes, first, size in zip(self.codes, self.edges, self.sizes, strict=True):
                out += N[first : first + size][codes[at]].T
            yield at, out

    def lengths(self, A: Array) -> Array:
        """Give x'Ax of every row (n,), for a symmetric A (p, p)."""
        B, out = self.T @ A @ self.T.T, np.empty(self.n)
        factors = list(zip(self.codes, self.edges, strict=True))
        for at, D in self.blocks():
            d = len(D)
            found = ((B[:d, :d] @ D) * D).sum(axis=0)
            for i, (codes, first) in enumerate(factors):
                here = first + codes[at]
                found += B[here, here] + 2.0 * (B[here, :d].T * D).sum(axis=0)
                for others, place in factors[i + 1 :]:
                    found += 2.0 * B[here, place + others[at]]
            out[at] = found
        return out


@dataclass(frozen=True)
class RowProducts:
    """X'WX per top-level unit, not held.

    Parameters
    ----------
    split : Split
    w : ndarray, shape (n,)
        Weights of the rows with those of all levels below the top.
    top : ndarray of int, shape (n,)
        Top-level unit of every row.
    w_top : ndarray, shape (G_L,)
    whole : ndarray, shape (p, p)
        Total under ``w_top``.
    """

    split: Split
    w: Array
    top: Array
    w_top: Array
    whole: Array

    @classmethod
    def of(cls, split: Split, w: Array, top: Array, w_top: Array) -> RowProducts:
        """Read the rows."""
        return cls(split, w, top, w_top, split.total(w * w_top[top]))

    def subset(self, kept: Array) -> RowProducts:
        """Keep some columns."""
        return replace(self, split=self.split.subset(kept), whole=self.whole[np.ix_(kept, kept)])

    def total(self, w_top: Array) -> Array:
        """Total (p, p) under weights of the top-level units (G_L,)."""
        if w_top is self.w_top or np.array_equal(w_top, self.w_top):
            return self.whole
        return self.split.total(self.w * w_top[self.top])

    def times(self, b: Array) -> Array:
        """X_j'W_jX_j b of every top-level unit (p, G_L)."""
        return self.split.summed(self.w * self.split.times(b), self.top, len(self.w_top))

    def traces(self, A: Array) -> Array:
        """tr(A X_j'W_jX_j) of every top-level unit (G_L,), for a symmetric A."""
        return np.bincount(self.top, self.w * self.split.lengths(A), len(self.w_top))

    def squares(self, M: Array, of_top: Array, n: int) -> Array:
        """Weighted sums of squares of the entries of M x by clusters (m, n), which hold top-level units."""
        index, w, out = of_top[self.top], self.w * self.w_top[self.top], np.zeros((len(M), n))
        for at, found in self.split.mapped(M):
            np.square(found, out=found)
            found *= w[at]
            low, cluster = int(index[at].min()), index[at]
            width = int(cluster.max()) + 1 - low
            for row, values in zip(out, found, strict=True):
                row[low : low + width] += np.bincount(cluster - low, values, width)
        return out

    def each(self) -> Array:
        """X_j'W_jX_j of every top-level unit (p, p, G_L), where there is room for it.

        Raises
        ------
        NotSupportedError
        """
        p, G = len(self.whole), len(self.w_top)
        check_room(8.0 * p * p * G, p, G)
        eye = np.eye(p)
        return np.stack([self.times(row) for row in eye])


def check_room(needed: float, p: int, top: int) -> None:
    """Refuse what would end in an error of numpy's, or of the system's."""
    if needed > (left := bytes_left()):
        raise NotSupportedError(
            f"The cross-products of the fixed columns do not fit into memory. {p:,} fixed columns in each of {top:,} "
            f"groups of the highest level take {needed / GIB:,.1f} GiB where {left / GIB:,.1f} are free. Make the "
            f"factor with the most categories a random term, (1 | f), or merge its categories."
        )
