"""The distribution of the random effects, as it was asked for: before any data are read."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from pmwmix.errors import NotSupportedError, OptionError, near

NORMAL = "normal"
NAMES = (NORMAL, "t", "discrete")
MOST_MASSES = 12
_WAYS = "'normal', 't', 't(5)' with 5 degrees of freedom, or 'discrete(3)' with 3 masses"


def read_random(random: Any) -> str:
    """Check the name of a distribution and the number behind it, and spell both in one way.

    Raises
    ------
    OptionError

    Examples
    --------
    >>> read_random("t( 5.0 )"), read_random("discrete(3)")
    ('t(5)', 'discrete(3)')
    """
    found = re.fullmatch(r"\s*([A-Za-z]+)\s*(?:\(([^()]*)\))?\s*", random) if isinstance(random, str) else None
    if found is None:
        raise OptionError(
            f"The distribution of the random effects is a name. Got random={random!r}. Write one of {_WAYS}."
        )
    name, number = found[1], found[2]
    if name not in NAMES:
        raise OptionError(
            f"Unknown distribution of random effects {name!r}.{near(name, NAMES)} Got random={random!r}. Use one of "
            f"{_WAYS}."
        )
    if name == "discrete":
        return f"discrete({_masses(random, number)})"
    if number is None:
        return name
    if name == NORMAL:
        raise OptionError(f"The normal distribution takes no number. Got random={random!r}. Write random='normal'.")
    return f"t({_degrees(random, number):.15g})"


def _masses(random: str, number: str | None) -> int:
    text = (number or "").strip()
    if not text.isdigit() or not 2 <= int(text) <= MOST_MASSES:
        one = " One mass is the model without random terms." if text == "1" else ""
        raise OptionError(
            f"A discrete distribution has a whole number of masses from 2 to {MOST_MASSES}.{one} Got "
            f"random={random!r}. Write for example random='discrete(3)'."
        )
    return int(text)


def _degrees(random: str, number: str) -> float:
    try:
        df = float(number)
    except ValueError:
        df = float("nan")
    if not (np.isfinite(df) and df > 2.0):
        raise OptionError(
            f"A t distribution with a variance has more than 2 degrees of freedom, a finite number. Got "
            f"random={random!r}. Write for example random='t(5)', or random='t' to have them estimated."
        )
    return df


def check_random(random: str, method: str, name: str, value: Any) -> None:
    """Refuse what is not built with other distributions than the normal one.

    Parameters
    ----------
    random, method : str
    name : str
        An argument of the call.
    value : object
        Of that; None if it was not given.

    Raises
    ------
    NotSupportedError
    """
    if random == NORMAL:
        return
    if method != "ml":
        raise NotSupportedError(
            f"Random effects that are not normal are fitted by maximum likelihood. Got method={method!r} with "
            f"random={random!r}. Use method='ml'."
        )
    if value is not None:
        raise NotSupportedError(
            f"The argument {name} does not go together with random effects that are not normal. Got "
            f"random={random!r} with {name}={value!r}. Leave one of them out."
        )


def is_discrete(random: str) -> bool:
    """Whether random effects sit at mass points."""
    return random.startswith("discrete")


def check_predictors(random: str, family: str, several: bool) -> None:
    """Refuse families with several linear predictors.

    Raises
    ------
    NotSupportedError
    """
    if several and random != NORMAL:
        raise NotSupportedError(
            f"Random effects that are not normal are built for one linear predictor. The family {family!r} has "
            f"several, and random={random!r}. Leave random out."
        )


def refuse_random(random: str, what: str, cure: str) -> None:
    """Refuse what is not built for random effects that are not normal.

    Raises
    ------
    NotSupportedError
    """
    if random != NORMAL:
        raise NotSupportedError(
            f"{what} is not built for random effects that are not normal. This fit has random={random!r}. {cure}."
        )


def check_terms(random: str, formula: str, terms: int, crossed: bool, structures: set[str], most: int) -> None:
    """Refuse models that have no such random effects.

    Parameters
    ----------
    random, formula : str
    terms : int
        Number of random terms.
    crossed : bool
    structures : set of str
        Of their covariances.
    most : int
        Random effects of the level that has most.

    Raises
    ------
    OptionError, NotSupportedError
    """
    if random == NORMAL:
        return
    if not terms:
        raise OptionError(
            f"A distribution of random effects needs a random term. The formula {formula!r} has none, and random="
            f"{random!r}. Add one, (1 | group), or leave random out."
        )
    if crossed:
        raise NotSupportedError(
            f"Random effects of crossed factors are normal. The groups of {formula!r} are crossed, and random="
            f"{random!r}. Leave random out."
        )
    if structures - {"us"}:
        raise NotSupportedError(
            f"Structured covariances are for normal random effects. The formula {formula!r} has "
            f"{', '.join(sorted(structures - {'us'}))}, and random={random!r}. Write plain terms, (1 + x | group)."
        )
    if is_discrete(random) and most > 1:
        raise NotSupportedError(
            f"Discrete random effects are built for one effect per group. The formula {formula!r} has {most}, and "
            f"random={random!r}. Use a random intercept, (1 | group), or random='t'."
        )


__all__ = ["NORMAL", "check_predictors", "check_random", "check_terms", "is_discrete", "read_random", "refuse_random"]
