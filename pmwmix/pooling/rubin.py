"""Rubin's rules with design degrees of freedom, and their tests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, fdtrc

from pmwmix._types import Array
from pmwmix.pooling._base import POOLINGS, Pooled

RANK_TOL = 1e-8


class FTest(NamedTuple):
    """F statistic, its degrees of freedom and p-value."""

    statistic: float
    df1: float
    df2: float
    p_value: float


ROUNDING = 1e-24  # of the total variance: what is left between equal values


def rubin(values: Array, variances: Array, df_complete: float | Array = np.inf) -> Pooled:
    """Pool K fits of the same model that are exchangeable.

    Parameters
    ----------
    values : ndarray, shape (K, P)
    variances : ndarray, shape (K, P, P) or (K, P)
        Covariances, or variances of numbers that are pooled one by one.
    df_complete : float or ndarray
        Degrees of freedom of one fit: clusters minus strata under a robust variance.

    Returns
    -------
    Pooled

    Notes
    -----
    Barnard, J. & Rubin, D. B. (1999). Small-sample degrees of freedom with multiple imputation. Biometrika, 86(4),
    948-955. Identical fits give back the single fit with its own degrees of freedom.
    """
    K, together = len(values), variances.ndim > values.ndim
    estimate, within = values.mean(axis=0), variances.mean(axis=0)
    if K == 1:
        between = np.zeros_like(within)
    elif together:
        centred = values - estimate
        between = centred.T @ centred / (K - 1)
    else:
        between = values.var(axis=0, ddof=1)
    vcov = within + (1.0 + 1.0 / K) * between
    total, added = (np.diag(V) if together else V for V in (vcov, (1.0 + 1.0 / K) * between))
    share = np.divide(added, total, out=np.zeros(total.shape), where=total > 0)
    df = barnard_rubin(share, K, df_complete)
    return Pooled(estimate, vcov, within, between, missing_share(share, df), df)


def missing_share(share: Array, df: Array) -> Array:
    """Fraction of missing information from the between-share of the variance (theory, eq. 25)."""
    fmi = np.where(share > ROUNDING, share + (1.0 - share) * 2.0 / (df + 3.0), 0.0)  # rounding alone lacks nothing
    return np.where(np.isfinite(fmi), fmi, 1.0)


def barnard_rubin(share: Array, K: int, df_complete: float | Array) -> Array:
    """Degrees of freedom from the between-share of the variance, lambda = (1 + 1/K) B / T (theory, eq. 24)."""
    share = np.asarray(share, dtype=float)
    complete = np.broadcast_to(np.asarray(df_complete, dtype=float), share.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        old = np.where(share > 1e-12, (K - 1) / share**2, np.inf) if K > 1 else np.full(share.shape, np.inf)
        pooled = 1.0 / (1.0 / old + 1.0 / observed_df(share, complete))
    return np.where(share > 1e-12, pooled, complete)


def observed_df(share: Array, complete: Array) -> Array:
    """Degrees of freedom of one fit of which a share of the information is missing (theory, eq. 24)."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(complete), np.inf, (complete + 1) / (complete + 3) * complete * (1 - share))


def pooled_wald(
    value: Array, within: Array, between: Array, K: int, df_complete: float = np.inf
) -> tuple[float, float]:
    """Test that k combinations are zero, pooled over K fits: D1 (theory, eq. 34).

    Parameters
    ----------
    value : ndarray, shape (k,)
        Pooled estimates of the combinations.
    within, between : ndarray, shape (k, k)
        Mean covariance, and covariance between fits.
    K : int
    df_complete : float
        Degrees of freedom of one fit.

    Returns
    -------
    float, float
        F statistic and its denominator degrees of freedom.

    Notes
    -----
    Li, K. H., Raghunathan, T. E. & Rubin, D. B. (1991). Large-sample significance levels from multiply imputed data
    using moment-based statistics and an F reference distribution. J. Am. Stat. Assoc., 86, 1065-1073. The complete-data
    degrees of freedom bound the result as in Barnard & Rubin (1999).
    """
    k = int(np.linalg.matrix_rank(within))
    inverse = np.linalg.pinv(within, hermitian=True)
    r = (1.0 + 1.0 / K) * float(np.trace(between @ inverse)) / k
    F = float(value @ inverse @ value) / (k * (1.0 + r))
    t = k * (K - 1)
    if r < 1e-12:
        return F, df_complete
    old = 4 + (t - 4) * (1 + (1 - 2 / t) / r) ** 2 if t > 4 else 0.5 * t * (1 + 1 / k) * (1 + 1 / r) ** 2
    if np.isinf(df_complete):
        return F, old
    observed = (df_complete + 1) / (df_complete + 3) * df_complete / (1 + r)
    return F, 1.0 / (1.0 / old + 1.0 / observed)


