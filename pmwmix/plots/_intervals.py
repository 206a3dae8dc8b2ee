"""Ordered estimates with intervals, a line each: what caterpillars and coefficients of groups share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import arviz_plots as azp
import numpy as np
import xarray as xr

from pmwmix._types import Array
from pmwmix.plots._base import BLUE, GREY, backend_of, draw, each_panel, xy
from pmwmix.plots._legends import plotly_room

MOST_NAMES = 60  # groups that are still named on the axis


def room_for(label: xr.DataArray, named: bool) -> float:
    """Inches that long names on the axis take from a panel."""
    return 0.065 * max(0, max((len(str(text)) for text in label.to_numpy().ravel()), default=0) - 10) if named else 0.0


def limits_of(low: Array, b: Array, high: Array, room: float = 3.0) -> list[tuple[float, float]]:
    """Range of every panel with all estimates in it; intervals that are much longer than most leave it.

    Parameters
    ----------
    low, b, high : ndarray, each (panels, n)
    room : float
        Times the median half length that an interval may reach beyond the outermost estimates.
    """
    bare = np.isnan(high - b).all(axis=1, keepdims=True)  # panels without any interval
    low, high = (np.where(bare, b, end) for end in (low, high))
    half = room * np.nanmedian(high - b, axis=1) + 0.02 * (np.nanmax(b, axis=1) - np.nanmin(b, axis=1))
    left = np.maximum(np.nanmin(low, axis=1), np.nanmin(b, axis=1) - half)
    right = np.minimum(np.nanmax(high, axis=1), np.nanmax(b, axis=1) + half)
    margin = np.where(right > left, 0.04 * (right - left), 1.0)
    return [(float(a), float(c)) for a, c in zip(left - margin, right + margin, strict=True)]


def draw_arrows(
    pc: azp.PlotCollection,
    ends: tuple[Array, Array],
    place: Array,
    limits: list[tuple[float, float]],
    *,
    upright: bool = False,
    color: str = GREY,
    name: str = "",
) -> None:
    """Mark intervals that leave the picture by an arrow at its edge.

    Parameters
    ----------
    pc : PlotCollection
    ends : (ndarray, ndarray), each (panels, n)
        Lower and upper ones.
    place : ndarray, shape (panels, n)
        On the other axis.
    limits : list of (float, float)
        Of every panel.
    upright : bool
        Whether the intervals stand.
    color, name : str
    """
    for word, marker, side, end in (("below", "v" if upright else "<", 0, ends[0]),
                                    ("above", "^" if upright else ">", 1, ends[1])):  # fmt: skip
        edge = np.array([pair[side] for pair in limits])[:, None]
        beyond = end < edge if side == 0 else end > edge
        if beyond.any():
            at = np.where(beyond, edge, np.nan)
            points = xy(place, at) if upright else xy(at, place)
            draw(pc, "scatter_xy", f"{name} {word} the picture".strip(), points, color=color, marker=marker, size=16)


def draw_intervals(
    pc: azp.PlotCollection, data: xr.Dataset, marked: Array, limits: list[tuple[float, float]] | None = None
) -> None:
    """Draw ``estimate, ci_low, ci_high`` (panel, place) from the bottom up, marked ones (panel, place) in blue.

    Parameters
    ----------
    pc : PlotCollection
    data : Dataset
        With ``label`` (panel, place) too, which is written in panels with at most 60 places.
    marked : ndarray of bool
    limits : list of (float, float), optional
        Of every panel; intervals beyond them end in an arrow.
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
        if limits is not None:
            ends_of = tuple(np.where(part, data[key], np.nan) for key in ("ci_low", "ci_high"))
            draw_arrows(pc, (ends_of[0], ends_of[1]), place, limits, color=color, name=kind)
    ticks = [list(data["label"].to_numpy()[i, :n]) if named[i] else [] for i, n in enumerate(shown)]
    name_rows(pc, [range(len(names)) for names in ticks], ticks, size=7)
    for i, target in enumerate(each_panel(pc)):
        n = int(shown[i])
        backend_of(pc).ylim((-0.02 * n - 0.7, 1.02 * n - 0.3), target)


def name_rows(
    pc: azp.PlotCollection, places: Sequence[Sequence[float]], texts: Sequence[Sequence[str]], **style: Any
) -> None:
    """Write the names of the rows of every panel at its left axis."""
    for target, at, names in zip(each_panel(pc), places, texts, strict=True):
        backend_of(pc).yticks(list(at), list(names), target, **style)
    if pc.backend == "plotly":
        n_cols = int(pc.viz["col_index"].max()) + 1
        plotly_room(pc.viz["figure"].item(), n_cols, max((len(name) for names in texts for name in names), default=0))
