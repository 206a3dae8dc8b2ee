"""Random effects that follow Student's t: groups far from the rest pull less (mixing, eqs. 1-3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaln, gammaln, polygamma, psi

from pmwmix._types import Array
from pmwmix.likelihood.jets import Jet, through, times
from pmwmix.likelihood.latent._base import LATENTS, Latent

HEAVIEST = np.log(0.02)  # of df - 2
USUAL = 6.0  # degrees of freedom of the start
TOP = 60  # half the points of the rule for means
REACH = 7.0


@dataclass(frozen=True)
class StudentT(Latent):
    """Multivariate t with df > 2 degrees of freedom, scaled to variance 1; shape: log(df - 2), none if df is given.

    The entries of a unit share one mixing variable, so that the distribution of b depends on ΛΛ' alone.
    """

    df: float | None = None

    def given(self, number: float) -> StudentT:
        """Hold the degrees of freedom."""
        return StudentT(number)

    def starts(self) -> list[Array]:
        """Start from a moderately heavy tail."""
        return [np.array([np.log(USUAL - 2.0)])] if self.df is None else [np.zeros(0)]

    def reported(self, shape: Array, deviation: float) -> tuple[dict[str, float], Array, Array]:
        """Give ``df``."""
        if self.df is not None:
            return super().reported(shape, deviation)
        above = float(np.exp(shape[0]))
        return {"df": 2.0 + above}, np.array([[above]]), np.zeros(1)

    def is_sound(self, shape: Array) -> bool:
        """Whether df is well above 2."""
        return self.df is not None or bool(shape[0] > HEAVIEST)

    def _parts(self, u: Jet, shape: Sequence[Jet]) -> tuple[Jet, Jet, Jet, Jet, int]:
        """Give log c, 1 / c and df + q with c = df - 2, and u'u / c."""
        q = u.value.shape[-2]
        log_c = Jet.constant(np.full((1, 1, 1), np.log(self.df - 2.0))) if self.df is not None else shape[0]
        inverse = np.exp(-log_c.value)
        inverse_c = through(log_c, inverse, -inverse, inverse)
        c = np.exp(log_c.value)
        both = through(log_c, c + 2.0 + q, c, c)
        return log_c, inverse_c, both, _times(u.T @ u, inverse_c), q

    def density(self, u: Jet, shape: Sequence[Jet]) -> Jet:
        """Write mixing, eq. 2."""
        log_c, _, both, r, q = self._parts(u, shape)
        c = np.exp(log_c.value)
        half, rise = 0.5 * (c + 2.0), 0.5 * q
        value = gammaln(rise) - betaln(half, rise) + rise * (np.log(2.0) - log_c.value)
        first = 0.5 * (psi(half + rise) - psi(half))  # in c
        second = 0.25 * (polygamma(1, half + rise) - polygamma(1, half))
        constant = through(log_c, value, first * c - rise, second * c * c + first * c)
        inner = through(r, np.log1p(r.value), 1.0 / (1.0 + r.value), -1.0 / (1.0 + r.value) ** 2)
        return constant - _times(both, inner).times(0.5)

    def slope(self, u: Jet, shape: Sequence[Jet]) -> Jet:
        """Write -(df + q) u / (c + u'u)."""
        _, inverse_c, both, r, _ = self._parts(u, shape)
        return _times(_times(_times(both, inverse_c), _inverse(r)), u).times(-1.0)

    def curvature(self, u: Jet, shape: Sequence[Jet]) -> Jet:
        """Write (df + q) (I / (c + u'u) - 2 uu' / (c + u'u)²)."""
        _, inverse_c, both, r, q = self._parts(u, shape)
        shrunk = _times(inverse_c, _inverse(r))  # 1 / (c + u'u)
        front = _times(both, shrunk)
        outer = _times(_times(front, shrunk), u @ u.T).times(2.0)
        return _times(front, Jet.constant(np.eye(q)[None])) - outer

    def nodes(self, n: int, shape: Array = np.zeros(0)) -> tuple[Array, Array]:  # noqa: B008
        """Give a trapezoid rule in asinh u, whose points reach far into the tails."""
        df = self.df if self.df is not None else 2.0 + float(np.exp(shape[0]))
        x = np.linspace(-REACH, REACH, 2 * TOP + 1)
        u = np.sinh(x)
        logs = -0.5 * (df + 1.0) * np.log1p(u * u / (df - 2.0)) + np.log(np.cosh(x))
        w = np.exp(logs - logs.max())
        return u, w / w.sum()

    def mean_slopes(
        self, shape: Array, mean: Any, slope: Any, eta: Array, deviation: Array, sign: float
    ) -> tuple[list[Array], bool]:
        """Differentiate in df by differences of the weights."""
        if self.df is not None:
            return [], False
        df, h = 2.0 + float(np.exp(shape[0])), 1e-4 * float(np.exp(shape[0]))
        u, up = StudentT(df + h).nodes(0)
        low = StudentT(df - h).nodes(0)[1]
        tilt = (up - low) / (2.0 * h)
        return [np.asarray(sum(w * mean(eta + deviation * a) for a, w in zip(u, tilt, strict=True)))], False

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], own: Array = np.zeros(0)) -> Array:  # noqa: B008
        """Draw normal numbers over the root of a chi-square one per unit."""
        df = self.df if self.df is not None else 2.0 + float(np.exp(own[0]))
        mixing = rng.chisquare(df, (*shape[:-1], 1)) / (df - 2.0)
        return rng.standard_normal(shape) / np.sqrt(mixing)


def _times(a: Jet, b: Jet) -> Jet:
    """Multiply entry by entry, stacks of any depth."""
    depth = max(a.value.ndim, b.value.ndim)
    return times(_deep(a, depth), _deep(b, depth))


def _deep(a: Jet, depth: int) -> Jet:
    """Insert axes of length 1 before the stack."""
    return a.map(lambda x: x.reshape(*x.shape[: x.ndim - a.value.ndim], *[1] * (depth - a.value.ndim), *a.value.shape))


def _inverse(r: Jet) -> Jet:
    """Compute 1 / (1 + r)."""
    value = 1.0 / (1.0 + r.value)
    return through(r, value, -(value**2), 2.0 * value**3)


LATENTS.add("t", StudentT())
