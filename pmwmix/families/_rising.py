"""The log of a rising factorial over a power, with its derivatives in log t: one node of the graph each."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.polynomial import Polynomial
from pytensor.gradient import DisconnectedType, disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from scipy import special as scipy_special

from pmwmix.families._gamma import SHIFT, LogGamma, StirlingError
from pmwmix.links._curves import LARGE
from pmwmix.links._vectorise import vectorised


def log_rising_near(log_t: Any, y: Any) -> Any:
    """Write log gamma(t + y) - log gamma(t) - y log t of whole y and given log t, symbolic; for t near 0 and huge."""
    return LogRising(0)(log_t + pt.zeros_like(y), y + pt.zeros_like(log_t))


class LogRising(Op):
    """Derivative of some order in s = log t of log gamma(t + y) - log gamma(t) - y s, elementwise; y is data.

    Parameters
    ----------
    order : int
        0 is the function itself.

    Notes
    -----
    0 for y = 0 and 1. Near 0 from log gamma at 1 + t and at y + t, which stay finite; from t = 7 on from Stirling's
    formula, in which the large parts meet as (t + y - 1/2) log(1 + y / t) - y. Beyond t = exp(50) it is 0 up to
    rounding.
    """

    __props__ = ("order",)

    def __init__(self, order: int = 0) -> None:
        self.order = order

    def formula(self, xp: Any, special: Any, s: Any, y: Any) -> Any:
        """Evaluate with ``xp`` numpy and ``special`` scipy.special, or JAX's namesakes of both."""
        s = xp.minimum(s, LARGE)
        t = xp.exp(s)
        near = _near(xp, special, s, xp.minimum(t, float(SHIFT)), xp.maximum(y, 1.0), self.order)
        far = _far(xp, special, xp.maximum(t, float(SHIFT)), y, self.order)
        return xp.where(y > 1.0, xp.where(t < SHIFT, near, far), 0.0)

    def make_node(self, s: Any, y: Any) -> Apply:  # type: ignore[override]
        """Give the shape of both together."""
        s, y = pt.as_tensor(s), pt.as_tensor(y)
        return Apply(self, [s, y], [(s if s.ndim >= y.ndim else y).type()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        """Evaluate with numpy."""
        output_storage[0][0] = np.asarray(self.formula(np, scipy_special, *inputs), dtype=inputs[0].dtype)

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        """Give the shape of the one with more axes."""
        return [shapes[0] if len(shapes[0]) >= len(shapes[1]) else shapes[1]]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Say that y is data."""
        return [[True], [False]]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        """Differentiate in log t."""
        return [cotangents[0] * LogRising(self.order + 1)(*inputs), disconnected_type()]

    def pushforward(self, inputs: Any, outputs: Any, tangents: Any) -> Any:
        """Differentiate along log t."""
        if isinstance(tangents[0].type, DisconnectedType):
            return [disconnected_type()]
        return [tangents[0] * LogRising(self.order + 1)(*inputs)]


vectorised(LogRising)


def _in_log(xp: Any, t: Any, order: int, derivative: Any) -> Any:
    """Turn derivatives f^(j) in t into the one of some order in log t, with Stirling numbers of the second kind."""
    numbers = [1]
    for _ in range(order - 1):
        pairs = zip([*numbers, 0], [0, *numbers], strict=True)
        numbers = [j * here + before for j, (here, before) in enumerate(pairs, 1)]
    return sum(number * t**j * derivative(j) for j, number in enumerate(numbers, 1))


def _near(xp: Any, special: Any, s: Any, t: Any, y: Any, order: int) -> Any:
    """Differentiate log gamma(y + t) - log gamma(1 + t) + (1 - y) s, of y from 1 on."""

    def apart(j: int) -> Any:
        gamma = LogGamma(j).formula
        return gamma(xp, special, y + t) - gamma(xp, special, 1.0 + t)

    if order == 0:
        return apart(0) + (1.0 - y) * s
    return _in_log(xp, t, order, apart) + ((1.0 - y) if order == 1 else 0.0)


def _far(xp: Any, special: Any, t: Any, y: Any, order: int) -> Any:
    """Differentiate (t + y - 1/2) h - y + S(t + y) - S(t) with h = log(1 + y / t) and S Stirling's error."""

    def apart(j: int) -> Any:
        error = StirlingError(j).formula
        return error(xp, special, t + y) - error(xp, special, t)

    if order == 0:
        return (t + y - 0.5) * xp.log1p(y / t) - y + apart(0)
    h = [_log_ratio(xp, t, y, k) for k in range(order + 1)]
    out = (t + y - 0.5) * h[order] + t * sum(comb(order, i) * h[order - i] for i in range(1, order + 1))
    return out + _in_log(xp, t, order, apart)


def _log_ratio(xp: Any, t: Any, y: Any, order: int) -> Any:
    """Differentiate log(1 + y / t) in log t: with p = y / (t + y) by p' = -p (1 - p)."""
    if order == 0:
        return xp.log1p(y / t)
    p, q = y / (t + y), t / (t + y)
    if order == 1:
        return -p
    left = Polynomial([1.0])  # of p, times p (1 - p)
    for _ in range(order - 2):
        left = -(Polynomial([1.0, -2.0]) * left + Polynomial([0.0, 1.0, -1.0]) * left.deriv())
    value = sum(float(c) * p**i for i, c in enumerate(left.coef))
    return p * q * value
