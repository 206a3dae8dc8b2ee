"""Local linear regression of points, as R's ``loess(degree=1)``. Draws nothing."""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.plots._base import thinned

SPAN = 0.75  # share of the points that a local line uses, as in R
MOST = 20_000  # of more points a random part of this size is smoothed
ENOUGH = 8  # points with different x from which on a curve is drawn


def local_line(x: Array, y: Array, grid: Array, span: float = SPAN, w: Array | None = None) -> Array:
    """Value at every place of the least-squares line through its neighbours, the nearer the heavier.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    grid : ndarray, shape (m,)
    span : float
        Share of the points that are neighbours of a place; weights are tricube in the distance to the farthest.
    w : ndarray, shape (n,), optional
        Weights of the points.

    Returns
    -------
    ndarray, shape (m,)
        NaN where the neighbours have one value of x, or outside the range of x.

    Notes
    -----
    Cleveland (1979) without robustness iterations [1]_; R: ``loess(y ~ x, span, degree = 1, surface = "direct")``.

    References
    ----------
    .. [1] Cleveland, W. S. (1979). Robust locally weighted regression and smoothing scatterplots. Journal of the
       American Statistical Association, 74(368), 829-836. doi:10.1080/01621459.1979.10481038

    Examples
    --------
    >>> local_line(np.arange(20.0), 3.0 - np.arange(20.0), np.array([2.5, 7.0])).round(6)
    array([ 0.5, -4. ])
    """
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    own = np.ones(len(x)) if w is None else w[order]
    out = np.full(len(grid), np.nan)
    if len(np.unique(x)) < 3:
        return out
    q = int(np.clip(np.floor(len(x) * span + 1e-5), 3, len(x)))
    for i, at in enumerate(grid):
        if not x[0] <= at <= x[-1]:
            continue
        distance = np.abs(x - at)
        reach = np.partition(distance, q - 1)[q - 1]
        near = distance < reach if reach > 0 else distance == 0
        kernel = own[near] * (1.0 - (distance[near] / reach) ** 3) ** 3 if reach > 0 else own[near]
        out[i] = _line_at(x[near] - at, y[near], kernel)
    return out


def _line_at(gap: Array, y: Array, kernel: Array) -> float:
    """Give the weighted least-squares line at gap zero."""
    total = kernel.sum()
    if not total > 0:
        return np.nan
    mean, level = kernel @ gap / total, kernel @ y / total
    spread = kernel @ (gap - mean) ** 2
    if not spread > 1e-12 * max(float(kernel @ gap**2), 1e-300):
        return np.nan
    return float(level - mean * (kernel @ ((gap - mean) * (y - level))) / spread)


def curve(x: Array, y: Array, m: int = 60, span: float = SPAN, w: Array | None = None) -> Array:
    """Give places and values of the local line (2, m), at quantiles and evenly over the range of x in turn.

    Two points of NaN where there are too few points.
    """
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    known = known[thinned(len(known), MOST)]
    x, y = x[known], y[known]
    if len(np.unique(x)) < ENOUGH:
        return np.full((2, 2), np.nan)
    even = np.linspace(x.min(), x.max(), m // 2)
    grid = np.unique(np.concatenate([even, np.quantile(x, np.linspace(0.0, 1.0, m - m // 2))]))
    return np.array([grid, local_line(x, y, grid, span, None if w is None else w[known])])
