"""The profiled objective of several outcomes with a free residual covariance (outcomes, eqs. 1-6)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure
from pmwmix.likelihood.linear.onelevel import OneLevel
from pmwmix.likelihood.linear.pairproducts import PairProducts
from pmwmix.likelihood.linear.residualobjective import ResidualObjective
from pmwmix.likelihood.linear.severalnested import ResidualCovariance, SeveralNested
from pmwmix.likelihood.linear.start import starting_theta


class SeveralObjective(ResidualObjective):
    """Minus the profiled pseudo-log-likelihood of several outcomes with residual covariance σ²R (outcomes, eq. 5).

    Parameters
    ----------
    blocks : Blocks
        Of outcomes without residual correlation, `PairProducts.apart`.
    structure : Structure
    products : PairProducts
    engine : str
        As it was asked for; numpy evaluates.
    """

    def __init__(self, blocks: Blocks, structure: Structure, products: PairProducts, engine: str = "auto") -> None:
        self.blocks, self.structure, self.products, self.engine = blocks, structure, products, engine
        self.n_calls, self.n_rho = 0, products.n_rho
        kind = OneLevel if len(structure.layout.q) == 1 else SeveralNested
        self.direct: SeveralNested = kind(products, structure.layout, structure.reml)

    @property
    def m(self) -> int:
        """Number of outcomes of a row."""
        return self.products.m

    def blocks_at(self, climbed: Array, k: int) -> tuple[Blocks, int]:
        """Give the cross-products at a point, of one plausible value."""
        return self.products.under(self.direct.residual(climbed).W.value, k), 0

    def start(self, k: int = 0) -> Array:
        """Moment estimates of theta, and the residual covariance of least squares."""
        theta = starting_theta(self.blocks, self.structure.layout, k)
        (xx, xy, yy), of = self.products.total(k), self.products.of_x
        B = np.zeros(xy.shape)
        for a in range(self.m):
            mine = np.flatnonzero(of == a)
            B[mine, a] = np.linalg.solve(xx[np.ix_(mine, mine)], xy[mine, a])
        R = yy - B.T @ xy - xy.T @ B + B.T @ xx @ B
        return np.append(theta, self.products.rho(R))

    def residual(self, climbed: Array) -> ResidualCovariance:
        """Give R at (theta, ρ)."""
        return self.direct.residual(climbed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the data."""
        return SeveralObjective, (self.blocks, self.structure, self.products, self.engine)
