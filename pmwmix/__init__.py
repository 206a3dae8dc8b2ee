"""pmwmix: survey-weighted multilevel models with plausible values.

Public names load when first used, so that ``import pmwmix`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmwmix.interrupt import whole_import

if TYPE_CHECKING:
    from pmwmix import datasets, plots, surveys
    from pmwmix.api import fit, pool
    from pmwmix.data.codebook import codebook
    from pmwmix.descriptives.describe import describe
    from pmwmix.errors import PmwmixError, PmwmixWarning
    from pmwmix.groups import GroupFits, fit_groups
    from pmwmix.inference.icc import design_effects, icc_se
    from pmwmix.inference.margins import predictions
    from pmwmix.planning.power import power
    from pmwmix.readers.conversion import convert
    from pmwmix.readers.survey import read_survey
    from pmwmix.resampling.generated import replicate_weights
    from pmwmix.results.result import FitResult
    from pmwmix.sample.load import load
    from pmwmix.simulate import simulate_survey
    from pmwmix.spec.design import Design
    from pmwmix.studies.comparison import compare
    from pmwmix.studies.influence import influence
    from pmwmix.studies.informative import dumouchel_duncan, hausman, informativeness, pfeffermann_sverchkov
    from pmwmix.studies.lrtest import lrt, ranova
    from pmwmix.studies.nodecheck import quadrature_check
    from pmwmix.studies.sensitivity import extreme_weights, sensitivity, weight_diagnostics
    from pmwmix.studies.trend import trend
    from pmwmix.studies.trenddifferences import trend_differences
    from pmwmix.studies.withingroups import group_regressions
    from pmwmix.tables.modeltable import ModelTable, table
    from pmwmix.weights.scaling import SCALINGS

_HOME = {
    "fit": "api",
    "fit_groups": "groups",
    "GroupFits": "groups",
    "read_survey": "readers.survey",
    "convert": "readers.conversion",
    "codebook": "data.codebook",
    "load": "sample.load",
    "pool": "api",
    "lrt": "studies.lrtest",
    "ranova": "studies.lrtest",
    "Design": "spec.design",
    "PmwmixError": "errors",
    "PmwmixWarning": "errors",
    "FitResult": "results.result",
    "SCALINGS": "weights.scaling",
    "simulate_survey": "simulate",
    "extreme_weights": "studies.sensitivity",
    "sensitivity": "studies.sensitivity",
    "weight_diagnostics": "studies.sensitivity",
    "design_effects": "inference.icc",
    "icc_se": "inference.icc",
    "informativeness": "studies.informative",
    "dumouchel_duncan": "studies.informative",
    "pfeffermann_sverchkov": "studies.informative",
    "hausman": "studies.informative",
    "predictions": "inference.margins",
    "influence": "studies.influence",
    "group_regressions": "studies.withingroups",
    "compare": "studies.comparison",
    "quadrature_check": "studies.nodecheck",
    "describe": "descriptives.describe",
    "trend": "studies.trend",
    "trend_differences": "studies.trenddifferences",
    "power": "planning.power",
    "replicate_weights": "resampling.generated",
    "table": "tables.modeltable",
    "ModelTable": "tables.modeltable",
}

__all__ = [
    "SCALINGS",
    "Design",
    "FitResult",
    "GroupFits",
    "ModelTable",
    "PmwmixError",
    "PmwmixWarning",
    "codebook",
    "compare",
    "convert",
    "datasets",
    "describe",
    "design_effects",
    "dumouchel_duncan",
    "extreme_weights",
    "fit",
    "fit_groups",
    "group_regressions",
    "hausman",
    "icc_se",
    "influence",
    "informativeness",
    "load",
    "lrt",
    "pfeffermann_sverchkov",
    "plots",
    "pool",
    "power",
    "predictions",
    "quadrature_check",
    "ranova",
    "read_survey",
    "replicate_weights",
    "sensitivity",
    "simulate_survey",
    "surveys",
    "table",
    "trend",
    "trend_differences",
    "weight_diagnostics",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(whole_import(f"pmwmix.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in ("datasets", "plots", "simulate", "surveys"):
        return whole_import(f"pmwmix.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("pmwmix")
    raise AttributeError(f"module 'pmwmix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
