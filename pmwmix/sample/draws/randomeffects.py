"""Random effects of a posterior, drawn from their conditional distribution, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pmwmix._types import Array
from pmwmix.data.codes import printed
from pmwmix.errors import OptionError, near
from pmwmix.sample.draws.conditional_general import draw_general
from pmwmix.sample.draws.conditional_linear import draw_linear

DRAWS = 400


def chosen_draws(psi: Array, draws: int) -> Array:
    """Pick draws evenly spaced over all chains (S, P); all of them if fewer were made."""
    flat = psi.reshape(-1, psi.shape[-1])
    n = min(draws, len(flat))
    return flat[np.linspace(0, len(flat) - 1, n).round().astype(int)]


def effects_of(live: Any, psi: Array, seed: int) -> list[Array]:
    """Draw the random effects of every level, bottom-up (S, G_l, q_l), for draws of the parameters (S, P)."""
    rng = np.random.default_rng(seed)
    target, rows = live.target, live.rows
    if not target.layout.q:
        return []
    p, t = target.p, target.n_theta
    if target.effects is not None:  # they are draws already
        u = psi[:, p + t + target.n_phi :]
        return target.effects.of(target.layout, psi[:, p : p + t], u, target.transform.A_z)  # type: ignore[no-any-return]
    if live.general is not None:
        return draw_general(rows.problem, rows.k, psi, rng)
    return draw_linear(rows.problem, rows.k, psi[:, :p], psi[:, p : p + t], np.exp(psi[:, p + t]), rng)


def check_draws(draws: Any) -> int:
    """Refuse a number of draws that is none.

    Raises
    ------
    OptionError
    """
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 1:
        raise OptionError(f"The number of draws is whole and positive. Got draws={draws!r}. Write for example 400.")
    return int(draws)


def check_seed(random_seed: Any) -> int | None:
    """Refuse a seed that is no whole number from 0 on.

    Raises
    ------
    OptionError
    """
    if random_seed is None:
        return None
    if isinstance(random_seed, bool) or not isinstance(random_seed, int | np.integer) or random_seed < 0:
        raise OptionError(
            f"A seed is a whole number from 0 on. Got random_seed={random_seed!r}. Write for example random_seed=1."
        )
    return int(random_seed)


def random_effects(fit: Any, draws: int = DRAWS, random_seed: int | None = None) -> Any:
    """Draw the random effects from their conditional distribution given data and parameters.

    Parameters
    ----------
    draws : int
        Number of draws of the parameters, per plausible value, for which the random effects are drawn.
    random_seed : int, optional
        Default: that of the fit.

    Returns
    -------
    xarray.Dataset
        ``b_<group>`` (chain = 1, draw, <group>, <group>_term), with plausible values their draws one after the other
        (coordinate ``pv``). It also becomes the group ``random_effects`` of ``idata``. Exact for linear models; those
        of crossed generalised models were sampled with the parameters; by Metropolis-Hastings about the conditional
        modes otherwise.

    Raises
    ------
    OptionError
        If the result was read from a file without them.
    """
    n, given = check_draws(draws), check_seed(random_seed)
    parts = []
    for number, one in enumerate(fit.fits):
        live = need_live(one)
        seed = live.seed if given is None else given
        psi = chosen_draws(live.psi, n)
        parts.append(_laid_out(live, effects_of(live, psi, seed + number), len(psi)))
    whole = parts[0]
    if len(parts) > 1:
        pv = np.repeat(np.arange(1, len(parts) + 1), [part.sizes["draw"] for part in parts])
        whole = xr.concat(parts, dim="draw", join="override", coords="minimal", compat="override")
        whole = whole.assign_coords(draw=np.arange(len(pv)), pv=("draw", pv))
    fit.idata["random_effects"] = xr.DataTree(whole)
    return whole


def need_live(fit: Any) -> Any:
    """Give what later draws need.

    Raises
    ------
    OptionError
        If the result was read from a file.
    """
    if fit.live is None:
        raise OptionError(
            "This needs the data of the fit, and a loaded result does not keep them. The result came from pmwmix.load. "
            "Call pmwmix.fit again."
        )
    return fit.live


def drawn_effects(fit: Any) -> Any:
    """Give the group ``random_effects``, drawing it if need be."""
    if "random_effects" not in fit.idata.children:
        random_effects(fit)
    return fit.idata["random_effects"]


def _laid_out(live: Any, effects: Sequence[Array], n_draws: int) -> Any:
    data: dict[str, Any] = {}
    coords: dict[str, Any] = {"chain": [0], "draw": np.arange(n_draws)}
    for position, (level, b) in enumerate(zip(live.rows.frame.hierarchy.levels, effects, strict=True)):
        name = level.name
        dims = ("chain", "draw", name, f"{name}_term")
        data[f"b_{name}"] = (dims, b[None])
        coords |= {name: [str(label) for label in printed(level.labels)], f"{name}_term": list(_terms(live, position))}
    return xr.Dataset(data, coords=coords)


def _terms(live: Any, position: int) -> tuple[str, ...]:
    return tuple(n for block in live.rows.design.blocks if block.level == position for n in block.matrix.names)


def group_table(fit: Any, group: str | None = None) -> Any:
    """Tables of posterior means and standard deviations; see ``BayesResult.ranef``."""
    group_ = drawn_effects(fit)
    tables = {}
    for name in fit.n_groups.index:
        values = np.asarray(group_[f"b_{name}"])[0]
        terms = [str(term) for term in np.asarray(group_[f"{name}_term"])]
        index = pd.Index(_labels(fit, str(name), group_), name=str(name))
        mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
        table = pd.DataFrame(np.hstack([mean, sd]), index=index, columns=[*terms, *(f"{term}_se" for term in terms)])
        try:
            tables[str(name)] = table.sort_index()
        except TypeError:
            tables[str(name)] = table
    if group is None:
        return next(iter(tables.values())) if len(tables) == 1 else tables
    wanted = sorted(str(group).split(":"))
    for name, table in tables.items():
        if sorted(name.split(":")) == wanted or (name.split(":")[0] == str(group)):
            return table
    raise OptionError(
        f"Random effects are asked for by group. There is no group {group!r}.{near(str(group), list(tables))} "
        f"The groups are {', '.join(map(repr, tables))}."
    )


def _labels(fit: Any, name: str, group: Any) -> list[Any]:
    """Give the labels as the data have them; text where the result was read from a file."""
    live = fit.fits[0].live
    if live is None:
        return [str(label) for label in np.asarray(group[name])]
    return next(printed(level.labels) for level in live.rows.frame.hierarchy.levels if level.name == name)


__all__ = [
    "check_draws",
    "check_seed",
    "chosen_draws",
    "drawn_effects",
    "effects_of",
    "group_table",
    "need_live",
    "random_effects",
]
