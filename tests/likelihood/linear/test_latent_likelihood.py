"""The joint likelihood of an outcome and predictors with latent means, against the normal density written out."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.latentmeans import GroupSums, JointModel

P, K, LOADS = 4, 2, np.array([[2, 0], [3, 1], [3, 0]])


def groups(weighted: bool):
    """Rows of seven groups, two outcomes, and the cross-products of them."""
    rng, rows, parts = np.random.default_rng(1), [], []
    for _ in range(7):
        m = rng.integers(3, 7)
        w = rng.uniform(0.5, 2.0, m) if weighted else np.ones(m)
        y, A, L, x = (rng.normal(size=(m, n)) for n in (2, P, len(LOADS), K))
        Z, between = np.column_stack([np.ones(m), rng.normal(size=m)]), rng.normal()
        within = rng.normal(size=m)
        within -= np.average(within, weights=w)
        C = np.column_stack([np.ones(m), np.full(m, between), within])
        left, right, first = np.hstack([y, A, L, Z]), np.hstack([x, C]), np.array([1.0, between, 0.0])
        parts.append((left.T @ (w[:, None] * left), right.T @ (w[:, None] * right), first, w.sum()))
        rows.append((y, A, L, Z, x, C, first))
    yt, xc, first, n = map(np.array, zip(*parts, strict=True))
    top = rng.uniform(0.5, 2.0, 7) if weighted else np.ones(7)
    return JointModel(GroupSums(yt, xc, first, LOADS, n, top, 2), ThetaLayout(((2,),)), P), rows


def parameters(model: JointModel) -> np.ndarray:
    return 0.5 * np.random.default_rng(2).normal(size=P + 3 + model.n_rho + 1)


def test_likelihood_is_the_normal_density():
    model, rows = groups(weighted=False)
    psi = parameters(model)
    a = model.unpack(psi)
    T, S, Psi = a.T @ a.T.T, a.S @ a.S.T, a.sigma**2 * a.Lambda @ a.Lambda.T
    want = []
    for y, A, L, Z, x, C, first in rows:
        m, loads = len(y), np.zeros((len(y), K))
        for column, (j, kappa) in zip(L.T, LOADS, strict=True):
            loads[:, kappa] += column * a.beta[j]
        mean = np.concatenate([A @ a.beta + loads @ (first @ a.alpha), (C @ a.alpha).ravel()])
        V = np.zeros((m + m * K, m + m * K))
        V[:m, :m] = loads @ T @ loads.T + Z @ Psi @ Z.T + a.sigma**2 * np.eye(m)
        V[m:, m:] = np.kron(np.ones((m, m)), T) + np.kron(np.eye(m), S)
        V[:m, m:] = np.tile(loads @ T, m)
        V[m:, :m] = V[:m, m:].T
        want.append(multivariate_normal.logpdf(np.concatenate([y[:, 1], x.ravel()]), mean, V))
    assert model.moments(psi, 1).loglik == pytest.approx(want, rel=1e-11)


def test_scores_and_hessian_are_derivatives():
    model, _ = groups(weighted=True)
    psi, YT, h = parameters(model), model.sums.of(0), 1e-6

    def value(at):
        return model.sums.w @ model.moments(at, 0).loglik

    steps = h * np.eye(len(psi))
    by_difference = [(value(psi + step) - value(psi - step)) / (2 * h) for step in steps]
    gradient, hessian = model.gradient(psi, YT), model.hessian(psi, YT)
    assert gradient == pytest.approx(by_difference, abs=1e-7 * np.abs(gradient).max())  # central differences
    assert hessian == pytest.approx(hessian.T, abs=1e-12 * np.abs(hessian).max())
    second = [(model.gradient(psi + step, YT) - model.gradient(psi - step, YT)) / (2 * h) for step in steps]
    assert hessian == pytest.approx(np.array(second), abs=1e-7 * np.abs(hessian).max())
