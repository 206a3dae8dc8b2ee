"""NUTS for all plausible values: one compiled log-posterior, chains side by side.

The sampler is nutpie's. Linear models are evaluated for all chains at once (`meeting.py`), others chain by chain;
either way a seed gives the same draws on one machine.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import OptionError
from pmwmix.running import say
from pmwmix.sample.model.density import Density, jacobian_at, values_of
from pmwmix.sample.model.model import Sampled
from pmwmix.sample.model.start import away_from_boundary, unconstrained, values_at, whitening
from pmwmix.sample.model.target import Target
from pmwmix.sample.nuts.meeting import Meeting, is_possible
from pmwmix.sample.request import Request

SMALL = 400_000  # numbers in the data of one model times chains, up to which plausible values are sampled at once
STATS = ("diverging", "energy", "n_steps", "step_size", "depth", "logp", "maxdepth_reached", "mean_tree_accept")


@dataclass(frozen=True)
class Draws:
    """What NUTS returned for one plausible value.

    Parameters
    ----------
    values : dict of ndarray (chain, draw, ...)
        ``psi`` and the random variables by name.
    stats : dict of ndarray (chain, draw)
    sampler : str
    """

    values: dict[str, Array]
    stats: dict[str, Array]
    sampler: str


@dataclass(frozen=True)
class Lane:
    """The data of one plausible value with the scale on which it is sampled."""

    data: list[Any]
    mean: Array
    scale: Array
    arrays: dict[str, Array]


def lane_of(target: Target, sampled: Sampled, density: Density, others: Sequence[Lane] = ()) -> Lane:
    """Arrange the data and centre and scale the parameters on the ML estimate; data shared with others stay one."""
    arrays = sampled.arrays(target)
    known = {name: (one.arrays[name], put) for one in others for name, put in zip(density.data, one.data, strict=True)}
    data = [
        known[name][1] if name in known and known[name][0] is arrays[name] else density.put(arrays[name])
        for name in density.data
    ]
    values = values_at(target, sampled, away_from_boundary(target))
    mean = unconstrained(sampled, values)
    jacobian = jacobian_at(density, data, mean)
    return Lane(data, mean, whitening(target, sampled, jacobian), arrays)


def sample_nutpie(targets: Sequence[Target], sampled: Sampled, density: Density, request: Request) -> list[Draws]:
    """Sample all plausible values."""
    lanes: list[Lane] = []
    for target in targets:
        lanes.append(lane_of(target, sampled, density, lanes[:1]))
    size = sum(np.size(value) for value in lanes[0].data) * request.chains
    if targets[0].linear and is_possible():
        at_once = len(lanes) if size <= SMALL else 1
        found = []
        for first in range(0, len(lanes), at_once):
            _say(first, at_once, len(lanes), request)
            found += _together(lanes[first : first + at_once], density, request, first)
    else:
        found = []
        for number, lane in enumerate(lanes):
            _say(number, 1, len(lanes), request)
            found.append(_alone(lane, density, request, number))
    out = []
    for lane, (z, stats) in zip(lanes, found, strict=True):
        q = lane.mean + z @ lane.scale.T
        out.append(Draws(values_of(density, lane.data, q), stats, "nutpie"))
    return out


def _say(first: int, at_once: int, total: int, request: Request) -> None:
    """Say what the sampler's own bar does not: that a compiler runs first, and how many plausible values there are."""
    last = min(first + at_once, total)
    if first == 0:
        say("Compiling the posterior" + (f", once for all {total} plausible values" if total > 1 else ""),
            request.progress)  # fmt: skip
    if total > 1:
        which = f"{first + 1} to {last}, {(last - first) * request.chains} chains side by side"
        which = which if last > first + 1 else f"{last}, {request.chains} chains"
        say(f"Sampling plausible values {which}, of {total}" if last > first + 1 else
            f"Sampling plausible value {which}, of {total}", request.progress)  # fmt: skip


def _together(
    lanes: Sequence[Lane], density: Density, request: Request, number: int
) -> list[tuple[Array, dict[str, Array]]]:
    """Run the chains of some plausible values at once, each step evaluated for all of them."""
    K, C = len(lanes), request.chains
    evaluate = _stacked(lanes, density, C)
    _check_beginning(evaluate(np.zeros((K * C, density.dim)))[:, 0])
    z, stats = met(K * C, density.dim, request, request.seed + number, evaluate)
    parts = [slice(k * C, (k + 1) * C) for k in range(K)]
    return [(z[part], {name: value[part] for name, value in stats.items()}) for part in parts]


def met(
    chains: int, dim: int, request: Request, seed: int, evaluate: Callable[[Array], Array]
) -> tuple[Array, dict[str, Array]]:
    """Sample chains that are evaluated together: (chains, dim) -> (chains, 1 + dim), each row its own density."""
    meeting = Meeting(chains, dim, request.draws + request.tune, evaluate)
    chain_of = _chain_numbers(chains, seed)

    def begin(chain_seed: int) -> Array:
        if chain_seed in chain_of:  # else a second try of the same chain
            meeting.take(chain_of[chain_seed], threading.get_ident())
        return starting_point(chain_seed, dim)

    return _read(_sampled(meeting.model(begin), chains, chains, seed, how_of(request), serve=meeting.serve))


