"""Standardise columns before cross-products are formed, and undo it in the estimates. Numpy only.

Cross-products lose digits where a column's mean is large beside its spread. The caller never sees the standardised
scale (theory, eqs. 14-15).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.layout import ThetaLayout, semidefinite_cholesky


@dataclass(frozen=True)
class Scaler:
    """How columns were standardised: ``standard = (raw - shift) / scale``.

    Parameters
    ----------
    shift, scale : ndarray, shape (m,)
        In the raw unit of each column.
    """

    shift: Array
    scale: Array

    @classmethod
    def of(cls, columns: list[Array], centre: list[bool], scaled: list[bool]) -> Scaler:
        """Take mean and standard deviation of each column; the mean only where ``centre`` says so.

        A column that may not be centred is scaled by its root mean square, a constant one by its size; one that may
        not be scaled either stays as it is.
        """
        shift, scale = np.zeros(len(columns)), np.ones(len(columns))
        for j, (column, centred) in enumerate(zip(columns, centre, strict=True)):
            if not scaled[j]:
                continue
            mean = float(column.mean())
            spread = float(column.std())
            if centred and spread > 1e-13 * abs(mean):
                shift[j], scale[j] = mean, spread
            else:
                size = float(np.sqrt(mean**2 + spread**2))
                scale[j] = size if size > 0 else 1.0
        return cls(shift, scale)


@dataclass(frozen=True)
class Columns:
    """Raw columns and which of them are random, fixed and outcomes.

    Parameters
    ----------
    values : list of ndarray, each (n,)
        Distinct columns; a predictor that is random too stands once.
    z, x, y : ndarray of int
        Positions in ``values``: random columns of all levels bottom-up, fixed columns, outcomes.
    scaler : Scaler
    """

    values: list[Array]
    z: Array
    x: Array
    y: Array
    scaler: Scaler

    def standard(self, j: int) -> Array:
        """Give a standardised column (n,)."""
        return (self.values[j] - self.scaler.shift[j]) / self.scaler.scale[j]


@dataclass(frozen=True)
class RandomColumns:
    """Raw columns of one random term: level (0 = lowest), names, values, and whether they may be centred and scaled."""

    level: int
    names: tuple[str, ...]
    values: Sequence[Array]
    centred: bool = True
    scaled: bool = True

    @property
    def intercept(self) -> int | None:
        """Position of the intercept that takes up the shift of the others; None if they are not centred."""
        return self.names.index("Intercept") if self.centred and "Intercept" in self.names else None


@dataclass(frozen=True)
class Transform:
    """The linear maps between the standardised and the raw scale.

    Parameters
    ----------
    A_x : ndarray, shape (p, p)
        Raw beta = y_scale A_x beta + y_shift e_intercept.
    A_z : tuple of ndarray
        Per level, b_raw = y_scale A_z b.
    y_shift, y_scale : float
        Of the outcome.
    intercept : int or None
        Position of the intercept in beta.
    cuts : tuple of int
        Positions of the intercepts that are thresholds, where every threshold has a linear predictor.
    """

    A_x: Array
    A_z: tuple[Array, ...]
    y_shift: float
    y_scale: float
    intercept: int | None
    cuts: tuple[int, ...] = ()

    def beta(self, beta: Array) -> Array:
        """Raw coefficients (p,)."""
        raw = self.y_scale * self.A_x @ beta
        if self.intercept is not None:
            raw[self.intercept] += self.y_shift
        return raw

    def Psi(self, layout: ThetaLayout, theta: Array, sigma: float) -> list[Array]:
        """Raw covariance matrix of the random effects per level."""
        scale = (self.y_scale * sigma) ** 2
        Lambdas = layout.unpack(theta)
        return [scale * A @ L @ L.T @ A.T for A, L in zip(self.A_z, Lambdas, strict=True)]

    def theta(self, layout: ThetaLayout, theta: Array) -> Array:
        """Raw theta: the Cholesky factors of Psi / sigma², as lme4 prints them."""
        out = []
        for A, L, sizes in zip(self.A_z, layout.unpack(theta), layout.blocks, strict=True):
            Psi, new, offset = A @ L @ L.T @ A.T, np.zeros_like(L), 0
            for size in sizes:
                part = slice(offset, offset + size)
                new[part, part] = semidefinite_cholesky(Psi[part, part])
                offset += size
            out.append(new)
        return layout.pack(out)

    def jacobian(self, layout: ThetaLayout, theta: Array, sigma: float) -> Array:
        """Differentiate (raw beta, raw variance components, raw sigma²) with respect to (beta, theta, log sigma).

        Variance components are the lower triangles of the blocks of Psi, column-major, in the order of theta.
        """
        p, t = len(self.A_x), layout.n_theta
        J = np.zeros((p + t + 1, p + t + 1))
        J[:p, :p] = self.y_scale * self.A_x
        scale = (self.y_scale * sigma) ** 2
        Lambdas = layout.unpack(theta)
        row = p
        for level, entries in enumerate(layout.entries):
            A, L = self.A_z[level], Lambdas[level]
            Psi = scale * A @ L @ L.T @ A.T
            for i, j, _ in entries:
                for a, b, k in entries:
                    # dΨ = scale A (E Λ' + Λ E') A' with E a single 1 at (a, b)
                    AL = A @ L
                    J[row, p + k] = scale * (A[i, a] * AL[j, b] + AL[i, b] * A[j, a])
                J[row, -1] = 2.0 * Psi[i, j]
                row += 1
        J[row, -1] = 2.0 * scale
        return J


@dataclass(frozen=True)
class SeveralTransform(Transform):
    """The same of several outcomes: scales of the others are counted in that of the first, which is ``y_scale``.

    Parameters
    ----------
    shifts : tuple of (int or None, float)
        Position of the intercept of every outcome, and the shift that it takes up.
    ratios : ndarray, shape (m,)
        Scale of every outcome relative to that of the first, already in ``A_x`` and ``A_z``.
    """

    shifts: tuple[tuple[int | None, float], ...] = ()
    ratios: Array = field(default_factory=lambda: np.ones(1))

    def beta(self, beta: Array) -> Array:
        """Raw coefficients (p,)."""
        raw = self.y_scale * self.A_x @ beta
        for place, shift in self.shifts:
            if place is not None:
                raw[place] += shift
        return raw


def together(each: Sequence[Transform], of_x: Array, of_z: Sequence[Array], kept: Array) -> SeveralTransform:
    """Join the transforms of the outcomes of a row.

    Parameters
    ----------
    each : sequence of Transform
        One per outcome; they differ in its shift, scale and intercept.
    of_x : ndarray of int, shape (p,)
        Outcome of every fixed column.
    of_z : sequence of ndarray of int, each (q_l,)
        Of the random columns of every level.
    kept : ndarray of int
        Fixed columns in the model.
    """
    ratios = np.array([one.y_scale for one in each]) / each[0].y_scale
    place = {int(j): i for i, j in enumerate(kept)}
    shifts = tuple((None if one.intercept is None else place[one.intercept], one.y_shift) for one in each)
    A_x = (ratios[of_x][:, None] * each[0].A_x)[np.ix_(kept, kept)]
    A_z = tuple(ratios[of][:, None] * A for of, A in zip(of_z, each[0].A_z, strict=True))
    return SeveralTransform(A_x, A_z, each[0].y_shift, each[0].y_scale, shifts[0][0], (), shifts, ratios)


def standardise(
    x: Sequence[Array],
    x_names: Sequence[str],
    random: Sequence[RandomColumns],
    y: Sequence[Array],
    predictors: Sequence[int] = (),
    n_levels: int = 0,
    scaler: Scaler | None = None,
    y_of: Sequence[int] = (),
) -> tuple[Columns, list[Transform]]:
    """Choose shifts and scales, share equal columns, and write down the way back.

    Parameters
    ----------
    x : sequence of ndarray, each (n,)
    x_names : sequence of str
    random : sequence of RandomColumns
        Bottom-up by level.
    y : sequence of ndarray, each (n,)
        Outcomes.
    predictors : sequence of int, length p, optional
        Linear predictor of every fixed column, ascending; nothing means that there is one.
    n_levels : int
        Number of levels, of which the uppermost may have no random term.
    scaler : Scaler, optional
        That of other rows of the same columns, to be used here too.
    y_of : sequence of int, optional
        Linear predictor of every outcome; nothing means the first.

    Returns
    -------
    Columns
    list of Transform
        One per outcome.

    Notes
    -----
    A column is centred only if the model has an intercept that can take up the shift: the fixed one of the same linear
    predictor for X, that of the mean for y, the one of the same correlated term for Z.
    """
    of = np.array(predictors or [0] * len(x_names), dtype=int)
    intercepts = {int(of[j]): j for j, name in enumerate(x_names) if name == "Intercept"}
    shared = _Shared()
    x_at = [shared.place(n, c, int(k) in intercepts) for n, c, k in zip(x_names, x, of, strict=True)]
    z_at = [
        np.array(
            [
                shared.place(n, c, term.intercept is not None, scaled=term.scaled)
                for n, c in zip(term.names, term.values, strict=True)
            ]
        )
        for term in random
    ]
    y_of = y_of or [0] * len(y)
    every = enumerate(zip(y, y_of, strict=True))
    y_at = [shared.place(f"outcome {k}", outcome, a in intercepts, alone=True) for k, (outcome, a) in every]
    scaler = scaler or Scaler.of(shared.values, shared.centre, shared.scaled)
    A_x = []
    for k in np.unique(of):
        mine, at_one = np.flatnonzero(of == k), intercepts.get(int(k))
        A_x.append(_map(np.array(x_at)[mine], scaler, None if at_one is None else at_one - int(mine[0])))
    n_levels = max(n_levels, 1 + max((term.level for term in random), default=-1))
    A_z: list[list[Array]] = [[] for _ in range(n_levels)]
    for term, at in zip(random, z_at, strict=True):
        A_z[term.level].append(_map(at, scaler, term.intercept))
    z = np.array([i for at in z_at for i in at], dtype=int)
    columns = Columns(shared.values, z, np.array(x_at, dtype=int), np.array(y_at), scaler)
    way_x, way_z = _block_diagonal(A_x), tuple(_block_diagonal(parts) for parts in A_z)
    pairs = [(i, intercepts.get(a)) for i, a in zip(y_at, y_of, strict=True)]
    shift, scale = scaler.shift, scaler.scale
    return columns, [Transform(way_x, way_z, float(shift[i]), float(scale[i]), place) for i, place in pairs]


class _Shared:
    """Distinct columns, and whether each is centred; one that is asked for again under its name stands once."""

    def __init__(self) -> None:
        self.values: list[Array] = []
        self.centre: list[bool] = []
        self.scaled: list[bool] = []
        self._places: dict[tuple[str, bool, bool], int] = {}

    def place(self, name: str, column: Array, centred: bool, alone: bool = False, scaled: bool = True) -> int:
        """Give the place of a column, which stays as it is if it is the intercept; ``alone`` is never shared."""
        key = (name, centred and name != "Intercept", scaled)
        if key not in self._places or alone:
            self._places[key] = len(self.values)
            self.values.append(column)
            self.centre.append(key[1])
            self.scaled.append(scaled)
        return self._places[key]


def _map(at: Array, scaler: Scaler, intercept: int | None) -> Array:
    """Matrix A with standardised columns = raw columns times A."""
    A = np.diag(1.0 / scaler.scale[at])
    if intercept is not None:
        others = np.arange(len(at)) != intercept
        A[intercept, others] = -scaler.shift[at][others] / scaler.scale[at][others]
    return A


def _block_diagonal(parts: Sequence[Array]) -> Array:
    n = sum(len(part) for part in parts)
    out, offset = np.zeros((n, n)), 0
    for part in parts:
        out[offset : offset + len(part), offset : offset + len(part)] = part
        offset += len(part)
    return out
