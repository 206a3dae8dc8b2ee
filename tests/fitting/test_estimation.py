"""Boundaries, unbounded likelihoods, saddles, starting values: every climb ends with a true sentence."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested

import pmwmix
from pmwmix.fitting.optimise import Status, minimise


def groups(seed, n_groups=30, size=8):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), size)
    return rng, g, rng.normal(size=len(g))


def test_zero_variance_is_flagged_and_equals_least_squares():
    rng, g, x = groups(4)
    y = 1 + x + rng.normal(size=len(g))
    y -= pd.Series(y - x).groupby(g).transform("mean").to_numpy()  # no variance between groups at all
    fit = pmwmix.fit("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}))
    assert fit.converged and fit.singular
    assert fit.status == Status.SINGULAR.value
    assert fit.varcorr["vcov"].iloc[0] == 0.0 and np.isnan(fit.varcorr["se"].iloc[0])
    X = np.column_stack([np.ones(len(g)), x])
    beta, rss, *_ = np.linalg.lstsq(X, y, rcond=None)
    close(fit.coef, beta, rtol=1e-9, atol=1e-10)
    close(fit.sigma**2, rss / len(g), rtol=1e-9)
    close(fit.se, np.sqrt(np.diag(np.linalg.inv(X.T @ X)) * rss / len(g)), rtol=1e-7)


def test_perfect_correlation_is_flagged():
    rng, g, x = groups(1, 40, 12)
    u = rng.normal(size=40)
    y = 1 + x + u[g] + 0.5 * u[g] * x + rng.normal(size=len(g))
    fit = pmwmix.fit("y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": g}))
    assert fit.converged
    if fit.singular:
        close(fit.varcorr["sdcor"].iloc[2], 1.0, atol=1e-6)
    assert np.isfinite(fit.se).all()


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_many_small_data_sets_all_end_with_a_true_sentence(method):
    """Noise only, no slope, tiny groups, columns on wild scales: converged, finite, and no lower at the boundary."""
    for seed in range(25):
        rng, g, x = groups(seed, int(5 + seed), 3)
        y = 10.0 ** (seed % 5 - 2) * (
            1 + x + (seed % 3) * rng.normal(size=len(np.unique(g)))[g] + rng.normal(size=len(g))
        )
        d = pd.DataFrame({"y": y, "x": 10.0 ** (seed % 7 - 3) * x + seed, "g": g})
        fit = pmwmix.fit("y ~ x + (x | g)", d, method=method)
        assert fit.converged, (seed, fit.status)
        assert np.isfinite(fit.se).all()
        smaller = pmwmix.fit("y ~ x + (1 | g)", d, method=method)
        assert fit.loglik > smaller.loglik - 1e-6, seed


def test_a_likelihood_without_maximum_is_said_to_have_none():
    """Weights far above 1 in groups of one or two rows: the random effects can fit every row exactly."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(20), [1, 2] * 10)
    d = pd.DataFrame({"y": rng.normal(size=len(g)), "x": rng.normal(size=len(g)), "g": g, "w": 15.0, "v": 1.0})
    fit = pmwmix.fit("y ~ x + (x | g)", d, weights=["w", "v"], conditional=True)
    assert not fit.converged and fit.status == Status.UNBOUNDED.value
    assert "scaling='size'" in fit.status


def test_groups_with_one_row():
    d = nested()
    lonely = d.groupby("school").head(1)
    rest = d[d["school"] < 7]
    mixed = pd.concat([lonely[lonely["school"] >= 7], rest])
    fit = pmwmix.fit("y ~ x + (1 | school)", mixed)
    assert fit.converged and fit.n_groups["school"] == 14


class Bowl:
    """A saddle at zero and minima at +-1 in the first coordinate; a parabola in the second."""

    def __init__(self, theta):
        x, y = theta
        self.theta = theta
        self.value = (x**2 - 1) ** 2 + (y - 2) ** 2
        self.gradient = np.array([4 * x * (x**2 - 1), 2 * (y - 2)])
        self.hessian = np.diag([12 * x**2 - 4, 2.0])


