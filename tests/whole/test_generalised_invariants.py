"""Generalised models: what must not change, what must change in a known way, and data that are hard to fit."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, outcomes
from hypothesis import given, settings
from hypothesis import strategies as st

import pmwmix

TWO, THREE = "z ~ x + (1 | school)", "z ~ x + (1 | classroom) + (1 | school)"
W2, W3 = ["w1", "w3"], ["w1", "w2", "w3"]
# Newton steps end where the gradient is rounding noise; estimates then agree to about 1e-8 of their standard error.
RTOL = 1e-6


def fit(formula, data, **options):
    """In PyTensor's interpreter, which needs no compilation for a new shape."""
    defaults = {"family": "binomial", "n_agq": 5}
    if "weights" in options:
        defaults["conditional"] = True
    return pmwmix.fit(formula, data, **{**defaults, **options})


def same(a, b, rtol=RTOL, loglik=True, errors=True):
    close(a.coef, b.coef, rtol=rtol, atol=rtol * float(a.se.max()))
    close(a.varcorr["vcov"], b.varcorr["vcov"], rtol=10 * rtol, atol=1e-9)
    if loglik:
        close(a.loglik, b.loglik, rtol=1e-9, atol=1e-7)
    if errors:
        close(a.se, b.se, rtol=10 * rtol)
        close(a.varcorr["se"], b.varcorr["se"], rtol=10 * rtol)


def repeat(data, counts, group=None, below=()):
    """Repeat rows, or whole groups under new labels (with new labels of the groups below, too)."""
    if group is None:
        return data.loc[data.index.repeat(counts)].reset_index(drop=True)
    parts = []
    for copy in range(int(counts.max())):
        part = data[counts > copy].copy()
        for name in (group, *below):
            part[name] = part[name].astype(str) + f"copy{copy}"
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(("formula", "family"), [(TWO, "binomial"), (THREE, "binomial")])
def test_weights_of_one_change_nothing(formula, family):
    d = outcomes().assign(one=1.0)
    weighted = fit(formula, d, family=family, weights=["one"] * (2 if formula == TWO else 3), vcov="model")
    same(weighted, fit(formula, d, family=family))


