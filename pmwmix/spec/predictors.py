"""What a linear predictor of a family is. Most families have one, of the mean; zero inflation or scale add further."""

from __future__ import annotations

from dataclasses import dataclass

THRESHOLDS = "thresholds"  # what a formula for all thresholds of an ordinal outcome is about
PARAMETERS = ("zi", "hu", "sigma", "theta", "phi", THRESHOLDS)  # left sides that no further outcome has


@dataclass(frozen=True)
class Predictor:
    """One linear predictor of a family.

    Parameters
    ----------
    name : str
        ``"mu"`` of the mean, which the model formula is about; the coefficients of a further one bear its name.
    links : tuple of str
        The default first.
    default : str or None
        Right side of its formula where none is given, as ``"1"``; None if it has to be given.
    """

    name: str
    links: tuple[str, ...]
    default: str | None = None
