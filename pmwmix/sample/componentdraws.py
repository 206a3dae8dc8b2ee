"""Draws of single variance components, and the rows of their tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray


def records(table: pd.DataFrame) -> list[Any]:
    """Give the rows of ``varcorr`` as records, with None where a name is missing."""
    clean = table.astype(object).where(table.notna(), None)
    return list(clean.itertuples())


def entry(mean: dict[Any, float], group: str, a: str, b: str) -> float:
    """Look a (co)variance up by group and terms; zero where the model has none."""
    for key in ((group, a, None),) if a == b else ((group, a, b), (group, b, a)):
        if key in mean:
            return mean[key]
    return 0.0


def component_draws(group: Any, row: Any, scale: str) -> Array:
    """Draws (chain, draw) of one row of ``varcorr``."""
    squared = scale == "var"
    if row.grp == "Residual":
        values = np.asarray(group["sigma"])
        return values**2 if squared else values
    if row.var2 is None:
        values = np.asarray(group["sd"].sel(component=f"{row.grp}.{row.var1}"))
        return values**2 if squared else values
    if squared:
        return np.asarray(group["vcov"].sel(covariance=f"{row.grp}.{row.var2}.{row.var1}"))
    return np.asarray(group["cor"].sel(pair=f"{row.grp}.{row.var1}.{row.var2}"))


__all__ = ["component_draws", "entry", "records"]
