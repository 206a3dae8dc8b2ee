"""What both accounts, of a fit and of a posterior, say in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.fitting.climb import STILL
from pmwmix.inference.correlations import correlations
from pmwmix.inference.residualtable import residual_table
from pmwmix.pooling.nested import table_of
from pmwmix.results.record import FitRecord
from pmwmix.results.summary import Section, columns_of, ends, number
from pmwmix.spec.fixed import words_of
from pmwmix.spec.random import NORMAL
from pmwmix.spec.settings import Settings

VARIANCE_WORDS = {
    "model": "model-based",
    "robust": "robust (sandwich over all parameters)",
    "robust-block": "robust (sandwich, block-diagonal information)",
    "multiway": "robust, clustered by every crossed factor (Cameron, Gelbach & Miller)",
    "stata": "robust, as Stata prints them (with n/(n-1); linear: block-diagonal information)",
    "hlm": "robust, as HLM prints them (without n/(n-1), block-diagonal information)",
    "mplus": "robust, as Mplus prints them (without n/(n-1), sandwich over all parameters)",
    "wemix": "robust, as WeMix prints them (with n/(n-1); linear: block-diagonal information)",
    "gllamm": "robust, as GLLAMM prints them (with n/(n-1), sandwich over all parameters)",
    **{kind: f"{kind} (cluster-robust, for few clusters)" for kind in ("CR0", "CR1", "CR2", "CR3")},
}
SCALING_WORDS = {
    "none": "none (weights as given)",
    "size": "size (Method A: weights sum to the cluster size)",
    "size-lowest": "size-lowest (Method A at level one, nothing scaled above)",
    "effective": "effective (Method B: weights sum to the effective cluster size)",
    "gk": "gk (Graubard & Korn: all weight at the top level, averages)",
    "gk-sum": "gk-sum (all weight at the top level, sums)",
}

TOP_WORDS = {
    "mean1": "divided by their mean (mean1)",
    "sum": "such that the total weights of the rows sum to their number (sum)",
}
SHOWN = 5e-5  # of the log-likelihood: what its four decimals show
SWAY = 3.0  # times the last change: rules of few nodes sway about the integral

PARAMETER_WORDS = {
    "zi": "the log odds of an extra zero (zi)",
    "hu": "the log odds of a zero (hu)",
    "sigma": "the logarithm of sigma",
    "theta": "the logarithm of theta",
    "phi": "the logarithm of phi",
}


def title_of(fit: FitRecord, how: str) -> str:
    """Name the model, and how it was fitted."""
    multilevel = bool(len(fit.n_groups))
    if fit.has_closed_form:
        return f"{'Linear multilevel model' if multilevel else 'Linear model without random effects'}, {how}"
    kind = "Generalised multilevel model" if multilevel else "Generalised linear model"
    if fit.outcomes:
        return f"{kind} of {len(fit.outcomes)} outcomes, {how}"
    return f"{kind} ({fit.distribution[0].shown_name}, {fit.link} link), {how}"


def fixed_heading(fit: FitRecord) -> str:
    """Head the table of the coefficients."""
    return "Thresholds and fixed effects" if fit.has_thresholds else "Fixed effects"


def fixed_parts(fit: FitRecord, terms: Sequence[str]) -> list[tuple[str, Array]]:
    """Head the table of every linear predictor, and say which of the terms are its."""
    named = fit.named_predictors
    longest = sorted(named, key=len, reverse=True)  # of categories "a" and "a.b"
    of = [next((name for name in longest if term.startswith(f"{name}.")), None) for term in terms]
    heads: list[tuple[str | None, str]] = [(None, fixed_heading(fit))]
    if fit.has_thresholds and named:
        own = [(heading, np.array([(one is None) == first for one in of], bool)) for heading, first in
               ((heads[0][1], True), ("Fixed effects on single thresholds", False))]  # fmt: skip
        return [part for part in own if part[1].any()]
    heads += [(name, f"Fixed effects on {_predictor_words(fit, name)}") for name in named]
    return [(heading, np.array([one == name for one in of], bool)) for name, heading in heads if name in of or not of]


def _predictor_words(fit: FitRecord, name: str) -> str:
    if fit.has_closed_form:
        return name
    return fit.distribution[0].predictor_words(name) or PARAMETER_WORDS[name]


def residual_words(said: Mapping[str, str]) -> str:
    """Name a residual structure."""
    parts = []
    if "correlation" in said:
        along = f" along {said['along']}" if "along" in said else ""
        parts.append(f"correlation {said['correlation']}{along} inside {said['group']}")
    if "variance" in said:
        parts.append(f"variance {said['variance']}")
    return "; ".join(parts)


def residual_sections(fit: FitRecord, ci_prob: float) -> list[Section]:
    """Lay the parameters of a residual structure out, if there is one."""
    if fit.residual_parameters is None:
        return []
    table = residual_table(fit, ci_prob)
    shown = columns_of(table, "std_error", {"estimate": "Estimate", "std_error": "Std. error", **ends(ci_prob)})
    return [Section("Residual structure", pd.DataFrame(shown, index=table.index))]


def latent_sections(fit: FitRecord) -> list[Section]:
    """Lay the model of predictors with latent group means out, if there is one."""
    table = fit.latent_means
    if table is None:
        return []
    shown = columns_of(table, "se", {"estimate": "Estimate", "se": "Std. error"})
    return [Section("Latent group means", pd.DataFrame(shown, index=table.index))]


def correlation_sections(fit: FitRecord, ci_prob: float) -> list[Section]:
    """Lay the correlations of several outcomes out, level by level."""
    if not fit.outcomes:
        return []
    table = correlations(fit, ci_prob)
    if table.empty:
        return []
    shown = columns_of(table, "std_error", {"correlation": "Correlation", "std_error": "Std. error", **ends(ci_prob)})
    rows = [f"{one.level} {one.first}, {one.second}" for one in table.itertuples()]
    return [Section("Correlations of outcomes", pd.DataFrame(shown, index=table.index).set_axis(rows, axis=0))]


def parameter_sections(fit: FitRecord, estimate: str, error: str) -> list[Section]:
    """Lay the further parameters of the family out, under the words for an estimate and its error, if it has any."""
    table = fit.family_parameters
    if table is None or not len(table):
        return []
    shown = columns_of(table, "se", {"estimate": estimate, "se": error})
    whole = pd.DataFrame(shown, index=table.index)
    of_groups = np.array([_is_of_random(fit, str(name)) for name in table.index], dtype=bool)
    parts = [(f"Parameters of {'the outcomes' if fit.outcomes else f'the {fit.family} distribution'}", ~of_groups)]
    parts.append(("Distribution of the random effects", of_groups))
    return [Section(heading, whole.loc[mine]) for heading, mine in parts if mine.any()]


def _is_of_random(fit: FitRecord, name: str) -> bool:
    return fit.random != NORMAL and any(name.startswith(f"{group}.") for group in fit.n_groups.index)


def asked_facts(fit: FitRecord) -> list[tuple[str, str]]:
    """Say what was asked for: call, formula, plausible values, rows, weights and integration."""
    s = fit.settings
    facts = [("Call", s.call), ("Formula", s.formula)]
    for name, columns in s.pv.items():
        facts.append(("Plausible values", f"{len(columns)} for {name} ({columns[0]} ... {columns[-1]})"))
    if any(fit.nests):
        facts.append(("Sources", source_words(fit.nests)))
    elif not s.pv and fit.n_pv > 1:
        facts.append(("Pooled fits", str(fit.n_pv)))
    facts.append(("Rows", row_words(fit)))
    if s.weighted:
        given = ", ".join(f"{level}: {column or '1 (conditional)'}" for level, column in s.weights)
        facts.append(("Weights", f"{given}; {'conditional' if s.conditional else 'unconditional (total)'} as given"))
        facts.append(("Scaling", SCALING_WORDS.get(s.scaling, s.scaling)))
        facts += [("Top level's weights", TOP_WORDS[s.weights_top])] if s.weights_top in TOP_WORDS else []
        facts += [("Trimmed weights", "; ".join(map(trim_words, s.trimmed)))] if s.trimmed else []
    if fit.random != NORMAL:
        facts.append(("Random effects", random_words(fit.random)))
    if fit.quadrature is not None:
        facts.append(("Integration", quadrature_words(fit)))
    if s.residual:
        facts.append(("Residuals", residual_words(s.residual)))
    if s.fixed:
        facts.append(("Held variances", words_of(s.fixed)))
    return facts


def random_words(random: str) -> str:
    """Say what random effects follow that are not normal."""
    name, _, number = random.rstrip(")").partition("(")
    if name == "discrete":
        return f"discrete, {number} masses (nonparametric maximum likelihood)"
    return f"t with {number} degrees of freedom" if number else "t, its degrees of freedom estimated"


def trim_words(cut: tuple[str, float, float, int, int, float, float]) -> str:
    """Say how many weights of a level were trimmed, where, and how much of their sum that took."""
    level, times, limit, n, of, before, after = cut
    lost = f", which takes {1.0 - after / before:.1%} off their sum" if n else ""
    return f"{level}: {n} of {of} at {limit:.4g}, {times:g} times the median{lost}"


def source_words(nests: Sequence[tuple[str, ...]]) -> str:
    """Name what differs between pooled fits, outermost first, with the number of its units; then what is crossed."""
    table = table_of(nests)
    said = [f"{name} ({size})" for name, size in table if ":" not in name]
    crossed = [name.replace(":", " x ") for name, _ in table if ":" in name]
    return f"{len(nests)} fits: {', then '.join(said)}" + (f"; crossed: {', '.join(crossed)}" if crossed else "")


def icc_facts(fit: FitRecord) -> list[tuple[str, str]]:
    """Say what share of the variance is at or above each level, if there are levels."""
    icc = fit.icc
    if np.isnan(np.asarray(icc, dtype=float)).all():  # there is no variance of level 1 to compare with
        return []
    shown = ", ".join(f"{k}: {v:.3f}" for k, v in icc.items()) if isinstance(icc, pd.Series) else f"{icc:.3f}"
    said = ["mean over the rows, random slopes included"] if _counts_slopes(fit) else []
    said += [] if fit.has_residual_variance else ["latent scale"]
    return [("Intraclass correlation", f"{shown} ({'; '.join(said)})" if said else shown)]


def _counts_slopes(fit: FitRecord) -> bool:
    """Whether the share is a mean over the rows; fits saved by version 0.1.0 have that of the intercepts."""
    one = fit.fits[0]
    table = one.varcorr[one.varcorr["var2"].isna() & (one.varcorr["grp"] != "Residual")]
    if fit.outcomes:
        return not table["var1"].isin(fit.constants).all()
    constants = table.loc[table["var1"] == "Intercept", "vcov"].sum()
    if len(table) == (table["var1"] == "Intercept").sum():
        return False
    if fit.method == "bayes":
        return True
    every = np.ravel(one.icc)
    return not np.isclose([every.max(), every.sum()], constants / (constants + one.parameters[0][-1]), rtol=1e-9).any()


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
    if np.isfinite(moved) and fit.quadrature.get("second_order"):
        size = "less than 0.001" if moved < 0.001 else f"{moved:.2g}"
        change = number(fit.quadrature["loglik_error"], 2)
        text += f"; its second-order terms would move estimates by {size} standard errors at most, and the log-"
        text += f"likelihood by {change}"
    elif np.isfinite(moved):
        size = "less than 0.001" if moved < 0.001 else f"at most {moved:.3f}"
        verb = "would move" if moved < STILL or fit.settings.n_agq is not None else "had moved"
        text += f"; with more nodes estimates {verb} {size} standard errors"
    return text


def loglik_words(fit: FitRecord) -> str:
    """Write the log-likelihood with the digits that the quadrature has reached."""
    error = float("nan") if fit.quadrature is None else fit.quadrature["loglik_error"]
    over = "fits" if any(fit.nests) else "plausible values"
    said = [f"mean over {over}"] if fit.n_pv > 1 else []
    decimals = 4
    if error >= SHOWN and not fit.quadrature.get("second_order"):
        decimals = max(int(-np.floor(np.log10(SWAY * error))), 0)
        said.append(f"with more nodes it changes by {number(error, 1)}")
    return f"{fit.loglik:.{decimals}f}" + (f" ({'; '.join(said)})" if said else "")


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
    return text if s.vcov == "model" else f"{text}; {cluster_words(s)}"


def cluster_words(s: Settings) -> str:
    """How many clusters and strata a robust variance rests on."""
    psu, strata, n_psu, n_strata = s.clusters
    return f"{n_psu} clusters ({psu})" + (f" in {n_strata} strata ({strata})" if strata else "")


def groups_table(fit: FitRecord) -> pd.DataFrame:
    """Count the units per level and give the variance each holds."""
    names, rows = ["obs", *fit.n_groups.index], []
    lowest = "Residual" if fit.has_residual_variance else "Rows"
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
