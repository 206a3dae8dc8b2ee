"""Cluster-robust variance of the coefficients for few clusters: CR0 to CR3 with Bell-McCaffrey degrees of freedom.

Numbers only, from rows; the variance components are taken as known. Equations are those of docs/small-sample.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from pmwmix._types import Array
from pmwmix.errors import OptionError, near
from pmwmix.fitting.clusterrows import Rows, standardised_rows, sums_of
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.problem import Problem
from pmwmix.fitting.strata import compared, strata_of
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.variance.few_clusters import KINDS

ZERO = 1e-12  # eigenvalues below this share of the largest possible one count as zero
BATCH = 2_000_000  # numbers in the cluster matrices that are worked on at a time


def small_sample(
    problem: Problem, frame: ModelFrame, design: DesignColumns, k: int, fit: Estimate, kind: str = "CR2"
) -> tuple[Array, Array]:
    """Cluster-robust covariance of the coefficients and Bell-McCaffrey degrees of freedom of each.

    Parameters
    ----------
    problem : Problem
    frame : ModelFrame
        Clusters are its PSUs, by default the top-level units; rows in a model without random terms.
    design : DesignColumns
        The columns that ``problem`` was made from.
    k : int
        Outcome.
    fit : Estimate
        Of that outcome.
    kind : {"CR0", "CR1", "CR2", "CR3"}
        No correction, J / (J - 1), bias-reduced, or approximate jackknife (small-sample, eqs. 14-17).

    Returns
    -------
    vcov : ndarray, shape (p, p)
        On the raw scale.
    df : ndarray, shape (p,)
        Small-sample, eq. 20.

    Raises
    ------
    NotSupportedError
        With a finite population correction, clusters without rows, or strata and another kind than CR1 and CR2.

    Notes
    -----
    The cluster's estimating function is X_j'Ω_j(y_j - X_jβ), Ω_j being V_j⁻¹σ² with the sampling weights in it (theory,
    eqs. 6-9). Working covariance: the fitted model's, σ²Φ_j, without weights. Bell and McCaffrey (2002) [1]_,
    Pustejovsky and Tipton (2018) [2]_; unweighted it is R's clubSandwich for lmer. With strata clusters are compared
    with the others of their stratum (small-sample, eqs. 23-24). Of a generalised model they are those of its working
    linear model, added to the exact influence of every cluster (small-sample, eqs. 26-28); without random effects R's
    clubSandwich for glm.

    References
    ----------
    .. [1] Bell, R. M. & McCaffrey, D. F. (2002). Bias reduction in standard errors for linear regression with
       multi-stage samples. Survey Methodology, 28(2), 169-181.
    .. [2] Pustejovsky, J. E. & Tipton, E. (2018). Small-sample methods for cluster-robust variance estimation and
       hypothesis testing in fixed effects models. J. Bus. Econ. Stat., 36(4), 672-683.
       doi:10.1080/07350015.2016.1247004
    """
    if kind not in KINDS:
        raise OptionError(
            f"Unknown small-sample variance {kind!r}.{near(str(kind), KINDS)} Use one of {', '.join(map(repr, KINDS))}."
        )
    stratum = strata_of(frame, kind)
    rows = rows_of(problem, frame, design, k, fit)
    M, Gamma = sums_of(rows)
    parts = _ingredients(rows, M, Gamma, fit.transform.A_x, kind)
    J = len(parts.s)
    if stratum is not None:
        return fit.transform.y_scale**2 * parts.s.T @ compared(parts.s, stratum), _degrees(parts, M, Gamma, stratum)
    factor = J / (J - 1.0) if kind == "CR1" else 1.0
    return fit.transform.y_scale**2 * factor * parts.s.T @ parts.s, _degrees(parts, M, Gamma)


def degrees_of(problem: Problem, frame: ModelFrame, design: DesignColumns, k: int, fit: Estimate, kind: str) -> Array:
    """Degrees of freedom alone of every coefficient (p,), as `small_sample` gives them."""
    stratum = strata_of(frame, kind)
    rows = rows_of(problem, frame, design, k, fit)
    M, Gamma = sums_of(rows)
    return _degrees(_ingredients(rows, M, Gamma, fit.transform.A_x, kind), M, Gamma, stratum)


def rows_of(problem: Problem, frame: ModelFrame, design: DesignColumns, k: int, fit: Estimate) -> Rows:
    """Give the rows by cluster, of a generalised model those of its working linear model."""
    if problem.objective.closed_form:
        return standardised_rows(problem, frame, design, k, fit)
    from pmwmix.fitting.workingrows import working_rows  # families come with PyTensor

    return working_rows(problem, frame, design, k, fit)


def hotelling_df(
    problem: Problem, frame: ModelFrame, design: DesignColumns, k: int, fit: Estimate, kind: str, L: Array
) -> float:
    """Degrees of freedom of the Wishart distribution that the covariance of L beta is referred to.

    Parameters
    ----------
    problem, frame, design, k, fit, kind
        As in `small_sample`.
    L : ndarray, shape (q, p)
        Independent contrasts of the raw coefficients.

    Returns
    -------
    float
        Small-sample, eq. 22, with strata eq. 25.

    Notes
    -----
    Zhang's approximation to Hotelling's T² as Pustejovsky and Tipton (2018, section 3.2) [1]_ use it (HTZ);
    ``Wald_test`` of R's clubSandwich. With one contrast it is Bell and McCaffrey's.

    References
    ----------
    .. [1] Pustejovsky, J. E. & Tipton, E. (2018). J. Bus. Econ. Stat., 36(4), 672-683.
       doi:10.1080/07350015.2016.1247004
    """
    stratum = strata_of(frame, kind)
    rows = rows_of(problem, frame, design, k, fit)
    M, Gamma = sums_of(rows)
    parts = _ingredients(rows, M, Gamma, L @ fit.transform.A_x, kind)
    middle, U = _middle(parts, M, Gamma)
    CU = _by_stratum(U, stratum)
    expected = parts.d.sum(axis=0) + np.einsum("sju,uv,tjv->st", CU, middle, U, optimize=True)
    values, vectors = np.linalg.eigh(expected)
    root = (vectors / np.sqrt(values)) @ vectors.T  # in these combinations the expected covariance is I
    d, U = root @ parts.d @ root, np.einsum("st,tju->sju", root, U)
    CU, q, variance = np.einsum("st,tju->sju", root, CU), len(L), 0.0
    across = np.einsum("sju,uv,tjv->stj", CU, middle, CU, optimize=True)
    inner = np.einsum("sju,tjv->stuv", CU, U, optimize=True)  # U_s'CU_t
    for s in range(q):
        for t in range(q):
            first, second = middle @ inner[s, t], middle @ inner[t, s]
            variance += float(np.sum(d[:, s, s] * across[t, t] + d[:, t, t] * across[s, s]))
            variance += float(np.sum(2.0 * d[:, s, t] * across[s, t]))
            variance += _of_own(d[:, s, s], d[:, t, t], stratum) + _of_own(d[:, s, t], d[:, s, t], stratum)
            variance += float(np.trace(first @ second) + np.trace(second @ second))
    return q * (q + 1.0) / variance


def _by_stratum(U: Array, stratum: Array | None) -> Array:
    """Compare the clusters of every contrast's U (q, J, m) inside their strata, if there are any."""
    return U if stratum is None else np.array([compared(one, stratum) for one in U])


