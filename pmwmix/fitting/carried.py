"""How many clusters a coefficient rests on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.problem import Problem
from pmwmix.frame.crossing import parts_of
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.rowproducts import RowProducts
from pmwmix.likelihood.rows import in_blocks
from pmwmix.weights.conditional import total_weights

FEW = 2.5  # clusters: one or two, and what is left over for the others
UNITS = 16_384  # whose leverages are found at once
WORDS = {1: "one cluster", 2: "two clusters"}


def carrying(problem: Problem, frame: ModelFrame, design: DesignColumns) -> tuple[Array, Array]:
    """Give the effective number of clusters that carry each coefficient, and whether it is that of a single one.

    Parameters
    ----------
    problem : Problem
    frame : ModelFrame
    design : DesignColumns

    Returns
    -------
    ndarray, shape (p,)
        1 / Σ h², with h the clusters' shares of the squared length of a column that is not explained by the others
        (partial leverage): 1 for a column that stands out in one cluster only, their number where all are alike.
    ndarray of bool, shape (p,)
        Coefficients that cannot be estimated without one of the clusters: their scores have no spread between clusters.

    References
    ----------
    .. [1] Carter, A. V., Schnepel, K. T. & Steigerwald, D. G. (2017). Asymptotic behavior of a t-test robust to cluster
       heterogeneity. Review of Economics and Statistics, 99(4), 698-709. doi:10.1162/REST_a_00639
    """
    p = len(problem.kept)
    levels = frame.hierarchy.levels
    top = parts_of(frame.hierarchy) if frame.hierarchy.crossed else levels[-1].index if levels else np.arange(frame.n)
    n_top = levels[-1].n if levels and not frame.hierarchy.crossed else top.max() + 1
    psu = np.arange(n_top) if frame.clusters is None else frame.clusters.psu
    blocks = problem.blocks
    if not p:
        return np.zeros(0), np.zeros(0, dtype=bool)
    if blocks is not None and len(blocks.w[-1]) == len(psu):
        raw, w_top, whole = problem.transform.A_x, blocks.w[-1], blocks.total_xx  # of the raw coefficients
        M = np.linalg.inv(whole) @ raw.T
        shares = _shares(blocks, M, psu)
        return _effective(shares), _alone(
            shares, whole, raw, lambda c: blocks.total_under(np.where(psu == c, w_top, 0.0))
        )
    return _by_rows(problem, frame, design, psu[top])


def _shares(blocks: Blocks, M: Array, psu: Array) -> Array:
    """M_j'X'WXM_j by clusters for the columns of M (p, p), (p, C)."""
    if isinstance(blocks.xx, RowProducts):
        return blocks.xx.squares(M.T, psu, int(psu.max()) + 1)
    each = np.empty((len(M), len(psu)))
    for first in range(0, len(psu), UNITS):  # copies of all cross-products would be large
        part = slice(first, first + UNITS)
        found = np.einsum("aj,abg,bj->jg", M, blocks.xx[..., part], M, optimize=True)
        each[:, part] = found * blocks.w[-1][part]
    return np.array([np.bincount(psu, row) for row in each])


def _by_rows(problem: Problem, frame: ModelFrame, design: DesignColumns, cluster: Array) -> tuple[Array, Array]:
    """Give the same from the rows, whose clusters are given."""
    p, w = len(problem.kept), total_weights(frame.w, frame.hierarchy.row_parents)[0]
    every, of = [column for part in design.fixed for column in part.columns], design.of[problem.kept]
    columns = [every[j] for j in problem.kept]
    if not problem.family.has_intercept:
        firsts = np.unique(np.append(of, 0))
        columns += [np.broadcast_to(1.0, frame.n)] * len(firsts)  # thresholds
        of = np.append(of, firsts)
    together = of[:, None] == of  # columns explain others of their own linear predictor
    shares, raw = np.zeros((p, cluster.max() + 1)), np.zeros((len(of), len(of)))
    for at, X in in_blocks(columns):
        raw += (X * w[at]) @ X.T
    size = np.sqrt(np.maximum(np.diag(raw), 1e-300))
    whole = together * raw / np.outer(size, size)
    M = np.linalg.pinv(whole, hermitian=True)[:p]
    for at, X in in_blocks(columns):
        for share, row in zip(shares, M @ (X / size[:, None]), strict=True):
            share += np.bincount(cluster[at], w[at] * row**2, minlength=len(share))

    def of_cluster(c: int) -> Array:
        mine = np.flatnonzero(cluster == c)
        X = np.array([column[mine] for column in columns]) / size[:, None]
        return together * ((X * w[mine]) @ X.T)

    return _effective(shares), _alone(shares, whole, np.eye(len(of))[:p], of_cluster)


def _effective(shares: Array) -> Array:
    return shares.sum(axis=1) ** 2 / (shares**2).sum(axis=1)


def _alone(shares: Array, whole: Array, L: Array, part: Callable[[int], Array]) -> Array:
    """Mark combinations L (p, P) of coefficients that are not estimable without the cluster with the largest share."""
    size = np.sqrt(np.maximum(np.diag(whole), 1e-300))
    out = np.zeros(len(shares), dtype=bool)
    for k in np.flatnonzero(_effective(shares) < FEW):
        left = (whole - part(int(shares[k].argmax()))) / np.outer(size, size)
        values, vectors = np.linalg.eigh(0.5 * (left + left.T))
        row = L[k] / size
        gone = vectors[:, values < 1e-9 * max(float(values[-1]), 1e-300)].T @ row
        out[k] = bool(gone @ gone > 1e-8 * (row @ row))
    return out


def carriers(problem: Problem, frame: ModelFrame, design: DesignColumns) -> tuple[list[str], list[str]]:
    """Say which coefficients rest on one or two clusters, for fits with a robust variance; name those of one alone."""
    if frame.hierarchy.crossed:  # independent parts of the sample, not the units of a factor, are the clusters
        return [], []
    numbers, alone = carrying(problem, frame, design)
    out = []
    for count, word in WORDS.items():
        few = [(number < FEW and round(number) == count) for number in numbers]
        terms = [name for name, found in zip(problem.names, few, strict=True) if found]
        if terms:
            out.append(
                f"Resting on {word}: {', '.join(terms)}. A robust standard error sees no spread between clusters there "
                f"and is far too small; its test does not hold. Use vcov='model' for it, or leave it out."
            )
    named = [name for name, gone in zip(problem.names, alone, strict=True) if gone]
    if named:
        out.append(
            f"Missing (NaN) are the standard errors of {', '.join(named)}: without one of the clusters there is no "
            f"estimate, and the robust covariance is degenerate."
        )
    return out, named
