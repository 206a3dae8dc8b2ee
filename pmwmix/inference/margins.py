"""Average marginal effects and adjusted predictions: averages of the mean outcome over the rows of a table.

Equations are those of docs/effects.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from pmwmix._types import Array
from pmwmix.errors import DataError, OptionError, near, some
from pmwmix.inference.averages import parameter_draws
from pmwmix.inference.delta import complete_df, spread
from pmwmix.inference.piecewise import Averages, Found, averages_of
from pmwmix.inference.samples import Sample
from pmwmix.pooling import pool
from pmwmix.pooling.nested import mix_draws
from pmwmix.prediction.responses import check_type
from pmwmix.spec.checks import check_fitted

STEP = 1e-4  # of a standard deviation, for derivatives by central differences


def ame(
    fit: Any,
    variables: str | Sequence[str] | None = None,
    newdata: Any = None,
    *,
    contrasts: Mapping[str, Any] | None = None,
    at: Mapping[str, Any] | None = None,
    by: str | None = None,
    weighted: bool = True,
    averaged: bool = True,
    type: str = "response",
    ci_prob: float = 0.95,
) -> pd.DataFrame:
    """Average marginal effects of the predictors, weighted to the population.

    Parameters
    ----------
    fit : FitResult or BayesResult
    variables : str or list of str, optional
        Predictors. None: all of the fixed part.
    newdata : table, optional
        Rows to average over, with the columns of the formula. None: those of the fit, read from its table, to which a
        fit keeps a reference. Rows with missing predictors or without positive weight do not count.
    contrasts : dict, optional
        Per predictor. Numbers: ``"slope"`` (default; a column of 0 and 1 gets 1 against 0), a step such as ``1.0``, or
        a pair ``(low, high)``. Factors: ``"reference"`` (default: each category against the first), ``"sequential"``
        or ``"pairwise"``.
    at : dict, optional
        Values of other predictors, ``{"meanses": [-0.5, 0, 0.5]}``, every combination: effects where all rows have
        them. None: the predictors as they are.
    by : str, optional
        Column; averages are formed for each of its values.
    weighted : bool
        Weight rows by their total weight, from the fit's weight columns in ``newdata``.
    averaged : bool
        Average the outcome over the distribution of the random effects (population-averaged); otherwise take random
        effects of zero, a typical group. The same for linear models, whose random effects average to zero.
    type : {"response", "link"}
        Scale of the outcome (probabilities, of an ordinal outcome one per category), or of the linear predictor.
    ci_prob : float

    Returns
    -------
    DataFrame
        ``term, contrast`` (and the columns of ``at`` and ``by``; ``category`` of an ordinal outcome), ``estimate,
        std_error, statistic, df, p_value, ci_low, ci_high``; of a posterior ``estimate, std_error, ci_low, ci_high,
        p_direction``.

    Notes
    -----
    Derivatives are differences inside the column's range; with a polynomial, interaction or spline they go through
    every column that holds the predictor, random slopes included (effects, eqs. 13-14, 23-26). Group means that
    centring adds stay fixed. The delta method goes through coefficients, thresholds and, of population averages,
    variance components, and treats the rows as given [1]_; degrees of freedom are the design's under a robust variance,
    infinite otherwise, and Barnard and Rubin's with plausible values. Of a posterior the estimate is at the posterior
    means, and all its draws go through the same derivatives: exact for linear models, of first order otherwise.

    References
    ----------
    .. [1] Arel-Bundock, Greifer & Heiss (2024). J. Stat. Software, 111(9), 1-32. doi:10.18637/jss.v111.i09
    """
    check_type(type)
    averages = averages_of(fit, newdata, by, weighted, averaged, type, "ame()")
    grid = _grid(averages, at)
    wanted = [name for name in _variables(averages.first[0], variables) if variables is not None or name not in grid]
    if not wanted:
        raise OptionError(
            f"Marginal effects are those of predictors. The fixed part of {fit.formula!r} has none. "
            f"Use predictions() for the mean of the outcome."
        )
    rules = dict(contrasts or {})
    for name in rules:
        _known(name, wanted)
    if both := [name for name in wanted if name in grid]:
        raise OptionError(
            f"A predictor is held or varied. {both[0]!r} stands in at={at!r} and among variables. Leave one out."
        )
    held = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]

    def effects(sample: Sample) -> Found:
        every = [(e, one) for name in wanted for one in held for e in _effects(sample, name, rules.get(name), one)]
        return [({"term": name, "contrast": label, **one}, found) for (name, label, found), one in every]

    return _pooled(fit, *averages.of(effects), averages.labels, by, ci_prob)


def predictions(
    fit: Any,
    at: Mapping[str, Any] | None = None,
    newdata: Any = None,
    *,
    by: str | None = None,
    weighted: bool = True,
    averaged: bool = True,
    type: str = "response",
    ci_prob: float = 0.95,
) -> pd.DataFrame:
    """Average the mean outcome with some predictors set to given values: adjusted predictions.

    Parameters
    ----------
    fit, newdata, by, weighted, averaged, type, ci_prob
        As in `ame`.
    at : dict, optional
        ``{"escs": [-1, 0, 1], "sex": ["F", "M"]}``: every combination. None: the predictors as they are.

    Returns
    -------
    DataFrame
        The columns of ``at`` and ``by`` (and ``category``), ``estimate, std_error, statistic, df, p_value, ci_low,
        ci_high``; of a posterior as in `ame`.

    Notes
    -----
    Every row gets the values in turn and keeps its other predictors (effects, eqs. 15 and 23): no average row is made
    up.
    """
    check_fitted(fit, "predictions()")
    check_type(type)
    averages = averages_of(fit, newdata, by, weighted, averaged, type, "predictions()")
    grid = _grid(averages, at)
    heads = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    found = averages.of(lambda sample: [(head, sample.average([(head, 1.0)], total=1.0)) for head in heads])
    return _pooled(fit, *found, averages.labels, by, ci_prob)


def _grid(averages: Averages, at: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """List the values of the predictors that are held."""
    if not isinstance(at or {}, Mapping):
        raise OptionError(
            f"at is a dict from predictors to values. Got {at!r}. Write for example at={{'escs': [-1, 1]}}."
        )
    for name in at or {}:
        _known(name, _variables(averages.first[0], None))
    return {name: [v] if np.ndim(v) == 0 else list(v) for name, v in (at or {}).items()}


def _variables(sample: Sample, asked: str | Sequence[str] | None) -> list[str]:
    """Predictors that were asked for, by default all that the mean depends on."""
    formula = sample.blueprint.formula
    more = () if sample.model.link is None else formula.further_variables
    used = (*formula.fixed_variables, *more)
    fixed = [name for name in sample.blueprint.predictors if name in used]
    wanted = fixed if asked is None else [asked] if isinstance(asked, str) else list(asked)
    for name in wanted:
        _known(name, fixed)
    return wanted


def _known(name: str, available: Sequence[str]) -> None:
    if name not in available:
        raise OptionError(
            f"There is no such predictor to vary. Got {name!r}.{near(str(name), available)} "
            f"The predictors are {some(available, 12)}."
        )


def _effects(
    sample: Sample, name: str, rule: Any, held: Mapping[str, Any]
) -> list[tuple[str, str, tuple[Array, Array]]]:
    """Name, label, values (g, c) and gradients (g, c, P) of every effect of one predictor."""

    def step(high: Any, low: Any) -> tuple[Array, Array]:
        return sample.average([({**held, name: high}, 1.0), ({**held, name: low}, -1.0)])

    categories = _categories(sample, name)
    if categories is not None:
        return [(name, f"{b} - {a}", step(b, a)) for a, b in _pairs(categories, name, rule)]
    x = sample.columns[name].to_numpy(dtype=float)
    if rule is None and (sample.spread(name).values or {2.0}) <= {0.0, 1.0}:
        rule = (0.0, 1.0)
    if rule is None or rule == "slope":
        return [(name, "slope", _slope(sample, name, x, held))]
    if isinstance(rule, int | float | np.number) and not isinstance(rule, bool):
        return [(name, f"+{rule:g}", step(x + float(rule), x))]
    if isinstance(rule, tuple | list) and len(rule) == 2:
        low, high = (float(v) for v in rule)
        return [(name, f"{high:g} - {low:g}", step(high, low))]
    raise OptionError(
        f"Unknown contrast of a number. That of {name!r} is {rule!r}. Use 'slope', a step or a pair (low, high)."
    )


def _slope(sample: Sample, name: str, x: Array, held: Mapping[str, Any]) -> tuple[Array, Array]:
    """Give the derivative of the parabola through three points; the middle one is x, but at the ends of the range.

    Splines end at the range of the data, logarithms often do.
    """
    every = sample.spread(name)
    h = STEP * every.sd
    if h == 0.0:
        raise DataError(
            f"A slope needs a column that varies. {name!r} is {x[0]:g} in all {every.n} rows of newdata. "
            f"Leave it out of variables=, or give contrasts={{{name!r}: 1.0}}."
        )
    middle = np.clip(x, every.low + h, every.high - h)
    low, high = middle - h, middle + h
    at = 2.0 * (x - middle) / (high - low)  # -1, 0 or 1 and between
    pieces = [({name: high}, (1.0 + 2.0 * at) / (high - low)), ({name: low}, (2.0 * at - 1.0) / (high - low))]
    if at.any():
        pieces.append(({name: middle}, -4.0 * at / (high - low)))
    return sample.average([({**held, **changed}, factor) for changed, factor in pieces])


def _categories(sample: Sample, name: str) -> list[Any] | None:
    if name in sample.blueprint.categories:
        return list(sample.blueprint.categories[name])
    formula = sample.blueprint.formula
    text = " + ".join([formula.fixed, *(part.fixed for part in formula.further)])
    if re.search(rf"\b(?:C|factor|as_factor)\(\s*`?{re.escape(name)}`?\s*[,)]", text):
        return sorted(sample.spread(name).values or ())
    return None


def _pairs(categories: list[Any], name: str, rule: Any) -> list[tuple[Any, Any]]:
    first, *others = categories
    pairs = {
        "reference": [(first, other) for other in others],
        "sequential": list(pairwise(categories)),
        "pairwise": list(combinations(categories, 2)),
    }
    if rule is not None and rule not in pairs:
        raise OptionError(f"Unknown contrast of a factor. That of {name!r} is {rule!r}. Use one of {some(pairs)}.")
    return pairs[rule or "reference"]


def _pooled(
    fit: Any,
    heads: list[dict],
    found: list[list[tuple[Array, Array]]],
    labels: list[Any],
    by: str | None,
    ci_prob: float,
) -> pd.DataFrame:
    """Turn values and gradients per fit, effect and group into a table, pooled by Rubin's rules."""
    if not 0 < ci_prob < 1:
        raise OptionError(f"ci_prob is a probability between 0 and 1. Got {ci_prob!r}. Write for example ci_prob=0.95.")
    categories = list(fit.outcomes or fit.categories) if found[0][0][0].shape[1] > 1 else [None]
    kind = "outcome" if fit.outcomes else "category"
    names = [
        {**head, **({by: label} if by else {}), **({} if category is None else {kind: category})}
        for head in heads
        for label in labels
        for category in categories
    ]
    estimates = np.array([np.concatenate([values.ravel() for values, _ in one]) for one in found])
    gradients = [np.concatenate([G.reshape(-1, G.shape[-1]) for _, G in part]) for part in found]
    numbers = _by_draws if fit.method == "bayes" else _by_delta
    lost, aliases = np.isnan(estimates).any(axis=0), fit.fits[0].rows.blueprint.aliases
    if lost.any() and aliases is not None:
        aliases.warn([" ".join(map(str, name.values())) for name, gone in zip(names, lost, strict=True) if gone], 3)
    return pd.DataFrame(names).assign(**numbers(fit, estimates, gradients, ci_prob))


