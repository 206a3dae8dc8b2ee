"""Residual structures: how rows vary and hang together once the random effects are known. Numpy only.

Residuals of a unit have covariance σ²R(ρ), R = DΓD: Γ is one of `CORRELATIONS`, D holds standard deviations
exp(Σ_j δ_j l_j) relative to σ, of which the l_j are columns (residuals, eqs. 1-3). ρ is the parameters of Γ, then δ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.jets import Jet, through, times
from pmwmix.likelihood.linear.correlations import Correlation, Whiten


@dataclass(frozen=True)
class Spread:
    """Logarithm of the standard deviation of every row relative to σ, Σ_j δ_j l_j.

    Parameters
    ----------
    names : tuple of str
        Of δ, or of what is reported in its place.
    ratios : tuple of bool
        Whether exp(δ_j) is reported, a ratio of standard deviations, and not δ_j itself.
    values : ndarray, shape (v, n)
        Raw l_j.
    """

    names: tuple[str, ...]
    ratios: tuple[bool, ...]
    values: Array

    @property
    def shift(self) -> Array:
        """What is subtracted, so that σ and δ do not stand in for each other: the mean, of a ratio nothing."""
        return np.where(self.ratios, 0.0, self.values.mean(axis=1))

    @property
    def scale(self) -> Array:
        """What the rest is divided by."""
        spread = self.values.std(axis=1)
        constant = spread <= 1e-12 * np.abs(self.values).max(axis=1, initial=1.0)  # fitted values before the first fit
        return np.where(np.logical_or(self.ratios, constant), 1.0, spread)

    @property
    def standard(self) -> Array:
        """The l_j that the likelihood uses (v, n)."""
        return (self.values - self.shift[:, None]) / self.scale[:, None]


@dataclass(frozen=True)
class Places:
    """Rows of some units of equal size.

    Parameters
    ----------
    where : ndarray, shape (1 or g, s, d)
        What the correlation reads; one for all units if they have the same.
    logs : ndarray, shape (v, g, s)
        Standardised l_j.
    w : ndarray, shape (g, s), or None
        Weights of the rows; inside a unit the same where there is a correlation.
    """

    where: Array
    logs: Array
    w: Array | None


@dataclass(frozen=True)
class Residual:
    """A residual structure: a correlation, or variances, or both.

    Parameters
    ----------
    correlation : Correlation or None
    spread : Spread or None
    """

    correlation: Correlation | None
    spread: Spread | None

    @property
    def n_correlation(self) -> int:
        """Number of parameters of the correlation, which come first."""
        return 0 if self.correlation is None else len(self.correlation.starts[0])

    @property
    def n_rho(self) -> int:
        """Number of parameters."""
        return self.n_correlation + (0 if self.spread is None else len(self.spread.names))

    @property
    def starts(self) -> tuple[Array, ...]:
        """Where ρ may start; rows of one variance."""
        known = (np.zeros(0),) if self.correlation is None else self.correlation.starts
        return tuple(np.append(one, np.zeros(self.n_rho - self.n_correlation)) for one in known)

    def with_values(self, values: Array) -> Residual:
        """Give the same with other columns l_j (v, n)."""
        assert self.spread is not None
        return replace(self, spread=replace(self.spread, values=values))

    def whiten(self, rho: Array, columns: Array, at: Places) -> tuple[Jet, Jet]:
        """Multiply columns (g, s, m) with a square root of R⁻¹, and give log det R (g, 1, 1), both with derivatives."""
        variables = _variables(rho)
        g = len(columns)
        log_det = Jet.constant(np.zeros((g, 1, 1)), self.n_rho)
        scaled: Jet | Array = columns
        if self.spread is not None:
            along = self._along(variables, at)
            fall = np.exp(-along.value)
            scaled = times(through(along, fall, -fall, fall), columns)
            weighted = along if at.w is None else times(along, at.w[:, :, None])
            log_det = log_det + weighted.map(_twice_summed)
        if self.correlation is None:
            assert isinstance(scaled, Jet)
            return scaled, log_det
        apply, one = self._operator(variables, at)
        share = np.ones((g, 1, 1)) if at.w is None else at.w[:, :1, None]
        return apply(scaled), log_det + times(one, share)

    def _operator(self, variables: Sequence[Jet], at: Places) -> tuple[Whiten, Jet]:
        assert self.correlation is not None
        return self.correlation.whiten(variables[: self.n_correlation], at.where)

    def _along(self, variables: Sequence[Jet], at: Places) -> Jet:
        """Give Σ_j δ_j l_j (g, s, 1)."""
        out = Jet.constant(np.zeros((*at.logs.shape[1:], 1)), self.n_rho)
        for delta, one in zip(variables[self.n_correlation :], at.logs, strict=True):
            out = out + times(delta, one[:, :, None])
        return out

    def report(self, rho: Array) -> Reported:
        """Give the parameters as they are reported, with derivatives in ρ, and what σ is multiplied with."""
        variables, found = _variables(rho), list[Jet]()
        scales, names = list[str](), list[str]()
        if self.correlation is not None:
            found += self.correlation.report(variables[: self.n_correlation])
            scales += self.correlation.scales
            names += self.correlation.names
        log_sigma, slope = 0.0, np.zeros(self.n_rho)
        if self.spread is not None:
            places = range(self.n_correlation, self.n_rho)
            shift, scale = self.spread.shift / self.spread.scale, self.spread.scale
            for j, (place, ratio) in enumerate(zip(places, self.spread.ratios, strict=True)):
                delta = variables[place].times(1.0 / scale[j])
                value = np.exp(delta.value)
                found.append(through(delta, value, value, value) if ratio else delta)
                log_sigma -= shift[j] * rho[place]
                slope[place] = -shift[j]
            scales += ["positive" if ratio else "number" for ratio in self.spread.ratios]
            names += self.spread.names
        values = np.array([one.value.item() for one in found])
        J = np.array([one.first[:, 0, 0, 0] for one in found]).reshape(len(found), self.n_rho)
        return Reported(tuple(names), tuple(scales), values, J, log_sigma, slope)


@dataclass(frozen=True)
class Reported:
    """Parameters of a residual structure as they are reported.

    Parameters
    ----------
    names, scales : tuple of str
        A scale is one of ``"correlation"``, ``"share"``, ``"positive"`` and ``"number"``.
    values : ndarray, shape (m,)
    jacobian : ndarray, shape (m, n_rho)
    log_sigma : float
        Logarithm of the reported σ relative to that of the standardised columns l_j.
    slope : ndarray, shape (n_rho,)
        Its derivatives.
    """

    names: tuple[str, ...]
    scales: tuple[str, ...]
    values: Array
    jacobian: Array
    log_sigma: float
    slope: Array


def _variables(rho: Array) -> list[Jet]:
    n = len(rho)
    zero = np.zeros((n * (n + 1) // 2, 1, 1, 1))
    return [Jet(np.full((1, 1, 1), value), np.eye(n)[:, k, None, None, None], zero) for k, value in enumerate(rho)]


def _twice_summed(values: Array) -> Array:
    return 2.0 * values.sum(axis=-2, keepdims=True)
