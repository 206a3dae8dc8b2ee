"""Sandwich covariance over PSUs inside strata."""

from __future__ import annotations

import numpy as np

from pmwmix.variance._base import VARIANCES, Array, VarianceInput, inverse_along


def meat(scores: Array, psu: Array, stratum: Array) -> Array:
    """Between-PSU covariance of the scores, B = Σ_h n_h/(n_h-1) Σ_k (s_hk - s̄_h)(s_hk - s̄_h)' (theory, eq. 19).

    Parameters
    ----------
    scores : ndarray, shape (G, P)
    psu : ndarray of int, shape (G,)
    stratum : ndarray of int, shape (n_psu,)

    Returns
    -------
    ndarray, shape (P, P)
    """
    n_psu, n_strata = len(stratum), int(stratum.max()) + 1
    totals = np.array([np.bincount(psu, column, minlength=n_psu) for column in scores.T]).T
    n = np.bincount(stratum, minlength=n_strata)
    means = np.array([np.bincount(stratum, column, minlength=n_strata) for column in totals.T]).T / n[:, None]
    centred = totals - means[stratum]
    return (centred * (n / (n - 1.0))[stratum][:, None]).T @ centred


def robust(given: VarianceInput) -> Array:
    """A⁻¹BA⁻¹ over all parameters at once, as GLLAMM reports (theory, eq. 20).

    Parameters
    ----------
    given : VarianceInput

    Returns
    -------
    ndarray, shape (P, P)

    Notes
    -----
    SAS GLIMMIX and Mplus print the same without the factor n_h / (n_h - 1).
    """
    assert given.scores is not None
    bread = inverse_along(given.information, given.basis)
    return bread @ meat(given.scores, given.psu, given.stratum) @ bread


def robust_block(given: VarianceInput) -> Array:
    """A⁻¹BA⁻¹ with A block-diagonal between coefficients and variances, as WeMix and Stata mixed (theory, eq. 21).

    Parameters
    ----------
    given : VarianceInput

    Returns
    -------
    ndarray, shape (P, P)
    """
    A = given.information.copy()
    A[: given.p, given.p :] = A[given.p :, : given.p] = 0.0
    assert given.scores is not None
    bread = inverse_along(A, given.basis)
    return bread @ meat(given.scores, given.psu, given.stratum) @ bread


VARIANCES.add("robust", robust)
VARIANCES.add("robust-block", robust_block)
