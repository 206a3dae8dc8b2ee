"""What a summary says about a fit, in which order and words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pmwmix.pooling.nested import table_of
from pmwmix.results.parts import shown_parts
from pmwmix.results.record import FitRecord
from pmwmix.results.summary import Section, Summary, coefficient_table, variance_table
from pmwmix.results.words import (
    asked_facts,
    correlation_sections,
    fixed_parts,
    groups_table,
    icc_facts,
    latent_sections,
    loglik_words,
    parameter_sections,
    residual_sections,
    title_of,
    variance_words,
)

PAIRWISE = "pairwise composite likelihood"


def summarise(fit: FitRecord, coefficients: pd.DataFrame, ci_prob: float, show: str | Sequence[str] = ()) -> Summary:
    """Compose the summary of a fit and of the table of its coefficients, as ``tidy()`` gives it, with parts on top."""
    s = fit.settings
    likelihood = {"ml": "maximum likelihood", "reml": "restricted maximum likelihood", "pairwise": PAIRWISE}[s.method]
    normal = not fit.has_closed_form and bool(np.isinf(coefficients["df"]).all())
    sections = [
        Section("Groups and weights", groups_table(fit)),
        *([Section("Variance terms", variance_table(fit.varcorr))] if len(fit.varcorr) else []),
        *_coefficient_sections(fit, coefficients, ci_prob, "z" if normal else "t"),
        *correlation_sections(fit, ci_prob),
        *residual_sections(fit, ci_prob),
        *latent_sections(fit),
        *parameter_sections(fit, "Estimate", "Std. error"),
    ]
    more, left_out = shown_parts(fit, ci_prob, show)
    pseudo = "pseudo " if s.weighted and s.method != "pairwise" else ""
    title = title_of(fit, pseudo + likelihood)
    return Summary(title, _facts(fit), [*sections, *more], [*_notes(fit), *left_out])


def _coefficient_sections(fit: FitRecord, coefficients: pd.DataFrame, ci_prob: float, statistic: str) -> list[Section]:
    """Lay the coefficients out, a table per linear predictor."""
    return [
        Section(heading, coefficient_table(coefficients.loc[mine], ci_prob, statistic))
        for heading, mine in fixed_parts(fit, list(coefficients["term"]))
    ]


def _facts(fit: FitRecord) -> list[tuple[str, str]]:
    s = fit.settings
    facts = asked_facts(fit)
    facts.append(("Standard errors", variance_words(fit)))
    name = "Pseudo-log-likelihood" if s.weighted else "REML log-likelihood" if s.method == "reml" else "Log-likelihood"
    name = "Log-likelihood of the pairs" if s.method == "pairwise" else name
    facts.append((name, loglik_words(fit)))
    if fit.n_starts > 1:
        facts.append(("Climbs", f"the best of {fit.n_starts}, from different starting values, is reported"))
    facts += icc_facts(fit)
    facts.append(("Status", fit.status))
    return facts


def _notes(fit: FitRecord) -> list[str]:
    notes = list(fit.notes)
    if fit.settings.labels:
        notes.append("Labels: " + "; ".join(f"{name}: {label}" for name, label in fit.settings.labels.items()) + ".")
    if any(fit.nests):
        notes.append(
            f"Estimates are means over {fit.n_pv} fits; standard errors add the variance of every source "
            f"({', '.join(name for name, _ in table_of(fit.nests))}), degrees of freedom are Satterthwaite's of them "
            f"with Barnard-Rubin's on top (imputations, eqs. 4-6)."
        )
    elif fit.n_pv > 1:
        notes.append(
            f"Estimates are means over {fit.n_pv} plausible values; standard errors add the variance between them "
            f"(Rubin), degrees of freedom are Barnard-Rubin's."
        )
    return notes
