"""fit.bootstrap: refits of drawn outcomes or drawn units, and what they say about any function of the fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.inference.again import influence
from pmwmix.pooling import pool
from pmwmix.pooling.nested import mix_draws
from pmwmix.prediction.rows import LiveRows
from pmwmix.resampling.asfit import Refitted
from pmwmix.resampling.intervals import LINEAR, METHODS, acceleration_of, basic, bca, percentile, scale_of, t_ends
from pmwmix.resampling.outcomes import check_count, draw_outcome, generator, simulated_rows
from pmwmix.resampling.refitted import AT_ONCE, Refits, joined, refit_outcomes
from pmwmix.resampling.residuals import ResidualDraws, check_residuals
from pmwmix.resampling.weighted import check_units, refit_units
from pmwmix.running import check_executor, over, run_on
from pmwmix.spec.checks import check_prob
from pmwmix.spec.latentmean import refuse_latent
from pmwmix.spec.measured import refuse_measured

KINDS = ("parametric", "residual", "cases", "rao-wu")
STEP = 1e-4  # of a standard error: for derivatives of the caller's function

Statistic = Callable[[Any], Any]


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap:
    """What refits say about the estimates; made by ``fit.bootstrap``.

    Parameters
    ----------
    fit : FitResult
    kind : str
    parts : tuple of Refits
        By plausible value.
    """

    fit: Any
    kind: str
    parts: tuple[Refits, ...]

    @property
    def n(self) -> int:
        """Number of refits, of every plausible value."""
        return len(self.parts[0].values)

    @property
    def n_failed(self) -> int:
        """Number of refits that did not converge; they are left out."""
        return int(sum((~part.converged).sum() for part in self.parts))

    @cached_property
    def estimates(self) -> pd.DataFrame:
        """Coefficients, deviations, correlations, residual structure of every refit; plausible values in turn."""
        return self.values(_numbers)

    def values(self, of: Statistic) -> pd.DataFrame:
        """Give a function of the fit in every refit that converged.

        Parameters
        ----------
        of : callable
            Fit -> number, Series, dict or array. Its argument has the ``coef``, ``varcorr``, ``sigma``, ``icc`` and
            ``parameters`` of a refit, and no rows.

        Returns
        -------
        DataFrame
            A row per refit; with plausible values a level ``pv`` of the index.
        """
        frames = [self._of_part(k, of)[1] for k in range(len(self.parts))]
        return frames[0] if len(frames) == 1 else pd.concat(frames, keys=range(1, len(frames) + 1), names=["pv", None])

    def tidy(self, ci_prob: float = 0.95, method: str = "percentile", of: Statistic | None = None) -> pd.DataFrame:
        """Table of estimates, their bootstrap errors and intervals.

        Parameters
        ----------
        ci_prob : float
        method : {"percentile", "basic", "bca", "t"}
            Quantiles of the refits; these mirrored at the estimate; corrected for bias and skewness; or estimate plus
            and minus bootstrap errors times quantiles of t, standard deviations on the logarithm and correlations on
            Fisher's z: for few clusters, of which quantiles of refits know nothing.
        of : callable, optional
            As in `values`; default: coefficients, standard deviations and correlations.

        Returns
        -------
        DataFrame
            ``term, estimate, bias, std_error, ci_low, ci_high``.

        Raises
        ------
        OptionError, NotSupportedError

        Notes
        -----
        Bootstrap, eqs. 5-8 and 11-12. Over plausible values variances within them are the refits', and the refits are
        shifted so that they spread by the rules of pooling (imputations, eq. 7), standard deviations and correlations
        no further than to 0 and 1.
        """
        check_prob(ci_prob)
        if method not in METHODS:
            raise OptionError(
                f"Unknown bootstrap interval {method!r}.{near(str(method), METHODS)} Use one of "
                f"{', '.join(map(repr, METHODS))}."
            )
        asked = of or _numbers
        parts = [self._of_part(k, asked) for k in range(len(self.parts))]
        centres = np.array([centre.to_numpy() for centre, _ in parts])
        draws = [frame.to_numpy() for _, frame in parts]
        if min(len(one) for one in draws) < 2:
            raise NotSupportedError(
                f"Bootstrap errors need two refits. {self.n_failed} of {self.n * len(parts)} did not converge. "
                f"Fit a model with fewer random effects."
            )
        variances = np.array([np.nanvar(one, axis=0, ddof=1) for one in draws])
        pooled = pool(centres, variances, nests=self.fit.nests)
        mixed = _mixed(draws, self.fit.nests)
        if of is None:
            mixed = Refitted(self.fit.fits[0]).legal(mixed)
        if method == "t":
            low, high = self._t_ends(draws, centres, ci_prob, of is None)
        else:
            low, high = self._ends(mixed, pooled.estimate, ci_prob, method, asked)
        bias = np.mean([np.nanmean(one, axis=0) for one in draws], axis=0) - pooled.estimate
        numbers = {"estimate": pooled.estimate, "bias": bias, "std_error": np.sqrt(pooled.vcov)}
        return pd.DataFrame({"term": list(parts[0][0].index), **numbers, "ci_low": low, "ci_high": high})

    def confint(self, ci_prob: float = 0.95, method: str = "percentile", of: Statistic | None = None) -> pd.DataFrame:
        """Intervals alone, by term: ``ci_low, ci_high``; arguments as in `tidy`."""
        return self.tidy(ci_prob, method, of).set_index("term")[["ci_low", "ci_high"]]

    def __repr__(self) -> str:
        failed = f", {self.n_failed} not converged" if self.n_failed else ""
        what = "fits" if any(self.fit.nests) else "plausible values"
        pv = f" of each of {len(self.parts)} {what}" if len(self.parts) > 1 else ""
        return f"{self.kind} bootstrap, {self.n} refits{pv}{failed}\n{self.tidy().to_string(index=False)}"

    def _of_part(self, k: int, of: Statistic) -> tuple[pd.Series, pd.DataFrame]:
        """Give the function at one plausible value's fit, and in its refits."""
        one, part = self.fit.fits[k], self.parts[k]
        base = Refitted(one)
        if of is _numbers:  # as a whole: tables of thousands of refits take longer than the refits
            table = pd.DataFrame(base.numbers(part.values[part.converged]), columns=base.names)
            return pd.Series(base.numbers(_parameters(one)[None])[0], index=base.names), table
        centre = as_series(of(base.at(_parameters(one))))
        rows = [as_series(of(base.at(values))).to_numpy() for values in part.values[part.converged]]
        return centre, pd.DataFrame(np.array(rows).reshape(-1, len(centre)), columns=centre.index)

    def _t_ends(self, draws: list[Array], centres: Array, ci_prob: float, own: bool) -> Array:
        """Give ends by the t distribution, of ``own`` numbers on the scales of deviations and correlations."""
        one, clusters = self.fit.fits[0], float(self.fit.design_df)
        if not clusters >= 1:
            raise NotSupportedError(
                f"Intervals by the t distribution need independent clusters, two or more. This fit leaves "
                f"{clusters:.0f} degrees of freedom. Use method='percentile'."
            )
        m = centres.shape[1]
        scales, df = np.full(m, LINEAR), np.full(m, clusters)
        if own:
            base = Refitted(one)
            scales = np.array([scale_of(low, high) for low, high in base.ends])
            if self.kind in ("parametric", "residual") and one.has_residual_variance:
                effects = sum(level.b.size for level in one.rows.modes())
                m = max(len(one.outcomes), 1)  # of several outcomes each has its share of effects and coefficients
                own_rows = [name.startswith("Residual") for name in base.names]
                df[own_rows] = max(one.nobs - (effects + base.p) / m, clusters)
        levels = clusters + float(self.fit.settings.clusters[3])
        widen = np.sqrt(levels / clusters) if self.kind == "cases" else 1.0
        return t_ends(draws, centres, scales, df, self.fit.nests, widen, ci_prob)

    def _ends(self, draws: Array, centre: Array, ci_prob: float, method: str, of: Statistic) -> Array:
        if method == "percentile":
            return percentile(draws, ci_prob)
        if method == "basic":
            return basic(draws, centre, ci_prob)
        if self.fit.outcomes:
            raise NotSupportedError(
                f"Corrected intervals need the influence of every unit on all parameters. That on residual variances "
                f"of {', '.join(map(repr, self.fit.outcomes))} is not built. Use method='percentile' or 'basic'."
            )
        each = [acceleration_of(_influence_on(of, one)) for one in self.fit.fits]
        return bca(draws, centre, np.mean(each, axis=0), ci_prob)


