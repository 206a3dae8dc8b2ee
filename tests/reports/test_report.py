"""Reports: what they say against the data, what every kind of model gets, and files that open."""

from __future__ import annotations

import builtins
import re

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, outcomes, survey

import pmwmix
from pmwmix.errors import OptionError
from pmwmix.reports.equation import as_text, equation_of, factors_of
from pmwmix.reports.numbers import level_table, missing_table, standardised


@pytest.fixture(scope="module")
def weighted():
    """A weighted fit of plausible values, with rows that lack a value and a school that lost all of them."""
    s = survey()
    data = s.data.copy()
    data.loc[3:8, "escs"] = np.nan
    data.loc[data["SCHOOLID"] == data["SCHOOLID"].iloc[-1], "escs"] = np.nan
    options = {"pv": s.pv, "weights": s.weights, "scaling": "size", "center": {"escs": "SCHOOLID"}}
    return data, pmwmix.fit("math ~ escs * female + (1 + escs | SCHOOLID)", data, **options)


def block(report, heading):
    return next(one for one in report.blocks if one.heading == heading)


def test_the_equation_has_an_index_for_every_level_and_predictors_where_they_vary():
    school = pmwmix.fit("mathach ~ ses * sector + meanses + (1 + ses | school)", hsb())
    lines = [as_text(line) for line in equation_of(school).lines]
    assert lines == [
        "mathach_ij = β0 + β1 × ses_ij + β2 × sector[Catholic]_j + β3 × meanses_j + β4 × ses_ij × sector[Catholic]_j"
        " + u0j + u1j × ses_ij + e_ij",
        "(u0j, u1j) ~ N(0, Ψ_school)",
        "e_ij ~ N(0, σ²)",
    ]
    three = pmwmix.fit("y ~ x + (1 | school) + (1 | classroom)", nested())
    assert [as_text(line) for line in equation_of(three).lines][:2] == [
        "y_ijk = β0 + β1 × x_ijk + u0jk + v0k + e_ijk",
        "u0jk ~ N(0, Ψ_classroom)",
    ]
    assert equation_of(three).legend == "i: row, j: classroom, k: school"
    assert factors_of("ses:C(x)[a:b]") == ["ses", "C(x)[a:b]"]


def test_members_and_missing_values_are_counted(weighted):
    data, fit = weighted
    kept = data.dropna(subset="escs")
    sizes = kept.groupby("SCHOOLID").size()
    row = level_table(fit).loc["SCHOOLID"]
    assert [row["Units"], row["Smallest"], row["Largest"]] == [str(len(sizes)), str(sizes.min()), str(sizes.max())]
    assert missing_table(fit).loc[["PV1MATH", "escs", "SCHOOLID"], "Missing"].tolist() == [
        "0",
        str(data["escs"].isna().sum()),
        "0",
    ]
    said = "\n".join(item for item in block(fit.report(), "Data and levels").items if isinstance(item, str))
    assert f"{len(kept)} of {len(data)} rows are used" in said
    assert f"1 of {data['SCHOOLID'].nunique()} units of SCHOOLID have no row that is used" in said
    three = level_table(pmwmix.fit("y ~ x + (1 | school) + (1 | classroom)", nested()))
    classes = nested().groupby("school")["classroom"].nunique()
    assert three.loc["school", ["Members", "Smallest", "Largest"]].tolist() == [
        "classroom",
        str(classes.min()),
        str(classes.max()),
    ]


def test_standardised_coefficients_are_those_of_standardised_columns():
    d = hsb()
    fit = pmwmix.fit("mathach ~ ses + meanses + (1 | school)", d)
    z = (d[["mathach", "ses", "meanses"]] - d[["mathach", "ses", "meanses"]].mean()) / d[
        ["mathach", "ses", "meanses"]
    ].std(ddof=0)
    again = pmwmix.fit("mathach ~ ses + meanses + (1 | school)", z.assign(school=d["school"]))
    close(standardised(fit)["estimate"], again.coef[["ses", "meanses"]], 1e-6)  # two climbs


