"""Variance explained: R² of the whole, within and between groups, and by level.

Equations are those of docs/effects.md. Standard errors treat the predictors as fixed, but for Snijders and Bosker's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.choose import Plan
from pmwmix.fitting.climb import fit_outcomes
from pmwmix.fitting.refits import replicate_estimates
from pmwmix.frame.matrices import Matrix
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.frame.replicates import ReplicateScheme
from pmwmix.inference.again import influence
from pmwmix.inference.delta import check_latent, delta, pooled_delta, rows_of, unpack, unscaled_weights
from pmwmix.inference.icc import residual_variances
from pmwmix.pooling import Pooled, pool
from pmwmix.prediction.rows import LiveRows
from pmwmix.variance import between_psu
from pmwmix.weights.conditional import total_weights
from pmwmix.weights.replicate_types import BY_REPLICATES


@dataclass(frozen=True)
class Moments:
    """Moments of the predictors over rows, around the means of the lowest units, and of those means; weighted.

    Parameters
    ----------
    x, x_within, x_between : ndarray, shape (p, p)
        Covariances of the fixed columns.
    z, z_within, z_between : list of ndarray, each (q_l, q_l)
        Mean of z z' per level.
    """

    x: Array
    x_within: Array
    x_between: Array
    z: list[Array]
    z_within: list[Array]
    z_between: list[Array]


def r2(fit: Any, snijders_bosker: bool | None = None) -> pd.DataFrame:
    """Variance explained: marginal and conditional, by source within and between groups, and by level.

    Parameters
    ----------
    fit : FitResult
        Weighted moments of the predictors where there are weights; pooled over plausible values. Of a generalised model
        everything is on the scale of the linear predictor.
    snijders_bosker : bool, optional
        Linear models with two levels only: add the proportional reductions of variance against the model without
        predictors, which is refitted (and so is the model itself, with a random intercept only, if it has random
        slopes). None: where they are defined.

    Returns
    -------
    DataFrame
        By ``measure``, of several outcomes each (``math.marginal``): ``estimate``, ``std_error``, of pooled fits
        ``fmi``.

    Raises
    ------
    NotSupportedError
        If Snijders and Bosker's are asked for where they are not defined.

    Notes
    -----
    ``marginal`` and ``conditional`` (effects, eqs. 3-4) hold for any number of levels, with z'Ψz averaged over rows
    when there are random slopes [1]_ [2]_. With two levels follow the shares of Rights and Sterba [3]_ (effects,
    eqs. 5-9): of the total, within and between variance due to predictors within (``f1``) and between groups (``f2``),
    slope variation (``v``) and group means (``m``), and those of Snijders and Bosker [4]_ (effects, eqs. 10-11),
    which compare two fits: their errors come from both at once, by the sandwich (effects, eq. 27) under every ``vcov``
    but the replicates', and take the predictors as sampled.
    A predictor that is not centred at the group mean contributes to ``f1`` and ``f2`` with the same coefficient. In
    generalised models the level-1 variance (theory, eq. 53) takes the place of the residual one; offsets do not count.

    References
    ----------
    .. [1] Nakagawa, Johnson & Schielzeth (2017). J. R. Soc. Interface, 14, 20170213. doi:10.1098/rsif.2017.0213
    .. [2] Johnson (2014). Methods in Ecology and Evolution, 5, 944-946. doi:10.1111/2041-210X.12225
    .. [3] Rights & Sterba (2019). Psychological Methods, 24(3), 309-338. doi:10.1037/met0000184
    .. [4] Snijders & Bosker (1994). Sociological Methods & Research, 22(3), 342-363.
       doi:10.1177/0049124194022003004
    """
    parts = [(one, rows.whole) for one, rows in rows_of(fit, "r2()")]
    check_latent(fit, "r2()")
    defined = fit.has_residual_variance and len(parts[0][1].frame.hierarchy.levels) == 1 and not fit.outcomes
    if snijders_bosker and not defined:
        raise NotSupportedError(
            f"Snijders and Bosker's R² are defined for linear models of one outcome with two levels. This one has "
            f"{fit.kind} and {len(fit.n_groups) + 1} levels. Leave snijders_bosker out; the other measures hold."
        )
    found: dict[int, list[Moments]] = {}
    functions = []
    for _, rows in parts:  # plausible values of the outcome share their predictors
        if id(rows.design) not in found:
            found[id(rows.design)] = [_moments(rows, k) for k in range(max(len(fit.outcomes), 1))]
        functions.append(partial(_measure_values, rows, found[id(rows.design)]))
    first = parts[0][1]
    names = list(_every(first, found[id(first.design)], parts[0][0].parameters[0]))
    pooled = pooled_delta(fit, functions)
    out = pd.DataFrame(_columns(fit, pooled), index=names)
    if defined and snijders_bosker is not False:
        reduced = _reductions(fit, parts)
        for level, row in enumerate(zip(*_columns(fit, reduced).values(), strict=True), start=1):
            out.loc[f"snijders_bosker_{level}"] = row
    return out.rename_axis("measure")


def _columns(fit: Any, pooled: Pooled) -> dict[str, Array]:
    columns = {"estimate": pooled.estimate, "std_error": np.sqrt(np.maximum(np.diag(pooled.vcov), 0.0))}
    return columns if fit.n_pv == 1 else {**columns, "fmi": pooled.fmi}


def _moments(rows: LiveRows, k: int) -> Moments:
    """Moments of the predictors of outcome ``k``."""
    frame, columns_of = rows.frame, rows.columns_of()
    own = [*columns_of.values()][k]
    w = total_weights(unscaled_weights(frame), frame.hierarchy.row_parents)[0]
    levels, n = frame.hierarchy.levels, frame.n
    index = levels[0].index if levels else np.zeros(n, dtype=np.int64)
    w = w / w.sum()
    group = np.bincount(index, w)

    def parts(columns: Sequence[Array], centred: bool) -> tuple[Array, Array, Array]:
        if not columns:
            return np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 0))
        C = np.column_stack(columns)
        C = C - w @ C if centred else C
        means = np.column_stack([np.bincount(index, w * c) for c in C.T]) / group[:, None]
        rest = C - means[index]
        within, between = (rest * w[:, None]).T @ rest, (means * group[:, None]).T @ means
        return within + between, within, between

    x = [n / (n - 1) * S for S in parts([*own.values()], True)]
    blocks = [b for b in rows.design.blocks if b.predictor == k or not frame.formula.outcomes]
    z = [
        parts([c for b in blocks if b.level == level for c in b.matrix.columns], False) for level in range(len(levels))
    ]
    return Moments(x[0], x[1], x[2], *([one[i] for one in z] for i in range(3)))


def _every(rows: LiveRows, every: Sequence[Moments], values: Array) -> dict[str, float]:
    """Measures by name, those of several outcomes after the outcome's: ``math.marginal``."""
    beta, Psi, sigma2 = unpack(rows, values)
    outcomes = rows.frame.formula.outcomes
    if not outcomes:
        return _measures(every[0], beta, Psi, sigma2)
    out: dict[str, float] = {}
    level_one, blocks = residual_variances(values, len(outcomes)), rows.design.blocks
    for k, (name, m) in enumerate(zip(outcomes, every, strict=True)):
        own = []
        for level, P in enumerate(Psi):
            mine = np.flatnonzero([b.predictor == k for b in blocks if b.level == level for _ in b.names])
            own.append(P[np.ix_(mine, mine)])
        found = _measures(m, beta[rows.blueprint.x_of == k], own, float(level_one[k]))
        out |= {f"{name}.{measure}": value for measure, value in found.items()}
    return out


