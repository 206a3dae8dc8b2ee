"""Numbers from R and the literature; skipped, visibly, where the shared folder is not beside the checkout."""

import importlib
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from formulaic import model_matrix
from helpers import SHARED, close, hsb, sleepstudy

import pmwmix

PAGE = Path(__file__).parents[2] / "docs/programs.md"
TAGS = ("lmm", "wlmm", "pv", "crossed")
CASES = SHARED / "check" / "cases.json"
cases = json.loads(CASES.read_text())["cases"] if CASES.exists() else []
chosen = [case for case in cases if case["tag"] in TAGS or "satterthwaite" in case["id"]]


def reported(case, monkeypatch):
    """Run a case as the check does."""
    monkeypatch.syspath_prepend(str(SHARED / "check"))
    check = importlib.import_module("references")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return check.run_case(pmwmix, case, SHARED / "reference", SHARED / "data", cold=False)


@pytest.mark.reference
@pytest.mark.skipif(not chosen, reason="the shared folder is not beside the checkout")
@pytest.mark.parametrize("case", chosen or [None], ids=[case["id"] for case in chosen] or ["absent"])
def test_case(case, monkeypatch):
    report = reported(case, monkeypatch)
    assert report.status == "PASS", report.message


REGISTER = json.loads(Path(__file__).with_name("reference_register.json").read_text())
FAR = 5e-4  # of a number: what belongs into the register of docs/programs.md


@pytest.mark.reference
@pytest.mark.skipif(not cases, reason="the shared folder is not beside the checkout")
@pytest.mark.parametrize("name", REGISTER)
def test_registered_disagreements_with_r_are_all_and_still_there(name, monkeypatch):
    report = reported(next(case for case in cases if case["id"] == name), monkeypatch)
    numbers = {q.name: (q.expected, q.got) for q in report.quantities if isinstance(q.expected, int | float)}
    far = {key for key, (theirs, mine) in numbers.items() if abs(mine - theirs) > max(1e-6, FAR * abs(theirs))}
    assert far == set(REGISTER[name]["apart"])
    for key, pair in REGISTER[name]["apart"].items():
        close(numbers[key], pair, rtol=1e-5)
        assert f"{pair[0]:.6g} → {pair[1]:.6g}" in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.skipif(not cases, reason="the shared folder is not beside the checkout")
@pytest.mark.parametrize("case", [c for c in cases if c["id"] not in REGISTER], ids=lambda case: case["id"])
def test_no_other_number_is_far_from_rs(case, monkeypatch):
    """The register is whole: what differs by more than it says stands in it."""
    report = reported(case, monkeypatch)
    numbers = [q for q in report.quantities if isinstance(q.expected, int | float)]
    assert numbers or report.quantities
    assert not [q.name for q in numbers if abs(q.got - q.expected) > max(1e-6, FAR * abs(q.expected))]


def laplace(p, X, y, offset, group, family):
    """Log-likelihood of a random intercept by Laplace, each group's mode by 60 Newton steps; p = (sd, coefficients)."""
    u = np.zeros(group.max() + 1)
    for _ in range(60):
        eta = offset + X @ p[1:] + p[0] * u[group]
        mean = np.exp(eta) if family == "poisson" else 1 / (1 + np.exp(-eta))
        curved = mean if family == "poisson" else mean * (1 - mean)
        bend = 1 + np.bincount(group, curved * p[0] ** 2)
        u = u + (np.bincount(group, (y - mean) * p[0]) - u) / bend
    eta = offset + X @ p[1:] + p[0] * u[group]
    kernel = y * eta - (np.exp(eta) if family == "poisson" else np.logaddexp(0, eta))
    return kernel.sum() - 0.5 * (u @ u + np.log(bend).sum())


def hessian(f, p, step):
    """Second derivatives by central differences."""
    e = step * np.eye(len(p))
    return np.array([[f(p + a + b) - f(p + a - b) - f(p - a + b) + f(p - a - b) for a in e] for b in e]) / 4 / step**2


