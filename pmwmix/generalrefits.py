"""Replicates of a generalised model: the same objective with other weights, refitted or stepped once. Numbers only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix.errors import NotSupportedError
from pmwmix.estimate import independent
from pmwmix.generalised import GeneralEstimate, _basis
from pmwmix.generalproblem import GeneralProblem, all_parameters, cross_products
from pmwmix.likelihood.integrated import IntegratedObjective
from pmwmix.optimise import minimise
from pmwmix.variance import inverse_along
from pmwmix.weights import total_weights

Array = np.ndarray
NEAR = 1e-9  # squared distance to the optimum, in standard errors, at which a warm-started refit stops
INSIDE = 0.05  # a diagonal entry of Λ below this is tried at the boundary too
ROUGH = 1e-3  # the same at which the last step of the one-step option is taken: what is left is of second order
STEPS = 12


@dataclass(frozen=True)
class GeneralSource:
    """All that the replicates of one generalised problem share.

    Parameters
    ----------
    problem : GeneralProblem
    w : tuple of ndarray
        Weights of the full sample, rows first.
    row_parents : tuple of ndarray
        As in `Hierarchy`.
    inverse : dict
        Outcome to the inverse information (P, P) of the full sample, top-level weights relative to their mean.
    scores : dict
        Outcome to the scores (G_L, P) of the top-level units at the full-sample estimate.
    """

    problem: GeneralProblem
    w: tuple[Array, ...]
    row_parents: tuple[Array, ...]
    inverse: dict[int, Array]
    scores: dict[int, Array]

    def parameters(self, k: int, psi: Array) -> Array:
        """Raw coefficients, variance components, level-1 variance and reported parameters of the family (m,)."""
        return all_parameters(self.problem, k, psi)[0]

    def centre(self, k: int, full: GeneralEstimate) -> Array:
        """Give the same of the full sample."""
        return self.parameters(k, full.point.theta)

    def gradient(self, k: int, w: tuple[Array, ...]) -> Array | None:
        """Gradient in the replicate at the full-sample estimate, for nothing if only top-level weights change."""
        if all(np.array_equal(new, old) for new, old in zip(w[:-1], self.w[:-1], strict=True)):
            return -(self.scores[k].T @ (w[-1] / self.w[-1]))
        return None

    def inside(self, psi: Array) -> bool:
        """Whether no variance is near zero."""
        p, layout = self.problem.structure.p, self.problem.layout
        return float(psi[p : p + layout.n_theta][layout.diagonal].min()) > INSIDE

    def replicate(
        self, fits: Mapping[int, GeneralEstimate], w: tuple[Array, ...], single: bool
    ) -> Iterator[tuple[Array, bool]]:
        """Estimate one replicate of every outcome: parameters (m,) and whether the climb arrived.

        Raises
        ------
        FloatingPointError
            If the predictors are collinear in the rows that are left.
        """
        problem = self.problem
        units = (*w[1:-1], w[-1] / problem.top_scale)
        if any((part == 0.0).any() for part in w):
            self._check_columns(w)
        assert isinstance(problem.objective, IntegratedObjective)
        objective = problem.objective.with_weights(w[0], units)
        for k, full in fits.items():
            climb = _Climb(objective, k, full.point.theta, self.inverse[k], self.gradient(k, w))
            if not full.singular and climb.step(self.inside) and single:
                for _ in range(STEPS):  # few large units: one step is not enough
                    if climb.decrement <= ROUGH or not climb.step(self.inside):
                        break
                psi = climb.next()
                if self.inside(psi):
                    yield self.parameters(k, psi), True
                    continue
            psi, reached = self._refit(objective, k, full, climb)
            yield self.parameters(k, psi), reached

    def _check_columns(self, w: tuple[Array, ...]) -> None:
        total = total_weights(w, self.row_parents)[0]
        X = self.problem.objective.rows.X
        if not self.problem.family.has_intercept:  # thresholds stand in for it
            X = [np.ones_like(total), *X]
        with np.errstate(divide="ignore", invalid="ignore"):
            if len(independent(cross_products(X, total))) < len(X):
                raise FloatingPointError

    def _refit(
        self, objective: IntegratedObjective, k: int, full: GeneralEstimate, climb: _Climb
    ) -> tuple[Array, bool]:
        """Climb to the replicate's maximum: on with quasi-Newton steps, else the full climb."""
        for _ in range(STEPS if climb.moved else 0):
            psi = climb.next()
            if climb.decrement < NEAR:
                if self.inside(psi):
                    return psi, True
                break
            if not climb.step(self.inside):
                break
        p, layout = self.problem.structure.p, self.problem.layout
        t = layout.n_theta

        def boundary(psi: Array) -> list[Array]:
            return [np.concatenate([psi[:p], c, psi[p + t :]]) for c in layout.boundary_candidates(psi[p : p + t])]

        scale = max(self.problem.n_total, 1.0)
        found = minimise(lambda psi: objective.at(psi, k), full.point.theta, scale=scale, boundary=boundary)
        return found.point.theta, found.converged


