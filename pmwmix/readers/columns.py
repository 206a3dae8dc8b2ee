"""Which columns are wanted, and how files spell them: names match whatever their case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pmwmix.errors import MissingColumnsError, OptionError, near_column, some

KNOWN_IDS = {
    "country": ("CNT", "IDCNTRY", "CNTRYID", "COUNTRY", "CNTRY"),
    "school": ("CNTSCHID", "IDSCHOOL", "SCHOOLID"),
    "class": ("IDCLASS",),
    "student": ("CNTSTUID", "IDSTUD", "STIDSTD"),
    "teacher": ("CNTTCHID", "IDTEACH"),
    "link": ("IDLINK", "IDTEALIN"),
}
DESIGN_FIELDS = ("weights", "replicate_weights", "strata", "psu", "fpc", "zone", "rep")


def find(name: str, names: Iterable[str]) -> str | None:
    """Find a column as the file spells it.

    Examples
    --------
    >>> find("escs", ["CNT", "ESCS"])
    'ESCS'
    """
    listed = list(names)
    if name in listed:
        return name
    return next((one for one in listed if one.lower() == name.lower()), None)


def expand(name: str, names: Sequence[str]) -> list[str]:
    """Columns of a template such as ``"PV{}MATH"`` in order of their number, or the column itself if it is there."""
    if "{}" not in name:
        found = find(name, names)
        return [] if found is None else [found]
    before, _, after = name.partition("{}")
    pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after), re.IGNORECASE)
    numbered = [(int(match[1]), one) for one in names if (match := pattern.fullmatch(one))]
    return [one for _, one in sorted(numbered)]


def _as_asked(name: str, found: Sequence[str]) -> list[tuple[str, str]]:
    """Pair columns with the spelling of the name or template that asked for them."""
    before, hole, after = name.partition("{}")
    if not hole:
        return [(one, name) for one in found]
    return [(one, before + one[len(before) : len(one) - len(after)] + after) for one in found]


def id_names(preset: Any) -> dict[str, tuple[str, ...]]:
    """Candidate columns of every kind of unit, the preset's own first."""
    own = getattr(preset, "ids", None) or {}
    return {kind: tuple(dict.fromkeys([*_tokens(own.get(kind, "")), *known])) for kind, known in KNOWN_IDS.items()}


def design_columns(preset: Any) -> list[str]:
    """Columns and templates of weights, replicates, strata and ids that a preset names, alternatives included."""
    if preset is None:
        return []
    specs = [getattr(preset, name, None) for name in DESIGN_FIELDS]
    specs += [getattr(preset, "ids", None), list(getattr(preset, "choices", None) or {})]
    specs += [list(getattr(preset, "method_columns", None) or ()), getattr(preset, "outcome", None)]
    return list(dict.fromkeys(token for spec in specs for token in _tokens(spec)))


def _of_weights(preset: Any, chosen: Iterable[str]) -> list[str]:
    """Replicates, strata and PSU that are named after a weight which was asked for."""
    patterns = getattr(preset, "replicates_by_weight", None) or {}
    out = []
    for name in chosen:
        found = next((m.expand(t) for p, t in patterns.items() if (m := re.fullmatch(p, name, re.IGNORECASE))), None)
        if found is not None:
            said = [text for text in (preset.strata, preset.psu) if text]
            out += [found, *_tokens([text.replace("{weight}", name) for text in said])]
    return out


def pv_sets(preset: Any) -> dict[str, list[str]]:
    """Templates and columns of every plausible-value set of a preset."""
    return {str(name): _tokens(spec) for name, spec in (getattr(preset, "pv", None) or {}).items()}


def _tokens(spec: Any) -> list[str]:
    """Split ``"A|B*C"`` and collections of such texts into names."""
    if isinstance(spec, str):
        return [part.strip() for part in re.split(r"[|*:]", spec) if part.strip() and "{weight}" not in part]
    if isinstance(spec, Mapping):
        return [token for value in spec.values() for token in _tokens(value)]
    if isinstance(spec, Iterable):
        return [token for value in spec for token in _tokens(value)]
    return []


def wanted_columns(columns: Any, names: Sequence[str], preset: Any) -> dict[str, str]:
    """Spelling in the files to spelling in the result, of every column to read.

    Parameters
    ----------
    columns : list of str, str or None
        Columns, templates, names of the preset's plausible-value sets. None: everything.
    names : sequence of str
        All columns of all files.
    preset : Preset or None
        Adds ids, weights, replicates, strata; and all its plausible values unless ``columns`` names some.

    Raises
    ------
    OptionError, MissingColumnsError
    """
    if columns is None:
        return {name: name for name in names}
    asked = [columns] if isinstance(columns, str) else list(columns)
    wrong = [one for one in asked if not isinstance(one, str)]
    if wrong:
        raise OptionError(f"Columns are named by texts. Got {wrong[0]!r}. Write for example columns=['ESCS'].")
    sets = pv_sets(preset)
    out: dict[str, str] = {}
    missing = []
    named_pv = False
    for name in asked:
        found = expand(name, names)
        if not found and name.lower() in sets:
            found = [one for template in sets[name.lower()] for one in expand(template, names)]
        else:
            out.update({one: spelled for one, spelled in _as_asked(name, found) if one not in out})
        if not found:
            missing += sets.get(name.lower(), [name])
        named_pv |= bool(set(found) & {one for spec in sets.values() for t in spec for one in expand(t, names)})
        out.update({one: one for one in found if one not in out})
    if missing:
        raise lacking(missing, names)
    extra = (
        design_columns(preset)
        + _of_weights(preset, out)
        + ([] if named_pv else [t for spec in sets.values() for t in spec])
    )
    for name in extra:
        out.update({one: one for one in expand(name, names) if one not in out})
    return out


def lacking(missing: Sequence[str], names: Sequence[str]) -> MissingColumnsError:
    """Build the error for columns that no file has, with near names."""
    hints = "".join(dict.fromkeys(near_column(name, names, reading=True) for name in missing[:3]))
    return MissingColumnsError(
        f"The files lack columns that were asked for. Missing: {some(missing, 12)}.{hints} Names match whatever their "
        f"case; search them with pmwmix.codebook(path, 'word'). The files have {len(names)}: {some(names, 8)}."
    )
