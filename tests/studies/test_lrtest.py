"""Likelihood-ratio tests: reference numbers, boundaries, scaling under weights, pooling, refusals."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, outcomes, survey
from scipy import stats

import pmwmix
from pmwmix.errors import OptionError, PmwmixWarning
from pmwmix.frame.without import deletions, without
from pmwmix.inference.again import effective_parameters
from pmwmix.pooling.rubin import pooled_statistic
from pmwmix.studies.comparable import first_rows
from pmwmix.weights.conditional import total_weights

SMALL, LARGE = "y ~ x + (1 | school)", "y ~ x + (1 + x | school)"


def test_random_slope_of_the_lecture():
    """High School & Beyond: G² = 9.76 on 2 df, p = .008; with the boundary ½χ²₁ + ½χ²₂ (Stram & Lee 1994)."""
    small = pmwmix.fit("mathach ~ cses + (1 | school)", hsb(), method="reml")
    large = pmwmix.fit("mathach ~ cses + (cses | school)", hsb(), method="reml")
    table = pmwmix.lrt(large, small)
    assert list(table.columns) == ["npar", "loglik", "aic", "bic", "chisq", "df", "p_value", "p_boundary", "scale"]
    row = table.iloc[1]
    close(row["chisq"], 9.7617, atol=1e-3)
    close(row["p_value"], stats.chi2.sf(row["chisq"], 2), rtol=1e-10)
    close(row["p_boundary"], 0.5 * (stats.chi2.sf(row["chisq"], 1) + row["p_value"]), rtol=1e-10)
    ran = pmwmix.ranova(large)
    assert list(ran.index) == ["<none>", "cses in (1 + cses | school)"]
    close(ran.iloc[1]["chisq"], row["chisq"], rtol=1e-6)


def test_ranova_of_three_levels_equals_fits_made_by_hand():
    d = nested()
    full = pmwmix.fit("y ~ x + (1 | classroom) + (1 | school)", d, method="reml")
    table = pmwmix.ranova(full)
    for term, kept in (("(1 | classroom)", "school"), ("(1 | school)", "classroom")):
        alone = pmwmix.fit(f"y ~ x + (1 | {kept})", d, method="reml")
        close(table.loc[term, "loglik"], alone.loglik, rtol=1e-9)
    one = pmwmix.ranova(pmwmix.fit("y ~ x + (1 | school)", d, method="reml"))
    flat = pmwmix.fit("y ~ x", d, method="reml")
    close(one.loc["(1 | school)", "loglik"], flat.loglik, rtol=1e-9)
    close(one.loc["(1 | school)", "p_boundary"], one.loc["(1 | school)", "p_value"] / 2, rtol=1e-9)


def test_ranova_of_scaled_weights_keeps_the_total_ones():
    """A slope needs the rows' total weights for its share of variance; a level that goes hands its own down."""
    d, options = nested(), {"weights": ["w1", "w2", "w3"], "conditional": True, "scaling": "size"}
    fit = pmwmix.fit("y ~ x + (1 + x | school) + (1 | school:classroom)", d, **options)
    table = pmwmix.ranova(fit)
    small = pmwmix.fit("y ~ x + (1 | school) + (1 | school:classroom)", d, **options)
    close(table.loc["x in (1 + x | school)", "loglik"], small.loglik)
    frame = first_rows(fit).frame
    left = without(frame, deletions(frame)[0][1])
    assert [level.name for level in left.hierarchy.levels] == ["school"]
    totals = [total_weights(one.cond, one.hierarchy.row_parents)[0] for one in (frame, left)]
    close(totals[0], totals[1], 1e-14)


