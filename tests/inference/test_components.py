"""Intervals of variance components: by hand, against lme4, and under changes that must not matter."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, sleepstudy, survey

import pmwmix
from pmwmix.inference.components import confint_varcorr

THREE_SENTENCES = r"(?s)^.+?[.?] .+?[.?] .+\.$"
COLUMNS = ["grp", "var1", "var2", "estimate", "se", "ci_low", "ci_high"]


@pytest.fixture(scope="module")
def sleep():
    return pmwmix.fit("Reaction ~ Days + (Days | Subject)", sleepstudy(), method="ml", vcov="model")


@pytest.fixture(scope="module")
def pooled():
    s = survey()
    return pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="none", pv=s.pv)


def test_profile_matches_lme4(sleep):
    """R (lme4 1.1.31): confint(lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE), method="profile").

    .sig01   14.3814811  37.7160187   (Intercept)
    .sig02   -0.4815004   0.6849861   correlation
    .sig03    3.8011648   8.7533667   Days
    .sigma   22.8982662  28.8579973
    """
    table = confint_varcorr(sleep, method="profile")
    expected = [[14.3814811, 37.7160187], [3.8011648, 8.7533667], [-0.4815004, 0.6849861], [22.8982662, 28.8579973]]
    close(table[["ci_low", "ci_high"]], expected, rtol=0, atol=1e-3)
    squared = confint_varcorr(sleep, method="profile", scale="var")[["ci_low", "ci_high"]].to_numpy()
    close(squared[[0, 1, 3]], table[["ci_low", "ci_high"]].to_numpy()[[0, 1, 3]] ** 2, rtol=1e-6)
    assert squared[2, 0] < sleep.varcorr["vcov"][2] < squared[2, 1]


def test_profile_ends_lie_at_the_quantile():
    """Balanced one-way ML: the deviance is known in closed form, so is its profile over the other variance."""
    from scipy.optimize import minimize_scalar

    rng, m, n = np.random.default_rng(4), 20, 6
    d = pd.DataFrame({"g": np.repeat(np.arange(m), n)})
    d["y"] = rng.normal(size=m)[d["g"]] + rng.normal(size=m * n)
    mean = d.groupby("g")["y"].mean()
    within, between = ((d["y"] - mean[d["g"]].to_numpy()) ** 2).sum(), n * ((mean - d["y"].mean()) ** 2).sum()

    def deviance(tau, s2):
        total = s2 + n * tau**2
        return m * (n - 1) * np.log(s2) + within / s2 + m * np.log(total) + between / total

    fit = pmwmix.fit("y ~ 1 + (1 | g)", d, method="ml")
    best = deviance(fit.varcorr["sdcor"][0], fit.sigma**2)
    table = confint_varcorr(fit, 0.9, method="profile")
    for end in table.loc[0, ["ci_low", "ci_high"]]:
        rise = minimize_scalar(lambda s2, tau=end: deviance(tau, s2), bounds=(0.2, 5), options={"xatol": 1e-9}).fun
        close(rise - best, 2.705543454, atol=1e-5)  # R: qchisq(0.9, 1)


def test_wald_by_hand_for_a_random_intercept():
    fit = pmwmix.fit("mathach ~ cses + (1 | school)", hsb(), method="ml", vcov="model")
    v, se = fit.varcorr["vcov"].to_numpy(), fit.varcorr["se"].to_numpy()
    q = 1.959963984540054
    low, high = v * np.exp(-q * se / v), v * np.exp(q * se / v)
    close(confint_varcorr(fit, scale="var").iloc[:, 3:], np.column_stack([v, se, low, high]))
    roots = np.column_stack([np.sqrt(v), se / (2 * np.sqrt(v)), np.sqrt(low), np.sqrt(high)])
    close(confint_varcorr(fit).iloc[:, 3:], roots)


def test_a_variance_below_its_standard_error_has_a_one_sided_interval():
    fit = pmwmix.fit("mathach ~ cses + (1 + cses || school)", hsb(), method="ml", vcov="model")
    name = fit.varcorr["var1"] == "cses"
    v, se = fit.varcorr.loc[name, ["vcov", "se"]].astype(float).iloc[0]
    fit.varcorr.loc[name, "se"] = se  # as it is
    wide = confint_varcorr(fit, 0.9)
    assert v > se and wide.loc[name, "ci_low"].iloc[0] > 0  # two-sided: not near the boundary
    small = pmwmix.fit("mathach ~ cses * (meanses + sector) + (1 + cses | school)", hsb(), method="reml")
    row, table = small.varcorr[small.varcorr["var1"] == "cses"].iloc[0], confint_varcorr(small, 0.9, scale="var")
    assert row["se"] > row["vcov"]
    low, high = table.loc[table["var1"].eq("cses"), ["ci_low", "ci_high"]].iloc[0]
    close([low, high], [0.0, row["vcov"] + 1.2815515655446004 * row["se"]])  # R: qnorm(0.9)


def test_wald_of_a_correlation_is_symmetric_in_fishers_z(sleep):
    row, p = confint_varcorr(sleep).iloc[2], len(sleep.coef)
    close(np.arctanh([row.ci_low, row.ci_high]).mean(), np.arctanh(row.estimate))
    (v1, c, v2, _), V = sleep.parameters[0][p:], sleep.parameters[1][p : p + 3, p : p + 3]
    r = c / np.sqrt(v1 * v2)
    gradient = np.array([-r / (2 * v1), 1 / np.sqrt(v1 * v2), -r / (2 * v2)])
    close([row.estimate, row.se], [r, np.sqrt(gradient @ V @ gradient)])


@pytest.mark.parametrize("scale", ["sd", "var"])
def test_rows_and_columns_are_those_of_varcorr(scale):
    for formula in ("y ~ x + (x | school) + (1 | classroom)", "y ~ x + (x || school)", "y ~ x"):
        fit = pmwmix.fit(formula, nested(), method="ml")
        table = confint_varcorr(fit, scale=scale)
        assert list(table.columns) == COLUMNS
        pd.testing.assert_frame_equal(table[COLUMNS[:3]], fit.varcorr[COLUMNS[:3]])
        close(table["estimate"], fit.varcorr["sdcor" if scale == "sd" else "vcov"])
        shown = table.dropna()[["ci_low", "estimate", "ci_high"]] if table["se"].isna().any() else table
        assert (shown["ci_low"] < shown["estimate"]).all() and (shown["estimate"] < shown["ci_high"]).all()


def test_scale_of_all_weights_changes_nothing():
    d = nested()
    weights = {"school": "w3", "classroom": "w2", "student": "w1"}
    formula = "y ~ x + (x | school) + (1 | classroom)"
    options = {"weights": {k: w for k, w in weights.items() if k != "student"}, "scaling": "none", "conditional": True}
    one = pmwmix.fit(formula, d, **options)
    ten = pmwmix.fit(formula, d.assign(w3=10 * d["w3"]), **options)
    close(confint_varcorr(one).iloc[:, 3:], confint_varcorr(ten).iloc[:, 3:], rtol=1e-5)


def test_pooled_components_follow_rubin(pooled):
    """Variances and their standard errors are those of the pooled table; the quantile is of Barnard-Rubin's t."""
    from scipy.stats import t

    table = confint_varcorr(pooled, scale="var")
    close(table["se"], pooled.varcorr["se"])
    each = np.array([one.varcorr["vcov"] for one in pooled.fits])[:, 0]
    share = 1.2 * each.var(ddof=1) / table["se"][0] ** 2
    df = pooled.settings.design_df
    df = 1 / (share**2 / 4 + 1 / ((df + 1) / (df + 3) * df * (1 - share)))
    v, se = table.loc[0, ["estimate", "se"]].astype(float)
    close(table["ci_high"][0], v * np.exp(t.ppf(0.975, df) * se / v), rtol=1e-7)


