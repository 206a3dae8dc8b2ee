import builtins

import numpy as np
import pandas as pd
import pytest
from formulaic import Formula

from pmwmix.errors import FormulaError
from pmwmix.spec.formula import parse
from pmwmix.spec.whitelist import context

FIXED = [
    ("y ~ 1", "1", ()),
    ("y ~ x", "1 + x", ("x",)),
    ("y ~ (1|g)", "1", ()),
    ("y ~ 0 + (1|g)", "0", ()),
    ("y ~ 0 + x + (1|g)", "0 + x", ("x",)),
    ("y ~ (1|g) - 1 + x", "0 + x", ("x",)),
    ("y ~ x + (1|g) + z", "1 + x + z", ("x", "z")),
    ("y ~ x + (1|g) - x + z", "1 + z", ("z",)),
    ("y~a*b", "1 + a + b + a:b", ("a", "b")),
    ("y ~ (a + b)^2", "1 + a + a:b + b", ("a", "b")),
    ("y ~ I(x^2)", "1 + I(x ** 2)", ("x",)),
    ("y ~ {x + 1}:b", "1 + {x + 1}:b", ("x", "b")),
    ("y ~ log(`my var`) + `my var`", "1 + log(`my var`) + `my var`", ("my var",)),
    ("y ~ `a~b|c(`", "1 + `a~b|c(`", ("a~b|c(",)),
    ("y ~ größe + school.size", "1 + größe + school.size", ("größe", "school.size")),
    ('y ~ C(x, Treatment("b~|"))', "1 + C(x, Treatment('b~|'))", ("x",)),
    ('y ~ C(x, contr.treatment("b"))', "1 + C(x, contr.treatment('b'))", ("x",)),
    ("y ~ np.sin(x * np.pi)", "1 + np.sin(x * np.pi)", ("x",)),
    ("y ~ I((x > 1) | (z == 'b'))", "1 + I((x > 1) | (z == 'b'))", ("x", "z")),
    ("y ~ bs(x, knots=[1, 2]) + standardize(z)", "1 + bs(x, knots=[1, 2]) + standardize(z)", ("x", "z")),
]

RANDOM = [  # formula, (text, group, factors, variables, above) of each term
    ("(1|g)", [("(1 | g)", "g", ("g",), (), None)]),
    ("(x|g)", [("(1 + x | g)", "g", ("g",), ("x",), None)]),
    ("(1+x|g)", [("(1 + x | g)", "g", ("g",), ("x",), None)]),
    ("(0+x|g)", [("(0 + x | g)", "g", ("g",), ("x",), None)]),
    ("(-1+x|g)", [("(0 + x | g)", "g", ("g",), ("x",), None)]),
    ("(x-1|g)", [("(0 + x | g)", "g", ("g",), ("x",), None)]),
    ("(x||g)", [("(1 | g)", "g", ("g",), (), None), ("(0 + x | g)", "g", ("g",), ("x",), None)]),
    ("(0 + x || g)", [("(0 + x | g)", "g", ("g",), ("x",), None)]),
    ("(1|g) + (0+x|g)", [("(1 | g)", "g", ("g",), (), None), ("(0 + x | g)", "g", ("g",), ("x",), None)]),
    ("(1|a:b)", [("(1 | a:b)", "a:b", ("a", "b"), (), None)]),
    ("(1|a/b)", [("(1 | b:a)", "b:a", ("b", "a"), (), "a"), ("(1 | a)", "a", ("a",), (), None)]),
    (
        "(1|a/b/c)",
        [
            ("(1 | c:b:a)", "c:b:a", ("c", "b", "a"), (), "b:a"),
            ("(1 | b:a)", "b:a", ("b", "a"), (), "a"),
            ("(1 | a)", "a", ("a",), (), None),
        ],
    ),
    (
        "(x||a/b)",
        [
            ("(1 | b:a)", "b:a", ("b", "a"), (), "a"),
            ("(1 | a)", "a", ("a",), (), None),
            ("(0 + x | b:a)", "b:a", ("b", "a"), ("x",), "a"),
            ("(0 + x | a)", "a", ("a",), ("x",), None),
        ],
    ),
    ("(f*z|g)", [("(1 + f + z + f:z | g)", "g", ("g",), ("f", "z"), None)]),
    ("(log(`my x`)|`my school`)", [("(1 + log(`my x`) | `my school`)", "my school", ("my school",), ("my x",), None)]),
    ("(I(x^2)|schüler)", [("(1 + I(x ** 2) | schüler)", "schüler", ("schüler",), ("x",), None)]),
]

