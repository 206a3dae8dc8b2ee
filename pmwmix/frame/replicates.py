"""Replicate weights: columns or zones -> factors of every row -> the weights of all levels of every replicate.

Nothing is fitted here; `refits` does that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.data.codes import code
from pmwmix.data.pvsets import expand_pv
from pmwmix.data.table import Table
from pmwmix.errors import DesignError, OptionError, PmwmixError, some
from pmwmix.frame.hierarchy import Hierarchy
from pmwmix.frame.levelweights import scale_of, weigh
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.spec.design import Design
from pmwmix.weights.conditional import total_weights
from pmwmix.weights.replicate_types import REPLICATES, Factor, check_replicates
from pmwmix.weights.scaling import SCALINGS

CONSTANT_RTOL = 1e-3  # replicate weights are rounded when they are stored
FOREIGN = 2.0  # replicate weights whose sum is off by this factor do not belong to the full weight


@dataclass(frozen=True)
class ColumnFactors:
    """Factors r -> (n,) of replicate columns: replicate weight over total weight of the rows. Pickles, as fits must.

    Parameters
    ----------
    columns : tuple of ndarray, each (n,)
    w_total : ndarray, shape (n,)
    """

    columns: tuple[Array, ...]
    w_total: Array

    def __call__(self, r: int) -> Array:
        """Give the factors of replicate ``r``."""
        return self.columns[r] / self.w_total


class ZoneFactors:
    """Factors r -> (n,) of replicates made from zones, built again where a pickled one is loaded.

    Parameters
    ----------
    kind : str
        Name in `REPLICATES`.
    zone, rep : ndarray, shape (n_known,)
    fay : float
    place : ndarray of int, shape (n,)
        Used rows among those with a zone.
    """

    def __init__(self, kind: str, zone: Array, rep: Array, fay: float, place: Array) -> None:
        self._given = (kind, zone, rep, fay, place)
        build = REPLICATES[kind].build
        assert build is not None  # `check_replicates` has seen to it
        self.n_rep, self._factor = build(zone, rep, fay)

    def __call__(self, r: int) -> Array:
        """Give the factors of replicate ``r``."""
        return self._factor(r)[self._given[-1]]

    def __reduce__(self) -> tuple[Any, ...]:
        return ZoneFactors, self._given


@dataclass(frozen=True)
class ReplicateScheme:
    """Replicates of one frame: factors of the rows, and how squared deviations become a variance.

    Parameters
    ----------
    kind : str
        Name in `REPLICATES`.
    multiplier : ndarray, shape (R,)
        c_r of replicates, eq. 1.
    df : float
    factors : callable
        r -> factor (n,) of every used row: replicate weight over full weight.
    cond : tuple of ndarray
        Conditional weights of the full sample before scaling, rows first.
    scale : callable
        Entry of `SCALINGS` or the caller's own.
    frame : ModelFrame
    first_only : bool
        The variance of the first plausible value stands for all.
    by_means : bool
        The factor of a unit is the mean of its rows' (`split_factor`).
    notes : tuple of str
        What the summary should say: replicates that these rows do not have.
    """

    kind: str
    multiplier: Array
    df: float
    factors: Factor
    cond: tuple[Array, ...]
    scale: Callable[..., Any]
    frame: ModelFrame
    first_only: bool = False
    by_means: bool = False
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> tuple[str, int, float]:
        """Type, number and degrees of freedom, for `Settings`."""
        return self.kind, self.n_rep, self.df

    @property
    def n_rep(self) -> int:
        """Number of replicates R."""
        return len(self.multiplier)

    def serves(self, frame: ModelFrame) -> bool:
        """Whether a frame, perhaps a changed one, still has the levels and weights of these replicates."""
        return frame.hierarchy is self.frame.hierarchy and frame.w is self.frame.w

    def weights(self, r: int) -> tuple[Array, ...]:
        """Scaled conditional weights of every level in replicate ``r``, rows first (replicates, eqs. 9-10).

        Notes
        -----
        Rows and units with factor 0 keep their place with weight 0; what stands below such a unit keeps the weight of
        the full sample, which then counts for nothing.
        """
        hierarchy, full = self.frame.hierarchy, self.frame.w
        w_total = total_weights(self.cond, hierarchy.row_parents)[0]
        parts, active = split_factor(self.factors(r), w_total, hierarchy, self.by_means)
        if self.scale in SCALINGS.values() and all(np.all(part == 1.0) for part in parts[:-1]):
            return (*full[:-1], full[-1] * parts[-1])
        parents = hierarchy.row_parents
        place = [np.cumsum(a) - 1 for a in active]
        cond = tuple((c * f)[a] for c, f, a in zip(self.cond, parts, active, strict=True))
        links = tuple(place[i + 1][parent[active[i]]] for i, parent in enumerate(parents))
        scaled = self.scale(cond, links)
        out = []
        for level, (w, a) in enumerate(zip(full, active, strict=True)):
            above = np.ones(len(w), dtype=bool) if level == len(full) - 1 else active[level + 1][parents[level]]
            new = np.where(above, 0.0, w)
            new[a] = scaled[level]
            out.append(new)
        return tuple(out)


def split_factor(
    f: Array, w_total: Array, hierarchy: Hierarchy, by_means: bool = False
) -> tuple[list[Array], list[Array]]:
    """Give the factor to the highest unit inside which it is constant (replicates, eq. 9), or to all levels (eq. 14).

    Parameters
    ----------
    f, w_total : ndarray, shape (n,)
        Factor and total weight of every row.
    hierarchy : Hierarchy
    by_means : bool
        The factor of a unit is the mean of its rows', and conditional weights get its ratio to that of the unit above.
        The same where the factor is constant inside top-level units.

    Returns
    -------
    list of ndarray
        Factor of every level's conditional weights, rows first; their product down to a row is its factor.
    list of ndarray of bool
        Which rows and units stay in the replicate.
    """
    if not hierarchy.levels:
        return [f], [f > 0]
    rows = slice(None) if hierarchy.order is None else hierarchy.order
    low = high = f[rows]
    weight = w_total[rows]
    mass = weight * low
    edges = [hierarchy.starts[:-1], *(np.flatnonzero(np.diff(p, prepend=-1)) for p in hierarchy.parents)]
    even, mean, active = [], [], [f > 0]
    for starts in edges:
        low, high = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
        mass, weight = np.add.reduceat(mass, starts), np.add.reduceat(weight, starts)
        even.append(high - low <= CONSTANT_RTOL * high)
        mean.append(mass / weight)
        active.append(high > 0)
    parts: list[Array] = []
    done, above = np.zeros(len(even[-1]), dtype=bool), np.ones(len(even[-1]))
    for level in reversed(range(len(even))):
        given = ~done if by_means else even[level] & ~done
        parts.insert(0, np.divide(mean[level], above, out=np.ones_like(above), where=given))
        parent = hierarchy.row_parents[level]
        done, above = (done | even[level])[parent], (above * parts[0])[parent]
    return [np.divide(f, above, out=np.ones_like(above), where=~done), *parts], active


def read_replicates(design: Design, table: Table, frame: ModelFrame) -> ReplicateScheme:
    """Read the replicates of the rows that the frame uses.

    Parameters
    ----------
    design : Design
        Checked by `check_replicates`, with the call's own weights, conditional and scaling.
    table : Table
    frame : ModelFrame

    Returns
    -------
    ReplicateScheme

    Raises
    ------
    DesignError
        If there are no weights, or replicates are missing, negative, too few or those of another weight.
    """
    check_replicates(design)
    own = [name for name in frame.weight_columns if name is not None]
    if not own:
        raise DesignError(
            "Replicate weights belong to a sampling weight. The call has no weights. Add weights=['W_FSTUWT', ...]."
        )
    full = {name: series.take(_rows(frame, len(series))) for name, series in table.columns(own, "weights").items()}
    scale = scale_of(design, frame.hierarchy)[1]
    given = (frame.weight_columns, full, frame.hierarchy, bool(design.conditional), scale)
    cond = whole = weigh(*given)[0]
    if design.trim is not None:  # replicate columns were not trimmed
        cond = weigh(*given, design.trim)[0]
    w_total = total_weights(whole, frame.hierarchy.row_parents)[0]
    empty: list[str] = []
    if design.zone:
        R, factors = _from_zones(design, table, frame)
    else:
        names, columns, empty = _filled_columns(design, table, frame)
        R, factors = len(names), _from_columns(names, columns, table, frame, w_total)
        design = scale_of_used(design, [name not in empty for name in replicate_names(design, table)])
    if R < 2:
        raise DesignError(f"A replicate variance needs two replicates. There is {R}. Check the replicates' columns.")
    multiplier, kind = multiplier_of(design, R, factors), str(design.replicate_type)
    notes = (f"{R} replicates: {some(empty)} are empty in these rows.",) if empty else ()
    first = design.sampling_variance == "first"
    means = design.replicate_levels == "mean"
    return ReplicateScheme(
        kind, multiplier, REPLICATES[kind].df(multiplier), factors, cond, scale, frame, first, means, notes
    )


def multiplier_of(design: Design, R: int, factors: Factor) -> Array:
    """Give the multipliers c_r of the replicates (R,)."""

    def raised(r: int) -> float:
        f = factors(r)
        above = f[f > 1.0 + CONSTANT_RTOL]
        return float(np.median(above)) if len(above) else 1.0

    given = design.replicate_scale
    chosen = (
        given if given is not None else REPLICATES[str(design.replicate_type)].multiplier(R, design.fay or 0.0, raised)
    )
    values = np.asarray(chosen, dtype=float)
    if values.shape not in ((), (R,)) or not (np.isfinite(values).all() and (values > 0).all()):
        raise OptionError(
            f"A replicate scale is positive: one number, or one per replicate. Got {given!r} for {R} replicates. "
            f"Leave it out to have that of replicate_type."
        )
    return np.array(np.broadcast_to(values, R))


def _rows(frame: ModelFrame, n: int) -> Array:
    return np.arange(n) if frame.kept is None else frame.kept


def replicate_names(design: Design, table: Any) -> list[str]:
    """Columns of the replicates, of a table or of whatever else has ``names``."""
    spec: Any = design.replicate_weights
    return _expand([spec] if isinstance(spec, str) and "{}" not in spec else spec, table.names)


def _filled_columns(design: Design, table: Table, frame: ModelFrame) -> tuple[list[str], list[Array], list[str]]:
    """Replicates that the rows in use have, and the names of those that are missing or zero in all of them.

    Countries have different numbers of replicates; in a stacked table the columns of the others are empty.
    """
    names = replicate_names(design, table)
    columns = [series.to_numpy() for series in table.columns(names, "replicate weights").values()]
    rows = _rows(frame, table.n_rows)
    empty = [name for name, column in zip(names, columns, strict=True) if _is_empty(column[rows])]
    if len(empty) == len(names):
        raise DesignError(
            f"These rows have no replicate weights. All {len(names)} columns are missing or zero: {some(names)}. Check "
            f"the columns, or use vcov='robust'."
        )
    there = [k for k, name in enumerate(names) if name not in set(empty)]
    return [names[k] for k in there], [columns[k] for k in there], empty


def scale_of_used(design: Design, used: Sequence[bool]) -> Design:
    """Keep the multipliers of the replicates in use, where one was given for each."""
    given = design.replicate_scale
    if given is None or np.shape(given) != (len(used),):
        return design
    return replace(design, replicate_scale=np.asarray(given, dtype=float)[np.asarray(used)].tolist())


def _from_columns(
    names: Sequence[str], columns: Sequence[Array], table: Table, frame: ModelFrame, w_total: Array
) -> Factor:
    rows = _rows(frame, table.n_rows)
    wrong = [name for name, column in zip(names, columns, strict=True) if not _are_weights(column, rows)]
    if wrong:
        raise DesignError(
            f"Replicate weights are numbers, complete and not negative. {len(wrong)} of {len(names)} columns are not: "
            f"{some(wrong)}. {_cure(dict(zip(names, columns, strict=True))[wrong[0]][rows])}"
        )
    ratio = sum(float(column[rows].sum()) for column in columns) / len(names) / float(w_total.sum())
    if not 1 / FOREIGN < ratio < FOREIGN:
        raise DesignError(
            f"The replicates belong to another weight. On average they sum to {ratio:.3g} times the total weights of "
            f"the rows ({frame.weight_columns[0]!r}). Give the weight that they were made from as the first of weights."
        )
    return ColumnFactors(tuple(columns if frame.kept is None else [column[rows] for column in columns]), w_total)


def _is_empty(used: Array) -> bool:
    return used.dtype.kind == "f" and bool(np.all(np.isnan(used) | (used == 0)))


def _cure(used: Array) -> str:
    """Say what helps against one bad column."""
    if used.dtype.kind != "f" or np.isinf(used).any() or (used < 0).any():
        return "Correct them, or leave them out."
    return (
        f"The first is missing in {int(np.isnan(used).sum())} of {len(used)} rows. Where countries have different "
        f"numbers of replicates, fit each by itself (pmwmix.fit_groups); otherwise fill them."
    )


def _are_weights(column: Array, rows: Array) -> bool:
    used = column[rows]
    return used.dtype.kind == "f" and bool(np.isfinite(used).all() and (used >= 0).all())


def _expand(spec: Any, names: Sequence[str]) -> list[str]:
    """Columns of a template or list; the messages are those of plausible values with the noun exchanged."""
    try:
        return expand_pv({"replicates": spec}, names)["replicates"]
    except PmwmixError as error:
        text = re.sub("lausible values( of 'replicates')?", "eplicate weights", str(error))
        text = text.replace("Peplicate", "Replicate").replace("peplicate", "replicate").replace("PV{}MATH", "W_FSTR{}")
        raise DesignError(text.replace("That of 'replicates'", "This one")) from error


def _from_zones(design: Design, table: Table, frame: ModelFrame) -> tuple[int, Factor]:
    """Replicates from zone and rep columns; zones are counted over all rows of the table, used or not."""
    wanted = [name for name in (design.zone, design.rep) if name is not None]
    coded = {name: code([series]) for name, series in table.columns(wanted, "zone, rep").items()}
    known = np.all([index >= 0 for index, _ in coded.values()], axis=0)
    rows = _rows(frame, table.n_rows)
    if not known[rows].all():
        raise DesignError(
            f"Zones must be complete. {some(wanted)}: missing in {int((~known[rows]).sum())} rows of the fit. "
            f"Fill them or drop those rows."
        )
    zone, rep = zone_and_rep(design, list(coded.items()), known)
    place = (np.cumsum(known) - 1)[rows]
    factors = ZoneFactors(str(design.replicate_type), zone, rep, design.fay or 0.0, place)
    return factors.n_rep, factors


def zone_and_rep(
    design: Design, coded: Sequence[tuple[str, tuple[Array, Sequence[Any]]]], known: Array
) -> tuple[Array, Array]:
    """Give zone and half, or unit, of the rows where both are known, from the columns' codes and labels.

    Raises
    ------
    DesignError
    """
    zone = coded[0][1][0][known]
    name, (rep, labels) = coded[-1]
    rep = rep[known]
    if design.replicate_type == "jk1":
        zone = np.zeros_like(zone)
    elif design.replicate_type != "jkn":
        if not set(labels) <= {0, 1}:
            raise DesignError(
                f"The halves of a zone are 0 and 1. Column {name!r} holds {some(labels)}. "
                f"Recode it: the half with 1 is doubled first."
            )
        rep = np.array(labels, dtype=float)[rep]
    return zone, rep
