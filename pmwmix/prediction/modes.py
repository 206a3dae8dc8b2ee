"""Record of the conditional modes of a level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmwmix._types import Array


@dataclass(frozen=True)
class LevelModes:
    """Conditional modes of one level.

    Parameters
    ----------
    group : str
    factors : tuple of str
    labels : list
    terms : tuple of str
        Random columns.
    b, se : ndarray, shape (G, q)
        On the raw scale of the linear predictor.
    Psi : ndarray, shape (q, q)
        Covariance matrix of the random effects.
    classes : ndarray, shape (G, k), or None
        Probabilities of the masses of discrete random effects given the outcomes; ``b`` and ``se`` are then mean and
        standard deviation over them.
    """

    group: str
    factors: tuple[str, ...]
    labels: list[object]
    terms: tuple[str, ...]
    b: Array
    se: Array
    Psi: Array
    classes: Array | None = None


def covariances(columns: Sequence[Array], of: Sequence[int], Psi: Array, n_predictors: int) -> Array:
    """Covariance of the random parts of the linear predictors of every row (K, K, n).

    Parameters
    ----------
    columns : sequence of ndarray, each (n,)
        Random columns of a level.
    of : sequence of int, length q
        Linear predictor of each.
    Psi : ndarray, shape (q, q)
    n_predictors : int
    """
    if n_predictors == 1:
        return quadratic(columns, Psi)[None, None]
    mine = (np.asarray(of)[None, :] == np.arange(n_predictors)[:, None]).astype(float)  # (K, q)
    Z = mine[:, :, None] * np.array(columns)[None]
    return np.einsum("kan,ab,lbn->kln", Z, Psi, Z, optimize=True)


def quadratic(columns: Sequence[Array], Psi: Array) -> Array:
    """Compute z'Psi z of every row; a level without random terms has none."""
    if not len(columns):
        return np.zeros(1)
    Z = np.array(columns)
    return np.einsum("an,ab,bn->n", Z, Psi, Z, optimize=True)
