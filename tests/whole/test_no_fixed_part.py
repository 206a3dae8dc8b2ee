"""Models without a fixed coefficient: lme4's log-likelihood, and every verb answers or refuses in words."""

import numpy as np
import pandas as pd
import pytest
from helpers import close
from scipy.stats import multivariate_normal

import pmwmix


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(30), 20)
    x, f, h = rng.normal(size=600), rng.choice(list("abc"), 600), rng.choice(["p", "q"], 600)
    u, us = rng.normal(size=30), rng.normal(size=30) * 0.5
    y = 1 + 0.5 * x + (f == "b") * 1.0 + (f == "c") * 2 + (h == "q") * x + u[g] + us[g] * x + rng.normal(size=600)
    w, W = rng.uniform(1, 3, 600), rng.uniform(1, 2, 30)[g]
    return pd.DataFrame({"g": g, "x": x, "y": y, "w": w, "W": W, "b": (y > 1.5) * 1, "k": rng.integers(0, 8, 600)})


def test_loglik_is_lme4s_and_restricted_or_not_is_the_same(rows):
    fit = pmwmix.fit("y ~ 0 + (1 | g)", rows)
    close(fit.loglik, -1267.536, atol=5e-4)  # lme4 2.0, as printed
    close(pmwmix.fit("y ~ 0 + (1 | g)", rows, method="reml").loglik, fit.loglik, rtol=1e-10)
    tau2, sigma2 = fit.varcorr["vcov"]
    V = sigma2 * np.eye(20) + tau2
    close(fit.loglik, multivariate_normal(np.zeros(20), V).logpdf(rows["y"].to_numpy().reshape(30, 20)).sum())


def test_robust_errors_of_the_variances_are_those_of_the_scores(rows):
    fit = pmwmix.fit("y ~ 0 + (1 | g)", rows, vcov="robust")
    tau2, sigma2 = fit.varcorr["vcov"]

    def units(tau2, sigma2):
        V = sigma2 * np.eye(20) + tau2
        return multivariate_normal(np.zeros(20), V).logpdf(rows["y"].to_numpy().reshape(30, 20))

    at, h = np.array([tau2, sigma2]), 1e-3
    steps = h * np.eye(2)
    scores = np.array([(units(*(at + e)) - units(*(at - e))) / (2 * h) for e in steps]).T
    second = [
        [
            (units(*(at + a + b)) - units(*(at + a - b)) - units(*(at - a + b)) + units(*(at - a - b))).sum()
            for b in steps
        ]
        for a in steps
    ]
    bread = np.linalg.inv(-np.array(second) / (4 * h * h))
    V = bread @ (scores.T @ scores) @ bread * 30 / 29
    close(fit.varcorr["se"], np.sqrt(np.diag(V)), rtol=1e-4)  # differences of second order


@pytest.mark.parametrize("formula", ["b ~ 0 + (1 | g)", "b ~ 0 + (1 | g) + (1 | k)"])
def test_generalised_models_equal_those_with_the_constant_at_zero(rows, formula):
    fit = pmwmix.fit(formula, rows, family="binomial")
    free = pmwmix.fit(formula.replace("0", "1", 1), rows, family="binomial")
    assert fit.converged and fit.loglik < free.loglik and len(fit.coef) == 0
    small = rows.assign(b=np.tile([0, 1], 300))  # symmetric: the constant is zero by itself
    one, other = (pmwmix.fit(text, small, family="binomial") for text in (formula, formula.replace("0", "1", 1)))
    close(one.loglik, other.loglik, rtol=1e-8)


def test_every_verb_answers(rows, tmp_path):
    fit = pmwmix.fit("y ~ 0 + (1 | g)", rows, weights=["w", "W"], scaling="size")
    assert "Residual" in str(fit.summary()) and len(fit.tidy()) == 0 and len(fit.confint()) == 0
    close(fit.predict(rows), fit.fitted())
    close(fit.predict(rows, conditional=False), np.zeros(600))
    assert fit.r2() is not None and len(pmwmix.design_effects(fit)) == 0
    assert 0 < pmwmix.icc_se(fit)["icc"].iloc[0] == fit.icc
    fit.save(tmp_path / "fit.npz")
    close(pmwmix.load(tmp_path / "fit.npz").varcorr["vcov"], fit.varcorr["vcov"])
    larger = pmwmix.lrt(pmwmix.fit("y ~ 0 + (1 | g)", rows), pmwmix.fit("y ~ 1 + (1 | g)", rows))
    assert "1" in str(larger)
    for call in (
        lambda: fit.wald(),
        lambda: fit.ame(newdata=rows),
        lambda: pmwmix.informativeness(fit),
        lambda: pmwmix.informativeness(pmwmix.fit("y ~ 0 + (1 | g)", rows)),
        lambda: pmwmix.fit("y ~ 0 + (1 | g)", rows, vcov="CR2"),
        lambda: pmwmix.fit("y ~ 0 + (1 | g)", rows, method="bayes"),
    ):
        with pytest.raises(pmwmix.PmwmixError) as said:
            call()
        assert str(said.value).count(". ") >= 2


def test_groups_have_no_coefficients_to_average(rows):
    found = pmwmix.fit_groups("y ~ 0 + (1 | g)", rows.assign(half=rows["g"] % 2), by="half", progress=False)
    assert "2 of 2 fitted" in str(found.summary())
    assert len(found.average()) == 0 and "n_other" in found.average() and len(found.average(of="varcorr")) == 2
    pytest.importorskip("matplotlib")
    with pytest.raises(pmwmix.PmwmixError, match=r"nothing to compare.*no coefficients.*varcorr=True"):
        pmwmix.plots.forest(found)
