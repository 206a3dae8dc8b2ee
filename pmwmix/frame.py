"""Table + formula + design -> ModelFrame: complete rows, levels, weights and design columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.centre import Centring, Means, apply_center, find_groups
from pmwmix.clusters import Clusters, find_clusters, subset_clusters
from pmwmix.crossing import check_weights_of_crossed, crossed_clusters, crossing_notes
from pmwmix.design import Design
from pmwmix.errors import (
    DataError,
    some,
)
from pmwmix.formula import ModelFormula, RandomTerm
from pmwmix.hierarchy import Hierarchy, find_levels
from pmwmix.matrices import Matrix, evaluate, offset_of, outcome, response
from pmwmix.outcome import Outcome, Response
from pmwmix.rows import (
    categories_of,
    complete_rows,
    model_columns,
    positive_rows,
    pv_columns,
    resolve_columns,
    subset_rows,
    take_rows,
    varies_with_pv,
)
from pmwmix.scaling import resolve_scaling
from pmwmix.table import Table, number_of_pv, pv_notes
from pmwmix.weighing import weigh, weight_notes, weight_statistics
from pmwmix.weights import (
    WeightStats,
    order_weights,
    total_weights,
    weight_columns,
)

Array = np.ndarray


@dataclass(frozen=True)
class RandomBlock:
    """Design columns of one random term.

    Parameters
    ----------
    level : int
        Position in ``Hierarchy.levels``.
    term : RandomTerm
    matrix : Matrix
    """

    level: int
    term: RandomTerm
    matrix: Matrix


@dataclass(frozen=True)
class DesignColumns:
    """Predictors of one data set, and the outcomes that share them.

    Parameters
    ----------
    x : Matrix
    blocks : tuple of RandomBlock
        Bottom-up by level, in formula order inside a level.
    y : list of ndarray, each (n,)
        One per plausible value when only the outcome has them, else one. Of a gaussian model without the offset.
    responses : list of Response
        The outcomes as their family read them; empty for a gaussian model.
    offset : ndarray, shape (n,), or None
    """

    x: Matrix
    blocks: tuple[RandomBlock, ...]
    y: list[Array]
    responses: list[Response] = field(default_factory=list)
    offset: Array | None = None


@dataclass(frozen=True)
class ModelFrame:
    """Everything numeric that a fit needs, frozen.

    Parameters
    ----------
    formula : ModelFormula
    hierarchy : Hierarchy
    designs : list of DesignColumns
        One, or one per plausible value when predictors have them.
    w : tuple of ndarray
        Scaled conditional weights, rows first.
    weighted : tuple of bool
        Which levels have a weight column.
    weight_columns : tuple of str or None
    weight_stats : dict
        ``(level name, "total" | "used")`` to WeightStats.
    scaling : str
    n_read : int
    kept : ndarray of int, shape (n,), or None
        Positions of the used rows in the table; None if all are used.
    dropped : dict
        Column to number of rows left out because it is missing (first column that is).
    zero_weight : dict
        Weight column to number of rows that leave the likelihood with weight 0.
    clusters : Clusters or None
    means : list of Means
    centrings : list of Centring
    pv : dict
        Columns of every plausible-value set in the formula.
    categories : dict
        Categories of every factor among the predictors.
    index : pandas.Index, shape (n,)
        Labels of the used rows in the caller's table.
    notes : tuple of str
    cond : tuple of ndarray
        Conditional weights before scaling, rows first.
    family, link : str
    """

    formula: ModelFormula
    hierarchy: Hierarchy
    designs: list[DesignColumns]
    w: tuple[Array, ...]
    weighted: tuple[bool, ...]
    weight_columns: tuple[str | None, ...]
    weight_stats: dict[tuple[str, str], WeightStats]
    scaling: str
    n_read: int
    kept: Array | None
    dropped: dict[str, int]
    zero_weight: dict[str, int]
    clusters: Clusters | None
    means: list[Means] = field(default_factory=list)
    centrings: list[Centring] = field(default_factory=list)
    pv: dict[str, list[str]] = field(default_factory=dict)
    categories: dict[str, list[str]] = field(default_factory=dict)
    index: Any = None
    notes: tuple[str, ...] = ()
    replicates: Any = None  # ReplicateScheme
    cond: tuple[Array, ...] = ()
    family: str = "gaussian"
    link: str = "identity"

    @property
    def linear(self) -> bool:
        """Whether the likelihood has a closed form."""
        return self.family == "gaussian" and self.link == "identity"

    @property
    def n(self) -> int:
        """Number of rows in the likelihood."""
        return len(self.designs[0].y[0])

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the levels, ``"obs"`` first."""
        return ("obs", *(level.name for level in self.hierarchy.levels))


