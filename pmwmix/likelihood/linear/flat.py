"""The objective of a model without random effects: weighted least squares, in the clothes of `objective.Objective`."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import LOG_2PI, Likelihood, Point, joint_information
from pmwmix.likelihood.linear.crossproducts import ROWS_PER_CHUNK, Blocks, Structure
from pmwmix.likelihood.standardise import Columns


class FlatObjective(Likelihood):
    """Minus the pseudo-log-likelihood of y = Xb + e, profiled over beta and sigma: nothing is left to climb.

    Parameters
    ----------
    blocks : Blocks
        Cross-products of any partition of the rows.
    structure : Structure
    columns : Columns
        Raw columns, for the scores of single rows.
    kept : ndarray of int
        Fixed columns in the model.
    w : ndarray, shape (n,)
        Weights of the rows.
    """

    closed_form, engine = True, ""

    def __init__(self, blocks: Blocks, structure: Structure, columns: Columns, kept: Array, w: Array) -> None:
        self.blocks, self.structure, self.n_calls = blocks, structure, 0
        self._columns, self._kept, self._w = columns, kept, w
        self.n_free = blocks.n_total - (structure.p if structure.reml else 0)

    def at(self, theta: Array, k: int = 0) -> Point:
        """Evaluate outcome ``k``; theta is empty."""
        self.n_calls += 1
        S, p, n = self.blocks.S0(k), self.structure.p, self.n_free
        beta = np.linalg.solve(S[:p, :p], S[:p, p])
        sigma2 = max(float(S[p, p] - S[p, :p] @ beta), 1e-300) / n
        value = 0.5 * n * (LOG_2PI + np.log(sigma2) + 1.0)
        if self.structure.reml:
            value += 0.5 * np.linalg.slogdet(S[:p, :p])[1]
        none = np.zeros(0)
        information = joint_information(S[:p, :p], np.zeros((0, p)), np.zeros((0, 0)), none, sigma2, n)
        return Point(
            none, beta, float(np.sqrt(sigma2)), value, none, np.zeros((0, 0)), information, {"S_xx": S[:p, :p]}
        )

    def scores(self, point: Point, k: int = 0) -> Array:
        """Gradient of each row's log-likelihood in (beta, log sigma), shape (n, p + 1)."""
        columns, n, p = self._columns, len(self._w), self.structure.p
        out = np.empty((n, p + 1))
        for start in range(0, n, ROWS_PER_CHUNK):
            rows = slice(start, start + ROWS_PER_CHUNK)
            w = self._w[rows]
            X = np.array([self._standard(j, rows) for j in columns.x[self._kept]]).reshape(p, len(w)).T
            r = self._standard(columns.y[k], rows) - X @ point.beta
            out[rows, :p] = X * (w * r / point.sigma**2)[:, None]
            lost = 0.0
            if self.structure.reml:
                lost = w * np.einsum("ia,ab,ib->i", X, np.linalg.inv(point.raw["S_xx"]), X)
            out[rows, p] = w * (r / point.sigma) ** 2 - w + lost
        return out

    def modes(self, point: Point, k: int = 0) -> list[tuple[Array, Array]]:
        """There are no random effects."""
        return []

    def start(self, k: int = 0) -> Array:
        """There is nothing to climb."""
        return np.zeros(0)

    def _standard(self, column: int, rows: slice) -> Array:
        scaler = self._columns.scaler
        return (self._columns.values[column][rows] - scaler.shift[column]) / scaler.scale[column]

    def contrast_derivative(self, theta: Array, U: Array) -> Any:
        """There is no theta: shape (0, m)."""
        return np.zeros((0, U.shape[1]))
