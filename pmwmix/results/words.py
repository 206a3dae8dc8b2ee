"""What both accounts, of a fit and of a posterior, say in the same words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pmwmix.fitting.climb import STILL
from pmwmix.prediction.responses import is_linear
from pmwmix.results.record import FitRecord
from pmwmix.results.summary import number

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


def quadrature_words(fit: FitRecord) -> str:
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


def row_words(fit: FitRecord) -> str:
    """How many rows were used, and why others were not."""
    s = fit.settings
    text = f"{fit.nobs} used of {s.n_read}"
    lost = [f"{name} {count}" for name, count in s.dropped.items()]
    if lost:
        text += f"; {s.n_read - fit.nobs - _zero_rows(fit)} dropped for missing values ({', '.join(lost)})"
    if s.zero_weight:
        zero = ", ".join(f"{name} {count}" for name, count in s.zero_weight.items() if count)
        text += f"; {_zero_rows(fit)} with weight zero ({zero})" if zero else ""
    return text


def _zero_rows(fit: FitRecord) -> int:
    return sum(fit.settings.zero_weight.values())


def variance_words(fit: FitRecord) -> str:
    """How the standard errors were found."""
    s = fit.settings
    text = VARIANCE_WORDS.get(s.vcov, s.vcov)
    if s.replicates is not None:
        kind, n_rep, df = s.replicates
        return f"{text} ({kind}, {n_rep} replicates, {df:g} degrees of freedom)"
    if s.vcov != "model":
        psu, strata, n_psu, n_strata = s.clusters
        text += f"; {n_psu} clusters ({psu})" + (f" in {n_strata} strata ({strata})" if strata else "")
    return text


def groups_table(fit: FitRecord) -> pd.DataFrame:
    """Count the units per level and give the variance each holds."""
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
