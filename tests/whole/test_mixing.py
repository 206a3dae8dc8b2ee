"""Random effects that are not normal: t and mass points, against flexmix, identities, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, outcomes

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError, PmwmixError

FORMULA = "z ~ x + v + (1 | school)"
WEIGHTS = {"weights": ["w1", "w3"], "conditional": True}


def binomial(data, random, formula=FORMULA, **options):
    return pmwmix.fit(formula, data, family="binomial", random=random, **options)


@pytest.fixture(scope="module")
def masses():
    return binomial(outcomes(), "discrete(2)", **WEIGHTS)


@pytest.fixture(scope="module")
def heavy():
    return binomial(outcomes(), "t(5)", n_agq=9, **WEIGHTS)


def test_flexmix_has_the_same_maximum():
    """flexmix 2.3-18, FLXMRglmfix(fixed = ~ cses + sector, family = "binomial"), | school, tolerance 1e-13."""
    data = hsb().assign(high=lambda d: (d["mathach"] > 15).astype(int))
    fit = binomial(data, "discrete(3)", "high ~ cses + sector + (1 | school)")
    close(fit.loglik, -4439.1128291, rtol=1e-11)
    close(fit.coef[["cses", "sector[T.Catholic]"]], [0.62987174, 0.58699936], rtol=2e-6)
    table = fit.family_parameters["estimate"].to_numpy()
    close(fit.coef["Intercept"] + table[:3], [-1.94325006, -0.56184231, 0.68206563], atol=6e-6)
    close(table[3:], [0.196368586, 0.707666069, 0.095965345], atol=2e-6)
    classes = fit.ranef().loc[data["school"].unique()[:3], ["class1", "class2", "class3"]]
    theirs = [
        [5.02889e-3, 9.94971e-1, 4.39939e-7],
        [6.00339e-5, 9.55427e-1, 4.45133e-2],
        [9.99965e-1, 3.51383e-5, 9.56063e-18],
    ]
    close(classes, theirs, atol=2e-6)
    assert fit.n_starts == 8
    close(fit.aic, -2 * fit.loglik + 2 * 7)  # flexmix's df


def test_many_degrees_of_freedom_are_the_normal_distribution():
    data = outcomes()
    t, normal = (binomial(data, random, n_agq=7, **WEIGHTS) for random in ("t(1e8)", "normal"))
    close([t.loglik, *t.coef, *t.varcorr["vcov"]], [normal.loglik, *normal.coef, *normal.varcorr["vcov"]], rtol=2e-6)
    close(t.se, normal.se, rtol=1e-5)
    close(t.ranef(), normal.ranef(), rtol=1e-4, atol=1e-5)


def test_a_gaussian_outcome_in_any_unit():
    """Its residual variance is a parameter like others; 100 y has 100 times the coefficients."""
    data = outcomes()
    one, large = (pmwmix.fit("y ~ x + v + (1 | school)", data.assign(y=s * data["y"]), random="t") for s in (1.0, 100))
    close(large.coef, 100 * one.coef, rtol=1e-5)
    close([large.dispersion, *large.varcorr["sdcor"]], [100 * one.dispersion, *(100 * one.varcorr["sdcor"])], rtol=1e-4)
    close(large.family_parameters.loc["school.df"], one.family_parameters.loc["school.df"], rtol=1e-3)
    close(one.icc, one.varcorr["vcov"][0] / (one.varcorr["vcov"][0] + one.dispersion**2))


def test_integer_weights_are_repeated_rows_and_schools(masses):
    rng = np.random.default_rng(3)
    data = outcomes().assign(w1=lambda d: rng.integers(1, 3, len(d)))
    data["w3"] = rng.integers(1, 3, 14)[data["school"]]
    many = data.loc[data.index.repeat(data["w1"])]
    many = pd.concat([many.assign(school=many["school"] + 100 * k)[many["w3"] > k] for k in range(2)])
    for random, nodes in (("discrete(2)", None), ("t(4)", 5)):
        one = binomial(data, random, n_agq=nodes, vcov="model", **WEIGHTS)
        two = binomial(many.sample(frac=1.0, random_state=1), random, n_agq=nodes)
        numbers = [[f.loglik, *f.coef, *f.se, *f.varcorr["vcov"], *f.family_parameters["se"]] for f in (one, two)]
        close(*numbers, rtol=2e-5)


def test_the_scale_of_the_top_weights_changes_nothing_but_the_likelihood(masses, heavy):
    data = outcomes().assign(w3=lambda d: 3.0 * d["w3"])
    for fit, other in ((masses, binomial(data, "discrete(2)", **WEIGHTS)), (heavy, None)):
        other = other or binomial(data, "t(5)", n_agq=9, **WEIGHTS)
        close([*other.coef, *other.se, *other.varcorr["vcov"]], [*fit.coef, *fit.se, *fit.varcorr["vcov"]], rtol=1e-5)
        close(other.loglik, 3.0 * fit.loglik, rtol=1e-9)


def test_averages_are_sums_over_the_masses(masses):
    """And their errors those of coefficients, places and probabilities, by hand."""
    new = pd.DataFrame({"x": [0.0, 2.0, 5.0], "v": [0.0, 1.0, -1.0], "school": 0})
    table = masses.family_parameters["estimate"].to_numpy()
    places, share = table[:2], table[2:]
    X = np.column_stack([np.ones(3), new[["x", "v"]]])
    p = 1 / (1 + np.exp(-(X @ masses.coef.to_numpy())[:, None] - places))
    found = masses.predict(new, averaged=True, conditional=False, interval="confidence")
    close(masses.predict(new, averaged=True), p @ share, rtol=1e-12)
    close(found["predicted"], p @ share, rtol=1e-12)
    slope = share * p * (1 - p)
    G = np.hstack([slope.sum(axis=1)[:, None] * X, np.zeros((3, 2)), slope, p])
    close(found["std_error"], np.sqrt(np.einsum("ij,jk,ik->i", G, masses.random_vcov, G)), rtol=1e-9)
    drawn = masses.simulate(300, random_seed=2).to_numpy().mean()
    close(drawn, masses.predict(averaged=True).mean(), atol=0.03)


def test_errors_of_averages_count_the_degrees_of_freedom():
    """Differences of the mean in df, at points whose probabilities scipy averages on a grid."""
    from scipy import stats

    fit = binomial(outcomes().assign(school=lambda d: d["classroom"] // 2), "t", n_agq=5)
    mean = fit.predict(averaged=True).iloc[0]
    df, sd = fit.family_parameters.loc["school.df", "estimate"], fit.varcorr["sdcor"][0]
    u = np.sinh(np.linspace(-9.0, 9.0, 20001))
    w = stats.t.pdf(u, df, scale=np.sqrt((df - 2) / df)) * np.cosh(np.arcsinh(u)) * 18.0 / 20000
    eta = float(fit.predict(type="link", conditional=False).iloc[0])
    with np.errstate(over="ignore"):
        close(mean, w @ (1 / (1 + np.exp(-eta - sd * u))), rtol=1e-6)
    assert fit.random_vcov.shape == (6, 6)
    assert np.isfinite(fit.ame()["std_error"]).all()


def test_what_is_saved_is_read_back(masses, heavy, tmp_path):
    for number, fit in enumerate((masses, heavy)):
        again = pmwmix.load(fit.save(tmp_path / f"{number}.npz"))
        assert again.random == fit.random
        pd.testing.assert_frame_equal(again.ranef(), fit.ranef())
        close(again.predict(averaged=True), fit.predict(averaged=True), rtol=1e-12)
        close(again.ame(newdata=outcomes())["std_error"], fit.ame()["std_error"], rtol=1e-9)
        assert str(again.summary()) == str(fit.summary())
        assert not again.has_closed_form


def test_equal_plausible_values_pool_to_one_fit(masses):
    data = outcomes()
    data["PV1"], data["PV2"] = data["z"], data["z"]
    fit = binomial(data, "discrete(2)", FORMULA.replace("z", "pv"), pv={"pv": "PV{}"}, **WEIGHTS)
    close(fit.coef, masses.coef, rtol=1e-6)
    close(fit.se, masses.se, rtol=1e-5)
    close(fit.ranef(), masses.ranef(), rtol=1e-4, atol=1e-6)
    close(fit.family_parameters, masses.family_parameters, rtol=1e-4)


def test_edges_are_told():
    few = binomial(outcomes(), "discrete(4)")
    assert not few.converged
    assert "one mass fewer" in few.status
    wild = binomial(outcomes(), "t", n_agq=11, **WEIGHTS)
    assert not wild.converged
    assert "degrees of freedom fell to 2" in wild.status


REFUSED = [
    ({"random": 3}, OptionError, "is a name. Got random=3."),
    ({"random": "student"}, OptionError, "Unknown distribution of random effects 'student'"),
    ({"random": "t("}, OptionError, "is a name"),
    ({"random": "t(2)"}, OptionError, "more than 2 degrees of freedom"),
    ({"random": "t(many)"}, OptionError, "more than 2 degrees of freedom"),
    ({"random": "normal(1)"}, OptionError, "takes no number"),
    ({"random": "discrete"}, OptionError, "whole number of masses from 2 to 12"),
    ({"random": "discrete(1)"}, OptionError, "One mass is the model without random terms"),
    ({"random": "discrete(2.5)"}, OptionError, "whole number of masses"),
    ({"random": "t", "method": "bayes"}, NotSupportedError, "fitted by maximum likelihood"),
    ({"random": "t", "method": "reml"}, NotSupportedError, "fitted by maximum likelihood"),
    ({"random": "discrete(2)", "n_agq": 7}, NotSupportedError, "n_agq does not go together"),
    ({"random": "t", "fixed": {"school.Intercept": 1.0}}, NotSupportedError, "fixed does not go together"),
    ({"random": "t", "formula": "z ~ x"}, OptionError, "needs a random term"),
    ({"random": "t", "formula": "z ~ x + (1 | school) + (1 | n)"}, NotSupportedError, "crossed factors are normal"),
    ({"random": "t", "formula": "z ~ x + cs(1 + x + v | school)"}, NotSupportedError, "Structured covariances"),
    ({"random": "discrete(2)", "formula": "z ~ x + (1 + x | school)"}, NotSupportedError, "one effect per group"),
    ({"random": "t", "family": "zero-inflated-poisson", "formula": "count ~ x + (1 | school)"}, NotSupportedError,
     "one linear predictor"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "kind", "words"), REFUSED, ids=[str(one[0]) for one in REFUSED])
def test_what_cannot_be_is_refused_in_words(asked, kind, words):
    options = {"formula": FORMULA, "family": "binomial", **asked}
    with pytest.raises(kind) as caught:
        pmwmix.fit(options.pop("formula"), outcomes(), **options)
    assert words in str(caught.value)
    assert str(caught.value).count(". ") >= 2 or str(caught.value).endswith(".")


def test_verbs_refuse_in_words(masses, heavy):
    with pytest.raises(NotSupportedError, match="not compared by likelihood-ratio tests"):
        pmwmix.lrt(masses, heavy)
    with pytest.raises(NotSupportedError, match="ranova"):
        pmwmix.ranova(masses)
    with pytest.raises(NotSupportedError, match="Mass points are summed over"):
        pmwmix.quadrature_check(masses)
    assert r"\sim t5(0, " in str(heavy.report())
    assert r"\sim discrete2(0, " in str(masses.report())
    two = binomial(outcomes(), "t(5)", "z ~ x + (1 | classroom) + (1 | school)", n_agq=3)
    with pytest.raises(PmwmixError, match="one grouping level"):
        two.predict(averaged=True)
    assert two.simulate(1, random_seed=1).shape == (161, 1)


@pytest.mark.parametrize("random", ["t(5)", "discrete(2)"])
def test_a_gaussian_outcome_is_called_by_what_makes_it_no_linear_model(random):
    """Messages name ``random=``, which was asked for, and not the family; glance has its residual deviation."""
    fit = pmwmix.fit("y ~ x + (1 | school)", outcomes(), random=random)
    close(fit.glance()["sigma"][0], fit.family_parameters["estimate"]["sigma"])
    for call in (
        lambda: fit.confint(method="profile"),
        lambda: fit.confint_varcorr(method="profile"),
        lambda: fit.tidy(df="kenward-roger"),
        lambda: fit.tidy(df="satterthwaite"),
        lambda: fit.residuals("normalized"),
        lambda: fit.bootstrap(4, kind="residual"),
        lambda: fit.r2(snijders_bosker=True),
        lambda: fit.predict(outcomes().head(2), conditional=False, interval="prediction"),
    ):
        with pytest.raises(NotSupportedError, match=rf"random='{random}'".replace("(", r"\(").replace(")", r"\)")):
            call()
