"""A frame of data that are read piece by piece: units, weights and what the formula makes of the columns; no rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import code, key
from pmwmix.data.pieces import Stream
from pmwmix.errors import DataError, NotSupportedError
from pmwmix.frame.census import Wanted, prepared
from pmwmix.frame.centring import Means, apply_center
from pmwmix.frame.hierarchy import Hierarchy
from pmwmix.frame.kinds import Kinds
from pmwmix.frame.matrices import Matrix, again, check_finite, offset_of, response
from pmwmix.frame.modelframe import DesignColumns, RandomBlock
from pmwmix.frame.norows import NoRows
from pmwmix.spec.centring import Centring
from pmwmix.spec.formula import ModelFormula
from pmwmix.weights.sums import RowSums


@dataclass(frozen=True)
class Places:
    """Finds the lowest unit of rows by their ids.

    Parameters
    ----------
    factors : tuple of str
        Columns that name the lowest units.
    indices : list of pandas.Index
        Values of each of them.
    joint : pandas.Index
        Combinations that occur, as one number.
    unit : ndarray of int
        Unit of each combination.
    """

    factors: tuple[str, ...]
    indices: list[pd.Index]
    joint: pd.Index
    unit: Array

    @classmethod
    def of(cls, hierarchy: Hierarchy, units: Mapping[str, pd.Series]) -> Places:
        """Read them from the table of units, whose rows the hierarchy is about."""
        lowest = hierarchy.levels[0]
        values = [_values(units[name]) for name in lowest.factors]
        indices = [pd.Index(pd.unique(one)) for one in values]
        joint = _mixed([index.get_indexer(pd.Index(one)) for index, one in zip(indices, values, strict=True)], indices)
        unique, first = np.unique(joint, return_index=True)
        return cls(lowest.factors, indices, pd.Index(unique), lowest.index[first])

    def runs(self, columns: Mapping[str, pd.Series]) -> tuple[Array, Array]:
        """Give where rows of another unit begin (r + 1,), n at the end, and the units of these runs (r,).

        Raises
        ------
        DataError
            If a unit was not met before.
        """
        raw = [columns[name] for name in self.factors]
        codes = [one.cat.codes.to_numpy() if _is_text(one) else one.to_numpy() for one in raw]
        change = np.zeros(len(codes[0]), dtype=bool)
        change[0] = True
        for one in codes:
            change[1:] |= one[1:] != one[:-1]
        starts = np.flatnonzero(change)
        parts = []
        for index, one, column in zip(self.indices, codes, raw, strict=True):
            if _is_text(column):
                parts.append(index.get_indexer(column.cat.categories.astype(object))[one[starts]])
            else:
                parts.append(index.get_indexer(pd.Index(one[starts])))
        found = self.joint.get_indexer(pd.Index(_mixed(parts, self.indices)))
        if min(int(found.min()), *(int(part.min()) for part in parts)) < 0:
            raise _changed("units that it did not have before")
        return np.append(starts, len(change)), self.unit[found]

    def met(self, columns: Mapping[str, pd.Series]) -> Array:
        """Give the units of some rows, sorted, each once."""
        found: Array = np.unique(self.runs(columns)[1])
        return found


def _is_text(column: pd.Series) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype)


def _values(column: pd.Series) -> Array:
    return np.asarray(column.astype(object)) if _is_text(column) else column.to_numpy()


def _mixed(parts: Sequence[Array], indices: Sequence[pd.Index]) -> Array:
    mixed = np.zeros(len(parts[0]), dtype=np.int64)
    for part, index in zip(parts, indices, strict=True):
        mixed = mixed * len(index) + part
    return mixed


def _changed(what: str) -> DataError:
    return DataError(
        f"The source gives other data when it is read again. There are {what}. Write the data to files first, or leave "
        f"random parts out of the query."
    )


@dataclass(frozen=True)
class Placed:
    """Some rows of the fit.

    Parameters
    ----------
    columns : dict of str to Series, each (n,)
    starts, units : ndarray of int, shapes (r + 1,) and (r,)
        Runs of rows of one lowest unit.
    weight : ndarray, shape (n,), or None
        The weight column.
    positions : ndarray of int, shape (n,)
        Of the rows in the source.
    """

    columns: dict[str, pd.Series]
    starts: Array
    units: Array
    weight: Array | None
    positions: Array


@dataclass(frozen=True)
class PartOfRows:
    """Rows that another process reads.

    Parameters
    ----------
    source : Stream
        What reads them.
    units : ndarray of int
        Lowest units, sorted, that have rows among them.
    n : int
        Number of rows.
    """

    source: Stream
    units: Array
    n: int


@dataclass
class Streamed:
    """What stands for the rows of a frame.

    Parameters
    ----------
    source : Stream
    wanted, kinds, dtypes
        What is read, as the census found it.
    n : int
        Rows in the fit.
    formula, centrings, means, pv
        As in `ModelFrame`.
    sample : list of DesignColumns
        Of some rows, one for each of ``frame.designs``.
    designs : list of DesignColumns
        Those of the frame, which have names and no rows.
    places : Places
    rows : RowSums
        Scaled conditional weights of the rows.
    totals : tuple
        Total weights of every level, `RowSums` first.
    below : float
        Share of rows with a weight below that of the unit above.
    above : ndarray, shape (G_1,)
        Scaled weights of the levels above the rows, multiplied.
    has_closed_form : bool
        Whether outcomes are the numbers of a linear model; those of other families are read by them.
    cond : RowSums
        Conditional weights of the rows before scaling.
    parts : list of PartOfRows
        What processes read side by side; nothing where one reads all.
    """

    source: Stream
    wanted: Wanted
    kinds: Kinds
    dtypes: Mapping[str, pd.CategoricalDtype]
    n: int
    formula: ModelFormula
    centrings: list[Centring]
    means: list[Means]
    pv: dict[str, list[str]]
    sample: list[DesignColumns]
    designs: list[DesignColumns]
    places: Places
    rows: RowSums
    totals: tuple[Any, ...]
    below: float
    above: Array
    has_closed_form: bool
    cond: RowSums
    parts: list[PartOfRows] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict)

    def number_of(self, design: DesignColumns) -> int:
        """Position of a design of the frame.

        Raises
        ------
        NotSupportedError
            Of a design that was changed since the rows were read.
        """
        found = [d for d, one in enumerate(self.designs) if one is design]
        if not found:
            raise NotSupportedError(
                "A streamed fit cannot be laid out anew with other terms. Something asks for the same rows in another "
                "model. Fit that model by itself with pmwmix.fit, or fit a table in memory."
            )
        return found[0]

    def sample_of(self, design: DesignColumns) -> DesignColumns:
        """Give the design of the sampled rows."""
        return self.sample[self.number_of(design)]

    def squares(self, design: DesignColumns, level: int) -> Array:
        """Mean of z z' over the rows (q, q), by their total weights before scaling."""
        found: Array = self.memo["squares"][self.number_of(design)][level]
        return found

    @property
    def weight_sums(self) -> Array:
        """Number of rows, and sums of the scaled weights, multiplied over the levels, and of their squares (3,)."""
        whole = self.rows.times(self.above)
        return np.array([self.n, whole.total.sum(), whole.squares.sum()])

    def part(self, one: PartOfRows) -> Streamed:
        """Give the same for the rows of a part."""
        return replace(self, source=one.source, n=one.n, parts=[], memo={})

    def columns_of(self, more: Sequence[str] = (), role: str = "replicate weights") -> Iterator[Placed]:
        """Read all rows of the fit, with ``more`` columns than it has, for which they are wanted.

        Raises
        ------
        DataError
            If the source gives other rows than before.
        """
        n = 0
        for columns, positions in prepared(self.source, self.wanted, self.kinds, self.dtypes, more, role):
            starts, units = self.places.runs(columns)
            name = self.wanted.of_rows
            n += int(starts[-1])
            yield Placed(columns, starts, units, None if name is None else columns[name].to_numpy(), positions)
        if n != self.n:
            raise _changed(f"{n} rows where there were {self.n}")

    def designs_of(self, piece: Placed) -> list[DesignColumns]:
        """Evaluate the formula on some rows, as in ``ModelFrame.designs``."""
        return [self._design(d, piece.columns) for d in range(len(self.sample))]

    def _design(self, d: int, columns: Mapping[str, pd.Series]) -> DesignColumns:
        formula, sample, n = self.formula, self.sample[d], len(next(iter(columns.values())))
        local = localised(columns, self.pv, self.centrings, self.means[d], d)
        x = self._again(sample.x, formula.fixed_variables, local, n)
        blocks = tuple(
            replace(block, matrix=self._again(block.matrix, block.term.variables, local, n)) for block in sample.blocks
        )
        offset = offset_of(formula, local, n)
        if not self.has_closed_form:
            return DesignColumns(x, blocks, [], [], offset)
        y = [response(formula, one, n) for one in self._outcomes(len(sample.y), local, columns)]
        return DesignColumns(x, blocks, y if offset is None else [one - offset for one in y], [], offset)

    def outcomes_of(self, d: int, piece: Placed) -> list[dict[str, pd.Series]]:
        """Give the columns of some rows that the outcomes of a design are made from."""
        local = localised(piece.columns, self.pv, self.centrings, self.means[d], d)
        return self._outcomes(len(self.sample[d].y), local, piece.columns)

    def _outcomes(
        self, n: int, local: dict[str, pd.Series], columns: Mapping[str, pd.Series]
    ) -> list[dict[str, pd.Series]]:
        sets = [name for name in self.formula.response_variables if name in self.pv]
        if n == 1:
            return [local]
        return [{**local, **{name: columns[self.pv[name][k]] for name in sets}} for k in range(n)]

    def _again(self, matrix: Matrix, variables: Sequence[str], local: dict[str, pd.Series], n: int) -> Matrix:
        if matrix.spec is None:
            return Matrix(matrix.names, [np.ones(n)], None)
        found = self._evaluated(matrix, variables, local, n)
        check_finite(matrix.names, found, str(matrix.spec.formula))
        return Matrix(matrix.names, found, matrix.spec)

    def _evaluated(self, matrix: Matrix, variables: Sequence[str], local: dict[str, pd.Series], n: int) -> list[Array]:
        """Evaluate columns; those that are the data's own are taken, once a first piece has shown that they are."""
        known = self.memo.setdefault("plain", {})
        mine = plain_columns(matrix.names, variables, local, n) if known.get(matrix.names, True) else None
        if mine is not None and matrix.names in known:
            return mine
        found = again(matrix.spec, variables, local, n)
        known[matrix.names] = mine is not None and all(map(np.array_equal, mine, found))
        return found


