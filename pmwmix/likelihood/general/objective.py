"""The objective of a generalised model: minus the marginal pseudo-log-likelihood at a point, chunk by chunk.

Numbers in, numbers out: small data by `direct`, which needs no compiler, large ones by `compiled`. All quantities are
those of standardised columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.interrupt import side_by_side, whole_import
from pmwmix.likelihood.contract import IntegratedPoint, Likelihood, RowArrays
from pmwmix.likelihood.engine import AUTO, DIRECT, graph_engine, is_direct
from pmwmix.likelihood.general.direct import DirectChunks, predicted_seconds
from pmwmix.likelihood.general.modefinder import find_modes
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.singlechunks import SingleChunks, knows
from pmwmix.likelihood.general.start import starting_point
from pmwmix.likelihood.general.tiles import Chunk, reweighted, whole_tree
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.modes import conditional_covariances


def in_numpy(
    structure: MarginalStructure, rows: RowArrays, size: tuple[int, int], n_agq: tuple[int, ...], engine: str
) -> bool:
    """Whether numpy, which knows one predictor, is done before a compiler is, which knows no shape of random effects.

    ``size`` has the numbers of lowest units and of chunks. With one grouping level no compiled code is quicker.
    """
    if knows(structure):
        return engine in (AUTO, DIRECT)
    seconds = len(rows.y) * predicted_seconds(structure, len(rows.w), *size, n_agq)
    alone = structure.n_predictors == 1 and structure.effects.by_numbers
    if alone and not structure.effects.by_graph:
        return True
    return alone and is_direct(engine, seconds, (structure, n_agq), 3.0 + 1.5 * (structure.n_levels - 1))


def interprets(structure: MarginalStructure, rows: RowArrays, n_agq: tuple[int, ...], engine: str) -> bool:
    """Whether the graphs of several predictors are done, node by node in numpy, before a compiler has started.

    Measured with zero-inflated counts: a fit of n rows and q effects takes 0.1 q + 3e-5 q (q + 1) n seconds, compiling
    4.5 q (q + 1) / 2. Compiled code is several times as quick from then on, so that half of that decides.
    """
    layout = structure.layout
    q = max(sum(layout.q), 1)
    nodes = float(np.prod([float(n) ** width for n, width in zip(n_agq, layout.q, strict=True)]))
    seconds = 0.1 * q + 3e-5 * q * (q + 1) * len(rows.w) * (1.0 + nodes / 50.0)
    compiling = 4.5 * q * (q + 1) / 2
    return engine == AUTO and is_direct(engine, 2.0 * len(rows.y) * seconds, (structure, n_agq), compiling)


def _numpy_chunks(structure: MarginalStructure) -> type[SingleChunks | DirectChunks]:
    return SingleChunks if knows(structure) else DirectChunks


class IntegratedObjective(Likelihood):
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
    """

    def __init__(
        self,
        structure: MarginalStructure,
        chunks: list[Chunk],
        rows: RowArrays,
        n_agq: tuple[int, ...],
        engine: str = "auto",
        cells: int = 400_000,
    ) -> None:
        self.cells = cells
        self.structure, self.chunks, self.rows, self.n_agq, self.engine = structure, chunks, rows, n_agq, engine
        self.n_calls = 0
        self._modes: dict[int, list[list[Array]]] = {}
        self.parts = self._choose()

    def _choose(self) -> Any:
        """Take numpy, which knows one predictor and normal effects, or compiled graphs, whichever is done first."""
        units = sum(chunk.n_units[0] for chunk in self.chunks)
        if in_numpy(self.structure, self.rows, (units, len(self.chunks)), self.n_agq, self.engine):
            return _numpy_chunks(self.structure)(self.structure, self.chunks, self.rows, self.n_agq)
        whole_import("pmwmix.likelihood.general.compiled")
        from pmwmix.likelihood.general.compiled import CompiledChunks

        by_hand = interprets(self.structure, self.rows, self.n_agq, self.engine)
        engine = graph_engine(DIRECT if by_hand else self.engine)
        return CompiledChunks(self.structure, self.chunks, self.rows, self.n_agq, engine, self.cells)

    @property
    def direct(self) -> bool:
        """Whether it is evaluated in numpy."""
        return isinstance(self.parts, DirectChunks | SingleChunks)

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code evaluates it."""
        return not (self.direct or self.many_maxima)

    def with_nodes(self, n_agq: tuple[int, ...]) -> IntegratedObjective:
        """Give the same objective with other numbers of nodes; data are shared."""
        structure = replace(self.structure, adaptive=tuple(n > 1 for n in n_agq))
        other = object.__new__(IntegratedObjective)
        other.__dict__.update(self.__dict__)
        other.structure, other.n_agq = structure, n_agq
        other.parts = self.parts.with_nodes(n_agq, structure)
        other._modes = dict(self._modes)
        return other

    def uncompiled(self, n_agq: tuple[int, ...]) -> IntegratedObjective | None:
        """Give the same with other numbers of nodes, evaluated in numpy; None for what numpy does not know."""
        if self.structure.n_predictors > 1 or not self.structure.effects.by_numbers:
            return None
        structure = replace(self.structure, adaptive=tuple(n > 1 for n in n_agq))
        other = object.__new__(IntegratedObjective)
        other.__dict__.update(self.__dict__)
        other.structure, other.n_agq = structure, n_agq
        if self.direct:
            other.parts = self.parts.with_nodes(n_agq, structure)
        else:
            other.parts = _numpy_chunks(structure)(structure, self.chunks, self.rows, n_agq)
        other._modes = dict(self._modes)
        return other

    def with_weights(self, w_rows: Array, w: Sequence[Array]) -> IntegratedObjective:
        """Give the same objective under other weights of rows (n,) and of units, bottom-up; all else is shared."""
        other = object.__new__(IntegratedObjective)
        other.__dict__.update(self.__dict__)
        other.rows = replace(self.rows, w=w_rows)
        other.chunks = [reweighted(chunk, w) for chunk in self.chunks]
        other.parts = self.parts.with_weights(other.chunks, other.rows)
        other._modes = dict(self._modes)
        return other

    def _start(self, k: int) -> list[list[Array]]:
        if k not in self._modes:
            q = self.structure.layout.q
            known = self._modes[max(self._modes)] if self._modes else None
            self._modes[k] = known or [
                [np.zeros((n, len(w))) for n, w in zip(q, c.w, strict=True)] for c in self.chunks
            ]
        return self._modes[k]

    def knows_modes(self, k: int) -> bool:
        """Whether modes of an outcome were found."""
        return k in self._modes

    def begin_at(self, k: int, modes: list[list[Array]]) -> None:
        """Begin the next search for modes of an outcome there; per chunk and level, padded."""
        self._modes[k] = modes

    def _chunk_modes(self, number: int, psi: Array, k: int, start: list[Array]) -> list[Array]:
        to_top = list(self.chunks[number].to_top)
        return find_modes(lambda u: self.parts.newton_step(number, psi, k, u), start, to_top)

    def at(self, psi: Array, k: int = 0) -> IntegratedPoint:
        """Evaluate outcome ``k`` at parameters (P,)."""
        psi = np.array(psi, dtype=float)
        self.n_calls += 1
        start = self._start(k)
        self.parts.prepare(k)

        def one(number: int) -> tuple[float, Array, list[Array]]:
            chunk = self.chunks[number]
            modes = self._chunk_modes(number, psi, k, start[number])
            unit, scores = self.parts.evaluate(number, psi, k, modes)
            return float(chunk.w[-1][: chunk.n_units[-1]] @ unit), scores.T, modes

        parts = self._each(one)
        scores = np.concatenate([part[1] for part in parts])
        value = -sum(part[0] for part in parts)
        modes = [part[2] for part in parts]
        if np.isfinite(value):
            self._modes[k] = modes
        return IntegratedPoint(psi, value, -scores.sum(axis=0), scores, modes, self, k)

    def hessian(self, point: IntegratedPoint) -> Array:
        """Second derivatives of minus the pseudo-log-likelihood (P, P)."""
        psi, k = point.theta, point.outcome
        H = -np.sum(self._each(lambda number: self.parts.hessian(number, psi, k, point.modes[number])), axis=0)
        return 0.5 * (H + H.T)

    def scores(self, point: IntegratedPoint, k: int = 0) -> Array:
        """Gradient of the log-likelihood of every top-level unit (G_L, P)."""
        return point.scores

    def units(self, point: IntegratedPoint) -> Array:
        """Log-density of every top-level unit, without its own weight (G_L,)."""
        psi, k = point.theta, point.outcome
        return np.concatenate(self._each(lambda number: self.parts.evaluate(number, psi, k, point.modes[number])[0]))

    def start(self, k: int = 0) -> Array:
        """Least squares on the family's starting linear predictors."""
        return starting_point(self.structure, self.rows, k)

    @property
    def tree(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Parents and weights of the units of the whole sample, bottom-up."""
        return whole_tree(self.chunks)

    def modes(self, point: IntegratedPoint, k: int = 0) -> list[tuple[Array, Array]]:
        """Conditional modes (G_l, q_l) and, from the curvature there, covariances (G_l, q_l, q_l), bottom-up."""
        layout, p, none = self.structure.layout, self.structure.p, np.zeros((0, 0, 0))
        theta = point.psi[p : p + layout.n_theta]
        blocks = Blocks(self.curvature(point), none, none, none, none, none, np.zeros(0), *self.tree)
        u, V = self.whitened_modes(point), conditional_covariances(blocks, layout, theta)
        return [((L @ one).T, cov) for one, L, cov in zip(u, layout.unpack(theta), V, strict=True)]

    def whitened_modes(self, point: IntegratedPoint) -> list[Array]:
        """Whitened conditional modes of the whole sample, per level (q_l, G_l)."""
        out = []
        for level in range(self.structure.n_levels):
            parts = [m[level][:, : c.n_units[level]] for m, c in zip(point.modes, self.chunks, strict=True)]
            out.append(np.concatenate(parts, axis=1))
        return out

    def steps(self, point: IntegratedPoint, psi: Array) -> list[Array]:
        """Newton's step at parameters ``psi`` from the modes of a point, for the whole sample, per level (q_l, G_l)."""

        def one(number: int) -> list[Array]:
            out = self.parts.newton_step(number, psi, point.outcome, point.modes[number])
            units = self.chunks[number].n_units
            return [np.asarray(out[f"step{level}"])[:, :n] for level, n in enumerate(units)]

        return [np.concatenate(parts, axis=1) for parts in zip(*self._each(one), strict=True)]

    def curvature(self, point: IntegratedPoint) -> Array:
        """Curvature of the rows between random columns at the modes, lower triangle, (Q (Q + 1) / 2, G_1)."""

        def one(number: int) -> Array:
            out = self.parts.newton_step(number, point.theta, point.outcome, point.modes[number])
            return np.asarray(out["zz"])[:, : self.chunks[number].n_units[0]]

        return np.concatenate(self._each(one), axis=1)

    def _each(self, one: Any) -> list[Any]:
        numbers = range(len(self.chunks))
        if len(self.chunks) == 1 or not self.parts.side_by_side:
            return [one(number) for number in numbers]
        if self.direct:
            return side_by_side(one, numbers)
        one_done = one(0)  # compiles; the others then run side by side
        return [one_done, *side_by_side(one, numbers[1:])]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the data; compiled code is made again where it is needed."""
        return IntegratedObjective, (self.structure, self.chunks, self.rows, self.n_agq, self.engine, self.cells)
