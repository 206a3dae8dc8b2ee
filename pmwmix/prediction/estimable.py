"""Which rows a model can say something about, where columns were dropped as linear combinations of others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import PmwmixWarning, some


@dataclass(frozen=True)
class Aliases:
    """Fixed columns that were dropped, as combinations of the others.

    Parameters
    ----------
    names : tuple of str
        Of the d dropped columns.
    dropped, others : ndarray of int, shape (d,), (b,)
        Positions among the columns of the formula.
    weights : ndarray, shape (b + 1, d)
        ``dropped = others @ weights[:-1] + weights[-1]`` in the rows of the fit; the last is that of a constant which
        the formula leaves out.
    allowed : ndarray, shape (d,)
        Largest difference that rounding makes.

    Notes
    -----
    The mean of a row is estimable only where the same combinations hold: its columns are then a combination of rows of
    the fit (Searle 1971, Linear Models, ch. 5.4). Otherwise the number depends on which column was dropped.
    """

    names: tuple[str, ...]
    dropped: Array
    others: Array
    weights: Array
    allowed: Array

    def gaps(self, columns: Sequence[Array]) -> Array:
        """Differences (n, d), in units of what is allowed, of all columns (n,) of the formula from the combinations."""
        out = np.empty((len(columns[self.dropped[0]]), len(self.dropped)))
        for place, j in enumerate(self.dropped):
            combination = np.full(len(out), self.weights[-1, place])
            for k, weight in zip(self.others, self.weights[:-1, place], strict=True):
                combination += weight * columns[k]
            out[:, place] = (columns[j] - combination) / self.allowed[place]
        return out

    def lost(self, columns: Sequence[Array]) -> Array:
        """Rows (n,) whose mean is not estimable."""
        return (np.abs(self.gaps(columns)) > 1.0).any(axis=1)

    def lost_contrasts(self, L: Array, kept: Array) -> Array:
        """Mark combinations of coefficients that are not estimable (r,).

        Parameters
        ----------
        L : ndarray, shape (r, p)
            Of the coefficients in the model, thresholds first.
        kept : ndarray of int
            Positions of their columns.

        Notes
        -----
        With X_dropped = X_others W the vectors (W, -I) have no effect on any row, and a combination that they change
        is not estimable: L W must be zero (Searle 1971, ch. 5.4).
        """
        place = {int(j): number for number, j in enumerate(self.others)}
        W = np.tile(self.weights[-1], (L.shape[1], 1))  # thresholds take the part of a constant that is no column
        W[L.shape[1] - len(kept) :] = [self.weights[place[int(j)]] for j in kept]
        W = np.where(np.abs(W) > 1e-9 * np.abs(W).max(axis=0, initial=1e-300), W, 0.0)
        return (np.abs(L @ W) > 1e-7 * (np.abs(L) @ np.abs(W))).any(axis=1)

    def warn(self, what: Sequence[str], stacklevel: int) -> None:
        """Say that something is not estimable."""
        warnings.warn(
            f"Not estimable, and therefore missing (NaN): {some(what, 3)}. This needs {some(self.names, 3)}, which the "
            f"data cannot tell from the other terms. Merge categories, or leave the interaction out.",
            PmwmixWarning,
            stacklevel=stacklevel + 1,
        )


def aliases_of(
    names: Sequence[str], columns: Sequence[Array], dropped: Sequence[str], constant: bool
) -> Aliases | None:
    """Write down how the dropped ones among some columns (n,) follow from the others; None if none was dropped.

    Parameters
    ----------
    names, columns : sequence
        Of the fixed part.
    dropped : sequence of str
    constant : bool
        Whether a constant that is no column stands in the model, as thresholds do.
    """
    out = np.array([j for j, name in enumerate(names) if name in set(dropped)], dtype=int)
    if not len(out):
        return None
    others = np.array([j for j in range(len(names)) if j not in set(out.tolist())], dtype=int)
    n = len(columns[0])
    basis = np.array([*(columns[j] for j in others), np.full(n, float(constant))])
    size = np.sqrt(np.maximum((basis**2).sum(axis=1), 1e-300))
    target = np.array([columns[j] for j in out])
    weights = np.linalg.lstsq((basis / size[:, None]).T, target.T, rcond=1e-12)[0] / size[:, None]
    left = np.abs(target - weights.T @ basis).max(axis=1)
    allowed = 2.0 * left + 1e-7 * np.maximum(np.abs(target).max(axis=1), 1e-300)
    # a column of zeros is one where the product of indicators never was 1
    return Aliases(tuple(names[j] for j in out), out, others, weights, np.where(allowed > 1e-200, allowed, 1e-7))


def joined(parts: Sequence[tuple[int, Aliases | None]]) -> Aliases | None:
    """Put the dropped columns of several linear predictors together, each with its number of columns."""
    if not any(one for _, one in parts):
        return None
    found, start = [], 0
    for n, one in parts:  # one that lost nothing has its columns among the others
        whole = Aliases((), np.zeros(0, int), np.arange(n), np.zeros((n + 1, 0)), np.zeros(0))
        found.append((start, one or whole))
        start += n
    names = tuple(name for _, one in found for name in one.names)
    dropped, others = (
        np.concatenate([getattr(one, which) + start for start, one in found]) for which in ("dropped", "others")
    )
    weights = np.zeros((len(others) + 1, len(dropped)))
    row = column = 0
    for _, one in found:
        b, d = len(one.others), len(one.dropped)
        weights[row : row + b, column : column + d] = one.weights[:-1]
        weights[-1, column : column + d] = one.weights[-1]
        row, column = row + b, column + d
    return Aliases(names, dropped, others, weights, np.concatenate([one.allowed for _, one in found]))


def lost_groups(pieces: Sequence[tuple[Array, Any]], w: Array, group: Array, n_groups: int, is_linear: bool) -> Array:
    """Find averages (g,) of sums of means that are not estimable: of linear means the gaps are averaged too.

    Parameters
    ----------
    pieces : sequence of (ndarray (n, d), float or ndarray (n,))
        `Aliases.gaps` of the rows with some predictors changed, and the factor of each.
    w, group : ndarray, shape (n,)
    n_groups : int
    is_linear : bool
        Whether the mean is the linear predictor.
    """
    out = np.zeros(n_groups, dtype=bool)
    scaled = [(gaps, np.broadcast_to(np.asarray(factor, dtype=float), len(w))) for gaps, factor in pieces]
    if is_linear and scaled:
        whole = np.sum([gaps * factor[:, None] for gaps, factor in scaled], axis=0)
        size = np.bincount(group, w * np.sum([np.abs(factor) for _, factor in scaled], axis=0), minlength=n_groups)
        for column in whole.T:
            out |= np.abs(np.bincount(group, w * column, minlength=n_groups)) > size
        return out
    for gaps, factor in scaled:
        out |= np.bincount(group, (np.abs(gaps) > 1.0).any(axis=1) & (factor != 0), minlength=n_groups) > 0
    return out
