"""Parameters and their Jacobian on the raw scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.problem import Problem
from pmwmix.likelihood.standardise import SeveralTransform, Transform


@dataclass(frozen=True)
class RawMap:
    """Parameters on the raw scale, and the Jacobian of (coef, variance components, reported) in (beta, theta, phi).

    ``phi`` belongs to the raw predictors: thresholds are those of ``coef``. ``level_one`` (1, P) is the derivative of
    the level-1 variance where that is a parameter, sigma². ``shape`` are the parameters of the random effects'
    distribution on their working scale, level after level, ``n_of_shape`` how many of the last ``reported`` are theirs.
    """

    terms: tuple[str, ...]
    coef: Array
    eta_beta: Array
    Psi: list[Array]
    theta: Array
    reported: dict[str, float]
    sigma: float
    jacobian: Array
    phi: Array
    level_one: Array | None = None
    shape: tuple[Array, ...] = ()
    n_of_shape: int = 0


def raw_map(problem: Problem, k: int, psi: Array) -> RawMap:
    """Undo the standardisation (theory, eq. 39, with the Jacobian of eq. 15)."""
    return _closed_map(problem, k, psi) if problem.objective.closed_form else _integrated_map(problem, k, psi)


def _closed_map(problem: Problem, k: int, psi: Array) -> RawMap:
    """Undo that of a Gaussian model, whose outcome is standardised too; phi is log sigma.

    The parameters of a residual structure stand between theta and log sigma in psi.
    """
    layout, transform, p, t = problem.layout, problem.transforms[k], problem.structure.p, problem.layout.n_theta
    if isinstance(transform, SeveralTransform):
        return _several_map(problem, transform, psi)
    beta, theta, sigma = psi[:p], psi[p : p + t], float(np.exp(psi[-1]))
    coef, y_sigma, theta_raw = transform.beta(beta), transform.y_scale * sigma, transform.theta(layout, theta)
    J, Psi = transform.jacobian(layout, theta, sigma), transform.Psi(layout, theta, sigma)
    reported: dict[str, float] = {}
    if problem.objective.n_rho:
        found = problem.objective.report(psi[p:-1])
        relative = float(np.exp(found.log_sigma))
        y_sigma, theta_raw = y_sigma * relative, theta_raw / relative
        J = np.insert(J, [p + t] * problem.objective.n_rho, 0.0, axis=1)
        J[-1] *= relative**2
        J[-1, p + t : -1] = 2.0 * y_sigma**2 * found.slope
        reported = dict(zip(found.names, found.values, strict=True))
        own = np.pad(found.jacobian, [(0, 0), (p + t, 1)])
        J = np.vstack([J[:-1], own, J[-1:]])
    raw_phi = np.array([np.log(y_sigma)])
    return RawMap(problem.names, coef, coef, Psi, theta_raw, reported, y_sigma, J[:-1], raw_phi, J[-1:])


def _several_map(problem: Problem, transform: SeveralTransform, psi: Array) -> RawMap:
    """Undo that of several outcomes, whose residual (co)variances but the first are reported, columns first."""
    layout, p, t = problem.layout, problem.structure.p, problem.layout.n_theta
    theta, sigma, n_rho = psi[p : p + t], float(np.exp(psi[-1])), problem.objective.n_rho
    R, scale, ratios = problem.objective.residual(psi[p:-1]).R, (transform.y_scale * sigma) ** 2, transform.ratios
    places = problem.objective.products.places
    sizes = scale * np.array([ratios[i] * ratios[j] for i, j in places])
    values = sizes * np.array([R.value[i, j] for i, j in places])
    own = np.zeros((n_rho, len(psi)))
    own[:, p + t : -1] = sizes[:, None] * np.array([R.first[:, i, j] for i, j in places])
    own[:, -1] = 2.0 * values
    J = np.insert(transform.jacobian(layout, theta, sigma), [p + t] * n_rho, 0.0, axis=1)
    coef, reported = transform.beta(psi[:p]), {f"{i}.{j}": float(v) for (i, j), v in zip(places, values, strict=True)}
    raw_theta, y_sigma = transform.theta(layout, theta), float(np.sqrt(scale))
    J = np.vstack([J[:-1], own, J[-1:]])
    Psi = transform.Psi(layout, theta, sigma)
    return RawMap(
        problem.names, coef, coef, Psi, raw_theta, reported, y_sigma, J[:-1], np.array([np.log(y_sigma)]), J[-1:]
    )


def _integrated_map(problem: Problem, k: int, psi: Array) -> RawMap:
    layout, transform, family = problem.layout, problem.transform, problem.family
    p, t = problem.structure.p, layout.n_theta
    n_shape = problem.structure.n_shape
    beta, theta, phi = psi[:p], psi[p : p + t], psi[p + t : len(psi) - n_shape]
    reported, J_phi = family.parameters(phi)
    A_x, shift = (
        (transform.A_x, np.zeros((0, p))) if family.has_intercept else _beside_thresholds(transform, len(reported))
    )
    raw, raw_phi = A_x @ beta, np.array(phi)
    base = replace(transform, A_x=np.zeros((0, 0)), intercept=None, cuts=())
    J_theta = base.jacobian(layout, theta, 1.0)[:-1, :-1]
    if family.has_intercept:
        terms, coef = problem.names, raw
        J_coef = np.hstack([A_x, np.zeros((p, t + len(phi)))])
    else:
        labels = problem.responses[k].categories
        cuts = np.array(list(reported.values())) + shift @ beta
        terms = (*(f"{a}|{b}" for a, b in pairwise(labels)), *problem.names)
        coef = np.concatenate([cuts, raw])
        raw_phi = family.with_thresholds(raw_phi, cuts)
        top = np.hstack([shift, np.zeros((len(cuts), t)), J_phi])
        J_coef = np.vstack([top, np.hstack([A_x, np.zeros((p, t + len(phi)))])])
        reported, J_phi = {}, np.zeros((0, len(phi)))
    J = np.vstack(
        [
            J_coef,
            np.hstack([np.zeros((t, p)), J_theta, np.zeros((t, len(phi)))]),
            np.hstack([np.zeros((len(reported), p + t)), J_phi]),
        ]
    )
    Psi = transform.Psi(layout, theta, 1.0)
    map_ = RawMap(terms, coef, raw, Psi, transform.theta(layout, theta), reported, family.scale(phi), J, raw_phi)
    return _with_shape(problem, map_, psi) if n_shape else map_


def _with_shape(problem: Problem, map_: RawMap, psi: Array) -> RawMap:
    """Add what the distribution of the random effects reports, level by level: ``school.df``."""
    structure, n = problem.structure, problem.structure.n_shape
    J, reported, shapes = np.hstack([map_.jacobian, np.zeros((len(map_.jacobian), n))]), {**map_.reported}, []
    start, each = len(psi) - n, structure.effects.n_shape
    for level, (name, entries) in enumerate(zip(problem.groups, problem.layout.entries, strict=True)):
        mine = slice(start + level * each, start + (level + 1) * each)
        first = len(map_.coef) + entries[0][2]  # the first variance of the level
        deviation = float(np.sqrt(max(map_.Psi[level][0, 0], 0.0)))
        values, by_shape, by_deviation = structure.effects.reported(psi[mine], deviation)
        rows = by_deviation[:, None] * (J[first] / (2.0 * max(deviation, 1e-300)))[None]
        rows[:, mine] += by_shape
        J = np.vstack([J, rows])
        reported |= {f"{name}.{key}": value for key, value in values.items()}
        shapes.append(psi[mine])
    of_shape = len(reported) - len(map_.reported)
    return replace(map_, jacobian=J, reported=reported, shape=tuple(shapes), n_of_shape=of_shape)


def _beside_thresholds(transform: Transform, n: int) -> tuple[Array, Array]:
    """Map of the coefficients without intercepts (p, p), and what they add to each of ``n`` thresholds (n, p).

    What centring moves out of the mean's columns is taken from all thresholds; what it moves out of the columns of a
    threshold is added to that.
    """
    A, places = transform.A_x, [*([] if transform.intercept is None else [transform.intercept]), *transform.cuts]
    others = np.setdiff1d(np.arange(len(A)), places)
    shift = np.zeros((n, len(others)))
    if transform.intercept is not None:
        shift -= A[transform.intercept, others]
    if transform.cuts:
        shift += A[np.ix_(transform.cuts, others)]
    return A[np.ix_(others, others)], shift


def level_one_variance(problem: Problem, k: int, phi: Array) -> tuple[float, Array]:
    """Variance of level 1 on the scale of the linear predictor (theory, eq. 53), and its derivatives in phi.

    NaN, with derivatives of zero, where the distribution has none.
    """
    family, h = problem.family, 1e-5

    def at(phi: Array) -> float:
        return family.latent_variance(problem.link, problem.means[k], phi)

    value, slope = at(phi), np.zeros(len(phi))
    if family.has_intercept and np.isfinite(value):
        slope = np.array([(at(phi + h * e) - at(phi - h * e)) / (2.0 * h) for e in np.eye(len(phi))])
    return value, slope


def all_parameters(problem: Problem, k: int, psi: Array, map_: RawMap | None = None) -> tuple[Array, Array]:
    """Give coefficients, variance components, level-1 variance and reported parameters (m,), and d / d psi (m, P)."""
    map_ = raw_map(problem, k, psi) if map_ is None else map_
    t = problem.layout.n_theta
    components = [map_.Psi[level][i, j] for level, entries in enumerate(problem.layout.entries) for i, j, _ in entries]
    n = len(map_.coef) + t
    if map_.level_one is not None:
        latent, row = map_.sigma**2, map_.level_one
    else:
        latent, slope = level_one_variance(problem, k, map_.phi)
        after = problem.structure.n_shape
        row = np.concatenate([np.zeros(len(psi) - len(slope) - after), slope, np.zeros(after)])[None]
    values = np.array([*map_.coef, *components, latent, *map_.reported.values()])
    return values, np.vstack([map_.jacobian[:n], row, map_.jacobian[n:]])
