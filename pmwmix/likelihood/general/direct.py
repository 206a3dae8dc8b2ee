"""The marginal likelihood of `marginal` in numpy, with exact first and second derivatives.

The algebra of units, carried by jets in (beta, theta, phi) (theory, eqs. 40-50); `rowsums` reads the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.elimination import Eliminated, Lift, eliminate
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.nodes import product_rule
from pmwmix.likelihood.general.rowsums import RowSums
from pmwmix.likelihood.general.tiles import Chunk
from pmwmix.likelihood.jets import Jet, inverted, pairs, stacked, symmetric

SAFE_FLOOR = 0.1  # of the eigenvalues of a curvature while modes are searched; 1 is that of the prior alone


class DirectChunk(RowSums):
    """One chunk of the sample, evaluated at parameters psi = (beta, theta, phi); arguments as `RowSums`."""

    def __init__(self, structure: MarginalStructure, chunk: Chunk, rows: RowArrays, k: int) -> None:
        super().__init__(structure, chunk, rows, k)
        n, self.latent = chunk.n_units, structure.effects
        self.parents = [parent[:size] for parent, size in zip(chunk.parents, n, strict=False)]
        self.omega = [omega[:size] for omega, size in zip(chunk.omega, n, strict=True)]
        self.w_units = [w[:size] for w, size in zip(chunk.w, n, strict=True)]
        self.lifts = [Lift.of(parent, w) for parent, w in zip(self.parents, self.w_units[:-1], strict=True)]
        self.to_top = [top[:size] for top, size in zip(chunk.to_top, n, strict=True)]

    # -- units --------------------------------------------------------------------------------------------------

    def lambdas(self, theta: Array) -> list[Jet]:
        """Cholesky factors (1, q, q) per level as jets in psi."""
        s = self.structure
        P = s.p + s.layout.n_theta + s.n_phi
        out = []
        for q, entries in zip(s.layout.q, s.layout.entries, strict=True):
            Lambda = Jet.constant(np.zeros((1, q, q)), P)
            for i, j, k in entries:
                Lambda.value[0, i, j], Lambda.first[s.p + k, 0, i, j] = theta[k], 1.0
            out.append(Lambda)
        return out

    def lower(self, values: Array, start: int, stop: int) -> Array:
        """Copy values (..., G, r, s) of the units of a level to those of a lower one."""
        for level in range(start - 1, stop - 1, -1):
            values = values[..., self.parents[level], :, :]
        return values

    def at_lowest(self, b: list[Array]) -> Array:
        """Stack effects of all levels (G_l, q_l, 1) at the lowest units (G_1, Q, 1)."""
        return np.concatenate([self.lower(part, level, 0) for level, part in enumerate(b)], axis=-2)

    def jets_at_lowest(self, b: list[Jet]) -> Jet:
        """Stack jets of effects of all levels at the lowest units."""
        return stacked([part.map(self.lower, level, 0) for level, part in enumerate(b)])

    # -- modes --------------------------------------------------------------------------------------------------

    def split(self, psi: Array) -> tuple[Array, Array, Array]:
        """Part psi into beta, theta and the family's phi."""
        p, t = self.structure.p, self.structure.layout.n_theta
        return psi[:p], psi[p : p + t], psi[p + t : p + t + self.structure.n_family]

    def shapes(self, psi: Array, P: int) -> list[list[Jet]]:
        """Shape of the random effects' distribution at every level, as jets (1, 1, 1) in P parameters, or in none."""
        s = self.structure
        out: list[list[Jet]] = [[] for _ in range(s.n_levels)]
        for level in range(s.n_levels):
            for a in range(s.effects.n_shape):
                place = len(psi) - s.n_shape + level * s.effects.n_shape + a
                out[level].append(Jet.constant(np.full((1, 1, 1), psi[place]), P))
                if P:
                    out[level][-1].first[place] = 1.0
        return out

    def prior(self, u: list[Jet], shapes: list[list[Jet]]) -> list[Jet]:
        """Curvature of the density of the effects u (G_l, q_l, 1) of every level."""
        return [self.latent.curvature(x, shape) for x, shape in zip(u, shapes, strict=True)]

    def newton_step(self, psi: Array, modes: list[Array]) -> dict[str, Array]:
        """Give the outputs of `marginal.mode_graph` at modes (q_l, G_l)."""
        beta, theta, phi = self.split(psi)
        q = self.structure.layout.q
        u = [part.T[:, :, None] for part in modes]
        Lambda = self.structure.layout.unpack(theta)
        b = self.at_lowest([L @ x for L, x in zip(Lambda, u, strict=True)])
        found = self.partials(self.eta(beta, b[..., 0]), phi, 2, in_phi=False)
        C, slopes = self._curvature(found["l2"]), self.sum_rows(found["l1"], self.Z)[..., None]
        effects, shapes = [Jet.constant(part) for part in u], self.shapes(psi, 0)
        factors = Factors.of(self, Lambda, C, SAFE_FLOOR, self.prior(effects, shapes))
        gradient = []
        for level, L in enumerate(Lambda):
            own = self.latent.slope(effects[level], shapes[level]).value
            gradient.append(L.T @ slopes[..., : q[level], :] + own)
            if level < len(q) - 1:
                slopes = self.lifts[level](slopes[..., q[level] :, :])
        step = factors.solve(gradient)
        J = self.sum_rows(found["l0"])[..., None]
        rise: Any = 0.0
        for level in range(len(q)):
            J = J + self.latent.density(effects[level], shapes[level]).value
            rise = rise + (gradient[level] * step[level]).sum(axis=-2, keepdims=True)
            if level < len(q) - 1:
                J, rise = self.lifts[level](J), self.lifts[level](rise)
        rows, columns = np.tril_indices(sum(q))
        out = {"J": J[:, 0, 0], "rise": rise[:, 0, 0], "zz": C[:, rows, columns].T}
        return out | {f"step{level}": part[:, :, 0].T for level, part in enumerate(step)}

    def _curvature(self, second: Array) -> Array:
        per_tile = self.Z.swapaxes(-1, -2) @ (-second[..., None] * self.Z)
        return np.add.reduceat(per_tile, self.from_tiles, axis=-3)

    def mode_jets(self, psi: Array, modes: list[Array], found: dict[str, Array]) -> list[Jet]:
        """Conditional modes (G_l, q_l, 1) with their derivatives, by the implicit function theorem (theory, eq. 47)."""
        theta = self.split(psi)[1]
        Lambda, P = self.lambdas(theta), len(psi)
        u, shapes = [Jet.constant(part.T[:, :, None], P) for part in modes], self.shapes(psi, P)
        still = self.prior([Jet.constant(x.value) for x in u], self.shapes(psi, 0))
        factors = Factors.of(self, [L.value[0] for L in Lambda], self._curvature(found["l2"]), 0.0, still)
        moments = self.moments(found, 1, self.Z, 2)
        for order in (1, 2):
            slopes = self.chain(moments, self.jets_at_lowest([L @ x for L, x in zip(Lambda, u, strict=True)]), order)
            rho = []
            for level, L in enumerate(Lambda):
                q = self.structure.layout.q[level]
                g = L.T @ slopes[slice(0, q), slice(None)] + self.latent.slope(u[level], shapes[level])
                rho.append(g.first if order == 1 else g.second)
                if level < len(Lambda) - 1:
                    slopes = slopes[slice(q, None), slice(None)].map(self.lifts[level])
            step = factors.solve(rho)
            if order == 1:
                u = [Jet(x.value, s, x.second) for x, s in zip(u, step, strict=True)]
            else:
                u = [Jet(x.value, x.first, s) for x, s in zip(u, step, strict=True)]
        return u

    # -- the integral -------------------------------------------------------------------------------------------

    def integral(self, psi: Array, modes: list[Array], n_agq: tuple[int, ...]) -> Jet:
        """Log marginal density of every top-level unit, without its own weight (G_L, 1, 1)."""
        beta, theta, phi = self.split(psi)
        layout, n = self.structure.layout, len(self.structure.layout.q)
        hat = [part.T[:, :, None] for part in modes]
        value_b = self.at_lowest([L @ x for L, x in zip(layout.unpack(theta), hat, strict=True)])
        found = self.partials(self.eta(beta, value_b[..., 0]), phi, 4)
        Lambda, u_hat = self.lambdas(theta), self.mode_jets(psi, modes, found)
        b_hat = [L @ u for L, u in zip(Lambda, u_hat, strict=True)]
        Q = self.Z.shape[-1]
        ZZ = (self.Z[..., :, None] * self.Z[..., None, :]).reshape(*self.Z.shape[:-1], Q * Q)
        C = self.chain(self.moments(found, 2, ZZ, 2), self.jets_at_lowest(b_hat)).times(-1.0).map(_square, Q)
        shapes = self.shapes(psi, len(psi))
        levels = eliminate(Lambda, C, self.lifts, prior=self.prior(u_hat, shapes))
        u, b = self._nodes(levels, u_hat, b_hat, n_agq)
        at_nodes = self.at_lowest_nodes(b)
        if max(n_agq) == 1:
            found_nodes = found
        else:
            found_nodes = self.partials(self.eta(beta, at_nodes.value[..., 0]), phi, 2)
        value = self.chain(self.moments(found_nodes, 0, None, 2), at_nodes)
        for level in range(n):
            value = value + self.latent.density(u[level], shapes[level])
            if n_agq[level] > 1:
                value = log_sum_exp(value, product_rule(n_agq[level], layout.q[level])[1])
            else:
                value = value.map(_first_node)
            value = value - levels[level].logdet.times(0.5)
            if level < n - 1:
                value = value.map(self.lifts[level])
        return value

    def at_lowest_nodes(self, b: list[Jet]) -> Jet:
        """Stack effects at nodes of all levels, (K_L, ..., K_l, G_l, q_l, 1) each, as (K_L, ..., K_1, G_1, Q, 1)."""
        lowered = [part.map(self.lower, level, 0).map(_insert, level) for level, part in enumerate(b)]
        lead = np.broadcast_shapes(*(part.value.shape[:-2] for part in lowered))
        return stacked([part.map(_widen, lead) for part in lowered])

    def _nodes(
        self, levels: list[Eliminated], u_hat: list[Jet], b_hat: list[Jet], n_agq: tuple[int, ...]
    ) -> tuple[list[Jet], list[Jet]]:
        """Place the nodes from the top level down (theory, eq. 48)."""
        n = len(levels)
        u: list[Any] = [None] * n
        b: list[Any] = [None] * n
        for level in range(n - 1, -1, -1):
            one, here = levels[level], u_hat[level].map(_insert, n - 1 - level)
            if any(many > 1 for many in n_agq[level + 1 :]):
                moved = [
                    (b[above] - b_hat[above].map(_insert, n - above)).map(self.lower, above, level)
                    for above in range(level + 1, n)
                ]
                moved = [part.map(_insert, above) for above, part in enumerate(moved)]
                lead = np.broadcast_shapes(*(part.value.shape[:-2] for part in moved))
                across = one.across @ stacked([part.map(_widen, lead) for part in moved])
                here = here - one.M.solve(one.Lambda.T @ across)
            here = here.map(_insert, 1)
            if n_agq[level] > 1:
                grid = product_rule(n_agq[level], self.structure.layout.q[level])[0].T[:, None, :, None]  # (K, 1, q, 1)
                here = here + one.M.cholesky().T.map(_insert, 1).solve(Jet.constant(grid))
            u[level] = here
            b[level] = one.Lambda @ here
        return u, b


