"""Outcomes drawn from a fitted model for the rows of the fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.likelihood.latent import latent_of
from pmwmix.likelihood.layout import semidefinite_cholesky
from pmwmix.prediction.responses import in_order, row_labels
from pmwmix.prediction.rows import LiveRows, live_rows, with_rows
from pmwmix.spec.checks import is_whole
from pmwmix.spec.latentmean import refuse_latent
from pmwmix.spec.measured import refuse_measured


def simulate(fit: Any, n: int = 1, random_seed: int | None = None) -> pd.DataFrame:
    """Draw outcomes from the fitted model: random effects anew, then the rows (bootstrap, eqs. 1-1b).

    Parameters
    ----------
    fit : FitResult
    n : int
        Number of outcomes. With plausible values the fits take turns.
    random_seed : int, optional
        The same number gives the same outcomes.

    Returns
    -------
    DataFrame, shape (rows, n)
        Columns ``sim_1, ...``, of several outcomes ``sim_1[math], ...``, rows labelled as in the fit. In units of the
        outcome; successes of a binomial outcome, numbers of the categories from 0 of an ordinal one; NaN where a row
        lacks one of several outcomes.

    Raises
    ------
    OptionError, NotSupportedError
        Without the data of the fit.

    Notes
    -----
    Sampling weights shape the parameters, not the outcomes: these are of the sampled rows.
    """
    check_count(n, "outcomes", 1)
    refuse_measured(fit.has_measured, "simulate()", "Draw from pmwmix.simulate_survey")
    refuse_latent(fit.latent_means is not None, "simulate()", "Draw from pmwmix.simulate_survey")
    parts, rng = simulated_rows(fit, "simulate()"), generator(random_seed)
    drawn = [draw_outcome(one, rows, rng) for _, (one, rows) in zip(range(n), parts * n, strict=False)]
    named = {f"sim_{k}": y for k, y in enumerate(drawn, start=1)}
    if fit.outcomes:
        pairs = [(f"{k}[{name}]", one) for k, y in named.items() for name, one in zip(fit.outcomes, y, strict=True)]
        named = dict(pairs)
    out = pd.DataFrame(named, index=row_labels(fit))
    return in_order(fit, out)


def generator(random_seed: Any, *place: int) -> np.random.Generator:
    """Make the generator of a seed; of one place in a longer computation if one is given.

    Raises
    ------
    OptionError
    """
    if random_seed is None:
        return np.random.default_rng()
    if not is_whole(random_seed) or random_seed < 0:
        raise OptionError(
            f"A seed is a whole number from 0 upwards. Got random_seed={random_seed!r}. Leave it out for another each "
            f"time."
        )
    return np.random.default_rng([int(random_seed), *place])


def check_count(n: Any, what: str, least: int) -> None:
    """Refuse numbers of draws that are none.

    Raises
    ------
    OptionError
    """
    if not is_whole(n) or n < least:
        raise OptionError(f"The number of {what} is whole and at least {least}. Got n={n!r}. Write for example n=1000.")


def simulated_rows(fit: Any, verb: str) -> list[tuple[Any, LiveRows]]:
    """Give every single fit with its rows, refusing fits that outcomes cannot be drawn from.

    Raises
    ------
    NotSupportedError
    """
    fit = with_rows(fit)
    every = live_rows(fit)
    if not every:
        raise NotSupportedError(
            f"{verb} needs the columns of the fit. This one was read from a file, which does not keep them. "
            f"Fit again with {fit.settings.call}."
        )
    return list(zip(fit.fits, every, strict=True))


def drawn_etas(rows: LiveRows, rng: np.random.Generator) -> Array:
    """Draw random effects and give the linear predictors (K, n)."""
    etas, effects = rows.etas(False), latent_of(rows.frame.random)
    for position, Psi in enumerate(rows.fit.Psi):
        level = rows.frame.hierarchy.levels[position]
        u = effects.draw(rng, (level.n, len(Psi)), *rows.fit.shape[position : position + 1])
        b = u @ semidefinite_cholesky(Psi).T
        etas += random_part(rows, position, b)
    return etas


def draw_outcome(one: Any, rows: LiveRows, rng: np.random.Generator) -> Array:
    """Draw one outcome (n,) from a single fit; of several all (m, n), NaN where rows lack them."""
    etas = drawn_etas(rows, rng)
    if one.has_closed_form and one.outcomes:
        return etas + np.linalg.cholesky(one.residual_covariance.to_numpy()) @ rng.standard_normal(etas.shape)
    if one.has_closed_form:
        return etas[0] + rows.residuals_of(rng.standard_normal(rows.frame.n))
    family, response = one.distribution[0], rows.response
    assert response is not None
    drawable, phi = family.drawable_of(one.links, list(etas), one.phi)
    return np.asarray(family.draw_of(rng, one.links, drawable, phi, response.extra), dtype=float)


def random_part(rows: LiveRows, position: int, b: Array) -> Array:
    """Parts (K, n) of the linear predictors that effects (G, q) of one level have."""
    out = np.zeros((rows.blueprint.n_predictors, rows.frame.n))
    index = rows.frame.hierarchy.levels[position].index
    columns = [c for block in rows.design.blocks if block.level == position for c in block.matrix.columns]
    for k, column, effect in zip(rows.blueprint.z_of(position), columns, b.T, strict=True):
        out[k] += column * effect[index]
    return out
