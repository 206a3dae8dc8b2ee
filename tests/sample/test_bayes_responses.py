"""Fitted values, predictions and predictive draws of posteriors, against computation by hand from the draws.

Most posteriors here are normal draws about the maximum of the likelihood: what is tested takes draws as they are, and
no sampler has to be compiled. One model goes through NUTS.
"""

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested, outcomes, survey
from scipy import special, stats

import pmwmix
from pmwmix.errors import DataError, NotSupportedError, OptionError, PmwmixWarning
from pmwmix.inference.margins import ame, predictions
from pmwmix.pooling.nested import mix_draws
from pmwmix.sample import posterior
from pmwmix.sample.draws.rowdraws import Drawn
from pmwmix.sample.nuts.nuts import Draws

CHAINS, DRAWS = 2, 100  # fewer than the 400 for which random effects are drawn: every draw is used, in order
S = CHAINS * DRAWS


def near_ml(formula, data, spread=1.0, **how):
    """A posterior of normal draws about the maximum; its mean is the maximum, ``spread`` 0 repeats it."""

    def draw(targets, sampled, request):
        rng, out = np.random.default_rng(4), []
        for target in targets:
            z = rng.standard_normal((S, len(target.ml)))
            z = (z - z.mean(axis=0)) @ np.linalg.cholesky(np.linalg.pinv(target.information)).T
            psi = (target.ml + spread * z).reshape(CHAINS, DRAWS, -1)
            out.append(Draws({"psi": psi}, {"diverging": np.zeros((CHAINS, DRAWS), dtype=bool)}, "none"))
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posterior, "_draw", draw)
        return pmwmix.fit(formula, data, method="bayes", random_seed=1, engine="python", **how)


@pytest.fixture(scope="module")
def linear():
    """Sampled."""
    return pmwmix.fit(
        "y ~ x + (1 + x | school)", nested(), method="bayes", draws=DRAWS, tune=1000, chains=CHAINS, random_seed=1
    )


@pytest.fixture(scope="module")
def with_pvs():
    s = survey(3)
    return near_ml("math ~ escs + (1 + escs | SCHOOLID)", s.data, pv=s.pv, weights=s.weights)


@pytest.fixture(scope="module")
def counts():
    return near_ml("count ~ x + v + (1 | school)", outcomes(), family="poisson")


@pytest.fixture(scope="module")
def trials():
    d = outcomes().assign(misses=lambda t: t["n"] - t["hits"])
    return near_ml("cbind(hits, misses) ~ v + (1 + v | school)", d, family="binomial", weights=["t1", "w3"], n_agq=3)


@pytest.fixture(scope="module")
def ordinal():
    return near_ml("mark ~ v + (1 | school)", outcomes(), family="cumulative")


@pytest.fixture(scope="module")
def plain():
    """Without random effects."""
    return near_ml("y ~ x", nested(), weights=["t1"])


def effects(fit, name, pv=None):
    """Random effects (S, G, q) that were drawn."""
    group = fit.idata["random_effects"]
    b = np.asarray(group[f"b_{name}"])[0]
    return b if pv is None else b[np.asarray(group["pv"]) == pv]


# -- random effects ----------------------------------------------------------------------------------------------------


def test_random_effects_at_the_maximum_have_the_modes_and_errors_of_ml():
    """Conditional means and deviations given the parameters: Monte-Carlo errors of 400 draws."""
    d = nested()
    fit = near_ml("y ~ x + (1 + x | school)", d, spread=0.0)
    table, ml = fit.ranef("school"), fit.ml.ranef("school")
    assert list(table.columns) == list(ml.columns) == ["Intercept", "x", "Intercept_se", "x_se"]
    assert table.index.equals(ml.index) and table.index.name == "school" and table.index.is_monotonic_increasing
    for term in ("Intercept", "x"):
        z = (table[term] - ml[term]) / (ml[f"{term}_se"] / np.sqrt(S))
        assert np.abs(z).max() < 4.5
        assert np.abs(table[f"{term}_se"] / ml[f"{term}_se"] - 1).max() < 4.5 / np.sqrt(2 * S)


