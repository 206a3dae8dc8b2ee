"""Tables of units joined by the study's ids; what does not match is counted and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import MergeError, some
from pmwmix.readers.columns import find
from pmwmix.readers.report import code_text

Columns = dict[str, pd.Series]
KEYS = {
    "school": ("country", "school"),
    "home": ("country", "school", "student"),
    "link": ("country", "school", "student"),
    "teacher": ("country", "school", "teacher", "link"),
}
NEEDED = {"school": "school", "home": "student", "link": "student", "teacher": "teacher"}


@dataclass(frozen=True)
class Key:
    """Columns of one id in the two tables."""

    kind: str
    left: str
    right: str


def common_keys(role: str, left: Sequence[str], right: Sequence[str], ids: Mapping[str, Sequence[str]]) -> list[Key]:
    """Find the ids by which a file of ``role`` joins the table.

    Raises
    ------
    MergeError
        If the id that the role needs is not in both.
    """
    keys = []
    for kind in KEYS[role]:
        for name in ids[kind]:
            in_left, in_right = find(name, left), find(name, right)
            if in_left is not None and in_right is not None:
                keys.append(Key(kind, in_left, in_right))
                break
    needed = NEEDED[role]
    if needed not in {key.kind for key in keys}:
        raise MergeError(
            f"The {role} file cannot be joined: the tables share no id of the {needed}. Looked for "
            f"{some(ids[needed])} in both. Give survey=, or rename the id so that both have it."
        )
    return keys


def join(role: str, left: Columns, right: Columns, keys: Sequence[Key], many: bool) -> tuple[Columns, dict[str, Any]]:
    """Add the columns of ``right`` to the rows of ``left``.

    Parameters
    ----------
    role : str
    left, right : dict of Series
    keys : list of Key
    many : bool
        Whether a row of ``left`` may have several matches, and is then repeated.

    Returns
    -------
    dict of Series
    dict
        Entry of the report.

    Raises
    ------
    MergeError
        If ids repeat in ``right`` although they should not, or are of different kinds.
    """
    pairs = [_alike(key, left[key.left], right[key.right], role) for key in keys]
    own, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    complete = np.logical_and.reduce([one.notna().to_numpy() for one in other])
    rows = np.flatnonzero(complete)
    other = [one.iloc[rows] for one in other]
    if not many:
        _refuse_copies(role, other, keys)
    at_left, at_right = _places(own, other)
    unmatched = at_right < 0
    places = np.where(unmatched, -1, rows[at_right] if len(rows) else -1)
    taken = {name for name in left} | {key.right for key in keys}
    lower = {name.lower() for name in taken}
    out = left if not many else {name: column.iloc[at_left].reset_index(drop=True) for name, column in left.items()}
    out = dict(out)
    clash = [name for name in right if name.lower() in lower and name not in {key.right for key in keys}]
    for name, column in right.items():
        if name.lower() not in lower:
            out[name] = _take(column, places)
    lost = pd.MultiIndex.from_arrays([one.iloc[at_left[unmatched]] for one in own]).unique()
    shown = [" ".join(code_text(part) for part in one) for one in lost[:5]]
    used = np.unique(places[places >= 0])
    entry = {
        "role": role,
        "keys": [key.left for key in keys],
        "rows": len(at_left),
        "unmatched": int(unmatched.sum()),
        "units": f"{len(lost)} {' '.join(key.kind for key in keys[-1:])}{'' if len(lost) == 1 else 's'}",
        "examples": shown,
        "offered": len(complete),
        "unused": len(complete) - len(used),
        "not_taken": clash,
    }
    return out, entry


def _alike(key: Key, left: pd.Series, right: pd.Series, role: str) -> tuple[pd.Series, pd.Series]:
    """Bring ids to one type: numbers on one side and text on the other become numbers where all can."""
    left, right = _plain(left), _plain(right)
    numbers = [pd.api.types.is_numeric_dtype(one.dtype) for one in (left, right)]
    if numbers[0] == numbers[1]:
        return left, right
    texts = right if numbers[0] else left
    parsed = pd.to_numeric(texts, errors="coerce")
    if (parsed.isna() & texts.notna()).any():
        bad = texts[parsed.isna() & texts.notna()].iloc[0]
        raise MergeError(
            f"The ids of the {role} file are of another kind. {key.left!r} holds numbers in one file and text such as "
            f"{bad!r} in the other. Recode one of them first."
        )
    return (left, parsed) if numbers[0] else (parsed, right)


def _plain(column: pd.Series) -> pd.Series:
    return column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column


def _refuse_copies(role: str, other: Sequence[pd.Series], keys: Sequence[Key]) -> None:
    index = pd.MultiIndex.from_arrays(list(other))
    if index.is_unique:
        return
    copies = index[index.duplicated()].unique()
    names = ", ".join(key.right for key in keys)
    shown = [" ".join(code_text(part) for part in one) for one in copies[:5]]
    raise MergeError(
        f"Ids must be unique in the {role} file. By {names} {len(copies)} repeat: {some(shown)}. Remove the copies, or "
        f"merge by hand if the file has several rows per unit."
    )


def _places(own: Sequence[pd.Series], other: Sequence[pd.Series]) -> tuple[Array, Array]:
    """Rows of the left table and, for each, the matching row of the right one, -1 where there is none."""
    names = [str(k) for k in range(len(own))]
    left = pd.DataFrame(dict(zip(names, (one.to_numpy() for one in own), strict=True)))
    right = pd.DataFrame(dict(zip(names, (one.to_numpy() for one in other), strict=True)))
    left["left"], right["right"] = np.arange(len(left)), np.arange(len(right))
    both = left.merge(right, on=names, how="left", sort=False)
    return both["left"].to_numpy(), both["right"].fillna(-1).to_numpy(dtype=np.int64)


def _take(column: pd.Series, places: Array) -> pd.Series:
    """Rows of a column, missing where the place is -1."""
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_extension_array_dtype(column.dtype):
        values = column.to_numpy(dtype=float)
        taken = values[places] if len(values) else np.full(len(places), np.nan)
        taken[places < 0] = np.nan
        return pd.Series(taken, name=column.name)
    return column.reset_index(drop=True).reindex(places).reset_index(drop=True)
