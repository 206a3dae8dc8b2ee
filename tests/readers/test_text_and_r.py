"""Text of fixed width with the syntax it was published with, and data frames of R."""

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

import pmwmix

# in the style of the control files of PISA 2006 (SPSS) and 2012 (SAS), with their habits: names in another case, codes
# in quotes, groups between slashes, ranges, comments with periods inside, labels with a period or a slash at the end
SPSS = """***** PISA 2006 Student Questionnaire *****.
* This syntax reads the ASCII txt file data and applies variable and value labels.
* Write the location of the ASCII txt file below, in the DATA LIST command.

SET decimal=dot.

DATA LIST FILE='C:\\****\\INT_Stu06_Dec07.txt' /
   CNT                 1 -    3 (A)
   SCHOOLID            4 -    8 (A)
   STIDSTD             9 -   13 (A)
   ST01Q01            14 -   15 (F,0)
   ST04Q01            16 -   16
   IMMIG\t      17\t-\t17     (F,0)
   ESCS               18 -   25 (F,4)
   AGE                26 -   29 (F,2)
   W_FSTUWT           30 -   38 (F,4)
.

FORMATS W_FSTUWT (F9.4).
VARIABLE LEVEL ESCS (SCALE).

VARIABLE LABELS
  CNT       "Country code 3-character"
  ST04Q01   'Sex Q4'
  IMMIG     "Immigration status (at <test> date)."
  w_fstuwt  'Student''s weight'.

VALUE LABELS
   CNT
      "AUT"  "Austria"
      "NZL"  'New Zealand'
  /ST04Q01
   \t  1    'Female'
   \t  2    'Male'
   \t  7    'N/A'
  /IMMIG
      1    'Native'
      2    'Second-Generation'
      3    'First-Generation'
      9    'Missing'
  /ST01Q01 ESCS
     97 'N/A'
.
MISSING VALUES ST04Q01 IMMIG (7,8,9).
MISSING VALUES ESCS (9997 thru 9999, 997).
missing values ST01Q01 (96, 97).
SAVE OUTFILE='C:\\****\\INT_Stu06_Dec07.sav'.
"""
SAS = """libname M "C:\\XXX";
filename STU "C:\\XXX\\INT_Stu06_Dec07.txt";
options nofmterr;
PROC Format;
value $CNTF
    "AUT" = "Austria"
    "NZL" = "New Zealand"
;
value ST04Q01F
    1 = "Female" 2 = "Male" .N = "N/A; not given"
;
value IMMIGF 1 = 'Native' 2 = 'Second-Generation' 3 = 'First-Generation';
run;
data M.STU; /* a comment; with a semicolon */
infile STU lrecl=40;
input CNT $ 1 - 3 SCHOOLID $ 4-8 STIDSTD $ 9-13 ST01Q01 14-15 ST04Q01 16 IMMIG 17
      @18 ESCS 8.4 @26 AGE 4.2 W_FSTUWT 30 - 38 .4;
label
CNT\t\t= "Country code 3-character"
ST04Q01   = "Sex Q4"
IMMIG     = "Immigration status (at <test> date)."
W_FSTUWT  = 'Student''s weight'
;
format CNT $CNTF. ST04Q01 ST04Q01F. IMMIG IMMIGF.;
if ST04Q01=7 or ST04Q01=. then ST04Q01=.N;if ST04Q01=8 then ST04Q01=.I;if ST04Q01=9 then ST04Q01=.M;
if IMMIG in (7, 8, 9) then IMMIG=.M;
if ESCS=9997 or ESCS=9998 or ESCS=9999 or ESCS=997 then ESCS=.M;
if ST01Q01 in (96,97) then ST01Q01=.N;
run;
"""
ROWS = [  # fields of 3, 5, 5, 2, 1, 1, 8, 4 and 9 characters; without a point the last decimals are implied
    ("AUT", "00001", "00001", "10", "1", "1", "  0.2500", "1580", "   1.5000"),
    ("AUT", "00001", "00002", "10", "7", "2", "9997.000", "1575", "   1.2500"),
    ("AUT", "00002", "00003", "96", "2", "3", "9999.000", "15.9", "    25000"),
    ("NZL", "00001", "00001", "  ", "1", " ", "   -1500", "1583", "   2.7500"),
    ("NZL", "00001", "00002", " 9", "2", " ", " -1.1250"),
]
LINES = ["".join(row) for row in ROWS]
WANTED = pd.DataFrame(
    {
        "CNT": ["AUT"] * 3 + ["NZL"] * 2,
        "SCHOOLID": ["00001", "00001", "00002", "00001", "00001"],
        "STIDSTD": ["00001", "00002", "00003", "00001", "00002"],
        "ST01Q01": [10, 10, np.nan, np.nan, 9],
        "ST04Q01": [1, np.nan, 2, 1, 2],
        "IMMIG": [1, 2, 3, np.nan, np.nan],
        "ESCS": [0.25, np.nan, np.nan, -0.15, -1.125],
        "AGE": [15.80, 15.75, 15.9, 15.83, np.nan],
        "W_FSTUWT": [1.5, 1.25, 2.5, 2.75, np.nan],
    }
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "INT_Stu06_Dec07.txt").write_bytes("\r\n".join(LINES).encode() + b"\r\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "syntax"),
    [("PISA2006_SPSS_student.sps", SPSS), ("PISA2006_SPSS_student.txt", SPSS), ("int_stu06_dec07.SAS", SAS)],
)
def test_text_is_read_with_the_syntax_beside_it(name, syntax, folder):
    (folder / name).write_text(syntax, encoding="cp1252")
    d = pmwmix.read_survey(folder / "INT_Stu06_Dec07.txt")
    pd.testing.assert_frame_equal(pd.DataFrame(d[list(WANTED)]), WANTED, check_dtype=False)
    report = d.attrs["pmwmix"]
    assert report["labels"] == {
        "CNT": "Country code 3-character",
        "ST04Q01": "Sex Q4",
        "IMMIG": "Immigration status (at <test> date).",
        "W_FSTUWT": "Student's weight",
    }
    assert dict(report["values"]["IMMIG"])[2.0] == "Second-Generation"
    assert dict(report["values"]["CNT"])["NZL"] == "New Zealand"
    counts = {(one["column"], one["code"]): one["count"] for one in report["missing"]}
    assert counts == {("ST01Q01", 96.0): 1, ("ST04Q01", 7.0): 1, ("ESCS", 9997.0): 1, ("ESCS", 9999.0): 1}
    one = pmwmix.read_survey(folder / "INT_Stu06_Dec07.txt", countries=["New Zealand"], columns=["ESCS"], labels=True)
    assert one["ESCS"].tolist() == [-0.15, -1.125]
    assert pmwmix.codebook(folder / "INT_Stu06_Dec07.txt", "sex")["variable"].tolist() == ["ST04Q01"]


