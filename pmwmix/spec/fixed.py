"""Variances held at values: what was asked for, before any data are read."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from pmwmix.errors import NotSupportedError, OptionError

RESIDUAL = "Residual"
_EXAMPLE = 'fixed={"school.Intercept": 25.0}'


def read_fixed(fixed: Any, method: str, residual: Any = None) -> dict[str, float]:
    """Check variances that are to be held: a dict of names and positive numbers.

    Raises
    ------
    OptionError, NotSupportedError
    """
    if fixed is None:
        return {}
    if not isinstance(fixed, Mapping) or not fixed:
        raise OptionError(
            f"The argument fixed is a dict of variances by their names. Got {fixed!r}. Write for example {_EXAMPLE}."
        )
    for name, value in fixed.items():
        if not isinstance(name, str):
            raise OptionError(f"Names of variances are texts. Got {name!r} in fixed=. Write for example {_EXAMPLE}.")
        number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
        if not (number and np.isfinite(float(value)) and float(value) > 0):
            raise OptionError(
                f"A variance is held at a finite number above 0. Got {value!r} for {name!r}. Give the variance, not "
                f"the standard deviation; to hold it at 0 leave the random term out."
            )
    if method == "bayes":
        raise NotSupportedError(
            f"Posteriors with variances held at values are not built. Got method='bayes' with fixed={dict(fixed)!r}. "
            f"Use method='ml', or a narrow prior."
        )
    if method == "pairwise":
        raise NotSupportedError(
            f"Variances are not held in a pairwise likelihood. Got method='pairwise' with fixed={dict(fixed)!r}. "
            f"Use method='ml'."
        )
    if residual is not None:
        raise NotSupportedError(
            f"Variances are not held beside a residual structure. Got fixed={dict(fixed)!r} with residual=. "
            f"Leave one of them out."
        )
    return {name: float(value) for name, value in fixed.items()}


def refuse_fixed(fixed: Mapping[str, float], what: str, cure: str) -> None:
    """Refuse what is not built for models with variances held at values.

    Raises
    ------
    NotSupportedError
    """
    if fixed:
        raise NotSupportedError(
            f"{what} is not built for models with variances held at values. This one holds {words_of(fixed)}. {cure}."
        )


def words_of(fixed: Mapping[str, float]) -> str:
    """Name variances and the values that they are held at."""
    return ", ".join(f"{name} at {value:.6g}" for name, value in fixed.items())
