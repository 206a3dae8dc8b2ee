"""A posterior as one file: an ArviZ tree with the fit by maximum likelihood and the settings inside."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pmwmix.errors import DataError, OptionError
from pmwmix.results.store import save_fit

FORMAT = "pmwmix posterior 1"
GROUP = "pmwmix"
SUFFIXES = (".nc", ".zarr")


def save_bayes(fit: Any, path: Path) -> Path:
    """Write a BayesResult.

    Raises
    ------
    OptionError
        If the name ends neither in ``.nc`` nor in ``.zarr``.
    """
    if path.suffix not in SUFFIXES:
        raise OptionError(
            f"A posterior is saved as netCDF or zarr. Got {path.name!r}. End the name in '.nc' or '.zarr'."
        )
    if not path.parent.exists():
        raise OptionError(
            f"A posterior is saved in a folder that exists. There is no folder {path.parent.name!r}. Make it first."
        )
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
    if path.suffix == ".nc":
        tree.to_netcdf(path, engine="h5netcdf")
    else:
        tree.to_zarr(path, mode="w", consolidated=False)
    return path


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
        netcdf = path.suffix == ".nc"
        how: dict[str, Any] = {"engine": "h5netcdf"} if netcdf else {"engine": "zarr", "consolidated": False}
        opened = xr.open_datatree(path, **how)
        tree = opened.load()
        opened.close()
        meta = json.loads(tree[GROUP].attrs["meta"])
        packed = np.asarray(tree[GROUP]["ml"], dtype=np.uint8).tobytes()
    except Exception as error:
        raise DataError(
            f"The file holds no posterior of pmwmix. {path.name!r} could not be read ({type(error).__name__}). "
            f"Pass a file that fit.save(...) wrote."
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / "ml.npz"
        inner.write_bytes(packed)
        ml = load_fit(inner)
    parts = {name: node.to_dataset() for name, node in tree.children.items() if not name.startswith(GROUP)}
    priors = pd.DataFrame(meta["priors"], index=pd.Index(meta["parameters"], name="parameter"))
    common = {"priors": priors, "corrected": meta["corrected"], "own_notes": tuple(meta["notes"]), "how": meta["how"]}
    each: tuple[Any, ...] = ()
    if ml.n_pv > 1:
        each = tuple(build(ml=one, idata=_of_one(parts, number), **common) for number, one in enumerate(ml.fits, 1))
    return build(ml=ml, idata=xr.DataTree.from_dict(parts), each=each, **common)


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
