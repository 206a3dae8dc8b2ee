"""The arrays behind `inside.InsideData`: the whole sample in one chunk. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.general.inside import InsideData
from pmwmix.likelihood.general.nodes import product_rule
from pmwmix.likelihood.general.tiles import Chunk


def inside_data(problem: Any, k: int = 0, psi: Array | None = None) -> dict[str, Array]:
    """Give the arrays of `InsideData` for the whole sample, by name.

    Parameters
    ----------
    problem : Problem
        With nested groups.
    k : int
        Which outcome; shapes are the same for all.
    psi : ndarray, optional
        Parameters (P,) from whose modes the search begins nearby, best the ML estimate; if left out, it begins at zero.

    Returns
    -------
    dict of str to ndarray
    """
    structure, objective = problem.structure, problem.objective
    rows, q = objective.rows, structure.layout.q
    chunk = joined(objective.chunks)
    start, slopes = _modes(problem, k, psi)

    def tiles(columns: Sequence[Array]) -> Array:
        return np.array([column[chunk.rows] for column in columns]).reshape(-1, *chunk.rows.shape)

    rules = [product_rule(n, size) for n, size in zip(objective.n_agq, q, strict=True)]
    weights = np.where(chunk.real, rows.w[chunk.rows], 0.0)
    at = np.zeros(len(slopes[0])) if psi is None else np.array(psi, dtype=float)
    arrays = [
        at,
        *start,
        *slopes,
        tiles(rows.X),
        rows.offset[chunk.rows],
        tiles(rows.Z),
        rows.y[k][chunk.rows],
        weights,
    ]
    arrays += [column[chunk.rows] for column in rows.extra[k]]
    arrays += [*chunk.tile_to, *chunk.parents, *chunk.to_top, *chunk.w, *chunk.omega]
    arrays += [nodes for nodes, _ in rules] + [log_weights for _, log_weights in rules]
    names = [symbol.name for symbol in InsideData.symbols(structure).flat()]
    return dict(zip(names, arrays, strict=True))


def _modes(problem: Any, k: int, psi: Array | None) -> tuple[list[Array], list[Array]]:
    """Modes at ``psi`` per level (q_l, G_l), and their derivatives (P, q_l, G_l)."""
    structure, objective = problem.structure, problem.objective
    P = structure.p + structure.layout.n_theta + structure.n_phi
    if psi is None:
        zero = [np.zeros((q, len(w))) for q, w in zip(structure.layout.q, problem.tree[1], strict=True)]
        return zero, [np.zeros((P, *u.shape)) for u in zero]
    point = objective.at(psi, k)
    slopes: list[list[Array]] = [[] for _ in structure.layout.q]
    for move in 1e-4 * np.diag(np.maximum(np.abs(psi), 1.0)):  # Newton's step next to psi is where the modes move to
        sides = objective.steps(point, psi + move), objective.steps(point, psi - move)
        for level, (up, down) in enumerate(zip(*sides, strict=True)):
            slopes[level].append((up - down) / (2.0 * move.sum()))
    return objective.whitened_modes(point), [np.array(part) for part in slopes]


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Put chunks together to one, without padding."""
    n = len(chunks[0].units)
    sizes = [int(c.real[0].sum()) for c in chunks]  # tiles; the first place of each holds a row

    def units(values: str, level: int, above: int | None = None) -> Array:
        parts = []
        for c in chunks:
            part = getattr(c, values)[level][: c.n_units[level]]
            parts.append(part if above is None else part + c.units[above].start)
        return np.concatenate(parts)

    def places(values: str) -> Array:
        return np.concatenate([getattr(c, values)[:, :size] for c, size in zip(chunks, sizes, strict=True)], axis=1)

    tile_to = [
        np.concatenate([c.tile_to[level][:size] + c.units[level].start for c, size in zip(chunks, sizes, strict=True)])
        for level in range(n)
    ]
    return Chunk(
        rows=places("rows"),
        real=places("real"),
        tile_to=tuple(tile_to),
        parents=tuple(units("parents", level, level + 1) for level in range(n - 1)),
        to_top=tuple(units("to_top", level, n - 1) for level in range(n)),
        w=tuple(units("w", level) for level in range(n)),
        omega=tuple(units("omega", level) for level in range(n)),
        units=tuple(slice(0, sum(c.n_units[level] for c in chunks)) for level in range(n)),
    )
