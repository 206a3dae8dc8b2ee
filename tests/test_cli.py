"""The command line as a user runs it."""

import argparse
import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from helpers import survey

import pmwmix
from pmwmix.cli import main, parser


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "survey.csv"
    survey().data.to_csv(path, index=False)
    return path


def test_fit_writes_what_it_prints(file, tmp_path, capsys):
    s = survey()
    out, page, saved = tmp_path / "result.json", tmp_path / "report.html", tmp_path / "fit.pmwmix"
    status = main([
        "fit", str(file), "--formula", s.formula, "--pv", "math=PV{}MATH", "--weights", *s.weights, "--scaling", "size",
        "--output", str(out), "--html", str(page), "--save", str(saved),
    ])  # fmt: skip
    assert status == 0
    printed = capsys.readouterr().out
    fit = pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="size", pv=s.pv)
    numbers = json.loads(out.read_text())
    assert [row["term"] for row in numbers["fixed"]] == list(fit.coef.index)
    for row, estimate, error in zip(numbers["fixed"], fit.coef, fit.se, strict=True):
        assert row["estimate"] == pytest.approx(estimate, rel=1e-6)
        assert row["std_error"] == pytest.approx(error, rel=1e-6)
    assert len(numbers["fits"]) == 5
    assert "Fixed effects" in printed and "escs" in printed
    assert "<table" in page.read_text()
    assert pmwmix.load(saved).nobs == fit.nobs


def test_the_call_is_the_command_and_parts_are_shown(file, capsys):
    command = ["fit", str(file), "--formula", "PV1MATH ~ escs + (1 | SCHOOLID)", "--no-progress"]
    assert main([*command, "--show", "correlation", "lrt"]) == 0
    printed = "".join(capsys.readouterr().out.split())
    assert f"pmwmixfit{file}--formula'PV1MATH~escs+(1|SCHOOLID)'--no-progress--showcorrelationlrt" in printed
    assert "Correlationofthefixedeffects" in printed and "p(boundary)" in printed.replace("\n", "")
    assert main([*command, "--table", str(file.parent / "table.csv")]) == 0
    assert "Fixed effects,escs,estimate" in (file.parent / "table.csv").read_text()
    assert main([*command, "--show", "lr"]) == 2
    assert "Did you mean 'lrt'" in capsys.readouterr().err
    assert pmwmix.fit("PV1MATH ~ 1 + (1 | SCHOOLID)", file).settings.call.startswith("pmwmix.fit(")


