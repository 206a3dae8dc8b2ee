"""What happened while a survey was read: files, codes set to missing, merges. Plain JSON values, printable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from pmwmix.errors import some

KEY = "pmwmix"  # in DataFrame.attrs
LINES = 12  # columns listed when printed


class Report(dict[str, Any]):
    """Account of a reading, kept in ``frame.attrs["pmwmix"]``; ``print`` it, or ask for its tables.

    Holds nothing but text, numbers, lists and dicts, so that it survives in parquet files:
    ``files, survey, removed, labels, values, declared, missing, merges, notes``.

    Examples
    --------
    >>> print(Report(files=[{"file": "stu.sav", "role": "students", "rows": 3, "used": 2}]))
    stu.sav (students): 2 of 3 rows
    """

    def __deepcopy__(self, memo: Any) -> Report:
        return self  # pandas copies attrs at every step; a report never changes after reading

    def table(self, part: str) -> pd.DataFrame:
        """Give ``"files"``, ``"missing"`` or ``"merges"`` as a table."""
        return pd.DataFrame(self.get(part, []))

    def __str__(self) -> str:
        lines = [_file_line(one) for one in _squeezed(self.get("files", []))]
        missing = self.get("missing", [])
        if missing:
            total = sum(one["count"] for one in missing)
            by_column: dict[str, list[str]] = {}
            for one in missing:
                text = f"{code_text(one['code'])} {one['label']}".strip()
                by_column.setdefault(one["column"], []).append(f"{text}: {one['count']}")
            lines.append(f"{total} cells set to missing in {len(by_column)} columns")
            lines.extend(f"  {column}  {'; '.join(said)}" for column, said in list(by_column.items())[:LINES])
            if len(by_column) > LINES:
                lines.append(f"  and {len(by_column) - LINES} columns more: report.table('missing')")
        lines.extend(_merge_line(one) for one in self.get("merges", []))
        lines.extend(self.get("notes", []))
        return "\n".join(lines)

    __repr__ = __str__


def _squeezed(files: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sum the files of one role where there are many."""
    out: list[Mapping[str, Any]] = []
    for role in dict.fromkeys(one["role"] for one in files):
        same = [one for one in files if one["role"] == role]
        if len(same) <= 3:
            out.extend(same)
        else:
            rows = [0 if one["rows"] is None else one["rows"] for one in same]
            name = f"{len(same)} files, {same[0]['file']} ... {same[-1]['file']}"
            out.append({"file": name, "role": role, "rows": sum(rows), "used": sum(one["used"] for one in same)})
    return out


def _file_line(one: Mapping[str, Any]) -> str:
    rows = f"{one['used']} rows" if one["rows"] in (None, one["used"]) else f"{one['used']} of {one['rows']} rows"
    return f"{one['file']} ({one['role']}): {rows}"


def _merge_line(one: Mapping[str, Any]) -> str:
    said = f"Merged with the {one['role']} file by {', '.join(one['keys'])}: "
    said += f"{one['rows'] - one['unmatched']} of {one['rows']} rows matched"
    if one["unmatched"]:
        said += f", {one['unmatched']} rows of {one['units']} without a match ({some(one['examples'])})"
    if one.get("not_taken"):
        said += f"; {some(one['not_taken'])} of the {one['role']} file not taken, since the table has such columns"
    if one["unused"]:
        said += f"; {one['unused']} of {one['offered']} rows of the {one['role']} file not used"
    return said


def code_text(code: Any) -> str:
    """Write a code: whole numbers without decimals.

    Examples
    --------
    >>> code_text(97.0), code_text("n")
    ('97', 'n')
    """
    return f"{code:.15g}" if isinstance(code, int | float) else str(code)


def value_labels(pairs: Iterable[Sequence[Any]]) -> dict[Any, str]:
    """Turn JSON pairs ``[code, label]`` into a dict."""
    return {code: str(label) for code, label in pairs}


def report_of(data: Any) -> Report:
    """Find the report in a table's attrs; an empty one where there is none."""
    found = getattr(data, "attrs", {}).get(KEY)
    return found if isinstance(found, Report) else Report(found) if isinstance(found, dict) else Report()
