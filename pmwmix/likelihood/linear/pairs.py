"""Pairs of rows that share a unit: sums over them, with random intercepts without listing a single pair. Numpy only.

What a pair adds to minus twice the log-likelihood depends on the covariance matrix of its two rows (pairwise, eq. 2).
With random intercepts alone that is the same for all pairs that share the same units, and sums over those pairs follow
from sums over the units (`Kinds`). With random slopes it is another one for every pair (`Listed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.memory import GIB, bytes_left

NUMBERS_PER_PAIR = 40.0  # of 8 bytes, held at once, and some more per covariance parameter


@dataclass(frozen=True)
class Units:
    """Which units every row belongs to, and the conditional weights.

    Parameters
    ----------
    index : tuple of ndarray of int, each (n,)
        Unit of each row, per level or crossed factor.
    w_row : ndarray, shape (n,)
    w : tuple of ndarray, each (G_f,)
        Weights of the units given those above; of crossed factors their own.
    """

    index: tuple[Array, ...]
    w_row: Array
    w: tuple[Array, ...]

    def sampled(self, alone: Sequence[int]) -> Array:
        """Weight of a row times those of its units of some factors (n,): what a partner has of its own."""
        out = self.w_row
        for f in alone:
            out = out * self.w[f][self.index[f]]
        return out

    def cells(self, factors: Sequence[int]) -> Array:
        """Code the combinations of units of some factors (n,)."""
        code = np.zeros(len(self.w_row), dtype=np.int64)
        for f in factors:
            code = np.unique(code * len(self.w[f]) + self.index[f], return_inverse=True)[1]
        return code


@dataclass(frozen=True)
class Kind:
    """All pairs that share the units of these factors and of no other.

    Parameters
    ----------
    shared, alone : tuple of int
    over : list of (int, ndarray of int (n,), or None)
        Sums over which cells, and with what sign, make a sum over the partners of a row; None is the row itself.
    """

    shared: tuple[int, ...]
    alone: tuple[int, ...]
    over: list[tuple[int, Array | None]]

    def partners(self, units: Units, columns: Array, counted: bool = False) -> Array:
        """Weighted sum of columns (m, n) over the partners of every row (m, n); ``counted`` leaves weights out."""
        n = columns.shape[1]
        own = np.ones(n) if counted else units.sampled(self.alone)
        whole = own if counted else own * np.prod([units.w[f][units.index[f]] for f in self.shared], axis=0)
        out = np.zeros(columns.shape)
        for sign, cells in self.over:
            for row, values in zip(out, columns * own, strict=True):
                row += sign * (values if cells is None else np.bincount(cells, values)[cells])
        return out * whole


def kinds_of(units: Units) -> list[Kind]:
    """Find the sets of factors that two rows may share, and how to sum over them by inclusion and exclusion."""
    factors = range(len(units.index))
    sets = [set(one) for size in reversed(range(1, len(factors) + 1)) for one in combinations(factors, size)]
    cells = {frozenset(one): units.cells(sorted(one)) for one in sets}
    closed = [one for one in map(frozenset, sets) if one == _closure(units, one, cells[one])]
    signs: dict[frozenset[int], dict[Any, int]] = {}
    out = []
    for one in closed:  # the larger sets first
        sign: dict[Any, int] = {one: 1, None: -1}  # a row is no partner of itself
        for larger, of_larger in signs.items():
            if larger > one:
                for key, value in of_larger.items():
                    sign[key] = sign.get(key, 0) - value
        signs[one] = sign
        over = [(value, None if key is None else cells[key]) for key, value in sign.items() if value]
        found = Kind(tuple(sorted(one)), tuple(f for f in factors if f not in one), over)
        if found.partners(units, np.ones((1, len(units.w_row))), counted=True).max() > 0.5:
            out.append(found)
    return out


def _closure(units: Units, shared: frozenset[int], cells: Array) -> frozenset[int]:
    """Add the factors that rows of a cell always share too: the levels above."""
    more = set(shared)
    for f, index in enumerate(units.index):
        first = np.zeros(int(cells.max()) + 1, dtype=np.int64)
        first[cells[::-1]] = index[::-1]
        if (first[cells] == index).all():
            more.add(f)
    return frozenset(more)


class Kinds:
    """Sums over pairs of a model with random intercepts alone (pairwise, eqs. 5-7).

    Parameters
    ----------
    units : Units
    layout : ThetaLayout
        Of one intercept per factor.
    columns : ndarray, shape (m, n)
        Fixed columns and outcomes, standardised.
    """

    def __init__(self, units: Units, layout: ThetaLayout, columns: Array) -> None:
        self.units, self.layout, self.kinds = units, layout, kinds_of(units)
        found = [self._sums(kind, columns) for kind in self.kinds]
        self.n_pairs = sum(one[0] for one in found)
        self.total = sum(one[1] for one in found)
        self.N = np.repeat([one[1] for one in found], 2)
        self.S = np.array([part for one in found for part in one[2]]).reshape(-1, len(columns), len(columns))
        shares = [np.array([f in kind.shared for f in range(len(units.index))], float) for kind in self.kinds]
        self.B = np.array([row for share in shares for row in (1.0 + share, 1.0 - share)]).reshape(-1, len(units.index))
        self.scale = 1.0

    def _sums(self, kind: Kind, columns: Array) -> tuple[float, float, list[Array]]:
        """Count and weigh the pairs, and give S of their halved sums and differences (pairwise, eq. 6)."""
        one = np.ones((1, columns.shape[1]))
        count = kind.partners(self.units, one, counted=True).sum() / 2.0
        weight = kind.partners(self.units, one)[0]
        own, across = (columns * weight) @ columns.T, columns @ kind.partners(self.units, columns).T
        return count, weight.sum() / 2.0, [0.5 * (own + across), 0.5 * (own - across)]

    def scaled(self, scale: float) -> Kinds:
        """Divide all weights of pairs."""
        self.scale, self.total, self.N, self.S = scale, self.total / scale, self.N / scale, self.S / scale
        return self

    def __call__(self, theta: Array, at: Array) -> dict[str, Any]:
        """Give minus twice the log-likelihood but for sigma, profiled over beta; ``at`` are [X, y]."""
        psi, S = theta**2, self.S[:, at[:, None], at]
        lam = 1.0 + self.B @ psi
        out = _solved(np.einsum("s,sab->ab", 1.0 / lam, S))
        r = np.append(-out["beta"], 1.0)
        q, first = np.einsum("a,sab,b->s", r, S, r), self.B / lam[:, None]
        gradient = {"D": first.T @ self.N, "Q": -first.T @ (q / lam)}
        curvature = {"D": -(first.T * self.N) @ first, "Q": 2.0 * (first.T * (q / lam)) @ first}
        jacobian = np.diag(2.0 * theta)
        by_beta = 2.0 * np.einsum("sm,sa->ma", first / lam[:, None], (S @ r)[:, :-1])
        out |= {"D": float(self.N @ np.log(lam)), "Q_tb": jacobian.T @ by_beta}
        for name in ("D", "Q"):
            out[f"{name}_t"] = jacobian.T @ gradient[name]
            out[f"{name}_tt"] = jacobian.T @ curvature[name] @ jacobian + np.diag(2.0 * gradient[name])
        return out

    def rows(self, theta: Array, r: Array) -> dict[str, Array]:
        """Give what every row has of the sums, each pair's being halved: V⁻¹r, N, Q (n,) and D_t, Q_t (t, n)."""
        psi, n = theta**2, len(r)
        out = {"e": np.zeros(n), "N": np.zeros(n), "Q": np.zeros(n)}
        out |= {"D_t": np.zeros((len(psi), n)), "Q_t": np.zeros((len(psi), n))}
        for kind in self.kinds:
            share = np.array([f in kind.shared for f in range(len(psi))], float)
            weight, partner = kind.partners(self.units, np.array([np.ones(n), r])) / self.scale
            out["N"] += 0.5 * weight
            for sign in (1.0, -1.0):
                b = 1.0 + sign * share
                lam, half = 1.0 + b @ psi, 0.5 * (weight * r + sign * partner)
                out["e"] += half / lam
                out["Q"] += r * half / lam
                out["D_t"] += np.outer(2.0 * theta * b, 0.5 * weight / lam)
                out["Q_t"] -= np.outer(2.0 * theta * b, r * half / lam**2)
        return out

    def applied(self, theta: Array, columns: Array) -> Array:
        """Multiply columns (m, n) with the sum of the inverse covariance matrices of all pairs (m, n)."""
        psi, out = theta**2, np.zeros(columns.shape)
        for kind in self.kinds:
            share = np.array([f in kind.shared for f in range(len(psi))], float)
            found = kind.partners(self.units, np.vstack([np.ones(columns.shape[1]), columns])) / self.scale
            for sign in (1.0, -1.0):
                out += 0.5 * (found[0] * columns + sign * found[1:]) / (1.0 + (1.0 + sign * share) @ psi)
        return out


