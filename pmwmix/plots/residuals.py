"""Residuals against the normal distribution and against fitted values; random effects against the normal too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import arviz_plots as azp
import numpy as np
import xarray as xr
from scipy.special import betaincinv, ndtri

from pmwmix._types import Array
from pmwmix.plots._base import (
    BLACK,
    BLUE,
    MOST_POINTS,
    ORANGE,
    PALE,
    check_choice,
    check_ci_prob,
    check_count,
    check_fit,
    draw,
    fit_of,
    labels_of,
    padded,
    panels,
    shortened,
    spread,
    text_of,
    thinned,
    write_axes,
    write_legend,
    write_titles,
    xy,
)
from pmwmix.plots._smooth import curve
from pmwmix.plots.residuals_by_group import LETTERS
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.prediction.responses import RESIDUALS

BINS = 20
SMOOTHS = {"local": "local regression along the fitted values", "means": "mean along the fitted values"}
DENSE = 1000  # points from which on they are drawn small and pale
QUARTILE = float(ndtri(0.75))


@dataclass(frozen=True)
class Panel:
    """What one panel shows: points (2, n), a line (2, m), and the lower and upper end of a band along its x (m,)."""

    name: str
    title: str
    x: str
    y: str
    points: Array
    line: Array
    band: tuple[Array, Array]


def residuals(
    fit: Any,
    *,
    type: str = "pearson",
    conditional: bool = True,
    random_effects: bool = False,
    smooth: str = "local",
    ci_prob: float = 0.95,
    max_points: int = MOST_POINTS,
    pv: int = 1,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
) -> azp.PlotCollection:
    """Draw the residuals against normal quantiles and against fitted values.

    In the first panel normal residuals follow the line and stay inside the band, but for one in twenty. An S-shape is
    tails that are too short or too long, a bow is skewness. Large surveys leave the band easily: look how far. In the
    second panel the orange line, the residuals smoothed along the fitted values, should stay at zero, and the spread
    should not change: a bend is a missing curve or interaction, a funnel a variance that grows with the mean.
    A slight tilt upwards comes with small groups, whose conditional modes are shrunken; ``conditional=False`` is
    without it.

    Parameters
    ----------
    fit : FitResult or BayesResult
        One read by `pmwmix.load` will do.
    type : {"response", "pearson", "deviance", "working"}
        As in ``fit.residuals``.
    conditional : bool
        Residuals around, and fitted values with, the conditional modes; or the fixed part alone.
    random_effects : bool
        Add a panel for every random term: conditional modes against normal quantiles. Shrunken modes look more normal
        than the effects are.
    smooth : {"local", "means"}
        The line along the fitted values: local linear regression, R's ``loess(degree = 1)``, or means of up to twenty
        parts of the rows with the same number in each.
    ci_prob : float
        Probability of the band of the normal quantiles, pointwise, about the line through the quartiles.
    max_points : int
        Of more rows a random part of this size is drawn against fitted values; quantiles are drawn at this many evenly
        spread places. Lines and bands use all rows.
    pv : int
        Plausible value to draw, counted from 1: residuals averaged over all would be too small.
    backend, figure_kwargs, labels : optional
        As in `caterpillar`.

    Returns
    -------
    arviz_plots.PlotCollection
        ``.data`` has ``points`` and ``line`` (panel, ., x and y), ``band_low`` and ``band_high``.

    Raises
    ------
    OptionError
        If an argument is not among the legal ones.
    NotSupportedError
        For ordinal outcomes.

    Notes
    -----
    The band is that of order statistics of independent normal numbers, whose quantiles are beta ones. Outcomes with
    two values have no normal residuals: their first panel is left out, and the line along the fitted values is the
    thing to look at. Local regression uses 75 % of the rows at each place, of more than 20,000 rows a random part.
    Every row counts the same, whatever its sampling weight.

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(20, 10, random_seed=1)
    >>> fit = pmwmix.fit("PV1MATH ~ escs + (1 | SCHOOLID)", survey.data)
    >>> plot = pmwmix.plots.residuals(fit, random_effects=True)
    >>> [str(name) for name in plot.data["panel"].to_numpy()]
    ['quantiles', 'fitted', 'SCHOOLID.Intercept']
    """
    check_one_outcome(check_fit(fit, "residuals"), "residuals()")
    one = fit_of(fit, pv)
    labels = labels_of(fit, labels)
    check_choice(type, "type", RESIDUALS)
    prob, most = check_ci_prob(ci_prob), check_count(max_points, "max_points", 10)
    values = one.residuals(type=type, conditional=conditional).to_numpy()
    word = LETTERS.get(type, f"{type} residual")
    line = check_choice(smooth, "smooth", list(SMOOTHS))
    found = [along_panel(np.asarray(one.fitted(conditional=conditional), dtype=float), values, most, word, line)]
    if not is_two_valued(one):
        found.insert(0, quantile_panel("quantiles", "Residuals", word, values, prob, most))
    if random_effects:
        found += effect_panels(one, prob, most, labels)
    data = _dataset(found)
    pc = panels(data, backend, figure_kwargs, n_cols=min(len(found), 3) if len(found) != 4 else 2, size=(3.9, 3.4))
    _draw(pc, data, [panel.name == "fitted" for panel in found])
    write_axes(pc, [panel.x for panel in found], [panel.y for panel in found])
    write_titles(pc, [panel.title for panel in found])
    entries: list[tuple[str, Mapping[str, Any]]] = [(SMOOTHS[smooth], {"color": ORANGE})]
    if len(found) > 1:
        entries += [("normal, through the quartiles", {"color": BLACK, "linestyle": "--"})]
        entries += [(f"{100 * prob:g} % band", {"color": PALE, "linewidth": 7})]
    write_legend(pc, entries)
    return pc


def is_two_valued(one: Any) -> bool:
    """Whether the outcome has two values, and so no normal residuals."""
    read = one.rows.response
    return read is not None and len(np.unique(read.y)) <= 2


def quantile_panel(name: str, title: str, y: str, values: Array, ci_prob: float, most: int) -> Panel:
    """Order values against normal quantiles at (i - 1/2) / n, with R's line through the quartiles and a band."""
    values = np.sort(values[np.isfinite(values)])
    n = len(values)
    place = spread(n, most)
    x = ndtri((np.arange(1, n + 1) - 0.5) / n)
    q25, q75 = np.quantile(values, [0.25, 0.75])
    slope, middle = (q75 - q25) / (2 * QUARTILE), (q25 + q75) / 2
    few = spread(n, 200)
    rank = few + 1.0
    low, high = (ndtri(betaincinv(rank, n + 1 - rank, (1 + sign * ci_prob) / 2)) for sign in (-1, 1))
    line = np.array([x[few], middle + slope * x[few]])
    band = (middle + slope * low, middle + slope * high)
    return Panel(name, title, "normal quantile", y, np.array([x[place], values[place]]), line, band)


