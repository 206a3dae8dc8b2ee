"""Predictions of rows with standard errors and intervals, by the delta method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pmwmix._types import Array
from pmwmix.data.table import Table
from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.inference.delta import complete_df
from pmwmix.inference.samples import Sample, samples_of
from pmwmix.pooling import pool
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.prediction.modes import quadratic
from pmwmix.prediction.newdata import prepared_table, random_columns
from pmwmix.prediction.responses import check_type
from pmwmix.prediction.responses import predict as predict_rows
from pmwmix.spec.checks import check_prob

INTERVALS = ("confidence", "prediction")


def predict(
    fit: Any,
    newdata: Any = None,
    conditional: bool = True,
    new_groups: str = "population",
    type: str = "response",
    averaged: bool = False,
    interval: str | None = None,
    ci_prob: float = 0.95,
) -> Any:
    """Predict the outcome; with plausible values the mean of their predictions.

    Parameters
    ----------
    newdata : table, optional
        None: the rows of the fit, as `fitted`.
    conditional : bool
        Add the random effects of groups that the fit knows; otherwise predict a group with random effects of zero.
    new_groups : {"population", "missing", "error"}
        What rows of unseen groups get: random effects of zero (with a warning), NaN, or an error.
    type : {"response", "link"}
        Scale of the outcome, or of the linear predictor of the mean.
    averaged : bool
        Average the outcome over the distribution of the random effects (population-averaged): what is expected of
        a row whose group is not known. Overrides ``conditional``; differs from random effects of zero where the
        link is not linear.
    interval : {"confidence", "prediction"}, optional
        Add standard errors and intervals, of the mean or, in a linear model, of the outcome of a row in a new group.
        Predictions are then those without the random effects of known groups: pass ``conditional=False`` or
        ``averaged=True``.
    ci_prob : float
        Of the interval.

    Returns
    -------
    Series or DataFrame
        NaN where a predictor is missing. Of an ordinal outcome a DataFrame of probabilities. With ``interval`` a
        DataFrame ``predicted, std_error, ci_low, ci_high``.

    Raises
    ------
    OptionError, NotSupportedError

    Notes
    -----
    Standard errors go through the coefficients and, of population averages, the variance components (effects, eqs.
    23-25), pooled over plausible values; degrees of freedom are the design's under a robust variance, infinite
    otherwise. Of a typical group intervals are made on the scale of the linear predictor and taken back, of population
    averages on the scale of the outcome. A prediction interval adds the variances of the random effects and of the
    residual, as they are estimated; ``std_error`` is then that of the difference to the new outcome.
    """
    if interval is None:
        return predict_rows(fit, newdata, conditional, new_groups, type, averaged)
    check_one_outcome(fit, "predict() with intervals")
    check_type(type)
    check_prob(ci_prob)
    _check(fit, interval, conditional and not averaged)
    on_link = type == "link" or (not averaged and not fit.has_linear_mean)
    samples = samples_of(fit, newdata, None, False, averaged, "link" if on_link else type, "predict()")
    rows = samples[0].rows
    found = [_with_variance(one, sample) for one, sample in zip(fit.fits, samples, strict=True)]
    values, variances = (np.array(part) for part in zip(*found, strict=True))
    pooled = pool(values, variances, complete_df(fit), fit.nests)
    added: Any = 0.0
    if interval == "prediction":
        each = zip(fit.fits, samples, strict=True)
        added = np.mean([_new_outcome(one, sample) for one, sample in each], axis=0)
    error = np.sqrt(pooled.vcov + added)
    half = stdtrit(np.minimum(pooled.df, 1e10), 0.5 + ci_prob / 2) * error
    table = np.column_stack([pooled.estimate, error, pooled.estimate - half, pooled.estimate + half])
    if on_link and type == "response":
        link = fit.distribution[1]
        slope = np.abs(link.slope(table[:, 0]))
        ends = np.sort(link.mean(table[:, 2:]), axis=1)
        table = np.column_stack([link.mean(table[:, 0]), error * slope, ends])
    index = fit.index if newdata is None else Table(newdata).index
    kept = fit.fits[0].rows.frame.kept if newdata is None else None
    return _laid_out(table, rows if kept is None else np.searchsorted(kept, rows), index)


def _check(fit: Any, interval: str, conditional: bool) -> None:
    if interval not in INTERVALS:
        raise OptionError(
            f"Unknown interval {interval!r}.{near(str(interval), INTERVALS)} Use 'confidence' or 'prediction'."
        )
    if conditional and len(fit.n_groups):
        raise NotSupportedError(
            f"Intervals are those of predictions without the random effects of known groups. Asked for interval="
            f"{interval!r} with conditional=True. Pass conditional=False, or averaged=True."
        )
    if fit.distribution[0].is_categorical or fit.distribution[0].is_mixture:
        raise NotSupportedError(
            f"Intervals are made for outcomes with one mean through a link. This fit has family={fit.family!r}. Use "
            f"pmwmix.predictions(fit, ...)."
        )
    if interval == "prediction" and not (fit.has_residual_variance and fit.residual_parameters is None):
        raise NotSupportedError(
            f"Prediction intervals are made for linear models with residuals of one variance. This fit has "
            f"{fit.kind}{'' if fit.residual_parameters is None else ' and a residual structure'}. Use "
            f"interval='confidence'."
        )


def _with_variance(one: Any, sample: Sample) -> tuple[Array, Array]:
    """Give the mean of every row and its variance (n,)."""
    columns, gaps = sample.design()
    mean, G = sample.model.rows(columns)
    V = one.vcov_of(G.shape[-1])
    variance = np.einsum("np,pq,nq->n", G[:, 0], np.nan_to_num(V), G[:, 0], optimize=True)
    variance[(G[:, 0][:, np.isnan(np.diag(V))] != 0).any(axis=1)] = np.nan  # no robust variance of a coefficient
    value = mean[:, 0].copy()
    if gaps is not None:
        value[(np.abs(gaps) > 1.0).any(axis=1)] = np.nan  # not estimable
    return value, np.maximum(variance, 0.0)


def _new_outcome(one: Any, sample: Sample) -> Array:
    """Variance of an outcome of a new group about its mean (n,)."""
    levels, n = one.rows.modes(), len(sample.w)
    local = prepared_table(sample.blueprint, sample.columns)
    Z = random_columns(sample.blueprint, local, len(levels), n)
    parts = sum((quadratic(z, level.Psi) for z, level in zip(Z, levels, strict=True)), np.zeros(n))
    return np.asarray(parts + one.sigma**2)


def _laid_out(table: Array, rows: Array, index: Any) -> pd.DataFrame:
    out = np.full((len(index), 4), np.nan)
    out[rows] = table
    return pd.DataFrame(out, index=index, columns=["predicted", "std_error", "ci_low", "ci_high"])
