"""The objective of a generalised model whose rows stand on disk: parts of whole top-level units, mapped and reduced.

Every part is an `IntegratedObjective` of its own in the process that evaluates it, which reads its rows from the files
where they stand; what travels is parameters one way, and value, gradient, Hessian and scores the other.
"""

from __future__ import annotations

import pickle
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import FileError
from pmwmix.likelihood.contract import IntegratedPoint, Likelihood, RowArrays
from pmwmix.likelihood.engine import DIRECT, graph_engine
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.objective import IntegratedObjective, in_numpy
from pmwmix.likelihood.general.start import starting_point
from pmwmix.likelihood.general.tiles import Cut, chunks_of, plan_cut
from pmwmix.memory import keep_freed
from pmwmix.running import processes_of, run_on

BYTES = 12.0  # of a number of a row that is held for an evaluation: 8, padding, and places
SHARE = 0.4  # of the memory budget that rows may take
FEWEST = 4  # parts, so that two processes are done at about the same time


@dataclass(frozen=True)
class Part:
    """Some top-level units with all that is below them, as it travels: columns on disk by the names of their files.

    Parameters
    ----------
    structure : MarginalStructure
    cut : Cut
    starts : ndarray of int
    parents, w : tuple of ndarray
    rows : RowArrays
        Columns that are read where they are looked at.
    cells : int
        As in `IntegratedObjective`.
    """

    structure: MarginalStructure
    cut: Cut
    starts: Array
    parents: tuple[Array, ...]
    w: tuple[Array, ...]
    rows: RowArrays
    cells: int

    def objective(self, n_agq: tuple[int, ...], engine: str) -> IntegratedObjective:
        """Read the rows."""
        chunks = chunks_of(self.cut, None, self.starts, self.parents, self.w)
        structure = replace(self.structure, adaptive=tuple(n > 1 for n in n_agq))
        return IntegratedObjective(structure, chunks, self.rows, n_agq, engine, self.cells)

    def forget(self) -> None:
        """Take the pages of the files out of this process: what is evaluated was copied."""
        rows = self.rows
        for column in (*rows.X, *rows.Z, rows.offset, rows.w, *rows.y, *(one for own in rows.extra for one in own)):
            getattr(column, "forget", bool)()

    @property
    def bytes(self) -> float:
        """What it takes while it is held."""
        rows = self.rows
        columns = len(rows.X) + len(rows.Z) + len(rows.y) * (1 + len(rows.extra[0])) + 3
        return BYTES * columns * len(rows.w)


@dataclass(frozen=True)
class Question:
    """What is asked of a part.

    Parameters
    ----------
    what : {"value", "hessian", "scores", "modes"}
    psi : ndarray, shape (P,)
    k : int
    n_agq : tuple of int
    engine : str
    room : float
        Bytes that a process may hold of all parts.
    w : tuple of ndarray or None
        Other weights of the units of the part, bottom-up.
    """

    what: str
    psi: Array
    k: int
    n_agq: tuple[int, ...]
    engine: str
    room: float
    w: tuple[Array, ...] | None = None


@dataclass
class _Held:
    """A part in this process."""

    part: Part
    made: dict[tuple[int, ...], IntegratedObjective] = field(default_factory=dict)
    last: dict[Any, IntegratedPoint] = field(default_factory=dict)


_held: dict[str, _Held] = {}
_lock = threading.Lock()


def answer(path: str, asked: Question) -> Any:
    """Evaluate a part: its value and gradient, Hessian, scores, or modes with their covariances.

    Parameters
    ----------
    path : str
        File of the `Part`.
    asked : Question

    Notes
    -----
    Parts are held as long as there is room, and otherwise read again. Modes are written beside the part, so that
    whichever process takes it next begins there.
    """
    keep_freed()
    one = _take(path, asked.room)
    objective = _objective(one, path, asked)
    point = _point(one, path, objective, asked)
    if asked.what == "value":
        return point.value, point.gradient
    if asked.what == "hessian":
        return point.hessian
    return objective.scores(point, asked.k) if asked.what == "scores" else objective.modes(point, asked.k)


def release(folder: str) -> None:
    """Forget the parts of a folder that this process holds."""
    for path in [path for path in _held if path.startswith(folder)]:
        _held.pop(path, None)


def _take(path: str, room: float) -> _Held:
    with _lock:
        for gone in [other for other in _held if not Path(other).exists()]:  # of fits that are no more
            del _held[gone]
        if path in _held:
            return _held[path]
        used = sum(one.part.bytes for one in _held.values())
    try:
        found = _Held(pickle.loads(Path(path).read_bytes()))
    except OSError as error:
        raise FileError(
            f"A part of the rows on disk cannot be read. {path}: {error.strerror}. All processes need the same folder: "
            f"set TMPDIR to one that every machine sees, and leave it alone while the fit is used."
        ) from error
    with _lock:
        if used + found.part.bytes <= room:
            _held[path] = found
    return found


