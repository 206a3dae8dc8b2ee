"""Likelihood-ratio tests: plain, at the boundary, scaled under sampling weights, pooled over plausible values."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtrc, fdtrc

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError, PmwmixWarning
from pmwmix.fitting.climb import without_random_part
from pmwmix.fitting.ladder import MOST
from pmwmix.frame.clusters import Clusters
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.frame.without import deletions, without
from pmwmix.inference.again import covariance, effective_parameters
from pmwmix.inference.criteria import n_parameters
from pmwmix.pooling.nested import check_exchangeable
from pmwmix.pooling.ratios import RATIOS, pooled_ratio
from pmwmix.pooling.rubin import pooled_statistic
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.prediction.rows import LiveRows, live_rows, with_rows
from pmwmix.results.build import refit as fit_again
from pmwmix.results.build import single
from pmwmix.results.pooled import pool_results
from pmwmix.results.result import FitResult
from pmwmix.spec.fixed import refuse_fixed
from pmwmix.spec.random import refuse_random
from pmwmix.studies.boundary import boundary_mixture
from pmwmix.studies.comparable import check_columns, check_fixed, check_residuals, checked, first_rows
from pmwmix.studies.sharedlikelihood import check_likelihoods, highest_loglik, shared_loglik

ROUNDING = 1e-8  # of the effective parameters of the larger model
SMALL, LEVEL = 0.5, 0.05  # scale of a weighted statistic below which it is said that the scale makes it significant
COLUMNS = ["npar", "loglik", "aic", "bic", "chisq", "df", "p_value", "p_boundary", "scale"]


def lrt(*fits: FitResult, refit: bool | None = None, pooling: str = "D2") -> pd.DataFrame:
    """Compare nested models, each with the next larger one.

    Parameters
    ----------
    *fits : FitResult
        Two or more fits of the same rows; they are sorted by their number of parameters.
    refit : bool, optional
        Whether REML fits are refitted by ML. None: when their fixed effects differ (and it is said).
    pooling : {"D2", "D3", "D4"}
        How statistics are combined over plausible values or imputed tables: from the statistics alone, or from the
        likelihood at parameters that all share, of unweighted linear models (imputations, eqs. 14-17).

    Returns
    -------
    DataFrame
        A row per model, named by its formula: ``npar, loglik, aic, bic, chisq, df, p_value, p_boundary, scale``.
        ``p_boundary`` is the mixture of chi-squares for variances that are zero under the smaller model (theory,
        eq. 30); it is NaN where none is. Under sampling weights ``chisq`` is the scaled statistic (theory, eqs. 29
        and 35), divided by ``scale``, and ``aic, bic`` are design-adjusted (theory, eqs. 31 and 54); with plausible
        values ``chisq`` and the p-values are pooled (theory, eq. 32), and ``scale`` is a mean.

    Raises
    ------
    OptionError
        If the fits are fewer than two, of different rows, outcomes, families or links, or not nested.

    Warns
    -----
    PmwmixWarning
        If a scale below one half makes a statistic significant.

    Notes
    -----
    Likelihoods of generalised models are compared with the same quadrature: a fit that has fewer nodes at a level than
    another is refitted with as many, with a warning if the numbers were given by hand.
    """
    if pooling not in RATIOS:
        raise OptionError(
            f"Unknown rule for pooled likelihood ratios {pooling!r}. Asked for in lrt(). Use one of "
            f"{', '.join(map(repr, RATIOS))}."
        )
    models = _same_nodes(checked(fits))
    fixed_differ = len({tuple(model.coef.index) for model in models}) > 1
    reml = any(model.method == "reml" for model in models)
    if reml and (refit or (refit is None and fixed_differ)):
        models = [_as_ml(model) for model in models]
        if refit is None:
            warnings.warn(
                "The fits are by REML and differ in their fixed effects, so that their likelihoods cannot be compared: "
                "they were refitted by ML. Pass refit=False to compare the REML ones all the same.",
                PmwmixWarning,
                stacklevel=2,
            )
    models.sort(key=n_parameters)
    rows = [_describe(model, models[-1]) for model in models]
    for smaller, larger, row in zip(models[:-1], models[1:], rows[1:], strict=True):
        row.update(compare_pair(smaller, larger, pooling))
    return pd.DataFrame(rows, index=[model.formula for model in models])[COLUMNS]


def ranova(fit: FitResult) -> pd.DataFrame:
    """Test every random term by leaving it out, as lmerTest's ``ranova`` does.

    Parameters
    ----------
    fit : FitResult

    Returns
    -------
    DataFrame
        A row for the model itself (``<none>``) and one per dropped term, with the columns of `lrt`.
    """
    checked((fit, fit))
    check_one_outcome(fit, "ranova()")
    fit = with_rows(fit)
    refuse_fixed(fit.settings.fixed, "ranova()", "Fit the smaller model, and compare the two with pmwmix.lrt")
    refuse_random(fit.random, "ranova()", "Compare fit.aic or fit.bic")
    frame = first_rows(fit).frame
    rows, names = [_describe(fit, fit)], ["<none>"]
    for text, positions, stay in deletions(frame):
        left = without(frame, positions, stay).hierarchy.levels
        if fit.has_closed_form:
            smaller = fit_again(fit, partial(without, positions=positions, stay=stay))
        elif left:
            nodes = tuple(_nodes(fit)[level.name] for level in left)
            smaller = fit_again(fit, partial(without, positions=positions, stay=stay), n_agq=nodes)
        else:
            smaller = without_random_effects(fit)
        rows.append({**_describe(smaller, fit), **compare_pair(smaller, fit)})
        names.append(text)
    return pd.DataFrame(rows, index=names)[COLUMNS]


def _nodes(fit: FitResult) -> dict[str, int]:
    """Quadrature nodes of every level; a pooled fit has those of the plausible value with the most."""
    if fit.quadrature is None:  # no random term
        return {}
    return dict(zip(fit.n_groups.index, fit.quadrature["n_agq"], strict=True))


def _same_nodes(models: list[FitResult]) -> list[FitResult]:
    """Refit generalised models that have fewer nodes at a level than another of them."""
    integrated = [model for model in models if not model.has_closed_form]  # linear models have no nodes
    wanted: dict[str, int] = {}
    for fit in integrated:
        for level, n in _nodes(fit).items():
            sizes = [_size(other, level) for other in integrated]
            most = min(MOST.get(size, 1) for size in sizes if size)
            wanted[level] = max(wanted.get(level, 1), min(n, most))
    out = []
    for fit in models:
        if fit.has_closed_form:
            out.append(fit)
            continue
        own = tuple(wanted[level] for level in _nodes(fit))
        stay = all(tuple(_nodes(one).values()) == own for one in fit.fits)
        out.append(fit if stay else fit_again(fit, n_agq=own))
    if any(a is not b and a.settings.n_agq is not None for a, b in zip(models, out, strict=True)):
        warnings.warn(
            f"The fits have different numbers of quadrature nodes, so that their likelihoods cannot be compared: they "
            f"were refitted with {wanted}. Fit with the same n_agq to avoid this.",
            PmwmixWarning,
            stacklevel=3,
        )
    return out


def _size(fit: FitResult, level: str) -> int:
    """Count the random effects of a unit of a level."""
    frame = first_rows(fit).frame
    return sum(len(b.matrix.names) for b in frame.designs[0].blocks if frame.hierarchy.levels[b.level].name == level)


def without_random_effects(fit: FitResult) -> FitResult:
    """Fit a generalised model again with its random effects held at zero."""
    none, fits = fit.theta.iloc[:0], []
    for number, (one, rows) in enumerate(zip(fit.fits, live_rows(fit), strict=True)):
        estimate = without_random_part(rows.problem, rows.k, rows.fit, "robust", rows.frame.clusters)
        held = single(rows.frame, rows.problem, rows.k, estimate, one.settings, rows.design_number, number)
        fits.append(replace(held, theta=none))
    return replace(pool_results(fits), theta=none) if len(fits) > 1 else fits[0]


def _as_ml(fit: FitResult) -> FitResult:
    return fit if fit.method == "ml" else fit_again(fit, method="ml")


def _describe(fit: FitResult, largest: FitResult) -> dict[str, Any]:
    """Give a row of the table; weights are standardised as in the largest model, or criteria could not be compared."""
    npar = n_parameters(fit)
    aic, bic = -2 * fit.loglik + 2 * npar, -2 * fit.loglik + np.log(fit.nobs) * npar
    if fit.settings.weighted:
        pairs = list(zip(fit.fits, largest.fits, strict=True))
        each = [
            -2 * a.loglik / first_rows(b).top_scale + 2 * _effective(first_rows(a), first_rows(b)) for a, b in pairs
        ]
        aic = float(np.mean(each))
        bic = float(np.mean([_design_bic(a, b, npar, n_parameters(largest) - npar) for a, b in pairs]))
    return {
        "npar": npar,
        "loglik": fit.loglik,
        "aic": aic,
        "bic": bic,
        "chisq": np.nan,
        "df": np.nan,
        "p_value": np.nan,
        "p_boundary": np.nan,
        "scale": np.nan,
    }


def compare_pair(smaller: FitResult, larger: FitResult, pooling: str = "D2") -> dict[str, float]:
    """Test the smaller of two nested models against the larger one.

    Returns
    -------
    dict
        ``chisq, df, p_value, p_boundary, scale``.
    """
    df = n_parameters(larger) - n_parameters(smaller)
    if df <= 0:
        return {"chisq": np.nan, "df": float(df), "p_value": np.nan, "p_boundary": np.nan, "scale": np.nan}
    check_columns(smaller, larger)
    check_residuals(smaller, larger)
    check_fixed(smaller, larger)
    mixture = boundary_mixture(smaller, larger)
    each, scale = _statistics(smaller, larger, df)
    df2 = np.inf
    scaled = larger.settings.weighted and mixture is None  # the scale was estimated from that many clusters
    if len(each) == 1:
        chisq = float(max(each[0], 0.0))
        p = _scaled_tail(chisq, df, larger) if scaled else float(chdtrc(df, chisq))
    else:
        check_exchangeable(larger.nests, "lrt()")
        by_ratios = pooling == "D2"
        chisq, df2, p = pooled_statistic(each, df) if by_ratios else _by_likelihood(smaller, larger, each, pooling)
        p = _scaled_tail(chisq, df, larger) if scaled and df > larger.design_df else p
    p_boundary = np.nan if mixture is None else mixture.tail(chisq, df2)
    return {"chisq": chisq, "df": float(df), "p_value": p, "p_boundary": p_boundary, "scale": scale}


def _statistics(smaller: FitResult, larger: FitResult, df: int) -> tuple[Array, float]:
    """Give the statistic of every plausible value, and their mean scale; NaN without weights. Say if that is small."""
    pairs = list(zip(smaller.fits, larger.fits, strict=True))
    each = np.array([_statistic(a, b, df) for a, b in pairs])
    if not larger.settings.weighted:
        return each, np.nan
    scale = float(np.mean([_scale(a, b, df) for a, b in pairs]))
    if scale < SMALL and chdtrc(df, max(each.mean(), 0.0)) < LEVEL:
        warnings.warn(
            f"The likelihood ratio was divided by {scale:.2g}, the robust variance of what is tested in units of the "
            f"model-based one, estimated from {larger.design_df:.0f} degrees of freedom: without it the statistic is "
            f"{scale * each.mean():.3g}, with it {each.mean():.3g}. Few clusters and uneven weights make such a scale "
            f"by chance. Test coefficients with vcov='CR2' and fit.wald().",
            PmwmixWarning,
            stacklevel=5,
        )
    return each, scale


def _by_likelihood(smaller: FitResult, larger: FitResult, each: Array, rule: str) -> tuple[float, float, float]:
    """Pool statistics by the likelihood at shared parameters."""
    for fit in (smaller, larger):
        check_likelihoods(fit, rule)
        if fit.method == "reml":
            raise NotSupportedError(
                f"{rule} is about likelihoods. {fit.formula!r} was fitted by REML, with refit=False. Leave refit out."
            )
    at = shared_loglik if rule == "D3" else highest_loglik
    df = n_parameters(larger) - n_parameters(smaller)
    return pooled_ratio(float(each.mean()), 2.0 * (at(larger) - at(smaller)), len(each), df, rule)


def _scaled_tail(chisq: float, df: int, larger: FitResult) -> float:
    """Probability of a larger scaled statistic; NaN, and a warning, where the scale averages over a singular matrix."""
    clusters = larger.design_df
    if df <= clusters:
        return float(fdtrc(df, clusters, chisq / df))
    warnings.warn(
        f"{df} parameters cannot be tested together. The scale of their statistic rests on a robust covariance "
        f"estimated from {clusters:.3g} degrees of freedom. Compare models that differ in fewer parameters.",
        PmwmixWarning,
        stacklevel=4,
    )
    return np.nan


def _statistic(smaller: FitResult, larger: FitResult, df: int) -> float:
    """2 (l1 - l0), divided by its mean scale under sampling weights (theory, eqs. 28-29 and 35)."""
    raw = 2.0 * (larger.loglik - smaller.loglik)
    return raw / first_rows(larger).top_scale / _scale(smaller, larger, df) if larger.settings.weighted else raw


def _scale(smaller: FitResult, larger: FitResult, df: int) -> float:
    more = _added(smaller, larger)
    if len(more) == df:  # only fixed effects are added: Rao and Scott's scale (theory, eq. 35)
        robust, model = _covariances(larger, more)
        return float(np.trace(robust @ np.linalg.inv(model)) / df)
    most = effective_parameters(first_rows(larger))
    scale = (most - _effective(first_rows(smaller), first_rows(larger))) / df
    # the difference of traces can fail in small samples, and is rounding for a variance on the boundary
    return scale if scale > ROUNDING * most else most / n_parameters(larger)


def _added(smaller: FitResult, larger: FitResult) -> list[int]:
    return [j for j, term in enumerate(larger.coef.index) if term not in smaller.coef.index]


def _covariances(fit: FitResult, terms: list[int]) -> tuple[Array, Array]:
    """Robust and model-based covariance of some coefficients."""
    rows = np.ix_(terms, terms)
    robust, model = (covariance(first_rows(fit), method, relative=True)[rows] for method in ("robust", "model"))
    return robust, model


def _design_bic(fit: FitResult, largest: FitResult, npar: int, df: int) -> float:
    """Design-adjusted BIC against the largest model (theory, eq. 54)."""
    top_scale = first_rows(largest).top_scale
    out = -2 * largest.loglik / top_scale + np.log(fit.nobs) * npar
    if df == 0:
        return out - 2 * (fit.loglik - largest.loglik) / top_scale
    more = _added(fit, largest)
    if len(more) == df:
        if df > largest.design_df:
            return np.nan  # the robust covariance is singular
        robust, model = _covariances(largest, more)
        beta = largest.coef.to_numpy()[more]
        return out + float(beta @ np.linalg.solve(robust, beta) + np.linalg.slogdet(np.linalg.solve(model, robust))[1])
    return out + _statistic(fit, largest, df) + df * float(np.log(_scale(fit, largest, df)))


def _effective(rows: LiveRows, larger: LiveRows) -> float:
    """tr(A⁻¹B) with the clusters and the scale of the top-level weights that the larger model has."""
    frame, whole = rows.frame, larger.frame
    if frame.stream is not None:
        rows = replace(rows, frame=replace(frame, clusters=_same_tops(frame, whole).clusters))
    elif not (frame.hierarchy.crossed or whole.hierarchy.crossed):
        own, top = (f.hierarchy.levels[-1].index if f.hierarchy.levels else np.arange(f.n) for f in (frame, whole))
        found = whole.clusters or Clusters(np.arange(top.max() + 1), np.zeros(top.max() + 1, dtype=np.int64),
                                           int(top.max()) + 1, 1, ("", None))  # fmt: skip
        psu = np.zeros(own.max() + 1, dtype=np.int64)
        psu[own] = found.psu[top]
        if np.array_equal(psu[own], found.psu[top]):
            rows = replace(rows, frame=replace(frame, clusters=replace(found, psu=psu)))
    return effective_parameters(rows) * rows.top_scale / larger.top_scale


def _same_tops(frame: ModelFrame, whole: ModelFrame) -> ModelFrame:
    """Give the frame of the larger of two streamed fits; refuse others than those of the same top-level units."""
    mine, theirs = (one.hierarchy.levels[-1] for one in (frame, whole))
    if mine.labels != theirs.labels:
        raise NotSupportedError(
            f"Weighted streamed fits are tested where they have the same top level. {mine.name!r} and {theirs.name!r} "
            f"differ. Use fit.wald(), or fit a table in memory."
        )
    return whole
