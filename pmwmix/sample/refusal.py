"""Members of a fit by maximum likelihood that a posterior does not have."""

from __future__ import annotations

from pmwmix.errors import OptionError
from pmwmix.results.hints import NoSuchMemberError, no_such_member
from pmwmix.results.result import FitResult

INSTEAD = {
    "wald": "probabilities of the draws, fit.draws()",
    "contrast": "differences of the draws, fit.draws()",
    "aic": "leave-one-out checks of ArviZ",
    "bic": "leave-one-out checks of ArviZ",
    "df": "intervals of the draws, fit.tidy()",
    "loglik": "the draws' log-posterior, fit.idata['sample_stats']['lp']",
}


def missing_member(name: str) -> AttributeError:
    """Make the error for a member that is not there.

    Parameters
    ----------
    name : str
    """
    if name.startswith("_"):
        return AttributeError(name)
    members = [member for member in dir(FitResult) if not member.startswith("_")]
    if name in members or name in FitResult.__dataclass_fields__:
        also = f", or {INSTEAD[name]}" if name in INSTEAD else ""
        return NoSuchMemberError(
            f"A posterior has no {name!r}. This result was made with method='bayes'. Use fit.ml.{name}{also}."
        )
    return no_such_member(name, [*members, *FitResult.__dataclass_fields__], "BayesResult")


def refuse_given(verb: str, **given: object) -> None:
    """Refuse arguments of a FitResult's verb that draws have no use for.

    Raises
    ------
    OptionError
    """
    said = [name for name, value in given.items() if value is not None]
    if said:
        raise OptionError(
            f"Intervals of a posterior are quantiles of its draws. Got {said[0]}={given[said[0]]!r} in {verb}. Leave "
            f"it out, or ask fit.ml."
        )


__all__ = ["missing_member", "refuse_given"]
