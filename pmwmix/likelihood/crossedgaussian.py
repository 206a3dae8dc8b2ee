"""The Gaussian pseudo-likelihood with crossed random effects integrated out in closed form, as a graph.

Crossed page, eqs. 8-12: the factor with the most units is eliminated unit by unit, the effects of all others stand in
one dense block. The counterpart of `gaussian.py`; sigma and beta are profiled out in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytensor
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.tensor.linalg import solve

from pmwmix.likelihood.cells import cell_spread, cell_sum
from pmwmix.likelihood.gaussian import Graph, Structure, derivatives, log_det_derivatives, triangle
from pmwmix.likelihood.segment import segment_sum, spread
from pmwmix.likelihood.smallmat import Column, InverseLogDet, Matrix, factor, inner, product, total, transposed_times


@dataclass(frozen=True)
class CrossedInputs:
    """Symbolic data: those of `crossedblocks.CrossedBlocks` for one outcome, and how the effects hang together.

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
    parts : tensor of int (C,)
        0, 1, 2, ...
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
    parts: Any

    def flat(self) -> list[Any]:
        """List all inputs, in the order in which data are passed."""
        return list(self.__dict__.values())

    @classmethod
    def symbols(cls, structure: Structure) -> CrossedInputs:
        """Make the symbols; small dimensions are static."""
        q, m, p = structure.layout.q[0], max(structure.layout.q[1:]), structure.p

        def tensor(name: str, *shape: int | None, dtype: str = "float64") -> Any:
            return pt.tensor(name, shape=shape, dtype=dtype)

        return cls(
            tensor("own", q * (q + 1) // 2, None),
            tensor("cross", q, None, None),
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
            tensor("parts", None, dtype="int64"),
        )


@dataclass(frozen=True)
class Reduced:
    """A right-hand side after the elimination of A: (left, right) per effect of a unit, and the rest of the block."""

    left: Column
    right: Column
    rest: Any


class Reduction:
    """The random effects integrated out, theta being given per independent part (n_theta, C).

    ``logdet`` is log det M, ``inverse`` that of the Schur complement on the dense block.
    """

    def __init__(self, structure: Structure, data: CrossedInputs, own: Any) -> None:
        layout = structure.layout
        q, m = layout.q[0], max(layout.q[1:])
        self.data = data
        self.Lambda: Matrix = [[None] * q for _ in range(q)]
        for i, j, k in layout.entries[0]:
            self.Lambda[i][j] = spread(own[k], data.part)
        coefficients = cell_spread(own, data.entry, data.dense_part) * data.there
        self.steps = [(coefficients[d], data.partner[d]) for d in range(m)]
        C = triangle(data.own, q)
        own_logdet, self.split = factor(inner(self.Lambda, C))
        half = [self.whiten(data.cross[a]).T for a in range(q)]
        left, self.right = self.split(transposed_times(self.Lambda, half))
        ones, at = pt.ones_like(data.dense_y), data.partner[0]
        S = cell_sum(ones, at, at, ones, ones) + self.whiten(self.whiten(data.dense).T)
        for a, b in zip(left, self.right, strict=True):
            S = S - a @ b.T
        both: Any = InverseLogDet()(S)
        self.inverse, self.logdet = both[0], pt.sum(own_logdet) + both[1]

    def whiten(self, values: Any) -> Any:
        """Multiply the last axis (..., D) by Lambda' of the dense block."""
        return total([c * spread(values, at) for c, at in self.steps])

    def reduce(self, own: Column, dense: Any) -> Reduced:
        """Take a right-hand side, q arrays (..., G) and (..., D), through the elimination."""
        left, right = self.split(transposed_times(self.Lambda, own))
        gone = total([a @ b.T for a, b in zip(left, self.right, strict=True)])
        return Reduced(left, right, self.whiten(dense) - gone)

    def inner(self, one: Reduced, other: Reduced) -> Any:
        """Compute c'M⁻¹d for right-hand sides (p, ·) or (·)."""
        low = total([a @ b.T for a, b in zip(one.left, other.right, strict=True)])
        return low + one.rest @ (self.inverse @ other.rest.T)


def crossed_objective_graph(structure: Structure) -> Graph:
    """Write value, gradient, Hessian and scores of the profiled deviance as one graph.

    Returns
    -------
    Graph
        Inputs: theta, then `CrossedInputs.flat`. Outputs as those of `gaussian.objective_graph`, with independent parts
        of the sample in place of top-level units: ``D``, ``S_xx``, ``S_xy``, ``S_yy``, ``beta``, ``D_t``, ``Q_t``,
        ``D_tt``, ``Q_tt``, ``Q_tb``, with REML ``R``, ``R_t``, ``R_tt``; ``D_score``, ``Q_score`` (n_theta, C);
        ``b_score`` (p, C), the gradient of -``lost`` in beta; ``lost`` (C,).
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
    own_beta = beta[:, None] + zero
    by_unit, by_place = spread(own_beta, data.part), spread(own_beta, data.dense_part[0])
    residual = found.reduce(
        [data.own_y[a] - pt.sum(by_unit * data.own_x[a], axis=0) for a in q],
        data.dense_y - pt.sum(by_place * data.dense_x, axis=0),
    )
    low = total([product(a, b) for a, b in zip(residual.left, residual.right, strict=True)])
    high = residual.rest * (found.inverse @ residual.rest)
    lost = segment_sum(low, data.part, data.parts) + segment_sum(high, data.dense_part[0], data.parts)
    outputs = {"D": found.logdet, "S_xx": S_xx, "S_xy": S_xy, "S_yy": S_yy, "beta": beta, "lost": lost}
    outputs |= derivatives("D", found.logdet, own, theta)
    outputs |= derivatives("Q", -pt.sum(lost), own, theta, beta)
    outputs["Q_tb"] = outputs.pop("Q_tz")
    outputs.pop("zr_grad")
    outputs["b_score"] = pytensor.grad(-pt.sum(lost), own_beta)
    if structure.reml:
        outputs |= log_det_derivatives(S_xx, theta)
    return Graph([theta, *data.flat()], outputs)


def crossed_contrast_graph(structure: Structure) -> Graph:
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
