"""From lme4 syntax to its parts: response, fixed side, random terms. Never looks at data.

formulaic evaluates pieces such as ``log(x)`` as Python, so every piece is checked here against a list of
allowed syntax and functions *before* formulaic sees it; what is not on the list cannot run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pmwmix.errors import FormulaError, NotSupportedError
from pmwmix.spec.brackets import arguments, brackets, mask
from pmwmix.spec.groupnames import rename_groups
from pmwmix.spec.latentmean import LatentMean, split_latent
from pmwmix.spec.measured import Measured, split_measured
from pmwmix.spec.predictors import PARAMETERS, Predictor
from pmwmix.spec.randomterms import NAME, RandomTerm, check_labels, split_random, without_repeats
from pmwmix.spec.several import about, joined, pieces_of
from pmwmix.spec.terms import Side, side_of
from pmwmix.spec.whitelist import fail, inspect_code

MAX_CHARACTERS = 20_000


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
    bare: tuple[RandomTerm, ...] = ()  # groups of the model that have no random term
    residual_variables: tuple[str, ...] = ()  # columns of a residual structure
    latent: tuple[LatentMean, ...] = ()  # of the fixed part, where each is a column of its name
    measured: tuple[Measured, ...] = ()  # likewise
    first: str | None = None  # name of the first linear predictor, where its coefficients bear it
    outcomes: tuple[str, ...] = ()  # all of them where there are several, each with a linear predictor

    def for_each(self, names: Sequence[str]) -> ModelFormula:
        """Give several linear predictors, those of the categories of an outcome, all of this right side.

        The random effects of a term are correlated between them, but where the term has a structure of its own.

        Raises
        ------
        FormulaError
            If there is an offset.
        """
        if self.offset is not None:
            fail("A multinomial outcome has no offset", self.offset, "Leave it out, or use it as a predictor")
        terms = []
        for number, term in enumerate(self.random):
            own = term.label or (f"{number}" if term.structure == "us" else None)
            terms += [replace(term, predictor=name, label=own, shared=term.label is None) for name in names]
        parts = tuple(FixedPart(name, self.fixed, self.fixed_variables) for name in names[1:])
        return replace(self, random=tuple(terms), further=parts, first=names[0])

    def for_outcomes(self) -> ModelFormula:
        """Take every further linear predictor for that of another outcome, and name all by their outcomes.

        Raises
        ------
        FormulaError
            If the first outcome is computed in the formula, or stands twice.
        """
        names = (self.response, *(part.predictor for part in self.further))
        if self.response_variables != (self.response,) or self.failures is not None:
            what = "Of several outcomes each is a column"
            fail(what, f"{self.response!r} on the left", "Compute it as a column first")
        if self.response in names[1:]:
            fail("An outcome has two formulas", f"{self.response!r} in {self.text!r}", "Join their right sides by '+'")
        if own := [*(one.name for one in self.latent), *(one.name for one in self.measured)]:
            what = "Several outcomes have no latent means and no predictors measured with error"
            fail(what, own[0], "Fit the outcomes one at a time")
        random = tuple(replace(term, predictor=term.predictor or self.response) for term in self.random)
        return replace(self, random=random, first=self.response, outcomes=names, response_variables=names)

    def for_thresholds(self, names: Sequence[str]) -> ModelFormula:
        """Give every threshold of an ordinal outcome the linear predictor that is written for all of them.

        Raises
        ------
        NotSupportedError
            If it has random terms.
        """
        (part,) = self.further
        own = [term.text for term in self.random if term.predictor == part.predictor]
        if own:
            raise NotSupportedError(
                f"Thresholds have no random terms of their own: normal ones of neighbours cross, and a probability "
                f"would be negative. The formula for {part.predictor!r} has {own[0]}. Write the term in the first "
                f"formula, where it moves all thresholds together, or use family='multinomial', which has random "
                f"effects of every category."
            )
        return replace(self, further=tuple(FixedPart(name, part.fixed, part.variables) for name in names))

    @property
    def places(self) -> dict[str | None, int]:
        """Number of every linear predictor by the name that its random terms have, None or `first` of the first."""
        return {None: 0, self.first: 0} | {part.predictor: k for k, part in enumerate(self.further, 1)}

    def as_written(self, term: RandomTerm) -> RandomTerm:
        """Give the term that categories of an outcome share; any other is itself."""
        if self.first is None:
            return term
        return replace(term, predictor=None, label=None if term.shared else term.label, shared=False)

    def prefix(self, k: int) -> str:
        """Give what stands before names of linear predictor ``k``: ``"zi."``, of the mean nothing."""
        name = self.further[k - 1].predictor if k else self.first
        return "" if name is None else f"{name}."

    def with_predictor(self, name: str, right: str) -> ModelFormula:
        """Add a further linear predictor, by the right side of its formula.

        Raises
        ------
        FormulaError
        """
        if name in {part.predictor for part in self.further}:
            fail(f"There are two formulas for {name!r}", repr(self.text), "Join their right sides by '+'")
        parsed = _parse(f"{name} ~ {right}")
        of_mean = "Only the mean has" if name in PARAMETERS else "Of several outcomes none after the first has"
        if parsed.offset is not None:
            cure = "Leave it out there" if name in PARAMETERS else "Put the formula with the offset first"
            fail(f"{of_mean} an offset", f"{parsed.offset!r} in that of {name!r}", cure)
        if not parsed.fixed_variables and not parsed.has_intercept:
            fail(f"The formula for {name!r} has no fixed column", parsed.text, "Keep the intercept or a predictor")
        if parsed.latent or parsed.measured:
            what = "latent means" if parsed.latent else "measured predictors"
            own_name = [*(one.name for one in parsed.latent), *(one.name for one in parsed.measured)][0]
            fail(f"{of_mean} {what}", f"{own_name} for {name!r}", "Leave it out there")
        own = tuple(replace(term, predictor=name) for term in parsed.random)
        part = FixedPart(name, parsed.fixed, parsed.fixed_variables)
        text = joined([self.text, f"{name} ~ {right.strip()}"])
        return replace(self, text=text, random=(*self.random, *own), further=(*self.further, part))

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
        first, *others = pieces_of(out.text)
        texts = {about(piece)[0]: piece for piece in others}
        text = joined([first, *(texts[one.name] for one in predictors)])
        return replace(out, text=text, further=tuple(named[one.name] for one in predictors))

    @property
    def further_variables(self) -> tuple[str, ...]:
        """Columns of the fixed parts of further linear predictors."""
        return tuple(name for part in self.further for name in part.variables)

    @property
    def fixed_columns(self) -> tuple[str, ...]:
        """Columns of the table that the fixed part is made from, also by latent means and behind measured ones."""
        stands_for = {one.name: one.column for one in self.latent} | {one.name: one.column for one in self.measured}
        return tuple(dict.fromkeys(stands_for.get(name, name) for name in self.fixed_variables))

    @property
    def variables(self) -> tuple[str, ...]:
        """Every column of the formula once: response, fixed, random, group factors."""
        slopes = [name for term in self.random for name in term.variables]
        factors = [name for term in self.grouping for name in term.factors]
        right = [*self.fixed_columns, *self.offset_variables, *self.further_variables, *slopes, *factors]
        return tuple(dict.fromkeys([*self.response_variables, *right, *self.residual_variables]))

    @property
    def grouping(self) -> tuple[RandomTerm, ...]:
        """What the levels are made from: groups without a random term, the lowest, then the random terms."""
        return (*self.bare, *self.random)

    def level_of(self, group: RandomTerm) -> RandomTerm | None:
        """Find the random term of a group; one name stands for the lowest of nested ones, ``child`` of school/child."""
        same = [term for term in self.random if sorted(term.factors) == sorted(group.factors)]
        named = [term for term in self.random if term.rungs[0] == group.factors]
        return next(iter([*same, *named]), None)

    def with_residual(self, group: RandomTerm | None, columns: Sequence[str]) -> ModelFormula:
        """Add the group and the columns of a residual structure."""
        bare = () if group is None or self.level_of(group) is not None else (group,)
        return replace(self, bare=bare, residual_variables=tuple(columns))

    def with_fixed(self, names: Sequence[str]) -> ModelFormula:
        """Add columns to the fixed part; where there are several outcomes, to that of each."""
        if not names:
            return self
        more = "".join(f" + `{name}`" for name in names)
        mask(more)  # refuses names that hold quotes
        side = side_of(self.fixed + more, more)
        first, *others = pieces_of(self.text)
        found = replace(self, fixed=side.text, fixed_variables=side.variables)
        if not self.outcomes:
            return replace(found, text=joined([first + more, *others]))
        sides = [side_of(part.fixed + more, more) for part in self.further]
        pairs = zip(self.further, sides, strict=True)
        parts = tuple(FixedPart(part.predictor, side.text, side.variables) for part, side in pairs)
        return replace(found, text=joined([piece + more for piece in (first, *others)]), further=parts)

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
        random = without_repeats([term.with_groups(columns_of) for term in self.random])
        latent = tuple(one.with_groups(columns_of) for one in self.latent)
        return replace(self, text=rename_groups(self.text, columns_of), random=random, latent=latent)


def parse(text: str, several: bool = False) -> ModelFormula:
    """Read a formula in lme4's syntax.

    Parameters
    ----------
    text : str
        ``"math ~ escs + (1 + escs | country/school)"``. Names with spaces stand in backticks. Formulas of further
        linear predictors follow after semicolons: ``"count ~ x + (1 | g); zi ~ x"``.
    several : bool
        Whether these are the linear predictors of further outcomes.

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
    Terms of one group with the same label between two bars, ``(1 | p | g)``, are correlated.
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
        first, *others = pieces_of(text)
        formula = _parse(first)
        for piece in others:
            formula = formula.with_predictor(*about(piece))
        check_labels(formula.random)
        if several:
            return formula.for_outcomes()
        return formula if others else replace(formula, text=text)
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
    rest, random = split_random(right)
    rest, latent = split_latent(rest)
    rest, measured = split_measured(rest)
    side = side_of(rest, right.strip()) if rest.strip() else Side(True, {})
    random_terms = without_repeats(random)
    asked = (text, response, response_variables, side.text, side.variables, side.intercept, random_terms)
    return ModelFormula(*asked, failures, offset, offset_variables, latent=latent, measured=measured)


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


def _without_brackets(text: str) -> str:
    """Take brackets off that enclose all of a text: ``(y + z)``."""
    while text.startswith("(") and all(within for within in brackets(text)[1:-1]):
        text = text[1:-1].strip()
    return text


def _response(text: str) -> tuple[str, tuple[str, ...]]:
    if not text:
        fail("The formula names no outcome", "nothing left of '~'", "Write the outcome's column before '~'")
    if re.fullmatch(NAME, text):
        return text.strip("`"), (text.strip("`"),)
    _, variables = inspect_code(text)
    if not variables or len(side_of(f"0 + {{{text}}}", text).terms) != 1:
        fail("The left side is not one outcome", text, "Name one column, or a function of it such as log(y)")
    inner = _without_brackets(text)
    within = brackets(inner)
    sums = [
        i for i, sign in enumerate(inner) if sign == "+" and not within[i] and not re.search(r"\de$", inner[:i], re.I)
    ]
    parts = [inner[i:j] for i, j in pairwise([0, *sums, len(inner)])]
    if sum(bool(inspect_code(part.lstrip("+"))[1]) for part in parts if part.strip("+ ")) > 1:
        fail("Several outcomes stand on the left side", text, f"Fit one at a time, or write I({inner}) for their sum")
    return text, variables
