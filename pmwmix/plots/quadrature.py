"""Estimates and log-likelihood of a generalised model against the number of quadrature nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_plots import PlotCollection

from pmwmix.errors import OptionError
from pmwmix.fitting.climb import STILL
from pmwmix.plots._base import (
    BLUE,
    COLOURS,
    GREY,
    PALE,
    backend_of,
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
from pmwmix.studies.comparison import chosen
from pmwmix.studies.nodecheck import NODES, quadrature_check

NEEDED = {"n_agq", "term", "shift", "loglik"}


def quadrature(
    fit: Any,
    *,
    nodes: Sequence[int] = NODES,
    terms: str | Sequence[str] | None = None,
    max_terms: int = 6,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw estimates and log-likelihood of a generalised model against the number of quadrature nodes.

    The model is fitted again with every number of nodes. Left: how far each estimate is from the one under the most
    nodes, in standard errors; inside the grey band (0.1) the difference does not matter. Right: the log-likelihood,
    minus that under the most nodes. Curves that are flat from the number of nodes of the fit on (dotted line) say that
    it had enough.

    Parameters
    ----------
    fit : FitResult or DataFrame
        Of a generalised model; or what `quadrature_check` gave, which fits nothing again.
    nodes : sequence of int
        Numbers of nodes; 1 is Laplace's approximation.
    terms : str or list of str, optional
        Estimates to show, as `compare` names them. None: all.
    max_terms : int
        The estimates that move most get a colour and a name; the others are grey.
    labels : dict, optional
        What to write for a term; default: the label in the survey's files, where there is one.
    backend : str, optional
        Of arviz_plots.
    figure_kwargs : dict, optional
        For the figure, such as ``figsize``.

    Returns
    -------
    arviz_plots.PlotCollection

    Raises
    ------
    OptionError, NotSupportedError
        If there is no quadrature to check, or an argument is not among the legal ones.

    Examples
    --------
    >>> import numpy as np
    >>> import pmwmix
    >>> data = pmwmix.simulate_survey(30, 10, n_pv=1, random_seed=3).data
    >>> data["above"] = (data["PV1MATH"] > 500).astype(int)
    >>> fit = pmwmix.fit("above ~ escs + (1 | SCHOOLID)", data, family="binomial", n_agq=5)
    >>> plot = pmwmix.plots.quadrature(fit, nodes=(1, 5, 9), backend="none")
    """
    shown = min(check_count(max_terms, "max_terms"), len(COLOURS))
    labels = labels_of(fit, labels)
    used: tuple[int, ...] = ()
    if isinstance(fit, pd.DataFrame):
        table = _checked(fit)
    else:
        table = quadrature_check(check_fit(fit, "quadrature"), nodes)
        used = tuple(sorted(set(fit.quadrature["n_agq"])))
    data = quadrature_data(table if terms is None else chosen(table, terms))
    pc = panels(data, backend, figure_kwargs, n_cols=2, size=(4.2, 3.0))
    entries = _draw_shifts(pc, data, shown, labels)
    loglik = data["loglik"].to_numpy() - data["loglik"].to_numpy()[-1]
    _both(pc, "log-likelihood", 1, data["place"].to_numpy(), loglik, BLUE)
    _draw_frame(pc, data, used)
    write_titles(pc, ["Estimates", "Log-likelihood"])
    write_axes(pc, "Nodes per random effect", ["Shift in standard errors", "Difference from the most nodes"])
    write_legend(pc, entries, ncols=min(3, len(entries)))
    return pc


def quadrature_data(table: pd.DataFrame) -> xr.Dataset:
    """Shifts (term, node), log-likelihood (node) and horizontal places (node), from `quadrature_check`."""
    wide = table.pivot(index="term", columns="n_agq", values="shift")
    wide = wide.loc[wide.abs().max(axis=1).sort_values(ascending=False, kind="stable").index]
    loglik = table.groupby("n_agq")["loglik"].first().sort_index()
    coords = {
        "term": list(wide.index),
        "node": list(wide.columns),
        "panel": ["estimates", "log-likelihood"],
        "shift": (("term", "node"), wide.to_numpy()),
        "loglik": ("node", loglik.to_numpy()),
        "place": ("node", np.arange(len(loglik), dtype=float)),
    }
    return xr.Dataset({"kind": ("panel", ["shift", "loglik"])}, coords=coords)


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    if not set(table.columns) >= NEEDED:
        raise OptionError(
            f"The table is not one of quadrature_check(). Its columns are {', '.join(map(str, table.columns))}. "
            f"Pass a fit, or what pmwmix.quadrature_check(fit) returned."
        )
    return table


def _draw_shifts(
    pc: PlotCollection, data: xr.Dataset, shown: int, labels: Mapping[str, str] | None
) -> list[tuple[str, dict[str, Any]]]:
    """Draw a line per term, the most moving ones last and in colour; give the legend."""
    entries = []
    for place in reversed(range(data.sizes["term"])):
        colour = COLOURS[place] if place < shown else PALE
        term = str(data["term"].values[place])
        _both(pc, f"shift of {term}", 0, data["place"].to_numpy(), data["shift"].to_numpy()[place], colour)
        if place < shown:
            text = shortened(text_of(term, labels), 30)
            entries.append((text, {"color": colour, "linestyle": "-", "marker": "o"}))
    more = data.sizes["term"] - shown
    others = [(f"{more} others, which move less", {"color": PALE, "linestyle": "-", "marker": "o"})] if more > 0 else []
    return entries[::-1] + others


def _both(pc: PlotCollection, name: str, panel: int, x: Any, y: Any, colour: str) -> None:
    """Draw a line with points into one of the two panels."""
    values = np.full((2, len(x)), np.nan)
    values[panel] = y
    draw(pc, "line_xy", f"{name} line", xy(x, values), color=colour, width=1.3)
    draw(pc, "scatter_xy", name, xy(x, values), color=colour, marker="C0", size=16)


def _draw_frame(pc: PlotCollection, data: xr.Dataset, used: Sequence[int]) -> None:
    """Draw what to judge by: the band of 0.1, zero, the nodes of the fit; numbers of nodes evenly spaced below."""
    module, targets = backend_of(pc), each_panel(pc)
    module.hspan(-STILL, STILL, targets[0], color=GREY, alpha=0.15)
    nodes = data["node"].to_numpy()
    for target in targets:
        module.hline(0.0, target, color=GREY, width=0.8, linestyle="C1")
        for n in used:
            at = float(np.interp(n, nodes, data["place"].to_numpy()))
            if nodes[0] <= n <= nodes[-1]:
                module.vline(at, target, color=GREY, width=1.0, linestyle="C2")
        texts = ["1\nLaplace" if n == 1 else str(n) for n in nodes]
        module.xticks(data["place"].values.tolist(), texts, target, size=8)
