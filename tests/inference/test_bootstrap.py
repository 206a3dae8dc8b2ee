"""Outcomes drawn from fits, refits of draws, and their intervals: lme4's and scipy's numbers, identities, messages."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested, outcomes, sleepstudy, survey
from scipy import stats

import pmwmix
from pmwmix.errors import DesignError, NotSupportedError, OptionError
from pmwmix.resampling.intervals import acceleration_of, basic, bca, percentile
from pmwmix.resampling.outcomes import draw_outcome
from pmwmix.resampling.refitted import refit_outcomes
from pmwmix.resampling.residuals import ResidualDraws, reflated
from pmwmix.resampling.weighted import drawn_factors, units_of

SLEEP = "Reaction ~ Days + (Days | Subject)"
BOOTMER = [6.7607117, 1.5392439, 5.8841483, 1.2821864, 1.4738472]  # all but the correlation


@pytest.fixture(scope="module")
def sleep():
    return pmwmix.fit(SLEEP, sleepstudy(), method="reml")


@pytest.fixture(scope="module")
def boot(sleep):
    return sleep.bootstrap(300, random_seed=2)


@pytest.fixture(scope="module")
def weighted():
    s = survey()
    data = s.data.assign(region=s.data["SCHOOLID"] % 4)
    sets = {"math": ["PV1MATH", "PV2MATH"]}
    return pmwmix.fit(
        "math ~ escs + (1 | SCHOOLID)", data, weights=s.weights, scaling="size", pv=sets, design={"strata": "region"}
    )


def test_parametric_errors_are_those_of_lme4s_bootmer(boot):
    """bootMer(m, nsim = 3000, seed = 101), lme4 1.1-31: each of the two has a Monte-Carlo error of 2 to 4 %."""
    table = boot.tidy().set_index("term")
    close(table["std_error"].drop("Subject Intercept Days"), BOOTMER, rtol=0.12)
    assert boot.n_failed == 0


def test_a_refit_is_the_fit_of_the_drawn_outcome(sleep):
    draw, seen = partial(draw_outcome, sleep, sleep.rows), []

    def remembered(rng):
        seen.append(draw(rng))
        return seen[-1]

    found = refit_outcomes(sleep, sleep.rows, remembered, [3, 0, 0], 3)
    assert found.converged.all()
    for y, values in zip(seen, found.values, strict=True):
        again = pmwmix.fit(SLEEP, sleepstudy().assign(Reaction=y), method="reml")
        close(values, again.parameters[0], rtol=1e-4, atol=1e-3)


def test_executors_give_the_same_refits(sleep, boot):
    with ThreadPoolExecutor(2) as executor:
        again = sleep.bootstrap(110, random_seed=2, executor=executor)
    close(again.estimates, boot.estimates.iloc[:110], rtol=1e-9)


def test_drawn_outcomes_have_the_covariance_of_the_model(sleep):
    y = sleep.simulate(4000, random_seed=1)
    assert list(y.columns[:2]) == ["sim_1", "sim_2"] and y.index.equals(sleep.index)
    pd.testing.assert_frame_equal(sleep.simulate(2, random_seed=1), y.iloc[:, :2])
    days = sleepstudy()["Days"].to_numpy()[:10]
    Z = np.column_stack([np.ones(10), days])
    V = Z @ sleep.rows.fit.Psi[0] @ Z.T + sleep.sigma**2 * np.eye(10)
    close(np.cov(y.to_numpy()[:10]), V, rtol=0.15, atol=60.0)
    close(y.mean(axis=1), sleep.rows.marginal(), rtol=0.02)


@pytest.mark.parametrize(("family", "y"), [("binomial", "z"), ("poisson", "count"), ("gamma", "minutes")])
def test_generalised_models_are_drawn_and_refitted(family, y):
    data = outcomes()
    fit = pmwmix.fit(f"{y} ~ x + (1 | school)", data, family=family, n_agq=3)
    close(fit.simulate(200, random_seed=4).to_numpy().mean(), data[y].mean(), rtol=0.15)
    found = fit.bootstrap(2, random_seed=1)
    drawn = draw_outcome(fit, fit.rows, np.random.default_rng([1, 0, 0]))
    again = pmwmix.fit("drawn ~ x + (1 | school)", data.assign(drawn=drawn), family=family, n_agq=3)
    close(found.estimates.iloc[0], [*again.coef, *again.varcorr["sdcor"]], rtol=1e-3, atol=1e-4)


def test_ordinal_outcomes_are_drawn_as_numbers_of_categories():
    fit = pmwmix.fit("mark ~ x + (1 | school)", outcomes(), family="cumulative", n_agq=3)
    drawn = fit.simulate(200, random_seed=4).to_numpy()
    shares = np.bincount(drawn.astype(int).ravel()) / drawn.size
    close(shares, outcomes()["mark"].value_counts(normalize=True, sort=False), atol=0.06)
    assert fit.bootstrap(3, random_seed=1).n_failed == 0


def test_drawn_clusters_are_weights(weighted):
    """A draw of whole schools is the fit with each school's weight multiplied."""
    found = weighted.bootstrap(3, kind="cases", random_seed=5)
    rows = weighted.fits[1].rows
    psu, stratum = units_of(rows.frame)
    rng = np.random.default_rng([5, 1])
    factor = [drawn_factors(stratum, False, rng) for _ in range(3)][2][psu[rows.frame.hierarchy.levels[-1].index]]
    s = survey()
    data = s.data.assign(**{name: s.data[name] * factor for name in s.weights})
    again = pmwmix.fit("PV2MATH ~ escs + (1 | SCHOOLID)", data, weights=s.weights, scaling="size")
    close(found.parts[1].values[2], again.parameters[0], rtol=1e-5)


