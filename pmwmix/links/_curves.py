"""Curves: functions of one variable whose derivatives are written out, order by order.

A derivative taken by the chain rule through many operations loses digits in the tails and makes long graphs; here each
derivative is one node of the graph, exact to the last few digits, on every engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from scipy import special as scipy_special

from pmwmix.links._vectorise import vectorised

LARGE = 50.0  # beyond it, exp goes on as its Taylor polynomial of second order: exp(50) = 5e21
SMALL = 1e-8  # below it, log goes on so
NARROW = 1e-12  # an interval is at least as wide as this


class Curve(Op):
    """Derivative of some order of a function of one variable, elementwise on an array of any shape.

    Parameters
    ----------
    order : int
        0 is the function itself.
    """

    __props__ = ("order",)
    highest: ClassVar[int] = 4  # derivative that `formula` knows

    def __init__(self, order: int = 0) -> None:
        if order > self.highest:
            raise NotImplementedError(f"{type(self).__name__} has no derivative of order {order}.")
        self.order = order

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        """Evaluate with ``xp`` numpy and ``special`` scipy.special, or JAX's namesakes of both."""
        raise NotImplementedError

    @classmethod
    def up_to(cls, x: Any, highest: int) -> list[Any]:
        """Give the function and its derivatives up to an order, as new arrays of numpy."""
        return [np.asarray(cls(order).formula(np, scipy_special, x)) for order in range(highest + 1)]

    def make_node(self, x: Any) -> Apply:  # type: ignore[override]
        x = pt.as_tensor(x)
        return Apply(self, [x], [x.type()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        value = self.formula(np, scipy_special, inputs[0])
        output_storage[0][0] = np.asarray(value, dtype=inputs[0].dtype)

    def infer_shape(self, node: Apply, shapes: Any) -> Any:
        return [shapes[0]]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        return [cotangents[0] * type(self)(self.order + 1)(inputs[0])]

    def pushforward(self, inputs: Any, outputs: Any, tangents: Any) -> Any:
        return [tangents[0] * type(self)(self.order + 1)(inputs[0])]


vectorised(Curve)


class BoundedExp(Curve):
    """Exp up to `LARGE`, then its Taylor polynomial of second order: finite, convex and increasing everywhere."""

    highest = 99

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        value = xp.exp(xp.minimum(x, LARGE))
        if self.order > 2:
            return xp.where(x < LARGE, value, 0.0)
        beyond = xp.maximum(x - LARGE, 0.0)
        return value * (1.0 + beyond + 0.5 * beyond**2, 1.0 + beyond, 1.0)[self.order]

    @classmethod
    def up_to(cls, x: Any, highest: int) -> list[Any]:
        """Give them by one exponential."""
        if x.size and x.max() >= LARGE:
            return super().up_to(x, highest)
        return [np.exp(x)] * (highest + 1)


class Softplus(Curve):
    """Log (1 + exp(x)); its derivative is the logistic distribution function."""

    highest = 5

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        e = xp.exp(-xp.abs(x))
        if self.order == 0:
            return xp.maximum(x, 0.0) + xp.log1p(e)
        larger = 1.0 / (1.0 + e)
        if self.order == 1:
            return xp.where(x > 0.0, larger, e * larger)
        density = e * larger * larger
        if self.order == 2:
            return density
        if self.order == 4:
            return density * (1.0 - 6.0 * density)
        third = density * xp.sign(x) * (e - 1.0) * larger
        return third if self.order == 3 else third * (1.0 - 12.0 * density)

    @classmethod
    def up_to(cls, x: Any, highest: int) -> list[Any]:
        """Give them by one exponential."""
        e = np.abs(x)
        np.exp(np.negative(e, out=e), out=e)
        value = np.log1p(e)
        value += np.maximum(x, 0.0)
        larger = np.add(e, 1.0)
        np.divide(1.0, larger, out=larger)
        smaller = e * larger
        out = [value, np.where(x > 0.0, larger, smaller)]
        if highest > 1:
            smaller *= larger
            out.append(smaller)
        if highest > 2:
            e -= 1.0
            e *= larger
            out.append(smaller * np.sign(x) * e)
        if highest > 3:
            out.append(smaller * (1.0 - 6.0 * smaller))
        return out


class LogOneMinusExp(Curve):
    """Log (1 - exp(-x)) of x > 0; its derivative b = 1 / (exp(x) - 1) obeys b' = -b (1 + b)."""

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        x = xp.maximum(x, NARROW)
        left = -xp.expm1(-x)
        if self.order == 0:
            return xp.where(x > 1.0, xp.log1p(-xp.exp(-xp.maximum(x, 1.0))), xp.log(left))
        b = xp.exp(-x) / left
        if self.order == 1:
            return b
        factor = (-1.0, 1.0 + 2.0 * b, -(1.0 + 6.0 * b * (1.0 + b)))[self.order - 2]
        return b * (1.0 + b) * factor


class BoundedLog(Curve):
    """Log down to `SMALL`, then its Taylor polynomial of second order: finite, concave, its maximum above zero."""

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        safe = xp.maximum(x, SMALL)
        below = xp.minimum(x / SMALL - 1.0, 0.0)
        if self.order == 0:
            return xp.log(safe) + below - 0.5 * below**2
        if self.order == 1:
            return (1.0 - below) / safe
        if self.order == 2:
            return -1.0 / safe**2
        return xp.where(x > SMALL, (2.0, -6.0)[self.order - 3] / safe**self.order, 0.0)


class BoundedReciprocal(Curve):
    """1 / x down to `SMALL`, then its Taylor polynomial of second order: finite, convex and decreasing."""

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        safe = xp.maximum(x, SMALL)
        below = xp.minimum(x / SMALL - 1.0, 0.0)
        if self.order == 0:
            return (1.0 - below + below**2) / safe
        if self.order == 1:
            return (2.0 * below - 1.0) / safe**2
        if self.order == 2:
            return 2.0 / safe**3
        return xp.where(x > SMALL, (-6.0, 24.0)[self.order - 3] / safe ** (self.order + 1), 0.0)


class LogNormalCdf(Curve):
    """Log of the standard normal distribution function Phi.

    Below -7 by Laplace's continued fraction of Mills' ratio (Abramowitz & Stegun 1964, 26.2.14), phi / Phi = z + K_1
    with z = -x and K_n = n / (z + K_(n+1)). It follows that K_n' = K_n (K_(n+1) - K_n), so that all derivatives are
    products of small differences and nothing cancels.
    """

    FROM = -7.0
    TERMS = 10

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        middle = self._middle(xp, special, xp.maximum(x, self.FROM))
        return xp.where(x > self.FROM, middle, self._tail(xp, -xp.minimum(x, self.FROM)))

    def _middle(self, xp: Any, special: Any, x: Any) -> Any:
        far = 0.5 * special.erfc(xp.abs(x) * np.sqrt(0.5))  # probability beyond |x|
        if self.order == 0:
            return xp.where(x > 0.0, xp.log1p(-far), xp.log(xp.where(x > 0.0, 1.0, far)))
        r = xp.exp(-0.5 * x**2) / (np.sqrt(2.0 * np.pi) * xp.where(x > 0.0, 1.0 - far, far))
        if self.order == 1:
            return r
        d = r + x
        if self.order == 2:
            return -r * d
        if self.order == 3:
            return r * (d * d - 1.0 + r * d)
        return r * (3.0 * d - d**3 - 4.0 * r * d * d + r - r * r * d)

    def _tail(self, xp: Any, z: Any) -> Any:
        K: list[Any] = [None] * (self.TERMS + 2)
        K[-1] = 0.5 * (xp.sqrt(z * z + 4.0 * (self.TERMS + 1)) - z)
        for n in range(self.TERMS, 0, -1):
            K[n] = n / (z + K[n + 1])
        if self.order == 0:
            return -0.5 * z * z - 0.5 * np.log(2.0 * np.pi) - xp.log(z + K[1])
        if self.order == 1:
            return z + K[1]
        g1, g2, g3 = (K[n + 1] - K[n] for n in (1, 2, 3))
        if self.order == 2:
            return K[1] * g1 - 1.0
        slope = K[2] * g2 - K[1] * g1  # of g1
        third = K[1] * (g1 * g1 + slope)
        if self.order == 3:
            return third
        curvature = K[2] * (g2 * g2 + K[3] * g3 - K[2] * g2) - third
        return K[1] * (g1 * (g1 * g1 + slope) + 2.0 * g1 * slope + curvature)


class LogCauchyCdf(Curve):
    """Log of the Cauchy distribution function, the angle from the negative axis over pi.

    The score h = f'/f of its density f gives all derivatives: r = f / F obeys r' = r (h - r).
    """

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        angle = xp.arctan2(1.0, -x)
        if self.order == 0:
            return xp.log(angle) - np.log(np.pi)
        s = 1.0 / (1.0 + x * x)
        r = s / angle
        if self.order == 1:
            return r
        h = -2.0 * x * s
        q = h - r
        if self.order == 2:
            return r * q
        h1 = 2.0 * (x * x - 1.0) * s * s
        q1 = h1 - r * q
        if self.order == 3:
            return r * (q * q + q1)
        h2 = 4.0 * x * (3.0 - x * x) * s * s * s
        return r * (q * (q * q + 3.0 * q1) + h2 - r * (q * q + q1))


class LogGumbelCdf(Curve):
    """Log (1 - exp(-u)) with u = exp(x): the log-probability of the complementary log-log link.

    Its derivative b = u / (exp(u) - 1) obeys b' = bq with q = 1 - u - b, and q' = -u - b'.
    """

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        u = xp.exp(xp.minimum(x, LARGE))
        left = -xp.expm1(-u)
        if self.order == 0:
            tiny = u < 1e-3  # log((1 - exp(-u)) / u) by its series, else u underflows
            direct = xp.where(u > 1.0, xp.log1p(-xp.exp(-xp.maximum(u, 1.0))), xp.log(xp.where(tiny, 1.0, left)))
            return xp.where(tiny, x - 0.5 * u + u * u / 24.0, direct)
        b = xp.where(u < 1e-300, 1.0, u * xp.exp(-u) / xp.where(u < 1e-300, 1.0, left))
        if self.order == 1:
            return b
        v = xp.minimum(u, 800.0)  # b is zero there
        q = xp.where(v < 1e-3, v * (v / 12.0 * (v * v / 60.0 - 1.0) - 0.5), 1.0 - v - b)
        if self.order == 2:
            return b * q
        q1 = -v - b * q
        if self.order == 3:
            return b * (q * q + q1)
        return b * (q * (q * q + 3.0 * q1) - v - b * (q * q + q1))


Symbolic = Callable[[Any], Any]
bounded_exp: Symbolic = BoundedExp()
bounded_log: Symbolic = BoundedLog()
bounded_reciprocal: Symbolic = BoundedReciprocal()
softplus: Symbolic = Softplus()
logistic: Symbolic = Softplus(1)
log_one_minus_exp: Symbolic = LogOneMinusExp()
log_normal_cdf: Symbolic = LogNormalCdf()
log_cauchy_cdf: Symbolic = LogCauchyCdf()
log_gumbel_cdf: Symbolic = LogGumbelCdf()
