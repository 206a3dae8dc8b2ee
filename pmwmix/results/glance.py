"""A fit in one row, and its rows with what it says of them: broom's ``glance`` and ``augment``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pmwmix.data.table import Table
from pmwmix.errors import DataError, NotSupportedError
from pmwmix.inference.criteria import n_parameters


def glance(fit: Any) -> pd.DataFrame:
    """Sum a fit up in one row.

    Returns
    -------
    DataFrame
        ``nobs, n_<level>, icc`` (or ``icc_<level>``), ``sigma`` (of several outcomes ``sigma_<outcome>``), ``npar,
        loglik, aic, bic, converged, singular, status``.
        ``aic`` and ``bic`` are design-adjusted under sampling weights, and NaN where a loaded fit cannot give them.
    """
    return pd.DataFrame([glance_row(fit)])


def glance_row(fit: Any) -> dict[str, Any]:
    """Give the same by name; of a posterior what it has of it."""
    units = {f"n_{name}": int(n) for name, n in fit.n_groups.items()}
    icc = fit.icc
    shares = {f"icc_{k}": v for k, v in icc.items()} if isinstance(icc, pd.Series) else {"icc": icc}
    own_sigma = fit.has_residual_variance or "sigma" in getattr(fit.family_parameters, "index", ())
    sigma: dict[str, Any] = {"sigma": fit.sigma if own_sigma else np.nan}
    if getattr(fit, "outcomes", ()):
        sigma = {f"sigma_{name}": sd for name, sd in fit.sigmas.items()}
    criteria = {} if fit.method == "bayes" else {name: _known(fit, name) for name in ("npar", "loglik", "aic", "bic")}
    state = {"converged": fit.converged, "singular": fit.singular, "status": fit.status}
    return {"nobs": fit.nobs, **units, **shares, **sigma, "loglik": np.nan, **criteria, **state}


def _known(fit: Any, name: str) -> float:
    try:
        return n_parameters(fit) if name == "npar" else getattr(fit, name)
    except NotSupportedError:
        return np.nan


def augment(fit: Any, data: Any = None) -> pd.DataFrame:
    """Give the rows of the likelihood with fitted values and residuals.

    Parameters
    ----------
    data : table, optional
        The table of the fit: its columns come first. None: the new columns alone.

    Returns
    -------
    DataFrame
        A row per row of the likelihood, labelled as in the table: ``.fitted`` with and ``.fixed`` without the
        conditional modes, ``.resid`` and ``.pearson`` (`residuals`). An ordinal outcome has probabilities,
        ``.fitted[category]``, and no residuals, several outcomes a column each, ``.fitted[math]``.
        With plausible values the means of theirs.

    Raises
    ------
    DataError
        If the table lacks rows of the fit, or their labels repeat.
    """
    new: dict[str, Any] = {}
    said = {".fitted": fit.fitted(), ".fixed": fit.fitted(conditional=False)}
    if fit.distribution[0].has_residuals:
        said |= {".resid": fit.residuals(), ".pearson": fit.residuals("pearson")}
    for name, values in said.items():
        if isinstance(values, pd.DataFrame):
            new |= {f"{name}[{column}]": values[column] for column in values}
        else:
            new[name] = values
    index = next(iter(new.values())).index
    out = pd.DataFrame({name: np.asarray(values) for name, values in new.items()}, index=index)
    return out if data is None else pd.concat([_rows_of(index, data), out], axis=1)


def _rows_of(index: Any, data: Any) -> pd.DataFrame:
    """Columns of the table in the rows of the fit."""
    table = Table(data)
    columns = pd.DataFrame(table.columns(table.names)).set_axis(table.index, axis=0)
    if not columns.index.is_unique:
        raise DataError(
            "Rows are found by their labels. Those of the table repeat. Call data.reset_index(drop=True) before the "
            "fit."
        )
    lost = index.difference(columns.index)
    if len(lost):
        raise DataError(
            f"The table is not that of the fit. It lacks {len(lost)} of its rows, such as {lost[0]!r}. Give the table "
            f"that was fitted, with its index."
        )
    return columns.loc[index]
