"""Sampling by PyMC's own interface: its NUTS, NumPyro's or BlackJAX's, for comparison with nutpie."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pymc as pm
from pytensor.graph.replace import graph_replace

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.likelihood.engine import Compiled
from pmwmix.likelihood.graph import Graph
from pmwmix.sample.model.model import Sampled, put_data
from pmwmix.sample.model.start import away_from_boundary, values_at
from pmwmix.sample.model.target import Target
from pmwmix.sample.nuts.nuts import Draws
from pmwmix.sample.request import Request

NAMES = {"diverging": "diverging", "energy": "energy", "n_steps": "n_steps", "step_size": "step_size", "lp": "logp"}


def check_sampler(name: str, linear: bool) -> None:
    """Refuse a sampler that is not installed, or cannot differentiate the model.

    Raises
    ------
    OptionError, NotSupportedError
    """
    if name in ("numpyro", "blackjax") and not linear:
        raise NotSupportedError(
            f"Only nutpie and PyMC's own sampler take generalised models. Asked for sampler={name!r}, whose "
            f"derivatives are JAX's, which cannot go back through the search for conditional modes. Leave sampler out."
        )
    if name in ("numpyro", "blackjax") and importlib.util.find_spec(name) is None:
        raise OptionError(
            f"The sampler {name!r} is not installed. It is an optional package. Run 'pip install {name}', or leave "
            f"sampler out to use nutpie."
        )


def sample_with_pymc(targets: Sequence[Target], sampled: Sampled, request: Request) -> list[Draws]:
    """Sample one plausible value after the other by ``pymc.sample``."""
    return [_one(target, sampled, request, number) for number, target in enumerate(targets)]


def _one(target: Target, sampled: Sampled, request: Request, number: int) -> Draws:
    put_data(target, sampled)
    values = values_at(target, sampled, away_from_boundary(target))
    begin = {name: values[name] for name in sampled.names}
    with sampled.model, warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        try:
            tree = pm.sample(
                draws=request.draws,
                tune=request.tune,
                chains=request.chains,
                cores=1 if request.sampler == "pymc" else request.cores,
                random_seed=request.seed + number,
                nuts_sampler=request.sampler,
                initvals=begin,
                progressbar=request.progress,
                var_names=list(sampled.names),
                compute_convergence_checks=False,
                **request.options,
            )
        except (TypeError, ValueError) as error:
            if not request.options:
                raise
            raise OptionError(
                f"The sampler {request.sampler} refuses its options. It was given {request.options!r} and says: "
                f"{str(error)[:200]}. See the arguments of pymc.sample."
            ) from error
    found = {name: np.asarray(tree["posterior"][name]) for name in sampled.names}
    stats = {
        ours: np.asarray(tree["sample_stats"][theirs])
        for theirs, ours in NAMES.items()
        if theirs in tree["sample_stats"]
    }
    return Draws({"psi": _psi(sampled, found), **found}, stats, request.sampler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what PyMC says of every run."""
    logger = logging.getLogger("pymc")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _psi(sampled: Sampled, found: dict[str, Array]) -> Array:
    """Evaluate psi at draws of the random variables (chain, draw, P)."""
    import jax

    variables = list(sampled.model.free_RVs)
    shared = list(sampled.data.values())
    stand_in = {variable: variable.type() for variable in (*variables, *shared)}
    (psi,) = graph_replace([sampled.psi], stand_in, strict=False)
    function = Compiled(Graph(list(stand_in.values()), {"psi": psi}), "jax")
    given = function.put([np.asarray(one.get_value()) for one in shared])
    shape = next(iter(found.values())).shape[:2]
    points = [found[rv.name].reshape(-1, *found[rv.name].shape[2:]) for rv in variables]
    direct = function._direct
    assert direct is not None
    many = jax.jit(jax.vmap(direct, in_axes=(*[0] * len(points), *[None] * len(given))))
    return np.asarray(many(*points, *given)[0]).reshape(*shape, -1)


__all__ = ["check_sampler", "sample_with_pymc"]
