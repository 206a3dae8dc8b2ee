"""A linear model with latent group means ready to be fitted: cross-products of the outcome's and the predictors' model.

Equations are those of docs/latent-means.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError, NotSupportedError
from pmwmix.fitting.collinear import cross_products, independent
from pmwmix.fitting.linear import LaidOut, nested
from pmwmix.frame.latentmeans import LatentColumns
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.latentmeans import GroupSums
from pmwmix.likelihood.linear.latentobjective import LatentObjective, MeasuredColumns
from pmwmix.likelihood.standardise import Columns

CONSTANT = 1e-9  # of a column's spread: parts between or within groups that vary less are none


@dataclass(frozen=True)
class Groups:
    """The groups of the rows; G of them.

    Parameters
    ----------
    index : ndarray of int, shape (n,)
    w : ndarray, shape (n,)
        Conditional weights of the rows.
    w_top : ndarray, shape (G,)
    """

    index: Array
    w: Array
    w_top: Array

    def sums(self, values: Array) -> Array:
        """Weighted sums (G,) of a column."""
        return np.bincount(self.index, self.w * values, minlength=len(self.w_top))

    @property
    def n(self) -> Array:
        """Weighted number of rows (G,)."""
        return np.bincount(self.index, self.w, minlength=len(self.w_top))

    def mean(self, values: Array) -> Array:
        """Mean of its group for every row (n,)."""
        found: Array = (self.sums(values) / self.n)[self.index]
        return found

    def products(self, columns: Sequence[Array]) -> Array:
        """Weighted cross-products (G, m, m)."""
        m = len(columns)
        out = np.empty((len(self.w_top), m, m))
        for i, left in enumerate(columns):
            for j, right in enumerate(columns[: i + 1]):
                out[:, i, j] = out[:, j, i] = self.sums(left * right)
        return out


def latent(frame: ModelFrame, columns: Columns, reml: bool, engine: str, design: DesignColumns) -> LaidOut:
    """Lay a model with latent group means out; observed means give starting values.

    Raises
    ------
    NotSupportedError
        For REML.
    DataError
        If the groups do not differ in a column beyond chance.
    """
    assert design.latent is not None
    if reml:
        raise NotSupportedError(
            f"REML is not built for latent group means: the predictors have a likelihood too. Asked for method='reml' "
            f"with {design.latent.names[0]}. Use method='ml'."
        )
    laid = nested(frame, columns, reml, engine)
    groups = Groups(frame.hierarchy.levels[0].index, frame.w[0], frame.w[-1] / laid.top_scale)
    known, bare = design.latent, laid.objective

    def objective(used: Blocks, kept: Array) -> LatentObjective:
        sums, measured = _sums(columns, groups, known, kept)
        return LatentObjective(used, bare(used, kept).structure, sums, measured, engine)

    return replace(laid, objective=objective)


def _sums(columns: Columns, groups: Groups, known: LatentColumns, kept: Array) -> tuple[GroupSums, MeasuredColumns]:
    """Standardise what measures the latent means, split the columns and sum up (latent-means, eqs. 1-3)."""
    shift = np.array([np.average(x, weights=groups.w * groups.w_top[groups.index]) for x in known.x])
    scale = np.array([x.std() for x in known.x])
    place = {int(j): at for at, j in enumerate(kept)}
    own_scale = columns.scaler.scale[columns.x]
    A, L, loads = [columns.standard(columns.x[j]) for j in kept], [], []
    for j, kappa, slope in known.slopes:
        if j in place:
            A[place[j]] = A[place[j]] + slope / own_scale[j] * (shift[kappa] - known.at[kappa])
            L.append(slope * (scale[kappa] / own_scale[j]))
            loads.append((place[j], kappa))
    x = [(one - a) / b for one, a, b in zip(known.x, shift, scale, strict=True)]
    C, is_between = _split([columns.standard(columns.x[j]) for j in known.others if j in place], groups)
    outcomes = [columns.standard(j) for j in columns.y]
    xc = groups.products([*x, *C])
    firsts = np.zeros((len(groups.w_top), len(C)))
    for number in np.flatnonzero(is_between):
        firsts[:, number] = groups.sums(C[number]) / groups.n
    sums = GroupSums(
        groups.products([*outcomes, *A, *L, *(columns.standard(j) for j in columns.z)]),
        *(xc, firsts, np.array(loads, dtype=int).reshape(-1, 2), groups.n, groups.w_top, len(outcomes)),
    )
    return sums, MeasuredColumns(known.names, shift, scale, _start(x, C, xc, groups, known))


def _split(others: Sequence[Array], groups: Groups) -> tuple[list[Array], Array]:
    """Split the other predictors into their parts between and within groups, of which the constant is the first."""
    parts, between = [np.ones(len(groups.index))], [True]
    for column in others:
        mean = groups.mean(column)
        for part, is_between in ((mean, True), (column - mean, False)):
            centred = part - part.mean()
            spread = centred.std()
            if spread > CONSTANT * max(column.std(), 1e-300):
                parts.append((centred if is_between else part) / spread)
                between.append(is_between)
    keep = independent(cross_products(parts, groups.w * groups.w_top[groups.index]))
    return [parts[j] for j in keep], np.array(between)[keep]


def _start(x: Sequence[Array], C: Sequence[Array], xc: Array, groups: Groups, known: LatentColumns) -> Array:
    """Least squares, and moments of what is left between and within groups."""
    K, whole = len(x), np.einsum("g,gab->ab", groups.w_top, xc)
    alpha = np.linalg.solve(whole[K:, K:], whole[K:, :K])
    left = np.array(x) - alpha.T @ np.array(C)
    mean = np.array([groups.sums(one) / groups.n for one in left])
    inside = left - mean[:, groups.index]
    share = np.bincount(groups.index, groups.w**2, minlength=len(groups.w_top)) / groups.n**2
    every = groups.w * groups.w_top[groups.index]
    S = (every * inside) @ inside.T / float(groups.w_top @ (groups.n * (1.0 - share)))
    T = (groups.w_top * mean) @ mean.T / groups.w_top.sum() - S * np.average(share, weights=groups.w_top)
    for name, found in zip(known.names, np.diag(T), strict=True):
        if not found > 0:
            raise DataError(
                f"The groups do not differ beyond what chance among their members gives. There is nothing that "
                f"{name} could measure: the variance between groups is estimated as {found:.3g} of the column's own. "
                f"Leave the latent mean out."
            )
    lower = np.triu_indices(K)[::-1]
    return np.concatenate([alpha.T.ravel(), *(_logged(_factor(V), lower) for V in (T, S))])


def _factor(V: Array) -> Array:
    values, vectors = np.linalg.eigh(V)
    return np.linalg.cholesky((vectors * np.maximum(values, 0.01 * values.max())) @ vectors.T)


def _logged(factor: Array, lower: tuple[Array, ...]) -> Array:
    out = factor.copy()
    out[np.diag_indices(len(out))] = np.log(np.diag(out))
    return out[lower]
