"""Priors: how they are said, what they default to, that draws follow them and that the posterior listens to them.

Sampled quantities are compared in Monte-Carlo standard errors (SD / sqrt(ESS)), four of them.
"""

import functools

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from helpers import close, nested, outcomes
from scipy import stats

import pmwmix
from pmwmix.errors import OptionError
from pmwmix.likelihood.engine import ENGINES
from pmwmix.sample.draws.datatree import draw_prior, posterior_dataset
from pmwmix.sample.model.density import compile_density
from pmwmix.sample.model.model import build_model, keys_of, priors_of
from pmwmix.sample.model.priors import read_priors
from pmwmix.sample.model.target import target_of
from pmwmix.sample.nuts.nuts import lane_of
from pmwmix.sample.request import SAMPLERS, read_request

ML = {"engine": "python"}
HOW = {"method": "bayes", "engine": "python", "random_seed": 3, "progress": False}
SLOPE = "y ~ x + (1 + x | school)"


@functools.cache
def target(formula=SLOPE, family="gaussian"):
    data = nested() if family == "gaussian" else outcomes()
    options = {} if family == "gaussian" else {"n_agq": 2}
    fit = pmwmix.fit(formula, data, family=family, **options, **ML)
    return target_of(fit, False), fit


def table(given=None, formula=SLOPE, family="gaussian"):
    """Key -> text of all priors."""
    found, _ = target(formula, family)
    return {prior.key: prior.text for prior in priors_of([found], read_priors(given, keys_of(found)))}


def test_defaults_are_scaled_to_the_data():
    """Of coefficients 2.5 sd(y) / sd(x), of the intercept about mean(y), of deviations half-t with 3 df."""
    d = nested()
    sy, sx = d["y"].std(ddof=0), d["x"].std(ddof=0)
    assert table() == {
        "Intercept": f"Normal({d['y'].mean():.4g}, {2.5 * sy:.4g})",
        "x": f"Normal(0, {2.5 * sy / sx:.4g})",
        "school.Intercept": f"HalfStudentT(3, {sy:.4g})",
        "school.x": f"HalfStudentT(3, {sy / sx:.4g})",
        "school": "LKJ(2)",
        "sigma": f"HalfStudentT(3, {sy:.4g})",
    }


def test_defaults_of_generalised_models():
    found = table(formula="visits ~ x + (1 | school)", family="negbinomial")
    assert list(found) == ["Intercept", "x", "school.Intercept", "phi[0]"]
    assert found["school.Intercept"] == "HalfStudentT(3, 2.5)"
    found = table(formula="mark ~ x + (1 | school)", family="cumulative")
    assert list(found) == ["x", "school.Intercept", "phi[0]", "phi[1]", "phi[2]"]


SAID = {
    "text": ({"x": "Normal(0, 10)"}, {"x": "Normal(0, 10)"}),
    "keyword": ({"x": "Normal(mu=1, sigma=2)"}, {"x": "Normal(1, 2)"}),
    "mixed": ({"x": "StudentT(4, sigma=2, mu=1)"}, {"x": "StudentT(4, 1, 2)"}),
    "negative number": ({"x": "Normal(-3, 1e2)"}, {"x": "Normal(-3, 100)"}),
    "dist": ({"x": pm.Normal.dist(1, 3)}, {"x": "Normal(1, 3)"}),
    "class fixed": ({"fixed": "Normal(0, 7)"}, {"x": "Normal(0, 7)"}),
    "class sd": ({"sd": "HalfNormal(5)"}, {k: "HalfNormal(0, 5)" for k in ("school.x", "school.Intercept")}),
    "one before its class": (
        {"sd": "Exponential(2)", "school.x": "HalfCauchy(1)"},
        {"school.Intercept": "Exponential(0.5)", "school.x": "HalfCauchy(0, 1)"},
    ),
    "LKJ": ({"school": "LKJ(4)"}, {"school": "LKJ(4)"}),
    "LKJ eta": ({"cor": "LKJ(eta=0.5)"}, {"school": "LKJ(0.5)"}),
    "LKJ number": ({"school": 3}, {"school": "LKJ(3)"}),
    "sigma": ({"sigma": "Gamma(2, 1)"}, {"sigma": "Gamma(2, 1)"}),
    "class phi": ({"phi": "HalfNormal(9)"}, {"sigma": "HalfNormal(0, 9)"}),
}


