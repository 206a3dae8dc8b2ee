"""Bootstrap of the sampled units themselves: PSUs drawn with replacement, as factors of their weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DesignError, NotSupportedError
from pmwmix.fitting.refits import replicate_estimates
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.frame.replicates import ReplicateScheme
from pmwmix.prediction.rows import LiveRows
from pmwmix.resampling.refitted import Refits
from pmwmix.weights.scaling import SCALINGS


def check_units(frame: ModelFrame, kind: str) -> None:
    """Refuse frames whose PSUs cannot be drawn.

    Raises
    ------
    NotSupportedError, DesignError
    """
    if frame.hierarchy.crossed:
        raise NotSupportedError(
            f"Clusters are drawn where groups are nested. Those of {frame.formula.text!r} are crossed, with "
            f"kind={kind!r}. Use kind='parametric'."
        )
    if frame.pairwise:
        raise NotSupportedError(
            f"Clusters are drawn for the likelihood of the whole sample. The fit has method='pairwise', with "
            f"kind={kind!r}. Use kind='parametric', or the sandwich errors of the fit."
        )
    if frame.residual is not None:
        raise NotSupportedError(
            f"Clusters are not drawn under a residual structure. Got kind={kind!r}. Use kind='parametric'."
        )
    _, stratum = units_of(frame)
    counts = np.bincount(stratum)
    if (counts < 2).any():
        raise DesignError(
            f"Drawing PSUs needs two in every stratum. {int((counts < 2).sum())} of {len(counts)} strata have one. "
            f"Merge them with a neighbour."
        )


def units_of(frame: ModelFrame) -> tuple[Array, Array]:
    """Give the PSU of every top-level unit (G,), rows without random terms, and the stratum of every PSU (n_psu,)."""
    if frame.clusters is not None:
        return frame.clusters.psu, frame.clusters.stratum
    n = frame.hierarchy.levels[-1].n if frame.hierarchy.levels else frame.n
    return np.arange(n), np.zeros(n, dtype=int)


def drawn_factors(stratum: Array, rescaled: bool, rng: np.random.Generator) -> Array:
    """Draw PSUs with replacement inside strata: the factor of every PSU's weight (n_psu,) (bootstrap, eqs. 3-4).

    Parameters
    ----------
    stratum : ndarray of int, shape (n_psu,)
    rescaled : bool
        Draw one fewer than there are and rescale (Rao and Wu), or as many as there are.
    rng : Generator
    """
    out = np.zeros(len(stratum))
    for h in range(int(stratum.max()) + 1):
        members = np.flatnonzero(stratum == h)
        m = len(members) - 1 if rescaled else len(members)
        counts = np.bincount(rng.integers(0, len(members), m), minlength=len(members))
        out[members] = counts * (len(members) / m)
    return out


def refit_units(rows: LiveRows, rescaled: bool, seed: Any, n: int, executor: Any = None) -> Refits:
    """Fit the model to ``n`` draws of its PSUs.

    Parameters
    ----------
    rows : LiveRows
    rescaled : bool
    seed : sequence of int
    n : int
    executor : concurrent.futures.Executor, optional
    """
    frame, rng = rows.frame, np.random.default_rng(seed)
    psu, stratum = units_of(frame)
    drawn = np.array([drawn_factors(stratum, rescaled, rng) for _ in range(n)])
    top = frame.hierarchy.levels[-1].index if frame.hierarchy.levels else np.arange(frame.n)
    scheme = ReplicateScheme(
        "bootstrap", np.full(n, 1.0 / n), n - 1.0, _Factors(drawn, psu[top]), frame.cond, SCALINGS["none"], frame
    )
    found = replicate_estimates(
        frame, rows.problem, {rows.k: rows.fit}, scheme, design=rows.design_number, executor=executor
    )[rows.k]
    return Refits(found.replicates, found.converged)


class _Factors:
    """Factor of every row in a draw, from those of the PSUs (R, n_psu)."""

    def __init__(self, drawn: Array, place: Array) -> None:
        self.drawn, self.place = drawn, place

    def __call__(self, r: int) -> Array:
        return self.drawn[r][self.place]