@pytest.mark.skipif(shutil.which("pspp") is None, reason="PSPP is not installed")
def test_pspp_reads_the_same(folder):
    text = SPSS.replace("C:\\****\\", "").replace("SAVE OUTFILE='INT_Stu06_Dec07.sav'", "SAVE OUTFILE='p.sav'")
    (folder / "s.sps").write_text(text)
    subprocess.run(["pspp", "-O", "format=txt", "s.sps"], cwd=folder, check=True, capture_output=True)
    theirs, ours = pmwmix.read_survey(folder / "p.sav"), pmwmix.read_survey(folder / "INT_Stu06_Dec07.txt")
    pd.testing.assert_frame_equal(pd.DataFrame(ours), pd.DataFrame(theirs), check_dtype=False)
    assert ours.attrs["pmwmix"]["values"] == theirs.attrs["pmwmix"]["values"]
    assert ours.attrs["pmwmix"]["labels"] == theirs.attrs["pmwmix"]["labels"]


def test_text_without_its_syntax_is_refused_in_words(folder):
    with pytest.raises(pmwmix.PmwmixError, match=r"none beside 'INT_Stu06_Dec07\.txt'"):
        pmwmix.read_survey(folder / "INT_Stu06_Dec07.txt")
    (folder / "INT_Stu06_Dec07.sps").write_text("FREQUENCIES x.\n")
    with pytest.raises(pmwmix.PmwmixError, match="has no DATA LIST"):
        pmwmix.read_survey(folder / "INT_Stu06_Dec07.txt")
    (folder / "INT_Stu06_Dec07.sps").write_text("DATA LIST FILE='x' RECORDS=2 / A 1 - 3 /2 B 1 - 2.\n")
    with pytest.raises(pmwmix.PmwmixError, match="several records"):
        pmwmix.read_survey(folder / "INT_Stu06_Dec07.txt")
    (folder / "INT_Stu06_Dec07.sps").write_text("DATA LIST FILE='x' / A 1 - 3 B 4 - 8.\n")
    with pytest.raises(pmwmix.PmwmixError, match=r"'A' of 'INT_Stu06_Dec07\.txt' has 'AUT'"):
        pmwmix.read_survey(folder / "INT_Stu06_Dec07.txt")


def test_data_frames_of_r_are_read(tmp_path):
    pyreadr = pytest.importorskip("pyreadr")
    d = pd.DataFrame({"y": [1.5, np.nan, 3.0], "n": [1, 2, 3], "f": pd.Categorical(["b", "a", None])})
    pyreadr.write_rds(str(tmp_path / "d.rds"), d)
    pyreadr.write_rdata(str(tmp_path / "d.RData"), d, df_name="d")
    for name in ("d.rds", "d.RData"):
        got = pmwmix.read_survey(tmp_path / name)
        assert got["y"].tolist()[::2] == [1.5, 3.0] and got["y"].isna().tolist() == [False, True, False]
        assert got["f"].tolist()[:2] == ["b", "a"] and got["f"].isna().tolist() == [False, False, True]
    (tmp_path / "bad.rds").write_bytes(b"no R at all")
    with pytest.raises(pmwmix.PmwmixError, match=r"bad\.rds"):
        pmwmix.read_survey(tmp_path / "bad.rds")
