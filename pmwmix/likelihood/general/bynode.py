"""Sums of log-densities over the rows of each tile at many quadrature nodes, one node after the other.

`marginal.sums_at_nodes` evaluates all nodes at once, which lets Hessians follow; its arrays are as many times larger
than the data as there are nodes. Here one node is finished before the next begins, in the value and in the gradient, so
that arrays stay in the processor's cache. There are no second derivatives.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import Op
from pytensor.graph.rewriting.db import RewriteDatabaseQuery

from pmwmix.likelihood.general.model import MarginalStructure, Model, RowData, insert_axes
from pmwmix.likelihood.ops.registry import register
from pmwmix.likelihood.ops.segment import spread
from pmwmix.likelihood.ops.smallmat import total

INTERPRETER = Mode("py", RewriteDatabaseQuery(include=["minimum_compile", "merge"]))


def sums_by_node(model: Model, b: list[list[Any]]) -> Any:
    """Write the weighted sums of log-densities per tile, (K_top, ..., K_1, T), as `marginal.sums_at_nodes`."""
    tiles = []
    for level, entries in enumerate(b):
        tiles += [insert_axes(spread(entry, model.tree.tile_to[level]), level) for entry in entries]
    zero = pt.zeros_like(total(tiles))
    tiles = [zero + part for part in tiles]
    return TileSums(model.structure)(*model.eta0, *model.phi, *tiles, *model.rows.flat())


class TileSums(Op):
    """Sum weighted log-densities over the rows of a tile, at every node.

    Inputs: eta0 of every linear predictor (lanes, T), the scalars phi, b of every random column (..., T),
    `RowData.flat`; output (..., T).
    """

    __props__ = ("structure",)
    slopes = False

    def __init__(self, structure: MarginalStructure) -> None:
        self.structure = structure
        self.n_free = structure.n_predictors + structure.n_phi  # inputs without node axes
        self.n_wrt = self.n_free + len(structure.ones)

    def make_node(self, *inputs: Any) -> Apply:  # type: ignore[override]
        """Give every node the sums of all tiles."""
        inputs = tuple(pt.as_tensor(i) for i in inputs)
        return Apply(self, list(inputs), [inputs[self.n_free].type()])

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        """Give the shape of the random effects."""
        return [shapes[self.n_free]]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Rows are data."""
        return [[k < self.n_wrt] for k in range(len(node.inputs))]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        """Differentiate in eta0, phi and b."""
        found: Any = TileSlopes(self.structure)(cotangents[0], *inputs, return_list=True)
        return [*found, *(disconnected_type() for _ in inputs[self.n_wrt :])]

    def graph(self, types: Any) -> FunctionGraph:
        """Write the sums at one node."""
        inputs = self.one_node(types)
        return FunctionGraph(inputs, [self.sums(inputs)], clone=False)

    def one_node(self, types: Any) -> list[Any]:
        """Make inputs for one node: b of every column is (T,)."""
        return [kind() if k < self.n_free or k >= self.n_wrt else pt.vector() for k, kind in enumerate(types)]

    def sums(self, inputs: list[Any]) -> Any:
        """Write the sums (T,)."""
        rows = RowData.of_flat(inputs[self.n_wrt :])
        structure, n = self.structure, self.structure.n_predictors
        etas = list(inputs[:n])
        for c, entry in enumerate(inputs[self.n_free : self.n_wrt]):
            k = structure.predictor_of(c)
            etas[k] = etas[k] + (entry if structure.ones[c] else entry * rows.Z[c])
        phi = inputs[n : self.n_free]
        return pt.sum(rows.w * structure.log_density(rows.y, rows.extra, etas, phi), axis=0)

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        """Go through the nodes in PyTensor's interpreter."""
        run = _interpreted(self, tuple(i.type for i in node.inputs))
        free, b, rows = inputs[: self.n_free], inputs[self.n_free : self.n_wrt], inputs[self.n_wrt :]
        b = [part.reshape(-1, part.shape[-1]) for part in b]
        sums = [run(*free, *(part[k] for part in b), *rows)[0] for k in range(len(b[0]))]
        output_storage[0][0] = np.array(sums).reshape(inputs[self.n_free].shape)


