"""Estimates from cycle to cycle, a line per group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_plots import PlotCollection

from pmwmix._types import Array
from pmwmix.errors import OptionError, near, some
from pmwmix.plots._base import (
    COLOURS,
    backend_of,
    check_ci_prob,
    draw,
    each_panel,
    panels,
    shortened,
    text_of,
    write_axes,
    write_legend,
    write_titles,
    xy,
)
from pmwmix.plots.forest import interval_label
from pmwmix.studies.trend import linking_of

ALL = ""  # name of the one line where there are no groups


def trend(
    fits: Mapping[Any, Any],
    *,
    terms: str | Sequence[str] | None = None,
    linking: Any = None,
    ci_prob: float = 0.95,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw coefficients from cycle to cycle with their intervals, a panel per term and a line per group.

    Parallel lines are equal trends, which `trend_differences` tests. An interval is that of the estimate in its cycle;
    with ``linking=`` those of later cycles hold the error of the link to the scale of the first one too. That error
    moves all groups alike and no line against another: whether lines run apart is not to be read from it.

    Parameters
    ----------
    fits : dict
        Cycle to fit, or to fits by group, as `pmwmix.trend` takes them.
    terms : str or list of str, optional
        Coefficients to show. None: all.
    linking : float or dict, optional
        As in `pmwmix.trend`.
    ci_prob : float
        Probability of the intervals.
    labels : dict, optional
        What to write for a term or a group.
    backend : str, optional
        Of arviz_plots.
    figure_kwargs : dict, optional
        For the figure, such as ``figsize``.

    Returns
    -------
    arviz_plots.PlotCollection
        ``.data`` has ``estimate, ci_low, ci_high`` (panel, series, point) with the coordinates ``x`` and ``cycle``.

    Raises
    ------
    OptionError
        If there are fewer than two cycles, a term does not exist, or a linking error is missing.

    Examples
    --------
    >>> import pmwmix
    >>> fits = {}
    >>> for year, seed in ((2015, 1), (2018, 2)):
    ...     survey = pmwmix.simulate_survey(30, 10, n_pv=1, random_seed=seed)
    ...     fits[year] = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", survey.data, pv=survey.pv)
    >>> plot = pmwmix.plots.trend(fits, linking=3.0, backend="none")
    """
    data = trend_data(fits, terms, linking, check_ci_prob(ci_prob))
    pc = panels(data, backend, figure_kwargs, n_cols=3, size=(3.4, 2.9), sharex=True)
    _draw(pc, data)
    write_titles(pc, [text_of(str(term), labels) for term in data["panel"].values])
    write_axes(pc, "Cycle", interval_label(ci_prob), outer=True)
    if data.sizes["series"] > 1:
        styles = [{"color": COLOURS[i % len(COLOURS)], "linestyle": "-"} for i in range(data.sizes["series"])]
        texts = [shortened(text_of(str(name), labels), 40) for name in data["series"].values]
        write_legend(pc, list(zip(texts, styles, strict=True)))
    return pc


