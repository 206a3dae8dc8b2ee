"""Outcomes drawn from the posterior and from the prior predictive distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from pmwmix._types import Array
from pmwmix.data.table import Table
from pmwmix.errors import OptionError
from pmwmix.prediction.newdata import ModelColumns, new_columns
from pmwmix.sample.draws.datatree import draw_prior
from pmwmix.sample.draws.randomeffects import check_draws, check_seed, chosen_draws, effects_of, need_live
from pmwmix.sample.draws.rowdraws import Drawn, blocks, drawn_of, fit_columns, normal_effects
from pmwmix.sample.model.model import arrays_of

DRAWS = 200
SCALES = ("y_shift", "y_scale", "A_x", "z_scale")  # on which the standardised parameters depend


def posterior_predictive(
    fit: Any,
    draws: int = DRAWS,
    random_seed: int | None = None,
    newdata: Any = None,
    trials: int | str | None = None,
) -> Any:
    """Draw replicated outcomes: parameters, random effects given them and the data, then outcomes.

    Parameters
    ----------
    draws : int
        Per plausible value.
    random_seed : int, optional
        Default: that of the fit.
    newdata : table, optional
        Other rows. Groups that the fit has not seen get random effects drawn from their distribution, the same for all
        rows of a group in one draw.
    trials : int or str, optional
        With ``newdata``, of a binomial outcome out of several trials: their number, or the column that holds it.

    Returns
    -------
    xarray.Dataset
        ``y`` (chain = 1, draw, obs), rows in the order of the table; with plausible values their draws one after the
        other (coordinate ``pv``). Counts of successes where there are trials, category numbers from 0 of an ordinal
        outcome; NaN where a predictor of new data is missing. It also becomes the group ``posterior_predictive`` of
        ``idata``, that of new data ``predictions``.

    Raises
    ------
    OptionError, DataError

    Notes
    -----
    Numbers have single precision (7 digits; counts are exact up to 16 million), which halves the memory: 4 bytes x
    draws x plausible values x rows. Sampling weights shape the parameters, not the outcomes: the replicates are of the
    sampled rows, so compare them with the rows as they are, or weight both.
    """
    n, seed = check_draws(draws), check_seed(random_seed)
    _check_trials(fit, trials, newdata)
    parts = []
    for number, one in enumerate(fit.fits):
        live = need_live(one)
        start = (live.seed if seed is None else seed) + number
        psi = chosen_draws(live.psi, n)
        drawn = drawn_of(live, psi, effects_of(live, psi, start))
        rng = np.random.default_rng([start, 2])
        if newdata is None:
            columns, extra = fit_columns(one, live), _extra(live)
        else:
            columns = new_columns(live.rows.blueprint, live.rows.modes(), newdata, True, "draw")
            extra = _new_extra(fit, columns, newdata, trials)
            drawn = drawn.with_groups(columns.unseen, "draw", rng)
        parts.append(_outcomes(drawn, columns, extra, rng))
    whole = _dataset(fit, parts)
    fit.idata["posterior_predictive" if newdata is None else "predictions"] = xr.DataTree(whole)
    return whole


def prior_predictive(fit: Any, draws: int = DRAWS, random_seed: int | None = None) -> Any:
    """Draw outcomes of the rows of the fit from the prior: parameters, random effects given them, then outcomes.

    Parameters
    ----------
    draws : int
    random_seed : int, optional
        Default: that of the fit.

    Returns
    -------
    xarray.Dataset
        ``y`` (chain = 1, draw, obs) as in `posterior_predictive`; plausible values share their priors. It also becomes
        the group ``prior_predictive`` of ``idata``.

    Notes
    -----
    Under vague priors expected counts may exceed all that can be drawn: they stop at 1e12. A gamma outcome with the
    inverse link has no distribution where the linear predictor is negative: NaN.
    """
    n, seed = check_draws(draws), check_seed(random_seed)
    one = fit.fits[0]
    live = need_live(one)
    start = live.seed if seed is None else seed
    drawn = drawn_of(live, _prior_draws(live, n, start))
    rng = np.random.default_rng([start, 3])
    sizes = [level.n for level in live.rows.frame.hierarchy.levels]
    drawn.b.extend(normal_effects(Psi, G, rng) for Psi, G in zip(drawn.Psi, sizes, strict=True))
    whole = _dataset(fit, [_outcomes(drawn, fit_columns(one, live), _extra(live), rng)])
    fit.idata["prior_predictive"] = xr.DataTree(whole)
    return whole


def _prior_draws(live: Any, n: int, seed: int) -> Array:
    """Draw psi (S, P) on the scales of this plausible value; the model may hold another's, and gets them back."""
    shared = {name: live.sampled.data[name] for name in SCALES}
    held = {name: one.get_value() for name, one in shared.items()}
    own = arrays_of(live.target)
    try:
        for name, one in shared.items():
            one.set_value(own[name])
        return draw_prior(live.sampled, n, seed)[0]
    finally:
        for name, one in shared.items():
            one.set_value(held[name])


