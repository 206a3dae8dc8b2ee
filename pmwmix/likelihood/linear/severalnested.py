"""The recursion over the levels of several outcomes, whose residual covariance is climbed together with theta.

Once products are weighted with R⁻¹ nothing differs from one outcome (outcomes, eqs. 3-5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.jets import Jet
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.direct import DirectNested, Moments
from pmwmix.likelihood.linear.pairproducts import PairProducts
from pmwmix.likelihood.paths import inner_weight


@dataclass(frozen=True)
class ResidualCovariance:
    """R at its parameters ρ, with derivatives.

    Parameters
    ----------
    R, W : Jet, shape (m, m)
        R and its inverse.
    log_det : Jet, shape (1, 1)
        Of R.
    """

    R: Jet
    W: Jet
    log_det: Jet

    @classmethod
    def of(cls, products: PairProducts, rho: Array) -> ResidualCovariance:
        """Evaluate it."""
        L = products.factor(rho)
        R, log_det = L @ L.T, Jet.constant(np.zeros((1, 1)), products.n_rho)
        for number, (i, j) in enumerate(products.places):
            if i == j:
                log_det.value[0, 0] += 2.0 * rho[number]
                log_det.first[number] = 2.0
        return cls(R, R.solve(Jet.constant(np.eye(products.m), products.n_rho)), log_det)


class SeveralNested(DirectNested):
    """The recursion over the levels, begun with products that depend on R.

    Parameters
    ----------
    products : PairProducts
    layout : ThetaLayout
    reml : bool
    """

    def __init__(self, products: PairProducts, layout: ThetaLayout, reml: bool) -> None:
        super().__init__(products.blocks, layout, reml)
        self.products, self.n_rho = products, products.n_rho
        self.inner = inner_weight(products.blocks.parents, products.blocks.w)

    def residual(self, climbed: Array) -> ResidualCovariance:
        """Give R at (theta, ρ)."""
        return ResidualCovariance.of(self.products, np.asarray(climbed[self.layout.n_theta :], dtype=float))

    def moments(self, climbed: Array, k: int) -> Moments:
        """Give the cross-products with their derivatives in ρ."""
        products, here = self.products, self.residual(climbed)
        blocks, W, n = products.blocks, here.W, float(products.blocks.n_w @ products.blocks.w[-1])
        zz = W.map(lambda one: products.zz * one[..., None, products.of_z[:, None], products.of_z])
        S0 = W.map(lambda one: np.einsum("g,...gab->...ab", blocks.w[-1], products.own(k, one)))
        return Moments(
            zz, W.map(lambda one: products.sides(k, one)), S0, here.log_det.times(n), products.under(W.value, k), 0
        )

    def unit_shares(self, climbed: Array, beta: Array, k: int) -> dict[str, Any]:
        """Add what ρ changes in the rows alone."""
        out, here, r, t = super().unit_shares(climbed, beta, k), self.residual(climbed), np.append(-beta, 1.0), 0
        w, t = self.blocks.w[-1], self.layout.n_theta
        counted = w * self.blocks.n_w
        out["D_unit"] = out["D_unit"] + here.log_det.value[0, 0] * counted
        out["D_score"][t:] += here.log_det.first[:, 0] * counted
        out["Q_score"][t:] += w * (self.products.own(k, here.W.first) @ r @ r)
        return out

    def reml_scores(self, climbed: Array) -> Array:
        """Share of every top-level unit in the gradient of log det X'V⁻¹X, (n_theta + n_rho, G_L)."""
        out, p = super().reml_scores(climbed), len(self.products.of_x)
        inverse = np.linalg.inv(self(climbed, 0)["S_xx"])
        own = self.products.own(0, self.residual(climbed).W.first)[..., :p, :p]
        out[self.layout.n_theta :] += self.blocks.w[-1] * np.einsum("ab,rgab->rg", inverse, own)
        return out