def test_random_effects_of_a_posterior(linear):
    drawn = linear.random_effects(draws=150)
    b = drawn["b_school"]
    assert b.dims == ("chain", "draw", "school", "school_term") and b.shape == (1, 150, 14, 2)
    assert [str(v) for v in drawn["school_term"].values] == ["Intercept", "x"]
    assert "pv" not in drawn.coords
    again = linear.random_effects(draws=150)
    close(again["b_school"], b)
    assert not np.allclose(linear.random_effects(draws=150, random_seed=8)["b_school"], b)
    linear.random_effects()
    ml = linear.ml.ranef()
    close(linear.ranef()["Intercept"], ml["Intercept"], atol=0.5 * ml["Intercept_se"].max())
    assert (linear.ranef()["Intercept_se"] > 0.8 * ml["Intercept_se"]).all()  # those of the parameters come on top
    with pytest.raises(OptionError, match=r"'scool'.*Did you mean 'school'"):
        linear.ranef("scool")
    for wrong in (0, -1, 2.5, True, "many"):
        with pytest.raises(OptionError, match="whole and positive"):
            linear.random_effects(draws=wrong)


def test_random_effects_of_plausible_values(with_pvs):
    drawn = with_pvs.random_effects()
    assert drawn["pv"].dims == ("draw",) and np.bincount(drawn["pv"].values)[1:].tolist() == [S] * 3
    table, ml = with_pvs.ranef(), with_pvs.ml.ranef()
    assert table.index.equals(ml.index)
    close(table["Intercept"], ml["Intercept"], atol=4 * ml["Intercept_se"].max() / np.sqrt(S))
    labels = [str(v) for v in drawn["SCHOOLID"].values]
    assert sorted(labels, key=int) == [str(v) for v in ml.index]


def test_three_levels_have_a_table_each():
    fit = near_ml("y ~ x + (1 | school/classroom)", nested(), weights=["t1", "t2", "w3"])
    tables, ml = fit.ranef(), fit.ml.ranef()
    assert set(tables) == set(ml) and set(fit.ranef("school").columns) == {"Intercept", "Intercept_se"}
    for name, table in tables.items():
        assert table.index.equals(ml[name].index)
        close(table["Intercept"], ml[name]["Intercept"], atol=0.6 * ml[name]["Intercept_se"].max())
    d, x = nested(), nested()["x"]
    school = tables["school"]["Intercept"].loc[d["school"]].to_numpy()
    lower = next(name for name in tables if name != "school")
    keys = d["classroom"].astype(str) + ":" + d["school"].astype(str) if ":" in lower else d["classroom"]
    eta = fit.coef["Intercept"] + fit.coef["x"] * x + school + tables[lower]["Intercept"].loc[keys].to_numpy()
    close(fit.fitted(), eta)


# -- linear models -----------------------------------------------------------------------------------------------------


def test_linear_fitted_values(linear):
    d, b = nested(), linear.ranef().loc[nested()["school"]]
    fixed = linear.coef["Intercept"] + linear.coef["x"] * d["x"]
    whole = fixed + b["Intercept"].to_numpy() + b["x"].to_numpy() * d["x"]
    close(linear.fitted(), whole)
    close(linear.fitted(conditional=False), fixed)
    assert linear.fitted().index.equals(d.index)
    assert np.abs(linear.fitted() - linear.ml.fitted()).max() < 0.15 * linear.sigma
    close(linear.residuals(), d["y"] - whole)
    close(linear.residuals("pearson", conditional=False), (d["y"] - fixed) / linear.sigma)
    close(linear.residuals("normalized"), linear.residuals("pearson"))
    for newdata in (None, d):
        close(linear.predict(newdata), whole)
        close(linear.predict(newdata, averaged=True), fixed)
        close(linear.predict(newdata, conditional=False, type="link"), fixed)


