"""From the linear predictor to the outcome: means, population averages and residuals of single fits.

The family knows how; whoever is asked about has `abilities.Abilities`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.prediction.newdata import predict_new
from pmwmix.spec.outcome import Response

if TYPE_CHECKING:
    from pmwmix.families import Family
    from pmwmix.links import Link

TYPES = ("response", "link")
RESIDUALS = ("response", "pearson", "deviance", "working", "normalized")
NODES = {1: 41, 2: 21, 3: 11, 4: 7, 5: 5}  # per dimension of the rule that averages over the random parts of so many
FEWEST = 3  # of more


def check_type(type: str) -> None:
    """Refuse a scale of predictions that does not exist.

    Raises
    ------
    OptionError
    """
    if type not in TYPES:
        raise OptionError(f"Unknown type of predictions {type!r}.{near(str(type), TYPES)} Use 'response' or 'link'.")


def mean_of(fit: Any, etas: Array) -> Array:
    """Mean of the outcome at linear predictors (K, n): (n,), or probabilities (n, C) of an outcome of categories."""
    family, _ = fit.distribution
    with np.errstate(over="ignore"):
        return np.asarray(family.mean_of(fit.links, list(etas), fit.phi))


def averaged_mean(fit: Any, etas: Array, covariance: Array) -> Array:
    """Mean of the outcome over the random effects: the linear predictors are normal about their fixed parts.

    Whatever the number of random effects, their sum z'b is one normal number per row and linear predictor, so that a
    rule of as many dimensions as there are predictors with random effects does (theory, eq. 52; predictors, eq. 6).

    Parameters
    ----------
    fit : FitResult
        Of one plausible value.
    etas : ndarray, shape (K, n)
        Fixed parts, and the offset in the first.
    covariance : ndarray, shape (K, K, n)
        Of the random parts.

    Returns
    -------
    ndarray, shape (n,) or (n, C)
    """
    if fit.has_linear_mean:
        return etas[0]
    if fit.outcomes:
        return _averaged_each(fit, etas, covariance)
    steps, weights = spread_rule(fit, covariance)
    return np.asarray(sum(w * mean_of(fit, etas + step) for step, w in zip(steps, weights, strict=True)))


def _averaged_each(fit: Any, etas: Array, covariance: Array) -> Array:
    """Average the means of all outcomes (n, c), each over the random part of its own linear predictor."""
    sd = np.sqrt(np.maximum(np.diagonal(covariance).T, 0.0))
    return np.asarray(sum(w * mean_of(fit, etas + a * sd) for a, w in zip(*fit.random_rule(NODES[1]), strict=True)))


def spread_rule(fit: Any, covariance: Array) -> tuple[Iterator[Array], Array]:
    """Nodes (K, n) of the random parts of the linear predictors, one after the other, and their weights.

    Parameters
    ----------
    fit : Abilities
    covariance : ndarray, shape (K, K, n)
    """
    moving = [k for k in range(len(covariance)) if np.nanmax(covariance[k, k], initial=0.0) > 0.0]
    a, w = fit.random_rule(NODES.get(max(len(moving), 1), FEWEST))
    root = _roots(covariance, moving)
    steps = (np.einsum("kan,a->kn", root, np.array(at)) for at in product(a, repeat=len(moving)))
    return steps, np.array([np.prod(part) for part in product(w, repeat=len(moving))])


def _roots(covariance: Array, moving: Sequence[int]) -> Array:
    """Lower-triangular roots (K, len(moving), n) of the covariances; predictors that do not move have rows of zero."""
    out = np.zeros((len(covariance), len(moving), covariance.shape[-1]))
    for j, k in enumerate(moving):
        pivot = covariance[k, k] - np.square(out[k]).sum(axis=0)
        out[k, j] = np.sqrt(np.maximum(pivot, 0.0))
        for i in moving[j + 1 :]:
            rest = covariance[i, k] - (out[i] * out[k]).sum(axis=0)
            out[i, j] = np.divide(rest, out[k, j], out=np.zeros_like(rest), where=out[k, j] > 1e-8)
    return out


def label(fit: Any, values: Array, index: Any, name: str) -> Any:
    """Lay values out as a Series, or as a DataFrame with a column per category or outcome.

    Linear predictors of a multinomial outcome (n, C - 1) are those of all categories but the first.
    """
    if values.ndim == 1:
        return pd.Series(values, index=index, name=name)
    if fit.outcomes:
        own = values.shape[1] == len(fit.outcomes)
        names = fit.outcomes if own else fit.distribution[0].mean_names
        return pd.DataFrame(values, index=index, columns=list(names))
    return pd.DataFrame(values, index=index, columns=list(fit.categories)[-values.shape[1] :])


def linear_predictor(fit: Any, etas: Array) -> Array:
    """Linear predictor of the mean (n,); of categories or outcomes, each with one of its own, all of them (n, K)."""
    if fit.outcomes:
        return etas.T
    return etas[0] if fit.has_residual_variance or fit.distribution[0].first is None else etas.T


def residuals_of(fit: Any, type: str, conditional: bool) -> Array:
    """Residuals of the rows of one fit (n,); of several outcomes (n, m).

    Parameters
    ----------
    fit : FitResult
        Of one plausible value.
    type : {"response", "pearson", "deviance", "working", "normalized"}
        Outcome minus mean (of trials: proportion minus probability); divided by the standard deviation of the outcome;
        the signed root of the contribution to the deviance; divided by the slope of the inverse link; made
        uncorrelated.
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
    if type == "normalized":
        return _normalized(fit, conditional)
    etas = fit.rows.etas(conditional)
    if fit.outcomes and not fit.has_residual_variance:
        return _of_each(fit, type, etas)
    if fit.outcomes:
        gaps = (fit.rows.ys - etas).T
        return gaps / fit.sigma.to_numpy() if type == "pearson" else gaps
    if fit.has_residual_variance:
        return (fit.rows.y - etas[0]) / (_spread(fit) if type == "pearson" else 1.0)
    return _of_family(fit.distribution[0], fit.links, fit.phi, fit.rows.response, etas, type)


