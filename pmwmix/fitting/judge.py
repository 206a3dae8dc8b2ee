"""From the end of a climb to an estimate: what is at the boundary, what is flat, the covariance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.linalg

from pmwmix._types import Array
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.fixedvariances import beside_fixed, with_bend_of_fixed
from pmwmix.fitting.optimise import FAR, Status
from pmwmix.fitting.problem import Problem
from pmwmix.fitting.rawscale import all_parameters, raw_map
from pmwmix.frame.clusters import Clusters
from pmwmix.likelihood.constraint import constraint_of
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.rows import in_blocks
from pmwmix.likelihood.standardise import SeveralTransform
from pmwmix.variance import ALWAYS_CUT, VARIANCES, VarianceInput, inverse_along
from pmwmix.variance.multiway import checked

SINGULAR_TOL = 1e-5  # of a standardised standard deviation, relative to sigma
FLAT_CURVATURE = 1e-7  # curvature of the profiled likelihood below this share of the largest counts as none
DEGENERATE = 1e-12  # of a model-based variance: a robust one below it is nothing but rounding
EXTREME = 10.0  # standard deviation of random effects of standardised columns: logits of 1 in 20,000
SEPARATED = 20.0  # standard error of a standardised coefficient that no data with both outcomes everywhere gives


def loglik_of(problem: Problem, k: int, point: Any) -> float:
    """(Restricted) pseudo-log-likelihood on the scale of the outcome."""
    if not problem.objective.closed_form:
        return float(problem.top_scale * -point.value + problem.top_scale * problem.constants[k])
    transform = problem.transforms[k]
    value = -point.value - problem.n_total * np.log(transform.y_scale)
    if isinstance(transform, SeveralTransform):
        value -= problem.blocks.n_total * np.log(transform.ratios).mean()
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


def held_directions(problem: Problem, theta: Array, boundary: Array) -> Array:
    """Orthonormal directions in which theta may not move: boundaries, and what a structured covariance forbids.

    Shape (n, m), n the length of theta and, behind it, of the parameters of a residual structure, which are free.
    """
    t, layout = len(boundary), problem.layout
    own = constraint_of(layout).held(theta) if layout.structures else np.eye(t)[:, boundary | problem.held]
    return np.vstack([own, np.zeros((problem.objective.n_rho, own.shape[1]))])


def bend(problem: Problem, point: Any) -> Array:
    """Give what the curvature of structured covariances adds to a Hessian, as `held_directions` (n, n); mostly zero."""
    p, t, n_rho = problem.structure.p, problem.layout.n_theta, problem.objective.n_rho
    out = np.zeros((t + n_rho, t + n_rho))
    if problem.layout.structures:
        gradient = point.gradient[:t] if problem.objective.closed_form else point.gradient[p : p + t]
        out[:t, :t] = constraint_of(problem.layout).bend(point.psi[p : p + t], gradient)
    return out


def information_of(problem: Problem, point: Any, k: int = 0) -> Array:
    """Information of all parameters (P, P), along the surface on which structured covariances hold theta."""
    A, p = np.array(problem.objective.information(point, k)), problem.structure.p
    curved = bend(problem, point)
    n = len(curved)
    A[p : p + n, p : p + n] += curved
    return with_bend_of_fixed(problem, point, A)


def flat_directions(problem: Problem, point: Any, held: Array) -> Array:
    """Orthonormal directions (n_theta, m) in which the profiled likelihood does not curve: not identified.

    Of an integrated likelihood those of single parameters, marked as soon as a direction touches them. ``held`` are
    `held_directions`.
    """
    curved = bend(problem, point)
    if problem.objective.closed_form:
        return directions_without_curvature(point.hessian + curved, held)
    p, t, H = problem.structure.p, len(held), point.hessian
    others = np.ones(len(H), dtype=bool)
    others[p : p + t] = False
    A = H[p : p + t, p : p + t]
    if others.any():
        cross = H[p : p + t][:, others]
        A = A - cross @ np.linalg.lstsq(H[np.ix_(others, others)], cross.T, rcond=None)[0]
    flat = directions_without_curvature(A + curved, held)
    return flat if problem.layout.structures else np.eye(t)[:, touched(flat)]


def touched(directions: Array) -> Array:
    """Mark the parameters (n_theta,) that a direction (n_theta, m) takes part of."""
    return np.abs(directions).max(axis=1, initial=0.0) > 0.01


def directions_without_curvature(hessian: Array, held: Array) -> Array:
    """Find them, given the Hessian of the profiled likelihood (n_theta, n_theta), among those that are not held."""
    free = _complement(held)
    if not free.shape[1]:
        return free
    values, vectors = np.linalg.eigh(free.T @ hessian @ free)
    return free @ vectors[:, values < FLAT_CURVATURE * max(float(values.max()), 1e-300)]


def _complement(fixed: Array) -> Array:
    """Orthonormal basis (t, r) of what is orthogonal to some directions (t, m)."""
    if np.isin(fixed, (0.0, 1.0)).all():
        return np.eye(len(fixed))[:, ~fixed.any(axis=1)]
    return scipy.linalg.null_space(fixed.T)


def moving_basis(p: int, held: Array, flat: Array, n_phi: int = 1) -> Array:
    """Orthonormal basis (P, r) of the directions that are neither held nor flat, each (n_theta, m)."""
    return scipy.linalg.block_diag(np.eye(p), _complement(np.hstack([held, flat])), np.eye(n_phi))


def basis_of(problem: Problem, point: Any, boundary: Array) -> Array:
    """Directions (P, r) in which the parameters of a point may move."""
    p = problem.structure.p
    held = held_directions(problem, point.psi[p : p + len(boundary)], boundary)
    basis = moving_basis(p, held, flat_directions(problem, point, held), len(point.psi) - p - len(held))
    return beside_fixed(problem, point, basis)


def variance_input(
    problem: Problem, point: Any, basis: Array, k: int, clusters: Clusters | None, vcov: str = "robust"
) -> VarianceInput:
    """Gather what a variance method may use, on the standardised scale and at the actual scale of the weights.

    ``p``, before which the information falls into two blocks by some methods, is that of the coefficients; outside
    closed forms only methods in `ALWAYS_CUT` make that cut.
    """
    scale, size = problem.top_scale, len(point.psi)
    by_row = vcov == "multiway"
    find = problem.objective.row_scores if by_row else problem.objective.scores
    scores = scale * find(point, k) if vcov != "model" else None
    n_top = 1 if scores is None else len(scores)
    cut = problem.objective.closed_form and problem.objective.of_block
    p = problem.structure.p if cut or vcov in ALWAYS_CUT else size
    information = scale * information_of(problem, point, k)
    if clusters is None:
        return VarianceInput(information, scores, p, basis, np.arange(n_top), np.zeros(n_top, dtype=np.int64))
    design = (clusters.psu, clusters.stratum, clusters.fraction, clusters.lonely, clusters.ways)
    return VarianceInput(information, scores, p, basis, *design)


def judge(problem: Problem, k: int, optimum: Any, vcov: str, clusters: Clusters | None) -> Estimate:
    """Turn the end of a climb into an estimate on the raw scale."""
    objective, p, point = problem.objective, problem.structure.p, optimum.point
    theta = point.psi[p : p + problem.layout.n_theta]
    at_boundary = boundary_parameters(problem.layout, theta) & ~problem.held
    flat = flat_directions(problem, point, held_directions(problem, theta, at_boundary))
    basis = basis_of(problem, point, at_boundary)
    singular, converged, status = bool(at_boundary.any()), optimum.converged, optimum.status
    given = variance_input(problem, point, basis, k, clusters, vcov)
    V, clipped = checked(given) if vcov == "multiway" else (VARIANCES[vcov](given), False)
    model = V if vcov == "model" else VARIANCES["model"](variance_input(problem, point, basis, k, None, "model"))
    map_ = raw_map(problem, k, point.psi)
    if failed := _failure(problem, point, basis, map_.shape):
        status, converged = failed, False
    elif converged:
        extreme = Status.EXTREME if _nearly_separated(problem, theta) else None
        status = extreme or (Status.FLAT if flat.shape[1] else Status.SINGULAR if singular else Status.CONVERGED)
    values, J = _parameters(problem, k, point, map_, basis)
    return Estimate(
        terms=map_.terms,
        beta=map_.coef,
        eta_beta=map_.eta_beta,
        Psi=tuple(map_.Psi),
        sigma=map_.sigma,
        theta=map_.theta,
        phi=map_.phi,
        reported=map_.reported,
        latent=float(values[len(map_.coef) + problem.layout.n_theta]),
        loglik=loglik_of(problem, k, point),
        joint=_without_unknown(problem, _without_degenerate(J @ V @ J.T, J, problem.top_scale * model), vcov),
        boundary=at_boundary,
        flat=touched(flat)[: len(at_boundary)],
        status=status,
        converged=converged,
        singular=singular,
        n_steps=optimum.n_steps,
        point=point.light(),
        transform=problem.transforms[k],
        n_agq=objective.n_agq,
        clipped=clipped,
        **_of_groups(problem, point, k, map_),
    )


def _of_groups(problem: Problem, point: Any, k: int, map_: Any) -> dict[str, Any]:
    """Give modes, where they do not wait until they are asked, and what the random effects' distribution has."""
    closed, classes = problem.objective.closed_form, problem.objective.classes(point, k)
    modes = None if closed else modes_of(problem, point, k)
    return {"modes": modes, "shape": map_.shape, "n_of_shape": map_.n_of_shape, "classes": classes}


