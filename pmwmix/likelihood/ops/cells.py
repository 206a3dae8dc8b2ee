"""Sum over the cells of two crossed factors, and its transpose: two small Ops.

The counterpart of `segment.py` for matrices with a row per effect of one factor and a column per unit of another. The
last axes of the values are those of the indices ``row`` and ``column``; both Ops take any number of axes before them,
so a batched derivative costs one call.
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


class CellSum(Op):
    """Sum ``values[..., i]`` into ``out[..., row[i], column[i]]``, ``i`` over all places of the indices.

    ``like_row`` and ``like_column`` only lend the lengths of their last axes.
    """

    __props__ = ()

    def make_node(  # type: ignore[override]
        self, values: Any, row: Any, column: Any, like_row: Any, like_column: Any
    ) -> Apply:
        inputs = [pt.as_tensor(i) for i in (values, row, column, like_row, like_column)]
        lead = inputs[0].type.shape[: inputs[0].type.ndim - inputs[1].type.ndim]
        sides = (inputs[3].type.shape[-1], inputs[4].type.shape[-1])
        return Apply(self, inputs, [pt.TensorType(inputs[0].dtype, (*lead, *sides))()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        output_storage[0][0] = _sum_cells(*inputs)

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        return [(*shapes[0][: len(shapes[0]) - len(shapes[1])], shapes[3][-1], shapes[4][-1])]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        _, row, column, _, _ = inputs
        return [cell_spread(cotangents[0], row, column), *(disconnected_type() for _ in range(4))]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [False], [False], [False], [False]]


class CellSpread(Op):
    """Copy ``matrix[..., row[i], column[i]]`` to ``out[..., i]``, ``i`` over all places of the indices."""

    __props__ = ()

    def make_node(self, matrix: Any, row: Any, column: Any) -> Apply:  # type: ignore[override]
        matrix, row, column = pt.as_tensor(matrix), pt.as_tensor(row), pt.as_tensor(column)
        out = pt.TensorType(matrix.dtype, (*matrix.type.shape[:-2], *row.type.shape))()
        return Apply(self, [matrix, row, column], [out])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        matrix, row, column = inputs
        output_storage[0][0] = matrix[..., row, column]

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        return [(*shapes[0][:-2], *shapes[1])]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        matrix, row, column = inputs
        back = cell_sum(cotangents[0], row, column, matrix[..., :, 0], matrix[..., 0, :])
        return [back, disconnected_type(), disconnected_type()]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [False], [False]]


def cell_sum(values: Any, row: Any, column: Any, like_row: Any, like_column: Any) -> Any:
    """Sum values into the cells of a matrix as long as ``like_row`` and as wide as ``like_column``."""
    return CellSum()(values, row, column, like_row, like_column)


def cell_spread(matrix: Any, row: Any, column: Any) -> Any:
    """Copy the cells of a matrix to the places that belong to them; the transpose of `cell_sum`."""
    return CellSpread()(matrix, row, column)


def _sum_cells(values: Any, row: Any, column: Any, like_row: Any, like_column: Any) -> Any:
    height, width = like_row.shape[-1], like_column.shape[-1]
    place = (row * width + column).ravel()
    flat = values.reshape(-1, place.size)
    out = np.empty((len(flat), height * width))
    for one, sums in zip(flat, out, strict=True):
        sums[:] = np.bincount(place, one, minlength=height * width)
    return out.reshape((*values.shape[: values.ndim - row.ndim], height, width))


vectorised(CellSum)


vectorised(CellSpread)


def _jax_cell_sum(op: Any, node: Apply) -> Any:
    import jax.numpy as jnp

    def run(values: Any, row: Any, column: Any, like_row: Any, like_column: Any) -> Any:
        height, width = like_row.shape[-1], like_column.shape[-1]
        flat = values.reshape(-1, row.size).T  # several leading axes would make the scatter slow
        zeros = jnp.zeros((height * width, flat.shape[1]), values.dtype)
        sums = zeros.at[(row * width + column).ravel()].add(flat)
        return sums.T.reshape((*values.shape[: values.ndim - row.ndim], height, width))

    return run


def _jax_cell_spread(op: Any, node: Apply) -> Any:
    return lambda matrix, row, column: matrix[..., row, column]


register(CellSum, _jax_cell_sum)
register(CellSpread, _jax_cell_spread)
