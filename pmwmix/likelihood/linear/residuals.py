"""Residual structures: how the rows of a lowest unit hang together once the random effects are known. Numpy only.

Residuals of a unit have covariance σ²R(ρ). The data are read once, whatever ρ is, because

    A'R(ρ)⁻¹A = Σ_b c_b(ρ) S_b    and    log det R(ρ) = Σ_b d_b(ρ) n_b

with cross-products S_b and counts n_b that do not depend on ρ. A structure is one file: a class with the members of
`Residual`, registered in `RESIDUALS`; everything else follows from these members. ρ stands behind log σ among the
further parameters phi, and is climbed together with theta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pmwmix._registry import Registry
from pmwmix._types import Array

RESIDUALS = Registry("residual structure")


@dataclass(frozen=True)
class UnitRows:
    """The rows of some lowest units, one unit after the other.

    Parameters
    ----------
    A : ndarray, shape (n, m)
        Standardised columns: random and fixed columns and outcomes.
    sizes : ndarray of int, shape (g,)
        Rows of each unit.
    w : ndarray, shape (n,), or None
        Conditional weights of the rows; None if all are 1.
    along : mapping of str to ndarray (n,)
        Other columns that the structure reads, by its own names for them: ``"time"``, ``"stratum"``.
    """

    A: Array
    sizes: Array
    w: Array | None
    along: Mapping[str, Array] = field(default_factory=dict)


class Residual(Protocol):
    """What a residual structure says of itself. Frozen and hashable: models of equal structure share compiled code.

    ``RESIDUALS[name](sizes, along)`` makes it from the number of rows of every lowest unit and from whole columns as in
    `UnitRows`, so that it may have a block for every gap in time or for every size.
    """

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of ρ; each ranges over the whole line. Without any, c_b are constants and log det R is zero."""

    @property
    def n_blocks(self) -> int:
        """Number of S_b."""

    def products(self, rows: UnitRows) -> Array:
        """Form S_b of the columns of every unit, (b, g, m, m), with the rows' weights in them."""

    def counts(self, rows: UnitRows) -> Array:
        """Form n_b of every unit, (b, g), with the rows' weights in them."""

    def coefficients(self, rho: Sequence[Any], xp: Any = np) -> Sequence[Any]:
        """Write c_b for ρ given as numbers, arrays or symbols; ``xp`` is numpy or PyTensor's tensor module."""

    def log_scales(self, rho: Sequence[Any], xp: Any = np) -> Sequence[Any]:
        """Write d_b."""


@dataclass(frozen=True)
class Independent:
    """Independent residuals of equal variance: one block, A'WA."""

    parameters: tuple[str, ...] = ()
    n_blocks: int = 1

    def products(self, rows: UnitRows) -> Array:
        """Multiply units of equal size at once."""
        sizes, A, w = rows.sizes, rows.A, rows.w
        C = np.empty((1, len(sizes), A.shape[1], A.shape[1]))
        offset = np.cumsum(sizes) - sizes
        for size in np.unique(sizes):
            units = np.flatnonzero(sizes == size)
            index = offset[units, None] + np.arange(size)
            part = A[index]
            weighted = part if w is None else part * w[index][:, :, None]
            C[0, units] = np.matmul(weighted.transpose(0, 2, 1), part)
        return C

    def counts(self, rows: UnitRows) -> Array:
        """Nothing is counted: log det R is zero."""
        return np.zeros((1, len(rows.sizes)))

    def coefficients(self, rho: Sequence[Any], xp: Any = np) -> Sequence[Any]:
        """R is the identity."""
        return [1.0]

    def log_scales(self, rho: Sequence[Any], xp: Any = np) -> Sequence[Any]:
        """Its determinant is 1."""
        return [0.0]


def _independent(sizes: Array, along: Mapping[str, Array]) -> Residual:
    return Independent()


Make = Callable[[Array, Mapping[str, Array]], Residual]
RESIDUALS.add("independent", _independent)
INDEPENDENT: Residual = Independent()
