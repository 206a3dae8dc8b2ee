"""Broadcasting for the interpreter: PyTensor's own goes through a Python function for every element."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.compile.mode import optdb
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import in2out, node_rewriter
from pytensor.scalar.basic import Second
from pytensor.tensor.elemwise import Elemwise

from pmwmix.likelihood.ops.registry import register

TAG = "pmwmix_fills"  # of the rewrite, for modes that evaluate graphs in numpy


class Spread(Op):
    """Give the second input the shape that both have together."""

    __props__ = ()

    def make_node(self, like: Any, value: Any, out: Any) -> Apply:  # type: ignore[override]
        return Apply(self, [like, value], [out])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        like, value = inputs
        out = np.empty(np.broadcast_shapes(like.shape, value.shape), node.outputs[0].type.dtype)
        out[...] = value
        output_storage[0][0] = out


def _spread_jax(op: Any, node: Apply) -> Any:
    import jax.numpy as jnp

    return lambda like, value: jnp.broadcast_to(value, jnp.broadcast_shapes(like.shape, value.shape))


register(Spread, _spread_jax)
spread = Spread()


@node_rewriter([Elemwise])
def fill_to_spread(fgraph: Any, node: Any) -> list[Any] | None:
    """Write a fill as our own Op."""
    if not isinstance(node.op.scalar_op, Second):
        return None
    like, value = node.inputs
    return [spread.make_node(like, value, node.outputs[0].type()).outputs[0]]


optdb.register("pmwmix_spread", in2out(fill_to_spread), TAG, position=1.6)  # after equal nodes have been merged
