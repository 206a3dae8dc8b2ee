"""A model of several outcomes under other weights: what its replicates share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.climb import climbed
from pmwmix.fitting.collinear import independent_columns
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.judge import flat_directions, held_directions, moving_basis
from pmwmix.fitting.outcomes import standard_columns
from pmwmix.fitting.problem import Problem
from pmwmix.fitting.rawscale import all_parameters
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.likelihood.linear.outcomes import SeveralObjective
from pmwmix.likelihood.linear.pairproducts import PairProducts, pair_products
from pmwmix.likelihood.standardise import Columns
from pmwmix.variance import inverse_along

INSIDE = 0.05  # a diagonal entry of Λ below this is tried at the boundary too


@dataclass(frozen=True)
class SeveralSource:
    """All that the replicates of one problem share; parameters and their order are those of `Estimate.joint`.

    Parameters
    ----------
    problem : Problem
    columns : Columns
    order, starts : ndarray
        As in `Hierarchy`.
    w : tuple of ndarray
        Weights of the full sample, rows first.
    """

    problem: Problem
    columns: Columns
    order: Array | None
    starts: Array
    w: tuple[Array, ...]

    def parameters(self, k: int, psi: Array) -> Array:
        """Raw coefficients, variance components, the first residual variance and the other (co)variances."""
        return all_parameters(self.problem, k, psi)[0]

    def centre(self, k: int, full: Estimate) -> Array:
        """Give the same of the full sample."""
        return self.parameters(k, full.point.psi)

    def reweighted(self, w: tuple[Array, ...]) -> PairProducts:
        """Products under other weights; the rows are read again only if weights below the top changed."""
        old: PairProducts = self.problem.objective.products
        units = (*w[1:-1], w[-1] / self.problem.top_scale)
        if all(np.array_equal(new, known) for new, known in zip(w[:-1], self.w[:-1], strict=True)):
            return replace(old, blocks=replace(old.blocks, w=units))
        of = (old.of_z, np.zeros(len(self.columns.x), dtype=int))
        new = pair_products(self.columns, of, old.m, self.order, self.starts, w[0], old.blocks.parents, units)
        return replace(new.subset(self.problem.kept), of_x=old.of_x)

    def replicate(
        self, fits: Mapping[int, Estimate], w: tuple[Array, ...], single: bool
    ) -> Iterator[tuple[Array, bool]]:
        """Estimate one replicate of every plausible value, as `ClosedSource.replicate`.

        Raises
        ------
        FloatingPointError
            If the predictors are collinear in the rows that are left.
        """
        products, structure = self.reweighted(w), self.problem.structure
        blocks = products.apart()
        with np.errstate(divide="ignore", invalid="ignore"):
            if len(independent_columns(blocks)) < structure.p:
                raise FloatingPointError
        objective = SeveralObjective(blocks, structure, products, self.problem.objective.engine)
        for k, full in fits.items():
            begin = self._step(objective, k, full, full.point.theta) if single else None
            stepped = None if begin is None else self._step(objective, k, full, begin[structure.p : -1])
            if stepped is not None:
                yield self.parameters(k, stepped), True
                continue
            found = climbed(objective, max(objective.n_free, 1.0), k, full.point.theta)
            yield self.parameters(k, found.point.psi), found.converged

    def _step(self, objective: SeveralObjective, k: int, full: Estimate, begin: Array) -> Array | None:
        """Take one Newton step in the replicate (replicates, eq. 12); None if it leads nowhere or near the boundary."""
        layout, p, problem = objective.structure.layout, objective.structure.p, self.problem
        point, theta = objective.at(begin, k), full.point.psi[p : p + layout.n_theta]
        held = held_directions(problem, theta, full.boundary)
        basis = moving_basis(p, held, flat_directions(problem, full.point, held))
        if not np.isfinite(point.value) or np.linalg.eigvalsh(basis.T @ point.information @ basis)[0] <= 0:
            return None
        gradient = np.concatenate([np.zeros(p), -point.gradient, [0.0]])  # coefficients and sigma are profiled
        psi: Array = point.psi + inverse_along(point.information, basis) @ gradient
        return psi if psi[p : p + layout.n_theta][layout.diagonal].min() > INSIDE else None


def several_source(frame: ModelFrame, problem: Problem, design: int) -> SeveralSource:
    """Collect what replicates of one set of predictors share."""
    columns, _ = standard_columns(frame, frame.designs[design])
    return SeveralSource(problem, columns, frame.hierarchy.order, frame.hierarchy.starts, frame.w)
