"""The closed form under a residual structure: cross-products depend on ρ, which is climbed together with theta.

The rows are read again at every point (residuals, eqs. 1-4); from there on nothing differs from independent residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import Point
from pmwmix.likelihood.elimination import Lift
from pmwmix.likelihood.jets import Jet
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure
from pmwmix.likelihood.linear.direct import DirectNested, Moments
from pmwmix.likelihood.linear.residualobjective import ResidualObjective
from pmwmix.likelihood.linear.residuals import Places, Reported, Residual
from pmwmix.likelihood.linear.stacks import Rows, Stack, cross_products, stack
from pmwmix.likelihood.linear.start import starting_theta
from pmwmix.likelihood.paths import inner_weight
from pmwmix.likelihood.standardise import Columns

LARGE = 20_000  # rows from which on a climb has one start
SETTLED = 1e-8  # change of the logarithm of fitted values in a variance, from one fit to the next


@dataclass(frozen=True)
class Source:
    """Rows, the structure of their residuals, and which standardised columns the model has.

    Parameters
    ----------
    rows : Rows
    residual : Residual
    kept : ndarray of int
        Fixed columns in the model.
    fitted : int or None
        Which of the columns of log standard deviations is the logarithm of the fitted values.
    offset : ndarray, shape (n,), or None
        Part of the fitted values that is not estimated.
    """

    rows: Rows
    residual: Residual
    kept: Array
    fitted: int | None = None
    offset: Array | None = None


@dataclass(frozen=True)
class _Here:
    """Cross-products at one point: of [X, y] per lowest unit (G_1, p + 1, p + 1), and log det R (G_1, 1, 1)."""

    XY: Jet
    log_det: Jet
    moments: Moments


class StructuredNested(DirectNested):
    """The recursion over the levels, begun with cross-products that depend on ρ.

    Parameters
    ----------
    source : Source
    blocks : Blocks
        Of independent residuals: their tree and weights count.
    layout : ThetaLayout
    reml : bool
    """

    def __init__(self, source: Source, blocks: Blocks, layout: ThetaLayout, reml: bool) -> None:
        super().__init__(blocks, layout, reml)
        self.source, self.n_rho = source, source.residual.n_rho
        self.inner = Lift.of(self.paths[0][0], inner_weight(blocks.parents, blocks.w))
        self._stacks: dict[int, tuple[Array, Array, list[Stack]]] = {}
        self._last: tuple[bytes, int, _Here] | None = None

    def _stacked(self, k: int) -> tuple[Array, Array, list[Stack]]:
        """Positions of the random columns and of [X, y] among the stacked ones, and the stacks."""
        if k not in self._stacks:
            columns = self.source.rows.columns
            wanted = [*columns.z, *columns.x[self.source.kept], columns.y[k]]
            which = list(dict.fromkeys(int(j) for j in wanted))
            at = np.array([which.index(int(j)) for j in wanted])
            Q = len(columns.z)
            self._stacks = {k: (at[:Q], at[Q:], stack(self.source.rows, self.source.residual, which))}
        return self._stacks[k]

    def here(self, climbed: Array, k: int) -> _Here:
        """Form the cross-products at (theta, ρ); those of the last point are kept."""
        rho = np.asarray(climbed[self.layout.n_theta :], dtype=float)
        if self._last is None or self._last[:2] != (rho.tobytes(), k):
            self._last = (rho.tobytes(), k, self._form(rho, k))
        return self._last[2]

    def moments(self, climbed: Array, k: int) -> Moments:
        """Give the cross-products with their derivatives in ρ."""
        return self.here(climbed, k).moments

    def _form(self, rho: Array, k: int) -> _Here:
        z, xy, stacks = self._stacked(k)
        C, log_det = cross_products(stacks, self.source.residual, rho, self.source.rows.n_units)
        zz, sides, XY = (C.map(_picked, rows, columns) for rows, columns in ((z, z), (z, xy), (xy, xy)))
        w = self.paths[0][1]
        p, upper = len(xy) - 1, self.inner(XY.value)
        rows, columns = np.tril_indices(len(z))
        blocks = replace(
            self.blocks,
            zz=zz.value[:, rows, columns].T,
            zx=sides.value[:, :, :p].transpose(1, 2, 0),
            zy=sides.value[:, :, p].T[None],
            xx=upper[:, :p, :p].transpose(1, 2, 0),
            xy=upper[:, :p, p].T[None],
            yy=upper[:, p, p][None],
        )
        moments = Moments(zz, sides, XY.map(_total, w), log_det.map(_total, w), blocks, 0)
        return _Here(XY, log_det, moments)

    def unit_shares(self, climbed: Array, beta: Array, k: int) -> dict[str, Any]:
        """Add what ρ changes in the rows alone."""
        out, here, r = super().unit_shares(climbed, beta, k), self.here(climbed, k), np.append(-beta, 1.0)[:, None]
        lift, t = self.to_top[0], self.layout.n_theta
        out["D_unit"] = out["D_unit"] + lift(here.log_det.value)[:, 0, 0]
        out["D_score"][t:] += lift(here.log_det.first)[..., 0, 0]
        out["Q_score"][t:] += lift(r.T @ here.XY.first @ r)[..., 0, 0]
        return out

    def reml_scores(self, climbed: Array) -> Array:
        """Share of every top-level unit in the gradient of log det X'V⁻¹X, (n_theta + n_rho, G_L)."""
        out, here = super().reml_scores(climbed), self.here(climbed, 0)
        p = len(self.source.kept)
        inverse = np.linalg.inv(self(climbed, 0)["S_xx"])
        own = np.einsum("ab,rgab->rg", inverse, here.XY.first[..., :p, :p])
        out[self.layout.n_theta :] += self.to_top[0](own[..., None, None])[..., 0, 0]
        return out


