"""Table + formula + design -> ModelFrame: complete rows, levels, weights and design columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.centre import Centring, Means, apply_center, find_groups
from pmwmix.design import Design
from pmwmix.errors import (
    DataError,
    DesignError,
    NotSupportedError,
    OptionError,
    WeightError,
    some,
)
from pmwmix.formula import ModelFormula, RandomTerm
from pmwmix.hierarchy import Hierarchy, code, find_levels
from pmwmix.matrices import Matrix, evaluate, response
from pmwmix.scaling import resolve_scaling
from pmwmix.table import Table, expand_pv, number_of_pv, pv_notes
from pmwmix.weights import (
    WeightStats,
    check_values,
    conditional_weights,
    total_weights,
    unit_weights,
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
        One per plausible value when only the outcome has them, else one.
    """

    x: Matrix
    blocks: tuple[RandomBlock, ...]
    y: list[Array]


@dataclass(frozen=True)
class Clusters:
    """Units of the robust variance: PSU of each top-level unit and stratum of each PSU."""

    psu: Array
    stratum: Array
    n_psu: int
    n_strata: int
    names: tuple[str, str | None]


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

    @property
    def n(self) -> int:
        """Number of rows in the likelihood."""
        return len(self.designs[0].y[0])

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the levels, ``"obs"`` first."""
        return ("obs", *(level.name for level in self.hierarchy.levels))


def build_frame(
    formula: ModelFormula, table: Table, design: Design, centrings: Sequence[Centring]
) -> ModelFrame:
    """Walk from the table to the frame: resolve, drop, code, weigh, evaluate.

    Raises
    ------
    PmwmixError
        Every problem with columns, weights, levels or design, in words.
    """
    if design.fpc is not None:
        raise NotSupportedError(
            f"Finite population corrections are not built yet. The design names column {design.fpc!r}. Leave out fpc=."
        )
    centrings = find_groups(centrings, formula)
    pv = _pv_columns(design.pv, formula, table.names)
    n_pv = number_of_pv(pv)
    columns = _resolve(formula, table, design, centrings, pv)
    model = [name for name in _model_columns(formula, centrings, pv) if name in columns]
    n_read = len(next(iter(columns.values())))
    keep, dropped = _complete(columns, model, n_read)
    weight_names = weight_columns(design.weights, formula)
    keep, zero = _positive(columns, weight_names, formula, keep)
    if not keep.any():
        reason = some([f"{name} ({count})" for name, count in {**dropped, **zero}.items()])
        raise DataError(f"No row is left. Rows were lost to {reason}. Check those columns and the join of the files.")
    kept = None if keep.all() else np.flatnonzero(keep)
    if kept is not None:
        columns = {name: _take(column, kept) for name, column in columns.items()}
    hierarchy = find_levels(formula.random, columns)
    by_level = _by_level(weight_names, hierarchy, design.weights)
    scaling, scale = resolve_scaling(design.scaling)
    cond, w = _weigh(by_level, columns, hierarchy, bool(design.conditional), scale)
    totals = total_weights(cond, hierarchy.row_parents)
    weighted = any(name is not None for name in by_level)
    parts = []
    means = []
    for k in range(n_pv if _varying(formula, pv) else 1):
        chosen = {name: columns[cols[k]].rename(name) for name, cols in pv.items()}
        mean = Means()
        local = apply_center(list(centrings), {**columns, **chosen}, totals[0] if weighted else None, mean)
        parts.append(_evaluate(formula, hierarchy, local, columns, pv, n_pv))
        means.append(mean)
    notes = _weight_notes(by_level, hierarchy, cond, w, scaling, bool(design.conditional))
    notes += pv_notes(design.pv, formula.variables, table.names)
    frame = ModelFrame(
        formula=formula,
        hierarchy=hierarchy,
        designs=parts,
        w=w,
        weighted=tuple(name is not None for name in by_level),
        weight_columns=by_level,
        weight_stats=_stats(hierarchy, totals, w, weighted),
        scaling=scaling,
        n_read=n_read,
        kept=kept,
        dropped=dropped,
        zero_weight=zero,
        clusters=_clusters(design, columns, hierarchy),
        means=means,
        centrings=list(centrings),
        pv=pv,
        categories=_categories(formula, columns),
        index=table.index if kept is None else table.index[kept],
        notes=notes,
    )
    _check_size(frame)
    return frame


def _categories(formula: ModelFormula, columns: Mapping[str, pd.Series]) -> dict[str, list[str]]:
    slopes = [name for term in formula.random for name in term.variables]
    used = dict.fromkeys([*formula.fixed_variables, *slopes])
    return {
        name: [str(c) for c in columns[name].cat.categories]
        for name in used
        if name in columns and isinstance(columns[name].dtype, pd.CategoricalDtype)
    }


def _pv_columns(sets: Any, formula: ModelFormula, names: Sequence[str]) -> dict[str, list[str]]:
    """Columns of the sets in the formula; sets that it does not use (a preset declares many) do no harm."""
    if sets is None or not isinstance(sets, Mapping):
        return expand_pv(sets, names)
    for term in formula.random:
        for factor in term.factors:
            if factor in sets and factor not in names:
                raise OptionError(
                    f"Plausible values cannot name groups. {factor!r} in {term.text!r} is a set of them. "
                    f"Use a column of ids as the group."
                )
    return expand_pv({name: spec for name, spec in sets.items() if name in formula.variables}, names)


def _varying(formula: ModelFormula, pv: Mapping[str, Sequence[str]]) -> bool:
    """Whether predictors or the outcome's expression change with the plausible value."""
    right = [*formula.fixed_variables, *(v for term in formula.random for v in term.variables)]
    expression = formula.response not in pv and any(v in pv for v in formula.response_variables)
    return expression or any(v in pv for v in right)