def test_intervals_of_linear_predictions(linear):
    d, beta = nested(), linear.draws("beta")
    linear.random_effects()
    place = np.searchsorted(linear.ml.ranef().index, d["school"])
    b = effects(linear, "school")[:, place]
    draws = beta[:, :1] + b[:, :, 0] + (beta[:, 1:] + b[:, :, 1]) * d["x"].to_numpy()
    for newdata in (None, d):
        table = linear.predict(newdata, ci_prob=0.9)
        assert list(table.columns) == ["mean", "sd", "ci_low", "ci_high"]
        close(table["mean"], linear.fitted())
        close(table["sd"], draws.std(axis=0, ddof=1))
        close(table[["ci_low", "ci_high"]].T, np.quantile(draws, [0.05, 0.95], axis=0))
    fewer = linear.predict(d, ci_prob=0.9, draws=20, random_seed=3)
    assert 0.5 < (fewer["sd"] / draws.std(axis=0)).mean() < 1.5


def test_groups_that_the_fit_has_not_seen(linear):
    d = nested().head(5).copy()
    d["school"] = [999, 999, 1000, 0, 0]
    fixed = linear.predict(d, conditional=False)
    with pytest.warns(PmwmixWarning, match="2 groups of 'school'"):
        at_zero = linear.predict(d)
    close(at_zero[:3], fixed[:3])
    assert linear.predict(d, new_groups="missing").isna().tolist() == [True] * 3 + [False] * 2
    assert linear.predict(d, new_groups="missing", ci_prob=0.9).isna().sum().tolist() == [3] * 4
    with pytest.raises(DataError, match="999"):
        linear.predict(d, new_groups="error")
    drawn = linear.predict(d, new_groups="draw", ci_prob=0.9, random_seed=2)
    close(drawn["mean"].head(3), at_zero.head(3))
    x = np.column_stack([np.ones(3), d["x"].head(3)])
    vcov = {key: linear.draws("vcov")[:, j] for j, key in enumerate(linear.ml.theta.index)}
    v00, v01, v11 = (vcov[name] for name in ("school.Intercept", "school.x.Intercept", "school.x"))
    variance = (v00 + 2 * v01 * x[:, 1:] + v11 * x[:, 1:] ** 2).mean(axis=1) + (linear.draws() @ x.T).var(axis=0)
    assert np.abs(drawn["sd"].head(3) / np.sqrt(variance) - 1).max() < 0.25  # heavy tails; 200 draws
    same = linear.predict(d.assign(x=1.0), new_groups="draw", ci_prob=0.9, random_seed=2)
    close(same.iloc[0], same.iloc[1])


def test_missing_predictors_and_rows_that_are_none(linear):
    d = nested().head(4).copy()
    d.loc[d.index[1], "x"] = np.nan
    assert linear.predict(d).isna().tolist() == [False, True, False, False]
    assert linear.predict(d, ci_prob=0.5).isna().any(axis=1).tolist() == [False, True, False, False]
    assert linear.predict(d.assign(x=np.nan), ci_prob=0.5).isna().all(axis=None)
    y = linear.posterior_predictive(draws=7, newdata=d)["y"]
    assert np.isnan(y.values[0]).all(axis=0).tolist() == [False, True, False, False]


def test_replicates_of_a_linear_model(linear):
    y, rng = nested()["y"].to_numpy(), np.random.default_rng(1)
    found = linear.posterior_predictive(draws=150)
    assert found["y"].dims == ("chain", "draw", "obs") and found["y"].shape == (1, 150, len(y))
    assert found["y"].dtype == np.float32
    assert "posterior_predictive" in linear.idata.children
    drawn = found["y"].values[0].astype(float)
    close(drawn.mean(), y.mean(), atol=4 * linear.sigma / np.sqrt(len(y)))
    close(drawn.std(axis=1).mean(), y.std(), rtol=0.05)
    left = drawn - linear.fitted().to_numpy()  # spread by sigma and by what is not known of the mean
    assert 1.0 < left.std() / linear.sigma < 1.12
    close(linear.posterior_predictive(draws=150)["y"], found["y"])
    few = linear.posterior_predictive(draws=30, random_seed=rng.integers(100))["y"]
    assert not np.allclose(few.values[0], drawn[:30])
    old = linear.idata["posterior_predictive"]
    new = linear.posterior_predictive(draws=200, newdata=nested().head(3))
    assert "predictions" in linear.idata.children and linear.idata["posterior_predictive"]["y"].equals(old["y"])
    close(new["y"].values[0].mean(axis=0), linear.fitted().head(3), atol=4 * linear.sigma / np.sqrt(200))


