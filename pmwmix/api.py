"""The ten-step walk from what the user says to a FitResult. Knows the whole route, holds no mathematics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from pmwmix.data.imputed import check_imputations, tables_of
from pmwmix.data.pieces import Stream
from pmwmix.data.table import Table
from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.frame.alike import one_sample
from pmwmix.frame.build import build_frame
from pmwmix.frame.components import with_fixed
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.frame.suspects import check_weights
from pmwmix.interrupt import OwnFrames, whole_import
from pmwmix.likelihood.engine import choose_engine
from pmwmix.resolve.fill import Filled, fill_in
from pmwmix.results import parts
from pmwmix.results.asked import check_design, choose_variance, settings_of
from pmwmix.results.build import fit_frame
from pmwmix.results.pooled import labelled, pool_results, pooled_frames
from pmwmix.results.result import FitResult
from pmwmix.running import check_executor, over
from pmwmix.sample.request import request_of
from pmwmix.spec.call import call_text, check_names, check_sampled, is_pairwise, read_chunk, read_nodes, scaling_of
from pmwmix.spec.centring import read_center, with_means
from pmwmix.spec.design import Design, resolve_design
from pmwmix.spec.eachoutcome import check_joint, check_texts, is_plain, of_each, outcome_names, refuse_each
from pmwmix.spec.fixed import read_fixed
from pmwmix.spec.options import FitOptions
from pmwmix.spec.outcome import Distribution
from pmwmix.spec.random import NORMAL, check_predictors, check_random, read_random
from pmwmix.spec.residual import read_residual
from pmwmix.spec.several import are_outcomes, one_text, parameters_of
from pmwmix.studies.againstnone import lrt_section
from pmwmix.studies.meanings import warn_of_others
from pmwmix.variance import VARIANCES
from pmwmix.weights.replicate_types import BY_REPLICATES
from pmwmix.weights.scaling import resolve_scaling

if TYPE_CHECKING:
    from pmwmix.sample.result import BayesResult

parts.PARTS.add("lrt", lrt_section)  # a test refits, so it stands behind results and is handed to them here


@overload
def fit(
    formula: str | Sequence[str], data: Any, *, method: Literal["bayes"], **options: Unpack[FitOptions]
) -> BayesResult: ...
@overload
def fit(
    formula: str | Sequence[str],
    data: Any,
    *,
    method: Literal["ml", "reml", "pairwise"] = ...,
    **options: Unpack[FitOptions],
) -> FitResult: ...
@overload
def fit(
    formula: str | Sequence[str], data: Any, *, method: str, **options: Unpack[FitOptions]
) -> FitResult | BayesResult: ...
def fit(
    formula: str | Sequence[str],
    data: Any,
    *,
    method: str = "ml",
    family: str | Sequence[str] | Mapping[str, str] = "gaussian",
    link: str | Sequence[str | None] | Mapping[str, str] | None = None,
    weights: Any = None,
    conditional: bool | None = None,
    scaling: Any = None,
    weights_top: str | None = None,
    trim: float | Mapping[str, float] | None = None,
    pv: Mapping[str, Any] | None = None,
    pv_pairing: str | None = None,
    imputation: str | None = None,
    design: Design | str | Mapping[str, Any] | None = None,
    vcov: str | None = None,
    n_agq: int | tuple[int, ...] | None = None,
    trials: str | None = None,
    center: Mapping[str, str] | None = None,
    residual: Mapping[str, Any] | None = None,
    fixed: Mapping[str, float] | None = None,
    random: str = "normal",
    subset: Any = None,
    progress: bool | None = None,
    engine: str | None = None,
    device: str | None = None,
    executor: Any = None,
    chunk_size: int | None = None,
    draws: int | None = None,
    tune: int | None = None,
    chains: int | None = None,
    random_seed: int | None = None,
    sampler: str | Mapping[str, Any] | None = None,
    priors: Mapping[str, Any] | None = None,
    memory: str | float | None = None,
) -> FitResult | BayesResult:
    """Fit a multilevel model to survey data.

    Parameters
    ----------
    formula : str
        lme4 syntax: ``"math ~ escs + (1 + escs | school)"``. The fixed part is formulaic's. With a survey preset the
        left side may be blank, and names of subjects and units (``school``) stand for the study's columns. A list has
        formulas of further linear predictors after the first, named by what they are about: ``["count ~ x + (1 | g)",
        "zi ~ x"]``, ``["y ~ x + (1 | g)", "sigma ~ x"]``, ``["rating ~ x", "thresholds ~ z"]`` (several linear
        predictors), or of further outcomes: ``["math ~ x + (1 | p | g)", "read ~ x + (1 | p | g)"]`` (outcomes).
    data : pandas, polars or pyarrow table, or path, or list of them
        One row per lowest unit. Never modified. A list holds imputed tables of one sample (imputations). A folder of
        parquet files, a ``pyarrow.dataset``, a DuckDB relation or SQL, and a Dask DataFrame are read piece by piece
        and never held whole, for models with nested groups (scale).
    method : {"ml", "reml", "pairwise", "bayes"}
        Maximum or restricted maximum (pseudo-)likelihood, the weighted likelihood of pairs of rows (pairwise), or the
        (pseudo-)posterior by NUTS.
    family : str, list or dict
        Distribution of the outcome, of several outcomes a list or a dict by name (outcomes): ``"gaussian"``,
        ``"binomial"`` (0/1, two categories, ``cbind(successes, failures)``, or a proportion with ``trials``),
        ``"beta-binomial"``, ``"poisson"``, ``"negbinomial"``, both also ``"zero-inflated-..."`` and ``"hurdle-..."``,
        ``"truncated-poisson"``, ``"gamma"``, ``"lognormal"``, ``"tweedie"``, ``"beta"``, ``"cumulative"``,
        ``"adjacent"``, ``"sequential"`` (ordinal), ``"multinomial"`` (unordered), ``"student"`` (families).
    link : str, list or dict, optional
        Default: that of the family, ``"logit"`` for binomial, ``"log"`` for counts.
    weights : str, list or dict, optional
        Sampling weights, bottom-up ``["W_FSTUWT", "W_FSCHWT"]`` or keyed by ``"obs"`` and group names. A level left
        out (None) has conditional weight 1.
    conditional : bool, optional
        Whether weights are conditional on the unit above; default: total weights.
    scaling : {"none", "size", "size-lowest", "effective", "gk", "gk-sum"}, "A", "B" or callable, optional
        How conditional weights below the top level are rescaled (theory, eqs. 2-4c).
    weights_top : {"mean1", "sum"}, optional
        Scale of the top level's weights: mean 1, or total weights of the rows that sum to their number (theory, eq.
        4e). It changes the log-likelihood and model-based errors alone.
    trim : float or dict, optional
        Cut conditional weights off at so many times the median of their level, ``{"school": 4.0}`` or one number for
        all levels with weights (theory, eq. 4d); ``fit.trimming`` reports it.
    pv : dict, optional
        Plausible-value sets: ``{"math": "PV{}MATH"}`` or lists of columns.
    pv_pairing : {"number", "cross"}, optional
        Whether sets used together are paired by number, the default, or each value goes with each of the others.
    imputation : str, optional
        Column that numbers imputed tables which stand below each other, ``".imp"`` of mice's long format.
    design : Design or str, optional
        Strata, PSU and defaults for the arguments above, or a survey preset, ``"pisa-2018"`` (`pmwmix.surveys`).
    vcov : {"model", "robust", "robust-block", "CR0", "CR1", "CR2", "CR3", "replicate", "replicate-one-step"}, optional
        Or "multiway" (crossed), or what a program prints: "stata", "hlm", "mplus", "wemix", "gllamm". Default:
        replicate when the design has replicates (those of a survey preset only if asked for), robust with weights,
        measured() or pairs (crossed groups without independent PSUs: model, pairs multiway), else model.
    n_agq : int or tuple of int, optional
        Quadrature nodes per random effect, for all levels or per level (lowest first); 1 is Laplace's approximation.
        None starts with few and raises their number until estimates move less than a tenth of a standard error. A
        gaussian model needs none.
    trials : str, optional
        Column of the number of trials, for a binomial outcome that is a proportion.
    center : dict, optional
        ``{"escs": "school"}``, ``{"escs": "school+mean"}`` (adds the group mean, named ``escs_school_mean``) or
        ``{"escs": "grand"}``; weighted where there are weights.
    residual : dict, optional
        Structure of a linear model's residuals: ``{"correlation": "ar1", "time": "year", "group": "child"}``,
        ``{"variance": "ident(sex)"}``, or both (residuals).
    fixed : dict, optional
        Variances held at values, named as in ``varcorr``: ``{"school.Intercept": 25.0, "Residual": 1.0}``
        (structured).
    random : str
        Distribution of the random effects: ``"normal"``, ``"t"`` (degrees of freedom estimated), ``"t(5)"`` (5 of
        them), or ``"discrete(3)"``, 3 masses whose places and probabilities are estimated (mixing).
    subset : str or array of bool, optional
        Rows to fit, as a column of true and false or an array of them. Unlike filtering the table first, clusters
        without such rows stay in the robust variance and its degrees of freedom.
    progress : bool, optional
        Bar over plausible values; default: in a terminal or notebook.
    engine : {"auto", "jax", "numpy", "numba", "c", "python"}, optional
        What evaluates the likelihood; default the environment's PMWMIX_ENGINE, else ``"auto"``: numpy, which needs no
        compiler, where data are small, JAX where compiling pays.
    device : {"cpu", "gpu"}, optional
        Where JAX evaluates; None: numpy, or where JAX does by itself (scale).
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Runs replicates, and passes and parts of streamed fits (scale). Processes must be spawned, not forked.
    chunk_size : int, optional
        Rows times nodes times parameters of a generalised model that are held at once, by default 400,000.
    draws, tune, chains : int, optional
        Of ``method="bayes"``, for each plausible value: 1000 draws after 1000 of tuning in 4 chains.
    random_seed : int, optional
        The same number gives the same draws; default: a new one, in ``fit.how``.
    sampler : {"nutpie", "pymc", "numpyro", "blackjax"} or dict, optional
        What runs NUTS; default nutpie. A dict holds options, ``{"target_accept": 0.95}``, with ``"name"`` if wanted.
    priors : dict, optional
        Parameter -> PyMC distribution or text: ``{"escs": "Normal(0, 10)", "school.Intercept": "HalfNormal(30)"}``;
        ``"fixed"``, ``"sd"``, ``"cor"`` and ``"phi"`` stand for all of their kind. Default: weakly informative, scaled
        to the data, listed in the summary and in ``fit.priors``.
    memory : str, optional
        Budget of a streamed fit, by default ``"2GiB"``; with it a parquet file and a polars LazyFrame are streamed.

    Returns
    -------
    FitResult or BayesResult
        The latter with ``method="bayes"``.

    Raises
    ------
    PmwmixError
        A child of it for every problem with the call or the data, in three sentences.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"y": [1.0, 2, 4, 3, 5, 9], "g": list("aabbcc")})
    >>> print(round(float(fit("y ~ 1 + (1 | g)", rows).coef["Intercept"]), 3))
    4.0
    """
    sampling = {"draws": draws, "tune": tune, "chains": chains, "random_seed": random_seed, "sampler": sampler}
    given = {"weights": weights, "conditional": conditional, "weights_top": weights_top, "trim": trim, "pv": pv}
    # say: names, numbers and what goes together, before any data are read
    check_names(method, vcov)
    if vcov is not None and vcov not in BY_REPLICATES:
        VARIANCES[vcov]  # an unknown name fails here
    request = request_of(method, sampling, priors, progress, vcov)
    nodes, cells, drawn = read_nodes(n_agq), read_chunk(chunk_size), read_random(random)
    distribution = _read(formula, family, link, trials, method, residual, drawn)
    held, chosen = read_fixed(fixed, method, residual), choose_engine(engine, device, method)
    check_executor(executor, chosen)
    resolve_scaling(scaling)
    said = resolve_design(design).override(**given, scaling=scaling_of(method, scaling))
    # parse and resolve, frame and weigh, choose how errors are judged: for every imputed table
    own = [name for name, value in {**given, "scaling": scaling}.items() if value is not None]
    tables, told = tables_of(data, imputation, said, memory, method, executor)
    check_imputations(tables, pv_pairing, method)
    asked = (one_text(formula), said, read_center(center), vcov, own, subset, distribution, pv_pairing, method, held)
    walked = [_framed(table, *asked) for table in tables]
    frames, (filled, _, how) = one_sample(walked, pv_pairing, told), walked[0]
    # write, compile, climb, judge, pool
    call = call_text(
        formula,
        {
            "method": None if method == "ml" else method,
            "family": None if family == Distribution.family else family,
            "link": link,
            **{**given, "scaling": scaling, "pv_pairing": pv_pairing, "imputation": imputation, "design": design},
            **{"vcov": vcov, "n_agq": nodes, "trials": trials, "random": None if drawn == NORMAL else random},
            **{"center": center, "residual": residual, "fixed": fixed, **(sampling if request is not None else {})},
            "priors": priors,
        },
    )
    settings = settings_of(filled, "ml" if request is not None else method, how, frames[0], call, nodes, cells)
    bar = over("Plausible values", progress)
    with OwnFrames():
        fitted = pooled_frames([fit_frame(frame, settings, chosen, bar, executor) for frame in frames])
        fitted = replace(fitted, notes=(*fitted.notes, *warn_of_others(fitted.fits, 2)))
        # sample, where a posterior is wanted
        return fitted if request is None else _sampled(fitted, request, priors)


def pool(fits: Iterable[FitResult], *, rule: str | None = None) -> FitResult:
    """Pool fits made elsewhere (other plausible values, multiply imputed data) by Rubin's rules.

    Parameters
    ----------
    fits : iterable of FitResult
        Of the same model.
    rule : {"rubin", "nested", "crossed"}, optional
        Of fits that are pooled themselves, one for every imputed table: all their parts are exchangeable; each table
        has plausible values of its own; or the plausible values are the same in all tables (imputations). None: what
        one fit knows of its parts, else exchangeable.

    Returns
    -------
    FitResult

    Raises
    ------
    OptionError
        If the fits differ in terms, random effects, variance method, estimation method or scaling, or in number.
    """
    listed = list(fits) if isinstance(fits, Iterable) else [fits]
    wrong = [one for one in listed if not isinstance(one, FitResult)]
    if wrong:
        raise OptionError(
            f"Only fits can be pooled. Got {type(wrong[0]).__name__}. Pass a list of results of pmwmix.fit."
        )
    pooled = pool_results(labelled(listed, rule))
    return replace(pooled, notes=tuple(dict.fromkeys((*pooled.notes, *warn_of_others(pooled.fits, 2)))))


def _sampled(fitted: FitResult, request: Any, priors: Any) -> BayesResult:
    whole_import("pmwmix.sample.bayes")
    from pmwmix.sample.bayes import bayes

    return bayes(fitted, request, priors)


def _read(formula: Any, family: Any, link: Any, trials: Any, method: str, residual: Any, random: str) -> Distribution:
    """Read what the call says about the outcome, or about each of several."""
    for name, value in (("family", family), ("link", link)):
        check_texts(name, value)
    later = parameters_of(formula)
    if not are_outcomes(later, method, residual, random):
        refuse_each(family, link)
        return read_distribution(family, link, trials, method, later, residual, random)
    outcomes = outcome_names(formula)
    families, links = of_each("family", family, outcomes), of_each("link", link, outcomes)
    if trials is None and is_plain(families, links):
        return Distribution(several=True)  # the closed form needs neither table
    whole_import("pmwmix.families")
    from pmwmix.families.joint import joint_distribution

    found = joint_distribution(outcomes, families, links)
    check_joint(method, trials, outcomes, families, found.has_closed_form)
    return found


def read_distribution(
    family: str,
    link: str | None,
    trials: Any,
    method: str,
    parameters: Sequence[str] = (),
    residual: Any = None,
    random: str = NORMAL,
) -> Distribution:
    """Look family and link up and check that they go together, with parameters that have formulas, and with residuals.

    Raises
    ------
    OptionError, NotSupportedError
    """
    check_random(random, method, "residual", residual)
    if trials is None and family == Distribution.family and link in (None, Distribution.link):
        if not (parameters or random != NORMAL):
            asked = read_residual(residual, True, method)  # the closed form needs neither table
            return Distribution(residual=asked, pairwise=is_pairwise(method, True, family, residual))
    whole_import("pmwmix.families")
    from pmwmix.families import FAMILIES, with_parameters
    from pmwmix.links import LINKS

    known = with_parameters(FAMILIES[family], parameters)
    if trials is not None and not (known.per_trial and isinstance(trials, str)):
        raise OptionError(
            f"A column of trials belongs to a binomial outcome. Got trials={trials!r} with family={family!r}. "
            f"Name the column as text with family='binomial', or leave trials out."
        )
    chosen = known.links[0] if link is None else link
    closed = known.has_closed_form(LINKS[chosen]) and random == NORMAL
    if chosen not in known.links:
        raise OptionError(
            f"A family has links of its own. {family!r} has no link {chosen!r}.{near(chosen, known.links)} "
            f"Use one of {', '.join(map(repr, known.links))}."
        )
    pairwise = is_pairwise(method, closed, known.name, residual)
    if method == "reml" and not closed:
        raise NotSupportedError(
            f"REML is defined for linear models. Asked for method='reml' with family={known.name!r}. Use method='ml'."
        )
    if method == "bayes":
        of = "categories" if known.is_open else ", ".join(one.name for one in known.predictors)
        check_sampled(known.name, known.is_sampled, of if known.further or known.is_open else "")
    check_predictors(random, known.name, bool(known.further or known.is_open))
    asked, read = read_residual(residual, closed, method), None if closed else known.read
    of_family = (known.has_scale, trials, known.further, asked, known.first, known.settled if known.is_open else None)
    return Distribution(known.name, chosen, read, closed, *of_family, pairwise, random)


def _framed(
    table: Table,
    formula: Any,
    said: Design,
    center: Any,
    vcov: str | None,
    own: Sequence[str],
    subset: Any,
    distribution: Distribution,
    pairing: str | None,
    method: str,
    fixed: Mapping[str, float],
) -> tuple[Filled, ModelFrame, str]:
    """Walk from one table to its frame and the variance method."""
    filled = fill_in(formula, said, table, center, vcov, own, distribution.several)  # names become columns of the table
    check_design(filled.design, vcov)
    parsed = with_means(filled.formula, filled.center)
    build: Any = build_frame
    if isinstance(filled.table, Stream):
        from pmwmix.frame.buildstreamed import build_streamed as build  # what fits in memory do not wait for
    frame = build(parsed, filled.table, filled.design, filled.center, subset, distribution, pairing)
    return filled, *choose_variance(with_fixed(_checked(frame, filled, method), fixed), filled, vcov, method)


def _checked(frame: ModelFrame, filled: Filled, method: str) -> ModelFrame:
    """Look for weights that cannot be meant, and add the notes of what was filled in."""
    check_weights(frame, filled.design, filled.table.names)
    if method == "reml" and frame.weighted[0]:
        raise NotSupportedError(
            f"REML is not defined with level-1 sampling weights. Column {frame.weight_columns[0]!r} weights the rows. "
            f"Use method='ml'."
        )
    return replace(frame, notes=(*filled.notes, *frame.notes))
