"""What was asked for: everything a summary says about the call."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

FACTORS = re.compile(r":(?![^\[]*\])(?![^(]*\))")  # between the factors of a term, outside brackets


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
    levels : dict
        Predictor to the labels of its codes in the survey's files, code as text to label.
    fixed : dict
        Variances held at values, by their names in ``varcorr``.
    weights_top : str or None
        Scale of the top level's weights, if they are not as given.
    random : str
        Distribution of the random effects.
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
    levels: dict[str, dict[str, str]] = field(default_factory=dict)
    fixed: dict[str, float] = field(default_factory=dict)
    weights_top: str | None = None
    trimmed: tuple[tuple[str, float, float, int, int, float, float], ...] = ()
    random: str = "normal"

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
        """Label of a term: of its variables and of the category, ``" x "`` between factors; empty without labels.

        ``IMMIG[T.2]:ESCS`` becomes ``Immigration background: Second-Generation x Economic status``. What has no label
        stands there as it is.
        """
        parts = [self._label_of_factor(factor) for factor in FACTORS.split(term)]
        return " x ".join(text for text, _ in parts) if any(known for _, known in parts) else ""

    def _label_of_factor(self, factor: str) -> tuple[str, bool]:
        """Text of one factor of a term, and whether any of it is a label."""
        found = {
            name: place.start()
            for name in {**self.labels, **self.levels}
            if (place := re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", factor))
        }
        if not found:
            return factor, False
        names = sorted(found, key=found.__getitem__)
        named = " x ".join(self.labels[name] for name in names if name in self.labels)
        category = re.search(r"\[(?:[TS]\.)?(.*)\]$", factor)
        if category is None:
            return named or factor, bool(named)
        text = next((said for name in names if (said := self.levels.get(name, {}).get(plain(category[1])))), "")
        return f"{named or names[0]}: {text or category[1]}", bool(named or text)


def plain(code: str) -> str:
    """Spell the code of a category as value labels do: whole numbers without decimals.

    Examples
    --------
    >>> plain("2.0"), plain("Second-Generation")
    ('2', 'Second-Generation')
    """
    return re.sub(r"^(-?\d+)\.0+$", r"\1", code)
