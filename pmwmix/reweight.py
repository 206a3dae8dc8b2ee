"""One problem under other weights: what replicates share, and which cross-products they need anew.

No compiled code is held, so that it can be sent to another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pmwmix.estimate import Estimate, Problem, flat_directions, moving_basis
from pmwmix.frame import ModelFrame
from pmwmix.likelihood.crossproducts import ROWS_PER_CHUNK, Blocks, Columns, build, inner_weight
from pmwmix.likelihood.gaussian import Structure
from pmwmix.likelihood.standardise import RandomColumns, Transform, standardise
from pmwmix.variance import inverse_along

Array = np.ndarray


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