def plain_columns(
    names: Sequence[str], variables: Sequence[str], local: Mapping[str, pd.Series], n: int
) -> list[Array] | None:
    """Give columns that are a variable as it stands, or say whether one has a category; None if others are among them.

    A matrix that formulaic makes of millions of rows takes several times as long.
    """
    out: list[Array] = []
    for name in names:
        variable, is_factor, level = name.removesuffix("]").partition("[T.")
        column = local[variable] if variable in variables else None
        if name == "Intercept":
            out.append(np.broadcast_to(1.0, n))
        elif column is None or isinstance(column.dtype, pd.CategoricalDtype) != bool(is_factor):
            return None
        elif is_factor:
            places = [k for k, one in enumerate(column.cat.categories) if one == level]
            if len(places) != 1:
                return None
            out.append((column.cat.codes.to_numpy() == places[0]).astype(float))
        else:
            out.append(column.to_numpy())
    return out


def localised(
    columns: Mapping[str, pd.Series],
    pv: Mapping[str, Sequence[str]],
    centrings: Sequence[Centring],
    means: Means,
    d: int,
) -> dict[str, pd.Series]:
    """Put the plausible values number ``d`` in the place of their sets, and centre by known means."""
    chosen = {name: columns[own[d]].rename(name) for name, own in pv.items()}
    return apply_center(list(centrings), {**columns, **chosen}, None, means, known=True)


