"""Parameters of a residual structure with standard errors and intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit, stdtrit

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.inference.delta import complete_df
from pmwmix.spec.checks import check_prob

Curve = Callable[[Any], Any]
WAYS: dict[str, tuple[Curve, Curve, Curve]] = {  # to the scale of the interval, its slope, and back
    "correlation": (np.arctanh, lambda x: 1.0 / (1.0 - x**2), np.tanh),
    "share": (logit, lambda x: 1.0 / (x * (1.0 - x)), expit),
    "positive": (np.log, lambda x: 1.0 / x, np.exp),
    "number": (lambda x: x, lambda x: 1.0, lambda x: x),
}


def residual_table(fit: Any, ci_prob: float = 0.95) -> pd.DataFrame:
    """Table of the parameters of the residual structure.

    Parameters
    ----------
    ci_prob : float
        Probability of the interval.

    Returns
    -------
    DataFrame
        By parameter: ``estimate, std_error, ci_low, ci_high``. Correlations are between -1 and 1, ranges in units of
        the distances, ``Sex[Female]`` the ratio of that category's residual standard deviation to the first one's,
        ``power(x)`` and ``exp(x)`` the exponent δ.

    Raises
    ------
    NotSupportedError
        If the model has no residual structure.
    OptionError
        If ``ci_prob`` is not between 0 and 1.

    Notes
    -----
    Intervals are symmetric on Fisher's z for correlations, the logit for numbers between 0 and 1, the logarithm for
    positive numbers (residuals, eq. 9), with the covariance that the fit was asked for. Degrees of freedom are those of
    `confint_varcorr`.
    """
    check_prob(ci_prob)
    table = fit.residual_parameters
    if table is None:
        raise NotSupportedError(
            "This model has no residual structure: its residuals are independent with one variance. "
            f"It is {fit.formula!r}. Fit with residual={{...}} to have one."
        )
    quantile = float(stdtrit(min(complete_df(fit), 1e10), 0.5 + ci_prob / 2))
    rows = zip(table["estimate"], table["se"], table["scale"], strict=True)
    ends = np.array([_ends(estimate, se, scale, quantile) for estimate, se, scale in rows])
    columns = {"estimate": table["estimate"], "std_error": table["se"], "ci_low": ends[:, 0], "ci_high": ends[:, 1]}
    return pd.DataFrame(columns, index=table.index)


def _ends(estimate: float, se: float, scale: str, quantile: float) -> Array:
    there, slope, back = WAYS[scale]
    with np.errstate(divide="ignore", invalid="ignore"):
        half = quantile * se * slope(estimate)
        return np.array([back(there(estimate) - half), back(there(estimate) + half)])


__all__ = ["WAYS", "residual_table"]
