"""The fields of a saved fit out of its JSON and arrays, each with the type and the size that the others ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import PmwmixError
from pmwmix.frame.centring import Means
from pmwmix.pooling import Pooled
from pmwmix.prediction.estimable import Aliases
from pmwmix.prediction.modes import LevelModes
from pmwmix.prediction.newdata import Blueprint, RandomSpec
from pmwmix.prediction.rows import SavedRows
from pmwmix.results.checked import (
    AlteredError,
    Fields,
    as_flag,
    as_key,
    as_label,
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
from pmwmix.spec.outcome import Response
from pmwmix.spec.settings import Settings

METHODS = ("ml", "reml")
STATS = "n mean sum min max cv n_eff used_mean used_sum used_min used_max used_cv used_n_eff".split()
VARCORR = ["grp", "var1", "var2", "vcov", "sdcor", "se"]
Arrays = dict[str, Array]


def fields_of(meta: Any, arrays: Arrays, key: str, first: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read the fields of one fit, and those of its plausible values.

    Parameters
    ----------
    meta : object
        The JSON that the file holds.
    arrays : dict of ndarray
    key : str
        What the names of its arrays begin with.
    first : dict, optional
        Fields of the fit that this one is a plausible value of.

    Raises
    ------
    AlteredError
        If a field is missing, or of another type or size than a fit writes.
    """
    f = Fields(meta, arrays, key)
    out = _numbers(f)
    out |= {
        "varcorr": _varcorr(f),
        "n_groups": pd.Series(f.read("n_groups", mapped(as_whole)), name="n_groups", dtype=int),
        "icc": _icc(f),
        "weight_stats": f.read("weight_stats", _frame),
        "notes": tuple(f.read("notes", listed(as_text))),
        "settings": f.read("settings", _settings),
        "nest": tuple(f.read("nest", listed(as_text), [], required=False)),  # version 0.1.0 wrote none
    }
    out["index"] = _index(f, out["nobs"])
    out["weight_stats"] = _statistics(out["weight_stats"], ["obs", *out["n_groups"].index])
    if any(level not in ("obs", *out["n_groups"].index) for level, _ in out["settings"].weights):
        raise AlteredError("weights of a level that the fit does not have")
    if first is not None and list(out["coef"].index) != list(first["coef"].index):
        raise AlteredError("a plausible value has other terms than the fit")
    every = f.read("each", listed(lambda one: one, None if first is None else 0))
    out["each"] = [fields_of(one, arrays, f"{key}/{number}", out) for number, one in enumerate(every)]
    p = len(out["coef"])
    pooled = f.read("pooled", as_flag)
    if pooled != bool(every) or ("rows" in f.meta) == pooled:
        raise AlteredError("rows or plausible values are missing")
    if pooled:
        square = ("vcov", "within", "between")
        shapes = {part.name: (p, p) if part.name in square else (p,) for part in dataclasses.fields(Pooled)}
        out["pooled"] = Pooled(**{name: f.array(f"pooled/{name}", *shape) for name, shape in shapes.items()})
    if f.has("satterthwaite"):
        degrees = f.array("satterthwaite", p)
        out["satterthwaite"] = partial(np.asarray, degrees)
    if f.has("small_df"):
        out["small_df"] = f.array("small_df", p)
    if "general" in f.meta:
        out |= _general(Fields(f.read("general", as_object), arrays, key))
    if "rows" in f.meta:
        out["rows"] = _rows(Fields(f.read("rows", as_object), arrays, key), out)
    return out


def _numbers(f: Fields) -> dict[str, Any]:
    terms, plain = f.read("terms", listed(as_text)), Fields(f.read("plain", as_object), f.arrays, f.key)
    p, names = len(terms), f.read("theta_names", listed(as_text))
    if len(set(terms)) < p:
        raise AlteredError("a term stands twice")
    values = f.array("parameter_values", None)
    kinds = {"sigma": as_number, "loglik": as_number, "nobs": as_whole, "converged": as_flag, "singular": as_flag}
    out: dict[str, Any] = {name: plain.read(name, kind) for name, kind in kinds.items()}
    if out["nobs"] < 1:
        raise AlteredError("a fit without rows")
    family, link = plain.read("family", as_text), plain.read("link", as_text)
    _check_family(family, link)
    return out | {
        "status": plain.read("status", as_text),
        "family": family,
        "link": link,
        "coef": pd.Series(f.finite("coef", p), index=terms, name="coef"),
        "vcov": pd.DataFrame(f.array("vcov", p, p), index=terms, columns=terms),
        "theta": pd.Series(f.finite("theta", len(names)), index=names, name="theta"),
        "parameters": (values, f.array("parameter_vcov", len(values), len(values))),
    }


