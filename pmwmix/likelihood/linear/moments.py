"""One level of groups in numpy at any size: exact derivatives from moments of small matrices.

What a group has to say depends on Ψ alone, through P = (Ψ⁻¹ + C)⁻¹ with C = Z'WZ. Derivatives in the entries of Ψ are
sums over groups of products of a few q by q matrices; theta follows by the chain rule. No derivative is carried along
per group and column, as `direct` does, and nothing is compiled: the same numbers, sooner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.crossed.onethread import with_threads_for
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.direct import DirectNested
from pmwmix.likelihood.linear.recursion import cholesky

CELLS = 400_000  # numbers of right-hand sides handled at once: they stay in the processor's cache


def basis(n: int) -> Array:
    """Symmetric matrices (n (n + 1) / 2, n, n) with ones at an entry and its mirror, in the order of `tril_indices`."""
    rows, columns = np.tril_indices(n)
    out = np.zeros((len(rows), n, n))
    out[range(len(rows)), rows, columns] = out[range(len(rows)), columns, rows] = 1.0
    return out


@dataclass(frozen=True)
class Inner:
    """The small matrices of all groups at one point; groups come last.

    Parameters
    ----------
    log_det : ndarray, shape (G,)
        Of I + Λ'CΛ = LL'.
    half : ndarray, shape (q, q, G)
        L⁻¹Λ', so that P = half'half.
    P, H, K : ndarray, shape (q, q, G)
        (Ψ⁻¹ + C)⁻¹, I - CP and C - CPC.
    """

    log_det: Array
    half: Array
    P: Array
    H: Array
    K: Array

    @classmethod
    def of(cls, C: Array, Lambda: Array) -> Inner:
        """Evaluate them for C (q, q, G) and Λ (q, q)."""
        q = len(Lambda)
        diagonal = range(q), range(q)
        M = (np.kron(Lambda.T, Lambda.T) @ C.reshape(q * q, -1)).reshape(C.shape)
        M[diagonal] += 1.0
        L = cholesky(M)
        half = product(inverse_lower(L), np.broadcast_to(Lambda.T[:, :, None], C.shape))
        P = product(half.swapaxes(0, 1), half)
        H = -product(C, P)
        H[diagonal] += 1.0
        return cls(2.0 * np.log(np.multiply.reduce(L[diagonal], axis=0)), half, P, H, product(H, C))


@dataclass(frozen=True)
class Chain:
    """Entries of matrices, L of them, as functions of the t parameters.

    Parameters
    ----------
    first : ndarray, shape (L, t)
    second : ndarray, shape (L, t, t)
    """

    first: Array
    second: Array

    @classmethod
    def of_Psi(cls, layout: ThetaLayout, theta: Array) -> Chain:
        """Differentiate Ψ = ΛΛ' of the lowest level, entries in the order of `basis`."""
        Lambda, t = layout.unpack(theta)[0], layout.n_theta
        rows, columns = np.tril_indices(len(Lambda))
        D = np.zeros((t, *Lambda.shape))
        for i, j, place in layout.entries[0]:
            D[place, i, j] = 1.0
        along, crossed = D @ Lambda.T, np.einsum("aij,bkj->abik", D, D)
        first = (along + along.swapaxes(-1, -2))[:, rows, columns].T
        return cls(first, np.moveaxis((crossed + crossed.swapaxes(-1, -2))[:, :, rows, columns], -1, 0))

    def gradient(self, by_entry: Array) -> Array:
        """Turn derivatives (L, ...) in the entries into those in the parameters (t, ...)."""
        out: Array = np.tensordot(self.first.T, by_entry, axes=1)
        return out

    def hessian(self, by_entry: Array, by_pair: Array) -> Array:
        """Turn first (L,) and second derivatives (L, L) in the entries into second ones in the parameters (t, t)."""
        out: Array = self.first.T @ by_pair @ self.first + np.tensordot(by_entry, self.second, axes=1)
        return out


