"""A model as lines of one predictor inside groups: the other columns at their means in the group. Draws nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import printed
from pmwmix.frame.matrices import Matrix, again
from pmwmix.prediction.rows import LiveRows


@dataclass(frozen=True)
class Grid:
    """Values of the predictor at which lines are drawn, and its part in every column of the model.

    Parameters
    ----------
    name : str
    values : ndarray, shape (n,)
        Of the rows, as the model has them.
    points : ndarray, shape (G, m)
        Of the lines, a row per group shown.
    members : list of ndarray of int
        Rows of every group shown.
    parts : dict
        ``"I(x ** 2)"`` to the same part of a column at the rows (n,) and at the points (G, m).
    """

    name: str
    values: Array
    points: Array
    members: list[Array]
    parts: dict[str, tuple[Array, Array]]

    def column(self, name: str, column: Array) -> Array:
        """Give a column of the model along the lines (G, m).

        A column is a part that holds the predictor times the rest; the rest is put to its mean in the group.
        """
        inside, rest = split_name(name, self.name)
        if not inside:
            return np.array([[column[rows].mean()] for rows in self.members]) + np.zeros_like(self.points)
        at_rows, at_points = self.parts[":".join(inside)]
        if not rest:
            return at_points
        known = np.abs(at_rows) > 1e-9 * max(float(np.abs(at_rows).max()), 1e-300)
        other = np.divide(column, at_rows, out=np.full(len(column), np.nan), where=known)
        means = [np.nanmean(other[rows]) if known[rows].any() else 0.0 for rows in self.members]
        return at_points * np.array(means)[:, None]


def split_name(name: str, x: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a column's name into the factors that hold ``x`` and the others: ``"x:sex[T.F]"``."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(name):
        depth += (character in "([{") - (character in ")]}")
        if character == ":" and depth == 0:
            parts.append(name[start:i])
            start = i + 1
    parts.append(name[start:])
    word = re.compile(rf"(?<![\w.]){re.escape(x)}(?![\w.])")
    holds = [bool(word.search(re.sub(r"\[[^]]*\]$", "", part))) for part in parts]
    inside = tuple(part for part, h in zip(parts, holds, strict=True) if h)
    return inside, tuple(part for part, h in zip(parts, holds, strict=True) if not h)


def make_grid(rows: LiveRows, x: str, values: Array, members: list[Array], m: int = 40) -> Grid:
    """Lay a grid over each group's range of ``x``; over that of all rows where the group has a single value."""
    low, high = float(values.min()), float(values.max())
    ends = [(float(values[g].min()), float(values[g].max())) for g in members]
    ends = [pair if pair[0] < pair[1] else (low, high) for pair in ends]
    points = np.array([np.linspace(*pair, m) for pair in ends])
    matrices = [rows.design.x, *(block.matrix for block in rows.design.blocks)]
    wanted = {":".join(split_name(name, x)[0]) for matrix in matrices for name in matrix.names} - {""}
    parts = {x: (values, points)}
    for matrix in matrices:
        if matrix.spec is not None and set(matrix.names) & (wanted - set(parts)):
            parts |= _evaluated(rows, matrix, x, points, wanted - set(parts))
    return Grid(x, values, points, members, parts)


def _evaluated(
    rows: LiveRows, matrix: Matrix, x: str, points: Array, wanted: set[str]
) -> dict[str, tuple[Array, Array]]:
    """Evaluate columns that hold no other variable, such as ``I(x ** 2)`` or splines, at the points."""
    blueprint, n = rows.blueprint, points.size
    local = {x: pd.Series(points.ravel(), name=x)}
    used = [str(name) for name in matrix.spec.required_variables]
    for name in used:
        if name != x and name in blueprint.categories:
            first = blueprint.categories[name]
            local[name] = pd.Series(pd.Categorical([first[0]] * n, categories=first), name=name)
        elif name != x:
            place = matrix.names.index(name) if name in matrix.names else None
            local[name] = pd.Series(np.full(n, 1.0 if place is None else matrix.columns[place][0]), name=name)
    found = again(matrix.spec, used, local, n)
    named = zip(matrix.names, matrix.columns, found, strict=True)
    return {name: (column, at.reshape(points.shape)) for name, column, at in named if name in wanted}


def missing_parts(rows: LiveRows, grid: Grid) -> list[str]:
    """Columns that cannot be drawn along the predictor: their part of it does not stand alone in the model."""
    matrices = [rows.design.x, *(block.matrix for block in rows.design.blocks)]
    names = [name for matrix in matrices for name in matrix.names]
    return [name for name in names if (inside := ":".join(split_name(name, grid.name)[0])) and inside not in grid.parts]


def model_lines(one: Any, rows: LiveRows, grid: Grid, level: int) -> tuple[Array, Array]:
    """Linear predictor of the fixed part, and with the random effects of the group and those above it (G, m).

    Parameters
    ----------
    one : FitResult or BayesResult
        Of one plausible value.
    rows : LiveRows
    grid : Grid
    level : int
        Position of the groups shown; effects of units inside them are taken as zero.
    """
    design = rows.design
    fixed = np.zeros_like(grid.points)
    if design.offset is not None:
        fixed += np.array([[design.offset[g].mean()] for g in grid.members])
    for (name, column), value in zip(rows.columns.items(), one.coef.to_numpy(), strict=True):
        fixed += value * grid.column(name, column)
    conditional = fixed.copy()
    for position, unit in enumerate(rows.frame.hierarchy.levels):
        heads = [unit.index[g] for g in grid.members]
        if position < level or any((head != head[0]).any() for head in heads):
            continue
        table = effects_of(one, unit.name, unit.labels)
        blocks = [block.matrix for block in design.blocks if block.level == position]
        pairs: Sequence[tuple[str, Array]] = [
            pair for block in blocks for pair in zip(block.names, block.columns, strict=True)
        ]
        place = np.array([head[0] for head in heads])
        for q, (name, column) in enumerate(pairs):
            conditional += table[place, q][:, None] * grid.column(name, column)
    return fixed, conditional


def effects_of(one: Any, group: str, labels: Sequence[Any]) -> Array:
    """Random effects (G, q) of one grouping factor in the order of ``labels``."""
    table = one.ranef(group)
    terms = [name for name in table.columns if f"{name}_se" in table.columns]
    return table[terms].reindex(printed(labels)).to_numpy()
