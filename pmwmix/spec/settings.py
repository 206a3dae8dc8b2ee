"""What was asked for: everything a summary says about the call."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Settings:
    """What was asked for: everything the summary says about the call.

    Parameters
    ----------
    call, formula, method, vcov, scaling : str
    weights : tuple of (str, str or None)
        Level and its column, rows first.
    conditional : bool
    pv : dict
        Set name to columns.
    clusters : (str, str or None, int, int)
        PSU, strata, number of PSUs, number of strata.
    n_read : int
    dropped, zero_weight : dict
    replicates : (str, int, float) or None
        Type of the replicates, their number, degrees of freedom.
    family, link : str
    n_agq : int, tuple of int or None
        Quadrature nodes asked for; None is the automatic choice.
    chunk_size : int or None
        Rows times nodes times parameters that are evaluated at once.
    residual : dict
        Structure of the residuals, as the summary says it; empty without one.
    labels : dict
        Predictor to its label in the survey's files, where there is one.
    fixed : dict
        Variances held at values, by their names in ``varcorr``.
    weights_top : str or None
        Scale of the top level's weights, if they are not as given.
    trimmed : tuple of (str, float, float, int, int, float, float)
        Level, times its median, that value, units cut and all, sum of the weights before and after.
    """

    call: str
    formula: str
    method: str
    vcov: str
    scaling: str
    weights: tuple[tuple[str, str | None], ...]
    conditional: bool
    pv: dict[str, list[str]]
    clusters: tuple[str, str | None, int, int]
    n_read: int
    dropped: dict[str, int]
    zero_weight: dict[str, int]
    replicates: tuple[str, int, float] | None = None
    family: str = "gaussian"
    link: str = "identity"
    n_agq: Any = None
    chunk_size: int | None = None
    residual: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, float] = field(default_factory=dict)
    weights_top: str | None = None
    trimmed: tuple[tuple[str, float, float, int, int, float, float], ...] = ()

    @property
    def weighted(self) -> bool:
        """Whether any level has a weight column."""
        return any(column is not None for _, column in self.weights)

    @property
    def design_df(self) -> float:
        """Number of PSUs minus number of strata, or what the replicates give (replicates, table of types)."""
        if self.replicates is not None:
            return float(self.replicates[2])
        return float(self.clusters[2] - self.clusters[3])

    def label_of(self, term: str) -> str:
        """Labels of the variables in a term, ``" x "`` between those of an interaction; empty without labels."""
        found = {
            place: label
            for name, label in self.labels.items()
            if (place := re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", term))
        }
        return " x ".join(label for _, label in sorted((place.start(), label) for place, label in found.items()))
