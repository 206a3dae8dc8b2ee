"""The Gaussian pseudo-likelihood with crossed random effects integrated out in closed form, as a graph.

Crossed page, eqs. 8-11: the factor with the most units is eliminated unit by unit, the effects of all others stand in
one dense block. The counterpart of `linear/nested.py`; sigma and beta are profiled out in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytensor
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.tensor.linalg import inv as matrix_inverse
from pytensor.tensor.linalg import slogdet, solve

from pmwmix.likelihood.crossed.jointblock import CellIndex, Cross, joint_curvature
from pmwmix.likelihood.graph import Graph, jacobian_of
from pmwmix.likelihood.linear.crossproducts import Structure
from pmwmix.likelihood.linear.nested import triangle
from pmwmix.likelihood.ops.cells import cell_spread
from pmwmix.likelihood.ops.segment import segment_sum, spread
from pmwmix.likelihood.ops.smallmat import Column, Matrix, inner, total, transposed_times


@dataclass(frozen=True)
class CrossedLinearStructure(Structure):
    """What decides the shape of the graph; levels are factors, the eliminated one first.

    Parameters
    ----------
    sparse : bool
        Whether the block between the eliminated effects and the others is kept cell by cell.
    """

    sparse: bool = False


@dataclass(frozen=True)
class CrossedInputs:
    """Symbolic data: those of `products.CrossedBlocks` for one outcome, and how the effects hang together.

    Parameters
    ----------
    own, cross, dense, own_x, dense_x, own_y, dense_y
        As there, ``own_y`` (q, G) and ``dense_y`` (D,).
    S0 : tensor (p + 1, p + 1)
    partner : tensor of int (m, D)
        For every whitened effect of the dense block and d = 0, 1, ...: the place of the raw effect d terms further on.
    entry, there : tensor of int, of numbers (m, D)
        Position in theta of the entry of Lambda between the two, and 1; 0 and 0 where there is none.
    part, dense_part : tensor of int (G,), (m, D)
        Independent part of the sample that a unit of A, an effect of the dense block, belongs to.
    units, places, parts : tensor of int (G,), (D,), (C,)
        0, 1, 2, ...
    n : tensor (1,)
        Degrees of freedom of sigma.
    cell_partner : tensor of int (m, N), optional
        As ``partner``, between the cells of a unit; then ``cross`` is (q, N).
    cells : CellIndex, optional
    """

    own: Any
    cross: Any
    dense: Any
    own_x: Any
    dense_x: Any
    own_y: Any
    dense_y: Any
    S0: Any
    partner: Any
    entry: Any
    there: Any
    part: Any
    dense_part: Any
    units: Any
    places: Any
    parts: Any
    n: Any
    cell_partner: Any = None
    cells: CellIndex | None = None

    def flat(self) -> list[Any]:
        """List all inputs, in the order in which data are passed."""
        known = [value for name, value in self.__dict__.items() if name not in ("cell_partner", "cells")]
        return known if self.cells is None else [*known, self.cell_partner, *self.cells.flat()]

    @classmethod
    def symbols(cls, structure: CrossedLinearStructure) -> CrossedInputs:
        """Make the symbols; small dimensions are static."""
        q, m, p = structure.layout.q[0], max(structure.layout.q[1:]), structure.p

        def tensor(name: str, *shape: int | None, dtype: str = "float64") -> Any:
            return pt.tensor(name, shape=shape, dtype=dtype)

        return cls(
            tensor("own", q * (q + 1) // 2, None),
            tensor("cross", q, None) if structure.sparse else tensor("cross", q, None, None),
            tensor("dense", None, None),
            tensor("own_x", q, p, None),
            tensor("dense_x", p, None),
            tensor("own_y", q, None),
            tensor("dense_y", None),
            tensor("S0", p + 1, p + 1),
            tensor("partner", m, None, dtype="int64"),
            tensor("entry", m, None, dtype="int64"),
            tensor("there", m, None),
            tensor("part", None, dtype="int64"),
            tensor("dense_part", m, None, dtype="int64"),
            tensor("units", None, dtype="int64"),
            tensor("places", None, dtype="int64"),
            tensor("parts", None, dtype="int64"),
            tensor("n", 1),
            tensor("cell_partner", m, None, dtype="int64") if structure.sparse else None,
            CellIndex.symbols() if structure.sparse else None,
        )


@dataclass(frozen=True)
class Reduced:
    """A right-hand side after the elimination of A: as it was, solved by A alone, and what is left for the block."""

    own: Column
    half: Column
    rest: Any


class Reduction:
    """The random effects integrated out, theta being given per independent part (n_theta, C)."""

    def __init__(self, structure: CrossedLinearStructure, data: CrossedInputs, own: Any) -> None:
        layout = structure.layout
        q, m = layout.q[0], max(layout.q[1:])
        self.Lambda: Matrix = [[None] * q for _ in range(q)]
        for i, j, k in layout.entries[0]:
            self.Lambda[i][j] = spread(own[k], data.part)
        coefficients = cell_spread(own, data.entry, data.dense_part) * data.there
        self.steps = [(coefficients[d], data.partner[d]) for d in range(m)]
        M = inner(self.Lambda, triangle(data.own, q))
        if data.cells is None:
            half = [self.whiten(data.cross[a]).T for a in range(q)]
            values = transposed_times(self.Lambda, half)
        else:
            at_cells = [(spread(c, data.cells.place), data.cell_partner[d]) for d, (c, _) in enumerate(self.steps)]
            half = [total([c * spread(data.cross[a], at) for c, at in at_cells]) for a in range(q)]
            by_cell = [[None if x is None else spread(x, data.cells.unit) for x in row] for row in self.Lambda]
            values = transposed_times(by_cell, half)
        dense = self.whiten(self.whiten(data.dense).T)
        self.curvature = joint_curvature(M, Cross(values, data.cells, data.units, data.places), dense)

    def whiten(self, values: Any) -> Any:
        """Multiply the last axis (..., D) by Lambda' of the dense block."""
        return total([c * spread(values, at) for c, at in self.steps])

    def reduce(self, own: Column, dense: Any) -> Reduced:
        """Take a right-hand side, q arrays (..., G) and (..., D), through the elimination."""
        white = transposed_times(self.Lambda, own)
        return Reduced(white, *self.curvature.rest(white, self.whiten(dense)))

    def inner(self, one: Reduced, other: Reduced) -> Any:
        """Compute c'M⁻¹d for right-hand sides (p, ·) or (·)."""
        low = total([a @ b.T for a, b in zip(one.own, other.half, strict=True)])
        return low + one.rest @ self.curvature.solve_rest(other.rest).T


