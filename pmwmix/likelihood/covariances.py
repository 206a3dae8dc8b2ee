"""Structured covariances of random effects: Psi = D R D by a few parameters. Numpy only.

A structure gives the lower-triangular factor of its correlation matrix R as smooth functions of angles, one per
correlation: at the end of their range, where R loses rank, the factor stays smooth, and the climb may pass through it
as it passes through a standard deviation of zero. A new structure is one entry at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pmwmix._registry import Registry
from pmwmix._types import Array
from pmwmix.likelihood.smooth import Smooth, matrix_of

COVARIANCES = Registry("covariance structure")

Rows = list[list["Smooth | float"]]


@dataclass(frozen=True)
class Covariance:
    """A structure of the covariance of q random effects (structured, eqs. 1-4).

    Parameters
    ----------
    common : bool
        Whether all effects have the same variance; else each has its own.
    n_angles : callable
        q -> number of correlation parameters.
    factor : callable
        (angles, q) -> rows of the lower-triangular factor of R, each as long as its place.
    angles : callable
        R (q, q) -> angles of a structured matrix like it, exactly those of R if that is structured.
    inside : tuple of str
        Structures that contain this one; the unstructured ``"us"`` contains all.
    fewest : int
        Effects that it needs.
    """

    common: bool
    n_angles: Callable[[int], int]
    factor: Callable[[list[Smooth], int], Rows]
    angles: Callable[[Array], Array]
    inside: tuple[str, ...] = ()
    fewest: int = 1

    def size(self, q: int) -> int:
        """Give the number of parameters: standard deviations, then angles."""
        return (1 if self.common else q) + self.n_angles(q)

    def n_sd(self, q: int) -> int:
        """Give the number of standard deviations."""
        return 1 if self.common else q

    def Lambda(self, tau: Array, q: int) -> Smooth:
        """Factor of Psi (q, q) with its derivatives in tau (n,)."""
        parameters = Smooth.parameters(tau)
        sd, angles = parameters[: self.n_sd(q)], parameters[self.n_sd(q) :]
        rows = self.factor(angles, q)
        return matrix_of(q, lambda i, j: sd[0 if self.common else i] * rows[i][j], len(tau))

    def tau(self, Psi: Array) -> Array:
        """Parameters of a structured matrix like Psi (q, q): exactly those of Psi if that is structured."""
        sd = np.sqrt(np.maximum(np.diag(Psi), 0.0))
        size = np.outer(sd, sd)
        R = np.divide(Psi, size, out=np.full_like(Psi, np.nan), where=size > 0.0)  # unknown beside a variance of zero
        shown = np.array([np.sqrt(np.mean(sd**2))]) if self.common else sd
        return np.concatenate([shown, self.angles(R)])


def _independent(angles: list[Smooth], q: int) -> Rows:
    return [[1.0 if i == j else 0.0 for j in range(i + 1)] for i in range(q)]


def _exchangeable(angles: list[Smooth], q: int) -> Rows:
    """One correlation rho = (q sin² u - 1) / (q - 1), from -1 / (q - 1) to 1."""
    if q == 1:
        return [[1.0]]
    (u,) = angles
    sine, cosine = u.sin(), u.cos()
    rho = (sine * sine * q - 1.0) * (1.0 / (q - 1))
    low, high = cosine * float(np.sqrt(q / (q - 1))), sine * float(np.sqrt(q))  # roots of 1 - rho, 1 + (q - 1) rho
    above = [rho * i + 1.0 for i in range(q)]  # 1 + i rho
    roots: list[Smooth] = [rho * 0.0 + 1.0]
    for i in range(1, q):  # conditional variance (1 - rho) (1 + i rho) / (1 + (i - 1) rho)
        top = high if i == q - 1 else above[i].sqrt()
        roots.append(low * top if i == 1 else low * (top / above[i - 1].sqrt()))
    below = [roots[j] * (rho / above[j]) for j in range(q - 1)]
    return [[roots[i] if i == j else below[j] for j in range(i + 1)] for i in range(q)]


def _angles_of_exchangeable(R: Array) -> Array:
    q = len(R)
    if q == 1:
        return np.zeros(0)
    rho = _mean(R[np.tril_indices(q, -1)])
    return np.array([np.arcsin(np.sqrt(np.clip((1.0 + (q - 1) * rho) / q, 0.0, 1.0)))])


def _banded(angles: list[Smooth], q: int) -> Rows:
    """Correlations by lag, from partial autocorrelations sin(angle) by Durbin's and Levinson's recursion."""
    rows: Rows = [[1.0]]
    phi: list[Smooth] = []
    root: Smooth | float = 1.0
    for i in range(1, q):
        partial = angles[i - 1].sin()
        root = angles[i - 1].cos() * root
        phi = [*(phi[j] - partial * phi[i - 2 - j] for j in range(i - 1)), partial]
        row: list[Smooth | float] = [_along(phi, rows, i, j) for j in range(i)]
        rows.append([*row, root])
    return rows


def _along(phi: list[Smooth], rows: Rows, i: int, j: int) -> Smooth:
    """Entry j of the sum of phi_k times the row k places before i."""
    found = phi[i - j - 1] * rows[j][j]
    for k in range(1, i - j):
        found = found + phi[k - 1] * rows[i - k][j]
    return found


def _angles_of_banded(R: Array) -> Array:
    """Partial autocorrelations of the mean correlations by lag, as angles; none beyond the end of its range."""
    q = len(R)
    r = [_mean(np.diag(R, -lag)) for lag in range(1, q)]
    phi: list[float] = []
    out = []
    for k in range(q - 1):
        left = 1.0 - sum(p * one for p, one in zip(phi, r, strict=False))
        partial = 0.0 if left < 1e-12 else (r[k] - sum(p * r[k - 1 - j] for j, p in enumerate(phi))) / left
        partial = float(np.clip(partial, -1.0, 1.0))
        phi = [*(phi[j] - partial * phi[k - 1 - j] for j in range(k)), partial]
        out.append(np.arcsin(partial))
    return np.array(out)


def _autoregressive(angles: list[Smooth], q: int) -> Rows:
    """Correlations rho^lag with rho = sin(angle)."""
    rho, root = angles[0].sin(), angles[0].cos()
    powers: list[Smooth | float] = [1.0]
    for _ in range(q - 1):
        powers.append(rho * powers[-1])
    return [[powers[i] if j == 0 else root * powers[i - j] for j in range(i + 1)] for i in range(q)]


def _angles_of_autoregressive(R: Array) -> Array:
    return np.array([np.arcsin(np.clip(_mean(np.diag(R, -1)), -1.0, 1.0))])


def _mean(correlations: Array) -> float:
    """Average those that are known; 0 if none is."""
    known = correlations[np.isfinite(correlations)]
    return float(known.mean()) if len(known) else 0.0


def _none(q: int) -> int:
    return 0


def _pair(q: int) -> int:
    return min(q - 1, 1)


def _lags(q: int) -> int:
    return q - 1


def _no_angles(R: Array) -> Array:
    return np.zeros(0)


ALL = ("homdiag", "diag", "homcs", "cs", "ar1", "hetar1", "homtoep", "toep")
FREE = ("diag", "cs", "hetar1", "toep")  # with variances of their own
COVARIANCES.add("homdiag", Covariance(True, _none, _independent, _no_angles, ALL))
COVARIANCES.add("diag", Covariance(False, _none, _independent, _no_angles, FREE))
LIKE_CS = (_pair, _exchangeable, _angles_of_exchangeable)
COVARIANCES.add("homcs", Covariance(True, *LIKE_CS, ("homcs", "cs", "homtoep", "toep"), 2))
COVARIANCES.add("cs", Covariance(False, *LIKE_CS, ("cs", "toep"), 2))
LIKE_AR1 = (_pair, _autoregressive, _angles_of_autoregressive)
COVARIANCES.add("ar1", Covariance(True, *LIKE_AR1, ("ar1", "hetar1", "homtoep", "toep"), 2))
COVARIANCES.add("hetar1", Covariance(False, *LIKE_AR1, ("hetar1", "toep"), 2))
LIKE_TOEP = (_lags, _banded, _angles_of_banded)
COVARIANCES.add("homtoep", Covariance(True, *LIKE_TOEP, ("homtoep", "toep"), 2))
COVARIANCES.add("toep", Covariance(False, *LIKE_TOEP, ("toep",), 2))


def free_parameters(structure: str, q: int) -> int:
    """Count the parameters of a structure, ``"us"`` included, for q effects."""
    size: int = q * (q + 1) // 2 if structure == "us" else COVARIANCES[structure].size(q)
    return size