def test_new_groups_of_replicates_share_their_effect(linear):
    d = nested().head(2).assign(school=999, x=0.0)
    y = linear.posterior_predictive(draws=200, newdata=d)["y"].values[0].astype(float)
    within, total = linear.sigma**2, linear.varcorr["vcov"].iloc[0] + linear.sigma**2
    close(0.5 * np.var(y[:, 0] - y[:, 1]), within, rtol=0.3)
    close(y.var(axis=0), total, rtol=0.45)


def test_prior_predictive_of_a_linear_model(linear):
    found = linear.prior_predictive(draws=200)
    y = found["y"].values[0].astype(float)
    assert y.shape == (200, 161) and "prior_predictive" in linear.idata.children
    seen = nested()["y"]
    assert abs(np.median(y.mean(axis=1)) - seen.mean()) < 2 * seen.std()
    assert 2 < y.std() / seen.std() < 20  # weakly informative
    close(linear.prior_predictive(draws=200)["y"], found["y"])
    strong = {
        "Intercept": "Normal(50, 0.01)",
        "x": "Normal(0, 0.01)",
        "sd": "HalfNormal(0.01)",
        "sigma": "HalfNormal(3)",
    }
    narrow = near_ml("y ~ x + (1 | school)", nested(), priors=strong).prior_predictive(draws=300)["y"].values[0]
    close(narrow.mean(), 50.0, atol=0.1)
    close(narrow.std(), 3.0, rtol=0.15)  # the second moment of a half-normal is its scale squared


def test_without_random_effects(plain):
    d = nested()
    close(plain.fitted(), plain.coef["Intercept"] + plain.coef["x"] * d["x"])
    close(plain.residuals(), d["y"] - plain.fitted())
    draws = plain.draws() @ np.array([np.ones(len(d)), d["x"]])
    close(plain.predict(d, ci_prob=0.8)[["ci_low", "ci_high"]].T, np.quantile(draws, [0.1, 0.9], axis=0))
    assert plain.ranef() == {}
    y = plain.posterior_predictive(draws=100)["y"].values[0]
    close((y - plain.fitted().to_numpy()).std(), plain.sigma, rtol=0.05)
    assert plain.prior_predictive(draws=10)["y"].shape == (1, 10, len(d))


def test_offsets_count():
    d = nested().assign(o=lambda t: 3.0 * t["x"])
    fit = near_ml("y ~ x + offset(o) + (1 | school)", d)
    b = fit.ranef()["Intercept"].loc[d["school"]].to_numpy()
    whole = fit.coef["Intercept"] + (fit.coef["x"] + 3.0) * d["x"] + b
    for values in (fit.fitted(), fit.predict(d), fit.predict(d, ci_prob=0.9)["mean"]):
        close(values, whole)
    close(fit.residuals(), d["y"] - whole)


# -- plausible values --------------------------------------------------------------------------------------------------