@dataclass(frozen=True)
class Distribution:
    """What the call says about the outcome.

    Parameters
    ----------
    family, link : str
    read : callable or None
        Outcome -> Response; None for a linear model.
    has_scale : bool
        Whether rows have a variance of their own, so that a group per row is not identified.
    trials : str or None
        Column of the number of trials.
    """

    family: str = "gaussian"
    link: str = "identity"
    read: Callable[[Outcome], Response] | None = None
    has_scale: bool = True
    trials: str | None = None


def build_frame(
    formula: ModelFormula,
    table: Table,
    design: Design,
    centrings: Sequence[Centring],
    subset: Any = None,
    distribution: Distribution | None = None,
) -> ModelFrame:
    """Walk from the table to the frame: resolve, drop, code, weigh, evaluate.

    Parameters
    ----------
    formula : ModelFormula
    table : Table
    design : Design
    centrings : sequence of Centring
    subset : str or array of bool, shape (n,), optional
        Rows to fit; the others stay in the design.
    distribution : Distribution, optional
        None is a linear model.

    Returns
    -------
    ModelFrame

    Raises
    ------
    PmwmixError
        Every problem with columns, weights, levels or design, in words.
    """
    distribution = distribution or Distribution()
    centrings = find_groups(centrings, formula)
    pv = pv_columns(design.pv, formula, table.names)
    n_pv = number_of_pv(pv)
    columns = resolve_columns(formula, table, design, centrings, pv, distribution.trials)
    trials = [distribution.trials] if distribution.trials is not None else []
    model = [name for name in [*model_columns(formula, centrings, pv), *trials] if name in columns]
    n_read = len(next(iter(columns.values())))
    keep, dropped = complete_rows(columns, model, n_read)
    weight_names = weight_columns(design.weights, formula)
    if subset is not None:
        keep &= subset_rows(subset, table, n_read)
    keep, zero, lost = positive_rows(columns, weight_names, formula, keep)
    if not keep.any():
        reason = some([f"{name} ({count})" for name, count in {**dropped, **zero}.items()])
        raise DataError(f"No row is left. Rows were lost to {reason}. Check those columns and the join of the files.")
    kept, everything = None if keep.all() else np.flatnonzero(keep), columns
    if kept is not None:
        columns = {name: take_rows(column, kept) for name, column in columns.items()}
    hierarchy = find_levels(formula.random, columns)
    by_level = order_weights(weight_names, hierarchy)
    scaling, scale = resolve_scaling(design.scaling)
    if hierarchy.crossed:
        check_weights_of_crossed(by_level, hierarchy, scaling)
    cond, w = weigh(by_level, columns, hierarchy, bool(design.conditional), scale)
    totals = total_weights(cond, hierarchy.row_parents)
    weighted = any(name is not None for name in by_level)
    parts = []
    means = []
    for k in range(n_pv if varies_with_pv(formula, pv) else 1):
        chosen = {name: columns[cols[k]].rename(name) for name, cols in pv.items()}
        mean = Means()
        local = apply_center(list(centrings), {**columns, **chosen}, totals[0] if weighted else None, mean)
        parts.append(_evaluate(formula, hierarchy, local, columns, pv, distribution, kept))
        means.append(mean)
    notes = weight_notes(by_level, hierarchy, cond, w, scaling, bool(design.conditional))
    if hierarchy.crossed:
        notes = crossing_notes(by_level, hierarchy, w[0], distribution.read is None)
    if subset is not None:
        notes += (f"A subset was fitted: {int(keep.sum())} of {n_read} rows; all clusters stay in the variance.",)
    notes += lost + pv_notes(design.pv, formula.variables, table.names)
    notes += tuple(dict.fromkeys(note for part in parts for read in part.responses for note in read.notes))
    frame = ModelFrame(
        formula=formula,
        hierarchy=hierarchy,
        designs=parts,
        w=w,
        weighted=tuple(name is not None for name in by_level),
        weight_columns=by_level,
        weight_stats=weight_statistics(hierarchy, totals, w, weighted),
        scaling=scaling,
        n_read=n_read,
        kept=kept,
        dropped=dropped,
        zero_weight=zero,
        clusters=_clusters(design, columns, everything, hierarchy, None if subset is None else np.flatnonzero(keep)),
        means=means,
        centrings=list(centrings),
        pv=pv,
        categories=categories_of(formula, columns),
        index=table.index if kept is None else table.index[kept],
        notes=notes,
        cond=cond,
        family=distribution.family,
        link=distribution.link,
    )
    _check_size(frame, distribution)
    _check_same_categories(frame)
    return frame


