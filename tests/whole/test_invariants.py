"""Properties that need no reference package: what must not change, and what must change in a known way."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested, survey
from hypothesis import given, settings
from hypothesis import strategies as st

import pmwmix
from pmwmix.weights.scaling import SCALINGS

TWO = "y ~ x + (1 + x | school)"
THREE = "y ~ x + (1 | classroom) + (1 | school)"
W3 = ["w1", "w2", "w3"]
# Newton steps end where the gradient is rounding noise; estimates then agree to about 1e-8 of their standard error.
RTOL = 1e-6


def same(a, b, rtol=RTOL, loglik=True):
    close(a.coef, b.coef, rtol=rtol, atol=rtol * float(a.se.max()))
    close(a.varcorr["vcov"], b.varcorr["vcov"], rtol=10 * rtol, atol=1e-9 * float(a.sigma**2))
    if loglik:
        close(a.loglik, b.loglik, rtol=1e-9, atol=1e-7)


def repeat(data, counts, group=None, below=()):
    """Repeat rows, or whole groups under new labels (with new labels of the groups below, too)."""
    parts = []
    if group is None:
        return data.loc[data.index.repeat(counts)].reset_index(drop=True)
    for copy in range(int(counts.max())):
        part = data[counts > copy].copy()
        for name in (group, *below):
            part[name] = part[name].astype(str) + f"copy{copy}"
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("formula", [TWO, THREE])
def test_weights_of_one_change_nothing(formula):
    d = nested().assign(one=1.0)
    n = 2 if formula == TWO else 3
    weighted = pmwmix.fit(formula, d, weights=["one"] * n, vcov="model")
    plain = pmwmix.fit(formula, d)
    same(weighted, plain)
    close(weighted.se, plain.se, rtol=RTOL)
    close(weighted.varcorr["se"], plain.varcorr["se"], rtol=RTOL)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_integer_weights_repeat_rows_and_groups_at_every_level(seed):
    rng = np.random.default_rng(seed)
    d = nested()
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
        weighted = pmwmix.fit(THREE, d, weights=weights, conditional=True)
        same(weighted, pmwmix.fit(THREE, longer))


@settings(max_examples=6, deadline=None)
@given(factor=st.floats(1e-6, 1e6))
def test_top_level_weights_times_a_constant_change_nothing(factor):
    d = nested()
    base = pmwmix.fit(TWO, d, weights=["w1", "w3"], conditional=True)
    other = pmwmix.fit(TWO, d.assign(w3=d["w3"] * factor), weights=["w1", "w3"], conditional=True)
    same(base, other, loglik=False)
    close(other.se, base.se, rtol=RTOL)
    close(other.varcorr["se"], base.varcorr["se"], rtol=RTOL)
    close(other.loglik, factor * base.loglik, rtol=1e-9)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_row_order_and_labels_change_nothing(seed):
    rng = np.random.default_rng(seed)
    d = nested()
    names = dict(enumerate(rng.permutation([f"school {i}" for i in range(14)])))
    rooms = rng.permutation(d["classroom"].max() + 1)
    shuffled = d.assign(school=d["school"].map(names), classroom=rooms[d["classroom"]])
    shuffled = shuffled.sample(frac=1.0, random_state=seed)
    base = pmwmix.fit(THREE, d, weights=W3, conditional=True)
    other = pmwmix.fit(THREE, shuffled, weights=W3, conditional=True)
    same(base, other)
    close(other.se, base.se, rtol=RTOL)
    close(other.fitted().loc[d.index], base.fitted(), rtol=1e-6)
    modes = base.ranef("school")["Intercept"].rename(index=names)
    close(other.ranef("school")["Intercept"].loc[modes.index], modes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scaling", ["none", "size", "effective"])
def test_conditional_and_unconditional_input_agree(scaling):
    d = nested()
    total = pmwmix.fit(THREE, d, weights=["t1", "t2", "w3"], scaling=scaling)
    conditional = pmwmix.fit(THREE, d, weights=W3, conditional=True, scaling=scaling)
    same(total, conditional)
    by_name = pmwmix.fit(THREE, d, weights={"school": "w3", "obs": "t1", "classroom": "t2"}, scaling=scaling)
    same(total, by_name)


def test_a_level_left_out_has_conditional_weight_one():
    d = nested().assign(one=1.0)
    left_out = pmwmix.fit(THREE, d, weights=["w1", None, "w3"], conditional=True)
    same(left_out, pmwmix.fit(THREE, d, weights=["w1", "one", "w3"], conditional=True))
    assert any("'classroom' has no weight column" in note for note in left_out.notes)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_level_whose_units_have_one_child_is_the_level_left_out(weighted):
    d = nested()
    d = d[d["classroom"].isin(d.groupby("school")["classroom"].first())].assign(one=1.0)
    options = {"weights": ["w1", "one", "w3"], "conditional": True} if weighted else {}
    three = pmwmix.fit(THREE, d, **options)
    two = pmwmix.fit("y ~ x + (1 | school)", d, **({**options, "weights": ["w1", "w3"]} if weighted else {}))
    close(three.coef, two.coef, rtol=1e-5)
    close(three.loglik, two.loglik, rtol=1e-9)
    variances = three.varcorr["vcov"].to_numpy()
    close(variances[0] + variances[1], two.varcorr["vcov"].iloc[0], rtol=1e-4)
    close(three.se, two.se, rtol=1e-4)
    assert three.converged
    assert any("cannot be told apart" in note for note in three.notes)


def test_identical_plausible_values_pool_to_one_fit():
    s = survey()
    d = s.data.assign(**{f"A{k}": s.data["PV1MATH"] for k in (1, 2, 3)})
    options = {"weights": s.weights, "scaling": "size"}
    pooled = pmwmix.fit("a ~ escs + (1 | SCHOOLID)", d, pv={"a": "A{}"}, **options)
    one = pmwmix.fit("PV1MATH ~ escs + (1 | SCHOOLID)", d, **options)
    same(pooled, one)
    close(pooled.tidy().iloc[:, 1:8], one.tidy().iloc[:, 1:8], rtol=1e-6)
    close(pooled.tidy()["fmi"], 0.0, atol=1e-9)
    close(pooled.icc, one.icc)
    close(pooled.ranef(), one.ranef(), rtol=1e-6, atol=1e-6)


@settings(max_examples=6, deadline=None)
@given(
    a=st.floats(-1e4, 1e4), b=st.floats(1e-3, 1e3), c=st.floats(-1e3, 1e3), e=st.floats(1e-2, 1e2),
    reml=st.booleans(),
)  # fmt: skip
def test_shifting_and_rescaling_y_and_x(a, b, c, e, reml):
    """y -> a + b y and x -> c + e x: slopes scale by b / e, variances by b², the log-likelihood loses N log b."""
    d = nested()
    method = "reml" if reml else "ml"
    base = pmwmix.fit(TWO, d, method=method)
    other = pmwmix.fit(TWO, d.assign(y=a + b * d["y"], x=c + e * d["x"]), method=method)
    slope = b / e
    close(other.coef["x"], slope * base.coef["x"], rtol=1e-5)
    close(other.se["x"], slope * base.se["x"], rtol=1e-5)
    intercept = a + b * base.coef["Intercept"] - slope * c * base.coef["x"]
    close(other.coef["Intercept"], intercept, rtol=1e-5, atol=1e-5 * other.se["Intercept"])
    close(other.sigma, b * base.sigma, rtol=1e-5)
    v = base.varcorr.set_index(["var1", "var2"])["vcov"]
    close(other.varcorr["vcov"].iloc[1], slope**2 * v["x", None], rtol=1e-4)
    raw = v["Intercept", None] - 2 * (c / e) * v["Intercept", "x"] + (c / e) ** 2 * v["x", None]
    close(other.varcorr["vcov"].iloc[0], b**2 * raw, rtol=1e-4)
    lost = (base.nobs - (2 if reml else 0)) * np.log(b) - (np.log(1 / e) if reml else 0.0)
    close(other.loglik, base.loglik - lost, rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize("scaling", ["size", "effective"])
def test_scaled_weights_ignore_a_constant_per_group(scaling):
    d = nested()
    factor = d["school"].map(dict(enumerate(np.random.default_rng(0).uniform(0.1, 9, 14))))
    base = pmwmix.fit(TWO, d, weights=["w1", "w3"], conditional=True, scaling=scaling)
    other = pmwmix.fit(TWO, d.assign(w1=d["w1"] * factor), weights=["w1", "w3"], conditional=True, scaling=scaling)
    same(base, other)
    size = d.groupby("school").size().to_numpy()
    sums = np.bincount(base.rows.frame.hierarchy.levels[0].index, base.rows.frame.w[0])
    if scaling == "size":
        close(sums, size)
    else:
        close(sums, d.groupby("school")["w1"].apply(lambda w: w.sum() ** 2 / (w**2).sum()))


@pytest.mark.parametrize(("scaling", "rule"), [("gk", "mean"), ("gk-sum", "sum")])
def test_gk_is_the_total_weight_on_the_top_unit(scaling, rule):
    """Averages as in Stata's manual, or sums; with three levels the classrooms count alike."""
    d = nested()
    d["top"] = (d["w1"] * d["w3"]).groupby(d["school"]).transform(rule)
    gk = pmwmix.fit(TWO, d, weights=["w1", "w3"], conditional=True, scaling=scaling)
    same(gk, pmwmix.fit(TWO, d, weights={"school": "top"}))
    w, parents = gk.rows.frame.cond, (gk.rows.frame.hierarchy.levels[0].index,)
    three = (np.ones_like(w[0]), w[1], np.array([2.0, 5.0]))  # the first two schools under one roof
    found = SCALINGS[scaling](three, (parents[0], (np.arange(len(w[1])) >= 2).astype(int)))
    assert all((part == 1.0).all() for part in found[:2])
    rows = w[1][parents[0]] * three[2][(parents[0] >= 2).astype(int)]
    close(found[2], pd.Series(rows).groupby(parents[0] >= 2).agg(rule), 1e-14)


