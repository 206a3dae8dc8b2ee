"""Inverse of the dense block from its Cholesky factor. Numpy and scipy only."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from pmwmix._types import Array


def scaled_inverse(factor: Array, scale: Array) -> Array:
    """Compute S (R'R)⁻¹ S, both triangles of it.

    Parameters
    ----------
    factor : ndarray, shape (D, D)
        R as LAPACK's ``dpotrf`` gives it with ``lower=0``, zero in the other triangle.
    scale : ndarray, shape (D,)
        Diagonal of S.
    """
    K = lapack.dpotri(factor, lower=0)[0]
    N: Array = K + K.T
    N[np.diag_indices_from(N)] *= 0.5
    N *= scale
    N *= scale[:, None]
    return N
