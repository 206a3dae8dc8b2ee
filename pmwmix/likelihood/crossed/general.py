"""The objective of a generalised model with crossed random effects: minus the Laplace approximation at a point.

Numbers in, numbers out; the graphs are written in `generalgraph.py`. All quantities are those of standardised columns.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import IntegratedPoint, Likelihood, RowArrays
from pmwmix.likelihood.crossed.generalgraph import CrossedStructure, joint_graph, joint_mode_graph
from pmwmix.likelihood.crossed.joint import DirectJoint, predicted_seconds
from pmwmix.likelihood.crossed.laplace import LaplaceIntercepts
from pmwmix.likelihood.crossed.units import Crossing, JointFactor, beside, bucket_dense, in_numpy, padded_cells
from pmwmix.likelihood.engine import Compiled, bucket, compiled, compiled_pair, is_direct, padded_columns
from pmwmix.likelihood.general.modefinder import find_modes
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.start import starting_point

NO_FLOOR = -1e300  # of the curvature of a row: Newton's own step
CELLS_AT_ONCE = 4_000_000  # of all directions of a Hessian, in one intermediate


class CrossedObjective(Likelihood):
    """Minus the Laplace approximation of the pseudo-log-likelihood (crossed, eqs. 1-6).

    Parameters
    ----------
    structure : MarginalStructure
    crossing : Crossing
    rows : RowArrays
    engine : str

    Notes
    -----
    Rows are padded with rows of weight zero, units and fixed columns with empty ones up to a few sizes, so that models
    of like size share compiled code.
    """

    crossed = True

    def __init__(self, structure: MarginalStructure, crossing: Crossing, rows: RowArrays, engine: str = "auto") -> None:
        self.structure, self.crossing, self.rows, self.engine = structure, crossing, rows, engine
        self.n_agq = (1,) * structure.n_levels
        plan = {field.name: getattr(structure, field.name) for field in fields(MarginalStructure)}
        plan |= {"p": padded_columns(structure.p), "sparse": crossing.sparse, "counted": crossing.part_w is not None}
        self.padded = CrossedStructure(**plan)
        self.n_calls = 0
        self.make = self._direct_model()
        self.direct = self.make is not None
        padded = (bucket(crossing.n_units[0]), bucket_dense(crossing.n_dense))
        self._lengths = (crossing.n_units[0], crossing.n_dense) if self.direct else padded
        free = structure.layout.n_theta + structure.n_phi
        self._eye = np.eye(self.padded.p + free)
        self._real = np.r_[: structure.p, self.padded.p : self.padded.p + free]
        self._outcome: tuple[int, list[Any]] = (-1, [])
        self._joint: tuple[int, Any] = (-1, None)
        self._modes: dict[int, list[Array]] = {}

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code evaluates it."""
        return not self.direct

    def _direct_model(self) -> type[LaplaceIntercepts] | type[DirectJoint] | None:
        """Give what evaluates the model in numpy; nothing where that is left to compiled code."""
        structure, crossing, n = self.structure, self.crossing, len(self.rows.w)
        if structure.n_predictors > 1:
            return None
        if in_numpy(structure.layout, self.engine):
            return LaplaceIntercepts
        seconds = len(self.rows.y) * predicted_seconds(structure, crossing, n)
        alone = self.n_top == 1  # scores of several parts come from the graph
        return DirectJoint if alone and is_direct(self.engine, seconds, self.padded, 4.0) else None

    @cached_property
    def mode_step(self) -> Compiled:
        """The compiled step towards the modes."""
        return compiled(joint_mode_graph, self.padded, self.engine)

    @cached_property
    def _pair(self) -> tuple[Compiled, Compiled]:
        return compiled_pair(joint_graph, self.padded, self.engine)

    @property
    def first(self) -> Compiled:
        """The compiled value and scores."""
        return self._pair[0]

    @property
    def second(self) -> Compiled:
        """The compiled Hessian."""
        return self._pair[1]

    @cached_property
    def _shared(self) -> tuple[list[Any], list[Any]]:
        return self._put_shared()

    def joint(self, k: int) -> LaplaceIntercepts | DirectJoint:
        """Lay the rows out in numpy for outcome ``k``."""
        assert self.make is not None
        if self._joint[0] != k:
            self._joint = (k, self.make(self.structure, self.crossing, self.rows, k))
        found: LaplaceIntercepts | DirectJoint = self._joint[1]
        return found

    @property
    def n_top(self) -> int:
        """Number of independent parts of the sample."""
        return int(self.crossing.part.max()) + 1

    def _padded_rows(self, values: Array) -> Array:
        """Repeat the first row at the end; its weight is zero there."""
        n = bucket(len(self.rows.w)) - len(self.rows.w)
        return np.concatenate([values, np.repeat(values[:1], n, axis=0)])

    def _put_shared(self) -> tuple[list[Any], list[Any]]:
        """Put fixed and random columns and offset; and apart, as they come after the outcome, weights and units."""
        rows, crossing, pad = self.rows, self.crossing, self._padded_rows
        n = bucket(len(rows.w))
        X, w = np.zeros((self.padded.p, n)), np.zeros(n)
        for j, column in enumerate(rows.X):
            X[j] = pad(column)
        w[: len(rows.w)] = rows.w
        G, D = self._lengths
        place = np.array([pad(one) for one in crossing.place])
        index = [pad(crossing.index[0]), place, pad(crossing.part), np.arange(G), np.arange(D), np.arange(self.n_top)]
        if crossing.sparse:
            index += [np.array([pad(one) for one in crossing.cells.of]), *padded_cells(crossing)]
        Z = np.array([pad(column) for column in rows.Z])
        return self.first.put([X, pad(rows.offset), Z]), self.first.put([w, *index])

    @cached_property
    def _counts(self) -> list[Any]:
        """Weights of parts, units and effects, where parts have weights; those of padding have no meaning."""
        counts = self.crossing.counts
        if counts is None:
            return []
        effects = zip((counts.units, counts.dense), self._lengths, strict=True)
        found: list[Any] = self.first.put([counts.parts, *(np.pad(one, (0, n - len(one))) for one, n in effects)])
        return found

    def _data(self, k: int) -> list[Any]:
        """All inputs after the modes for outcome ``k``."""
        if self._outcome[0] != k:
            front, back = self._shared
            y, *extra = self.first.put([self._padded_rows(v) for v in (self.rows.y[k], *self.rows.extra[k])])
            self._outcome = (k, [*front, y, back[0], *extra, *back[1:]])
        return self._outcome[1]

    def _split(self, psi: Array) -> tuple[Array, Array, Array]:
        p, t = self.structure.p, self.structure.layout.n_theta
        return np.pad(psi[:p], (0, self.padded.p - p)), psi[p : p + t], psi[p + t :]

    def _start(self, k: int) -> list[Array]:
        if k not in self._modes:
            G, D = self._lengths
            known = self._modes[max(self._modes)] if self._modes else None
            self._modes[k] = known or [np.zeros((self.structure.layout.q[0], G)), np.zeros(D)]
        return self._modes[k]

    def _find(self, psi: Array, k: int) -> list[Array]:
        whole = [np.zeros(n, dtype=np.int64) for n in self._lengths]
        if self.direct:
            return find_modes(
                lambda u: beside(self.crossing, self.joint(k).step, psi, u),
                self._start(k),
                [np.zeros(n, dtype=np.int64) for n in self._lengths],
            )
        beta, theta, phi = self._split(psi)
        data = self._data(k)

        def step(u: list[Array]) -> dict[str, Any]:
            out = self.mode_step(beta, [theta, phi, *u, *data, np.array(NO_FLOOR)])
            if (
                not float(out["rise"][0]) >= 0.0
            ):  # the rows do not curve downwards everywhere: leave out those that do not
                out = self.mode_step(beta, [theta, phi, *u, *data, np.array(0.0)])
            return out

        return find_modes(step, self._start(k), whole)

    def _first(self, psi: Array, k: int, modes: list[Array]) -> dict[str, Any]:
        beta, theta, phi = self._split(psi)
        return self.first(beta, [theta, phi, *modes, *self._data(k), *self._counts])

    def at(self, psi: Array, k: int = 0) -> IntegratedPoint:
        """Evaluate outcome ``k`` at parameters (P,)."""
        psi = np.array(psi, dtype=float)
        self.n_calls += 1
        modes = self._find(psi, k)
        if self.direct:
            return self._direct_at(psi, k, modes)
        out = self._first(psi, k, modes)
        scores = np.concatenate([np.asarray(out[name]) for name in out if name.startswith("score_")])[self._real].T
        value = -float(out["value"])
        if np.isfinite(value):
            self._modes[k] = modes
        return IntegratedPoint(psi, value, -scores.sum(axis=0), scores, [modes], self, k)

    def _direct_at(self, psi: Array, k: int, modes: list[Array]) -> IntegratedPoint:
        value, scores = beside(self.crossing, self.joint(k).evaluate, psi, modes)
        if np.isfinite(value):
            self._modes[k] = modes
        return IntegratedPoint(psi, -value, -scores.sum(axis=0), scores, [modes], self, k)

    def hessian(self, point: IntegratedPoint) -> Array:
        """Second derivatives of minus the pseudo-log-likelihood (P, P); a few directions at a time."""
        if self.direct:
            return -beside(self.crossing, self.joint(point.outcome).hessian, point.theta, point.modes[0])
        out = self._first(point.theta, point.outcome, point.modes[0])
        known = [value for name, value in out.items() if name.startswith("known")]
        names = [f"H_{name[6:]}" for name in out if name.startswith("score_")]
        crossing, size = self.crossing, len(self._eye)
        cells = max(crossing.n_pairs if crossing.sparse else crossing.n_cross, crossing.n_dense**2)
        at_once = size if cells * size <= CELLS_AT_ONCE else max(CELLS_AT_ONCE // cells, 1)
        H = np.zeros((size, size))
        for start in range(0, size, at_once):
            along = np.zeros((at_once, size))
            stop = min(start + at_once, size)
            along[: stop - start] = self._eye[start:stop]
            rows = self.second(along, known)
            H[start:stop] = np.concatenate([np.asarray(rows[name]) for name in names], axis=1)[: stop - start]
        H = -H[np.ix_(self._real, self._real)]
        return 0.5 * (H + H.T)

    def scores(self, point: IntegratedPoint, k: int = 0) -> Array:
        """Gradient of the log-likelihood of every independent part (C, P)."""
        return point.scores

    def start(self, k: int = 0) -> Array:
        """Least squares on the family's starting linear predictors."""
        return starting_point(self.structure, self.rows, k)

    def modes(self, point: IntegratedPoint, k: int = 0) -> list[tuple[Array, Array]]:
        """Conditional modes (G_f, q_f) and their covariances (G_f, q_f, q_f) per factor."""
        Lambdas = self.structure.layout.unpack(self._split(point.psi)[1])
        found = zip(self.whitened_modes(point), Lambdas, self.covariances(point), strict=True)
        return [((L @ u).T, V) for u, L, V in found]

    def whitened_modes(self, point: IntegratedPoint) -> list[Array]:
        """Whitened conditional modes per factor (q_f, G_f)."""
        u, u_B = point.modes[0]
        return [u[:, : self.crossing.n_units[0]], *self.crossing.by_factor(u_B)]

    def covariances(self, point: IntegratedPoint) -> list[Array]:
        """Conditional covariance of the random effects of every unit, per factor (G_f, q_f, q_f)."""
        beta, theta, phi = self._split(point.theta)
        if self.direct:
            found: list[Array] = beside(
                self.crossing, self.joint(point.outcome).covariances, point.theta, point.modes[0]
            )
            return found
        out = self.mode_step(beta, [theta, phi, *point.modes[0], *self._data(point.outcome), np.array(NO_FLOOR)])
        kappa = np.asarray(out["kappa"])[:, : len(self.rows.w)]
        s = self.structure
        return JointFactor(self.crossing, s.layout, theta, self.rows.Z, kappa, s.predictors).covariances()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the data; compiled code is made again where it is needed."""
        return CrossedObjective, (self.structure, self.crossing, self.rows, self.engine)


def numbers_held(crossing: Crossing, structure: MarginalStructure, engine: str) -> float:
    """Estimate how many numbers of 8 bytes are held at once; for compiled code as measured."""
    if structure.n_predictors == 1 and in_numpy(structure.layout, engine):
        return 10.0 * crossing.n_dense**2 + (0.0 if crossing.sparse else 4.0 * crossing.n_cross)
    return 30.0 * crossing.n_dense**2 + 26.0 * crossing.n_met
