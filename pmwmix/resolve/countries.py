"""How the countries of one table count: each as one draw, by its population, or alike in everything (senate)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.data.codes import code
from pmwmix.errors import DataError, OptionError

SENATE = " (senate)"


@dataclass(frozen=True)
class CountryWeights:
    """Weights in which countries count as asked.

    Parameters
    ----------
    weights : dict
        Columns by level.
    extra : dict of Series
        Columns to add to the table.
    note : str
    adapt : callable or None
        What senate weights do to a column of total weights, for replicates: name and values.
    """

    weights: dict[str, Any]
    extra: dict[str, pd.Series]
    note: str
    adapt: Callable[[pd.Series], pd.Series] | None = None


def check_weights(weights: Any, conditional: bool | None) -> dict[str, Any]:
    """Weights keyed by level, with those of the rows among them.

    Raises
    ------
    OptionError
    """
    keyed = {"obs": weights} if isinstance(weights, str) else weights
    if not isinstance(keyed, Mapping) or not isinstance(keyed.get("obs"), str) or conditional:
        raise OptionError(
            f"Country weights are made from total weights of the rows, keyed by level. The call has "
            f"weights={weights!r}, conditional={conditional!r}. "
            f"Write weights={{'obs': 'W_FSTUWT', 'school': 'W_FSCHWT'}}."
        )
    return dict(keyed)


def weigh_countries(
    how: str,
    weights: dict[str, Any],
    level: str | None,
    country: str,
    read: Callable[[list[str]], dict[str, pd.Series]],
) -> CountryWeights:
    """Make the weights in which countries count as asked.

    Parameters
    ----------
    how : {"equal", "population", "senate"}
    weights : dict
        Columns of total weights by level, ``"obs"`` among them.
    level : str or None
        Level of the countries, if the model has it.
    country : str
        Column of the countries.
    read : callable
        Names to columns.

    Returns
    -------
    CountryWeights

    Notes
    -----
    ``equal`` leaves the country's weight at 1 and schools and rows as in the file: every country is one draw of the
    country effect. ``population`` gives a country the sum of its rows' weights, divided by the mean over countries;
    conditional weights below are divided by it. ``senate`` multiplies all weights in a country by one number, so that
    the rows' weights sum to the mean over countries in each. Without a level of countries ``equal`` is ``senate``, and
    ``population`` leaves the weights as they are.
    """
    obs = str(weights["obs"])
    columns = read([obs, country])
    missing = int(columns[country].isna().sum())
    if missing:
        raise DataError(
            f"Country weights need the country of every row. Column {country!r} is missing in {missing} rows. "
            f"Fill it or drop those rows."
        )
    index, labels = code([columns[country]])
    total = np.bincount(index, np.nan_to_num(columns[obs].to_numpy()), minlength=len(labels))
    share = (total / total.mean())[index]
    if len(labels) < 2:
        return CountryWeights(weights, {}, f"country_weights={how!r} has no effect: the table has one country.")
    if how == "population" and level is not None:
        name = f"{obs} summed by {country}"
        note = (
            f"Countries count by their population: the weight of a {country} is the sum of {obs} in it, divided by the "
            f"mean over countries."
        )
        return CountryWeights({**weights, level: name}, {name: pd.Series(share, name=name)}, note)
    if how == "population":
        return CountryWeights(weights, {}, "Countries count by their population: the weights are those of the file.")
    if how == "equal" and level is not None:
        note = f"Countries count equally: every {country} has weight 1, schools and rows those of the file."
        return CountryWeights(weights, {}, note)

    def adapt(column: pd.Series) -> pd.Series:
        return pd.Series(column.to_numpy(dtype=float) / share, name=f"{column.name}{SENATE}")

    named = [name for name in weights.values() if isinstance(name, str)]
    made = {name: adapt(column) for name, column in read(named).items()}
    note = (
        f"Senate weights: in every {country} all weights were multiplied by one number, so that {obs} sums to the same "
        f"in each."
    )
    changed = {key: made[name].name if isinstance(name, str) else name for key, name in weights.items()}
    return CountryWeights(changed, {str(column.name): column for column in made.values()}, note, adapt)
