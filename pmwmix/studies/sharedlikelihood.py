"""Log-likelihoods of several imputations at parameters that they share, for pooled likelihood-ratio tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.likelihood.layout import semidefinite_cholesky
from pmwmix.prediction.rows import LiveRows, live_rows

STEP = 1e-4  # of a parameter's size: central differences
SETTLED = 1e-12  # of the log-likelihood: what a further climb gains


def check_likelihoods(fit: Any, rule: str) -> None:
    """Refuse models whose likelihood cannot be evaluated at other imputations' parameters.

    Raises
    ------
    NotSupportedError
    """
    rows = live_rows(fit)
    if fit.settings.weighted:
        why = "has sampling weights, under which it is none"
    elif not fit.has_closed_form or fit.residual_parameters is not None:
        why = "is not that of a linear model with independent residuals of one variance"
    elif not rows or rows[0].frame.hierarchy.crossed or rows[0].problem.layout.structures:
        why = "has crossed groups or structured covariances, or came from a file"
    else:
        return
    raise NotSupportedError(
        f"{rule} evaluates a likelihood at parameters that all imputations share. That of {fit.formula!r} {why}. "
        f"Use pooling='D2', or fit.wald()."
    )


@dataclass(frozen=True)
class _Part:
    """The quadratic that one imputation's deviance is in the coefficients, at given relative covariances.

    ``deviance = constant + n log sigma² + (rest + (b - beta)' curvature (b - beta)) / sigma²``
    """

    constant: float
    n: float
    rest: float
    beta: Array
    curvature: Array


def _part(rows: LiveRows, relative: Sequence[Array]) -> _Part:
    """Evaluate one imputation at relative covariances Psi / sigma² (q, q) per level, on the raw scale."""
    problem, transform = rows.problem, rows.problem.transforms[rows.k]
    Lambdas = []
    for A, Psi, sizes in zip(transform.A_z, relative, problem.layout.blocks, strict=True):
        inverse = np.linalg.inv(A)
        own, L, first = inverse @ Psi @ inverse.T, np.zeros_like(Psi), 0
        for size in sizes:
            block = slice(first, first + size)
            L[block, block] = semidefinite_cholesky(own[block, block])
            first += size
        Lambdas.append(L)
    point = problem.objective.at(problem.layout.pack(Lambdas), rows.k)
    n, sigma2, scale = problem.n_total, point.sigma**2, transform.y_scale
    constant = 2.0 * point.value - n * (np.log(sigma2) + 1.0)
    inverse = np.linalg.inv(transform.A_x)
    curvature = inverse.T @ np.asarray(point.raw["S_xx"]) @ inverse
    return _Part(constant, n, sigma2 * n * scale**2, transform.beta(point.beta), curvature)


def shared_loglik(fit: Any) -> float:
    """Mean log-likelihood of the imputations at the means of their estimates (imputations, eq. 15)."""
    every = live_rows(fit)
    sigma2 = float(np.mean([rows.fit.sigma**2 for rows in every]))
    beta = np.mean([rows.fit.beta for rows in every], axis=0)
    Psi = [np.mean([rows.fit.Psi[level] for rows in every], axis=0) for level in range(len(every[0].fit.Psi))]
    out = []
    for rows in every:
        part = _part(rows, [P / sigma2 for P in Psi])
        gap = part.beta - beta
        out.append(part.constant + part.n * np.log(sigma2) + (part.rest + gap @ part.curvature @ gap) / sigma2)
    return -0.5 * float(np.mean(out))


def highest_loglik(fit: Any) -> float:
    """Maximum of the mean log-likelihood of the imputations (imputations, eq. 16)."""
    every, layout = live_rows(fit), live_rows(fit)[0].problem.layout

    def deviance(theta: Array) -> float:
        relative = [L @ L.T for L in layout.unpack(theta)]
        parts = [_part(rows, relative) for rows in every]
        curvature = sum(part.curvature for part in parts)
        beta = np.linalg.solve(curvature, sum(part.curvature @ part.beta for part in parts))
        gaps = [part.beta - beta for part in parts]
        rest = sum(p.rest + gap @ p.curvature @ gap for p, gap in zip(parts, gaps, strict=True))
        n = sum(part.n for part in parts)
        return float(sum(part.constant for part in parts) + n * (np.log(rest / n) + 1.0)) / len(parts)

    start = np.mean([rows.fit.theta for rows in every], axis=0)
    if not len(start):
        return -0.5 * deviance(start)
    best = deviance(start)
    for _ in range(5):
        found = minimize(deviance, start, method="BFGS", jac="3-point", options={"finite_diff_rel_step": STEP})
        start, last, best = found.x, best, min(best, float(found.fun))
        if last - best <= SETTLED * abs(best):
            break
    return -0.5 * best
