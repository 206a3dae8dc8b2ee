"""SAS syntax as the OECD publishes it: INPUT, LABEL, PROC FORMAT with FORMAT, IF ... THEN column = .N for missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pmwmix.errors import FileError
from pmwmix.readers.syntax import Layout, Place, number_or_text, unquoted

STRING = r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'"
SPAN = re.compile(r"([A-Za-z_]\w*)\s+(\$\s*)?(\d+)(?:\s*-\s*(\d+))?(?![\d.])(?:\s+\.(\d+))?")
POINTED = re.compile(r"@\s*(\d+)\s+([A-Za-z_]\w*)\s*:?\s*(\$\w*?)?(\d+)\.(\d*)")
LABEL = re.compile(rf"([A-Za-z_]\w*)\s*=\s*({STRING})")
CODE = re.compile(rf"((?:{STRING}|-?[\d.]+)(?:\s*,\s*(?:{STRING}|-?[\d.]+))*)\s*=\s*({STRING})")
MISSING = re.compile(r"if\s+(.+?)\s+then\s+([A-Za-z_]\w*)\s*=\s*\.\w?\s*$", re.IGNORECASE | re.DOTALL)


def read_sas(text: str, name: str) -> Layout:
    """Read the statements that say what a text file holds.

    Parameters
    ----------
    text : str
    name : str
        Of the syntax file, for errors.

    Raises
    ------
    FileError
        If no INPUT with columns is there.
    """
    layout = Layout({})
    formats: dict[str, dict[Any, str]] = {}
    uses: dict[str, str] = {}
    for statement in _statements(text):
        word, _, rest = statement.partition(" ")
        if word == "input":
            layout.places.update(_places(rest))
        elif word == "label":
            layout.labels.update({column: unquoted(label) for column, label in LABEL.findall(rest)})
        elif word == "value":
            head = rest.split(None, 1)
            formats[head[0].lower()] = _codes(head[1] if len(head) > 1 else "")
        elif word == "format":
            uses.update({column: used.lower() for column, used in re.findall(r"(\w+)\s+(\$?\w+?)\.", rest)})
        elif word == "if":
            _missing(statement, layout)
    if not layout.places:
        raise FileError(
            f"The syntax says of no column where it stands. {name!r} has no INPUT with columns. Take the syntax "
            f"that was published with the data."
        )
    known = layout.spelled()
    values = {known[c.lower()]: formats[f] for c, f in uses.items() if c.lower() in known and formats.get(f)}
    labels = {known[c.lower()]: label for c, label in layout.labels.items() if c.lower() in known}
    declared = {known[c.lower()]: ranges for c, ranges in layout.declared.items() if c.lower() in known}
    return Layout(layout.places, labels, values, declared)


def _statements(text: str) -> Iterator[str]:
    """Statements without comments, their first word in lower case and one blank behind it."""
    text = re.sub(rf"({STRING})|/\*.*?\*/", lambda found: found[1] or " ", text, flags=re.S)
    for statement in re.findall(rf"(?:{STRING}|[^;\"'])+", text):
        bare = statement.strip()
        if bare and not bare.startswith("*"):
            word, *rest = bare.split(None, 1)
            yield f"{word.lower()} {rest[0] if rest else ''}"


def _places(text: str) -> dict[str, Place]:
    out = {}
    for first, column, dollar, width, decimals in POINTED.findall(text):
        out[column] = Place(int(first), int(first) + int(width) - 1, bool(dollar), int(decimals or 0))
    for column, dollar, first, last, decimals in SPAN.findall(POINTED.sub(" ", text)):
        out[column] = Place(int(first), int(last or first), bool(dollar), int(decimals or 0))
    return out


def _codes(text: str) -> dict[Any, str]:
    out: dict[Any, str] = {}
    for codes, label in CODE.findall(text):
        for code in re.findall(rf"{STRING}|-?[\d.]+", codes):
            if code.strip(".-"):
                out[number_or_text(code)] = unquoted(label)
    return out


def _missing(statement: str, layout: Layout) -> None:
    """Take codes that a statement turns into a missing value, ``if X=97 or X=. then X=.N``, as declared missing."""
    found = MISSING.match(statement)
    if found is None:
        return
    condition, column = found[1], found[2]
    own = re.escape(column)
    codes = re.findall(rf"(?i)\b{own}\s*(?:=|\beq\b)\s*({STRING}|-?\d[\d.]*)", condition)
    for inside in re.findall(rf"(?i)\b{own}\s+in\s*\(([^)]*)\)", condition):
        codes += re.findall(rf"{STRING}|-?\d[\d.]*", inside)
    layout.declared.setdefault(column, []).extend((number_or_text(c), number_or_text(c)) for c in codes)
