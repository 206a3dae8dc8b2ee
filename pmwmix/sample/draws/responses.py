"""Fitted values, residuals and predictions of a posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.pooling.nested import mix_draws
from pmwmix.prediction.abilities import Abilities
from pmwmix.prediction.newdata import NEW_GROUPS, ModelColumns, check_new_groups, new_columns
from pmwmix.prediction.responses import check_type, label, residuals_of
from pmwmix.sample.draws.randomeffects import DRAWS, check_seed, need_live
from pmwmix.sample.draws.rowdraws import Drawn, blocks, draws_of, fit_columns

RULES = (*NEW_GROUPS, "draw")


def fitted(fit: Any, conditional: bool = True) -> Any:
    """Posterior mean of the mean of the outcome, for the rows in the likelihood.

    Parameters
    ----------
    conditional : bool
        Include the random effects; otherwise take them as zero.

    Returns
    -------
    Series (nobs,)
        In the order of the table, labelled as its rows; with plausible values their mean. Of an ordinal outcome a
        DataFrame of probabilities.

    Notes
    -----
    A linear model's are at the posterior means of the coefficients and of the random effects (those of ``ranef``),
    exact because they are linear in both. Otherwise the mean is averaged over 400 draws of all parameters and random
    effects, so that it differs from the mean at their averages.
    """
    values = np.mean(_fitted(fit, conditional), axis=0)
    return label(fit, values, fit.index, "fitted")


def _fitted(fit: Any, conditional: bool) -> list[Array]:
    """Fitted values of every plausible value, (n,) or (n, C)."""
    out = []
    for one, drawn in zip(fit.fits, draws_of(fit, DRAWS, None, conditional), strict=True):
        out.append(_flat(_points([one], [drawn], [fit_columns(one, need_live(one))], "response", False)))
    return out


def residuals(fit: Any, type: str = "response", conditional: bool = True) -> pd.Series:
    """Residuals about the fitted values; with plausible values their mean.

    Parameters
    ----------
    type : {"response", "pearson", "deviance", "working"}
        Outcome minus mean (proportion minus probability where there are trials); divided by the standard deviation
        of the outcome, at posterior means of its parameters; signed root of the contribution to the deviance; divided
        by the slope of the inverse link. Sampling weights do not enter.
    conditional : bool
        About the conditional fitted values, or about those at random effects of zero.

    Returns
    -------
    Series (nobs,)
    """
    if fit.distribution[0].is_mixture:
        raise NotSupportedError(
            f"Residuals of a posterior are found from means that are those of the link. This one has family="
            f"{fit.family!r}, whose mean is not. Use fit.ml.residuals()."
        )
    residuals_of(fit.fits[0].ml, type, conditional)  # refuses what does not exist before anything is drawn
    parts = []
    for one, mean in zip(fit.fits, _fitted(fit, conditional), strict=True):
        parts.append(residuals_of(_Around.of(one, need_live(one), mean), type, True))
    return pd.Series(np.mean(parts, axis=0), index=fit.index, name="residual")


@dataclass(frozen=True)
class _Rows:
    """Rows of a fit with linear predictors of our own."""

    y: Array
    response: Any
    eta: Array

    def etas(self, conditional: bool) -> Array:
        return self.eta[None]


@dataclass(frozen=True)
class _Around(Abilities):
    """A posterior as `residuals_of` reads a fit: about given means, its parameters at their posterior means."""

    family: str
    link: str
    categories: tuple[str, ...]
    sigma: float
    phi: Array
    rows: _Rows
    residual_parameters: None = None  # no posterior has a residual structure

    @classmethod
    def of(cls, fit: Any, live: Any, mean: Array) -> _Around:
        eta = fit.distribution[1].eta(mean)
        first = live.target.p + live.target.n_theta
        phi = live.psi[..., first : first + live.target.n_phi].mean(axis=(0, 1))
        rows = _Rows(live.rows.y, live.rows.response, eta)
        return cls(fit.family, fit.link, fit.categories, fit.sigma, phi, rows)


def predict(
    fit: Any,
    newdata: Any = None,
    conditional: bool = True,
    new_groups: str = "population",
    type: str = "response",
    averaged: bool = False,
    ci_prob: float | None = None,
    draws: int = DRAWS,
    random_seed: int | None = None,
) -> Any:
    """Predict the expected outcome: its posterior mean and, if asked for, its interval.

    Parameters
    ----------
    newdata : table, optional
        None: the rows of the fit, as `fitted`.
    conditional : bool
        Add the random effects of groups that the fit knows; otherwise predict a group with random effects of zero.
    new_groups : {"population", "missing", "error", "draw"}
        What rows of unseen groups get: random effects of zero (with a warning), NaN, an error, or random effects
        drawn from their distribution, the same for all rows of a group.
    type : {"response", "link"}
        Scale of the outcome, or of the linear predictor.
    averaged : bool
        Average the outcome over the distribution of the random effects (population-averaged). Overrides
        ``conditional``; differs from random effects of zero where the link is not linear.
    ci_prob : float, optional
        Probability of the equal-tailed interval of the expected outcome. Single outcomes vary more: see
        `posterior_predictive`.
    draws : int
        Draws of the parameters per plausible value.
    random_seed : int, optional
        For the random effects; default: the draws that `random_effects` made.

    Returns
    -------
    Series or DataFrame
        Posterior means; NaN where a predictor is missing. Of an ordinal outcome a DataFrame of probabilities. With
        ``ci_prob`` a DataFrame ``mean, sd, ci_low, ci_high``, of an ordinal outcome for every category (columns of
        two levels). With plausible values spreads include (1 + 1/K) times the variance between them.

    Raises
    ------
    OptionError, DataError
    """
    check_type(type)
    check_new_groups(new_groups, RULES)
    if ci_prob is not None and not (isinstance(ci_prob, float) and 0 < ci_prob < 1):
        raise OptionError(f"ci_prob is a probability between 0 and 1. Got {ci_prob!r}. Write for example ci_prob=0.95.")
    seed = check_seed(random_seed)
    known = conditional and not averaged
    every = draws_of(fit, draws, seed, known)
    columns, filled, pointed = [], [], []
    exact = fit.has_closed_form or type == "link"
    for number, (one, drawn) in enumerate(zip(fit.fits, every, strict=True)):
        live = need_live(one)
        if newdata is None:
            columns.append(fit_columns(one, live))
        else:
            rows = live.rows
            columns.append(new_columns(rows.blueprint, rows.modes(), newdata, known, new_groups))
        rng = np.random.default_rng([live.seed if seed is None else seed, number, 1])
        filled.append(drawn.with_groups(columns[-1].unseen, new_groups, rng))
        middle = "population" if exact and new_groups == "draw" else new_groups
        pointed.append(drawn.with_groups(columns[-1].unseen, middle, rng) if middle != new_groups else filled[-1])
    mean = _points(fit.fits, pointed, columns, type, averaged)
    if ci_prob is None:
        return label(fit, _whole(columns[0], _flat(mean)), columns[0].index, "predicted")
    spread = _spreads(filled, columns, type, averaged, ci_prob)
    return _table(fit, columns[0], np.stack([mean, *spread], axis=-1))


def _points(
    fits: Sequence[Any], every: Sequence[Drawn], columns: Sequence[ModelColumns], type: str, averaged: bool
) -> Array:
    """Posterior means of the expected outcome (m, width), averaged over plausible values."""
    parts = []
    for one, drawn, rows in zip(fits, every, columns, strict=True):
        exact = type == "link" or one.has_closed_form
        if exact:
            p = drawn.beta.shape[1]
            drawn = drawn.at_means(one.coef.to_numpy()[len(one.coef) - p :])
        values = [
            _expected(drawn, rows, part, type, averaged).mean(axis=0)
            for part in blocks(len(rows.rows), len(drawn.beta) * drawn.width)
        ]
        parts.append(np.concatenate(values) if values else np.zeros((0, drawn.width if type == "response" else 1)))
    return np.mean(parts, axis=0)


def _spreads(
    every: Sequence[Drawn], columns: Sequence[ModelColumns], type: str, averaged: bool, ci_prob: float
) -> tuple[Array, Array, Array]:
    """Give the standard deviation and the ends of the interval of the expected outcome, each (m, width)."""
    found = []
    for part in blocks(len(columns[0].rows), sum(len(drawn.beta) for drawn in every) * every[0].width):
        each = [_expected(drawn, rows, part, type, averaged) for drawn, rows in zip(every, columns, strict=True)]
        mixed = mix_draws(each)
        low, high = np.quantile(mixed, [(1 - ci_prob) / 2, (1 + ci_prob) / 2], axis=0)
        found.append((mixed.std(axis=0, ddof=1) if len(mixed) > 1 else np.full(low.shape, np.nan), low, high))
    if not found:
        return (np.zeros((0, every[0].width if type == "response" else 1)),) * 3
    return tuple(np.concatenate(values) for values in zip(*found, strict=True))  # type: ignore[return-value]


def _expected(drawn: Drawn, columns: ModelColumns, part: slice, type: str, averaged: bool) -> Array:
    """Draws of the expected outcome of some rows (S, m, width)."""
    values = drawn.linear_predictor(columns, part)
    if type == "response":
        values = drawn.means(values, drawn.variance(columns, part) if averaged and drawn.sigma is None else None)
    return values if values.ndim == 3 else values[..., None]


def _flat(values: Array) -> Array:
    """Drop the last axis where it holds one number."""
    return values[:, 0] if values.shape[1] == 1 else values


def _whole(columns: ModelColumns, values: Array) -> Array:
    """Put rows without missing predictors among the others, which get NaN."""
    out = np.full((len(columns.index), *values.shape[1:]), np.nan)
    out[columns.rows] = values
    return out


def _table(fit: Any, columns: ModelColumns, values: Array) -> pd.DataFrame:
    """Lay out numbers (m, width, 4)."""
    names = ["mean", "sd", "ci_low", "ci_high"]
    whole = _whole(columns, values)
    if whole.shape[1] == 1:
        return pd.DataFrame(whole[:, 0], index=columns.index, columns=names)
    heads = pd.MultiIndex.from_product([list(fit.categories), names], names=["category", None])
    return pd.DataFrame(whole.reshape(len(whole), -1), index=columns.index, columns=heads)
