"""The registry of replicate types: variance multipliers, degrees of freedom, and how zones become replicates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from pmwmix._registry import Registry
from pmwmix._types import Array
from pmwmix.errors import DesignError, OptionError, near, some
from pmwmix.spec.design import Design

Factor = Callable[[int], Array]
REPLICATES = Registry("replicate type")
BY_REPLICATES = ("replicate", "replicate-one-step")  # the values of vcov that use them
LEVEL_RULES = ("constant", "mean")  # which levels' weights a factor changes


@dataclass(frozen=True)
class Method:
    """One way of making replicates.

    Parameters
    ----------
    multiplier : callable
        (R, Fay's factor, raised) -> factor of each squared deviation, a number or (R,). ``raised(r)`` gives the
        factor of the weights that replicate r raises.
    df : callable
        Multipliers (R,) -> degrees of freedom.
    build : callable or None
        (zone (n,), rep (n,), Fay's factor) -> (R, function r -> factors (n,)); None if only columns will do.
    """

    multiplier: Callable[[int, float, Callable[[int], float]], Any]
    df: Callable[[Array], float]
    build: Callable[[Array, Array, float], tuple[int, Factor]] | None = None


def _halves(zone: Array, rep: Array, fay: float) -> tuple[int, Factor]:
    """Double the half of a zone with rep 1 and leave out the other, one zone at a time (replicates, eq. 6)."""
    return int(zone.max()) + 1, lambda r: np.where(zone == r, 2.0 * rep, 1.0)


def _both_halves(zone: Array, rep: Array, fay: float) -> tuple[int, Factor]:
    """As `_halves`, then the same with the halves exchanged."""
    n = int(zone.max()) + 1
    return 2 * n, lambda r: np.where(zone == r % n, 2.0 * (rep if r < n else 1.0 - rep), 1.0)


def _balanced(zone: Array, rep: Array, fay: float) -> tuple[int, Factor]:
    """Choose a half of every zone by a Hadamard matrix (replicates, eq. 7)."""
    R = 1 << int(zone.max() + 1).bit_length()
    signs = scipy.linalg.hadamard(R)
    return R, lambda r: 1.0 + (1.0 - fay) * signs[r, zone + 1] * (2.0 * rep - 1.0)


def _leave_one(zone: Array, rep: Array, fay: float) -> tuple[int, Factor]:
    """Leave out one unit at a time; the others of its zone make up for it (replicates, eq. 8)."""
    units, unit = np.unique(np.stack([zone, rep]), axis=1, return_inverse=True)
    home = units[0].astype(np.int64)
    n = np.bincount(home)

    def factor(r: int) -> Array:
        inside = zone == home[r]
        return np.where(unit == r, 0.0, np.where(inside, n[home[r]] / max(n[home[r]] - 1.0, 1.0), 1.0))

    return len(home), factor


def _stratum_share(R: int, fay: float, raised: Callable[[int], float]) -> Array:
    """(n - 1) / n of the stratum that replicate r takes its unit from, read off the factor n / (n - 1) of the rest."""
    n = np.array([max(np.round(u / (u - 1.0)), 2.0) if (u := raised(r)) > 1.0 else np.inf for r in range(R)])
    return np.where(np.isinf(n), 1.0, 1.0 - 1.0 / n)


def _count(multiplier: Array) -> float:
    return float(len(multiplier))


def _less_one(multiplier: Array) -> float:
    return len(multiplier) - 1.0


# name -> variance multiplier (replicates, eqs. 2-5), degrees of freedom, replicates from zones
REPLICATES.add("brr", Method(lambda R, fay, raised: 1.0 / R, _count, lambda z, rep, fay: _balanced(z, rep, 0.0)))
REPLICATES.add("fay", Method(lambda R, fay, raised: 1.0 / (R * (1.0 - fay) ** 2), _count, _balanced))
REPLICATES.add("jk1", Method(lambda R, fay, raised: (R - 1.0) / R, _less_one, _leave_one))
REPLICATES.add("jk2", Method(lambda R, fay, raised: 1.0, _count, _halves))
REPLICATES.add("jk2-two-sided", Method(lambda R, fay, raised: 0.5, lambda m: len(m) / 2.0, _both_halves))
REPLICATES.add("jkn", Method(_stratum_share, lambda m: float(m.sum()), _leave_one))
REPLICATES.add("bootstrap", Method(lambda R, fay, raised: 1.0 / R, _less_one))


def has_replicates(design: Design) -> bool:
    """Whether the design describes replicates, as columns or as zones."""
    return design.replicate_weights is not None or design.zone is not None


def check_replicates(design: Design) -> None:
    """Refuse names and options that contradict each other, before any data are read.

    Raises
    ------
    DesignError, OptionError
    """
    if not has_replicates(design):
        raise DesignError(
            "A replicate variance needs replicates. The design names neither replicate_weights= nor zone=. "
            "Write design=pmwmix.Design(replicate_weights='W_FSTR{}', replicate_type='fay', fay=0.5)."
        )
    kind, fay, known = design.replicate_type, design.fay, list(REPLICATES)
    if design.sampling_variance not in (None, "average", "first"):
        raise OptionError(
            f"The sampling variance is averaged over plausible values or that of the first. Got "
            f"sampling_variance={design.sampling_variance!r}. Use 'average' or 'first'."
        )
    if design.replicate_levels not in (None, *LEVEL_RULES):
        raise OptionError(
            f"A replicate's factor goes to the units inside which it is constant, or to all levels by their means. Got "
            f"replicate_levels={design.replicate_levels!r}. Use 'constant' or 'mean'."
        )
    if kind not in known:
        said = f"Unknown replicate type {kind!r}.{near(str(kind), known)}" if kind else "The replicate type is missing."
        raise OptionError(f"{said} Found in the design. Use one of {some(known, 9)}.")
    if kind == "fay" and fay is None:
        raise OptionError("Fay replicates have a factor. The design has fay=None. Write fay=0.5 for PISA or TALIS.")
    if fay is not None and (isinstance(fay, bool) or not isinstance(fay, int | float) or not 0 <= fay < 1):
        raise OptionError(f"Fay's factor is at least 0 and below 1. Got fay={fay!r}. PISA and TALIS have fay=0.5.")
    if kind != "fay" and fay:
        raise OptionError(
            f"Only Fay replicates have a factor. Got fay={fay!r} with replicate_type={kind!r}. "
            f"Leave fay out or write replicate_type='fay'."
        )
    _check_zone(design, kind)


def _check_zone(design: Design, kind: str) -> None:
    """Refuse columns and zones that contradict each other or the type."""
    if design.replicate_weights is not None and design.zone is not None:
        raise DesignError(
            f"Replicates are columns or made from zones. The design has replicate_weights={design.replicate_weights!r} "
            f"and zone={design.zone!r}. Leave one out."
        )
    if design.zone is not None and REPLICATES[kind].build is None:
        raise DesignError(
            f"Replicates of type {kind!r} are not made from zones. The design has zone={design.zone!r}. "
            f"Give their columns as replicate_weights=."
        )
    if design.zone is not None and (design.rep is None) != (kind == "jk1"):
        what = "leave rep= out: zone= names the units" if kind == "jk1" else "name the column of the halves or units"
        raise DesignError(
            f"Zones of type {kind!r} go with their own columns. The design has zone={design.zone!r}, "
            f"rep={design.rep!r}. Please {what}."
        )
