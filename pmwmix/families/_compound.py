"""The sum over numbers of jumps in the Tweedie density, with its derivatives; Dunn & Smyth (2005), section 3.

With m the number of jumps at which its terms are largest and b the shape of one jump, the series of the density is
T(u, b) = log Σ_j exp{-(1 + b) m h(j / m) - s(j) - s(b j)}, u = log m, h(r) = r log r - r + 1, s Stirling's error: what
is large in it has been taken out, so that no digits are lost where m is. Few jumps are summed one by one. Many are an
integral to the last digit (their terms are a bell much wider than 1), taken by the trapezoidal rule in x with
j = m exp(x / sqrt((1 + b) m)): the terms at fixed x hardly move with u and b, and neither do their derivatives.
"""

from __future__ import annotations

from functools import cache
from math import comb, factorial
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from scipy import special as scipy_special

from pmwmix.families._gamma import StirlingError
from pmwmix.links._vectorise import vectorised

MANY, WIDE = 80.0, 2.5  # (1 + b) m and m / (1 + b) from which the sum is an integral to 1e-15
NODES = np.arange(-28.0, 18.0) * 0.55  # in x, to where terms are below 1e-16 of the largest
TAYLOR = 26  # terms of G, whose argument is below 1.8 in size
MOST = 200.0  # log m beyond which Stirling's errors are zero

Poly = dict[tuple[int, int], Any]  # coefficients of du^a db^b, missing ones zero


def jump_sum(u: Any, shape: Any) -> Any:
    """Write T(u, b), symbolic; ``shape`` has no axes or those of ``u``."""
    u, shape = pt.as_tensor(u), pt.as_tensor(shape)
    return JumpSum(0)(u, shape if shape.ndim in (0, u.ndim) else shape + pt.zeros_like(u))


class JumpSum(Op):
    """All derivatives of T of some total order n: outputs d^n T / du^a db^(n - a), a = 0 ... n."""

    __props__ = ("order",)
    highest = 4

    def __init__(self, order: int = 0) -> None:
        if order > self.highest:
            raise NotImplementedError(f"The sum over jumps has no derivatives of order {order}.")
        self.order = order

    def make_node(self, u: Any, shape: Any) -> Apply:  # type: ignore[override]
        """Give each derivative the shape of ``u``."""
        u, shape = pt.as_tensor(u), pt.as_tensor(shape)
        if 0 < shape.ndim < u.ndim:  # batches of a shape without axes
            shape = pt.shape_padright(shape, u.ndim - shape.ndim)
        return Apply(self, [u, shape], [u.type() for _ in range(self.order + 1)])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        """Sum or integrate, row by row as it is due."""
        u, shape = inputs
        flat = np.broadcast_to(shape, u.shape).ravel()
        flat = flat[:1] if shape.size == 1 or (flat == flat[:1]).all() else flat
        for storage, found in zip(output_storage, _by_rows(u.ravel(), flat, self.order), strict=True):
            storage[0] = found.reshape(u.shape).astype(u.dtype)

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        """Give the shape of ``u``."""
        return [shapes[0]] * (self.order + 1)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        """Differentiate in both."""
        u, shape = inputs
        above: Any = JumpSum(self.order + 1)(u, shape, return_list=True)
        live = [(a, c) for a, c in enumerate(cotangents) if not isinstance(c.type, DisconnectedType)]
        by_u, by_shape = (sum(c * above[a + more] for a, c in live) for more in (1, 0))
        if shape.ndim == 0:
            by_shape = pt.sum(by_shape)
        return [by_u, by_shape]

    def pushforward(self, inputs: Any, outputs: Any, tangents: Any) -> Any:
        """Differentiate along both."""
        above: Any = JumpSum(self.order + 1)(*inputs, return_list=True)
        along = [None if isinstance(t.type, DisconnectedType) else t for t in tangents]
        return [
            sum(t * above[a + more] for t, more in zip(along, (1, 0), strict=True) if t is not None)
            for a in range(self.order + 1)
        ]


vectorised(JumpSum)


