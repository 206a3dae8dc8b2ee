"""Information criteria: AIC and BIC of a likelihood, and what they become under sampling weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix.errors import NotSupportedError
from pmwmix.frame.modelframe import correlated
from pmwmix.inference.again import effective_parameters
from pmwmix.likelihood.covariances import free_parameters
from pmwmix.likelihood.latent import latent_of
from pmwmix.prediction.rows import live_rows
from pmwmix.spec.latentmean import refuse_latent
from pmwmix.spec.measured import refuse_measured

Term = tuple[str, frozenset[str], str]


def terms_of(fit: Any) -> list[Term]:
    """Group, effects and structure of every set of correlated random effects of a fit with its rows."""
    if not len(fit.theta):
        return []
    frame = live_rows(fit)[0].frame
    levels = frame.hierarchy.levels
    return [
        (
            ":".join(sorted(levels[blocks[0].level].name.split(":"))),
            frozenset(name for b in blocks for name in b.names),
            blocks[0].term.structure,
        )
        for blocks in correlated(frame.designs[0].blocks)
    ]


def n_parameters(fit: Any) -> int:
    """Count coefficients, covariance parameters and the residual variance or the family's further parameters.

    Raises
    ------
    NotSupportedError
        If the fit was read from a file and has structured covariances.
    """
    if live_rows(fit):
        covariances = sum(free_parameters(structure, len(names)) for _, names, structure in terms_of(fit))
        return size_without_components(fit) + covariances
    if any(term.structure != "us" for term in fit.fits[0].rows.blueprint.formula.random):
        raise _needs_rows(fit, "The number of parameters of structured covariances")
    return size_without_components(fit) + len(fit.theta)


def size_without_components(fit: Any) -> int:
    """Count all parameters but those of the random effects; those held at values count for nothing."""
    if fit.outcomes and fit.has_residual_variance:
        return len(fit.coef) + len(fit.outcomes) * (len(fit.outcomes) + 1) // 2
    own = 1 + len(fit.residual_structure) if fit.has_residual_variance else len(fit.family_parameters)
    for shape in fit.random_shape:  # what is reported of mass points follows from fewer numbers
        own += len(shape) - len(latent_of(fit.random).reported(shape, 1.0)[0])
    return len(fit.coef) + own - len(fit.settings.fixed)


def check_whole(fit: Any, what: str) -> None:
    """Refuse what rests on the likelihood of the outcome for a fit by that of its pairs, or of predictors too.

    Raises
    ------
    NotSupportedError
    """
    if fit.settings.method == "pairwise":
        raise NotSupportedError(
            f"{what} rests on the likelihood of the sample, or compares its weights. The fit has method="
            f"'pairwise', the likelihood of pairs of rows. Test terms with fit.wald(), or fit with method='ml'."
        )
    own = fit.ml if fit.method == "bayes" else fit
    refuse_measured(own.has_measured, what, "Its likelihood is a corrected one: use fit.wald()")
    refuse_latent(own.latent_means is not None, what, "Its likelihood is that of the predictor too: use fit.wald()")


def aic(fit: Any) -> float:
    """Akaike's criterion; design-adjusted under sampling weights (theory, eq. 31).

    Minus twice the (restricted) log-likelihood plus twice the number of parameters. Under sampling weights the
    pseudo-log-likelihood counts top-level weights relative to their mean, and the penalty is twice the trace of the
    sandwich against the information, Lumley and Scott's dAIC. REML criteria compare models of the same fixed effects.
    With plausible values their mean.

    Raises
    ------
    NotSupportedError
        If the fit is weighted and was read from a file.
    """
    check_whole(fit, "The AIC")
    if not fit.settings.weighted:
        return -2.0 * fit.loglik + 2.0 * n_parameters(fit)
    each = zip(fit.fits, _rows(fit, "The design-adjusted AIC"), strict=True)
    return float(np.mean([-2 * one.loglik / rows.top_scale + 2 * effective_parameters(rows) for one, rows in each]))


def bic(fit: Any) -> float:
    """Schwarz's criterion, with the logarithm of the number of rows; design-adjusted under weights (theory, eq. 54).

    Under sampling weights the model is its own largest one. To compare models give them to `pmwmix.lrt`, whose ``bic``
    measures all of them against the largest.

    Raises
    ------
    NotSupportedError
        If the fit is weighted and was read from a file.
    """
    check_whole(fit, "The BIC")
    penalty = np.log(fit.nobs) * n_parameters(fit)
    if not fit.settings.weighted:
        return float(-2.0 * fit.loglik + penalty)
    each = zip(fit.fits, _rows(fit, "The design-adjusted BIC"), strict=True)
    return float(np.mean([-2 * one.loglik / rows.top_scale for one, rows in each]) + penalty)


def _rows(fit: Any, what: str) -> list[Any]:
    every = live_rows(fit)
    if not every:
        raise _needs_rows(fit, what)
    return every


def _needs_rows(fit: Any, what: str) -> NotSupportedError:
    return NotSupportedError(
        f"{what} rests on the rows of the fit. This one was read from a file, which does not keep them. Fit again with "
        f"{fit.settings.call}."
    )
