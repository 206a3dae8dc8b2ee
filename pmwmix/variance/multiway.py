"""Sandwich covariance of rows that share units of several crossed factors."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from pmwmix._types import Array
from pmwmix.variance._base import VARIANCES, VarianceInput, inverse_along, meat

NEGATIVE = 1e-10  # of the largest eigenvalue of a correlation-like matrix: below minus this it is no rounding


def multiway(given: VarianceInput) -> Array:
    """Add clusterings up: V_a + V_b - V_ab of two factors, every set of them in turn of more (crossed, eq. 18).

    The scores are those of the coefficients; variances of the other parameters are model-based. Negative eigenvalues,
    which the difference may have, become zero.

    Returns
    -------
    ndarray, shape (P, P)

    References
    ----------
    .. [1] Cameron, Gelbach & Miller (2011). Robust inference with multiway clustering. J. Business & Economic
       Statistics, 29(2), 238-249. doi:10.1198/jbes.2010.07136
    """
    return checked(given)[0]


def checked(given: VarianceInput) -> tuple[Array, bool]:
    """Give `multiway`, and whether the difference was no covariance matrix: negative eigenvalues became zero."""
    (V, clipped), A = _parts(given), given.information.copy()
    A[: len(V), len(V) :] = A[len(V) :, : len(V)] = 0.0
    out = inverse_along(A, given.basis)
    out[: len(V), : len(V)] = V
    return out, clipped


def _parts(given: VarianceInput) -> tuple[Array, bool]:
    """Give the sandwich of the coefficients, and whether it had to be made positive semidefinite."""
    assert given.scores is not None
    m = given.scores.shape[1]
    bread = inverse_along(given.information[:m, :m], np.eye(m))
    V = bread @ between_ways(given.scores, given.ways) @ bread
    size = np.sqrt(np.maximum(np.abs(np.diag(bread)), 1e-300))
    values, vectors = np.linalg.eigh(V / np.outer(size, size))
    if not values.min(initial=0.0) < -NEGATIVE * max(values.max(initial=0.0), 1e-300):
        return V, False
    return (vectors * np.maximum(values, 0.0)) @ vectors.T * np.outer(size, size), True


def between_ways(scores: Array, ways: tuple[Array, ...]) -> Array:
    """Covariance of the scores between the units of all factors (P, P), which may have negative eigenvalues.

    Parameters
    ----------
    scores : ndarray, shape (n, P)
        Of the rows.
    ways : tuple of ndarray of int, each (n,)
        Unit of every row, per factor.
    """
    out = np.zeros((scores.shape[1], scores.shape[1]))
    for size in range(1, len(ways) + 1):
        for chosen in combinations(ways, size):
            cells = np.unique(np.array(chosen), axis=1, return_inverse=True)[1].ravel()
            out += (-1.0) ** (size + 1) * meat(scores, cells, np.zeros(int(cells.max()) + 1, dtype=np.int64))
    return out


VARIANCES.add("multiway", multiway)
