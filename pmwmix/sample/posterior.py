"""From the ML fit to posteriors: targets, priors, one model, NUTS for every plausible value, correction, trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cloudpickle
import pandas as pd
import xarray as xr

from pmwmix._types import Array
from pmwmix.errors import DataError, OptionError
from pmwmix.fitting.optimise import Status
from pmwmix.fitting.problem import Problem
from pmwmix.frame.components import component_names
from pmwmix.frame.crossing import SAMPLED
from pmwmix.prediction.rows import LiveRows, live_rows
from pmwmix.results.result import FitResult
from pmwmix.sample.draws.correction import corrected, correction_of
from pmwmix.sample.draws.datatree import (
    constant_dataset,
    draw_prior,
    observed_dataset,
    posterior_dataset,
    stacked,
    stats_dataset,
)
from pmwmix.sample.model.density import compile_density
from pmwmix.sample.model.model import Sampled, build_model, keys_of, priors_of, put_data
from pmwmix.sample.model.priors import read_priors
from pmwmix.sample.model.target import Target, sharing, target_of
from pmwmix.sample.nuts.nuts import Draws, sample_nutpie
from pmwmix.sample.nuts.othersamplers import check_sampler, sample_with_pymc
from pmwmix.sample.request import Request

PRIOR_DRAWS = 500


@dataclass(frozen=True)
class Live:
    """What later draws need of one plausible value; not kept in files.

    Parameters
    ----------
    target : Target
    rows : LiveRows
    psi : ndarray, shape (chain, draw, P)
        Corrected draws on the standardised scale; after (beta, theta, phi) effects that were sampled themselves.
    sampled : Sampled
    seed : int
    raw : ndarray, shape (chain, draw, P)
        Draws as they were sampled, before the correction.
    variables : dict of ndarray, each (chain, draw, ...)
        Of the random variables of the model, as they were sampled.
    """

    target: Target
    rows: LiveRows
    psi: Array
    sampled: Sampled
    seed: int
    raw: Array
    variables: dict[str, Array]

    def __reduce__(self) -> tuple[Any, ...]:
        # symbols and the functions that write them: pickle takes no functions that were made inside functions
        packed = cloudpickle.dumps((self.target, self.sampled))
        return _live, (self.rows, self.psi, self.seed, packed, self.raw, self.variables)

    @property
    def general(self) -> tuple[Problem, int] | None:
        """Problem and outcome of a generalised model."""
        return (self.rows.problem, self.rows.k) if not self.rows.problem.objective.closed_form else None


def _live(rows: LiveRows, psi: Array, seed: int, packed: bytes, raw: Array, variables: dict[str, Array]) -> Live:
    target, sampled = cloudpickle.loads(packed)
    return Live(target, rows, psi, sampled, seed, raw, variables)


@dataclass(frozen=True)
class Posterior:
    """What `sample` gives: the pooled tree, a tree and `Live` per plausible value, the priors, notes."""

    tree: Any
    trees: tuple[Any, ...]
    live: tuple[Live, ...]
    priors: pd.DataFrame
    corrected: bool
    notes: tuple[str, ...]


def sample(ml: FitResult, request: Request, priors: Any) -> Posterior:
    """Sample the posterior of every plausible value.

    Parameters
    ----------
    ml : FitResult
        The same model by maximum likelihood.
    request : Request
    priors : dict or None
        See `priors.read_priors`.
    """
    check_sampler(request.sampler, ml.has_closed_form)
    _check_groups([str(name) for name in ml.n_groups.index])
    _check_bounded(ml)
    wanted = ml.settings.vcov == "robust"
    targets: list[Target] = []
    for fit in ml.fits:
        targets.append(sharing(target_of(fit, wanted), targets[:1]))
    given = read_priors(priors, keys_of(targets[0]))
    chosen = priors_of(targets, given)
    sampled = build_model(targets[0], chosen)
    draws = _draw(targets, sampled, request)
    table = pd.DataFrame(
        {"prior": [one.text for one in chosen], "default": [one.default for one in chosen]},
        index=pd.Index([one.key for one in chosen], name="parameter"),
    )
    notes, live, trees = [], [], []
    corrections = [correction_of(target) if wanted else None for target in targets]
    usable = wanted and all(one is not None for one in corrections)
    if wanted and not usable:
        notes.append(
            "The pseudo-posterior could not be corrected to the sandwich covariance, because the likelihood does not "
            "curve in every direction at its maximum: standard deviations are those of the uncorrected draws."
        )
    elif usable and any(one is not None and one.held.any() for one in corrections):
        notes.append(
            "A variance is near zero, or a correlation near one, at the maximum of the likelihood: the correction to "
            "the sandwich covariance leaves the draws of that variance or correlation as they are."
        )
    if sampled.effects:
        notes.append(SAMPLED)
    prior_psi = draw_prior(sampled, PRIOR_DRAWS, request.seed)
    for rows, target, drawn, correction in zip(live_rows(ml), targets, draws, corrections, strict=True):
        raw = drawn.values["psi"]
        psi = corrected(target, correction, raw) if usable and correction is not None else raw
        variables = {name: drawn.values[name] for name in sampled.names if name in drawn.values}
        one = Live(target, rows, psi, sampled, request.seed, raw, variables)
        live.append(one)
        trees.append(_tree(one, raw, drawn, prior_psi, usable))
    return Posterior(_pooled(trees, live, usable), tuple(trees), tuple(live), table, usable, tuple(notes))


def _check_groups(names: list[str]) -> None:
    """Refuse names of groups that the dimensions of the draws have already."""
    taken = {"chain", "draw", "obs", "pv", *(f"{name}_term" for name in names)}
    wrong = [name for name in names if name in taken]
    if wrong:
        raise OptionError(
            f"Draws have dimensions of their own, and each group becomes one. The group {wrong[0]!r} has the name of "
            f"another dimension. Rename the column, for example to 'group_{wrong[0]}'."
        )


def _check_bounded(ml: FitResult) -> None:
    """Refuse a likelihood that grows without end as the residual variance vanishes: no prior of ours would hold it."""
    if any(fit.status == Status.UNBOUNDED.value for fit in ml.fits):
        raise DataError(
            "There is no posterior to sample, because the likelihood grows without end. The random effects explain the "
            "outcome perfectly: groups have too few rows, or level-1 weights are far above 1 in tiny groups. Use "
            "scaling='size', or drop random effects."
        )


def _draw(targets: list[Target], sampled: Sampled, request: Request) -> list[Draws]:
    if request.sampler == "nutpie":
        return sample_nutpie(targets, sampled, compile_density(targets[0], sampled), request)
    return sample_with_pymc(targets, sampled, request)


def _names(live: Live) -> list[str]:
    return [f"{g}.{a}" if b is None else f"{g}.{a}.{b}" for g, a, b in component_names(live.rows.frame)]


def _tree(live: Live, raw: Array, drawn: Draws, prior_psi: Array, usable: bool) -> Any:
    """Lay out one plausible value."""
    levels = [level.name for level in live.rows.frame.hierarchy.levels]

    def laid_out(psi: Array) -> Any:
        return posterior_dataset(live.target, live.general, psi, levels, _names(live))

    parts = {"posterior": laid_out(live.psi)}
    if usable:
        parts["posterior_uncorrected"] = laid_out(raw)
    parts |= {
        "sample_stats": stats_dataset(drawn),
        "prior": laid_out(prior_psi),
        "observed_data": observed_dataset(live.rows.frame, [live.rows.y]),
        "constant_data": constant_dataset(live.rows.frame),
    }
    return xr.DataTree.from_dict(parts)


def _pooled(trees: list[Any], live: list[Live], usable: bool) -> Any:
    if len(trees) == 1:
        return trees[0]
    groups = ["posterior", *(["posterior_uncorrected"] if usable else []), "sample_stats"]
    parts = {group: stacked(trees, group) for group in groups}
    frame = live[0].rows.frame
    parts |= {
        "prior": trees[0]["prior"].to_dataset(),
        "observed_data": observed_dataset(frame, [one.rows.y for one in live]),
        "constant_data": constant_dataset(frame),
    }
    return xr.DataTree.from_dict(parts)


def set_data(live: Live) -> Any:
    """Give the PyMC model with the data of this plausible value."""
    put_data(live.target, live.sampled)
    return live.sampled.model


__all__ = ["Live", "Posterior", "sample", "set_data"]
