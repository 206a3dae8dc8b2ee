"""Coefficients of groups by a factor of the groups: boxplots side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import arviz_plots as azp
import numpy as np
import pandas as pd
import xarray as xr

from pmwmix.data.codes import label_text
from pmwmix.plots._base import (
    backend_of,
    each_panel,
    panels,
    shortened,
    text_of,
    write_axes,
    write_legend,
    write_titles,
)
from pmwmix.plots._boxes import BOX_ENTRIES, draw_boxes, five_numbers


def draw_by_factor(
    estimate: pd.DataFrame,
    wanted: list[str],
    kinds: pd.Categorical,
    covariate: str,
    backend: str | None,
    figure_kwargs: Mapping[str, Any] | None,
    labels: Mapping[str, str] | None,
) -> azp.PlotCollection:
    """Draw a panel per coefficient with a box per category.

    Parameters
    ----------
    estimate : DataFrame
        Coefficients by group and term.
    wanted : list of str
        Terms.
    kinds : Categorical
        Category of every group.
    covariate : str
        Name of the factor.
    backend, figure_kwargs, labels : optional
        The caller's.
    """
    names = [str(name) for name in kinds.categories]
    parts = [[estimate[term].to_numpy()[kinds == name] for name in names] for term in wanted]
    found = [five_numbers([part[np.isfinite(part)] for part in one]) for one in parts]
    numbers = {name: np.array([one[name] for one, _ in found]) for name in found[0][0]}
    data = xr.Dataset(
        {name: (("panel", "category"), values) for name, values in numbers.items()},
        coords={"panel": wanted, "category": names},
    )
    data["estimate"] = (("panel", "place"), estimate[wanted].to_numpy().T)
    data["kind"] = ("place", np.asarray(kinds.astype(object)))
    data["label"] = ("place", np.array([label_text(label) for label in estimate.index], dtype=object))
    pc = panels(data, backend, figure_kwargs, n_cols=3, size=(max(3.4, 1.0 + 0.7 * len(names)), 3.6))
    draw_boxes(pc, numbers, [outside for _, outside in found])
    counts = numbers["n"].max(axis=0)
    ticks = [f"{shortened(name, 18)}\n({int(n)})" for name, n in zip(names, counts, strict=True)]
    turned = {"rotation": 90} if sum(map(len, ticks)) > 60 else {}
    for target in each_panel(pc):
        backend_of(pc).xticks(np.arange(len(names)), ticks, target, size=7, **turned)
        backend_of(pc).xlim((-0.6, len(names) - 0.4), target)
    write_axes(pc, f"{text_of(covariate, labels)} (groups)", "coefficient in the group")
    write_titles(pc, [shortened(text_of(term, labels), 36) for term in wanted])
    write_legend(pc, BOX_ENTRIES)
    return pc
