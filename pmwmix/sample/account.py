"""What the summary of a posterior says, in which order and words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pmwmix.frame.crossing import SAMPLED
from pmwmix.results.summary import Section, Summary, columns_of, ends, number
from pmwmix.results.words import (
    asked_facts,
    cluster_words,
    fixed_heading,
    groups_table,
    icc_facts,
    parameter_sections,
    title_of,
)


def account_of(fit: Any, ci_prob: float) -> Summary:
    """Compose the summary of a BayesResult."""
    has_components = bool(len(fit.varcorr))
    sections = [
        Section("Groups and weights", groups_table(fit)),
        *([Section("Standard deviations and correlations", _components(fit, ci_prob))] if has_components else []),
        Section(fixed_heading(fit), _coefficients(fit, ci_prob)),
        *parameter_sections(fit, "Mean", "SD"),
        Section("Priors", _priors(fit)),
    ]
    kind = "pseudo-posterior" if fit.settings.weighted else "posterior"
    return Summary(title_of(fit, f"{kind} by NUTS"), _facts(fit), sections, _notes(fit))


def _facts(fit: Any) -> list[tuple[str, str]]:
    s, how = fit.settings, fit.how
    facts = asked_facts(fit)
    if SAMPLED in fit.own_notes:
        facts = [(name, "none: all random effects were sampled" if name == "Integration" else x) for name, x in facts]
    per = " per plausible value" if fit.n_pv > 1 else ""
    sampler = f"{how['sampler']}, {how['chains']} chains of {how['draws']} draws after {how['tune']}{per}"
    facts.append(("Sampler", f"{sampler}, seed {how['random_seed']}"))
    if s.vcov == "robust":
        text = f"corrected to the sandwich covariance (Williams & Savitsky 2021); {cluster_words(s)}"
        facts.append(("Spread", text if fit.corrected else "not corrected"))
    elif s.weighted:
        facts.append(("Spread", "not corrected (vcov='model'): the posterior of the pseudo-likelihood as it is"))
    facts += icc_facts(fit)
    facts.append(("Status", "All diagnostics of the sampler are in order." if fit.converged else "See the notes."))
    return facts


def _components(fit: Any, ci_prob: float) -> pd.DataFrame:
    table = fit.confint_varcorr(ci_prob)
    names = []
    for row in table.itertuples():
        pair = f"{row.var1}, {row.var2}" if pd.notna(row.var2) else ("" if pd.isna(row.var1) else row.var1)
        names.append(f"{row.grp} {pair}".strip() + (" (correlation)" if pd.notna(row.var2) else ""))
    shown = columns_of(table, "se", {"estimate": "Mean", "se": "SD", **ends(ci_prob)})
    shown |= {"R-hat": [f"{v:.3f}" for v in table["r_hat"]], "ESS": [f"{v:.0f}" for v in table["ess_bulk"]]}
    return pd.DataFrame(shown, index=names)


def _coefficients(fit: Any, ci_prob: float) -> pd.DataFrame:
    table = fit.tidy(ci_prob)
    out = {
        **columns_of(table, "std_error", {"estimate": "Mean", "std_error": "SD", **ends(ci_prob)}),
        "R-hat": [f"{v:.3f}" for v in table["r_hat"]],
        "ESS": [f"{v:.0f}" for v in table["ess_bulk"]],
        "MCSE": [number(v, 2) for v in table["mcse_mean"]],
    }
    if "fmi" in table:
        out["Between PVs"] = [f"{100 * v:.0f} %" for v in table["fmi"]]
    return pd.DataFrame(out, index=list(table["term"]))


def _priors(fit: Any) -> pd.DataFrame:
    table = fit.priors
    return pd.DataFrame(
        {"Prior": table["prior"], "": np.where(table["default"], "default", "given")}, index=table.index.rename(None)
    )


def _notes(fit: Any) -> list[str]:
    notes = list(fit.notes)
    if "Intercept" in fit.priors.index:
        notes.append("The prior of the intercept is that of the outcome where all predictors are at their means.")
    if any(str(key) in set(fit.n_groups.index) for key in fit.priors.index):
        notes.append(
            "Priors of standard deviations and correlations of random effects hold where the predictors of the slopes "
            "are at their means; the table shows them at zero."
        )
    if fit.n_pv > 1:
        notes.append(
            f"The posteriors of {fit.n_pv} plausible values are mixed; standard deviations and intervals include "
            f"(1 + 1/{fit.n_pv}) times the variance between them (Rubin). R-hat is the largest and ESS the smallest "
            f"within one plausible value."
        )
    return notes


__all__ = ["account_of"]
