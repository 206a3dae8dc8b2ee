"""Codes that stand for missing: declared by the file, or labelled as no answer in the survey; counted per code.

Blank text of SPSS, SAS and Stata is missing too, as it is in .csv.

Labels that the survey's preset lists always count. Others that say that there is no answer count in columns for which
the file declares nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import OptionError
from pmwmix.readers.source import Contents

Ranges = list[tuple[Any, Any]]
Count = dict[str, Any]
NO_ANSWER = re.compile(
    r"omit(ted)?( or invalid|/invalid)?|not reached|(item )?not administered( by design)?|not admin\.?|"
    r"invalid( response)?|multiple( responses?)?|no response|non-?response|(item )?non-?response|not stated|"
    r"not stated or inferred|refused|valid skip|missing( by design)?|system missing|"
    r"(logically )?not applicable|n/?a|presented but not answered(/invalid)?|not answered",
    re.IGNORECASE,
)
EDGES = " ()[]<>*.:"
CODE = re.compile(r"-?\d+\s*[:=.]\s*")  # "-9: NOT ASCERTAINED"


@dataclass(frozen=True)
class Rules:
    """Which codes are set to missing.

    Parameters
    ----------
    wanted : bool
        Whether any are.
    labels : frozenset of str
        Value labels of the survey that say that there is no answer, as `bare` spells them.
    given : dict
        Column or pattern (``"ST*"``) to codes.
    """

    wanted: bool = True
    labels: frozenset[str] = frozenset()
    given: Mapping[str, Iterable[Any]] = field(default_factory=dict)

    def of(self, name: str, contents: Contents) -> Ranges:
        """Ranges ``(low, high)`` of the codes of one column."""
        if not self.wanted:
            return []
        if contents.stored is not None and contents.stored.get("removed"):  # by `convert`
            return _coded(self.given, name)
        found = list(contents.declared.get(name, []))
        by_label = [
            (code, code)
            for code, label in contents.values.get(name, {}).items()
            if bare(label) in self.labels or (not found and says_missing(label))
        ]
        return [*found, *by_label, *_coded(self.given, name)]


def says_missing(label: str) -> bool:
    """Whether a value label means that there is no answer.

    Examples
    --------
    >>> says_missing("<Omitted or invalid>"), says_missing("Not Applicable"), says_missing("Not at all")
    (True, True, False)
    """
    return NO_ANSWER.fullmatch(bare(label)) is not None


def bare(label: str) -> str:
    """Spell a label without its code, brackets and case.

    Examples
    --------
    >>> bare("-9: NOT ASCERTAINED"), bare("<Omitted or invalid>")
    ('not ascertained', 'omitted or invalid')
    """
    text = str(label).strip(EDGES)
    return CODE.sub("", text, count=1).strip(EDGES).casefold() if CODE.match(text) else text.casefold()


def labels_of(preset: Any) -> frozenset[str]:
    """Labels that a preset lists as no answer, as `bare` spells them."""
    return frozenset(bare(label) for label in getattr(preset, "no_answer", None) or ())


def read_rules(missing: Any, preset: Any) -> Rules:
    """Check the argument ``missing``: True, False, or codes by column that are added to the survey's own.

    Raises
    ------
    OptionError
    """
    if isinstance(missing, bool):
        return Rules(missing, labels_of(preset))
    if isinstance(missing, Mapping):
        return Rules(True, labels_of(preset), missing)
    raise OptionError(
        f"The argument missing is True, False or codes by column. Got {missing!r}. "
        f"Write for example missing={{'ST*': [97, 98, 99]}}."
    )


def _coded(codes: Mapping[str, Iterable[Any]], name: str) -> Ranges:
    out: Ranges = []
    for pattern, given in codes.items():
        if fnmatchcase(name.lower(), str(pattern).lower()):
            listed = [given] if isinstance(given, str | int | float) else list(given)
            out.extend(one if isinstance(one, tuple) else (one, one) for one in listed)
    return out


def without_codes(column: pd.Series, name: str, rules: Rules, contents: Contents) -> tuple[pd.Series, list[Count]]:
    """Set the codes of a column to missing and count them.

    Returns
    -------
    Series
        The same object where nothing changed.
    list of dict
        ``column, code, label, count``.
    """
    labels = contents.values.get(name, {})
    if column.dtype == object and name in contents.numeric:
        return _without_letters(column, name, labels, rules)
    if contents.blanks and (column.dtype == object or isinstance(column.dtype, pd.StringDtype)):
        column, blank = _without_blanks(column, name)
        column, found = _without_ranges(column, name, rules, contents)
        return column, [*blank, *found]
    return _without_ranges(column, name, rules, contents)


def _without_ranges(column: pd.Series, name: str, rules: Rules, contents: Contents) -> tuple[pd.Series, list[Count]]:
    labels = contents.values.get(name, {})
    ranges = rules.of(name, contents)
    if not ranges:
        return column, []
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return _without_numbers(column, name, ranges, labels)
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column, []
    text = column.astype(object)
    flagged = text.isin([low for low, _ in ranges]) | text.astype(str).isin([_spelled(low) for low, _ in ranges])
    flagged &= text.notna()
    if not flagged.any():
        return column, []
    counts = text[flagged].value_counts()
    found = [_count(name, code, labels, int(n)) for code, n in counts.items()]
    return column.mask(flagged), found


def _without_blanks(column: pd.Series, name: str) -> tuple[pd.Series, list[Count]]:
    blank = np.array([isinstance(value, str) and not value.strip() for value in column], dtype=bool)
    if not blank.any():
        return column, []
    return column.mask(blank), [_count(name, "", {"": "blank"}, int(blank.sum()))]


def _without_numbers(
    column: pd.Series, name: str, ranges: Ranges, labels: Mapping[Any, str]
) -> tuple[pd.Series, list[Count]]:
    values = column.to_numpy(dtype=float, na_value=np.nan)
    flagged = np.zeros(len(values), dtype=bool)
    for low, high in ranges:
        numbers = _number(low), _number(high)
        if not np.isnan(numbers).any():
            flagged |= (values == numbers[0]) if low == high else ((values >= numbers[0]) & (values <= numbers[1]))
    if not flagged.any():
        return column, []
    codes, counts = np.unique(values[flagged], return_counts=True)
    found = [_count(name, float(code), labels, int(n)) for code, n in zip(codes, counts, strict=True)]
    return pd.Series(np.where(flagged, np.nan, values), index=column.index, name=column.name), found


def _without_letters(
    column: pd.Series, name: str, labels: Mapping[Any, str], rules: Rules
) -> tuple[pd.Series, list[Count]]:
    """Take out the special missing values of SAS and Stata, ``.a`` to ``.z``, which come as letters among numbers."""
    numbers = pd.to_numeric(column, errors="coerce")
    letters = column[numbers.isna() & column.notna()]
    if not rules.wanted and len(letters):
        return column, []
    return numbers.astype(float), [_count(name, code, labels, int(n)) for code, n in letters.value_counts().items()]


def _count(name: str, code: Any, labels: Mapping[Any, str], n: int) -> Count:
    return {"column": name, "code": code, "label": labels.get(code, ""), "count": n}


def _number(code: Any) -> float:
    try:
        return float(code)
    except (TypeError, ValueError):
        return float("nan")


def _spelled(code: Any) -> str:
    return f"{code:g}" if isinstance(code, int | float) else str(code)