def test_plausible_values(with_pvs):
    s, parts = survey(3), []
    with_pvs.random_effects()
    for k, one in enumerate(with_pvs.fits, 1):
        place = np.searchsorted(with_pvs.ml.ranef().index, s.data["SCHOOLID"])
        order = [str(v) for v in with_pvs.ml.ranef().index]
        names = [str(v) for v in with_pvs.idata["random_effects"]["SCHOOLID"].values]
        b = effects(with_pvs, "SCHOOLID", k)[:, [names.index(label) for label in order]][:, place]
        beta, x = one.draws(), s.data["escs"].to_numpy()
        parts.append(beta[:, :1] + b[..., 0] + (beta[:, 1:] + b[..., 1]) * x)
    means = np.array([part.mean(axis=0) for part in parts])
    close(with_pvs.fitted(), means.mean(axis=0), rtol=1e-6)
    outcome = np.mean([s.data[f"PV{k}MATH"] for k in (1, 2, 3)], axis=0)
    close(with_pvs.residuals(), outcome - means.mean(axis=0), atol=1e-4)
    table = with_pvs.predict(s.data, ci_prob=0.95)
    total = np.mean([part.var(axis=0) for part in parts], axis=0) + (1 + 1 / 3) * means.var(axis=0, ddof=1)
    close(table["sd"], np.sqrt(total), rtol=0.01)
    y = with_pvs.posterior_predictive(draws=50)["y"]
    assert y.shape == (1, 150, len(s.data)) and np.bincount(y["pv"].values)[1:].tolist() == [50] * 3
    for k in (1, 2, 3):
        close(y.values[0][y["pv"].values == k].mean(), parts[k - 1].mean(), atol=2.0)
    assert "pv" not in with_pvs.prior_predictive(draws=5).coords


def test_mixed_draws_spread_by_rubins_rules():
    rng = np.random.default_rng(2)
    parts = [rng.normal(shift, 1.0, (50_000, 2)) for shift in (0.0, 1.0, 3.0)]
    mixed, B = mix_draws(parts), np.var([0.0, 1.0, 3.0], ddof=1)
    close(mixed.var(axis=0), 1 + (1 + 1 / 3) * B, rtol=0.02)
    close(mixed.mean(axis=0), np.mean(parts, axis=(0, 1)))
    assert mix_draws(parts[:1]) is parts[0]


# -- generalised models ------------------------------------------------------------------------------------------------


def test_counts(counts):
    d = outcomes()
    counts.random_effects()
    b = effects(counts, "school")[:, d["school"], 0]
    X = np.array([np.ones(len(d)), d["x"], d["v"]])
    means = np.exp(counts.draws() @ X + b)
    close(counts.fitted(), means.mean(axis=0))
    close(counts.predict(d), means.mean(axis=0))
    close(counts.fitted(conditional=False), np.exp(counts.draws() @ X).mean(axis=0))
    close(counts.predict(d, type="link"), (counts.draws() @ X + b).mean(axis=0))
    table = counts.predict(d, ci_prob=0.9)
    close(table[["ci_low", "ci_high"]].T, np.quantile(means, [0.05, 0.95], axis=0))
    marginal = np.exp(counts.draws() @ X + 0.5 * counts.draws("vcov"))  # the mean of a log-normal
    close(counts.predict(d, averaged=True), marginal.mean(axis=0), rtol=1e-6)
    close(counts.predict(averaged=True, ci_prob=0.9)["sd"], marginal.std(axis=0, ddof=1), rtol=1e-6)
    mu = counts.fitted()
    close(counts.residuals("pearson"), (d["count"] - mu) / np.sqrt(mu))
    close(counts.residuals("working"), (d["count"] - mu) / mu)
    correlation = np.corrcoef(counts.residuals("deviance"), counts.ml.residuals("deviance"))[0, 1]
    assert correlation > 0.99
    y = counts.posterior_predictive(draws=200)["y"].values[0].astype(float)
    assert (y == np.round(y)).all()
    close(y.mean(), means.mean(), rtol=0.05)
    close(y.var(axis=0).mean(), (means.mean(axis=0) + means.var(axis=0)).mean(), rtol=0.15)
    assert np.isfinite(counts.prior_predictive(draws=100)["y"].values).all()