def test_levels_left_out_centring_and_design(file, capsys):
    assert main([
        "fit", str(file), "--formula", "PV1MATH ~ escs + (1 | SCHOOLID)", "--weights", "-", "W_FSCHWT",
        "--center", "escs=SCHOOLID+mean", "--vcov", "robust-block", "--no-progress", "--ci-prob", "0.9",
    ]) == 0  # fmt: skip
    printed = " ".join(capsys.readouterr().out.split())
    assert "escs_SCHOOLID_mean" in printed and "90 % 90 %" in printed and "obs: 1 (conditional)" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "absent.csv", "--formula", "y ~ x + (1 | g)"], "absent.csv"),
        (["fit", "FILE", "--formula", "PV1MATH ~ escz + (1 | SCHOOLID)"], "escz"),
        (["fit", "FILE", "--formula", "math ~ escs + (1 | SCHOOLID)", "--pv", "PV{}MATH"], "NAME=VALUE"),
        (["fit", "FILE", "--formula", "PV1MATH ~ escs + (1 | SCHOOLID)", "--scaling", "sise"], "sise"),
        (
            ["fit", "FILE", "--formula", "PV1MATH ~ 1 + (1 | SCHOOLID)", "--html", "no/such/folder/a.html"],
            "no/such/folder",
        ),
        (["fit", "FILE", "--formula", "PV1MATH ~ open('x') + (1 | SCHOOLID)"], "open"),
    ],
)
def test_errors_are_sentences_on_stderr(arguments, said, file, capsys):
    assert main([str(file) if a == "FILE" else a for a in arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and "Traceback" not in captured.err


def test_demo_recovers_the_truth(capsys):
    assert main(["demo", "--schools", "120", "--students", "20"]) == 0
    printed = capsys.readouterr().out
    rows = {}
    for line in printed.split("Estimates beside the truth")[1].splitlines():
        parts = line.split("  ")
        cells = [cell.strip() for cell in parts if cell.strip()]
        if len(cells) == 5 and cells[0] != "Truth":
            rows[cells[0]] = [float(cell) for cell in cells[1:]]
    assert len(rows) == 7
    for name in ("Intercept", "escs", "female", "var(Residual)"):
        truth, weighted, error, _ = rows[name]
        assert abs(weighted - truth) < 4 * error, name  # four standard errors: fails once in 16,000 seeds
    assert abs(rows["Intercept"][3] - 500) > 4 * rows["Intercept"][2]  # unweighted is visibly wrong


def test_help_and_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--help"])
    assert stop.value.code == 0 and "examples:" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert main([]) == 2


def test_replicates_and_subsets_from_the_command_line(tmp_path, capsys):
    d = survey().data.assign(girl=lambda t: t["female"])
    for r in range(1, 9):
        half = (d["SCHOOLID"] // r) % 2 == 0
        d[f"R{r}"] = d["W_FSTUWT"] * np.where(half, 1.5, 0.5)
    d.to_csv(tmp_path / "r.csv", index=False)
    formula = "PV1MATH ~ escs + (1 | SCHOOLID)"
    base = ["fit", str(tmp_path / "r.csv"), "--formula", formula, "--weights", "W_FSTUWT", "W_FSCHWT"]
    assert main([*base, "--scaling", "size", "--replicates", "R{}", "--replicate-type", "fay", "--fay", "0.5"]) == 0
    assert "8 replicates" in capsys.readouterr().out
    assert main([*base, "--subset", "girl"]) == 0
    assert "A subset was fitted" in capsys.readouterr().out


def test_surveys_are_listed_and_shown(capsys):
    assert main(["surveys"]) == 0
    assert "pisa-2018" in capsys.readouterr().out
    assert main(["surveys", "pisa-2018"]) == 0
    printed = capsys.readouterr().out
    assert "W_SCHGRNRABWT" in printed and "sources:" in printed
    assert main(["surveys", "piza-2018"]) == 2
    assert "piza-2018" in capsys.readouterr().err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """PISA in small: student and school file of two countries."""
    out = tmp_path_factory.mktemp("pisa")
    names = {"SCHOOLID": "CNTSCHID", "STIDSTD": "CNTSTUID", "W_FSCHWT": "W_SCHGRNRABWT", "escs": "ESCS"}
    d = survey().data.rename(columns=names)
    d["CNT"] = np.where(d["CNTSCHID"] % 2 == 0, "AUT", "NZL")
    d.drop(columns="W_SCHGRNRABWT").to_csv(out / "stu.csv", index=False)
    d[["CNTSCHID", "W_SCHGRNRABWT"]].drop_duplicates().to_csv(out / "sch.csv", index=False)
    return out


def test_codebook_from_the_command_line(folder, tmp_path, capsys):
    assert main(["codebook", str(folder / "stu.csv"), "esc"]) == 0
    printed = capsys.readouterr().out
    assert "ESCS" in printed and "1 columns with 'esc'" in printed and "CNT" not in printed
    assert main(["codebook", str(folder / "stu.csv"), "--no-counts", "--output", str(tmp_path / "b.csv")]) == 0
    assert (tmp_path / "b.csv").read_text().startswith("variable,label,values,missing")
    assert main(["codebook", "absent.sav"]) == 2
    assert "absent.sav" in capsys.readouterr().err


def test_convert_from_the_command_line(folder, tmp_path, capsys):
    out = tmp_path / "all.parquet"
    call = ["convert", str(folder / "stu.csv"), str(out), "--school", str(folder / "sch.csv"), "--countries", "NZL"]
    assert main([*call, "--columns", "PV{}MATH", "ESCS", "W_SCHGRNRABWT", "CNT"]) == 0
    printed = capsys.readouterr().out
    assert "Merged with the school file by CNTSCHID" in printed and "Written to" in printed
    d = pmwmix.read_survey(out)
    assert set(d["CNT"]) == {"NZL"} and "PV5MATH" in d and "female" not in d
    assert main(["convert", str(folder / "stu.csv"), str(tmp_path / "x.sav")]) == 2
    assert ".parquet" in capsys.readouterr().err


def test_fit_with_a_survey_and_merged_files(folder, tmp_path, capsys):
    out = tmp_path / "fit.json"
    assert main([
        "fit", str(folder / "stu.csv"), "--school", str(folder / "sch.csv"), "--survey", "pisa-2018",
        "--countries", "NZL", "--formula", "math ~ ESCS + (1 | school)", "--vcov", "robust", "--output", str(out),
        "--no-progress",
    ]) == 0  # fmt: skip
    captured = capsys.readouterr()
    assert "Merged with the school file" in captured.err and "pisa-2018" in captured.out
    s = survey()
    part = s.data[s.data["SCHOOLID"] % 2 == 1]
    want = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", part, weights=s.weights, scaling="size", pv=s.pv)
    fixed = {row["term"]: row for row in json.loads(out.read_text())["fixed"]}
    assert fixed["ESCS"]["estimate"] == pytest.approx(want.coef["escs"], rel=1e-7)
    assert fixed["ESCS"]["std_error"] == pytest.approx(want.se["escs"], rel=1e-5)


def test_fit_by_group(folder, tmp_path, capsys):
    out, page = tmp_path / "fits.json", tmp_path / "fits.html"
    call = ["fit", str(folder / "stu.csv"), "--formula", "math ~ ESCS + (1 | CNTSCHID)", "--pv", "math=PV{}MATH"]
    assert main([*call, "--by", "CNT", "--output", str(out), "--html", str(page)]) == 0
    assert "2 of 2 fitted, by CNT" in capsys.readouterr().out
    numbers = json.loads(out.read_text())
    assert set(numbers["groups"]) == {"AUT", "NZL"} and len(numbers["average"]) == 2 and "<table" in page.read_text()
    assert main([*call, "--by", "CNT", "--save", str(tmp_path / "f")]) == 2
    assert "--save with --by" in capsys.readouterr().err
    assert main([*call, "--by", "REGION"]) == 2
    assert "REGION" in capsys.readouterr().err


def test_family_and_link_reach_fit(file, capsys):
    formula = "female ~ escs + (1 | SCHOOLID)"
    assert main(["fit", str(file), "--formula", formula, "--family", "binomal"]) == 2
    assert "binomal" in capsys.readouterr().err
    assert main(["fit", str(file), "--formula", formula, "--family", "binomial", "--link", "probitt"]) == 2
    assert "probitt" in capsys.readouterr().err


def test_columns_of_a_survey_file_match_in_any_case_and_absent_ones_have_hints(folder, capsys):
    file, schools = str(folder / "stu.csv"), ["--school", str(folder / "sch.csv")]
    base = ["fit", file, *schools, "--survey", "pisa-2018", "--vcov", "robust", "--formula"]
    assert main([*base, "math ~ escs + (1 | school)"]) == 0
    assert main([*base, "math ~ ESCZ + (1 | school)"]) == 2
    assert "'ESCZ'. Did you mean 'ESCS'?" in capsys.readouterr().err
    assert main([*base, "math ~ escs + escs_CNTSCHID_mean + (1 | school)", "--center", "escs=school+mean"]) == 0
    d = survey().data.rename(columns={"SCHOOLID": "CNTSCHID", "W_FSCHWT": "W_SCHGRNRABWT", "escs": "ESCS"})
    d.to_parquet(folder / "one.parquet")
    assert main(["fit", str(folder / "one.parquet"), "--survey", "pisa-2018", "--formula", "read~escs+(1|school)"]) == 2
    assert "PV{}READ" in capsys.readouterr().err
    assert main(["fit", str(folder / "one.parquet"), "--survey", "pisa-2018", "--formula", "math~escs+(1|school)"]) == 0
    assert "one.parquet (main): 480 rows" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--output", "--html", "--save"])
def test_places_that_cannot_be_written_end_in_a_sentence(option, file, tmp_path, capsys):
    call = ["fit", str(file), "--formula", "math ~ escs + (1 | SCHOOLID)", option, str(tmp_path / "no" / "x")]
    assert main(call) == 2
    said = capsys.readouterr().err
    assert "folder does not exist" in said and "Traceback" not in said


def test_an_interruption_ends_in_a_word(file, capsys, monkeypatch):
    def interrupted(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pmwmix.api.fit", interrupted)
    monkeypatch.setattr("sys.last_exc", None, raising=False)
    assert main(["fit", str(file), "--formula", "math ~ escs + (1 | SCHOOLID)"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_several_formulas_make_one_table(file, tmp_path, capsys):
    out, numbers = tmp_path / "models.csv", tmp_path / "models.json"
    formulas = ["math ~ 1 + (1 | SCHOOLID)", "math ~ escs + (1 | SCHOOLID)"]
    command = ["fit", str(file), "--formula", formulas[0], "--formula", formulas[1], "--pv", "math=PV{}MATH"]
    more = ["--names", "Null", "Full", "--stars", "--table", str(out), "--output", str(numbers), "--no-progress"]
    assert main([*command, *more]) == 0
    printed = capsys.readouterr().out
    assert printed.count("Formula ") == 2 and "Null" in printed and "***" in printed
    table = pd.read_csv(out, index_col=[0, 1, 2])
    s = survey()
    fits = [pmwmix.fit(formula, s.data, pv=s.pv, progress=False) for formula in formulas]
    assert table.loc[("Fixed effects", "Intercept", "estimate")].to_list() == pytest.approx(
        [one.coef["Intercept"] for one in fits]
    )
    assert np.isnan(table.loc[("Fixed effects", "escs", "std_error"), "Null"])
    assert [one["nobs"] for one in json.loads(numbers.read_text())["models"]] == [480, 480]
    saved = [tmp_path / "null.pmwmix", tmp_path / "full.pmwmix"]
    for one, path in zip(fits, saved, strict=True):
        one.save(path)
    assert main(["table", *map(str, saved), "--names", "Null", "Full", "--below", "ci"]) == 0
    assert "[" in capsys.readouterr().out
    for option in (["--save", str(tmp_path / "x")], ["--by", "CNT"], ["--html", str(tmp_path / "x.html")]):
        assert main([*command, *option]) == 2
        assert f"{option[0]} goes with one model" in capsys.readouterr().err


def test_describe_prints_and_writes_what_the_function_gives(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "statistics.csv"
    options = ["--pv", "math=PV{}MATH", "--weights", "W_FSTUWT", "--psu", "SCHOOLID", "--by", "female", "--gaps"]
    assert main(["describe", str(file), "math", "escs", *options, "--percentiles", "0.5", "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80 and "1.0 - 0.0: p50" in printed
    s = survey()
    said = {"weights": "W_FSTUWT", "pv": s.pv, "design": {"psu": "SCHOOLID"}, "by": "female", "gaps": True}
    want = pmwmix.describe("math", s.data, percentiles=[0.5], **said)
    got = pd.read_csv(out)
    assert got.loc[got["variable"] == "math", "std_error"].to_list() == pytest.approx(want["std_error"].to_list())
    assert set(got["variable"]) == {"math", "escs"}
    assert main(["describe", str(file), "math"]) == 2 and "PV{}MATH" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--output", "--html", "--table", "--save"])
def test_a_folder_is_never_replaced_by_a_file(option, file, tmp_path, capsys):
    folder = tmp_path / "results.csv"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    assert main(["fit", str(file), "--formula", "PV1MATH ~ escs + (1 | SCHOOLID)", option, str(folder)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_faults_of_the_package_are_said_without_a_traceback(file, capsys, monkeypatch):
    def broken(*given, **options):
        raise ZeroDivisionError("no")

    monkeypatch.setattr("pmwmix.api.fit", broken)
    command = ["fit", str(file), "--formula", "PV1MATH ~ escs + (1 | SCHOOLID)"]
    assert main(command) == 1
    assert "ZeroDivisionError: no\nThis is a fault of pmwmix" in capsys.readouterr().err
    monkeypatch.setenv("PMWMIX_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(command)


def verbs():
    return parser()._subparsers._group_actions[0].choices


def test_help_fits_a_terminal_and_its_examples_parse(monkeypatch):
    import shlex

    monkeypatch.setenv("COLUMNS", "80")
    for text in (parser().format_help(), *(verb.format_help() for verb in verbs().values())):
        assert max(map(len, text.splitlines())) <= 80
        examples = text.partition("examples:\n")[2].replace("\\\n", " ").splitlines()
        examples = [line.strip().removeprefix("fish:").strip() for line in examples]
        commands = [line for line in examples if line.startswith("pmwmix")]
        assert commands
        for line in commands:
            words = shlex.split(line.partition(" > ")[0])
            assert isinstance(parser().parse_args(words[1:]), argparse.Namespace)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb_and_option(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for name, verb in verbs().items():
        assert name in script
        for option in (text for action in verb._actions for text in action.option_strings if text.startswith("--")):
            assert (option in script) if shell != "fish" else (f"-l {option[2:]}" in script), (name, option)
    assert "pisa-2018" in script and "negbinomial" in script


def test_bash_completes(tmp_path, capsys):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    main(["completion", "bash"])
    lines = [
        capsys.readouterr().out,
        't() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pmwmix; echo "${COMPREPLY[@]}"; }',
        "t pmwmix des",
        "t pmwmix fit data.csv --repl",
        "t pmwmix fit --show correlation i",
        "t pmwmix surveys pisa-201",
        "t pmwmix fit dat",
    ]
    (tmp_path / "script").write_text("\n".join(lines))
    done = subprocess.run([bash, "--norc", str(tmp_path / "script")], capture_output=True, text=True, check=True)
    said = ["describe", "--replicates --replicate-type", "intervals", "pisa-2012 pisa-2015 pisa-2018", ""]
    assert done.stdout.splitlines() == said and not done.stderr
