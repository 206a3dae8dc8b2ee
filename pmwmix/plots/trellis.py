"""Trellis plot: groups side by side, each with its rows, its own line and the lines of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import arviz_plots as azp
import numpy as np
import pandas as pd
import xarray as xr

from pmwmix._types import Array
from pmwmix.data.codes import label_text, printed
from pmwmix.data.table import Table
from pmwmix.errors import DataError, NotSupportedError, OptionError, near, some
from pmwmix.families import FAMILIES
from pmwmix.plots._base import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    check_choice,
    check_count,
    check_fit,
    chosen_groups,
    draw,
    fit_of,
    labels_of,
    matplotlib_axes,
    padded,
    panels,
    rows_of,
    shortened,
    spread,
    text_of,
    thinned,
    write_axes,
    write_legend,
    write_titles,
    xy,
)
from pmwmix.plots._lines import make_grid, missing_parts, model_lines
from pmwmix.plots._smooth import curve
from pmwmix.plots._units import Units, units_of
from pmwmix.prediction.responses import mean_of
from pmwmix.prediction.rows import LiveRows
from pmwmix.studies.withingroups import design_columns, least_squares
from pmwmix.weights.conditional import total_weights

MOST_PANELS = 200
SHOWN = 300  # points per panel
PARTS = 5
# up to this many panels: columns, inches of a panel, size of points
LAYOUTS: tuple[tuple[int, int, tuple[float, float], float], ...] = (
    (2, 2, (4.2, 3.4), 16),
    (3, 3, (3.4, 2.8), 14),
    (4, 2, (3.4, 2.8), 14),
    (9, 3, (2.9, 2.4), 12),
    (16, 4, (2.3, 2.0), 9),
    (20, 5, (2.1, 1.8), 8),
    (42, 6, (1.8, 1.6), 7),
    (MOST_PANELS, 10, (1.3, 1.25), 3),
)


def trellis(
    fit: Any,
    x: str,
    *,
    group: str | None = None,
    groups: int | Sequence[Any] = 16,
    split: str | None = None,
    data: Any = None,
    smooth: str = "line",
    order_by: str = "mean",
    pv: int = 1,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
) -> azp.PlotCollection:
    """Draw a panel per group: its rows, its own least-squares line, the model's fixed line and its line for the group.

    The dashed line is what the group says on its own, the dotted one what the model says of an average group with the
    same other predictors, the solid one what it says of this group. Where a group has few rows or little spread in
    ``x``, the solid line is drawn from the dashed towards the dotted one: shrinkage. Solid lines far from the points
    in many groups speak against the model: a curve is missing, or a random slope.

    Parameters
    ----------
    fit : FitResult or BayesResult
    x : str
        Numeric predictor of the horizontal axis, as the model has it (centred if it was centred).
    group : str, optional
        Grouping factor of the model, or a column of its table; None is the lowest factor. A model without random terms
        needs it.
    groups : int or list of labels
        The groups to show, or how many: evenly spread in their order by the mean of the outcome, from groups with at
        least three rows if there are enough.
    split : str, optional
        Column that is constant in the groups, such as the sector of a school: as many groups of each of its values,
        one value after the other. Needs ``data``.
    data : table, optional
        The table of the fit, for ``split`` and for an ``x`` that the model has only in functions such as ``bs(x)``.
    smooth : {"line", "local", "none"}
        What a group says on its own: its least-squares line, or local linear regression through its rows, R's
        ``loess(degree = 1)``, from eight different values of ``x`` on, which shows curves; or nothing.
    order_by : {"mean", "label"}
        Order of the panels.
    pv : int
        Plausible value to draw, counted from 1.
    backend, figure_kwargs, labels : optional
        As in `caterpillar`.

    Returns
    -------
    arviz_plots.PlotCollection
        ``.data`` has ``observed`` (panel, point), ``fixed``, ``conditional`` and ``own`` lines.

    Raises
    ------
    OptionError, DataError
        If an argument is not among the legal ones, or a column cannot be used.
    NotSupportedError
        For ordinal outcomes, and fits read from a file.

    Notes
    -----
    Other predictors are held at their means over the group's rows, a factor at its shares; columns with ``x`` in
    them (interactions, powers, splines) move along. Effects of groups above the one shown are part of the solid
    line, those of units inside it are taken as zero; where the model has none, dotted and solid line are one. The
    dashed line regresses the outcome on ``x`` alone, with the level-1 weights of the fit. Lines end where the
    group's rows end. With other links than the identity the lines are curves of the mean outcome, and the dashed
    line joins the mean outcomes of up to five parts of the group's rows, of five rows or more each, instead. Of
    more than 300 rows in a group a random part is drawn.

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(20, 10, random_seed=1)
    >>> fit = pmwmix.fit("PV1MATH ~ escs + (1 + escs | SCHOOLID)", survey.data)
    >>> plot = pmwmix.plots.trellis(fit, "escs", groups=6)
    >>> plot.data.sizes["panel"]
    6
    """
    one = fit_of(check_fit(fit, "trellis"), pv)
    labels = labels_of(fit, labels)
    family = fit.distribution[0]
    if family.is_categorical:
        raise NotSupportedError(
            f"An outcome of categories has no single line. This fit has family={fit.family!r}. "
            f"Draw predicted probabilities of its categories instead."
        )
    if family.further:
        raise NotSupportedError(
            f"A line needs a mean with one linear predictor. This fit has family={fit.family!r}, with further ones for "
            f"{', '.join(part.name for part in family.further)}. Use plots.effects()."
        )
    rows = rows_of(fit, pv, "trellis")
    unit = units_of(rows, one, group, "trellis")
    values = _predictor(rows, x, data)
    blocks = None if split is None else _split(rows, split, data, unit)
    shown = _shown(rows, unit, groups, blocks, check_choice(order_by, "order_by", ("mean", "label")))
    found = _compute(one, rows, unit, shown, x, values, check_choice(smooth, "smooth", ("line", "local", "none")))
    names = printed(unit.labels)
    titles = [_title(names[g], None if blocks is None else blocks[g]) for g in shown]
    outcome = rows.frame.formula.response
    shares = rows.response is not None and bool((family.trials(rows.response) != 1).any())
    y = text_of(outcome, labels) + (" (proportion)" if shares else "")
    text = text_of(x, labels) + "".join(f" (centred: {p.by})" for p in rows.blueprint.centrings if p.column == x)
    own = "group's own least-squares line" if one.has_closed_form else "group's own means by parts"
    words = {"line": own, "local": "group's own local regression", "none": ""}[smooth]
    return _draw(found, titles, (text, y), words, backend, figure_kwargs)


def _predictor(rows: LiveRows, x: str, data: Any) -> Array:
    """Values of ``x`` of every row (n,)."""
    known = design_columns(rows)
    if x in known:
        return known[x].to_numpy()
    blueprint = rows.blueprint
    if x in blueprint.categories or x not in blueprint.predictors:
        what = "is a factor" if x in blueprint.categories else "is not in the model"
        numeric = [name for name in blueprint.predictors if name not in blueprint.categories]
        raise OptionError(
            f"x is a numeric predictor of the model. {x!r} {what}.{near(str(x), numeric)} "
            f"Use one of {some(numeric, 12) or 'none: there is no numeric predictor'}."
        )
    if data is None or x in [plan.column for plan in blueprint.centrings]:
        raise OptionError(
            f"The model has x only inside functions. {x!r} does not stand alone in {rows.frame.formula.text!r}. "
            f"Pass data=, the table of the fit{'' if data is None else ', with the centred column in the table'}."
        )
    return _column(rows, blueprint.pv.get(x, x), data).to_numpy(dtype=float)


def _column(rows: LiveRows, name: str, data: Any) -> pd.Series:
    """Take a column of the caller's table at the rows of the fit."""
    column = Table(data).columns([name], "data")[name]
    if len(column) != rows.frame.n_read:
        raise DataError(
            f"data is not the table of the fit. It has {len(column)} rows, the table of the fit had "
            f"{rows.frame.n_read}. Pass the same table."
        )
    return column if rows.frame.kept is None else column.take(rows.frame.kept).reset_index(drop=True)


