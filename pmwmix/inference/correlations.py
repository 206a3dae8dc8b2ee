"""Correlations of random effects and of residuals, level by level, with errors and intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pmwmix.inference.components import confint_varcorr


def correlations(fit: Any, ci_prob: float = 0.95) -> pd.DataFrame:
    """Correlations of random effects and, of several outcomes, of residuals: those of the outcomes at every level.

    Parameters
    ----------
    ci_prob : float
        Probability of the interval.

    Returns
    -------
    DataFrame
        A row per covariance of ``varcorr``: ``level, first, second, correlation, std_error, ci_low, ci_high``.
        Correlations of random intercepts are those of the groups' means apart from sampling error, which correlations
        of observed means are not (outcomes, eq. 10). Without errors where a variance is zero.

    Raises
    ------
    OptionError
        If ``ci_prob`` is not between 0 and 1.

    Notes
    -----
    As in `confint_varcorr`: delta-method errors, intervals through Fisher's z, pooled over plausible values.
    """
    table = confint_varcorr(fit, ci_prob)
    own = table[table["var2"].notna()].reset_index(drop=True)
    names = {"grp": "level", "var1": "first", "var2": "second", "estimate": "correlation", "se": "std_error"}
    return own.rename(columns=names)


__all__ = ["correlations"]
