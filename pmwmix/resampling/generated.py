"""Replicate weights made for designs that come without them: jackknife, balanced halves, bootstrap, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.codes import code
from pmwmix.data.table import Table
from pmwmix.errors import DesignError, NotSupportedError, OptionError, some
from pmwmix.resampling.outcomes import check_count, generator
from pmwmix.resampling.weighted import drawn_factors
from pmwmix.spec.design import Design, resolve_design
from pmwmix.weights.replicate_types import REPLICATES, check_replicates

DRAWS = 500  # replicates of a bootstrap whose number is not given


def replicate_weights(
    data: Any,
    design: Design | Mapping[str, Any],
    *,
    replicate_type: str,
    fay: float | None = None,
    n: int | None = None,
    prefix: str = "REPW",
    random_seed: int | None = None,
) -> pd.DataFrame:
    """Make replicate weights from strata and PSUs, as columns for `Design` (``replicate_weights="REPW{}"``).

    Parameters
    ----------
    data : table or path
        Never modified.
    design : Design or dict
        ``weights``, ``psu`` and ``strata``. Of several weights the first is that of the rows; conditional ones are
        multiplied.
    replicate_type : {"jk1", "jkn", "jk2", "jk2-two-sided", "brr", "fay", "bootstrap"}
        Leave out one PSU (without strata, with strata); halves of pairs of PSUs, one pair at a time; balanced halves;
        the rescaled bootstrap of Rao and Wu (1988).
    fay : float, optional
        Fay's factor, for ``"fay"``.
    n : int, optional
        Replicates of the bootstrap; default 500.
    prefix : str
        Columns are named ``REPW1, REPW2, ...``.
    random_seed : int, optional
        For the bootstrap, and for PSUs that are split.

    Returns
    -------
    DataFrame, shape (n_rows, R)
        Total weights of the rows in every replicate, with the labels of the table's rows.

    Raises
    ------
    DesignError, OptionError, NotSupportedError

    Notes
    -----
    Replicates, eqs. 6-8, and bootstrap, eq. 4. Halves need pairs: PSUs of a stratum are paired in the order in which
    the table has them; the rows of the last one of an odd number are split in two halves at random, as in TIMSS.

    Examples
    --------
    >>> rows = pd.DataFrame({"school": [1, 1, 2, 3], "w": [2.0, 2.0, 1.0, 5.0]})
    >>> replicate_weights(rows, {"weights": "w", "psu": "school"}, replicate_type="jk1")
       REPW1  REPW2  REPW3
    0    0.0    3.0    3.0
    1    0.0    3.0    3.0
    2    1.5    0.0    1.5
    3    7.5    7.5    0.0
    """
    said = _checked(resolve_design(design), replicate_type, fay, n, prefix)
    rng, table = generator(random_seed), Table(data)
    w, psu, stratum = _read(said, table)
    place = stratum[np.unique(psu, return_index=True)[1]]
    _check_strata(place, said)
    method = REPLICATES[replicate_type]
    if method.build is None:
        drawn = [drawn_factors(place, True, rng)[psu] for _ in range(n or DRAWS)]
        R, factor = len(drawn), drawn.__getitem__
    else:
        zone, rep = (stratum, psu) if replicate_type in ("jk1", "jkn") else _halves(psu, place, rng)
        R, factor = method.build(zone, rep, fay or 0.0)
    names = [f"{prefix.replace('{}', '')}{r}" for r in range(1, R + 1)]
    taken = [name for name in names if name in table.names]
    if taken:
        raise OptionError(
            f"Replicates get names of their own. The table has {some(taken)} already. Choose another prefix=."
        )
    return pd.DataFrame(np.column_stack([w * factor(r) for r in range(R)]), columns=names, index=table.index)


def _checked(design: Design, kind: Any, fay: Any, n: Any, prefix: Any) -> Design:
    """Refuse what contradicts itself, before any data are read."""
    check_replicates(Design(replicate_weights=prefix, replicate_type=kind, fay=fay))
    if not isinstance(prefix, str) or not prefix:
        raise OptionError(f"A prefix is text. Got prefix={prefix!r}. Write for example prefix='REPW'.")
    if n is not None and REPLICATES[kind].build is not None:
        raise OptionError(
            f"The number of replicates is asked for with the bootstrap alone. Got n={n!r} with "
            f"replicate_type={kind!r}, whose number follows from the PSUs. Leave n out."
        )
    if n is not None:
        check_count(n, "replicates", 2)
    _check_design(design, kind)
    return design


def _check_design(design: Design, kind: str) -> None:
    """Refuse designs that say too little, or more than replicates can."""
    if design.weights is not None and not isinstance(design.weights, str | Sequence | Mapping):
        raise OptionError(f"Weights are columns. Got weights={design.weights!r}. Name them, weights='W_FSTUWT'.")
    if design.psu is None or not design.weights or not any(design.weights):
        missing = "psu" if design.psu is None else "weights"
        raise DesignError(
            f"Replicates are made from weights and PSUs. The design has no {missing}=. "
            f"Write pmwmix.Design(weights='W', strata='STRATUM', psu='SCHOOLID')."
        )
    if design.fpc is not None:
        raise NotSupportedError(
            f"Replicates are made as if PSUs were drawn with replacement. The design has fpc={design.fpc!r}. "
            f"Leave it out, or use vcov='robust', which has the correction."
        )
    if design.strata is not None and kind == "jk1":
        raise DesignError(
            f"JK1 takes all PSUs for one stratum. The design has strata={design.strata!r}. Use replicate_type='jkn'."
        )


def _weight_columns(design: Design) -> Sequence[str]:
    """Name the columns whose product is the total weight of the rows."""
    given: Any = design.weights
    if isinstance(given, str):
        return [given]
    if isinstance(given, Mapping):
        if not design.conditional and "obs" not in given:
            raise DesignError(
                f"Replicates multiply the weight of the rows. The design's weights are of {some(list(given))}. "
                f"Name that of the rows as 'obs'."
            )
        return list(given.values()) if design.conditional else [given["obs"]]
    named = [name for name in given if name is not None]
    return named if design.conditional else named[:1]


def _read(design: Design, table: Table) -> tuple[Array, Array, Array]:
    """Read total weights, and PSU and stratum of every row, numbered as they appear."""
    weights = _weight_columns(design)
    where = [name for name in (design.strata, design.psu) if name is not None]
    columns = table.columns([*weights, *where], "design")
    missing = {name: int(columns[name].isna().sum()) for name in where if columns[name].isna().any()}
    if missing:
        raise DesignError(
            f"Design columns must be complete. Missing in {some([f'{k!r}: {v} rows' for k, v in missing.items()])}. "
            f"Fill them or drop those rows."
        )
    for name in weights:
        column = columns[name].to_numpy()
        if column.dtype.kind != "f" or not np.isfinite(column).all() or (column < 0).any():
            raise DesignError(
                f"Weights are numbers, complete and not negative. Column {name!r} is not. Correct it or drop its rows."
            )
    psu = pd.factorize(code([columns[name] for name in where])[0])[0]
    stratum = code([columns[where[0]]])[0] if len(where) == 2 else np.zeros(len(psu), dtype=np.int64)
    return np.prod([columns[name].to_numpy() for name in weights], axis=0), psu, stratum


def _check_strata(place: Array, design: Design) -> None:
    """Refuse strata (n_psu,) with one PSU."""
    alone = int((np.bincount(place) == 1).sum())
    if alone:
        where = "The sample" if design.strata is None else f"{alone} of {place.max() + 1} strata of {design.strata!r}"
        raise DesignError(
            f"A stratum needs two PSUs for a replicate. {where} has one of {design.psu!r}. Merge it with a neighbour."
        )


def _halves(psu: Array, place: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Pair the PSUs of every stratum (n_psu,) in their order: pair and half (0, 1) of every row."""
    order = np.argsort(place, kind="stable")
    first = np.searchsorted(place[order], place[order])
    within = np.arange(len(place)) - first
    pair, half = np.empty(len(place), dtype=np.int64), np.empty(len(place))
    pair[order] = np.cumsum(within % 2 == 0) - 1
    half[order] = within % 2
    zone, rep = pair[psu], half[psu]
    for lone in np.flatnonzero(np.bincount(pair) == 1):
        rows = np.flatnonzero(zone == lone)
        if len(rows) < 2:
            raise DesignError(
                "A PSU without a partner is split in halves. One of them has a single row. Merge it with another PSU."
            )
        rep[rng.permutation(rows)[: len(rows) // 2]] = 1.0
    return zone, rep
