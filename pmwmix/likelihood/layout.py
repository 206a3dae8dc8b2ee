"""Where each covariance parameter stands: theta <-> Lambda, level by level. The only packing code; numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pmwmix._types import Array


@dataclass(frozen=True)
class ThetaLayout:
    """Shape of Λ at every level; one block per random term, lower-triangular, column-major as lme4's theta.

    Parameters
    ----------
    blocks : tuple of tuple of int
        ``blocks[l]`` lists the sizes of the random terms at level l + 2, bottom-up: ``((2,),)`` for (1 + x | g),
        ``((1, 1),)`` for (x || g), ``((1,), (1,))`` for (1 | class) + (1 | school).
    structures : tuple of tuple of str
        The covariance structure of every block, ``"us"`` for none; empty if no block has one. Λ has all its entries
        whatever the structure: `constraint.Constraint` says how they hang together.

    Examples
    --------
    >>> layout = ThetaLayout(((2,),))
    >>> layout.n_theta
    3
    >>> layout.unpack(np.array([0.5, 0.1, 0.2]))[0]
    array([[0.5, 0. ],
           [0.1, 0.2]])
    """

    blocks: tuple[tuple[int, ...], ...]
    structures: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def q(self) -> tuple[int, ...]:
        """Number of random effects per unit at each level, bottom-up."""
        return tuple(sum(sizes) for sizes in self.blocks)

    @cached_property
    def entries(self) -> tuple[tuple[tuple[int, int, int], ...], ...]:
        """Per level, triples (row, column, k): Λ[row, column] = theta[k]."""
        out, k = [], 0
        for sizes in self.blocks:
            level, offset = [], 0
            for size in sizes:
                for j in range(size):
                    for i in range(j, size):
                        level.append((offset + i, offset + j, k))
                        k += 1
                offset += size
            out.append(tuple(level))
        return tuple(out)

    @cached_property
    def n_theta(self) -> int:
        """Number of free covariance parameters, sigma not counted."""
        return sum(len(level) for level in self.entries)

    @cached_property
    def diagonal(self) -> Array:
        """Boolean mask (n_theta,) of the diagonal entries of Λ."""
        return np.array([i == j for level in self.entries for i, j, _ in level], dtype=bool)

    def unpack(self, theta: Array) -> list[Array]:
        """Turn theta (n_theta,) into one Λ (q_l, q_l) per level."""
        out = [np.zeros((q, q)) for q in self.q]
        for Lambda, level in zip(out, self.entries, strict=True):
            for i, j, k in level:
                Lambda[i, j] = theta[k]
        return out

    def pack(self, Lambdas: list[Array]) -> Array:
        """Turn one Λ per level into theta; entries outside the blocks are ignored."""
        theta = np.zeros(self.n_theta)
        for Lambda, level in zip(Lambdas, self.entries, strict=True):
            for i, j, k in level:
                theta[k] = Lambda[i, j]
        return theta

    def start(self, scale: float = 0.5) -> Array:
        """Give a starting value: Λ = scale times identity."""
        return np.where(self.diagonal, scale, 0.0)

    def canonical(self, theta: Array, tol: float = 0.0) -> Array:
        """Rewrite theta with the same ΛΛ' and a nonnegative diagonal.

        A pivot at or below ``tol`` becomes an exact zero with a zero column, so that a singular Λ has one spelling.
        """
        out = []
        for Lambda, sizes in zip(self.unpack(theta), self.blocks, strict=True):
            new, offset = np.zeros_like(Lambda), 0
            for size in sizes:
                part = slice(offset, offset + size)
                new[part, part] = semidefinite_cholesky(Lambda[part, part] @ Lambda[part, part].T, tol)
                offset += size
            out.append(new)
        return self.pack(out)

    def boundary_candidates(self, theta: Array, near: float = 0.5) -> list[Array]:
        """List points with one or all small diagonal entries of Λ at exactly zero, in canonical spelling.

        The first one is theta itself, canonical: the same ΛΛ' in its one spelling.
        """
        canonical = self.canonical(theta, tol=1e-7)  # of sigma: nothing is lost by calling that zero
        small = [k for k in np.flatnonzero(self.diagonal) if 0 < canonical[k] < near]
        out = [canonical]
        for group in [*([k] for k in small), small] if len(small) > 1 else [small] if small else []:
            changed = canonical.copy()
            changed[group] = 0.0
            out.append(self.canonical(changed, tol=0.0))
        return out


def semidefinite_cholesky(Psi: Array, tol: float = 0.0) -> Array:
    """Factor a positive semidefinite matrix as LL' with a nonnegative diagonal; a pivot <= tol gives a zero column."""
    q = len(Psi)
    L = np.zeros_like(Psi)
    for j in range(q):
        pivot = Psi[j, j] - L[j, :j] @ L[j, :j]
        floor = max(tol**2, 1e-14 * abs(Psi[j, j]))
        if pivot <= floor:
            continue
        L[j, j] = np.sqrt(pivot)
        L[j + 1 :, j] = (Psi[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
    return L
