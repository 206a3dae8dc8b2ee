"""Numpy and compiled graphs are two roads to the same numbers: value, scores, Hessian, in every kind of structure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested, outcomes

import pmwmix
from pmwmix.likelihood.crossed import between, units
from pmwmix.likelihood.engine import choose_engine, is_direct
from pmwmix.likelihood.jets import Jet, pairs, symmetric

LINEAR = {
    "intercept": ("y ~ x + (1 | school)", {}),
    "slope": ("y ~ x + (1 + x | school)", {"method": "reml"}),
    "uncorrelated": ("y ~ x + (1 + x || school)", {}),
    "three levels": ("y ~ x + (1 | school/classroom)", {"method": "reml"}),
    "slopes at both": ("y ~ x + (1 + x | school/classroom)", {}),
    "weighted": ("y ~ x + (1 + x | school)", {"weights": {"obs": "w1", "school": "w3"}, "conditional": True}),
    "weighted three levels": ("y ~ x + (1 | school/classroom)", {"weights": ["w1", "w2", "w3"], "conditional": True}),
}
GENERAL = {
    "binomial": ("z ~ x + (1 | school)", {"family": "binomial", "n_agq": 7}),
    "laplace": ("z ~ x + (1 + v | school)", {"family": "binomial", "n_agq": 1}),
    "two effects": ("z ~ x + (1 + v | school)", {"family": "binomial", "n_agq": 3}),
    "three effects": ("count ~ x + (1 + v + x | school)", {"family": "poisson", "n_agq": 2, "weights": ["w1", "w3"]}),
    "three levels": ("count ~ x + (1 | school/classroom)", {"family": "poisson", "n_agq": (3, 5)}),
    "parameter": ("visits ~ x + (1 | school)", {"family": "negbinomial", "n_agq": 5}),
    "thresholds": ("mark ~ x + (1 | school)", {"family": "cumulative", "n_agq": 3}),
    "weighted": (
        "hits / n ~ x + (1 | school/classroom)".replace("hits / n", "cbind(hits, misses)"),
        {"family": "binomial", "n_agq": 1, "weights": ["w1", "w2", "w3"], "conditional": True, "link": "probit"},
    ),
}
CROSSED = {
    "linear": ("y ~ x + (1 | a) + (1 | b)", {"method": "reml"}),
    "three factors": ("y ~ x + (1 | a) + (1 | b) + (1 | c)", {}),
    "binomial": ("z ~ x + (1 | a) + (1 | b)", {"family": "binomial"}),
    "three binomial": ("z ~ x + (1 | a) + (0 + x | b) + (1 | c)", {"family": "binomial"}),
    "slope": ("z ~ x + (1 + x | a) + (1 | b)", {"family": "binomial"}),
    "parameter": ("count ~ x + (1 | a) + (1 | b)", {"family": "negbinomial"}),
}


def crossed() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    d = pd.DataFrame({"a": rng.integers(0, 12, 300), "b": rng.integers(0, 7, 300), "c": rng.integers(0, 4, 300)})
    d["x"] = rng.normal(size=300)
    eta = 0.4 * d["x"] + rng.normal(size=12)[d["a"]] + 0.7 * rng.normal(size=7)[d["b"]]
    d["y"] = eta + rng.normal(size=300)
    d["z"] = (rng.random(300) < 1 / (1 + np.exp(-eta))).astype(float)
    d["count"] = rng.poisson(np.exp(0.5 * eta) * rng.gamma(2.0, 0.5, 300))
    return d


def both(formula, data, options):
    """The objectives of the same model in numpy and in the interpreter, and the parameters of the fit."""
    fits = [pmwmix.fit(formula, data, engine=engine, **options) for engine in ("numpy", "python")]
    return [fit.rows.problem.objective for fit in fits], fits[0].rows.fit.point.theta, fits


def agree(formula, data, options, tolerance=1e-10):
    """Value, gradient, Hessian and scores away from the optimum."""
    (direct, graph), theta, fits = both(formula, data, options)
    at = theta + 0.03
    one, other = direct.at(at), graph.at(at)
    close(one.value, other.value, tolerance)
    scale = max(np.abs(other.gradient).max(), 1.0)
    close(one.gradient, other.gradient, tolerance, tolerance * scale)
    close(one.hessian, other.hessian, tolerance, tolerance * np.abs(other.hessian).max())
    close(fits[0].vcov, fits[1].vcov, 1e-7)
    return direct, graph, one, other


@pytest.mark.parametrize("name", LINEAR)
def test_linear(name):
    formula, options = LINEAR[name]
    direct, graph, one, other = agree(formula, nested(), options)
    assert direct.direct is not None and graph.direct is None
    close(one.information, other.information, 1e-10, 1e-10 * np.abs(other.information).max())
    scores = graph.scores(other)
    close(direct.scores(one), scores, 1e-9, 1e-9 * np.abs(scores).max())
    U = np.eye(len(one.beta))
    expected = graph.contrast_derivative(one.theta, U)
    close(direct.contrast_derivative(one.theta, U), expected, 1e-9, 1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", GENERAL)
def test_general(name):
    formula, options = GENERAL[name]
    data = outcomes().assign(misses=lambda d: d["n"] - d["hits"])
    direct, graph, one, other = agree(formula, data, options)
    close(one.scores, other.scores, 1e-9, 1e-9 * np.abs(other.scores).max())
    close(direct.units(one), graph.units(other), 1e-10)
    for found, expected in zip(direct.whitened_modes(one), graph.whitened_modes(other), strict=True):
        close(found, expected, 1e-8, 1e-9)


@pytest.mark.parametrize("name", CROSSED)
def test_crossed(name):
    formula, options = CROSSED[name]
    agree(formula, crossed(), options)


def test_crossed_factor_without_variance():
    """At a variance of zero the derivatives are limits: the graph's, which needs no division there."""
    (direct, graph), theta, _ = both("y ~ x + (1 | a) + (1 | b)", crossed(), {"method": "reml"})
    for k in (0, 1):
        at = np.where(np.arange(2) == k, 0.0, theta)
        one, other = direct.at(at), graph.at(at)
        close([one.value, *one.gradient], [other.value, *other.gradient], 1e-10, 1e-10)
        close(one.hessian, other.hessian, 1e-9, 1e-9)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("by_unit", [False, True])
