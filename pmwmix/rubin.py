"""Rubin's rules with design degrees of freedom. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Pooled:
    """Pooled estimates of P parameters over K fits (EdSurvey methods, eqs. 6-8; theory, eqs. 22-25).

    Parameters
    ----------
    estimate : ndarray, shape (P,)
    vcov : ndarray, shape (P, P)
        Total covariance, V̄ + (1 + 1/K) B.
    within, between : ndarray, shape (P, P)
        Mean of the covariances, and covariance of the estimates between fits (without 1 + 1/K).
    fmi : ndarray, shape (P,)
        Fraction of missing information, (r + 2/(df + 3)) / (r + 1).
    df : ndarray, shape (P,)
        Barnard-Rubin degrees of freedom.
    """

    estimate: Array
    vcov: Array
    within: Array
    between: Array
    fmi: Array
    df: Array


def rubin(estimates: Array, vcovs: Array, df_complete: float = np.inf) -> Pooled:
    """Pool K fits of the same model.

    Parameters
    ----------
    estimates : ndarray, shape (K, P)
    vcovs : ndarray, shape (K, P, P)
    df_complete : float
        Degrees of freedom of one fit: clusters minus strata under a robust variance.

    Returns
    -------
    Pooled

    Notes
    -----
    Barnard, J. & Rubin, D. B. (1999). Small-sample degrees of freedom with multiple imputation. Biometrika, 86(4),
    948-955. Identical fits give back the single fit with its own degrees of freedom.
    """
    K, P = estimates.shape
    estimate = estimates.mean(axis=0)
    within = vcovs.mean(axis=0)
    centred = estimates - estimate
    between = centred.T @ centred / (K - 1) if K > 1 else np.zeros((P, P))
    vcov = within + (1.0 + 1.0 / K) * between
    added = (1.0 + 1.0 / K) * np.diag(between)
    total = np.diag(vcov)
    share = np.divide(added, total, out=np.zeros(P), where=total > 0)
    df = barnard_rubin(share, K, df_complete)
    ratio = np.divide(share, 1.0 - share, out=np.full(P, np.inf), where=share < 1)
    fmi = np.where(share > 0, (ratio + 2.0 / (df + 3.0)) / (ratio + 1.0), 0.0)
    return Pooled(estimate, vcov, within, between, np.where(np.isfinite(fmi), fmi, 1.0), df)


def barnard_rubin(share: Array, K: int, df_complete: float | Array) -> Array:
    """Degrees of freedom from the between-share of the variance, lambda = (1 + 1/K) B / T (theory, eq. 24)."""
    share = np.asarray(share, dtype=float)
    complete = np.broadcast_to(np.asarray(df_complete, dtype=float), share.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        old = np.where(share > 1e-12, (K - 1) / share**2, np.inf) if K > 1 else np.full(share.shape, np.inf)
        observed = np.where(np.isinf(complete), np.inf, (complete + 1) / (complete + 3) * complete * (1 - share))
        pooled = 1.0 / (1.0 / old + 1.0 / observed)
    return np.where(share > 1e-12, pooled, complete)