class TileSlopes(TileSums):
    """Inputs: a cotangent (..., T), then those of `TileSums`; outputs: the cotangents of eta0, phi and b."""

    def make_node(self, *inputs: Any) -> Apply:  # type: ignore[override]
        """Give as many cotangents as there are inputs to differentiate in."""
        inputs = tuple(pt.as_tensor(i) for i in inputs)
        return Apply(self, list(inputs), [i.type() for i in inputs[1 : 1 + self.n_wrt]])

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        """Give the shapes of the inputs."""
        return shapes[1 : 1 + self.n_wrt]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Everything but rows is connected."""
        return [[k < 1 + self.n_wrt] * self.n_wrt for k in range(len(node.inputs))]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        """Refuse."""
        raise NotImplementedError("The likelihood with modes inside has no second derivatives.")

    def graph(self, types: Any) -> FunctionGraph:
        """Write the cotangents at one node."""
        inputs, along = self.one_node(types[1:]), pt.vector()
        wrt = inputs[: self.n_wrt]
        found: Any = pytensor.grad(pt.sum(along * self.sums(inputs)), wrt, disconnected_inputs="ignore")
        return FunctionGraph([along, *inputs], found, clone=False)

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        """Go through the nodes in PyTensor's interpreter."""
        run = _interpreted(self, tuple(i.type for i in node.inputs))
        along, *inputs = inputs
        free, b, rows = inputs[: self.n_free], inputs[self.n_free : self.n_wrt], inputs[self.n_wrt :]
        b = [part.reshape(-1, part.shape[-1]) for part in b]
        parts = zip(along.reshape(b[0].shape), *b, strict=True)
        found = [run(c, *free, *at, *rows) for c, *at in parts]
        for k, storage in enumerate(output_storage):
            values = [one[k] for one in found]
            shape = inputs[self.n_free].shape
            storage[0] = np.asarray(sum(values)) if k < self.n_free else np.array(values).reshape(shape)


_compiled: dict[Any, Any] = {}
_lock = threading.RLock()  # a PyTensor function keeps its inputs in one place for all threads


def _interpreted(op: TileSums, types: tuple[Any, ...]) -> Any:
    """Compile one node for PyTensor's interpreter, once."""
    with _lock:
        if (op, types) not in _compiled:
            graph = op.graph(types)
            function = pytensor.function(graph.inputs, graph.outputs, mode=INTERPRETER, on_unused_input="ignore")

            def run(*values: Any) -> Any:
                with _lock, np.errstate(all="ignore"):
                    return function(*values)

            _compiled[op, types] = run
        return _compiled[op, types]


def _flat(values: Any) -> Any:
    return values.reshape(-1, values.shape[-1])


def _jax_sums(op: TileSums, node: Apply) -> Any:
    from jax import lax
    from pytensor.link.jax.dispatch import jax_funcify

    one = jax_funcify(op.graph([i.type for i in node.inputs]))

    def run(*inputs: Any) -> Any:
        free, b, rows = inputs[: op.n_free], inputs[op.n_free : op.n_wrt], inputs[op.n_wrt :]
        sums = lax.map(lambda at: one(*free, *at, *rows)[0], tuple(map(_flat, b)))
        return sums.reshape(b[0].shape)

    return run


def _jax_slopes(op: TileSlopes, node: Apply) -> Any:
    import jax.numpy as jnp
    from jax import lax
    from pytensor.link.jax.dispatch import jax_funcify

    one = jax_funcify(op.graph([i.type for i in node.inputs]))

    def run(along: Any, *inputs: Any) -> Any:
        free, b, rows = inputs[: op.n_free], inputs[op.n_free : op.n_wrt], inputs[op.n_wrt :]

        def step(so_far: Any, at: Any) -> Any:
            found = one(at[0], *free, *at[1:], *rows)
            return tuple(s + f for s, f in zip(so_far, found[: op.n_free], strict=True)), tuple(found[op.n_free :])

        zero = tuple(jnp.zeros(jnp.shape(part)) for part in free)
        sums, by_node = lax.scan(step, zero, tuple(map(_flat, (along, *b))))
        return (*sums, *(part.reshape(b[0].shape) for part in by_node))

    return run


register(TileSums, _jax_sums)
register(TileSlopes, _jax_slopes)
