"""Log-likelihoods of units and rows and log-priors at the draws, and what ArviZ makes of them."""

from __future__ import annotations

import warnings
from dataclasses import replace

import arviz as az
import numpy as np
import pytest
from helpers import close, nested, outcomes, survey
from scipy import stats

import pmwmix
from pmwmix.errors import OptionError
from pmwmix.sample.model.start import values_at
from pmwmix.sample.nuts.nuts import Draws

SHORT = {"method": "bayes", "random_seed": 4, "engine": "python", "progress": False, "draws": 20, "tune": 20}


def near_the_maximum(targets, sampled, request):
    """Draws about the estimate by ML in the place of NUTS, which has tests of its own: nothing is compiled."""
    rng, out = np.random.default_rng(1), []
    for target in targets:
        shape = (request.chains, request.draws)
        psi = target.ml + 0.1 * rng.normal(size=(*shape, 1)) * np.sqrt(1.0 / np.abs(np.diag(target.information)))
        theta = slice(target.p, target.p + target.n_theta)
        flat = psi.reshape(-1, psi.shape[-1])
        each = [values_at(replace(target, ml=one), sampled, one[theta]) for one in flat]
        variables = {name: np.array([one[name] for one in each]) for name in sampled.names}
        values = {name: v.reshape(*shape, *v.shape[1:]) for name, v in variables.items()}
        out.append(Draws({"psi": psi, **values}, {"logp": np.zeros(shape)}, "none"))
    return out


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pmwmix.sample.posterior._draw", near_the_maximum)
        yield


@pytest.fixture(scope="module")
def slopes(quick):
    """A weighted posterior of a model with random slopes."""
    d = nested()
    weights = {"weights": [None, "w3"], "conditional": True}
    return d, pmwmix.fit("y ~ x + (1 + x | school)", d, **weights, **SHORT, chains=2)


def at(fit, chain, draw):
    """Coefficients, Psi and sigma of one uncorrected draw."""
    P = fit.idata["posterior_uncorrected"]
    vcov = dict(zip(map(str, P["covariance"].to_numpy()), P["vcov"].to_numpy()[chain, draw], strict=True))
    cross = vcov["school.x.Intercept"]
    Psi = np.array([[vcov["school.Intercept"], cross], [cross, vcov["school.x"]]])
    return P["beta"].to_numpy()[chain, draw], Psi, P["sigma"].to_numpy()[chain, draw]


def test_units_are_weighted_normal_densities_of_whole_schools(slopes):
    d, fit = slopes
    found = fit.log_likelihood()["y"]
    assert found.dims == ("chain", "draw", "school") and found.sizes["school"] == 14
    beta, Psi, sigma = at(fit, 1, 7)
    weight = d.groupby("school")["w3"].first()
    for school, part in list(d.groupby("school"))[:4]:
        X = np.column_stack([np.ones(len(part)), part["x"]])
        V = X @ Psi @ X.T + sigma**2 * np.eye(len(part))
        density = stats.multivariate_normal(X @ beta, V).logpdf(part["y"])
        close(found.sel(school=str(school))[1, 7], weight[school] / weight.mean() * density, 1e-9)


def test_units_add_to_the_log_likelihood_of_the_fit(slopes):
    """At psi of the maximum the sum over units is the log-likelihood that the fit by ML reports."""
    _, fit = slopes
    live = fit.fits[0].live
    here = replace(fit, live=replace(live, raw=live.target.ml[None, None]))
    total = float(here.log_likelihood()["y"].sum()) * live.rows.problem.top_scale
    close(total, fit.ml.loglik, 1e-10)
    fit.log_likelihood()  # the draws' own again: trees are shared


