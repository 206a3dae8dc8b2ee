"""Outcomes and arguments that a generalised model cannot use: an error of ours names the column, value or option."""

import re

import numpy as np
import pandas as pd
import pytest
from helpers import close, outcomes

import pmwmix
from pmwmix.errors import (
    DataError,
    FormulaError,
    MissingColumnsError,
    NotSupportedError,
    OptionError,
    PmwmixError,
    PmwmixWarning,
    WeightError,
)

BINARY = "z ~ x + (1 | school)"
COUNTS = "count ~ x + (1 | school)"
PAIR = "cbind(hits, n - hits) ~ x + (1 | school)"
SHARE = "p ~ x + (1 | school)"
MARK = "mark ~ x + (1 | school)"
FAST = {"engine": "python", "n_agq": 3}
PV = {"math": "PV{}MATH"}


@pytest.fixture(scope="module")
def data():
    d = outcomes()
    d["p"] = d["hits"] / d["n"]
    d["word"] = np.where(d["z"] == 1, "yes", "no")
    d["grade"] = d["mark"].astype(str)
    d["verdict"] = np.where(d["z"] == 1, "passed", "no")
    d["level1"] = d["mark"].astype(int)
    d["level2"] = np.minimum(d["level1"], 3)
    d["row"] = np.arange(len(d))
    for k in (1, 2, 3):
        d[f"PV{k}MATH"] = 500.0 + 100 * d["y"] + k
    return d


def at(column, row, value):
    """Change of one cell of the table."""
    return lambda t: t.assign(**{column: t[column].astype(float).where(t["row"] != row, value)})


def given(formula=BINARY, change=None, family="binomial", **options):
    """Call of fit: ``change`` maps columns to new values, or is a function of the table."""

    def call(table):
        changed = table.assign(**change) if isinstance(change, dict) else change(table) if change else table
        return pmwmix.fit(formula, changed, family=family, **{**FAST, **options})

    return call


OPTIONS = {
    "family": (given(family="binomal"), "'binomal'. Did you mean 'binomial'.*'poisson'"),
    "family in capitals": (given(family="Poisson"), "'Poisson'. Did you mean 'poisson'"),
    "family number": (given(family=3), "family is a text. Got int 3"),
    "link": (given(link="logitt"), "'logitt'. Did you mean 'logit'"),
    "link of another family": (given(link="log"), "'binomial' has no link 'log'.*'logit', 'probit', 'cloglog'"),
    "link of counts": (given(COUNTS, family="poisson", link="logit"), "'poisson' has no link 'logit'.*'log', 'sqrt'"),
    "link of a linear model": (
        given("y ~ x + (1 | school)", family="gaussian", link="probit"),
        "'gaussian' has no.*'probit'",
    ),
    "link number": (given(link=1), "link is a text. Got int 1"),
    "trials of counts": (given(COUNTS, family="poisson", trials="n"), "trials='n' with family='poisson'"),
    "trials of a linear model": (given("y ~ x + (1 | school)", family="gaussian", trials="n"), "'n'.*'gaussian'"),
    "trials number": (given(SHARE, trials=8), "trials=8"),
    "nodes per level": (given(n_agq=(3, 5)), r"n_agq=\(3, 5\) for 1 levels \(school\)"),
    "nodes per level, three": (
        given("z ~ x + (1 | classroom) + (1 | school)", n_agq=(3, 5, 7)),
        r"\(3, 5, 7\) for 2 levels \(classroom, school\)",
    ),
    "no nodes": (given(n_agq=0), "n_agq=0"),
    "nodes negative": (given(n_agq=-3), "n_agq=-3"),
    "nodes of a level": (given("z ~ x + (1 | classroom) + (1 | school)", n_agq=(3, 0)), r"n_agq=\(3, 0\)"),
    "nodes fraction": (given(n_agq=2.5), "n_agq=2.5"),
    "nodes switch": (given(n_agq=True), "n_agq=True"),
    "far too many nodes": (given(n_agq=500), "from 1 to 200. Got n_agq=500"),
    "too many nodes together": (given("z ~ x + (1 + v + x | school)", n_agq=60), r"'school' with 3.*60\^3"),
    "chunk_size text": (given(chunk_size="many"), "chunk_size.*'many'"),
    "chunk_size negative": (given(chunk_size=-1), "chunk_size.*-1"),
    "plausible values of two lengths": (
        given("(math >= 482) ~ read + (1 | school)", pv={**PV, "read": ["x", "v"]}),
        "'math' has 3, 'read' has 2",
    ),
}

