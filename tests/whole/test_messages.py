"""Every kind of bad input gets an error of ours that names the offending column, group or value."""

import datetime
import gzip
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest

import pmwmix
from pmwmix.api import pool
from pmwmix.errors import (
    DataError,
    DesignError,
    FormulaError,
    MissingColumnsError,
    NotSupportedError,
    OptionError,
    PmwmixError,
    PmwmixWarning,
    WeightError,
)

NULL = "y ~ 1 + (1 | g)"
SLOPE = "y ~ x + (1 | g)"
PV = {"math": "PV{}MATH"}


@pytest.fixture(scope="module")
def data():
    names = {"SCHOOLID": "g", "STIDSTD": "student", "W_FSTUWT": "w1", "W_FSCHWT": "w2", "escs": "x"}
    table = pmwmix.simulate_survey(30, 10, n_pv=3, random_seed=1).data.rename(columns=names).drop(columns="CNT")
    n = len(table)
    return table.assign(
        y=table["PV1MATH"], half=table["g"] // 2, room=np.arange(n) % 2 + 1, sex=np.where(np.arange(n) % 2, "f", "m")
    )


@pytest.fixture(scope="module")
def fits(data):
    return {
        "null": pmwmix.fit(NULL, data),
        "slope": pmwmix.fit(SLOPE, data),
        "sex": pmwmix.fit("y ~ sex + (1 | g)", data),
        "bs": pmwmix.fit("y ~ bs(x, df=4) + (1 | g)", data),
        "C": pmwmix.fit("y ~ C(female) + (1 | g)", data),
        "weighted": pmwmix.fit(NULL, data, weights="w1"),
        "sized": pmwmix.fit(NULL, data, weights="w1", scaling="size"),
        "robust": pmwmix.fit(NULL, data, vcov="robust"),
        "reml": pmwmix.fit(NULL, data, method="reml"),
        "other group": pmwmix.fit("y ~ 1 + (1 | half)", data),
    }


def at(table, column, row, value):
    """Copy of the table with one cell changed."""
    out = table.copy()
    if not isinstance(value, float):
        out[column] = out[column].astype(object)
    out.loc[row, column] = value
    return out


def dates(kind):
    return {"x": pd.Series([datetime.date(2020, 1, 1 + i % 28) for i in range(300)], dtype=kind)}


def given(change=None, formula=NULL, **options):
    """Call of fit: ``change`` maps columns to new values, or is a function of the table."""

    def call(table):
        changed = table.assign(**change) if isinstance(change, dict) else change(table) if change else table
        return pmwmix.fit(formula, changed, **options)

    return call


MISSING_COLUMNS = {
    "several at once": (given(formula="yy ~ xx + (1 | gg)"), "'yy', 'xx', 'gg'"),
    "near name": (given(formula="y ~ femal + (1 | g)"), "Did you mean 'female'"),
    "other case": (given(formula="Y ~ 1 + (1 | g)"), "'Y'.*Did you mean 'y'"),
    "weights": (given(weights=["w1", "w3"]), "'w3'"),
    "weights by name": (given(weights={"obs": "w9"}), "'w9'"),
    "strata": (given(design={"strata": "STRATUM"}), "'STRATUM'"),
    "psu": (given(design=pmwmix.Design(psu="PSUID")), "'PSUID'"),
    "center group": (given(formula=SLOPE, center={"x": "school"}), "'school'"),
    "everywhere at once": (
        given(formula="y ~ xx + (1 | g)", weights="ww", design={"strata": "ss"}, center={"xx": "cc"}),
        "'xx', 'cc', 'ww', 'ss'",
    ),
    "pv template without match": (given(formula="math ~ 1 + (1 | g)", pv={"math": "MATHPV{}"}), r"MATHPV\{\}"),
    "pv list": (given(formula="math ~ 1 + (1 | g)", pv={"math": ["PV1MATH", "PV9MATH"]}), "'PV9MATH'"),
    "misspelled pv set": (given(formula="maths ~ 1 + (1 | g)", pv=PV), "sets not in the formula: 'math'.*'maths'"),
    "nested frame columns": (given(lambda t: pd.concat({"a": t}, axis=1)), "'y', 'g'"),
}

