"""What is missing: fractions of missing information by source, Monte-Carlo errors, and how many values are enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtri

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.inference.delta import complete_df
from pmwmix.inference.icc import icc_of_fits
from pmwmix.pooling import pool
from pmwmix.pooling.nested import Source, sources_of
from pmwmix.prediction.rows import live_rows

SURE = 0.975  # one-sided probability of the bound on the fraction of missing information


def missing_information(fit: Any, cv: float = 0.05) -> pd.DataFrame:
    """How much of the information is missing, for which reason, and how many values would be enough.

    Parameters
    ----------
    fit : FitResult
        Pooled over plausible values, imputed tables or both.
    cv : float
        Coefficient of variation of standard errors that is wanted when everything is imputed anew.

    Returns
    -------
    DataFrame
        By ``kind`` (``"coef"``, ``"varcorr"``: on the scale of variances, of one outcome ``"icc"``) and ``term``:
        ``estimate, std_error, df``; ``riv``, relative increase of the variance; ``lambda``, its share; ``fmi``
        (theory, eq. 25); ``mc_error``, the standard deviation of the estimate over repeated imputation; ``enough``,
        the number of values for which standard errors vary by ``cv``. With several sources ``fmi_<source>``: the part
        of each, and no ``enough``, which is about one.

    Raises
    ------
    NotSupportedError
        If the fit is not pooled.

    Notes
    -----
    Imputations, eqs. 10-13. ``mc_error`` is White, Royston and Wood's (2011) [1]_, ``enough`` von Hippel's (2020) [2]_
    second stage. Fractions by source are Harel's (2007) [3]_, innermost first; one is below zero where differences are
    smaller than chance would make them.

    References
    ----------
    .. [1] White, I. R., Royston, P. & Wood, A. M. (2011). Multiple imputation using chained equations. Statistics in
       Medicine, 30(4), 377-399. doi:10.1002/sim.4067
    .. [2] von Hippel, P. T. (2020). How many imputations do you need? A two-stage calculation using a quadratic rule.
       Sociological Methods & Research, 49(3), 699-718. doi:10.1177/0049124117747303
    .. [3] Harel, O. (2007). Inferences on missing information under multiple imputation and two-stage multiple
       imputation. Statistical Methodology, 4(1), 75-89.
    """
    if fit.pooled is None:
        raise NotSupportedError(
            f"Missing information is seen in the differences between fits. This one of {fit.formula!r} is single. "
            f"Fit with pv={{...}}, pass imputed tables, or pool fits by pmwmix.pool."
        )
    if not 0 < cv < 1:
        raise OptionError(f"cv is a coefficient of variation between 0 and 1. Got {cv!r}. Write for example cv=0.05.")
    coef, variances = np.array([one.coef for one in fit.fits]), np.array([np.diag(one.vcov) for one in fit.fits])
    complete: Any = np.mean([one.df().to_numpy() for one in fit.fits], axis=0)
    parts = [("coef", list(fit.coef.index), coef, variances, complete)]
    names = [" ".join(filter(_is_text, row)) for row in fit.varcorr[["grp", "var1", "var2"]].to_numpy().tolist()]
    tables = np.array([one.varcorr[["vcov", "se"]].to_numpy(dtype=float) for one in fit.fits])
    parts.append(("varcorr", names, tables[:, :, 0], tables[:, :, 1] ** 2, complete_df(fit)))
    if not fit.outcomes and live_rows(fit) and np.isfinite(np.asarray(fit.icc, dtype=float)).all():
        values, covariances = icc_of_fits(fit)
        levels = list(fit.n_groups.index)[-values.shape[1] :]
        parts.append(("icc", levels, values, np.diagonal(covariances, axis1=1, axis2=2), complete_df(fit)))
    return pd.concat([_table(fit, *part, cv) for part in parts], ignore_index=True)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _table(fit: Any, kind: str, names: list[str], values: Array, variances: Array, df: Any, cv: float) -> pd.DataFrame:
    """Lay the numbers of one kind out, a row per name."""
    pooled, sources = pool(values, variances, df, fit.nests), sources_of(values, fit.nests, together=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        riv = pooled.added / pooled.within
        error = np.sqrt(sum((one.component / one.n_units for one in sources), np.zeros(values.shape[1])))
    out = {"estimate": pooled.estimate, "std_error": np.sqrt(pooled.vcov), "df": pooled.df, "riv": riv}
    out |= {"lambda": riv / (1.0 + riv), "fmi": pooled.fmi, "mc_error": error}
    if len(sources) == 1:
        out["enough"] = enough(pooled.fmi, len(values), cv)
    else:
        out |= {f"fmi_{one.name}": part for one, part in zip(sources, by_source(sources, pooled.within), strict=True)}
    return pd.DataFrame({"kind": kind, "term": names, **out})


def by_source(sources: Sequence[Source], within: Array) -> list[Array]:
    """Fractions of missing information (P,) by source, each in turn added to those inside it (imputations, eq. 12)."""
    so_far, lost, out = np.zeros(within.shape), np.zeros(within.shape), []
    for one in reversed(sources):
        so_far = so_far + one.component
        with np.errstate(divide="ignore", invalid="ignore"):
            share = so_far / (within + so_far)
        out.append(share - lost)
        lost = share
    return out[::-1]


def enough(fmi: Array, K: int, cv: float) -> Array:
    """Count the imputations for which standard errors vary by ``cv`` over repeated imputation (imputations, eq. 13)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = expit(logit(fmi) + ndtri(SURE) * np.sqrt(2.0 / K))
    return np.ceil(1.0 + 0.5 * (bound / cv) ** 2)
