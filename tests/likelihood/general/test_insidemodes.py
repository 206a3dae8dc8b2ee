"""The likelihood with the search for modes inside: against `IntegratedObjective`, differences, wild points."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import close, outcomes
from scipy import optimize
from test_generalised import DERIVATIVES, FOUR, RI3, RS_TOP, problem_of, somewhere

from pmwmix.likelihood.engine import Compiled
from pmwmix.likelihood.general.inside import InsideData, integrated_loglik
from pmwmix.likelihood.general.insidedata import inside_data, joined
from pmwmix.likelihood.general.tiles import cut
from pmwmix.likelihood.graph import Graph

CASES = {
    **{
        name: DERIVATIVES[name]
        for name in ("logit", "cloglog", "poisson", "negbinomial", "cumulative", "gamma", "beta")
    },
    **{name: DERIVATIVES[name] for name in ("student", "two effects", "uncorrelated effects", "three levels")},
    **{name: DERIVATIVES[name] for name in ("three levels, Laplace", "three levels, negbinomial")},
    **{name: DERIVATIVES[name] for name in ("slope at the top, Laplace", "three effects")},
    "four effects": (FOUR[0], FOUR[1], FOUR[2], None, FOUR[3]),
}


def case(name):
    outcome, random, family, link, n_agq = CASES[name]
    return problem_of(f"{outcome} ~ x + v + {random}", outcomes(), family, n_agq, link)


def loglik_of(structure, engine="python"):
    """Compile value and gradient as a function of (beta, theta, phi) in one vector and of data."""
    sizes = (structure.p, structure.layout.n_theta, structure.n_phi)
    psi = pt.tensor("psi", shape=(sum(sizes),))
    beta, theta, phi = psi[: sizes[0]], psi[sizes[0] : sum(sizes[:2])], psi[sum(sizes[:2]) :]
    data = InsideData.symbols(structure)
    value = integrated_loglik(structure, beta, theta, phi, data)
    graph = Graph([psi, *data.flat()], {"value": value, "gradient": pytensor.grad(value, psi)})
    compiled = Compiled(graph, engine)

    def run(psi, arrays):
        out = compiled(psi, compiled.put(list(arrays.values())))
        return float(out["value"]), np.asarray(out["gradient"])

    return run


def estimate(problem):
    """The ML estimate, roughly."""
    start = somewhere(problem)

    def of(psi):
        point = problem.objective.at(psi)
        return point.value, point.gradient

    return optimize.minimize(of, start, jac=True, method="BFGS", options={"maxiter": 30}).x


def same(found, point):
    close(found[0], -point.value, rtol=1e-11)
    close(found[1], -point.gradient, rtol=1e-8, atol=1e-9 * np.abs(point.gradient).max())


# -- values and gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_equals_the_objective_near_and_far(name):
    problem = case(name)
    psi, rng = somewhere(problem), np.random.default_rng(3)
    run, arrays = loglik_of(problem.structure), inside_data(problem, 0, psi)
    for far in (0.0, 0.3, 1.5):
        at = psi + far * rng.normal(size=len(psi))
        same(run(at, arrays), problem.objective.at(at))


@pytest.mark.parametrize("name", ["logit", "two effects", "three levels"])
def test_equals_the_objective_around_the_estimate(name):
    problem = case(name)
    psi = estimate(problem)
    sd = np.sqrt(np.diag(np.linalg.inv(problem.objective.at(psi).hessian)))
    run, arrays = loglik_of(problem.structure), inside_data(problem, 0, psi)
    for away in (0.0, 1.0, -1.0, 5.0, -5.0):
        point = problem.objective.at(psi + away * sd)
        value, gradient = run(psi + away * sd, arrays)
        close(value, -point.value, rtol=1e-11)
        close(gradient, -point.gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["logit", "negbinomial", "two effects", "three levels"])
def test_gradient_equals_differences(name):
    """Central differences with step 1e-5, from data whose modes are those of another point."""
    problem = case(name)
    psi, h = somewhere(problem, 2), 1e-5
    run, arrays = loglik_of(problem.structure), inside_data(problem, 0, somewhere(problem))
    gradient = run(psi, arrays)[1]
    sides = [[run(psi + sign * step, arrays)[0] for sign in (1, -1)] for step in h * np.eye(len(psi))]
    close(gradient, [(up - down) / (2 * h) for up, down in sides], rtol=1e-6, atol=1e-7 * np.abs(gradient).max())


@pytest.mark.parametrize("name", ["poisson", "three levels", "two effects"])
def test_where_the_search_begins_does_not_matter(name):
    problem = case(name)
    psi = somewhere(problem)
    run = loglik_of(problem.structure)
    near = run(psi, inside_data(problem, 0, psi))
    for other in (None, somewhere(problem, 2), 3.0 * psi):
        value, gradient = run(psi, inside_data(problem, 0, other))
        close(value, near[0], rtol=1e-12)
        close(gradient, near[1], rtol=1e-9, atol=1e-9 * np.abs(near[1]).max())


def test_known_modes_follow_the_parameters_to_first_order():
    problem = case("three levels, negbinomial")
    psi, step = somewhere(problem), 1e-3
    arrays = inside_data(problem, 0, psi)
    for j in range(len(psi)):
        up, down = (
            problem.objective.whitened_modes(problem.objective.at(psi + sign * step * np.eye(len(psi))[j]))
            for sign in (1, -1)
        )
        for level in range(2):
            slope = (up[level] - down[level]) / (2 * step)
            close(arrays[f"slope{level}"][j], slope, rtol=1e-3, atol=1e-4)


# -- engines -----------------------------------------------------------------------------------------------------------

SLOWLY = ("slope at the top, Laplace", "four effects", "three effects", "student", "cumulative")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name", ["three levels, negbinomial", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWLY)]
)
def test_jax_agrees_with_the_interpreter_and_runs_in_threads(name):
    problem = case(name)
    psi = somewhere(problem)
    python, jax = (loglik_of(problem.structure, engine) for engine in ("python", "jax"))
    arrays, points = inside_data(problem, 0, psi), [psi, somewhere(problem, 2), 1.5 * psi]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda at: jax(at, arrays), points))
        again = list(pool.map(lambda at: python(at, arrays), points))
    for (value, gradient), (other, slope) in zip(found, again, strict=True):
        close(value, other, rtol=1e-12)
        close(gradient, slope, rtol=1e-8, atol=1e-9 * np.abs(slope).max())
    wild(problem, jax, arrays, psi)


def test_numba_searches_for_the_modes_too():
    """From modes at other parameters; what the search starts from is not yet a mode."""
    problem = case("poisson")
    psi, other = somewhere(problem), somewhere(problem, 2)
    value, gradient = loglik_of(problem.structure, "numba")(psi, inside_data(problem, 0, other))
    same((value, gradient), problem.objective.at(psi))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["poisson", "student", "two effects", "three levels"])
def test_wild_parameters_come_to_an_end(name):
    problem = case(name)
    psi = somewhere(problem)
    wild(problem, loglik_of(problem.structure), inside_data(problem, 0, psi), psi)


def wild(problem, run, arrays, psi):
    theta = slice(problem.structure.p, problem.structure.p + problem.layout.n_theta)
    best = run(psi, arrays)[0]
    for size in (1e2, 1e4, 1e8, 1e200, np.inf, np.nan):
        at = psi.copy()
        at[theta] *= size
        value = run(at, arrays)[0]
        assert np.isfinite(value) <= (size < np.inf)
        assert not value > best + 50.0
        value = run(psi * size, arrays)[0]
        assert np.isfinite(value) <= (size < np.inf)


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("rows_per_chunk", [20, 150, 10_000])
def test_chunks_are_joined_without_padding(levels, rows_per_chunk):
    rng = np.random.default_rng(levels)
    sizes = [7, 19, 60][-levels:]  # units per level, top-down
    parents = [np.sort(np.r_[np.arange(a), rng.integers(0, a, b - a)]) for a, b in pairwise(sizes)]
    starts = np.r_[0, np.cumsum(rng.integers(1, 9, sizes[-1]))]
    w = tuple(rng.uniform(0.5, 2.0, n) for n in reversed(sizes))
    order = rng.permutation(starts[-1])
    one = joined(cut(order, starts, tuple(reversed(parents)), w, rows_per_chunk))
    other = joined(cut(order, starts, tuple(reversed(parents)), w, 10**9))
    assert sorted(one.rows[one.real]) == list(range(starts[-1]))
    assert [len(part) for part in one.w] == list(reversed(sizes))
    close(np.where(one.real, one.rows, -1), np.where(other.real, other.rows, -1))
    for name in ("tile_to", "parents", "to_top", "w", "omega"):
        for mine, theirs in zip(getattr(one, name), getattr(other, name), strict=True):
            close(mine, theirs)
    for level, part in enumerate(w):
        close(one.w[level], part)


def test_variables_are_found_by_name():
    structure = problem_of(f"visits ~ x + v + {RI3}", outcomes(), "negbinomial", 3).structure
    symbols = InsideData.symbols(structure)
    again = InsideData.of(structure, {symbol.name: symbol for symbol in symbols.flat()})
    assert again == symbols
    assert len({symbol.name for symbol in symbols.flat()}) == len(symbols.flat())
    other = problem_of(f"cbind(hits, n - hits) ~ x + {RS_TOP}", outcomes(), "binomial", 1)
    arrays = inside_data(other)
    assert list(arrays) == [symbol.name for symbol in InsideData.symbols(other.structure).flat()]
    for symbol in InsideData.symbols(other.structure).flat():
        array = arrays[symbol.name]
        assert array.dtype == symbol.dtype and array.ndim == symbol.ndim
