"""Read the data of a linear model with crossed random effects once: weighted cross-products of units. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.crossed.units import Crossing
from pmwmix.likelihood.standardise import Columns


@dataclass(frozen=True)
class CrossedBlocks:
    """Cross-products of standardised columns (crossed, eq. 8); A is the factor with the most units.

    Parameters
    ----------
    own : ndarray, shape (q (q + 1) / 2, G)
        Lower triangle, row by row, of Z'WZ per unit of A.
    cross : ndarray, shape (q, G, D), or (q, N) by cells
        Between the random columns of A and the dense block.
    dense : ndarray, shape (D, D)
    own_x : ndarray, shape (q, p, G)
    dense_x : ndarray, shape (p, D)
    own_y : ndarray, shape (K, q, G)
    dense_y : ndarray, shape (K, D)
    """

    own: Array
    cross: Array
    dense: Array
    own_x: Array
    dense_x: Array
    own_y: Array
    dense_y: Array


def cross_products(columns: Columns, kept: Array, crossing: Crossing, w: Array) -> CrossedBlocks:
    """Form the cross-products.

    Parameters
    ----------
    columns : Columns
        Raw columns and how they are standardised; random columns factor after factor.
    kept : ndarray of int
        Fixed columns in the model.
    crossing : Crossing
    w : ndarray, shape (n,)
        Weights of the rows.

    Returns
    -------
    CrossedBlocks
    """
    scaler, unit, place = columns.scaler, crossing.index[0], crossing.place
    q, G, D = crossing.q[0], crossing.n_units[0], crossing.n_dense

    def standard(j: int) -> Array:
        return (columns.values[j] - scaler.shift[j]) / scaler.scale[j]

    Z = [standard(int(j)) for j in columns.z]
    own, others = Z[:q], np.array(Z[q:])
    triangle = np.array([np.bincount(unit, w * own[i] * own[j], minlength=G) for i in range(q) for j in range(i + 1)])
    shape: tuple[int, ...] = (G, D)
    places = (unit * D + place).ravel()
    if crossing.sparse:
        places, shape = crossing.cells.of.ravel(), (len(crossing.cells.unit),)
    length = int(np.prod(shape))
    cross = np.array([np.bincount(places, (others * (w * z)).ravel(), minlength=length).reshape(shape) for z in own])
    dense = np.zeros((D, D))
    for k, z in enumerate(others):
        at = (place[k] * D + place).ravel()
        dense += np.bincount(at, (others * (w * z)).ravel(), minlength=D * D).reshape(D, D)

    def with_column(j: int) -> tuple[Array, Array]:
        wv = w * standard(j)
        low = np.array([np.bincount(unit, wv * z, minlength=G) for z in own])
        return low, np.bincount(place.ravel(), (others * wv).ravel(), minlength=D)

    x = [with_column(int(j)) for j in columns.x[kept]]
    y = [with_column(int(j)) for j in columns.y]
    return CrossedBlocks(
        triangle,
        cross,
        dense,
        np.array([low for low, _ in x]).reshape(len(x), q, G).transpose(1, 0, 2),
        np.array([high for _, high in x]).reshape(len(x), D),
        np.array([low for low, _ in y]),
        np.array([high for _, high in y]),
    )
