"""The marginal log-likelihood of a generalised model as one graph of its parameters, the search for modes included.

Samplers evaluate it anywhere. The Op `FindModes` climbs to the conditional modes as `modefinder.find_modes` does and
has the derivative of `marginal.AtMode`; everything else is as in `marginal.py`, except that all units share one copy of
the parameters.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.fg import FunctionGraph

from pmwmix.likelihood.general.bynode import INTERPRETER, sums_by_node
from pmwmix.likelihood.general.marginal import AtMode, Symbols, log_integral, newton_step, sums_at_nodes
from pmwmix.likelihood.general.modefinder import Search, advance, begin, end, find_modes, searching, step_names
from pmwmix.likelihood.general.model import MarginalStructure, Model, RowData
from pmwmix.likelihood.general.tree import Tree
from pmwmix.likelihood.ops.registry import register


class FindModes(AtMode):
    """The conditional modes, found inside the graph, with their exact derivative in the parameters.

    Inputs are starting modes per level and `Model.flat`. A unit whose log-density is not a number has modes that are
    not numbers.
    """

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        """Find them with numpy and PyTensor's interpreter."""
        n = self.structure.n_levels
        step = _interpreted(self.structure, [i.type for i in node.inputs])
        to_top = Model.of_flat(self.structure, list(inputs[n:])).tree.to_top
        with np.errstate(all="ignore"):
            found = find_modes(lambda u: step(*u, *inputs[n:]), list(inputs[:n]), list(to_top))
        for storage, value in zip(output_storage, found, strict=True):
            storage[0] = value


def step_graph(structure: MarginalStructure, types: Sequence[Any]) -> FunctionGraph:
    """Write a Newton step as a function of modes and `Model.flat`: J, rise and the step per level."""
    inputs = [kind() for kind in types]
    n = structure.n_levels
    out = newton_step(Model.of_flat(structure, inputs[n:]), inputs[:n])
    return FunctionGraph(inputs, [out[name] for name in step_names(n)], clone=False)


@dataclass(frozen=True)
class InsideData:
    """Everything but the parameters: symbolic inputs, shared variables or constants.

    Parameters
    ----------
    at : tensor (P,)
        Parameters at which modes are known.
    known, slopes : list of tensors (q_l, G_l), (P, q_l, G_l)
        These modes, and their derivatives; only the speed of the search depends on them.
    X : tensor (p, lanes, T)
    offset : tensor (lanes, T)
    rows : RowData
    tree : Tree
    nodes, log_weights : list of tensors (q_l, K_l), (K_l,)
    """

    at: Any
    known: list[Any]
    slopes: list[Any]
    X: Any
    offset: Any
    rows: RowData
    tree: Tree
    nodes: list[Any]
    log_weights: list[Any]

    def flat(self) -> list[Any]:
        """List all variables, in the order of `insidedata.inside_data`."""
        first = [self.at, *self.known, *self.slopes, self.X, self.offset, *self.rows.flat(), *self.tree.flat()]
        return [*first, *self.nodes, *self.log_weights]

    @classmethod
    def symbols(cls, structure: MarginalStructure) -> InsideData:
        """Make symbolic inputs, named as the arrays of `insidedata.inside_data`."""
        s, q = Symbols.of(structure), structure.layout.q
        P = structure.p + structure.layout.n_theta + structure.n_phi
        slopes = [pt.tensor(f"slope{level}", shape=(P, size, None)) for level, size in enumerate(q)]
        nodes = [pt.tensor(f"node{level}", shape=(size, None)) for level, size in enumerate(q)]
        log_weights = [pt.tensor(f"log_weight{level}", shape=(None,)) for level in range(len(q))]
        at = pt.tensor("at", shape=(P,))
        return cls(at, s.modes, slopes, s.X, s.offset, s.rows, s.tree, nodes, log_weights)

    @classmethod
    def of(cls, structure: MarginalStructure, variables: Mapping[str, Any]) -> InsideData:
        """Arrange variables, one for each array of `insidedata.inside_data`."""
        n, rest = structure.n_levels, iter([variables[symbol.name] for symbol in cls.symbols(structure).flat()])

        def take(count: int) -> list[Any]:
            return list(islice(rest, count))

        (at,), known, slopes, (X, offset) = take(1), take(n), take(n), take(2)
        rows = RowData.of_flat(take(3 + structure.parts[0].n_extra))
        return cls(at, known, slopes, X, offset, rows, Tree.of_flat(n, take(5 * n - 1)), take(n), take(n))

    def start(self, structure: MarginalStructure, psi: Any) -> list[Any]:
        """Write where the search for modes begins: near the known modes to first order in the parameters, else at zero.

        Modes are whitened: with other covariances than theirs they may be much farther out than zero.
        """
        theta = slice(structure.p, structure.p + structure.layout.n_theta)
        moved = psi - self.at
        near = pt.sum(moved[theta] ** 2) <= 0.25 * pt.sum(self.at[theta] ** 2)
        return [
            pt.switch(near, u + pt.sum(moved[:, None, None] * slope, axis=0), 0.0)
            for u, slope in zip(self.known, self.slopes, strict=True)
        ]


