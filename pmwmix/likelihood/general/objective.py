"""The objective of a generalised model: minus the marginal pseudo-log-likelihood at a point, chunk by chunk.

Numbers in, numbers out; the graphs are written in `marginal.py`. All quantities are those of standardised columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import IntegratedPoint, RowArrays
from pmwmix.likelihood.engine import compiled, compiled_pair, padded_columns
from pmwmix.likelihood.general.marginal import marginal_graph, mode_graph
from pmwmix.likelihood.general.modefinder import find_modes
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.nodes import product_rule, slots
from pmwmix.likelihood.general.tiles import Chunk, reweighted


class IntegratedObjective:
    """Minus the marginal pseudo-log-likelihood (theory, eqs. 40-50).

    Parameters
    ----------
    structure : MarginalStructure
    chunks : list of Chunk
    rows : RowArrays
    n_agq : tuple of int
        Nodes per dimension at each level, bottom-up.
    engine : str
    cells : int
        Places times nodes times directions of the Hessian that are held at once; a single top-level unit may need
        more, and then takes its directions one by one.

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
        engine: str = "jax",
        cells: int = 400_000,
    ) -> None:
        self.cells = cells
        self.structure, self.chunks, self.rows, self.n_agq, self.engine = structure, chunks, rows, n_agq, engine
        self.padded = replace(structure, p=padded_columns(structure.p))
        self.mode_step = compiled(mode_graph, _same_modes(self.padded), engine)
        self.n_calls = 0
        self._shared = [self._put_shared(chunk) for chunk in chunks]
        self._outcome: tuple[int, list[list[Any]]] = (-1, [])
        self._modes: dict[int, list[list[Array]]] = {}
        free = structure.layout.n_theta + structure.n_phi
        self._eye = np.eye(self.padded.p + free)
        self._real = np.r_[: structure.p, self.padded.p : self.padded.p + free]
        self._compile()

    def _compile(self) -> None:
        """Write and compile the functions, side by side where the engine can, on the first chunk.

        A fit would compile one after the other: the search for modes is compiled while the other graphs are written.
        """
        chunk, q = self.chunks[0], self.structure.layout.q
        zero = np.zeros(self.structure.p + self.structure.layout.n_theta + self.structure.n_phi)
        beta, theta, phi = self._split(zero)
        modes = [np.zeros((n, len(w))) for n, w in zip(q, chunk.w, strict=True)]
        data = [theta, phi, *modes, *self._data(0)[0]]
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Any] = [pool.submit(self.mode_step, beta, data)] if self.engine == "jax" else []
            self.first, self.second = compiled_pair(marginal_graph, self.padded, self.engine)
            self._rules = self.first.put(_rules(self.n_agq, q))
            shapes = self.first.shapes(beta, [*data, *self._rules])
            if shapes is not None:
                known = [shape for name, shape in shapes.items() if name.startswith("known")]
                if len(self._directions) == 1:
                    waiting.append(pool.submit(self.second.prepare, [self._eye, *known]))
                self.first(beta, [*data, *self._rules])
            for one in waiting:
                one.result()

    @property
    def _directions(self) -> list[Array]:
        """Directions of the Hessian, all at once or one by one."""
        nodes = int(np.prod([n**q for n, q in zip(self.n_agq, self.structure.layout.q, strict=True)]))
        at_once = 8 * self.cells // (nodes * self.chunks[0].rows.size)  # chunks are planned for all of them at once
        return [self._eye] if at_once >= len(self._eye) else [row[None] for row in self._eye]

    def with_nodes(self, n_agq: tuple[int, ...], structure: MarginalStructure) -> IntegratedObjective:
        """Give the same objective with other numbers of nodes; data are shared."""
        other = object.__new__(IntegratedObjective)
        other.__dict__.update(self.__dict__)
        other.structure, other.n_agq = structure, n_agq
        other.padded = replace(structure, p=self.padded.p)
        other.first, other.second = compiled_pair(marginal_graph, other.padded, self.engine)
        other._rules = other.first.put(_rules(n_agq, structure.layout.q))
        other._modes = dict(self._modes)
        return other

    def with_weights(self, w_rows: Array, w: Sequence[Array]) -> IntegratedObjective:
        """Give the same objective under other weights of rows (n,) and of units, bottom-up; all else is shared."""
        other = object.__new__(IntegratedObjective)
        other.__dict__.update(self.__dict__)
        other.rows = replace(self.rows, w=w_rows)
        other.chunks = [reweighted(chunk, w) for chunk in self.chunks]
        n, same = self.structure.n_levels, np.array_equal(w_rows, self.rows.w)
        other._shared = []
        for chunk, (front, back) in zip(other.chunks, self._shared, strict=True):
            rows = back[:1] if same else self.first.put([np.where(chunk.real, w_rows[chunk.rows], 0.0)])
            other._shared.append((front, [*rows, *back[1 : -2 * n], *self.first.put([*chunk.w, *chunk.omega])]))
        other._outcome, other._modes = (-1, []), dict(self._modes)
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

    def _start(self, k: int) -> list[list[Array]]:
        if k not in self._modes:
            q = self.structure.layout.q
            known = self._modes[max(self._modes)] if self._modes else None
            self._modes[k] = known or [
                [np.zeros((n, len(w))) for n, w in zip(q, c.w, strict=True)] for c in self.chunks
            ]
        return self._modes[k]

    def _chunk_modes(self, number: int, psi: Array, k: int, start: list[Array]) -> list[Array]:
        beta, theta, phi = self._split(psi)
        data, chunk = self._data(k)[number], self.chunks[number]
        return find_modes(lambda u: self.mode_step(beta, [theta, phi, *u, *data]), start, list(chunk.to_top))

    def _chunk_first(self, number: int, psi: Array, k: int, modes: list[Array]) -> dict[str, Any]:
        beta, theta, phi = self._split(psi)
        return self.first(beta, [theta, phi, *modes, *self._data(k)[number], *self._rules])

    def at(self, psi: Array, k: int = 0) -> IntegratedPoint:
        """Evaluate outcome ``k`` at parameters (P,)."""
        psi = np.array(psi, dtype=float)
        self.n_calls += 1
        start = self._start(k)
        self._data(k)

        def one(number: int) -> tuple[float, Array, list[Array]]:
            chunk, n = self.chunks[number], self.chunks[number].n_units[-1]
            modes = self._chunk_modes(number, psi, k, start[number])
            out = self._chunk_first(number, psi, k, modes)
            scores = self._scores(out)[:, :n]
            return float(chunk.w[-1] @ np.asarray(out["unit"])), scores.T, modes

        parts = self._each(one)
        scores = np.concatenate([part[1] for part in parts])
        value = -sum(part[0] for part in parts)
        modes = [part[2] for part in parts]
        if np.isfinite(value):
            self._modes[k] = modes
        return IntegratedPoint(psi, value, -scores.sum(axis=0), scores, modes, self, k)

    def _scores(self, out: dict[str, Any]) -> Array:
        names = [name for name in ("score_beta", "score_theta", "score_phi") if name in out]
        return np.concatenate([np.asarray(out[name]) for name in names])[self._real]

    def hessian(self, point: IntegratedPoint) -> Array:
        """Second derivatives of minus the pseudo-log-likelihood (P, P)."""
        directions = self._directions

        def one(number: int) -> Array:
            out = self._chunk_first(number, point.theta, point.outcome, point.modes[number])
            known = [value for name, value in out.items() if name.startswith("known")]
            parts = [name[6:] for name in out if name.startswith("score")]
            found = [self.second(along, known) for along in directions]
            return np.concatenate(
                [np.concatenate([np.asarray(rows[f"H_{name}"]) for name in parts], 1) for rows in found]
            )

        H = -np.sum(self._each(one), axis=0)[np.ix_(self._real, self._real)]
        return 0.5 * (H + H.T)

    def units(self, point: IntegratedPoint) -> Array:
        """Log-density of every top-level unit, without its own weight (G_L,)."""

        def one(number: int) -> Array:
            out = self._chunk_first(number, point.theta, point.outcome, point.modes[number])
            return np.asarray(out["unit"])[: self.chunks[number].n_units[-1]]

        return np.concatenate(self._each(one))

    def modes(self, point: IntegratedPoint) -> list[Array]:
        """Whitened conditional modes of the whole sample, per level (q_l, G_l)."""
        out = []
        for level in range(self.structure.n_levels):
            parts = [m[level][:, : c.n_units[level]] for m, c in zip(point.modes, self.chunks, strict=True)]
            out.append(np.concatenate(parts, axis=1))
        return out

    def steps(self, point: IntegratedPoint, psi: Array) -> list[Array]:
        """Newton's step at parameters ``psi`` from the modes of a point, for the whole sample, per level (q_l, G_l)."""
        beta, theta, phi = self._split(psi)

        def one(number: int) -> list[Array]:
            out = self.mode_step(beta, [theta, phi, *point.modes[number], *self._data(point.outcome)[number]])
            units = self.chunks[number].n_units
            return [np.asarray(out[f"step{level}"])[:, :n] for level, n in enumerate(units)]

        return [np.concatenate(parts, axis=1) for parts in zip(*self._each(one), strict=True)]

    def curvature(self, point: IntegratedPoint) -> Array:
        """Curvature of the rows between random columns at the modes, lower triangle, (Q (Q + 1) / 2, G_1)."""
        beta, theta, phi = self._split(point.theta)

        def one(number: int) -> Array:
            out = self.mode_step(beta, [theta, phi, *point.modes[number], *self._data(point.outcome)[number]])
            return np.asarray(out["zz"])[:, : self.chunks[number].n_units[0]]

        return np.concatenate(self._each(one), axis=1)

    def _each(self, one: Any) -> list[Any]:
        numbers = range(len(self.chunks))
        if len(self.chunks) == 1 or self.engine not in ("jax",):
            return [one(number) for number in numbers]
        one_done = one(0)  # compiles; the others then run side by side
        with ThreadPoolExecutor(2) as pool:
            return [one_done, *pool.map(one, numbers[1:])]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the data; compiled code is made again where it is needed."""
        return IntegratedObjective, (self.structure, self.chunks, self.rows, self.n_agq, self.engine, self.cells)


def _rules(n_agq: tuple[int, ...], q: tuple[int, ...]) -> list[Array]:
    """Nodes of every level, then their log-weights; with one effect in all, filled up to a few numbers."""
    alone = q == (1,)
    rules = [product_rule(n, size, slots(n) if alone else None) for n, size in zip(n_agq, q, strict=True)]
    return [a for a, _ in rules] + [w for _, w in rules]


def _same_modes(structure: MarginalStructure) -> MarginalStructure:
    """Forget the nodes, on which the search for modes does not depend."""
    return replace(structure, adaptive=(False,) * structure.n_levels)
