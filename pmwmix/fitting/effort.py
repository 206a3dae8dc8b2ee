"""What a term of very many correlated random effects will cost, said before the climb."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from pmwmix.errors import NotSupportedError, PmwmixWarning
from pmwmix.likelihood.layout import ThetaLayout

DEEP = 60  # correlated effects from which derivatives nest too deeply for compiled code
LONG = 60.0  # seconds of a fit that are worth a sentence before it
EVALUATIONS = 30


def say_effort(layout: ThetaLayout, n_units: Sequence[int], engine: str) -> None:
    """Warn of terms that will take minutes, and refuse those that no engine ends.

    Parameters
    ----------
    layout : ThetaLayout
    n_units : sequence of int
        Groups of every level, bottom-up.
    engine : str
        As it was asked for.

    Raises
    ------
    NotSupportedError
        With the number of variances and covariances and the predicted time.
    """
    names = layout.structures or tuple(("us",) * len(sizes) for sizes in layout.blocks)
    terms = [
        (q, units)
        for sizes, level, units in zip(layout.blocks, names, n_units, strict=True)
        for q, name in zip(sizes, level, strict=True)
        if name == "us"
    ]
    q, units = max(terms, default=(0, 0))
    seconds = predicted(q, units)
    if seconds < LONG:
        return
    number = q * (q + 1) // 2
    said = (
        f"A term has {q} correlated random effects in {units} groups, and so {number:,} variances and covariances. A "
        f"fit is predicted to take {_words(seconds)}"
    )
    advice = "Leave correlations out, diag(... | g), write groups of their own, (1 | g:f), or drop effects."
    if q >= DEEP and engine != "numpy":
        raise NotSupportedError(f"{said} in numpy, and compiled code cannot nest so many. {advice}")
    warnings.warn(f"{said}. {advice}", PmwmixWarning, stacklevel=4)


def predicted(q: int, units: int) -> float:
    """Estimate the seconds of a fit: second derivatives in all entries of the factor, or compiling them.

    Measured with 8 and 12 effects in 40 groups; compiling takes a time that grows with the square of the effects.
    """
    number = q * (q + 1) // 2
    derivatives = 1 + number + number * (number + 1) // 2
    by_numpy = EVALUATIONS * derivatives * units * q * (5e-7 + 2e-8 * q)
    by_compiler = 0.5 * q * q
    return by_numpy if q >= DEEP else min(by_numpy, by_compiler)


def _words(seconds: float) -> str:
    """Write a time: ``"about 3 minutes"``, ``"about 50 hours"``."""
    for unit, size in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit}"
    return "about a minute"
