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
from pmwmix.errors import NotSupportedError
from pmwmix.plots._base import (
    backend_of,
    check_choice,
    check_count,
    check_fit,
    draw,
    each_panel,
    fit_of,
    panels,
    rows_of,
    shortened,
    spread,
    text_of,
    write_axes,
    write_legend,
    xy,
)
from pmwmix.plots._boxes import BOX_ENTRIES, draw_boxes, five_numbers
from pmwmix.plots._intervals import MOST_NAMES
from pmwmix.plots._units import units_of
from pmwmix.prediction.responses import RESIDUALS
from pmwmix.prediction.rows import LiveRows
from pmwmix.studies.withingroups import least_squares
from pmwmix.weights.conditional import total_weights

LETTERS = {"response": "residual", "pearson": "Pearson residual", "deviance": "deviance residual"}


def residuals_by_group(
    fit: Any,
    *,
    group: str | None = None,
    type: str = "pearson",
    conditional: bool = True,
    pooled: bool = False,
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
    spread of the medians is what the groups add. So it is with ``pooled=True``, by which least squares ignore the
    groups, and for a model without random terms whose ``group`` is a column: boxes that miss each other ask for a
    random intercept.

    Parameters
    ----------
    fit : FitResult or BayesResult
    group : str, optional
        Grouping factor of the model, or a column of its table; None is the lowest factor.
    type : {"response", "pearson", "deviance", "working"}
        As in ``fit.residuals``.
    conditional : bool
        Around the conditional fitted values, or around the fixed part.
    pooled : bool
        Of linear models: residuals of least squares with the same predictors and no random effects, by the total
        weights where there are any, divided by their standard deviation unless ``type="response"``.
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
    unit = units_of(rows, one, group, "residuals_by_group")
    name, index, unit_labels = unit.name, unit.index, unit.labels
    if pooled:
        values = _least_squares(one, rows, type)
    else:
        values = one.residuals(type=type, conditional=conditional).to_numpy()
    known = index >= 0
    data = boxes(values[known], index[known], unit_labels, most)
    shown, total = data.sizes["place"], len(np.unique(index[known]))
    pc = panels(data, backend, figure_kwargs, n_cols=1, size=(min(11.0, max(4.5, 0.14 * shown + 2)), 4.2))
    _draw(pc, data)
    word = text_of(name, labels)
    many = f"{shown:,} of {total:,} groups, evenly spread" if shown < total else f"{total:,} groups"
    place = word if shown == total and shown <= MOST_NAMES else f"{word} ({many} in the order of their medians)"
    letters = LETTERS.get(type, f"{type} residual")
    write_axes(pc, place, f"least-squares {letters}" if pooled else letters)
    return pc


def _least_squares(one: Any, rows: LiveRows, type: str) -> Array:
    """Residuals of every row about least squares on the fixed columns (n,)."""
    if not one.has_closed_form or type not in ("response", "pearson"):
        raise NotSupportedError(
            f"Least squares without random effects are for linear models, with type='response' or 'pearson'. Got "
            f"family={one.family!r}, type={type!r}. Leave pooled out, and use conditional=False."
        )
    weighted = any(rows.frame.weighted) and rows.frame.hierarchy.levels
    w = total_weights(rows.frame.w, rows.frame.hierarchy.row_parents)[0] if weighted else None
    X = np.array(list(rows.columns.values())).reshape(-1, rows.frame.n).T
    found = least_squares(rows.y, X, w) if X.shape[1] else None
    gap = rows.y - (X @ found[0] if found is not None else 0.0)
    if type == "response":
        return gap
    total = float(len(gap)) if w is None else float(w.sum())
    square = float((gap**2 * (1.0 if w is None else w)).sum()) / total
    return gap / np.sqrt(square * len(gap) / max(len(gap) - X.shape[1], 1))


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
    numbers, outside = five_numbers([values[sorted_rows[ends[g] : ends[g + 1]]] for g in order])
    out = xr.Dataset({name: (("panel", "place"), [np.asarray(v)]) for name, v in numbers.items()}, {"panel": ["all"]})
    out["label"] = ("place", np.array([label_text(label) for label in printed(labels)], dtype=object)[order])
    at = np.concatenate([np.full(len(part), float(i)) for i, part in enumerate(outside)])
    out["outliers"] = xy([at], [np.concatenate(outside)], ("panel", "outlier"))
    return out


def _draw(pc: azp.PlotCollection, data: xr.Dataset) -> None:
    n = data.sizes["place"]
    draw(pc, "hline", "zero", xr.DataArray([0.0], dims="panel"), color="#444444", width=0.8)
    numbers = {name: data[name].to_numpy() for name in ("low", "q25", "median", "q75", "high")}
    beyond = data["outliers"].to_numpy()[0]
    draw_boxes(pc, numbers, [[beyond[beyond[:, 0] == i, 1] for i in range(n)]])
    module, target = backend_of(pc), each_panel(pc)[0]
    named = n <= MOST_NAMES
    ticks = [shortened(label) for label in data["label"].to_numpy()] if named else []
    module.xticks(np.arange(len(ticks)), ticks, target, size=7, rotation=90)
    module.xlim((-0.02 * n - 0.7, 1.02 * n - 0.3), target)
    write_legend(pc, BOX_ENTRIES)
