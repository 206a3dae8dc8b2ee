"""Adjusted predictions against a predictor, with bands: effects and interactions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_plots import PlotCollection

from pmwmix.data.table import Table
from pmwmix.errors import DataError, OptionError, near, some
from pmwmix.inference.margins import predictions
from pmwmix.inference.samples import table_of
from pmwmix.plots._base import (
    COLOURS,
    backend_of,
    check_choice,
    check_ci_prob,
    check_count,
    check_fit,
    draw,
    each_panel,
    labels_of,
    panels,
    shortened,
    text_of,
    write_axes,
    write_legend,
    write_titles,
    xy,
)
from pmwmix.spec.settings import plain

SINGLE = ""  # the series or panel where nothing splits
FEW = 5  # a numeric `by` with up to so many values has a line for each


def effects(
    fit: Any,
    variable: str,
    *,
    newdata: Any = None,
    by: str | None = None,
    at: Mapping[str, Any] | None = None,
    n_points: int = 25,
    weighted: bool = True,
    averaged: bool = True,
    type: str = "response",
    ci_prob: float = 0.95,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw the mean outcome against a predictor, all others as they are in the table: adjusted predictions.

    A line with its band, or points with intervals for a factor. With ``by`` there is one line per value of a second
    predictor: lines that are not parallel are an interaction (on the response scale of a logit model also without one).
    Bands are of the mean, not of single rows.

    Parameters
    ----------
    fit : FitResult or BayesResult
    variable : str
        Predictor on the horizontal axis: a number or a factor of the fixed part.
    newdata : table, optional
        Rows to average over; to use those of the fit, the table of the fit.
    by : str, optional
        Second predictor. Of a number with more than five values the mean and one standard deviation to both sides.
    at : dict, optional
        Values to use for ``variable`` and ``by``, and values of further predictors: one is held, several get a panel
        each, as in ``{"sector": ["Public", "Catholic"]}``.
    n_points : int
        Points of a line, from the smallest to the largest value in the table.
    weighted, averaged, type
        As in `predictions`: weights of the rows, average over the random effects or a typical group, response or link.
    ci_prob : float
    labels : dict, optional
        What to write for a predictor, or for the outcome; default: the label in the survey's files, where there is one.
    backend : str, optional
        Of arviz_plots.
    figure_kwargs : dict, optional
        For the figure, such as ``figsize``.

    Returns
    -------
    arviz_plots.PlotCollection

    Raises
    ------
    OptionError, DataError
        If a predictor is not in the model, or an argument is not among the legal ones.

    Notes
    -----
    Every row of the table gets the values in turn and keeps its other predictors (effects, eqs. 15 and 23).

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(40, 12, n_pv=1, random_seed=3)
    >>> fit = pmwmix.fit("math ~ escs * female + (1 | SCHOOLID)", survey.data, pv=survey.pv)
    >>> plot = pmwmix.plots.effects(fit, "escs", by="female", newdata=survey.data, backend="none")
    """
    check_fit(fit, "effects")
    labels = labels_of(fit, labels)
    check_ci_prob(ci_prob)
    check_choice(type, "type", ("response", "link"))
    grid = grid_of(fit, variable, by, at or {}, newdata, check_count(n_points, "n_points", 2), "effects()")
    grid = {name: (v, level_texts(fit, name, texts)) for name, (v, texts) in grid.items()}
    table = predictions(
        fit, {name: values for name, (values, _) in grid.items()}, newdata,
        weighted=weighted, averaged=averaged, type=type, ci_prob=ci_prob,
    )  # fmt: skip
    outcome = text_of(str(fit.formula).split("~")[0].strip(), labels)
    data = effects_data(table, grid, variable, by, labels, outcome)
    data.attrs["numeric"] = not _is_factor(_blueprint(fit), variable) and data.sizes["point"] > FEW
    n_cols = 2 if data.sizes["panel"] == 4 else 3
    pc = panels(data, backend, figure_kwargs, n_cols=n_cols, size=(3.6, 2.9), sharex=True, sharey=True)
    _draw_lines(pc, data) if data.attrs["numeric"] else _draw_points(pc, data)
    write_axes(pc, text_of(variable, labels), _outcome(fit, type, labels), outer=True)
    if data.sizes["panel"] > 1:
        write_titles(pc, data["panel"].values.tolist())
    if by is not None:
        _write_series(pc, data, text_of(str(by), labels))
    return pc


def _blueprint(fit: Any) -> Any:
    return getattr(fit, "ml", fit).fits[0].rows.blueprint


def _is_factor(blueprint: Any, name: str) -> bool:
    """Whether a predictor has categories, of its own or by ``C(name)`` in the formula."""
    wrapped = rf"\b(?:C|factor|as_factor)\(\s*`?{re.escape(name)}`?\s*[,)]"
    return name in blueprint.categories or re.search(wrapped, blueprint.formula.fixed) is not None


