"""How many clusters a coefficient rests on."""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.problem import Problem
from pmwmix.frame.crossing import parts_of
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.weights.conditional import total_weights

FEW = 2.5  # clusters: one or two, and what is left over for the others
UNITS = 16_384  # whose leverages are found at once
WORDS = {1: "one cluster", 2: "two clusters"}


def carrying(problem: Problem, frame: ModelFrame, design: DesignColumns) -> Array:
    """Give the effective number of clusters that carry each coefficient.

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
    if blocks is not None and blocks.xx.ndim == 3 and blocks.xx.shape[-1] == len(psu):
        xx, w_top = blocks.xx, blocks.w[-1]
        M = np.linalg.inv(xx @ w_top) @ problem.transform.A_x.T  # of the raw coefficients
        each = np.empty((p, len(psu)))
        for first in range(0, len(psu), UNITS):  # copies of all cross-products would be large
            part = slice(first, first + UNITS)
            each[:, part] = np.einsum("aj,abg,bj->jg", M, xx[..., part], M, optimize=True) * w_top[part]
        shares = np.array([np.bincount(psu, row) for row in each])
    else:
        w = total_weights(frame.w, frame.hierarchy.row_parents)[0]
        every, of = [column for part in design.fixed for column in part.columns], design.of[problem.kept]
        X = np.array([every[j] for j in problem.kept] or np.zeros((0, frame.n)))
        if not problem.family.has_intercept:
            firsts = np.unique(np.append(of, 0))
            X, of = np.vstack([X, np.ones((len(firsts), frame.n))]), np.append(of, firsts)  # thresholds
        X = X / np.sqrt(np.maximum((w * X**2).sum(axis=1, keepdims=True), 1e-300))
        together = of[:, None] == of  # columns explain others of their own linear predictor
        found = np.linalg.pinv(together * ((X * w) @ X.T), hermitian=True)[:p] @ X
        shares = np.array([np.bincount(psu[top], w * row**2) for row in found])
    if not p:
        return np.zeros(0)
    return shares.sum(axis=1) ** 2 / (shares**2).sum(axis=1)


def notes_on_carriers(problem: Problem, frame: ModelFrame, design: DesignColumns) -> list[str]:
    """Say which coefficients rest on one or two clusters, for fits with a robust variance."""
    if frame.hierarchy.crossed:  # independent parts of the sample, not the units of a factor, are the clusters
        return []
    numbers = carrying(problem, frame, design)
    out = []
    for count, word in WORDS.items():
        terms = [
            name for name, number in zip(problem.names, numbers, strict=True) if number < FEW and round(number) == count
        ]
        if terms:
            out.append(
                f"Resting on {word}: {', '.join(terms)}. A robust standard error sees no spread between clusters there "
                f"and is far too small; its test does not hold. Use vcov='model' for it, or leave it out."
            )
    return out
