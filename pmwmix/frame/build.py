"""Table + formula + design -> ModelFrame: complete rows, levels, weights and design columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.loneoutcome import notes_on_lone_outcomes
from pmwmix.data.pvsets import number_of_pv, pv_notes
from pmwmix.data.source import Source
from pmwmix.data.table import Table
from pmwmix.errors import DataError, NotSupportedError, some
from pmwmix.frame.centring import Means, apply_center, notes_on_means
from pmwmix.frame.checks import (
    check_frame_size,
    check_random_terms,
    check_same_categories,
    check_several,
    refuse_offset,
)
from pmwmix.frame.clusters import Clusters, find_clusters, subset_clusters
from pmwmix.frame.coded import notes_on_codes
from pmwmix.frame.columns import categories_of, model_columns, pv_columns, resolve_columns, varies_with_pv
from pmwmix.frame.complete import (
    complete_rows,
    missing_together,
    positive_rows,
    subset_rows,
    take_rows,
    with_declared,
)
from pmwmix.frame.crossing import (
    check_named_weights,
    check_pairwise,
    check_weights_of_crossed,
    crossed_clusters,
    crossing_notes,
    pairwise_notes,
)
from pmwmix.frame.evaluate import evaluate_columns
from pmwmix.frame.hierarchy import Hierarchy, find_levels
from pmwmix.frame.latentmeans import check_latent_means, latent_columns, observed_means
from pmwmix.frame.levelweights import crossed_weights, scale_of, weigh, weight_notes, weight_statistics
from pmwmix.frame.matrices import outcomes
from pmwmix.frame.measured import check_measured, error_variances, measured_values
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.frame.partweights import notes_on_parts, weigh_parts, weighted_factor
from pmwmix.frame.residual import residual_columns
from pmwmix.spec.centring import Centring, find_groups
from pmwmix.spec.design import Design
from pmwmix.spec.formula import ModelFormula
from pmwmix.spec.outcome import Distribution
from pmwmix.weights.conditional import order_weights, total_weights, weight_columns
from pmwmix.weights.scaling import resolve_scaling
from pmwmix.weights.trimming import Trimmed


def build_frame(
    formula: ModelFormula,
    table: Table,
    design: Design,
    centrings: Sequence[Centring],
    subset: Any = None,
    distribution: Distribution | None = None,
    pairing: str | None = None,
) -> ModelFrame:
    """Walk from the table to the frame: resolve, drop, code, weigh, evaluate.

    Parameters
    ----------
    formula : ModelFormula
    table : Table
    design : Design
    centrings : sequence of Centring
    subset : str or array of bool, shape (n,), optional
        Rows to fit; the others stay in the design.
    distribution : Distribution, optional
        None is a linear model.
    pairing : {"number", "cross"}, optional
        Of sets of plausible values.

    Returns
    -------
    ModelFrame

    Raises
    ------
    PmwmixError
        Every problem with columns, weights, levels or design, in words.
    """
    formula = _completed(formula, distribution := distribution or Distribution())
    centrings, pv = find_groups(centrings, formula), pv_columns(design.pv, formula, table.names, pairing)
    read = _read_rows(formula, table, design, centrings, pv, subset, distribution)
    formula, distribution = _settled(formula, distribution, read, pv)
    columns = read.columns
    hierarchy = _levels(formula, columns, distribution, centrings)
    by_level = order_weights(weight_columns(design.weights, formula), hierarchy)
    scaling, scale = scale_of(design, hierarchy)
    cond, w, totals, own_w, trimmed = _weights(by_level, columns, hierarchy, design, scale, distribution)
    weighted = tuple(name is not None for name in by_level)
    w_rows = totals[0] if any(weighted) else None
    designs, means = _design_columns(formula, hierarchy, read, centrings, pv, distribution, w_rows)
    frame = ModelFrame(
        source=Source(table),
        formula=formula,
        hierarchy=hierarchy,
        designs=designs,
        w=w,
        weighted=weighted,
        weight_columns=by_level,
        weight_stats=weight_statistics(hierarchy, totals, w, any(weighted)),
        scaling=scaling,
        **read.counts,
        clusters=_clusters(design, columns, read.everything, hierarchy, read.subset),
        means=means,
        centrings=list(centrings),
        pv=pv,
        categories=categories_of(formula, columns),
        index=table.index if read.kept is None else table.index[read.kept],
        notes=_notes(formula, table, design, centrings, read, designs, pv),
        cond=cond,
        family=distribution.family,
        link=distribution.link,
        has_closed_form=distribution.has_closed_form,
        pairwise=distribution.pairwise,
        own_w=own_w,
        weights_top=design.weights_top,
        trimmed=trimmed,
    )
    return _checked(frame, distribution, columns, design)


def _check_plain(design: Design) -> None:
    """Refuse scaled and trimmed weights in a pairwise likelihood.

    Raises
    ------
    NotSupportedError
    """
    for name, value in (("weights_top", design.weights_top), ("trim", design.trim)):
        if value is not None:
            raise NotSupportedError(
                f"The pairwise likelihood weights pairs by how likely they were sampled. Got {name}={value!r} with "
                f"method='pairwise'. Leave it out."
            )


def _weights(
    by_level: Sequence[str | None],
    columns: Mapping[str, pd.Series],
    hierarchy: Hierarchy,
    design: Design,
    scale: Any,
    distribution: Distribution,
) -> tuple[tuple[Array, ...], tuple[Array, ...], list[Array], tuple[Array, ...], tuple[Trimmed, ...]]:
    """Give conditional weights before and after scaling, total ones, those of crossed factors of a pairwise fit.

    Last what was trimmed.
    """
    if distribution.pairwise:
        _check_plain(design)
        check_pairwise(hierarchy)
    elif hierarchy.crossed and any(by_level[1:]) and not distribution.has_closed_form:
        cond, w, trimmed = weigh_parts(by_level, columns, hierarchy, design, scale)
        return cond, w, total_weights(cond, hierarchy.row_parents), (), trimmed
    elif hierarchy.crossed:
        check_weights_of_crossed(by_level, hierarchy, resolve_scaling(design.scaling)[0])
    conditional = bool(design.conditional)
    if not (hierarchy.crossed and distribution.pairwise):
        cond, w, trimmed = weigh(by_level, columns, hierarchy, conditional, scale, design.trim)
        if hierarchy.crossed:  # units of theirs have no weights, and are no members of each other to be counted by
            units = [np.ones(level.n) for level in hierarchy.levels]
            cond, w = (cond[0], *units), (w[0], *units)
        return cond, w, total_weights(cond, hierarchy.row_parents), (), trimmed
    check_named_weights(design.weights, hierarchy)
    own = crossed_weights(by_level, columns, hierarchy, conditional)
    whole = own[0] * np.prod([w[level.index] for w, level in zip(own[1:], hierarchy.levels, strict=True)], axis=0)
    of_rows = (whole, *(np.ones(level.n) for level in hierarchy.levels))
    return of_rows, of_rows, [whole, *own[1:]], own, ()


def _completed(formula: ModelFormula, distribution: Distribution) -> ModelFormula:
    """Add the further predictors of the family, and the columns of a residual structure."""
    spec = distribution.residual
    if not distribution.several:  # of several outcomes the formulas say all
        formula = formula.with_predictors(distribution.further)
    elif distribution.has_closed_form:
        refuse_offset(formula)
    return formula if spec is None else formula.with_residual(spec.group, spec.columns)


def _settled(
    formula: ModelFormula, distribution: Distribution, read: _Rows, pv: Mapping[str, Sequence[str]]
) -> tuple[ModelFormula, Distribution]:
    """Give every category of the outcome, the first plausible value of it, a linear predictor if its family says so."""
    if distribution.settle is None:
        return formula, distribution
    columns = {**read.columns, **{name: read.columns[own[0]].rename(name) for name, own in pv.items()}}
    constant = not any(part.variables for part in formula.further)
    found = distribution.settled(outcomes(formula, columns, len(next(iter(columns.values())))), constant)
    if distribution.several:
        return formula, found
    if found.first is None:
        return formula.for_thresholds([one.name for one in found.further]), found
    return formula.for_each([found.first, *(one.name for one in found.further)]), found


def _levels(
    formula: ModelFormula, columns: Mapping[str, pd.Series], distribution: Distribution, centrings: Sequence[Centring]
) -> Hierarchy:
    """Find the levels, and refuse latent means and errors in predictors that the model cannot have."""
    hierarchy = find_levels(formula.grouping, columns)
    check_measured(formula, hierarchy, distribution, centrings)
    return check_latent_means(formula, hierarchy, distribution, centrings)


def _checked(
    frame: ModelFrame, distribution: Distribution, columns: Mapping[str, pd.Series], design: Design
) -> ModelFrame:
    """Check the frame as a whole, and add notes on weights, and the residual structure, which needs its levels."""
    frame = replace(frame, random=distribution.random)
    if distribution.several:
        check_several(frame)
    check_frame_size(frame, distribution)
    check_random_terms(frame)
    check_same_categories(frame)
    frame = replace(frame, notes=(*_notes_on_weights(frame, design), *frame.notes))
    if distribution.residual is None:
        return frame
    found = residual_columns(distribution.residual, frame.formula, columns, frame.hierarchy, frame.w[0])
    return replace(frame, residual=found)


def _notes_on_weights(frame: ModelFrame, design: Design) -> tuple[str, ...]:
    by_level, hierarchy = frame.weight_columns, frame.hierarchy
    if frame.pairwise:
        return pairwise_notes(by_level, hierarchy)
    if hierarchy.crossed:
        at = weighted_factor(frame)
        alone = (by_level[0] if at is None else None,)
        said = crossing_notes(alone, hierarchy, frame.w[0], frame.has_closed_form)
        return said if at is None else (*said, *notes_on_parts(frame, at, bool(design.conditional)))
    return weight_notes(by_level, hierarchy, frame.cond, frame.w, frame.scaling, bool(design.conditional))


@dataclass(frozen=True)
class _Rows:
    """The rows that are left.

    Parameters
    ----------
    columns, everything : dict of str to Series
        Of the rows that are left, and of all.
    kept : ndarray of int, or None
        The rows that are left; None if all are.
    subset : ndarray of int, or None
        The same where a subset was asked for.
    counts : dict
        ``n_read, kept, dropped, zero_weight`` of the frame.
    notes : tuple of str
    """

    columns: dict[str, pd.Series]
    everything: dict[str, pd.Series]
    kept: Array | None
    subset: Array | None
    counts: dict[str, Any]
    notes: tuple[str, ...]


def _read_rows(
    formula: ModelFormula,
    table: Table,
    design: Design,
    centrings: Sequence[Centring],
    pv: Mapping[str, Sequence[str]],
    subset: Any,
    distribution: Distribution,
) -> _Rows:
    """Resolve the columns and drop incomplete rows, those outside a subset, and those without weight."""
    columns = everything = resolve_columns(formula, table, design, centrings, pv, distribution.trials)
    trials = [distribution.trials] if distribution.trials is not None else []
    model = [name for name in [*model_columns(formula, centrings, pv), *trials] if name in columns]
    n_read = len(next(iter(columns.values())))
    lacking = [pv.get(name, [name]) for name in formula.outcomes] if not distribution.has_closed_form else []
    keep, dropped = complete_rows(columns, model, n_read, lacking)
    if subset is not None:
        keep &= subset_rows(subset, table, n_read)
    of_means = notes_on_means(centrings, columns, pv, keep)
    keep, zero, lost = positive_rows(columns, weight_columns(design.weights, formula), formula, keep)
    if not keep.any():
        reason = some([f"{name} ({count})" for name, count in {**dropped, **zero}.items()])
        raise DataError(f"No row is left. Rows were lost to {reason}. Check those columns and the join of the files.")
    kept = None if keep.all() else np.flatnonzero(keep)
    if kept is not None:
        columns = {name: take_rows(column, kept) for name, column in columns.items()}
    columns = missing_together(columns, lacking)
    lefts = [one for name in formula.response_variables for one in pv.get(name, [name])]
    columns = with_declared(columns, lefts, table.declared)
    told: tuple[str, ...] = ()
    if subset is not None:
        told = (f"A subset was fitted: {int(keep.sum())} of {n_read} rows; all clusters stay in the variance.",)
    counts = {"n_read": n_read, "kept": kept, "dropped": dropped, "zero_weight": zero}
    chosen = None if subset is None else np.flatnonzero(keep)
    return _Rows(columns, everything, kept, chosen, counts, (*told, *lost, *of_means))


def _design_columns(
    formula: ModelFormula,
    hierarchy: Hierarchy,
    read: _Rows,
    centrings: Sequence[Centring],
    pv: Mapping[str, Sequence[str]],
    distribution: Distribution,
    w: Array | None,
) -> tuple[list[DesignColumns], list[Means]]:
    """Centre and evaluate the columns, anew for every plausible value of a predictor."""
    designs, means = [], []
    for k in range(number_of_pv(pv) if varies_with_pv(formula, pv) else 1):
        chosen = {name: read.columns[cols[k]].rename(name) for name, cols in pv.items()}
        mean = Means()
        local = apply_center(list(centrings), {**read.columns, **chosen}, w, mean)
        measured = observed_means(formula, hierarchy, local, w)
        local = local | {one.name: one.series for one in measured} | measured_values(formula, local)
        found = evaluate_columns(formula, hierarchy, local, read.columns, pv, distribution, read.kept)
        errors = error_variances(formula, found.x, local, w)
        designs.append(replace(found, latent=latent_columns(formula, found.x, local, measured), errors=errors))
        means.append(mean)
    return designs, means


def _notes(
    formula: ModelFormula,
    table: Table,
    design: Design,
    centrings: Sequence[Centring],
    read: _Rows,
    designs: Sequence[DesignColumns],
    pv: Mapping[str, Sequence[str]],
) -> tuple[str, ...]:
    subset, lost = (read.notes[:1], read.notes[1:]) if read.subset is not None else ((), read.notes)
    coded = notes_on_codes(formula, read.columns, table.values, [plan.column for plan in centrings])
    sets = pv_notes(design.pv, formula.variables, table.names)
    sets = sets or notes_on_lone_outcomes(formula.response_variables, read.everything, table, pv)
    of_outcome = tuple(dict.fromkeys(note for part in designs for one in part.responses for note in one.notes))
    return (*subset, *coded, *lost, *sets, *of_outcome)


def _clusters(
    design: Design,
    columns: Mapping[str, pd.Series],
    everything: Mapping[str, pd.Series],
    hierarchy: Hierarchy,
    rows: Array | None,
) -> Clusters | None:
    """Find the units of the robust variance; ``rows`` are those of a subset of ``everything``."""
    if hierarchy.crossed:
        whole = rows is None or design.psu is None  # PSUs without rows of a subset would be missing
        return crossed_clusters(design, columns, hierarchy) if whole else None
    if rows is None:
        return find_clusters(design, columns, hierarchy)
    return subset_clusters(design, everything, hierarchy, rows)
