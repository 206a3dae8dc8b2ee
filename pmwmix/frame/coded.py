"""Columns that mean something else than they look like: labelled codes taken as a number, blank text as a category.

Says so; changes nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import PmwmixWarning, some
from pmwmix.readers.report import code_text
from pmwmix.spec.formula import ModelFormula

FEWEST = 3  # a slope of two codes is their difference
INNERMOST = re.compile(r"\([^()]*\)|\{[^{}]*\}|\[[^\[\]]*\]")


def notes_on_codes(
    formula: ModelFormula,
    columns: Mapping[str, pd.Series],
    values: Mapping[str, Mapping[Any, str]],
    centred: Sequence[str] = (),
) -> tuple[str, ...]:
    """Say which predictors are labelled codes taken as a number, and which have blank text among their categories.

    Parameters
    ----------
    formula : ModelFormula
    columns : dict of Series
        Rows in use.
    values : dict
        Column to its value labels, code to text.
    centred : sequence of str
        Columns that the caller centres, and so means as numbers.

    Warns
    -----
    PmwmixWarning
        For labelled codes: three or more values occur, every one has a label that is more than the number itself, and
        the column stands in the formula by itself. A scale of which only codes for no answer, or its ends, have labels
        is a number.
    """
    coded = {
        name: shown
        for name in _bare(formula)
        if name in columns and name not in centred and (shown := _labelled(columns[name], values.get(name, {})))
    }
    notes = tuple(
        f"Codes of {name!r} were taken as a number, although all of them have labels ({some(shown, 6)}). Its "
        f"coefficient is the change per step of the code: write C({name}) for categories, I({name}) for a number."
        for name, shown in coded.items()
    )
    for note in notes:
        warnings.warn(note, PmwmixWarning, stacklevel=4)
    return notes + tuple(
        f"A category of {name!r} is blank text: an answer that is missing would be NaN or None."
        for name in dict.fromkeys(formula.variables)
        if name in columns and _has_blank(columns[name])
    )


def _bare(formula: ModelFormula) -> list[str]:
    """Columns that are a term, or a factor of one, as they are: not inside ``C()``, ``I()`` or another function."""
    found: dict[str, None] = {}
    for text in (formula.fixed, *(term.expr for term in formula.random)):
        inner = INNERMOST.sub("()", text)
        while inner != text:
            text, inner = inner, INNERMOST.sub("", inner)
        found |= dict.fromkeys(piece.strip().strip("`") for piece in re.split(r"[+:]", text))
    return [name for name in found if name in formula.variables]


def _labelled(column: pd.Series, labels: Mapping[Any, str]) -> list[str]:
    """Codes with their labels, if all that occur have one; else nothing."""
    if not labels or isinstance(column.dtype, pd.CategoricalDtype):
        return []
    known = {float(code): str(text) for code, text in labels.items() if isinstance(code, int | float | np.number)}
    codes = pd.unique(column.dropna())
    if not FEWEST <= len(codes) <= len(known) or not all(float(code) in known for code in codes):
        return []
    shown = {float(code): known[float(code)].strip() for code in sorted(codes)}
    if any(text in ("", code_text(code)) for code, text in shown.items()):
        return []
    return [f"{code_text(code)} {text}" for code, text in shown.items()]


def _has_blank(column: pd.Series) -> bool:
    kind = column.dtype
    return isinstance(kind, pd.CategoricalDtype) and any(isinstance(c, str) and not c.strip() for c in kind.categories)
