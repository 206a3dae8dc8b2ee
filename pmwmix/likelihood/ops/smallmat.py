"""Factors of many small matrices at once, as a graph.

A matrix over units is a nested list ``A[i][j]`` of vectors with one entry per unit. Up to `UNROLL` columns the
algebra is written out entry by entry, which a compiler fuses into one pass; above, batched routines take over,
because the written-out graph grows with the cube of the size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pmwmix.likelihood.ops.registry import register
from pmwmix.links._vectorise import vectorised

UNROLL = 3
Column = list[Any]
Matrix = list[list[Any]]


def total(terms: Sequence[Any]) -> Any:
    """Add terms, skipping structural zeros (None); None if nothing is left."""
    kept = [term for term in terms if term is not None]
    if not kept:
        return None
    out = kept[0]
    for term in kept[1:]:
        out = out + term
    return out


def product(a: Any, b: Any) -> Any:
    """Multiply two entries, either of which may be a structural zero."""
    return None if a is None or b is None else a * b


def transposed_times(Lambda: Matrix, column: Column) -> Column:
    """Compute Λ'c for one column c of q entries."""
    q = len(Lambda)
    return [total([product(Lambda[i][a], column[i]) for i in range(q)]) for a in range(q)]


def inner(Lambda: Matrix, C: Matrix, prior: Matrix | None = None) -> Matrix:
    """Compute M = P + Λ'CΛ (theory, eq. 6), P the identity if left out; only the lower triangle is filled."""
    q = len(Lambda)
    CL = [[total([product(C[i][k], Lambda[k][j]) for k in range(q)]) for j in range(q)] for i in range(q)]
    M: Matrix = [[None] * q for _ in range(q)]
    for i in range(q):
        for j in range(i + 1):
            entry = total([product(Lambda[k][i], CL[k][j]) for k in range(q)])
            own = (1.0 if i == j else None) if prior is None else prior[i][j]
            M[i][j] = total([entry, own])
    return M


Pair = tuple[Column, Column]


def factor(M: Matrix) -> tuple[Any, Callable[[Column], Pair]]:
    """Factor M and return log det M per unit and a map c -> (left, right) with left'right = c'M⁻¹c.

    Parameters
    ----------
    M : nested list, q x q, of vectors (n_unit,)
        Lower triangle of a positive definite matrix per unit; None is a structural zero.

    Returns
    -------
    logdet : vector (n_unit,)
    split : callable
        Takes a list of q arrays of shape (..., n_unit). For two columns c and d, the left of c times the right of d
        sums to c'M⁻¹d.
    """
    return _unrolled(M) if len(M) <= UNROLL else _batched(M)


def _unrolled(M: Matrix) -> tuple[Any, Callable[[Column], Pair]]:
    """M = LDL' entry by entry, L with a unit diagonal; left is L⁻¹c, right D⁻¹L⁻¹c.

    Unlike a Cholesky factor this needs no square root, one division per column and one logarithm.
    """
    q = len(M)
    L: Matrix = [[None] * q for _ in range(q)]
    T: Matrix = [[None] * q for _ in range(q)]  # LD
    inverse: Column = []
    volume: Any = None
    for j in range(q):
        squares = total([product(L[j][k], T[j][k]) for k in range(j)])
        pivot = M[j][j] if squares is None else M[j][j] - squares
        inverse.append(1.0 / pivot)
        volume = pivot if volume is None else volume * pivot
        for i in range(j + 1, q):
            cross = total([product(L[i][k], T[j][k]) for k in range(j)])
            T[i][j] = total([M[i][j], None if cross is None else -cross])
            L[i][j] = product(T[i][j], inverse[j])

    def split(column: Column) -> Pair:
        left: Column = []
        for i in range(q):
            known = total([product(L[i][k], left[k]) for k in range(i)])
            left.append(total([column[i], None if known is None else -known]))
        return left, [product(z, r) for z, r in zip(left, inverse, strict=True)]

    return pt.log(volume), split


