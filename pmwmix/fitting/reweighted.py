"""One problem under other weights: what replicates share, and which cross-products they need anew.

No compiled code is held, so that it can be sent to another process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.collinear import cross_products, independent
from pmwmix.fitting.estimate import Estimate, GeneralEstimate
from pmwmix.fitting.judge import flat_directions, general_basis, moving_basis
from pmwmix.fitting.optimise import minimise
from pmwmix.fitting.problem import GeneralProblem, Problem
from pmwmix.fitting.quasinewton import INSIDE, NEAR, ROUGH, STEPS, QuasiNewton
from pmwmix.fitting.rawscale import all_parameters
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.likelihood.general.objective import IntegratedObjective
from pmwmix.likelihood.linear.crossproducts import ROWS_PER_CHUNK, Blocks, Structure, build
from pmwmix.likelihood.paths import inner_weight
from pmwmix.likelihood.standardise import Columns, RandomColumns, Transform, standardise
from pmwmix.variance import inverse_along
from pmwmix.weights.conditional import total_weights


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
            climb = QuasiNewton(objective, k, full.point.theta, self.inverse[k], self.gradient(k, w))
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
        self, objective: IntegratedObjective, k: int, full: GeneralEstimate, climb: QuasiNewton
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


@dataclass(frozen=True)
class Source:
    """All that the replicates of one problem share.

    Parameters
    ----------
    blocks : Blocks
        Of the full sample.
    structure : Structure
    engine : str
    transforms : list of Transform
    columns : Columns
    order, starts : ndarray
        As in `Hierarchy`.
    w : tuple of ndarray
        Weights of the full sample, rows first.
    kept : ndarray of int
        Fixed columns in the model.
    top_scale : float
    influence : dict
        Outcome to the effect (G_L, n_theta) of each top-level unit's weight on theta.
    """

    blocks: Blocks
    structure: Structure
    engine: str
    transforms: list[Transform]
    columns: Columns
    order: Array | None
    starts: Array
    w: tuple[Array, ...]
    kept: Array
    top_scale: float
    influence: dict[int, Array]

    @cached_property
    def lowest(self) -> Blocks:
        """Cross-products of every lowest unit by itself: what only weights above the rows cannot change."""
        ones = np.ones(self.blocks.n_units[0])
        return self._subset(build(self.columns, self.order, self.starts, self.w[0], (), (ones,)))

    def reweighted(self, w: tuple[Array, ...]) -> Blocks:
        """Cross-products under other weights; the rows are read again only if their own weights changed."""
        if not self.structure.layout.q:
            rows = w[0] / self.top_scale
            return self._subset(build(self.columns, None, self.starts, rows, (), self.blocks.w))
        units, parents = (*w[1:-1], w[-1] / self.top_scale), self.blocks.parents
        if not np.array_equal(w[0], self.w[0]):
            return self._subset(build(self.columns, self.order, self.starts, w[0], parents, units))
        if all(np.array_equal(new, old) for new, old in zip(w[1:-1], self.w[1:-1], strict=True)):
            return replace(self.blocks, w=units)
        low, inner, top = self.lowest, inner_weight(parents, units), self.blocks.paths()[0][0]

        def fold(values: Array) -> Array:
            flat = (values * inner).reshape(-1, len(inner))
            added = np.array([np.bincount(top, row, minlength=len(units[-1])) for row in flat])
            return added.reshape(*values.shape[:-1], len(units[-1]))

        return replace(self.blocks, xx=fold(low.xx), xy=fold(low.xy), yy=fold(low.yy), n_w=fold(low.n_w), w=units)

    def top_ratio(self, w: tuple[Array, ...]) -> Array | None:
        """Factor (G_L,) of the top-level units if nothing below them changed, else None."""
        same = all(np.array_equal(new, old) for new, old in zip(w[:-1], self.w[:-1], strict=True))
        return w[-1] / self.w[-1] if same else None

    def _subset(self, blocks: Blocks) -> Blocks:
        kept = self.kept
        xx = np.ascontiguousarray(blocks.xx[np.ix_(kept, kept)])
        return replace(blocks, zx=blocks.zx[:, kept], xx=xx, xy=blocks.xy[:, kept])

    def parameters(self, k: int, beta: Array, theta: Array, sigma: float) -> Array:
        """Raw coefficients, variance components in the order of theta, and sigma²; shape (P,)."""
        layout, transform = self.structure.layout, self.transforms[k]
        Psi = transform.Psi(layout, theta, sigma)
        components = [Psi[level][i, j] for level, entries in enumerate(layout.entries) for i, j, _ in entries]
        return np.array([*transform.beta(beta), *components, (transform.y_scale * sigma) ** 2])

    def centre(self, k: int, full: Estimate) -> Array:
        """Give the same of the full sample."""
        return self.parameters(k, full.point.beta, full.point.theta, full.point.sigma)


def source_of(frame: ModelFrame, problem: Problem, fits: Mapping[int, Estimate], design: int = 0) -> Source:
    """Collect what replicates of one set of predictors share."""
    part, objective, starts = frame.designs[design], problem.objective, frame.hierarchy.starts
    random = [RandomColumns(b.level, b.matrix.names, b.matrix.columns) for b in part.blocks]
    columns, _ = standardise(part.x.columns, list(part.x.names), random, part.y)
    if not problem.layout.q:  # any partition of the rows
        starts = np.unique(np.append(np.arange(0, frame.n, ROWS_PER_CHUNK), frame.n))
    influence = {}
    if problem.layout.q and not problem.reml:  # scores under REML are not proportional to the units' weights
        for k, full in fits.items():
            basis = moving_basis(len(full.point.beta), full.boundary, flat_directions(full.point, full.boundary))
            scores = objective.scores(objective.at(full.point.theta, k), k)
            influence[k] = (scores @ inverse_along(full.point.information, basis))[:, len(full.point.beta) : -1]
    return Source(
        problem.blocks, objective.structure, getattr(objective, "engine", ""), problem.transforms, columns,
        frame.hierarchy.order, starts, frame.w, problem.kept, problem.top_scale, influence,
    )  # fmt: skip


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
        basis = general_basis(problem.structure.p, full.boundary, full.flat, problem.structure.n_phi)
        inverse[k] = inverse_along(full.point.hessian, basis)
        scores[k] = problem.objective.at(full.point.theta, k).scores
    return GeneralSource(problem, frame.w, frame.hierarchy.row_parents, inverse, scores)
