"""Laplace's approximation with crossed random effects in numpy, with exact first and second derivatives.

What `generalgraph` writes as graphs for a compiler (crossed, eqs. 1-6), carried by jets in (beta, theta, phi): the
factor with the most units is eliminated unit by unit, the effects of the others stand in one dense block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.crossed.units import Crossing, JointFactor
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.partials import partials
from pmwmix.likelihood.jets import Jet, pairs, symmetric

Both = tuple[Any, Any]  # of the eliminated factor (..., G, q, m) and of the dense block (..., D, m)


class DirectJoint:
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
        self.structure, self.crossing, self.rows, self.k = structure, crossing, rows, k
        self.q, self.G, self.D = crossing.q[0], crossing.n_units[0], crossing.n_dense
        self.Z, self.unit, self.place = np.array(rows.Z), crossing.index[0], crossing.place
        self.X = np.array(rows.X).reshape(structure.p, len(rows.w))
        self._last: tuple[bytes, Jet] | None = None

    def split(self, psi: Array) -> tuple[Array, Array, Array]:
        """Part psi into beta, theta, phi."""
        p, t = self.structure.p, self.structure.layout.n_theta
        return psi[:p], psi[p : p + t], psi[p + t :]

    # -- rows ---------------------------------------------------------------------------------------------------

    def random_part(self, b: Both) -> Array:
        """Z b of every row (..., n) at effects b = ((..., G, q, 1), (..., D, 1))."""
        low = np.moveaxis(b[0][..., 0], -1, 0)[..., self.unit]
        out = sum(z * part for z, part in zip(self.Z[: self.q], low, strict=True))
        for z, place in zip(self.Z[self.q :], self.place, strict=True):
            out = out + z * b[1][..., 0][..., place]
        return np.asarray(out)

    def slopes(self, values: Array) -> Both:
        """Sum rows (n,) times the random columns over each effect."""
        low = np.array([np.bincount(self.unit, values * z, minlength=self.G) for z in self.Z[: self.q]])
        high = np.bincount(self.place.ravel(), (self.Z[self.q :] * values).ravel(), minlength=self.D)
        return low.T[:, :, None], high[:, None]

    def curvature(self, kappa: Array) -> tuple[Array, Array, Array]:
        """Sum rows kappa (n,) times pairs of random columns: (G, q, q), (G, q, D) and (D, D)."""
        q, G, D = self.q, self.G, self.D
        own, others = self.Z[:q], self.Z[q:]
        low, across, high = np.empty((G, q, q)), np.empty((G, q, D)), np.zeros((D, D))
        at = (self.unit * D + self.place).ravel()
        for i in range(q):
            weighted = kappa * own[i]
            for j in range(i + 1):
                low[:, i, j] = low[:, j, i] = np.bincount(self.unit, weighted * own[j], minlength=G)
            across[:, i] = np.bincount(at, (others * weighted).ravel(), minlength=G * D).reshape(G, D)
        for z, place in zip(others, self.place, strict=True):
            here = (place * D + self.place).ravel()
            high += np.bincount(here, (others * (kappa * z)).ravel(), minlength=D * D).reshape(D, D)
        return low, across, high

    def partials(self, eta: Array, phi: Array, order: int, in_phi: bool = True) -> dict[str, Array]:
        """Weighted derivatives of the density at every row."""
        s, rows = self.structure, self.rows
        found = partials(s.family, s.link, s.n_phi, order, in_phi)(eta, rows.y[self.k], rows.extra[self.k], phi)
        return {name: rows.w * value for name, value in found.items()}

    def chain(self, found: dict[str, Array], start: int, eta_t: Array, eta_tt: Array, order: int = 2) -> Jet:
        """Give derivative number ``start`` of the density of every row, as jets (n,), from those of eta."""
        P, n_phi = len(eta_t), self.structure.n_phi
        i, j = pairs(P)
        first = found[f"l{start + 1}"] * eta_t
        for a in range(n_phi):
            first[P - n_phi + a] += found[f"p{a}.{start}"]
        if order < 2:
            return Jet(found[f"l{start}"], first, np.zeros((len(i), eta_t.shape[1])))
        second = found[f"l{start + 2}"] * eta_t[i] * eta_t[j] + found[f"l{start + 1}"] * eta_tt
        for a in range(n_phi):
            here = P - n_phi + a
            mixed = found[f"p{a}.{start + 1}"] * eta_t
            for c in range(P):
                high, low = max(here, c), min(here, c)
                second[high * (high + 1) // 2 + low] += mixed[c] * (2.0 if c == here else 1.0)
            for b in range(a + 1):
                second[here * (here + 1) // 2 + P - n_phi + b] += found[f"p{a}.{b}.{start}"]
        return Jet(found[f"l{start}"], first, second)

    # -- effects ------------------------------------------------------------------------------------------------

    def whiten(self, Lambdas: list[Array], values: Both) -> Both:
        """Multiply with Lambda': (..., G, q, m) and (..., D, m)."""
        return Lambdas[0].T @ values[0], self._by_factor([L.T for L in Lambdas[1:]], values[1])

    def colour(self, Lambdas: list[Array], u: Both) -> Both:
        """Multiply with Lambda: b = Lambda u."""
        return Lambdas[0] @ u[0], self._by_factor(Lambdas[1:], u[1])

    def _by_factor(self, matrices: list[Array], values: Array) -> Array:
        """Multiply the effects of every factor (..., D, m) with its matrix."""
        out, start = np.empty_like(values), 0
        for L, G, q in zip(matrices, self.crossing.n_units[1:], self.crossing.q[1:], strict=True):
            part = values[..., start : start + q * G, :]
            shape = part.shape
            turned = L @ part.reshape(*shape[:-2], q, G * shape[-1])
            out[..., start : start + q * G, :] = turned.reshape(shape)
            start += q * G
        return out

    def directions(self) -> list[list[Array]]:
        """Give the derivative of every factor's Lambda in every entry of theta."""
        layout = self.structure.layout
        return [layout.unpack(e) for e in np.eye(layout.n_theta)]

    def effect_jets(self, theta: Array, u: tuple[Jet, Jet]) -> tuple[Jet, Jet]:
        """B = Lambda u as jets in psi."""
        p, layout = self.structure.p, self.structure.layout
        Lambdas = layout.unpack(theta)
        value = self.colour(Lambdas, (u[0].value, u[1].value))
        first = self.colour(Lambdas, (u[0].first, u[1].first))
        second = self.colour(Lambdas, (u[0].second, u[1].second))
        P = u[0].t
        for k, along in enumerate(self.directions()):
            moved = self.colour(along, (u[0].value, u[1].value))
            turned = self.colour(along, (u[0].first, u[1].first))
            for part in (0, 1):
                first[part][p + k] += moved[part]
                for c in range(P):
                    high, low = max(p + k, c), min(p + k, c)
                    second[part][high * (high + 1) // 2 + low] += turned[part][c] * (2.0 if c == p + k else 1.0)
        return Jet(value[0], first[0], second[0]), Jet(value[1], first[1], second[1])

    # -- modes --------------------------------------------------------------------------------------------------

    def step(self, psi: Array, modes: list[Array]) -> dict[str, Array]:
        """Give what `modefinder.find_modes` asks for, at modes (q, G) and (D,)."""
        u = self.effects(modes)
        out = self.newton_step(psi, u, -np.inf)
        if not out["rise"] >= 0.0:  # the rows do not curve downwards everywhere: leave out those that do not
            out = self.newton_step(psi, u, 0.0)
        low, high = out["step"]
        return {
            "J": np.array([out["J"]]),
            "rise": np.array([out["rise"]]),
            "step0": low[:, :, 0].T,
            "step1": high[:, 0],
        }

    @staticmethod
    def effects(modes: list[Array]) -> Both:
        """Lay modes (q, G) and (D,) out as (G, q, 1) and (D, 1)."""
        return modes[0].T[:, :, None].copy(), modes[1][:, None].copy()

    def evaluate(self, psi: Array, modes: list[Array]) -> tuple[float, Array]:
        """Give Laplace's approximation at the modes (q, G) and (D,), and its gradient as that of one part (1, P)."""
        jet = self.value(psi, modes)
        self._last = psi.tobytes(), jet
        return float(jet.value[0, 0]), jet.first[:, 0, 0][None]

    def hessian(self, psi: Array, modes: list[Array]) -> Array:
        """Second derivatives of Laplace's approximation (P, P) at the modes."""
        known = self._last is not None and self._last[0] == psi.tobytes()
        jet = self._last[1] if self._last is not None and known else self.value(psi, modes)
        return symmetric(jet.second[:, 0, 0], len(psi))

    def covariances(self, psi: Array, modes: list[Array]) -> list[Array]:
        """Conditional covariance of the random effects of every unit, per factor (G_f, q_f, q_f)."""
        layout, theta = self.structure.layout, self.split(psi)[1]
        return JointFactor(self.crossing, layout, theta, self.rows.Z, self.kappa(psi, modes)).covariances()

    def kappa(self, psi: Array, modes: list[Array]) -> Array:
        """Weighted curvature of every row (n,) at the modes."""
        beta, theta, phi = self.split(psi)
        b = self.colour(self.structure.layout.unpack(theta), self.effects(modes))
        return -self.partials(self.eta(beta, b), phi, 2, in_phi=False)["l2"]

    def newton_step(self, psi: Array, u: Both, floor: float) -> dict[str, Any]:
        """Give J, rise and Newton's step at effects; curvatures of rows below ``floor`` are raised to it."""
        beta, theta, phi = self.split(psi)
        Lambdas = self.structure.layout.unpack(theta)
        found = self.partials(self.eta(beta, self.colour(Lambdas, u)), phi, 2, in_phi=False)
        kappa = np.maximum(-found["l2"], floor)
        factor = JointSolver(self, Lambdas, self.curvature(kappa))
        gradient = self.whiten(Lambdas, self.slopes(found["l1"]))
        gradient = gradient[0] - u[0], gradient[1] - u[1]
        step = factor.solve(gradient)
        J = found["l0"].sum() - 0.5 * ((u[0] ** 2).sum() + (u[1] ** 2).sum())
        return {"J": J, "rise": (gradient[0] * step[0]).sum() + (gradient[1] * step[1]).sum(), "step": step}

    def eta(self, beta: Array, b: Both) -> Array:
        """Linear predictor of every row (n,)."""
        return self.rows.offset + beta @ self.X + self.random_part(b)

    def eta_jets(self, b: tuple[Jet, Jet]) -> tuple[Array, Array]:
        """First (P, n) and second derivatives of the linear predictor in psi."""
        first = self.random_part((b[0].first, b[1].first))
        first[: self.structure.p] += self.X
        return first, self.random_part((b[0].second, b[1].second))

    def value(self, psi: Array, at: list[Array]) -> Jet:
        """Laplace's approximation of the log-likelihood at the modes (q, G) and (D,), a jet in psi (1, 1)."""
        modes = self.effects(at)
        beta, theta, phi = self.split(psi)
        Lambdas, P = self.structure.layout.unpack(theta), len(psi)
        found = self.partials(self.eta(beta, self.colour(Lambdas, modes)), phi, 4)
        factor = JointSolver(self, Lambdas, self.curvature(-found["l2"]))
        u = Jet.constant(modes[0], P), Jet.constant(modes[1], P)
        for order in (1, 2):
            rate = self.chain(found, 1, *self.eta_jets(self.effect_jets(theta, u)), order)
            step = factor.solve(self._pulled(theta, rate, order))
            if order == 1:
                u = Jet(modes[0], step[0], u[0].second), Jet(modes[1], step[1], u[1].second)
            else:
                u = Jet(modes[0], u[0].first, step[0]), Jet(modes[1], u[1].first, step[1])
        b = self.effect_jets(theta, u)
        eta = self.eta_jets(b)
        density = self.chain(found, 0, *eta)
        flat = u[0].map(_below)
        out = density.map(_total) - (flat.T @ flat + u[1].T @ u[1]).times(0.5)
        return out - self._logdet(theta, self.chain(found, 2, *eta).times(-1.0)).times(0.5)

    def _pulled(self, theta: Array, rate: Jet, order: int) -> Both:
        """Give the derivatives of Lambda'Z'l' of some order, the modes' own left out."""
        p, Lambdas = self.structure.p, self.structure.layout.unpack(theta)

        def slopes(values: Array) -> Both:
            found = [self.slopes(row) for row in values]
            return np.array([one[0] for one in found]), np.array([one[1] for one in found])

        flat, first = self.slopes(rate.value), slopes(rate.first)
        if order == 1:
            out = self.whiten(Lambdas, first)
            for k, along in enumerate(self.directions()):
                more = self.whiten(along, flat)
                for part in (0, 1):
                    out[part][p + k] += more[part]
            return out
        out = self.whiten(Lambdas, slopes(rate.second))
        for k, along in enumerate(self.directions()):
            more = self.whiten(along, first)
            for c in range(rate.t):
                high, low = max(p + k, c), min(p + k, c)
                for part in (0, 1):
                    out[part][high * (high + 1) // 2 + low] += more[part][c] * (2.0 if c == p + k else 1.0)
        return out

    def _logdet(self, theta: Array, kappa: Jet) -> Jet:
        """Log det(I + Lambda'Z'KZ Lambda) as a jet (1, 1)."""
        rows = [self.curvature(part) for part in (kappa.value, *kappa.first, *kappa.second)]
        P = kappa.t
        low, across, high = (
            Jet(part[0], np.array(part[1 : P + 1]), np.array(part[P + 1 :])) for part in zip(*rows, strict=True)
        )
        own, dense = self._lambda_jets(theta, P)
        M = own.T @ low @ own
        M = Jet(M.value + np.eye(self.q), M.first, M.second)
        wide = across.map(_below) @ dense  # one product for all units
        upper = own.T @ wide.map(_units, self.q)
        solved = M.solve(upper)
        S = dense.T @ high @ dense - upper.map(_below).T @ solved.map(_below)
        S = Jet(S.value + np.eye(self.D), S.first, S.second)
        return M.logdet().map(np.sum, -3) + S.logdet()

    def _lambda_jets(self, theta: Array, P: int) -> tuple[Jet, Jet]:
        """Lambda of the eliminated factor (1, q, q) and of the dense block (D, D), as jets in psi."""
        p = self.structure.p
        own, dense = Jet.constant(np.zeros((1, self.q, self.q)), P), Jet.constant(np.zeros((self.D, self.D)), P)

        def put(Lambdas: list[Array], low: Array, high: Array) -> None:
            low[0] = Lambdas[0]
            high[...] = self._by_factor(Lambdas[1:], np.eye(self.D))

        put(self.structure.layout.unpack(theta), own.value, dense.value)
        for k, along in enumerate(self.directions()):
            put(along, own.first[p + k], dense.first[p + k])
        return own, dense


class JointSolver:
    """The joint Hessian M = I + Lambda'CLambda at one point, factored; solves for any number of right-hand sides."""

    def __init__(self, model: DirectJoint, Lambdas: list[Array], C: tuple[Array, Array, Array]) -> None:
        L = Lambdas[0]
        self.inverse = np.linalg.inv(np.eye(model.q) + L.T @ C[0] @ L)
        across = L.T @ C[1]
        self.across = model._by_factor([M.T for M in Lambdas[1:]], across.swapaxes(-1, -2)).swapaxes(-1, -2)
        half = model._by_factor([M.T for M in Lambdas[1:]], C[2])
        S = np.eye(model.D) + model._by_factor([M.T for M in Lambdas[1:]], half.T)
        flat, solved = (part.reshape(-1, model.D) for part in (self.across, self.inverse @ self.across))
        self.S = np.linalg.inv(S - flat.T @ solved)

    def solve(self, right: Both) -> Both:
        """Solve for (..., G, q, 1) and (..., D, 1)."""
        low = self.inverse @ right[0]
        gone = (self.across.swapaxes(-1, -2) @ low).sum(axis=-3)
        high = self.S @ (right[1] - gone)
        return low - self.inverse @ (self.across @ high[..., None, :, :]), high


def _below(values: Array) -> Array:
    """Lay the units (..., G, q, m) below each other, (..., G q, m)."""
    return values.reshape(*values.shape[:-3], -1, values.shape[-1])


def _total(values: Array) -> Array:
    """Sum rows (..., n) to (..., 1, 1)."""
    return values.sum(axis=-1)[..., None, None]


def _units(values: Array, q: int) -> Array:
    """Undo `_below`."""
    return values.reshape(*values.shape[:-2], -1, q, values.shape[-1])


def predicted_seconds(structure: MarginalStructure, crossing: Crossing, n: int, evaluations: int = 10) -> float:
    """Estimate what a fit of one outcome takes in numpy."""
    P = structure.p + structure.layout.n_theta + structure.n_phi
    q, others = crossing.q[0], sum(crossing.q[1:])
    sums = n * (q * q + q * others + others * others)
    wide = crossing.n_units[0] * q * crossing.n_dense
    return evaluations * (0.003 + 5e-8 * (1 + P + P * (P + 1) // 2) * (sums + wide))
