"""The pseudo-posterior's spread corrected to the sandwich covariance. Numpy only.

Sampling weights make the pseudo-likelihood a sum of terms that count more or less than once, so that its curvature
does not measure the uncertainty of the estimates. Williams & Savitsky (2021) map the draws linearly about their mean so
that their covariance becomes the sandwich's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.judge import SINGULAR_TOL
from pmwmix.likelihood.layout import semidefinite_cholesky
from pmwmix.sample.model.coordinates import from_free, jacobian, limits, to_free
from pmwmix.sample.model.target import Target

LOOSE = 1.0  # on the scale of log standard deviations and Fisher's z of partial correlations


@dataclass(frozen=True)
class Correction:
    """The linear map and where it acts.

    Parameters
    ----------
    matrix : ndarray, shape (P, P)
        Maps deviations from the mean; on the coordinates of `coordinates.to_free`.
    held : ndarray of bool, shape (P,)
        Coordinates that stay as they are: of variances and correlations whose ML estimate is on the boundary, or so
        close that the curvature there gives them a standard error above `LOOSE`.
    """

    matrix: Array
    held: Array


def correction_of(target: Target) -> Correction | None:
    """Work out the map R2⁻¹R1 of Williams & Savitsky (2021, section 3) at the ML estimate.

    Parameters
    ----------
    target : Target
        With its ``robust`` covariance.

    Returns
    -------
    Correction or None
        None if the curvature at the estimate is not positive definite.

    Notes
    -----
    With H the negative Hessian and V the sandwich, R1'R1 = V and R2'R2 = H⁻¹; deviations are multiplied by R2⁻¹R1.
    """
    assert target.robust is not None
    P, part = len(target.ml), slice(target.p, target.p + target.n_theta)
    theta = target.ml[part]
    held = np.zeros(P, dtype=bool)
    held[part] = limits(target.layout, theta, SINGULAR_TOL)
    slope = np.eye(P)  # d parameter / d coordinate
    slope[part, part] = jacobian(target.layout, np.clip(to_free(target.layout, theta), -300.0, 300.0))
    held[part] |= _loose(slope.T @ target.information @ slope, ~held)[part]
    free = ~held
    H = (slope.T @ target.information @ slope)[np.ix_(free, free)]
    inverse_slope = np.linalg.pinv(slope[:, free])
    V = inverse_slope @ target.robust @ inverse_slope.T
    scale = np.sqrt(np.maximum(np.diag(H), 1e-300))
    values, vectors = np.linalg.eigh(H / np.outer(scale, scale))
    if not np.isfinite(V).all() or values.min() < 1e-8:
        return None
    inverse = (vectors / values) @ vectors.T / np.outer(scale, scale)
    lower = semidefinite_cholesky(V)
    matrix = np.eye(P)
    matrix[np.ix_(free, free)] = np.linalg.solve(np.linalg.cholesky(inverse).T, lower.T)
    return Correction(matrix, held)


def _loose(H: Array, free: Array) -> Array:
    """Mark coordinates whose standard error by the curvature exceeds `LOOSE` (P,).

    Near a correlation of one or a variance of zero the curvature at the maximum says nothing about the draws.
    """
    out = np.zeros(len(H), dtype=bool)
    try:
        variance = np.diag(np.linalg.inv(H[np.ix_(free, free)]))
    except np.linalg.LinAlgError:
        return out
    out[free] = (variance > LOOSE**2) | (variance < 0.0)
    return out


def corrected(target: Target, correction: Correction, psi: Array) -> Array:
    """Apply the map to draws.

    Parameters
    ----------
    target : Target
    correction : Correction
    psi : ndarray, shape (chain, draw, P)
        (beta, theta, phi) on the standardised scale.

    Returns
    -------
    ndarray, shape (chain, draw, P)
    """
    part, n = slice(target.p, target.p + target.n_theta), len(target.ml)
    c = np.array(psi[..., :n])
    c[..., part] = to_free(target.layout, psi[..., part])
    centre = c.mean(axis=(0, 1))
    c = centre + (c - centre) @ correction.matrix
    c[..., part] = from_free(target.layout, c[..., part])
    return np.concatenate([c, psi[..., n:]], axis=-1)  # effects that were sampled are whitened: they stay


__all__ = ["Correction", "corrected", "correction_of"]
