"""Posteriors of models with crossed random effects: the density, the effects drawn afterwards or beside, runs."""

import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import close
from pytensor.compile.mode import Mode

import pmwmix
from pmwmix.errors import NotSupportedError
from pmwmix.likelihood.crossed.secondorder import effect_columns
from pmwmix.results.build import fit_frame
from pmwmix.sample.bayes import bayes
from pmwmix.sample.draws.conditional_linear import draw_linear
from pmwmix.sample.model import explicit
from pmwmix.sample.model.model import arrays_of
from pmwmix.sample.model.target import target_of
from pmwmix.sample.request import read_request

PLAIN = Mode("py", None)
FORMULAS = ("y ~ x + (1 | a) + (1 | b)", "y ~ x + (1 + x | a) + (1 | b) + (1 | c)")


@functools.cache
def table():
    rng = np.random.default_rng(3)
    n = 90
    d = pd.DataFrame({"a": rng.integers(0, 10, n), "b": rng.integers(0, 7, n), "c": rng.integers(0, 4, n)})
    d["x"] = rng.normal(size=n)
    d["y"] = 1 + 0.5 * d.x + rng.normal(size=10)[d.a] + 0.7 * rng.normal(size=7)[d.b] + rng.normal(size=n)
    return d


@functools.cache
def fitted_by_ml(formula):
    return pmwmix.fit(formula, table())


