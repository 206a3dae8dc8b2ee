"""From lme4 syntax to its parts: response, fixed side, random terms. Never looks at data.

formulaic evaluates pieces such as ``log(x)`` as Python, so every piece is checked here against a list of
allowed syntax and functions *before* formulaic sees it; what is not on the list cannot run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pmwmix.errors import FormulaError
from pmwmix.spec.groupnames import quote, rename_groups
from pmwmix.spec.predictors import Predictor
from pmwmix.spec.terms import Side, side_of
from pmwmix.spec.whitelist import QUOTED, fail, inspect_code

MAX_CHARACTERS, MAX_DEPTH = 20_000, 50
_NAME = r"(?:`[^`]+`|[^\W\d][\w.]*)"
_GROUP = re.compile(rf"{_NAME}(?:\s*[:/]\s*{_NAME})*")


@dataclass(frozen=True, slots=True)
class RandomTerm:
    """Effects that vary between the groups of one factor; see :func:`parse`."""

    expr: str  # right side for formulaic, intercept explicit: "1 + escs"
    factors: tuple[str, ...]  # columns whose combination is the grouping factor
    group: str  # public name: "schoolid", "classid:schoolid"
    variables: tuple[str, ...]  # columns that `expr` uses
    text: str  # "(1 + escs | schoolid)"
    above: str | None = None  # next higher group of a nested a/b, for the lower ones
    predictor: str | None = None  # name of the further linear predictor that it belongs to


@dataclass(frozen=True, slots=True)
class FixedPart:
    """Fixed part of a linear predictor besides that of the mean."""

    predictor: str
    fixed: str  # as `ModelFormula.fixed`
    variables: tuple[str, ...]


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
    failures: str | None = None  # second argument of cbind(successes, failures) on the left
    offset: str | None = None  # sum of the arguments of offset(...)
    offset_variables: tuple[str, ...] = ()
    further: tuple[FixedPart, ...] = ()  # of further linear predictors, whose random terms stand among `random`

    def with_predictor(self, name: str, right: str) -> ModelFormula:
        """Add a further linear predictor, by the right side of its formula.

        Raises
        ------
        FormulaError
        """
        parsed = parse(f"{name} ~ {right}")
        if parsed.offset is not None:
            fail("Only the mean has an offset", f"{parsed.offset!r} in that of {name!r}", "Leave it out there")
        own = tuple(replace(term, predictor=name) for term in parsed.random)
        part = FixedPart(name, parsed.fixed, parsed.fixed_variables)
        return replace(self, random=(*self.random, *own), further=(*self.further, part))

    def with_predictors(self, predictors: Sequence[Predictor]) -> ModelFormula:
        """Bring further predictors into the order of their family, with their defaults where nothing is said.

        Raises
        ------
        FormulaError
            If one is missing that has no default.
        """
        out = self
        for one in predictors:
            if one.name not in {part.predictor for part in out.further}:
                if one.default is None:
                    what = f"The linear predictor {one.name!r} of this family has no formula"
                    fail(what, repr(self.text), "Write its right side, '1' for an intercept alone")
                out = out.with_predictor(one.name, one.default)
        named = {part.predictor: part for part in out.further}
        return replace(out, further=tuple(named[one.name] for one in predictors))

    @property
    def further_variables(self) -> tuple[str, ...]:
        """Columns of the fixed parts of further linear predictors."""
        return tuple(name for part in self.further for name in part.variables)

    @property
    def variables(self) -> tuple[str, ...]:
        """Every column of the formula once: response, fixed, random, group factors."""
        slopes = [name for term in self.random for name in term.variables]
        factors = [name for term in self.random for name in term.factors]
        right = [*self.fixed_variables, *self.offset_variables, *self.further_variables, *slopes, *factors]
        return tuple(dict.fromkeys([*self.response_variables, *right]))

    def with_fixed(self, names: Sequence[str]) -> ModelFormula:
        """Add columns to the fixed part."""
        left, _, right = self.text.partition("~")
        return parse(f"{left}~{right} + {' + '.join(f'`{name}`' for name in names)}") if names else self

    def with_groups(self, renamed: Mapping[str, tuple[str, ...]]) -> ModelFormula:
        """Put other columns, one or several that name a group together, in the place of group factors."""
        if not renamed:
            return self
        return parse(rename_groups(self.text, lambda name: renamed.get(name, (name,))))


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

    Notes
    -----
    ``cbind(successes, failures)`` may stand on the left, ``offset(log(exposure))`` among the terms on the right.
    ``x %in% f`` is ``x:f``, as in R.

    Examples
    --------
    >>> [term.text for term in parse("math ~ escs + (1 | school/classroom)").random]
    ['(1 | classroom:school)', '(1 | school)']
    """
    if not isinstance(text, str):
        fail("The formula is not text", type(text).__name__, 'Write it in quotes: "math ~ escs + (1 | school)"')
    if len(text) > MAX_CHARACTERS:
        fail("The formula is too long", f"{len(text)} characters", f"Use at most {MAX_CHARACTERS}")
    try:
        return _parse(text)
    except (RecursionError, MemoryError) as error:
        message = f"The formula is nested too deeply. Found: {text[:60]!r}... Compute part of it as a column first."
        raise FormulaError(message) from error