RESPONSE = [
    ("y", "y", ("y",)),
    ("`my y`", "my y", ("my y",)),
    ("score.1", "score.1", ("score.1",)),
    ("log(y)", "log(y)", ("y",)),
    ("log(`my y`)", "log(`my y`)", ("my y",)),
    ("(math >= 482)", "(math >= 482)", ("math",)),
    ("I(a^2)", "I(a**2)", ("a",)),
    ("(a + b) / 2", "(a + b) / 2", ("a", "b")),
    ("1e+3 * a + 1", "1e+3 * a + 1", ("a",)),
]

EVIL = [
    "__import__('os').system('x')",
    "I(__import__('os'))",
    "open('x')",
    "{open('x')}",
    "I(open('x'))",
    "open('x').read(y)",
    "I(x.__class__)",
    "I(().__class__.__bases__[0])",
    "np.savetxt('f', x)",
    "np.load('f')",
    "np.lib.npyio.load('f')",
    "np.fromfile(x)",
    "numpy.os.system('x')",
    "contr.mro()",
    "I((lambda: 1)())",
    "{lambda: 1}",
    "I(f'{open(1)}')",
    "x[0]",
    "{[open(i) for i in x]}",
    "{(z := x)}",
    "{x if x else z}",
    "I(*x)",
    "scale(x, **z)",
    "scale(x, _context=z)",
    "scale(x, center=open('x'))",
    "np.sqrt(x, out=z)",
    "np.sqrt(x, z)",
    "clip(x, 0, 1, z)",
    "eval('1')",
    "exec('1')",
    "getattr(x, 'y')",
    "I(x)(1)",
    "`open`('x')",
    "I(`open`('x'))",
    "{`lambda`: x}",
    "I(9**9**9)",
    "I(I(9)**I(9)**I(9)*x)",
    "I('a' * 999999999)",
    "I(I([x]) * 999999999)",
    "I(([x] or x) * 999999999)",
    "I(b'x')",
    "I(1j)",
    "I(...)",
    "{await x}",
    "{(yield x)}",
    "I(__FORMULAIC_STATE__)",
    # formulaic pastes the text of stateful calls into code that it compiles
    "poly(x, 'a\"+exec(z)#')",
    'C(x, Treatment("\'+exec(z)#"))',
    "poly(x, 'a\\x22+exec(z)#')",
    "ｏｐｅｎ('x')",
    "lag(x)",
    "hashed(x)",
    "Q(open('x'))",
    "I(" + "+".join(["x"] * 5000) + ")",
    "(" * 60 + "x" + ")" * 60,
    "I(" * 60 + "x" + ")" * 60,
]


@pytest.mark.parametrize(("text", "fixed", "variables"), FIXED)
def test_fixed_part(text, fixed, variables):
    formula = parse(text)
    assert (formula.fixed, formula.fixed_variables) == (fixed, variables)
    assert formula.has_intercept == fixed.startswith("1")
    assert parse(f"y ~ {fixed}").fixed == fixed


@pytest.mark.parametrize(("text", "expected"), RANDOM)
def test_random_terms(text, expected):
    terms = parse(f"y ~ x + {text}").random
    assert [(t.text, t.group, t.factors, t.variables, t.above) for t in terms] == expected
    assert all(t.text.startswith(f"({t.expr} | ") for t in terms)


