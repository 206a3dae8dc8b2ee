"""One problem under other weights: what replicates share, and which cross-products they need anew.

No compiled code is held, so that it can be sent to another process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.climb import climbed
from pmwmix.fitting.collinear import cross_products, independent, independent_columns
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.fixedvariances import climbed_beside_fixed
from pmwmix.fitting.judge import directions_without_curvature, held_directions, moving_basis
from pmwmix.fitting.optimise import decrement, minimise
from pmwmix.fitting.problem import Problem, random_columns
from pmwmix.fitting.quasinewton import INSIDE, NEAR, ROUGH, STEPS, QuasiNewton
from pmwmix.fitting.rawscale import all_parameters
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.likelihood.contract import Likelihood, Point
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import ROWS_PER_CHUNK, Blocks, Structure, build
from pmwmix.likelihood.linear.flat import FlatObjective
from pmwmix.likelihood.linear.objective import Objective
from pmwmix.likelihood.paths import inner_weight
from pmwmix.likelihood.standardise import Columns, Transform, standardise
from pmwmix.variance import inverse_along
from pmwmix.weights.conditional import total_weights

NEAR_CLOSED = 1e-12  # squared distance to the optimum, in standard errors, at which a warm-started refit stops
INSIDE_CLOSED = 0.05  # a diagonal entry of Λ below this is tried at the boundary too
NEWTON_STEPS = 8


@dataclass(frozen=True)
class IntegratedSource:
    """All that the replicates of one generalised problem share.

    Parameters
    ----------
    problem : Problem
    w : tuple of ndarray
        Weights of the full sample, rows first.
    row_parents : tuple of ndarray
        As in `Hierarchy`.
    inverse : dict
        Outcome to the inverse information (P, P) of the full sample, top-level weights relative to their mean.
    scores : dict
        Outcome to the scores (G_L, P) of the top-level units at the full-sample estimate.
    """

    problem: Problem
    w: tuple[Array, ...]
    row_parents: tuple[Array, ...]
    inverse: dict[int, Array]
    scores: dict[int, Array]

    def parameters(self, k: int, psi: Array) -> Array:
        """Raw coefficients, variance components, level-1 variance and reported parameters of the family (m,)."""
        return all_parameters(self.problem, k, psi)[0]

    def centre(self, k: int, full: Estimate) -> Array:
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
        return float(psi[p : p + layout.n_theta][layout.diagonal].min(initial=np.inf)) > INSIDE

    def replicate(
        self, fits: Mapping[int, Estimate], w: tuple[Array, ...], single: bool
    ) -> Iterator[tuple[Array, bool]]:
        """Estimate one replicate of every outcome: parameters (m,) and whether the climb arrived.

        Raises
        ------
        FloatingPointError
            If the predictors are collinear in the rows that are left.
        """
        problem = self.problem
        relative = (*w[:-1], w[-1] / problem.top_scale)
        if any((part == 0.0).any() for part in w):
            self._check_columns(w)
        objective: Any = problem.objective
        objective = objective.with_weights(relative[0], relative[1:])
        beside: Any = replace(problem, objective=objective)
        for k, full in fits.items():
            if problem.fixed is not None or problem.layout.structures:
                climb, of = (climbed, objective) if problem.fixed is None else (climbed_beside_fixed, beside)
                found = climb(of, max(problem.n_total, 1.0), k, full.point.theta)
                yield self.parameters(k, found.point.psi), found.converged
                continue
            steps = QuasiNewton(objective, k, full.point.theta, self.inverse[k], self.gradient(k, w))
            if not full.singular and steps.step(self.inside) and single:
                for _ in range(STEPS):  # few large units: one step is not enough
                    if steps.decrement <= ROUGH or not steps.step(self.inside):
                        break
                psi = steps.next()
                if self.inside(psi):
                    yield self.parameters(k, psi), True
                    continue
            psi, reached = self._refit(objective, k, full, steps)
            yield self.parameters(k, psi), reached

    def _check_columns(self, w: tuple[Array, ...]) -> None:
        total = total_weights(w, self.row_parents)[0]
        objective: Any = self.problem.objective
        edges = [0, *(first for _, first in self.problem.structure.further), self.problem.structure.p]
        parts = [objective.rows.X[a:b] for a, b in pairwise(edges)]
        if not self.problem.family.has_intercept:  # thresholds stand in for it
            parts = [[np.ones_like(total), *part] for part in parts]
        with np.errstate(divide="ignore", invalid="ignore"):
            if any(len(independent(cross_products(X, total))) < len(X) for X in parts):
                raise FloatingPointError

    def _refit(self, objective: Likelihood, k: int, full: Estimate, steps: QuasiNewton) -> tuple[Array, bool]:
        """Climb to the replicate's maximum: on with quasi-Newton steps, else the full climb."""
        for _ in range(STEPS if steps.moved else 0):
            psi = steps.next()
            if steps.decrement < NEAR:
                if self.inside(psi):
                    return psi, True
                break
            if not steps.step(self.inside):
                break
        scale = max(self.problem.n_total, 1.0)
        found = minimise(lambda psi: objective.at(psi, k), full.point.theta, scale=scale, boundary=objective.boundary)
        return found.point.theta, found.converged


