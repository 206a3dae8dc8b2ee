"""Differences between the trends of groups, such as countries: a table of changes taken further."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import DataError, OptionError, some
from pmwmix.spec.checks import check_prob
from pmwmix.studies.independent import all_equal, contrasts_of, tested

JOINT = "joint"
NEEDED = ("cycle", "against", "estimate", "std_error", "linking_error", "df")
WHAT = ("term", "statistic")


def trend_differences(
    changes: pd.DataFrame, *, by: str | None = None, against: Any = None, adjust: str = "holm", ci_prob: float = 0.95
) -> pd.DataFrame:
    """Test differences between the changes of groups, such as countries.

    Parameters
    ----------
    changes : DataFrame
        What `trend` gives for groups: of fits by group in every cycle, or of tables of `describe` with ``by=``.
    by : str, optional
        Column of the groups; default: the first one that is no cycle, term or statistic.
    against : optional
        A group, or ``"average"`` of the groups with equal weights. None: all pairs. ``"joint"``: one test of whether
        all groups have changed alike.
    adjust : {"holm", "bonferroni", "fdr", "none"}
        Of the p-values, for the number of differences in one term between the same cycles.
    ci_prob : float

    Returns
    -------
    DataFrame
        ``cycle, against, term`` (or ``statistic``), ``group, other, estimate`` (change of the group minus that of the
        other), ``std_error, statistic, df, p_value, p_adjusted, ci_low, ci_high``; of ``"joint"`` ``statistic`` (an F),
        ``df1, df2, p_value``.

    Raises
    ------
    DataError, OptionError, NotSupportedError

    Notes
    -----
    Trends, eqs. 4-5. Groups are independent samples. The link between two cycles is the same for all of them: its error
    is in the change of every group, and not in their differences.
    """
    check_prob(ci_prob)
    by, keys = _columns(changes, by)
    what = next(name for name in WHAT if name in changes)
    rows = []
    for key, part in changes.groupby(["cycle", "against", *keys, what], sort=False, observed=True):
        one = _without_link(part.set_index(by))
        if len(one) < 2:
            continue
        if isinstance(against, str) and against == JOINT:
            found = pd.DataFrame([all_equal(one)])
        else:
            found = tested(one, *contrasts_of(list(one.index), against), adjust, ci_prob)
        values: list[Any] = list(key)
        for place, (name, value) in enumerate(zip(("cycle", "against", *keys, what), values, strict=True)):
            found.insert(place, name if name != "statistic" else "of", value)
        rows.append(found)
    if not rows:
        raise DataError(
            f"Differences between trends need a change in two groups. Column {by!r} has {changes[by].nunique()}, and "
            f"no term changes in two of them. Pass what trend gives for several groups."
        )
    return pd.concat(rows, ignore_index=True)


def _columns(changes: Any, by: str | None) -> tuple[str, list[str]]:
    """Give the column of the groups and those beside it, and refuse what is no table of changes of groups."""
    lacking = list(NEEDED) if not isinstance(changes, pd.DataFrame) else [n for n in NEEDED if n not in changes]
    if lacking or not any(name in changes for name in WHAT):
        got = some([str(name) for name in lacking], 6) if lacking else "term"
        raise DataError(
            f"Differences between trends are of a table of changes. It lacks {got}. Pass what pmwmix.trend gives for "
            f"fits by group in every cycle."
        )
    before = [str(name) for name in changes.columns[: list(changes.columns).index("estimate")]]
    groups = [name for name in before if name not in ("cycle", "against", *WHAT)]
    if not groups:
        raise DataError(
            "Differences between trends are between groups. The table of changes has no column of them. Pass "
            "trend({cycle: pmwmix.fit_groups(..., by='CNT'), ...})."
        )
    if by is not None and by not in groups:
        raise OptionError(
            f"There is no column {by!r} of groups in the table of changes. It has {some(groups)}. Leave by= out, or "
            f"name one of them."
        )
    by = groups[0] if by is None else by
    return by, [name for name in groups if name != by]


def _without_link(part: pd.DataFrame) -> pd.DataFrame:
    """Take the error of linking out of changes, and of their degrees of freedom (trends, eqs. 1, 3 and 4)."""
    total = part["std_error"] ** 2
    own = (total - part["linking_error"] ** 2).clip(lower=0.0)
    known = np.isfinite(part["estimate"]) & (own > 0)
    df = part["df"] * (own / total) ** 2
    return pd.DataFrame({"estimate": part["estimate"], "std_error": np.sqrt(own), "df": df})[known]
