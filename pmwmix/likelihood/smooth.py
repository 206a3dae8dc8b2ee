"""Numbers with their first and second derivatives in a few parameters, elementwise. Numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pmwmix._types import Array


@dataclass(frozen=True)
class Smooth:
    """An array whose entries are smooth functions of n parameters.

    Parameters
    ----------
    value : ndarray, shape (...)
    first : ndarray, shape (n, ...)
    second : ndarray, shape (n, n, ...)

    Examples
    --------
    >>> a, b = Smooth.parameters(np.array([2.0, 3.0]))
    >>> product = a * a * b
    >>> float(product.value), product.first.tolist(), product.second.tolist()
    (12.0, [12.0, 4.0], [[6.0, 4.0], [4.0, 0.0]])
    """

    value: Array
    first: Array
    second: Array

    @classmethod
    def parameters(cls, values: Array) -> list[Smooth]:
        """Give the parameters themselves, one by one."""
        n = len(values)
        return [cls(np.array(value), np.eye(n)[i], np.zeros((n, n))) for i, value in enumerate(values)]

    def of(self, value: Array, slope: Array, curvature: Array) -> Smooth:
        """Apply a function with these derivatives at ``self.value``."""
        outer = self.first[:, None] * self.first[None]
        return Smooth(np.asarray(value), slope * self.first, slope * self.second + curvature * outer)

    def __add__(self, other: Smooth | float) -> Smooth:
        if not isinstance(other, Smooth):
            return Smooth(self.value + other, self.first, self.second)
        return Smooth(self.value + other.value, self.first + other.first, self.second + other.second)

    def __mul__(self, other: Smooth | float) -> Smooth:
        if not isinstance(other, Smooth):
            return Smooth(self.value * other, self.first * other, self.second * other)
        cross = self.first[:, None] * other.first[None]
        second = self.second * other.value + self.value * other.second + cross + cross.swapaxes(0, 1)
        return Smooth(self.value * other.value, self.first * other.value + self.value * other.first, second)

    def __sub__(self, other: Smooth | float) -> Smooth:
        return self + other * -1.0

    def __truediv__(self, other: Smooth) -> Smooth:
        v = other.value
        return self * other.of(1.0 / v, -1.0 / v**2, 2.0 / v**3)

    def sqrt(self) -> Smooth:
        """Square root of positive values."""
        root = np.sqrt(self.value)
        return self.of(root, 0.5 / root, -0.25 / root**3)

    def sin(self) -> Smooth:
        """Sine."""
        return self.of(np.sin(self.value), np.cos(self.value), -np.sin(self.value))

    def cos(self) -> Smooth:
        """Cosine."""
        return self.of(np.cos(self.value), -np.sin(self.value), -np.cos(self.value))


def matrix_of(q: int, entry: Callable[[int, int], Smooth | float], n: int) -> Smooth:
    """Put the lower triangle of a matrix (q, q) together; numbers are constants."""
    out = Smooth(np.zeros((q, q)), np.zeros((n, q, q)), np.zeros((n, n, q, q)))
    for i in range(q):
        for j in range(i + 1):
            one = entry(i, j)
            if isinstance(one, Smooth):
                out.value[i, j], out.first[:, i, j], out.second[:, :, i, j] = one.value, one.first, one.second
            else:
                out.value[i, j] = one
    return out
