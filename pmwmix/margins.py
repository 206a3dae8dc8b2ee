"""Average marginal effects and adjusted predictions: averages of the fixed part over the rows of a table.

Equations are those of docs/effects.md. A fit does not keep the caller's columns, so the table is given again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from pmwmix.centre import Means, apply_center
from pmwmix.effects import complete_df
from pmwmix.errors import DataError, NotSupportedError, OptionError, near, some
from pmwmix.matrices import again
from pmwmix.predict import Blueprint, _check_kind, _recode
from pmwmix.rubin import rubin
from pmwmix.table import Table

Array = np.ndarray
Columns = dict[str, pd.Series]
STEP = 1e-4  # of a standard deviation, for derivatives by central differences


@dataclass(frozen=True)
class Sample:
    """Rows over which effects are averaged, as one plausible value sees them.

    Predictors before centring, total weights ``w`` and ``group``, the place of the ``by`` value among ``labels``.
    """

    blueprint: Blueprint
    columns: Columns
    w: Array
    group: Array
    labels: list[Any]

    def design(self, **changed: Any) -> Array:
        """Rebuild the fixed columns (n, p), with some predictors at other values."""
        n = len(self.w)
        columns = dict(self.columns)
        for name, value in changed.items():
            columns[name] = self._column(name, value, n)
        local = apply_center(self.blueprint.centrings, columns, None, Means(dict(self.blueprint.means.values)), True)
        local = {name: _recode(column, name, self.blueprint.categories) for name, column in local.items()}
        x = again(self.blueprint.x_spec, self.blueprint.formula.fixed_variables, local, n)
        return np.column_stack([x[j] for j in self.blueprint.kept])

    def _column(self, name: str, value: Any, n: int) -> pd.Series:
        known = self.blueprint.categories.get(name)
        if known is None:
            return pd.Series(np.broadcast_to(np.asarray(value, dtype=float), n).copy(), name=name)
        if str(value) not in known:
            raise OptionError(
                f"There is no category {value!r} of {name!r}.{near(str(value), known)} The fit knows {some(known)}."
            )
        return pd.Series(pd.Categorical([str(value)] * n, categories=known), name=name)

    def average(self, D: Array) -> Array:
        """Weighted means (g, p) of the rows (n, p) per group."""
        sums = np.column_stack([np.bincount(self.group, self.w * d, minlength=len(self.labels)) for d in D.T])
        return sums / np.bincount(self.group, self.w, minlength=len(self.labels))[:, None]


def ame(
    fit: Any,
    variables: str | Sequence[str] | None = None,
    newdata: Any = None,
    *,
    contrasts: Mapping[str, Any] | None = None,
    by: str | None = None,
    weighted: bool = True,
    ci_prob: float = 0.95,
) -> pd.DataFrame:
    """Average marginal effects of the predictors, weighted to the population.

    Parameters
    ----------
    fit : FitResult
        With identity link. Random effects average to zero, so that effects are those of the fixed part.
    variables : str or list of str, optional
        Predictors. None: all of the fixed part.
    newdata : table
        Rows to average over, with the columns of the formula; to use those of the fit, the table of the fit. Rows with
        missing predictors or without positive weight do not count.
    contrasts : dict, optional
        Per predictor. Numbers: ``"slope"`` (default; a column of 0 and 1 gets 1 against 0), a step such as ``1.0``, or
        a pair ``(low, high)``. Factors: ``"reference"`` (default: each category against the first), ``"sequential"``
        or ``"pairwise"``.
    by : str, optional
        Column; averages are formed for each of its values.
    weighted : bool
        Weight rows by their total weight, from the fit's weight columns in ``newdata``.
    ci_prob : float

    Returns
    -------
    DataFrame
        ``term, contrast`` (and the ``by`` column), ``estimate, std_error, statistic, df, p_value, ci_low, ci_high``.

    Notes
    -----
    Derivatives are central differences inside the column's range; with a polynomial, interaction or spline they go
    through every column that holds the predictor (effects, eqs. 13-14). Group means that centring adds stay fixed. The
    delta method treats the rows as given [1]_; degrees of freedom are the design's under a robust variance, infinite
    otherwise, and Barnard and Rubin's with plausible values.

    References
    ----------
    .. [1] Arel-Bundock, Greifer & Heiss (2024). J. Stat. Software, 111(9), 1-32. doi:10.18637/jss.v111.i09
    """
    table = _table(fit, newdata, "ame()")
    samples = [_sample(fit, one.rows.blueprint, table, by, weighted) for one in fit.fits]
    wanted = _variables(samples[0].blueprint, variables)
    rules = dict(contrasts or {})
    for name in rules:
        _known(name, wanted)
    parts = [[e for name in wanted for e in _effects(sample, name, rules.get(name))] for sample in samples]
    heads = [{"term": name, "contrast": label} for name, label, _ in parts[0]]
    return _pooled(fit, heads, [[G for _, _, G in part] for part in parts], samples[0].labels, by, ci_prob)


def predictions(
    fit: Any,
    at: Mapping[str, Any] | None = None,
    newdata: Any = None,
    *,
    by: str | None = None,
    weighted: bool = True,
    ci_prob: float = 0.95,
) -> pd.DataFrame:
    """Average the fixed part with some predictors set to given values: adjusted predictions.

    Parameters
    ----------
    fit, newdata, by, weighted, ci_prob
        As in `ame`.
    at : dict, optional
        ``{"escs": [-1, 0, 1], "sex": ["F", "M"]}``: every combination. None: the predictors as they are.

    Returns
    -------
    DataFrame
        The columns of ``at`` and ``by``, ``estimate, std_error, statistic, df, p_value, ci_low, ci_high``.

    Notes
    -----
    Every row gets the values in turn and keeps its other predictors (effects, eq. 15): no average row is made up.
    """
    table = _table(fit, newdata, "predictions()")
    samples = [_sample(fit, one.rows.blueprint, table, by, weighted) for one in fit.fits]
    grid = {name: [v] if np.ndim(v) == 0 else list(v) for name, v in (at or {}).items()}
    for name in grid:
        _known(name, _variables(samples[0].blueprint, None))
    heads = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    parts = [[sample.average(sample.design(**head)) for head in heads] for sample in samples]
    return _pooled(fit, heads, parts, samples[0].labels, by, ci_prob)


def _table(fit: Any, newdata: Any, verb: str) -> Table:
    if fit.link != "identity":
        raise NotSupportedError(
            f"{verb} works for the identity link. This fit has link={fit.link!r}. Use predict() on changed tables."
        )
    if newdata is None:
        raise OptionError(
            f"{verb} needs the table: a fit does not keep the columns of the data. newdata is missing. "
            f"Pass newdata=data, the table of the fit, or other rows with the same columns."
        )
    return Table(newdata)


def _sample(fit: Any, blueprint: Blueprint, table: Table, by: str | None, weighted: bool) -> Sample:
    pv = {name: column for name, column in blueprint.pv.items() if name in blueprint.predictors}
    factors = [name for plan in blueprint.centrings for name in plan.columns]
    weights = _weight_columns(fit) if weighted else []
    needed = [pv.get(name, name) for name in blueprint.predictors]
    columns = table.columns([*needed, *factors, *weights, *([by] if by else [])] or table.names[:1], "newdata")
    local = {**columns, **{name: columns[column] for name, column in pv.items()}}
    n = len(next(iter(columns.values())))
    w = np.prod([columns[name].to_numpy(dtype=float) for name in weights], axis=0) if weights else np.ones(n)
    keep = np.nan_to_num(w) > 0
    for name in dict.fromkeys([*blueprint.predictors, *factors, *([by] if by else [])]):
        _check_kind(local[name], name, blueprint)
        keep &= ~local[name].isna().to_numpy()
    rows = np.flatnonzero(keep)
    if not len(rows):
        raise DataError(
            f"No row is left to average over. All {n} rows of newdata have a missing predictor or no positive weight. "
            f"Check the columns {some([*needed, *weights], 12)}."
        )
    local = {name: column.take(rows).reset_index(drop=True) for name, column in local.items()}
    codes, labels = pd.factorize(local[by], sort=True) if by else (np.zeros(len(rows), dtype=np.int64), [None])
    return Sample(blueprint, local, w[rows], codes, list(labels))


def _weight_columns(fit: Any) -> list[str]:
    """Columns whose product is the total weight of a row."""
    named = [column for _, column in fit.settings.weights if column is not None]
    return named if fit.settings.conditional else named[:1]


def _variables(blueprint: Blueprint, asked: str | Sequence[str] | None) -> list[str]:
    fixed = [name for name in blueprint.predictors if name in blueprint.formula.fixed_variables]
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


def _effects(sample: Sample, name: str, rule: Any) -> list[tuple[str, str, Array]]:
    """Name, label and gradient (g, p) of every effect of one predictor."""

    def at(value: Any) -> Array:
        return sample.average(sample.design(**{name: value}))

    categories = _categories(sample, name)
    if categories is not None:
        return [(name, f"{b} - {a}", at(b) - at(a)) for a, b in _pairs(categories, name, rule)]
    x = sample.columns[name].to_numpy(dtype=float)
    if rule is None and set(np.unique(x)) <= {0.0, 1.0}:
        rule = (0.0, 1.0)
    if rule is None or rule == "slope":
        return [(name, "slope", _slope(sample, name, x))]
    if isinstance(rule, int | float | np.number) and not isinstance(rule, bool):
        return [(name, f"+{rule:g}", at(x + float(rule)) - at(x))]
    if isinstance(rule, tuple | list) and len(rule) == 2:
        low, high = (float(v) for v in rule)
        return [(name, f"{high:g} - {low:g}", at(high) - at(low))]
    raise OptionError(
        f"Unknown contrast of a number. That of {name!r} is {rule!r}. Use 'slope', a step or a pair (low, high)."
    )


def _slope(sample: Sample, name: str, x: Array) -> Array:
    h = STEP * float(x.std())
    if h == 0.0:
        raise DataError(
            f"A slope needs a column that varies. {name!r} is {x[0]:g} in all {len(x)} rows of newdata. "
            f"Leave it out of variables=, or give contrasts={{{name!r}: 1.0}}."
        )
    low, high = np.maximum(x - h, x.min()), np.minimum(x + h, x.max())  # splines end at the range of the data
    D = sample.design(**{name: high}) - sample.design(**{name: low})
    return sample.average(D / (high - low)[:, None])


def _categories(sample: Sample, name: str) -> list[Any] | None:
    if name in sample.blueprint.categories:
        return list(sample.blueprint.categories[name])
    text = sample.blueprint.formula.fixed
    if re.search(rf"\b(?:C|factor|as_factor)\(\s*`?{re.escape(name)}`?\s*[,)]", text):
        return [float(v) for v in np.unique(sample.columns[name])]
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
    fit: Any, heads: list[dict], gradients: list[list[Array]], labels: list[Any], by: str | None, ci_prob: float
) -> pd.DataFrame:
    """Turn gradients per fit, effect and group into a table, pooled by Rubin's rules."""
    if not 0 < ci_prob < 1:
        raise OptionError(f"ci_prob is a probability between 0 and 1. Got {ci_prob!r}. Write for example ci_prob=0.95.")
    G = [np.vstack(one) for one in gradients]
    estimates = np.array([g @ one.coef.to_numpy() for g, one in zip(G, fit.fits, strict=True)])
    covariances = np.array([g @ one.vcov.to_numpy() @ g.T for g, one in zip(G, fit.fits, strict=True)])
    pooled = rubin(estimates, covariances, complete_df(fit))
    error, df = np.sqrt(np.diag(pooled.vcov)), np.minimum(pooled.df, 1e10)
    out = pd.DataFrame([{**head, **({by: label} if by else {})} for head in heads for label in labels])
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = pooled.estimate / error
    half = stdtrit(df, 0.5 + ci_prob / 2) * error
    numbers = {"estimate": pooled.estimate, "std_error": error, "statistic": statistic, "df": pooled.df}
    ends = {"ci_low": pooled.estimate - half, "ci_high": pooled.estimate + half}
    return out.assign(**numbers, p_value=2 * stdtr(df, -np.abs(statistic)), **ends)
