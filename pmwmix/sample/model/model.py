"""The PyMC model: priors on the parameters as people read them, and the marginal likelihood as a potential.

Sampled are, in units of the outcome: coefficients, the intercept where predictors are at their means, standard
deviations of the random effects where their predictors are at their means, partial correlations (whose distribution is
LKJ's), the residual standard deviation or the further parameters of the family. Nothing depends on the number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.likelihood.ops.registry import teach
from pmwmix.sample.model.priors import LKJ_ETA, PHI, SLOPE, Prior, half_t, lkj, normal, replaced
from pmwmix.sample.model.target import Target

DATA, PRIOR = "data_", "prior"


@dataclass(frozen=True)
class Term:
    """One random term: a block of Λ.

    Parameters
    ----------
    group : str
    level : int
    components : tuple of str
        ``"school.Intercept"``, ...
    offset : int
        First of its columns in Λ of the level.
    first : int
        First of its entries in theta (column-major lower triangle).
    """

    group: str
    level: int
    components: tuple[str, ...]
    offset: int
    first: int

    @property
    def q(self) -> int:
        """Number of random effects."""
        return len(self.components)

    @property
    def n_pairs(self) -> int:
        """Number of correlations."""
        return self.q * (self.q - 1) // 2


@dataclass(frozen=True)
class Sampled:
    """A PyMC model with what is needed to read its draws.

    Parameters
    ----------
    model : pymc.Model
    psi : symbol (P,)
        (beta, theta, phi) on the standardised scale as a function of the random variables.
    data : dict
        Name -> shared variable: the data of a plausible value, and ``prior``.
    priors : tuple of Prior
    terms : tuple of Term
    names : tuple of str
        Random variables, in the order of the unconstrained vector.
    effects : tuple of str
        Those of them that are random effects.
    """

    model: Any
    psi: Any
    data: dict[str, Any]
    priors: tuple[Prior, ...]
    terms: tuple[Term, ...]
    names: tuple[str, ...]
    effects: tuple[str, ...] = ()

    def arrays(self, target: Target) -> dict[str, Array]:
        """Give the values of all data for a plausible value."""
        return {**arrays_of(target), PRIOR: numbers_of(self.priors)}


def terms_of(target: Target) -> tuple[Term, ...]:
    """Read the random terms off the layout."""
    out, first, places = [], 0, iter([c for c in target.components if c[2] is None])
    for level, sizes in enumerate(target.layout.blocks):
        offset = 0
        for q in sizes:
            names = [next(places) for _ in range(q)]
            out.append(Term(names[0][0], level, tuple(f"{g}.{term}" for g, term, _ in names), offset, first))
            offset, first = offset + q, first + q * (q + 1) // 2
    return tuple(out)


def keys_of(target: Target) -> dict[str, tuple[str, ...]]:
    """List the names under which priors can be given, by class."""
    terms = terms_of(target)
    phi = ("sigma",) if target.linear else tuple(f"phi[{j}]" for j in range(target.n_phi))
    return {
        "fixed": target.terms,
        "sd": tuple(name for term in terms for name in term.components),
        "cor": tuple(term.group for term in terms if term.q > 1),
        "phi": phi,
    }


def priors_of(targets: Sequence[Target], given: Mapping[str, Any]) -> tuple[Prior, ...]:
    """Put defaults, scaled to the data, and the caller's priors together.

    Parameters
    ----------
    targets : sequence of Target
        Of all plausible values: they share their priors.
    given : dict
        As `priors.read_priors` gives it.
    """
    out, target = [], targets[0]
    spread, centres = float(np.mean([t.y_scale for t in targets])), np.mean([t.centre for t in targets], axis=0)
    for j, name in enumerate(target.terms):
        intercept = j == target.intercept
        scale = SLOPE * spread * (1.0 if intercept else target.x_scale[j])
        kind = "Intercept" if intercept else "fixed"
        out.append(replaced(name, kind, given, normal(name, centres[0] if intercept else 0.0, scale)))
    for term in terms_of(target):
        scales = target.z_scale[term.level][term.offset : term.offset + term.q]
        for name, scale in zip(term.components, scales, strict=True):
            width = spread * scale * (1.0 if target.linear else SLOPE)
            out.append(replaced(name, "sd", given, half_t(name, width)))
        if term.q > 1:
            out.append(replaced(term.group, "cor", given, lkj(term.group, LKJ_ETA)))
    if target.linear:
        out.append(replaced("sigma", "phi", given, half_t("sigma", spread)))
    else:
        for j in range(target.n_phi):
            key = f"phi[{j}]"
            out.append(replaced(key, "phi", given, normal(key, float(centres[1 + j]), PHI)))
    return tuple(out)


def build_model(target: Target, priors: Sequence[Prior]) -> Sampled:
    """Write the model.

    Parameters
    ----------
    target : Target
        Any plausible value: data are shared variables, whose values can be set to those of another.
    priors : sequence of Prior
    """
    for name in ("jax", "numba"):
        teach(name)  # the compilers that PyMC's samplers use
    terms, numbers = terms_of(target), numbers_of(priors)
    components = [name for term in terms for name in term.components]
    coords = {"term": list(target.terms)} | ({"component": components} if components else {})
    with pm.Model(coords=coords) as model:
        data = {name: _shared(name, value, target.static.get(name)) for name, value in arrays_of(target).items()}
        data[PRIOR] = _shared(PRIOR, numbers, numbers.shape)
        placed = [(prior, data[PRIOR][i]) for i, prior in enumerate(priors)]
        known = {prior.key: (prior, own) for prior, own in placed[target.p :]}
        centred = _coefficients(priors[: target.p], data[PRIOR])
        beta = (centred - data["y_shift"] * _unit(target)) / (data["y_scale"] * pt.diagonal(data["A_x"]))
        phi = _further(target, known, data)
        relative = pt.exp(-phi[0]) if target.linear else 1.0
        sds = {name: known[name][0].variable(f"sd[{name}]", known[name][1]) for name in components}
        theta = _theta(target, terms, known, sds, data, relative)
        if components:
            pm.Deterministic("sd", pt.stack([sds[name] for name in components]), dims="component")
        effects = _explicit(target)
        further = pt.concatenate([phi, *effects]) if effects else phi
        pm.Potential("loglik", target.loglik(data, beta, theta, further))
        pm.Deterministic(
            "beta", data["y_scale"] * pt.dot(data["A_x"], beta) + data["y_shift"] * _unit(target), dims="term"
        )
    psi = pt.concatenate([beta, theta, further] if target.n_phi or effects else [beta, theta])
    names, own = tuple(rv.name for rv in model.free_RVs), tuple(str(one.name) for one in effects)
    return Sampled(model, psi, data, tuple(priors), terms, names, own)


def _explicit(target: Target) -> list[Any]:
    """Whitened random effects of every factor (q G,), where they are sampled themselves."""
    if target.effects is None:
        return []
    return [
        pm.Normal(effect_name(name), 0.0, 1.0, shape=q * G)
        for name, (q, G) in zip(target.effects.names, target.effects.sizes, strict=True)
    ]


def effect_name(group: str) -> str:
    """Name the random variable of the whitened effects of a group."""
    return f"u[{group}]"


def arrays_of(target: Target) -> dict[str, Array]:
    """All data of one plausible value: those of the likelihood, and the scales of the columns."""
    own = {
        "y_shift": target.y_shift,
        "y_scale": target.y_scale,
        "A_x": target.A_x,
        "z_scale": np.concatenate([np.zeros(0), *target.z_scale]),
    }
    return {**target.arrays, **{name: np.asarray(value, dtype=float) for name, value in own.items()}}


def put_data(target: Target, sampled: Sampled) -> None:
    """Set the model's data to those of a plausible value."""
    for name, value in arrays_of(target).items():
        shared = sampled.data[name]
        shared.set_value(np.asarray(value, dtype=shared.type.dtype))