def _with_colons(text: str) -> str:
    """Spell R's ``x %in% f`` as the interaction that it is, ``x:f``."""
    mask, out, end = _mask(text), "", 0
    for match in re.finditer(r"\s*%in%\s*", mask):
        out, end = f"{out}{text[end : match.start()]}:", match.end()
    return out + text[end:]


def _parse(text: str) -> ModelFormula:
    spelled = _with_colons(text)
    code = "".join("**" if m == "^" else c for c, m in zip(spelled, _mask(spelled), strict=True))
    within = _brackets(code)
    if number := re.search(r"`\s*[01]\s*`", code):
        fail("A column is called 0 or 1, which in a formula stands for the intercept", number[0], "Rename the column")
    tildes = [i for i, c in enumerate(_mask(code)) if c == "~" and "f" not in within[i]]
    if len(tildes) != 1:
        what = "The formula needs one '~' between the outcome and the rest"
        fail(what, f"{len(tildes)} in {text!r}", "Write for example math ~ escs + (1 | school)")
    left, right = code[: tildes[0]].strip(), code[tildes[0] + 1 :]
    if not right.strip():
        fail("The formula has nothing right of '~'", repr(text), "Write 1 for an intercept alone")
    response, response_variables, failures = _left(left)
    right, offset, offset_variables = _split_offset(right)
    rest, random = _split_random(right)
    side = side_of(rest, right.strip()) if rest.strip() else Side(True, {})
    random_terms = _without_repeats(random)
    parts = (text, response, response_variables, side.text, side.variables, side.intercept, random_terms)
    return ModelFormula(*parts, failures, offset, offset_variables)


def _left(text: str) -> tuple[str, tuple[str, ...], str | None]:
    """Response, its columns, and the failures of ``cbind(successes, failures)``."""
    if not re.match(r"cbind\s*\(", text):
        return (*_response(text), None)
    parts = _arguments(text)
    if parts is None or len(parts) != 2:
        fail("cbind() on the left side takes two columns", text, "Write cbind(successes, failures) ~ ...")
    (first, names), (second, more) = (_response(part) for part in parts)
    return first, tuple(dict.fromkeys([*names, *more])), second


def _arguments(text: str) -> list[str] | None:
    """Arguments of a call that is the whole text; None if the call ends earlier."""
    mask = _mask(text)
    depth, edges = 0, []
    for i, character in enumerate(mask):
        depth += (character in "([{") - (character in ")]}")
        if depth == 1 and character in "(,":
            edges.append(i)
        if depth == 0 and character == ")":
            return [text[a + 1 : b].strip() for a, b in pairwise([*edges, i])] if i == len(text) - 1 else None
    return None


def _split_offset(text: str) -> tuple[str, str | None, tuple[str, ...]]:
    """Cut ``offset(...)`` out of the right side."""
    within, mask = _brackets(text), _mask(text)
    rest, at, found = "", 0, []
    for match in re.finditer(r"(?<![\w.])offset\s*\(", mask):
        start = match.start()
        if within[start]:
            fail("An offset stands inside other brackets", text.strip(), "Write + offset(x) beside the other terms")
        end = next(j for j in range(match.end() - 1, len(text)) if mask[j] == ")" and len(within[j]) == 0) + 1
        before, shown = (rest + text[at:start]).rstrip(), text[start:end]
        if before[-1:] not in ("", "+") or text[end:].lstrip()[:1] not in ("", "+", "-"):
            fail("An offset is not joined by '+'", shown, f"Write ... + {shown}")
        inner = text[match.end() : end - 1].strip()
        if not inner:
            fail("An offset is empty", shown, "Name a column: offset(log(exposure))")
        _, columns = inspect_code(inner)
        found.append((inner, columns))
        rest, at = before[:-1], end
    if not found:
        return text, None, ()
    rest += text[at:]
    if not rest.strip().lstrip("+").strip():
        rest = "1"
    offset = " + ".join(f"({inner})" for inner, _ in found)
    return rest.strip().lstrip("+"), offset, tuple(dict.fromkeys(name for _, names in found for name in names))


def _mask(text: str) -> str:
    """Blank what stands in quotes and backticks, so that only structure is left; same length."""
    for match in QUOTED.finditer(text):
        inside = "".join(group or "" for group in match.groups())
        if not inside.strip() or set(inside) & set("`'\"\\") or not inside.isprintable():
            what = "A quoted name or text in the formula is empty, or holds a quote or a backslash"
            fail(what, match[0], "Rename the column or category")
    mask = QUOTED.sub(lambda m: m[0][0] + "_" * (len(m[0]) - 2) + m[0][-1], text)
    odd = sorted(set(QUOTED.sub("", text)) & set("`'\"\\"))
    if odd:
        fail("The formula has an unclosed quote or backtick, or a backslash", f"{odd[0]} in {text!r}", "Close it")
    return mask


