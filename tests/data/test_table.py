"""The same numbers whatever the table is made of, and the caller's table left alone."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import pmwmix
from pmwmix.data.pvsets import expand_pv
from pmwmix.data.table import Table

FORMULA = "y ~ x + sex + (1 | g)"
RTOL = 1e-12  # the same float64 columns; ids may be coded in another order, which changes the order of sums


@pytest.fixture(scope="module")
def data():
    names = {"SCHOOLID": "g", "W_FSTUWT": "w", "escs": "x", "PV1MATH": "y"}
    table = pmwmix.simulate_survey(30, 10, n_pv=2, random_seed=1).data.rename(columns=names)[
        [*names.values(), "female"]
    ]
    table["sex"] = np.where(table["female"] == 1, "girl", "boy")
    table["grade"] = np.array([7, 8, 9])[np.arange(len(table)) % 3]
    return table


@pytest.fixture(scope="module")
def gaps(data):
    """The same table with missing cells: 3 of x, 2 of sex (one of them in a row without x), none of y."""
    out = data.copy()
    out.loc[[3, 50, 200], "x"] = np.nan
    out.loc[[50, 60], "sex"] = None
    return out


@pytest.fixture(scope="module")
def plain(gaps):
    return pmwmix.fit(FORMULA, gaps, weights="w")


def nullable(table):
    return table.astype({"y": "Float64", "x": "Float64", "w": "Float64", "g": "Int64", "sex": "string"})


def arrow(table):
    kinds = {"y": "double", "x": "double", "w": "double", "g": "int64", "sex": "string"}
    return table.astype({name: f"{kind}[pyarrow]" for name, kind in kinds.items()})


def polars(table):
    return pl.from_pandas(table)


TABLES = {
    "object": lambda t: t.astype(object),
    "nullable": nullable,
    "pyarrow dtypes": arrow,
    "category": lambda t: t.astype({"sex": "category", "g": "category"}),
    "ordered category": lambda t: t.assign(sex=pd.Categorical(t["sex"], ["boy", "girl", "other"], ordered=True)),
    "small integers": lambda t: t.astype({"g": "uint8"}),
    "float ids": lambda t: t.astype({"g": float}),
    "fractional ids": lambda t: t.assign(g=t["g"] / 2),
    "padded text ids": lambda t: t.assign(g=t["g"].map("{:04d}".format)),
    "huge ids": lambda t: t.assign(g=t["g"].astype("int64") + 2**60),
    "huge nullable ids": lambda t: t.assign(g=(t["g"].astype("int64") + 2**60).astype("Int64")),
    "huge object ids": lambda t: t.assign(g=(t["g"].astype("int64") + 2**60).astype(object)),
    "polars": polars,
    "polars lazy": lambda t: polars(t).lazy(),
    "polars categorical": lambda t: polars(t).with_columns(pl.col("sex").cast(pl.Categorical)),
    "polars enum": lambda t: polars(t).with_columns(pl.col("sex").cast(pl.Enum(["boy", "girl", "other"]))),
    "polars decimal ids": lambda t: polars(t).with_columns(pl.col("g").cast(pl.Decimal(10, 2))),
    "polars huge ids": lambda t: polars(t).with_columns(pl.col("g").cast(pl.Int64) + 2**60),
    "pyarrow": lambda t: polars(t).to_arrow(),
    "pyarrow dictionary": lambda t: polars(t).with_columns(pl.col("sex").cast(pl.Categorical)).to_arrow(),
    "pyarrow huge ids": lambda t: polars(t).with_columns(pl.col("g").cast(pl.Int64) + 2**60).to_arrow(),
    "more columns": lambda t: t.assign(note=[[1]] * len(t), when=pd.Timestamp("2020")),
    "rows shuffled": lambda t: t.sample(frac=1, random_state=1),
}


def same(fit, other):
    np.testing.assert_allclose(fit.coef, other.coef, rtol=RTOL)
    np.testing.assert_allclose(fit.se, other.se, rtol=1e-10)  # sums of squares of nearly cancelling scores
    np.testing.assert_allclose(fit.loglik, other.loglik, rtol=RTOL)
    assert list(fit.coef.index) == list(other.coef.index) == ["Intercept", "x", "sex[T.girl]"]
    assert fit.nobs == other.nobs and fit.n_groups.equals(other.n_groups)


@pytest.mark.parametrize("name", TABLES)
def test_same_numbers(gaps, plain, name):
    table = TABLES[name](gaps)
    before = table.clone() if isinstance(table, pl.DataFrame) else table.copy() if hasattr(table, "copy") else table
    fit = pmwmix.fit(FORMULA, table, weights="w")
    same(fit, plain)
    assert fit.settings.dropped == {"x": 3, "sex": 2} and fit.settings.n_read == 300
    if isinstance(table, pd.DataFrame):
        pd.testing.assert_frame_equal(table, before)
    elif isinstance(table, pl.DataFrame | type(polars(gaps).to_arrow())):
        assert table.equals(before)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "pq"])
def test_files(gaps, plain, tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    if "csv" in ending:
        gaps.to_csv(path, index=ending == "csv", na_rep="NA" if ending == "csv" else "")
    else:
        gaps.to_parquet(path)
    same(pmwmix.fit(FORMULA, path, weights="w"), plain)
    same(pmwmix.fit(FORMULA, str(path), weights="w"), plain)


def test_summary_counts_lost_rows(plain):
    text = plain.summary().to_text(1000)
    assert "296 used of 300" in text and "x" in text


@pytest.mark.parametrize(
    ("ids", "labels"),
    [
        (lambda g: g, [1, 2, 3]),
        (lambda g: g.astype(float), [1, 2, 3]),
        (lambda g: g / 2, [0.5, 1.0, 1.5]),
        (lambda g: g.map("{:04d}".format), ["0001", "0002", "0003"]),
        (lambda g: g.map("{:04d}".format).astype("category"), ["0001", "0002", "0003"]),
        (lambda g: g.astype("int64") + 2**60, [2**60 + 1, 2**60 + 2, 2**60 + 3]),
    ],
)
def test_labels_of_ids(data, ids, labels):
    table = data.assign(g=ids(data["g"]))
    fit = pmwmix.fit("y ~ 1 + (1 | g)", table)
    assert list(fit.ranef().index[:3]) == labels
    np.testing.assert_allclose(fit.predict(table, new_groups="error"), fit.fitted(), rtol=RTOL)


def test_ids_of_another_kind_in_new_data(data):
    fit = pmwmix.fit("y ~ x + (1 | g)", data, center={"x": "g"})
    for ids in (data["g"].astype(str), data["g"].astype(float), data["g"].astype("Int64")):
        predicted = fit.predict(data.assign(g=ids), new_groups="error")
        np.testing.assert_allclose(predicted, fit.fitted(), rtol=RTOL)
    one = fit.predict(data.assign(g=data["g"].astype(str)).iloc[[0]], new_groups="error")  # centred at the fit's mean
    np.testing.assert_allclose(one, fit.fitted().iloc[[0]], rtol=RTOL)


def test_categories_that_look_missing(data, tmp_path):
    words = np.array(["None", "NA", "nan", "null"])[np.arange(len(data)) % 4]
    fit = pmwmix.fit("y ~ word + (1 | g)", data.assign(word=words))
    assert fit.nobs == 300
    assert list(fit.coef.index) == ["Intercept", "word[T.None]", "word[T.nan]", "word[T.null]"]
    path = tmp_path / "words.csv"
    data.assign(word=words).to_csv(path)
    from_file = pmwmix.fit("y ~ word + (1 | g)", path)  # a file cannot tell the text NA from a missing value
    assert from_file.settings.dropped == {"word": 75}
    assert list(from_file.coef.index) == ["Intercept", "word[T.nan]", "word[T.null]"]


def test_unused_categories_leave(data):
    kind = pd.CategoricalDtype(["none", "boy", "girl"])
    table = data.astype({"sex": kind})
    table.loc[0, "sex"] = "none"
    table.loc[0, "x"] = np.nan  # the only row of its category drops out
    fit = pmwmix.fit(FORMULA, table)
    assert list(fit.coef.index) == ["Intercept", "x", "sex[T.girl]"] and fit.nobs == 299


def test_order_of_categories_is_kept(data):
    table = data.assign(sex=pd.Categorical(data["sex"], ["girl", "boy"], ordered=True))
    fit, other = pmwmix.fit(FORMULA, table), pmwmix.fit(FORMULA, data)
    assert fit.coef.index[2] == "sex[T.boy]"
    np.testing.assert_allclose(fit.coef["sex[T.boy]"], -other.coef["sex[T.girl]"], rtol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda t: pd.Categorical(t["grade"]),
        lambda t: pd.cut(t["x"], 3),
        lambda t: t["grade"].astype(str),
        lambda t: pd.Categorical(t["grade"].astype(str), ["9", "8", "7"], ordered=True),
    ],
)
def test_categories_of_any_kind_predict(data, tmp_path, make):
    table = data.assign(c=make(data))
    fit = pmwmix.fit("y ~ c + (1 | g)", table)
    np.testing.assert_allclose(fit.predict(table), fit.fitted(), rtol=RTOL)
    np.testing.assert_allclose(fit.predict(table.head(1)), fit.fitted().head(1), rtol=RTOL)
    fit.save(tmp_path / "a.fit")
    np.testing.assert_allclose(pmwmix.load(tmp_path / "a.fit").predict(table), fit.fitted(), rtol=RTOL)


def test_bool_predictor(data):
    expected = pmwmix.fit("y ~ female + (1 | g)", data)
    for kind in (bool, "boolean", "bool[pyarrow]"):
        fit = pmwmix.fit("y ~ female + (1 | g)", data.astype({"female": kind}))
        np.testing.assert_allclose(fit.coef, expected.coef, rtol=RTOL)
    for table in (polars(data.astype({"female": bool})), polars(data.astype({"female": bool})).to_arrow()):
        np.testing.assert_allclose(pmwmix.fit("y ~ female + (1 | g)", table).coef, expected.coef, rtol=RTOL)


def test_names_in_backticks(data):
    expected = pmwmix.fit("y ~ x + (1 | g)", data)
    names = {"y": "Punkte in Mathe", "x": "Größe der Familie", "g": "École n°"}
    fit = pmwmix.fit("`Punkte in Mathe` ~ `Größe der Familie` + (1 | `École n°`)", data.rename(columns=names))
    np.testing.assert_allclose(fit.coef, expected.coef, rtol=RTOL)
    assert list(fit.coef.index) == ["Intercept", "Größe der Familie"]
    assert fit.ranef().index.name == "École n°"


def test_column_names_that_are_numbers(data):
    fit = pmwmix.fit("`10` ~ `11` + (1 | `12`)", data[["y", "x", "g"]].set_axis([10, 11, 12], axis=1))
    np.testing.assert_allclose(fit.coef, pmwmix.fit("y ~ x + (1 | g)", data).coef, rtol=RTOL)


def test_row_labels_are_carried(gaps):
    labels = pd.Index([f"pupil {i}" for i in range(len(gaps))])[::-1]
    fit = pmwmix.fit(FORMULA, gaps.set_index(labels))
    kept = labels[gaps[["x", "sex"]].notna().all(axis=1)]
    for series in (fit.fitted(), fit.residuals(), fit.predict()):
        assert series.index.equals(kept)
    predicted = fit.predict(gaps.set_index(labels))
    assert predicted.index.equals(labels)
    np.testing.assert_allclose(predicted[kept], fit.fitted(), rtol=RTOL)
    assert predicted.isna().sum() == 4
    assert pmwmix.fit(FORMULA, polars(gaps)).fitted().index[3] == 4  # row 3 has no x


def test_rows_by_name_not_by_place(gaps):
    expected = pmwmix.fit(FORMULA, gaps).fitted()
    shuffled = gaps.sample(frac=1, random_state=2)
    np.testing.assert_allclose(pmwmix.fit(FORMULA, shuffled).fitted()[expected.index], expected, rtol=1e-9)


def test_columns_are_read_when_needed(data):
    table = Table(data.assign(bad=1j))
    assert table.columns(["x"])["x"].dtype == float and "bad" in table.names


def test_order_of_plausible_values():
    names = ["PV10MATH", "PV2MATH", "PV1MATH", *[f"PV{i}MATH" for i in range(3, 10)], "PV1READ", "XPV1MATH"]
    assert expand_pv({"math": "PV{}MATH"}, names)["math"] == [f"PV{i}MATH" for i in range(1, 11)]
    assert expand_pv({"b": "B0{}"}, ["B01", "B02", "B10"])["b"] == ["B01", "B02"]
    assert expand_pv({"b": ["PV1READ", "PV1MATH"]}, names)["b"] == ["PV1READ", "PV1MATH"]
