"""Distributions of the random effects: what the whitened effects u of a unit follow, b = Λu; entries of `LATENTS`.

The closed form of linear models knows the normal distribution alone; quadrature about modes asks the members of
`Latent`, so that another distribution is one entry. Formulas take numbers, arrays or symbols: ``xp`` is numpy or
PyTensor's tensor module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pmwmix._registry import Registry
from pmwmix._types import Array
from pmwmix.likelihood.general.nodes import product_rule

LATENTS = Registry("distribution of the random effects")


class Latent(Protocol):
    """What a distribution says of itself. Its density is smooth and depends on no parameter.

    Entries of u are uncorrelated with mean 0 and variance 1, so that ΛΛ' is the covariance of b whatever they follow.
    """

    def log_density(self, u: Sequence[Any], xp: Any = np) -> Any:
        """Write the log-density at the q entries of u, times (2π)^(q/2): the constant of quadrature rules."""

    def slopes(self, u: Sequence[Any], xp: Any = np) -> list[Any]:
        """Write its first derivatives."""

    def curvatures(self, u: Sequence[Any], xp: Any = np) -> list[list[Any]]:
        """Write its negative second derivatives, the lower triangle of q x q; None is a zero everywhere."""

    def nodes(self, n: int) -> tuple[Array, Array]:
        """Give points (n,) and weights (n,) of a rule for means over z'b, in units of the standard deviation of z'b.

        Where a sum of effects has another distribution than one of them, that of one of them stands in for it.
        """

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Draw entries of u."""


@dataclass(frozen=True)
class Normal:
    """Standard normal."""

    def log_density(self, u: Sequence[Any], xp: Any = np) -> Any:
        """Write -u'u/2."""
        squares = [x * x for x in u]
        return -0.5 * sum(squares[1:], squares[0])

    def slopes(self, u: Sequence[Any], xp: Any = np) -> list[Any]:
        """Write -u."""
        return [-x for x in u]

    def curvatures(self, u: Sequence[Any], xp: Any = np) -> list[list[Any]]:
        """Write the identity."""
        return [[1.0 if j == i else None for j in range(i + 1)] for i in range(len(u))]

    def nodes(self, n: int) -> tuple[Array, Array]:
        """Give the Gauss-Hermite rule (theory, eq. 46)."""
        points, logs = product_rule(n, 1)
        return points[0], np.exp(logs - 0.5 * points[0] ** 2)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Draw normal numbers."""
        return rng.standard_normal(shape)


NORMAL: Latent = LATENTS.add("normal", Normal())