def test_bic_without_a_variance_that_is_zero_does_not_rest_on_rounding():
    options = {"weights": ["w1", "w2", "w3"], "conditional": True, "scaling": "size"}
    fit = pmwmix.fit("y ~ x + (1 | school/classroom)", outcomes(), **options)
    assert fit.theta["classroom:school.Intercept"] == 0.0
    whole, less = pmwmix.ranova(fit)["bic"].iloc[:2]
    scale = effective_parameters(first_rows(fit)) / 5
    close(less, whole - np.log(fit.nobs) + np.log(scale), 1e-8)


def test_reml_fits_with_other_fixed_effects_are_refitted_and_it_is_said():
    d = nested()
    small = pmwmix.fit("y ~ 1 + (1 | school)", d, method="reml")
    large = pmwmix.fit(SMALL, d, method="reml")
    with pytest.warns(PmwmixWarning, match="refitted by ML"):
        table = pmwmix.lrt(small, large)
    by_hand = pmwmix.lrt(pmwmix.fit("y ~ 1 + (1 | school)", d), pmwmix.fit(SMALL, d))
    close(table["loglik"], by_hand["loglik"], rtol=1e-9)
    assert np.isnan(table["p_boundary"]).all()
    kept = pmwmix.lrt(small, large, refit=False)
    close(kept["loglik"], [small.loglik, large.loglik])


def test_scaled_statistic_ignores_the_scale_of_the_weights():
    d = nested()
    options = {"weights": ["w1", "w3"], "conditional": True, "scaling": "size"}
    tables = []
    for factor in (1.0, 10.0, 1e-3):
        e = d.assign(w3=factor * d["w3"])
        tables.append(pmwmix.lrt(pmwmix.fit(SMALL, e, **options), pmwmix.fit(LARGE, e, **options)))
    for other in tables[1:]:
        for name in ("chisq", "p_value", "p_boundary", "aic", "bic"):
            close(other[name].iloc[1], tables[0][name].iloc[1], rtol=1e-5)
    raw = 2 * (tables[1]["loglik"].iloc[1] - tables[1]["loglik"].iloc[0])
    close(raw, 10 * 2 * np.diff(tables[0]["loglik"])[0], rtol=1e-6)


