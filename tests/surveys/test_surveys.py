"""Survey presets: every one against the same call spelled out, real data against references, and the messages."""

from __future__ import annotations

import functools
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, SHARED

import pmwmix
from pmwmix.errors import OptionError, PmwmixError, PmwmixWarning
from pmwmix.resolve.names import Names
from pmwmix.spec.groupnames import rename_groups
from pmwmix.surveys import SURVEYS, markdown

pyreadstat = pytest.importorskip("pyreadstat")

PAGE = ROOT / "docs" / "surveys.md"
N_PV, N_REP = 2, 6
SAME = {"rtol": 1e-9, "atol": 1e-12}  # two calls that must be the same computation


@functools.cache
def sample() -> pd.DataFrame:
    """Draw 24 schools in 6 zones of two halves, two classes each, in four countries; weights as products of factors."""
    rng = np.random.default_rng(7)
    school = np.repeat(np.arange(24), 14)
    klass = np.repeat(np.arange(48), 7)
    n = len(school)
    table = pd.DataFrame({"school": 100 + school, "class": 1000 + klass, "student": np.arange(n)})
    table["country"] = np.array(["AAA", "BBB", "CCC", "DDD"])[school // 6]
    table["zone"], table["rep"] = 1 + school // 4, (school // 2) % 2
    table["x"] = rng.normal(size=n)
    table["f1"], table["a1"] = rng.uniform(2, 9, 24)[school], rng.uniform(1, 1.3, 24)[school]
    table["f2"], table["a2"] = rng.uniform(1, 3, 48)[klass], rng.uniform(1, 1.1, 48)[klass]
    table["f3"] = rng.uniform(1, 2.5, n)
    table["w_school"] = table["f1"] * table["a1"]
    table["w_class"] = table["w_school"] * table["f2"] * table["a2"]
    table["w"] = table["w_class"] * table["f3"]
    table["y"] = 500 + 20 * table["x"] + rng.normal(0, 30, 24)[school] + rng.normal(0, 20, 48)[klass]
    for k in range(1, N_PV + 1):
        table[f"pv{k}"] = table["y"] + rng.normal(0, 60, n)
    for r in range(1, N_REP + 1):
        table[f"rep{r}"] = table["w"] * np.where(rng.random(24) < 0.5, 0.5, 1.5)[school]
    return table


def in_layout(columns: dict[str, str], pv: str = "", reps: str = "") -> pd.DataFrame:
    """Take columns of the sample under the names of a study's file."""
    names = dict(columns)
    names |= {f"pv{k}": pv.format(k) for k in range(1, N_PV + 1) if pv}
    names |= {f"rep{r}": reps.format(r) for r in range(1, N_REP + 1) if reps}
    base = sample()
    return pd.DataFrame({"x": base["x"]} | {new: base[old] for old, new in names.items()})


def pisa(year: int) -> tuple:
    recent = year >= 2015
    schools = {2000: "WNRSCHBW", 2003: "SCWEIGHT"}
    w2 = "W_SCHGRNRABWT" if recent else schools.get(year, "W_FSCHWT")
    names = {"school": "CNTSCHID" if recent else "SCHOOLID", "w": "W_FSTUWT", "w_school": w2}
    strata = {} if year == 2000 else {"zone": "WVARSTRR"}
    reps = "W_FSTURWT{}" if recent else "W_FSTR{}"
    table = in_layout(names | strata, "PV{}READ", reps)
    design = {"replicate_weights": reps, "replicate_type": "fay", "fay": 0.5, "lonely_psu": "centre"}
    call = {"weights": ["W_FSTUWT", w2], "scaling": "size", "pv": {"read": "PV{}READ"}}
    return table, "read ~ x + (1 | school)", f"read ~ x + (1 | {names['school']})", call, design | _strata(strata)


def _strata(strata: dict[str, str]) -> dict[str, str]:
    return {"strata": next(iter(strata.values()))} if strata else {}


def timss(subject: str, root: str, two_sided: bool, blank: bool = True) -> tuple:
    names = {"school": "IDSCHOOL", "class": "IDCLASS", "w": "TOTWGT", "w_school": "SCHWGT", "zone": "JKZONE"}
    table = in_layout(names | {"rep": "JKREP"}, root + "0{}")
    rule = {"replicate_type": "jk2-two-sided"} if two_sided else {"replicate_type": "jk2", "sampling_variance": "first"}
    design = {"strata": "JKZONE", "zone": "JKZONE", "rep": "JKREP", "lonely_psu": "centre", **rule}
    call = {"weights": ["TOTWGT", "SCHWGT"], "scaling": "none", "pv": {subject: root + "0{}"}}
    formula = "~ x + (1 | school)" if blank else f"{subject} ~ x + (1 | school)"
    return table, formula, f"{subject} ~ x + (1 | IDSCHOOL)", call, design


def cived() -> tuple:
    names = {"school": "IDSCHOOL", "w": "TOTWGT", "w_school": "SCHWGT", "zone": "JKZONE", "rep": "JKREP"}
    table = in_layout(names | {"y": "KNOWLMLE"})
    design = {"strata": "JKZONE", "zone": "JKZONE", "rep": "JKREP", "lonely_psu": "centre", "replicate_type": "jk2"}
    call = {"weights": ["TOTWGT", "SCHWGT"], "scaling": "none"}
    return table, "~ x + (1 | school)", "KNOWLMLE ~ x + (1 | IDSCHOOL)", call, design


def factors(letter: str, subject: str, columns: bool) -> tuple:
    """ICCS and ICILS: the school's weight is a product; replicates are columns, or made from zones."""
    names = {"school": "IDSCHOOL", "w": f"TOTWGT{letter}", "f1": "WGTFAC1", "a1": f"WGTADJ1{letter}"}
    names |= {"zone": f"JKZONE{letter}", "rep": f"JKREP{letter}"}
    reps = f"{letter}RWGT{{}}"
    table = in_layout(names | ({} if subject else {"y": "T_SCALE"}), f"PV{{}}{subject}" if subject else "", reps)
    if not columns:
        table = table[[name for name in table if not re.match(r"[ST]RWGT", name)]]
    table["product"] = sample()["w_school"]
    design = {"strata": names["zone"], "lonely_psu": "centre", "replicate_type": "jk2"}
    design |= {"replicate_weights": reps} if columns else {"zone": names["zone"], "rep": names["rep"]}
    call = {"weights": [names["w"], "product"], "scaling": "none"}
    if not subject:
        return table, "T_SCALE ~ x + (1 | school)", "T_SCALE ~ x + (1 | IDSCHOOL)", call, design
    call["pv"] = {subject.lower(): f"PV{{}}{subject}"}
    return table, "~ x + (1 | school)", f"{subject.lower()} ~ x + (1 | IDSCHOOL)", call, design


def talis() -> tuple:
    table = in_layout({"school": "IDSCHOOL", "w": "TCHWGT", "w_school": "SCHWGT", "y": "T3SELF"}, reps="TRWGT{}")
    design = {"replicate_weights": "TRWGT{}", "replicate_type": "fay", "fay": 0.5}
    call = {"weights": ["TCHWGT", "SCHWGT"], "scaling": "size"}
    return table, "T3SELF ~ x + (1 | school)", "T3SELF ~ x + (1 | IDSCHOOL)", call, design


def choosing(
    first: str, second: str, group: str, reps: str, kind: str, strata: str, psu: str, pv: tuple = (), number: str = "{}"
) -> tuple:
    """Studies that recommend no weighting: the call names the weights, the preset the rest."""
    names = {"school": group, "w": first, **({"w_school": second} if second else {}), **({} if pv else {"y": "SCORE"})}
    if strata:
        names |= {"zone": strata, "rep": psu}
    table = in_layout(names, pv[1] if pv else "", reps.replace("{}", number))
    table["unit"] = sample()["zone"].astype(str) + ":" + sample()["rep"].astype(str)
    weights = [first, second] if second else [first]
    design = {"replicate_weights": [reps.replace("{}", number).format(r) for r in range(1, N_REP + 1)]}
    design |= {"replicate_type": kind} | ({"strata": strata, "psu": "unit", "lonely_psu": "centre"} if strata else {})
    call = {"weights": weights, "scaling": "none", **({"pv": {pv[0]: pv[1]}} if pv else {})}
    outcome = pv[0] if pv else "SCORE"
    formula = f"{outcome} ~ x + (1 | {group})"
    return table, formula, formula, call, design, weights


LAYOUTS = {
    **{f"pisa-{year}": functools.partial(pisa, year) for year in (2000, 2003, 2006, 2009, 2012, 2015, 2018, 2022)},
    **{
        f"timss-{year}": functools.partial(timss, "math", "BSMMAT" if year % 8 == 3 else "ASMMAT", year >= 2015)
        for year in (1995, 1999, 2003, 2007, 2011, 2015, 2019, 2023)
    },
    **{f"pirls-{y}": functools.partial(timss, "read", "ASRREA", y >= 2016) for y in (2001, 2006, 2011, 2016, 2021)},
    "timss-advanced-1995": functools.partial(timss, "math", "MSMMAT", False),
    "timss-advanced-2008": functools.partial(timss, "phys", "PSPPHY", False),
    "timss-advanced-2015": functools.partial(timss, "phys", "PSPPHY", True, False),
    "cived-1999": cived,
    **{f"iccs-{year}": functools.partial(factors, "S", "CIV", year > 2009) for year in (2009, 2016, 2022)},
    "icils-2013": functools.partial(factors, "S", "CIL", False),
    "icils-2018": functools.partial(factors, "S", "CIL", True),
    "icils-2023": functools.partial(factors, "S", "CIL", True),
    "icils-2013-teachers": functools.partial(factors, "T", "", True),
    "icils-2018-teachers": functools.partial(factors, "T", "", False),
    "icils-2023-teachers": functools.partial(factors, "T", "", True),
    **{f"talis-{year}": talis for year in (2008, 2013, 2018)},
    "piaac-1": functools.partial(
        choosing, "SPFWT0", "", "AREA", "SPFWT{}", "jk2", "VARSTRAT", "VARUNIT", ("psl", "PVPSL{}")
    ),
    "piaac-2": functools.partial(
        choosing, "SPFWT0", "", "AREA", "SPFWT{}", "jk2", "VARSTRAT", "VARUNIT", ("aps", "PVAPS{}")
    ),
    "naep": functools.partial(
        choosing, "ORIGWT", "SMSRSWT", "SCRPSU", "SRWT{}", "jk2", "REPGRP1", "JKUNIT", ("composite", "MRPCM{}"), "0{}"
    ),
    "eclsk-1998": functools.partial(choosing, "C1CW0", "SCHW", "S2_ID", "C1CW{}", "jk2", "", ""),
    "eclsk-2011": functools.partial(choosing, "W1C0", "W2SCH0", "S2_ID", "W1C{}", "jk2", "W1C0STR", "W1C0PSU"),
    "els-2002": functools.partial(choosing, "BYSTUWT", "BYSCHWT", "SCHOOL", "BYSTU{}", "brr", "STRAT_ID", "PSU"),
    "hsls-2009": functools.partial(
        choosing, "W1STUDENT", "W1SCHOOL", "SCH_ID", "W1STUDENT{}", "brr", "STRAT_ID", "PSU", (), "00{}"
    ),
}


def same(a: pmwmix.FitResult, b: pmwmix.FitResult) -> None:
    np.testing.assert_allclose(a.coef, b.coef, **SAME)
    np.testing.assert_allclose(a.se, b.se, **SAME)
    np.testing.assert_allclose(a.varcorr["vcov"], b.varcorr["vcov"], **SAME)
    np.testing.assert_allclose(a.tidy()["df"], b.tidy()["df"], **SAME)


def test_every_preset_is_tested():
    assert set(LAYOUTS) == set(SURVEYS)


# The file type of students (teachers) and schools, and country codes, of studies that publish a folder of files per
# country; the weight of the school stands in the school file.
FOLDERS = {
    "timss-advanced": ("msg", "mcg", {}),
    "timss": ("bsg", "bcg", {}),
    "pirls": ("asg", "acg", {}),
    "iccs": ("isg", "icg", {"COUNTRY": str}),
    "icils": ("bsg", "bcg", {"CNTRY": str}),
    "teachers": ("btg", "bcg", {"CNTRY": str}),
    "talis": ("btg", "bcg", {}),
}
SCHOOL_FILE = ("W_SCHGRNRABWT", "W_FSCHWT", "SCWEIGHT", "WNRSCHBW", "SCHWGT")


def write_survey(name: str, table: pd.DataFrame, folder: Path) -> tuple[Path, dict]:
    """Write a table as the study's files, with another country beside it; give the arguments that read them."""
    preset = SURVEYS[name]
    table = table.drop(columns=["unit", "product"], errors="ignore").assign(Q=1.0 + np.arange(len(table)) % 3)
    labels = {"Q": {1.0: "Yes", 2.0: "No", 3.0: preset.no_answer[0] if preset.no_answer else "Missing"}}
    school = {(preset.ids or {}).get("school", "").split("|")[0]} & set(table)
    inside = [column for column in SCHOOL_FILE if column in table]
    kind = "teachers" if name.endswith("teachers") else re.sub(r"-\d.*", "", name)
    codes = {"AUT": 40.0, "ITA": 380.0}
    text = name.startswith("pisa")
    country = "CNT" if text else "IDCNTRY" if kind in FOLDERS or name == "cived-1999" else None
    written: dict[str, pd.DataFrame] = {}
    for code, number in codes.items():
        one = table if code == "AUT" else table.assign(x=-table["x"])
        if country:
            one = one.assign(**{country: code if text else number})
            one = one.assign(**{extra: code for extra in FOLDERS.get(kind, ("", "", {}))[2]})
        rows = one.drop(columns=inside) if country else one
        parts = {"rows": rows}
        if inside and country:
            parts["school"] = one[[country, *school, *inside]].drop_duplicates()
        for part, frame in parts.items():
            lower = frame.rename(columns=str.lower) if len(name) % 2 else frame  # case is free in a preset
            written[f"{part} {code}"] = lower.rename(columns={"idschool": "IdSchool"})
    value_labels = {"q": labels["Q"], **labels}
    if kind in FOLDERS:
        student, schools, _ = FOLDERS[kind]
        for part, frame in written.items():
            path = folder / f"{student if part.startswith('rows') else schools}{part[-3:].lower()}m7.sav"
            pyreadstat.write_sav(frame, str(path), variable_value_labels={
                k: v for k, v in value_labels.items() if k in frame})  # fmt: skip
        return folder, {"countries": ["AUT"]}
    options: dict = {"countries": ["AUT" if text else "40"]} if country else {}
    for part in ("rows", "school"):
        frames = [frame for key, frame in written.items() if key.startswith(part) and (country or key.endswith("AUT"))]
        if frames:
            path = folder / f"{part}.sav"
            frame = pd.concat(frames, ignore_index=True)
            pyreadstat.write_sav(frame, str(path), variable_value_labels={
                k: v for k, v in value_labels.items() if k in frame})  # fmt: skip
            if part == "school":
                options["school"] = path
    return folder / "rows.sav", options


@pytest.mark.parametrize("name", LAYOUTS)
def test_preset_file_equals_the_call_spelled_out(name, tmp_path):
    """Write the study's files, read them by the preset, fit by the preset: the numbers of the call spelled out."""
    table, formula, spelled, call, design, *weights = LAYOUTS[name]()
    if name.startswith("piaac"):
        table = table.assign(VEMETHODN=2, VENREPS=N_REP)
    path, options = write_survey(name, table, tmp_path)
    chosen = {"weights": weights[0]} if weights else {}
    words = set(re.findall(r"\w+", formula)) - {"school", "1"}
    asked = ["x", "Q", *(weights[0] if weights else ()), *(w for w in words if w in table)]
    data = pmwmix.read_survey(path, survey=name, columns=list(dict.fromkeys(asked)), **options)
    assert len(data) == len(table) and data["Q"].isna().sum() == len(table) // 3
    report = data.attrs["pmwmix"]
    assert [one["count"] for one in report["missing"]] == [len(table) // 3]
    assert [one["role"] for one in report["merges"]] == (["school"] if set(SCHOOL_FILE) & set(table) else [])
    for vcov in (None, "replicate"):
        ours = pmwmix.fit(formula, data, design=name, vcov=vcov, **chosen)
        reps = ("replicate_weights", "replicate_type", "fay", "zone", "rep", "sampling_variance")
        plain = {key: value for key, value in design.items() if vcov or key not in reps}
        other = pmwmix.fit(spelled, table, design=pmwmix.Design(**plain), vcov=vcov, **call)
        same(ours, other)
        assert ours.settings.vcov == (vcov or "robust")
        assert ours.settings.scaling == call["scaling"]
        if vcov:
            assert ours.settings.replicates == other.settings.replicates
        note = ours.notes[0]
        assert note.startswith(f"Survey preset {name!r} filled in ") and "Sources: " in note
        assert "(2018)" in note or name == "hsls-2009"


# -- registry, table, page ---------------------------------------------------------------------------------------------


def test_registry_answers_like_a_dict():
    preset = pmwmix.surveys["pisa-2018"]
    assert isinstance(preset, pmwmix.Design) and preset.title == "PISA 2018"
    assert pmwmix.surveys["PISA 2018"] is preset and pmwmix.surveys["pisa2018"] is preset
    assert "pisa-2018" in pmwmix.surveys and len(pmwmix.surveys) == len(list(pmwmix.surveys)) == len(LAYOUTS)
    assert repr(preset.override(country_weights="senate")).endswith("['pisa-2018'].override(country_weights='senate')")
    assert dir(pmwmix.surveys)


def test_table_names_weights_scaling_and_sources():
    table = pmwmix.surveys.table()
    assert len(table) == len(pmwmix.surveys) and (table["sources"] != "").all() and (table["weighting"] != "").all()
    pisa, timss = table.loc["pisa-2018"], table.loc["timss-2011"]
    assert (pisa["level_1"], pisa["school"], pisa["scaling"]) == ("W_FSTUWT", "W_SCHGRNRABWT", "size (level 1 only)")
    assert (timss["level_1"], timss["scaling"]) == ("TOTWGT", "none") and "WGTFAC2" in timss["class"]
    assert "first plausible value" in timss["variance"]
    assert "two replicates per zone" in table.loc["timss-2015", "variance"]
    assert "125 zones" in table.loc["timss-2023", "remarks"] and "125 zones" in table.loc["pirls-2021", "remarks"]
    asking = set(table.index[table["scaling"] == "choose"])
    assert asking == {"naep", "eclsk-1998", "eclsk-2011", "els-2002", "hsls-2009", "piaac-1", "piaac-2"}


def test_page_holds_the_generated_table():
    """Write it again with: python -c "import pmwmix; print(pmwmix.surveys.markdown())"."""
    assert markdown() in PAGE.read_text(encoding="utf-8")


def test_weights_are_those_published():
    weights = {name: (SURVEYS[name].weights, SURVEYS[name].scaling) for name in SURVEYS}
    assert weights["icils-2018"][0]["school"] == "WGTFAC1*WGTADJ1S"
    assert weights["icils-2018-teachers"][0] == {"obs": "TOTWGTT", "school": "WGTFAC1*WGTADJ1T"}
    assert weights["talis-2018"] == ({"obs": "TCHWGT", "school": "SCHWGT"}, "size")
    assert weights["iccs-2016"][0]["school"].startswith("WGTFAC1*WGTADJ1S")
    assert weights["cived-1999"] == ({"obs": "TOTWGT", "school": "SCHWGT"}, "none")


# -- formula -----------------------------------------------------------------------------------------------------------


def timss_table(**more: str) -> pd.DataFrame:
    names = {"country": "IDCNTRY", "school": "IDSCHOOL", "class": "IDCLASS", "w": "TOTWGT", "w_school": "SCHWGT"}
    return in_layout(names | more, "ASMMAT0{}")


FACTORS = {"f1": "WGTFAC1", "a1": "WGTADJ1", "f2": "WGTFAC2", "a2": "WGTADJ2", "f3": "WGTFAC3"}


def test_three_levels_take_the_class_and_student_factors():
    table = timss_table(**FACTORS).assign(total2=sample()["w_class"])
    ours = pmwmix.fit("~ x + (1 | school/class)", table, design="timss-2011")
    spelled = "math ~ x + (1 | IDSCHOOL/IDCLASS)"
    weights = ["TOTWGT", "total2", "SCHWGT"]
    same(ours, pmwmix.fit(spelled, table, weights=weights, pv={"math": "ASMMAT0{}"}, vcov="robust"))
    class_column = "SCHWGT*WGTFAC2*WGTADJ2"
    assert ("IDCLASS:IDSCHOOL", class_column) in ours.settings.weights
    assert any(f"Weight {class_column!r} was derived" in note for note in ours.notes)
    stats = ours.weight_stats.loc["IDCLASS:IDSCHOOL"]
    product = sample().drop_duplicates("class")
    assert stats["used_mean"] == pytest.approx(float((product["f2"] * product["a2"]).mean()), rel=1e-12)


def test_without_class_factors_the_class_is_left_out():
    table = timss_table()
    ours = pmwmix.fit("~ x + (1 | school) + (1 | class)", table, design="timss-2011")
    left_out = ["TOTWGT", None, "SCHWGT"]
    same(ours, pmwmix.fit("math ~ x + (1 | IDCLASS) + (1 | IDSCHOOL)", table, weights=left_out,
                          pv={"math": "ASMMAT0{}"}))  # fmt: skip
    assert any("the class has conditional weight 1 within its school" in note for note in ours.notes)
    alone = pmwmix.fit("~ x + (1 | class)", table, design="timss-2011")
    assert alone.settings.weights == (("obs", "TOTWGT"), ("IDCLASS", "SCHWGT"))
    assert alone.settings.clusters[0] == "IDSCHOOL"  # the schools stay the clusters of the robust variance


def test_school_weight_from_its_factors():
    table = timss_table(**FACTORS).drop(columns="SCHWGT")
    ours = pmwmix.fit("~ x + (1 | school)", table, design="timss-2019")
    same(ours, pmwmix.fit("~ x + (1 | school)", timss_table(), design="timss-2019"))
    assert ours.settings.weights[1] == ("IDSCHOOL", "WGTFAC1*WGTADJ1")


def test_a_column_wins_over_a_name_of_the_preset():
    table = timss_table().assign(school=sample()["class"], math=sample()["y"])
    ours = pmwmix.fit("math ~ x + (1 | school)", table, design="timss-2011", weights={"obs": "TOTWGT"})
    assert ours.n_pv == 1 and ours.n_groups["school"] == 48
    assert any("'math' is a column of the table" in note for note in ours.notes)


def test_subjects_and_groups_in_any_case_and_nesting():
    table = timss_table()
    usual = pmwmix.fit("math ~ x + (1 | school)", table, design="timss-2011")
    for formula in ("MATH ~ x + (1 | School)", "Math ~ x + (1 | idschool)"):
        same(pmwmix.fit(formula, table, design="timss-2011"), usual)
    assert any("Group 'school' of the formula is column 'IDSCHOOL'" in note for note in usual.notes)
    centred = pmwmix.fit("math ~ x + (1 | school)", table, design="timss-2011", center={"x": "school+mean"})
    assert "x_IDSCHOOL_mean" in centred.coef


def test_ids_that_start_again_in_every_country_are_made_unique():
    names = {"country": "CNT", "w": "W_FSTUWT", "w_school": "W_FSCHWT", "zone": "WVARSTRR"}
    table = in_layout(names, "PV{}MATH").assign(SCHOOLID=(sample()["school"] - 100) % 6)
    ours = pmwmix.fit("math ~ x + (1 | school)", table, design="pisa-2012")
    assert ours.n_groups["SCHOOLID:CNT"] == 24
    assert ours.settings.clusters[1] == "WVARSTRR:CNT"
    unique = table.assign(unique=sample()["school"], stratum=table["WVARSTRR"].astype(str) + table["CNT"])
    call = {"weights": ["W_FSTUWT", "W_FSCHWT"], "scaling": "size", "pv": {"math": "PV{}MATH"}}
    design = {"strata": "stratum", "lonely_psu": "centre"}
    same(ours, pmwmix.fit("math ~ x + (1 | unique)", unique, design=design, **call))
    nested = pmwmix.fit("PV1MATH ~ x + (1 | country/school)", table, design="pisa-2012")
    assert dict(nested.n_groups) == {"SCHOOLID:CNT": 24, "CNT": 4}


def test_rename_groups_touches_groups_only():
    renamed = {"school": ("SCHOOLID", "CNT"), "country": ("CNT",)}
    text = rename_groups("y ~ school + (1 + school | country/school) + (1 || school)", renamed)
    assert text == "y ~ school + (1 + school | CNT/SCHOOLID) + (1 || SCHOOLID:CNT)"
    assert rename_groups("y ~ (1 | school)", {"school": ("my id",)}) == "y ~ (1 | `my id`)"
    renamed = {"school": ("IDSCHOOL", "IDCNTRY"), "class": ("IDCLASS", "IDSCHOOL", "IDCNTRY")}
    assert rename_groups("y ~ (1 | school/class)", renamed) == "y ~ (1 | IDSCHOOL:IDCNTRY/IDCLASS)"


def test_three_levels_with_ids_that_start_again():
    base = sample()
    table = timss_table(**FACTORS).assign(
        IDSCHOOL=(base["school"] - 100) % 6, IDCLASS=base["class"] % 2, IDCNTRY=base["country"]
    )
    ours = pmwmix.fit("~ x + (1 | school/class)", table, design="timss-2011")
    usual = pmwmix.fit("~ x + (1 | school/class)", timss_table(**FACTORS), design="timss-2011")
    same(ours, usual)
    assert dict(ours.n_groups) == {"IDCLASS:IDSCHOOL:IDCNTRY": 48, "IDSCHOOL:IDCNTRY": 24}
    same(pmwmix.fit("~ x + (1 | school) + (1 | class)", table, design="timss-2011"), usual)
    four = pmwmix.fit("ASMMAT01 ~ x + (1 | country/school/class)", table, design="timss-2011")
    assert dict(four.n_groups) == {"IDCLASS:IDSCHOOL:IDCNTRY": 48, "IDSCHOOL:IDCNTRY": 24, "IDCNTRY": 4}
    assert [column for _, column in four.settings.weights] == ["TOTWGT", "SCHWGT*WGTFAC2*WGTADJ2", "SCHWGT", None]


def test_design_without_preset_knows_ids_and_products():
    table = timss_table(**FACTORS)
    design = pmwmix.Design(ids={"school": "IDSCHOOL"}, weights={"obs": "TOTWGT", "school": "WGTFAC1*WGTADJ1"})
    ours = pmwmix.fit("ASMMAT01 ~ x + (1 | school)", table, design=design)
    same(ours, pmwmix.fit("ASMMAT01 ~ x + (1 | IDSCHOOL)", table, weights=["TOTWGT", "SCHWGT"]))
    product = pmwmix.fit("ASMMAT01 ~ x + (1 | IDSCHOOL)", table, weights=["TOTWGT", "WGTFAC1*WGTADJ1"])
    same(ours, product)


def test_what_the_call_gives_wins_over_the_preset():
    table = timss_table(zone="JKZONE")
    ours = pmwmix.fit("math ~ x + (1 | school)", table, design="timss-2011", scaling="effective",
                      weights={"school": "SCHWGT"}, pv={"math": ["ASMMAT02"]})  # fmt: skip
    assert ours.settings.scaling == "effective" and ours.settings.weights == (("obs", None), ("IDSCHOOL", "SCHWGT"))
    assert ours.n_pv == 1 and ours.settings.clusters[1] == "JKZONE:IDCNTRY"
    strata = pmwmix.surveys["timss-2011"].override(strata="IDCNTRY")
    assert pmwmix.fit("math ~ x + (1 | school)", table, design=strata).settings.clusters[1] == "IDCNTRY"


def test_pisa_scales_level_one_alone():
    names = {"country": "CNT", "school": "CNTSCHID", "w": "W_FSTUWT", "w_school": "W_SCHGRNRABWT"}
    table = in_layout(names, "PV{}READ")
    ours = pmwmix.fit("PV1READ ~ x + (1 | country/school)", table, design="pisa-2018")
    assert ours.settings.scaling == "size-lowest"
    middle = ours.weight_stats.loc["CNTSCHID:CNT"]
    assert middle["used_mean"] == pytest.approx(float(sample().drop_duplicates("school")["w_school"].mean()))
    everywhere = pmwmix.fit("PV1READ ~ x + (1 | country/school)", table, design="pisa-2018", scaling="size")
    assert everywhere.settings.scaling == "size"
    recommended = pmwmix.sensitivity(ours)
    row = recommended[(recommended["variant"] == "size-lowest") & (recommended["part"] == "fixed")]
    np.testing.assert_allclose(row["estimate"], ours.coef, rtol=1e-7)


# -- countries ---------------------------------------------------------------------------------------------------------


def pisa_countries() -> tuple[pd.DataFrame, pd.Series]:
    names = {"country": "CNT", "school": "CNTSCHID", "w": "W_FSTUWT", "w_school": "W_SCHGRNRABWT", "zone": "WVARSTRR"}
    table = in_layout(names, "PV{}READ", "W_FSTURWT{}")
    total = table.groupby("CNT")["W_FSTUWT"].transform("sum")
    return table, total / total.drop_duplicates().mean()


def by_country(how: str | None, formula: str = "PV1READ ~ x + (1 | country/school)", **more) -> pmwmix.FitResult:
    design = pmwmix.surveys["pisa-2018"].override(country_weights=how)
    return pmwmix.fit(formula, pisa_countries()[0], design=design, **more)


SPELLED = "PV1READ ~ x + (1 | CNT/CNTSCHID)"


def test_equal_countries_have_weight_one():
    table, _ = pisa_countries()
    weights = {"obs": "W_FSTUWT", "CNTSCHID:CNT": "W_SCHGRNRABWT"}
    other = pmwmix.fit(SPELLED, table, weights=weights, scaling="size-lowest")
    same(by_country("equal"), other)
    same(by_country(None), other)
    assert any("Choose with country_weights=" in note for note in by_country(None).notes)
    assert any("Countries count equally" in note for note in by_country("equal").notes)


def test_countries_by_population():
    table, share = pisa_countries()
    weights = {"obs": "W_FSTUWT", "CNTSCHID:CNT": "W_SCHGRNRABWT", "CNT": "share"}
    ours = by_country("population")
    same(ours, pmwmix.fit(SPELLED, table.assign(share=share), weights=weights, scaling="size-lowest"))
    assert ours.settings.weights[2] == ("CNT", "W_FSTUWT summed by CNT")
    two = by_country("population", "PV1READ ~ x + (1 | school)")
    same(two, by_country(None, "PV1READ ~ x + (1 | school)"))


def test_senate_weights_sum_to_the_same_in_every_country():
    table, share = pisa_countries()
    table = table.assign(s1=table["W_FSTUWT"] / share, s2=table["W_SCHGRNRABWT"] / share)
    assert table.groupby("CNT")["s1"].sum().to_numpy() == pytest.approx(table["W_FSTUWT"].sum() / 4)
    weights = {"obs": "s1", "CNTSCHID:CNT": "s2"}
    same(by_country("senate"), pmwmix.fit(SPELLED, table, weights=weights, scaling="size-lowest"))
    two = "PV1READ ~ x + (1 | school)"
    same(by_country("senate", two), by_country("equal", two))
    for r in range(1, N_REP + 1):
        table[f"W_FSTURWT{r}"] /= share
    design = {"replicate_weights": "W_FSTURWT{}", "replicate_type": "fay", "fay": 0.5}
    other = pmwmix.fit("PV1READ ~ x + (1 | CNTSCHID)", table, weights=["s1", "s2"], scaling="size", design=design)
    same(by_country("senate", two, vcov="replicate"), other)


def test_one_country_has_no_country_weights():
    table = pisa_countries()[0].query("CNT == 'AAA'")
    design = pmwmix.surveys["pisa-2018"].override(country_weights="senate")
    fit = pmwmix.fit("PV1READ ~ x + (1 | school)", table, design=design)
    assert any("the table has one country" in note for note in fit.notes)


# -- replicates by country ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "fay"), [(1, "jk1", None), (2, "jk2", None), (3, "brr", None), (4, "fay", 0.3)]
)
def test_piaac_reads_the_replication_method(code, kind, fay):
    table = in_layout({"school": "AREA", "w": "SPFWT0"}, "PVLIT{}", "SPFWT{}")
    table = table.assign(VEMETHODN=code, VENREPS=N_REP - 1, VEFAYFAC=0.3)
    formula = "lit ~ x + (1 | AREA)"
    ours = pmwmix.fit(formula, table, design="piaac-1", weights=["SPFWT0"], vcov="replicate")
    reps = [f"SPFWT{r}" for r in range(1, N_REP)]
    design = {"replicate_weights": reps, "replicate_type": kind, "fay": fay}
    same(ours, pmwmix.fit(formula, table, design=design, weights=["SPFWT0"], pv={"lit": "PVLIT{}"}))
    assert any(f"Replication method {kind!r} (5 replicates), read from column 'VEMETHODN'" in n for n in ours.notes)


def two_methods() -> pd.DataFrame:
    """PIAAC with a country of JK1 and one of Fay's method with fewer replicates; replicates vary little."""
    base = sample()
    table = in_layout({"school": "AREA", "w": "SPFWT0"}, "PVLIT{}", "SPFWT{}")
    for r in range(1, N_REP + 1):
        table[f"SPFWT{r}"] = table["SPFWT0"] + 0.01 * (table[f"SPFWT{r}"] - table["SPFWT0"])
    jk1 = (base["country"] < "CC").to_numpy()
    table = table.assign(CNTRYID=np.where(jk1, 40.0, 56.0), VEMETHODN=np.where(jk1, 1, 4), VEFAYFAC=0.3)
    table["VENREPS"] = np.where(jk1, N_REP, N_REP - 2)
    return table.drop(columns=["SPFWT5", "SPFWT6"]).assign(
        **{f"SPFWT{r}": table[f"SPFWT{r}"].where(jk1) for r in (5, 6)}
    )


def test_piaac_countries_of_different_methods_add_up():
    """In a model with a part of its own for each country, errors are those of each country by its own method."""
    table = two_methods()
    call = {"design": "piaac-1", "weights": ["SPFWT0"], "vcov": "replicate"}
    both = pmwmix.fit("PVLIT1 ~ 0 + C(CNTRYID) + C(CNTRYID):x", table, **call)
    apart = pmwmix.fit_groups("PVLIT1 ~ x", table, by="country", **call)
    errors = np.array([apart[k].se for k in (40, 56)])
    np.testing.assert_allclose(both.se, errors.T.ravel(), rtol=5e-3)  # deviations are 1 %: the second order is left
    assert any("40: 'jk1', 6; 56: 'fay', 4" in note for note in both.notes)
    assert both.settings.replicates[:2] == ("jk2", N_REP)


def test_piaac_methods_of_groups_reach_other_processes():
    """Columns that only some groups need, such as Fay's factor, travel with every group."""
    from test_groups import Client

    call = {"by": "country", "design": "piaac-1", "weights": ["SPFWT0"], "vcov": "replicate"}
    here = pmwmix.fit_groups("PVLIT1 ~ x + (1 | AREA)", two_methods(), **call)
    there = pmwmix.fit_groups("PVLIT1 ~ x + (1 | AREA)", two_methods(), executor=Client(), **call)
    np.testing.assert_allclose(there.tidy()["std_error"], here.tidy()["std_error"], rtol=1e-9)


def test_zones_of_several_countries_are_said_to_change_together():
    table = timss_table(zone="JKZONE", rep="JKREP")
    fit = pmwmix.fit("~ x + (1 | school)", table, design="timss-2019", vcov="replicate")
    assert any("changes zone r (JKZONE) of every country (IDCNTRY) at once" in note for note in fit.notes)


# -- real data ---------------------------------------------------------------------------------------------------------


def reference(name: str) -> dict:
    path = SHARED / "reference" / f"{name}.json"
    if not path.exists():
        pytest.skip("the shared folder is not beside the checkout")
    return json.loads(path.read_text(encoding="utf-8"))


def real(name: str, **types: type) -> pd.DataFrame:
    return pd.read_csv(SHARED / "data" / f"{name}.csv.gz", dtype=types or None)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "file", "preset", "formula"),
    [
        ("nzl_ri_A_pooled", "pisa2012_nzl", "pisa-2012", "math ~ ST04Q01 + MATHEFF + PCGIRLS + (1 | school)"),
        ("timss_ri_raw_pooled", "timss2011_aut", "timss-2011", "~ female + ASBG04 + (1 | school)"),
    ],
)
def test_real_data_with_the_preset_alone(name, file, preset, formula):
    """WeMix 4.0.4 with conditional weights made by hand; block sandwich as there. WeMix stops at 1e-5."""
    expected = reference(name)
    fit = pmwmix.fit(formula, real(file), design=preset, vcov="robust-block")
    np.testing.assert_allclose(fit.coef, list(expected["fixed"]["est"].values()), rtol=2e-5)
    np.testing.assert_allclose(fit.se, list(expected["fixed"]["se"].values()), rtol=1e-4)
    np.testing.assert_allclose(fit.varcorr["vcov"], list(expected["varcomp"]["est"].values()), rtol=1e-4)


