"""Chunks of the sample evaluated by compiled graphs; `marginal` writes them.

Numbers in, numbers out. The counterpart in numpy is `direct.DirectChunks`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.interrupt import lend
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.engine import compiled, compiled_pair, padded_columns
from pmwmix.likelihood.general.marginal import marginal_graph, mode_graph
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.nodes import product_rule, slots
from pmwmix.likelihood.general.tiles import Chunk


class CompiledChunks:
    """All chunks of the sample; arguments as `objective.IntegratedObjective`.

    Notes
    -----
    Fixed columns are padded with zero columns up to a few numbers, so that models of like size share compiled code.
    """

    def __init__(
        self,
        structure: MarginalStructure,
        chunks: list[Chunk],
        rows: RowArrays,
        n_agq: tuple[int, ...],
        engine: str,
        cells: int,
    ) -> None:
        self.cells = cells
        self.structure, self.chunks, self.rows, self.n_agq, self.engine = structure, chunks, rows, n_agq, engine
        self.padded = replace(structure, p=padded_columns(structure.p))
        self.mode_step = compiled(mode_graph, _same_modes(self.padded), engine)
        self._shared = [self._put_shared(chunk) for chunk in chunks]
        self._outcome: tuple[int, list[list[Any]]] = (-1, [])
        free = structure.layout.n_theta + structure.n_phi
        self._eye = np.eye(self.padded.p + free)
        self._real = np.r_[: structure.p, self.padded.p : self.padded.p + free]
        self._compile()

    @property
    def side_by_side(self) -> bool:
        """Whether several chunks can be evaluated at once."""
        return self.first.engine == "jax"

    def _compile(self) -> None:
        """Write and compile the functions, side by side where the engine can, on the first chunk.

        A fit would compile one after the other: the search for modes is compiled while the other graphs are written.
        """
        chunk, q = self.chunks[0], self.structure.layout.q
        zero = np.zeros(self.structure.p + self.structure.layout.n_theta + self.structure.n_phi)
        beta, theta, phi = self._split(zero)
        modes = [np.zeros((n, len(w))) for n, w in zip(q, chunk.w, strict=True)]
        data = [theta, phi, *modes, *self._data(0)[0]]
        waiting = [lend(self.mode_step, beta, data)] if self.mode_step.engine == "jax" else []
        self.first, self.second = compiled_pair(marginal_graph, self.padded, self.engine)
        self._rules = self.first.put(_rules(self.n_agq, q))
        shapes = self.first.shapes(beta, [*data, *self._rules])
        if shapes is not None:
            known = [shape for name, shape in shapes.items() if name.startswith("known")]
            if len(self._directions) == 1:
                waiting.append(lend(self.second.prepare, [self._eye, *known]))
            self.first(beta, [*data, *self._rules])
        for one in waiting:
            one.result()

    @property
    def _directions(self) -> list[Array]:
        """Directions of the Hessian, all at once or one by one."""
        nodes = int(np.prod([n**q for n, q in zip(self.n_agq, self.structure.layout.q, strict=True)]))
        at_once = 8 * self.cells // (nodes * self.chunks[0].rows.size)  # chunks are planned for all of them at once
        return [self._eye] if at_once >= len(self._eye) else [row[None] for row in self._eye]

    def with_nodes(self, n_agq: tuple[int, ...], structure: MarginalStructure) -> CompiledChunks:
        """Give the same with other numbers of nodes; data are shared."""
        other = object.__new__(CompiledChunks)
        other.__dict__.update(self.__dict__)
        other.structure, other.n_agq = structure, n_agq
        other.padded = replace(structure, p=self.padded.p)
        other.first, other.second = compiled_pair(marginal_graph, other.padded, self.engine)
        other._rules = other.first.put(_rules(n_agq, structure.layout.q))
        return other

    def with_weights(self, chunks: list[Chunk], rows: RowArrays) -> CompiledChunks:
        """Give the same under other weights of rows and units; all else is shared."""
        other = object.__new__(CompiledChunks)
        other.__dict__.update(self.__dict__)
        other.rows, other.chunks, w_rows = rows, chunks, rows.w
        n, same = self.structure.n_levels, w_rows is self.rows.w or np.array_equal(w_rows, self.rows.w)
        other._shared = []
        for chunk, (front, back) in zip(other.chunks, self._shared, strict=True):
            own = back[:1] if same else self.first.put([np.where(chunk.real, w_rows[chunk.rows], 0.0)])
            other._shared.append((front, [*own, *back[1 : -2 * n], *self.first.put([*chunk.w, *chunk.omega])]))
        other._outcome = (-1, [])
        return other

    def _put_shared(self, chunk: Chunk) -> tuple[list[Any], list[Any]]:
        """Put fixed columns and offset; and apart, as they come after the outcome, random columns, weights and tree."""
        rows = self.rows
        X = np.zeros((self.padded.p, *chunk.rows.shape))
        for j, column in enumerate(rows.X):
            X[j] = column[chunk.rows]
        Z = np.array([column[chunk.rows] for column in rows.Z])
        w = np.where(chunk.real, rows.w[chunk.rows], 0.0)
        tree = [*chunk.tile_to, *chunk.parents, *chunk.to_top, *chunk.w, *chunk.omega]
        return self.mode_step.put([X, rows.offset[chunk.rows], Z]), self.mode_step.put([w, *tree])

    def _data(self, k: int) -> list[list[Any]]:
        """All inputs after the modes, per chunk, for outcome ``k``."""
        if self._outcome[0] != k:
            out = []
            for chunk, (front, back) in zip(self.chunks, self._shared, strict=True):
                y, *extra = self.mode_step.put([v[chunk.rows] for v in (self.rows.y[k], *self.rows.extra[k])])
                out.append([*front, y, back[0], *extra, *back[1:]])
            self._outcome = (k, out)
        return self._outcome[1]

    def _split(self, psi: Array) -> tuple[Array, Array, Array]:
        p, t = self.structure.p, self.structure.layout.n_theta
        return np.pad(psi[:p], (0, self.padded.p - p)), psi[p : p + t], psi[p + t :]

    def newton_step(self, number: int, psi: Array, k: int, modes: list[Array]) -> dict[str, Any]:
        """Evaluate the outputs of `marginal.mode_graph` for one chunk."""
        beta, theta, phi = self._split(psi)
        return self.mode_step(beta, [theta, phi, *modes, *self._data(k)[number]])

    def prepare(self, k: int) -> None:
        """Put the data of an outcome in their place."""
        self._data(k)

    def evaluate(self, number: int, psi: Array, k: int, modes: list[Array]) -> tuple[Array, Array]:
        """Give log-densities of the top-level units of one chunk (G,), without their weights, and scores (P, G)."""
        out, n = self._first(number, psi, k, modes), self.chunks[number].n_units[-1]
        names = [name for name in ("score_beta", "score_theta", "score_phi") if name in out]
        scores = np.concatenate([np.asarray(out[name]) for name in names])[self._real]
        return np.asarray(out["unit"])[:n], scores[:, :n]

    def _first(self, number: int, psi: Array, k: int, modes: list[Array]) -> dict[str, Any]:
        beta, theta, phi = self._split(psi)
        return self.first(beta, [theta, phi, *modes, *self._data(k)[number], *self._rules])

    def hessian(self, number: int, psi: Array, k: int, modes: list[Array]) -> Array:
        """Second derivatives of the weighted log-likelihood of one chunk (P, P)."""
        out = self._first(number, psi, k, modes)
        known = [value for name, value in out.items() if name.startswith("known")]
        parts = [name[6:] for name in out if name.startswith("score")]
        found = [self.second(along, known) for along in self._directions]
        H = np.concatenate([np.concatenate([np.asarray(rows[f"H_{name}"]) for name in parts], 1) for rows in found])
        return H[np.ix_(self._real, self._real)]


def _rules(n_agq: tuple[int, ...], q: tuple[int, ...]) -> list[Array]:
    """Nodes of every level, then their log-weights; with one effect in all, filled up to a few numbers."""
    alone = q == (1,)
    rules = [product_rule(n, size, slots(n) if alone else None) for n, size in zip(n_agq, q, strict=True)]
    return [a for a, _ in rules] + [w for _, w in rules]


def _same_modes(structure: MarginalStructure) -> MarginalStructure:
    """Forget the nodes, on which the search for modes does not depend."""
    return replace(structure, adaptive=(False,) * structure.n_levels)