def _check_family(family: str, link: str) -> None:
    from pmwmix.families import FAMILIES  # with PyTensor, which a linear fit does without

    if family not in FAMILIES or link not in FAMILIES[family].links:
        raise AlteredError(f"the family {family!r} with the link {link!r}, which is none")


def _varcorr(f: Fields) -> pd.DataFrame:
    table = f.read("varcorr", as_object)
    if table.get("columns") != VARCORR:
        raise AlteredError(f"a table of variances without the columns {', '.join(VARCORR)}")
    names = [row[:3] for row in listed(listed(lambda one: one, len(VARCORR)))(table.get("data"))]
    every = listed(optional(as_text), 3)
    numbers = f.read("varcorr_numbers", listed(listed(as_number, 3), len(names)))
    out = pd.DataFrame([every(row) for row in names], columns=VARCORR[:3], dtype=object)
    out["grp"] = listed(as_text)(out["grp"].tolist())
    out[VARCORR[3:]] = np.array(numbers, dtype=float).reshape(len(names), 3)
    return out


def _icc(f: Fields) -> Any:
    found = f.read("icc", lambda one: one)
    if isinstance(found, dict):
        return pd.Series(mapped(as_number)(as_object(found.get("series"))), name="icc", dtype=float)
    return as_number(found)


def _frame(meta: Any) -> pd.DataFrame:
    found = as_object(meta)
    index, columns = listed(as_label)(found.get("index")), listed(as_label)(found.get("columns"))
    data = listed(listed(optional(as_label), len(columns)), len(index))(found.get("data"))
    return pd.DataFrame(data, index=index, columns=columns)


def _statistics(frame: pd.DataFrame, levels: list[str]) -> pd.DataFrame:
    """Check the statistics of the weights: all of every level, or none."""
    if frame.empty and not frame.columns.size:
        return frame
    if list(frame.columns) != STATS or list(frame.index) != levels:
        raise AlteredError("statistics of the weights other than those of the levels")
    try:
        return frame.astype(float).astype({"n": int})
    except (TypeError, ValueError, OverflowError) as error:
        raise AlteredError("statistics of the weights that are no numbers") from error


def _settings(meta: Any) -> Settings:
    found = as_object(meta)
    texts = mapped(as_text)
    nodes = found.get("n_agq")
    kinds: dict[str, Any] = {
        **dict.fromkeys(("call", "formula", "vcov", "scaling", "family", "link"), as_text),
        "method": lambda one: _one_of(one, METHODS),
        "weights": lambda one: tuple((as_text(level), optional(as_text)(w)) for level, w in _pairs(one)),
        "conditional": as_flag,
        "pv": mapped(_filled(as_text)),
        "clusters": lambda one: _row(one, as_text, optional(as_text), as_whole, as_whole),
        "n_read": as_whole,
        **dict.fromkeys(("dropped", "zero_weight"), mapped(as_whole)),
        "replicates": optional(lambda one: _row(one, as_text, as_whole, as_number)),
        "n_agq": (lambda one: tuple(listed(as_whole)(one))) if isinstance(nodes, list) else optional(as_whole),
        "chunk_size": optional(as_whole),
        "labels": texts,
    }
    f = Fields(found, {}, "")
    given = {name: f.read(name, kinds[name]) for name in kinds if name in found or _is_required(name)}
    parse_checked(given["formula"])
    return Settings(**given)


def _is_required(name: str) -> bool:
    return any(
        one.name == name and one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        for one in dataclasses.fields(Settings)
    )