@pytest.mark.parametrize("case", SAID)
def test_priors_can_be_said(case):
    """The key that was given changes, no other does; how PyMC spells parameters is left to PyMC."""
    given, expected = SAID[case]
    found, default = table(given), table()
    for key, text in found.items():
        if key in expected:
            name = text.split("(")[0]
            assert name == expected[key].split("(")[0]
            if "Half" not in name and name not in ("Exponential", "Gamma"):
                assert text == expected[key]
        else:
            assert text == default[key]


class Prelizlike:
    """What a PreliZ distribution can do that matters here."""

    def to_pymc(self):
        return pm.Normal.dist(2, 4)


def test_preliz_distributions_are_taken():
    assert table({"x": Prelizlike()})["x"] == "Normal(2, 4)"


def prior_draws(formula, given, n=4000):
    found, fit = target(formula)
    sampled = build_model(found, priors_of([found], read_priors(given, keys_of(found))))
    names = [str(label) for label in fit.theta.index]
    return found, posterior_dataset(found, None, draw_prior(sampled, n, 5), list(fit.n_groups.index), names)


def assert_follows(draws, distribution):
    """Kolmogorov and Smirnov's p-value is above 1e-4."""
    assert stats.kstest(np.ravel(draws), distribution.cdf).pvalue > 1e-4


def test_prior_draws_follow_what_was_said():
    """Slopes without an intercept in their term keep their scale, so that nothing but the prior is in the draws."""
    given = {
        "Intercept": "Normal(10, 2)", "x": "Normal(1, 0.5)", "school.Intercept": "HalfNormal(3)", "sigma": "Gamma(4, 2)"
    }  # fmt: skip
    _, draws = prior_draws("y ~ x + (1 | school)", given)
    beta = np.asarray(draws["beta"])[0]
    assert_follows(beta[:, 1], stats.norm(1, 0.5))
    assert_follows(beta[:, 0] + beta[:, 1] * nested()["x"].mean(), stats.norm(10, 2))
    assert_follows(draws["sd"], stats.halfnorm(scale=3))
    assert_follows(draws["sigma"], stats.gamma(4, scale=1 / 2))


@pytest.mark.parametrize("eta", [1.0, 2.0])
def test_correlations_of_two_effects_follow_lkj(eta):
    """At the mean of the predictor (r + 1) / 2 ~ Beta(eta, eta): uniform for 1."""
    d = nested().assign(x=lambda t: t["x"] - t["x"].mean())
    fit = pmwmix.fit(SLOPE, d, **ML)
    found = target_of(fit, False)
    sampled = build_model(found, priors_of([found], read_priors({"cor": f"LKJ({eta})"}, keys_of(found))))
    draws = posterior_dataset(found, None, draw_prior(sampled, 4000, 5), ["school"], list(fit.theta.index))
    assert_follows((np.asarray(draws["cor"]) + 1) / 2, stats.beta(eta, eta))
    scale = d["y"].std(ddof=0) / d["x"].std(ddof=0)
    folded = 2 * stats.t(3).cdf(np.asarray(draws["sd"])[0, :, 1] / scale) - 1
    assert_follows(folded, stats.uniform())


def test_correlations_of_three_effects_follow_lkj():
    """Every correlation of an LKJ(eta) matrix of three is (r + 1) / 2 ~ Beta(eta + 1/2, eta + 1/2)."""
    d, rng = nested(), np.random.default_rng(1)
    d["v"] = rng.normal(size=len(d))
    d[["x", "v"]] -= d[["x", "v"]].mean()
    fit = pmwmix.fit("y ~ x + v + (1 + x + v | school)", d, **ML)
    found = target_of(fit, False)
    sampled = build_model(found, priors_of([found], read_priors({"cor": "LKJ(1.5)"}, keys_of(found))))
    draws = posterior_dataset(found, None, draw_prior(sampled, 4000, 6), ["school"], list(fit.theta.index))
    cor = np.asarray(draws["cor"])[0]
    assert cor.shape == (4000, 3)
    for pair in cor.T:
        assert_follows((pair + 1) / 2, stats.beta(2, 2))
    r12, r13, r23 = cor.T
    assert (1 + 2 * r12 * r13 * r23 - r12**2 - r13**2 - r23**2 > 0).all()


