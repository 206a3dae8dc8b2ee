"""A posterior as one file: an ArviZ tree with the fit by maximum likelihood and the settings inside."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pmwmix.errors import DataError, OptionError
from pmwmix.results.checked import (
    AlteredError,
    Fields,
    as_flag,
    as_object,
    as_text,
    as_whole,
    listed,
)
from pmwmix.results.store import save_fit
from pmwmix.sample.guard import ForeignError, check_draws, check_netcdf, check_zarr, seal_netcdf, seal_zarr
from pmwmix.writing import replacing, target_of

FORMAT = "pmwmix posterior 1"
GROUP = "pmwmix"
SETTINGS = {"draws": as_whole, "tune": as_whole, "chains": as_whole, "random_seed": as_whole, "sampler": as_text}
SUFFIXES = (".nc", ".zarr")


def save_bayes(fit: Any, path: str | Path) -> Path:
    """Write a BayesResult, whole or not at all.

    Raises
    ------
    OptionError
        If the name ends neither in ``.nc`` nor in ``.zarr``, or the folder does not exist.
    FileError
        If it cannot be written.
    """
    out = target_of(path, "A posterior", folder=True)
    if out.suffix not in SUFFIXES:
        raise OptionError(
            f"A posterior is saved as netCDF or zarr. Got {out.name!r}. End the name in '.nc' or '.zarr'."
        )
    netcdf = out.suffix == ".nc"
    if out.exists() and out.is_file() != netcdf:
        kind = "a folder" if netcdf else "a file"
        raise OptionError(f"A posterior does not replace other things. {out.name!r} is {kind}. Choose another name.")
    if not netcdf and out.exists() and not (out / "zarr.json").exists() and any(out.iterdir()):
        raise OptionError(f"A posterior does not replace other things. {out.name!r} is no zarr store. Choose another.")
    with tempfile.TemporaryDirectory() as folder:
        packed = save_fit(fit.ml, Path(folder) / "ml.npz").read_bytes()
    meta = {
        "format": FORMAT,
        "corrected": fit.corrected,
        "notes": list(fit.own_notes),
        "how": fit.how,
        "priors": {name: list(column) for name, column in fit.priors.items()},
        "parameters": list(fit.priors.index),
    }
    parts = {name: node.to_dataset() for name, node in fit.idata.children.items()}
    parts[GROUP] = xr.Dataset(
        {"ml": (("byte",), np.frombuffer(packed, dtype=np.uint8))}, attrs={"meta": json.dumps(meta)}
    )
    tree = xr.DataTree.from_dict({name: _plain(part) for name, part in parts.items()})
    with replacing(out) as new:
        if netcdf:
            tree.to_netcdf(new, engine="h5netcdf")
            seal_netcdf(new)
        else:
            tree.to_zarr(new, mode="w", consolidated=False)
            seal_zarr(new)
    return out


def _plain(part: Any) -> Any:
    """Give text columns a type that both formats know, and flags a number."""
    out = part.copy()
    for name in [*out.data_vars, *out.coords]:
        if out[name].dtype == object:
            out[name] = out[name].astype(str)
        elif out[name].dtype == bool:
            out[name] = out[name].astype(np.int8)
    return out


def load_bayes(path: Path, load_fit: Any, build: Any) -> Any:
    """Read a BayesResult.

    Parameters
    ----------
    path : Path
    load_fit : callable
        Path -> FitResult.
    build : callable
        BayesResult.

    Raises
    ------
    DataError
        If the file is none of ours.
    """
    if not path.exists():
        raise DataError(f"There is no such file. Asked for {path.name!r}. Check the path.")
    try:
        parts, meta, packed = _contents(path)
    except (ForeignError, AlteredError) as error:
        raise DataError(
            f"The saved posterior is damaged or was altered. In {path.name!r}: {error}. Use a file that fit.save(...) "
            f"wrote."
        ) from error
    except (Exception, MemoryError) as error:
        raise DataError(
            f"The file holds no posterior of pmwmix. {path.name!r} could not be read ({type(error).__name__}). "
            f"Pass a file that fit.save(...) wrote."
        ) from error
    number = meta["format"].rpartition(" ")[-1]
    if meta["format"] != FORMAT:
        raise DataError(
            f"The posterior was saved by a later version of pmwmix. {path.name!r} has format {number}, this version "
            f"reads {FORMAT.rpartition(' ')[-1]}. Update pmwmix."
        )
    ml = _maximum(packed, path, load_fit)
    try:
        check_draws(parts, meta["parameters"], ml)
    except ForeignError as error:
        raise DataError(
            f"The saved posterior is damaged or was altered. In {path.name!r}: {error}. Use a file that fit.save(...) "
            f"wrote."
        ) from error
    priors = pd.DataFrame(meta["priors"], index=pd.Index(meta["parameters"], name="parameter"))
    common = {"priors": priors, "corrected": meta["corrected"], "own_notes": tuple(meta["notes"]), "how": meta["how"]}
    each: tuple[Any, ...] = ()
    if ml.n_pv > 1:
        each = tuple(build(ml=one, idata=_of_one(parts, number), **common) for number, one in enumerate(ml.fits, 1))
    return build(ml=ml, idata=xr.DataTree.from_dict(parts), each=each, **common)


def _contents(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Read groups of draws, the settings, and the bytes of the fit by maximum likelihood."""
    netcdf = path.suffix == ".nc"
    (check_netcdf if netcdf else check_zarr)(path)
    how: dict[str, Any] = {"engine": "h5netcdf"} if netcdf else {"engine": "zarr", "consolidated": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is decoded: it is checked afterwards
        with xr.open_datatree(path, decode_times=False, **how) as opened:
            tree = opened.load()
    f = Fields(json.loads(tree[GROUP].attrs["meta"]), {}, "")
    parameters = f.read("parameters", listed(as_text))
    n, how_read = len(parameters), Fields(f.read("how", as_object), {}, "")
    priors = Fields(f.read("priors", as_object), {}, "")
    meta = {
        "format": f.read("format", as_text),
        "corrected": f.read("corrected", as_flag),
        "notes": f.read("notes", listed(as_text)),
        "how": {name: how_read.read(name, kind) for name, kind in SETTINGS.items()},
        "priors": {
            "prior": priors.read("prior", listed(as_text, n)),
            "default": priors.read("default", listed(as_flag, n)),
        },
        "parameters": parameters,
    }
    packed = np.asarray(tree[GROUP]["ml"], dtype=np.uint8).tobytes()
    return {name: node.to_dataset() for name, node in tree.children.items() if name != GROUP}, meta, packed


def _maximum(packed: bytes, path: Path, load_fit: Any) -> Any:
    """Load the fit by maximum likelihood inside, as strictly as one that stands alone."""
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / "ml.npz"
        inner.write_bytes(packed)
        try:
            return load_fit(inner)
        except DataError as error:
            said = str(error).replace("'ml.npz'", "the fit by maximum likelihood")
            raise DataError(f"The posterior in {path.name!r} cannot be read. {said}") from error


def _of_one(parts: dict[str, Any], number: int) -> Any:
    """Cut the draws of one plausible value out of the pooled tree."""
    out = {}
    for name, part in parts.items():
        for dim in ("chain", "draw"):
            if "pv" in part.coords and part["pv"].dims == (dim,):
                part = part.isel({dim: np.flatnonzero(np.asarray(part["pv"]) == number)}).drop_vars("pv")
                part = part.assign_coords({dim: np.arange(part.sizes[dim])})
        if "pv" in part.dims:
            part = part.sel(pv=number, drop=True)
        out[name] = part
    return xr.DataTree.from_dict(out)


__all__ = ["load_bayes", "save_bayes"]
