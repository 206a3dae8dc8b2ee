"""Kenward-Roger inference for REML fits, from cross-products alone. Equations are those of docs/small-sample.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import fdtrc

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.problem import Problem
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.spec.fixed import refuse_fixed

RANK_TOL = 1e-10  # of the largest singular value, for contrasts and for the information


class KRTest(NamedTuple):
    """Scaled F statistic, its degrees of freedom and p-value."""

    F: float
    df1: float
    df2: float
    p_value: float


@dataclass(frozen=True)
class KenwardRoger:
    """Kenward-Roger inference for one fit.

    Parameters
    ----------
    beta : ndarray, shape (p,)
        Coefficients, on the raw scale.
    vcov_adjusted : ndarray, shape (p, p)
        Adjusted covariance of ``beta`` (small-sample, eq. 6).
    df : ndarray, shape (p,)
        Denominator degrees of freedom of every coefficient (small-sample, eq. 9).
    T : ndarray, shape (p, p)
        Raw coefficients are T times the standardised ones, plus a shift.
    Phi : ndarray, shape (p, p)
        (X'V⁻¹X)⁻¹, standardised.
    P : ndarray, shape (R, p, p)
        -X'V⁻¹G_rV⁻¹X of every variance parameter r, standardised.
    W : ndarray, shape (R, R)
        Covariance of the variance parameters.
    """

    beta: Array
    vcov_adjusted: Array
    df: Array
    T: Array
    Phi: Array
    P: Array
    W: Array

    def kr_test(self, L: Array) -> KRTest:
        """Test L beta = 0 with the scaled F statistic (small-sample, eqs. 7-9).

        Parameters
        ----------
        L : ndarray, shape (p,) or (m, p)
            Contrasts of the raw coefficients. Rows that repeat others are counted once.

        Returns
        -------
        KRTest

        Raises
        ------
        OptionError
            If L has not one column per coefficient, or is zero.
        """
        L = np.atleast_2d(np.asarray(L, dtype=float))
        if L.ndim != 2 or L.shape[1] != len(self.beta) or not np.isfinite(L).all() or not L.any():
            raise OptionError(
                f"A Kenward-Roger test needs contrasts with one number per coefficient, not all zero. "
                f"Got shape {L.shape} for {len(self.beta)} coefficients. Pass a row such as [0, 1, 0]."
            )
        U, s, Vt = np.linalg.svd(L @ self.T, full_matrices=False)
        kept = s > RANK_TOL * s[0]
        back = (U[:, kept] / s[kept]).T @ L  # contrasts of raw coefficients that equal Vt of the standardised ones
        value, q = back @ self.beta, int(kept.sum())
        scaling, df2 = _scaling_and_df(Vt[kept], self.Phi, self.P, self.W)
        F = scaling * float(value @ np.linalg.solve(back @ self.vcov_adjusted @ back.T, value)) / q
        return KRTest(F, float(q), df2, float(fdtrc(q, df2, F)))


def kenward_roger(problem: Problem, fit: Estimate) -> KenwardRoger:
    """Adjust the covariance of the coefficients and find their degrees of freedom (small-sample, eqs. 1-9).

    Parameters
    ----------
    problem : Problem
        Of an unweighted REML fit.
    fit : Estimate

    Returns
    -------
    KenwardRoger

    Raises
    ------
    NotSupportedError
        For ML fits and for sampling weights.

    Notes
    -----
    Kenward and Roger (1997) [1]_ as arranged by Halekoh and Højsgaard (2014) [2]_, with the expected information, as
    R's pbkrtest. All variance parameters count, those at zero too. The result does not depend on which linear
    functions of the variance parameters are taken, so that the standardised columns serve as well as the raw ones.

    References
    ----------
    .. [1] Kenward, M. G. & Roger, J. H. (1997). Small sample inference for fixed effects from restricted maximum
       likelihood. Biometrics, 53(3), 983-997. doi:10.2307/2533558
    .. [2] Halekoh, U. & Højsgaard, S. (2014). A Kenward-Roger approximation and parametric bootstrap methods for tests
       in linear mixed models: the R package pbkrtest. J. Stat. Softw., 59(9). doi:10.18637/jss.v059.i09
    """
    _check(problem)
    p, R = len(fit.point.beta), problem.layout.n_theta + 1
    total = _Sums(np.zeros((p, p)), np.zeros((R, p, p)), np.zeros((R, R, p, p)), np.zeros((R, R)))
    for part in _alike(problem.blocks, problem.layout):
        _add(total, part, problem.layout, fit.point.theta, fit.point.sigma**2)
    Phi = np.linalg.inv(total.S)
    PhiP = Phi @ total.P
    information = total.trace - 2.0 * np.einsum("ab,rsba->rs", Phi, total.Q) + np.einsum("rab,sba->rs", PhiP, PhiP)
    W = 2.0 * _inverse(information)
    excess = np.einsum("rs,rsab->ab", W, total.Q) - np.einsum("rs,rab,sbc->ac", W, total.P, PhiP)
    adjusted = Phi + Phi @ (excess + excess.T) @ Phi
    T = fit.transform.y_scale * fit.transform.A_x
    df = np.array([_scaling_and_df(row[None], Phi, total.P, W)[1] for row in T])
    return KenwardRoger(fit.beta, T @ adjusted @ T.T, df, T, Phi, total.P, W)


def kenward_of(fits: Sequence[Any]) -> list[KenwardRoger]:
    """Kenward-Roger inference for each of the single fits inside a FitResult.

    Raises
    ------
    NotSupportedError
        As in `kenward_roger`, and for generalised models, robust variances and fits that were read from a file.
    """
    for fit in fits:
        check_one_outcome(fit, "Kenward-Roger")
        if not fit.has_closed_form:
            raise NotSupportedError(
                f"Kenward-Roger is derived for linear models. This one has {fit.kind}. "
                f"Use df='inf' (normal) or df='design'."
            )
        refuse_fixed(fit.settings.fixed, "Kenward-Roger", "Use df='satterthwaite'")
        if fit.settings.vcov != "model" or not fit.rows.is_live:
            what = "was read from a file" if fit.settings.vcov == "model" else f"has vcov={fit.settings.vcov!r}"
            raise NotSupportedError(
                f"Kenward-Roger needs a fit with vcov='model' and its data. This one {what}. "
                f"Fit again with method='reml' and vcov='model'."
            )
    return [kenward_roger(fit.rows.problem, fit.rows.fit) for fit in fits]


def _check(problem: Problem) -> None:
    if not problem.reml:
        raise NotSupportedError(
            "Kenward-Roger is derived for restricted maximum likelihood. This fit has method='ml'. "
            "Fit with method='reml', or use df='satterthwaite'."
        )
    if problem.objective.n_rho:
        raise NotSupportedError(
            "Kenward-Roger is built for independent residuals of one variance. This model has a residual structure. "
            "Use df='satterthwaite'."
        )
    if problem.objective.crossed:
        raise NotSupportedError(
            "Kenward-Roger is built for nested random effects. The factors of this model are crossed. "
            "Use df='satterthwaite'."
        )
    if problem.layout.structures:
        raise NotSupportedError(
            f"Kenward-Roger is built for unstructured covariances. The random terms have the structures "
            f"{', '.join(name for level in problem.layout.structures for name in level)}. Use df='satterthwaite'."
        )
    counts = problem.blocks.n_w
    if any(np.any(w != 1.0) for w in problem.blocks.w) or np.any(np.abs(counts - np.round(counts)) > 1e-9 * counts):
        raise NotSupportedError(
            "Kenward-Roger is defined without sampling weights. The weights of this fit are not all 1. "
            "Use a CR2 variance with its own degrees of freedom, or df='design'."
        )


@dataclass(frozen=True)
class _Sums:
    """Sums over top-level units: X'V⁻¹X (p, p), P (R, p, p), Q (R, R, p, p), tr V⁻¹G_rV⁻¹G_s (R, R)."""

    S: Array
    P: Array
    Q: Array
    trace: Array


@dataclass(frozen=True)
class _Alike:
    """Top-level units with the same tree of units: cross-products with Z spread out over the units of every level.

    C = Z'Z (g, m, m), D = Z'X (g, m, p), E = X'X (p, p) and n rows summed over the g units, ``place`` the columns of Z
    of every level, shape (units, q_l) each.
    """

    C: Array
    D: Array
    E: Array
    n: float
    place: list[Array]


def _alike(blocks: Blocks, layout: ThetaLayout) -> Iterator[_Alike]:
    """Gather top-level units whose lower units hang together in the same way; with two levels that is all of them."""
    chain = [np.arange(blocks.n_units[0])]
    for parent in blocks.parents:
        chain.append(parent[chain[-1]])
    top, G = chain[-1], blocks.n_units[-1]
    local = np.empty((len(top), len(layout.q)), dtype=np.int64)
    for level in range(len(layout.q)):
        first = np.full(G, np.iinfo(np.int64).max)
        np.minimum.at(first, top, chain[level])
        local[:, level] = chain[level] - first[top]
    edges = np.searchsorted(top, np.arange(G + 1))
    trees: dict[bytes, list[int]] = {}
    for unit in range(G):
        trees.setdefault(local[edges[unit] : edges[unit + 1]].tobytes() + bytes([0]), []).append(unit)
    rows, cols = np.tril_indices(sum(layout.q))
    for units in trees.values():
        tree = local[edges[units[0]] : edges[units[0] + 1]]
        place, m = [], 0
        for level, q in enumerate(layout.q):
            size = int(tree[:, level].max()) + 1
            place.append(m + np.arange(size * q).reshape(size, q))
            m += size * q
        C, D = np.zeros((len(units), m, m)), np.zeros((len(units), m, blocks.zx.shape[1]))
        for i in range(len(tree)):
            lowest = edges[units] + i
            at = np.concatenate([np.zeros(0, dtype=np.int64), *(q[u] for q, u in zip(place, tree[i], strict=True))])
            C[:, at[rows], at[cols]] += blocks.zz[:, lowest].T
            D[:, at] += blocks.zx[:, :, lowest].transpose(2, 0, 1)
        C = np.tril(C) + np.tril(C, -1).transpose(0, 2, 1)
        yield _Alike(C, D, blocks.part_xx(units), float(blocks.n_w[units].sum()), place)


def _add(total: _Sums, part: _Alike, layout: ThetaLayout, theta: Array, sigma2: float) -> None:
    """Add what some top-level units contribute (small-sample, eqs. 2-4).

    With V = σ²I + ZKZ', N = (I + CK/σ²)⁻¹ and F = KN/σ²: V⁻¹ = (I - ZFZ')/σ² and Z'V⁻¹ = NZ'/σ².
    """
    g, m = part.C.shape[:2]
    K = np.zeros((m, m))
    for place, Lambda in zip(part.place, layout.unpack(theta), strict=True):
        for at in place:
            K[np.ix_(at, at)] = sigma2 * Lambda @ Lambda.T
    N = np.linalg.inv(np.eye(m) + part.C @ K / sigma2)
    FD = K @ N @ part.D / sigma2
    A1, B1 = N @ part.C / sigma2, N @ part.D / sigma2  # Z'V⁻¹Z, Z'V⁻¹X
    A2, B2 = N @ A1 / sigma2, N @ B1 / sigma2  # Z'V⁻²Z, Z'V⁻²X
    S1 = (part.E - np.einsum("gma,gmb->ab", part.D, FD)) / sigma2
    S2 = (S1 - np.einsum("gma,gmb->ab", B1, FD)) / sigma2
    S3 = (S2 - np.einsum("gma,gmb->ab", B2, FD)) / sigma2
    total.S[:] += S1
    total.P[-1] -= S2
    total.Q[-1, -1] += S3
    total.trace[-1, -1] += (part.n - g * m + np.einsum("gij,gji->", N, N)) / sigma2**2
    # G_r = Z K_r Z', K_r having a 1 at (i, j) and (j, i) of every unit: it only picks rows, listed here
    pairs = [(k, part.place[level][:, [i, j]]) for level, at in enumerate(layout.entries) for i, j, k in at]
    KA = {k: _pick(A1, at) for k, at in pairs}
    KB = {k: _pick(B1, at) for k, at in pairs}
    for k, at in pairs:
        total.P[k] -= np.einsum("gma,gmb->ab", B1, KB[k])
        by_sigma = np.einsum("gma,gmb->ab", KB[k], B2)
        total.Q[k, -1] += by_sigma
        total.Q[-1, k] += by_sigma.T
        total.trace[k, -1] += np.einsum("gii->", _pick(A2, at))
        total.trace[-1, k] = total.trace[k, -1]
        AKB = A1 @ KB[k]
        for other in KA:
            total.Q[other, k] += np.einsum("gma,gmb->ab", KB[other], AKB)
            total.trace[other, k] += np.einsum("gij,gji->", KA[other], KA[k])


def _pick(values: Array, at: Array) -> Array:
    """K_r times (g, m, ·): row i of every unit takes row j of it and the reverse; ``at`` (units, 2) holds i and j."""
    out = np.zeros_like(values)
    out[:, at[:, 0]] += values[:, at[:, 1]]
    if np.any(at[:, 0] != at[:, 1]):
        out[:, at[:, 1]] += values[:, at[:, 0]]
    return out


def _inverse(information: Array) -> Array:
    """Invert the information on a common scale; directions that the data do not identify are left out."""
    size = np.sqrt(np.maximum(np.diag(information), 1e-300))
    return np.linalg.pinv(information / np.outer(size, size), rcond=RANK_TOL, hermitian=True) / np.outer(size, size)


def _scaling_and_df(L: Array, Phi: Array, P: Array, W: Array) -> tuple[float, float]:
    """Scaling of the F statistic and its denominator degrees of freedom for L (q, p), standardised, of full rank."""
    q = len(L)
    Theta = L.T @ np.linalg.solve(L @ Phi @ L.T, L)
    U = Theta @ Phi @ P @ Phi
    traces = np.einsum("raa->r", U)
    A1, A2 = float(traces @ W @ traces), float(np.einsum("rs,rab,sba->", W, U, U))
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    below = 3 * q + 2 * (1 - g)
    V0, V1, V2 = 1 + g / below * B, 1 - (q - g) / below * B, 1 - (q + 2 - g) / below * B
    V0 = 0.0 if abs(V0) < 1e-10 else V0
    mean = 1 - A2 / q  # of the F statistic, inverted
    ratio = 1.0 if max(abs(mean), abs(V1)) < 1e-14 else mean / V1
    rho = ratio**2 * V0 / V2 / q
    df = 4 + (q + 2) / (q * rho - 1)
    return (1.0 if abs(df - 2) < 0.01 else df * mean / (df - 2)), float(df)