@pytest.mark.parametrize(("left", "response", "variables"), RESPONSE)
def test_response(left, response, variables):
    formula = parse(f"{left} ~ x + (1|g)")
    assert (formula.response, formula.response_variables) == (response, variables)


def test_variables_come_once_and_in_order():
    formula = parse("log(y) ~ b*a + scale(`my x`) + (a + z | g/h) + (1 | `my k`)")
    assert formula.variables == ("y", "b", "a", "my x", "z", "h", "g", "my k")


@pytest.mark.parametrize("piece", EVIL)
@pytest.mark.parametrize("place", ["y ~ {}", "y ~ x + ({}|g)", "{} ~ x", "y ~ x + (1|{})", "y ~ log({})"])
def test_code_is_refused_and_does_not_run(piece, place, monkeypatch):
    ran = []
    for module, name in [(builtins, "eval"), (builtins, "exec"), (np, "savetxt"), (np, "load"), (np, "fromfile")]:
        monkeypatch.setattr(module, name, lambda *args, name=name, **kwargs: ran.append(name))
    with pytest.raises(FormulaError):
        parse(place.replace("{}", piece))
    assert ran == []


@pytest.mark.parametrize("piece", ["(a+b+c)^99999999", "*".join(f"x{i}" for i in range(40)), "(a+b+c+d+e+f)^9"])
@pytest.mark.parametrize("place", ["y ~ {}", "y ~ x + ({}|g)"])
def test_expansion_is_bounded(piece, place):
    with pytest.raises(FormulaError, match="too many terms"):
        parse(place.replace("{}", piece))


def test_nothing_is_evaluated_for_a_legal_formula(monkeypatch):
    monkeypatch.setattr(builtins, "eval", lambda *args: pytest.fail("eval was called"))
    assert parse("log(y) ~ poly(x, 2) + (scale(z) | g)").variables == ("y", "x", "z", "g")


