"""First and second derivatives of the marginal log-density of units, in models with one grouping level.

With V_g the logarithm of the sum over the nodes a of exp(L(b) - u'u/2), b = Lambda u, u = m + S a, less half of log det
M, the derivatives of the mode m and of S with SS' = M⁻¹ = (I + Lambda'C Lambda)⁻¹ come by the implicit function theorem
and the rule for Cholesky factors (theory, eqs. 47 and 48). Second derivatives of m and M enter V_g through sums alone,
so that none is formed: their weights are found first, and the rows are read with those (theory, after eq. 50).
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.general.single import AtModes, Nodes

ONE_THREAD = 200_000  # multiplications of a product that OpenBLAS makes alone: our chunks run side by side


class Scores:
    """Scores of units.

    Parameters
    ----------
    at : AtModes
        Third derivatives of the rows are there.
    nodes : Nodes
    grid : ndarray, shape (q, K)
        Standard nodes; zero for Laplace's approximation.
    """

    def __init__(self, at: AtModes, nodes: Nodes, grid: Array) -> None:
        self.at, self.nodes, self.grid = at, nodes, grid
        self.rows, self.structure = at.rows, at.rows.structure
        self.entries = self.structure.layout.entries[0]
        places = self.rows.places
        self.of_z = nodes.slopes[..., places]  # (G, K, q)
        self.d = self.of_z @ at.Lambda - nodes.u
        self.by_share = nodes.share[..., None] * self.d
        self.D = np.einsum("gkc,ak->cag", self.by_share, grid)
        self.Y = np.einsum("cag,cbg->abg", at.S, self.D)
        self.Gamma = self._gamma()
        self.over = np.einsum("ca,abg,db->cdg", at.Lambda, self.Gamma, at.Lambda)
        self.gamma = self._quadratic(self.over)
        self.tau = -self.rows.sums(at.l3 * self.gamma, self.rows.Z)
        self.kappa = np.einsum("abg,bg->ag", at.inverse, self.by_share.sum(axis=1).T + at.Lambda.T @ self.tau)
        self.of_b = at.Lambda @ self.kappa
        self.zeta = at.along(self.of_b)

    def _gamma(self) -> Array:
        """Weights (q, q, G), symmetric, of the derivative of M in that of V."""
        q = len(self.Y)
        A = np.zeros_like(self.Y)
        for a in range(q):
            A[a, a] = -0.5 * self.Y[a, a] - 0.5
            for b in range(a + 1, q):
                A[a, b] = A[b, a] = -0.5 * self.Y[a, b]
        return np.einsum("acg,cdg,bdg->abg", self.at.S, A, self.at.S)

    def _quadratic(self, matrix: Array) -> Array:
        """Give z' matrix z of every row, of symmetric matrices (q, q, G)."""
        a, b = np.tril_indices(len(matrix))
        entries = self.rows.spread(np.where(a == b, 1.0, 2.0)[:, None] * matrix[a, b])
        return np.einsum("mtl,mt->tl", self.rows.ZZ, entries[..., 0])

    def expected(self, values: Array) -> Array:
        """Average values (G, K, m) over the nodes: (m, G)."""
        if values.shape[1] == 1:
            return values[:, 0].T
        return np.einsum("gk,gkm->mg", self.nodes.share, values)

    @cached_property
    def C_Lambda(self) -> Array:
        """C Lambda (q, q, G)."""
        return np.einsum("cdg,db->cbg", self.at.C, self.at.Lambda)

    @cached_property
    def pull(self) -> Array:
        """What a change of b has in V through the rows at the mode (q, G)."""
        return self.tau - np.einsum("cdg,dg->cg", self.at.C, self.of_b)

    def scores(self) -> Array:
        """Give the derivative of V (P, G)."""
        at, p = self.at, self.structure.p
        slope = at.l2 * self.zeta - at.l3 * self.gamma
        beta = self.expected(self.nodes.slopes[..., :p]) + self.rows.sums(slope, self.rows.V[:p])
        twice = 2.0 * np.einsum("cbg,bag->cag", self.C_Lambda, self.Gamma)
        theta = [
            self.expected(self.of_z[..., i, None] * self.nodes.u[..., j, None])[0]
            + self.pull[i] * at.u[j]
            + twice[i, j]
            + self.kappa[j] * at.s[i]
            for i, j, _ in self.entries
        ]
        phi = self.expected(self.nodes.by_phi)
        for a in range(len(phi)):
            phi[a] += self.rows.sums(at.weighted(f"p{a}.1") * self.zeta - at.weighted(f"p{a}.2") * self.gamma)
        return np.concatenate([beta, theta, phi])