def _measures(m: Moments, beta: Array, Psi: Sequence[Array], sigma2: float) -> dict[str, float]:
    fixed = beta @ m.x @ beta
    random = sum(float(np.sum(P * z)) for P, z in zip(Psi, m.z, strict=True))
    total = fixed + random + sigma2
    out = {"marginal": fixed / total, "conditional": (fixed + random) / total}
    if len(Psi) != 1:
        return out
    f1, f2 = beta @ m.x_within @ beta, beta @ m.x_between @ beta
    v, mean = float(np.sum(Psi[0] * m.z_within[0])), float(np.sum(Psi[0] * m.z_between[0]))
    within, between = f1 + v + sigma2, f2 + mean
    out |= {"total_f1": f1 / total, "total_f2": f2 / total, "total_v": v / total, "total_m": mean / total}
    out |= {"within_f1": f1 / within, "within_v": v / within}
    return out | {"between_f2": f2 / between if between > 0 else np.nan}


def _measure_values(rows: LiveRows, every: Sequence[Moments], values: Array) -> Array:
    return np.array(list(_every(rows, every, values).values()))


@dataclass(frozen=True)
class _Pair:
    """A plausible value's model without predictors and its own, both with a random intercept only.

    ``fits`` are pairs of problem and estimate; ``n`` is the harmonic mean of group sizes.
    """

    fits: tuple[tuple[Any, Any], tuple[Any, Any]]
    frame: ModelFrame
    n: float

    def of(self, values: Array) -> Array:
        """Snijders and Bosker's R² of both levels (effects, eqs. 10-11) from (psi_0, sigma_0², psi, sigma²)."""
        t0, s0, t1, s1 = values
        return np.array([1.0 - (s1 + t1) / (s0 + t0), 1.0 - (s1 / self.n + t1) / (s0 / self.n + t0)])

    @property
    def values(self) -> Array:
        """Variances (4,)."""
        return np.array([v for _, fit in self.fits for v in (float(fit.Psi[0][0, 0]), fit.sigma**2)])

    def sandwich(self) -> Array:
        """Joint covariance of the variances (4, 4), of the PSUs' influence on both fits (effects, eq. 27)."""
        given = [influence(problem, fit, 0, self.frame.clusters) for problem, fit in self.fits]
        scores = [one.scores[:, -2:] for one in given if one.scores is not None]
        return between_psu(replace(given[0], scores=np.hstack(scores)))

    def replicated(self, scheme: ReplicateScheme, single_step: bool) -> Array:
        """Covariance (2, 2) of the R² over replicates, in each of which both models are fitted."""
        both = [
            replicate_estimates(self.frame, problem, {0: fit}, scheme, design=i, single_step=single_step)[0]
            for i, (problem, fit) in enumerate(self.fits)
        ]
        joint = replace(
            both[0],
            estimate=np.concatenate([one.estimate[-2:] for one in both]),
            replicates=np.hstack([one.replicates[:, -2:] for one in both]),
        )
        return joint.covariance_of(self.of)