def _shared(name: str, value: Array, static: tuple[int | None, ...] | None) -> Any:
    """Make a shared variable whose small dimensions the graph may rely on."""
    shape = static if static is not None else (value.shape if value.size <= 64 else (None,) * value.ndim)
    return pm.Data(DATA + name, value, shape=shape)


def _unit(target: Target) -> Array:
    out = np.zeros(target.p)
    if target.intercept is not None:
        out[target.intercept] = 1.0
    return out


def numbers_of(priors: Sequence[Prior]) -> Array:
    """Locations and scales of the priors (n, 2)."""
    return np.array([prior.numbers for prior in priors], dtype=float).reshape(-1, 2)


def _coefficients(priors: Sequence[Prior], numbers: Any) -> Any:
    """Coefficients of centred predictors in units of the outcome (p,)."""
    if not priors:
        return pt.zeros((0,))
    if all(prior.normal is not None for prior in priors):
        p = len(priors)
        return pm.Normal("beta_centred", mu=numbers[:p, 0], sigma=numbers[:p, 1], shape=p, dims="term")
    values = [prior.variable(f"beta_centred[{prior.key}]", numbers[i]) for i, prior in enumerate(priors)]
    return pm.Deterministic("beta_centred", pt.stack(values), dims="term")


def _further(target: Target, known: Mapping[str, tuple[Prior, Any]], data: Mapping[str, Any]) -> Any:
    """Log sigma of the standardised outcome, or the family's parameters on their working scale (n_phi,)."""
    if target.linear:
        prior, own = known["sigma"]
        sigma = prior.variable("sigma", own)
        return pt.stack([pt.log(sigma / data["y_scale"])])
    chosen = [known[f"phi[{j}]"] for j in range(target.n_phi)]
    values = [prior.variable(prior.key, own) for prior, own in chosen]
    return pt.stack(values) if values else pt.zeros((0,))


