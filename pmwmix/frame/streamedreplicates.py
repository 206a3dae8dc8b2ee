"""Replicate weights of data that are read piece by piece: factors of whole top-level units, found in one more pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import code
from pmwmix.data.table import plain
from pmwmix.errors import DesignError, NotSupportedError, some
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.frame.replicates import (
    CONSTANT_RTOL,
    FOREIGN,
    ReplicateScheme,
    ZoneFactors,
    multiplier_of,
    replicate_names,
    scale_of_used,
    zone_and_rep,
)
from pmwmix.frame.streamed import Streamed
from pmwmix.spec.design import Design
from pmwmix.weights.replicate_types import REPLICATES, check_replicates
from pmwmix.weights.scaling import SCALINGS, resolve_scaling

TOP, PLACE = " top", " place"  # columns beside those of the data


@dataclass(frozen=True)
class UnitFactors:
    """Factors r -> (G_L,) of the top-level units: replicate weights over full weights.

    Parameters
    ----------
    values : ndarray, shape (R, G_L)
    """

    values: Array

    def __call__(self, r: int) -> Array:
        """Give the factors of replicate ``r``."""
        found: Array = self.values[r]
        return found


class UnitScheme(ReplicateScheme):
    """Replicates in which nothing below the top-level units changes."""

    def weights(self, r: int) -> tuple[Array, ...]:
        """Scaled conditional weights of every level in replicate ``r``, rows first (replicates, eqs. 9-10)."""
        full = self.frame.w
        return (*full[:-1], full[-1] * self.factors(r))


def read_streamed_replicates(design: Design, frame: ModelFrame) -> ReplicateScheme:
    """Read the replicates of a frame without rows.

    Parameters
    ----------
    design : Design
    frame : ModelFrame

    Returns
    -------
    ReplicateScheme

    Raises
    ------
    DesignError
        As `read_replicates`.
    NotSupportedError
        If replicates change the weights inside top-level units.
    """
    check_replicates(design)
    scale = resolve_scaling(design.scaling)[1]
    if design.replicate_levels == "mean" or scale not in SCALINGS.values():
        raise NotSupportedError(
            f"Replicates of streamed data change whole units of the top level. The design has replicate_levels="
            f"{design.replicate_levels!r}. Leave it out, use vcov='robust', or fit a table in memory."
        )
    if not any(frame.weight_columns):
        raise DesignError(
            "Replicate weights belong to a sampling weight. The call has no weights. Add weights=['W_FSTUWT', ...]."
        )
    empty: list[str] = []
    if design.zone:
        values = _from_zones(design, frame)
    else:
        names = replicate_names(design, frame.stream.source)
        values, empty = _factors(names, frame)
        design = scale_of_used(design, [name not in empty for name in names])
    if len(values) < 2:
        raise DesignError(
            f"A replicate variance needs two replicates. There is {len(values)}. Check the replicates' columns."
        )
    factors, kind = UnitFactors(values), str(design.replicate_type)
    multiplier = multiplier_of(design, len(values), factors)
    notes = (f"{len(values)} replicates: {some(empty)} are empty in these rows.",) if empty else ()
    first = design.sampling_variance == "first"
    df = REPLICATES[kind].df(multiplier)
    return UnitScheme(kind, multiplier, df, factors, frame.cond, scale, frame, first, False, notes)


def _factors(names: Sequence[str], frame: ModelFrame) -> tuple[Array, list[str]]:
    """Factors (R, G_L) of the replicates that the rows have, and the names of those that are empty."""
    stream: Streamed = frame.stream
    unit, shape = _top_of(frame), (len(names), frame.hierarchy.levels[-1].n)
    mass, low, high = np.zeros(shape), np.full(shape, np.inf), np.zeros(shape)
    missing = np.zeros(len(names), dtype=np.int64)
    for piece in stream.columns_of(names):
        top = unit[np.repeat(piece.units, np.diff(piece.starts))]
        starts = np.flatnonzero(np.diff(top, prepend=-1))
        total = np.repeat(stream.totals[0].factor[piece.units], np.diff(piece.starts))
        total = total if piece.weight is None else total * piece.weight
        for r, name in enumerate(names):
            column = _numbers(piece.columns[name], name)
            gone = np.isnan(column)
            missing[r] += int(gone.sum())
            column = np.where(gone, 0.0, column)
            ratio = column / total
            np.add.at(mass[r], top[starts], np.add.reduceat(column, starts))
            np.minimum.at(low[r], top[starts], np.minimum.reduceat(ratio, starts))
            np.maximum.at(high[r], top[starts], np.maximum.reduceat(ratio, starts))
    used = mass.sum(axis=1) > 0
    empty = [name for name, there in zip(names, used, strict=True) if not there]
    if not used.any():
        raise DesignError(
            f"These rows have no replicate weights. All {len(names)} columns are missing or zero: {some(names)}. Check "
            f"the columns, or use vcov='robust'."
        )
    _check(
        [name for name, there in zip(names, used, strict=True) if there], missing[used], low[used], high[used], frame
    )
    weight = np.bincount(unit, stream.totals[0].total, minlength=shape[1])
    _check_sum(mass[used], weight, frame)
    return mass[used] / weight, empty


def _top_of(frame: ModelFrame) -> Array:
    """Top-level unit of every lowest unit (G_1,)."""
    unit = np.arange(frame.hierarchy.levels[0].n)
    for parent in frame.hierarchy.parents:
        unit = parent[unit]
    return unit


def _from_zones(design: Design, frame: ModelFrame) -> Array:
    """Factors (R, G_L) of replicates made from zones, which are counted over all rows of the source."""
    stream, top = frame.stream, frame.hierarchy.levels[-1]
    wanted = [name for name in (design.zone, design.rep) if name is not None]
    every = _distinct(_texts(piece.columns, wanted) for piece in stream.source.pieces(wanted, "zone, rep"))
    unit = _top_of(frame)
    mine = _distinct(
        _texts(piece.columns, wanted).assign(**{TOP: unit[np.repeat(piece.units, np.diff(piece.starts))]})
        for piece in stream.columns_of(wanted)
    )
    if mine[wanted].isna().any(axis=None):
        raise DesignError(
            f"Zones must be complete. {some(wanted)}: missing in rows of the fit. Fill them or drop those rows."
        )
    twice = mine[TOP].duplicated()
    if twice.any():
        raise NotSupportedError(
            f"Zones of streamed data hold whole units of the top level. {some(wanted)} change inside units of "
            f"{top.name!r}, among them {top.labels[int(mine[TOP][twice].iloc[0])]!r}. Use vcov='robust', or fit a "
            f"table in memory."
        )
    coded = [(name, code([plain(every[name], name)])) for name in wanted]
    known = np.all([index >= 0 for _, (index, _) in coded], axis=0)
    zone, rep = zone_and_rep(design, coded, known)
    factors = ZoneFactors(str(design.replicate_type), zone, rep, design.fay or 0.0, np.arange(len(zone)))
    places = every[known].reset_index(drop=True).assign(**{PLACE: np.arange(len(zone))})
    at = mine.merge(places, on=wanted, how="left").set_index(TOP)[PLACE].sort_index().to_numpy()
    return np.array([factors(r)[at] for r in range(factors.n_rep)])


def _texts(columns: Mapping[str, pd.Series], names: Sequence[str]) -> pd.DataFrame:
    """Columns with categories as plain values."""
    return pd.DataFrame(
        {name: columns[name].astype(object if columns[name].dtype != float else float) for name in names}
    )


def _distinct(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Rows of some tables, each once."""
    found = pd.DataFrame()
    for part in parts:
        found = pd.concat([found, part.drop_duplicates()], ignore_index=True).drop_duplicates(ignore_index=True)
    return found


