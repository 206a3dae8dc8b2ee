"""The command line as a user runs it."""

import json

import numpy as np
import pytest
from helpers import survey

import pmwmix
from pmwmix.cli import main


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


def test_levels_left_out_centring_and_design(file, capsys):
    assert main([
        "fit", str(file), "--formula", "PV1MATH ~ escs + (1 | SCHOOLID)", "--weights", "-", "W_FSCHWT",
        "--center", "escs=SCHOOLID+mean", "--vcov", "robust-block", "--no-progress", "--ci-prob", "0.9",
    ]) == 0  # fmt: skip
    printed = capsys.readouterr().out
    assert "escs_SCHOOLID_mean" in printed and "90 % low" in printed and "obs: 1 (conditional)" in printed


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
