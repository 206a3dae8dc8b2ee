"""Trends of countries: differences between them, cycles as a factor of one model, their picture."""

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.errors import DataError, NotSupportedError, OptionError, PmwmixWarning
from pmwmix.studies.independent import all_equal

LINKS = {"2018": 3.0, "2022": 4.0}


def rows() -> pd.DataFrame:
    parts = []
    for c, cycle in enumerate(("2015", "2018", "2022")):
        for k, country in enumerate("ABC"):
            s = pmwmix.simulate_survey(12, 8, n_pv=1, random_seed=10 * c + k)
            parts.append(s.data.assign(cycle=cycle, country=country, school=s.data["SCHOOLID"] + 100 * (3 * c + k)))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def data():
    return rows()


@pytest.fixture(scope="module")
def fits(data):
    options = {"by": "country", "progress": False, "vcov": "robust"}
    formula = "PV1MATH ~ escs + (1 | school)"
    return {c: pmwmix.fit_groups(formula, data[data["cycle"] == c], **options) for c in ("2015", "2018", "2022")}


@pytest.fixture(scope="module")
def changes(fits):
    return pmwmix.trend(fits, linking=LINKS)


def test_every_group_is_compared_by_itself(fits, changes):
    own = pmwmix.trend({c: one["B"] for c, one in fits.items()}, linking=LINKS)
    pd.testing.assert_frame_equal(
        changes[changes["country"] == "B"].drop(columns="country").reset_index(drop=True), own, check_like=True
    )
    assert list(changes.columns[:4]) == ["cycle", "against", "country", "term"]


def test_differences_by_hand(fits, changes):
    """Four independent estimates; the link is the same for all countries and cancels."""
    table = pmwmix.trend_differences(changes).set_index(["cycle", "term", "group", "other"])
    se = {(c, g): fits[c][g].se["Intercept"] for c in fits for g in "ABC"}
    b = {(c, g): fits[c][g].coef["Intercept"] for c in fits for g in "ABC"}
    row = table.loc["2022", "Intercept", "A", "C"]
    close(row["estimate"], b["2022", "A"] - b["2015", "A"] - b["2022", "C"] + b["2015", "C"])
    squares = np.array([se[c, g] ** 2 for c in ("2015", "2022") for g in "AC"])
    close(row["std_error"] ** 2, squares.sum())
    df = np.array([fits[c][g].df()["Intercept"] for c in ("2015", "2022") for g in "AC"])
    close(row["df"], squares.sum() ** 2 / (squares**2 / df).sum())
    unlinked = pmwmix.trend_differences(pmwmix.trend(fits))
    close(unlinked[["estimate", "std_error", "df"]], table.reset_index()[["estimate", "std_error", "df"]])
    average = pmwmix.trend_differences(changes, against="average")
    close(average.groupby(["cycle", "term"])["estimate"].sum(), 0, atol=1e-9)
    assert (pmwmix.trend_differences(changes, against="B")["other"] == "B").all()
    assert (table["p_adjusted"] >= table["p_value"]).all()


def test_joint_test_is_welchs():
    """R: oneway.test(x ~ g), unequal variances; of two groups it is the square of t."""
    x = np.array([3.1, 2.7, 4.0, 3.6, 2.2, 5.0, 4.4, 6.1, 3.9, 5.2, 5.9, 1.0, 2.9, 7.3, 4.1, 0.5])
    g = np.repeat([0, 1, 2], [5, 6, 5])
    parts = [x[g == k] for k in range(3)]
    one = pd.DataFrame(
        {
            "estimate": [p.mean() for p in parts],
            "std_error": [p.std(ddof=1) / np.sqrt(len(p)) for p in parts],
            "df": [len(p) - 1 for p in parts],
        }
    )
    close(list(all_equal(one).values()), [8.23567604153, 2, 7.57896273274, 0.0125757366162], rtol=1e-9)


