"""How much memory is left, asked before a computation that would not fit."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

GIB = float(2**30)
_TRIM, _MAPPED = -1, -3  # options of mallopt
_kept = False
_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def bytes_left() -> float:
    """Give the bytes that this process can still take: of the machine and, on Linux, of the container it is in.

    Infinite where the system does not say.
    """
    return min(_left_on_machine(), _left_in_container())


def _left_on_machine() -> float:
    if _MEMINFO.exists():
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    try:  # what is free is not known: what there is
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _left_in_container() -> float:
    try:
        most = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
    except OSError:
        return float("inf")
    if most == "max":
        return float("inf")
    return float(int(most) - used + int(stat.get("inactive_file", 0)))  # cached files make room


def keep_freed() -> None:
    """Keep what was freed for the next evaluation, in processes that were told to give it back at once.

    Workers of Dask are told so by the variable ``MALLOC_TRIM_THRESHOLD_``: temporary arrays of the same sizes are then
    fetched from the system page by page again and again, which takes more time than what is computed in them.
    """
    global _kept
    if _kept or sys.platform != "linux" or "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        return
    _kept = True
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:  # of glibc
        tune(_TRIM, 2**28)
        tune(_MAPPED, 2**25)
