"""Columns of a residual structure: times and distances inside groups, logarithms of relative standard deviations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import code, label_text
from pmwmix.errors import DataError, NotSupportedError, WeightError, some
from pmwmix.frame.hierarchy import Hierarchy, Level
from pmwmix.spec.formula import ModelFormula
from pmwmix.spec.residual import WHOLE, ResidualSpec, VarianceTerm

MOST_OCCASIONS, MOST_LAGS, MOST_CATEGORIES = 20, 40, 50


@dataclass(frozen=True)
class ResidualColumns:
    """A residual structure and its columns.

    Parameters
    ----------
    spec : ResidualSpec
    where : ndarray, shape (n, d)
        Times or coordinates; without a correlation, or where it needs none, zeros.
    names : tuple of str
        Of the columns that follow, as their parameters are reported.
    ratios : tuple of bool
        Whether a column marks a category, so that its parameter is a ratio of standard deviations.
    logs : ndarray, shape (v, n)
        Columns l_j of log sd = log sigma + Σ_j δ_j l_j.
    fitted : int or None
        Which of them is the logarithm of the fitted values, not known before the fit.
    """

    spec: ResidualSpec
    where: Array
    names: tuple[str, ...]
    ratios: tuple[bool, ...]
    logs: Array
    fitted: int | None


def residual_columns(
    spec: ResidualSpec, formula: ModelFormula, columns: Mapping[str, pd.Series], hierarchy: Hierarchy, w: Array
) -> ResidualColumns:
    """Read the columns of a residual structure and check that it can be estimated.

    Parameters
    ----------
    spec : ResidualSpec
    formula : ModelFormula
    columns : mapping of str to Series
    hierarchy : Hierarchy
    w : ndarray, shape (n,)
        Conditional weights of the rows.

    Raises
    ------
    DataError, WeightError, NotSupportedError
    """
    sets = [name for name in spec.columns if name not in columns]
    if sets:
        raise NotSupportedError(
            f"The columns of a residual structure are columns of the table. {some(sets)} stands for plausible values. "
            f"Name a column that is observed."
        )
    if hierarchy.crossed:
        raise NotSupportedError(
            f"A residual structure needs nested groups. {hierarchy.crossed[0]!r} and {hierarchy.crossed[1]!r} are "
            f"crossed. If ids start again in every unit above, write the group of the correlation as 'school/child'."
        )
    where = np.zeros((len(w), 1))
    if spec.correlation is not None:
        level = _level(spec, formula, hierarchy)
        _check_weights(w, level)
        if np.bincount(level.index).max() < 2:
            raise DataError(
                f"Residuals cannot be correlated inside groups of one row. Every group of {level.name!r} has one. "
                f"Group by a column whose values repeat."
            )
        if spec.places:
            where = np.column_stack([_numbers(columns[name], name, spec.correlation) for name in spec.places])
            _check_places(spec, where, level)
    names, ratios, logs = list[str](), list[bool](), list[Array]()
    fitted = None
    for term in spec.variance:
        if term.of_fitted:
            _check_fitted(formula)
            fitted = len(names)
            names, ratios, logs = [*names, term.text], [*ratios, False], [*logs, np.zeros(len(w))]
            continue
        found = _categories(term, columns[term.column]) if term.kind == "ident" else _covariate(term, columns)
        names, logs = [*names, *found], [*logs, *found.values()]
        ratios += [term.kind == "ident"] * len(found)
    values = np.array(logs).reshape(len(names), len(w))
    return ResidualColumns(spec, where, tuple(names), tuple(ratios), values, fitted)


def _check_fitted(formula: ModelFormula) -> None:
    varies = formula.fixed_variables or (formula.random and formula.has_intercept)
    if not varies:
        raise DataError(
            f"A power of the fitted values needs fitted values that vary before anything is known of the residuals. "
            f"The formula {formula.text!r} has no predictor. Add one, or use another variance function."
        )


def _level(spec: ResidualSpec, formula: ModelFormula, hierarchy: Hierarchy) -> Level:
    """Find the level of the group; it must be the lowest one."""
    assert spec.group is not None
    term = formula.level_of(spec.group) or spec.group
    lowest = hierarchy.levels[0]
    if sorted(lowest.factors) != sorted(term.factors):
        raise NotSupportedError(
            f"Residuals can be correlated inside the lowest groups of the model or inside smaller ones. The "
            f"correlation is inside {term.group!r}, but {lowest.name!r} lies within it. Name {lowest.name!r} as the "
            f"group, or drop its random term."
        )
    return lowest


def _check_weights(w: Array, level: Level) -> None:
    low, high = np.full(level.n, np.inf), np.full(level.n, -np.inf)
    np.minimum.at(low, level.index, w)
    np.maximum.at(high, level.index, w)
    varies = high - low > 1e-6 * high
    if varies.any():
        shown = some([level.labels[g] for g in np.flatnonzero(varies)])
        raise WeightError(
            f"Rows whose residuals are correlated cannot have weights of their own: a group's rows have one joint "
            f"density, which only a weight of the group can multiply. Conditional level-1 weights vary in "
            f"{int(varies.sum())} groups of {level.name!r} ({shown}). Leave the level-1 weights out, "
            f"weights={{{level.name!r}: ...}}, or the correlation."
        )


def _numbers(column: pd.Series, name: str, correlation: str) -> Array:
    if isinstance(column.dtype, pd.CategoricalDtype):
        shown = some([str(c) for c in column.cat.categories], 3)
        raise DataError(
            f"Times and distances are numbers. Column {name!r} of the residual correlation holds text such as {shown}. "
            f"Number the occasions."
        )
    values = column.to_numpy(dtype=float)
    if correlation in WHOLE:
        steps = values - values.min()
        off = values[np.abs(steps - np.round(steps)) > 1e-9]
        if len(off):
            raise DataError(
                f"The residual correlation {correlation!r} counts whole steps of time. Column {name!r} has "
                f"{some(np.unique(off), 3)} beside {values.min():g}. "
                f"Use 'car1', which takes any times, or number the occasions."
            )
        values = np.floor(values.min()) + np.round(steps)
    return values


def _check_places(spec: ResidualSpec, where: Array, level: Level) -> None:
    order = np.lexsort([*where.T[::-1], level.index])
    index, sorted_ = level.index[order], where[order]
    same = (index[1:] == index[:-1]) & (sorted_[1:] == sorted_[:-1]).all(axis=1)
    if same.any() and not spec.nugget:
        first = np.flatnonzero(same)[0]
        place = ", ".join(f"{value:g}" for value in sorted_[first])
        cure = ", or add 'nugget': True" if spec.correlation in ("exponential", "gaussian") else ""
        raise DataError(
            f"Rows of a group must differ in {some(spec.places)}. Group {label_text(level.labels[index[first]])} of "
            f"{level.name!r} has {place} twice, and so have {int(same.sum()) - 1} other pairs of rows. "
            f"Check the column and the group{cure}."
        )
    if spec.correlation == "unstructured":
        _check_occasions(spec, where, level)
    if spec.correlation == "toeplitz":
        _check_lags(spec, where, level)


def _check_occasions(spec: ResidualSpec, where: Array, level: Level) -> None:
    values, at = np.unique(where[:, 0], return_inverse=True)
    if len(values) > MOST_OCCASIONS:
        raise DataError(
            f"An unstructured correlation has a parameter for every two times. Column {spec.places[0]!r} has "
            f"{len(values)} different ones, more than {MOST_OCCASIONS}. Use 'car1', 'ar1' or 'toeplitz'."
        )
    there = np.zeros((level.n, len(values)))
    there[level.index, at.reshape(-1)] = 1.0
    never = np.argwhere(np.triu(there.T @ there == 0, 1))
    if len(never):
        shown = [f"{values[i]:g} and {values[j]:g}" for i, j in never]
        pairs = ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
        raise DataError(
            f"An unstructured correlation needs groups that have both of every two times. No group of {level.name!r} "
            f"has {pairs} of {spec.places[0]!r}. Number the occasions alike in all groups, or use another correlation."
        )


def _check_lags(spec: ResidualSpec, where: Array, level: Level) -> None:
    high, low = np.full(level.n, -np.inf), np.full(level.n, np.inf)
    np.maximum.at(high, level.index, where[:, 0])
    np.minimum.at(low, level.index, where[:, 0])
    longest = int((high - low).max())
    if longest > MOST_LAGS:
        raise DataError(
            f"A toeplitz correlation has a parameter for every lag. Times {spec.places[0]!r} of a group are up to "
            f"{longest} apart, more than {MOST_LAGS}. Use 'ar1' or 'arma11', or number the occasions."
        )


def _categories(term: VarianceTerm, column: pd.Series) -> dict[str, Array]:
    """Mark every category but the first, to which the ratios refer."""
    codes, labels = code([column])
    if len(labels) > MOST_CATEGORIES:
        raise DataError(
            f"A variance for every category needs few categories. Column {term.column!r} of {term.text!r} has "
            f"{len(labels)} different values. Use 'power({term.column})' or 'exp({term.column})', or merge categories."
        )
    few = [label_text(labels[c]) for c, n in enumerate(np.bincount(codes, minlength=len(labels))) if n < 2]
    if few:
        raise DataError(
            f"A category of a single row has no variance. Of {term.column!r} in {term.text!r} these have one: "
            f"{some(few)}. Merge them with others."
        )
    names = [f"{term.column}[{label_text(label)}]" for label in labels]
    return {names[c]: (codes == c).astype(float) for c in range(1, len(labels))}


def _covariate(term: VarianceTerm, columns: Mapping[str, pd.Series]) -> dict[str, Array]:
    column = columns[term.column]
    if isinstance(column.dtype, pd.CategoricalDtype):
        raise DataError(
            f"The variance function {term.kind!r} takes numbers. Column {term.column!r} holds text such as "
            f"{some([str(c) for c in column.cat.categories], 2)}. Use 'ident({term.column})'."
        )
    values = column.to_numpy(dtype=float)
    if np.ptp(values) == 0.0:
        raise DataError(
            f"A variance function needs a column that varies. That of {term.text!r} is {values[0]:g} in all rows. "
            f"Drop it, or check the column."
        )
    if term.kind == "exp":
        return {term.text: values}
    zero = int((values == 0.0).sum())
    if zero:
        raise DataError(
            f"A power of zero is a variance of zero. Column {term.column!r} of {term.text!r} is 0 in {zero} rows. "
            f"Use 'exp({term.column})', or a column that is never 0."
        )
    return {term.text: np.log(np.abs(values))}
