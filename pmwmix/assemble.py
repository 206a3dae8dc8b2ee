"""From estimates to a FitResult, and from several FitResults to a pooled one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import OptionError
from pmwmix.estimate import Estimate, Problem, fit_all, satterthwaite
from pmwmix.frame import ModelFrame
from pmwmix.generalised import STILL, GeneralEstimate, GeneralProblem, fit_general
from pmwmix.poolable import same_terms
from pmwmix.predict import Rows, blueprint_of, stamp_of
from pmwmix.refits import with_replicates
from pmwmix.replicate_types import BY_REPLICATES
from pmwmix.responses import is_linear
from pmwmix.results import FitResult
from pmwmix.rubin import rubin
from pmwmix.settings import Settings

Array = np.ndarray


def component_names(frame: ModelFrame) -> list[tuple[str, str, str | None]]:
    """Name the entries of Λ in the order of theta: (group, row term, column term or None on the diagonal)."""
    seen: dict[str, int] = {}
    out: list[tuple[str, str, str | None]] = []
    for block in frame.designs[0].blocks:
        name = frame.hierarchy.levels[block.level].name
        again = seen.get(name, 0)
        seen[name] = again + 1
        label = name if not again else f"{name}.{again}"
        terms = block.matrix.names
        for j, second in enumerate(terms):
            out.append((label, second, None))
            out.extend((label, terms[i], second) for i in range(j + 1, len(terms)))
    return out


def variance_components(frame: ModelFrame, Psi: Sequence[Array], sigma: float) -> Array:
    """Lower triangles of the blocks of Psi in the order of theta, then sigma²; shape (n_theta + 1,)."""
    out: list[float] = []
    offsets = [0] * len(Psi)
    for block in frame.designs[0].blocks:
        matrix, start, q = Psi[block.level], offsets[block.level], len(block.matrix.names)
        for j in range(q):
            out.extend(matrix[start + i, start + j] for i in range(j, q))
        offsets[block.level] += q
    return np.array([*out, sigma**2])


def varcorr_table(
    names: Sequence[tuple[str, str, str | None]], values: Array, variance: Array, residual: bool = True
) -> pd.DataFrame:
    """Lay variance components out as lme4's ``as.data.frame(VarCorr(fit))``, with standard errors.

    Parameters
    ----------
    names : sequence of (group, term, other term)
    values : ndarray, shape (n + 1,)
        In the order of ``names``, sigma² last.
    variance : ndarray, shape (n + 1,)
        Squared standard errors; those of components on the boundary are NaN.
    residual : bool
        Whether the last value is a residual variance; otherwise it is that of a latent distribution and not shown.
    """
    sizes = {(g, a): v for (g, a, b), v in zip(names, values, strict=False) if b is None}
    rows: list[dict[str, Any]] = []
    groups = list(dict.fromkeys(g for g, _, _ in names))
    for group in groups:
        for covariances in (False, True):
            for (g, a, b), value, square in zip(names, values, variance, strict=False):
                if g != group or (b is not None) != covariances:
                    continue
                if b is None:
                    shown, first, second = np.sqrt(value), a, None
                else:
                    product = np.sqrt(sizes[g, a] * sizes[g, b])
                    shown, first, second = (value / product if product > 0 else np.nan), b, a
                rows.append(
                    {"grp": g, "var1": first, "var2": second, "vcov": value, "sdcor": shown, "se": np.sqrt(square)}
                )
    if residual:
        last = {"grp": "Residual", "var1": None, "var2": None, "vcov": values[-1], "sdcor": np.sqrt(values[-1])}
        rows.append({**last, "se": np.sqrt(variance[-1])})
    table = pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor", "se"])
    for name in ("var1", "var2"):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table


def icc_of(
    names: Sequence[tuple[str, str, str | None]], values: Array, levels: Sequence[str], crossed: bool = False
) -> Any:
    """Share of the intercept variance at or above each level; a float with one level (theory, eq. 27).

    Of crossed factors the share of each (crossed, eq. 7).
    """
    if not levels:
        return float("nan")
    intercepts = dict.fromkeys(levels, 0.0)
    for (group, term, other), value in zip(names, values, strict=False):
        base = group if group in intercepts else group.rsplit(".", 1)[0]
        if term == "Intercept" and other is None:
            intercepts[base] += float(value)
    total = sum(intercepts.values()) + float(values[-1])
    above, out = 0.0, {}
    for level in reversed(levels):
        above = intercepts[level] + (0.0 if crossed else above)
        out[level] = above / total
    shares = pd.Series(out, name="icc", dtype=float)[list(levels)]
    return float(shares.iloc[0]) if len(levels) == 1 else shares


def weight_table(frame: ModelFrame) -> pd.DataFrame:
    """Statistics of the total weights per level, and mean, sum and effective size of those used after scaling."""
    rows = {}
    for name in frame.level_names:
        if (name, "total") in frame.weight_stats:
            total, used = frame.weight_stats[name, "total"], frame.weight_stats[name, "used"]
            rows[name] = {
                "n": total.n, "mean": total.mean, "sum": total.sum, "min": total.min, "max": total.max,
                "cv": total.cv, "n_eff": total.n_eff, "used_mean": used.mean, "used_sum": used.sum,
                "used_min": used.min, "used_max": used.max, "used_cv": used.cv, "used_n_eff": used.n_eff,
            }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def single(
    frame: ModelFrame,
    problem: Any,
    k: int,
    fit: Estimate,
    settings: Settings,
    design: int,
    number: int,
) -> FitResult:
    """Wrap one estimate."""
    columns = frame.designs[design]
    names = component_names(frame)
    general = isinstance(fit, GeneralEstimate)
    terms = list(fit.terms) if isinstance(fit, GeneralEstimate) else [columns.x.names[j] for j in problem.kept]
    p, V = len(terms), fit.vcov
    values = variance_components(frame, fit.Psi, fit.sigma)
    more: dict[str, Any] = {}
    if isinstance(fit, GeneralEstimate):
        assert isinstance(problem, GeneralProblem)
        values[-1], V = fit.latent, fit.joint[: len(V) + 1, : len(V) + 1]  # in the place of the residual variance
        more = _general_fields(frame, problem, fit, k)
    else:
        more = {"satterthwaite": partial(satterthwaite, problem, fit)}
    variance = np.diag(V)[p:].copy()
    variance[:-1][_undetermined(names, values, values[-1] if np.isfinite(values[-1]) else 1.0) | fit.flat] = np.nan
    blueprint = blueprint_of(frame, columns, problem, frame.means[design], number)
    levels = [level.name for level in frame.hierarchy.levels]
    return FitResult(
        coef=pd.Series(fit.beta, index=terms, name="coef"),
        vcov=pd.DataFrame(V[:p, :p], index=terms, columns=terms),
        varcorr=varcorr_table(names, values, variance, residual=not general),
        sigma=fit.sigma,
        theta=pd.Series(fit.theta, index=[_theta_name(*name) for name in names], name="theta"),
        loglik=fit.loglik,
        nobs=frame.n,
        n_groups=pd.Series({level.name: level.n for level in frame.hierarchy.levels}, name="n_groups", dtype=int),
        icc=icc_of(names, values, levels, bool(frame.hierarchy.crossed)),
        weight_stats=weight_table(frame),
        converged=fit.converged,
        singular=fit.singular,
        status=fit.status.value,
        notes=(*frame.notes, *_fit_notes(problem, frame), *_node_notes(fit)),
        settings=settings,
        parameters=(np.concatenate([fit.beta, values]), V),
        index=frame.index,
        rows=Rows(frame, columns, problem, k, fit, blueprint, stamp_of(columns, k)),
        small_df=fit.small_df,
        **more,
    )


def _general_fields(frame: ModelFrame, problem: GeneralProblem, fit: GeneralEstimate, k: int) -> dict[str, Any]:
    error = np.sqrt(np.maximum(np.diag(fit.reported_vcov), 0.0))
    return {
        "family": frame.family,
        "link": frame.link,
        "phi": fit.phi,
        "family_parameters": pd.DataFrame(
            {"estimate": list(fit.reported.values()), "se": error}, index=list(fit.reported), dtype=float
        ),
        "quadrature": {"n_agq": fit.n_agq, "moved": fit.moved},
        "categories": problem.responses[k].categories,
    }


def _undetermined(names: Sequence[tuple[str, str, str | None]], values: Array, unit: float) -> Array:
    """Components without a standard error: zero variances and covariances with them."""
    zero = {(g, a) for (g, a, b), v in zip(names, values, strict=False) if b is None and v <= 1e-9 * unit}
    return np.array([(g, a) in zero or (g, b) in zero for g, a, b in names], dtype=bool)


def _theta_name(group: str, term: str, other: str | None) -> str:
    return f"{group}.{term}" if other is None else f"{group}.{term}.{other}"


def _node_notes(fit: Estimate) -> list[str]:
    if not isinstance(fit, GeneralEstimate) or not fit.moved >= STILL:
        return []
    return [
        f"The largest rule of the automatic choice was reached, {max(fit.n_agq)} nodes per random effect, and "
        f"estimates had moved {fit.moved:.2f} standard errors at the last increase. Give n_agq a larger number to see "
        f"whether they have settled."
    ]


def _fit_notes(problem: Problem | GeneralProblem, frame: ModelFrame) -> list[str]:
    notes = []
    if problem.dropped:
        notes.append(
            f"Fixed columns dropped because they are linear combinations of the ones before them: "
            f"{', '.join(problem.dropped)}."
        )
    if problem.reml and any(frame.weighted):
        notes.append(
            "REML treats weights as numbers of groups (N - p rows are left), so that, unlike under ML, their overall "
            "scale matters; with weights that sum to the population the correction vanishes."
        )
    if frame.hierarchy.single_child:
        notes.append(
            f"Every unit of {', '.join(frame.hierarchy.single_child)} has a single unit below it: the variances of the "
            f"two levels cannot be told apart, only their sum."
        )
    return notes


def fit_frame(
    frame: ModelFrame,
    settings: Settings,
    engine: str,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
    executor: Any = None,
) -> FitResult:
    """Fit every plausible value of a frame and wrap the results."""
    wanted = settings.vcov in BY_REPLICATES
    scheme = frame.replicates if wanted and frame.replicates and frame.replicates.serves(frame) else None
    if scheme is None and wanted:  # a level or the weights changed since the replicates were made
        settings = replace(settings, vcov="robust", replicates=None)
    how = settings.vcov if scheme is None else "model"
    estimates: list[Any]
    places: list[Any]
    if frame.linear:
        estimates, places = fit_all(frame, settings.method == "reml", how, engine, progress)
    else:
        estimates, places = fit_general(frame, how, engine, settings.n_agq, progress, settings.chunk_size)
    if scheme is not None:
        single_step = settings.vcov == "replicate-one-step"
        estimates, notes = with_replicates(frame, estimates, places, scheme, single_step=single_step, executor=executor)
        frame = replace(frame, notes=tuple(dict.fromkeys((*frame.notes, *notes))))
    fits = []
    for number, (estimate, (problem, k)) in enumerate(zip(estimates, places, strict=True)):
        part = number if len(frame.designs) > 1 else 0
        fits.append(single(frame, problem, k, estimate, settings, part, number))
    return fits[0] if len(fits) == 1 else pool_results(fits)


def refit(fit: FitResult, change: Callable[[ModelFrame], ModelFrame] | None = None, **settings: Any) -> FitResult:
    """Fit again with other settings (``method="ml"``) or on a changed frame.

    Raises
    ------
    OptionError
        If the fit was loaded from a file, which does not keep the data.
    """
    if any(not isinstance(one.rows, Rows) for one in fit.fits):
        raise OptionError(
            "This needs a new fit, and a loaded fit does not keep the data. The fit came from pmwmix.load. "
            "Call pmwmix.fit again."
        )
    frames = list({id(one.rows.frame): one.rows.frame for one in fit.fits}.values())
    new = replace(fit.settings, **settings)
    engine = getattr(fit.fits[0].rows.problem.objective, "engine", "jax")
    again = [fit_frame(frame if change is None else change(frame), new, engine) for frame in frames]
    return again[0] if len(again) == 1 else pool_results([part for one in again for part in one.fits])


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
