"""`power`: how often tests of coefficients reject, by simulation from a fit or from stated effects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from pmwmix._types import Array
from pmwmix.api import fit as fit_model
from pmwmix.errors import DataError, NotSupportedError, OptionError, near, some
from pmwmix.frame.components import component_names, name_of
from pmwmix.inference.delta import unpack
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.prediction.rows import LiveRows, live_rows
from pmwmix.resampling.outcomes import check_count, draw_outcome, drawn_etas, generator, simulated_rows
from pmwmix.resampling.refitted import AT_ONCE, with_outcomes
from pmwmix.results.build import fit_frame
from pmwmix.results.pooled import pool_results
from pmwmix.results.result import FitResult
from pmwmix.running import bar, is_wanted
from pmwmix.spec.checks import check_prob, is_whole
from pmwmix.spec.fixed import RESIDUAL
from pmwmix.spec.several import one_text

SEMIDEFINITE = -1e-9  # smallest eigenvalue of a stated covariance matrix, relative to its trace
BOUND = 0.95  # of the Monte-Carlo interval of a power


def power(
    model: FitResult | str,
    data: Any = None,
    *,
    effects: Mapping[str, float] | None = None,
    components: Mapping[str, float] | None = None,
    groups: Sequence[int] | None = None,
    n: int = 200,
    alpha: float = 0.05,
    n_pv: int | None = None,
    reliability: float | None = None,
    random_seed: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Simulate outcomes with known effects, fit the model to each, and count how often the effects are found.

    Parameters
    ----------
    model : FitResult or str
        A fit, whose rows, groups, weights and kind of errors are kept; or a formula, with ``data``.
    data : table, optional
        With a formula: predictors, groups and weights of the planned sample. An outcome in it is not looked at.
    effects : dict, optional
        Coefficient -> true value. With a fit others are its estimates, with a formula they are 0.
    components : dict, optional
        Variance or covariance -> true value, named as in ``fit.theta`` and ``"Residual"``:
        ``{"school.Intercept": 100.0, "Residual": 900.0}``. With a formula all variances are needed, covariances are 0.
    groups : list of int, optional
        With a formula: numbers of top-level units, drawn with replacement from those of ``data``.
    n : int
        Simulated samples, for each number of groups.
    alpha : float
        Level of the tests, two-sided.
    n_pv : int, optional
        Plausible values of every simulated outcome; default: as many as the fit has, else 1.
    reliability : float, optional
        Share of the residual variance that the test measures, above 0 and at most 1. Needed with a formula and
        ``n_pv`` above 1; default: what the plausible values of the fit say.
    random_seed : int, optional
    progress : bool, optional
    **options
        With a formula: of `fit`, such as ``weights``, ``method``, ``vcov``, ``design``.

    Returns
    -------
    DataFrame
        With ``groups`` a column of them; ``term, effect`` (true), ``power``, its 95 % Monte-Carlo interval ``ci_low,
        ci_high``, means of ``estimate`` and ``std_error``, ``coverage`` of the intervals at ``1 - alpha``, number ``n``
        of samples whose fits converged.

    Raises
    ------
    OptionError, DataError, NotSupportedError

    Notes
    -----
    Bootstrap, eqs. 1 and 9-10. Tests are those of ``tidy()``: with weights robust, with plausible values pooled. Where
    an effect is 0 its power is the rate of false rejections.

    Examples
    --------
    >>> planned = pd.DataFrame({"school": np.repeat(range(20), 5), "treated": np.repeat([0, 1], 50)})
    >>> table = power(
    ...     "score ~ treated + (1 | school)", planned, effects={"treated": 5.0}, n=20, random_seed=1,
    ...     components={"school.Intercept": 1.0, "Residual": 4.0},
    ... )
    >>> print(table.loc[1, ["term", "power"]].tolist())
    ['treated', 1.0]
    """
    check_count(n, "simulated samples", 2)
    check_prob(alpha)
    generator(random_seed)
    is_wanted(progress)
    seed = int(np.random.default_rng().integers(2**62)) if random_seed is None else int(random_seed)
    planned = list(_planned(model, data, effects, groups, seed, options))
    tables = []
    with bar("Power", n * len(planned), progress) as tick:
        for place, (size, fit, values) in enumerate(planned):
            truth = _Truth(fit, values, effects, components, n_pv, reliability)
            table = _counted(truth, n, alpha, (seed, place), tick)
            tables.append(table if size is None else table.assign(groups=size))
    found = pd.concat(tables, ignore_index=True)
    return found if groups is None else found[["groups", *(name for name in found if name != "groups")]]


