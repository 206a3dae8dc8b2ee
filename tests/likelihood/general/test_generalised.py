"""Likelihoods of generalised models: derivatives against differences, quadrature against brute-force integration.

Graphs run in PyTensor's interpreter here, which compiles nothing for a shape or a number of nodes; one test holds JAX
and numba to the same numbers.
"""

import itertools

import numpy as np
import pytest
from helpers import close, outcomes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from pmwmix.api import read_distribution
from pmwmix.data.table import Table
from pmwmix.fitting.choose import Plan, make_problem
from pmwmix.fitting.general import node_numbers
from pmwmix.fitting.rawscale import raw_map
from pmwmix.frame.build import build_frame
from pmwmix.likelihood.general.nodes import product_rule
from pmwmix.likelihood.general.tiles import cut
from pmwmix.spec.design import Design
from pmwmix.spec.formula import parse

TWO = Design(weights=["w1", "w3"], conditional=True)
THREE = Design(weights=["w1", "w2", "w3"], conditional=True)


def problem_of(formula, data, family, n_agq, link=None, trials=None, engine="python", cells=None):
    design = THREE if "classroom" in formula else TWO
    distribution = read_distribution(family, link, trials, "ml")
    frame = build_frame(parse(formula), Table(data), design, [], None, distribution)
    nodes = (n_agq,) * len(frame.hierarchy.levels) if isinstance(n_agq, int) else n_agq
    return make_problem(frame, frame.designs[0], Plan(engine, n_agq=nodes, chunk_cells=cells))


def somewhere(problem, seed=1):
    """A point that is no optimum, with every covariance parameter away from zero."""
    rng = np.random.default_rng(seed)
    structure, layout = problem.structure, problem.layout
    beta = 0.4 * rng.normal(size=structure.p)
    theta = layout.start(0.7) + 0.1 * rng.normal(size=layout.n_theta)
    phi = problem.family.start(problem.link, problem.responses[0], problem.objective.rows.w)[1]
    return np.concatenate([beta, theta, phi + 0.1 * rng.normal(size=len(phi))])


# -- derivatives -------------------------------------------------------------------------------------------------------

