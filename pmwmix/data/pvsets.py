"""Sets of plausible values: their columns, their number, what is noted about them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pmwmix.errors import DataError, OptionError, PmwmixError, missing_columns, some


def expand_pv(pv: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, list[str]]:
    """Find the columns of every plausible-value set.

    Parameters
    ----------
    pv : dict or None
        Set name to a template with one ``{}`` for the number, or to a list of columns.
    names : sequence of str
        Columns of the table.

    Returns
    -------
    dict
        Set name to its columns in order of their number.

    Raises
    ------
    OptionError, MissingColumnsError, DataError
    """
    if pv is None:
        return {}
    if not isinstance(pv, Mapping):
        raise OptionError(f'Plausible values are a dict. Got {type(pv).__name__}. Write pv={{"math": "PV{{}}MATH"}}.')
    out = {}
    for name, spec in pv.items():
        if name in names:
            raise DataError(
                f"A plausible-value set must not be called like a column. {name!r} is both. "
                f"Rename the set or the column."
            )
        out[str(name)] = _expand_one(str(name), spec, names)
    return out


def _expand_one(name: str, spec: Any, names: Sequence[str]) -> list[str]:
    if isinstance(spec, str):
        return _from_template(name, spec, names)
    if not isinstance(spec, Iterable):
        raise OptionError(f"The columns of {name!r} are a template or a list. Got {spec!r}. Write 'PV{{}}MATH'.")
    return _from_list(name, list(spec), names)


def _from_template(name: str, spec: str, names: Sequence[str]) -> list[str]:
    if spec.count("{}") != 1:
        raise OptionError(
            f"A template has exactly one {{}} where the number stands. That of {name!r} is {spec!r}. "
            f"Write for example 'PV{{}}MATH', or give a list of columns."
        )
    before, after = spec.split("{}")
    pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    pairs = [(int(match[1]), column) for column in names if (match := pattern.fullmatch(column))]
    found = dict(pairs)
    if not found:
        raise missing_columns([spec], names, f"plausible values of {name!r}")
    if len(found) < len(pairs):
        again = next(number for number, column in pairs if column != found[number])
        same = [column for number, column in pairs if number == again]
        raise DataError(
            f"Plausible values of {name!r} have number {again} twice. The columns are {some(same)}. "
            f"List the columns to use."
        )
    gaps = sorted(set(range(min(found), max(found) + 1)) - set(found))
    if gaps:
        raise DataError(
            f"Plausible values of {name!r} have gaps. Missing: {some([spec.format(g) for g in gaps])}. "
            f"Add the columns, or list those to use."
        )
    return [found[number] for number in sorted(found)]


def _from_list(name: str, columns: list[Any], names: Sequence[str]) -> list[str]:
    wrong = [column for column in columns if not isinstance(column, str)]
    if wrong:
        raise OptionError(
            f"Plausible values are named by their columns. Those of {name!r} hold {wrong[0]!r}. "
            f"Write a flat list of names, or a template such as 'PV{{}}MATH'."
        )
    missing = [column for column in columns if column not in names]
    if missing:
        raise missing_columns(missing, names, f"plausible values of {name!r}")
    twice = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
    if twice or not columns:
        raise DataError(
            f"Plausible values of {name!r} must be different columns, at least one. "
            f"Given: {some(twice or ['none'])}{' twice' if twice else ''}. List each column once."
        )
    return columns


def number_of_pv(pv: Mapping[str, Sequence[str]]) -> int:
    """Count the plausible values; sets that are used together must have the same number."""
    counts = {name: len(columns) for name, columns in pv.items()}
    if len(set(counts.values())) > 1:
        raise OptionError(
            f"Plausible-value sets used together are paired by number. Their numbers differ: "
            f"{', '.join(f'{name!r} has {count}' for name, count in counts.items())}. Give lists of equal length."
        )
    return next(iter(counts.values()), 1)


def pv_notes(sets: Mapping[str, Any] | None, used: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Say when one plausible value is among the used columns where the whole set could be."""
    notes = []
    for name, spec in (sets or {}).items():
        try:
            columns = expand_pv({name: spec}, names).get(str(name), [])
        except PmwmixError:  # sets that the formula does not use may be absent
            continue
        alone = [column for column in columns if column in used]
        if alone and len(columns) > 1:
            notes.append(
                f"Column {alone[0]!r} is one of the {len(columns)} plausible values of {name!r} and stands in the "
                f"formula alone: the standard errors leave measurement error out. Write {name!r} to use them all."
            )
    return tuple(notes)
