"""The closed form against brute force, derivatives against finite differences, scores against the gradient."""

import itertools

import numpy as np
import pytest
from helpers import close, nested

from pmwmix.data.table import Table
from pmwmix.fitting.choose import Plan, make_problem
from pmwmix.fitting.climb import estimate
from pmwmix.frame.build import build_frame
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Structure, build
from pmwmix.likelihood.linear.direct import DirectNested
from pmwmix.likelihood.linear.moments import OneLevelMoments
from pmwmix.likelihood.linear.objective import Objective
from pmwmix.likelihood.standardise import Columns, Scaler
from pmwmix.spec.design import Design
from pmwmix.spec.formula import parse

THREE = Design(weights=["w1", "w2", "w3"], conditional=True)


def problem_of(formula, data, design=None, reml=False, engine="jax"):
    frame = build_frame(parse(formula), Table(data), design or Design(), [])
    return make_problem(frame, frame.designs[0], Plan(engine, reml)), frame


def log_normal(y, mean, sigma):
    return -0.5 * np.log(2 * np.pi * sigma**2) - 0.5 * ((y - mean) / sigma) ** 2


def log_integral(log_f, grids):
    """log ∫ exp(log_f(u)) φ(u) du over standard normal u, by the trapezoid rule on a fine grid."""
    u = np.array(list(itertools.product(*grids))).T
    step = np.prod([grid[1] - grid[0] for grid in grids])
    values = log_f(u) - 0.5 * (u**2).sum(0) - 0.5 * len(grids) * np.log(2 * np.pi)
    top = values.max()
    return top + np.log(np.exp(values - top).sum() * step)


def test_three_levels_with_weights_equal_brute_force_integration():
    """log L = Σ_s w_s log ∫ exp(Σ_c w_c log ∫ exp(Σ_i w_i log f) φ) φ, with weights at every level."""
    d = nested().query("school < 4")
    problem, _ = problem_of("y ~ x + (1 | classroom) + (1 | school)", d, THREE)
    theta = np.array([0.7, 1.1])
    point = problem.objective.at(theta)
    transform = problem.transforms[0]
    beta, sigma = transform.beta(point.beta), transform.y_scale * point.sigma
    grid = np.linspace(-9, 9, 1201)
    expected = 0.0
    for _, school in d.groupby("school"):

        def of_school(u, school=school):
            out = np.zeros(u.shape[1])
            for _, room in school.groupby("classroom"):
                base = beta[0] + beta[1] * room["x"].to_numpy()
                y, w = room["y"].to_numpy(), room["w1"].to_numpy()
                for k, shift in enumerate(sigma * theta[1] * u[0]):
                    mean = base[:, None] + shift + sigma * theta[0] * grid
                    inside = (w[:, None] * log_normal(y[:, None], mean, sigma)).sum(0)
                    out[k] += room["w2"].iloc[0] * log_integral(lambda v, inside=inside: inside, [grid])
            return out

        coarse = np.linspace(-9, 9, 301)
        expected += school["w3"].iloc[0] * log_integral(of_school, [coarse])
    got = -problem.top_scale * (point.value + problem.objective.n_free * np.log(transform.y_scale))
    assert got == pytest.approx(expected, rel=1e-8)


def test_correlated_slopes_equal_brute_force_integration():
    d = nested().query("school < 5")
    problem, _ = problem_of("y ~ x + (1 + x | school)", d, Design(weights=["w1", "w3"], conditional=True))
    theta = np.array([0.8, -0.3, 0.5])
    point = problem.objective.at(theta)
    transform = problem.transforms[0]
    beta, sigma = transform.beta(point.beta), transform.y_scale * point.sigma
    half = transform.y_scale * point.sigma * transform.A_z[0] @ problem.layout.unpack(theta)[0]
    grid = np.linspace(-8, 8, 321)
    expected = 0.0
    for _, school in d.groupby("school"):
        x, y, w = (school[name].to_numpy()[:, None] for name in ("x", "y", "w1"))

        def inside(u, x=x, y=y, w=w):
            b = half @ u
            return (w * log_normal(y, beta[0] + b[0] + (beta[1] + b[1]) * x, sigma)).sum(0)

        expected += school["w3"].iloc[0] * log_integral(inside, [grid, grid])
    got = -problem.top_scale * (point.value + problem.objective.n_free * np.log(transform.y_scale))
    assert got == pytest.approx(expected, rel=1e-8)


