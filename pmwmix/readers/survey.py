"""From paths to one table: read, merge, label, report."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pmwmix.errors import DataError, PmwmixWarning, some
from pmwmix.readers.columns import expand, lacking, pv_sets
from pmwmix.readers.files import Columns, Outcome, read_stack
from pmwmix.readers.labels import categorise
from pmwmix.readers.merging import common_keys, join
from pmwmix.readers.plan import Reading, plan_reading
from pmwmix.readers.report import KEY, Report
from pmwmix.readers.source import Tick
from pmwmix.running import bar


def read_survey(
    path: str | Path | Sequence[str | Path],
    *,
    school: Any = None,
    teacher: Any = None,
    home: Any = None,
    survey: str | None = None,
    countries: str | Sequence[str] | None = None,
    columns: str | Sequence[str] | None = None,
    labels: Any = None,
    missing: Any = True,
    prefix: str | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Read survey files into one table.

    Parameters
    ----------
    path : str, Path or list of them
        A file (.sav, .zsav, .sas7bdat, .xpt, .dta, .csv, .csv.gz, .parquet), several files to be stacked, or a folder
        of files per country such as ``bsgautm7.sav``, which are found by their prefix and stacked.
    school, home : path, list of paths or bool, optional
        Files merged by the study's ids. In a folder: True, or a prefix such as ``"bcg"``; the school files are merged
        by themselves unless ``school=False``.
    teacher : path, (link path, teacher path) or bool, optional
        Teachers of the students. With a linkage file, as in folders, a student has a row for each teacher.
    survey : str, optional
        Preset such as ``"pisa-2018"``: ids, missing codes, and the columns that the design needs.
    countries : str or list of str, optional
        Codes or labels; only their rows are read.
    columns : list of str, optional
        Columns, templates (``"PV{}MATH"``) and names of the preset's plausible-value sets, whatever their case; the
        table spells them as they are asked for. Default: everything.
    labels : bool, "ordered", list or dict, optional
        Value labels become categories: of all columns whose values all have labels (True; ``"ordered"`` for ordered
        ones), or of those named, ``{"ST004D01T": "unordered", "ST001": "ordered"}``. Default: codes stay numbers.
    missing : bool or dict
        True: codes that the file declares missing, and codes labelled as no answer in the words of the preset or, where
        the file declares none, in usual ones. A dict adds codes, ``{"ST*": [97, 98, 99]}``. False: codes stay.
    prefix : str, optional
        File type whose rows become the rows of the table where a folder has several (``"asg"`` and ``"bsg"``).
    progress : bool, optional
        Bar over the bytes; default: in a terminal or notebook.

    Returns
    -------
    DataFrame
        ``frame.attrs["pmwmix"]`` is a printable report of files, missing codes and merges, with all labels.

    Raises
    ------
    PmwmixError
        A child of it for every problem with files, columns, ids or arguments, in three sentences.

    Warns
    -----
    PmwmixWarning
        If rows have no match in a merged file.

    Examples
    --------
    >>> import pandas as pd, tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> pd.DataFrame({"CNT": ["AUT", "NZL"], "ESCS": [0.1, 9997.0]}).to_csv(folder / "stu.csv", index=False)
    >>> data = read_survey(folder / "stu.csv", columns=["escs"], missing={"ESCS": [9997]})
    >>> print(data.attrs["pmwmix"])
    stu.csv (main): 2 rows
    1 cells set to missing in 1 columns
      escs  9997: 1
    """
    plan = plan_reading(path, school, teacher, home, survey, countries, columns, labels, missing, prefix)
    passes = 1 if plan.countries is None else 2
    total = sum(stack.size for stack in plan.stacks) * passes
    with bar("Reading", total, progress) as tick:
        return assemble(plan, tick)


def read_named(path: Any, texts: Sequence[str], required: Sequence[str] = (), **options: Any) -> pd.DataFrame:
    """Read the columns that stand in some texts, such as a formula; other words of theirs do no harm.

    Parameters
    ----------
    path
        As in `read_survey`.
    texts : sequence of str
    required : sequence of str
        Words that must be columns, plausible-value sets or kinds of units.
    **options
        Of `read_survey`, but ``columns``.

    Raises
    ------
    PmwmixError
    """
    given = {name: options.get(name) for name in ("school", "teacher", "home", "survey", "countries", "prefix")}
    plan = plan_reading(path, columns=None, labels=None, missing=True, **given)
    names = [name for stack in plan.stacks for name in stack.names]
    sets = pv_sets(plan.preset)
    absent = [w for w in required if not (w.lower() in sets or w.lower() in plan.ids or expand(w, names))]
    if absent:
        raise lacking(absent, names)
    said = dict.fromkeys(a or b for text in texts for a, b in re.findall(r"`([^`]+)`|([\w.{}]+)", text))
    return read_survey(path, columns=[w for w in said if w.lower() in sets or expand(w, names)], **options)