class _Climb:
    """Quasi-Newton steps in a replicate from the full-sample estimate (replicates, eqs. 11 and 13).

    The inverse Hessian is that of the full sample, corrected by what each step shows of the replicate's own.
    """

    def __init__(self, objective: IntegratedObjective, k: int, psi: Array, inverse: Array, gradient: Array | None):
        self.objective, self.k, self.psi, self.inverse = objective, k, psi, inverse
        self.gradient = objective.at(psi, k).gradient if gradient is None else gradient
        self.value, self.moved = np.inf, False

    @property
    def decrement(self) -> float:
        """Squared distance to the optimum, in standard errors."""
        return float(self.gradient @ self.inverse @ self.gradient)

    def next(self) -> Array:
        """Where the next step leads."""
        return self.psi - self.inverse @ self.gradient

    def step(self, inside: Callable[[Array], bool]) -> bool:
        """Take it; False, and nothing changed, if it leads to the boundary or upwards."""
        psi = self.next()
        if not inside(psi):
            return False
        point = self.objective.at(psi, self.k)
        if not point.value <= self.value + 1e-11 * max(1.0, abs(point.value)):
            return False
        self.inverse = _bfgs(self.inverse, psi - self.psi, point.gradient - self.gradient)
        self.psi, self.gradient, self.value, self.moved = psi, point.gradient, point.value, True
        return True


def _bfgs(H: Array, step: Array, change: Array) -> Array:
    """Update an inverse Hessian by a step and the change of the gradient along it (replicates, eq. 13)."""
    along = float(step @ change)
    if along <= 1e-12 * float(np.linalg.norm(step) * np.linalg.norm(change)):
        return H
    E = np.eye(len(H)) - np.outer(step, change) / along
    return E @ H @ E.T + np.outer(step, step) / along


def general_source(frame: Any, problem: GeneralProblem, fits: Mapping[int, GeneralEstimate]) -> GeneralSource:
    """Collect what replicates of one set of predictors share.

    Raises
    ------
    NotSupportedError
        For crossed random effects, whose groups share rows.
    """
    if not isinstance(problem.objective, IntegratedObjective):
        raise NotSupportedError(
            f"Replicates of generalised models need nested groups. Those of {frame.formula.text!r} are crossed. "
            f"Use vcov='model'."
        )
    inverse, scores = {}, {}
    for k, full in fits.items():
        basis = _basis(problem.structure.p, full.boundary, full.flat, problem.structure.n_phi)
        inverse[k] = inverse_along(full.point.hessian, basis)
        scores[k] = problem.objective.at(full.point.theta, k).scores
    return GeneralSource(problem, frame.w, frame.hierarchy.row_parents, inverse, scores)
