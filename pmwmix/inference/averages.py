"""Means of the outcome and their derivatives, row by row, averaged over the random effects and over rows.

Equations are those of docs/effects.md. Numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.latent import latent_of
from pmwmix.prediction.abilities import Abilities
from pmwmix.prediction.blueprint import Blueprint
from pmwmix.prediction.modes import quadratic
from pmwmix.prediction.responses import NODES

ROWS = 50_000  # worked on at a time


@dataclass(frozen=True)
class RowColumns:
    """Columns of the model for some rows.

    Parameters
    ----------
    X : ndarray, shape (n, p)
    offset : ndarray, shape (n,)
    Z : list of list of ndarray
        Random columns (n,) per level.
    """

    X: Array
    offset: Array
    Z: list[list[Array]]

    def part(self, rows: slice) -> RowColumns:
        """Give some of the rows."""
        return RowColumns(self.X[rows], self.offset[rows], [[z[rows] for z in level] for level in self.Z])


@dataclass(frozen=True)
class MeanModel:
    """What the mean of the outcome of one fit depends on, and in which order its parameters come.

    Parameters
    ----------
    link : Link or None
        None where the mean is the linear predictor.
    thresholds : ndarray, shape (T,)
        Of an ordinal model on the scale of the outcome, else empty.
    beta : ndarray, shape (p,)
    Psi : list of ndarray
        Per level; empty if random effects are taken as zero or do not change the mean.
    entries : list of (int, int, int)
        Level, row and column of every variance component.
    n_parameters : int
    n_thresholds : int
        Coefficients that come before those of the linear predictor.
    counts : ndarray of bool, shape (p,)
        Whether a coefficient is one of the mean's linear predictor, where the mean is that.
    rule : (ndarray, ndarray)
        Points and weights of means over the random part of a row, in units of its standard deviation.
    by_shape : callable, optional
        What distribution other than a fixed one random effects have: see `Latent.mean_slopes`.
    """

    link: Any
    thresholds: Array
    beta: Array
    Psi: list[Array]
    entries: list[tuple[int, int, int]]
    n_parameters: int
    n_thresholds: int
    counts: Array
    rule: tuple[Array, Array]
    by_shape: Callable[..., tuple[list[Array], bool]] | None = None

    @classmethod
    def of(cls, fit: Any, blueprint: Blueprint, averaged: bool, type: str) -> MeanModel:
        """Read the parameters of a single fit."""
        values = fit.parameters[0]
        entries: list[tuple[int, int, int]] = []
        sizes = [0] * (1 + max((term.level for term in blueprint.random), default=-1))
        for level, q in blueprint.correlated():
            start = sizes[level]
            entries += [(level, start + i, start + j) for j in range(q) for i in range(j, q)]
            sizes[level] += q
        p = len(fit.coef)
        Psi = [np.zeros((q, q)) for q in sizes]
        for (level, i, j), value in zip(entries, values[p:], strict=False):
            Psi[level][i, j] = Psi[level][j, i] = value
        linear = type == "link" or fit.has_linear_mean
        n = p - len(blueprint.kept)
        cuts = np.zeros(0) if linear else values[:n]
        random = [] if linear or not averaged else Psi
        beta, link = values[n:p], None if linear else fit.distribution[1]
        rule = fit.random_rule(NODES[1]) if random else (np.zeros(1), np.ones(1))
        of = blueprint.x_of if linear else np.zeros(p - n, dtype=int)
        shape, by_shape, of_shape = fit.random_shape[:1], None, 0
        if random and len(shape):
            effects = latent_of(fit.random)
            by_shape, of_shape = partial(effects.mean_slopes, shape[0]), len(effects.reported(shape[0], 1.0)[0])
        return MeanModel(link, cuts, beta, random, entries, len(values) + of_shape, n, of == 0, rule, by_shape)

    def rows(self, columns: RowColumns) -> tuple[Array, Array]:
        """Mean of every row (n, c) and its derivatives in the parameters (n, c, P) (effects, eqs. 23-25).

        Of an ordinal model the probabilities of a category or a lower one, for all but the highest.
        """
        n = len(columns.X)
        X = columns.X * self.counts
        eta = X @ self.beta + columns.offset
        variance = sum((quadratic(z, P) for z, P in zip(columns.Z, self.Psi, strict=False)), np.zeros(n))
        mean, by_eta, by_variance = self._means(eta, variance)
        by_shape, alone = self._by_shape(eta, variance)
        G = np.zeros((*mean.shape, self.n_parameters))
        k = np.arange(len(self.thresholds))
        G[:, k, k] = -by_eta[:, k]
        first, last = self.n_thresholds, self.n_thresholds + len(self.beta)
        G[:, :, first:last] = by_eta[:, :, None] * X[:, None, :]
        for place, slopes in enumerate(by_shape, start=self.n_parameters - len(by_shape)):
            G[:, :, place] = slopes
        for place, (level, i, j) in enumerate(self.entries if self.Psi and not alone else (), start=last):
            twice = columns.Z[level][i] * columns.Z[level][j] * (1.0 if i == j else 2.0)
            G[:, :, place] = by_variance * twice[:, None]
        return mean, G

    def _means(self, eta: Array, variance: Array) -> tuple[Array, Array, Array]:
        """Means (n, c), and their derivatives in the linear predictor and in the variance of the random part."""
        if self.link is None:
            return eta[:, None], np.ones((len(eta), 1)), np.zeros((len(eta), 1))
        ordinal = bool(len(self.thresholds))
        centre = self.thresholds - eta[:, None] if ordinal else eta[:, None]
        sign = -1.0 if ordinal else 1.0
        if not self.Psi:
            return self.link.mean(centre), sign * self.link.slope(centre), np.zeros_like(centre)
        spread = np.sqrt(variance)[:, None]
        mean, slope, tilt = (np.zeros_like(centre) for _ in range(3))
        for a, w in zip(*self.rule, strict=True):
            at = centre + sign * a * spread
            steep = self.link.slope(at)
            mean += w * self.link.mean(at)
            slope += w * steep
            tilt += (w * a * sign) * steep
        by_variance = np.divide(tilt, 2.0 * spread, out=np.zeros_like(tilt), where=spread > 0)
        return mean, sign * slope, by_variance

    def _by_shape(self, eta: Array, variance: Array) -> tuple[list[Array], bool]:
        """Differentiate the means (n, c) in what the random effects' distribution reports (mixing, eq. 9).

        And say whether that is all: masses have places and probabilities, and their variance follows.
        """
        if self.by_shape is None:
            return [], False
        ordinal = bool(len(self.thresholds))
        centre = self.thresholds - eta[:, None] if ordinal else eta[:, None]
        sign, deviation = -1.0 if ordinal else 1.0, np.sqrt(variance)[:, None]
        return self.by_shape(self.link.mean, self.link.slope, centre, deviation, sign)

    def outcomes(self, values: Array, gradients: Array, total: float) -> tuple[Array, Array]:
        """Turn cumulated probabilities (g, T) into those of categories (g, T + 1); other means stay.

        ``total`` is the sum of the probabilities: 1, or 0 of differences.
        """
        if not len(self.thresholds):
            return values, gradients
        values = np.diff(values, axis=1, prepend=0.0, append=total)
        return values, np.diff(gradients, axis=1, prepend=0.0, append=0.0)


def combined(
    model: MeanModel,
    pieces: Sequence[tuple[RowColumns, Any]],
    w: Array,
    group: Array,
    n_groups: int,
) -> tuple[Array, Array]:
    """Weighted averages per group of a sum of means, each piece times its factor (effects, eq. 26).

    Parameters
    ----------
    model : MeanModel
    pieces : sequence of (RowColumns, float or ndarray (n,))
        The same rows with other values, and the factor of each.
    w, group : ndarray, shape (n,)
    n_groups : int

    Returns
    -------
    ndarray, shape (g, c)
    ndarray, shape (g, c, P)
        Derivatives in the parameters.
    """
    parts = None
    for first in range(0, len(w), ROWS):
        rows = slice(first, first + ROWS)
        whole: list[Array] = []
        for columns, factor in pieces:
            f = np.broadcast_to(factor, len(w))[rows]
            found = model.rows(columns.part(rows))
            added = [part * f.reshape(-1, *[1] * (part.ndim - 1)) for part in found]
            whole = added if not whole else [a + b for a, b in zip(whole, added, strict=True)]
        sums = [_sums(part, w[rows], group[rows], n_groups) for part in whole]
        parts = sums if parts is None else [a + b for a, b in zip(parts, sums, strict=True)]
    assert parts is not None
    size = np.bincount(group, w, minlength=n_groups)
    return parts[0] / size[:, None], parts[1] / size[:, None, None]


def _sums(values: Array, w: Array, group: Array, n_groups: int) -> Array:
    flat = values.reshape(len(values), -1)
    sums = [np.bincount(group, w * column, minlength=n_groups) for column in flat.T]
    return np.array(sums).T.reshape(n_groups, *values.shape[1:])


@dataclass(frozen=True)
class PosteriorMeans(Abilities):
    """A posterior as `MeanModel` reads a fit: at its means."""

    family: str
    link: str
    coef: Any
    parameters: tuple[Array]
    phi: Array = field(default_factory=lambda: np.zeros(0))  # of families whose mean depends on none

    @classmethod
    def of(cls, fit: Any) -> PosteriorMeans:
        """Take them of a single posterior."""
        return cls(fit.family, fit.link, fit.coef, (parameter_draws(fit).mean(axis=0),))


def parameter_draws(fit: Any) -> Array:
    """Draws of coefficients and variance components (S, P) of a single posterior."""
    names = ["beta", *(["vcov"] if "vcov" in fit.idata["posterior"] else [])]
    return np.hstack([fit.draws(name) for name in names])
