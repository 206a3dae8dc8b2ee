"""Bootstrap intervals: percentile, basic, and bias-corrected accelerated; numpy only."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from pmwmix._types import Array

METHODS = ("percentile", "basic", "bca")


def percentile(draws: Array, ci_prob: float) -> Array:
    """Give the quantiles of the draws (n, m): low and high ends (2, m) (bootstrap, eq. 5)."""
    return np.nanquantile(draws, [(1 - ci_prob) / 2, (1 + ci_prob) / 2], axis=0)


def basic(draws: Array, estimate: Array, ci_prob: float) -> Array:
    """Mirror the quantiles of the draws (n, m) at the estimate (m,): ends (2, m) (bootstrap, eq. 6)."""
    return 2 * estimate - percentile(draws, ci_prob)[::-1]


def bca(draws: Array, estimate: Array, acceleration: Array, ci_prob: float) -> Array:
    """Give the ends (2, m) of Efron's intervals, corrected for bias and for a changing variance (bootstrap, eq. 7).

    Parameters
    ----------
    draws : ndarray, shape (n, m)
    estimate, acceleration : ndarray, shape (m,)
    ci_prob : float

    Notes
    -----
    NaN where all draws are on one side of the estimate.

    References
    ----------
    .. [1] Efron, B. (1987). Better bootstrap confidence intervals. J. Am. Stat. Assoc., 82(397), 171-185.
       doi:10.1080/01621459.1987.10478410
    """
    out = np.full((2, draws.shape[1]), np.nan)
    for j, (column, centre, a) in enumerate(zip(draws.T, estimate, acceleration, strict=True)):
        used = column[np.isfinite(column)]
        below = (np.mean(used < centre) + np.mean(used <= centre)) / 2 if len(used) else 0.0
        if not 0 < below < 1 or not np.isfinite(a):
            continue
        bias = ndtri(below)
        z = bias + ndtri([(1 - ci_prob) / 2, (1 + ci_prob) / 2])
        out[:, j] = np.quantile(used, ndtr(bias + z / (1 - a * z)))
    return out


def acceleration_of(influence: Array) -> Array:
    """Acceleration (m,) from the influence (G, m) of every unit: a sixth of their skewness (bootstrap, eq. 8)."""
    size = np.sum(influence**2, axis=0)
    return np.divide(np.sum(influence**3, axis=0), 6 * size**1.5, out=np.zeros(len(size)), where=size > 0)
