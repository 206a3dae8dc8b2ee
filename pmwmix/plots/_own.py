"""Plots in axes or figures of the caller's own (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import arviz_plots as azp
import numpy as np
import xarray as xr

from pmwmix.errors import OptionError
from pmwmix.plots._legends import Entries, has_line, has_marker


def own_collection(
    stub: xr.Dataset, backend: str, given: Mapping[str, Any], n_cols: int, grid: Mapping[str, Any]
) -> azp.PlotCollection:
    """Make a collection of the caller's axes, or of a grid in the caller's figure.

    Raises
    ------
    OptionError
        With another backend, other keywords beside them, or a wrong number of axes.
    """
    n = stub.sizes["panel"]
    if backend != "matplotlib" or len(given) > 1:
        raise OptionError(
            f"Own axes or an own figure are matplotlib's, and have their size already. Got backend={backend!r} and "
            f"figure_kwargs={dict(given)!r}. Pass figure_kwargs={{'ax': axes}} or {{'figure': figure}} alone."
        )
    n_rows = -(-n // n_cols)
    if "figure" in given:
        figure = _checked(given["figure"], "subplots", "figure")
        shared = {name: grid[name] for name in ("sharex", "sharey") if name in grid}
        every = figure.subplots(n_rows, n_cols, squeeze=False, **shared).ravel()
        for ax in every[n:]:
            ax.set_axis_off()
        axes = every[:n]
    else:
        axes = np.ravel(np.asarray(given["ax"], dtype=object))
        for ax in axes:
            _checked(ax, "plot", "ax")
        if len(axes) != n:
            names = ", ".join(str(name) for name in stub["panel"].to_numpy()[:6])
            raise OptionError(
                f"A plot needs an axis for each of its panels. It has {n} ({names}), and ax has {len(axes)}. Pass "
                f"figure_kwargs={{'ax': axes}} with {n} of them, or a figure to be filled."
            )
        figure = axes[0].figure
    columns, rows = np.meshgrid(np.arange(n_cols), np.arange(n_rows))
    parts = {"plot": axes, "row_index": rows.ravel()[:n], "col_index": columns.ravel()[:n]}
    plots = np.empty(n, dtype=object)
    plots[:] = list(axes)
    viz = xr.Dataset(
        {
            "figure": np.array(figure, dtype=object),
            **{k: ("panel", plots if k == "plot" else v) for k, v in parts.items()},
        },
        coords={"panel": stub["panel"]},
    )
    pc: Any = azp.PlotCollection(stub, xr.DataTree(viz), backend=backend)
    pc.is_own = True
    return pc


def _checked(thing: Any, method: str, name: str) -> Any:
    if not hasattr(thing, method):
        raise OptionError(
            f"This is none of matplotlib's. {name} is {type(thing).__name__}. Pass what plt.subplots() or "
            f"fig.subfigures() gave."
        )
    return thing


def is_own(pc: azp.PlotCollection) -> bool:
    """Whether a plot stands in axes or a figure of the caller's."""
    return bool(getattr(pc, "is_own", False))


def own_legend(ax: Any, entries: Entries) -> None:
    """Put a legend into one of the caller's axes."""
    from matplotlib.lines import Line2D

    handles = []
    for _, style in entries:
        words: dict[str, Any] = {
            "color": style.get("color"),
            "linestyle": style.get("linestyle", "-") if has_line(style) else "none",
        }
        if has_marker(style):
            words |= {"marker": style["marker"], "markersize": style.get("markersize", 4)}
        if "linewidth" in style:
            words["linewidth"] = style["linewidth"]
        handles.append(Line2D([], [], **words))
    ax.legend(handles, [text for text, _ in entries], fontsize=7, frameon=False)


__all__: Sequence[str] = ["is_own", "own_collection", "own_legend"]