def _of_own(one: Array, other: Array, stratum: Array | None) -> float:
    """Give tr(C D C E) of two diagonal matrices (J,), C comparing clusters inside strata; tr(D E) without them."""
    if stratum is None:
        return float(one @ other)
    n = np.bincount(stratum).astype(float)
    weight = (n / (n - 1.0)) ** 2
    sums = np.bincount(stratum, one) * np.bincount(stratum, other)
    return float((weight * (1.0 - 2.0 / n))[stratum] @ (one * other) + weight / n**2 @ sums)


@dataclass(frozen=True)
class _Parts:
    """What remains of each of J clusters, g_c being its weights in coefficient c (small-sample, eqs. 13 and 18).

    ``s`` g_c'e (J, p); ``d`` g_c'Φg_b (J, p, p); ``a`` X'g_c and ``b`` (ΦΩX)'g_c, (J, p, p) with c last.
    """

    s: Array
    d: Array
    a: Array
    b: Array


def _ingredients(rows: Rows, M: Array, Gamma: Array, T: Array, kind: str) -> _Parts:
    J, p, q = len(rows.edges) - 1, len(M), len(T)
    parts = _Parts(np.empty((J, q)), np.empty((J, q, q)), np.empty((J, p, q)), np.empty((J, p, q)))
    for clusters, at in batches(rows.edges):
        X, OX, POX, e = rows.X[at], rows.OX[at], rows.POX[at], rows.e[at]
        if kind == "CR2":
            X, OX, POX, e, Phi = _compressed(rows, at, X, OX, POX, e)
            g = _bias_reduced(X, OX, POX, Phi, M, M @ Gamma @ M) @ (M @ T.T)
            Pg = Phi @ g
        else:
            change = _jackknife(_t(X) @ OX, M) @ T.T if kind == "CR3" else M @ T.T
            g, Pg = OX @ change, POX @ change
        parts.s[clusters] = np.einsum("jnc,jn->jc", g, e)
        parts.d[clusters] = _t(g) @ Pg
        parts.a[clusters] = _t(X) @ g
        parts.b[clusters] = _t(POX) @ g
    if rows.beyond is not None:
        parts.s[:] += rows.beyond @ T.T
    return parts