def test_trials(trials):
    d = outcomes()
    trials.random_effects()
    b = effects(trials, "school")[:, d["school"]]
    beta, v = trials.draws(), d["v"].to_numpy()
    p = special.expit(beta[:, :1] + b[..., 0] + (beta[:, 1:] + b[..., 1]) * v)
    close(trials.fitted(), p.mean(axis=0))
    close(trials.residuals(), d["hits"] / d["n"] - p.mean(axis=0))
    vcov = {key: trials.draws("vcov")[:, j, None] for j, key in enumerate(trials.ml.theta.index)}
    z = np.linspace(-9, 9, 2001)
    variance = vcov["school.Intercept"] + 2 * vcov["school.v.Intercept"] * v + vcov["school.v"] * v**2
    rows = slice(0, 10)
    eta = (beta[:, :1] + beta[:, 1:] * v)[:, rows, None] + np.sqrt(variance)[:, rows, None] * z
    brute = np.trapezoid(special.expit(eta) * stats.norm.pdf(z), z, axis=-1)
    close(trials.predict(d.head(10), averaged=True), brute.mean(axis=0), atol=1e-6)
    y = trials.posterior_predictive(draws=200)["y"].values[0].astype(float)
    n = d["n"].to_numpy()
    assert (y <= n).all() and y.min() >= 0
    close((y / n).mean(), p.mean(), atol=0.02)
    close(y.var(axis=0).mean(), (n * p * (1 - p)).mean(axis=0).mean() + (n * p).var(axis=0).mean(), rtol=0.1)
    for many in (5, "n"):
        new = trials.posterior_predictive(draws=100, newdata=d.head(9), trials=many)["y"].values[0].astype(float)
        size = n[:9] if many == "n" else 5
        assert (new <= size).all()
        close((new / size).mean(axis=0), p[:, :9].mean(axis=0), atol=0.2)
    with pytest.raises(OptionError, match="trials="):
        trials.posterior_predictive(draws=10, newdata=d)
    for wrong in (2.5, -1, "v"):
        with pytest.raises(OptionError, match="whole"):
            trials.posterior_predictive(draws=10, newdata=d, trials=wrong)


def test_ordinal(ordinal):
    d = outcomes()
    ordinal.random_effects()
    eta = ordinal.draws()[:, 3:] * d["v"].to_numpy() + effects(ordinal, "school")[:, d["school"], 0]
    below = special.expit(ordinal.draws()[:, None, :3] - eta[..., None])
    p = np.diff(below, axis=-1, prepend=0.0, append=1.0)
    assert list(ordinal.fitted().columns) == ["1", "2", "3", "4"]
    close(ordinal.fitted(), p.mean(axis=0))
    table = ordinal.predict(d, ci_prob=0.9)
    close(table.xs("ci_high", axis=1, level=1), np.quantile(p, 0.95, axis=0))
    close(table.xs("mean", axis=1, level=1), p.mean(axis=0))
    close(ordinal.predict(type="link"), eta.mean(axis=0))
    assert isinstance(ordinal.predict(d, type="link"), pd.Series)
    assert ordinal.predict(d.head(2).assign(v=np.nan)).shape == (2, 4)
    with pytest.raises(NotSupportedError, match="categories"):
        ordinal.residuals()
    found = ordinal.posterior_predictive(draws=200)
    y = found["y"].values[0]
    assert found.attrs["categories"] == ["1", "2", "3", "4"]
    close([(y == k).mean() for k in range(4)], p.mean(axis=(0, 1)), atol=0.02)
    assert set(np.unique(ordinal.prior_predictive(draws=30)["y"].values)) <= {0, 1, 2, 3}


def test_further_parameters_are_those_of_the_draw():
    """Overdispersion of replicates: Var = mu + mu²/theta."""
    d = outcomes()
    fit = near_ml("visits ~ v + (1 | school)", d, family="negbinomial", n_agq=3)
    fit.random_effects()
    mu = np.exp(fit.draws() @ np.array([np.ones(len(d)), d["v"]]) + effects(fit, "school")[:, d["school"], 0])
    close(fit.fitted(), mu.mean(axis=0))
    mean = fit.fitted()
    close(fit.residuals("pearson"), (d["visits"] - mean) / np.sqrt(mean + mean**2 / fit.ml.dispersion), rtol=1e-6)
    y = fit.posterior_predictive(draws=S)["y"].values[0].astype(float)
    size = fit.draws("theta")[:, None]
    close(y.mean(), mu.mean(), rtol=0.05)
    close(y.var(axis=0).mean(), (mu + mu**2 / size).mean() + mu.var(axis=0).mean(), rtol=0.15)
    assert np.isfinite(fit.prior_predictive(draws=50)["y"].values).all()


