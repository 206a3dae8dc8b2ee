"""Source + formula + design -> ModelFrame without rows: one pass over the data, then the same checks as in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import printed
from pmwmix.data.loneoutcome import notes_on_lone_outcomes
from pmwmix.data.pieces import Stream
from pmwmix.data.pvsets import number_of_pv, pv_notes
from pmwmix.data.table import Table
from pmwmix.errors import DataError, NotSupportedError, numbered_sets, some
from pmwmix.frame.census import Census, Wanted, take_census
from pmwmix.frame.centring import Means, apply_center, words_on_means
from pmwmix.frame.checks import check_frame_size, check_same_categories
from pmwmix.frame.clusters import find_clusters
from pmwmix.frame.coded import notes_on_codes
from pmwmix.frame.columns import categories_of, model_columns, pv_columns, varies_with_pv
from pmwmix.frame.complete import lost_groups, take_rows
from pmwmix.frame.evaluate import evaluate_columns
from pmwmix.frame.hierarchy import Hierarchy, find_levels
from pmwmix.frame.kinds import Kinds
from pmwmix.frame.levelweights import weight_notes
from pmwmix.frame.matrices import FACTOR_CALL, LEARNING
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.frame.norows import NoRows
from pmwmix.frame.ondisk import on_disk
from pmwmix.frame.streamed import PartOfRows, Places, Streamed, localised, means_of, without_rows
from pmwmix.spec.centring import Centring, find_groups
from pmwmix.spec.design import Design
from pmwmix.spec.formula import ModelFormula
from pmwmix.spec.outcome import Distribution, Response
from pmwmix.spec.random import NORMAL
from pmwmix.weights.conditional import (
    WeightStats,
    conditional_weights,
    order_weights,
    total_weights,
    unit_weights,
    weight_columns,
)
from pmwmix.weights.scaling import resolve_scaling
from pmwmix.weights.sums import RowSums

LONE = 5_000  # rows that are looked at for plausible values that stand alone


def build_streamed(
    formula: ModelFormula,
    stream: Stream,
    design: Design,
    centrings: Sequence[Centring],
    subset: Any = None,
    distribution: Distribution | None = None,
    pairing: str | None = None,
) -> ModelFrame:
    """Walk from a source to a frame, as `build_frame` does from a table.

    Parameters
    ----------
    formula, design, centrings, subset, distribution, pairing
        As in `build_frame`.
    stream : Stream

    Returns
    -------
    ModelFrame
        Its ``stream`` reads the rows again; arrays over them refuse to be looked at.

    Raises
    ------
    PmwmixError
    """
    distribution = distribution or Distribution()
    _check_asked(formula, design, subset, distribution)
    centrings, pv = find_groups(centrings, formula), pv_columns(design.pv, formula, stream.names, pairing)
    wanted = _wanted(formula, design, centrings, pv, distribution)
    census, kinds = take_census(stream, wanted, "formula, weights or design")
    told, census = _with_rows(census, wanted)
    hierarchy = _nested_levels(formula, census.units)
    by_level = order_weights(wanted.weights, hierarchy)
    weights = _weigh(by_level, census, hierarchy, design)
    means = _means(centrings, census, weights, pv, formula)
    sample = _sample_designs(formula, hierarchy, census.sample, centrings, pv, means, distribution)
    dtypes = _with_declared(census, kinds, wanted)
    places = Places.of(hierarchy, census.units)
    rows = Streamed(
        stream, wanted, kinds, dtypes, census.n, formula, list(centrings), means, pv, sample,
        list(map(without_rows, sample)), places, weights.w[0], weights.totals,
        weights.below, total_weights(weights.w[1:], hierarchy.parents)[0], distribution.has_closed_form,
        weights.cond[0], [PartOfRows(share, places.met(keys), n) for share, keys, n in census.shares],
    )  # fmt: skip
    notes = _notes(formula, stream, design, centrings, census, hierarchy, by_level, weights, told, pv)
    frame = _frame(rows, census, design, hierarchy, by_level, weights, notes)
    if not distribution.has_closed_form:
        frame = replace(frame, family=distribution.family, link=distribution.link, has_closed_form=False)
        frame = on_disk(frame, distribution)
        check_same_categories(frame)
    check_frame_size(frame, distribution)
    return frame


def _with_declared(census: Census, kinds: Kinds, wanted: Wanted) -> dict[str, pd.CategoricalDtype]:
    """Give outcomes the categories that no row has, as `with_declared` does."""
    outcomes = [one for name in wanted.formula.response_variables for one in wanted.pv.get(name, [name])]
    lost = [
        name for name in outcomes if name in census.dtypes and name in kinds.declared and name not in kinds.sorted_only
    ]
    more = {name: pd.CategoricalDtype(kinds.declared[name], ordered=kinds.ordered[name]) for name in lost}
    return {**census.dtypes, **more}


def _frame(
    rows: Streamed,
    census: Census,
    design: Design,
    hierarchy: Hierarchy,
    by_level: tuple[str | None, ...],
    weights: _Weights,
    notes: tuple[str, ...],
) -> ModelFrame:
    nothing: Any = NoRows()
    return ModelFrame(
        formula=rows.formula,
        hierarchy=_without_index(hierarchy, weights.w[0].n),
        designs=rows.designs,
        w=(nothing, *weights.w[1:]),
        weighted=tuple(name is not None for name in by_level),
        weight_columns=by_level,
        weight_stats=weights.statistics(hierarchy) if any(by_level) else {},
        scaling=weights.scaling,
        n_read=census.n_read,
        kept=None,
        dropped=census.dropped,
        zero_weight=census.zero,
        clusters=find_clusters(design, census.units, hierarchy),
        means=rows.means,
        centrings=rows.centrings,
        pv=rows.pv,
        categories=categories_of(rows.formula, census.sample),
        index=pd.RangeIndex(census.n),
        cond=(nothing, *weights.cond[1:]),
        stream=rows,
        notes=notes,
    )


def _nested_levels(formula: ModelFormula, units: Mapping[str, pd.Series]) -> Hierarchy:
    hierarchy = find_levels(formula.grouping, units)
    if hierarchy.crossed:
        raise NotSupportedError(
            f"Streamed fits need nested groups, which fall apart into units that are added up. "
            f"{some(hierarchy.crossed)} are crossed, so that all rows hang together. Fit a table in memory."
        )
    return hierarchy


def _check_asked(formula: ModelFormula, design: Design, subset: Any, distribution: Distribution) -> None:
    """Refuse what needs rows."""
    asked = [
        (
            bool(distribution.further) or distribution.settle is not None,
            f"family={distribution.family!r}, which has several linear predictors,",
        ),
        (distribution.pairwise, "method='pairwise'"),
        (distribution.residual is not None, "residual="),
        (distribution.random != NORMAL, f"random={distribution.random!r}"),
        (bool(formula.latent), "latent_mean()"),
        (bool(formula.measured), "measured()"),
        (distribution.several, "several outcomes"),
        (subset is not None, "subset="),
        (not formula.grouping, "a formula without random terms"),
        (callable(design.scaling), "a function as scaling="),
        (design.trim is not None, "trim="),
        (design.weights_top is not None, "weights_top="),
    ]
    found = [what for is_asked, what in asked if is_asked]
    if found:
        raise NotSupportedError(
            f"Data are streamed for models with nested groups and one linear predictor. The call has {found[0]} which "
            f"is not built for them. Fit a table in memory, or leave it out."
        )


def _wanted(
    formula: ModelFormula,
    design: Design,
    centrings: Sequence[Centring],
    pv: Mapping[str, Sequence[str]],
    distribution: Distribution,
) -> Wanted:
    added = {plan.mean_name for plan in centrings if plan.add_mean}
    trials = [] if distribution.trials is None else [distribution.trials]
    text = " ".join([formula.fixed, formula.response, *(term.expr for term in formula.random)])
    called = {name.strip("`") for name in FACTOR_CALL.findall(text)}
    return Wanted(
        formula,
        list(dict.fromkeys([*(n for n in model_columns(formula, centrings, pv) if n not in added), *trials])),
        weight_columns(design.weights, formula),
        [name for name in (design.psu, design.strata, design.fpc) if name is not None],
        list(dict.fromkeys(name for plan in centrings for name in plan.columns)),
        list(dict.fromkeys(name for plan in centrings for name in pv.get(plan.column, [plan.column]))),
        sorted({one for name in called for one in pv.get(name, [name])}),
        centrings,
        pv,
    )


def _with_rows(census: Census, wanted: Wanted) -> tuple[tuple[str, ...], Census]:
    """Take out the units that have no row of positive weight."""
    used = census.sums["used"].to_numpy() > 0
    if not used.any():
        reason = some([f"{name} ({count})" for name, count in {**census.dropped, **census.zero}.items()])
        raise DataError(f"No row is left. Rows were lost to {reason}. Check those columns and the join of the files.")
    told: tuple[str, ...] = ()
    if any(census.zero.values()):
        told = lost_groups(census.units, wanted.weights, wanted.formula, np.arange(len(used)), used)
    if used.all():
        return told, census
    rows = np.flatnonzero(used)
    units = {name: take_rows(column, rows) for name, column in census.units.items()}
    return told, replace(census, units=units, sums=census.sums.iloc[rows].reset_index(drop=True))


@dataclass(frozen=True)
class _Weights:
    """Weights of all levels, those of the rows by their sums.

    Parameters
    ----------
    cond, w, totals : tuple
        Conditional weights, scaled ones, and total ones.
    scaling : str
    below : float
    of_units : ndarray of int
        Lowest unit of each row of the table of units.
    """

    cond: tuple[Any, ...]
    w: tuple[Any, ...]
    totals: tuple[Any, ...]
    scaling: str
    below: float
    of_units: Array

    def statistics(self, hierarchy: Hierarchy) -> dict[tuple[str, str], WeightStats]:
        """As `weight_statistics` gives them."""
        out = {}
        for name, total, used in zip(
            ["obs", *(level.name for level in hierarchy.levels)], self.totals, self.w, strict=True
        ):
            for kind, one in (("total", total), ("used", used)):
                out[name, kind] = one.statistics if isinstance(one, RowSums) else WeightStats.of(one)
        return out


def _weigh(by_level: Sequence[str | None], census: Census, hierarchy: Hierarchy, design: Design) -> _Weights:
    """Turn weights into conditional ones and scale them, as `weigh` does with rows."""
    lowest, sums, conditional = hierarchy.levels[0], census.sums, bool(design.conditional)
    totals: list[Array | None] = [None]
    for level, name in zip(hierarchy.levels, by_level[1:], strict=True):
        values = None if name is None else census.units[name].to_numpy()
        if values is not None:
            values = unit_weights(values, level.index, level.n, str(name), level.name, printed(level.labels))
        totals.append(values)
    parents = (np.arange(lowest.n), *hierarchy.parents)
    upper = tuple(conditional_weights(totals, parents, conditional)[1:])
    above = total_weights(upper, hierarchy.parents)
    rows = _row_sums(sums, lowest.index, lowest.n, by_level[0] is not None)
    cond: tuple[Any, ...] = (rows if by_level[0] is None or conditional else rows.times(1.0 / above[0]), *upper)
    scaling, scale = resolve_scaling(design.scaling)
    w = cond if all(name is None for name in by_level) else tuple(scale(cond, parents))
    below = 0.0
    if by_level[0] is not None and len(by_level) > 1 and by_level[1] is not None:
        below = float(sums[f"below {by_level[1]}"].sum()) / census.n
    return _Weights(cond, w, (cond[0].times(above[0]), *above), scaling, below, lowest.index)


def _row_sums(sums: pd.DataFrame, index: Array, n: int, is_column: bool) -> RowSums:
    low, high = np.full(n, np.inf), np.zeros(n)
    np.minimum.at(low, index, sums["low"].to_numpy())
    np.maximum.at(high, index, sums["high"].to_numpy())
    count, total, squares = (
        np.bincount(index, sums[name].to_numpy(), minlength=n) for name in ("used", "total", "squares")
    )
    return RowSums(count.astype(np.int64), total, squares, low, high, np.ones(n), is_column)


def _means(
    centrings: Sequence[Centring],
    census: Census,
    weights: _Weights,
    pv: Mapping[str, Sequence[str]],
    formula: ModelFormula,
) -> list[Means]:
    """Find the means of centring, anew for every plausible value of a predictor."""
    first = {name: census.sample[own[0]].rename(name) for name, own in pv.items()}
    apply_center(list(centrings), {**census.sample, **first}, None, Means())  # refuses categories
    factor = weights.totals[0].factor[weights.of_units]
    out = []
    for k in range(number_of_pv(pv) if varies_with_pv(formula, pv) else 1):
        own = {plan.column: pv[plan.column][k] if plan.column in pv else plan.column for plan in centrings}
        sums = {name: census.sums[f"sum {column}"].to_numpy() for name, column in own.items()}
        out.append(means_of(centrings, census.units, sums, census.sums["total"].to_numpy(), factor))
    return out


def _sample_designs(
    formula: ModelFormula,
    hierarchy: Hierarchy,
    sample: Mapping[str, pd.Series],
    centrings: Sequence[Centring],
    pv: Mapping[str, Sequence[str]],
    means: Sequence[Means],
    distribution: Distribution,
) -> list[DesignColumns]:
    """Evaluate the formula on the sampled rows."""
    out = []
    if not distribution.has_closed_form:  # whether the outcomes will do is found when all are read
        distribution = replace(distribution, read=lambda one: Response(one.values, (), one.values))
    for k, mean in enumerate(means):
        local = localised(sample, pv, centrings, mean, k)
        out.append(evaluate_columns(formula, hierarchy, local, sample, pv, distribution, None))
    for matrix in (out[0].x, *(block.matrix for block in out[0].blocks)):
        learned = [str(name) for name, state in (matrix.spec.transform_state if matrix.spec else {}).items() if state]
        outside = f"{formula.response} {formula.offset or ''}"
        if learned or LEARNING.search(outside):
            learned = learned or [outside.strip()]
            raise NotSupportedError(
                f"A function that learns from the whole column cannot be streamed. The formula has {some(learned)}. "
                f"Use center={{...}} for means, or add the transformed column to the data."
            )
    return out


def _without_index(hierarchy: Hierarchy, sizes: Array) -> Hierarchy:
    nothing: Any = NoRows()
    levels = tuple(replace(level, index=nothing) for level in hierarchy.levels)
    return replace(hierarchy, levels=levels, order=nothing, starts=np.concatenate([[0], np.cumsum(sizes)]))


def _notes(
    formula: ModelFormula,
    stream: Stream,
    design: Design,
    centrings: Sequence[Centring],
    census: Census,
    hierarchy: Hierarchy,
    by_level: Sequence[str | None],
    weights: _Weights,
    told: tuple[str, ...],
    pv: Mapping[str, Sequence[str]],
) -> tuple[str, ...]:
    of_weights = weight_notes(
        by_level, hierarchy, weights.cond, weights.w, weights.scaling, bool(design.conditional), weights.below
    )
    coded = notes_on_codes(formula, census.sample, stream.values, [plan.column for plan in centrings])
    sets = pv_notes(design.pv, formula.variables, stream.names) or _notes_on_lone_outcomes(formula, stream, pv)
    return (*of_weights, *coded, *told, *words_on_means(census.unused, census.n_read), *sets)


def _notes_on_lone_outcomes(formula: ModelFormula, stream: Stream, pv: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Say, from some rows, that an outcome is one of a set of plausible values."""
    names = [name for name in formula.response_variables if name not in pv]
    sets = [own for own in numbered_sets(stream.names).values() if set(own) & set(names)]
    if not sets:
        return ()
    wanted = list(dict.fromkeys([*names, *(column for own in sets for column in own)]))
    some_rows = pd.DataFrame(next(stream.pieces(wanted)).columns).head(LONE)
    table = Table(some_rows)
    return notes_on_lone_outcomes(names, table.columns(wanted), table, pv)