@functools.cache
def tight():
    """A coefficient pinned by its prior, and a normal prior that is as strong as the data."""
    d = nested()
    given = {"x": "Normal(5, 0.0001)", "Intercept": "Normal(0, 50)"}
    return pmwmix.fit("y ~ x + (1 | school)", d, priors=given, draws=300, tune=300, chains=2, **HOW)


def test_a_tight_prior_pins_a_coefficient():
    fit = tight()
    assert abs(fit.coef["x"] - 5) < 1e-3 and fit.se["x"] < 2e-4
    assert fit.priors.loc["x", "prior"] == "Normal(5, 0.0001)" and not fit.priors.loc["x", "default"]
    assert fit.priors.loc["sigma", "default"]
    assert "given" in fit.summary().to_text(1000)


def test_prior_and_data_are_weighed_as_normals_are():
    """Mean of a normal and a known residual variance: precision-weighted mean and variance, analytically."""
    rng = np.random.default_rng(0)
    d = pd.DataFrame({"y": rng.normal(3.0, 1.0, 25)})
    given = {"Intercept": "Normal(1, 0.2)", "sigma": "LogNormal(0, 0.00001)"}
    fit = pmwmix.fit("y ~ 1", d, priors=given, draws=1000, tune=300, **HOW)
    precision = 1 / 0.2**2 + 25
    mean, sd = (1 / 0.2**2 + 25 * d["y"].mean()) / precision, precision**-0.5
    ess = float(fit.tidy()["ess_bulk"].iloc[0])
    assert abs(fit.coef["Intercept"] - mean) < 4 * sd / np.sqrt(ess)
    assert abs(fit.se["Intercept"] / sd - 1) < 4 / np.sqrt(2 * ess)


def test_units_of_the_outcome_do_not_matter():
    """Ten times the outcome: ten times every draw up to rounding at first, in distribution in the end."""
    d = nested()
    short = {"draws": 1000, "tune": 300, **HOW}
    one = pmwmix.fit("y ~ x + (1 | school)", d, **short)
    ten = pmwmix.fit("y ~ x + (1 | school)", d.assign(y=10 * d["y"]), **short)
    for name in ("beta", "sd", "sigma"):
        a, b = one.draws(name).reshape(4000, -1), ten.draws(name).reshape(4000, -1) / 10
        error = a.std(axis=0) / np.sqrt(one.tidy()["ess_bulk"].min())
        assert (abs(a.mean(axis=0) - b.mean(axis=0)) < 4 * np.sqrt(2) * error).all()
        assert (abs(a.std(axis=0) / b.std(axis=0) - 1) < 4 * error / a.std(axis=0)).all()
    close(one.icc, ten.icc, rtol=0.05)
    prior = ten.idata["prior"]["sigma"] / one.idata["prior"]["sigma"]
    close(prior, 10.0, rtol=1e-6)


def test_the_pymc_model_goes_on_in_pymc():
    """PyMC's own sampler agrees with ours on the model that the result hands out."""
    fit = tight()
    model = fit.pymc_model()
    assert isinstance(model, pm.Model)
    point = model.initial_point()
    assert np.isfinite(model.compile_logp(mode="JAX")(point)) and np.isfinite(model.point_logps()["loglik"])
    assert set(model.named_vars) >= {"beta", "sd", "sigma", "loglik"}


def test_the_pymc_model_has_the_data_of_the_plausible_value():
    d = nested()
    d["other"] = d["y"] + np.random.default_rng(2).normal(size=len(d))
    short = {"draws": 20, "tune": 50, "chains": 1, **HOW}
    fit = pmwmix.fit("out ~ x + (1 | school)", d, pv={"out": ["y", "other"]}, **short)
    first = float(np.asarray(fit.pymc_model(1)["data_y_shift"].get_value()))
    second = float(np.asarray(fit.pymc_model(2)["data_y_shift"].get_value()))
    close([first, second], [d["y"].mean(), d["other"].mean()])
    assert fit.pymc_model(1) is fit.pymc_model(2)