def _planned(
    model: Any, data: Any, effects: Any, groups: Any, seed: int, options: Mapping[str, Any]
) -> Iterator[tuple[int | None, FitResult, dict[str, float]]]:
    """Give the number of groups, the fit to simulate from, and coefficients that are not its estimates."""
    if isinstance(model, FitResult):
        given = [name for name, value in {"data": data, "groups": groups, **options}.items() if value is not None]
        if given:
            raise OptionError(
                f"A fit has its data and options. Got {some(given)} beside it. Leave them out, or give a formula."
            )
        yield None, model, {}
        return
    if not isinstance(model, str | list | tuple):
        raise OptionError(
            f"Power is that of a fit or a formula. Got {type(model).__name__}. Write power(fit, ...) or "
            f"power('y ~ x + (1 | school)', data, ...)."
        )
    text, _, right = one_text(model).partition("~")
    outcome = text.strip()
    if not right or not outcome.isidentifier():
        raise OptionError(
            f"The outcome of a planned model is a new name. Got {outcome!r} in {model!r}. Write 'score ~ ...'."
        )
    if outcome in (options.get("pv") or {}) or options.get("method") == "bayes":
        raise OptionError(
            f"Power draws outcomes and fits them by ML or REML. Got pv= with {outcome!r}, or method='bayes'. "
            f"Say n_pv= and reliability= instead of pv=, and leave method='bayes' out."
        )
    table = _as_pandas(data)
    start = table.assign(**{outcome: np.random.default_rng(seed).standard_normal(len(table))})
    first = fit_model(model, start, **options)
    if not first.has_closed_form:
        raise NotSupportedError(
            f"Effects are stated for linear models. Got family={first.family!r}. Fit pilot data and pass the fit."
        )
    zero = dict.fromkeys(first.coef.index, 0.0)
    if groups is None:
        yield None, first, zero
    for place, size in enumerate(_sizes(groups)):
        more = _resampled(start, first, size, np.random.default_rng([seed, place]))
        yield size, fit_model(model, more, **options), zero


def _as_pandas(data: Any) -> pd.DataFrame:
    """Give the planned sample as a pandas table."""
    table = data if isinstance(data, pd.DataFrame) else data.to_pandas() if hasattr(data, "to_pandas") else None
    if table is None or table.empty:
        raise DataError(
            f"A planned sample is a table of predictors and groups, with a row or more. Got {type(data).__name__}. "
            f"Pass a pandas, polars or pyarrow table."
        )
    return table


def _sizes(groups: Any) -> list[int]:
    """Check the numbers of groups."""
    if groups is None:
        return []
    listed = [groups] if is_whole(groups) else list(groups) if isinstance(groups, Sequence) else []
    if not listed or not all(is_whole(size) and size >= 2 for size in listed):
        raise OptionError(f"Numbers of groups are whole, from 2. Got groups={groups!r}. Write groups=[50, 100, 200].")
    return [int(size) for size in listed]


