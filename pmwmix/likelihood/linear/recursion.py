"""The Gaussian recursion in numpy, with an axis of draws: factors of every unit, solved down the tree.

Modes, draws of random effects, leverages and the small-sample variance are all made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pmwmix._types import Array


@dataclass(frozen=True)
class UnitTree:
    """Units of nested levels; the children of a unit stand side by side.

    Parameters
    ----------
    parents : tuple of ndarray of int
        ``parents[l]`` (G_l,) is the parent of each unit, without the top level.
    w : tuple of ndarray
        Conditional weights (G_l,), bottom-up.
    """

    parents: tuple[Array, ...]
    w: tuple[Array, ...]

    @cached_property
    def starts(self) -> tuple[Array, ...]:
        """First child of every unit, per level but the lowest."""
        sizes = [len(w) for w in self.w[1:]]
        return tuple(np.searchsorted(p, np.arange(n)) for p, n in zip(self.parents, sizes, strict=True))

    def lift(self, values: Array, level: int) -> Array:
        """Weighted sum of the units of a level (..., G_l) into their parents."""
        return np.add.reduceat(values * self.w[level], self.starts[level], axis=-1)

    def below(self, level: int) -> UnitTree:
        """Give the levels up to ``level``, which becomes the top."""
        return UnitTree(self.parents[:level], self.w[: level + 1])


@dataclass(frozen=True)
class Factored:
    """One level of the joint precision of the whitened effects, M = RR' per draw and unit.

    Parameters
    ----------
    R : ndarray, shape (q_l, q_l, D, G_l)
    upper : ndarray, shape (q_l, Q_above, D, G_l)
        R⁻¹Λ'C for the random columns of the levels above.
    B : ndarray, shape (q_l, ..., D, G_l)
        R⁻¹Λ'c for the right-hand sides c.
    """

    R: Array
    upper: Array
    B: Array


def factor(tree: UnitTree, Lambdas: Sequence[Array], C: Array, rhs: Array) -> list[Factored]:
    """Factor the joint precision from the lowest level up (theory, eqs. 6-8).

    Parameters
    ----------
    tree : UnitTree
    Lambdas : sequence of ndarray, each (D, q_l, q_l)
        Of D draws, bottom-up.
    C : ndarray, shape (Q, Q, D or 1, G_1)
        Cross-products of the random columns of all levels per lowest unit.
    rhs : ndarray, shape (Q, ..., D, G_1)
        Theirs with the right-hand sides, of which a draw may have many.

    Returns
    -------
    list of Factored
        Bottom-up.
    """
    out = []
    for level, Lambda in enumerate(Lambdas):
        q = Lambda.shape[-1]
        white = np.einsum("dai,amdg->imdg", Lambda, C[:q])
        M = np.einsum("imdg,dmj->ijdg", white[:, :q], Lambda)
        R = cholesky(M + np.eye(q)[:, :, None, None])
        upper = solve_lower(R, white[:, q:])
        B = solve_lower(R, np.einsum("dai,a...dg->i...dg", Lambda, rhs[:q]))
        out.append(Factored(R, upper, B))
        if level < len(Lambdas) - 1:
            C = tree.lift(C[q:, q:] - np.einsum("iadg,ibdg->abdg", upper, upper), level)
            rhs = tree.lift(rhs[q:] - np.einsum("iadg,i...dg->a...dg", upper, B), level)
    return out


def walk_down(
    tree: UnitTree,
    factored: Sequence[Factored],
    Lambdas: Sequence[Array],
    noise: Sequence[Array] | None = None,
    above: Array | None = None,
) -> list[tuple[Array, Array]]:
    """Solve from the top level down, each level given the ones above (theory, eq. 16).

    Parameters
    ----------
    tree, factored, Lambdas
        Of the same levels.
    noise : sequence of ndarray, each (q_l, ..., D, G_l), optional
        Added to the right-hand side of every level: standard normal noise times sigma gives a draw.
    above : ndarray, shape (Q_above, ..., D, G_top), optional
        Effects b of the levels above the topmost one here, for each of its units.

    Returns
    -------
    list of (ndarray (q_l, ..., D, G_l), ndarray (q_l, ..., D, G_l))
        Whitened effects u and b = Λu, bottom-up.
    """
    out: list[tuple[Array, Array]] = []
    if not factored:  # a model without random terms
        return out
    b_above = np.zeros((0, *factored[-1].B.shape[1:])) if above is None else above
    for level in range(len(factored) - 1, -1, -1):
        one = factored[level]
        rest = one.B - np.einsum("iadg,a...dg->i...dg", one.upper, b_above)
        if noise is not None:
            rest = rest + noise[level]
        u = solve_upper(one.R, rest)
        b = np.einsum("dij,j...dg->i...dg", Lambdas[level], u)
        out.insert(0, (u, b))
        if level > 0:
            b_above = np.concatenate([b, b_above])[..., tree.parents[level - 1]]
    return out


def cholesky(M: Array) -> Array:
    """Lower factors of small matrices (q, q, ...), all at once."""
    R = np.zeros_like(M)
    for j in range(len(M)):
        for i in range(j, len(M)):
            rest = M[i, j] - (R[i, :j] * R[j, :j]).sum(axis=0)
            R[i, j] = np.sqrt(rest) if i == j else rest / R[j, j]
    return R


def solve_lower(R: Array, rhs: Array) -> Array:
    """Solve R x = rhs for lower factors (q, q, D, G) and right-hand sides (q, ..., D, G)."""
    x = np.empty(np.broadcast_shapes(rhs.shape, (*rhs.shape[:-2], *R.shape[-2:])))
    for i in range(len(R)):
        x[i] = (rhs[i] - sum(R[i, j] * x[j] for j in range(i))) / R[i, i]
    return x


def solve_upper(R: Array, rhs: Array) -> Array:
    """Solve R'x = rhs for lower factors (q, q, D, G) and right-hand sides (q, ..., D, G); axes of length 1 spread."""
    x = np.empty(np.broadcast_shapes(rhs.shape, (*rhs.shape[:-2], *R.shape[-2:])))
    for i in range(len(R) - 1, -1, -1):
        x[i] = (rhs[i] - sum(R[j, i] * x[j] for j in range(i + 1, len(R)))) / R[i, i]
    return x


def unpack_symmetric(lower: Array, Q: int) -> Array:
    """Lay lower triangles (Q (Q + 1) / 2, G), row by row, out as (Q, Q, G)."""
    rows, cols = np.tril_indices(Q)
    C = np.empty((Q, Q, lower.shape[-1]))
    C[rows, cols] = C[cols, rows] = lower
    return C


def stack_Lambdas(layout: Any, theta: Array) -> list[Array]:
    """Λ of every level, (D, q_l, q_l), of draws of theta (D, n_theta)."""
    out = [np.zeros((len(theta), q, q)) for q in layout.q]
    for Lambda, entries in zip(out, layout.entries, strict=True):
        for i, j, at in entries:
            Lambda[:, i, j] = theta[:, at]
    return out
