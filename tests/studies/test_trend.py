"""Changes between cycles: published numbers, identities, messages."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, outcomes, survey
from scipy import stats

import pmwmix
from pmwmix.errors import DataError, NotSupportedError, OptionError
from pmwmix.studies.trend import trend

FORMULA = "math ~ escs + (1 | SCHOOLID)"


@pytest.fixture(scope="module")
def cycles():
    s = survey()
    other = pmwmix.simulate_survey(30, 12, n_pv=5, random_seed=8)
    return {
        year: pmwmix.fit(FORMULA, one.data, weights=one.weights, pv=one.pv) for year, one in ((2015, s), (2018, other))
    }


def test_changes_by_hand(cycles):
    table = trend(cycles, linking=3.0).set_index("term")
    a, b = (cycles[year].tidy().set_index("term") for year in (2015, 2018))
    close(table["estimate"], b["estimate"] - a["estimate"])
    squares = a["std_error"] ** 2 + b["std_error"] ** 2
    close(table["std_error"] ** 2, squares + np.array([9.0, 0.0]))
    close(table["linking_error"], [3.0, 0.0])
    welch = squares["escs"] ** 2 / (a["std_error"] ** 4 / a["df"] + b["std_error"] ** 4 / b["df"])["escs"]
    close(table.loc["escs", "df"], welch)
    assert (table["cycle"] == 2018).all() and (table["against"] == 2015).all()
    close(table["ci_high"] - table["estimate"], table["estimate"] - table["ci_low"])


def test_the_test_of_two_means_is_scipys_welch_test():
    """With a model of one mean per cycle and unequal variances, scipy.stats.ttest_ind(equal_var=False)."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=12), rng.normal(0.8, 2.0, 20)
    fits = {k: pmwmix.fit("v ~ 1", pd.DataFrame({"v": v}), method="reml") for k, v in (("1", x), ("2", y))}
    row, found = trend(fits).iloc[0], stats.ttest_ind(y, x, equal_var=False)
    close([row["statistic"], row["p_value"], row["df"]], [found.statistic, found.pvalue, found.df], rtol=1e-6)


def test_the_same_cycle_does_not_change(cycles):
    table = trend({1: cycles[2015], 2: cycles[2015], 3: cycles[2018]}, against="previous", linking={2: 1.0, 3: 2.0})
    close(table["estimate"].iloc[:2], [0, 0], atol=1e-12)
    close(table["linking_error"], [1, 0, 2, 0])
    assert table["against"].tolist() == [1, 1, 2, 2]
    variances = trend(cycles, of="varcorr")
    assert variances["term"].tolist() == ["SCHOOLID Intercept", "Residual"] and np.isfinite(variances["p_value"]).all()


@pytest.mark.parametrize("term", ["scale(x)", "r"])
def test_what_is_relative_to_something_else_has_no_change(term):
    rng, fits = np.random.default_rng(1), {}
    for cycle, names in ((1, ["a", "b"]), (2, ["b", "a"])):
        d = pd.DataFrame({"x": cycle * rng.normal(size=90), "z": rng.normal(size=90)})
        d["r"] = pd.Categorical(np.tile(["a", "b", "c"], 30), [*names, "c"])
        d["y"] = d["x"] + d["z"] + rng.normal(size=90)
        fits[cycle] = pmwmix.fit(f"y ~ z + {term}", d[d["r"].isin([names[0], "c"])] if term == "r" else d)
    with pytest.warns(pmwmix.PmwmixWarning, match="mean different things in different cycles"):
        table = trend(fits).set_index("term")
    assert np.isfinite(table.loc["z", "estimate"]) and table.drop(index="z")["estimate"].isna().all()


def test_groups_of_fit_groups_are_cycles():
    s = survey()
    data = s.data.assign(cycle=2000 + 3 * (s.data["SCHOOLID"] % 2))
    fits = pmwmix.fit_groups(FORMULA, data, by="cycle", weights=s.weights, pv=s.pv, progress=False)
    assert pmwmix.trend(fits)["cycle"].tolist() == [2003, 2003]


