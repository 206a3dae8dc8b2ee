"""Replicate covariance of a fit: the same problem with the weights of every replicate, refitted or stepped once.

The structure (hierarchy, standardisation, compiled function, sizes) stays that of the full sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import batched
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DesignError, OptionError
from pmwmix.fitting.collinear import independent_columns
from pmwmix.fitting.estimate import Estimate, GeneralEstimate
from pmwmix.fitting.judge import flat_directions, moving_basis
from pmwmix.fitting.optimise import decrement, minimise
from pmwmix.fitting.problem import GeneralProblem, Problem
from pmwmix.fitting.reweighted import GeneralSource, Source, general_source, source_of
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.frame.replicates import ReplicateScheme
from pmwmix.likelihood.contract import Point
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.flat import FlatObjective
from pmwmix.likelihood.linear.objective import Objective
from pmwmix.variance import inverse_along

NEAR = 1e-12  # squared distance to the optimum, in standard errors, at which a warm-started refit stops
INSIDE = 0.05  # a diagonal entry of Λ below this is tried at the boundary too
NEWTON_STEPS = 8
CHUNKS = 16  # tasks that an executor gets


@dataclass(frozen=True)
class ReplicateEstimates:
    """Parameters of one outcome in every replicate: coefficients, variance components in theta order, sigma².

    Of a generalised model the level-1 variance comes in its place, then what the family reports.

    Parameters
    ----------
    estimate : ndarray, shape (P,)
        Of the full sample.
    replicates : ndarray, shape (R, P)
    multiplier : ndarray, shape (R,)
    converged : ndarray of bool, shape (R,)
    """

    estimate: Array
    replicates: Array
    multiplier: Array
    converged: Array

    @property
    def covariance(self) -> Array:
        """Covariance (P, P), V = Σ_r c_r (b_r - b)(b_r - b)' (replicates, eq. 1)."""
        return self.covariance_of(lambda values: values)

    def covariance_of(self, function: Callable[[Array], Any]) -> Array:
        """Covariance (m, m) of any function of the parameters, such as an intraclass correlation."""
        centre = np.atleast_1d(function(self.estimate))
        away = np.array([np.atleast_1d(function(values)) for values in self.replicates]) - centre
        return (away * self.multiplier[:, None]).T @ away


def one_step(objective: Objective, k: int, full: Estimate, begin: Array) -> tuple[Array, Array, float] | None:
    """Take one Newton step in the replicate from ``begin``: beta, theta and sigma (replicates, eq. 12).

    None where the replicate does not curve as it should, so that a step leads nowhere.
    """
    point, p = objective.at(begin, k), len(full.point.beta)
    if not np.isfinite(point.value):
        raise FloatingPointError
    basis = moving_basis(p, full.boundary, flat_directions(full.point, full.boundary))
    if np.linalg.eigvalsh(basis.T @ point.information @ basis)[0] <= 0:
        return None
    gradient = np.concatenate([np.zeros(p), -point.gradient, [0.0]])  # beta and sigma are profiled
    step = inverse_along(point.information, basis) @ gradient
    return point.beta + step[:p], point.theta + step[p:-1], point.sigma * float(np.exp(step[-1]))


def refit(objective: Objective, k: int, start: Array, begin: Array) -> tuple[Point, bool]:
    """Climb to the replicate's maximum: plain Newton steps from ``begin``, else the full climb from ``start``.

    Raises
    ------
    FloatingPointError
        If the likelihood is not finite where the climb starts.
    """
    point, layout = objective.at(begin, k), objective.structure.layout
    if not np.isfinite(point.value):
        raise FloatingPointError
    scale = max(objective.n_free, 1.0)
    for _ in range(NEWTON_STEPS):
        if np.linalg.eigvalsh(point.hessian)[0] <= 0:
            break
        if decrement(point) < NEAR:
            if _inside(layout, point.theta):
                return point, True
            break
        trial = objective.at(point.theta - np.linalg.solve(point.hessian, point.gradient), k)
        if not trial.value <= point.value + 1e-11 * max(scale, abs(point.value)):
            break
        point = trial
    found = minimise(lambda theta: objective.at(theta, k), start, scale=scale, boundary=layout.boundary_candidates)
    return found.point, found.converged


def _inside(layout: ThetaLayout, theta: Array) -> bool:
    return float(theta[layout.diagonal].min()) > INSIDE


def _begin(source: Source, objective: Objective, k: int, full: Estimate, ratio: Array | None, single: bool) -> Array:
    """Where the climb begins: the full-sample theta moved by the units' influence (replicates, eq. 11)."""
    theta = full.point.theta
    if k in source.influence and ratio is not None:
        moved = theta + (ratio - 1.0) @ source.influence[k]
    elif single:  # weights below the top changed: the step needs an evaluation
        stepped = one_step(objective, k, full, theta)
        moved = theta if stepped is None else stepped[1]
    else:
        return theta
    return moved if _inside(source.structure.layout, moved) else theta


def _replicate(
    source: Source, fits: Mapping[int, Estimate], w: tuple[Array, ...], single: bool
) -> Iterable[tuple[Array, bool]]:
    """Estimate one replicate of every outcome: parameters (P,) and whether the climb arrived."""
    blocks = source.reweighted(w)
    with np.errstate(divide="ignore", invalid="ignore"):
        if len(independent_columns(blocks)) < source.structure.p:
            raise FloatingPointError
    if not source.structure.layout.q:  # least squares: nothing to climb
        flat = FlatObjective(blocks, source.structure, source.columns, source.kept, w[0])
        points = [(k, flat.at(np.zeros(0), k)) for k in fits]
        yield from ((source.parameters(k, at.beta, at.theta, at.sigma), True) for k, at in points)
        return
    layout, ratio = source.structure.layout, source.top_ratio(w)
    objective = Objective(blocks, source.structure, source.engine)
    for k, full in fits.items():
        begin = _begin(source, objective, k, full, ratio, single)
        stepped = one_step(objective, k, full, begin) if single and _inside(layout, begin) else None
        if stepped is not None and _inside(layout, stepped[1]):
            yield source.parameters(k, *stepped), True
        else:
            point, reached = refit(objective, k, full.point.theta, begin)
            yield source.parameters(k, point.beta, point.theta, point.sigma), reached


