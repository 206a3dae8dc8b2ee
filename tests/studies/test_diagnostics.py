"""What the weights do: spread, tests of informativeness, the same model under other weights."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested, survey
from scipy.special import fdtrc

import pmwmix
from pmwmix.errors import OptionError
from pmwmix.pooling.rubin import pooled_f
from pmwmix.studies.informative import dumouchel_duncan, hausman, informativeness, pfeffermann_sverchkov
from pmwmix.studies.sensitivity import extreme_weights, sensitivity, weight_diagnostics

THREE_SENTENCES = r"(?s)^.+?[.?] .+?[.?] .+\.$"


def fit_survey(scaling: str = "none", factor: float = 1.0, **options) -> pmwmix.FitResult:
    s = survey()
    data = s.data.copy()
    data[s.weights] *= factor
    return pmwmix.fit(s.formula, data, weights=s.weights, scaling=scaling, pv=s.pv, **options)


@pytest.fixture(scope="module")
def weighted():
    return fit_survey()


@pytest.fixture(scope="module")
def flat():
    """One level, so that every test can be redone in a few lines of least squares."""
    d = nested()
    return d, pmwmix.fit("y ~ x", d, weights="w1")


# -- spread -----------------------------------------------------------------------------------------------------------


def test_spread_by_hand(weighted):
    d, table = survey().data, weight_diagnostics(weighted)
    w = d["W_FSTUWT"].to_numpy()
    row = table.loc[("obs", "total")]
    close(row["n_eff"], w.sum() ** 2 / (w**2).sum())
    close(row["deff"], 1 + w.var() / w.mean() ** 2)
    close(row["cv"], w.std() / w.mean())
    close(row["top_share"], np.sort(w)[-round(0.01 * len(w)) :].sum() / w.sum())
    assert row["n_extreme"] == (w > 4 * np.median(w)).sum() > 0
    schools = d.groupby("SCHOOLID")["W_FSCHWT"].first()
    close(table.loc[("SCHOOLID", "total"), "deff"], 1 + schools.std(ddof=0) ** 2 / schools.mean() ** 2)
    close(table.loc[("obs", "conditional"), "mean"], (d["W_FSTUWT"] / d["W_FSCHWT"]).mean())
    close(table["n_eff"].xs("used", level="kind"), weighted.weight_stats["used_n_eff"])
    listed = extreme_weights(weighted)
    rows = listed[listed["level"] == "obs"]
    assert len(rows) == row["n_extreme"]
    close(d.loc[rows["unit"], "W_FSTUWT"], rows["weight"])
    assert (rows["ratio"].diff().dropna() <= 0).all()
    assert extreme_weights(weighted, times=1e6).empty


def test_kish_of_two_weights():
    """Weights 1 and 3 in equal numbers: n_eff / n = 16 / 20, deff = 1.25."""
    d = nested().assign(w=lambda t: np.where(np.arange(len(t)) % 2, 1.0, 3.0)).iloc[:80]
    table = weight_diagnostics(pmwmix.fit("y ~ x", d, weights="w"))
    close(table.loc[("obs", "total"), ["deff", "n_eff"]], [1.25, 64])


def test_unit_weights_have_no_design_effect():
    d = nested().assign(one=1.0)
    for fit in (pmwmix.fit("y ~ x + (1 | school)", d), pmwmix.fit("y ~ x + (1 | school)", d, weights=["one", "one"])):
        table = weight_diagnostics(fit)
        close(table["deff"], 1.0)
        close(table["n_eff"], table["n"])
        close(table["cv"], 0.0, atol=1e-12)
        assert (table["n_extreme"] == 0).all()
    with pytest.raises(pmwmix.PmwmixError, match=THREE_SENTENCES):
        dumouchel_duncan(fit)  # weights that do not vary cannot be informative


# -- tests ------------------------------------------------------------------------------------------------------------


def test_dumouchel_duncan_is_a_wald_test_of_added_columns(weighted):
    s, one = survey(), weighted.fits[0]
    d = s.data.assign(wt=lambda t: t["W_FSTUWT"] / t["W_FSTUWT"].mean(), y=lambda t: t["PV1MATH"])
    formula = "y ~ escs + female + wt + wt:escs + wt:female + (1 + escs | SCHOOLID)"
    new = pmwmix.fit(formula, d, vcov="robust")
    added = [t for t in new.coef.index if "wt" in t]  # the test takes theory, eq. 55, with any number of clusters
    close(dumouchel_duncan(one), new.wald(added, df=new.settings.design_df), rtol=1e-6)


def test_three_tests_by_least_squares(flat):
    """Robust covariance with n / (n - 1) over rows, n - 1 degrees of freedom, n - m left for m parameters."""
    d, fit = flat
    n, w = len(d), d["w1"].to_numpy() / d["w1"].mean()
    X, y = np.column_stack([np.ones(n), d["x"]]), d["y"].to_numpy()

    def f_test(value, influence):
        V = n / (n - 1) * (influence - influence.mean(axis=0)).T @ (influence - influence.mean(axis=0))
        m = len(value)
        F = (n - m) / (n - 1) * value @ np.linalg.solve(V, value) / m
        return [F, m, n - m, fdtrc(m, n - m, F)]

    def ols(A, weight):
        b = np.linalg.solve(A.T @ (weight[:, None] * A), A.T @ (weight * y))
        return b, (A * (weight * (y - A @ b))[:, None]) @ np.linalg.inv(A.T @ (weight[:, None] * A))

    one = np.ones(n)
    b, influence = ols(np.column_stack([X, w[:, None] * X]), one)
    close(dumouchel_duncan(fit), f_test(b[2:], influence[:, 2:]), rtol=1e-6)
    (bw, iw), (bu, iu) = ols(X, w), ols(X, one)
    close(hausman(fit), f_test(bw - bu, iw - iu), rtol=1e-6)
    hat = X @ np.linalg.solve(X.T @ X, X.T)
    e = y - X @ bu
    powers = np.column_stack([e, e**2, e**3])
    T = ((w - hat @ w)[:, None]) * (powers - hat @ powers)
    close(pfeffermann_sverchkov(fit), f_test(T.sum(axis=0), T), rtol=1e-6)


def test_informative_weights_are_found_and_noise_is_not(weighted):
    """`simulate_survey` draws the weights informatively; weights drawn apart from the outcome are not."""
    assert (informativeness(weighted)["p_value"] < 0.01).all()
    assert (informativeness(weighted, "SCHOOLID")["df1"] == 3).all()
    s = pmwmix.simulate_survey(40, 12, n_pv=1, informative=False, random_seed=2)
    rng = np.random.default_rng(8)
    school = np.unique(s.data["SCHOOLID"], return_inverse=True)[1]
    w2 = rng.uniform(1, 5, 40)[school]
    d = s.data.assign(w1=w2 * rng.uniform(1, 4, len(school)), w2=w2)
    null = informativeness(pmwmix.fit(s.formula, d, weights=["w1", "w2"], scaling="none", pv=s.pv))
    assert (null["p_value"] > 0.01).all()


def test_tests_ignore_the_unit_of_the_weights(weighted):
    close(informativeness(fit_survey(factor=1000.0)), informativeness(weighted), rtol=1e-5)  # the optimiser's stop


@pytest.mark.slow
def test_null_rejection_rates():
    """400 uninformative samples; 0.03 is under three Monte-Carlo errors (0.011) of the nominal 0.05."""
    found = []
    for seed in range(400):
        s = pmwmix.simulate_survey(40, 12, n_pv=1, informative=False, random_seed=seed)
        rng = np.random.default_rng(seed + 1000)
        school = np.unique(s.data["SCHOOLID"], return_inverse=True)[1]
        w2 = rng.uniform(1, 5, school.max() + 1)[school]
        d = s.data.assign(w1=w2 * rng.uniform(1, 4, len(school)), w2=w2)
        fit = pmwmix.fit(s.formula, d, weights=["w1", "w2"], scaling="none", pv=s.pv)
        found.append(informativeness(fit)["p_value"] < 0.05)
    close(pd.concat(found, axis=1).mean(axis=1), 0.05, atol=0.03)


def test_pooled_f_of_identical_and_of_single_parameters():
    V = np.array([[2.0, 0.5], [0.5, 1.0]])
    q = np.array([1.0, -2.0])
    same = pooled_f(np.array([q] * 4), np.array([V] * 4), 30.0)
    close(same, pooled_f(q[None], V[None], 30.0))
    close([same.statistic, same.df2], [29 / 30 * q @ np.linalg.solve(V, q) / 2, 29.0])
    values, variances = np.array([[1.0], [1.4], [0.8]]), np.full((3, 1, 1), 0.09)
    rubin = values.mean() ** 2 / (0.09 + 4 / 3 * values.var(ddof=1))
    close(pooled_f(values, variances, np.inf).statistic, rubin)


# -- sensitivity ------------------------------------------------------------------------------------------------------


def test_every_variant_is_a_fresh_fit(weighted):
    s, table = survey(), sensitivity(weighted)
    columns = ["part", "term", "variant", "estimate", "std_error", "ci_low", "ci_high", "converged"]
    assert list(table.columns) == columns and table["converged"].all()
    fresh = {name: fit_survey(name) for name in ("none", "size", "effective", "gk")}
    fresh["unweighted"] = pmwmix.fit(s.formula, s.data, pv=s.pv, vcov="robust")
    d = s.data.assign(one=1.0)
    fresh["top"] = pmwmix.fit(s.formula, d, weights=["one", "W_FSCHWT"], conditional=True, scaling="none", pv=s.pv)
    assert set(fresh) == set(table["variant"])
    for name, fit in fresh.items():
        rows = table[table["variant"] == name]
        numbers = rows[rows["part"] == "fixed"].set_index("term")[["estimate", "std_error", "ci_low", "ci_high"]]
        close(numbers, fit.tidy().set_index("term")[list(numbers)], rtol=1e-7)
        close(rows.loc[rows["part"] == "random", "estimate"], fit.varcorr["vcov"], rtol=1e-6)
        close(rows.loc[rows["part"] == "random", "std_error"], fit.varcorr["se"], rtol=1e-5)


def test_wide_table_has_the_numbers_of_the_long_one(weighted):
    long, wide = sensitivity(weighted), sensitivity(weighted, wide=True)
    assert list(wide.columns.levels[0].sort_values()) == sorted(long["variant"].unique())
    cell = long[(long["term"] == "escs") & (long["variant"] == "size")]["std_error"].iloc[0]
    assert wide.loc[("fixed", "escs"), ("size", "std_error")] == cell
    assert list(wide.index.get_level_values("term"))[-1] == "Residual"


def test_sensitivity_ignores_the_unit_of_the_weights(weighted):
    columns = ["estimate", "std_error"]
    close(sensitivity(fit_survey(factor=0.01))[columns], sensitivity(weighted)[columns], rtol=1e-5)


def test_three_levels_have_no_gk():
    fit = pmwmix.fit("y ~ x + (1 | school/classroom)", nested(), weights=["t1", "t2", "w3"], scaling="none")
    table = sensitivity(fit)
    assert set(table["variant"]) == {"unweighted", "top", "none", "size", "effective", "size-lowest"}
    size = pmwmix.fit("y ~ x + (1 | school/classroom)", nested(), weights=["t1", "t2", "w3"], scaling="size")
    rows = table[(table["variant"] == "size") & (table["part"] == "fixed")]
    close(rows["estimate"], size.coef, rtol=1e-7)


def test_scaled_fits_give_the_same_table(weighted):
    """What a fit was scaled by does not matter, once the frame keeps the weights before scaling."""
    scaled = fit_survey("size")
    if not hasattr(scaled.fits[0].rows.frame, "cond"):
        with pytest.raises(pmwmix.PmwmixError, match="before scaling"):
            sensitivity(scaled)
        return
    columns = ["estimate", "std_error"]
    close(sensitivity(scaled)[columns], sensitivity(weighted)[columns], rtol=1e-6)
    close(weight_diagnostics(scaled).xs("total", level="kind"), weight_diagnostics(weighted).xs("total", level="kind"))


@pytest.mark.parametrize(
    "call",
    [
        lambda fit: sensitivity(fit, 95),
        lambda fit: weight_diagnostics(fit, times=0),
        lambda fit: extreme_weights(fit, kind="scaled"),
        lambda fit: dumouchel_duncan(fit, "schol"),
        lambda fit: pfeffermann_sverchkov(fit, powers=0),
        lambda fit: sensitivity(pmwmix.fit("y ~ x", nested())),
        lambda fit: hausman(pmwmix.fit("y ~ x", nested())),
    ],
)
def test_messages(weighted, call):
    with pytest.raises(pmwmix.PmwmixError, match=THREE_SENTENCES):
        call(weighted)


def test_dumouchel_duncan_is_the_wald_test_of_r():
    """R: m <- lm(y ~ x + w + x:w); V <- sandwich::vcovHC(m, "HC0") * 60/59; b <- coef(m)[3:4]; b' solve(V) b / 2."""
    i = np.arange(1, 61)
    y = 2 + 0.5 * np.sin(i) + np.cos(1.7 * i) + 0.1 * ((i - 1) // 5 + 1)
    data = pd.DataFrame({"y": y, "x": np.sin(i), "w": 1.0 + i % 4})
    fit = pmwmix.fit("y ~ x", data, weights="w")
    tested = pmwmix.informativeness(fit).loc["dumouchel-duncan"]
    np.testing.assert_allclose(tested["statistic"], 58 / 59 * 0.010788455897, rtol=1e-9)  # theory, eq. 55
    diagnosed = pmwmix.weight_diagnostics(fit)
    assert np.isclose(diagnosed["deff"], 1.2).all()  # 60 sum(w^2) / sum(w)^2 in R
    assert np.isclose(diagnosed["n_eff"], 50.0).all()


FITTED = (
    "influence icc_se design_effects informativeness dumouchel_duncan pfeffermann_sverchkov hausman weight_diagnostics "
    "extreme_weights sensitivity quadrature_check"
).split()


@pytest.mark.parametrize("verb", FITTED)
def test_what_is_no_fit_is_refused_by_name(verb):
    with pytest.raises(OptionError, match=rf"^{verb}\(\) is about a fitted model\. Got list\. "):
        getattr(pmwmix, verb)([])