def grid_of(
    fit: Any, variable: str, by: str | None, at: Mapping[str, Any], newdata: Any, n_points: int, verb: str
) -> dict[str, tuple[list[Any], list[str]]]:
    """Give values and what is written for them, by predictor: ``variable``, ``by``, then those held."""
    blueprint = _blueprint(fit)
    asked = _asked(blueprint, variable, by, at)
    one = fit.fits[0]
    table = table_of(one, verb) if newdata is None else Table(newdata)
    columns = table.columns([blueprint.pv.get(name, name) for name in asked], "newdata")
    if newdata is None and one.rows.frame.kept is not None:
        columns = {name: column.take(one.rows.frame.kept) for name, column in columns.items()}
    out: dict[str, tuple[list[Any], list[str]]] = {}
    for name in asked:
        column, categories = columns[blueprint.pv.get(name, name)], blueprint.categories.get(name)
        if name in at:
            out[name] = _given(name, at[name], categories is None)
        elif categories is not None:
            out[name] = list(categories), [str(value) for value in categories]
        elif _is_factor(blueprint, name):
            values = sorted(column.dropna().unique().tolist())
            out[name] = values, [_text(value) for value in values]
        else:
            out[name] = _numbers(column, name, n_points if name == variable else None)
    return out


def _asked(blueprint: Any, variable: Any, by: Any, at: Any) -> list[str]:
    """Predictors that are set to values, refusing what is none."""
    if not isinstance(at, Mapping):
        raise OptionError(
            f"at is a dict from predictors to values. Got {at!r}. Write for example at={{'escs': [-1, 1]}}."
        )
    known = [name for name in blueprint.predictors if name in blueprint.formula.fixed_variables]
    asked = [variable, *([] if by is None else [by]), *at]
    for name in asked:
        if name not in known:
            raise OptionError(
                f"There is no such predictor to draw. Got {name!r}.{near(str(name), known)} "
                f"The predictors are {some(known, 12)}."
            )
    if by == variable:
        raise OptionError(
            f"Lines are split by another predictor than the one on the axis. Both are {by!r}. Leave by= out."
        )
    return list(dict.fromkeys(asked))


def _given(name: str, value: Any, number: bool) -> tuple[list[Any], list[str]]:
    """Values that the caller gives, and their texts."""
    values = [value] if np.ndim(value) == 0 else list(value)
    if not values:
        raise OptionError(f"There is no value to draw. at[{name!r}] is empty. Give at least one value.")
    if number and not all(isinstance(v, int | float | np.number) and np.isfinite(v) for v in values):
        raise OptionError(f"Values of a numeric predictor are numbers. at[{name!r}] is {value!r}. Give finite numbers.")
    texts = [_text(value) for value in values]
    return values, texts if len(set(texts)) == len(texts) else [repr(value) for value in values]


def _numbers(column: pd.Series, name: str, n_points: int | None) -> tuple[list[Any], list[str]]:
    """Points of a numeric predictor: an even grid for the axis, few values for lines."""
    x = column.dropna().to_numpy(dtype=float)
    if not len(x):
        raise DataError(
            f"There is no value to draw. {name!r} is missing in all rows of newdata. Give it by at={{...}}."
        )
    unique = np.unique(x)
    if len(unique) <= FEW:
        return unique.tolist(), [_text(value) for value in unique]
    if n_points is not None:
        values = np.linspace(unique[0], unique[-1], n_points)
        return values.tolist(), [_text(value) for value in values]
    mean, sd = float(x.mean()), float(x.std())
    decimals = int(np.clip(1 - np.floor(np.log10(sd)), 0, 6))  # two digits of the standard deviation
    steps = (("-1 SD", mean - sd), ("mean", mean), ("+1 SD", mean + sd))
    return [value for _, value in steps], [f"{round(value, decimals) + 0.0:g} ({word})" for word, value in steps]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float | np.number) and not isinstance(value, bool) else str(value)


def level_texts(fit: Any, name: str, texts: list[str]) -> list[str]:
    """Value labels that the survey's files have for the codes of a predictor, where every code has one of its own."""
    labels = fit.settings.levels.get(name, {})
    said = [labels.get(plain(text), "") for text in texts]
    return said if all(said) and len(set(said)) == len(said) else texts


