"""Rows of a generalised model as those of its working linear model. Equations are those of docs/small-sample.md."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.families import FAMILIES
from pmwmix.fitting.clusterrows import (
    Rows,
    by_cluster,
    random_of,
    sum_by,
    sums_of,
    through_model,
    weigh_by_model,
    weights_of,
)
from pmwmix.fitting.estimate import Estimate
from pmwmix.fitting.judge import basis_of, variance_input
from pmwmix.fitting.problem import Problem
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.likelihood.layout import semidefinite_cholesky
from pmwmix.links import LINKS
from pmwmix.spec.random import NORMAL
from pmwmix.variance import inverse_along

LARGEST = 4_000  # rows of a cluster, whose covariance is a matrix of that size


def check_working(frame: ModelFrame, asked: str) -> None:
    """Refuse generalised models whose scores are not those of a working linear model.

    Raises
    ------
    NotSupportedError
    """
    family, what = FAMILIES[frame.family], ""
    if family.further or not family.has_mean_score:
        known = "binomial, poisson, negbinomial, gamma, tweedie and gaussian with one linear predictor"
        what = f"family={family.shown_name!r}; families of a working linear model are {known}"
    elif frame.random != NORMAL:
        what = f"random={frame.random!r}"
    elif frame.stored is not None or frame.stream is not None:
        what = "rows that are read in pieces"
    elif (largest := int(np.diff(by_cluster(frame)[1]).max())) > LARGEST and frame.hierarchy.levels:
        what = f"a cluster of {largest} rows, of {LARGEST} at most"
    if what:
        raise NotSupportedError(
            f"Small-sample variances rest on the covariance of the rows of a cluster under the model. Asked for "
            f"{asked} with {what}. Use vcov='robust', which has the factor J / (J - 1) of CR1."
        )


def working_rows(problem: Problem, frame: ModelFrame, design: DesignColumns, k: int, fit: Estimate) -> Rows:
    """Give the rows of an outcome by cluster, linearised at the conditional modes (small-sample, eq. 26)."""
    order, edges, whole = by_cluster(frame)
    family, link, levels = FAMILIES[frame.family], LINKS[frame.link], frame.hierarchy.levels
    raw = np.column_stack([design.x.columns[j] for j in problem.kept])[order]
    units = [level.index[order] for level in levels]
    Z = [random_of(design, level)[order] for level in range(len(levels))]
    eta = raw @ fit.beta + (0.0 if design.offset is None else design.offset[order])
    given = zip(Z, units, fit.modes or [], strict=True)
    moved = np.zeros(len(eta)) + sum(np.einsum("nq,nq->n", z, b[unit]) for z, unit, (b, _) in given)
    response, phi = design.responses[k], fit.phi
    extra = tuple(column[order] for column in response.extra)
    trials = family.trials(response)[order]
    mean, slope = family.mean(link, eta + moved, phi), link.slope(eta + moved)
    noise = family.variance(mean, phi, extra) / trials**2
    kept = noise > 0.0  # means that have rounded to the end of their range tell nothing
    slope, noise = np.where(kept, slope, 0.0), np.where(kept, noise, 1.0)
    e = response.y[order] / trials - mean + slope * moved  # y less its mean, about X beta alone
    X = slope[:, None] * (raw @ fit.transform.A_x)
    ZL = [slope[:, None] * (z @ semidefinite_cholesky(Psi)) for z, Psi in zip(Z, fit.Psi, strict=True)]
    root = np.sqrt(noise)[:, None]
    white = [z / root for z in ZL]
    OX = weigh_by_model(X / root, white, units, weights_of(frame, order))
    POX = root * through_model(OX, white, units)
    rows = Rows(X, OX / root, POX, e, ZL, units, edges, whole, noise)
    clusters = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    plain = sum_by(rows.OX * e[:, None], clusters) @ sums_of(rows)[0]
    return replace(rows, beyond=_influence(problem, frame, k, fit) - plain)


def _influence(problem: Problem, frame: ModelFrame, k: int, fit: Estimate) -> Array:
    """Influence (J, p) of every cluster on the standardised coefficients: its scores times the inverse information."""
    point = problem.objective.at(fit.point.psi, k).with_hessian(fit.point.hessian)
    given = variance_input(problem, point, basis_of(problem, point, fit.boundary), k, frame.clusters)
    assert given.scores is not None
    return sum_by(given.scores @ inverse_along(given.information, given.basis)[:, : problem.structure.p], given.psu)
