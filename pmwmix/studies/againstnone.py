"""Likelihood-ratio test of a model against the same one without random effects."""

from __future__ import annotations

import pandas as pd

from pmwmix.errors import NotSupportedError
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.frame.without import without
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.results.build import refit
from pmwmix.results.result import FitResult
from pmwmix.results.summary import Section, number, p_value
from pmwmix.spec.fixed import refuse_fixed
from pmwmix.spec.random import refuse_random
from pmwmix.studies.comparable import checked
from pmwmix.studies.lrtest import compare_pair, without_random_effects


def against_none(fit: FitResult) -> dict[str, float]:
    """Test all random terms together (theory, eqs. 28-30 and 32).

    Parameters
    ----------
    fit : FitResult

    Returns
    -------
    dict
        ``chisq, df, p_value, p_boundary`` as in `lrt`.

    Raises
    ------
    NotSupportedError
        If the model has no random term, or the fit was loaded.
    """
    if not len(fit.theta):
        raise NotSupportedError(
            f"A test against the model without random effects needs random effects. {fit.formula!r} has none. Compare "
            f"other models with pmwmix.lrt."
        )
    checked((fit, fit))
    check_one_outcome(fit, "The test of all random terms")
    refuse_fixed(fit.settings.fixed, "The test of all random terms", "Compare two fits with pmwmix.lrt")
    refuse_random(fit.random, "The test of all random terms", "Compare fit.aic or fit.bic")
    smaller = refit(fit, without_any) if fit.has_closed_form else without_random_effects(fit)
    return compare_pair(smaller, fit)


def without_any(frame: ModelFrame) -> ModelFrame:
    """Take every random term out of a frame."""
    return without(frame, tuple(range(len(frame.designs[0].blocks))))


def lrt_section(fit: FitResult, ci_prob: float) -> Section:
    """Lay the test out for a summary."""
    found = against_none(fit)
    cells = [number(found["chisq"], 5), f"{found['df']:g}", p_value(found["p_value"]), p_value(found["p_boundary"])]
    table = pd.DataFrame([cells], index=["Random effects"], columns=["Chi-square", "df", "p", "p (boundary)"])
    return Section("Likelihood-ratio test against the model without random effects", table)
