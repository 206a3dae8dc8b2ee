"""From estimates to a FitResult, and from several FitResults to a pooled one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import OptionError
from pmwmix.fitting.carried import carriers
from pmwmix.fitting.choose import Plan
from pmwmix.fitting.climb import fit_outcomes
from pmwmix.fitting.collinear import COLLINEAR_TOL
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.fewclusters import with_few_clusters
from pmwmix.fitting.problem import Problem
from pmwmix.fitting.refits import with_replicates
from pmwmix.frame.components import component_names, name_of
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.inference.icc import icc_of, mean_squares, residual_variances
from pmwmix.inference.satterthwaite import satterthwaite
from pmwmix.prediction.blueprint import Blueprint, blueprint_of
from pmwmix.prediction.rows import LiveRows, live_rows, stamp_of
from pmwmix.results.pooled import pool_results, pooled_frames
from pmwmix.results.result import FitResult
from pmwmix.results.varcorr import residual_names, varcorr_table, variance_components
from pmwmix.spec.fixed import RESIDUAL
from pmwmix.spec.settings import Settings
from pmwmix.variance.few_clusters import KINDS
from pmwmix.weights.conditional import total_weights
from pmwmix.weights.replicate_types import BY_REPLICATES

CLIPPED = (
    "Clustering by several factors gave a matrix with negative eigenvalues, which is no covariance matrix: they were "
    "set to zero (Cameron, Gelbach & Miller 2011). Errors are then approximate; it happens with few groups."
)


def weight_table(frame: ModelFrame) -> pd.DataFrame:
    """Statistics of the total weights per level, and mean, sum and effective size of those used after scaling."""
    rows = {}
    for name in frame.level_names:
        if (name, "total") in frame.weight_stats:
            total, used = frame.weight_stats[name, "total"], frame.weight_stats[name, "used"]
            rows[name] = {
                "n": total.n, "mean": total.mean, "sum": total.sum, "min": total.min, "max": total.max,
                "cv": total.cv, "n_eff": total.n_eff, "used_mean": used.mean, "used_sum": used.sum,
                "used_min": used.min, "used_max": used.max, "used_cv": used.cv, "used_n_eff": used.n_eff,
            }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


@dataclass(frozen=True)
class OfDesign:
    """What all outcomes of one design matrix have in common.

    Parameters
    ----------
    squares : tuple of ndarray
        Mean squares of the random-effects columns, per level.
    carried : tuple of str
        Notes on coefficients that rest on few clusters.
    alone : tuple of str
        Coefficients that rest on one alone, where the variance is robust.
    """

    squares: tuple[Array, ...]
    carried: tuple[str, ...]
    alone: tuple[str, ...]


def of_design(frame: ModelFrame, problem: Problem, design: int, settings: Settings) -> OfDesign:
    """Look at a design matrix once for all its outcomes."""
    columns, is_robust = frame.designs[design], settings.vcov not in (*BY_REPLICATES, "model")
    carried, alone = carriers(problem, frame, columns) if is_robust else ([], [])
    return OfDesign(mean_squares(frame, columns), tuple(carried), tuple(alone))


def single(
    frame: ModelFrame,
    problem: Problem,
    k: int,
    fit: Estimate,
    settings: Settings,
    design: int,
    number: int,
    shared: OfDesign | None = None,
) -> FitResult:
    """Wrap one estimate."""
    shared = shared or of_design(frame, problem, design, settings)
    columns, names = frame.designs[design], component_names(frame)
    closed = problem.objective.closed_form
    terms, outcomes = list(fit.terms), frame.formula.outcomes
    linear = bool(outcomes) and closed
    p, V = len(terms), _without(fit.joint if linear else fit.vcov, [terms.index(name) for name in shared.alone])
    values = variance_components(frame, fit.Psi, fit.sigma)
    values[-1] = fit.latent  # of a generalised model in the place of the residual variance
    values = np.append(values, list(fit.reported.values()) if linear else [])
    n, of_residuals = len(names), residual_names(outcomes if linear else ())
    more = (_linear_fields if closed else _family_fields)(frame, problem, fit, k, V)
    variance = _component_variances(frame, fit, names, values, np.diag(V)[p:])
    blueprint = blueprint_of(frame, columns, problem, frame.means[design], number)
    found = FitResult(
        coef=pd.Series(fit.beta, index=terms, name="coef"),
        vcov=pd.DataFrame(V[:p, :p], index=terms, columns=terms),
        varcorr=varcorr_table([*names, *of_residuals], values, variance, residual=closed and not outcomes),
        sigma=fit.sigma,
        theta=pd.Series(fit.theta, index=[name_of(*name) for name in names], name="theta"),
        loglik=fit.loglik,
        nobs=frame.n,
        n_groups=pd.Series({level.name: level.n for level in frame.hierarchy.levels}, name="n_groups", dtype=int),
        icc=icc_of(frame, fit.Psi, _level_one(frame, problem, k, fit, values[n:]), shared.squares),
        weight_stats=weight_table(frame),
        converged=fit.converged,
        singular=fit.singular,
        status=fit.status.value,
        notes=(*frame.notes, *_fit_notes(problem, frame, terms, blueprint), *shared.carried, *_start_notes(fit)),
        settings=settings,
        parameters=(np.concatenate([fit.beta, values]), V),
        index=frame.index,
        rows=LiveRows(frame, columns, problem, k, fit, blueprint, stamp_of(columns, k)),
        small_df=fit.small_df,
        nest=frame.nests[number] if frame.nests else (),
        n_starts=fit.n_starts,
        **more,
    )
    return replace(found, sigma=found.sigmas) if outcomes else found


def _level_one(frame: ModelFrame, problem: Problem, k: int, fit: Estimate, residual: Array) -> Array:
    """Give the level-1 variance, of several outcomes each (m,), from the residual (co)variances or the families."""
    m = len(frame.formula.outcomes)
    if not m:
        return residual
    if problem.objective.closed_form:
        return residual_variances(residual, m)
    w = total_weights(frame.cond or frame.w, frame.hierarchy.row_parents)[0]
    found: Array = problem.family.latent_variances(problem.responses[k], w, fit.phi)  # type: ignore[attr-defined]
    return found


def _component_variances(
    frame: ModelFrame, fit: Estimate, names: Sequence[tuple[str, str, str | None]], values: Array, known: Array
) -> Array:
    """Give the squared standard errors of the components, NaN where there is none."""
    out, n = known.copy(), len(names)
    out[:n][_undetermined(names, values, values[n] if np.isfinite(values[n]) else 1.0) | fit.flat] = np.nan
    out[: n + 1][[name in frame.fixed for name in (*(name_of(*name) for name in names), RESIDUAL)]] = np.nan
    return out


def _without(V: Array, places: list[int]) -> Array:
    """Mark (co)variances of some coefficients as missing."""
    if not places:
        return V
    out = V.copy()
    out[places, :] = out[:, places] = np.nan
    return out


def _linear_fields(frame: ModelFrame, problem: Problem, fit: Estimate, k: int, V: Array) -> dict[str, Any]:
    if frame.formula.outcomes:
        return {"outcomes": frame.formula.outcomes, "satterthwaite": partial(satterthwaite, problem, fit)}
    table = _residual_table(problem, fit)
    if frame.formula.latent:
        return {"latent_means": table}
    return {"residual_parameters": table, "satterthwaite": partial(satterthwaite, problem, fit)}


def _random_vcov(fit: Estimate, V: Array) -> Array | None:
    """Covariance of the parameters (P, P) and of what the distribution of the random effects reports."""
    r = fit.n_of_shape
    if not r:
        return None
    places = [*range(len(V)), *range(len(fit.joint) - r, len(fit.joint))]
    out = fit.joint[np.ix_(places, places)].copy()
    out[: len(V), : len(V)] = V
    lost = np.isnan(np.diag(out))
    out[lost, :] = out[:, lost] = np.nan
    return out


def _family_fields(frame: ModelFrame, problem: Problem, fit: Estimate, k: int, V: Array) -> dict[str, Any]:
    error = np.sqrt(np.maximum(np.diag(fit.reported_vcov), 0.0))
    return {
        "outcomes": frame.formula.outcomes,
        "family": frame.family,
        "link": frame.link,
        "phi": fit.phi,
        "family_parameters": pd.DataFrame(
            {"estimate": list(fit.reported.values()), "se": error}, index=list(fit.reported), dtype=float
        ),
        "quadrature": _quadrature(problem, fit) if fit.n_agq else None,
        "categories": problem.responses[k].categories,
        "random_shape": fit.shape,
        "random_vcov": _random_vcov(fit, V),
    }


def _quadrature(problem: Problem, fit: Estimate) -> dict[str, Any]:
    by_terms = problem.objective.crossed
    return {"n_agq": fit.n_agq, "moved": fit.moved, "loglik_error": fit.loglik_error, "second_order": by_terms}


def _residual_table(problem: Problem, fit: Estimate) -> pd.DataFrame | None:
    """Parameters of a residual structure, or of predictors with latent means, with their errors."""
    if not fit.reported:
        return None
    error = np.sqrt(np.maximum(np.diag(fit.reported_vcov), 0.0))
    columns = {"estimate": list(fit.reported.values()), "se": error}
    table = pd.DataFrame(columns, index=list(fit.reported), dtype=float)
    return table.assign(scale=list(problem.objective.report(fit.point.theta).scales))


def _undetermined(names: Sequence[tuple[str, str, str | None]], values: Array, unit: float) -> Array:
    """Components without a standard error: zero variances and covariances with them."""
    zero = {(g, a) for (g, a, b), v in zip(names, values, strict=False) if b is None and v <= 1e-9 * unit}
    return np.array([(g, a) in zero or (g, b) in zero for g, a, b in names], dtype=bool)


def _start_notes(fit: Estimate) -> list[str]:
    if fit.clipped:
        return [CLIPPED]
    if not fit.gained > 0:
        return []
    return [
        f"The likelihood has several maxima: the best of {fit.n_starts} climbs is reported, whose log-likelihood is "
        f"{fit.gained:.4g} higher than where the usual start led."
    ]


def _notes_on_dropped(terms: Sequence[str], blueprint: Blueprint) -> list[str]:
    """Name the coefficients that take a dropped column's part."""
    if blueprint.aliases is None:
        return []
    lost = blueprint.aliases.lost_contrasts(np.eye(len(terms)), blueprint.kept)
    named = [term for term, gone in zip(terms, lost, strict=True) if gone]
    return [f"Coefficients that depend on which column was dropped: {', '.join(named)}."] if named else []


