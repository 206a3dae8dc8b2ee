"""The table of a fit, by reference."""

from __future__ import annotations

from typing import Any

from pmwmix.data.table import Table


class Source:
    """Holds the table that was fitted, as the caller has it; copies and pickles are empty, so that no data travel.

    Parameters
    ----------
    table : Table or None
        Of one that holds a group's rows nothing is kept: the sorted columns of all groups would stay with it.
    """

    def __init__(self, table: Table | None = None) -> None:
        self.table = None if table is None or table.is_part else table

    def __reduce__(self) -> tuple[Any, ...]:
        return Source, ()
