"""Which columns a call needs, which rows are complete and have positive weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import code, label_text, printed
from pmwmix.data.table import Table
from pmwmix.errors import DataError, WeightError, some
from pmwmix.frame.hierarchy import find_levels
from pmwmix.spec.formula import ModelFormula
from pmwmix.weights.conditional import LARGEST, check_values, order_weights, unit_weights


def subset_rows(subset: Any, table: Table, n: int) -> Array:
    """Read which rows to fit: a column of true and false (or 1 and 0), or an array of them.

    Raises
    ------
    DataError
    """
    name = subset if isinstance(subset, str) else "subset"
    values = table.columns([subset], "subset")[subset] if isinstance(subset, str) else pd.Series(subset)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if len(numbers) != n or not np.isin(numbers[~np.isnan(numbers)], (0.0, 1.0)).all() or np.isnan(numbers).all():
        raise DataError(
            f"A subset is true or false for every row of the table. {name!r} has {len(numbers)} values for {n} rows, "
            f"or others than true and false. Pass for example subset=(data['sex'] == 'F')."
        )
    return numbers == 1.0


def take_rows(column: pd.Series, rows: Array) -> pd.Series:
    """Take rows of a column; categories that are left unused are forgotten."""
    taken = column.take(rows).reset_index(drop=True)
    if isinstance(taken.dtype, pd.CategoricalDtype):
        taken = taken.cat.remove_unused_categories()
    return taken


def with_declared(
    columns: Mapping[str, pd.Series], names: Sequence[str], declared: Mapping[str, pd.CategoricalDtype]
) -> dict[str, pd.Series]:
    """Give outcomes back the categories that no row has: their families leave them out, and say so."""
    lost = {
        name: column.astype(declared[name])
        for name in names
        if name in declared and isinstance((column := columns[name]).dtype, pd.CategoricalDtype)
    }
    return {**columns, **lost}


def complete_rows(
    columns: Mapping[str, pd.Series], model: Sequence[str], n: int, outcomes: Sequence[Sequence[str]] = ()
) -> tuple[Array, dict[str, int]]:
    """Mask of complete rows and, per column, how many rows it alone or first excludes; infinite values are errors.

    Of several ``outcomes``, each with the columns of its plausible values, a row may lack all but one.
    """
    keep, dropped, own = np.ones(n, dtype=bool), {}, {name for names in outcomes for name in names}
    for name in model:
        missing = _missing(columns[name], name)
        lost = int(missing.sum())
        if lost and name not in own:
            dropped[name] = lost
            keep &= ~missing
    if outcomes:
        lost_all = np.all([np.any([_missing(columns[c], c) for c in names], axis=0) for names in outcomes], axis=0)
        if lost_all.any():
            dropped["all outcomes"] = int(lost_all.sum())
            keep &= ~lost_all
    return keep, dropped


def missing_together(columns: dict[str, pd.Series], outcomes: Sequence[Sequence[str]]) -> dict[str, pd.Series]:
    """Let a row lack all plausible values of an outcome where it lacks one, so that every fit has the same rows."""
    out = dict(columns)
    for names in outcomes:
        lost = np.any([_missing(columns[name], name) for name in names], axis=0)
        out |= {name: columns[name].mask(lost) for name in names if len(names) > 1 and lost.any()}
    return out


def _missing(column: pd.Series, name: str) -> Array:
    """Mark rows (n,) without a value; infinite values are errors."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return np.asarray(column.cat.codes.to_numpy() < 0)
    values = column.to_numpy()
    finite = np.isfinite(values)
    if finite.all():
        return ~finite
    if np.isinf(values).any():
        raise DataError(
            f"Values must be finite. Column {name!r} has {int(np.isinf(values).sum())} infinite ones. "
            f"Replace them or mark them as missing."
        )
    return np.isnan(values)


def positive_rows(
    columns: Mapping[str, pd.Series], weights: Mapping[str, str | None], formula: ModelFormula, keep: Array
) -> tuple[Array, dict[str, int], tuple[str, ...]]:
    """Check weight values on the kept rows and take out those of weight 0.

    Returns
    -------
    ndarray of bool, shape (n,)
        Rows that stay.
    dict
        Rows lost, by column.
    tuple of str
        Remarks on groups that are lost as a whole.

    Raises
    ------
    WeightError
        Also if a unit's weight is zero in some of its rows only.
    """
    rows = np.flatnonzero(keep)
    keep, zero = without_weightless(columns, weights, formula, keep)
    return keep, zero, lost_groups(columns, weights, formula, rows, keep) if any(zero.values()) else ()


def without_weightless(
    columns: Mapping[str, pd.Series], weights: Mapping[str, str | None], formula: ModelFormula, keep: Array
) -> tuple[Array, dict[str, int]]:
    """Check weight values on the kept rows; give those of positive weight, and the rows lost by column."""
    zero: dict[str, int] = {}
    factors = formula.grouping[0].factors if formula.grouping else ()
    rows = np.flatnonzero(keep)
    for name in dict.fromkeys(w for w in weights.values() if w is not None):
        column = columns[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            raise WeightError(
                f"Weights must be numbers. Column {name!r} holds categories such as "
                f"{some([str(c) for c in column.cat.categories], 2)}. Convert it first."
            )
        values = column.to_numpy()[rows]
        if len(values) and (not np.all(values > 0) or (values > LARGEST).any()):
            check_values(values, name, _row_labels(columns, factors, rows))
            gone = rows[values == 0]
            zero[name] = int(keep[gone].sum())
            keep = keep.copy()
            keep[gone] = False
    return keep, zero


def lost_groups(
    columns: Mapping[str, pd.Series], weights: Mapping[str, str | None], formula: ModelFormula, rows: Array, keep: Array
) -> tuple[str, ...]:
    """Check that zero weights of a level hit whole units, and count the units that are lost."""
    before = {name: take_rows(column, rows) for name, column in columns.items()}
    hierarchy = find_levels(formula.grouping, before)
    notes = []
    for level, name in zip(hierarchy.levels, order_weights(weights, hierarchy)[1:], strict=True):
        if name is not None:
            unit_weights(before[name].to_numpy(), level.index, level.n, name, level.name, printed(level.labels))
        left = np.bincount(level.index, keep[rows], minlength=level.n)
        if (left == 0).any():
            notes.append(f"{int((left == 0).sum())} of {level.n} groups of {level.name!r} left with weights of zero.")
    return tuple(notes)


def _row_labels(columns: Mapping[str, pd.Series], factors: Sequence[str], rows: Array) -> list[object]:
    if not factors:
        return [f"row {row}" for row in rows]
    codes, labels = code([columns[factor].take(rows) for factor in factors])
    return [f"{':'.join(factors)} {label_text(labels[c])}" for c in codes]
