"""The profiled objective of a Gaussian model at a point theta, with everything that inference needs from it.

Numbers in, numbers out; the graph is written in `nested.py` and compiled in `engine.py`. All quantities are those
of the standardised data; `standardise.py` undoes that.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.interrupt import whole_import
from pmwmix.likelihood.contract import LOG_2PI, Likelihood, Point, joint_information, schur_onto
from pmwmix.likelihood.engine import AUTO, DIRECT, Compiled, bucket, bucket_columns, compiled, is_direct
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure
from pmwmix.likelihood.linear.direct import DirectNested, predicted_seconds
from pmwmix.likelihood.linear.modes import conditional_modes, factor_blocks
from pmwmix.likelihood.linear.moments import OneLevelMoments
from pmwmix.likelihood.linear.start import starting_theta


class Objective(Likelihood):
    """Minus the profiled pseudo-log-likelihood of one outcome (theory, eqs. 10-12).

    Parameters
    ----------
    blocks : Blocks
        Cross-products of standardised columns.
    structure : Structure
    engine : str
        Name in `ENGINES`.

    Notes
    -----
    Units are padded with empty ones, fixed columns with zero columns whose coefficients are zero, up to a few sizes
    (`engine.bucket`, `engine.bucket_columns`): they add exactly nothing, and models of like size share compiled code.
    """

    closed_form = True

    def __init__(self, blocks: Blocks, structure: Structure, engine: str = "auto") -> None:
        self.blocks, self.structure, self.engine = blocks, structure, engine
        self.n_calls = 0
        kind = OneLevelMoments if len(structure.layout.q) == 1 else DirectNested
        self.direct = kind(blocks, structure.layout, structure.reml) if self._is_direct() else None
        self._outcomes: dict[int, list[Any]] = {}

    def _is_direct(self) -> bool:
        """Whether numpy will have fitted the outcomes before a compiler could; one level of groups needs none."""
        layout = self.structure.layout
        if len(layout.q) == 1:
            return self.engine in (AUTO, DIRECT)
        seconds = self.blocks.yy.shape[-2] * predicted_seconds(self.blocks, layout)
        compiling = 1.5 + 3.0 * (len(layout.q) - 1)
        return is_direct(self.engine, seconds, self.padded, compiling)

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code evaluates it."""
        return self.direct is None

    @cached_property
    def padded(self) -> Structure:
        """What the graphs are written for."""
        return replace(self.structure, p=bucket_columns(self.structure.p))

    @cached_property
    def function(self) -> Compiled:
        """The compiled graph."""
        return compiled(_graphs().objective_graph, self.padded, self.engine)

    @cached_property
    def _shared(self) -> list[Any]:
        return self.function.put(self._padded())

    def _padded(self) -> list[Array]:
        """List the data of all outcomes in the order of `nested.Inputs.flat`, without zy and S0."""
        blocks = self.blocks
        sizes = [bucket(n) for n in blocks.n_units]
        levels = range(len(sizes))
        paths = blocks.paths()
        return [
            _pad(blocks.zz, sizes[0]),
            _pad(np.pad(blocks.zx, [(0, 0), (0, self.padded.p - self.structure.p), (0, 0)]), sizes[0]),
            *(_pad(blocks.parents[level], sizes[level]) for level in levels[:-1]),
            *(_pad(paths[level][0], sizes[level]) for level in levels[:-1]),
            *(_pad(blocks.w[level], sizes[level]) for level in levels),
            *(_pad(paths[level][1], sizes[level]) for level in levels),
        ]

    def _data(self, k: int) -> list[Any]:
        if k not in self._outcomes:
            zy = _pad(self.blocks.zy[k], bucket(self.blocks.n_units[0]))
            self._outcomes = {k: self.function.put([zy, self._padded_total(k)])}
        zy, S0 = self._outcomes[k]
        return [self._shared[0], self._shared[1], zy, S0, *self._shared[2:]]

    def _padded_total(self, k: int) -> Array:
        """S0 with an identity for the zero columns, which keeps it positive definite and changes nothing else."""
        S0, p, P = self.blocks.S0(k), self.structure.p, self.padded.p
        at = np.append(np.arange(p), P)
        out = np.eye(P + 1)
        out[at[:, None], at] = S0
        return out

    @cached_property
    def n_free(self) -> float:
        """N of the profiled deviance: weighted rows, minus p under REML."""
        return self.blocks.n_total - (self.structure.p if self.structure.reml else 0)

    def at(self, theta: Array, k: int = 0) -> Point:
        """Evaluate outcome ``k`` at theta (n_theta,)."""
        self.n_calls += 1
        theta = np.array(theta, dtype=float)
        raw, p = self._evaluate(theta, k), self.structure.p
        if self.direct is None:
            raw |= {"S_xx": np.asarray(raw["S_xx"])[:p, :p], "S_xy": np.asarray(raw["S_xy"])[:p]}
            raw |= {"beta": np.asarray(raw["beta"])[:p], "Q_tb": np.asarray(raw["Q_tb"])[:, :p]}
        return profiled_point(theta, raw, self.n_free)

    def _evaluate(self, theta: Array, k: int) -> dict[str, Any]:
        return self.function(theta, self._data(k)) if self.direct is None else self.direct(theta, k)

    def scores(self, point: Point, k: int = 0) -> Array:
        """Gradient of the log-likelihood share of each top-level unit, shape (G_L, P); they sum to zero at the optimum.

        Notes
        -----
        Weights included. Under REML the share of log det X'V⁻¹X of each unit is included too.
        """
        (blocks, at_k), raw, beta = self.blocks_at(point.theta, k), point.raw, point.beta
        if self.direct is not None:
            raw = raw | self.direct.unit_shares(point.theta, beta, k)
        G, sigma2, w = blocks.n_units[-1], point.sigma**2, blocks.w[-1]
        by_theta = np.asarray(raw["D_score"])[:, :G] + np.asarray(raw["Q_score"])[:, :G] / sigma2
        if self.structure.reml:
            by_theta = by_theta + self._reml_scores(point.theta)[:, :G]
        xr = blocks.xy[at_k] - blocks.xx_times(beta)
        rr = blocks.yy[at_k] - beta @ (blocks.xy[at_k] + xr)
        zr_grad = np.asarray(raw["zr_grad"])[:, : blocks.n_units[0]]
        lowest = np.einsum("apg,ag->pg", blocks.zx, zr_grad)
        through_z = lowest if len(blocks.w) == 1 else _sum_by(lowest, blocks.paths()[0][0], G)
        by_beta = (w * xr + 0.5 * through_z) / sigma2
        Q_unit = w * rr - np.asarray(raw["lost_unit"])[:G]
        n_unit = w * blocks.n_w
        by_sigma = -n_unit + Q_unit / sigma2
        if self.structure.reml:  # REML spreads the p lost rows in proportion to each unit's share of X'V⁻¹X
            by_sigma = by_sigma + self.leverage(point)
        return np.concatenate([by_beta, -0.5 * by_theta, by_sigma[None]]).T

    def modes(self, point: Point, k: int = 0) -> list[tuple[Array, Array]]:
        """Conditional modes (G_l, q_l) and their covariances (G_l, q_l, q_l), bottom-up (theory, eqs. 16-17)."""
        (blocks, at_k), theta = self.blocks_at(point.theta, k), point.theta[: self.structure.layout.n_theta]
        return conditional_modes(blocks, self.structure.layout, theta, point.beta, point.sigma, at_k)

    def blocks_at(self, climbed: Array, k: int) -> tuple[Blocks, int]:
        """Give the cross-products that hold at a point, and the number of outcome ``k`` among them."""
        return self.blocks, k

    def start(self, k: int = 0) -> Array:
        """Moment estimates of theta."""
        return starting_theta(self.blocks, self.structure.layout, k)

    def _reml_scores(self, theta: Array) -> Array:
        if self.direct is not None:
            return self.direct.reml_scores(theta)
        function = compiled(_graphs().reml_score_graph, replace(self.padded, reml=False), self.engine)
        copies = np.repeat(theta[:, None], bucket(self.blocks.n_units[-1]), axis=1)
        return np.asarray(function(copies, self._data(0))["R_score"])

    def leverage(self, point: Point) -> Array:
        """Share of each top-level unit in p = tr(X'V⁻¹X)⁻¹(X'V⁻¹X), shape (G_L,)."""
        inverse = np.linalg.inv(np.asarray(point.raw["S_xx"]))
        blocks, theta = self.blocks_at(point.theta, 0)[0], point.theta[: self.structure.layout.n_theta]
        out, G = blocks.w[-1] * blocks.xx_traces(inverse), blocks.n_units[-1]
        factored = factor_blocks(blocks, self.structure.layout, theta, blocks.zx)
        for level, (to_top, w_total) in zip(factored, blocks.paths(), strict=True):
            turned = np.tensordot(level.B[:, :, 0], inverse, axes=(1, 0))  # (q, G, p)
            lost = np.einsum("qgp,qpg->g", turned, level.B[:, :, 0])
            out -= np.bincount(to_top, w_total * lost, G)
        return out

    def contrast_derivative(self, theta: Array, U: Array) -> Array:
        """Differentiate, (n_theta, m), u'S_xx u with respect to theta for the columns u of ``U`` (p, m)."""
        if self.direct is not None:
            return self.direct.contrast_derivative(np.asarray(theta, dtype=float), U)
        function = compiled(_graphs().contrast_graph, replace(self.padded, reml=False), self.engine)
        copies = np.repeat(np.asarray(theta, dtype=float)[:, None], U.shape[1], axis=1)
        padded = np.pad(U, [(0, self.padded.p - len(U)), (0, 0)])
        return np.asarray(function(copies, [padded, *self._data(0)])["uSu_t"])

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the data; compiled code is made again where it is needed."""
        return Objective, (self.blocks, self.structure, self.engine)


def profiled_point(theta: Array, raw: dict[str, Any], n: float) -> Point:
    """Put the parts of the profiled deviance together (theory, eqs. 10-13).

    Parameters
    ----------
    theta : ndarray, shape (n_theta,)
    raw : dict
        The outputs of `nested.objective_graph` or `direct.profiled`; with ``R`` the criterion is the restricted one.
    n : float
        Rows that the residual variance is over.
    """
    S_xx, S_xy, beta = raw["S_xx"], raw["S_xy"], raw["beta"]
    Q = max(float(raw["S_yy"] - S_xy @ beta), 1e-300)
    sigma2, p = Q / n, len(beta)
    D_t, Q_t = np.asarray(raw["D_t"]), np.asarray(raw["Q_t"])
    value = 0.5 * (n * (LOG_2PI + np.log(sigma2) + 1.0) + float(raw["D"]))
    gradient = 0.5 * (D_t + Q_t / sigma2)
    second = 0.5 * (np.asarray(raw["D_tt"]) + np.asarray(raw["Q_tt"]) / sigma2)
    if "R" in raw:
        value += 0.5 * float(raw["R"])
        gradient = gradient + 0.5 * np.asarray(raw["R_t"])
        second = second + 0.5 * np.asarray(raw["R_tt"])
    information = joint_information(S_xx, raw["Q_tb"], second, Q_t, sigma2, n)
    hessian = schur_onto(information, slice(p, p + len(theta)))
    return Point(theta, beta, float(np.sqrt(sigma2)), value, gradient, hessian, information, raw)


def _graphs() -> Any:
    whole_import("pytensor")
    from pmwmix.likelihood.linear import nested  # PyTensor is imported where a graph is compiled

    return nested


def _sum_by(values: Array, index: Array, n: int) -> Array:
    flat = values.reshape(-1, values.shape[-1])
    out = np.array([np.bincount(index, row, minlength=n) for row in flat])
    return out.reshape((*values.shape[:-1], n))


def _pad(values: Array, n: int) -> Array:
    widths = [(0, 0)] * (values.ndim - 1) + [(0, n - values.shape[-1])]
    return np.pad(values, widths)
