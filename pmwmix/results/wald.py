"""Wald tests and contrasts of the coefficients, with the degrees of freedom of each combination."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import fdtrc, stdtr

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, PmwmixWarning
from pmwmix.fitting.severalfits import FEW, bias_reduced_of, hotelling_of
from pmwmix.inference.adjust import adjusted, check_adjustment, multiplier
from pmwmix.inference.delta import spread
from pmwmix.inference.joint import shrinkage
from pmwmix.pooling import pool
from pmwmix.pooling.nested import wald_of
from pmwmix.pooling.rubin import independent
from pmwmix.results.hypotheses import Hypotheses, pairs_of, read_hypotheses
from pmwmix.spec.checks import check_prob
from pmwmix.variance.few_clusters import KINDS
from pmwmix.weights.replicate_types import BY_REPLICATES

NUMBERS = ["estimate", "std_error", "statistic", "df", "p_value", "p_adjusted", "ci_low", "ci_high"]


def wald(fit: Any, terms: Any = None, df: str | float | None = None) -> pd.Series:
    """Wald test of linear hypotheses about the coefficients.

    Parameters
    ----------
    terms : str, list of str or ndarray (r, p), optional
        Terms (``"escs"``), whole factors (``"immig"``, all its categories; ``"immig:escs"``), equations (``"x1 = x2"``,
        ``"2 * x1 - x2 = 0.5"``), several of them in a list, or a contrast matrix. None: all but the intercept.
    df : optional
        As in `df`; the denominator is the smallest among the terms, of a single combination its own. With plausible
        values and more than one contrast the statistic is D1 of Li, Raghunathan & Rubin (theory, eq. 34). Under a
        robust or replicate variance of d degrees of freedom, k contrasts have F with k and d - k + 1 (theory, eq. 55);
        under ``vcov="CR2"``, and under any robust variance of a linear model of up to 100 clusters,
        Hotelling's T² with the CR2 covariance (small-sample, eqs. 21-22 and 25); each with D1 on top.

    Returns
    -------
    Series
        ``statistic`` (an F), ``df1``, ``df2``, ``p_value``; NaN, with a warning, without degrees of freedom, or where
        a combination is not estimable since columns were dropped (an interaction with an empty cell).

    Raises
    ------
    OptionError
        If a term does not exist, or a hypothesis is not linear or contradicts another.
    NotSupportedError
        If the model has no fixed coefficient, or their covariance is missing.
    """
    asked = read_hypotheses(_all_terms(fit) if terms is None else terms, list(fit.coef.index), fit.formula)
    if terms is not None and _not_estimable(fit, asked).any():  # the model as a whole is what it is
        return pd.Series({"statistic": np.nan, "df1": float(len(asked.L)), "df2": np.nan, "p_value": np.nan})
    return _test(fit, asked, fit._default_rule() if df is None else df)


def contrast(
    fit: Any, what: Any, adjust: str = "holm", ci_prob: float = 0.95, df: str | float | None = None
) -> pd.DataFrame:
    """Estimate combinations of coefficients, with p-values adjusted for their number.

    Parameters
    ----------
    what : str, list of str or ndarray (r, p)
        A factor: all differences between its categories. Otherwise as in `wald`: of ``"x1 = x2"`` the difference.
    adjust : {"holm", "single-step", "bonferroni", "fdr", "none"}
        Holm's and Bonferroni's bounds, the distribution of the largest of the correlated t statistics ("single-step":
        Tukey's of all pairs), or Benjamini and Hochberg's false discovery rate (contrasts, eqs. 1-4).
    ci_prob : float
        Of every interval, or under "single-step" and "bonferroni" of all intervals together.
    df : optional
        As in `wald`; "single-step" takes the smallest.

    Returns
    -------
    DataFrame
        ``contrast, estimate, std_error, statistic, df, p_value, p_adjusted, ci_low, ci_high``; NaN, with a warning,
        of combinations that are not estimable, and p-values adjusted for the others.

    Raises
    ------
    OptionError, NotSupportedError
        As `wald`.

    Notes
    -----
    Differences are those of coefficients: with an interaction, at zero of the other predictor. ``fit.ame(contrasts=
    {"immig": "pairwise"})`` averages over the rows instead.

    References
    ----------
    .. [1] Hothorn, Bretz & Westfall (2008). Simultaneous inference in general parametric models. Biometrical Journal,
       50(3), 346-363. doi:10.1002/bimj.200810425
    """
    check_prob(ci_prob)
    check_adjustment(adjust)
    names, rule = list(fit.coef.index), fit._default_rule() if df is None else df
    categories = {} if fit.fits[0].rows is None else fit.fits[0].rows.blueprint.categories
    pairs = pairs_of(what, names, categories) if isinstance(what, str) else None
    asked = read_hypotheses(what, names, fit.formula) if pairs is None else pairs
    table = pd.DataFrame({"contrast": asked.labels}, columns=["contrast", *NUMBERS])
    known = ~_not_estimable(fit, asked)
    if known.any():
        left = Hypotheses(asked.L[known], asked.value[known], [])
        table.loc[known, NUMBERS] = _contrasts(fit, left, adjust, ci_prob, rule)
    return table.astype(dict.fromkeys(NUMBERS, float))


def _contrasts(fit: Any, asked: Hypotheses, adjust: str, ci_prob: float, rule: Any) -> Array:
    """Give the numbers of every combination, in the order of `NUMBERS` (r, 8)."""
    covariance = spread(asked.L, _vcov(fit, rule))
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    estimate = asked.L @ fit.coef.to_numpy() - asked.value
    degrees = np.array([_df_of(fit, row, rule) for row in asked.L])
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic, R = estimate / error, covariance / np.outer(error, error)
    if not np.isfinite(R).all():
        raise _no_covariance(fit, np.any(asked.L != 0, axis=0))
    half = multiplier(degrees, R, adjust, ci_prob) * error
    p = 2.0 * stdtr(np.minimum(degrees, 1e10), -np.abs(statistic))
    p_adjusted = adjusted(statistic, degrees, R, adjust)
    return np.column_stack([estimate, error, statistic, degrees, p, p_adjusted, estimate - half, estimate + half])


def _not_estimable(fit: Any, asked: Hypotheses) -> Array:
    """Mark combinations that depend on which column was dropped (r,), with a warning."""
    rows = fit.fits[0].rows
    blueprint = None if rows is None else rows.blueprint
    if blueprint is None or blueprint.aliases is None:
        return np.zeros(len(asked.L), dtype=bool)
    lost = blueprint.aliases.lost_contrasts(asked.L, blueprint.kept)
    if lost.any():
        blueprint.aliases.warn([label for label, gone in zip(asked.labels, lost, strict=True) if gone], 3)
    return lost


def _all_terms(fit: Any) -> list[str]:
    names = list(fit.coef.index)
    return [name for name in names if name not in fit.constants] or names


def _vcov(fit: Any, rule: Any) -> Array:
    return fit.vcov.to_numpy() + fit._added(rule)


def _test(fit: Any, asked: Hypotheses, rule: Any) -> pd.Series:
    names = ("statistic", "df1", "df2", "p_value")
    L, shift = asked.L, asked.shift()
    if _is(rule, "kenward-roger") and fit.pooled is None:
        kenward = fit._kenward[0]
        return pd.Series(dict(zip(names, replace(kenward, beta=kenward.beta - shift).kr_test(L), strict=True)))
    vcov, used = _vcov(fit, rule), np.any(L != 0, axis=0)
    if not (np.isfinite(whole := spread(L, vcov)).all() and whole.any()):
        raise _no_covariance(fit, used)
    L = independent(L, np.sqrt(np.diag(vcov)))
    value, k = L @ (fit.coef.to_numpy() - shift), len(L)
    if k == 1:
        df2 = _df_of(fit, L[0], rule)
        F = float(value[0] ** 2 / spread(L, vcov)[0, 0])
        return pd.Series(dict(zip(names, (F, 1.0, df2, float(fdtrc(1, min(df2, 1e10), F))), strict=True)))
    pooled, reduced = fit.pooled, _bias_reduced(fit, rule)
    own = vcov if pooled is None else pooled.within + fit._added(rule)
    within = spread(L, own if reduced is None else reduced)
    shrunk, df2 = _reference(fit, L, rule, used, within, reduced is not None)
    if pooled is None or not df2 > 0:
        F = float(value @ np.linalg.pinv(within, hermitian=True) @ value) / k
    else:
        F, df2 = wald_of(value, within, np.array([one.coef for one in fit.fits]) @ L.T, fit.nests, df2)
    p = float(fdtrc(k, min(df2, 1e10), shrunk * F))
    return pd.Series(dict(zip(names, (shrunk * F, float(k), df2, p), strict=True)))


def _bias_reduced(fit: Any, rule: Any) -> Array | None:
    """Give the CR2 covariance (p, p) for tests of several coefficients of few clusters, where it is defined."""
    if not _is(rule, "design") or fit.settings.vcov in ("model", *KINDS, *BY_REPLICATES):
        return None
    if fit.has_closed_form and fit.settings.design_df < FEW and not all(one.rows.is_live for one in fit.fits):
        warnings.warn(
            f"This fit was read from a file, without its rows: the joint test takes the covariance of "
            f"vcov={fit.settings.vcov!r}, which rejects too often with few clusters ({fit.settings.design_df:.0f} "
            f"degrees of freedom). Fit the model again for the test with CR2.",
            PmwmixWarning,
            stacklevel=4,
        )
    return bias_reduced_of(fit.fits)


def _reference(fit: Any, L: Array, rule: Any, used: Array, within: Array, is_reduced: bool) -> tuple[float, float]:
    """Give the factor and the denominator of the F test of several contrasts with a covariance (k, k)."""
    source, design_df = f"vcov={fit.settings.vcov!r}", fit.settings.design_df
    if is_reduced:
        return shrinkage(within, hotelling_of(fit.fits, L, "CR2"), source)
    if _is(rule, "bell-mccaffrey"):
        return shrinkage(within, hotelling_of(fit.fits, L), source)
    df2 = float((fit.df(rule).to_numpy() if fit.pooled is None else _complete(fit, rule))[used].min())
    if fit.settings.vcov == "model":
        return 1.0, df2
    return shrinkage(within, design_df if _is(rule, "design") else df2, source)  # slopes are counted here


def _df_of(fit: Any, row: Array, rule: Any) -> float:
    """Degrees of freedom of one combination (p,), with plausible values Barnard and Rubin's."""
    used = row != 0
    if _is(rule, "kenward-roger") and fit.pooled is None:
        return float(fit._kenward[0].kr_test(row)[2])
    if _is(rule, "bell-mccaffrey") and used.sum() > 1:
        complete = hotelling_of(fit.fits, row[None])
    elif _is(rule, "satterthwaite") and used.sum() > 1 and all(one.rows.is_live for one in fit.fits):
        fit._complete_df(rule)  # refuses fits without them
        complete = float(np.mean([one.satterthwaite(row[None])[0] for one in fit.fits]))
    else:
        complete = float(_complete(fit, rule)[used].min())
    if fit.pooled is None:
        return complete
    values = np.array([row @ one.coef.to_numpy() for one in fit.fits])[:, None]
    variances = np.array([spread(row[None], one.vcov.to_numpy())[0] for one in fit.fits])
    return float(pool(values, variances, complete, fit.nests).df[0])


def _complete(fit: Any, rule: Any) -> Array:
    """Degrees of freedom of every coefficient before pooling (p,)."""
    return np.broadcast_to(np.asarray(fit._complete_df(rule), dtype=float), len(fit.coef))


def _is(rule: Any, name: str) -> bool:
    return isinstance(rule, str) and rule == name


def _no_covariance(fit: Any, used: Array) -> NotSupportedError:
    gone = used & np.isnan(np.diag(fit.vcov.to_numpy()))
    used = gone if gone.any() else used
    return NotSupportedError(
        f"A Wald test needs the covariance of its terms. That of {', '.join(fit.coef.index[used])} is missing "
        f"or zero. Test other terms, or fit with another vcov."
    )
