"""Survey files in their real layouts, written here: what is read, merged, set to missing, reported and refused."""

import copy
import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import close, survey

import pmwmix
from pmwmix import PmwmixError, PmwmixWarning
from pmwmix.data.pieces import stream_of
from pmwmix.readers.missing import says_missing
from pmwmix.readers.report import Report
from pmwmix.readers.source import row_pieces

pyreadstat = pytest.importorskip("pyreadstat")

AGREE = {1.0: "Strongly disagree", 2.0: "Disagree", 3.0: "Agree", 97.0: "Not Applicable", 99.0: "No Response"}


def pisa_students(n=72):
    """PISA 2018 in small: 3 countries, 6 schools each."""
    rng = np.random.default_rng(1)
    school = np.repeat(np.arange(18), n // 18)
    d = {
        "CNTRYID": np.array([40.0, 554.0, 578.0])[school // 6],
        "CNT": np.array(["AUT", "NZL", "NOR"])[school // 6],
        "CNTSCHID": np.array([40000.0, 55400.0, 57800.0])[school // 6] + school,
        "CNTSTUID": 1e6 + np.arange(n),
        "W_FSTUWT": rng.uniform(10, 20, n),
        "ESCS": np.where(rng.random(n) < 0.1, 9999.0, rng.normal(size=n)),
        "ST011Q01TA": rng.choice([1.0, 2.0, 3.0, 97.0, 99.0], n),
        "ST004D01T": rng.choice([1.0, 2.0], n),
    }
    for name in ("MATH", "READ", "SCIE"):
        d.update({f"PV{k}{name}": rng.normal(500, 90, n) for k in range(1, 11)})
    d.update({f"W_FSTURWT{k}": rng.uniform(5, 30, n) for k in range(1, 81)})
    return pd.DataFrame(d)


def pisa_schools():
    school = np.arange(18)
    return pd.DataFrame(
        {
            "CNTRYID": np.array([40.0, 554.0, 578.0])[school // 6],
            "CNTSCHID": np.array([40000.0, 55400.0, 57800.0])[school // 6] + school,
            "W_SCHGRNRABWT": 1.0 + school,
            "SC001Q01TA": 1.0 + school % 3,
            "W_FSTUWT": 7.0,
        }
    )


def write_students(path, data=None, **more):
    d = pisa_students() if data is None else data
    pyreadstat.write_sav(
        d,
        str(path),
        column_labels={"ESCS": "Index of economic, social and cultural status", "ST011Q01TA": "In your home: a desk?"},
        variable_value_labels={
            "ST011Q01TA": AGREE,
            "ST004D01T": {1.0: "Female", 2.0: "Male"},
            "CNT": {"AUT": "Austria", "NZL": "New Zealand", "NOR": "Norway"},
        },
        missing_ranges={"ESCS": [{"lo": 9997, "hi": 9999}], "ST011Q01TA": [{"lo": 95, "hi": 99}]},
        **more,
    )
    return path


@pytest.fixture(scope="module")
def pisa(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pisa")
    write_students(folder / "CY07_MSU_STU_QQQ.sav")
    pyreadstat.write_sav(
        pisa_schools(), str(folder / "CY07_MSU_SCH_QQQ.sav"), column_labels={"SC001Q01TA": "Community of the school"}
    )
    return folder


def iea_students(country, code, seed, classes=4):
    rng = np.random.default_rng(seed)
    n = classes * 5
    school = np.repeat(np.arange(classes), 5) // 2
    return pd.DataFrame(
        {
            "IDCNTRY": float(code), "IDSCHOOL": 1.0 + school, "IDCLASS": 101.0 + np.repeat(np.arange(classes), 5),
            "IDSTUD": 10101.0 + np.arange(n), "TOTWGT": rng.uniform(5, 9, n), "JKZONE": 1.0 + school,
            "JKREP": school % 2 * 1.0, "BSBG01": rng.choice([1.0, 2.0, 9.0], n),
            "BSBG03": rng.choice([1.0, 2.0, 3.0, 4.0], n),
            **{f"BSMMAT0{k}": rng.normal(500, 90, n) for k in range(1, 6)},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def timss(tmp_path_factory):
    """A TIMSS grade 8 folder: students, schools, linkage, mathematics teachers of two countries; a stray file."""
    folder = tmp_path_factory.mktemp("timss")
    values = {
        "BSBG01": {1.0: "Girl", 2.0: "Boy", 9.0: "Omitted or invalid"},
        "IDCNTRY": {40.0: "Austria", 380.0: "Italy"},
    }
    for seed, (name, code) in enumerate({"aut": 40, "ita": 380}.items()):
        students = iea_students(name, code, seed)
        if name == "ita":
            students = students.rename(columns=str.lower).drop(columns="bsbg03")
        labels = {k.lower() if name == "ita" else k: v for k, v in values.items()}
        pyreadstat.write_sav(students, str(folder / f"bsg{name}m7.sav"), variable_value_labels=labels)
        schools = pd.DataFrame({"IDCNTRY": float(code), "IDSCHOOL": [1.0, 2.0, 9.0], "SCHWGT": [3.0, 4.0, 5.0]})
        pyreadstat.write_sav(schools, str(folder / f"bcg{name}m7.sav"))
        ids = iea_students(name, code, seed)
        link = pd.concat([ids, ids])[["IDCNTRY", "IDSCHOOL", "IDCLASS", "IDSTUD"]].reset_index(drop=True)
        link["IDTEACH"] = np.repeat([101.0, 201.0], len(ids))
        link["IDLINK"] = 1.0
        link["MATWGT"] = 2.0
        pyreadstat.write_sav(link, str(folder / f"bst{name}m7.sav"))
        teachers = pd.DataFrame(
            {"IDCNTRY": float(code), "IDSCHOOL": np.tile([1.0, 2.0], 2), "IDTEACH": [101.0, 101, 201, 201]}
        )
        teachers["IDLINK"], teachers["BTBG01"] = 1.0, [3.0, 5.0, 7.0, 9.0]
        pyreadstat.write_sav(teachers, str(folder / f"btm{name}m7.sav"))
    (folder / "readme.csv").write_text("a,b\n1,2\n")
    return folder


# -- one file ---------------------------------------------------------------------------------------------------------


def test_columns_rows_and_codes_of_a_sav_file(pisa):
    d = pmwmix.read_survey(
        pisa / "CY07_MSU_STU_QQQ.sav", countries=["NZL", "austria"], columns=["escs", "PV{}MATH", "ST011Q01TA", "CNT"]
    )
    raw = pisa_students()
    here = raw[raw["CNT"].isin(["NZL", "AUT"])].reset_index(drop=True)
    assert set(d) == {"escs", "ST011Q01TA", "CNT", *(f"PV{k}MATH" for k in range(1, 11))}
    pd.testing.assert_series_equal(d["escs"], here["ESCS"].mask(here["ESCS"] > 9000), check_names=False)
    assert d["ST011Q01TA"].isna().sum() == (here["ST011Q01TA"] > 90).sum()
    report = d.attrs["pmwmix"]
    counts = report.table("missing").set_index(["column", "code"])["count"]
    assert counts["escs", 9999.0] == (here["ESCS"] == 9999).sum()
    assert counts["ST011Q01TA", 97.0] == (here["ST011Q01TA"] == 97).sum()
    assert f"{len(here)} of {len(raw)} rows" in str(report) and "97 Not Applicable" in str(report)


@pytest.mark.parametrize("ending", [".zsav", ".dta", ".csv", ".csv.gz", ".parquet"])
def test_every_format_gives_the_same_numbers(ending, tmp_path):
    raw, path = pisa_students(), tmp_path / f"stu{ending}"
    if ending == ".zsav":
        write_students(path, compress=True)
    elif ending == ".dta":
        pyreadstat.write_dta(raw, str(path))
    elif ending == ".parquet":
        raw.to_parquet(path)
    else:
        raw.to_csv(path, index=False)
    d = pmwmix.read_survey(path, countries="NOR", columns=["W_FSTUWT", "CNT"], progress=False)
    assert d["W_FSTUWT"].to_numpy() == pytest.approx(raw.loc[raw["CNT"] == "NOR", "W_FSTUWT"].to_numpy(), rel=1e-12)
    whole = pmwmix.read_survey(path, columns="PV1MATH", progress=True)
    assert whole["PV1MATH"].to_numpy() == pytest.approx(raw["PV1MATH"].to_numpy(), rel=1e-12)


def test_sas_files_use_pyreadstat(tmp_path, monkeypatch):
    """Nobody but SAS writes sas7bdat: a Stata file behind SAS's reader stands for one, special missings included."""
    mixed = pd.DataFrame({"a": pd.Series([1.0, "a", "b", 4.0], dtype=object), "b": [1.0, 2.0, 3.0, 4.0]})
    path = tmp_path / "cy6.sas7bdat"
    pyreadstat.write_dta(mixed, str(path), missing_user_values={"a": ["a", "b"]})
    monkeypatch.setattr(pyreadstat, "read_sas7bdat", pyreadstat.read_dta)
    d = pmwmix.read_survey(path)
    assert d["a"].dtype == float and d["a"].isna().tolist() == [False, True, True, False]
    assert {(one["code"], one["count"]) for one in d.attrs["pmwmix"]["missing"]} == {("a", 1), ("b", 1)}
    assert pmwmix.read_survey(path, missing=False)["a"].tolist() == [1.0, "a", "b", 4.0]


def test_scattered_rows_come_in_few_pieces():
    rng = np.random.default_rng(0)
    rows = rng.random(5000) < 0.3
    pieces = list(row_pieces(rows))
    assert len(pieces) <= 8
    found = np.concatenate([np.arange(a, a + n)[slice(None) if m is None else m] for a, n, m in pieces])
    assert np.array_equal(found, np.flatnonzero(rows))


def test_codes_by_label_by_hand_and_by_preset(tmp_path, monkeypatch):
    d = pd.DataFrame({"Q1": [1.0, 2.0, 9.0], "Q2": [1.0, 8.0, 9.0], "T": ["a", "99", "b"]})
    path = tmp_path / "q.sav"
    pyreadstat.write_sav(
        d, str(path), variable_value_labels={"Q1": {1.0: "Yes", 2.0: "No", 9.0: "<Omitted or invalid>"}}
    )
    assert pmwmix.read_survey(path)["Q1"].isna().tolist() == [False, False, True]
    assert not pmwmix.read_survey(path, missing=False).isna().any(axis=None)
    byhand = pmwmix.read_survey(path, missing={"q2": [8, 9], "t": "99"})
    assert byhand["Q2"].isna().tolist() == [False, True, True] and byhand["T"].isna().tolist() == [False, True, False]

    monkeypatch.setattr("pmwmix.readers.plan.find_preset", lambda name: SimpleNamespace(no_answer=("NO",)))
    preset = pmwmix.read_survey(path, survey="mine")
    assert preset["Q1"].isna().sum() == 2 and preset["Q2"].isna().sum() == 0
    assert says_missing("NOT REACHED") and not says_missing("Never omitted")


def test_words_for_no_answer_by_study(tmp_path):
    """EdSurvey's omitted levels of TIMSS and ECLS-K:2011; a file's own declaration does not switch them off."""
    labels = {1.0: "Yes", 6.0: "n. rea.", 8.0: "Don't know", 99.0: "Other"}
    child = {1.0: "1: YES", -8.0: "-8: DON'T KNOW", -9.0: "-9: NOT ASCERTAINED"}
    d = pd.DataFrame({"Q": [1.0, 6.0, 8.0, 99.0], "P": [1.0, -8.0, -9.0, 1.0]})
    path = tmp_path / "q.sav"
    pyreadstat.write_sav(d, str(path), variable_value_labels={"Q": labels, "P": child}, missing_ranges={"Q": [99]})
    read = {name: pmwmix.read_survey(path, survey=name) for name in (None, "timss-2003", "eclsk-2011")}
    assert read[None]["Q"].isna().tolist() == [False, False, False, True]
    assert read["timss-2003"]["Q"].isna().tolist() == [False, True, False, True]
    assert read["timss-2003"]["P"].isna().sum() == 0
    assert read["eclsk-2011"]["P"].isna().tolist() == [False, True, True, False]
    counted = read["timss-2003"].attrs["pmwmix"].table("missing").set_index("code")["label"]
    assert counted[6.0] == "n. rea." and counted[99.0] == "Other"


def test_labels_reach_the_tables(pisa, tmp_path):
    path = pisa / "CY07_MSU_STU_QQQ.sav"
    d = pmwmix.read_survey(path, columns=["ESCS", "ST004D01T", "PV1MATH", "CNTSCHID"])
    fit = pmwmix.fit("PV1MATH ~ ESCS * ST004D01T + (1 | CNTSCHID)", d)
    status = "Index of economic, social and cultural status"
    assert fit.tidy(labels=True)["label"].tolist() == ["", status, "", f"{status} x ST004D01T"]
    assert "label" not in fit.tidy()
    assert f"ESCS: {status}" in " ".join(str(fit.summary()).split())
    fit.save(tmp_path / "fit")
    assert pmwmix.load(tmp_path / "fit").tidy(labels=True)["label"].tolist() == fit.tidy(labels=True)["label"].tolist()
    assert pmwmix.fit("PV1MATH ~ ESCS + (1 | CNTSCHID)", path).settings.labels == {"ESCS": status}
    groups = pmwmix.fit_groups("PV1MATH ~ ESCS + (1 | CNTSCHID)", path)
    assert groups.tidy(labels=True)["label"].tolist() == ["", status] * 3


def test_weights_bring_their_replicates_strata_and_outcomes(tmp_path):
    columns = ["W1C0", "W1C1", "W1C2", "W1C0STR", "W1C0PSU", "W2C0", "W2C1", "x"]
    pd.DataFrame(1.0, index=range(3), columns=columns).to_csv(tmp_path / "k.csv", index=False)
    d = pmwmix.read_survey(tmp_path / "k.csv", survey="eclsk-2011", columns=["x", "w1c0"])
    assert set(d) == {"x", "w1c0", "W1C1", "W1C2", "W1C0STR", "W1C0PSU"}
    pd.DataFrame({"KNOWLMLE": [1.0], "x": [1.0]}).to_csv(tmp_path / "c.csv", index=False)
    assert "KNOWLMLE" in pmwmix.read_survey(tmp_path / "c.csv", survey="cived-1999", columns=["x"])


def test_value_labels_to_categories(pisa):
    path = pisa / "CY07_MSU_STU_QQQ.sav"
    d = pmwmix.read_survey(path, columns=["ST011Q01TA", "ST004D01T", "CNT", "ESCS"], labels=True)
    assert list(d["ST011Q01TA"].cat.categories) == ["Strongly disagree", "Disagree", "Agree"]
    assert not d["ST011Q01TA"].cat.ordered and set(d["CNT"].cat.categories) == {"Austria", "New Zealand", "Norway"}
    assert d["ESCS"].dtype == float
    d = pmwmix.read_survey(path, columns=["ST011Q01TA", "ST004D01T"], labels={"st011q01ta": "ordered"})
    assert d["ST011Q01TA"].cat.ordered and d["ST004D01T"].dtype == float


def test_report_survives_pandas(pisa):
    d = pmwmix.read_survey(pisa / "CY07_MSU_STU_QQQ.sav", columns=["ESCS", "CNT"])
    part = d[d["CNT"] == "NZL"]
    assert part.attrs["pmwmix"]["labels"]["ESCS"].startswith("Index of")
    json.dumps(copy.deepcopy(d.attrs))
    assert pmwmix.codebook(part, "economic")["variable"].tolist() == ["ESCS"]


# -- merging ----------------------------------------------------------------------------------------------------------


def test_pisa_schools_join_their_students(pisa):
    columns = ["ESCS", "CNT", "SC001Q01TA"]
    files = (pisa / "CY07_MSU_STU_QQQ.sav", pisa / "CY07_MSU_SCH_QQQ.sav")
    d = pmwmix.read_survey(files[0], school=files[1], survey="pisa-2018", columns=columns, countries=["NZL", "NOR"])
    raw = pisa_students()
    raw = raw[raw["CNT"] != "AUT"].merge(pisa_schools(), on="CNTSCHID", suffixes=("", "_school"))
    assert d["W_SCHGRNRABWT"].to_numpy() == pytest.approx(raw["W_SCHGRNRABWT"].to_numpy())
    assert d["W_FSTUWT"].to_numpy() == pytest.approx(raw["W_FSTUWT"].to_numpy())  # the students' own
    assert {"CNTSCHID", "PV10SCIE", "W_FSTURWT80", "PV1MATH"} <= set(d)
    merge = d.attrs["pmwmix"]["merges"][0]
    assert merge["keys"] == ["CNTRYID", "CNTSCHID"] and merge["unmatched"] == 0 and merge["offered"] == 18
    assert merge["unused"] == 6  # Austrian schools: the school file has no column CNT to leave them out by


def test_plausible_values_by_the_name_of_their_set(pisa):
    d = pmwmix.read_survey(pisa / "CY07_MSU_STU_QQQ.sav", survey="pisa-2018", columns=["math", "ESCS"])
    assert "PV10MATH" in d and "PV1READ" not in d and "W_FSTUWT" in d and "ST004D01T" not in d


def test_unmatched_rows_are_counted_and_named(pisa, tmp_path):
    schools = pisa_schools().iloc[3:]
    schools.to_csv(tmp_path / "sch.csv", index=False)
    with pytest.warns(PmwmixWarning, match=r"12 of 72 rows have no match in the school file.*3 schools.*40000"):
        d = pmwmix.read_survey(pisa / "CY07_MSU_STU_QQQ.sav", school=tmp_path / "sch.csv")
    assert d["W_SCHGRNRABWT"].isna().sum() == 12
    merge = d.attrs["pmwmix"]["merges"][0]
    assert (merge["unmatched"], merge["unused"], merge["not_taken"]) == (12, 0, ["W_FSTUWT"])
    assert "12 rows of 3 schools without a match" in str(d.attrs["pmwmix"])


def test_text_ids_meet_numbers(pisa, tmp_path):
    raw = pisa_students().astype({"CNTSCHID": int, "CNTRYID": int})
    raw["CNTSCHID"] = "0" + raw["CNTSCHID"].astype(str)
    pyreadstat.write_sav(raw, str(tmp_path / "stu.sav"))
    d = pmwmix.read_survey(tmp_path / "stu.sav", school=pisa / "CY07_MSU_SCH_QQQ.sav")
    assert d["W_SCHGRNRABWT"].notna().all()


def test_iea_folder_is_discovered_stacked_and_merged(timss):
    d = pmwmix.read_survey(timss, survey="timss-2019")
    assert len(d) == 40 and d["IDCNTRY"].value_counts().to_dict() == {40.0: 20, 380.0: 20}
    assert d["SCHWGT"].tolist() == [3.0 if one == 1 else 4.0 for one in d["IDSCHOOL"]]
    report = d.attrs["pmwmix"]
    assert "Column 'BSBG03' is not in 'bsgitam7.sav': missing there." in report["notes"]
    assert d.loc[d["IDCNTRY"] == 380, "BSBG03"].isna().all()
    nines = sum(one["count"] for one in report["missing"] if one["column"] == "BSBG01")
    assert nines == d["BSBG01"].isna().sum() > 0  # by its label
    assert report["merges"][0]["keys"] == ["IDCNTRY", "IDSCHOOL"] and report["merges"][0]["unused"] == 2
    only = pmwmix.read_survey(timss, countries=["ITA"], columns=["BSMMAT{}"], school=False)
    assert len(only) == 20 and list(only) == [f"BSMMAT0{k}" for k in range(1, 6)]


def test_teachers_join_through_the_linkage_file(timss):
    with pytest.warns(PmwmixWarning, match="80 rows of 40 students"):
        d = pmwmix.read_survey(timss, teacher=True)
    assert len(d) == 80 and set(d["MATWGT"]) == {2.0}
    expected = {(1.0, 101.0): 3.0, (2.0, 101.0): 5.0, (1.0, 201.0): 7.0, (2.0, 201.0): 9.0}
    assert [expected[s, t] for s, t in zip(d["IDSCHOOL"], d["IDTEACH"], strict=True)] == d["BTBG01"].tolist()
    assert [one["role"] for one in d.attrs["pmwmix"]["merges"]] == ["school", "link", "teacher"]
    files = {"link": timss / "bstautm7.sav", "teacher": timss / "btmautm7.sav"}
    with pytest.warns(PmwmixWarning, match="40 rows of 20 students"):
        d = pmwmix.read_survey(timss / "bsgautm7.sav", teacher=(files["link"], files["teacher"]))
    assert len(d) == 40


def test_homes_join_their_students(tmp_path):
    students = iea_students("aut", 40, 3).rename(columns=lambda name: name.replace("BS", "AS"))
    students.to_csv(tmp_path / "asgautr4.csv", index=False)
    homes = students[["IDCNTRY", "IDSCHOOL", "IDSTUD"]].assign(ASBH01=np.arange(20.0))
    homes.iloc[:0:-1].to_csv(tmp_path / "ashautr4.csv", index=False)
    with pytest.warns(PmwmixWarning, match=r"1 of 20 rows have no match in the home file.*1 student \('40 1 10101'\)"):
        d = pmwmix.read_survey(tmp_path, home=True, columns=["ASBH01", "IDSTUD"])
    assert d["ASBH01"].tolist()[1:] == list(range(1, 20)) and np.isnan(d["ASBH01"][0])


def test_files_of_one_kind_are_stacked(timss):
    d = pmwmix.read_survey([timss / "bsgautm7.sav", timss / "bsgitam7.sav"], columns=["idstud", "idcntry"])
    assert len(d) == 40 and set(d) == {"idcntry", "idstud"}


# -- fitting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["s.sav", "s.dta"])
def test_a_path_can_be_fitted(name, tmp_path):
    s = survey(2)
    d = s.data.copy()
    d.loc[:5, "escs"] = 99.0
    if name.endswith("sav"):
        pyreadstat.write_sav(d, str(tmp_path / name), missing_ranges={"escs": [99]})
    else:
        pyreadstat.write_dta(d.assign(escs=d["escs"].mask(d["escs"] == 99)), str(tmp_path / name))
    formula = "math ~ escs + (1 | SCHOOLID)"
    a = pmwmix.fit(formula, tmp_path / name, weights=s.weights, pv=s.pv)
    b = pmwmix.fit(formula, d.assign(escs=d["escs"].mask(d["escs"] == 99)), weights=s.weights, pv=s.pv)
    assert a.coef.to_numpy() == pytest.approx(b.coef.to_numpy(), rel=1e-9)
    assert a.settings.dropped == {"escs": 6}


def test_a_preset_fits_what_was_read(tmp_path):
    s = survey(2)
    names = {"SCHOOLID": "CNTSCHID", "STIDSTD": "CNTSTUID", "W_FSCHWT": "W_SCHGRNRABWT"}
    students = s.data.rename(columns=names).drop(columns="W_SCHGRNRABWT")
    schools = s.data.rename(columns=names)[["CNTSCHID", "W_SCHGRNRABWT"]].drop_duplicates()
    pyreadstat.write_sav(students, str(tmp_path / "stu.sav"))
    pyreadstat.write_sav(schools, str(tmp_path / "sch.sav"))
    d = pmwmix.read_survey(
        tmp_path / "stu.sav", school=tmp_path / "sch.sav", survey="pisa-2018", columns=["math", "escs"]
    )
    got = pmwmix.fit("math ~ escs + (1 | school)", d, design="pisa-2018", vcov="robust")
    pv = {"math": "PV{}MATH"}
    want = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, weights=s.weights, scaling="size", pv=pv, vcov="robust")
    assert got.coef.to_numpy() == pytest.approx(want.coef.to_numpy(), rel=1e-8)
    assert got.se.to_numpy() == pytest.approx(want.se.to_numpy(), rel=1e-6)


# -- conversion and codebook ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [None, 400])
def test_convert_keeps_data_labels_and_report(pisa, tmp_path, step, monkeypatch):
    if step:
        monkeypatch.setattr("pmwmix.readers.conversion.CELLS_AT_ONCE", step)  # several pieces of rows
    path, out = pisa / "CY07_MSU_STU_QQQ.sav", tmp_path / "stu.parquet"
    report = pmwmix.convert(path, out, progress=False)
    first, again = pmwmix.read_survey(path), pmwmix.read_survey(out)
    pd.testing.assert_frame_equal(first, again, check_dtype=False)
    assert again.attrs["pmwmix"] == report == first.attrs["pmwmix"]
    assert str(report) == str(again.attrs["pmwmix"])
    part = pmwmix.read_survey(out, columns=["ST011Q01TA"], countries="NZL", labels=True)
    assert list(part["ST011Q01TA"].cat.categories) == ["Strongly disagree", "Disagree", "Agree"]
    assert {one["column"] for one in part.attrs["pmwmix"]["missing"]} == {"ST011Q01TA"}
    assert "counts are of all of them" in str(part.attrs["pmwmix"])
    a, b = pmwmix.codebook(path), pmwmix.codebook(out)
    pd.testing.assert_frame_equal(a.drop(columns="missing"), b.drop(columns="missing"))
    assert a["missing"].tolist() == b["missing"].tolist()


def test_convert_a_folder(timss, tmp_path):
    report = pmwmix.convert(timss, tmp_path / "t.parquet", survey="timss-2019")
    again = pmwmix.read_survey(tmp_path / "t.parquet")
    assert again.attrs["pmwmix"]["merges"] == report["merges"] and len(again) == 40
    assert "Merged with the school file" in str(again.attrs["pmwmix"])
    assert pd.read_parquet(tmp_path / "t.parquet").attrs["pmwmix"]["survey"] == "timss-2019"


@pytest.mark.parametrize("step", [None, 600])
def test_convert_into_folders(pisa, timss, tmp_path, step, monkeypatch):
    """A folder per cycle and country: what `read_survey` gives, readable in pieces, with its labels."""
    if step:
        monkeypatch.setattr("pmwmix.readers.conversion.CELLS_AT_ONCE", step)  # several pieces of rows
    path, out = pisa / "CY07_MSU_STU_QQQ.sav", tmp_path / "pisa"
    for cycle in (2015, 2018):
        report = pmwmix.convert(path, out, by="country", survey="pisa-2018", cycle=cycle, progress=False)
    folders = {one.parent.relative_to(out).as_posix() for one in out.rglob("*.parquet")}
    assert folders == {f"cycle={year}/CNT={code}" for year in (2015, 2018) for code in ("AUT", "NOR", "NZL")}
    whole = pmwmix.read_survey(path, survey="pisa-2018")
    assert {k: report[k] for k in ("labels", "values", "survey")} == {
        k: whole.attrs["pmwmix"][k] for k in ("labels", "values", "survey")
    }
    assert report["files"] == whole.attrs["pmwmix"]["files"]
    assert sum(one["count"] for one in report["missing"]) == sum(
        one["count"] for one in whole.attrs["pmwmix"]["missing"]
    )
    table = pd.read_parquet(out).query("cycle == 2018").sort_values("CNTSTUID", ignore_index=True)
    table["CNT"] = table["CNT"].astype(str)
    pd.testing.assert_frame_equal(table[list(whole)], whole, check_dtype=False)
    stream = stream_of(out)
    assert stream.labels == report["labels"] and "cycle" in stream.names
    formula, options = "PV1MATH ~ ESCS + (1 | CNTSCHID)", {"weights": {"obs": "W_FSTUWT"}}
    mine, theirs = (pmwmix.fit(formula, data, **options) for data in (out / "cycle=2018", whole))
    close(mine.coef, theirs.coef, 1e-9)
    report = pmwmix.convert(timss, tmp_path / "timss", survey="timss-2019", by="country", progress=False)
    assert {one.parent.name for one in (tmp_path / "timss").rglob("*.parquet")} == {"IDCNTRY=40", "IDCNTRY=380"}
    whole = pmwmix.read_survey(timss, survey="timss-2019")
    again = pd.read_parquet(tmp_path / "timss")
    again["IDCNTRY"] = again["IDCNTRY"].astype(float)
    keys = ["IDCNTRY", "IDSTUD"]
    pd.testing.assert_frame_equal(
        again[list(whole)].sort_values(keys, ignore_index=True),
        whole.sort_values(keys, ignore_index=True),
        check_dtype=False,
    )
    assert report["merges"][0]["rows"] == len(whole)


def test_convert_into_folders_refuses(pisa, tmp_path):
    path = pisa / "CY07_MSU_STU_QQQ.sav"
    for target, options, said in [
        ("a.parquet", {"by": "CNT"}, "the target is a folder"),
        ("a", {"by": "nobody"}, "Missing .*'nobody'"),
        ("nowhere/a", {"by": "CNT"}, "folder does not exist"),
    ]:
        with pytest.raises(PmwmixError, match=said):
            pmwmix.convert(path, tmp_path / target, progress=False, **options)
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.parquet").write_text("dear")
    with pytest.raises(PmwmixError, match=r"holds 'thesis\.parquet', which would be lost"):
        pmwmix.convert(path, tmp_path / "mine", by="CNT", progress=False)
    assert (tmp_path / "mine" / "thesis.parquet").read_text() == "dear"


def test_codebook_searches_names_and_labels(pisa, timss):
    path = pisa / "CY07_MSU_STU_QQQ.sav"
    book = pmwmix.codebook(path)
    assert list(book) == ["variable", "label", "values", "missing"] and len(book) == pisa_students().shape[1]
    row = pmwmix.codebook(path, "a desk?").iloc[0]
    assert row["variable"] == "ST011Q01TA" and row["values"].startswith("1 = Strongly disagree; 2 = Disagree")
    assert row["missing"] == (pisa_students()["ST011Q01TA"] > 90).sum()
    assert pmwmix.codebook(path, "^pv[12]math")["variable"].tolist() == ["PV1MATH", "PV2MATH"]
    assert pmwmix.codebook(path, "desk?)")["variable"].tolist() == []
    assert pmwmix.codebook(path, "escs", counts=False)["missing"].isna().all()
    assert len(pmwmix.codebook(timss, "BSMMAT")) == 5


def test_codebook_of_any_table():
    polars = pytest.importorskip("polars")
    book = pmwmix.codebook(polars.DataFrame({"x": [1.0, None, 3.5], "s": ["a", "b", "a"]}))
    assert book["values"].tolist() == ["1 to 3.5", "a; b"] and book["missing"].tolist() == [1, 0]


# -- what is wrong ----------------------------------------------------------------------------------------------------


def bad_calls(pisa, timss, tmp):
    stu = pisa / "CY07_MSU_STU_QQQ.sav"
    (tmp / "empty").mkdir()
    (tmp / "stray").mkdir()
    (tmp / "stray" / "notes.csv").write_text("a\n1\n")
    (tmp / "two").mkdir()
    for end in ("csv", "parquet"):
        (tmp / "two" / f"bsgautm7.{end}").write_text("IDSTUD\n1\n")
    (tmp / "grades").mkdir()
    for prefix in ("asg", "bsg"):
        (tmp / "grades" / f"{prefix}autm7.csv").write_text("IDSTUD\n1\n")
    (tmp / "broken.sav").write_bytes(stu.read_bytes()[:900])
    (tmp / "text.sav").write_text("nothing of SPSS")
    (tmp / "data.xlsx").write_text("")
    twice = pd.concat([pisa_schools(), pisa_schools().iloc[:2]])
    twice.to_csv(tmp / "twice.csv", index=False)
    pisa_schools().rename(columns={"CNTSCHID": "SCH_NUMBER"}).to_csv(tmp / "renamed.csv", index=False)
    pisa_schools().assign(CNTSCHID="S" + pisa_schools()["CNTSCHID"].astype(str)).to_csv(tmp / "texts.csv", index=False)
    (tmp / "twins.csv").write_text("y,x,Y\n1,2,3\n")
    pd.DataFrame({"IDSTUD": ["x", "y"]}).to_csv(tmp / "bsgdeum7.csv", index=False)
    return {
        "missing file": ((pisa / "absent.sav",), {}, r"no such file.*absent\.sav"),
        "missing school file": ((stu,), {"school": pisa / "absent.sav"}, r"no such file.*absent\.sav"),
        "wrong ending": ((tmp / "data.xlsx",), {}, r"data\.xlsx.*\.sav.*pass the table"),
        "not an spss file": ((tmp / "text.sav",), {}, r"text\.sav.*what its ending claims"),
        "broken off": ((tmp / "broken.sav",), {}, r"broken\.sav.*complete"),
        "missing column": ((stu,), {"columns": ["ESCZ", "CNT"]}, r"'ESCZ'\. Did you mean 'ESCS'\?.*codebook"),
        "renamed column": ((stu,), {"columns": ["ST004Q01T"]}, r"'ST004Q01T'\. Did you mean 'ST004D01T'\?"),
        "columns of numbers": ((stu,), {"columns": [3]}, r"Got 3"),
        "country not there": ((stu,), {"countries": ["NZL", "NLD"]}, r"lacks 'NLD'.*'AUT', 'NZL', 'NOR'"),
        "countries of nothing": ((stu,), {"countries": []}, r"countries.*\[\]"),
        "country without a file": ((timss,), {"countries": ["AUS"]}, r"'AUS'\. Did you mean 'AUT'\?.*'AUT', 'ITA'"),
        "ids twice": ((stu,), {"school": tmp / "twice.csv"}, r"CNTRYID, CNTSCHID 2 repeat: '40 40000', '40 40001'"),
        "no common id": ((stu,), {"school": tmp / "renamed.csv"}, r"no id of the school.*'CNTSCHID'.*survey="),
        "ids of another kind": ((stu,), {"school": tmp / "texts.csv"}, r"'CNTSCHID' holds numbers.*'S40000"),
        "no teacher id": ((stu,), {"teacher": timss / "btmautm7.sav"}, r"no id of the teacher.*'IDTEACH'"),
        "school=True beside a file": ((stu,), {"school": True}, r"school=True.*path of the school file"),
        "empty folder": ((tmp / "empty",), {}, r"no survey file per country.*empty.*none"),
        "stray files": ((tmp / "stray",), {}, r"notes\.csv.*bsgautm7\.sav"),
        "two files of a country": ((tmp / "two",), {}, r"'aut' has 'bsgautm7\.csv' and 'bsgautm7\.parquet'"),
        "two grades": ((tmp / "grades",), {}, r"asg and bsg.*prefix='asg'"),
        "unknown prefix": ((timss,), {"prefix": "bsq"}, r"'bsq'\. Did you mean 'bs.'\?.*bcg, bsg, bst, btm"),
        "no home files": ((timss,), {"home": True}, r"home questionnaire.*none that begins with 'b'"),
        "folder among files": (([timss, stu],), {}, r"folder.*timss"),
        "no path": ((3,), {}, r""),
        "unknown survey": ((stu,), {"survey": "pisa-2017"}, r"pisa-2017"),
        "survey of another type": ((stu,), {"survey": 2018}, r"int 2018.*pisa-2018"),
        "labels of nothing": ((stu,), {"labels": "yes"}, r"'yes'.*ordered"),
        "labels without labels": ((stu,), {"labels": ["ESCS"]}, r"'ESCS' has no value labels"),
        "labels not read": ((stu,), {"columns": ["ESCS"], "labels": ["CNT"]}, r"'cnt'.*columns="),
        "missing of another type": ((stu,), {"missing": "9"}, r"'9'.*ST\*"),
        "progress of another type": ((stu,), {"progress": "no"}, r"'no'"),
        "names that differ in case": ((tmp / "twins.csv",), {}, r"twins\.csv' has 'y' and 'Y'"),
        "kinds differ": (([timss / "bsgautm7.sav", tmp / "bsgdeum7.csv"],), {"columns": ["IDSTUD"]}, r"'IDSTUD' holds"),
    }


@pytest.fixture(scope="module")
def bad(pisa, timss, tmp_path_factory):
    return bad_calls(pisa, timss, tmp_path_factory.mktemp("bad"))


NAMES = [
    "missing file", "missing school file", "wrong ending", "not an spss file", "broken off", "missing column",
    "renamed column", "columns of numbers", "country not there", "countries of nothing", "country without a file",
    "ids twice", "no common id", "ids of another kind", "no teacher id", "school=True beside a file", "empty folder",
    "stray files", "two files of a country", "two grades", "unknown prefix", "no home files", "folder among files",
    "unknown survey", "survey of another type", "labels of nothing", "labels without labels", "labels not read",
    "missing of another type", "progress of another type", "kinds differ",
    "names that differ in case",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_messages_name_the_culprit(name, bad):
    arguments, options, said = bad[name]
    with pytest.raises(PmwmixError, match=f"(?s){said}"):
        pmwmix.read_survey(*arguments, **options)


def test_without_pyreadstat_the_command_is_given(pisa, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyreadstat", None)
    with pytest.raises(ImportError, match=r'CY07_MSU_STU_QQQ\.sav.*pip install "pmwmix\[readers\]"'):
        pmwmix.read_survey(pisa / "CY07_MSU_STU_QQQ.sav")


@pytest.mark.parametrize(
    ("target", "said"),
    [("out.csv", "Let the name end in .parquet"), ("no/such/out.parquet", "no/such"), ("same.parquet", "into itself")],
)
def test_convert_says_where_it_cannot_write(target, said, tmp_path):
    pd.DataFrame({"a": [1.0]}).to_parquet(tmp_path / "same.parquet")
    with pytest.raises(PmwmixError, match=said):
        pmwmix.convert(tmp_path / "same.parquet", tmp_path / target)


def test_codebook_refuses_a_search_that_is_no_text():
    with pytest.raises(PmwmixError, match="Got int 3"):
        pmwmix.codebook(pd.DataFrame({"a": [1.0]}), 3)


def test_report_prints_what_it_holds():
    many = [{"column": f"Q{k}", "code": 9.0, "label": "", "count": 1} for k in range(30)]
    files = [{"file": f"bsg{k}.sav", "role": "students", "rows": 2, "used": 2} for k in range(9)]
    said = str(Report(files=files, missing=many, merges=[], notes=["A note."]))
    assert (
        "9 files, bsg0.sav ... bsg8.sav (students): 18 rows" in said and "18 columns more" in said and "A note." in said
    )


def test_transport_files_of_sas(tmp_path):
    d = pd.DataFrame({"SCH": ["a", "", "b"] * 5, "X": np.arange(15.0) / 3})
    d.loc[4, "X"] = np.nan
    path = tmp_path / "students.xpt"
    pyreadstat.write_xport(d, str(path), column_labels=["School", "A score"])
    out = pmwmix.read_survey(path)
    np.testing.assert_array_equal(out["X"], d["X"])
    assert out["SCH"].isna().sum() == 5
    assert pmwmix.codebook(path).set_index("variable").loc["X", "label"] == "A score"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PmwmixError, match=r"students\.xpt"):
        pmwmix.read_survey(path)


def test_labels_of_levels_reach_tables_and_plots(tmp_path):
    rng, n = np.random.default_rng(1), 120
    d = pd.DataFrame(
        {"g": np.repeat(np.arange(12.0), 10), "IMMIG": rng.integers(1, 4, n) * 1.0, "x": rng.normal(size=n)}
    )
    d["y"] = d["x"] + rng.normal(size=n)
    labels = {1.0: "Native", 2.0: "Second-Generation", 3.0: "First-Generation"}
    pyreadstat.write_sav(
        d, str(tmp_path / "d.sav"), column_labels={"IMMIG": "Background"}, variable_value_labels={"IMMIG": labels}
    )
    table = pmwmix.read_survey(tmp_path / "d.sav")
    fit = pmwmix.fit("y ~ C(IMMIG) * x + (1 | g)", table)
    wanted = ["", "Background: Second-Generation", "Background: First-Generation", ""]
    wanted += ["Background: Second-Generation x x", "Background: First-Generation x x"]
    assert fit.tidy(labels=True)["label"].tolist() == wanted
    fit.save(tmp_path / "fit")
    assert pmwmix.load(tmp_path / "fit").tidy(labels=True)["label"].tolist() == wanted
    assert "Background: Second-Generation x x" in str(pmwmix.table(fit))
    ticks = pmwmix.plots.effects(fit, "IMMIG").viz["figure"].item().axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == list(labels.values())
    rows = pmwmix.plots.forest(fit).viz["figure"].item().axes[0].get_yticklabels()
    assert "Background: First-Generation" in [row.get_text() for row in rows]
    named = pmwmix.plots.forest(fit, labels={"C(IMMIG)[T.2]": "mine"}).viz["figure"].item().axes[0].get_yticklabels()
    assert "mine" in [row.get_text() for row in named]
