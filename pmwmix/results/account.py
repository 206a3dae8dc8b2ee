"""What a summary says about a fit, in which order and words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pmwmix.prediction.responses import is_linear
from pmwmix.results.record import FitRecord
from pmwmix.results.summary import Section, Summary, coefficient_table, number, variance_table
from pmwmix.results.words import SCALING_WORDS, groups_table, quadrature_words, row_words, variance_words


def summarise(fit: FitRecord, coefficients: pd.DataFrame, ci_prob: float) -> Summary:
    """Compose the summary of a fit and of the table of its coefficients, as ``tidy()`` gives it."""
    s = fit.settings
    likelihood = {"ml": "maximum likelihood", "reml": "restricted maximum likelihood"}[s.method]
    pseudo = "pseudo " if s.weighted else ""
    kind = "Linear multilevel model" if len(fit.n_groups) else "Linear model without random effects"
    if not is_linear(fit):
        kind = f"Generalised multilevel model ({fit.family}, {fit.link} link)"
    title = f"{kind}, {pseudo}{likelihood}"
    normal = not is_linear(fit) and bool(np.isinf(coefficients["df"]).all())
    fixed = "Thresholds and fixed effects" if fit.family == "cumulative" else "Fixed effects"
    sections = [
        Section("Groups and weights", groups_table(fit)),
        Section("Variance terms", variance_table(fit.varcorr)),
        Section(fixed, coefficient_table(coefficients, ci_prob, "z" if normal else "t")),
    ]
    if fit.family_parameters is not None and len(fit.family_parameters):
        sections.append(Section(f"Parameters of the {fit.family} distribution", _parameter_table(fit)))
    return Summary(title, _facts(fit), sections, _notes(fit))


def _parameter_table(fit: FitRecord) -> pd.DataFrame:
    table = fit.family_parameters
    shown = {"Estimate": [number(v, 5) for v in table["estimate"]], "Std. error": [number(v, 5) for v in table["se"]]}
    return pd.DataFrame(shown, index=table.index)


def _facts(fit: FitRecord) -> list[tuple[str, str]]:
    s = fit.settings
    facts = [("Call", s.call), ("Formula", s.formula)]
    for name, columns in s.pv.items():
        facts.append(("Plausible values", f"{len(columns)} for {name} ({columns[0]} ... {columns[-1]})"))
    if not s.pv and fit.n_pv > 1:
        facts.append(("Pooled fits", str(fit.n_pv)))
    facts.append(("Rows", row_words(fit)))
    if s.weighted:
        given = ", ".join(f"{level}: {column or '1 (conditional)'}" for level, column in s.weights)
        facts.append(("Weights", f"{given}; {'conditional' if s.conditional else 'unconditional (total)'} as given"))
        facts.append(("Scaling", SCALING_WORDS.get(s.scaling, s.scaling)))
    if fit.quadrature is not None:
        facts.append(("Integration", quadrature_words(fit)))
    facts.append(("Standard errors", variance_words(fit)))
    name = "Pseudo-log-likelihood" if s.weighted else "REML log-likelihood" if s.method == "reml" else "Log-likelihood"
    facts.append((name, f"{fit.loglik:.4f}" + (" (mean over plausible values)" if fit.n_pv > 1 else "")))
    icc = fit.icc
    shown = ", ".join(f"{k}: {v:.3f}" for k, v in icc.items()) if isinstance(icc, pd.Series) else f"{icc:.3f}"
    if len(fit.n_groups):
        facts.append(("Intraclass correlation", shown if is_linear(fit) else f"{shown} (latent scale)"))
    facts.append(("Status", fit.status))
    return facts


def _notes(fit: FitRecord) -> list[str]:
    notes = list(fit.notes)
    if fit.settings.labels:
        notes.append("Labels: " + "; ".join(f"{name}: {label}" for name, label in fit.settings.labels.items()) + ".")
    if fit.n_pv > 1:
        notes.append(
            f"Estimates are means over {fit.n_pv} plausible values; standard errors add the variance between them "
            f"(Rubin), degrees of freedom are Barnard-Rubin's."
        )
    return notes
