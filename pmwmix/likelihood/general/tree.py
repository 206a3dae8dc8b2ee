"""Blocks of a joint Hessian over nested random effects, as a graph: factor it level by level, solve with it.

The joint log-density J of all random effects of a top-level unit, at fixed parameters, is a tree: effects of a unit
meet those of the units above it and no others. Theory page, eqs. 42-45. Random effects are whitened: b = Lambda u,
u ~ N(0, I).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytensor.tensor as pt

from pmwmix.likelihood.ops.segment import segment_sum, spread
from pmwmix.likelihood.ops.smallmat import Column, Factor, Matrix, factorise, inner, product, total, transposed_times


@dataclass(frozen=True)
class Tree:
    """Symbolic shape of a chunk of the sample. All as in `tiles.Chunk`.

    Parameters
    ----------
    tile_to, parents, to_top, w, omega : tuple of PyTensor vectors, bottom-up
    """

    tile_to: tuple[Any, ...]
    parents: tuple[Any, ...]
    to_top: tuple[Any, ...]
    w: tuple[Any, ...]
    omega: tuple[Any, ...]

    def flat(self) -> list[Any]:
        """List all symbols."""
        return [*self.tile_to, *self.parents, *self.to_top, *self.w, *self.omega]

    @classmethod
    def symbols(cls, n: int) -> Tree:
        """Make the symbols of ``n`` levels."""

        def vectors(name: str, count: int, dtype: str = "float64") -> tuple[Any, ...]:
            return tuple(pt.tensor(f"{name}{level}", shape=(None,), dtype=dtype) for level in range(count))

        return cls(
            vectors("tile_to", n, "int64"),
            vectors("parent", n - 1, "int64"),
            vectors("to_top", n, "int64"),
            vectors("w", n),
            vectors("omega", n),
        )

    @classmethod
    def of_flat(cls, n: int, symbols: Sequence[Any]) -> Tree:
        """Undo `flat`."""
        sizes, parts, at = (n, n - 1, n, n, n), [], 0
        for size in sizes:
            parts.append(tuple(symbols[at : at + size]))
            at += size
        return cls(*parts)

    def from_tiles(self, values: Any) -> Any:
        """Sum tiles (..., T) into the lowest units (..., G_1)."""
        return segment_sum(values, self.tile_to[0], self.w[0])

    def lift(self, values: Any, level: int) -> Any:
        """Weighted sum of the units of a level into their parents (..., G_(l+1))."""
        return segment_sum(values * self.w[level], self.parents[level], self.w[level + 1])

    def lower(self, values: Any, start: int, stop: int) -> Any:
        """Copy values of the units of level ``start`` to the units of the lower level ``stop``."""
        for level in range(start - 1, stop - 1, -1):
            values = spread(values, self.parents[level])
        return values

    def own(self, values: Any, level: int) -> Any:
        """Copy values of top-level units to the units of a level."""
        return values if level == len(self.w) - 1 else spread(values, self.to_top[level])


@dataclass(frozen=True)
class Curvature:
    """The factored tree.

    Parameters
    ----------
    Lambda : list of nested lists
        Cholesky factors per level; entries are arrays over the level's units.
    factors : list of Factor
        Of M = P + Lambda'C Lambda per level, P the curvature of the effects' own density and C that left over by the
        levels below.
    cross : list of list of columns
        Per level and random column of any level above: Lambda'C between the level's effects and that column.
    rows : nested list, Q x Q
        Curvature of the rows between random columns per lowest unit.
    """

    Lambda: list[Matrix]
    factors: list[Factor]
    cross: list[list[Column]]
    rows: Matrix


def factor_tree(
    tree: Tree, q: Sequence[int], Lambda: list[Matrix], C: Matrix, prior: list[Matrix], floor: float
) -> Curvature:
    """Factor the joint Hessian from the lowest level up (theory, eqs. 6-8 with row weights w_i times -l'').

    Parameters
    ----------
    tree : Tree
    q : sequence of int
    Lambda : list of nested lists
    C : nested list, Q x Q
        Curvature between random columns per lowest unit.
    prior : list of nested lists
        Lower triangle of the curvature of the random effects' own density per level; the identity where it is normal.
    floor : float
        Smallest pivot of a factor.

    Returns
    -------
    Curvature
    """
    factors, cross, rows = [], [], C
    for level, size in enumerate(q):
        L = Lambda[level]
        found = factorise(inner(L, [row[:size] for row in C[:size]], prior[level]), floor)
        factors.append(found)
        upper = [transposed_times(L, [C[i][j] for i in range(size)]) for j in range(size, len(C))]
        cross.append(upper)
        if level < len(q) - 1:
            solved = [found.solve(column) for column in upper]
            n = len(upper)
            C = [
                [
                    tree.lift(_minus(C[size + i][size + j], upper[i], solved[j]), level) if j <= i else None
                    for j in range(n)
                ]
                for i in range(n)
            ]
            C = [[C[max(i, j)][min(i, j)] for j in range(n)] for i in range(n)]
    return Curvature(Lambda, factors, cross, rows)


def _minus(block: Any, left: Column, right: Column) -> Any:
    gone = total([product(a, b) for a, b in zip(left, right, strict=True)])
    return block if gone is None else block - gone


def solve_tree(tree: Tree, q: Sequence[int], curvature: Curvature, rho: list[Column]) -> list[Column]:
    """Solve the joint system for right-hand sides per unit, each divided by the unit's cumulated weight.

    Parameters
    ----------
    tree, q, curvature
    rho : list of columns
        ``rho[l][c]`` (G_l,).

    Returns
    -------
    list of columns
        In the whitened scale, bottom-up.
    """
    pending: list[Any] = [None] * sum(q[1:])  # what lower levels subtract, per column above, on the scale of b
    solved_low: list[Column] = []
    for level, size in enumerate(q):
        fixed = transposed_times(curvature.Lambda[level], pending[:size]) if level else [None] * size
        right = [total([r, f]) for r, f in zip(rho[level], fixed, strict=True)]
        solved = curvature.factors[level].solve(right)
        solved_low.append(solved)
        if level < len(q) - 1:
            rest = pending[size:] if level else pending
            new = []
            for known, column in zip(rest, curvature.cross[level], strict=True):
                gone = total([product(a, b) for a, b in zip(column, solved, strict=True)])
                new.append(tree.lift(total([known, None if gone is None else -gone]), level))
            pending = new
    out: list[Column] = []
    b_above: list[tuple[int, Column]] = []  # level and b of it, bottom-up
    for level in range(len(q) - 1, -1, -1):
        u = solved_low[level]
        if b_above:
            b = [tree.lower(entry, above, level) for above, column in b_above for entry in column]
            u = _regress(curvature, level, u, b)
        out.insert(0, u)
        L = curvature.Lambda[level]
        size = q[level]
        b_above.insert(0, (level, [total([product(L[i][j], u[j]) for j in range(size)]) for i in range(size)]))
    return out


def _regress(curvature: Curvature, level: int, u: Column, b: Column) -> Column:
    """Take the part of the effects above, b, out of u: u - M⁻¹ Lambda'C b."""
    pulled = [
        total([product(column[i], value) for column, value in zip(curvature.cross[level], b, strict=True)])
        for i in range(len(u))
    ]
    shift = curvature.factors[level].solve(pulled)
    return [x if s is None else x - s for x, s in zip(u, shift, strict=True)]