def test_three_levels_and_plausible_values():
    d = nested()
    fit = pmwmix.fit("y ~ x + (1 | school) + (1 | classroom)", d, **SHORT, chains=1)
    found = fit.log_likelihood(draws=5)["y"]
    P = fit.idata["posterior"].isel(draw=found["draw"].to_numpy())
    s2 = dict(zip(map(str, P["covariance"].to_numpy()), P["vcov"].to_numpy()[0].T, strict=True))
    school, part = next(iter(d.groupby("school")))
    X, same = np.column_stack([np.ones(len(part)), part["x"]]), part["classroom"].to_numpy()
    V = (
        s2["school.Intercept"][2]
        + s2["classroom.Intercept"][2] * (same[:, None] == same)
        + float(P["sigma"][0, 2]) ** 2 * np.eye(len(part))
    )
    density = stats.multivariate_normal(X @ P["beta"].to_numpy()[0, 2], V).logpdf(part["y"])
    close(found.sel(school=str(school))[0, 2], density, 1e-9)
    s = survey(2)
    both = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, pv=s.pv, **SHORT, chains=1)
    assert list(both.log_likelihood(draws=4)["pv"].to_numpy()) == [1, 2]
    assert "log_likelihood" not in both.idata.children and "log_likelihood" in both.fits[1].idata.children


def test_generalised_units_and_rows_have_their_constants():
    d = outcomes()
    fit = pmwmix.fit("count ~ x + (1 | school)", d, family="poisson", n_agq=15, **SHORT, chains=1)
    found = fit.log_likelihood(draws=3)["y"]
    P = fit.idata["posterior"].isel(draw=found["draw"].to_numpy())
    beta, sd = P["beta"].to_numpy()[0, 1], float(P["sd"][0, 1, 0])
    x, w = np.polynomial.hermite_e.hermegauss(120)
    part = d[d["school"] == 3]
    eta = beta[0] + beta[1] * part["x"].to_numpy()[:, None] + sd * x
    density = np.log(np.exp(stats.poisson(np.exp(eta)).logpmf(part[["count"]]).sum(axis=0)) @ w / np.sqrt(2 * np.pi))
    close(found.sel(school="3")[0, 1], density, 1e-5)  # 15 adaptive nodes
    rows = fit.log_likelihood("row", draws=3, random_seed=2)["y"]
    assert rows.dims == ("chain", "draw", "obs") and np.isfinite(rows).all()
    flat = pmwmix.fit("count ~ x", d, family="poisson", **SHORT, chains=1)
    rows = flat.log_likelihood(draws=2)["y"].to_numpy()[0, 0]
    beta = flat.idata["posterior"]["beta"].to_numpy()[0, 0]
    close(rows, stats.poisson(np.exp(beta[0] + beta[1] * d["x"])).logpmf(d["count"]), 1e-9)


def test_arviz_reads_them(slopes):
    d, fit = slopes
    fit.log_likelihood()
    with warnings.catch_warnings():  # 40 draws are few for Pareto tails, of which ArviZ warns
        warnings.simplefilter("ignore")
        loo = az.loo(fit.idata)
        null = pmwmix.fit("y ~ 1 + (1 | school)", d, **SHORT, chains=2)
        null.log_likelihood()
        table = az.compare({"slopes": fit.idata, "null": null.idata})
    assert loo.n_data_points == 14
    assert table.index[0] == "slopes"


def test_priors_are_those_of_the_model_and_their_weight_is_said(slopes):
    _, fit = slopes
    found = fit.log_prior()
    live = fit.fits[0].live
    prior = fit.priors.loc["sigma", "prior"]
    scale = float(prior.split(",")[-1].strip(" )"))
    sigma = live.variables["sigma"]
    close(found["sigma"], np.log(2) + stats.t(3, 0, scale).logpdf(sigma), 1e-3)  # the scale as it is printed
    table = fit.prior_sensitivity()
    assert list(table.columns) == ["prior", "likelihood", "diagnosis"]
    assert (table.loc["beta[x]", "likelihood"] > table.loc["beta[x]", "prior"]).all()


def test_wrong_arguments(slopes, tmp_path):
    _, fit = slopes
    with pytest.raises(OptionError, match=r"by='rows'.*'row'"):
        fit.log_likelihood("rows")
    with pytest.raises(OptionError, match="draws=0"):
        fit.log_likelihood(draws=0)
    loaded = pmwmix.load(fit.save(tmp_path / "fit.nc"))
    assert "log_likelihood" in loaded.idata.children
    with pytest.raises(OptionError, match=r"pmwmix\.load"):
        loaded.log_likelihood()


def test_a_posterior_has_a_report(slopes):
    text = str(slopes[1].report(figures=False))
    assert "Hamiltonian Monte Carlo" in text and "of the fit by maximum likelihood" in text and "Not given" not in text
