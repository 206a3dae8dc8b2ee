"""An outcome that is one plausible value, or the mean of a set, where the whole set is meant: recognised and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.table import Table, is_file
from pmwmix.errors import PLAUSIBLE, numbered_sets

MOST = 20_000_000  # values of a table that are read for it
ROWS = 20_000  # that are looked at, evenly through the table: every fit waits for it
LARGEST = 1e70  # the frame refuses what is larger
DISTINCT = 20  # values that a scale score takes at least, unlike an item
ALIKE, TOGETHER = 0.1, 0.5  # means and spreads apart at most, in spreads; correlation of two draws at least


def notes_on_lone_outcomes(
    names: Sequence[str], columns: Mapping[str, pd.Series], table: Table, sets: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Say that an outcome without ``pv=`` is one of a set of plausible values, or their mean.

    Parameters
    ----------
    names : sequence of str
        Variables of the outcome.
    columns : dict of str to Series
        Columns of the model, all rows of the table.
    table : Table
    sets : dict
        Sets of plausible values that were given.
    """
    given = {column for own in sets.values() for column in own}
    found = [(template, own) for template, own in numbered_sets(table.names).items() if not given & set(own)]
    plain = [name for name in names if name not in sets and pd.api.types.is_numeric_dtype(columns[name])]
    notes = []
    for name in plain:
        for template, own in found:
            likely = template.casefold().startswith("pv") or len(own) in PLAUSIBLE[1:]  # three may be occasions
            if likely and (name in own or not is_file(table)) and len(own) * len(columns[name]) <= MOST:
                notes += _note(name, columns[name].to_numpy(dtype=float), template, own, table)
    return tuple(dict.fromkeys(notes))


def _note(name: str, y: Array, template: str, own: Sequence[str], table: Table) -> list[str]:
    read = table.columns(own)
    if not all(pd.api.types.is_numeric_dtype(column) for column in read.values()):
        return []
    looked_at = slice(None, None, max(len(y) // ROWS, 1))
    y, whole = y[looked_at], np.array([column.iloc[looked_at].to_numpy(dtype=float) for column in read.values()])
    if name not in own and not _is_mean(y, whole):
        return []
    if not _are_draws(whole[:, np.isfinite(whole).all(axis=0)]):
        return []
    cure = f"Write pv={{'score': {template!r}}} and score in the formula."
    if name in own:
        return [
            f"The outcome {name!r} is one of {len(own)} columns, {own[0]!r} to {own[-1]!r}, that look like plausible "
            f"values: with one of them the standard errors leave measurement error out. {cure}"
        ]
    return [
        f"The outcome {name!r} is the mean of the {len(own)} plausible values {own[0]!r} to {own[-1]!r}: its "
        f"variance is too small, and the standard errors leave measurement error out. {cure}"
    ]


def _is_mean(y: Array, draws: Array) -> bool:
    """Whether values (n,) are the means of columns (K, n)."""
    mean = draws.mean(axis=0)
    known = np.isfinite(mean) & np.isfinite(y)
    if not known.any():
        return False
    return np.allclose(mean[known], y[known], rtol=1e-6, atol=1e-6 * float(np.std(draws[0][known])))


def _are_draws(draws: Array) -> bool:
    """Whether columns (K, n) are draws of one scale: many values, alike in mean and spread and correlated alike."""
    if draws.shape[1] < 2 * DISTINCT or min(len(np.unique(draw[:1000])) for draw in draws) < DISTINCT:
        return False
    if not np.abs(draws).max() < LARGEST:
        return False
    spread, mean = draws.std(axis=1), draws.mean(axis=1)
    apart = max(float(np.ptp(spread)), float(np.ptp(mean))) / float(spread.mean())
    among = np.corrcoef(draws)[np.triu_indices(len(draws), 1)]
    chance = ALIKE + 2.0 / np.sqrt(draws.shape[1])
    return apart < chance and float(np.ptp(among)) < chance and float(among.min()) > TOGETHER
