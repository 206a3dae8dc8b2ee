"""Correlated residuals of gaussian outcomes, some of which a row may lack.

With parameters log a_1, ..., log a_g and c_kl, l < k, the residual covariance matrix is A A' with a_kk = a_k and
a_kl = a_k c_kl: any matrix, without bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.links._curves import bounded_exp


def n_pairs(g: int) -> int:
    """Count pairs of outcomes."""
    return g * (g - 1) // 2


def linear_density(gaps: Sequence[tuple[Any, Any]], logs: Sequence[Any], ratios: Sequence[Any]) -> Any:
    """Log-density of the residuals that a row has, without log(2 pi) / 2 each, symbolic.

    Gaussian elimination, in every row of the outcomes that it has: they are swept out of the covariance matrix one
    after the other, an outcome that is missing leaves it as it is.

    Parameters
    ----------
    gaps : sequence of (seen, residual)
        Of every outcome: 1 where a row has it, else 0; outcome minus linear predictor.
    logs : sequence
        log a_k of every outcome.
    ratios : sequence
        c_kl row by row.
    """
    S, r = _products(logs, ratios), [gap for _, gap in gaps]
    total: Any = 0.0
    for k, (seen, _) in enumerate(gaps):
        pivot = S[k][k]
        total = total - 0.5 * seen * (pt.log(pivot) + r[k] * r[k] / pivot)
        for i in range(k + 1, len(gaps)):
            share = seen * S[i][k] / pivot
            r[i] = r[i] - share * r[k]
            for j in range(k + 1, i + 1):
                S[i][j] = S[i][j] - share * S[j][k]
    return total


def _products(logs: Sequence[Any], ratios: Sequence[Any]) -> list[list[Any]]:
    """Lower triangle of A A'."""
    g, rest = len(logs), iter(ratios)
    a = [bounded_exp(one) for one in logs]
    A = [[*(a[k] * next(rest) for _ in range(k)), a[k]] for k in range(g)]
    return [[sum((A[i][m] * A[j][m] for m in range(j + 1)), 0.0) for j in range(i + 1)] for i in range(g)]


def root(phi: Array, g: int) -> Array:
    """Give A (g, g) of log a_k and c_kl."""
    out, a = np.zeros((g, g)), np.exp(phi[:g])
    out[np.tril_indices(g, -1)] = phi[g:]
    np.fill_diagonal(out, 1.0)
    return a[:, None] * out


def covariance(phi: Array, g: int) -> Array:
    """Residual covariance matrix (g, g)."""
    A = root(phi, g)
    return A @ A.T


def reported_pairs(names: Sequence[str], phi: Array) -> tuple[dict[str, float], Array]:
    """Give the residual standard deviations and correlations of outcomes, and their Jacobian in log a_k, c_kl."""
    g = len(names)
    pairs = [(i, j) for i in range(g) for j in range(i)]
    A = root(phi, g)
    S = A @ A.T
    sd = np.sqrt(np.diag(S))
    by = np.zeros((len(phi), g, g))
    for k in range(g):
        by[k, k] = A[k]
    for place, (i, j) in enumerate(pairs, start=g):
        by[place, i, j] = np.exp(phi[i])
    dS = by @ A.T + np.swapaxes(by @ A.T, 1, 2)
    named = {f"{name}.sigma": float(sd[k]) for k, name in enumerate(names)}
    named |= {f"cor({names[j]}, {names[i]})": float(S[i, j] / (sd[i] * sd[j])) for i, j in pairs}
    of_sd = [dS[:, k, k] / (2.0 * sd[k]) for k in range(g)]
    of_cor = [
        dS[:, i, j] / (sd[i] * sd[j]) - S[i, j] / (sd[i] * sd[j]) * (of_sd[i] / sd[i] + of_sd[j] / sd[j])
        for i, j in pairs
    ]
    return named, np.array([*of_sd, *of_cor])