def test_unit_weights_with_a_correct_model_scale_near_one():
    """Normal data from the model: tr(A⁻¹B) is close to the number of parameters (4 here, within 25 %)."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(400), 10)
    d = pd.DataFrame({"g": g, "x": rng.normal(size=4000), "one": 1.0})
    d["y"] = 1 + rng.normal(size=400)[g] + rng.normal(size=4000)
    fits = [pmwmix.fit(f, d, weights=["one", "one"]) for f in ("y ~ 1 + (1 | g)", "y ~ x + (1 | g)")]
    table = pmwmix.lrt(*fits)
    plain = pmwmix.lrt(*(pmwmix.fit(f, d) for f in ("y ~ 1 + (1 | g)", "y ~ x + (1 | g)")))
    close(table["chisq"].iloc[1], plain["chisq"].iloc[1], rtol=0.25)
    close(table["aic"].iloc[1] + 2 * table["loglik"].iloc[1], 8.0, rtol=0.25)


def test_pooled_statistic_by_hand():
    """D2 (Li, Meng, Raghunathan & Rubin 1991), written out; identical statistics pool to themselves."""
    d = np.array([4.0, 9.0, 6.25])
    K, df = 3, 2
    r = (1 + 1 / K) * np.var(np.sqrt(d), ddof=1)
    F = (d.mean() / df - (K + 1) / (K - 1) * r) / (1 + r)
    v = df ** (-3 / K) * (K - 1) * (1 + 1 / r) ** 2
    chisq, _, p = pooled_statistic(d, df)
    close(chisq, df * F)
    close(p, stats.f.sf(F, df, v))
    chisq, _, p = pooled_statistic(np.array([5.0, 5.0, 5.0]), 1)
    close([chisq, p], [5.0, stats.chi2.sf(5.0, 1)])


def test_plausible_values_are_pooled():
    s = survey()
    options = {"weights": s.weights, "scaling": "size", "pv": s.pv}
    small = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, **options)
    large = pmwmix.fit("math ~ escs + female + (1 | SCHOOLID)", s.data, **options)
    row = pmwmix.lrt(small, large).iloc[1]
    assert 0 < row["p_value"] < 1 and row["df"] == 1


def test_boundary_of_a_pooled_statistic_has_its_f_reference():
    s = survey()
    row = pmwmix.ranova(pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, pv=s.pv)).iloc[1]
    close(row["p_boundary"], row["p_value"] / 2, rtol=1e-8)
    assert row["p_value"] > stats.chi2.sf(row["chisq"], 1)


def test_refusals():
    d = nested()
    small = pmwmix.fit(SMALL, d)
    fewer = pmwmix.fit(LARGE, d.assign(x=d["x"].where(d.index > 9)))
    with pytest.raises(OptionError, match="10 rows are in one fit and not in the other"):
        pmwmix.lrt(small, fewer)
    with pytest.raises(OptionError, match="1 fit"):
        pmwmix.lrt(small)
    with pytest.raises(OptionError, match="DataFrame"):
        pmwmix.lrt(small, d)
    with pytest.raises(OptionError, match="different outcomes"):
        pmwmix.lrt(small, pmwmix.fit(LARGE, d.assign(y=d["y"] ** 2)))
    with pytest.raises(OptionError, match="weighted differently"):
        pmwmix.lrt(small, pmwmix.fit(LARGE, d, weights=["w1", "w3"], conditional=True))
    with pytest.raises(OptionError, match="not nested"):
        pmwmix.lrt(pmwmix.fit("y ~ 1 + (1 | classroom)", d), pmwmix.fit("y ~ x + (1 + x | school)", d))


def test_profile_intervals_contain_the_estimate_and_end_at_the_quantile():
    d = nested()
    fit = pmwmix.fit(SMALL, d)
    ends = fit.confint(0.9, method="profile")
    assert ((ends["ci_low"] < fit.coef) & (fit.coef < ends["ci_high"])).all()
    for end in ends.loc["x"]:
        held = pmwmix.fit("y ~ 1 + (1 | school)", d.assign(y=d["y"] - end * d["x"]))
        close(2 * (fit.loglik - held.loglik), stats.chi2.ppf(0.9, 1), rtol=1e-5)


def test_models_without_random_terms_are_least_squares():
    d = nested()
    fit = pmwmix.fit("y ~ x", d, method="reml")
    X = np.column_stack([np.ones(len(d)), d["x"]])
    beta, rss, *_ = np.linalg.lstsq(X, d["y"], rcond=None)
    close(fit.coef, beta, rtol=1e-10)
    close(fit.sigma**2, rss / (len(d) - 2), rtol=1e-10)
    close(fit.df(), len(d) - 2, rtol=1e-9)
    weighted = pmwmix.fit("y ~ x", d, weights="t1", design=pmwmix.Design(psu="school"))
    w = d["t1"].to_numpy()
    A = np.linalg.inv((X.T * w) @ X)
    r = d["y"] - X @ (A @ (X.T * w) @ d["y"])
    scores = pd.DataFrame(X * (w * r.to_numpy())[:, None]).groupby(d["school"]).sum().to_numpy()
    close(weighted.se, np.sqrt(np.diag(14 / 13 * A @ scores.T @ scores @ A)), rtol=1e-8)
    by_row = pmwmix.fit("y ~ x", d, weights="t1")
    each = X * (w * r.to_numpy())[:, None]
    n = len(d)
    close(by_row.se, np.sqrt(np.diag(n / (n - 1) * A @ each.T @ each @ A)), rtol=1e-8)


def test_fixed_parts_that_do_not_contain_each_other_are_refused():
    """Names do not matter: a polynomial contains its line, two powers do not."""
    d = nested()
    line, curve, powers = (
        pmwmix.fit(f"y ~ {x} + (1 | school)", d) for x in ("x", "poly(x, 3)", "I(x ** 2) + I(x ** 3)")
    )
    close(pmwmix.lrt(line, curve)["chisq"].iloc[1], 2 * (curve.loglik - line.loglik))
    with pytest.raises(OptionError, match="'x', which no combination"):
        pmwmix.lrt(line, powers)
    held = pmwmix.fit("y ~ 1 + offset(x) + (1 | school)", d)  # the coefficient of x is 1
    close(pmwmix.lrt(held, line)["chisq"].iloc[1], 2 * (line.loglik - held.loglik))
    with pytest.raises(OptionError, match="'offset', which no combination"):
        pmwmix.lrt(held, pmwmix.fit("y ~ I(x ** 2) + (1 | school)", d))


def test_design_adjusted_bic_by_hand():
    """R's survey::BIC(model, maximal = larger): Wald + p log n + log det(naive^-1 robust) + deviance of the larger."""
    d = nested().assign(v=lambda t: np.sin(np.arange(len(t))))
    options = {"weights": ["t1", "w3"], "scaling": "size"}
    small = pmwmix.fit("y ~ 1 + (1 | school)", d, **options)
    robust, model = (pmwmix.fit("y ~ x + v + (1 | school)", d, vcov=v, **options) for v in ("robust", "model"))
    scale = np.mean(d.groupby("school")["w3"].first())
    V, naive, beta = robust.vcov.iloc[1:, 1:], scale * model.vcov.iloc[1:, 1:], robust.coef.iloc[1:]
    deviance = -2 * robust.loglik / scale
    logdet = np.log(np.linalg.det(np.linalg.solve(naive, V)))
    expected = beta @ np.linalg.solve(V, beta) + 3 * np.log(len(d)) + logdet + deviance
    close(pmwmix.lrt(small, robust)["bic"], [expected, deviance + 5 * np.log(len(d))], rtol=1e-7)


