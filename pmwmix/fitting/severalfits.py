"""Small-sample tests and covariances of the coefficients, averaged over the single fits of a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.fewclusters import hotelling_df, small_sample
from pmwmix.fitting.strata import lacking

FEW = 100  # clusters up to which joint tests under any robust variance are those of CR2
LARGE = 4_000  # rows of a cluster, whose covariance is a matrix of that size


def hotelling_of(fits: Sequence[Any], L: Array, kind: str | None = None) -> float:
    """Average `hotelling_df` over the single fits inside a FitResult; ``kind`` if it is another than their own.

    Raises
    ------
    NotSupportedError
        If the fit was read from a file, which keeps no rows.
    """
    if not all(fit.rows.is_live for fit in fits):
        raise NotSupportedError(
            f"A test of several coefficients under vcov={fits[0].settings.vcov!r} needs the rows of the fit. This one "
            f"was read from a file, which does not keep them. Fit again, or use wald(..., df='design')."
        )
    parts = ((fit.rows, kind or fit.settings.vcov) for fit in fits)
    return float(np.mean([hotelling_df(r.problem, r.frame, r.design, r.k, r.fit, kind, L) for r, kind in parts]))


def bias_reduced_of(fits: Sequence[Any]) -> Array | None:
    """Average the CR2 covariance of the coefficients (p, p) over single fits with another robust one.

    None where clusters are many, or CR2 is not defined: generalised and crossed models, residual structures, strata,
    finite populations, PSUs without rows.
    """
    if not all(fit.rows.is_live and fit.rows.problem.objective.closed_form for fit in fits):
        return None
    rows, frame = fits[0].rows, fits[0].rows.frame
    if frame.hierarchy.crossed or frame.residual is not None or frame.formula.outcomes or not rows.design.x.columns:
        return None
    top = frame.hierarchy.levels[-1].index if frame.hierarchy.levels else np.arange(frame.n)
    cluster = top if frame.clusters is None else frame.clusters.psu[top]
    sizes = np.bincount(cluster)
    if len(sizes) > FEW or sizes.max() > LARGE or lacking(frame) is not None:
        return None
    if frame.clusters is not None and frame.clusters.n_strata > 1:
        return None
    parts = [small_sample(r.problem, r.frame, r.design, r.k, r.fit, "CR2")[0] for r in (fit.rows for fit in fits)]
    return np.mean(parts, axis=0)
