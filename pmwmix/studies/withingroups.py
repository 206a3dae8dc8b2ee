"""Least-squares regressions inside every group: what each group says on its own, before a model joins them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pmwmix._types import Array
from pmwmix.data.codes import code, label_text, printed
from pmwmix.data.table import Table
from pmwmix.errors import DataError, MissingColumnsError, NotSupportedError, OptionError, PmwmixWarning, near, some
from pmwmix.frame.complete import complete_rows
from pmwmix.frame.matrices import evaluate, response
from pmwmix.pooling import pool
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.prediction.rows import LiveRows, live_rows
from pmwmix.spec.formula import ModelFormula, parse
from pmwmix.spec.latentmean import refuse_latent
from pmwmix.spec.measured import refuse_measured
from pmwmix.weights.conditional import total_weights


@dataclass(frozen=True)
class GroupData:
    """Columns of one outcome with the group of every row.

    Parameters
    ----------
    y : ndarray, shape (n,)
    X : ndarray, shape (n, p)
    names : tuple of str
    w : ndarray, shape (n,), or None
        Sampling weights; any factor common to a group is without effect.
    group : ndarray of int, shape (n,)
    labels : list
        Of the groups.
    """

    y: Array
    X: Array
    names: tuple[str, ...]
    w: Array | None
    group: Array
    labels: list[Any]


def group_regressions(
    data: Any,
    formula: str | None = None,
    *,
    by: str | None = None,
    weights: str | None = None,
    pv: int | None = None,
    pool: bool = False,
    ci_prob: float = 0.95,
) -> pd.DataFrame:
    """Regress the outcome on predictors inside every group by least squares.

    Parameters
    ----------
    data : table, path or FitResult
        Of a fit: its rows, their weights (scaled as in the fit) and its plausible values.
    formula : str, optional
        ``"mathach ~ ses"``. Of a fit the default is its outcome on the random terms of the group; its predictors must
        be columns of the model, as the model centred them.
    by : str, optional
        Column with the groups, ``"classroom:school"`` for combinations. Of a fit the default is its lowest level.
    weights : str, optional
        Column of sampling weights of the rows, with a table. A fit brings its own.
    pv : int, optional
        Of a fit with plausible values: the one to use; None pools all by Rubin's rules.
    pool : bool
        Use one residual variance for all groups, as the intervals of nlme's ``lmList`` do; unweighted only.
    ci_prob : float
        Probability of the intervals.

    Returns
    -------
    DataFrame
        A row per group and term: ``group, term, estimate, std_error, df, ci_low, ci_high, n``. ``.attrs["notes"]``
        says how many groups were left out.

    Warns
    -----
    PmwmixWarning
        If groups are left out: they have no more rows than coefficients, or predictors that do not vary in them.

    Raises
    ------
    OptionError, DataError, NotSupportedError

    Notes
    -----
    Without weights standard errors are those of least squares on n - p degrees of freedom (with ``pool`` on the sum of
    them). With weights the regression is a weighted one and its standard errors are linearised, times n / (n - p): the
    rows of a group count as drawn independently. Groups with n of about p have wild coefficients: that is why the
    multilevel model shrinks them.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"y": [1.0, 2.0, 3.1, 5.0, 4.0, 3.1], "x": [0, 1, 2, 0, 1, 2], "g": list("aaabbb")})
    >>> group_regressions(table, "y ~ x", by="g")[["group", "term", "estimate"]].round(2)
      group       term  estimate
    0     a  Intercept      0.98
    1     a          x      1.05
    2     b  Intercept      4.98
    3     b          x     -0.95
    """
    if not (isinstance(ci_prob, int | float | np.number) and 0 < ci_prob < 1):
        raise OptionError(f"ci_prob is a probability between 0 and 1. Got {ci_prob!r}. Write for example ci_prob=0.95.")
    fitted = hasattr(data, "fits") and hasattr(data, "tidy")
    parts = _of_fit(data, formula, by, weights, pv) if fitted else [_of_table(data, formula, by, weights, pv)]
    if pool and parts[0].w is not None:
        raise NotSupportedError(
            "One residual variance for all groups is defined without sampling weights. pool=True was asked for with "
            "weights. Leave pool out, or use the unweighted table."
        )
    found = [_regressions(part, pool) for part in parts]
    return _table(parts[0], found, float(ci_prob))


def _of_table(data: Any, formula: str | None, by: str | None, weights: str | None, pv: Any) -> GroupData:
    if formula is None or by is None:
        missing = "formula" if formula is None else "by"
        raise OptionError(
            f"Regressions inside groups of a table need a formula and a group. {missing} is missing. "
            f"Write group_regressions(data, 'math ~ escs', by='school')."
        )
    if pv is not None:
        raise OptionError(
            f"A table has no declared plausible values. Got pv={pv!r}. Name the column in the formula: PV1MATH ~ escs."
        )
    parsed, factors = _parsed(formula), str(by).split(":")
    used = [*parsed.response_variables, *parsed.fixed_variables]
    columns = Table(data).columns([*used, *factors, *([weights] if weights else [])])
    keep, _ = complete_rows(columns, list(columns), len(columns[factors[0]]))
    if weights:
        keep &= _positive(columns[weights], weights, keep)
    if not keep.any():
        raise DataError(f"No row is complete. Columns used: {some(list(columns), 12)}. Check them for missing values.")
    rows = np.flatnonzero(keep)
    columns = {name: column.take(rows).reset_index(drop=True) for name, column in columns.items()}
    group, labels = code([_cleaned(columns[name]) for name in factors])
    x = evaluate(parsed.fixed, parsed.fixed_variables, columns, len(rows))
    w = columns[weights].to_numpy() if weights else None
    return GroupData(response(parsed, columns, len(rows)), np.column_stack(x.columns), x.names, w, group, labels)


def _cleaned(column: pd.Series) -> pd.Series:
    return column.cat.remove_unused_categories() if isinstance(column.dtype, pd.CategoricalDtype) else column


def _positive(column: pd.Series, name: str, keep: Array) -> Array:
    numeric = not isinstance(column.dtype, pd.CategoricalDtype)
    if not numeric or bool((column.to_numpy()[keep] < 0).any()):
        problem = "negative values" if numeric else "text"
        raise DataError(f"Weights are numbers from 0 on. Column {name!r} has {problem}. Check that it is the weight.")
    return column.to_numpy() > 0


def _parsed(formula: str) -> ModelFormula:
    parsed = parse(formula)
    if parsed.random or parsed.failures is not None or parsed.offset is not None:
        raise OptionError(
            f"Regressions inside groups have an outcome and predictors, nothing else. Got {formula!r}. "
            f"Write for example 'math ~ escs' and name the group in by=."
        )
    refuse_measured(bool(parsed.measured), "A regression inside groups", "Write the column itself, as it was measured")
    refuse_latent(bool(parsed.latent), "A regression inside groups", "Leave it out: it is the same for all of a group")
    return parsed


def _of_fit(fit: Any, formula: str | None, by: str | None, weights: str | None, pv: Any) -> list[GroupData]:
    if weights is not None:
        raise OptionError(f"A fit brings its own weights. Got weights={weights!r}. Leave it out, or pass the table.")
    check_one_outcome(fit, "group_regressions()")
    if not fit.has_closed_form:
        raise NotSupportedError(
            f"Least squares inside groups is for outcomes with an identity link. This fit has family={fit.family!r} "
            f"and link={fit.link!r}. Pass the table instead of the fit for linear probability lines."
        )
    if pv is not None and not (isinstance(pv, int | np.integer) and pv is not True and 1 <= pv <= len(fit.fits)):
        raise OptionError(
            f"There is no such plausible value. Got pv={pv!r} for a fit with {len(fit.fits)}. "
            f"Use a number from 1 to {len(fit.fits)}, or None for all."
        )
    every = live_rows(getattr(fit, "ml", fit))
    if not every:
        raise NotSupportedError(
            f"group_regressions() needs the columns of the fit. This one was read from a file, which does not keep "
            f"them. Pass the table: group_regressions(data, {formula or 'y ~ x'!r}, by='group')."
        )
    return [_of_rows(rows.whole, formula, by) for rows in (every if pv is None else every[pv - 1 : pv])]


def _of_rows(rows: LiveRows, formula: str | None, by: str | None) -> GroupData:
    place = _level(rows, by)
    level, w = rows.frame.hierarchy.levels[place], None
    if any(rows.frame.weighted[: place + 1]):
        w = total_weights(rows.frame.w, rows.frame.hierarchy.row_parents)[0]
    if formula is None:
        blocks = [block.matrix for block in rows.design.blocks if block.level == place]
        columns = {name: c for block in blocks for name, c in zip(block.names, block.columns, strict=True)}
        columns = {"Intercept": np.ones(rows.frame.n), **columns}
        return GroupData(rows.y, np.column_stack(list(columns.values())), tuple(columns), w, level.index, level.labels)
    parsed, outcome = _parsed(formula), rows.frame.formula.response
    if parsed.response != outcome:
        raise OptionError(
            f"The regressions inside groups have the outcome of the fit. Got {parsed.response!r}, the fit has "
            f"{outcome!r}. Pass the table instead of the fit for another one."
        )
    known = design_columns(rows)
    missing = [name for name in parsed.fixed_variables if name not in known]
    if missing:
        raise MissingColumnsError(
            f"A fit keeps only the numeric columns of the model. Not among them: {some(missing)}."
            f"{near(missing[0], list(known))} Use {some(list(known), 12)}, or pass the table instead of the fit."
        )
    x = evaluate(parsed.fixed, parsed.fixed_variables, known, rows.frame.n)
    return GroupData(rows.y, np.column_stack(x.columns), x.names, w, level.index, level.labels)


def design_columns(rows: LiveRows) -> Mapping[str, pd.Series]:
    """Columns of the model that are variables of the table as they are (or centred), by name."""
    blueprint = rows.blueprint
    plain = {*blueprint.predictors, *(plan.mean_name for plan in blueprint.centrings)}
    matrices = [rows.design.x, *(block.matrix for block in rows.design.blocks)]
    pairs = [pair for matrix in matrices for pair in zip(matrix.names, matrix.columns, strict=True)]
    return {name: pd.Series(column, name=name) for name, column in reversed(pairs) if name in plain}


def _level(rows: LiveRows, by: str | None) -> int:
    names = [level.name for level in rows.frame.hierarchy.levels]
    if by is None and names:
        return 0
    for place, name in enumerate(names):
        if sorted(name.split(":")) == sorted(str(by).split(":")):
            return place
    raise OptionError(
        f"There is no such group in the fit. Got by={by!r}.{near(str(by), names)} "
        f"Use {some(names) or 'the table instead: the model has no random term'}."
    )


def _regressions(data: GroupData, pool: bool) -> tuple[Array, Array, Array]:
    """Coefficients (G, p), variances (G, p) and degrees of freedom (G,); NaN in groups that do not identify them."""
    n_groups, p = len(data.labels), data.X.shape[1]
    order = np.argsort(data.group, kind="stable")
    ends = np.searchsorted(data.group[order], np.arange(n_groups + 1))
    b, variance, df = np.full((n_groups, p), np.nan), np.full((n_groups, p), np.nan), np.full(n_groups, np.nan)
    rss = np.full(n_groups, np.nan)
    for g in range(n_groups):
        rows = order[ends[g] : ends[g + 1]]
        found = least_squares(data.y[rows], data.X[rows], None if data.w is None else data.w[rows])
        if found is not None:
            b[g], variance[g], rss[g] = found
            df[g] = len(rows) - p
    if data.w is None:
        kept = np.isfinite(df)
        sigma2 = np.full(n_groups, rss[kept].sum() / df[kept].sum()) if pool and kept.any() else rss / df
        variance *= sigma2[:, None]
        df = np.where(kept, df[kept].sum(), np.nan) if pool else df
    return b, variance, df


def least_squares(y: Array, X: Array, w: Array | None) -> tuple[Array, Array, float] | None:
    """Regress one group's outcome (n,) on X (n, p); None if its rows do not identify the coefficients.

    Returns
    -------
    ndarray (p,), ndarray (p,), float
        Coefficients, their variances (without weights relative to sigma²), residual sum of squares.
    """
    n, p = X.shape
    if n <= p:
        return None
    root = np.ones(n) if w is None else np.sqrt(w / w.mean())
    scale = np.linalg.norm(X, axis=0)
    scale[scale == 0] = 1.0
    Q, R = np.linalg.qr(X / scale * root[:, None])
    size = np.abs(np.diag(R))
    if size.min() < 1e-9 * size.max():
        return None
    inverse = np.linalg.inv(R)
    b = inverse @ (Q.T @ (root * y)) / scale
    residual = y - X @ b
    if w is None:
        return b, (inverse**2).sum(axis=1) / scale**2, float(residual @ residual)
    influence = (Q * (root * residual)[:, None]) @ inverse.T / scale
    return b, n / (n - p) * (influence**2).sum(axis=0), float(residual @ residual)


def _table(data: GroupData, found: Sequence[tuple[Array, Array, Array]], ci_prob: float) -> pd.DataFrame:
    """Lay the coefficients out, pooled over plausible values."""
    b, within, df = (np.array([one[i] for one in found]) for i in range(3))
    kept = np.isfinite(b).all(axis=(0, 2))
    if not kept.any():
        raise DataError(
            f"No group has enough rows. {len(kept)} groups are too small, or the predictors do not vary inside them. "
            f"Use fewer predictors than {some(data.names)}, or larger groups."
        )
    pooled = pool(b[:, kept], within[:, kept], df[0][kept][:, None])
    estimate, error = pooled.estimate, np.sqrt(pooled.vcov)
    half = stdtrit(pooled.df, 0.5 + ci_prob / 2) * error
    columns = {"estimate": estimate, "std_error": error, "df": pooled.df}
    columns |= {"ci_low": estimate - half, "ci_high": estimate + half}
    labels, counts = pd.Series(printed(data.labels))[kept], np.bincount(data.group, minlength=len(kept))[kept]
    head = {"group": labels.repeat(len(data.names)).to_numpy(), "term": np.tile(data.names, len(labels))}
    numbers = {name: values.ravel() for name, values in columns.items()}
    out = pd.DataFrame({**head, **numbers, "n": counts.repeat(len(data.names))})
    out.attrs["notes"] = _notes(data, kept)
    return out


def _notes(data: GroupData, kept: Array) -> list[str]:
    if kept.all():
        return []
    lost = [label_text(data.labels[g]) for g in np.flatnonzero(~kept)]
    note = (
        f"{len(lost)} of {len(kept)} groups are left out ({some(lost, 3)}): they have no more rows than the "
        f"{len(data.names)} coefficients, or predictors that do not vary in them."
    )
    warnings.warn(note, PmwmixWarning, stacklevel=4)
    return [note]


__all__ = ["GroupData", "design_columns", "group_regressions", "least_squares"]
