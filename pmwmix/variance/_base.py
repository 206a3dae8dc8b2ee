"""The registry of variance methods and what each of them gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmwmix._registry import Registry
from pmwmix._types import Array
from pmwmix.likelihood.crossed.onethread import with_threads_for

VARIANCES = Registry("variance method")
LARGE = 100_000  # numbers from which on BLAS would start threads for a product
ALWAYS_CUT = frozenset({"robust-block", "hlm"})  # the information falls into blocks in generalised models too


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
        Number of coefficients beta, which come first; that of all parameters where the likelihood is integrated and
        the method, not in `ALWAYS_CUT`, takes the information whole there.
    basis : ndarray, shape (P, r)
        Orthonormal directions in which the parameters can move: those on the boundary are held fixed, and directions
        that the data do not identify are left out.
    psu : ndarray of int, shape (G,)
        PSU of every top-level unit.
    stratum : ndarray of int, shape (n_psu,)
    fraction : ndarray, shape (n_strata,), optional
        Sampled share of the PSUs of each stratum.
    lonely : str
        Rule for strata with one PSU.
    ways : tuple of ndarray of int, each (G,)
        Unit of every row and crossed factor, where ``scores`` are those of rows, for clustering by several factors.
    """

    information: Array
    scores: Array | None
    p: int
    basis: Array
    psu: Array
    stratum: Array
    fraction: Array | None = None
    lonely: str = "certainty"
    ways: tuple[Array, ...] = ()


def between_psu(given: VarianceInput, corrected: bool = True) -> Array:
    """Covariance of the scores of a `VarianceInput` between PSUs (P, P), with n_h/(n_h-1) or without."""
    assert given.scores is not None
    return meat(given.scores, given.psu, given.stratum, given.fraction, given.lonely, corrected)


def inverse_along(A: Array, basis: Array) -> Array:
    """Invert a symmetric matrix in the directions that are free and identified; zero in all others.

    Parameters
    ----------
    A : ndarray, shape (P, P)
    basis : ndarray, shape (P, r)
        Orthonormal columns.

    Returns
    -------
    ndarray, shape (P, P)
        T (T'AT)⁻¹ T'; NaN where that does not exist.
    """
    part = basis.T @ A @ basis
    scale = np.sqrt(np.maximum(np.abs(np.diag(part)), 1e-300))
    try:
        inverse = np.linalg.inv(part / np.outer(scale, scale)) / np.outer(scale, scale)
    except np.linalg.LinAlgError:  # coefficients on their way to infinity, of which nothing is known
        return np.full_like(A, np.nan)
    return basis @ (0.5 * (inverse + inverse.T)) @ basis.T


def meat(
    scores: Array,
    psu: Array,
    stratum: Array,
    fraction: Array | None = None,
    lonely: str = "certainty",
    corrected: bool = True,
) -> Array:
    """Between-PSU covariance of the scores, B = Σ_h n_h/(n_h-1) Σ_k (s_hk - s̄_h)(s_hk - s̄_h)' (theory, eq. 19).

    Parameters
    ----------
    scores : ndarray, shape (G, P)
    psu : ndarray of int, shape (G,)
    stratum : ndarray of int, shape (n_psu,)
    fraction : ndarray, shape (n_strata,), optional
        Sampled share of each stratum's PSUs: its part of B is multiplied by 1 - fraction.
    lonely : {"certainty", "centre", "average"}
        What a stratum with one PSU adds: nothing; its square about the mean over all PSUs; or the average of the other
        strata.
    corrected : bool
        False leaves the factor n_h/(n_h-1) out.

    Returns
    -------
    ndarray, shape (P, P)
    """
    n_psu, n_strata = len(stratum), int(stratum.max()) + 1
    totals = np.array([np.bincount(psu, column, minlength=n_psu) for column in scores.T]).T
    n = np.bincount(stratum, minlength=n_strata)
    means = np.array([np.bincount(stratum, column, minlength=n_strata) for column in totals.T]).T / n[:, None]
    alone = n == 1
    centre = np.where(alone[:, None], totals.mean(axis=0) if lonely == "centre" else means, means)
    centred = totals - centre[stratum]
    factor = np.where(alone, 1.0, n / np.maximum(n - 1.0, 1.0)) if corrected else np.ones(n_strata)
    if fraction is not None:
        factor = factor * (1.0 - fraction)
    weighted = (centred * factor[stratum][:, None]).T
    B = with_threads_for(len(weighted), np.matmul, weighted, centred) if centred.size > LARGE else weighted @ centred
    return B * (n_strata / (n_strata - alone.sum())) if lonely == "average" and not alone.all() else B