def _numbers(column: pd.Series, name: str) -> Array:
    values = column.to_numpy() if column.dtype.kind == "f" else np.full(len(column), np.inf)
    if np.isinf(values).any() or (values < 0).any():
        raise DesignError(
            f"Replicate weights are numbers, complete and not negative. 1 column is not: {name!r}. Correct them, or "
            f"leave them out."
        )
    return values


def _check(names: Sequence[str], missing: Array, low: Array, high: Array, frame: ModelFrame) -> None:
    if missing.any():
        r = int(np.flatnonzero(missing)[0])
        raise DesignError(
            f"Replicate weights are numbers, complete and not negative. {int((missing > 0).sum())} of {len(names)} "
            f"columns are not: {names[r]!r} is missing in {int(missing[r])} of {frame.n} rows. Fill them, or stream "
            f"each country by itself."
        )
    varies = (high - low > CONSTANT_RTOL * high).sum(axis=1)
    if varies.any():
        r, top = int(np.flatnonzero(varies)[0]), frame.hierarchy.levels[-1]
        raise NotSupportedError(
            f"Replicates of streamed data change the weights of whole units of the top level, {top.name!r}. "
            f"{names[r]!r} changes them inside {int(varies[r])} of {top.n} units. Use vcov='robust', or fit a table in "
            f"memory."
        )


def _check_sum(mass: Array, weight: Array, frame: ModelFrame) -> None:
    ratio = float(mass.sum()) / len(mass) / float(weight.sum())
    if not 1 / FOREIGN < ratio < FOREIGN:
        raise DesignError(
            f"The replicates belong to another weight. On average they sum to {ratio:.3g} times the total weights of "
            f"the rows ({frame.weight_columns[0]!r}). Give the weight that they were made from as the first of weights."
        )
