"""Pooled components of which some plausible values are on the boundary; replicate fits beside other variances."""

import numpy as np
import pandas as pd
import pytest
from helpers import close
from scipy.special import stdtrit

import pmwmix
from pmwmix.errors import DataError, FormulaError


@pytest.fixture(scope="module")
def table():
    """25 groups of 8, five plausible values; without slopes in some, whose correlation is one."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(25), 8)
    x, u, v = rng.normal(size=200), rng.normal(size=25), 0.3 * rng.normal(size=25)
    out = pd.DataFrame({"g": g, "x": x})
    for k in range(1, 6):
        out[f"PV{k}"] = x + 0.6 * u[g] + 0.35 * v[g] * x * (k != 3) + rng.normal(size=200)
    out["w"] = rng.uniform(1, 3, 25)[g]
    for r in range(1, 9):
        out[f"R{r}"] = out["w"] * rng.choice([0.5, 1.5], 25)[g]
    return out


def test_a_correlation_keeps_its_interval_where_some_values_are_on_the_boundary(table):
    """By hand: Fisher's z of the mean covariances, linearised there; variance within from the other values."""
    fit = pmwmix.fit("score ~ x + (1 + x | g)", table, pv={"score": "PV{}"})
    inner = np.array([not one.singular for one in fit.fits])
    assert 0 < inner.sum() < 5
    values = np.array([one.parameters[0][2:5] for one in fit.fits])  # variance, covariance, variance
    V = np.array([one.parameters[1][2:5, 2:5] for one in fit.fits])
    a, c, b = values.mean(axis=0)
    r = c / np.sqrt(a * b)
    slope = np.array([-0.5 * r / a, 1 / np.sqrt(a * b), -0.5 * r / b]) / (1 - r**2)
    within = np.mean([slope @ one @ slope for one in V[inner]])
    added = 1.2 * np.var(values @ slope, ddof=1)
    se, df = np.sqrt(within + added), 4 * ((within + added) / added) ** 2
    row = fit.confint_varcorr().iloc[2]
    close(row["estimate"], r, rtol=1e-9)
    close(row["se"], se * (1 - r**2), rtol=1e-9)
    ends = np.tanh(np.arctanh(r) + np.array([-1, 1]) * stdtrit(df, 0.975) * se)
    close([row["ci_low"], row["ci_high"]], ends, rtol=1e-9)
    assert fit.varcorr["se"].notna().all() and fit.confint_varcorr(scale="var")["se"].notna().all()


def test_a_variance_that_is_zero_in_one_value_keeps_its_error(table):
    flat = table.assign(PV2=table["PV2"] - (table["PV2"] - table["x"]).groupby(table["g"]).transform("mean"))
    fit = pmwmix.fit("score ~ x + (1 | g)", flat, pv={"score": "PV{}"})
    variances = np.array([one.varcorr["vcov"][0] for one in fit.fits])
    errors = np.array([one.varcorr["se"][0] for one in fit.fits])
    assert np.isnan(errors[1]) and variances[1] == 0.0
    close(fit.varcorr["se"][0] ** 2, np.nanmean(errors**2) + 1.2 * variances.var(ddof=1), rtol=1e-12)


def test_design_effects_of_a_replicate_fit_show_its_own_variance(table):
    design = pmwmix.Design(replicate_weights="R{}", replicate_type="brr")
    fit = pmwmix.fit("PV1 ~ x + (1 | g)", table, weights={"g": "w"}, design=design)
    found = pmwmix.design_effects(fit)
    close(found["se_replicate"], fit.se, rtol=1e-12)
    close(found["deff_replicate"], (fit.se / found["se_model"]) ** 2, rtol=1e-12)


def test_two_outcomes_and_values_without_powers_are_refused(table):
    with pytest.raises(FormulaError, match=r"Several outcomes .*PV1 \+ PV2.*I\(PV1 \+ PV2\)"):
        pmwmix.fit("PV1 + PV2 ~ x + (1 | g)", table)
    total = pmwmix.fit("I(PV1 + PV2) ~ x + (1 | g)", table)
    close(total.coef, pmwmix.fit("y ~ x + (1 | g)", table.assign(y=table["PV1"] + table["PV2"])).coef, rtol=1e-12)
    for name in ("PV1", "x"):
        with pytest.raises(DataError, match=rf"{name!r} reaches .*e\+200; the limit is 1e\+70"):
            pmwmix.fit("PV1 ~ x + (1 | g)", table.assign(**{name: 1e200 * table[name]}))
    large = pmwmix.fit("PV1 ~ x + (1 | g)", table.assign(PV1=1e60 * table["PV1"]))
    close(large.coef / 1e60, pmwmix.fit("PV1 ~ x + (1 | g)", table).coef, rtol=1e-9)
