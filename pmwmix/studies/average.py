"""The average of estimates of several groups, each with the same weight."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit


def average_row(part: pd.DataFrame, ci_prob: float) -> dict[str, float]:
    """Average independent estimates with equal weights; degrees of freedom after Welch and Satterthwaite.

    Parameters
    ----------
    part : DataFrame
        ``estimate, std_error, df``, a row per group.
    ci_prob : float

    Returns
    -------
    dict
        ``estimate, std_error, statistic, df, p_value, ci_low, ci_high, n_groups, between_sd``.
    """
    estimates, errors = part["estimate"].to_numpy(dtype=float), part["std_error"].to_numpy(dtype=float)
    df, n = part["df"].to_numpy(dtype=float), len(part)
    squares = errors**2
    error = float(np.sqrt(squares.sum()) / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = float((squares**2 / df).sum())
        degrees = float(squares.sum() ** 2 / below) if below > 0 else np.inf
        estimate = float(estimates.mean())
        statistic = float(np.float64(estimate) / error)
    capped = min(degrees, 1e10)
    half = float(stdtrit(capped, 0.5 + ci_prob / 2)) * error
    return {
        "estimate": estimate,
        "std_error": error,
        "statistic": statistic,
        "df": degrees,
        "p_value": float(2 * stdtr(capped, -abs(statistic))),
        "ci_low": estimate - half,
        "ci_high": estimate + half,
        "n_groups": n,
        "between_sd": float(estimates.std(ddof=1)) if n > 1 else np.nan,
    }
