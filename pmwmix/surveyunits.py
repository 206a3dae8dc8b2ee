"""Strata, PSU and replicates of a survey preset, turned into those of a table and a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import DesignError, OptionError, some
from pmwmix.formula import RandomTerm
from pmwmix.hierarchy import code
from pmwmix.lookup import Names, combine, is_nested
from pmwmix.surveys import Preset

METHODS = {1: "jk1", 2: "jk2", 3: "brr", 4: "fay"}  # codes of VEMETHODN in PIAAC
Read = Callable[[Sequence[str]], dict[str, pd.Series]]


@dataclass(frozen=True)
class Units:
    """What is known of the units of a table.

    Parameters
    ----------
    names : Names
    read : callable
        Names to columns.
    unit_columns : callable
        Kind of unit to the columns that name it, its own first; empty if the table lacks them.
    country : str or None
        Column of the countries, if the table has several.
    weight : str or None
        Weight of the rows.
    """

    names: Names
    read: Read
    unit_columns: Callable[[str], tuple[str, ...]]
    country: str | None
    weight: str | None


def variance_units(
    preset: Preset, units: Units, random: Sequence[RandomTerm], own: Mapping[str, bool]
) -> tuple[Preset, dict[str, pd.Series], list[str]]:
    """Find the columns of strata and PSU that fit the model's top level.

    Parameters
    ----------
    preset : Preset
    units : Units
    random : sequence of RandomTerm
    own : dict
        Whether ``"strata"`` and ``"psu"`` are the preset's own; those that the user gave stay.

    Returns
    -------
    Preset
    dict of Series
        Columns to add to the table.
    list of str
        Notes.
    """
    psu = _columns(preset.psu, units) if own["psu"] else ()
    strata = _columns(preset.strata, units) if own["strata"] else ()
    notes = []
    if own["strata"] and preset.strata and not strata:
        notes.append(f"The strata of the preset ({_said(preset.strata, units)}) are not in the table: none are used.")
    groups = list(dict.fromkeys(tuple(sorted(term.factors)) for term in random))
    if strata and units.country is not None and units.country not in strata:
        strata = (*strata, units.country)
    if not (psu or strata):
        groups = []
    columns = units.read(list(dict.fromkeys([*psu, *strata, *(name for group in groups for name in group)])))
    gone = {name for name in (*psu, *strata) if columns[name].isna().any()}
    if gone:
        notes.append(f"Strata and PSU of the preset are not used: missing values in {some(sorted(gone))}.")
        psu = strata = ()
    coded = {part: code([columns[name] for name in part])[0] for part in {psu, strata, *groups} if part}
    highest = min(groups, key=lambda group: int(coded[group].max()), default=None)
    top = None if highest is None else coded[highest]
    if psu and top is not None and (tuple(sorted(psu)) == highest or not is_nested(top, coded[psu])):
        psu = ()  # the top level itself, or units that cut through it
    cluster = coded[psu] if psu else top
    if strata and cluster is not None and not is_nested(cluster, coded[strata]):
        notes.append(f"Strata {_name(strata)!r} cut through the units of the top level: none are used.")
        strata = ()
    changed: dict[str, Any] = {}
    extra: dict[str, pd.Series] = {}
    for field, part in (("psu", psu), ("strata", strata)):
        if own[field]:
            changed[field] = _name(part) if part else None
            if len(part) > 1:
                extra[_name(part)] = combine([columns[name] for name in part], _name(part))
    if own["strata"] and not strata:
        changed["lonely_psu"] = None
    return replace(preset, **changed), extra, notes


def _columns(said: str | None, units: Units) -> tuple[str, ...]:
    """Columns of ``"A:B"``, of ``"{weight}STR"`` or of a kind of unit; empty unless all are there."""
    if said is None:
        return ()
    if found := units.unit_columns(said):
        return found
    parts = [units.names.find(_said(part, units)) for part in said.split(":")]
    return tuple(str(part) for part in parts) if all(parts) else ()


def _said(text: str, units: Units) -> str:
    return text.replace("{weight}", units.weight or "")


def _name(columns: Sequence[str]) -> str:
    return ":".join(columns)


def replicate_design(preset: Preset, units: Units, wanted: bool) -> tuple[Preset, list[str]]:
    """Find the replicates of the preset, or leave them out where they are not asked for.

    Parameters
    ----------
    preset : Preset
    units : Units
    wanted : bool
        Whether the call asks for a replicate variance.

    Returns
    -------
    Preset
    list of str
        Notes.

    Raises
    ------
    DesignError, OptionError
        If a replicate variance is asked for and the table has none.
    """
    spec = preset.replicate_weights if preset.replicate_weights is not None else _by_weight(preset, units.weight)
    columns = units.names.expand(spec) if isinstance(spec, str) else list(spec or ())
    columns = [name for name in columns if name != units.weight]
    zone, rep = units.names.first(preset.zone), units.names.first(preset.rep)
    nothing = replace(
        preset, replicate_weights=None, zone=None, rep=None, replicate_type=None, fay=None, sampling_variance=None
    )
    if not wanted:
        there = (
            f"{len(columns)} columns {columns[0]}..." if len(columns) > 1 else f"{zone}, {rep}" if zone and rep else ""
        )
        return nothing, [
            f"The table has the study's replicates ({there}): vcov='replicate' uses them."
        ] if there else []
    if len(columns) > 1:
        found = replace(preset, replicate_weights=columns, zone=None, rep=None)
    elif zone and rep:
        found = replace(preset, replicate_weights=None, zone=zone, rep=rep)
    else:
        looked = [text for text in (spec, preset.zone, preset.rep) if isinstance(text, str)]
        raise DesignError(
            f"The table lacks the replicates of {preset.title}. {units.names.missing(looked or ['their columns'])} "
            f"Keep those columns when the file is read, or use vcov='robust'."
        )
    by_country = bool(preset.method_columns) and preset.replicate_type is None
    return _by_country(found, units) if by_country else (found, [])


def _by_weight(preset: Preset, weight: str | None) -> str | None:
    """Template of the replicates that belong to the rows' weight."""
    for pattern, template in (preset.replicates_by_weight or {}).items():
        if weight is not None and (match := re.fullmatch(pattern, weight, re.IGNORECASE)):
            return match.expand(template)
    return None


