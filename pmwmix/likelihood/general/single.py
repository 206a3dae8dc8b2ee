"""Models with one grouping level in numpy, without a compiler: modes, quadrature nodes, log-densities and scores.

Rows are read once per node. Everything else is algebra of units and of rows at the mode, in closed form (theory, eqs.
40-50); `singlehessian` has the second derivatives. Arrays have the units last, (..., G), those of nodes first, (G, K,
...).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.general.nodes import product_rule
from pmwmix.likelihood.general.singlerows import SingleRows

FLOOR, SAFE_FLOOR = 1e-8, 0.1  # of the pivots of a curvature; while modes are searched; 1 is that of the prior alone
CELLS = 50_000  # places times nodes that are held at once: arrays stay in the processor's cache


def split(rows: SingleRows, psi: Array) -> tuple[Array, Array, Array]:
    """Part psi into beta, Lambda (q, q) and phi."""
    p, layout = rows.structure.p, rows.structure.layout
    return psi[:p], layout.unpack(psi[p : p + layout.n_theta])[0], psi[p + layout.n_theta :]


def root(M: Array, floor: float) -> Array:
    """Give S with SS' = M⁻¹, the transposed inverse of the Cholesky factor, of matrices (q, q, G)."""
    q = len(M)
    R, S = np.zeros_like(M), np.zeros_like(M)
    for j in range(q):
        R[j, j] = np.sqrt(np.maximum(M[j, j] - (R[j, :j] ** 2).sum(axis=0), floor))
        for i in range(j + 1, q):
            R[i, j] = (M[i, j] - (R[i, :j] * R[j, :j]).sum(axis=0)) / R[j, j]
    for j in range(q):
        S[j, j] = 1.0 / R[j, j]
        for i in range(j + 1, q):
            S[j, i] = -(R[i, j:i] * S[j, j:i]).sum(axis=0) / R[i, i]
    return S


class AtModes:
    """Rows and units at given whitened random effects u (q, G).

    Parameters
    ----------
    rows : SingleRows
    psi : ndarray, shape (P,)
    u : ndarray, shape (q, G)
    order : int
        Highest derivative of the rows' densities.
    floor : float
    """

    def __init__(self, rows: SingleRows, psi: Array, u: Array, order: int, floor: float = FLOOR) -> None:
        self.rows, self.u = rows, u
        beta, self.Lambda, self.phi = split(rows, psi)
        self.b = self.Lambda @ u
        self.fixed = rows.fixed(beta)
        self.eta = self.fixed + self.along(self.b)
        self.found = rows.derivatives(self.eta, self.phi, order)
        self.s = rows.sums(self.weighted("l1"), rows.Z)
        if rows.linear is not None:
            self.s += rows.constant[rows.places]
        self.C = self._curvature()
        M = np.einsum("ca,cdg,db->abg", self.Lambda, self.C, self.Lambda)
        M[range(len(u)), range(len(u))] += 1.0
        self.S = root(M, floor)
        self.inverse = np.einsum("acg,bcg->abg", self.S, self.S)

    def weighted(self, name: str) -> Array:
        """Give derivatives of the rows times their weights (T, L)."""
        return self.rows.omega * self.found[name]

    def along(self, b: Array) -> Array:
        """Give z'b of every row (T, L), of b (q, G)."""
        b = self.rows.spread(b)
        out = self.rows.Z[0] * b[0]
        for z, one in zip(self.rows.Z[1:], b[1:], strict=True):
            out += z * one
        return out

    @cached_property
    def l2(self) -> Array:
        """Weighted second derivatives of the rows."""
        return self.weighted("l2")

    @cached_property
    def l3(self) -> Array:
        """Weighted third derivatives of the rows."""
        return self.weighted("l3")

    def _curvature(self) -> Array:
        q = len(self.u)
        lower, C = self.rows.sums(self.l2, self.rows.ZZ), np.empty((q, q, self.rows.n_units))
        a, b = np.tril_indices(q)
        C[a, b] = C[b, a] = -lower
        return C

    def density(self) -> Array:
        """Give the log-density of the rows of every unit (G,)."""
        rows = self.rows
        value = self.weighted("l0")
        if rows.linear is not None:
            value += rows.linear * self.eta
        return rows.sums(value)


