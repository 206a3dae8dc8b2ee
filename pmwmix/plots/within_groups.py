"""Coefficients of the groups' own least-squares regressions, side by side or against a covariate of the groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import arviz_plots as azp
import numpy as np
import pandas as pd
import xarray as xr

from pmwmix._types import Array
from pmwmix.data.codes import code, label_text, printed
from pmwmix.data.table import Table
from pmwmix.errors import DataError, OptionError, near, some
from pmwmix.plots._base import (
    BLACK,
    BLUE,
    COLOURS,
    GREY,
    backend_of,
    check_choice,
    check_count,
    chosen_terms,
    draw,
    each_panel,
    labels_of,
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
from pmwmix.plots._byfactor import draw_by_factor
from pmwmix.plots._intervals import MOST_NAMES, draw_arrows, draw_intervals, limits_of, room_for
from pmwmix.studies.withingroups import design_columns, group_regressions

DEGREES = {"linear": 1, "quadratic": 2, "none": 0}


def within_groups(
    data: Any,
    formula: str | None = None,
    *,
    group: str | None = None,
    terms: str | Sequence[str] | None = None,
    covariate: str | None = None,
    smooth: str = "quadratic",
    split: str | None = None,
    weights: str | None = None,
    pool: bool = False,
    ci_prob: float = 0.95,
    order_by: str | None = None,
    max_groups: int = 500,
    pv: int | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
) -> azp.PlotCollection:
    """Draw the coefficients of regressions inside every group with intervals, one panel per coefficient.

    Before a multilevel model this shows what can vary: intervals that miss each other speak for a random intercept or
    slope; slopes that all cover the dotted line, their mean, need none. Against a ``covariate`` of the groups the same
    coefficients show which of them it explains, and whether along a line or a curve: the exploratory step before
    cross-level interactions. Coefficients of small groups scatter widely, which is noise, not variance between groups;
    intervals that leave the picture end in an arrow.

    Parameters
    ----------
    data : table, path, FitResult or BayesResult
    formula : str, optional
        ``"mathach ~ ses"``; of a fit the default is its outcome on the random terms of the group.
    group : str, optional
        Column with the groups; of a fit the default is its lowest level.
    terms : str or list of str, optional
        Coefficients to show; None shows all.
    covariate : str, optional
        Column to draw them against, such as ``"meanses"``; a number that varies inside groups is averaged. Categories
        of the groups, such as their sector, get boxplots. Of a fit a numeric column of the model.
    smooth : {"quadratic", "linear", "none"}
        Least-squares curve through the coefficients, every group counting the same.
    split : str, optional
        With a covariate and a table: column of the groups that gives each kind a colour and a curve of its own.
    weights : str, optional
        With a table: column of sampling weights of the rows.
    pool : bool
        One residual variance for all groups, as in `group_regressions`.
    ci_prob : float
        Probability of the intervals.
    order_by : str, optional
        Without a covariate: ``"estimate"`` orders every panel by itself, ``"label"`` by the groups' labels, a term
        orders all panels by that term. None is the first term.
    max_groups : int
        Of more groups this number is drawn, evenly spread in their order; smooths go through all of them.
    pv : int, optional
        Of a fit with plausible values: the one to use; None pools all.
    backend, figure_kwargs, labels : optional
        As in `caterpillar`.

    Returns
    -------
    arviz_plots.PlotCollection
        ``.data`` has ``estimate, ci_low, ci_high, label`` (panel, place), and with a covariate ``covariate`` and
        ``smooth``; ``.data.attrs["notes"]`` says which groups are not drawn.

    Warns
    -----
    PmwmixWarning
        If groups are left out because they have too few rows.

    Raises
    ------
    OptionError, DataError, NotSupportedError

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(20, 10, random_seed=1)
    >>> plot = pmwmix.plots.within_groups(survey.data, "PV1MATH ~ escs", group="SCHOOLID")
    >>> plot.data.sizes["panel"]
    2
    """
    check_choice(smooth, "smooth", tuple(DEGREES))
    labels = labels_of(data, labels)
    most = check_count(max_groups, "max_groups", 2)
    if split is not None and covariate is None:
        raise OptionError(
            f"A split colours the groups of a plot against a covariate. Got split={split!r} without one. "
            f"Add covariate=, a column of the groups."
        )
    table = group_regressions(data, formula, by=group, weights=weights, pv=pv, pool=pool, ci_prob=ci_prob)
    found = list(dict.fromkeys(table["term"]))
    wanted = chosen_terms(found, terms)
    wide = {name: table.pivot(index="group", columns="term", values=name) for name in ("estimate", "ci_low", "ci_high")}
    if covariate is None:
        order = _order(wide["estimate"], found, wanted, order_by)
        group = group or str(data.n_groups.index[0])
        pc = _side_by_side(wide, wanted, order, most, ci_prob, group, backend, figure_kwargs, labels)
        pc.data.attrs["notes"] = table.attrs["notes"]
        return pc
    if _is_factor(data, covariate):
        factor = _by_group(data, covariate, group, wide["estimate"].index, kinds=True)
        pc = draw_by_factor(wide["estimate"], wanted, factor, covariate, backend, figure_kwargs, labels)
        pc.data.attrs["notes"] = table.attrs["notes"]
        return pc
    values = _by_group(data, covariate, group, wide["estimate"].index)
    kinds = None if split is None else _by_group(data, split, group, wide["estimate"].index, kinds=True)
    pc = _against(wide, wanted, values, kinds, covariate, smooth, most, backend, figure_kwargs, labels)
    lost = int(np.isnan(values.astype(float)).sum())
    note = [f"{lost} groups are not drawn: {covariate!r} is missing in all of their rows."] if lost else []
    pc.data.attrs["notes"] = table.attrs["notes"] + note
    return pc


def _order(estimate: pd.DataFrame, found: list[str], wanted: list[str], order_by: str | None) -> dict[str, Array]:
    """Order of the groups in every panel."""
    if order_by not in (None, "estimate", "label", *found):
        raise OptionError(
            f"Unknown order of the groups. Got order_by={order_by!r}.{near(str(order_by), found)} Use 'estimate', "
            f"'label' or one of the terms {some(found)}."
        )
    by = wanted[0] if order_by is None else order_by
    if by == "label":
        return dict.fromkeys(wanted, np.arange(len(estimate)))
    return {term: np.argsort(estimate[term if by == "estimate" else by].to_numpy(), kind="stable") for term in wanted}


def _side_by_side(
    wide: dict[str, pd.DataFrame],
    wanted: list[str],
    order: dict[str, Array],
    most: int,
    ci_prob: float,
    group: str | None,
    backend: str | None,
    figure_kwargs: Mapping[str, Any] | None,
    labels: Mapping[str, str] | None,
) -> azp.PlotCollection:
    total = len(wide["estimate"])
    chosen = {term: order[term][spread(total, most)] for term in wanted}
    arrays = {
        name: (("panel", "place"), np.array([frame[term].to_numpy()[chosen[term]] for term in wanted]))
        for name, frame in wide.items()
    }
    texts = [[shortened(label) for label in wide["estimate"].index[chosen[term]]] for term in wanted]
    data = xr.Dataset({**arrays, "label": (("panel", "place"), np.array(texts, dtype=object))}, {"panel": wanted})
    mean = wide["estimate"][wanted].mean().to_numpy()
    data["mean"] = ("panel", mean)
    shown, width = data.sizes["place"], 4.6 if len(wanted) == 1 else 3.6
    named = shown <= MOST_NAMES
    size = (width + room_for(data["label"], named), max(1.2, 0.16 * shown + 0.4) if named else 5.5)
    pc = panels(data, backend, figure_kwargs, n_cols=3, size=size)
    draw(pc, "vline", "mean", data["mean"], color=BLACK, linestyle=":", width=1.2)
    limits = _limits(data)
    draw_intervals(pc, data, ((data["ci_low"] > data["mean"]) | (data["ci_high"] < data["mean"])).to_numpy(), limits)
    for target, ends in zip(each_panel(pc), limits, strict=True):
        backend_of(pc).xlim(ends, target)
    many = f"{shown:,} of {total:,} groups, evenly spread" if shown < total else f"{total:,} groups"
    word = text_of(group or "group", labels)
    places = [word if named and shown == total else f"{word} ({many} in their order)"] + [""] * (len(wanted) - 1)
    write_axes(pc, "coefficient in the group", places)
    write_titles(pc, [shortened(text_of(term, labels), 36) for term in wanted])
    text = f"{100 * ci_prob:g} % interval"
    entries = [(f"{text} excludes the mean", BLUE), (f"{text} includes the mean", GREY)]
    styles: list[tuple[str, Mapping[str, Any]]] = [
        (words, {"color": color, "marker": "o", "markersize": 3}) for words, color in entries
    ]
    write_legend(pc, [*styles, ("mean of the groups", {"color": BLACK, "linestyle": ":"})])
    return pc


def _limits(data: xr.Dataset) -> list[tuple[float, float]]:
    low, b, high = (data[name].to_numpy() for name in ("ci_low", "estimate", "ci_high"))
    return limits_of(low, b, high)


def _is_factor(data: Any, name: str) -> bool:
    """Whether a column of a table holds categories."""
    if hasattr(data, "fits") and hasattr(data, "tidy"):
        return False
    return isinstance(Table(data).columns([name])[name].dtype, pd.CategoricalDtype)


def _by_group(data: Any, name: str, group: str | None, index: pd.Index, kinds: bool = False) -> Any:
    """Value of a column in every group of ``index``; the mean of a numeric one."""
    column, codes, labels = _with_groups(data, name, group, kinds)
    if kinds:
        texts = _texts(column)
        grouped = texts.groupby(codes)
        mixed = grouped.nunique()
        if (mixed > 1).any():
            raise DataError(
                f"A column that splits the groups is constant inside them. {name!r} varies in "
                f"{int((mixed > 1).sum())} groups. Use a column of the groups."
            )
        values = grouped.first()
    else:
        values = column.groupby(codes).mean()
    values.index = pd.Index([label_text(label) for label in np.array(printed(labels), dtype=object)[values.index]])
    out = values.reindex([label_text(label) for label in index]).to_numpy()
    if kinds:
        return pd.Categorical(out, [name for name in texts.cat.categories if name in set(out)])
    if np.isfinite(out.astype(float)).sum() < 2:
        raise DataError(f"The covariate is missing in all groups but one. Column {name!r}. Use another column.")
    return out


def _texts(column: pd.Series) -> pd.Series:
    """Labels of the values of a column, as categories in the caller's order."""
    texts = column.astype(object).where(column.notna(), "missing").map(label_text)
    order = [label_text(v) for v in column.cat.categories] if isinstance(column.dtype, pd.CategoricalDtype) else []
    return texts.astype(pd.CategoricalDtype([*order, *sorted(set(texts) - set(order))]))


