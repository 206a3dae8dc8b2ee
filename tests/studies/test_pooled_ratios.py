"""D3 and D4: mitml's numbers, identities, messages."""

import numpy as np
import pytest
from helpers import close, survey

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.pooling.ratios import pooled_ratio
from pmwmix.studies.sharedlikelihood import highest_loglik, shared_loglik

NULL, FEMALE, BOTH, SLOPE = (
    f"math ~ {right}" for right in ("1 + (1 | SCHOOLID)", "female + (1 | SCHOOLID)", "escs + female + (1 | SCHOOLID)",
                                    "escs + female + (1 + escs | SCHOOLID)")
)  # fmt: skip
MITML = {  # mitml 0.4-4 testModels on fits of lme4 1.1-31 (D3 and slope) and nlme (D4): F, p
    ("D2", NULL, BOTH): (25.156764928, 1.33038782134e-11),
    ("D3", NULL, BOTH): (23.6919782013, 1.92585747538e-10),
    ("D4", NULL, BOTH): (23.6921569064, 7.79073790973e-11),
    ("D3", FEMALE, BOTH): (48.5095902256, 5.22909651878e-12),
    ("D4", FEMALE, BOTH): (48.5099349015, 5.2276485731e-12),
    ("D3", BOTH, SLOPE): (1.3579189992, 0.257708909158),
    ("D4", BOTH, SLOPE): (1.39083259348, 0.248941207519),
}


@pytest.fixture(scope="module")
def fits():
    s = survey()
    return {formula: pmwmix.fit(formula, s.data, pv=s.pv) for formula in (NULL, FEMALE, BOTH, SLOPE)}


@pytest.mark.parametrize("rule, small, large", list(MITML), ids=lambda part: part[:16])
def test_pooled_ratios_agree_with_mitml(fits, rule, small, large):
    row = pmwmix.lrt(fits[small], fits[large], pooling=rule).iloc[1]
    # lme4's default tolerance on the boundary leaves its slope models a little below the maximum
    close([row["chisq"] / row["df"], row["p_value"]], MITML[rule, small, large], rtol=1e-6)


def test_equal_imputations_give_the_plain_test(fits):
    small, large = (pmwmix.pool([fits[name].fits[0]] * 3) for name in (NULL, BOTH))
    plain = pmwmix.lrt(fits[NULL].fits[0], fits[BOTH].fits[0]).iloc[1]
    for rule in ("D3", "D4"):
        close(
            pmwmix.lrt(small, large, pooling=rule).iloc[1][["chisq", "p_value"]], plain[["chisq", "p_value"]], rtol=1e-7
        )


def test_shared_likelihoods_are_in_order(fits):
    """At the maximum of one imputation both are its log-likelihood; the mean of maxima is above the shared maximum."""
    for name in (BOTH, SLOPE):
        fit = fits[name]
        close([f(fit.fits[1]) for f in (shared_loglik, highest_loglik)], [fit.fits[1].loglik] * 2, rtol=1e-10)
        assert shared_loglik(fit) <= highest_loglik(fit) <= np.mean([one.loglik for one in fit.fits])


def test_imputed_predictors_have_likelihoods_of_their_own(fits):
    """Every table has its own centring and scale; shared parameters are on the raw one."""
    s, rng = survey(), np.random.default_rng(1)
    tables = [s.data.assign(escs=s.data["escs"] * 3 + rng.normal(size=len(s.data))) for _ in range(3)]
    one, two = (pmwmix.fit(f"PV1MATH ~ {right} + (1 + escs | SCHOOLID)", tables) for right in ("escs", "escs + female"))
    close(shared_loglik(one.fits[2]), one.fits[2].loglik, rtol=1e-10)
    row = pmwmix.lrt(one, two, pooling="D4").iloc[1]
    assert 0 < row["p_value"] < 1 and shared_loglik(two) <= highest_loglik(two)


def test_negative_increases_of_variance_count_as_none():
    chisq, df2, p = pooled_ratio(6.0, 7.0, 5, 2, "D3")
    assert np.isinf(df2) and chisq == 7.0
    close(p, np.exp(-3.5))


def test_models_without_such_a_likelihood_are_refused(fits):
    s = survey()
    weighted = [pmwmix.fit(name, s.data, pv=s.pv, weights=s.weights) for name in (NULL, FEMALE)]
    sets = {"pv": {"math": ["PV1MATH", "PV2MATH"]}, "family": "binomial", "n_agq": 1}
    binary = [pmwmix.fit(f"(math > 480) ~ {right} + (1 | SCHOOLID)", s.data, **sets) for right in ("1", "female")]
    for words, pair in (("has sampling weights", weighted), ("not that of a linear model", binary)):
        with pytest.raises(NotSupportedError, match=words):
            pmwmix.lrt(*pair, pooling="D3")
    with pytest.raises(OptionError, match="'D5'"):
        pmwmix.lrt(fits[NULL], fits[BOTH], pooling="D5")
    reml = [pmwmix.fit(name, s.data, pv=s.pv, method="reml") for name in (BOTH, SLOPE)]
    with pytest.raises(NotSupportedError, match="fitted by REML"):
        pmwmix.lrt(*reml, refit=False, pooling="D4")