def trend_data(fits: Any, terms: str | Sequence[str] | None, linking: Any, ci_prob: float) -> xr.Dataset:
    """Arrays (panel, series, point) of estimates and their ends; NaN where a group has no fit in a cycle."""
    if not isinstance(fits, Mapping) or len(fits) < 2:
        raise OptionError(
            f"A trend is drawn of fits of two cycles or more, a dict from cycle to fit. Got {type(fits).__name__}. "
            f"Write plots.trend({{2015: fit2015, 2018: fit2018}})."
        )
    cycles = list(fits)
    by_group = {c: dict(one.items()) if isinstance(one, Mapping) else {ALL: one} for c, one in fits.items()}
    groups = list(dict.fromkeys(group for cycle in cycles for group in by_group[cycle]))
    wrong = [one for cycle in cycles for one in by_group[cycle].values() if not hasattr(one, "tidy")]
    if wrong or not groups:
        raise OptionError(
            f"A trend is drawn of fits. Got {type(wrong[0]).__name__ if wrong else 'none'} among them. Pass what "
            f"pmwmix.fit or pmwmix.fit_groups gave in every cycle."
        )
    first = next(iter(by_group[cycles[0]].values()), None)
    errors = {cycles[0]: 0.0} | linking_of(linking, cycles[1:], first)
    cells = {(c, g): one.tidy(ci_prob).set_index("term") for c in cycles for g, one in by_group[c].items()}
    known = list(dict.fromkeys(term for table in cells.values() for term in table.index))
    wanted = known if terms is None else [terms] if isinstance(terms, str) else list(terms)
    unknown = [term for term in wanted if term not in known]
    if unknown or not wanted:
        hint = near(str(unknown[0]), known) if unknown else ""
        raise OptionError(
            f"There is no such coefficient to draw. Got terms={terms!r}.{hint} Use one of {some(known, 8)}."
        )
    arrays = np.full((3, len(wanted), len(groups), len(cycles)), np.nan)
    for (cycle, group), table in cells.items():
        place = groups.index(group), cycles.index(cycle)
        for i, term in enumerate(wanted):
            if term in table.index:
                arrays[:, i, place[0], place[1]] = _ends(table.loc[term], errors[cycle] if term == "Intercept" else 0.0)
    dims = ("panel", "series", "point")
    named = zip(("estimate", "ci_low", "ci_high"), arrays, strict=True)
    coords = {"panel": wanted, "series": [str(group) for group in groups], "x": ("point", _places(cycles))}
    return xr.Dataset(
        {name: (dims, array) for name, array in named}, coords={**coords, "cycle": ("point", [str(c) for c in cycles])}
    )


def _ends(row: pd.Series, link: float) -> tuple[float, float, float]:
    """Estimate and ends, the error of linking added to that of the estimate."""
    wider = np.sqrt(1.0 + (link / row["std_error"]) ** 2) if link else 1.0
    below, above = row["estimate"] - row["ci_low"], row["ci_high"] - row["estimate"]
    return row["estimate"], row["estimate"] - wider * below, row["estimate"] + wider * above


def _places(cycles: Sequence[Any]) -> Array:
    """Years where cycles are numbers, or texts of them; else 0, 1, 2, ..."""
    try:
        return np.array([float(cycle) for cycle in cycles])
    except (TypeError, ValueError):
        return np.arange(len(cycles), dtype=float)


def _draw(pc: PlotCollection, data: xr.Dataset) -> None:
    module, x, n = backend_of(pc), data["x"].to_numpy(), data.sizes["series"]
    step = float(np.min(np.diff(np.sort(x)))) if len(np.unique(x)) == len(x) else 1.0
    for i in range(n):
        one, colour = data.isel(series=i), COLOURS[i % len(COLOURS)]
        place = x + (0.25 * step * ((i + 0.5) / n - 0.5) if n > 1 else 0.0)
        ends = np.stack([one["ci_low"], one["ci_high"], np.full(one["ci_low"].shape, np.nan)], axis=-1)
        lines = xy(np.tile(np.repeat(place, 3), (len(ends), 1)), ends.reshape(len(ends), -1))
        draw(pc, "line_xy", f"line {i}", xy(place, one["estimate"]), color=colour, width=1.2)
        draw(pc, "line_xy", f"interval {i}", lines, color=colour, width=1.4)
        draw(pc, "scatter_xy", f"estimate {i}", xy(place, one["estimate"]), color=colour, marker="C0", size=22)
    for target in each_panel(pc):
        module.xticks(x.tolist(), [shortened(tick, 12) for tick in data["cycle"].values.tolist()], target, size=8)
        module.xlim((x.min() - 0.4 * step, x.max() + 0.4 * step), target)


__all__ = ["trend", "trend_data"]
