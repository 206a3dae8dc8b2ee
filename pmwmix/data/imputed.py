"""Imputed tables: a list of them, or one table in which a column numbers them, such as mice's long format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.data.bygroup import TablePart, sorted_parts
from pmwmix.data.pieces import stream_of
from pmwmix.data.table import Table
from pmwmix.errors import DataError, NotSupportedError, OptionError, near, some
from pmwmix.surveys import Preset

NUMBER, ROW = ".imp", ".id"  # columns of mice::complete(action = "long")
PAIRINGS = ("number", "cross")


@dataclass(frozen=True)
class ImputedPart(TablePart):
    """The rows of one imputation of a long table, labelled alike in all of them: by ``.id``, else by position."""

    @property
    def index(self) -> pd.Index:
        """Labels of the rows."""
        if ROW in self.columns:
            labels = pd.Index(self.fetch([ROW])[ROW].array)
            if labels.is_unique and not labels.hasnans:
                return labels
        return pd.RangeIndex(len(self))


def tables_of(
    data: Any, imputation: str | None, said: Any, memory: Any, method: str, executor: Any = None
) -> tuple[list[Any], tuple[str, ...]]:
    """Read the tables that a call means, or open the source that is read piece by piece.

    Parameters
    ----------
    data : object
    imputation : str or None
    said : Design
    memory : str, float or None
        Budget of what is streamed.
    method : str
    executor : object, optional
        Reads the files of what is streamed side by side.

    Returns
    -------
    list of Table or Stream
    tuple of str
        What the summary should say.

    Raises
    ------
    OptionError, DataError, NotSupportedError
    """
    stream = stream_of(data, memory, executor)
    if stream is None:
        return imputed_tables(data, imputation, said)
    if isinstance(said, Preset):
        raise NotSupportedError(
            f"A survey preset looks into the table, and streamed data are never held whole. Asked for {said.name!r}. "
            f"Name the columns of weights=, pv= and the formula in the call, or fit a table in memory."
        )
    if imputation is not None or method == "bayes":
        asked = f"imputation={imputation!r}" if imputation is not None else "method='bayes'"
        raise NotSupportedError(
            f"Streamed data are fitted by maximum likelihood, as one table. The call has {asked}. Fit a table in "
            f"memory, or stream each imputed table and combine the fits with pmwmix.pool."
        )
    return [stream], ()


def imputed_tables(data: Any, imputation: str | None, preset: Any = None) -> tuple[list[Table], tuple[str, ...]]:
    """Read the tables that a call means.

    Parameters
    ----------
    data : table, path, or list of them
    imputation : str, optional
        Column that numbers the imputations; 0 is the table before it was imputed, which is left out.
    preset : Preset, optional
        Survey whose labels of missing answers are known, for paths.

    Returns
    -------
    list of Table
    tuple of str
        What the summary should say.

    Raises
    ------
    OptionError, DataError
    """
    if imputation is not None and not isinstance(imputation, str):
        raise OptionError(
            f"Imputations are numbered by a column. Got imputation={imputation!r}. Write its name in quotes, as '.imp'."
        )
    if not isinstance(data, list | tuple):
        table = Table(data, preset)
        return ([_checked(table)], ()) if imputation is None else _parts(table, imputation, preset)
    if imputation is not None:
        raise OptionError(
            f"Imputed tables are a list, or one table with a column that numbers them. Got {len(data)} tables and "
            f"imputation={imputation!r}. Leave one of the two out."
        )
    if not data:
        raise OptionError("There is nothing to fit. The list of imputed tables is empty. Pass one table or several.")
    return [_checked(Table(one, preset)) for one in data], ()


def _checked(table: Table) -> Table:
    """Refuse mice's long format where one table is meant: its rows would count several times."""
    if NUMBER in table.names:
        numbers = table.columns([NUMBER])[NUMBER].unique()
        if len(numbers) > 1:
            raise DataError(
                f"This table holds several imputations below each other. Column {NUMBER!r} has {len(numbers)} values, "
                f"as mice writes them. Say imputation={NUMBER!r}, or take the rows of one of them."
            )
    return table


