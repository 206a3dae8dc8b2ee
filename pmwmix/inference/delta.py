"""Effect sizes from the parameters of a fit: intraclass correlations and design effects of the coefficients.

Equations are those of docs/effects.md. The first functions also serve `explained`, `margins` and `diagnostics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.frame.modelframe import ModelFrame, correlated
from pmwmix.pooling import Pooled, pool
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.prediction.rows import LiveRows, live_rows
from pmwmix.spec.latentmean import refuse_latent
from pmwmix.spec.measured import refuse_measured

STEP = 1e-5  # of a standard error, which may be large beside the function where parameters are correlated


def rows_of(fit: Any, verb: str) -> list[tuple[Any, LiveRows]]:
    """Give every single fit with its rows, refusing what a function cannot work on.

    Raises
    ------
    NotSupportedError
        If the fit was read from a file, which keeps no columns.
    """
    every = live_rows(fit)
    if not every:
        raise NotSupportedError(
            f"{verb} needs the columns of the fit. This one was read from a file, which does not keep them. "
            f"Fit again with {fit.settings.call}."
        )
    return list(zip(fit.fits, every, strict=True))


def unscaled_weights(frame: ModelFrame) -> tuple[Array, ...]:
    """Give the conditional weights before scaling, rows first.

    Raises
    ------
    NotSupportedError
        If the frame keeps only the scaled ones.
    """
    kept = getattr(frame, "cond", ())
    if kept or frame.scaling == "none" or not any(frame.weighted):
        return tuple(kept) or frame.w
    raise NotSupportedError(
        f"The weights before scaling are needed. This fit has scaling={frame.scaling!r} and keeps only the scaled "
        f"ones. Fit with scaling='none' and start from that fit."
    )


def complete_df(fit: Any) -> float:
    """Degrees of freedom before pooling: those of the design under a robust variance, else infinite."""
    return float(fit.design_df) if fit.settings.vcov != "model" else float("inf")


def delta(function: Callable[[Array], Array], values: Array, V: Array) -> tuple[Array, Array]:
    """Value of a smooth function and its delta-method covariance (effects, eq. 1), by central differences.

    Parameters
    ----------
    function : callable
        (P,) to (m,).
    values : ndarray, shape (P,)
    V : ndarray, shape (P, P)

    Returns
    -------
    ndarray, shape (m,)
    ndarray, shape (m, m)
    """
    centre = function(values)
    steps = np.where(np.isnan(np.diag(V)), STEP, STEP * np.sqrt(np.maximum(np.diag(V), 0.0)))
    G = np.zeros((len(centre), len(values)))
    for i in np.flatnonzero(steps):  # a parameter on the boundary does not move
        shift = np.zeros(len(values))
        shift[i] = steps[i]
        G[:, i] = (function(values + shift) - function(values - shift)) / (2.0 * steps[i])
    return centre, spread(G, V)


def spread(G: Array, V: Array) -> Array:
    """Covariance G V G' (m, m) of combinations (m, P); missing where one holds a parameter whose variance is missing.

    Zero times a missing number is zero here.
    """
    missing = np.isnan(np.diag(V))
    if not missing.any():
        return G @ V @ G.T
    known = ~missing
    out, lost = G[:, known] @ V[np.ix_(known, known)] @ G[:, known].T, (G[:, missing] != 0).any(axis=1)
    out[lost, :] = out[:, lost] = np.nan
    return out


def pooled_delta(fit: Any, functions: Sequence[Callable[[Array], Array]]) -> Pooled:
    """Apply one function per single fit to its parameters and pool by Rubin's rules.

    Within a fit the covariance is the delta method's, or with replicate weights that of the function over replicates.
    """
    return pool(*delta_of_fits(fit, functions), complete_df(fit), fit.nests)


def delta_of_fits(fit: Any, functions: Sequence[Callable[[Array], Array]]) -> tuple[Array, Array]:
    """Values (N, m) of one function per single fit, and their covariances (N, m, m)."""
    parts = [_with_error(one, function) for one, function in zip(fit.fits, functions, strict=True)]
    values, covariances = (np.array(one) for one in zip(*parts, strict=True))
    return values, covariances


def _with_error(one: Any, function: Callable[[Array], Array]) -> tuple[Array, Array]:
    values, V = one.parameters
    replicates = one.rows.replicates
    if replicates is None:
        return delta(function, values, V)
    return function(values), replicates.covariance_of(lambda every: function(every[: len(values)]))


def unpack(rows: LiveRows, values: Array) -> tuple[Array, list[Array], float]:
    """Turn the parameters of a fit into beta, Psi per level and the level-1 variance.

    Parameters
    ----------
    rows : LiveRows
    values : ndarray, shape (P,)
        Coefficients (thresholds first), variance components, and sigma² or, in a generalised model, the level-1
        variance on the scale of the linear predictor.

    Returns
    -------
    ndarray, shape (p,)
        Coefficients of the linear predictor.
    list of ndarray
    float
    """
    blocks = rows.design.blocks
    sizes = [0] * len(rows.frame.hierarchy.levels)
    for block in blocks:
        sizes[block.level] += len(block.matrix.names)
    Psi, offsets = [np.zeros((q, q)) for q in sizes], [0] * len(sizes)
    k = n = len(rows.fit.beta)
    for term in correlated(blocks):
        level, q = term[0].level, sum(len(block.names) for block in term)
        start = offsets[level]
        for j in range(q):
            for i in range(j, q):
                Psi[level][start + i, start + j] = Psi[level][start + j, start + i] = values[k]
                k += 1
        offsets[level] += q
    return values[n - len(rows.problem.kept) : n], Psi, float(values[k])


def check_latent(fit: Any, verb: str) -> None:
    """Refuse models whose level-1 variance does not exist, or is not the same in all rows and independent of others.

    Raises
    ------
    NotSupportedError
    """
    refuse_measured(fit.has_measured, verb, "Report the variances of fit.varcorr")
    refuse_latent(fit.latent_means is not None, verb, "Report fit.varcorr and fit.latent_means")
    if fit.outcomes and not fit.has_residual_variance:
        check_one_outcome(fit, verb)
    if fit.residual_parameters is not None:
        raise NotSupportedError(
            f"{verb} divides the variance among levels, for which residuals must be independent and of one variance. "
            f"This model has a residual structure. Report its variances and fit.residual_table() themselves."
        )
    if not all(np.isfinite(one.parameters[0][-1]) for one in fit.fits):
        raise NotSupportedError(
            f"{verb} needs the variance of level 1. With family={fit.family!r}, link={fit.link!r} and these estimates "
            f"the distribution has none. Report the variances of the random effects themselves."
        )