def _pair(rows: LiveRows) -> _Pair:
    """Fit both models of Snijders and Bosker to one plausible value."""
    frame, ones = rows.frame, Matrix(("Intercept",), [np.ones(rows.frame.n)], None)
    block = rows.design.blocks[0]
    intercept = replace(block, matrix=ones, term=replace(block.term, structure="us"))
    designs = [DesignColumns(x, (intercept,), [rows.y]) for x in (ones, rows.design.x)]
    frame, engine = replace(frame, designs=designs), rows.engine
    estimates, places = fit_outcomes(frame, Plan(engine, rows.problem.reml), "model")
    (a, _), (b, _) = places
    n = 1.0 / float(np.mean(1.0 / np.bincount(frame.hierarchy.levels[0].index)))
    return _Pair(((a, estimates[0]), (b, estimates[1])), frame, n)


def _reductions(fit: Any, parts: Sequence[tuple[Any, LiveRows]]) -> Pooled:
    """Snijders and Bosker's R², pooled, with standard errors from both fits together."""
    pairs = [_pair(rows) for _, rows in parts]
    scheme = pairs[0].frame.replicates if fit.settings.vcov in BY_REPLICATES else None
    if scheme is not None:
        used = pairs[:1] * len(pairs) if scheme.first_only else pairs
        V = [pair.replicated(scheme, fit.settings.vcov == "replicate-one-step") for pair in used]
    else:
        V = [delta(pair.of, pair.values, pair.sandwich())[1] for pair in pairs]
    values = np.array([pair.of(pair.values) for pair in pairs])
    return pool(values, np.array(V), float(fit.design_df), fit.nests)
