"""SPSS syntax as the OECD publishes it: DATA LIST, VARIABLE LABELS, VALUE LABELS, MISSING VALUES."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pmwmix.errors import FileError
from pmwmix.readers.syntax import Layout, Place, listed, number_or_text, unquoted

COMMAND = re.compile(
    r"(data\s+list|var(?:iable)?\s+lab(?:el)?s?|(?:add\s+)?val(?:ue)?\s+lab(?:el)?s?|missing\s+val(?:ue)?s?|formats?|"
    r"variable\s+level|save|execute|exe|set|recode|compute|if|sort|list|descriptives|frequencies|get|print|write|"
    r"comment|file\s+handle|weight|select|display|rename|string|numeric|subtitle|title)\b",
    re.IGNORECASE,
)
TOKEN = re.compile(r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|[(),/=]|-(?=\s)|[^\s(),/=\"']+")
QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
COLUMN = re.compile(r"([A-Za-z@#$][\w.@#$]*)\s+(\d+)(?:\s*-\s*(\d+))?\s*(?:\(\s*([^)]*?)\s*\))?")
LOWEST, HIGHEST = ("LO", "LOWEST"), ("HI", "HIGHEST")


def read_spss(text: str, name: str) -> Layout:
    """Read the commands that say what a text file holds.

    Parameters
    ----------
    text : str
    name : str
        Of the syntax file, for errors.

    Raises
    ------
    FileError
        If no DATA LIST with columns is there, or a case takes several lines.
    """
    layout = Layout({})
    for command in _commands(text):
        word = " ".join(command.split(None, 2)[:2]).upper()
        if word.startswith("DATA LIST"):
            layout.places.update(_places(command, name))
        elif word.startswith("VAR") and "LAB" in word:
            _variable_labels(command, layout)
        elif word.startswith(("VAL", "ADD")):
            _value_labels(command, layout)
        elif word.startswith("MISSING"):
            _missing(command, layout)
    if not layout.places:
        raise FileError(
            f"The syntax says of no column where it stands. {name!r} has no DATA LIST with columns. Take the "
            f"syntax that was published with the data."
        )
    return layout


def _commands(text: str) -> Iterator[str]:
    """Cut the text at periods that end a line and before lines that begin with a command; leave comments out."""
    text = re.sub(r"/\*.*?(\*/|$)", " ", text, flags=re.M)
    lines: list[str] = []
    comment = False
    for raw in text.splitlines():
        line = raw.strip()
        starts = COMMAND.match(line) is not None
        if comment and not starts:
            comment = bool(line) and not line.endswith(".")
            continue
        comment = False
        if (starts or line.startswith("*")) and lines:
            yield " ".join(lines)
            lines = []
        if line.startswith("*") or line.upper().startswith("COMMENT"):
            comment = not line.endswith(".")
            continue
        ends = QUOTED.sub("x", line).endswith(".")
        lines.append(line[:-1] if ends else line)
        if ends:
            yield " ".join(lines)
            lines = []
    if lines:
        yield " ".join(lines)


def _places(command: str, name: str) -> dict[str, Place]:
    bare = QUOTED.sub(" ", command)
    head, _, rest = bare.partition("/")
    records = re.search(r"records\s*=\s*(\d+)", head, re.IGNORECASE)
    if (records and int(records[1]) > 1) or re.search(r"/\s*2\b", rest):
        raise FileError(
            f"A row must be one line of the text file. The DATA LIST of {name!r} reads several records per case. "
            f"Convert the file to .sav with SPSS or PSPP."
        )
    out = {}
    for column, first, last, kind in COLUMN.findall(rest):
        letters = re.match(r"[A-Za-z]*", kind)[0].upper()  # type: ignore[index]
        digits = re.findall(r"\d+", kind)
        implied = int(digits[-1]) if digits and letters in ("", "F", "N", "COMMA", "DOT") else 0
        out[column] = Place(int(first), int(last or first), letters in ("A", "AHEX"), implied)
    return out


def _variable_labels(command: str, layout: Layout) -> None:
    tokens, known = [t for t in TOKEN.findall(command) if t != "/"][2:], layout.spelled()
    for column, label in pairwise(tokens):
        if label[0] in "\"'" and column.lower() in known:
            layout.labels[known[column.lower()]] = unquoted(label)


def _value_labels(command: str, layout: Layout) -> None:
    words = 3 if command.upper().startswith("ADD") else 2
    known, order = layout.spelled(), list(layout.places)
    names: list[str] = []
    labels: dict[Any, str] = {}
    code: Any = None
    for token in [*TOKEN.findall(command)[words:], "/"]:
        if token == "/":
            for column in listed(names, known, order):
                layout.values.setdefault(column, {}).update(labels)
            names, labels, code = [], {}, None
        elif code is not None:
            labels[code], code = unquoted(token) if token[0] in "\"'" else token, None
        elif token[0] in "\"'" or (names and _is_number(token)):
            code = number_or_text(token)
        elif token != ",":
            names.append(token)


def _missing(command: str, layout: Layout) -> None:
    known, order = layout.spelled(), list(layout.places)
    for names, values in re.findall(r"([^()]+)\(([^()]*)\)", re.sub(r"(?i)^\s*missing\s+\w+", "", command)):
        tokens = [token for token in TOKEN.findall(values) if token != ","]
        ranges: list[tuple[Any, Any]] = []
        k = 0
        while k < len(tokens):
            wide = k + 2 < len(tokens) and tokens[k + 1].upper() == "THRU"
            ends = (tokens[k], tokens[k + 2] if wide else tokens[k])
            ranges.append((_end(ends[0]), _end(ends[1])))
            k += 3 if wide else 1
        for column in listed([t for t in TOKEN.findall(names) if t not in "/,"], known, order):
            layout.declared[column] = ranges


def _end(token: str) -> Any:
    if token.upper() in LOWEST:
        return -math.inf
    return math.inf if token.upper() in HIGHEST else number_or_text(token)


def _is_number(token: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", token, re.IGNORECASE) is not None
