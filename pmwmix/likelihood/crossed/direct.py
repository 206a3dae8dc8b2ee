"""The closed form of crossed random intercepts in numpy, with exact first and second derivatives in theta.

The factor with the most units is eliminated unit by unit; the others meet in one dense block (crossed, eqs. 8-11).
Everything is a function of N = (T + Z'WZ)⁻¹ with T = 1 / theta² for the effects of a factor, and the derivatives of
log det and of the Schur complement in T are traces and products of blocks of N. A value needs a Cholesky factor, a
gradient also an inverse, a Hessian also a product of matrices: each is formed when it is asked for.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_array

from pmwmix._types import Array
from pmwmix.likelihood.crossed.gram import gram_of
from pmwmix.likelihood.crossed.inverse import scaled_inverse
from pmwmix.likelihood.crossed.products import CrossedBlocks
from pmwmix.likelihood.crossed.units import Crossing, beside
from pmwmix.likelihood.jets import Jet, pairs
from pmwmix.likelihood.linear.direct import profiled


class DirectCrossed:
    """The cross-products of a linear model with crossed random intercepts, laid out for `Inverse`.

    Parameters
    ----------
    products : CrossedBlocks
    crossing : Crossing
    """

    def __init__(self, products: CrossedBlocks, crossing: Crossing) -> None:
        self.products, self.crossing = products, crossing
        self.n, self.own = crossing.n_units, products.own[0]
        self.starts = np.concatenate([[0], np.cumsum(crossing.n_units[1:])])
        self.blocks = [slice(*edge) for edge in zip(self.starts[:-1], self.starts[1:], strict=True)]
        cells = crossing.cells
        values = products.cross[0] if crossing.sparse else products.cross[0][cells.unit, cells.place]
        self.cross = csr_array((values, (cells.unit, cells.place)), shape=(self.n[0], crossing.n_dense))
        self.gram = gram_of(crossing, products.cross[0])
        self.lower = np.tril(products.dense)
        self._last: tuple[bytes, Inverse] | None = None

    def inverse(self, theta: Array) -> Inverse:
        """Give N at theta (n_factors,); the last one is remembered."""
        key = theta.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = None  # its memory serves the next one
            self._last = key, Inverse(self, theta)
        return self._last[1]

    def forget(self) -> None:
        """Let go of the last N."""
        self._last = None

    def outputs(self, theta: Array, k: int, S0: Array, reml: bool, order: int = 2) -> dict[str, Any]:
        """Give the outputs of `linear.direct.profiled` for outcome ``k``.

        Parameters
        ----------
        theta : ndarray, shape (n_factors,)
        k : int
        S0 : ndarray, shape (p + 1, p + 1)
            [X, y]'W[X, y].
        reml : bool
        order : int
            0 for what the value needs, 1 for gradients as well, 2 for all; further derivatives are zero.
        """
        found: dict[str, Any] = beside(self.crossing, self._outputs, theta, k, S0, reml, order)
        return found

    def _outputs(self, theta: Array, k: int, S0: Array, reml: bool, order: int) -> dict[str, Any]:
        found, t = self.inverse(theta), len(theta)
        low = np.vstack([self.products.own_x[0], self.products.own_y[k]]).T
        high = np.vstack([self.products.dense_x, self.products.dense_y[k]]).T
        Y = found.times(low, high)
        S = Jet.constant(S0 - low.T @ Y[0] - high.T @ Y[1], t)
        D = Jet.constant(np.full((1, 1), found.logdet), t)
        if order > 0:
            S.first[...] = found.slopes[:, None, None] * [part.T @ part for part in self.split(Y)]
            D.first[:, 0, 0] = found.logdet_slopes
        if order > 1:
            S.second[...] = self._curvature(found, (low, high), Y)
            D.second[:, 0, 0] = found.logdet_curvature
        return profiled(S, D, reml)

    def split(self, pair: tuple[Array, Array]) -> list[Array]:
        """Cut effects (G, m) and (D, m) into those of each factor."""
        return [pair[0], *np.split(pair[1], self.starts[1:-1])]

    def _curvature(self, found: Inverse, columns: tuple[Array, Array], Y: tuple[Array, Array]) -> Array:
        """Second derivatives of the Schur complement over [X, y], (m, p + 1, p + 1)."""
        parts, slopes = self.split(Y), found.slopes
        through = [self.split(found.times(*self._only(f, parts))) for f in range(len(parts))]
        a, b = pairs(len(parts))
        out = np.empty((len(a), parts[0].shape[1], parts[0].shape[1]))
        for place, (f, g) in enumerate(zip(a, b, strict=True)):
            one = parts[f].T @ through[g][f]
            out[place] = -(one + one.T) * slopes[f] * slopes[g]
            if f == g and found.zero[f]:
                rest = self._residual(f, columns, Y)
                out[place] = -2.0 * (rest.T @ rest)
            elif f == g:
                out[place] += found.bends[f] * (parts[f].T @ parts[f])
        return out

    def _only(self, f: int, parts: list[Array]) -> tuple[Array, Array]:
        """Columns of one factor, zero for all others."""
        kept = [part if g == f else np.zeros_like(part) for g, part in enumerate(parts)]
        return kept[0], np.concatenate(kept[1:])

    def _residual(self, f: int, columns: tuple[Array, Array], Y: tuple[Array, Array]) -> Array:
        """Cross-products of the effects of a factor with what the others leave of the columns, C_f - A_f Y."""
        if f == 0:
            return columns[0] - self.cross @ Y[1]
        here = self.blocks[f - 1]
        return columns[1][here] - self.cross.T[here] @ Y[0] - self.products.dense[here] @ Y[1]


class Inverse:
    """N at one theta: of the eliminated factor (1) and of the dense block (2). A factor with theta zero has no effects.

    Parameters
    ----------
    model : DirectCrossed
    theta : ndarray, shape (n_factors,)

    Attributes
    ----------
    shrunk : ndarray, shape (G,)
        1 / (T + Z'WZ) of the eliminated factor.
    slopes, bends : ndarray, shape (n_factors,)
        First and second derivative of T = 1 / theta²; zero where theta is.
    logdet : float
        log det(I + Lambda'Z'WZ Lambda).
    """

    def __init__(self, model: DirectCrossed, theta: Array) -> None:
        self.model, self.theta, self.zero = model, theta, theta == 0.0
        with np.errstate(divide="ignore"):
            self.slopes = np.where(self.zero, 0.0, -2.0 / np.abs(theta) ** 3)
            self.bends = np.where(self.zero, 0.0, 6.0 / theta**4)
        grown = 1.0 + theta[0] ** 2 * model.own
        self.shrunk = theta[0] ** 2 / grown
        self.scale = np.repeat(theta[1:], model.n[1:])
        M = self.schur()
        M *= self.scale
        M *= self.scale[:, None]
        M[np.diag_indices_from(M)] += 1.0
        self.factor, failed = lapack.dpotrf(M.T, lower=0, clean=0, overwrite_a=1)  # LAPACK reads columns: no copy
        if failed:
            raise np.linalg.LinAlgError("The joint curvature of the random effects is not positive definite.")
        self.logdet = 2.0 * float(np.log(np.diag(self.factor)).sum()) + float(np.log(grown).sum())

    def schur(self) -> Array:
        """Schur complement of the dense block in Z'WZ + T, its own T left out: (D, D), zero above the diagonal."""
        out = self.model.gram.sum(self.shrunk)
        return np.subtract(self.model.lower, out, out=out)

    def times(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Multiply N with columns (G, m) and (D, m)."""
        half = self.shrunk[:, None] * low
        right = self.scale[:, None] * (high - self.model.cross.T @ half)
        part = self.scale[:, None] * lapack.dpotrs(self.factor, right, lower=0)[0]
        return half - self.shrunk[:, None] * (self.model.cross @ part), part

    @cached_property
    def N(self) -> Array:
        """Block of the dense effects (D, D)."""
        return scaled_inverse(self.factor, self.scale)

    @cached_property
    def along(self) -> Array:
        """Products c'Nc of every eliminated unit (G,), c being its cross-products with the dense block."""
        return self.model.gram.along(self.N)

    @cached_property
    def excess(self) -> Array:
        """Trace of the block of N of each factor, less that without data (n_factors,)."""
        diagonal, first = np.diag(self.N), self.shrunk.sum() + self.shrunk**2 @ self.along
        trace = np.array([first, *(diagonal[at].sum() for at in self.model.blocks)])
        return trace - np.array(self.model.n) * self.theta**2

    @property
    def logdet_slopes(self) -> Array:
        """First derivatives of ``logdet`` in theta (n_factors,)."""
        return self.excess * self.slopes

    @cached_property
    def logdet_curvature(self) -> Array:
        """Second derivatives of ``logdet`` in theta (m,)."""
        N, n, blocks = self.N, np.array(self.model.n, dtype=float), self.model.blocks
        V = self.model.gram.sum(self.shrunk**2)
        V += np.tril(V, -1).T
        T = V @ N
        norm = np.zeros((len(n), len(n)))
        norm[0, 0] = (self.shrunk**2).sum() + 2.0 * (self.shrunk**3 @ self.along) + np.einsum("ab,ba->", T, T)
        for f, at in enumerate(blocks, start=1):
            norm[0, f] = norm[f, 0] = np.einsum("ab,ab->", N[:, at], T[:, at])
            for g, other in enumerate(blocks[:f], start=1):
                norm[f, g] = norm[g, f] = np.einsum("ab,ab->", N[at, other], N[at, other])
        a, b = pairs(len(n))
        second = (np.diag(n * self.theta**4) - norm)[a, b] * self.slopes[a] * self.slopes[b]
        second[a == b] += self.excess * self.bends
        for f in np.flatnonzero(self.zero).tolist():
            second[f * (f + 1) // 2 + f] = 2.0 * self._left(f)
        return second

    def _left(self, f: int) -> float:
        """Trace of what the other factors leave of the cross-products of a factor's effects."""
        if f == 0:
            return float(self.model.own.sum() - self.along.sum())
        at, S = self.model.blocks[f - 1], self.schur()
        S += np.tril(S, -1).T
        return float(np.trace(S[at, at]) - np.einsum("ab,ab->", self.N @ S[:, at], S[:, at]))
