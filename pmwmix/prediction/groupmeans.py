"""Expected latent group means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pmwmix.data.codes import printed
from pmwmix.errors import NotSupportedError
from pmwmix.prediction.rows import live_rows


def group_means(fit: Any) -> pd.DataFrame:
    """Give the expected latent means of all groups, given the outcome and the predictors (latent-means, eq. 9).

    Returns
    -------
    DataFrame
        Groups as index, a column per latent mean in units of its predictor; with plausible values the mean over them.

    Raises
    ------
    NotSupportedError
        Without latent means in the formula, or if the fit was read from a file.
    """
    every = live_rows(fit)
    if fit.latent_means is None or not every:
        why, cure = "was read from a file", "Fit it again"
        if fit.latent_means is None:
            why, cure = "has none", "Write for example latent_mean(escs, school) among its predictors"
        raise NotSupportedError(
            f"Expected latent means come from a fit with its rows and with latent means. That of {fit.formula!r} "
            f"{why}. {cure}."
        )
    level, design = every[0].frame.hierarchy.levels[0], every[0].design
    assert design.latent is not None
    values = np.mean([rows.group_means() for rows in every], axis=0)
    return pd.DataFrame(values, index=pd.Index(printed(level.labels), name=level.name), columns=[*design.latent.names])
