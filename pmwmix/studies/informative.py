"""Are the sampling weights informative? Three tests, pooled over plausible values.

Equations are those of docs/effects.md. All three start from unweighted ML fits on the rows of the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.fitting.choose import Plan
from pmwmix.fitting.climb import fit_outcomes
from pmwmix.frame.checks import check_fixed_part
from pmwmix.frame.matrices import Matrix
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.inference.again import check_clusters, influence, judged
from pmwmix.inference.delta import rows_of, unscaled_weights
from pmwmix.pooling.nested import check_exchangeable
from pmwmix.pooling.rubin import RANK_TOL, pooled_f
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.prediction.rows import with_rows
from pmwmix.spec.checks import check_fitted
from pmwmix.studies.sensitivity import check_weighted, reweighted
from pmwmix.variance import between_psu
from pmwmix.weights.conditional import total_weights


def informativeness(fit: Any, level: str | None = None) -> pd.DataFrame:
    """Test whether the weights carry information on the outcome beyond the predictors, in three ways.

    Parameters
    ----------
    fit : FitResult
        With weights.
    level : str, optional
        Which weights the first two tests use: None for the rows' total weights; ``"obs"`` or a group name for the
        conditional weights of that level.

    Returns
    -------
    DataFrame
        By ``test`` (``dumouchel-duncan``, for linear models ``pfeffermann-sverchkov``, ``hausman``): ``statistic`` (an
        F), ``df1, df2, p_value``.

    See Also
    --------
    dumouchel_duncan, pfeffermann_sverchkov, hausman

    Notes
    -----
    The first looks for coefficients that change with the weight, the second for residuals that do, the third compares
    the weighted and unweighted coefficients directly. Not being rejected is no proof that weights can be left out.
    """
    check_fitted(fit, "informativeness()")
    fit = with_rows(fit)
    check_weighted(fit, "informativeness()")
    check_one_outcome(fit, "informativeness()")
    check_fixed_part(rows_of(fit, "")[0][1].frame, "informativeness()")
    tests = {"dumouchel-duncan": dumouchel_duncan(fit, level)}
    if fit.has_residual_variance:
        tests["pfeffermann-sverchkov"] = pfeffermann_sverchkov(fit, level)
    tests["hausman"] = hausman(fit)
    return pd.DataFrame.from_dict(tests, orient="index").rename_axis("test")


def dumouchel_duncan(fit: Any, level: str | None = None) -> pd.Series:
    """Test weights and their interactions with every predictor in the unweighted model (effects, eq. 18).

    Parameters
    ----------
    fit : FitResult
    level : str, optional
        As in `informativeness`.

    Returns
    -------
    Series
        ``statistic`` (an F, robust covariance over PSUs), ``df1, df2, p_value``. Interactions that are linear
        combinations of other columns do not count.

    References
    ----------
    .. [1] DuMouchel & Duncan (1983). J. American Statistical Association, 78(383), 535-543.
       doi:10.1080/01621459.1983.10478006
    """
    check_fitted(fit, "dumouchel_duncan()")
    fit = with_rows(fit)
    check_one_outcome(fit, "dumouchel_duncan()")
    check_weighted(fit, "dumouchel_duncan()")

    def augmented(frame: ModelFrame) -> ModelFrame:
        w = _tested(frame, level)
        designs = []
        for design in frame.designs:
            base = dict(zip(design.x.names, design.x.columns, strict=True))
            added = {f"weight:{name}": w * column for name, column in base.items() if name != "Intercept"}
            names, columns = (*base, "weight", *added), [*base.values(), w, *added.values()]
            designs.append(replace(design, x=Matrix(names, columns, None)))
        return replace(reweighted(frame, "unweighted"), designs=designs)

    estimates, covariances = [], []
    for (_, rows), (problem, estimate, _) in zip(rows_of(fit, ""), _fits(fit, augmented), strict=True):
        first = len(estimate.beta) - len(problem.kept)  # thresholds come before the coefficients
        added = first + np.flatnonzero(problem.kept >= len(rows.design.x.names))
        estimates.append(estimate.beta[added])
        covariances.append(estimate.vcov[np.ix_(added, added)])
    return _pooled_test(fit, estimates, covariances)


def pfeffermann_sverchkov(fit: Any, level: str | None = None, powers: int = 3) -> pd.Series:
    """Test correlations of the weights with powers of the residuals, given the predictors (effects, eq. 19).

    Parameters
    ----------
    fit : FitResult
    level : str, optional
        As in `informativeness`.
    powers : int
        Residuals to the powers 1, ..., ``powers``.

    Returns
    -------
    Series
        ``statistic`` (an F, covariance of the sums over PSUs), ``df1, df2, p_value``.

    Notes
    -----
    Both sides are made orthogonal to the predictors, so that estimated coefficients do not disturb the test, and the
    correlations are tested together, with a covariance over PSUs instead of their paper's independent rows.

    References
    ----------
    .. [1] Pfeffermann & Sverchkov (1999). Parametric and semi-parametric estimation of regression models fitted to
       survey data. Sankhya B, 61(1), 166-186.
    """
    check_fitted(fit, "pfeffermann_sverchkov()")
    fit = with_rows(fit)
    check_weighted(fit, "pfeffermann_sverchkov()")
    if not fit.has_residual_variance:
        raise NotSupportedError(
            f"Powers of residuals are tested in linear models. This one has {fit.kind}. "
            f"Use dumouchel_duncan() or hausman()."
        )
    check_one_outcome(fit, "pfeffermann_sverchkov()")
    check_fixed_part(rows_of(fit, "")[0][1].frame, "pfeffermann_sverchkov()")
    if not powers >= 1:
        raise OptionError(f"At least the first power is tested. Got powers={powers!r}. Write powers=3.")
    sums, covariances = [], []
    again = _fits(fit, lambda frame: reweighted(frame, "unweighted"))
    for (_, rows), (problem, estimate, k) in zip(rows_of(fit, ""), again, strict=True):
        X = np.column_stack([rows.design.x.columns[j] for j in problem.kept])
        Q = np.linalg.qr(X / np.linalg.norm(X, axis=0))[0]
        w = _tested(rows.frame, level)
        left = w - Q @ (Q.T @ w)
        e = (rows.y - X @ estimate.beta) / estimate.sigma
        E = np.column_stack([e**k for k in range(1, powers + 1)])
        T = left[:, None] * (E - Q @ (Q.T @ E)) / len(w)
        units = np.array([np.bincount(_top(rows.frame), column) for column in T.T]).T
        sums.append(units.sum(axis=0))
        given, _ = judged(problem, estimate, k, rows.frame.clusters)
        covariances.append(between_psu(replace(given, scores=units)))
    return _pooled_test(fit, sums, covariances)


def hausman(fit: Any) -> pd.Series:
    """Compare weighted and unweighted coefficients, with the sandwich covariance of their difference (effects, eq. 20).

    Parameters
    ----------
    fit : FitResult

    Returns
    -------
    Series
        ``statistic`` (an F), ``df1, df2, p_value``.

    Notes
    -----
    The covariance comes from the PSUs' influence on both estimates at once, so neither has to be efficient.

    References
    ----------
    .. [1] Hausman (1978). Econometrica, 46(6), 1251-1271. doi:10.2307/1913827
    .. [2] Pfeffermann (1993). Int. Statistical Review, 61(2), 317-337. doi:10.2307/1403631
    """
    check_fitted(fit, "hausman()")
    fit = with_rows(fit)
    check_weighted(fit, "hausman()")
    check_fixed_part(rows_of(fit, "")[0][1].frame, "hausman()")
    differences, covariances = [], []
    weighted = _fits(fit, lambda frame: frame)
    unweighted = _fits(fit, lambda frame: reweighted(frame, "unweighted"))
    for (_, rows), one, other in zip(rows_of(fit, ""), weighted, unweighted, strict=True):
        first, second = influence(*one, rows.frame.clusters), influence(*other, rows.frame.clusters)
        assert first.scores is not None and second.scores is not None
        p = len(one[1].beta)
        differences.append(one[1].beta - other[1].beta)
        covariances.append(between_psu(replace(first, scores=(first.scores - second.scores)[:, :p])))
    return _pooled_test(fit, differences, covariances)


def _pooled_test(fit: Any, estimates: list[Array], covariances: list[Array]) -> pd.Series:
    check_exchangeable(fit.nests, "informativeness()")
    return pd.Series(pooled_f(np.array(estimates), np.array(covariances), fit.settings.design_df)._asdict())


def _tested(frame: ModelFrame, level: str | None) -> Array:
    """Weights under test, one per row, with mean 1."""
    cond, parents = unscaled_weights(frame), frame.hierarchy.row_parents
    if level is None:
        w = total_weights(cond, parents)[0]
    elif level in frame.level_names:
        position = frame.level_names.index(level)
        w = cond[position]
        if position:
            w = w[frame.hierarchy.levels[position - 1].index]
    else:
        raise OptionError(
            f"There is no level {level!r}.{near(level, frame.level_names)} "
            f"The levels are {', '.join(map(repr, frame.level_names))}."
        )
    if np.ptp(w) <= RANK_TOL * w.max():
        raise OptionError(
            f"Only weights that vary can be informative. Those of {level or 'the rows'!r} are all {w[0]:g}. "
            f"Test another level, or leave the weights out."
        )
    return w / w.mean()


def _fits(fit: Any, change: Callable[[ModelFrame], ModelFrame]) -> list[tuple[Any, Any, int]]:
    """Robust ML fits on changed frames, one for each single fit."""
    done: dict[int, Any] = {}
    out = []
    for _, rows in rows_of(fit, "A test of the weights"):
        frame = rows.frame
        check_clusters(rows.problem.objective, frame.clusters)
        if id(frame) not in done:
            nodes = None if fit.quadrature is None else fit.quadrature["n_agq"]
            plan = Plan(rows.engine, n_agq=nodes, chunk_cells=fit.settings.chunk_size)
            done[id(frame)] = fit_outcomes(change(frame), plan, "robust")
        estimates, places = done[id(frame)]
        position = sum(len(one.y) for one in frame.designs[: rows.design_number]) + rows.k
        problem, k = places[position]
        out.append((problem, estimates[position], k))
    return out


def _top(frame: ModelFrame) -> Array:
    return frame.hierarchy.levels[-1].index if frame.hierarchy.levels else np.arange(frame.n)
