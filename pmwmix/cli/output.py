"""What leaves the command line: tables on the screen, files, and the pairs that options are made of."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SAMPLES = {"pv": "math=PV{}MATH", "center": "escs=school"}


def check_targets(*paths: Path | None) -> None:
    """Refuse places that cannot be written before anything is computed.

    Raises
    ------
    OptionError
    """
    from pmwmix.writing import target_of

    for path in paths:
        if path is not None:
            target_of(path, "A result")


def write_text(path: Any, text: str) -> None:
    """Write a file of results, whole or not at all.

    Raises
    ------
    FileError
    """
    from pmwmix.writing import replacing, target_of

    with replacing(target_of(path, "A result")) as new:
        new.write_text(text, encoding="utf-8")


def pairs(given: Sequence[str] | None, option: str) -> dict[str, str] | None:
    """Turn ``NAME=VALUE`` texts into a dict.

    Raises
    ------
    OptionError
    """
    from pmwmix.errors import OptionError

    if not given:
        return None
    out = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise OptionError(
                f"--{option} takes NAME=VALUE. Got {text!r}. Write for example --{option} {SAMPLES[option]}."
            )
        out[name] = value
    return out


def print_table(table: Any) -> None:
    """Print a table of texts; long cells wrap."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in table.columns:
        out.add_column(name, overflow="fold")
    for row in table.itertuples(index=False):
        out.add_row(*(Text(str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 140).print(out)
