"""The seam for distributions of the random effects: a logistic one, registered here, against brute-force integrals."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import close, outcomes
from scipy import special, stats
from test_generalised import RI, RI3, RS, THREE, TWO, problem_of, somewhere

from pmwmix.api import read_distribution
from pmwmix.data.table import Table
from pmwmix.errors import OptionError
from pmwmix.fitting.choose import Plan, make_problem
from pmwmix.frame.build import build_frame
from pmwmix.likelihood.general.objective import IntegratedObjective
from pmwmix.likelihood.latent import LATENTS, Latent, latent_of
from pmwmix.spec.formula import parse

S = np.sqrt(3.0) / np.pi  # scale of a logistic distribution with variance 1


@dataclass(frozen=True)
class Logistic(Latent):
    """Independent logistic entries, by symbols alone: heavier tails than the normal distribution's."""

    by_numbers, by_graph = False, True

    def log_density(self, u, xp=np):
        return sum(-2.0 * xp.log(2.0 * xp.cosh(0.5 * x / S)) + 0.5 * np.log(2.0 * np.pi) - np.log(S) for x in u)

    def slopes(self, u, xp=np):
        return [-xp.tanh(0.5 * x / S) / S for x in u]

    def curvatures(self, u, xp=np):
        own = [0.5 * (1.0 - xp.tanh(0.5 * x / S) ** 2) / S**2 for x in u]
        return [[own[i] if j == i else None for j in range(i + 1)] for i in range(len(u))]


@pytest.fixture(autouse=True)
def registered():
    LATENTS.add("logistic", Logistic())
    yield
    del LATENTS["logistic"]


def objective_of(formula, family, n_agq, engine="python"):
    """The objective of a problem, with logistic effects in place of normal ones."""
    problem = problem_of(formula, outcomes(), family, n_agq)
    old = problem.objective
    structure = replace(problem.structure, latent="logistic")
    return problem, IntegratedObjective(structure, old.chunks, old.rows, old.n_agq, engine)


def test_a_random_intercept_equals_brute_force():
    """Scipy's densities on a fine grid, weights at both levels; 61 nodes about the mode leave errors of 1e-8."""
    problem, objective = objective_of(
        "z ~ x + v + (1 | school)", "binomial", 61, "numpy"
    )  # where numpy could have done it
    psi = somewhere(problem)
    rows, chunk = objective.rows, objective.chunks[0]
    eta = rows.offset + sum(b * column for b, column in zip(psi[:3], rows.X, strict=True))
    grid = np.linspace(-40.0, 40.0, 8001)
    total = 0.0
    for school in range(chunk.n_units[0]):
        mine = chunk.rows[:, chunk.tile_to[0] == school][chunk.real[:, chunk.tile_to[0] == school]]
        sign = np.where(rows.y[0][mine] > 0, 1.0, -1.0)[:, None]
        density = special.log_expit(sign * (eta[mine][:, None] + psi[3] * grid))
        inside = (rows.w[mine][:, None] * density).sum(axis=0) + stats.logistic.logpdf(grid, scale=S)
        total += chunk.w[0][school] * (special.logsumexp(inside) + np.log(grid[1] - grid[0]))
    close(-objective.at(psi).value, total, rtol=1e-8)


@pytest.mark.parametrize(("random", "n_agq"), [(RI, 5), (RS, 3), (RI3, (3, 5)), (RI3, 1)])
def test_gradient_and_hessian(random, n_agq):
    """Central differences with step 1e-5; the modes move with the parameters under the new curvature too."""
    problem, objective = objective_of(f"z ~ x + v + {random}", "binomial", n_agq)
    psi, h = somewhere(problem), 1e-5
    point = objective.at(psi)
    sides = [[objective.at(psi + sign * step) for sign in (1, -1)] for step in h * np.eye(len(psi))]
    gradient = [(up.value - low.value) / (2 * h) for up, low in sides]
    close(point.gradient, gradient, rtol=1e-6, atol=1e-7 * np.abs(gradient).max())
    hessian = [(up.gradient - low.gradient) / (2 * h) for up, low in sides]
    close(point.hessian, hessian, rtol=1e-6, atol=1e-7 * np.abs(hessian).max())


CASES = {
    "t": ("z ~ x + v + (1 | school)", "binomial", 5, "t"),
    "t, two effects": ("z ~ x + v + (1 + v | school)", "binomial", 3, "t"),
    "t, two levels": ("count ~ x + (1 | classroom) + (1 | school)", "poisson", 3, "t"),
    "masses, gaussian": ("y ~ x + v + (1 | school)", "gaussian", None, "discrete(4)"),
    "masses, two levels": ("visits ~ x + (1 | classroom) + (1 | school)", "negbinomial", None, "discrete(2)"),
}


def shaped(formula, family, n_agq, random):
    """A problem with weights at all levels, and parameters that are no optimum."""
    distribution = read_distribution(family, None, None, "ml", random=random)
    design = THREE if "classroom" in formula else TWO
    frame = build_frame(parse(formula), Table(outcomes()), design, [], None, distribution)
    nodes = None if n_agq is None else (n_agq,) * len(frame.hierarchy.levels)
    problem = make_problem(frame, frame.designs[0], Plan("numpy", n_agq=nodes))
    start = problem.objective.start(0)
    return problem, start + 0.1 * np.random.default_rng(1).normal(size=len(start))


