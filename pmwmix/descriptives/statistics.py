"""Statistics of weighted values, and the influence of every row on them (describe, eqs. 1-9). Numbers only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pmwmix._types import Array

Values = tuple[Array, ...]


@dataclass(frozen=True)
class Statistic:
    """One number of weighted values.

    Parameters
    ----------
    name : str
    value : callable
        (values, weights) to a number; values is a tuple of (n,), one per variable.
    influence : callable
        (values, weights, number) to its derivatives in the weights (n,); None of a percentile, which has no derivative
        and takes that of the distribution function at it.
    at : float
        Probability of a percentile.
    """

    name: str
    value: Callable[[Values, Array], float]
    influence: Callable[[Values, Array, float], Array] | None = None
    at: float = np.nan


def mean() -> Statistic:
    """Σ w y / Σ w (describe, eq. 1)."""
    return Statistic("mean", lambda v, w: float(w @ v[0] / w.sum()), lambda v, w, m: (v[0] - m) / w.sum())


def spread() -> Statistic:
    """Root of the weighted mean square about the mean (describe, eq. 2)."""

    def value(v: Values, w: Array) -> float:
        return float(np.sqrt(w @ np.square(v[0] - w @ v[0] / w.sum()) / w.sum()))

    def influence(v: Values, w: Array, s: float) -> Array:
        square = np.square(v[0] - w @ v[0] / w.sum())
        return (square - s**2) / (2.0 * s * w.sum()) if s > 0 else np.zeros(len(w))

    return Statistic("sd", value, influence)


def share(limit: float) -> Statistic:
    """Share of values at or above a benchmark (describe, eq. 4)."""
    return Statistic(
        f"share >= {limit:g}",
        lambda v, w: float(w @ (v[0] >= limit) / w.sum()),
        lambda v, w, p: ((v[0] >= limit) - p) / w.sum(),
    )


def percentile(at: float) -> Statistic:
    """Value below which a share of the weight lies (describe, eq. 3)."""
    return Statistic(f"p{100 * at:g}", lambda v, w: quantile(v[0], w, at), None, at)


def correlation() -> Statistic:
    """Weighted correlation of two variables (describe, eq. 5)."""

    def standard(v: Values, w: Array) -> list[Array]:
        centred = [one - w @ one / w.sum() for one in v]
        return [one / np.sqrt(w @ np.square(one) / w.sum()) for one in centred]

    def value(v: Values, w: Array) -> float:
        a, b = standard(v, w)
        return float(w @ (a * b) / w.sum())

    def influence(v: Values, w: Array, r: float) -> Array:
        a, b = standard(v, w)
        return (a * b - 0.5 * r * (a**2 + b**2)) / w.sum()

    return Statistic("correlation", value, influence)


def quantile(y: Array, w: Array, at: float) -> float:
    """Percentile as SAS defines it under weights: the mean of two neighbours where the weight below is exact."""
    order = np.argsort(y, kind="stable")
    below, wanted = np.cumsum(w[order]), at * w.sum()
    k = min(int(np.searchsorted(below, wanted * (1.0 - 1e-12))), len(y) - 1)
    exact = abs(below[k] - wanted) <= 1e-12 * below[-1] and k + 1 < len(y)
    return float(0.5 * (y[order[k]] + y[order[k + 1]]) if exact else y[order[k]])


def influences(
    statistic: Statistic, values: Values, w: Array, number: float, error_of: Callable[[Array], float]
) -> Array:
    """Influence of every row on a statistic (n,).

    Of a percentile q it is that on the share below q, divided by the density, which is read off the percentiles one
    standard error of that share to both sides (Woodruff 1952; describe, eq. 9).

    Parameters
    ----------
    error_of : callable
        Influence (n,) to the standard error of the statistic.
    """
    if statistic.influence is not None:
        return statistic.influence(values, w, number)
    y, at = values[0], statistic.at
    on_share = ((y <= number) - at) / w.sum()
    step = min(max(error_of(on_share), 1e-6), 0.999 * min(at, 1.0 - at))
    slope = (quantile(y, w, at + step) - quantile(y, w, at - step)) / (2.0 * step)
    return -slope * on_share
