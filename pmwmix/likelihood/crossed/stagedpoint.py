"""A point of an objective whose derivatives are formed when they are asked for. Numpy only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import Point


class StagedPoint:
    """What `contract.Point` holds, evaluated no further than needed: points that are only tried need no derivatives.

    Parameters
    ----------
    evaluate : callable
        Order of derivatives, 0, 1 or 2 -> Point, of which only these are right.
    forget : callable
        Called once nothing more will be asked.
    """

    def __init__(self, evaluate: Callable[[int], Point], forget: Callable[[], None]) -> None:
        self._evaluate, self._forget = evaluate, forget
        self._known: list[Point] = [evaluate(0)]
        first = self._known[0]
        self.theta, self.beta, self.sigma, self.value = first.theta, first.beta, first.sigma, first.value

    def _up_to(self, order: int) -> Point:
        while len(self._known) <= order:
            self._known.append(self._evaluate(len(self._known)))
        return self._known[order]

    @property
    def gradient(self) -> Array:
        """First derivatives of ``value`` (n_theta,)."""
        return self._up_to(1).gradient

    @property
    def hessian(self) -> Array:
        """Second derivatives of ``value`` (n_theta, n_theta)."""
        return self._up_to(2).hessian

    @property
    def information(self) -> Array:
        """Negative Hessian of the joint (restricted) pseudo-log-likelihood (P, P)."""
        return self._up_to(2).information

    @property
    def raw(self) -> dict[str, Any]:
        """Outputs of the likelihood, as far as they have been asked for."""
        return self._known[-1].raw

    @property
    def psi(self) -> Array:
        """All parameters (P,)."""
        return np.concatenate([self.beta, self.theta, [np.log(self.sigma)]])

    def light(self) -> Point:
        """Evaluate all, and forget what is as long as there are units."""
        whole = self._up_to(2).light()
        self._forget()
        return whole