def bootstrap(
    fit: Any,
    n: int = 1000,
    *,
    kind: str = "parametric",
    random_seed: int | None = None,
    executor: Any = None,
    progress: bool | None = None,
) -> Bootstrap:
    """Fit again and again to drawn data, each climb starting at this fit.

    Parameters
    ----------
    n : int
        Refits, of every plausible value.
    kind : {"parametric", "residual", "cases", "rao-wu"}
        Outcomes drawn from the model; random effects and residuals of the fit drawn with replacement (nested linear
        models); PSUs drawn with replacement inside strata; one PSU fewer per stratum, with weights rescaled (for
        designs with strata and few PSUs in each).
    random_seed : int, optional
        The same number gives the same refits, whatever the executor.
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Runs refits side by side. Processes must be spawned, not forked.
    progress : bool, optional
        Bar over the plausible values; default: in a terminal or notebook.

    Returns
    -------
    Bootstrap
        ``tidy()``, ``confint(method=, of=)``, ``estimates``, ``values(of)``.

    Raises
    ------
    OptionError, NotSupportedError, DesignError

    Notes
    -----
    Bootstrap, eqs. 1-4. ``"parametric"`` and ``"residual"`` take the model as true and the predictors, weights and
    groups as given; ``"cases"`` and ``"rao-wu"`` (Rao and Wu 1988 [1]_) draw the sample anew, as robust errors have it.

    References
    ----------
    .. [1] Rao, J. N. K. & Wu, C. F. J. (1988). Resampling inference with complex survey data. J. Am. Stat. Assoc.,
       83(401), 231-241. doi:10.1080/01621459.1988.10478591
    """
    check_count(n, "refits", 2)
    if kind not in KINDS:
        raise OptionError(
            f"Unknown kind of bootstrap {kind!r}.{near(str(kind), KINDS)} Use one of {', '.join(map(repr, KINDS))}."
        )
    pairs = simulated_rows(fit, f"bootstrap(kind={kind!r})")
    refuse_measured(fit.has_measured, "A bootstrap", "Use the errors of the fit")
    refuse_latent(fit.latent_means is not None, "A bootstrap", "Use the errors of the fit")
    check_executor(executor, pairs[0][1].engine)
    generator(random_seed)
    seed = int(np.random.default_rng().integers(2**62)) if random_seed is None else int(random_seed)
    jobs = list(enumerate(pairs))
    found = [_refits(one, rows, kind, (seed, k), n, executor) for k, (one, rows) in over("Bootstrap", progress)(jobs)]
    return Bootstrap(fit, kind, tuple(found))


