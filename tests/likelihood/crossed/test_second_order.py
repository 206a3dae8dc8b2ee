"""The terms that follow Laplace's approximation, against the integral itself and against sums written out."""

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.likelihood.crossed import secondorder
from pmwmix.likelihood.crossed.secondorder import second_order


def table(per_cell):
    """Three by three groups with some binary rows in every cell."""
    rng = np.random.default_rng(5)
    a, b = np.repeat(np.arange(3), 3 * per_cell), np.tile(np.repeat(np.arange(3), per_cell), 3)
    x = rng.normal(size=len(a))
    eta = 0.3 + 0.5 * x + rng.normal(size=3)[a] + rng.normal(size=3)[b]
    return pd.DataFrame({"a": a, "b": b, "x": x, "y": (rng.random(len(a)) < 1 / (1 + np.exp(-eta))).astype(int)})


def objective_of(data, random="(1 | a) + (1 | b)"):
    return pmwmix.fit(f"y ~ x + {random}", data, family="binomial", engine="numpy").rows.problem.objective


def log_integral(objective, psi):
    """Effects of b on a grid, those of a given them one by one: 25^3 times 41 points."""
    X, y, (a, b) = np.array(objective.rows.X), objective.rows.y[0], objective.crossing.index
    (inner, w_inner), (outer, w_outer) = (np.polynomial.hermite_e.hermegauss(n) for n in (41, 25))
    w_inner, w_outer = w_inner / w_inner.sum(), w_outer / w_outer.sum()
    grid = np.stack(np.meshgrid(*[outer] * 3, indexing="ij"), -1).reshape(-1, 3)
    total = np.log(np.einsum("i,j,k->ijk", *[w_outer] * 3)).ravel()
    for group in range(3):
        mine = a == group
        eta = (psi[:2] @ X[:, mine])[:, None] + psi[3] * grid[:, b[mine]].T
        eta = eta[..., None] + psi[2] * inner
        total = total + np.log(np.exp((y[mine][:, None, None] * eta - np.logaddexp(0, eta)).sum(axis=0)) @ w_inner)
    return np.logaddexp.reduce(total)


@pytest.mark.parametrize("per_cell", [1, 3])
def test_the_terms_are_most_of_what_is_missing(per_cell):
    """What follows is of the third order: a seventh of the terms with one row per cell, less with more."""
    objective, psi = objective_of(table(per_cell)), np.array([0.3, 0.5, 1.0, 0.8])
    point = objective.at(psi)
    missing = log_integral(objective, psi) + point.value
    assert abs(second_order(objective, point) - missing) < 0.15 * missing


def test_slopes_and_sums_written_out(monkeypatch):
    """Third and fourth derivatives of the logistic density, every pair of rows; rows in pieces change nothing."""
    objective = objective_of(table(6), "(1 + x | a) + (1 | b)")
    psi = np.array([0.3, 0.5, 0.9, 0.3, 0.6, 0.8])
    point = objective.at(psi)
    theta, (low, high), (a, b) = psi[2:], point.modes[0], objective.crossing.index
    L, x = np.array([[theta[0], 0.0], [theta[1], theta[2]]]), objective.rows.Z[1]
    A = np.zeros((len(x), 9))
    for i in range(len(x)):
        A[i, [a[i], 3 + a[i]]] = L.T @ [1.0, x[i]]
        A[i, 6 + b[i]] = theta[3]
    eta = psi[:2] @ np.array(objective.rows.X) + A @ np.concatenate([low.ravel(), high])
    p = 1 / (1 + np.exp(-eta))
    v = p * (1 - p)
    third, fourth = -v * (1 - 2 * p), -v * (1 - 6 * v)
    H = A @ np.linalg.inv(np.eye(9) + A.T @ (A * v[:, None])) @ A.T
    h = np.diag(H)
    expected = fourth @ h**2 / 8 + third @ (np.outer(h, h) * H / 8 + H**3 / 12) @ third
    monkeypatch.setattr(secondorder, "CHUNK", 40)
    close(second_order(objective, point), expected, rtol=1e-9)


def test_the_summary_says_so(tmp_path):
    fit = pmwmix.fit("y ~ x + (1 | a) + (1 | b)", table(3), family="binomial", engine="numpy")
    assert "its second-order terms would move estimates by" in " ".join(str(fit.summary()).split())
    fit.save(tmp_path / "fit.pmwmix")
    assert "second-order terms" in " ".join(str(pmwmix.load(tmp_path / "fit.pmwmix").summary()).split())