def independent(L: Array, scale: Array) -> Array:
    """Turn contrasts (r, p) into independent ones of the same hypothesis, ``scale`` (p,) the parameters' units."""
    unit = np.where(scale > 0, scale, 1.0)
    _, s, Vt = np.linalg.svd(L * unit, full_matrices=False)
    return Vt[s > 1e-10 * s[0]] / unit


def pooled_statistic(each: Array, df: int) -> tuple[float, float, float]:
    """Pool K chi-square statistics: D2 of Li, Meng, Raghunathan & Rubin (1991) (theory, eq. 32).

    Parameters
    ----------
    each : ndarray, shape (K,)
    df : int

    Returns
    -------
    float, float, float
        The pooled statistic on the chi-square scale, its denominator degrees of freedom, and its p-value from the F
        distribution.
    """
    K = len(each)
    d = np.maximum(each, 0.0)
    r = (1 + 1 / K) * float(np.var(np.sqrt(d), ddof=1))
    F = max((d.mean() / df - (K + 1) / (K - 1) * r) / (1 + r), 0.0)
    if r < 1e-12:
        return df * F, np.inf, float(chdtrc(df, df * F))
    df2 = df ** (-3 / K) * (K - 1) * (1 + 1 / r) ** 2
    return df * F, df2, float(fdtrc(df, df2, F))


def pooled_f(estimates: Array, vcovs: Array, df: float) -> FTest:
    """Wald test that all of m parameters are zero, pooled over K fits (Li, Raghunathan & Rubin; effects, eqs. 21-22).

    Parameters
    ----------
    estimates : ndarray, shape (K, m)
    vcovs : ndarray, shape (K, m, m)
    df : float
        Degrees of freedom d that the covariance of one fit was estimated from. The smaller of d - m + 1 and Li,
        Raghunathan and Rubin's is used, F being multiplied by (d - m + 1) / d.

    Returns
    -------
    FTest
        NaN where the covariance lacks rank because it was estimated from too few degrees of freedom.

    References
    ----------
    .. [1] Li, Raghunathan & Rubin (1991). J. American Statistical Association, 86(416), 1065-1073.
       doi:10.1080/01621459.1991.10475152
    """
    K = len(estimates)
    mean, within = estimates.mean(axis=0), vcovs.mean(axis=0)
    scale = np.sqrt(np.diag(within))
    free = scale > 0
    mean, within = mean[free] / scale[free], within[np.ix_(free, free)] / np.outer(scale[free], scale[free])
    inverse = np.linalg.pinv(within, rcond=RANK_TOL, hermitian=True)
    m = int(np.linalg.matrix_rank(within, tol=RANK_TOL * len(within), hermitian=True)) if free.any() else 0
    left = float(df) - m + 1.0
    if m == 0 or left <= 0 or df <= m < free.sum():
        return FTest(np.nan, float(m), max(left, 0.0), np.nan)
    r = 0.0
    if K > 1:
        between = np.cov((estimates[:, free] / scale[free]).T, ddof=1).reshape(within.shape)
        r = (1 + 1 / K) * float(np.sum(between * inverse)) / m
    F = float(mean @ inverse @ mean) / (m * (1 + r))
    F *= left / df if np.isfinite(df) else 1.0
    df2, t = left, m * (K - 1)
    if r > 0:
        many = 4 + (t - 4) * (1 + (1 - 2 / t) / r) ** 2
        df2 = min(df2, many if t > 4 else t * (1 + 1 / m) * (1 + 1 / r) ** 2 / 2)
    return FTest(F, float(m), df2, float(fdtrc(m, min(df2, 1e10), F)))


POOLINGS.add("rubin", rubin)
