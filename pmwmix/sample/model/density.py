"""The log-posterior as a compiled function of one unconstrained vector, and the way from it to the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.replace import graph_replace
from pytensor.graph.rewriting.utils import rewrite_graph

from pmwmix._types import Array
from pmwmix.likelihood.engine import Compiled, compiled_pair
from pmwmix.likelihood.graph import Graph
from pmwmix.sample.model.model import Sampled
from pmwmix.sample.model.target import Target


@dataclass(frozen=True)
class Density:
    """Compiled functions of one model; data are arguments, so that all plausible values share them.

    Parameters
    ----------
    dim : int
        Length d of the unconstrained vector.
    data : tuple of str
        Names of the data, in the order in which they are passed.
    value : Compiled
        (z, [mean, scale, *data]) -> ``packed`` (1 + d,): log-posterior at q = mean + scale z, and its gradient in z.
    values : Compiled
        (q, data) -> ``psi`` (P,) and the random variables.
    names : tuple of str
        Of the random variables.
    """

    dim: int
    data: tuple[str, ...]
    value: Compiled
    values: Compiled
    names: tuple[str, ...]

    def put(self, array: Array) -> Any:
        """Put an array where the engine reads it."""
        return self.value.put([np.asarray(array)])[0]


def compile_density(target: Target, sampled: Sampled) -> Density:
    """Compile a model for the JAX engine, or give what was compiled for another of the same shape.

    Priors of the caller's own making are part of what is compiled; the numbers of default ones are data.
    """
    model = sampled.model
    sizes = [tuple(rv.type.shape) for rv in model.free_RVs]
    dim = sum(int(np.prod(shape, dtype=int)) for shape in sizes)

    def write(structure: Any) -> tuple[Graph, Graph]:
        return _graphs(target, sampled, sizes)

    kinds = tuple(prior.kind for prior in sampled.priors)
    if None in kinds:
        value, values = (Compiled(graph, "jax") for graph in write(None))
    else:
        data = tuple((name, shared.type) for name, shared in sampled.data.items())
        value, values = compiled_pair(write, (target.structure, target.intercept, kinds, data), "jax")
    return Density(dim, tuple(sampled.data), value, values, tuple(rv.name for rv in model.free_RVs))


def _graphs(target: Target, sampled: Sampled, sizes: Sequence[tuple[int, ...]]) -> tuple[Graph, Graph]:
    """Write the log-posterior with its gradient, and the way back to the parameters."""
    model = sampled.model
    value_vars = [model.rvs_to_values[rv] for rv in model.free_RVs]
    lengths = [int(np.prod(shape, dtype=int)) for shape in sizes]
    dim = sum(lengths)
    q = pt.tensor("q", shape=(dim,))
    ends = np.cumsum([0, *lengths])
    parts = [q[a:b].reshape(shape) for a, b, shape in zip(ends[:-1], ends[1:], sizes, strict=True)]
    stand_in = {shared: shared.type(name=name) for name, shared in sampled.data.items()}
    swap: Any = {**dict(zip(value_vars, parts, strict=True)), **stand_in}
    data = list(stand_in.values())

    z, mean = pt.tensor("z", shape=(dim,)), pt.tensor("mean", shape=(dim,))
    scale = pt.tensor("scale", shape=(dim, dim))
    prior = model.logp(vars=model.free_RVs, jacobian=True)
    outputs = [prior, *model.replace_rvs_by_values([sampled.psi, *model.free_RVs])]
    # priors come with shapes that only PyTensor's rewrites work out; the likelihood is written without any
    rewrites = ("canonicalize", "local_remove_check_parameter")  # JAX would drop checks of parameters, with a warning
    written: Any = rewrite_graph(graph_replace(outputs, swap, strict=False), include=rewrites)
    prior, psi, *rvs = written
    values = Graph([q, *data], {"psi": psi} | {f"variable{i}": found for i, found in enumerate(rvs)})

    symbols = {name: stand_in[shared] for name, shared in sampled.data.items()}
    n_effects = 0 if target.effects is None else target.effects.n
    ends = np.cumsum([target.p, target.n_theta, target.n_phi + n_effects])
    loglik = target.loglik(symbols, psi[: ends[0]], psi[ends[0] : ends[1]], psi[ends[1] : ends[2]])
    whitened: Any = {q: mean + pt.dot(scale, z)}
    logp: Any = graph_replace([prior + loglik], whitened, strict=False)[0]
    gradient: Any = pytensor.grad(logp, z)
    return Graph([z, mean, scale, *data], {"packed": pt.concatenate([logp[None], gradient])}), values


def values_of(density: Density, data: Sequence[Any], points: Array) -> dict[str, Array]:
    """Evaluate psi and the random variables at unconstrained points (..., d)."""
    flat = points.reshape(-1, density.dim)
    found = density.values.along_first((True, *(False for _ in data)))(flat, *data)
    return {
        name: np.asarray(v).reshape(*points.shape[:-1], *v.shape[1:])
        for name, v in zip(("psi", *density.names), found, strict=True)
    }


def jacobian_at(density: Density, data: Sequence[Any], q: Array) -> Array:
    """Differentiate psi in the unconstrained vector by central differences (P, d)."""
    h = 1e-5 * np.maximum(1.0, np.abs(q))
    points = np.concatenate([q + np.diag(h), q - np.diag(h)])
    psi = values_of(density, data, points)["psi"]
    return ((psi[: density.dim] - psi[density.dim :]) / (2.0 * h[:, None])).T


__all__ = ["Density", "compile_density", "jacobian_at", "values_of"]
