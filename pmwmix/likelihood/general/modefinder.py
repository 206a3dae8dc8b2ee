"""Conditional modes of the random effects of generalised models: safeguarded Newton steps, all units at once.

The step comes from a graph (`marginal.newton_step`); every top-level unit has its own step length, so that one
difficult unit does not hold up the others. No array library is imported but numpy: `inside.py` runs the same lines
in JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pmwmix._types import Array

CLOSE = 1e-14  # squared length of the last step in conditional standard deviations
SURE = 1e-4  # from here on Newton's full step is taken on trust
MAX_STEPS = 200
SHORTEST = 2.0**-30


class Search(NamedTuple):
    """Where the search stands.

    Parameters
    ----------
    u, direction : tuple of arrays, each (q_l, G_l)
        The best point so far and Newton's step from there.
    J, rise : array (G_L,)
        Log-density there, and its derivative along the step; a unit with ``rise`` above `CLOSE` is still moving.
    length : array (G_L,)
        Of the next step to be tried.
    known : array of bool, (G_L,)
        Units whose J has been evaluated.
    steps : int
    """

    u: tuple[Any, ...]
    direction: tuple[Any, ...]
    J: Any
    rise: Any
    length: Any
    known: Any
    steps: Any


def step_names(n: int) -> list[str]:
    """Name what `advance` needs of the outputs of `marginal.newton_step` for ``n`` levels, in order."""
    return ["J", "rise", *(f"step{level}" for level in range(n))]


def begin(start: Sequence[Any], units: int, xp: Any = np) -> Search:
    """Stand at the start, with nothing evaluated; ``xp`` is numpy or its counterpart."""
    one = xp.ones(units)
    return Search(tuple(start), tuple(xp.zeros_like(u) for u in start), 0.0 * one, one, one, one < 0.0, 0)


def searching(state: Search) -> Any:
    """Say whether any unit is still moving."""
    return (state.steps < MAX_STEPS) & (state.rise > CLOSE).any()


def advance(
    step: Callable[[tuple[Any, ...]], Sequence[Any]], state: Search, to_top: Sequence[Any], xp: Any = np
) -> Search:
    """Try one step for every unit that moves, and keep it where J rises enough (theory, eqs. 42-45).

    Parameters
    ----------
    step : callable
        Modes per level, each (q_l, G_l) -> J (G_L,), rise (G_L,) and the Newton step of every level.
    state : Search
    to_top : sequence of arrays of int
        Top-level unit of every unit, per level.
    xp : module
    """
    u, direction, J, rise, length, known, steps = state
    moving = rise > CLOSE
    length = xp.where(moving, length, 0.0)
    trial = tuple(part + length[index] * d for part, d, index in zip(u, direction, to_top, strict=True))
    J_new, rise_new, *direction_new = step(trial)
    noise = 1e-13 * xp.maximum(xp.abs(J), 1.0)
    risen = (J_new >= J + 1e-4 * length * rise - noise) & moving
    better = xp.where(known, risen, xp.isfinite(J_new) | (steps > 0))
    reset = ~(known | better)  # a start that is too far out: begin at the prior's mode there

    def choose(new: Any, old: Any, index: Any) -> Any:
        return xp.where(better[index], new, xp.where(reset[index], 0.0, old))

    length = xp.where(better | reset, 1.0, 0.5 * length)
    rise = xp.where(better, rise_new, rise)
    stuck = moving & (length < SHORTEST)
    return Search(
        tuple(choose(new, old, index) for new, old, index in zip(trial, u, to_top, strict=True)),
        tuple(choose(new, old, index) for new, old, index in zip(direction_new, direction, to_top, strict=True)),
        xp.where(better, J_new, J),
        xp.where(stuck, xp.where(rise > SURE, xp.nan, 0.0), rise),  # not a number: stays where it is
        length,
        known | better,
        steps + 1,
    )


def end(state: Search, to_top: Sequence[Any], xp: Any = np) -> list[Any]:
    """Take the last step too: convergence is quadratic, so that it costs nothing and squares the error."""
    last = xp.where(state.rise <= SURE, 1.0, 0.0)
    return [part + last[index] * d for part, d, index in zip(state.u, state.direction, to_top, strict=True)]


def find_modes(step: Callable[[list[Array]], dict[str, Any]], start: list[Array], to_top: list[Array]) -> list[Array]:
    """Climb to the modes.

    Parameters
    ----------
    step : callable
        Modes per level, each (q_l, G_l) -> ``J`` (G_L,), ``rise`` (G_L,) and the Newton steps ``step0``, ...
    start : list of ndarray
    to_top : list of ndarray of int
        Top-level unit of every unit, per level.

    Returns
    -------
    list of ndarray
        A unit whose log-density can not be raised any further stays where it is.
    """

    def one(u: tuple[Array, ...]) -> list[Array]:
        out = step(list(u))
        return [np.asarray(out[name]) for name in step_names(len(u))]

    state = begin(start, int(to_top[-1].max()) + 1)
    while searching(state):
        state = advance(one, state, to_top)
    return end(state, to_top)
