"""What sampling weights do: their spread and extreme values, and the same model under other weights.

Equations are those of docs/effects.md.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pmwmix._types import Array
from pmwmix.data.codes import printed
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.inference.criteria import check_whole
from pmwmix.inference.delta import rows_of, unscaled_weights
from pmwmix.prediction.rows import live_rows, with_rows
from pmwmix.results.build import refit
from pmwmix.spec.checks import check_fitted
from pmwmix.variance import VARIANCES
from pmwmix.weights.conditional import WeightStats, total_weights
from pmwmix.weights.scaling import SCALINGS

VARIANTS = ("unweighted", "top", "none", "size", "effective")
TOP_SHARE = 0.01


def weight_diagnostics(fit: Any, times: float = 4.0) -> pd.DataFrame:
    """Spread of the weights of every level, before and after scaling.

    Parameters
    ----------
    fit : FitResult
    times : float
        Weights above ``times`` the median are counted as extreme.

    Returns
    -------
    DataFrame
        By level and kind: ``n``, ``n_eff`` and ``deff`` = 1 + CV² (Kish [1]_; effects, eqs. 16-17), ``cv``,
        ``mean, min, max``, ``max_to_median``, ``top_share`` (part of all weight that the heaviest 1 % of units
        hold, at least one unit) and ``n_extreme``. Kinds are ``"total"`` (of the rows or units in the population),
        ``"conditional"`` (within the unit above) and ``"used"`` (conditional, after scaling).

    Notes
    -----
    Kish's factor is the loss from weights that are unrelated to the outcome; what weights and clusters did to a
    coefficient is in `effects.design_effects`.

    References
    ----------
    .. [1] Kish (1992). Weighting for unequal Pi. J. Official Statistics, 8(2), 183-200.
    """
    check_fitted(fit, "weight_diagnostics()")
    _check_times(times)
    frame = rows_of(fit, "weight_diagnostics()")[0][1].whole.frame
    rows = {
        (level, kind): _spread(w, times) for level, kinds in _every_weight(frame).items() for kind, w in kinds.items()
    }
    out = pd.DataFrame.from_dict(rows, orient="index")
    out.index = pd.MultiIndex.from_tuples(rows, names=["level", "kind"])
    return out.astype({"n": int, "n_extreme": int})


def extreme_weights(fit: Any, times: float = 4.0, kind: str = "total") -> pd.DataFrame:
    """List the units whose weight is far above the median of their level.

    Parameters
    ----------
    fit : FitResult
    times : float
        How many times the median.
    kind : {"total", "conditional", "used"}

    Returns
    -------
    DataFrame
        ``level, unit, weight, ratio`` (to the median), heaviest first inside a level. Rows are named by their label in
        the table of the fit, groups as in ``ranef()``.
    """
    check_fitted(fit, "extreme_weights()")
    _check_times(times)
    if kind not in ("total", "conditional", "used"):
        raise OptionError(f"Unknown kind of weights. Got kind={kind!r}. Use one of 'total', 'conditional' and 'used'.")
    frame = rows_of(fit, "extreme_weights()")[0][1].whole.frame
    labels = [list(frame.index), *(printed(level.labels) for level in frame.hierarchy.levels)]
    out: list[dict[str, Any]] = []
    for units, (level, kinds) in zip(labels, _every_weight(frame).items(), strict=True):
        w = kinds[kind]
        ratio = w / np.median(w)
        place = np.flatnonzero(ratio > times)
        place = place[np.argsort(-ratio[place], kind="stable")]
        out += [{"level": level, "unit": units[i], "weight": w[i], "ratio": ratio[i]} for i in place]
    return pd.DataFrame(out, columns=["level", "unit", "weight", "ratio"])


def _check_times(times: float) -> None:
    if not times > 0:
        raise OptionError(f"Extreme weights are counted from a positive multiple. Got times={times!r}. Write times=4.")


def _every_weight(frame: ModelFrame) -> dict[str, dict[str, Array]]:
    """Weights of every level by kind, rows first."""
    cond = unscaled_weights(frame)
    totals = total_weights(cond, frame.hierarchy.row_parents)
    return {
        name: {"total": totals[i], "conditional": cond[i], "used": frame.w[i]}
        for i, name in enumerate(frame.level_names)
    }


def _spread(w: Array, times: float) -> dict[str, float]:
    stats, median = WeightStats.of(w), float(np.median(w))
    heaviest = np.sort(w)[-max(1, round(TOP_SHARE * len(w))) :]
    return {
        "n": stats.n,
        "n_eff": stats.n_eff,
        "deff": stats.n / stats.n_eff,
        "cv": stats.cv,
        "mean": stats.mean,
        "min": stats.min,
        "max": stats.max,
        "max_to_median": stats.max / median,
        "top_share": float(heaviest.sum() / w.sum()),
        "n_extreme": int((w > times * median).sum()),
    }


def sensitivity(fit: Any, ci_prob: float = 0.95, wide: bool = False) -> pd.DataFrame:
    """Fit the same model under other weights: none at all, the top level's only, and every scaling.

    Parameters
    ----------
    fit : FitResult
        With weights; on the same rows and plausible values everything is fitted again.
    ci_prob : float
    wide : bool
        Lay the variants side by side, one row per term, for reading; else one row per term and variant, for plots.

    Returns
    -------
    DataFrame
        Long: ``part`` (``"fixed"`` or ``"random"``), ``term, variant, estimate, std_error, ci_low, ci_high,
        converged``. Wide: by part and term, a pair of columns ``estimate, std_error`` per variant. Variants are
        ``unweighted``, ``top`` (conditional weights of 1 below the top level), ``none``, ``size``, ``effective`` and,
        with two levels, ``gk``; with more, ``size-lowest``, what is recommended for PISA (with two levels, that is
        ``size``). Random terms are variances and covariances.

    Notes
    -----
    Estimates that move between ``none``, ``size`` and ``effective`` point to small groups, those that move between
    ``unweighted`` and the others to informative weights [1]_. Standard errors are by the fit's own method (``robust``
    where that needs more than a refit), so that variants differ in weights only; columns centred at weighted means stay
    as they are. Generalised models keep the numbers of quadrature nodes. Intervals of variances are formed on the log
    scale.

    References
    ----------
    .. [1] Rabe-Hesketh & Skrondal (2006). J. R. Stat. Soc. A, 169(4), 805-827. doi:10.1111/j.1467-985X.2006.00426.x
    """
    check_fitted(fit, "sensitivity()")
    if not 0 < ci_prob < 1:
        raise OptionError(f"ci_prob is a probability between 0 and 1. Got {ci_prob!r}. Write for example ci_prob=0.95.")
    check_weighted(fit, "sensitivity()")
    fit = with_rows(fit)
    frame = live_rows(fit)[0].frame
    if frame.hierarchy.crossed:
        raise NotSupportedError(
            "sensitivity() compares the scalings of weights inside nested groups. The random effects of this fit are "
            "crossed. Fit with and without weights, and compare the two."
        )
    tables = []
    for variant in (*VARIANTS, "gk" if len(frame.level_names) == 2 else "size-lowest"):
        again = refit(fit, partial(reweighted, variant=variant), **_settings(fit, variant))
        tables.append(_terms(again, ci_prob).assign(variant=variant, converged=again.converged))
    columns = ["part", "term", "variant", "estimate", "std_error", "ci_low", "ci_high", "converged"]
    out = pd.concat(tables, ignore_index=True)[columns]
    return _side_by_side(out) if wide else out


def check_weighted(fit: Any, verb: str) -> None:
    """Refuse fits without weights or without their data.

    Raises
    ------
    OptionError, NotSupportedError
    """
    rows_of(fit, verb)
    check_whole(fit, verb)
    if not fit.settings.weighted:
        raise OptionError(
            f"{verb} compares weights, and this fit has none. The call was {fit.settings.call}. "
            f"Fit with weights=[...] and start from that fit."
        )


def reweighted(frame: ModelFrame, variant: str) -> ModelFrame:
    """Give the frame other weights: ``"unweighted"``, ``"top"`` or the name of a scaling."""
    if variant == "unweighted":
        w, weighted = tuple(np.ones_like(x) for x in frame.w), (False,) * len(frame.w)
    elif variant == "top":
        own = unscaled_weights(frame)[-1]
        w = (*(np.ones_like(x) for x in frame.w[:-1]), own)
        weighted = (*((False,) * (len(frame.w) - 1)), frame.weighted[-1])
    else:
        w = SCALINGS[variant](unscaled_weights(frame), frame.hierarchy.row_parents)
        weighted = frame.weighted
    named = tuple(name if has else None for name, has in zip(frame.weight_columns, weighted, strict=True))
    scaling = variant if variant in SCALINGS else "none"
    return replace(frame, w=w, weighted=weighted, weight_columns=named, scaling=scaling, weight_stats={}, notes=())


def _settings(fit: Any, variant: str) -> dict[str, Any]:
    gone = {"unweighted": 0, "top": 1}.get(variant)
    weights = fit.settings.weights
    if gone is not None:
        weights = tuple((level, None) for level, _ in weights[: len(weights) - gone]) + weights[len(weights) - gone :]
    vcov = fit.settings.vcov if fit.settings.vcov in VARIANCES else "robust"
    out = {"weights": weights, "scaling": variant if variant in SCALINGS else "none", "vcov": vcov}
    return out if fit.quadrature is None else {**out, "n_agq": fit.quadrature["n_agq"]}


def _terms(fit: Any, ci_prob: float) -> pd.DataFrame:
    """Coefficients and variance components in one shape."""
    columns = ["term", "estimate", "std_error", "ci_low", "ci_high"]
    fixed = fit.tidy(ci_prob)[columns].assign(part="fixed")
    rows = []
    z = float(stdtrit(1e10, 0.5 + ci_prob / 2))
    for row in fit.varcorr.itertuples(index=False):
        names = [name for name in (row.var1, row.var2) if name is not None]
        term = f"{row.grp} {', '.join(names)}".strip()
        estimate, error = float(row.vcov), float(row.se)
        low, high = estimate - z * error, estimate + z * error
        if row.var2 is None:
            ratio = np.exp(z * error / estimate) if estimate > 0 else np.nan
            low, high = estimate / ratio, estimate * ratio
        rows.append(dict(zip(columns, (term, estimate, error, low, high), strict=True)))
    return pd.concat([fixed, pd.DataFrame(rows).assign(part="random")], ignore_index=True)


def _side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    order = list(dict.fromkeys(zip(table["part"], table["term"], strict=True)))
    wide = table.pivot(index=["part", "term"], columns="variant", values=["estimate", "std_error"])
    wide = wide.swaplevel(axis=1).reindex(index=pd.MultiIndex.from_tuples(order, names=["part", "term"]))
    variants = list(dict.fromkeys(table["variant"]))
    return wide.reindex(columns=pd.MultiIndex.from_product([variants, ["estimate", "std_error"]]))
