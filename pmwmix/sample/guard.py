"""Files of draws, looked at before a library opens them: what a stranger may have put there, and what is damaged.

A netCDF file ends with a digest of the bytes before it, a zarr store has one in its first file. HDF5 can point to other
files and promise any size; zarr names the programs that unpack it, and one of those unpickles.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

LARGEST, RATIO, DEEPEST = 2**31, 300, 4  # bytes, times the size of the file, groups within groups
SEAL = b"pmwmix sha256 "
CODECS = {"bytes", "zstd", "blosc", "gzip", "crc32c", "vlen-utf8", "transpose"}
TYPES = {"bool", "string", *(f"{k}{n}" for k in ("int", "uint") for n in (8, 16, 32, 64)), "float32", "float64"}
BLOCK = 1 << 20


class ForeignError(Exception):
    """The file holds what no posterior of ours holds, or is not as it was written; the message says what."""


# -- netCDF ---------------------------------------------------------------------------------------------------------


def seal_netcdf(path: Path) -> None:
    """Write the digest behind the end of the HDF5 file, where its library does not look."""
    digest = _digest(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(SEAL + digest.encode())


def check_netcdf(path: Path) -> None:
    """Compare the digest, if there is one, and walk through groups and data sets.

    Raises
    ------
    ForeignError
    """
    import h5py

    size, length = path.stat().st_size, len(SEAL) + 64
    with path.open("rb") as file:
        file.seek(max(size - length, 0))
        end = file.read()
    if end.startswith(SEAL) and end[len(SEAL) :].decode("ascii", "replace") != _digest(path, size - length):
        raise ForeignError("its contents are not those that were written")
    with h5py.File(path, "r") as file:
        _walk(file, size, 0, set(), h5py)


def _walk(group: Any, size: int, depth: int, met: set[Any], h5py: Any) -> int:
    """Sum the bytes that a group promises; refuse links to elsewhere and circles."""
    where = h5py.h5o.get_info(group.id).addr
    if depth > DEEPEST or where in met:
        raise ForeignError("groups that hold themselves")
    met.add(where)
    total = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ForeignError(f"{name!r}, a link to something else")
        one = group[name]
        if isinstance(one, h5py.Group):
            total += _walk(one, size, depth + 1, met, h5py)
        elif isinstance(one, h5py.Dataset):
            if one.external or one.is_virtual:
                raise ForeignError(f"{name!r}, whose data are in another file")
            total += math.prod(one.shape or ()) * one.dtype.itemsize
        if total > max(LARGEST, RATIO * size):
            raise ForeignError("more data than the file can hold")
    return total


# -- zarr -----------------------------------------------------------------------------------------------------------


def seal_zarr(path: Path) -> None:
    """Write the digest of all files into the attributes of the store."""
    first = path / "zarr.json"
    meta = json.loads(first.read_text(encoding="utf-8"))
    meta["attributes"] = {**meta.get("attributes", {}), "sha256": _digest_of_store(path)}
    first.write_text(json.dumps(meta), encoding="utf-8")


def check_zarr(path: Path) -> None:
    """Compare the digest, if there is one, and read every description of an array.

    Raises
    ------
    ForeignError
    """
    files = list(_files(path))
    size = sum(one.stat().st_size for one in files)
    total = sum(_promised(one) for one in files if one.name == "zarr.json")
    if total > max(LARGEST, RATIO * size):
        raise ForeignError("more data than the store can hold")
    given = json.loads((path / "zarr.json").read_text(encoding="utf-8")).get("attributes", {}).get("sha256")
    if given is not None and given != _digest_of_store(path):
        raise ForeignError("its contents are not those that were written")


def _files(path: Path) -> Iterator[Path]:
    for one in sorted(path.rglob("*")):
        if one.is_symlink() or not (one.is_file() or one.is_dir()):
            raise ForeignError(f"{one.name!r}, a link to something else")
        if one.name in (".zarray", ".zgroup", ".zattrs", ".zmetadata"):
            raise ForeignError("a store of zarr's second version, which could name any program to unpack it")
        if one.is_file():
            yield one


def _promised(file: Path) -> int:
    """Bytes that the array of a description promises; refuses codecs that are not on the list."""
    meta = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(meta, dict) or meta.get("zarr_format") != 3 or meta.get("storage_transformers"):
        raise ForeignError(f"{file.parent.name!r}, which is no array or group")
    if meta.get("node_type") == "group":
        return 0
    found = [meta["data_type"]["name"] if isinstance(meta["data_type"], dict) else meta["data_type"]]
    unknown = [name for name in found if name not in TYPES and name != "fixed_length_utf32"]
    unknown += [codec["name"] for codec in meta["codecs"] if codec["name"] not in CODECS]
    if unknown or meta["chunk_grid"]["name"] != "regular":
        raise ForeignError(f"{file.parent.name!r}, which is packed by {', '.join(map(str, unknown)) or 'chunks'}")
    width = 8
    if isinstance(meta["data_type"], dict):
        width = int(meta["data_type"]["configuration"]["length_bytes"])
    chunk = math.prod(int(n) for n in meta["chunk_grid"]["configuration"]["chunk_shape"])
    return max(math.prod(int(n) for n in meta["shape"]), chunk) * width


def _digest_of_store(path: Path) -> str:
    total = hashlib.sha256()
    for one in _files(path):
        if one == path / "zarr.json":
            meta = json.loads(one.read_text(encoding="utf-8"))
            meta["attributes"] = {k: v for k, v in meta.get("attributes", {}).items() if k != "sha256"}
            content = json.dumps(meta, sort_keys=True).encode()
        else:
            content = one.read_bytes()
        total.update(f"{one.relative_to(path).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def _digest(path: Path, size: int) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(BLOCK, size))):
            total.update(block)
            size -= len(block)
    return total.hexdigest()


# -- what was read --------------------------------------------------------------------------------------------------


def check_draws(parts: dict[str, Any], parameters: list[str], ml: Any) -> None:
    """Require the groups, variables and sizes that a posterior answers from.

    Parameters
    ----------
    parts : dict of Dataset
    parameters : list of str
        Names of those that have priors.
    ml : FitResult
        The fit by maximum likelihood in the same file.

    Raises
    ------
    ForeignError
    """
    needed = ["beta", *(["sd", "vcov"] if len(ml.n_groups) else [])]
    needed += ["sigma"] if "Residual" in ml.varcorr["grp"].tolist() else []
    for name, wanted in (("posterior", needed), ("sample_stats", []), ("observed_data", ["y"])):
        if name not in parts or any(one not in parts[name].data_vars for one in wanted):
            raise ForeignError(f"no {name!r} with {', '.join(wanted) or 'draws'}")
    for name, part in parts.items():
        _check_part(name, part)
    draws, sizes = parts["posterior"]["beta"], parts["observed_data"].sizes
    if draws.dims != ("chain", "draw", "term") or draws.coords["term"].values.tolist() != list(ml.coef.index):
        raise ForeignError("draws of other terms than the fit has")
    if sizes.get("obs") != ml.nobs or sizes.get("pv", 1) != ml.n_pv:
        raise ForeignError("an outcome of other rows than the fit has")
    if ml.n_pv > 1:
        for name in ("posterior", "sample_stats", "observed_data"):
            numbers = parts[name].coords.get("pv")
            if numbers is None or set(np.unique(numbers).tolist()) != set(range(1, ml.n_pv + 1)):
                raise ForeignError("draws that do not say of which plausible value they are")
    if len(set(parameters)) < len(parameters):
        raise ForeignError("a parameter twice")


def _check_part(name: str, part: Any) -> None:
    """Require numbers, their labels, and chains and draws where there are draws."""
    if name.startswith(("posterior", "sample_stats", "prior")) and not {"chain", "draw"} <= set(part.sizes):
        raise ForeignError(f"{name!r} without chains and draws")
    if any(dim not in part.coords for dim in part.dims) or 0 in part.sizes.values():
        raise ForeignError(f"{name!r} with sizes that have no labels")
    for column, values in part.variables.items():
        is_label = column in part.coords
        if values.dtype.kind not in "biuf" and not (is_label and (values.dtype.kind in "UT" or _is_text(values))):
            raise ForeignError(f"{column!r} of {values.dtype}")


def _is_text(values: Any) -> bool:
    return all(isinstance(one, str) for one in np.asarray(values).ravel().tolist())
