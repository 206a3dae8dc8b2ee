"""One of several outcomes of a row: its name, family and link, and the rows that have it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError, some
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._outcomes import refuse
from pmwmix.links import LINKS, Link
from pmwmix.spec.outcome import Outcome, Response

LARGEST = 1e70  # fourth powers of larger values are no numbers


@dataclass(frozen=True)
class Member:
    """One of the outcomes.

    Parameters
    ----------
    outcome, family, link : str
    labels : tuple of str or None
        Categories that occur, empty of numbers; None as long as no outcome has been seen.
    """

    outcome: str
    family: str
    link: str
    labels: tuple[str, ...] | None = None

    @property
    def parts(self) -> tuple[Family, Link]:
        """The implementations."""
        return FAMILIES[self.family], LINKS[self.link]

    @property
    def has_closed_form(self) -> bool:
        """Whether its residuals are correlated with those of others."""
        family, link = self.parts
        return family.has_closed_form(link)

    @property
    def n_phi(self) -> int:
        """Number of further parameters: of an ordinal outcome thresholds after the first, which its intercept is."""
        family = self.parts[0]
        whole = family.n_phi(Response(np.zeros(0), (), np.zeros(0), self.labels or ()))
        return whole - family.has_thresholds

    def whole(self, phi: Any) -> Any:
        """Add the first threshold, 0, to the parameters of an ordinal outcome."""
        if not self.parts[0].has_thresholds:
            return phi
        return [0.0, *phi] if isinstance(phi, list) else np.concatenate([[0.0], phi])

    def read(self, outcome: Outcome) -> tuple[Array, Response]:
        """Read the rows that have the outcome: which they are (n,), and the response of these."""
        seen = outcome.values >= 0 if outcome.categories is not None else ~np.isnan(outcome.values)
        if not seen.any():
            raise DataError(
                f"An outcome has no values. {self.outcome!r} is missing in all {len(seen)} rows that are left. Check "
                f"the column, or leave its formula out."
            )
        rows = None if outcome.rows is None else outcome.rows[seen]
        refuse(replace(outcome, values=outcome.values[seen], rows=rows), np.abs(outcome.values[seen]) > LARGEST,
               "Values are too large to compute with.", "Divide the column by a power of ten.")  # fmt: skip
        found = self.parts[0].read(replace(outcome, values=outcome.values[seen], rows=rows))
        if self.labels is not None and found.categories != self.labels:
            raise DataError(
                f"All plausible values of an outcome need the same categories. One of {self.outcome!r} has "
                f"{some(found.categories) or 'numbers'}, the first {some(self.labels) or 'numbers'}. Merge categories "
                f"that some of them lack with their neighbours."
            )
        return seen, found

    def spread(self, seen: Array, found: Response) -> tuple[Array, tuple[Array, ...], Array]:
        """Outcome, its further columns and its constant in all rows; those without it repeat the first that has it."""
        place = np.zeros(len(seen), dtype=np.int64)
        place[seen] = np.arange(len(found.y))
        return found.y[place], tuple(one[place] for one in found.extra), np.where(seen, found.constant[place], 0.0)