MESSAGES = [
    (3, "not text.*int"),
    ("", "one '~'.*0 in"),
    ("y + x", "one '~'.*0 in"),
    ("y ~ x ~ z", "one '~'.*2 in"),
    ("y ~ ", "nothing right"),
    (" ~ x", "names no outcome"),
    ("1 ~ x", "not one outcome.*1"),
    ("a + log(`my b`) ~ x", r"Several outcomes.*I\(a \+ log"),
    ("((a + b)) ~ x", r"Several outcomes.*I\(a \+ b"),
    ("y ~ x*z + `x:z`", r"name of an interaction beside it\. Found: `x:z`"),
    ("y ~ (x + z + f)^2 + `z:x`", r"Found: `z:x`"),
    ("y ~ as.factor(f)", r"function of R\. Found: as\.factor\(\).*Write C\(x\)"),
    ("y ~ x + relevel(f, ref='b')", r"calls 'relevel'.*Treatment"),
    ("y ~ is.na(x)", r"is\.na\(\)"),
    ("y ~ C(`class`)", r"Python word\. Found: `class`"),
    ("a, b ~ x", r"Tuple '\(a, b\)'.*Found in: a, b"),
    ("y ~ (x", "not closed"),
    ("y ~ x)", "not opened"),
    ("y ~ (x]", "not opened"),
    ("y ~ `x", "unclosed quote or backtick"),
    ("y ~ C(x, Treatment('b))", "unclosed quote"),
    ("y ~ `` + x", "empty"),
    ("y ~ `a'b` + x", "holds a quote.*a'b"),
    ("y ~ x | g", "outside parentheses.*x | g"),
    ("y ~ ((1 | g))", "inside other brackets"),
    ("y ~ (|g)", r"empty side.*\(\|g\)"),
    ("y ~ (1|)", r"empty side.*\(1\|\)"),
    ("y ~ (0|g)", r"no effect.*\(0\|g\)"),
    ("y ~ (1|g|h)", "more than one bar"),
    ("y ~ (1|2)", "must be a column.*'2'"),
    ("y ~ (1|log(g))", r"must be a column.*'log\(g\)'"),
    ("y ~ (1|a+b)", r"must be a column.*'a\+b'"),
    ("y ~ (1|a/a)", "twice.*'a/a'"),
    ("y ~ (1|g) + (1|g)", "same effect '1' of group 'g'"),
    ("y ~ (1|g) + (x|g)", "same effect '1' of group 'g'"),
    ("y ~ (x||g) + (0+x|g)", "same effect 'x' of group 'g'"),
    ("y ~ (1|a:b) + (1|b:a)", "same effect"),
    ("y ~ .", r"'\.' for all columns"),
    ("y ~ x - (1|g)", r"not joined by '\+'.*\(1\|g\)"),
    ("y ~ (1|g)*x", r"not joined by '\+'.*\(1\|g\)"),
    ("y ~ x:(1|g)", r"not joined by '\+'.*\(1\|g\)"),
    ("y ~ log((1|g))", r"bar or ampersand.*a random term stands alone"),
    ("y ~ log((x|g))", r"joins 'x \| g'"),
    ("y ~ x +", "cannot be read"),
    ("y ~ x z", "Missing operator between"),
    ("y ~ x %foo% z", "cannot be read"),
    ("y ~ x + 3", "Numeric literals"),
    ("y ~ 'a'", "String literals"),
    ("y ~ log(x", "not closed"),
    ("y ~ log(x,,)", r"cannot be read.*log\(x,,\)"),
    ("y ~ open('x')", r"calls 'open', which is not allowed. Found in: open\('x'\). Use one of: .*'bs'"),
    ("y ~ scal(x)", "Did you mean 'scale'"),
    ("y ~ lag(x)", "calls 'lag'.*no order"),
    ("y ~ hashed(x)", "calls 'hashed'.*hides"),
    ('y ~ Q("x")', "calls 'Q'.*backticks"),
    ("y ~ log(school.size)", "attribute 'school.size'.*backticks"),
    ("y ~ x" + " + x" * 9000, "too long"),
]


@pytest.mark.parametrize(("text", "message"), MESSAGES)
def test_messages_name_the_piece(text, message):
    with pytest.raises(FormulaError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "offset", "rest"),
    [
        ("y ~ x + offset(z) + (1 | g)", "(z)", "1 + x"),
        ("y ~ offset(log(z))", "(log(z))", "1"),
        ("y ~ offset(a) + x + offset(log(b)) - 1", "(a) + (log(b))", "0 + x"),
    ],
)
def test_offsets_leave_the_fixed_part(text, offset, rest):
    formula = parse(text)
    assert (formula.offset, formula.fixed) == (offset, rest)
    assert set(formula.offset_variables) <= set(formula.variables)


def test_cbind_has_two_parts():
    formula = parse("cbind(k, n - k) ~ x")
    assert (formula.response, formula.failures, formula.response_variables) == ("k", "n - k", ("k", "n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y ~ offset(z) * x", "not joined"),
        ("y ~ x + (offset(z) | g)", "inside other brackets"),
        ("y ~ log(offset(z))", "inside other brackets"),
        ("y ~ offset()", "empty"),
        ("cbind(a) ~ x", "two columns"),
        ("cbind(a, b, c) ~ x", "two columns"),
        ("cbind(a, b) + 1 ~ x", "two columns"),
        ("y ~ cbind(a, b)", "cbind"),
    ],
)
def test_misplaced_offset_and_cbind(text, message):
    with pytest.raises(FormulaError, match=message):
        parse(text)


def test_formulaic_error_is_chained():
    with pytest.raises(FormulaError) as caught:
        parse("y ~ x z")
    assert type(caught.value.__cause__).__name__ == "FormulaSyntaxError"


