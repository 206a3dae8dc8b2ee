"""The fields of a saved fit out of its JSON and arrays, each with the type and the size that the others ask for."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import OptionError, PmwmixError
from pmwmix.inference.residualtable import WAYS
from pmwmix.likelihood.latent import latent_of
from pmwmix.pooling import Pooled
from pmwmix.prediction.modes import LevelModes
from pmwmix.prediction.rows import SavedRows
from pmwmix.results.checked import (
    AlteredError,
    Fields,
    as_count,
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
from pmwmix.results.unpackplan import blueprint_in, filled, parse_checked, split_label
from pmwmix.spec.outcome import Response
from pmwmix.spec.random import read_random
from pmwmix.spec.settings import Settings

METHODS = ("ml", "reml", "pairwise")
STATS = "n mean sum min max cv n_eff used_mean used_sum used_min used_max used_cv used_n_eff".split()
VARCORR = ["grp", "var1", "var2", "vcov", "sdcor", "se"]
MOST_EXTRA = 500  # further columns of an outcome, of several kinds of outcomes those of all
LARGEST = 300.0  # of a logarithm: what its exponential is a number for
Arrays = dict[str, Array]
SCALED = (  # tables of estimates with their scales: field, its key in the file, and what they are of
    ("residual_parameters", "residual", "a residual structure"),
    ("latent_means", "latent_means", "latent means"),
)


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
    out |= _random_effects(f, out)
    given = [one for one in SCALED if one[1] in f.meta]
    out |= {name: _estimates(f.read(key_in, _frame), of, "scale") for name, key_in, of in given}
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
    out["n_starts"] = plain.read("n_starts", as_count, 1, required=False)  # version 0.1.0 did not count
    out["outcomes"] = tuple(plain.read("outcomes", listed(as_text), [], required=False))  # version 0.1.0 had one
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

    try:
        known = FAMILIES[family].links
    except OptionError:
        known = ()
    if link not in known:
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
        "pv": mapped(filled(as_text)),
        "clusters": lambda one: _row(one, as_text, optional(as_text), as_whole, as_whole),
        "n_read": as_whole,
        **dict.fromkeys(("dropped", "zero_weight"), mapped(as_whole)),
        "replicates": optional(lambda one: _row(one, as_text, as_whole, as_number)),
        "n_agq": (lambda one: tuple(listed(as_whole)(one))) if isinstance(nodes, list) else optional(as_whole),
        "chunk_size": optional(as_whole),
        "residual": texts,
        "labels": texts,
        "levels": mapped(texts),
        "fixed": mapped(as_number),
        "weights_top": optional(as_text),
        "random": _asked_random,
        "trimmed": lambda one: tuple(
            _row(part, as_text, as_number, as_number, as_whole, as_whole, as_number, as_number) for part in _list(one)
        ),
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


def _pairs(value: Any) -> list[list[Any]]:
    return listed(listed(lambda one: one, 2))(value)


def _list(value: Any) -> list[Any]:
    return listed(lambda one: one)(value)


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


def _random_effects(f: Fields, fit: dict[str, Any]) -> dict[str, Any]:
    """Read the shape of random effects that are not normal, per level, and the errors of what it reports."""
    effects, levels = latent_of(fit["settings"].random), range(len(fit["n_groups"]))
    if not effects.n_shape:
        return {}
    out: dict[str, Any] = {"random_shape": tuple(f.finite(f"random_shape{n}", effects.n_shape) for n in levels)}
    if any(np.abs(shape).max() > LARGEST for shape in out["random_shape"]):
        raise AlteredError("a distribution of random effects with parameters that cannot be")
    if f.has("random_vcov"):
        size = len(fit["parameters"][0]) + len(levels) * len(effects.reported(out["random_shape"][0], 1.0)[0])
        out["random_vcov"] = f.array("random_vcov", size, size)
    return out


def _asked_random(value: Any) -> str:
    text = as_text(value)
    try:
        return read_random(text)
    except PmwmixError as error:
        raise AlteredError(f"a distribution of random effects that is none ({text!r})") from error


def _general(f: Fields) -> dict[str, Any]:
    out: dict[str, Any] = {"phi": f.finite("phi", None), "categories": tuple(f.read("categories", listed(as_text)))}
    table = f.read("parameters", optional(_frame))
    if table is not None:
        out["family_parameters"] = _estimates(table, "the family")
    quadrature = f.read("quadrature", optional(as_object))
    if quadrature is not None:
        q = Fields(quadrature, {}, "")
        out["quadrature"] = {
            "n_agq": tuple(q.read("n_agq", filled(as_whole))),
            "moved": q.read("moved", as_number),
            "loglik_error": q.read("loglik_error", as_number, float("nan"), required=False),
            "second_order": q.read("second_order", as_flag, False, required=False),
        }
    return out


def _estimates(table: pd.DataFrame, of: str, *more: str) -> pd.DataFrame:
    """Require a table of estimates and their errors, and the columns that follow them."""
    if list(table.columns) != ["estimate", "se", *more] or not set(table.get("scale", ())) <= set(WAYS):
        raise AlteredError(f"parameters of {of} without estimate and se")
    try:
        return table.astype({"estimate": float, "se": float})
    except (TypeError, ValueError) as error:
        raise AlteredError(f"parameters of {of} that are no numbers") from error


def _rows(f: Fields, fit: dict[str, Any]) -> SavedRows:
    n = fit["nobs"]
    modes = [_modes(f, meta, number) for number, meta in enumerate(f.read("levels", listed(as_object)))]
    blueprint = blueprint_in(f, modes, fit["family"], fit["outcomes"])
    m = len(blueprint.further)
    y, marginal, conditional = (f.finite(name, n) for name in ("y", "marginal", "conditional"))
    etas = [one[None] for one in (marginal, conditional)]
    if m:
        further = (f.finite(f"further_{name}", m, n) for name in ("marginal", "conditional"))
        etas = [np.concatenate(pair) for pair in zip(etas, further, strict=True)]
    beta = f.finite("eta_beta", len(blueprint.kept))
    response = variance = None
    if f.read("response", lambda one: one) is not None:
        n_extra, categories = f.read("response", lambda one: _row(one, as_whole, listed(as_text)))
        if not 0 <= n_extra <= MOST_EXTRA:
            raise AlteredError(f"{n_extra} further columns of an outcome")
        extra = tuple(f.finite(f"extra{number}", n) for number in range(n_extra))
        response = Response(y, extra, f.finite("constant", n), tuple(categories))
    if f.has("variance"):
        variance = f.finite("variance", n)[None, None]
        variance = f.finite("covariance", m + 1, m + 1, n) if m else variance
    if (response is None) != (variance is None):
        raise AlteredError("an outcome without the variance of its random part")
    more = [f.finite(name, n) for name in ("residual_sd", "normalized") if "residual_parameters" in fit]
    found = SavedRows(modes, y, etas[0], etas[1], blueprint, beta, response, variance, *more)
    if not fit["outcomes"]:
        return found
    saved = np.concatenate([y[None], f.finite("further_y", m, n)]) if response is None else _read_again(fit, response)
    return replace(found, saved_ys=saved)


def _read_again(fit: dict[str, Any], response: Response) -> Array:
    """Give outcomes of several kinds (m, n), NaN where rows lack them."""
    from pmwmix.families import FAMILIES  # with PyTensor, which a linear fit does without

    family = FAMILIES[fit["family"]]
    if len(response.extra) != family.n_extra or family.first != fit["outcomes"][0]:
        raise AlteredError("columns of outcomes that the family does not have")
    found: Array = family.values(response)
    return found


def _modes(f: Fields, meta: dict[str, Any], number: int) -> LevelModes:
    one = Fields(meta, f.arrays, f.key)
    labels, terms = one.read("labels", listed(as_key)), tuple(one.read("terms", listed(as_text)))
    factors = tuple(one.read("factors", listed(as_text)))
    labels = [split_label(label, len(factors)) for label in labels]
    G, q = len(labels), len(terms)
    return LevelModes(
        one.read("group", as_text),
        factors,
        labels,
        terms,
        one.finite(f"b{number}", G, q),
        one.array(f"b_se{number}", G, q),
        one.finite(f"Psi{number}", q, q),
        one.finite(f"classes{number}", G, None) if one.has(f"classes{number}") else None,
    )