def means_of(
    plans: Sequence[Centring],
    units: Mapping[str, pd.Series],
    sums: Mapping[str, Array],
    weight: Array,
    factor: Array,
) -> Means:
    """Find the means of centring from sums in the units.

    Parameters
    ----------
    plans : sequence of Centring
    units : dict of str to Series, each (U,)
    sums : dict of str to ndarray, each (U,)
        Weighted sums of the centred columns.
    weight : ndarray, shape (U,)
        Sums of the weights.
    factor : ndarray, shape (U,)
        What makes total weights of these weights.
    """
    out = Means()
    for plan in plans:
        top, below = sums[plan.column] * factor, weight * factor
        if plan.by == "grand":
            out.values[plan.column] = float(top.sum() / below.sum())
            continue
        codes, labels = code([units[name] for name in plan.columns])
        average = np.bincount(codes, top) / np.bincount(codes, below)
        index = pd.Index([key(label) for label in labels], tupleize_cols=False)
        out.values[plan.column] = pd.Series(average, index=index)
    return out


def without_rows(design: DesignColumns) -> DesignColumns:
    """Keep the names and specifications of a design, and nothing of its rows."""
    nothing: Any = NoRows()
    blocks = tuple(RandomBlock(b.level, b.term, replace(b.matrix, columns=nothing), b.predictor) for b in design.blocks)
    offset = None if design.offset is None else nothing
    return replace(
        design, x=replace(design.x, columns=nothing), blocks=blocks, y=[nothing] * len(design.y), offset=offset
    )