NOT_SUPPORTED = {
    "REML": (given(method="reml"), "method='reml' with family='binomial'"),
    "REML with a log link": (given("minutes ~ x + (1 | school)", family="gaussian", link="log", method="reml"), "REML"),
    "nodes for four effects": (given("z ~ x + (1 + v + x + n | school)"), r"'school' has 4.*3\^4 nodes.*n_agq=1"),
    "small-sample variance": (
        given("minutes ~ x + (1 | school)", family="student", vcov="CR2"),
        "'CR2' with family='student'; families of a working linear model are binomial",
    ),
    "small-sample variance of a t distribution": (given(vcov="CR2", random="t"), "'CR2' with random='t'"),
}

COLUMNS = {
    "trials": (given(SHARE, trials="nn"), "'nn'. Did you mean 'n'"),
    "offset": (given("count ~ x + offset(log(exposure)) + (1 | school)", family="poisson"), "'exposure'"),
    "failures": (given("cbind(hits, misses) ~ x + (1 | school)"), "'misses'"),
    "everywhere at once": (given("p ~ xx + offset(oo) + (1 | school)", trials="nn"), "'xx', 'oo', 'nn'"),
}

DATA = {
    # binomial
    "counts": (given("count ~ x + (1 | school)"), r"'count' has the value \d in row \d+ \(\d+ more.*poisson"),
    "one and two": (given(change=lambda t: t.assign(z=t["z"] + 1)), r"'z' has the value 2 in row.*Subtract 1"),
    "minus one": (given(change=lambda t: t.assign(z=2 * t["z"] - 1)), r"value -1.*\(z > 0\)"),
    "proportion without trials": (given(SHARE), "'p' has the value 0.*trials='n'"),
    "four categories": (given("grade ~ x + (1 | school)"), "'grade' has 4: '1', '2', '3', '4'.*cumulative"),
    "four ordered categories": (given(MARK), "'mark' has 4.*cumulative"),
    "constant number": (given(change={"z": 1}), "'z' has not one failure in 161 rows"),
    "constant text": (given(change={"z": "a"}), "'z' is 'a' in all 161 rows"),
    "constant condition": (given("(y > 99) ~ x + (1 | school)"), r"'\(y > 99\)' has not one success"),
    "constant plausible value": (given("(math > 0) ~ x + (1 | school)", pv=PV), r"'\(math > 0\)' has not one"),
    "constant where it is complete": (
        given(change=lambda t: t.assign(x=t["x"].where(t["z"] == 1))),
        r"'z' has not one failure in \d\d rows.*incomplete",
    ),
    "missing everywhere": (given(change={"z": np.nan}), r"No row is left.*'z \(161\)'"),
    "infinite": (given(change=at("z", 5, np.inf)), "'z' has 1 infinite"),
    "cbind text first": (given("cbind(word, n) ~ x + (1 | school)"), "'word' holds categories"),
    "cbind text second": (given("cbind(hits, word) ~ x + (1 | school)"), "'word' holds categories"),
    "cbind negative": (given("cbind(hits - 1, n) ~ x + (1 | school)"), r"'cbind\(hits - 1, n\)'.* -1 in row.*first"),
    "cbind more successes than trials": (
        given("cbind(hits, n - hits - 1) ~ x + (1 | school)"),
        "value -1 in row.*second column.*more successes than trials",
    ),
    "cbind fraction": (given("cbind(hits / 2, n) ~ x + (1 | school)"), r"'cbind\(hits / 2, n\)'.* 0.5 in row.*first"),
    "cbind nothing": (given(PAIR, change={"n": 0, "hits": 0}), "at least one trial.* 0 in row 0"),
    "cbind with trials": (given(PAIR, trials="n"), r"'cbind\(hits, n - hits\)' comes with trials="),
    "cbind of a linear model": (given(PAIR, family="gaussian"), r"'cbind\(hits, n - hits\)' holds successes"),
    "cbind of counts": (given(PAIR, family="poisson"), r"poisson.*'cbind\(hits, n - hits\)' comes with two columns"),
    "trials zero": (given(SHARE, at("n", 3, 0.0), trials="n"), "'p' has the value 0 in row 3"),
    "trials fraction": (given(SHARE, at("n", 3, 2.5), trials="n"), "'p' has the value 2.5 in row 3"),
    "trials text": (given(SHARE, trials="word"), "'word' holds categories"),
    "trials of successes": (given("hits ~ x + (1 | school)", trials="n"), "'hits' has the value.*cbind"),
    "trials of other rows": (
        given(SHARE, lambda t: t.assign(n=t["n"] + 1), trials="n"),
        r"'p' has the value .* in row \d.*successes: check the column of trials",
    ),
    # counts
    "fractions": (given("minutes ~ x + (1 | school)", family="poisson"), "'minutes' has the value 0.*gamma"),
    "negative count": (given(COUNTS, at("count", 7, -1.0), "poisson"), "'count' has the value -1 in row 7"),
    "no count": (given(COUNTS, {"count": 0}, "negbinomial"), "All 161 values of 'count' are 0"),
    "text counts": (given("word ~ x + (1 | school)", family="negbinomial"), "'word' is categorical: 'no', 'yes'"),
    # ordinal
    "unordered": (given("grade ~ x + (1 | school)", family="cumulative"), "'grade' has categories without.*ordered=T"),
    "two categories": (given("word ~ x + (1 | school)", family="cumulative"), "'word' has 2: 'no', 'yes'.*binomial"),
    "measured": (given("y ~ x + (1 | school)", family="cumulative"), r"'y' has the value .* in row 0 \(160 more"),
    "many numbers": (given("row ~ x + (1 | school)", family="cumulative"), "'row' has 161 distinct numbers"),
    "plausible values of other categories": (
        given("level ~ x + (1 | school)", family="cumulative", pv={"level": ["level1", "level2"]}),
        "Number 2 of 'level' has '1', '2', '3', the first '1', '2', '3', '4'",
    ),
    "plausible values of other words": (
        given("passed ~ x + (1 | school)", pv={"passed": ["word", "verdict"]}),
        "Number 2 of 'passed' has 'no', 'passed', the first 'no', 'yes'",
    ),
    # others
    "gamma zero": (given("minutes ~ x + (1 | school)", at("minutes", 9, 0.0), "gamma"), "'minutes'.* 0 in row 9"),
    "gamma negative": (given("y ~ x + (1 | school)", family="gamma"), "'y' has the value -"),
    "beta one": (given("share ~ x + (1 | school)", at("share", 9, 1.0), "beta"), "'share'.* 1 in row 9.*Smithson"),
    "beta percent": (given("n ~ x + (1 | school)", family="beta"), "'n' has the value.*Divide"),
    "student text": (given("word ~ x + (1 | school)", family="student"), "'word' is categorical"),
    "student constant": (given("y ~ x + (1 | school)", {"y": 2.5}, "student"), "'y' has the value 2.5 in all 161"),
    "group per row, student": (given("y ~ x + (1 | row)", family="student"), "'row' has 161 groups in 161 rows"),
    "group per row, log link": (
        given("minutes ~ x + (1 | row)", family="gaussian", link="log"),
        "'row' has 161 groups in 161 rows",
    ),
    "outcome on both sides": (given("z ~ z + (1 | school)"), "'z' stands on both sides"),
    "outcome as offset": (
        given("count ~ x + offset(count) + (1 | school)", family="poisson"),
        "'count' stands on both",
    ),
    "one group": (given(change={"school": 7}), "'school' has only 7"),
    "all weights zero": (given(change={"w1": 0.0}, weights=["w1", None]), r"'w1 \(161\)'"),
    # offsets
    "offset text": (given("count ~ x + offset(word) + (1 | school)", family="poisson"), "'word'.*holds categories"),
    "offset of a function of text": (given("count ~ offset(log(word)) + (1 | school)", family="poisson"), "'word'"),
    "offset log of zero": (
        given("count ~ x + offset(log(hits)) + (1 | school)", family="poisson"),
        r"'log\(hits\)'.* has \d",
    ),
    "offset infinite": (
        given("count ~ x + offset(n) + (1 | school)", at("n", 3, np.inf), "poisson"),
        "'n' has 1 infinite",
    ),
    "offset missing everywhere": (
        given("count ~ x + offset(n) + (1 | school)", {"n": np.nan}, "poisson"),
        r"'n \(161\)'",
    ),
}

