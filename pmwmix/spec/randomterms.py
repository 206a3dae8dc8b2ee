"""Random terms of a formula: ``(1 + escs | school)``, their groups and labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pmwmix.spec.brackets import brackets, mask
from pmwmix.spec.groupnames import quote, spelled_out
from pmwmix.spec.structures import take_structures
from pmwmix.spec.terms import Side, side_of
from pmwmix.spec.whitelist import fail

NAME = r"(?:`[^`]+`|[^\W\d][\w.]*)"
_GROUP = re.compile(rf"{NAME}(?:\s*[:/]\s*{NAME})*")


@dataclass(frozen=True, slots=True)
class RandomTerm:
    """Effects that vary between the groups of one factor; see :func:`parse`."""

    effects: tuple[str, ...]  # "1" for the intercept, then terms in formulaic's spelling
    rungs: tuple[tuple[str, ...], ...]  # columns of the grouping factor and of those that it lies in, lowest first
    variables: tuple[str, ...]  # columns that the effects use
    predictor: str | None = None  # name of the further linear predictor that it belongs to
    label: str | None = None  # terms of one group with the same label are correlated
    shared: bool = False  # whether all categories of the outcome have such a term, by a label of ours
    structure: str = "us"  # of the covariance of its effects, unstructured by default

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
        label = "" if self.label is None or self.shared else f"{self.label} | "
        written = "" if self.structure == "us" else self.structure
        return f"{written}({self.expr} | {label}{':'.join(quote(name) for name in self.factors)})"

    @property
    def place(self) -> str:
        """The term, after the name of its linear predictor unless that is the mean's: ``"zi ~ (1 | schoolid)"``."""
        return self.text if self.predictor is None else f"{self.predictor} ~ {self.text}"

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


def split_random(text: str) -> tuple[str, list[RandomTerm]]:
    """Cut ``(expr | group)``, or ``ar1(expr | group)``, out of a right side.

    Raises
    ------
    FormulaError
    """
    text, structures = take_structures(text)
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
        structure = structures.get(start, "us")
        shown = ("" if structure == "us" else structure) + text[start:end]
        if before[-1:] not in ("", "+") or text[end:].lstrip()[:1] not in ("", "+", "-"):
            fail("A random term is not joined by '+'", shown, f"Write ... + {shown}")
        label, split = _between(text, bars, shown), bars[-1] - bars[0] == 1
        rest = before[:-1]
        if structure != "us" and len(bars) > 1:
            fail("A covariance structure has two bars, which say another one", shown, "Write (x | g) inside it")
        terms = _random(text[start + 1 : bars[0]], text[bars[-1] + 1 : end - 1], shown, split)
        random += [replace(term, label=label, structure=structure) for term in terms]
    return rest + text[end:], random


def _between(text: str, bars: Sequence[int], shown: str) -> str | None:
    """Label between the two bars of ``(x | p | g)``; None of ``(x | g)`` and of ``(x || g)``."""
    if len(bars) == 1 or (len(bars) == 2 and bars[1] == bars[0] + 1):
        return None
    label = text[bars[0] + 1 : bars[-1]].strip()
    if len(bars) > 2 or not re.fullmatch(r"\w+", label):
        cure = "Write (x | g), (x || g) without correlations, or (x | label | g) to correlate terms of one label"
        fail("A random term has more than one bar", shown, cure)
    return label


def check_labels(terms: Sequence[RandomTerm]) -> None:
    """Refuse a label that correlates nothing: it may be meant as a group.

    Raises
    ------
    FormulaError
    """
    for term in terms:
        alike = [other for other in terms if (other.label, set(other.factors)) == (term.label, set(term.factors))]
        if term.label is not None and len(alike) < 2:
            what = f"A random term has more than one bar, and no other of {term.group!r} has its label {term.label!r}"
            cure = "Give the terms to be correlated the same label, or write (x | g)"
            fail(what, term.place, cure)


def by_label(terms: Sequence[RandomTerm]) -> list[RandomTerm]:
    """Put terms with one label beside each other, otherwise in their order."""
    first: dict[str, int] = {}
    for k, term in enumerate(terms):
        if term.label is not None:
            first.setdefault(term.label, k)
    places = [(k if term.label is None else first[term.label], k) for k, term in enumerate(terms)]
    return [terms[k] for _, k in sorted(places)]


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
    for token in re.findall(rf"{NAME}|/", text):
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


def without_repeats(random: Sequence[RandomTerm]) -> tuple[RandomTerm, ...]:
    """Refuse two terms of one linear predictor with the same effect of one group.

    Raises
    ------
    FormulaError
    """
    for i, term in enumerate(random):
        for other in random[:i]:
            same = set(term.effects) & set(other.effects)
            if set(other.factors) == set(term.factors) and same and other.predictor == term.predictor:
                what = f"Two random terms hold the same effect {min(same)!r} of group {term.group!r}"
                fail(what, f"{other.text} and {term.text}", "Drop it from one of them, as in (1 | g) + (0 + x | g)")
    return tuple(random)
