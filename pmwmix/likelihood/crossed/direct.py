"""The closed form of crossed random intercepts in numpy, with exact first and second derivatives in theta.

The factor with the most units is eliminated unit by unit; the others meet in one dense block (crossed, eqs. 8-11).
Everything is a function of N = (T + Z'WZ)⁻¹ with T = 1 / theta² for the effects of a factor, and the derivatives of
log det and of the Schur complement in T are traces and products of blocks of N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_matrix

from pmwmix._types import Array
from pmwmix.likelihood.crossed.products import CrossedBlocks
from pmwmix.likelihood.crossed.units import Crossing
from pmwmix.likelihood.jets import Jet, pairs
from pmwmix.likelihood.linear.direct import profiled


@dataclass(frozen=True)
class Inverse:
    """N at one theta: blocks of the eliminated factor (1) and of the dense block (2).

    Parameters
    ----------
    d : ndarray, shape (G,)
        Diagonal of T + Z'WZ of the eliminated factor; infinite where its theta is zero.
    V : csr_matrix, shape (G, D)
        The block between the two divided by ``d``.
    N : ndarray, shape (D, D)
        Of the dense block.
    logdet : float
        log det(I + Lambda'Z'WZ Lambda).
    """

    d: Array
    V: Any
    N: Array
    logdet: float

    def times(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Multiply N with columns (G, m) and (D, m)."""
        part = self.N @ (high - self.V.T @ low)
        return low / self.d[:, None] - self.V @ part, part