def _model_columns(formula: ModelFormula, centrings: Sequence[Centring], pv: Mapping[str, Sequence[str]]) -> list[str]:
    added = {plan.mean_name for plan in centrings if plan.add_mean}
    names = [name for name in formula.variables if name not in added]
    names += [name for plan in centrings for name in (*plan.columns, plan.column)]
    wide = [[name] if name not in pv else list(pv[name]) for name in names]
    return list(dict.fromkeys(name for group in wide for name in group))


def _resolve(
    formula: ModelFormula, table: Table, design: Design, centrings: Sequence[Centring], pv: Mapping[str, Sequence[str]]
) -> dict[str, pd.Series]:
    weights = [name for name in weight_columns(design.weights, formula).values() if name is not None]
    extra = [name for name in (design.strata, design.psu) if name is not None]
    role = "formula, weights, design, center"
    if isinstance(design.pv, Mapping) and len(pv) < len(design.pv):
        role += f"; plausible-value sets not in the formula: {some([n for n in design.pv if n not in pv])}"
    return table.columns([*_model_columns(formula, centrings, pv), *weights, *extra], role)


def _take(column: pd.Series, rows: Array) -> pd.Series:
    taken = column.take(rows).reset_index(drop=True)
    if isinstance(taken.dtype, pd.CategoricalDtype):
        taken = taken.cat.remove_unused_categories()
    return taken