def _without_unknown(problem: Problem, joint: Array, vcov: str) -> Array:
    """Mark the (co)variances of components as missing where rows of pairs are clustered by several factors."""
    if problem.objective.composite and vcov == "multiway":
        joint[problem.structure.p :, :] = joint[:, problem.structure.p :] = np.nan
    return joint


def _parameters(problem: Problem, k: int, point: Any, map_: Any, basis: Array) -> tuple[Array, Array]:
    """Give `all_parameters`; of variances held at values the derivatives along what is free, which are zero."""
    values, J = all_parameters(problem, k, point.psi, map_)
    return values, J if problem.fixed is None else J @ basis @ np.linalg.pinv(basis)


def _without_degenerate(joint: Array, J: Array, V: Array) -> Array:
    """Mark (co)variances of coefficients between whose clusters there is no spread at all as missing.

    ``V`` is the model-based covariance on the standardised scale, top-level weights relative to their mean. A sandwich
    is zero where every cluster has a coefficient of its own: an artefact, not precision.
    """
    sure = np.einsum("ij,jk,ik->i", J, V, J)
    none = np.diag(joint) < DEGENERATE * sure
    out = joint.copy()
    out[none, :] = out[:, none] = np.nan
    return out


def _separated(problem: Problem, point: Any, basis: Array) -> bool:
    """Whether a coefficient runs off to infinity: huge, and known with no precision at all.

    Other links than to probabilities and logarithms have a linear predictor in units of the outcome, large or not.
    """
    p = problem.structure.p
    if not p or problem.objective.closed_form or not problem.link.can_separate:
        return False
    V = inverse_along(point.hessian, basis)
    size, error = np.abs(point.theta[:p]), np.sqrt(np.maximum(np.diag(V)[:p], 0.0))
    if not np.isfinite(error).all():
        return True
    objective: Any = problem.objective
    S, most = np.zeros((p, p)), np.zeros(p)
    for _, X in in_blocks(objective.rows.X):
        S, most = S + X @ X.T, np.maximum(most, np.abs(X).max(axis=1))
    alike = np.sqrt(np.maximum(np.diag(np.linalg.pinv(S / len(objective.rows.w), hermitian=True)), 1.0))
    reach = most * size  # what the coefficient adds to the linear predictor at most
    # predictors much alike have large coefficients and errors as well, and that is no separation
    return bool(((size / alike > FAR) | ((error / alike > SEPARATED) & (reach > 1.0))).any())


