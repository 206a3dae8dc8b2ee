"""Sums over rows of a density's derivatives, per lowest unit, and the jets of those sums. Numpy only.

Rows are read once per node, whatever the number of parameters: what is summed are the density's derivatives times
products of the row's columns; the rest is algebra of units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.partials import partials
from pmwmix.likelihood.general.tiles import Chunk
from pmwmix.likelihood.jets import Jet, pairs


@dataclass(frozen=True)
class Moments:
    """Sums over the rows of each lowest unit of a derivative of the density times columns of the row.

    With m the products that are asked for (1, z or zz') and v = (x, z) the r columns of the row:

    Parameters
    ----------
    value : ndarray, shape (..., G_1, m)
        Sum of w l m.
    by_eta : ndarray, shape (..., G_1, m, r)
        Sum of w l' m v.
    by_eta_eta : ndarray, shape (..., G_1, m, r, r)
        Sum of w l'' m v v'.
    by_phi : list of ndarray
        Per further parameter, as ``value``, of the derivative in it.
    by_phi_eta : list of ndarray
        As ``by_eta``.
    by_phi_phi : list of list of ndarray
        As ``value``.
    """

    value: Array
    by_eta: Array
    by_eta_eta: Array
    by_phi: list[Array]
    by_phi_eta: list[Array]
    by_phi_phi: list[list[Array]]


class RowSums:
    """The rows of one chunk of the sample: read once per node, for sums over each lowest unit.

    Parameters
    ----------
    structure : MarginalStructure
    chunk : Chunk
    rows : RowArrays
    k : int
        Outcome.
    """

    def __init__(self, structure: MarginalStructure, chunk: Chunk, rows: RowArrays, k: int) -> None:
        self.structure, n = structure, chunk.n_units
        tiles = chunk.tile_to[0] < n[0]
        at, real = chunk.rows[:, tiles].T, chunk.real[:, tiles].T  # (T, lanes)
        self.X = [column[at] for column in rows.X]
        self.Z = np.stack([column[at] for column in rows.Z], axis=-1)
        self.V = np.stack([*self.X, *np.moveaxis(self.Z, -1, 0)], axis=-1)  # (T, lanes, r)
        self.w, self.offset = np.where(real, rows.w[at], 0.0), rows.offset[at]
        self.y, self.extra = rows.y[k][at], [part[at] for part in rows.extra[k]]
        self.tile_to = chunk.tile_to[0][tiles]
        self.from_tiles = np.flatnonzero(np.append(True, self.tile_to[1:] != self.tile_to[:-1]))

    def eta(self, beta: Array, b: Array) -> Array:
        """Linear predictor (..., T, lanes) at random effects b (..., G_1, Q)."""
        fixed = self.offset + self.V[..., : len(beta)] @ beta
        return fixed + np.matmul(self.Z, b[..., self.tile_to, :, None])[..., 0]

    def partials(self, eta: Array, phi: Array, order: int, in_phi: bool = True) -> dict[str, Array]:
        """Weighted derivatives of the density at every row."""
        s = self.structure
        found = partials(s.family, s.link, s.n_family, order, in_phi)(eta, self.y, self.extra, phi)
        return {name: self.w * value for name, value in found.items()}

    def sum_rows(self, values: Array, products: Array | None = None) -> Array:
        """Sum rows (..., T, lanes) times products (T, lanes, m) over each lowest unit, (..., G_1, m)."""
        per_tile = values.sum(axis=-1)[..., None] if products is None else (values[..., None, :] @ products)[..., 0, :]
        return np.add.reduceat(per_tile, self.from_tiles, axis=-2)

    def moments(self, found: dict[str, Array], start: int, left: Array | None, order: int) -> Moments:
        """Sum the derivatives from ``start`` on times ``left`` (T, lanes, m); up to ``order`` further derivatives."""
        V, n_phi = self.V, self.structure.n_family
        r = V.shape[-1]
        m = 1 if left is None else left.shape[-1]
        once = V if left is None else (left[..., :, None] * V[..., None, :]).reshape(*V.shape[:2], m * r)

        def plain(name: str) -> Array:
            return self.sum_rows(found[name], left)

        def linear(name: str) -> Array:
            out = self.sum_rows(found[name], once)
            return out.reshape(*out.shape[:-1], m, r)

        def square(name: str) -> Array:
            per_tile = once.swapaxes(-1, -2) @ (found[name][..., None] * V)  # (..., T, m r, r)
            out = np.add.reduceat(per_tile, self.from_tiles, axis=-3)
            return out.reshape(*out.shape[:-2], m, r, r)

        nothing = np.zeros(0)
        return Moments(
            plain(f"l{start}"),
            linear(f"l{start + 1}") if order > 0 else nothing,
            square(f"l{start + 2}") if order > 1 else nothing,
            [plain(f"p{a}.{start}") for a in range(n_phi)] if order > 0 else [],
            [linear(f"p{a}.{start + 1}") for a in range(n_phi)] if order > 1 else [],
            [[plain(f"p{a}.{b}.{start}") for b in range(a + 1)] for a in range(n_phi)] if order > 1 else [],
        )

    def chain(self, moments: Moments, b: Jet, order: int = 2) -> Jet:
        """Turn moments at random effects b (..., G_1, Q, 1) into jets (..., G_1, m, 1)."""
        p, n_phi, P = self.structure.p, self.structure.n_phi, b.t
        shape = moments.value.shape
        D = np.zeros((P, *b.value.shape[:-2], p + b.value.shape[-2]))
        D[..., p:] = b.first[..., 0]
        for a in range(p):
            D[a, ..., a] = 1.0
        first = np.matmul(moments.by_eta, D[..., None])[..., 0]
        for a, part in enumerate(moments.by_phi):
            first[P - n_phi + a] += part
        if order < 2:
            return Jet(moments.value[..., None], first[..., None], np.zeros((P * (P + 1) // 2, *shape, 1)))
        i, j = pairs(P)
        across = np.matmul(D[..., None, None, :], moments.by_eta_eta)[..., 0, :]  # (P, ..., G_1, m, r)
        second = (across[i] @ D[j][..., None])[..., 0]
        second += (moments.by_eta[..., p:] @ b.second)[..., 0]
        for a, (linear, row) in enumerate(zip(moments.by_phi_eta, moments.by_phi_phi, strict=True)):
            here = P - n_phi + a
            along = np.matmul(linear, D[..., None])[..., 0]
            for c in range(P):
                at = _pair(max(here, c), min(here, c))
                second[at] += along[c] * (2.0 if c == here else 1.0)
            for b_, part in enumerate(row):
                second[_pair(here, P - n_phi + b_)] += part
        return Jet(moments.value[..., None], first[..., None], second[..., None])


def _pair(i: int, j: int) -> int:
    """Place of a pair of parameters, the later first, among second derivatives."""
    return i * (i + 1) // 2 + j
