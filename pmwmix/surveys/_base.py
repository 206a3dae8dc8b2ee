"""What a survey preset is: a `Design` that also knows its study, its default outcome and its sources. No data here.

Grammar of the columns in a preset: ``"A|B"`` is A or, where the table lacks it, B; ``"A*B"`` is the product of two
columns; ``"A:B"`` (strata and PSU only) the combination of two columns. Names are matched whatever their case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from pmwmix.spec.design import SURVEYS, Design

NAMES = (
    "Names, variance rules and labels of missing answers as in EdSurvey 4.1, RALSA 1.6, ILSAstats 0.4 and Rrepest 1.6 "
    "(R packages)."
)
SCHEMES = "Nguyen & Kelley (2018). Methods used for estimating mixed-effects models in EdSurvey, Table 1."
KORETZ = (
    "Koretz, McCaffrey & Sullivan (2001). Using TIMSS to analyze correlates of performance variation in mathematics. "
    "NCES Working Paper 2001-05."
)


@dataclass(frozen=True, repr=False)
class Preset(Design):
    """A survey cycle: names, weighting, variance method, and where they come from.

    Parameters
    ----------
    name, title : str
        ``"pisa-2018"`` and ``"PISA 2018"``.
    rows : str
        What a row of the table is.
    outcome : str or None
        Plausible-value set or column that a formula with a blank left side takes; alternatives joined by ``|``.
    lowest_only : bool
        Whether `scaling` applies to the lowest level alone, also in models with three levels.
    advice : str
        The recommended weighting of multilevel models, in words.
    choices : dict or None
        For studies without a recommendation: the weight columns to choose from, column to meaning.
    replicates_by_weight : dict or None
        Pattern of the rows' weight to the template of its replicates, where that depends on the weight.
    method_columns : tuple of str
        Columns of the replication method, number of replicates and Fay's factor, where countries differ.
    no_answer : tuple of str
        Value labels of the study's files that say that there is no answer (EdSurvey's omitted levels, RALSA's missing
        values); `read_survey` sets their codes to missing.
    sources, remarks : tuple of str

    Notes
    -----
    ``weights`` is keyed by ``"obs"`` and kinds of units (``"class"``, ``"school"``), all total weights. ``psu`` may be
    a kind. Columns follow the grammar of this module; `pmwmix.fillin` turns them into those of a table.
    """

    name: str = ""
    title: str = ""
    rows: str = "student"
    outcome: str | None = None
    lowest_only: bool = False
    advice: str = ""
    choices: Mapping[str, str] | None = None
    replicates_by_weight: Mapping[str, str] | None = None
    method_columns: tuple[str, ...] = ()
    no_answer: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        base = SURVEYS.get(self.name)
        changed = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if base is not None and getattr(self, field.name) != getattr(base, field.name)
        }
        said = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        return f"pmwmix.surveys[{self.name!r}]" + (f".override({said})" if said else "")


def register(**given: Any) -> Preset:
    """Make a preset and enter it in the registry."""
    preset = Preset(**given)
    SURVEYS.add(preset.name, preset)
    return preset


def times(*parts: str) -> str:
    """Multiply columns with alternatives: ``times("A|B", "C") == "A*C|B*C"``."""
    return "|".join("*".join(chosen) for chosen in product(*(part.split("|") for part in parts)))