def _resampled(table: pd.DataFrame, fit: FitResult, size: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw top-level units with replacement, and number them and the units inside them anew."""
    hierarchy = live_rows(fit)[0].frame.hierarchy
    levels = hierarchy.levels
    clusters = fit.settings.clusters
    top = levels[-1].factors if levels else ()
    if len(top) != 1 or clusters[0] != levels[-1].name or hierarchy.crossed:
        raise NotSupportedError(
            f"Numbers of groups are planned where one column names the top-level units, which are the PSUs. The model "
            f"has {clusters[0]!r} as PSUs. Make the tables yourself, and call power for each."
        )
    rows = list(table.groupby(top[0], observed=True).indices.values())
    drawn = rng.integers(0, len(rows), size)
    out = table.iloc[np.concatenate([rows[j] for j in drawn])].reset_index(drop=True)
    copy = np.repeat(np.arange(size), [len(rows[j]) for j in drawn])
    inner = {name for level in levels for name in level.factors} - {top[0]}
    numbered: dict[str, Any] = {
        name: [f"{k}:{label}" for k, label in zip(copy, out[name], strict=True)] for name in inner
    }
    return out.assign(**{top[0]: copy, **numbered})


class _Truth:
    """The parameters that outcomes are drawn from.

    Parameters
    ----------
    fit : FitResult
    start : dict
        Coefficients that are not the estimates of the fit; with any of them its variances are none either.
    effects, components : dict or None
    n_pv : int or None
    reliability : float or None
    """

    def __init__(
        self, fit: FitResult, start: Mapping[str, float], effects: Any, components: Any, n_pv: Any, reliability: Any
    ) -> None:
        check_one_outcome(fit, "power()")
        one, rows = simulated_rows(fit, "power()")[0]
        _check_one_table(fit, rows)
        self.fit, self.one = fit, one
        values, terms = fit.parameters[0].copy(), list(fit.coef.index)
        parts = component_names(rows.frame)
        names = [name_of(*part) for part in parts]
        names += [RESIDUAL] if fit.has_residual_variance and rows.frame.residual is None else []
        stated = _numbers(components, names)
        if start:
            _check_all(
                stated,
                [name for name, part in zip(names, [*parts, (RESIDUAL,)], strict=True) if part[-1] in (None, RESIDUAL)],
            )
            values[len(terms) :] = 0.0
        first = len(terms) - len(rows.eta_beta)  # thresholds stand before
        for name, value in {**start, **_numbers(effects, terms[first:])}.items():
            values[terms.index(name)] = value
        for name, value in stated.items():
            values[len(terms) + names.index(name)] = value
        beta, Psi, residual = unpack(rows, values)
        _check_covariances(rows, Psi, residual if fit.has_residual_variance else 0.0)
        self.effects = pd.Series(values[: len(terms)], index=terms)
        self.n_pv = len(fit.fits) if n_pv is None else n_pv
        if not is_whole(self.n_pv) or self.n_pv < 1:
            raise OptionError(f"The number of plausible values is whole, from 1. Got n_pv={n_pv!r}. Leave it out.")
        self.rho = 1.0 if self.n_pv == 1 and reliability is None else _reliability(fit, reliability)
        sigma = float(np.sqrt(residual)) if fit.has_residual_variance else rows.fit.sigma
        self.rows: LiveRows = replace(
            rows, fit=replace(rows.fit, eta_beta=beta, Psi=tuple(Psi), sigma=sigma, modes=None), _memo={}
        )

    def draw(self, rng: np.random.Generator) -> list[Array]:
        """Draw the plausible values of one outcome, each (n,) (bootstrap, eq. 9)."""
        if self.n_pv == 1 and self.rho == 1.0:
            return [draw_outcome(self.one, self.rows, rng)]
        rho, mean, n = self.rho, drawn_etas(self.rows, rng)[0], self.rows.frame.n

        def residuals(share: float) -> Array:
            return np.sqrt(share) * self.rows.residuals_of(rng.standard_normal(n))

        seen = mean + residuals(rho)
        return [seen + residuals(1.0 - rho) for _ in range(self.n_pv)]

    def fits(self, n: int, seed: Sequence[int]) -> Iterator[FitResult]:
        """Fit the model to ``n`` drawn samples."""
        rows, settings = self.rows, self.fit.settings
        if rows.fit.n_agq:
            settings = replace(settings, n_agq=rows.fit.n_agq)
        at_once = max(AT_ONCE // self.n_pv, 1)
        for first in range(0, n, at_once):
            rng = np.random.default_rng([*seed, first])
            outcomes = [y for _ in range(min(at_once, n - first)) for y in self.draw(rng)]
            design = with_outcomes(self.one, rows, outcomes)
            frame = replace(rows.frame, designs=[design], means=rows.frame.means[:1], pv={}, nests=())
            parts = fit_frame(frame, settings, rows.engine).fits
            for k in range(0, len(parts), self.n_pv):
                yield pool_results(parts[k : k + self.n_pv])


def _check_one_table(fit: FitResult, rows: LiveRows) -> None:
    """Refuse fits whose plausible values are not of the outcome alone."""
    if len(rows.frame.designs) > 1 or any(fit.nests):
        raise NotSupportedError(
            "Power is simulated for one table of predictors. The fit has plausible values among its predictors, or "
            "imputed tables. Use one of its parts, power(fit.fits[0])."
        )


def _check_all(stated: Mapping[str, float], variances: Sequence[str]) -> None:
    """Refuse a plan that lacks variances."""
    missing = [name for name in variances if name not in stated]
    if missing:
        raise OptionError(
            f"A planned model needs all its variances. components= lacks {some(missing)}. "
            f"Write for example components={{{variances[0]!r}: 1.0}}."
        )


def _numbers(said: Any, known: Sequence[str]) -> dict[str, float]:
    """Check stated values by name."""
    if said is not None and not isinstance(said, Mapping | pd.Series):
        raise OptionError(f"True values are a dict by name. Got {said!r}. Write for example {{{known[-1]!r}: 1.0}}.")
    stated = {} if said is None else dict(said)
    for name, value in stated.items():
        if name not in known:
            raise OptionError(
                f"The model has no {name!r}.{near(str(name), known)} It was given a true value. "
                f"Its parameters of this kind are {some(known, 20)}."
            )
        if not isinstance(value, int | float | np.number) or isinstance(value, bool) or not np.isfinite(value):
            raise OptionError(f"True values are finite numbers. Got {value!r} for {name!r}. Give a number.")
    return {name: float(value) for name, value in stated.items()}


def _check_covariances(rows: LiveRows, Psi: Sequence[Array], residual: float) -> None:
    """Refuse variances below zero and covariances that no effects can have."""
    for level, matrix in zip(rows.frame.hierarchy.levels, Psi, strict=True):
        if len(matrix) and np.linalg.eigvalsh(matrix)[0] < SEMIDEFINITE * max(np.trace(matrix), 1.0):
            raise OptionError(
                f"True variances and covariances must be possible together. Those of {level.name!r} are no covariance "
                f"matrix. Make variances larger or covariances smaller."
            )
    if not residual >= 0:
        raise OptionError(f"A variance is not negative. Got {residual!r} for {RESIDUAL!r}. Give the variance.")


def _reliability(fit: FitResult, reliability: Any) -> float:
    """Check the stated reliability, or read it off the plausible values of the fit (bootstrap, eq. 10)."""
    if not fit.has_closed_form:
        raise NotSupportedError(f"Plausible values are drawn in linear models. This one has {fit.kind}. Use n_pv=1.")
    if reliability is None:
        if len(fit.fits) < 2:
            raise OptionError(
                "Several plausible values have a reliability. None was given, and the model has one outcome. "
                "Write for example reliability=0.9."
            )
        within = np.var([rows.y for rows in live_rows(fit)], axis=0, ddof=1).mean()
        return float(np.clip(1.0 - within / fit.sigma**2, 0.0, 1.0))
    if (
        not isinstance(reliability, int | float | np.number)
        or isinstance(reliability, bool)
        or not 0 < reliability <= 1
    ):
        raise OptionError(
            f"A reliability is above 0 and at most 1. Got reliability={reliability!r}. Write for example 0.9."
        )
    return float(reliability)


def _counted(truth: _Truth, n: int, alpha: float, seed: Sequence[int], tick: Any) -> pd.DataFrame:
    """Count rejections, and intervals that hold the truth."""
    found = []
    for fit in truth.fits(n, seed):
        if fit.converged:
            found.append(fit.tidy(1.0 - alpha)[["estimate", "std_error", "p_value", "ci_low", "ci_high"]].to_numpy())
        if tick is not None:
            tick(1)
    m = len(found)
    if m < 2:
        raise NotSupportedError(
            f"Power needs samples whose fits converge. {n - m} of {n} did not. Use a model with fewer random effects."
        )
    estimate, error, p, low, high = np.moveaxis(np.array(found), -1, 0)
    true = truth.effects.to_numpy()
    hits = (p < alpha).sum(axis=0)
    tail = (1.0 - BOUND) / 2
    return pd.DataFrame(
        {
            "term": list(truth.effects.index),
            "effect": true,
            "power": hits / m,
            "ci_low": np.where(hits > 0, betaincinv(np.maximum(hits, 1), m - hits + 1, tail), 0.0),
            "ci_high": np.where(hits < m, betaincinv(hits + 1, np.maximum(m - hits, 1), 1.0 - tail), 1.0),
            "estimate": estimate.mean(axis=0),
            "std_error": error.mean(axis=0),
            "coverage": ((low <= true) & (true <= high)).mean(axis=0),
            "n": m,
        }
    )