OPTIONS = {
    "pv is no dict": (given(formula="math ~ 1 + (1 | g)", pv="PV{}MATH"), "dict.*str"),
    "pv template without braces": (given(formula="math ~ 1 + (1 | g)", pv={"math": "PV1MATH"}), "'PV1MATH'"),
    "pv template with two": (given(formula="math ~ 1 + (1 | g)", pv={"math": "PV{}{}"}), r"'PV\{\}\{\}'"),
    "pv is a number": (given(formula="math ~ 1 + (1 | g)", pv={"math": 3}), "'math'.*3"),
    "pv nested list": (given(formula="math ~ 1 + (1 | g)", pv={"math": [["PV1MATH"]]}), "'math'.*PV1MATH"),
    "pv sets of different length": (
        given(formula="math ~ read + (1 | g)", pv={**PV, "read": ["x", "female"]}),
        "'math' has 3, 'read' has 2",
    ),
    "pv set as group": (given(formula="y ~ 1 + (1 | math)", pv=PV), "'math'"),
    "too many weights": (given(weights=["w1", "w2", "x"]), "'w1', 'w2', 'x'.*'obs', 'g'"),
    "weights key": (given(weights={"student": "w1"}), "'student'.*'g'"),
    "weights level twice": (
        given({"c": 1}, "y ~ 1 + (1 | g/c)", weights={"c": "w1", "c:g": "w2"}),
        "'c:g'.*'w1' and 'w2'",
    ),
    "weights number": (given(weights=3), "int"),
    "weights bool": (given(weights=True), "bool"),
    "weights list of numbers": (given(weights=[3.5]), "3.5"),
    "weights nested list": (given(weights={"obs": ["w1"]}), r"\['w1'\]"),
    "weights array": (lambda t: pmwmix.fit(NULL, t, weights=t["w1"].to_numpy()), "ndarray"),
    "weights series": (lambda t: pmwmix.fit(NULL, t, weights=t["w1"]), "Series"),
    "conditional is text": (given(weights="w1", conditional="yes"), "'yes'"),
    "scaling unknown": (given(weights="w1", scaling="sise"), "'sise'. Did you mean 'size'"),
    "scaling number": (given(weights="w1", scaling=3), "int 3"),
    "method": (given(method="remll"), "'remll'. Did you mean 'reml'"),
    "vcov": (given(vcov="robus"), "'robus'. Did you mean 'robust'"),
    "engine": (given(engine="jaxx"), "'jaxx'. Did you mean 'jax'"),
    "n_agq": (given(n_agq=0), "n_agq=0"),
    "n_agq text": (given(n_agq="many"), "'many'"),
    "design of another type": (given(design=3), "int"),
    "design unknown preset": (given(design="pisa-1066"), "'pisa-1066'"),
    "design unknown field": (given(design={"stratum": "s"}), "'stratum'. Did you mean 'strata'"),
    "design strata list": (given(design={"strata": ["s"]}), r"\['s'\]"),
    "center no dict": (given(formula=SLOPE, center="x"), "'x'"),
    "center number": (given(formula=SLOPE, center={"x": 3}), "'x' is 3"),
    "center spec": (given(formula=SLOPE, center={"x": "g+sd"}), r"'x' is 'g\+sd'. Write 'g\+mean'"),
    "center grand+mean": (given(formula=SLOPE, center={"x": "grand+mean"}), "Write 'grand'"),
    "center of a column not in the formula": (given(center={"x": "g"}), "'x'"),
    "center of the outcome": (given(formula=SLOPE, center={"y": "grand"}), "'y'"),
    "center of the group": (given(formula=SLOPE, center={"g": "grand"}), "'g'"),
}

