"""Files of data that are not as they should be: lines, names and blanks that a table must not swallow in silence."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pmwmix
from pmwmix.errors import FileError

ROWS = 200


def text(lines):
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture(scope="module")
def lines():
    rng = np.random.default_rng(1)
    y, x = rng.normal(size=(2, ROWS)).round(3)
    return ["y,x,g", *(f"{a},{b},{k % 9}" for k, (a, b) in enumerate(zip(y, x, strict=True)))]


def every_reader(path):
    yield lambda: pmwmix.read_survey(path)
    yield lambda: pmwmix.read_survey(path, columns=["x"])
    yield lambda: pmwmix.fit("y ~ x + (1 | g)", path)
    yield lambda: pmwmix.codebook(path)
    yield lambda: pmwmix.convert(path, path.with_name("out.parquet"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [*rows[:57], rows[57] + ",9", *rows[58:]], "Line 58 of .* has 4, more than the 3 of the header"),
        (lambda rows: [rows[0], *(row + ",9" for row in rows[1:])], "Line 2 of .* has 4, more"),
        (lambda rows: [*rows[:5], "", rows[5][:4]], "Line 7 of .* has 1, fewer than the 3"),
        (lambda rows: [*rows[:3], '1,2,"a\nb"', "1,2"], "Line 6 of .* has 2, fewer"),  # a text of two lines before it
    ],
)
def test_lines_with_another_number_of_fields_are_named(lines, change, said, packed, tmp_path):
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    content = text(change(lines)).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    for read in every_reader(path):
        with pytest.raises(FileError, match=said):
            read()


def test_lines_that_are_blank_or_quoted_are_no_mistake(lines, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n" + text([*lines[:4], "", "   ", *lines[4:]]) + "\n")
    assert len(pmwmix.read_survey(path)) == ROWS
    path.write_text('a,b\r\n"x, y",1\r\n"two\nlines",2\r\n5" pipe,3\r\n')
    assert pmwmix.read_survey(path)["a"].tolist() == ["x, y", "two\nlines", '5" pipe']
    path.write_text("a,b,\n1,2,\n3,4,\n")  # a comma at the end of every line
    assert pmwmix.read_survey(path).to_dict("list") == {"a": [1, 3], "b": [2, 4]}


def test_a_changed_file_is_checked_again(lines, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text(lines))
    pmwmix.read_survey(path)
    path.write_text(text([*lines, "1,2"]))
    with pytest.raises(FileError, match=f"Line {ROWS + 2} of 't.csv'"):
        pmwmix.read_survey(path)


def test_repeated_names_are_refused_by_every_reader(lines, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text(["y,x,g,x", *(row + ",5" for row in lines[1:])]))
    columns = [pa.array(np.arange(4.0))] * 3
    pq.write_table(pa.table(columns, names=["x", "y", "x"]), tmp_path / "t.parquet")
    for one in (path, tmp_path / "t.parquet"):
        for read in every_reader(one):
            with pytest.raises(FileError, match=rf"{one.name}' repeats 'x': columns \d, \d"):
                read()
    for table in (pa.table(columns, names=["y", "g", "y"]), pd.DataFrame(np.ones((4, 3)), columns=["y", "g", "y"])):
        with pytest.raises(pmwmix.PmwmixError, match="Repeated: 'y'"):
            pmwmix.fit("y ~ 1 + (1 | g)", table)


def test_names_that_both_files_have_are_told_after_merging(tmp_path):
    pd.DataFrame({"IDSCHOOL": [1, 1, 2], "size": [1, 2, 3]}).to_csv(tmp_path / "stu.csv", index=False)
    pd.DataFrame({"IDSCHOOL": [1, 2], "Size": [70, 80], "town": [0, 1]}).to_csv(tmp_path / "sch.csv", index=False)
    read = pmwmix.read_survey(tmp_path / "stu.csv", school=tmp_path / "sch.csv")
    assert read["size"].tolist() == [1, 2, 3] and read["town"].tolist() == [0, 0, 1]
    assert "'size' of the school file not taken" in str(read.attrs["pmwmix"])


def test_blank_numbers_of_spss_exports_are_missing(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1, \n2,3\n4,   \n")
    assert pmwmix.read_survey(tmp_path / "t.csv")["b"].tolist() == pytest.approx([np.nan, 3.0, np.nan], nan_ok=True)


@pytest.mark.parametrize("ending", ["sav", "zsav", "dta"])
def test_blank_text_is_missing_in_every_format(ending, tmp_path):
    pyreadstat = pytest.importorskip("pyreadstat")
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(20.0), 10)
    languages = np.where(np.arange(200) % 10 == 0, "", rng.choice(["de", "fr", "it"], 200))
    table = pd.DataFrame({"g": group, "lang": languages, "y": rng.normal(size=200)})
    path = tmp_path / f"t.{ending}"
    if ending == "dta":
        pyreadstat.write_dta(table, str(path))
    else:
        pyreadstat.write_sav(table, str(path), compress=ending == "zsav")
    table.to_csv(tmp_path / "t.csv", index=False)
    one, other = (pmwmix.fit("y ~ lang + (1 | g)", p) for p in (path, tmp_path / "t.csv"))
    assert one.nobs == other.nobs == 180 and list(one.coef.index) == ["Intercept", "lang[T.fr]", "lang[T.it]"]
    np.testing.assert_allclose(one.coef, other.coef, rtol=1e-12)
    read = pmwmix.read_survey(path)
    assert read["lang"].isna().sum() == 20 and "lang  blank: 20" in str(read.attrs["pmwmix"])
    pmwmix.convert(path, tmp_path / "t.parquet")
    assert pmwmix.read_survey(tmp_path / "t.parquet")["lang"].isna().sum() == 20


def test_a_blank_category_of_a_table_is_noted():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"g": np.repeat(np.arange(12), 10), "h": np.tile(["", "a"], 60), "y": rng.normal(size=120)})
    assert any("'h' is blank text" in note for note in pmwmix.fit("y ~ h + (1 | g)", table).notes)
