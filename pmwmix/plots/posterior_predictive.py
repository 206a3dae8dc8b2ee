"""Observed outcome against outcomes drawn from the posterior predictive distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from arviz_plots import PlotCollection

from pmwmix.plots._base import (
    BLACK,
    BLUE,
    backend_of,
    check_choice,
    check_ci_prob,
    check_count,
    draw,
    each_panel,
    fit_of,
    labels_of,
    matplotlib_axes,
    panels,
    rows_of,
    shortened,
    text_of,
    write_axes,
    write_legend,
    xy,
)
from pmwmix.plots._draws import N_GRID, check_posterior, density
from pmwmix.weights.conditional import total_weights

KINDS = ("density", "ecdf", "bars")
MOST_BARS = 30  # values of a discrete outcome with a bar each; the rest share the last one


def posterior_predictive(
    fit: Any,
    *,
    kind: str | None = None,
    draws: int = 50,
    pv: int = 1,
    weighted: bool = True,
    ci_prob: float = 0.95,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw the distribution of the observed outcome over those of outcomes drawn from the model.

    The black curve is the data, each blue one a drawn outcome for the same rows. A model that fits makes the black one
    of them: other skewness, ceilings or too wide tails show where it leaves them. Of a discrete outcome bars are the
    data, points with intervals the draws.

    Parameters
    ----------
    fit : BayesResult
    kind : {"density", "ecdf", "bars"}, optional
        None: bars of a discrete outcome, else densities.
    draws : int
        Curves, or draws behind the intervals. If the fit has fewer, as many are made (and kept).
    pv : int
        Plausible value that is the observed outcome, with draws of its own posterior.
    weighted : bool
        Weight rows by their total weight, data and draws alike: a weighted fit is one to the population.
    ci_prob : float
        Probability of the intervals of bars.
    labels : dict, optional
        What to write for the outcome; default: the label in the survey's files, where there is one.
    backend : str, optional
        Of arviz_plots.
    figure_kwargs : dict, optional
        For the figure, such as ``figsize``.

    Returns
    -------
    arviz_plots.PlotCollection

    Raises
    ------
    NotSupportedError
        If the fit has no draws.
    OptionError
        If an argument is not among the legal ones.

    Examples
    --------
    >>> import pmwmix  # doctest: +SKIP
    >>> fit = pmwmix.fit("math ~ escs + (1 | school)", data, method="bayes")  # doctest: +SKIP
    >>> plot = pmwmix.plots.posterior_predictive(fit)  # doctest: +SKIP
    """
    check_posterior(fit, "posterior_predictive")
    labels = labels_of(fit, labels)
    check_ci_prob(ci_prob)
    check_count(draws, "draws", 2)
    if kind is not None:
        check_choice(kind, "kind", KINDS)
    y, drawn = predictive_draws(fit, pv, draws)
    w = _weights(fit, pv) if weighted else None
    kind = kind or ("bars" if _discrete(fit, y) else "density")
    data = bars_data(y, drawn, w, ci_prob) if kind == "bars" else curves_data(y, drawn, w, kind)
    pc = panels(data, backend, figure_kwargs, size=(4.6, 3.1))
    if kind == "bars":
        entries = _draw_bars(pc, data, tuple(fit.categories), ci_prob)
    else:
        entries = _draw_curves(pc, data)
    left = str(fit.formula).split("~")[0].strip()
    share = {"density": "Density", "ecdf": "Share of rows up to it", "bars": "Share of rows"}[kind]
    write_axes(pc, text_of(left, labels), share + (" (weighted)" if w is not None else ""))
    write_legend(pc, entries)
    return pc


def predictive_draws(fit: Any, pv: int, draws: int) -> tuple[Any, Any]:
    """Give observed (n,) and drawn outcomes (draws, n) of one plausible value."""
    one = fit_of(fit, pv)
    tree = one.idata.children
    if "posterior_predictive" not in tree or tree["posterior_predictive"]["y"][..., 0].size < draws:
        one.posterior_predictive(draws=draws)
    group = one.idata["posterior_predictive"]
    drawn = group["y"].stack(every=("chain", "draw")).transpose("every", "obs").to_numpy().astype(float)
    y = one.idata["observed_data"]["y"].to_numpy().reshape(-1, drawn.shape[1])[0]
    places = np.unique(np.round(np.linspace(0, len(drawn) - 1, min(draws, len(drawn)))).astype(int))
    return np.asarray(y, dtype=float), drawn[places]


def _weights(fit: Any, pv: int) -> Any:
    """Total weights of the rows, or None without weights."""
    if not fit.settings.weighted:
        return None
    frame = rows_of(fit, pv, "posterior_predictive").frame
    cond = getattr(frame, "cond", ()) or frame.w
    if frame.hierarchy.crossed:
        return np.asarray(cond[0])
    return total_weights(cond, frame.hierarchy.row_parents)[0]


def _discrete(fit: Any, y: Any) -> bool:
    whole = bool((y == np.round(y)).all())
    return whole and (not fit.distribution[0].has_scale or len(np.unique(y)) <= 12)


