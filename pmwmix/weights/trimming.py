"""Large weights cut off, and sampling weights of the top level on a named scale. Numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix.errors import OptionError, near
from pmwmix.weights.conditional import total_weights
from pmwmix.weights.scaling import Scaling, Weights


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What trimming did at one level.

    Parameters
    ----------
    level : str
    times : float
        Times the median of the level's conditional weights, above which they were cut off.
    limit : float
        That value.
    n, of : int
        Units that were cut, and all.
    before, after : float
        Sum of the level's conditional weights.
    """

    level: str
    times: float
    limit: float
    n: int
    of: int
    before: float
    after: float


def trim_weights(
    cond: Sequence[Any], levels: Sequence[str], weighted: Sequence[bool], trim: Any
) -> tuple[Weights, tuple[Trimmed, ...]]:
    """Cut conditional weights off at some times the median of their level (theory, eq. 4d).

    Parameters
    ----------
    cond : sequence of ndarray
        Conditional weights, rows first.
    levels : sequence of str
        Names of the levels, ``"obs"`` first.
    weighted : sequence of bool
        Which of them have a column of weights.
    trim : float, mapping or None
        Times the median, of all levels with weights or by level.

    Returns
    -------
    tuple of ndarray
    tuple of Trimmed

    Raises
    ------
    OptionError
        If a level is unknown or has no weights.
    """
    if trim is None:
        return tuple(cond), ()
    own = [level for level, has in zip(levels, weighted, strict=True) if has]
    if not own:
        raise OptionError(
            f"Trimming is for sampling weights. Got trim={trim!r}, and the call has no weights. Add weights=, or leave "
            f"trim out."
        )
    asked = dict(trim) if isinstance(trim, Mapping) else dict.fromkeys(own, trim)
    for level in asked:
        if level not in own:
            raise OptionError(
                f"Weights are trimmed at levels that have some. Got {level!r} in trim={trim!r}.{near(str(level), own)} "
                f"Levels with weights are {', '.join(map(repr, own))}."
            )
    out, report = [], []
    for level, w in zip(levels, cond, strict=True):
        if level not in asked:
            out.append(w)
            continue
        limit = float(asked[level] * np.median(w[w > 0]))
        out.append(np.minimum(w, limit))
        cut, before, after = int((w > limit).sum()), float(w.sum()), float(out[-1].sum())
        report.append(Trimmed(level, float(asked[level]), limit, cut, len(w), before, after))
    return tuple(out), tuple(report)


@dataclass(frozen=True)
class TopScaled:
    """A scaling of the levels below, and a named one of the top level (theory, eq. 4e).

    Parameters
    ----------
    below : callable
    rule : {"mean1", "sum"}
    """

    below: Scaling
    rule: str

    def __call__(self, w: Weights, parents: Weights) -> Weights:
        """Scale the weights of all levels."""
        scaled = self.below(w, parents)
        if self.rule == "mean1":
            factor = 1.0 / float(np.mean(scaled[-1]))
        else:
            factor = len(scaled[0]) / float(total_weights(scaled, list(parents))[0].sum())
        return (*scaled[:-1], scaled[-1] * factor)
