"""Random effects drawn from their conditional distribution: against dense matrices and numerical integration.

Draws that follow the target exactly have uniform probability integral transforms, each effect given the ones before it
(Rosenblatt 1952). Seeds are fixed; tolerances are those that one draw of many seeds would break in 1000 or fewer.
"""

import numpy as np
import pandas as pd
import pytest
from helpers import nested, outcomes
from scipy import special, stats

from pmwmix.api import read_distribution
from pmwmix.data.table import Table
from pmwmix.errors import PmwmixWarning
from pmwmix.fitting.choose import Plan, make_problem
from pmwmix.fitting.rawscale import raw_map
from pmwmix.frame.build import build_frame
from pmwmix.likelihood.linear.modes import conditional_modes
from pmwmix.sample.draws import conditional_general
from pmwmix.sample.draws.conditional_general import draw_general
from pmwmix.sample.draws.conditional_linear import draw_linear
from pmwmix.spec.design import Design
from pmwmix.spec.formula import parse

NONE = Design()
TWO = Design(weights=["w1", "w3"], conditional=True, scaling="none")
THREE = Design(weights=["w1", "w2", "w3"], conditional=True, scaling="none")


def frame_of(formula, data, design, family="gaussian"):
    return build_frame(parse(formula), Table(data), design, [], None, read_distribution(family, None, None, "ml"))


def z_of(frame, level):
    return np.array([c for block in frame.designs[0].blocks if block.level == level for c in block.matrix.columns])


def assert_uniform(u):
    """Kolmogorov and Smirnov's distance stays below its quantile for a probability of 1e-4 (2.2 / sqrt(n))."""
    assert stats.kstest(u, "uniform").statistic < 2.2 / np.sqrt(len(u))


# -- linear models -----------------------------------------------------------------------------------------------------


def dense(frame, beta, Psis, sigma):
    """Mean and covariance of all effects of a top-level unit at a time, by dense matrices: (unit, mean, V, which).

    The levels jointly: the topmost effects from the weighted sum of what the units below say with their own effects
    integrated out, then the lower ones given them. ``which`` lists (level, unit, number of effects).
    """
    h, y = frame.hierarchy, frame.designs[0].y[0]
    r = y - np.array(frame.designs[0].x.columns).T @ beta
    low, top, S = h.levels[0].index, h.levels[-1].index, sigma**2 / frame.w[0]
    Z0, Z1 = z_of(frame, 0), z_of(frame, 1) if len(h.levels) > 1 else None
    for j in range(h.levels[-1].n):
        rows = np.flatnonzero(top == j)
        if Z1 is None:
            V = Z0[:, rows].T @ Psis[0] @ Z0[:, rows] + np.diag(S[rows])
            gain = Psis[0] @ Z0[:, rows] @ np.linalg.inv(V)
            yield gain @ r[rows], Psis[0] - gain @ Z0[:, rows].T @ Psis[0], [(0, j, len(Psis[0]))]
            continue
        children = np.unique(low[rows])
        P, c, parts = np.linalg.inv(Psis[1]), np.zeros(len(Psis[1])), []
        for child in children:
            i = np.flatnonzero(low == child)
            V = np.linalg.inv(Z0[:, i].T @ Psis[0] @ Z0[:, i] + np.diag(S[i]))
            P = P + frame.w[1][child] * Z1[:, i] @ V @ Z1[:, i].T
            c = c + frame.w[1][child] * Z1[:, i] @ V @ r[i]
            parts.append((Psis[0] @ Z0[:, i] @ V, i))
        mean_top, V_top = np.linalg.solve(P, c), np.linalg.inv(P)
        slopes = np.vstack([-gain @ Z1[:, i].T for gain, i in parts])  # of lower effects on the topmost
        offset = np.concatenate([gain @ r[i] for gain, i in parts])
        own = [Psis[0] - gain @ Z0[:, i].T @ Psis[0] for gain, i in parts]
        q = len(Psis[0])
        V = np.block([[slopes @ V_top @ slopes.T, slopes @ V_top], [V_top @ slopes.T, V_top]])
        for number, block in enumerate(own):
            V[number * q : (number + 1) * q, number * q : (number + 1) * q] += block
        mean = np.concatenate([offset + slopes @ mean_top, mean_top])
        yield mean, V, [*((0, int(child), q) for child in children), (1, j, len(Psis[1]))]


