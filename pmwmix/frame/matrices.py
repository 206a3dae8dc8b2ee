"""Columns of the fixed and random parts, through formulaic; the specification is kept for new data."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from formulaic import Formula, ModelSpec
from formulaic.errors import DataMismatchWarning, FormulaicError

from pmwmix._types import Array
from pmwmix.data.indicator import columns_of
from pmwmix.errors import DataError, FormulaError, some
from pmwmix.spec.formula import ModelFormula
from pmwmix.spec.outcome import Outcome
from pmwmix.spec.whitelist import context

FACTOR_CALL = re.compile(r"\b(?:C|factor|as_factor)\(\s*(`[^`]+`|[^\W\d][\w.]*)")
LEARNING = re.compile(r"\b(?:scale|standardize|center|poly|bs|cr|cc|cs)\(")  # from the rows at hand
DIGITS = ".9g"  # of a basis, means and norms
HUGE = 1e70  # fourth powers of larger values, which variances of variances are, are no numbers
MAX_CATEGORIES = 2_000
WIDE = 20_000_000  # cells of the columns of a factor, above which they are held as codes
FAILURES = (
    *(FormulaicError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, NotImplementedError),
    *(MemoryError, RecursionError),
)


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


def evaluate(
    text: str, variables: Sequence[str], columns: Mapping[str, pd.Series], n: int, coded: bool = False
) -> Matrix:
    """Build the columns of a right-hand side such as ``"1 + escs + sex"``.

    With ``coded`` the columns of large factors are held as codes, `Indicator`.

    Raises
    ------
    FormulaError, DataError
        If an expression cannot be evaluated, gives missing or infinite values, or a factor has one category.
    """
    for name in variables:
        if name == "Intercept":
            raise DataError(
                "A predictor must not be called 'Intercept', which stands for the constant. The formula uses such a "
                "column. Rename it."
            )
        _check_categories(columns[name], name, text)
    frame = _frame(variables, columns, n, text)
    try:
        with np.errstate(all="ignore"):
            how = "sparse" if coded and _is_wide(text, variables, columns, n) else "numpy"
            matrix = Formula(text).get_model_matrix(frame, context=context(), na_action="ignore", output=how)
    except FAILURES as error:
        cause = error.__cause__ or error
        raise FormulaError(
            f"The formula cannot be evaluated on these data. In {text!r}: {_reason(cause)}. "
            f"Check the functions and the kinds of the columns ({_kinds(variables, columns)})."
        ) from error
    return _checked(matrix, text, columns)


def again(spec: ModelSpec, variables: Sequence[str], columns: Mapping[str, pd.Series], n: int) -> list[Array]:
    """Build the same columns from new data.

    Raises
    ------
    DataError
        If a factor has categories that the fit has not seen, or a column is of another kind than in the fit.
    """
    for name in variables:
        _check_new_categories(spec, columns[name], name)
    frame = _frame(variables, columns, n, str(spec.formula))
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", DataMismatchWarning)
            matrix = np.asarray(spec.get_model_matrix(frame, context=context(), na_action="ignore"), dtype=float)
    except (*FAILURES, DataMismatchWarning) as error:
        cause = error.__cause__ or error
        raise DataError(
            f"The formula cannot be evaluated on the new data. In {str(spec.formula)!r}: {_reason(cause)}. "
            f"Columns must be of the kind and in the range of those in the fit ({_kinds(variables, columns)})."
        ) from error
    return [matrix[:, j] for j in range(matrix.shape[1])]


def response(formula: ModelFormula, columns: Mapping[str, pd.Series], n: int) -> Array:
    """Evaluate the left-hand side of a linear model to numbers (n,).

    Raises
    ------
    DataError
        If it is not numeric, or not finite.
    """
    found = outcome(formula, columns, n)
    if found.categories is not None or found.failures is not None:
        what = f"categories {some(found.categories, 3)}" if found.categories is not None else "successes and failures"
        raise DataError(
            f"A gaussian outcome must be a number. Column {found.name!r} holds {what}. "
            f"Convert it, name another outcome, or another family such as family='binomial'."
        )
    return found.values


def outcome(formula: ModelFormula, columns: Mapping[str, pd.Series], n: int) -> Outcome:
    """Evaluate the left-hand side: numbers, categories, or the two columns of ``cbind``.

    Raises
    ------
    FormulaError, DataError
        If it cannot be evaluated, or is not finite.
    """
    name = formula.response
    if formula.failures is not None:
        shown = f"cbind({name}, {formula.failures})"
        first, second = (_one(text, formula.response_variables, columns, n) for text in (name, formula.failures))
        return Outcome(shown, first, failures=second)
    if name in columns and (formula.outcomes or formula.response_variables == (name,)):
        values = columns[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            labels = tuple(str(c) for c in values.cat.categories)
            return Outcome(name, values.cat.codes.to_numpy().astype(float), labels, bool(values.cat.ordered))
        return Outcome(name, values.to_numpy())
    return Outcome(name, _one(name, formula.response_variables, columns, n))


def outcomes(formula: ModelFormula, columns: Mapping[str, pd.Series], n: int) -> Outcome:
    """Evaluate the left-hand side, of several outcomes each, which rows may lack."""
    first, *others = (outcome(replace(formula, response=name), columns, n) for name in _left_sides(formula))
    return replace(first, beside=tuple(others))


def _left_sides(formula: ModelFormula) -> tuple[str, ...]:
    return formula.outcomes or (formula.response,)


def _one(text: str, variables: Sequence[str], columns: Mapping[str, pd.Series], n: int) -> Array:
    """Evaluate an expression that gives one numeric column (n,)."""
    used = [name for name in variables if name in text]
    for name in used:
        if name in columns and isinstance(columns[name].dtype, pd.CategoricalDtype) and name == text:
            raise DataError(f"This needs numbers. Column {name!r} holds categories. Convert it.")
    matrix = evaluate("0 + {" + text + "}", variables, columns, n)
    if len(matrix.columns) != 1:
        raise DataError(
            f"The left side must give one column. {text!r} gives {len(matrix.columns)}. Use a numeric expression."
        )
    return np.ascontiguousarray(matrix.columns[0], dtype=float)


def basis_outside(formula: ModelFormula, columns: Mapping[str, pd.Series], n: int) -> Hashable:
    """Say what ``scale`` and its kin have learned in the outcome and the offset; mostly nothing."""
    sides = {formula.response: formula.response_variables, formula.offset or "": formula.offset_variables}
    learned = {text: names for text, names in sides.items() if LEARNING.search(text) and text not in columns}
    specs = [evaluate("0 + {" + text + "}", names, columns, n).spec for text, names in learned.items()]
    return tuple((call, frozen(state)) for spec in specs for call, state in spec.transform_state.items())


def frozen(state: Any) -> Hashable:
    """Turn what a transformation has learned into something to compare, numbers to nine digits."""
    if isinstance(state, Mapping):
        return tuple((str(key), frozen(value)) for key, value in sorted(state.items(), key=lambda pair: str(pair[0])))
    if isinstance(state, list | tuple) or (hasattr(state, "tolist") and np.ndim(state)):
        return tuple(frozen(one) for one in state)
    return format(float(state), DIGITS) if isinstance(state, int | float) or hasattr(state, "item") else str(state)


def offset_of(formula: ModelFormula, columns: Mapping[str, pd.Series], n: int) -> Array | None:
    """Evaluate the sum of the offsets (n,); None without any.

    Raises
    ------
    FormulaError, DataError
        If it cannot be evaluated, is not finite or not numeric.
    """
    if formula.offset is None:
        return None
    for name in formula.offset_variables:
        if isinstance(columns[name].dtype, pd.CategoricalDtype):
            raise DataError(
                f"An offset must be a number. Column {name!r} in {formula.offset!r} holds categories. Convert it."
            )
    return _one(formula.offset, formula.offset_variables, columns, n)


def _is_wide(text: str, variables: Sequence[str], columns: Mapping[str, pd.Series], n: int) -> bool:
    """Whether factors would fill much memory with zeros."""
    called = {name.strip("`") for name in FACTOR_CALL.findall(text)}
    sizes = [
        column.nunique() if name in called else len(column.cat.categories)
        for name, column in ((name, columns[name]) for name in variables)
        if name in called or isinstance(column.dtype, pd.CategoricalDtype)
    ]
    crossed = any(sign in text for sign in ":*^/%")
    return n * (math.prod(sizes) if crossed else max(sizes, default=0)) > WIDE


def _frame(variables: Sequence[str], columns: Mapping[str, pd.Series], n: int, text: str) -> pd.DataFrame:
    """Collect columns for formulaic; whole numbers inside ``C()`` or ``factor()`` become integers: ``C(x)[T.1]``."""
    factors = {name.strip("`") for name in FACTOR_CALL.findall(text)}
    arrays: dict[str, Any] = {}
    for name in dict.fromkeys(variables):
        values: Any = _spelled(columns[name].array)
        if name in factors and values.dtype.kind == "f" and bool(np.all(values == np.round(values))):
            values = values.astype(np.int64)
        arrays[name] = values
    return pd.DataFrame(arrays, index=range(n), copy=False)


def _spelled(array: Any) -> Any:
    """Categories as text, so that new data, a file and the fit agree whatever the categories were made of."""
    if not isinstance(array, pd.Categorical) or all(isinstance(c, str) for c in array.categories):
        return array
    return array.rename_categories(str)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().rstrip('.')}"


def _kinds(variables: Sequence[str], columns: Mapping[str, pd.Series]) -> str:
    kinds = {True: "categories", False: "numbers"}
    return ", ".join(f"{v}: {kinds[isinstance(columns[v].dtype, pd.CategoricalDtype)]}" for v in variables) or "none"


def _check_categories(column: pd.Series, name: str, text: str) -> None:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        called = re.search(rf"\b(?:C|factor|as_factor)\(\s*`?{re.escape(name)}`?\s*[,)]", text)
        found = column.nunique() if called else 2
        if found > MAX_CATEGORIES:
            raise DataError(
                f"Column {name!r} would become {found} dummy columns. {called[0] if called else name!r} makes one of "
                f"every value. Use it as a number, or as a group: (1 | {name})."
            )
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
            f"{some([str(c) for c in column.cat.categories], 3)}. "
            f"Convert it to numbers, or use it as a group: (1 | {name})."
        )


def _check_new_categories(spec: ModelSpec, column: pd.Series, name: str) -> None:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return
    known = spec.encoder_state.get(name, (None, {}))[1].get("categories")
    unseen = [] if known is None else sorted({str(c) for c in column.cat.categories} - {str(c) for c in known})
    if unseen:
        raise DataError(
            f"New data have categories that the fit has not seen. Column {name!r} has {some(unseen)}; "
            f"known are {some([str(c) for c in known])}. Recode or drop those rows."
        )


def too_large(name: str, values: Array) -> DataError:
    """Build the error for values whose powers are no numbers any more."""
    return DataError(
        f"Values are too large to compute with. Column {name!r} reaches {np.abs(values).max():.3g}; the limit is "
        f"{HUGE:.0e}. Divide the column by a power of ten."
    )


def check_finite(names: Sequence[str], columns: Sequence[Array], text: str) -> None:
    """Refuse missing, infinite and absurdly large values.

    Raises
    ------
    DataError
    """
    sums = np.array([column.sum() for column in columns]) if columns else np.zeros(0)
    for j in np.flatnonzero(~(np.abs(sums) < HUGE)).tolist():
        bad = int((~np.isfinite(columns[j])).sum())
        if bad:
            raise DataError(
                f"The formula gives missing or infinite values. Column {names[j]!r} of {text!r} has {bad}. "
                f"Check the transformation (log of 0, division by 0) or drop those rows."
            )
        raise too_large(names[j], columns[j])


def _checked(matrix: Any, text: str, given: Mapping[str, pd.Series]) -> Matrix:
    """Check for missing and infinite values; columns that are in the table as they are stand for their copies."""
    spec = matrix.model_spec.update(output="numpy")  # new data are few rows
    names = tuple(str(name) for name in spec.column_names)
    if hasattr(matrix, "indptr"):
        columns = columns_of(matrix)
    else:
        values = np.asarray(matrix, dtype=float)
        columns = [values[:, j] for j in range(values.shape[1])]
    check_finite(names, columns, text)
    plain = {name for name in names if name in given and given[name].dtype.kind == "f"}
    out: list[Array] = []
    for name, column in zip(names, columns, strict=True):
        if name == "Intercept":
            out.append(np.broadcast_to(1.0, len(column)))
        else:
            out.append(given[name].to_numpy() if name in plain else column.copy())
    return Matrix(names, out, spec)
