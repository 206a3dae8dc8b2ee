"""The simulator: known truth, honest weights, proper plausible values.

Monte-Carlo tolerances are four standard errors, estimated from the spread of the replications themselves: with fixed
seeds a test passes always or never, and a correct simulator would fail one seed choice in 16,000.
"""

import numpy as np
import pandas as pd
import pytest

from pmwmix.errors import OptionError
from pmwmix.simulate import SimulatedSurvey, simulate_survey

SEEDS = range(60)


def within_four_se(values, target):
    """Say whether the mean of independent replications agrees with ``target``."""
    values = np.asarray(values)
    return abs(values.mean() - target) < 4 * values.std(ddof=1) / np.sqrt(len(values))


def fixed_residual(survey: SimulatedSurvey, column: str = "PV1MATH") -> pd.Series:
    """Give the score without its fixed part: b0 + b1 escs + eps, with mean zero in the population."""
    names = [name for name in survey.truth.index if name in survey.data.columns]
    return survey.data[column] - survey.truth["Intercept"] - survey.data[names] @ survey.truth[names]


@pytest.fixture(scope="module")
def surveys() -> list[SimulatedSurvey]:
    return [simulate_survey(60, 15, n_pv=1, random_seed=seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def schools(surveys) -> list[pd.DataFrame]:
    return [survey.data.drop_duplicates("SCHOOLID") for survey in surveys]


def test_same_seed_same_data_other_seed_other_data():
    first, again, other = (simulate_survey(20, 8, random_seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first.data, again.data)
    assert not np.allclose(first.data["PV1MATH"], other.data["PV1MATH"])


@pytest.mark.parametrize("n_covariates", [1, 2, 4])
def test_columns_truth_and_call_name_the_same_things(n_covariates):
    survey = simulate_survey(11, 7, n_covariates=n_covariates, n_pv=3, random_seed=1)
    names = ["escs", "female", "x3", "x4"][:n_covariates]
    assert survey.formula == f"math ~ {' + '.join(names)} + (1 + escs | SCHOOLID)"
    components = ["var(SCHOOLID Intercept)", "cov(SCHOOLID Intercept, escs)", "var(SCHOOLID escs)", "var(Residual)"]
    assert list(survey.truth.index) == ["Intercept", *names, *components]
    scores = [survey.pv["math"].format(k) for k in (1, 2, 3)]
    ids = ["CNT", "SCHOOLID", "STIDSTD"]
    assert list(survey.data.columns) == [*ids, *survey.weights, *names, *scores]
    assert len(survey.data) == 77 and survey.data["SCHOOLID"].nunique() == 11 and survey.data["STIDSTD"].is_unique


def test_truth_holds_the_arguments():
    survey = simulate_survey(5, 4, psi=[[9, 1], [1, 4]], sigma=3, beta=[1, 2, -3], random_seed=1)
    assert survey.truth.tolist() == [1, 2, -3, 9, 1, 4, 9]


@pytest.mark.parametrize("informative", [True, False])
def test_weights_are_those_of_a_two_stage_sample(informative):
    data = simulate_survey(40, 12, informative=informative, random_seed=5).data
    assert (data["W_FSCHWT"] >= 1).all() and (data["W_FSTUWT"] >= data["W_FSCHWT"]).all()
    assert (data.groupby("SCHOOLID")["W_FSCHWT"].nunique() == 1).all()
    assert (data["W_FSTUWT"].nunique() == 1) is not informative


def test_school_weights_add_up_to_the_number_of_schools(surveys, schools):
    sums = [table["W_FSCHWT"].sum() for table in schools]
    assert within_four_se(sums, surveys[0].population["schools"])


def test_student_weights_add_up_to_the_number_of_students(surveys):
    ratios = [survey.data["W_FSTUWT"].sum() / survey.population["students"] for survey in surveys]
    assert within_four_se(ratios, 1.0)
    assert np.std(ratios) < 0.15  # 60 schools whose sizes vary by half, drawn nearly in proportion to size


def test_all_schools_drawn_means_school_weights_of_one():
    survey = simulate_survey(12, 5, n_population_schools=12, random_seed=2)
    assert survey.data["SCHOOLID"].nunique() == 12 and (survey.data["W_FSCHWT"] == 1).all()


@pytest.mark.parametrize("n_population_schools", [13, 20])
def test_small_populations_have_certain_schools_and_exact_counts(n_population_schools):
    for seed in SEEDS:
        data = simulate_survey(12, 4, n_population_schools=n_population_schools, n_pv=1, random_seed=seed).data
        assert data["SCHOOLID"].nunique() == 12 and (data["W_FSCHWT"] >= 1).all()


def test_weighted_means_recover_the_population_and_unweighted_ones_do_not(surveys):
    residuals = [fixed_residual(survey) for survey in surveys]
    # Hajek means over 60 schools are biased by O(1/60) of their spread, far below the tolerance.
    weighted = [np.average(r, weights=s.data["W_FSTUWT"]) for r, s in zip(residuals, surveys, strict=True)]
    assert within_four_se(weighted, 0.0)
    # Two thirds of the sample are from the half below: -sigma sqrt(2/pi) / 3 = -20; schools add about -0.45 x 45 more.
    assert -45 < np.mean([r.mean() for r in residuals]) < -30


def test_informative_within_schools_too(surveys):
    """Conditional weights alone move the within-school mean: level 1 is informative given level 2."""
    shifts = []
    for survey in surveys:
        residual = fixed_residual(survey)
        w_cond = survey.data["W_FSTUWT"] / survey.data["W_FSCHWT"]
        shifts.append(np.average(residual, weights=w_cond) - residual.mean())
    assert np.mean(shifts) > 15  # about 20 score points, see above


def test_weighted_variance_is_the_models(surveys):
    """E(b0 + b1 escs + eps)^2 = psi00 + psi11 E(escs^2) + sigma^2, as escs has mean 0 and variance 1."""
    squares = [np.average(fixed_residual(s) ** 2, weights=s.data["W_FSTUWT"]) for s in surveys]
    assert within_four_se(squares, 2025 + 100 + 5625)


def test_equal_probabilities_need_no_weights():
    means = [
        fixed_residual(simulate_survey(60, 15, n_pv=1, informative=False, random_seed=seed)).mean() for seed in SEEDS
    ]
    assert within_four_se(means, 0.0)


@pytest.mark.parametrize("reliability", [0.5, 0.9])
def test_plausible_values_vary_as_the_score_and_share_what_was_measured(reliability):
    survey = simulate_survey(
        4000, 5, n_pv=3, psi=np.zeros((2, 2)), informative=False, reliability=reliability, random_seed=8
    )
    eps = np.column_stack([fixed_residual(survey, f"PV{k}MATH") for k in (1, 2, 3)])
    # Fourth moments of normals: a (co)variance from n rows has standard error at most sigma^2 sqrt(2 / n).
    tolerance = 4 * 75**2 * np.sqrt(2 / len(eps))
    expected = 75**2 * (reliability + (1 - reliability) * np.eye(3))
    np.testing.assert_allclose(np.cov(eps.T), expected, atol=tolerance)


def test_a_perfect_test_makes_all_plausible_values_agree():
    data = simulate_survey(10, 5, n_pv=2, reliability=1.0, random_seed=1).data
    np.testing.assert_array_equal(data["PV1MATH"], data["PV2MATH"])


def test_random_effects_have_covariance_psi():
    """Without noise a school's scores lie on its own line, so b can be read off; every school of the population."""
    survey = simulate_survey(
        5000, 4, sigma=1e-6, n_population_schools=5000, informative=False, n_pv=1, n_covariates=1, random_seed=6
    )
    table = survey.data.assign(r=fixed_residual(survey)).groupby("SCHOOLID")
    first, last = table.nth(0).set_index("SCHOOLID"), table.nth(1).set_index("SCHOOLID")
    slope = (first["r"] - last["r"]) / (first["escs"] - last["escs"])
    b = np.cov(first["r"] - slope * first["escs"], slope)
    # Standard error of a variance is psi sqrt(2 / 5000) = 2 %, of the covariance sqrt(psi00 psi11 / 5000) = 6.4.
    np.testing.assert_allclose(np.diag(b), [2025, 100], rtol=0.08)
    assert abs(b[0, 1] - 90) < 4 * 6.4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_schools": 1}, "n_schools is 1"),
        ({"n_schools": 10.5}, r"n_schools is 10\.5"),
        ({"n_students": 1}, "n_students is 1"),
        ({"n_pv": 0}, "n_pv is 0"),
        ({"n_covariates": 0}, "n_covariates is 0"),
        ({"sigma": 0.0}, r"sigma is 0\.0"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"reliability": 0.0}, r"reliability is 0\.0"),
        ({"reliability": 1.1}, "reliability is 1.1.*at most 1"),
        ({"beta": [500.0, 30.0]}, "beta is .*2 slopes"),
        ({"beta": [500.0, 30.0, np.inf]}, "beta is .*inf"),
        ({"psi": 3.0}, "psi is 3"),
        ({"psi": "large"}, "psi is 'large'"),
        ({"psi": ((1.0, 2.0), (2.0, 1.0))}, "psi is .*c\\*c at most"),
        ({"psi": ((1.0, 0.5), (0.0, 1.0))}, "symmetric.*psi is"),
        ({"n_population_schools": 149}, "n_population_schools is 149.*at least 150"),
        ({"random_seed": -1}, "random_seed is -1"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(OptionError, match=named):
        simulate_survey(**arguments)
