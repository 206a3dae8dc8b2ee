"""Joint tests with a covariance that was itself estimated, from as many units as there are clusters."""

from __future__ import annotations

import warnings

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import PmwmixWarning
from pmwmix.pooling.rubin import RANK_TOL


def shrinkage(covariance: Array, df: float, source: str) -> tuple[float, float]:
    """Give the factor and the denominator of an F test of k contrasts under an estimated covariance.

    Parameters
    ----------
    covariance : ndarray, shape (k, k)
        Of independent contrasts.
    df : float
        Degrees of freedom that it was estimated from: d.
    source : str
        Where it comes from, for the warning.

    Returns
    -------
    float, float
        (d - k + 1) / d and d - k + 1, with which W / k times the first is F with k and d - k + 1 degrees of freedom
        (Korn and Graubard 1990); NaN and 0 where none are left or the covariance has not full rank.

    Warns
    -----
    PmwmixWarning
        If there is no test.

    References
    ----------
    .. [1] Korn, E. L. & Graubard, B. I. (1990). Simultaneous testing of regression coefficients with complex survey
       data: use of Bonferroni t statistics. The American Statistician, 44(4), 270-276.
    """
    k, left = len(covariance), df - len(covariance) + 1.0
    size = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    rank = int(np.linalg.matrix_rank(covariance / np.outer(size, size), tol=RANK_TOL * k, hermitian=True))
    if rank == k and left > 0:
        return (left / df if np.isfinite(df) else 1.0), left
    warnings.warn(
        f"{k} contrasts cannot be tested together. Their covariance ({source}) has rank {rank} and was estimated from "
        f"{df:.3g} degrees of freedom, of which {k} contrasts leave none. Test fewer of them at once.",
        PmwmixWarning,
        stacklevel=3,
    )
    return np.nan, 0.0
