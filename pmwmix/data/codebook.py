"""Search what the columns of a survey mean: variable, label, values, missing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.data.table import Table
from pmwmix.errors import DataError, OptionError
from pmwmix.readers.files import read_stack
from pmwmix.readers.plan import Reading, plan_reading
from pmwmix.readers.report import code_text, report_of
from pmwmix.running import bar

CELLS_AT_ONCE = 20_000_000
SHOWN = 6  # categories that a column without value labels shows
COLUMNS = ["variable", "label", "values", "missing"]


def codebook(
    data: Any,
    search: str | None = None,
    *,
    counts: bool = True,
    missing: Any = True,
    prefix: str | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """List the columns of a survey with their labels.

    Parameters
    ----------
    data : table or path
        What `read_survey` gave, any other table, a file, or a folder of files per country.
    search : str, optional
        Text or regular expression to be found in names or labels, whatever the case.
    counts : bool
        Whether to read the data of a file, to count missing cells and give the range of unlabelled columns.
    missing : bool or dict
        As in `read_survey`; for files.
    prefix : str, optional
        As in `read_survey`; for folders.
    progress : bool, optional
        Bar while a file is read; default: in a terminal or notebook.

    Returns
    -------
    DataFrame
        A row per column of the survey: ``variable``, ``label``, ``values`` (codes and their labels, the range of
        numbers, or categories), ``missing`` (number of cells, codes for missing included).

    Raises
    ------
    PmwmixError

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"ESCS": [0.5, None, -1.0], "CNT": ["AUT", "AUT", "NZL"]})
    >>> codebook(rows, "escs")
      variable label     values  missing
    0     ESCS        -1 to 0.5        1
    """
    if search is not None and not isinstance(search, str):
        raise OptionError(f"A search is a text. Got {type(search).__name__} {search!r}. Write search='mother'.")
    if isinstance(data, str | Path | list | tuple):
        return _of_files(data, search, counts, missing, prefix, progress)
    report = report_of(data)
    table = Table(data)
    labels = report.get("labels", {})
    values = {name: {code: text for code, text in pairs} for name, pairs in report.get("values", {}).items()}
    rows = []
    for name in _found(table.names, labels, search):
        column = _column(table, data, name)
        lost = int(column.isna().sum())
        rows.append([name, labels.get(name, ""), _values(values.get(name, {}), _Seen().add(column)), lost])
    return _table(rows)


def _column(table: Table, data: Any, name: str) -> pd.Series:
    if isinstance(data, pd.DataFrame):
        return data[name]
    try:
        return table.columns([name])[name]
    except DataError:  # dates and the like, which no model takes
        return pd.Series(data[name].to_numpy())


def _found(names: Sequence[str], labels: Mapping[str, str], search: str | None) -> list[str]:
    """Names that fit the search, as a text or as a regular expression."""
    if not search:
        return list(names)
    text = search.lower()
    try:
        pattern = re.compile(search, re.IGNORECASE)
    except re.error:
        pattern = re.compile(re.escape(search), re.IGNORECASE)
    both = {name: f"{name}\n{labels.get(name, '')}" for name in names}
    return [name for name, said in both.items() if text in said.lower() or pattern.search(said)]


def _of_files(
    path: Any, search: str | None, counts: bool, missing: Any, prefix: str | None, progress: bool | None
) -> pd.DataFrame:
    plan = plan_reading(path, None, None, None, None, None, None, None, missing, prefix)
    rows = []
    chosen = []
    for stack, wanted in zip(plan.stacks, plan.wanted, strict=True):
        labels = stack.about("labels")
        found = _found(stack.names, labels, search)
        chosen.append({name: wanted[name] for name in found if name in wanted})
    plan = replace(plan, wanted=chosen)
    seen = _count(plan, progress) if counts else {}
    for stack, wanted in zip(plan.stacks, plan.wanted, strict=True):
        labels, values = stack.about("labels"), stack.about("values")
        for name in wanted:
            one = seen.get((stack.role, name))
            lost = None if one is None else one.missing
            rows.append([name, labels.get(name, ""), _values(values.get(name, {}), one), lost])
    return _table(rows)


def _count(plan: Reading, progress: bool | None) -> dict[tuple[str, str], _Seen]:
    """Read the chosen columns once, in pieces of rows."""
    seen: dict[tuple[str, str], _Seen] = {}
    with bar("Counting", sum(stack.size for stack in plan.stacks), progress) as tick:
        for stack, wanted in zip(plan.stacks, plan.wanted, strict=True):
            if not wanted:
                continue
            n = max((one.n_rows or 0 for one in stack.files), default=0)
            step = max(1, CELLS_AT_ONCE // len(wanted))
            for part in [slice(first, first + step) for first in range(0, n, step)] if n > step else [None]:
                own = {name: name for name in wanted}
                outcome = read_stack(stack, own, plan.rules, None, (), tick, part)
                for name, column in outcome.columns.items():
                    seen.setdefault((stack.role, name), _Seen()).add(column)
    return seen


class _Seen:
    """Missing cells, range and categories of a column, piece by piece."""

    def __init__(self) -> None:
        self.missing, self.low, self.high = 0, np.inf, -np.inf
        self.categories: dict[str, None] = {}

    def add(self, column: pd.Series) -> _Seen:
        self.missing += int(column.isna().sum())
        if isinstance(column.dtype, pd.CategoricalDtype):
            self.categories |= dict.fromkeys(str(one) for one in column.cat.categories)
        elif pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype):
            values = column.to_numpy(dtype=float, na_value=np.nan)
            if not np.isnan(values).all():
                self.low, self.high = min(self.low, np.nanmin(values)), max(self.high, np.nanmax(values))
        else:
            self.categories |= dict.fromkeys(sorted(str(one) for one in column.dropna().unique()))
        return self

    def __str__(self) -> str:
        if self.categories:
            shown, more = list(self.categories)[:SHOWN], len(self.categories) - SHOWN
            return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
        return f"{self.low:g} to {self.high:g}" if self.low <= self.high else ""


def _values(labels: Mapping[Any, str], seen: _Seen | None) -> str:
    if labels:
        return "; ".join(f"{code_text(code)} = {text}" for code, text in labels.items())
    return "" if seen is None else str(seen)


def _table(rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    out = pd.DataFrame(list(rows), columns=COLUMNS)
    out["missing"] = out["missing"].astype("Int64" if out["missing"].isna().any() else int)
    return out
