"""Intraclass correlations with standard errors, and design effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit, stdtrit

from pmwmix._types import Array
from pmwmix.data.table import Table
from pmwmix.errors import OptionError, some
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.inference.again import covariance
from pmwmix.inference.delta import check_latent, complete_df, delta_of_fits, rows_of, unpack, unscaled_weights
from pmwmix.pooling import pool
from pmwmix.prediction.newdata import check_kind, prepared_table, random_columns
from pmwmix.prediction.rows import LiveRows
from pmwmix.spec.checks import check_fitted
from pmwmix.spec.latentmean import refuse_latent
from pmwmix.spec.measured import refuse_measured
from pmwmix.weights.conditional import total_weights


def icc_se(fit: Any, ci_prob: float = 0.95, at: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Intraclass correlation of every level with a standard error and an interval.

    Parameters
    ----------
    fit : FitResult or BayesResult
        Of a generalised model, shares on the scale of the linear predictor.
    ci_prob : float
        Probability of the interval, which is formed on the logit scale and so stays between 0 and 1.
    at : dict, optional
        Values of the predictors with random slopes, ``{"ses": 0}``, at which the shares hold (of a centred one, the
        centred value). None: the mean of the variance over the rows.

    Returns
    -------
    DataFrame
        By level, bottom-up, of several outcomes as ``fit.icc``: ``icc, std_error, df, ci_low, ci_high``. Without a
        standard error where the variances from that level upwards are zero.

    Notes
    -----
    Shares of the random effects' mean variance at or above each level (Johnson 2014 [1]_; theory, eq. 27) and their
    delta-method covariance (effects, eqs. 1-2), pooled over plausible values. The covariance of the variance components
    is the one the fit was asked for: under ``"robust"`` it holds for non-normal random effects too. The level-1
    variance of a generalised model is that of theory, eq. 53.

    References
    ----------
    .. [1] Johnson, P. C. D. (2014). Extension of Nakagawa & Schielzeth's R²GLMM to random slopes models. Methods in
       Ecology and Evolution, 5(9), 944-946. doi:10.1111/2041-210X.12225
    """
    check_fitted(fit, "icc_se()")
    if not 0 < ci_prob < 1:
        raise OptionError(f"ci_prob is a probability between 0 and 1. Got {ci_prob!r}. Write for example ci_prob=0.95.")
    if fit.method == "bayes":
        if at is not None:
            raise OptionError(
                f"The draws of a posterior hold the mean share over the rows. Got at={at!r}. Leave at= out, or use "
                f"icc_se(fit.ml, at=...)."
            )
        return _drawn_shares(fit, ci_prob)
    values, covariances = icc_of_fits(fit, at)
    pooled = pool(values, covariances, complete_df(fit), fit.nests)
    levels = list(fit.icc.index) if fit.outcomes else list(fit.n_groups.index)
    icc, se = pooled.estimate, np.sqrt(np.maximum(np.diag(pooled.vcov), 0.0))
    se = np.where((icc > 1e-9) & (se > 0), se, np.nan)
    inside = np.clip(icc, 1e-300, 1 - 1e-16)
    half = stdtrit(np.minimum(pooled.df, 1e10), 0.5 + ci_prob / 2) * se / (inside * (1 - inside))
    low, high = expit(logit(inside) - half), expit(logit(inside) + half)
    columns = {"icc": icc, "std_error": se, "df": pooled.df, "ci_low": low, "ci_high": high}
    return pd.DataFrame(columns, index=pd.Index(levels, name="level"))


def icc_of_fits(fit: Any, at: Mapping[str, Any] | None = None) -> tuple[Array, Array]:
    """Give the shares (N, L) of every single fit and their covariances (N, L, L) (effects, eqs. 1-2)."""
    parts = rows_of(fit, "icc_se()")
    check_latent(fit, "icc_se()")
    squares = [mean_squares(r.frame, r.design) if at is None else _squares_at(r, at) for _, r in parts]
    return delta_of_fits(fit, [partial(_shares, r, one) for (_, r), one in zip(parts, squares, strict=True)])


