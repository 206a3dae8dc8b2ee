"""Convert once, many countries: one parquet data set with a folder per cycle and country, written piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import FileError, OptionError, missing_columns, some
from pmwmix.readers.columnar import ATTRS
from pmwmix.readers.columns import find
from pmwmix.readers.folder import country_files
from pmwmix.readers.plan import Reading
from pmwmix.readers.report import KEY, Report
from pmwmix.readers.survey import assemble

SUMMED = ("rows", "unmatched", "offered", "unused")


def convert_parted(
    plan: Reading, source: Any, folder: Path, by: str | None, cycle: str | None, tick: Any, rows_at_once: int
) -> Report:
    """Write the pieces of a plan into folders of a data set.

    Parameters
    ----------
    plan : Reading
    source : path or list of paths
        That the plan was made from: a folder of files per country is read a country after the other.
    folder : Path
        Empty; of the cycle, where there is one.
    by : str or None
        Column of the folders inside it, or a kind of unit of the preset.
    cycle : str or None
        What the rows' column ``cycle`` will be read as; it stands in the name of ``folder``.
    tick : callable or None
    rows_at_once : int
        Of a single file.

    Returns
    -------
    Report

    Raises
    ------
    MissingColumnsError, OptionError
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    names = list(dict.fromkeys(name for wanted in plan.wanted for name in wanted.values()))
    column = None if by is None else _column(by, names, plan)
    if cycle is not None and find("cycle", names) is not None:
        raise OptionError(
            "The column 'cycle' would stand twice. The files have one of their own. Leave cycle= out, and write "
            "by='cycle'."
        )
    numeric = _numeric(plan)
    reports: list[Report] = []
    for number, piece in enumerate(_pieces(plan, source, rows_at_once)):
        frame = assemble(piece[0], tick, piece[1])
        reports.append(frame.attrs[KEY])
        schema = _schema(frame, names, numeric, column, reports[-1])
        table = pa.Table.from_pandas(_complete(frame, names, column), schema=schema, preserve_index=False)
        parts = None if column is None else ds.partitioning(pa.schema([schema.field(column)]), flavor="hive")
        ds.write_dataset(
            table.replace_schema_metadata(schema.metadata),
            folder,
            format="parquet",
            partitioning=parts,
            basename_template=f"{number:05}-{{i}}.parquet",
            existing_data_behavior="overwrite_or_ignore",
            max_partitions=10_000,
        )
    return _together(reports)


def refuse_others(folder: Path) -> None:
    """Refuse to take the place of a folder that holds anything but such a data set.

    Raises
    ------
    FileError
    """
    inside = list(folder.rglob("*")) if folder.is_dir() else []
    if stray := [one for one in inside if one.is_file() and (one.suffix != ".parquet" or "=" not in one.parent.name)]:
        raise FileError(
            f"A data set takes the place of one of its kind only. {str(folder)!r} holds {some([stray[0].name])}, which "
            f"would be lost. Name another folder, or empty this one."
        )


def _column(by: str, names: Sequence[str], plan: Reading) -> str:
    """Find the column of the folders: as named, in another case, or a kind of unit of the preset."""
    found = find(by, names)
    if found is None:
        found = next((one for name in plan.ids.get(by.lower(), ()) if (one := find(name, names)) is not None), None)
    if found is None:
        raise missing_columns([by], names, "folders, by=")
    return found


def _numeric(plan: Reading) -> set[str]:
    """Columns that are numbers in the files that have them."""
    out: set[str] = set()
    for stack, wanted in zip(plan.stacks, plan.wanted, strict=True):
        lower = {name.lower(): spelled for name, spelled in wanted.items()}
        for one in stack.files:
            out |= {lower[name.lower()] for name in one.numeric if name.lower() in lower}
    return out


def _pieces(plan: Reading, source: Any, rows_at_once: int) -> Iterator[tuple[Reading, slice | None]]:
    """Yield plans of pieces: a country after the other, slices of the rows of one file, or everything at once."""
    files = [one for stack in plan.stacks for one in stack.files]
    if isinstance(source, str | Path) and Path(source).is_dir():
        country = {one.path: one.country for one in country_files(Path(source))}
        for code in dict.fromkeys(country[one.path] for one in plan.stacks[0].files):
            stacks = [
                replace(stack, files=[f for f in stack.files if country[f.path] == code]) for stack in plan.stacks
            ]
            there = [k for k, stack in enumerate(stacks) if stack.files]
            yield replace(plan, stacks=[stacks[k] for k in there], wanted=[plan.wanted[k] for k in there]), None
    elif len(files) == 1 and plan.countries is None and plan.labels == (None, {}):
        rows = files[0].n_rows or 0
        for first in range(0, rows, rows_at_once):
            yield plan, slice(first, first + rows_at_once)
    else:
        yield plan, None


def _complete(frame: pd.DataFrame, names: Sequence[str], column: str | None) -> pd.DataFrame:
    """Give a piece the columns of all, and whole numbers to the folders' names."""
    columns: dict[str, Any] = {name: frame[name] if name in frame else np.full(len(frame), np.nan) for name in names}
    if column is not None and pd.api.types.is_float_dtype(frame[column].dtype):
        whole = frame[column].dropna()
        if bool((whole == whole.round()).all()):
            columns[column] = frame[column].astype("Int64")
    return pd.DataFrame(columns, copy=False)


def _schema(frame: pd.DataFrame, names: Sequence[str], numeric: set[str], column: str | None, report: Report) -> Any:
    """Types that hold for every piece: numbers are float64, a column that is empty so far is what its files say."""
    import pyarrow as pa

    found = pa.Schema.from_pandas(_complete(frame, names, column), preserve_index=False)
    fields = []
    for field in found:
        kind = field.type
        empty = pa.types.is_null(kind) or (field.name not in frame and field.name not in numeric)
        if field.name != column and (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and not empty:
            kind = pa.float64()
        elif empty:
            kind = pa.float64() if field.name in numeric else pa.large_string()
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields, metadata={ATTRS: json.dumps({KEY: report}).encode()})


def _together(reports: Sequence[Report]) -> Report:
    """Add the accounts of the pieces up."""
    files: dict[str, dict[str, Any]] = {}
    counts: dict[tuple[Any, Any], dict[str, Any]] = {}
    merges: list[dict[str, Any]] = []
    matched: dict[str, dict[str, Any]] = {}
    for report in reports:
        for one in report["files"]:
            used = files.get(one["file"], {"used": 0})["used"]
            files[one["file"]] = {**one, "used": used + one["used"]}
        for one in report["missing"]:
            key = (one["column"], one["code"])
            counts[key] = {**one, "count": one["count"] + counts.get(key, {"count": 0})["count"]}
        for one in report["merges"]:
            if one["unmatched"]:
                merges.append(one)
            elif one["role"] in matched:
                known = matched[one["role"]]
                matched[one["role"]] = {**known, **{name: known[name] + one[name] for name in SUMMED}}
            else:
                matched[one["role"]] = one
    joined: dict[str, dict[str, Any]] = {what: {} for what in ("labels", "values", "declared")}
    for report in reversed(reports):
        for what, into in joined.items():
            into.update(report[what])
    notes = list(dict.fromkeys(note for report in reports for note in report["notes"]))
    return Report(
        {
            **reports[0],
            **joined,
            "files": list(files.values()),
            "missing": list(counts.values()),
            "merges": [*matched.values(), *merges],
            "notes": notes,
        }
    )