def _clusters(
    design: Design,
    columns: Mapping[str, pd.Series],
    everything: Mapping[str, pd.Series],
    hierarchy: Hierarchy,
    rows: Array | None,
) -> Clusters | None:
    """Find the units of the robust variance; ``rows`` are those of a subset of ``everything``."""
    if hierarchy.crossed:
        whole = rows is None or design.psu is None  # PSUs without rows of a subset would be missing
        return crossed_clusters(design, columns, hierarchy) if whole else None
    if rows is None:
        return find_clusters(design, columns, hierarchy)
    return subset_clusters(design, everything, hierarchy, rows)


def _evaluate(
    formula: ModelFormula,
    hierarchy: Hierarchy,
    local: dict[str, pd.Series],
    columns: Mapping[str, pd.Series],
    pv: Mapping[str, Sequence[str]],
    distribution: Distribution,
    kept: Array | None,
) -> DesignColumns:
    n = len(next(iter(local.values())))
    x = evaluate(formula.fixed, formula.fixed_variables, local, n)
    blocks = []
    for level, unit in enumerate(hierarchy.levels):
        for term in formula.random:
            if sorted(term.factors) == sorted(unit.factors):
                blocks.append(RandomBlock(level, term, _random_matrix(term, local, n)))
    offset = offset_of(formula, local, n)
    sets = [name for name in formula.response_variables if name in pv]
    outcomes = [local]
    if sets and not varies_with_pv(formula, pv):  # one set of predictors serves all plausible values
        outcomes = [{**local, **{name: columns[pv[name][k]] for name in sets}} for k in range(len(pv[sets[0]]))]
    if distribution.read is None:
        y = [response(formula, values, n) for values in outcomes]
        return DesignColumns(x, tuple(blocks), y if offset is None else [v - offset for v in y], [], offset)
    trials = None if distribution.trials is None else _trials(distribution.trials, columns)
    places = np.arange(n) if kept is None else kept
    found = [replace(outcome(formula, values, n), trials=trials, rows=places) for values in outcomes]
    responses = [distribution.read(one) for one in found]
    return DesignColumns(x, tuple(blocks), [one.y for one in responses], responses, offset)


def _trials(name: str, columns: Mapping[str, pd.Series]) -> Array:
    if isinstance(columns[name].dtype, pd.CategoricalDtype):
        raise DataError(f"Numbers of trials must be numbers. Column {name!r} holds categories. Convert it.")
    return columns[name].to_numpy()


def _random_matrix(term: RandomTerm, local: Mapping[str, pd.Series], n: int) -> Matrix:
    if term.expr == "1":
        return Matrix(("Intercept",), [np.ones(n)], None)
    return evaluate(term.expr, term.variables, local, n)


def _check_same_categories(frame: ModelFrame) -> None:
    """Refuse plausible values with categories of their own: what is pooled would not mean the same."""
    every = [read.categories for part in frame.designs for read in part.responses]
    for number, found in enumerate(every, start=1):
        if found != every[0]:
            raise DataError(
                f"All plausible values of an outcome need the same categories. Number {number} of "
                f"{frame.formula.response!r} has {some(found)}, the first {some(every[0])}. "
                f"Merge categories that some of them lack with their neighbours."
            )


def _check_size(frame: ModelFrame, distribution: Distribution) -> None:
    p = len(frame.designs[0].x.names)
    if p == 0:
        raise DataError(
            f"The model has no fixed column. The fixed part is {frame.formula.fixed!r}. "
            f"Keep the intercept or a predictor."
        )
    if frame.n <= p:
        raise DataError(
            f"There are not enough rows. {frame.n} rows are left for {p} fixed columns. "
            f"Drop predictors, or check what the rows were lost to: {some([*frame.dropped]) or 'nothing'}."
        )
    for name, y in ((frame.formula.response, y) for part in frame.designs for y in part.y):
        if frame.linear and float(np.ptp(y)) == 0.0:
            raise DataError(
                f"The outcome does not vary. {name!r} is {y[0]:g} in all {len(y)} rows. "
                f"Check the column and the filter."
            )
    right = [
        *frame.formula.fixed_variables,
        *frame.formula.offset_variables,
        *(v for term in frame.formula.random for v in term.variables),
    ]
    if frame.formula.response in right:
        raise DataError(
            f"The outcome cannot explain itself. {frame.formula.response!r} stands on both sides. Drop it on the right."
        )
    for block in frame.designs[0].blocks:
        level = frame.hierarchy.levels[block.level]
        if distribution.has_scale and level.n == frame.n and "Intercept" in block.matrix.names:
            raise DataError(
                f"Every row is its own group, so that the groups' variance cannot be told from the residual one. "
                f"{level.name!r} has {level.n} groups in {frame.n} rows. Drop {block.term.text} or group by a column "
                f"whose values repeat."
            )
    for level in frame.hierarchy.levels:
        if level.n < 2:
            raise DataError(
                f"A grouping factor needs two groups. {level.name!r} has only {some(level.labels)}. "
                f"Drop its random term, or check the filter."
            )
