"""One file, or several of one kind stacked: wanted columns and rows, codes set to missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import DataError, FileError, near, some
from pmwmix.readers.columns import find
from pmwmix.readers.formats import contents, read_rows
from pmwmix.readers.missing import Count, Rules, labels_of, without_codes
from pmwmix.readers.report import code_text
from pmwmix.readers.source import Contents, Tick

Columns = dict[str, pd.Series]


@dataclass(frozen=True)
class Stack:
    """Files of one kind, read one after the other.

    Parameters
    ----------
    role : str
        ``"students"``, ``"school"``, ...
    files : list of Contents
    names : list of str
        Columns of any of them, as the first file that has one spells it.
    """

    role: str
    files: list[Contents]
    names: list[str]

    @classmethod
    def of(cls, role: str, paths: Sequence[Path]) -> Stack:
        """Read what the files hold."""
        files = [contents(path) for path in paths]
        for one in files:
            _refuse_twins(one)
        spelled: dict[str, str] = {}
        for one in files:
            for name in one.names:
                spelled.setdefault(name.lower(), name)
        return cls(role, files, list(spelled.values()))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.path.stat().st_size for one in self.files)

    def about(self, what: str) -> dict[str, Any]:
        """Variable labels or value labels of all files, the first file's where they differ; named as in `names`."""
        spelled = {name.lower(): name for name in self.names}
        out: dict[str, Any] = {}
        for one in self.files:
            for name, value in getattr(one, what).items():
                mine = spelled.get(name.lower(), name)
                if isinstance(value, Mapping):
                    out[mine] = {**value, **out.get(mine, {})}
                else:
                    out.setdefault(mine, value)
        return out


@dataclass
class Outcome:
    """What reading a stack gave."""

    columns: Columns
    files: list[dict[str, Any]] = field(default_factory=list)
    missing: list[Count] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _refuse_twins(one: Contents) -> None:
    seen: dict[str, str] = {}
    for name in one.names:
        twin = seen.setdefault(name.lower(), name)
        if twin != name:
            raise FileError(
                f"Column names must differ, whatever their case. {one.path.name!r} has {twin!r} and {name!r}. Rename "
                f"one of them."
            )


def read_stack(
    stack: Stack,
    wanted: Mapping[str, str],
    rules: Rules,
    countries: Sequence[str] | None,
    country_ids: Sequence[str],
    tick: Tick | None,
    part: slice | None = None,
    strict: bool = True,
) -> Outcome:
    """Read columns of all files of a stack.

    Parameters
    ----------
    stack : Stack
    wanted : dict
        Spelling in ``stack.names`` to spelling in the result.
    rules : Rules
    countries : sequence of str or None
        Codes or labels of the countries whose rows are read.
    country_ids : sequence of str
        Columns that may hold countries.
    tick : callable or None
    part : slice, optional
        Of the rows of each file.
    strict : bool
        Whether a country that is not there is an error; else all rows are read.
    """
    parts: list[Columns] = []
    out = Outcome({})
    absent: dict[str, list[str]] = {}
    for one in stack.files:
        rows = None if countries is None else country_rows(one, countries, country_ids, tick, strict)
        if part is not None:
            rows = np.ones(one.n_rows or 0, dtype=bool) if rows is None else rows
            inside = np.zeros(len(rows), dtype=bool)
            inside[part] = True
            rows = rows & inside
        here = {name: own for name in wanted if (own := find(name, one.names)) is not None}
        frame = read_rows(one.path, list(here.values()) or one.names[:1], rows, tick)
        columns: Columns = {}
        for name in wanted:
            if name in here:
                column, counts = without_codes(frame[here[name]], here[name], rules, one)
                columns[wanted[name]] = column
                out.missing.extend({**count, "column": wanted[name]} for count in counts)
            else:
                columns[wanted[name]] = pd.Series(np.full(len(frame), np.nan))
                absent.setdefault(name, []).append(one.path.name)
        out.missing.extend(_stored_counts(one, {here[name]: wanted[name] for name in here}))
        parts.append(columns)
        total = len(rows) if rows is not None else one.n_rows
        out.files.append({"file": one.path.name, "role": stack.role, "rows": total, "used": len(frame)})
    for name, files in absent.items():
        out.notes.append(f"Column {name!r} is not in {some(files)}: missing there.")
    out.columns = parts[0] if len(parts) == 1 else _stacked(parts, [one.path.name for one in stack.files])
    out.missing = _summed(out.missing)
    return out


