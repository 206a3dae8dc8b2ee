"""Intervals of variance components: standard deviations, correlations, variances, covariances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq, minimize
from scipy.special import chdtri, stdtrit

from pmwmix._types import Array
from pmwmix.errors import DataError, NotSupportedError, OptionError, near
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.problem import Problem
from pmwmix.inference.criteria import check_whole
from pmwmix.inference.delta import complete_df
from pmwmix.likelihood.contract import LOG_2PI, schur_onto
from pmwmix.pooling import pool
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.spec.fixed import RESIDUAL, refuse_fixed

Constraint = Callable[[Array], tuple[Array, Array]]
METHODS = ("wald", "profile")
SCALES = ("sd", "var")
ONE = 1e-7  # a correlation this near to one is on the boundary
FAR_Z = 8.0  # Fisher z at which a correlation counts as one
MET = 1e-7  # how far a held value may be off


def confint_varcorr(fit: Any, ci_prob: float = 0.95, method: str = "wald", scale: str = "sd") -> pd.DataFrame:
    """Intervals of the variance components, in the rows of ``fit.varcorr``.

    Parameters
    ----------
    fit : FitResult
    ci_prob : float
        Probability of the interval.
    method : {"wald", "profile"}
        Delta method on a scale without bounds, or where the profile likelihood of an unweighted ML or REML fit has
        dropped by the chi-square quantile, as lme4's ``confint(method="profile")``.
    scale : {"sd", "var"}
        Standard deviations and correlations, or variances and covariances.

    Returns
    -------
    DataFrame
        ``grp, var1, var2, estimate, se, ci_low, ci_high``. A component on the boundary has neither ``se`` nor Wald
        interval; its profile interval starts at 0. A profile that stays within the drop ends at 0, or at a correlation
        of -1 or 1.

    Raises
    ------
    OptionError
        If an argument is not among the legal ones.
    NotSupportedError
        For profile intervals of a weighted, pooled or loaded fit.

    Notes
    -----
    Wald intervals are log-normal for variances and standard deviations, go through Fisher's z for correlations, and are
    symmetric for covariances. A variance smaller than its standard error is near the boundary: its interval is
    one-sided, from zero to a bound that is normal on the scale of the variance. They use the covariance that the fit
    was asked for: model-based, robust, or, with
    replicate weights, the spread of the components over replicates. Degrees of freedom are clusters minus strata (or
    those of the replicates) unless model-based, then infinite; with plausible values variances, covariances and z are
    pooled by Rubin's rules with Barnard-Rubin degrees of freedom. Where some plausible values are on the boundary the
    others give the variance within, and the correlation is that of the mean covariances. ``se`` is the delta-method one
    under both methods.

    Profile intervals hold one component and minimise the deviance over theta and sigma. In theta, sigma is not profiled
    out here, because a standard deviation is their product.

    References
    ----------
    .. [1] Bates, Maechler, Bolker & Walker (2015), J. Stat. Softw., 67(1), section 5.1.
    """
    _check(ci_prob, method, scale)
    table, places = fit.varcorr, places_of(fit.varcorr, list(fit.theta.index))
    if method == "profile":
        _check_profile(fit)
    out = table[["grp", "var1", "var2"]].copy()
    out["estimate"] = table["sdcor" if scale == "sd" else "vcov"].astype(float)
    out[["se", "ci_low", "ci_high"]] = _wald(fit, places, ci_prob, scale)
    if method == "profile":
        profile = _Profile(fit.rows.problem, fit.rows.k, fit.rows.fit)
        drop = float(chdtri(1, 1.0 - ci_prob))
        out[["ci_low", "ci_high"]] = [_profiled(profile, place, drop, scale) for place in places]
    return out


def _check(ci_prob: Any, method: Any, scale: Any) -> None:
    if not (isinstance(ci_prob, int | float | np.number) and 0 < ci_prob < 1):
        raise OptionError(f"ci_prob is a probability between 0 and 1. Got {ci_prob!r}. Write for example ci_prob=0.95.")
    for name, value, legal in (("method", method, METHODS), ("scale", scale, SCALES)):
        if value not in legal:
            raise OptionError(
                f"Unknown {name} {value!r} of intervals of variance components.{near(str(value), legal)} "
                f"It was given to confint_varcorr(). Use {name}={legal[0]!r} or {name}={legal[1]!r}."
            )


def _check_profile(fit: Any) -> None:
    check_whole(fit, "A profile interval")
    check_one_outcome(fit, "A profile interval")
    if not fit.has_closed_form:
        raise NotSupportedError(
            f"Profile intervals are made for linear models. This one has {fit.kind}. "
            f"Use confint_varcorr(method='wald')."
        )
    refuse_fixed(fit.settings.fixed, "A profile interval", "Use confint_varcorr(method='wald')")
    if fit.residual_parameters is not None:
        raise NotSupportedError(
            "Profile intervals are built for independent residuals of one variance. This model has a residual "
            "structure. Use confint_varcorr(method='wald')."
        )
    if fit.settings.weighted or fit.n_pv > 1 or not fit.rows.is_live:
        raise NotSupportedError(
            "Profile intervals need the likelihood of one unweighted fit. This fit is weighted, pooled or loaded. "
            "Use confint_varcorr(method='wald')."
        )
    if fit.rows.problem.layout.structures:
        raise NotSupportedError(
            f"Profile intervals of variance components are made for unstructured covariances. The formula "
            f"{fit.formula!r} has a structured one. Use confint_varcorr(method='wald')."
        )


def places_of(table: pd.DataFrame, theta: Sequence[str]) -> list[tuple[int, ...]]:
    """Position of every row in theta order: (k,) for a variance, (k, first variance, second) for a covariance."""
    rows = [tuple(None if pd.isna(x) else x for x in row) for row in table[["grp", "var1", "var2"]].to_numpy()]
    at = {name: k for k, name in enumerate(theta)}
    outcomes = [a for g, a, b in rows if g == RESIDUAL and a is not None and b is None]
    pairs = [(a, outcomes[j]) for j in range(len(outcomes)) for a in outcomes[j:]]  # columns of the residual covariance
    names = [f"{RESIDUAL}.{a}" if a == b else f"{RESIDUAL}.{a}.{b}" for a, b in pairs]
    at |= {name: len(theta) + k for k, name in enumerate(names)}

    def variance(group: Any, term: Any) -> int:
        return len(theta) if term is None else at[f"{group}.{term}"]  # the residual comes last

    try:
        return [
            (variance(g, a),) if b is None else (at[f"{g}.{b}.{a}"], variance(g, a), variance(g, b)) for g, a, b in rows
        ]
    except KeyError as error:  # only in a file that a stranger wrote
        raise DataError(
            f"The variance components are not those of the fit. No parameter has the name {error.args[0]!r}. If it was "
            f"loaded, its file is damaged: save the fit again, or use a copy."
        ) from None


def _correlation(values: Array, place: tuple[int, ...]) -> tuple[float, Array]:
    """Correlation and its gradient in (covariance, variance, variance)."""
    c, v1, v2 = (float(values[k]) for k in place)
    size = np.sqrt(v1 * v2) if min(v1, v2) > 0 else 0.0
    if size == 0.0:
        return 1.0, np.zeros(3)
    r = float(np.clip(c / size, -1.0, 1.0))
    return r, np.array([1.0 / size, -0.5 * r / v1, -0.5 * r / v2])


def _wald(fit: Any, places: list[tuple[int, ...]], ci_prob: float, scale: str) -> Array:
    """Give standard error, lower and upper end of every row (m, 3)."""
    values, covariances, known = _each(fit, places, scale)
    pooled = pool(values, covariances, complete_df(fit), fit.nests)
    centre, se = pooled.estimate, np.sqrt(np.maximum(np.diag(pooled.vcov), 0.0))
    df = np.minimum(pooled.df, 1e10)
    half, bound = stdtrit(df, 0.5 + ci_prob / 2) * se, centre + stdtrit(df, ci_prob) * se
    out = np.full((len(places), 3), np.nan)
    for row in np.flatnonzero(known & (se > 0)).tolist():
        x, s, h = centre[row], se[row], half[row]
        if len(places[row]) == 1:
            ends = (x * np.exp(-h / x), x * np.exp(h / x)) if s < x else (0.0, bound[row])  # near zero: one-sided
            out[row] = (s, *ends) if scale == "var" else (s / (2.0 * np.sqrt(x)), *np.sqrt(ends))
        elif scale == "var":
            out[row] = s, x - h, x + h
        else:
            out[row] = s * (1.0 - np.tanh(x) ** 2), np.tanh(x - h), np.tanh(x + h)
    return out


def _each(fit: Any, places: list[tuple[int, ...]], scale: str) -> tuple[Array, Array, Array]:
    """Rows of every fit on the scale of their intervals (K, m), their covariances (K, m, m), and which are known (m,).

    Of a row that some plausible values have on the boundary the others give the variance within; a correlation is then
    that of the mean (co)variances, and its z is linearised there.
    """
    p, m = len(fit.coef), len(places)
    components = np.array([one.parameters[0][p:] for one in fit.fits])
    V = np.array([one.parameters[1][p:, p:] for one in fit.fits])
    known = np.array([one.varcorr["se"].notna() for one in fit.fits])
    slopes = np.zeros((fit.n_pv, m, components.shape[1]))
    values = components[:, [place[0] for place in places]]
    for row, place in enumerate(places):
        slopes[:, row, place[0]] = 1.0
        if len(place) == 1 or scale != "sd":
            continue
        found = [_correlation(one, place) for one in components]
        known[:, row] &= [abs(r) < 1.0 - ONE for r, _ in found]
        if not known[:, row].all():
            centre = components.mean(axis=0)
            found = [_correlation(centre, place)] * fit.n_pv
            known[:, row] &= abs(found[0][0]) < 1.0 - ONE
        if known[:, row].any():
            slopes[:, row, list(place)] = [gradient / (1.0 - r**2) for r, gradient in found]
            values[:, row] = [np.arctanh(r) for r, _ in found]
            if not known[:, row].all():
                values[:, row] += (components - centre) @ slopes[0, row]
    covariances = slopes @ V @ slopes.transpose(0, 2, 1)
    for row in np.flatnonzero(known.any(axis=0) & ~known.all(axis=0)).tolist():
        covariances[~known[:, row], row, row] = covariances[known[:, row], row, row].mean()
    return values, covariances, known.any(axis=0)


def _profiled(profile: _Profile, place: tuple[int, ...], drop: float, scale: str) -> tuple[float, float]:
    """Lower and upper end of one row."""
    values, _ = profile.components(profile.best)
    if len(place) == 1:
        function = _held(profile, place, "sd")
        zero = profile.at_zero(place[0]) if place[0] < profile.n_theta else np.inf
        low = -np.inf if zero < drop else profile.end(function, -1.0, drop)
        power, high = 1.0 if scale == "sd" else 2.0, profile.end(function, 1.0, drop)
        return float(np.exp(power * low)), float(np.exp(power * high))
    if abs(_correlation(values, place)[0]) >= 1.0 - ONE:
        return np.nan, np.nan
    if scale == "var":
        size = float(np.sqrt(values[place[1]] * values[place[2]]))
        function = _held(profile, place, "covariance", size)
        return size * profile.end(function, -1.0, drop), size * profile.end(function, 1.0, drop)
    function = _held(profile, place, "z")
    low, high = profile.end(function, -1.0, drop, FAR_Z), profile.end(function, 1.0, drop, FAR_Z)
    return float(-1.0 if low <= -FAR_Z else np.tanh(low)), float(1.0 if high >= FAR_Z else np.tanh(high))


def _held(profile: _Profile, place: tuple[int, ...], kind: str, size: float = 1.0) -> Constraint:
    """Log of a standard deviation, Fisher's z of a correlation, or a covariance / ``size``, with derivatives."""

    def function(phi: Array) -> tuple[Array, Array]:
        values, J = profile.components(phi)
        if kind == "covariance":
            return values[[place[0]]] / size, J[[place[0]]] / size
        if kind == "sd":
            v = max(float(values[place[0]]), 1e-300)
            return np.array([0.5 * np.log(v)]), 0.5 * J[[place[0]]] / v
        r, gradient = _correlation(values, place)
        r = float(np.clip(r, 1e-15 - 1.0, 1.0 - 1e-15))
        return np.array([np.arctanh(r)]), (gradient @ J[list(place)])[None] / (1.0 - r**2)

    return function