MODELS = [
    ("y ~ x + (1 | school)", None, False),
    ("y ~ x + (1 + x | school)", Design(weights=["w1", "w3"], conditional=True), False),
    ("y ~ x + (x || school)", None, True),
    ("y ~ x + (1 | classroom) + (1 | school)", THREE, False),
    ("y ~ x + (1 | classroom) + (1 + x | school)", Design(weights=[None, "w2", "w3"], conditional=True), True),
]


@pytest.mark.parametrize(("formula", "design", "reml"), MODELS)
def test_gradient_hessian_and_scores(formula, design, reml):
    """Central differences with step 1e-5: truncation 1e-10, rounding about 1e-16 |f| / 1e-5."""
    problem, _ = problem_of(formula, nested(), design, reml)
    objective = problem.objective
    rng = np.random.default_rng(1)
    theta = problem.layout.start(0.6) + 0.1 * rng.normal(size=problem.layout.n_theta)
    point, h = objective.at(theta), 1e-5
    steps = h * np.eye(len(theta))
    gradient = [(objective.at(theta + s).value - objective.at(theta - s).value) / (2 * h) for s in steps]
    hessian = [(objective.at(theta + s).gradient - objective.at(theta - s).gradient) / (2 * h) for s in steps]
    size = np.abs(point.gradient).max()
    close(point.gradient, gradient, rtol=1e-6, atol=1e-7 * size)
    close(point.hessian, hessian, rtol=1e-6, atol=1e-6 * np.abs(point.hessian).max())
    p = len(point.beta)
    close(objective.scores(point).sum(0)[p:-1], -point.gradient, rtol=1e-9, atol=1e-9 * size)


@pytest.mark.parametrize(("formula", "design", "reml"), MODELS)
def test_scores_sum_to_zero_at_the_optimum(formula, design, reml):
    problem, _ = problem_of(formula, nested(), design, reml)
    fit = estimate(problem, 0, None, "robust", None)
    assert fit.converged
    scores = problem.objective.scores(problem.objective.at(fit.point.theta))
    assert np.abs(scores.sum(0)).max() < 1e-5 * np.abs(scores).sum(0).max()


def test_joint_information_is_the_hessian_of_the_joint_likelihood():
    """The cross block gives the implicit derivative of the profiled coefficients, the rest the profile Hessian."""
    problem, _ = problem_of("y ~ x + (1 + x | school)", nested(), Design(weights=["w1", "w3"], conditional=True))
    objective = problem.objective
    fit = estimate(problem, 0, None, "model", None)
    point = objective.at(fit.point.theta)
    t, p, h = problem.layout.n_theta, len(point.beta), 1e-5
    profile = np.zeros((t, t))
    for k in range(t):
        step = h * np.eye(t)[k]
        up, down = objective.at(point.theta + step), objective.at(point.theta - step)
        profile[k] = (up.gradient - down.gradient) / (2 * h)
        # d beta-hat / d theta = -A_bb^-1 A_bt, the implicit derivative that the cross block encodes
        implied = -np.linalg.solve(point.information[:p, :p], point.information[:p, p + k])
        close((up.beta - down.beta) / (2 * h), implied, rtol=1e-5, atol=1e-7)
    close(profile, point.hessian, rtol=1e-5, atol=1e-6 * np.abs(profile).max())


