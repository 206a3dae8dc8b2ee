"""What a call says of each of several outcomes: a text for all of them, a list, or texts by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.spec.outcome import Distribution
from pmwmix.spec.several import one_text, parameters_of, pieces_of

PLAIN = (Distribution.family, Distribution.link)


def outcome_names(formula: Any) -> tuple[str, ...]:
    """Left sides of a list of formulas."""
    first = pieces_of(one_text(formula))[0].partition("~")[0].strip().strip("`")
    return (first, *parameters_of(formula))


def check_texts(name: str, value: Any) -> None:
    """Refuse families or links that are not text, a list or a dict of texts.

    Raises
    ------
    OptionError
    """
    many = isinstance(value, list | tuple | Mapping)
    held = [*(value.values() if isinstance(value, Mapping) else value)] if many else [value]
    for one in held:
        if not (one is None or isinstance(one, str)) or (many and name == "family" and one is None):
            what = f"list of {name} holds texts, one for each outcome" if many else f"argument {name} is a text"
            raise OptionError(f"The {what}. Got {type(one).__name__} {one!r}. Write it in quotes.")


def is_each(value: Any) -> bool:
    """Whether something is said of each outcome by itself."""
    return not (value is None or isinstance(value, str))


def is_plain(families: Sequence[str | None], links: Sequence[str | None]) -> bool:
    """Whether all outcomes are gaussian with the identity link, which neither table is needed to know."""
    return all(one in ((PLAIN[0], None), PLAIN) for one in zip(families, links, strict=True))


def refuse_each(family: Any, link: Any) -> None:
    """Refuse lists and dicts of families and links where there is one outcome.

    Raises
    ------
    OptionError
    """
    for name, value in (("family", family), ("link", link)):
        if is_each(value):
            raise OptionError(
                f"A {name} for each outcome belongs to several formulas. Got {name}={value!r} with a formula of one "
                f"outcome. Write {name} as text, or a list of formulas."
            )


def of_each(name: str, value: Any, outcomes: Sequence[str]) -> list[str | None]:
    """Give what is said of every outcome, None of one about which nothing is said.

    Raises
    ------
    OptionError
        If a list has another length, or names are not those of outcomes.
    """
    if not is_each(value):
        return [value] * len(outcomes)
    listed = ", ".join(map(repr, outcomes))
    if isinstance(value, Mapping):
        for one in value:
            if one not in outcomes:
                raise OptionError(
                    f"A {name} is said of an outcome that no formula has. Got {one!r}.{near(str(one), outcomes)} The "
                    f"outcomes are {listed}."
                )
        lacking = [one for one in outcomes if one not in value]
        if lacking and name == "family":
            raise OptionError(
                f"A family is said of some outcomes and not of others. {lacking[0]!r} is missing in family={value!r}. "
                f"Name all of {listed}."
            )
        return [value.get(one) for one in outcomes]
    if len(value) != len(outcomes):
        raise OptionError(
            f"A list of {name} has one entry per outcome. Got {name}={value!r} for {len(outcomes)} outcomes, {listed}. "
            f"Give as many, in the order of the formulas, or a dict by outcome."
        )
    return list(value)


def check_joint(
    method: str, trials: Any, outcomes: Sequence[str], families: Sequence[str | None], closed_form: bool
) -> None:
    """Refuse what outcomes of several kinds cannot have.

    Raises
    ------
    NotSupportedError
    """
    shown = ", ".join(f"{a} ({b})" for a, b in zip(outcomes, families, strict=True))
    if trials is not None:
        raise NotSupportedError(
            f"A column of trials belongs to a single outcome. Got trials={trials!r} with {shown}. Leave it out: "
            f"binomial outcomes of several are 0/1 or two categories."
        )
    if method == "reml" and not closed_form:
        raise NotSupportedError(
            f"REML is defined for linear models. Asked for method='reml' with {shown}. Use method='ml'."
        )
