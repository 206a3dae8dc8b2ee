"""Legends and styles of lines where each backend has its own: written once in matplotlib's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DASHES = {
    "plotly": {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot", "none": "solid"},
    "bokeh": {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dashdot", "none": "solid"},
}
ARROWS: dict[str, dict[str, Any]] = {
    "plotly": {"<": "triangle-left", ">": "triangle-right", "^": "triangle-up", "v": "triangle-down"},
    "bokeh": {
        "<": ("triangle", np.pi / 2),
        ">": ("triangle", -np.pi / 2),
        "^": ("triangle", 0.0),
        "v": ("triangle", np.pi),
    },
}
LETTER, LINE = 6.5, 30  # pixels of a letter and a line in a legend of bokeh
SMALL = 4.6  # pixels of a letter beside a row

Entries = Sequence[tuple[str, Mapping[str, Any]]]


def in_backend(name: str, style: Mapping[str, Any]) -> dict[str, Any]:
    """Say a style of matplotlib, ``linestyle="--", zorder=4``, in the words of another backend."""
    out = dict(style)
    if name not in DASHES:
        return out
    out.pop("zorder", None)
    if (arrow := ARROWS[name].get(out.get("marker", ""))) is not None:
        out["marker"] = arrow if name == "plotly" else arrow[0]
        out |= {} if name == "plotly" else {"angle": arrow[1]}
    if name == "bokeh" and "size" in out:  # pixels across, where matplotlib's is an area in points
        out["size"] = 1.3 * float(out["size"]) ** 0.5
    if "linestyle" in out:
        out["linestyle"] = DASHES[name].get(out["linestyle"], out["linestyle"])
    return out


def has_line(style: Mapping[str, Any]) -> bool:
    """Whether an entry shows a line."""
    return style.get("linestyle", "-") not in ("none", "")


def has_marker(style: Mapping[str, Any]) -> bool:
    """Whether an entry shows a marker."""
    return style.get("marker", "") not in ("none", "", None)


def plotly_legend(figure: Any, entries: Entries) -> None:
    """Put a legend below the panels of a plotly figure: an empty trace for each entry."""
    figure.update_traces(showlegend=False)
    for text, style in entries:
        parts = [word for word, has in (("lines", has_line(style)), ("markers", has_marker(style))) if has]
        line = {"color": style.get("color"), "width": style.get("linewidth", 2)}
        line["dash"] = DASHES["plotly"].get(style.get("linestyle", "-"), "solid")
        marker = {"color": style.get("color"), "size": 2 * style.get("markersize", 3)}
        kinds = {"mode": "+".join(parts) or "lines", "line": line, "marker": marker}
        figure.add_scatter(x=[None], y=[None], name=text, showlegend=True, hoverinfo="skip", **kinds)
    place = {"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0.5, "xanchor": "center"}
    figure.update_layout(showlegend=True, legend=place, margin={"b": 90})


def plotly_room(figure: Any, n_cols: int, letters: int) -> None:
    """Move the columns of a plotly figure apart, and widen it, so that names of rows have room beside every panel."""
    gap = SMALL * letters + 40.0
    if n_cols > 1 and figure.layout.width:
        figure.layout.width += int(gap * (n_cols - 1))
    inner = float(figure.layout.width or 700) - gap - 20.0
    panel = (inner - gap * (n_cols - 1)) / n_cols
    for k, axis in enumerate(figure.select_xaxes()):
        first = (k % n_cols) * (panel + gap)
        axis.domain = (first / inner, min((first + panel) / inner, 1.0))
    figure.update_layout(margin={"l": gap, "r": 20})


def bokeh_legend(first_row: Sequence[Any], entries: Entries) -> None:
    """Put a legend above the first panel of a bokeh figure, and make its row higher by as much."""
    from bokeh.models import Legend, LegendItem  # type: ignore[attr-defined]

    target, items, nothing = first_row[0], [], [float("nan")]
    for text, style in entries:
        shown = []
        if has_line(style):
            dash = DASHES["bokeh"].get(style.get("linestyle", "-"), "solid")
            width = style.get("linewidth", 2)
            shown.append(target.line(nothing, nothing, line_color=style.get("color"), line_dash=dash, line_width=width))
        if has_marker(style):
            shown.append(
                target.scatter(nothing, nothing, color=style.get("color"), size=2 * style.get("markersize", 3))
            )
        items.append(LegendItem(label=text, renderers=shown))
    wide = sum(len(text) * LETTER + 40 for text, _ in entries) > (target.width or 300)
    legend = Legend(items=items, orientation="vertical" if wide else "horizontal", border_line_alpha=0.0)
    legend.label_text_font_size = "8pt"
    target.add_layout(legend, "above")
    more = LINE * (len(items) if wide else 1)
    for one in first_row:
        one.height = (one.height or 300) + more
        one.min_border_top = 0 if one is target else more