@pytest.mark.parametrize("case", CASES)
def test_derivatives_with_a_shape(case):
    """Degrees of freedom, places and odds among the parameters; central differences with step 1e-5."""
    problem, psi = shaped(*CASES[case])
    objective, h = problem.objective, 1e-5
    point = objective.at(psi)
    sides = [[objective.at(psi + sign * step) for sign in (1, -1)] for step in h * np.eye(len(psi))]
    gradient = np.array([(up.value - low.value) / (2 * h) for up, low in sides])
    close(point.gradient, gradient, rtol=1e-6, atol=1e-7 * np.abs(gradient).max())
    hessian = np.array([(up.gradient - low.gradient) / (2 * h) for up, low in sides])
    close(point.hessian, hessian, rtol=1e-6, atol=1e-7 * np.abs(hessian).max())
    close(point.scores.sum(axis=0), -point.gradient, rtol=1e-12, atol=1e-12)


def rows_of(problem, psi):
    """Fixed parts of the linear predictor, outcomes, weights and schools of the rows."""
    rows, chunk = problem.objective.rows, problem.objective.chunks[0]
    eta = rows.offset + sum(b * column for b, column in zip(psi[: problem.structure.p], rows.X, strict=True))
    unit = np.zeros(len(eta), dtype=int)
    unit[chunk.rows[chunk.real]] = np.broadcast_to(chunk.tile_to[0], chunk.rows.shape)[chunk.real]
    return eta, rows.y[0], rows.w, unit, chunk


def test_t_effects_equal_brute_force():
    """Scipy's density on a grid in asinh u; 61 nodes leave 1e-8 at 12 degrees of freedom."""
    problem, psi = shaped("z ~ x + v + (1 | school)", "binomial", 61, "t")
    psi[-1] = np.log(10.0)
    eta, y, w, unit, chunk = rows_of(problem, psi)
    x = np.linspace(-12.0, 12.0, 4001)
    grid, scale = np.sinh(x), np.sqrt(10.0 / 12.0)
    prior = stats.t.logpdf(grid, 12.0, scale=scale) + np.log(np.cosh(x)) + np.log(x[1] - x[0])
    total = 0.0
    for school in range(chunk.n_units[0]):
        mine = unit == school
        sign = np.where(y[mine] > 0, 1.0, -1.0)[:, None]
        inside = (w[mine][:, None] * special.log_expit(sign * (eta[mine][:, None] + psi[3] * grid))).sum(axis=0)
        total += chunk.w[0][school] * special.logsumexp(inside + prior)
    close(-problem.objective.at(psi).value, total, rtol=1e-8)


def test_masses_equal_a_sum_over_all_kinds():
    """Two levels: every school's kinds times the kinds of each of its classes, weights as powers, by loops."""
    problem, psi = shaped("z ~ x + v + (1 | classroom) + (1 | school)", "binomial", None, "discrete(3)")
    eta, y, w, unit, chunk = rows_of(problem, psi)
    p, effects = problem.structure.p, problem.structure.effects
    (low, low_share), (high, high_share) = (effects.nodes(0, psi[p + 2 + 3 * k : p + 5 + 3 * k]) for k in (0, 1))
    for places, share in ((low, low_share), (high, high_share)):
        close([share.sum(), share @ places, share @ places**2], [1.0, 0.0, 1.0], atol=1e-12)
    sign = np.where(y > 0, 1.0, -1.0)
    total = 0.0
    for school in range(chunk.n_units[1]):
        by_kind = np.log(high_share)
        for classroom in np.flatnonzero(chunk.parents[0][: chunk.n_units[0]] == school):
            mine = unit == classroom
            for kind, top in enumerate(high):
                sums = [
                    w[mine] @ special.log_expit(sign[mine] * (eta[mine] + psi[p] * own + psi[p + 1] * top))
                    for own in low
                ]
                by_kind[kind] += chunk.w[0][classroom] * special.logsumexp(np.log(low_share) + sums)
        total += chunk.w[1][school] * special.logsumexp(by_kind)
    close(-problem.objective.at(psi).value, total, rtol=1e-12)
    psi[p : p + 2] = 0.0  # no spread: the model without random effects
    alone = chunk.w[1][chunk.to_top[0]] * chunk.w[0]
    close(-problem.objective.at(psi).value, (w * alone[unit]) @ special.log_expit(sign * eta), rtol=1e-12)


def test_the_normal_distribution_is_the_one_entry():
    NORMAL = latent_of("normal")
    u = [np.array([0.3, -1.0]), np.array([2.0, 0.5])]
    close(NORMAL.log_density(u), np.log(2 * np.pi) + sum(stats.norm.logpdf(x) for x in u), rtol=1e-14)
    points, weights = NORMAL.nodes(15)
    close([weights @ points**k for k in (0, 1, 2, 4)], [1.0, 0.0, 1.0, 3.0], atol=1e-12)
    drawn, expected = (np.random.default_rng(1) for _ in range(2))
    np.testing.assert_array_equal(NORMAL.draw(drawn, (2, 3)), expected.standard_normal((2, 3)))
    with pytest.raises(OptionError, match="distribution of the random effects 'norml'"):
        LATENTS["norml"]
