"""From lme4 syntax to its parts: response, fixed side, random terms. Never looks at data.

formulaic evaluates pieces such as ``log(x)`` as Python, so every piece is checked here against a list of
allowed syntax and functions *before* formulaic sees it; what is not on the list cannot run.
"""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.algos.tokenize import tokenize
from formulaic.parser.types import ASTNode, Factor, Token
from formulaic.transforms import TRANSFORMS

from pmwmix.errors import FormulaError, NotSupportedError, near, some

MAX_CHARACTERS, MAX_DEPTH, MAX_TERMS, MAX_POWER = 20_000, 50, 10_000, 10
# Name -> most positional arguments; one more would be numpy's `out`, which overwrites the user's column.
NUMPY = {
    name: getattr(getattr(np, name), "nin", 3)
    for name in (
        "abs sqrt log log1p log10 log2 exp expm1 sin cos tan arcsin arccos arctan sinh cosh tanh square power sign "
        "floor ceil round minimum maximum where clip"
    ).split()
} | {"round": 2}
STATEFUL = tuple(
    "C I bs cc cr cs center scale standardize poly Treatment Sum Helmert Diff Poly factor as_factor".split()
)
CONTRASTS = ("treatment", "sum", "helmert", "diff", "poly", "SAS", "custom")
REFUSED = {
    "lag": "The rows of a survey have no order, so a lag has no meaning; add the lagged column to the table.",
    "hashed": "Hashing hides which category a column stands for; use C(x).",
    "Q": "Write the column name in backticks: `my column`.",
}
_SYNTAX = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.Load, ast.unaryop, ast.boolop),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
_NAME = r"(?:`[^`]+`|[^\W\d][\w.]*)"
_GROUP = re.compile(rf"{_NAME}(?:\s*[:/]\s*{_NAME})*")
_QUOTED = re.compile(r"`([^`]*)`|'([^']*)'|\"([^\"]*)\"")
_PARSER = DefaultFormulaParser(feature_flags=DefaultFormulaParser.FeatureFlags.NONE)


@dataclass(frozen=True, slots=True)
class RandomTerm:
    """Effects that vary between the groups of one factor; see :func:`parse`."""

    expr: str  # right side for formulaic, intercept explicit: "1 + escs"
    factors: tuple[str, ...]  # columns whose combination is the grouping factor
    group: str  # public name: "schoolid", "classid:schoolid"
    variables: tuple[str, ...]  # columns that `expr` uses
    text: str  # "(1 + escs | schoolid)"
    above: str | None = None  # next higher group of a nested a/b, for the lower ones


@dataclass(frozen=True, slots=True)
class ModelFormula:
    """A formula in parts; see :func:`parse`."""

    text: str
    response: str  # column, or an expression to hand to formulaic in braces: "{log(y)}"
    response_variables: tuple[str, ...]
    fixed: str  # right side for formulaic, intercept explicit: "1 + escs" or "0 + escs"
    fixed_variables: tuple[str, ...]
    has_intercept: bool
    random: tuple[RandomTerm, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """Every column of the formula once: response, fixed, random, group factors."""
        slopes = [name for term in self.random for name in term.variables]
        factors = [name for term in self.random for name in term.factors]
        return tuple(dict.fromkeys([*self.response_variables, *self.fixed_variables, *slopes, *factors]))


@dataclass(frozen=True, slots=True)
class _Side:
    """Terms of one right side in formulaic's spelling, each with its columns."""

    intercept: bool
    terms: dict[str, tuple[str, ...]]

    @property
    def text(self) -> str:
        return " + ".join(["1" if self.intercept else "0", *self.terms])

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for columns in self.terms.values() for name in columns))


def context() -> dict[str, object]:
    """Give the names that formulaic needs beyond its own: bare numpy functions, ``factor``, a small ``np``."""
    functions = {name: getattr(np, name) for name in NUMPY}
    short = SimpleNamespace(**functions, pi=np.pi, e=np.e)
    return {**functions, "factor": TRANSFORMS["C"], "as_factor": TRANSFORMS["C"], "np": short, "numpy": short}


