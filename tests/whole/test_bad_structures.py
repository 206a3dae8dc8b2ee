"""Bad input to what models structures: each ends in an error of the package that names the thing, in three sentences.

Kinds that have tests of their own are not repeated: residual structures (45, `test_residual_structures.py`), several
predictors (30, `test_several_predictors.py`), structured covariances (12, `test_structured.py`), multinomial outcomes
(12), thresholds (8), held variances (12), trimming (10).
"""

import re

import numpy as np
import pandas as pd
import pytest
from helpers import nested

import pmwmix
from pmwmix.errors import NotSupportedError, PmwmixError, PmwmixWarning
from pmwmix.fitting.effort import say_effort
from pmwmix.likelihood.engine import compiled
from pmwmix.likelihood.layout import ThetaLayout

LINEAR = "y ~ x + (1 | school)"
ORDINAL = {"family": "cumulative"}
INFLATED = {"family": "zero-inflated-poisson"}
WEIGHTED = {"weights": ["w1", None]}
ALONG = {"time": "t", "group": "classroom"}


@pytest.fixture(scope="module")
def table():
    d, rng = nested(), np.random.default_rng(0)
    n = len(d)
    return d.assign(
        count=rng.poisson(1.5, n),
        grade=pd.Categorical(rng.integers(1, 5, n), ordered=True),
        choice=rng.choice(list("abc"), n),
        f=rng.choice(["p", "q"], n),
        t=d.groupby("classroom").cumcount(),
        passed=(d["y"] > 12).astype(int),
        zero=0,
        missing=np.nan,
        only="only",
        positive=np.exp(rng.normal(size=n)),
        date=pd.date_range("2020", periods=n),
    )


BAD = {
    # thresholds
    "no column": (["grade ~ x", "thresholds ~ 0"], ORDINAL, "'thresholds' has no fixed column"),
    "offset": (["grade ~ x", "thresholds ~ offset(x)"], ORDINAL, "Only the mean has an offset"),
    "one category": (["grade ~ x", "thresholds ~ only"], ORDINAL, "Column 'only' has only 'only'"),
    "all missing": (["grade ~ x", "thresholds ~ missing"], ORDINAL, r"'missing \(161\)'"),
    "outcome": (["grade ~ x", "thresholds ~ grade"], ORDINAL, "'grade' stands on both sides"),
    "two grades": (["passed ~ x", "thresholds ~ f"], ORDINAL, "three or more categories. 'passed' has 2"),
    "REML of grades": (["grade ~ x", "thresholds ~ f"], {**ORDINAL, "method": "reml"}, "method='reml'"),
    "CR2 of grades": (["grade ~ x + (1 | school)", "thresholds ~ f"], {**ORDINAL, "vcov": "CR2"}, "vcov='CR2'"),
    "label": (["grade ~ x + (1 | p | school)", "thresholds ~ f"], ORDINAL, "no other of 'school' has its label 'p'"),
    "no such column": (["grade ~ x", "thresholds ~ ff"], ORDINAL, "'ff'"),
    "unordered": (["choice ~ x", "thresholds ~ f"], ORDINAL, "categories without an order"),
    # parameters
    "zeros alone": (["zero ~ x", "zi ~ f"], INFLATED, "cannot be fitted to zeros alone"),
    "no counts": (["positive ~ x", "zi ~ f"], INFLATED, "needs counts.*'positive'"),
    "sigma of dates": (["y ~ x", "sigma ~ date"], {}, "Dates cannot be modelled.*'date'"),
    "sigma of nothing": (["y ~ x", "sigma ~ missing"], {}, "No row is left"),
    "theta of Poisson": (["count ~ x", "theta ~ f"], {"family": "poisson"}, "'theta' is none"),
    "zi of Gauss": (["y ~ x", "zi ~ f"], {}, "'zi' is none.*sigma"),
    "nested list": ([["y ~ x"], "sigma ~ x"], {}, "holds texts. Found: list"),
    "bytes": ([b"y ~ x", "sigma ~ x"], {}, "holds texts. Found: bytes"),
    "formula as dict": ({"y": "x"}, {}, "not text. Found: dict"),
    "no formula": (None, {}, "not text. Found: NoneType"),
    # families
    "number": (LINEAR, {"family": 3}, "family is a text. Got int 3"),
    "list": (LINEAR, {"family": ["gaussian"]}, "belongs to several formulas. Got family=\\[.gaussian.\\]"),
    "misspelt": (LINEAR, {"family": "zero-inflated-poison"}, "Did you mean 'zero-inflated-poisson'"),
    "negative count": ("x ~ 1", {"family": "hurdle-poisson"}, "Correct the negative values"),
    "no trials": ("positive ~ x", {"family": "beta-binomial"}, "'positive' has the value"),
    "zero of truncated": ("count ~ x", {"family": "truncated-poisson"}, "counts from 1 on"),
    "zero of lognormal": ("zero ~ x", {"family": "lognormal"}, "must be positive"),
    "measured choice": ("y ~ x", {"family": "multinomial"}, "needs categories. 'y' has the value"),
    "single choice": ("only ~ x", {"family": "multinomial"}, "does not vary. 'only'"),
    "nodes": ("choice ~ x + (1 | school)", {"family": "multinomial", "n_agq": [0]}, "from 1 to 200"),
    # residuals
    "list of residuals": (LINEAR, {"residual": ["ar1"]}, "is a dict"),
    "numbered": (LINEAR, {"residual": {**ALONG, "correlation": 1}}, "Unknown residual correlation 1"),
    "date": (LINEAR, {"residual": {**ALONG, "correlation": "car1", "time": "date"}}, "Dates cannot be modelled"),
    "missing time": (LINEAR, {"residual": {**ALONG, "correlation": "ar1", "time": "missing"}}, "No row is left"),
    "absent time": (LINEAR, {"residual": {**ALONG, "correlation": "ar1", "time": "when"}}, "'when'"),
    "variances": (LINEAR, {"residual": {"variance": ["ident(f)"]}}, r"variance=\['ident\(f\)'\]"),
    "crossed": (f"{LINEAR} + (1 | t)", {"residual": {**ALONG, "correlation": "ar1"}}, "needs nested groups"),
    # covariances
    "cs of one": ("y ~ cs(1 | school)", {}, "a single one, 'Intercept'"),
    "ar1 of a constant": ("y ~ ar1(0 + only | school)", {}, "A factor needs two categories"),
    "ar1 of one": ("y ~ ar1(1 | school)", {}, "'ar1' is about correlations"),
    # held variances
    "list of variances": (LINEAR, {"fixed": ["Residual"]}, "dict of variances"),
    "flag": (LINEAR, {"fixed": {"Residual": True}}, "Got True for 'Residual'"),
    "endless": (LINEAR, {"fixed": {"Residual": np.inf}}, "Got inf"),
    "complex": (LINEAR, {"fixed": {"Residual": 1j}}, "Got 1j"),
    "array": (LINEAR, {"fixed": {"Residual": np.ones(2)}}, "finite number above 0"),
    "tiny": (LINEAR, {"fixed": {"Residual": 1e-300}}, "far outside the scale.*Got 1e-300"),
    "huge": (LINEAR, {"fixed": {"school.Intercept": 1e300}}, "far outside the scale.*Got 1e\\+300"),
    "no group": ("passed ~ x", {"family": "binomial", "fixed": {"school.Intercept": 1}}, "The model has none"),
    "no residual": (
        "passed ~ x + (1 | school)",
        {"family": "binomial", "fixed": {"Residual": 1}},
        "no variance 'Residual'",
    ),
    "of choices": (
        "choice ~ x + (1 | school)",
        {"family": "multinomial", "fixed": {"school.b.Intercept": 1.0}},
        "correlated effects are not held",
    ),
    "in pairs": (LINEAR, {"fixed": {"Residual": 1.0}, "method": "pairwise"}, "pairwise likelihood"),
    "of a misspelt group": (LINEAR, {"fixed": {"shool.Intercept": 1.0}}, "Did you mean 'school.Intercept'"),
    # weights
    "trimmed at text": (LINEAR, {**WEIGHTED, "trim": "3"}, "Got trim='3'"),
    "at infinity": (LINEAR, {**WEIGHTED, "trim": np.inf}, "Got trim=inf"),
    "at nothing": (LINEAR, {**WEIGHTED, "trim": float("nan")}, "Got trim=nan"),
    "at one": (LINEAR, {**WEIGHTED, "trim": 1.0}, "Got trim=1.0"),
    "where there are none": (LINEAR, {**WEIGHTED, "trim": {"school": 2.0}}, "Got 'school' in trim"),
    "top by number": (LINEAR, {**WEIGHTED, "weights_top": 1}, "weights_top=1"),
    "top by list": (LINEAR, {**WEIGHTED, "weights_top": ["sum"]}, r"weights_top=\['sum'\]"),
    "top of pairs": (
        LINEAR,
        {**WEIGHTED, "weights_top": "sum", "method": "pairwise"},
        "Got weights_top='sum' with method",
    ),
}


