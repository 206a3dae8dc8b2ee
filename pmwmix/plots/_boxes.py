"""Boxes, whiskers and outliers of groups of numbers, as Tukey draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import arviz_plots as azp
import numpy as np

from pmwmix._types import Array
from pmwmix.plots._base import BLACK, BLUE, GREY, draw, padded, xy


def five_numbers(parts: Sequence[Array]) -> tuple[dict[str, Array], list[Array]]:
    """Quartiles and whiskers of groups of numbers, and what lies beyond.

    Parameters
    ----------
    parts : sequence of ndarray
        NaN everywhere for a group without numbers.

    Returns
    -------
    dict
        ``low, q25, median, q75, high`` (groups,), numpy's linear quantiles, and ``n``.
    list of ndarray
        Numbers beyond 1.5 box lengths, by group.
    """
    quartiles = np.array([np.quantile(part, [0.25, 0.5, 0.75]) if len(part) else [np.nan] * 3 for part in parts])
    reach = 1.5 * (quartiles[:, 2] - quartiles[:, 0])
    inside = [part[(part >= q[0] - r) & (part <= q[2] + r)] for part, q, r in zip(parts, quartiles, reach, strict=True)]
    outside = [part[(part < q[0] - r) | (part > q[2] + r)] for part, q, r in zip(parts, quartiles, reach, strict=True)]
    ends = {
        "low": [part.min(initial=np.inf) for part in inside],
        "high": [part.max(initial=-np.inf) for part in inside],
    }
    numbers = {name: np.where(np.isfinite(values), values, np.nan) for name, values in ends.items()}
    numbers |= {"q25": quartiles[:, 0], "median": quartiles[:, 1], "q75": quartiles[:, 2]}
    return {**numbers, "n": np.array([len(part) for part in parts])}, outside


def draw_boxes(pc: azp.PlotCollection, numbers: Mapping[str, Array], outside: Sequence[Sequence[Array]]) -> None:
    """Draw boxes at the places 0, 1, ... of every panel.

    Parameters
    ----------
    pc : PlotCollection
    numbers : dict of ndarray, each (panels, groups)
    outside : list of list of ndarray
        Outliers by panel and group.
    """
    n_panels, n = numbers["median"].shape
    place = np.broadcast_to(np.arange(n, dtype=float), (n_panels, n))
    thick = max(1.2, min(14.0, 420 / n))
    for name, ends, style in (
        ("whiskers", ("low", "high"), {"color": GREY, "width": 0.8}),
        ("boxes", ("q25", "q75"), {"color": BLUE, "width": thick}),
    ):
        low, high = (numbers[end] for end in ends)
        y = np.stack([low, high, np.full_like(low, np.nan)], axis=-1).reshape(n_panels, -1)
        draw(pc, "line_xy", name, xy(np.repeat(place, 3, axis=1), y), **style)
    at = padded([np.concatenate([np.full(len(part), float(i)) for i, part in enumerate(one)]) for one in outside])
    draw(pc, "scatter_xy", "outlier points", xy(at, padded([np.concatenate(one) for one in outside])),
         color=GREY, size=3, alpha=0.7)  # fmt: skip
    draw(pc, "scatter_xy", "medians", xy(place, numbers["median"]), color=BLACK, size=thick**1.4 + 2, zorder=4)


BOX_ENTRIES: list[tuple[str, Mapping[str, Any]]] = [
    ("median", {"color": BLACK, "marker": "o", "linestyle": "none", "markersize": 4}),
    ("middle half", {"color": BLUE, "linewidth": 5}),
    ("within 1.5 box lengths", {"color": GREY}),
]
