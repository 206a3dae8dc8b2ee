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
    """

    group: str
    factors: tuple[str, ...]
    labels: list[object]
    terms: tuple[str, ...]
    b: Array
    se: Array
    Psi: Array


def quadratic(columns: Sequence[Array], Psi: Array) -> Array:
    """Compute z'Psi z of every row."""
    Z = np.array(columns)
    return np.einsum("an,ab,bn->n", Z, Psi, Z, optimize=True)
