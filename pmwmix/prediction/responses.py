"""From the linear predictor to the outcome: means, population averages and residuals of single fits.

The family knows how; whoever is asked about has `abilities.Abilities`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.likelihood.latent import NORMAL
from pmwmix.prediction.newdata import predict_new

TYPES = ("response", "link")
RESIDUALS = ("response", "pearson", "deviance", "working")
NODES = 41  # of the one-dimensional rule that averages over the random part


def check_type(type: str) -> None:
    """Refuse a scale of predictions that does not exist.

    Raises
    ------
    OptionError
    """
    if type not in TYPES:
        raise OptionError(f"Unknown type of predictions {type!r}.{near(str(type), TYPES)} Use 'response' or 'link'.")


def mean_of(fit: Any, eta: Array) -> Array:
    """Mean of the outcome at linear predictors (n,); probabilities (n, C) of an ordinal outcome."""
    family, link = fit.distribution
    with np.errstate(over="ignore"):
        return np.asarray(family.mean(link, eta, fit.phi))


def averaged_mean(fit: Any, eta: Array, variance: Array) -> Array:
    """Mean of the outcome over the random effects: the linear predictor is normal about its fixed part.

    Whatever the number of random effects, their sum z'b is one normal number per row, so that a rule of one dimension
    does (theory, eq. 52).

    Parameters
    ----------
    fit : FitResult
        Of one plausible value.
    eta : ndarray, shape (n,)
        Fixed part and offset.
    variance : ndarray, shape (n,)
        Of the random part.

    Returns
    -------
    ndarray, shape (n,) or (n, C)
    """
    if fit.has_linear_mean:
        return eta
    spread = np.sqrt(variance)
    return np.asarray(sum(w * mean_of(fit, eta + a * spread) for a, w in zip(*NORMAL.nodes(NODES), strict=True)))


def label(fit: Any, values: Array, index: Any, name: str) -> Any:
    """Lay values out as a Series, or those of an ordinal outcome as a DataFrame with a column per category."""
    if values.ndim == 1:
        return pd.Series(values, index=index, name=name)
    return pd.DataFrame(values, index=index, columns=list(fit.categories))


def residuals_of(fit: Any, type: str, conditional: bool) -> Array:
    """Residuals of the rows of one fit (n,).

    Parameters
    ----------
    fit : FitResult
        Of one plausible value.
    type : {"response", "pearson", "deviance", "working"}
        Outcome minus mean (of trials: proportion minus probability); divided by the standard deviation of the outcome;
        the signed root of the contribution to the deviance; divided by the slope of the inverse link.
    conditional : bool
        About the conditional mean, or about the mean at random effects of zero.

    Returns
    -------
    ndarray

    Raises
    ------
    OptionError, NotSupportedError
    """
    if type not in RESIDUALS:
        raise OptionError(
            f"Unknown type of residuals {type!r}.{near(str(type), RESIDUALS)} "
            f"Use one of {', '.join(map(repr, RESIDUALS))}."
        )
    eta = fit.rows.conditional() if conditional else fit.rows.marginal()
    if fit.has_residual_variance:
        return (fit.rows.y - eta) / (fit.sigma if type == "pearson" else 1.0)
    family, link = fit.distribution
    if family.is_categorical:
        raise NotSupportedError(
            f"An ordinal outcome has no residuals in units of the outcome. This fit has family={fit.family!r}. "
            f"Compare fitted(), the probabilities of the categories, with the outcome."
        )
    response, mean = fit.rows.response, mean_of(fit, eta)
    trials = family.trials(response)
    gap = response.y / trials - mean
    if type == "response":
        return gap
    with np.errstate(divide="ignore", invalid="ignore"):
        if type == "working":
            return gap / link.slope(eta)
        if type == "pearson":
            return gap * trials / np.sqrt(family.variance(mean, fit.phi, response.extra))
        deviance = family.deviance(response.y, mean, fit.phi, response.extra)
        return np.sign(gap) * np.sqrt(np.maximum(deviance, 0.0))


def fitted(fit: Any, conditional: bool = True) -> Any:
    """Fitted values of the rows in the likelihood, on the scale of the outcome; with plausible values their mean.

    Parameters
    ----------
    conditional : bool
        Include the conditional modes; otherwise the fixed part alone.

    Returns
    -------
    Series (nobs,)
        In the order of the table, labelled as its rows. Of an ordinal outcome a DataFrame of probabilities.
    """
    return _of_rows(fit, "response", conditional, False, "fitted")


def _of_rows(fit: Any, type: str, conditional: bool, averaged: bool, name: str) -> Any:
    parts = []
    for one in fit.fits:
        eta = one.rows.conditional() if conditional and not averaged else one.rows.marginal()
        if type == "link":
            parts.append(eta)
        elif averaged:
            parts.append(averaged_mean(one, eta, one.rows.random_variance()))
        else:
            parts.append(mean_of(one, eta))
    return label(fit, np.mean(parts, axis=0), fit.index, name)


def residuals(fit: Any, type: str = "response", conditional: bool = True) -> pd.Series:
    """Residuals of the rows in the likelihood; with plausible values their mean.

    Parameters
    ----------
    type : {"response", "pearson", "deviance", "working"}
        Outcome minus mean (proportion minus probability where there are trials); divided by the standard deviation
        of the outcome (``sigma`` in a linear model); signed root of the contribution to the deviance; divided by
        the slope of the inverse link. Sampling weights do not enter.
    conditional : bool
        Around the conditional fitted values, or around the fixed part.

    Returns
    -------
    Series (nobs,)
    """
    values = np.mean([residuals_of(one, type, conditional) for one in fit.fits], axis=0)
    return pd.Series(values, index=fit.index, name="residual")


def predict(
    fit: Any,
    newdata: Any = None,
    conditional: bool = True,
    new_groups: str = "population",
    type: str = "response",
    averaged: bool = False,
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
        Scale of the outcome, or of the linear predictor.
    averaged : bool
        Average the outcome over the distribution of the random effects (population-averaged): what is expected of
        a row whose group is not known. Overrides ``conditional``; differs from random effects of zero where the
        link is not linear.

    Returns
    -------
    Series
        NaN where a predictor is missing. Of an ordinal outcome a DataFrame of probabilities.
    """
    check_type(type)
    if newdata is None:
        return _of_rows(fit, type, conditional, averaged, "predicted")
    parts, index = [], None
    for one in fit.fits:
        rows = one.rows
        known = conditional and not averaged
        eta, variance = predict_new(rows.blueprint, rows.eta_beta, rows.modes(), newdata, known, new_groups)
        index = eta.index
        values = eta.to_numpy()
        if type == "response":
            values = averaged_mean(one, values, variance) if averaged else mean_of(one, values)
        parts.append(values)
    return label(fit, np.mean(parts, axis=0), index, "predicted")