def integrated_loglik(structure: MarginalStructure, beta: Any, theta: Any, phi: Any, data: InsideData) -> Any:
    """Write the weighted sum of the log marginal densities of all top-level units (theory, eq. 40).

    Parameters
    ----------
    structure : MarginalStructure
    beta, theta, phi : vectors (p,), (n_theta,), (n_phi,)
        On the standardised scale; ``phi`` is not read where the family has none.
    data : InsideData

    Returns
    -------
    scalar variable
        Without the constant of the outcome. Its gradient by pytensor.grad is exact.
    """
    fixed = structure.fixed_parts(beta[:, None, None], data.X, data.offset)
    own = [phi[k] for k in range(structure.n_phi)]
    model = Model(structure, data.rows, data.tree, fixed, theta, own)
    psi = pt.concatenate([beta, theta, pt.stack(own)] if own else [beta, theta])
    modes: Any = FindModes(structure)(*data.start(structure, psi), *model.flat(), return_list=True)
    sums = sums_by_node if any(structure.adaptive) else sums_at_nodes
    unit = log_integral(model, list(modes), data.nodes, data.log_weights, sums)
    return pt.sum(data.tree.w[-1] * unit)


_compiled: dict[Any, Any] = {}
_compiling = threading.RLock()


def _interpreted(structure: MarginalStructure, types: Sequence[Any]) -> Any:
    """Compile the Newton step for PyTensor's interpreter, once per structure."""
    key = (structure, tuple(types))
    with _compiling:
        if key not in _compiled:
            graph = step_graph(structure, types)
            names = step_names(structure.n_levels)
            run = pytensor.function(graph.inputs, graph.outputs, mode=INTERPRETER, on_unused_input="ignore")

            def step(*values: Any) -> dict[str, Any]:
                with _compiling:
                    return dict(zip(names, run(*values), strict=True))

            _compiled[key] = step
        return _compiled[key]


def _jax_find_modes(op: FindModes, node: Apply) -> Any:
    import jax.numpy as jnp
    from jax import lax
    from pytensor.link.jax.dispatch import jax_funcify

    n = op.structure.n_levels
    step = jax_funcify(step_graph(op.structure, [i.type for i in node.inputs]))

    def run(*inputs: Any) -> Any:
        data = inputs[n:]
        tree = Model.of_flat(op.structure, list(data)).tree

        def one(state: Search) -> Search:
            return advance(lambda u: step(*u, *data), state, tree.to_top, jnp)

        state = lax.while_loop(searching, one, begin(inputs[:n], tree.w[-1].shape[0], jnp))
        found = end(state, tree.to_top, jnp)
        return found[0] if n == 1 else tuple(found)

    return run


register(FindModes, _jax_find_modes)