def test_a_report_of_weights_and_plausible_values_says_all(weighted):
    _, fit = weighted
    text = str(fit.report())
    for words in (
        "pseudo-maximum likelihood",
        "size (Method A",
        "5 plausible values for math",
        f"pmwmix {pmwmix.__version__}",
        "escs is centred: SCHOOLID",
        "Intraclass correlation",
        "Largest fraction of missing information",
        "LEVEL checklist",
    ):
        assert words in text, words
    worst = pmwmix.influence(fit)["cooks_d"]
    assert f"({worst.idxmax()})" in text


def test_every_kind_of_model_has_a_report(tmp_path):
    o, d = outcomes(), nested()
    loaded = pmwmix.load(pmwmix.fit("y ~ x + (1 | school)", d).save(tmp_path / "fit"))
    said = {
        "no random term": pmwmix.fit("y ~ x", d),
        "Ratios": pmwmix.fit("z ~ x + (1 | school)", o, family="binomial", n_agq=1),
        "thresholds": pmwmix.fit("mark ~ x", o, family="cumulative"),
        "crossed": pmwmix.fit("y ~ x + (1 | school) + (1 | item)", d.assign(item=np.arange(len(d)) % 5)),
        "has none": pmwmix.fit("y ~ 0 + (1 | school)", d),
        "read from a file": loaded,
        "Standardising by the columns is not built for predictors with error": pmwmix.fit(
            "y ~ measured(x, 0.8) + (1 | school)", d
        ),
    }
    for words, fit in said.items():
        assert words in str(fit.report(figures=False)), words


def test_files_open_and_hold_the_same(weighted, tmp_path):
    docx = pytest.importorskip("docx")
    report = weighted[1].report()
    report.save(tmp_path / "r.docx")
    document = docx.Document(tmp_path / "r.docx")
    headings = [p.text for p in document.paragraphs if p.style.name == "Heading 1"]
    assert headings == [*(one.heading for one in report.blocks), "Checks of the model (plots.check)"]
    tables = [item for one in report.blocks for item in one.items if isinstance(item, pd.DataFrame)]
    assert [[cell.text for cell in row.cells][1:] for row in document.tables[0].rows[1:]] == tables[
        0
    ].to_numpy().tolist()
    assert len(document.tables) == len(tables) and len(document.inline_shapes) == 1
    for table in document.tables:  # every column has room for its longest word, and all for the page
        letter = 60_000  # of 8 points, in Word's units
        for column in table.columns:
            word = max(len(word) for cell in column.cells for word in [*cell.text.split(), ""])
            assert column.width > letter * word
        section = document.sections[0]
        page = section.page_width - section.left_margin - section.right_margin
        assert sum(column.width for column in table.columns) <= page
    assert any(run.font.subscript for p in document.paragraphs for run in p.runs)
    report.save(tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert "![Checks" in text and (tmp_path / "r-checks.png").read_bytes()[:4] == b"\x89PNG"
    page = report.save(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page and "<sub>ij</sub>" in page
    assert not re.search(r"(?<![\w-])body\s*{", page)  # nothing outside the report's own class


def test_names_are_no_markup(tmp_path):
    d = nested().rename(columns={"x": "a_b*c<i>"})
    report = pmwmix.fit("y ~ `a_b*c<i>` + (1 | school)", d).report(figures=False)
    assert "<i>`" not in report.to_html() and "a\\_b\\*c\\<i\\>" in str(report)


def test_wrong_endings_and_a_missing_package_are_refused(weighted, tmp_path, monkeypatch):
    report = weighted[1].report(figures=False)
    with pytest.raises(OptionError, match=r"'r\.doc'.*Did you mean '\.docx'"):
        report.save(tmp_path / "r.doc")
    own = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "docx":
            raise ImportError(name)
        return own(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OptionError, match=r"pip install 'pmwmix\[tables\]'"):
        report.save(tmp_path / "r.docx")
    assert not list(tmp_path.iterdir())
