"""Rows of a new table for a fitted model: its columns, its groups, what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import key, label_text
from pmwmix.data.table import Table
from pmwmix.errors import DataError, OptionError, PmwmixWarning, some
from pmwmix.frame.centring import Means, apply_center
from pmwmix.frame.matrices import again, offset_of
from pmwmix.prediction.blueprint import Blueprint
from pmwmix.prediction.modes import LevelModes, covariances

NEW_GROUPS = ("population", "missing", "error")


@dataclass(frozen=True)
class ModelColumns:
    """The columns of the model for some rows, built once for any number of coefficients and random effects.

    Parameters
    ----------
    index : pandas.Index, shape (n,)
        Labels of all rows.
    rows : ndarray of int, shape (m,)
        Those without missing predictors, which all that follows is about.
    x : list of ndarray, each (m,)
        Fixed columns.
    offset : ndarray, shape (m,), or None
    z : list of list of ndarray
        Random columns (m,) per level.
    group : list of ndarray of int, each (m,)
        Unit of each row per level; empty where no random effects are added.
    unseen : list of list of str
        Per level of ``group`` the units that the fit has not seen: they count from the number of its units on.
    lost : ndarray of bool, shape (m,), or None
        Rows whose mean is not estimable; None if there are none.
    """

    index: Any
    rows: Array
    x: list[Array]
    offset: Array | None
    z: list[list[Array]]
    group: list[Array]
    unseen: list[list[str]]
    lost: Array | None = None

    def fixed(self, beta: Array, blueprint: Blueprint) -> Array:
        """Give the fixed part of every linear predictor, of the first with the offset (K, m); NaN if not estimable."""
        out = np.zeros((blueprint.n_predictors, len(self.rows)))
        if self.offset is not None:
            out[0] += self.offset
        if self.lost is not None:
            out[:, self.lost] = np.nan
        for k, column, value in zip(blueprint.x_of, self.x, beta, strict=True):
            out[k] += value * column
        return out


def predict_new(
    blueprint: Blueprint, beta: Array, modes: Sequence[LevelModes], newdata: Any, conditional: bool, new_groups: str
) -> tuple[Any, Array, Array]:
    """Predict rows of new data.

    Parameters
    ----------
    blueprint : Blueprint
    beta : ndarray, shape (p,)
    modes : sequence of LevelModes
    newdata : table
    conditional : bool
        Add the random effects of known groups.
    new_groups : {"population", "missing", "error"}
        What a group that the fit has not seen gets: random effects of zero, a missing value, or an error.

    Returns
    -------
    Index (n,)
    ndarray, shape (K, n)
        Linear predictors; NaN where a predictor is missing.
    ndarray, shape (K, K, n)
        Covariance of their random parts.
    """
    check_new_groups(new_groups)
    columns = new_columns(blueprint, modes, newdata, conditional, new_groups)
    K, n, rows = blueprint.n_predictors, len(columns.index), columns.rows
    out, covariance = np.full((K, n), np.nan), np.full((K, K, n), np.nan)
    of = [blueprint.z_of(level) for level in range(len(modes))]
    every = zip(columns.z, of, modes, strict=True)
    covariance[:, :, rows] = sum((covariances(z, k, m.Psi, K) for z, k, m in every), np.zeros((K, K, len(rows))))
    out[:, rows] = columns.fixed(beta, blueprint)
    for place, (z, level, group, unseen) in enumerate(
        zip(columns.z, modes, columns.group, columns.unseen, strict=False)
    ):
        others = np.full((len(unseen), len(z)), np.nan if new_groups == "missing" else 0.0)
        for k, column, b in zip(of[place], z, np.concatenate([level.b, others]).T, strict=True):
            out[k, rows] += column * b[group]
    return columns.index, out, covariance


def check_new_groups(new_groups: Any, known: Sequence[str] = NEW_GROUPS) -> None:
    """Refuse a rule for unseen groups that does not exist.

    Raises
    ------
    OptionError
    """
    if new_groups not in known:
        raise OptionError(
            f"Unknown value for new_groups. Got {new_groups!r}. Use one of {', '.join(map(repr, known))}."
        )


def new_columns(
    blueprint: Blueprint, levels: Sequence[LevelModes], newdata: Any, conditional: bool, new_groups: str
) -> ModelColumns:
    """Build the columns of the model for rows of new data.

    Parameters
    ----------
    blueprint : Blueprint
    levels : sequence of LevelModes
        Bottom-up.
    newdata : table
    conditional : bool
        Look the groups up.
    new_groups : str
        Under ``"error"`` unseen groups are refused, under ``"population"`` they are warned of.

    Returns
    -------
    ModelColumns
    """
    table = Table(newdata)
    chosen = {name: column for name, column in blueprint.pv.items() if name in blueprint.predictors}
    factors = [name for level in levels for name in level.factors] if conditional else []
    by = [name for plan in blueprint.centrings for name in plan.columns]
    needed = [chosen.get(name, name) for name in blueprint.predictors]
    columns = table.columns([*needed, *factors, *by] or table.names[:1], "newdata")
    n = len(next(iter(columns.values())))
    local = {**columns, **{name: columns[column] for name, column in chosen.items()}}
    complete = np.ones(n, dtype=bool)
    for name in dict.fromkeys([*blueprint.predictors, *by, *factors]):
        complete &= ~local[name].isna().to_numpy()
        check_kind(local[name], name, blueprint)
    rows = np.flatnonzero(complete)
    if not len(rows):
        nothing = [np.zeros(0) for _ in blueprint.kept]
        return ModelColumns(table.index, rows, nothing, None, random_columns(blueprint, None, len(levels), 0), [], [])
    part = {name: column.take(rows).reset_index(drop=True) for name, column in local.items()}
    found = [_find_groups(level, part) for level in levels] if conditional else []
    local = prepared_table(blueprint, part)
    x = blueprint.fixed_columns(local, len(rows))
    offset = offset_of(blueprint.formula, local, len(rows))
    z = random_columns(blueprint, local, len(levels), len(rows))
    for level, (_, unseen) in zip(levels, found, strict=False):
        _say_unseen(level, unseen, new_groups)
    kept, lost = blueprint.kept_of(x), _lost(blueprint, x, table.index[rows])
    groups, others = [group for group, _ in found], [names for _, names in found]
    return ModelColumns(table.index, rows, kept, offset, z, groups, others, lost)


def _lost(blueprint: Blueprint, x: list[Array], labels: Any) -> Array | None:
    """Find rows that are not estimable, and say so."""
    if blueprint.aliases is None:
        return None
    lost = blueprint.aliases.lost(x)
    if lost.any():
        blueprint.aliases.warn([f"row {label}" for label in labels[lost]], 5)
    return lost if lost.any() else None


def prepared_table(blueprint: Blueprint, columns: dict[str, pd.Series]) -> dict[str, pd.Series]:
    """Centre and recode as the fit did."""
    means = Means(dict(blueprint.means.values))
    local = apply_center(blueprint.centrings, columns, None, means, known=True)
    return {name: _recode(column, name, blueprint.categories) for name, column in local.items()}


def random_columns(
    blueprint: Blueprint, local: dict[str, pd.Series] | None, n_levels: int, n: int
) -> list[list[Array]]:
    """Columns of the random effects (n,) per level and term; those of new rows with ``local``."""
    out: list[list[Array]] = [[] for _ in range(n_levels)]
    for term in blueprint.random:
        if local is None:
            out[term.level] += [np.zeros(0) for _ in term.names]
        else:
            out[term.level] += [np.ones(n)] if term.spec is None else again(term.spec, term.variables, local, n)
    return out


def check_kind(column: pd.Series, name: str, blueprint: Blueprint) -> None:
    """Refuse text where the fit had numbers, and infinite values."""
    if name not in blueprint.predictors or name in blueprint.categories:
        return
    if isinstance(column.dtype, pd.CategoricalDtype):
        found = [str(c) for c in column.cat.categories]
        if found:
            raise DataError(
                f"New data have categories where the fit had numbers. Column {name!r} holds {some(found, 3)}. "
                f"Convert it to numbers."
            )
    elif np.isinf(column.to_numpy()).any():
        raise DataError(f"New data must be finite. Column {name!r} has infinite values. Replace them.")


def _recode(column: pd.Series, name: str, categories: Mapping[str, list[str]]) -> pd.Series:
    if name not in categories:
        return column
    known = categories[name]
    values = _spelled(column, known)
    unseen = sorted(set(values) - set(known))
    if unseen:
        raise DataError(
            f"New data have categories that the fit has not seen. Column {name!r} has {some(unseen)}; known are "
            f"{some(known)}. Recode or drop those rows."
        )
    return pd.Series(pd.Categorical(values, categories=known), name=name)


def _spelled(column: pd.Series, known: Sequence[str]) -> pd.Series:
    """Spell new values as the fit's categories: 7 and 7.0 are ``"7"``; 1 is ``"True"`` where it saw true and false."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(str)
    places: dict[float, str] = {}
    for text in reversed(known):
        try:
            places[float(text)] = text
        except ValueError:
            pass
    if set(known) <= {"False", "True"}:
        places = {0.0: "False", 1.0: "True"}
    return column.map(lambda value: places.get(value, label_text(value))).astype(str)


