"""One file per fit: arrays and JSON in a zip (numpy's npz), never a pickle.

Rows are kept as outcome, fixed part and fitted values, so that a reloaded fit answers every question; the columns of
the table are not kept.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from formulaic.parser.types import Factor

from pmwmix.errors import DataError, OptionError
from pmwmix.frame.centring import Means
from pmwmix.pooling import Pooled
from pmwmix.prediction.modes import LevelModes
from pmwmix.prediction.newdata import Blueprint, RandomSpec
from pmwmix.prediction.rows import SavedRows
from pmwmix.results.record import FitRecord
from pmwmix.spec.centring import Centring
from pmwmix.spec.formula import parse
from pmwmix.spec.outcome import Response
from pmwmix.spec.settings import Settings

FORMAT = 2
PLAIN = ("sigma", "loglik", "nobs", "converged", "singular", "status", "family", "link")
Arrays = dict[str, np.ndarray]


def save_fit(fit: FitRecord, path: Path) -> Path:
    """Write a fit.

    Raises
    ------
    OptionError
        If the folder does not exist.
    """
    if not path.parent.exists():
        raise OptionError(f"The folder does not exist. Asked for {str(path)!r}. Create it first.")
    if path.is_dir():
        raise OptionError(f"A fit is saved to a file. {str(path)!r} is a folder. Add a file name.")
    arrays: Arrays = {}
    meta = {"format": FORMAT, "fit": _pack(fit, arrays, "fit")}
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, meta=np.array(json.dumps(meta)), **arrays)  # type: ignore[arg-type]
    return path


def load_fields(path: Path) -> dict[str, Any]:
    """Read the fields of a saved fit; those of single plausible values stand in ``each`` as dicts.

    Raises
    ------
    DataError
        If the file is none of ours.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(str(arrays.pop("meta")))
        if meta["format"] != FORMAT:
            raise KeyError("format")
        return _unpack(meta["fit"], arrays, "fit")
    except FileNotFoundError as error:
        raise DataError(f"There is no such file. Looked for {str(path)!r}. Check the path.") from error
    except (ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"The file is not a saved fit. {path.name!r} cannot be read as one. Use a file written by fit.save()."
        ) from error


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
        "plain": {name: getattr(fit, name) for name in PLAIN},
        "notes": list(fit.notes),
        "settings": dataclasses.asdict(fit.settings),
        "index": _index_out(fit.index, arrays, key),
        "pooled": fit.pooled is not None,
        "each": [_pack(one, arrays, f"{key}/{number}") for number, one in enumerate(fit.each)],
        "nest": list(fit.nest),
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
    if fit.small_df is not None:
        arrays[f"{key}/small_df"] = fit.small_df
    if fit.rows is not None:
        out["rows"] = _rows_out(fit.rows, arrays, key)
    return out


def _unpack(meta: dict[str, Any], arrays: Arrays, key: str) -> dict[str, Any]:
    terms = meta["terms"]
    icc = meta["icc"]
    out = {
        **meta["plain"],
        "coef": pd.Series(arrays[f"{key}/coef"], index=terms, name="coef"),
        "vcov": pd.DataFrame(arrays[f"{key}/vcov"], index=terms, columns=terms),
        "varcorr": _varcorr_in(meta),
        "theta": pd.Series(arrays[f"{key}/theta"], index=meta["theta_names"], name="theta"),
        "n_groups": pd.Series(meta["n_groups"], name="n_groups"),
        "icc": pd.Series(icc["series"], name="icc") if isinstance(icc, dict) else icc,
        "weight_stats": _frame_in(meta["weight_stats"]),
        "notes": tuple(meta["notes"]),
        "settings": _settings_in(meta["settings"]),
        "parameters": (arrays[f"{key}/parameter_values"], arrays[f"{key}/parameter_vcov"]),
        "index": _index_in(meta["index"], arrays, key),
        "each": [_unpack(one, arrays, f"{key}/{number}") for number, one in enumerate(meta["each"])],
        "nest": tuple(meta.get("nest", ())),  # version 0.1.0 wrote none
    }
    if meta["pooled"]:
        names = [one.name for one in dataclasses.fields(Pooled)]
        out["pooled"] = Pooled(**{name: arrays[f"{key}/pooled/{name}"] for name in names})
    if f"{key}/satterthwaite" in arrays:
        out["satterthwaite"] = partial(np.asarray, arrays[f"{key}/satterthwaite"])
    if "general" in meta:
        general = meta["general"]
        out["phi"], out["categories"] = arrays[f"{key}/phi"], tuple(general["categories"])
        if general["parameters"] is not None:
            out["family_parameters"] = _frame_in(general["parameters"]).astype(float)
        if general["quadrature"] is not None:
            out["quadrature"] = {**general["quadrature"], "n_agq": tuple(general["quadrature"]["n_agq"])}
    if f"{key}/small_df" in arrays:
        out["small_df"] = arrays[f"{key}/small_df"]
    if "rows" in meta:
        out["rows"] = _rows_in(meta["rows"], arrays, key)
    return out


def _varcorr_in(meta: dict[str, Any]) -> pd.DataFrame:
    table, names = pd.DataFrame(meta["varcorr"]["data"], columns=meta["varcorr"]["columns"]), ["var1", "var2"]
    table[["vcov", "sdcor", "se"]] = np.array(meta["varcorr_numbers"], dtype=float)
    table[names] = table[names].astype(object).where(table[names].notna(), None)
    return table


def _settings_in(meta: dict[str, Any]) -> Settings:
    weights = tuple(tuple(pair) for pair in meta["weights"])
    replicates = tuple(meta["replicates"]) if meta.get("replicates") else None
    return Settings(**{**meta, "weights": weights, "clusters": tuple(meta["clusters"]), "replicates": replicates})


