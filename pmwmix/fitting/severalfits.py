"""Small-sample tests and covariances of the coefficients, averaged over the single fits of a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.clusterrows import by_cluster
from pmwmix.fitting.fewclusters import degrees_of, hotelling_df, small_sample
from pmwmix.fitting.strata import lacking
from pmwmix.variance.few_clusters import KINDS

FEW = 100  # clusters up to which joint tests under any robust variance are those of CR2
ROBUST = ("robust", "robust-block", "stata", "hlm", "wemix", *KINDS)
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
    parts = ((fit.rows, kind or kind_of(fit.settings.vcov)) for fit in fits)
    return float(np.mean([hotelling_df(r.problem, r.frame, r.design, r.k, r.fit, kind, L) for r, kind in parts]))


def kind_of(vcov: str) -> str:
    """Name the small-sample variance whose degrees of freedom are those of a robust one."""
    return vcov if vcov in KINDS else "CR1"


def degrees_under(fits: Sequence[Any]) -> Array:
    """Average the Bell-McCaffrey degrees of freedom (p,) of robust standard errors over single fits.

    Raises
    ------
    NotSupportedError
        Of fits without rows or clusters, or whose coefficients have no working covariance.
    """
    vcov, what = fits[0].settings.vcov, ""
    rows = [fit.rows for fit in fits]
    if vcov not in ROBUST:
        what = f"This fit has vcov={vcov!r}. Fit with vcov='CR2', or vcov='robust'."
    elif not all(one.is_live for one in rows):
        what = "This one was read from a file, which does not keep them. Fit again, or use df='design'."
    elif (lacked := _no_clusters(rows[0])) or not rows[0].design.x.columns:
        what = f"This fit has {lacked or 'no fixed column'}. Use df='design'."
    if what:
        raise NotSupportedError(
            f"Bell-McCaffrey degrees of freedom are those of robust standard errors and need the fit's rows. {what}"
        )
    if not rows[0].problem.objective.closed_form:
        from pmwmix.fitting.workingrows import check_working  # families come with PyTensor

        check_working(rows[0].frame, f"df='bell-mccaffrey' under vcov={vcov!r}")
    return np.mean([degrees_of(r.problem, r.frame, r.design, r.k, r.fit, kind_of(vcov)) for r in rows], axis=0)


def _no_clusters(rows: Any) -> str:
    """Name what a fit has that leaves its coefficients without a covariance of clusters under the model."""
    frame, found = rows.frame, ""
    if frame.hierarchy.crossed or frame.pairwise:
        found = "crossed random effects"
    elif frame.residual is not None:
        found = "a residual structure"
    elif frame.formula.outcomes:
        found = "several outcomes"
    elif frame.formula.latent or frame.formula.measured:
        found = "latent group means or measured predictors"
    elif frame.stream is not None:
        found = "rows that are read in pieces"
    return found


def bias_reduced_of(fits: Sequence[Any]) -> Array | None:
    """Average the CR2 covariance of the coefficients (p, p) over single fits with another robust one.

    None where clusters are many, or CR2 is not defined: crossed models, residual structures, latent means, strata with
    one PSU, finite populations, PSUs without rows; and in generalised models, where it is to be asked for.
    """
    if not all(fit.rows.is_live and fit.rows.problem.objective.closed_form for fit in fits):
        return None
    rows, frame = fits[0].rows, fits[0].rows.frame
    if _no_clusters(rows) or not rows.design.x.columns:
        return None
    sizes = np.diff(by_cluster(frame)[1])
    if len(sizes) > FEW or sizes.max() > LARGE or lacking(frame) is not None:
        return None
    if frame.clusters is not None and frame.clusters.n_strata > 1 and (np.bincount(frame.clusters.stratum) < 2).any():
        return None
    parts = [small_sample(r.problem, r.frame, r.design, r.k, r.fit, "CR2")[0] for r in (fit.rows for fit in fits)]
    return np.mean(parts, axis=0)
