"""Strata, PSU and replicates of a survey preset, turned into those of a table and a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.data.codes import code
from pmwmix.errors import DesignError, OptionError, some
from pmwmix.resolve.names import Names, combine, is_nested
from pmwmix.spec.randomterms import RandomTerm
from pmwmix.surveys import Preset
from pmwmix.weights.replicate_types import REPLICATES

TOGETHER = (
    "Replicate r changes zone r ({}) of every country ({}) at once: countries are independent samples, so that their "
    "variances add up; degrees of freedom are those of one country."
)
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


def replicate_design(preset: Preset, units: Units, wanted: bool) -> tuple[Preset, dict[str, pd.Series], list[str]]:
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
    dict of Series
        Columns to add to the table.
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
        said = [f"The table has the study's replicates ({there}): vcov='replicate' uses them."] if there else []
        return nothing, {}, said
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
    if by_country:
        return _by_country(found, units)
    several = found.zone is not None and units.country is not None
    return found, {}, [TOGETHER.format(zone, units.country)] if several else []


def _by_weight(preset: Preset, weight: str | None) -> str | None:
    """Template of the replicates that belong to the rows' weight."""
    for pattern, template in (preset.replicates_by_weight or {}).items():
        if weight is not None and (match := re.fullmatch(pattern, weight, re.IGNORECASE)):
            return match.expand(template)
    return None


def _by_country(preset: Preset, units: Units) -> tuple[Preset, dict[str, pd.Series], list[str]]:
    """Read the replication method, the number of replicates and Fay's factor of every country off its rows."""
    there = {name: units.names.find(name) for name in preset.method_columns}
    method, number, factor = there.values()
    if method is None:
        raise DesignError(
            f"The replication method of {preset.title} differs by country. "
            f"{units.names.missing(preset.method_columns[:1])} "
            f"Keep it when the file is read, or use vcov='robust'."
        )
    facts = {name: _numbers(units.read, name) for name in there.values() if name is not None}
    place, labels = _countries(units, len(facts[method]))
    columns = list(preset.replicate_weights or ())
    rules: list[tuple[str, int, float | None]] = []
    for c, label in enumerate(labels):
        rules.append(_rule_of(preset, facts, place == c, label, (method, number, factor), len(columns)))
    if len(set(rules)) == 1:
        kind, n_rep, fay = rules[0]
        note = f"Replication method {kind!r} ({n_rep} replicates), read from column {method!r}."
        return replace(preset, replicate_weights=columns[:n_rep], replicate_type=kind, fay=fay), {}, [note]
    extra = _common_scale(columns[: max(n for _, n, _ in rules)], rules, place, units)
    listed = "; ".join(f"{label}: {kind!r}, {n}" for label, (kind, n, _) in zip(labels, rules, strict=True))
    note = (
        f"Replication methods and numbers of replicates, read from column {method!r}: {listed}. They were brought to "
        f"one scale: deviations of a country's replicates from the full weight were multiplied by the square root of "
        f"its method's factor."
    )
    return replace(preset, replicate_weights=list(extra), replicate_type="jk2", fay=None), extra, [note]


def _rule_of(
    preset: Preset,
    facts: Mapping[str, np.ndarray],
    here: np.ndarray,
    label: object,
    there: tuple[str | None, ...],
    n_columns: int,
) -> tuple[str, int, float | None]:
    """Replication method, number of replicates and Fay's factor of one country, whose rows are ``here``."""
    codes, counts, factors = (_distinct(facts[name][here]) if name is not None else [] for name in there)
    where = "" if label is None else f" in {label}"
    if len(codes) != 1 or codes[0] not in METHODS:
        cure = "Fit one country at a time, or use vcov='robust'." if label is None else "Correct it there."
        raise OptionError(
            f"Replicates are used for one method at a time, 1 to 4. Column {there[0]!r} holds "
            f"{some(codes) or 'nothing'}{where}. {cure}"
        )
    kind = METHODS[int(codes[0])]
    if kind == "fay" and len(factors) != 1:
        raise OptionError(
            f"Fay replicates need one factor. Column {preset.method_columns[2]!r} holds "
            f"{some(factors) or 'nothing'}{where}. "
            f"Write design=pmwmix.surveys[{preset.name!r}].override(replicate_type='fay', fay=...)."
        )
    n_rep = min(int(counts[0]), n_columns) if len(counts) == 1 else n_columns
    return kind, n_rep, factors[0] if kind == "fay" else None


def _countries(units: Units, n: int) -> tuple[np.ndarray, list[object]]:
    """Country of every row and the countries; one without a name if the table does not have several."""
    if units.country is None:
        return np.zeros(n, dtype=np.int64), [None]
    index, labels = code([units.read([units.country])[units.country]])
    return index, [f"{label:g}" if isinstance(label, float) else label for label in labels]


def _common_scale(
    columns: Sequence[str], rules: Sequence[tuple[str, int, float | None]], place: np.ndarray, units: Units
) -> dict[str, pd.Series]:
    """Replicate weights whose squared deviations all count once.

    ``w + sqrt(c) (w_r - w)``, with the factor c of a country's method (replicates, eqs. 2-4): deviations of a country
    enter a variance as c times their square would, to first order. A country without replicate r keeps its weight.
    """
    if units.weight is None:
        raise DesignError(
            "Replicates of several methods are brought to one scale around the rows' weight. The call gives the rows "
            "no weight. Write weights=[...] with that of the rows first, or fit one country at a time."
        )
    full = units.read([units.weight])[units.weight].to_numpy(dtype=float)
    scale = np.zeros(len(rules) + 1)  # the last for rows without a country
    n_rep = np.zeros(len(rules) + 1)
    for c, (kind, n, fay) in enumerate(rules):
        scale[c] = np.sqrt(float(REPLICATES[kind].multiplier(n, fay or 0.0, lambda r: 1.0)))
        n_rep[c] = n
    out = {}
    for r, (name, column) in enumerate(units.read(list(columns)).items()):
        moved = full + scale[place] * (column.to_numpy(dtype=float) - full)
        made = f"{name} (one scale)"
        out[made] = pd.Series(np.where(r < n_rep[place], moved, full), name=made)
    return out


def _numbers(read: Read, name: str) -> np.ndarray:
    """Values of a column (n,), those that are no numbers missing."""
    return pd.to_numeric(read([name])[name].astype(object), errors="coerce").to_numpy(dtype=float)


def _distinct(values: np.ndarray) -> list[float]:
    return [float(value) for value in np.unique(values[~np.isnan(values)])]
