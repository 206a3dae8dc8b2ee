"""Convert once: from slow formats to parquet, with labels and report in its metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pmwmix.errors import FileError
from pmwmix.readers.columnar import ATTRS
from pmwmix.readers.plan import Reading, plan_reading
from pmwmix.readers.report import KEY, Report, report_of
from pmwmix.readers.survey import assemble
from pmwmix.running import bar
from pmwmix.writing import replacing, target_of

CELLS_AT_ONCE = 50_000_000


def convert(
    source: str | Path | Sequence[str | Path],
    target: str | Path,
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
    by: str | None = None,
    cycle: str | int | None = None,
    progress: bool | None = None,
) -> Report:
    """Write survey files as one parquet file, or a data set of them, which reads many times faster.

    Parameters
    ----------
    source
        As the path of `read_survey`; so are the arguments not listed here.
    target : str or Path
        Ends in .parquet; with ``by`` or ``cycle`` a folder, which need not exist.
    school, teacher, home, survey, countries, columns, labels, missing, prefix, progress
        As in `read_survey`.
    by : str, optional
        Column of the countries, or ``"country"`` with a preset: the target is a folder, in which each has a folder of
        its own, ``CNT=FIN``.
    cycle : str or int, optional
        Written to the folder ``cycle=2018`` of the target; other cycles stay as they are.

    Returns
    -------
    Report
        Also given by reading a file back.

    Raises
    ------
    PmwmixError

    Notes
    -----
    A single file is read and written in pieces of rows, so that it need not fit into memory. Into folders a folder of
    files per country is written a country after the other. Data sets of folders are what `fit` and `fit_groups` read
    in pieces (scale): every file has all columns, numbers are double, and labels stand in the files.
    """
    if by is not None or cycle is not None:
        plan = plan_reading(source, school, teacher, home, survey, countries, columns, labels, missing, prefix)
        return _into_folders(plan, source, Path(target), by, cycle, progress)
    out = target_of(target, "A parquet file")
    if not out.name.lower().endswith((".parquet", ".pq")):
        raise FileError(f"Files are converted to parquet. Asked for {out.name!r}. Let the name end in .parquet.")
    plan = plan_reading(source, school, teacher, home, survey, countries, columns, labels, missing, prefix)
    if any(one.path.resolve() == out.resolve() for stack in plan.stacks for one in stack.files):
        raise FileError(f"A file cannot be converted into itself. Source and target are {out.name!r}. Rename one.")
    files = [one for stack in plan.stacks for one in stack.files]
    rows = files[0].n_rows or 0
    step = max(1, CELLS_AT_ONCE // max(len(plan.wanted[0]), 1))
    total = sum(stack.size for stack in plan.stacks)
    with bar("Converting", total, progress) as tick, replacing(out) as new:
        if len(files) > 1 or rows <= step or plan.countries is not None or plan.labels != (None, {}):
            frame = assemble(plan, tick)
            frame.to_parquet(new, index=False)
            return report_of(frame)
        return _in_pieces(plan, new, [slice(first, first + step) for first in range(0, rows, step)], tick)


def _into_folders(
    plan: Reading, source: Any, target: Path, by: str | None, cycle: str | int | None, progress: bool | None
) -> Report:
    """Write a data set, or one of its cycles, whole or not at all."""
    from pmwmix.readers.partitioned import convert_parted, refuse_others  # Arrow's data sets take a while to load

    if target.suffix.lower() in (".parquet", ".pq"):
        raise FileError(
            f"With by= or cycle= the target is a folder. Got {target.name!r}, the name of a file. Leave the ending out."
        )
    out = target if cycle is None else target / f"cycle={cycle}"
    if cycle is not None:
        target_of(target, "A data set", folder=True)
        target.mkdir(exist_ok=True)
    target_of(out, "A data set", folder=True)
    refuse_others(out)
    total = sum(stack.size for stack in plan.stacks)
    step = max(1, CELLS_AT_ONCE // max(len(plan.wanted[0]), 1))
    with bar("Converting", total, progress) as tick, replacing(out) as new:
        new.mkdir()
        return convert_parted(plan, source, new, by, None if cycle is None else str(cycle), tick, step)


def _in_pieces(plan: Reading, out: Path, pieces: Sequence[slice], tick: Any) -> Report:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numeric = {spelled for name, spelled in plan.wanted[0].items() if name in plan.stacks[0].files[0].numeric}
    reports: list[Report] = []
    writer: Any = None
    try:
        for piece in pieces:
            frame = assemble(plan, tick, piece)
            reports.append(report_of(frame))
            frame.attrs = {}
            if writer is None:
                writer = pq.ParquetWriter(out, _schema(frame, numeric))
            writer.write_table(pa.Table.from_pandas(frame, schema=writer.schema, preserve_index=False))
        report = _added(reports)
        writer.add_key_value_metadata({ATTRS: json.dumps({KEY: report}).encode()})
    finally:
        if writer is not None:
            writer.close()
    return report


def _schema(frame: pd.DataFrame, numeric: set[str]) -> Any:
    """Types that hold for every piece: numbers are float64, a column that is empty so far is text."""
    import pyarrow as pa

    fields = []
    for field in pa.Schema.from_pandas(frame, preserve_index=False):
        kind = field.type
        empty = pa.types.is_null(kind)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or (empty and field.name in numeric):
            kind = pa.float64()
        elif empty:
            kind = pa.large_string()
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def _added(reports: Sequence[Report]) -> Report:
    """Sum the counts of the pieces of one file."""
    first = reports[0]
    counts: dict[tuple[Any, Any], dict[str, Any]] = {}
    for one in (count for report in reports for count in report["missing"]):
        key = (one["column"], one["code"])
        counts[key] = {**one, "count": one["count"] + counts.get(key, {"count": 0})["count"]}
    file = first["files"][0]
    files = [{**file, "used": sum(report["files"][0]["used"] for report in reports)}]
    order = {name: k for k, name in enumerate(dict.fromkeys(one["column"] for one in counts.values()))}
    missing = sorted(counts.values(), key=lambda one: (order[one["column"]], str(type(one["code"])), one["code"]))
    return Report({**first, "files": files, "missing": missing})
