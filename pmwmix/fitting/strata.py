"""Strata of few clusters: which small-sample variances have them, and clusters compared inside them."""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.frame.modelframe import ModelFrame


def lacking(frame: ModelFrame) -> str | None:
    """Name what no small-sample variance is defined for, where the design has it."""
    clusters = frame.clusters
    if clusters is not None and clusters.fraction is not None:
        return "a finite population correction"
    if clusters is not None and len(np.unique(clusters.psu)) < clusters.n_psu:
        return "clusters without rows (subset=)"
    return None


def strata_of(frame: ModelFrame, kind: str) -> Array | None:
    """Give the stratum of every cluster (J,), None without strata; refuse designs that have no such variance."""
    if frame.stream is not None:
        raise NotSupportedError(
            f"Small-sample variances look at the rows of every cluster, and a streamed fit holds none. Got "
            f"vcov={kind!r} for data read in pieces. Use vcov='robust', or fit a table in memory."
        )
    clusters = frame.clusters
    if clusters is None:
        return None
    what = lacking(frame)
    if what is not None:
        raise NotSupportedError(
            f"Small-sample variances are of all clusters of a sample drawn with replacement. The design has {what}. "
            f"Use vcov='robust'."
        )
    if clusters.n_strata < 2:
        return None
    if kind in ("CR0", "CR3") or (np.bincount(clusters.stratum) < 2).any():
        said = f"vcov={kind!r}" if kind in ("CR0", "CR3") else "a stratum with one PSU"
        raise NotSupportedError(
            f"Small-sample variances with strata are CR1 and CR2, of two PSUs or more in each. Got {said} and "
            f"{clusters.n_strata} strata in column {clusters.names[1]!r}. Use vcov='CR2', or merge strata."
        )
    return clusters.stratum


def compared(values: Array, stratum: Array) -> Array:
    """Give n / (n - 1) times what clusters (J, m) differ from the mean of their stratum (small-sample, eq. 23)."""
    n = np.bincount(stratum).astype(float)
    means = np.array([np.bincount(stratum, column) for column in values.T]).T / n[:, None]
    return (n / (n - 1.0))[stratum][:, None] * (values - means[stratum])
