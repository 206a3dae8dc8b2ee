"""Summaries where they are read: terminals of any width, light and dark pages, LaTeX."""

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, survey

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.results.rendering import aligned, fold, is_numeric, tex, text_table
from pmwmix.results.summary import precise, variance_table
from pmwmix.spec.design import Design

WIDTHS = [40, 60, 80, 100, 120]


@pytest.fixture(scope="module")
def slopes():
    return pmwmix.fit("mathach ~ cses * sector * meanses + (1 + cses | school)", hsb(), method="reml")


@pytest.fixture(scope="module")
def pooled():
    s = survey()
    return pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="size", pv=s.pv)


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])-?\d+\.\d+(?![\w.])", text))


@pytest.mark.parametrize("width", WIDTHS)
def test_no_number_is_broken_at_any_width(slopes, pooled, width):
    for fit in (slopes, pooled):
        summary = fit.summary(show=["correlation", "intervals", "residuals"])
        text = summary.to_text(width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text and text == "\n".join(line.rstrip() for line in text.split("\n"))
        cells = {cell for section in summary.sections for cell in section.table.to_numpy().ravel()}
        assert cells - {""} and all(f" {cell}" in text for cell in cells if is_numeric([cell]))
        for label in (label for section in summary.sections for label in section.table.index):
            assert all(piece in text for piece in re.findall(r"\w+", label))


def test_the_terminal_says_how_wide(slopes, monkeypatch):
    widths = {}
    for columns in ("80", "120", "1000", "7"):
        monkeypatch.setenv("COLUMNS", columns)
        widths[columns] = max(map(len, str(slopes.summary()).splitlines()))
    assert 70 < widths["80"] <= 80 < widths["120"] <= 120 and widths["1000"] <= 120 and widths["7"] <= 40


def test_wrapped_facts_and_notes_are_indented(pooled):
    lines = str(pooled.summary().to_text(80)).splitlines()
    call = next(i for i, line in enumerate(lines) if line.startswith("Call"))
    assert lines[call + 1].startswith(" " * 20) and lines[call + 1].strip()
    note = next(i for i, line in enumerate(lines) if line.startswith("* "))
    assert lines[note + 1].startswith("  ") and lines[note + 1][2] != " "


def test_columns_that_do_not_fit_are_continued_below():
    table = pd.DataFrame({f"column {j}": ["1.25", "10.5"] for j in range(9)}, index=["a", "b"])
    text = text_table(table, 40)
    assert text.count("\n\n") >= 1 and re.findall(r"^a +1\.25", text, re.M) and max(map(len, text.splitlines())) <= 40
    assert len(re.findall(r"10\.5", text)) == 9 and len(re.findall(r"1\.25", text)) == 9


def test_points_stand_in_one_line():
    cells = ["1929", "1.9", "-12.345", "", "Inf"]
    wide = [cell.rjust(10) for cell in aligned(cells)]
    assert {line.index(".") for line in wide if "." in line} == {6}
    assert wide[0][5] == "9" and wide[3].strip() == ""
    assert aligned(["a", "1.5"]) == ["a", "1.5"]
    lines = text_table(pd.DataFrame({"x": ["1929", "1.9", "-12.345"]}, index=list("abc")), 80).splitlines()[2:]
    assert [line.partition(".")[0] for line in lines] == ["a  1929", "b     1", "c   -12"]


def test_labels_break_where_they_can():
    assert fold("cses:sector[T.Catholic]", 16) == "cses:sector\n  [T.Catholic]"
    assert all(len(line) <= 10 for line in fold("averylongnamewithoutanybreak:x", 10).split("\n"))
    assert fold("short", 10) == "short"


@pytest.mark.parametrize(
    "error, value, shown",
    [(7.2831, 501.8055, "501.81"), (345.7, 5555.4, "5555"), (0.0312, -1.2, "-1.2000"), (3.1e-5, 0.00012, "0.0001200")],
)
def test_decimals_are_those_of_the_standard_error(error, value, shown):
    assert precise(error, value) == [shown]


def test_numbers_without_an_error_keep_their_digits():
    assert precise(np.nan, 1234.5678, 0.0) == ["1235", "0"] and precise(1e-9, 2.5e-7) == ["2.500e-07"]


def test_correlations_form_a_triangle():
    rows = [("g", a, None, v, v**0.5, 0.1) for a, v in (("Intercept", 4.0), ("x", 1.0), ("z", 9.0))]
    rows += [("g", a, b, r, r, 0.1) for a, b, r in (("Intercept", "x", 0.1), ("Intercept", "z", 0.2), ("x", "z", 0.3))]
    table = variance_table(pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor", "se"]))
    assert list(table.columns[3:]) == ["Corr. 1", "Corr. 2"]
    assert table.iloc[:, 3:].to_numpy().tolist() == [["", ""], ["0.100", ""], ["0.200", "0.300"]]


def test_a_design_prints_what_was_set():
    assert repr(Design(strata="S", psu="P", conditional=False)) == (
        "pmwmix.Design(conditional=False, strata='S', psu='P')"
    )
    assert repr(Design()) == "pmwmix.Design()"
    assert eval(repr(Design(pv={"m": "PV{}"})), {"pmwmix": pmwmix}) == Design(pv={"m": "PV{}"})
    assert repr(pmwmix.surveys["pisa-2018"]) == "pmwmix.surveys['pisa-2018']"


def test_the_call_has_no_unset_fields_and_no_addresses():
    def halves(w, parents):
        return w

    fit = pmwmix.fit(
        "y ~ x + (1 | school)", nested(), weights=["t1", "w3"], scaling=halves, design=Design(psu="school")
    )
    assert "None" not in fit.settings.call and "0x" not in fit.settings.call
    assert "scaling=halves" in fit.settings.call and "pmwmix.Design(psu='school')" in fit.settings.call


# -- on request ---------------------------------------------------------------------------------------------------


def test_correlations_of_coefficients(slopes):
    summary = slopes.summary(show="correlation")
    table = summary.sections[-1].table
    error = np.sqrt(np.diag(slopes.vcov))
    R = slopes.vcov.to_numpy() / np.outer(error, error)
    assert table.iloc[5, 2] == f"{R[5, 2]:.3f}" and table.iloc[2, 2] == "" and len(table) == len(slopes.coef)
    assert len(slopes.summary().sections) == len(summary.sections) - 1


def test_quantiles_of_residuals_are_lme4s(slopes):
    shown = slopes.summary(show="residuals").sections[-1].table.iloc[0].astype(float)
    close(shown, np.quantile(slopes.residuals("pearson"), [0, 0.25, 0.5, 0.75, 1]), rtol=5e-4)


def test_test_against_no_random_effects(slopes):
    """R: anova(lmer(..., REML = TRUE), gls(..., method = "REML")): twice the difference of the REML log-likelihoods."""
    none = pmwmix.fit("mathach ~ cses * sector * meanses", hsb(), method="reml")
    shown = slopes.summary(show="lrt").sections[-1].table.iloc[0]
    close(float(shown["Chi-square"]), 2 * (slopes.loglik - none.loglik), rtol=1e-4)
    assert shown["df"] == "3" and shown["p (boundary)"] == "<0.001"


def test_test_against_no_random_effects_of_several_terms():
    data = nested()
    fit = pmwmix.fit("y ~ x + (x | school) + (1 | classroom)", data)
    none = pmwmix.fit("y ~ x", data)
    shown = fit.summary(show=["lrt"]).sections[-1].table.iloc[0]
    close(float(shown["Chi-square"]), 2 * (fit.loglik - none.loglik), rtol=1e-4)
    assert shown["df"] == "4"


def test_parts_that_a_fit_cannot_have(tmp_path):
    fit = pmwmix.fit("y ~ x", nested())
    with pytest.raises(NotSupportedError, match="random effects"):
        fit.summary(show="lrt")
    every = fit.summary(show="all")
    assert any("Not shown: lrt" in note for note in every.notes)
    with pytest.raises(OptionError, match=r"'lr'.*Did you mean 'lrt'"):
        fit.summary(show="lr")
    with pytest.raises(OptionError, match="by name"):
        fit.summary(show=3)
    loaded = pmwmix.load(pmwmix.fit("y ~ x + (1 | school)", nested()).save(tmp_path / "fit"))
    assert "Not shown: lrt" in str(loaded.summary(show="all")) and "Scaled residuals" in str(loaded.summary(show="all"))


# -- pages --------------------------------------------------------------------------------------------------------


def test_a_fragment_styles_nothing_but_itself(pooled):
    style = re.search(r"<style>(.*?)</style>", pooled._repr_html_(), re.S)[1]
    selectors = [one.strip() for rule in re.findall(r"([^{}]+)\{", style) for one in rule.split(",")]
    assert len(selectors) > 10 and all(one.startswith(".pmwmix") for one in selectors)
    assert not re.search(r"#[0-9a-f]{3,6}\b", style) and "currentColor" in style


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_readable_in_a_browser(pooled, tmp_path, scheme):
    """Contrast of every text with what is behind it, WCAG 2.1's measure, in a headless browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no chromium")
    script = """<script>
      const canvas = (c) => {const x = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        x.fillStyle = c; x.fillRect(0, 0, 1, 1); return [...x.getImageData(0, 0, 1, 1).data].slice(0, 3)};
      const light = (c) => {const [r, g, b] = canvas(c).map((v) => {v /= 255;
        return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4}); return 0.2126 * r + 0.7152 * g + 0.0722 * b};
      const page = light(SCHEME), found = [...document.querySelectorAll('.pmwmix th, .pmwmix td, .pmwmix dd, h2')]
        .map((e) => light(getComputedStyle(e).color))
        .map((t) => (Math.max(t, page) + 0.05) / (Math.min(t, page) + 0.05));
      document.body.dataset.contrast = Math.min(...found); document.body.dataset.n = found.length;
      document.body.dataset.wide = document.documentElement.scrollWidth;
    </script>"""
    page = pooled.summary().to_html()
    behind = "'white'" if scheme == "light" else "'#121212'"
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", script.replace("SCHEME", behind) + "</body>"), encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    dark = [] if scheme == "light" else ["--blink-settings=preferredColorScheme=0"]
    done = subprocess.run([browser, *options, *dark, "--dump-dom", file.as_uri()], capture_output=True, text=True)
    said = dict(re.findall(r'data-(contrast|n|wide)="([\d.]+)"', done.stdout))
    assert int(said["n"]) > 60 and float(said["contrast"]) > 7 and int(said["wide"]) <= 800


def test_latex_escapes_every_sign():
    assert tex(r"a\b_{c} & 5% ~ ^ <|>") == (
        r"a\textbackslash{}b\_\{c\} \& 5\% \textasciitilde{} \textasciicircum{} "
        r"\textless{}\textbar{}\textgreater{}"
    )