@pytest.mark.slow
def test_pymc_samples_the_same_posterior():
    d = nested()
    short = {"draws": 1000, "tune": 500, "chains": 2, **HOW}
    ours = pmwmix.fit("y ~ x + (1 | school)", d, **short)
    other = pmwmix.fit("y ~ x + (1 | school)", d, sampler="pymc", **short)
    assert other.how["sampler"] == "pymc"
    for name in ("beta", "sd", "sigma"):
        a, b = ours.draws(name).reshape(2000, -1), other.draws(name).reshape(2000, -1)
        ess = min(ours.tidy()["ess_bulk"].min(), other.tidy()["ess_bulk"].min())
        assert (abs(a.mean(axis=0) - b.mean(axis=0)) < 4 * a.std(axis=0) * np.sqrt(2 / ess)).all()
        assert (abs(a.std(axis=0) / b.std(axis=0) - 1) < 4 * np.sqrt(1 / ess)).all()


NAMES = ("sigma", "school", "sd.x", "cor")


@pytest.mark.parametrize("name", NAMES)
def test_a_predictor_may_be_called_like_another_parameter(name):
    """Each parameter keeps a prior of its own kind, and a key that means two of them is refused."""
    d = nested().rename(columns={"x": name, "school": "school" if name != "school" else "s"})
    group = "s" if name == "school" else "school"
    if name == "school":
        d = d.assign(school=d["s"]).rename(columns={"school": "x"}).assign(school=nested()["x"])
    d["t"] = np.random.default_rng(1).normal(size=len(d))
    fit = pmwmix.fit(f"y ~ `{name}` + (1 + t | {group})", d, **ML)
    found = target_of(fit, False)
    keys = keys_of(found)
    chosen = priors_of([found], read_priors(None, keys))
    sampled = build_model(found, chosen)
    assert chosen[1].key == name and chosen[1].normal is not None
    assert "beta_centred" in [rv.name for rv in sampled.model.free_RVs]
    if name in ("sigma", "cor"):
        with pytest.raises(OptionError, match="stands for several"):
            read_priors({name: "Normal(0, 1)"}, keys)


def test_a_group_and_a_predictor_of_one_name():
    d = nested()
    d["t"] = np.random.default_rng(1).normal(size=len(d))
    found = target_of(pmwmix.fit("y ~ school + (1 + t | school)", d, **ML), False)
    chosen = priors_of([found], {})
    sampled = build_model(found, chosen)
    assert next(rv.name for rv in sampled.model.free_RVs) == "beta_centred"
    with pytest.raises(OptionError, match="stands for several"):
        read_priors({"school": "LKJ(2)"}, keys_of(found))


def density_of(data, given=None):
    """A model of other numbers: its compiled functions, and its log-posterior where q = mean + scale z, twice."""
    found = target_of(pmwmix.fit(SLOPE, data, **ML), False)
    sampled = build_model(found, priors_of([found], read_priors(given, keys_of(found))))
    density = compile_density(found, sampled)
    lane = lane_of(found, sampled, density)
    z = np.random.default_rng(0).normal(size=density.dim)
    ours = density.value(z, [*density.value.put([lane.mean, lane.scale]), *lane.data])["packed"][0]
    q, place, point = lane.mean + lane.scale @ z, 0, {}
    for rv in sampled.model.free_RVs:
        value, shape = sampled.model.rvs_to_values[rv], rv.type.shape
        size = int(np.prod(shape, dtype=int))
        point[value.name] = q[place : place + size].reshape(shape)
        place += size
    theirs = sampled.model.compile_logp(mode=ENGINES["python"]())(point)
    return density, float(ours), float(theirs)


def test_models_of_one_shape_share_compiled_code_and_none_of_their_numbers():
    d = nested()
    other = d.assign(y=3.0 * d["y"] - 100.0 + np.random.default_rng(2).normal(size=len(d)), x=5.0 * d["x"])
    first, *one = density_of(d)
    second, *two = density_of(other)
    assert second.value is first.value and second.values is first.values
    close(*one, rtol=1e-9)
    close(*two, rtol=1e-9)
    assert abs(one[0] - two[0]) > 1.0
    own, *three = density_of(d, {"x": "Laplace(0, 1)"})
    assert own.value is not first.value
    close(*three, rtol=1e-9)
    assert density_of(d, {"cor": "LKJ(4)"})[0].value is not first.value


def test_samplers_are_known():
    assert SAMPLERS[0] == "nutpie"
    asked = read_request(None, None, None, 1, {"target_accept": 0.9}, False, None)
    assert (asked.draws, asked.tune, asked.chains, asked.options) == (1000, 1000, 4, {"target_accept": 0.9})
