"""What a summary shows on request: a function (fit, ci_prob) -> Section for each, found by name in `PARTS`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._registry import Registry
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.inference.components import confint_varcorr
from pmwmix.prediction.responses import residuals_of
from pmwmix.results.summary import Section, columns_of, ends, fixed, number

PARTS = Registry("part of a summary")
QUANTILES = {"Min": 0.0, "1Q": 0.25, "Median": 0.5, "3Q": 0.75, "Max": 1.0}


def asked_parts(show: str | Sequence[str]) -> list[str]:
    """Names of the parts that were asked for, each once; ``"all"`` is every one.

    Raises
    ------
    OptionError
    """
    names = [show] if isinstance(show, str) else show
    if not (isinstance(names, Sequence) and all(isinstance(name, str) for name in names)):
        raise OptionError(
            f"Parts of a summary are asked for by name. Got show={show!r}. Use names among "
            f"{', '.join(map(repr, sorted(PARTS)))}, or 'all'."
        )
    wanted = [name for given in names for name in (sorted(PARTS) if given == "all" else [given])]
    for name in wanted:
        PARTS[name]  # an unknown name fails here
    return list(dict.fromkeys(wanted))


def shown_parts(fit: Any, ci_prob: float, show: str | Sequence[str]) -> tuple[list[Section], list[str]]:
    """Compose the parts that were asked for; what ``"all"`` includes and this fit cannot have becomes a note."""
    sections, notes = [], []
    for name in asked_parts(show):
        try:
            sections.append(PARTS[name](fit, ci_prob))
        except NotSupportedError as error:
            if show != "all":
                raise
            notes.append(f"Not shown: {name}. {error}")
    return sections, notes


def correlation(fit: Any, ci_prob: float) -> Section:
    """Correlations of the estimated coefficients, below the diagonal; their columns are numbered as the rows."""
    if not len(fit.coef):
        raise NotSupportedError(
            f"Correlations are those of fixed coefficients. This fit, {fit.formula!r}, has none. Leave "
            f"show='correlation' out."
        )
    V = fit.vcov.to_numpy(dtype=float)
    error = np.sqrt(np.diag(V))
    with np.errstate(divide="ignore", invalid="ignore"):
        R = V / np.outer(error, error)
    p = len(R)
    cells = [[fixed(R[i, j], 3) if j < i else "" for j in range(p - 1)] for i in range(p)]
    rows = [f"({i}) {term}" for i, term in enumerate(fit.coef.index, start=1)]
    table = pd.DataFrame(cells, index=rows, columns=[f"({i})" for i in range(1, p)])
    return Section("Correlation of the fixed effects", table)


def residuals(fit: Any, ci_prob: float) -> Section:
    """Quantiles of the Pearson residuals; with plausible values the means of theirs."""
    each = [np.nanquantile(residuals_of(one, "pearson", True), list(QUANTILES.values())) for one in fit.fits]
    cells = [[number(float(value)) for value in np.mean(each, axis=0)]]
    return Section("Scaled residuals", pd.DataFrame(cells, index=["Pearson"], columns=list(QUANTILES)))


def intervals(fit: Any, ci_prob: float) -> Section:
    """Intervals of standard deviations and correlations, made on a scale without bounds."""
    table = confint_varcorr(fit, ci_prob)
    names = []
    for row in table.itertuples():
        terms = [term for term in (row.var1, row.var2) if isinstance(term, str)]
        names.append(f"{row.grp} {', '.join(terms)}".strip() + (" (correlation)" if len(terms) == 2 else ""))
    shown = columns_of(table, "se", {"estimate": "Estimate", "se": "Std. error", **ends(ci_prob)})
    return Section("Standard deviations and correlations of the random effects", pd.DataFrame(shown, index=names))


PARTS.add("correlation", correlation)
PARTS.add("residuals", residuals)
PARTS.add("intervals", intervals)
