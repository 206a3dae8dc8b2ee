"""Variance components as tables: names, values, the shape of lme4, the intraclass correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.frame.modelframe import ModelFrame, correlated
from pmwmix.spec.fixed import RESIDUAL


def variance_components(frame: ModelFrame, Psi: Sequence[Array], sigma: float) -> Array:
    """Lower triangles of the blocks of Psi in the order of theta, then sigma²; shape (n_theta + 1,)."""
    out: list[float] = []
    offsets = [0] * len(Psi)
    for blocks in correlated(frame.designs[0].blocks):
        level, q = blocks[0].level, sum(len(block.names) for block in blocks)
        matrix, start = Psi[level], offsets[level]
        for j in range(q):
            out.extend(matrix[start + i, start + j] for i in range(j, q))
        offsets[level] += q
    return np.array([*out, sigma**2])


def residual_names(outcomes: Sequence[str]) -> list[tuple[str, str, str | None]]:
    """Name the residual (co)variances of several outcomes, columns of their matrix first; of one outcome nothing."""
    pairs = [(i, j) for j in range(len(outcomes)) for i in range(j, len(outcomes))]
    return [(RESIDUAL, outcomes[i], None if i == j else outcomes[j]) for i, j in pairs]


def varcorr_table(
    names: Sequence[tuple[str, str, str | None]], values: Array, variance: Array, residual: bool = True
) -> pd.DataFrame:
    """Lay variance components out as lme4's ``as.data.frame(VarCorr(fit))``, with standard errors.

    Parameters
    ----------
    names : sequence of (group, term, other term)
    values : ndarray, shape (n + 1,)
        In the order of ``names``, sigma² last.
    variance : ndarray, shape (n + 1,)
        Squared standard errors; those of components on the boundary are NaN.
    residual : bool
        Whether the last value is a residual variance; otherwise it is that of a latent distribution and not shown.
    """
    sizes = {(g, a): v for (g, a, b), v in zip(names, values, strict=False) if b is None}
    rows: list[dict[str, Any]] = []
    groups = list(dict.fromkeys(g for g, _, _ in names))
    for group in groups:
        for covariances in (False, True):
            for (g, a, b), value, square in zip(names, values, variance, strict=False):
                if g != group or (b is not None) != covariances:
                    continue
                if b is None:
                    shown, first, second = np.sqrt(value), a, None
                else:
                    product = np.sqrt(sizes[g, a] * sizes[g, b])
                    shown, first, second = (value / product if product > 0 else np.nan), b, a
                rows.append(
                    {"grp": g, "var1": first, "var2": second, "vcov": value, "sdcor": shown, "se": np.sqrt(square)}
                )
    if residual:
        last = {"grp": "Residual", "var1": None, "var2": None, "vcov": values[-1], "sdcor": np.sqrt(values[-1])}
        rows.append({**last, "se": np.sqrt(variance[-1])})
    table = pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor", "se"])
    for name in ("var1", "var2"):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table
