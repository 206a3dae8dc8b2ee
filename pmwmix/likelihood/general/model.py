"""A generalised model over one chunk of rows, as a graph: its structure, its symbols, its densities and curvatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytensor.tensor as pt

from pmwmix.families import FAMILIES, Family
from pmwmix.likelihood.general.tree import Curvature, Tree, factor_tree
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.ops.segment import spread
from pmwmix.likelihood.ops.smallmat import Column, Matrix, product, total
from pmwmix.links import LINKS, Link


@dataclass(frozen=True)
class MarginalStructure:
    """What decides the shape of the graph: everything else is data.

    Parameters
    ----------
    layout : ThetaLayout
    p : int
        Number of fixed columns.
    family, link : str
    n_phi : int
        Number of further parameters of the family.
    ones : tuple of bool, length Q
        Random columns that are constant 1.
    adaptive : tuple of bool
        Levels with more than one node.
    """

    layout: ThetaLayout
    p: int
    family: str
    link: str
    n_phi: int
    ones: tuple[bool, ...]
    adaptive: tuple[bool, ...]

    @property
    def parts(self) -> tuple[Family, Link]:
        """The implementations."""
        return FAMILIES[self.family], LINKS[self.link]

    @property
    def n_levels(self) -> int:
        """Number of grouping levels."""
        return len(self.layout.q)


@dataclass(frozen=True)
class RowData:
    """Symbolic rows of a chunk, in tiles (lanes, T).

    Parameters
    ----------
    Z : tensor (Q, lanes, T)
    y, w : tensor (lanes, T)
    extra : tuple of tensors (lanes, T)
    """

    Z: Any
    y: Any
    w: Any
    extra: tuple[Any, ...]

    def flat(self) -> list[Any]:
        """List all symbols."""
        return [self.Z, self.y, self.w, *self.extra]

    @classmethod
    def symbols(cls, structure: MarginalStructure) -> RowData:
        """Make the symbols."""
        rows = (None, None)
        extra = tuple(pt.tensor(f"extra{k}", shape=rows) for k in range(structure.parts[0].n_extra))
        Z = pt.tensor("Z", shape=(sum(structure.layout.q), None, None))
        return cls(Z, pt.tensor("y", shape=rows), pt.tensor("w_row", shape=rows), extra)

    @classmethod
    def of_flat(cls, symbols: list[Any]) -> RowData:
        """Undo `flat`."""
        return cls(symbols[0], symbols[1], symbols[2], tuple(symbols[3:]))


@dataclass(frozen=True)
class Model:
    """One chunk of the model: data, and parameters, of which each top-level unit may have its own copy.

    Parameters
    ----------
    structure : MarginalStructure
    rows : RowData
    tree : Tree
    eta0 : tensor (lanes, T)
        Fixed part and offset.
    theta : tensor (n_theta, G_L), or (n_theta,) for all units
    phi : list of tensors (T,), or of scalars for all units
    """

    structure: MarginalStructure
    rows: RowData
    tree: Tree
    eta0: Any
    theta: Any
    phi: list[Any]

    def flat(self) -> list[Any]:
        """List all symbols; parameters first."""
        return [self.eta0, self.theta, *self.phi, *self.rows.flat(), *self.tree.flat()]

    @classmethod
    def of_flat(cls, structure: MarginalStructure, symbols: list[Any]) -> Model:
        """Undo `flat`."""
        n_tree = 5 * structure.n_levels - 1
        phi = list(symbols[2 : 2 + structure.n_phi])
        rows = RowData.of_flat(symbols[2 + structure.n_phi : len(symbols) - n_tree])
        tree = Tree.of_flat(structure.n_levels, symbols[len(symbols) - n_tree :])
        return cls(structure, rows, tree, symbols[0], symbols[1], phi)

    def density(self, eta: Any) -> Any:
        """Log-density of every row at a linear predictor (..., lanes, T)."""
        family, link = self.structure.parts
        return family.log_density(link, self.rows.y, self.rows.extra, eta, self.phi)

    def Lambdas(self) -> list[Matrix]:
        """Cholesky factors per level."""
        layout, out = self.structure.layout, []
        for level, q in enumerate(layout.q):
            Lambda: Matrix = [[None] * q for _ in range(q)]
            for i, j, k in layout.entries[level]:
                Lambda[i][j] = self.tree.own(self.theta[k], level) if self.theta.type.ndim > 1 else self.theta[k]
            out.append(Lambda)
        return out

    def times_z(self, column: int, values: Any) -> Any:
        """Multiply values (..., lanes or 1, T) by a random column."""
        return values if self.structure.ones[column] else values * self.rows.Z[column]

    def random_part(self, b: list[Column]) -> Any:
        """Add Z b over all levels: b[l][c] of shape (K_top, ..., K_l, G_l) or (G_l,)."""
        out, column = None, 0
        for level, entries in enumerate(b):
            for entry in entries:
                tiles = spread(entry, self.tree.tile_to[level])
                insert = level + 1 if entry.type.ndim > 1 else 1
                part = self.times_z(column, insert_axes(tiles, insert))
                out = part if out is None else out + part
                column += 1
        return out

    def b_of(self, Lambda: list[Matrix], u: list[Column]) -> list[Column]:
        """Compute b = Lambda u."""
        out = []
        for L, entries in zip(Lambda, u, strict=True):
            q = range(len(entries))
            out.append([total([product(L[i][j], entries[j]) for j in q]) for i in q])
        return out

    def curvature(self, Lambda: list[Matrix], second: Any, floor: float) -> Curvature:
        """Factor the joint Hessian, given l'' of every row (lanes, T)."""
        Q = len(self.structure.ones)
        kappa = -self.rows.w * second
        C: Matrix = [[None] * Q for _ in range(Q)]
        for i in range(Q):
            left = self.times_z(i, kappa)
            for j in range(i + 1):
                C[i][j] = C[j][i] = self.tree.from_tiles(pt.sum(self.times_z(j, left), axis=0))
        return factor_tree(self.tree, self.structure.layout.q, Lambda, C, floor)

    def slopes(self, first: Any) -> list[list[Any]]:
        """Weighted sums of z l' per unit at every level, (G_l,), given l' of every row; before Lambda."""
        Q = len(self.structure.ones)
        wl = self.rows.w * first
        sums = [self.tree.from_tiles(pt.sum(self.times_z(c, wl), axis=0)) for c in range(Q)]
        out = []
        for level, q in enumerate(self.structure.layout.q):
            out.append(sums[:q])
            if level < self.structure.n_levels - 1:
                sums = [self.tree.lift(s, level) for s in sums[q:]]
        return out


def insert_axes(values: Any, count: int) -> Any:
    """Insert axes of length 1 before the last one."""
    n = values.type.ndim
    return values.dimshuffle(*range(n - 1), *["x"] * count, n - 1)
