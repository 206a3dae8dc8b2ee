"""`describe`: weighted statistics of a variable or a set of plausible values, with their standard errors, by group."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from pmwmix._types import Array
from pmwmix.data.table import Table
from pmwmix.descriptives import statistics as st
from pmwmix.errors import DataError, OptionError, PmwmixWarning, near
from pmwmix.frame.build import build_frame
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.pooling import pool
from pmwmix.resolve.fill import fill_in
from pmwmix.results.asked import check_design, choose_variance
from pmwmix.spec.checks import check_prob
from pmwmix.spec.design import Design, resolve_design
from pmwmix.spec.outcome import Distribution
from pmwmix.variance import meat

SIMPLE = {"mean": st.mean, "sd": st.spread}


def describe(
    variable: str,
    data: Any,
    *,
    by: str | None = None,
    statistics: str | Sequence[str] = ("mean", "sd"),
    percentiles: Sequence[float] = (),
    benchmarks: Sequence[float] = (),
    correlate: str | None = None,
    gaps: bool = False,
    weights: str | None = None,
    pv: Mapping[str, Any] | None = None,
    design: Design | str | Mapping[str, Any] | None = None,
    vcov: str | None = None,
    ci_prob: float = 0.95,
) -> pd.DataFrame:
    """Describe a variable or a set of plausible values: weighted, pooled, with standard errors of the design.

    Parameters
    ----------
    variable : str
        Column, set of plausible values of ``pv``, or with a survey preset a subject (``"math"``).
    data : table or path
    by : str, optional
        Column; every statistic for each of its values. Rows without one count for none.
    statistics : {"mean", "sd"} or list of them
    percentiles : list of float
        Probabilities, ``[0.1, 0.5, 0.9]``.
    benchmarks : list of float
        Shares of values at or above them.
    correlate : str, optional
        Other column or set of plausible values, of which the correlation is given.
    gaps : bool
        Add the differences between all pairs of groups, from the same replicates or scores, and tests of them.
    weights : str, optional
        Column of the rows' weights; ``design`` may name it.
    pv, design : optional
        As in `fit`. Replicate weights of a survey preset are used unless ``vcov="robust"``.
    vcov : {"replicate", "robust"}, optional
        Replicates, or linearisation between PSUs within strata; the PSUs of a preset are its schools. None: replicates
        where the design has them.
    ci_prob : float

    Returns
    -------
    DataFrame
        The ``by`` column, ``statistic, n`` (rows), ``estimate, std_error, df, ci_low, ci_high`` and with plausible
        values ``fmi``; of gaps ``p_value``.

    Raises
    ------
    OptionError, DataError

    Warns
    -----
    PmwmixWarning
        If there are weights and neither replicates nor PSUs.

    Notes
    -----
    Means, percentiles and shares follow the rules of the PISA, TIMSS and PIRLS tables: standard deviations divide by
    the sum of the weights, percentiles are SAS's (describe, eqs. 1-5), variances are those of the replicates, averaged
    over the plausible values (of the first where the design says so), plus (1 + 1/K) times the variance between them
    (describe, eqs. 6-8). Without replicates every statistic is linearised and its scores summed by PSU.

    References
    ----------
    .. [1] OECD (2009). PISA Data Analysis Manual: SAS, 2nd ed. doi:10.1787/9789264056251-en
    .. [2] Woodruff (1952). Confidence intervals for medians and other position measures. J. Am. Stat. Assoc., 47.
    """
    check_prob(ci_prob)
    wanted = _wanted(statistics, percentiles, benchmarks, correlate)
    sample = _sample(variable, data, by, correlate, weights, pv, design, vcov)
    cells = [(label, mask, one) for label, mask in sample.groups for one in wanted]
    values, covariances = zip(*(_one_value(sample, k, cells) for k in range(sample.n_pv)), strict=True)
    if sample.first_only:
        covariances = (covariances[0],) * sample.n_pv
    L, rows = np.eye(len(cells)), [_head(by, label, one.name, int(mask.sum())) for label, mask, one in cells]
    if gaps:
        extra, heads = _gaps(by, cells)
        L, rows = np.vstack([L, *extra]) if extra else L, [*rows, *heads]
    pooled = pool(np.array(values) @ L.T, np.array([L @ V @ L.T for V in covariances]), sample.df)
    error, df = np.sqrt(np.maximum(np.diag(pooled.vcov), 0.0)), np.minimum(pooled.df, 1e10)
    half = stdtrit(df, 0.5 + ci_prob / 2) * error
    out = pd.DataFrame(rows).assign(estimate=pooled.estimate, std_error=error, df=pooled.df)
    out = out.assign(ci_low=pooled.estimate - half, ci_high=pooled.estimate + half)
    if sample.n_pv > 1:
        out["fmi"] = pooled.fmi
    if gaps:
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2.0 * stdtr(df, -np.abs(pooled.estimate / error))
        out["p_value"] = np.where(np.arange(len(out)) < len(cells), np.nan, p)
    return out


@dataclass(frozen=True)
class _Sample:
    """Rows to describe: frames' values per plausible value, weights, groups, and how variances are found."""

    frame: ModelFrame
    pairs: list[tuple[Array, ...]]
    w: Array
    groups: list[tuple[Any, Array]]
    df: float

    @property
    def n_pv(self) -> int:
        return len(self.pairs)

    @property
    def first_only(self) -> bool:
        return self.frame.replicates is not None and self.frame.replicates.first_only

    def covariance(self, scores: Array) -> Array:
        """Linearised covariance of statistics from the rows' influences times weights (n, m)."""
        clusters, n = self.frame.clusters, len(scores)
        if clusters is None:
            return meat(scores, np.arange(n), np.zeros(n, dtype=np.int64))
        return meat(scores, clusters.psu, clusters.stratum, clusters.fraction, clusters.lonely)


