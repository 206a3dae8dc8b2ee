"""The Gaussian pseudo-likelihood with random effects integrated out: one Schur complement per level.

Theory page, eqs. 5-12. All of it is a graph of theta and of the cross-products in `crossproducts.Blocks`; sigma and
beta are profiled out in closed form, and derivatives are taken by PyTensor.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Symbolic data. Shapes as in `crossproducts.Blocks`; ``w`` conditional, ``w_total`` cumulated to the top."""

    zz: Any
    zx: Any
    zy: Any
    S0: Any
    parents: tuple[Any, ...]
    to_top: tuple[Any, ...]
    w: tuple[Any, ...]
    w_total: tuple[Any, ...]

    def flat(self) -> list[Any]:
        """List all inputs, in the order in which data are passed."""
        return [self.zz, self.zx, self.zy, self.S0, *self.parents, *self.to_top, *self.w, *self.w_total]

    @classmethod
    def symbols(cls, structure: Structure) -> Inputs:
        """Make the symbols; small dimensions are static."""
        q, L = sum(structure.layout.q), len(structure.layout.q)
        p = structure.p

        def vectors(name: str, n: int, dtype: str = "float64") -> tuple[Any, ...]:
            return tuple(pt.tensor(f"{name}{level}", shape=(None,), dtype=dtype) for level in range(n))

        return cls(
            pt.tensor("zz", shape=(q * (q + 1) // 2, None)),
            pt.tensor("zx", shape=(q, p, None)),
            pt.tensor("zy", shape=(q, None)),
            pt.tensor("S0", shape=(p + 1, p + 1)),
            vectors("parent", L - 1, "int64"),
            vectors("to_top", L - 1, "int64"),
            vectors("w", L),
            vectors("w_total", L),
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
        ``theta(level, k)`` gives theta[k], a scalar or a vector over the units of that level.
    rhs : list
        For each random column of any level, its cross-product with the right-hand sides, (..., G_1).

    Returns
    -------
    Reduction
        One entry per level: log det M (G_l,), and (left, right) with left'right = c'ΛM⁻¹Λ'c.
    """
    layout = structure.layout
    C = triangle(data.zz, sum(layout.q))
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
        Inputs: theta, then `Inputs.flat`. Outputs, all for the standardised data:

        ``D``, ``S_xx`` (p, p), ``S_xy`` (p,), ``S_yy``, ``beta`` (p,)
            determinant term, Schur complement over [X, y], and the profiled coefficients.
        ``D_t``, ``Q_t`` (n_theta,), ``D_tt``, ``Q_tt`` (n_theta, n_theta), ``Q_tb`` (n_theta, p)
            derivatives of D and of Q(theta, beta) = (y - Xb)'V⁻¹(y - Xb) with beta held fixed.
        ``D_score``, ``Q_score`` (n_theta, G_L), ``zr_grad`` (q, G_1)
            the same gradients per top-level unit, and the gradient with respect to Z'Wr.
        ``D_unit``, ``lost_unit`` (G_L,)
            shares of D and of (y - Xb)'W(y - Xb) - Q of each top-level unit, weights included.
        With REML also ``R``, ``R_t``, ``R_tt``: log det X'V⁻¹X.
    """
    layout = structure.layout
    data = Inputs.symbols(structure)
    theta = pt.tensor("theta", shape=(layout.n_theta,))
    own = theta[:, None] + pt.zeros_like(data.w[-1])[None, :]  # each top-level unit has its own copy of theta

    def own_theta(level: int, k: int) -> Any:
        return own[k] if level == len(layout.q) - 1 else spread(own[k], data.to_top[level])

    def scalar_theta(level: int, k: int) -> Any:
        return theta[k]

    columns = range(sum(layout.q))
    S_xx, S_xy, S_yy = _schur_complement(structure, data, scalar_theta)
    beta = disconnected_grad(solve(S_xx, S_xy, assume_a="pos"))

    zr = pt.stack([data.zy[a] - pt.dot(beta, data.zx[a]) for a in columns])
    reduction = reduce_levels(structure, data, own_theta, [zr[a] for a in columns])
    D_unit = per_top_unit(data, reduction.logdets)
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
    mixed = outputs.pop("Q_tz")
    outputs["Q_tb"] = total([-pt.dot(mixed[:, a], data.zx[a].T) for a in columns])
    if structure.reml:
        outputs |= _log_det_derivatives(S_xx, theta)
    return Graph([theta, *data.flat()], outputs)


def _schur_complement(structure: Structure, data: Inputs, theta: Callable[[int, int], Any]) -> tuple[Any, Any, Any]:
    """Write S_xx (p, p), S_xy (p,) and S_yy (theory, eq. 9)."""
    p, columns = structure.p, range(sum(structure.layout.q))
    fixed = reduce_levels(structure, data, theta, [data.zx[a] for a in columns])
    outcome = reduce_levels(structure, data, theta, [data.zy[a] for a in columns])
    S_xx, S_xy = schur_total(data, data.S0[:p, :p], fixed, fixed), schur_total(data, data.S0[:p, p], fixed, outcome)
    return S_xx, S_xy, schur_total(data, data.S0[p, p], outcome, outcome)


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


def _log_det_derivatives(S_xx: Any, theta: Any) -> dict[str, Any]:
    """Differentiate log det S_xx by Jacobi's formula, d log det S = tr(S⁻¹ dS) (theory, eq. 11)."""
    gradient = gradient_graph(None, theta, known_grads={S_xx: matrix_inverse(S_xx)})
    return {"R": slogdet(S_xx)[1], "R_t": gradient, "R_tt": jacobian_of(gradient, [theta])[0]}


def contrast_graph(structure: Structure) -> Graph:
    """Differentiate u'S_xx(theta)u with respect to theta for many vectors u at once (for Satterthwaite).

    Returns
    -------
    Graph
        Inputs: theta copied for every vector (n_theta, m), ``U`` (p, m), then `Inputs.flat`. Output ``uSu_t``
        (n_theta, m).
    """
    layout, p = structure.layout, structure.p
    data = Inputs.symbols(structure)
    theta = pt.tensor("theta", shape=(layout.n_theta, None))
    U = pt.tensor("U", shape=(p, None))
    rhs = [pt.dot(U.T, data.zx[a]) for a in range(sum(layout.q))]
    reduction = reduce_levels(structure, data, lambda level, k: theta[k][:, None], rhs)
    total_u: Any = 0.0  # u'S_xx u without its part that does not depend on theta
    for level, (left, right) in enumerate(reduction.pairs):
        total_u = total_u + pt.sum(data.w_total[level] * _schur(0.0, left, right))
    return Graph([theta, U, *data.flat()], {"uSu_t": gradient_graph(total_u, theta)})


def reml_score_graph(structure: Structure) -> Graph:
    """Write the share of every top-level unit in the gradient of log det X'V⁻¹X (for robust REML), as one graph."""
    layout, p = structure.layout, structure.p
    data = Inputs.symbols(structure)
    own = pt.tensor("theta", shape=(layout.n_theta, None))

    def pick(level: int, k: int) -> Any:
        return own[k] if level == len(layout.q) - 1 else spread(own[k], data.to_top[level])

    fixed = reduce_levels(structure, data, pick, [data.zx[a] for a in range(sum(layout.q))])
    S = schur_total(data, data.S0[:p, :p], fixed, fixed)
    return Graph([own, *data.flat()], {"R_score": gradient_graph(None, own, known_grads={S: matrix_inverse(S)})})