def _outcomes(drawn: Drawn, columns: ModelColumns, extra: Sequence[Array], rng: np.random.Generator) -> Array:
    """Draw the outcomes of all rows (S, n)."""
    out = np.full((len(drawn.beta), len(columns.index)), np.nan, dtype=np.float32)
    for part in blocks(len(columns.rows), len(drawn.beta) * drawn.width):
        eta = drawn.linear_predictor(columns, part)
        found = drawn.drawn_outcomes(eta, [values[part] for values in extra], rng)
        with np.errstate(over="ignore"):  # vague priors go beyond single precision
            out[:, columns.rows[part]] = found
    return out


def _dataset(fit: Any, parts: Sequence[Array]) -> Any:
    n_draws = [len(part) for part in parts]
    coords: dict[str, Any] = {"chain": [0], "draw": np.arange(sum(n_draws)), "obs": np.arange(parts[0].shape[1])}
    if len(parts) > 1:
        coords["pv"] = ("draw", np.repeat(np.arange(1, len(parts) + 1), n_draws))
    y = parts[0] if len(parts) == 1 else np.concatenate(parts)
    attrs = {"categories": [str(label) for label in fit.categories]} if fit.categories else {}
    return xr.Dataset({"y": (("chain", "draw", "obs"), y[None])}, coords=coords, attrs=attrs)


def _extra(live: Any) -> tuple[Array, ...]:
    """Further columns of the outcome's distribution: numbers of trials."""
    return () if live.general is None else live.rows.response.extra


def _check_trials(fit: Any, trials: Any, newdata: Any) -> None:
    """Refuse numbers of trials where none are due, and their lack where they are."""
    family = fit.distribution[0]
    if trials is not None and (not family.per_trial or newdata is None):
        why = "without newdata" if family.per_trial else f"with family={fit.family!r}"
        raise OptionError(
            f"Numbers of trials belong to new rows of a binomial outcome. Got trials={trials!r} {why}. "
            f"Leave trials out."
        )
    if not family.per_trial or newdata is None or trials is not None:
        return
    if any((family.trials(need_live(one).rows.response) != 1.0).any() for one in fit.fits):
        raise OptionError(
            f"Replicates of a binomial outcome need the number of trials of the new rows. The outcome of "
            f"{fit.formula!r} is out of several. Pass trials=, a number or the name of a column of newdata."
        )


def _new_extra(fit: Any, columns: ModelColumns, newdata: Any, trials: int | str | None) -> tuple[Array, ...]:
    """Numbers of trials of new rows (m,)."""
    if not fit.distribution[0].per_trial:
        return ()
    if isinstance(trials, str):
        values = Table(newdata).columns([trials], "trials")[trials].to_numpy()[columns.rows]
    else:
        values = np.full(len(columns.rows), 1 if trials is None else trials)
    good = values.dtype.kind in "iuf" and bool(np.all((values >= 0) & (values == np.round(values))))
    if not good:
        raise OptionError(
            f"Numbers of trials are whole, from 0 on, and not missing. Those of trials={trials!r} are not. Correct the "
            f"column, or pass one number."
        )
    return (values.astype(float),)


__all__ = ["posterior_predictive", "prior_predictive"]
