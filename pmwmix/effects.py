"""Effect sizes from the parameters of a fit: intraclass correlations and design effects of the coefficients.

Equations are those of docs/effects.md. The first functions also serve `explained`, `margins` and `diagnostics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit, stdtrit

from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.frame import ModelFrame
from pmwmix.predict import Rows
from pmwmix.rejudge import covariance
from pmwmix.rubin import Pooled, rubin

Array = np.ndarray
STEP = 1e-3  # of a standard error; truncation is then far below the printed digits, rounding too


def rows_of(fit: Any, verb: str) -> list[tuple[Any, Rows]]:
    """Give every single fit with its rows, refusing what a function cannot work on.

    Raises
    ------
    NotSupportedError
        If the fit was read from a file, which keeps no columns.
    """
    out = [(one, one.rows) for one in fit.fits]
    if not all(isinstance(rows, Rows) for _, rows in out):
        raise NotSupportedError(
            f"{verb} needs the columns of the fit. This one was read from a file, which does not keep them. "
            f"Fit again with {fit.settings.call}."
        )
    return out


def unscaled_weights(frame: ModelFrame) -> tuple[Array, ...]:
    """Give the conditional weights before scaling, rows first.

    Raises
    ------
    NotSupportedError
        If the frame keeps only the scaled ones.
    """
    kept = getattr(frame, "cond", ())
    if kept or frame.scaling == "none" or not any(frame.weighted):
        return tuple(kept) or frame.w
    raise NotSupportedError(
        f"The weights before scaling are needed. This fit has scaling={frame.scaling!r} and keeps only the scaled "
        f"ones. Fit with scaling='none' and start from that fit."
    )


def complete_df(fit: Any) -> float:
    """Degrees of freedom before pooling: clusters minus strata under a robust variance, else infinite."""
    return float(fit.settings.design_df) if fit.settings.vcov != "model" else float("inf")


def delta(function: Callable[[Array], Array], values: Array, V: Array) -> tuple[Array, Array]:
    """Value of a smooth function and its delta-method covariance (effects, eq. 1), by central differences.

    Parameters
    ----------
    function : callable
        (P,) to (m,).
    values : ndarray, shape (P,)
    V : ndarray, shape (P, P)

    Returns
    -------
    ndarray, shape (m,)
    ndarray, shape (m, m)
    """
    centre = function(values)
    steps = STEP * np.sqrt(np.maximum(np.diag(V), 0.0))
    G = np.zeros((len(centre), len(values)))
    for i in np.flatnonzero(steps):  # a parameter on the boundary does not move
        shift = np.zeros(len(values))
        shift[i] = steps[i]
        G[:, i] = (function(values + shift) - function(values - shift)) / (2.0 * steps[i])
    return centre, G @ V @ G.T


def pooled_delta(fit: Any, functions: Sequence[Callable[[Array], Array]]) -> Pooled:
    """Apply one function per single fit to its parameters and pool by Rubin's rules.

    Within a fit the covariance is the delta method's, or with replicate weights that of the function over replicates.
    """
    parts = [_with_error(one, function) for one, function in zip(fit.fits, functions, strict=True)]
    return rubin(np.array([value for value, _ in parts]), np.array([V for _, V in parts]), complete_df(fit))


def _with_error(one: Any, function: Callable[[Array], Array]) -> tuple[Array, Array]:
    values, V = one.parameters
    replicates = one.rows.fit.replicates
    if replicates is None:
        return delta(function, values, V)
    return function(values), replicates.covariance_of(lambda every: function(every[: len(values)]))


def unpack(rows: Rows, values: Array) -> tuple[Array, list[Array], float]:
    """Turn the parameters of a fit into beta, Psi per level and the level-1 variance.

    Parameters
    ----------
    rows : Rows
    values : ndarray, shape (P,)
        Coefficients (thresholds first), variance components, and sigma² or, in a generalised model, the level-1
        variance on the scale of the linear predictor.

    Returns
    -------
    ndarray, shape (p,)
        Coefficients of the linear predictor.
    list of ndarray
    float
    """
    blocks = rows.design.blocks
    sizes = [0] * len(rows.frame.hierarchy.levels)
    for block in blocks:
        sizes[block.level] += len(block.matrix.names)
    Psi, offsets = [np.zeros((q, q)) for q in sizes], [0] * len(sizes)
    k = n = len(rows.fit.beta)
    for block in blocks:
        start, q = offsets[block.level], len(block.matrix.names)
        for j in range(q):
            for i in range(j, q):
                Psi[block.level][start + i, start + j] = Psi[block.level][start + j, start + i] = values[k]
                k += 1
        offsets[block.level] += q
    return values[n - len(rows.problem.kept) : n], Psi, float(values[k])


def check_latent(fit: Any, verb: str) -> None:
    """Refuse models whose level-1 variance does not exist.

    Raises
    ------
    NotSupportedError
    """
    if not all(np.isfinite(one.parameters[0][-1]) for one in fit.fits):
        raise NotSupportedError(
            f"{verb} needs the variance of level 1. With family={fit.family!r}, link={fit.link!r} and these estimates "
            f"the distribution has none. Report the variances of the random effects themselves."
        )


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


def _shares(rows: Rows, values: Array) -> Array:
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
        pooled = rubin(beta, V)
        out[f"se_{method}"] = np.sqrt(np.diag(pooled.vcov))
        if method == "model":
            reference = np.diag(pooled.within)
        else:
            out[f"deff_{method}"] = np.diag(pooled.within) / reference
    return out.rename_axis("term")