RI, RS, RS3 = "(1 | school)", "(1 + v | school)", "(1 + v + x | school)"
RI3, RS_TOP, RS_LOW = (
    "(1 | classroom) + (1 | school)",
    "(1 | classroom) + (1 + v | school)",
    "(1 + v | classroom) + (1 | school)",
)
DERIVATIVES = {
    "logit": ("z", RI, "binomial", None, 5),
    "logit, Laplace": ("z", RI, "binomial", None, 1),
    "probit": ("z", RI, "binomial", "probit", 5),
    "cloglog": ("cbind(hits, n - hits)", RI, "binomial", "cloglog", 5),
    "poisson": ("count", RI, "poisson", None, 5),
    "negbinomial": ("visits", RI, "negbinomial", None, 5),
    "cumulative": ("mark", RI, "cumulative", None, 5),
    "gamma": ("minutes", RI, "gamma", None, 5),
    "beta": ("share", RI, "beta", None, 5),
    "student": ("y", RI, "student", None, 5),
    "gaussian, log link": ("minutes", RI, "gaussian", "log", 5),
    "two effects": ("z", RS, "binomial", None, 3),
    "two effects, Laplace": ("count", RS, "poisson", None, 1),
    "uncorrelated effects": ("z", "(v || school)", "binomial", None, 3),
    "three effects": ("cbind(hits, n - hits)", RS3, "binomial", None, 3),
    "three effects, Laplace": ("cbind(hits, n - hits)", RS3, "binomial", None, 1),
    "three levels": ("z", RI3, "binomial", None, 5),
    "three levels, Laplace": ("z", RI3, "binomial", None, 1),
    "three levels, Laplace below": ("z", RI3, "binomial", None, (1, 5)),
    "three levels, Laplace above": ("z", RI3, "binomial", None, (5, 1)),
    "three levels, other nodes": ("z", RI3, "binomial", None, (3, 9)),
    "three levels, negbinomial": ("visits", RI3, "negbinomial", None, (3, 4)),
    "slope at the top": ("count", RS_TOP, "poisson", None, (3, 2)),
    "slope at the top, Laplace": ("mark", RS_TOP, "cumulative", None, 1),
    "slope below, Laplace": ("count", RS_LOW, "poisson", None, 1),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_gradient_hessian_and_scores(name):
    """Central differences with step 1e-5: truncation 1e-10, rounding about 1e-16 |f| / 1e-5; weights at every level."""
    outcome, random, family, link, n_agq = DERIVATIVES[name]
    problem = problem_of(f"{outcome} ~ x + v + {random}", outcomes(), family, n_agq, link)
    objective, psi, h = problem.objective, somewhere(problem), 1e-5
    point = objective.at(psi)
    sides = [[objective.at(psi + sign * step) for sign in (1, -1)] for step in h * np.eye(len(psi))]
    size = np.abs(point.gradient).max()
    gradient = [(up.value - down.value) / (2 * h) for up, down in sides]
    close(point.gradient, gradient, rtol=1e-6, atol=1e-7 * size)
    hessian = [(up.gradient - down.gradient) / (2 * h) for up, down in sides]
    close(point.hessian, hessian, rtol=1e-6, atol=1e-7 * np.abs(point.hessian).max())
    w = problem.tree[1][-1]
    units = [w * (objective.units(up) - objective.units(down)) / (2 * h) for up, down in sides]
    close(point.scores.T, units, rtol=1e-6, atol=1e-7 * np.abs(point.scores).max())
    close(w @ objective.units(point), -point.value, rtol=1e-12)


# -- brute force -------------------------------------------------------------------------------------------------------


def of_binomial(link):
    F = {"logit": stats.logistic, "probit": stats.norm, "cloglog": stats.gumbel_l}[link]

    def log_density(d, eta, extra):
        y, n = d["y_"], d["n_"]
        return np.log(special.comb(n, y)) + y * F.logcdf(eta) + (n - y) * F.logsf(eta)

    return log_density


def of_negbinomial(d, eta, extra):
    theta = extra["theta"]
    return stats.nbinom.logpmf(d["y_"], theta, theta / (theta + np.exp(eta)))


def of_gamma(d, eta, extra):
    shape = 1 / extra["dispersion"]
    return stats.gamma.logpdf(d["y_"], shape, scale=np.exp(eta) / shape)


def of_beta(d, eta, extra):
    mean, precision = special.expit(eta), extra["precision"]
    return stats.beta.logpdf(d["y_"], mean * precision, (1 - mean) * precision)


def of_tweedie(d, eta, extra):
    """A Poisson number of gamma amounts, one number after the other."""
    shape, N = (2 - extra["power"]) / (extra["power"] - 1), np.arange(1, 25)[:, None, None]
    jumps = np.exp((2 - extra["power"]) * eta) / (extra["dispersion"] * (2 - extra["power"]))
    scale = extra["dispersion"] * (extra["power"] - 1) * np.exp((extra["power"] - 1) * eta)
    positive = stats.poisson.logpmf(N, jumps) + stats.gamma.logpdf(d["y_"], N * shape, scale=scale)
    return np.where(d["y_"] == 0, -jumps, special.logsumexp(positive, axis=0))


def of_cumulative(d, eta, extra):
    cuts = np.concatenate([[-np.inf], list(extra.values()), [np.inf]])
    y = d["y_"].astype(int)
    return np.log(special.expit(cuts[y + 1] - eta) - special.expit(cuts[y] - eta))


LOG_DENSITY = {
    "logit": of_binomial("logit"),
    "probit": of_binomial("probit"),
    "cloglog": of_binomial("cloglog"),
    "poisson": lambda d, eta, extra: stats.poisson.logpmf(d["y_"], np.exp(eta)),
    "negbinomial": of_negbinomial,
    "gamma": of_gamma,
    "beta": of_beta,
    "cumulative": of_cumulative,
    "tweedie": of_tweedie,
    "student": lambda d, eta, extra: stats.t.logpdf(d["y_"], extra["df"], eta, extra["sigma"]),
}


def log_integral(values, grids):
    """log ∫ exp(values(u)) φ(u) du over standard normal u by the trapezoid rule; values at a grid (..., K)."""
    u = np.array(list(itertools.product(*grids))).T
    cell = np.prod([grid[1] - grid[0] for grid in grids])
    inside = values(u) - 0.5 * (u**2).sum(0) - 0.5 * len(grids) * np.log(2 * np.pi)
    return special.logsumexp(inside, axis=-1) + np.log(cell)


def pieces(problem, psi):
    """Raw-scale coefficients, Cholesky factors, further parameters at a point; thresholds count as the latter."""
    at = raw_map(problem, 0, psi)
    cuts = dict(zip(at.terms, at.coef, strict=True)) if problem.structure.family == "cumulative" else {}
    extra = {name: value for name, value in cuts.items() if "|" in name} or at.reported
    beta = at.eta_beta if len(at.eta_beta) == 3 else np.concatenate([[0.0], at.eta_beta])
    return beta, [np.linalg.cholesky(Psi) for Psi in at.Psi], extra


def rows_of(d, outcome):
    y = d["mark"].cat.codes.astype(float) if outcome == "mark" else d[outcome]
    return d.assign(y_=y, n_=d["n"] if outcome == "hits" else 1.0)


def brute_force_two(d, density, beta, L, extra, slope, points):
    """log L = Σ_k w_k log ∫ exp(Σ_i w_i log f) φ: one or two random effects per school."""
    grid = np.linspace(-8.5, 8.5, points)
    total = 0.0
    for _, school in d.groupby("school"):
        column = {name: school[name].to_numpy(dtype=float)[:, None] for name in ("x", "v", "w1", "y_", "n_")}

        def inside(u, column=column):
            b = L @ u
            eta = beta[0] + beta[1] * column["x"] + beta[2] * column["v"] + b[0]
            eta = eta + b[1] * column["v"] if slope else eta
            return (column["w1"] * density(column, eta, extra)).sum(0)

        total += school["w3"].iloc[0] * log_integral(inside, [grid] * len(L))
    return total


def loglik(problem, psi):
    return problem.top_scale * (problem.constants[0] - problem.objective.at(psi).value)


BRUTE = {
    "logit": ("hits", "binomial", None, "logit"),
    "probit": ("z", "binomial", "probit", "probit"),
    "cloglog": ("hits", "binomial", "cloglog", "cloglog"),
    "poisson": ("count", "poisson", None, "poisson"),
    "negbinomial": ("visits", "negbinomial", None, "negbinomial"),
    "gamma": ("minutes", "gamma", None, "gamma"),
    "beta": ("share", "beta", None, "beta"),
    "cumulative": ("mark", "cumulative", None, "cumulative"),
    "student": ("y", "student", None, "student"),
    "tweedie": ("cost", "tweedie", None, "tweedie"),
}


@pytest.mark.parametrize("name", BRUTE)
def test_many_nodes_equal_brute_force_integration(name):
    outcome, family, link, density = BRUTE[name]
    d = outcomes()
    left = "cbind(hits, n - hits)" if outcome == "hits" else outcome
    problem = problem_of(f"{left} ~ x + v + {RI}", d, family, 41, link)
    psi = somewhere(problem)
    beta, (L,), extra = pieces(problem, psi)
    expected = brute_force_two(rows_of(d, outcome), LOG_DENSITY[density], beta, L, extra, False, 2401)
    assert loglik(problem, psi) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("outcome", ["z", "count"])
def test_two_correlated_effects_equal_brute_force_integration(outcome):
    d = outcomes().query("school < 5")
    family, density = {"z": ("binomial", "logit"), "count": ("poisson", "poisson")}[outcome]
    problem = problem_of(f"{outcome} ~ x + v + {RS}", d, family, 31)
    psi = somewhere(problem)
    beta, (L,), extra = pieces(problem, psi)
    expected = brute_force_two(rows_of(d, outcome), LOG_DENSITY[density], beta, L, extra, True, 401)
    assert loglik(problem, psi) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("slope", [False, True])
def test_three_levels_equal_brute_force_integration(slope):
    """log L = Σ_k w_k log ∫ exp(Σ_j w_j log ∫ exp(Σ_i w_i log f) φ) φ, with weights at every level."""
    d = outcomes().query("school < 2")
    problem = problem_of(f"z ~ x + v + {RS_TOP if slope else RI3}", d, "binomial", (25, 25))
    psi = somewhere(problem)
    beta, (L2, L3), _ = pieces(problem, psi)
    fine = np.linspace(-8, 8, 121)
    coarse = [np.linspace(-8, 8, 65)] * 2 if slope else [fine]
    expected = 0.0
    for _, school in rows_of(d, "z").groupby("school"):

        def of_school(u, school=school):
            out, b = np.zeros(u.shape[1]), L3 @ u
            for _, room in school.groupby("classroom"):
                c = {name: room[name].to_numpy(dtype=float)[:, None, None] for name in ("x", "v", "w1", "y_", "n_")}
                eta = beta[0] + beta[1] * c["x"] + beta[2] * c["v"] + b[0][:, None]
                eta = eta + b[1][:, None] * c["v"] if slope else eta

                def inside(v, c=c, eta=eta):
                    return (c["w1"] * LOG_DENSITY["logit"](c, eta + L2[0, 0] * v[0], {})).sum(0)

                out += room["w2"].iloc[0] * log_integral(inside, [fine])
            return out

        expected += school["w3"].iloc[0] * log_integral(of_school, coarse)
    assert loglik(problem, psi) == pytest.approx(expected, rel=1e-8)


def test_laplace_equals_a_laplace_in_numpy():
    """Joint modes by a general optimiser; ½ log det of every class counts as often as the class does."""
    d = outcomes()
    problem = problem_of(f"count ~ x + v + {RI3}", d, "poisson", 1)
    psi = somewhere(problem)
    beta, (L2, L3), _ = pieces(problem, psi)
    expected = 0.0
    for _, school in d.groupby("school"):
        rooms, room = np.unique(school["classroom"], return_inverse=True)
        w2 = school.groupby("classroom")["w2"].first().to_numpy()
        y, w1 = school["count"].to_numpy(), school["w1"].to_numpy()
        fixed = beta[0] + beta[1] * school["x"].to_numpy() + beta[2] * school["v"].to_numpy()

        def minus_joint(u, room=room, w1=w1, w2=w2, y=y, fixed=fixed):
            mean = np.exp(fixed + L2[0, 0] * u[room] + L3[0, 0] * u[-1])
            by_row = w1 * stats.poisson.logpmf(y, mean)
            inside = np.bincount(room, by_row) - 0.5 * u[:-1] ** 2 - 0.5 * np.log(2 * np.pi)
            residual = w2[room] * w1 * (y - mean)
            gradient = np.append(
                L2[0, 0] * np.bincount(room, residual) - w2 * u[:-1], L3[0, 0] * residual.sum() - u[-1]
            )
            return -(w2 @ inside - 0.5 * u[-1] ** 2 - 0.5 * np.log(2 * np.pi)), -gradient

        found = optimize.minimize(
            minus_joint, np.zeros(len(rooms) + 1), jac=True, method="BFGS", options={"gtol": 1e-9}
        )
        kappa = np.bincount(room, w1 * np.exp(fixed + L2[0, 0] * found.x[room] + L3[0, 0] * found.x[-1]))
        inner = 1 + L2[0, 0] ** 2 * kappa
        outer = 1 + L3[0, 0] ** 2 * (w2 * kappa / inner).sum()
        laplace = -found.fun + w2.sum() * 0.5 * np.log(2 * np.pi) + 0.5 * np.log(2 * np.pi)
        laplace -= 0.5 * (w2 @ np.log(inner)) + 0.5 * np.log(outer)
        expected += school["w3"].iloc[0] * laplace
    assert loglik(problem, psi) == pytest.approx(expected, rel=1e-9)


def test_laplace_is_one_node():
    """The rule of one node stands at zero with weight one, so that Laplace is adaptive quadrature with it."""
    a, log_weight = product_rule(1, 2)
    close(a, np.zeros((2, 1)))
    close(log_weight, 0.0, atol=1e-15)


@pytest.mark.parametrize(("n", "q"), [(1, 1), (7, 1), (5, 2), (3, 3)])
def test_rules_integrate_polynomials(n, q):
    a, logs = product_rule(n, q)
    weight = np.exp(logs - 0.5 * (a**2).sum(0))
    for power in range(0, 2 * n, 2):
        close(weight @ a[-1] ** power, special.factorial2(power - 1) if power else 1.0, rtol=1e-10)


def test_more_nodes_come_closer():
    d = outcomes()
    problems = [problem_of(f"z ~ x + v + {RI}", d, "binomial", n) for n in (1, 3, 7, 15, 41)]
    found = np.array([loglik(problem, somewhere(problem)) for problem in problems])
    errors = np.abs(found[:-1] - found[-1])
    assert errors[0] > 10 * errors[1] > 100 * errors[2] and errors[3] < 1e-6


# -- layout and engines ------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows_per_chunk=st.integers(1, 200), levels=st.integers(1, 3))
def test_tiles_hold_every_row_once_under_its_own_units(seed, rows_per_chunk, levels):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 150))
    index = [np.unique(rng.integers(0, max(n // 4, 2), n), return_inverse=True)[1]]
    parents = []
    for _ in range(levels - 1):
        lower = index[-1].max() + 1
        parent = np.unique(np.sort(rng.integers(0, max(lower // 2, 1), lower)), return_inverse=True)[1]
        parents.append(parent)
        index.append(parent[index[-1]])
    w = tuple(rng.uniform(0.5, 2, i.max() + 1) for i in index)
    order = np.argsort(index[0], kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(index[0]))])
    chunks = cut(order, starts, tuple(parents), w, rows_per_chunk)
    assert sorted(row for c in chunks for row in c.rows[c.real]) == list(range(n))
    assert len({(c.rows.shape, *map(len, c.w)) for c in chunks}) == 1
    for c in chunks:
        for level in range(levels):
            unit = np.broadcast_to(c.tile_to[level], c.real.shape)[c.real] + c.units[level].start
            np.testing.assert_array_equal(unit, index[level][c.rows[c.real]])
            close(c.w[level][: c.n_units[level]], w[level][c.units[level]])
            close(c.w[level][c.n_units[level] :], 0.0)
    for level in range(levels):
        assert [c.units[level].stop for c in chunks][:-1] == [c.units[level].start for c in chunks][1:]
    cumulated = np.ones(len(w[-1]))  # from below the top level down
    for level in range(levels - 1, -1, -1):
        if level < levels - 1:
            cumulated = w[level] * cumulated[parents[level]]
        close(np.concatenate([c.omega[level][: c.n_units[level]] for c in chunks]), cumulated)


def agree(engine, cases):
    for outcome, random, family, n_agq in cases:
        formula = f"{outcome} ~ x + v + {random}"
        reference = problem_of(formula, outcomes(), family, n_agq)
        other = problem_of(formula, outcomes(), family, n_agq, engine=engine)
        psi = somewhere(reference)
        a, b = reference.objective.at(psi), other.objective.at(psi)
        close(b.value, a.value, rtol=1e-12)
        close(b.gradient, a.gradient, rtol=1e-9, atol=1e-9 * np.abs(a.gradient).max())
        close(b.scores, a.scores, rtol=1e-8, atol=1e-9 * np.abs(a.scores).max())
        close(b.hessian, a.hessian, rtol=1e-8, atol=1e-9 * np.abs(a.hessian).max())
        for mine, theirs in zip(other.objective.whitened_modes(b), reference.objective.whitened_modes(a), strict=True):
            close(mine, theirs, rtol=1e-8, atol=1e-9)


FOUR = ("z", "(1 + v + x + n | school)", "binomial", 1)  # more random effects than are written out one by one
COMPILED = [("visits", RI, "negbinomial", 5), FOUR]
SLOWLY_COMPILED = [("z", RI3, "binomial", (1, 3)), ("count", RS_TOP, "poisson", 1), ("mark", RS_TOP, "cumulative", 1)]


@pytest.mark.parametrize("case", [*COMPILED, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOWLY_COMPILED)])
def test_jax_agrees_with_the_interpreter(case):
    agree("jax", [case])


@pytest.mark.slow
def test_numba_agrees_with_the_interpreter():
    agree("numba", [("z", RI, "binomial", 5), ("z", RI3, "binomial", 5)])


def test_numbers_of_nodes_belong_to_levels():
    layout = problem_of(f"z ~ x + v + {RI3}", outcomes(), "binomial", 5).layout
    assert node_numbers(7, layout, ["classroom", "school"]) == (7, 7)
    assert node_numbers([3, 9], layout, ["classroom", "school"]) == (3, 9)
    assert node_numbers(None, layout, ["classroom", "school"]) is None
