"""One file per fit: arrays and JSON in a zip (numpy's npz), never a pickle.

Rows are kept as outcome, fixed part and fitted values, so that a reloaded fit answers every question; the columns of
the table are not kept. `unpack` reads the fields back.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.pooling import Pooled
from pmwmix.prediction.responses import row_labels
from pmwmix.results.archive import damaged, read_archive, write_archive
from pmwmix.results.checked import AlteredError
from pmwmix.results.specs import spec_out
from pmwmix.results.unpack import fields_of
from pmwmix.writing import target_of

if TYPE_CHECKING:
    from pmwmix.results.record import FitRecord

FORMATS = (2, 3)  # those that can be read, the newest last; 2 is 0.1.0's, without a digest
PLAIN = ("sigma", "loglik", "nobs", "converged", "singular", "status", "family", "link", "n_starts", "outcomes")
Arrays = dict[str, Array]


def save_fit(fit: FitRecord, path: str | Path) -> Path:
    """Write a fit, whole or not at all: what stood there before stays until the new file is complete.

    Raises
    ------
    OptionError
        If the folder does not exist, or a folder stands there.
    FileError
        If it cannot be written.
    """
    out = target_of(path, "A fit")
    arrays: Arrays = {}
    meta = {"format": FORMATS[-1], "fit": _pack(fit, arrays, "fit")}
    write_archive(out, meta, arrays)
    return out


def load_fields(path: Path) -> dict[str, Any]:
    """Read the fields of a saved fit; those of single plausible values stand in ``each`` as dicts.

    Raises
    ------
    DataError
        If the file is none of ours, damaged, or not what a fit writes.
    """
    meta, arrays = read_archive(path, FORMATS)
    try:
        return fields_of(meta.get("fit"), arrays, "fit")
    except AlteredError as error:
        raise damaged(path, str(error)) from error


def _pack(fit: FitRecord, arrays: Arrays, key: str) -> dict[str, Any]:
    for name in ("coef", "theta"):
        arrays[f"{key}/{name}"] = getattr(fit, name).to_numpy()
    arrays[f"{key}/vcov"] = fit.vcov.to_numpy()
    arrays[f"{key}/parameter_values"], arrays[f"{key}/parameter_vcov"] = fit.parameters
    if fit.pooled is not None:
        for one in dataclasses.fields(Pooled):
            arrays[f"{key}/pooled/{one.name}"] = getattr(fit.pooled, one.name)
    icc = fit.icc
    out = {
        "terms": list(fit.coef.index),
        "theta_names": list(fit.theta.index),
        "varcorr": json.loads(fit.varcorr.to_json(orient="split", double_precision=15)),
        "varcorr_numbers": fit.varcorr[["vcov", "sdcor", "se"]].to_numpy().tolist(),
        "n_groups": {str(name): int(n) for name, n in fit.n_groups.items()},
        "icc": {"series": {str(k): float(v) for k, v in icc.items()}} if isinstance(icc, pd.Series) else float(icc),
        "weight_stats": _frame_out(fit.weight_stats),
        "plain": {name: getattr(fit, name) for name in PLAIN}
        | ({"sigma": float(np.append(fit.sigma, np.nan)[0])} if fit.outcomes else {}),  # the others follow from tables
        "notes": list(fit.notes),
        "settings": dataclasses.asdict(fit.settings),
        "index": _index_out(row_labels(fit), arrays, key),
        "pooled": fit.pooled is not None,
        "each": [_pack(one, arrays, f"{key}/{number}") for number, one in enumerate(fit.each)],
        "nest": list(fit.nest),
        **_tables_out(residual=fit.residual_parameters, latent_means=fit.latent_means),
    }
    default = fit.satterthwaite is not None and fit.settings.vcov == "model" and not fit.settings.weighted
    if default and fit.satterthwaite is not None:
        arrays[f"{key}/satterthwaite"] = fit.satterthwaite()
    if fit.phi is not None:
        arrays[f"{key}/phi"] = np.asarray(fit.phi)
        out["general"] = {
            "parameters": None if fit.family_parameters is None else _frame_out(fit.family_parameters),
            "quadrature": fit.quadrature and {**fit.quadrature, "n_agq": list(fit.quadrature["n_agq"])},
            "categories": list(fit.categories),
        }
    arrays.update({f"{key}/{name}": value for name, value in _others(fit).items() if value is not None})
    if fit.rows is not None:
        out["rows"] = _rows_out(fit.rows, arrays, key, fit.residual_parameters is not None)
    return out


def _tables_out(**tables: pd.DataFrame | None) -> dict[str, Any]:
    return {name: _frame_out(table) for name, table in tables.items() if table is not None}


def _others(fit: FitRecord) -> dict[str, Any]:
    """Give the arrays that only some fits have; None for those that this one has not."""
    shapes = {f"random_shape{level}": shape for level, shape in enumerate(fit.random_shape)}
    return {**shapes, "random_vcov": fit.random_vcov, "small_df": fit.small_df}


def _frame_out(frame: pd.DataFrame) -> dict[str, Any]:
    return {"index": list(frame.index), "columns": list(frame.columns), "data": frame.to_numpy().tolist()}


def _index_out(index: Any, arrays: Arrays, key: str) -> dict[str, Any]:
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step]}
    values = index.to_numpy()
    if values.dtype.kind in "iuf":
        arrays[f"{key}/index"] = values
        return {"array": True}
    return {"labels": [str(label) for label in index]}


def _rows_out(rows: Any, arrays: Arrays, key: str, structured: bool) -> dict[str, Any]:
    print_, marginal, conditional = rows.blueprint, rows.etas(False), rows.etas(True)
    arrays[f"{key}/y"], arrays[f"{key}/eta_beta"] = rows.y, rows.eta_beta
    arrays[f"{key}/marginal"], arrays[f"{key}/conditional"] = marginal[0], conditional[0]
    response = rows.response
    if structured:
        arrays[f"{key}/residual_sd"], arrays[f"{key}/normalized"] = rows.residual_sd(), rows.normalized()
    if print_.further:
        arrays[f"{key}/further_marginal"], arrays[f"{key}/further_conditional"] = marginal[1:], conditional[1:]
    if print_.formula.outcomes and response is None:
        arrays[f"{key}/further_y"] = rows.ys[1:]
    if response is not None:
        covariance = rows.random_covariance()
        arrays[f"{key}/variance"], arrays[f"{key}/constant"] = covariance[0, 0], response.constant
        if print_.further:
            arrays[f"{key}/covariance"] = covariance
        for number, column in enumerate(response.extra):
            arrays[f"{key}/extra{number}"] = column
    levels = []
    for number, modes in enumerate(rows.modes()):
        arrays[f"{key}/b{number}"], arrays[f"{key}/b_se{number}"] = modes.b, modes.se
        arrays[f"{key}/Psi{number}"] = modes.Psi
        if modes.classes is not None:
            arrays[f"{key}/classes{number}"] = modes.classes
        labels = [_label_out(label) for label in modes.labels]
        levels.append({"group": modes.group, "factors": modes.factors, "labels": labels, "terms": modes.terms})
    return {
        "levels": levels,
        "formula": print_.formula.text,
        "kept": print_.kept.tolist(),
        "x": spec_out(print_.x_spec),
        "random": [[r.level, list(r.variables), list(r.names), spec_out(r.spec)] for r in print_.random],
        "categories": print_.categories,
        "centrings": [dataclasses.asdict(plan) for plan in print_.centrings],
        "means": {name: _mean_out(value) for name, value in print_.means.values.items()},
        "pv": print_.pv,
        "aliases": None if print_.aliases is None else _aliases_out(print_.aliases),
        "further": [spec_out(spec) for spec in print_.further],
        "of": print_.of.tolist(),
        "response": None if response is None else [len(response.extra), list(response.categories)],
    }


def _aliases_out(aliases: Any) -> dict[str, Any]:
    numbers = {name: getattr(aliases, name).tolist() for name in ("dropped", "others", "weights", "allowed")}
    return {"names": list(aliases.names), **numbers}


def _mean_out(value: Any) -> Any:
    if isinstance(value, pd.Series):
        return {"by": [_label_out(i) for i in value.index], "mean": value.tolist()}
    return float(value)


def _label_out(label: Any) -> Any:
    """Spell the label of a group: numbers and text as they are, anything else (an interval) as it is shown."""
    value = label.item() if isinstance(label, np.generic) else label
    if isinstance(value, tuple):
        return [_label_out(part) for part in value]
    return value if isinstance(value, str | int | float | bool) else str(value)
