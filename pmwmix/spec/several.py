"""Several formulas as one text, with semicolons between them: that of the outcome, then of parameters or outcomes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pmwmix.errors import NotSupportedError
from pmwmix.spec.brackets import mask
from pmwmix.spec.predictors import PARAMETERS
from pmwmix.spec.random import NORMAL
from pmwmix.spec.whitelist import fail

PARAMETER = re.compile(r"[A-Za-z_]\w*")
EXAMPLE = '["count ~ x + (1 | g)", "zi ~ x"]'


def one_text(formula: Any) -> Any:
    """Join a list of formulas by semicolons, as `spec.formula.parse` takes them apart again; anything else stays.

    Raises
    ------
    FormulaError
        If the list holds fewer than two formulas, or other things than texts with a ``~``.
    """
    if not isinstance(formula, list | tuple):
        return formula
    if len(formula) < 2:
        advice = f"Write it as text, or more of them as {EXAMPLE}" if formula else f"Write for example {EXAMPLE}"
        fail("A list of formulas has one for the outcome and one or more for parameters", repr(formula), advice)
    for piece in formula:
        if not isinstance(piece, str):
            fail("A list of formulas holds texts", f"{type(piece).__name__} {piece!r}", f"Write for example {EXAMPLE}")
        if ";" in mask(piece):
            fail("A formula in a list holds a semicolon", repr(piece), "Give each formula its own place in the list")
    return joined(formula)


def joined(pieces: Sequence[str]) -> str:
    """Write formulas as one text."""
    return "; ".join(piece.strip() for piece in pieces)


def pieces_of(text: str) -> list[str]:
    """Take a text apart at semicolons outside quotes.

    Examples
    --------
    >>> pieces_of("y ~ x + (1 | g); sigma ~ x")
    ['y ~ x + (1 | g)', 'sigma ~ x']
    """
    if ";" not in text:
        return [text]
    blank = mask(text)
    ends = [i for i, character in enumerate(blank) if character == ";"]
    return [text[a:b].strip() for a, b in zip([0, *(end + 1 for end in ends)], [*ends, len(text)], strict=True)]


def about(piece: str) -> tuple[str, str]:
    """Parameter and right side of a formula after the first.

    Raises
    ------
    FormulaError
        If its left side is not the name of a parameter.
    """
    left, tilde, right = piece.partition("~")
    if not tilde or not PARAMETER.fullmatch(left.strip()):
        what = "A formula after the first has a plain name on its left, of a parameter or of another outcome"
        fail(what, repr(piece), "Name the parameter, or compute the outcome as a column first")
    return left.strip(), right


def parameters_of(formula: Any) -> tuple[str, ...]:
    """Names of the parameters that have formulas in a text or a list of them.

    Raises
    ------
    FormulaError
        If one has two, or a left side is no name.
    """
    text = one_text(formula)
    if not isinstance(text, str):
        return ()
    names = [about(piece)[0] for piece in pieces_of(text)[1:]]
    for name in names:
        if names.count(name) > 1:
            fail(f"There are two formulas for {name!r}", repr(text), "Join their right sides by '+'")
    return tuple(names)


def are_outcomes(names: Sequence[str], method: str = "ml", residual: Any = None, random: str = NORMAL) -> bool:
    """Whether the left sides after the first are further outcomes: none is a parameter of any family.

    Parameters
    ----------
    names : sequence of str
    method : str
    residual : object
        The argument of the call, which several outcomes do not have.
    random : str
        Distribution of the random effects.

    Raises
    ------
    FormulaError
        If there are parameters among them too.
    NotSupportedError
        If something was asked for that is not built for several outcomes.

    Examples
    --------
    >>> are_outcomes(["read", "science"]), are_outcomes(["sigma"])
    (True, False)
    """
    found = [name for name in names if name not in PARAMETERS]
    others = [name for name in names if name in PARAMETERS]
    named = ", ".join(map(repr, found))
    if found and others:
        what = "Formulas of parameters do not stand beside those of several outcomes"
        fail(what, f"{others[0]!r} beside {named}", f"Leave the formula of {others[0]!r} out")
    if found and residual is not None:
        raise NotSupportedError(
            f"Residuals of several outcomes have a free covariance matrix and nothing else. Got residual= beside a "
            f"formula for {named}. Leave residual out, or fit the outcomes one at a time."
        )
    if found and random != NORMAL:
        raise NotSupportedError(
            f"Random effects of several outcomes are normal. Got random={random!r} and a formula for {named}. Leave "
            f"random out, or fit the outcomes one at a time."
        )
    if found and method not in ("ml", "reml"):
        raise NotSupportedError(
            f"Several outcomes are fitted by maximum likelihood. Got method={method!r} and a formula for {named}. Use "
            f"method='ml' or 'reml', or fit the outcomes one at a time."
        )
    return bool(found)