TABLE = pd.DataFrame(
    {
        "x": [1.0, 2.0, 3.0, 4.0, 5.0, 7.0],
        "my x": [1.0, 3.0, 2.0, 5.0, 4.0, 6.0],
        "f": list("abcabc"),
        "k": [1, 2, 1, 2, 1, 2],
    }
)


@pytest.mark.parametrize(
    ("right", "columns"),
    [
        ("I(x^2)", ["I(x ** 2)"]),
        ("poly(x, 2)", ["poly(x, 2)[1]", "poly(x, 2)[2]"]),
        ("bs(x, df=3)", ["bs(x, df=3)[1]", "bs(x, df=3)[2]", "bs(x, df=3)[3]"]),
        ('C(f, Treatment("b"))', ["C(f, Treatment('b'))[T.a]", "C(f, Treatment('b'))[T.c]"]),
        ('C(f, contr.treatment("b"))', ["C(f, contr.treatment('b'))[T.a]", "C(f, contr.treatment('b'))[T.c]"]),
        ("`my x` + log(`my x`)", ["my x", "log(`my x`)"]),
        ("factor(k)", ["factor(k)[T.2]"]),
        ("f*x", ["f[T.b]", "f[T.c]", "x", "f[T.b]:x", "f[T.c]:x"]),
        ("{x + 1}:k", ["x + 1:k"]),
        ("sqrt(x) + np.sqrt(x) + standardize(x)", ["sqrt(x)", "np.sqrt(x)", "standardize(x)"]),
        ("I((x > 2) & (k == 1))", ["I((x > 2) & (k == 1))"]),
    ],
)
def test_formulaic_builds_the_columns(right, columns):
    formula = parse(f"y ~ {right}")
    matrix = Formula(formula.fixed).get_model_matrix(TABLE, context=context())
    assert list(matrix.columns) == ["Intercept", *columns]


def test_response_in_braces_is_evaluated():
    formula = parse("(x >= 3) ~ 1")
    matrix = Formula(f"0 + {{{formula.response}}}").get_model_matrix(TABLE, context=context())
    np.testing.assert_array_equal(matrix.iloc[:, -1], TABLE["x"] >= 3)


@pytest.mark.parametrize(
    "text",
    [
        "y ~ x*z + (1 + x || country/school) + (1 | other)",
        "cbind(k, n - k) ~ 0 + C(f) + offset(log(e)) + (0 + x | school:class)",
        "log(y) ~ poly(x, 2) + (1 | country/school/class) + (x | `my k`)",
        "y ~ 1 + (1 | school/class/`my k`)",
        "y ~ x^2 %in% f",
    ],
)
def test_edits_on_the_record_are_what_their_text_says(text):
    """An edited record is the one that its own text parses to; nothing else is read again."""
    columns = {"school": ("S:1", "CNT"), "class": ("CL", "S:1", "CNT"), "country": ("CNT",), "my k": ("K", "CL")}
    for edited in (parse(text).with_groups(columns), parse(text).with_fixed(["m", "my m"])):
        assert edited == parse(edited.text)
    both = parse(text).with_groups(columns).with_fixed(["m"])
    assert both == parse(both.text)
    assert parse(text).with_groups({}) == parse(text).with_fixed([]) == parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y ~ (1 | school) + (1 + x | S:CNT)", "same effect '1' of group"),
        ("y ~ (1 | school:S)", "names a column twice"),
        ("y ~ (1 | S/school)", "names a column twice"),
    ],
)
def test_edits_of_groups_are_checked(text, message):
    with pytest.raises(FormulaError, match=message):
        parse(text).with_groups({"school": ("S", "CNT")})


@pytest.mark.parametrize("name", ["a` + __import__('os') + `b", "a`b", "a\\b", "a'b"])
def test_an_added_column_is_checked_as_one_that_is_written(name):
    with pytest.raises(FormulaError):
        parse("y ~ x").with_fixed([name])