def test_there_are_sixty():
    assert len(BAD) >= 60


@pytest.mark.parametrize("kind", BAD)
def test_message(table, kind):
    formula, options, said = BAD[kind]
    with pytest.raises(PmwmixError, match=f"(?s){said}") as caught:
        pmwmix.fit(formula, table, **options)
    assert len(re.findall(r"[.?] \S", str(caught.value))) >= 2, "three sentences"


def test_thresholds_of_every_class_are_told_as_separation(table):
    some = table[table["classroom"].isin(table["classroom"].value_counts().index[:10])]
    fit = pmwmix.fit(["grade ~ x", "thresholds ~ C(classroom)"], some, **ORDINAL)
    assert not fit.converged and "No maximum exists" in fit.status


def test_dozens_of_effects_are_told_before_the_climb():
    """60 correlated effects ended in words after 80 seconds; now before the first derivative."""
    many = pd.DataFrame({"g": np.repeat(np.arange(30), 120), "f": np.tile(np.arange(60), 60).astype(str)})
    many["y"] = np.random.default_rng(1).normal(size=len(many))
    said = r"60 correlated random effects in 30 groups, and so 1,830 variances.*predicted to take about \d+ \w+.*diag"
    for more in ({}, {"family": "student", "n_agq": 1}):
        with pytest.raises(NotSupportedError, match=said):
            pmwmix.fit("y ~ 1 + (0 + f | g)", many, **more)
    layout = ThetaLayout(((16,),))
    with pytest.warns(PmwmixWarning, match="16 correlated random effects in 500 groups, and so 136 .* 2 minutes"):
        say_effort(layout, [500], "auto")
    say_effort(ThetaLayout(((6,),)), [500], "auto")


def test_graphs_that_nest_too_deeply_are_told():
    def write(structure):
        raise RecursionError

    with pytest.raises(NotSupportedError, match="too many random effects for compiled code"):
        compiled(write, "forty effects", "python")