def _wanted(names: Any, percentiles: Any, benchmarks: Any, correlate: Any) -> list[st.Statistic]:
    listed = [names] if isinstance(names, str) else list(names)
    for name in listed:
        if name not in SIMPLE:
            raise OptionError(
                f"Unknown statistic {name!r}.{near(str(name), list(SIMPLE))} Use 'mean' and 'sd', and percentiles=, "
                f"benchmarks= and correlate= for others."
            )
    wrong = [at for at in percentiles if not 0 < at < 1]
    if wrong:
        raise OptionError(
            f"Percentiles are probabilities between 0 and 1. Got {wrong[0]!r}. Write percentiles=[0.1, 0.5, 0.9]."
        )
    out = [SIMPLE[name]() for name in listed] + [st.percentile(float(at)) for at in percentiles]
    out += [st.share(float(limit)) for limit in benchmarks] + ([st.correlation()] if correlate else [])
    if not out:
        raise OptionError("Nothing is asked for. All of statistics, percentiles and benchmarks are empty. Name one.")
    return out


def _sample(
    variable: str, data: Any, by: str | None, correlate: str | None, weights: Any, pv: Any, design: Any, vcov: Any
) -> _Sample:
    if vcov not in (None, "replicate", "robust"):
        raise OptionError(f"Errors of statistics are by replicates or robust. Got vcov={vcov!r}. Leave it out.")
    said = resolve_design(design).override(weights=weights, pv=pv)
    own = [name for name, value in (("weights", weights), ("pv", pv)) if value is not None]
    asked = f"`{variable}` ~ {'1' if correlate is None else f'`{correlate}`'}"
    has_own = said.replicate_weights is not None or said.zone is not None
    how = vcov or ("replicate" if has_own else None)
    table = Table(data, said)
    school = (said.ids or {}).get("school")
    if how != "replicate" and said.psu is None and school in table.names:
        said = replace(said, psu=school)
    filled = fill_in(asked, said, table, [], how, own)
    check_design(filled.design, how)
    frame = build_frame(filled.formula, filled.table, filled.design, filled.center, None, Distribution())
    frame = choose_variance(frame, filled, how, "ml")[0]
    if frame.replicates is None and frame.clusters is None and any(frame.weighted):
        warnings.warn(
            f"Rows are taken for independent units. There are neither replicate weights nor a PSU column for "
            f"{variable!r}, and rows of one school are alike, so that errors are too small. Name the schools, "
            f"design={{'psu': 'SCHOOLID'}}.",
            PmwmixWarning,
            stacklevel=3,
        )
    pairs = []
    for one in frame.designs:
        others = () if correlate is None else (one.x.columns[-1],)
        pairs += [(y, *others) for y in one.y]
    return _Sample(frame, pairs, frame.w[0], _groups(filled.table, frame, by), _degrees(frame))