def assemble(plan: Reading, tick: Tick | None, part: slice | None = None) -> pd.DataFrame:
    """Read, merge and label."""
    outcomes = [
        read_stack(stack, wanted, plan.rules, plan.countries, plan.ids["country"], tick, part, stack is plan.stacks[0])
        for stack, wanted in zip(plan.stacks, plan.wanted, strict=True)
    ]
    columns, merges = _merged(plan, outcomes)
    report = _report(plan, outcomes, merges, columns)
    kind, named = plan.labels
    for name in columns:
        one = named.get(name.lower(), kind)
        if one is not None:
            values = {code: label for code, label in report["values"].get(name, [])}
            columns[name] = categorise(columns[name], name, values, one == "ordered", name.lower() in named)
    frame = pd.DataFrame(columns, copy=False)
    frame.attrs[KEY] = report
    return frame


def _merged(plan: Reading, outcomes: Sequence[Outcome]) -> tuple[Columns, list[dict[str, Any]]]:
    columns, merges = outcomes[0].columns, []
    n = len(next(iter(columns.values()))) if columns else 0
    if n == 0:
        raise DataError(
            f"No row is left. {plan.stacks[0].files[0].path.name!r} has none of the rows that were asked for. "
            f"Check the file and countries=."
        )
    for stack, outcome in zip(plan.stacks[1:], outcomes[1:], strict=True):
        keys = common_keys(stack.role, list(columns), list(outcome.columns), plan.ids)
        columns, entry = join(stack.role, columns, outcome.columns, keys, many=stack.role == "link")
        merges.append(entry)
        if entry["unmatched"]:
            warnings.warn(
                f"{entry['unmatched']} of {entry['rows']} rows have no match in the {stack.role} file. They belong to "
                f"{entry['units']} ({some(entry['examples'])}). Their columns from that file are missing.",
                PmwmixWarning,
                stacklevel=5,
            )
        if stack.role == "link" and entry["rows"] > n:
            warnings.warn(
                f"A student has one row for each teacher: {entry['rows']} rows of {n} students. Student weights count "
                f"them several times. Use the teacher weights of the linkage file, such as MATWGT.",
                PmwmixWarning,
                stacklevel=5,
            )
    return columns, merges


def _report(
    plan: Reading, outcomes: Sequence[Outcome], merges: list[dict[str, Any]], columns: Mapping[str, pd.Series]
) -> Report:
    labels: dict[str, str] = {}
    values: dict[str, Any] = {}
    declared: dict[str, Any] = {}
    for stack, wanted in zip(reversed(plan.stacks), reversed(plan.wanted), strict=True):
        for what, into in (("labels", labels), ("values", values), ("declared", declared)):
            into.update({wanted[k]: v for k, v in stack.about(what).items() if k in wanted and wanted[k] in columns})
    seen = {name for name in columns}
    stored = [one.stored for stack in plan.stacks for one in stack.files if one.stored is not None]
    report = Report(
        files=[one for outcome in outcomes for one in outcome.files],
        survey=plan.survey,
        removed=plan.rules.wanted or any(one.get("removed") for one in stored),
        labels={name: labels[name] for name in columns if name in labels},
        values={name: [[code, text] for code, text in values[name].items()] for name in columns if name in values},
        declared={name: [list(pair) for pair in declared[name]] for name in columns if name in declared},
        missing=[one for outcome in outcomes for one in outcome.missing if one["column"] in seen],
        merges=merges,
        notes=[note for outcome in outcomes for note in outcome.notes],
    )
    return _restored(report, stored[0]) if len(stored) == 1 and len(report["files"]) == 1 else report


def _restored(report: Report, stored: dict[str, Any]) -> Report:
    """Keep the account of where a file that `convert` wrote came from, if it is read alone."""
    used, rows = report["files"][0]["used"], report["files"][0]["rows"]
    notes = list(stored.get("notes", []))
    if used != rows:
        notes.append(f"{used} of {rows} rows of {report['files'][0]['file']} were read; counts are of all of them.")
    kept: dict[str, Any] = {name: stored[name] for name in ("files", "merges") if name in stored}
    kept |= {"survey": report["survey"] or stored.get("survey"), "notes": notes}
    return Report({**report, **kept})
