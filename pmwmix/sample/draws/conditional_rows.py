"""The rows of a generalised model, sorted by the units they belong to, and their log-densities at linear predictors.

What `conditional_general` asks of the data; densities come from the families' own graphs, sums over units are numpy's.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.fitting.problem import Problem
from pmwmix.likelihood.engine import Compiled, compiled
from pmwmix.likelihood.general.nodes import product_rule
from pmwmix.likelihood.graph import Graph, derivative
from pmwmix.likelihood.linear.recursion import UnitTree

PRIOR_SHARE = 0.5  # of the proposals that come from the prior where a density may have several peaks
NODES = {1: 7, 2: 5, 3: 3}  # per dimension, for levels that are integrated out; more effects take Laplace's single one


def density_graph(structure: tuple[Any, int]) -> Graph:
    """Write the log-density of rows at linear predictors (K, n)."""
    inputs, _, density = _density(*structure)
    return Graph(inputs, {"density": density})


def slope_graph(structure: tuple[Any, int]) -> Graph:
    """Write the log-density of rows with its first and second derivative in the linear predictor."""
    inputs, eta, density = _density(*structure)
    first = derivative(density, eta)
    return Graph(inputs, {"density": density, "first": first, "second": derivative(first, eta)})


def _density(parts: tuple[Any, Any], n_phi: int) -> tuple[list[Any], Any, Any]:
    family, link = parts
    eta, phi = pt.tensor("eta", shape=(None, None)), pt.tensor("phi", shape=(n_phi,))
    y = pt.tensor("y", shape=(1, None))
    extra = tuple(pt.tensor(f"extra{i}", shape=(1, None)) for i in range(family.n_extra))
    density = family.log_density(link, y, extra, eta, [phi[i] for i in range(n_phi)])
    return [eta, phi, y, *extra], eta, density


def nodes(n_agq: int, q: int) -> int:
    """Nodes per dimension for a level with q effects per unit: a few more than the fit had, within limits."""
    fewest = NODES.get(q, 0)
    return min(max(n_agq, fewest), fewest + 4) if fewest else 1


class RowsOfUnits:
    """The rows of a problem, sorted by lowest unit, with what evaluates their densities.

    Parameters
    ----------
    problem : Problem
    k : int
        Outcome.
    """

    def __init__(self, problem: Problem, k: int) -> None:
        rows, structure = problem.objective.rows, problem.structure
        assert not problem.objective.crossed
        index = np.empty(len(rows.w), dtype=np.int64)
        for chunk in problem.objective.chunks:
            unit = np.broadcast_to(chunk.units[0].start + chunk.tile_to[0], chunk.rows.shape)
            index[chunk.rows[chunk.real]] = unit[chunk.real]
        order = np.argsort(index, kind="stable")
        self.problem, self.order, self.q = problem, order, problem.layout.q
        self.tree = UnitTree(*problem.tree)
        self.starts = np.searchsorted(index[order], np.arange(len(self.tree.w[0])))
        self.unit = [index[order]]
        self.to_top = [[np.arange(len(w))] for w in self.tree.w]
        for parent in self.tree.parents:
            self.unit.append(parent[self.unit[-1]])
        for top in range(self.n_levels):  # to_top[top][l]: unit of level top of every unit of level l <= top
            for level in range(top - 1, -1, -1):
                self.to_top[top].insert(0, self.to_top[top][0][self.tree.parents[level]])
        self.Z = [None if one else z[order] for z, one in zip(rows.Z, structure.ones, strict=True)]
        self.w = rows.w[order]
        self.unweighted = bool(np.all(self.w == 1.0))
        engine, key = problem.objective.engine, (structure.parts, structure.n_phi)
        self.first: Compiled = compiled(density_graph, key, engine)
        self.second: Compiled = compiled(slope_graph, key, engine)
        self.outcome = self.first.put([v[order][None] for v in (rows.y[k], *rows.extra[k])])
        family, link = structure.parts
        self.prior_share = 0.0 if family.has_one_peak(link) else PRIOR_SHARE
        self.rules = [
            product_rule(*pair) for pair in zip(map(nodes, problem.objective.n_agq, self.q), self.q, strict=True)
        ]

    @property
    def n_levels(self) -> int:
        """Number of grouping levels."""
        return len(self.q)

    @cached_property
    def columns(self) -> list[range]:
        """Positions of the random columns of every level."""
        edges = np.concatenate([[0], np.cumsum(self.q)])
        return [range(edges[level], edges[level + 1]) for level in range(self.n_levels)]

    def zeros(self) -> list[Array]:
        """Effects of zero, whitened, of every level (q_l, 1, G_l)."""
        return [np.zeros((q, 1, len(w))) for q, w in zip(self.q, self.tree.w, strict=True)]

    def times_z(self, column: int, values: Array) -> Array:
        """Multiply values (K, n) by a random column."""
        z = self.Z[column]
        return values if z is None else values * z

    def weighted(self, values: Array) -> Array:
        """Multiply values (K, n) by the rows' weights."""
        return values if self.unweighted else values * self.w

    def part(self, level: int, b: Array) -> Array:
        """Give what effects (q_l, K, G_l) of a level add to the linear predictor (K, n)."""
        terms = [self.times_z(c, np.take(b[i], self.unit[level], axis=-1)) for i, c in enumerate(self.columns[level])]
        return terms[0] if len(terms) == 1 else sum(terms[1:], terms[0])

    def sums(self, values: Array) -> Array:
        """Sum rows (K, n) into the lowest units (K, G_1)."""
        return np.add.reduceat(values, self.starts, axis=-1)


__all__ = ["RowsOfUnits"]
