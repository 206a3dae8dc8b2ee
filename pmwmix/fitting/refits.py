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
from pmwmix.errors import DesignError, NotSupportedError, OptionError
from pmwmix.fitting.problem import Problem
from pmwmix.fitting.reweighted import source_of
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.frame.replicates import ReplicateScheme
from pmwmix.running import run_on

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


def _run(source: Any, fits: Mapping[int, Any], jobs: Iterable[tuple[int, Any]], single: bool) -> list[Any]:
    """Estimate some replicates; for each (values (K, P), converged (K,)) of its K outcomes."""
    out = []
    for number, w in jobs:
        try:
            done = list(source.replicate(fits, w, single))
        except FloatingPointError:
            raise DesignError(
                f"A replicate cannot be fitted: without the rows that it leaves out the predictors are collinear. It "
                f"is replicate {number + 1}. Merge categories that live in few PSUs, or use vcov='robust'."
            ) from None
        out.append((np.array([values for values, _ in done]), np.array([reached for _, reached in done])))
    return out


def replicate_estimates(
    frame: ModelFrame,
    problem: Problem,
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
    problem : Problem
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
    if single_step and problem.layout.structures:
        raise NotSupportedError(
            f"One step per replicate is made for unstructured covariances. The formula {frame.formula.text!r} has a "
            f"structured one. Use vcov='replicate', which fits every replicate."
        )
    source = source_of(frame, problem, fits, design)
    jobs = ((r, scheme.weights(r)) for r in range(scheme.n_rep))
    if executor is None:
        found = _run(source, fits, jobs, single_step)
    else:
        parts = batched(jobs, -(-scheme.n_rep // CHUNKS))
        tasks = ((source, fits, part, single_step) for part in parts)
        found = [one for done in run_on(executor, _run, tasks, "parts of the replicates") for one in done]
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
    return replace(fit, replicates=found, joint=found.covariance)
