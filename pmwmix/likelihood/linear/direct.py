"""The closed form of nested random effects in numpy, with exact first and second derivatives in theta.

What `nested` writes as a graph for a compiler, evaluated at once (theory, eqs. 5-12): small data are fitted before a
compiler would have started. Both give the same outputs under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.jets import Jet, symmetric
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.modes import conditional_modes


@dataclass(frozen=True)
class Lift:
    """Weighted sum of units into their parents (theory, eq. 8): arrays (..., G_l, r, s) to (..., G_(l+1), r, s)."""

    order: Array | None
    starts: Array
    w: Array

    @classmethod
    def of(cls, parent: Array, w: Array) -> Lift:
        """Sort the units by their parents; every parent has a unit."""
        order = None if np.all(parent[1:] >= parent[:-1]) else np.argsort(parent, kind="stable")
        along = parent if order is None else parent[order]
        starts = np.flatnonzero(np.append(True, along[1:] != along[:-1]))
        return cls(order, starts, w[:, None, None])

    def __call__(self, values: Array) -> Array:
        """Sum the units."""
        weighted = values * self.w
        weighted = weighted if self.order is None else weighted[..., self.order, :, :]
        return np.add.reduceat(weighted, self.starts, axis=-3)


@dataclass(frozen=True)
class Level:
    """One level after its random effects are integrated out.

    Parameters
    ----------
    logdet : Jet
        log det M per unit, (G_l, 1, 1).
    left, right : Jet
        The right-hand sides c and ΛM⁻¹Λ'c, (G_l, q_l, m): left'right is what they lose to the random effects.
    """

    logdet: Jet
    left: Jet
    right: Jet


class DirectNested:
    """Evaluates the outputs of `nested.objective_graph` without a graph.

    Parameters
    ----------
    blocks : Blocks
    layout : ThetaLayout
    reml : bool
    """

    def __init__(self, blocks: Blocks, layout: ThetaLayout, reml: bool) -> None:
        self.blocks, self.layout, self.reml = blocks, layout, reml
        self.paths = blocks.paths()
        self.lifts = [Lift.of(parent, w) for parent, w in zip(blocks.parents, blocks.w[:-1], strict=True)]
        self.to_top = [Lift.of(top, w_total) for top, w_total in self.paths]

    @cached_property
    def C(self) -> Array:
        """Cross-products of the random columns per lowest unit, (G_1, Q, Q)."""
        Q = sum(self.layout.q)
        rows, columns = np.tril_indices(Q)
        C = np.empty((self.blocks.n_units[0], Q, Q))
        C[:, rows, columns] = C[:, columns, rows] = self.blocks.zz.T
        return C

    def columns(self, k: int) -> Array:
        """Cross-products of the random columns with [X, y], (G_1, Q, p + 1)."""
        return np.concatenate([self.blocks.zx.transpose(2, 0, 1), self.blocks.zy[k].T[:, :, None]], axis=2)

    def reduce(self, theta: Array, rhs: Array) -> list[Level]:
        """Integrate out level by level, lowest first (theory, eqs. 6-9), for right-hand sides (G_1, Q, m)."""
        C, sides = Jet.constant(self.C), Jet.constant(rhs)
        out: list[Level] = []
        t = 0
        for level, q in enumerate(self.layout.q):
            t += len(self.layout.entries[level])
            Lambda = self._lambda(level, theta, t)
            own, upper = slice(0, q), slice(q, None)
            M = Lambda.T @ C[own, own] @ Lambda
            M = Jet(M.value + np.eye(q), M.first, M.second)
            K = Lambda @ M.solve(Lambda.T)
            left = sides[own, :]
            right = K @ left
            out.append(Level(M.logdet(), left, right))
            if level < len(self.layout.q) - 1:
                across, lift = C[own, upper], self.lifts[level]
                C = (C[upper, upper] - across.T @ (K @ across)).map(lift)
                sides = (sides[upper, :] - across.T @ right).map(lift)
        return out

    def _lambda(self, level: int, theta: Array, t: int) -> Jet:
        q = self.layout.q[level]
        out = Jet.constant(np.zeros((1, q, q)), t)
        for i, j, k in self.layout.entries[level]:
            out.value[0, i, j], out.first[k, 0, i, j] = theta[k], 1.0
        return out

    def __call__(self, theta: Array, k: int) -> dict[str, Any]:
        """Give the outputs of `nested.objective_graph` but the shares of units, which `shares` gives."""
        t = self.layout.n_theta
        levels = self.reduce(theta, self.columns(k))
        S = Jet.constant(self.blocks.S0(k), t)
        D = Jet.constant(np.zeros((1, 1)), t)
        for level, (_, w) in zip(levels, self.paths, strict=True):
            left, right = level.left.map(_stacked), level.right.map(_times_units, w).map(_stacked)
            S = S - (left.T @ right).among(t)
            D = D + level.logdet.map(_total, w).among(t)
        return profiled(S, D, self.reml)

    def unit_shares(self, theta: Array, beta: Array, k: int) -> dict[str, Any]:
        """Give the outputs of `nested.objective_graph` that are shares of units."""
        blocks = self.blocks
        zr = blocks.zy[k] - np.einsum("apg,p->ag", blocks.zx, beta)
        D, D_t, lost, lost_t = self.shares(theta, zr.T[:, :, None])
        modes = conditional_modes(blocks, self.layout, theta, beta, 1.0, k)
        b, index = [], np.arange(blocks.n_units[0])
        for level, (part, _) in enumerate(modes):
            b.append(part[index])
            index = blocks.parents[level][index] if level < len(modes) - 1 else index
        zr_grad = -2.0 * np.concatenate(b, axis=1).T * self.paths[0][1]  # Q is least at the modes
        return {"D_unit": D, "D_score": D_t, "lost_unit": lost, "Q_score": -lost_t, "zr_grad": zr_grad}

    def reml_scores(self, theta: Array) -> Array:
        """Share of every top-level unit in the gradient of log det X'V⁻¹X, (n_theta, G_L)."""
        p = self.blocks.xx.shape[0]
        S_xx = self(theta, 0)["S_xx"]
        half = np.linalg.cholesky(np.linalg.inv(S_xx))
        return -self.shares(theta, self.columns(0)[..., :p] @ half)[3]

    def shares(self, theta: Array, rhs: Array) -> tuple[Array, Array, Array, Array]:
        """Give what each top-level unit adds to log det M and to rhs'ΛM⁻¹Λ'rhs, and their gradients in theta.

        Parameters
        ----------
        theta : ndarray, shape (n_theta,)
        rhs : ndarray, shape (G_1, Q, m)

        Returns
        -------
        ndarray (G_L,), ndarray (n_theta, G_L), ndarray (G_L,), ndarray (n_theta, G_L)
        """
        t, n = self.layout.n_theta, self.blocks.n_units[-1]
        values, gradients = np.zeros((2, n)), np.zeros((2, t, n))
        for level, lift in zip(self.reduce(theta, rhs), self.to_top, strict=True):
            lost = (level.left.T @ level.right).map(_trace)
            for i, part in enumerate((level.logdet, lost)):
                values[i] += lift(part.value)[:, 0, 0]
                gradients[i, : part.t] += lift(part.first)[..., 0, 0]
        return values[0], gradients[0], values[1], gradients[1]


