"""pmwmix: survey-weighted multilevel models with plausible values.

Public names load when first used, so that ``import pmwmix`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pmwmix.api import fit, load, pool
    from pmwmix.design import Design
    from pmwmix.errors import PmwmixError, PmwmixWarning
    from pmwmix.lrtest import lrt, ranova
    from pmwmix.results import FitResult
    from pmwmix.scaling import SCALINGS
    from pmwmix.simulate import simulate_survey

_HOME = {
    "fit": "api",
    "load": "api",
    "pool": "api",
    "lrt": "lrtest",
    "ranova": "lrtest",
    "Design": "design",
    "PmwmixError": "errors",
    "PmwmixWarning": "errors",
    "FitResult": "results",
    "SCALINGS": "scaling",
    "simulate_survey": "simulate",
}

__all__ = [
    "SCALINGS",
    "Design",
    "FitResult",
    "PmwmixError",
    "PmwmixWarning",
    "fit",
    "load",
    "lrt",
    "pool",
    "ranova",
    "simulate_survey",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"pmwmix.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name == "__version__":
        from importlib.metadata import version

        return version("pmwmix")
    raise AttributeError(f"module 'pmwmix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
