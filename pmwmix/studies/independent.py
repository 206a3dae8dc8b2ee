"""Contrasts of estimates of independent groups, such as countries, and their tests."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import fdtrc, stdtr, stdtrit

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError, near, some
from pmwmix.inference.adjust import adjusted, check_adjustment

AVERAGE = "average"


def contrasts_of(groups: list[Any], against: Any) -> tuple[list[tuple[Any, Any]], Array]:
    """Give who is compared with whom, and the contrasts (m, n).

    Raises
    ------
    OptionError
    """
    n, eye = len(groups), np.eye(len(groups))
    if against is None:
        places = list(combinations(range(n), 2))
        return [(groups[i], groups[j]) for i, j in places], np.array([eye[i] - eye[j] for i, j in places])
    if against in groups:
        k = groups.index(against)
        return [(g, against) for g in groups if g != against], np.delete(eye - eye[k], k, axis=0)
    if isinstance(against, str) and against == AVERAGE:
        return [(g, AVERAGE) for g in groups], eye - 1 / n
    raise OptionError(
        f"There is no group {against!r} to compare with.{near(str(against), [str(g) for g in groups])} The groups are "
        f"{some(groups, 12)}. Use one of them, 'average', or None for all pairs."
    )


def tested(one: pd.DataFrame, pairs: list[tuple[Any, Any]], C: Array, adjust: str, ci_prob: float) -> pd.DataFrame:
    """Test contrasts of independent estimates, a row of ``estimate, std_error, df`` each (groups, eqs. 3-4).

    Raises
    ------
    OptionError, NotSupportedError
    """
    check_adjustment(adjust)
    if adjust == "single-step":
        raise NotSupportedError(
            "Differences between groups have no adjustment 'single-step'. It is for contrasts of one model. Use "
            "adjust='holm'."
        )
    estimate, squares = C @ one["estimate"].to_numpy(float), (C * one["std_error"].to_numpy(float)) ** 2
    variance = squares.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = variance**2 / (squares**2 / one["df"].to_numpy(float)).sum(axis=1)
        statistic = estimate / np.sqrt(variance)
    capped = np.minimum(df, 1e10)
    half = stdtrit(capped, 0.5 + ci_prob / 2) * np.sqrt(variance)
    out = pd.DataFrame(pairs, columns=["group", "other"])
    out["estimate"], out["std_error"], out["statistic"], out["df"] = estimate, np.sqrt(variance), statistic, df
    out["p_value"] = 2 * stdtr(capped, -np.abs(statistic))
    out["p_adjusted"] = adjusted(statistic, df, np.eye(len(C)), adjust)
    out["ci_low"], out["ci_high"] = estimate - half, estimate + half
    return out


def all_equal(one: pd.DataFrame) -> dict[str, float]:
    """Test whether independent estimates, ``estimate, std_error, df`` by group, are all equal (trends, eq. 5).

    References
    ----------
    .. [1] Welch, B. L. (1951). On the comparison of several mean values: an alternative approach. Biometrika, 38(3/4),
       330-336. doi:10.1093/biomet/38.3-4.330
    """
    value, error, df = (one[name].to_numpy(dtype=float) for name in ("estimate", "std_error", "df"))
    w, k = 1.0 / error**2, len(value)
    between = float(w @ (value - w @ value / w.sum()) ** 2) / (k - 1)
    spread = float(((1.0 - w / w.sum()) ** 2 / df).sum())
    F = between / (1.0 + 2.0 * (k - 2) * spread / (k**2 - 1))
    df2 = (k**2 - 1) / (3.0 * spread) if spread > 0 else np.inf
    return {"statistic": F, "df1": k - 1.0, "df2": df2, "p_value": float(fdtrc(k - 1, min(df2, 1e10), F))}
