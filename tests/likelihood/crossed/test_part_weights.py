"""Weights of the crossed factor whose groups are the independent parts: repeated sites, derivatives, R, messages."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.frame.crossing import independent_parts
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.crossed.general import CrossedObjective
from pmwmix.likelihood.crossed.units import Crossing
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.layout import ThetaLayout

FORMULA = "z ~ x + (1 | rater) + (1 | task) + (1 | site)"


@functools.cache
def made() -> pd.DataFrame:
    """Ten sites with raters and tasks of their own; weights of sites are whole numbers. R read the numbers below."""
    rng = np.random.default_rng(4)
    n, site = 300, np.repeat(np.arange(10), 30)
    rater, task = 5 * site + rng.integers(0, 5, n), 4 * site + rng.integers(0, 4, n)
    x = rng.normal(size=n)
    u = 0.8 * rng.normal(size=50)[rater] + 0.6 * rng.normal(size=40)[task] + 0.7 * rng.normal(size=10)[site]
    d = pd.DataFrame({"site": site, "rater": rater, "task": task, "x": x, "w_site": rng.integers(1, 4, 10)[site]})
    d["z"] = (0.5 * x + u + rng.logistic(size=n) > 0).astype(int)
    d["w"] = d["w_site"] * rng.uniform(1.0, 2.0, n)
    return d


def repeated(d: pd.DataFrame) -> pd.DataFrame:
    """Every site as often as its weight says, each time with other raters and tasks."""
    ids = ["site", "rater", "task"]
    copies = [
        rows.assign(**{name: 10 * rows[name] + copy for name in ids})
        for _, rows in d.groupby("site")
        for copy in range(rows["w_site"].iloc[0])
    ]
    return pd.concat(copies, ignore_index=True)


def fitted(data: pd.DataFrame, formula: str = FORMULA, **options) -> pmwmix.FitResult:
    return pmwmix.fit(formula, data, **{"family": "binomial", **options})


GLMER = {
    "coef": [-0.12030511305, 0.49770650592],
    "vcov": [0.552712355299, 0.055716394418, 0.309415893400],
    "loglik": -193.328118814,
}


def same(one: pmwmix.FitResult, other: pmwmix.FitResult) -> None:
    close(one.coef, other.coef, rtol=1e-7)
    close(one.varcorr["vcov"], other.varcorr["vcov"], rtol=1e-6)
    close(one.loglik, other.loglik, rtol=1e-10)


def test_weights_count_sites():
    d = made()
    weighted = fitted(d, weights={"site": "w_site"}, vcov="model")
    again = fitted(repeated(d))
    same(weighted, again)
    close(weighted.vcov, again.vcov, rtol=1e-6)
    close(weighted.quadrature["loglik_error"], again.quadrature["loglik_error"], rtol=1e-6)
    same(fitted(d.assign(w_site=5), weights={"site": "w_site"}, vcov="model"), fitted(repeated(d.assign(w_site=5))))
    for number in (lambda fit: fit.icc, lambda fit: fit.ame()["estimate"]):
        close(number(weighted), number(again), rtol=1e-6)
    # without a term, be it that of the sites
    for one, other in zip(pmwmix.ranova(weighted)["loglik"], pmwmix.ranova(again)["loglik"], strict=True):
        close(one, other, rtol=1e-7)


def test_unweighted_is_glmer():
    """glmer(z ~ x + (1 | rater) + (1 | task) + (1 | site), d, binomial, glmerControl("bobyqa", tolPwrss = 1e-12))."""
    fit = fitted(made().assign(one=1.0), weights={"site": "one"}, vcov="model")
    same(fit, fitted(made()))
    close(fit.coef, GLMER["coef"], rtol=1e-4)
    close(fit.varcorr["vcov"], GLMER["vcov"], rtol=1e-3)
    close(fit.loglik, GLMER["loglik"], rtol=1e-8)


@pytest.mark.parametrize("layout", [ThetaLayout(((1,), (1,))), ThetaLayout(((2,), (1,)))])
def test_value_and_derivatives(layout):
    """Value, scores and Hessian are the weighted sums of those of the parts, in numpy (intercepts) and in the graph."""
    rng = np.random.default_rng(2)
    n, part = 90, np.repeat([0, 1, 2], 30)
    index = tuple(np.unique(size * part + rng.integers(0, size, n), return_inverse=True)[1] for size in (6, 4))
    units, one, x = tuple(int(i.max()) + 1 for i in index), np.ones(n), rng.normal(size=n)
    z, counts = (rng.random(n) < 0.6).astype(float), np.array([1.0, 2.5, 0.5])
    columns = [one, x, one] if layout.q[0] == 2 else [one, one]
    ones = tuple(column is one for column in columns)
    structure = MarginalStructure(layout, 2, "binomial", "logit", 0, ones, (False,) * 2)
    rows = RowArrays([one, x], columns, np.zeros(n), rng.uniform(0.5, 2.0, n), [z], [(one,)])
    assert (independent_parts(index) == part).all()
    crossing = Crossing(index, units, layout.q, part)

    def at(weights: np.ndarray | None, engine: str, psi: np.ndarray):
        return CrossedObjective(structure, replace(crossing, part_w=weights), rows, engine).at(psi)

    psi = np.concatenate([[0.2, 0.3], 0.5 * np.ones(layout.n_theta)])
    for engine in ("python", "numpy") if layout.q[0] == 1 else ("python",):
        whole, alone = at(counts, engine, psi), [at(row, engine, psi) for row in np.eye(3)]
        close(whole.value, counts @ [point.value for point in alone], rtol=1e-10)
        close(at(None, engine, psi).value, sum(point.value for point in alone), rtol=1e-10)
        close(whole.scores, counts[:, None] * at(None, engine, psi).scores, rtol=1e-8, atol=1e-10)
        steps = 1e-5 * np.eye(len(psi))
        slopes = [(at(counts, engine, psi + h).value - at(counts, engine, psi - h).value) / 2e-5 for h in steps]
        close(whole.gradient, slopes, rtol=1e-6, atol=1e-7)
        curves = [(at(counts, engine, psi + h).gradient - at(counts, engine, psi - h).gradient) / 2e-5 for h in steps]
        close(whole.hessian, curves, rtol=1e-6, atol=1e-6)


def test_sandwich_over_the_sites():
    d = made()
    fit = fitted(d, weights={"obs": "w", "site": "w_site"})
    assert fit.settings.vcov == "robust" and fit.settings.clusters == ("independent parts", None, 10, 1)
    problem = fit.rows.problem
    point = problem.objective.at(fit.rows.fit.point.theta)
    scores, A, J = point.scores, np.linalg.inv(point.hessian), problem.transforms[0].A_x
    close(fit.vcov, J @ (A @ (10 / 9 * scores.T @ scores) @ A)[:2, :2] @ J.T, rtol=1e-6)
    # total weights of rows are divided by those of their sites; the scale of sites counts for nothing
    conditional = d.assign(w=d["w"] / d["w_site"])
    same(fit, fitted(conditional, weights={"obs": "w", "site": "w_site"}, conditional=True))
    close(fit.coef, fitted(d.assign(w=9 * d["w"], w_site=9 * d["w_site"]), weights={"obs": "w", "site": "w_site"}).coef)
    rows, sites = fit.rows.frame.w[0], fit.rows.frame.w[3]
    close(rows, d["w"] / d["w_site"])
    close(sites, d.groupby("site")["w_site"].first())
    scaled = fitted(d, weights={"obs": "w", "site": "w_site"}, scaling="size")
    close(np.bincount(d["site"], scaled.rows.frame.w[0]), np.full(10, 30.0))
    trimmed = fitted(d, weights={"obs": "w", "site": "w_site"}, trim={"site": 1.2}).trimming
    assert list(trimmed.index) == ["site"]


def test_verbs_afterwards(tmp_path):
    d = made()
    fit = fitted(d, weights={"obs": "w", "site": "w_site"})
    again = pmwmix.load(fit.save(tmp_path / "fit.npz"))
    close(again.predict(d.head(3)), fit.predict(d.head(3)))
    assert "site: w_site" in again.summary().to_text(200)
    with pytest.raises(NotSupportedError, match="crossed"):
        pmwmix.sensitivity(fit)
    with pytest.raises(NotSupportedError, match="crossed"):
        pmwmix.influence(fit)


def test_likelihoods_that_count_parts_are_compared_with_each_other():
    d, weights = made(), {"obs": "w", "site": "w_site"}
    large = fitted(d, weights=weights)
    small = fitted(d, FORMULA.replace("x + ", "1 + "), weights=weights)
    test = pmwmix.lrt(small, large)
    close(test["df"].iloc[1], 1)
    wald = (large.coef["x"] / large.se["x"]) ** 2
    assert 0.5 * wald < test["chisq"].iloc[1] < 2.0 * wald
    of_rows = fitted(d, "z ~ x + (1 | rater) + (1 | task)", weights={"obs": "w"})
    with pytest.raises(OptionError, match="rows count differently"):
        pmwmix.lrt(of_rows, large)


MESSAGES = {
    "a factor inside": (
        {"weights": {"rater": "w_site"}},
        NotSupportedError,
        "Column 'w_site' weights 'rater'.*the 50 groups of 'rater' hang together in 10 parts.*Weight the rows alone",
    ),
    "a list": ({"weights": ["w", None, None, "w_site"]}, OptionError, 'given by name.*"obs": ..., "rater": ...'),
    "varies": ({"weights": {"site": "w"}}, pmwmix.PmwmixError, "constant within a site, but column 'w' varies"),
    "top": (
        {"weights": {"site": "w_site"}, "weights_top": "sum"},
        NotSupportedError,
        "no top level.*_top='sum'",
    ),
    "small sample": ({"weights": {"site": "w_site"}, "vcov": "CR2"}, NotSupportedError, "vcov='CR2' with crossed"),
    "multiway": ({"weights": {"site": "w_site"}, "vcov": "multiway"}, NotSupportedError, "'multiway' .linear, by ML"),
    "linear": (
        {"weights": {"site": "w_site"}, "family": "gaussian"},
        NotSupportedError,
        "of a linear model.*'w_site' weights 'site'.*method='pairwise'",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name):
    options, error, match = MESSAGES[name]
    with pytest.raises(error, match=match):
        fitted(made(), **options)


def test_two_factors_that_are_the_parts():
    d = made().assign(town=made()["site"] + 100)
    formula = FORMULA + " + (1 | town)"
    with pytest.raises(
        NotSupportedError, match=r"One crossed factor.*'site', 'town'|One crossed factor.*'town', 'site'"
    ):
        fitted(d, formula, weights={"site": "w_site", "town": "w_site"})
