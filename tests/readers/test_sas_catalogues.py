"""SAS data with the catalogue of its value labels.

``sas/pupils.sas7bdat.gz`` (6 pupils) and ``sas/formats.sas7bcat.gz`` (formats SEXF and $CNTF) were written with the C
library ReadStat as in pyreadstat 1.3.7, functions readstat_begin_writing_sas7bdat and readstat_begin_writing_sas7bcat.
"""

import gzip
from pathlib import Path

import pandas as pd
import pytest

import pmwmix
from pmwmix import PmwmixWarning

pyreadstat = pytest.importorskip("pyreadstat")

HERE = Path(__file__).parent / "sas"


def put(folder, file, name):
    (folder / name).write_bytes(gzip.decompress((HERE / f"{file}.gz").read_bytes()))
    return folder / name


@pytest.mark.parametrize("name", ["formats.sas7bcat", "PUPILS.SAS7BCAT", "cy6.sas7bcat"])
def test_value_labels_come_from_the_catalogue(tmp_path, name):
    path = put(tmp_path, "pupils.sas7bdat", "pupils.sas7bdat")
    bare = pmwmix.read_survey(path)
    assert bare.attrs["pmwmix"]["values"] == {} and bare["SEX"].tolist() == [1.0, 2.0, 1.0, 9.0, 2.0, 1.0]

    put(tmp_path, "formats.sas7bcat", name)
    d = pmwmix.read_survey(path, labels=True, countries=["New Zealand", "AUT"])
    outside = pyreadstat.read_sas7bdat(str(path), catalog_file=str(tmp_path / name))[0]
    answered = outside["SEX"] != "Omitted or invalid"  # missing by its label, as in every other format
    assert d["SEX"].isna().tolist() == (~answered).tolist()
    assert d["SEX"][answered].tolist() == outside["SEX"][answered].tolist() == ["Girl", "Boy", "Girl", "Boy", "Girl"]
    assert d["CNT"].tolist() == outside["CNT"].tolist() and d["SCORE"].tolist() == outside["SCORE"].tolist()
    found = pmwmix.codebook(path).set_index("variable")
    assert found.loc["SEX", "label"] == "Sex of pupil" and "Girl" in str(found.loc["SEX", "values"])


def test_a_catalogue_that_cannot_serve_is_named(tmp_path):
    path = put(tmp_path, "pupils.sas7bdat", "pupils.sas7bdat")
    (tmp_path / "formats.sas7bcat").write_bytes(b"no catalogue")
    with pytest.warns(PmwmixWarning, match=r"catalogue of value labels cannot be read. 'formats.sas7bcat'"):
        d = pmwmix.read_survey(path)
    assert d.attrs["pmwmix"]["values"] == {} and len(d) == 6

    (tmp_path / "formats.sas7bcat").unlink()
    put(tmp_path, "formats.sas7bcat", "one.sas7bcat")
    put(tmp_path, "formats.sas7bcat", "two.sas7bcat")
    with pytest.warns(PmwmixWarning, match=r"not clear which catalogue.*one.sas7bcat"):
        assert pmwmix.read_survey(path).attrs["pmwmix"]["values"] == {}
    put(tmp_path, "formats.sas7bcat", "pupils.sas7bcat")  # named as the data: no longer in doubt
    assert set(pmwmix.read_survey(path).attrs["pmwmix"]["values"]) == {"CNT", "SEX"}


def test_a_fit_from_a_path_keeps_the_labels_of_the_catalogue(tmp_path):
    path = put(tmp_path, "pupils.sas7bdat", "pupils.sas7bdat")
    put(tmp_path, "formats.sas7bcat", "formats.sas7bcat")
    fit = pmwmix.fit("SCORE ~ C(SEX)", path)
    table = fit.tidy(labels=True).set_index("term")
    assert table.loc["C(SEX)[T.2]", "label"] == "Sex of pupil: Boy"
    assert fit.nobs == 5 and isinstance(table, pd.DataFrame)