def _run(source: Any, fits: Mapping[int, Any], jobs: Iterable[tuple[int, Any]], single: bool) -> list[Any]:
    """Estimate some replicates; for each (values (K, P), converged (K,)) of its K outcomes."""
    out = []
    for number, w in jobs:
        try:
            if isinstance(source, GeneralSource):
                done = list(source.replicate(fits, w, single))
            else:
                done = list(_replicate(source, fits, w, single))
        except FloatingPointError:
            raise DesignError(
                f"A replicate cannot be fitted: without the rows that it leaves out the predictors are collinear. It "
                f"is replicate {number + 1}. Merge categories that live in few PSUs, or use vcov='robust'."
            ) from None
        out.append((np.array([values for values, _ in done]), np.array([reached for _, reached in done])))
    return out


def replicate_estimates(
    frame: ModelFrame,
    problem: Problem | GeneralProblem,
    fits: Mapping[int, Any],
    scheme: ReplicateScheme,
    *,
    design: int = 0,
    single_step: bool = False,
    executor: Any = None,
) -> dict[int, ReplicateEstimates]:
    """Estimate every replicate of the outcomes of one problem, all outcomes of a replicate together.

    Parameters
    ----------
    frame : ModelFrame
    problem : Problem or GeneralProblem
    fits : dict
        Outcome number to its full-sample estimate.
    scheme : ReplicateScheme
    design : int
        Which of ``frame.designs`` the problem is made from.
    single_step : bool
        One Newton step instead of a refit (replicates, eqs. 11-12).
    executor : concurrent.futures.Executor, optional
        Threads or processes; None is one after the other.

    Returns
    -------
    dict
        Outcome number to `ReplicateEstimates`.
    """
    if executor is not None and not hasattr(executor, "submit"):
        raise OptionError(
            f"An executor runs tasks. Got {type(executor).__name__}. Pass one of concurrent.futures, or None."
        )
    source: Any
    if isinstance(problem, GeneralProblem):
        source = general_source(frame, problem, fits)
    else:
        source = source_of(frame, problem, fits, design)
    jobs = ((r, scheme.weights(r)) for r in range(scheme.n_rep))
    if executor is None:
        found = _run(source, fits, jobs, single_step)
    else:
        parts = batched(jobs, -(-scheme.n_rep // CHUNKS))
        tasks = [executor.submit(_run, source, fits, part, single_step) for part in parts]
        found = [one for task in tasks for one in task.result()]
    out = {}
    for place, (k, full) in enumerate(fits.items()):
        centre = source.centre(k, full)
        values = np.array([values[place] for values, _ in found])
        out[k] = ReplicateEstimates(centre, values, scheme.multiplier, np.array([c[place] for _, c in found]))
    return out


def replicate_covariance(
    frame: ModelFrame, problem: Any, k: int, estimate: Any, scheme: ReplicateScheme, **options: Any
) -> Array:
    """Covariance (P, P) of outcome ``k`` in the order of ``Estimate.vcov``; options as in `replicate_estimates`."""
    return replicate_estimates(frame, problem, {k: estimate}, scheme, **options)[k].covariance


def with_replicates(
    frame: ModelFrame,
    estimates: Sequence[Any],
    places: Sequence[tuple[Any, int]],
    scheme: ReplicateScheme,
    *,
    single_step: bool = False,
    executor: Any = None,
) -> tuple[list[Any], list[str]]:
    """Give the estimate of every plausible value its replicate covariance.

    Returns
    -------
    list of Estimate
    list of str
        What a reader should know.
    """
    several = len(frame.designs) > 1
    by_number: dict[int, ReplicateEstimates] = {}
    together: dict[int, list[int]] = {}  # plausible values that share their predictors (and numbers of nodes)
    for number in range(1 if scheme.first_only else len(estimates)):
        together.setdefault(id(places[number][0]), []).append(number)
    for group in together.values():
        problem, fits = places[group[0]][0], {places[number][1]: estimates[number] for number in group}
        design = group[0] if several else 0
        each = replicate_estimates(
            frame, problem, fits, scheme, design=design, single_step=single_step, executor=executor
        )
        by_number |= {number: each[places[number][1]] for number in group}
    found = [by_number[number] for number in sorted(by_number)]
    used = found * (len(estimates) if scheme.first_only else 1)
    notes = ["The sampling variance is that of the first plausible value alone."] if scheme.first_only else []
    if scheme.by_means:
        notes.append("Replicates change the weights of all levels, each unit's by the mean factor of its rows.")
    stopped = sum(int((~one.converged).sum()) for one in found)
    if stopped:
        total = sum(len(one.converged) for one in found)
        notes.append(f"{stopped} of {total} replicate fits did not converge; they are used where they stopped.")
    return [_with_covariance(fit, one) for fit, one in zip(estimates, used, strict=True)], notes


def _with_covariance(fit: Any, found: ReplicateEstimates) -> Any:
    fit, V = replace(fit, replicates=found), found.covariance
    return fit.with_covariance(V) if isinstance(fit, GeneralEstimate) else replace(fit, vcov=V)