def test_joint_test_of_two_groups_is_that_of_their_difference(fits):
    changes = pmwmix.trend({c: {g: one[g] for g in "AB"} for c, one in fits.items()})
    joint, pairs = pmwmix.trend_differences(changes, against="joint"), pmwmix.trend_differences(changes)
    close(joint["statistic"], pairs["statistic"] ** 2)
    close(joint["p_value"], pairs["p_value"], rtol=1e-6)
    assert list(joint.columns) == ["cycle", "against", "term", "statistic", "df1", "df2", "p_value"]


def test_described_groups_have_differences(data):
    tables = {}
    for cycle in ("2015", "2018"):
        part = data[data["cycle"] == cycle]
        tables[cycle] = pmwmix.describe("PV1MATH", part, by="country", statistics="mean", design={"psu": "school"})
    changes = pmwmix.trend(tables, linking=3.0)
    found = pmwmix.trend_differences(changes, against="joint")
    assert found["of"].tolist() == ["mean"] and 0 < found["p_value"].iloc[0] < 1


def test_cycles_as_a_factor(data):
    """The factor's coefficients are the changes; without a link they are the fit's own, and those of a refit."""
    fit = pmwmix.fit("PV1MATH ~ cycle * country + escs + (1 | school)", data, vcov="robust")
    table = pmwmix.trend(fit, by="cycle", linking=LINKS).set_index(["cycle", "term"])
    own = fit.tidy().set_index("term")
    close(table.loc["2022", "Intercept"]["estimate"], own.loc["cycle[T.2022]", "estimate"])
    close(table.loc["2022", "Intercept"]["std_error"] ** 2, own.loc["cycle[T.2022]", "std_error"] ** 2 + 16.0)
    close(table.loc["2018", "country[T.C]"]["std_error"], own.loc["cycle[T.2018]:country[T.C]", "std_error"])
    assert table["linking_error"].tolist() == [3.0, 0.0, 0.0, 4.0, 0.0, 0.0] and (table["against"] == "2015").all()
    later = pmwmix.trend(fit, by="cycle", against="previous").set_index(["cycle", "term"])
    again = pmwmix.fit(
        "PV1MATH ~ cycle * country + escs + (1 | school)",
        data.assign(cycle=pd.Categorical(data["cycle"], ["2018", "2015", "2022"])),
        vcov="robust",
    )
    close(later.loc["2022", "Intercept"]["std_error"], again.tidy().set_index("term").loc["cycle[T.2022]", "std_error"])


def test_cycles_as_levels(data):
    """Country by cycle as a level: what countries' trends differ by beyond the common change."""
    fit = pmwmix.fit("PV1MATH ~ C(cycle) + escs + (1 | country:cycle) + (1 | school)", data)
    assert "country:cycle" in fit.varcorr["grp"].tolist()
    table = pmwmix.trend(fit, by="cycle")
    close(table["estimate"], fit.coef[["C(cycle)[T.2018]", "C(cycle)[T.2022]"]])


def test_the_picture_has_the_numbers(fits):
    plot = pmwmix.plots.trend(fits, linking=LINKS)
    one = plot.data.sel(panel="Intercept", series="B")
    own = fits["2022"]["B"].tidy().set_index("term").loc["Intercept"]
    close(one["estimate"].to_numpy()[2], own["estimate"])
    half = (own["ci_high"] - own["estimate"]) * np.sqrt(1 + (4.0 / own["std_error"]) ** 2)
    close(one["ci_high"].to_numpy()[2] - own["estimate"], half)
    close(plot.data["x"], [2015, 2018, 2022])
    slopes = pmwmix.plots.trend(fits, linking=LINKS, terms="escs", backend="none").data
    close(slopes["ci_low"].to_numpy()[0, 0, 2], fits["2022"]["A"].tidy()["ci_low"][1])
    single = pmwmix.plots.trend({c: one["A"] for c, one in fits.items()}, terms=["escs"], backend="none")
    assert single.data.sizes == {"panel": 1, "series": 1, "point": 3}
    named = pmwmix.plots.trend({"old": {"A": fits["2015"]["A"]}, "new": {"B": fits["2018"]["B"]}}, backend="none").data
    close(named["x"], [0, 1])
    assert np.isnan(named["estimate"].to_numpy()[0]).sum() == 2