def _brackets(text: str) -> list[str]:
    """Brackets around each character, outermost first: ``(`` groups terms, ``f`` encloses Python."""
    stack: list[tuple[str, str]] = []
    within, mask = [], _mask(text)
    for i, character in enumerate(mask):
        if character in ")]}" and (not stack or stack.pop()[0] != {")": "(", "]": "[", "}": "{"}[character]):
            fail("The formula has a bracket that was not opened", f"{text[: i + 1]!r}", "Balance the brackets")
        within.append("".join(kind for _, kind in stack))
        if character in "([{":
            call = character == "{" or (i > 0 and re.match(r"[\w.]", mask[i - 1]))
            stack.append((character, "f" if call else "("))
        if len(stack) > MAX_DEPTH:
            fail("The formula is nested too deeply", f"{MAX_DEPTH + 1} brackets", f"Use at most {MAX_DEPTH}")
    if stack:
        fail("The formula has a bracket that is not closed", f"{stack[-1][0]} in {text!r}", "Balance the brackets")
    return within


def _split_random(text: str) -> tuple[str, list[tuple[RandomTerm, set[str]]]]:
    """Cut ``(expr | group)`` out of the right side; each term comes with the effects it holds."""
    within, mask = _brackets(text), _mask(text)
    spans: dict[int, list[int]] = {}
    for bar in (i for i, c in enumerate(mask) if c == "|" and "f" not in within[i]):
        if within[bar] != "(":
            where = "inside other brackets" if within[bar] else "outside parentheses"
            fail(f"A bar | stands {where}", repr(text.strip()), "Write each random term as + (1 | school)")
        spans.setdefault(max(j for j in range(bar) if not within[j]), []).append(bar)
    rest, end, random = "", 0, []
    for start, bars in spans.items():
        before = (rest + text[end:start]).rstrip()
        end = next(j for j in range(bars[0], len(text)) if not within[j]) + 1
        shown = text[start:end]
        if before[-1:] not in ("", "+") or text[end:].lstrip()[:1] not in ("", "+", "-"):
            fail("A random term is not joined by '+'", shown, f"Write ... + {shown}")
        if len(bars) > 2 or bars[-1] - bars[0] != len(bars) - 1:
            fail("A random term has more than one bar", shown, "Write (x | g), or (x || g) without correlations")
        rest = before[:-1]
        random += _random(text[start + 1 : bars[0]], text[bars[-1] + 1 : end - 1], shown, len(bars) == 2)
    return rest + text[end:], random


def _random(left: str, right: str, shown: str, split: bool) -> list[tuple[RandomTerm, set[str]]]:
    if not left.strip() or not right.strip():
        fail("A random term has an empty side", shown, "Write (1 | school) for a random intercept")
    side = side_of(left, shown)
    if not side.intercept and not side.terms:
        fail("A random term has no effect", shown, "Write (1 | school) for a random intercept")
    pieces = [side]
    if split:
        pieces = [Side(True, {})] * side.intercept + [Side(False, {name: v}) for name, v in side.terms.items()]
    out = []
    for piece in pieces:
        effects = {*piece.terms, *(["1"] if piece.intercept else [])}
        for factors, above in _groups(right.strip(), shown):
            label = f"({piece.text} | {':'.join(quote(name) for name in factors)})"
            term = RandomTerm(piece.text, factors, ":".join(factors), piece.variables, label, above)
            out.append((term, effects))
    return out


def _groups(text: str, shown: str) -> list[tuple[tuple[str, ...], str | None]]:
    """Columns of each grouping factor, lowest first, with the name of the next higher factor."""
    if not _GROUP.fullmatch(text):
        what = "A grouping factor must be a column, or columns joined by ':' or '/'"
        fail(what, f"{text!r} in {shown}", "Compute the factor as a column first and name it here")
    rungs: list[list[str]] = [[]]
    for token in re.findall(rf"{_NAME}|/", text):
        if token == "/":
            rungs.append([])
        else:
            rungs[-1].append(token.strip("`"))
    names = [name for rung in rungs for name in rung]
    if len(set(names)) < len(names):
        fail("A grouping factor names a column twice", f"{text!r} in {shown}", "Name each column once")
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
                fail(what, f"{other.text} and {term.text}", "Drop it from one of them, as in (1 | g) + (0 + x | g)")
    return tuple(term for term, _ in random)


def _response(text: str) -> tuple[str, tuple[str, ...]]:
    if not text:
        fail("The formula names no outcome", "nothing left of '~'", "Write the outcome's column before '~'")
    if re.fullmatch(_NAME, text):
        return text.strip("`"), (text.strip("`"),)
    _, variables = inspect_code(text)
    if not variables or len(side_of(f"0 + {{{text}}}", text).terms) != 1:
        fail("The left side is not one outcome", text, "Name one column, or a function of it such as log(y)")
    return text, variables
