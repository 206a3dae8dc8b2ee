"""The likelihood corrected for error in predictors: its expectation over the errors is that of the true values.

Equations are those of docs/errors.md (Nakamura 1990). Nothing is assumed of the true values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import LOG_2PI, Likelihood, Point, schur_onto
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure
from pmwmix.likelihood.linear.modes import conditional_modes
from pmwmix.likelihood.linear.start import starting_theta

STEP = 1e-30  # along the imaginary axis
APART = 1e-5  # of real steps, between gradients that are exact


@dataclass(frozen=True)
class ErrorSums:
    """Weighted cross-products of every group, or row without random terms; G of them.

    Parameters
    ----------
    c : ndarray, shape (G, q + p + M, q + p + M)
        Of [Z, X, y], y being all M outcomes.
    zz2 : ndarray, shape (G, q, q)
        Of Z with squared weights of the rows.
    n, w : ndarray, shape (G,)
        Weighted number of rows, and weights of the groups.
    error : ndarray, shape (p,)
        Variance of the error of every column of X.
    """

    c: Array
    zz2: Array
    n: Array
    w: Array
    error: Array


class CorrectedObjective(Likelihood):
    """Minus the corrected pseudo-log-likelihood, profiled over beta and sigma (errors, eqs. 3-5).

    Parameters
    ----------
    blocks : Blocks
    structure : Structure
    sums : ErrorSums
        Of standardised columns.
    engine : str
        As it was asked for; numpy evaluates.
    """

    closed_form, of_block = True, False

    def __init__(self, blocks: Blocks, structure: Structure, sums: ErrorSums, engine: str = "auto") -> None:
        self.blocks, self.structure, self.sums, self.engine, self.n_calls = blocks, structure, sums, engine, 0
        self.n_free = float(sums.w @ sums.n)

    def at(self, theta: Array, k: int = 0) -> Point:
        """Evaluate outcome ``k`` at theta; where errors leave nothing of a predictor, it is infinitely bad."""
        self.n_calls += 1
        theta, p = np.array(theta, dtype=float), self.structure.p
        S, t, _ = self._eliminated(theta, k)
        whole, trace = np.einsum("g,gab->ab", self.sums.w, S), float(self.sums.w @ t)
        inner = whole[:p, :p] - trace * np.diag(self.sums.error)
        values = np.linalg.eigvalsh(inner)
        beta = np.linalg.solve(inner, whole[:p, p]) if values[0] > 1e-10 * values[-1] else np.zeros(p)
        Q = float(whole[p, p] - whole[:p, p] @ beta)
        if not (values[0] > 1e-10 * values[-1] and Q > 1e-13 * whole[p, p]):
            n = len(theta)
            return Point(theta, np.zeros(p), 1.0, np.inf, np.zeros(n), np.eye(n), np.eye(p + n + 1), {})
        psi = np.concatenate([beta, theta, [0.5 * np.log(Q / self.n_free)]])
        A = self._information(psi, k)
        climbed = slice(p, p + len(theta))
        gradient = -self._scores(psi, k).sum(axis=0)[climbed]
        value = -float(self.sums.w @ self._loglik(psi, k))
        return Point(theta, beta, float(np.exp(psi[-1])), value, gradient, schur_onto(A, climbed), A, {})

    def _lambda(self, theta: Array) -> Array:
        layout: ThetaLayout = self.structure.layout
        q = self.sums.zz2.shape[1]
        out = np.zeros((q, q), dtype=theta.dtype)
        for i, j, k in layout.entries[0] if q else ():
            out[i, j] = theta[k]
        return out

    def _eliminated(self, theta: Array, k: int) -> tuple[Array, Array, Array]:
        """Give [X, y]'V⁻¹[X, y] (G, p + 1, p + 1), the traces of V⁻¹ and the determinants of V of every group."""
        q, p, sums = self.sums.zz2.shape[1], self.structure.p, self.sums
        keep = np.r_[q : q + p, q + p + k]
        S = sums.c[:, keep[:, None], keep]
        if not q:
            return S, sums.n, np.ones(len(sums.n))
        Lambda = self._lambda(theta)
        M = np.eye(q) + Lambda.T @ sums.c[:, :q, :q] @ Lambda
        B = Lambda.T @ sums.c[:, :q, keep]
        inverse = np.linalg.inv(M)
        gone = np.einsum("grs,gsr->g", inverse, Lambda.T @ sums.zz2 @ Lambda)
        return S - B.swapaxes(1, 2) @ inverse @ B, sums.n - gone, np.linalg.det(M)

    def _loglik(self, psi: Array, k: int) -> Array:
        """Give the corrected log-likelihood of every group (G,), without its weight; analytic in psi."""
        p, n = self.structure.p, self.sums.n
        S, t, det = self._eliminated(psi[p:-1], k)
        r = np.append(-psi[:p], 1.0)
        Q = np.einsum("a,gab,b->g", r, S, r) - t * (psi[:p] ** 2 @ self.sums.error)
        return -0.5 * (np.log(det) + n * (LOG_2PI + 2.0 * psi[-1]) + Q * np.exp(-2.0 * psi[-1]))

    def _scores(self, psi: Array, k: int) -> Array:
        steps = 1j * STEP * np.eye(len(psi))
        return np.array([self._loglik(psi + step, k).imag / STEP * self.sums.w for step in steps]).T

    def _information(self, psi: Array, k: int) -> Array:
        rows = []
        for step in APART * np.eye(len(psi)):
            rows.append((self._scores(psi - step, k) - self._scores(psi + step, k)).sum(axis=0) / (2.0 * APART))
        return 0.5 * (np.array(rows) + np.array(rows).T)

    def scores(self, point: Point, k: int = 0) -> Array:
        """Gradient of the share of each group, or row, (G, P)."""
        return self._scores(point.psi, k)

    def modes(self, point: Point, k: int = 0) -> list[tuple[Array, Array]]:
        """Give conditional modes (G, q) and their covariances (G, q, q), given the predictors as measured."""
        if not self.structure.layout.q:
            return []
        return conditional_modes(self.blocks, self.structure.layout, point.theta, point.beta, point.sigma, k)

    def start(self, k: int = 0) -> Array:
        """Moment estimates of theta."""
        layout = self.structure.layout
        return starting_theta(self.blocks, layout, k) if layout.n_theta else np.zeros(0)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the data."""
        return CorrectedObjective, (self.blocks, self.structure, self.sums, self.engine)