def _degrees(frame: ModelFrame) -> float:
    if frame.replicates is not None:
        return float(frame.replicates.df)
    return float(frame.n - 1 if frame.clusters is None else frame.clusters.n_psu - frame.clusters.n_strata)


def _groups(table: Table, frame: ModelFrame, by: str | None) -> list[tuple[Any, Array]]:
    if by is None:
        return [(None, np.ones(frame.n, dtype=bool))]
    column = table.columns([by])[by]
    column = column if frame.kept is None else column.take(frame.kept)
    codes, labels = pd.factorize(column, sort=True)
    if not len(labels):
        raise DataError(f"There is no group. All rows of {by!r} are missing. Choose another column.")
    return [(label, np.asarray(codes == k)) for k, label in enumerate(labels)]


def _one_value(sample: _Sample, k: int, cells: list[tuple[Any, Array, st.Statistic]]) -> tuple[Array, Array]:
    """Estimates (m,) of one plausible value and their sampling covariance (m, m)."""
    w, parts = sample.w, [tuple(x[mask] for x in sample.pairs[k]) for _, mask, _ in cells]

    def estimates(weights: Array) -> Array:
        return np.array([one.value(v, weights[mask]) for v, (_, mask, one) in zip(parts, cells, strict=True)])

    centre = estimates(w)
    scheme = sample.frame.replicates
    if scheme is not None:
        if k and scheme.first_only:
            return centre, np.zeros((len(cells), len(cells)))
        moved = np.array([estimates(scheme.weights(r)[0]) for r in range(scheme.n_rep)]) - centre
        return centre, (moved * np.asarray(scheme.multiplier)[:, None]).T @ moved
    scores = np.zeros((len(w), len(cells)))
    for j, (_, mask, one) in enumerate(cells):

        def error_of(influence: Array, mask: Array = mask) -> float:
            column = np.zeros((len(w), 1))
            column[mask, 0] = influence * w[mask]
            return float(np.sqrt(sample.covariance(column)[0, 0]))

        scores[mask, j] = st.influences(one, parts[j], w[mask], centre[j], error_of) * w[mask]
    return centre, sample.covariance(scores)


def _head(by: str | None, label: Any, statistic: str, n: int) -> dict[str, Any]:
    return {**({} if by is None else {by: label}), "statistic": statistic, "n": n}


def _gaps(by: str | None, cells: list[tuple[Any, Array, st.Statistic]]) -> tuple[list[Array], list[dict[str, Any]]]:
    """Differences of every statistic between all pairs of groups, the later minus the earlier one."""
    rows, heads, one = [], [], np.eye(len(cells))
    for a, b in combinations(range(len(cells)), 2):
        if cells[a][2].name == cells[b][2].name:
            rows.append(one[b] - one[a])
            n = int(cells[a][1].sum() + cells[b][1].sum())
            heads.append(_head(by, f"{cells[b][0]} - {cells[a][0]}", cells[a][2].name, n))
    return rows, heads
