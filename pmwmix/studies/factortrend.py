"""Changes between cycles that are a factor of one model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import OptionError, PmwmixWarning, some
from pmwmix.results.result import FitResult
from pmwmix.studies.changes import AGAINST, check_word, compared, pairs_of

LEVEL = "Intercept"


def trend_of_factor(
    fit: Any, by: str | None, linking: Callable[[list[Any]], dict[Any, float]], against: str, ci_prob: float
) -> pd.DataFrame:
    """Give the changes that a factor of cycles and its products have in one fit (trends, eqs. 6-7).

    Parameters
    ----------
    fit : FitResult
    by : str
        The factor.
    linking : callable
        Later cycles of the comparisons -> their linking errors.
    against, ci_prob
        As in `trend`.

    Returns
    -------
    DataFrame
        As that of `trend`; ``term`` is what the cycle is multiplied with, ``"Intercept"`` for the factor itself.

    Raises
    ------
    OptionError
        If there is no such factor among the coefficients.
    """
    check_word("against", against, AGAINST)
    places = _places(fit, by)
    cycles = list(dict.fromkeys(cycle for _, cycle in places))
    first = _first(fit, str(by), cycles)
    pairs = pairs_of([first, *cycles], against)
    errors = linking([later for _, later in pairs])
    rows = []
    for earlier, later in pairs:
        terms = _shared(places, later, earlier if earlier != first else later)
        L = np.zeros((len(terms), len(fit.coef)))
        for row, term in zip(L, terms, strict=True):
            row[places[term, later]] = 1.0
            if earlier != first:
                row[places[term, earlier]] = -1.0
        found = fit.contrast(L, adjust="none", ci_prob=ci_prob)
        link = np.where(np.array(terms) == LEVEL, errors[later], 0.0)
        none = found.assign(estimate=0.0, std_error=0.0, df=np.inf)
        numbers = compared(none, found, link, ci_prob)
        rows.append(pd.DataFrame({"cycle": later, "against": earlier, "term": terms, **numbers}))
    return pd.concat(rows, ignore_index=True)


def _places(fit: Any, by: str | None) -> dict[tuple[str, str], int]:
    """Find the coefficients of a factor of cycles: what they multiply and their cycle, to their place."""
    if not isinstance(fit, FitResult) or not isinstance(by, str):
        raise OptionError(
            f"by= names the factor of cycles in one fit. Got by={by!r} and {type(fit).__name__}. Write "
            f"trend(fit, by='cycle'), or pass a dict from cycle to fit without by=."
        )
    pattern = re.compile(rf"(?:C\({re.escape(by)}\)|{re.escape(by)})\[T\.(.+)\]")
    places: dict[tuple[str, str], int] = {}
    for place, name in enumerate(fit.coef.index):
        parts = name.split(":")
        cycle = next((found[1] for part in parts if (found := pattern.fullmatch(part))), None)
        if cycle is not None:
            rest = ":".join(part for part in parts if not pattern.fullmatch(part))
            places[rest or LEVEL, cycle] = place
    if not any(term == LEVEL for term, _ in places):
        raise OptionError(
            f"There is no factor {by!r} with a first cycle among the coefficients. They are "
            f"{some(list(fit.coef.index), 6)}. Write C({by}) in the formula, with an intercept."
        )
    return places


def _shared(places: dict[tuple[str, str], int], later: str, earlier: str) -> list[str]:
    """List what both cycles are multiplied with, and say which products one of them lacks."""
    both = [term for term, cycle in places if cycle == later and (term, earlier) in places]
    lost = [term for term, cycle in places if cycle in (later, earlier) and term not in both]
    if lost:
        warnings.warn(
            f"Terms without a coefficient in one of two cycles have no change. Between {earlier!r} and {later!r} left "
            f"out: {some(list(dict.fromkeys(lost)))}. Look for columns that the fit dropped.",
            PmwmixWarning,
            stacklevel=4,
        )
    return both


def _first(fit: Any, by: str, cycles: list[str]) -> str:
    """Name the cycle that the others are compared with; ``"first"`` where the fit does not keep it."""
    rows = fit.fits[0].rows
    categories = {} if rows is None or rows.blueprint is None else rows.blueprint.categories
    known: list[str] = next((names for name, names in categories.items() if name in (by, f"C({by})")), [])
    return next((str(name) for name in known if str(name) not in cycles), "first")