def _find_groups(level: LevelModes, columns: Mapping[str, pd.Series]) -> tuple[Array, list[str]]:
    """Units of the rows, those that the fit has not seen after its own, and the names of these."""
    parts = [columns[name].map(label_text).astype(str) for name in level.factors]
    keys = list(zip(*parts, strict=True)) if len(parts) > 1 else list(parts[0])
    place = {key(label): position for position, label in enumerate(level.labels)}
    unseen = [one for one in dict.fromkeys(keys) if one not in place]
    place |= {one: len(level.labels) + position for position, one in enumerate(unseen)}
    return np.array([place[one] for one in keys], dtype=np.int64), [label_text(one) for one in unseen]


def _say_unseen(level: LevelModes, names: list[str], new_groups: str) -> None:
    if names and new_groups == "error":
        raise DataError(
            f"New data have groups that the fit has not seen. Of {level.group!r}: {some(names)}. "
            f"Pass new_groups='population' to predict them with random effects of zero."
        )
    if names and new_groups == "population":
        warnings.warn(
            f"{len(names)} groups of {level.group!r} are not in the fit ({some(names, 3)}): their random effects are "
            f"taken as zero. Pass new_groups='missing' or 'error' for another rule.",
            PmwmixWarning,
            stacklevel=5,
        )
