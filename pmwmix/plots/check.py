"""One look at a whole fit: residuals, random effects, influence of units, plausible values, weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import arviz_plots as azp
import numpy as np
import pandas as pd
import xarray as xr

from pmwmix._types import Array
from pmwmix.data.codes import label_text
from pmwmix.errors import NotSupportedError
from pmwmix.plots._base import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PALE,
    backend_of,
    check_ci_prob,
    check_count,
    check_fit,
    draw,
    each_panel,
    fit_of,
    matplotlib_axes,
    padded,
    panels,
    picture_of,
    rows_of,
    shortened,
    text_of,
    write_axes,
    write_titles,
    xy,
)
from pmwmix.plots._legends import in_backend
from pmwmix.plots.residuals import Panel, along_panel, effect_panels, is_two_valued, quantile_panel
from pmwmix.plots.weights import weights_data
from pmwmix.studies.influence import influence

MOST_EFFECTS = 4  # random terms that have a panel
DENSE = 1000  # points from which on they are drawn small and pale
POINTS = 2_000  # of rows


@dataclass(frozen=True)
class Part:
    """A panel of `residuals` with more: horizontal marks, points that are named, ticks of terms, bars."""

    panel: Panel
    marks: tuple[float, ...] = ()
    named: dict[int, str] = field(default_factory=dict)
    ticks: tuple[str, ...] = ()
    bars: xr.Dataset | None = None


def check(
    fit: Any,
    *,
    pv: int = 1,
    ci_prob: float = 0.95,
    named: int = 3,
    max_points: int = POINTS,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> azp.PlotCollection:
    """Check a whole model at one look, a panel for each assumption.

    Residuals against normal quantiles and along the fitted values, and the conditional modes of every random term
    against normal quantiles, as in `residuals`. Then the influence of the units of the top level: Cook's distance
    against leverage, with a line at 4 / J, and DFBETAS by coefficient, with lines at plus and minus 2 / sqrt(J); the
    largest beyond the lines are named. A unit far above the others decides the result alone: look at it, and fit
    without it. Then how far single plausible values lie from the pooled coefficients, in pooled standard errors, and
    the distribution of the weights with Kish's effective sample size.

    Parameters
    ----------
    fit : FitResult or BayesResult
    pv : int
        Plausible value of the residuals and random effects; influence is the mean over all.
    ci_prob : float
        Probability of the bands of the normal quantiles.
    named : int
        Units to name per panel.
    max_points : int
        Rows to draw, a random part of more.
    labels : dict, optional
        What to write for terms and levels.
    backend, figure_kwargs : optional
        As in `caterpillar`.

    Returns
    -------
    arviz_plots.PlotCollection
        ``.data`` has ``points`` (panel, ., x and y), ``line``, ``band_low`` and ``band_high``; ``.data.attrs`` under
        ``"left_out"`` the panels that this model cannot have, each with the reason.

    Raises
    ------
    OptionError
        If an argument is not among the legal ones.
    NotSupportedError
        If the fit was read from a file, which keeps no columns.

    Notes
    -----
    What is drawn of influence is `pmwmix.influence`. Up to four random terms have a panel. Leverage is defined for
    linear models; elsewhere Cook's distance is drawn against the rows of the unit.

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(20, 10, random_seed=1)
    >>> fit = pmwmix.fit("PV1MATH ~ escs + (1 | SCHOOLID)", survey.data)
    >>> plot = pmwmix.plots.check(fit, backend="none")
    >>> [str(name) for name in plot.data["panel"].to_numpy()]
    ['quantiles', 'fitted', 'SCHOOLID.Intercept', 'cooks_d', 'dfbetas']
    """
    one = fit_of(check_fit(fit, "check"), pv)
    rows_of(fit, pv, "check")
    prob, most = check_ci_prob(ci_prob), check_count(max_points, "max_points", 10)
    parts, left_out = _parts(fit, one, prob, check_count(named, "named", 0), most, labels)
    data = _dataset([part.panel for part in parts])
    data.attrs["left_out"] = left_out
    n_cols = 3 if len(parts) > 4 else 2
    pc = panels(data, backend, figure_kwargs, n_cols=n_cols, size=(3.7, 3.0))
    _draw(pc, data, parts)
    write_axes(pc, [part.panel.x for part in parts], [part.panel.y for part in parts])
    write_titles(pc, [part.panel.title for part in parts], size=9, width=46)
    return pc


def picture(fit: Any) -> bytes:
    """Give `check` as PNG, in a figure that is closed, so that notebooks do not show it too."""
    return picture_of(check(fit, backend="matplotlib"))


def _parts(
    fit: Any, one: Any, prob: float, named: int, most: int, labels: Mapping[str, str] | None
) -> tuple[list[Part], dict[str, str]]:
    """Collect the panels, and why others are missing."""
    left_out: dict[str, str] = {}
    parts: list[Part] = []
    if fit.distribution[0].is_categorical:
        left_out["residuals"] = f"an outcome of categories has none (family={fit.family!r})"
    else:
        values = one.residuals(type="pearson").to_numpy()
        if is_two_valued(one):
            left_out["quantiles"] = "residuals of an outcome with two values are not normal"
        else:
            parts.append(Part(quantile_panel("quantiles", "Residuals", "Pearson residual", values, prob, most)))
        fitted = np.asarray(one.fitted(), dtype=float)
        parts.append(Part(along_panel(fitted, values, most, "Pearson residual")))
    effects = effect_panels(one, prob, most, labels)
    parts += [Part(panel) for panel in effects[:MOST_EFFECTS]]
    for panel in effects[MOST_EFFECTS:]:
        left_out[panel.name] = f"the first {MOST_EFFECTS} random terms have panels"
    try:
        table = influence(fit)
    except NotSupportedError as error:
        left_out["influence"] = str(error)
    else:
        parts += [_cooks(table, named, labels), _dfbetas(table, fit, named, labels)]
    if fit.n_pv > 1 and len(fit.coef):
        parts.append(_values(fit, labels))
    if fit.settings.weighted:
        parts += _weights(fit, labels)
    return parts, left_out


def _cooks(table: pd.DataFrame, named: int, labels: Mapping[str, str] | None) -> Part:
    y = table["cooks_d"].to_numpy()
    linear = bool(table["leverage"].notna().any())
    x = table["leverage" if linear else "n"].to_numpy(dtype=float)
    limit = 4.0 / len(table)
    unit = text_of(str(table.index.name or "row"), labels)
    largest = [i for i in np.argsort(-np.nan_to_num(y))[:named] if y[i] > limit]
    beyond = int((y > limit).sum())
    title = f"Influence of {shortened(unit)}: {beyond:,} of {len(y):,} above 4/J"
    if not np.isfinite(y).any():
        title = "Cook's distance: not defined, the covariance has not full rank"
    word = "leverage" if linear else "rows"
    panel = Panel("cooks_d", title, word, "Cook's distance", np.array([x, y]), *_nothing())
    return Part(panel, (limit,), {i: _label(table, i) for i in largest})


def _dfbetas(table: pd.DataFrame, fit: Any, named: int, labels: Mapping[str, str] | None) -> Part:
    values = table[[f"dfbetas[{term}]" for term in fit.coef.index]].to_numpy()  # (J, p)
    J, p = values.shape
    x = np.arange(p) + np.linspace(-0.3, 0.3, J)[:, None]
    limit = 2.0 / np.sqrt(J)
    flat = np.nan_to_num(np.abs(values.ravel()))
    largest = [i for i in np.argsort(-flat)[:named] if flat[i] > limit]
    points = np.array([x.ravel(), values.ravel()])
    terms = tuple(shortened(text_of(term, labels), 18) for term in fit.coef.index)
    panel = Panel("dfbetas", "DFBETAS by coefficient", "", "change in standard errors", points, *_nothing())
    return Part(panel, (-limit, limit), {i: _label(table, i // p) for i in largest}, terms)


def _label(table: pd.DataFrame, place: Any) -> str:
    return shortened(label_text(table.index[place]), 14)


def _values(fit: Any, labels: Mapping[str, str] | None) -> Part:
    """Coefficients of the single plausible values less the pooled ones, in pooled standard errors."""
    z = np.array([(one.coef - fit.coef) / fit.se for one in fit.fits])
    x = np.arange(z.shape[1]) + np.linspace(-0.2, 0.2, len(z))[:, None]
    panel = Panel(
        "plausible values",
        f"{len(z)} plausible values about the pooled coefficients",
        "",
        "difference in pooled standard errors",
        np.array([x.ravel(), z.ravel()]),
        *_nothing(),
    )
    return Part(panel, (0.0,), {}, tuple(shortened(text_of(term, labels), 18) for term in fit.coef.index))


def _weights(fit: Any, labels: Mapping[str, str] | None) -> list[Part]:
    """Histograms of the total weights of the rows and of the top level."""
    data = weights_data(fit)
    every = [data.isel(panel=i) for i in range(data.sizes["panel"]) if str(data["kind"].values[i]) == "total"]
    out = []
    for one in {str(part["level"].item()): part for part in (every[0], every[-1])}.values():
        level = str(one["level"].item())
        name = shortened(text_of(level, {"obs": "rows", **(labels or {})}))
        title = f"Weights of {name}: n = {int(one['n'])}, effective {float(one['n_eff']):.0f}"
        word = "total weight" + (" (log scale)" if bool(one["log"]) else "")
        panel = Panel(f"weights of {level}", title, word, "number", np.full((2, 1), np.nan), *_nothing())
        out.append(Part(panel, bars=one.dropna("bar")))
    return out


def _nothing() -> tuple[Array, tuple[Array, Array]]:
    none = np.full(2, np.nan)
    return np.full((2, 2), np.nan), (none, none)


def _dataset(found: list[Panel]) -> xr.Dataset:
    points, lines = padded([panel.points for panel in found]), padded([panel.line for panel in found])
    low, high = (padded([panel.band[i] for panel in found]) for i in (0, 1))
    numbers = {"points": xy(points[:, 0], points[:, 1]), "line": xy(lines[:, 0], lines[:, 1], ("panel", "along"))}
    bands = {"band_low": (("panel", "along"), low), "band_high": (("panel", "along"), high)}
    return xr.Dataset({**numbers, **bands}, coords={"panel": [panel.name for panel in found]})


def _draw(pc: azp.PlotCollection, data: xr.Dataset, parts: list[Part]) -> None:
    quantiles = xr.DataArray([np.isfinite(p.panel.band[0]).any() for p in parts], dims="panel")
    quantiles = quantiles.assign_coords(panel=data["panel"])
    x = data["line"].sel(plot_axis="x", drop=True)
    if quantiles.any():
        band = {"y_bottom": data["band_low"], "y_top": data["band_high"]}
        draw(pc, "fill_between_y", "band", x.where(quantiles), x=x, **band, color=PALE, alpha=0.6)
    n = data["points"].sel(plot_axis="x", drop=True).notnull().sum("point")
    for name, dense, alpha, size in (("points", n >= DENSE, 0.3, 5), ("few points", n < DENSE, 0.65, 12)):
        if dense.any():
            draw(pc, "scatter_xy", name, data["points"].where(dense), color=BLUE, alpha=alpha, size=size)
    draw(pc, "line_xy", "normal", data["line"].where(quantiles), color=BLACK, linestyle="--", width=1.2)
    draw(pc, "line_xy", "trend", data["line"].where(~quantiles), color=ORANGE, width=2)
    for target, part in zip(each_panel(pc), parts, strict=True):
        _finish(pc, target, part)
    for ax, part in zip(matplotlib_axes(pc), parts, strict=False):
        if part.bars is None and not part.ticks:
            ax.locator_params(axis="x", nbins=6)


def _finish(pc: azp.PlotCollection, target: Any, part: Part) -> None:
    """Add marks, names of units, ticks and bars to one panel."""
    module, points = backend_of(pc), part.panel.points
    zero = (0.0,) if part.panel.name in ("fitted", "dfbetas") else ()
    for mark in (*zero, *part.marks):
        style = {"color": GREY, "linestyle": "-"} if mark == 0 else {"color": ORANGE, "linestyle": "--"}
        module.hline(mark, target, width=0.9, **in_backend(pc.backend, style))
    for i, text in part.named.items():
        side = {"horizontal_align": "left", "vertical_align": "bottom" if points[1, i] >= 0 else "top"}
        module.text(points[0, i], points[1, i], f" {text}", target, size=7, color=BLACK, **side)
    if part.ticks:
        many = len(part.ticks) > 4 or max(map(len, part.ticks)) > 9
        turn = {"rotation": 90} if many else {}
        module.xticks(np.arange(len(part.ticks)), list(part.ticks), target, size=7, **turn)
    if part.bars is not None:
        bars = part.bars
        module.hist(bars["count"].values, bars["left"].values, bars["right"].values, target, color=BLUE, alpha=0.75)
        module.vline(float(bars["mean"]), target, color=ORANGE, width=1.4)
        if bool(bars["log"]):
            module.xscale(target, "log")


__all__ = ["check", "picture"]