def _fit_notes(problem: Problem, frame: ModelFrame, terms: Sequence[str], blueprint: Blueprint) -> list[str]:
    notes = []
    if problem.dropped:
        notes.append(
            f"Fixed columns dropped because they are linear combinations of the ones before them, to within "
            f"{np.sqrt(COLLINEAR_TOL):.0e} of their standard deviation: {', '.join(problem.dropped)}. What differs by "
            f"less than that can enter as a difference, such as I(x2 - x1)."
        )
        notes += _notes_on_dropped(terms, blueprint)
    if problem.reml and any(frame.weighted):
        notes.append(
            "REML treats weights as numbers of groups (N - p rows are left), so that, unlike under ML, their overall "
            "scale matters; with weights that sum to the population the correction vanishes."
        )
    if frame.hierarchy.single_child:
        notes.append(
            f"Every unit of {', '.join(frame.hierarchy.single_child)} has a single unit below it: the variances of the "
            f"two levels cannot be told apart, only their sum."
        )
    return notes


def fit_frame(
    frame: ModelFrame,
    settings: Settings,
    engine: str,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
    executor: Any = None,
    again: bool = False,
) -> FitResult:
    """Fit every plausible value of a frame and wrap the results; ``again`` as in `Plan`."""
    wanted = settings.vcov in BY_REPLICATES
    scheme = frame.replicates if wanted and frame.replicates and frame.replicates.serves(frame) else None
    if scheme is None and wanted:  # a level or the weights changed since the replicates were made
        settings = replace(settings, vcov="robust", replicates=None)
    how = settings.vcov if scheme is None else "model"
    plan = Plan(engine, settings.method == "reml", settings.n_agq, settings.chunk_size, executor, again)
    estimates, places = fit_outcomes(frame, plan, how, progress)
    if how in KINDS:
        estimates = with_few_clusters(frame, estimates, places, how)
    if scheme is not None:
        single_step = settings.vcov == "replicate-one-step"
        estimates, notes = with_replicates(frame, estimates, places, scheme, single_step=single_step, executor=executor)
        frame = replace(frame, notes=tuple(dict.fromkeys((*frame.notes, *notes))))
    fits: list[FitResult] = []
    shared: dict[int, OfDesign] = {}
    for number, (estimate, (problem, k)) in enumerate(zip(estimates, places, strict=True)):
        part = number if len(frame.designs) > 1 else 0
        if part not in shared:
            shared[part] = of_design(frame, problem, part, settings)
        fits.append(single(frame, problem, k, estimate, settings, part, number, shared[part]))
    return fits[0] if len(fits) == 1 else pool_results(fits)


def refit(fit: FitResult, change: Callable[[ModelFrame], ModelFrame] | None = None, **settings: Any) -> FitResult:
    """Fit again with other settings (``method="ml"``) or on a changed frame.

    Raises
    ------
    OptionError
        If the fit was loaded from a file, which does not keep the data.
    """
    every = live_rows(fit)
    if not every:
        raise OptionError(
            "This needs a new fit, and a loaded fit does not keep the data. The fit came from pmwmix.load. "
            "Call pmwmix.fit again."
        )
    frames = list({id(rows.frame): rows.frame for rows in (one.whole for one in every)}.values())
    new = replace(fit.settings, **settings)
    changed = [frame if change is None else change(frame) for frame in frames]
    again = [fit_frame(frame, new, every[0].engine, again=True) for frame in changed]
    return pooled_frames(again)