def parse(text: str) -> ModelFormula:
    """Read a formula in lme4's syntax.

    Parameters
    ----------
    text : str
        ``"math ~ escs + (1 + escs | country/school)"``. Names with spaces stand in backticks.

    Returns
    -------
    ModelFormula
        ``(x || g)`` and ``(1 | a/b)`` arrive expanded, the lowest group first.

    Raises
    ------
    FormulaError
        If the formula cannot be read, repeats a random effect, or holds code that is not on the list.
    NotSupportedError
        For ``offset()`` and ``cbind()``.

    Examples
    --------
    >>> [term.text for term in parse("math ~ escs + (1 | school/classroom)").random]
    ['(1 | classroom:school)', '(1 | school)']
    """
    if not isinstance(text, str):
        _fail("The formula is not text", type(text).__name__, 'Write it in quotes: "math ~ escs + (1 | school)"')
    if len(text) > MAX_CHARACTERS:
        _fail("The formula is too long", f"{len(text)} characters", f"Use at most {MAX_CHARACTERS}")
    try:
        return _parse(text)
    except (RecursionError, MemoryError) as error:
        message = f"The formula is nested too deeply. Found: {text[:60]!r}... Compute part of it as a column first."
        raise FormulaError(message) from error


def _fail(what: str, found: str, do: str, cause: BaseException | None = None) -> NoReturn:
    raise FormulaError(f"{what}. Found: {found}. {do}.") from cause


def _parse(text: str) -> ModelFormula:
    code = "".join("**" if m == "^" else c for c, m in zip(text, _mask(text), strict=True))
    within = _brackets(code)
    tildes = [i for i, c in enumerate(_mask(code)) if c == "~" and "f" not in within[i]]
    if len(tildes) != 1:
        what = "The formula needs one '~' between the outcome and the rest"
        _fail(what, f"{len(tildes)} in {text!r}", "Write for example math ~ escs + (1 | school)")
    left, right = code[: tildes[0]].strip(), code[tildes[0] + 1 :]
    if not right.strip():
        _fail("The formula has nothing right of '~'", repr(text), "Write 1 for an intercept alone")
    response, response_variables = _response(left)
    rest, random = _split_random(right)
    side = _side(rest, right.strip()) if rest.strip() else _Side(True, {})
    return ModelFormula(
        text, response, response_variables, side.text, side.variables, side.intercept, _without_repeats(random)
    )


def _mask(text: str) -> str:
    """Blank what stands in quotes and backticks, so that only structure is left; same length."""
    for match in _QUOTED.finditer(text):
        inside = "".join(group or "" for group in match.groups())
        if not inside.strip() or set(inside) & set("`'\"\\") or not inside.isprintable():
            what = "A quoted name or text in the formula is empty, or holds a quote or a backslash"
            _fail(what, match[0], "Rename the column or category")
    mask = _QUOTED.sub(lambda m: m[0][0] + "_" * (len(m[0]) - 2) + m[0][-1], text)
    odd = sorted(set(_QUOTED.sub("", text)) & set("`'\"\\"))
    if odd:
        _fail("The formula has an unclosed quote or backtick, or a backslash", f"{odd[0]} in {text!r}", "Close it")
    return mask


def _brackets(text: str) -> list[str]:
    """Brackets around each character, outermost first: ``(`` groups terms, ``f`` encloses Python."""
    stack: list[tuple[str, str]] = []
    within, mask = [], _mask(text)
    for i, character in enumerate(mask):
        if character in ")]}" and (not stack or stack.pop()[0] != {")": "(", "]": "[", "}": "{"}[character]):
            _fail("The formula has a bracket that was not opened", f"{text[: i + 1]!r}", "Balance the brackets")
        within.append("".join(kind for _, kind in stack))
        if character in "([{":
            call = character == "{" or (i > 0 and re.match(r"[\w.]", mask[i - 1]))
            stack.append((character, "f" if call else "("))
        if len(stack) > MAX_DEPTH:
            _fail("The formula is nested too deeply", f"{MAX_DEPTH + 1} brackets", f"Use at most {MAX_DEPTH}")
    if stack:
        _fail("The formula has a bracket that is not closed", f"{stack[-1][0]} in {text!r}", "Balance the brackets")
    return within