def _stacked(lanes: Sequence[Lane], density: Density, chains: int) -> Callable[[Array], Array]:
    """Vectorise the log-posterior over chains; what differs between plausible values has a copy per chain."""
    import jax.numpy as jnp

    columns = list(zip(*([lane.mean, lane.scale, *lane.data] for lane in lanes), strict=True))
    shared = [all(np.array_equal(values[0], other) for other in values[1:]) for values in columns]
    data = [
        jnp.asarray(values[0]) if same else jnp.asarray(np.repeat(np.stack(values), chains, axis=0))
        for values, same in zip(columns, shared, strict=True)
    ]
    many = density.value.along_first((True, *(not same for same in shared)))

    def evaluate(points: Array) -> Array:
        return np.asarray(many(points, *data)[0])

    return evaluate


def _alone(lane: Lane, density: Density, request: Request, number: int) -> tuple[Array, dict[str, Array]]:
    """Run the chains of one plausible value, each evaluated by itself."""
    given = [*density.value.put([lane.mean, lane.scale]), *lane.data]
    direct = density.value._direct
    assert direct is not None

    def ask(chain: int, point: Array) -> Array:
        return np.asarray(direct(point, *given)[0])

    _check_beginning(ask(0, np.zeros(density.dim))[:1])
    seed = request.seed + number
    place: dict[int, int | None] = {}
    model = _python_model(density.dim, place, ask, lambda chain, point: np.array(point))
    return _read(_sampled(model, request.chains, request.cores, seed, how_of(request)))


def how_of(request: Request) -> dict[str, Any]:
    """Give nutpie's arguments."""
    return {"draws": request.draws, "tune": request.tune, "progress_bar": request.progress, **request.options}


def starting_point(chain_seed: int, dim: int) -> Array:
    """Draw where a chain begins, on the scale on which the posterior is nearly standard normal."""
    return np.random.default_rng(chain_seed).normal(size=dim)


def _check_beginning(values: Array) -> None:
    """Refuse priors under which the fit by maximum likelihood is impossible: no chain could begin."""
    if not np.isfinite(values).all():
        raise OptionError(
            f"The posterior cannot be evaluated at the fit by maximum likelihood, where the chains begin. Its "
            f"log-density there is {float(values[~np.isfinite(values)][0])}. "
            f"Give priors that allow those estimates."
        )


def _chain_numbers(chains: int, seed: int) -> dict[int, int]:
    """Map the seed of every chain's starting point to its number: nutpie tells a function the one, not the other."""
    place: dict[int, int | None] = {}

    def ask(chain: int, point: Array) -> Array:
        return np.concatenate([[-0.5 * point @ point], -point])

    def expand(chain: int, point: Array) -> Array:
        return np.array([chain >> 32, chain & 0xFFFFFFFF], dtype=float)

    model = _python_model(2, place, ask, expand)
    tree = _sampled(model, chains, 1, seed, {"draws": 1, "tune": 1, "progress_bar": False})
    halves = np.asarray(tree["posterior"]["z"])[:, 0]
    return {(int(high) << 32) + int(low): chain for chain, (high, low) in enumerate(halves)}


def _python_model(
    dim: int,
    place: dict[int, int | None],
    ask: Callable[[int, Array], Array],
    expand: Callable[[int, Array], Array],
) -> Any:
    """Make a model of Python functions that know the seed of their chain, which runs in one thread."""
    from nutpie.compiled_pyfunc import from_pyfunc

    def mine() -> int:
        chain = place[threading.get_ident()]
        assert chain is not None
        return chain

    def make_logp() -> Callable[..., tuple[float, Array]]:
        place[threading.get_ident()] = None

        def logp(point: Array, **kwargs: Any) -> tuple[float, Array]:
            packed = ask(mine(), point)
            return float(packed[0]), packed[1:]

        return logp

    def make_expand(*args: Any) -> Callable[..., dict[str, Array]]:
        return lambda point, **kwargs: {"z": expand(mine(), point)}

    def begin(chain_seed: int) -> Array:
        me = threading.get_ident()
        if place[me] is None:  # else a second try of the same chain
            place[me] = chain_seed
        return starting_point(chain_seed, dim)

    return from_pyfunc(dim, make_logp, make_expand, [np.dtype("float64")], [(dim,)], ["z"], make_initial_point_fn=begin)


def _sampled(
    model: Any,
    chains: int,
    cores: int,
    seed: int,
    how: dict[str, Any],
    serve: Callable[[Callable[[], bool]], None] | None = None,
) -> Any:
    """Run nutpie; give its tree."""
    import nutpie

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        running = nutpie.sample(model, chains=chains, cores=cores, seed=seed, save_warmup=False, blocking=False, **how)
        try:
            if serve is not None:
                serve(lambda: _is_over(running))
            return running.wait()
        except BaseException:  # Ctrl-C too: nutpie would return the draws so far as if they were all
            running.cancel()
            raise


def _is_over(running: Any) -> bool:
    """Whether nutpie has ended; on a busy machine it may be too late to answer, and is asked again."""
    try:
        return bool(running.is_finished)
    except TimeoutError:
        return False


def _read(tree: Any) -> tuple[Array, dict[str, Array]]:
    """Give whitened draws (chain, draw, d) and statistics (chain, draw)."""
    stats = {name: np.asarray(tree["sample_stats"][name]) for name in STATS if name in tree["sample_stats"]}
    return np.asarray(tree["posterior"]["z"]), stats


__all__ = ["Draws", "lane_of", "met", "sample_nutpie"]
