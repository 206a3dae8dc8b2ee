"""Results of several plausible values, or of fits made elsewhere, pooled into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import OptionError
from pmwmix.pooling.rubin import rubin
from pmwmix.prediction.responses import is_linear
from pmwmix.results.result import FitResult
from pmwmix.spec.settings import Settings


def pool_results(fits: Sequence[FitResult], settings: Settings | None = None) -> FitResult:
    """Pool fits of the same model by Rubin's rules (theory, eqs. 22-25).

    Raises
    ------
    OptionError
        If there is nothing to pool, or the fits are of different models.
    """
    if not fits:
        raise OptionError("There is nothing to pool. The list of fits is empty. Pass fits made by pmwmix.fit.")
    if len(fits) == 1:
        return fits[0]
    same_terms(fits)
    first = fits[0]
    p = len(first.coef)
    df = first.settings.design_df if first.settings.vcov != "model" else np.inf
    every = rubin(np.array([fit.parameters[0] for fit in fits]), np.array([fit.parameters[1] for fit in fits]), df)
    beta = rubin(np.array([fit.coef.to_numpy() for fit in fits]), np.array([fit.vcov.to_numpy() for fit in fits]), df)
    varcorr = _pooled_varcorr(fits)
    icc = first.icc
    icc = sum(fit.icc for fit in fits) / len(fits) if icc is not None else None
    stopped = [str(number) for number, fit in enumerate(fits, start=1) if not fit.converged]
    singular = [str(number) for number, fit in enumerate(fits, start=1) if fit.singular]
    return (
        FitResult(
            coef=pd.Series(beta.estimate, index=first.coef.index, name="coef"),
            vcov=pd.DataFrame(beta.vcov, index=first.coef.index, columns=first.coef.index),
            varcorr=varcorr,
            sigma=float(np.sqrt(every.estimate[-1]) if is_linear(first) else np.mean([fit.sigma for fit in fits])),
            theta=pd.concat([fit.theta for fit in fits], axis=1).mean(axis=1).rename("theta"),
            loglik=float(np.mean([fit.loglik for fit in fits])),
            nobs=first.nobs,
            n_groups=first.n_groups,
            icc=icc,
            weight_stats=first.weight_stats,
            converged=not stopped,
            singular=bool(singular),
            status=_pooled_status(fits, stopped, singular),
            notes=tuple(dict.fromkeys(note for fit in fits for note in fit.notes)),
            settings=settings or first.settings,
            pooled=beta,
            parameters=(every.estimate, every.vcov),
            index=first.index,
            each=tuple(fits),
            family=first.family,
            link=first.link,
            **_pooled_general(fits),
        )
        if p
        else first
    )


def _pooled_general(fits: Sequence[FitResult]) -> dict[str, Any]:
    """Pool what only generalised models have."""
    first = fits[0]
    if is_linear(first):
        return {}
    K = len(fits)
    tables = [fit.family_parameters for fit in fits]
    values = np.array([table["estimate"] for table in tables])
    within = np.array([table["se"] for table in tables]) ** 2
    table = tables[0].copy()
    table["estimate"] = values.mean(axis=0)
    table["se"] = np.sqrt(within.mean(axis=0) + (1 + 1 / K) * values.var(axis=0, ddof=1))
    nodes = tuple(max(part) for part in zip(*(fit.quadrature["n_agq"] for fit in fits), strict=True))
    moved = float(np.max([fit.quadrature["moved"] for fit in fits]))
    return {
        "phi": first.phi,
        "family_parameters": table,
        "quadrature": {"n_agq": nodes, "moved": moved},
        "categories": first.categories,
    }


def _pooled_varcorr(fits: Sequence[FitResult]) -> pd.DataFrame:
    """Means of (co)variances with Rubin's standard errors; correlations through Fisher's z."""
    K = len(fits)
    table = fits[0].varcorr.copy()
    vcov = np.array([fit.varcorr["vcov"].to_numpy(dtype=float) for fit in fits])
    se = np.array([fit.varcorr["se"].to_numpy(dtype=float) for fit in fits])
    sdcor = np.array([fit.varcorr["sdcor"].to_numpy(dtype=float) for fit in fits])
    table["vcov"] = vcov.mean(axis=0)
    table["se"] = np.sqrt((se**2).mean(axis=0) + (1 + 1 / K) * vcov.var(axis=0, ddof=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.arctanh(np.clip(sdcor, -1, 1))
        correlation = np.tanh(z.mean(axis=0))
        for row in np.flatnonzero(np.isinf(z).any(axis=0) & table["var2"].notna().to_numpy()):
            variance = table[(table["grp"] == table["grp"][row]) & table["var2"].isna()].set_index("var1")["vcov"]
            sizes = variance[table["var1"][row]], variance[table["var2"][row]]  # one has no z: the pooled covariance
            correlation[row] = table["vcov"][row] / np.sqrt(sizes[0] * sizes[1])
        table["sdcor"] = np.where(table["var2"].notna(), correlation, np.sqrt(np.maximum(table["vcov"], 0)))
    return table


def _pooled_status(fits: Sequence[FitResult], stopped: Sequence[str], singular: Sequence[str]) -> str:
    K = len(fits)
    if stopped:
        first = fits[int(stopped[0]) - 1].status
        return f"Not all of the {K} plausible values converged (number {', '.join(stopped)}): {first}"
    if singular:
        first = fits[int(singular[0]) - 1].status
        return f"All {K} plausible values converged, number {', '.join(singular)} on the boundary: {first}"
    return f"All {K} plausible values converged."


def same_terms(fits: Sequence[FitResult]) -> None:
    """Refuse to pool fits of different models, naming what differs.

    Raises
    ------
    OptionError
    """
    first = fits[0]
    for number, other in enumerate(fits[1:], start=2):
        mine, theirs = list(first.coef.index), list(other.coef.index)
        if mine != theirs:
            differ = sorted(set(mine) ^ set(theirs)) or theirs
            raise OptionError(
                f"Only fits of one model can be pooled. Fit {number} differs from the first in {', '.join(differ)}. "
                f"Use the same formula and the same categories in all of them."
            )
        keys = [
            list(zip(f.varcorr["grp"], f.varcorr["var1"], f.varcorr["var2"].fillna(""), strict=True))
            for f in (first, other)
        ]
        if keys[0] != keys[1]:
            raise OptionError(
                f"Only fits of one model can be pooled. Fit {number} has other random effects than the first: "
                f"{other.formula!r}. Use the same random terms in all of them."
            )
        if (first.family, first.link) != (other.family, other.link):
            raise OptionError(
                f"Only fits of one model can be pooled. Fit {number} has family={other.family!r} with "
                f"link={other.link!r}, the first {first.family!r} with {first.link!r}. Use the same in all of them."
            )
        if first.nobs != other.nobs or not first.n_groups.equals(other.n_groups) or not first.index.equals(other.index):
            raise OptionError(
                f"Only fits of the same rows can be pooled. Fit {number} has {other.nobs} rows in "
                f"{dict(other.n_groups)} groups, the first {first.nobs} in {dict(first.n_groups)}, or their row labels "
                f"differ. Fit all of them to the same rows."
            )
        for name in ("vcov", "method", "scaling", "weights", "conditional"):
            a, b = getattr(first.settings, name), getattr(other.settings, name)
            if a != b:
                raise OptionError(
                    f"Fits to be pooled must be made alike. Fit {number} has {name}={b!r}, the first {a!r}. "
                    f"Refit with the same options."
                )
