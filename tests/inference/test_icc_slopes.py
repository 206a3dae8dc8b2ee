"""Intraclass correlations of models with random slopes: Johnson's mean over the rows, whatever the origin of x."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested

import pmwmix


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(30), 20)
    x, f = rng.normal(size=600), rng.choice(list("ab"), 600)
    y = 1 + 0.5 * x + rng.normal(size=30)[g] + 0.5 * rng.normal(size=30)[g] * x + rng.normal(size=600)
    return pd.DataFrame(
        {"g": g, "x": x, "f": f, "y": y, "age": x + 15.8, "w": rng.uniform(1, 4, 600), "W": 1.0 + g % 3}
    )


def johnson(fit, x, w=None):
    v = fit.varcorr["vcov"].to_numpy()
    Z, Psi = np.column_stack([np.ones(len(x)), x]), np.array([[v[0], v[2]], [v[2], v[1]]])
    mean = np.average(np.einsum("ij,jk,ik->i", Z, Psi, Z), weights=w)
    return mean / (mean + v[3])


def test_the_origin_of_x_does_not_matter(rows):
    one, other = (pmwmix.fit(f"y ~ {x} + (1 + {x} | g)", rows) for x in ("x", "age"))
    close(one.icc, johnson(one, rows["x"]), rtol=1e-10)
    close(other.icc, one.icc, rtol=1e-5)
    close(pmwmix.icc_se(one)["icc"], one.icc)
    close(pmwmix.icc_se(other)["std_error"], pmwmix.icc_se(one)["std_error"], rtol=1e-3)
    assert "mean over the rows" in one.summary().to_text(1000)
    assert "mean over" not in str(pmwmix.fit("y ~ x + (1 | g)", rows).summary())
    r2 = one.r2()["estimate"]
    close((r2["conditional"] - r2["marginal"]) / (1 - r2["marginal"]), one.icc, rtol=1e-8)


def test_at_a_chosen_value(rows):
    fit = pmwmix.fit("y ~ age + (1 + age | g)", rows)
    v = fit.varcorr["vcov"].to_numpy()
    for age in (0.0, 15.8):
        random = v[0] + 2 * age * v[2] + age**2 * v[1]
        close(pmwmix.icc_se(fit, at={"age": age})["icc"], random / (random + v[3]), rtol=1e-10)
    by = pmwmix.fit("y ~ x + f + (0 + f | g)", rows)
    psi = by.varcorr[by.varcorr["var2"].isna()].set_index("var1")["vcov"]
    close(pmwmix.icc_se(by, at={"f": "b"})["icc"], psi["f[b]"] / (psi["f[b]"] + by.sigma**2), rtol=1e-8)
    for wrong in ({}, {"age": 1.0, "y": 2.0}):
        with pytest.raises(pmwmix.PmwmixError, match=r"'y' has none|'age' is missing"):
            pmwmix.icc_se(fit, at=wrong)


def test_slopes_without_an_intercept_share_the_variance_too(rows):
    fit = pmwmix.fit("y ~ age + (0 + age | g)", rows)
    psi, sigma2 = fit.varcorr["vcov"]
    mean = psi * (rows["age"] ** 2).mean()
    close(fit.icc, mean / (mean + sigma2), rtol=1e-10)


def test_rows_count_by_their_total_weights(rows):
    fit = pmwmix.fit("y ~ x + (1 + x | g)", rows, weights=["w", "W"], conditional=True, scaling="size")
    close(fit.icc, johnson(fit, rows["x"], rows["w"] * rows["W"]), rtol=1e-10)
    close(pmwmix.icc_se(fit)["icc"], fit.icc)


def test_three_levels_and_crossed_factors(rows):
    table = nested()
    fit = pmwmix.fit("y ~ x + (1 | school/classroom) + (0 + x | school)", table)
    v = fit.varcorr.set_index(["grp", "var1"])["vcov"]
    low, high = v["classroom:school", "Intercept"], v["school", "Intercept"]
    high += v[next(g for g in v.index if g[1] == "x")] * (table["x"] ** 2).mean()
    total = low + high + fit.sigma**2
    close(fit.icc, [(low + high) / total, high / total], rtol=1e-9)
    both = rows.assign(k=np.random.default_rng(2).integers(0, 9, 600))
    crossed = pmwmix.fit("y ~ x + (1 + x | g) + (1 | k)", both)
    v = crossed.varcorr.set_index("grp")["vcov"]
    z = np.array([1.0, (rows["x"] ** 2).mean(), 2 * rows["x"].mean()])
    parts = np.array([v["g"].to_numpy() @ z, v["k"], v["Residual"]])
    close(crossed.icc[["g", "k"]], parts[:2] / parts.sum(), rtol=1e-9)
