"""The profiled objective of nested Gaussian models at many thetas at once, without derivatives: to look around."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import LOG_2PI
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure
from pmwmix.likelihood.linear.recursion import UnitTree, factor, stack_Lambdas, unpack_symmetric

CELLS = 1_000_000  # numbers held at once


def profiled_values(blocks: Blocks, structure: Structure, thetas: Array, k: int = 0) -> Array:
    """Minus the (restricted) pseudo-log-likelihood of outcome ``k``, profiled over beta and sigma (theory, eqs. 5-11).

    Parameters
    ----------
    blocks : Blocks
    structure : Structure
    thetas : ndarray, shape (D, n_theta)
    k : int

    Returns
    -------
    ndarray, shape (D,)
    """
    rhs = np.concatenate([blocks.zx, blocks.zy[k][:, None]], axis=1)
    at_once = max(CELLS // rhs.size, 1)
    parts = [_values(blocks, structure, thetas[i : i + at_once], rhs, k) for i in range(0, len(thetas), at_once)]
    return np.concatenate(parts)


def _values(blocks: Blocks, structure: Structure, thetas: Array, rhs: Array, k: int) -> Array:
    layout, p = structure.layout, structure.p
    S, D = np.repeat(blocks.S0(k)[None], len(thetas), axis=0), np.zeros(len(thetas))
    C = unpack_symmetric(blocks.zz, sum(layout.q))[:, :, None]
    levels = factor(UnitTree(blocks.parents, blocks.w), stack_Lambdas(layout, thetas), C, rhs[:, :, None])
    for level, (_, w) in zip(levels, blocks.paths(), strict=True):
        B = np.moveaxis(level.B, 2, 0).reshape(len(thetas), *level.B.shape[:2], -1)  # (D, q, p + 1, G)
        S -= np.einsum("diag,dibg->dab", B * w, B, optimize=True)
        D += 2.0 * sum(_log_pivots(level.R)) @ w
    half = np.linalg.cholesky(S[:, :p, :p]) if p else S[:, :0, :0]
    along = np.linalg.solve(half, S[:, :p, p:])[..., 0] if p else S[:, :0, 0]
    n = blocks.n_total - (p if structure.reml else 0)
    sigma2 = np.maximum(S[:, p, p] - (along**2).sum(axis=1), 1e-300) / n
    R = 2.0 * np.log(np.diagonal(half, axis1=1, axis2=2)).sum(axis=1) if structure.reml else 0.0
    return 0.5 * (n * (LOG_2PI + np.log(sigma2) + 1.0) + D + R)


def _log_pivots(R: Array) -> Iterator[Array]:
    return (np.log(R[i, i]) for i in range(len(R)))
