"""What was asked of the residuals: their correlation inside groups and their variance, before any data are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pmwmix.errors import FormulaError, NotSupportedError, OptionError, near, some
from pmwmix.spec.formula import RandomTerm, parse

KEYS = ("correlation", "time", "distance", "group", "nugget", "variance")
WHOLE = ("ar1", "toeplitz", "ma1", "arma11")  # in whole steps of time
SPATIAL = ("exponential", "gaussian")
CORRELATIONS = (*WHOLE, "car1", "compsymm", "unstructured", *SPATIAL)
VARIANCES = ("ident", "power", "exp")
FITTED = "fitted"
_FUNCTION = re.compile(r"\s*(\w+)\s*\(\s*(`[^`]+`|[^\W\d][\w.]*)\s*\)\s*")
_EXAMPLE = 'residual={"correlation": "ar1", "time": "year", "group": "child"}'


@dataclass(frozen=True)
class VarianceTerm:
    """A variance function, ``ident``, ``power`` or ``exp``, and its column, or the fitted values of ``power``."""

    kind: str
    column: str

    @property
    def text(self) -> str:
        """As it is written: ``"power(age)"``."""
        return f"{self.kind}({self.column})"

    @property
    def of_fitted(self) -> bool:
        """Whether its column is the fitted values, and none of the table."""
        return self.kind == "power" and self.column == FITTED


@dataclass(frozen=True)
class ResidualSpec:
    """A residual structure as it was asked for.

    Parameters
    ----------
    correlation : str or None
        One of `CORRELATIONS`.
    places : tuple of str
        Columns of the times or distances.
    group : RandomTerm or None
        Group inside which residuals are correlated.
    nugget : bool
    variance : tuple of VarianceTerm
        Factors of a product.
    """

    correlation: str | None = None
    places: tuple[str, ...] = ()
    group: RandomTerm | None = None
    nugget: bool = False
    variance: tuple[VarianceTerm, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table besides those of the group."""
        return tuple(dict.fromkeys([*self.places, *(v.column for v in self.variance if not v.of_fitted)]))

    @property
    def said(self) -> dict[str, str]:
        """What the summary says and a saved fit keeps."""
        out: dict[str, str] = {}
        if self.correlation is not None and self.group is not None:
            out["correlation"] = self.correlation + (" with nugget" if self.nugget else "")
            out |= {"along": ", ".join(self.places)} if self.places else {}
            out["group"] = self.group.group
        if self.variance:
            out["variance"] = " * ".join(v.text for v in self.variance)
        return out


def read_residual(given: Any, closed_form: bool, method: str) -> ResidualSpec | None:
    """Read the argument ``residual``.

    Parameters
    ----------
    given : dict or None
        ``{"correlation": "ar1", "time": "year", "group": "child", "variance": "ident(sex)"}``; ``distance`` in the
        place of ``time`` for ``"exponential"`` and ``"gaussian"``, one column or a list, and ``nugget`` true or false.
    closed_form : bool
        Whether the model is a linear one.
    method : str

    Raises
    ------
    OptionError, NotSupportedError, FormulaError
    """
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given:
        raise OptionError(
            f"A residual structure is a dict. Got residual={given!r}. Write for example {_EXAMPLE}, or leave it out."
        )
    unknown = [key for key in given if key not in KEYS]
    if unknown:
        raise OptionError(
            f"Unknown entry {unknown[0]!r} of residual.{near(str(unknown[0]), KEYS)} It was given with {some(given)}. "
            f"Use some of {some(KEYS, len(KEYS))}."
        )
    if not closed_form:
        raise NotSupportedError(
            "A residual structure needs a gaussian outcome: other families have no residual variance of their own. "
            "Residual= was given with another family or link. Leave it out, or use the gaussian family."
        )
    if method == "bayes":
        raise NotSupportedError(
            "Posteriors of models with a residual structure are not built. Residual= was given with method='bayes'. "
            "Use method='ml' or 'reml'."
        )
    variance = _variance(given.get("variance"))
    if given.get("correlation") is None:
        _refuse_alone(given)
        return ResidualSpec(variance=variance)
    name = _known(given["correlation"])
    return ResidualSpec(name, _places(name, given), _group(given), _nugget(name, given), variance)


