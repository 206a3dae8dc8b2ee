"""What a coefficient means in each of several fits: reference categories, bases and origins that may differ."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from pmwmix.errors import PmwmixWarning, some
from pmwmix.frame.matrices import DIGITS, LEARNING, frozen
from pmwmix.prediction.blueprint import Blueprint

OUTCOME = ""  # what all coefficients and variances are relative to: the scale of the outcome


def meanings(fit: Any) -> tuple[dict[str, Hashable], dict[str, Hashable]]:
    """Say what the fixed and the random columns of a fit are relative to.

    Parameters
    ----------
    fit : FitResult or BayesResult

    Returns
    -------
    dict, dict
        Column to something that is equal where columns of one name mean the same: reference categories, the basis of
        ``scale``, ``poly``, ``bs`` and their kin, means of grand-mean centring; with those that its interactions have,
        since a main effect holds at their origin. ``"Intercept"`` is there also if it is no column, and under `OUTCOME`
        what ``scale(y)`` and ``offset(scale(x))`` have learned.
    """
    blueprint = fit.fits[0].rows.blueprint
    random: dict[str, Hashable] = {}
    for term in blueprint.random:
        if term.spec is not None:
            random |= _of_columns(blueprint, term.spec, term.names)
    fixed = _of_columns(blueprint, blueprint.x_spec, [*fit.coef.index])
    if blueprint.aliases is not None:  # what is left of the coefficients takes a dropped one's part
        fixed = {name: (found, blueprint.aliases.names) for name, found in fixed.items()}
    outcome = {OUTCOME: _of_outcome(fit)}
    return fixed | outcome, random | outcome


def _of_outcome(fit: Any) -> Hashable:
    """Say what the outcome and the offset are relative to; of a fit read from a file, which does not know, itself."""
    rows = fit.fits[0].rows
    if rows.is_live:
        return rows.design.bases[rows.k] if rows.design.bases else None
    formula = rows.blueprint.formula
    return id(rows) if LEARNING.search(f"{formula.response} {formula.offset}") else None


def comparable(each: Mapping[Any, Hashable]) -> list[Any]:
    """List the groups of the commonest meaning if they are more than half; else none can be averaged."""
    (meaning, count), *_ = Counter(each.values()).most_common(1)
    return [group for group, one in each.items() if one == meaning] if 2 * count > len(each) else []


def differing(fits: Sequence[Any]) -> list[str]:
    """List the terms of the first fit that are relative to something else in another one."""
    first, *others = (meanings(fit)[0] for fit in fits)
    if any(other[OUTCOME] != first[OUTCOME] for other in others):
        return list(fits[0].coef.index)
    return [term for term in fits[0].coef.index if any(other.get(term) != first.get(term) for other in others)]


def warn_of_others(fits: Sequence[Any], stacklevel: int) -> tuple[str, ...]:
    """Warn if coefficients of fits that are pooled mean different things; give the same as a note."""
    differ = differing(fits) if len(fits) > 1 else []
    first, *others = (meanings(fit)[1] for fit in fits)
    differ += [f"random {name}" for name in first if name and any(one.get(name) != first[name] for one in others)]
    if not differ:
        return ()
    note = (
        f"Coefficients that are pooled mean different things in different fits (reference categories, or a basis, "
        f"scale and origin of each fit's own). Among them: {some(differ)}. Declare the same categories in every "
        f"table, or compute the basis before."
    )
    warnings.warn(note, PmwmixWarning, stacklevel=stacklevel + 1)
    return (note,)


def _of_columns(blueprint: Blueprint, spec: Any, names: Sequence[str]) -> dict[str, Hashable]:
    split = {name: [] if name == "Intercept" or "|" in name else _parts(name) for name in names}
    factors = {name: {expr for expr, _ in parts} for name, parts in split.items()}
    has_constant = any(not parts for parts in split.values())
    out: dict[str, Hashable] = {}
    for name, parts in {**split, "Intercept": []}.items():
        mine = {expr for expr, _ in parts}
        own = {(expr, _own(blueprint, spec, expr, level)) for expr, level in parts}
        # without a constant the means of cells take its part, and hold at the origin of all other columns
        cell = not has_constant and any(level and not level.startswith("T.") for _, level in parts)
        others = {expr for found in factors.values() if cell or mine < found for expr in found - mine}
        out[name] = frozenset(own | {(expr, _origin(blueprint, spec, expr)) for expr in others})
    return out


def _parts(name: str) -> list[tuple[str, str]]:
    """Split ``"f[T.b]:scale(x)"`` into factors and their categories: ``("f", "T.b"), ("scale(x)", "")``."""
    pieces, depth, quoted = [""], 0, False
    for sign in name:
        quoted ^= sign == "`"
        depth += 0 if quoted else (sign in "([{") - (sign in ")]}")
        if sign == ":" and not depth and not quoted:
            pieces.append("")
        else:
            pieces[-1] += sign
    out = []
    for piece in pieces:
        expr, bracket, level = piece.rpartition("[") if piece.endswith("]") else (piece, "", "")
        out.append((expr, level[:-1]) if bracket else (piece, ""))
    return out


def _own(blueprint: Blueprint, spec: Any, expr: str, level: str) -> Hashable:
    reference = _reference(spec, expr) if level else None
    if level.startswith("T."):
        return reference
    coded = reference if isinstance(reference, tuple) else None
    return (_basis(spec, expr), coded, None if expr.strip("`") in blueprint.means.values else _means(blueprint, expr))


def _origin(blueprint: Blueprint, spec: Any, expr: str) -> Hashable:
    return (_reference(spec, expr), _basis(spec, expr), _means(blueprint, expr))


def _reference(spec: Any, expr: str) -> Hashable:
    """Give the category that others are compared with; of sums, Helmert's and other contrasts all categories."""
    state = spec.encoder_state.get(expr, (None, {}))[1]
    categories = state.get("categories")
    if categories is None:
        return None
    contrasts = getattr(state.get("contrasts"), "contrasts", None)
    if contrasts is None or type(contrasts).__name__ == "TreatmentContrasts":
        base = getattr(contrasts, "base", None)
        return str(base if isinstance(base, str) else next(iter(categories)))
    return tuple(str(one) for one in categories)


def _basis(spec: Any, expr: str) -> Hashable:
    return tuple(frozen(state) for call, state in spec.transform_state.items() if call in expr)


def _means(blueprint: Blueprint, expr: str) -> Hashable:
    grand = [plan.column for plan in blueprint.centrings if plan.by == "grand" and plan.column in expr]
    return tuple((name, format(blueprint.means.values[name], DIGITS)) for name in grand)
