"""Single arguments of the call: names, numbers of nodes, and the call itself as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.spec.checks import is_whole

COMMAND: ContextVar[str | None] = ContextVar("COMMAND", default=None)  # the shell command, where one was typed
METHODS = ("ml", "reml", "pairwise", "bayes")

ELSEWHERE = {  # variance methods under names that they have in other programs
    **dict.fromkeys(
        ("observed", "oim", "hessian", "sas", "lme4", "nlme", "glmmtmb", "mixedmodels", "expected", "naive"),
        "The inverse of the whole observed information is not built. Use vcov='model', which inverts the information "
        "of coefficients and of variances apart, as lme4 does",
    ),
    **dict.fromkeys(("cluster", "sandwich", "hc0", "hc1", "hc2", "hc3", "mlr", "huber"), "Use vcov='robust' or 'CR2'"),
    **dict.fromkeys(("bootstrap", "boot"), "Use fit.bootstrap()"),
    **dict.fromkeys(("brr", "jackknife", "jk1", "jk2", "fay", "sdr"), "Use vcov='replicate' with replicate weights"),
}


def check_vcov(vcov: str | None) -> None:
    """Refuse variance methods that other programs have, and say what is here.

    Raises
    ------
    OptionError
    """
    if vcov is not None and vcov.lower() in ELSEWHERE:
        raise OptionError(
            f"There is no variance method {vcov!r}. It was asked for as vcov={vcov!r}. {ELSEWHERE[vcov.lower()]}."
        )


def check_names(method: str, vcov: str | None) -> None:
    """Refuse names that are no text, and methods that do not exist.

    Raises
    ------
    OptionError
    """
    for name, value in (("method", method), ("vcov", vcov)):
        if value is not None and not isinstance(value, str):
            raise OptionError(
                f"The argument {name} is a text. Got {type(value).__name__} {value!r}. Write it in quotes."
            )
    check_vcov(vcov)
    if method not in METHODS:
        raise OptionError(
            f"Unknown method {method!r}.{near(str(method), METHODS)} Use 'ml', 'reml', 'pairwise' or 'bayes'."
        )


def check_sampled(family: str, is_sampled: bool, several: str) -> None:
    """Refuse families without posteriors; ``several`` names what they have linear predictors for, if several.

    Raises
    ------
    NotSupportedError
    """
    if not is_sampled:
        raise NotSupportedError(
            f"Posteriors are not built for this family. Asked for method='bayes' with family={family!r}. "
            f"Use method='ml', or family='cumulative'."
        )
    if several:
        raise NotSupportedError(
            f"Families with several linear predictors are not sampled yet. {family!r} has them for {several}. "
            f"Use method='ml'."
        )


def is_pairwise(method: str, closed_form: bool, family: str, residual: Any) -> bool:
    """Whether the likelihood of pairs was asked for; refuse models that have none here.

    Raises
    ------
    NotSupportedError
    """
    if method != "pairwise":
        return False
    if not closed_form:
        raise NotSupportedError(
            f"The pairwise likelihood is built for linear models. Asked for method={method!r} with family={family!r}. "
            f"Use method='ml'."
        )
    if residual is not None:
        raise NotSupportedError(
            f"The pairwise likelihood is built for independent residuals of one variance. Asked for method={method!r} "
            f"with residual=. Use method='ml'."
        )
    return True


def scaling_of(method: str, scaling: Any) -> Any:
    """Give the scaling to use: none in a pairwise likelihood, since a preset's is about another one.

    Raises
    ------
    NotSupportedError
    """
    if method == "pairwise" and scaling not in (None, "none"):
        raise NotSupportedError(
            f"The pairwise likelihood weights pairs by how likely they were sampled, and scaled weights do not say it. "
            f"Got scaling={scaling!r} with method='pairwise'. Leave scaling out: it is not needed there."
        )
    return "none" if method == "pairwise" else scaling


def read_nodes(n_agq: Any) -> Any:
    """Numbers of nodes as an int, a tuple of them, or None.

    Raises
    ------
    OptionError
    """
    nodes = n_agq if isinstance(n_agq, tuple | list) else (n_agq,)
    if n_agq is not None and not all(is_whole(n) and 1 <= n <= 200 for n in nodes):
        raise OptionError(
            f"Numbers of quadrature nodes are whole and from 1 to 200. Got n_agq={n_agq!r}. Leave it out."
        )
    if n_agq is None:
        return None
    return tuple(int(n) for n in nodes) if isinstance(n_agq, tuple | list) else int(n_agq)


def read_chunk(chunk_size: Any) -> int | None:
    """Check a number of cells.

    Raises
    ------
    OptionError
    """
    if chunk_size is not None and not (is_whole(chunk_size) and chunk_size > 0):
        raise OptionError(f"The argument chunk_size is a whole number above 0. Got {chunk_size!r}. Leave it out.")
    return None if chunk_size is None else int(chunk_size)


def call_text(formula: str | Sequence[str], given: Mapping[str, Any]) -> str:
    """Write the call, without what was left out; from the command line the command."""
    if (command := COMMAND.get()) is not None:
        return command
    said = [f"{name}={_written(value)}" for name, value in given.items() if value is not None]
    texts = [" ".join(text.split()) for text in ([formula] if isinstance(formula, str) else formula)]
    shown = repr(texts[0] if isinstance(formula, str) else texts)
    return f"pmwmix.fit({', '.join([shown, 'data', *said])})"


def _written(value: Any) -> str:
    """Write a value as it is typed; a function by its name, which is the same in every session."""
    return getattr(value, "__name__", repr(value)) if callable(value) else repr(value)