def curves_data(y: Any, drawn: Any, w: Any, kind: str) -> xr.Dataset:
    """Densities or cumulative shares on one grid: ``x, observed`` (panel, point), ``drawn`` (panel, draw, point)."""
    low, high = min(y.min(), np.quantile(drawn, 0.001)), max(y.max(), np.quantile(drawn, 0.999))
    margin = 0.04 * (high - low)
    grid = np.linspace(low - margin, high + margin, N_GRID)
    smallest, largest = min(y.min(), drawn.min()), max(y.max(), drawn.max())
    bounds = (0.0 if smallest >= 0 else -np.inf, 1.0 if smallest >= 0 and largest <= 1 else np.inf)

    def curve(values: Any) -> Any:
        if kind == "density":
            return density(values, grid, w, bounds)
        order = np.argsort(values, kind="stable")
        share = np.append(0.0, np.cumsum(np.ones(len(values)) if w is None else w[order]))
        return share[np.searchsorted(values[order], grid, side="right")] / share[-1]

    curves = np.array([curve(one) for one in drawn])
    arrays = {
        "observed": (("panel", "point"), curve(y)[None]),
        "drawn": (("panel", "draw", "point"), curves[None]),
        "x": (("panel", "point"), grid[None]),
    }
    return xr.Dataset(arrays, coords={"panel": ["y"]})


def bars_data(y: Any, drawn: Any, w: Any, ci_prob: float) -> xr.Dataset:
    """Shares of rows by value: ``observed, drawn, low, high`` (panel, bar); the last bar may be open, ``more``."""
    values = np.unique(np.concatenate([y, drawn.ravel()]))
    if (values == np.round(values)).all():  # counts: every number in between, without the far tail of the draws
        values = np.arange(values[0], max(y.max(), np.ceil(np.quantile(drawn, 0.999))) + 1.0)
    values = values[:MOST_BARS]
    top = values[-1]
    more = bool(max(y.max(), drawn.max()) > top)
    share = np.full(len(y), 1.0 / len(y)) if w is None else w / w.sum()

    def shares(outcome: Any) -> Any:
        return np.bincount(np.searchsorted(values, np.minimum(outcome, top)), share, len(values))

    each = np.array([shares(one) for one in drawn])
    low, high = np.quantile(each, [0.5 - ci_prob / 2, 0.5 + ci_prob / 2], axis=0)
    numbers = {"observed": shares(y), "drawn": each.mean(axis=0), "low": low, "high": high}
    arrays = {name: (("panel", "bar"), x[None]) for name, x in numbers.items()}
    return xr.Dataset(arrays, coords={"panel": ["y"], "bar": values}, attrs={"more": more})


def _draw_curves(pc: PlotCollection, data: xr.Dataset) -> list[tuple[str, dict[str, Any]]]:
    n, x = data.sizes["draw"], data["x"].to_numpy()
    gap = np.full((1, n, 1), np.nan)  # all draws are one line with gaps between them
    ends = np.concatenate([data["drawn"].to_numpy(), gap], axis=2).reshape(1, -1)
    places = np.concatenate([np.repeat(x[:, None], n, axis=1), gap], axis=2).reshape(1, -1)
    draw(pc, "line_xy", "drawn", xy(places, ends), color=BLUE, alpha=0.25, width=0.7)
    draw(pc, "line_xy", "observed", xy(x, data["observed"]), color=BLACK, width=1.8)
    for ax in matplotlib_axes(pc):
        ax.set_ylim(bottom=0)
    return [("observed", {"color": BLACK}), (f"{n} draws", {"color": BLUE, "alpha": 0.5})]


def _draw_bars(
    pc: PlotCollection, data: xr.Dataset, categories: tuple[str, ...], ci_prob: float
) -> list[tuple[str, dict[str, Any]]]:
    module, x = backend_of(pc), np.arange(data.sizes["bar"], dtype=float)
    for target in each_panel(pc):
        for place, height in zip(x, data["observed"].to_numpy()[0], strict=True):
            edges = np.array([place - 0.38]), np.array([place + 0.38])
            module.hist(np.array([height]), *edges, target, color="#9A9A9A", alpha=0.6)
        bars = data["bar"].to_numpy()
        texts = [_value(value, categories) for value in bars]
        texts[-1] += " or more" if data.attrs["more"] else ""
        shown = slice(None, None, max(1, len(x) // 12))
        module.xticks(x[shown].tolist(), texts[shown], target, size=8)
        module.xlim((-0.8, len(x) - 0.2), target)
    ends = np.stack([data["low"], data["high"], np.full(data["low"].shape, np.nan)], axis=-1).reshape(1, -1)
    draw(pc, "line_xy", "interval", xy(np.repeat(x, 3)[None], ends), color=BLUE, width=1.6)
    draw(pc, "scatter_xy", "drawn", xy(x[None], data["drawn"]), color=BLUE, marker="C0", size=26)
    for ax in matplotlib_axes(pc):
        ax.set_ylim(bottom=0)
    return [
        ("observed", {"color": "#9A9A9A", "linewidth": 6}),
        (f"draws, {100 * ci_prob:g} % interval", {"color": BLUE, "marker": "o"}),
    ]


def _value(value: float, categories: tuple[str, ...]) -> str:
    if categories and value == int(value) and 0 <= value < len(categories):
        return shortened(categories[int(value)], 14)
    return f"{value:g}"