def test_wrong_calls(cycles):
    first = cycles[2015]
    binary = pmwmix.fit("z ~ x + (1 | school)", outcomes(), family="binomial", n_agq=1)
    linear = pmwmix.fit("y ~ x + (1 | school)", outcomes())
    other = pmwmix.fit("PV1MATH ~ female + (1 | SCHOOLID)", survey().data)
    for error, words, fits, options in (
        (OptionError, "a dict from cycle to fit. Got list", [first], {}),
        (OptionError, "two cycles or more", {1: first}, {}),
        (OptionError, r"one value.*Got \('A', 1\), 2 values", {("A", 1): first, ("A", 2): first}, {}),
        (OptionError, "2 differs from 1 in 'escs', 'female'", {1: first, 2: other}, {}),
        (OptionError, "in family, link or random effects", {1: binary, 2: linear}, {}),
        (OptionError, "Unknown against='last'", cycles, {"against": "last"}),
        (OptionError, "Unknown of='coefs'.*'coef'", cycles, {"of": "coefs"}),
        (OptionError, "Missing: '2018'", cycles, {"linking": {}}),
        (OptionError, "Without a comparison: '2015'", cycles, {"linking": {2018: 1.0, 2015: 0.0}}),
        (OptionError, "That of 2018 is -1", cycles, {"linking": -1}),
        (OptionError, "ci_prob", cycles, {"ci_prob": 95}),
        (NotSupportedError, "with of='varcorr'", cycles, {"linking": 1.0, "of": "varcorr"}),
        (NotSupportedError, "family='binomial'", {1: binary, 2: binary}, {"linking": 1.0}),
    ):
        with pytest.raises(error, match=words):
            trend(fits, **options)


@pytest.fixture(scope="module")
def tables():
    """Two cycles described alike, with gaps between groups."""
    out = {}
    for year, seed in ((2015, 1), (2018, 2)):
        d = pmwmix.simulate_survey(20, 8, n_pv=2, random_seed=seed)
        options = {"weights": "W_FSTUWT", "pv": d.pv, "design": {"psu": "SCHOOLID"}, "gaps": True}
        out[year] = pmwmix.describe("math", d.data, by="female", percentiles=[0.1], benchmarks=[500], **options)
    return out


def test_described_means_are_compared_by_scipys_welch_test():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=12), rng.normal(0.8, 2.0, 20)
    told = {k: pmwmix.describe("v", pd.DataFrame({"v": v}), statistics="mean") for k, v in ((1, x), (2, y))}
    row, found = pmwmix.trend(told).iloc[0], stats.ttest_ind(y, x, equal_var=False)
    close([row["t"], row["p_value"], row["df"]], [found.statistic, found.pvalue, found.df], rtol=1e-6)


def test_linking_errors_of_described_statistics(tables):
    errors = {"mean": 3.0, "p10": 4.0, "share >= 500": 0.02}
    table = pmwmix.trend(tables, linking={2018: errors})
    bare = pmwmix.trend(tables)
    a, b = tables[2015], tables[2018]
    close(table["estimate"], b["estimate"].to_numpy() - a["estimate"].to_numpy())
    is_gap = a["p_value"].notna().to_numpy()
    want = [0.0 if gap else errors.get(name, 0.0) for name, gap in zip(a["statistic"], is_gap, strict=True)]
    assert sum(is_gap) == 4 and len(set(want)) == 4
    close(table["linking_error"], want)
    close(table["std_error"] ** 2, bare["std_error"] ** 2 + np.square(want))
    assert list(table.columns[:4]) == ["cycle", "against", "female", "statistic"]


def test_order_of_described_rows_and_equal_cycles_change_nothing(tables):
    mixed = {2015: tables[2015].sample(frac=1.0, random_state=1), 2018: tables[2018]}
    first, second = (pmwmix.trend(one).set_index(["female", "statistic"]).sort_index() for one in (tables, mixed))
    close(first["p_value"], second["p_value"])
    close(pmwmix.trend({1: tables[2015], 2: tables[2015]})["estimate"], np.zeros(len(tables[2015])), atol=0)


@pytest.mark.parametrize(
    ("change", "given", "error", "said"),
    [
        (lambda t: {1: t[2015]}, {}, OptionError, "two cycles or more"),
        (lambda t: {1: t[2015], 2: t[2018].iloc[1:]}, {}, DataError, "the same statistics"),
        (lambda t: {1: t[2015], 2: t[2018].rename(columns={"female": "sex"})}, {}, DataError, "the same groups"),
        (lambda t: {1: t[2015], 2: t[2018][["estimate"]]}, {}, DataError, "has no column .*statistic"),
        (lambda t: {1: t[2015], 2: 3.0}, {}, OptionError, "A trend compares fits"),
        (lambda t: t, {"linking": 3.0}, OptionError, "That of 'share >= 500' is missing"),
        (lambda t: t, {"linking": {2018: {"median": 3.0}}}, OptionError, "no statistic 'median'"),
        (lambda t: t, {"linking": {2015: 3.0}}, OptionError, "That of 2018 is missing"),
        (lambda t: t, {"linking": {2018: {"mean": -1.0, "share >= 500": 0.0}}}, OptionError, "That of 'mean' in 2018"),
        (lambda t: t, {"against": "last"}, OptionError, "Unknown against='last'"),
    ],
    ids=range(10),
)
def test_messages_of_described_trends(tables, change, given, error, said):
    with pytest.raises(error, match=said) as caught:
        pmwmix.trend(change(tables), **given)
    assert str(caught.value).count(". ") + str(caught.value).count("? ") >= 2
