"""Names of groups in the text of a formula."""

from __future__ import annotations

import re
from collections.abc import Callable

NAME = r"`[^`]+`|[^\W\d][\w.]*"
AFTER_BAR = re.compile(r"(?<=\|)[^|()]+(?=\))")


def quote(name: str) -> str:
    """Spell a column in a formula."""
    return name if re.fullmatch(r"[^\W\d][\w.]*", name) else f"`{name}`"


def rename_groups(formula: str, columns_of: Callable[[str], tuple[str, ...]]) -> str:
    """Put columns in the place of the groups' names right of every bar.

    Parameters
    ----------
    formula : str
    columns_of : callable
        Name in the formula to the columns that it stands for, its own first.

    Examples
    --------
    >>> rename_groups("y ~ x + (x | school)", lambda name: ("SCHOOLID", "CNT"))
    'y ~ x + (x | SCHOOLID:CNT)'
    """

    def within(match: re.Match[str]) -> str:
        found = {name: columns_of(name.strip("`")) for name in re.findall(NAME, match[0])}
        there = {columns[0] for columns in found.values()}

        def one(name: re.Match[str]) -> str:
            first, *more = found[name[0]]
            new = [column for column in more if column not in there]
            there.update(new)  # in school/class the class lies in the school and in all that names it
            return ":".join(quote(column) for column in (first, *new))

        return re.sub(NAME, one, match[0])

    return AFTER_BAR.sub(within, formula)
