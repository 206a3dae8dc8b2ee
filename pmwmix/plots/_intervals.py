"""Ordered estimates with intervals, a line each: what caterpillars and coefficients of groups share."""

from __future__ import annotations

import arviz_plots as azp
import numpy as np
import xarray as xr

from pmwmix._types import Array
from pmwmix.plots._base import BLUE, GREY, backend_of, draw, each_panel, xy

MOST_NAMES = 60  # groups that are still named on the axis


def draw_intervals(pc: azp.PlotCollection, data: xr.Dataset, marked: Array) -> None:
    """Draw ``estimate, ci_low, ci_high`` (panel, place) from the bottom up, marked ones (panel, place) in blue.

    Parameters
    ----------
    pc : PlotCollection
    data : Dataset
        With ``label`` (panel, place) too, which is written in panels with at most 60 places.
    marked : ndarray of bool
    """
    known = np.isfinite(data["estimate"].to_numpy())
    place = np.where(known, np.arange(data.sizes["place"], dtype=float), np.nan)
    shown = known.sum(axis=1)
    named, most = shown <= MOST_NAMES, int(shown.max())
    looks = [("few", named, 1.3, 14.0), ("many", ~named, max(0.35, 60 / most), max(1.5, 600 / most))]
    for kind, color, part in (("plain", GREY, ~marked), ("marked", BLUE, marked)):
        for size, panels, width, dot in looks:
            drawn = part & panels[:, None]
            if not drawn.any():
                continue
            low, high, b = (np.where(drawn, data[key], np.nan) for key in ("ci_low", "ci_high", "estimate"))
            ends = np.stack([low, high, np.full_like(low, np.nan)], axis=-1).reshape(len(low), -1)
            lines, points = xy(ends, np.repeat(place, 3, axis=1)), xy(b, place)
            draw(pc, "line_xy", f"{size} {kind} intervals", lines, color=color, width=width)
            draw(pc, "scatter_xy", f"{size} {kind} estimates", points, color=color, size=dot)
    for i, target in enumerate(each_panel(pc)):
        n = int(shown[i])
        ticks = list(data["label"].to_numpy()[i, :n]) if named[i] else []
        backend_of(pc).yticks(np.arange(len(ticks)), ticks, target, size=7)
        backend_of(pc).ylim((-0.02 * n - 0.7, 1.02 * n - 0.3), target)
