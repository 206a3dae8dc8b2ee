"""The profiled objective of a linear model with crossed random effects at a point theta; see `objective.Objective`.

Numbers in, numbers out; the graph is written in `lineargraph.py`. All quantities are those of the standardised
data.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.interrupt import whole_import
from pmwmix.likelihood.contract import LOG_2PI, Likelihood, Point, joint_information, schur_onto
from pmwmix.likelihood.crossed.direct import DirectCrossed
from pmwmix.likelihood.crossed.gram import MAX_LISTED
from pmwmix.likelihood.crossed.products import cross_products
from pmwmix.likelihood.crossed.stagedpoint import StagedPoint
from pmwmix.likelihood.crossed.units import Crossing, JointFactor, bucket_dense, in_numpy, padded_cells
from pmwmix.likelihood.engine import Compiled, bucket, bucket_columns, compiled
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure
from pmwmix.likelihood.linear.objective import profiled_point
from pmwmix.likelihood.standardise import Columns

START = 0.4  # standard deviation of the effects that a climb starts from, in residual ones
APPROACHES, GROWTH = 5, (0.1, 10.0)  # steps before a climb at most, and what they may multiply a variance with
NEAR = 0.3  # relative change of all variances that is small enough to begin the climb


class CrossedLinearObjective(Likelihood):
    """Minus the profiled pseudo-log-likelihood of a model with crossed factors (crossed, eqs. 8-11).

    Parameters
    ----------
    blocks : Blocks
        Cross-products of fixed columns and outcomes per independent part of the sample.
    structure : Structure
    crossing : Crossing
    columns : Columns
        Raw columns.
    kept : ndarray of int
        Fixed columns in the model.
    w : ndarray, shape (n,)
        Weights of the rows.
    engine : str
    """

    closed_form, crossed = True, True

    def __init__(
        self,
        blocks: Blocks,
        structure: Structure,
        crossing: Crossing,
        columns: Columns,
        kept: Array,
        w: Array,
        engine: str = "auto",
    ) -> None:
        self.blocks, self.structure, self.crossing, self.engine = blocks, structure, crossing, engine
        self._columns, self._kept, self._w = columns, kept, w
        self.products = cross_products(columns, kept, crossing, w)
        self.n_calls = 0
        self._lengths = (bucket(crossing.n_units[0]), bucket_dense(crossing.n_dense))
        self._outcomes: dict[int, list[Any]] = {}
        self.direct = DirectCrossed(self.products, crossing) if in_numpy(structure.layout, engine) else None

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code evaluates it."""
        return self.direct is None

    @cached_property
    def padded(self) -> Any:
        """What the graphs are written for."""
        s = self.structure
        return _graphs().CrossedLinearStructure(s.layout, bucket_columns(s.p), s.reml, sparse=self.crossing.sparse)

    @cached_property
    def function(self) -> Compiled:
        """The compiled graph."""
        return compiled(_graphs().crossed_objective_graph, self.padded, self.engine)

    @cached_property
    def _shared(self) -> tuple[list[Any], list[Any]]:
        return self._put_shared()

    @cached_property
    def n_free(self) -> float:
        """N of the profiled deviance: weighted rows, minus p under REML."""
        return self.blocks.n_total - (self.structure.p if self.structure.reml else 0)

    def _put_shared(self) -> tuple[list[Any], list[Any]]:
        """Put what all outcomes share, before and after what they do not."""
        front, back = self._shared_arrays(self.padded.p)
        return self.function.put(front), self.function.put(back)

    def arrays(self, k: int) -> list[Array]:
        """List the data of outcome ``k`` in the order of `CrossedInputs.flat`, fixed columns as they are."""
        G, D = self._lengths
        front, back = self._shared_arrays(self.structure.p)
        own_y, dense_y = self.products.own_y[k], self.products.dense_y[k]
        return [*front, _grow(own_y, (len(own_y), G)), _grow(dense_y, (D,)), self.blocks.S0(k), *back]

    def draw(self, point: Any, k: int, rng: np.random.Generator) -> list[Array]:
        """Draw the effects (q_f, G_f) of every factor given data and parameters (crossed, eq. 11).

        Right-hand sides with noise of covariance M give solutions with that of M⁻¹.
        """
        crossing = self.crossing
        found, Z, q = self._factor(point.theta), self._random_columns(), crossing.q[0]
        noise = point.sigma * np.sqrt(self._w) * rng.standard_normal(len(self._w))
        own, dense = self._left(point, k)
        own = own + np.array([np.bincount(crossing.index[0], z * noise, crossing.n_units[0]) for z in Z[:q]])
        dense = dense + sum(
            np.bincount(place, z * noise, crossing.n_dense) for z, place in zip(Z[q:], crossing.place, strict=True)
        )
        low, rest = self._whitened(point.theta, own, dense)
        low = low + point.sigma * rng.standard_normal(low.shape)
        return self._effects(point.theta, found.solve(low, rest + point.sigma * rng.standard_normal(rest.shape)))

    def _shared_arrays(self, p: int) -> tuple[list[Array], list[Array]]:
        """List what all outcomes share, with ``p`` fixed columns, before and after what they do not."""
        G, D = self._lengths
        blocks, crossing = self.products, self.crossing
        partner, entry, there = dense_map(crossing, self.structure.layout.entries[1:], D)
        part_of_unit, part_of_place = self._parts()
        parts = [part_of_unit, np.broadcast_to(part_of_place, partner.shape)]
        back = [partner, entry, there, *parts, np.arange(G), np.arange(D), np.arange(len(self.blocks.n_w))]
        back.append(np.array([float(self.n_free)]))
        cross = (bucket(len(crossing.cells.unit)),) if crossing.sparse else (G, D)
        if crossing.sparse:
            back += [cell_map(crossing, partner, cross[0]), *padded_cells(crossing)]
        front = [
            _grow(blocks.own, (len(blocks.own), G)),
            _grow(blocks.cross, (len(blocks.cross), *cross)),
            _grow(blocks.dense, (D, D)),
            _grow(blocks.own_x, (len(blocks.own_x), p, G)),
            _grow(blocks.dense_x, (p, D)),
        ]
        return front, back

    def _parts(self) -> tuple[Array, Array]:
        """Independent part of every unit of the eliminated factor and of every place of the dense block, padded."""
        G, D = self._lengths
        unit, place = np.zeros(G, dtype=np.int64), np.zeros(D, dtype=np.int64)
        unit[self.crossing.index[0]] = self.crossing.part
        place[self.crossing.place] = self.crossing.part
        return unit, place

    def _data(self, k: int) -> list[Any]:
        if k not in self._outcomes:
            G, D = self._lengths
            own_y, dense_y = self.products.own_y[k], self.products.dense_y[k]
            S0, p, P = self.blocks.S0(k), self.structure.p, self.padded.p
            padded = np.eye(P + 1)  # keeps the zero columns positive definite and changes nothing else
            at = np.append(np.arange(p), P)
            padded[np.ix_(at, at)] = S0
            self._outcomes = {k: self.function.put([_grow(own_y, (len(own_y), G)), _grow(dense_y, (D,)), padded])}
        front, back = self._shared
        return [*front, *self._outcomes[k], *back]

    def at(self, theta: Array, k: int = 0) -> Point | StagedPoint:
        """Evaluate outcome ``k`` at theta (n_theta,)."""
        self.n_calls += 1
        theta = np.array(theta, dtype=float)
        if self.direct is not None:
            return StagedPoint(partial(self._direct_at, theta, k), self.direct.forget)
        raw = self._graph_at(theta, k)
        p, n, sigma2 = self.structure.p, self.n_free, float(raw["sigma2"])
        S_xx, beta, Q_t = np.asarray(raw["S_xx"])[:p, :p], np.asarray(raw["beta"])[:p], np.asarray(raw["Q_t"])
        value = 0.5 * (n * (LOG_2PI + np.log(sigma2) + 1.0) + float(raw["D"]))
        second = 0.5 * np.asarray(raw["F_tt"])
        information = joint_information(S_xx, np.asarray(raw["Q_tb"])[:, :p], second, Q_t, sigma2, n)
        hessian = schur_onto(information, slice(p, p + len(theta)))
        gradient, sigma = 0.5 * np.asarray(raw["F_t"]), float(np.sqrt(sigma2))
        raw = {**raw, "S_xx": S_xx}
        return Point(theta, beta, sigma, value, gradient, hessian, information, raw)

    def start(self, k: int = 0) -> Array:
        """Give a theta to climb from for outcome ``k``: a few steps towards the stationary point (crossed, eq. 12)."""
        theta = self.structure.layout.start(START)
        if self.direct is None:
            return theta
        for _ in range(APPROACHES):
            gradient, excess = self.at(theta, k).gradient, self.direct.inverse(theta).excess
            grown = np.clip(1.0 + gradient * theta**3 / np.where(excess < 0.0, excess, -np.inf), *GROWTH)
            theta = theta * np.sqrt(grown)
            if np.abs(grown - 1.0).max() < NEAR:
                break
        return theta

    def _direct_at(self, theta: Array, k: int, order: int) -> Point:
        assert self.direct is not None
        raw = self.direct.outputs(theta, k, self.blocks.S0(k), self.structure.reml, order)
        return profiled_point(theta, raw, self.n_free)

    def _graph_at(self, theta: Array, k: int) -> dict[str, Any]:
        return self.function(theta, self._data(k))

    def scores(self, point: Point, k: int = 0) -> Array:
        """Gradient of each independent part's log-likelihood (C, P); not of the restricted one."""
        blocks, beta, sigma2 = self.blocks, point.beta, point.sigma**2
        raw = point.raw if "F_score" in point.raw else self._graph_at(point.theta, k)
        by_theta = np.asarray(raw["F_score"])
        xr = blocks.xy[k] - blocks.xx_times(beta)
        rr = blocks.yy[k] - beta @ (blocks.xy[k] + xr)
        by_beta = (xr - 0.5 * np.asarray(raw["b_score"])[: self.structure.p]) / sigma2
        by_sigma = (rr - np.asarray(raw["lost"])) / sigma2 - blocks.n_w
        return np.concatenate([by_beta, -0.5 * by_theta, by_sigma[None]]).T

    def row_scores(self, point: Point, k: int = 0) -> Array:
        """Gradient in the coefficients by rows (n, p), each linear in the row's own residual (crossed, eq. 18)."""
        X = np.array([self._standard(int(j)) for j in self._columns.x[self._kept]]).reshape(-1, len(self._w))
        left = self._standard(int(self._columns.y[k])) - point.beta @ X
        found, Z = self._factor(point.theta), self._random_columns()
        out = np.empty((len(left), len(X)))
        for a, column in enumerate(X):
            z, white = iter(Z), column.copy()
            of_column = self._whitened(point.theta, self.products.own_x[:, a], self.products.dense_x[a])
            for index, b in zip(self.crossing.index, self._effects(point.theta, found.solve(*of_column)), strict=True):
                white -= sum(effect[index] * next(z) for effect in b)
            out[:, a] = self._w * white * left / point.sigma**2  # white is WV⁻¹ of the column
        return out

    def _random_columns(self) -> list[Array]:
        return [self._standard(int(j)) for j in self._columns.z]

    def _factor(self, theta: Array) -> JointFactor:
        return JointFactor(self.crossing, self.structure.layout, theta, self._random_columns(), self._w)

    def _left(self, point: Point, k: int) -> tuple[Array, Array]:
        """Give cross-products of the random columns with what the fixed part leaves of an outcome (q_0, G_0), (D,)."""
        products = self.products
        own = products.own_y[k] - np.einsum("apg,p->ag", products.own_x, point.beta)
        return own, products.dense_y[k] - point.beta @ products.dense_x

    def _whitened(self, theta: Array, own: Array, dense: Array) -> tuple[Array, Array]:
        """Multiply cross-products with Λ'; those of the dense block become one vector."""
        Lambdas = self.structure.layout.unpack(theta)
        high = [L.T @ part for L, part in zip(Lambdas[1:], self.crossing.by_factor(dense), strict=True)]
        return Lambdas[0].T @ own, np.concatenate([part.ravel() for part in high])

    def _effects(self, theta: Array, solved: tuple[Array, Array]) -> list[Array]:
        """Turn whitened effects into those (q_f, G_f) of every factor."""
        whitened = [solved[0], *self.crossing.by_factor(solved[1])]
        return [L @ part for L, part in zip(self.structure.layout.unpack(theta), whitened, strict=True)]

    def contrast_derivative(self, theta: Array, U: Array) -> Array:
        """Differentiate, (n_theta, m), u'S_xx u with respect to theta for the columns u of ``U`` (p, m)."""
        if self.direct is not None:
            found = self.direct.outputs(np.asarray(theta, dtype=float), 0, self.blocks.S0(0), self.structure.reml, 1)
            S_xx_t = found["S_xx_t"]
            return np.einsum("am,kab,bm->km", U, S_xx_t, U)
        function = compiled(_graphs().crossed_contrast_graph, replace(self.padded, reml=False), self.engine)
        padded = np.pad(U, [(0, self.padded.p - len(U)), (0, 0)])
        columns = [np.ascontiguousarray(u) for u in padded.T]
        return np.array(
            [np.asarray(function(np.asarray(theta, float), [u, *self._data(0)])["uSu_t"]) for u in columns]
        ).T

    def modes(self, point: Point, k: int = 0) -> list[tuple[Array, Array]]:
        """Conditional modes (G_f, q_f) and their covariances (G_f, q_f, q_f) per factor, standardised."""
        found = self._factor(point.theta)
        effects = self._effects(point.theta, found.solve(*self._whitened(point.theta, *self._left(point, k))))
        return [(values.T, point.sigma**2 * V) for values, V in zip(effects, found.covariances(), strict=True)]

    def _standard(self, j: int) -> Array:
        scaler = self._columns.scaler
        return (self._columns.values[j] - scaler.shift[j]) / scaler.scale[j]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the data; compiled code is made again where it is needed."""
        given = (self.blocks, self.structure, self.crossing, self._columns, self._kept, self._w, self.engine)
        return CrossedLinearObjective, given


def numbers_held(crossing: Crossing, layout: ThetaLayout, engine: str) -> float:
    """Estimate how many numbers of 8 bytes are held at once; for compiled code as measured with four thetas."""
    dense, met = float(crossing.n_dense) ** 2, float(crossing.n_met)
    if in_numpy(layout, engine):
        return 8.0 * dense + 1.5 * min(met, MAX_LISTED)
    return layout.n_theta * (16.0 * dense + 8.0 * met)


def _graphs() -> Any:
    whole_import("pytensor")
    from pmwmix.likelihood.crossed import lineargraph  # PyTensor is imported where a graph is compiled

    return lineargraph


def dense_map(crossing: Crossing, entries: Any, length: int) -> tuple[Array, Array, Array]:
    """Lay the columns of Lambda out over the dense block: raw partner, entry of theta, whether there is one, (m, D).

    Parameters
    ----------
    crossing : Crossing
    entries : sequence of sequence of (int, int, int)
        Per factor of the dense block, as in `ThetaLayout.entries`.
    length : int
        D, padded.
    """
    m = max(crossing.q[1:])
    partner = np.tile(np.arange(length), (m, 1))
    entry, there = np.zeros((m, length), dtype=np.int64), np.zeros((m, length))
    for q_entries, G, start in zip(entries, crossing.n_units[1:], crossing.starts, strict=False):
        units = np.arange(G)
        for i, j, k in q_entries:
            at = start + j * G + units
            partner[i - j, at] = start + i * G + units
            entry[i - j, at], there[i - j, at] = k, 1.0
    return partner, entry, there


def cell_map(crossing: Crossing, partner: Array, length: int) -> Array:
    """Find, for every cell and d, the cell of the same unit whose raw effect stands d terms further on, (m, N)."""
    cells, D = crossing.cells, crossing.n_dense
    keys = cells.unit * D + cells.place
    wanted = cells.unit * D + partner[:, cells.place]
    out = np.tile(np.arange(length), (len(partner), 1))  # padding refers to itself, which is zero
    out[:, : len(keys)] = np.searchsorted(keys, wanted)
    return out


def _grow(values: Array, shape: tuple[int, ...]) -> Array:
    """Pad with zeros at the end of every axis."""
    return np.pad(values, [(0, n - old) for n, old in zip(shape, values.shape, strict=True)])
