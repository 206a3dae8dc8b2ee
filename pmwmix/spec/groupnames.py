"""Names of groups in the text of a formula."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

NAME = r"`[^`]+`|[^\W\d][\w.]*"
RUNG = re.compile(r"(?:`[^`]+`|[^`/])+")
AFTER_BAR = re.compile(r"(?<=\|)[^|()]+(?=\))")


def quote(name: str) -> str:
    """Spell a column in a formula."""
    return name if re.fullmatch(r"[^\W\d][\w.]*", name) else f"`{name}`"


def spelled_out(
    rung: Sequence[str], columns_of: Mapping[str, tuple[str, ...]], above: Collection[str]
) -> list[tuple[str, ...]]:
    """Columns of every name of a rung; those of units above are named once, for the class lies in its school.

    Parameters
    ----------
    rung : sequence of str
        Names between two slashes: ``school`` and ``class`` of ``school/class`` are rungs of their own.
    columns_of : mapping
        Name in the formula to the columns that it stands for, its own first.
    above : collection of str
        Columns that name the rungs above.

    Examples
    --------
    >>> spelled_out(["class"], {"class": ("CLASS", "SCHOOL")}, ["SCHOOL"])
    [('CLASS',)]
    """
    found = [columns_of.get(name, (name,)) for name in rung]
    there = {*above, *(columns[0] for columns in found)}
    out = []
    for own, *more in found:
        out.append((own, *(column for column in more if column not in there)))
        there.update(more)
    return out


def rename_groups(formula: str, columns_of: Mapping[str, tuple[str, ...]]) -> str:
    """Put columns in the place of the groups' names right of every bar.

    Examples
    --------
    >>> rename_groups("y ~ x + (x | school)", {"school": ("SCHOOLID", "CNT")})
    'y ~ x + (x | SCHOOLID:CNT)'
    """

    def within(match: re.Match[str]) -> str:
        above: list[str] = []

        def rung(piece: re.Match[str]) -> str:
            names = [name.strip("`") for name in re.findall(NAME, piece[0])]
            columns = spelled_out(names, columns_of, above)
            above.extend(column for one in columns for column in one)
            left = iter(columns)
            return re.sub(NAME, lambda _: ":".join(map(quote, next(left))), piece[0])

        return RUNG.sub(rung, match[0])

    return AFTER_BAR.sub(within, formula)
