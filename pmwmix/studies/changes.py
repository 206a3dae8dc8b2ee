"""Changes between independent samples, and those of tables of `describe` from cycle to cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from pmwmix._types import Array
from pmwmix.errors import DataError, OptionError, near, some

AGAINST = ("first", "previous")
NUMBERS = ("estimate", "std_error", "df")


def compared(first: pd.DataFrame, second: pd.DataFrame, link: Array, ci_prob: float) -> dict[str, Any]:
    """Give the changes from one independent sample to another (trends, eqs. 1-3).

    Parameters
    ----------
    first, second : DataFrame (m rows)
        ``estimate, std_error, df`` in the same order.
    link : ndarray, shape (m,)
        Linking errors; NaN where no change is to be given.
    ci_prob : float
    """
    squares = [table["std_error"].to_numpy() ** 2 for table in (first, second)]
    total = squares[0] + squares[1] + link**2
    error = np.sqrt(total)
    estimate = np.where(np.isnan(total), np.nan, second["estimate"].to_numpy() - first["estimate"].to_numpy())
    with np.errstate(divide="ignore", invalid="ignore"):
        df = total**2 / sum(s**2 / table["df"].to_numpy() for s, table in zip(squares, (first, second), strict=True))
        statistic = estimate / error
    df = np.minimum(np.where(np.isnan(df), np.inf, df), 1e10)
    half: Array = stdtrit(df, 0.5 + ci_prob / 2) * error
    return {
        "estimate": estimate,
        "std_error": error,
        "linking_error": link,
        "statistic": statistic,
        "df": df,
        "p_value": 2 * stdtr(df, -np.abs(statistic)),
        "ci_low": estimate - half,
        "ci_high": estimate + half,
    }


def check_word(name: str, value: Any, known: Sequence[str]) -> None:
    """Refuse an unknown word of a trend.

    Raises
    ------
    OptionError
    """
    if value not in known:
        raise OptionError(
            f"Unknown {name}={value!r} of a trend.{near(str(value), known)} Asked for in trend(). Use "
            f"{' or '.join(map(repr, known))}."
        )


def pairs_of(cycles: Sequence[Any], against: str) -> list[tuple[Any, Any]]:
    """Give what is compared: the earlier cycle and the later one.

    Raises
    ------
    OptionError
        If a cycle is several values.
    """
    several = next((cycle for cycle in cycles if isinstance(cycle, tuple)), None)
    if several is not None:
        raise OptionError(
            f"A cycle is one value, such as a year. Got {several!r}, {len(several)} values. Give the groups of every "
            f"cycle in a dict of their own, {{2015: {{'A': fit, ...}}, 2018: ...}}, or as fit_groups gives them."
        )
    return list(pairwise(cycles)) if against == "previous" else [(cycles[0], cycle) for cycle in cycles[1:]]


def trend_of_tables(tables: Mapping[Any, pd.DataFrame], linking: Any, against: str, ci_prob: float) -> pd.DataFrame:
    """Compare tables of `describe`, statistic by statistic and group by group.

    Raises
    ------
    DataError, OptionError
    """
    check_word("against", against, AGAINST)
    cycles = list(tables)
    keys = [*_keys(tables[cycles[0]], cycles[0])]
    indexed = {cycle: _indexed(table, keys, cycle) for cycle, table in tables.items()}
    start = indexed[cycles[0]]
    for cycle, table in indexed.items():
        if differ := sorted(map(str, set(start.index) ^ set(table.index))):
            raise DataError(
                f"A trend is of the same statistics in all cycles. {cycle!r} and {cycles[0]!r} differ in "
                f"{some(differ, 3)}. Describe the same groups, percentiles and benchmarks in all."
            )
    if len(cycles) < 2:
        raise OptionError(
            f"A trend compares two cycles or more. Got {cycles[0]!r} alone. Write trend({{2015: table, 2018: table}})."
        )
    rows = []
    for a, b in pairs_of(cycles, against):
        first, second = indexed[a], indexed[b].loc[start.index]
        numbers = compared(first.loc[start.index], second, _links(linking, b, start), ci_prob)
        numbers["t"] = numbers.pop("statistic")
        rows.append(start.index.to_frame(index=False).assign(cycle=b, against=a, **numbers))
    table = pd.concat(rows, ignore_index=True)
    order = [*keys, "estimate", "std_error", "linking_error", "t", "df", "p_value", "ci_low", "ci_high"]
    return table[["cycle", "against", *order]]


def _keys(table: pd.DataFrame, cycle: Any) -> list[str]:
    if missing := [name for name in ("statistic", *NUMBERS) if name not in table]:
        raise DataError(
            f"A trend compares fits, or tables of pmwmix.describe. That of {cycle!r} has no column "
            f"{some(missing)}. Pass what describe gives, all columns of it."
        )
    return [str(name) for name in table.columns[: list(table.columns).index("statistic") + 1]]


def _indexed(table: pd.DataFrame, keys: list[str], cycle: Any) -> pd.DataFrame:
    if _keys(table, cycle) != keys:
        raise DataError(
            f"A trend is of the same groups in all cycles. The table of {cycle!r} is by {some(_keys(table, cycle))}, "
            f"the first by {some(keys)}. Describe all cycles with the same by=."
        )
    return table.set_index(keys)


def _links(linking: Any, cycle: Any, table: pd.DataFrame) -> Array:
    """Give the linking error of every row: in points, of means and percentiles, or by statistic."""
    names = [str(name) for name in table.index.get_level_values("statistic")]
    is_gap = table["p_value"].notna().to_numpy() if "p_value" in table else np.zeros(len(table), dtype=bool)
    given = linking.get(cycle) if isinstance(linking, Mapping) else linking
    if given is None and isinstance(linking, Mapping):
        raise OptionError(
            f"Every comparison has a linking error, named by its later cycle. That of {cycle!r} is missing. Add it, "
            f"zero where the cycles are scaled together."
        )
    if given is None:
        return np.zeros(len(table))
    by_name: dict[str, Any] = (
        dict(given)
        if isinstance(given, Mapping)
        else {name: given for name in names if name == "mean" or name[:1] == "p"}
    )
    shares = [name for name, gap in zip(names, is_gap, strict=True) if name.startswith("share") and not gap]
    unknown = [name for name in by_name if name not in names]
    lacking = [name for name in shares if name not in by_name]
    if unknown or lacking:
        what = f"There is no statistic {unknown[0]!r}" if unknown else f"That of {lacking[0]!r} is missing"
        raise OptionError(
            f"Shares above a benchmark have a linking error of their own, which is not in points. {what} in that of "
            f"{cycle!r}. Write linking={{{cycle!r}: {{'mean': 3.2, 'share >= 500': 0.012}}}}, from the study's report."
        )
    for name, value in by_name.items():
        if not isinstance(value, int | float | np.number) or isinstance(value, bool) or not 0 <= value < np.inf:
            raise OptionError(
                f"A linking error is a standard error, zero or above. That of {name!r} in {cycle!r} is {value!r}. "
                f"Take it from the study's technical report."
            )
    links = np.array([float(by_name.get(name, 0.0)) for name in names])
    return np.where(is_gap, 0.0, links)