@dataclass(frozen=True)
class ClosedSource:
    """All that the replicates of one problem share.

    Parameters
    ----------
    blocks : Blocks
        Of the full sample.
    structure : Structure
    engine : str
    transforms : list of Transform
    columns : Columns or None
        None of a frame without rows, whose replicates change the weights of top-level units alone.
    order, starts : ndarray
        As in `Hierarchy`.
    w : tuple of ndarray
        Weights of the full sample, rows first.
    kept : ndarray of int
        Fixed columns in the model.
    top_scale : float
    influence : dict
        Outcome to the effect (G_L, n_theta) of each top-level unit's weight on theta.
    fixed : Problem or None
        The problem itself, where variances are held at values.
    """

    blocks: Blocks
    structure: Structure
    engine: str
    transforms: Sequence[Transform]
    columns: Columns | None
    order: Array | None
    starts: Array
    w: tuple[Array, ...]
    kept: Array
    top_scale: float
    influence: dict[int, Array]
    fixed: Problem | None = None

    @cached_property
    def lowest(self) -> Blocks:
        """Cross-products of every lowest unit by itself: what only weights above the rows cannot change."""
        ones = np.ones(self.blocks.n_units[0])
        return build(self._columns, self.order, self.starts, self.w[0], (), (ones,)).subset(self.kept)

    def reweighted(self, w: tuple[Array, ...]) -> Blocks:
        """Cross-products under other weights; the rows are read again only if their own weights changed."""
        if not self.structure.layout.q:
            rows = w[0] / self.top_scale
            return build(self._columns, None, self.starts, rows, (), self.blocks.w).subset(self.kept)
        units, parents = (*w[1:-1], w[-1] / self.top_scale), self.blocks.parents
        if not _equal(w[0], self.w[0]):
            return build(self._columns, self.order, self.starts, w[0], parents, units).subset(self.kept)
        if all(_equal(new, old) for new, old in zip(w[1:-1], self.w[1:-1], strict=True)):
            return self.blocks.reweighted(units)
        if (low := self.lowest).wide:
            return build(self._columns, self.order, self.starts, w[0], parents, units).subset(self.kept)
        inner, top = inner_weight(parents, units), self.blocks.paths()[0][0]

        def fold(values: Array) -> Array:
            flat = (values * inner).reshape(-1, len(inner))
            added = np.array([np.bincount(top, row, minlength=len(units[-1])) for row in flat])
            return added.reshape(*values.shape[:-1], len(units[-1]))

        return replace(self.blocks, xx=fold(low.each_xx), xy=fold(low.xy), yy=fold(low.yy), n_w=fold(low.n_w), w=units)

    def top_ratio(self, w: tuple[Array, ...]) -> Array | None:
        """Factor (G_L,) of the top-level units if nothing below them changed, else None."""
        same = all(_equal(new, old) for new, old in zip(w[:-1], self.w[:-1], strict=True))
        return w[-1] / self.w[-1] if same else None

    @property
    def _columns(self) -> Columns:
        assert self.columns is not None
        return self.columns

    def parameters(self, k: int, beta: Array, theta: Array, sigma: float) -> Array:
        """Raw coefficients, variance components in the order of theta, and sigma²; shape (P,)."""
        layout, transform = self.structure.layout, self.transforms[k]
        Psi = transform.Psi(layout, theta, sigma)
        components = [Psi[level][i, j] for level, entries in enumerate(layout.entries) for i, j, _ in entries]
        return np.array([*transform.beta(beta), *components, (transform.y_scale * sigma) ** 2])

    def centre(self, k: int, full: Estimate) -> Array:
        """Give the same of the full sample."""
        return self.parameters(k, full.point.beta, full.point.theta, full.point.sigma)

    def replicate(
        self, fits: Mapping[int, Estimate], w: tuple[Array, ...], single: bool
    ) -> Iterator[tuple[Array, bool]]:
        """Estimate one replicate of every outcome, as `IntegratedSource.replicate`."""
        return _replicate(self, fits, w, single)


def _equal(new: Any, old: Any) -> bool:
    """Whether weights are the same; those that are not held are if they stand for the same."""
    return new is old or bool(np.array_equal(new, old))


def one_step(objective: Objective, k: int, full: Estimate, begin: Array) -> tuple[Array, Array, float] | None:
    """Take one Newton step in the replicate from ``begin``: beta, theta and sigma (replicates, eq. 12).

    None where the replicate does not curve as it should, so that a step leads nowhere.
    """
    point, p = objective.at(begin, k), len(full.point.beta)
    if not np.isfinite(point.value):
        raise FloatingPointError
    held = np.eye(len(full.boundary))[:, full.boundary]
    basis = moving_basis(p, held, directions_without_curvature(full.point.hessian, held))
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
        if decrement(point) < NEAR_CLOSED:
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
    return float(theta[layout.diagonal].min()) > INSIDE_CLOSED