class OneLevelMoments(DirectNested):
    """Evaluates what `DirectNested` does, for one level of groups and one outcome at a time.

    Parameters
    ----------
    blocks : Blocks
    layout : ThetaLayout
    reml : bool
    """

    def __init__(self, blocks: Blocks, layout: ThetaLayout, reml: bool) -> None:
        super().__init__(blocks, layout, reml)
        self.E, self.w, self.A = basis(layout.q[0]), blocks.w[0], np.ascontiguousarray(self.C.transpose(1, 2, 0))

    def __call__(self, climbed: Array, k: int) -> dict[str, Any]:
        """Give the outputs of `nested.objective_graph` but the shares of units."""
        out: dict[str, Any] = with_threads_for(0, self._evaluate, np.asarray(climbed, dtype=float), k)
        return out

    def at(self, theta: Array) -> tuple[Chain, Inner]:
        """Evaluate the chain rule and the groups' small matrices."""
        return Chain.of_Psi(self.layout, theta), Inner.of(self.A, self.layout.unpack(theta)[0])

    def _parts(self, rows: int) -> Iterator[slice]:
        """Cut the groups into runs whose right-hand sides, so many, stay in the cache."""
        at_once = max(CELLS // max(rows * len(self.A), 1), 64)
        return (slice(first, first + at_once) for first in range(0, len(self.w), at_once))

    def _evaluate(self, theta: Array, k: int) -> dict[str, Any]:
        (chain, inner), p = self.at(theta), self.blocks.zx.shape[1]
        S = self.blocks.S0(k) - self._lost(inner, k)
        beta = np.linalg.solve(S[:p, :p], S[:p, p])
        s = product(inner.H, self._residuals(beta, k)[:, None])[:, 0]
        along = self._along(inner, s, k)
        D_e = np.einsum("aij,ij->a", self.E, inner.K @ self.w)
        D_ee = -paired(gram(self.w, inner.K, inner.K), self.E)
        Q_ee = 2.0 * paired(gram(self.w, s[:, None] * s, inner.K), self.E)
        out = {
            "D": float(self.w @ inner.log_det),
            "D_t": chain.gradient(D_e),
            "D_tt": chain.hessian(D_e, D_ee),
            "S_xx": S[:p, :p],
            "S_xy": S[:p, p],
            "S_yy": S[p, p],
            "beta": beta,
            "Q_t": chain.gradient(along[:, p] - along[:, :p] @ beta),
            "Q_tt": chain.hessian(along[:, p] - along[:, :p] @ beta, Q_ee),
            "Q_tb": -2.0 * chain.gradient(along[:, :p]),
        }
        return out | (self._restricted(chain, inner, S[:p, :p]) if self.reml else {})

    def _lost(self, inner: Inner, k: int) -> Array:
        """Σ w c'Pc over the groups, c being the products of the random columns with [X, y], (p + 1, p + 1)."""
        root, zx, zy = np.sqrt(self.w), self.blocks.zx, self.blocks.zy[k]
        out = np.zeros((zx.shape[1] + 1,) * 2)
        for part in self._parts(len(out)):
            sides = np.concatenate([zx[:, :, part], zy[:, None, part]], axis=1)
            for B in product(inner.half[..., part] * root[part], sides):
                out += B @ B.T
        return out

    def _residuals(self, beta: Array, k: int) -> Array:
        """Products of the random columns with the residuals (q, G)."""
        out: Array = self.blocks.zy[k] - np.tensordot(self.blocks.zx, beta, axes=(1, 0))
        return out

    def _along(self, inner: Inner, s: Array, k: int) -> Array:
        """Differentiate in the entries [X, y]'V⁻¹r, (L, p + 1), r being the residuals and s = H Z'Wr (q, G)."""
        weighted = s * self.w
        back = np.stack([-product(inner.H.swapaxes(0, 1), _met(E, weighted)[:, None])[:, 0] for E in self.E], axis=1)
        x = sum(a @ zx.T for a, zx in zip(back, self.blocks.zx, strict=True))
        y = np.einsum("kag,kg->a", back, self.blocks.zy[k])
        return np.concatenate([x, y[:, None]], axis=1)

    def _whitened(self, inner: Inner, half: Array) -> Iterator[tuple[slice, Array]]:
        """H Z'WXu for the columns u of ``half`` (p, m), groups part by part, (q, m, g)."""
        for part in self._parts(half.shape[1]):
            sides = np.stack([half.T @ np.ascontiguousarray(zx[:, part]) for zx in self.blocks.zx])
            yield part, product(inner.H[..., part], sides)

    def _restricted(self, chain: Chain, inner: Inner, S_xx: Array) -> dict[str, Any]:
        """Give log det X'V⁻¹X and its derivatives."""
        half, w = root_of_inverse(S_xx), self.w
        L, p = len(self.E), len(S_xx)
        turned, second = np.zeros((L, p, p)), np.zeros((L, L))
        for part, s in self._whitened(inner, half):
            ss = np.einsum("iug,jug->ijg", s, s)
            second += 2.0 * paired(gram(w[part], ss, inner.K[..., part]), self.E)
            turned -= np.tensordot(self.E, gram(w[part], s, s), axes=((1, 2), (0, 2)))
        first = np.trace(turned, axis1=-2, axis2=-1)
        second -= np.einsum("aij,bji->ab", turned, turned)
        value = float(np.linalg.slogdet(S_xx)[1])
        return {"R": value, "R_t": chain.gradient(first), "R_tt": chain.hessian(first, second)}

    def unit_shares(self, climbed: Array, beta: Array, k: int) -> dict[str, Any]:
        """Give the shares of groups, and the slope in what the random columns are multiplied with."""
        (chain, inner), w, r = self.at(climbed), self.w, self._residuals(beta, k)
        s, v = (product(one, r[:, None])[:, 0] for one in (inner.H, inner.P))
        return {
            "D_unit": w * inner.log_det,
            "D_score": w * chain.gradient(np.tensordot(self.E, inner.K, axes=2)),
            "lost_unit": w * (r * v).sum(axis=0),
            "Q_score": -w * chain.gradient(np.einsum("aij,ig,jg->ag", self.E, s, s, optimize=True)),
            "zr_grad": -2.0 * w * v,
        }

    def reml_scores(self, climbed: Array) -> Array:
        """Share of every group in the gradient of log det X'V⁻¹X, (n_theta, G)."""
        chain, inner = self.at(climbed)
        by_entry, half = np.empty((len(self.E), len(self.w))), root_of_inverse(self(climbed, 0)["S_xx"])
        for part, s in self._whitened(inner, half):
            by_entry[:, part] = -np.einsum("aij,iug,jug->ag", self.E, s, s, optimize=True)
        return self.w * chain.gradient(by_entry)

    def contrast_derivative(self, climbed: Array, U: Array) -> Array:
        """Differentiate u'S_xx u with respect to theta for the columns u of ``U`` (p, m), (n_theta, m)."""
        (chain, inner), out = self.at(climbed), np.zeros((len(self.E), U.shape[1]))
        for part, s in self._whitened(inner, U):
            out -= np.einsum("aij,iug,jug,g->au", self.E, s, s, self.w[part], optimize=True)
        return chain.gradient(out)


def product(a: Array, b: Array) -> Array:
    """Multiply small matrices of all units, (i, j, G) and (j, c, G)."""
    out = a[:, 0, None] * b[0]
    for j in range(1, len(b)):
        out += a[:, j, None] * b[j]
    return out


def _met(E: Array, s: Array) -> Array:
    """Multiply a sparse matrix (q, q) of ones and vectors of all units (q, G)."""
    out = np.zeros_like(s)
    for i, j in zip(*np.nonzero(E), strict=True):
        out[i] += s[j]
    return out


def gram(w: Array, a: Array, b: Array) -> Array:
    """Weighted sum over the units of all products of an entry of a (..., G) and one of b (..., G)."""
    found: Array = (a * w).reshape(-1, len(w)) @ b.reshape(-1, len(w)).T
    return found.reshape(*a.shape[:-1], *b.shape[:-1])


def paired(products: Array, E: Array) -> Array:
    """tr(E_a S E_b K) for all pairs of the matrices E (L, q, q), from Σ of products of entries of S and K."""
    rows = E.reshape(len(E), -1)
    out: Array = rows @ products.transpose(0, 2, 3, 1).reshape(rows.shape[1], -1) @ rows.T
    return out


def root_of_inverse(S: Array) -> Array:
    """Columns u (p, p) with Σ uu' the inverse of S."""
    root: Array = np.linalg.inv(np.linalg.cholesky(S)).T
    return root


def inverse_lower(L: Array) -> Array:
    """Invert lower factors (Q, Q, G) of small matrices."""
    out = np.zeros_like(L)
    for j in range(len(L)):
        out[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, len(L)):
            out[i, j] = -(L[i, j:i] * out[j:i, j]).sum(axis=0) / L[i, i]
    return out
