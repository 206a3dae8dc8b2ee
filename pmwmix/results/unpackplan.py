"""How the columns of a saved fit are rebuilt from new data, out of its JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import PmwmixError
from pmwmix.frame.centring import Means
from pmwmix.prediction.blueprint import Blueprint, RandomSpec
from pmwmix.prediction.estimable import Aliases
from pmwmix.prediction.modes import LevelModes
from pmwmix.results.checked import (
    AlteredError,
    Fields,
    as_flag,
    as_key,
    as_number,
    as_object,
    as_text,
    as_whole,
    listed,
    mapped,
    optional,
)
from pmwmix.results.specs import spec_in
from pmwmix.spec.centring import Centring
from pmwmix.spec.formula import ModelFormula, parse
from pmwmix.spec.predictors import THRESHOLDS
from pmwmix.spec.randomterms import by_label


def filled[T](read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    """Require a list that is not empty."""

    def one(value: Any) -> list[T]:
        found = listed(read)(value)
        if not found:
            raise AlteredError("an empty list")
        return found

    return one


def predictors_of(family: str) -> tuple[str | None, list[str]]:
    """Name of the first linear predictor of a family, None of a mean, and those of the others."""
    from pmwmix.families import FAMILIES  # with PyTensor, which a linear fit does without

    return FAMILIES[family].first, [one.name for one in FAMILIES[family].further]


def split_label(label: Any, n: int) -> Any:
    """Give the label of a combination of ``n`` columns as a tuple; the first version wrote the text ``"7:3"``."""
    parts = tuple(label.split(":")) if n > 1 and isinstance(label, str) else ()
    return parts if len(parts) == n else label


def blueprint_in(f: Fields, modes: list[LevelModes], family: str, outcomes: tuple[str, ...] = ()) -> Blueprint:
    """Read how columns are rebuilt; all formulas are the model's, whose text is checked as a caller's would be."""
    formula = _formula(f, family, outcomes)
    named = [part.predictor for part in formula.further]
    kept = np.array(f.read("kept", listed(as_whole)), dtype=int)
    if len(set(kept.tolist())) < len(kept) or (kept < 0).any():
        raise AlteredError("numbers of fixed columns that cannot be")
    plans = [_centring(one) for one in f.read("centrings", listed(as_object))]
    means = f.read("means", mapped(_mean))
    for plan in plans:
        if isinstance(by_group := means.get(plan.column), pd.Series):
            keys = [split_label(label, len(plan.columns)) for label in by_group.index]
            by_group.index = pd.Index(keys, tupleize_cols=False, dtype=object)
    if not all(isinstance(means.get(plan.column), pd.Series if plan.columns else float) for plan in plans):
        raise AlteredError("means other than those of the centred columns")
    further = f.read("further", listed(as_object, len(named)), [], required=bool(named))  # 0.1.0 wrote none
    of = np.array(f.read("of", listed(as_whole), [], required=bool(named)), dtype=int)
    if len(of) != (len(kept) if named else 0) or not set(of.tolist()) <= set(range(1 + len(named))):
        raise AlteredError("fixed columns of linear predictors that the formula does not have")
    return Blueprint(
        formula,
        spec_in(f.read("x", as_object), formula.fixed),
        kept,
        _random(f, formula, modes),
        f.read("categories", mapped(listed(as_text))),
        plans,
        Means(means),
        f.read("pv", mapped(as_text)),
        f.read("aliases", optional(_aliases), default=None, required=False),
        tuple(spec_in(one, part.fixed) for one, part in zip(further, formula.further, strict=True)),
        of,
    )


def _formula(f: Fields, family: str, outcomes: tuple[str, ...]) -> ModelFormula:
    """Read the formulas, and check that their linear predictors are those of the family, or of the outcomes."""
    formula = parse_checked(f.read("formula", as_text), bool(outcomes))
    first, others = predictors_of(family)
    if formula.outcomes != outcomes:
        raise AlteredError("formulas of other outcomes than the fit's")
    if outcomes and first is not None and [first, *others] != list(outcomes):
        raise AlteredError("a family of other outcomes than the fit's")
    others = list(outcomes[1:]) if outcomes else others
    if first is not None and not outcomes:
        formula = _for_each(formula, [first, *others])
    elif [part.predictor for part in formula.further] == [THRESHOLDS]:
        formula = formula.for_thresholds(others)
    named = [part.predictor for part in formula.further]
    if named != others:
        raise AlteredError(f"a formula about {', '.join(named) or 'the mean alone'} for the family {family!r}")
    return formula


def _aliases(value: Any) -> Aliases:
    one = Fields(as_object(value), {}, "")
    names = tuple(one.read("names", filled(as_text)))
    d, others = len(names), np.array(one.read("others", listed(as_whole)), dtype=int)
    dropped = np.array(one.read("dropped", listed(as_whole, d)), dtype=int)
    every = sorted([*dropped.tolist(), *others.tolist()])
    weights = np.array(one.read("weights", listed(listed(as_number, d), len(others) + 1)), dtype=float)
    allowed = np.array(one.read("allowed", listed(as_number, d)), dtype=float)
    if every != list(range(len(every))) or not np.isfinite(weights).all() or not (allowed > 0).all():
        raise AlteredError("dropped columns that cannot be")
    return Aliases(names, dropped, others, weights, allowed)


def _random(f: Fields, formula: ModelFormula, modes: list[LevelModes]) -> list[RandomSpec]:
    """Match the saved columns of the random terms with the terms of the formula, level by level."""
    terms = [
        (position, term)
        for position, level in enumerate(modes)
        for term in by_label([one for one in formula.random if sorted(one.factors) == sorted(level.factors)])
    ]
    place = formula.places
    out = []
    rows = f.read("random", listed(listed(lambda one: one, 4), len(terms)))
    for (position, term), (level, variables, names, spec) in zip(terms, rows, strict=True):
        if level != position or tuple(listed(as_text)(variables)) != term.variables:
            raise AlteredError("random columns that are not those of the formula")
        if (spec is None) != (term.expr == "1"):
            raise AlteredError("random columns without their specification")
        rebuilt = None if spec is None else spec_in(spec, term.expr)
        own = tuple(listed(as_text)(names))
        out.append(RandomSpec(position, term.variables, own, rebuilt, place[term.predictor], term.label))
    for position, level in enumerate(modes):
        if tuple(name for one in out if one.level == position for name in one.shown(formula)) != level.terms:
            raise AlteredError("random effects other than those of the formula")
    return out


def parse_checked(text: str, several: bool = False) -> ModelFormula:
    """Read a formula as if a caller had written it: what is not on the list of allowed code is refused."""
    try:
        return parse(text, several)
    except PmwmixError as error:
        raise AlteredError(f"a formula that is not allowed ({error})") from error


def _for_each(formula: ModelFormula, names: list[str]) -> ModelFormula:
    try:
        return formula.for_each(names)
    except PmwmixError as error:
        raise AlteredError(f"a formula that its family does not allow ({error})") from error


def _centring(meta: dict[str, Any]) -> Centring:
    one = Fields(meta, {}, "")
    factors = tuple(one.read("factors", listed(as_text), default=(), required=False))
    return Centring(one.read("column", as_text), one.read("by", as_text), one.read("add_mean", as_flag), factors)


def _mean(value: Any) -> Any:
    if not isinstance(value, dict):
        return as_number(value)
    by = listed(as_key)(value.get("by"))
    if len(set(by)) < len(by):
        raise AlteredError("a group with two means")
    index = pd.Index(by, tupleize_cols=False, dtype=object)
    return pd.Series(listed(as_number, len(by))(value.get("mean")), index=index, dtype=float)
