"""What a summary says about a fit, in which order and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pmwmix.generalised import STILL
from pmwmix.responses import is_linear
from pmwmix.tables import Section, Summary, coefficient_table, number, variance_table

if TYPE_CHECKING:
    from pmwmix.results import FitResult

VARIANCE_WORDS = {
    "model": "model-based",
    "robust": "robust (sandwich over all parameters)",
    "robust-block": "robust (sandwich, block-diagonal information)",
    **{kind: f"{kind} (cluster-robust, for few clusters)" for kind in ("CR0", "CR1", "CR2", "CR3")},
}
SCALING_WORDS = {
    "none": "none (weights as given)",
    "size": "size (Method A: weights sum to the cluster size)",
    "size-lowest": "size-lowest (Method A at level one, nothing scaled above)",
    "effective": "effective (Method B: weights sum to the effective cluster size)",
    "gk": "gk (Graubard & Korn: all weight at level 2)",
}


def summarise(fit: FitResult, ci_prob: float) -> Summary:
    """Compose the summary of a fit."""
    s = fit.settings
    likelihood = {"ml": "maximum likelihood", "reml": "restricted maximum likelihood"}[s.method]
    pseudo = "pseudo " if s.weighted else ""
    kind = "Linear multilevel model" if len(fit.n_groups) else "Linear model without random effects"
    if not is_linear(fit):
        kind = f"Generalised multilevel model ({fit.family}, {fit.link} link)"
    title = f"{kind}, {pseudo}{likelihood}"
    normal = not is_linear(fit) and bool(np.isinf(fit.df()).all())
    fixed = "Thresholds and fixed effects" if fit.family == "cumulative" else "Fixed effects"
    sections = [
        Section("Groups and weights", _group_table(fit)),
        Section("Variance terms", variance_table(fit.varcorr)),
        Section(fixed, coefficient_table(fit.tidy(ci_prob), ci_prob, "z" if normal else "t")),
    ]
    if fit.family_parameters is not None and len(fit.family_parameters):
        sections.append(Section(f"Parameters of the {fit.family} distribution", _parameter_table(fit)))
    return Summary(title, _facts(fit), sections, _notes(fit))


def _parameter_table(fit: FitResult) -> pd.DataFrame:
    table = fit.family_parameters
    shown = {"Estimate": [number(v, 5) for v in table["estimate"]], "Std. error": [number(v, 5) for v in table["se"]]}
    return pd.DataFrame(shown, index=table.index)


def _quadrature(fit: FitResult) -> str:
    """Say how the random effects were integrated out."""
    nodes, moved = fit.quadrature["n_agq"], fit.quadrature["moved"]
    if max(nodes) == 1:
        text = "Laplace approximation"
    elif len(set(nodes)) == 1:
        text = f"adaptive Gauss-Hermite, {nodes[0]} nodes per random effect"
    else:
        each = ", ".join(f"{level}: {n}" for level, n in zip(fit.n_groups.index, nodes, strict=True))
        text = f"adaptive Gauss-Hermite, nodes per random effect {each}"
    if np.isfinite(moved):
        size = "less than 0.001" if moved < 0.001 else f"at most {moved:.3f}"
        verb = "would move" if moved < STILL else "had moved"
        text += f"; with more nodes estimates {verb} {size} standard errors"
    return text


def _facts(fit: FitResult) -> list[tuple[str, str]]:
    s = fit.settings
    facts = [("Call", s.call), ("Formula", s.formula)]
    for name, columns in s.pv.items():
        facts.append(("Plausible values", f"{len(columns)} for {name} ({columns[0]} ... {columns[-1]})"))
    if not s.pv and fit.n_pv > 1:
        facts.append(("Pooled fits", str(fit.n_pv)))
    facts.append(("Rows", _rows(fit)))
    if s.weighted:
        given = ", ".join(f"{level}: {column or '1 (conditional)'}" for level, column in s.weights)
        facts.append(("Weights", f"{given}; {'conditional' if s.conditional else 'unconditional (total)'} as given"))
        facts.append(("Scaling", SCALING_WORDS.get(s.scaling, s.scaling)))
    if fit.quadrature is not None:
        facts.append(("Integration", _quadrature(fit)))
    facts.append(("Standard errors", _variance_words(fit)))
    name = "Pseudo-log-likelihood" if s.weighted else "REML log-likelihood" if s.method == "reml" else "Log-likelihood"
    facts.append((name, f"{fit.loglik:.4f}" + (" (mean over plausible values)" if fit.n_pv > 1 else "")))
    icc = fit.icc
    shown = ", ".join(f"{k}: {v:.3f}" for k, v in icc.items()) if isinstance(icc, pd.Series) else f"{icc:.3f}"
    if len(fit.n_groups):
        facts.append(("Intraclass correlation", shown if is_linear(fit) else f"{shown} (latent scale)"))
    facts.append(("Status", fit.status))
    return facts


def _rows(fit: FitResult) -> str:
    s = fit.settings
    text = f"{fit.nobs} used of {s.n_read}"
    lost = [f"{name} {count}" for name, count in s.dropped.items()]
    if lost:
        text += f"; {s.n_read - fit.nobs - _zero_rows(fit)} dropped for missing values ({', '.join(lost)})"
    if s.zero_weight:
        zero = ", ".join(f"{name} {count}" for name, count in s.zero_weight.items() if count)
        text += f"; {_zero_rows(fit)} with weight zero ({zero})" if zero else ""
    return text


def _zero_rows(fit: FitResult) -> int:
    return sum(fit.settings.zero_weight.values())


def _variance_words(fit: FitResult) -> str:
    s = fit.settings
    text = VARIANCE_WORDS.get(s.vcov, s.vcov)
    if s.replicates is not None:
        kind, n_rep, df = s.replicates
        return f"{text} ({kind}, {n_rep} replicates, {df:g} degrees of freedom)"
    if s.vcov != "model":
        psu, strata, n_psu, n_strata = s.clusters
        text += f"; {n_psu} clusters ({psu})" + (f" in {n_strata} strata ({strata})" if strata else "")
    return text


def _group_table(fit: FitResult) -> pd.DataFrame:
    names, rows = ["obs", *fit.n_groups.index], []
    lowest = "Residual" if is_linear(fit) else "Rows"
    for level, name in enumerate(names, start=1):
        n = fit.nobs if name == "obs" else int(fit.n_groups[name])
        row: dict[str, str] = {"Group": lowest if name == "obs" else name, "Level": str(level), "n": str(n)}
        if len(fit.weight_stats):
            stats = fit.weight_stats.loc[name]
            row["Sum of weights"] = number(stats["sum"], 7)
            row["CV"] = f"{stats['cv']:.2f}"
            row["Effective n"] = f"{stats['n_eff']:.1f}"
            row["Mean used"] = number(stats["used_mean"], 4)
        rows.append(row)
    table = pd.DataFrame(rows[::-1]).set_index("Group")
    table.index.name = None
    return table


def _notes(fit: FitResult) -> list[str]:
    notes = list(fit.notes)
    if fit.settings.labels:
        notes.append("Labels: " + "; ".join(f"{name}: {label}" for name, label in fit.settings.labels.items()) + ".")
    if fit.n_pv > 1:
        notes.append(
            f"Estimates are means over {fit.n_pv} plausible values; standard errors add the variance between them "
            f"(Rubin), degrees of freedom are Barnard-Rubin's."
        )
    return notes
