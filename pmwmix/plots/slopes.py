"""Slope of a predictor along a moderator, with bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_plots import PlotCollection

from pmwmix.errors import OptionError
from pmwmix.inference.margins import ame
from pmwmix.plots._base import (
    BLACK,
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
from pmwmix.plots.effects import FEW, grid_of, level_texts
from pmwmix.prediction.abilities import check_one_outcome


def slopes(
    fit: Any,
    variable: str,
    moderator: str,
    *,
    newdata: Any = None,
    by: str | None = None,
    at: Mapping[str, Any] | None = None,
    n_points: int = 41,
    weighted: bool = True,
    averaged: bool = True,
    type: str = "response",
    ci_prob: float = 0.95,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw the slope of a predictor along a moderator with its band: what an interaction says.

    The line is the average marginal effect of the variable where every row has that value of the moderator. Where the
    band leaves zero the slope differs from zero at that value of the moderator, taken by itself; the ends of the region
    are Johnson and Neyman's. A level line is no interaction; on the response scale of a logit model it bends without
    one too. A factor as variable has a line for each of its contrasts, a factor as moderator points with intervals.

    Parameters
    ----------
    fit : FitResult or BayesResult
    variable : str
        Predictor whose slope, or contrasts, are drawn.
    moderator : str
        Predictor on the horizontal axis.
    newdata : table, optional
        Rows to average over. None: those of the fit.
    by : str, optional
        Second moderator with a line for each value; of a number with more than five values the mean and one standard
        deviation to both sides.
    at : dict, optional
        Values to use for the moderators, and single values of further predictors to be held.
    n_points : int
        Points of a line, from the smallest to the largest value of the moderator.
    weighted, averaged, type
        As in `ame`.
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
        ``.data`` has ``estimate, ci_low, ci_high`` (panel, series, point) with the coordinate ``x``; an ordinal outcome
        has a panel per category.

    Raises
    ------
    OptionError, DataError
        If a predictor is not in the model, or an argument is not among the legal ones.

    Notes
    -----
    Intervals are pointwise, by the delta method as in `ame` (effects, eqs. 13 and 14).

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(40, 12, n_pv=1, random_seed=3)
    >>> fit = pmwmix.fit("math ~ escs * female + (1 | SCHOOLID)", survey.data, pv=survey.pv)
    >>> plot = pmwmix.plots.slopes(fit, "female", "escs", backend="none")
    """
    check_one_outcome(check_fit(fit, "slopes"), "slopes()")
    labels = labels_of(fit, labels)
    prob = check_ci_prob(ci_prob)
    check_choice(type, "type", ("response", "link"))
    if variable in (moderator, by) or moderator == by:
        raise OptionError(
            f"A slope is moderated by another predictor. Got variable={variable!r}, moderator={moderator!r}, by={by!r}."
            f" Name different ones."
        )
    grid = grid_of(fit, moderator, by, at or {}, newdata, check_count(n_points, "n_points", 2), "slopes()")
    grid = {name: (v, level_texts(fit, name, texts)) for name, (v, texts) in grid.items()}
    held = {name: values for name, (values, _) in grid.items()}
    options: dict[str, Any] = {"weighted": weighted, "averaged": averaged, "type": type, "ci_prob": prob}
    table = ame(fit, variable, newdata, at=held, **options)
    table["contrast"] = table["contrast"].map(_contrast_texts(fit, variable, table["contrast"]))
    data = slopes_data(table, grid, moderator, by, labels)
    pc = panels(
        data,
        backend,
        figure_kwargs,
        n_cols=2 if data.sizes["panel"] == 4 else 3,
        size=(4.0, 3.0),
        sharex=True,
        sharey=True,
    )
    draw(pc, "hline", "zero", xr.DataArray(np.zeros(data.sizes["panel"]), dims="panel"), color=BLACK, width=0.8)
    _draw(pc, data)
    what = "Slope" if set(table["contrast"]) == {"slope"} else "Effect"
    scale = "" if fit.has_linear_mean else f" ({'link' if type == 'link' else 'response'} scale)"
    write_axes(
        pc, text_of(moderator, labels), f"{what} of {shortened(text_of(variable, labels), 30)}{scale}", outer=True
    )
    if data.sizes["panel"] > 1:
        outcome = text_of(str(fit.formula).split("~")[0].strip(), labels)
        write_titles(pc, [f"{outcome} = {name}" for name in data["panel"].values])
    if data.sizes["series"] > 1:
        styles = [{"color": COLOURS[i % len(COLOURS)], "linestyle": "-"} for i in range(data.sizes["series"])]
        write_legend(pc, list(zip([shortened(str(name), 40) for name in data["series"].values], styles, strict=True)))
    return pc