def test_integer_weights_repeat_rows_and_groups_at_every_level():
    rng = np.random.default_rng(8)
    d = outcomes()
    by_row = pd.Series(rng.integers(1, 4, len(d)), index=d.index)
    by_class = d["classroom"].map(dict(enumerate(rng.integers(1, 4, d["classroom"].max() + 1))))
    by_school = d["school"].map(dict(enumerate(rng.integers(1, 4, d["school"].max() + 1))))
    d = d.assign(a=by_row, b=by_class, c=by_school, one=1.0)
    cases = [
        (["a", "one", "one"], repeat(d, by_row)),
        (["one", "b", "one"], repeat(d, by_class, "classroom")),
        (["one", "one", "c"], repeat(d, by_school, "school", ["classroom"])),
    ]
    for weights, longer in cases:
        same(fit(THREE, d, weights=weights, vcov="model"), fit(THREE, longer))


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3, 1e6])
def test_top_level_weights_times_a_constant_change_nothing(factor):
    d = outcomes()
    for formula, family, weights in ((THREE, "binomial", W3), ("visits ~ x + (1 | school)", "negbinomial", W2)):
        base = fit(formula, d, family=family, weights=weights)
        other = fit(formula, d.assign(w3=d["w3"] * factor), family=family, weights=weights)
        same(base, other, loglik=False)
        close(other.loglik, factor * base.loglik, rtol=1e-9)
        if family == "negbinomial":
            close(other.family_parameters, base.family_parameters, rtol=1e-5)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_row_order_and_labels_change_nothing(seed):
    rng = np.random.default_rng(seed)
    d = outcomes()
    names = dict(enumerate(rng.permutation([f"school {i}" for i in range(14)])))
    rooms = rng.permutation(d["classroom"].max() + 1)
    shuffled = d.assign(school=d["school"].map(names), classroom=rooms[d["classroom"]])
    shuffled = shuffled.sample(frac=1.0, random_state=seed)
    base, other = fit(THREE, d, weights=W3), fit(THREE, shuffled, weights=W3)
    same(base, other)
    close(other.fitted().loc[d.index], base.fitted(), rtol=1e-6)
    modes = base.ranef("school")["Intercept"].rename(index=names)
    close(other.ranef("school")["Intercept"].loc[modes.index], modes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scaling", ["none", "size", "effective"])
def test_conditional_and_unconditional_input_agree(scaling):
    d = outcomes()
    conditional = fit(THREE, d, weights=W3, scaling=scaling)
    same(conditional, fit(THREE, d, weights=["t1", "t2", "w3"], conditional=False, scaling=scaling))


def test_identical_plausible_values_pool_to_one_fit():
    d = outcomes()
    d = d.assign(**{f"A{k}": d["z"] for k in (1, 2, 3)})
    pooled = fit("a ~ x + (1 | school)", d, weights=W2, pv={"a": "A{}"})
    one = fit(TWO, d, weights=W2)
    same(pooled, one)
    close(pooled.tidy().iloc[:, 1:8], one.tidy().iloc[:, 1:8], rtol=1e-6)
    close(pooled.icc, one.icc)
    close(pooled.ranef(), one.ranef(), rtol=1e-6, atol=1e-6)
    close(pooled.fitted(), one.fitted(), rtol=1e-6)


def with_plausible_values():
    d = outcomes()
    rng = np.random.default_rng(4)
    latent = 500 + 60 * (d["x"] - 2) + rng.normal(0, 50, 14)[d["school"]]
    for k in (1, 2, 3):
        d[f"PV{k}MATH"] = latent + rng.normal(0, 80, len(d))
        d[f"PV{k}READ"] = 0.5 * d[f"PV{k}MATH"] + rng.normal(250, 60, len(d))
    return d


def test_thresholded_plausible_values_are_the_zero_one_columns_made_by_hand():
    d = with_plausible_values()
    formula = "(math >= 482) ~ v + (1 | school)"
    pooled = fit(formula, d, weights=W2, pv={"math": "PV{}MATH"})
    alone = [
        fit("p ~ v + (1 | school)", d.assign(p=(d[f"PV{k}MATH"] >= 482).astype(int)), weights=W2) for k in (1, 2, 3)
    ]
    assert pooled.n_pv == 3
    for part, one in zip(pooled.fits, alone, strict=True):
        same(part, one)
    same(pooled, pmwmix.pool(alone))
    close(pooled.tidy()["fmi"], pmwmix.pool(alone).tidy()["fmi"], rtol=1e-5)
    assert (pooled.tidy()["between_var"] > 0).all()


def test_plausible_values_on_both_sides_are_paired():
    d = with_plausible_values()
    pooled = fit("(math >= 482) ~ I(read / 100) + (1 | school)", d, pv={"math": "PV{}MATH", "read": "PV{}READ"})
    for k, part in zip((1, 2, 3), pooled.fits, strict=True):
        same(part, fit("p ~ r + (1 | school)", d.assign(p=d[f"PV{k}MATH"] >= 482, r=d[f"PV{k}READ"] / 100)))


def test_level_one_variances_that_differ_between_plausible_values_are_pooled():
    """That of counts follows from their mean, so that it differs between values without an error of its own in any."""
    d = outcomes()
    pooled = fit("c ~ x + (1 | school)", d, family="poisson", pv={"c": ["count", "visits"]})
    alone = [fit(f"{name} ~ x + (1 | school)", d, family="poisson") for name in ("count", "visits")]
    close(pooled.icc, np.mean([one.icc for one in alone]), rtol=1e-6)
    close(pooled.coef, np.mean([one.coef for one in alone], axis=0), rtol=1e-6)
    variance = np.mean([one.se**2 for one in alone], axis=0) + 1.5 * np.var([one.coef for one in alone], axis=0, ddof=1)
    close(pooled.se, np.sqrt(variance), rtol=1e-5)
    finite(pooled)


def test_grouped_rows_are_expanded_rows_and_proportions():
    d = outcomes()
    grouped = fit("cbind(hits, n - hits) ~ x + (1 | school)", d, weights=W2)
    repeated = d.loc[d.index.repeat(d["n"])]
    place = repeated.groupby(level=0).cumcount()
    expanded = fit("one ~ x + (1 | school)", repeated.assign(one=(place < repeated["hits"]).astype(int)), weights=W2)
    same(grouped, expanded, loglik=False)
    proportion = fit("p ~ x + (1 | school)", d.assign(p=d["hits"] / d["n"]), trials="n", weights=W2)
    same(grouped, proportion)
    from scipy.special import comb

    constant = (d["w1"] * d["w3"] * np.log(comb(d["n"], d["hits"]))).sum()
    close(grouped.loglik, expanded.loglik + constant, rtol=1e-9)


@pytest.mark.parametrize("family", ["binomial", "cumulative", "negbinomial"])
def test_shifting_and_scaling_a_predictor(family):
    outcome = {"binomial": "z", "cumulative": "mark", "negbinomial": "visits"}[family]
    d = outcomes()
    formula = f"{outcome} ~ x + v + (1 | school)"
    base = fit(formula, d, family=family, weights=W2)
    other = fit(formula, d.assign(x=1000 * d["x"] + 5), family=family, weights=W2)
    close(other.loglik, base.loglik, rtol=1e-10)
    close(other.coef["x"], base.coef["x"] / 1000, rtol=1e-5)
    close(other.se["x"], base.se["x"] / 1000, rtol=1e-5)
    close(other.coef["v"], base.coef["v"], rtol=1e-5)
    sign = -1 if family == "cumulative" else 1
    for name in base.coef.index.drop(["x", "v"]):
        shifted = base.coef[name] - sign * 5 * base.coef["x"] / 1000
        close(other.coef[name], shifted, rtol=1e-5, atol=1e-6 * base.se[name])
    close(other.varcorr["vcov"], base.varcorr["vcov"], rtol=1e-5)


def test_shifting_and_scaling_a_predictor_with_a_slope():
    d = outcomes()
    formula = "cbind(hits, n - hits) ~ x + (1 + x | school)"
    base, other = fit(formula, d), fit(formula, d.assign(x=1000 * d["x"] + 5))
    close(other.loglik, base.loglik, rtol=1e-10)
    close(other.coef["x"], base.coef["x"] / 1000, rtol=1e-5)
    v = base.varcorr.set_index(["var1", "var2"])["vcov"]
    c = -0.005  # zero of the new predictor on the old scale
    expected = v["Intercept", None] + 2 * c * v["Intercept", "x"] + c**2 * v["x", None]
    close(other.varcorr["vcov"].iloc[:2], [expected, v["x", None] / 1e6], rtol=1e-4)


@pytest.mark.parametrize("family", ["poisson", "cumulative"])
def test_an_offset_is_a_coefficient_of_one(family):
    outcome = {"poisson": "count", "cumulative": "mark"}[family]
    d = outcomes()
    plain = fit(f"{outcome} ~ x + v + (1 | school)", d, family=family, weights=W2)
    gone = d.assign(part=plain.coef["v"] * d["v"])
    offset = fit(f"{outcome} ~ x + offset(part) + (1 | school)", gone, family=family, weights=W2)
    close(offset.loglik, plain.loglik, rtol=1e-9)
    close(offset.coef, plain.coef.drop("v"), rtol=1e-5)
    shifted = fit(f"{outcome} ~ x + offset(part + 3) + (1 | school)", gone, family=family, weights=W2)
    close(shifted.loglik, plain.loglik, rtol=1e-9)
    moved = -3 if family == "poisson" else 3
    for name in offset.coef.index.drop("x"):
        close(shifted.coef[name], offset.coef[name] + moved, rtol=1e-5)
    close(shifted.coef["x"], offset.coef["x"], rtol=1e-5)


def test_exposure_as_offset_of_a_rate():
    d = outcomes()
    rate = fit("visits ~ x + offset(log(n)) + (1 | school)", d, family="poisson")
    close(rate.predict(d.assign(n=2 * d["n"])), 2 * rate.fitted(), rtol=1e-9)


def test_two_categories_are_zero_and_one():
    d = outcomes()
    number = fit(TWO, d, weights=W2)
    text = fit(TWO, d.assign(z=np.where(d["z"] == 1, "yes", "no")), weights=W2)
    truth = fit(TWO, d.assign(z=d["z"] == 1), weights=W2)
    factor = pd.Categorical(np.where(d["z"] == 1, "pass", "fail"), categories=["pass", "fail"])
    turned = fit(TWO, d.assign(z=factor), weights=W2)
    same(number, text)
    same(number, truth)
    close(turned.coef, -number.coef, rtol=1e-6)
    assert any("Success is 'yes'" in note for note in text.notes)
    assert any("Success is 'fail'" in note for note in turned.notes)


def test_memory_chunks_change_nothing():
    d = pd.concat([outcomes(seed).assign(school=lambda t, s=seed: t["school"] + 100 * s) for seed in range(7)])
    d = d.assign(classroom=d["classroom"] + 1000 * d["school"]).reset_index(drop=True)
    whole, parts = fit(THREE, d, weights=W3), fit(THREE, d, weights=W3, chunk_size=2000)
    assert len(parts.rows.problem.objective.chunks) > 1 == len(whole.rows.problem.objective.chunks)
    same(whole, parts)
    close(parts.ranef("classroom"), whole.ranef("classroom"), rtol=1e-6, atol=1e-7)
    close(parts.ranef("school"), whole.ranef("school"), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("formula", [TWO, THREE])
def test_automatic_nodes_are_enough(formula):
    d = outcomes()
    weights = W2 if formula == TWO else W3
    most = 25 if formula == TWO else 15
    found, many = fit(formula, d, weights=weights, n_agq=None), fit(formula, d, weights=weights, n_agq=most)
    assert (np.abs(found.coef - many.coef) < 0.1 * many.se).all()
    variance = found.varcorr
    assert (np.abs(variance["vcov"] - many.varcorr["vcov"]) < 0.1 * many.varcorr["se"]).all()
    assert 0 <= found.quadrature["moved"] < 0.1
    assert len(found.quadrature["n_agq"]) == len(weights) - 1 and min(found.quadrature["n_agq"]) > 1
    assert many.quadrature["n_agq"] == (most,) * (len(weights) - 1) and many.quadrature["moved"] < 1e-3


def test_negbinomial_without_overdispersion_is_poisson():
    d = outcomes()
    d["even"] = np.round(np.exp(0.5 + 0.3 * d["x"] + 0.1 * (d["school"] % 5)))
    poisson = fit("even ~ x + (1 | school)", d, family="poisson")
    negbinomial = fit("even ~ x + (1 | school)", d, family="negbinomial")
    assert negbinomial.dispersion > 1e3
    close(negbinomial.coef, poisson.coef, rtol=1e-3)
    close(negbinomial.loglik, poisson.loglik, rtol=1e-5)
    assert np.isfinite(negbinomial.se).all()
    close(negbinomial.se, poisson.se, rtol=1e-2)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_climb_follows_a_parameter_that_runs_to_infinity(seed):
    """Poisson counts in thousands of rows: theta has no maximum, and curvature dies out long before the gradient."""
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 200, 5000), rng.normal(size=5000)
    d = pd.DataFrame({"school": g, "x": x, "k": rng.poisson(np.exp(0.5 + 0.3 * x + 0.4 * rng.normal(size=200)[g]))})
    poisson = fit("k ~ x + (1 | school)", d, family="poisson", n_agq=1)
    found = fit("k ~ x + (1 | school)", d, family="negbinomial", n_agq=1)
    finite(found)
    assert found.converged and found.dispersion > 1e5
    close(found.loglik, poisson.loglik, atol=1e-4)
    close(found.coef, poisson.coef, rtol=1e-4)
    close(found.se, poisson.se, rtol=1e-3)


def test_thresholds_that_split_nothing_leave_a_binomial_model():
    """A third category with next to no weight: the threshold below it goes far up, the others are a binomial model."""
    d = outcomes()
    d["three"] = d["z"]
    tiny = d.head(1).assign(three=2.0, w1=1e-9)
    both = pd.concat([d, tiny], ignore_index=True)
    ordinal = fit("three ~ x + (1 | school)", both, family="cumulative", weights=W2)
    binary = fit(TWO, d, weights=W2)
    close(ordinal.coef["x"], binary.coef["x"], rtol=1e-5)
    close(ordinal.coef["0|1"], -binary.coef["Intercept"], rtol=1e-5)
    close(ordinal.varcorr["vcov"], binary.varcorr["vcov"], rtol=1e-4)


def test_student_of_normal_data_is_the_linear_model():
    d = outcomes()
    rng = np.random.default_rng(2)
    d["normal"] = 3 + 0.5 * d["x"] + rng.normal(0, 1.0, 14)[d["school"]] + rng.uniform(-1.7, 1.7, len(d))
    linear = pmwmix.fit("normal ~ x + (1 | school)", d, weights=W2, conditional=True)
    student = fit("normal ~ x + (1 | school)", d, family="student", weights=W2)
    assert student.family_parameters.loc["df", "estimate"] > 50
    close(student.coef, linear.coef, rtol=2e-2)
    close(student.family_parameters.loc["sigma", "estimate"], linear.sigma, rtol=3e-2)
    close(student.varcorr["vcov"].iloc[0], linear.varcorr["vcov"].iloc[0], rtol=5e-2)
    assert np.isfinite(student.se).all()


def test_gaussian_with_a_log_link():
    """Multiplying the outcome shifts the intercept; nothing else moves but sigma."""
    d = outcomes()
    d["positive"] = np.exp(0.4 * d["v"]) * 5 + np.random.default_rng(1).normal(0, 0.5, len(d)) + d["school"] % 4
    base = fit("positive ~ v + (1 | school)", d, family="gaussian", link="log", weights=W2)
    assert base.converged
    close(base.coef["v"], 0.3, atol=0.1)
    other = fit(
        "positive ~ v + (1 | school)", d.assign(positive=7 * d["positive"]), family="gaussian", link="log", weights=W2
    )
    close(other.coef["v"], base.coef["v"], rtol=1e-5)
    close(other.coef["Intercept"], base.coef["Intercept"] + np.log(7), rtol=1e-6)
    close(other.sigma, 7 * base.sigma, rtol=1e-5)
    close(other.varcorr["vcov"], base.varcorr["vcov"], rtol=1e-4)


def test_scaling_a_gamma_outcome_moves_the_intercept_alone():
    d = outcomes()
    base = fit("minutes ~ x + (1 | school)", d, family="gamma", weights=W2)
    other = fit("minutes ~ x + (1 | school)", d.assign(minutes=60 * d["minutes"]), family="gamma", weights=W2)
    close(other.coef - base.coef, [np.log(60), 0], rtol=1e-6, atol=1e-6)
    close(other.family_parameters, base.family_parameters, rtol=1e-5)
    close(other.varcorr["vcov"], base.varcorr["vcov"], rtol=1e-5)


# -- hard data ---------------------------------------------------------------------------------------------------------


def finite(fit):
    """Nothing missing among what a fit prints, but standard errors of variances on the boundary."""
    assert np.isfinite(fit.coef).all() and np.isfinite(fit.vcov.to_numpy()).all()
    assert np.isfinite(fit.loglik) and np.isfinite(fit.varcorr["vcov"]).all()
    assert isinstance(fit.converged, bool) and isinstance(fit.singular, bool)
    assert fit.status.endswith(".") and (": " in fit.status or fit.n_pv > 1)
    for text in ("nan", "inf"):
        assert text not in str(fit.tidy().drop(columns="df")).lower()


def school_data(n_groups, size, seed=0, sd=1.0, intercept=0.0):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), size)
    x = rng.normal(size=len(g))
    eta = intercept + 0.5 * x + rng.normal(0, sd, n_groups)[g]
    z = (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(float)
    return pd.DataFrame({"school": g, "x": x, "z": z, "count": rng.poisson(np.exp(eta)), "eta": eta})


def test_clusters_without_variation():
    d = school_data(40, 6)
    d["z"] = np.where(d["school"] % 3 == 0, 0.0, np.where(d["school"] % 3 == 1, 1.0, d["z"]))
    found = fit(TWO, d, n_agq=15)
    finite(found)
    assert found.converged and not found.singular
    assert found.varcorr["vcov"].iloc[0] > 3
    modes = found.ranef("school")
    assert (modes["Intercept"][::3] < 0).all() and (modes["Intercept"][1::3] > 0).all()
    assert (modes["Intercept_se"] < found.varcorr["sdcor"].iloc[0]).all()


SEPARATED = {
    "half of the rows": ("binomial", None, lambda d: d.index % 2 == 0, 1.0),
    "half, loglog": ("binomial", "loglog", lambda d: d.index % 2 == 0, 0.0),
    "half, cloglog": ("binomial", "cloglog", lambda d: d.index % 2 == 0, 1.0),
    "whole schools": ("binomial", None, lambda d: d["school"] % 4 == 0, 1.0),
    "rare category": ("binomial", None, lambda d: d.index % 100 == 7, 0.0),
    "rare category, probit": ("binomial", "probit", lambda d: d.index % 100 == 7, 1.0),
    "no counts": ("poisson", None, lambda d: d.index % 2 == 0, 0.0),
}


@pytest.mark.parametrize("case", SEPARATED)
def test_separation_by_a_binary_predictor_is_told(case):
    family, link, where, value = SEPARATED[case]
    outcome, d = ("count" if family == "poisson" else "z"), school_data(30, 20)
    d["b"] = where(d).astype(float)
    d.loc[d["b"] == 1, outcome] = value
    found = fit(f"{outcome} ~ x + b + (1 | school)", d, family=family, link=link)
    finite(found)
    assert not found.converged
    assert "separation" in found.status and "grows without end" in found.status
    rest = fit(f"{outcome} ~ x + (1 | school)", d[d["b"] == 0], family=family, link=link)
    if case != "whole schools":
        close(found.coef[["Intercept", "x"]], rest.coef, rtol=0.1)
    assert rest.converged


def test_separation_by_a_number_is_told():
    d = school_data(12, 10)
    found = fit(TWO, d.assign(z=(d["x"] > 0.2).astype(float)))
    finite(found)
    assert not found.converged and "separation" in found.status


def test_predictors_much_alike_are_no_separation():
    d = school_data(30, 20)
    d["b"] = d["x"] + 2e-4 * np.random.default_rng(9).normal(size=len(d))
    found = fit("z ~ x + b + (1 | school)", d)
    assert found.converged and found.se["b"] > 100


def test_rare_events():
    d = school_data(50, 40)
    d["z"] = 0.0
    d.loc[[17, 401, 402, 1203, 1999], "z"] = 1.0
    found = fit(TWO, d, n_agq=None)
    finite(found)
    assert found.converged
    close(found.predict(averaged=True).mean(), 5 / 2000, rtol=0.1)


def test_huge_weights_of_rows():
    """Rows that stand for 500 each: the likelihood of a group is sharp, its variance larger, nothing breaks."""
    d = outcomes()
    found = fit(TWO, d.assign(w1=500 * d["w1"]), weights=W2)
    finite(found)
    assert found.converged
    sized = fit(TWO, d.assign(w1=500 * d["w1"]), weights=W2, scaling="size")
    same(sized, fit(TWO, d, weights=W2, scaling="size"))


@pytest.mark.parametrize("size", [1, 2])
def test_tiny_groups(size):
    d = school_data(150, size, seed=3)
    for formula, family in ((TWO, "binomial"), ("count ~ x + (1 | school)", "poisson")):
        found = fit(formula, d, family=family)
        finite(found)
        assert found.converged == (not found.status.startswith(("No", "Stopped")))


def test_predictors_of_any_size():
    d = outcomes()
    base = fit("z ~ x + v + (1 | school)", d, weights=W2)
    other = fit("z ~ x + v + (1 | school)", d.assign(x=1e6 * d["x"] + 3e7, v=1e-6 * d["v"]), weights=W2)
    close(other.loglik, base.loglik, rtol=1e-9)
    close(other.coef[["x", "v"]] * [1e6, 1e-6], base.coef[["x", "v"]], rtol=1e-5)
    close(other.se[["x", "v"]] * [1e6, 1e-6], base.se[["x", "v"]], rtol=1e-5)


def test_a_variance_of_zero_is_told():
    d = school_data(30, 8, seed=1, sd=0.0)
    rng = np.random.default_rng(0)
    d["z"] = np.tile([0.0, 1.0], 120)[rng.permutation(8).argsort()[np.tile(np.arange(8), 30)] + 8 * d["school"]]
    found = fit(TWO, d)
    finite(found)
    assert found.converged and found.singular
    assert "boundary" in found.status
    assert found.varcorr["vcov"].iloc[0] == 0.0 and np.isnan(found.varcorr["se"].iloc[0])
    glm = fit(TWO, d, n_agq=1)
    close(found.coef, glm.coef, rtol=1e-6)
    close(found.se, glm.se, rtol=1e-6)
    assert (found.ranef("school")["Intercept"] == 0).all()


def test_a_correlation_of_one_is_told():
    d = school_data(12, 10, seed=5)
    rng = np.random.default_rng(5)
    b = rng.normal(0, 1, 12)[d["school"]]
    d["z"] = (rng.random(len(d)) < 1 / (1 + np.exp(-(b + b * d["x"])))).astype(float)
    found = fit("z ~ x + (1 + x | school)", d, n_agq=3)
    finite(found)
    assert found.converged and found.singular == ("boundary" in found.status)


@pytest.mark.parametrize(("family", "link"), [("student", None), ("binomial", "cauchit")])
def test_densities_that_curve_upwards(family, link):
    """Log-densities with two bends: the joint density of a group can have several modes."""
    d = outcomes()
    formula = "y ~ x + (1 | school)" if family == "student" else TWO
    for n_agq in (1, 5):
        found = fit(formula, d, family=family, link=link, weights=W2, n_agq=n_agq)
        finite(found)
        assert found.converged
    assert np.isnan(found.icc) == (link == "cauchit")  # the Cauchy distribution has no variance


def test_outliers_beyond_any_t_distribution_give_no_nan():
    """One degree of freedom is the least that there is."""
    d = outcomes()
    d.loc[::9, "y"] += 40 * np.sign(d["v"][::9])
    found = fit("y ~ x + (1 | school)", d, family="student", weights=W2)
    finite(found)
    assert found.family_parameters.loc["df", "estimate"] < 1.05
