"""Which Python may stand in a formula: a whitelist of syntax and functions, checked before formulaic evaluates it."""

from __future__ import annotations

import ast
import keyword
import re
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
from formulaic.transforms import TRANSFORMS

from pmwmix.errors import FormulaError, near, some

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
    "latent_mean": "A latent mean stands among the fixed terms: y ~ escs + latent_mean(escs, school) + (1 | school).",
    "measured": "A measured predictor stands among the fixed terms: y ~ measured(escs, 0.85) + (1 | school).",
    "Q": "Write the column name in backticks: `my column`.",
}
R_CALL = re.compile(r"(?<![\w.])((?:as|is)\.[a-z]+|[a-z]+\.[a-z]+)\s*\(")
IN_R = {  # what R's functions are here
    **dict.fromkeys(("as.factor", "as.character", "as.ordered", "ordered"), "Write C(x), or factor(x)"),
    **dict.fromkeys(("as.numeric", "as.integer", "as.double", "as.logical"), "Convert the column in the table"),
    "is.na": "Make the indicator a column of the table: rows with missing values are left out of the fit",
    "relevel": "Write C(x, Treatment('reference'))",
    "ifelse": "Write where(x > 0, 1, 0)",
    "ns": "Write cr(x, df=4), a natural cubic spline",
    "pmin": "Write minimum(x, y)",
    "pmax": "Write maximum(x, y)",
}
_SYNTAX = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.Load, ast.unaryop, ast.boolop),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
OPERATORS = ("and", "or", "not", "in", "is", "if", "else")
QUOTED = re.compile(r"`([^`]*)`|'([^']*)'|\"([^\"]*)\"")


def context() -> dict[str, object]:
    """Give the names that formulaic needs beyond its own: bare numpy functions, ``factor``, a small ``np``."""
    functions = {name: getattr(np, name) for name in NUMPY}
    short = SimpleNamespace(**functions, pi=np.pi, e=np.e)
    return {**functions, "factor": TRANSFORMS["C"], "as_factor": TRANSFORMS["C"], "np": short, "numpy": short}


def fail(what: str, found: str, do: str, cause: BaseException | None = None) -> NoReturn:
    """Raise a FormulaError of three sentences."""
    raise FormulaError(f"{what}. Found: {found}. {do}.") from cause


def inspect_code(code: str) -> tuple[ast.expr, tuple[str, ...]]:
    """Refuse Python that is not on the list; give its syntax tree and the columns it uses, in order."""
    names: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        if keyword.iskeyword(match[1]):  # formulaic would paste it as Python
            fail("A column has the name of a Python word", match[0], "Rename the column")
        names[f"quoted_name_{len(names)}_"] = match[1]
        return f" quoted_name_{len(names) - 1}_ "

    if (called := R_CALL.search(QUOTED.sub("''", code))) and called[1].split(".")[0] not in ("np", "numpy", "contr"):
        do = IN_R.get(called[1], "Compute it as a column of the table first")
        fail("The formula calls a function of R", f"{called[1]}() in {code}", do)
    try:
        tree = ast.parse(QUOTED.sub(stand_in, code).strip(), mode="eval")
    except FormulaError:
        raise
    except (SyntaxError, ValueError) as error:
        if words := python_words(code):
            fail("A column has the name of a Python word", f"{words[0]!r} in {code}", "Rename the column")
        fail("A piece of the formula cannot be read", code, "Check its commas, quotes and brackets", error)
    guard = _Guard(code, names)
    guard.visit(tree)
    return tree.body, tuple(guard.columns)


def python_words(code: str) -> list[str]:
    """Words that Python keeps for itself, and which no formula may use: ``class``, ``for``; text left out."""
    found = re.findall(r"[^\W\d]\w*", QUOTED.sub("", code))
    return [word for word in found if keyword.iskeyword(word) and word not in ("True", "False", "None", *OPERATORS)]


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
            where = "Write + offset(x) beside other terms" if name == "offset" else "Write cbind(successes, failures) ~"
            self.refuse(f"calls {name!r} inside an expression", where)
        allowed = {"": {*STATEFUL, *NUMPY}, "np": {*NUMPY}, "numpy": {*NUMPY}, "contr": {*CONTRASTS}}
        if not isinstance(node.func, ast.Name | ast.Attribute) or short not in allowed.get(module, ()):
            listed = sorted({*STATEFUL, *NUMPY}, key=str.lower)
            do = REFUSED.get(name) or IN_R.get(name) or f"Use one of: {some(listed, 60)}.{near(short, listed)}"
            self.refuse(f"calls {name!r}", do.rstrip("."))
        is_numpy = short in NUMPY and module != "contr"
        keywords = [k.arg or "**" for k in node.keywords]
        bad = [k for k in keywords if k.startswith(("_", "*")) or (is_numpy and k not in ("decimals", "min", "max"))]
        if bad or (is_numpy and len(node.args) > NUMPY[short]):
            self.refuse(f"gives {name!r} the argument {bad[0] if bad else ast.unparse(node.args[-1])!r}")
        for child in (*node.args, *(k.value for k in node.keywords)):
            (self.visit if name == "I" else self.argument)(child)