def _frame_out(frame: pd.DataFrame) -> dict[str, Any]:
    return {"index": list(frame.index), "columns": list(frame.columns), "data": frame.to_numpy().tolist()}


def _frame_in(meta: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(meta["data"], index=meta["index"], columns=meta["columns"])
    return frame.astype({"n": int}) if "n" in frame else frame


def _index_out(index: Any, arrays: Arrays, key: str) -> dict[str, Any]:
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step]}
    values = index.to_numpy()
    if values.dtype.kind in "iuf":
        arrays[f"{key}/index"] = values
        return {"array": True}
    return {"labels": [str(label) for label in index]}


def _index_in(meta: dict[str, Any], arrays: Arrays, key: str) -> pd.Index:
    if "range" in meta:
        return pd.RangeIndex(*meta["range"])
    return pd.Index(arrays[f"{key}/index"] if "array" in meta else meta["labels"])


def _rows_out(rows: Any, arrays: Arrays, key: str) -> dict[str, Any]:
    arrays[f"{key}/y"], arrays[f"{key}/marginal"] = rows.y, rows.marginal()
    arrays[f"{key}/conditional"], arrays[f"{key}/eta_beta"] = rows.conditional(), rows.eta_beta
    response = rows.response
    if response is not None:
        arrays[f"{key}/variance"], arrays[f"{key}/constant"] = rows.random_variance(), response.constant
        for number, column in enumerate(response.extra):
            arrays[f"{key}/extra{number}"] = column
    levels = []
    for number, modes in enumerate(rows.modes()):
        arrays[f"{key}/b{number}"], arrays[f"{key}/b_se{number}"] = modes.b, modes.se
        arrays[f"{key}/Psi{number}"] = modes.Psi
        levels.append({"group": modes.group, "factors": modes.factors, "labels": modes.labels, "terms": modes.terms})
    print_ = rows.blueprint
    return {
        "levels": levels,
        "formula": print_.formula.text,
        "kept": print_.kept.tolist(),
        "x": _spec_out(print_.x_spec),
        "random": [[r.level, list(r.variables), list(r.names), _spec_out(r.spec)] for r in print_.random],
        "categories": print_.categories,
        "centrings": [dataclasses.asdict(plan) for plan in print_.centrings],
        "means": {name: _mean_out(value) for name, value in print_.means.values.items()},
        "pv": print_.pv,
        "response": None if response is None else [len(response.extra), list(response.categories)],
    }


def _rows_in(meta: dict[str, Any], arrays: Arrays, key: str) -> SavedRows:
    modes = [
        LevelModes(
            one["group"],
            tuple(one["factors"]),
            one["labels"],
            tuple(one["terms"]),
            arrays[f"{key}/b{n}"],
            arrays[f"{key}/b_se{n}"],
            arrays[f"{key}/Psi{n}"],
        )
        for n, one in enumerate(meta["levels"])
    ]
    blueprint = Blueprint(
        parse(meta["formula"]),
        _spec_in(meta["x"]),
        np.array(meta["kept"], dtype=int),
        [RandomSpec(r[0], tuple(r[1]), tuple(r[2]), _spec_in(r[3])) for r in meta["random"]],
        meta["categories"],
        [Centring(**plan) for plan in meta["centrings"]],
        Means({name: _mean_in(value) for name, value in meta["means"].items()}),
        meta["pv"],
    )
    y, marginal, conditional = (arrays[f"{key}/{name}"] for name in ("y", "marginal", "conditional"))
    response = None
    if meta["response"] is not None:
        n_extra, categories = meta["response"]
        extra = tuple(arrays[f"{key}/extra{number}"] for number in range(n_extra))
        response = Response(y, extra, arrays[f"{key}/constant"], tuple(categories))
    variance = arrays.get(f"{key}/variance")
    return SavedRows(modes, y, marginal, conditional, blueprint, arrays[f"{key}/eta_beta"], response, variance)


def _mean_out(value: Any) -> Any:
    if isinstance(value, pd.Series):
        return {"by": [str(i) for i in value.index], "mean": value.tolist()}
    return float(value)


def _mean_in(value: Any) -> Any:
    return pd.Series(value["mean"], index=value["by"]) if isinstance(value, dict) else value


def _spec_out(spec: ModelSpec | None) -> Any:
    """Spell formula and state of the transformations; categories are kept beside, the formula gives the structure."""
    if spec is None:
        return None
    categories = {
        name: _tagged(list(state["categories"]))
        for name, (_, state) in spec.encoder_state.items()
        if "categories" in state
    }
    formula = " + ".join(["0", *(str(term) for term in spec.formula)])
    return {"formula": formula, "state": _tagged(spec.transform_state), "categories": categories}


def _spec_in(meta: Any) -> ModelSpec | None:
    if meta is None:
        return None
    encoders = {
        name: (Factor.Kind.CATEGORICAL, {"categories": _untagged(values)})
        for name, values in meta["categories"].items()
    }
    state = _untagged(meta["state"])
    return ModelSpec(
        formula=meta["formula"], transform_state=state, encoder_state=encoders, output="numpy", na_action="ignore"
    )


def _tagged(value: Any) -> Any:
    """Spell nested dicts, arrays and numbers in JSON without losing the types of keys."""
    if isinstance(value, dict):
        return {"dict": [[_tagged(k), _tagged(v)] for k, v in value.items()]}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if isinstance(value, list | tuple):
        return {"list": [_tagged(v) for v in value]}
    if isinstance(value, np.generic):
        return value.item()
    return value


def _untagged(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {_untagged(k): _untagged(v) for k, v in value["dict"]}
    return np.array(value["array"]) if "array" in value else [_untagged(v) for v in value["list"]]