def test_a_level_that_goes_keeps_weights_and_clusters():
    """By hand as in `ranova`: the same scale of the weights and the same clusters in both rows of the table."""
    d = nested()
    large = pmwmix.fit("y ~ x + (1 | school)", d, weights=["t1", "w3"])
    by_hand, table = pmwmix.lrt(pmwmix.fit("y ~ x", d, weights="t1"), large), pmwmix.ranova(large)
    columns, tests = ["npar", "loglik", "aic", "bic"], ["chisq", "p_boundary"]
    close(by_hand[columns].iloc[::-1], table[columns], rtol=1e-6)
    close(by_hand[tests].iloc[1], table[tests].iloc[1], rtol=1e-6)
    scale = np.mean(d.groupby("school")["w3"].first())
    flat = effective_parameters(pmwmix.fit("y ~ x", d, weights="t1", design={"psu": "school"}).rows)
    aic = (2 * flat * d["t1"].mean() - 2 * by_hand["loglik"].iloc[0]) / scale
    close(by_hand["aic"].iloc[0], aic, rtol=1e-6)
    scaled = {"scaling": "size"}
    three = pmwmix.fit("y ~ x + (1 | classroom) + (1 | school)", d, weights=["t1", None, "w3"], **scaled)
    with pytest.raises(OptionError, match="ranova"):
        pmwmix.lrt(pmwmix.fit("y ~ x + (1 | school)", d, weights=["t1", "w3"], **scaled), three)


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_dbic_is_relative_to_the_largest_model_of_a_table(family):
    """One rule: `lrt` and `ranova` with the same largest model agree, a fit alone is its own."""
    d = nested().assign(z=lambda t: t["y"] > t["y"].median())
    y, options = ("y", {}) if family == "gaussian" else ("z", {"family": family, "n_agq": 3})
    options |= {"weights": ["t1", "w3"], "scaling": "size"}
    one, two, three = (
        pmwmix.fit(f"{y} ~ {right} + (1 + x | school)" if "1 |" not in right else f"{y} ~ {right}", d, **options)
        for right in ("x + (1 | school)", "x", "x + I(x ** 2)")
    )
    table, dropped, whole = pmwmix.lrt(one, two), pmwmix.ranova(two), pmwmix.lrt(one, two, three)
    close(table["bic"].to_numpy()[::-1], dropped["bic"].to_numpy(), rtol=1e-5)
    close(two.bic, table["bic"].iloc[1], rtol=1e-9)
    close(three.bic, whole["bic"].iloc[2], rtol=1e-9)
    assert abs(whole["bic"].iloc[1] - two.bic) > 1e-3


