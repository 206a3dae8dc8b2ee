"""Bootstrap intervals: percentile, basic, bias-corrected accelerated, and by the t distribution; numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from pmwmix._types import Array
from pmwmix.pooling import pool

METHODS = ("percentile", "basic", "bca", "t")
LINEAR, LOG, FISHER = 0, 1, 2  # scales on which errors are symmetric: as it is, of deviations, of correlations


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


def t_ends(
    draws: list[Array], centres: Array, scales: Array, df: Array, nests: Any, widen: float, ci_prob: float
) -> Array:
    """Give the ends (2, m) of estimate plus and minus multiples of t of bootstrap errors (bootstrap, eqs. 11-12).

    Parameters
    ----------
    draws : list of ndarray, each (n, m)
        Of every plausible value.
    centres : ndarray, shape (K, m)
    scales : ndarray of int, shape (m,)
        `LINEAR`, `LOG` or `FISHER`; numbers with a refit at the end of their range stay as they are.
    df : ndarray, shape (m,)
        Degrees of freedom of one fit.
    nests : as in `pool`
    widen : float
        Factor of the errors.
    ci_prob : float
    """
    out = np.empty((2, len(scales)))
    for j, scale in enumerate(scales):
        columns, centre = [one[:, j] for one in draws], centres[:, j]
        there, back = _at_scale(int(scale), [centre, *columns])
        variances = np.array([[widen**2 * np.nanvar(there(one), ddof=1)] for one in columns])
        pooled = pool(there(centre)[:, None], variances, float(df[j]), nests)
        half = stdtrit(min(float(pooled.df[0]), 1e10), 0.5 + ci_prob / 2) * np.sqrt(pooled.vcov[0])
        out[:, j] = back(pooled.estimate[0] + half * np.array([-1.0, 1.0]))
    return out


def scale_of(low: float, high: float) -> int:
    """Choose the scale on which a number with this range is nearly normal."""
    return LOG if (low, high) == (0.0, np.inf) else FISHER if (low, high) == (-1.0, 1.0) else LINEAR


def _at_scale(scale: int, values: list[Array]) -> tuple[Any, Any]:
    """Give the way to a scale and back, that of the numbers themselves where one is at the end of its range."""
    known = np.concatenate([one[np.isfinite(one)] for one in values])
    if scale == LOG and (known > 0).all():
        return np.log, np.exp
    if scale == FISHER and (np.abs(known) < 1).all():
        return np.arctanh, np.tanh
    low, high = (0.0, np.inf) if scale == LOG else (-1.0, 1.0) if scale == FISHER else (-np.inf, np.inf)
    return np.asarray, lambda ends: np.clip(ends, low, high)
