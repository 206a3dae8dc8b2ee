"""What a design and a table say of each other: columns of ids, units, and values read once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.data.codes import code
from pmwmix.data.table import Table, is_file
from pmwmix.resolve.names import Names, is_nested
from pmwmix.spec.design import Design
from pmwmix.surveys import SURVEYS, Preset

KINDS = ("student", "teacher", "class", "school", "country")  # from the lowest up


def weight_texts(weights: Any) -> list[str]:
    """List the texts among weights of any form."""
    if isinstance(weights, Mapping):
        weights = list(weights.values())
    listed = weights if isinstance(weights, list | tuple) else [weights]
    return [text for text in listed if isinstance(text, str)]


@dataclass
class Known:
    """A design beside its table, and what was found so far."""

    design: Design
    table: Table
    given: Collection[str]
    notes: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    extra: dict[str, pd.Series] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = Names(self.table.names)
        self.preset = self.design if isinstance(self.design, Preset) else None
        self.title = self.preset.title if self.preset else "the design"
        self.ids: dict[str, str] = {}
        for kind, said in (self.design.ids or {}).items():
            if column := self.names.first(said):
                self.ids[kind.lower()] = column
        self.adapt: Callable[[pd.Series], pd.Series] | None = None
        self._read: dict[str, pd.Series] = {}
        self._keys: dict[str, tuple[str, ...]] = {}

    def own(self, name: str) -> bool:
        """Whether a field is the preset's own, not one that the user gave or overrode."""
        if self.preset is None or name in self.given:
            return False
        return bool(getattr(self.preset, name) == getattr(SURVEYS[self.preset.name], name))

    def change(self, **fields: Any) -> None:
        """Change fields of the design."""
        self.design = replace(self.design, **fields)

    def read(self, names: Sequence[str]) -> dict[str, pd.Series]:
        """Read columns of the table, derived ones too, each once."""
        new = [name for name in dict.fromkeys(names) if name not in self._read and name not in self.extra]
        if new and not self._read and is_file(self.table):  # go through the file once, not once per question
            new = list(dict.fromkeys([*new, *self.likely()]))
        if new:
            self._read.update(self.table.columns(new, "survey preset"))
        return {name: self.extra[name] if name in self.extra else self._read[name] for name in names}

    def likely(self) -> list[str]:
        """Columns that the steps are likely to ask for."""
        said = [*weight_texts(self.design.weights), self.design.strata or "", self.design.psu or ""]
        found = [self.names.find(name) for text in said for name in re.split(r"[|*:]", text)]
        return [name for name in (*self.ids.values(), *found) if name is not None]

    def column_of(self, name: str) -> str:
        """Column that a name of a group stands for; a column of that name comes first."""
        if name in self.names:
            return name
        known = self.ids.get(name.lower())
        by_column = self.names.find(name)
        return known or (by_column if by_column in self.ids.values() else None) or name

    def unit_columns(self, kind: str) -> tuple[str, ...]:
        """Columns that name a unit uniquely: its id, and the ids of units above where ids start again in them."""
        if kind not in self.ids:
            return ()
        if kind not in self._keys:
            columns = [self.ids[kind]]
            for above in KINDS[KINDS.index(kind) + 1 :] if kind in KINDS else ():
                if above in self.ids and not self.nested(tuple(columns), self.ids[above]):
                    columns.append(self.ids[above])
            self._keys[kind] = tuple(columns)
        return self._keys[kind]

    def nested(self, columns: tuple[str, ...], above: str) -> bool:
        """Whether every unit named by the columns lies in one unit above."""
        read = self.read([*columns, above])
        known = ~np.any([read[name].isna().to_numpy() for name in (*columns, above)], axis=0)
        there = {name: column[known].reset_index(drop=True) for name, column in read.items()}
        return is_nested(code([there[name] for name in columns])[0], code([there[above]])[0])

    def country(self) -> str | None:
        """Column of the countries, if the table has several."""
        column = self.ids.get("country")
        return column if column is not None and self.read([column])[column].nunique() > 1 else None