WEIGHTS = {
    "negative": (given(lambda t: at(t, "w1", 5, -1.0), weights="w1"), "'w1' are negative in 1 .*'g 1'"),
    "missing": (given(lambda t: at(t, "w1", 299, np.nan), weights="w1"), "'w1' are missing in 1 .*'g 30'"),
    "infinite": (given(lambda t: at(t, "w1", 5, np.inf), weights="w1"), "'w1' are infinite in 1 .*'g 1'"),
    "text": (given({"w1": "a"}, weights="w1"), "'w1'.*'a'"),
    "varying in a unit": (
        given(lambda t: at(t, "w2", 0, t["w2"][0] * 2), weights=["w1", "w2"]),
        r"'w2' varies in 1 of 30.*1: [\d.]+-[\d.]+\. ",
    ),
    "swapped": (given(weights=["w2", "w1"]), "'w1' varies in 30 of 30.*25 more"),
    "scaling of wrong shape": (
        given(weights=["w1", "w2"], scaling=lambda w, parents: (w[0][:5], w[1])),
        r"<lambda>.*\[300, 30\]",
    ),
    "scaling of text": (
        given(weights=["w1", "w2"], scaling=lambda w, parents: (w[0].astype(str), w[1])),
        "<lambda>",
    ),
    "scaling of nothing": (given(weights="w1", scaling=lambda w, parents: None), "<lambda>"),
    "scaling negative": (given(weights="w1", scaling=lambda w, parents: (-w[0], w[1])), "<lambda>.*level 1"),
    "scaling fails": (given(weights="w1", scaling=lambda w, parents: 1 / 0), "<lambda>.*ZeroDivisionError"),
}

NOT_SUPPORTED = {
    "no fixed column": (given(formula="y ~ 0 + (1 | g)", vcov="CR2"), "'0'"),
    "REML with level-1 weights": (given(method="reml", weights="w1"), "'w1'"),
}