def _objective(one: _Held, path: str, asked: Question) -> IntegratedObjective:
    """Give the likelihood of a part by some numbers of nodes; data are shared among them."""
    if asked.n_agq not in one.made:
        known = next(iter(one.made.values()), None)
        new = one.part.objective(asked.n_agq, asked.engine) if known is None else known.with_nodes(asked.n_agq)
        one.made[asked.n_agq] = new
    found = one.made[asked.n_agq]
    modes = _modes_file(path, asked.k)
    if modes.exists() and not found.knows_modes(asked.k):
        with np.load(modes) as saved:
            flat = [saved[name] for name in saved.files]
        levels = one.part.structure.n_levels
        found.begin_at(asked.k, [flat[i : i + levels] for i in range(0, len(flat), levels)])
    return found if asked.w is None else found.with_weights(found.rows.w, asked.w)


def _modes_file(path: str, k: int) -> Path:
    return Path(f"{path}.{k}.npz")


def _point(one: _Held, path: str, objective: IntegratedObjective, asked: Question) -> IntegratedPoint:
    """Give the point that was asked about, which may be the last one."""
    key = (asked.k, asked.n_agq)
    last = one.last.get(key)
    if asked.w is None and last is not None and np.array_equal(last.theta, asked.psi):
        return last
    point = objective.at(asked.psi, asked.k)
    if asked.w is None:
        one.last[key] = point
        one.part.forget()
        if np.isfinite(point.value):
            _keep_modes(path, asked.k, point.modes)
    return point


def _keep_modes(path: str, k: int, modes: Sequence[Sequence[Array]]) -> None:
    """Write modes beside the part, whole or not at all; where that fails, the next search begins at zero."""
    target = _modes_file(path, k)
    new = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    try:
        with new.open("wb") as file:
            np.savez(file, *[u for chunk in modes for u in chunk])
        new.replace(target)
    except OSError:
        new.unlink(missing_ok=True)


