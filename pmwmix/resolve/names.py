"""From the names that a design says to the columns that a table has: any case, alternatives, products, templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from pmwmix.data.codes import code
from pmwmix.data.pvsets import expand_pv
from pmwmix.errors import near, some


class Names:
    """Columns of a table, found whatever their case; an exact match wins.

    Examples
    --------
    >>> Names(["w_fstuwt", "CNT"]).find("W_FSTUWT")
    'w_fstuwt'
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.all = list(names)
        self._exact = set(names)
        self._folded: dict[str, str] = {}
        for name in names:
            self._folded.setdefault(name.casefold(), name)

    def __contains__(self, name: object) -> bool:
        return name in self._exact

    def find(self, name: str) -> str | None:
        """Column of that name, or None."""
        return name if name in self._exact else self._folded.get(name.casefold())

    def first(self, alternatives: str | None) -> str | None:
        """Column of the first of the alternatives ``"A|B"`` that is there."""
        return next((column for name in (alternatives or "").split("|") if (column := self.find(name))), None)

    def factors(self, alternatives: str) -> tuple[str, ...]:
        """Columns of the first of the products ``"A*B|C"`` that is there as a whole; empty if none is."""
        if alternatives in self:
            return (alternatives,)
        for product in alternatives.split("|"):
            found = [self.find(name.strip()) for name in product.split("*")]
            if all(found):
                return tuple(str(name) for name in found)
        return ()

    def template(self, alternatives: str) -> str | list[str] | None:
        """Template of the first alternative that has columns, in the table's own case; columns if cases are mixed."""
        for spec in alternatives.split("|"):
            before, hole, after = spec.partition("{}")
            pattern = re.compile(f"({re.escape(before)})(\\d+)({re.escape(after)})", re.IGNORECASE)
            found = [match for column in self.all if hole and (match := pattern.fullmatch(column))]
            spelled = {f"{match[1]}{{}}{match[3]}" for match in found}
            if len(spelled) == 1:
                return spelled.pop()
            if found:
                upper = expand_pv({"columns": spec.upper()}, [match[0].upper() for match in found])["columns"]
                return [str(self.find(next(m[0] for m in found if m[0].upper() == name))) for name in upper]
        return None

    def expand(self, alternatives: str) -> list[str]:
        """Columns of a template in the order of their numbers, gaps refused; empty if there is none."""
        found = self.template(alternatives)
        if isinstance(found, str):
            return expand_pv({"columns": found}, self.all)["columns"]
        return found or []

    def missing(self, wanted: Iterable[str]) -> str:
        """Say which columns were looked for, and near names: the middle sentence of an error."""
        listed = [name.strip() for text in wanted for name in re.split(r"[|*:]", text)]
        gone = [name for name in dict.fromkeys(listed) if self.find(name) is None] or listed
        return f"Looked for {some(gone)}.{near(gone[0], self.all)}"


def combine(columns: Sequence[pd.Series], name: str) -> pd.Series:
    """Make one category of several columns, ``"7:3"``; missing where any is."""
    known = ~np.any([column.isna().to_numpy() for column in columns], axis=0)
    index, labels = code([column[known].reset_index(drop=True) for column in columns])
    codes = np.full(len(known), -1, dtype=np.int64)
    codes[known] = index
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index([str(label) for label in labels])), name=name)


def is_nested(lower: np.ndarray, upper: np.ndarray) -> bool:
    """Whether every unit of ``lower`` (n,) lies in one unit of ``upper`` (n,)."""
    if not len(lower):
        return True
    home = np.zeros(int(lower.max()) + 1, dtype=np.int64)
    home[lower] = upper
    return bool(np.all(home[lower] == upper))
