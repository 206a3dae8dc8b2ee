"""Messages that must lead the right way: what is missing and where, sets of plausible values, conditions."""

import numpy as np
import pandas as pd
import pytest

import pmwmix
from pmwmix.errors import DataError, FormulaError, MissingColumnsError
from pmwmix.spec.formula import parse


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(1)
    n = 200
    d = pd.DataFrame({"x": rng.normal(size=n), "f": rng.choice(list("abc"), n), "g": np.repeat(np.arange(20), 10)})
    for k in range(1, 11):
        d[f"PV{k}MATH"] = d["x"] + rng.normal(size=20)[d["g"]] + rng.normal(size=n)
    for k in range(1, 6):
        d[f"BSMMAT0{k}"] = d[f"PV{k}MATH"]
    for k in range(1, 81):
        d[f"W_FSTR{k}"] = 1.0
    return d.assign(W_FSTUWT=1.5, y=d["PV1MATH"])


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("math", r"'PV1MATH' to 'PV10MATH' are a set .*pv=\{'math': 'PV\{\}MATH'\} and math in the formula"),
        ("PVMATH", r"pv=\{'PVMATH': 'PV\{\}MATH'\}"),
        ("PV11MATH", r"'PV1MATH' to 'PV10MATH' .*pv=\{'score': 'PV\{\}MATH'\}"),
        ("BSMMAT", r"'BSMMAT01' to 'BSMMAT05' .*pv=\{'BSMMAT': 'BSMMAT\{\}'\}"),
    ],
)
def test_a_missing_set_is_named_not_one_of_its_columns(table, outcome, said):
    with pytest.raises(MissingColumnsError, match=said) as error:
        pmwmix.fit(f"{outcome} ~ x + (1 | g)", table)
    assert "Did you mean" not in str(error.value)
    called = outcome if outcome.isalpha() else "score"
    template = "BSMMAT{}" if outcome == "BSMMAT" else "PV{}MATH"
    assert pmwmix.fit(f"{called} ~ x + (1 | g)", table, pv={called: template}).n_pv in (5, 10)


def test_replicates_are_no_hint_for_a_weight(table):
    with pytest.raises(MissingColumnsError) as error:
        pmwmix.fit("y ~ x + (1 | g)", table, weights=["W_FSTWT"])
    assert "W_FSTR" not in str(error.value).split("Check the spelling")[0]


@pytest.mark.parametrize(
    ("formula", "given", "where"),
    [
        ("y ~ q + (1 | g)", {}, "formula"),
        ("y ~ x + (1 | g)", {"weights": ["wt"]}, "weights"),
        ("y ~ x + (1 | g)", {"design": {"strata": "zone"}}, "strata"),
        ("y ~ x + (1 | g)", {"design": {"psu": "unit"}}, "psu"),
        ("y ~ x + (1 | g)", {"weights": ["wt"], "design": {"strata": "zone"}}, "weights, strata"),
        ("y ~ q + (1 | g)", {"weights": ["wt"]}, "formula, weights"),
    ],
)
def test_the_argument_at_fault_alone_is_blamed(table, formula, given, where):
    with pytest.raises(MissingColumnsError, match=rf"Missing \({where}\)"):
        pmwmix.fit(formula, table, **given)


@pytest.mark.parametrize("which", ["one", "all"])
def test_plausible_values_of_text_are_named_by_their_columns(table, which):
    wrong = ["PV3MATH"] if which == "one" else [f"PV{k}MATH" for k in range(1, 11)]
    d = table.assign(**{name: table[name].round(1).astype(str) + "?" for name in wrong})
    with pytest.raises(DataError, match=rf"'math' {wrong[0]!r}.*hold.* text such as"):
        pmwmix.fit("math ~ x + (1 | g)", d, pv={"math": "PV{}MATH"})


@pytest.mark.parametrize(
    ("right", "cure"),
    [
        ("(x > 0)", r"Found: x > 0 in .*I\(x > 0\)"),
        ("x + (f == 'b')", r"I\(f == 'b'\)"),
        ("x * (x >= 0 )", r"I\(x >= 0\)"),
        ("x != 1", r"I\(x != 1\)"),
        ("x + (class == 'b')", r"Rename the column 'class', which is a Python word"),
        ("C(class)", r"name of a Python word\. Found: 'class' in C\(class\)\. Rename"),
        ("I(lambda > 2)", r"'lambda' in I\(lambda > 2\)\. Rename|Found in: "),
        ("log(from)", r"'from' in log\(from\)"),
    ],
)
def test_conditions_and_python_words_have_a_cure(right, cure):
    with pytest.raises(FormulaError, match=cure):
        parse(f"y ~ {right} + (1 | g)")


def test_comparisons_inside_calls_stay():
    for right in ("I(x > 0)", "where(x > 0, 1, 0)", "{x > 0}", "`a > b`", "C(f, levels=['a < b', 'c'])"):
        parse(f"y ~ {right} + (1 | g)")
    parse("(y > 3) ~ x + (1 | g)")


@pytest.mark.parametrize(
    ("nested", "written"),
    [
        ("x %in% f", "x:f"),
        ("x%in%f + z", "x:f + z"),
        ("x + x %in% f", "x + x:f"),
        ("(x + z) %in% f", "(x + z):f"),
        ("1 + `a %in% b`", "1 + `a %in% b`"),
    ],
)
def test_in_is_the_interaction_that_it_is_in_r(nested, written):
    one, other = (parse(f"y ~ {right} + (1 | g)") for right in (nested, written))
    assert one.fixed == other.fixed and one.fixed_variables == other.fixed_variables
