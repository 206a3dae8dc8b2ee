"""How an Op of our own takes a batch of inputs.

The only file that knows `_vectorize_node`, which is not part of PyTensor's public interface; ``vectorize_graph``, which
is, asks it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.replace import _vectorize_node


def vectorised(kind: type[Op], check: Callable[..., None] | None = None) -> None:
    """Let an Op that works on any leading axes take batches as they come.

    Parameters
    ----------
    kind : type
    check : callable, optional
        Takes the batched inputs and raises where they cannot be taken.
    """

    @_vectorize_node.register(kind)
    def _batch(op: Any, node: Apply, *inputs: Any) -> Apply:
        if check is not None:
            check(*inputs)
        made: Apply = op.make_node(*inputs)
        return made