def crossed_objective_graph(structure: CrossedLinearStructure) -> Graph:
    """Write value, gradient, Hessian and scores of the profiled deviance as one graph.

    Returns
    -------
    Graph
        Inputs: theta, then `CrossedInputs.flat`. Outputs: ``S_xx`` (p, p), ``beta`` (p,), ``sigma2``; ``D``, twice the
        part of the value that is neither sigma nor a constant, log det M and with REML log det S_xx; ``F_t`` (n_theta,)
        and ``F_tt``, derivatives of D + Q / sigma² with beta and sigma held, Q(theta, beta) being the residual sum of
        squares (y - Xb)'V⁻¹(y - Xb); ``Q_t``, ``Q_tb`` (n_theta, p); per independent part of the sample ``F_score``,
        ``Q_score`` (n_theta, C), ``b_score`` (p, C), the gradient of -``lost`` in beta, and ``lost`` (C,), what Q lacks
        of (y - Xb)'W(y - Xb).
    """
    layout, p = structure.layout, structure.p
    data = CrossedInputs.symbols(structure)
    theta = pt.tensor("theta", shape=(layout.n_theta,))
    zero = pt.zeros_like(data.parts, dtype="float64")[None, :]
    own = theta[:, None] + zero
    found = Reduction(structure, data, own)
    q = range(layout.q[0])
    fixed = found.reduce([data.own_x[a] for a in q], data.dense_x)
    outcome = found.reduce([data.own_y[a] for a in q], data.dense_y)
    S_xx = data.S0[:p, :p] - found.inner(fixed, fixed)
    S_xy = data.S0[:p, p] - found.inner(fixed, outcome)
    S_yy = data.S0[p, p] - found.inner(outcome, outcome)
    beta = disconnected_grad(solve(S_xx, S_xy, assume_a="pos"))
    sigma2 = disconnected_grad(pt.maximum(S_yy - pt.sum(S_xy * beta), 1e-300) / data.n[0])
    own_beta = beta[:, None] + zero
    lost = _lost(found, data, own_beta)
    D, Q = found.curvature.logdet, -pt.sum(lost)
    both: Any = pytensor.grad(Q, [own, own_beta])
    Q_score, b_score = both
    Q_t = Q_score.sum(axis=1)
    # d log det S = tr(S⁻¹ dS) (theory, eq. 11)
    known: dict[Any, Any] = {S_xx: matrix_inverse(S_xx)} if structure.reml else {}
    F_score: Any = pytensor.grad(D + Q / sigma2, own, known_grads=known)
    F_t = F_score.sum(axis=1)
    outputs = {
        "S_xx": S_xx,
        "beta": beta,
        "sigma2": sigma2,
        "D": D + slogdet(S_xx)[1] if structure.reml else D,
        "F_t": F_t,
        "F_tt": jacobian_of(F_t, [theta])[0],
        "Q_t": Q_t,
        "Q_tb": jacobian_of(Q_t, [beta])[0],
        "F_score": F_score,
        "Q_score": Q_score,
        "b_score": b_score,
        "lost": lost,
    }
    return Graph([theta, *data.flat()], outputs)


def _lost(found: Reduction, data: CrossedInputs, beta: Any) -> Any:
    """Write what (y - Xb)'W(y - Xb) loses to the effects of each independent part, which has its own beta (p, C)."""
    by_unit, by_place = spread(beta, data.part), spread(beta, data.dense_part[0])
    residual = found.reduce(
        [data.own_y[a] - pt.sum(by_unit * data.own_x[a], axis=0) for a in range(len(found.Lambda))],
        data.dense_y - pt.sum(by_place * data.dense_x, axis=0),
    )
    low = total([a * b for a, b in zip(residual.own, residual.half, strict=True)])
    high = residual.rest * found.curvature.solve_rest(residual.rest)
    return segment_sum(low, data.part, data.parts) + segment_sum(high, data.dense_part[0], data.parts)


def crossed_contrast_graph(structure: CrossedLinearStructure) -> Graph:
    """Differentiate u'S_xx(theta)u with respect to theta for one vector u (for Satterthwaite).

    Returns
    -------
    Graph
        Inputs: theta, ``u`` (p,), then `CrossedInputs.flat`. Output ``uSu_t`` (n_theta,).
    """
    data = CrossedInputs.symbols(structure)
    theta, u = pt.tensor("theta", shape=(structure.layout.n_theta,)), pt.tensor("u", shape=(structure.p,))
    own = theta[:, None] + pt.zeros_like(data.parts, dtype="float64")[None, :]
    found = Reduction(structure, data, own)
    along = found.reduce([u @ data.own_x[a] for a in range(structure.layout.q[0])], u @ data.dense_x)
    return Graph([theta, u, *data.flat()], {"uSu_t": pytensor.grad(-found.inner(along, along), theta)})