def _by_delta(fit: Any, estimates: Array, gradients: Sequence[Array], ci_prob: float) -> dict[str, Array]:
    """Errors and intervals of estimates (K, m) by the delta method, with their gradients (m, P)."""
    covariances = np.array([spread(G, one.vcov_of(G.shape[-1])) for one, G in zip(fit.fits, gradients, strict=True)])
    pooled = pool(estimates, covariances, complete_df(fit), fit.nests)
    error, df = np.sqrt(np.maximum(np.diag(pooled.vcov), 0.0)), np.minimum(pooled.df, 1e10)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = pooled.estimate / error
    half = stdtrit(df, 0.5 + ci_prob / 2) * error
    numbers = {"estimate": pooled.estimate, "std_error": error, "statistic": statistic, "df": pooled.df}
    numbers["p_value"] = 2 * stdtr(df, -np.abs(statistic))
    return {**numbers, "ci_low": pooled.estimate - half, "ci_high": pooled.estimate + half}


def _by_draws(fit: Any, estimates: Array, gradients: Sequence[Array], ci_prob: float) -> dict[str, Array]:
    """Give errors and intervals of posteriors: each draw's way from the posterior mean goes through the gradients."""
    parts = []
    for one, estimate, G in zip(fit.fits, estimates, gradients, strict=True):
        draws = parameter_draws(one)
        parts.append(estimate + (draws - draws.mean(axis=0)) @ G.T)
    mixed = mix_draws(parts)
    low, high = np.quantile(mixed, [(1 - ci_prob) / 2, (1 + ci_prob) / 2], axis=0)
    return {
        "estimate": estimates.mean(axis=0),
        "std_error": mixed.std(axis=0, ddof=1),
        "ci_low": low,
        "ci_high": high,
        "p_direction": np.maximum((mixed > 0).mean(axis=0), (mixed < 0).mean(axis=0)),
    }
