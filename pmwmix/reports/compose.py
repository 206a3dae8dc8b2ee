"""What a report says, block by block, after the LEVEL checklist and the guidelines of Luo et al."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import pandas as pd

from pmwmix.errors import PmwmixError
from pmwmix.inference.icc import icc_se
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.reports.equation import equation_of, places_of
from pmwmix.reports.numbers import check_rows, level_table, missing_table, standardised, units_lost
from pmwmix.reports.page import Block, Item, Report
from pmwmix.results.summary import columns_of, ends, fixed
from pmwmix.results.words import SCALING_WORDS, TOP_WORDS, loglik_words, quadrature_words, trim_words, variance_words

SOFTWARE = ("numpy", "scipy", "pandas")
METHODS = {
    "ml": "maximum likelihood",
    "reml": "restricted maximum likelihood",
    "pairwise": "weighted pairwise composite likelihood",
    "bayes": "the posterior distribution, sampled by Hamiltonian Monte Carlo",
}
MEASURES = {"marginal": "Fixed part, of the total variance (marginal)",
            "conditional": "Fixed part and random effects (conditional)",
            "snijders_bosker_1": "Reduction of the variance at level 1 (Snijders and Bosker)",
            "snijders_bosker_2": "Reduction of the variance at level 2 (Snijders and Bosker)"}  # fmt: skip


def report(fit: Any, ci_prob: float = 0.95, figures: bool = True) -> Report:
    """Write what reviewers ask of a multilevel analysis, with what the fit knows of it.

    Parameters
    ----------
    fit : FitResult or BayesResult
    ci_prob : float
        Probability of the intervals.
    figures : bool
        Whether HTML and Word have the picture of `pmwmix.plots.check`, and Markdown one beside the file. A fit read
        from a file has none.

    Returns
    -------
    Report
        ``str()`` is Markdown; ``save("report.docx")``, ``.html`` or ``.md``.

    Notes
    -----
    Blocks follow the LEVEL checklist [1]_ and the guidelines of Luo et al. [2]_: the equation and the levels of the
    variables, units and missing values per level, weights and their scaling, estimator, errors and software, variance
    decomposition, effect sizes, checks of the assumptions. The last block says what is left to the author.

    References
    ----------
    .. [1] Monsalves, M. J., Bangdiwala, A. S., Thabane, A. & Bangdiwala, S. I. (2020). LEVEL (Logical Explanations &
       Visualizations of Estimates in Linear mixed models): recommendations for reporting multilevel data and analyses.
       BMC Medical Research Methodology, 20, 3. doi:10.1186/s12874-019-0876-8
    .. [2] Luo, W., Li, H., Baek, E., Chen, S., Lam, K. H. & Semma, B. (2021). Reporting practice in multilevel
       modeling: a revisit after 10 years. Review of Educational Research, 91(3), 311-355.
       doi:10.3102/0034654321991229
    """
    check_one_outcome(fit, "report()")
    summary = fit.summary(ci_prob)
    blocks = [
        Block("Model", _model(getattr(fit, "ml", fit))),
        Block("Data and levels", _data(fit)),
        Block("Weights and plausible values", _weights(fit)),
        Block("Estimation", _estimation(fit)),
        Block(
            "Fixed effects and variance components", [item for s in summary.sections[1:] for item in (s.title, s.table)]
        ),
        Block("Variance decomposition", _variances(fit, ci_prob)),
        Block("Effect sizes", _sizes(fit, ci_prob)),
        Block("Checks of the assumptions", _checks(fit)),
        *([Block("Notes", [list(summary.notes)])] if summary.notes else []),
        Block("Left to the author", [list(LEFT), SOURCES]),
    ]
    live = all(one.rows is not None and one.rows.is_live for one in getattr(fit, "ml", fit).fits)
    return Report(f"{summary.title}: {fit.formula}", blocks, partial(_draw, fit) if figures and live else None)


def _draw(fit: Any) -> bytes:
    from pmwmix.plots.check import picture  # which loads matplotlib

    return picture(fit)


LEFT = (
    "why the design is hierarchical and the analysis multilevel (LEVEL, items 2 and 4)",
    "how units of every level were eligible and sampled (item 5a), and why values may be taken as missing at random",
    "how the numbers of units were chosen (item 7a): pmwmix.power simulates it",
    "which other models were fitted, and how they compare: pmwmix.lrt, pmwmix.table",
    "whether results change with the scaling of the weights: pmwmix.sensitivity",
)
SOURCES = (
    "After the LEVEL checklist (Monsalves, Bangdiwala, Thabane & Bangdiwala 2020, doi:10.1186/s12874-019-0876-8) and "
    "Luo et al. (2021, doi:10.3102/0034654321991229)."
)


def _model(fit: Any) -> list[Item]:
    items: list[Item] = [equation_of(fit)]
    if not fit.has_residual_variance:
        family, _ = fit.distribution
        given = " given the random effects" if len(fit.n_groups) else ""
        cuts = ", with thresholds between its ordered categories" if fit.has_thresholds else ""
        items.append(f"Outcome{given}: {family.shown_name}, {fit.link} link of η{cuts}.")
    where, labels = places_of(fit), fit.settings
    if where:
        rows = {
            term: (level or "row", labels.label_of(term))
            for term, level in where.items()
            if not _is_constant(fit, term)
        }
        table = pd.DataFrame(list(rows.values()), index=list(rows), columns=["Varies between", "Label"])
        items += [table if table["Label"].any() else table[["Varies between"]]] if len(table) else []
    centrings = fit.fits[0].rows.blueprint.centrings if fit.fits[0].rows is not None else []
    items += [[f"{one.column} is centred: {one.by}" for one in centrings]] if centrings else []
    return items


def _is_constant(fit: Any, term: str) -> bool:
    return term in getattr(fit, "ml", fit).constants or term.endswith(".Intercept")


def _data(fit: Any) -> list[Item]:
    s = fit.settings
    lost = s.n_read - fit.nobs
    items: list[Item] = [
        level_table(fit),
        f"{fit.nobs:,} of {s.n_read:,} rows are used ({100 * lost / s.n_read:.1f} % are not).",
    ]
    for name, (read, used) in units_lost(fit).items():
        if read > used:
            items.append(f"{read - used:,} of {read:,} units of {name} have no row that is used.")
    missing = missing_table(fit)
    if missing is not None:
        items += ["Missing values among all rows:", missing]
    if s.dropped:
        dropped = ", ".join(f"{name} {count:,}" for name, count in s.dropped.items())
        items.append(
            f"Rows with a missing value were left out ({dropped}; the first missing variable of a row counts)."
        )
    elif lost == 0:
        items.append("No row was left out for missing values.")
    return items


def _weights(fit: Any) -> list[Item]:
    s = fit.settings
    items: list[Item] = []
    said: list[str] = []
    if s.weighted:
        given = ", ".join(
            f"{'rows' if level == 'obs' else level}: {column or 'none (conditional weight 1)'}"
            for level, column in s.weights
        )
        said.append(
            f"Sampling weights: {given}; {'conditional' if s.conditional else 'unconditional (total)'} as given."
        )
        said.append(f"Scaling: {SCALING_WORDS.get(s.scaling, s.scaling)}.")
        said += [f"Top level: {TOP_WORDS[s.weights_top]}."] if s.weights_top in TOP_WORDS else []
        said += [f"Trimmed: {trim_words(one)}." for one in s.trimmed]
    else:
        said.append("No sampling weights: every row counts the same.")
    for name, columns in s.pv.items():
        said.append(
            f"{len(columns)} plausible values for {name} ({columns[0]} ... {columns[-1]}), one fit each, "
            f"pooled by Rubin's rules."
        )
    if not s.pv and fit.n_pv > 1:
        said.append(f"{fit.n_pv} fits were pooled by Rubin's rules.")
    items.append(said)
    if s.weighted:
        stats = fit.weight_stats
        shown = {
            "Units": [f"{n:,.0f}" for n in stats["n"]],
            "Sum of weights": [fixed(v, 1) for v in stats["sum"]],
            "CV": [fixed(v, 2) for v in stats["cv"]],
            "Effective units": [fixed(v, 1) for v in stats["n_eff"]],
        }
        items.append(pd.DataFrame(shown, index=[{"obs": "Row"}.get(str(name), str(name)) for name in stats.index]))
    return items


def _estimation(fit: Any) -> list[Item]:
    s = fit.settings
    pseudo = "pseudo-" if s.weighted and s.method in ("ml", "reml") else ""
    said = [f"Estimator: {pseudo}{METHODS[s.method]}."]
    if fit.method != "bayes" and fit.quadrature is not None:
        said.append(f"Integration over the random effects: {quadrature_words(fit)}.")
    posterior = fit.method == "bayes"
    spread = "Standard errors" if not posterior else "Posterior spread"
    how = variance_words(fit) if not posterior or fit.corrected else "that of the draws"
    said.append(f"{spread}: {how}.")
    if fit.method != "bayes":
        said.append(f"{'Pseudo-log' if s.weighted else 'Log'}-likelihood: {loglik_words(fit)}.")
        said += [f"Best of {fit.n_starts} climbs from different starting values."] if fit.n_starts > 1 else []
    said.append(f"Convergence: {fit.status}")
    others = ", ".join(f"{name} {version(name)}" for name in SOFTWARE)
    said.append(f"Software: pmwmix {version('pmwmix')}, Python {platform.python_version()} ({others}).")
    said.append(f"Call: {s.call}")
    return [said]


def _variances(fit: Any, ci_prob: float) -> list[Item]:
    items: list[Item] = []
    if not len(fit.n_groups):
        return ["The model has no random term."]

    def components() -> pd.DataFrame:
        table = fit.confint_varcorr(ci_prob)
        names = [
            " ".join(str(part) for part in (row.grp, row.var1, row.var2) if isinstance(part, str))
            + (" (correlation)" if isinstance(row.var2, str) else " (standard deviation)")
            for row in table.itertuples()
        ]
        shown = columns_of(table, "se", {"estimate": "Estimate", "se": "Std. error", **ends(ci_prob)})
        return pd.DataFrame(shown, index=names)

    def shares() -> pd.DataFrame:
        table = icc_se(fit, ci_prob)
        heads = {"icc": "Intraclass correlation", "std_error": "Std. error", **ends(ci_prob)}
        return pd.DataFrame(columns_of(table, "std_error", heads), index=list(table.index))

    for found in (components, shares):
        items.append(_or_why(found))
    return items


def _or_why(found: Callable[[], pd.DataFrame]) -> Item:
    """Give a table, or the words of the error that says why there is none."""
    try:
        return found()
    except PmwmixError as error:
        return f"Not given: {error}"


def _sizes(fit: Any, ci_prob: float) -> list[Item]:
    def explained() -> pd.DataFrame:
        table = fit.r2()
        table = table.loc[[name for name in MEASURES if name in table.index]]
        shown = columns_of(table, "std_error", {"estimate": "R²", "std_error": "Std. error"})
        return pd.DataFrame(shown, index=[MEASURES[name] for name in table.index])

    def ratios() -> pd.DataFrame:
        table = fit.tidy(ci_prob, exponentiate=True).set_index("term")
        table = table.drop(index=[term for term in table.index if _is_constant(fit, term)])
        shown = {"exp(estimate)": [fixed(v, 3) for v in table["estimate"]]}
        shown |= {head: [fixed(v, 3) for v in table[name]] for name, head in ends(ci_prob).items()}
        return pd.DataFrame(shown, index=list(table.index))

    def per_sd() -> pd.DataFrame:
        table = standardised(getattr(fit, "ml", fit) if fit.method != "bayes" else fit, ci_prob)
        shown = {"SD of the predictor": [fixed(v, 3) for v in table["sd"]]}
        heads = {"estimate": "Standardised", **ends(ci_prob)}
        shown |= {head: [fixed(v, 3) for v in table[name]] for name, head in heads.items()}
        return pd.DataFrame(shown, index=list(table.index))

    items: list[Item] = [] if fit.method == "bayes" else ["Variance explained:", _or_why(explained)]
    if fit.has_linear_mean and not fit.named_predictors:
        items += [
            "Coefficients per standard deviation of the predictor, in standard deviations of the outcome:",
            _or_why(per_sd),
        ]
    elif fit.link in ("logit", "log", "cloglog"):
        items += ["Ratios, exp(coefficient):", _or_why(ratios)]
    return items


def _checks(fit: Any) -> list[Item]:
    one = getattr(fit, "ml", fit)
    if not all(part.rows is not None and part.rows.is_live for part in one.fits):
        return ["The fit was read from a file, which keeps no columns: checks need the fit itself."]
    first = " Residuals and random effects are those of the first plausible value." if fit.n_pv > 1 else ""
    by_ml = " They are of the fit by maximum likelihood." if fit.method == "bayes" else ""
    return [check_rows(one), f"One picture of all: pmwmix.plots.check(fit).{first}{by_ml}"]
