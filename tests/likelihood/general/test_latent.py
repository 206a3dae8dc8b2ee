"""The seam for distributions of the random effects: a logistic one, registered here, against brute-force integrals."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import close, outcomes
from scipy import special, stats
from test_generalised import RI, RI3, RS, problem_of, somewhere

from pmwmix.errors import OptionError
from pmwmix.likelihood.general.objective import IntegratedObjective
from pmwmix.likelihood.latent import LATENTS, NORMAL

S = np.sqrt(3.0) / np.pi  # scale of a logistic distribution with variance 1


@dataclass(frozen=True)
class Logistic:
    """Independent logistic entries: heavier tails than the normal distribution's."""

    def log_density(self, u, xp=np):
        return sum(-2.0 * xp.log(2.0 * xp.cosh(0.5 * x / S)) + 0.5 * np.log(2.0 * np.pi) - np.log(S) for x in u)

    def slopes(self, u, xp=np):
        return [-xp.tanh(0.5 * x / S) / S for x in u]

    def curvatures(self, u, xp=np):
        own = [0.5 * (1.0 - xp.tanh(0.5 * x / S) ** 2) / S**2 for x in u]
        return [[own[i] if j == i else None for j in range(i + 1)] for i in range(len(u))]

    def nodes(self, n):
        raise NotImplementedError

    def draw(self, rng, shape):
        return rng.logistic(scale=S, size=shape)


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


def test_the_normal_distribution_is_the_one_entry():
    u = [np.array([0.3, -1.0]), np.array([2.0, 0.5])]
    close(NORMAL.log_density(u), np.log(2 * np.pi) + sum(stats.norm.logpdf(x) for x in u), rtol=1e-14)
    points, weights = NORMAL.nodes(15)
    close([weights @ points**k for k in (0, 1, 2, 4)], [1.0, 0.0, 1.0, 3.0], atol=1e-12)
    drawn, expected = (np.random.default_rng(1) for _ in range(2))
    np.testing.assert_array_equal(NORMAL.draw(drawn, (2, 3)), expected.standard_normal((2, 3)))
    with pytest.raises(OptionError, match="distribution of the random effects 'norml'"):
        LATENTS["norml"]
