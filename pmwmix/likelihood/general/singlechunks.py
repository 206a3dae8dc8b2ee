"""All chunks of a sample with one grouping level, evaluated in numpy; the counterpart of `compiled.CompiledChunks`."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.nodes import product_rule
from pmwmix.likelihood.general.single import AtModes, at_mode_alone, at_nodes, newton_step
from pmwmix.likelihood.general.singlehessian import Hessian, Scores
from pmwmix.likelihood.general.singlerows import SingleRows, distinct
from pmwmix.likelihood.general.tiles import Chunk

MOST = 3  # random effects: what is formed per unit grows with their fourth power


def knows(structure: MarginalStructure) -> bool:
    """Whether `SingleChunks` can evaluate a model: one level, one linear predictor, a few normal effects."""
    alone = structure.n_levels == 1 and structure.n_predictors == 1
    return alone and structure.latent == "normal" and structure.layout.q[0] <= MOST


class SingleChunks:
    """All chunks of the sample; arguments as `objective.IntegratedObjective`."""

    side_by_side = True

    def __init__(
        self, structure: MarginalStructure, chunks: list[Chunk], rows: RowArrays, n_agq: tuple[int, ...]
    ) -> None:
        self.structure, self.chunks, self.rows, self.n_agq = structure, chunks, rows, n_agq
        self.known = distinct(rows)
        self.ahead = True  # a climb asks for second derivatives at nearly every point: they are formed with the others
        self._outcome: tuple[int, list[SingleRows]] = (-1, [])
        self._last: dict[int, tuple[Any, Array, Array, Array | None]] = {}

    def with_nodes(self, n_agq: tuple[int, ...], structure: MarginalStructure) -> SingleChunks:
        """Give the same with other numbers of nodes; data are shared."""
        other = copy(self)
        other.structure, other.n_agq, other.ahead, other._last = structure, n_agq, False, {}
        return other

    def with_weights(self, chunks: list[Chunk], rows: RowArrays) -> SingleChunks:
        """Give the same under other weights of rows and units."""
        other = copy(self)
        other.chunks, other.rows, other._outcome, other._last = chunks, rows, (-1, []), {}
        return other

    def prepare(self, k: int) -> None:
        """Lay the rows out for an outcome."""
        if self._outcome[0] == k:
            return
        known = self._outcome[1]
        laid = [chunk.of_outcome(self.rows, k) for chunk in known] if known else self._laid_out(k)
        self._last, self._outcome = {}, (k, laid)

    def _laid_out(self, k: int) -> list[SingleRows]:
        return [SingleRows(self.structure, chunk, self.rows, k, self.known) for chunk in self.chunks]

    def newton_step(self, number: int, psi: Array, k: int, modes: list[Array]) -> dict[str, Array]:
        """Give the outputs of `marginal.mode_graph` for one chunk; padding does not move."""
        self.prepare(k)
        (u,), rows = modes, self._outcome[1][number]
        out = newton_step(rows, psi, u[:, : rows.n_units])
        return {name: value if name == "zz" else _padded(value, u.shape[1]) for name, value in out.items()}

    def evaluate(self, number: int, psi: Array, k: int, modes: list[Array]) -> tuple[Array, Array]:
        """Give log-densities of the top-level units of one chunk (G,), without their weights, and scores (P, G)."""
        return self._at(number, psi, k, modes, self.ahead)[1:3]

    def hessian(self, number: int, psi: Array, k: int, modes: list[Array]) -> Array:
        """Second derivatives of the weighted log-likelihood of one chunk (P, P)."""
        self.ahead = True
        found = self._at(number, psi, k, modes, True)[3]
        assert found is not None
        return found

    def _at(
        self, number: int, psi: Array, k: int, modes: list[Array], second: bool
    ) -> tuple[Any, Array, Array, Array | None]:
        key = (k, psi.tobytes(), modes[0].tobytes())
        last = self._last.get(number)
        if last is None or last[0] != key or (second and last[3] is None):
            self.prepare(k)
            last = self._last[number] = (key, *self._evaluated(self._outcome[1][number], psi, modes[0], second))
        return last

    def _evaluated(self, rows: SingleRows, psi: Array, u: Array, second: bool) -> tuple[Array, Array, Array | None]:
        at = AtModes(rows, psi, u[:, : rows.n_units], 4 if second else 3)
        order, (n,), q = 2 if second else 1, self.n_agq, len(u)
        nodes = at_mode_alone(at, order) if n == 1 else at_nodes(at, n, order)
        scores = Scores(at, nodes, np.zeros((q, 1)) if n == 1 else product_rule(n, q)[0])
        return nodes.value, scores.scores() * rows.top, Hessian(scores).value() if second else None


def _padded(values: Array, n: int) -> Array:
    """Fill the last axis up with zeros."""
    out = np.zeros((*values.shape[:-1], n))
    out[..., : values.shape[-1]] = values
    return out
