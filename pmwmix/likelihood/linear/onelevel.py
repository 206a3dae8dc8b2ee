"""One level of groups with several outcomes: exact first and second derivatives from moments of small matrices.

What a unit has to say depends on Ψ and W = R⁻¹ through C = A ∘ W and c, both linear in W. Derivatives in the entries of
Ψ and W are therefore sums over units of products of a few small matrices (outcomes, eqs. 7-9), formed for all units at
once; theta and ρ follow by the chain rule. No derivative is carried along per unit, as `direct` does: the same numbers,
far sooner at the size of an assessment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.crossed.onethread import with_threads_for
from pmwmix.likelihood.jets import symmetric
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.moments import Chain, Inner, basis, gram, paired, product, root_of_inverse
from pmwmix.likelihood.linear.pairproducts import PairProducts
from pmwmix.likelihood.linear.severalnested import ResidualCovariance, SeveralNested


@dataclass(frozen=True)
class Units:
    """What the units give at one point; units come last.

    Parameters
    ----------
    log_det : ndarray, shape (G,)
        Of I + Λ'CΛ.
    P, H, K : ndarray, shape (Q, Q, G)
        (Ψ⁻¹ + C)⁻¹, I - CP and C - CPC.
    sides, v, s : ndarray, shape (Q, p + 1, G)
        Products c of the random columns with [X, y], Pc and Hc.
    """

    log_det: Array
    P: Array
    H: Array
    K: Array
    sides: Array
    v: Array
    s: Array


@dataclass(frozen=True)
class Residuals:
    """The same for one combination of [X, y], such as the residuals.

    Parameters
    ----------
    v, s : ndarray, shape (Q, G)
    before, after : ndarray, shape (Q, m, G)
        Products of the random columns with the combination in every outcome, and with what the effects leave of it.
    """

    v: Array
    s: Array
    before: Array
    after: Array


class OneLevel(SeveralNested):
    """Evaluates what `SeveralNested` does, for one level of groups.

    Parameters
    ----------
    products : PairProducts
    layout : ThetaLayout
    reml : bool
    """

    def __init__(self, products: PairProducts, layout: ThetaLayout, reml: bool) -> None:
        super().__init__(products, layout, reml)
        Q, m = layout.q[0], products.m
        self.E_Psi, self.E_W = basis(Q), basis(m)
        self.w, self.A = products.blocks.w[0], np.ascontiguousarray(products.zz.transpose(1, 2, 0))
        self.n = float(products.blocks.n_w @ self.w)
        of = products.of_z
        self.E_z = self.E_W[:, of]  # (b, Q, m): which outcomes a random column meets
        self.E_zz = self.E_W[:, of[:, None], of]
        self.mine = (of[:, None] == np.arange(m)).astype(float)  # (Q, m)

    def units(self, Lambda: Array, W: Array, k: int) -> Units:
        """Evaluate the units."""
        products, of = self.products, self.products.of_z
        C = self.A * W[of[:, None], of][:, :, None]
        x = products.blocks.zx * W[of[:, None], products.of_x][:, :, None]
        y = (products.zy(k).transpose(1, 2, 0) * W[of][:, :, None]).sum(axis=1)
        sides = np.concatenate([x, y[:, None]], axis=1)
        inner = Inner.of(C, Lambda)
        P, H = inner.P, inner.H
        return Units(inner.log_det, P, H, inner.K, sides, product(P, sides), product(H, sides))

    def combined(self, units: Units, k: int, r: Array) -> Residuals:
        """Combine [X, y] by r (p + 1,)."""
        products, p = self.products, len(r) - 1
        B = r[:p, None] * (products.of_x[:, None] == np.arange(products.m))
        before = np.tensordot(products.blocks.zx, B, axes=(1, 0)).transpose(0, 2, 1)
        before += r[p] * products.zy(k).transpose(1, 2, 0)
        v, s = (np.tensordot(one, r, axes=(1, 0)) for one in (units.v, units.s))
        taken = np.tensordot(self.A * v, self.mine, axes=(1, 0)).transpose(0, 2, 1)
        return Residuals(v, s, before, before - taken)

    def chain(self, climbed: Array, here: ResidualCovariance) -> Chain:
        """Differentiate Ψ = ΛΛ' and W, rows and columns in the order of `basis`."""
        t, n_theta = len(climbed), self.layout.n_theta
        of_Psi = Chain.of_Psi(self.layout, climbed[:n_theta])
        first, second = np.zeros((len(of_Psi.first), t)), np.zeros((len(of_Psi.first), t, t))
        first[:, :n_theta], second[:, :n_theta, :n_theta] = of_Psi.first, of_Psi.second
        a, b = np.tril_indices(self.products.m)
        first_W, second_W = np.zeros((len(a), t)), np.zeros((len(a), t, t))
        first_W[:, n_theta:] = here.W.first[:, a, b].T
        second_W[:, n_theta:, n_theta:] = np.moveaxis(symmetric(here.W.second, self.n_rho)[:, :, a, b], -1, 0)
        return Chain(np.concatenate([first, first_W]), np.concatenate([second, second_W]))

    def at(self, climbed: Array, k: int) -> tuple[ResidualCovariance, Chain, Units]:
        """Evaluate R, the chain rule and the units at (theta, ρ)."""
        climbed = np.asarray(climbed, dtype=float)
        here, (Lambda,) = self.residual(climbed), self.layout.unpack(climbed[: self.layout.n_theta])
        return here, self.chain(climbed, here), self.units(Lambda, here.W.value, k)

    def __call__(self, climbed: Array, k: int) -> dict[str, Any]:
        """Give the outputs of `nested.objective_graph` but the shares of units."""
        out: dict[str, Any] = with_threads_for(0, self._evaluate, climbed, k)
        return out

    def _evaluate(self, climbed: Array, k: int) -> dict[str, Any]:
        (here, chain, units), p = self.at(climbed, k), len(self.products.of_x)
        total = self.products.total(k)
        S0 = np.stack([_laid_out(total, self.products.of_x, one) for one in self.E_W])
        S = np.tensordot(here.W.value[np.tril_indices(self.products.m)], S0, axes=1)
        S = S - np.einsum("icid->cd", gram(self.w, units.sides, units.v))
        beta = np.linalg.solve(S[:p, :p], S[:p, p])
        r = np.append(-beta, 1.0)
        D, D_e, D_ee = self._determinant(units, here)
        S_e = self._slopes(units, k, S0)
        Q_ee, along = self._curvature(units, self.combined(units, k, r)), S_e @ r
        out = {
            "D": D,
            "D_t": chain.gradient(D_e),
            "D_tt": chain.hessian(D_e, D_ee),
            "S_xx": S[:p, :p],
            "S_xy": S[:p, p],
            "S_yy": S[p, p],
            "beta": beta,
            "Q_t": chain.gradient(along @ r),
            "Q_tt": chain.hessian(along @ r, Q_ee),
            "Q_tb": -2.0 * chain.gradient(along[:, :p]),
            "S_xx_t": chain.gradient(S_e[:, :p, :p]),
        }
        return out | (self._restricted(chain, units, k, S[:p, :p], S_e[:, :p, :p]) if self.reml else {})

    def _determinant(self, units: Units, here: ResidualCovariance) -> tuple[float, Array, Array]:
        """Give the determinant term, its derivatives in the entries (L,), and its second ones (L, L)."""
        w, R, E_W, E_zz, a = self.w, here.R.value, self.E_W, self.E_zz, len(self.E_Psi)
        by_W = np.einsum("bij,ij->b", E_zz, (units.P * self.A) @ w) - self.n * np.einsum("bij,ij->b", E_W, R)
        first = np.concatenate([np.einsum("aij,ij->a", self.E_Psi, units.K @ w), by_W])
        second = np.zeros((len(first), len(first)))
        second[:a, :a] = -paired(gram(w, units.K, units.K), self.E_Psi)
        HA = units.H[:, :, None] * self.A[None]  # (i, j, l)
        HAH = np.stack([gram(w, HA[:, :, q], units.H[:, q]) for q in range(len(HA))])  # (l, i, j, k)
        second[:a, a:] = np.einsum("aik,bjl,lijk->ab", self.E_Psi, E_zz, HAH, optimize=True)
        second[a:, :a] = second[:a, a:].T
        PA = (units.P[:, :, None] * self.A[None]).transpose(0, 2, 1, 3)  # (i, k, j)
        PAPA = ((PA * w) @ PA.swapaxes(0, 1).swapaxes(-1, -2)).transpose(2, 0, 1, 3)  # from (i, k, j, l)
        second[a:, a:] = self.n * np.einsum("ij,ajk,kl,bli->ab", R, E_W, R, E_W, optimize=True)
        second[a:, a:] -= paired(PAPA, E_zz)
        value = float(w @ units.log_det) + self.n * float(here.log_det.value[0, 0])
        return value, first, second

    def _slopes(self, units: Units, k: int, S0: Array) -> Array:
        """Differentiate [X, y]'V⁻¹[X, y] in the entries (L, p + 1, p + 1)."""
        products, p = self.products, len(self.products.of_x)
        ss = gram(self.w, units.s, units.s)
        by_Psi = -np.einsum("aij,icjd->acd", self.E_Psi, ss)
        raw = np.concatenate([products.blocks.zx, products.zy(k).transpose(1, 2, 0)], axis=1)  # (Q, p + m, G)
        lost = np.zeros((len(self.E_W), p + 1, p + 1))
        for i in range(len(raw)):
            v = units.v[i] * self.w
            crossed, inner = v @ raw[i].T, np.einsum("cg,jg,jdg->cjd", v, self.A[i], units.v, optimize=True)
            lost[:, :, :p] += crossed[:, :p] * self.E_z[:, i, None][:, :, products.of_x]
            lost[:, :, p] += self.E_z[:, i] @ crossed[:, p:].T
            lost -= 0.5 * np.einsum("bj,cjd->bcd", self.E_zz[:, i], inner)
        return np.concatenate([by_Psi, S0 - lost - lost.swapaxes(-1, -2)])

    def _curvature(self, units: Units, one: Residuals) -> Array:
        """Second derivatives in the entries (L, L) of r'[X, y]'V⁻¹[X, y]r."""
        a, w, E_z, s, after = len(self.E_Psi), self.w, self.E_z, one.s, one.after
        out = np.zeros((a + len(self.E_W),) * 2)
        out[:a, :a] = 2.0 * paired(gram(w, s[:, None] * s[None], units.K), self.E_Psi)
        sH = s[:, None, None] * units.H[None]  # (i, k, l)
        J = np.stack([gram(w, sH[:, :, q], after[q]) for q in range(len(s))])  # (l, i, k, o)
        out[:a, a:] = -2.0 * np.einsum("aik,blo,liko->ab", self.E_Psi, E_z, J, optimize=True)
        out[a:, :a] = out[:a, a:].T
        G = (after[:, None] * (units.P * w)[:, :, None]) @ after[None].swapaxes(-1, -2)  # (l, k, o, u)
        out[a:, a:] = -2.0 * np.einsum("lkou,alo,bku->ab", G, E_z, E_z, optimize=True)
        return out

    def _restricted(self, chain: Chain, units: Units, k: int, S_xx: Array, S_e: Array) -> dict[str, Any]:
        """Give log det X'V⁻¹X and its derivatives."""
        half = root_of_inverse(S_xx)
        turned = half.T @ S_e @ half
        first = np.trace(turned, axis1=-2, axis2=-1)
        second = sum(self._curvature(units, self.combined(units, k, np.append(u, 0.0))) for u in half.T)
        second = second - np.einsum("aij,bji->ab", turned, turned)
        value = np.linalg.slogdet(S_xx)[1]
        return {"R": value, "R_t": chain.gradient(first), "R_tt": chain.hessian(first, second)}

    def unit_shares(self, climbed: Array, beta: Array, k: int) -> dict[str, Any]:
        """Give the shares of units, and the slope in what the random columns are multiplied with."""
        out: dict[str, Any] = with_threads_for(0, self._shares, climbed, beta, k)
        return out

    def _shares(self, climbed: Array, beta: Array, k: int) -> dict[str, Any]:
        (here, chain, units), w, n_w = self.at(climbed, k), self.w, self.products.blocks.n_w
        by_Psi = np.tensordot(self.E_Psi, units.K, axes=2)
        by_W = np.tensordot(self.E_zz, units.P * self.A, axes=2)
        by_W = by_W - np.einsum("bij,ij->b", self.E_W, here.R.value)[:, None] * n_w
        r = np.append(-beta, 1.0)
        one = self.combined(units, k, r)
        return {
            "D_unit": w * (units.log_det + n_w * here.log_det.value[0, 0]),
            "D_score": w * chain.gradient(np.concatenate([by_Psi, by_W])),
            "lost_unit": w * (np.tensordot(units.sides, r, axes=(1, 0)) * one.v).sum(axis=0),
            "Q_score": w * chain.gradient(self._of_units(one, k, r)),
            "zr_grad": -2.0 * w * one.v,
        }

    def _of_units(self, one: Residuals, k: int, r: Array) -> Array:
        """Differentiate r'[X, y]'V⁻¹[X, y]r of every unit in the entries (L, G)."""
        products, p = self.products, len(r) - 1
        B = r[:p, None] * (products.of_x[:, None] == np.arange(products.m))
        xx, xy = products.blocks.each_xx, r[p] * products.xy(k)
        both = np.einsum("pa,pbg->abg", B, xy)
        own = np.einsum("pa,pqg,qb->abg", B, xx, B, optimize=True) + both + both.swapaxes(0, 1)
        own = own + r[p] ** 2 * products.yy[k]
        by_Psi = -np.einsum("aij,ig,jg->ag", self.E_Psi, one.s, one.s, optimize=True)
        met = one.v[:, None] * (one.before + one.after)
        return np.concatenate([by_Psi, np.tensordot(self.E_W, own, axes=2) - np.tensordot(self.E_z, met, axes=2)])

    def reml_scores(self, climbed: Array) -> Array:
        """Share of every unit in the gradient of log det X'V⁻¹X, (n_theta + n_rho, G)."""
        _, chain, units = self.at(climbed, 0)
        columns = [np.append(u, 0.0) for u in root_of_inverse(self(climbed, 0)["S_xx"]).T]
        slopes = sum(self._of_units(self.combined(units, 0, u), 0, u) for u in columns)
        return self.w * chain.gradient(np.asarray(slopes))


def _laid_out(total: tuple[Array, Array, Array], of: Array, W: Array) -> Array:
    """Put products of the whole sample under W together as [X, y]'[X, y] (p + 1, p + 1)."""
    (xx, xy, yy), p = total, len(of)
    out = np.empty((p + 1, p + 1))
    out[:p, :p] = xx * W[of[:, None], of]
    out[:p, p] = out[p, :p] = (xy * W[of]).sum(axis=1)
    out[p, p] = (yy * W).sum()
    return out
