"""What a call asked for: how errors are judged, and the settings of its result."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

from pmwmix.errors import NotSupportedError
from pmwmix.frame.checks import check_fixed_part
from pmwmix.frame.crossing import PARTS, vcov_of_crossed, ways_of
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.frame.replicates import read_replicates
from pmwmix.readers.report import code_text
from pmwmix.resolve.fill import Filled
from pmwmix.spec.design import Design
from pmwmix.spec.fixed import refuse_fixed
from pmwmix.spec.latentmean import refuse_latent
from pmwmix.spec.measured import refuse_measured
from pmwmix.spec.settings import Settings
from pmwmix.variance.few_clusters import KINDS
from pmwmix.weights.replicate_types import BY_REPLICATES, check_replicates, has_replicates

NO_REPLICATES = "The design's replicate weights are not used: a pairwise likelihood has sandwich errors."
NOT_LATENT = ("robust-block", "stata", "hlm", "wemix")
OF_PAIRS = ("robust", "robust-block", "multiway")


def check_design(design: Design, vcov: str | None) -> None:
    """Check the replicates of a design, where they will be used."""
    if vcov in BY_REPLICATES or (vcov is None and has_replicates(design)):
        check_replicates(design)


def choose_variance(frame: ModelFrame, filled: Filled, vcov: str | None, method: str) -> tuple[ModelFrame, str]:
    """Choose the variance method, and read the replicates if it needs them."""
    design, weighted, linear = filled.design, any(frame.weighted), frame.has_closed_form
    _variance_of_pairs(vcov if frame.pairwise else None)
    if frame.hierarchy.crossed:
        of = (design.psu, weighted, method, linear, any(frame.weighted[1:]))
        vcov, said = vcov_of_crossed(vcov, frame.clusters, frame.hierarchy, *of)
        frame = replace(frame, notes=(*frame.notes, *said))
        if vcov == "multiway":
            frame = replace(frame, clusters=ways_of(frame.hierarchy))
    elif vcov == "multiway":
        raise NotSupportedError(
            "Clustering by several factors is for groups that are crossed. Got vcov='multiway' with nested groups, or "
            "none. Use vcov='robust', which clusters by the top level or by Design(psu=...)."
        )
    if frame.pairwise:
        said = (NO_REPLICATES,) if vcov is None and has_replicates(design) else ()
        return replace(frame, notes=(*frame.notes, *said)), _variance_of_pairs(vcov)
    sandwich = "robust" if weighted or frame.formula.measured else "model"
    how = vcov or ("replicate" if has_replicates(design) and method != "bayes" else sandwich)
    if frame.formula.latent or frame.formula.measured:
        _check_whole(frame, how, method)
    if how in KINDS or method == "bayes":
        check_fixed_part(frame, f"vcov={how!r}" if how in KINDS else "method='bayes'")
    if how in BY_REPLICATES and frame.residual is not None:
        whose = "The design has them, the call has" if vcov is None else f"The call has {vcov=} and"
        raise NotSupportedError(
            f"Replicate weights are not built for models with a residual structure. {whose} residual=. Use "
            f"vcov='robust'."
        )
    if how in BY_REPLICATES:
        if how == "replicate-one-step":
            refuse_fixed(frame.fixed, "One step per replicate", "Use vcov='replicate', which fits every replicate")
        if frame.stream is None and frame.stored is None:
            replicates = read_replicates(design, filled.table, frame)
        else:
            from pmwmix.frame.streamedreplicates import read_streamed_replicates

            read = frame if frame.stored is None else replace(frame, stream=frame.stored.streamed)
            replicates = read_streamed_replicates(design, read)
        frame = replace(frame, replicates=replicates, notes=(*frame.notes, *replicates.notes))
    return frame, how


def _check_whole(frame: ModelFrame, how: str, method: str) -> None:
    """Refuse what latent means and errors in predictors do not have: posteriors, variances of a block alone."""
    cut = how in NOT_LATENT or how in KINDS or how in BY_REPLICATES
    cure = "Use vcov='robust', whose information is that of all parameters together"
    latent, measured = bool(frame.formula.latent), bool(frame.formula.measured)
    refuse_latent(latent and method == "bayes", "A posterior", "Use method='ml'")
    refuse_latent(latent and cut, f"The variance {how!r}", cure)
    refuse_measured(measured and method == "bayes", "A posterior", "Use method='ml'")
    refuse_measured(measured and (cut or how == "model"), f"The variance {how!r}", cure)


def _variance_of_pairs(vcov: str | None) -> str:
    """Choose the variance of a pairwise likelihood.

    Raises
    ------
    NotSupportedError
    """
    if vcov not in (None, *OF_PAIRS):
        raise NotSupportedError(
            f"Estimates of a pairwise likelihood have sandwich errors: its curvature is not their precision. Got "
            f"vcov={vcov!r} with method='pairwise'. Use one of {', '.join(map(repr, OF_PAIRS))}."
        )
    return vcov or "robust"


def settings_of(
    filled: Filled, method: str, vcov: str, frame: ModelFrame, call: str, n_agq: Any, chunk_size: int | None
) -> Settings:
    """Give the settings of a call, from what it said and from the frame that was made of it."""
    top = frame.hierarchy.levels[-1] if frame.hierarchy.levels else None
    clusters: tuple[str, str | None, int, int] = (
        ("row", None, frame.n, 1) if top is None else (top.name, None, top.n, 1)
    )
    if frame.hierarchy.crossed:
        clusters = (PARTS, None, 1, 1)
    if frame.clusters is not None:
        clusters = (*frame.clusters.names, frame.clusters.n_psu, frame.clusters.n_strata)
    named = frame.formula.fixed_variables
    return Settings(
        call=call,
        formula=" ".join(frame.formula.text.split()),
        method=method,
        vcov=vcov,
        scaling=frame.scaling,
        weights=tuple(zip(frame.level_names, frame.weight_columns, strict=True)),
        conditional=bool(filled.design.conditional),
        pv={name: list(dict.fromkeys(columns)) for name, columns in frame.pv.items()},
        clusters=clusters,
        n_read=frame.n_read,
        dropped=frame.dropped,
        zero_weight=frame.zero_weight,
        replicates=None if frame.replicates is None else frame.replicates.summary,
        family=frame.family,
        link=frame.link,
        n_agq=n_agq,
        chunk_size=chunk_size,
        residual={} if frame.residual is None else frame.residual.spec.said,
        labels={name: label for name, label in filled.table.labels.items() if name in named},
        levels={
            name: {code_text(code): str(text) for code, text in given.items()}
            for name, given in filled.table.values.items()
            if name in named and given
        },
        fixed=frame.fixed,
        weights_top=frame.weights_top,
        trimmed=tuple(astuple(one) for one in frame.trimmed),
        random=frame.random,
    )
