"""Rows that lack one of several outcomes, and columns that only other rows tell apart."""

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.errors import OptionError, PmwmixWarning

FORMULAS = ["days ~ x + (1 | school)", "late ~ x + kind + (1 | school)"]
KINDS = {"family": ["poisson", "binomial"], "n_agq": 1}


@pytest.fixture(scope="module")
def data():
    """Nobody of kind "c" has ``late``; ``score`` has two plausible values, of which 15 rows lack the first."""
    rng = np.random.default_rng(5)
    school = np.repeat(np.arange(15), 8)
    n, u = len(school), rng.normal(size=15)[school]
    d = pd.DataFrame({"school": school, "x": rng.normal(size=n), "kind": rng.choice(list("abc"), n)})
    d["days"] = rng.poisson(np.exp(0.3 * d["x"] + 0.5 * u))
    d["late"] = (rng.random(n) < 1 / (1 + np.exp(-d["x"] - u))).astype(float)
    d["late"] = d["late"].where(d["kind"] != "c")
    for k in (1, 2):
        d[f"PV{k}"] = rng.poisson(np.exp(0.5 + 0.3 * d["x"] + 0.5 * u)).astype(float)
    d.loc[d.index[:15], "PV1"] = np.nan
    return d


def test_a_column_that_rows_with_the_outcome_do_not_tell_is_dropped(data, tmp_path):
    """Coefficients and errors are those of the outcome by itself, where "c" is no category."""
    fit = pmwmix.fit(FORMULAS, data, **KINDS)
    alone = pmwmix.fit(FORMULAS[1], data, family="binomial", n_agq=1)
    own = [name for name in fit.coef.index if name.startswith("late.")]
    close(fit.coef[own], alone.coef, 1e-4, 1e-5)
    close(fit.se[own], alone.se, 1e-4)
    assert any("late.kind[T.c]" in note for note in fit.notes)
    with pytest.warns(PmwmixWarning, match="Not estimable"):
        assert fit.predict(data[data["kind"] == "c"].head(2))["late"].isna().all()
    assert str(pmwmix.load(fit.save(tmp_path / "fit")).summary()) == str(fit.summary())


def test_a_row_without_one_plausible_value_has_none_of_them(data):
    """Every plausible value is fitted to the same rows, as of a single outcome."""
    formulas = ["score ~ x + (1 | school)", FORMULAS[0]]
    fit = pmwmix.fit(formulas, data, pv={"score": "PV{}"}, family="poisson", n_agq=1)
    alone = pmwmix.fit(formulas[0], data, pv={"score": "PV{}"}, family="poisson", n_agq=1)
    close(fit.coef[:2], alone.coef, 1e-4, 1e-5)
    close(fit.se[:2], alone.se, 1e-3)


def test_a_column_is_dropped_from_a_later_linear_outcome_alone(data, tmp_path):
    table = data.assign(y=data["x"] + np.arange(len(data)) % 7, z=data["days"] - 0.5 * data["x"], twice=2 * data["x"])
    fit = pmwmix.fit(["y ~ x + (1 | school)", "z ~ x + twice + (1 | school)"], table)
    plain = pmwmix.fit(["y ~ x + (1 | school)", "z ~ x + (1 | school)"], table)
    close(fit.coef, plain.coef, 1e-6)
    assert any("z.twice" in note for note in fit.notes)
    again = pmwmix.load(fit.save(tmp_path / "fit"))
    pd.testing.assert_frame_equal(again.predict(table.head(2)), plain.predict(table.head(2)), rtol=1e-5)


def test_links_of_all_outcomes_are_compared_before_likelihood_ratios(data):
    """Links of the outcomes after the first decide too whether models are nested."""
    formulas = ["days ~ x + (1 | school)", "late ~ x + (1 | school)"]
    smaller = pmwmix.fit(["days ~ 1 + (1 | school)", formulas[1]], data, **KINDS)
    larger = pmwmix.fit(formulas, data, **KINDS, link=["log", "probit"])
    with pytest.raises(OptionError, match="probit"):
        pmwmix.lrt(smaller, larger)