def along_panel(fitted: Array, values: Array, most: int, word: str, smooth: str = "local") -> Panel:
    """Residuals against fitted values with a line through them."""
    place = thinned(len(values), most)
    if smooth == "local":
        line = curve(fitted, values)
    else:
        parts = np.array_split(np.argsort(fitted, kind="stable"), max(4, min(BINS, len(values) // 20)))
        line = np.array([[v[part].mean() for part in parts] for v in (fitted, values)])
    none = np.full(line.shape[1], np.nan)
    points = np.array([fitted[place], values[place]])
    return Panel("fitted", "Residuals along the fitted values", "fitted value", word, points, line, (none, none))


def effect_panels(one: Any, prob: float, most: int, labels: Mapping[str, str] | None) -> list[Panel]:
    """Conditional modes of every random term against normal quantiles."""
    found = one.ranef() if len(one.n_groups) else {}
    tables = found if isinstance(found, dict) else {str(found.index.name): found}
    out = []
    for name, table in tables.items():
        for term in [term for term in table.columns if f"{term}_se" in table.columns]:
            title = f"{shortened(text_of(name, labels))}: {shortened(text_of(term, labels), 34)}"
            values = table[term].to_numpy()
            out.append(quantile_panel(f"{name}.{term}", title, "conditional mode", values, prob, most))
    return out


def _dataset(found: list[Panel]) -> xr.Dataset:
    points, lines = padded([panel.points for panel in found]), padded([panel.line for panel in found])
    bands = [padded([panel.band[i] for panel in found]) for i in (0, 1)]
    return xr.Dataset(
        {
            "points": xy(points[:, 0], points[:, 1]),
            "line": xy(lines[:, 0], lines[:, 1], ("panel", "along")),
            "band_low": (("panel", "along"), bands[0]),
            "band_high": (("panel", "along"), bands[1]),
        },
        coords={"panel": [panel.name for panel in found]},
    )


def _draw(pc: azp.PlotCollection, data: xr.Dataset, trends: list[bool]) -> None:
    trend, x = np.array(trends), data["line"].sel(plot_axis="x", drop=True)
    quantiles = xr.DataArray(~trend, dims="panel", coords={"panel": data["panel"]})
    if (~trend).any():
        band = {"y_bottom": data["band_low"], "y_top": data["band_high"]}
        draw(pc, "fill_between_y", "band", x.where(quantiles), x=x, **band, color=PALE, alpha=0.6)
    n = data["points"].sel(plot_axis="x", drop=True).notnull().sum("point")
    for name, dense, alpha, size in (("rows", n >= DENSE, 0.25, 5), ("few rows", n < DENSE, 0.6, 14)):
        if dense.any():
            draw(pc, "scatter_xy", name, data["points"].where(dense), color=BLUE, alpha=alpha, size=size)
    zero = xr.DataArray(np.where(trend, 0.0, np.nan), dims="panel")
    draw(pc, "hline", "zero", zero, color=BLACK, width=0.8)
    draw(pc, "line_xy", "mean", data["line"].where(~quantiles), color=ORANGE, width=2)
    if (~trend).any():
        draw(pc, "line_xy", "normal", data["line"].where(quantiles), color=BLACK, linestyle="--", width=1.2)