FORMULAS = {
    "cbind of one": (given("cbind(hits) ~ x + (1 | school)"), r"two columns. Found: cbind\(hits\)"),
    "cbind of three": (given("cbind(hits, n, x) ~ x + (1 | school)"), "two columns"),
    "threshold of text": (given("(word >= 3) ~ x + (1 | school)"), r"\(word >= 3\).*word: categories"),
    "offset inside brackets": (given("z ~ (x + offset(v)) + (1 | school)"), "offset"),
    "empty offset": (given("z ~ x + offset() + (1 | school)"), r"offset\(log\(exposure\)\)"),
}

WEIGHTS = {
    "negative": (given(change=at("w1", 5, -1.0), weights=["w1", None]), "'w1' are negative in 1"),
    "missing": (given(change=at("w1", 5, np.nan), weights=["w1", None]), "'w1' are missing in 1"),
    "varying in a school": (given(weights=[None, "w1"], conditional=True), "'w1' varies in 14 of 14"),
}

CASES = [
    pytest.param(kind, call, match, id=f"{kind.__name__}: {name}")
    for kind, table in (
        (OptionError, OPTIONS),
        (NotSupportedError, NOT_SUPPORTED),
        (MissingColumnsError, COLUMNS),
        (DataError, DATA),
        (FormulaError, FORMULAS),
        (WeightError, WEIGHTS),
    )
    for name, (call, match) in table.items()
]