DATA = {
    "pv gap": (
        given(lambda t: t.drop(columns="PV2MATH"), "math ~ 1 + (1 | g)", pv=PV),
        "'math' have gaps. Missing: 'PV2MATH'",
    ),
    "pv column twice": (given(formula="math ~ 1 + (1 | g)", pv={"math": ["PV1MATH"] * 2}), "'PV1MATH' twice"),
    "pv number twice": (
        given({"PV01MATH": 1.0}, "math ~ 1 + (1 | g)", pv=PV),
        "number 1 twice.*'PV1MATH', 'PV01MATH'",
    ),
    "pv empty list": (given(formula="math ~ 1 + (1 | g)", pv={"math": []}), "'math'"),
    "pv set called like a column": (given(formula=SLOPE, pv={"x": "PV{}MATH"}), "'x' is both"),
    "pv constant": (given({"PV2MATH": 1.0}, "math ~ 1 + (1 | g)", pv=PV), "'math' is 1 in all 300"),
    "all weights zero": (given({"w1": 0}, weights="w1"), r"'w1 \(300\)'"),
    "one group": (given({"g": 7}), "'g' has only 7"),
    "each row its own group": (given(None, "y ~ 1 + (1 | student)"), "'student' has 300 groups in 300 rows"),
    "each row its own group, nested": (given(None, "y ~ 1 + (1 | g/student)"), "'student:g'"),
    "more columns than rows": (given(lambda t: t.iloc[[0, 40]], SLOPE), "2 rows are left for 2"),
    "constant outcome": (given({"y": 4}), "'y' is 4 in all 300"),
    "outcome of categories": (given(formula="sex ~ 1 + (1 | g)"), "'sex' holds categories 'f', 'm'"),
    "outcome on both sides": (given(formula="y ~ y + (1 | g)"), "'y' stands on both sides"),
    "dates": (given(dates("datetime64[s]"), SLOPE), "'x' is datetime64"),
    "dates as objects": (given(dates(object), SLOPE), "'x' is made of 'date'"),
    "dates of pyarrow": (given(dates("date32[pyarrow]"), SLOPE), "'x' is date32"),
    "times with zone": (given({"x": pd.date_range("2020", periods=300, tz="UTC")}, SLOPE), "'x' is datetime64"),
    "periods": (given({"x": pd.period_range("2000", periods=300, freq="M")}, SLOPE), "'x' is period"),
    "durations": (given({"x": pd.to_timedelta(np.arange(300), "D")}, SLOPE), "'x' is timedelta"),
    "times of day": (given({"x": datetime.time(1)}, SLOPE), "'x' is made of 'time'"),
    "dates of polars": (
        given(lambda t: pl.from_pandas(t).with_columns(x=pl.lit(datetime.date(2020, 1, 1))), SLOPE),
        "'x' is datetime64",
    ),
    "lists": (given(lambda t: at(t, "x", 299, [1]), SLOPE), "'x' holds lists"),
    "lists of polars": (given(lambda t: pl.from_pandas(t).with_columns(x=pl.concat_list("x", "y")), SLOPE), "'x'"),
    "structs of polars": (given(lambda t: pl.from_pandas(t).with_columns(x=pl.struct("x", "y")), SLOPE), "'x'"),
    "lists of pyarrow": (
        given(lambda t: pl.from_pandas(t).with_columns(x=pl.concat_list("x", "y")).to_arrow(), SLOPE),
        "'x'",
    ),
    "numbers and text mixed": (given(lambda t: at(t, "x", 5, "absent"), SLOPE), "'x' mixes.*'absent'"),
    "ids mixed": (given(lambda t: at(t, "g", 5, "7a")), "'g' mixes.*int 1, str '7a'"),
    "bytes": (given({"x": pd.Series([b"a", b"b"] * 150)}, SLOPE), "'x' holds bytes b'a'"),
    "complex": (given({"x": 1j}, SLOPE), "'x' has them"),
    "complex objects": (given({"x": pd.Series([1j] * 300, dtype=object)}, SLOPE), "'x' has them"),
    "infinite predictor": (given(lambda t: at(t, "x", 3, np.inf), SLOPE), "'x' has 1 infinite"),
    "infinite outcome": (given(lambda t: at(t, "y", 3, -np.inf)), "'y' has 1 infinite"),
    "factor with one category": (given({"sex": "f"}, "y ~ sex + (1 | g)"), "'sex' has only 'f'"),
    "factor with thousands": (
        lambda t: pmwmix.fit(
            "y ~ c + (1 | g)", pd.concat([t] * 7, ignore_index=True).assign(c=[f"c{i}" for i in range(2100)])
        ),
        "'c' would become 2100 dummy.*'c0'",
    ),
    "C() of thousands": (
        lambda t: pmwmix.fit("y ~ C(c) + (1 | g)", pd.concat([t] * 7, ignore_index=True).assign(c=np.arange(2100.0))),
        "'c' would become 2100 dummy",
    ),
    "log of negative numbers": (given(formula="y ~ log(x) + (1 | g)"), r"'log\(x\)'.*has 1\d\d"),
    "log of a negative outcome": (given(formula="log(x) ~ 1 + (1 | g)"), r"'log\(x\)'"),
    "division by zero": (given({"k": 0.0}, "y ~ I(1 / k) + (1 | g)"), r"'I\(1 / k\)'"),
    "scale() of a constant": (given({"k": 3.0}, "y ~ scale(k) + (1 | g)"), r"'scale\(k\)'"),
    "empty table": (given(lambda t: t.head(0)), "no rows"),
    "repeated columns": (given(lambda t: pd.concat([t, t[["y"]]], axis=1)), "Repeated: 'y'"),
    "all rows missing": (given({"x": np.nan}, SLOPE), r"'x \(300\)'"),
    "no complete row": (
        given(
            {"x": np.where(np.arange(300) < 200, np.nan, 1.0), "y": np.where(np.arange(300) < 200, 1.0, np.nan)}, SLOPE
        ),
        r"'y \(100\)', 'x \(200\)'",
    ),
    "center of a factor": (given(formula="y ~ sex + (1 | g)", center={"sex": "g"}), "'sex'"),
    "dict": (lambda t: pmwmix.fit(NULL, t.to_dict()), "builtins.dict"),
    "array": (lambda t: pmwmix.fit(NULL, t.to_numpy()), "numpy.ndarray"),
    "list": (lambda t: pmwmix.fit(NULL, [1, 2]), "builtins.int"),
    "series": (lambda t: pmwmix.fit(NULL, t["y"]), "Series"),
    "nothing": (lambda t: pmwmix.fit(NULL, None), "NoneType"),
}

