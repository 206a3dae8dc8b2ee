"""Draws of the parameters and random effects brought to rows: linear predictors, means and outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.latent import latent_of
from pmwmix.prediction.abilities import Abilities
from pmwmix.prediction.newdata import ModelColumns
from pmwmix.prediction.responses import averaged_mean, mean_of
from pmwmix.sample.draws.quantities import raw_draws
from pmwmix.sample.draws.randomeffects import DRAWS, check_draws, chosen_draws, effects_of, need_live, random_effects
from pmwmix.spec.random import NORMAL

CELLS = 4_000_000  # draws x rows x categories worked on at once


@dataclass(frozen=True)
class OneDraw(Abilities):
    """What `prediction.responses` asks a fit for: here of one draw."""

    family: str
    link: str
    phi: Array


@dataclass(frozen=True)
class Drawn(Abilities):
    """Draws of one plausible value on the raw scale.

    Parameters
    ----------
    family, link : str
    beta : ndarray, shape (S, p)
        Coefficients of the linear predictor.
    phi : ndarray, shape (S, n_phi)
        Further parameters of the family on their working scale.
    sigma : ndarray, shape (S,), or None
        Of a linear model.
    Psi : list of ndarray, each (S, q_l, q_l)
    b : list of ndarray, each (q_l, S, G_l)
        Random effects; empty for none.
    width : int
        Numbers per row: the categories of an ordinal outcome, else 1.
    """

    family: str
    link: str
    beta: Array
    phi: Array
    sigma: Array | None
    Psi: list[Array]
    b: list[Array]
    width: int

    def linear_predictor(self, columns: ModelColumns, part: slice) -> Array:
        """Compute the linear predictor of some rows (S, m)."""
        m = len(columns.rows[part])
        eta = self.beta @ np.array([x[part] for x in columns.x]).reshape(len(columns.x), m)
        if columns.offset is not None:
            eta += columns.offset[part]
        for z, group, b in zip(columns.z, columns.group, self.b, strict=False):
            for column, values in zip(z, b, strict=True):
                eta += column[part] * np.take(values, group[part], axis=1)
        return eta

    def variance(self, columns: ModelColumns, part: slice) -> Array:
        """Variance z'Psi z of the random part of some rows (S, m)."""
        out = np.zeros((len(self.beta), len(columns.rows[part])))
        for z, Psi in zip(columns.z, self.Psi, strict=True):
            Z = np.array([column[part] for column in z])
            out += np.einsum("am,sab,bm->sm", Z, Psi, Z, optimize=True)
        return out

    def means(self, eta: Array, variance: Array | None = None) -> Array:
        """Give the expected outcome at linear predictors (S, m): (S, m), or probabilities (S, m, C).

        With the variance of the random part (S, m) the average over it.
        """
        if self.sigma is not None:
            return eta
        each = [OneDraw(self.family, self.link, phi) for phi in self.phi]
        if variance is None:
            return np.array([mean_of(one, row[None]) for one, row in zip(each, eta, strict=True)])
        return np.array(
            [averaged_mean(one, row[None], v[None, None]) for one, row, v in zip(each, eta, variance, strict=True)]
        )

    def drawn_outcomes(self, eta: Array, extra: Sequence[Array], rng: np.random.Generator) -> Array:
        """Draw an outcome for every linear predictor (S, m)."""
        if self.sigma is not None:
            return eta + self.sigma[:, None] * rng.standard_normal(eta.shape)
        family, link = self.distribution
        eta, phi = family.drawable(link, eta, self.phi)
        return np.array([family.draw(rng, link, row, part, tuple(extra)) for row, part in zip(eta, phi, strict=True)])

    def with_groups(self, unseen: Sequence[list[str]], rule: str, rng: np.random.Generator) -> Drawn:
        """Append the random effects of units that the fit has not seen: drawn, missing or zero."""
        out = []
        for b, Psi, names in zip(self.b, self.Psi, unseen, strict=False):
            shape = (len(b), b.shape[1], len(names))
            if names and rule == "draw":
                more = normal_effects(Psi, len(names), rng)
            else:
                more = np.full(shape, np.nan if rule == "missing" else 0.0)
            out.append(np.concatenate([b, more], axis=2))
        return replace(self, b=out)

    def at_means(self, beta: Array) -> Drawn:
        """One draw with given coefficients (p,) and the means of the random effects."""
        return replace(self, beta=beta[None], b=[b.mean(axis=1, keepdims=True) for b in self.b])