@pytest.mark.parametrize(("kind", "call", "match"), CASES)
def test_fit(data, kind, call, match):
    before = data.copy()
    with pytest.raises(kind, match=match) as caught:
        call(data)
    message = str(caught.value)
    assert isinstance(caught.value, PmwmixError)
    assert message.endswith((".", "?")) and len(re.findall(r"[.?;:](?:\s|$)", message)) >= 3, message
    assert "\n" not in message and "  " not in message
    pd.testing.assert_frame_equal(data, before)


# -- what a fit cannot answer ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fits(data):
    return {
        "logit": given(weights=["w1", "w3"], conditional=True)(data),
        "probit": given(link="probit")(data),
        "ordinal": given(MARK, family="cumulative")(data),
        "rates": given("count ~ x + offset(log(n)) + (1 | school)", family="poisson")(data),
    }


ANSWERS = {
    "odds ratios of probit": ("probit", lambda f, t: f.tidy(exponentiate=True), OptionError, "link='probit'"),
    "scale of predictions": ("logit", lambda f, t: f.predict(t, type="probability"), OptionError, "'probability'"),
    "near scale": ("logit", lambda f, t: f.predict(t, type="respons"), OptionError, "Did you mean 'response'"),
    "residuals": ("logit", lambda f, t: f.residuals("devience"), OptionError, "'devience'. Did you mean 'deviance'"),
    "ordinal residuals": ("ordinal", lambda f, t: f.residuals(), NotSupportedError, "'cumulative'"),
    "ordinal pearson": ("ordinal", lambda f, t: f.residuals("pearson"), NotSupportedError, "'cumulative'"),
    "satterthwaite": ("probit", lambda f, t: f.df("satterthwaite"), NotSupportedError, "family='binomial'"),
    "kenward-roger": ("probit", lambda f, t: f.tidy(df="kenward-roger"), NotSupportedError, "linear"),
    "predict lacks offset": ("rates", lambda f, t: f.predict(t.drop(columns="n")), MissingColumnsError, "'n'"),
    "predict text offset": ("rates", lambda f, t: f.predict(t.assign(n="a")), DataError, "'n' holds 'a'"),
    "predict zero exposure": ("rates", lambda f, t: f.predict(t.assign(n=0)), DataError, r"'log\(n\)'"),
    "wald term": ("ordinal", lambda f, t: f.wald("2|9"), OptionError, r"'2\|9'.*1\|2, 2\|3, 3\|4, x"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_result(data, fits, name):
    fit, call, kind, match = ANSWERS[name]
    with pytest.raises(kind, match=match) as caught:
        call(fits[fit], data)
    assert str(caught.value).endswith(".")


def test_pools_of_other_families_are_refused(fits):
    with pytest.raises(OptionError, match=r"'probit'"):
        pmwmix.pool([given()(outcomes()), fits["probit"]])


# -- what is harmless --------------------------------------------------------------------------------------------------


def test_one_group_per_row_is_overdispersion(data):
    """Counts and grouped successes have no residual variance of their own, so that a group per row is identified."""
    for formula, family in (
        ("count ~ x + (1 | row)", "poisson"),
        ("cbind(hits, n - hits) ~ x + (1 | row)", "binomial"),
    ):
        fit = given(formula, family=family)(data)
        assert fit.converged and fit.varcorr["vcov"].iloc[0] > 0


def test_incomplete_rows_are_dropped_and_counted(data):
    plain = given(SHARE, trials="n")
    d = data.assign(n=data["n"].astype(float).where(data["row"] != 3), p=data["p"].where(data["row"] != 5), v=data["v"])
    fit = plain(d)
    assert fit.nobs == len(data) - 2
    assert "n 1" in fit.summary().to_text(1000) and "p 1" in fit.summary().to_text(1000)
    offset = given("count ~ x + offset(n) + (1 | school)", {"n": d["n"]}, "poisson")(data)
    assert offset.nobs == len(data) - 1
    condition = given("(y > 0) ~ x + (1 | school)", {"y": data["y"].where(data["row"] != 9)})(data)
    assert condition.nobs == len(data) - 1  # a missing score is no failure


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "object", "category", "float32", "bool"])
def test_any_kind_of_zero_and_one(data, fits, dtype):
    values = data["z"].astype(int).astype("Int64").astype(dtype) if dtype == "boolean" else data["z"].astype(dtype)
    fit = given(change={"z": values}, weights=["w1", "w3"], conditional=True)(data)
    close(fit.coef, fits["logit"].coef, rtol=1e-9)