def test_rescaled_draws_have_the_variance_of_the_design():
    """Rao and Wu (1988): the variance of a total is n / (n - 1) times the sum of squares in every stratum."""
    stratum, y = np.array([0, 0, 0, 1, 1, 1, 1, 1]), np.array([1.0, 4, 2, 8, 3, 5, 9, 1])
    rng = np.random.default_rng(1)
    totals = np.array([drawn_factors(stratum, True, rng) @ y for _ in range(20_000)])
    wanted = sum(n / (n - 1) * np.sum((y[stratum == h] - y[stratum == h].mean()) ** 2) for h, n in ((0, 3), (1, 5)))
    close(totals.var(), wanted, rtol=0.03)
    close(totals.mean(), y.sum(), rtol=0.01)
    close(drawn_factors(stratum, False, rng)[:3].sum(), 3)


def test_residuals_are_reflated():
    rng = np.random.default_rng(3)
    share, Psi = rng.dirichlet(np.ones(30)), np.array([[2.0, 0.3], [0.3, 0.5]])
    values = reflated(rng.normal(size=(30, 2)), Psi, share)
    close(share @ values, [0, 0], atol=1e-12)
    close((values * share[:, None]).T @ values, Psi)
    close(reflated(rng.normal(size=(30, 2)), np.diag([1.0, 0.0]), share)[:, 1], np.zeros(30), atol=1e-12)
    three = pmwmix.fit("y ~ x + (1 | school/classroom)", nested(), weights={"obs": "t1", "school": "w3"})
    draws = ResidualDraws(three.rows)
    many = np.array([draws(rng) for _ in range(400)])
    close(many.mean(), (three.rows.marginal() + 0.0).mean(), rtol=0.02)
    assert len(draws.effects) == 2


def test_kinds_agree_with_robust_errors(weighted):
    for kind in ("residual", "cases", "rao-wu"):
        table = weighted.bootstrap(100, kind=kind, random_seed=6).tidy().set_index("term")
        close(table["std_error"][["Intercept", "escs"]], weighted.se, rtol=0.3)


