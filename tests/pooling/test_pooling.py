"""Rubin's rules by hand, the table of pooling rules, pooled fits."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, survey

import pmwmix
from pmwmix.pooling import pool
from pmwmix.pooling.rubin import barnard_rubin, pooled_wald, rubin


def test_rubin_by_hand():
    """EdSurvey methods, eqs. 6-8: V_imp = (K + 1) / ((K - 1) K) Σ (b_k - b)², V_samp = mean of the variances."""
    rng = np.random.default_rng(0)
    b, v = rng.normal(size=(5, 2)), rng.uniform(1, 2, (5, 2))
    pooled = rubin(b, np.array([np.diag(x) for x in v]), 40.0)
    imputation = 6 / (4 * 5) * ((b - b.mean(0)) ** 2).sum(0)
    close(pooled.estimate, b.mean(0))
    close(np.diag(pooled.vcov), imputation + v.mean(0))
    share = imputation / (imputation + v.mean(0))
    old, observed = 4 / share**2, 41 / 43 * 40 * (1 - share)
    close(pooled.df, 1 / (1 / old + 1 / observed))
    close(barnard_rubin(share, 5, np.inf), old)
    assert (pooled.df < 40).all()


def test_numbers_pooled_one_by_one_are_the_diagonal_of_those_pooled_together():
    rng = np.random.default_rng(1)
    values, variances, df = rng.normal(size=(4, 3)), rng.uniform(1, 2, (4, 3)), np.array([10.0, 30.0, np.inf])
    alone = pool(values, variances, df)
    together = pool(values, np.array([np.diag(v) for v in variances]), df)
    close(alone.vcov, np.diag(together.vcov))
    close(alone.added, 5 / 4 * values.var(axis=0, ddof=1))
    for name in ("estimate", "fmi", "df"):
        close(getattr(alone, name), getattr(together, name))
    single = pool(values[:1], variances[:1], df)
    close(single.vcov, variances[0])
    close(single.df, df)


def test_pooling_fits_made_elsewhere_equals_one_call():
    s = survey()
    options = {"weights": s.weights, "scaling": "size"}
    inside = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, pv=s.pv, **options)
    apart = [pmwmix.fit(f"PV{k}MATH ~ escs + (1 | SCHOOLID)", s.data, **options) for k in range(1, 6)]
    outside = pmwmix.pool(apart)
    pd.testing.assert_frame_equal(outside.tidy(), inside.tidy(), rtol=1e-6)
    close(outside.varcorr["se"], inside.varcorr["se"], rtol=1e-5)
    close(pmwmix.pool([inside]).se, inside.se)


def test_coefficients_of_another_reference_are_warned_of():
    rng, fits = np.random.default_rng(1), []
    for absent in ("a", "b"):
        kept = [one for one in ("a", "b", "c") if one != absent]
        d = pd.DataFrame({"z": rng.normal(size=90), "r": np.tile(kept, 45)})
        fits.append(pmwmix.fit("y ~ z + r", d.assign(y=d["z"] + rng.normal(size=90))))
    with pytest.warns(pmwmix.PmwmixWarning, match=r"mean different things in different fits.*r\[T.c\]"):
        pmwmix.pool(fits)
    assert len(pmwmix.pool([fits[0], fits[0]]).fits) == 2


def test_correlations_are_pooled_on_fishers_z():
    s = survey()
    fit = pmwmix.fit("math ~ escs + (1 + escs | SCHOOLID)", s.data, weights=s.weights, pv=s.pv)
    each = np.array([part.varcorr["sdcor"].iloc[2] for part in fit.fits])
    assert np.abs(each).max() < 1
    close(fit.varcorr["sdcor"].iloc[2], np.tanh(np.arctanh(each).mean()), rtol=1e-9)
    variances = [part.varcorr["vcov"].iloc[0] for part in fit.fits]
    close(fit.varcorr["vcov"].iloc[0], np.mean(variances))
    close(fit.icc, np.mean([part.icc for part in fit.fits]))


def test_pooled_wald_by_hand():
    """D1 of Li, Raghunathan & Rubin (1991): F = b'U⁻¹b / (k (1 + r)), r = (1 + 1/K) tr(BU⁻¹) / k."""
    rng = np.random.default_rng(0)
    b, K = np.array([1.0, -2.0]), 5
    U, Z = np.diag([0.5, 0.8]), rng.normal(size=(2, 2)) / 5
    B = Z @ Z.T
    r = (1 + 1 / K) * np.trace(B @ np.linalg.inv(U)) / 2
    F, df = pooled_wald(b, U, B, K)
    close(F, b @ np.linalg.inv(U) @ b / (2 * (1 + r)))
    close(df, 4 + (8 - 4) * (1 + (1 - 2 / 8) / r) ** 2)
    same, df = pooled_wald(b, U, 0 * B, K, 30.0)
    close([same, df], [b @ np.linalg.inv(U) @ b / 2, 30.0])
    s = survey()
    fit = pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="size", pv=s.pv)
    joint = fit.wald(["escs", "female"])
    assert joint["df1"] == 2 and 0 < joint["p_value"] < 1 and joint["df2"] < 39
