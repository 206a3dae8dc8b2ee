"""The pseudo-likelihood of a generalised model with random effects integrated out by adaptive quadrature, as graphs.

Theory page, eqs. 40-50. Nodes are placed around the joint conditional modes of all random effects of a top-level unit
and scaled by the joint curvature there (Pinheiro & Chao 2006); one node per dimension is the joint Laplace
approximation. Modes are found outside (`modefinder.py`) and enter through an Op that knows their derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytensor
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad, disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pmwmix.likelihood.general.model import MarginalStructure, Model, RowData, insert_axes
from pmwmix.likelihood.general.tree import Tree, solve_tree
from pmwmix.likelihood.graph import Graph, curvatures_in, slopes_in, with_hessian
from pmwmix.likelihood.ops.registry import register
from pmwmix.likelihood.ops.segment import spread
from pmwmix.likelihood.ops.smallmat import Column, product, total, transposed_times

FLOOR = 1e-8  # of the pivots of a curvature; 1 is that of the prior alone
SAFE_FLOOR = 0.1  # while modes are searched


def gradient(value: Any, wrt: Any, **options: Any) -> Any:
    """Differentiate; pytensor.grad without its many return types."""
    return pytensor.grad(value, wrt, **options)


class AtMode(Op):
    """The conditional modes: given as data, with their exact derivative in the parameters.

    Inputs are the modes, found beforehand for the very parameters at which the graph is evaluated, and
    `Model.flat`. At the mode dJ/du = 0, so that a cotangent c of the modes becomes that of the function
    lambda'(dJ/du) with lambda = M⁻¹c held fixed, M the joint Hessian (implicit function theorem; theory, eq. 47).
    The derivative is again a graph in the modes, so that derivatives of any order are exact.
    """

    __props__ = ("structure",)

    def __init__(self, structure: MarginalStructure) -> None:
        self.structure = structure

    def make_node(self, *inputs: Any) -> Apply:  # type: ignore[override]
        inputs = tuple(pt.as_tensor(i) for i in inputs)
        return Apply(self, list(inputs), [i.type() for i in inputs[: self.structure.n_levels]])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        for storage, value in zip(output_storage, inputs, strict=False):
            storage[0] = value.copy()

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        return shapes[: self.structure.n_levels]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        n = self.structure.n_levels
        last = n + self.structure.n_predictors + 1 + self.structure.n_phi
        return [[n <= k < last] * n for k in range(len(node.inputs))]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        structure, n = self.structure, self.structure.n_levels
        model = Model.of_flat(structure, list(inputs[n:]))
        modes = [[u[c] for c in range(q)] for u, q in zip(outputs, structure.layout.q, strict=True)]
        Lambda = model.Lambdas()
        etas = model.etas(model.b_of(Lambda, modes))
        first = slopes_in(model.density(etas), etas)
        curvature = model.curvature(Lambda, modes, curvatures_in(first, etas), FLOOR)
        rho = [
            [c[k] / model.tree.omega[level] for k in range(q)]
            for level, (c, q) in enumerate(zip(cotangents, structure.layout.q, strict=True))
        ]
        step = solve_tree(model.tree, structure.layout.q, curvature, rho)
        omega = spread(model.tree.omega[0], model.tree.tile_to[0])
        along = model.random_part(model.b_of(Lambda, step))
        moving = [(slope, part) for slope, part in zip(first, along, strict=True) if part is not None]
        rise = total([pt.sum(model.rows.w * omega * slope * part) for slope, part in moving])
        wrt = [*model.eta0, model.theta, *model.phi]
        held = [entry for column in step for entry in column] + list(outputs)
        found = gradient(rise, wrt, consider_constant=held, disconnected_inputs="ignore")
        return [
            *(disconnected_type() for _ in range(n)),
            *found,
            *(disconnected_type() for _ in range(len(inputs) - n - len(wrt))),
        ]


@dataclass(frozen=True)
class Symbols:
    """Inputs of the graphs, in the order in which data are passed."""

    beta: Any
    theta: Any
    phi: Any
    X: Any
    offset: Any
    rows: RowData
    tree: Tree
    modes: list[Any]

    @classmethod
    def of(cls, structure: MarginalStructure) -> Symbols:
        """Make them; small dimensions are static."""
        return cls(
            pt.tensor("beta", shape=(structure.p,)),
            pt.tensor("theta", shape=(structure.layout.n_theta,)),
            pt.tensor("phi", shape=(structure.n_phi,)),
            pt.tensor("X", shape=(structure.p, None, None)),
            pt.tensor("offset", shape=(None, None)),
            RowData.symbols(structure),
            Tree.symbols(structure.n_levels),
            [pt.tensor(f"u{level}", shape=(q, None)) for level, q in enumerate(structure.layout.q)],
        )

    def flat(self) -> list[Any]:
        """List all symbols."""
        first = [self.beta, self.theta, self.phi]
        return [*first, *self.modes, self.X, self.offset, *self.rows.flat(), *self.tree.flat()]

    def model(self, structure: MarginalStructure, beta: Any, theta: Any, phi: Any) -> Model:
        """Write a model whose top-level units have own copies (·, G_L) of the parameters."""
        to_top = self.tree.tile_to[-1]
        fixed = structure.fixed_parts(spread(beta, to_top)[:, None, :], self.X, self.offset)
        tiles = [spread(phi[k], to_top) for k in range(structure.n_phi)]
        return Model(structure, self.rows, self.tree, fixed, theta, tiles)


def copies(symbols: Symbols) -> list[Any]:
    """Give every top-level unit its own copy of the parameters."""
    zero = pt.zeros_like(symbols.tree.w[-1])[None, :]
    return [part[:, None] + zero for part in (symbols.beta, symbols.theta, symbols.phi)]


def mode_graph(structure: MarginalStructure) -> Graph:
    """Write one Newton step towards the conditional modes.

    Returns
    -------
    Graph
        Inputs: `Symbols.flat`. Outputs: ``J`` (G_L,), the log-density of rows and effects at ``modes``; ``step0``,
        ... (q_l, G_l), the Newton step; ``rise`` (G_L,), the derivative of J along it; ``zz`` (Q (Q + 1) / 2, G_1), the
        curvature of the rows between random columns, lower triangle row by row.
    """
    s = Symbols.of(structure)
    return Graph(s.flat(), newton_step(s.model(structure, *copies(s)), s.modes))


def newton_step(model: Model, start: list[Any]) -> dict[str, Any]:
    """Write the outputs of `mode_graph` at modes ``start``, per level (q_l, G_l)."""
    structure, tree = model.structure, model.tree
    q = structure.layout.q
    modes = [[u[c] for c in range(size)] for u, size in zip(start, q, strict=True)]
    Lambda = model.Lambdas()
    etas = model.etas(model.b_of(Lambda, modes))
    density = model.density(etas)
    first = slopes_in(density, etas)
    curvature = model.curvature(Lambda, modes, curvatures_in(first, etas), SAFE_FLOOR)
    slopes = model.slopes(first)
    gradient = []
    for level, u in enumerate(modes):
        pulled = transposed_times(Lambda[level], slopes[level])
        gradient.append([total([g, s]) for g, s in zip(pulled, structure.effects.slopes(u, pt), strict=True)])
    step = solve_tree(tree, q, curvature, gradient)
    inner = tree.from_tiles(pt.sum(model.rows.w * density, axis=0))
    rise: Any = None
    for level in range(structure.n_levels):
        inner = inner + structure.effects.log_density(modes[level], pt)
        part = total([g * d for g, d in zip(gradient[level], step[level], strict=True)])
        rise = part if rise is None else rise + part
        if level < structure.n_levels - 1:
            inner, rise = tree.lift(inner, level), tree.lift(rise, level)
    Q = len(structure.ones)
    zz = [curvature.rows[i][j] for i in range(Q) for j in range(i + 1)]
    outputs = {"J": inner, "rise": rise, "zz": pt.stack(zz)}
    return outputs | {f"step{level}": pt.stack(column) for level, column in enumerate(step)}


def sums_at_nodes(model: Model, b: list[Column]) -> Any:
    """Weighted sums of log-densities per tile, (K_top, ..., K_1, T), at random effects of every node."""
    return pt.sum(model.rows.w * model.density(model.etas(b)), axis=-2)


def log_integral(
    model: Model, modes: list[Any], nodes: list[Any], log_weights: list[Any], sums: Callable[..., Any] = sums_at_nodes
) -> Any:
    """Log marginal density of every top-level unit, without its own weight (G_L,) (theory, eqs. 48-50).

    Parameters
    ----------
    model : Model
    modes : list of tensors (q_l, G_l)
    nodes : list of tensors (q_l, K_l)
        Standard Gauss-Hermite nodes of every level, product rule.
    log_weights : list of tensors (K_l,)
        Their log-weights plus half their squared length.
    sums : callable
        `sums_at_nodes` or its like.
    """
    structure, tree = model.structure, model.tree
    q, n = structure.layout.q, structure.n_levels
    centre = [[u[c] for c in range(size)] for u, size in zip(modes, q, strict=True)]
    Lambda = model.Lambdas()
    b_hat = model.b_of(Lambda, centre)
    etas = model.etas(b_hat)
    second = curvatures_in(slopes_in(model.density(etas), etas), etas)
    curvature = model.curvature(Lambda, centre, second, FLOOR)
    u_nodes: list[Column] = [[] for _ in range(n)]
    b_nodes: list[Column] = [[] for _ in range(n)]
    for level in range(n - 1, -1, -1):
        u = [x if level == n - 1 else _grow(x, n - 1 - level) for x in centre[level]]
        if any(structure.adaptive[level + 1 :]):
            moved = []
            for above in range(level + 1, n):
                for x, hat in zip(b_nodes[above], b_hat[above], strict=True):
                    moved.append(insert_axes(tree.lower(x - hat, above, level), above - level - 1))
            column = curvature.cross[level]
            pulled = [total([product(c[i], m) for c, m in zip(column, moved, strict=True)]) for i in range(q[level])]
            u = [x if s is None else x - s for x, s in zip(u, curvature.factors[level].solve(pulled), strict=True)]
        u = [insert_axes(x, 1) for x in u]
        if structure.adaptive[level]:
            scale = curvature.factors[level].scale
            assert scale is not None
            u = [x + s for x, s in zip(u, scale([nodes[level][c][:, None] for c in range(q[level])]), strict=True)]
        u_nodes[level] = u
        L = Lambda[level]
        b_nodes[level] = [total([product(L[i][j], u[j]) for j in range(q[level])]) for i in range(q[level])]
    value = tree.from_tiles(sums(model, b_nodes))
    for level in range(n):
        value = value + structure.effects.log_density(u_nodes[level], pt)
        if structure.adaptive[level]:
            value = _log_sum_exp(value + log_weights[level][:, None])
        else:
            value = pt.sum(value, axis=-2)  # one node
        value = value - 0.5 * curvature.factors[level].logdet
        if level < n - 1:
            value = tree.lift(value, level)
    return value


def _grow(values: Any, count: int) -> Any:
    """Prepend axes of length 1."""
    return values.dimshuffle(*["x"] * count, *range(values.type.ndim))


def _log_sum_exp(values: Any) -> Any:
    """Log of the sum of exponentials over the last axis but one."""
    top = disconnected_grad(pt.max(values, axis=-2, keepdims=True))
    return pt.log(pt.sum(pt.exp(values - top), axis=-2)) + top[..., 0, :]


def marginal_graph(structure: MarginalStructure) -> tuple[Graph, Graph]:
    """Write the marginal log-likelihood with its gradient, and its Hessian as a second graph.

    Parameters
    ----------
    structure : MarginalStructure

    Returns
    -------
    Graph
        Inputs: `Symbols.flat`, then nodes and log-weights per level. Outputs: ``unit`` (G_L,) the log-density of every
        top-level unit without its weight; ``score_beta``, ``score_theta``, ``score_phi`` (·, G_L), weighted; then
        whatever the second graph reads.
    Graph
        The Hessian of the weighted sum times directions, as in `graph.with_hessian`.
    """
    s = Symbols.of(structure)
    layout = structure.layout
    nodes = [pt.tensor(f"node{level}", shape=(q, None)) for level, q in enumerate(layout.q)]
    log_weights = [pt.tensor(f"log_weight{level}", shape=(None,)) for level in range(structure.n_levels)]
    own = copies(s)
    model = s.model(structure, *own)
    modes: Any = AtMode(structure)(*s.modes, *model.flat(), return_list=True)
    unit = log_integral(model, list(modes), nodes, log_weights)
    sizes = (structure.p, layout.n_theta, structure.n_phi)
    names = [name for name, size in zip(("beta", "theta", "phi"), sizes, strict=True) if size]
    own = [part for part, size in zip(own, sizes, strict=True) if size]
    parameters = [x for x, size in zip((s.beta, s.theta, s.phi), sizes, strict=True) if size]
    scores = gradient(pt.sum(s.tree.w[-1] * unit), own)
    return with_hessian([*s.flat(), *nodes, *log_weights], ("unit", unit), names, parameters, scores)


def _jax_at_mode(op: Any, node: Apply) -> Any:
    n = op.structure.n_levels
    return (lambda *inputs: inputs[0]) if n == 1 else (lambda *inputs: inputs[:n])


def _numba_at_mode(op: Any, node: Apply) -> Any:
    from pytensor.link.numba.dispatch.basic import numba_njit

    n = op.structure.n_levels

    @numba_njit
    def one(*inputs: Any) -> Any:
        return inputs[0]

    @numba_njit
    def several(*inputs: Any) -> Any:
        return inputs[:n]

    return one if n == 1 else several


register(AtMode, _jax_at_mode, _numba_at_mode)


__all__ = ["MarginalStructure", "Symbols", "log_integral", "marginal_graph", "mode_graph"]
