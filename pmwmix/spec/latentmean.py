"""``latent_mean(escs, school)`` in a formula: a group mean that is a latent variable, measured by the members."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pmwmix.errors import NotSupportedError
from pmwmix.spec.brackets import arguments, calls_replaced
from pmwmix.spec.groupnames import NAME
from pmwmix.spec.whitelist import fail

CALL = re.compile(r"(?<![\w.`])latent_mean\s*\(")
EXAMPLE = "Write latent_mean(escs, school), a column and a group of the random terms"


@dataclass(frozen=True, slots=True)
class LatentMean:
    """The latent mean of a column in the groups of a random term.

    Parameters
    ----------
    name : str
        As its coefficient is called, ``"latent_mean(escs, school)"``.
    column : str
    factors : tuple of str
        Columns that name the group.
    """

    name: str
    column: str
    factors: tuple[str, ...]

    def with_groups(self, columns_of: Mapping[str, tuple[str, ...]]) -> LatentMean:
        """Put the columns of a survey in the place of the group's names; the coefficient keeps its own."""
        found = [column for name in self.factors for column in columns_of.get(name, (name,))]
        return replace(self, factors=tuple(dict.fromkeys(found)))


def split_latent(text: str) -> tuple[str, tuple[LatentMean, ...]]:
    """Put a column of its own name, in backticks, in the place of every latent mean.

    Raises
    ------
    FormulaError
        If it is not of one column in one group.

    Examples
    --------
    >>> split_latent("escs + latent_mean(escs, school)")[0]
    'escs + `latent_mean(escs, school)`'
    """
    found: dict[str, LatentMean] = {}

    def name_of(call: str) -> str:
        one = _read(call)
        found[one.name] = one
        return one.name

    written = calls_replaced(text, CALL, name_of)
    return written, tuple(found.values())


def _read(call: str) -> LatentMean:
    given = arguments(re.sub(r"\s*\(", "(", call, count=1)) or []
    if len(given) != 2:
        fail("A latent mean is that of a column in a group", call, EXAMPLE)
    column, group = given
    if not re.fullmatch(NAME, column):
        fail("A latent mean is that of a column of the table", f"{column} in {call}", "Compute it as a column first")
    if not re.fullmatch(rf"(?:{NAME})(?:\s*:\s*(?:{NAME}))*", group):
        fail("A latent mean has one group", f"{group} in {call}", EXAMPLE)
    factors = tuple(name.strip("`") for name in re.findall(NAME, group))
    column = column.strip("`")
    return LatentMean(f"latent_mean({column}, {':'.join(factors)})", column, factors)


def refuse_latent(is_latent: bool, what: str, cure: str) -> None:
    """Refuse what is not built for models with latent group means, if this is one.

    Raises
    ------
    NotSupportedError
    """
    if is_latent:
        raise NotSupportedError(f"{what} is not built for latent group means. The formula has latent_mean(). {cure}.")
