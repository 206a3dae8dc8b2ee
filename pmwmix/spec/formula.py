"""From lme4 syntax to its parts: response, fixed side, random terms. Never looks at data.

formulaic evaluates pieces such as ``log(x)`` as Python, so every piece is checked here against a list of
allowed syntax and functions *before* formulaic sees it; what is not on the list cannot run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pmwmix.errors import FormulaError
from pmwmix.spec.brackets import arguments, brackets, mask
from pmwmix.spec.groupnames import quote, rename_groups, spelled_out
from pmwmix.spec.predictors import Predictor
from pmwmix.spec.terms import Side, side_of
from pmwmix.spec.whitelist import fail, inspect_code

MAX_CHARACTERS = 20_000
_NAME = r"(?:`[^`]+`|[^\W\d][\w.]*)"
_GROUP = re.compile(rf"{_NAME}(?:\s*[:/]\s*{_NAME})*")


@dataclass(frozen=True, slots=True)
class RandomTerm:
    """Effects that vary between the groups of one factor; see :func:`parse`."""

    effects: tuple[str, ...]  # "1" for the intercept, then terms in formulaic's spelling
    rungs: tuple[tuple[str, ...], ...]  # columns of the grouping factor and of those that it lies in, lowest first
    variables: tuple[str, ...]  # columns that the effects use
    predictor: str | None = None  # name of the further linear predictor that it belongs to

    @property
    def expr(self) -> str:
        """Right side for formulaic, intercept explicit: ``"1 + escs"``."""
        return " + ".join(self.effects if self.effects[0] == "1" else ("0", *self.effects))

    @property
    def factors(self) -> tuple[str, ...]:
        """Columns whose combination is the grouping factor."""
        return tuple(name for rung in self.rungs for name in rung)

    @property
    def group(self) -> str:
        """Public name of the grouping factor: ``"schoolid"``, ``"classid:schoolid"``."""
        return ":".join(self.factors)

    @property
    def above(self) -> str | None:
        """Next higher group of a nested a/b, for the lower ones."""
        return ":".join(name for rung in self.rungs[1:] for name in rung) or None

    @property
    def text(self) -> str:
        """The term as it is written: ``"(1 + escs | schoolid)"``."""
        return f"({self.expr} | {':'.join(quote(name) for name in self.factors)})"

    def with_groups(self, columns_of: Mapping[str, tuple[str, ...]]) -> RandomTerm:
        """Put columns in the place of names of groups.

        Raises
        ------
        FormulaError
            If a column would name the group twice.
        """
        found: list[tuple[str, ...]] = []
        for rung in reversed(self.rungs):
            above = [name for higher in found for name in higher]
            found.insert(0, tuple(name for names in spelled_out(rung, columns_of, above) for name in names))
        out = replace(self, rungs=tuple(found))
        _check_factors(out.factors, out.group, out.text)
        return out


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
        if not names:
            return self
        more = "".join(f" + `{name}`" for name in names)
        mask(more)  # refuses names that hold quotes
        side = side_of(self.fixed + more, more)
        return replace(self, text=self.text + more, fixed=side.text, fixed_variables=side.variables)

    def with_groups(self, columns_of: Mapping[str, tuple[str, ...]]) -> ModelFormula:
        """Put other columns, one or several that name a group together, in the place of group factors.

        Parameters
        ----------
        columns_of : mapping
            Name of a group in the formula to its columns, its own first.

        Raises
        ------
        FormulaError
            If two terms then hold the same effect of one group, or a column names a group twice.
        """
        if not columns_of:
            return self
        random = _without_repeats([term.with_groups(columns_of) for term in self.random])
        return replace(self, text=rename_groups(self.text, columns_of), random=random)


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
    blank, out, end = mask(text), "", 0
    for match in re.finditer(r"\s*%in%\s*", blank):
        out, end = f"{out}{text[end : match.start()]}:", match.end()
    return out + text[end:]


def _parse(text: str) -> ModelFormula:
    spelled = _with_colons(text)
    code = "".join("**" if m == "^" else c for c, m in zip(spelled, mask(spelled), strict=True))
    within = brackets(code)
    if number := re.search(r"`\s*[01]\s*`", code):
        fail("A column is called 0 or 1, which in a formula stands for the intercept", number[0], "Rename the column")
    tildes = [i for i, c in enumerate(mask(code)) if c == "~" and "f" not in within[i]]
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
    asked = (text, response, response_variables, side.text, side.variables, side.intercept, random_terms)
    return ModelFormula(*asked, failures, offset, offset_variables)


def _left(text: str) -> tuple[str, tuple[str, ...], str | None]:
    """Response, its columns, and the failures of ``cbind(successes, failures)``."""
    if not re.match(r"cbind\s*\(", text):
        return (*_response(text), None)
    given = arguments(text)
    if given is None or len(given) != 2:
        fail("cbind() on the left side takes two columns", text, "Write cbind(successes, failures) ~ ...")
    (first, names), (second, more) = (_response(column) for column in given)
    return first, tuple(dict.fromkeys([*names, *more])), second


def _split_offset(text: str) -> tuple[str, str | None, tuple[str, ...]]:
    """Cut ``offset(...)`` out of the right side."""
    within, blank = brackets(text), mask(text)
    rest, at, found = "", 0, []
    for match in re.finditer(r"(?<![\w.])offset\s*\(", blank):
        start = match.start()
        if within[start]:
            fail("An offset stands inside other brackets", text.strip(), "Write + offset(x) beside the other terms")
        end = next(j for j in range(match.end() - 1, len(text)) if blank[j] == ")" and len(within[j]) == 0) + 1
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


def _split_random(text: str) -> tuple[str, list[RandomTerm]]:
    """Cut ``(expr | group)`` out of the right side."""
    within, blank = brackets(text), mask(text)
    spans: dict[int, list[int]] = {}
    for bar in (i for i, c in enumerate(blank) if c == "|" and "f" not in within[i]):
        if within[bar] != "(":
            where = "inside other brackets" if within[bar] else "outside parentheses"
            fail(f"A bar | stands {where}", repr(text.strip()), "Write each random term as + (1 | school)")
        spans.setdefault(max(j for j in range(bar) if not within[j]), []).append(bar)
    rest, end = "", 0
    random: list[RandomTerm] = []
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


def _random(left: str, right: str, shown: str, split: bool) -> list[RandomTerm]:
    if not left.strip() or not right.strip():
        fail("A random term has an empty side", shown, "Write (1 | school) for a random intercept")
    side = side_of(left, shown)
    if not side.intercept and not side.terms:
        fail("A random term has no effect", shown, "Write (1 | school) for a random intercept")
    pieces = [side]
    if split:
        pieces = [Side(True, {})] * side.intercept + [Side(False, {name: v}) for name, v in side.terms.items()]
    groups = _groups(right.strip(), shown)
    return [
        RandomTerm((*(["1"] if piece.intercept else []), *piece.terms), rungs, piece.variables)
        for piece in pieces
        for rungs in groups
    ]


def _groups(text: str, shown: str) -> list[tuple[tuple[str, ...], ...]]:
    """Rungs of each grouping factor of ``a/b``, the lowest factor and its own rung first."""
    if not _GROUP.fullmatch(text):
        what = "A grouping factor must be a column, or columns joined by ':' or '/'"
        fail(what, f"{text!r} in {shown}", "Compute the factor as a column first and name it here")
    rungs: list[list[str]] = [[]]
    for token in re.findall(rf"{_NAME}|/", text):
        if token == "/":
            rungs.append([])
        else:
            rungs[-1].append(token.strip("`"))
    _check_factors([name for rung in rungs for name in rung], text, shown)
    lowest_first = tuple(tuple(rung) for rung in reversed(rungs))
    return [lowest_first[k:] for k in range(len(rungs))]


def _check_factors(names: Sequence[str], text: str, shown: str) -> None:
    if len(set(names)) < len(names):
        fail("A grouping factor names a column twice", f"{text!r} in {shown}", "Name each column once")


def _without_repeats(random: Sequence[RandomTerm]) -> tuple[RandomTerm, ...]:
    for i, term in enumerate(random):
        for other in random[:i]:
            same = set(term.effects) & set(other.effects)
            if set(other.factors) == set(term.factors) and same:
                what = f"Two random terms hold the same effect {min(same)!r} of group {term.group!r}"
                fail(what, f"{other.text} and {term.text}", "Drop it from one of them, as in (1 | g) + (0 + x | g)")
    return tuple(random)


def _response(text: str) -> tuple[str, tuple[str, ...]]:
    if not text:
        fail("The formula names no outcome", "nothing left of '~'", "Write the outcome's column before '~'")
    if re.fullmatch(_NAME, text):
        return text.strip("`"), (text.strip("`"),)
    _, variables = inspect_code(text)
    if not variables or len(side_of(f"0 + {{{text}}}", text).terms) != 1:
        fail("The left side is not one outcome", text, "Name one column, or a function of it such as log(y)")
    return text, variables
