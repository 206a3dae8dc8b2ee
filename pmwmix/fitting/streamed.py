"""Cross-products of data that are read piece by piece: one pass for all outcomes and all plausible values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import MemoryBudgetError, NotSupportedError
from pmwmix.fitting.problem import random_columns
from pmwmix.frame.checks import check_range
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.frame.streamed import PartOfRows, Placed, Streamed
from pmwmix.likelihood.linear.crossproducts import Blocks, Sums
from pmwmix.likelihood.standardise import Columns, Scaler, standardise
from pmwmix.running import run_on
from pmwmix.weights.sums import RowSums

GIB = 2**30
HELD = 2.0  # times the cross-products: they, and what the climb makes of them


def streamed_blocks(frame: ModelFrame, design: DesignColumns, w: tuple[Array, ...]) -> Blocks:
    """Give the cross-products of a frame without rows, read in one pass when the first are asked for.

    Parameters
    ----------
    frame : ModelFrame
    design : DesignColumns
        One of the frame's.
    w : tuple of ndarray
        Weights of the units, as in `Blocks`.

    Returns
    -------
    Blocks

    Raises
    ------
    MemoryBudgetError, DataError, NotSupportedError
    """
    stream: Streamed = frame.stream
    number = stream.number_of(design)
    if "products" not in stream.memo:
        stream.memo["levels"] = frame.hierarchy
        stream.memo["products"], stream.memo["squares"] = _passed(frame, w)
    if stream.memo["levels"] is not frame.hierarchy:
        raise NotSupportedError(
            "A streamed fit cannot be laid out anew with other levels. Something asks for the same rows in another "
            "model. Fit that model by itself with pmwmix.fit, or fit a table in memory."
        )
    found: Sums = stream.memo["products"][number]
    return found.blocks(frame.hierarchy.parents, w)


def _passed(frame: ModelFrame, w: tuple[Array, ...]) -> tuple[list[Sums], list[list[Array]]]:
    """Add up the cross-products of all designs, and mean squares (q, q) of the random columns by level."""
    stream: Streamed = frame.stream
    n_levels = len(frame.hierarchy.levels)
    laid = [_laid(one, n_levels) for one in stream.sample]
    _check_budget(laid, [len(one) for one in w], stream.source.budget)
    sums = [Sums.empty(one, frame.hierarchy.parents, w) for one in laid]
    if stream.parts:
        found = _by_parts(stream, sums, laid, n_levels)
    else:
        found = _Added.nothing(sums, n_levels)
        _add(found, stream, [one.scaler for one in laid])
    check_range(frame, found.low, found.high)
    stream.memo["outcomes"] = found.outcomes
    weight = float(stream.totals[0].total.sum())
    return sums, [[one / weight for one in own] for own in found.squares]


@dataclass
class _Added:
    """What a pass over some rows, or all, has added up.

    Parameters
    ----------
    sums : list of Sums
        By design.
    squares : list of list of ndarray
        Sums of w z z' by design and level (q, q).
    outcomes : list of ndarray, each (K, 3)
        Number, sum and sum of squares.
    low, high : float
        Range of the outcomes.
    """

    sums: list[Sums]
    squares: list[list[Array]]
    outcomes: list[Array]
    low: float = np.inf
    high: float = -np.inf

    @classmethod
    def nothing(cls, sums: list[Sums], n_levels: int) -> _Added:
        """Start with these sums."""
        return cls(sums, [[np.zeros(())] * n_levels for _ in sums], [np.zeros((len(one.yy), 3)) for one in sums])

    def put(self, units: Array, other: _Added) -> None:
        """Add what was added up for some units elsewhere."""
        for own, new in zip(self.sums, other.sums, strict=True):
            own.put(units, new)
        self.squares = [
            [a + b for a, b in zip(own, new, strict=True)] for own, new in zip(self.squares, other.squares, strict=True)
        ]
        self.outcomes = [own + new for own, new in zip(self.outcomes, other.outcomes, strict=True)]
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


def _add(found: _Added, stream: Streamed, scalers: Sequence[Scaler], known: Array | None = None) -> None:
    """Read the rows and add them up; ``known`` are the units of the sums if they are not all."""
    n_levels = len(found.squares[0])
    for piece in stream.columns_of():
        w_obs, total = _weights(piece, stream.rows), _weights(piece, stream.totals[0])
        order, starts, units = _grouped(piece)
        at = units if known is None else np.searchsorted(known, units)
        for d, design in enumerate(stream.designs_of(piece)):
            found.sums[d].add(_laid(design, n_levels, scalers[d]), order, starts, at, w_obs)
            found.squares[d] = [one + _squares(design, level, total) for level, one in enumerate(found.squares[d])]
            found.outcomes[d] += [[len(y), y.sum(), y @ y] for y in design.y]
            found.low = min(found.low, *(float(y.min()) for y in design.y))
            found.high = max(found.high, *(float(y.max()) for y in design.y))


def _by_parts(stream: Streamed, sums: list[Sums], laid: Sequence[Columns], n_levels: int) -> _Added:
    """Let processes add up parts of the rows, each for the units that it meets."""
    common, scalers = replace(stream, memo={}, parts=[]), [one.scaler for one in laid]
    tasks = [(common, scalers, n_levels, part, sums[0].some(part.units)) for part in stream.parts]
    found = _Added.nothing(sums, n_levels)
    done = run_on(stream.source.executor, added_up, tasks, "parts of the source")
    for part, one in zip(stream.parts, done, strict=True):
        found.put(part.units, one)
    return found


def added_up(
    stream: Streamed, scalers: Sequence[Scaler], n_levels: int, part: PartOfRows, some: tuple[Array, Array, int]
) -> _Added:
    """Add up the rows of a part, in another process."""
    laid = [_laid(one, n_levels, scaler) for one, scaler in zip(stream.sample, scalers, strict=True)]
    found = _Added.nothing([Sums.zeros(one, *some) for one in laid], n_levels)
    _add(found, stream.part(part), scalers, part.units)
    return found


def _laid(design: DesignColumns, n_levels: int, scaler: Scaler | None = None) -> Columns:
    """Lay the columns of a design out for cross-products."""
    x, random = design.x, random_columns(design)
    return standardise(x.columns, list(x.names), random, design.y, n_levels=n_levels, scaler=scaler)[0]


def _weights(piece: Placed, known: RowSums) -> Array | None:
    """Weights of the rows of a piece; None if all are 1."""
    if not known.is_column and np.all(known.factor == 1.0):
        return None
    factor = np.repeat(known.factor[piece.units], np.diff(piece.starts))
    return factor * piece.weight if known.is_column else factor


def _squares(design: DesignColumns, level: int, w: Array | None) -> Array:
    """Sum of w z z' over the rows of a piece (q, q)."""
    Z = np.array([c for b in design.blocks if b.level == level for c in b.matrix.columns])
    return (Z if w is None else Z * w) @ Z.T if len(Z) else np.zeros((0, 0))


