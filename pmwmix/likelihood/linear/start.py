"""Where the climb of a linear model starts: moment estimates from cross-products. Numpy only."""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks


def starting_theta(blocks: Blocks, layout: ThetaLayout, k: int = 0) -> Array:
    """Moment estimates: spread of per-unit coefficients beyond what the residual variance explains, uncorrelated."""
    S0 = blocks.S0(k)
    p = len(S0) - 1
    beta = np.linalg.solve(S0[:p, :p], S0[:p, p])
    sigma2 = max((S0[p, p] - S0[p, :p] @ beta) / blocks.n_total, 1e-12)
    zr = blocks.zy[k] - np.einsum("apg,p->ag", blocks.zx, beta)
    rows, cols = np.tril_indices(sum(layout.q))
    zz = blocks.zz[rows == cols]
    out, offset = [], 0
    for level, q in enumerate(layout.q):
        diagonal = np.zeros((q, q))
        for a in range(q):
            size = np.maximum(zz[offset + a], 1e-12)
            coefficient = zr[offset + a] / size
            spread = float(np.average(coefficient**2, weights=size / (1.0 + 0.05 * size)))
            noise = float(np.average(sigma2 / size, weights=size / (1.0 + 0.05 * size)))
            diagonal[a, a] = np.sqrt(np.clip((spread - noise) / sigma2, 0.02, 4.0))
        out.append(diagonal)
        offset += q
        if level < len(layout.q) - 1:
            parent, n = blocks.parents[level], blocks.n_units[level + 1]
            zr = np.array([np.bincount(parent, row, minlength=n) for row in zr])
            zz = np.array([np.bincount(parent, row, minlength=n) for row in zz])
    return layout.pack(out)
