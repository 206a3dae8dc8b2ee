"""Which columns a call needs, which rows are complete and have positive weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.centre import Centring
from pmwmix.design import Design
from pmwmix.errors import DataError, OptionError, WeightError, some
from pmwmix.formula import ModelFormula
from pmwmix.hierarchy import code, find_levels
from pmwmix.table import Table, expand_pv
from pmwmix.weights import LARGEST, check_values, order_weights, unit_weights, weight_columns

Array = np.ndarray


def categories_of(formula: ModelFormula, columns: Mapping[str, pd.Series]) -> dict[str, list[str]]:
    """Categories of every factor among the predictors, as text."""
    slopes = [name for term in formula.random for name in term.variables]
    used = dict.fromkeys([*formula.fixed_variables, *slopes])
    return {
        name: [str(c) for c in columns[name].cat.categories]
        for name in used
        if name in columns and isinstance(columns[name].dtype, pd.CategoricalDtype)
    }


def pv_columns(sets: Any, formula: ModelFormula, names: Sequence[str]) -> dict[str, list[str]]:
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


def varies_with_pv(formula: ModelFormula, pv: Mapping[str, Sequence[str]]) -> bool:
    """Whether predictors or the offset change with the plausible value."""
    slopes = [v for term in formula.random for v in term.variables]
    return any(v in pv for v in [*formula.fixed_variables, *formula.offset_variables, *slopes])


def model_columns(formula: ModelFormula, centrings: Sequence[Centring], pv: Mapping[str, Sequence[str]]) -> list[str]:
    """Columns that the model itself uses: formula, centring, plausible values."""
    added = {plan.mean_name for plan in centrings if plan.add_mean}
    names = [name for name in formula.variables if name not in added]
    names += [name for plan in centrings for name in (*plan.columns, plan.column)]
    wide = [[name] if name not in pv else list(pv[name]) for name in names]
    return list(dict.fromkeys(name for group in wide for name in group))


def resolve_columns(
    formula: ModelFormula,
    table: Table,
    design: Design,
    centrings: Sequence[Centring],
    pv: Mapping[str, Sequence[str]],
    trials: str | None = None,
) -> dict[str, pd.Series]:
    """Read every column of the call, all missing ones in one error."""
    weights = [name for name in weight_columns(design.weights, formula).values() if name is not None]
    extra = [name for name in (design.strata, design.psu, design.fpc, trials) if name is not None]
    role = "formula, weights, design, center"
    if isinstance(design.pv, Mapping) and len(pv) < len(design.pv):
        role += f"; plausible-value sets not in the formula: {some([n for n in design.pv if n not in pv])}"
    return table.columns([*model_columns(formula, centrings, pv), *weights, *extra], role)


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


def complete_rows(columns: Mapping[str, pd.Series], model: Sequence[str], n: int) -> tuple[Array, dict[str, int]]:
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
    zero: dict[str, int] = {}
    factors = formula.random[0].factors if formula.random else ()
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
    return keep, zero, _lost_groups(columns, weights, formula, rows, keep) if any(zero.values()) else ()


def _lost_groups(
    columns: Mapping[str, pd.Series], weights: Mapping[str, str | None], formula: ModelFormula, rows: Array, keep: Array
) -> tuple[str, ...]:
    """Check that zero weights of a level hit whole units, and count the units that are lost."""
    before = {name: take_rows(column, rows) for name, column in columns.items()}
    hierarchy = find_levels(formula.random, before)
    notes = []
    for level, name in zip(hierarchy.levels, order_weights(weights, hierarchy)[1:], strict=True):
        if name is not None:
            unit_weights(before[name].to_numpy(), level.index, level.n, name, level.name, level.labels)
        left = np.bincount(level.index, keep[rows], minlength=level.n)
        if (left == 0).any():
            notes.append(f"{int((left == 0).sum())} of {level.n} groups of {level.name!r} left with weights of zero.")
    return tuple(notes)


def _row_labels(columns: Mapping[str, pd.Series], factors: Sequence[str], rows: Array) -> list[object]:
    if not factors:
        return [f"row {row}" for row in rows]
    codes, labels = code([columns[factor].take(rows) for factor in factors])
    return [f"{':'.join(factors)} {labels[c]}" for c in codes]
