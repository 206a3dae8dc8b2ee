"""The likelihood of an outcome and of predictors with latent group means, profiled as that of other linear models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import Likelihood, Point, schur_onto
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure
from pmwmix.likelihood.linear.latentmeans import STEP, GroupSums, JointModel
from pmwmix.likelihood.linear.residuals import Reported
from pmwmix.likelihood.linear.start import starting_theta

CLOSE = 1e-16  # squared distance to the profiled maximum in standard errors
MOST_STEPS = 60


@dataclass(frozen=True)
class MeasuredColumns:
    """The predictors whose group means are latent, as they were standardised.

    Parameters
    ----------
    names : tuple of str
        Of the latent means.
    shift, scale : ndarray, shape (K,)
        Standardised columns are (raw - shift) / scale.
    start : ndarray, shape (n_rho,)
        Moment estimates of their model.
    """

    names: tuple[str, ...]
    shift: Array
    scale: Array
    start: Array


@dataclass
class _Last:
    """Where the coefficients and log sigma were last found, and the curvature in them."""

    inner: Array | None = None
    curvature: Array | None = None
    k: int = -1
    sums: Array | None = field(default=None, repr=False)


class LatentObjective(Likelihood):
    """Minus the pseudo-log-likelihood of [y, x] (latent-means, eqs. 4-7); theta and rho are climbed.

    Parameters
    ----------
    blocks : Blocks
        Cross-products with observed group means in the place of latent ones, for starting values.
    structure : Structure
    sums : GroupSums
        Of standardised columns.
    measured : MeasuredColumns
    engine : str
        As it was asked for; numpy evaluates.
    """

    closed_form, of_block = True, False

    def __init__(
        self, blocks: Blocks, structure: Structure, sums: GroupSums, measured: MeasuredColumns, engine: str = "auto"
    ) -> None:
        self.blocks, self.structure, self.sums, self.measured, self.engine = blocks, structure, sums, measured, engine
        self.model = JointModel(sums, structure.layout, structure.p)
        self.n_rho, self.n_calls = self.model.n_rho, 0
        self.n_free = float(sums.w @ sums.n)
        self._last = _Last()

    @property
    def constant(self) -> float:
        """What standardising the predictors adds to the log-likelihood."""
        return -self.n_free * float(np.log(self.measured.scale).sum())

    def at(self, climbed: Array, k: int = 0) -> Point:
        """Evaluate outcome ``k`` at (theta, rho), where rounding leaves no covariance matrix infinitely bad."""
        self.n_calls += 1
        climbed = np.array(climbed, dtype=float)
        p, n = self.structure.p, len(climbed)
        try:
            with np.errstate(all="ignore"):
                psi, YT = self._profiled(climbed, k)
                value = -self._loglik(psi, k) - self.constant
                A = -self.model.hessian(psi, YT)
                gradient = -self.model.gradient(psi, YT)
        except np.linalg.LinAlgError:
            value = np.inf
        if not (np.isfinite(value) and np.isfinite(A).all()):
            self._last = _Last()
            return Point(climbed, np.zeros(p), 1.0, np.inf, np.zeros(n), np.eye(n), np.eye(p + n + 1), {})
        A = 0.5 * (A + A.T)
        inner = self._inner(len(psi))
        self._last.inner, self._last.curvature = psi[inner], A[np.ix_(inner, inner)]
        hessian = schur_onto(A, slice(p, p + n))
        return Point(climbed, psi[:p], float(np.exp(psi[-1])), value, gradient[p:-1], hessian, A, {"psi": psi})

    def _inner(self, n: int) -> Array:
        return np.append(np.arange(self.structure.p), n - 1)

    def _loglik(self, psi: Array, k: int) -> float:
        return float(self.sums.w @ self.model.moments(psi, k).loglik)

    def _sums(self, k: int) -> Array:
        if self._last.k != k or self._last.sums is None:
            self._last = _Last(k=k, sums=self.sums.of(k))
        assert self._last.sums is not None
        return self._last.sums

    def _profiled(self, climbed: Array, k: int) -> tuple[Array, Array]:
        """Maximise over the coefficients and log sigma, by Newton steps whose curvature is renewed where they slow."""
        YT = self._sums(k)
        start = self._least_squares(k) if self._last.inner is None else self._last.inner
        psi = np.concatenate([start[:-1], climbed, start[-1:]])
        inner = self._inner(len(psi))
        slow = self._last.curvature is None
        A = np.eye(len(inner)) if self._last.curvature is None else self._last.curvature
        now = self._loglik(psi, k)
        last = np.inf
        for _ in range(MOST_STEPS):
            gradient = self.model.gradient(psi, YT)[inner]
            if slow:
                A = -self.model.hessian(psi, YT, inner)[inner]
            values, vectors = np.linalg.eigh(0.5 * (A + A.T))
            along = vectors.T @ gradient
            size = np.maximum(np.abs(values), 1e-10 * np.abs(values).max())
            distance = float((along**2 / size).sum())
            if distance < CLOSE * max(1.0, abs(now)):
                return psi, YT
            psi, now, shortened = self._stepped(psi, inner, vectors @ (along / size), now, k)
            slow, last = shortened or distance > 0.1 * last, distance
        return psi, YT

    def _stepped(self, psi: Array, inner: Array, step: Array, now: float, k: int) -> tuple[Array, float, bool]:
        """Go along a step, or as much of it as leads higher."""
        share = 1.0
        while share > 1e-9:
            trial = psi.copy()
            trial[inner] += share * step
            there = self._loglik(trial, k)
            if there >= now - 1e-12 * max(1.0, abs(now)):
                return trial, there, share < 1.0
            share *= 0.5
        return psi, now, True

    def _least_squares(self, k: int) -> Array:
        S, p = self.blocks.S0(k), self.structure.p
        beta = np.linalg.solve(S[:p, :p], S[:p, p])
        left = max(float(S[p, p] - S[p, :p] @ beta) / self.blocks.n_total, 1e-8)
        return np.append(beta, 0.5 * np.log(left))

    def scores(self, point: Point, k: int = 0) -> Array:
        """Gradient of the share of each group, (G, P)."""
        return self.model.scores(point.psi, self._sums(k))

    def modes(self, point: Point, k: int = 0) -> list[tuple[Array, Array]]:
        """Give expected random effects (G, q) of the outcome and their covariances (G, q, q), given y and x."""
        found, K = self.model.moments(point.psi, k), self.sums.n_latent
        scaled = point.sigma * self.structure.layout.unpack(point.theta[: self.structure.layout.n_theta])[0]
        return [(found.mode[:, K:] @ scaled.T, scaled @ found.cov[:, K:, K:] @ scaled.T)]

    def group_means(self, point: Point, k: int = 0) -> Array:
        """Give expected latent means (G, K) given y and x, on the raw scale."""
        parts, found = self.model.unpack(point.psi), self.model.moments(point.psi, k)
        means = self.sums.between @ parts.alpha + found.mode[:, : self.sums.n_latent] @ parts.T.T
        return np.asarray(self.measured.shift + self.measured.scale * means)

    def start(self, k: int = 0) -> Array:
        """Moment estimates of theta and rho."""
        return np.append(starting_theta(self.blocks, self.structure.layout, k), self.measured.start)

    def boundary(self, free: Array) -> list[Array]:
        """List points with one or all small variances at zero; rho stays."""
        t = self.structure.layout.n_theta
        return [np.append(theta, free[t:]) for theta in self.structure.layout.boundary_candidates(free[:t])]

    def report(self, climbed: Array) -> Reported:
        """Give means, standard deviations and correlations of the predictors, and reliabilities of group means."""
        rho = np.asarray(climbed[self.structure.layout.n_theta :], dtype=complex)
        names, scales = self._reported_names()
        values = self._reported(rho).real
        steps = 1j * STEP * np.eye(len(rho))
        jacobian = np.array([self._reported(rho + step).imag / STEP for step in steps]).T
        return Reported(names, scales, values, jacobian, 0.0, np.zeros(len(rho)))

    def _reported_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        kinds = {"mean": "number", "between_sd": "positive", "within_sd": "positive", "reliability": "share"}
        names = [(f"{name}.{kind}", scale) for name in self.measured.names for kind, scale in kinds.items()]
        for level in ("between", "within"):
            for i, a in enumerate(self.measured.names):
                names += [(f"{level}_cor({b}, {a})", "correlation") for b in self.measured.names[:i]]
        return tuple(name for name, _ in names), tuple(scale for _, scale in names)

    def _reported(self, rho: Array) -> Array:
        filler = np.zeros(self.structure.p + self.structure.layout.n_theta, dtype=complex)
        parts = self.model.unpack(np.concatenate([filler, rho, [0.0]]))
        K, own = self.sums.n_latent, self.measured
        T, S = parts.T @ parts.T.T, parts.S @ parts.S.T
        out: list[Any] = []
        for kappa in range(K):
            between, within = T[kappa, kappa], S[kappa, kappa]
            share = self.sums.w @ (between / (between + within / self.sums.n)) / self.sums.w.sum()
            mean = own.shift[kappa] + own.scale[kappa] * parts.alpha[0, kappa]
            out += [mean, own.scale[kappa] * np.sqrt(between), own.scale[kappa] * np.sqrt(within), share]
        for V in (T, S):
            out += [V[i, j] / np.sqrt(V[i, i] * V[j, j]) for i in range(K) for j in range(i)]
        return np.array(out)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the data."""
        return LatentObjective, (self.blocks, self.structure, self.sums, self.measured, self.engine)