def _of_family(
    family: Family, links: Sequence[Link], phi: Array, response: Response, etas: Sequence[Array], type: str
) -> Array:
    """Residuals (n,) of one outcome about the means at its linear predictors."""
    if family.is_categorical:
        raise NotSupportedError(
            f"An outcome of categories has no residuals in units of the outcome. This fit has family={family.name!r}. "
            f"Compare fitted(), the probabilities of the categories, with the outcome."
        )
    if family.is_mixture and type in ("deviance", "working"):
        raise NotSupportedError(
            f"A mean that is not that of the link has no {type} residuals. This fit has family={family.name!r}. "
            f"Use type='response' or type='pearson'."
        )
    with np.errstate(over="ignore"):
        mean = np.asarray(family.mean_of(links, list(etas), phi))
    trials = family.trials(response)
    gap = response.y / trials - mean
    if type == "response":
        return gap
    with np.errstate(divide="ignore", invalid="ignore"):
        if type == "working":
            return gap / links[0].slope(etas[0])
        if type == "pearson":
            return gap * trials / np.sqrt(family.variance_of(links, list(etas), phi, response.extra))
        deviance = family.deviance_of(links, response.y, list(etas), phi, response.extra)
        return np.sign(gap) * np.sqrt(np.maximum(deviance, 0.0))


def _of_each(fit: Any, type: str, etas: Array) -> Array:
    """Residuals (n, m) of outcomes of several kinds, each as its family has them; NaN where rows lack the outcome."""
    family = fit.distribution[0]
    out = np.full(etas.shape[::-1], np.nan)
    parts = zip(family.members, family.responses(fit.rows.response), family.of_each(fit.phi), strict=True)
    for k, (member, (seen, response), phi) in enumerate(parts):
        own, link = member.parts
        out[seen, k] = _of_family(own, [link], phi, response, [etas[k, seen]], type)
    return out


def _spread(fit: Any) -> Any:
    """Residual standard deviation, of every row where it varies."""
    return fit.rows.residual_sd() if fit.residual_parameters is not None else fit.sigma


