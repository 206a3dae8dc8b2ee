"""Units of crossed factors, the dense block of their effects, and the joint Hessian in numbers. Numpy only.

The effects of the factor with the most units are eliminated unit by unit; those of the other factors stand in one
vector: factor after factor, random column after random column, unit after unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csc_matrix, diags

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.interrupt import interruptible
from pmwmix.likelihood.crossed.onethread import with_threads_for
from pmwmix.likelihood.engine import AUTO, DIRECT, bucket
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.memory import GIB, bytes_left

MAX_CROSS = 40_000_000  # cells of the whole block between the eliminated effects and the others
COLUMNS = 4_000_000  # of a matrix with a row per effect of the dense block that is held at a time
LARGE = 1_000  # effects of the dense block from which matrices are formed beside the main thread
PAIR_COST = 100  # time of summing a pair, in multiplications of whole matrices


def in_numpy(layout: ThetaLayout, engine: str) -> bool:
    """Whether to evaluate in numpy whatever the size: one effect per unit and factor, and no other engine asked for."""
    return all(q == 1 for q in layout.q) and engine in (AUTO, DIRECT)


def beside(crossing: Crossing, call: Callable[..., Any], *given: Any) -> Any:
    """Give ``call(*given)``, from another thread where large matrices are formed: an interruption does not wait."""
    n = crossing.n_dense
    away = (interruptible, call) if n > LARGE else (call,)
    return with_threads_for(n, *away, *given)


def pairs_within(counts: Array, first: int = 0) -> tuple[Array, Array]:
    """Pair the cells of each unit, each pair once and the larger first (P,).

    Parameters
    ----------
    counts : ndarray of int, shape (m,)
        Cells of each unit, one unit after the other.
    first : int
        Number of the first cell.
    """
    n = int(counts.sum())
    starts = np.cumsum(counts) - counts
    within = np.arange(n) - np.repeat(starts, counts)
    one = np.repeat(np.arange(n), within + 1)
    before = np.cumsum(within + 1) - within - 1
    return one + first, np.arange(len(one)) + np.repeat(np.repeat(starts, counts) - before + first, within + 1)


@dataclass(frozen=True)
class Cells:
    """Cells in which a unit of the factor with the most units meets an effect of the dense block.

    Parameters
    ----------
    unit, place : ndarray of int, shape (N,)
        Sorted by unit, then by place.
    of : ndarray of int, shape (Q_B, n)
        Cell of every row and random column of the other factors.
    """

    unit: Array
    place: Array
    of: Array

    def pairs(self) -> tuple[Array, Array, Array]:
        """Pairs of cells of the same unit, each once (P,), and 1/2 for a cell with itself, else 1."""
        one, other = pairs_within(np.bincount(self.unit))
        return one, other, np.where(one == other, 0.5, 1.0)


@dataclass(frozen=True)
class Counts:
    """How often the log-likelihoods of independent parts of the sample count.

    Parameters
    ----------
    parts : ndarray, shape (C,)
    rows : ndarray, shape (n,)
    units : ndarray, shape (G,)
        Of the eliminated factor.
    dense : ndarray, shape (D,)
        Effects of the dense block.
    """

    parts: Array
    rows: Array
    units: Array
    dense: Array


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
    part_w : ndarray, shape (C,), optional
        How often the log-likelihood of every part counts (crossed, eq. 19); nothing means once.
    """

    index: tuple[Array, ...]
    n_units: tuple[int, ...]
    q: tuple[int, ...]
    part: Array
    part_w: Array | None = None

    @cached_property
    def counts(self) -> Counts | None:
        """Weights of the parts, in the rows and effects that belong to them."""
        if self.part_w is None:
            return None
        rows, dense = self.part_w[self.part], np.ones(self.n_dense)
        dense[self.place] = rows
        units = np.ones(self.n_units[0])
        units[self.index[0]] = rows
        return Counts(self.part_w, rows, units, dense)

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

    @cached_property
    def cells(self) -> Cells:
        """Which units and effects meet."""
        keys = self.index[0] * self.n_dense + self.place
        found, of = np.unique(keys, return_inverse=True)
        return Cells(found // self.n_dense, found % self.n_dense, of.reshape(keys.shape))

    @cached_property
    def n_pairs(self) -> int:
        """Number of pairs of effects of the dense block that meet in a unit, a pair with itself included."""
        met = np.bincount(self.cells.unit).astype(float)
        return int((met * (met + 1) / 2).sum())

    @property
    def n_cross(self) -> int:
        """Size of the whole block between the eliminated effects and the others."""
        return self.n_units[0] * self.q[0] * self.n_dense

    @property
    def sparse(self) -> bool:
        """Whether that block is better kept cell by cell."""
        return self.n_cross > MAX_CROSS or PAIR_COST * self.n_pairs < self.n_units[0] * self.n_dense**2

    @property
    def n_met(self) -> int:
        """Length of what units and the dense block have in common: pairs of cells, or the whole block."""
        return self.n_pairs if self.sparse else self.n_cross

    def check_size(self, names: Sequence[str], numbers: float) -> None:
        """Refuse what does not fit into memory.

        Parameters
        ----------
        names : sequence of str
            Of the factors.
        numbers : float
            Of 8 bytes, that will be held at once.

        Raises
        ------
        NotSupportedError
        """
        needed, left = 8.0 * numbers / GIB, bytes_left() / GIB
        if needed <= left:
            return
        parts = zip(self.n_units, self.q, names, strict=True)
        shown = ", ".join(f"{name!r} {G:,}" + (f" x {q}" if q > 1 else "") for G, q, name in parts)
        raise NotSupportedError(
            f"There are too many crossed random effects for the memory that is left. Groups (and effects per group) "
            f"are {shown}: the {self.n_dense:,} effects of all but the largest factor meet in dense matrices, which "
            f"would take about {needed:,.1f} GiB where {left:,.1f} are free. Keep the factor with the most groups and "
            f"a smaller one, drop random slopes, use fixed effects for a small factor, or a machine with more memory."
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
    kappa : ndarray, shape (n,) or (D D, n)
        Weighted curvature of the rows, between each pair of their linear predictors.
    predictors : sequence of int, length Q, optional
        Linear predictor of every random column; nothing means that there is one.
    """

    def __init__(
        self,
        crossing: Crossing,
        layout: ThetaLayout,
        theta: Array,
        Z: Sequence[Array],
        kappa: Array,
        predictors: Sequence[int] = (),
    ) -> None:
        self.crossing, self.Lambdas = crossing, layout.unpack(theta)
        self.columns = whitened(self.Lambdas, Z)
        q, G, D = crossing.q[0], crossing.n_units[0], crossing.n_dense
        own, others = self.columns[:q], self.columns[q:]
        unit, of = crossing.index[0], list(predictors) or [0] * len(self.columns)
        n_predictors = isqrt(kappa.size // len(unit))
        K = kappa.reshape(n_predictors, n_predictors, len(unit))

        def with_others(column: int) -> Array:
            """Curvature between a column and each of the dense block (Q_B, n); (n,) where all have one predictor."""
            return K[0, 0] if n_predictors == 1 else K[of[column]][of[q:]]

        M = np.zeros((G, q, q))
        for i in range(q):
            for j in range(i + 1):
                M[:, i, j] = M[:, j, i] = np.bincount(unit, K[of[i], of[j]] * own[i] * own[j], minlength=G)
        self.own_inverse = np.linalg.inv(M + np.eye(q))
        cells = crossing.cells
        at = (cells.place, cells.unit)
        self.cross = []
        for c, z in enumerate(own):
            sums = np.bincount(cells.of.ravel(), (others * (with_others(c) * z)).ravel(), minlength=len(cells.unit))
            self.cross.append(csc_matrix((sums, at), shape=(D, G)))
        self.solved = [
            sum(C @ diags(self.own_inverse[:, i, j]) for j, C in enumerate(self.cross)).tocsc() for i in range(q)
        ]
        S = np.eye(D)
        for k, z in enumerate(others):
            cells = (crossing.place[k] * D + crossing.place).ravel()
            S += np.bincount(cells, (others * (with_others(q + k) * z)).ravel(), minlength=D * D).reshape(D, D)
        for C, half in zip(self.cross, self.solved, strict=True):
            S -= (C @ half.T).toarray()
        self.factor = cho_factor(S, lower=True)

    def solve(self, right: Array, right_B: Array) -> tuple[Array, Array]:
        """Compute M⁻¹c for c = ((q, G), (D,))."""
        gone = sum(C @ column for C, column in zip(self.solved, right, strict=True))
        u_B = cho_solve(self.factor, right_B - gone)
        half = np.einsum("gij,jg->ig", self.own_inverse, right)
        return half - np.array([C.T @ u_B for C in self.solved]), u_B

    def covariances(self) -> list[Array]:
        """Blocks of ΛM⁻¹Λ', the conditional covariance of b over sigma², of single units: (G_f, q_f, q_f) each."""
        crossing, L = self.crossing, self.Lambdas
        inverse = cho_solve(self.factor, np.eye(crossing.n_dense))
        q, G = crossing.q[0], crossing.n_units[0]
        lowest = self.own_inverse.copy()
        step = max(COLUMNS // crossing.n_dense, 1)
        for units in (slice(start, start + step) for start in range(0, G, step)):
            for j in range(q):
                through = inverse @ self.solved[j][:, units].toarray()
                for i in range(q):
                    lowest[units, i, j] += np.asarray(self.solved[i][:, units].multiply(through).sum(axis=0))[0]
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


def padded_cells(crossing: Crossing) -> list[Array]:
    """Units and places of the cells, and their pairs with a share of each, padded; padding has no share."""
    cells, (one, other, share) = crossing.cells, crossing.cells.pairs()
    N, P = bucket(len(cells.unit)), bucket(len(one))
    index = [(cells.unit, N), (cells.place, N), (one, P), (other, P), (share, P)]
    return [np.pad(values, (0, length - len(values))) for values, length in index]


def bucket_dense(n: int) -> int:
    """Round the length of the dense block up; its cost grows with the cube.

    Examples
    --------
    >>> [bucket_dense(n) for n in (5, 60, 100)]
    [16, 64, 128]
    """
    return bucket(n) if n <= 64 else -(-n // 32) * 32
