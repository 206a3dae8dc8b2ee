"""Coefficients of a linear model without each cluster in turn. Equations are those of docs/influence.md."""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.clusterrows import standardised_rows, sums_of
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.fewclusters import batches
from pmwmix.fitting.problem import Problem
from pmwmix.frame.modelframe import DesignColumns, ModelFrame

ALONE = 1e-9  # share of the information of a coefficient without a cluster from which on it is estimated


def left_out(
    problem: Problem, frame: ModelFrame, design: DesignColumns, k: int, fit: Estimate
) -> tuple[Array, Array, Array]:
    """Coefficients without each cluster in turn, the variance components held (influence, eqs. 1-2).

    Parameters
    ----------
    problem, frame, design, k, fit
        As in `small_sample`.

    Returns
    -------
    change : ndarray, shape (J, p)
        Coefficients of all clusters less those without cluster j, on the raw scale; NaN where a coefficient has no
        estimate without it.
    leverage : ndarray, shape (J,)
        Traces of the clusters' blocks of the hat matrix; they add to p.
    n : ndarray of int, shape (J,)
        Rows of every cluster.
    """
    rows = standardised_rows(problem, frame, design, k, fit)
    M, _ = sums_of(rows)
    half, n = np.linalg.cholesky(M), np.diff(rows.edges)
    change, leverage = np.zeros((len(n), len(M))), np.zeros(len(n))
    for clusters, at in batches(rows.edges):
        if not at.shape[1]:
            continue
        X, OX, e = rows.X[at], rows.OX[at], rows.e[at]
        own = half.T @ (np.swapaxes(X, 1, 2) @ OX) @ half  # the cluster's share of the information, whose whole is I
        leverage[clusters] = np.trace(own, axis1=1, axis2=2)
        lost = np.linalg.eigvalsh(own)[:, -1] > 1.0 - ALONE
        rest = np.eye(len(M)) - np.where(lost[:, None, None], 0.0, own)
        step = np.linalg.solve(rest, half.T @ np.swapaxes(OX, 1, 2) @ e[:, :, None])[:, :, 0]
        change[clusters] = np.where(lost[:, None], np.nan, step @ half.T @ fit.transform.A_x.T)
    return fit.transform.y_scale * change, leverage, n
