"""Changes between cycles of a survey: differences of independent fits, with the error of linking their scales."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError, PmwmixWarning, some
from pmwmix.results.result import FitResult
from pmwmix.spec.checks import check_prob
from pmwmix.studies.changes import AGAINST, check_word, compared, pairs_of, trend_of_tables
from pmwmix.studies.factortrend import trend_of_factor
from pmwmix.studies.meanings import differing

KINDS = ("coef", "varcorr")
LEVEL = "Intercept"  # what moves when the whole scale does


def trend(
    fits: Any,
    *,
    by: str | None = None,
    linking: Any = None,
    against: str = "first",
    of: str = "coef",
    ci_prob: float = 0.95,
) -> pd.DataFrame:
    """Compare the same model in several cycles of a survey.

    Parameters
    ----------
    fits : dict of FitResult, or what `fit_groups` gives
        Cycle to fit, in the order of time. Pooled fits carry their plausible values. Fits by group in each cycle,
        ``{2015: fit_groups(..., by="CNT"), 2018: ...}``, are compared group by group. Tables of `describe`, one for
        each cycle, are compared statistic by statistic and group by group. Or one fit of all cycles, with ``by=``.
    by : str, optional
        Column of the cycles in the formula of one fit of all cycles, a factor.
    linking : float or dict, optional
        Standard error of the link between the scale of a cycle and that of the cycle it is compared with, in points of
        the scale: one number, or by cycle. It enters the change of the intercept alone (trends, eq. 2). None: the
        cycles are on one scale. Of tables it enters the changes of means and percentiles; shares above a benchmark have
        linking errors of their own, by cycle and statistic: ``{2018: {"mean": 3.2, "share >= 500": 0.012}}``.
    against : {"first", "previous"}
        The cycle that each is compared with.
    of : {"coef", "varcorr"}
        Coefficients, or variance components.
    ci_prob : float

    Returns
    -------
    DataFrame
        A row per cycle after the first and term: ``cycle, against, term, estimate`` (the change), ``std_error,
        linking_error, statistic, df, p_value, ci_low, ci_high``. Of tables the columns of group and statistic stand for
        ``term``, and ``t`` for ``statistic``.

    Raises
    ------
    OptionError, NotSupportedError
        If there are fewer than two fits, of different models, or a linking error is missing or no number.

    Notes
    -----
    Trends, eqs. 1-3. Cycles are independent samples. A linking error moves all students of a cycle alike: it leaves
    slopes, differences between groups and variances as they are.
    """
    check_prob(ci_prob)
    if by is not None or isinstance(fits, FitResult):
        check_word("of", of, KINDS)
        if of != "coef":
            raise NotSupportedError(
                f"Cycles that are a factor of one model share its variances. Got of={of!r} with by={by!r}. Fit every "
                f"cycle by itself, or leave of= out."
            )
        return trend_of_factor(fits, by, lambda cycles: linking_of(linking, cycles, fits, of), against, ci_prob)
    if isinstance(fits, Mapping) and fits and all(isinstance(one, Mapping) for one in fits.values()):
        return _by_group(fits, {"linking": linking, "against": against, "of": of, "ci_prob": ci_prob})
    tables = {c: one for c, one in fits.items() if isinstance(one, pd.DataFrame)} if isinstance(fits, Mapping) else {}
    if tables and len(tables) == len(fits):
        return trend_of_tables(tables, linking, against, ci_prob)
    given = _checked(fits, against, of)
    cycles = list(given)
    pairs = pairs_of(cycles, against)
    errors = linking_of(linking, [later for _, later in pairs], given[cycles[0]], of)
    rows = [_changes(given[a], given[b], errors[b], of, ci_prob).assign(cycle=b, against=a) for a, b in pairs]
    table = pd.concat(rows, ignore_index=True)
    return table[["cycle", "against", *(name for name in table if name not in ("cycle", "against"))]]


def _by_group(fits: Mapping[Any, Mapping[Any, FitResult]], options: dict[str, Any]) -> pd.DataFrame:
    """Compare the fits of every group; those that some cycle lacks have no trend."""
    cycles = list(fits)
    shared = [group for group in fits[cycles[0]] if all(group in fits[cycle] for cycle in cycles)]
    lost = list(dict.fromkeys(str(g) for cycle in cycles for g in fits[cycle] if g not in shared))
    if not shared:
        raise OptionError(
            f"A trend by group needs groups that were fitted in all cycles. Those of {cycles[0]!r} are "
            f"{some(list(map(str, fits[cycles[0]])), 6)}, and none is in all others. Use the same names in all cycles."
        )
    if lost:
        warnings.warn(
            f"Groups without a fit in some cycle have no trend. Left out: {some(lost, 12)}. Fit them in all cycles.",
            PmwmixWarning,
            stacklevel=3,
        )
    name = str(getattr(fits[cycles[0]], "by", "group"))
    tables = []
    for group in shared:
        table = trend({cycle: fits[cycle][group] for cycle in cycles}, **options)
        table.insert(2, name, [group] * len(table))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _checked(fits: Any, against: Any, of: Any) -> dict[Any, FitResult]:
    """Read the fits, and refuse those that cannot be compared."""
    check_word("against", against, AGAINST)
    check_word("of", of, KINDS)
    if not isinstance(fits, Mapping) or len(fits) < 2 or not all(isinstance(one, FitResult) for one in fits.values()):
        raise OptionError(
            f"A trend compares fits of two cycles or more, a dict from cycle to fit. Got {type(fits).__name__}. "
            f"Write trend({{2015: fit2015, 2018: fit2018}}), or pass what fit_groups gives."
        )
    given = dict(fits.items())
    first, start = next(iter(given.values())), next(iter(given))
    for cycle, fit in given.items():
        differ = sorted(set(first.coef.index) ^ set(fit.coef.index))
        other = (first.family, first.link) != (fit.family, fit.link)
        if differ or other or list(first.varcorr["grp"]) != list(fit.varcorr["grp"]):
            what = some(differ) if differ else "family, link or random effects"
            raise OptionError(
                f"A trend is of one model in all cycles. {cycle!r} differs from {start!r} in {what}. "
                f"Use the same formula and the same categories."
            )
    return given


def linking_of(linking: Any, cycles: list[Any], fit: Any, of: str = "coef") -> dict[Any, float]:
    """Give the linking error of every comparison, by its later cycle.

    Raises
    ------
    OptionError, NotSupportedError
    """
    if linking is None:
        return dict.fromkeys(cycles, 0.0)
    if of != "coef" or not fit.has_linear_mean:
        raise NotSupportedError(
            f"A linking error is in points of a linear scale and moves the mean. Asked for with of={of!r}, "
            f"family={fit.family!r}, link={fit.link!r}. Leave linking out."
        )
    errors = linking if isinstance(linking, Mapping) else dict.fromkeys(cycles, linking)
    missing = [cycle for cycle in cycles if cycle not in errors]
    unknown = [cycle for cycle in errors if cycle not in cycles]
    if missing or unknown:
        raise OptionError(
            f"Every comparison has a linking error, named by its later cycle. "
            f"{'Missing' if missing else 'Without a comparison'}: {some([repr(one) for one in missing or unknown])}. "
            f"The cycles are {some([repr(cycle) for cycle in cycles])}."
        )
    for cycle in cycles:
        value = errors[cycle]
        if not isinstance(value, int | float | np.number) or isinstance(value, bool) or not 0 <= value < np.inf:
            raise OptionError(
                f"A linking error is a standard error, zero or above. That of {cycle!r} is {value!r}. "
                f"Take it from the study's technical report."
            )
    return {cycle: float(errors[cycle]) for cycle in cycles}


def _other_meaning(before: FitResult, after: FitResult, terms: pd.Index) -> Array:
    """Mark the terms that are relative to something else in another cycle, and warn of them."""
    if named := differing([before, after]):
        warnings.warn(
            f"Terms mean different things in different cycles (reference categories, or a basis, scale and origin of "
            f"each cycle's own). No change is given of {some(named)}. Recode, or compute the basis on all cycles "
            f"together before.",
            PmwmixWarning,
            stacklevel=4,
        )
    return terms.isin(named)


def _changes(before: FitResult, after: FitResult, linking: float, of: str, ci_prob: float) -> pd.DataFrame:
    """Give the changes from one cycle to another (trends, eqs. 1-3)."""
    first, second = (_numbers(fit, of) for fit in (before, after))
    second = second.loc[first.index]
    link = np.where(first.index == LEVEL, linking, 0.0) if of == "coef" else np.zeros(len(first))
    total = link**2
    if of == "coef":
        total[_other_meaning(before, after, first.index)] = np.nan
    numbers = compared(first, second, np.where(np.isnan(total), np.nan, link), ci_prob)
    return pd.DataFrame({"term": first.index, **{**numbers, "linking_error": link}})


def _numbers(fit: FitResult, of: str) -> pd.DataFrame:
    """Estimates, errors and degrees of freedom by term."""
    if of == "coef":
        return fit.tidy().set_index("term")[["estimate", "std_error", "df"]]
    rows = fit.varcorr[["grp", "var1", "var2"]].to_numpy().tolist()
    names = [" ".join(part for part in row if isinstance(part, str)) for row in rows]
    numbers = {"estimate": fit.varcorr["vcov"].to_numpy(), "std_error": fit.varcorr["se"].to_numpy(), "df": np.inf}
    return pd.DataFrame(numbers, index=pd.Index(names, name="term"))
