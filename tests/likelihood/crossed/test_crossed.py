"""Crossed random effects: exact derivatives, the same numbers as dense matrices, nested code and R, messages."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import close
from scipy.optimize import minimize
from threadpoolctl import threadpool_info, threadpool_limits

import pmwmix
from pmwmix.errors import NotSupportedError
from pmwmix.frame.crossing import independent_parts
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.crossed import gram, linear, units
from pmwmix.likelihood.crossed.general import CrossedObjective
from pmwmix.likelihood.crossed.linear import CrossedLinearObjective
from pmwmix.likelihood.crossed.onethread import with_threads_for
from pmwmix.likelihood.crossed.units import Crossing
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Structure, build
from pmwmix.likelihood.standardise import Columns, Scaler
from pmwmix.results.build import fit_frame

BINARY = "z ~ x + (1 | a) + (1 | b)"


@functools.cache
def made() -> pd.DataFrame:
    """Two crossed factors with outcomes; R read the numbers below from these rows."""
    rng = np.random.default_rng(11)
    n, n_a, n_b = 400, 25, 8
    a, b = rng.integers(0, n_a, n), rng.integers(0, n_b, n)
    x, v = rng.normal(1.0, 1.0, n), rng.normal(size=n)
    u = 0.7 * rng.normal(size=n_a)[a] + 0.5 * rng.normal(size=n_b)[b] + 0.3 * rng.normal(size=n_a)[a] * x
    eta = 0.3 + 0.4 * x + u
    d = pd.DataFrame({"a": a + 1, "b": b + 1, "x": x, "v": v})
    d["z"] = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    d["count"] = rng.poisson(np.exp(0.5 * eta))
    d["y"] = 2.0 + eta + rng.normal(size=n)
    d["w"] = rng.integers(1, 4, n)
    return d


@functools.cache
def binary() -> pmwmix.FitResult:
    return fitted(BINARY, made(), family="binomial")


def fitted(formula: str, data: pd.DataFrame, **options) -> pmwmix.FitResult:
    """Small models without a compiler, which would take longer than the fit."""
    return pmwmix.fit(formula, data, **{"engine": "python", **options})


# -- against dense matrices -----------------------------------------------------------------------------------------


class Dense:
    """Three crossed factors with (1 + x | a), (1 + v || b), (1 | c) in two independent parts, all matrices dense."""

    layout = ThetaLayout(((2,), (1, 1), (1,)))
    theta = np.array([0.7, 0.2, 0.5, 0.6, 0.3, 0.4])
    beta = np.array([0.2, 0.3])

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        n = 160
        half = rng.integers(0, 2, n)
        index = [size * half + rng.integers(0, size, n) for size in (9, 5, 3)]
        self.index = tuple(np.unique(i, return_inverse=True)[1] for i in index)
        self.units = tuple(int(i.max()) + 1 for i in self.index)
        self.one, self.x, self.v = np.ones(n), rng.normal(size=n), rng.normal(size=n)
        self.w = rng.uniform(0.5, 2.0, n)
        self.y = 0.5 * self.x + rng.normal(size=n) + rng.normal(size=self.units[0])[self.index[0]]
        self.z = (rng.random(n) < 0.6).astype(float)
        self.X = np.column_stack([self.one, self.x])
        self.part = independent_parts(self.index)
        self.crossing = Crossing(self.index, self.units, self.layout.q, self.part)
        self.columns = [self.one, self.x, self.one, self.v, self.one]
        self.factor = [0, 0, 1, 1, 2]

    def whitened(self, theta: np.ndarray) -> np.ndarray:
        starts = np.cumsum([0, *(self.units[f] for f in self.factor)])
        Z, Lambda = np.zeros((len(self.one), starts[-1])), np.zeros((starts[-1], starts[-1]))
        for column, f, start in zip(self.columns, self.factor, starts, strict=False):
            Z[np.arange(len(Z)), start + self.index[f]] = column
        for (first, last), L in zip([(0, 2), (2, 4), (4, 5)], self.layout.unpack(theta), strict=True):
            at = slice(starts[first], starts[last])
            Lambda[at, at] = np.kron(L, np.eye(self.units[self.factor[first]]))
        return Z @ Lambda

    def laplace(self, psi: np.ndarray) -> float:
        """Minus the Laplace approximation of the logistic model."""
        Z, u = self.whitened(psi[2:]), 0.0
        for _ in range(40):
            eta = self.X @ psi[:2] + Z @ np.broadcast_to(u, Z.shape[1])
            mu = 1 / (1 + np.exp(-eta))
            M = np.eye(Z.shape[1]) + (Z * (self.w * mu * (1 - mu))[:, None]).T @ Z
            u = u + np.linalg.solve(M, Z.T @ (self.w * (self.z - mu)) - u)
        J = np.sum(self.w * (self.z * eta - np.logaddexp(0, eta))) - 0.5 * u @ u
        return float(0.5 * np.linalg.slogdet(M)[1] - J)

    def profiled(self, theta: np.ndarray, reml: bool) -> float:
        """Minus the profiled (restricted) log-likelihood of the linear model."""
        Z, W = self.whitened(theta), np.diag(self.w)
        M = np.eye(Z.shape[1]) + Z.T @ W @ Z
        inverse = W - W @ Z @ np.linalg.solve(M, Z.T @ W)
        S = self.X.T @ inverse @ self.X
        r = self.y - self.X @ np.linalg.solve(S, self.X.T @ inverse @ self.y)
        n = self.w.sum() - (2 if reml else 0)
        extra = np.linalg.slogdet(S)[1] if reml else 0.0
        return 0.5 * (n * (np.log(2 * np.pi * (r @ inverse @ r) / n) + 1) + np.linalg.slogdet(M)[1] + extra)


@functools.cache
def dense() -> Dense:
    return Dense()


def differences(function, at: np.ndarray, h: float = 1e-5) -> np.ndarray:
    return np.array([(function(at + h * e) - function(at - h * e)) / (2 * h) for e in np.eye(len(at))])


def layout_of_cross(monkeypatch, sparse: bool) -> None:
    """Keep the block between eliminated and other effects cell by cell, or whole."""
    monkeypatch.setattr(units, "PAIR_COST", 0 if sparse else 1e9)


@pytest.mark.parametrize("sparse", [False, True])
def test_laplace_equals_dense_matrices_with_exact_derivatives(monkeypatch, sparse):
    layout_of_cross(monkeypatch, sparse)
    d = dense()
    ones = (True, False, True, False, True)
    structure = MarginalStructure(d.layout, 2, "binomial", "logit", 0, ones, (False,) * 3)
    rows = RowArrays([d.one, d.x], d.columns, np.zeros(len(d.one)), d.w, [d.z], [(d.one,)])
    objective = CrossedObjective(structure, d.crossing, rows, "python")
    psi = np.concatenate([d.beta, d.theta])
    point = objective.at(psi)
    close(point.value, d.laplace(psi), rtol=1e-12)
    close(point.gradient, differences(d.laplace, psi), rtol=1e-6, atol=1e-6)
    close(point.hessian, differences(lambda p: objective.at(p).gradient, psi), rtol=1e-6, atol=1e-6)
    # the two parts share no group: their scores are the gradients of two samples
    assert point.scores.shape == (2, 8)
    close(point.scores.sum(axis=0), -point.gradient)
    alone = replace(rows, w=np.where(d.part == 0, d.w, 0.0))
    close(CrossedObjective(structure, d.crossing, alone, "python").at(psi).gradient, -point.scores[0], atol=1e-9)
    # conditional covariances: blocks of the inverse of the joint Hessian
    u, V = objective.whitened_modes(point), objective.covariances(point)
    assert [part.shape for part in u] == [(2, d.units[0]), (2, d.units[1]), (1, d.units[2])]
    assert [part.shape for part in V] == [(d.units[0], 2, 2), (d.units[1], 2, 2), (d.units[2], 1, 1)]
    objective._modes.clear()
    close(objective.at(psi).value, point.value, rtol=1e-13)
    # a Hessian taken a few directions at a time
    close(in_pieces(objective, point), point.hessian, rtol=1e-10, atol=1e-10)


def in_pieces(objective: CrossedObjective, point) -> np.ndarray:
    from pmwmix.likelihood.crossed import general

    was = general.CELLS_AT_ONCE
    general.CELLS_AT_ONCE = 1
    try:
        return objective.hessian(point)
    finally:
        general.CELLS_AT_ONCE = was


@pytest.mark.parametrize(("reml", "sparse"), [(False, True), (True, False)])
def test_closed_form_equals_dense_matrices_with_exact_derivatives(monkeypatch, reml, sparse):
    layout_of_cross(monkeypatch, sparse)
    d = dense()
    columns = Columns(
        [d.one, d.x, d.v, d.y], np.array([0, 1, 0, 2, 0]), np.array([0, 1]), np.array([3]),
        Scaler(np.zeros(4), np.ones(4)),
    )  # fmt: skip
    order = np.argsort(d.part, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(d.part))])
    blocks = build(columns, order, starts, d.w, (), (np.ones(2),))
    structure = Structure(d.layout, 2, reml)
    objective = CrossedLinearObjective(blocks, structure, d.crossing, columns, np.arange(2), d.w, "python")
    point = objective.at(d.theta)
    close(point.value, d.profiled(d.theta, reml), rtol=1e-12)
    close(point.gradient, differences(lambda t: d.profiled(t, reml), d.theta), rtol=1e-6, atol=1e-6)
    close(point.hessian, differences(lambda t: objective.at(t).gradient, d.theta), rtol=1e-6, atol=1e-6)
    if reml:
        return
    scores = objective.scores(point)
    close(scores[:, 2:-1].sum(axis=0), -point.gradient, atol=1e-9)
    close(scores[:, [0, 1, -1]].sum(axis=0), np.zeros(3), atol=1e-9)
    Z = d.whitened(d.theta)
    M = np.eye(Z.shape[1]) + (Z * d.w[:, None]).T @ Z
    u = np.linalg.solve(M, Z.T @ (d.w * (d.y - d.X @ point.beta)))
    at = Z @ u  # Z b of every row
    rows, start = np.zeros(len(d.one)), 0
    for (b, _), index, q in zip(objective.modes(point, 0), d.index, d.layout.q, strict=True):
        rows += sum(d.columns[start + c] * b[index, c] for c in range(q))
        start += q
    close(rows, at, atol=1e-10)


def test_fit_equals_a_fit_by_scipy():
    """Four groups of two factors: the maximum of a Laplace approximation written with dense matrices."""
    rng = np.random.default_rng(3)
    a, b = np.repeat([0, 1], 20), np.tile([0, 1], 20)
    d = pd.DataFrame({"a": a, "b": b, "z": (rng.random(40) < 1 / (1 + np.exp(2.0 - 2.4 * a - 1.8 * b))).astype(int)})
    fit = fitted("z ~ 1 + (1 | a) + (1 | b)", d, family="binomial", n_agq=1)
    Z = np.column_stack([a == 0, a == 1, b == 0, b == 1]).astype(float)

    def deviance(psi):
        L, u = Z * np.exp(psi[[1, 1, 2, 2]]), np.zeros(4)
        for _ in range(50):
            mu = 1 / (1 + np.exp(-psi[0] - L @ u))
            M = np.eye(4) + (L * (mu * (1 - mu))[:, None]).T @ L
            u = u + np.linalg.solve(M, L.T @ (d["z"].to_numpy() - mu) - u)
        eta = psi[0] + L @ u
        return -np.sum(d["z"] * eta - np.logaddexp(0, eta)) + 0.5 * u @ u + 0.5 * np.linalg.slogdet(M)[1]

    best = minimize(deviance, [0.0, -0.5, -0.5], method="BFGS", options={"gtol": 1e-9})
    close(fit.loglik, -best.fun, rtol=1e-8)
    close(fit.coef, best.x[:1], rtol=1e-4, atol=1e-5)
    close(fit.varcorr["sdcor"], np.exp(best.x[1:]), rtol=1e-4)


# -- against the nested code and R ----------------------------------------------------------------------------------


def as_crossed(fit: pmwmix.FitResult) -> pmwmix.FitResult:
    """The same model through the code for crossed factors; nested ones are a special case."""
    frame = fit.rows.frame
    names = tuple(level.name for level in frame.hierarchy.levels[:2])
    return fit_frame(replace(frame, hierarchy=replace(frame.hierarchy, crossed=names)), fit.settings, "python")


@pytest.mark.parametrize(
    "options",
    [{"formula": "z ~ x + (1 | a/b)", "family": "binomial", "n_agq": 1}, {"formula": "y ~ x + (1 | a/b)"}],
)
def test_nested_factors_are_a_special_case(options):
    nested = fitted(data=made(), **options)
    crossed = as_crossed(nested)
    close(crossed.loglik, nested.loglik, rtol=1e-10)
    close(crossed.coef, nested.coef, rtol=1e-6, atol=1e-8)
    close(crossed.vcov, nested.vcov, rtol=1e-5, atol=1e-9)
    close(crossed.varcorr[["vcov", "se"]], nested.varcorr[["vcov", "se"]], rtol=1e-4)
    for group, table in nested.ranef().items():
        close(crossed.ranef(group).loc[table.index], table, rtol=1e-4, atol=1e-6)


# glmer(z ~ x + (1 | a) + (1 | b), d, family = binomial, control = glmerControl(optimizer = "bobyqa",
#       optCtrl = list(maxfun = 1e5, rhoend = 1e-9), tolPwrss = 1e-12)); count ~ x + (1 + x | a) + (1 | b), poisson
GLMER = {
    BINARY: (
        "binomial", [-0.1539658392, 0.5191693324], [0.2258407447, 0.1150116963],
        [0.3364285407, 0.1175244065], -256.248306802,
    ),
    "count ~ x + (1 + x | a) + (1 | b)": (
        "poisson", [-0.1163619726, 0.2631788896], [0.10779844733, 0.06096949657],
        [0.10622882866, 0.02950208526, -0.01218847829, 0.01028413580], -570.675658716,
    ),
}  # fmt: skip


@pytest.mark.parametrize("formula", GLMER)
def test_same_as_glmer(formula):
    family, coef, se, vcov, loglik = GLMER[formula]
    fit = binary() if formula == BINARY else fitted(formula, made(), family=family, engine="jax")
    assert fit.converged and not fit.singular
    close(fit.coef, coef, rtol=1e-5)
    close(fit.se, se, rtol=1e-4)  # glmer differentiates numerically
    close(fit.varcorr["vcov"], vcov, rtol=1e-4)
    close(fit.loglik, loglik, rtol=1e-9)
    assert fit.quadrature["n_agq"] == (1, 1)


def test_same_as_lmer():
    """m <- lmerTest::lmer(y ~ x + v + (1 + x | a) + (1 | b), d); ranova(m); ranef(m, condVar = TRUE)."""
    fit = fitted("y ~ x + v + (1 + x | a) + (1 | b)", made(), method="reml")
    close(fit.coef, [2.10044281772, 0.30098166536, 0.01712714846], rtol=1e-6)
    close(fit.se, [0.23042720886, 0.09083705027, 0.05401977248], rtol=1e-6)
    close(fit.df(), [17.868927, 23.015634, 366.649601], rtol=1e-5)
    vcov = [0.50811855133, 0.12978252727, -0.03594490957, 0.21502521119, 1.12906029277]
    close(fit.varcorr["vcov"], vcov, rtol=1e-5)
    close(fit.loglik, -641.769326733, rtol=1e-9)
    close(fit.ranef("b").loc[[1, 2], "Intercept"], [-0.6800782263, 0.0615557834], rtol=1e-5)
    close(fit.ranef("b").loc[[1, 2], "Intercept_se"], [0.174200478, 0.173575259], rtol=1e-5)
    x = made()["x"]
    of_a = vcov[0] + 2 * x.mean() * vcov[2] + (x**2).mean() * vcov[1]  # Johnson (2014)
    close(fit.icc, np.array([of_a, vcov[3]]) / (of_a + vcov[3] + vcov[4]), rtol=1e-5)
    close(pmwmix.icc_se(fit)["icc"], fit.icc)
    table = pmwmix.ranova(fit)
    close(table["chisq"][1:], [17.495122, 40.740334], rtol=1e-5)
    close(table["df"][1:], [2, 1])
    with pytest.raises(NotSupportedError, match=r"nested random effects.*crossed.*satterthwaite"):
        fit.tidy(df="kenward-roger")


def test_compiled_is_the_same(monkeypatch):
    layout_of_cross(monkeypatch, True)
    one, other = (fitted("y ~ x + (1 | a) + (1 | b)", made(), engine=engine) for engine in ("jax", "python"))
    same(one, other, rtol=1e-9)


# -- invariants -----------------------------------------------------------------------------------------------------


def same(one: pmwmix.FitResult, other: pmwmix.FitResult, rtol: float = 1e-6) -> None:
    close(one.coef, other.coef, rtol=rtol)
    close(one.vcov, other.vcov, rtol=rtol, atol=1e-9)
    close(one.varcorr["vcov"], other.varcorr["vcov"], rtol=rtol)
    close(one.loglik, other.loglik, rtol=1e-9)


def test_row_order_and_labels_do_not_matter():
    rng = np.random.default_rng(1)
    shuffled = made().sample(frac=1.0, random_state=2)
    names = {i: f"site {j}" for i, j in enumerate(rng.permutation(30))}
    fit = fitted(BINARY, shuffled.assign(a=shuffled["a"].map(names)), family="binomial")
    same(fit, binary())
    close(fit.ranef("b"), binary().ranef("b"), rtol=1e-5, atol=1e-7)
    close(fit.ranef("a").loc[[names[3], names[7]]], binary().ranef("a").loc[[3, 7]], rtol=1e-5, atol=1e-7)
    assert fit.index.equals(shuffled.index)
    close(fit.fitted().sort_index(), binary().fitted(), rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{"formula": BINARY, "family": "binomial"}, {"formula": "y ~ x + (1 | a) + (1 | b)"}]
)
def test_weights_count_rows(options):
    d = made()
    same(fitted(data=d.assign(w=1.0), weights={"obs": "w"}, **options), fitted(data=d, **options))
    weighted = fitted(data=d, weights="w", **options)
    repeated = fitted(data=d.loc[d.index.repeat(d["w"])].reset_index(drop=True), **options)
    same(weighted, repeated)
    assert weighted.settings.vcov == "model"
    assert any("model-based, as if a weight were a number of rows" in note for note in weighted.notes)
    assert any("average 1.98" in note for note in weighted.notes)


def sites() -> pd.DataFrame:
    """Twelve sites, each with raters and tasks of its own."""
    rng = np.random.default_rng(4)
    n = 480
    site = np.repeat(np.arange(12), 40)
    rater, task = 5 * site + rng.integers(0, 5, n), 4 * site + rng.integers(0, 4, n)
    x = rng.normal(size=n)
    u = rng.normal(size=60)[rater] + 0.7 * rng.normal(size=48)[task]
    d = pd.DataFrame({"site": site, "rater": rater, "task": task, "x": x, "w": rng.uniform(0.5, 1.5, n)})
    d["y"] = 0.5 * x + u + rng.normal(size=n)
    d["z"] = (d["y"] > 0).astype(int)
    return d


def test_robust_variance_over_independent_parts():
    d = sites()
    formula = "y ~ x + (1 | rater) + (1 | task)"
    fit = fitted(formula, d, vcov="robust")
    assert fit.settings.clusters == ("independent parts", None, 12, 1)
    close(fit.df("design"), [11, 11])
    # A⁻¹BA⁻¹ from the scores of the parts
    problem, point = fit.rows.problem, fit.rows.fit.point
    scores = problem.objective.scores(problem.objective.at(point.theta), 0)
    assert scores.shape == (12, 5)
    close(scores.sum(axis=0), np.zeros(5), atol=1e-5)
    A, J = np.linalg.inv(point.information), problem.transforms[0].A_x * problem.transforms[0].y_scale
    V = (A @ (12 / 11 * scores.T @ scores) @ A)[:2, :2]
    close(fit.vcov, J @ V @ J.T, rtol=1e-5)
    by_site = fitted(formula, d, design={"psu": "site"}, weights="w")
    assert by_site.settings.vcov == "robust" and by_site.settings.clusters[0] == "site"
    coarse = d.assign(region=d["site"] // 2)
    assert fitted(formula, coarse, design={"psu": "region"}, vcov="robust").settings.clusters[2] == 6


@pytest.mark.parametrize("family", ["binomial", "gaussian"])
def test_robust_errors_are_the_same_by_default(family):
    """Scores of several parts: numpy evaluates the likelihood of all, the graph that of each."""
    formula = ("z" if family == "binomial" else "y") + " ~ x + (1 | rater) + (1 | task)"
    one, other = (fitted(formula, sites(), family=family, vcov="robust", engine=e) for e in ("auto", "python"))
    same(one, other)


@pytest.mark.parametrize("family", ["binomial", "negbinomial"])
def test_laplace_with_intercepts_equals_differences(family):
    """Gradient, Hessian, scores and conditional variances in numpy, the modes found again at each point."""
    y = "z" if family == "binomial" else "count"
    fit = fitted(f"{y} ~ x + (1 | a) + (1 | b)", made(), family=family, engine="numpy")
    objective, at = fit.rows.problem.objective, fit.rows.fit.point.theta + 0.05
    point = objective.at(at)
    close(point.gradient, differences(lambda p: objective.at(p).value, at), rtol=1e-6, atol=1e-6)
    close(point.hessian, differences(lambda p: objective.at(p).gradient, at), rtol=1e-6, atol=1e-6)
    graph = fitted(f"{y} ~ x + (1 | a) + (1 | b)", made(), family=family).rows.problem.objective
    for one, other in zip(objective.modes(point), graph.modes(graph.at(at)), strict=True):
        close(one[0], other[0], atol=1e-10)
        close(one[1], other[1], rtol=1e-10)


def test_one_thread_for_matrices_of_moderate_size():
    """Inside there is one, however deep; afterwards what was before, whatever other threads of Python did meanwhile."""

    def threads(*_: object) -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    def deep(*_: object) -> set[int]:
        return with_threads_for(50, threads) | threads()

    with threadpool_limits(2, user_api="blas"):
        assert with_threads_for(50, deep) == {1}
        assert threads() == {2} == with_threads_for(10_000, threads)
        with ThreadPoolExecutor(4) as executor:
            list(executor.map(lambda _: with_threads_for(50, deep), range(40)))
        assert threads() == {2}


# -- the dense block ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [30, 10**6])
@pytest.mark.parametrize("listed", [0, 10**6])
def test_sums_over_units_equal_dense_matrices(monkeypatch, listed, at_once):
    """By pairs, by blocks of a sparse and of a whole matrix; a few units at a time."""
    layout_of_cross(monkeypatch, True)
    monkeypatch.setattr(gram, "MAX_LISTED", listed)
    monkeypatch.setattr(gram, "AT_ONCE", at_once)
    rng = np.random.default_rng(5)
    index = tuple(np.append(np.arange(n), rng.integers(0, n, 60)) for n in (40, 9, 3))
    index = tuple(np.concatenate([np.arange(40) % n, part[-60:]]) for n, part in zip((40, 9, 3), index, strict=True))
    crossing = Crossing(index, (40, 9, 3), (1, 1, 1), np.zeros(100, dtype=int))
    cells = crossing.cells
    values = rng.normal(size=len(cells.unit))
    C = np.zeros((40, 12))
    C[cells.unit, cells.place] = values
    scale, N = rng.uniform(0.0, 2.0, 40), rng.normal(size=(12, 12))
    N = N + N.T
    kind = gram.PairGram if listed else gram.BlockGram
    found = gram.gram_of(crossing, values)
    assert isinstance(found, kind)
    for one in (found, gram.BlockGram(C)):
        close(one.sum(scale), np.tril(C.T @ np.diag(scale) @ C), atol=1e-13)
        close(one.along(N), np.diag(C @ N @ C.T), atol=1e-13)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_steps_before_the_climb_stand_still_at_the_maximum(monkeypatch, method):
    """Their fixed point is a stationary point of the (restricted) likelihood (crossed, eq. 12); they come close."""
    objective, fit = linear_objective(method)
    start = objective.start()
    assert np.abs(start / fit.theta - 1.0).max() < 0.1 < np.abs(0.4 / fit.theta - 1.0).max()
    monkeypatch.setattr(linear, "NEAR", 0.0)
    monkeypatch.setattr(linear, "APPROACHES", 60)
    close(objective.start(), fit.theta, rtol=1e-6)


def linear_objective(method: str) -> tuple[CrossedLinearObjective, pmwmix.FitResult]:
    fit = fitted("y ~ x + (1 | a) + (1 | b)", made(), method=method, engine="numpy")
    return fit.rows.problem.objective, fit


def test_a_point_is_evaluated_as_far_as_it_is_asked():
    """Value alone, then derivatives, in any order and with other points between: the numbers of the graph."""
    objective, fit = linear_objective("reml")
    graph = fitted("y ~ x + (1 | a) + (1 | b)", made(), method="reml").rows.problem.objective
    at = fit.rows.fit.point.theta + 0.05
    point, expected = objective.at(at), graph.at(at)
    assert objective.direct.inverse(at).__dict__.keys().isdisjoint({"N", "logdet_curvature"})
    close(point.value, expected.value, rtol=1e-12)
    objective.at(at + 1.0)
    close(point.information, expected.information, rtol=1e-9, atol=1e-7)
    close(point.gradient, expected.gradient, rtol=1e-9, atol=1e-9)
    close([*point.psi, point.raw["S_xx"][0, 1]], [*expected.psi, expected.raw["S_xx"][0, 1]], rtol=1e-9)


# -- through the call -----------------------------------------------------------------------------------------------


def test_plausible_values():
    d = made().assign(Y2=lambda t: t["y"] + 0.1 * t["v"]).rename(columns={"y": "Y1"})
    fit = fitted("y ~ x + (1 | a) + (1 | b)", d, pv={"y": "Y{}"})
    each = [fitted(f"Y{k} ~ x + (1 | a) + (1 | b)", d) for k in (1, 2)]
    close(fit.coef, (each[0].coef + each[1].coef) / 2, rtol=1e-7)
    for one, alone in zip(fit.fits, each, strict=True):
        same(one, alone)
        close(one.ranef("a"), alone.ranef("a"), rtol=1e-5, atol=1e-8)


def test_predictions_survive_a_file(tmp_path):
    fit, d = binary(), made()
    eta = np.log(fit.fitted() / (1 - fit.fitted()))
    b = fit.ranef("a")["Intercept"].loc[d["a"]].to_numpy() + fit.ranef("b")["Intercept"].loc[d["b"]].to_numpy()
    close(eta, fit.coef["Intercept"] + fit.coef["x"] * d["x"] + b, rtol=1e-9)
    close(fit.predict(d.head(5)), fit.fitted()[:5], rtol=1e-12)
    again = pmwmix.load(fit.save(tmp_path / "fit.npz"))
    close(again.predict(d.tail(5)), fit.fitted()[-5:], rtol=1e-12)
    close(again.icc, fit.icc)
    assert list(again.n_groups) == [25, 8] and list(again.n_groups.index) == ["a", "b"]
    assert "Laplace" in again.summary().to_text(1000) and "'a' and 'b' are crossed" in again.summary().to_text(1000)


def test_nested_and_crossed_together():
    """Classes in schools, crossed with tasks: three factors side by side, in the order of their sizes."""
    rng = np.random.default_rng(8)
    n = 300
    classroom, task = rng.integers(0, 24, n), rng.integers(0, 6, n)
    d = pd.DataFrame({"school": classroom // 4, "room": classroom % 4, "task": task, "x": rng.normal(size=n)})
    u = rng.normal(size=6)[d["school"]] + 0.5 * rng.normal(size=24)[classroom] + rng.normal(size=6)[task]
    d["y"] = u + d["x"] + rng.normal(size=n)
    fit = fitted("y ~ x + (1 | school/room) + (1 | task)", d)
    assert list(fit.varcorr["grp"]) == ["room:school", "school", "task", "Residual"]
    assert dict(fit.n_groups) == {"room:school": 24, "school": 6, "task": 6}
    assert fit.converged and len(fit.ranef("room:school")) == 24 and "2:3" in fit.ranef("room:school").index


MESSAGES = {
    "several nodes": ({"n_agq": 7}, "several nodes.*n_agq=7 for crossed 'a', 'b'.*n_agq=1"),
    "nodes per level": ({"n_agq": (1, 5)}, r"n_agq=\(1, 5\)"),
    "weight of a group": (
        {"weights": {"a": "one"}},
        r"Column 'one' weights 'a', and 'a', 'b' are crossed.*ids of 'b' start again in every 'a', write \(1 \| a/b\)",
    ),
    "weights in a list": ({"weights": ["w", "one"]}, "Column 'one' weights 'a'"),
    "scaling": ({"weights": "w", "scaling": "size"}, "scaling='size' with column 'w' and crossed 'a', 'b'.*its mean"),
    "robust": ({"vcov": "robust"}, "'a', 'b' hang together in 1 part.*nothing to compare.*vcov='model'"),
    "small sample": ({"vcov": "CR2"}, "vcov='CR2' with crossed 'a', 'b'"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name):
    options, match = MESSAGES[name]
    with pytest.raises(NotSupportedError, match=match):
        fitted(BINARY, made().assign(one=1.0), family="binomial", **options)


def test_more_messages():
    d = sites().assign(cut=np.arange(480) % 7)
    with pytest.raises(NotSupportedError, match="'rater', 'task' hang together in 12 parts, which column 'cut'"):
        fitted("y ~ x + (1 | rater) + (1 | task)", d, design={"psu": "cut"}, vcov="robust")
    with pytest.raises(NotSupportedError, match="vcov='robust' with method='reml'"):
        fitted("y ~ x + (1 | rater) + (1 | task)", d, vcov="robust", method="reml")


def test_what_does_not_fit_is_refused_before(monkeypatch):
    monkeypatch.setattr(units, "bytes_left", lambda: 4096.0)
    for formula, options, groups in (
        (BINARY, {"family": "binomial"}, "'a' 25, 'b' 8"),
        ("y ~ x + (1 | a) + (1 | b)", {"engine": "auto"}, "'a' 25, 'b' 8"),
        ("y ~ x + (1 + x | a) + (1 | b)", {}, "'a' 25 x 2, 'b' 8"),
    ):
        match = rf"memory.*{groups}: the 8 effects .* 0\.0 GiB where 0\.0 are free"
        with pytest.raises(NotSupportedError, match=match):
            fitted(formula, made(), **options)
