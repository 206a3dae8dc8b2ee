"""Folders of one file per country: ``bsgautm7.sav`` is type ``bsg``, country ``aut``, cycle ``m7`` (IEA, TALIS)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pmwmix.errors import FileError, OptionError, near, some
from pmwmix.readers.formats import ending

NAME = re.compile(r"([a-z]{3})([a-z]{3})([a-z]?\d{0,2})")
KINDS = {
    "sg": "students", "sa": "achievement", "ss": "students", "se": "students", "sl": "students", "sh": "home",
    "st": "link", "tg": "teacher", "tm": "teacher", "ts": "teacher", "cg": "school",
}  # fmt: skip
MEANING = {
    "students": "student questionnaire", "achievement": "student achievement", "home": "home questionnaire",
    "link": "student-teacher linkage", "teacher": "teacher questionnaire", "school": "school questionnaire",
}  # fmt: skip


@dataclass(frozen=True)
class CountryFile:
    """One file of such a folder."""

    path: Path
    prefix: str
    country: str
    cycle: str

    @property
    def kind(self) -> str | None:
        """What its rows are, read from the last two letters of the prefix."""
        return KINDS.get(self.prefix[1:])


def country_files(folder: Path) -> list[CountryFile]:
    """Find the files of a folder whose names follow the convention.

    Raises
    ------
    FileError
        If there is none.
    """
    found = []
    others = []
    for path in sorted(folder.iterdir()):
        end = ending(path)
        if end is None or not path.is_file():
            continue
        match = NAME.fullmatch(path.name.lower().removesuffix(end))
        if match and match[1][1:] in KINDS:
            found.append(CountryFile(path, match[1], match[2], match[3]))
        else:
            others.append(path.name)
    if not found:
        held = f"It holds {some(others)}, which are not named like 'bsgautm7.sav'" if others else "It holds none"
        raise FileError(
            f"The folder has no survey file per country. Looked in {str(folder)!r}. {held}: name the files themselves."
        )
    return found


def main_prefix(files: Sequence[CountryFile], prefix: str | None, folder: Path) -> str:
    """Choose the files whose rows become the rows of the table: students, else teachers.

    Raises
    ------
    OptionError
        If there is more than one choice, or the prefix is not there.
    """
    there = sorted({one.prefix for one in files})
    if prefix is not None:
        if prefix.lower() not in there:
            raise OptionError(
                f"The folder has no files {prefix!r}.{near(prefix, there)} "
                f"Those in {folder.name!r} begin with {', '.join(there)}."
            )
        return prefix.lower()
    for kind in ("students", "teacher", "school"):
        found = [name for name in there if KINDS[name[1:]] == kind]
        if len(found) == 1:
            return found[0]
        if found:
            raise OptionError(
                f"The folder has more than one kind of {MEANING[kind]} files. In {folder.name!r} they begin with "
                f"{' and '.join(found)}. Choose with prefix={found[0]!r}."
            )
    return there[0]


def of_prefix(files: Sequence[CountryFile], prefix: str, countries: Sequence[str] | None) -> list[CountryFile]:
    """Files of one type, one per country.

    Raises
    ------
    FileError
        If a country has two files, or one that was asked for has none.
    """
    chosen = [one for one in files if one.prefix == prefix]
    by_country: dict[str, CountryFile] = {}
    for one in chosen:
        if one.country in by_country:
            first = by_country[one.country].path.name
            raise FileError(
                f"A country must have one file of each type. Country {one.country!r} has {first!r} and "
                f"{one.path.name!r}. Keep each cycle and format in a folder of its own, or list the files."
            )
        by_country[one.country] = one
    if countries is None:
        return chosen
    asked = [country.lower() for country in countries]
    absent = [country for country in asked if country not in by_country]
    if absent:
        raise FileError(
            f"Countries that were asked for have no file. Missing: {some([c.upper() for c in absent])}."
            f"{near(absent[0].upper(), [c.upper() for c in by_country])} "
            f"There are {prefix!r} files of {some([c.upper() for c in by_country], 12)}."
        )
    return [one for one in chosen if one.country in asked]


def companion(files: Sequence[CountryFile], main: str, kind: str, wanted: object) -> str | None:
    """Prefix of the files of another kind that go with the main ones: same first letter.

    Parameters
    ----------
    files : sequence of CountryFile
    main : str
    kind : str
    wanted : bool, str or None
        True: must be there. A text: that prefix. None or False: not wanted.

    Raises
    ------
    OptionError
    """
    if wanted is None or wanted is False:
        return None
    there = sorted({one.prefix for one in files if one.kind == kind and one.prefix[0] == main[0]} - {main})
    if isinstance(wanted, str) and len(wanted) == 3 and wanted.lower() in {one.prefix for one in files}:
        return wanted.lower()
    if wanted is True and len(there) == 1:
        return there[0]
    found = f"Found {' and '.join(there)}" if there else f"There is none that begins with {main[0]!r}"
    raise OptionError(
        f"It is not clear which {MEANING[kind]} files to merge. {found}; asked for {wanted!r}. "
        f"Give the prefix, such as {kind}={(there or [main[0] + 'cg'])[0]!r}."
    )
