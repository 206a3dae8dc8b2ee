"""Whether fits can be pooled: the same model, fitted to the same rows in the same way."""

from __future__ import annotations

from collections.abc import Sequence

from pmwmix.errors import OptionError
from pmwmix.results import FitResult


def same_terms(fits: Sequence[FitResult]) -> None:
    """Refuse to pool fits of different models, naming what differs.

    Raises
    ------
    OptionError
    """
    first = fits[0]
    for number, other in enumerate(fits[1:], start=2):
        mine, theirs = list(first.coef.index), list(other.coef.index)
        if mine != theirs:
            differ = sorted(set(mine) ^ set(theirs)) or theirs
            raise OptionError(
                f"Only fits of one model can be pooled. Fit {number} differs from the first in {', '.join(differ)}. "
                f"Use the same formula and the same categories in all of them."
            )
        keys = [
            list(zip(f.varcorr["grp"], f.varcorr["var1"], f.varcorr["var2"].fillna(""), strict=True))
            for f in (first, other)
        ]
        if keys[0] != keys[1]:
            raise OptionError(
                f"Only fits of one model can be pooled. Fit {number} has other random effects than the first: "
                f"{other.formula!r}. Use the same random terms in all of them."
            )
        if (first.family, first.link) != (other.family, other.link):
            raise OptionError(
                f"Only fits of one model can be pooled. Fit {number} has family={other.family!r} with "
                f"link={other.link!r}, the first {first.family!r} with {first.link!r}. Use the same in all of them."
            )
        if first.nobs != other.nobs or not first.n_groups.equals(other.n_groups) or not first.index.equals(other.index):
            raise OptionError(
                f"Only fits of the same rows can be pooled. Fit {number} has {other.nobs} rows in "
                f"{dict(other.n_groups)} groups, the first {first.nobs} in {dict(first.n_groups)}, or their row labels "
                f"differ. Fit all of them to the same rows."
            )
        for name in ("vcov", "method", "scaling", "weights", "conditional"):
            a, b = getattr(first.settings, name), getattr(other.settings, name)
            if a != b:
                raise OptionError(
                    f"Fits to be pooled must be made alike. Fit {number} has {name}={b!r}, the first {a!r}. "
                    f"Refit with the same options."
                )
