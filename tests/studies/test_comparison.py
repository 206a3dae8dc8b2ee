"""Fits side by side: every number is that of its fit, and what cannot be compared is refused."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested, outcomes, survey
from scipy import stats

import pmwmix
from pmwmix.studies.comparison import compared, default_names

THREE_SENTENCES = r"(?s)^.+?[.?:] .+?[.?] .+\.$"
NUMBERS = ["estimate", "std_error", "ci_low", "ci_high"]


def fit_survey(**options):
    s = survey()
    return pmwmix.fit(
        "math ~ escs + female + (1 + escs | SCHOOLID)", s.data, pv=s.pv, **options
    )  # fmt: skip


@pytest.fixture(scope="module")
def weighted():
    return fit_survey(weights=survey().weights, scaling="size")


@pytest.fixture(scope="module")
def unweighted():
    return fit_survey()


@pytest.fixture(scope="module")
def logistic():
    return pmwmix.fit("z ~ x + (1 | school)", outcomes(), family="binomial", n_agq=3)


# -- the table --------------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_fits(weighted, unweighted):
    table = pmwmix.compare([weighted, unweighted], ci_prob=0.8)
    assert list(table.columns.get_level_values(0).unique()) == ["ml", "ml (unweighted)"]
    assert list(table.index) == [
        *weighted.coef.index,
        *("sd(SCHOOLID.Intercept)", "sd(SCHOOLID.escs)", "cor(SCHOOLID.Intercept.escs)", "sigma"),
    ]
    for name, fit in (("ml", weighted), ("ml (unweighted)", unweighted)):
        fixed, random = fit.tidy(0.8), fit.confint_varcorr(0.8)
        close(table[name][NUMBERS].iloc[:3], fixed[NUMBERS])
        close(table[name][NUMBERS].iloc[3:], random[["estimate", "se", "ci_low", "ci_high"]])
    assert table.index.name == "term"
    assert table.attrs["notes"] == []


def test_mass_points_have_intervals_of_either_sign_and_within_0_and_1():
    fit = pmwmix.fit("y ~ x + (1 | school)", outcomes(), random="discrete(2)")
    table = pmwmix.compare([fit, fit])["ml 1"]
    for name, (estimate, se) in fit.family_parameters[["estimate", "se"]].iterrows():
        low, high = table.loc[name, ["ci_low", "ci_high"]]
        if "location" in name:
            close([low, high], estimate + np.array([-1, 1]) * stats.norm.ppf(0.975) * se, 1e-8)
        if "probability" in name:  # the other class has the mirrored interval
            other = table.loc[f"school.probability{3 - int(name[-1])}"]
            assert 0 < low < estimate < high < 1
            close([low, high], [1 - other["ci_high"], 1 - other["ci_low"]], 1e-8)


def test_terms_and_names(weighted, unweighted):
    table = pmwmix.compare({"with": weighted, "without": unweighted}, terms=["sigma", "escs"])
    assert list(table.index) == ["sigma", "escs"]
    assert list(table.columns.levels[0]) == ["with", "without"]
    assert list(pmwmix.compare(weighted, varcorr=False).index) == list(weighted.coef.index)
    assert pmwmix.compare([weighted], names=["a"]).columns[0] == ("a", "estimate")


def test_what_a_fit_lacks_is_missing_and_said(unweighted):
    s = survey()
    small = pmwmix.fit("math ~ female + (1 | SCHOOLID)", s.data.iloc[:-20], pv=s.pv)
    table = pmwmix.compare([small, unweighted])
    assert list(table.index[:3]) == ["Intercept", "escs", "female"]  # where the second fit has it
    assert table["ml 1"].loc[["escs", "sd(SCHOOLID.escs)"]].isna().all(axis=None)
    assert table["ml 2"]["estimate"].notna().all()
    notes = " ".join(table.attrs["notes"])
    assert "different formulas" in notes
    assert f"ml 1: {small.nobs}, ml 2: {unweighted.nobs}" in notes


def test_other_outcomes_are_said():
    d = nested().assign(z=lambda t: t["y"] ** 2)
    fits = [pmwmix.fit(f"{y} ~ x + (1 | school)", d) for y in ("y", "z")]
    assert "different outcomes (ml 1: y; ml 2: z)" in " ".join(pmwmix.compare(fits).attrs["notes"])


def test_groups_side_by_side():
    fits = pmwmix.fit_groups("y ~ x + (1 | classroom)", nested().assign(c=lambda t: t["school"] % 2), by="c")
    table = pmwmix.compare(fits)
    assert list(table.columns.get_level_values(0).unique()) == ["0", "1"]
    close(table[("1", "estimate")].iloc[:2], fits[1].coef)


def stub(method="ml", weighted=True, scaling="none", vcov="robust"):
    return SimpleNamespace(method=method, settings=SimpleNamespace(weighted=weighted, scaling=scaling, vcov=vcov))


@pytest.mark.parametrize(
    ("fits", "names"),
    [
        ([stub(), stub("bayes")], ["ml", "bayes"]),
        ([stub(), stub("bayes"), stub(weighted=False)], ["ml", "bayes", "ml (unweighted)"]),
        ([stub(scaling="size"), stub(scaling="effective")], ["ml, size", "ml, effective"]),
        ([stub(), stub(vcov="model")], ["ml, robust", "ml, model"]),
        ([stub(), stub()], ["ml 1", "ml 2"]),
        ([stub(weighted=False), stub("bayes", weighted=False)], ["ml", "bayes"]),
    ],
)
def test_names_say_what_differs(fits, names):
    assert default_names(fits) == names


def test_family_parameters_follow():
    d = outcomes()
    fit = pmwmix.fit("visits ~ x + (1 | school)", d, family="negbinomial", n_agq=3)
    row = pmwmix.compare([fit])["ml"].iloc[-1]
    estimate, se = fit.family_parameters.iloc[0]
    ends = np.exp(np.log(estimate) + np.array([-1, 1]) * 1.959963985 * se / estimate)  # delta method on the log
    close(row[NUMBERS], [estimate, se, *ends], rtol=1e-7)  # digits of the quantile


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "offender"),
    [
        (lambda a, b: ([],), "empty"),
        (lambda a, b: ([a, 3],), "'int'"),
        (lambda a, b: (a.coef,), "'Series'"),
        (lambda a, b: ([a, b], {"names": ["one"]}), "'one'"),
        (lambda a, b: ([a, b], {"names": ["x", "x"]}), "'x'"),
        (lambda a, b: ([a, b], {"terms": "ecsc"}), "escs"),
        (lambda a, b: ([a, b], {"terms": []}), "empty"),
        (lambda a, b: ([a, b], {"ci_prob": 95}), "95"),
    ],
)
def test_refusals(weighted, unweighted, arguments, offender):
    fits, *options = arguments(weighted, unweighted)
    with pytest.raises(pmwmix.PmwmixError, match=THREE_SENTENCES) as caught:
        pmwmix.compare(fits, **(options[0] if options else {}))
    assert offender in str(caught.value)


def test_other_families_are_refused(unweighted, logistic):
    with pytest.raises(pmwmix.PmwmixError, match="family='binomial', link='logit'"):
        pmwmix.compare([unweighted, logistic])


# -- quadrature -------------------------------------------------------------------------------------------------------


def test_quadrature_check_fits_again(logistic):
    table = pmwmix.quadrature_check(logistic, nodes=(7, 1))
    assert list(table["n_agq"].unique()) == [1, 7]
    fine = pmwmix.fit("z ~ x + (1 | school)", outcomes(), family="binomial", n_agq=7)
    coarse = pmwmix.fit("z ~ x + (1 | school)", outcomes(), family="binomial", n_agq=1)
    one, seven = (table[table["n_agq"] == n] for n in (1, 7))
    close(seven["estimate"].iloc[:2], fine.coef, rtol=1e-5)  # optimisers stop at 1e-6 of a standard error
    close(one["loglik"].iloc[0], coarse.loglik)
    close(one["shift"].iloc[:2], (coarse.coef - fine.coef) / fine.se, rtol=1e-3, atol=1e-5)
    assert (seven["shift"] == 0).all()
    last = compared(fine)["estimate"].to_numpy()[-1]
    close(seven["estimate"].iloc[-1], last, rtol=1e-5)


@pytest.mark.parametrize("nodes", [(3,), (3, 3), (0, 3), (1.5, 3), "ab", 7, (True, 3)])
def test_quadrature_check_wants_numbers_of_nodes(logistic, nodes):
    with pytest.raises(pmwmix.PmwmixError, match=THREE_SENTENCES):
        pmwmix.quadrature_check(logistic, nodes=nodes)


def test_quadrature_check_wants_quadrature(unweighted):
    for fit in (unweighted, SimpleNamespace(idata={})):
        with pytest.raises(pmwmix.PmwmixError, match=THREE_SENTENCES):
            pmwmix.quadrature_check(fit)


def test_loaded_fits_compare(weighted, tmp_path):
    again = pmwmix.load(weighted.save(tmp_path / "fit.pmw"))
    pd.testing.assert_frame_equal(pmwmix.compare([again]), pmwmix.compare([weighted]), check_exact=False)