def _split_random(text: str) -> tuple[str, list[tuple[RandomTerm, set[str]]]]:
    """Cut ``(expr | group)`` out of the right side; each term comes with the effects it holds."""
    within, mask = _brackets(text), _mask(text)
    spans: dict[int, list[int]] = {}
    for bar in (i for i, c in enumerate(mask) if c == "|" and "f" not in within[i]):
        if within[bar] != "(":
            where = "inside other brackets" if within[bar] else "outside parentheses"
            _fail(f"A bar | stands {where}", repr(text.strip()), "Write each random term as + (1 | school)")
        spans.setdefault(max(j for j in range(bar) if not within[j]), []).append(bar)
    rest, end, random = "", 0, []
    for start, bars in spans.items():
        before = (rest + text[end:start]).rstrip()
        end = next(j for j in range(bars[0], len(text)) if not within[j]) + 1
        shown = text[start:end]
        if before[-1:] not in ("", "+") or text[end:].lstrip()[:1] not in ("", "+", "-"):
            _fail("A random term is not joined by '+'", shown, f"Write ... + {shown}")
        if len(bars) > 2 or bars[-1] - bars[0] != len(bars) - 1:
            _fail("A random term has more than one bar", shown, "Write (x | g), or (x || g) without correlations")
        rest = before[:-1]
        random += _random(text[start + 1 : bars[0]], text[bars[-1] + 1 : end - 1], shown, len(bars) == 2)
    return rest + text[end:], random


def _random(left: str, right: str, shown: str, split: bool) -> list[tuple[RandomTerm, set[str]]]:
    if not left.strip() or not right.strip():
        _fail("A random term has an empty side", shown, "Write (1 | school) for a random intercept")
    side = _side(left, shown)
    if not side.intercept and not side.terms:
        _fail("A random term has no effect", shown, "Write (1 | school) for a random intercept")
    pieces = [side]
    if split:
        pieces = [_Side(True, {})] * side.intercept + [_Side(False, {name: v}) for name, v in side.terms.items()]
    out = []
    for piece in pieces:
        effects = {*piece.terms, *(["1"] if piece.intercept else [])}
        for factors, above in _groups(right.strip(), shown):
            label = f"({piece.text} | {':'.join(_quote(name) for name in factors)})"
            term = RandomTerm(piece.text, factors, ":".join(factors), piece.variables, label, above)
            out.append((term, effects))
    return out


def _groups(text: str, shown: str) -> list[tuple[tuple[str, ...], str | None]]:
    """Columns of each grouping factor, lowest first, with the name of the next higher factor."""
    if not _GROUP.fullmatch(text):
        what = "A grouping factor must be a column, or columns joined by ':' or '/'"
        _fail(what, f"{text!r} in {shown}", "Compute the factor as a column first and name it here")
    rungs: list[list[str]] = [[]]
    for token in re.findall(rf"{_NAME}|/", text):
        if token == "/":
            rungs.append([])
        else:
            rungs[-1].append(token.strip("`"))
    names = [name for rung in rungs for name in rung]
    if len(set(names)) < len(names):
        _fail("A grouping factor names a column twice", f"{text!r} in {shown}", "Name each column once")
    found: list[tuple[tuple[str, ...], str | None]] = []
    columns: tuple[str, ...] = ()
    for rung in rungs:
        above = ":".join(columns) or None
        columns = (*rung, *columns)
        found.append((columns, above))
    return found[::-1]


def _without_repeats(random: list[tuple[RandomTerm, set[str]]]) -> tuple[RandomTerm, ...]:
    for i, (term, effects) in enumerate(random):
        for other, taken in random[:i]:
            if set(other.factors) == set(term.factors) and effects & taken:
                effect = min(effects & taken)
                what = f"Two random terms hold the same effect {effect!r} of group {term.group!r}"
                _fail(what, f"{other.text} and {term.text}", "Drop it from one of them, as in (1 | g) + (0 + x | g)")
    return tuple(term for term, _ in random)


