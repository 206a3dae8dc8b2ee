"""Several sources of imputation, plausible values within or across imputed tables: their analysis of variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import prod

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError, some
from pmwmix.pooling._base import POOLINGS, Pooled
from pmwmix.pooling.rubin import missing_share, observed_df, pooled_wald

INNERMOST = "PV"  # what tells fits with the same labels apart


@dataclass(frozen=True)
class Source:
    """One source of differences between fits: imputed tables, plausible values, or the two together.

    Parameters
    ----------
    name : str
        ``"imputation"``; of what crossed factors do together ``"imputation:PV"``.
    df : float
        Degrees of freedom of its mean square.
    factor : float
        What its mean square is multiplied by in the total covariance.
    cells : ndarray of int, shape (N,)
        Which of its units each fit belongs to.
    effects : ndarray, shape (N, P)
        Its part in every fit's estimate; those of different sources are orthogonal.
    mean_square : ndarray, shape (P, P) or (P,)
        Covariance of the effects per degree of freedom; of numbers that are pooled one by one the variances.
    component : ndarray, shape (P, P) or (P,)
        Variance of its effects; below zero where there is less of it than chance would make.
    """

    name: str
    df: float
    factor: float
    cells: Array
    effects: Array
    mean_square: Array
    component: Array

    @property
    def n_units(self) -> int:
        """Number of its units."""
        return int(self.cells.max()) + 1

    @property
    def added(self) -> Array:
        """What it adds to the total covariance, (P, P) or (P,)."""
        return self.factor * self.mean_square


def sources_of(values: Array, nests: Sequence[tuple[str, ...]] = (), together: bool = True) -> list[Source]:
    """Take the differences between N fits apart by their sources (imputations, eqs. 1-5).

    Parameters
    ----------
    values : ndarray, shape (N, P)
    nests : sequence of tuple of str
        Labels of every fit, ``("imputation 2", "PV 3")``: the name of a source and its number. A source whose every
        label goes with one label of another is nested in it, otherwise the two are crossed. Fits with the same labels
        are told apart by plausible values nested in all of them. Without labels fits are exchangeable.
    together : bool
        Whether covariances are wanted, or variances alone.

    Returns
    -------
    list of Source
        Outermost first.

    Raises
    ------
    OptionError
        If the numbers of fits are unequal.
    """
    table = _Table.of(list(nests) or [()] * len(values))
    effects: list[Array] = []
    for i, (cell, size) in enumerate(zip(table.cells, table.sizes, strict=True)):
        means = np.array([np.bincount(cell, column, size) for column in values.T]).T / np.bincount(cell)[:, None]
        below = sum((effects[j] for j in table.below[i]), np.zeros_like(values))
        effects.append(means[cell] - values.mean(axis=0) - below)
    kept = [i for i, nu in enumerate(table.df) if nu > 0]
    if not kept:
        return []
    # expected mean squares: a source stands in those of all the sources that it contains
    contains = [[i == j or i in table.below[j] for j in kept] for i in kept]
    sizes = np.array([table.sizes[i] for i in kept])
    inverse = np.linalg.inv(np.array(contains) * len(values) / sizes)
    factors = np.maximum((1.0 + 1.0 / sizes) @ inverse, 0.0)
    squares = [(effects[i].T @ effects[i] if together else np.sum(effects[i] ** 2, axis=0)) / table.df[i] for i in kept]
    components = np.tensordot(inverse, np.array(squares), 1)
    numbers = zip(kept, factors.tolist(), squares, components, strict=True)
    return [
        Source(table.names[i], table.df[i], factor, table.cells[i], effects[i], square, component)
        for i, factor, square, component in numbers
    ]


@dataclass(frozen=True)
class _Table:
    """The table that N fits fill: its sources, each a set of factors with all those that they are nested in.

    Parameters
    ----------
    names : list of str
    cells : list of ndarray (N,)
        Unit of every fit, by source.
    sizes : list of int
        Numbers of units.
    below : list of list of int
        Sources that are part of each.
    df : list of float
    """

    names: list[str]
    cells: list[Array]
    sizes: list[int]
    below: list[list[int]]
    df: list[float]

    @classmethod
    def of(cls, nests: list[tuple[str, ...]]) -> _Table:
        """Read the table off the labels of the fits."""
        names, codes = _factors(nests)
        every = range(len(codes))
        inside = [{b for b in every if b != a and _is_nested(codes[a], codes[b])} for a in every]
        subsets = [set(one) for r in range(1, len(codes) + 1) for one in combinations(every, r)]
        closed = [one for one in subsets if all(inside[a] <= one for a in one)]
        cells = [_cells([codes[a] for a in sorted(one)]) for one in closed]
        sizes = [int(one.max()) + 1 for one in cells]
        _check_balance(names, closed, cells, sizes, inside)
        below = [[j for j, other in enumerate(closed) if other < one] for one in closed]
        df: list[float] = []
        for size, parts in zip(sizes, below, strict=True):
            df.append(size - 1.0 - sum(df[j] for j in parts))
        return cls([_name(names, one, inside) for one in closed], cells, sizes, below, df)


def _cells(codes: list[Array]) -> Array:
    """Give every combination of several codes a number (N,)."""
    return np.unique(np.stack(codes), axis=1, return_inverse=True)[1].ravel()


def _factors(nests: list[tuple[str, ...]]) -> tuple[list[str], list[Array]]:
    """Read names and codes (N,) of the factors off the labels; what tells equal labels apart is the last factor."""
    names = [label.rpartition(" ")[0] or "nest" for label in nests[0]]
    if any(len(one) != len(names) for one in nests):
        raise OptionError(
            f"Fits are pooled by labels of one kind. Some have {len(names)}, as {nests[0]!r}, others more or fewer. "
            f"Pool fits of one call, or pool them with rule='rubin'."
        )
    codes = [np.unique([one[i] for one in nests], return_inverse=True)[1] for i in range(len(names))]
    if len(set(nests)) < len(nests):
        names, codes = [*names, INNERMOST], [*codes, np.arange(len(nests))]
    return names, codes


def _is_nested(inner: Array, outer: Array) -> bool:
    """Whether every unit of one factor is in one unit of another, and not the other way round."""
    pairs = len(set(zip(inner.tolist(), outer.tolist(), strict=True)))
    return pairs == len(set(inner.tolist())) and len(set(outer.tolist())) < len(set(inner.tolist()))


def _check_balance(
    names: Sequence[str], closed: list[set[int]], cells: list[Array], sizes: list[int], inside: list[set[int]]
) -> None:
    """Refuse unequal numbers of fits: mean squares are orthogonal, and their factors known, for equal ones."""
    size_of = {frozenset(one): size for one, size in zip(closed, sizes, strict=True)} | {frozenset(): 1}
    own = [size_of[frozenset({a} | inside[a])] / size_of[frozenset(inside[a])] for a in range(len(names))]
    for one, cell, size in zip(closed, cells, sizes, strict=True):
        counts = np.bincount(cell)
        if counts.min() != counts.max() or size != round(prod(own[a] for a in one)):
            raise OptionError(
                f"Every imputed table has the same number of plausible values. Of {_name(names, one, inside)!r} there "
                f"are {size} with {counts.min()} to {counts.max()} fits. Fit the same plausible values everywhere."
            )


def _name(names: Sequence[str], subset: set[int], inside: list[set[int]]) -> str:
    """Name a source by the factors in it that no other is nested in."""
    outer = set(chain.from_iterable(inside[a] for a in subset))
    return ":".join(names[a] for a in sorted(subset - outer))


def table_of(nests: Sequence[tuple[str, ...]]) -> list[tuple[str, int]]:
    """List the sources of labelled fits, outermost first, each with the number of its units."""
    table = _Table.of(list(nests))
    return [(name, size) for name, size, nu in zip(table.names, table.sizes, table.df, strict=True) if nu > 0]


def check_exchangeable(nests: Sequence[tuple[str, ...]], verb: str) -> None:
    """Refuse fits that differ for several reasons where the rule is about exchangeable ones.

    Raises
    ------
    NotSupportedError
    """
    if any(nests) and len(found := table_of(nests)) > 1:
        raise NotSupportedError(
            f"{verb} pools a statistic over exchangeable fits. These differ by {some([name for name, _ in found])}. "
            f"Use fit.wald(), or one imputed table."
        )


def nested(
    values: Array, variances: Array, df_complete: float | Array = np.inf, nests: Sequence[tuple[str, ...]] = ()
) -> Pooled:
    """Pool N fits that differ for several reasons (imputations, eqs. 4-7).

    Parameters
    ----------
    values : ndarray, shape (N, P)
    variances : ndarray, shape (N, P, P) or (N, P)
        Covariances, or variances of numbers that are pooled one by one.
    df_complete : float or ndarray
        Degrees of freedom of one fit: clusters minus strata under a robust variance.
    nests : sequence of tuple of str
        As in `sources_of`.

    Returns
    -------
    Pooled
        ``between`` is the sum of the variance components of all sources.

    Notes
    -----
    Plausible values nested in imputed tables are Rubin's (2003), crossed ones have the same argument with the mean
    squares of two-way tables. Identical fits give back the single fit.

    References
    ----------
    .. [1] Rubin, D. B. (2003). Nested multiple imputation of NMES via partially incompatible MCMC. Statistica
       Neerlandica, 57(1), 3-18. doi:10.1111/1467-9574.00217
    """
    together, shape = variances.ndim > values.ndim, values.shape[1:]
    within = variances.mean(axis=0)
    sources = sources_of(values.reshape(len(values), -1), nests, together)
    between = sum((one.component.reshape(within.shape) for one in sources), np.zeros_like(within))
    parts = [one.added.reshape(within.shape) for one in sources]
    vcov = within + sum(parts, np.zeros_like(within))
    total, parts = (np.diag(vcov), [np.diag(one) for one in parts]) if together else (vcov, parts)
    shares = [np.divide(one, total, out=np.zeros(shape), where=total > 0) for one in parts]
    share = np.clip(sum(shares, np.zeros(total.shape)), 0.0, 1.0)
    complete = np.broadcast_to(np.asarray(df_complete, dtype=float), share.shape)
    df = satterthwaite_df(shares, [one.df for one in sources], share, complete)
    return Pooled(values.mean(axis=0), vcov, within, between, missing_share(share, df), df)


def satterthwaite_df(shares: Sequence[Array], own: Sequence[float], share: Array, complete: Array) -> Array:
    """Degrees of freedom of a variance of which sources have shares, and those of one fit on top (imputations, eq. 6).

    Parameters
    ----------
    shares : sequence of ndarray (P,)
        Of the total variance, by source.
    own : sequence of float
        Degrees of freedom of the mean square of every source.
    share, complete : ndarray, shape (P,)
        Sum of the shares, and degrees of freedom of one fit.

    Returns
    -------
    ndarray, shape (P,)
    """
    rate = sum((part**2 / nu for part, nu in zip(shares, own, strict=True)), np.zeros(share.shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 1.0 / (rate + 1.0 / observed_df(share, complete))
    return np.where(share > 1e-12, found, complete)


def wald_of(
    value: Array, within: Array, values: Array, nests: Sequence[tuple[str, ...]], df_complete: float = np.inf
) -> tuple[float, float]:
    """Test that k combinations are zero, pooled over N fits: D1, with several sources Shen's (imputations, eqs. 8-9).

    Parameters
    ----------
    value : ndarray, shape (k,)
        Pooled estimates of the combinations.
    within : ndarray, shape (k, k)
        Mean covariance.
    values : ndarray, shape (N, k)
        Estimates of every fit.
    nests : sequence of tuple of str
    df_complete : float
        Degrees of freedom of one fit.

    Returns
    -------
    float, float
        F statistic and its denominator degrees of freedom.

    References
    ----------
    .. [1] Shen, Z. J. (2000). Nested multiple imputation. Dissertation, Harvard University.
    """
    sources = sources_of(values, nests)
    if len(sources) < 2:
        K = int(sources[0].df) + 1 if sources else 1
        return pooled_wald(value, within, sum((one.mean_square for one in sources), 0.0 * within), K, df_complete)
    inverse = np.linalg.pinv(within, hermitian=True)
    k = int(np.linalg.matrix_rank(within))
    each = np.array([float(np.trace(one.added @ inverse)) / k for one in sources])
    r = float(each.sum())
    F = float(value @ inverse @ value) / (k * (1.0 + r))
    if r < 1e-12:
        return F, df_complete
    rate = float(np.sum(each**2 / [one.df for one in sources])) / (1.0 + r) ** 2 / k
    if np.isinf(df_complete):
        return F, 1.0 / rate
    return F, 1.0 / (rate + 1.0 / float(observed_df(np.array(r / (1.0 + r)), np.array(df_complete))))


def mix_draws(parts: Sequence[Array], nests: Sequence[tuple[str, ...]] = ()) -> Array:
    """Mix draws (S, ...) of N fits so that they spread by the rule of their labels.

    The means of N fits as they stand spread by the sum of squares of every source over N; each source's effects are
    stretched until they add what the total covariance has of it (imputations, eq. 7). The overall mean stays.
    """
    if len(parts) == 1:
        return parts[0]
    shape = parts[0].shape[1:]
    means = np.array([part.mean(axis=0).ravel() for part in parts])
    shifts = np.zeros_like(means)
    for one in sources_of(means, nests):
        shifts += (np.sqrt(one.factor * len(parts) / one.df) - 1.0) * one.effects
    return np.concatenate([part + shift.reshape(shape) for part, shift in zip(parts, shifts, strict=True)])


POOLINGS.add("nested", nested)
