"""Draws as an ArviZ DataTree, with named dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import xarray as xr

from pmwmix._types import Array
from pmwmix.data.codes import printed
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.inference.icc import shares
from pmwmix.likelihood.engine import ENGINES
from pmwmix.sample.draws.quantities import deviations, raw_draws, term_names
from pmwmix.sample.model.model import Sampled
from pmwmix.sample.model.target import Target
from pmwmix.sample.nuts.nuts import Draws

STAT_NAMES = {"logp": "lp", "depth": "tree_depth", "maxdepth_reached": "reached_max_treedepth"}


def posterior_dataset(target: Target, general: Any, psi: Array, levels: Sequence[str], names: Sequence[str]) -> Any:
    """Lay out draws of the parameters as they are reported.

    Parameters
    ----------
    target : Target
    general : tuple or None
        See `quantities.raw_draws`.
    psi : ndarray, shape (chain, draw, P)
    levels : sequence of str
        Grouping levels, bottom-up.
    names : sequence of str
        Of the variance components, in the order of theta.

    Returns
    -------
    xarray.Dataset
    """
    raw: dict[str, Any] = raw_draws(target, general, psi)
    sds, sd, pairs, cor = deviations(target, raw["vcov"])
    dims = ("chain", "draw")
    data: dict[str, Any] = {"beta": ((*dims, "term"), raw["beta"])}
    coords: dict[str, Any] = {
        "chain": np.arange(psi.shape[0]),
        "draw": np.arange(psi.shape[1]),
        "term": list(term_names(target, general)),
    }
    if sds:
        data |= {"sd": ((*dims, "component"), sd), "vcov": ((*dims, "covariance"), raw["vcov"])}
        coords |= {"component": sds, "covariance": list(names)}
    if pairs:
        data["cor"] = ((*dims, "pair"), cor)
        coords["pair"] = pairs
    if "sigma" in raw:
        data["sigma"] = (dims, raw["sigma"])
    family: Any = raw["family"]
    data |= {name: (dims, value) for name, value in family.items()}
    if levels:
        data["icc"] = ((*dims, "level"), shares(raw["Psi"], target.squares, raw["residual"], target.crossed))
        coords["level"] = list(levels)
    return xr.Dataset(data, coords=coords)


def stats_dataset(draws: Draws) -> Any:
    """Lay out the sampler's statistics."""
    some = next(iter(draws.stats.values()))
    coords = {"chain": np.arange(some.shape[0]), "draw": np.arange(some.shape[1])}
    data = {STAT_NAMES.get(name, name): (("chain", "draw"), value) for name, value in draws.stats.items()}
    return xr.Dataset(data, coords=coords)


def draw_prior(sampled: Sampled, draws: int, seed: int) -> Array:
    """Draw psi from the prior (1, draws, P)."""
    plain = ENGINES["python"]()
    with sampled.model, pytensor.config.change_flags(linker="py"):  # also inside composed distributions
        found = pm.draw(sampled.psi, draws=draws, random_seed=seed, mode=plain)
    return np.asarray(found).reshape(1, draws, -1)


def observed_dataset(frame: ModelFrame, outcomes: Sequence[Array]) -> Any:
    """Lay out the outcome, one row of numbers per plausible value."""
    coords: dict[str, Any] = {"obs": np.arange(frame.n)}
    if len(outcomes) == 1:
        return xr.Dataset({"y": (("obs",), outcomes[0])}, coords=coords)
    coords["pv"] = np.arange(1, len(outcomes) + 1)
    return xr.Dataset({"y": (("pv", "obs"), np.array(outcomes))}, coords=coords)


def constant_dataset(frame: ModelFrame) -> Any:
    """Lay out groups and weights of the rows: the scaled conditional ones, as they enter the likelihood."""
    coords: dict[str, Any] = {"obs": np.arange(frame.n)}
    data: dict[str, Any] = {"weight_obs": (("obs",), np.asarray(frame.w[0], dtype=float))}
    for level, w in zip(frame.hierarchy.levels, frame.w[1:], strict=True):
        data[f"group_{level.name}"] = (("obs",), level.index)
        coords[level.name] = [str(label) for label in printed(level.labels)]
        data[f"weight_{level.name}"] = ((level.name,), np.asarray(w, dtype=float))
    return xr.Dataset(data, coords=coords)


def stacked(trees: Sequence[Any], group: str) -> Any:
    """Put the chains of all plausible values one after the other, with coordinate ``pv``."""
    parts = [tree[group].to_dataset() for tree in trees]
    if len(parts) == 1:
        return parts[0]
    numbers = np.repeat(np.arange(1, len(parts) + 1), [part.sizes["chain"] for part in parts])
    whole = xr.concat(parts, dim="chain", join="override", coords="minimal", compat="override")
    return whole.assign_coords(chain=np.arange(len(numbers)), pv=("chain", numbers))


__all__ = ["constant_dataset", "draw_prior", "observed_dataset", "posterior_dataset", "stacked", "stats_dataset"]
