"""The Gaussian pseudo-likelihood with random effects integrated out: one Schur complement per level.

Theory page, eqs. 5-12. All of it is a graph of theta and of the cross-products in `crossproducts.Blocks`; sigma and
beta are profiled out in closed form, and derivatives are taken by PyTensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.tensor.linalg import inv as matrix_inverse
from pytensor.tensor.linalg import slogdet, solve

from pmwmix.likelihood.graph import Graph, gradient_graph, jacobian_of
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Structure
from pmwmix.likelihood.ops.segment import segment_sum, spread
from pmwmix.likelihood.ops.smallmat import Column, Matrix, Pair, factor, inner, product, total, transposed_times


@dataclass(frozen=True)
class Inputs:
    """Symbolic data. Shapes as in `crossproducts.Blocks`; ``w`` conditional, ``w_total`` cumulated to the top.

    ``counts`` is there only if the residual structure has parameters.
    """

    zz: Any
    zx: Any
    zy: Any
    S0: Any
    parents: tuple[Any, ...]
    to_top: tuple[Any, ...]
    w: tuple[Any, ...]
    w_total: tuple[Any, ...]
    counts: Any = None

    def flat(self) -> list[Any]:
        """List all inputs, in the order in which data are passed."""
        known = [self.zz, self.zx, self.zy, self.S0, *self.parents, *self.to_top, *self.w, *self.w_total]
        return known if self.counts is None else [*known, self.counts]

    @classmethod
    def symbols(cls, structure: Structure) -> Inputs:
        """Make the symbols; small dimensions are static."""
        q, L = sum(structure.layout.q), len(structure.layout.q)
        p, lead = structure.p, structure.lead

        def vectors(name: str, n: int, dtype: str = "float64") -> tuple[Any, ...]:
            return tuple(pt.tensor(f"{name}{level}", shape=(None,), dtype=dtype) for level in range(n))

        return cls(
            pt.tensor("zz", shape=(*lead, q * (q + 1) // 2, None)),
            pt.tensor("zx", shape=(*lead, q, p, None)),
            pt.tensor("zy", shape=(*lead, q, None)),
            pt.tensor("S0", shape=(*lead, p + 1, p + 1)),
            vectors("parent", L - 1, "int64"),
            vectors("to_top", L - 1, "int64"),
            vectors("w", L),
            vectors("w_total", L),
            pt.tensor("counts", shape=(*lead, None)) if lead else None,
        )


@dataclass(frozen=True)
class Reduction:
    """What the levels leave behind: log det M per unit and the split right-hand sides, bottom-up."""

    logdets: list[Any]
    pairs: list[Pair]


def reduce_levels(structure: Structure, data: Inputs, theta: Any, rhs: Column) -> Reduction:
    """Integrate out the random effects level by level, lowest first (theory, eqs. 6-9).

    Parameters
    ----------
    structure : Structure
    data : Inputs
    theta : callable
        ``theta(level, k)`` gives entry k of (theta, rho), a scalar or a vector over the units of that level.
    rhs : list
        For each random column of any level, its cross-product with the right-hand sides, (..., G_1); of every block.

    Returns
    -------
    Reduction
        One entry per level: log det M (G_l,), and (left, right) with left'right = c'ΛM⁻¹Λ'c.
    """
    layout = structure.layout
    rho = _rho(structure, theta, 0)
    Q = sum(layout.q)
    pairs_of_columns = cross_products(structure, data.zz, Q * (Q + 1) // 2)
    C = triangle([at_rho(structure, one, rho) for one in pairs_of_columns], Q)
    rhs = [at_rho(structure, one, rho) for one in rhs]
    logdets, pairs = [], []
    for level, q in enumerate(layout.q):
        Lambda = _lambda(layout, level, theta)
        logdet, split = factor(inner(Lambda, [row[:q] for row in C[:q]]))
        logdets.append(logdet)
        pair = split(transposed_times(Lambda, rhs[:q]))
        pairs.append(pair)
        if level == len(layout.q) - 1:
            break
        upper = [split(transposed_times(Lambda, [C[i][j] for i in range(q)])) for j in range(q, len(C))]
        lift = _lifter(data, level)
        C = [
            [lift(_schur(C[q + i][q + j], upper[i][0], upper[j][1])) for j in range(len(upper))]
            for i in range(len(upper))
        ]
        rhs = [lift(_schur(rhs[q + i], upper[i][0], pair[1])) for i in range(len(upper))]
    return Reduction(logdets, pairs)


def _rho(structure: Structure, theta: Callable[[int, int], Any], level: int) -> list[Any]:
    return [theta(level, structure.layout.n_theta + r) for r in range(structure.n_rho)]


def at_rho(structure: Structure, values: Any, rho: Sequence[Any]) -> Any:
    """Sum the blocks (b, ...) with their coefficients; without parameters that has been done."""
    if not structure.n_rho:
        return values
    return total([c * values[b] for b, c in enumerate(structure.residual.coefficients(rho, pt))])


def cross_products(structure: Structure, values: Any, n: int) -> Column:
    """List n cross-products (n, ...) one by one, a leading axis of blocks kept."""
    return [values[:, a] if structure.n_rho else values[a] for a in range(n)]


def random_columns(structure: Structure, values: Any) -> Column:
    """List the cross-products of the random columns one by one."""
    return cross_products(structure, values, sum(structure.layout.q))


def log_det_R(structure: Structure, data: Inputs, theta: Callable[[int, int], Any]) -> Any:
    """Write log det R(rho) of every top-level unit, without its own weight (G_L,)."""
    rho = _rho(structure, theta, len(structure.layout.q) - 1)
    return total([d * data.counts[b] for b, d in enumerate(structure.residual.log_scales(rho, pt))])


def per_block(structure: Structure, write: Callable[..., Any], *values: Any) -> Any:
    """Write something of cross-products without a leading axis for every block."""
    if not structure.n_rho:
        return write(*values)
    return pt.stack([write(*(part[b] for part in values)) for b in range(structure.residual.n_blocks)])


def products_with(structure: Structure, values: Any, zx: Any) -> Any:
    """Multiply (n, q, G_1) with Z'WX over columns and units: (n, p); over blocks too."""
    Q, blocks = range(sum(structure.layout.q)), range(structure.residual.n_blocks)
    if structure.n_rho:
        return total([pt.dot(values[:, b, a], zx[b, a].T) for b in blocks for a in Q])
    return total([pt.dot(values[:, a], zx[a].T) for a in Q])