def _split(rows: LiveRows, split: str, data: Any, unit: Units) -> list[str]:
    """Value of the splitting column in every group."""
    if data is None:
        raise OptionError(
            f"A split needs the table: a fit does not keep its columns. split={split!r} was given without data. "
            f"Pass data=, the table of the fit."
        )
    column = _column(rows, split, data)
    codes, values = pd.factorize(column, sort=True)
    table = pd.Series(codes).groupby(unit.index).agg(["min", "max"]).drop(index=-1, errors="ignore")
    mixed = table.index[table["min"] != table["max"]]
    if len(mixed):
        raise DataError(
            f"A column that splits the groups is constant inside them. {split!r} varies in {len(mixed)} groups "
            f"({some([label_text(printed(unit.labels)[g]) for g in mixed], 3)}). Use a column of the groups."
        )
    words = [label_text(value) for value in values] + ["missing"]
    return [words[code] for code in table["min"].reindex(range(unit.n), fill_value=-1)]


def _shown(rows: LiveRows, unit: Units, groups: Any, blocks: list[str] | None, order_by: str) -> list[int]:
    """Places of the groups to show, in the order of the panels."""
    n = unit.count()
    mean = unit.count(_outcome(rows)) / np.maximum(n, 1)
    order = np.arange(unit.n) if order_by == "label" else np.argsort(mean, kind="stable")
    asked = isinstance(groups, Sequence | np.ndarray | pd.Index | pd.Series)
    if asked:
        wanted = set(chosen_groups(unit.labels, [groups] if isinstance(groups, str) else list(groups)))
        order = np.array([g for g in order if g in wanted])
    number = check_count(len(order) if asked else groups, "groups")
    if number > MOST_PANELS:
        raise OptionError(
            f"There would be too many panels. groups asks for {number}, at most {MOST_PANELS} can be read. "
            f"Write for example groups=40."
        )
    kinds = [None] if blocks is None else list(dict.fromkeys(sorted(blocks[g] for g in order)))
    out: list[int] = []
    for place, kind in enumerate(kinds):
        part = np.array([g for g in order if blocks is None or blocks[g] == kind])
        share = len(part) if asked else -(-(number - len(out)) // (len(kinds) - place))
        large = part[n[part] >= 3]
        part = large if len(large) >= share and not asked else part
        out += [int(g) for g in part[spread(len(part), max(share, 1))]]
    return out


def _outcome(rows: LiveRows) -> Array:
    """Observed outcome on the scale of the mean: proportions where there are trials."""
    read = rows.response
    return rows.y if read is None else read.y / FAMILIES[rows.frame.family].trials(read)


def _title(label: Any, kind: str | None) -> str:
    return shortened(label) if kind is None else f"{shortened(label, 16)} · {shortened(kind, 14)}"


def _compute(one: Any, rows: LiveRows, unit: Units, shown: list[int], x: str, values: Array, smooth: str) -> xr.Dataset:
    """Points and lines of every panel."""
    y = _outcome(rows)
    members = [np.flatnonzero(unit.index == g) for g in shown]
    grid = make_grid(rows, x, values, members)
    if lost := missing_parts(rows, grid):
        raise NotSupportedError(
            f"The line cannot follow {x!r} through every column. {some(lost)} mixes it with other variables in a way "
            f"that has no column of its own. Add the function of {x!r} alone to the formula."
        )
    fixed, conditional = model_lines(one, rows, grid, unit.level or 0)
    linear = one.has_closed_form
    w = total_weights(rows.frame.w, rows.frame.hierarchy.row_parents)[0] if any(rows.frame.weighted) else None
    own = [_own(smooth, linear, values[g], y[g], None if w is None else w[g]) for g in members]
    lines = {"fixed": fixed, "conditional": conditional}
    arrays = {name: xy(grid.points, mean_of(getattr(one, "ml", one), line[None])) for name, line in lines.items()}
    points = [np.array([values[g], y[g]]) for g in (g[thinned(len(g), SHOWN)] for g in members)]
    for name, parts in (("observed", padded(points)), ("own", padded(own))):
        arrays[name] = xy(parts[:, 0], parts[:, 1], ("panel", f"{name}_point"))
    names = printed(unit.labels)
    labelled = [label_text(names[g]) for g in shown]
    return xr.Dataset({**arrays, "n": ("panel", [len(g) for g in members])}, coords={"panel": labelled})


def _own(smooth: str, linear: bool, x: Array, y: Array, w: Array | None) -> Array:
    """Give what a group says on its own, as points of a line (2, m)."""
    if smooth == "none":
        return np.full((2, 2), np.nan)
    if smooth == "local":
        return curve(x, y, 30, w=w)
    return _least_squares(x, y, w) if linear else _means(x, y)


def _least_squares(x: Array, y: Array, w: Array | None) -> Array:
    """Give both ends of the group's own line (2, 2); without points if it has none."""
    found = least_squares(y, np.column_stack([np.ones(len(x)), x]), w) if np.ptp(x) > 0 else None
    if found is None:
        return np.full((2, 2), np.nan)
    ends = np.array([x.min(), x.max()])
    return np.array([ends, found[0][0] + found[0][1] * ends])


def _means(x: Array, y: Array) -> Array:
    """Give means of x and y in up to five parts of the rows by x, of five rows or more (2, parts)."""
    number = min(PARTS, len(x) // 5)
    if number < 2 or np.ptp(x) == 0:
        return np.full((2, 2), np.nan)
    parts = np.array_split(np.argsort(x, kind="stable"), number)
    return np.array([[values[part].mean() for part in parts] for values in (x, y)])


def _draw(
    data: xr.Dataset,
    titles: list[str],
    axes: tuple[str, str],
    own: str,
    backend: str | None,
    figure_kwargs: Mapping[str, Any] | None,
) -> azp.PlotCollection:
    n = data.sizes["panel"]
    _, n_cols, size, dot = next(layout for layout in LAYOUTS if n <= layout[0])
    pc = panels(data, backend, figure_kwargs, n_cols=n_cols, size=size, sharex=True, sharey=True)
    draw(pc, "scatter_xy", "rows", data["observed"], color=GREY, alpha=0.45, size=dot)
    apart = not np.array_equal(data["fixed"], data["conditional"], equal_nan=True)
    if apart:
        draw(pc, "line_xy", "fixed line", data["fixed"], color=BLACK, linestyle=":", width=1.4)
    draw(pc, "line_xy", "own line", data["own"], color=ORANGE, linestyle="--", width=1.6)
    draw(pc, "line_xy", "model line", data["conditional"], color=BLUE, linestyle="-", width=1.8)
    write_axes(pc, *axes, outer=True)
    write_titles(pc, titles, size=8 if n_cols < 10 else 6, width=26)
    for ax in matplotlib_axes(pc):
        ax.tick_params(labelsize=7)
        ax.locator_params(nbins=4)
    entries = [("rows", {"color": GREY, "marker": "o", "linestyle": "none", "markersize": 4})]
    entries += [(own, {"color": ORANGE, "linestyle": "--"})] if own else []
    entries += [("model, average group", {"color": BLACK, "linestyle": ":"})] if apart else []
    write_legend(pc, [*entries, ("model, this group", {"color": BLUE})])
    return pc


__all__ = ["trellis"]
