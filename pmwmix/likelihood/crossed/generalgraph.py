"""The pseudo-likelihood of a generalised model with crossed random effects by the Laplace approximation, as graphs.

Crossed page, eqs. 1-6. The effects of one factor, the one with the most units, meet each other only inside a unit and
are eliminated unit by unit; those of all other factors form one dense block. Modes are found outside
(`modefinder.py`) and enter through an Op that knows their derivative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pmwmix.likelihood.crossed.jointblock import CellIndex, Cross, JointCurvature, joint_curvature
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.graph import Graph, derivative, with_hessian
from pmwmix.likelihood.ops.cells import cell_sum
from pmwmix.likelihood.ops.registry import register
from pmwmix.likelihood.ops.segment import segment_sum, spread
from pmwmix.likelihood.ops.smallmat import Column, Matrix, total


@dataclass(frozen=True)
class CrossedStructure(MarginalStructure):
    """What decides the shape of the graph; levels are factors, the eliminated one first.

    Parameters
    ----------
    sparse : bool
        Whether the block between the eliminated effects and the others is kept cell by cell.
    """

    sparse: bool = False


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
    eta0 : tensor (n,)
        Fixed part and offset.
    theta : tensor (n_theta, C)
    phi : list of tensors (n,)
    """

    structure: CrossedStructure
    rows: CrossedRows
    eta0: Any
    theta: Any
    phi: list[Any]

    def flat(self) -> list[Any]:
        """List all symbols; parameters first."""
        return [self.eta0, self.theta, *self.phi, *self.rows.flat()]

    @classmethod
    def of_flat(cls, structure: CrossedStructure, symbols: list[Any]) -> CrossedModel:
        """Undo `flat`."""
        n = 2 + structure.n_phi
        return cls(structure, CrossedRows.of_flat(structure, symbols[n:]), symbols[0], symbols[1], list(symbols[2:n]))

    def density(self, eta: Any) -> Any:
        """Log-density of every row at a linear predictor (n,)."""
        family, link = self.structure.parts
        return family.log_density(link, self.rows.y, self.rows.extra, eta, self.phi)

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

    def random_part(self, columns: tuple[Column, Any], u: Column, u_B: Any) -> Any:
        """Add the whitened columns times effects (q vectors (G,), (D,))."""
        own, others = columns
        low = total([z * spread(x, self.rows.unit) for z, x in zip(own, u, strict=True)])
        high = [others[k] * spread(u_B, self.rows.place[k]) for k in range(self.n_others)]
        return total([low, *high])

    @property
    def n_others(self) -> int:
        """Number of random columns that the dense block belongs to."""
        return sum(self.structure.layout.q[1:])

    def slopes(self, columns: tuple[Column, Any], first: Any) -> tuple[Column, Any]:
        """Weighted sums of whitened columns times l' per effect."""
        rows, (own, others) = self.rows, columns
        wl = rows.w * first
        low = [segment_sum(z * wl, rows.unit, rows.units) for z in own]
        high = [segment_sum(others[k] * wl, rows.place[k], rows.places) for k in range(self.n_others)]
        return low, total(high)

    def curvature(self, columns: tuple[Column, Any], kappa: Any) -> JointCurvature:
        """Factor I + Z'KZ, Z the whitened columns and K the weighted curvature of the rows (n,) (crossed, eq. 3)."""
        rows, (own, others) = self.rows, columns
        q = len(own)
        M: Matrix = [[None] * q for _ in range(q)]
        for i in range(q):
            for j in range(i + 1):
                M[i][j] = segment_sum(kappa * own[i] * own[j], rows.unit, rows.units)
            M[i][i] = M[i][i] + 1.0
        both_ways = pt.zeros_like(rows.place)
        height, width = rows.place[:, None] + both_ways[None], rows.place[None] + both_ways[:, None]
        weighted = kappa[None] * others
        dense = cell_sum(weighted[:, None] * others[None], height, width, rows.places, rows.places)
        if rows.cells is None:
            unit = rows.unit[None] + both_ways
            values = [cell_sum(z[None] * weighted, rows.place, unit, rows.places, rows.units) for z in own]
        else:
            n = range(self.n_others)
            values = [total([segment_sum(z * weighted[k], rows.cell[k], rows.cells.unit) for k in n]) for z in own]
        return joint_curvature(M, Cross(values, rows.cells, rows.units, rows.places), dense)


