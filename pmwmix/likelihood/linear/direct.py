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
from pmwmix.likelihood.elimination import Lift, eliminate
from pmwmix.likelihood.jets import Jet, beside, pairs, symmetric
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.modes import conditional_modes


@dataclass(frozen=True)
class Moments:
    """Cross-products at one point.

    Parameters
    ----------
    zz, sides : Jet
        Of the random columns with themselves, (G_1, Q, Q), and with [X, y], (G_1, Q, p + 1).
    S0, D : Jet
        [X, y]'R⁻¹[X, y], (p + 1, p + 1), and log det R, (1, 1), over the whole sample.
    blocks : Blocks
        The same without derivatives.
    k : int
        Outcome, counted in ``blocks``.
    """

    zz: Jet
    sides: Jet
    S0: Jet
    D: Jet
    blocks: Blocks
    k: int


class DirectNested:
    """Evaluates the outputs of `nested.objective_graph` without a graph.

    Parameters
    ----------
    blocks : Blocks
    layout : ThetaLayout
    reml : bool

    Notes
    -----
    Derivatives are carried along in the order (rho, theta), rho being the parameters that cross-products depend on (a
    subclass may have some), and come out as (theta, rho).
    """

    n_rho = 0

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

    def moments(self, climbed: Array, k: int) -> Moments:
        """Give the cross-products; none of them depends on theta."""
        zz, sides = Jet.constant(self.C), Jet.constant(self.columns(k))
        S0, zero = Jet.constant(self.blocks.S0(k)), Jet.constant(np.zeros((1, 1)))
        return Moments(zz, sides, S0, zero, self.blocks, k)

    def reduce(self, climbed: Array, zz: Jet, rhs: Jet) -> list[tuple[Jet, Jet, Jet]]:
        """Integrate out level by level, for right-hand sides (G_1, Q, m).

        Returns
        -------
        list of (Jet, Jet, Jet)
            Per level log det M (G_l, 1, 1), and right-hand sides c and ΛM⁻¹Λ'c, (G_l, q_l, m), whose product they
            lose to the random effects.
        """
        m = rhs.value.shape[-1]
        sides = slice(None), slice(-m, None)
        levels = eliminate(self._lambdas(climbed), beside(zz, rhs), self.lifts)
        return [(one.logdet, one.across[sides], one.taken[sides]) for one in levels]

    def _lambdas(self, theta: Array) -> list[Jet]:
        """Cholesky factors (1, q, q), each with derivatives in the parameters of its level and of those below."""
        out, t = [], self.n_rho
        for q, entries in zip(self.layout.q, self.layout.entries, strict=True):
            t += len(entries)
            Lambda = Jet.constant(np.zeros((1, q, q)), t)
            for i, j, k in entries:
                Lambda.value[0, i, j], Lambda.first[self.n_rho + k, 0, i, j] = theta[k], 1.0
            out.append(Lambda)
        return out

    def __call__(self, climbed: Array, k: int) -> dict[str, Any]:
        """Give the outputs of `nested.objective_graph` but the shares of units, which `shares` gives."""
        t, given = self.n_rho + self.layout.n_theta, self.moments(climbed, k)
        S, D = given.S0.among(t), given.D.among(t)
        levels = self.reduce(climbed, given.zz, given.sides)
        for (logdet, left, right), (_, w) in zip(levels, self.paths, strict=True):
            S = S - left.map(_stacked).T @ right.map(_times_units, w).map(_stacked)
            D = D + logdet.map(_total, w)
        return profiled(self._turned(S), self._turned(D), self.reml)

    def _turned(self, jet: Jet) -> Jet:
        """Bring derivatives from the order (rho, theta) into (theta, rho)."""
        if not self.n_rho:
            return jet
        turn = np.roll(np.arange(jet.t), -self.n_rho)
        a, b = (turn[one] for one in pairs(jet.t))
        low, high = np.minimum(a, b), np.maximum(a, b)
        return Jet(jet.value, jet.first[turn], jet.second[high * (high + 1) // 2 + low])

    def unit_shares(self, climbed: Array, beta: Array, k: int) -> dict[str, Any]:
        """Give the outputs of `nested.objective_graph` that are shares of units."""
        given = self.moments(climbed, k)
        blocks, theta = given.blocks, climbed[: self.layout.n_theta]
        D, D_t, lost, lost_t = self.shares(climbed, given.zz, given.sides @ np.append(-beta, 1.0)[:, None])
        modes = conditional_modes(blocks, self.layout, theta, beta, 1.0, given.k)
        b, index = [], np.arange(blocks.n_units[0])
        for level, (part, _) in enumerate(modes):
            b.append(part[index])
            index = blocks.parents[level][index] if level < len(modes) - 1 else index
        zr_grad = -2.0 * np.concatenate(b, axis=1).T * self.paths[0][1]  # Q is least at the modes
        return {"D_unit": D, "D_score": D_t, "lost_unit": lost, "Q_score": -lost_t, "zr_grad": zr_grad}

    def reml_scores(self, climbed: Array) -> Array:
        """Share of every top-level unit in the gradient of log det X'V⁻¹X, (n_theta + n_rho, G_L)."""
        given, S_xx = self.moments(climbed, 0), self(climbed, 0)["S_xx"]
        half = np.linalg.cholesky(np.linalg.inv(S_xx))
        return -self.shares(climbed, given.zz, given.sides[:, : len(half)] @ half)[3]

    def contrast_derivative(self, climbed: Array, U: Array) -> Array:
        """Differentiate u'S_xx u with respect to theta for the columns u of ``U`` (p, m), (n_theta, m)."""
        return np.einsum("am,kab,bm->km", U, self(climbed, 0)["S_xx_t"], U)

    def shares(self, climbed: Array, zz: Jet, rhs: Jet) -> tuple[Array, Array, Array, Array]:
        """Give what each top-level unit adds to log det M and to rhs'ΛM⁻¹Λ'rhs, and their gradients.

        Parameters
        ----------
        climbed : ndarray, shape (n_theta + n_rho,)
        zz : Jet
            As in `Moments`.
        rhs : Jet
            Right-hand sides, (G_1, Q, m).

        Returns
        -------
        ndarray (G_L,), ndarray (n_theta + n_rho, G_L), ndarray (G_L,), ndarray (n_theta + n_rho, G_L)
        """
        t, n = self.n_rho + self.layout.n_theta, self.blocks.n_units[-1]
        values, gradients = np.zeros((2, n)), np.zeros((2, t, n))
        for (logdet, left, right), lift in zip(self.reduce(climbed, zz, rhs), self.to_top, strict=True):
            for i, part in enumerate((logdet, (left.T @ right).map(_trace))):
                values[i] += lift(part.value)[:, 0, 0]
                gradients[i, : part.t] += lift(part.first)[..., 0, 0]
        gradients = np.roll(gradients, -self.n_rho, axis=1)
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