def newton_step(rows: SingleRows, psi: Array, u: Array) -> dict[str, Array]:
    """Give the outputs of `marginal.mode_graph` at modes (q, G)."""
    at = AtModes(rows, psi, u, 2, SAFE_FLOOR)
    gradient = at.Lambda.T @ at.s - u
    step = np.einsum("abg,bg->ag", at.inverse, gradient)
    a, b = np.tril_indices(len(u))
    return {
        "J": at.density() - 0.5 * (u**2).sum(axis=0),
        "rise": (gradient * step).sum(axis=0),
        "step0": step,
        "zz": at.C[a, b],
    }


@dataclass(frozen=True)
class Nodes:
    """What the nodes of all units give.

    Parameters
    ----------
    value : ndarray, shape (G,)
        Log-density of every unit, without its own weight.
    share : ndarray, shape (G, K)
        Share of every node in it.
    u : ndarray, shape (G, K, q)
    slopes : ndarray, shape (G, K, r)
        Sums of w l' v over the rows.
    by_phi : ndarray, shape (G, K, n_phi)
        Sums of the derivatives in the further parameters.
    bend : ndarray, shape (m, T, L)
        Per row the sums over the nodes a of share times w l'' times 1, a_1, ..., a_q, a_1 a_1, a_1 a_2, ..., a_q a_q;
        empty unless second derivatives are asked for.
    bend_phi : ndarray, shape (n_phi, 1 + q, T, L)
        The same with derivatives in eta and the further parameters, up to the a.
    phi_phi : ndarray, shape (n_phi, n_phi, G)
    """

    value: Array
    share: Array
    u: Array
    slopes: Array
    by_phi: Array
    bend: Array
    bend_phi: Array
    phi_phi: Array


def at_mode_alone(at: AtModes, order: int) -> Nodes:
    """Give Laplace's approximation as a rule of one node."""
    rows, n_phi = at.rows, len(at.phi)
    slopes = rows.sums(at.weighted("l1"), rows.V) + rows.constant
    by_phi = np.zeros((rows.n_units, 1, n_phi))
    value = at.density() - 0.5 * (at.u**2).sum(axis=0) + np.log(at.S[range(len(at.u)), range(len(at.u))]).sum(axis=0)
    phi_phi = np.zeros((n_phi, n_phi, rows.n_units))
    bend_phi = np.zeros((n_phi, 1, *at.eta.shape))
    for a in range(n_phi):
        by_phi[:, 0, a] = rows.sums(at.weighted(f"p{a}.0"))
    for a in range(n_phi if order > 1 else 0):
        bend_phi[a, 0] = at.weighted(f"p{a}.1")
        for b in range(a + 1):
            phi_phi[a, b] = phi_phi[b, a] = rows.sums(at.weighted(f"p{a}.{b}.0"))
    one = np.ones((rows.n_units, 1))
    return Nodes(value, one, at.u.T[:, None], slopes.T[:, None], by_phi, at.l2[None], bend_phi, phi_phi)


def at_nodes(at: AtModes, n: int, order: int) -> Nodes:
    """Read the rows at the nodes around the modes (theory, eqs. 48-50), a block of units after the other."""
    rows, q = at.rows, len(at.u)
    grid, logs = product_rule(n, q)
    u = np.einsum("acg,ck->gka", at.S, grid) + at.u.T[:, None]
    products = _monomials(grid) if order > 1 else np.zeros((0, len(logs)))
    ahead = np.stack([at.fixed, *rows.Z], axis=1)  # (T, 1 + q, L)
    base = 0.0 if rows.linear is None else rows.sums(rows.linear * at.fixed)
    volume = np.log(at.S[range(q), range(q)]).sum(axis=0)
    whole = [
        _block(at, ahead, u[units], products, logs, order, units, tiles) for units, tiles in _blocks(rows, len(logs))
    ]
    value, share, slopes, by_phi, bend, bend_phi, phi_phi = (
        parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)
        for axis, parts in zip((0, 0, 0, 0, 1, 2, 2), zip(*whole, strict=True), strict=True)
    )
    return Nodes(value + base + volume, share, u, slopes, by_phi, bend, bend_phi, phi_phi)


