"""A generalised model with crossed random effects, as a graph: structure, symbols, densities and joint curvature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix.likelihood.crossed.jointblock import CellIndex, Cross, JointCurvature, joint_curvature
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.ops.cells import cell_sum
from pmwmix.likelihood.ops.segment import segment_sum, spread
from pmwmix.likelihood.ops.smallmat import Column, Matrix, total


@dataclass(frozen=True)
class CrossedStructure(MarginalStructure):
    """What decides the shape of the graph; levels are factors, the eliminated one first.

    Columns that are correlated belong to one linear predictor, so that this is known of a column times Lambda too;
    `fitting.general` refuses others.

    Parameters
    ----------
    sparse : bool
        Whether the block between the eliminated effects and the others is kept cell by cell.
    counted : bool
        Whether independent parts of the sample have weights.
    """

    sparse: bool = False
    counted: bool = False


@dataclass(frozen=True)
class CrossedRows:
    """Symbolic rows and the units that they belong to.

    Parameters
    ----------
    Z : tensor (Q, n)
        Random columns; those of the eliminated factor come first.
    y, w : tensor (n,)
    extra : tuple of tensors (n,)
    unit : tensor of int (n,)
        Unit of the eliminated factor.
    place : tensor of int (Q_B, n)
        Effect of the dense block that each of the other random columns multiplies.
    part : tensor of int (n,)
        Independent part of the sample; each has its own copy of the parameters.
    units, places, parts : tensors of int (G,), (D,), (C,)
        0, 1, 2, ...
    cell : tensor of int (Q_B, n)
        Cell in which a row's unit meets each of these effects; ignored without ``cells``.
    cells : CellIndex or None
    """

    Z: Any
    y: Any
    w: Any
    extra: tuple[Any, ...]
    unit: Any
    place: Any
    part: Any
    units: Any
    places: Any
    parts: Any
    cell: Any = None
    cells: CellIndex | None = None

    def flat(self) -> list[Any]:
        """List all symbols."""
        index = [self.unit, self.place, self.part, self.units, self.places, self.parts]
        cells = [] if self.cells is None else [self.cell, *self.cells.flat()]
        return [self.Z, self.y, self.w, *self.extra, *index, *cells]

    @classmethod
    def of_flat(cls, structure: CrossedStructure, symbols: list[Any]) -> CrossedRows:
        """Undo `flat`."""
        n = 3 + structure.parts[0].n_extra
        first, rest = list(symbols[:3]), list(symbols[n : n + 6])
        cells = [symbols[n + 6], CellIndex(*symbols[n + 7 :])] if structure.sparse else []
        return cls(*[*first, tuple(symbols[3:n]), *rest, *cells])

    @classmethod
    def symbols(cls, structure: CrossedStructure) -> CrossedRows:
        """Make the symbols."""

        def vector(name: str, dtype: str = "float64") -> Any:
            return pt.tensor(name, shape=(None,), dtype=dtype)

        Q, q = sum(structure.layout.q), structure.layout.q[0]
        extra = tuple(vector(f"extra{k}") for k in range(structure.parts[0].n_extra))
        rest = [vector(name, "int64") for name in ("part", "units", "places", "parts")]
        place = pt.tensor("place", shape=(Q - q, None), dtype="int64")
        Z = pt.tensor("Z", shape=(Q, None))
        cells: list[Any] = [place.type("cell"), CellIndex.symbols()] if structure.sparse else []
        return cls(Z, vector("y"), vector("w_row"), extra, vector("unit", "int64"), place, *[*rest, *cells])


@dataclass(frozen=True)
class CrossedModel:
    """The model over all rows, and parameters of which each independent part of the sample has its own copy.

    Parameters
    ----------
    structure : CrossedStructure
    rows : CrossedRows
    eta0 : list of tensors (n,)
        Fixed part of every linear predictor, of the first with the offset.
    theta : tensor (n_theta, C)
    phi : list of tensors (n,)
    """

    structure: CrossedStructure
    rows: CrossedRows
    eta0: list[Any]
    theta: Any
    phi: list[Any]

    def flat(self) -> list[Any]:
        """List all symbols; parameters first."""
        return [*self.eta0, self.theta, *self.phi, *self.rows.flat()]

    @classmethod
    def of_flat(cls, structure: CrossedStructure, symbols: list[Any]) -> CrossedModel:
        """Undo `flat`."""
        D = structure.n_predictors
        n = D + 1 + structure.n_phi
        rows = CrossedRows.of_flat(structure, symbols[n:])
        return cls(structure, rows, list(symbols[:D]), symbols[D], list(symbols[D + 1 : n]))

    def density(self, etas: list[Any]) -> Any:
        """Log-density of every row at its linear predictors, each (n,)."""
        return self.structure.log_density(self.rows.y, self.rows.extra, etas, self.phi)

    def whitened(self) -> tuple[Column, Any]:
        """Random columns times Lambda: a list of q (n,), and (Q_B, n); b = Lambda u, so that Z b is these times u."""
        layout, first = self.structure.layout, 0
        own: Column = [None] * layout.q[0]
        others: Any = None
        n_others = sum(layout.q[1:])
        for level, (q, entries) in enumerate(zip(layout.q, layout.entries, strict=True)):
            for i, j, k in entries:
                term = spread(self.theta[k], self.rows.part)
                term = term if self.structure.ones[first + i] else term * self.rows.Z[first + i]
                if level == 0:
                    own[j] = total([own[j], term])
                else:  # JAX cannot split what was stacked, as the derivative of a stack would
                    row = np.eye(n_others)[first + j - layout.q[0]][:, None]
                    others = total([others, row * term[None]])
            first += q
        return own, others

    def etas(self, columns: tuple[Column, Any], u: Column, u_B: Any) -> list[Any]:
        """Linear predictors, as `model.Model.etas`."""
        parts = [0.0 if part is None else part for part in self.random_part(columns, u, u_B)]
        return [e + part for e, part in zip(self.eta0, parts, strict=True)]

    def random_part(self, columns: tuple[Column, Any], u: Column, u_B: Any) -> list[Any]:
        """Add the whitened columns times effects (q vectors (G,), (D,)), per linear predictor; None for nothing."""
        own, others = columns
        terms = [z * spread(x, self.rows.unit) for z, x in zip(own, u, strict=True)]
        terms += [others[k] * spread(u_B, self.rows.place[k]) for k in range(self.n_others)]
        of = [self.structure.predictor_of(c) for c in range(len(terms))]
        n = self.structure.n_predictors
        return [total([term for term, mine in zip(terms, of, strict=True) if mine == p]) for p in range(n)]

    @property
    def n_others(self) -> int:
        """Number of random columns that the dense block belongs to."""
        return sum(self.structure.layout.q[1:])

    def of_others(self, predictor: int) -> Any:
        """Mask (Q_B, 1) of the columns of the dense block that belong to a linear predictor."""
        first = self.structure.layout.q[0]
        mine = [self.structure.predictor_of(first + k) == predictor for k in range(self.n_others)]
        return np.array(mine, dtype=float)[:, None]

    def slopes(self, columns: tuple[Column, Any], first: list[Any]) -> tuple[Column, Any]:
        """Weighted sums of whitened columns times l' per effect."""
        rows, (own, others), of = self.rows, columns, self.structure.predictor_of
        wl = [rows.w * part for part in first]
        low = [segment_sum(z * wl[of(c)], rows.unit, rows.units) for c, z in enumerate(own)]
        n = range(self.n_others)
        high = [segment_sum(others[k] * wl[of(len(own) + k)], rows.place[k], rows.places) for k in n]
        return low, total(high)

    def weighted_others(self, others: Any, kappa: list[list[Any]], predictor: int) -> Any:
        """Columns of the dense block times their curvature with a column of a linear predictor (Q_B, n)."""
        if len(kappa) == 1:
            return kappa[0][0][None] * others
        return total([self.of_others(r) * part[None] for r, part in enumerate(kappa[predictor])]) * others

    def curvature(self, columns: tuple[Column, Any], kappa: list[list[Any]]) -> JointCurvature:
        """Factor I + Z'KZ, Z the whitened columns and K the weighted curvature of the rows (crossed, eq. 3).

        ``kappa`` has a row's curvature between its linear predictors, each entry (n,).
        """
        rows, (own, others), of = self.rows, columns, self.structure.predictor_of
        q, D = len(own), self.structure.n_predictors
        M: Matrix = [[None] * q for _ in range(q)]
        for i in range(q):
            for j in range(i + 1):
                M[i][j] = segment_sum(kappa[of(i)][of(j)] * own[i] * own[j], rows.unit, rows.units)
            M[i][i] = M[i][i] + 1.0
        both_ways = pt.zeros_like(rows.place)
        height, width = rows.place[:, None] + both_ways[None], rows.place[None] + both_ways[:, None]
        weighted = [self.weighted_others(others, kappa, p) for p in range(D)]
        pairs = [part[:, None] * others[None] for part in weighted]
        pairs = pairs if D == 1 else [self.of_others(p)[None] * part for p, part in enumerate(pairs)]
        dense = cell_sum(total(pairs), height, width, rows.places, rows.places)
        with_own = [(z, weighted[of(c)]) for c, z in enumerate(own)]
        if rows.cells is None:
            unit = rows.unit[None] + both_ways
            values = [cell_sum(z[None] * part, rows.place, unit, rows.places, rows.units) for z, part in with_own]
        else:
            n = range(self.n_others)
            values = [
                total([segment_sum(z * part[k], rows.cell[k], rows.cells.unit) for k in n]) for z, part in with_own
            ]
        return joint_curvature(M, Cross(values, rows.cells, rows.units, rows.places), dense)