def _by_country(preset: Preset, units: Units) -> tuple[Preset, list[str]]:
    """Read the replication method, the number of replicates and Fay's factor off the rows."""
    method, number, factor = (units.names.find(name) for name in preset.method_columns)
    if method is None:
        raise DesignError(
            f"The replication method of {preset.title} differs by country. "
            f"{units.names.missing(preset.method_columns[:1])} "
            f"Keep it when the file is read, or use vcov='robust'."
        )
    codes = _values(units.read, method)
    if len(codes) != 1 or codes[0] not in METHODS:
        raise OptionError(
            f"Replicates are used for one method at a time, 1 to 4. Column {method!r} holds {some(codes)}. "
            f"Fit one country at a time, or use vcov='robust'."
        )
    kind, columns, fay = METHODS[int(codes[0])], list(preset.replicate_weights or ()), None
    if number is not None and len(counts := _values(units.read, number)) == 1:
        columns = columns[: int(counts[0])]
    if kind == "fay":
        factors = _values(units.read, factor) if factor is not None else []
        if len(factors) != 1:
            raise OptionError(
                f"Fay replicates need one factor. Column {preset.method_columns[2]!r} holds "
                f"{some(factors) or 'nothing'}. "
                f"Write design=pmwmix.surveys[{preset.name!r}].override(replicate_type='fay', fay=...)."
            )
        fay = float(factors[0])
    note = f"Replication method {kind!r} ({len(columns)} replicates), read from column {method!r}."
    return replace(preset, replicate_weights=columns, replicate_type=kind, fay=fay), [note]


def _values(read: Read, name: str) -> list[float]:
    """Distinct values of a numeric column."""
    column = read([name])[name]
    numbers = pd.to_numeric(column.astype(object), errors="coerce").to_numpy(dtype=float)
    return [float(value) for value in np.unique(numbers[~np.isnan(numbers)])]
