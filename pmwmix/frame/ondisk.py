"""A frame whose rows stand on disk, sorted by units: one more pass over data that are read piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.ondisk import GIB, Column, Store
from pmwmix.errors import MemoryBudgetError
from pmwmix.frame.matrices import Matrix, outcome
from pmwmix.frame.modelframe import DesignColumns, ModelFrame, RandomBlock
from pmwmix.frame.streamed import Placed, Streamed
from pmwmix.spec.outcome import Distribution, Outcome, Response
from pmwmix.weights.sums import RowSums

HELD = 96.0  # bytes of a row while its outcome is read and starting values are found
FORGET = 2**19  # rows that are written before their pages are let go


@dataclass(frozen=True)
class RowsOnDisk:
    """Where the rows of a frame stand, and the frame without them.

    Parameters
    ----------
    store : Store
    streamed : Streamed
    """

    store: Store
    streamed: Streamed

    @property
    def budget(self) -> float:
        """Bytes that the fit may hold."""
        return self.streamed.source.budget


def on_disk(frame: ModelFrame, distribution: Distribution | None) -> ModelFrame:
    """Read the rows of a frame that has none, and sort them by units into files.

    Parameters
    ----------
    frame : ModelFrame
        Of `build_streamed`.
    distribution : Distribution or None
        None of a linear model.

    Returns
    -------
    ModelFrame
        As one in memory, its columns of rows in files that go when it goes.

    Raises
    ------
    MemoryBudgetError, FileError, DataError
        If memory or disk have no room, before anything is written, or as in memory.
    """
    stream: Streamed = frame.stream
    if HELD * frame.n > stream.source.budget:
        raise MemoryBudgetError(
            f"The outcome would not fit into the memory budget. {frame.n} rows take {HELD * frame.n / GIB:.3g} GiB of "
            f"{stream.source.budget / GIB:.3g} while it is read. Raise memory=."
        )
    store = Store(frame.n, _numbers_of_columns(frame))
    try:
        return _sorted(frame, distribution, store)
    except BaseException:
        store.remove()
        raise


def _numbers_of_columns(frame: ModelFrame) -> int:
    of_designs = sum(
        len(d.x.names) + sum(len(b.matrix.names) for b in d.blocks) + 1 + 6 * len(d.y) for d in frame.designs
    )
    return of_designs + 3 + len(frame.hierarchy.levels)


def _sorted(frame: ModelFrame, distribution: Distribution | None, store: Store) -> ModelFrame:
    stream, starts = frame.stream, frame.hierarchy.starts
    sizes = np.diff(starts)
    index = np.repeat(np.arange(len(sizes)), sizes)
    levels = [replace(frame.hierarchy.levels[0], index=store.put(index))]
    for parent, level in zip(frame.hierarchy.parents, frame.hierarchy.levels[1:], strict=True):
        index = parent[index]
        levels.append(replace(level, index=store.put(index)))
    del index
    trials = None if distribution is None else distribution.trials
    written = _Written(frame, store, trials)
    for piece in stream.columns_of([] if trials is None else [trials]):
        written.add(piece)
    w = [written.weights(one, sizes) for one in (stream.rows, stream.cond)]
    position = written.position
    as_read = frame.n == frame.n_read and bool(np.all(np.diff(position) == 1))
    designs = [written.design(d, distribution, position) for d in range(len(frame.designs))]
    hierarchy = replace(frame.hierarchy, levels=tuple(levels), order=None)
    notes = tuple(dict.fromkeys(note for part in designs for one in part.responses for note in one.notes))
    return replace(
        frame,
        hierarchy=hierarchy,
        designs=designs,
        w=(w[0], *frame.w[1:]),
        cond=(w[1], *frame.cond[1:]),
        kept=None if as_read else position,
        index=pd.RangeIndex(frame.n) if as_read else pd.Index(np.asarray(position)),
        notes=(*frame.notes, *notes),
        stream=None,
        stored=RowsOnDisk(store, stream),
    )


class _Written:
    """Columns of rows, filled piece by piece, each row at the place of its unit."""

    def __init__(self, frame: ModelFrame, store: Store, trials: str | None) -> None:
        self.stream: Streamed = frame.stream
        self.store, self.trials, self.starts = store, trials, frame.hierarchy.starts
        self.filled = np.zeros(len(self.starts) - 1, dtype=np.int64)
        self.columns: dict[Any, Column] = {}
        self.outcomes: dict[tuple[int, int], Outcome] = {}
        self.position = store.column("<i8")
        self.weight = None if self.stream.wanted.of_rows is None else store.column()
        self.fresh = 0

    def add(self, piece: Placed) -> None:
        """Write the rows of a piece."""
        at = self._places(piece)
        self.position[at] = piece.positions
        if self.weight is not None:
            self.weight[at] = piece.weight
        for d, design in enumerate(self.stream.designs_of(piece)):
            for name, values in _named(design):
                self._write((d, name), at, values)
            if design.offset is not None:
                self._write((d, "offset"), at, design.offset)
            for k, y in enumerate(design.y):
                self._write((d, k, "y"), at, y)
            for k, found in enumerate([] if design.y else self._outcomes(d, piece)):
                self._write_outcome(d, k, found, at)
        self.fresh += len(piece.positions)
        if self.fresh > FORGET:
            self.forget()

    def forget(self) -> None:
        """Let the pages go that were written."""
        self.fresh = 0
        for column in (self.position, *self.columns.values()):
            column.forget()
        if self.weight is not None:
            self.weight.forget()

    def _places(self, piece: Placed) -> Any:
        """Place (n,) of every row: behind those of its unit that were read before."""
        units, sizes = piece.units, np.diff(piece.starts)
        order = np.argsort(units, kind="stable")
        sorted_units, before = units[order], np.cumsum(sizes[order]) - sizes[order]
        first = np.searchsorted(sorted_units, sorted_units)
        begin = np.empty(len(units), dtype=np.int64)
        begin[order] = self.starts[sorted_units] + self.filled[sorted_units] + before - before[first]
        np.add.at(self.filled, units, sizes)
        at = np.repeat(begin - piece.starts[:-1], sizes) + np.arange(piece.starts[-1])
        dense = at[-1] - at[0] + 1 == len(at) and bool(np.all(np.diff(at) == 1))
        return slice(int(at[0]), int(at[-1]) + 1) if dense else at

    def _write(self, name: Any, at: Any, values: Array) -> None:
        if name not in self.columns:
            self.columns[name] = self.store.column()
        self.columns[name][at] = values

    def _outcomes(self, d: int, piece: Placed) -> list[Outcome]:
        stream, n = self.stream, len(piece.positions)
        every = stream.outcomes_of(d, piece)
        found = [outcome(stream.formula, one, n) for one in every]
        if self.trials is None:
            return found
        return [replace(one, trials=piece.columns[self.trials].to_numpy()) for one in found]

    def _write_outcome(self, d: int, k: int, found: Outcome, at: Any) -> None:
        for part in ("values", "failures", "trials"):
            if (values := getattr(found, part)) is not None:
                self._write((d, k, part), at, values)
        self.outcomes[d, k] = replace(found, values=np.zeros(0), failures=None, trials=None)

    def weights(self, known: RowSums, sizes: Array) -> Array:
        """Weights (n,) of the rows: the column, if there is one, times the factor of the unit."""
        if not known.is_column and bool(np.all(known.factor == 1.0)):
            return np.broadcast_to(1.0, int(self.starts[-1]))
        factor = np.repeat(known.factor, sizes)
        return self.store.put(factor if self.weight is None else factor * self.weight)

    def design(self, d: int, distribution: Distribution | None, position: Array) -> DesignColumns:
        """Give the columns of a design, and its outcomes as their family reads them."""
        known, n = self.stream.designs[d], int(self.starts[-1])

        def matrix(one: Matrix) -> Matrix:
            columns: list[Any] = [
                np.broadcast_to(1.0, n) if name == "Intercept" else self.columns[d, name] for name in one.names
            ]
            return replace(one, columns=columns)

        blocks = tuple(RandomBlock(b.level, b.term, matrix(b.matrix), b.predictor) for b in known.blocks)
        offset = None if known.offset is None else self.columns[d, "offset"]
        self.forget()
        found = replace(known, x=matrix(known.x), blocks=blocks, offset=offset)
        outcomes = range(len(known.y))
        if distribution is None:
            return replace(found, y=[self.columns[d, k, "y"] for k in outcomes], responses=[])
        assert distribution.read is not None
        responses = [self._on_disk(distribution.read(self._outcome(d, k, position))) for k in outcomes]
        return replace(found, y=[one.y for one in responses], responses=responses)

    def _outcome(self, d: int, k: int, position: Array) -> Outcome:
        parts = {part: self.columns.pop((d, k, part), None) for part in ("values", "failures", "trials")}
        held: dict[str, Any] = {part: None if one is None else np.asarray(one) for part, one in parts.items()}
        return replace(self.outcomes[d, k], rows=position, **held)

    def _on_disk(self, found: Response) -> Response:
        put = self.store.put
        return replace(found, y=put(found.y), extra=tuple(map(put, found.extra)), constant=put(found.constant))


def _named(design: DesignColumns) -> Sequence[tuple[str, Array]]:
    """Columns by name, each once, without constants."""
    matrices = [design.x, *(block.matrix for block in design.blocks)]
    found = {name: column for one in matrices for name, column in zip(one.names, one.columns, strict=True)}
    return [(name, column) for name, column in found.items() if name != "Intercept"]