class AtJointMode(Op):
    """The joint conditional modes of crossed effects: given as data, with their exact derivative in the parameters.

    Inputs are the modes (q, G) and (D,), found beforehand for the very parameters at which the graph is evaluated, and
    `CrossedModel.flat`. As `marginal.AtMode`, by the implicit function theorem (theory, eq. 47).
    """

    __props__ = ("structure",)

    def __init__(self, structure: CrossedStructure) -> None:
        self.structure = structure

    def make_node(self, *inputs: Any) -> Apply:  # type: ignore[override]
        inputs = tuple(pt.as_tensor(i) for i in inputs)
        return Apply(self, list(inputs), [i.type() for i in inputs[:2]])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        for storage, value in zip(output_storage, inputs, strict=False):
            storage[0] = value.copy()

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        return shapes[:2]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[2 <= k < 4 + self.structure.n_phi] * 2 for k in range(len(node.inputs))]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        structure, q = self.structure, self.structure.layout.q[0]
        model = CrossedModel.of_flat(structure, list(inputs[2:]))
        columns = model.whitened()
        eta = model.eta0 + model.random_part(columns, [outputs[0][c] for c in range(q)], outputs[1])
        first = derivative(model.density(eta), eta)
        curvature = model.curvature(columns, -model.rows.w * derivative(first, eta))
        step, step_B = curvature.solve([cotangents[0][c] for c in range(q)], cotangents[1])
        slope = pt.sum(model.rows.w * first * model.random_part(columns, step, step_B))
        wrt = [model.eta0, model.theta, *model.phi]
        held = [*step, step_B, *outputs]
        found: Any = pytensor.grad(slope, wrt, consider_constant=held, disconnected_inputs="ignore")
        left = len(inputs) - 2 - len(wrt)
        return [*(disconnected_type() for _ in range(2)), *found, *(disconnected_type() for _ in range(left))]


@dataclass(frozen=True)
class CrossedSymbols:
    """Inputs of the graphs, in the order in which data are passed."""

    beta: Any
    theta: Any
    phi: Any
    modes: list[Any]
    X: Any
    offset: Any
    rows: CrossedRows

    @classmethod
    def of(cls, structure: CrossedStructure) -> CrossedSymbols:
        """Make them; small dimensions are static."""
        return cls(
            pt.tensor("beta", shape=(structure.p,)),
            pt.tensor("theta", shape=(structure.layout.n_theta,)),
            pt.tensor("phi", shape=(structure.n_phi,)),
            [pt.tensor("u", shape=(structure.layout.q[0], None)), pt.tensor("u_B", shape=(None,))],
            pt.tensor("X", shape=(structure.p, None)),
            pt.tensor("offset", shape=(None,)),
            CrossedRows.symbols(structure),
        )

    def flat(self) -> list[Any]:
        """List all symbols."""
        return [self.beta, self.theta, self.phi, *self.modes, self.X, self.offset, *self.rows.flat()]

    def copies(self) -> list[Any]:
        """Give every independent part of the sample its own copy of the parameters (·, C)."""
        zero = pt.zeros_like(self.rows.parts, dtype="float64")[None, :]
        return [part[:, None] + zero for part in (self.beta, self.theta, self.phi)]

    def model(self, structure: CrossedStructure, beta: Any, theta: Any, phi: Any) -> CrossedModel:
        """Write the model with own copies of the parameters."""
        part = self.rows.part
        fixed = pt.sum(spread(beta, part) * self.X, axis=0) if structure.p else 0.0
        return CrossedModel(
            structure, self.rows, fixed + self.offset, theta, [spread(phi[k], part) for k in range(structure.n_phi)]
        )