def test_intervals_agree_with_scipy():
    x = stats.gamma(2).rvs(40, random_state=1)
    for method, mine in (("percentile", percentile), ("basic", basic), ("BCa", bca)):
        found = stats.bootstrap((x,), np.mean, n_resamples=500, method=method, rng=np.random.default_rng(2))
        draws, centre = found.bootstrap_distribution[:, None], np.array([x.mean()])
        more = {"percentile": (), "basic": (centre,), "BCa": (centre, acceleration_of((x - x.mean())[:, None]))}[method]
        close(mine(draws, *more, 0.95)[:, 0], found.confidence_interval, rtol=1e-9)
    assert np.isnan(bca(np.ones((5, 1)), np.zeros(1), np.zeros(1), 0.9)).all()


def test_intervals_by_the_t_distribution(sleep, boot, weighted):
    """Estimate and multiples of t of the refits' spread, by hand; coverage: tests/whole/test_coverage.py."""
    ends, draws = boot.confint(method="t"), boot.estimates
    half = stats.t.ppf(0.975, 17) * draws["Days"].std(ddof=1)
    close(ends.loc["Days"], [sleep.coef["Days"] - half, sleep.coef["Days"] + half])
    log = np.log(draws["Subject Intercept"])
    half = np.exp(stats.t.ppf(0.975, 17) * log.std(ddof=1))
    sd = sleep.varcorr["sdcor"].iloc[0]
    close(ends.loc["Subject Intercept"], [sd / half, sd * half], rtol=1e-6)
    half = stats.t.ppf(0.975, 180 - 36 - 2) * np.log(draws["Residual"]).std(ddof=1)  # rows less effects and slopes
    close(ends.loc["Residual"], sleep.sigma * np.exp([-half, half]), rtol=1e-6)
    own = boot.confint(method="t", of=lambda fit: fit.coef["Days"]).iloc[0]
    close(own, ends.loc["Days"])
    cases = sleep.bootstrap(60, kind="cases", random_seed=1)
    half = stats.t.ppf(0.95, 17) * np.sqrt(18 / 17) * cases.estimates["Days"].std(ddof=1)
    close(cases.confint(0.9, "t").loc["Days"], [sleep.coef["Days"] - half, sleep.coef["Days"] + half])
    pooled = weighted.bootstrap(40, kind="rao-wu", random_seed=1)
    mean = pooled.confint(method="t").mean(axis=1)["escs"]
    close(mean, weighted.coef["escs"])
    crossed = pmwmix.fit("y ~ x + (1 | g) + (1 | h)", crossed_rows(), method="reml").bootstrap(3, random_seed=1)
    with pytest.raises(NotSupportedError, match="independent clusters"):
        crossed.confint(method="t")


def crossed_rows():
    rng = np.random.default_rng(1)
    g, h = np.repeat(np.arange(6), 6), np.tile(np.arange(6), 6)
    y = rng.normal(size=6)[g] + rng.normal(size=6)[h] + rng.normal(size=36)
    return pd.DataFrame({"g": g, "h": h, "x": rng.normal(size=36), "y": y})


def test_any_function_of_the_fit(boot, sleep):
    standardised = boot.tidy(of=lambda fit: fit.coef["Days"] / fit.sigma, method="bca")
    close(standardised["estimate"], sleep.coef["Days"] / sleep.sigma)
    close(boot.values(lambda fit: {"share": fit.icc, "sigma": fit.sigma})["sigma"], boot.estimates["Residual"])
    close(boot.values(lambda fit: fit.varcorr["sdcor"].to_numpy()), boot.estimates.iloc[:, 2:])
    close(boot.tidy(of=lambda fit: {"share": fit.icc})["estimate"], sleep.icc)
    ends = [boot.confint(method=method).loc["Days"].to_numpy() for method in ("percentile", "basic", "bca")]
    close(ends, [sleep.confint().loc["Days"]] * 3, rtol=0.12)
    with pytest.raises(OptionError, match=r"gives numbers.*It gave str 'a'"):
        boot.values(lambda fit: "a")


