"""Every message of the package: what is wrong, which column or group, what to do.

Knows nothing of tables, formulas or mathematics.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

PLAUSIBLE = (3, 5, 10, 20)  # numbers of plausible values in studies


class PmwmixError(Exception):
    """Parent of every error that pmwmix raises on purpose."""

    def __str__(self) -> str:  # KeyError would show the repr of its message
        return " ".join(str(part) for part in self.args)


class OptionError(PmwmixError, ValueError):
    """An argument has a value that is not among the legal ones."""


class FormulaError(PmwmixError, ValueError):
    """The formula cannot be read, or asks for something that is not allowed."""


class DataError(PmwmixError, ValueError):
    """The table cannot be used as it is."""


class MissingColumnsError(DataError, KeyError):
    """Columns that the call names are not in the table."""


class FileError(DataError):
    """A file or folder that cannot be read as it is."""


class MergeError(DataError):
    """Files that cannot be joined by their ids."""


class MissingPackageError(PmwmixError, ImportError):
    """An optional package is not installed; the message has the command."""


class WeightError(DataError):
    """Sampling weights that cannot be weights."""


class NestingError(DataError):
    """The levels of the hierarchy contradict each other."""


class DesignError(PmwmixError, ValueError):
    """The survey design (strata, PSU, replicates) cannot be used."""


class NotSupportedError(PmwmixError, NotImplementedError):
    """A combination that is not built yet; the message names the nearest one that is."""


class MemoryBudgetError(PmwmixError, MemoryError):
    """A streamed fit would hold more than its memory budget."""


class ClusterError(PmwmixError, RuntimeError):
    """The cluster that should do the work is gone."""


class PmwmixWarning(UserWarning):
    """Something that changes how a result should be read."""


def some(names: Iterable[object], shown: int = 5) -> str:
    """List the first few names and the count of the others: ``'a', 'b' and 12 more``."""
    everything = list(names)
    text = ", ".join(repr(name) if isinstance(name, str) else str(name) for name in everything[:shown])
    more = len(everything) - shown
    return f"{text} and {more} more" if more > 0 else text


def near(name: str, available: Sequence[str]) -> str:
    """Give the nearest available name as a question, or nothing."""
    lowered = {str(a).lower(): str(a) for a in reversed(list(available))}
    match = difflib.get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.6)
    return f" Did you mean {lowered[match[0]]!r}?" if match else ""


def near_column(name: str, available: Sequence[str], reading: bool = False) -> str:
    """Give the nearest column as a question; or a set of numbered columns, for which one of them cannot stand."""
    found = near(name, available)
    sets = numbered_sets(available)
    letters = {template: re.sub(r"\W|_", "", template).casefold() for template in sets}
    asked = re.sub(r"\W|_", "", str(name)).casefold()
    exact = [t for t, plain in letters.items() if asked and asked in (plain, plain.removeprefix("pv"))]
    close = [t for t, columns in sets.items() if any(f" {one!r}?" in found for one in columns)]
    for template in exact or close:
        columns = sets[template]
        if len(columns) not in PLAUSIBLE and not template.casefold().startswith("pv"):
            return "" if len(columns) > max(PLAUSIBLE) and not exact else found
        said = f" {columns[0]!r} to {columns[-1]!r} are a set of numbered columns"
        if reading:
            return f"{said}: ask for {template!r}."
        called = str(name) if str(name).isidentifier() and not re.search(r"\d", str(name)) else "score"
        return (
            f"{said}: if they are plausible values, write pv={{{called!r}: {template!r}}} and {called} in the formula."
        )
    return found


def numbered_sets(available: Sequence[str]) -> dict[str, list[str]]:
    """Find columns that are numbered from 1 on, by template: ``PV{}MATH``."""
    found: dict[str, dict[int, str]] = {}
    for name in map(str, available):
        if match := re.fullmatch(r"(\D*)0*([1-9]\d*)(\D*)", name):
            found.setdefault(f"{match[1]}{{}}{match[3]}", {})[int(match[2])] = name
    return {
        template: [columns[k] for k in sorted(columns)]
        for template, columns in found.items()
        if len(columns) >= 3 and sorted(columns) == list(range(1, len(columns) + 1))
    }


def missing_columns(missing: Sequence[str], available: Sequence[str], role: str = "") -> MissingColumnsError:
    """Build the error for columns that are not in the table, all of them at once."""
    hints = "".join(dict.fromkeys(near_column(name, available) for name in missing[:3]))
    where = f" ({role})" if role else ""
    if role == "newdata" and (own := [name for name in missing if name.startswith(("latent_mean(", "measured("))]):
        return MissingColumnsError(
            f"Predictions need values of latent or true predictors, which the columns measured with error are not. "
            f"Missing{where}: {some(missing, 12)}. Give newdata a column named {own[0]!r} with such values."
        )
    return MissingColumnsError(
        f"The table lacks columns that the call uses. Missing{where}: {some(missing, 12)}.{hints} "
        f"Check the spelling and the case; the table has {len(available)} columns: {some(available, 12)}."
    )
