"""The pseudo-likelihood of a generalised model with crossed random effects by the Laplace approximation, as graphs.

Crossed page, eqs. 1-6. The effects of one factor, the one with the most units, meet each other only inside a unit and
are eliminated unit by unit; those of all other factors form one dense block. Modes are found outside
(`modefinder.py`) and enter through an Op that knows their derivative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytensor
import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pmwmix.likelihood.crossed.generalmodel import CrossedModel, CrossedRows, CrossedStructure
from pmwmix.likelihood.crossed.jointblock import JointCurvature
from pmwmix.likelihood.graph import Graph, curvatures_in, slopes_in, with_hessian
from pmwmix.likelihood.ops.registry import register
from pmwmix.likelihood.ops.segment import spread
from pmwmix.likelihood.ops.smallmat import Column, total


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
        last = 2 + self.structure.n_predictors + 1 + self.structure.n_phi
        return [[2 <= k < last] * 2 for k in range(len(node.inputs))]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        structure, q = self.structure, self.structure.layout.q[0]
        model = CrossedModel.of_flat(structure, list(inputs[2:]))
        columns = model.whitened()
        etas = model.etas(columns, [outputs[0][c] for c in range(q)], outputs[1])
        first = slopes_in(model.density(etas), etas)
        curvature = model.curvature(columns, weighted_curvatures(model, first, etas))
        step, step_B = curvature.solve([cotangents[0][c] for c in range(q)], cotangents[1])
        along = model.random_part(columns, step, step_B)
        moving = [(slope, part) for slope, part in zip(first, along, strict=True) if part is not None]
        rise = total([pt.sum(model.rows.w * slope * part) for slope, part in moving])
        wrt = [*model.eta0, model.theta, *model.phi]
        held = [*step, step_B, *outputs]
        found: Any = pytensor.grad(rise, wrt, consider_constant=held, disconnected_inputs="ignore")
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
        fixed = structure.fixed_parts(spread(beta, part), self.X, self.offset)
        return CrossedModel(structure, self.rows, fixed, theta, [spread(phi[k], part) for k in range(structure.n_phi)])


def weighted_curvatures(model: CrossedModel, first: list[Any], etas: list[Any]) -> list[list[Any]]:
    """Write -w l'' between the linear predictors of every row, given l'."""
    return [[-model.rows.w * part for part in row] for row in curvatures_in(first, etas)]


def joint_mode_graph(structure: CrossedStructure) -> Graph:
    """Write one Newton step towards the joint conditional modes.

    Returns
    -------
    Graph
        Inputs: `CrossedSymbols.flat`, then ``floor``, the least curvature of a row. Outputs: ``J`` (1,), the joint
        log-density of rows and effects at the modes; ``step0`` (q, G) and ``step1`` (D,), the Newton step; ``rise``
        (1,), the derivative of J along it; ``kappa`` (D D, n), the weighted curvature of the rows between their linear
        predictors, without the floor.
    """
    s = CrossedSymbols.of(structure)
    floor = pt.tensor("floor", shape=())
    model, q = s.model(structure, *s.copies()), structure.layout.q[0]
    u, u_B = [s.modes[0][c] for c in range(q)], s.modes[1]
    columns = model.whitened()
    etas = model.etas(columns, u, u_B)
    density = model.density(etas)
    first = slopes_in(density, etas)
    kappa = weighted_curvatures(model, first, etas)
    curvature = model.curvature(columns, _floored(kappa, floor))
    own, others = model.slopes(columns, first)
    gradient, gradient_B = [g - x for g, x in zip(own, u, strict=True)], others - u_B
    step, step_B = curvature.solve(gradient, gradient_B)
    J = pt.sum(model.rows.w * density) - 0.5 * _squares(u, u_B)
    rise = total([pt.sum(g * d) for g, d in zip(gradient, step, strict=True)]) + pt.sum(gradient_B * step_B)
    outputs = {
        "J": J[None],
        "rise": rise[None],
        "kappa": pt.stack([part for row in kappa for part in row]),
        "step0": pt.stack(step),
        "step1": step_B,
    }
    return Graph([*s.flat(), floor], outputs)