def _refits(one: Any, rows: LiveRows, kind: str, seed: tuple[int, ...], n: int, executor: Any) -> Refits:
    """Refit one plausible value ``n`` times."""
    if kind in ("cases", "rao-wu"):
        check_units(rows.frame, kind)
        return refit_units(rows, kind == "rao-wu", seed, n, executor)
    if kind == "residual":
        check_residuals(one, rows)
        draw: Any = ResidualDraws(rows, one.residual_covariance.to_numpy() if one.outcomes else None)
    else:
        draw = partial(draw_outcome, one, rows)
    sizes = [min(AT_ONCE, n - first) for first in range(0, n, AT_ONCE)]
    tasks = [(one, rows, draw, (*seed, number), size) for number, size in enumerate(sizes)]
    if executor is None:
        return joined([refit_outcomes(*task) for task in tasks])
    return joined(list(run_on(executor, refit_outcomes, tasks, "parts of the bootstrap")))


def _parameters(one: Any) -> Array:
    """Parameters of a fit in the order of `Refits`."""
    linear = one.outcomes and one.has_residual_variance  # whose residual (co)variances stand among the parameters
    return np.array([*one.parameters[0], *(() if linear else one.rows.fit.reported.values())])


def _numbers(fit: Any) -> pd.Series:
    """Coefficients, standard deviations and correlations, by name."""
    names = Refitted(fit).names
    values = [*fit.coef, *fit.varcorr["sdcor"].astype(float), *fit.residual_structure]
    return pd.Series(values, index=names, dtype=float)


def as_series(value: Any) -> pd.Series:
    """Lay what a function of the fit gives out as a Series.

    Raises
    ------
    OptionError
        If it holds other things than numbers.
    """
    try:
        out = value if isinstance(value, pd.Series) else pd.Series(value) if isinstance(value, dict) else None
        out = pd.Series(np.atleast_1d(np.asarray(value, dtype=float)).ravel()) if out is None else out.astype(float)
    except (TypeError, ValueError):
        raise OptionError(
            f"A function of the fit gives numbers: one, a Series, a dict or an array. It gave {type(value).__name__} "
            f"{value!r}. Return for example fit.coef['escs']."
        ) from None
    return out


def _mixed(draws: list[Array], nests: Any) -> Array:
    """Mix draws of several fits; where a number is missing, as the correlation with an effect of zero, it stays so."""
    filled = [np.where(np.isnan(one), np.nanmean(one, axis=0), one) for one in draws]
    return np.where(np.isnan(np.concatenate(draws)), np.nan, mix_draws(filled, nests))


def _influence_on(of: Statistic, one: Any) -> Array:
    """Influence (G, m) of every top-level unit on a function of the fit, through its derivatives in the parameters."""
    rows = one.rows
    given = influence(rows.problem, rows.fit, rows.k, rows.frame.clusters)
    base, values, V = Refitted(one), _parameters(one), np.asarray(one.parameters[1])
    steps = np.where(np.isnan(np.diag(V)), STEP, STEP * np.sqrt(np.maximum(np.diag(V), 0.0)))
    slopes = []
    for i, step in enumerate(steps):
        if step == 0.0:  # a parameter on the boundary does not move
            slopes.append(np.zeros(len(as_series(of(base.at(values))))))
            continue
        shift = np.zeros(len(values))
        shift[i] = step
        ends = [as_series(of(base.at(values + sign * shift))).to_numpy() for sign in (1, -1)]
        slopes.append((ends[0] - ends[1]) / (2 * step))
    assert given.scores is not None
    return given.scores[:, : len(steps)] @ np.nan_to_num(np.array(slopes))
