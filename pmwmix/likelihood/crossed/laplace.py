"""Laplace's approximation with one random effect per unit of every crossed factor, in numpy (crossed, eqs. 1-6, 13-16).

The gradient comes from one inverse of the dense block and one solution, row by row, so that independent parts of the
sample have their scores; the Hessian is its derivative along each parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.crossed.intercepts import Curvature, EffectRows, Effects
from pmwmix.likelihood.crossed.units import Crossing
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.partials import partials

TINY = 1e-6  # theta in whose place derivatives at zero are taken; they are even or odd in theta


class LaplaceIntercepts:
    """The joint model of all rows, evaluated at parameters psi = (beta, theta, phi).

    Parameters
    ----------
    structure : MarginalStructure
    crossing : Crossing
    rows : RowArrays
    k : int
        Outcome.
    """

    def __init__(self, structure: MarginalStructure, crossing: Crossing, rows: RowArrays, k: int) -> None:
        self.structure, self.data, self.k, self.part = structure, rows, k, crossing.part
        self.rows = EffectRows(crossing, rows.Z, structure.ones)
        self.X = np.array(rows.X).reshape(structure.p, len(rows.w))
        self.n_parts, self.counts = int(crossing.part.max()) + 1, crossing.counts

    def split(self, psi: Array) -> tuple[Array, Array, Array]:
        """Part psi into beta, theta, phi."""
        p, t = self.structure.p, self.structure.layout.n_theta
        return psi[:p], psi[p : p + t], psi[p + t :]

    def partials(self, eta: Array, phi: Array, order: int, in_phi: bool = True) -> dict[str, Array]:
        """Weighted derivatives of the density at every row."""
        s, data = self.structure, self.data
        found = partials(s.family, s.link, s.n_phi, order, in_phi)(eta, data.y[self.k], data.extra[self.k], phi)
        return {name: data.w * value for name, value in found.items()}

    def eta(self, beta: Array, theta: Array, u: Effects) -> Array:
        """Linear predictor of every row (n,)."""
        scale = np.repeat(theta[1:], self.rows.crossing.n_units[1:])
        return self.data.offset + beta @ self.X + self.rows.total((theta[0] * u[0], scale * u[1]))

    def step(self, psi: Array, modes: list[Array]) -> dict[str, Array]:
        """Give what `modefinder.find_modes` asks for, at modes (1, G) and (D,)."""
        beta, theta, phi = self.split(psi)
        u = modes[0][0], modes[1]
        found = self.partials(self.eta(beta, theta, u), phi, 2, in_phi=False)
        try:
            out = self._step(theta, u, found, -found["l2"])
        except np.linalg.LinAlgError:
            out = None
        if out is None or not out["rise"][0] >= 0.0:  # rows that do not curve downwards are left out
            out = self._step(theta, u, found, np.maximum(-found["l2"], 0.0))
        return out

    def _step(self, theta: Array, u: Effects, found: dict[str, Array], kappa: Array) -> dict[str, Array]:
        curvature = Curvature(self.rows, theta, kappa)
        low, high = curvature.scaled(self.rows.sums(found["l1"]))
        gradient = low - u[0], high - u[1]
        step = curvature.solve(gradient)
        J = found["l0"].sum() - 0.5 * (u[0] @ u[0] + u[1] @ u[1])
        rise = gradient[0] @ step[0] + gradient[1] @ step[1]
        return {"J": np.array([J]), "rise": np.array([rise]), "step0": step[0][None], "step1": step[1]}

    def total(self, values: Array) -> float:
        """Add rows (n,) up, each as often as its part counts."""
        return float(values.sum() if self.counts is None else values @ self.counts.rows)

    def _of_effects(self, u: Effects, curvature: Curvature) -> float:
        """Give what effects add to the log-likelihood, -(u'u + log det M) / 2, in the same way."""
        low, high = (square**2 + pivot for square, pivot in zip(u, curvature.pivots, strict=True))
        if self.counts is not None:
            low, high = low * self.counts.units, high * self.counts.dense
        return -0.5 * float(low.sum() + high.sum())

    def evaluate(self, psi: Array, modes: list[Array]) -> tuple[float, Array]:
        """Give Laplace's approximation at the modes (1, G) and (D,), and its scores by independent part (C, P)."""
        beta, theta, phi = self.split(psi)
        u = modes[0][0], modes[1]
        found = self.partials(self.eta(beta, theta, u), phi, 3)
        try:
            curvature = Curvature(self.rows, theta, -found["l2"])
        except np.linalg.LinAlgError:
            return -np.inf, np.zeros((self.n_parts, len(psi)))
        by_row = AtModes(self, psi, u, curvature, found).gradient_rows()
        scores = np.array([np.bincount(self.part, row, minlength=self.n_parts) for row in by_row]).T
        scores = scores if self.counts is None else scores * self.counts.parts[:, None]
        return self.total(found["l0"]) + self._of_effects(u, curvature), scores

    def _derivable(self, psi: Array, modes: list[Array]) -> AtModes:
        """Give a point with all derivatives of rows, a theta of zero moved a little."""
        beta, theta, phi = self.split(psi)
        u, zero = (modes[0][0].copy(), modes[1].copy()), theta == 0.0
        found = self.partials(self.eta(beta, theta, u), phi, 4)
        moved = np.where(zero, TINY, theta)
        slopes = self.rows.sums(found["l1"])
        for f in np.flatnonzero(zero).tolist():
            at: Any = slice(None) if f == 0 else self.rows.factors[f - 1]
            u[min(f, 1)][at] = TINY * slopes[min(f, 1)][at]  # where the mode is for so small a theta
        psi = np.concatenate([beta, moved, phi])
        return AtModes(self, psi, u, Curvature(self.rows, moved, -found["l2"]), found)

    def hessian(self, psi: Array, modes: list[Array]) -> Array:
        """Second derivatives of Laplace's approximation (P, P) at the modes."""
        there = self._derivable(psi, modes)
        H = np.array([there.gradient_along(direction) for direction in np.eye(len(psi))])
        p, theta = self.structure.p, self.split(psi)[1]
        for f in p + np.flatnonzero(theta == 0.0):  # even in this theta
            kept = H[f, f]
            H[f], H[:, f] = 0.0, 0.0
            H[f, f] = kept
        return 0.5 * (H + H.T)

    def covariances(self, psi: Array, modes: list[Array]) -> list[Array]:
        """Conditional variances of b of single units, per factor (G_f, 1, 1)."""
        beta, theta, phi = self.split(psi)
        found = self.partials(self.eta(beta, theta, (modes[0][0], modes[1])), phi, 2, in_phi=False)
        N = Curvature(self.rows, theta, -found["l2"])
        return [part[:, None, None] for part in self.rows.by_factor((N.low, np.diag(N.high)))]


@dataclass
class AtModes:
    """Derivatives of Laplace's approximation at a point, where the modes are known.

    Parameters
    ----------
    model : LaplaceIntercepts
    psi : ndarray, shape (P,)
    u : Effects
        Whitened modes.
    curvature : Curvature
    found : dict
        Derivatives of the rows' densities, ``l0`` to ``l3`` for the gradient, to ``l4`` for its derivative.
    """

    model: LaplaceIntercepts
    psi: Array
    u: Effects
    curvature: Curvature
    found: dict[str, Array]

    @cached_property
    def theta(self) -> Array:
        """Of every factor (n_factors,)."""
        return self.model.split(self.psi)[1]

    @cached_property
    def inverse_theta(self) -> Array:
        """1 / theta, zero where theta is: what it multiplies vanishes there."""
        with np.errstate(divide="ignore"):
            return np.where(self.theta == 0.0, 0.0, 1.0 / self.theta)

    @cached_property
    def spread(self) -> list[Array]:
        """Whitened modes in the rows, z_f u_f (n,) per factor."""
        return self.model.rows.terms(self.u)

    @cached_property
    def h(self) -> Array:
        """Variance z'Nz of every row, over sigma² (n,)."""
        return np.sum(self.curvature.shares, axis=0)

    @cached_property
    def r(self) -> Array:
        """What a linear predictor adds to -log det M / 2 (n,)."""
        return 0.5 * self.h * self.found["l3"]

    @cached_property
    def adjoint(self) -> Effects:
        """N Z'r."""
        return self.curvature.times(self.model.rows.sums(self.r))

    @cached_property
    def adjoint_rows(self) -> list[Array]:
        """Z_f of it (n,) per factor."""
        return self.model.rows.terms(self.adjoint)

    @cached_property
    def v(self) -> Array:
        """Derivative in an offset of every row (n,)."""
        return self.found["l1"] + self.r + self.found["l2"] * np.sum(self.adjoint_rows, axis=0)

    def gradient_rows(self) -> list[Array]:
        """Give each row's share of the gradient, (n,) per parameter (crossed, eqs. 13-15)."""
        found, za = self.found, np.sum(self.adjoint_rows, axis=0)
        out = list(self.v * self.model.X)
        for f, share in enumerate(self.curvature.shares):
            rest = self.adjoint_rows[f] * found["l1"] + found["l2"] * share
            out.append(self.v * self.spread[f] + self.inverse_theta[f] * rest)
        for a in range(self.model.structure.n_phi):
            out.append(found[f"p{a}.0"] + 0.5 * self.h * found[f"p{a}.2"] + found[f"p{a}.1"] * za)
        return out

    def rates(self, eta: Array, phi: Array) -> dict[str, Array]:
        """Differentiate ``found`` along a change of the linear predictor (n,) and of phi."""
        found, out = self.found, {}
        for k in (1, 2, 3):
            out[f"l{k}"] = found[f"l{k + 1}"] * eta + sum(d * found[f"p{a}.{k}"] for a, d in enumerate(phi) if d)
        for a in range(len(phi)):
            for k in (0, 1, 2):
                mixed = (d * found[f"p{max(a, b)}.{min(a, b)}.{k}"] for b, d in enumerate(phi) if d)
                out[f"p{a}.{k}"] = found[f"p{a}.{k + 1}"] * eta + sum(mixed)
        return out

    def gradient_along(self, direction: Array) -> Array:
        """Differentiate the gradient (P,) along a change of psi (crossed, eq. 16)."""
        rows, found, inverse, total = self.model.rows, self.found, self.inverse_theta, self.model.total
        beta, theta, phi = self.model.split(direction)
        fixed = beta @ self.model.X + sum(d * part for d, part in zip(theta, self.spread, strict=True) if d)
        pull = found["l2"] * fixed + sum(d * found[f"p{a}.1"] for a, d in enumerate(phi) if d)
        low, high = self.curvature.scaled(rows.sums(pull))
        slopes, n_units = rows.sums(found["l1"]), rows.crossing.n_units[1:]
        u = self.curvature.solve((low + theta[0] * slopes[0], high + np.repeat(theta[1:], n_units) * slopes[1]))
        spread = rows.terms(u)
        rate = self.rates(fixed + sum(t * part for t, part in zip(self.theta, spread, strict=True)), phi)
        precision = -2.0 * theta * inverse**3
        shares = self.curvature.shares_along(precision, -rate["l2"])
        h = np.sum(shares, axis=0)
        r = 0.5 * (h * found["l3"] + self.h * rate["l3"])
        za = np.sum(self.adjoint_rows, axis=0)
        low, high = rows.sums(r + rate["l2"] * za)
        low, high = low - precision[0] * self.adjoint[0], high - np.repeat(precision[1:], n_units) * self.adjoint[1]
        adjoint = rows.terms(self.curvature.times((low, high)))
        za_along = np.sum(adjoint, axis=0)
        v = rate["l1"] + r + rate["l2"] * za + found["l2"] * za_along
        out = [total(v * column) for column in self.model.X]
        for f, share in enumerate(self.curvature.shares):
            rest = self.adjoint_rows[f] * found["l1"] + found["l2"] * share
            along = adjoint[f] * found["l1"] + self.adjoint_rows[f] * rate["l1"]
            along = along + rate["l2"] * share + found["l2"] * shares[f]
            last = inverse[f] * along - theta[f] * inverse[f] ** 2 * rest
            out.append(total(v * self.spread[f] + self.v * spread[f] + last))
        for a in range(len(phi)):
            second = h * found[f"p{a}.2"] + self.h * rate[f"p{a}.2"]
            last = rate[f"p{a}.1"] * za + found[f"p{a}.1"] * za_along
            out.append(total(rate[f"p{a}.0"] + 0.5 * second + last))
        return np.array(out)