def _by_rows(u: Any, shape: Any, order: int) -> list[Any]:
    """Give the derivatives at u (n,) and b (n,) or (1,)."""
    with np.errstate(all="ignore"):
        far = u > border(np, shape)
        out = [np.zeros(len(u)) for _ in range(order + 1)]
        for rows, derive in ((~far, _summed), (far, integrated)):
            if rows.any():
                own = shape if len(shape) == 1 else shape[rows]
                for storage, found in zip(out, derive(np, scipy_special, u[rows], own, order), strict=True):
                    storage[rows] = found
    return out


def border(xp: Any, shape: Any) -> Any:
    """Give the log m above which jumps are so many that their sum is an integral."""
    return xp.log(xp.maximum(MANY / (1.0 + shape), WIDE * (1.0 + shape)))


def most_jumps(u: float = np.log(WIDE * 101.0), shape: float = 99.0) -> float:
    """Give the last term of a sum that is worth adding; without arguments, of any sum."""
    m = float(np.exp(u))
    return float(np.ceil(m + 9.0 * np.sqrt(m / (1.0 + shape)) + 16.0))


def _summed(xp: Any, special: Any, u: Any, shape: Any, order: int) -> list[Any]:
    return summed(xp, special, u, shape, order, np.arange(1.0, most_jumps(u.max(), shape.min()) + 1.0))


def summed(xp: Any, special: Any, u: Any, shape: Any, order: int, j: Any) -> list[Any]:
    """Differentiate the sum over j (K,) at u (n,) and b (n,) or (1,)."""
    u, b = u[:, None], shape[:, None]
    m = xp.exp(u)
    jb = j * b
    below = j * xp.log1p((m - j) / j) + (j - m)  # -m h(j / m)
    E: Poly = {(0, 0): (1.0 + b) * below - _error(xp, special, j, 0)}
    E[0, 0] = E[0, 0] - _error(xp, special, jb, 0)
    for k in range(1, order + 1):
        E[0, k] = -(j**k) * _error(xp, special, jb, k) / factorial(k)
    if order:
        E[0, 1] = E[0, 1] + below
        E[1, 0] = (1.0 + b) * (j - m)
    if order > 1:
        E[1, 1] = j - m
    shared: Poly = {}
    for a in range(2, order + 1):
        shared[a, 0], shared[a, 1] = -(1.0 + b) * m / factorial(a), -m / factorial(a)
    return _outputs(_log_sum_exp(xp, E, order), shared, order)


def integrated(xp: Any, special: Any, u: Any, shape: Any, order: int) -> list[Any]:
    """Differentiate the integral at u (n,) and b (n,) or (1,), above `border`."""
    u, b = u[:, None], shape[:, None]
    near = xp.minimum(u, MOST)
    v = NODES * xp.exp(-0.5 * (near + xp.log1p(b)))
    S: Poly = {  # exp(-dlambda / 2) - 1, lambda = u + log(1 + b): the nodes move as 1 / sqrt((1 + b) m)
        (a, k): (-0.5) ** a / factorial(a) * scipy_special.binom(-0.5, k) * (1.0 + b) ** -k
        for a, k in _orders(order)
        if a + k
    }
    moved = {key: v * value for key, value in S.items()}
    F = _add(_compose([-(NODES**2) * g for g in _G(v, order)], moved, order), {(0, 0): v}, moved)
    jumps = _add(moved, {(1, 0): 1.0} if order else {})
    F = _add(F, _compose([-d for d in _error_of_exp(xp, special, near + v, order)], jumps, order))
    logs = {(0, k): (-1.0) ** (k - 1) / (k * b**k) for k in range(1, order + 1)}
    shapes = _error_of_exp(xp, special, xp.log(b) + near + v, order)
    F = _add(F, _compose([-d for d in shapes], _add(jumps, logs), order))
    shared: Poly = {(0, 0): 0.5 * (u - xp.log1p(b)) + np.log(NODES[1] - NODES[0])}
    if order:
        shared[1, 0] = 0.5
    for k in range(1, order + 1):
        shared[0, k] = -0.5 * (-1.0) ** (k - 1) / (k * (1.0 + b) ** k)
    return _outputs(_log_sum_exp(xp, F, order), shared, order)


