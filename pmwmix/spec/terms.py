"""One right side of a formula in formulaic's terms: checked piece by piece, then expanded by formulaic itself.

The only file that knows formulaic's parser and its tokens, which are not part of its public interface.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.algos.tokenize import tokenize
from formulaic.parser.types import ASTNode, Factor, Token

from pmwmix.errors import FormulaError, NotSupportedError
from pmwmix.spec.groupnames import quote
from pmwmix.spec.whitelist import fail, inspect_code, python_words

MAX_TERMS, MAX_POWER = 10_000, 10
_PARSER = DefaultFormulaParser(feature_flags=DefaultFormulaParser.FeatureFlags.NONE)


@dataclass(frozen=True, slots=True)
class Side:
    """Terms of one right side in formulaic's spelling, each with its columns."""

    intercept: bool
    terms: dict[str, tuple[str, ...]]

    @property
    def text(self) -> str:
        """The side, intercept explicit."""
        return " + ".join(["1" if self.intercept else "0", *self.terms])

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns of all terms, each once."""
        return tuple(dict.fromkeys(name for columns in self.terms.values() for name in columns))


def side_of(text: str, shown: str) -> Side:
    """Check every piece of Python in the text, then let formulaic expand the operators."""
    try:
        for token in tokenize(text):
            if token.token == ".":
                fail("The formula uses '.' for all columns", shown, "Write the columns out")
            if token.kind is Token.Kind.PYTHON:
                inspect_code(token.token)
            if token.kind is Token.Kind.OPERATOR:
                _refuse_condition(text, token, shown)
        _count(_PARSER.get_ast(text), shown)
        _refuse_two_of_a_name(text, shown)
        terms = _PARSER.get_terms(text).root
        written = [[_written(factor) for factor in term.factors] for term in terms]
        side = Side(
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
        fail(f"The formula cannot be read ({reason})", shown, "Check the operators and brackets there", error)
    if not same:  # what was checked must be what formulaic will run
        fail("The formula has a term that cannot be written back", shown, "Compute it as a column first")
    return side


def _refuse_condition(text: str, operator: Token, shown: str) -> None:
    """Say how a condition such as ``(x > 0)`` is written among the terms, where operators join columns."""
    if not set(operator.token) & set("<>=!"):
        return
    at = operator.source_start or 0
    first = max(text.rfind(sign, 0, at) for sign in "(+") + 1
    piece = text[first : min((end for sign in ")+" if (end := text.find(sign, at)) >= 0), default=len(text))].strip()
    words = python_words(piece)
    cure = f"Rename the column {words[0]!r}, which is a Python word, and write" if words else "Write"
    fail("A condition stands among the terms", f"{piece} in {shown}", f"{cure} it as I({piece}), or make it a column")


def _refuse_two_of_a_name(text: str, shown: str) -> None:
    """Refuse a column that is called like an interaction beside it, of which formulaic would drop one."""
    quoted = dict.fromkeys(name for name in re.findall(r"`([^`]*)`", text) if ":" in name)
    if not quoted:
        return
    other = text
    for number, name in enumerate(quoted):
        other = other.replace(f"`{name}`", f"`stands for {number}`")
    products = {tuple(sorted(map(str, term.factors))) for term in _PARSER.get_terms(other).root}
    if same := [name for name in quoted if tuple(sorted(name.split(":"))) in products]:
        fail("A column has the name of an interaction beside it", f"`{same[0]}` in {shown}", "Rename the column")


def _written(factor: Factor) -> tuple[str, tuple[str, ...]]:
    if factor.eval_method is Factor.EvalMethod.LOOKUP:
        return quote(factor.expr), (factor.expr,)
    if factor.eval_method is Factor.EvalMethod.LITERAL:
        return factor.expr, ()
    node, variables = inspect_code(factor.expr)
    return (factor.expr if isinstance(node, ast.Call) else f"{{{factor.expr}}}"), variables


def _count(node: Any, shown: str) -> int:
    """Bound the number of terms before formulaic multiplies them out: 30 columns joined by * would hang."""
    if not isinstance(node, ASTNode):
        return 1
    counts, symbol = [_count(argument, shown) for argument in node.args], node.operator.symbol
    total = sum(counts)
    if symbol in ("**", "^"):
        power = int(str(node.args[1])) if str(node.args[1]).isdecimal() else 1
        total = MAX_TERMS + 1 if power > MAX_POWER else max(counts[0], 1) ** power
    elif symbol not in ("+", "-"):
        total += int(np.prod(counts, dtype=float))
    if total > MAX_TERMS:
        fail("The formula expands to too many terms", f"more than {MAX_TERMS} in {shown}", "Use fewer interactions")
    return total