DESIGN = {
    "stratum with one PSU": (
        lambda t: pmwmix.fit(NULL, t.assign(s=np.maximum(t["g"], 29)), design={"strata": "s"}),
        "Strata of 's' with one: 30",
    ),
    "PSU cuts schools": (given({"p": np.arange(300)}, design={"psu": "p"}), "'g', but column 'p' varies in"),
    "stratum cuts schools": (given(design={"strata": "sex"}), "'g', but column 'sex' varies in 30.*1, 2"),
    "PSU ids start again": (
        lambda t: pmwmix.fit(NULL, t.assign(s=t["g"] // 4, p=t["g"] % 2), design={"strata": "s", "psu": "p"}),
        "column 's' varies in 2.*ids of 'p' start again",
    ),
    "one PSU": (given({"p": 9}, design={"psu": "p"}), "'p' has only 9"),
    "missing strata": (
        given({"s": np.where(np.arange(300) < 10, np.nan, 1.0)}, design={"strata": "s"}),
        "'s' is missing in 10",
    ),
}

FORMULA = {
    "no text": (given(formula=3), "int"),
    "function of a factor": (given(formula="y ~ log(sex) + (1 | g)"), r"log\(sex\).*sex: categories"),
    "arithmetic with a factor": (given(formula="y ~ I(sex + 1) + (1 | g)"), "sex: categories"),
    "impossible spline": (given(formula="y ~ bs(x, df=1) + (1 | g)"), "df=1"),
    "unknown reference category": (given(formula="y ~ C(sex, Treatment('zz')) + (1 | g)"), "'zz'"),
}

CASES = [
    pytest.param(kind, call, match, id=f"{kind.__name__}: {name}")
    for kind, table in (
        (MissingColumnsError, MISSING_COLUMNS),
        (OptionError, OPTIONS),
        (WeightError, WEIGHTS),
        (NotSupportedError, NOT_SUPPORTED),
        (DataError, DATA),
        (DesignError, DESIGN),
        (FormulaError, FORMULA),
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


FILES = {
    "x.xlsx": (b"", "'x.xlsx'"),
    "binary.csv": (bytes(range(128, 256)) * 9, "'binary.csv'"),
    "zeros.csv": (b"\0" * 99, "'zeros.csv'"),
    "empty.csv": (b"", "'empty.csv'"),
    "semicolon.csv": (b"y;g\n1;1\n", "'semicolon.csv' is 'y;g'"),
    "repeated.csv": (b"y,g,y\n1,1,1\n2,2,2\n", "'y'"),
    "latin.csv": ("y,g\n1,a\n2,ä\n".encode("latin-1"), "'latin.csv'.*UTF-8"),
    "text.csv.gz": (b"y,g\n1,1\n", "'text.csv.gz'"),
    "cut.csv.gz": (gzip.compress(b"y,g\n" + bytes(range(48, 58)) * 999, mtime=0)[:30], "'cut.csv.gz'"),
    "text.parquet": (b"y,g\n1,1\n", "'text.parquet'"),
}


@pytest.mark.parametrize("name", FILES)
def test_unreadable_file(tmp_path, name):
    content, match = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=match):
        pmwmix.fit(NULL, path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"nosuch\.csv"):
        pmwmix.fit(NULL, str(tmp_path / "nosuch.csv"))


def test_damaged_parquet(data, tmp_path):
    path = tmp_path / "damaged.parquet"
    data.to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\0" * 5000 + content[5004:])
    with pytest.raises(DataError, match=r"damaged\.parquet"):
        pmwmix.fit(NULL, path)


ANSWERS = {
    "ci_prob 95": ("null", lambda f, t: f.tidy(95), OptionError, "95"),
    "ci_prob 1": ("null", lambda f, t: f.tidy(1.0), OptionError, "1.0"),
    "ci_prob nan": ("null", lambda f, t: f.tidy(float("nan")), OptionError, "nan"),
    "ci_prob text": ("null", lambda f, t: f.tidy("95%"), OptionError, "95%"),
    "ci_prob of summary": ("null", lambda f, t: f.summary(2), OptionError, "2"),
    "df rule": ("null", lambda f, t: f.tidy(df="satterthwait"), OptionError, "Did you mean 'satterthwaite'"),
    "df rule list": ("null", lambda f, t: f.df([1]), OptionError, r"\[1\]"),
    "satterthwaite with weights": ("weighted", lambda f, t: f.df("satterthwaite"), NotSupportedError, "weights"),
    "ranef": ("null", lambda f, t: f.ranef("schol"), OptionError, "'schol'.*'g'"),
    "residuals": ("null", lambda f, t: f.residuals("pearsn"), OptionError, "Did you mean 'pearson'"),
    "wald term": ("slope", lambda f, t: f.wald(["x", "z"]), OptionError, "'z'.*Intercept, x"),
    "wald width": ("slope", lambda f, t: f.wald(np.eye(3)), OptionError, "3 for 2.*Intercept, x"),
    "predict lacks predictor": ("slope", lambda f, t: f.predict(t[["g"]]), MissingColumnsError, "'x'"),
    "predict lacks group": ("slope", lambda f, t: f.predict(t[["x"]]), MissingColumnsError, "'g'"),
    "predict of a dict": ("slope", lambda f, t: f.predict({"x": [1]}), DataError, "dict"),
    "predict of no rows": ("slope", lambda f, t: f.predict(t.head(0)), DataError, "no rows"),
    "predict infinite": ("slope", lambda f, t: f.predict(t.assign(x=np.inf)), DataError, "'x' has infinite"),
    "predict text for numbers": ("slope", lambda f, t: f.predict(t.assign(x="a")), DataError, "'x' holds 'a'"),
    "predict numbers for text": (
        "sex",
        lambda f, t: f.predict(t.assign(sex=1)),
        DataError,
        "'sex'.*known are 'f', 'm'",
    ),
    "predict new category": ("sex", lambda f, t: f.predict(t.assign(sex="d")), DataError, "'sex' has 'd'"),
    "predict new value of C()": ("C", lambda f, t: f.predict(t.assign(female=7)), DataError, r"C\(female\).*7"),
    "predict beyond a spline": ("bs", lambda f, t: f.predict(t.assign(x=99.0)), DataError, r"bs\(x.*x: numbers"),
    "predict new_groups": ("slope", lambda f, t: f.predict(t, new_groups="mean"), OptionError, "'mean'"),
    "predict unseen group": (
        "slope",
        lambda f, t: f.predict(t.assign(g=99), new_groups="error"),
        DataError,
        "'g': '99'",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_result(data, fits, name):
    fit, call, kind, match = ANSWERS[name]
    with pytest.raises(kind, match=match):
        call(fits[fit], data)


def test_unseen_group_warns(data, fits):
    with pytest.warns(PmwmixWarning, match=r"1 groups of 'g'.*'99'"):
        predicted = fits["slope"].predict(data.assign(g=99))
    pd.testing.assert_series_equal(predicted, fits["slope"].fitted(conditional=False), check_names=False)


POOLS = {
    "nothing": ([], "empty"),
    "no fit among them": (["null", 3], "int"),
    "other terms": (["null", "slope"], "Fit 2 differs from the first in x"),
    "other random effects": (["null", "other group"], r"Fit 2.*\(1 \| half\)"),
    "other standard errors": (["null", "robust"], "vcov='robust'"),
    "other scaling": (["weighted", "sized"], "scaling='size'"),
    "other method": (["null", "reml"], "method='reml'"),
}


@pytest.mark.parametrize("name", POOLS)
def test_pool(fits, name):
    given, match = POOLS[name]
    with pytest.raises(OptionError, match=match):
        pool([fits.get(one, one) if isinstance(one, str) else one for one in given])


def test_pool_of_a_number():
    with pytest.raises(OptionError, match="int"):
        pool(3)


def test_pool_is_the_function(fits):
    with pytest.raises(OptionError, match="empty"):
        pmwmix.pool([])


def test_load(tmp_path, data):
    np.savez(tmp_path / "a.npz", a=1)
    np.savez(tmp_path / "b.npz", meta=np.array('{"format": 1}'))
    np.savez(tmp_path / "c.npz", meta=np.array("[1]"))
    np.save(tmp_path / "d.npy", np.arange(3))
    (tmp_path / "e.zip").write_bytes(b"PK\x03\x04 no zip")
    (tmp_path / "f.fit").write_bytes(b"")
    data.to_csv(tmp_path / "g.csv")
    (tmp_path / "h").mkdir()
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError, match=f"not a saved fit. {path.name!r}"):
            pmwmix.load(path)
    with pytest.raises(DataError, match="nosuch"):
        pmwmix.load(tmp_path / "nosuch")


def test_save(tmp_path, fits):
    with pytest.raises(OptionError, match="nosuch"):
        fits["null"].save(tmp_path / "nosuch" / "a.fit")
    with pytest.raises(OptionError, match=re.escape(tmp_path.name)):
        fits["null"].save(tmp_path)


# -- what is harmless ---------------------------------------------------------------------------------------------


def test_unused_plausible_values_do_no_harm(data, fits):
    fit = pmwmix.fit(SLOPE, data, pv={"math": "PV{}MATH", "read": "PV{}READ"})
    assert fit.n_pv == 1 and not fit.notes
    assert fit.coef.equals(fits["slope"].coef)


def test_one_plausible_value_alone_is_noted(data):
    fit = pmwmix.fit("PV2MATH ~ x + (1 | g)", data, pv=PV)
    assert "'PV2MATH' is one of the 3 plausible values of 'math'" in " ".join(fit.notes)


def test_group_without_weight_leaves(data):
    fit = pmwmix.fit(NULL, data.assign(w1=data["w1"].where(data["g"] != 1, 0.0)), weights="w1")
    lost = int((data["g"] == 1).sum())
    assert fit.nobs == len(data) - lost and fit.n_groups["g"] == 29
    assert fit.settings.zero_weight == {"w1": lost}


def test_own_group_with_a_slope_alone_is_identified(data):
    # the variance of a slope without intercept shows in the spread of the rows with large x
    assert pmwmix.fit("y ~ 1 + (0 + x | student)", data).converged


def test_names_that_stand_for_something_else(data):
    with pytest.raises(DataError, match="'Intercept'"):
        pmwmix.fit("y ~ Intercept + (1 | g)", data.rename(columns={"x": "Intercept"}))
    for name in ("obs", "Residual"):
        with pytest.raises(DataError, match=name):
            pmwmix.fit(f"y ~ 1 + (1 | {name})", data.rename(columns={"g": name}))


def test_a_unit_weight_that_is_zero_in_some_of_its_rows(data):
    half = data.assign(w2=np.where(data.index % 2 == 0, 0.0, 3.0))
    with pytest.raises(WeightError, match=r"'w2' varies in 30 of 30"):
        pmwmix.fit("y ~ 1 + (1 | g)", half, weights=["w1", "w2"])


def test_pooling_other_rows(data):
    fits = [pmwmix.fit("y ~ 1 + (1 | g)", part) for part in (data, data[data["g"] < 20])]
    with pytest.raises(OptionError, match="Fit 2 has"):
        pool(fits)


def test_progress_is_a_switch(data):
    with pytest.raises(OptionError, match="'yes'"):
        pmwmix.fit("y ~ 1 + (1 | g)", data, progress="yes")