@pytest.mark.parametrize(
    ("family", "link"),
    [("poisson", "log"), ("poisson", "sqrt"), ("negbinomial", "log"), ("gamma", "log"), ("gamma", "inverse")]
    + [("beta", link) for link in ("logit", "probit", "cloglog", "cauchit")],
)
def test_outcomes_of_extreme_parameters_can_be_drawn(family, link):
    """As vague priors give them; ordinary ones have the mean that they should."""
    phi = np.array([[-60.0], [0.0], [5.0], [60.0]]) if family != "poisson" else np.zeros((4, 0))
    none = np.zeros((4, 0))
    drawn = Drawn(family, link, none, phi, None, [], [], 1)
    eta = np.broadcast_to([-900.0, -40.0, 0.3, 40.0, 900.0], (4, 5))
    y = drawn.drawn_outcomes(eta, (), np.random.default_rng(1))
    assert np.isfinite(y[:, 2:]).all() and (y[:, 2:] >= 0).all()
    many = drawn.drawn_outcomes(np.full((4, 20_000), 0.3), (), np.random.default_rng(1))
    close(many[2].mean(), drawn.means(np.full((4, 1), 0.3))[2], rtol=0.1)


# -- marginal effects and adjusted predictions -------------------------------------------------------------------------


def test_adjusted_predictions_of_a_linear_model(with_pvs):
    """Exact: averages of a linear model are linear in the coefficients."""
    s = survey(3)
    table = predictions(with_pvs, {"escs": [-1, 1]}, s.data, ci_prob=0.9)
    assert list(table.columns) == ["escs", "estimate", "std_error", "ci_low", "ci_high", "p_direction"]
    for row, x in zip(table.itertuples(), (-1.0, 1.0), strict=True):
        draws = with_pvs.pooled_draws() @ [1.0, x]
        close(row.estimate, draws.mean())
        close(row.std_error, draws.std(ddof=1))
        close([row.ci_low, row.ci_high], np.quantile(draws, [0.05, 0.95]))
    slope = ame(with_pvs, newdata=s.data)
    close(slope["estimate"], with_pvs.coef["escs"])
    tidy = with_pvs.tidy().set_index("term").loc["escs"]
    close(slope[["ci_low", "ci_high", "p_direction"]].iloc[0], tidy[["ci_low", "ci_high", "p_direction"]])
    by = predictions(with_pvs, {"escs": 0}, s.data, by="female")
    assert by["female"].tolist() == [0, 1]


@pytest.mark.parametrize("averaged", [True, False])
def test_marginal_effects_of_proportions(trials, averaged):
    """To first order: against all draws one by one, errors within a tenth."""
    d = outcomes()
    w, v, z = d["t1"].to_numpy(), d["v"].to_numpy(), np.linspace(-8, 8, 161)
    vcov = {key: trials.draws("vcov")[:, j] for j, key in enumerate(trials.ml.theta.index)}
    names = ("school.Intercept", "school.v.Intercept", "school.v")
    brute = []
    for (a, c), v00, v01, v11 in zip(trials.draws(), *(vcov[name] for name in names), strict=True):
        both = []
        for x in (v, v + 1.0):
            spread = np.sqrt(v00 + 2 * v01 * x + v11 * x**2) if averaged else np.zeros(len(v))
            p = special.expit(a + c * x + spread * z[:, None])
            both.append(np.trapezoid(p * stats.norm.pdf(z)[:, None], z, axis=0))
        brute.append(np.average(both[1] - both[0], weights=w))
    table = ame(trials, newdata=d, contrasts={"v": 1.0}, averaged=averaged)
    close(table["estimate"], np.mean(brute), atol=0.15 * np.std(brute))
    close(table["std_error"], np.std(brute), rtol=0.1)
    close(table[["ci_low", "ci_high"]].iloc[0], np.quantile(brute, [0.025, 0.975]), atol=0.3 * np.std(brute))


