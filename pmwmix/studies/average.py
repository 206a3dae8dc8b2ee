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
        ``estimate, std_error, df``, a row per group; all is missing (NaN) without any.
    ci_prob : float

    Returns
    -------
    dict
        ``estimate, std_error, statistic, df, p_value, ci_low, ci_high, n_groups, between_sd``.
    """
    estimates, errors = part["estimate"].to_numpy(dtype=float), part["std_error"].to_numpy(dtype=float)
    df, n = part["df"].to_numpy(dtype=float), len(part)
    if not n:
        names = ("estimate", "std_error", "statistic", "df", "p_value", "ci_low", "ci_high")
        return {**dict.fromkeys(names, np.nan), "n_groups": 0, "between_sd": np.nan}
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


def said_of_others(table: pd.DataFrame) -> str:
    """Say which averages leave groups out because the term means something else there."""
    names = table[[name for name in ("grp", "var1", "var2", "term") if name in table]].astype(object)
    texts = [".".join(str(word) for word in row if isinstance(word, str)) for row in names.to_numpy()]
    pairs = [f"{text} ({n} of {n + m})" for text, n, m in zip(texts, table["n_groups"], table["n_other"], strict=True)]
    return (
        f"Terms mean different things in different groups (reference categories, or a basis, scale and origin of "
        f"each group's own). Averaged over comparable groups only, or not at all: {', '.join(pairs)}. Recode so that "
        f"every group has the first category, or compute the basis on the whole table before."
    )
