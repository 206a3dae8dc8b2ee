"""Sandwich covariance over PSUs inside strata."""

from __future__ import annotations

from pmwmix._types import Array
from pmwmix.variance._base import VARIANCES, VarianceInput, between_psu, inverse_along


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
    bread = inverse_along(given.information, given.basis)
    return bread @ between_psu(given) @ bread


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
    bread = inverse_along(A, given.basis)
    return bread @ between_psu(given) @ bread


VARIANCES.add("robust", robust)
VARIANCES.add("robust-block", robust_block)
