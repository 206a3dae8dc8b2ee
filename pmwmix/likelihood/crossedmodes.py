"""Units of crossed factors, the dense block of their effects, and the joint Hessian in numbers. Numpy only.

The effects of the factor with the most units are eliminated unit by unit; those of the other factors stand in one
vector: factor after factor, random column after random column, unit after unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from pmwmix.errors import NotSupportedError
from pmwmix.likelihood.engine import bucket
from pmwmix.likelihood.layout import ThetaLayout

Array = np.ndarray
MAX_DENSE = 2_000  # effects of all factors but the one with the most units
MAX_CROSS = 40_000_000  # cells between the eliminated effects and the dense block


@dataclass(frozen=True)
class Crossing:
    """Which unit of every factor a row belongs to.

    Parameters
    ----------
    index : tuple of ndarray of int, each (n,)
        Per factor; the first one has the most units.
    n_units : tuple of int
    q : tuple of int
        Random columns per factor.
    part : ndarray of int, shape (n,)
        Independent part of the sample of every row (`crossing.independent_parts`).
    """

    index: tuple[Array, ...]
    n_units: tuple[int, ...]
    q: tuple[int, ...]
    part: Array

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First place of every factor in the dense block, and its length D; the first factor has none."""
        return tuple(
            int(x) for x in np.cumsum([0, *(q * G for q, G in zip(self.q[1:], self.n_units[1:], strict=True))])
        )

    @property
    def n_dense(self) -> int:
        """Length D of the dense block."""
        return self.starts[-1]

    @cached_property
    def place(self) -> Array:
        """Place in the dense block that each random column of a row multiplies (Q_B, n)."""
        out = []
        for index, G, q, start in zip(self.index[1:], self.n_units[1:], self.q[1:], self.starts, strict=False):
            out += [start + c * G + index for c in range(q)]
        return np.array(out)

    def by_factor(self, dense: Array) -> list[Array]:
        """Cut a vector of the dense block into (q_f, G_f) per factor."""
        sizes = zip(self.q[1:], self.n_units[1:], self.starts, strict=False)
        return [dense[start : start + q * G].reshape(q, G) for q, G, start in sizes]

    def check_size(self, names: Sequence[str]) -> None:
        """Refuse what does not fit into memory.

        Raises
        ------
        NotSupportedError
        """
        D, cells = self.n_dense, self.n_units[0] * self.q[0] * self.n_dense
        parts = zip(self.n_units, self.q, names, strict=True)
        shown = ", ".join(f"{name!r} {G}" + (f" x {q}" if q > 1 else "") for G, q, name in parts)
        if D > MAX_DENSE or cells > MAX_CROSS:
            what = f"{D:,} of them would meet in one dense matrix, {MAX_DENSE:,} at most"
            if D <= MAX_DENSE:
                what = f"{cells:,} pairs of them would be held, {MAX_CROSS:,} at most"
            raise NotSupportedError(
                f"There are too many crossed random effects. Groups (and effects per group) are {shown}: all but those "
                f"of the largest factor stand together, and {what}. Keep the factor with the most groups and a smaller "
                f"one, drop random slopes, or use fixed effects for a small factor."
            )


class JointFactor:
    """The joint Hessian M = I + Λ'Z'KZΛ of crossed effects at one point, factored.

    Parameters
    ----------
    crossing : Crossing
    layout : ThetaLayout
    theta : ndarray, shape (n_theta,)
    Z : sequence of ndarray, each (n,)
        Random columns, factor after factor.
    kappa : ndarray, shape (n,)
        Weighted curvature of the rows.
    """

    def __init__(self, crossing: Crossing, layout: ThetaLayout, theta: Array, Z: Sequence[Array], kappa: Array) -> None:
        self.crossing, self.Lambdas = crossing, layout.unpack(theta)
        self.columns = whitened(self.Lambdas, Z)
        q, G, D = crossing.q[0], crossing.n_units[0], crossing.n_dense
        own, others = self.columns[:q], self.columns[q:]
        unit = crossing.index[0]
        M = np.zeros((G, q, q))
        for i in range(q):
            for j in range(i + 1):
                M[:, i, j] = M[:, j, i] = np.bincount(unit, kappa * own[i] * own[j], minlength=G)
        self.own_inverse = np.linalg.inv(M + np.eye(q))
        self.cross = np.empty((q, D, G))
        for i, z in enumerate(own):
            cells = (crossing.place * G + unit).ravel()
            self.cross[i] = np.bincount(cells, (others * (kappa * z)).ravel(), minlength=D * G).reshape(D, G)
        self.solved = np.einsum("gij,jdg->idg", self.own_inverse, self.cross)
        S = np.eye(D)
        for k, z in enumerate(others):
            cells = (crossing.place[k] * D + crossing.place).ravel()
            S += np.bincount(cells, (others * (kappa * z)).ravel(), minlength=D * D).reshape(D, D)
        for C, half in zip(self.cross, self.solved, strict=True):
            S -= C @ half.T
        self.factor = cho_factor(S, lower=True)

    def solve(self, right: Array, right_B: Array) -> tuple[Array, Array]:
        """Compute M⁻¹c for c = ((q, G), (D,))."""
        u_B = cho_solve(self.factor, right_B - np.einsum("idg,ig->d", self.solved, right))
        half = np.einsum("gij,jg->ig", self.own_inverse, right)
        return half - np.einsum("idg,d->ig", self.solved, u_B), u_B

    def covariances(self) -> list[Array]:
        """Blocks of ΛM⁻¹Λ', the conditional covariance of b over sigma², of single units: (G_f, q_f, q_f) each."""
        crossing, L = self.crossing, self.Lambdas
        inverse = cho_solve(self.factor, np.eye(crossing.n_dense))
        q, G = crossing.q[0], crossing.n_units[0]
        lowest = self.own_inverse.copy()
        for i in range(q):
            for j in range(q):
                lowest[:, i, j] += np.einsum("dg,dg->g", self.solved[i], inverse @ self.solved[j])
        out = [np.einsum("ai,gij,bj->gab", L[0], lowest, L[0])]
        for q, G, start, Lambda in zip(crossing.q[1:], crossing.n_units[1:], crossing.starts, L[1:], strict=False):
            at = start + np.arange(q)[None, :] * G + np.arange(G)[:, None]
            block = inverse[at[:, :, None], at[:, None, :]]
            out.append(np.einsum("ai,gij,bj->gab", Lambda, block, Lambda))
        return out


def whitened(Lambdas: Sequence[Array], Z: Sequence[Array]) -> Array:
    """Random columns times Λ, factor after factor (Q, n)."""
    out, first = [], 0
    for Lambda in Lambdas:
        q = len(Lambda)
        out.append(Lambda.T @ np.array(Z[first : first + q]))
        first += q
    return np.concatenate(out)


def bucket_dense(n: int) -> int:
    """Round the length of the dense block up; its cost grows with the cube.

    Examples
    --------
    >>> [bucket_dense(n) for n in (5, 60, 100)]
    [16, 64, 128]
    """
    return bucket(n) if n <= 64 else -(-n // 32) * 32