def _stored_counts(one: Contents, names: Mapping[str, str]) -> list[Count]:
    if one.stored is None:
        return []
    return [
        {**count, "column": names[count["column"]]}
        for count in one.stored.get("missing", [])
        if count["column"] in names
    ]


def _summed(counts: Sequence[Count]) -> list[Count]:
    found: dict[tuple[Any, ...], Count] = {}
    for one in counts:
        key = (one["column"], one["code"])
        found[key] = {**one, "count": one["count"] + found[key]["count"]} if key in found else dict(one)
    return list(found.values())


def _stacked(parts: Sequence[Columns], files: Sequence[str]) -> Columns:
    """Put the files' rows one below the other.

    Raises
    ------
    DataError
        If a column holds numbers in one file and text in another.
    """
    out: Columns = {}
    for name in parts[0]:
        pieces = [part[name] for part in parts]
        filled = [(k, piece) for k, piece in enumerate(pieces) if piece.notna().any()]
        numbers = {pd.api.types.is_numeric_dtype(piece.dtype): k for k, piece in filled}
        if len(numbers) > 1:
            raise DataError(
                f"A column must be of one kind in all files. {name!r} holds numbers in {files[numbers[True]]!r} and "
                f"text in {files[numbers[False]]!r}. Leave it out of columns=, or read the files apart."
            )
        if False in numbers:  # an empty column of numbers would turn text into a mixture
            pieces = [piece if piece.notna().any() else piece.astype(filled[0][1].dtype) for piece in pieces]
        out[name] = pd.concat(pieces, ignore_index=True)
    return out


def country_rows(
    one: Contents, countries: Sequence[str], country_ids: Sequence[str], tick: Tick | None, strict: bool = True
) -> Array | None:
    """Mark the rows of the wanted countries, (n,); None if the file has no column of countries.

    Raises
    ------
    DataError
        If a country is not in the file and ``strict``.
    """
    there = list(dict.fromkeys(own for name in country_ids if (own := find(name, one.names)) is not None))
    if not there:
        return None
    frame = read_rows(one.path, there, None, tick)
    asked = [country.strip().lower() for country in countries]
    shown: list[str] = []
    for name in there:
        values, positions = pd.Index(frame[name]).factorize()[::-1]
        spelled = [code_text(value).strip() for value in values]
        labels = one.values.get(name, {})
        by_name = {text.lower(): k for k, text in enumerate(spelled)}
        by_name.update({labels[v].strip().lower(): k for k, v in enumerate(values) if v in labels})
        if all(country in by_name for country in asked):
            return np.isin(positions, [by_name[country] for country in asked])
        if not shown:
            shown = spelled
            absent = [c for c, low in zip(countries, asked, strict=True) if low not in by_name]
    if not strict:
        return None
    raise DataError(
        f"Countries that were asked for are not in the file. {one.path.name!r} lacks {some(absent)}."
        f"{near(absent[0], shown)} Its column {there[0]!r} has {len(shown)}: {some(shown, 12)}."
    )


def read_columns(path: Path, names: Sequence[str], preset: Any = None) -> pd.DataFrame:
    """Columns of a file, spelled as in it, without the codes that it declares missing or labels as no answer."""
    one, rules = contents(path), Rules(labels=labels_of(preset))
    frame = read_rows(path, names, None, None)
    return pd.DataFrame({name: without_codes(frame[name], name, rules, one)[0] for name in names}, copy=False)
