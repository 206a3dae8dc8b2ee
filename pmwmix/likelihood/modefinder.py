"""Conditional modes of the random effects of generalised models: safeguarded Newton steps, all units at once.

The step comes from a compiled graph (`marginal.mode_graph`); every top-level unit has its own step length, so that one
difficult unit does not hold up the others. Numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
CLOSE = 1e-14  # squared length of the last step in conditional standard deviations
MAX_STEPS = 200
SHORTEST = 2.0**-30


def find_modes(step: Callable[[list[Array]], dict[str, Any]], start: list[Array], to_top: list[Array]) -> list[Array]:
    """Climb to the modes (theory, eqs. 42-45).

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
    u = [np.array(part) for part in start]
    now = step(u)
    J, rise = np.asarray(now["J"]), np.asarray(now["rise"])
    if not np.isfinite(J).all():  # a start that is too far out: begin at the prior's mode there
        bad = ~np.isfinite(J)
        u = [np.where(bad[index], 0.0, part) for part, index in zip(u, to_top, strict=True)]
        now = step(u)
        J, rise = np.asarray(now["J"]), np.asarray(now["rise"])
    direction = [np.asarray(now[f"step{level}"]) for level in range(len(u))]
    length = np.ones(len(J))
    for _ in range(MAX_STEPS):
        moving = rise > CLOSE
        if not moving.any():
            break
        length = np.where(moving, length, 0.0)
        trial_u = [part + length[index] * d for part, d, index in zip(u, direction, to_top, strict=True)]
        trial = step(trial_u)
        J_new, rise_new = np.asarray(trial["J"]), np.asarray(trial["rise"])
        noise = 1e-13 * np.maximum(np.abs(J), 1.0)
        better = (J_new >= J + 1e-4 * length * rise - noise) & moving
        if better.any():
            keep = [better[index] for index in to_top]
            u = [np.where(k, t, part) for k, t, part in zip(keep, trial_u, u, strict=True)]
            new = [np.asarray(trial[f"step{level}"]) for level in range(len(u))]
            direction = [np.where(k, n, d) for k, n, d in zip(keep, new, direction, strict=True)]
            J, rise = np.where(better, J_new, J), np.where(better, rise_new, rise)
        length = np.where(better, 1.0, 0.5 * length)
        rise = np.where(moving & (length < SHORTEST), 0.0, rise)
    last = np.where(rise <= 1e-4, 1.0, 0.0)  # quadratic convergence: one more step costs nothing and squares the error
    return [part + last[index] * d for part, d, index in zip(u, direction, to_top, strict=True)]