def test_minimise_leaves_a_saddle():
    found = minimise(Bowl, np.array([0.0, 0.0]))
    assert found.converged and found.status is Status.CONVERGED
    close(np.abs(found.point.theta), [1.0, 2.0], atol=1e-7)
    assert found.n_steps == len(found.path)


class Costly:
    """Sum of log cosh of mixed coordinates, or Rosenbrock's valley, in ten; counts its Hessians."""

    frugal, asked = True, 0

    def __init__(self, theta, curved=False):
        from scipy.optimize import rosen, rosen_der, rosen_hess

        self.theta, A = theta, np.eye(10) + 0.3 * np.tri(10)
        z = A @ theta - 1.0
        self.value = rosen(theta) if curved else np.logaddexp(z, -z).sum()
        self.gradient = rosen_der(theta) if curved else A.T @ np.tanh(z)
        self.second = rosen_hess(theta) if curved else A.T @ np.diag(np.cosh(z) ** -2.0) @ A

    @property
    def hessian(self):
        Costly.asked += 1
        return self.second


@pytest.mark.parametrize("curved", [False, True])
def test_climbs_with_few_second_derivatives_end_where_others_do(curved):
    asked = {}
    for frugal in (False, True):
        Costly.frugal, Costly.asked = frugal, 0
        found = minimise(lambda theta: Costly(theta, curved), np.linspace(-0.8, 0.8, 10))
        assert found.converged
        asked[frugal] = Costly.asked
        expected = np.ones(10) if curved else np.linalg.solve(np.eye(10) + 0.3 * np.tri(10), np.ones(10))
        close(found.point.theta, expected, 1e-7)
    assert asked[True] < asked[False] or curved


def test_second_order_steps_need_few_evaluations():
    fit = pmwmix.fit("y ~ x + (1 + x | school)", nested())
    assert fit.rows.fit.n_steps <= 12


def test_warm_starts_do_not_change_estimates():
    d = nested()
    rng = np.random.default_rng(0)
    for k in (1, 2, 3):
        d[f"P{k}"] = d["y"] + rng.normal(size=len(d))
    pooled = pmwmix.fit("p ~ x + (1 + x | school)", d, pv={"p": ["P3", "P1", "P2"]})
    for part, name in zip(pooled.fits, ["P3", "P1", "P2"], strict=True):
        alone = pmwmix.fit(f"{name} ~ x + (1 + x | school)", d)
        close(part.coef, alone.coef, rtol=1e-6)
        close(part.varcorr["vcov"], alone.varcorr["vcov"], rtol=1e-5)


def test_large_offsets_do_not_cost_digits():
    """A mean of 1e8 beside a spread of 1: raw cross-products would lose all 16 digits."""
    d = nested()
    far = d.assign(x=d["x"] + 1e8, y=d["y"] + 1e8)
    near = pmwmix.fit("y ~ x + (1 + x | school)", d)
    fit = pmwmix.fit("y ~ x + (1 + x | school)", far)
    close(fit.coef["x"], near.coef["x"], rtol=1e-5)
    close(fit.loglik, near.loglik, atol=1e-4)
    close(fit.varcorr["vcov"].iloc[1], near.varcorr["vcov"].iloc[1], rtol=1e-3)


def test_a_small_linear_fit_loads_no_compiler():
    """A person's first fit waits for imports alone, and PyTensor and JAX are the largest."""
    code = """
import sys
import numpy as np, pandas as pd, pmwmix
rng = np.random.default_rng(1)
g = np.repeat(np.arange(20), 10)
d = pd.DataFrame({"g": g, "x": rng.normal(size=200), "y": rng.normal(size=20)[g] + rng.normal(size=200)})
fit = pmwmix.fit("y ~ x + (1 | g)", d)
assert fit.converged and "Fixed effects" in str(fit.summary()) and fit.predict(d).notna().all()
print(sorted({"jax", "pytensor", "pymc", "scipy.stats"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