def _grouped(piece: Placed) -> tuple[Array | None, Array, Array]:
    """Give the order in which rows of one unit stand together, where each begins, and the units, none twice."""
    starts, units = piece.starts, piece.units
    if len(np.unique(units)) == len(units):
        return None, starts, units
    runs = np.argsort(units, kind="stable")
    sizes = np.diff(starts)[runs]
    edges = np.cumsum(sizes) - sizes
    order = np.repeat(starts[runs] - edges, sizes) + np.arange(starts[-1])
    unique, first = np.unique(units[runs], return_index=True)
    return order, np.append(edges[first], starts[-1]), unique


def _check_budget(laid: Sequence[Columns], n_units: Sequence[int], budget: float) -> None:
    """Refuse cross-products that would not fit into the memory budget."""
    cells = 0
    for one in laid:
        q, p, K = len(one.z), len(one.x), len(one.y)
        cells += n_units[0] * (q * (q + 1) // 2 + q * p + K * q) + n_units[-1] * (p * p + K * p + K + 1)
    needed = 8.0 * HELD * cells
    if needed > budget:
        raise MemoryBudgetError(
            f"The cross-products would not fit into the memory budget. {n_units[0]} lowest units with "
            f"{len(laid[0].x)} fixed columns and {len(laid[0].y) * len(laid)} outcomes take {needed / GIB:.3g} GiB of "
            f"{budget / GIB:.3g}. Raise memory=, or fit fewer plausible values at once and pool them with pmwmix.pool."
        )