def test_boundary_components():
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": np.repeat(np.arange(30), 5), "y": rng.normal(size=150)})
    d["y"] -= 0.6 * d.groupby("g")["y"].transform("mean")
    fit = pmwmix.fit("y ~ 1 + (1 | g)", d, method="ml")
    assert fit.singular
    wald, profile = confint_varcorr(fit), confint_varcorr(fit, method="profile")
    assert wald.iloc[0, 4:].isna().all() and wald.iloc[1].notna()[["se", "ci_low", "ci_high"]].all()
    assert profile["ci_low"][0] == 0 and 0 < profile["ci_high"][0] < 0.5


def test_messages(sleep, pooled, tmp_path):
    for options in ({"method": "boot"}, {"scale": "log"}, {"ci_prob": 95}):
        with pytest.raises(pmwmix.errors.OptionError, match=THREE_SENTENCES):
            confint_varcorr(sleep, **options)
    loaded = pmwmix.load(sleep.save(tmp_path / "fit.pmw"))
    for fit in (pooled, pooled.fits[0], loaded):
        with pytest.raises(pmwmix.errors.NotSupportedError, match=THREE_SENTENCES):
            confint_varcorr(fit, method="profile")
    close(confint_varcorr(loaded).iloc[:, 3:], confint_varcorr(sleep).iloc[:, 3:])