@pytest.mark.reference
def test_real_three_levels_with_the_preset_alone():
    expected = reference("timss_3l_studentwt_pv1")
    formula = "ASMMAT01 ~ female + ASBG04 + (1 | class) + (1 | school)"
    fit = pmwmix.fit(formula, real("timss2011_aut"), design="timss-2011")
    np.testing.assert_allclose(fit.coef, list(expected["coef"].values()), rtol=2e-5)
    np.testing.assert_allclose(fit.varcorr["vcov"], [row["vcov"] for row in expected["varcomp"]], rtol=1e-4)
    assert fit.loglik == pytest.approx(expected["logLik"], rel=1e-7)


@pytest.mark.reference
def test_real_replicates_with_the_preset():
    """The official TIMSS replicates of Austria are those made from the zones, but for six zones split in a school."""
    reference("timss_ri_raw_pv1")
    formula = "ASMMAT01 ~ female + (1 | school)"
    table = real("timss2011_aut").rename(columns={"JKCZONE": "JKZONE", "JKCREP": "JKREP"})
    fit = pmwmix.fit(formula, table, design="timss-2011", vcov="replicate")
    assert fit.settings.replicates == ("jk2", 75, 75.0)
    robust = pmwmix.fit(formula, table, design="timss-2011")
    assert robust.settings.clusters == ("idschool", "JKZONE", 158, 75)
    np.testing.assert_allclose(robust.se, fit.se, rtol=0.25)  # two estimators of the same design variance


