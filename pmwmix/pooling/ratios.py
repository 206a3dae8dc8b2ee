"""Likelihood ratios of several imputations combined: D3 of Meng and Rubin, D4 of Chan and Meng."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc, fdtrc

RATIOS = ("D2", "D3", "D4")


def pooled_ratio(mean: float, pooled: float, K: int, df: int, rule: str) -> tuple[float, float, float]:
    """Pool likelihood-ratio statistics of K imputations by the likelihoods themselves (imputations, eqs. 14-17).

    Parameters
    ----------
    mean : float
        Mean of the K statistics.
    pooled : float
        The statistic at parameters that all imputations share: D3 the mean of the K statistics at the means of the
        estimates, D4 the statistic of the mean log-likelihood, each model at its maximum.
    K : int
    df : int
    rule : {"D3", "D4"}

    Returns
    -------
    float, float, float
        The pooled statistic on the chi-square scale, its denominator degrees of freedom, and its p-value.

    Notes
    -----
    A relative increase of variance below zero, which chance can make, counts as zero.

    References
    ----------
    .. [1] Meng, X.-L. & Rubin, D. B. (1992). Performing likelihood ratio tests with multiply-imputed data sets.
       Biometrika, 79(1), 103-111. doi:10.1093/biomet/79.1.103
    .. [2] Chan, K. W. & Meng, X.-L. (2022). Multiple improvements of multiple imputation likelihood ratio tests.
       Statistica Sinica, 32, 1489-1514. doi:10.5705/ss.202019.0314
    """
    t = df * (K - 1)
    r = max((K + 1) / t * (mean - pooled), 0.0)
    F = max(pooled / (df * (1 + r)), 0.0)
    if r < 1e-12:
        return df * F, np.inf, float(chdtrc(df, df * F))
    if rule == "D4":
        df2 = t * (1 + 1 / r) ** 2
    else:
        df2 = 4 + (t - 4) * (1 + (1 - 2 / t) / r) ** 2 if t > 4 else t * (1 + 1 / df) * (1 + 1 / r) ** 2 / 2
    return df * F, df2, float(fdtrc(df, df2, F))