def _theta(
    target: Target,
    terms: Sequence[Term],
    known: Mapping[str, tuple[Prior, Any]],
    sds: Mapping[str, Any],
    data: Mapping[str, Any],
    relative: Any,
) -> Any:
    """Cholesky factors on the standardised scale, relative to sigma, in the order of the layout (n_theta,)."""
    entries, start = [], np.cumsum([0, *target.layout.q])
    for term in terms:
        L = _cholesky(term, known)
        at = [start[term.level] + term.offset + i for i in range(term.q)]
        size = [
            sds[name] / (data["y_scale"] * data["z_scale"][i]) * relative
            for name, i in zip(term.components, at, strict=True)
        ]
        entries += [size[i] * L[i][j] for j in range(term.q) for i in range(j, term.q)]
    return pt.stack(entries) if entries else pt.zeros((0,))


def _cholesky(term: Term, known: Mapping[str, tuple[Prior, Any]]) -> list[list[Any]]:
    """Cholesky factor of a correlation matrix with LKJ density, from partial correlations.

    Partial correlations of an LKJ(eta) matrix are independent, (1 + r) / 2 ~ Beta(b, b) with b = eta + (q - 2 - j) / 2
    in column j (Lewandowski, Kurowicka & Joe 2009, section 2.4).
    """
    q = term.q
    if q == 1:
        return [[1.0]]
    eta = known[term.group][0].make
    shapes = [eta + 0.5 * (q - 2 - j) for j in range(q) for _ in range(j + 1, q)]
    half = pm.Beta(f"partial[{term.group}]", np.array(shapes), np.array(shapes), shape=term.n_pairs)
    partial = 2.0 * half - 1.0
    L: list[list[Any]] = [[0.0] * q for _ in range(q)]
    place = {(i, j): k for k, (i, j) in enumerate((i, j) for j in range(q) for i in range(j + 1, q))}
    for i in range(q):
        left: Any = 1.0
        for j in range(i):
            r = partial[place[i, j]]
            L[i][j] = r * pt.sqrt(left) if j else r
            left = left * (1.0 - r * r)
        L[i][i] = pt.sqrt(left) if i else 1.0
    return L


__all__ = ["Sampled", "Term", "arrays_of", "build_model", "effect_name", "keys_of", "priors_of", "put_data", "terms_of"]
