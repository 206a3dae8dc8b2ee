"""Sandwich covariance over PSUs inside strata."""

from __future__ import annotations

from pmwmix._types import Array
from pmwmix.variance._base import VARIANCES, VarianceInput, between_psu, inverse_along


def robust(given: VarianceInput, corrected: bool = True) -> Array:
    """A⁻¹BA⁻¹ over all parameters at once, as GLLAMM reports (theory, eq. 20).

    Parameters
    ----------
    given : VarianceInput
    corrected : bool
        With the factor n_h / (n_h - 1).

    Returns
    -------
    ndarray, shape (P, P)
    """
    bread = inverse_along(given.information, given.basis)
    return bread @ between_psu(given, corrected) @ bread


def robust_block(given: VarianceInput, corrected: bool = True) -> Array:
    """A⁻¹BA⁻¹ with A block-diagonal between coefficients and variances, as WeMix and Stata mixed (theory, eq. 21).

    Parameters
    ----------
    given : VarianceInput
    corrected : bool
        With the factor n_h / (n_h - 1).

    Returns
    -------
    ndarray, shape (P, P)
    """
    A = given.information.copy()
    A[: given.p, given.p :] = A[given.p :, : given.p] = 0.0
    bread = inverse_along(A, given.basis)
    return bread @ between_psu(given, corrected) @ bread


VARIANCES.add("robust", robust)
VARIANCES.add("robust-block", robust_block)