def batches(edges: Array) -> Iterator[tuple[Array, Array]]:
    """Clusters of equal size (b,) and their rows (b, n), as many at a time as memory should hold."""
    sizes = np.diff(edges)
    for n in np.unique(sizes):
        same = np.flatnonzero(sizes == n)
        step = max(1, BATCH // int(n) ** 2)
        for first in range(0, len(same), step):
            clusters = same[first : first + step]
            yield clusters, edges[clusters, None] + np.arange(n)


def _compressed(
    rows: Rows, at: Array, X: Array, OX: Array, POX: Array, e: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Give X, ΩX, ΦΩX, e and the working covariance Φ of some clusters, in as few dimensions as will do.

    Where a cluster is one unit of the only level, Φ and I - H differ from the identity in the span of Z, X and ΦΩX
    alone, which holds ΩX too: coordinates in an orthonormal basis of it are enough.
    """
    ZL = [z[at] for z in rows.ZL]
    units = [unit[at] for unit in rows.units]
    span = np.concatenate([*ZL, X, POX], axis=2)
    if rows.whole and rows.noise is None and span.shape[2] < at.shape[1]:
        Qt = _t(np.linalg.qr(span)[0])
        X, OX, POX, e = Qt @ X, Qt @ OX, Qt @ POX, (Qt @ e[:, :, None])[:, :, 0]
        ZL = [Qt @ z for z in ZL]
        units = [np.zeros(X.shape[:2]) for _ in units]
    own = np.ones((len(at), X.shape[1])) if rows.noise is None else rows.noise[at]
    Phi = np.eye(X.shape[1]) * own[:, None, :]
    for z, unit in zip(ZL, units, strict=True):
        Phi += (z @ _t(z)) * (unit[:, :, None] == unit[:, None, :])
    return X, OX, POX, e, Phi


def _bias_reduced(X: Array, OX: Array, POX: Array, Phi: Array, M: Array, MGM: Array) -> Array:
    """Give AΩX, A = D'(DRD')^(-1/2) D with Φ = D'D and R the residuals' covariance (small-sample, eq. 16)."""
    cross = X @ M @ _t(POX)
    R = Phi - cross - _t(cross) + X @ MGM @ _t(X)
    half = np.linalg.cholesky(Phi)
    values, vectors = np.linalg.eigh(_t(half) @ R @ half)
    largest = np.abs(Phi).sum(axis=2).max(axis=1)[:, None] ** 2
    kept = values > ZERO * largest
    root = np.where(kept, 1.0 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
    to_left = half @ vectors
    return to_left @ (root[:, :, None] * (_t(to_left) @ OX))


def _jackknife(S: Array, M: Array) -> Array:
    """Give (I - M S_j)⁺ M of every cluster's S_j = X_j'Ω_jX_j (J, p, p) (small-sample, eq. 17)."""
    half = np.linalg.cholesky(M)
    values, vectors = np.linalg.eigh(np.eye(len(M)) - half.T @ S @ half)
    kept = values > ZERO
    inverse = np.where(kept, 1.0 / np.where(kept, values, 1.0), 0.0)
    to_left = half @ vectors
    return to_left @ (inverse[:, :, None] * _t(to_left))


def _degrees(parts: _Parts, M: Array, Gamma: Array, stratum: Array | None = None) -> Array:
    """Compute 2 E(V)² / Var(V) of every coefficient's variance V, a sum of J squares (small-sample, eqs. 18-20, 24)."""
    middle, U = _middle(parts, M, Gamma)
    own, CU = np.einsum("jcc->jc", parts.d), _by_stratum(U, stratum)
    squares = np.array([_of_own(column, column, stratum) for column in own.T])
    cross = np.einsum("cju,uv,cjv->jc", CU, middle, CU, optimize=True)
    inner = _t(U) @ CU @ middle
    squares = squares + (2.0 * own * cross).sum(axis=0) + np.einsum("cuv,cvu->c", inner, inner)
    mean = own.sum(axis=0) + np.einsum("cuu->c", inner)
    with np.errstate(divide="ignore", invalid="ignore"):
        return mean**2 / squares


def _middle(parts: _Parts, M: Array, Gamma: Array) -> tuple[Array, Array]:
    """Give the matrix of small-sample, eq. 19, and u_j of every contrast and cluster (q, J, 2p)."""
    middle = np.block([[M @ Gamma @ M, -M], [-M, np.zeros_like(M)]])
    return middle, np.concatenate([parts.a, parts.b], axis=1).transpose(2, 0, 1)


def _t(A: Array) -> Array:
    return np.swapaxes(A, -1, -2)


def with_few_clusters(
    frame: ModelFrame, estimates: Sequence[Estimate], places: Sequence[tuple[Problem, int]], kind: str
) -> list[Estimate]:
    """Give the estimate of every plausible value its small-sample covariance.

    It takes the place of that of the coefficients, apart from the variance parameters.
    """
    out = []
    for number, (fit, (problem, k)) in enumerate(zip(estimates, places, strict=True)):
        design = frame.designs[number if len(frame.designs) > 1 else 0]
        small, df = small_sample(problem, frame, design, k, fit, kind)
        p = len(fit.beta)
        none = np.isnan(np.diag(fit.joint)[:p])  # no spread between clusters, as `judge` has found
        small[none, :] = small[:, none] = np.nan
        out.append(replace(fit, joint=scipy.linalg.block_diag(small, fit.joint[p:, p:]), small_df=df))
    return out