def _begin(
    source: ClosedSource, objective: Objective, k: int, full: Estimate, ratio: Array | None, single: bool
) -> Array:
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
    source: ClosedSource, fits: Mapping[int, Estimate], w: tuple[Array, ...], single: bool
) -> Iterator[tuple[Array, bool]]:
    """Estimate one replicate of every outcome: parameters (P,) and whether the climb arrived."""
    blocks = source.reweighted(w)
    with np.errstate(divide="ignore", invalid="ignore"):
        if len(independent_columns(blocks)) < source.structure.p:
            raise FloatingPointError
    if not source.structure.layout.q:  # least squares: nothing to climb
        assert source.columns is not None
        flat = FlatObjective(blocks, source.structure, source.columns, source.kept, w[0])
        points = [(k, flat.at(np.zeros(0), k)) for k in fits]
        yield from ((source.parameters(k, at.beta, at.theta, at.sigma), True) for k, at in points)
        return
    layout, ratio = source.structure.layout, source.top_ratio(w)
    objective = Objective(blocks, source.structure, source.engine)
    if source.fixed is not None:
        held = replace(source.fixed, objective=objective)
        for k, full in fits.items():
            best = climbed_beside_fixed(held, max(objective.n_free, 1.0), k, full.point.theta)
            yield source.parameters(k, best.point.beta, best.point.theta, best.point.sigma), best.converged
        return
    for k, full in fits.items():
        if layout.structures:
            found = climbed(objective, max(objective.n_free, 1.0), k, full.point.theta)
            yield source.parameters(k, found.point.beta, found.point.theta, found.point.sigma), found.converged
            continue
        begin = _begin(source, objective, k, full, ratio, single)
        stepped = one_step(objective, k, full, begin) if single and _inside(layout, begin) else None
        if stepped is not None and _inside(layout, stepped[1]):
            yield source.parameters(k, *stepped), True
        else:
            point, reached = refit(objective, k, full.point.theta, begin)
            yield source.parameters(k, point.beta, point.theta, point.sigma), reached


def source_of(frame: ModelFrame, problem: Problem, fits: Mapping[int, Estimate], design: int = 0) -> Any:
    """Collect what replicates of one set of predictors share.

    Raises
    ------
    NotSupportedError
        For crossed random effects of a generalised model, whose groups share rows.
    """
    if frame.formula.outcomes and problem.objective.closed_form:
        from pmwmix.fitting.reweightedoutcomes import several_source

        return several_source(frame, problem, design)
    return (_closed_source if problem.objective.closed_form else _integrated_source)(frame, problem, fits, design)


def _closed_source(frame: ModelFrame, problem: Problem, fits: Mapping[int, Estimate], design: int) -> ClosedSource:
    part, objective, starts = frame.designs[design], problem.objective, frame.hierarchy.starts
    columns = None
    if frame.stream is None:
        columns, _ = standardise(part.x.columns, list(part.x.names), random_columns(part), part.y)
    if not problem.layout.q:  # any partition of the rows
        starts = np.unique(np.append(np.arange(0, frame.n, ROWS_PER_CHUNK), frame.n))
    influence = {}
    # scores under REML are not proportional to the units' weights
    if problem.layout.q and not problem.reml and not problem.layout.structures and problem.fixed is None:
        for k, full in fits.items():
            held = np.eye(len(full.boundary))[:, full.boundary]
            flat = directions_without_curvature(full.point.hessian, held)
            basis = moving_basis(len(full.point.beta), held, flat)
            scores = objective.scores(objective.at(full.point.theta, k), k)
            influence[k] = (scores @ inverse_along(full.point.information, basis))[:, len(full.point.beta) : -1]
    return ClosedSource(
        problem.blocks, objective.structure, objective.engine, problem.transforms, columns,
        frame.hierarchy.order, starts, frame.w, problem.kept, problem.top_scale, influence,
        problem if problem.fixed is not None else None,
    )  # fmt: skip


def _integrated_source(
    frame: ModelFrame, problem: Problem, fits: Mapping[int, Estimate], design: int
) -> IntegratedSource:
    if problem.objective.crossed:
        raise NotSupportedError(
            f"Replicates of generalised models need nested groups. Those of {frame.formula.text!r} are crossed. "
            f"Use vcov='model'."
        )
    inverse, scores = {}, {}
    for k, full in fits.items():
        flat, t, p = np.eye(len(full.flat))[:, full.flat], len(full.flat), problem.structure.p
        held = held_directions(problem, full.point.psi[p : p + t], full.boundary)
        basis = moving_basis(p, held, flat, len(full.point.psi) - p - t)
        inverse[k] = inverse_along(full.point.hessian, basis)
        scores[k] = problem.objective.scores(problem.objective.at(full.point.theta, k), k)
    return IntegratedSource(problem, frame.w, frame.hierarchy.row_parents, inverse, scores)
