"""The way from a lower unit up to higher ones."""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array


def ancestors(parents: tuple[Array, ...], n_lowest: int) -> Array:
    """Top-level unit of every lowest unit."""
    index = np.arange(n_lowest)
    for parent in parents:
        index = parent[index]
    return index


def inner_weight(parents: tuple[Array, ...], w: tuple[Array, ...]) -> Array:
    """Multiply the conditional weights of a lowest unit and its ancestors below the top."""
    out, index = np.ones(len(w[0])), np.arange(len(w[0]))
    for parent, weight in zip(parents, w[:-1], strict=True):
        out *= weight[index]
        index = parent[index]
    return out
