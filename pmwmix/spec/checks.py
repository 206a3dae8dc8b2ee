"""Checks of single arguments that many verbs share."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from pmwmix.errors import OptionError


def check_prob(ci_prob: Any) -> None:
    """Refuse what is no probability.

    Raises
    ------
    OptionError
    """
    if not (isinstance(ci_prob, int | float | np.number) and 0 < ci_prob < 1):
        raise OptionError(f"ci_prob is a probability between 0 and 1. Got {ci_prob!r}. Write for example ci_prob=0.95.")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, and no flag."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_fitted(fit: Any, verb: str) -> None:
    """Refuse what is not a single result of `pmwmix.fit`.

    Raises
    ------
    OptionError
    """
    if not (hasattr(fit, "tidy") and hasattr(fit, "fits") and hasattr(fit, "ranef")):
        raise OptionError(
            f"{verb} is about a fitted model. Got {type(fit).__name__}. Pass what pmwmix.fit(...) returned, one fit at "
            f"a time."
        )