def _monomials(grid: Array) -> Array:
    """Multiply the coordinates of nodes (q, K): 1, each, each product of two (m, K)."""
    q = len(grid)
    squares = [grid[a] * grid[b] for a in range(q) for b in range(a, q)]
    return np.stack([np.ones_like(grid[0]), *grid, *squares])


def _blocks(rows: SingleRows, n_nodes: int) -> Iterator[tuple[slice, slice]]:
    """Cut units, and their tiles, into blocks of `CELLS` numbers."""
    per_block = max(CELLS // (n_nodes * rows.V.shape[-1]), 1)
    last = np.append(rows.starts[1:], len(rows.tile_to))
    unit, tile = 0, 0
    while unit < rows.n_units:
        stop = max(int(np.searchsorted(last, tile + per_block, side="right")), unit + 1)
        yield slice(unit, stop), slice(tile, int(last[stop - 1]))
        unit, tile = stop, int(last[stop - 1])


def _block(
    at: AtModes, ahead: Array, u: Array, products: Array, logs: Array, order: int, units: slice, tiles: slice
) -> tuple[Array, ...]:
    """Read the rows of some units at all nodes; ``ahead`` (T, 1 + q, L) makes linear predictors of (1, b)."""
    rows = at.rows
    tile_to = rows.tile_to[tiles] - units.start
    starts = rows.starts[units] - tiles.start

    def summed(values: Array) -> Array:
        return values if rows.alone else np.add.reduceat(values, starts, axis=0)

    b = np.ones((*u.shape[:2], 1 + u.shape[2]))
    np.matmul(u, at.Lambda.T, out=b[..., 1:])
    eta = np.matmul(b if rows.alone else b[tile_to], ahead[tiles])
    found = rows.derivatives(eta, at.phi, max(order, 1), tiles)
    omega = rows.omega[tiles][..., None]
    slopes = summed(found["l1"] @ rows.weighted[tiles])
    value = summed(found["l0"] @ omega)[..., 0]
    by_phi = [summed(found[f"p{a}.0"] @ omega) for a in range(len(at.phi))]
    if rows.linear is not None:
        constant = rows.constant[:, units].T
        slopes += constant[:, None]
        value += (b[..., 1:] @ constant[:, rows.places, None])[..., 0]
    value -= 0.5 * (u**2).sum(axis=-1)
    value += logs
    top = value.max(axis=-1, keepdims=True)
    share = np.exp(value - top)
    whole = share.sum(axis=-1, keepdims=True)
    share /= whole
    second = _bends(at, found, share if rows.alone else share[tile_to], products, tiles, summed)
    phis = np.concatenate(by_phi, axis=-1) if by_phi else np.zeros((*share.shape, 0))
    return (np.log(whole) + top)[:, 0], share, slopes, phis, *second


def _bends(
    at: AtModes, found: dict[str, Array], share: Array, products: Array, tiles: slice, summed: Any
) -> tuple[Array, Array, Array]:
    """Sum second derivatives over the nodes, by row: the fields of `Nodes`."""
    rows, n_phi = at.rows, len(at.phi)
    omega = rows.omega[tiles]
    shape, few = omega.shape, 1 + len(at.u)
    if not len(products):
        return np.zeros((0, *shape)), np.zeros((n_phi, 0, *shape)), np.zeros((n_phi, n_phi, 0))
    along = share[:, None] * products  # (T, m, K)
    bend = omega * (along @ found["l2"]).transpose(1, 0, 2)
    phi_phi = np.zeros((n_phi, n_phi, len(summed(omega))))
    bend_phi = np.zeros((n_phi, few, *shape))
    for a in range(n_phi):
        bend_phi[a] = omega * (along[:, :few] @ found[f"p{a}.1"]).transpose(1, 0, 2)
        for b in range(a + 1):
            over_nodes = np.einsum("tk,tkl->tl", share, found[f"p{a}.{b}.0"])
            phi_phi[a, b] = phi_phi[b, a] = summed((omega * over_nodes).sum(axis=-1))
    return bend, bend_phi, phi_phi
