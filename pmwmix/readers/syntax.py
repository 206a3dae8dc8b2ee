"""What the syntax beside a text file of fixed width says, columns, labels, codes for missing; where that syntax is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmwmix.errors import FileError

ENDINGS = (".sps", ".sas", ".txt")
HEAD = 20_000  # bytes of a .txt in which a reading command must stand to be taken for syntax
LARGEST = 20_000_000  # bytes of a syntax file
READS = re.compile(rb"(?im)^\s*(data\s+list\b|infile\b)")


@dataclass(frozen=True)
class Place:
    """Where a column stands in a line.

    Parameters
    ----------
    first, last : int
        Characters, counted from 1, both included.
    text : bool
    decimals : int
        Implied where the field has no point.
    """

    first: int
    last: int
    text: bool = False
    decimals: int = 0


@dataclass(frozen=True)
class Layout:
    """Columns of a text file and what is known of them; names as the reading command spells them."""

    places: dict[str, Place]
    labels: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[Any, str]] = field(default_factory=dict)
    declared: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict)

    def spelled(self) -> dict[str, str]:
        """Lower-case name to name."""
        return {name.lower(): name for name in self.places}


def text_of_syntax(path: Path) -> str:
    """Read a syntax file, which is UTF-8 or Windows-1252."""
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def syntax_of(path: Path) -> Path:
    """Find the syntax of a data file: of the same name, else the one in its folder whose reading command names it.

    SPSS comes before SAS.

    Raises
    ------
    FileError
        If there is none.
    """
    beside = [one for one in sorted(path.parent.iterdir()) if one.suffix.lower() in ENDINGS and one != path]
    same = [one for one in beside if one.stem.lower() == path.stem.lower() and one.suffix.lower() != ".txt"]
    naming = [one for one in beside if one not in same and one.stat().st_size < LARGEST and _names(one, path.name)]
    found = sorted([*same, *([] if same else naming)], key=lambda one: ENDINGS.index(one.suffix.lower()))
    if not found:
        raise FileError(
            f"Text of fixed width is read with the SPSS or SAS syntax that comes with it. There is none beside "
            f"{path.name!r}: no .sps or .sas of the same name, and none in the folder whose DATA LIST or INFILE names "
            f"the file. Put it there as {path.stem + '.sps'!r}; for a table with separators, use .csv."
        )
    return found[0]


def _names(syntax: Path, name: str) -> bool:
    with syntax.open("rb") as file:
        head = file.read(HEAD if syntax.suffix.lower() == ".txt" else LARGEST)
    return READS.search(head) is not None and name.lower().encode() in head.lower()


def listed(names: list[str], known: Mapping[str, str], order: list[str]) -> list[str]:
    """Spell names as the columns do, ``A TO C`` written out; those that are no columns are left out."""
    out: list[str] = []
    for k, name in enumerate(names):
        if name.upper() == "TO" and 0 < k < len(names) - 1:
            first, last = known.get(names[k - 1].lower()), known.get(names[k + 1].lower())
            if first is not None and last is not None:
                out += order[order.index(first) + 1 : order.index(last)]
        elif name.lower() in known:
            out.append(known[name.lower()])
    return out


def number_or_text(token: str) -> Any:
    """Turn a code into a number, or into text where it stood in quotes."""
    if token[:1] in "\"'":
        return unquoted(token)
    return float(token)


def unquoted(token: str) -> str:
    """Take off quotes; doubled ones inside are one."""
    return token[1:-1].replace(token[0] * 2, token[0]).strip()
