"""Weighted statistics: published tables, R's survey, identities."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested, survey

import pmwmix
from pmwmix.descriptives.statistics import correlation, mean, percentile, quantile, share, spread
from pmwmix.errors import DataError, OptionError, PmwmixWarning

FAY = {"replicate_weights": "W_FSTR{}", "replicate_type": "fay", "fay": 0.5}
PV = {"math": "PV{}MATH", "read": "PV{}READ"}


@pytest.fixture(scope="module")
def nld(shared):
    return pd.read_csv(shared / "data" / "pisa_nld.csv.gz")


def simulated():
    s = survey()
    return s.data, {"weights": "W_FSTUWT", "pv": s.pv, "design": {"psu": "SCHOOLID"}}


@pytest.mark.reference
def test_pisa_2003_of_the_netherlands_is_what_was_printed(nld):
    """Mathematics: 538 (3.1) in table B.1.58 of NCES, males 540 and females 535 in Youth Indicators 2005, table 17."""
    options = {"statistics": "mean", "weights": "W_FSTUWT", "pv": PV, "design": FAY}
    whole = pmwmix.describe("math", nld, **options).iloc[0]
    assert (round(whole["estimate"]), round(whole["std_error"], 1)) == (538, 3.1)
    by_sex = pmwmix.describe("math", nld, by="ST03Q01", **options).set_index("ST03Q01")["estimate"]
    assert by_sex.round().to_dict() == {1.0: 535, 2.0: 540}


@pytest.mark.reference
@pytest.mark.parametrize(
    ("design", "errors"),
    [
        (FAY, {"mean": 3.130174015, "share >= 544.68": 0.01573974741, "gap": 4.291322434}),
        ({"psu": "SCHOOLID"}, {"mean": 6.175492882, "share >= 544.68": 0.03034448629, "gap": 4.060841350,
                               "sd": 2.621212401, "correlation": 0.008060046327}),
    ],
    ids=["replicates", "linearised"],
)  # fmt: skip
def test_errors_are_those_of_rs_survey(nld, design, errors):
    """R, survey 4.1: svymean, svyby(..., covmat = TRUE) with svycontrast on svrepdesign(type = "Fay", rho = 0.5,
    mse = TRUE) and svydesign(ids = ~SCHOOLID); standard deviation and correlation by svycontrast of moments."""
    options = {"weights": "W_FSTUWT", "pv": PV, "design": design}
    found = pmwmix.describe("math", nld, benchmarks=[544.68], correlate="read", **options).set_index("statistic")
    estimates = {
        "mean": 537.823276,
        "sd": 92.517044271,
        "share >= 544.68": 0.48065330688,
        "correlation": 0.872123302619,
    }
    for name, estimate in estimates.items():
        close(found.loc[name, "estimate"], estimate, rtol=1e-8)
    gap = pmwmix.describe("math", nld, by="ST03Q01", statistics="mean", gaps=True, **options).iloc[-1]
    close(gap["estimate"], 5.115685698, rtol=1e-8)
    for name, error in errors.items():
        close(gap["std_error"] if name == "gap" else found.loc[name, "std_error"], error, rtol=1e-5)


@pytest.mark.reference
def test_a_preset_says_it_all(nld):
    own = pmwmix.describe("math", nld, weights="W_FSTUWT", pv=PV, design=FAY)
    pd.testing.assert_frame_equal(pmwmix.describe("math", nld, design="pisa-2003"), own)
    robust = pmwmix.describe("math", nld, design="pisa-2003", vcov="robust", statistics="mean")
    assert robust["df"][0] < 153 and robust["std_error"][0] > 3.2  # schools in the strata of the preset


@pytest.mark.parametrize("statistic", [mean(), spread(), share(0.3), correlation()], ids=lambda one: one.name)
def test_influences_are_derivatives_in_the_weights(statistic):
    rng = np.random.default_rng(1)
    v, w = (rng.normal(size=9), rng.normal(size=9)), rng.uniform(1, 3, 9)
    number = statistic.value(v, w)
    steps = 1e-6 * np.eye(9)
    numeric = [(statistic.value(v, w + h) - statistic.value(v, w - h)) / 2e-6 for h in steps]
    close(statistic.influence(v, w, number), numeric, rtol=1e-6, atol=1e-9)


def test_percentiles_are_those_of_repeated_rows():
    y, w = np.array([3.0, 1.0, 2.0, 5.0]), np.array([2.0, 1.0, 1.0, 4.0])
    long = np.sort(np.repeat(y, w.astype(int)))
    for at in (0.1, 0.25, 0.5, 0.6, 0.9):
        close(quantile(y, w, at), np.quantile(long, at, method="averaged_inverted_cdf"))
    assert percentile(0.25).name == "p25"


def test_a_weighted_mean_is_the_intercept_of_an_empty_model():
    data, options = simulated()
    found = pmwmix.describe("math", data, statistics="mean", **options).iloc[0]
    fit = pmwmix.fit("math ~ 1", data, **options)
    row = fit.tidy().iloc[0]
    close(found[["estimate", "std_error", "df", "ci_low", "ci_high"]].astype(float),
          row[["estimate", "std_error", "df", "ci_low", "ci_high"]].astype(float), rtol=1e-6)  # fmt: skip


def test_gaps_count_the_dependence_of_groups():
    data, options = simulated()
    found = pmwmix.describe("math", data, by="female", statistics="mean", gaps=True, **options)
    slope = pmwmix.fit("math ~ female", data, **options).tidy().iloc[1]
    gap = found.iloc[-1]
    close([gap["estimate"], gap["std_error"]], [slope["estimate"], slope["std_error"]], rtol=1e-6)
    assert gap["female"] == "1 - 0" or gap["female"] == "1.0 - 0.0"
    assert found["p_value"].isna().tolist() == [True, True, False] and found["n"].tolist()[:2] == [
        int((data["female"] == 0).sum()), int((data["female"] == 1).sum()),
    ]  # fmt: skip


def test_weights_times_a_constant_change_nothing_and_rows_may_lack_a_group():
    data, options = simulated()
    more = data.assign(W_FSTUWT=7 * data["W_FSTUWT"], part=np.where(np.arange(len(data)) % 3, "a", None))
    one = pmwmix.describe("math", data, percentiles=[0.5], **options)
    close(pmwmix.describe("math", more, percentiles=[0.5], **options).iloc[:, 2:], one.iloc[:, 2:], rtol=1e-9)
    found = pmwmix.describe("math", more, by="part", statistics="mean", **options)
    assert found["part"].tolist() == ["a"] and found["n"][0] == int((np.arange(len(data)) % 3 > 0).sum())


def test_plain_columns_without_weights():
    d = nested()
    found = pmwmix.describe("y", d, percentiles=[0.5], correlate="x").set_index("statistic")
    close(found.loc["mean", ["estimate", "std_error"]].astype(float), [d["y"].mean(), d["y"].std() / np.sqrt(len(d))])
    close(found.loc["sd", "estimate"], d["y"].std(ddof=0))
    close(found.loc["correlation", "estimate"], d[["x", "y"]].corr().iloc[0, 1])
    close(found.loc["p50", "estimate"], d["y"].median())
    assert "fmi" not in found and found.loc["mean", "df"] == len(d) - 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"statistics": "median"}, "Unknown statistic 'median'"),
        ({"percentiles": [50]}, "between 0 and 1"),
        ({"statistics": []}, "Nothing is asked for"),
        ({"vcov": "CR2"}, "replicates or robust"),
        ({"by": "schol"}, "'school'"),
        ({"ci_prob": 2}, "2"),
    ],
)
def test_bad_calls_are_refused(given, said):
    with pytest.raises((OptionError, DataError), match=said):
        pmwmix.describe("y", nested(), **given)


def test_an_unknown_variable_is_hinted_at():
    with pytest.raises(DataError, match="'yy'"):
        pmwmix.describe("yy", nested())


def test_weighted_rows_without_a_psu_are_warned_of():
    data, options = simulated()
    with pytest.warns(PmwmixWarning, match="independent units.*psu"):
        alone = pmwmix.describe("math", data, weights="W_FSTUWT", pv=options["pv"])
    assert (alone["std_error"] < pmwmix.describe("math", data, **options)["std_error"]).any()
