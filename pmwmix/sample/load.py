"""Read a saved fit or posterior; what samples is imported only for posteriors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmwmix.errors import OptionError
from pmwmix.interrupt import whole_import
from pmwmix.results.archive import damaged
from pmwmix.results.result import FitResult
from pmwmix.results.store import load_fields

if TYPE_CHECKING:
    from pmwmix.sample.result import BayesResult


def load(path: str | Path) -> FitResult | BayesResult:
    """Read a fit written by ``fit.save(path)``.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    FitResult
        Answers everything that the original did; standard errors by another method need a new fit.

    Raises
    ------
    DataError
        If the file is none of ours.
    """

    def build(fields: dict[str, Any]) -> FitResult:
        found = FitResult(**{**fields, "each": tuple(build(one) for one in fields["each"])})
        if not found.outcomes:
            return found
        try:
            return replace(found, sigma=found.sigmas)
        except (KeyError, AttributeError) as error:
            raise damaged(Path(path), "residual variances of other outcomes than the fit's") from error

    if isinstance(path, str | Path) and Path(path).suffix in (".nc", ".zarr"):
        whole_import("pmwmix.sample.result")
        from pmwmix.sample.keep import load_bayes
        from pmwmix.sample.result import BayesResult

        return load_bayes(Path(path), load, BayesResult)
    if not isinstance(path, str | Path):
        raise OptionError(f"A saved fit is read from a path. Got {type(path).__name__}. Pass the file's name.")
    return build(load_fields(Path(path)))
