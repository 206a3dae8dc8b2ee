"""Columns of the formula evaluated on the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.pvsets import number_of_pv
from pmwmix.errors import DataError, some
from pmwmix.frame.columns import varies_with_pv
from pmwmix.frame.hierarchy import Hierarchy
from pmwmix.frame.matrices import Matrix, basis_outside, evaluate, offset_of, outcomes, response
from pmwmix.frame.modelframe import DesignColumns, RandomBlock
from pmwmix.spec.formula import ModelFormula
from pmwmix.spec.outcome import Distribution, Outcome
from pmwmix.spec.randomterms import RandomTerm, by_label


def evaluate_columns(
    formula: ModelFormula,
    hierarchy: Hierarchy,
    local: dict[str, pd.Series],
    columns: Mapping[str, pd.Series],
    pv: Mapping[str, Sequence[str]],
    distribution: Distribution,
    kept: Array | None,
) -> DesignColumns:
    """Evaluate both sides and the random terms for one set of plausible values."""
    n = len(next(iter(local.values())))
    coded = distribution.read is None and not formula.outcomes
    x = evaluate(formula.fixed, formula.fixed_variables, local, n, coded)
    further = tuple(evaluate(part.fixed, part.variables, local, n) for part in formula.further)
    place = formula.places
    blocks = []
    for level, unit in enumerate(hierarchy.levels):
        own = [term for term in formula.random if sorted(term.factors) == sorted(unit.factors)]
        for term in by_label(own):
            blocks.append(RandomBlock(level, term, _random_matrix(term, local, n), place[term.predictor]))
    offset = offset_of(formula, local, n)
    sets = [name for name in formula.response_variables if name in pv]
    of_sets = [local]
    if sets and not varies_with_pv(formula, pv):  # one set of predictors serves all plausible values
        n_pv = number_of_pv({name: pv[name] for name in sets})
        of_sets = [{**local, **{name: columns[pv[name][k]] for name in sets}} for k in range(n_pv)]
    bases = tuple(basis_outside(formula, values, n) for values in of_sets)
    if distribution.read is None:  # a linear model
        _check_numbers(formula, columns, pv)
        y = [response(formula, values, n) for values in of_sets]
        y = y if offset is None else [values - offset for values in y]
        beside = [_beside(formula, values, n) for values in of_sets if formula.outcomes]
        return DesignColumns(x, tuple(blocks), y, [], offset, further, bases, beside=beside)
    trials = None if distribution.trials is None else _trials(distribution.trials, columns)
    places = np.arange(n) if kept is None else kept
    found = [_with_rows(replace(outcomes(formula, values, n), trials=trials), places) for values in of_sets]
    responses = [distribution.read(one) for one in found]
    return DesignColumns(x, tuple(blocks), [one.y for one in responses], responses, offset, further, bases)


def _check_numbers(formula: ModelFormula, columns: Mapping[str, pd.Series], pv: Mapping[str, Sequence[str]]) -> None:
    """Refuse plausible values that are text, by the names that they have in the table."""
    for name in formula.outcomes or (formula.response,):
        members = pv.get(name, ())
        texts = [one for one in members if isinstance(columns[one].dtype, pd.CategoricalDtype)]
        if texts:
            raise DataError(
                f"A gaussian outcome must be a number. Of the plausible values of {name!r} {some(texts)} hold text "
                f"such as {some([str(c) for c in columns[texts[0]].cat.categories], 2)}. Convert them."
            )


def _beside(formula: ModelFormula, values: Mapping[str, pd.Series], n: int) -> tuple[Array, ...]:
    """Evaluate the outcomes after the first, each as `response`."""
    return tuple(response(replace(formula, response=name), values, n) for name in formula.outcomes[1:])


def _with_rows(outcome: Outcome, places: Array) -> Outcome:
    """Say where the rows of outcomes stand in the caller's table."""
    return replace(outcome, rows=places, beside=tuple(replace(one, rows=places) for one in outcome.beside))


def _trials(name: str, columns: Mapping[str, pd.Series]) -> Array:
    if isinstance(columns[name].dtype, pd.CategoricalDtype):
        raise DataError(f"Numbers of trials must be numbers. Column {name!r} holds categories. Convert it.")
    return columns[name].to_numpy()


def _random_matrix(term: RandomTerm, local: Mapping[str, pd.Series], n: int) -> Matrix:
    if term.expr == "1":
        return Matrix(("Intercept",), [np.ones(n)], None)
    return evaluate(term.expr, term.variables, local, n)
