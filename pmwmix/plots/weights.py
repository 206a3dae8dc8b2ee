"""Distribution of the sampling weights of every level, before and after scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from arviz_plots import PlotCollection

from pmwmix.errors import OptionError
from pmwmix.inference.delta import unscaled_weights
from pmwmix.plots._base import (
    BLUE,
    GREEN,
    ORANGE,
    backend_of,
    check_count,
    check_fit,
    each_panel,
    matplotlib_axes,
    padded,
    panels,
    rows_of,
    shortened,
    text_of,
    write_axes,
    write_legend,
    write_titles,
)
from pmwmix.studies.sensitivity import weight_diagnostics
from pmwmix.weights.conditional import total_weights

KINDS = {"total": "total weights", "used": "weights used"}
SKEWED = 10.0  # largest weight over the median from which on the axis is logarithmic


def weights(
    fit: Any,
    *,
    bins: int | None = None,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw the distribution of the weights of every level: as given (total), and as used after scaling.

    The left histograms are of the total weights, how many rows or units of the population each one stands for; the
    right ones of what the likelihood uses: weights within the unit above, after scaling. Titles have Kish's effective
    sample size and the coefficient of variation (CV): the longer the tail, the fewer units speak. The line is the mean.
    Axes are logarithmic where the largest weight is more than ten times the median.

    Parameters
    ----------
    fit : FitResult or BayesResult
        With weights.
    bins : int, optional
        Bars per histogram. None: more for more units, 8 to 40.
    labels : dict, optional
        What to write for a level (``"obs"`` are the rows).
    backend : str, optional
        Of arviz_plots.
    figure_kwargs : dict, optional
        For the figure, such as ``figsize``.

    Returns
    -------
    arviz_plots.PlotCollection

    Raises
    ------
    OptionError
        If the fit has no weights, or an argument is not among the legal ones.
    NotSupportedError
        If the fit was read from a file, which keeps no columns.

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(40, 12, n_pv=1, random_seed=3)
    >>> fit = pmwmix.fit(survey.formula, survey.data, weights=survey.weights, scaling="size", pv=survey.pv)
    >>> plot = pmwmix.plots.weights(fit, backend="none")
    """
    if bins is not None:
        check_count(bins, "bins", 2)
    data = weights_data(check_fit(fit, "weights"), bins)
    pc = panels(data, backend, figure_kwargs, n_cols=2, size=(3.6, 2.1))
    module = backend_of(pc)
    for i, target in enumerate(each_panel(pc)):
        one = data.isel(panel=i).dropna("bar")
        colour = BLUE if str(one["kind"].item()) == "total" else GREEN
        module.hist(one["count"].values, one["left"].values, one["right"].values, target, color=colour, alpha=0.75)
        module.vline(float(one["mean"]), target, color=ORANGE, width=1.4)
        if bool(one["log"]):
            module.xscale(target, "log")
    write_titles(pc, [_title(data.isel(panel=i), labels) for i in range(data.sizes["panel"])], size=8.5, width=60)
    write_axes(pc, ["Weight" + (" (log scale)" if log else "") for log in data["log"].values], "Number")
    for ax in matplotlib_axes(pc):
        ax.set_ylim(bottom=0)
    write_legend(pc, [("mean", {"color": ORANGE, "linestyle": "-", "marker": ""})])
    return pc


def weights_data(fit: Any, bins: int | None = None) -> xr.Dataset:
    """Histograms and statistics by panel: level and kind."""
    fit = fit.ml if getattr(fit, "idata", None) is not None else fit
    frame = rows_of(fit, 1, "weights").frame
    if not fit.settings.weighted:
        raise OptionError(
            f"weights() shows sampling weights, and this fit has none. The call was {fit.settings.call}. "
            f"Fit with weights=[...]."
        )
    stats = weight_diagnostics(fit).to_dict(orient="index")
    totals = total_weights(unscaled_weights(frame), frame.hierarchy.row_parents)
    parts, names = [], []
    for level, (name, total, used) in enumerate(zip(frame.level_names, totals, frame.w, strict=True)):
        top = level == len(frame.w) - 1
        for kind, w in (("total", total), ("used", used)):
            names.append(f"{name}: {kind}")
            parts.append(_one(w, bins, stats[name, kind], name, kind, top))
    bars = {name: (("panel", "bar"), padded([part[name] for part in parts])) for name in ("count", "left", "right")}
    others = {name: ("panel", [part[name] for part in parts]) for name in parts[0] if name not in bars}
    return xr.Dataset(bars | others, coords={"panel": names})


def _one(w: Any, bins: int | None, stats: Any, level: str, kind: str, top: bool) -> dict[str, Any]:
    """Count weights between equally spaced edges, on the logarithmic scale if they are very skewed."""
    bins = int(np.clip(2 * len(w) ** 0.5, 8, 40)) if bins is None else bins
    log = bool(w.max() > SKEWED * np.median(w))
    low, high = float(w.min()), float(w.max())
    if high - low <= 1e-9 * high:  # all the same: one bar in the middle
        low, high, log, bins = 0.5 * low, 1.5 * high, False, 21
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
    edges[[0, -1]] = low, high
    count, _ = np.histogram(w, edges)
    numbers = {"mean": w.mean(), "n": stats["n"], "n_eff": stats["n_eff"], "cv": stats["cv"]}
    bars = {"count": count.astype(float), "left": edges[:-1], "right": edges[1:]}
    return {**bars, **numbers, "log": log, "level": level, "kind": kind, "top": top}


def _title(one: xr.Dataset, labels: Mapping[str, str] | None) -> str:
    level, kind = str(one["level"].item()), str(one["kind"].item())
    name = text_of(level, {"obs": "rows", **(labels or {})})
    within = "" if kind == "total" or bool(one["top"]) else " within the unit above"
    numbers = f"n = {int(one['n'])}, effective n = {float(one['n_eff']):.0f}, CV = {float(one['cv']):.2f}"
    return f"{shortened(name)}: {KINDS[kind]}{within}\n{numbers}"