def _drawn_shares(fit: Any, ci_prob: float) -> pd.DataFrame:
    """Means, standard deviations and equal-tailed intervals of a posterior's draws."""
    draws = fit.pooled_draws("icc")
    low, high = np.quantile(draws, [(1 - ci_prob) / 2, (1 + ci_prob) / 2], axis=0)
    columns = {"icc": draws.mean(axis=0), "std_error": draws.std(axis=0, ddof=1), "df": np.inf}
    index = pd.Index(list(fit.n_groups.index), name="level")
    return pd.DataFrame({**columns, "ci_low": low, "ci_high": high}, index=index)


def _shares(rows: LiveRows, squares: Sequence[Array], values: Array) -> Array:
    _, Psi, sigma2 = unpack(rows, values)
    if m := len(rows.frame.formula.outcomes):
        return _of_outcomes(rows.frame, Psi, residual_variances(values, m), squares).to_numpy()
    return shares(Psi, squares, sigma2, bool(rows.frame.hierarchy.crossed))


def residual_variances(values: Array, m: int) -> Array:
    """Pick the residual variances (m,) of outcomes from values that end with their covariance matrix, by columns."""
    residual = values[len(values) - m * (m + 1) // 2 :]
    return np.array([residual[a * m - a * (a - 1) // 2] for a in range(m)])


def mean_squares(frame: ModelFrame, design: DesignColumns) -> tuple[Array, ...]:
    """Mean of z z' over the rows (q, q) per level, by the rows' total weights before scaling."""
    out = []
    for level in range(len(frame.hierarchy.levels)):
        names = [name for b in design.blocks if b.level == level for name in b.matrix.names]
        if set(names) <= {"Intercept"}:
            out.append(np.ones((len(names), len(names))))
            continue
        if frame.stream is not None:
            out.append(frame.stream.squares(design, level))
            continue
        w = total_weights(unscaled_weights(frame), frame.hierarchy.row_parents)[0]
        Z = np.array([c for b in design.blocks if b.level == level for c in b.matrix.columns])
        out.append((Z * (w / w.sum())) @ Z.T)
    return tuple(out)


def shares(Psi: Sequence[Array], squares: Sequence[Array], residual: Any, crossed: bool = False) -> Array:
    """Share of the mean variance z'Psi z at or above each level, of crossed factors of each (theory, eq. 27).

    Parameters
    ----------
    Psi : sequence of ndarray, each (..., q, q)
        Per level, bottom-up.
    squares : sequence of ndarray, each (q, q)
        `mean_squares`, or z z' at one point.
    residual : float or ndarray, shape (...,)
        Variance of level 1.
    crossed : bool

    Returns
    -------
    ndarray, shape (..., L)
    """
    if not Psi:
        return np.zeros((*np.shape(residual), 0))
    own = np.stack([np.sum(P * square, axis=(-2, -1)) for P, square in zip(Psi, squares, strict=True)], axis=-1)
    above = own if crossed else np.flip(np.cumsum(np.flip(own, -1), axis=-1), -1)
    return above / (own.sum(axis=-1) + residual)[..., None]


def icc_of(frame: ModelFrame, Psi: Sequence[Array], residual: Array, squares: Sequence[Array]) -> Any:
    """Give ``fit.icc`` from `mean_squares`: a float with one level, else a Series by level; NaN without one.

    Levels without random terms have no share; there are none where the residual variance differs between rows. Of
    several outcomes, each with a level-1 variance, a Series by outcome, or level and outcome.
    """
    if frame.formula.outcomes:
        return _of_outcomes(frame, Psi, residual, squares)
    levels = [level.name for level, P in zip(frame.hierarchy.levels, Psi, strict=False) if len(P)]
    if not levels or (frame.residual is not None and frame.residual.spec.variance):
        return float("nan")
    found = shares(Psi, squares, float(residual[0]), bool(frame.hierarchy.crossed))[-len(levels) :]
    return float(found[0]) if len(levels) == 1 else pd.Series(found, index=levels, name="icc")


def _of_outcomes(frame: ModelFrame, Psi: Sequence[Array], residual: Array, squares: Sequence[Array]) -> pd.Series:
    """Take the shares of every outcome by itself."""
    outcomes, levels = frame.formula.outcomes, [level.name for level in frame.hierarchy.levels]
    blocks = frame.designs[0].blocks
    out: dict[str, float] = {}
    for a, name in enumerate(outcomes):
        own: list[Array] = []
        mean: list[Array] = []
        for level, (P, square) in enumerate(zip(Psi, squares, strict=True)):
            mine = np.flatnonzero([b.predictor == a for b in blocks if b.level == level for _ in b.names])
            own.append(P[np.ix_(mine, mine)])
            mean.append(square[np.ix_(mine, mine)])
        found = shares(own, mean, residual[a])
        out |= {name if len(levels) == 1 else f"{level}.{name}": v for level, v in zip(levels, found, strict=True)}
    return pd.Series(out, name="icc", dtype=float)


def _squares_at(rows: LiveRows, at: Mapping[str, Any]) -> tuple[Array, ...]:
    """Give z z' per level at chosen values of the predictors that have random slopes."""
    blueprint, levels = rows.blueprint, rows.frame.hierarchy.levels
    wanted = list(dict.fromkeys(name for term in blueprint.random for name in term.variables))
    wrong = [name for name in at if name not in wanted] or [name for name in wanted if name not in at]
    if wrong:
        raise OptionError(
            f"An intraclass correlation is asked for at one value of every predictor with a random slope. "
            f"{wrong[0]!r} {'has none' if wrong[0] in at else 'is missing'}. Name {some(wanted) or 'nothing'} in at=."
        )
    table = Table(pd.DataFrame({name: [value] for name, value in at.items()} or {"": [0.0]}))
    columns = table.columns(list(at)) if at else {}
    for name, column in columns.items():
        check_kind(column, name, blueprint)
    local = prepared_table(replace(blueprint, centrings=[]), columns)
    return tuple(np.outer(z, z) for z in (np.ravel(part) for part in random_columns(blueprint, local, len(levels), 1)))


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
        By term: ``estimate``, ``se_model``, then ``se_<method>`` and ``deff_<method>`` of each method; of a fit by
        replicates first those of its own, such as ``se_replicate`` and ``deff_replicate``.

    Raises
    ------
    NotSupportedError
        Of predictors with error, which have no model-based error; of latent group means for ``"robust-block"``.

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
    check_fitted(fit, "design_effects()")
    refuse_measured(fit.has_measured, "design_effects()", "Its errors are robust ones alone: see fit.se")
    cut = fit.latent_means is not None and not {"model", "robust", "mplus"}.issuperset(methods)
    refuse_latent(cut, "A variance that cuts the information into blocks", "Use methods=['robust']")
    parts = rows_of(fit, "design_effects()")
    p = len(fit.coef)
    beta = np.array([one.coef.to_numpy() for one, _ in parts])
    out = pd.DataFrame({"estimate": fit.coef})
    reference = np.zeros(p)
    own = [fit.settings.vcov] if fit.settings.replicates is not None else []
    for method in dict.fromkeys(("model", *own, *methods)):
        if method in own:
            V = np.array([one.vcov.to_numpy() for one, _ in parts])
        else:
            V = np.array([covariance(rows, method, relative=True)[:p, :p] for _, rows in parts])
        pooled = pool(beta, V, nests=fit.nests)
        out[f"se_{method}"] = np.sqrt(np.maximum(np.diag(pooled.vcov), 0.0))
        if method == "model":
            reference = np.diag(pooled.within)
        else:
            out[f"deff_{method}"] = np.diag(pooled.within) / reference
    return out.rename_axis("term")
