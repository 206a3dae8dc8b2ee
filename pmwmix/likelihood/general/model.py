"""A generalised model over one chunk of rows, as a graph: its structure, its symbols, its densities and curvatures."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix.families import FAMILIES, Family
from pmwmix.likelihood.general.tree import Curvature, Tree, factor_tree
from pmwmix.likelihood.latent import Latent, latent_of
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
        The link is that of the first linear predictor.
    n_phi : int
        Number of further parameters: those of the family, then those of the distribution of the random effects.
    ones : tuple of bool, length Q
        Random columns that are constant 1.
    adaptive : tuple of bool
        Levels with more than one node.
    further : tuple of (str, int)
        Link and first fixed column of every further linear predictor; the columns stand predictor after predictor.
    predictors : tuple of int, length Q
        Linear predictor of every random column; empty if there is only one.
    latent : str
        Distribution of the random effects of nested groups, for `latent_of`; those of crossed ones are normal.
    """

    layout: ThetaLayout
    p: int
    family: str
    link: str
    n_phi: int
    ones: tuple[bool, ...]
    adaptive: tuple[bool, ...]
    further: tuple[tuple[str, int], ...] = ()
    predictors: tuple[int, ...] = ()
    latent: str = "normal"

    @property
    def effects(self) -> Latent:
        """Distribution of the whitened random effects."""
        return latent_of(self.latent)

    @property
    def n_shape(self) -> int:
        """Number of parameters of their distribution, over all levels."""
        return self.effects.n_shape * self.n_levels

    @property
    def n_family(self) -> int:
        """Number of further parameters of the family."""
        return self.n_phi - self.n_shape

    @property
    def parts(self) -> tuple[Family, Link]:
        """The implementations."""
        return FAMILIES[self.family], LINKS[self.link]

    @property
    def links(self) -> tuple[Link, ...]:
        """The link of every linear predictor."""
        return (LINKS[self.link], *(LINKS[name] for name, _ in self.further))

    @property
    def n_predictors(self) -> int:
        """Number of linear predictors of a row."""
        return 1 + len(self.further)

    @property
    def n_levels(self) -> int:
        """Number of grouping levels."""
        return len(self.layout.q)

    def predictor_of(self, column: int) -> int:
        """Give the linear predictor that a random column belongs to."""
        return self.predictors[column] if self.predictors else 0

    def log_density(self, y: Any, extra: tuple[Any, ...], etas: list[Any], phi: list[Any]) -> Any:
        """Log-density of every row at its linear predictors, each (..., rows)."""
        return FAMILIES[self.family].log_density_of(self.links, y, extra, etas, phi)

    def fixed_parts(self, beta: Any, X: Any, offset: Any) -> list[Any]:
        """Write the fixed part of every linear predictor, given coefficients per column; the first has the offset."""
        if not self.further:
            return [(pt.sum(beta * X, axis=0) if self.p else 0.0) + offset]
        edges = np.array([0, *(first for _, first in self.further), self.p])
        parts = []
        for a, b in pairwise(edges):  # masks, as JAX cannot take slices of coefficients apart again in the Hessian
            mine = ((np.arange(self.p) >= a) & (np.arange(self.p) < b)).astype(float)
            parts.append(pt.sum(mine[:, *[None] * (X.type.ndim - 1)] * (beta * X), axis=0) + pt.zeros_like(offset))
        return [parts[0] + offset, *parts[1:]]


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
    eta0 : list of tensors (lanes, T)
        Fixed part of every linear predictor, of the first with the offset.
    theta : tensor (n_theta, G_L), or (n_theta,) for all units
    phi : list of tensors (T,), or of scalars for all units
    """

    structure: MarginalStructure
    rows: RowData
    tree: Tree
    eta0: list[Any]
    theta: Any
    phi: list[Any]

    def flat(self) -> list[Any]:
        """List all symbols; parameters first."""
        return [*self.eta0, self.theta, *self.phi, *self.rows.flat(), *self.tree.flat()]

    @classmethod
    def of_flat(cls, structure: MarginalStructure, symbols: list[Any]) -> Model:
        """Undo `flat`."""
        n_tree, n = 5 * structure.n_levels - 1, structure.n_predictors
        phi = list(symbols[n + 1 : n + 1 + structure.n_phi])
        rows = RowData.of_flat(symbols[n + 1 + structure.n_phi : len(symbols) - n_tree])
        tree = Tree.of_flat(structure.n_levels, symbols[len(symbols) - n_tree :])
        return cls(structure, rows, tree, list(symbols[:n]), symbols[n], phi)

    def density(self, etas: list[Any]) -> Any:
        """Log-density of every row at its linear predictors, each (..., lanes, T)."""
        return self.structure.log_density(self.rows.y, self.rows.extra, etas, self.phi)

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

    def etas(self, b: list[Column]) -> list[Any]:
        """Linear predictors at random effects, as `random_part` takes them: variables to differentiate in.

        One without random effects is not its fixed part itself, on which the modes of the others depend.
        """
        parts = [0.0 if part is None else part for part in self.random_part(b)]
        return [e + part for e, part in zip(self.eta0, parts, strict=True)]

    def random_part(self, b: list[Column]) -> list[Any]:
        """Add Z b over all levels, per linear predictor: b[l][c] of shape (K_top, ..., K_l, G_l) or (G_l,).

        None for a predictor without random effects.
        """
        column, out = 0, [None] * self.structure.n_predictors
        for level, entries in enumerate(b):
            for entry in entries:
                tiles = spread(entry, self.tree.tile_to[level])
                insert = level + 1 if entry.type.ndim > 1 else 1
                part = self.times_z(column, insert_axes(tiles, insert))
                k = self.structure.predictor_of(column)
                out[k] = total([out[k], part])
                column += 1
        return out

    def b_of(self, Lambda: list[Matrix], u: list[Column]) -> list[Column]:
        """Compute b = Lambda u."""
        out = []
        for L, entries in zip(Lambda, u, strict=True):
            q = range(len(entries))
            out.append([total([product(L[i][j], entries[j]) for j in q]) for i in q])
        return out

    def curvature(self, Lambda: list[Matrix], u: list[Column], second: list[list[Any]], floor: float) -> Curvature:
        """Factor the joint Hessian at u, given l'' of every row between its linear predictors (lanes, T).

        C_ij is the sum of z_i z_j (-w d²l / d eta_p d eta_r) with p and r the predictors of the columns i and j.
        """
        Q, of = len(self.structure.ones), self.structure.predictor_of
        kappa = [[-self.rows.w * part for part in row] for row in second]
        C: Matrix = [[None] * Q for _ in range(Q)]
        for i in range(Q):
            left = [self.times_z(i, part) for part in kappa[of(i)]]
            for j in range(i + 1):
                C[i][j] = C[j][i] = self.tree.from_tiles(pt.sum(self.times_z(j, left[of(j)]), axis=0))
        prior = [self.structure.effects.curvatures(column, pt) for column in u]
        return factor_tree(self.tree, self.structure.layout.q, Lambda, C, prior, floor)

    def slopes(self, first: list[Any]) -> list[list[Any]]:
        """Weighted sums of z l' per unit at every level, (G_l,), given l' of every row and predictor; before Lambda."""
        Q, of = len(self.structure.ones), self.structure.predictor_of
        wl = [self.rows.w * part for part in first]
        sums = [self.tree.from_tiles(pt.sum(self.times_z(c, wl[of(c)]), axis=0)) for c in range(Q)]
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