def test_plausible_values_add_their_variance(weighted):
    found = weighted.bootstrap(60, kind="cases", random_seed=7)
    within = found.estimates["escs"].groupby("pv").var()
    between = np.var([one.coef["escs"] for one in weighted.fits], ddof=1)
    close(found.tidy().set_index("term").loc["escs", "std_error"] ** 2, within.mean() + 1.5 * between)
    assert "60 refits of each of 2 plausible values" in repr(found)


def test_wrong_calls(sleep, boot, weighted, tmp_path):
    loaded = pmwmix.load(sleep.save(tmp_path / "fit.pmwmix"))
    crossed = pmwmix.fit("y ~ x + (1 | school) + (1 | item)", nested().assign(item=np.arange(len(nested())) % 3))
    structured = pmwmix.fit(
        "Reaction ~ Days + (1 | Subject)", sleepstudy(),
        residual={"correlation": "ar1", "time": "Days", "group": "Subject"},
    )  # fmt: skip
    lonely = pmwmix.fit(
        "y ~ x + (1 | school)", nested().assign(s=lambda d: (d["school"] > 0) * 1), weights={"school": "w3"},
        design=pmwmix.Design(strata="s", lonely_psu="certainty"),
    )  # fmt: skip
    counts = pmwmix.fit("count ~ x + (1 | school)", outcomes(), family="poisson", n_agq=1)
    for error, words, call in (
        (OptionError, "number of refits is whole", lambda: sleep.bootstrap(1)),
        (OptionError, "number of outcomes is whole", lambda: sleep.simulate(0)),
        (OptionError, "Unknown kind of bootstrap 'case'. Did you mean 'cases'", lambda: sleep.bootstrap(kind="case")),
        (OptionError, "random_seed='x'", lambda: sleep.bootstrap(random_seed="x")),
        (OptionError, "An executor runs tasks", lambda: sleep.bootstrap(executor=3)),
        (OptionError, "Unknown bootstrap interval 'bc'", lambda: boot.tidy(method="bc")),
        (OptionError, "ci_prob", lambda: boot.confint(95)),
        (NotSupportedError, "does not keep them", lambda: loaded.simulate()),
        (NotSupportedError, "bootstrap.*does not keep them", lambda: loaded.bootstrap()),
        (NotSupportedError, "residual structure.*kind='parametric'", lambda: structured.bootstrap(4, kind="residual")),
        (NotSupportedError, "residual structure.*kind='cases'", lambda: structured.bootstrap(4, kind="cases")),
        (NotSupportedError, "are crossed, with kind='cases'", lambda: crossed.bootstrap(4, kind="cases")),
        (NotSupportedError, "family='poisson'", lambda: counts.bootstrap(4, kind="residual")),
        (DesignError, "1 of 2 strata", lambda: lonely.bootstrap(4, kind="rao-wu")),
    ):
        with pytest.raises(error, match=words):
            call()


def test_t_intervals_of_several_linear_outcomes_take_the_rows_of_each():
    """Of an outcome twice, independent: residual deviations with the degrees of freedom of the outcome alone."""
    rng = np.random.default_rng(2)
    d = pd.DataFrame({"g": np.repeat(np.arange(12), 5), "y": rng.normal(size=60), "z": rng.normal(size=60)})
    boot = pmwmix.fit(["y ~ 1 + (1 | g)", "z ~ 1 + (1 | g)"], d).bootstrap(8, random_seed=1)
    table = boot.tidy(method="t").set_index("term")
    for name in ("Residual y", "Residual z"):
        spread = np.log(boot.estimates[name]).std(ddof=1) * stats.t.ppf(0.975, 60 - 12 - 1)
        ends = table.loc[name, "estimate"] * np.exp([-spread, spread])
        close(table.loc[name, ["ci_low", "ci_high"]].to_numpy(float), ends, 1e-9)