def test_ordinal_predictions_add_to_one(ordinal, plain):
    table = predictions(ordinal, {"v": [0.0, 1.0]}, outcomes())
    close(table.groupby("v")["estimate"].sum(), 1.0)
    close(predictions(plain, {"x": 0.0}, nested())["estimate"], plain.coef["Intercept"])


# -- messages ----------------------------------------------------------------------------------------------------------


def test_loaded_results_say_what_they_lack(linear, tmp_path):
    linear.random_effects()
    loaded = pmwmix.load(linear.save(tmp_path / "fit.nc"))
    for call in (
        loaded.fitted,
        loaded.residuals,
        loaded.predict,
        lambda: loaded.predict(nested()),
        loaded.posterior_predictive,
        loaded.prior_predictive,
        loaded.random_effects,
    ):
        with pytest.raises(OptionError, match=r"pmwmix\.load"):
            call()
    pd.testing.assert_frame_equal(
        loaded.ranef().reset_index(drop=True),
        linear.ranef().sort_index(key=lambda labels: labels.map(str)).reset_index(drop=True),
    )
    expected = predictions(linear, {"x": [0, 1]}, nested())
    pd.testing.assert_frame_equal(predictions(loaded, {"x": [0, 1]}, nested()), expected)


def test_wrong_arguments(linear):
    d = nested()
    for wrong in (0, -3, 1.5, True, None):
        with pytest.raises(OptionError, match="whole and positive"):
            linear.predict(d, draws=wrong)
        with pytest.raises(OptionError, match="whole and positive"):
            linear.posterior_predictive(draws=wrong)
        with pytest.raises(OptionError, match="whole and positive"):
            linear.prior_predictive(draws=wrong)
    for wrong in (-1, 1.5, "a", True):
        for verb in (linear.posterior_predictive, linear.prior_predictive, linear.predict):
            with pytest.raises(OptionError, match="random_seed="):
                verb(random_seed=wrong)
    for wrong in (0, 1, 95, -0.1, "wide", True, float("nan")):
        with pytest.raises(OptionError, match="ci_prob"):
            linear.predict(d, ci_prob=wrong)
    with pytest.raises(OptionError, match=r"'draws'.*'draw'"):
        linear.predict(d, new_groups="draws")
    with pytest.raises(OptionError, match="'respons'"):
        linear.predict(d, type="respons")
    with pytest.raises(OptionError, match="'raw'"):
        linear.residuals("raw")
    with pytest.raises(OptionError, match="trials"):
        linear.posterior_predictive(trials=3)
    with pytest.raises(DataError, match="'x'"):
        linear.predict(d.drop(columns="x"))


def test_columns_that_were_changed_are_refused():
    d = nested()
    fit = near_ml("y ~ x + (1 | school)", d)
    d["x"].to_numpy(copy=False)  # the fit may share it
    fit.fitted()
    columns = fit.ml.rows.design.x.columns
    j = next(j for j, name in enumerate(fit.ml.rows.design.x.names) if name == "x")
    columns[j] = columns[j] + 1.0
    for verb in (fit.fitted, fit.predict, fit.posterior_predictive):
        with pytest.raises(DataError, match="changed in place"):
            verb()


def test_blocks_change_nothing(linear, monkeypatch):
    from pmwmix.sample.draws import rowdraws

    whole = linear.predict(nested(), ci_prob=0.9)
    monkeypatch.setattr(rowdraws, "CELLS", 3 * S)
    pd.testing.assert_frame_equal(linear.predict(nested(), ci_prob=0.9), whole)
    assert np.isfinite(linear.posterior_predictive(draws=20)["y"].values).all()
