"""The pseudo-likelihood of random effects at a few mass points: a sum instead of an integral (mixing, eqs. 4-8).

Numbers in, numbers out, in numpy: no modes are looked for, and the masses are as few as nodes would be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import IntegratedPoint
from pmwmix.likelihood.general.direct import DirectChunk, DirectChunks, log_sum_exp
from pmwmix.likelihood.general.objective import IntegratedObjective
from pmwmix.likelihood.general.start import starting_point
from pmwmix.likelihood.jets import Jet

DEVIATIONS = (1.0, 0.3)  # of the random effects at further starts, on the scale of the linear predictor


class MassChunk(DirectChunk):
    """One chunk of the sample; arguments as `RowSums`."""

    def masses(self, psi: Array) -> list[tuple[Jet, Jet]]:
        """Places and log-probabilities of the masses of every level, each (k, 1), as jets in psi."""
        return [self.latent.masses(shape) for shape in self.shapes(psi, len(psi))]

    def by_masses(self, psi: Array) -> list[Jet]:
        """Log-densities of the units of every level at their masses, (K_L, ..., K_l, G_l, 1, 1), bottom-up."""
        beta, theta, phi = self.split(psi)
        n, masses = self.structure.n_levels, self.masses(psi)
        b = []
        for level, ((places, _), Lambda) in enumerate(zip(masses, self.lambdas(theta), strict=True)):
            effects = (places @ Lambda.map(_first)).map(_as_nodes, len(self.w_units[level]))
            b.append(effects.map(_behind, n - 1 - level))
        at_masses = self.at_lowest_nodes(b)
        found = self.partials(self.eta(beta, at_masses.value[..., 0]), phi, 2)
        value, out = self.chain(self.moments(found, 0, None, 2), at_masses), []
        for level, (_, logs) in enumerate(masses):
            out.append(value + logs.map(_as_nodes, 1))
            if level < n - 1:
                value = log_sum_exp(out[-1], np.zeros(len(logs.value))).map(self.lifts[level])
        return out

    def integral(self, psi: Array, modes: list[Array], n_agq: tuple[int, ...]) -> Jet:
        """Log-density of every top-level unit, without its own weight (G_L, 1, 1)."""
        last = self.by_masses(psi)[-1]
        return log_sum_exp(last, np.zeros(len(last.value)))

    def classes(self, psi: Array) -> list[Array]:
        """Probabilities of the masses given the outcomes, (G_l, k) per level, bottom-up (mixing, eq. 8)."""
        out: list[Array] = []
        above: Any = None  # joint probabilities of the masses of this level and all above (K_L, ..., K_l, G_l)
        values = [one.value[..., 0, 0] for one in self.by_masses(psi)]
        for level in range(len(values) - 1, -1, -1):
            shifted = np.exp(values[level] - values[level].max(axis=-2, keepdims=True))
            joint = shifted / shifted.sum(axis=-2, keepdims=True)
            if above is not None:
                joint = joint * above[..., self.parents[level]][..., None, :]
            out.insert(0, joint.sum(axis=tuple(range(joint.ndim - 2))).T)
            above = joint
        return out


def _first(values: Array) -> Array:
    """Take the one matrix of a stack (..., 1, q, q)."""
    return values[..., 0, :, :]


def _as_nodes(values: Array, units: int) -> Array:
    """Lay numbers (..., k, 1) out as effects of so many units at nodes (..., k, units, 1, 1)."""
    return np.broadcast_to(values[..., None, None], (*values.shape[:-1], units, 1, 1))


def _behind(values: Array, count: int) -> Array:
    """Insert axes of the masses of levels above before those of a level, (..., k, G, 1, 1)."""
    return values.reshape(*values.shape[:-4], *[1] * count, *values.shape[-4:])


class MassChunks(DirectChunks):
    """All chunks of the sample."""

    of_chunk = MassChunk

    def classes(self, number: int, psi: Array, k: int) -> list[Array]:
        """Probabilities of the masses in one chunk."""
        chunk = self.chunk(number, k)
        assert isinstance(chunk, MassChunk)
        return chunk.classes(psi)


class MixtureObjective(IntegratedObjective):
    """Minus the pseudo-log-likelihood of a mixture; arguments as `IntegratedObjective`."""

    many_maxima = True

    def _choose(self) -> Any:
        self.n_agq = ()
        return MassChunks(self.structure, self.chunks, self.rows, ())

    def _chunk_modes(self, number: int, psi: Array, k: int, start: list[Array]) -> list[Array]:
        return start

    def uncompiled(self, n_agq: tuple[int, ...]) -> None:
        """There are no other numbers of nodes."""

    def starts(self, k: int = 0) -> list[Array]:
        """Masses spread in several ways, with large and small variances."""
        usual, structure, out = starting_point(self.structure, self.rows, k), self.structure, []
        theta = slice(structure.p, structure.p + structure.layout.n_theta)
        for deviation in DEVIATIONS:
            for shape in structure.effects.starts():
                one = usual.copy()
                one[theta] = structure.layout.start(deviation)
                one[len(one) - structure.n_shape :] = np.tile(shape, structure.n_levels)
                out.append(one)
        return out

    def start(self, k: int = 0) -> Array:
        """Give the first of `starts`."""
        return self.starts(k)[0]

    def boundary(self, free: Array) -> list[Array]:
        """Turn levels round whose masses run downwards; and points with small variances at zero."""
        s, one = self.structure, free.copy()
        each = s.effects.n_shape
        for level in range(s.n_levels):
            if one[s.p + level] < 0:
                start = len(one) - s.n_shape + level * each
                one[s.p + level] *= -1.0
                one[start : start + each] = s.effects.turned(one[start : start + each])
        zeros = [place for place in range(s.p, s.p + s.layout.n_theta) if 0.0 < one[place] < 0.1]
        return [one, *(np.where(np.arange(len(one)) == place, 0.0, one) for place in zeros)]

    def classes(self, point: IntegratedPoint, k: int = 0) -> list[Array]:
        """Probabilities of the masses given the outcomes, (G_l, k) per level, bottom-up."""
        parts = self._each(lambda number: self.parts.classes(number, point.psi, k))
        return [np.concatenate(level) for level in zip(*parts, strict=True)]

    def modes(self, point: IntegratedPoint, k: int = 0) -> list[tuple[Array, Array]]:
        """Means (G_l, 1) and variances (G_l, 1, 1) of the effects given the outcomes, bottom-up."""
        s, out = self.structure, []
        shapes = np.reshape(point.psi[len(point.psi) - s.n_shape :], (s.n_levels, -1))
        for level, share in enumerate(self.classes(point, k)):
            b = point.psi[s.p + level] * s.effects.nodes(0, shapes[level])[0]
            mean = share @ b
            out.append((mean[:, None], (share @ b**2 - mean**2)[:, None, None]))
        return out

    def __reduce__(self) -> tuple[Any, ...]:
        return MixtureObjective, (self.structure, self.chunks, self.rows, (), self.engine, self.cells)