@dataclass(frozen=True)
class Factors:
    """The joint Hessian at one point, factored level by level in numbers."""

    chunk: DirectChunk
    Lambda: list[Array]
    inverse: list[Array]
    across: list[Array]

    @classmethod
    def of(cls, chunk: DirectChunk, Lambda: list[Array], C: Array, floor: float, prior: list[Jet]) -> Factors:
        """Factor curvature C (G_1, Q, Q) of the rows; eigenvalues of M below ``floor`` are raised to it."""
        levels = eliminate([Jet.constant(L[None]) for L in Lambda], Jet.constant(C), chunk.lifts, floor, prior)
        inverse = [inverted(one.M.value) for one in levels]
        across = [L.T @ one.across.value for L, one in zip(Lambda, levels, strict=True)]
        return cls(chunk, Lambda, inverse, across)

    def solve(self, rho: list[Array]) -> list[Array]:
        """Solve the joint system for right-hand sides (..., G_l, q_l, 1) per level, on the whitened scale."""
        pending: Any = None
        low = []
        for level, right in enumerate(rho):
            q = right.shape[-2]
            if pending is not None:
                right, pending = right + self.Lambda[level].T @ pending[..., :q, :], pending[..., q:, :]
            low.append(self.inverse[level] @ right)
            if level < len(rho) - 1:
                rest = -(self.across[level].swapaxes(-1, -2) @ low[level])
                pending = self.chunk.lifts[level](rest if pending is None else pending + rest)
        out: list[Array] = [low[-1]]
        above = self.Lambda[-1] @ low[-1]  # b of the levels above, at the units of this one
        for level in range(len(rho) - 2, -1, -1):
            above = above[..., self.chunk.parents[level], :, :]
            u = low[level] - self.inverse[level] @ (self.across[level] @ above)
            out.insert(0, u)
            above = np.concatenate([self.Lambda[level] @ u, above], axis=-2)
        return out


