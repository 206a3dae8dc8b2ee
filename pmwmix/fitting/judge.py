"""From the end of a climb to an estimate: what is at the boundary, what is flat, the covariance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.linalg

from pmwmix._types import Array
from pmwmix.fitting.estimate import GeneralEstimate
from pmwmix.fitting.optimise import FAR, Status
from pmwmix.fitting.problem import GeneralProblem, Problem
from pmwmix.fitting.rawscale import all_parameters, raw_map
from pmwmix.frame.clusters import Clusters
from pmwmix.likelihood.contract import IntegratedPoint, Point
from pmwmix.likelihood.crossed.general import CrossedObjective
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.modes import conditional_covariances
from pmwmix.likelihood.standardise import Transform
from pmwmix.links import ProbabilityLink
from pmwmix.variance import VARIANCES, VarianceInput, inverse_along

SINGULAR_TOL = 1e-5  # of a standardised standard deviation, relative to sigma
FLAT_CURVATURE = 1e-7  # curvature of the profiled likelihood below this share of the largest counts as none
SEPARATED = 20.0  # standard error of a standardised coefficient that no data with both outcomes everywhere gives


def light_point(point: Point) -> Point:
    """Forget the raw outputs of the graph, which are as long as there are units."""
    return replace(point, raw={})


def linear_loglik(problem: Problem, point: Point, transform: Transform) -> float:
    """Log-likelihood on the scale of the outcome."""
    n = problem.objective.n_free
    value = -point.value - n * np.log(transform.y_scale)
    if problem.reml:
        value += np.linalg.slogdet(transform.A_x)[1]
    return float(problem.top_scale * value)


def boundary_parameters(layout: ThetaLayout, theta: Array) -> Array:
    """Mark the parameters of zero columns of Λ: a variance of zero, or a correlation of one."""
    out = np.zeros(layout.n_theta, dtype=bool)
    for Lambda, entries in zip(layout.unpack(theta), layout.entries, strict=True):
        zero = np.diag(Lambda) <= SINGULAR_TOL
        for _, j, k in entries:
            out[k] = zero[j]
    return out


def flat_directions(point: Any, boundary: Array) -> Array:
    """Orthonormal directions (n_theta, m) in which the profiled likelihood does not curve: not identified."""
    return directions_without_curvature(point.hessian, boundary)


def directions_without_curvature(hessian: Array, boundary: Array) -> Array:
    """Do the same, given the Hessian of the profiled likelihood (n_theta, n_theta)."""
    free = np.flatnonzero(~boundary)
    out = np.zeros((len(boundary), 0))
    if not len(free):
        return out
    values, vectors = np.linalg.eigh(hessian[np.ix_(free, free)])
    flat = values < FLAT_CURVATURE * max(float(values.max()), 1e-300)
    out = np.zeros((len(boundary), int(flat.sum())))
    out[free] = vectors[:, flat]
    return out


def moving_basis(p: int, boundary: Array, flat: Array) -> Array:
    """Orthonormal basis (P, r) of the directions that are neither on the boundary nor flat."""
    t = len(boundary)
    fixed = np.hstack([np.eye(t)[:, boundary], flat])
    inside = scipy.linalg.null_space(fixed.T) if fixed.shape[1] else np.eye(t)
    return scipy.linalg.block_diag(np.eye(p), inside, np.eye(1))


def variance_input(
    problem: Problem, point: Point, basis: Array, k: int, clusters: Clusters | None, scored: bool = True
) -> VarianceInput:
    """Gather what a variance method may use, on the standardised scale and at the actual scale of the weights."""
    p, scale = len(point.beta), problem.top_scale
    scores = scale * problem.objective.scores(point, k) if scored else None
    n_top = 1 if scores is None else len(scores)
    information = scale * point.information
    if clusters is None:
        return VarianceInput(information, scores, p, basis, np.arange(n_top), np.zeros(n_top, dtype=np.int64))
    return VarianceInput(
        information, scores, p, basis, clusters.psu, clusters.stratum, clusters.fraction, clusters.lonely
    )


def linear_covariance(
    problem: Problem, point: Point, basis: Array, k: int, vcov: str, clusters: Clusters | None
) -> Array:
    """Covariance of (beta, theta, log sigma) of the standardised data by a method."""
    method: Callable[[VarianceInput], Array] = VARIANCES[vcov]
    return method(variance_input(problem, point, basis, k, clusters, scored=vcov != "model"))


def judge(problem: GeneralProblem, k: int, optimum: Any, vcov: str, clusters: Clusters | None) -> GeneralEstimate:
    """Turn the end of a climb into an estimate on the raw scale."""
    objective, layout, p = problem.objective, problem.layout, problem.structure.p
    t, point = layout.n_theta, optimum.point
    theta = point.theta[p : p + t]
    at_boundary = boundary_parameters(layout, theta)
    flat = _flat(point, at_boundary, p, t)
    basis = general_basis(p, at_boundary, flat, problem.structure.n_phi)
    singular, converged, status = bool(at_boundary.any()), optimum.converged, optimum.status
    V = general_covariance(problem, point, basis, vcov, clusters)
    if _separated(problem, point, basis):
        status, converged = Status.SEPARATED, False
    elif converged:
        status = Status.FLAT if flat.any() else Status.SINGULAR if singular else Status.CONVERGED
    map_ = raw_map(problem, k, point.theta)
    values, J = all_parameters(problem, k, point.theta, map_)
    joint, n = J @ V @ J.T, len(map_.coef) + t
    light = replace_point(point)
    return GeneralEstimate(
        beta=map_.coef,
        Psi=tuple(map_.Psi),
        sigma=map_.sigma,
        theta=map_.theta,
        loglik=float(problem.top_scale * -point.value + problem.top_scale * problem.constants[k]),
        vcov=joint[:n, :n],
        boundary=at_boundary,
        flat=flat,
        status=status,
        converged=converged,
        singular=singular,
        n_steps=optimum.n_steps,
        point=light,
        transform=problem.transform,
        terms=map_.terms,
        eta_beta=map_.eta_beta,
        phi=map_.phi,
        reported=map_.reported,
        latent=float(values[n]),
        joint=joint,
        n_agq=objective.n_agq,
        modes=modes_of(problem, point, k),
    )


def replace_point(point: IntegratedPoint) -> IntegratedPoint:
    """Keep the point with its Hessian, without what is as long as there are units."""
    kept = replace(point, modes=[], scores=np.zeros((0, len(point.theta))))
    kept._hessian.append(point.hessian)
    return kept


def _flat(point: Any, at_boundary: Array, p: int, t: int) -> Array:
    """Mark covariance parameters that the data do not identify."""
    H = point.hessian
    others = np.ones(len(H), dtype=bool)
    others[p : p + t] = False
    A = H[p : p + t, p : p + t]
    if others.any():
        cross = H[p : p + t][:, others]
        A = A - cross @ np.linalg.lstsq(H[np.ix_(others, others)], cross.T, rcond=None)[0]
    directions = directions_without_curvature(A, at_boundary)
    return np.abs(directions).max(axis=1, initial=0.0) > 0.01


def general_basis(p: int, at_boundary: Array, flat: Array, n_phi: int) -> Array:
    """Directions in which the parameters may move (P, m): not across a boundary, not where the likelihood is flat."""
    inside = np.eye(len(at_boundary))[:, ~(at_boundary | flat)]
    return scipy.linalg.block_diag(np.eye(p), inside, np.eye(n_phi))


def general_variance_input(
    problem: GeneralProblem, point: Any, basis: Array, vcov: str, clusters: Clusters | None
) -> VarianceInput:
    """Gather what a variance method may use, at the actual scale of the weights."""
    scale, size = problem.top_scale, len(point.theta)
    scores = scale * point.scores
    p = problem.structure.p if vcov == "robust-block" else size
    information, n_top = scale * point.hessian, len(scores)
    if clusters is None:
        return VarianceInput(information, scores, p, basis, np.arange(n_top), np.zeros(n_top, dtype=np.int64))
    return VarianceInput(
        information, scores, p, basis, clusters.psu, clusters.stratum, clusters.fraction, clusters.lonely
    )


def general_covariance(
    problem: GeneralProblem, point: Any, basis: Array, vcov: str, clusters: Clusters | None
) -> Array:
    """Covariance of (beta, theta, phi) of the standardised data by a method."""
    method: Callable[[VarianceInput], Array] = VARIANCES[vcov]
    return method(general_variance_input(problem, point, basis, vcov, clusters))


def _separated(problem: GeneralProblem, point: Any, basis: Array) -> bool:
    """Whether a coefficient runs off to infinity: huge, and known with no precision at all.

    Other links than to probabilities and logarithms have a linear predictor in units of the outcome, large or not.
    """
    p = problem.structure.p
    if not p or not (isinstance(problem.link, ProbabilityLink) or problem.link.name == "log"):
        return False
    V = inverse_along(point.hessian, basis)
    size, error = np.abs(point.theta[:p]), np.sqrt(np.maximum(np.diag(V)[:p], 0.0))
    if not np.isfinite(error).all():
        return True
    X = np.array(problem.objective.rows.X)
    alike = np.sqrt(np.maximum(np.diag(np.linalg.pinv(X @ X.T / X.shape[1], hermitian=True)), 1.0))
    reach = np.abs(X).max(axis=1) * size  # what the coefficient adds to the linear predictor at most
    # predictors much alike have large coefficients and errors as well, and that is no separation
    return bool(((size / alike > FAR) | ((error / alike > SEPARATED) & (reach > 1.0))).any())


def modes_of(problem: GeneralProblem, point: IntegratedPoint, k: int) -> list[tuple[Array, Array]]:
    """Conditional modes b (G_l, q_l) on the raw scale, and their standard errors, per level bottom-up."""
    objective, layout, transform = problem.objective, problem.layout, problem.transform
    p, t = problem.structure.p, layout.n_theta
    theta = point.theta[p : p + t]
    u = objective.modes(point)
    Lambdas = layout.unpack(theta)
    if isinstance(objective, CrossedObjective):
        V = objective.covariances(point)
    else:
        none = np.zeros((0, 0, 0))
        blocks = Blocks(objective.curvature(point), none, none, none, none, none, np.zeros(0), *problem.tree)
        V = conditional_covariances(blocks, layout, theta)
    out = []
    for values, L, A, cov in zip(u, Lambdas, transform.A_z, V, strict=True):
        b = (L @ values).T @ A.T
        variance = np.einsum("ia,gab,ib->gi", A, cov, A)
        out.append((b, np.sqrt(np.maximum(variance, 0.0))))
    return out