def _parts(table: Table, imputation: str, preset: Any) -> tuple[list[Table], tuple[str, ...]]:
    labels, parts = sorted_parts(table, imputation)
    chosen = [
        ImputedPart(part.sorted, part.first, part.last) for label, part in zip(labels, parts, strict=True) if label != 0
    ]
    lost = table.n_rows - sum(len(part) for part in parts)
    if lost:
        raise DataError(
            f"Every row belongs to an imputation. In column {imputation!r} {lost} rows have none. "
            f"Leave them out, or number them 0 if they are the table before it was imputed."
        )
    sizes = [len(part) for part in chosen]
    if not chosen or len(set(sizes)) > 1:
        raise DataError(
            f"Imputed tables have the same rows. By column {imputation!r} there are {some([str(n) for n in sizes])} "
            f"of them. Name the column that numbers the imputations, 1, 2, ..."
        )
    notes: tuple[str, ...] = (f"Column {imputation!r} numbers {len(chosen)} imputed tables of {sizes[0]} rows.",)
    if 0 in labels:
        notes += (f"Rows with {imputation} = 0, the table before it was imputed, were left out.",)
    return [Table(part, preset) for part in chosen], notes


def same_in_all(tables: Sequence[Table], names: Sequence[str]) -> bool:
    """Whether columns are the same in all tables, missing values included."""
    first = tables[0].columns(names)
    for other in tables[1:]:
        columns = other.columns(names)
        if not all(_equal(first[name], columns[name]) for name in names):
            return False
    return True


def _equal(a: pd.Series, b: pd.Series) -> bool:
    numbers = [pd.api.types.is_numeric_dtype(one.dtype) for one in (a, b)]
    if len(a) != len(b) or numbers[0] != numbers[1]:
        return False
    return np.array_equal(a, b, equal_nan=True) if all(numbers) else a.astype(str).tolist() == b.astype(str).tolist()


def crossed_sets(pv: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Give every set the column of each fit, every plausible value going with every other.

    Raises
    ------
    OptionError
        If there is one set, or none.
    """
    if len(pv) < 2:
        raise OptionError(
            f"Crossing needs two sets of plausible values in the formula. There {'is' if pv else 'are'} "
            f"{some([repr(name) for name in pv]) if pv else 'none'}. Leave pv_pairing out."
        )
    grid = np.meshgrid(*(np.arange(len(columns)) for columns in pv.values()), indexing="ij")
    numbers = [one.ravel().tolist() for one in grid]
    return {name: [columns[k] for k in ks] for (name, columns), ks in zip(pv.items(), numbers, strict=True)}


def nests_of(
    pv: Mapping[str, Sequence[str]], pairing: str | None, table: int | None = None, alike: bool = False
) -> tuple[tuple[str, ...], ...]:
    """Label the fits of one table by where their numbers come from, as `pooling.nested.sources_of` reads it.

    Parameters
    ----------
    pv : dict
        Set name to the column of every fit.
    pairing : str or None
    table : int, optional
        Number of the imputed table, from 1.
    alike : bool
        Whether the plausible values are the same in all tables, so that they are crossed with them.

    Returns
    -------
    tuple of tuple of str
        Empty where nothing but plausible values, paired by number, differs.
    """
    if table is None and pairing != "cross":
        return ()
    n_fits = len(next(iter(pv.values()))) if pv else 1
    inner: list[list[str]] = []
    if pairing == "cross":
        inner = [[f"{name} {_number(columns, one)}" for one in columns] for name, columns in pv.items()]
    elif n_fits > 1:
        inner = [[f"PV {k}" for k in range(1, n_fits + 1)]]
    if table is None:
        return tuple(zip(*inner, strict=True))
    if not alike:  # numbers of other plausible values in every table
        inner = [[f"{label.rpartition(' ')[0]} {table}.{label.rpartition(' ')[2]}" for label in one] for one in inner]
    return tuple(zip([f"imputation {table}"] * n_fits, *inner, strict=True))


def _number(columns: Sequence[str], one: str) -> int:
    return list(dict.fromkeys(columns)).index(one) + 1


def check_imputations(tables: Sequence[Table], pairing: str | None, method: str) -> None:
    """Refuse unknown pairings of plausible values, and tables and pairings that a method does not know.

    Raises
    ------
    OptionError, NotSupportedError
    """
    if pairing is not None and pairing not in PAIRINGS:
        raise OptionError(
            f"Sets of plausible values are paired by number or crossed. Got pv_pairing={pairing!r}."
            f"{near(str(pairing), PAIRINGS)} Use 'number' or 'cross'."
        )
    if method == "bayes" and (len(tables) > 1 or pairing == "cross"):
        raise NotSupportedError(
            f"Posteriors are mixed over plausible values that are paired by number, of one table. Asked for "
            f"method='bayes' with {len(tables)} tables and pv_pairing={pairing!r}. Use method='ml'."
        )
