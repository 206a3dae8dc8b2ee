"""Data and design of the verbs that compute: files that are merged, presets, replicates."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pmwmix.cli.output import pairs


def read_data(chosen: argparse.Namespace, texts: Sequence[str | None], required: Sequence[str]) -> Any:
    """Give the path of a single file, or the table that was read, merged and filtered, with its report on stderr.

    Parameters
    ----------
    chosen : Namespace
    texts : sequence of str or None
        In which columns are named, beside those of the design.
    required : sequence of str
        Words that must be columns, plausible values or kinds of units.

    Raises
    ------
    PmwmixError
    """
    from pmwmix.readers.report import report_of
    from pmwmix.readers.survey import read_named

    files = {"school": chosen.school, "teacher": chosen.teacher, "home": chosen.home}
    if not (any(files.values()) or chosen.countries or chosen.survey or Path(chosen.data).is_dir()):
        return chosen.data
    said = [*texts, chosen.strata, chosen.psu, chosen.replicates, *(chosen.pv or ())]
    made = set(pairs(chosen.pv, "pv") or ())
    data = read_named(
        chosen.data,
        [text for text in said if text],
        [name for name in required if name not in made],
        **files,
        survey=chosen.survey,
        countries=chosen.countries,
        prefix=chosen.prefix,
        progress=False if chosen.no_progress else None,
    )
    print(report_of(data), file=sys.stderr)
    return data


def design_of(chosen: argparse.Namespace) -> Any:
    """Give the design that the options describe: the preset's, with what was said beside it."""
    from pmwmix.spec.design import Design
    from pmwmix.surveys import SURVEYS

    said = {
        "strata": chosen.strata,
        "psu": chosen.psu,
        "replicate_weights": chosen.replicates,
        "replicate_type": chosen.replicate_type,
        "fay": chosen.fay,
    }
    if not chosen.survey:
        return Design(**said)
    changed = any(value is not None for value in said.values())
    return SURVEYS[chosen.survey].override(**said) if changed else chosen.survey
