"""Imputed tables must be one sample: the same rows, groups, weights and clusters in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.data.imputed import nests_of, same_in_all
from pmwmix.errors import DataError, DesignError, WeightError, some
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.resolve.fill import Filled


def one_sample(
    walked: Sequence[tuple[Filled, ModelFrame, str]], pairing: str | None, told: tuple[str, ...]
) -> list[ModelFrame]:
    """Check that imputed tables are one sample, and label the fits of each by where they come from."""
    frames = [replace(frame, notes=(*told, *frame.notes)) for _, frame, _ in walked]
    if len(frames) == 1:
        return [replace(frame, nests=nests_of(frame.pv, pairing)) for frame in frames]
    check_alike(frames)
    pv, tables = frames[0].pv, [filled.table for filled, _, _ in walked]
    alike = bool(pv) and same_in_all(tables, [column for columns in pv.values() for column in columns])
    return [
        replace(frame, nests=nests_of(frame.pv, pairing, number, alike)) for number, frame in enumerate(frames, start=1)
    ]


def check_alike(frames: Sequence[ModelFrame]) -> None:
    """Refuse imputed tables that differ in more than what was imputed.

    Raises
    ------
    DataError, WeightError, DesignError
        Naming table, column and rows.
    """
    first = frames[0]
    for number, other in enumerate(frames[1:], start=2):
        _check_rows(first, other, number)
        _check_groups(first, other, number)
        _check_weights(first, other, number)
        _check_clusters(first, other, number)


def _check_rows(first: ModelFrame, other: ModelFrame, number: int) -> None:
    if first.n == other.n and first.index.equals(other.index):
        return
    lost = [
        f"table {which} loses {some([f'{count} to {name}' for name, count in frame.dropped.items()])}"
        for which, frame in ((1, first), (number, other))
        if frame.dropped
    ]
    why = f"; {', '.join(lost)}" if lost else ""
    raise DataError(
        f"Imputed tables have the same rows, in one order. Table 1 has {first.n} in the model, table {number} {other.n}"
        f"{why}, or their labels differ. Impute every column of the model, sort the tables alike, and give them one "
        f"index."
    )


def _check_groups(first: ModelFrame, other: ModelFrame, number: int) -> None:
    for mine, theirs in zip(first.hierarchy.levels, other.hierarchy.levels, strict=False):
        same = mine.name == theirs.name and list(mine.labels) == list(theirs.labels)
        if not (same and np.array_equal(mine.index, theirs.index)):
            raise DataError(
                f"Groups are not imputed. {mine.name!r} differs between table 1 and table {number}. "
                f"Use the same ids in all tables."
            )


def _check_weights(first: ModelFrame, other: ModelFrame, number: int) -> None:
    for name, mine, theirs in zip(first.weight_columns, first.cond, other.cond, strict=True):
        if name is not None and (place := _first_difference(mine, theirs)) is not None:
            raise WeightError(
                f"Weights are those of the sample, the same in every imputed table. Column {name!r} differs between "
                f"table 1 and table {number}, first {mine[place]:g} and {theirs[place]:g} as conditional weight. "
                f"Give all tables the weights of the survey."
            )


def _check_clusters(first: ModelFrame, other: ModelFrame, number: int) -> None:
    for what in ("psu", "stratum", "fraction"):
        mine, theirs = (None if one.clusters is None else getattr(one.clusters, what) for one in (first, other))
        if not _same(mine, theirs):
            names = () if first.clusters is None else first.clusters.names
            raise DesignError(
                f"The design is that of the sample, the same in every imputed table. Clusters or strata "
                f"({some([str(name) for name in names if name])}) differ between table 1 and table {number}. "
                f"Give all tables the columns of the survey."
            )
    for r in range(0 if first.replicates is None else first.replicates.n_rep):
        if not _same(first.replicates.factors(r), other.replicates.factors(r)):
            raise DesignError(
                f"Replicate weights are those of the sample, the same in every imputed table. Replicate {r + 1} "
                f"differs between table 1 and table {number}. Give all tables the replicate weights of the survey."
            )


def _first_difference(a: Array, b: Array) -> int | None:
    if len(a) != len(b):
        return 0
    differ = np.flatnonzero(~np.isclose(a, b, rtol=1e-9))
    return int(differ[0]) if differ.size else None


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return len(a) == len(b) and bool(np.allclose(a, b, rtol=1e-9))