def triangle(zz: Any, q: int) -> Matrix:
    """Fill a symmetric nested list from its lower triangle, row by row."""
    full: Matrix = [[None] * q for _ in range(q)]
    k = 0
    for i in range(q):
        for j in range(i + 1):
            full[i][j] = full[j][i] = zz[k]
            k += 1
    return full


def _lambda(layout: ThetaLayout, level: int, theta: Callable[[int, int], Any]) -> Matrix:
    q = layout.q[level]
    Lambda: Matrix = [[None] * q for _ in range(q)]
    for i, j, k in layout.entries[level]:
        Lambda[i][j] = theta(level, k)
    return Lambda


def _schur(block: Any, left: Column, right: Column) -> Any:
    """C - B'B for one pair of columns (theory, eq. 7)."""
    gone = total([product(a, b) for a, b in zip(left, right, strict=True)])
    return block if gone is None else block - gone


def _lifter(data: Inputs, level: int) -> Callable[[Any], Any]:
    """Weighted sum of the units of a level into their parents (theory, eq. 8)."""
    return lambda values: segment_sum(values * data.w[level], data.parents[level], data.w[level + 1])


def schur_total(data: Inputs, S0: Any, one: Reduction, other: Reduction) -> Any:
    """S = S0 - sum over all units of w B'B for two right-hand sides, in the size of S0 (theory, eq. 9)."""
    S: Any = S0
    for level, ((left, _), (_, right)) in enumerate(zip(one.pairs, other.pairs, strict=True)):
        for a, b in zip(left, right, strict=True):
            if a is not None and b is not None:
                S = S - pt.dot(a * data.w_total[level], b.T)
    return S


def per_top_unit(data: Inputs, values: list[Any]) -> Any:
    """Add w times a value per unit, over all levels, into the top-level units; shape (G_L,)."""
    out: Any = None
    for level, value in enumerate(values):
        weighted = data.w_total[level] * value
        part = weighted if level == len(values) - 1 else segment_sum(weighted, data.to_top[level], data.w[-1])
        out = part if out is None else out + part
    return out