class _Profile:
    """Deviance in phi = (theta, log sigma), standardised, above its minimum, with functions of phi held."""

    def __init__(self, problem: Problem, k: int, fit: Estimate) -> None:
        self.problem, self.k, self.transform = problem, k, fit.transform
        self.layout, self.n_theta, self.p = problem.layout, problem.layout.n_theta, len(fit.beta)
        self.best = np.append(fit.point.theta, np.log(fit.point.sigma))
        self.lowest, _ = self.deviance(self.best)
        A = schur_onto(fit.point.information, slice(self.p, self.p + len(self.best)))
        size, vectors = np.linalg.eigh(A)
        # in units of standard errors half the deviance is |u|²/2; flat or boundary directions get a bounded unit
        self.units = vectors / np.sqrt(np.maximum(size, (0.03 if fit.singular else 1e-9) * size.max()))

    def deviance(self, phi: Array) -> tuple[float, Array]:
        """Twice minus the log-likelihood with sigma free, and its gradient."""
        point = self.problem.objective.at(phi[:-1], self.k)
        n, s2, log_s = self.problem.n_total, point.sigma**2, float(phi[-1])
        ratio = float(np.exp(np.log(s2) - 2.0 * log_s))  # Q / (n sigma²), 1 where sigma is the profiled one
        determinants = 2.0 * point.value - n * (LOG_2PI + np.log(s2) + 1.0)
        Q_t = -s2 * point.information[self.p : -1, -1]
        by_theta = 2.0 * point.gradient + Q_t / s2 * (ratio - 1.0)
        value = n * (LOG_2PI + 2.0 * log_s + ratio) + determinants
        return float(value), np.append(by_theta, 2.0 * n * (1.0 - ratio))

    def components(self, phi: Array) -> tuple[Array, Array]:
        """Raw variance components in theta order, sigma² last, and their derivatives (m, n_theta + 1)."""
        theta, sigma = phi[:-1], float(np.exp(phi[-1]))
        Psi = self.transform.Psi(self.layout, theta, sigma)
        values = [matrix[i, j] for matrix, level in zip(Psi, self.layout.entries, strict=True) for i, j, _ in level]
        J = self.transform.jacobian(self.layout, theta, sigma)[self.p :, self.p :]
        return np.array([*values, (self.transform.y_scale * sigma) ** 2]), J

    def hold(self, function: Constraint, target: Array, start: Array) -> tuple[float, Array]:
        """Minimise over everything else; infinite where no point was found."""
        held = {
            "type": "eq",
            "fun": lambda u: function(start + self.units @ u)[0] - target,
            "jac": lambda u: function(start + self.units @ u)[1] @ self.units,
        }

        def half(u: Array) -> tuple[float, Array]:
            value, gradient = self.deviance(start + self.units @ u)
            return 0.5 * (value - self.lowest), 0.5 * gradient @ self.units

        found = minimize(
            half, np.zeros(len(start)), jac=True, method="SLSQP", constraints=[held],
            options={"ftol": 1e-10, "maxiter": 60},
        )  # fmt: skip
        phi = start + self.units @ found.x
        met = np.isfinite(found.fun) and np.abs(function(phi)[0] - target).max() < MET
        return (2.0 * float(found.fun) if met else np.inf), phi

    def at_zero(self, k: int) -> float:
        """Rise of the deviance where the standard deviation at place ``k`` is zero: its row of A Λ is."""
        rows = []
        for A, level in zip(self.transform.A_z, self.layout.entries, strict=True):
            at = [i for i, _, place in level if place == k]
            for column in sorted({j for _, j, _ in level}) if at else ():
                row = np.zeros(self.n_theta + 1)
                for a, b, place in level:
                    row[place] = A[at[0], a] if b == column else 0.0
                rows.append(row)
        M = np.array([row for row in rows if np.abs(row).max() > 1e-12])
        return self.hold(lambda phi: (M @ phi, M), np.zeros(len(M)), self.best)[0]

    def end(self, function: Constraint, side: float, drop: float, limit: float = np.inf) -> float:
        """Walk outwards until the deviance has risen by ``drop``, then close in; ``side * limit`` if it never does."""
        start = self._inside()
        centre, G = function(start)
        step = min(float(np.linalg.norm(G @ self.units)), 1.0)
        known = {float(centre[0]): start}

        def lacking(value: float) -> float:
            rise, phi = self.hold(function, np.array([value]), known[min(known, key=lambda done: abs(done - value))])
            if not np.isfinite(rise):
                rise, phi = self.hold(function, np.array([value]), start)
            if np.isfinite(rise):
                known[value] = phi
            return float(np.sqrt(max(rise, 0.0)) - np.sqrt(drop))

        near_end = float(centre[0])
        for _ in range(25):
            far = side * min(side * near_end + step, limit)
            above = lacking(far)
            if not np.isfinite(above):  # too long a step
                step *= 0.5
                continue
            if above >= 0:
                found = lacking(near_end) < 0
                return float(brentq(lacking, near_end, far, xtol=1e-8, rtol=1e-8)) if found else np.nan
            if side * far >= limit:
                return side * limit
            near_end = far
            step *= 1.3
        return np.nan

    def _inside(self) -> Array:
        """Give the optimum, moved off the boundary, where logarithms and Fisher's z have no slope."""
        phi = self.best.copy()
        phi[:-1][self.layout.diagonal & (np.abs(phi[:-1]) < 1e-2)] = 0.03
        return phi
