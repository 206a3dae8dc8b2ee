"""The closed form of nested random effects in numpy, with exact first and second derivatives in theta.

What `nested` writes as a graph for a compiler, evaluated at once (theory, eqs. 5-12): small data are fitted before a
compiler would have started. Both give the same outputs under the same names.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.elimination import Lift, eliminate
from pmwmix.likelihood.jets import Jet, symmetric
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.modes import conditional_modes


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

    def reduce(self, theta: Array, rhs: Array) -> list[tuple[Jet, Jet, Jet]]:
        """Integrate out level by level, for right-hand sides (G_1, Q, m).

        Returns
        -------
        list of (Jet, Jet, Jet)
            Per level log det M (G_l, 1, 1), and right-hand sides c and ΛM⁻¹Λ'c, (G_l, q_l, m), whose product they
            lose to the random effects.
        """
        C = Jet.constant(np.concatenate([self.C, rhs], axis=2))
        m = rhs.shape[-1]
        sides = slice(None), slice(-m, None)
        levels = eliminate(self._lambdas(theta), C, self.lifts)
        return [(one.logdet, one.across[sides], one.taken[sides]) for one in levels]

    def _lambdas(self, theta: Array) -> list[Jet]:
        """Cholesky factors (1, q, q), each with derivatives in the parameters of its level and of those below."""
        out, t = [], 0
        for q, entries in zip(self.layout.q, self.layout.entries, strict=True):
            t += len(entries)
            Lambda = Jet.constant(np.zeros((1, q, q)), t)
            for i, j, k in entries:
                Lambda.value[0, i, j], Lambda.first[k, 0, i, j] = theta[k], 1.0
            out.append(Lambda)
        return out

    def __call__(self, theta: Array, k: int) -> dict[str, Any]:
        """Give the outputs of `nested.objective_graph` but the shares of units, which `shares` gives."""
        t = self.layout.n_theta
        S = Jet.constant(self.blocks.S0(k), t)
        D = Jet.constant(np.zeros((1, 1)), t)
        for (logdet, left, right), (_, w) in zip(self.reduce(theta, self.columns(k)), self.paths, strict=True):
            S = S - left.map(_stacked).T @ right.map(_times_units, w).map(_stacked)
            D = D + logdet.map(_total, w)
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
        for (logdet, left, right), lift in zip(self.reduce(theta, rhs), self.to_top, strict=True):
            for i, part in enumerate((logdet, (left.T @ right).map(_trace))):
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
