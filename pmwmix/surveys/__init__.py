"""Survey presets, one file per study: ``pmwmix.surveys["pisa-2018"]`` is a `Design`, ``pmwmix.surveys.table()`` a list.

This module is also the registry, because ``pmwmix.surveys`` has to be both: it answers ``[name]``, ``in``, ``len()``
and iteration. A new study is one new file here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

from pmwmix._registry import discover
from pmwmix.spec.design import SURVEYS
from pmwmix.surveys._base import Preset
from pmwmix.surveys._table import markdown, table

__all__ = ["SURVEYS", "Preset", "markdown", "table"]


class _Presets(ModuleType):
    """A module that can be asked like a dict."""

    def __getitem__(self, name: str) -> Preset:
        found: Preset = SURVEYS[name]
        return found

    def __contains__(self, name: object) -> bool:
        return name in SURVEYS

    def __iter__(self) -> Iterator[str]:
        return iter(SURVEYS)

    def __len__(self) -> int:
        return len(SURVEYS)

    def __dir__(self) -> list[str]:
        return list(__all__)


discover(sys.modules[__name__])
sys.modules[__name__].__class__ = _Presets
