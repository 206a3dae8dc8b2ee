"""The block between eliminated and other crossed effects, whole or cell by cell, and solving with what it leaves.

A unit of the eliminated factor A meets few of the other effects in most data, so that only its cells are kept and the
Schur complement is summed over pairs of cells of a unit; where most meet most, whole matrices are faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pmwmix.likelihood.ops.cells import cell_sum
from pmwmix.likelihood.ops.registry import register
from pmwmix.likelihood.ops.segment import segment_sum, spread
from pmwmix.likelihood.ops.smallmat import Column, Factor, InverseLogDet, Matrix, factorise, total
from pmwmix.links._vectorise import vectorised

FLOOR = 1e-8  # of the pivots of a curvature; 1 is that of the prior alone


@dataclass(frozen=True)
class CellIndex:
    """Symbols of the cells in which a unit of A meets an effect of the dense block; as in `units.Cells`.

    Parameters
    ----------
    unit, place : tensors of int (N,)
    one, other : tensors of int (P,)
        Pairs of cells of the same unit, each once.
    share : tensor (P,)
        1/2 for a cell with itself, else 1.
    """

    unit: Any
    place: Any
    one: Any
    other: Any
    share: Any

    def flat(self) -> list[Any]:
        """List all symbols."""
        return [self.unit, self.place, self.one, self.other, self.share]

    @classmethod
    def symbols(cls) -> CellIndex:
        """Make the symbols."""
        names = ("cell_unit", "cell_place", "pair_one", "pair_other")
        unit, place, one, other = (pt.tensor(name, shape=(None,), dtype="int64") for name in names)
        return cls(unit, place, one, other, pt.tensor("pair_share", shape=(None,)))


@dataclass(frozen=True)
class Cross:
    """Block (B, A) of a joint Hessian.

    Parameters
    ----------
    values : list of tensors (D, G), or (N,) with cells
        One per effect of a unit of A.
    cells : CellIndex or None
    units, places : tensors (G,), (D,)
        Lend their lengths; ``places`` is 0, 1, 2, ...
    """

    values: Column
    cells: CellIndex | None
    units: Any
    places: Any

    def times(self, column: Column) -> Any:
        """Multiply with q arrays (..., G): (..., D)."""
        if self.cells is None:
            return total([v @ C.T for C, v in zip(self.values, column, strict=True)])
        terms = [C * spread(v, self.cells.unit) for C, v in zip(self.values, column, strict=True)]
        return segment_sum(total(terms), self.cells.place, self.places)

    def transposed(self, values: Any) -> Column:
        """Multiply the transpose with (..., D): q arrays (..., G)."""
        if self.cells is None:
            return [values @ C for C in self.values]
        along = spread(values, self.cells.place)
        return [segment_sum(C * along, self.cells.unit, self.units) for C in self.values]

    def gram(self, M: Matrix, factor: Factor) -> Any:
        """Sum C M⁻¹C' over the units of A (D, D), M the block of A."""
        if self.cells is None:
            return total([C @ s.T for C, s in zip(self.values, factor.solve(self.values), strict=True)])
        cells = self.cells
        own = [[None if x is None else spread(x, cells.unit) for x in row] for row in M]
        solved = factorise(own, FLOOR).solve(self.values)
        pairs = zip(self.values, solved, strict=True)
        products = cells.share * total([spread(C, cells.one) * spread(s, cells.other) for C, s in pairs])
        row, column = spread(cells.place, cells.one), spread(cells.place, cells.other)
        half = cell_sum(products, row, column, self.places, self.places)
        return half + half.T


class SolveGiven(Op):
    """x with Sx = b for the rows of b (..., D), S symmetric, its inverse being given.

    The derivative in S is that of the solution, -S⁻¹ dS x, an outer product instead of two products of matrices.
    """

    __props__ = ()

    def make_node(self, S: Any, inverse: Any, b: Any) -> Apply:  # type: ignore[override]
        S, inverse, b = pt.as_tensor(S), pt.as_tensor(inverse), pt.as_tensor(b)
        return Apply(self, [S, inverse, b], [b.type()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        output_storage[0][0] = inputs[2] @ inputs[1]

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        return [shapes[2]]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [False], [True]]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        S, inverse, _ = inputs
        back: Any = self(S, inverse, cotangents[0])
        x = outputs[0]
        outer = back[:, None] * x[None] if x.type.ndim == 1 else back.T @ x
        return [-0.5 * (outer + outer.T), disconnected_type(), back]


def _one_matrix(S: Any, inverse: Any, b: Any) -> None:
    if inverse.type.ndim != 2:
        raise NotImplementedError("One matrix serves all right-hand sides")


vectorised(SolveGiven, _one_matrix)


@dataclass(frozen=True)
class JointCurvature:
    """The factored joint Hessian M, given by the blocks (A, A), (B, A) and the Schur complement on B.

    Parameters
    ----------
    factor : Factor
        Of the q x q blocks of A, one per unit.
    cross : Cross
    schur, inverse : tensors (D, D)
    logdet : scalar
        Of M.
    """

    factor: Factor
    cross: Cross
    schur: Any
    inverse: Any
    logdet: Any

    def rest(self, right: Column, right_B: Any) -> tuple[Column, Any]:
        """Eliminate A from right-hand sides, q arrays (..., G) and (..., D): solved by A alone, left for B."""
        half = self.factor.solve(right)
        return half, right_B - self.cross.times(half)

    def solve_rest(self, right_B: Any) -> Any:
        """Solve with the Schur complement (..., D)."""
        return SolveGiven()(self.schur, self.inverse, right_B)

    def solve(self, right: Column, right_B: Any) -> tuple[Column, Any]:
        """Compute M⁻¹c for c = (q arrays (..., G), (..., D))."""
        half, left = self.rest(right, right_B)
        u_B = self.solve_rest(left)
        back = self.factor.solve(self.cross.transposed(u_B))
        return [h - b for h, b in zip(half, back, strict=True)], u_B


def joint_curvature(M: Matrix, cross: Cross, dense: Any) -> JointCurvature:
    """Factor M from its blocks; ``dense`` (D, D) is that of B without the identity of the prior (crossed, eq. 4)."""
    factor = factorise(M, FLOOR)
    ones, at = pt.ones_like(cross.places, dtype="float64"), cross.places
    schur = dense + cell_sum(ones, at, at, at, at) - cross.gram(M, factor)
    both: Any = InverseLogDet()(schur)
    return JointCurvature(factor, cross, schur, both[0], pt.sum(factor.logdet) + both[1])


def _jax_solve(op: Any, node: Apply) -> Any:
    return lambda S, inverse, b: b @ inverse


register(SolveGiven, _jax_solve)