LINEAR = {
    "two levels": ("y ~ x + (1 | school)", NONE),
    "slopes, weights": ("y ~ x + (1 + x | school)", TWO),
    "three levels": ("y ~ x + (1 | classroom) + (1 + x | school)", NONE),
    "three levels, weights": ("y ~ x + (1 + x | classroom) + (1 | school)", THREE),
    "several terms, weights": ("y ~ x + (1 + x || classroom) + (1 | school) + (0 + x | school)", THREE),
}


def linear_problem(formula, data, design):
    frame = frame_of(formula, data, design)
    return frame, make_problem(frame, frame.designs[0], Plan("python"))


def tiled(count, *values):
    return [np.tile(value, (count, *[1] * np.ndim(value))) for value in values]


@pytest.mark.parametrize("formula, design", LINEAR.values(), ids=LINEAR)
def test_linear_draws_have_the_dense_distribution(formula, design):
    frame, problem = linear_problem(formula, nested(), design)
    rng = np.random.default_rng(3)
    beta = rng.normal(size=len(problem.kept))
    theta, sigma, S = problem.layout.start(0.6) + 0.2 * rng.normal(size=problem.layout.n_theta), 0.7, 4000
    draws = draw_linear(problem, 0, *tiled(S, beta, theta, sigma), rng)
    transform = problem.transforms[0]
    raw = transform.beta(beta), transform.Psi(problem.layout, theta, sigma), transform.y_scale * sigma
    for mean, V, which in dense(frame, *raw):
        b = np.concatenate([draws[level][:, unit] for level, unit, _ in which], axis=1)
        assert_normal(b, mean, V)  # up to 14 x 10 means and 14 x 55 covariances


def test_linear_draws_agree_with_the_modes_whatever_the_parameters_of_each_draw():
    """Each draw has its own parameters: two settings taken in turn keep their own means and variances."""
    _, problem = linear_problem("y ~ x + (1 | classroom) + (1 + x | school)", nested(), THREE)
    rng, layout, S = np.random.default_rng(4), problem.layout, 6000
    beta, sigma = rng.normal(size=(2, 2)), np.array([0.4, 1.3])
    theta = np.array([layout.start(0.3), layout.start(1.1)]) + 0.1 * rng.normal(size=(2, layout.n_theta))
    which = np.arange(S) % 2
    draws = draw_linear(problem, 0, beta[which], theta[which], sigma[which], rng)
    A = problem.transforms[0]
    for one in range(2):
        modes = conditional_modes(problem.blocks, layout, theta[one], beta[one], sigma[one])
        for b, (mode, V), A_z in zip(draws, modes, A.A_z, strict=True):
            V = A.y_scale**2 * A_z @ V @ A_z.T
            sd = np.sqrt(np.einsum("gii->gi", V))
            mine = b[which == one]
            z = (mine.mean(axis=0) - A.y_scale * mode @ A_z.T) / sd * np.sqrt(S / 2)
            assert np.abs(z).max() < 4.5
            ratio = mine.var(axis=0) / sd**2  # standard error sqrt(2 / 3000)
            assert np.abs(ratio - 1).max() < 4.5 * np.sqrt(4 / S)


def test_variances_of_zero_give_effects_of_zero():
    _, problem = linear_problem("y ~ x + (1 | classroom) + (1 + x | school)", nested(), NONE)
    theta = np.array([0.0, 0.8, 0.3, 0.0])
    low, top = draw_linear(problem, 0, *tiled(3, np.zeros(2), theta, 1.0), np.random.default_rng(1))
    assert (low == 0).all() and np.isfinite(top).all()
    A = np.linalg.inv(problem.transforms[0].A_z[1])
    standard = top @ A.T
    np.testing.assert_allclose(standard[..., 1], standard[..., 0] * 0.3 / 0.8, atol=1e-9)  # a correlation of one


