"""The structure of a formula's text: what is quoted, and what stands in which brackets."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from pmwmix.spec.whitelist import QUOTED, fail

MAX_DEPTH = 50


def mask(text: str) -> str:
    """Blank what stands in quotes and backticks, so that only structure is left; same length."""
    for match in QUOTED.finditer(text):
        inside = "".join(group or "" for group in match.groups())
        if not inside.strip() or set(inside) & set("`'\"\\") or not inside.isprintable():
            what = "A quoted name or text in the formula is empty, or holds a quote or a backslash"
            fail(what, match[0], "Rename the column or category")
    blank = QUOTED.sub(lambda m: m[0][0] + "_" * (len(m[0]) - 2) + m[0][-1], text)
    odd = sorted(set(QUOTED.sub("", text)) & set("`'\"\\"))
    if odd:
        fail("The formula has an unclosed quote or backtick, or a backslash", f"{odd[0]} in {text!r}", "Close it")
    return blank


def brackets(text: str) -> list[str]:
    """Brackets around each character, outermost first: ``(`` groups terms, ``f`` encloses Python."""
    stack: list[tuple[str, str]] = []
    within, blank = [], mask(text)
    for i, character in enumerate(blank):
        if character in ")]}" and (not stack or stack.pop()[0] != {")": "(", "]": "[", "}": "{"}[character]):
            fail("The formula has a bracket that was not opened", f"{text[: i + 1]!r}", "Balance the brackets")
        within.append("".join(kind for _, kind in stack))
        if character in "([{":
            call = character == "{" or (i > 0 and re.match(r"[\w.]", blank[i - 1]))
            stack.append((character, "f" if call else "("))
        if len(stack) > MAX_DEPTH:
            fail("The formula is nested too deeply", f"{MAX_DEPTH + 1} brackets", f"Use at most {MAX_DEPTH}")
    if stack:
        fail("The formula has a bracket that is not closed", f"{stack[-1][0]} in {text!r}", "Balance the brackets")
    return within


def arguments(text: str) -> list[str] | None:
    """Arguments of a call that is the whole text; None if the call ends earlier."""
    blank = mask(text)
    depth, edges = 0, []
    for i, character in enumerate(blank):
        depth += (character in "([{") - (character in ")]}")
        if depth == 1 and character in "(,":
            edges.append(i)
        if depth == 0 and character == ")":
            return [text[a + 1 : b].strip() for a, b in pairwise([*edges, i])] if i == len(text) - 1 else None
    return None


def calls_replaced(text: str, call: re.Pattern[str], name_of: Callable[[str], str]) -> str:
    """Put a column, in backticks, in the place of every call of a function.

    Parameters
    ----------
    text : str
        Formula, or a part of one.
    call : pattern
        Ends with the opening bracket of a call.
    name_of : callable
        Gives the column's name for the text of a call; one that is not closed goes to the end of ``text``.
    """
    blank, out, at = mask(text), "", 0
    for match in call.finditer(blank):
        depth, end = 0, match.end() - 1
        for end in range(match.end() - 1, len(text)):
            depth += (blank[end] == "(") - (blank[end] == ")")
            if not depth:
                break
        out, at = f"{out}{text[at : match.start()]}`{name_of(text[match.start() : end + 1])}`", end + 1
    return out + text[at:]