def joint_mode_graph(structure: CrossedStructure) -> Graph:
    """Write one Newton step towards the joint conditional modes.

    Returns
    -------
    Graph
        Inputs: `CrossedSymbols.flat`, then ``floor``, the least curvature of a row. Outputs: ``J`` (1,), the joint
        log-density of rows and effects at the modes; ``step0`` (q, G) and ``step1`` (D,), the Newton step; ``rise``
        (1,), the derivative of J along it; ``kappa`` (n,), the weighted curvature of the rows without the floor.
    """
    s = CrossedSymbols.of(structure)
    floor = pt.tensor("floor", shape=())
    model, q = s.model(structure, *s.copies()), structure.layout.q[0]
    u, u_B = [s.modes[0][c] for c in range(q)], s.modes[1]
    columns = model.whitened()
    eta = model.eta0 + model.random_part(columns, u, u_B)
    density = model.density(eta)
    first = derivative(density, eta)
    kappa = -model.rows.w * derivative(first, eta)
    curvature = model.curvature(columns, pt.maximum(kappa, floor))
    own, others = model.slopes(columns, first)
    gradient, gradient_B = [g - x for g, x in zip(own, u, strict=True)], others - u_B
    step, step_B = curvature.solve(gradient, gradient_B)
    J = pt.sum(model.rows.w * density) - 0.5 * _squares(u, u_B)
    rise = total([pt.sum(g * d) for g, d in zip(gradient, step, strict=True)]) + pt.sum(gradient_B * step_B)
    outputs = {"J": J[None], "rise": rise[None], "kappa": kappa, "step0": pt.stack(step), "step1": step_B}
    return Graph([*s.flat(), floor], outputs)


def _squares(u: Column, u_B: Any) -> Any:
    return total([pt.sum(x * x) for x in u]) + pt.sum(u_B * u_B)


def joint_graph(structure: CrossedStructure) -> tuple[Graph, Graph]:
    """Write the Laplace approximation of the log-likelihood with its gradient, and its Hessian as a second graph.

    Returns
    -------
    Graph
        Inputs: `CrossedSymbols.flat`. Outputs: ``value``, a scalar; ``score_beta``, ``score_theta``, ``score_phi``
        (·, C) per independent part of the sample; then whatever the second graph reads.
    Graph
        As in `secondorder.with_hessian`.
    """
    s = CrossedSymbols.of(structure)
    own = s.copies()
    model, q = s.model(structure, *own), structure.layout.q[0]
    found: Any = AtJointMode(structure)(*s.modes, *model.flat(), return_list=True)
    u, u_B = [found[0][c] for c in range(q)], found[1]
    columns = model.whitened()
    eta = model.eta0 + model.random_part(columns, u, u_B)
    density = model.density(eta)
    curvature = model.curvature(columns, -model.rows.w * derivative(derivative(density, eta), eta))
    value = pt.sum(model.rows.w * density) - 0.5 * _squares(u, u_B) - 0.5 * curvature.logdet
    sizes = (structure.p, structure.layout.n_theta, structure.n_phi)
    used = [k for k, size in enumerate(sizes) if size]
    names = [("beta", "theta", "phi")[k] for k in used]
    parameters = [(s.beta, s.theta, s.phi)[k] for k in used]
    scores: Any = pytensor.grad(value, [own[k] for k in used])
    return with_hessian(s.flat(), ("value", value), names, parameters, scores)


def _jax_at_mode(op: Any, node: Apply) -> Any:
    return lambda *inputs: inputs[:2]


def _numba_at_mode(op: Any, node: Apply) -> Any:
    from pytensor.link.numba.dispatch.basic import numba_njit

    @numba_njit
    def run(*inputs: Any) -> Any:
        return inputs[:2]

    return run


register(AtJointMode, _jax_at_mode, _numba_at_mode)