def _quote(name: str) -> str:
    return name if re.fullmatch(r"[^\W\d][\w.]*", name) else f"`{name}`"


def _response(text: str) -> tuple[str, tuple[str, ...]]:
    if not text:
        _fail("The formula names no outcome", "nothing left of '~'", "Write the outcome's column before '~'")
    if re.fullmatch(_NAME, text):
        return text.strip("`"), (text.strip("`"),)
    _, variables = _inspect(text)
    if not variables or len(_side(f"0 + {{{text}}}", text).terms) != 1:
        _fail("The left side is not one outcome", text, "Name one column, or a function of it such as log(y)")
    return text, variables


def _side(text: str, shown: str) -> _Side:
    """Check every piece of Python in the text, then let formulaic expand the operators."""
    try:
        for token in tokenize(text):
            if token.token == ".":
                _fail("The formula uses '.' for all columns", shown, "Write the columns out")
            if token.kind is Token.Kind.PYTHON:
                _inspect(token.token)
        _count(_PARSER.get_ast(text), shown)
        terms = _PARSER.get_terms(text).root
        written = [[_written(factor) for factor in term.factors] for term in terms]
        side = _Side(
            any(str(term) == "1" for term in terms),
            {
                ":".join(name for name, _ in factors): tuple(column for _, columns in factors for column in columns)
                for term, factors in zip(terms, written, strict=True)
                if str(term) != "1"
            },
        )
        same = sorted(map(str, terms)) == sorted(map(str, _PARSER.get_terms(side.text).root))
    except (FormulaError, NotSupportedError, RecursionError, MemoryError):
        raise
    except Exception as error:
        reason = re.sub(r"\x1b\[[\d;]*m|[⧛⧚]", "", str(error)).strip().split("\n")[0].rstrip(".")
        _fail(f"The formula cannot be read ({reason})", shown, "Check the operators and brackets there", error)
    if not same:  # what was checked must be what formulaic will run
        _fail("The formula has a term that cannot be written back", shown, "Compute it as a column first")
    return side


def _written(factor: Factor) -> tuple[str, tuple[str, ...]]:
    if factor.eval_method is Factor.EvalMethod.LOOKUP:
        return _quote(factor.expr), (factor.expr,)
    if factor.eval_method is Factor.EvalMethod.LITERAL:
        return factor.expr, ()
    node, variables = _inspect(factor.expr)
    return (factor.expr if isinstance(node, ast.Call) else f"{{{factor.expr}}}"), variables


def _count(node: Any, shown: str) -> int:
    """Bound the number of terms before formulaic multiplies them out: 30 columns joined by * would hang."""
    if not isinstance(node, ASTNode):
        return 1
    parts, symbol = [_count(part, shown) for part in node.args], node.operator.symbol
    total = sum(parts)
    if symbol in ("**", "^"):
        power = int(str(node.args[1])) if str(node.args[1]).isdecimal() else 1
        total = MAX_TERMS + 1 if power > MAX_POWER else max(parts[0], 1) ** power
    elif symbol not in ("+", "-"):
        total += int(np.prod(parts, dtype=float))
    if total > MAX_TERMS:
        _fail("The formula expands to too many terms", f"more than {MAX_TERMS} in {shown}", "Use fewer interactions")
    return total