def slopes_data(
    table: pd.DataFrame,
    grid: Mapping[str, tuple[list[Any], list[str]]],
    moderator: str,
    by: str | None,
    labels: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Arrays (panel, series, point) of what `ame` gave for a grid.

    Parameters
    ----------
    table : DataFrame
    grid : dict
        Values and texts by predictor: the moderator, the second one, then those held at one value.
    moderator, by : str
    labels : dict, optional

    Returns
    -------
    Dataset
        ``estimate, ci_low, ci_high`` with coordinates ``x`` and ``tick`` (point).

    Raises
    ------
    OptionError
        If a further predictor has several values.
    """
    for name, (values, _) in grid.items():
        if name not in (moderator, by) and len(values) > 1:
            raise OptionError(
                f"Further predictors are held at one value. at[{name!r}] has {len(values)}. Draw a plot for each, or "
                f"pass by={name!r}."
            )
    categories = list(dict.fromkeys(table["category"])) if "category" in table else [""]
    contrasts = list(dict.fromkeys(table["contrast"]))
    values, ticks = grid[moderator]
    lines = [""] if by is None else grid[by][1]
    shape = (len(values), len(lines), len(contrasts), len(categories))
    arrays = {}
    for number in ("estimate", "ci_low", "ci_high"):
        cube = table[number].to_numpy().reshape(shape)
        arrays[number] = (
            ("panel", "series", "point"),
            cube.transpose(3, 2, 1, 0).reshape(len(categories), -1, shape[0]),
        )
    name = "" if by is None else text_of(by, labels)
    words = [
        ", ".join([*([contrast] if len(contrasts) > 1 else []), *([f"{name} = {line}"] if by is not None else [])])
        for contrast in contrasts
        for line in lines
    ]
    numeric = all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values)
    x = np.asarray(values, dtype=float) if numeric else np.arange(len(values), dtype=float)
    coords = {"panel": categories, "series": words, "x": ("point", x), "tick": ("point", list(ticks))}
    return xr.Dataset(arrays, coords=coords, attrs={"numeric": numeric and len(values) > FEW})


def _contrast_texts(fit: Any, variable: str, contrasts: pd.Series) -> dict[str, str]:
    """Contrasts of codes in the words of the survey's files."""
    sides = {text: text.split(" - ") for text in contrasts.unique() if text.count(" - ") == 1}
    codes = list(dict.fromkeys(code for pair in sides.values() for code in pair))
    words = dict(zip(codes, level_texts(fit, variable, codes), strict=True))
    return {text: " - ".join(words[code] for code in sides[text]) if text in sides else text for text in contrasts}


def _draw(pc: PlotCollection, data: xr.Dataset) -> None:
    module, x, n = backend_of(pc), data["x"].to_numpy(), data.sizes["series"]
    if data.attrs["numeric"]:
        for i in range(n):
            one, colour = data.isel(series=i), COLOURS[i % len(COLOURS)]
            for p, target in enumerate(each_panel(pc)):
                low, high = (one[name].to_numpy()[p] for name in ("ci_low", "ci_high"))
                module.fill_between_y(x, low, high, target, color=colour, alpha=0.18)
            draw(pc, "line_xy", f"slope {i}", xy(x, one["estimate"]), color=colour, width=1.8)
        return
    step = float(np.min(np.diff(np.sort(x)))) if len(x) > 1 else 1.0
    for i in range(n):
        one, colour = data.isel(series=i), COLOURS[i % len(COLOURS)]
        place = x + 0.4 * step * ((i + 0.5) / n - 0.5)
        ends = np.stack([one["ci_low"], one["ci_high"], np.full(one["ci_low"].shape, np.nan)], axis=-1)
        lines = xy(np.tile(np.repeat(place, 3), (len(ends), 1)), ends.reshape(len(ends), -1))
        draw(pc, "line_xy", f"interval {i}", lines, color=colour, width=1.6)
        draw(pc, "scatter_xy", f"effect {i}", xy(place, one["estimate"]), color=colour, marker="C0", size=28)
    for target in each_panel(pc):
        module.xticks(x.tolist(), [shortened(tick, 18) for tick in data["tick"].values.tolist()], target, size=8)
        module.xlim((x.min() - 0.5 * step, x.max() + 0.5 * step), target)


__all__ = ["slopes", "slopes_data"]
