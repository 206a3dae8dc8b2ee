"""Group- and grand-mean centring, weighted where there are weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import DataError, OptionError, near
from pmwmix.formula import ModelFormula
from pmwmix.hierarchy import code, label_text

Array = np.ndarray


@dataclass(frozen=True)
class Centring:
    """What ``center={"escs": "school"}`` asks for, for one column.

    Parameters
    ----------
    column : str
    by : str
        ``"grand"`` or a group column.
    add_mean : bool
        Whether the group mean becomes a predictor of its own, named `mean_name`.
    factors : tuple of str
        Columns that name the group together, when ``by`` is a level whose ids start again in every unit above.
    """

    column: str
    by: str
    add_mean: bool = False
    factors: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that name the group; none for the grand mean."""
        return () if self.by == "grand" else tuple(self.factors) or (self.by,)

    @property
    def mean_name(self) -> str:
        """Name of the added column of group means, ``escs_school_mean``."""
        return f"{self.column}_{self.by}_mean"


@dataclass
class Means:
    """Means used in centring, kept for `predict`: per column, a number or a Series by group."""

    values: dict[str, Any] = field(default_factory=dict)


def read_center(center: Mapping[str, str] | None) -> list[Centring]:
    """Read ``{"escs": "school"}``, ``{"escs": "grand"}`` or ``{"escs": "school+mean"}``.

    Raises
    ------
    OptionError
    """
    if center is None:
        return []
    if not isinstance(center, Mapping):
        raise OptionError(f'Centring is a dict. Got {center!r}. Write center={{"escs": "school"}}.')
    out = []
    for column, spec in center.items():
        if not isinstance(spec, str) or not spec.strip():
            raise OptionError(
                f"Centring names a group or 'grand'. That of {column!r} is {spec!r}. "
                f"Write 'school', 'school+mean' (adds the group mean as a predictor) or 'grand'."
            )
        by, plus, extra = (part.strip() for part in spec.partition("+"))
        if plus and (extra != "mean" or by == "grand"):
            raise OptionError(
                f"Only '+mean' can follow a group in centring. That of {column!r} is {spec!r}. "
                f"Write {'grand' if by == 'grand' else by + '+mean'!r}."
            )
        out.append(Centring(str(column), by, bool(plus)))
    return out


def find_groups(plans: Sequence[Centring], formula: ModelFormula) -> list[Centring]:
    """Fill in the columns of each group as the formula nests it: "class" in ``(1 | school/class)`` is class in school.

    Raises
    ------
    OptionError
        If a column is no predictor.
    """
    slopes = [name for term in formula.random for name in term.variables]
    predictors = list(dict.fromkeys([*formula.fixed_variables, *slopes]))
    groups = {tuple(sorted(term.factors)): term.factors for term in formula.random}
    out = []
    for plan in plans:
        if plan.column not in predictors:
            raise OptionError(
                f"Only predictors of the formula can be centred. {plan.column!r} is none."
                f"{near(plan.column, predictors)} Add it to the formula or leave it out of center=."
            )
        whole = groups.get(tuple(sorted(plan.by.split(":"))))
        first = [factors for factors in groups.values() if factors[0] == plan.by]
        factors = whole or (first[0] if len(first) == 1 else (plan.by,))
        out.append(replace(plan, factors=() if plan.by == "grand" else factors))
    return out


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
        by_group = pd.Series(average, index=[label_text(label) for label in labels])
        if known:
            by_group = means.values[plan.column].reindex(by_group.index).fillna(by_group)
        else:
            means.values[plan.column] = by_group
        row_mean = by_group.to_numpy(dtype=float)[codes]
        out[plan.column] = pd.Series(x - row_mean, name=plan.column)
        if plan.add_mean:
            out[plan.mean_name] = pd.Series(row_mean, name=plan.mean_name)
    return out