def effects_data(
    table: pd.DataFrame,
    grid: Mapping[str, tuple[list[Any], list[str]]],
    variable: str,
    by: str | None,
    labels: Mapping[str, str] | None = None,
    outcome: str = "category",
) -> xr.Dataset:
    """Arrays (panel, series, point) of what `predictions` gave for a grid.

    Parameters
    ----------
    table : DataFrame
        A row per combination of the grid, the last predictor fastest, and per category of an ordinal outcome.
    grid : dict
        Values and texts by predictor.
    variable, by : str
    labels : dict, optional
    outcome : str
        Its name.

    Returns
    -------
    Dataset
        ``estimate, ci_low, ci_high`` (panel, series, point) with coordinates ``x`` and ``tick`` (point).
    """
    categories = list(dict.fromkeys(table["category"])) if "category" in table else [None]
    names = list(grid)
    sizes = [len(grid[name][0]) for name in names]
    values, ticks = grid[variable]
    numeric = all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values)
    out = {}
    for number in ("estimate", "ci_low", "ci_high"):
        cube = xr.DataArray(table[number].to_numpy().reshape(*sizes, len(categories)), dims=(*names, "category"))
        lead = [name for name in names if name not in (variable, by)]
        cube = cube.expand_dims("alone") if by is None else cube.rename({by: "alone"})
        cube = cube.transpose("category", *lead, "alone", variable)
        out[number] = cube.to_numpy().reshape(-1, cube.sizes["alone"], len(values))
    held = [name for name in names if name not in (variable, by)]
    titles = []
    for category, *texts in product(categories, *(grid[name][1] for name in held)):
        each = [f"{text_of(name, labels)} = {text}" for name, text in zip(held, texts, strict=True)]
        titles.append("; ".join([*([] if category is None else [f"{outcome} = {category}"]), *each]))
    series = [SINGLE] if by is None else grid[by][1]
    x = np.asarray(values, dtype=float) if numeric else np.arange(len(values), dtype=float)
    arrays: dict[str, Any] = {name: (("panel", "series", "point"), array) for name, array in out.items()}
    line = numeric and len(values) > FEW
    coords = {"panel": titles, "series": list(series), "x": ("point", x), "tick": ("point", list(ticks))}
    return xr.Dataset(arrays, coords=coords, attrs={"numeric": line})


def _outcome(fit: Any, type: str, labels: Mapping[str, str] | None) -> str:
    left = str(fit.formula).split("~")[0].strip()
    name = text_of(left, labels)
    if type == "link":
        return f"Linear predictor of {name}"
    return str(fit.distribution[0].mean_words(name, left, fit.categories))


def _draw_lines(pc: PlotCollection, data: xr.Dataset) -> None:
    module, x = backend_of(pc), data["x"].to_numpy()
    for place in range(data.sizes["series"]):
        one, colour = data.isel(series=place), COLOURS[place % len(COLOURS)]
        for p, target in enumerate(each_panel(pc)):
            low, high = (one[name].to_numpy()[p] for name in ("ci_low", "ci_high"))
            module.fill_between_y(x, low, high, target, color=colour, alpha=0.15)
        draw(pc, "line_xy", f"mean {place}", xy(x, one["estimate"]), color=colour, width=1.8)


def _draw_points(pc: PlotCollection, data: xr.Dataset) -> None:
    """Draw points with intervals, those of several series side by side and joined by thin lines."""
    x, n = data["x"].to_numpy(), data.sizes["series"]
    step = float(np.min(np.diff(np.sort(x)))) if len(x) > 1 else 1.0
    for place in range(n):
        one, colour = data.isel(series=place), COLOURS[place % len(COLOURS)]
        at = x + 0.5 * step * ((place + 0.5) / n - 0.5)
        ends = np.stack([one["ci_low"], one["ci_high"], np.full(one["ci_low"].shape, np.nan)], axis=-1)
        lines = xy(np.tile(np.repeat(at, 3), (len(ends), 1)), ends.reshape(len(ends), -1))
        if n > 1:
            draw(pc, "line_xy", f"join {place}", xy(at, one["estimate"]), color=colour, width=0.8, alpha=0.6)
        draw(pc, "line_xy", f"interval {place}", lines, color=colour, width=1.6)
        draw(pc, "scatter_xy", f"mean {place}", xy(at, one["estimate"]), color=colour, marker="C0", size=28)
    turned = {"rotation": 30} if sum(map(len, data["tick"].values.tolist())) > 45 else {}
    for target in each_panel(pc):
        texts = [shortened(tick, 18) for tick in data["tick"].values.tolist()]
        backend_of(pc).xticks(x.tolist(), texts, target, size=8, **turned)
        backend_of(pc).xlim((x.min() - 0.5 * step, x.max() + 0.5 * step), target)


def _write_series(pc: PlotCollection, data: xr.Dataset, name: str) -> None:
    texts = [f"{shortened(name)} = {shortened(series)}" for series in data["series"].values.tolist()]
    style = {"linestyle": "-"} if data.attrs["numeric"] else {"linestyle": "-", "marker": "o"}
    entries = [(text, {**style, "color": COLOURS[place % len(COLOURS)]}) for place, text in enumerate(texts)]
    width = 3.6 * min(data.sizes["panel"], 3) + 0.5  # inches; a letter takes about 0.07
    fitting = int(width / (0.6 + 0.07 * max(map(len, texts))))
    write_legend(pc, entries, ncols=int(np.clip(fitting, 1, min(len(entries), 4))))
