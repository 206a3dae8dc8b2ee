"""The registry of variance methods and what each of them gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmwmix._registry import Registry

Array = np.ndarray
VARIANCES = Registry("variance method")


@dataclass(frozen=True)
class VarianceInput:
    """What a variance method may use.

    Parameters
    ----------
    information : ndarray, shape (P, P)
        Negative Hessian of the joint pseudo-log-likelihood in (beta, theta, log sigma).
    scores : ndarray, shape (G, P), or None
        Weighted gradient of every top-level unit; None if the method needs none.
    p : int
        Number of coefficients beta, which come first.
    free : ndarray of bool, shape (P,)
        False for parameters on the boundary, which are held fixed.
    psu : ndarray of int, shape (G,)
        PSU of every top-level unit.
    stratum : ndarray of int, shape (n_psu,)
    """

    information: Array
    scores: Array | None
    p: int
    free: Array
    psu: Array
    stratum: Array


def free_inverse(A: Array, free: Array) -> Array:
    """Invert the free part of a symmetric matrix; rows and columns of fixed parameters are zero.

    Directions without curvature (not identified) get no variance from here: a pseudo-inverse is taken.
    """
    out = np.zeros_like(A)
    if not free.any():
        return out
    part = A[np.ix_(free, free)]
    scale = np.sqrt(np.maximum(np.abs(np.diag(part)), 1e-300))
    scaled = part / np.outer(scale, scale)
    values, vectors = np.linalg.eigh(0.5 * (scaled + scaled.T))
    kept = np.abs(values) > 1e-10 * np.abs(values).max()
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / np.outer(scale, scale)
    out[np.ix_(free, free)] = inverse
    return out
