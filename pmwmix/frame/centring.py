"""Group- and grand-mean centring, weighted where there are weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import code, key
from pmwmix.errors import DataError
from pmwmix.spec.centring import Centring


@dataclass
class Means:
    """Means used in centring, kept for `predict`: per column, a number or a Series by group."""

    values: dict[str, Any] = field(default_factory=dict)


def apply_center(
    plans: list[Centring], columns: dict[str, pd.Series], w_total: Array | None, means: Means, known: bool = False
) -> dict[str, pd.Series]:
    """Centre columns and add group means; returns a new dict.

    Parameters
    ----------
    plans : list of Centring
    columns : dict of Series
    w_total : ndarray, shape (n,), or None
        Total weight of each row.
    means : Means
        Filled, or with ``known`` used: groups it does not know are centred at their own mean.
    known : bool

    Returns
    -------
    dict of Series

    Raises
    ------
    DataError
        If a column is not numeric.
    """
    out = dict(columns)
    for plan in plans:
        values = columns[plan.column]
        if isinstance(values.dtype, pd.CategoricalDtype):
            raise DataError(
                f"Only numbers can be centred. Column {plan.column!r} holds categories. Leave it out of center=."
            )
        x = values.to_numpy()
        weight = np.ones(len(x)) if w_total is None else w_total
        if plan.by == "grand":
            mean: Any = means.values[plan.column] if known else float(np.average(x, weights=weight))
            if not known:
                means.values[plan.column] = mean
            out[plan.column] = pd.Series(x - mean, name=plan.column)
            continue
        codes, labels = code([columns[name] for name in plan.columns])
        average = np.bincount(codes, x * weight) / np.bincount(codes, weight)
        by_group = pd.Series(average, index=pd.Index([key(label) for label in labels], tupleize_cols=False))
        if known:
            by_group = means.values[plan.column].reindex(by_group.index).fillna(by_group)
        else:
            means.values[plan.column] = by_group
        row_mean = by_group.to_numpy(dtype=float)[codes]
        out[plan.column] = pd.Series(x - row_mean, name=plan.column)
        if plan.add_mean:
            out[plan.mean_name] = pd.Series(row_mean, name=plan.mean_name)
    return out


def notes_on_means(
    plans: Sequence[Centring], columns: Mapping[str, pd.Series], pv: Mapping[str, Sequence[str]], keep: Array
) -> tuple[str, ...]:
    """Say which rows made the means where rows that have the value, and its group, are not fitted.

    Parameters
    ----------
    plans : sequence of Centring
    columns : mapping of str to Series, each (n,)
        Of all rows.
    pv : mapping of str to sequence of str
        Columns of plausible-value sets.
    keep : ndarray of bool, shape (n,)
        Rows that are fitted.

    Returns
    -------
    tuple of str
    """
    return words_on_means(unused_values(plans, columns, pv, keep), len(keep))


def unused_values(
    plans: Sequence[Centring], columns: Mapping[str, pd.Series], pv: Mapping[str, Sequence[str]], keep: Array
) -> dict[str, int]:
    """Count, per centred column, the rows that have a value and its group and are not fitted."""
    found = {}
    for plan in plans:
        needed = [pv.get(plan.column, [plan.column])[0], *plan.columns]
        known = np.logical_and.reduce([columns[name].notna().to_numpy() for name in needed])
        found[plan.column] = int((known & ~keep).sum())
    return found


def words_on_means(counts: Mapping[str, int], n: int) -> tuple[str, ...]:
    """Say how many of ``n`` rows did not count in the means of each column."""
    unused = [f"{count} other rows of {n} have a value of {name!r}" for name, count in counts.items() if count]
    if not unused:
        return ()
    return (
        f"The means used in centring are those of the fitted rows; {', '.join(unused)}, which does not count. For "
        f"means of all rows, add them to the table as a column before the fit.",
    )