def test_crossed_cell_by_cell(monkeypatch, sparse, by_unit):
    monkeypatch.setattr(units, "PAIR_COST", 0 if sparse else 1e9)
    monkeypatch.setattr(between, "UNIT", 0 if by_unit else 1e9)
    monkeypatch.setattr(between, "PAIR", 0)
    formula, options = CROSSED["three binomial"]
    agree(formula, crossed(), options)


def test_crossed_generalised_factors_without_variance():
    """As above: there the derivatives in numpy are those at a tiny standard deviation (crossed, eq. 16)."""
    (direct, graph), theta, _ = both("z ~ x + (1 | a) + (0 + x | b) + (1 | c)", crossed(), {"family": "binomial"})
    for k in (-3, -2, -1):
        at = theta + 0.03
        at[k] = 0.0
        one, other = direct.at(at), graph.at(at)
        close([one.value, *one.gradient], [other.value, *other.gradient], 1e-10, 1e-10)
        close(one.hessian, other.hessian, 1e-9, 1e-9 * np.abs(other.hessian).max())


def test_crossed_rows_that_curve_upwards():
    """Student's t with outliers: Newton's steps leave rows out where the joint curvature is not positive."""
    d = crossed()
    d["y"] = d["y"] + np.where(np.arange(300) % 17 == 0, 40.0, 0.0)
    agree("y ~ x + (1 | a) + (1 | b)", d, {"family": "student"}, 1e-8)