def _picked(values: Array, rows: Array, columns: Array) -> Array:
    return values[..., rows[:, None], columns]


def _total(values: Array, w: Array) -> Array:
    return np.einsum("g,...grs->...rs", w, values)


class StructuredObjective(ResidualObjective):
    """Minus the profiled pseudo-log-likelihood under a residual structure (residuals, eqs. 1-4).

    Parameters
    ----------
    blocks : Blocks
        Cross-products of independent residuals.
    structure : Structure
    source : Source
    engine : str
        As it was asked for; numpy evaluates.
    """

    def __init__(self, blocks: Blocks, structure: Structure, source: Source, engine: str = "auto") -> None:
        self.blocks, self.structure, self.source, self.engine = blocks, structure, source, engine
        self.n_calls, self.n_rho, self.layout = (
            0,
            source.residual.n_rho,
            structure.layout if structure.layout.q else ThetaLayout(((),)),
        )
        self.direct: StructuredNested = StructuredNested(source, blocks, self.layout, structure.reml)

    def blocks_at(self, climbed: Array, k: int) -> tuple[Blocks, int]:
        """Give the cross-products at a point, of one outcome."""
        return self.direct.moments(climbed, k).blocks, 0

    def modes(self, point: Point, k: int = 0) -> list[tuple[Array, Array]]:
        """Conditional modes (G_l, q_l) and their covariances (G_l, q_l, q_l), bottom-up (theory, eqs. 16-17)."""
        return super().modes(point, k) if self.structure.layout.q else []

    def start(self, k: int = 0) -> Array:
        """Moment estimates of theta, and some correlation."""
        return self.starts(k)[0]

    def starts(self, k: int = 0) -> list[Array]:
        """List starts with some, little and much correlation; in large data the first of them alone.

        What is correlation of residuals and what random effects is told apart by shape alone, so that small data often
        have several maxima.
        """
        theta = starting_theta(self.blocks, self.structure.layout, k)
        every = [np.append(theta, rho) for rho in self.source.residual.starts]
        return every[: len(every) if len(self.source.rows.order) <= LARGE else 1]

    def report(self, climbed: Array) -> Reported:
        """Give the structure's parameters as they are reported."""
        return self.source.residual.report(np.asarray(climbed[self.structure.layout.n_theta :], dtype=float))

    def renewed(self, point: Point | None, k: int) -> StructuredObjective | None:
        """Take the fitted values of a point, or of least squares before there is any, for those in a variance.

        Returns
        -------
        StructuredObjective or None
            None if they have not moved, or are in no variance.
        """
        at, spread = self.source.fitted, self.source.residual.spread
        if at is None or spread is None:
            return None
        fitted = np.abs(self._fitted(point, k))
        logs = spread.values.copy()
        logs[at] = np.log(np.maximum(fitted, 1e-8 * fitted.mean()))
        if np.abs(logs[at] - spread.values[at]).max() < SETTLED:
            return None
        source = replace(self.source, residual=self.source.residual.with_values(logs))
        return StructuredObjective(self.blocks, self.structure, source, self.engine)

    def _fitted(self, point: Point | None, k: int) -> Array:
        """Fitted values of the rows (n,) on the raw scale, random effects included."""
        columns, rows = self.source.rows.columns, self.source.rows
        S, p = self.blocks.S0(k), self.structure.p
        beta = np.linalg.solve(S[:p, :p], S[:p, p]) if point is None else point.beta
        out = sum((b * columns.standard(j) for b, j in zip(beta, columns.x[self.source.kept], strict=True)), 0.0)
        unit, z = np.empty(len(rows.order), dtype=np.int64), iter(columns.z)
        unit[rows.order] = np.repeat(np.arange(rows.n_units), np.diff(rows.starts))
        for level, (b, _) in enumerate([] if point is None else self.modes(point, k)):
            unit = self.blocks.parents[level - 1][unit] if level else unit
            out = out + sum(effect[unit] * columns.standard(next(z)) for effect in b.T)
        raw = columns.scaler.shift[columns.y[k]] + columns.scaler.scale[columns.y[k]] * out
        return raw if self.source.offset is None else raw + self.source.offset

    def relative_sd(self, point: Point) -> Array:
        """Give the residual standard deviation of every row relative to sigma (n,), in the order of the table."""
        residual = self.source.residual
        if residual.spread is None:
            return np.ones(len(self.source.rows.order))
        delta = point.theta[len(point.theta) - residual.n_rho + residual.n_correlation :]
        return np.exp(delta @ residual.spread.standard)

    def whitened(self, point: Point, values: Array) -> Array:
        """Multiply rows (n,), in the order of the table, with a square root of R⁻¹: residuals become uncorrelated."""
        rows, residual = self.source.rows, self.source.residual
        rho = point.theta[len(point.theta) - residual.n_rho :]
        ordered, out = (values / self.relative_sd(point))[rows.order], np.empty(len(values))
        alone = replace(residual, spread=None)
        if residual.correlation is None:
            return values / self.relative_sd(point)
        for _, index, where in rows.alike(1):
            at = Places(where, np.zeros((0, *index.shape)), None)
            white, _ = alone.whiten(rho[: residual.n_correlation], ordered[index][:, :, None], at)
            out[rows.order[index]] = white.value[:, :, 0]
        return out

    def coloured(self, point: Point, values: Array) -> Array:
        """Undo `whitened`: independent numbers of variance 1 get the covariance R (bootstrap, eq. 1b)."""
        rows, residual = self.source.rows, self.source.residual
        if residual.correlation is None:
            return values * self.relative_sd(point)
        rho = point.theta[len(point.theta) - residual.n_rho :][: residual.n_correlation]
        ordered, out, alone = values[rows.order], np.empty(len(values)), replace(residual, spread=None)
        for _, index, where in rows.alike(1):
            one = np.eye(index.shape[1])
            at = Places(where, np.zeros((0, *index.shape)), None)
            white, _ = alone.whiten(rho, np.broadcast_to(one, (len(where), *one.shape)), at)
            out[rows.order[index]] = np.linalg.solve(white.value, ordered[index][:, :, None])[:, :, 0]
        return out * self.relative_sd(point)

    def scores(self, point: Point, k: int = 0) -> Array:
        """Gradient of the share of each independent unit, (G, P): of rows where there is nothing else."""
        if self.structure.layout.q or self.source.residual.correlation is not None:
            return super().scores(point, k)
        return self._by_row().of_units(point, k)

    def of_units(self, point: Point, k: int) -> Array:
        """Give the scores of the top-level units, whatever they are."""
        return super().scores(self.at(point.theta, k), k)

    def _by_row(self) -> StructuredObjective:
        """Give the same with every row a unit of its own."""
        rows = self.source.rows
        n = len(rows.order)
        back = np.argsort(rows.order)
        single = replace(rows, order=np.arange(n), starts=np.arange(n + 1), where=rows.where[back])
        single = replace(single, w=None if rows.w is None else rows.w[back])
        n_w = np.ones(n) if single.w is None else single.w
        blocks = replace(self.blocks, w=(np.ones(n),), n_w=n_w)
        return StructuredObjective(blocks, self.structure, replace(self.source, rows=single), self.engine)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the data."""
        return StructuredObjective, (self.blocks, self.structure, self.source, self.engine)


def sorted_rows(columns: Columns, starts: Array, order: Array | None, where: Array, w: Array | None) -> Rows:
    """Sort the rows of every unit by their places, first coordinate first.

    Parameters
    ----------
    columns : Columns
    starts : ndarray of int, shape (G + 1,)
    order : ndarray of int, shape (n,), or None
        Row order that makes units contiguous; None if they are.
    where : ndarray, shape (n, d)
        In the order of the table.
    w : ndarray, shape (n,), or None
        In the order of the table.
    """
    order = np.arange(len(where)) if order is None else order
    unit = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    keys: Sequence[Array] = [*where[order].T[::-1], unit]
    order = order[np.lexsort(keys)]
    return Rows(columns, order, starts, where[order], None if w is None else w[order])