class Hessian:
    """Second derivatives of the weighted sum of V over units; fourth derivatives of the rows are there."""

    def __init__(self, scores: Scores) -> None:
        self.first, self.at, self.nodes, self.rows = scores, scores.at, scores.nodes, scores.rows
        s = scores.structure
        self.p, self.t, self.n_phi = s.p, s.layout.n_theta, s.n_phi
        self.P, self.q = self.p + self.t + self.n_phi, len(self.at.u)
        self.theta = [(self.p + k, i, j) for i, j, k in scores.entries]
        self.top = self.rows.top
        self.u = self._modes()
        self.b = np.einsum("ca,apg->cpg", self.at.Lambda, self.u)
        for k, i, j in self.theta:
            self.b[i, k] += self.at.u[j]
        self.E = self._along(self.b)
        self.E[: self.p] += self.rows.V[: self.p]
        self.C = self._curvatures()
        self.N = self._whitened()
        a, b = np.triu_indices(self.q)
        self.S = -np.einsum("acg,cbpg->abpg", self.at.S, self._upper())
        self.pairs = self.N[a, b]

    def _along(self, b: Array) -> Array:
        """Give z'b of every row, of b (q, P, G): (P, T, L)."""
        b = self.rows.spread(b)
        out = b[0] * self.rows.Z[0]
        for one, z in zip(b[1:], self.rows.Z[1:], strict=True):
            out += one * z
        return out

    def _modes(self) -> Array:
        """Give the derivatives of the modes (q, P, G)."""
        at, rows, p = self.at, self.rows, self.p
        right = np.zeros((self.q, self.P, rows.n_units))
        for c, z in enumerate(rows.Z):
            right[c, :p] = rows.sums(at.l2 * z, rows.V[:p])
            for a in range(self.n_phi):
                right[c, p + self.t + a] = rows.sums(at.weighted(f"p{a}.1") * z)
        right = np.einsum("ca,cpg->apg", at.Lambda, right)
        for k, i, j in self.theta:
            right[j, k] += at.s[i]
            right[:, k] -= self.first.C_Lambda[i] * at.u[j]
        return np.einsum("abg,bpg->apg", at.inverse, right)

    def _curvatures(self) -> Array:
        """Give the derivatives of C (q, q, P, G)."""
        at, rows = self.at, self.rows
        out = np.empty((self.q, self.q, self.P, rows.n_units))
        for m, (c, d) in enumerate(zip(*np.tril_indices(self.q), strict=True)):
            out[c, d] = rows.units(-np.einsum("ptl,tl->pt", self.E, at.l3 * rows.ZZ[m]))
            for a in range(self.n_phi):
                out[c, d, self.p + self.t + a] -= rows.sums(at.weighted(f"p{a}.2") * rows.ZZ[m])
            out[d, c] = out[c, d]
        return out

    def _whitened(self) -> Array:
        """Give S'(dM)S (q, q, P, G)."""
        Lambda, S = self.at.Lambda, self.at.S
        M = np.einsum("ca,cdpg,db->abpg", Lambda, self.C, Lambda)
        for k, i, j in self.theta:
            M[j, :, k] += self.first.C_Lambda[i]
            M[:, j, k] += self.first.C_Lambda[i]
        return np.einsum("cag,cdpg,dbg->abpg", S, M, S)

    def _upper(self) -> Array:
        """Upper triangle of `_whitened`, with half of its diagonal."""
        out = np.zeros_like(self.N)
        for a in range(self.q):
            out[a, a] = 0.5 * self.N[a, a]
            out[a, a + 1 :] = self.N[a, a + 1 :]
        return out

    def value(self) -> Array:
        """Give them (P, P)."""
        H = self._rows() + self._cholesky()
        half = self._entries()
        H += half + half.T
        if len(self.nodes.share[0]) > 1:
            H += self._spread_of_nodes() - self._squares()
        else:
            H -= np.einsum("apg,arg->pr", self.top * self.u, self.u, optimize=True)
        return 0.5 * (H + H.T)

    def _rows(self) -> Array:
        """Second derivatives of rows: at all nodes, and at the mode with the weights of those of m and M."""
        at, rows, q, first = self.at, self.rows, self.q, self.first
        top = rows.spread(self.top)
        bend, P = top * self.nodes.bend, self.P
        bend[0] += top * (at.l3 * first.zeta - at.weighted("l4") * first.gamma)
        E, n = self.E.reshape(P, -1), self.E[0].size
        if len(bend) == 1:
            return _gram(E, (bend[0] * self.E).reshape(P, n)) + self._rows_phi([])
        B = np.einsum("ca,adpg->cdpg", at.Lambda, self.S)
        for k, i, j in self.theta:
            B[i, :, k] += at.S[j]
        F = [self._along(B[:, d]) for d in range(q)]
        square = {pair: 1 + q + m for m, pair in enumerate((a, b) for a in range(q) for b in range(a, q))}
        right = bend[0] * self.E
        for d in range(q):
            right += bend[1 + d] * F[d]
        H = _gram(E, right.reshape(P, n))
        for d in range(q):
            right = bend[1 + d] * self.E
            for e in range(q):
                right += bend[square[min(d, e), max(d, e)]] * F[e]
            H += _gram(F[d].reshape(P, n), right.reshape(P, n))
        return H + self._rows_phi(F)

    def _rows_phi(self, F: list[Array]) -> Array:
        """Give what the further parameters add to `_rows`."""
        at, first, top = self.at, self.first, self.rows.spread(self.top)
        H = np.zeros((self.P, self.P))
        for a in range(self.n_phi):
            here, bend = self.p + self.t + a, top * self.nodes.bend_phi[a]
            bend[0] += top * (at.weighted(f"p{a}.2") * first.zeta - at.weighted(f"p{a}.3") * first.gamma)
            half = np.einsum("ptl,tl->p", self.E, bend[0])
            for one, part in zip(bend[1:], F, strict=True):
                half += np.einsum("ptl,tl->p", part, one)
            H[here] += half
            H[:, here] += half
            for b in range(self.n_phi):
                name = f"p{max(a, b)}.{min(a, b)}."
                own = at.weighted(f"{name}1") * first.zeta - at.weighted(f"{name}2") * first.gamma
                H[here, self.p + self.t + b] += self.top @ (self.nodes.phi_phi[a, b] + self.rows.sums(own))
        return H

    def _cholesky(self) -> Array:
        """Second derivatives of S and log det M in M along its first ones."""
        shape, both = _second_of_root(self.q)
        Q = np.einsum("abef,abg->efg", shape, self.first.Y) + both[..., None]
        right = np.einsum("efg,fpg->epg", Q * self.top, self.pairs)
        m = self.P
        return _gram(self.pairs.transpose(1, 0, 2).reshape(m, -1), right.transpose(1, 0, 2).reshape(m, -1))

    def _entries(self) -> Array:
        """Half of what stands in rows and columns of theta: an entry of Lambda times a derivative of what it meets."""
        at, first, nodes = self.at, self.first, self.nodes
        half = np.zeros((self.P, self.P))
        over = np.einsum("cdpg,db->cbpg", self.C, at.Lambda)
        met = np.einsum("cbpg,bag->capg", over, first.Gamma)
        s = self._slopes()
        of_z, q = first.expected(first.of_z), self.q
        moments = np.einsum("gkc,ak->cag", nodes.share[..., None] * first.of_z, first.grid)
        for k, i, j in self.theta:
            along = 2.0 * met[i, j] + (first.pull[i] + of_z[i]) * self.u[j] + first.kappa[j] * s[i]
            for d in range(q if nodes.share.shape[1] > 1 else 0):
                along += moments[i, d] * self.S[j, d]
            half[k] = along @ self.top
            for other, c, d in self.theta:
                half[k, other] += self.top @ (first.Gamma[j, d] * at.C[i, c])
        return half

    def _slopes(self) -> Array:
        """Give the derivative of sums of w l' z at the mode (q, P, G)."""
        at, rows = self.at, self.rows
        out = np.stack([rows.units(np.einsum("ptl,tl->pt", self.E, at.l2 * z)) for z in rows.Z])
        for a in range(self.n_phi):
            out[:, self.p + self.t + a] += rows.sums(at.weighted(f"p{a}.1"), rows.Z)
        return out

    def _squares(self) -> Array:
        """Average of the products of derivatives of u at the nodes."""
        grid, share = self.first.grid, self.nodes.share
        one, two = share @ grid.T, np.einsum("gk,ak,bk->abg", share, grid, grid, optimize=True)
        away = np.einsum("capg,ga->cpg", self.S, one)
        H = np.einsum("cpg,crg->pr", self.top * (self.u + away), self.u, optimize=True)
        H += np.einsum("cpg,crg->pr", self.top * self.u, away, optimize=True)
        right = np.einsum("abg,cbrg->carg", self.top * two, self.S)
        return H + np.einsum("capg,carg->pr", self.S, right, optimize=True)

    def _spread_of_nodes(self) -> Array:
        """Covariance over the nodes of the derivatives of their logarithms."""
        first, nodes, p = self.first, self.nodes, self.p
        G, K, _ = first.d.shape
        along = np.concatenate([self.u, *self.S.transpose(1, 0, 2, 3)]).transpose(2, 0, 1)  # (G, q + q q, P)
        wide = np.concatenate([first.d, *(first.d * a[:, None] for a in first.grid)], axis=-1)
        g = wide @ along
        g[..., :p] += nodes.slopes[..., :p]
        for k, i, j in self.theta:
            g[..., k] += first.of_z[..., i] * nodes.u[..., j]
        g[..., p + self.t :] += nodes.by_phi
        g -= np.matmul(nodes.share[:, None], g)
        g *= np.sqrt(self.top[:, None] * nodes.share)[..., None]
        g = g.reshape(G * K, self.P).T
        return _gram(g, g)