def _solved(S: Array) -> dict[str, Any]:
    """Solve the normal equations of the cross-products of [X, y] (p + 1, p + 1)."""
    p = len(S) - 1
    return {"S_xx": S[:p, :p], "S_xy": S[:p, p], "S_yy": S[p, p], "beta": np.linalg.solve(S[:p, :p], S[:p, p])}


class Listed:
    """Sums over a list of pairs, for random effects of any kind (pairwise, eqs. 2-4).

    Parameters
    ----------
    units : Units
    layout : ThetaLayout
    columns : ndarray, shape (m, n)
    Z : list of ndarray, each (q_f, n)
        Random columns per factor, standardised.
    """

    def __init__(self, units: Units, layout: ThetaLayout, columns: Array, Z: Sequence[Array]) -> None:
        self.units, self.layout, self.columns = units, layout, columns
        self.i, self.j = listed_pairs(units.index, layout)
        self.n_pairs, self.w = float(len(self.i)), np.ones(len(self.i))
        both = units.w_row[self.i] * units.w_row[self.j]
        self.row, self.pair = [], []
        for index, w, z in zip(units.index, units.w, Z, strict=True):
            same = index[self.i] == index[self.j]
            both *= w[index[self.i]] * np.where(same, 1.0, w[index[self.j]])
            for a, b in _entries(len(z)):
                factor = 1.0 if a == b else 2.0
                self.row.append(factor * z[a] * z[b])
                mixed = z[a][self.i] * z[b][self.j] + z[b][self.i] * z[a][self.j]
                self.pair.append(0.5 * factor * same * mixed)
        self.w, self.total = both, float(both.sum())

    def scaled(self, scale: float) -> Listed:
        """Divide all weights of pairs."""
        self.w, self.total = self.w / scale, self.total / scale
        return self

    @cached_property
    def _slopes(self) -> Array:
        """Derivatives of the covariance matrices in the entries of Psi (3, m, P): of both variances, covariance."""
        rows = np.array(self.row)
        return np.array([rows[:, self.i], rows[:, self.j], np.array(self.pair)])

    def _inverse(self, psi: Array) -> tuple[Array, Array]:
        """Invert the covariance matrix of every pair (3, P), and give its log-determinant (P,)."""
        a, b, c = np.einsum("m,kmp->kp", psi, self._slopes)
        a, b = a + 1.0, b + 1.0
        det = a * b - c * c
        return np.array([b, a, -c]) / det, np.log(det)

    def __call__(self, theta: Array, at: Array) -> dict[str, Any]:
        """Give minus twice the log-likelihood but for sigma, profiled over beta; ``at`` are [X, y]."""
        psi, J, bend = entries_of(self.layout, theta)
        V, log_det = self._inverse(psi)
        A, w, n = self.columns[at], self.w, self.columns.shape[1]
        W = csr_array((w * V[2], (self.i, self.j)), shape=(n, n))
        own = np.bincount(self.i, w * V[0], n) + np.bincount(self.j, w * V[1], n)
        across = A @ (W @ A.T)
        out = _solved((A * own) @ A.T + across + across.T)
        r = A[-1] - out["beta"] @ A[:-1]
        u = _apply(V, r[self.i], r[self.j])
        shares = [_apply(slope, *u) for slope in self._slopes.transpose(1, 0, 2)]
        left = [_apply(V, *one) for one in shares]
        products = [_product(V, slope) for slope in self._slopes.transpose(1, 0, 2)]
        D_m = np.array([w @ (one[0] + one[3]) for one in products])
        Q_m = -np.array([w @ (u[0] * one[0] + u[1] * one[1]) for one in shares])
        D_mm = -np.array([[w @ _trace(one, two) for two in products] for one in products])
        Q_mm = 2.0 * np.array([[w @ (s[0] * e[0] + s[1] * e[1]) for e in left] for s in shares])
        by_row = np.array([np.bincount(self.i, w * e[0], n) + np.bincount(self.j, w * e[1], n) for e in left])
        out |= {"D": float(w @ log_det), "D_t": J.T @ D_m, "Q_t": J.T @ Q_m, "Q_tb": J.T @ (2.0 * by_row @ A[:-1].T)}
        out["D_tt"] = J.T @ D_mm @ J + np.einsum("m,mst->st", D_m, bend)
        out["Q_tt"] = J.T @ Q_mm @ J + np.einsum("m,mst->st", Q_m, bend)
        return out

    def applied(self, theta: Array, columns: Array) -> Array:
        """Multiply columns (m, n) with the sum of the inverse covariance matrices of all pairs (m, n)."""
        V, n = self._inverse(entries_of(self.layout, theta)[0])[0], columns.shape[1]
        W = csr_array((self.w * V[2], (self.i, self.j)), shape=(n, n))
        own = np.bincount(self.i, self.w * V[0], n) + np.bincount(self.j, self.w * V[1], n)
        return columns * own + (W @ columns.T).T + (W.T @ columns.T).T

    def rows(self, theta: Array, r: Array) -> dict[str, Array]:
        """Give what every row has of the sums, each pair's being halved: V⁻¹r, N, Q (n,) and D_t, Q_t (t, n)."""
        psi, J, _ = entries_of(self.layout, theta)
        V, _ = self._inverse(psi)
        u, w, n = _apply(V, r[self.i], r[self.j]), self.w, len(r)

        def folded(one: Array, other: Array) -> Array:
            return np.bincount(self.i, w * one, n) + np.bincount(self.j, w * other, n)

        e, half = folded(*u), folded(np.full(len(w), 0.5), np.full(len(w), 0.5))
        D_m, Q_m = [], []
        for slope in self._slopes.transpose(1, 0, 2):
            share, product_ = _apply(slope, *u), _product(V, slope)
            D_m.append(folded(product_[0], product_[3]))
            left = _apply(V, *share)
            Q_m.append(-folded(r[self.i] * left[0], r[self.j] * left[1]))
        return {"e": e, "N": half, "Q": r * e, "D_t": J.T @ np.array(D_m), "Q_t": J.T @ np.array(Q_m)}


