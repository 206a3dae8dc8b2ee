"""From the ML estimate to where the sampler begins, and to the scale on which the posterior is nearly spherical."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.engine import ENGINES
from pmwmix.sample.model.model import Sampled, effect_name
from pmwmix.sample.model.target import Target

PLAIN = ENGINES["python"]()  # evaluated once: compiling would take longer
FLOOR = 0.1  # of a standard deviation relative to sigma, where the ML estimate is on the boundary


def away_from_boundary(target: Target) -> Array:
    """Give theta (n_theta,) with zero standard deviations raised to a tenth of sigma, without correlation."""
    theta = np.array(target.ml[target.p : target.p + target.n_theta])
    theta[target.boundary] = 0.0
    low = target.layout.diagonal & (np.abs(theta) < FLOOR / 10)
    theta[low] = FLOOR
    return theta


def values_at(target: Target, sampled: Sampled, theta: Array) -> dict[str, Any]:
    """Values of the random variables at the ML estimate, by name."""
    p, t = target.p, target.n_theta
    beta, phi = target.ml[:p], target.ml[p + t :]
    centred = target.y_scale * target.x_scale * beta
    if target.intercept is not None:
        centred[target.intercept] += target.y_shift
    out: dict[str, Any] = {"beta_centred": centred}
    out |= {f"beta_centred[{name}]": value for name, value in zip(target.terms, centred, strict=True)}
    unit = target.y_scale
    if target.linear:
        unit = target.y_scale * float(np.exp(phi[0]))
        out["sigma"] = unit
    else:
        out |= {f"phi[{j}]": value for j, value in enumerate(phi)}
    Lambdas = target.layout.unpack(theta)
    for term in sampled.terms:
        part = slice(term.offset, term.offset + term.q)
        L = Lambdas[term.level][part, part]
        size = np.sqrt((L**2).sum(axis=1))
        raw = unit * target.z_scale[term.level][part] * size
        out |= {f"sd[{name}]": value for name, value in zip(term.components, raw, strict=True)}
        if term.q > 1:
            out[f"partial[{term.group}]"] = 0.5 + 0.5 * _partial(L / size[:, None])
    if target.effects is not None:
        parts = zip(target.effects.names, target.effects.split(target.effects.modes), strict=True)
        out |= {effect_name(name): modes.ravel() for name, modes in parts}
    return out


def _partial(L: Array) -> Array:
    """Partial correlations of the Cholesky factor of a correlation matrix, column by column."""
    q, out = len(L), []
    for j in range(q):
        for i in range(j + 1, q):
            left = np.sqrt(max(1.0 - float(L[i, :j] @ L[i, :j]), 1e-12))
            out.append(np.clip(L[i, j] / left, -0.99, 0.99))
    return np.array(out)


def unconstrained(sampled: Sampled, values: dict[str, Any]) -> Array:
    """Put values on PyMC's unconstrained scale; where a prior excludes a value, PyMC's own initial point stands."""
    model, parts = sampled.model, []
    own: dict[str, Any] | None = None
    for rv in model.free_RVs:
        transform, value = model.rvs_to_transforms[rv], np.asarray(values[rv.name], dtype=float)
        with np.errstate(all="ignore"):
            found = value if transform is None else transform.forward(value, *rv.owner.inputs).eval(mode=PLAIN)
        if not np.isfinite(found).all():
            own = model.initial_point() if own is None else own
            found = own[model.rvs_to_values[rv].name]
        parts.append(np.ravel(found))
    return np.concatenate(parts)


def whitening(target: Target, sampled: Sampled, jacobian: Array) -> Array:
    """Scale (d, d) on which the posterior is nearly spherical around the ML estimate.

    Parameters
    ----------
    target : Target
    sampled : Sampled
    jacobian : ndarray, shape (P, d)
        Of (beta, theta, phi), and effects that are sampled, in the unconstrained parameters.
    """
    H = np.array(target.information)
    moved = np.zeros(len(H), dtype=bool)
    moved[target.p : target.p + target.n_theta] = _moved(target)
    H[moved, :] = H[:, moved] = 0.0
    if target.effects is not None:
        H = target.effects.joint(H, moved)
    model = sampled.model
    bounded = [
        np.full(int(np.prod(rv.type.shape, dtype=int)), model.rvs_to_transforms[rv] is not None)
        for rv in model.free_RVs
    ]
    size = np.maximum(np.abs(jacobian).max(axis=0), 1e-300)
    unit = np.where(np.concatenate(bounded), 1.0, 1.0 / size)
    A = unit[:, None] * (jacobian.T @ H @ jacobian) * unit
    values, vectors = np.linalg.eigh(0.5 * (A + A.T))
    # a direction in which the likelihood says little, or is not concave, keeps the scale of the prior
    return unit[:, None] * np.linalg.cholesky((vectors / np.maximum(values, 1.0)) @ vectors.T)


def _moved(target: Target) -> Array:
    """Mark entries of theta whose curvature at the boundary says nothing about the inside."""
    theta = target.ml[target.p : target.p + target.n_theta]
    return np.abs(away_from_boundary(target) - theta) > 1e-12


__all__ = ["away_from_boundary", "unconstrained", "values_at", "whitening"]
