"""Rows of lowest units stacked by size, and their cross-products under a residual structure. Numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.jets import Jet, squared
from pmwmix.likelihood.linear.residuals import Places, Residual
from pmwmix.likelihood.standardise import Columns

CELLS = 3_000_000  # rows times columns times derivatives that are evaluated at once


@dataclass(frozen=True)
class Rows:
    """Rows in the order of the lowest units, sorted by time within them.

    Parameters
    ----------
    columns : Columns
    order : ndarray of int, shape (n,)
        Row of the table at each place.
    starts : ndarray of int, shape (G + 1,)
        First place of each unit, and n.
    where : ndarray, shape (n, d)
        What the correlation reads, in that order.
    w : ndarray, shape (n,), or None
        Weights of the rows, in that order.
    """

    columns: Columns
    order: Array
    starts: Array
    where: Array
    w: Array | None

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.starts) - 1

    def from_first(self) -> Rows:
        """Count times and coordinates from the first row of each unit: the same pattern is then the same numbers."""
        first = np.repeat(self.where[self.starts[:-1]], np.diff(self.starts), axis=0)
        return replace(self, where=self.where - first)

    def alike(self, width: int) -> Iterator[tuple[Array, Array, Array]]:
        """Yield units (g,) of the same size, the places of their rows (g, s), and ``where`` (1 or g, s, d).

        Parameters
        ----------
        width : int
            Numbers that are held per row.
        """
        sizes = np.diff(self.starts)
        for size in np.unique(sizes):
            units = np.flatnonzero(sizes == size)
            index = self.starts[units, None] + np.arange(size)
            kinds, of = np.unique(self.where[index].reshape(len(units), -1), axis=0, return_inverse=True)
            of = of.reshape(-1)
            shared = 2 * len(kinds) <= len(units)
            groups = [np.flatnonzero(of == kind) for kind in range(len(kinds))] if shared else [np.arange(len(units))]
            most = max(CELLS // (int(size) * max(width, 1 if shared else int(size))), 1)
            for group in groups:
                for part in np.array_split(group, -(-len(group) // most)):
                    where = self.where[index[part]]
                    yield units[part], index[part], where[:1] if shared else where


@dataclass(frozen=True)
class Stack:
    """Units of the same size: their columns times the roots of the rows' weights, and what the structure reads."""

    units: Array
    A: Array
    at: Places


def stack(rows: Rows, residual: Residual, which: Sequence[int]) -> list[Stack]:
    """Lay some standardised columns out, unit by unit."""
    scaler = rows.columns.scaler
    channels = 1 + residual.n_rho + residual.n_rho * (residual.n_rho + 1) // 2
    logs = np.zeros((0, len(rows.order))) if residual.spread is None else residual.spread.standard[:, rows.order]
    A = np.column_stack([(rows.columns.values[j][rows.order] - scaler.shift[j]) / scaler.scale[j] for j in which])
    if rows.w is not None:
        A *= np.sqrt(rows.w)[:, None]
    out = []
    for units, index, where in rows.alike(channels * len(which)):
        w = None if rows.w is None else rows.w[index]
        out.append(Stack(units, A[index], Places(where, logs[:, index], w)))
    return out


def cross_products(stacks: Sequence[Stack], residual: Residual, rho: Array, n_units: int) -> tuple[Jet, Jet]:
    """Compute A'R(ρ)⁻¹A (G, m, m) and log det R(ρ) (G, 1, 1) of every unit, with derivatives in ρ."""
    n, m = residual.n_rho, stacks[0].A.shape[-1]
    C, log_det = (Jet.constant(np.empty((n_units, size, size)), n) for size in (m, 1))
    for one in stacks:
        white, logs = residual.whiten(rho, one.A, one.at)
        for total, part in ((C, squared(white)), (log_det, logs)):
            total.value[one.units] = part.value
            total.first[:, one.units], total.second[:, one.units] = part.first, part.second
    return C, log_det