def _normalized(fit: Any, conditional: bool) -> Array:
    """Residuals of a linear model that are independent with variance 1 if the model holds."""
    if not fit.has_residual_variance or not conditional:
        what = "are those of a linear model" if not fit.has_residual_variance else "are about the conditional mean"
        raise NotSupportedError(
            f"Normalised residuals {what}. This fit has {fit.kind}, and they were asked for with "
            f"conditional={conditional!r}. Use type='pearson'."
        )
    if fit.outcomes:
        root = np.linalg.cholesky(fit.residual_covariance.to_numpy())
        return np.asarray(np.linalg.solve(root, fit.rows.ys - fit.rows.etas(True)).T)
    if fit.residual_parameters is None:
        return (fit.rows.y - fit.rows.etas(True)[0]) / fit.sigma
    return fit.rows.normalized()


def fitted(fit: Any, conditional: bool = True) -> Any:
    """Fitted values of the rows in the likelihood, on the scale of the outcome; with plausible values their mean.

    Parameters
    ----------
    conditional : bool
        Include the conditional modes; otherwise the fixed part alone.

    Returns
    -------
    Series (nobs,)
        In the order of the table, labelled as its rows. Of an outcome of categories a DataFrame of probabilities, of
        several outcomes one with a column each.
    """
    return _of_rows(fit, "response", conditional, False, "fitted")


def _of_rows(fit: Any, type: str, conditional: bool, averaged: bool, name: str) -> Any:
    parts = []
    for one in fit.fits:
        etas = one.rows.etas(conditional and not averaged)
        if type == "link" or one.has_residual_variance:
            parts.append(linear_predictor(one, etas))
        elif averaged:
            parts.append(averaged_mean(one, etas, one.rows.random_covariance()))
        else:
            parts.append(mean_of(one, etas))
    return in_order(fit, label(fit, np.mean(parts, axis=0), row_labels(fit), name))


def _of_source(fit: Any) -> Any:
    """Rows of a fit whose data were read in pieces; None of the others."""
    rows = fit.fits[0].rows
    is_read = rows is not None and rows.is_live and (rows.frame.stream is not None or rows.frame.stored is not None)
    return rows.whole if is_read else None


def row_labels(fit: Any) -> Any:
    """Labels (n,) of the rows, in the order in which they are held."""
    rows = _of_source(fit)
    return fit.index if rows is None else rows.frame.index


def in_order(fit: Any, found: Any) -> Any:
    """Put rows that were sorted by units back into the order of their source."""
    return found if _of_source(fit) is None else found.sort_index()


def residuals(fit: Any, type: str = "response", conditional: bool = True) -> Any:
    """Residuals of the rows in the likelihood; with plausible values their mean.

    Parameters
    ----------
    type : {"response", "pearson", "deviance", "working", "normalized"}
        Outcome minus mean (proportion minus probability where there are trials); divided by the standard deviation
        of the outcome (``sigma`` in a linear model, that of the row under a residual variance); signed root of the
        contribution to the deviance; divided by the slope of the inverse link; those of a linear model multiplied with
        a root of their inverse covariance, so that correlation and unequal variances are gone (residuals, eq. 10).
        Sampling weights do not enter.
    conditional : bool
        Around the conditional fitted values, or around the fixed part.

    Returns
    -------
    Series (nobs,)
        Of several outcomes a DataFrame with a column each.
    """
    values = np.mean([residuals_of(one, type, conditional) for one in fit.fits], axis=0)
    return in_order(fit, label(fit, values, row_labels(fit), "residual"))


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
        Scale of the outcome, or of the linear predictor of the mean.
    averaged : bool
        Average the outcome over the distribution of the random effects (population-averaged): what is expected of
        a row whose group is not known. Overrides ``conditional``; differs from random effects of zero where the
        link is not linear.

    Returns
    -------
    Series
        NaN where a predictor is missing. Of an outcome of categories a DataFrame of probabilities; of unordered ones
        with ``type="link"`` of log odds against the first. Of several outcomes one with a column each.
    """
    check_type(type)
    if newdata is None:
        return _of_rows(fit, type, conditional, averaged, "predicted")
    parts, index = [], None
    for one in fit.fits:
        rows = one.rows
        known = conditional and not averaged
        index, etas, covariance = predict_new(rows.blueprint, rows.eta_beta, rows.modes(), newdata, known, new_groups)
        if type == "link" or one.has_residual_variance:
            parts.append(linear_predictor(one, etas))
        else:
            parts.append(averaged_mean(one, etas, covariance) if averaged else mean_of(one, etas))
    return label(fit, np.mean(parts, axis=0), index, "predicted")