def _inspect(code: str) -> tuple[ast.expr, tuple[str, ...]]:
    """Refuse Python that is not on the list; give its syntax tree and the columns it uses, in order."""
    names: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        if keyword.iskeyword(match[1]):  # formulaic would paste it as Python
            _fail("A column has the name of a Python word", match[0], "Rename the column")
        names[f"quoted_name_{len(names)}_"] = match[1]
        return f" quoted_name_{len(names) - 1}_ "

    try:
        tree = ast.parse(_QUOTED.sub(stand_in, code).strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        _fail("A piece of the formula cannot be read", code, "Check its commas, quotes and brackets", error)
    guard = _Guard(code, names)
    guard.visit(tree)
    return tree.body, tuple(guard.columns)


def _has_column(node: ast.AST) -> bool:
    called = {id(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
    return any(isinstance(n, ast.Name) and id(n) not in called for n in ast.walk(node))


class _Guard(ast.NodeVisitor):
    """Visit a syntax tree, refuse all that is not allowed, collect the columns."""

    def __init__(self, code: str, names: dict[str, str]) -> None:
        self.code, self.names = code, names
        self.columns: dict[str, None] = {}

    def refuse(self, what: str, do: str = "Compute it as a column first") -> NoReturn:
        """Raise, naming the piece."""
        raise FormulaError(f"The formula {what}, which is not allowed. Found in: {self.code}. {do}.")

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _SYNTAX):
            self.refuse(f"uses Python's {type(node).__name__} {ast.unparse(node)!r}")
        super().generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id.startswith("__"):
            self.refuse(f"uses the name {node.id!r}", "Rename the column")
        self.columns[self.names.get(node.id, node.id)] = None

    def visit_Constant(self, node: ast.Constant) -> None:
        if node.value is not None and not isinstance(node.value, bool | int | float):
            self.refuse(f"computes with {node.value!r}")

    def visit_Compare(self, node: ast.Compare) -> None:
        for child in (node.left, *node.comparators):
            self.argument(child, containers=False)
        for sign in node.ops:
            self.generic_visit(sign)

    def argument(self, node: ast.AST, containers: bool = True) -> None:
        """Visit where text (and lists) may stand; elsewhere ``[0] * 10**9`` would fill the memory."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if set(node.value) & set("`'\"\\") or not node.value.isprintable():  # formulaic pastes it into code
                self.refuse(f"uses the text {node.value!r} with a quote or backslash", "Rename the category")
        elif containers and isinstance(node, ast.List | ast.Tuple | ast.Dict):
            for child in ast.iter_child_nodes(node):
                if not isinstance(child, ast.Load):
                    self.argument(child)
        else:
            self.visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not (isinstance(node.value, ast.Name) and node.value.id in ("np", "numpy") and node.attr in ("pi", "e")):
            do = "Write a column name that has a dot in backticks; otherwise compute it as a column first"
            self.refuse(f"uses the attribute {ast.unparse(node)!r}", do)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        sides = (node.left, node.right)
        logical = isinstance(node.op, ast.BitAnd | ast.BitOr)
        if logical and not all(isinstance(s, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.BinOp) for s in sides):
            do = "Join comparisons in parentheses, (x > 1) | (z > 1); a random term stands alone: + (1 | g)"
            self.refuse(f"joins {ast.unparse(node)!r} by a bar or ampersand inside Python code", do)
        if isinstance(node.op, ast.Pow) and not _has_column(node):
            self.refuse(f"raises a number to a power in {ast.unparse(node)!r}", "Write the number out")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        module, _, short = name.rpartition(".")
        if name in ("offset", "cbind"):
            other = "a fixed column" if name == "offset" else "one 0/1 row per person"
            raise NotSupportedError(f"{name}() in a formula is not supported yet. Found: {self.code}. Use {other}.")
        allowed = {"": {*STATEFUL, *NUMPY}, "np": {*NUMPY}, "numpy": {*NUMPY}, "contr": {*CONTRASTS}}
        if not isinstance(node.func, ast.Name | ast.Attribute) or short not in allowed.get(module, ()):
            listed = sorted({*STATEFUL, *NUMPY}, key=str.lower)
            do = REFUSED.get(name, f"Use one of: {some(listed, 60)}.{near(short, listed)}").rstrip(".")
            self.refuse(f"calls {name!r}", do)
        is_numpy = short in NUMPY and module != "contr"
        keywords = [k.arg or "**" for k in node.keywords]
        bad = [k for k in keywords if k.startswith(("_", "*")) or (is_numpy and k not in ("decimals", "min", "max"))]
        if bad or (is_numpy and len(node.args) > NUMPY[short]):
            self.refuse(f"gives {name!r} the argument {bad[0] if bad else ast.unparse(node.args[-1])!r}")
        for child in (*node.args, *(k.value for k in node.keywords)):
            (self.visit if name == "I" else self.argument)(child)
