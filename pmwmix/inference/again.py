"""A finished fit, linear or generalised, judged again: scores, information, covariance by another method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.judge import basis_of, variance_input
from pmwmix.fitting.rawscale import all_parameters
from pmwmix.frame.clusters import Clusters
from pmwmix.variance import VARIANCES, VarianceInput, between_psu, inverse_along


def check_clusters(objective: Any, clusters: Clusters | None) -> None:
    """Refuse what rests on a robust variance where crossed random effects leave no independent clusters.

    Raises
    ------
    NotSupportedError
    """
    if objective.crossed and (clusters is None or clusters.ways):
        raise NotSupportedError(
            "This rests on a robust variance, and that on clusters that share no group with each other. The random "
            "effects are crossed, and all groups hang together. Use model-based standard errors, or a PSU column that "
            "contains whole groups of every factor."
        )


def judged(
    problem: Any, fit: Any, k: int, clusters: Clusters | None, method: str = "robust", relative: bool = False
) -> tuple[VarianceInput, Array]:
    """Gather what a variance method may use for a fit that was made before, without fitting again.

    Parameters
    ----------
    problem : Problem
    fit : Estimate
    k : int
        Outcome.
    clusters : Clusters or None
    method : str
        Name in `VARIANCES`.
    relative : bool
        Count the top-level weights relative to their mean.

    Returns
    -------
    VarianceInput
        On the standardised scale.
    ndarray, shape (m, P)
        Jacobian of (coefficients, variance components, level-1 variance) on the raw scale in those parameters.

    Raises
    ------
    NotSupportedError
        If crossed random effects leave no independent clusters for a robust variance.
    """
    if method not in ("model", "multiway"):
        check_clusters(problem.objective, clusters)
    used = replace(problem, top_scale=1.0) if relative else problem
    point = problem.objective.at(fit.point.theta, k)
    if not problem.objective.closed_form:
        point = point.with_hessian(fit.point.hessian)
    basis = basis_of(problem, point, fit.boundary)
    J = all_parameters(problem, k, point.psi)[1][: len(fit.vcov)]
    return variance_input(used, point, basis, k, clusters, method), J


def covariance(rows: Any, method: str, relative: bool = False) -> Array:
    """Covariance of a finished fit's parameters by another method, without fitting again.

    Parameters
    ----------
    rows : LiveRows
    method : str
        Name in `VARIANCES`.
    relative : bool
        Count the top-level weights relative to their mean. Only the model-based covariance depends on it.

    Returns
    -------
    ndarray, shape (P, P)
        Of (coefficients, variance components, level-1 variance) on the raw scale.
    """
    given, J = judged(rows.problem, rows.fit, rows.k, rows.frame.clusters, method, relative)
    return J @ VARIANCES[method](given) @ J.T


def effective_parameters(rows: Any) -> float:
    """tr(A⁻¹B): the number of parameters as the sandwich counts them (theory, eq. 28).

    Top-level weights count relative to their mean, so that it does not depend on their scale.
    """
    given, _ = judged(rows.problem, rows.fit, rows.k, rows.frame.clusters, relative=True)
    return float(np.trace(inverse_along(given.information, given.basis) @ between_psu(given)))


def influence(problem: Any, fit: Any, k: int, clusters: Clusters | None) -> VarianceInput:
    """Influence (G, m) of every top-level unit on the raw parameters, A⁻¹ s, in the place of the scores."""
    given, J = judged(problem, fit, k, clusters)
    assert given.scores is not None
    return replace(given, scores=given.scores @ inverse_along(given.information, given.basis) @ J.T)