def _gram(left: Array, right: Array) -> Array:
    """Multiply (P, n) with the transposed of another, in pieces for which BLAS calls no other thread."""
    step = max(ONE_THREAD // (len(left) * len(right)), 1)
    pieces = range(0, left.shape[1], step)
    return np.asarray(sum(left[:, at : at + step] @ right[:, at : at + step].T for at in pieces))


@lru_cache(maxsize=8)
def _second_of_root(q: int) -> tuple[Array, Array]:
    """Second derivatives of S and of -log det M / 2 in the entries of N = S'(dM)S on and above the diagonal.

    With U the upper triangle of N and half of its diagonal, S changes by -SU, and -SU by S (UU* + U*U + up(U'U* +
    U*'U)); the logarithm of the determinant by tr N and -tr NN*.

    Returns
    -------
    ndarray, shape (q, q, m, m)
        Of S, before S is multiplied from the left.
    ndarray, shape (m, m)
    """
    a, b = np.triu_indices(q)
    m = len(a)
    U, N = np.zeros((m, q, q)), np.zeros((m, q, q))
    for e, (i, j) in enumerate(zip(a, b, strict=True)):
        U[e, i, j] = 0.5 if i == j else 1.0
        N[e, i, j] = N[e, j, i] = 1.0
    weight = np.triu(np.ones((q, q))) - 0.5 * np.eye(q)
    shape = np.empty((q, q, m, m))
    for e in range(m):
        for f in range(m):
            inner = U[e].T @ U[f]
            shape[:, :, e, f] = U[e] @ U[f] + U[f] @ U[e] + weight * (inner + inner.T)
    return shape, 0.5 * np.einsum("eij,fji->ef", N, N)
