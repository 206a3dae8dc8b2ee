"""PSU and strata of the top-level units, for the robust variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import code, printed
from pmwmix.errors import DesignError, near, some
from pmwmix.frame.hierarchy import Hierarchy, Level
from pmwmix.spec.design import Design

LONELY = ("error", "certainty", "centre", "average")


@dataclass(frozen=True)
class Clusters:
    """Units of the robust variance.

    Parameters
    ----------
    psu : ndarray of int, shape (G_L,)
        PSU of each top-level unit.
    stratum : ndarray of int, shape (n_psu,)
        Stratum of each PSU, also of those without rows in a subset.
    n_psu, n_strata : int
    names : (str, str or None)
        Columns of PSU and strata.
    fraction : ndarray, shape (n_strata,), or None
        Sampled share of the PSUs of each stratum.
    lonely : str
        Rule for strata with one PSU.
    ways : tuple of ndarray of int, each (n,)
        Unit of every row and crossed factor, where rows are clustered by several factors; empty else.
    """

    psu: Array
    stratum: Array
    n_psu: int
    n_strata: int
    names: tuple[str, str | None]
    fraction: Array | None = None
    lonely: str = "certainty"
    ways: tuple[Array, ...] = ()


def find_clusters(design: Design, columns: Mapping[str, pd.Series], hierarchy: Hierarchy) -> Clusters | None:
    """PSU and strata of the top-level units; None when the top level itself is the PSU and there are no strata."""
    _policy(design)
    if design.psu is None and design.strata is None and design.fpc is None:
        return None
    if hierarchy.levels:
        return _clusters_of(design, columns, hierarchy.levels[-1])
    n = len(next(iter(columns.values())))  # without random terms the rows are the units
    return _clusters_of(design, columns, Level("row", (), list(range(n)), np.arange(n)))


def subset_clusters(design: Design, everything: Mapping[str, pd.Series], hierarchy: Hierarchy, rows: Array) -> Clusters:
    """Find the clusters of the whole sample for a fit of some rows: those without rows count with scores of zero.

    Parameters
    ----------
    design : Design
    everything : mapping of name to Series
        Columns of all rows that were read.
    hierarchy : Hierarchy
        Of the rows in the fit.
    rows : ndarray of int
        Positions of the rows in the fit.

    Returns
    -------
    Clusters
    """
    if not hierarchy.levels:
        n = len(next(iter(everything.values())))
        full = _clusters_of(design, everything, Level("row", (), list(range(n)), np.arange(n)))
        return replace(full, psu=full.psu[rows])
    top = hierarchy.levels[-1]
    known = ~np.any([everything[name].isna().to_numpy() for name in top.factors], axis=0)
    there = {name: column.take(np.flatnonzero(known)).reset_index(drop=True) for name, column in everything.items()}
    index, labels = code([there[name] for name in top.factors])
    full = _clusters_of(design, there, Level(top.name, top.factors, labels, index))
    place = {label: position for position, label in enumerate(labels)}
    return replace(full, psu=full.psu[[place[label] for label in top.labels]])


def _clusters_of(design: Design, columns: Mapping[str, pd.Series], top: Level) -> Clusters:
    policy = _policy(design)
    psu, psu_labels = np.arange(top.n), top.labels
    if design.psu is not None:
        psu_row, psu_labels = _design_code(columns, design.psu)
        psu = _constant(psu_row, top.index, top.n, printed(top.labels), top.name, design.psu, psu_labels, "PSU")
    stratum, n_strata = np.zeros(len(psu_labels), dtype=np.int64), 1
    if design.strata is not None:
        row, labels = _design_code(columns, design.strata)
        name = design.psu or top.name
        stratum = _constant(row, psu[top.index], len(psu_labels), psu_labels, name, design.strata, labels, "stratum")
        n_strata = len(labels)
        lonely = np.flatnonzero(np.bincount(stratum, minlength=n_strata) == 1)
        if len(lonely) and policy == "error":
            raise DesignError(
                f"A stratum needs two PSUs for a variance. Strata of {design.strata!r} with one: "
                f"{some([labels[s] for s in lonely])}. Merge them with a neighbour, or choose a rule with "
                f"Design(lonely_psu='centre')."
            )
    if len(psu_labels) < 2:
        raise DesignError(
            f"A robust variance needs two PSUs. Column {design.psu!r} has only {some(psu_labels)}. Leave psu out."
        )
    fraction = None
    if design.fpc is not None:
        fraction = _fraction(columns[design.fpc], design.fpc, stratum[psu[top.index]], np.bincount(stratum))
    names = (design.psu or top.name, design.strata)
    return Clusters(psu, stratum, len(psu_labels), n_strata, names, fraction, policy)


def _policy(design: Design) -> str:
    policy = design.lonely_psu or "error"
    if policy not in LONELY:
        raise DesignError(
            f"Unknown rule for strata with one PSU {policy!r}.{near(str(policy), LONELY)} "
            f"Use one of {', '.join(map(repr, LONELY))}."
        )
    return policy


def _fraction(column: pd.Series, name: str, stratum: Array, n_psu: Array) -> Array:
    """Find the sampled share of the PSUs of each stratum, from shares or population counts."""
    values = column.to_numpy() if column.dtype.kind == "f" else np.full(len(column), np.nan)
    low, high = np.full(len(n_psu), np.inf), np.full(len(n_psu), -np.inf)
    np.minimum.at(low, stratum, values)
    np.maximum.at(high, stratum, values)
    share = np.where(high <= 1.0, high, n_psu / np.maximum(high, 1e-300))
    if not (np.isfinite(values).all() and (low > 0).all() and np.allclose(low, high) and (share <= 1.0).all()):
        raise DesignError(
            f"A finite population correction is constant inside strata: the sampled share of the PSUs, or their "
            f"number in the population. Column {name!r} is missing, not positive, varies inside a stratum, or is "
            f"smaller than the number of PSUs. Correct it, or leave fpc out."
        )
    return share


def _design_code(columns: Mapping[str, pd.Series], name: str) -> tuple[Array, list[object]]:
    column = columns[name]
    missing = int(column.isna().sum())
    if missing:
        raise DesignError(
            f"Design columns must be complete. Column {name!r} is missing in {missing} rows. "
            f"Fill it or drop those rows."
        )
    return code([column])


def _constant(
    values: Array, index: Array, n: int, unit_labels: Sequence[object], unit: str, column: str, labels: list, what: str
) -> Array:
    out = np.zeros(n, dtype=np.int64)
    out[index[::-1]] = values[::-1]
    stray = np.flatnonzero(out[index] != values)
    if len(stray):
        units = list(dict.fromkeys(index[stray].tolist()))
        cure = "Use a coarser column or another top level"
        if what == "stratum":
            cure += f"; if the ids of {unit!r} start again in every stratum, make them unique first"
        raise DesignError(
            f"A {what} must contain whole units of {unit!r}, but column {column!r} varies in {len(units)} of them. "
            f"First ones: {some([unit_labels[u] for u in units])}. {cure}."
        )
    return out
