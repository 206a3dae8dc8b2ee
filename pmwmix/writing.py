"""Files that are written whole or not at all: beside the old one first, then in its place."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pmwmix.errors import FileError, OptionError


def target_of(path: Any, what: str, folder: bool = False) -> Path:
    """Check the name of a file to write.

    Parameters
    ----------
    path : str or Path
    what : str
        What is written, such as ``"A fit"``.
    folder : bool
        Whether what is written is a folder that may replace one.

    Raises
    ------
    OptionError
        If it is no path, its folder does not exist, or it is a folder.
    """
    if not isinstance(path, str | os.PathLike) or "\0" in os.fspath(path):
        raise OptionError(f"{what} is saved to a path. Got {type(path).__name__} {path!r}. Pass the file's name.")
    out = Path(path)
    try:
        out.exists()
        there = out.parent.exists()
    except OSError as error:  # longer than the system takes
        raise OptionError(
            f"{what} cannot be saved under this name. {error.strerror}: {out.name!r}. Use another."
        ) from None
    if not there:
        raise OptionError(f"The folder does not exist. Asked for {str(out)!r}. Create it first.")
    if out.is_dir() and not folder:
        raise OptionError(f"{what} is saved to a file. {str(out)!r} is a folder. Add a file name to it.")
    return out


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; what stands there afterwards takes the place of ``path``.

    The old file stays as it is until the new one is complete and on the disk, whatever happens before: a full disk, an
    error, an interruption, the end of the process. Folders, such as zarr stores, are swapped by two renamings.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    new = None
    try:
        place = Path(os.path.realpath(path))  # through links, which stay
        if place.exists() and not (place.is_file() or place.is_dir()):  # a device or a pipe has no old content
            yield place
            return
        new = place.with_name(f".{secrets.token_hex(8)}.part")
        yield new
        if place.is_file():
            shutil.copymode(place, new)
        for one in sorted(new.rglob("*")) if new.is_dir() else [new]:
            _to_disk(one)
        _take_place(new, place)
        _to_disk(place.parent)
    except (OSError, MemoryError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FileError(
            f"The file could not be written. {path.name!r}: {reason}. What stood there before is untouched: free some "
            f"space or memory, or choose another place."
        ) from error
    finally:
        if new is not None:
            _remove(new)


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _take_place(new: Path, place: Path) -> None:
    if not new.is_dir():  # a file never takes a folder's place: the system refuses
        new.replace(place)
        return
    old = new.with_suffix(".old")
    if place.exists():
        place.replace(old)
    try:
        new.replace(place)
    except OSError:
        if old.exists():
            old.replace(place)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