def test_linear_models_without_levels():
    flat = frame_of("y ~ x", nested(), NONE)
    problem = make_problem(flat, flat.designs[0], Plan("python"))
    assert draw_linear(problem, 0, np.zeros((2, 2)), np.zeros((2, 0)), np.ones(2), np.random.default_rng(1)) == []


@pytest.mark.parametrize("kind", ["linear", "general"])
def test_row_order_does_not_matter(kind):
    data = outcomes()
    data["y"] = data["x"] + data["z"]
    mixed = data.sample(frac=1.0, random_state=2)
    found = []
    for table in (data, mixed):
        frame = frame_of(
            f"{'y' if kind == 'linear' else 'z'} ~ v + (1 | classroom) + (1 + v | school)",
            table, THREE, "gaussian" if kind == "linear" else "binomial",
        )  # fmt: skip
        if kind == "linear":
            problem = make_problem(frame, frame.designs[0], Plan("python"))
            theta = problem.layout.start(0.5)
            found.append(draw_linear(problem, 0, *tiled(3, np.zeros(2), theta, 1.0), np.random.default_rng(1)))
        else:
            problem = make_problem(frame, frame.designs[0], Plan("python", n_agq=(3, 3)))
            psi = np.concatenate([[0.1, 0.2], problem.layout.start(0.8)])
            found.append(draw_general(problem, 0, np.tile(psi, (3, 1)), np.random.default_rng(1)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)  # sums of rows in another order


# -- generalised models ------------------------------------------------------------------------------------------------

COPIES = 250  # of every top-level unit: one draw of the parameters gives that many independent draws of its effects
DRAWS = 8


def copies(data, count=COPIES):
    """Repeat a small table with new groups, so that every unit occurs often."""
    parts = []
    for number in range(count):
        part = data.copy()
        part["school"] = number * 1000 + part["school"]
        if "classroom" in part:
            part["classroom"] = number * 1000 + part["classroom"]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


LOGLIK = {
    "binomial": lambda y, eta, more: np.where(y > 0, special.log_expit(eta), special.log_expit(-eta)),
    "poisson": lambda y, eta, more: y * eta - np.exp(np.minimum(eta, 300)),
    "student": lambda y, eta, more: stats.t.logpdf((y - eta) / more["sigma"], more["df"]),
    "cumulative": lambda y, eta, more: np.log(
        special.expit(more["tau"][y.astype(int) + 1] - eta) - special.expit(more["tau"][y.astype(int)] - eta) + 1e-300
    ),
}


class Truth:
    """The conditional distribution on the raw scale, by summing over grids."""

    def __init__(self, frame, problem, psi):
        self.frame, self.loglik = frame, LOGLIK[frame.family]
        map_ = raw_map(problem, 0, psi)
        self.Psi, self.w, self.y = map_.Psi, frame.w[0], frame.designs[0].y[0]
        self.eta = np.array([frame.designs[0].x.columns[j] for j in problem.kept]).T @ map_.eta_beta
        self.more = dict(map_.reported)
        if frame.family == "cumulative":
            tau = [value for term, value in zip(map_.terms, map_.coef, strict=True) if "|" in term]
            self.more["tau"] = np.array([-np.inf, *tau, np.inf])

    def rows(self, rows, random):
        """Weighted log-density of rows (r,) at random parts (..., r), summed."""
        return (self.w[rows] * self.loglik(self.y[rows], self.eta[rows] + random, self.more)).sum(axis=-1)


def draws_of(formula, data, design, family, theta, phi=(), n_agq=3, seed=1, beta=(0.3, 0.5), draws=DRAWS, sweeps=15):
    frame = frame_of(formula, data, design, family)
    n = len(frame.hierarchy.levels)
    problem = make_problem(frame, frame.designs[0], Plan("python", n_agq=(n_agq,) * n))
    psi = np.concatenate([beta[: problem.structure.p], theta, phi])
    effects = draw_general(problem, 0, np.tile(psi, (draws, 1)), np.random.default_rng(seed), sweeps)
    return effects, Truth(frame, problem, psi), frame


def cdf_on_grid(grid, logs):
    """Cumulated probabilities at the points of a grid, by trapezoids; leading axes are separate densities."""
    density = np.exp(logs - logs.max(axis=-1, keepdims=True))
    area = np.cumsum((density[..., 1:] + density[..., :-1]) * np.diff(grid), axis=-1)
    return np.concatenate([np.zeros((*area.shape[:-1], 1)), area / area[..., -1:]], axis=-1)


HARD = pd.DataFrame(
    {  # groups of two to four rows: all ones, mixed, all zeros, nearly separated, large x
        "school": np.repeat(np.arange(6), [3, 2, 4, 3, 2, 4]),
        "z": [1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1],
        "count": [0, 1, 2, 7, 0, 0, 0, 0, 0, 9, 3, 1, 1, 0, 2, 2, 2, 0],
        "grade": [1, 3, 3, 2, 2, 1, 1, 1, 1, 3, 1, 3, 3, 3, 1, 2, 3, 2],
        "mark": [0.1, 0.2, 4.0, -3.0, 3.0, 0.0, 0.1, 0.4, 9.0, 5.0, 5.1, -5.0, -1.0, 1.0, 0.3, 0.2, 0.1, 12.0],
        "x": [2.1, 1.8, 2.5, 2.0, 2.0, 1.0, 3.0, 2.2, 2.4, 1.9, 2.0, 2.3, 4.5, 0.2, 0.5, 1.0, 1.5, 4.0],
        "w1": [1.5, 0.5, 0.7, 2.0, 0.3, 1.0, 1.2, 0.8, 0.4, 1.6, 1.0, 0.9, 2.5, 0.2, 1.0, 1.0, 3.0, 0.5],
        "w3": np.repeat([1.0, 2.0, 0.5, 1.0, 3.0, 1.0], [3, 2, 4, 3, 2, 4]),
    }
)
ONE = {
    "binary, sd 3": ("z", NONE, "binomial", 3.0, ()),
    "binary, sd 3, weights": ("z", TWO, "binomial", 3.0, ()),
    "binary, sd 8": ("z", NONE, "binomial", 8.0, ()),
    "counts, weights": ("count", TWO, "poisson", 1.5, ()),
    "grades": ("grade", NONE, "cumulative", 2.0, (-0.5, 0.3)),
    "outliers": ("mark", NONE, "student", 3.0, (-0.3, 0.2)),
}


@pytest.mark.parametrize("y, design, family, sd, phi", ONE.values(), ids=ONE)
def test_one_effect_in_hard_cases(y, design, family, sd, phi):
    """Groups of 2-4 rows: every group's draws follow its density integrated by brute force."""
    beta = (0.5,) if family == "cumulative" else (0.3, 0.5)
    (b,), truth, frame = draws_of(f"{y} ~ x + (1 | school)", copies(HARD), design, family, [sd], phi, beta=beta)
    assert truth.Psi[0][0, 0] == pytest.approx(sd**2)
    index, labels = frame.hierarchy.levels[0].index, np.array(frame.hierarchy.levels[0].labels)
    grid = np.linspace(-8 * sd, 8 * sd, 8001)
    for school in range(6):
        rows = np.flatnonzero(index == np.flatnonzero(labels == school)[0])
        logs = -0.5 * (grid / sd) ** 2 + truth.rows(rows, grid[:, None])
        mine = b[:, labels % 1000 == school, 0].ravel()
        assert len(mine) == COPIES * DRAWS
        assert_uniform(np.interp(mine, grid, cdf_on_grid(grid, logs)))
        exact = np.interp(np.random.default_rng(0).random((200, len(mine))), cdf_on_grid(grid, logs), grid)
        for moment in (np.mean, np.std, stats.skew):  # of as many exact draws, two hundred times
            values = moment(exact, axis=-1)
            assert abs(moment(mine) - values.mean()) < 4.5 * values.std()


@pytest.mark.parametrize("design", [NONE, TWO], ids=["no weights", "weights"])
def test_correlated_slopes_in_a_hard_case(design):
    """Intercept, then slope given the intercept: both transforms are uniform, and independent."""
    (b,), truth, frame = draws_of("z ~ x + (1 + x | school)", copies(HARD), design, "binomial", [2.0, -0.8, 1.0])
    index, labels = frame.hierarchy.levels[0].index, np.array(frame.hierarchy.levels[0].labels)
    x, prior = frame.designs[0].x.columns[1], np.linalg.inv(truth.Psi[0])
    sd = np.sqrt(np.diag(truth.Psi[0]))
    grids = [np.linspace(-6.5 * s, 6.5 * s, 301) for s in sd]

    def logs(rows, b0, b1):
        value = -0.5 * (prior[0, 0] * b0**2 + 2 * prior[0, 1] * b0 * b1 + prior[1, 1] * b1**2)
        return value + truth.rows(rows, b0[..., None] + b1[..., None] * x[rows])

    for school in range(6):
        rows = np.flatnonzero(index == np.flatnonzero(labels == school)[0])
        mine = b[:, labels % 1000 == school].reshape(-1, 2)
        joint = logs(rows, *np.meshgrid(*grids, indexing="ij"))
        marginal = special.logsumexp(joint, axis=1)
        first = np.interp(mine[:, 0], grids[0], cdf_on_grid(grids[0], marginal))
        given = cdf_on_grid(grids[1], logs(rows, mine[:, :1] + 0 * grids[1], 0 * mine[:, :1] + grids[1]))
        second = np.array([np.interp(v, grids[1], cdf) for v, cdf in zip(mine[:, 1], given, strict=True)])
        assert_uniform(first)
        assert_uniform(second)
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(first))


