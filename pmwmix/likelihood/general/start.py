"""Where the climb of a generalised model starts. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.rows import in_blocks


def starting_point(structure: MarginalStructure, rows: RowArrays, k: int) -> Array:
    """Least squares of the family's starting linear predictors on their columns; random effects of moderate size."""
    family, _ = structure.parts
    etas, phi = family.starts(structure.links, rows.responses[k], rows.w)
    etas[0] = etas[0] - rows.offset
    edges = [0, *(first for _, first in structure.further), structure.p]
    beta = [_least_squares(rows.X[a:b], rows.w, eta) for (a, b), eta in zip(pairwise(edges), etas, strict=True)]
    shape = np.tile(structure.effects.starts()[0], structure.n_levels)
    return np.concatenate([*beta, structure.layout.start(0.5), phi, shape])


def _least_squares(columns: Sequence[Array], w: Array, eta: Array) -> Array:
    if not len(columns):
        return np.zeros(0)
    G, right = np.zeros((len(columns), len(columns))), np.zeros(len(columns))
    for at, X in in_blocks(columns):
        G += (X * w[at]) @ X.T
        right += (X * w[at]) @ eta[at]
    return np.linalg.solve(G + 1e-9 * np.trace(G) / len(G) * np.eye(len(G)), right)
