"""Influence of top-level units on the coefficients: Cook's distance, DFBETAS and leverage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import printed
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.leftout import left_out
from pmwmix.inference.again import judged
from pmwmix.inference.delta import rows_of
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.prediction.rows import LiveRows, with_rows
from pmwmix.spec.checks import check_fitted
from pmwmix.variance import inverse_along


def influence(fit: Any) -> pd.DataFrame:
    """Say how far the coefficients would move without each unit of the top level, such as a school.

    Parameters
    ----------
    fit : FitResult
        With nested random effects, or none: then every row is a unit.

    Returns
    -------
    DataFrame
        A row per unit, by its label: ``n``, its rows; ``leverage``, the trace of its block of the hat matrix (NaN
        where the model is not linear); ``cooks_d`` (influence, eq. 3); for every term ``dfbetas[term]``, the change in
        standard errors of the fit (influence, eq. 4), positive where the unit raises the coefficient. With plausible
        values the means over them.

    Raises
    ------
    NotSupportedError
        If groups are crossed, so that no unit can be left out alone, or the fit was read from a file.

    Notes
    -----
    Linear models: generalised least squares without the unit, exactly, with the variance components held at their
    estimates [1]_. Generalised models, residual structures, pairwise likelihoods, latent group means and predictors
    with error: one Newton step, the unit's score times the inverse information (influence, eq. 5). Standard errors and
    covariance are those of the fit, by its ``vcov``, without what plausible values add. Where the covariance has not
    full rank, as with fewer clusters than coefficients, ``cooks_d`` is NaN; ``dfbetas`` too where a coefficient has no
    estimate without the unit. Usual marks are 4 / J and 2 / sqrt(J) with J units [2]_.

    References
    ----------
    .. [1] Demidenko, E. & Stukel, T. A. (2005). Influence analysis for linear mixed-effects models. Statistics in
       Medicine, 24(6), 893-909. doi:10.1002/sim.1974
    .. [2] Van der Meer, T., te Grotenhuis, M. & Pelzer, B. (2010). Influential cases in multilevel modeling: a
       methodological comment. American Sociological Review, 75(1), 173-178. doi:10.1177/0003122409359166

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(20, 10, random_seed=1)
    >>> fit = pmwmix.fit("PV1MATH ~ escs + (1 | SCHOOLID)", survey.data)
    >>> list(pmwmix.influence(fit).columns)
    ['n', 'leverage', 'cooks_d', 'dfbetas[Intercept]', 'dfbetas[escs]']
    """
    check_fitted(fit, "influence()")
    fit = with_rows(getattr(fit, "ml", fit))
    check_one_outcome(fit, "influence()")
    parts = rows_of(fit, "influence()")
    first = parts[0][1].frame
    _check(fit, first)
    measures = [_measures(one, rows) for one, rows in parts]
    n, leverage, cooks, dfbetas = (np.mean(every, axis=0) for every in zip(*measures, strict=True))
    numbers = {"n": n.astype(int), "leverage": leverage, "cooks_d": cooks}
    numbers |= {f"dfbetas[{term}]": column for term, column in zip(fit.coef.index, dfbetas.T, strict=True)}
    levels = first.hierarchy.levels
    index = pd.Index(printed(levels[-1].labels), name=levels[-1].name) if levels else first.index
    return pd.DataFrame(numbers, index=index)


def _check(fit: Any, frame: Any) -> None:
    if frame.hierarchy.crossed:
        a, b = frame.hierarchy.crossed
        raise NotSupportedError(
            f"influence() leaves out one unit of the top level at a time. {a} and {b} are crossed, so that none holds "
            f"whole groups of the others. Fit again without the rows in question, and compare."
        )
    if fit.coef.empty:
        raise NotSupportedError(
            f"influence() is about fixed coefficients. This fit, {fit.formula!r}, has none. Look at fit.ranef()."
        )


def _measures(one: Any, rows: LiveRows) -> tuple[Array, Array, Array, Array]:
    """Rows, leverage and Cook's distance (J,), and DFBETAS (J, p) of one plausible value."""
    frame = rows.frame
    of_rows = frame.residual is None and not frame.pairwise
    if one.has_closed_form and of_rows and not frame.formula.latent and not frame.formula.measured:
        whole = replace(frame, clusters=None)  # PSUs may lie above the units
        change, leverage, n = left_out(rows.problem, whole, rows.design, rows.k, rows.fit)
    else:
        change, n = _one_step(one, rows)
        leverage = np.full(len(n), np.nan)
    V = one.vcov.to_numpy(dtype=float)
    size = np.sqrt(np.diag(V))
    with np.errstate(divide="ignore", invalid="ignore"):
        dfbetas, R = change / size, V / np.outer(size, size)
    known = np.isfinite(R).all() and np.linalg.matrix_rank(R, tol=1e-8, hermitian=True) == len(R)
    cooks = np.full(len(n), np.nan)
    if known:
        cooks = np.einsum("jp,jp->j", dfbetas, np.linalg.solve(R, dfbetas.T).T) / len(R)
    return n, leverage, cooks, dfbetas


def _one_step(one: Any, rows: LiveRows) -> tuple[Array, Array]:
    """Change of the coefficients (J, p), A⁻¹ s, and rows (J,) of every unit of the top level."""
    given, J = judged(rows.problem, rows.fit, rows.k, None)
    assert given.scores is not None
    change = given.scores @ inverse_along(given.information, given.basis) @ J.T
    levels = rows.frame.hierarchy.levels
    n = np.bincount(levels[-1].index, minlength=levels[-1].n) if levels else np.ones(rows.frame.n)
    return change[:, : len(one.coef)], n


__all__ = ["influence"]
