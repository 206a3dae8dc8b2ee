"""What a table of models shows, as numbers: (part, row, statistic) by model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import NotSupportedError
from pmwmix.inference.r2 import r2

FIXED, RANDOM, FURTHER, MODEL = "Fixed effects", "Variance components", "Further parameters", "Model"
PARTS = (FIXED, RANDOM, FURTHER, MODEL)
Number = tuple[str, str, str, float]


def numbers_of(fits: Mapping[str, Any], ci_prob: float, exponentiate: bool) -> pd.DataFrame:
    """Lay the numbers of several fits out beside each other.

    Parameters
    ----------
    fits : dict
        Heading to fit.
    ci_prob : float
    exponentiate : bool

    Returns
    -------
    DataFrame
        Index ``part, row, statistic``, a column per fit; NaN where a model has no such row.
    """
    columns = {
        heading: {(part, row, statistic): value for part, row, statistic, value in _numbers(fit, ci_prob, exponentiate)}
        for heading, fit in fits.items()
    }
    rows = _in_order([[key[:2] for key in column] for column in columns.values()])
    keys = [
        (*row, statistic)
        for row in sorted(rows, key=lambda row: PARTS.index(row[0]))
        for statistic in dict.fromkeys(key[2] for column in columns.values() for key in column if key[:2] == row)
    ]
    index = pd.MultiIndex.from_tuples(keys, names=["part", "row", "statistic"])
    return pd.DataFrame({name: [column.get(key, np.nan) for key in keys] for name, column in columns.items()}, index)


def _in_order(lists: Sequence[Sequence[Any]]) -> list[Any]:
    """Merge lists so that what is new in one stands behind what stood before it there."""
    out: list[Any] = []
    for one in lists:
        place = 0
        for item in dict.fromkeys(one):
            if item in out:
                place = out.index(item) + 1
            else:
                out.insert(place, item)
                place += 1
    return out


def _numbers(fit: Any, ci_prob: float, exponentiate: bool) -> Iterator[Number]:
    tidy = fit.tidy(ci_prob, exponentiate=exponentiate)
    for row in tidy.to_dict("records"):
        for name in ("estimate", "std_error", "statistic", "p_value", "ci_low", "ci_high"):
            if name in row:
                yield FIXED, row["term"], name, float(row[name])
    for row in fit.varcorr.to_dict("records"):
        group, first, second = row["grp"], row["var1"], row["var2"]
        if isinstance(second, str):
            yield RANDOM, f"{group} {first}, {second} (correlation)", "estimate", float(row["sdcor"])
        else:
            name = f"{group} {first}" if isinstance(first, str) else str(group)
            yield RANDOM, name, "estimate", float(row["vcov"])
            yield RANDOM, name, "std_error", float(row["se"])
    for table in (
        fit.family_parameters,
        getattr(fit.ml if fit.method == "bayes" else fit, "residual_parameters", None),
    ):
        for name, row in () if table is None else table.iterrows():
            yield FURTHER, str(name), "estimate", float(row["estimate"])
            yield FURTHER, str(name), "std_error", float(row["se"])
    yield from ((MODEL, name, "value", value) for name, value in _of_the_model(fit))


def _of_the_model(fit: Any) -> Iterator[tuple[str, float]]:
    """Sizes, shares of variance and criteria; those that the fit cannot give are left out."""
    yield "Rows", float(fit.nobs)
    for name, n in fit.n_groups.items():
        yield f"{name} (units)", float(n)
    if fit.n_pv > 1:
        yield "Plausible values or imputations", float(fit.n_pv)
    icc = fit.icc
    shares = icc.items() if isinstance(icc, pd.Series) else [] if icc is None else [(None, icc)]
    for level, share in shares:
        if np.isfinite(share):
            yield ("ICC" if level is None else f"ICC {level}"), float(share)
    if fit.method == "bayes":
        return
    try:
        explained = r2(fit, snijders_bosker=False)["estimate"]
        yield "R² marginal", float(explained["marginal"])
        if len(fit.n_groups):
            yield "R² conditional", float(explained["conditional"])
    except NotSupportedError:
        pass
    d = "d" if fit.settings.weighted else ""
    yield ("Pseudo-log-likelihood" if d else "Log-likelihood"), float(fit.loglik)
    try:
        yield f"{d}AIC", float(fit.aic)
        yield f"{d}BIC", float(fit.bic)
    except NotSupportedError:
        pass