@pytest.mark.reference
@pytest.mark.skipif(not cases, reason="the shared folder is not beside the checkout")
@pytest.mark.parametrize(
    "name",
    [
        "cbpp_binomial_agq1_rows",
        "contra_logit_agq1",
        "owls_poisson_laplace",
        "pisa2000_logit_unweighted_agq1",
        "wt_owls_poisson_replicated_glmer",
    ],
)
def test_laplace_with_every_mode_at_its_maximum_gives_our_numbers(name, monkeypatch):
    """Why glmer differs: such a likelihood is flat at our estimates, not at glmer's, and its errors are ours."""
    monkeypatch.syspath_prepend(str(SHARED / "check"))
    prepare = importlib.import_module("prepare")
    case = next(case for case in cases if case["id"] == name)
    table = prepare.apply(prepare.read(case["data"], SHARED / "data"), case["prepare"], SHARED / "data")
    args = case["call"]["args"]
    fit = pmwmix.fit(data=table, **args)
    outcome, fixed, group = re.fullmatch(r"(\w+) ~ (.*) \+ \(1 \| (\w+)\)", args["formula"]).groups()
    offset = np.log(table["BroodSize"].to_numpy()) if "offset" in fixed else np.zeros(len(table))
    X = np.asarray(model_matrix(re.sub(r" \+ offset\(.*\)", "", fixed), table), dtype=float)
    scale = np.r_[1.0, np.abs(X).max(axis=0)]
    rows = X, table[outcome].to_numpy(dtype=float), offset, table.groupby(group).ngroup().to_numpy(), args["family"]
    at = np.r_[fit.varcorr["sdcor"][0], fit.coef]
    loglik = lambda p: laplace(p / scale, *rows)  # noqa: E731
    slopes = np.array([loglik(scale * at + e) - loglik(scale * at - e) for e in 1e-4 * np.eye(len(at))]) / 2e-4
    inverse = np.linalg.inv(-hessian(loglik, scale * at, 1e-3))
    close(fit.se, np.sqrt(np.diag(inverse))[1:] / scale[1:], rtol=2e-5)
    assert slopes @ inverse @ slopes < 1e-8


# Published tables that every user can check: the lecture on High School & Beyond (three printed digits) and lme4's
# sleepstudy example (Bates et al. 2015, table of section 5.2: REML criterion 1743.628).


@pytest.mark.parametrize(("method", "between", "within"), [("ml", 2.925, 6.257), ("reml", 2.935, 6.257)])
def test_hsb_random_intercept(method, between, within):
    fit = pmwmix.fit("mathach ~ 1 + (1 | school)", hsb(), method=method)
    assert round(fit.coef["Intercept"], 3) == 12.637
    assert round(fit.varcorr["sdcor"].iloc[0], 3) == between
    assert round(fit.sigma, 3) == within
    assert round(fit.icc, 3) == (0.180 if method == "reml" else 0.179)


@pytest.mark.parametrize(
    ("method", "errors", "sds"),
    [("ml", (0.244, 0.128), (2.936, 0.824)), ("reml", (0.245, 0.128), (2.946, 0.833))],
)
def test_hsb_random_coefficients(method, errors, sds):
    """The lecture prints 0.823 under ML (nlme's optimiser); lme4 and the exact optimum give 0.824 (0.8236)."""
    fit = pmwmix.fit("mathach ~ cses + (cses | school)", hsb(), method=method)
    assert (round(fit.coef["Intercept"], 3), round(fit.coef["cses"], 3)) == (12.636, 2.193)
    close(fit.se, errors, atol=6e-4)
    close(fit.varcorr["sdcor"].iloc[:2], sds, atol=1.1e-3)
    close(fit.sigma, 6.058, atol=6e-4)


def test_hsb_coefficients_as_outcomes():
    formula = "mathach ~ meanses + sector + cses + meanses:cses + I(meanses ** 2):cses + sector:cses + (1 | school)"
    fit = pmwmix.fit(formula, hsb(), method="reml")
    tidy = fit.tidy().set_index("term")
    printed = {
        "Intercept": (12.128, 0.199),
        "meanses": (5.337, 0.369),
        "sector[T.Catholic]": (1.225, 0.306),
        "cses": (3.140, 0.166),
        "meanses:cses": (0.755, 0.308),
        "I(meanses ** 2):cses": (-1.647, 0.575),
        "sector[T.Catholic]:cses": (-1.516, 0.237),
    }
    for term, (estimate, error) in printed.items():
        close(tidy.loc[term, "estimate"], estimate, atol=6e-4)
        close(tidy.loc[term, "std_error"], error, atol=6e-4)
    close(fit.varcorr["sdcor"].iloc[0], 1.541, atol=6e-4)
    close(fit.sigma, 6.060, atol=6e-4)


def test_sleepstudy_reml():
    """lme4: fm1 <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy); REMLcrit(fm1); VarCorr(fm1)."""
    fit = pmwmix.fit("Reaction ~ Days + (Days | Subject)", sleepstudy(), method="reml")
    close(fit.deviance, 1743.628, atol=6e-4)
    close(fit.coef, [251.405, 10.467], atol=6e-4)
    close(fit.se, [6.825, 1.546], atol=6e-4)
    close(fit.varcorr["sdcor"], [24.741, 5.922, 0.066, 25.592], atol=1.1e-3)
    close(fit.tidy()["df"], [17.0, 17.0], atol=2e-3)
