"""Tables of several models: their numbers, their text, and the files they become."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, outcomes, survey

import pmwmix
from pmwmix.errors import OptionError

FIXED, RANDOM, MODEL = "Fixed effects", "Variance components", "Model"


@pytest.fixture(scope="module")
def pair():
    null = pmwmix.fit("mathach ~ 1 + (1 | school)", hsb(), method="reml")
    return null, pmwmix.fit("mathach ~ cses * sector + (1 + cses | school)", hsb(), method="reml")


@pytest.fixture(scope="module")
def weighted():
    s = survey()
    return pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="size", pv=s.pv)


@pytest.fixture(scope="module")
def made(pair, weighted):
    return pmwmix.table({"Null": pair[0], "Slopes": pair[1], "Weighted": weighted}, stars=True)


def test_numbers_are_those_of_the_fits(made, pair, weighted):
    data = made.data
    for name, fit in zip(data.columns, (*pair, weighted), strict=True):
        tidy = fit.tidy().set_index("term")
        for term in tidy.index:
            for statistic in ("estimate", "std_error", "p_value", "ci_low", "ci_high"):
                close(data.loc[(FIXED, term, statistic), name], tidy.loc[term, statistic])
        close(data.loc[(RANDOM, "Residual", "estimate"), name], fit.varcorr["vcov"].iloc[-1])
        close(data.loc[(MODEL, "ICC", "value"), name], fit.icc)
        assert data.loc[(MODEL, "Rows", "value"), name] == fit.nobs
        close(data.loc[(MODEL, "R² marginal", "value"), name], fit.r2()["estimate"]["marginal"])
    place = (RANDOM, "school Intercept, cses (correlation)", "estimate")
    close(data.loc[place, "Slopes"], pair[1].varcorr.query("var2 == 'cses'")["sdcor"])
    close(data.loc[(MODEL, "AIC", "value"), "Null"], pair[0].aic)
    close(data.loc[(MODEL, "dAIC", "value"), "Weighted"], weighted.aic)
    assert np.isnan(data.loc[(MODEL, "AIC", "value"), "Weighted"])
    assert data.loc[(MODEL, "school (units)", "value"), "Slopes"] == 160


def test_rows_of_several_models_are_merged_in_order(made):
    terms = list(dict.fromkeys(made.data.loc[FIXED].index.get_level_values(0)))
    assert terms == ["Intercept", "cses", "sector[T.Catholic]", "cses:sector[T.Catholic]", "escs", "female"] or (
        terms == ["Intercept", "escs", "female", "cses", "sector[T.Catholic]", "cses:sector[T.Catholic]"]
    )
    assert list(dict.fromkeys(made.cells.index.get_level_values(0))) == [FIXED, RANDOM, MODEL]


def test_cells_have_stars_and_what_stands_below(made, pair):
    row = pair[1].tidy().set_index("term").loc["cses"]
    shown = made.cells.loc[(FIXED, "cses"), "Slopes"]
    assert (
        shown == f"{row['estimate']:.3f}***\n({row['std_error']:.3f})" and made.cells.loc[(FIXED, "cses"), "Null"] == ""
    )
    plain = pmwmix.table(list(pair), below="ci").cells
    assert plain.columns.tolist() == ["(1)", "(2)"]
    assert plain.loc[(FIXED, "cses"), "(2)"].split("\n")[1] == f"[{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    assert pmwmix.table(pair, below="none").cells.loc[(FIXED, "cses"), "(2)"] == f"{row['estimate']:.3f}"
    own = pmwmix.table(pair[1], stars={1.0: "+"}, below="statistic").cells.loc[(FIXED, "cses"), "(1)"]
    assert own == f"{row['estimate']:.3f}+\n({row['statistic']:.2f})"


def test_notes_say_what_was_done(made, pair):
    text = " ".join(made.notes)
    assert "W_FSTUWT" in text and "5, pooled by Rubin's rules" in text and "Stars: * p < 0.05, ** p < 0.01" in text
    assert "Standard errors of Weighted: robust" in text and "Weights of Null: none" in text
    assert pmwmix.table(pair, notes=False).notes == [] and pmwmix.table(pair, notes=["Mine."]).notes == ["Mine."]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_text_fits_and_is_whole(made, width):
    text = made.to_text(width)
    assert max(map(len, text.splitlines())) <= width
    lines = " ".join(text.split())
    assert all(piece in lines for cell in made.cells.to_numpy().ravel() for piece in cell.split("\n"))


def test_labels_and_parts(pair):
    shown = pmwmix.table(pair, labels={"cses": "Socio-economic status"}, parts=["Fixed effects"])
    assert (FIXED, "Socio-economic status") in shown.cells.index and len(shown.cells.index.levels[0]) == 1
    with pytest.raises(OptionError, match=r"no row 'csess'.*Did you mean 'cses'"):
        pmwmix.table(pair, labels={"csess": "x"})


def test_every_kind_of_fit_has_a_column(tmp_path):
    odds = pmwmix.fit("z ~ x + (1 | school)", outcomes(), family="binomial", n_agq=3)
    count = pmwmix.fit("count ~ x", outcomes(), family="negbinomial")
    back = pmwmix.load(pmwmix.fit("y ~ x + (1 | school)", nested(), weights=["t1", "w3"]).save(tmp_path / "fit"))
    made = pmwmix.table([odds, count, back])
    close(made.data.loc[("Further parameters", "theta", "estimate"), "(2)"], count.dispersion)
    assert np.isnan(made.data.loc[(MODEL, "R² marginal", "value"), "(3)"])
    assert "dAIC" not in made.data.loc[MODEL].index.get_level_values(0)
    ratios = pmwmix.table(odds, exponentiate=True)
    close(ratios.data.loc[(FIXED, "x", "estimate"), "(1)"], np.exp(odds.coef["x"]))


def test_fits_by_group_name_the_columns():
    d = nested().assign(CNT=lambda t: np.where(t["school"] % 2, "A", "B"))
    assert pmwmix.table(pmwmix.fit_groups("y ~ x + (1 | school)", d, by="CNT")).data.columns.tolist() == ["A", "B"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: pmwmix.table([1]), "made of fits.*int"),
        (lambda p: pmwmix.table([]), "made of fits"),
        (lambda p: pmwmix.table(p, names=["a"]), "heading of its own"),
        (lambda p: pmwmix.table(p, names=["a", "a"]), "heading of its own"),
        (lambda p: pmwmix.table(p, below="se"), "'std_error'"),
        (lambda p: pmwmix.table(p, parts=["Fixed"]), "'Fixed effects'"),
        (lambda p: pmwmix.table(p).save("x.doc"), r"'\.docx'"),
    ],
)
def test_bad_calls_are_refused(pair, call, said):
    with pytest.raises(OptionError, match=said):
        call(pair)


def test_html_and_latex_escape_every_sign():
    d = nested().rename(columns={"x": "<b>x & y_1</b>"})
    made = pmwmix.table({"A & B_1": pmwmix.fit("y ~ `<b>x & y_1</b>` + (1 | school)", d)}, below="ci")
    assert "<b>x" not in made._repr_html_() and "&lt;b&gt;x &amp; y_1" in made._repr_html_()
    latex = made.to_latex()
    assert r"\textless{}b\textgreater{}x \& y\_1" in latex and r"A \& B\_1" in latex and r"95 \% intervals" in latex
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert all(line.count("&") - line.count(r"\&") in (0, 1) for line in rows) and r"\textit{Fixed effects}" in latex
    assert not any(line.lstrip().startswith("[") for line in latex.splitlines())  # an argument of the line break


def test_word_and_excel_hold_the_table(made, tmp_path):
    docx, openpyxl = pytest.importorskip("docx"), pytest.importorskip("openpyxl")
    pytest.importorskip("maketables")
    word = docx.Document(str(made.save(tmp_path / "t.docx"))).tables[0]
    cells = [[cell.text for cell in row.cells] for row in word.rows]
    assert cells[0] == ["", "Null", "Slopes", "Weighted"] and "Standard errors in parentheses" in cells[-1][0]
    assert ["cses", *made.cells.loc[(FIXED, "cses")]] in cells
    book = openpyxl.load_workbook(made.save(tmp_path / "t.xlsx"))
    numbers = list(book["Numbers"].values)
    assert numbers[0] == ("part", "row", "statistic", "Null", "Slopes", "Weighted")
    close(numbers[1][3], made.data.iloc[0, 0])
    assert ("Rows", "7185", "7185", "480") in list(book["Table"].values)
    sheet = book["Table"]
    assert sheet.column_dimensions["A"].width > max(len(label) for _, label in made.cells.index)
    assert sheet["A2"].font.bold and not sheet["A3"].font.bold and sheet["B3"].alignment.horizontal == "right"
    assert sheet.freeze_panes == "B2" and book["Numbers"].freeze_panes == "D2"


def test_pages_and_plain_files(made, tmp_path):
    back = pd.read_csv(made.save(tmp_path / "t.csv"), index_col=[0, 1, 2])
    pd.testing.assert_frame_equal(back, made.data)
    assert r"\toprule" in made.save(tmp_path / "t.tex").read_text() and made.save(tmp_path / "t.txt").exists()
    pytest.importorskip("maketables")
    page = made.save(tmp_path / "t.html").read_text()
    assert "gt_table" in page and "Fixed effects" in page
    assert type(made.to_gt()).__name__ == "GT"


def test_without_the_packages_the_cure_is_said(made, monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "maketables", None)
    with pytest.raises(OptionError, match=r"pip install 'pmwmix\[tables\]'"):
        made.save(tmp_path / "t.docx")
    assert not (tmp_path / "t.docx").exists()
