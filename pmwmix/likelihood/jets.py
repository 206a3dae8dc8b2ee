"""Arrays with their first and second derivatives in a few parameters, carried along in numpy.

What a graph would be compiled for at the first evaluation, small data have done with before a compiler has started:
products, inverses and log-determinants of many small matrices at once, each with exact derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from pmwmix._types import Array

TINY = 64  # products of numbers in a product of two matrices
MANY = 2_000  # so many matrices are multiplied sooner by loops of numpy than by a call of BLAS for each


@cache
def pairs(t: int) -> tuple[Array, Array]:
    """Give the two parameters (m,) of each second derivative, m = t (t + 1) / 2: (0, 0), (1, 0), (1, 1), (2, 0), ...

    The pairs of the first parameters come first, so that parameters can be added at the end.
    """
    return np.tril_indices(t)


@dataclass(frozen=True)
class Jet:
    """A stack of matrices and its derivatives in t parameters.

    Parameters
    ----------
    value : ndarray, shape (..., r, s)
    first : ndarray, shape (t, ..., r, s)
    second : ndarray, shape (m, ..., r, s)
        In the order of `pairs`.
    """

    value: Array
    first: Array
    second: Array

    @classmethod
    def constant(cls, value: Array, t: int = 0) -> Jet:
        """Wrap what depends on none of t parameters."""
        return cls(value, np.zeros((t, *value.shape)), np.zeros((t * (t + 1) // 2, *value.shape)))

    @property
    def t(self) -> int:
        """Number of parameters."""
        return len(self.first)

    def among(self, t: int) -> Jet:
        """Give the same with further parameters at the end, of which it does not depend."""
        if t <= self.t:
            return self
        more = Jet.constant(self.value, t)
        more.first[: self.t], more.second[: len(self.second)] = self.first, self.second
        return more

    def __getitem__(self, key: tuple[slice, slice]) -> Jet:
        rows, columns = key
        return Jet(self.value[..., rows, columns], self.first[..., rows, columns], self.second[..., rows, columns])

    def __add__(self, other: Jet) -> Jet:
        one, two = self._beside(other), other._beside(self)
        return Jet(one.value + two.value, one.first + two.first, one.second + two.second)

    def __sub__(self, other: Jet) -> Jet:
        one, two = self._beside(other), other._beside(self)
        return Jet(one.value - two.value, one.first - two.first, one.second - two.second)

    __array_ufunc__ = None  # an array times a jet is a jet

    def __matmul__(self, other: Jet | Array) -> Jet:
        if isinstance(other, np.ndarray):
            return self.map(product, other)
        if other.t == 0 or self.t == 0:
            one, two = self._of_rank(other), other._of_rank(self)
            return one @ two.value if other.t == 0 else one.value @ two
        one, two = self._of_rank(other), other._of_rank(self)
        first, second = (
            _sum(product(one.first, two.value), product(one.value, two.first)),
            product(one.second, two.value),
        )
        second = _sum(second, product(one.value, two.second))
        a, b = pairs(max(self.t, other.t))
        for i, j in ((a, b), (b, a)):  # those that both depend on
            both = (i < self.t) & (j < other.t)
            second[both] += product(one.first[i[both]], two.first[j[both]])
        return Jet(product(one.value, two.value), first, second)

    def _beside(self, other: Jet) -> Jet:
        """Give the same as deep a stack and among as many parameters as another jet."""
        return self.among(other.t)._of_rank(other)

    def _of_rank(self, other: Jet) -> Jet:
        """Insert axes of length 1 before the stack, so that it is as deep as that of another jet."""
        more = other.value.ndim - self.value.ndim
        if more <= 0:
            return self
        shape = (*[1] * more, *self.value.shape)
        return Jet(self.value.reshape(shape), self.first.reshape(-1, *shape), self.second.reshape(-1, *shape))

    def __rmatmul__(self, other: Array) -> Jet:
        return Jet(product(other, self.value), product(other, self.first), product(other, self.second))

    def map(self, change: Callable[..., Array], *given: Any) -> Jet:
        """Apply a linear map, and what it takes after the array, to value and derivatives."""
        return Jet(change(self.value, *given), change(self.first, *given), change(self.second, *given))

    def times(self, factor: float) -> Jet:
        """Multiply with a number."""
        return Jet(factor * self.value, factor * self.first, factor * self.second)

    @property
    def T(self) -> Jet:
        """Transposed."""
        return self.map(np.swapaxes, -1, -2)

    def solve(self, other: Jet) -> Jet:
        """Compute A⁻¹ B of this A and another B."""
        a, b = pairs(max(self.t, other.t))
        left, right = self._beside(other), other._beside(self)
        inverse = inverted(left.value)
        value = product(inverse, right.value)
        first = product(inverse, right.first - product(left.first, value))
        rest = right.second - product(left.second, value)
        rest = rest - product(left.first[a], first[b]) - product(left.first[b], first[a])
        return Jet(value, first, product(inverse, rest))

    def cholesky(self) -> Jet:
        """Factor positive definite matrices as LL'.

        Raises
        ------
        numpy.linalg.LinAlgError
            If one is not positive definite.
        """
        a, b = pairs(self.t)
        L = np.linalg.cholesky(self.value)
        inverse = np.linalg.inv(L)

        def along(change: Array) -> Array:
            share = np.tril(inverse @ change @ inverse.swapaxes(-1, -2))
            share[..., range(L.shape[-1]), range(L.shape[-1])] *= 0.5
            return L @ share

        first = along(self.first)
        crossed = first[a] @ first[b].swapaxes(-1, -2)
        return Jet(L, first, along(self.second - crossed - crossed.swapaxes(-1, -2)))

    def logdet(self) -> Jet:
        """Log-determinant of positive matrices, as stacks of shape (..., 1, 1)."""
        inverse = inverted(self.value)
        a, b = pairs(self.t)
        share = product(inverse, self.first)
        first = np.trace(share, axis1=-2, axis2=-1)
        second = np.einsum("...ij,...ji->...", inverse, self.second) - np.einsum("...ij,...ji->...", share[a], share[b])
        value = np.log(self.value[..., 0, 0]) if self.value.shape[-1] == 1 else np.linalg.slogdet(self.value)[1]
        return Jet(value[..., None, None], first[..., None, None], second[..., None, None])


def product(a: Array, b: Array) -> Array:
    """Multiply the matrices of two stacks; those of many tiny ones entry by entry, along the stack in memory."""
    (r, m), s = a.shape[-2:], b.shape[-1]
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if not 0 < r * m * s <= TINY or math.prod(stack) < MANY:
        return a @ b  # type: ignore[no-any-return]
    out, term = np.empty((r, s, *stack)), np.empty(stack)
    for i, j in np.ndindex(r, s):
        np.multiply(a[..., i, 0], b[..., 0, j], out=out[i, j])
        for k in range(1, m):
            out[i, j] += np.multiply(a[..., i, k], b[..., k, j], out=term)
    return np.moveaxis(out, (0, 1), (-2, -1))


def inverted(M: Array) -> Array:
    """Invert small matrices (..., q, q)."""
    return 1.0 / M if M.shape[-1] == 1 else np.linalg.inv(M)


def _sum(one: Array, two: Array) -> Array:
    """Add derivatives of which one array has fewer, those of the first parameters."""
    if len(one) < len(two):
        one, two = two, one
    one[: len(two)] += two
    return one


def symmetric(second: Array, t: int) -> Array:
    """Lay second derivatives (m, ...) out as (t, t, ...)."""
    out = np.empty((t, t, *second.shape[1:]))
    a, b = pairs(t)
    out[a, b] = out[b, a] = second
    return out


def stacked(parts: Sequence[Jet]) -> Jet:
    """Put matrices of the same number of columns below each other."""
    values, firsts, seconds = zip(*((part.value, part.first, part.second) for part in parts), strict=True)
    return Jet(*(np.concatenate(found, axis=-2) for found in (values, firsts, seconds)))


def beside(one: Jet, two: Jet) -> Jet:
    """Put matrices of the same number of rows, among the same parameters, beside each other."""
    parts = ((one.value, two.value), (one.first, two.first), (one.second, two.second))
    return Jet(*(np.concatenate(pair, axis=-1) for pair in parts))


def times(a: Jet, b: Jet | Array) -> Jet:
    """Multiply entry by entry, spread as numpy spreads arrays; stacks are equally deep."""
    if isinstance(b, np.ndarray):
        return Jet(a.value * b, a.first * b, a.second * b)
    if a.t == 0 or b.t == 0:
        return times(b, a.value) if a.t == 0 else times(a, b.value)
    i, j = pairs(a.t)
    second = a.second * b.value + a.value * b.second
    second = second + a.first[i] * b.first[j] + a.first[j] * b.first[i]
    return Jet(a.value * b.value, a.first * b.value + a.value * b.first, second)


def through(a: Jet, value: Array, slope: Array, curvature: Array) -> Jet:
    """Apply a function to every entry, given its value and derivatives there."""
    i, j = pairs(a.t)
    return Jet(value, slope * a.first, slope * a.second + curvature * (a.first[i] * a.first[j]))


def squared(a: Jet) -> Jet:
    """Multiply A'A for the matrices of a stack (theory, eq. 5)."""
    i, j = pairs(a.t)
    half = a.second.swapaxes(-1, -2) @ a.value + a.first[i].swapaxes(-1, -2) @ a.first[j]
    slope = a.first.swapaxes(-1, -2) @ a.value
    return Jet(a.value.swapaxes(-1, -2) @ a.value, slope + slope.swapaxes(-1, -2), half + half.swapaxes(-1, -2))