@pytest.mark.parametrize("blocks", [((1,),), ((3,),), ((4,),), ((2, 1), (1,)), ((1,), (1,), (1,))])
def test_any_structure_matches_dense_matrices(blocks):
    """D, S and log|X'V^-1 X| against V built in full, unrolled and batched algebra alike, up to four levels."""
    rng = np.random.default_rng(0)
    layout = ThetaLayout(blocks)
    n, L = 150, len(blocks)
    sizes = [30, 10, 4][:L]
    index = [np.unique(np.sort(rng.integers(0, sizes[0], n)), return_inverse=True)[1]]
    parents = []
    for level in range(1, L):
        lower = index[-1].max() + 1
        parent = np.unique(np.sort(rng.integers(0, sizes[level], lower)), return_inverse=True)[1]
        parents.append(parent)
        index.append(parent[index[-1]])
    q = sum(layout.q)
    Z, X = rng.normal(size=(n, q)), np.column_stack([np.ones(n), rng.normal(size=n)])
    y = rng.normal(size=n)
    columns = [*Z.T, *X.T, y]
    scaler = Scaler(np.zeros(q + 3), np.ones(q + 3))
    starts = np.concatenate([[0], np.cumsum(np.bincount(index[0]))])
    units = tuple(np.ones(i.max() + 1) for i in index)
    data = Columns(columns, np.arange(q), np.arange(q, q + 2), np.array([q + 2]), scaler)
    objective = Objective(build(data, None, starts, None, tuple(parents), units), Structure(layout, 2, True))
    theta = layout.start(0.5) + 0.2 * rng.normal(size=layout.n_theta)
    V, column = np.eye(n), 0
    for level, Lambda in enumerate(layout.unpack(theta)):
        Zl = Z[:, column : column + len(Lambda)]
        same = index[level][:, None] == index[level][None, :]
        V += same * (Zl @ Lambda @ Lambda.T @ Zl.T)
        column += len(Lambda)
    inverse = np.linalg.inv(V)
    Xy = np.column_stack([X, y])
    raw = objective.at(theta).raw
    close(raw["D"], np.linalg.slogdet(V)[1], rtol=1e-10)
    S = Xy.T @ inverse @ Xy
    close(raw["S_xx"], S[:2, :2], rtol=1e-9, atol=1e-9)
    close(raw["S_xy"], S[:2, 2], rtol=1e-9, atol=1e-9)
    close(raw["S_yy"], S[2, 2], rtol=1e-9)
    close(raw["R"], np.linalg.slogdet(X.T @ inverse @ X)[1], rtol=1e-10)


@pytest.mark.parametrize("engine", ["python", "numba", "c"])
def test_engines_agree(engine):
    if engine == "c":
        import pytensor

        if not pytensor.config.cxx:
            pytest.skip("no C++ compiler on this machine")
    formula = "y ~ x + (1 | classroom) + (1 | school)"
    theta = np.array([0.7, 1.1])
    reference = problem_of(formula, nested(), THREE)[0].objective.at(theta)
    other = problem_of(formula, nested(), THREE, engine=engine)[0].objective.at(theta)
    close(other.value, reference.value, rtol=1e-12)
    close(other.gradient, reference.gradient, rtol=1e-9)
    close(other.hessian, reference.hessian, rtol=1e-9)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize(("formula", "design"), [m[:2] for m in MODELS[:3]] + [("y ~ 0 + (1 + x | school)", None)])
def test_moments_equal_derivatives_carried_along(formula, design, reml):
    """Both differentiate the same function exactly: only rounding is between them."""
    problem, _ = problem_of(formula, nested(), design, reml, "numpy")
    moments, theta = problem.objective.direct, problem.layout.start(0.6) + 0.1
    carried = DirectNested(problem.blocks, problem.layout, reml)
    assert type(moments) is OneLevelMoments
    expected, got = carried(theta, 0), moments(theta, 0)
    p = len(expected["beta"])
    for name, value in got.items():
        close(value, expected[name], rtol=1e-10, atol=1e-10)
    shares = carried.unit_shares(theta, expected["beta"], 0)
    for name, value in moments.unit_shares(theta, expected["beta"], 0).items():
        close(value, shares[name], rtol=1e-9, atol=1e-9)
    U = np.random.default_rng(1).normal(size=(p, 3))
    close(moments.contrast_derivative(theta, U), carried.contrast_derivative(theta, U), rtol=1e-9, atol=1e-9)
    if reml and p:
        close(moments.reml_scores(theta), carried.reml_scores(theta), rtol=1e-9, atol=1e-9)
