"""Random effects integrated out level by level, lowest first, in numpy: of numbers, or of jets with their derivatives.

What `linear.nested` and `general.tree` write as graphs for a compiler (theory, eqs. 6-9 and 45).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.jets import Jet


@dataclass(frozen=True)
class Lift:
    """Weighted sum of units into their parents (theory, eq. 8): arrays (..., G_l, r, s) to (..., G_(l+1), r, s)."""

    order: Array | None
    starts: Array
    w: Array

    @classmethod
    def of(cls, parent: Array, w: Array) -> Lift:
        """Sort the units by their parents; every parent has a unit."""
        order = None if np.all(parent[1:] >= parent[:-1]) else np.argsort(parent, kind="stable")
        along = parent if order is None else parent[order]
        starts = np.flatnonzero(np.append(True, along[1:] != along[:-1]))
        return cls(order, starts, w[:, None, None])

    def __call__(self, values: Array) -> Array:
        """Sum the units."""
        weighted = values * self.w
        weighted = weighted if self.order is None else weighted[..., self.order, :, :]
        return np.add.reduceat(weighted, self.starts, axis=-3)


@dataclass(frozen=True)
class Eliminated:
    """One level after its random effects are integrated out.

    Parameters
    ----------
    Lambda : Jet
        Cholesky factor of its covariance, (1, q_l, q_l).
    M : Jet
        Its curvature and that of its density, I + Λ'CΛ of normal effects, per unit, (G_l, q_l, q_l).
    across : Jet
        Cross-products of its columns with those of the levels above and with the right-hand sides, (G_l, q_l, ...).
    """

    Lambda: Jet
    M: Jet
    across: Jet

    @cached_property
    def logdet(self) -> Jet:
        """Log-determinant of M per unit, (G_l, 1, 1)."""
        return self.M.logdet()

    @cached_property
    def taken(self) -> Jet:
        """ΛM⁻¹Λ' times ``across``: what columns and right-hand sides lose to these effects is across'taken."""
        return self.Lambda @ self.M.solve(self.Lambda.T) @ self.across


def eliminate(
    Lambdas: Sequence[Jet],
    C: Jet,
    lifts: Sequence[Callable[[Array], Array]],
    floor: float = 0.0,
    prior: Sequence[Jet] | None = None,
) -> list[Eliminated]:
    """Integrate out level by level, lowest first.

    Parameters
    ----------
    Lambdas : sequence of Jet
        Bottom-up.
    C : Jet, shape (G_1, Q, Q + m)
        Cross-products of the random columns of all levels per lowest unit, with each other and with m right-hand
        sides.
    lifts : sequence of Lift
        From each level but the top one to the next.
    floor : float
        To which smaller eigenvalues of M are raised; only without derivatives.
    prior : sequence of Jet, each (G_l or 1, q_l, q_l), optional
        Curvature of the effects' own density; the identity where they are normal.
    """
    out = []
    for level, Lambda in enumerate(Lambdas):
        q, Q = Lambda.value.shape[-1], C.value.shape[-2]
        own, beyond = slice(0, q), slice(q, None)
        M = Lambda.T @ C[own, own] @ Lambda
        if prior is None or not prior[level].t:
            M = Jet(M.value + (np.eye(q) if prior is None else prior[level].value), M.first, M.second)
        else:
            M = M + prior[level]
        M = Jet(raised(M.value, floor), M.first, M.second)
        one = Eliminated(Lambda, M, C[own, beyond])
        out.append(one)
        if level < len(lifts):
            lost = one.across[slice(None), slice(0, Q - q)].T @ one.taken
            C = (C[beyond, beyond] - lost).map(lifts[level])
    return out


def raised(M: Array, floor: float) -> Array:
    """Raise eigenvalues of symmetric matrices (..., q, q) that are below ``floor`` to it."""
    if floor <= 0:
        return M
    if M.shape[-1] == 1:
        return np.maximum(M, floor)
    values, vectors = np.linalg.eigh(M)
    return (vectors * np.maximum(values, floor)[..., None, :]) @ vectors.swapaxes(-1, -2)
