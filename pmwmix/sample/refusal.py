"""Members of a fit by maximum likelihood that a posterior does not have."""

from __future__ import annotations

from pmwmix.errors import OptionError, near
from pmwmix.results.result import FitResult

INSTEAD = {
    "wald": "probabilities of the draws, fit.draws()",
    "df": "intervals of the draws, fit.tidy()",
    "loglik": "the draws' log-posterior, fit.idata['sample_stats']['lp']",
}


class NoSuchMemberError(OptionError, AttributeError):
    """A member that this kind of result does not have."""


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
    return NoSuchMemberError(
        f"A result has no member {name!r}.{near(name, members)} See the documentation of BayesResult."
    )


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


__all__ = ["NoSuchMemberError", "missing_member", "refuse_given"]