# -- messages ----------------------------------------------------------------------------------------------------------


def pisa_table(**more: str) -> pd.DataFrame:
    names = {"school": "CNTSCHID", "w": "W_FSTUWT", "w_school": "W_SCHGRNRABWT", "y": "ESCS"}
    return in_layout(names | more, "PV{}READ")


def piaac_table(**columns) -> pd.DataFrame:
    return in_layout({"school": "AREA", "w": "SPFWT0"}, "PVLIT{}", "SPFWT{}").assign(**columns)


def attempt(formula: str, table: pd.DataFrame, design="pisa-2018", **more):
    return lambda: pmwmix.fit(formula, table, design=design, **more)


READ = "read ~ x + (1 | school)"
SENATE = pmwmix.surveys["pisa-2018"].override(country_weights="senate")
MESSAGES = {
    "unknown preset": (
        attempt(READ, pisa_table(), "pisa-2017"),
        r"Unknown survey preset 'pisa-2017'\. Did you mean 'pisa-20\d\d'\? The study has 'pisa-2000'.*surveys\.table",
    ),
    "unknown study": (attempt(READ, pisa_table(), "pizza-2018"), r"'pizza-2018'\..*The studies are 'cived'"),
    "missing school weight": (
        attempt(READ, pisa_table().rename(columns={"W_SCHGRNRABWT": "W_SCHGRNRABW"})),
        r"school weight of PISA 2018 is not in the table\. Looked for 'W_SCHGRNRABWT'\. Did you mean 'W_SCHGRNRABW'\? "
        r"Merge the school file",
    ),
    "missing student weight": (
        attempt(READ, pisa_table().drop(columns="W_FSTUWT")),
        r"student weight of PISA 2018 is not in the table\. Looked for 'W_FSTUWT'.*weights=\[",
    ),
    "missing factor": (
        attempt("~ x + (1 | school)", in_layout({"school": "IDSCHOOL", "w": "TOTWGTS", "f1": "WGTFAC1"}, "PV{}CIL"),
                "icils-2018"),
        r"school weight of ICILS 2018 is not in the table\. Looked for 'WGTADJ1S'",
    ),
    "subject not in the study": (
        attempt("civics ~ x + (1 | school)", pisa_table()),
        r"'civics' is neither a column of the table nor a subject of PISA 2018\. It has plausible values",
    ),
    "no subjects at all": (
        attempt("job ~ x + (1 | school)", in_layout({"school": "IDSCHOOL"}), "talis-2018"),
        r"'job' is neither a column of the table nor a subject of TALIS 2018\. It has no plausible values",
    ),
    "subject not in the table": (
        attempt("math ~ x + (1 | school)", pisa_table()),
        r"plausible values of 'math' are not in the table\. Looked for 'PV\{\}MATH'",
    ),
    "plausible values with a gap": (
        attempt(READ, pisa_table().rename(columns={"PV2READ": "PV3READ"})),
        r"Plausible values of 'read' have gaps\. Missing: 'PV2READ'",
    ),
    "blank outcome without a preset": (
        attempt("~ x + (1 | CNTSCHID)", pisa_table(), None),
        "The formula names no outcome",
    ),
    "blank outcome of a design": (
        attempt("~ x + (1 | school)", pisa_table(), pmwmix.Design(ids={"school": "CNTSCHID"})),
        r"names no outcome\. There is no preset to take it from",
    ),
    "no default outcome": (
        attempt("~ x + (1 | school)", in_layout({"school": "IDSCHOOL"}), "talis-2018"),
        r"The preset 'talis-2018' has no default outcome",
    ),
    "default outcome missing": (
        attempt("~ x + (1 | school)", pisa_table().drop(columns=["PV1READ", "PV2READ"])),
        r"default outcome of PISA 2018 is not in the table\. Looked for 'PV\{\}READ'",
    ),
    "id missing": (
        attempt(READ, pisa_table().drop(columns="CNTSCHID")),
        r"column of the school is not in the table\. Looked for 'CNTSCHID'",
    ),
    "weighting to be chosen": (
        attempt("composite ~ x + (1 | school)", in_layout({"school": "SCRPSU", "w": "ORIGWT"}, "MRPCM{}"), "naep"),
        r"NAEP has no recommended weighting.*ORIGWT \(student\), SMSRSWT \(school\)\. Choose with weights=\[",
    ),
    "school weight missing where ids start again": (
        attempt(READ, pisa_table(country="CNT").assign(
            CNTSCHID=(sample()["school"] - 100) % 6,
            W_SCHGRNRABWT=sample()["w_school"].where(sample()["school"] != 113))),
        r"'W_SCHGRNRABWT' are missing in 14 rows\. They belong to 'CNTSCHID:CNT 1:CCC'\. Fill them",
    ),
    "conditional with total weights": (
        attempt(READ, pisa_table(), conditional=True),
        r"weights of PISA 2018 are total weights.*conditional=True",
    ),
    "factor of text": (
        attempt("ESCS ~ x + (1 | CNTSCHID)", pisa_table().assign(a="b"), None, weights=["a*W_FSTUWT"]),
        r"Factors of a weight must be numbers\. Column 'a' of 'a\*W_FSTUWT' holds categories",
    ),
    "replicates missing": (
        attempt(READ, pisa_table(), vcov="replicate"),
        r"table lacks the replicates of PISA 2018\. Looked for 'W_FSTURWT\{\}'.*vcov='robust'",
    ),
    "no replicates known": (
        attempt("ESCS ~ x + (1 | CNTSCHID)", pisa_table(), "els-2002", vcov="replicate", weights=["W_FSTUWT"]),
        r"table lacks the replicates of ELS:2002\. Looked for 'their columns'",
    ),
    "replication method missing": (
        attempt("lit ~ x + (1 | AREA)", piaac_table(), "piaac-1", weights=["SPFWT0"], vcov="replicate"),
        r"method of PIAAC cycle 1 differs by country\. Looked for 'VEMETHODN'",
    ),
    "several replication methods": (
        attempt("lit ~ x + (1 | AREA)", piaac_table(VEMETHODN=1 + sample()["student"] % 2), "piaac-1",
                weights=["SPFWT0"], vcov="replicate"),
        r"one method at a time, 1 to 4\. Column 'VEMETHODN' holds 1\.0, 2\.0\. Fit one country",
    ),
    "method missing in a country": (
        attempt("lit ~ x + (1 | AREA)", two_methods().assign(VEMETHODN=np.where(sample()["country"] < "CC", 1, np.nan)),
                "piaac-1", weights=["SPFWT0"], vcov="replicate"),
        r"one method at a time, 1 to 4\. Column 'VEMETHODN' holds nothing in 56\. Correct it there",
    ),
    "methods without a weight": (
        attempt("PVLIT1 ~ x + (1 | AREA)", two_methods(), "piaac-1", weights=[None, "SPFWT0"], vcov="replicate"),
        r"brought to one scale around the rows' weight\. The call gives the rows no weight",
    ),
    "Fay factor missing": (
        attempt("lit ~ x + (1 | AREA)", piaac_table(VEMETHODN=4), "piaac-1", weights=["SPFWT0"], vcov="replicate"),
        r"Fay replicates need one factor\. Column 'VEFAYFAC' holds nothing",
    ),
    "unknown country weights": (
        lambda: pmwmix.Design(country_weights="senat"),
        r"Unknown country weights 'senat'\. Did you mean 'senate'\?",
    ),
    "no column of countries": (
        attempt(READ, pisa_table(), SENATE),
        r"need the column of the countries\. Looked for 'CNT'",
    ),
    "country weights without levels": (
        attempt(READ, pisa_table(country="CNT"), SENATE, weights=["W_FSTUWT", "W_SCHGRNRABWT"]),
        r"made from total weights of the rows, keyed by level\. The call has weights=\['W_FSTUWT'",
    ),
    "country missing": (
        attempt(READ, pisa_table().assign(CNT=sample()["country"].where(sample()["school"] > 101)), SENATE),
        r"need the country of every row\. Column 'CNT' is missing in 28 rows",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    call, words = MESSAGES[case]
    with pytest.raises(PmwmixError, match=words) as caught:
        call()
    text = re.sub(r"[\w'(\[][.:][\w'({]|\.\.\.", "", str(caught.value))
    assert 3 <= len(re.findall(r"[.?](?= |$)", text)) <= 4


WRONG = {
    "sum of student weights by name": (
        {"weights": {"obs": "W_FSTUWT", "school": "W_FSTUWT_SCH_SUM"}},
        r"level 'CNTSCHID'.*'W_FSTUWT_SCH_SUM' is the sum of the weights of a school's students.*'W_SCHGRNRABWT'",
    ),
    "sum of student weights by value": (
        {"weights": ["W_FSTUWT", "somewhere"]},
        r"'somewhere' is the sum of its members' weights.*'W_SCHGRNRABWT'",
    ),
    "ones": (
        {"weights": ["W_FSTUWT", "ones"]},
        r"'ones' is 1 everywhere, so that it weights nothing\. .*'W_SCHGRNRABWT'",
    ),
    "weight of rows below the school's": (
        {"weights": ["within", "W_SCHGRNRABWT"]},
        r"'within' is below the weight of the unit above \(W_SCHGRNRABWT\) in \d+% of the rows.*'W_FSTUWT'",
    ),
    "senate weight": ({"weights": ["SENWT", "W_SCHGRNRABWT"]}, r"'SENWT' is a senate weight.*'W_FSTUWT'"),
    "replicate weight": (
        {"weights": ["W_FSTURWT1", "W_SCHGRNRABWT"]},
        r"'W_FSTURWT1' is a replicate weight.*'W_FSTUWT'",
    ),
}


@pytest.mark.parametrize("design", ["pisa-2018", None])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_weights_are_named_with_the_right_ones(case, design):
    more, words = WRONG[case]
    base = sample()
    table = pisa_table().assign(ones=1.0, within=base["w"] / base["w_school"] / 9, SENWT=base["w"] * 3)
    table["W_FSTURWT1"] = base["rep1"]
    table["somewhere"] = table["W_FSTUWT_SCH_SUM"] = base.groupby("school")["w"].transform("sum")
    weights = more["weights"]
    if isinstance(weights, dict):
        weights = {"obs": weights["obs"], "CNTSCHID": weights["school"]} if design is None else weights
    with pytest.warns(PmwmixWarning, match=words):
        pmwmix.fit("PV1READ ~ x + (1 | CNTSCHID)", table, design=design, weights=weights)


def test_right_weights_raise_no_warning():
    table = pisa_table().assign(ones=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pmwmix.fit(READ, table, design="pisa-2018")
        pmwmix.fit(READ, table[["x", "PV1READ", "PV2READ", "CNTSCHID", "ones"]], design="pisa-2018", weights=["ones"])
        pmwmix.fit("PV1READ ~ x + (1 | CNTSCHID)", table, weights={"CNTSCHID": "W_SCHGRNRABWT"})


def test_without_weights_and_without_groups():
    table = pisa_table().assign(WVARSTRR=sample()["zone"])
    unweighted = pmwmix.fit(READ, table, design="pisa-2018", weights=[None])
    assert unweighted.settings.vcov == "model" and unweighted.settings.scaling == "none"
    flat = pmwmix.fit("read ~ x", table, design="pisa-2018")
    assert flat.settings.clusters == ("CNTSCHID", "WVARSTRR", 24, 6) and flat.settings.weights == (("obs", "W_FSTUWT"),)


def test_a_group_that_is_no_unit_of_the_study_is_warned_of():
    table = pisa_table().rename(columns={"CNTSCHID": "id_school"})
    with pytest.warns(
        PmwmixWarning, match=r"'id_school' is none of its units.*override\(ids=\{'school': 'id_school'\}\)"
    ):
        pmwmix.fit("read ~ x + (1 | id_school)", table, design="pisa-2018")
    named = pmwmix.surveys["pisa-2018"].override(ids={"school": "id_school"})
    usual = pmwmix.fit(READ, pisa_table(), design="pisa-2018")
    same(pmwmix.fit("read ~ x + (1 | id_school)", table, design=named), usual)


def test_strata_that_do_not_fit_are_left_out_and_said():
    base = sample()
    cut = pisa_table().assign(WVARSTRR=base["student"] % 2)
    fit = pmwmix.fit(READ, cut, design="pisa-2018")
    assert fit.settings.clusters[1] is None and any("cut through the units" in note for note in fit.notes)
    holes = pisa_table().assign(WVARSTRR=base["zone"].where(base["school"] > 104))
    fit = pmwmix.fit(READ, holes, design="pisa-2018")
    assert fit.settings.clusters[1] is None and any("missing values in 'WVARSTRR'" in note for note in fit.notes)


def test_replicates_in_the_table_are_pointed_out_but_not_the_default():
    table = in_layout({"school": "CNTSCHID", "w": "W_FSTUWT", "w_school": "W_SCHGRNRABWT"}, "PV{}READ", "W_FSTURWT{}")
    fit = pmwmix.fit(READ, table, design="pisa-2018")
    assert fit.settings.vcov == "robust" and any("vcov='replicate' uses them" in note for note in fit.notes)


def test_summary_cites_the_source_and_says_what_was_filled_in():
    text = " ".join(str(pmwmix.fit("~ x + (1 | school)", pisa_table(), design="pisa-2018").summary()).split())
    assert "Survey preset 'pisa-2018' filled in outcome read; plausible values of read: PV{}READ" in text
    assert "total weights obs: W_FSTUWT, CNTSCHID: W_SCHGRNRABWT; scaling size" in text
    assert "Koretz, McCaffrey & Sullivan (2001)" in text
    assert "strata of the preset (WVARSTRR) are not in the table" in text


def test_names_find_columns_whatever_their_case():
    names = Names(["w_fstuwt", "W_FSTUWT", "Cnt", "PV1MATH", "PV2MATH"])
    assert names.find("W_FSTUWT") == "W_FSTUWT" and names.find("CNT") == "Cnt" and names.find("nothing") is None
    assert names.first("COUNTRY|CNT") == "Cnt" and names.factors("A*B|cnt") == ("Cnt",)
    assert names.expand("XY{}|pv{}math") == ["PV1MATH", "PV2MATH"] and names.expand("XY{}") == []
    assert Names(["W1", "w2", "w3"]).expand("W{}") == ["W1", "w2", "w3"]
    with pytest.raises(PmwmixError, match="gaps"):
        Names(["W1", "w3"]).expand("W{}")
    with pytest.raises(OptionError):
        pmwmix.surveys["nothing"]
