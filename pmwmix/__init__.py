"""pmwmix: survey-weighted multilevel models with plausible values.

Public names load when first used, so that ``import pmwmix`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pmwmix import plots, surveys
    from pmwmix.api import fit, load, pool
    from pmwmix.codebooks import codebook
    from pmwmix.comparison import compare
    from pmwmix.design import Design
    from pmwmix.diagnostics import extreme_weights, sensitivity, weight_diagnostics
    from pmwmix.effects import design_effects, icc_se
    from pmwmix.errors import PmwmixError, PmwmixWarning
    from pmwmix.groups import GroupFits, fit_groups
    from pmwmix.informative import dumouchel_duncan, hausman, informativeness, pfeffermann_sverchkov
    from pmwmix.lrtest import lrt, ranova
    from pmwmix.margins import predictions
    from pmwmix.nodecheck import quadrature_check
    from pmwmix.readers import convert, read_survey
    from pmwmix.results import FitResult
    from pmwmix.scaling import SCALINGS
    from pmwmix.simulate import simulate_survey
    from pmwmix.withingroups import group_regressions

_HOME = {
    "fit": "api",
    "fit_groups": "groups",
    "GroupFits": "groups",
    "read_survey": "readers",
    "convert": "readers",
    "codebook": "codebooks",
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
    "extreme_weights": "diagnostics",
    "sensitivity": "diagnostics",
    "weight_diagnostics": "diagnostics",
    "design_effects": "effects",
    "icc_se": "effects",
    "informativeness": "informative",
    "dumouchel_duncan": "informative",
    "pfeffermann_sverchkov": "informative",
    "hausman": "informative",
    "predictions": "margins",
    "group_regressions": "withingroups",
    "compare": "comparison",
    "quadrature_check": "nodecheck",
}

__all__ = [
    "SCALINGS",
    "Design",
    "FitResult",
    "GroupFits",
    "PmwmixError",
    "PmwmixWarning",
    "codebook",
    "compare",
    "convert",
    "design_effects",
    "dumouchel_duncan",
    "extreme_weights",
    "fit",
    "fit_groups",
    "group_regressions",
    "hausman",
    "icc_se",
    "informativeness",
    "load",
    "lrt",
    "pfeffermann_sverchkov",
    "plots",
    "pool",
    "predictions",
    "quadrature_check",
    "ranova",
    "read_survey",
    "sensitivity",
    "simulate_survey",
    "surveys",
    "weight_diagnostics",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"pmwmix.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in ("plots", "simulate", "surveys"):
        return importlib.import_module(f"pmwmix.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("pmwmix")
    raise AttributeError(f"module 'pmwmix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