def _apply(V: Array, one: Array, other: Array) -> tuple[Array, Array]:
    """Multiply symmetric matrices (a, b, c) (3, P) with vectors."""
    return V[0] * one + V[2] * other, V[2] * one + V[1] * other


def _product(V: Array, A: Array) -> tuple[Array, Array, Array, Array]:
    """Multiply symmetric matrices: entries 11, 12, 21, 22."""
    return (
        V[0] * A[0] + V[2] * A[2], V[0] * A[2] + V[2] * A[1],
        V[2] * A[0] + V[1] * A[2], V[2] * A[2] + V[1] * A[1],
    )  # fmt: skip


def _trace(one: Any, two: Any) -> Array:
    trace: Array = one[0] * two[0] + one[1] * two[2] + one[2] * two[1] + one[3] * two[3]
    return trace


def _entries(q: int) -> list[tuple[int, int]]:
    """Entries of the lower triangle of a covariance matrix, row by row."""
    return [(a, b) for a in range(q) for b in range(a + 1)]


def entries_of(layout: ThetaLayout, theta: Array) -> tuple[Array, Array, Array]:
    """Entries of all ΛΛ' (m,), and their derivatives in theta, (m, t) and (m, t, t)."""
    t, start = len(theta), 0
    m = sum(len(_entries(q)) for q in layout.q)
    psi, J, bend = np.zeros(m), np.zeros((m, t)), np.zeros((m, t, t))
    for q, level in zip(layout.q, layout.entries, strict=True):
        place = {pair: start + k for k, pair in enumerate(_entries(q))}
        for (i, j, k), (a, b, c) in product(level, level):
            if j == b and a <= i:  # Λ_ij Λ_aj adds to the covariance of effects i and a
                at = place[i, a]
                psi[at] += theta[k] * theta[c]
                J[at, k] += theta[c]
                J[at, c] += theta[k]
                bend[at, k, c] += 1.0
                bend[at, c, k] += 1.0
        start += len(place)
    return psi, J, bend