def _batched(M: Matrix) -> tuple[Any, Callable[[Column], Pair]]:
    """Invert all M at once; left is c, right is M⁻¹c."""
    q = len(M)
    full: Any = 0.0  # a sum, not a stack: the derivative of a stack splits arrays at lengths that JAX must know
    for i in range(q):
        for j in range(i + 1):
            if M[i][j] is not None:
                place = np.zeros((q, q))
                place[i, j] = place[j, i] = 1.0
                full = full + M[i][j][..., None, None] * place
    both: Any = InverseLogDet()(full)
    inverse, logdet = both

    def split(column: Column) -> Pair:
        right = [total([product(inverse[..., i, j], column[j]) for j in range(q)]) for i in range(q)]
        return column, right

    return logdet, split


@dataclass(frozen=True)
class Factor:
    """A factored M = RR' per unit.

    Parameters
    ----------
    logdet : vector (n_unit,)
    solve : callable
        c -> M⁻¹c for a column c of q arrays (..., n_unit).
    scale : callable or None
        a -> R'⁻¹a, whose covariance is M⁻¹ when that of a is I; only up to `UNROLL` columns.
    """

    logdet: Any
    solve: Callable[[Column], Column]
    scale: Callable[[Column], Column] | None


def factorise(M: Matrix, floor: float) -> Factor:
    """Factor M; pivots below ``floor`` are raised to it, so that the factor exists for any symmetric M.

    Parameters
    ----------
    M : nested list, q x q, of vectors (n_unit,)
        Lower triangle; None is a structural zero.
    floor : float
    """
    if len(M) > UNROLL:
        logdet, split = _batched(M)
        return Factor(logdet, lambda column: split(column)[1], None)
    q = len(M)
    R: Matrix = [[None] * q for _ in range(q)]
    for j in range(q):
        squares = total([product(R[j][k], R[j][k]) for k in range(j)])
        pivot = M[j][j] if squares is None else M[j][j] - squares
        R[j][j] = pt.sqrt(pt.maximum(pivot, floor))
        for i in range(j + 1, q):
            cross = total([product(R[i][k], R[j][k]) for k in range(j)])
            entry = total([M[i][j], None if cross is None else -cross])
            R[i][j] = None if entry is None else entry / R[j][j]

    def forward(column: Column) -> Column:
        out: Column = []
        for i in range(q):
            known = total([product(R[i][k], out[k]) for k in range(i)])
            entry = total([column[i], None if known is None else -known])
            out.append(None if entry is None else entry / R[i][i])
        return out

    def backward(column: Column) -> Column:
        out: Column = [None] * q
        for i in range(q - 1, -1, -1):
            known = total([product(R[k][i], out[k]) for k in range(i + 1, q)])
            entry = total([column[i], None if known is None else -known])
            out[i] = None if entry is None else entry / R[i][i]
        return out

    logdet = total([2.0 * pt.log(R[j][j]) for j in range(q)])
    return Factor(logdet, lambda column: backward(forward(column)), backward)


class InverseLogDet(Op):
    """Inverse (..., q, q) and log-determinant (...,) of symmetric positive definite matrices.

    Its derivatives stay within itself: d log det M = tr(M⁻¹ dM), d M⁻¹ = -M⁻¹ dM M⁻¹.
    """

    __props__ = ()

    def make_node(self, M: Any) -> Apply:  # type: ignore[override]
        M = pt.as_tensor(M)
        return Apply(self, [M], [M.type(), pt.TensorType(M.dtype, M.type.shape[:-2])()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        output_storage[0][0] = np.linalg.inv(inputs[0])
        output_storage[1][0] = np.asarray(np.linalg.slogdet(inputs[0])[1])

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        return [shapes[0], shapes[0][:-2]]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        both: Any = self(inputs[0])
        inverse = both[0]
        by_inverse, by_logdet = cotangents
        out: Any = 0.0
        if not isinstance(by_inverse.type, DisconnectedType):
            out = out - inverse @ by_inverse @ inverse
        if not isinstance(by_logdet.type, DisconnectedType):
            out = out + by_logdet[..., None, None] * inverse
        return [out]


vectorised(InverseLogDet)


def _jax_inverse(op: Any, node: Apply) -> Any:
    import jax.numpy as jnp

    return lambda M: (jnp.linalg.inv(M), jnp.linalg.slogdet(M)[1])


register(InverseLogDet, _jax_inverse)
