"""Intraclass correlations with standard errors, and design effects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit, stdtrit

from pmwmix._types import Array
from pmwmix.errors import OptionError
from pmwmix.inference.again import covariance
from pmwmix.inference.delta import check_latent, pooled_delta, rows_of, unpack
from pmwmix.pooling import pool
from pmwmix.prediction.rows import LiveRows


def icc_se(fit: Any, ci_prob: float = 0.95) -> pd.DataFrame:
    """Intraclass correlation of every level with a standard error and an interval.

    Parameters
    ----------
    fit : FitResult or BayesResult
        Of a generalised model, shares on the scale of the linear predictor.
    ci_prob : float
        Probability of the interval, which is formed on the logit scale and so stays between 0 and 1.

    Returns
    -------
    DataFrame
        By level, bottom-up: ``icc, std_error, df, ci_low, ci_high``. Without a standard error where the intercept
        variances from that level upwards are zero.

    Notes
    -----
    Shares of the intercepts' variance at or above each level (theory, eq. 27) and their delta-method covariance
    (effects, eqs. 1-2), pooled over plausible values. The covariance of the variance components is the one the fit
    was asked for: under ``"robust"`` it holds for non-normal random effects too. The level-1 variance of a generalised
    model is that of theory, eq. 53.
    """
    if not 0 < ci_prob < 1:
        raise OptionError(f"ci_prob is a probability between 0 and 1. Got {ci_prob!r}. Write for example ci_prob=0.95.")
    if fit.method == "bayes":
        return _drawn_shares(fit, ci_prob)
    parts = rows_of(fit, "icc_se()")
    check_latent(fit, "icc_se()")
    pooled = pooled_delta(fit, [partial(_shares, rows) for _, rows in parts])
    levels = [level.name for level in parts[0][1].frame.hierarchy.levels]
    icc, se = pooled.estimate, np.sqrt(np.diag(pooled.vcov))
    se = np.where((icc > 1e-9) & (se > 0), se, np.nan)
    inside = np.clip(icc, 1e-300, 1 - 1e-16)
    half = stdtrit(np.minimum(pooled.df, 1e10), 0.5 + ci_prob / 2) * se / (inside * (1 - inside))
    low, high = expit(logit(inside) - half), expit(logit(inside) + half)
    columns = {"icc": icc, "std_error": se, "df": pooled.df, "ci_low": low, "ci_high": high}
    return pd.DataFrame(columns, index=pd.Index(levels, name="level"))


def _drawn_shares(fit: Any, ci_prob: float) -> pd.DataFrame:
    """Means, standard deviations and equal-tailed intervals of a posterior's draws."""
    draws = fit.pooled_draws("icc")
    low, high = np.quantile(draws, [(1 - ci_prob) / 2, (1 + ci_prob) / 2], axis=0)
    columns = {"icc": draws.mean(axis=0), "std_error": draws.std(axis=0, ddof=1), "df": np.inf}
    index = pd.Index(list(fit.n_groups.index), name="level")
    return pd.DataFrame({**columns, "ci_low": low, "ci_high": high}, index=index)


def _shares(rows: LiveRows, values: Array) -> Array:
    _, Psi, sigma2 = unpack(rows, values)
    own = np.zeros(len(Psi))
    for level in range(len(Psi)):
        names = [name for b in rows.design.blocks if b.level == level for name in b.matrix.names]
        own[level] = sum(Psi[level][i, i] for i, name in enumerate(names) if name == "Intercept")
    above = own if rows.frame.hierarchy.crossed else np.cumsum(own[::-1])[::-1]
    return above / (own.sum() + sigma2)


def design_effects(fit: Any, methods: Sequence[str] = ("robust", "robust-block")) -> pd.DataFrame:
    """Lay the coefficients' standard errors by several methods side by side, with ratios of their variances.

    Parameters
    ----------
    fit : FitResult
    methods : sequence of str
        Names in `VARIANCES`, besides ``"model"``.

    Returns
    -------
    DataFrame
        By term: ``estimate``, ``se_model``, then ``se_<method>`` and ``deff_<method>`` of each method.

    Notes
    -----
    ``deff`` (effects, eq. 12) is Skinner's misspecification effect with the weighted model as the reference: above 1
    the model-based standard error is too small. The reference counts top-level weights relative to their mean, so that
    multiplying all of them changes nothing; unscaled weights below the top level make it too small, scale them before
    reading ``deff``. With plausible values standard errors are total ones, and ``deff`` compares variances within.

    References
    ----------
    .. [1] Skinner (1989), in Skinner, Holt & Smith (Eds.), Analysis of Complex Surveys, ch. 3. Wiley.
    """
    parts = rows_of(fit, "design_effects()")
    p = len(fit.coef)
    beta = np.array([one.coef.to_numpy() for one, _ in parts])
    out = pd.DataFrame({"estimate": fit.coef})
    reference = np.zeros(p)
    for method in dict.fromkeys(("model", *methods)):
        V = np.array([covariance(rows, method, relative=True)[:p, :p] for _, rows in parts])
        pooled = pool(beta, V, nests=fit.nests)
        out[f"se_{method}"] = np.sqrt(np.diag(pooled.vcov))
        if method == "model":
            reference = np.diag(pooled.within)
        else:
            out[f"deff_{method}"] = np.diag(pooled.within) / reference
    return out.rename_axis("term")