def is_sound(problem: Problem, shapes: Sequence[Array]) -> bool:
    """Whether the distribution of the random effects, whose parameters of every level these are, is not at its edge."""
    return all(problem.structure.effects.is_sound(shape) for shape in shapes)


def _failure(problem: Problem, point: Any, basis: Array, shapes: Sequence[Array]) -> Status | None:
    """Say why the end of a climb is no estimate, whatever the optimiser thinks of it."""
    if _separated(problem, point, basis):
        return Status.SEPARATED
    if not is_sound(problem, shapes):
        return Status.MASSES if problem.structure.effects.is_discrete else Status.HEAVY
    return Status.CROSSED if _crossed(problem, point) else None


def _crossed(problem: Problem, point: Any) -> bool:
    """Whether thresholds that have linear predictors are out of order in some row."""
    if problem.has_intercept or not problem.structure.further:
        return False
    objective: Any = problem.objective
    edges = [0, *(first for _, first in problem.structure.further), problem.structure.p]
    X, phi = np.array(objective.rows.X), point.psi[len(point.psi) - problem.structure.n_phi :]
    etas = [point.psi[a:b] @ X[a:b] for a, b in pairwise(edges)]
    return bool(problem.family.crossed(etas, phi).any())


def _nearly_separated(problem: Problem, theta: Array) -> bool:
    """Whether random effects are so large that outcomes of a group are all alike but for accidents."""
    if problem.objective.closed_form or not problem.link.can_separate:
        return False
    return any(bool((np.linalg.norm(Lambda, axis=1) > EXTREME).any()) for Lambda in problem.layout.unpack(theta))


def modes_of(problem: Problem, point: Any, k: int) -> list[tuple[Array, Array]]:
    """Conditional modes b (G_l, q_l) on the raw scale, and their standard errors, per level bottom-up."""
    transform, out = problem.transforms[k], []
    for (b, V), A in zip(problem.objective.modes(point, k), transform.A_z, strict=True):
        variance = transform.y_scale**2 * np.einsum("ia,gab,ib->gi", A, V, A)
        out.append((transform.y_scale * b @ A.T, np.sqrt(np.maximum(variance, 0.0))))
    return out
