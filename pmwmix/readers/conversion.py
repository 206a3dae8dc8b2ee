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
    progress: bool | None = None,
) -> Report:
    """Write survey files as one parquet file, which reads many times faster.

    Parameters
    ----------
    source
        As the path of `read_survey`; so are the arguments not listed here.
    target : str or Path
        Ends in .parquet.
    school, teacher, home, survey, countries, columns, labels, missing, prefix, progress
        As in `read_survey`.

    Returns
    -------
    Report
        Also given by reading ``target`` back.

    Raises
    ------
    PmwmixError

    Notes
    -----
    A single file is read and written in pieces of rows, so that it need not fit into memory.
    """
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