@pytest.mark.parametrize("design, n_agq", [(NONE, 1), (THREE, 3)], ids=["no weights", "weights"])
def test_three_levels_in_a_hard_case(design, n_agq):
    """The top effect with what its members say integrated out and raised to their weights, then each member's own."""
    data = HARD.rename(columns={"school": "classroom"}).assign(
        school=np.repeat([0, 1], [9, 9]), w2=np.repeat([1.0, 2.5, 0.5, 1.0, 0.6, 2.0], [3, 2, 4, 3, 2, 4]), w3=1.0
    )
    formula = "z ~ x + (1 | classroom) + (1 | school)"
    (low, top), truth, frame = draws_of(formula, copies(data), design, "binomial", [2.0, 1.5], n_agq=n_agq)
    levels = frame.hierarchy.levels
    label, labels = np.array(levels[0].labels), np.array(levels[1].labels)
    parent = frame.hierarchy.parents[0]
    g0, g1 = (np.linspace(-8 * sd, 8 * sd, 801) for sd in (2.0, 1.5))
    for school in range(2):
        log_top, inner = -0.5 * (g1 / 1.5) ** 2, {}
        j = np.flatnonzero(labels == school)[0]
        for child in np.flatnonzero(parent == j):
            rows = np.flatnonzero(levels[0].index == child)
            inner[child] = truth.rows(rows, (g1[:, None] + g0)[..., None]) - 0.5 * (g0 / 2.0) ** 2
            log_top = log_top + frame.w[1][child] * special.logsumexp(inner[child], axis=1)
        same = np.flatnonzero(labels % 1000 == school)
        b_top = top[:, same, 0]
        u_top = np.interp(b_top, g1, cdf_on_grid(g1, log_top))
        assert_uniform(u_top.ravel())
        for child, logs in inner.items():
            twins = np.flatnonzero(label % 1000 == label[child] % 1000)
            twins = twins[np.argsort(parent[twins])]
            assert (parent[twins] == same).all()
            # its distribution given the drawn top effect: between the two nearest points of the grid
            place = (b_top.ravel() - g1[0]) / (g1[1] - g1[0])
            at, part = place.astype(int), (place % 1.0)[:, None]
            tables = cdf_on_grid(g0, logs)
            mixed = (1 - part) * tables[at] + part * tables[at + 1]
            u_low = np.array([np.interp(v, g0, cdf) for v, cdf in zip(low[:, twins, 0].ravel(), mixed, strict=True)])
            assert_uniform(u_low)
            assert abs(np.corrcoef(u_top.ravel(), u_low)[0, 1]) < 4 / np.sqrt(u_low.size)


