"""The container of a saved fit: named arrays and one JSON text in a zip, read as if a stranger had sent it.

Nothing is unpickled, no size is believed before it is compared with the bytes that are there, and a digest over names
and contents tells a file that was damaged or altered from the one that was written.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError, FileError
from pmwmix.writing import replacing

KINDS = "biufU"  # of arrays: flags, numbers, text
LARGEST, RATIO = 2**30, 200  # bytes, and times the size of the file, that a file may unfold to
BROKEN = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, OSError, EOFError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error),
)


def write_archive(path: Path, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a file, whole or not at all.

    Raises
    ------
    FileError
        Also if a label or category of the fit cannot be written as text or a number.
    """
    try:
        text = json.dumps(meta, default=_as_json)
    except (TypeError, ValueError, RecursionError) as error:
        raise FileError(
            f"The fit cannot be saved. Something in it is neither number nor text: {error}. Make the labels of groups "
            f"and categories text, and fit again."
        ) from error
    every: dict[str, Any] = {**arrays, "meta": np.array(text)}
    every = {name: np.asarray(array) for name, array in every.items()}
    with replacing(path) as new, new.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, digest=np.array(digest_of(every)), **every)  # type: ignore[arg-type]


def _as_json(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r}")


def digest_of(arrays: Mapping[str, Array]) -> str:
    """Compute the SHA-256 of names, types, shapes and values."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name}\0{array.dtype.str}\0{arrays[name].shape}\0".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def read_archive(path: Path, formats: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read the JSON text and the arrays of a file.

    Parameters
    ----------
    path : Path
    formats : tuple of int
        Those that are known, the newest last; from the third on files have a digest.

    Raises
    ------
    DataError
        If there is no such file, it is none of ours, of a later version, damaged, or too large for the memory.
    """
    try:
        arrays = dict(_members(path))
        found = str(arrays.pop("digest", ""))
        computed = digest_of(arrays)
        meta = json.loads(str(arrays.pop("meta")))
        number = meta["format"]
    except FileNotFoundError as error:
        raise DataError(f"There is no such file. Looked for {str(path)!r}. Check the path.") from error
    except PermissionError as error:
        raise DataError(f"The file may not be read. {str(path)!r}: {error.strerror}. Check its permissions.") from error
    except MemoryError as error:
        raise DataError(
            f"The saved fit does not fit into memory. {path.name!r} has {path.stat().st_size} bytes. Read it on a "
            f"larger machine."
        ) from error
    except (*BROKEN, RecursionError) as error:
        raise DataError(
            f"The file is not a saved fit. {path.name!r} cannot be read as one. Use a file written by fit.save()."
        ) from error
    if isinstance(number, int) and number > formats[-1]:
        raise DataError(
            f"The fit was saved by a later version of pmwmix. {path.name!r} has format {number}, this version reads up "
            f"to {formats[-1]}. Update pmwmix."
        )
    if number not in formats:
        raise DataError(f"The file is not a saved fit. {path.name!r} has format {number!r}. Use one of fit.save().")
    if number >= 3 and found != computed:
        raise damaged(path, "its contents are not those that were written")
    return meta, arrays


def damaged(path: Path, what: str) -> DataError:
    """Build the error for a file of ours that is not as it was written."""
    return DataError(f"The saved fit is damaged. In {path.name!r}: {what}. Save the fit again, or use a copy.")


def _members(path: Path) -> Iterator[tuple[str, Array]]:
    with path.open("rb") as raw, zipfile.ZipFile(raw) as archive:
        infos = archive.infolist()
        if len({info.filename for info in infos}) < len(infos):
            raise ValueError("a name stands twice")
        if sum(info.file_size for info in infos) > max(LARGEST, RATIO * path.stat().st_size):
            raise ValueError("the file unfolds to more than it can hold")
        for info in infos:
            yield info.filename.removesuffix(".npy"), _array(archive, info)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """Read one array; its header must promise as many bytes as are there."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise ValueError("an unknown compression")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError("an unknown version of the array format")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(file)
        if dtype.kind not in KINDS or dtype.hasobject or dtype.shape or any(n < 0 for n in shape) or len(shape) > 8:
            raise ValueError("an array of a kind that fits do not hold")
        size = math.prod(shape) * dtype.itemsize
        if size + file.tell() != info.file_size:
            raise ValueError("an array of another size than its header says")
        return np.ndarray(shape, dtype, bytearray(file.read()), order="F" if by_columns else "C")
