"""Random effects at a few mass points, with places and probabilities of their own (mixing, eqs. 4-7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial.hermite_e import hermegauss

from pmwmix._types import Array
from pmwmix.likelihood.jets import Jet, stacked, through, times
from pmwmix.likelihood.latent._base import LATENTS, Latent

RAREST = 1e-5  # probability of a mass
CLOSEST = 1e-3  # gap between two masses, of the distance between the outermost
SKEWED = 1.5  # log odds of neighbouring masses of a lopsided start
WIDE = 1.2  # log ratio of neighbouring gaps of one


@dataclass(frozen=True)
class Discrete(Latent):
    """Masses 1, ..., k in rising order, scaled to mean 0 and variance 1.

    Shape: the logarithms of the gaps between neighbours 2, 3, ... relative to the first gap (k - 2), then the log odds
    of masses 2, ..., k against the first (k - 1). The order is part of it, so that masses cannot change their names.
    """

    k: int = 2
    is_discrete = True

    def given(self, number: float) -> Discrete:
        """Take a number of masses."""
        return Discrete(int(number))

    def starts(self) -> list[Array]:
        """Start from Gauss-Hermite points, equal masses, and lopsided ones on either side."""
        points, weights = hermegauss(self.k)
        odds = np.log(weights[1:] / weights[0])
        gaps = np.log(np.diff(points)[1:] / (points[1] - points[0]))
        up = np.arange(1, self.k)
        even, wide = np.zeros(self.k - 2), WIDE * np.arange(1, self.k - 1)
        return [
            np.concatenate([gaps, odds]),
            np.concatenate([even, np.zeros(self.k - 1)]),
            np.concatenate([wide, -SKEWED * up]),
            np.concatenate([-wide, SKEWED * up]),
        ]

    def is_sound(self, shape: Array) -> bool:
        """Whether all masses have a probability and a place of their own."""
        places, share = self.nodes(0, shape)
        gaps = np.diff(places)
        return bool(share.min() > RAREST and gaps.min() > CLOSEST * gaps.sum())

    def masses(self, shape: Sequence[Jet]) -> tuple[Jet, Jet]:
        """Give the standardised places and the log-probabilities of the masses, each (k, 1), given a shape of jets."""
        P = shape[0].t
        zero = Jet.constant(np.zeros((1, 1)), P)
        flat = [part.map(lambda x: x.reshape(*x.shape[:-3], 1, 1)) for part in shape]
        gaps = stacked([zero, *flat[: self.k - 2]])
        gap = np.exp(gaps.value)
        below = np.tril(np.ones((self.k, self.k - 1)), -1)
        places = below @ through(gaps, gap, gap, gap)
        odds = stacked([zero, *flat[self.k - 2 :]])
        top = odds.value.max()
        power = np.exp(odds.value - top)
        sums = through(odds, power, power, power).map(_sum)
        whole = through(sums, np.log(sums.value) + top, 1.0 / sums.value, -1.0 / sums.value**2)
        logs = odds - whole.map(_spread, self.k)
        share = np.exp(logs.value)
        probability = through(logs, share, share, share)
        centred = places - (probability.T @ places).map(_spread, self.k)
        variance = probability.T @ times(centred, centred)
        root = 1.0 / np.sqrt(variance.value)
        scale = through(variance, root, -0.5 * root**3, 0.75 * root**5)
        return times(centred, scale.map(_spread, self.k)), logs

    def turned(self, shape: Array) -> Array:
        """Give the shape of the masses in falling order: the same distribution with the sign of u changed."""
        gaps, odds = np.append(0.0, shape[: self.k - 2])[::-1], np.append(0.0, shape[self.k - 2 :])[::-1]
        return np.concatenate([(gaps - gaps[0])[1:], (odds - odds[0])[1:]])

    def _numbers(self, shape: Array) -> tuple[Jet, Jet]:
        """Give places and log-probabilities with derivatives in the shape (m,)."""
        m = len(shape)
        jets = [Jet.constant(np.full((1, 1, 1), value), m) for value in shape]
        for a, jet in enumerate(jets):
            jet.first[a] = 1.0
        return self.masses(jets)

    def reported(self, shape: Array, deviation: float) -> tuple[dict[str, float], Array, Array]:
        """Give ``location1``, ..., deviations from the fixed part, and ``probability1``, ..."""
        places, logs = self._numbers(shape)
        at, share = places.value[:, 0], np.exp(logs.value[:, 0])
        values = [*(deviation * at), *share]
        names = [f"{word}{c}" for word in ("location", "probability") for c in range(1, self.k + 1)]
        J = np.vstack([deviation * places.first[:, :, 0].T, share[:, None] * logs.first[:, :, 0].T])
        return dict(zip(names, map(float, values), strict=True)), J, np.append(at, np.zeros(self.k))

    def nodes(self, n: int, shape: Array = np.zeros(0)) -> tuple[Array, Array]:  # noqa: B008
        """Give the masses themselves."""
        places, logs = self._numbers(shape)
        return places.value[:, 0], np.exp(logs.value[:, 0])

    def mean_slopes(
        self, shape: Array, mean: Any, slope: Any, eta: Array, deviation: Array, sign: float
    ) -> tuple[list[Array], bool]:
        """Differentiate a weighted sum of the means at the masses."""
        places, share = self.nodes(0, shape)
        at = [eta + sign * deviation * u for u in places]
        return [*(p * sign * slope(x) for p, x in zip(share, at, strict=True)), *map(mean, at)], True

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], own: Array = np.zeros(0)) -> Array:  # noqa: B008
        """Draw masses."""
        places, share = self.nodes(0, own)
        return rng.choice(places, shape, p=share)


def _sum(values: Array) -> Array:
    return values.sum(axis=-2, keepdims=True)


def _spread(values: Array, k: int) -> Array:
    return np.broadcast_to(values, (*values.shape[:-2], k, values.shape[-1]))


LATENTS.add("discrete", Discrete())