@pytest.mark.parametrize("kind", ["linear", "general"])
def test_gradient_and_hessian_are_differences(kind):
    formula, options = LINEAR["slopes at both"] if kind == "linear" else GENERAL["two effects"]
    data = nested() if kind == "linear" else outcomes()
    objective = pmwmix.fit(formula, data, engine="numpy", **options).rows.problem.objective
    theta = pmwmix.fit(formula, data, engine="numpy", **options).rows.fit.point.theta + 0.05
    point, h = objective.at(theta), 1e-5
    sides = [(objective.at(theta + h * e), objective.at(theta - h * e)) for e in np.eye(len(theta))]
    close(point.gradient, [(up.value - down.value) / (2 * h) for up, down in sides], 1e-6, 1e-6)
    slopes = np.array([(up.gradient - down.gradient) / (2 * h) for up, down in sides])
    close(point.hessian, slopes, 1e-5, 1e-5 * np.abs(slopes).max())


def test_jets_against_differences():
    """Products, solutions, factors and determinants of matrices that depend on two parameters."""
    rng = np.random.default_rng(2)
    parts = [rng.normal(size=(4, 3, 3)) for _ in range(6)]

    def matrix(t):
        A = parts[0] + t[0] * parts[1] + t[1] * parts[2] + t[0] ** 2 * parts[3] + t[0] * t[1] * parts[4]
        return A @ A.swapaxes(-1, -2) + 3.0 * np.eye(3)

    def jet(t):
        a = Jet(
            parts[0] + t[0] * parts[1] + t[1] * parts[2] + t[0] ** 2 * parts[3] + t[0] * t[1] * parts[4],
            np.array([parts[1] + 2 * t[0] * parts[3] + t[1] * parts[4], parts[2] + t[0] * parts[4]]),
            np.array([2 * parts[3], parts[4], 0 * parts[3]]),
        )
        M = a @ a.T
        return Jet(M.value + 3.0 * np.eye(3), M.first, M.second)

    right = parts[5]
    functions = {
        "solve": (lambda t: np.linalg.solve(matrix(t), right), lambda M: M.solve(Jet.constant(right, 2))),
        "cholesky": (lambda t: np.linalg.cholesky(matrix(t)), lambda M: M.cholesky()),
        "logdet": (lambda t: np.linalg.slogdet(matrix(t))[1][:, None, None], lambda M: M.logdet()),
    }
    t, h, e = np.array([0.3, -0.2]), 1e-4, np.eye(2)
    for plain, carried in functions.values():
        found = carried(jet(t))
        close(found.value, plain(t), 1e-12)
        for a in range(2):
            close(found.first[a], (plain(t + h * e[a]) - plain(t - h * e[a])) / (2 * h), 1e-6, 1e-6)
        for number, (a, b) in enumerate(zip(*pairs(2), strict=True)):
            corners = [plain(t + s * h * e[a] + r * h * e[b]) * s * r for s in (1, -1) for r in (1, -1)]
            close(found.second[number], sum(corners) / (4 * h * h), 1e-4, 1e-4)
    assert symmetric(np.arange(3.0), 2).tolist() == [[0.0, 1.0], [1.0, 2.0]]


def test_who_fits_again_gets_compiled_code():
    """Small fits stay in numpy; the work of larger ones is counted until a compiler would have paid."""
    key = object()
    assert is_direct("auto", 0.01, key, 1.0) and is_direct("numpy", 1e9, key, 1.0)
    assert not is_direct("jax", 0.01, key, 1.0) and not is_direct("python", 0.01, key, 1.0)
    assert [is_direct("auto", 0.4, key, 1.0) for _ in range(3)] == [True, True, False]
    assert not is_direct("auto", 5.0, object(), 1.0)


def test_default_engine(monkeypatch):
    monkeypatch.delenv("PMWMIX_ENGINE", raising=False)
    assert choose_engine(None) == "auto"
    monkeypatch.setenv("PMWMIX_ENGINE", "python")
    assert choose_engine(None) == "python"
