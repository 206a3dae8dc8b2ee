"""Results of several plausible values, or of fits made elsewhere, pooled into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import OptionError, near, some
from pmwmix.pooling import Pooled, pool
from pmwmix.results.result import FitResult
from pmwmix.spec.settings import Settings

RULES = ("rubin", "nested", "crossed")


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
    if first.coef.empty:
        return first
    df = first.design_df if first.settings.vcov != "model" else np.inf
    nests = [fit.nest for fit in fits]
    values, covariances = (np.array([fit.parameters[i] for fit in fits]) for i in range(2))
    every = pool(values, covariances, df, nests)
    beta = pool(np.array([fit.coef for fit in fits]), np.array([fit.vcov for fit in fits]), df, nests)
    found = FitResult(
        coef=pd.Series(beta.estimate, index=first.coef.index, name="coef"),
        vcov=pd.DataFrame(beta.vcov, index=first.coef.index, columns=first.coef.index),
        varcorr=_pooled_varcorr(fits),
        sigma=_pooled_sigma(fits, every.estimate),
        theta=pd.concat([fit.theta for fit in fits], axis=1).mean(axis=1).rename("theta"),
        loglik=float(np.mean([fit.loglik for fit in fits])),
        nobs=first.nobs,
        n_groups=first.n_groups,
        icc=None if first.icc is None else sum(fit.icc for fit in fits) / len(fits),
        weight_stats=first.weight_stats,
        converged=all(fit.converged for fit in fits),
        singular=any(fit.singular for fit in fits),
        status=_pooled_status(fits),
        notes=tuple(dict.fromkeys(note for fit in fits for note in fit.notes)),
        settings=settings or first.settings,
        pooled=beta,
        parameters=(every.estimate, every.vcov),
        index=first.index,
        each=tuple(fits),
        family=first.family,
        link=first.link,
        outcomes=first.outcomes,
        n_starts=max(fit.n_starts for fit in fits),
        **_pooled_general(fits),
    )
    return replace(found, sigma=found.sigmas) if found.outcomes else found


def _pooled_sigma(fits: Sequence[FitResult], estimate: Array) -> float:
    """Pool the residual standard deviation from the pooled parameters (P,); NaN of several outcomes."""
    first = fits[0]
    if first.outcomes:
        return float("nan")
    if not first.has_residual_variance:
        return float(np.mean([fit.sigma for fit in fits]))
    return float(np.sqrt(estimate[len(first.coef) + len(first.theta)]))


def pooled_frames(fits: Sequence[FitResult]) -> FitResult:
    """Pool the fits of several frames, such as imputed tables, part by part; one stays as it is."""
    return fits[0] if len(fits) == 1 else pool_results([part for one in fits for part in one.fits])


def labelled(fits: Sequence[FitResult], rule: str | None) -> list[FitResult]:
    """Give the parts of fits the labels that a rule of pooling asks for.

    Raises
    ------
    OptionError
        If the rule is none, or is about other fits than these.
    """
    parts = [part for one in fits for part in one.fits]
    if rule is None:
        if len(fits) > 1 and any(one.pooled is not None and any(one.nests) for one in fits):
            raise OptionError(
                f"Fits of several sources cannot be pooled with others without a rule. The sources of the first are "
                f"{', '.join(fits[0].nests[0]) or 'none'}. Say rule='nested', 'crossed' or 'rubin'."
            )
        return parts
    if rule not in RULES:
        raise OptionError(f"Unknown rule of pooling {rule!r}.{near(str(rule), RULES)} Use one of {', '.join(RULES)}.")
    if rule == "rubin":
        return [replace(part, nest=()) for part in parts]
    sizes = [one.n_pv for one in fits]
    if len(fits) < 2 or len(set(sizes)) > 1 or sizes[0] < 2:
        raise OptionError(
            f"Nested and crossed pooling takes one fit per imputed table, each with the same number of plausible "
            f"values. Got {len(fits)} fits with {some([str(n) for n in sizes])} of them. Pool with rule='rubin'."
        )
    own = {"nested": "{m}.{k}", "crossed": "{k}"}[rule]
    return [
        replace(part, nest=(f"imputation {m}", f"PV {own.format(m=m, k=k)}"))
        for m, one in enumerate(fits, start=1)
        for k, part in enumerate(one.fits, start=1)
    ]


def _pooled_general(fits: Sequence[FitResult]) -> dict[str, Any]:
    """Pool the parameters of a residual structure, or what only generalised models have."""
    first = fits[0]
    if first.has_closed_form:
        names = [name for name in ("residual_parameters", "latent_means") if getattr(first, name) is not None]
        tables = {name: [getattr(fit, name) for fit in fits] for name in names}
        of = {name: _one_by_one(fits, every, "estimate") for name, every in tables.items()}
        return {k: tables[k][0].assign(estimate=one.estimate, se=np.sqrt(one.vcov)) for k, one in of.items()}
    found = _one_by_one(fits, [fit.family_parameters for fit in fits], "estimate")
    table = first.family_parameters.assign(estimate=found.estimate, se=np.sqrt(found.vcov))
    out = {"phi": first.phi, "family_parameters": table, "categories": first.categories}
    out["random_shape"] = first.random_shape
    if first.quadrature is None:  # no random term
        return out
    nodes = tuple(max(part) for part in zip(*(fit.quadrature["n_agq"] for fit in fits), strict=True))
    most = {name: float(np.max([fit.quadrature[name] for fit in fits])) for name in ("moved", "loglik_error")}
    return {**out, "quadrature": {**first.quadrature, "n_agq": nodes, **most}}


def _one_by_one(fits: Sequence[FitResult], tables: Sequence[pd.DataFrame], column: str) -> Pooled:
    """Pool the numbers of a column of every fit, each for itself, with their standard errors in ``se``.

    Where some fits are on the boundary and have none, the others give the variance within.
    """
    values, errors = (np.array([table[name].to_numpy(dtype=float) for table in tables]) for name in (column, "se"))
    known = np.isfinite(errors)
    within = np.where(known, errors**2, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    variances = np.where(known, errors**2, np.where(known.any(axis=0), within, np.nan))
    return pool(values, variances, nests=[fit.nest for fit in fits])


def _pooled_varcorr(fits: Sequence[FitResult]) -> pd.DataFrame:
    """Pooled (co)variances with their standard errors; correlations through Fisher's z."""
    table, found = fits[0].varcorr.copy(), _one_by_one(fits, [fit.varcorr for fit in fits], "vcov")
    sdcor = np.array([fit.varcorr["sdcor"].to_numpy(dtype=float) for fit in fits])
    table["vcov"], table["se"] = found.estimate, np.sqrt(found.vcov)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.arctanh(np.clip(sdcor, -1, 1))
        correlation = np.tanh(z.mean(axis=0))
        for row in np.flatnonzero(np.isinf(z).any(axis=0) & table["var2"].notna().to_numpy()):
            variance = table[(table["grp"] == table["grp"][row]) & table["var2"].isna()].set_index("var1")["vcov"]
            sizes = variance[table["var1"][row]], variance[table["var2"][row]]  # one has no z: the pooled covariance
            correlation[row] = table["vcov"][row] / np.sqrt(sizes[0] * sizes[1])
        table["sdcor"] = np.where(table["var2"].notna(), correlation, np.sqrt(np.maximum(table["vcov"], 0)))
    return table


def _pooled_status(fits: Sequence[FitResult]) -> str:
    what = f"{len(fits)} {'fits' if any(fit.nest for fit in fits) else 'plausible values'}"
    stopped = [fit for fit in fits if not fit.converged]
    singular = [fit for fit in fits if fit.singular]
    if stopped:
        return f"Not all of the {what} converged ({_places(stopped, fits)}): {stopped[0].status}"
    if singular:
        return f"All {what} converged, {_places(singular, fits)} on the boundary: {singular[0].status}"
    return f"All {what} converged."


def _places(some_of: Sequence[FitResult], fits: Sequence[FitResult]) -> str:
    """Say which of the fits these are: by their numbers, or by their labels."""
    if any(fit.nest for fit in fits):
        return some([" and ".join(fit.nest) for fit in some_of])
    return f"number {', '.join(str(number) for number, fit in enumerate(fits, start=1) if fit in some_of)}"


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
        for name in ("vcov", "method", "scaling", "weights", "conditional", "residual"):
            a, b = getattr(first.settings, name), getattr(other.settings, name)
            if a != b:
                raise OptionError(
                    f"Fits to be pooled must be made alike. Fit {number} has {name}={b!r}, the first {a!r}. "
                    f"Refit with the same options."
                )