def log_sum_exp(values: Jet, log_weights: Array) -> Jet:
    """Log of the weighted sum of exponentials over the nodes, (..., K, G, 1, 1) to (..., G, 1, 1)."""
    shifted = values.value + log_weights[:, None, None, None]
    top = shifted.max(axis=-4, keepdims=True)
    share = np.exp(shifted - top)
    whole = share.sum(axis=-4, keepdims=True)
    share = share / whole
    i, j = pairs(values.t)
    first = (share * values.first).sum(axis=-4)
    second = (share * (values.second + values.first[i] * values.first[j])).sum(axis=-4) - first[i] * first[j]
    return Jet((np.log(whole) + top)[..., 0, :, :, :], first, second)


def _insert(values: Array, count: int) -> Array:
    """Insert axes of nodes, of length 1, before the units of (..., G, r, s)."""
    return values.reshape(*values.shape[:-3], *[1] * count, *values.shape[-3:])


def _widen(values: Array, lead: tuple[int, ...]) -> Array:
    """Broadcast the axes (K, ..., G) of values (channels, K, ..., G, r, s), or (K, ..., G, r, s), to ``lead``."""
    front = values.shape[: values.ndim - 2 - len(lead)]
    return np.broadcast_to(values, (*front, *lead, *values.shape[-2:]))