def objective_graph(structure: Structure) -> Graph:
    """Write value, gradient, Hessian and per-cluster scores of the profiled deviance as one graph.

    Returns
    -------
    Graph
        Inputs: theta, behind it rho, (n,); then `Inputs.flat`. Outputs, all for the standardised data:

        ``D``, ``S_xx`` (p, p), ``S_xy`` (p,), ``S_yy``, ``beta`` (p,)
            determinant term, Schur complement over [X, y], and the profiled coefficients.
        ``D_t``, ``Q_t`` (n,), ``D_tt``, ``Q_tt`` (n, n), ``Q_tb`` (n, p)
            derivatives of D and of Q(theta, beta) = (y - Xb)'V⁻¹(y - Xb) with beta held fixed.
        ``D_score``, ``Q_score`` (n, G_L), ``zr_grad`` (q, G_1)
            the same gradients per top-level unit, and the gradient with respect to Z'Wr; of every block.
        ``D_unit``, ``lost_unit`` (G_L,)
            shares of D and of (y - Xb)'W(y - Xb) - Q of each top-level unit, weights included.
        With REML also ``R``, ``R_t``, ``R_tt``: log det X'V⁻¹X.
        With rho also ``c`` (b,), ``c_t`` (b, n), the coefficients of the blocks: ``Q_score`` lacks what they change in
        (y - Xb)'W(y - Xb).
    """
    layout = structure.layout
    data = Inputs.symbols(structure)
    theta = pt.tensor("theta", shape=(structure.n_climbed,))
    own = theta[:, None] + pt.zeros_like(data.w[-1])[None, :]  # each top-level unit has its own copy of theta

    def own_theta(level: int, k: int) -> Any:
        return own[k] if level == len(layout.q) - 1 else spread(own[k], data.to_top[level])

    def scalar_theta(level: int, k: int) -> Any:
        return theta[k]

    columns = range(sum(layout.q))
    S0 = at_rho(structure, data.S0, _rho(structure, scalar_theta, 0))
    S_xx, S_xy, S_yy = _schur_complement(structure, data, scalar_theta, S0)
    beta = disconnected_grad(solve(S_xx, S_xy, assume_a="pos"))

    zr = per_block(structure, lambda zy, zx: pt.stack([zy[a] - pt.dot(beta, zx[a]) for a in columns]), data.zy, data.zx)
    reduction = reduce_levels(structure, data, own_theta, random_columns(structure, zr))
    D_unit = per_top_unit(data, reduction.logdets)
    if structure.n_rho:
        D_unit = D_unit + data.w[-1] * log_det_R(structure, data, own_theta)
    lost = per_top_unit(data, [-_schur(0.0, left, right) for left, right in reduction.pairs])
    outputs = {
        "D": pt.sum(D_unit),
        "S_xx": S_xx,
        "S_xy": S_xy,
        "S_yy": S_yy,
        "beta": beta,
        "D_unit": D_unit,
        "lost_unit": lost,
    }
    outputs |= _derivatives("D", pt.sum(D_unit), own, theta)
    outputs |= _derivatives("Q", -pt.sum(lost), own, theta, zr)  # Q(theta, b) = (y - Xb)'W(y - Xb) - lost
    outputs["Q_tb"] = -products_with(structure, outputs.pop("Q_tz"), data.zx)
    if structure.n_rho:
        outputs |= _derivatives_of_rows(structure, outputs, theta, S0, beta)
    if structure.reml:
        outputs |= _log_det_derivatives(S_xx, theta)
    return Graph([theta, *data.flat()], outputs)


def _schur_complement(
    structure: Structure, data: Inputs, theta: Callable[[int, int], Any], S0: Any
) -> tuple[Any, Any, Any]:
    """Write S_xx (p, p), S_xy (p,) and S_yy (theory, eq. 9)."""
    p = structure.p
    fixed = reduce_levels(structure, data, theta, random_columns(structure, data.zx))
    outcome = reduce_levels(structure, data, theta, random_columns(structure, data.zy))
    S_xx, S_xy = schur_total(data, S0[:p, :p], fixed, fixed), schur_total(data, S0[:p, p], fixed, outcome)
    return S_xx, S_xy, schur_total(data, S0[p, p], outcome, outcome)


