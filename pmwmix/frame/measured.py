"""Predictors measured with error among the fixed columns: their values, and the variances of their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import DataError, FormulaError, NotSupportedError
from pmwmix.frame.hierarchy import Hierarchy
from pmwmix.frame.matrices import Matrix
from pmwmix.spec.centring import Centring
from pmwmix.spec.formula import ModelFormula
from pmwmix.spec.outcome import Distribution


def check_measured(
    formula: ModelFormula, hierarchy: Hierarchy, distribution: Distribution, centrings: Sequence[Centring]
) -> None:
    """Refuse predictors with error in models whose corrected likelihood is not built.

    Raises
    ------
    NotSupportedError
    """
    if not formula.measured:
        return
    name = formula.measured[0].name
    plain = distribution.has_closed_form and distribution.residual is None and not distribution.pairwise
    if not plain or formula.latent or len(hierarchy.levels) > 1:
        raise NotSupportedError(
            f"Predictors with error are built for linear models by maximum likelihood with independent residuals and "
            f"at most one grouping factor, without latent means. {name} is asked for in another. Leave the error out, "
            f"or the rest."
        )
    slopes = {variable for term in formula.random for variable in term.variables}
    if both := [one for one in formula.measured if one.column in slopes]:
        raise NotSupportedError(
            f"A predictor with error has no random slope. {both[0].column!r} stands in a random term and in "
            f"{both[0].name}. Leave the slope out."
        )
    own = {one.column for one in formula.measured}
    if centred := [plan for plan in centrings if plan.column in own and plan.by != "grand"]:
        raise NotSupportedError(
            f"A predictor with error is not centred by groups: the mean takes part of the error along, and the "
            f"reliability is that of the column as it is. {centred[0].column!r} is centred by {centred[0].by!r}. Leave "
            f"it out of center=; latent_mean() separates within and between groups."
        )


def measured_values(formula: ModelFormula, local: Mapping[str, pd.Series]) -> dict[str, pd.Series]:
    """Give the columns as they were measured, under the names of their terms.

    Raises
    ------
    DataError
        If a column is not of numbers.
    """
    out = {}
    for one in formula.measured:
        if isinstance(local[one.column].dtype, pd.CategoricalDtype):
            raise DataError(
                f"Only numbers are measured with such an error. Column {one.column!r} in {one.name} holds categories. "
                f"Leave measured() out."
            )
        out[one.name] = local[one.column].rename(one.name)
    return out


def error_variances(
    formula: ModelFormula, x: Matrix, local: Mapping[str, pd.Series], w: Array | None
) -> tuple[tuple[int, float], ...]:
    """Give fixed columns with error and the error's variance (errors, eq. 2).

    Raises
    ------
    FormulaError
        If a predictor with error is not a term of its own, or its column stands in another one.
    """
    out = []
    names = {one.name for one in formula.measured} | {one.column for one in formula.measured}
    for term, at in x.spec.term_indices.items():
        uses = {str(variable) for variable in x.spec.term_variables[term]} & names
        if uses and str(x.names[at[0]]) not in {one.name for one in formula.measured}:
            raise FormulaError(
                f"A predictor with error is a term of its own, and its column no other one. Term {str(term)!r} has "
                f"{', '.join(sorted(map(repr, uses)))} in it. Leave that out: the error of a product is no constant."
            )
    for one in formula.measured:
        values = local[one.name].to_numpy(dtype=float)
        mean = np.average(values, weights=w)
        variance = float(np.average((values - mean) ** 2, weights=w))
        error = one.sd**2 if one.sd is not None else (1.0 - float(one.reliability or 1.0)) * variance
        if not error < variance:
            raise DataError(
                f"The error of a predictor has less variance than the predictor. That of {one.name} is {error:.4g}, "
                f"the column's {variance:.4g}. Give the error's standard deviation in units of {one.column!r}."
            )
        out.append((x.names.index(one.name), error))
    return tuple(out)
