"""Degrees of freedom after Satterthwaite."""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.judge import basis_of, information_of
from pmwmix.fitting.problem import Problem
from pmwmix.variance import inverse_along

KNOWN = 1e-14  # squared relative error of a variance that is nothing but rounding


def satterthwaite(problem: Problem, fit: Estimate, contrasts: Array | None = None) -> Array:
    """Satterthwaite degrees of freedom of every coefficient, 2 V² / Var(V) (Kuznetsova et al. 2017; theory, eq. 26).

    Parameters
    ----------
    problem : Problem
    fit : Estimate
    contrasts : ndarray, shape (r, p), optional
        Combinations of coefficients instead.

    Returns
    -------
    ndarray, shape (p,) or (r,)
    """
    point, p = fit.point, len(fit.beta)
    S = np.asarray(problem.objective.at(point.theta).raw["S_xx"])
    basis = basis_of(problem, point, fit.boundary)
    A = inverse_along(information_of(problem, point) * problem.top_scale, basis)[p:, p:]
    A_x = fit.transform.A_x if contrasts is None else contrasts @ fit.transform.A_x
    U = np.linalg.solve(S, A_x.T)  # S⁻¹ A_x' e_c for every raw coefficient c
    V = point.sigma**2 * np.einsum("cb,bc->c", A_x, U)
    by_theta = -(point.sigma**2) * problem.objective.contrast_derivative(point.theta, U).T
    gradient = np.concatenate([by_theta, 2.0 * V[:, None]], axis=1)
    noise = np.einsum("ck,kl,cl->c", gradient, A, gradient)
    known = noise <= KNOWN * V**2  # where all variances are held at values
    return np.where(known, np.inf, 2.0 * V**2 / np.where(known, 1.0, noise))
