"""Outcomes drawn under a residual structure, and refits to them: covariances by formula, fresh fits, errors."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.resampling.refitted import refit_outcomes

AR1 = {"correlation": "ar1", "time": "t", "group": "g"}
STRUCTURES = {
    "ar1": ("y ~ x + (1 | g)", {**AR1, "variance": "ident(s)"}),
    "unstructured": ("y ~ x", {**AR1, "correlation": "unstructured"}),
    "exponential": ("y ~ x", {"correlation": "exponential", "distance": ["t", "x"], "group": "g", "nugget": True}),
    "power(fitted)": ("y ~ x + (1 | g)", {"variance": "power(fitted)"}),
    "ar1 and exp": ("y ~ x", {**AR1, "variance": "exp(x)"}),
}


@functools.cache
def panel() -> pd.DataFrame:
    """Forty groups of three to five rows, shuffled."""
    rng = np.random.default_rng(2)
    g, t = np.repeat(np.arange(40), 5), np.tile(np.arange(5), 40)
    e = rng.normal(size=(40, 5))
    for j in range(1, 5):
        e[:, j] = 0.6 * e[:, j - 1] + 0.8 * e[:, j]
    d = pd.DataFrame({"g": g, "t": t, "x": rng.normal(size=200), "s": np.where(g % 2, "b", "a")})
    d["y"] = 9 + d["x"] + (1 + 0.7 * (g % 2)) * e.ravel() + rng.normal(size=40)[g]
    return d[(t < 3) | (g % 3 > 0)].sample(frac=1.0, random_state=1).reset_index(drop=True)


@functools.cache
def fitted(name: str) -> pmwmix.FitResult:
    formula, residual = STRUCTURES[name]
    return pmwmix.fit(formula, panel(), residual=residual)


def covariance(name: str, rows: pd.DataFrame) -> np.ndarray:
    """Written another way than in the package: sigma² D Gamma D of the rows of one group, entry by entry."""
    fit, p = fitted(name), fitted(name).residual_structure
    t, x = rows["t"].to_numpy(), rows["x"].to_numpy()
    apart, one = np.abs(t[:, None] - t), np.eye(len(rows), dtype=bool)
    gamma, sd = np.eye(len(rows)), np.ones(len(rows))
    if name.startswith("ar1"):
        gamma = p["phi"] ** apart
    elif name == "unstructured":
        gamma = np.array([[1.0 if a == b else p[f"cor({min(a, b)},{max(a, b)})"] for b in t] for a in t])
    elif name == "exponential":
        away = np.sqrt(apart**2 + (x[:, None] - x) ** 2)
        gamma = np.where(one, 1.0, (1 - p["nugget"]) * np.exp(-away / p["range"]))
    if name == "ar1":
        sd = np.where(rows["s"] == "b", p["s[b]"], 1.0)
    elif name == "ar1 and exp":
        sd = np.exp(p["exp(x)"] * x)
    elif name == "power(fitted)":
        sd = np.abs(fit.fitted().loc[rows.index].to_numpy()) ** p["power(fitted)"]
    return fit.sigma**2 * np.outer(sd, sd) * gamma


@pytest.mark.parametrize("name", STRUCTURES)
def test_residuals_are_drawn_with_the_covariance_of_the_model(name):
    fit, d = fitted(name), panel()
    n, rows = len(d), fit.rows
    L = np.array([rows.residuals_of(one) for one in np.eye(n)]).T
    V = L @ L.T
    for _, part in d.groupby("g"):
        here = part.index.to_numpy()
        close(V[np.ix_(here, here)], covariance(name, part), rtol=1e-6, atol=1e-9)
        V[np.ix_(here, here)] = 0.0
    assert np.abs(V).max() == 0.0
    back = np.linalg.solve(L, d["y"] - fit.fitted().to_numpy())
    close(back, fit.residuals("normalized"), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["ar1", "power(fitted)"])
def test_a_refit_is_a_fit(name):
    """To the same outcome, through the call; with fitted values in the variance as often as they need."""
    fit, d = fitted(name), panel()
    y = fit.simulate(1, random_seed=3)["sim_1"]
    found = refit_outcomes(fit, fit.rows, lambda rng: y.to_numpy(), (1,), 1)
    again = pmwmix.fit(STRUCTURES[name][0], d.assign(y=y), residual=STRUCTURES[name][1])
    assert found.converged[0] and again.converged
    rtol = 1e-5 if name == "ar1" else 1e-3  # a loop over fitted values ends where they move by less than 1e-4
    close(found.values[0, :2], again.coef, rtol=rtol)
    close(found.values[0, -len(again.residual_structure) :], again.residual_structure, rtol=rtol, atol=1e-4)


def test_bootstrap_errors_are_those_of_the_model():
    fit = fitted("ar1")
    boot = fit.bootstrap(120, random_seed=1)
    table, own = boot.tidy().set_index("term"), fit.residual_table()
    assert list(table.index) == ["Intercept", "x", "g Intercept", "Residual", "phi", "s[b]"]
    close(table.loc[["phi", "s[b]"], "std_error"], own["std_error"], rtol=0.3)  # 120 refits: 6 %, and curvature
    close(table.loc[["Intercept", "x"], "std_error"], fit.se, rtol=0.25)
    alone = boot.tidy(of=lambda one: one.residual_structure).set_index("term")
    close(alone["std_error"], table.loc[["phi", "s[b]"], "std_error"], rtol=1e-12)
    assert boot.estimates["phi"].between(-1, 1).all()


def test_power_of_a_plan_with_correlated_residuals():
    """The effect at its estimate is found about as often as its own error says."""
    from scipy import stats

    fit = fitted("ar1 and exp")
    power = pmwmix.power(fit, effects={"x": 2.0 * fit.se["x"]}, n=100, random_seed=2)
    expected = 1 - stats.norm.cdf(1.96 - 2.0) + stats.norm.cdf(-1.96 - 2.0)
    rate = float(power.loc[power["term"] == "x", "power"].iloc[0])
    assert abs(rate - expected) < 4.0 * np.sqrt(expected * (1 - expected) / 100)