def listed_pairs(index: Sequence[Array], layout: ThetaLayout) -> tuple[Array, Array]:
    """List the pairs of rows that share a unit of any factor, each pair once (P,).

    Raises
    ------
    NotSupportedError
        If they would not fit into memory.
    """
    number = sum(float((np.bincount(one).astype(float) * (np.bincount(one) - 1.0)).sum()) / 2.0 for one in index)
    needed = 8.0 * number * (NUMBERS_PER_PAIR + 12.0 * layout.n_theta)
    if needed > bytes_left():
        raise NotSupportedError(
            f"A list of all pairs does not fit into memory. Up to {number:,.0f} pairs of rows share a unit and need "
            f"some {needed / GIB:.0f} GiB. Leave out random slopes, which need the list, or use method='ml'."
        )
    one, other = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for f, groups in enumerate(index):
        a, b = _within(groups)
        new = np.all([before[a] != before[b] for before in index[:f]], axis=0) if f else np.ones(len(a), dtype=bool)
        one, other = np.concatenate([one, a[new]]), np.concatenate([other, b[new]])
    return one, other


def _within(groups: Array) -> tuple[Array, Array]:
    """Pair the rows of every group, each pair once."""
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    before = np.arange(len(groups)) - starts  # rows of the group before this one
    later = np.repeat(np.arange(len(groups)), before)
    first = np.cumsum(before) - before
    earlier = np.arange(len(later)) - np.repeat(first, before) + np.repeat(starts, before)
    return order[earlier], order[later]