def dense(problem, theta):
    """Standardised X (p, n), y, columns of all effects times Λ (n, total), factor after factor, unit by unit."""
    o, blocks = problem.objective, []
    Z = iter([o._standard(int(j)) for j in o._columns.z])
    X = np.array([o._standard(int(j)) for j in o._columns.x[o._kept]])
    for index, n, L in zip(o.crossing.index, o.crossing.n_units, problem.layout.unpack(theta), strict=True):
        z = L.T @ np.array([next(Z) for _ in L])
        blocks += [column[:, None] * (index[:, None] == np.arange(n)) for column in z]
    return X, o._standard(int(o._columns.y[0])), np.hstack(blocks)


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_density_is_that_of_a_pymc_model(formula):
    """One multivariate normal of all rows, as PyMC writes it, at and beside the maximum."""
    fit = fitted_by_ml(formula)
    target, problem = target_of(fit, False), fit.rows.problem
    p, t = target.p, target.n_theta
    beta, theta, phi = pt.vector(), pt.vector(), pt.vector()
    symbols = {name: pt.constant(value) for name, value in arrays_of(target).items()}
    loglik = target.loglik(symbols, beta, theta, phi)
    value = pytensor.function([beta, theta, phi], [loglik, pytensor.grad(loglik, theta)], mode=PLAIN)
    for psi in (target.ml, target.ml + 0.2):
        X, y, A = dense(problem, psi[p : p + t])
        V = np.exp(2.0 * psi[-1]) * (np.eye(len(y)) + A @ A.T)
        expected = pm.logp(pm.MvNormal.dist(psi[:p] @ X, V), y).eval(mode=PLAIN)
        got, gradient = value(psi[:p], psi[p : p + t], psi[p + t :])
        close(got, expected, rtol=1e-10)
    sides = [
        [value(psi[:p], psi[p : p + t] + sign * step, psi[p + t :])[0] for sign in (1, -1)] for step in 1e-5 * np.eye(t)
    ]
    close(gradient, [(up - down) / 2e-5 for up, down in sides], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("formula", FORMULAS)
def test_effects_are_drawn_from_their_conditional_distribution(formula):
    """Mean and covariance of all effects jointly; up to five Monte-Carlo standard errors of 1,500 independent draws."""
    fit = fitted_by_ml(formula)
    problem, psi, n = fit.rows.problem, fit.rows.fit.point.psi + 0.2, 1_500  # beside variances of zero
    p, t = problem.structure.p, problem.layout.n_theta
    beta, theta, sigma = np.tile(psi[:p], (n, 1)), np.tile(psi[p : p + t], (n, 1)), np.full(n, np.exp(psi[-1]))
    drawn = draw_linear(problem, 0, beta, theta, sigma, np.random.default_rng(2))
    X, y, A = dense(problem, psi[p : p + t])
    inverse = np.linalg.inv(np.eye(A.shape[1]) + A.T @ A)
    u, start, scale = inverse @ A.T @ (y - psi[:p] @ X), 0, problem.transforms[0].y_scale
    for found, L, A_z in zip(drawn, problem.layout.unpack(psi[p : p + t]), problem.transforms[0].A_z, strict=True):
        G, q = found.shape[1:]
        to_b = np.kron(scale * A_z @ L, np.eye(G))
        part = slice(start, start + G * q)
        mean, cov = to_b @ u[part], np.exp(2.0 * psi[-1]) * to_b @ inverse[part, part] @ to_b.T
        flat, sd = found.transpose(0, 2, 1).reshape(n, -1), np.sqrt(np.diag(cov))
        assert np.abs((flat.mean(axis=0) - mean) / sd).max() < 4.5 / np.sqrt(n)
        assert np.abs((np.cov(flat.T) - cov) / np.outer(sd, sd)).max() < 5.0 * np.sqrt(2.0 / n)
        start += G * q


def test_a_posterior(tmp_path):
    """Flat enough priors: means within half a standard deviation of the maximum, shares of every factor by itself."""
    ml = fitted_by_ml(FORMULAS[0])
    more = {"draws": 300, "tune": 300, "chains": 2, "random_seed": 4, "progress": False}
    fit = pmwmix.fit(FORMULAS[0], table(), method="bayes", **more)
    assert np.all(np.abs(fit.coef - ml.coef) < 0.5 * ml.se)
    assert list(fit.icc.index) == ["a", "b"] and fit.icc.sum() < 1.0
    close(fit.icc, ml.icc, atol=0.15)
    close(fit.fitted(), ml.fitted(), atol=0.3)
    assert fit.random_effects(draws=20)["b_a"].shape == (1, 20, 10, 1)
    fit.save(tmp_path / "posterior.nc")
    close(pmwmix.load(tmp_path / "posterior.nc").icc, fit.icc)


# -- generalised models: effects are sampled with the parameters ----------------------------------------------------

GENERAL = {
    "z ~ x + (1 + x | a) + (1 | b)": ("binomial", lambda eta, phi: pm.Bernoulli.dist(logit_p=eta)),
    "k ~ x + (1 | a) + (1 | b)": (
        "negbinomial",
        lambda eta, phi: pm.NegativeBinomial.dist(mu=np.exp(eta), alpha=np.exp(phi[0])),
    ),
}


@functools.cache
def outcomes():
    rng = np.random.default_rng(5)
    d = table()
    eta = 0.4 * d.x + 0.8 * rng.normal(size=10)[d.a] + 0.6 * rng.normal(size=7)[d.b]
    return d.assign(z=(eta + rng.logistic(size=len(d)) > 0).astype(int), k=rng.poisson(np.exp(eta)))


@pytest.mark.parametrize("formula", GENERAL)
def test_the_density_given_the_effects(formula):
    """PyMC's own distribution of the rows; at the modes its maximum and curvature give Laplace's approximation."""
    family, distribution = GENERAL[formula]
    fit = pmwmix.fit(formula, outcomes(), family=family, engine="python")
    target, problem = target_of(fit, False), fit.rows.problem
    effects, p, t = target.effects, target.p, target.n_theta
    psi, u = pt.vector(), pt.vector()
    symbols = {name: pt.constant(value) for name, value in arrays_of(target).items()}
    loglik = target.loglik(symbols, psi[:p], psi[p : p + t], pt.concatenate([psi[p + t :], u]))
    run = pytensor.function([psi, u], [loglik, pytensor.grad(loglik, u) - u], mode=PLAIN)
    value, slope = run(target.ml, effects.modes)

    def differences(n, at):
        return np.array([(run(*at(h))[1] - run(*at(-h))[1]) / 2e-5 for h in 1e-5 * np.eye(n)]).T

    by_psi = differences(len(target.ml), lambda h: (target.ml + h, effects.modes))
    by_u = differences(effects.n, lambda h: (target.ml, effects.modes + h))
    rows, columns = problem.objective.rows, effect_columns(problem.objective, target.ml[p : p + t])
    eta = rows.offset + target.ml[:p] @ np.array(rows.X) + columns @ effects.modes
    expected = pm.logp(distribution(eta, target.ml[p + t :]), rows.y[0]).sum().eval(mode=PLAIN)
    close(value + problem.constants[0], expected, rtol=1e-8)
    close(slope, np.zeros(effects.n), atol=1e-6)
    close(-by_u, effects.precision, atol=1e-6)
    close(effects.slopes, np.linalg.solve(-by_u, by_psi), atol=1e-5)
    laplace = value - 0.5 * effects.modes @ effects.modes - 0.5 * np.linalg.slogdet(effects.precision)[1]
    close(laplace + problem.constants[0], fit.loglik, rtol=1e-8)
    drawn = effects.of(target.layout, target.ml[None, p : p + t], effects.modes[None], target.transform.A_z)
    close(drawn[1][0, :, 0], fit.ranef("b").sort_index()["Intercept"], atol=1e-7)


def test_a_posterior_of_a_generalised_model(tmp_path):
    """Means near the maximum, effects drawn with the parameters, and everything that is read off them."""
    d, formula = outcomes(), "z ~ x + (1 | a) + (1 | b)"
    more = {"draws": 250, "tune": 250, "chains": 2, "random_seed": 4, "progress": False}
    fit = pmwmix.fit(formula, d, family="binomial", method="bayes", **more)
    assert np.all(np.abs(fit.coef - fit.ml.coef) < 0.5 * fit.ml.se)
    close(fit.ranef("a")["Intercept"], fit.ml.ranef("a")["Intercept"], atol=0.35)
    close(fit.predict(d.head(20)), fit.ml.predict(d.head(20)), atol=0.1)
    assert fit.log_likelihood("row").sizes == {"chain": 2, "draw": 250, "obs": 90}
    assert set(fit.log_prior().data_vars) == {"beta_centred", "sd[a.Intercept]", "sd[b.Intercept]"}
    text = fit.summary().to_text(400)
    assert "none: all random effects were sampled" in text and "(n_agq=1)" not in text
    fit.save(tmp_path / "posterior.nc")
    again = pmwmix.load(tmp_path / "posterior.nc")
    close(again.ranef("b"), fit.ranef("b"))
    assert "none: all random effects were sampled" in again.summary().to_text(400)


@pytest.mark.slow
def test_the_posterior_of_nested_factors_is_the_same_either_way():
    """By quadrature, and with all effects sampled; up to five Monte-Carlo standard errors."""
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": rng.integers(0, 30, 600), "x": rng.normal(size=600)}).assign(h=lambda t: t.g // 3)
    u = rng.normal(size=30)[d.g] + 0.6 * rng.normal(size=10)[d.h]
    d["z"] = (0.5 * d.x + u + rng.logistic(size=600) > 0).astype(int)
    how, call = {"draws": 2000, "tune": 500, "chains": 4, "random_seed": 1}, ("z ~ x + (1 | h/g)", d)
    nested = pmwmix.fit(*call, family="binomial", method="bayes", n_agq=9, progress=False, **how)
    ml = pmwmix.fit(*call, family="binomial", n_agq=1)
    names = tuple(level.name for level in ml.rows.frame.hierarchy.levels)
    frame = replace(ml.rows.frame, hierarchy=replace(ml.rows.frame.hierarchy, crossed=names))
    request = read_request(**how, sampler=None, progress=False, vcov=None)
    explicit = bayes(fit_frame(frame, ml.settings, "python"), request, None)
    one, other = nested.tidy(), explicit.tidy()
    off = 5.0 * np.hypot(one["mcse_mean"], other["mcse_mean"])
    assert np.all(np.abs(one["estimate"] - other["estimate"]) < off)
    close(one["std_error"], other["std_error"], rtol=0.06)
    close(nested.confint_varcorr()["estimate"], explicit.confint_varcorr()["estimate"], rtol=0.06)


def test_what_is_not_sampled(monkeypatch):
    d = outcomes()
    d = d.assign(a=d.a + 10 * (d.index % 3), b=d.b + 7 * (d.index % 3), part=d.index % 3, w=1.0)
    with pytest.raises(NotSupportedError, match=r"rows alone. Column 'w' weights 'part'.*method='ml'"):
        formula = "z ~ x + (1 | a) + (1 | b) + (1 | part)"
        pmwmix.fit(formula, d, family="binomial", method="bayes", weights={"part": "w"}, engine="python")
    monkeypatch.setattr(explicit, "MOST", 10)
    with pytest.raises(NotSupportedError, match=r"there are too many. This model has 17 \('a' 10, 'b' 7\), where 10"):
        pmwmix.fit("z ~ x + (1 | a) + (1 | b)", outcomes(), family="binomial", method="bayes", engine="python")