def _derivatives(name: str, value: Any, own: Any, theta: Any, zr: Any = None) -> dict[str, Any]:
    """Gradient per top-level unit, its sum, and the Hessian; with ``zr`` also the mixed derivatives."""
    if zr is None:
        score = gradient_graph(value, own)
        gradient = score.sum(axis=1)
        return {f"{name}_score": score, f"{name}_t": gradient, f"{name}_tt": jacobian_of(gradient, [theta])[0]}
    score, by_zr = gradient_graph(value, [own, zr])
    gradient = score.sum(axis=1)
    second, mixed = jacobian_of(gradient, [theta, zr])
    out = {f"{name}_score": score, f"{name}_t": gradient, f"{name}_tt": second}
    return out | {f"{name}_tz": mixed, "zr_grad": by_zr}


def _derivatives_of_rows(
    structure: Structure, outputs: dict[str, Any], theta: Any, S0: Any, beta: Any
) -> dict[str, Any]:
    """Add what rho changes in (y - Xb)'W(y - Xb) to the derivatives of Q, and write the coefficients of the blocks."""
    p = structure.p
    rows = S0[p, p] - 2.0 * pt.dot(S0[p, :p], beta) + pt.dot(beta, pt.dot(S0[:p, :p], beta))
    gradient = gradient_graph(rows, theta)
    second, mixed = jacobian_of(gradient, [theta, beta])
    rho = [theta[structure.layout.n_theta + r] for r in range(structure.n_rho)]
    c = pt.stack([pt.as_tensor(one, dtype="float64") for one in structure.residual.coefficients(rho, pt)])
    added = {"Q_t": gradient, "Q_tt": second, "Q_tb": mixed}
    return {name: outputs[name] + part for name, part in added.items()} | {"c": c, "c_t": jacobian_of(c, [theta])[0]}


def _log_det_derivatives(S_xx: Any, theta: Any) -> dict[str, Any]:
    """Differentiate log det S_xx by Jacobi's formula, d log det S = tr(S⁻¹ dS) (theory, eq. 11)."""
    gradient = gradient_graph(None, theta, known_grads={S_xx: matrix_inverse(S_xx)})
    return {"R": slogdet(S_xx)[1], "R_t": gradient, "R_tt": jacobian_of(gradient, [theta])[0]}


def contrast_graph(structure: Structure) -> Graph:
    """Differentiate u'S_xx(theta)u with respect to theta for many vectors u at once (for Satterthwaite).

    Returns
    -------
    Graph
        Inputs: (theta, rho) copied for every vector (n, m), ``U`` (p, m), then `Inputs.flat`. Output ``uSu_t``
        (n, m).
    """
    p = structure.p
    data = Inputs.symbols(structure)
    theta = pt.tensor("theta", shape=(structure.n_climbed, None))
    U = pt.tensor("U", shape=(p, None))
    columns = random_columns(structure, data.zx)
    rhs = [per_block(structure, lambda zx: pt.dot(U.T, zx), column) for column in columns]
    reduction = reduce_levels(structure, data, lambda level, k: theta[k][:, None], rhs)
    total_u: Any = 0.0  # u'S_xx u without its part that does not depend on theta
    if structure.n_rho:
        rows = per_block(structure, lambda S0: pt.sum(U * pt.dot(S0[:p, :p], U), axis=0), data.S0)
        total_u = pt.sum(at_rho(structure, rows, _rho(structure, lambda level, k: theta[k], 0)))
    for level, (left, right) in enumerate(reduction.pairs):
        total_u = total_u + pt.sum(data.w_total[level] * _schur(0.0, left, right))
    return Graph([theta, U, *data.flat()], {"uSu_t": gradient_graph(total_u, theta)})


def reml_score_graph(structure: Structure) -> Graph:
    """Write the share of every top-level unit in the gradient of log det X'V⁻¹X (for robust REML), as one graph.

    What rho changes in X'WX is not in it.
    """
    layout, p = structure.layout, structure.p
    data = Inputs.symbols(structure)
    own = pt.tensor("theta", shape=(structure.n_climbed, None))

    def pick(level: int, k: int) -> Any:
        return own[k] if level == len(layout.q) - 1 else spread(own[k], data.to_top[level])

    fixed = reduce_levels(structure, data, pick, random_columns(structure, data.zx))
    S0 = at_rho(structure, data.S0, _rho(structure, lambda level, k: disconnected_grad(own[k, 0]), 0))
    S = schur_total(data, S0[:p, :p], fixed, fixed)
    return Graph([own, *data.flat()], {"R_score": gradient_graph(None, own, known_grads={S: matrix_inverse(S)})})