def clustered():
    """300 rows in 25 clusters with weights, without random numbers so that R has the same."""
    i = np.arange(300)
    g, x = i // 12, np.sin(1.7 * i) + 0.3 * np.cos(i // 12)
    shift = 0.8 * np.sin(2.3 * g)
    return pd.DataFrame(
        {
            "g": g, "x": x, "v": np.cos(2.9 * g), "w": 1 + i % 5 + 2 * (g % 3),
            "y": (np.cos(5.3 * i) < -0.2 + 0.4 * x + shift).astype(float),
            "c": np.floor(np.exp(0.3 * x + 0.5 * np.sin(2.3 * g)) * (1.2 + np.sin(3.1 * i))),
        }
    )  # fmt: skip


# R survey 4.1: regTermTest(svyglm(f, svydesign(~g, weights = ~w, data = d), family), ~v or ~x + v, method = "LRT"):
# chisq, lambda
SURVEY = {
    ("y", "binomial", "x"): (0.0305770537179, [3.61631543388]),
    ("c", "poisson", "x"): (3.67728229327, [2.38278024043]),
    ("y", "binomial", "1"): (12.6880275679, [3.62960121146, 0.416012508937]),
    ("c", "poisson", "1"): (27.695501286, [2.38782170696, 0.795591146964]),
}


@pytest.mark.parametrize(("y", "family", "small"), SURVEY)
def test_scale_and_statistic_are_those_of_rs_survey(y, family, small):
    """Rao and Scott's first-order correction: the mean of survey's eigenvalues is the scale."""
    chisq, eigenvalues = SURVEY[y, family, small]
    options = {"family": family, "weights": "w", "design": {"psu": "g"}}
    fits = [pmwmix.fit(f"{y} ~ {right}", clustered(), **options) for right in (small, "x + v")]
    row = pmwmix.lrt(*fits).iloc[1]
    close(row["scale"], np.mean(eigenvalues), rtol=1e-7)
    close(row["scale"] * row["chisq"], chisq, rtol=1e-7)
    close(row["p_value"], stats.f.sf(row["chisq"] / row["df"], row["df"], 22), rtol=1e-9)


def test_a_scale_that_makes_a_test_significant_is_said():
    """A predictor of clusters whose means hardly differ: clusters say it is known better than rows would have it."""
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": np.repeat(np.arange(8), 20), "w": np.tile([1.0, 2.0], 80)})
    noise = rng.normal(size=160)
    noise -= pd.Series(noise * d["w"]).groupby(d["g"]).transform("sum") / d.groupby("g")["w"].transform("sum")
    d["v"] = np.where(d["g"] < 4, -1.0, 1.0)
    d["y"] = noise + 0.1 * d["v"] + 0.01 * np.sin(d["g"])
    fits = [pmwmix.fit(f"y ~ {right}", d, weights="w", design={"psu": "g"}) for right in ("1", "v")]
    with pytest.warns(pmwmix.PmwmixWarning, match=r"was divided by 0\.00.*6 degrees of freedom.*vcov='CR2'"):
        row = pmwmix.lrt(*fits).iloc[1]
    assert row["scale"] < 0.01
    unweighted = pmwmix.lrt(*(pmwmix.fit(f"y ~ {right}", d) for right in ("1", "v")))
    assert np.isnan(unweighted["scale"]).all()
