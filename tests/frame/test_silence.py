"""What goes wrong in silence elsewhere is said in a note: a lone plausible value, their mean, conditional weights."""

import numpy as np
import pandas as pd
import pytest

import pmwmix


@pytest.fixture(scope="module")
def school():
    """30 schools of 10: five plausible values, five Likert items, conditional weights at both levels."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(30), 10)
    x = rng.normal(size=300)
    true = x + rng.normal(size=30)[g]
    table = pd.DataFrame({f"PV{k}MATH": true + 0.5 * rng.normal(size=300) for k in range(1, 6)})
    items = {f"Q{k}": np.clip(np.round(true + rng.normal(size=300)), -2, 2) for k in range(1, 6)}
    w2, w1 = rng.uniform(1, 3, 30)[g], rng.uniform(1, 4, 300)
    table = table.assign(**items, x=x, g=g, w1=w1, w2=w2, total=w1 * w2)
    return table.assign(
        MATH=table.filter(like="PV").mean(axis=1), scale=table[list(items)].mean(axis=1), grade=true + x
    )


@pytest.mark.parametrize("outcome", ["PV3MATH", "MATH"])
def test_a_lone_plausible_value_and_the_mean_of_a_set_are_recognised(school, outcome):
    """The standard error of their mean is too small: beside it the pooled one."""
    fit = pmwmix.fit(f"{outcome} ~ x + (1 | g)", school)
    said = " ".join(fit.notes)
    assert f"The outcome '{outcome}' is" in said and "pv={'score': 'PV{}MATH'}" in said
    right = pmwmix.fit("score ~ x + (1 | g)", school, pv={"score": "PV{}MATH"})
    assert right.notes == () and fit.se["x"] < right.se["x"]


def test_rows_without_values_hide_no_mean(school):
    holes = school.copy()
    holes.loc[[3, 50], ["PV2MATH", "MATH"]] = np.nan
    assert "is the mean of the 5 plausible values" in " ".join(pmwmix.fit("MATH ~ x + (1 | g)", holes).notes)


@pytest.mark.parametrize("outcome", ["scale", "Q1", "grade"])
def test_items_and_scales_are_no_plausible_values(school, outcome):
    assert pmwmix.fit(f"{outcome} ~ x + (1 | g)", school).notes == ()


def test_conditional_weights_given_as_totals_are_named_under_none(school):
    """A third of the rows weighs less than its school, which no total weight can; scaling makes the same of both."""
    wrong = pmwmix.fit("grade ~ x + (1 | g)", school, weights=["w1", "w2"], scaling="none")
    assert "'w1' looks conditional already" in " ".join(wrong.notes)
    for options in ({"weights": ["w1", "w2"], "conditional": True}, {"weights": ["total", "w2"]}):
        fit = pmwmix.fit("grade ~ x + (1 | g)", school, scaling="none", **options)
        assert "conditional already" not in " ".join(fit.notes)
    assert pmwmix.fit("grade ~ x + (1 | g)", school, weights=["w1", "w2"], scaling="size").notes == ()
