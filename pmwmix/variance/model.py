"""Model-based covariance: the inverse information."""

from __future__ import annotations

from pmwmix._types import Array
from pmwmix.variance._base import VARIANCES, VarianceInput, inverse_along


def model(given: VarianceInput) -> Array:
    """Invert the information, coefficients and variance parameters apart, as lme4 and WeMix print it (theory, eq. 18).

    Parameters
    ----------
    given : VarianceInput

    Returns
    -------
    ndarray, shape (P, P)

    Notes
    -----
    The expected information has no block between the two, so the block of the coefficients is (X'V⁻¹X)⁻¹ σ².
    """
    A = given.information.copy()
    A[: given.p, given.p :] = A[given.p :, : given.p] = 0.0
    return inverse_along(A, given.basis)


VARIANCES.add("model", model)
