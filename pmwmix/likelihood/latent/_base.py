"""What a distribution of the random effects says of itself: what the whitened effects u of a unit follow, b = Λu.

The closed form of linear models knows the normal distribution alone; quadrature about modes asks the members of
`Latent`, so that another distribution is one entry of `LATENTS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pmwmix._registry import Registry
from pmwmix._types import Array
from pmwmix.errors import OptionError
from pmwmix.likelihood.general.nodes import product_rule
from pmwmix.likelihood.jets import Jet

LATENTS = Registry("distribution of the random effects")


class Latent:
    """Base of the distributions.

    Entries of u are uncorrelated with mean 0 and variance 1, so that ΛΛ' is the covariance of b whatever they follow.
    What a distribution does not say of itself is that of the normal one. Every level may have parameters of the
    distribution, on a working scale without bounds: its shape.

    Attributes
    ----------
    is_discrete : bool
        Whether effects sit at a few points, whose places and probabilities are the shape.
    by_numbers, by_graph : bool
        Whether the density is written for numbers and jets, and whether it is by symbols, which know no shape: then
        compiled code may evaluate it.
    """

    is_discrete: bool = False
    by_numbers: bool = True
    by_graph: bool = False

    def given(self, number: float) -> Latent:
        """Give the distribution with the number behind its name: ``t(5)``, ``discrete(3)``.

        Raises
        ------
        OptionError
            If it takes none.
        """
        raise OptionError(
            f"This distribution of the random effects takes no number. Got ({number:g}) behind its name. Leave it out."
        )

    # -- the shape ------------------------------------------------------------------------------------------------

    def starts(self) -> list[Array]:
        """Give shapes (m,) of one level that a climb may start from, the usual one first."""
        return [np.zeros(0)]

    @property
    def n_shape(self) -> int:
        """Number of shape parameters per level."""
        return len(self.starts()[0])

    def reported(self, shape: Array, deviation: float) -> tuple[dict[str, float], Array, Array]:
        """Give what is reported of a level.

        Parameters
        ----------
        shape : ndarray, shape (m,)
        deviation : float
            Standard deviation of its random effect; that of the first where there are several.

        Returns
        -------
        dict of str to float
        ndarray (r, m), ndarray (r,)
            Derivatives in the shape and in the deviation.
        """
        return {}, np.zeros((0, len(shape))), np.zeros(0)

    def is_sound(self, shape: Array) -> bool:
        """Whether a shape is inside what the distribution means, or the climb has run to its edge."""
        return True

    def masses(self, shape: Sequence[Jet]) -> tuple[Jet, Jet]:
        """Give places and log-probabilities (k, 1), of a discrete distribution."""
        raise NotImplementedError

    # -- the density, of numbers or jets; shapes are jets (1, 1, 1) --------------------------------------------------

    def density(self, u: Jet, shape: Sequence[Jet]) -> Jet:
        """Log-density at u (..., q, 1), times (2π)^(q/2): the constant of quadrature rules, (..., 1, 1)."""
        return (u.T @ u).times(-0.5)

    def slope(self, u: Jet, shape: Sequence[Jet]) -> Jet:
        """Its first derivatives (..., q, 1)."""
        return u.times(-1.0)

    def curvature(self, u: Jet, shape: Sequence[Jet]) -> Jet:
        """Its negative second derivatives (..., q, q)."""
        return Jet.constant(np.eye(u.value.shape[-2])[None])

    # -- the density, of symbols -----------------------------------------------------------------------------------

    def log_density(self, u: Sequence[Any], xp: Any = np) -> Any:
        """Write the log-density at the q entries of u; ``xp`` is numpy or PyTensor's tensor module."""
        squares = [x * x for x in u]
        return -0.5 * sum(squares[1:], squares[0])

    def slopes(self, u: Sequence[Any], xp: Any = np) -> list[Any]:
        """Write its first derivatives."""
        return [-x for x in u]

    def curvatures(self, u: Sequence[Any], xp: Any = np) -> list[list[Any]]:
        """Write its negative second derivatives, the lower triangle of q x q; None is a zero everywhere."""
        return [[1.0 if j == i else None for j in range(i + 1)] for i in range(len(u))]

    # -- averages and draws -------------------------------------------------------------------------------------------

    def nodes(self, n: int, shape: Array = np.zeros(0)) -> tuple[Array, Array]:  # noqa: B008
        """Give points and weights of a rule for means over z'b, in units of its standard deviation.

        Parameters
        ----------
        n : int
            Number of points that would do for a normal distribution.
        shape : ndarray, shape (m,)
        """
        points, logs = product_rule(n, 1)
        return points[0], np.exp(logs - 0.5 * points[0] ** 2)

    def mean_slopes(
        self, shape: Array, mean: Any, slope: Any, eta: Array, deviation: Array, sign: float
    ) -> tuple[list[Array], bool]:
        """Differentiate means over z'b in what is `reported` of a level.

        Parameters
        ----------
        shape : ndarray, shape (m,)
        mean, slope : callable
            Of the outcome at a linear predictor.
        eta, deviation : ndarray, shape (n, c), (n, 1)
            Fixed part, and the standard deviation of z'b.
        sign : float
            Of z'b in the linear predictor.

        Returns
        -------
        list of ndarray (n, c)
        bool
            Whether the variance of b follows from what is reported, so that nothing else is to be differentiated.
        """
        return [], False

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], own: Array = np.zeros(0)) -> Array:  # noqa: B008
        """Draw u of units with q entries each, of ``shape`` (..., q); ``own`` is the shape (m,)."""
        return rng.standard_normal(shape)


def latent_of(name: str) -> Latent:
    """Look a distribution up: ``"normal"``, ``"t"``, ``"t(5)"``, ``"discrete(3)"``.

    Raises
    ------
    OptionError
    """
    own, _, number = name.partition("(")
    found: Latent = LATENTS[own]
    return found.given(float(number.rstrip(")"))) if number else found
