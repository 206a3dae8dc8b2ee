"""Every number of the published outputs agrees as printed, or is registered with a reason that is shown here."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import SHARED
from marginal import Marginal
from published import FROM_SHARED, OUTPUTS, AtPrinted, half, ours, table
from scipy import optimize, special, stats

PAGE = Path(__file__).parents[2] / "docs/programs.md"
REASONS = {
    "stopped": "the program stopped before the maximum",
    "information": "standard errors from the whole observed information",
    "earlier": "HLM's coefficients belong to an earlier iteration",
    "levels": "WeMix takes one level of variances at a time",
    "laplace": "glmer's Laplace approximation takes the expected information",
    "unexplained": "not explained",
}
# Parameters of the information, and what g'(-H)⁻¹g (twice the loss) may be where the program stops: SAS, of -2 log L
# relative to it (CONVH); Stata, as it is (nrtolerance); Mplus prints "Loglikelihood change 0.100D-02" of its EM steps.
SCALES = {"SAS": "ratio", "Stata": "log sd", "Mplus": "variance"}
REGISTERED = [
    (name, reason)
    for name, entry in OUTPUTS.items()
    for reason in dict.fromkeys(reason for _, reason in entry.get("apart", {}).values())
]


@pytest.fixture(autouse=True)
def needs_data(request):
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    if name and OUTPUTS[name]["data"] in FROM_SHARED and not SHARED.exists():
        pytest.skip("the shared folder is not beside the checkout")


@pytest.mark.parametrize("name", OUTPUTS)
def test_printed_numbers(name):
    printed, apart = OUTPUTS[name]["printed"], OUTPUTS[name].get("apart", {})
    found = ours(name)
    assert set(apart) <= set(printed)
    for number, text in printed.items():
        far = abs(found[number] - float(text)) > half(text) * (1 + 1e-9)
        assert far == (number in apart), f"{number}: {found[number]} here, {text} printed"
        if far:
            np.testing.assert_allclose(found[number], apart[number][0], rtol=1e-5)


@pytest.mark.parametrize(("name", "reason"), REGISTERED)
def test_reasons(name, reason):
    numbers = [number for number, (_, why) in OUTPUTS[name]["apart"].items() if why == reason]
    CHECKS[reason](name, numbers)


def stopped(name, numbers):
    """The likelihood at the variances printed is lower than at ours, and everything else printed follows from them."""
    at, entry = AtPrinted(name), OUTPUTS[name]
    best = ours(name)["loglik"]
    us = np.array([ours(name)[key] for key in at.model.keys])
    np.testing.assert_allclose(at.model.solve(us)[-1], best, rtol=0, atol=1e-8)
    here, there = (0.5 * at.model.slopes(theta)[0] @ (us - at.theta) for theta in (us, at.theta))
    loss = there - here  # of a quadratic likelihood, whose slope is nothing at its maximum
    assert abs(here) < 1e-5 * there + 1e-16
    np.testing.assert_allclose(loss, entry["loss"], rtol=0.02, atol=1e-15)
    if entry["program"] == "SAS":
        assert 2 * loss / abs(best) < 1e-8
    if entry["program"] == "Stata":
        assert 2 * loss < 1e-5
    for number in numbers:
        kind = number.split()[0]
        if entry["program"] == "Mplus" and kind in ("coef", "loglik"):  # EM moves the coefficients too
            beta, A = at.model.solve(at.theta)[:2]
            off = np.array([float(at.printed.get(f"coef {n}", b)) for n, b in zip(at.model.names, beta, strict=True)])
            off = off - beta
            assert loss + 0.5 * off @ A @ off < 1e-3
            assert abs(ours(name)["loglik"] - float(at.printed["loglik"])) < 1e-3
        elif kind in ("coef", "se"):
            assert at.explains(number), number


def information(name, numbers):
    at, scale = AtPrinted(name), SCALES[OUTPUTS[name]["program"]]
    assert all(at.explains(number, scale) for number in numbers)


def earlier(name, numbers):
    """One variance of the schools, further from the maximum, gives all three."""
    printed, at = OUTPUTS[name]["printed"], AtPrinted(name)

    def printed_by(psi, robust=None):
        return at.model.numbers(np.array([psi, at.theta[-1]]), robust)

    psi = optimize.brentq(lambda psi: printed_by(psi)["se Intercept"] - float(printed["se Intercept"]), 8.0, 9.0)
    assert psi > at.theta[0] > ours(name)["var School Intercept"]
    for number in numbers:
        assert abs(printed_by(psi)[number] - float(printed[number])) <= half(printed[number])
    robust = OUTPUTS[f"{name}-robust"]["printed"]["se Intercept"]
    assert abs(printed_by(psi, 1.0)["se Intercept"] - float(robust)) <= half(robust)


def levels(name, numbers):
    at = AtPrinted(name)
    found = at.model.by_level(at.theta, at.robust)
    for number in numbers:
        np.testing.assert_allclose(found[number], float(at.printed[number]), rtol=1e-6)


def laplace(name, numbers):
    """The same approximation with the expected information, maximised here, gives what glmer prints."""
    printed, found, d = OUTPUTS[name]["printed"], ours(name), table("contraception")
    y, urban = (d["use"] == "Y").to_numpy(float), (d["urban"] == "Y").to_numpy(float)
    X, g = np.column_stack([np.ones(len(d)), d["age"], urban]), np.unique(d["district"], return_inverse=True)[1]

    def value(at):
        s, u = np.exp(at[3]), np.zeros(g.max() + 1)
        for _ in range(60):
            eta = X @ at[:3] + s * u[g]
            if OUTPUTS[name]["options"]["link"] == "probit":
                p, slope = special.ndtr(eta), np.exp(-0.5 * eta**2) / np.sqrt(2 * np.pi)
            else:
                p, slope = -np.expm1(-np.exp(eta)), np.exp(eta - np.exp(eta))
            curved = 1 + np.bincount(g, s**2 * slope**2 / (p * (1 - p)))
            step = (np.bincount(g, s * (y - p) * slope / (p * (1 - p))) - u) / curved
            u = u + step
            if np.abs(step).max() < 1e-13:
                break
        return np.log(np.where(y > 0, p, 1 - p)).sum() - 0.5 * u @ u - 0.5 * np.log(curved).sum()

    start = [found["coef Intercept"], found["coef age"], found["coef urban[Y]"], found["sd district Intercept"]]
    start[3] = np.log(start[3])
    best = optimize.minimize(
        lambda at: -value(at), start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}
    )
    theirs = {"loglik": -best.fun, "coef Intercept": best.x[0], "var district Intercept": np.exp(2 * best.x[3])}
    for number in numbers:
        assert abs(theirs[number] - float(printed[number])) <= half(printed[number]), number


def unexplained(name, numbers):
    assert (name, numbers) == ("hlm-hsb-null", ["-2 loglik"])


CHECKS = {
    "stopped": stopped, "information": information, "earlier": earlier, "levels": levels, "laplace": laplace,
    "unexplained": unexplained,
}  # fmt: skip


def test_level_by_level_is_the_dense_likelihood():
    """Of all rows at once; and a weight of two is a unit that is there twice."""
    d = table("sleepstudy").assign(one=1.0, block=lambda t: t["Subject"].astype(int) % 4)
    formula, theta = (
        "Reaction ~ Days + (1 + Days | Subject) + (1 | block)",
        np.array([500.0, -20.0, 40.0, 300.0, 900.0]),
    )
    model = Marginal(formula, d)
    assert model.keys[1] == "cov Subject Intercept Days" and model.keys[3] == "var block Intercept"
    Z, same = (
        np.column_stack([d["one"], d["Days"]]),
        [np.equal.outer(*[d[c].to_numpy()] * 2) for c in ("Subject", "block")],
    )
    V = Z @ np.array([[500.0, -20.0], [-20.0, 40.0]]) @ Z.T * same[0] + 300.0 * same[1] + 900.0 * np.eye(len(d))
    beta, _, _, value = model.solve(theta)
    dense = stats.multivariate_normal.logpdf(d["Reaction"], Z @ beta, V)
    np.testing.assert_allclose(value, dense, rtol=1e-11)
    copy = d[d["Subject"].astype(int) < 320].assign(Subject=lambda t: t["Subject"].astype(str) + "b")
    twice = Marginal(formula, pd.concat([d.assign(Subject=d["Subject"].astype(str)), copy])).solve(theta)[-1]
    weighted = d.assign(w=np.where(d["Subject"].astype(int) < 320, 2.0, 1.0))
    given = Marginal(formula, weighted, weights=["one", "w", "one"], conditional=True).solve(theta)[-1]
    np.testing.assert_allclose(given, twice)


def rendered() -> tuple[str, str]:
    """The two tables of the page, from the outputs alone."""
    outputs = ["| Output | Program and source | Model | Numbers | Apart |", "|---|---|---|---|---|"]
    register = ["| Output | Reason | Printed → pmwmix | Loss |", "|---|---|---|---|"]
    for name, entry in OUTPUTS.items():
        apart, model = entry.get("apart", {}), entry["formula"].replace("|", "\\|")
        source = re.sub(r"https?://\S*[^\s,;.]", r"<\g<0>>", entry["source"])
        cells = [name, f"{entry['program']}: {source}", f"`{model}`", len(entry["printed"]), len(apart) or ""]
        outputs.append("| " + " | ".join(map(str, cells)) + " |")
        for reason in dict.fromkeys(why for _, why in apart.values()):
            words = [
                f"{number} {(text := entry['printed'][number])} → {here:.{len(text.partition('.')[2]) + 1}f}"
                for number, (here, why) in apart.items()
                if why == reason
            ]
            loss = f"{entry['loss']:.1e}" if reason == "stopped" and entry["loss"] else ""
            register.append(f"| {name} | {REASONS[reason]} | {'; '.join(words)} | {loss} |")
    return "\n".join(outputs), "\n".join(register)


def test_the_page_shows_the_outputs_and_the_register():
    text = PAGE.read_text()
    assert all(part in text for part in rendered()), "run: PYTHONPATH=.:tests python tests/whole/test_published.py"
    numbers = sum(len(entry["printed"]) for entry in OUTPUTS.values())
    apart = sum(len(entry.get("apart", {})) for entry in OUTPUTS.values())
    assert f"{len(OUTPUTS)} outputs, {numbers} numbers: {numbers - apart} agree" in text


def test_enough_programs():
    published = [entry for entry in OUTPUTS.values() if "run by us" not in entry["source"]]
    assert len(published) >= 15 and len({entry["program"] for entry in published}) >= 5
    assert set(REASONS) == set(CHECKS) == {why for e in OUTPUTS.values() for _, why in e.get("apart", {}).values()}


if __name__ == "__main__":
    text = PAGE.read_text()
    for part in rendered():
        head = part.split("\n")[0]
        text = re.sub(re.escape(head) + r"\n(\|.*\n?)+", lambda _, part=part: part + "\n", text)
    PAGE.write_text(text)


BESIDE = PAGE.with_name("other-programs.md")  # rows of its tables: heading, row, number of the output, column
PRINTED_THERE = [
    ("hlm-hsb-null", "intercept", "coef Intercept", 1),
    ("hlm-hsb-null", "standard error", "se Intercept", 1),
    ("hlm-hsb-null-robust", "robust standard error", "se Intercept", 1),
    ("hlm-hsb-null", "variance of schools", "var School Intercept", 1),
    ("hlm-hsb-null", "deviance", "-2 loglik", 1),
    ("stata-hsb-null", "intercept", "coef Intercept", 2),
    ("stata-hsb-null", "variance of schools", "var School Intercept", 2),
    ("mplus-snijders-4.1", "mean", "coef Intercept", 1),
    ("mplus-snijders-4.1", "variance between", "var schoolNR Intercept", 1),
    ("mplus-snijders-4.1", "log-likelihood", "loglik", 1),
    ("stata-pisa2000", "female", "coef female", 1),
    ("stata-pisa2000", "college", "se college", 1),
    ("stata-pisa2000", "residual variance", "var Residual", 1),
]


@pytest.mark.parametrize(("name", "row", "number", "column"), PRINTED_THERE)
def test_pages_beside_other_programs_have_their_numbers_and_ours(name, row, number, column):
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in BESIDE.read_text(encoding="utf-8").splitlines()
    ]
    rows = [line for line in cells if line and line[0] == row and re.search(r"\d", line[column])]
    printed, mine = OUTPUTS[name]["printed"][number], ours(name)[number]
    line = next(line for line in rows if printed in re.findall(r"-?[\d.]+", line[column]))
    values = re.findall(r"-?[\d.]+", line[-1])
    assert any(abs(float(value) - mine) <= 1.01 * half(value) for value in values)


@pytest.mark.reference
def test_the_page_beside_edsurvey_has_the_numbers_of_wemix_and_ours():
    import json

    import pmwmix

    if not SHARED.exists():
        pytest.skip("the shared folder is not beside the checkout")
    there = json.loads((SHARED / "reference" / "nzl_ri_A_pooled.json").read_text())["fixed"]
    fit = pmwmix.fit(
        "math ~ ST04Q01 + MATHEFF + PCGIRLS + (1 | SCHOOLID)", pd.read_csv(SHARED / "data" / "pisa2012_nzl.csv.gz"),
        pv={"math": [f"PV{k}MATH" for k in range(1, 6)]}, weights=["W_FSTUWT", "W_FSCHWT"], scaling="size",
        vcov="wemix", progress=False,
    )  # fmt: skip
    text = BESIDE.read_text(encoding="utf-8")
    for estimate, error, mine, own in zip(there["est"].values(), there["se"].values(), fit.coef, fit.se, strict=True):
        assert f"| {estimate:.4f} ({error:.4f}) | {mine:.4f} ({own:.4f}) |" in text