BAD = {
    "no groups": (lambda t, f: pmwmix.trend_differences(t.drop(columns="country")), DataError, "no column of them"),
    "no table": (lambda t, f: pmwmix.trend_differences([1, 2]), DataError, "lacks 'cycle'"),
    "wrong column": (lambda t, f: pmwmix.trend_differences(t, by="CNT"), OptionError, "'CNT'.*country"),
    "wrong group": (lambda t, f: pmwmix.trend_differences(t, against="D"), OptionError, "no group 'D'"),
    "one group": (lambda t, f: pmwmix.trend_differences(t[t["country"] == "A"]), DataError, "change in two groups"),
    "adjustment": (lambda t, f: pmwmix.trend_differences(t, adjust="tukey"), OptionError, "adjustment 'tukey'"),
    "no shared group": (
        lambda t, f: pmwmix.trend({1: {"A": f["2015"]["A"]}, 2: {"B": f["2018"]["B"]}}), OptionError, "none is in all",
    ),
    "no factor": (lambda t, f: pmwmix.trend(f["2015"]["A"], by="cycle"), OptionError, "no factor 'cycle'"),
    "one fit without by": (lambda t, f: pmwmix.trend(f["2015"]["A"]), OptionError, "by=None and FitResult"),
    "by with a dict": (lambda t, f: pmwmix.trend(f, by="cycle"), OptionError, "by='cycle' and dict"),
    "picture of one": (lambda t, f: pmwmix.plots.trend({1: f["2015"]["A"]}), OptionError, "two cycles or more"),
    "picture of numbers": (lambda t, f: pmwmix.plots.trend({1: 2.0, 2: 3.0}), OptionError, "Got float"),
    "unknown term": (lambda t, f: pmwmix.plots.trend(f, terms="esc"), OptionError, "'esc'. Did you mean 'escs'"),
    "missing link": (lambda t, f: pmwmix.plots.trend(f, linking={"2018": 1.0}), OptionError, "Missing: .*2022"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_messages(case, changes, fits):
    call, error, said = BAD[case]
    with pytest.raises(error, match=said) as caught:
        call(changes, fits)
    assert str(caught.value).count(". ") + str(caught.value).count("? ") >= 2


def test_groups_that_a_cycle_lacks_are_named(fits):
    with pytest.warns(pmwmix.PmwmixWarning, match="Left out: 'C'"):
        table = pmwmix.trend({"2015": fits["2015"], "2018": {g: fits["2018"][g] for g in "AB"}})
    assert set(table["group" if "group" in table else "country"]) == {"A", "B"}


def test_products_of_which_a_cycle_lacks_one_have_no_change_from_it(data):
    """Country B was not there in 2018; a factor of cycles has no variances of its own."""
    table = data[(data["cycle"] != "2018") | (data["country"] != "B")]
    fit = pmwmix.fit("PV1MATH ~ C(cycle) * country + (1 | school)", table)
    with pytest.warns(PmwmixWarning, match="2018"):
        found = pmwmix.trend(fit, by="cycle", against="previous")
    last = found[found["cycle"] == "2022"].set_index("term")["estimate"]
    assert list(last.index) == ["Intercept", "country[T.C]"]
    close(last["Intercept"], fit.coef["C(cycle)[T.2022]"] - fit.coef["C(cycle)[T.2018]"])
    with pytest.raises(NotSupportedError, match="varcorr"):
        pmwmix.trend(fit, by="cycle", of="varcorr")
