"""Profile-likelihood intervals of fixed effects in unweighted models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.climb import climbed
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.problem import Problem
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure
from pmwmix.likelihood.linear.objective import Objective
from pmwmix.spec.random import NORMAL


def profile_interval(problem: Any, k: int, fit: Estimate, ci_prob: float) -> Array:
    """Find where twice the loss of profile log-likelihood reaches the chi-square quantile (theory, eq. 33).

    Parameters
    ----------
    problem : Problem
    k : int
        Outcome.
    fit : Estimate
    ci_prob : float

    Returns
    -------
    ndarray, shape (p, 2)
        Lower and upper ends, in units of the coefficients.

    Raises
    ------
    NotSupportedError
        For generalised models, under REML, whose likelihood does not depend on the coefficients, and for one fixed
        column alone.
    """
    if not problem.objective.closed_form:
        latent = problem.structure.latent
        what = f"the {problem.family.name} family" if latent == NORMAL else f"random={latent!r}"
        raise NotSupportedError(
            f"Profile intervals are made for linear models. This one has {what}. Use confint(method='wald')."
        )
    if problem.reml:
        raise NotSupportedError(
            "A restricted likelihood has no profile of the fixed effects. The fit has method='reml'. "
            "Use method='ml', or confint(method='wald')."
        )
    transform, p = fit.transform, len(fit.beta)
    if problem.fixed is not None:
        raise NotSupportedError(
            "Profile intervals are not built for models with variances held at values. This one holds some. "
            "Use confint(method='wald')."
        )
    if problem.objective.n_rho:
        raise NotSupportedError(
            "Profile intervals are built for independent residuals of one variance. This model has a residual "
            "structure. Use confint(method='wald')."
        )
    if p < 2 or problem.objective.crossed or not problem.layout.q:
        raise NotSupportedError(
            "Profile intervals need nested random terms and two fixed columns. This model has fewer, or crossed "
            "factors. Use confint(method='wald')."
        )
    raw = _in_raw_columns(problem.blocks, np.linalg.inv(transform.A_x))
    drop = chdtri(1, 1.0 - ci_prob) / 2.0
    shift = np.zeros(p)
    if transform.intercept is not None:
        shift[transform.intercept] = transform.y_shift
    errors = np.sqrt(np.diag(fit.vcov)[:p]) / transform.y_scale
    out = np.empty((p, 2))
    for j in range(p):
        profile = _Profile(problem, raw, k, j, fit)
        centre = (fit.beta[j] - shift[j]) / transform.y_scale
        out[j] = [_end(profile, centre, side * errors[j], drop) for side in (-1.0, 1.0)]
    return transform.y_scale * out + shift[:, None]


def _in_raw_columns(blocks: Blocks, back: Array) -> Blocks:
    """Cross-products with the fixed columns on their raw scale, X_raw = X_standard back."""
    return replace(
        blocks,
        zx=np.einsum("apg,pb->abg", blocks.zx, back),
        xx=np.einsum("pa,pqg,qb->abg", back, blocks.each_xx, back),
        xy=np.einsum("pa,kpg->kag", back, blocks.xy),
    )


class _Profile:
    """Minus the log-likelihood maximised with coefficient ``j`` held at a value."""

    def __init__(self, problem: Problem, blocks: Blocks, k: int, j: int, fit: Estimate) -> None:
        self.blocks, self.k, self.j = blocks, k, j
        self.others = np.delete(np.arange(len(fit.beta)), j)
        self.structure = Structure(problem.layout, len(fit.beta) - 1, False)
        self.objective: Any = problem.objective
        self.start, self.best = fit.point.theta, fit.point.value

    def __call__(self, value: float) -> float:
        b, k, j, rest = self.blocks, self.k, self.j, self.others
        held = replace(
            b,
            zx=np.ascontiguousarray(b.zx[:, rest]),
            zy=(b.zy[k] - value * b.zx[:, j])[None],
            xx=np.ascontiguousarray(b.each_xx[np.ix_(rest, rest)]),
            xy=(b.xy[k] - value * b.each_xx[:, j])[rest][None],
            yy=(b.yy[k] - 2 * value * b.xy[k, j] + value**2 * b.each_xx[j, j])[None],
        )
        objective = Objective(held, self.structure, self.objective.engine)
        found = climbed(objective, max(objective.n_free, 1.0), 0, self.start)
        self.start = found.point.theta
        return float(found.point.value - self.best)


def _end(profile: _Profile, centre: float, step: float, drop: float) -> float:
    """Walk outwards until the loss exceeds ``drop``, then close in."""
    far = 2.0
    while profile(centre + far * step) < drop and far < 200:
        far *= 1.6
    return float(brentq(lambda t: profile(centre + t * step) - drop, 0.0, far, xtol=1e-7, rtol=1e-9)) * step + centre
