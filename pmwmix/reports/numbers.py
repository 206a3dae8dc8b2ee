"""Numbers of a report that no other table has: members and missing values of levels, effect sizes, checks."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import label_text
from pmwmix.data.table import is_file
from pmwmix.errors import DataError, NotSupportedError
from pmwmix.prediction.rows import live_rows
from pmwmix.results.summary import fixed, number
from pmwmix.spec.latentmean import refuse_latent
from pmwmix.spec.measured import refuse_measured
from pmwmix.studies.influence import influence
from pmwmix.weights.conditional import total_weights

LEAST = 8  # units from which on skewness and kurtosis of random effects are given


def level_table(fit: Any) -> pd.DataFrame:
    """Units per level, and how many members each has: smallest, mean and largest number."""
    out = {"Level": ["1"], "Units": [f"{fit.nobs:,}"], "Members": [""], "Smallest": [""], "Mean": [""], "Largest": [""]}
    live = live_rows(fit)
    below = "rows"
    for position, (name, n) in enumerate(fit.n_groups.items()):
        out["Level"].append(str(position + 2))
        out["Units"].append(f"{n:,}")
        sizes = None if not live or live[0].frame.stream is not None else _sizes(live[0].frame.hierarchy, position)
        crossed = bool(live and live[0].frame.hierarchy.crossed)
        out["Members"].append("rows" if crossed else below)
        numbers = ["", "", ""] if sizes is None else [f"{sizes.min():,}", number(sizes.mean(), 3), f"{sizes.max():,}"]
        for head, text in zip(("Smallest", "Mean", "Largest"), numbers, strict=True):
            out[head].append(text)
        below = str(name)
    return pd.DataFrame(out, index=["Row", *map(str, fit.n_groups.index)]).iloc[::-1]


def _sizes(hierarchy: Any, position: int) -> Array:
    level = hierarchy.levels[position]
    if position == 0 or hierarchy.crossed:
        return np.bincount(level.index, minlength=level.n)
    return np.bincount(hierarchy.parents[position - 1], minlength=level.n)


def missing_table(fit: Any) -> pd.DataFrame | None:
    """Missing values of every variable of the model among the rows read; None where the table is out of sight."""
    live = live_rows(fit)
    source = live[0].frame.source if live else None
    if source is None or source.table is None or is_file(source.table):
        return None
    frame, formula = live[0].frame, live[0].frame.formula
    groups = [factor for level in frame.hierarchy.levels for factor in level.factors]
    weights = [column for column in frame.weight_columns if column in source.table.names]
    outcome = [name for name in re.findall(r"[\w.]+", formula.response) if name in (*frame.pv, *source.table.names)]
    names = [*outcome, *sorted(formula.fixed_columns), *groups, *weights]
    names = [frame.pv[name][0] if name in frame.pv else name for name in dict.fromkeys(names)]
    try:
        columns = source.table.columns([name for name in names if name in source.table.names])
    except (DataError, KeyError):  # changed since
        return None
    if not columns or len(next(iter(columns.values()))) != frame.n_read:
        return None
    counts = {name: int(column.isna().sum()) for name, column in columns.items()}
    share = [f"{100 * count / frame.n_read:.1f}" for count in counts.values()]
    return pd.DataFrame({"Missing": [f"{c:,}" for c in counts.values()], "%": share}, index=list(counts))


def units_lost(fit: Any) -> dict[str, tuple[int, int]]:
    """Units per level in the table and in the fit; empty where the table is out of sight."""
    live = live_rows(fit)
    source = live[0].frame.source if live else None
    if source is None or source.table is None or is_file(source.table):
        return {}
    out = {}
    for level in live[0].frame.hierarchy.levels:
        if len(level.factors) == 1 and level.factors[0] in source.table.names:
            try:
                column = source.table.columns([level.factors[0]])[level.factors[0]]
            except (DataError, KeyError):
                return {}
            out[level.name] = int(column.nunique()), level.n
    return out


def standardised(fit: Any, ci_prob: float = 0.95) -> pd.DataFrame:
    """Coefficients per standard deviation of the predictor, in standard deviations of the outcome.

    Parameters
    ----------
    fit : FitResult
        With a linear mean.
    ci_prob : float

    Returns
    -------
    DataFrame
        By term, without the constants: ``sd`` of the predictor, ``estimate, ci_low, ci_high``. Standard deviations are
        those of all rows, weighted by the total weights, and taken as known; with plausible values means of theirs.

    Raises
    ------
    NotSupportedError
        If the fit was read from a file, the outcome is not on the scale of the linear predictor, or a column is not the
        predictor but a measure of it.
    """
    own, cure = getattr(fit, "ml", fit), "Multiply by the standard deviation of the true values"
    refuse_measured(own.has_measured, "Standardising by the columns", cure)
    refuse_latent(own.latent_means is not None, "Standardising by the columns", cure)
    live = live_rows(fit)
    if not live or not fit.has_linear_mean or live[0].frame.stream is not None or fit.named_predictors:
        raise NotSupportedError(
            f"Standardised coefficients need the columns of a model with a linear mean. This fit of {fit.formula!r} "
            f"has none of them at hand. Fit again, or report ratios."
        )
    w = _total(live[0].frame)
    sd_x, sd_y = [], []
    for rows in live:
        sd_x.append([_sd(column, w) for column in rows.columns.values()])
        sd_y.append(_sd(rows.y, w))
    scale = np.mean(sd_x, axis=0) / np.mean(sd_y)
    table = fit.tidy(ci_prob).set_index("term")
    kept = [term for term in table.index if term not in getattr(fit, "ml", fit).constants]
    places = [list(live[0].columns).index(term) for term in kept]
    out = table.loc[kept, ["estimate", "ci_low", "ci_high"]].mul(scale[places], axis=0)
    out.insert(0, "sd", np.mean(sd_x, axis=0)[places])
    return out


def _total(frame: Any) -> Array:
    if not frame.hierarchy.levels:
        return frame.w[0]
    return total_weights(frame.w, frame.hierarchy.row_parents)[0] if any(frame.weighted) else np.ones(frame.n)


def _sd(values: Array, w: Array) -> float:
    mean = np.average(values, weights=w)
    return float(np.sqrt(np.average((values - mean) ** 2, weights=w)))


def check_rows(fit: Any) -> pd.DataFrame:
    """Check the assumptions in numbers: what was looked at, what was found, what it is read against."""
    rows: list[tuple[str, str, str]] = []
    one = fit.fits[0]
    if not fit.distribution[0].is_categorical:
        values = one.residuals(type="pearson").to_numpy()
        rows.append(("Residuals: skewness, excess kurtosis", _shape(values), "0 and 0 if normal"))
        fitted = np.asarray(one.fitted(), dtype=float)
        r = np.corrcoef(np.abs(values), fitted)[0, 1] if fitted.std() > 0 else np.nan
        rows.append(("Correlation of |residual| with the fitted values", fixed(r, 3), "0 if the spread is constant"))
    rows += _effect_rows(one)
    rows += _influence_rows(fit)
    rows += _collinearity(fit)
    if fit.n_pv > 1 and fit.pooled is not None:
        fmi = fit.tidy()["fmi"].max()
        rows.append(("Largest fraction of missing information", fixed(float(fmi), 3), "from plausible values"))
    return pd.DataFrame([row[1:] for row in rows], index=[row[0] for row in rows], columns=["Found", "Read as"])


def _shape(values: Array) -> str:
    z = values[np.isfinite(values)]
    z = (z - z.mean()) / z.std() if z.std() > 0 else z * np.nan
    return f"{fixed(float((z**3).mean()), 2)}, {fixed(float((z**4).mean() - 3), 2)}"


def _effect_rows(one: Any) -> list[tuple[str, str, str]]:
    found = one.ranef() if len(one.n_groups) else {}
    tables = found if isinstance(found, dict) else {str(found.index.name): found}
    out = []
    for name, table in tables.items():
        for term in [term for term in table.columns if f"{term}_se" in table.columns and len(table) >= LEAST]:
            what = f"Random effects {name} {term}: skewness, excess kurtosis"
            out.append((what, _shape(table[term].to_numpy()), "0 and 0 if normal; shrunken towards it"))
    return out


def _influence_rows(fit: Any) -> list[tuple[str, str, str]]:
    try:
        table = influence(fit)
    except NotSupportedError as error:
        return [("Influence of units", "not defined", str(error))]
    unit, J = str(table.index.name or "row"), len(table)
    beyond = int((table["cooks_d"] > 4 / J).sum())
    out = []
    if table["cooks_d"].notna().any():
        largest = table["cooks_d"].idxmax()
        said = f"{beyond} of {J:,}; largest {number(table['cooks_d'].max(), 2)} ({label_text(largest)})"
        out.append(
            (f"Cook's distance of {unit} above 4/J = {number(4 / J, 2)}", said, "units that move all coefficients")
        )
    changes = table.filter(like="dfbetas[").abs()
    if changes.notna().any(axis=None):
        term = str(changes.max().idxmax())
        said = f"{number(changes[term].max(), 2)} ({label_text(changes[term].idxmax())}, {term[8:-1]})"
        out.append(("Largest |DFBETAS|", said, f"mark: 2/sqrt(J) = {number(2 / np.sqrt(J), 2)}"))
    return out


def _collinearity(fit: Any) -> list[tuple[str, str, str]]:
    """Largest variance inflation factor of the predictors of the mean."""
    live = live_rows(fit)
    if not live or live[0].frame.stream is not None:
        return []
    columns = {name: c for name, c in live[0].columns.items() if np.ptp(c) > 0}
    if len(columns) < 2:
        return []
    R = np.corrcoef(np.array(list(columns.values())))
    vif = np.diag(np.linalg.pinv(R, hermitian=True))
    place = int(np.argmax(vif))
    return [("Largest variance inflation factor", f"{number(float(vif[place]), 3)} ({list(columns)[place]})",
             "above 10: predictors nearly collinear")]  # fmt: skip
