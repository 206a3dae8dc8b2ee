"""Random effects that are sampled beside the parameters: those of crossed factors of generalised models.

Their integral does not fall apart into units, so that it is left to the sampler. Effects are whitened, b = Lambda u
with u ~ N(0, I) whatever the parameters, which is called non-centred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.problem import Problem
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.frame.partweights import weighted_factor
from pmwmix.likelihood.crossed.secondorder import effect_columns
from pmwmix.likelihood.general.partials import partials
from pmwmix.likelihood.layout import ThetaLayout

MOST = 2_000  # effects: the scale on which they are sampled is a dense matrix
STEP = 1e-4  # of standardised parameters


@dataclass(frozen=True)
class Effects:
    """Whitened effects, factor after factor, random column after random column, unit after unit.

    Parameters
    ----------
    names : tuple of str
        Of the factors.
    sizes : tuple of (int, int)
        Random columns and units of each.
    modes : ndarray, shape (E,)
        At the fit by maximum likelihood.
    slopes : ndarray, shape (E, P)
        Their derivative in (beta, theta, phi).
    precision : ndarray, shape (E, E)
        Curvature of the joint log-density of rows and effects in the effects.
    """

    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    modes: Array
    slopes: Array
    precision: Array

    @property
    def n(self) -> int:
        """Number E of effects."""
        return len(self.modes)

    def split(self, values: Array) -> list[Array]:
        """Cut effects (..., E) into those of each factor (..., q, G)."""
        ends = np.cumsum([0, *(q * G for q, G in self.sizes)])
        parts = zip(self.sizes, ends[:-1], ends[1:], strict=True)
        return [values[..., a:b].reshape(*values.shape[:-1], *size) for size, a, b in parts]

    def joint(self, information: Array, moved: Array) -> Array:
        """Curvature of the log-posterior in parameters and effects together, from that of the parameters (P, P).

        Parameters
        ----------
        information : ndarray, shape (P, P)
        moved : ndarray of bool, shape (P,)
            Parameters that do not begin where their derivatives were taken.
        """
        slopes = np.where(moved, 0.0, self.slopes)
        across = -self.precision @ slopes
        return np.block([[information - slopes.T @ across, across.T], [across, self.precision]])

    def of(self, layout: ThetaLayout, theta: Array, u: Array, A_z: Sequence[Array]) -> list[Array]:
        """Give draws of the effects on the raw scale (S, G, q) per factor, for draws of theta (S, n_theta) and u."""
        out = []
        for entries, found, A in zip(layout.entries, self.split(u), A_z, strict=True):
            b = np.zeros_like(found)
            for i, j, k in entries:
                b[:, i] += theta[:, k, None] * found[:, j]
            out.append(np.einsum("ia,sag->sgi", A, b))
        return out


def check_sampled_crossed(frame: ModelFrame) -> None:
    """Refuse what is not sampled of generalised models with crossed effects: weights of parts, too many effects.

    Raises
    ------
    NotSupportedError
    """
    levels, at = frame.hierarchy.levels, weighted_factor(frame)
    if at is not None:
        raise NotSupportedError(
            f"A posterior of crossed effects knows weights of rows alone. Column {frame.weight_columns[1 + at]!r} "
            f"weights {levels[at].name!r}, and the density of its effects would count with them. Use method='ml', or "
            f'weights={{"obs": ...}}.'
        )
    blocks = frame.designs[0].blocks
    n = sum(len(block.names) * levels[block.level].n for block in blocks)
    if n > MOST:
        shown = ", ".join(f"{level.name!r} {level.n:,}" for level in levels)
        raise NotSupportedError(
            f"All random effects of crossed factors are sampled, and there are too many. This model has {n:,} "
            f"({shown}), where {MOST:,} are the most. Use method='ml', or a sample of the groups."
        )


def explicit_density(problem: Problem, k: int, point: Any, names: Sequence[str]) -> dict[str, Any]:
    """Arrays, shapes, log-likelihood given the effects, and centre of a generalised model with crossed effects."""
    objective, structure = problem.objective, problem.structure
    rows, crossing = objective.rows, objective.crossing
    effects = _effects(objective, point, names)
    extra = {f"extra{i}": column for i, column in enumerate(rows.extra[k])}

    def loglik(symbols: Mapping[str, Any], beta: Any, theta: Any, further: Any) -> Any:
        (eta,) = structure.fixed_parts(beta[:, None], symbols["X"], symbols["offset"])
        column, start = 0, structure.n_phi
        for f, ((q, G), entries) in enumerate(zip(effects.sizes, structure.layout.entries, strict=True)):
            for i, j, k in entries:
                u = further[start + j * G : start + (j + 1) * G]
                eta = eta + symbols["Z"][column + i] * theta[k] * u[symbols["unit"][f]]
            column, start = column + q, start + q * G
        phis = [further[i] for i in range(structure.n_phi)]
        density = structure.log_density(symbols["y"], tuple(symbols[name] for name in extra), [eta], phis)
        return (symbols["w"] * density).sum()

    eta, phi = problem.family.start(problem.link, problem.responses[k], rows.w)
    n = len(rows.w)
    arrays = {"X": np.array(rows.X).reshape(structure.p, n), "offset": rows.offset, "y": rows.y[k], "w": rows.w}
    arrays |= {"Z": np.array(rows.Z), "unit": np.array(crossing.index), **extra}
    return {
        "arrays": arrays,
        "static": {"X": (structure.p, None), "Z": (len(rows.Z), None), "unit": (len(crossing.index), None)},
        "structure": (structure, effects.sizes),
        "loglik": loglik,
        "centre": np.concatenate([[np.average(eta - rows.offset, weights=rows.w)], phi]),
        "effects": effects,
    }


def _effects(objective: Any, point: Any, names: Sequence[str]) -> Effects:
    """Find the modes at the maximum, how they move with the parameters, and the curvature there."""
    crossing, k, psi = objective.crossing, point.outcome, np.array(point.theta)

    def modes(at: Array) -> Array:
        return np.concatenate([u.ravel() for u in objective.whitened_modes(objective.at(at, k))])

    steps = STEP * np.eye(len(psi))
    slopes = np.array([(modes(psi + h) - modes(psi - h)) / (2.0 * STEP) for h in steps]).T
    here = modes(psi)
    s, rows = objective.structure, objective.rows
    p, t = s.p, s.layout.n_theta
    A = effect_columns(objective, psi[p : p + t])
    eta = rows.offset + psi[:p] @ np.array(rows.X).reshape(p, len(rows.w)) + A @ here
    found = partials(s.family, s.link, s.n_phi, 2, in_phi=False)(eta, rows.y[k], rows.extra[k], psi[p + t :])
    kappa = np.maximum(-rows.w * found["l2"], 0.0)
    precision = np.eye(len(here)) + (A.T @ (A * kappa[:, None])).toarray()
    sizes = tuple(zip(crossing.q, crossing.n_units, strict=True))
    return Effects(tuple(names), sizes, here, slopes, precision)


__all__ = ["Effects", "check_sampled_crossed", "explicit_density"]
