"""From the fit by maximum likelihood to a BayesResult."""

from __future__ import annotations

from typing import Any

from pmwmix.results.result import FitResult
from pmwmix.sample.posterior import sample
from pmwmix.sample.request import Request
from pmwmix.sample.result import BayesResult


def bayes(ml: FitResult, request: Request, priors: Any) -> BayesResult:
    """Sample the posterior of a model that was fitted by maximum likelihood.

    Parameters
    ----------
    ml : FitResult
    request : Request
    priors : dict or None

    Returns
    -------
    BayesResult
    """
    found = sample(ml, request, priors)
    common: dict[str, Any] = {
        "priors": found.priors,
        "corrected": found.corrected,
        "own_notes": found.notes,
        "how": request.said,
    }
    each = tuple(
        BayesResult(ml=one, idata=tree, live=live, **common)
        for one, tree, live in zip(ml.fits, found.trees, found.live, strict=True)
    )
    return each[0] if len(each) == 1 else BayesResult(ml=ml, idata=found.tree, each=each, **common)


__all__ = ["bayes"]