def _complete(columns: Mapping[str, pd.Series], model: Sequence[str], n: int) -> tuple[Array, dict[str, int]]:
    """Mask of complete rows and, per column, how many rows it alone or first excludes; infinite values are errors."""
    keep, dropped = np.ones(n, dtype=bool), {}
    for name in model:
        column = columns[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            missing = column.cat.codes.to_numpy() < 0
        else:
            values = column.to_numpy()
            missing = np.isnan(values)
            if np.isinf(values).any():
                raise DataError(
                    f"Values must be finite. Column {name!r} has {int(np.isinf(values).sum())} infinite ones. "
                    f"Replace them or mark them as missing."
                )
        lost = int(missing.sum())
        if lost:
            dropped[name] = lost
            keep &= ~missing
    return keep, dropped


def _positive(
    columns: Mapping[str, pd.Series], weights: Mapping[str, str | None], formula: ModelFormula, keep: Array
) -> tuple[Array, dict[str, int]]:
    """Check weight values on the kept rows and take out rows of weight 0, counted by column."""
    zero: dict[str, int] = {}
    factor = formula.random[0].factors[0] if formula.random else None
    rows = np.flatnonzero(keep)
    for name in dict.fromkeys(w for w in weights.values() if w is not None):
        column = columns[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            raise WeightError(
                f"Weights must be numbers. Column {name!r} holds categories such as "
                f"{some([str(c) for c in column.cat.categories], 2)}. Convert it first."
            )
        values = column.to_numpy()[rows]
        if len(values) and not np.all(values > 0):
            labels = _row_labels(columns, factor, rows)
            check_values(values, name, labels)
            gone = rows[values == 0]
            zero[name] = int(keep[gone].sum())
            keep = keep.copy()
            keep[gone] = False
        elif len(values) and np.isinf(values).any():
            check_values(values, name, _row_labels(columns, factor, rows))
    return keep, zero


def _row_labels(columns: Mapping[str, pd.Series], factor: str | None, rows: Array) -> list[object]:
    if factor is None:
        return [f"row {row}" for row in rows]
    codes, labels = code([columns[factor].take(rows)])
    return [f"{factor} {labels[c]}" for c in codes]


def _by_level(weights: Mapping[str, str | None], hierarchy: Hierarchy, given: Any) -> tuple[str | None, ...]:
    """Put the weight columns in the order of the levels, rows first."""
    names = ["obs", *(level.name for level in hierarchy.levels)]
    if not weights:
        return (None,) * len(names)
    if next(iter(weights)).startswith("#"):
        columns = list(weights.values())
        return tuple(columns + [None] * (len(names) - len(columns)))
    return tuple(weights.get(name) for name in names)


def _weigh(
    by_level: Sequence[str | None],
    columns: Mapping[str, pd.Series],
    hierarchy: Hierarchy,
    conditional: bool,
    scale: Any,
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    totals: list[Array | None] = [None if by_level[0] is None else columns[by_level[0]].to_numpy()]
    for level, name in zip(hierarchy.levels, by_level[1:], strict=True):
        values = None
        if name is not None:
            values = unit_weights(columns[name].to_numpy(), level.index, level.n, name, level.name, level.labels)
        totals.append(values)
    parents = hierarchy.row_parents if hierarchy.levels else ()
    cond = tuple(conditional_weights(totals, parents, conditional))
    if all(name is None for name in by_level):
        return cond, cond
    return cond, tuple(scale(cond, tuple(parents)))


def _evaluate(
    formula: ModelFormula,
    hierarchy: Hierarchy,
    local: dict[str, pd.Series],
    columns: Mapping[str, pd.Series],
    pv: Mapping[str, Sequence[str]],
    n_pv: int,
) -> DesignColumns:
    n = len(next(iter(local.values())))
    x = evaluate(formula.fixed, formula.fixed_variables, local, n)
    blocks = []
    for level, unit in enumerate(hierarchy.levels):
        for term in formula.random:
            if sorted(term.factors) == sorted(unit.factors):
                blocks.append(RandomBlock(level, term, _random_matrix(term, local, n)))
    shared = formula.response in pv and not _varying(formula, pv)
    if shared:
        y = [response(formula, {formula.response: columns[name]}, n) for name in pv[formula.response]]
    else:
        y = [response(formula, local, n)]
    return DesignColumns(x, tuple(blocks), y)


def _random_matrix(term: RandomTerm, local: Mapping[str, pd.Series], n: int) -> Matrix:
    if term.expr == "1":
        return Matrix(("Intercept",), [np.ones(n)], None)
    return evaluate(term.expr, term.variables, local, n)


def _stats(
    hierarchy: Hierarchy, totals: Sequence[Array], w: Sequence[Array], weighted: bool
) -> dict[tuple[str, str], WeightStats]:
    if not weighted:
        return {}
    names = ["obs", *(level.name for level in hierarchy.levels)]
    out = {}
    for name, total, used in zip(names, totals, w, strict=True):
        out[name, "total"] = WeightStats.of(total)
        out[name, "used"] = WeightStats.of(used)
    return out


def _weight_notes(
    by_level: Sequence[str | None],
    hierarchy: Hierarchy,
    cond: Sequence[Array],
    w: Sequence[Array],
    scaling: str,
    conditional: bool,
) -> tuple[str, ...]:
    if all(name is None for name in by_level):
        return ()
    names = ["obs", *(level.name for level in hierarchy.levels)]
    notes = [
        f"Level {name!r} has no weight column: its conditional weight is 1."
        for name, column in zip(names, by_level, strict=True)
        if column is None
    ]
    if by_level[0] is not None and hierarchy.levels:
        index, n = hierarchy.levels[0].index, hierarchy.levels[0].n
        ratio = np.bincount(index, w[0], minlength=n) / np.bincount(index, minlength=n)
        typical = float(np.median(ratio))
        if scaling == "none" and not 2 / 3 < typical < 1.5:
            notes.append(
                f"Level-1 weights are unscaled and average {typical:.3g} in the median {names[1]}, far from 1: each "
                f"{names[1]} then counts as if it had that many times its members, which biases the variances when "
                f"groups are small (Rabe-Hesketh & Skrondal 2006). Consider scaling='size'."
            )
        if not conditional and by_level[1] is not None and float(np.mean(cond[0] < 0.999)) > 0.5:
            notes.append(
                f"Most rows have a total weight below that of their {names[1]}: column {by_level[0]!r} looks "
                f"conditional already. If it is, pass conditional=True."
            )
    return tuple(notes)


def _clusters(design: Design, columns: Mapping[str, pd.Series], hierarchy: Hierarchy) -> Clusters | None:
    """PSU and strata of the top-level units; None when the top level itself is the PSU and there are no strata."""
    if design.psu is None and design.strata is None:
        return None
    if not hierarchy.levels:
        return None
    top = hierarchy.levels[-1]
    psu, psu_labels = np.arange(top.n), top.labels
    if design.psu is not None:
        psu_row, psu_labels = _design_code(columns, design.psu)
        psu = _constant(psu_row, top.index, top.n, top.labels, top.name, design.psu, psu_labels, "PSU")
    stratum, n_strata = np.zeros(len(psu_labels), dtype=np.int64), 1
    if design.strata is not None:
        row, labels = _design_code(columns, design.strata)
        name = design.psu or top.name
        stratum = _constant(row, psu[top.index], len(psu_labels), psu_labels, name, design.strata, labels, "stratum")
        n_strata = len(labels)
        lonely = np.flatnonzero(np.bincount(stratum, minlength=n_strata) == 1)
        if len(lonely):
            raise DesignError(
                f"A stratum needs two PSUs for a variance. Strata of {design.strata!r} with one: "
                f"{some([labels[s] for s in lonely])}. Merge them with a neighbour, or leave strata out."
            )
    if len(psu_labels) < 2:
        raise DesignError(
            f"A robust variance needs two PSUs. Column {design.psu!r} has only {some(psu_labels)}. Leave psu out."
        )
    return Clusters(psu, stratum, len(psu_labels), n_strata, (design.psu or top.name, design.strata))


def _design_code(columns: Mapping[str, pd.Series], name: str) -> tuple[Array, list[object]]:
    column = columns[name]
    missing = int(column.isna().sum())
    if missing:
        raise DesignError(
            f"Design columns must be complete. Column {name!r} is missing in {missing} rows. "
            f"Fill it or drop those rows."
        )
    return code([column])


def _constant(
    values: Array, index: Array, n: int, unit_labels: Sequence[object], unit: str, column: str, labels: list, what: str
) -> Array:
    out = np.zeros(n, dtype=np.int64)
    out[index[::-1]] = values[::-1]
    stray = np.flatnonzero(out[index] != values)
    if len(stray):
        units = list(dict.fromkeys(index[stray].tolist()))
        cure = "Use a coarser column or another top level"
        if what == "stratum":
            cure += f"; if the ids of {unit!r} start again in every stratum, make them unique first"
        raise DesignError(
            f"A {what} must contain whole units of {unit!r}, but column {column!r} varies in {len(units)} of them. "
            f"First ones: {some([unit_labels[u] for u in units])}. {cure}."
        )
    return out


def _check_size(frame: ModelFrame) -> None:
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
        if float(np.ptp(y)) == 0.0:
            raise DataError(
                f"The outcome does not vary. {name!r} is {y[0]:g} in all {len(y)} rows. "
                f"Check the column and the filter."
            )
    right = [*frame.formula.fixed_variables, *(v for term in frame.formula.random for v in term.variables)]
    if frame.formula.response in right:
        raise DataError(
            f"The outcome cannot explain itself. {frame.formula.response!r} stands on both sides. Drop it on the right."
        )
    for block in frame.designs[0].blocks:
        level = frame.hierarchy.levels[block.level]
        if level.n == frame.n and "Intercept" in block.matrix.names:
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