class DirectCrossed:
    """Evaluates value and derivatives of a linear model with crossed random intercepts.

    Parameters
    ----------
    products : CrossedBlocks
    crossing : Crossing
    """

    def __init__(self, products: CrossedBlocks, crossing: Crossing) -> None:
        self.products, self.crossing = products, crossing
        sizes = crossing.n_units[1:]
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.n = crossing.n_units
        self.own = products.own[0]
        cells = crossing.cells
        values = products.cross[0] if crossing.sparse else products.cross[0][cells.unit, cells.place]
        self.cross = csr_matrix((values, (cells.unit, cells.place)), shape=(self.n[0], crossing.n_dense))

    def inverse(self, theta: Array) -> Inverse:
        """Form N (crossed, eq. 9). A factor with theta zero has no effects: its rows of N are zero."""
        per_place = np.repeat(theta[1:], self.n[1:])
        with np.errstate(divide="ignore"):
            d = self.own + 1.0 / theta[0] ** 2
        V = self.cross.multiply((1.0 / d)[:, None]).tocsr()
        S = self.products.dense - (self.cross.T @ V).toarray()
        M = per_place[:, None] * S * per_place
        M[np.diag_indices_from(M)] += 1.0
        R, failed = lapack.dpotrf(M, lower=1, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError("The joint curvature of the random effects is not positive definite.")
        logdet = 2.0 * float(np.log(np.diag(R)).sum()) + float(np.log1p(theta[0] ** 2 * self.own).sum())
        K = lapack.dpotri(R, lower=1, overwrite_c=1)[0]
        K = K + K.T
        K[np.diag_indices_from(K)] *= 0.5
        N = per_place[:, None] * K * per_place
        return Inverse(d, V, N, logdet)

    def __call__(self, theta: Array, k: int, S0: Array, reml: bool) -> dict[str, Any]:
        """Give the outputs of `linear.direct.profiled` for outcome ``k``.

        Parameters
        ----------
        theta : ndarray, shape (n_factors,)
        k : int
        S0 : ndarray, shape (p + 1, p + 1)
            [X, y]'W[X, y].
        reml : bool
        """
        found = self.inverse(theta)
        low = np.vstack([self.products.own_x[0], self.products.own_y[k]]).T
        high = np.vstack([self.products.dense_x, self.products.dense_y[k]]).T
        Y = found.times(low, high)
        zero = theta == 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            tau_t = np.where(zero, 0.0, -2.0 / np.abs(theta) ** 3)
            tau_tt = np.where(zero, 0.0, 6.0 / theta**4)
        D = self._determinant(found, theta, tau_t, tau_tt)
        parts = [Y[0], *np.split(Y[1], self.starts[1:-1])]
        a, b = pairs(len(theta))
        squares = np.array([part.T @ part for part in parts])
        through = [self._split(found.times(*self._only(f, parts))) for f in range(len(parts))]
        crossed = [parts[f].T @ through[g][f] for f, g in zip(a, b, strict=True)]
        second = np.array([-(one + one.T) * tau_t[f] * tau_t[g] for one, f, g in zip(crossed, a, b, strict=True)])
        second[a == b] += tau_tt[:, None, None] * squares
        for f in np.flatnonzero(zero).tolist():
            rest = self._residual(f, (low, high), Y)
            second[f * (f + 1) // 2 + f] = 2.0 * -(rest.T @ rest)
        S = Jet(S0 - low.T @ Y[0] - high.T @ Y[1], tau_t[:, None, None] * squares, second)
        return profiled(S, D, reml)

    def _split(self, pair: tuple[Array, Array]) -> list[Array]:
        return [pair[0], *np.split(pair[1], self.starts[1:-1])]

    def _only(self, f: int, parts: list[Array]) -> tuple[Array, Array]:
        """Columns of one factor, zero for all others."""
        kept = [part if g == f else np.zeros_like(part) for g, part in enumerate(parts)]
        return kept[0], np.concatenate(kept[1:])

    def _residual(self, f: int, columns: tuple[Array, Array], Y: tuple[Array, Array]) -> Array:
        """Cross-products of the effects of a factor with what the others leave of the columns, C_f - A_f Y."""
        if f == 0:
            return columns[0] - self.cross @ Y[1]
        here = slice(self.starts[f - 1], self.starts[f])
        return columns[1][here] - self.cross.T[here] @ Y[0] - self.products.dense[here] @ Y[1]

    def _determinant(self, found: Inverse, theta: Array, tau_t: Array, tau_tt: Array) -> Jet:
        N, V, d, n = found.N, found.V, found.d, np.array(self.n, dtype=float)
        W = (V.T @ V).toarray()
        T = W @ N
        blocks = [slice(*edge) for edge in zip(self.starts[:-1], self.starts[1:], strict=True)]
        trace = np.array([(1.0 / d).sum() + np.trace(T), *(np.trace(N[at, at]) for at in blocks)])
        norm = np.zeros((len(n), len(n)))
        W_1 = (V.T @ V.multiply((1.0 / d)[:, None])).toarray()
        norm[0, 0] = (1.0 / d**2).sum() + 2.0 * (N * W_1).sum() + (T * T.T).sum()
        for f, at in enumerate(blocks, start=1):
            norm[0, f] = norm[f, 0] = (N[:, at] * T[:, at]).sum()
            for g, other in enumerate(blocks, start=1):
                norm[f, g] = (N[at, other] ** 2).sum()
        g = trace - n * theta**2
        a, b = pairs(len(n))
        second = (np.diag(n * theta**4) - norm)[a, b] * tau_t[a] * tau_t[b]
        second[a == b] += g * tau_tt
        for f in np.flatnonzero(theta == 0.0).tolist():
            second[f * (f + 1) // 2 + f] = 2.0 * self._left(f, found)
        return Jet(np.full((1, 1), found.logdet), (g * tau_t)[:, None, None], second[:, None, None])

    def _left(self, f: int, found: Inverse) -> float:
        """Trace of what the other factors leave of the cross-products of a factor's effects."""
        if f == 0:
            return float(self.own.sum() - (self.cross @ found.N).ravel() @ self.cross.toarray().ravel())
        here = slice(self.starts[f - 1], self.starts[f])
        low, high = self.cross[:, here].toarray(), self.products.dense[:, here]
        one, other = found.times(low, high)
        return float(np.trace(self.products.dense[here, here]) - (low * one).sum() - (high * other).sum())
