"""Weight columns that are probably the wrong ones: sums, replicates, senate weights, ones; names the right one.

Knows the names of survey weights from the presets' documentation; changes nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from pmwmix.errors import PmwmixWarning
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.resolve.names import Names
from pmwmix.spec.design import Design
from pmwmix.surveys import SURVEYS, Preset
from pmwmix.weights.conditional import total_weights
from pmwmix.weights.sums import RowSums

TOTALS = "W_FSTUWT|TOTWGTS|TOTWGT|TCHWGT|TOTWGTT|SPFWT0|ORIGWT"  # rows: PISA, IEA studies, TALIS, PIAAC, NAEP
SCHOOLS = "W_SCHGRNRABWT|W_FSCHWT|SCWEIGHT|WNRSCHBW|SCHWGT|TOTWGTC|SMSRSWT"
NO_TOTAL = {
    r"(W_FSTU?R(WT)?|[STC]RWGT|JR)\d+|SPFWT[1-9]\d*|SRWT\d+": "a replicate weight",
    r"SENWT|SENWGT\w*": "a senate weight, which sums to the same number in every country",
    r"HOU(SE)?WGT": "a house weight, which sums to the sample size",
}
MANY = 0.5  # share of rows or units that makes a suspicion


def check_weights(frame: ModelFrame, design: Design, names: Sequence[str]) -> None:
    """Warn of weight columns that are probably not what the model needs, naming the right one where it is known.

    Parameters
    ----------
    frame : ModelFrame
    design : Design
        Of the call; a preset knows its own columns.
    names : sequence of str
        Columns of the table.

    Warns
    -----
    PmwmixWarning
        For a school weight that sums the members' weights (``W_FSTUWT_SCH_SUM`` in PISA), a school weight of 1
        everywhere, rows' weights below their school's, and replicate, senate or house weights.
    """
    if frame.cond is None or not any(frame.weighted):
        return
    known = Names(names)
    stream = frame.stream
    totals = total_weights(frame.cond, frame.hierarchy.row_parents) if stream is None else stream.totals
    conditional = bool(design.conditional)
    for level, column in enumerate(frame.weight_columns):
        if column is not None:
            right = _right(design, known, level, frame, column)
            problem = _by_name(column) or _by_value(frame, totals, level, right, conditional)
            if problem is not None:
                _warn(column, frame.level_names[level], problem, right)


def _right(design: Design, names: Names, level: int, frame: ModelFrame, given: str) -> str | None:
    """Weight that the level should have; None if that is unknown or the one given."""
    kind = "obs" if level == 0 else "school"
    if level > 0 and len(frame.hierarchy.levels) > 1:
        school = names.first((design.ids or {}).get("school"))
        if school is None or frame.hierarchy.levels[level - 1].factors[0] != school:
            return None
    preset = SURVEYS[design.name] if isinstance(design, Preset) else None
    said = (preset.weights or {}).get(kind) if preset is not None else None
    found = "*".join(names.factors(said or (TOTALS if level == 0 else SCHOOLS))) or (said or "").split("|")[0]
    return None if found in ("", given) else found


def _by_name(column: str) -> str | None:
    if re.fullmatch(r"W_FSTUWT_SCH_SUM", column, re.IGNORECASE):
        return "the sum of the weights of a school's students, no weight of its own"
    return next((what for name, what in NO_TOTAL.items() if re.fullmatch(name, column, re.IGNORECASE)), None)


def _by_value(frame: ModelFrame, totals: Sequence[Any], level: int, right: str | None, conditional: bool) -> str | None:
    own = totals[level]
    if level == 0:
        upper = frame.weight_columns[1] if len(frame.weight_columns) > 1 else None
        if right is None or upper is None or conditional or frame.cond is None:
            return None
        below = float(np.mean(frame.cond[0] < 0.999)) if frame.stream is None else frame.stream.below
        return f"below the weight of the unit above ({upper}) in {below:.0%} of the rows" if below > MANY else None
    if right is not None and np.all(own == 1.0):
        return "1 everywhere, so that it weights nothing"
    if level == 1 and not conditional and frame.weighted[0]:
        if isinstance(totals[0], RowSums):
            members, n = totals[0].total, totals[0].n
        else:
            index = frame.hierarchy.levels[0].index
            members, n = np.bincount(index, totals[0], minlength=len(own)), np.bincount(index)
        alike = np.isclose(members, own, rtol=1e-3) & (n > 1)
        if float(np.mean(alike)) > MANY:
            return "the sum of its members' weights, no weight of its own"
    return None


def _warn(column: str, level: str, problem: str, right: str | None) -> None:
    cure = f"The right one is probably {right!r}." if right else "Look up the study's total weight of that level."
    warnings.warn(
        f"The weight of level {level!r} is probably the wrong column. {column!r} is {problem}. {cure}",
        PmwmixWarning,
        stacklevel=4,
    )