def _with_groups(data: Any, name: str, group: str | None, kinds: bool) -> tuple[pd.Series, Array, list[Any]]:
    """Give a column with the group of every row."""
    if hasattr(data, "fits") and hasattr(data, "tidy"):
        rows = rows_of(data, 1, "within_groups")
        levels = rows.frame.hierarchy.levels
        level = next((v for v in levels if sorted(v.name.split(":")) == sorted(str(group).split(":"))), levels[0])
        known = design_columns(rows)
        if kinds or name not in known:
            raise OptionError(
                f"A fit keeps only the numeric columns of the model. {name!r} is not among them."
                f"{near(str(name), list(known))} Use {some(list(known), 12)}, or pass the table instead of the fit."
            )
        return known[name], level.index, level.labels
    factors = str(group).split(":")
    columns = Table(data).columns([name, *factors])
    keep = np.flatnonzero(~np.any([columns[factor].isna() for factor in factors], axis=0))
    taken = {key: column.take(keep).reset_index(drop=True) for key, column in columns.items()}
    return taken[name], *code([taken[factor] for factor in factors])


def _curve(x: Array, y: Array, degree: int, grid: Array) -> Array:
    """Least-squares polynomial through points, on a grid inside their range; NaN where they do not carry it."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if degree == 0 or len(np.unique(x)) <= degree:
        return np.full(len(grid), np.nan)
    centre, scale = x.mean(), x.std()
    fitted = np.polyval(np.polyfit((x - centre) / scale, y, degree), (grid - centre) / scale)
    return np.where((grid >= x.min()) & (grid <= x.max()), fitted, np.nan)


def _against(
    wide: dict[str, pd.DataFrame],
    wanted: list[str],
    values: Array,
    kinds: pd.Categorical | None,
    covariate: str,
    smooth: str,
    most: int,
    backend: str | None,
    figure_kwargs: Mapping[str, Any] | None,
    labels: Mapping[str, str] | None,
) -> azp.PlotCollection:
    values = values.astype(float)
    names = ["all groups"] if kinds is None else list(kinds.categories)
    if len(names) > len(COLOURS):
        raise DataError(
            f"A split has few values. The column has {len(names)}: {some(names)}. Use one with {len(COLOURS)} or fewer."
        )
    of_kind = [np.ones(len(values), dtype=bool) if kinds is None else kinds == name for name in names]
    data = _smoothed(wide, wanted, values, of_kind, DEGREES[smooth]).assign_coords(kind=names)
    pc = panels(data, backend, figure_kwargs, n_cols=3, size=(4.4, 3.6))
    drawn = np.isin(np.arange(len(values)), thinned(len(values), most))
    limits = _limits(data)
    for i, part in enumerate(of_kind):
        _draw_kind(pc, data, part & drawn, i, limits)
    for target, ends in zip(each_panel(pc), limits, strict=True):
        backend_of(pc).ylim(ends, target)
    write_axes(pc, text_of(covariate, labels), "coefficient in the group")
    write_titles(pc, [shortened(text_of(term, labels), 36) for term in wanted])
    if kinds is not None:
        styles = [(name, {"color": COLOURS[i], "marker": "o", "markersize": 4}) for i, name in enumerate(names)]
        write_legend(pc, styles)
    return pc


def _smoothed(
    wide: dict[str, pd.DataFrame], wanted: list[str], values: Array, of_kind: list[Array], degree: int
) -> xr.Dataset:
    """Lay out coefficients, covariate and the curve through the groups of every kind."""
    grid = np.linspace(np.nanmin(values), np.nanmax(values), 80)
    curves = [
        [_curve(values[part], wide["estimate"][term].to_numpy()[part], degree, grid) for part in of_kind]
        for term in wanted
    ]
    numbers = {name: (("panel", "place"), frame[wanted].to_numpy().T) for name, frame in wide.items()}
    data = xr.Dataset(numbers, coords={"panel": wanted})
    data["covariate"] = ("place", values)
    data["label"] = ("place", np.array([label_text(label) for label in wide["estimate"].index], dtype=object))
    data["smooth"] = (("panel", "kind", "along"), np.array(curves))
    data["grid"] = ("along", grid)
    return data


def _draw_kind(
    pc: azp.PlotCollection, data: xr.Dataset, part: Array, i: int, limits: list[tuple[float, float]]
) -> None:
    """Draw the points, intervals and curve of one kind of groups."""
    color = COLOURS[i]
    low, high, b = (np.where(part, data[name], np.nan) for name in ("ci_low", "ci_high", "estimate"))
    x = np.broadcast_to(data["covariate"].to_numpy(), b.shape)
    ends = np.stack([low, high, np.full_like(low, np.nan)], axis=-1).reshape(len(low), -1)
    draw(pc, "line_xy", f"intervals {i}", xy(np.repeat(x, 3, axis=1), ends), color=color, alpha=0.22, width=0.8)
    draw_arrows(pc, (low, high), x, limits, upright=True, color=color, name=f"{i}")
    draw(pc, "scatter_xy", f"estimates {i}", xy(x, b), color=color, alpha=0.8, size=12)
    line = data["smooth"].isel(kind=i, drop=True).to_numpy()
    draw(pc, "line_xy", f"smooth {i}", xy(data["grid"].to_numpy(), line), color=color, width=2.2)
