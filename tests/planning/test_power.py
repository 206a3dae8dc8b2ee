"""Power by simulation: exact power of a balanced trial, the fits it is made of, plausible values, messages."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested, outcomes, survey
from scipy import stats

import pmwmix
from pmwmix.errors import DataError, NotSupportedError, OptionError, PmwmixError
from pmwmix.planning.power import _Truth

TRIAL = "score ~ treated + (1 | school)"
VARIANCES = {"school.Intercept": 1.0, "Residual": 4.0}


def trial(n_schools: int = 20, size: int = 5) -> pd.DataFrame:
    school = np.repeat(np.arange(n_schools), size)
    return pd.DataFrame({"school": school, "treated": (school % 2).astype(float)})


@pytest.fixture(scope="module")
def weighted():
    s = survey()
    return pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, weights=s.weights, scaling="size",
                      pv={"math": ["PV1MATH", "PV2MATH"]})  # fmt: skip


def test_power_of_a_balanced_trial_is_that_of_the_noncentral_t():
    """The test of REML is that of school means with 18 degrees of freedom, wherever the variance is above 0."""
    found = pmwmix.power(TRIAL, trial(), effects={"treated": 1.5}, components=VARIANCES, n=400, method="reml",
                         random_seed=1).set_index("term")  # fmt: skip
    error = np.sqrt((1.0 + 4.0 / 5) * (1 / 10 + 1 / 10))
    limit = stats.t.ppf(0.975, 18)
    exact = stats.nct.sf(limit, 18, 1.5 / error) + stats.nct.cdf(-limit, 18, 1.5 / error)
    row = found.loc["treated"]
    close(row["power"], exact, atol=3 * np.sqrt(exact * (1 - exact) / 400))
    close(row["estimate"], 1.5, atol=3 * error / np.sqrt(400))
    assert row["ci_low"] < row["power"] < row["ci_high"] and row["n"] == 400
    close(row[["ci_low", "ci_high"]], stats.binomtest(round(row["power"] * 400), 400).proportion_ci(), rtol=1e-9)
    nothing = found.loc["Intercept"]  # the rate of false rejections
    close([nothing["power"], nothing["coverage"]], [0.05, 0.95], atol=3 * np.sqrt(0.05 * 0.95 / 400))


def test_its_fits_are_those_of_the_drawn_tables(weighted):
    s = survey()
    truth = _Truth(weighted, {}, {"escs": 12.0}, {"SCHOOLID.Intercept": 900.0}, None, 0.8)
    drawn = truth.draw(np.random.default_rng([4, 0, 0]))
    again = pmwmix.fit("y ~ escs + (1 | SCHOOLID)", s.data.assign(a=drawn[0], b=drawn[1]), weights=s.weights,
                       scaling="size", pv={"y": ["a", "b"]})  # fmt: skip
    found = next(truth.fits(1, (4, 0)))
    close(found.coef, again.coef, rtol=1e-6)
    close(found.tidy()[["std_error", "df", "p_value"]], again.tidy()[["std_error", "df", "p_value"]], rtol=1e-5)
    assert truth.effects["escs"] == 12.0 and truth.effects["Intercept"] == weighted.coef["Intercept"]


def test_plausible_values_share_what_the_test_measures(weighted):
    """Given effects and residual SD, two plausible values have covariance rho sigma² and variance sigma²."""
    truth = _Truth(weighted, {}, None, {"SCHOOLID.Intercept": 0.0, "Residual": 100.0}, 2, 0.8)
    rng = np.random.default_rng(5)
    gaps = np.hstack([np.array(truth.draw(rng)) - truth.rows.marginal() for _ in range(50)])
    close(np.cov(gaps), [[100.0, 80.0], [80.0, 100.0]], atol=3 * 100 * np.sqrt(2 / gaps.shape[1]))
    assert abs(_Truth(weighted, {}, None, None, None, None).rho - 0.9) < 0.03  # the survey was simulated with 0.9


def test_more_schools_have_more_power_and_keep_their_classes():
    d = nested().drop(columns="y")
    found = pmwmix.power("y ~ x + (1 | school/classroom)", d,
                         effects={"x": 0.15}, groups=[10, 60], weights=["t1", "t2", "w3"], random_seed=3,
                         components={"classroom:school.Intercept": 0.5, "school.Intercept": 0.2, "Residual": 1.0},
                         n=40)  # fmt: skip
    assert list(found["groups"]) == [10, 10, 60, 60]
    slopes = found[found["term"] == "x"]
    assert slopes["std_error"].iloc[1] < 0.6 * slopes["std_error"].iloc[0]
    assert slopes["power"].iloc[1] > slopes["power"].iloc[0] + 0.2


def test_generalised_models_are_simulated_from_a_fit():
    fit = pmwmix.fit("z ~ x + (1 | school)", outcomes(), family="binomial", n_agq=3)
    found = pmwmix.power(fit, effects={"x": 3.0}, n=5, random_seed=1).set_index("term")
    assert found.loc["x", "power"] == 1.0 and abs(found.loc["x", "estimate"] - 3.0) < 1.5
    zeros = pmwmix.fit(["count ~ x + (1 | school)", "zi ~ 1"], outcomes(), family="zero-inflated-poisson", n_agq=1)
    truth = _Truth(zeros, {}, {"x": 0.1}, None, None, None)
    assert truth.effects.tolist() == [zeros.coef["Intercept"], 0.1, zeros.coef["zi.Intercept"]]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"effects": {"treat": 1.0}}, OptionError, "'treated'"),
        ({"effects": {"treated": "big"}}, OptionError, "'big'"),
        ({"effects": [1.0]}, OptionError, "dict"),
        ({"components": None}, OptionError, "'school.Intercept', 'Residual'"),
        ({"components": {"school.Intercept": 1.0}}, OptionError, "lacks 'Residual'"),
        ({"components": VARIANCES | {"class.Intercept": 1.0}}, OptionError, "class.Intercept"),
        ({"components": VARIANCES | {"school.Intercept": -1.0}}, OptionError, "'school'"),
        ({"components": VARIANCES | {"Residual": -1.0}}, OptionError, "'Residual'"),
        ({"groups": [1, 50]}, OptionError, "groups="),
        ({"n": 1}, OptionError, "n=1"),
        ({"alpha": 5}, OptionError, "5"),
        ({"n_pv": 0}, OptionError, "n_pv=0"),
        ({"n_pv": 5}, OptionError, "reliability=0.9"),
        ({"n_pv": 5, "reliability": 1.5}, OptionError, "reliability=1.5"),
        ({"data": None}, DataError, "NoneType"),
        ({"model": "log(score) ~ treated + (1 | school)"}, OptionError, "log"),
        ({"model": 3}, OptionError, "int"),
        ({"method": "bayes"}, OptionError, "bayes"),
        ({"pv": {"score": "PV{}"}}, OptionError, "n_pv="),
        ({"family": "poisson", "model": "score ~ treated + (1 | school)"}, PmwmixError, "score"),
    ],
)
def test_messages(change, error, match):
    call = {"model": TRIAL, "data": trial(), "effects": {"treated": 1.0}, "components": VARIANCES, "n": 2} | change
    with pytest.raises(error, match=match):
        pmwmix.power(call.pop("model"), call.pop("data"), **call)


def test_a_fit_comes_alone(weighted):
    with pytest.raises(OptionError, match="groups"):
        pmwmix.power(weighted, groups=[10])
    both = pmwmix.fit("y ~ p + (1 | school)", nested().assign(p1=nested()["x"], p2=nested()["x"] + nested()["w1"]),
                      pv={"p": ["p1", "p2"]})  # fmt: skip
    with pytest.raises(NotSupportedError, match="predictors"):
        pmwmix.power(both)
