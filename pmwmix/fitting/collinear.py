"""Which columns are linear combinations of the ones before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.rows import in_blocks
from pmwmix.likelihood.standardise import Transform

COLLINEAR_TOL = 1e-11  # of a standardised column's squared length that the columns before it leave unexplained


def independent_columns(blocks: Blocks) -> Array:
    """Positions of the fixed columns that are not linear combinations of the ones before them."""
    return independent(blocks.total_xx)


def independent(S: Array) -> Array:
    """Positions of columns, given by their cross-products (p, p), that are no combination of the ones before them."""
    size = np.sqrt(np.maximum(np.diag(S), 1e-300))
    S = S / np.outer(size, size)
    kept: list[int] = []
    L = np.zeros_like(S)
    for j in range(len(S)):
        row = np.zeros(len(kept))
        for i, column in enumerate(kept):
            row[i] = (S[j, column] - row[:i] @ L[i, :i]) / L[i, i]
        left = S[j, j] - row @ row
        if left > COLLINEAR_TOL:
            i = len(kept)
            L[i, :i], L[i, i] = row, np.sqrt(left)
            kept.append(j)
    return np.array(kept, dtype=int)


def subset_columns(blocks: Blocks, kept: Array) -> Blocks:
    """Keep some fixed columns of cross-products."""
    return blocks.subset(kept)


def subset_transform(transform: Transform, kept: Array) -> Transform:
    """Keep some of the fixed columns."""
    intercept = transform.intercept
    place = None if intercept is None else int(np.flatnonzero(kept == intercept)[0])
    cuts = tuple(int(np.flatnonzero(kept == cut)[0]) for cut in transform.cuts)
    return replace(transform, A_x=transform.A_x[np.ix_(kept, kept)], intercept=place, cuts=cuts)


def cross_products(X: Sequence[Array], w: Array) -> Array:
    """Weighted cross-products (p, p) of columns (n,)."""
    S = np.zeros((len(X), len(X)))
    for at, part in in_blocks(X):
        S += (part * w[at]) @ part.T
    return 0.5 * (S + S.T)