def profiled(S: Jet, D: Jet, reml: bool) -> dict[str, Any]:
    """Profile the coefficients out (theory, eqs. 9-11): the outputs of `nested.objective_graph` but those of units.

    Parameters
    ----------
    S : Jet
        Schur complement over [X, y], (p + 1, p + 1).
    D : Jet
        Determinant term, (1, 1).
    reml : bool
    """
    p, t = len(S.value) - 1, S.t
    beta = np.linalg.solve(S.value[:p, :p], S.value[:p, p])
    r = np.append(-beta, 1.0)
    along = S.first @ r
    out = {
        "D": D.value[0, 0],
        "D_t": D.first[:, 0, 0],
        "D_tt": symmetric(D.second[:, 0, 0], t),
        "S_xx": S.value[:p, :p],
        "S_xy": S.value[:p, p],
        "S_yy": S.value[p, p],
        "beta": beta,
        "Q_t": along @ r,
        "Q_tt": symmetric(S.second @ r @ r, t),
        "Q_tb": -2.0 * along[:, :p],
        "S_xx_t": S.first[:, :p, :p],
    }
    if reml:
        R = S[:p, :p].logdet()
        out |= {"R": R.value[0, 0], "R_t": R.first[:, 0, 0], "R_tt": symmetric(R.second[:, 0, 0], t)}
    return out


def _stacked(values: Array) -> Array:
    """Lay the units (..., G, q, m) below each other, (..., G q, m)."""
    *lead, G, q, m = values.shape
    return values.reshape(*lead, G * q, m)


def _times_units(values: Array, w: Array) -> Array:
    return values * w[:, None, None]


def _total(values: Array, w: Array) -> Array:
    """Weighted sum over the units (..., G, r, s)."""
    return np.einsum("g,...grs->...rs", w, values)


def _trace(values: Array) -> Array:
    return np.trace(values, axis1=-2, axis2=-1)[..., None, None]


def predicted_seconds(blocks: Blocks, layout: ThetaLayout, evaluations: int = 12) -> float:
    """Estimate what a fit of one outcome takes in numpy."""
    seconds, t, rest = 0.0, 0, sum(layout.q)
    for q, entries, G in zip(layout.q, layout.entries, blocks.n_units, strict=True):
        t, rest = t + len(entries), rest - q
        channels = 1 + t + t * (t + 1) // 2
        per_entry = 8e-8 * min(q, 2) + 6e-9 * (q + rest + blocks.zx.shape[-2] + 1)
        seconds += 2e-4 + per_entry * channels * G * q
    return evaluations * seconds