def test_a_normal_density_with_slopes_at_two_levels_agrees_with_the_closed_form():
    """Student's t with a million degrees of freedom: dense matrices know the answer, weights included."""
    data = nested()
    data = data[data["school"] < 4]
    theta, sigma = np.array([0.8, 0.2, 0.5, 1.0, -0.3, 0.6]), 1.2
    phi = (np.log(sigma), np.log(1e6))
    formula = "y ~ x + (1 + x | classroom) + (1 + x | school)"
    draws, truth, frame = draws_of(formula, copies(data, 40), THREE, "student", theta, phi, n_agq=1, draws=4, sweeps=3)
    beta = np.linalg.lstsq(np.array(frame.designs[0].x.columns).T, truth.eta, rcond=None)[0]
    labels = [np.array(level.labels) % 1000 for level in frame.hierarchy.levels]
    for number, (mean, V, which) in enumerate(dense(frame, beta, truth.Psi, sigma)):
        if number == 4:  # copies of the first four schools
            break
        twins = [np.flatnonzero(labels[level] == labels[level][unit]) for level, unit, _ in which]
        b = np.concatenate([draws[level][:, same] for (level, _, _), same in zip(which, twins, strict=True)], axis=2)
        assert_normal(b.reshape(-1, len(mean)), mean, V)


