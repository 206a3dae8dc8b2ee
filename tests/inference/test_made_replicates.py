"""Replicate weights made from strata and PSUs: the numbers of R's survey package, textbook variances, messages."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested

import pmwmix
from pmwmix.errors import DesignError, MissingColumnsError, NotSupportedError, OptionError

# R's survey 4.1-1: SE(svyglm(y ~ x, des)) and SE(svytotal(~y, des)), des of as.svrepdesign(svydesign(...), mse = TRUE)
SVYGLM = {"jk1": [0.519433123556, 0.169346055652], "jkn": [0.528445907184, 0.143075743817]}
SVYTOTAL = {"jk1": 2691.68268618, "jkn": 2470.86887868, "brr": 2491.98492259, "fay": 2491.98492259}
STRATA = {"jk1": None, "jkn": "five"}


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    d = nested()
    return d.assign(two=d["school"] // 2, five=d["school"] // 5)


def made(data, kind, strata="two", **more):
    more = {"fay": 0.5} | more if kind == "fay" else more
    return pmwmix.replicate_weights(
        data, {"weights": "t1", "psu": "school", "strata": STRATA.get(kind, strata)}, replicate_type=kind, **more
    )


def variance_of_total(columns, data, c):
    total = data["y"].to_numpy() @ columns.to_numpy() - data["y"] @ data["t1"]
    return float(np.sum(c * total**2))


@pytest.mark.parametrize("kind", SVYGLM)
def test_errors_are_those_of_svyglm(data, kind):
    columns = made(data, kind)
    fit = pmwmix.fit(
        "y ~ x", data.join(columns), weights="t1", design={"replicate_weights": "REPW{}", "replicate_type": kind}
    )
    close(fit.se, SVYGLM[kind], rtol=1e-7)


@pytest.mark.parametrize(("kind", "of"), [("brr", "brr"), ("fay", "fay"), ("jk2", "brr"), ("jk2-two-sided", "brr")])
def test_halves_give_the_variance_of_a_total(data, kind, of):
    """With two PSUs in every stratum all of them give the textbook variance, the sum of squared differences."""
    columns = made(data, kind)
    c = {"jk2": 1.0, "jk2-two-sided": 0.5, "brr": 1.0 / columns.shape[1], "fay": 4.0 / columns.shape[1]}[kind]
    close(np.sqrt(variance_of_total(columns, data, c)), SVYTOTAL[of], rtol=1e-10)


def test_the_bootstrap_is_unbiased_for_the_variance_of_a_total(data):
    """4,000 draws: the Monte-Carlo error of the standard error is 1 / sqrt(2 x 4000) = 1.1 %."""
    columns = made(data, "bootstrap", strata="five", n=4000, random_seed=1)
    error = np.sqrt(variance_of_total(columns, data, 1.0 / 4000))
    close(error, SVYTOTAL["jkn"], rtol=0.04)
    pd.testing.assert_frame_equal(columns.iloc[:, :3], made(data, "bootstrap", strata="five", n=3, random_seed=1))
    assert made(data, "bootstrap", strata="five").shape == (len(data), 500)


def test_columns_are_the_replicates_of_zones(data):
    formula, weights = "y ~ x + (1 | school)", ["t1", "w3"]
    columns = data.join(made(data, "jkn"))
    zones = {"zone": "five", "rep": "school", "replicate_type": "jkn"}
    a = pmwmix.fit(formula, data, weights=weights, design=zones)
    b = pmwmix.fit(formula, columns, weights=weights, design={"replicate_weights": "REPW{}", "replicate_type": "jkn"})
    close(b.se, a.se)
    close(b.varcorr["se"], a.varcorr["se"])


def test_conditional_weights_are_multiplied(data):
    design = {"weights": {"obs": "w1", "classroom": "w2", "school": "w3"}, "conditional": True, "psu": "school"}
    made_of_parts = pmwmix.replicate_weights(data, design, replicate_type="jk1", prefix="R{}")
    close(made_of_parts, made(data, "jk1"), rtol=1e-12)
    assert list(made_of_parts)[:2] == ["R1", "R2"]


def test_an_odd_psu_is_split_in_halves(data):
    some = data[data["school"] < 5].assign(all=1)
    columns = made(some, "jk2", strata="all", random_seed=2)
    factor = columns.div(some["t1"], axis=0)
    assert columns.index.equals(some.index) and columns.shape[1] == 3
    changed = [sorted(some["school"][factor[name] != 1.0].unique()) for name in factor]
    assert changed == [[0, 1], [2, 3], [4]]
    in_last = factor["REPW3"][some["school"] == 4]
    assert set(in_last) == {0.0, 2.0} and abs((in_last == 2.0).sum() - len(in_last) / 2) < 1
    shuffled = some.sample(frac=1.0, random_state=1).sort_values("school", kind="stable")
    pd.testing.assert_frame_equal(made(shuffled, "jk2", strata="all").sort_index().iloc[:, :2], columns.iloc[:, :2])


OK = {"weights": "t1", "psu": "school", "strata": "five"}


@pytest.mark.parametrize(
    ("change", "options", "error", "match"),
    [
        ({}, {"replicate_type": "jackknife"}, OptionError, "'jackknife'"),
        ({}, {"replicate_type": "fay"}, OptionError, "fay=None"),
        ({}, {"replicate_type": "jkn", "fay": 0.5}, OptionError, "fay=0.5"),
        ({}, {"replicate_type": "jkn", "n": 10}, OptionError, "n=10"),
        ({}, {"replicate_type": "bootstrap", "n": 1.5}, OptionError, "n=1.5"),
        ({}, {"replicate_type": "bootstrap", "random_seed": -1}, OptionError, "random_seed=-1"),
        ({}, {"replicate_type": "jkn", "prefix": 3}, OptionError, "prefix=3"),
        ({}, {"replicate_type": "jkn", "prefix": "w"}, OptionError, "w1"),
        ({}, {"replicate_type": "jk1"}, DesignError, "strata='five'"),
        ({"psu": None}, {"replicate_type": "jkn"}, DesignError, "no psu="),
        ({"weights": None}, {"replicate_type": "jkn"}, DesignError, "no weights="),
        ({"weights": {"school": "w3"}}, {"replicate_type": "jkn"}, DesignError, "'obs'"),
        ({"weights": [None]}, {"replicate_type": "jkn"}, DesignError, "no weights="),
        ({"weights": 3}, {"replicate_type": "jkn"}, OptionError, "weights=3"),
        ({"weights": "minus"}, {"replicate_type": "jkn"}, DesignError, "'minus'"),
        ({"weights": "t9"}, {"replicate_type": "jkn"}, MissingColumnsError, "t9"),
        ({"fpc": "x"}, {"replicate_type": "jkn"}, NotSupportedError, "fpc='x'"),
        ({"strata": "gaps"}, {"replicate_type": "jkn"}, DesignError, "'gaps': 3 rows"),
        ({"strata": "school"}, {"replicate_type": "jkn"}, DesignError, "14 of 14 strata of 'school'"),
    ],
)
def test_messages(data, change, options, error, match):
    d = data.assign(minus=-data["t1"], gaps=data["five"].where(np.arange(len(data)) > 2))
    with pytest.raises(error, match=match):
        pmwmix.replicate_weights(d, OK | change, **options)