def normal_effects(Psi: Array, n: int, rng: np.random.Generator) -> Array:
    """Draw random effects of n units from N(0, Psi) (q, S, n) for draws of Psi (S, q, q)."""
    values, vectors = np.linalg.eigh(Psi)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return np.einsum("sij,jsn->isn", root, latent_of(NORMAL).draw(rng, (Psi.shape[-1], len(Psi), n)))


def drawn_of(live: Any, psi: Array, effects: Sequence[Array] = ()) -> Drawn:
    """Bring draws of the parameters (S, P) to the raw scale; ``effects`` (S, G_l, q_l) are on it."""
    raw: dict[str, Any] = raw_draws(live.target, live.general, psi)
    frame, width = live.rows.frame, 1
    if live.general is not None and not live.general[0].family.has_intercept:
        width = len(live.general[0].responses[live.general[1]].categories)
    b = [np.ascontiguousarray(part.transpose(2, 0, 1)) for part in effects]
    return Drawn(frame.family, frame.link, raw["eta_beta"], raw["phi"], raw.get("sigma"), raw["Psi"], b, width)


def draws_of(fit: Any, draws: Any, seed: int | None, with_effects: bool) -> list[Drawn]:
    """Pick draws of every plausible value, with random effects from their conditional distribution given each.

    Those of ``fit.random_effects()`` are used where they are as many and no seed is given.
    """
    n = check_draws(draws)
    lives = [need_live(one) for one in fit.fits]
    with_effects = with_effects and bool(lives[0].target.layout.q)
    stored = _stored(fit, n) if with_effects and seed is None else None
    out = []
    for number, live in enumerate(lives):
        psi = chosen_draws(live.psi, n)
        effects: Sequence[Array] = ()
        if stored is not None:
            effects = stored[number]
        elif with_effects:
            effects = effects_of(live, psi, (live.seed if seed is None else seed) + number)
        out.append(drawn_of(live, psi, effects))
    return out


def _stored(fit: Any, n: int) -> list[list[Array]] | None:
    """Random effects per plausible value and level (S, G_l, q_l) drawn before; None if they are not as many."""
    if "random_effects" not in fit.idata.children:
        if n != DRAWS:
            return None
        random_effects(fit)
    group, lives = fit.idata["random_effects"], [one.live for one in fit.fits]
    levels = lives[0].rows.frame.hierarchy.levels
    values = [np.asarray(group[f"b_{level.name}"])[0] for level in levels]
    expected = [min(n, live.psi.shape[0] * live.psi.shape[1]) for live in lives]
    if len(values[0]) != sum(expected):
        return None
    edges = np.cumsum([0, *expected])
    return [[b[first:last] for b in values] for first, last in pairwise(edges)]


def fit_columns(fit: Any, live: Any) -> ModelColumns:
    """Columns of the rows of the fit."""
    rows, design, frame = live.rows, live.rows.design, live.rows.frame
    rows.y  # refuses columns that were changed since the fit  # noqa: B018
    levels = frame.hierarchy.levels
    z = [[c for b in design.blocks if b.level == place for c in b.matrix.columns] for place in range(len(levels))]
    x = [design.x.columns[int(j)] for j in rows.problem.kept]
    none: list[list[str]] = [[] for _ in levels]
    return ModelColumns(fit.index, np.arange(frame.n), x, design.offset, z, [level.index for level in levels], none)


def blocks(n: int, per_row: int) -> Iterator[slice]:
    """Cut n rows into pieces of at most `CELLS` numbers."""
    step = max(CELLS // max(per_row, 1), 1)
    for first in range(0, n, step):
        yield slice(first, min(first + step, n))


__all__ = ["Drawn", "blocks", "drawn_of", "draws_of", "fit_columns", "normal_effects"]