def _floored(kappa: list[list[Any]], floor: Any) -> list[list[Any]]:
    """Raise a row's curvature to ``floor``; one that is no longer what it was has none between predictors."""
    own = [[pt.maximum(part, floor) for part in row] for row in kappa]
    D = range(len(kappa))
    return [[own[p][p] if p == r else pt.switch(floor < 0.0, kappa[p][r], 0.0) for r in D] for p in D]


def _squares(u: Column, u_B: Any) -> Any:
    return total([pt.sum(x * x) for x in u]) + pt.sum(u_B * u_B)


def joint_graph(structure: CrossedStructure) -> tuple[Graph, Graph]:
    """Write the Laplace approximation of the log-likelihood with its gradient, and its Hessian as a second graph.

    Returns
    -------
    Graph
        Inputs: `CrossedSymbols.flat`, with ``structure.counted`` then the weights of independent parts (C,), eliminated
        units (G,) and effects of the dense block (D,). Outputs: ``value``, a scalar; ``score_beta``, ``score_theta``,
        ``score_phi`` (·, C) per independent part of the sample; then whatever the second graph reads.
    Graph
        As in `graph.with_hessian`.
    """
    s = CrossedSymbols.of(structure)
    own = s.copies()
    model, q = s.model(structure, *own), structure.layout.q[0]
    found: Any = AtJointMode(structure)(*s.modes, *model.flat(), return_list=True)
    u, u_B = [found[0][c] for c in range(q)], found[1]
    columns = model.whitened()
    etas = model.etas(columns, u, u_B)
    density = model.density(etas)
    curvature = model.curvature(columns, weighted_curvatures(model, slopes_in(density, etas), etas))
    whole = pt.sum(model.rows.w * density) - 0.5 * _squares(u, u_B) - 0.5 * curvature.logdet
    sizes = (structure.p, structure.layout.n_theta, structure.n_phi)
    used = [k for k, size in enumerate(sizes) if size]
    names = [("beta", "theta", "phi")[k] for k in used]
    parameters = [(s.beta, s.theta, s.phi)[k] for k in used]
    scores: Any = pytensor.grad(whole, [own[k] for k in used])
    if not structure.counted:
        return with_hessian(s.flat(), ("value", whole), names, parameters, scores)
    counts = [pt.tensor(name, shape=(None,)) for name in ("part_w", "unit_w", "place_w")]
    scores = [score * counts[0] for score in scores]
    value = _counted(model.rows, density, (u, u_B), curvature, counts)
    return with_hessian([*s.flat(), *counts], ("value", value), names, parameters, scores)


def _counted(
    rows: CrossedRows, density: Any, effects: tuple[Column, Any], curvature: JointCurvature, counts: list[Any]
) -> Any:
    """Add the log-likelihoods of the parts up, each as often as it counts (crossed, eq. 19).

    The pivots of a part in the factor of the whole matrix are its own, since parts have nothing in common.
    """
    (u, u_B), (part_w, unit_w, place_w) = effects, counts
    factor: Any = pt.linalg.cholesky(curvature.schur, on_error="nan")
    low = total([x * x for x in u]) + curvature.factor.logdet
    high = u_B * u_B + 2.0 * pt.log(pt.diag(factor))
    return pt.sum(spread(part_w, rows.part) * rows.w * density) - 0.5 * (pt.sum(unit_w * low) + pt.sum(place_w * high))


def _jax_at_mode(op: Any, node: Apply) -> Any:
    return lambda *inputs: inputs[:2]


def _numba_at_mode(op: Any, node: Apply) -> Any:
    from pytensor.link.numba.dispatch.basic import numba_njit

    @numba_njit
    def run(*inputs: Any) -> Any:
        return inputs[:2]

    return run


register(AtJointMode, _jax_at_mode, _numba_at_mode)
