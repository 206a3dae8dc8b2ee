"""Latent group means among the fixed columns: what measures them, and how the columns depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import DataError, FormulaError, NotSupportedError, OptionError, near
from pmwmix.frame.hierarchy import Hierarchy
from pmwmix.frame.matrices import Matrix, again
from pmwmix.spec.centring import Centring
from pmwmix.spec.formula import ModelFormula
from pmwmix.spec.outcome import Distribution

LINEAR = 1e-8  # of its largest slope: by how much a column may bend in a latent mean


@dataclass(frozen=True)
class ObservedMean:
    """The observed mean that stands where the latent one is until the likelihood is written.

    Parameters
    ----------
    name, column : str
    values : ndarray, shape (n,)
        Of the column itself.
    series : Series (n,)
        Means of the groups, by total weights.
    """

    name: str
    column: str
    values: Array
    series: pd.Series


@dataclass(frozen=True)
class LatentColumns:
    """How the fixed columns depend on the latent means; K of them.

    Parameters
    ----------
    names : tuple of str
    x : list of ndarray, each (n,)
        What measures them.
    at : list of ndarray, each (n,)
        Observed means, at which the fixed columns were evaluated.
    slopes : list of (int, int, ndarray (n,))
        Fixed column, latent mean, and the derivative of the one in the other.
    others : tuple of int
        Fixed columns that neither the means nor their columns have a part in, without the intercept.
    """

    names: tuple[str, ...]
    x: list[Array]
    at: list[Array]
    slopes: list[tuple[int, int, Array]]
    others: tuple[int, ...]


def check_latent_means(
    formula: ModelFormula, hierarchy: Hierarchy, distribution: Distribution, centrings: Sequence[Centring]
) -> Hierarchy:
    """Refuse latent means in models whose joint likelihood is not built; give the levels back.

    Raises
    ------
    NotSupportedError, FormulaError, OptionError
    """
    if not formula.latent:
        return hierarchy
    one, names = formula.latent[0], [level.name for level in hierarchy.levels]
    if not distribution.has_closed_form or distribution.residual is not None or distribution.pairwise:
        what = "a residual structure" if distribution.residual is not None else "pairwise likelihood"
        what = what if distribution.has_closed_form else f"family={distribution.family!r}"
        raise NotSupportedError(
            f"Latent group means are built for linear models by maximum likelihood with independent residuals. "
            f"{one.name} is asked for with {what}. Use the observed mean, center={{{one.column!r}: 'school+mean'}}."
        )
    for one in formula.latent:
        if not any(sorted(level.factors) == sorted(one.factors) for level in hierarchy.levels):
            group = ":".join(one.factors)
            raise FormulaError(
                f"The group of a latent mean needs a random term of its own. {one.name} is about {group!r}, the "
                f"groups with random terms are {', '.join(map(repr, names)) or 'none'}.{near(group, names)} Add "
                f"(1 | {group})."
            )
    if len(names) > 1 or hierarchy.crossed:
        raise NotSupportedError(
            f"Latent group means are built for models with one grouping factor. {one.name} is asked for with "
            f"{', '.join(map(repr, names))}. Leave the other random terms out, or make them fixed effects."
        )
    own = {one.column for one in formula.latent}
    if centred := [plan for plan in centrings if plan.column in own and plan.by != "grand"]:
        plan = centred[0]
        raise OptionError(
            f"A predictor with a latent mean is not centred at its observed one, whose error would come back by that "
            f"way. {plan.column!r} is centred by {plan.by!r}. Leave it out of center=: the coefficient of "
            f"latent_mean({plan.column}, ...) is then the contextual effect, and with that of {plan.column!r} added "
            f"the one between groups."
        )
    return hierarchy


def observed_means(
    formula: ModelFormula, hierarchy: Hierarchy, local: Mapping[str, pd.Series], w: Array | None
) -> list[ObservedMean]:
    """Average the columns in their groups.

    Raises
    ------
    DataError
        If a column is not of numbers, or is the same for all members of every group.
    """
    out = []
    for one in formula.latent:
        column = local[one.column]
        if isinstance(column.dtype, pd.CategoricalDtype):
            raise DataError(
                f"Only numbers have a latent mean. Column {one.column!r} in {one.name} holds categories. Make it an "
                f"indicator, of 0 and 1, or use center= with its share as a column."
            )
        x, index = column.to_numpy(dtype=float), hierarchy.levels[0].index
        weight = np.ones(len(x)) if w is None else w
        mean = (np.bincount(index, x * weight) / np.bincount(index, weight))[index]
        if np.abs(x - mean).max() <= 1e-12 * max(np.abs(x).max(), 1e-300):
            raise DataError(
                f"A column that is constant in every group is its own group mean. {one.column!r} in {one.name} does "
                f"not vary among members. Use {one.column!r} itself as a predictor."
            )
        out.append(ObservedMean(one.name, one.column, x, pd.Series(mean, name=one.name)))
    return out


def latent_columns(
    formula: ModelFormula, x: Matrix, local: Mapping[str, pd.Series], measured: Sequence[ObservedMean]
) -> LatentColumns | None:
    """Differentiate the fixed columns in the latent means, and check that they are linear in them.

    Raises
    ------
    FormulaError
        If one is not.
    """
    if not measured:
        return None
    n, base = len(measured[0].values), np.array(x.columns)

    def moved(*by: tuple[ObservedMean, float]) -> Array:
        changed = {one.name: one.series + size for one, size in by}
        return np.array(again(x.spec, formula.fixed_variables, {**local, **changed}, n)) - base

    size = {one.name: float(one.values.std()) for one in measured}
    by_one = {one.name: moved((one, size[one.name])) for one in measured}
    checks = [(2.0 * by_one[one.name], moved((one, 2.0 * size[one.name])), one.name) for one in measured]
    for a, b in combinations(measured, 2):
        both = moved((a, size[a.name]), (b, size[b.name]))
        checks.append((by_one[a.name] + by_one[b.name], both, f"{a.name} and {b.name}"))
    for straight, found, name in checks:
        bent = np.abs(found - straight).max(axis=1) > LINEAR * np.maximum(np.abs(straight).max(axis=1), 1e-300)
        if bent.any():
            raise FormulaError(
                f"The outcome must be linear in latent means, so that they can be integrated out. Column "
                f"{x.names[int(np.argmax(bent))]!r} is not linear in {name}. Leave it out; products with observed "
                f"predictors are linear."
            )
    slopes = [
        (j, kappa, by_one[one.name][j] / size[one.name])
        for kappa, one in enumerate(measured)
        for j in range(len(base))
        if np.any(by_one[one.name][j])
    ]
    own = {name for one in measured for name in (one.name, one.column)}
    uses = {j: {str(v) for v in x.spec.term_variables[term]} for term, at in x.spec.term_indices.items() for j in at}
    others = tuple(j for j, name in enumerate(x.names) if name != "Intercept" and not uses[j] & own)
    return LatentColumns(
        tuple(one.name for one in measured),
        [one.values for one in measured],
        [one.series.to_numpy() for one in measured],
        slopes,
        others,
    )
