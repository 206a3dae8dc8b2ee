"""A linear model with error in predictors ready to be fitted; equations are those of docs/errors.md."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError, NotSupportedError
from pmwmix.fitting.linear import LaidOut, flat, nested
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.likelihood.linear.corrected import CorrectedObjective, ErrorSums
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.standardise import Columns


def corrected(frame: ModelFrame, columns: Columns, reml: bool, engine: str, design: DesignColumns) -> LaidOut:
    """Lay a model with error in predictors out.

    Raises
    ------
    NotSupportedError
        For REML.
    DataError
        If the errors leave nothing of a predictor once the others are known.
    """
    if reml:
        raise NotSupportedError(
            f"REML is not built for predictors with error, whose likelihood is corrected. Asked for method='reml' with "
            f"{frame.formula.measured[0].name}. Use method='ml'."
        )
    laid = (nested if frame.hierarchy.levels else flat)(frame, columns, reml, engine)
    bare = laid.objective

    def objective(used: Blocks, kept: Array) -> CorrectedObjective:
        sums = _sums(frame, columns, kept, design, laid.top_scale)
        made = CorrectedObjective(used, bare(used, kept).structure, sums, engine)
        if not np.isfinite(made.at(np.zeros(made.structure.layout.n_theta)).value):
            raise DataError(
                f"The errors have more variance than predictors have once the others are known. The formula has "
                f"{', '.join(one.name for one in frame.formula.measured)}. Give higher reliabilities, or drop a "
                f"predictor."
            )
        return made

    return replace(laid, objective=objective)


def _sums(frame: ModelFrame, columns: Columns, kept: Array, design: DesignColumns, scale: float) -> ErrorSums:
    levels = frame.hierarchy.levels
    index, w = (levels[0].index, frame.w[0]) if levels else (np.arange(frame.n), np.ones(frame.n))
    w_top = (frame.w[-1] if levels else frame.w[0]) / scale
    G, q = len(w_top), len(columns.z)
    every = [columns.standard(j) for j in (*columns.z, *columns.x[kept], *columns.y)]
    c, zz2 = np.empty((G, len(every), len(every))), np.empty((G, q, q))
    for i, left in enumerate(every):
        for j, right in enumerate(every[: i + 1]):
            c[:, i, j] = c[:, j, i] = np.bincount(index, w * left * right, minlength=G)
            if i < q:
                zz2[:, i, j] = zz2[:, j, i] = np.bincount(index, w**2 * left * right, minlength=G)
    variances = dict(design.errors)
    scales = columns.scaler.scale[columns.x]
    error = np.array([variances.get(int(j), 0.0) / scales[j] ** 2 for j in kept])
    return ErrorSums(c, zz2, np.bincount(index, w, minlength=G), w_top, error)