def _error(xp: Any, special: Any, x: Any, order: int) -> Any:
    """Differentiate Stirling's error of x."""
    return StirlingError(order).formula(xp, special, x)


def _error_of_exp(xp: Any, special: Any, w: Any, order: int) -> list[Any]:
    """Give the derivatives of Stirling's error of exp(w) in w, (x d/dx)^k."""
    x = xp.exp(xp.minimum(w, MOST))
    parts = [x**k * _error(xp, special, x, k) for k in range(order + 1)]
    return [sum(_stirling(k, i) * parts[i] for i in range(k + 1)) for k in range(order + 1)]


@cache
def _stirling(n: int, k: int) -> int:
    """Count partitions of n things into k parts."""
    return sum((-1) ** (k - i) * comb(k, i) * i**n for i in range(k + 1)) // factorial(k)


def _G(v: Any, order: int) -> list[Any]:
    """Give G(v) = (exp(v) (v - 1) + 1) / v² = Σ v^i / (i! (i + 2)) and its derivatives Σ v^i / (i! (i + k + 2))."""
    out = []
    for k in range(order + 1):
        value: Any = 0.0
        for i in range(TAYLOR, -1, -1):
            value = value * v + 1.0 / (factorial(i) * (i + k + 2))
        out.append(value)
    return out


# -- polynomials in (du, db), cut off at an order ----------------------------------------------------------------------


def _orders(n: int) -> list[tuple[int, int]]:
    return [(a, k) for a in range(n + 1) for k in range(n + 1 - a)]


def _add(*terms: Poly) -> Poly:
    out: Poly = {}
    for term in terms:
        for key, value in term.items():
            out[key] = out[key] + value if key in out else value
    return out


def _times(P: Poly, Q: Poly, n: int) -> Poly:
    out: Poly = {}
    for (a, b), left in P.items():
        for (c, d), right in Q.items():
            if a + b + c + d <= n:
                key, value = (a + c, b + d), left * right
                out[key] = out[key] + value if key in out else value
    return out


def _compose(derivatives: list[Any], P: Poly, n: int) -> Poly:
    """Expand f(x + P) of a polynomial without constant, given the derivatives of f at x."""
    out: Poly = {(0, 0): derivatives[0]}
    power: Poly = {(0, 0): 1.0}
    for k in range(1, n + 1):
        power = _times(power, P, n)
        out = _add(out, {key: derivatives[k] * value / factorial(k) for key, value in power.items()})
    return out


def _log_sum_exp(xp: Any, E: Poly, n: int) -> Poly:
    """Expand log Σ exp E over the last axis; terms are taken from their means first, as they nearly cancel."""
    top = xp.max(E[0, 0], axis=-1, keepdims=True)
    share = xp.exp(E[0, 0] - top)
    whole = xp.sum(share, axis=-1, keepdims=True)
    share = share / whole

    def mean(values: Any) -> Any:
        return xp.sum(share * values, axis=-1, keepdims=True)

    out: Poly = {key: mean(value) for key, value in E.items() if key != (0, 0)}
    apart: Poly = {key: value - out[key] for key, value in E.items() if key != (0, 0)}
    power: Poly = {(0, 0): 1.0}
    moments: Poly = {}
    for k in range(1, n + 1):
        power = _times(power, apart, n)
        if k > 1:
            moments = _add(moments, {key: mean(value) / factorial(k) for key, value in power.items()})
    logs = [0.0] + [(-1.0) ** (k - 1) * factorial(k - 1) for k in range(1, n + 1)]
    out = _add(out, _compose(logs, moments, n))
    out[0, 0] = xp.log(whole) + top
    return out


def _outputs(T: Poly, shared: Poly, order: int) -> list[Any]:
    """Give the derivatives of total order ``order``, each (n,)."""
    T = _add(T, shared)
    n = len(T[0, 0])
    found = [T.get((a, order - a), 0.0) * (factorial(a) * factorial(order - a)) for a in range(order + 1)]
    return [(value + 0.0 * T[0, 0]).reshape(n) for value in found]
