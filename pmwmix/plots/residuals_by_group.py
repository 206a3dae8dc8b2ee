"""Boxplots of residuals by group, ordered by their median."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import arviz_plots as azp
import numpy as np
import pandas as pd
import xarray as xr

from pmwmix._types import Array
from pmwmix.data.codes import label_text, printed
from pmwmix.plots._base import (
    BLACK,
    BLUE,
    GREY,
    backend_of,
    check_choice,
    check_count,
    check_fit,
    draw,
    each_panel,
    fit_of,
    group_name,
    panels,
    rows_of,
    shortened,
    spread,
    text_of,
    write_axes,
    write_legend,
    xy,
)
from pmwmix.plots._intervals import MOST_NAMES
from pmwmix.prediction.responses import RESIDUALS

LETTERS = {"response": "residual", "pearson": "Pearson residual", "deviance": "deviance residual"}


def residuals_by_group(
    fit: Any,
    *,
    group: str | None = None,
    type: str = "pearson",
    conditional: bool = True,
    max_groups: int = 160,
    pv: int = 1,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
) -> azp.PlotCollection:
    """Draw boxplots of the residuals of every group, ordered by the median.

    Boxes of about the same length around zero say that one residual variance for all groups will do. Boxes that grow
    towards one end, a group far off the others, or long tails on one side ask for another outcome scale, another
    family or a closer look at that group. With ``conditional=False`` the residuals still hold the random effects: the
    spread of the medians is what the groups add.

    Parameters
    ----------
    fit : FitResult or BayesResult
    group : str, optional
        Grouping factor; None is the lowest.
    type : {"response", "pearson", "deviance", "working"}
        As in ``fit.residuals``.
    conditional : bool
        Around the conditional fitted values, or around the fixed part.
    max_groups : int
        Of more groups this number is drawn, evenly spread in the order of their medians; the axis says so. Up to 60
        are named.
    pv : int
        Plausible value to draw, counted from 1: residuals averaged over all would be too short.
    backend, figure_kwargs, labels : optional
        As in `caterpillar`.

    Returns
    -------
    arviz_plots.PlotCollection
        ``.data`` has ``low, q25, median, q75, high, n, label`` by panel and place, and the ``outliers``.

    Raises
    ------
    OptionError
        If an argument is not among the legal ones.
    NotSupportedError
        For ordinal outcomes, models without random terms, and fits read from a file.

    Notes
    -----
    Thick lines are the middle halves, thin ones reach to the last residual within 1.5 times their length, as Tukey
    drew them; points beyond are outliers. Every row counts the same, whatever its sampling weight.

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(20, 10, random_seed=1)
    >>> fit = pmwmix.fit("PV1MATH ~ escs + (1 | SCHOOLID)", survey.data)
    >>> plot = pmwmix.plots.residuals_by_group(fit)
    >>> plot.data.sizes["place"]
    20
    """
    one = fit_of(check_fit(fit, "residuals_by_group"), pv)
    check_choice(type, "type", RESIDUALS)
    most = check_count(max_groups, "max_groups", 2)
    rows = rows_of(fit, pv, "residuals_by_group")
    levels = rows.frame.hierarchy.levels
    name = group_name([level.name for level in levels], group, "residuals_by_group")
    unit = next(level for level in levels if level.name == name)
    values = one.residuals(type=type, conditional=conditional).to_numpy()
    data = boxes(values, unit.index, unit.labels, most)
    shown, total = data.sizes["place"], unit.n
    pc = panels(data, backend, figure_kwargs, n_cols=1, size=(min(11.0, max(4.5, 0.14 * shown + 2)), 4.2))
    _draw(pc, data)
    word = text_of(name, labels)
    many = f"{shown:,} of {total:,} groups, evenly spread" if shown < total else f"{total:,} groups"
    place = word if shown == total and shown <= MOST_NAMES else f"{word} ({many} in the order of their medians)"
    write_axes(pc, place, LETTERS.get(type, f"{type} residual"))
    return pc


def boxes(values: Array, index: Array, labels: list[Any], most: int) -> xr.Dataset:
    """Quartiles, whiskers and outliers of every group, ordered by the median.

    Parameters
    ----------
    values : ndarray, shape (n,)
    index : ndarray of int, shape (n,)
        Group of each row.
    labels : list
    most : int
        Number of groups to keep, evenly spread in their order.

    Returns
    -------
    Dataset
        One panel; ``q25, median, q75`` are numpy's linear quantiles.
    """
    medians = pd.Series(values).groupby(index).median()
    order = medians.index.to_numpy()[np.argsort(medians.to_numpy(), kind="stable")]
    order = order[spread(len(order), most)]
    sorted_rows = np.argsort(index, kind="stable")
    ends = np.searchsorted(index[sorted_rows], np.arange(len(labels) + 1))
    parts = [values[sorted_rows[ends[g] : ends[g + 1]]] for g in order]
    quartiles = np.array([np.quantile(part, [0.25, 0.5, 0.75]) for part in parts])
    reach = 1.5 * (quartiles[:, 2] - quartiles[:, 0])
    inside = [part[(part >= q[0] - r) & (part <= q[2] + r)] for part, q, r in zip(parts, quartiles, reach, strict=True)]
    outside = [part[(part < q[0] - r) | (part > q[2] + r)] for part, q, r in zip(parts, quartiles, reach, strict=True)]
    numbers: dict[str, Any] = {"q25": quartiles[:, 0], "median": quartiles[:, 1], "q75": quartiles[:, 2]}
    numbers |= {"low": [part.min() for part in inside], "high": [part.max() for part in inside]}
    numbers |= {"n": [len(part) for part in parts]}
    out = xr.Dataset({name: (("panel", "place"), [np.asarray(v)]) for name, v in numbers.items()}, {"panel": ["all"]})
    out["label"] = ("place", np.array([label_text(label) for label in printed(labels)], dtype=object)[order])
    at = np.concatenate([np.full(len(part), float(i)) for i, part in enumerate(outside)])
    out["outliers"] = xy([at], [np.concatenate(outside)], ("panel", "outlier"))
    return out


def _draw(pc: azp.PlotCollection, data: xr.Dataset) -> None:
    n = data.sizes["place"]
    place = np.arange(n, dtype=float)
    thick = max(1.2, min(9.0, 420 / n))
    draw(pc, "hline", "zero", xr.DataArray([0.0], dims="panel"), color="#444444", width=0.8)
    for name, ends, style in (
        ("whiskers", ("low", "high"), {"color": GREY, "width": 0.8}),
        ("boxes", ("q25", "q75"), {"color": BLUE, "width": thick}),
    ):
        low, high = (data[end].to_numpy()[0] for end in ends)
        y = np.stack([low, high, np.full(n, np.nan)], axis=-1).ravel()
        draw(pc, "line_xy", name, xy([np.repeat(place, 3)], [y]), **style)
    draw(pc, "scatter_xy", "outlier points", data["outliers"], color=GREY, size=3, alpha=0.7)
    median = xy([place], data["median"].to_numpy())
    draw(pc, "scatter_xy", "medians", median, color=BLACK, size=thick**1.4 + 2, zorder=4)
    module, target = backend_of(pc), each_panel(pc)[0]
    named = n <= MOST_NAMES
    ticks = [shortened(label) for label in data["label"].to_numpy()] if named else []
    module.xticks(np.arange(len(ticks)), ticks, target, size=7, rotation=90)
    module.xlim((-0.02 * n - 0.7, 1.02 * n - 0.3), target)
    entries: list[tuple[str, Mapping[str, Any]]] = [
        ("median", {"color": BLACK, "marker": "o", "linestyle": "none", "markersize": 4}),
        ("middle half", {"color": BLUE, "linewidth": 5}),
        ("within 1.5 box lengths", {"color": GREY}),
    ]
    write_legend(pc, entries)