def assert_normal(b, mean, V):
    """Means and covariances of draws (S, m) stay within 4.5 and 5 standard errors."""
    sd = np.sqrt(np.diag(V))
    assert np.abs((b.mean(axis=0) - mean) / sd).max() < 4.5 / np.sqrt(len(b))
    assert (np.abs(np.cov(b.T) - V) < 5 * np.sqrt((V**2 + np.outer(sd, sd) ** 2) / len(b))).all()


def test_four_levels_agree_with_the_closed_form():
    rng = np.random.default_rng(8)
    n = 18
    one = pd.DataFrame({"a": np.arange(n) // 3, "c": np.arange(n) // 9, "d": 0, "y": rng.normal(size=n)})
    data = pd.concat([one.assign(a=one["a"] + 6 * i, c=one["c"] + 2 * i, d=i) for i in range(60)], ignore_index=True)
    formula, phi = "y ~ 1 + (1 | a) + (1 | c) + (1 | d)", (0.0, np.log(1e6))
    draws, truth, _ = draws_of(
        formula, data, NONE, "student", [1.0, 0.7, 1.2], phi, n_agq=1, beta=[0.3], draws=4, sweeps=3
    )
    Z = np.hstack([np.eye(size)[np.arange(n) // (n // size)] for size in (6, 2, 1)])
    prior = np.repeat([P[0, 0] for P in truth.Psi], [6, 2, 1])
    V = np.linalg.inv(Z.T @ Z + np.diag(1 / prior))
    mean = V @ Z.T @ (one["y"].to_numpy() - truth.eta[:n])
    b = np.concatenate([part.reshape(240, -1) for part in draws], axis=1)
    assert_normal(b, mean, V)


def test_units_that_stay_at_their_first_proposals_are_noticed():
    rare = np.full((50, 3), 0.6)
    rare[:, 1] = 0.001
    with pytest.warns(PmwmixWarning, match=r"of 1 units may not follow.*worst unit.*0.001.*caution"):
        conditional_general.warn_of_stuck([rare, np.ones((50, 1))], 15)


def test_draws_depend_on_the_seed_alone():
    again = [draws_of("z ~ x + (1 | school)", HARD, NONE, "binomial", [1.0], seed=s, draws=2)[0][0] for s in (1, 1, 2)]
    assert (again[0] == again[1]).all() and (again[0] != again[2]).any()