def _known(name: Any) -> str:
    if name not in CORRELATIONS:
        raise OptionError(
            f"Unknown residual correlation {name!r}.{near(str(name), CORRELATIONS)} It was given in residual=. "
            f"Use one of {some(sorted(CORRELATIONS), len(CORRELATIONS))}."
        )
    return str(name)


def _refuse_alone(given: Mapping[str, Any]) -> None:
    alone = [key for key in ("time", "distance", "group", "nugget") if given.get(key) is not None]
    if alone:
        raise OptionError(
            f"The entry {alone[0]!r} of residual belongs to a correlation. There is no correlation in "
            f"residual={dict(given)!r}. Add one, as in {_EXAMPLE}, or leave {alone[0]!r} out."
        )
    if given.get("variance") is None:
        raise OptionError(
            f"A residual structure has a correlation, a variance, or both. Got residual={dict(given)!r}. "
            f"Write for example {_EXAMPLE}."
        )


def _places(name: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Columns of times or distances."""
    time, distance = given.get("time"), given.get("distance")
    if time is not None and distance is not None:
        raise OptionError(
            f"A residual correlation is along time or a distance. Got time={time!r} and distance={distance!r}. "
            f"Leave one of them out."
        )
    if distance is not None and name not in SPATIAL:
        raise OptionError(
            f"Distances belong to 'exponential' and 'gaussian'. Got distance={distance!r} with {name!r}. "
            f"Name a column as 'time'."
        )
    found = time if time is not None else distance
    listed = [found] if isinstance(found, str) else list(found) if isinstance(found, Sequence) else []
    if not listed and name != "compsymm":
        what = "distance" if name in SPATIAL else "time"
        raise OptionError(
            f"The residual correlation {name!r} needs the {what} of every row. Residual= has {some(given)}. "
            f"Add {what!r} with the name of a column."
        )
    if not all(isinstance(one, str) for one in listed) or (len(listed) > 1 and name not in SPATIAL):
        raise OptionError(
            f"Times are given as the name of one column, distances as one or a list. Got {found!r} for {name!r}. "
            f"Name the column as text."
        )
    if len(set(listed)) < len(listed):
        raise OptionError(
            f"A coordinate counts once. Got distance={found!r}, in which a column stands twice. Name each column once."
        )
    return () if name == "compsymm" else tuple(listed)


def _group(given: Mapping[str, Any]) -> RandomTerm:
    group = given.get("group")
    if not isinstance(group, str) or not group.strip():
        got = "no group" if group is None else f"group={group!r}"
        raise OptionError(
            f"Residuals are correlated inside groups. Residual= has {got}. "
            f"Add 'group' with the name of a column, or 'school/child' where ids start again in every school."
        )
    try:
        return parse(f"y ~ 1 + (1 | {group})").random[0]
    except FormulaError as error:
        raise OptionError(
            f"The group of a residual correlation is a column, or several as in 'school/child'. Got group={group!r}. "
            f"Write it as in a random term, right of the bar."
        ) from error


def _nugget(name: str, given: Mapping[str, Any]) -> bool:
    nugget = given.get("nugget")
    if nugget is not None and (not isinstance(nugget, bool) or (nugget and name not in SPATIAL)):
        raise OptionError(
            f"A nugget is true or false, and belongs to 'exponential' and 'gaussian'. Got nugget={nugget!r} with "
            f"{name!r}. Leave it out."
        )
    return bool(nugget)


def _variance(text: Any) -> tuple[VarianceTerm, ...]:
    """Read a product of variance functions."""
    if text is None:
        return ()
    found = [_FUNCTION.fullmatch(piece) for piece in text.split("*")] if isinstance(text, str) else [None]
    if not all(found):
        raise OptionError(
            f"A residual variance is a function of a column, or a product of such. Got variance={text!r}. "
            f"Write 'ident(sex)', 'power(age)', 'power(fitted)', 'exp(age)' or 'ident(sex) * power(age)'."
        )
    terms = tuple(VarianceTerm(match[1], match[2].strip("`")) for match in found if match)
    for term in terms:
        if term.kind not in VARIANCES:
            raise OptionError(
                f"Unknown variance function {term.kind!r}.{near(term.kind, VARIANCES)} It stands in {text!r}. "
                f"Use one of {some(VARIANCES)}."
            )
    if len(set(terms)) < len(terms):
        raise OptionError(f"A variance function counts once. In {text!r} one stands twice. Leave the repetition out.")
    return terms