def _first_node(values: Array) -> Array:
    return values[..., 0, :, :, :]


def _square(values: Array, Q: int) -> Array:
    """Lay columns (..., Q Q, 1) out as (..., Q, Q)."""
    return values.reshape(*values.shape[:-2], Q, Q)


class DirectChunks:
    """All chunks of the sample in numpy; arguments as `objective.IntegratedObjective`."""

    side_by_side = True
    of_chunk = DirectChunk

    def __init__(
        self, structure: MarginalStructure, chunks: list[Chunk], rows: RowArrays, n_agq: tuple[int, ...]
    ) -> None:
        self.structure, self.chunks, self.rows, self.n_agq = structure, chunks, rows, n_agq
        self._outcome: tuple[int, list[DirectChunk]] = (-1, [])
        self._last: dict[int, tuple[Any, Jet]] = {}

    def with_nodes(self, n_agq: tuple[int, ...], structure: MarginalStructure) -> DirectChunks:
        """Give the same with other numbers of nodes; data are shared."""
        other = DirectChunks(structure, self.chunks, self.rows, n_agq)
        other._outcome = self._outcome
        return other

    def with_weights(self, chunks: list[Chunk], rows: RowArrays) -> DirectChunks:
        """Give the same under other weights of rows and units."""
        return type(self)(self.structure, chunks, rows, self.n_agq)

    def prepare(self, k: int) -> None:
        """Lay the rows out for an outcome."""
        if self._outcome[0] != k:
            self._last = {}
            self._outcome = (k, [self.of_chunk(self.structure, chunk, self.rows, k) for chunk in self.chunks])

    def chunk(self, number: int, k: int) -> DirectChunk:
        """Give one chunk, laid out for an outcome."""
        self.prepare(k)
        return self._outcome[1][number]

    def newton_step(self, number: int, psi: Array, k: int, modes: list[Array]) -> dict[str, Array]:
        """Give the outputs of `marginal.mode_graph` for one chunk; padding does not move."""
        units = self.chunks[number].n_units
        out = self.chunk(number, k).newton_step(psi, [u[:, :n] for u, n in zip(modes, units, strict=True)])
        for level, u in enumerate(modes):
            out[f"step{level}"] = _padded(out[f"step{level}"], u.shape[1])
        return out | {name: _padded(out[name], modes[-1].shape[1]) for name in ("J", "rise")}

    def _jet(self, number: int, psi: Array, k: int, modes: list[Array]) -> Jet:
        key = (k, psi.tobytes(), [u.tobytes() for u in modes])
        if number not in self._last or self._last[number][0] != key:
            chunk, units = self.chunk(number, k), self.chunks[number].n_units
            jet = chunk.integral(psi, [u[:, :n] for u, n in zip(modes, units, strict=True)], self.n_agq)
            self._last[number] = (key, jet)
        return self._last[number][1]

    def evaluate(self, number: int, psi: Array, k: int, modes: list[Array]) -> tuple[Array, Array]:
        """Give log-densities of the top-level units of one chunk (G,), without their weights, and scores (P, G)."""
        jet = self._jet(number, psi, k, modes)
        return jet.value[:, 0, 0], jet.first[:, :, 0, 0] * self.chunk(number, k).w_units[-1]

    def hessian(self, number: int, psi: Array, k: int, modes: list[Array]) -> Array:
        """Second derivatives of the weighted log-likelihood of one chunk (P, P)."""
        second = self._jet(number, psi, k, modes).second[:, :, 0, 0] @ self.chunk(number, k).w_units[-1]
        return symmetric(second, len(psi))


def _padded(values: Array, n: int) -> Array:
    """Fill the last axis up with zeros."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, n - values.shape[-1])])


def predicted_seconds(
    structure: MarginalStructure, n: int, units: int, chunks: int, n_agq: tuple[int, ...], evaluations: int = 10
) -> float:
    """Estimate what a fit of one outcome takes in numpy: ten evaluations, each with its search for modes.

    ``n`` rows in ``units`` lowest units, cut into ``chunks`` chunks.
    """
    q, r = structure.layout.q, structure.p + sum(structure.layout.q)
    P = structure.p + structure.layout.n_theta + structure.n_phi
    nodes = int(np.prod([many**size for many, size in zip(n_agq, q, strict=True)]))
    by_row = n * ((nodes + 8) * 2.5e-7 + (nodes + sum(q) ** 2) * r * r * 4e-9)
    by_unit = units * P * P * (nodes * r + 20 * sum(q)) * 4e-9
    return evaluations * (0.004 * len(q) * chunks + by_row + by_unit)
