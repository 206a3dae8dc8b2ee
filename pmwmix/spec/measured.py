"""``measured(escs, 0.85)`` in a formula: a predictor that is measured with error, of known reliability."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pmwmix.errors import NotSupportedError
from pmwmix.spec.brackets import arguments, calls_replaced
from pmwmix.spec.groupnames import NAME
from pmwmix.spec.whitelist import fail

CALL = re.compile(r"(?<![\w.`])measured\s*\(")
EXAMPLE = (
    "Write measured(escs, 0.85) with the reliability, or measured(escs, sd=0.4) with the error's standard deviation"
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A column measured with error.

    Parameters
    ----------
    name : str
        As its coefficient is called, ``"measured(escs, 0.85)"``.
    column : str
    reliability : float or None
        Share of the column's variance that is that of the true values.
    sd : float or None
        Standard deviation of the error, where that is given in its place.
    """

    name: str
    column: str
    reliability: float | None = None
    sd: float | None = None


def split_measured(text: str) -> tuple[str, tuple[Measured, ...]]:
    """Put a column of its own name, in backticks, in the place of every measured predictor.

    Raises
    ------
    FormulaError
        If it is not of one column and one number.

    Examples
    --------
    >>> split_measured("female + measured(read, 0.9)")[0]
    'female + `measured(read, 0.9)`'
    """
    found: dict[str, Measured] = {}

    def name_of(call: str) -> str:
        one = _read(call)
        if any(other.column == one.column and other != one for other in found.values()):
            fail("A column is measured in two ways", f"{one.column!r} in {text.strip()}", "Give it one reliability")
        found[one.name] = one
        return one.name

    written = calls_replaced(text, CALL, name_of)
    return written, tuple(found.values())


def _read(call: str) -> Measured:
    given = arguments(re.sub(r"\s*\(", "(", call, count=1)) or []
    if len(given) != 2 or not re.fullmatch(NAME, given[0]):
        fail("A measured predictor is a column and its reliability", call, EXAMPLE)
    column, kind = given[0].strip("`"), re.fullmatch(r"(sd\s*=\s*)?(\d*\.?\d+(?:[eE][-+]?\d+)?)", given[1])
    if kind is None:
        fail("The reliability of a measured predictor is a number", call, EXAMPLE)
    assert kind is not None
    number, name = float(kind[2]), f"measured({column}, {'sd=' if kind[1] else ''}{kind[2]})"
    if kind[1]:
        return Measured(name, column, sd=number)
    if not 0.0 < number <= 1.0:
        fail("A reliability is above 0 and at most 1", call, EXAMPLE)
    return Measured(name, column, reliability=number)


def refuse_measured(is_measured: bool, what: str, cure: str) -> None:
    """Refuse what is not built for predictors measured with error, if there are any.

    Raises
    ------
    NotSupportedError
    """
    if is_measured:
        raise NotSupportedError(f"{what} is not built for predictors with error. The formula has measured(). {cure}.")
