"""Columns of the fixed and random parts, through formulaic; the specification is kept for new data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from formulaic import Formula, ModelSpec
from formulaic.errors import FormulaicError

from pmwmix.errors import DataError, FormulaError, some
from pmwmix.formula import ModelFormula, context

Array = np.ndarray
MAX_CATEGORIES = 2_000


@dataclass(frozen=True)
class Matrix:
    """Named columns of one right-hand side.

    Parameters
    ----------
    names : tuple of str
        As formulaic spells them: ``Intercept``, ``escs``, ``sex[T.Male]``.
    columns : list of ndarray, each (n,)
    spec : formulaic.ModelSpec
        Rebuilds the same columns from new data.
    """

    names: tuple[str, ...]
    columns: list[Array]
    spec: Any


def evaluate(text: str, variables: Sequence[str], columns: Mapping[str, pd.Series], n: int) -> Matrix:
    """Build the columns of a right-hand side such as ``"1 + escs + sex"``.

    Raises
    ------
    FormulaError, DataError
        If an expression cannot be evaluated, gives missing or infinite values, or a factor has one category.
    """
    for name in variables:
        _check_categories(columns[name], name)
    frame = _frame(variables, columns, n)
    try:
        with np.errstate(all="ignore"):
            matrix = Formula(text).get_model_matrix(frame, context=context(), na_action="ignore", output="numpy")
    except (FormulaicError, TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        cause = error.__cause__ or error
        raise FormulaError(
            f"The formula cannot be evaluated on these data. In {text!r}: {type(cause).__name__}: {cause}. "
            f"Check the functions and the kinds of the columns ({_kinds(variables, columns)})."
        ) from error
    return _checked(matrix, text)


def again(spec: ModelSpec, variables: Sequence[str], columns: Mapping[str, pd.Series], n: int) -> list[Array]:
    """Build the same columns from new data.

    Raises
    ------
    DataError
        If a factor has categories that the fit has not seen.
    """
    for name in variables:
        _check_new_categories(spec, columns[name], name)
    frame = _frame(variables, columns, n)
    with np.errstate(all="ignore"):
        matrix = np.asarray(spec.get_model_matrix(frame, context=context(), na_action="ignore"))
    return [matrix[:, j] for j in range(matrix.shape[1])]


def response(formula: ModelFormula, columns: Mapping[str, pd.Series], n: int) -> Array:
    """Evaluate the left-hand side to numbers (n,).

    Raises
    ------
    DataError
        If it is not numeric, or not finite.
    """
    name = formula.response
    if name in columns and formula.response_variables == (name,):
        values = columns[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            found = some([str(c) for c in values.cat.categories], 3)
            raise DataError(
                f"A gaussian outcome must be a number. Column {name!r} holds categories {found}. "
                f"Convert it, or name another outcome."
            )
        return values.to_numpy()
    matrix = evaluate("0 + {" + name + "}", formula.response_variables, columns, n)
    if len(matrix.columns) != 1:
        raise DataError(
            f"The left side must give one column. {name!r} gives {len(matrix.columns)}. Use a numeric expression."
        )
    return np.ascontiguousarray(matrix.columns[0], dtype=float)


def _frame(variables: Sequence[str], columns: Mapping[str, pd.Series], n: int) -> pd.DataFrame:
    return pd.DataFrame({name: columns[name].array for name in dict.fromkeys(variables)}, index=range(n), copy=False)


def _kinds(variables: Sequence[str], columns: Mapping[str, pd.Series]) -> str:
    kinds = {True: "categories", False: "numbers"}
    return ", ".join(f"{v}: {kinds[isinstance(columns[v].dtype, pd.CategoricalDtype)]}" for v in variables) or "none"


def _check_categories(column: pd.Series, name: str) -> None:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return
    found = len(column.cat.categories)
    if found < 2:
        raise DataError(
            f"A factor needs two categories. Column {name!r} has only {some([str(c) for c in column.cat.categories])} "
            f"in the rows that are used. Drop it from the formula, or check the filter."
        )
    if found > MAX_CATEGORIES:
        raise DataError(
            f"Column {name!r} would become {found} dummy columns. Its first categories are "
            f"{some([str(c) for c in column.cat.categories], 3)}. Convert it to numbers, or use it as a group: (1 | {name})."
        )


def _check_new_categories(spec: ModelSpec, column: pd.Series, name: str) -> None:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return
    known = spec.encoder_state.get(name, (None, {}))[1].get("categories")
    unseen = [] if known is None else [c for c in column.cat.categories if c not in set(known)]
    if unseen:
        raise DataError(
            f"New data have categories that the fit has not seen. Column {name!r} has {some(unseen)}; "
            f"known are {some([str(c) for c in known])}. Recode or drop those rows."
        )


def _checked(matrix: Any, text: str) -> Matrix:
    spec = matrix.model_spec
    names = tuple(str(name) for name in spec.column_names)
    values = np.asarray(matrix, dtype=float)
    columns = [values[:, j] for j in range(values.shape[1])]
    sums = np.array([column.sum() for column in columns]) if columns else np.zeros(0)
    for j in np.flatnonzero(~np.isfinite(sums)):
        bad = int((~np.isfinite(columns[j])).sum())
        if bad:
            raise DataError(
                f"The formula gives missing or infinite values. Column {names[j]!r} of {text!r} has {bad}. "
                f"Check the transformation (log of 0, division by 0) or drop those rows."
            )
    return Matrix(names, columns, spec)
