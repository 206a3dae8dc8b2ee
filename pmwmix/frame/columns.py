"""Names in the formula resolved to columns of the table, all missing ones in one error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pmwmix.data.imputed import crossed_sets
from pmwmix.data.pvsets import expand_pv
from pmwmix.data.table import Table
from pmwmix.errors import DataError, OptionError, near, some
from pmwmix.spec.centring import Centring
from pmwmix.spec.design import Design
from pmwmix.spec.formula import ModelFormula
from pmwmix.spec.predictors import PARAMETERS
from pmwmix.weights.conditional import weight_columns


def categories_of(formula: ModelFormula, columns: Mapping[str, pd.Series]) -> dict[str, list[str]]:
    """Categories of every factor among the predictors, as text."""
    slopes = [name for term in formula.random for name in term.variables]
    used = dict.fromkeys([*formula.fixed_variables, *formula.further_variables, *slopes])
    return {
        name: [str(c) for c in columns[name].cat.categories]
        for name in used
        if name in columns and isinstance(columns[name].dtype, pd.CategoricalDtype)
    }


def pv_columns(
    sets: Any, formula: ModelFormula, names: Sequence[str], pairing: str | None = None
) -> dict[str, list[str]]:
    """Columns of the sets in the formula, one per fit; others (a preset declares many) do no harm."""
    if sets is None or not isinstance(sets, Mapping):
        return expand_pv(sets, names)
    for term in formula.grouping:
        for factor in term.factors:
            if factor in sets and factor not in names:
                raise OptionError(
                    f"Plausible values cannot name groups. {factor!r} in {term.text!r} is a set of them. "
                    f"Use a column of ids as the group."
                )
    used = expand_pv({name: spec for name, spec in sets.items() if name in formula.variables}, names)
    return crossed_sets(used) if pairing == "cross" else used


def varies_with_pv(formula: ModelFormula, pv: Mapping[str, Sequence[str]]) -> bool:
    """Whether predictors or the offset change with the plausible value."""
    fixed = [*formula.fixed_columns, *formula.offset_variables, *formula.further_variables]
    return any(v in pv for v in [*fixed, *(v for term in formula.random for v in term.variables)])


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
    _check_outcomes(formula, [*table.names, *pv])
    weights = [name for name in weight_columns(design.weights, formula).values() if name is not None]
    extra = [name for name in (design.strata, design.psu, design.fpc, trials) if name is not None]
    model = model_columns(formula, centrings, pv)
    centred = [name for plan in centrings for name in (*plan.columns, plan.column)]
    said = {"formula": [n for n in model if n not in centred or n in formula.variables], "weights": weights}
    said |= {"center": [n for n in centred if n not in formula.variables]}
    said |= {name: [str(getattr(design, name))] for name in ("strata", "psu", "fpc") if getattr(design, name)}
    said |= {"trials": [] if trials is None else [trials]}
    role = ", ".join(where for where, names in said.items() if any(name not in table.names for name in names if name))
    if "formula" in role and isinstance(design.pv, Mapping) and len(pv) < len(design.pv):
        role += f"; plausible-value sets not in the formula: {some([n for n in design.pv if n not in pv])}"
    columns = table.columns([*model, *weights, *extra], role)
    _check_sets(pv, columns)
    return columns


def _check_outcomes(formula: ModelFormula, known: Sequence[str]) -> None:
    """Refuse left sides after the first that are neither outcomes nor parameters, which may be misspelt."""
    for name in formula.outcomes[1:]:
        if name not in known:
            raise OptionError(
                f"A formula after the first is about another outcome, or about a parameter of the family. {name!r} is "
                f"no parameter, and the table has no such column.{near(name, [*PARAMETERS, *known])} Correct the name, "
                f"or leave the formula out."
            )


def _check_sets(pv: Mapping[str, Sequence[str]], columns: Mapping[str, pd.Series]) -> None:
    """Refuse sets of plausible values of which some hold text and others numbers."""
    for name, members in pv.items():
        texts = [one for one in members if isinstance(columns[one].dtype, pd.CategoricalDtype)]
        if 0 < len(texts) < len(members):
            shown = some([str(c) for c in columns[texts[0]].cat.categories], 3)
            raise DataError(
                f"Plausible values of a set are all numbers or all categories. Of {name!r} {some(texts)} holds text "
                f"such as {shown}, the others numbers. Convert it to numbers."
            )