def test_any_kind_of_ordered_outcome(data, fits):
    import polars as pl

    number = given("mark ~ x + (1 | school)", {"mark": data["mark"].astype(int)}, "cumulative")(data)
    close(number.coef, fits["ordinal"].coef, rtol=1e-9)
    assert any("categories in this order: 1, 2, 3, 4" in note for note in number.notes)
    words = ["low", "middle", "high", "top"]
    enum = pl.Series([words[i] for i in data["mark"].cat.codes]).cast(pl.Enum(words))
    table = pl.from_pandas(data.drop(columns="mark")).with_columns(mark=enum)
    fit = given(MARK, family="cumulative")(table)
    close(fit.coef, fits["ordinal"].coef, rtol=1e-9)
    assert list(fit.coef.index) == ["low|middle", "middle|high", "high|top", "x"]


@pytest.mark.parametrize("right", ["0 + x", "x + k"])
def test_thresholds_stand_in_for_the_intercept(data, fits, right):
    fit = given(f"mark ~ {right} + (1 | school)", {"k": 3.0}, "cumulative")(data)
    close(fit.coef, fits["ordinal"].coef, rtol=1e-7)


def test_thresholds_stand_in_for_the_dummies_of_all_categories(data):
    """Without an intercept formulaic makes a dummy of every category: together with thresholds one is too many."""
    d = data.assign(f=data["row"] % 3)
    all_three = given("mark ~ 0 + C(f) + (1 | school)", family="cumulative")(d)
    reference = given("mark ~ C(f) + (1 | school)", family="cumulative")(d)
    close(all_three.loglik, reference.loglik, rtol=1e-10)
    assert list(all_three.coef.index[-2:]) == ["C(f)[0]", "C(f)[1]"]
    assert any("C(f)[2]" in note for note in all_three.notes)
    close(all_three.coef["C(f)[1]"] - all_three.coef["C(f)[0]"], reference.coef["C(f)[T.1]"], rtol=1e-5)


def test_numbers_of_nodes_of_any_whole_kind(data):
    a = given(n_agq=np.int64(3))(data)
    b = given(n_agq=[3])(data)
    assert a.quadrature["n_agq"] == b.quadrature["n_agq"] == (3,)


def test_unseen_groups_warn(data, fits):
    with pytest.warns(PmwmixWarning, match=r"1 groups of 'school'.*'99'"):
        predicted = fits["logit"].predict(data.assign(school=99))
    pd.testing.assert_series_equal(predicted, fits["logit"].fitted(conditional=False), check_names=False)
