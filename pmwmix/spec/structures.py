"""Covariance structures in the text of a formula: ``ar1(0 + occ | subject)``, ``cs(1 + x | g, hom = TRUE)``."""

from __future__ import annotations

import re
from itertools import pairwise

from pmwmix.spec.brackets import brackets, mask
from pmwmix.spec.whitelist import fail

# name in the formula -> structures with variances of their own and with a common one; the default stands first
STRUCTURES = {
    "us": ("us",),
    "diag": ("diag", "homdiag"),
    "cs": ("cs", "homcs"),
    "ar1": ("ar1", "hetar1"),
    "toep": ("toep", "homtoep"),
    "homdiag": ("homdiag",),
    "homcs": ("homcs",),
    "hetar1": ("hetar1",),
    "homtoep": ("homtoep",),
}
COMMON = frozenset({"homdiag", "homcs", "ar1", "homtoep"})
_CALL = re.compile(r"(?<![\w.])([^\W\d][\w.]*)\s*\(")
_HOM = re.compile(r"\s*hom\s*=\s*(TRUE|FALSE|True|False|T|F)\s*")


def take_structures(text: str) -> tuple[str, dict[int, str]]:
    """Blank the names of structures, and their arguments, around random terms.

    Parameters
    ----------
    text : str
        Right side of a formula.

    Returns
    -------
    str
        Of the same length; the terms are in plain brackets.
    dict of int to str
        Place of the opening bracket to the structure.

    Raises
    ------
    FormulaError
        If a structure has an argument that is not known.

    Examples
    --------
    >>> take_structures("x + cs(1 + x | g, hom = TRUE)")
    ('x +   (1 + x | g            )', {6: 'homcs'})
    """
    found: dict[int, str] = {}
    within = brackets(text)
    for match in list(_CALL.finditer(mask(text))):
        start, name = match.end() - 1, match[1]
        end, bars, commas = _inside(mask(text), start)
        if name not in STRUCTURES or not bars or within[match.start()]:
            continue  # a function of columns: cs(x, df=4) is a spline, I(a | b) a condition
        shown = text[match.start() : end + 1]
        arguments = [text[a + 1 : b] for a, b in pairwise([*commas, end])]
        found[start] = _chosen(name, arguments, shown)
        first = commas[0] if commas else end
        gap = match.start()
        text = text[:gap] + " " * (start - gap) + text[start:first] + " " * (end - first) + text[end:]
    return text, {place: name for place, name in found.items() if name != "us"}


def _inside(blank: str, start: int) -> tuple[int, list[int], list[int]]:
    """Place of the closing bracket, and of the bars and commas directly inside."""
    bars: list[int] = []
    commas: list[int] = []
    depth = 0
    for place in range(start, len(blank)):
        depth += (blank[place] in "([{") - (blank[place] in ")]}")
        if depth == 0:
            return place, bars, commas
        if depth == 1 and blank[place] == "|":
            bars.append(place)
        if depth == 1 and blank[place] == "," and bars:
            commas.append(place)
    return len(blank) - 1, bars, commas


def _chosen(name: str, arguments: list[str], shown: str) -> str:
    structures = STRUCTURES[name]
    if not arguments:
        return structures[0]
    said = _HOM.fullmatch(arguments[0])
    if len(arguments) > 1 or said is None or len(structures) < 2:
        what = (
            f"{name}() has one argument besides the term, hom" if len(structures) > 1 else f"{name}() has no argument"
        )
        fail(what, shown, "Write cs(0 + occasion | subject, hom = TRUE) for equal variances, or leave it out")
    common = said[1].startswith("T")
    return next(one for one in structures if (one in COMMON) == common)
