"""From draws on the standardised scale to what is reported: the ML path's transformations, for many draws at once.

Numpy only; the formulas are those of `standardise.Transform` and `generalproblem.raw_map`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.sample.model.target import Target


def raw_draws(target: Target, general: Any, psi: Array) -> dict[str, Array]:
    """Undo the standardisation (theory, eqs. 14-15 and 39).

    Parameters
    ----------
    target : Target
    general : tuple (Problem, int) or None
        Problem and number of the outcome of a generalised model.
    psi : ndarray, shape (..., P)

    Returns
    -------
    dict
        ``beta`` (..., n_terms), thresholds first; ``eta_beta`` (..., p) without them; ``vcov`` (..., n_theta)
        variances and covariances in the order of theta; ``Psi`` a list per level (..., q, q); ``phi`` (..., n_phi)
        that of raw predictors; ``residual`` (...,) variance of level 1 on the scale of the linear predictor;
        ``sigma`` of a linear model; ``family`` a dict of reported parameters.
    """
    p, t, layout = target.p, target.n_theta, target.layout
    beta, theta, phi = psi[..., :p], psi[..., p : p + t], psi[..., p + t : p + t + target.n_phi]
    raw = target.y_scale * beta @ target.A_x.T
    if target.intercept is not None:
        raw[..., target.intercept] += target.y_shift
    unit = target.y_scale * np.exp(phi[..., 0]) if target.linear else np.ones(psi.shape[:-1])
    Psi = [
        (unit**2)[..., None, None] * _gram(A @ L)
        for A, L in zip(target.transform.A_z, unpack(layout, theta), strict=True)
    ]
    parts = [Psi[level][..., i, j] for level, entries in enumerate(layout.entries) for i, j, _ in entries]
    vcov = np.stack(parts, axis=-1) if parts else np.zeros((*psi.shape[:-1], 0))
    out = {"beta": raw, "eta_beta": raw, "vcov": vcov, "Psi": Psi, "phi": phi, "family": {}}
    if target.linear:
        return {**out, "sigma": unit, "residual": unit**2}
    return out | _family(target, general, beta, raw, phi)


def unpack(layout: ThetaLayout, theta: Array) -> list[Array]:
    """Turn draws of theta (..., n_theta) into one Λ (..., q_l, q_l) per level."""
    out = []
    for q, entries in zip(layout.q, layout.entries, strict=True):
        Lambda = np.zeros((*theta.shape[:-1], q, q))
        for i, j, k in entries:
            Lambda[..., i, j] = theta[..., k]
        out.append(Lambda)
    return out


def _gram(L: Array) -> Array:
    return L @ np.swapaxes(L, -1, -2)


def _family(target: Target, general: Any, beta: Array, raw: Array, phi: Array) -> dict[str, Any]:
    problem, k = general
    family, shape = problem.family, phi.shape[:-1]
    flat = phi.reshape(int(np.prod(shape)), phi.shape[-1])
    names = list(family.parameters(flat[0])[0])
    reported = _each(flat, lambda row: list(family.parameters(row)[0].values())).reshape(*shape, len(names))
    latent = _each(flat, lambda row: [family.latent_variance(problem.link, problem.means[k], row)]).reshape(shape)
    if family.has_intercept:
        values = {name: reported[..., j] for j, name in enumerate(names)}
        return {"family": values, "residual": latent}
    shift = np.zeros(target.p)
    A, place = target.transform.A_x, target.transform.intercept
    if place is not None:
        shift = A[place, np.arange(len(A)) != place]
    cuts = reported - (beta @ shift)[..., None]
    raw_phi = np.array(phi)
    raw_phi[..., 0] = cuts[..., 0]
    return {"beta": np.concatenate([cuts, raw], axis=-1), "phi": raw_phi, "residual": latent, "family": {}}


def _each(rows: Array, function: Callable[[Array], Sequence[float]]) -> Array:
    """Apply a function of phi to every draw; once if there is none to draw."""
    if not rows.shape[1]:
        return np.tile(np.asarray(function(rows[0]), dtype=float), (len(rows), 1))
    return np.array([function(row) for row in rows], dtype=float)


def term_names(target: Target, general: Any) -> tuple[str, ...]:
    """Give the names of ``beta``: thresholds of an ordinal model first."""
    if general is None or general[0].family.has_intercept:
        return target.terms
    labels = general[0].responses[general[1]].categories
    return (*(f"{a}|{b}" for a, b in pairwise(labels)), *target.terms)


def deviations(target: Target, vcov: Array) -> tuple[list[str], Array, list[str], Array]:
    """Give standard deviations and correlations of random effects with their names.

    Parameters
    ----------
    target : Target
    vcov : ndarray, shape (..., n_theta)

    Returns
    -------
    list of str, ndarray (..., n_components), list of str, ndarray (..., n_pairs)
    """
    place = {(g, a): k for k, (g, a, b) in enumerate(target.components) if b is None}
    sds = [f"{g}.{a}" for g, a in place]
    sd = np.sqrt(vcov[..., list(place.values())])
    pairs, cors = [], []
    for k, (g, a, b) in enumerate(target.components):
        if b is not None:
            pairs.append(f"{g}.{b}.{a}")
            cors.append(vcov[..., k] / np.sqrt(vcov[..., place[g, a]] * vcov[..., place[g, b]]))
    cor = np.stack(cors, axis=-1) if cors else np.zeros((*vcov.shape[:-1], 0))
    return sds, sd, pairs, cor


def records(table: pd.DataFrame) -> list[Any]:
    """Give the rows of ``varcorr`` as records, with None where a name is missing."""
    clean = table.astype(object).where(table.notna(), None)
    return list(clean.itertuples())


def entry(mean: dict[Any, float], group: str, a: str, b: str) -> float:
    """Look a (co)variance up by group and terms; zero where the model has none."""
    for key in ((group, a, None),) if a == b else ((group, a, b), (group, b, a)):
        if key in mean:
            return mean[key]
    return 0.0


def component_draws(group: Any, row: Any, scale: str) -> Array:
    """Draws (chain, draw) of one row of ``varcorr``."""
    squared = scale == "var"
    if row.grp == "Residual":
        values = np.asarray(group["sigma"])
        return values**2 if squared else values
    if row.var2 is None:
        values = np.asarray(group["sd"].sel(component=f"{row.grp}.{row.var1}"))
        return values**2 if squared else values
    if squared:
        return np.asarray(group["vcov"].sel(covariance=f"{row.grp}.{row.var2}.{row.var1}"))
    return np.asarray(group["cor"].sel(pair=f"{row.grp}.{row.var1}.{row.var2}"))


__all__ = ["deviations", "raw_draws", "term_names", "unpack"]