def test_own_scaling_function():
    d = nested()

    def halve(w, parents):
        return (w[0] / 2, *w[1:])

    own = pmwmix.fit(TWO, d, weights=["w1", "w3"], conditional=True, scaling=halve)
    same(own, pmwmix.fit(TWO, d.assign(w1=d["w1"] / 2), weights=["w1", "w3"], conditional=True))
    assert own.settings.scaling == "halve"


def test_zero_weights_leave_the_likelihood_and_are_counted():
    d = nested()
    d["z"] = d["w1"].where(d.index % 7 != 0, 0.0)
    d["s"] = d["w3"].where(d["school"] != 3, 0.0)
    fit = pmwmix.fit(TWO, d, weights=["z", "s"], conditional=True)
    rest = d[(d["z"] > 0) & (d["s"] > 0)]
    same(fit, pmwmix.fit(TWO, rest, weights=["z", "s"], conditional=True))
    assert fit.nobs == len(rest)
    assert fit.n_groups["school"] == 13
    text = fit.summary().to_text(1000)
    assert f"{len(d) - len(rest)} with weight zero" in text


def test_centring_equals_centring_by_hand():
    d = nested()
    weight = d["t1"]
    mean = (d["x"] * weight).groupby(d["school"]).transform("sum") / weight.groupby(d["school"]).transform("sum")
    by_hand = d.assign(xc=d["x"] - mean, xm=mean)
    options = {"weights": ["t1", "w3"]}
    inside = pmwmix.fit("y ~ x + (1 | school)", d, center={"x": "school+mean"}, **options)
    outside = pmwmix.fit("y ~ xc + xm + (1 | school)", by_hand, **options)
    same(inside, outside)
    assert list(inside.coef.index) == ["Intercept", "x", "x_school_mean"]
    grand = pmwmix.fit("y ~ x + (1 | school)", d, center={"x": "grand"}, **options)
    plain = pmwmix.fit("y ~ x + (1 | school)", d, **options)
    close(grand.coef["x"], plain.coef["x"], rtol=1e-6)
    close(
        grand.coef["Intercept"],
        plain.coef["Intercept"] + plain.coef["x"] * np.average(d["x"], weights=weight),
        rtol=1e-6,
    )
    close(inside.predict(d), inside.fitted(), rtol=1e-8)
    unweighted = pmwmix.fit("y ~ x + (1 | school)", d, center={"x": "school"})
    by_mean = d.assign(x=d["x"] - d.groupby("school")["x"].transform("mean"))
    same(unweighted, pmwmix.fit("y ~ x + (1 | school)", by_mean))


def test_plausible_values_on_both_sides_are_paired():
    s = survey()
    rng = np.random.default_rng(0)
    d = s.data.copy()
    for k in range(1, 6):
        d[f"PV{k}READ"] = 0.6 * d[f"PV{k}MATH"] + rng.normal(200, 40, len(d))
    pooled = pmwmix.fit("math ~ read + (1 | SCHOOLID)", d, pv={"math": "PV{}MATH", "read": "PV{}READ"})
    alone = [pmwmix.fit(f"PV{k}MATH ~ PV{k}READ + (1 | SCHOOLID)", d) for k in range(1, 6)]
    assert list(pooled.coef.index) == ["Intercept", "read"]
    for part, one in zip(pooled.fits, alone, strict=True):
        close(part.coef, one.coef, rtol=1e-6)
        close(part.se, one.se, rtol=1e-6)
    close(pooled.coef, np.mean([one.coef for one in alone], axis=0), rtol=1e-6)
    logged = pmwmix.fit("log(math) ~ escs + (1 | SCHOOLID)", d, pv={"math": "PV{}MATH"})
    first = pmwmix.fit("log(PV1MATH) ~ escs + (1 | SCHOOLID)", d)
    close(logged.fits[0].coef, first.coef, rtol=1e-6)
