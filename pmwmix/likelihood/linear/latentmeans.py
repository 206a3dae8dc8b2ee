"""The joint likelihood of an outcome and of the predictors whose latent group means it depends on. Numpy only.

Equations are those of docs/latent-means.md. In a group j of weight w_j, rows i of weight w_i:

    x_i = C_i α + ξ + e_i,   ξ ~ N(0, T),  e_i ~ N(0, S),   X = C_B α + ξ        (latent means X, K of them)
    y_i = A_i β + (L_i β) X + Z_i σΛu + σε_i,   u ~ N(0, I)

Given the group's effects (v, u), ξ being the factor of T times v, everything is normal and linear in them: they are
integrated out in closed form, and the scores follow from their first two moments (Fisher's identity).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import LOG_2PI
from pmwmix.likelihood.layout import ThetaLayout

STEP = 1e-30  # along the imaginary axis, where a derivative loses no digits


@dataclass(frozen=True)
class GroupSums:
    """Weighted cross-products of every group; G groups.

    Parameters
    ----------
    yt : ndarray, shape (G, M + m, M + m)
        Of [y, A, L, Z], y being all M outcomes.
    xc : ndarray, shape (G, K + c, K + c)
        Of [x, C]; the first column of C is constant.
    between : ndarray, shape (G, c)
        Columns of C where they are constant inside groups, zeros where they are deviations from the group's mean.
    loads : ndarray of int, shape (l, 2)
        Fixed column and latent mean of every column of L.
    n : ndarray, shape (G,)
        Weighted number of rows.
    w : ndarray, shape (G,)
        Weights of the groups.
    n_outcomes : int
    """

    yt: Array
    xc: Array
    between: Array
    loads: Array
    n: Array
    w: Array
    n_outcomes: int

    @property
    def n_latent(self) -> int:
        """K."""
        return self.xc.shape[1] - self.between.shape[1]

    def of(self, k: int) -> Array:
        """Cross-products (G, 1 + m, 1 + m) of one outcome and the columns."""
        keep = np.r_[k, self.n_outcomes : self.yt.shape[1]]
        return np.ascontiguousarray(self.yt[:, keep[:, None], keep])


class Parts(NamedTuple):
    """Parameters by their place in the model: alpha (c, K), and the factors of T, S and Λ."""

    beta: Array
    Lambda: Array
    alpha: Array
    T: Array
    S: Array
    sigma: Array


class Moments(NamedTuple):
    """What follows of the effects (v, u) of every group: mode (G, r), covariance (G, r, r)."""

    loglik: Array
    mode: Array
    cov: Array


@dataclass(frozen=True)
class JointModel:
    """The log-likelihood in psi = (beta, theta, rho, log sigma), rho = (α by latent mean, factor of T, factor of S).

    Factors are lower triangular by columns, with the logarithms of their diagonals.

    Parameters
    ----------
    sums : GroupSums
    layout : ThetaLayout
        Of a single level.
    p : int
        Fixed columns.
    """

    sums: GroupSums
    layout: ThetaLayout
    p: int

    @cached_property
    def n_rho(self) -> int:
        """Number of parameters of the predictors' model."""
        K, c = self.sums.n_latent, self.sums.between.shape[1]
        return c * K + K * (K + 1)

    @cached_property
    def _lower(self) -> tuple[Array, Array]:
        rows, columns = np.triu_indices(self.sums.n_latent)
        return columns, rows

    def unpack(self, psi: Array) -> Parts:
        """Put the parameters (P,) into their places; complex ones stay complex."""
        p, t = self.p, self.layout.n_theta
        K, c = self.sums.n_latent, self.sums.between.shape[1]
        Lambda = np.zeros((self.layout.q[0],) * 2, dtype=psi.dtype)
        for i, j, k in self.layout.entries[0]:
            Lambda[i, j] = psi[p + k]
        rho = psi[p + t : -1]
        return Parts(
            psi[:p],
            Lambda,
            rho[: c * K].reshape(K, c).T,
            self._factor(rho[c * K : c * K + K * (K + 1) // 2]),
            self._factor(rho[c * K + K * (K + 1) // 2 :]),
            np.exp(psi[-1]),
        )

    def _factor(self, values: Array) -> Array:
        K = self.sums.n_latent
        out = np.zeros((K, K), dtype=values.dtype)
        out[self._lower] = values
        out[np.diag_indices(K)] = np.exp(out[np.diag_indices(K)])
        return out

    def _columns(self, parts: Parts, m: int) -> tuple[Array, Array]:
        """Coefficients of [y, A, L, Z] in the residual: at the groups' means (G, m), and of the effects (m, r)."""
        p, loads = self.p, self.sums.loads
        K, q = self.sums.n_latent, self.layout.q[0]
        own = parts.beta[loads[:, 0]]
        means = self.sums.between @ parts.alpha
        h = np.zeros((len(means), m), dtype=parts.beta.dtype)
        h[:, 0] = 1.0
        h[:, 1 : 1 + p] = -parts.beta
        h[:, 1 + p : 1 + p + len(loads)] = -own * means[:, loads[:, 1]]
        H = np.zeros((m, K + q), dtype=parts.beta.dtype)
        H[1 + p : 1 + p + len(loads), :K] = own[:, None] * parts.T[loads[:, 1]]
        H[m - q :, K:] = parts.sigma * parts.Lambda
        return h, H

    def _effects(self, parts: Parts, YT: Array) -> tuple[Moments, dict[str, Array]]:
        """Integrate the effects out (latent-means, eqs. 4-6); and the pieces that scores share."""
        sums, K, s2 = self.sums, self.sums.n_latent, parts.sigma**2
        h, H = self._columns(parts, YT.shape[1])
        GH, Gh = YT @ H, np.einsum("gab,gb->ga", YT, h)
        residual = np.vstack([np.eye(K), -parts.alpha])
        Ce = sums.xc @ residual
        ee = np.einsum("ak,gal->gkl", residual, Ce)
        inverse = np.linalg.inv(parts.S @ parts.S.T)
        TS = parts.T.T @ inverse
        P = np.einsum("ar,gas->grs", H, GH) / s2 + np.eye(H.shape[1])
        P[:, :K, :K] += sums.n[:, None, None] * (TS @ parts.T)
        side = Gh @ H / s2
        side[:, :K] += Ce[:, K] @ TS.T
        V = np.linalg.inv(P)
        mode = np.einsum("grs,gs->gr", V, side)
        Q = np.einsum("ga,ga->g", h, Gh) / s2 + np.einsum("kl,glk->g", inverse, ee) - np.einsum("gr,gr->g", side, mode)
        logs = np.log(parts.sigma) + np.log(np.diag(parts.S)).sum() + 0.5 * (1 + K) * LOG_2PI
        loglik = -sums.n * logs - 0.5 * Q
        pieces = {"h": h, "H": H, "GH": GH, "Gh": Gh, "Ce": Ce, "ee": ee, "inverse": inverse, "P": P}
        return Moments(loglik, mode, V), pieces

    def moments(self, psi: Array, k: int) -> Moments:
        """Give the log-likelihood of every group, without its weight, and what follows of its effects."""
        found, pieces = self._effects(self.unpack(psi), self.sums.of(k))
        return found._replace(loglik=found.loglik - 0.5 * np.linalg.slogdet(pieces["P"])[1])

    def scores(self, psi: Array, YT: Array) -> Array:
        """Differentiate the log-likelihood of every group (G, P), weights included (latent-means, eq. 7).

        Parameters
        ----------
        psi : ndarray, shape (P,)
            Real or complex: the scores are analytic.
        YT : ndarray
            `GroupSums.of` an outcome.
        """
        parts, sums, K = self.unpack(psi), self.sums, self.sums.n_latent
        found, own = self._effects(parts, YT)
        s2, q = parts.sigma**2, self.layout.q[0]
        gr = own["Gh"] - np.einsum("gar,gr->ga", own["GH"], found.mode)
        R = gr[:, :, None] * found.mode[:, None] - own["GH"] @ found.cov
        v, V = found.mode[:, :K], found.cov[:, :K, :K]
        xi = v @ parts.T.T
        by_beta, by_T, by_means = self._through_loads(parts, gr, R)
        Lam = [parts.sigma * R[:, -q + a, K + b] / s2 for a, b, _ in self.layout.entries[0]]
        left = own["Ce"][:, K] - sums.n[:, None] * xi  # summed residuals of x
        C = own["Ce"][:, K:] - sums.xc[:, K:, K, None] * xi[:, None]
        by_alpha = C @ own["inverse"] + sums.between[:, :, None] * by_means[:, None]
        by_T = by_T + own["inverse"] @ (left[:, :, None] * v[:, None] - sums.n[:, None, None] * (parts.T @ V))
        spread = parts.T @ (v[:, :, None] * v[:, None] + V) @ parts.T.T
        cross = own["Ce"][:, K, :, None] * xi[:, None]
        E = own["ee"] - cross - cross.transpose(0, 2, 1) + sums.n[:, None, None] * spread
        by_S = (own["inverse"] @ E @ own["inverse"] - sums.n[:, None, None] * own["inverse"]) @ parts.S
        H = own["H"]
        rest = own["h"] - np.einsum("ar,gr->ga", H, found.mode)
        quad = np.einsum("ga,ga->g", rest, gr) + np.einsum("ar,gas,gsr->g", H, own["GH"], found.cov)
        by_sigma = -sums.n + (quad + np.einsum("ar,gar->g", H[-q:, K:], R[:, -q:, K:])) / s2
        columns = [
            by_beta,
            np.array(Lam).T.reshape(len(v), -1),
            by_alpha.transpose(0, 2, 1).reshape(len(v), -1),
            self._of_factor(by_T, parts.T),
            self._of_factor(by_S, parts.S),
            by_sigma[:, None],
        ]
        return np.hstack(columns) * sums.w[:, None]

    def _through_loads(self, parts: Parts, gr: Array, R: Array) -> tuple[Array, Array, Array]:
        """Scores of the coefficients (G, p), and through the columns of L those of T (G, K, K) and of means (G, K)."""
        loads, p, K, s2 = self.sums.loads, self.p, self.sums.n_latent, parts.sigma**2
        means, mine = self.sums.between @ parts.alpha, slice(1 + p, 1 + p + len(loads))
        by_beta = gr[:, 1 : 1 + p] / s2
        by_T = np.zeros((len(gr), K, K), dtype=gr.dtype)
        by_means = np.zeros((len(gr), K), dtype=gr.dtype)
        for (j, kappa), g, r in zip(loads, gr[:, mine].T, R[:, mine, :K].transpose(1, 0, 2), strict=True):
            by_beta[:, j] += (means[:, kappa] * g + r @ parts.T[kappa]) / s2
            by_T[:, kappa] += parts.beta[j] * r / s2
            by_means[:, kappa] += parts.beta[j] * g / s2
        return by_beta, by_T, by_means

    def _of_factor(self, values: Array, factor: Array) -> Array:
        """Scores (G, K (K + 1) / 2) of the entries of a factor, from those of the matrix (G, K, K)."""
        scaled = values * np.where(np.eye(len(factor), dtype=bool), factor, 1.0)
        return scaled[:, self._lower[0], self._lower[1]]

    def gradient(self, psi: Array, YT: Array) -> Array:
        """Differentiate the log-likelihood (P,)."""
        total: Array = self.scores(psi, YT).sum(axis=0)
        return total

    def hessian(self, psi: Array, YT: Array, columns: Array | None = None) -> Array:
        """Differentiate the gradient in some parameters (P, n), all by default; a complex step loses no digits."""
        wanted = np.arange(len(psi)) if columns is None else columns
        steps = 1j * STEP * np.eye(len(psi))[wanted]
        return np.array([self.gradient(psi + step, YT).imag / STEP for step in steps]).T
