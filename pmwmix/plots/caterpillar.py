"""Caterpillar plot: conditional modes of the random effects, ordered, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import arviz_plots as azp
import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import ndtri

from pmwmix.errors import OptionError
from pmwmix.plots._base import (
    BLUE,
    GREY,
    check_ci_prob,
    check_count,
    check_fit,
    chosen_terms,
    draw,
    fit_of,
    group_name,
    labels_of,
    padded,
    panels,
    shortened,
    spread,
    text_of,
    write_axes,
    write_legend,
    write_titles,
)
from pmwmix.plots._intervals import MOST_NAMES, draw_intervals, room_for


def caterpillar(
    fit: Any,
    *,
    group: str | None = None,
    terms: str | Sequence[str] | None = None,
    ci_prob: float = 0.95,
    order_by: str = "estimate",
    max_groups: int = 500,
    pv: int | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
) -> azp.PlotCollection:
    """Draw the conditional modes of the random effects with intervals, one panel per random term.

    Each line is a group, ordered from the lowest to the highest effect. Groups whose interval excludes zero, the
    average group, are drawn in blue: they differ from the average by more than their own uncertainty. A steep curve
    with short intervals is a large variance between groups that the data pin down; a flat one with long intervals says
    that the groups cannot be told apart. Two groups differ only if their intervals hardly overlap; ranks in the middle
    mean little.

    Parameters
    ----------
    fit : FitResult or BayesResult
        One read by `pmwmix.load` will do.
    group : str, optional
        Grouping factor; None shows all of them.
    terms : str or list of str, optional
        Random terms; None shows all of them.
    ci_prob : float
        Probability of the intervals: conditional mode plus and minus a multiple of its standard deviation given the
        estimates (of a BayesResult the posterior mean and standard deviation).
    order_by : str
        ``"estimate"`` orders every panel by itself; ``"label"`` by the groups' labels; the name of a term orders all
        panels by that term.
    max_groups : int
        Of more groups this number is drawn, evenly spread in their order; the axis says so. Up to 60 are named.
    pv : int, optional
        Plausible value to draw; None is the result pooled over all.
    backend : str, optional
        Of arviz_plots; None is matplotlib unless ArviZ was told otherwise.
    figure_kwargs : dict, optional
        Passed to the grid of the backend, such as ``figsize``.
    labels : dict, optional
        What to write for terms and grouping factors; default: the label in the survey's files, where there is one.

    Returns
    -------
    arviz_plots.PlotCollection
        ``.data`` has ``estimate, ci_low, ci_high`` and the groups' ``label`` by panel and place.

    Raises
    ------
    OptionError
        If an argument is not among the legal ones.
    NotSupportedError
        If the model has no random term.

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(20, 10, random_seed=1)
    >>> fit = pmwmix.fit("PV1MATH ~ escs + (1 + escs | SCHOOLID)", survey.data)
    >>> plot = pmwmix.plots.caterpillar(fit, terms="escs")
    >>> plot.data.sizes["place"]
    20
    """
    one = check_fit(fit, "caterpillar") if pv is None else fit_of(check_fit(fit, "caterpillar"), pv)
    labels = labels_of(fit, labels)
    tables = _tables(one, group)
    data = _effects(tables, terms, check_ci_prob(ci_prob), order_by, check_count(max_groups, "max_groups", 2), labels)
    shown = int(np.isfinite(data["estimate"].to_numpy()).sum(axis=1).max())
    named = shown <= MOST_NAMES
    width = (4.6 if data.sizes["panel"] == 1 else 3.6) + room_for(data["label"], named)
    size = (width, max(1.2, 0.16 * shown + 0.4) if named else 5.5)
    pc = panels(data, backend, figure_kwargs, n_cols=3, size=size)
    outside = ((data["ci_low"] > 0) | (data["ci_high"] < 0)).to_numpy()
    draw(pc, "vline", "zero", xr.DataArray(np.zeros(data.sizes["panel"]), dims="panel"), color="#444444", width=0.8)
    draw_intervals(pc, data, outside)
    scale = "" if fit.link == "identity" else f" ({fit.link} scale)"
    write_axes(pc, f"deviation from the average{scale}", _places(data, labels))
    write_titles(pc, [str(text) for text in data["title"].to_numpy()])
    text = f"{100 * ci_prob:g} % interval"
    styles = [(f"{text} excludes 0", {"color": BLUE, "marker": "o", "markersize": 3})]
    write_legend(pc, [*styles, (f"{text} includes 0", {"color": GREY, "marker": "o", "markersize": 3})])
    return pc


def _tables(fit: Any, group: str | None) -> dict[str, pd.DataFrame]:
    """Conditional modes by grouping factor."""
    names = [str(name) for name in fit.n_groups.index if str(name) != "obs"]
    found = fit.ranef() if names else {}
    every = found if isinstance(found, dict) else {str(found.index.name or names[0]): found}
    if group is None:
        group_name(list(every), None, "caterpillar")
        return every
    name = group_name(list(every), group, "caterpillar")
    return {name: every[name]}


def _effects(
    tables: Mapping[str, pd.DataFrame],
    terms: str | Sequence[str] | None,
    ci_prob: float,
    order_by: str,
    max_groups: int,
    labels: Mapping[str, str] | None,
) -> xr.Dataset:
    """Estimates and intervals by panel and place, places in the order of drawing."""
    every = {name: [c for c in table.columns if f"{c}_se" in table.columns] for name, table in tables.items()}
    available = list(dict.fromkeys(term for found in every.values() for term in found))
    wanted = chosen_terms(available, terms)
    if order_by not in ("estimate", "label", *available):
        raise OptionError(
            f"Unknown order of the groups. Got order_by={order_by!r}. Use 'estimate', 'label' or one of the random "
            f"terms {', '.join(map(repr, available))}."
        )
    z, rows = float(ndtri(0.5 + ci_prob / 2)), []
    for name, table in tables.items():
        for term in [term for term in wanted if term in every[name]]:
            by = term if order_by == "estimate" or order_by not in (*every[name], "label") else order_by
            order = np.arange(len(table)) if by == "label" else np.argsort(table[by].to_numpy(), kind="stable")
            order = order[spread(len(order), max_groups)]
            b, half = table[term].to_numpy()[order], z * table[f"{term}_se"].to_numpy()[order]
            title = f"{shortened(text_of(name, labels))}: {shortened(text_of(term, labels), 34)}"
            rows.append((name, term, title, len(table), b, b - half, b + half, [*table.index[order]]))
    names, shown_terms, titles, totals, b, low, high, labelled = (list(part) for part in zip(*rows, strict=True))
    label = np.full(padded(b).shape, "", dtype=object)
    for i, these in enumerate(labelled):
        label[i, : len(these)] = [shortened(one) for one in these]
    dims = ("panel", "place")
    panel = {"panel": [f"{name}.{term}" for name, term in zip(names, shown_terms, strict=True)]}
    numbers = {"estimate": (dims, padded(b)), "ci_low": (dims, padded(low)), "ci_high": (dims, padded(high))}
    texts = {"label": (dims, label), "title": ("panel", titles), "grp": ("panel", names)}
    return xr.Dataset({**numbers, **texts, "n_groups": ("panel", totals)}, coords=panel)


def _places(data: xr.Dataset, labels: Mapping[str, str] | None) -> list[str]:
    """Say what stands on the vertical axis of every panel, and how many groups are left out."""
    out = []
    drawn = np.isfinite(data["estimate"].to_numpy()).sum(axis=1)
    for name, total, n in zip(data["grp"].to_numpy(), data["n_groups"].to_numpy(), drawn, strict=True):
        word = text_of(str(name), labels)
        many = f"{n:,} of {total:,} groups, evenly spread" if n < total else f"{total:,} groups"
        out.append(word if n == total <= MOST_NAMES else f"{word} ({many} in their order)")
    return out