class PartitionedObjective(Likelihood):
    """Minus the marginal pseudo-log-likelihood of rows on disk (theory, eqs. 40-50).

    Parameters
    ----------
    structure : MarginalStructure
    tree : (ndarray, tuple of ndarray, tuple of ndarray)
        ``starts`` of the lowest units, and parents and weights of units, bottom-up.
    rows : RowArrays
        In the order of the units.
    n_agq : tuple of int
    engine : str
    cells : int
    rows_per_chunk : int
    store : Store
        Folder of the columns, kept as long as this is.
    budget : float
        Bytes that the fit may hold.
    executor : object, optional
        Runs the parts; None evaluates them here, chunks side by side.
    """

    def __init__(
        self,
        structure: MarginalStructure,
        tree: tuple[Array, tuple[Array, ...], tuple[Array, ...]],
        rows: RowArrays,
        n_agq: tuple[int, ...],
        engine: str,
        cells: int,
        rows_per_chunk: int,
        store: Any,
        budget: float,
        executor: Any = None,
    ) -> None:
        starts, parents, w = tree
        self.structure, self.rows, self.n_agq = structure, rows, n_agq
        self.store, self.executor = store, executor
        found = plan_cut(starts, parents, len(w[-1]), rows_per_chunk)
        self.direct = in_numpy(structure, rows, (len(starts) - 1, len(found.spans)), n_agq, engine)
        self.engine = DIRECT if self.direct else graph_engine(engine)
        self.room = SHARE * budget / processes_of(executor)
        self.spans, self.paths = self._write(Part(structure, found, starts, parents, w, rows, cells))
        self.w: tuple[Array, ...] | None = None

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code evaluates the parts."""
        return not self.direct

    def _write(self, whole: Part) -> tuple[list[tuple[slice, ...]], list[str]]:
        """Write what every part is made of beside the columns."""
        n_chunks = len(whole.cut.spans)
        many = max(FEWEST, 2 * processes_of(self.executor), int(np.ceil(4.0 * whole.bytes / self.room)))
        edges = np.unique(np.linspace(0, n_chunks, min(many, n_chunks) + 1).round().astype(int))
        token, spans, paths = secrets.token_hex(8), [], list[str]()
        for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            from_to = zip(whole.cut.spans[first], whole.cut.spans[last - 1], strict=True)
            span = tuple(slice(a.start, b.stop) for a, b in from_to)
            path = Path(self.store.folder) / f"{token}-{len(paths):05}.part"
            path.write_bytes(pickle.dumps(_some(whole, first, last, span)))
            spans.append(span)
            paths.append(str(path))
        return spans, paths

    def _each(self, what: str, psi: Array, k: int) -> list[Any]:
        tasks = []
        for path, span in zip(self.paths, self.spans, strict=True):
            w = None if self.w is None else tuple(one[own] for one, own in zip(self.w, span, strict=True))
            tasks.append((path, Question(what, psi, k, self.n_agq, self.engine, self.room, w)))
        if self.executor is None:
            return [answer(*task) for task in tasks]
        return list(run_on(self.executor, answer, tasks, "parts of the likelihood", at_home=True))

    def at(self, psi: Array, k: int = 0) -> IntegratedPoint:
        """Evaluate outcome ``k`` at parameters (P,)."""
        psi = np.array(psi, dtype=float)
        found = self._each("value", psi, k)
        gradient = np.sum([one for _, one in found], axis=0)
        return IntegratedPoint(psi, sum(v for v, _ in found), gradient, np.zeros((0, len(psi))), [], self, k)

    def hessian(self, point: IntegratedPoint) -> Array:
        """Second derivatives of minus the pseudo-log-likelihood (P, P)."""
        found: Array = np.sum(self._each("hessian", point.theta, point.outcome), axis=0)
        return found

    def scores(self, point: IntegratedPoint, k: int = 0) -> Array:
        """Gradient of the log-likelihood of every top-level unit (G_L, P)."""
        return np.concatenate(self._each("scores", point.theta, k))

    def modes(self, point: IntegratedPoint, k: int = 0) -> list[tuple[Array, Array]]:
        """Conditional modes (G_l, q_l) and their covariances (G_l, q_l, q_l), bottom-up."""
        found = self._each("modes", point.theta, k)
        return [
            (np.concatenate([one[level][0] for one in found]), np.concatenate([one[level][1] for one in found]))
            for level in range(self.structure.n_levels)
        ]

    def start(self, k: int = 0) -> Array:
        """Least squares on the family's starting linear predictors."""
        return starting_point(self.structure, self.rows, k)

    def _copy(self, **changed: Any) -> PartitionedObjective:
        other = object.__new__(PartitionedObjective)
        other.__dict__.update({**self.__dict__, **changed})
        return other

    def with_nodes(self, n_agq: tuple[int, ...]) -> PartitionedObjective:
        """Give the same objective with other numbers of nodes; data are shared."""
        structure = replace(self.structure, adaptive=tuple(n > 1 for n in n_agq))
        return self._copy(n_agq=n_agq, structure=structure)

    def uncompiled(self, n_agq: tuple[int, ...]) -> PartitionedObjective:
        """Give the same with other numbers of nodes; compiled where this is, as numpy would take long."""
        return self.with_nodes(n_agq)

    def with_weights(self, w_rows: Array, w: Sequence[Array]) -> PartitionedObjective:
        """Give the same objective under other weights of units, bottom-up; those of the rows stay."""
        return self._copy(w=tuple(w))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the executor; the columns stay where they are."""
        return _unpacked, ({**self.__dict__, "executor": None, "store": None},)


def _unpacked(values: dict[str, Any]) -> PartitionedObjective:
    out = object.__new__(PartitionedObjective)
    out.__dict__.update(values)
    return out


def _some(whole: Part, first: int, last: int, span: tuple[slice, ...]) -> Part:
    """Give the part of some chunks, with numbers of its own."""
    low = span[0]
    starts = whole.starts[low.start : low.stop + 1]
    at = slice(int(starts[0]), int(starts[-1]))
    parents = tuple(
        parent[own] - above.start for parent, own, above in zip(whole.parents, span[:-1], span[1:], strict=True)
    )
    rows = whole.rows
    some = RowArrays(
        [_piece(one, at) for one in rows.X],
        [_piece(one, at) for one in rows.Z],
        _piece(rows.offset, at),
        _piece(rows.w, at),
        [_piece(one, at) for one in rows.y],
        [tuple(_piece(one, at) for one in own) for own in rows.extra],
    )
    w = tuple(one[own] for one, own in zip(whole.w, span, strict=True))
    return Part(whole.structure, whole.cut.part(first, last), starts - at.start, parents, w, some, whole.cells)


def _piece(column: Any, at: slice) -> Any:
    """Take some rows of a column: of one on disk the place in its file."""
    return column[at] if getattr(column, "place", None) is None else column.part(at.start, at.stop)
