"""Posteriors of linear models with crossed random effects: the density, the effects drawn afterwards, one run."""

import functools

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import close
from pytensor.compile.mode import Mode

import pmwmix
from pmwmix.sample.draws.conditional_linear import draw_linear
from pmwmix.sample.model.model import arrays_of
from pmwmix.sample.model.target import target_of

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