def _one_of(value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise AlteredError(f"a value other than {' and '.join(known)}")
    return value


def _filled[T](read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    """Require a list that is not empty."""

    def one(value: Any) -> list[T]:
        found = listed(read)(value)
        if not found:
            raise AlteredError("an empty list")
        return found

    return one


def _pairs(value: Any) -> list[list[Any]]:
    return listed(listed(lambda one: one, 2))(value)


def _row(value: Any, *kinds: Any) -> tuple[Any, ...]:
    return tuple(kind(one) for kind, one in zip(kinds, listed(lambda one: one, len(kinds))(value), strict=True))


def _index(f: Fields, n: int) -> pd.Index:
    meta = f.read("index", as_object)
    if "range" in meta:
        first, stop, step = listed(as_whole, 3)(meta["range"])
        if step == 0 or len(range(first, stop, step)) != n:
            raise AlteredError(f"row labels for other than {n} rows")
        return pd.RangeIndex(first, stop, step)
    if "array" in meta:
        f.array("index", n)
        return pd.Index(f.arrays[f"{f.key}/index"])
    return pd.Index(listed(as_text, n)(meta.get("labels")))


def _general(f: Fields) -> dict[str, Any]:
    out: dict[str, Any] = {"phi": f.finite("phi", None), "categories": tuple(f.read("categories", listed(as_text)))}
    table = f.read("parameters", optional(_frame))
    if table is not None:
        if list(table.columns) != ["estimate", "se"]:
            raise AlteredError("parameters of the family without estimate and se")
        try:
            out["family_parameters"] = table.astype(float)
        except (TypeError, ValueError) as error:
            raise AlteredError("parameters of the family that are no numbers") from error
    quadrature = f.read("quadrature", optional(as_object))
    if quadrature is not None:
        q = Fields(quadrature, {}, "")
        out["quadrature"] = {
            "n_agq": tuple(q.read("n_agq", _filled(as_whole))),
            "moved": q.read("moved", as_number),
        }
    return out


def _rows(f: Fields, fit: dict[str, Any]) -> SavedRows:
    n = fit["nobs"]
    modes = [_modes(f, meta, number) for number, meta in enumerate(f.read("levels", listed(as_object)))]
    blueprint = _blueprint(f, modes)
    y, marginal, conditional = (f.finite(name, n) for name in ("y", "marginal", "conditional"))
    beta = f.finite("eta_beta", len(blueprint.kept))
    response = variance = None
    if f.read("response", lambda one: one) is not None:
        n_extra, categories = f.read("response", lambda one: _row(one, as_whole, listed(as_text)))
        if not 0 <= n_extra <= 8:
            raise AlteredError(f"{n_extra} further columns of an outcome")
        extra = tuple(f.finite(f"extra{number}", n) for number in range(n_extra))
        response = Response(y, extra, f.finite("constant", n), tuple(categories))
    if f.has("variance"):
        variance = f.finite("variance", n)
    if (response is None) != (variance is None):
        raise AlteredError("an outcome without the variance of its random part")
    return SavedRows(modes, y, marginal, conditional, blueprint, beta, response, variance)


def _modes(f: Fields, meta: dict[str, Any], number: int) -> LevelModes:
    one = Fields(meta, f.arrays, f.key)
    labels, terms = one.read("labels", listed(as_key)), tuple(one.read("terms", listed(as_text)))
    factors = tuple(one.read("factors", listed(as_text)))
    labels = [_split(label, len(factors)) for label in labels]
    G, q = len(labels), len(terms)
    return LevelModes(
        one.read("group", as_text),
        factors,
        labels,
        terms,
        one.finite(f"b{number}", G, q),
        one.array(f"b_se{number}", G, q),
        one.finite(f"Psi{number}", q, q),
    )


def _split(label: Any, n: int) -> Any:
    """Give the label of a combination of ``n`` columns as a tuple; the first version wrote the text ``"7:3"``."""
    parts = tuple(label.split(":")) if n > 1 and isinstance(label, str) else ()
    return parts if len(parts) == n else label


def _blueprint(f: Fields, modes: list[LevelModes]) -> Blueprint:
    """Read how columns are rebuilt; all formulas are the model's, whose text is checked as a caller's would be."""
    formula = parse_checked(f.read("formula", as_text))
    kept = np.array(f.read("kept", listed(as_whole)), dtype=int)
    if len(set(kept.tolist())) < len(kept) or (kept < 0).any():
        raise AlteredError("numbers of fixed columns that cannot be")
    plans = [_centring(one) for one in f.read("centrings", listed(as_object))]
    means = f.read("means", mapped(_mean))
    for plan in plans:
        if isinstance(by_group := means.get(plan.column), pd.Series):
            keys = [_split(label, len(plan.columns)) for label in by_group.index]
            by_group.index = pd.Index(keys, tupleize_cols=False, dtype=object)
    if not all(isinstance(means.get(plan.column), pd.Series if plan.columns else float) for plan in plans):
        raise AlteredError("means other than those of the centred columns")
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
    )


def _aliases(value: Any) -> Aliases:
    one = Fields(as_object(value), {}, "")
    names = tuple(one.read("names", _filled(as_text)))
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
        for term in formula.random
        if sorted(term.factors) == sorted(level.factors)
    ]
    out = []
    rows = f.read("random", listed(listed(lambda one: one, 4), len(terms)))
    for (position, term), (level, variables, names, spec) in zip(terms, rows, strict=True):
        if level != position or tuple(listed(as_text)(variables)) != term.variables:
            raise AlteredError("random columns that are not those of the formula")
        if (spec is None) != (term.expr == "1"):
            raise AlteredError("random columns without their specification")
        rebuilt = None if spec is None else spec_in(spec, term.expr)
        out.append(RandomSpec(position, term.variables, tuple(listed(as_text)(names)), rebuilt))
    for position, level in enumerate(modes):
        if tuple(name for one in out if one.level == position for name in one.names) != level.terms:
            raise AlteredError("random effects other than those of the formula")
    return out


def parse_checked(text: str) -> ModelFormula:
    """Read a formula as if a caller had written it: what is not on the list of allowed code is refused."""
    try:
        return parse(text)
    except PmwmixError as error:
        raise AlteredError(f"a formula that is not allowed ({error})") from error


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
