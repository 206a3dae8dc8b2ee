"""Sum over the units of a parent, and its transpose: two small Ops on the last axis.

Children need not be sorted. Both Ops take any number of leading axes, so a batched derivative costs one call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pmwmix.likelihood.ops.registry import register
from pmwmix.links._vectorise import vectorised


class SegmentSum(Op):
    """Sum ``values[..., i]`` into ``out[..., index[i]]``; ``like`` only lends its length."""

    __props__ = ()

    def make_node(self, values: Any, index: Any, like: Any) -> Apply:  # type: ignore[override]
        values, index, like = pt.as_tensor(values), pt.as_tensor(index), pt.as_tensor(like)
        out = pt.TensorType(values.dtype, (*values.type.shape[:-1], like.type.shape[-1]))()
        return Apply(self, [values, index, like], [out])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        values, index, like = inputs
        n = like.shape[-1]
        flat = values.reshape(-1, values.shape[-1])
        sums = [np.bincount(index, weights=row, minlength=n) for row in flat]
        output_storage[0][0] = np.array(sums, dtype=values.dtype).reshape((*values.shape[:-1], n))

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        return [(*shapes[0][:-1], shapes[2][-1])]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        _, index, _ = inputs
        return [spread(cotangents[0], index), disconnected_type(), disconnected_type()]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [False], [False]]


class Spread(Op):
    """Copy ``values[..., index[i]]`` to ``out[..., i]``: each child gets its parent's value."""

    __props__ = ()

    def make_node(self, values: Any, index: Any) -> Apply:  # type: ignore[override]
        values, index = pt.as_tensor(values), pt.as_tensor(index)
        out = pt.TensorType(values.dtype, (*values.type.shape[:-1], index.type.shape[-1]))()
        return Apply(self, [values, index], [out])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        values, index = inputs
        output_storage[0][0] = np.take(values, index, axis=-1)

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        return [(*shapes[0][:-1], shapes[1][-1])]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        values, index = inputs
        return [segment_sum(cotangents[0], index, values), disconnected_type()]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [False]]


def segment_sum(values: Any, index: Any, like: Any) -> Any:
    """Sum the last axis of ``values`` by ``index`` into as many entries as the last axis of ``like`` has."""
    return SegmentSum()(values, index, like)


def spread(values: Any, index: Any) -> Any:
    """Repeat the last axis of ``values`` by ``index``; the transpose of `segment_sum`."""
    return Spread()(values, index)


vectorised(SegmentSum)


vectorised(Spread)


def _jax_segment_sum(op: Any, node: Apply) -> Any:
    import jax.numpy as jnp

    def run(values: Any, index: Any, like: Any) -> Any:
        flat = values.reshape(-1, values.shape[-1]).T  # several leading axes would make the scatter slow
        zeros = jnp.zeros((like.shape[-1], flat.shape[1]), values.dtype)
        return zeros.at[index].add(flat).T.reshape((*values.shape[:-1], like.shape[-1]))

    return run


def _jax_spread(op: Any, node: Apply) -> Any:
    import jax.numpy as jnp

    return lambda values, index: jnp.take(values, index, axis=-1)


def _numba_segment_sum(op: Any, node: Apply) -> Any:
    from pytensor.link.numba.dispatch.basic import numba_njit

    @numba_njit
    def run(values: Any, index: Any, like: Any) -> Any:
        n, m = values.shape[-1], like.shape[-1]
        flat = np.ascontiguousarray(values).reshape(-1, n)
        out = np.zeros((flat.shape[0], m), values.dtype)
        for row in range(flat.shape[0]):
            for i in range(n):
                out[row, index[i]] += flat[row, i]
        return out.reshape((*values.shape[:-1], m))

    return run


def _numba_spread(op: Any, node: Apply) -> Any:
    from pytensor.link.numba.dispatch.basic import numba_njit

    @numba_njit
    def run(values: Any, index: Any) -> Any:
        n, m = values.shape[-1], index.shape[0]
        flat = np.ascontiguousarray(values).reshape(-1, n)
        out = np.empty((flat.shape[0], m), values.dtype)
        for row in range(flat.shape[0]):
            for i in range(m):
                out[row, i] = flat[row, index[i]]
        return out.reshape((*values.shape[:-1], m))

    return run


register(SegmentSum, _jax_segment_sum, _numba_segment_sum)
register(Spread, _jax_spread, _numba_spread)
