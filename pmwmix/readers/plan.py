"""Everything decided before data are read: files by role, columns of each, rules; every argument is checked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pmwmix.errors import FileError, OptionError, some
from pmwmix.readers.columns import id_names, wanted_columns
from pmwmix.readers.files import Stack
from pmwmix.readers.folder import companion, country_files, main_prefix, of_prefix
from pmwmix.readers.labels import read_labels
from pmwmix.readers.missing import Rules, read_rules

COMPANIONS = ("home", "school", "link", "teacher")


@dataclass(frozen=True)
class Reading:
    """Everything decided before data are read.

    Parameters
    ----------
    stacks : list of Stack
        The one whose rows become the table's first.
    wanted : list of dict
        Columns of each stack, own spelling to that of the result.
    preset : Preset or None
    survey : str or None
    ids : dict
        Candidate columns per kind of unit.
    rules : Rules
    countries : list of str or None
        None too where files are chosen by country.
    labels : (str or None, dict)
    """

    stacks: list[Stack]
    wanted: list[dict[str, str]]
    preset: Any
    survey: str | None
    ids: dict[str, tuple[str, ...]]
    rules: Rules
    countries: list[str] | None
    labels: tuple[str | None, dict[str, str]]


def plan_reading(
    path: Any, school: Any, teacher: Any, home: Any, survey: Any, countries: Any, columns: Any, labels: Any,
    missing: Any, prefix: str | None,
) -> Reading:  # fmt: skip
    """Check every argument and find files and columns; reads names and labels, no data."""
    preset = find_preset(survey)
    rules, how = read_rules(missing, preset), read_labels(labels)
    asked = _texts(countries, "countries")
    companions = {"school": school, "home": home, "teacher": teacher}
    stacks, by_file = _stacks(path, companions, asked, prefix)
    ids = id_names(preset)
    names = _distinct([name for stack in stacks for name in stack.names])
    wanted = wanted_columns(columns, names, preset)
    _check_named(how[1], wanted)
    return Reading(
        stacks=stacks,
        wanted=_by_stack(stacks, wanted, ids, everything=columns is None),
        preset=preset,
        survey=survey,
        ids=ids,
        rules=rules,
        countries=None if by_file else asked,
        labels=how,
    )


def find_preset(survey: Any) -> Any:
    """Look a preset up by name; None gives None.

    Raises
    ------
    OptionError
    """
    if survey is None:
        return None
    if not isinstance(survey, str):
        raise OptionError(
            f"A survey is named by a text. Got {type(survey).__name__} {survey!r}. Write survey='pisa-2018'."
        )
    from pmwmix.surveys import SURVEYS

    return SURVEYS[survey]


def _texts(given: Any, name: str) -> list[str] | None:
    if given is None:
        return None
    listed = [given] if isinstance(given, str) else list(given)
    if not listed or not all(isinstance(one, str | int) for one in listed):
        raise OptionError(
            f"The argument {name} lists codes. Got {given!r}. Write for example {name}=['AUT', 'NZL'], or leave it out."
        )
    return [str(one) for one in listed]


def _paths(given: Any) -> list[Path]:
    listed = [given] if isinstance(given, str | Path) else list(given)
    wrong = [one for one in listed if not isinstance(one, str | Path)]
    if wrong or not listed:
        raise OptionError(
            f"Files are named by their paths. Got {wrong[0] if wrong else given!r}. Pass a path or a list of paths."
        )
    return [Path(one) for one in listed]


def _stacks(
    path: Any, companions: Mapping[str, Any], countries: list[str] | None, prefix: str | None
) -> tuple[list[Stack], bool]:
    """Group files by role; also whether countries were chosen by file name."""
    paths = _paths(path)
    if len(paths) == 1 and paths[0].is_dir():
        return _folder_stacks(paths[0], companions, countries, prefix), True
    folders = [one for one in paths if one.is_dir()]
    if folders:
        raise FileError(
            f"A folder cannot be stacked with files. Got {len(paths)} paths, among them the folder "
            f"{folders[0].name!r}. Pass one folder, or files."
        )
    out = [Stack.of("main", paths)]
    for role in COMPANIONS:
        given = companions.get(role)
        if given is None or given is False:
            continue
        if given is True:
            raise OptionError(
                f"Beside a file, the other files are named. Got {role}=True. Write {role}='path of the {role} file'."
            )
        if role == "teacher" and isinstance(given, tuple) and len(given) == 2:
            out.append(Stack.of("link", _paths(given[0])))
            given = given[1]
        out.append(Stack.of(role, _paths(given)))
    return out, False


def _folder_stacks(
    folder: Path, companions: Mapping[str, Any], countries: list[str] | None, prefix: str | None
) -> list[Stack]:
    files = country_files(folder)
    main = main_prefix(files, prefix, folder)
    role = next(one.kind for one in files if one.prefix == main) or "students"
    chosen = of_prefix(files, main, countries)
    out = [Stack.of(role, [one.path for one in chosen])]
    mine = [one.country for one in chosen]
    there = {one.kind for one in files if one.prefix[0] == main[0]}
    plan = dict(companions)
    if plan["school"] is None:
        plan["school"] = role != "school" and "school" in there
    plan["link"] = bool(plan["teacher"]) and role == "students"
    for kind in COMPANIONS:
        found = companion(files, main, kind, plan[kind])
        if found is not None:
            here = [one for one in of_prefix(files, found, None) if one.country in mine]
            if not here:
                raise FileError(
                    f"None of the chosen countries has a {kind} file. There is no {found!r} file of "
                    f"{some([c.upper() for c in mine])}. Leave {kind} out."
                )
            out.append(Stack.of(kind, [one.path for one in here]))
    return out


def _distinct(names: Sequence[str]) -> list[str]:
    """Names without those that differ from an earlier one in case only."""
    spelled: dict[str, str] = {}
    for name in names:
        spelled.setdefault(name.lower(), name)
    return list(spelled.values())


def _check_named(labels: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    there = {name.lower() for name in (*wanted, *wanted.values())}
    absent = [name for name in labels if name not in there]
    if absent:
        raise OptionError(
            f"Columns named in labels= are not read. They are {some(absent)}. Add them to columns=, or leave them out."
        )


def _by_stack(
    stacks: Sequence[Stack], wanted: Mapping[str, str], ids: Mapping[str, Sequence[str]], everything: bool
) -> list[dict[str, str]]:
    """Give each stack its columns: the first that has one provides it; ids come from all that have them."""
    lower = {name.lower(): spelled for name, spelled in wanted.items()}
    known = {name.lower() for names in ids.values() for name in names}
    several = len(stacks) > 1
    taken: set[str] = set()
    out = []
    for stack in stacks:
        mine: dict[str, str] = {}
        for name in stack.names:
            key = name.lower()
            if key in lower and (key not in taken or key in known or everything):
                mine[name] = lower[key]
            elif several and key in known:
                mine[name] = name
        taken |= {name.lower() for name in mine}
        out.append(mine)
    return out
