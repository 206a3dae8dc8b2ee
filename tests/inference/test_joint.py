"""Joint tests under a covariance of few clusters: Korn and Graubard's adjustment, and no test where none is left."""

import numpy as np
import pandas as pd
import pytest
from helpers import close
from scipy.stats import f as fisher

import pmwmix

TERMS = [f"x{j}" for j in range(6)]


def sample(seed: int, n_clusters: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    c = np.repeat(np.arange(n_clusters), 25)
    table = pd.DataFrame(rng.normal(size=(len(c), 6)), columns=TERMS)
    return table.assign(c=c, y=rng.normal(size=n_clusters)[c] * 0.5 + rng.normal(size=len(c)), w=1.0, W=1.0 + c % 3)


def fit(table, terms=TERMS, **options):
    return pmwmix.fit(f"y ~ {' + '.join(terms)} + (1 | c)", table, **options)


@pytest.mark.parametrize("vcov", ["robust", "robust-block", "CR2"])
def test_no_test_of_as_many_terms_as_clusters(vcov):
    one = fit(sample(1), vcov=vcov)
    with pytest.warns(pmwmix.PmwmixWarning, match="6 contrasts cannot be tested together"):
        found = one.wald()
    assert np.isnan(found["statistic"]) and np.isnan(found["p_value"]) and found["df1"] == 6


def test_three_of_six_terms_by_hand():
    one = fit(sample(2), vcov="robust")
    found, b = one.wald(TERMS[:3], df=5), one.coef[TERMS[:3]].to_numpy()
    W = b @ np.linalg.solve(one.vcov.loc[TERMS[:3], TERMS[:3]], b)
    want = (5 - 3 + 1) / (5 * 3) * W  # Stata's svy: test, "Methods and formulas"
    close(found, [want, 3, 3, fisher.sf(want, 3, 3)])
    single = one.wald("x1")
    close(single["p_value"], one.tidy().set_index("term")["p_value"]["x1"])
    assert one.wald(TERMS[:3], df="inf")["df2"] == np.inf


@pytest.mark.parametrize("vcov", ["robust", "robust-block", "hlm"])
def test_joint_tests_of_few_clusters_are_those_of_cr2(vcov):
    one, other = fit(sample(2, 12), vcov=vcov), fit(sample(2, 12), vcov="CR2")
    close(one.wald(TERMS[:3]), other.wald(TERMS[:3]))
    sets = sample(2, 12).assign(z=lambda d: d["y"] + 0.2 * np.sin(np.arange(len(d))))
    many = [pmwmix.fit("p ~ x0 + x1 + x2 + (1 | c)", sets, pv={"p": ["y", "z"]}, vcov=kind) for kind in (vcov, "CR2")]
    close(many[0].wald(), many[1].wald())
    close(one.wald("x1")["p_value"], one.tidy().set_index("term")["p_value"]["x1"])


def clusters(seed: int, n_clusters: int, k: int) -> pd.DataFrame:
    """Predictors of clusters without an effect."""
    rng, c = np.random.default_rng(1000 + seed), np.repeat(np.arange(n_clusters), 25)
    table = pd.DataFrame(rng.normal(size=(n_clusters, k))[c], columns=TERMS[:k])
    return table.assign(c=c, y=rng.normal(size=n_clusters)[c] * 0.5 + rng.normal(size=len(c)), w=1.0, W=1.0 + c % 3)


@pytest.mark.parametrize("options", [{"vcov": "robust"}, {"weights": ["w", "W"], "conditional": True}])
def test_level_of_joint_tests_of_predictors_of_clusters(options):
    """Three predictors of 8 clusters; Korn and Graubard's rule alone rejects in more than a fifth of the samples."""
    fits = [fit(clusters(i, 8, 3), TERMS[:3], **options) for i in range(60)]
    assert np.mean([one.wald()["p_value"] < 0.05 for one in fits]) <= 0.10
    assert np.mean([one.wald(df=7)["p_value"] < 0.05 for one in fits]) > 0.2


def test_no_joint_test_of_five_predictors_of_eight_clusters():
    with pytest.warns(pmwmix.PmwmixWarning, match="5 contrasts cannot be tested together"):
        assert np.isnan(fit(clusters(1, 8, 5), TERMS[:5], vcov="robust").wald()["p_value"])


def test_level_of_joint_tests_of_few_clusters():
    """100 samples of 10 clusters without an effect of 3 terms: 5 % and two binomial errors are 9.4."""
    p = [fit(sample(100 + i, 10), TERMS[:3], vcov="robust").wald()["p_value"] for i in range(100)]
    assert np.mean(np.array(p) < 0.05) <= 0.10


def test_likelihood_ratios_and_informativeness_of_few_clusters_give_none():
    options = {"weights": ["w", "W"], "conditional": True}
    large = fit(sample(3), **options)
    with pytest.warns(pmwmix.PmwmixWarning, match="6 parameters cannot be tested together"):
        table = pmwmix.lrt(pmwmix.fit("y ~ 1 + (1 | c)", sample(3), **options), large)
    assert np.isnan(table["p_value"].iloc[1]) and np.isnan(table["bic"].iloc[0])
    assert np.isnan(pmwmix.dumouchel_duncan(large)["p_value"])


def test_pooled_likelihood_ratios_of_few_clusters_give_none():
    table = sample(3)
    table["y2"] = table["y"] + np.random.default_rng(4).normal(size=len(table)) * 0.1
    options = {"weights": ["w", "W"], "conditional": True, "pv": {"p": ["y", "y2"]}}
    large = pmwmix.fit(f"p ~ {' + '.join(TERMS)} + (1 | c)", table, **options)
    with pytest.warns(pmwmix.PmwmixWarning, match="6 parameters cannot be tested together"):
        found = pmwmix.lrt(pmwmix.fit("p ~ 1 + (1 | c)", table, **options), large)
    assert np.isnan(found["p_value"].iloc[1])
