"""The log-gamma function and Stirling's error, without cancellation for large arguments and on every engine."""

from __future__ import annotations

from math import factorial, log, pi
from typing import Any

import pytensor.tensor as pt

from pmwmix.links._curves import Curve, Symbolic

SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)  # of 1/z, 1/z³, ...
SHIFT = 7  # the series is exact to 17 digits from here on


def _series(z: Any, order: int) -> Any:
    """Differentiate Stirling's series Σ c_j z^(1 - 2j) ``order`` times."""
    out: Any = 0.0
    for j in range(len(SERIES), 0, -1):
        rising = factorial(2 * j - 2 + order) / factorial(2 * j - 2)
        out = out / (z * z) + SERIES[j - 1] * rising
    return (-1.0) ** order * out / z ** (order + 1)


def _main(xp: Any, z: Any, order: int) -> Any:
    """Differentiate (z - 1/2) log z - z + log(2 pi) / 2 ``order`` times."""
    if order == 0:
        return (z - 0.5) * xp.log(z) - z + 0.5 * log(2.0 * pi)
    if order == 1:
        return xp.log(z) - 0.5 / z
    sign = (-1.0) ** order
    return sign * (factorial(order - 2) + 0.5 * factorial(order - 1) / z) / z ** (order - 1)


def _below(xp: Any, x: Any, order: int) -> Any:
    """Differentiate log(x (x + 1) ... (x + SHIFT - 1)) ``order`` times."""
    terms = [x + float(i) for i in range(SHIFT)]
    if order == 0:
        product = terms[0]
        for term in terms[1:]:
            product = product * term
        return xp.log(product)
    return (-1.0) ** (order - 1) * factorial(order - 1) * sum(term**-order for term in terms)


class LogGamma(Curve):
    """Log of the gamma function of x > 0: Stirling's series at x + 7, brought back by recurrence."""

    highest = 9

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        z = x + float(SHIFT)
        return _main(xp, z, self.order) + _series(z, self.order) - _below(xp, xp.minimum(x, 1e25), self.order)


class StirlingError(Curve):
    """Log gamma(x) minus (x - 1/2) log x - x + log(2 pi) / 2, which tends to 1 / (12 x) (Loader 2000)."""

    highest = 9

    def formula(self, xp: Any, special: Any, x: Any) -> Any:
        small, large = xp.minimum(x, SHIFT), xp.maximum(x, SHIFT)
        near = LogGamma(self.order).formula(xp, special, small) - _main(xp, small, self.order)
        return xp.where(x < SHIFT, near, _series(large, self.order))


log_gamma: Symbolic = LogGamma()
stirling_error: Symbolic = StirlingError()


def log_rising(t: Any, y: Any) -> Any:
    """Log gamma(t + y) - log gamma(t) - y log t, symbolic; 0 for large t, where the log-gammas would cancel."""
    return (t + y - 0.5) * pt.log1p(y / t) - y + stirling_error(t + y) - stirling_error(t)
