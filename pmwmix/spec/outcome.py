"""The left side of a formula, before and after a family has read it. Numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pmwmix._types import Array
from pmwmix.spec.predictors import Predictor
from pmwmix.spec.residual import ResidualSpec


@dataclass(frozen=True)
class Distribution:
    """What the call says about the outcome.

    Parameters
    ----------
    family, link : str
    read : callable or None
        Outcome -> Response; None for a linear model.
    has_closed_form : bool
        Whether this is a linear model, whose likelihood has a closed form.
    has_scale : bool
        Whether rows have a variance of their own, so that a group per row is not identified.
    trials : str or None
        Column of the number of trials.
    further : tuple of Predictor
        Linear predictors besides that of the mean.
    residual : ResidualSpec or None
        Structure of the residuals of a linear model.
    first : str or None
        Name of the first linear predictor, where its coefficients bear it.
    settle : callable or None
        Outcome -> family, where that depends on the outcome's categories.
    pairwise : bool
        Whether the likelihood is that of pairs of rows.
    random : str
        Distribution of the random effects.
    several : bool
        Whether the further formulas are those of further outcomes.
    """

    family: str = "gaussian"
    link: str = "identity"
    read: Callable[[Outcome], Response] | None = None
    has_closed_form: bool = True
    has_scale: bool = True
    trials: str | None = None
    further: tuple[Predictor, ...] = ()
    residual: ResidualSpec | None = None
    first: str | None = None
    settle: Callable[[Outcome, bool], Any] | None = None
    pairwise: bool = False
    random: str = "normal"
    several: bool = False

    def settled(self, outcome: Outcome, constant: bool = False) -> Distribution:
        """Give the distribution with the linear predictors that an outcome's categories ask for.

        ``constant`` says that the further linear predictors have no column but an intercept.
        """
        if self.settle is None:
            return self
        found = self.settle(outcome, constant)
        return replace(self, family=found.name, read=found.read, further=found.further, first=found.first, settle=None)


@dataclass(frozen=True)
class Outcome:
    """The left side of a formula as it stands in the table, before a family has read it.

    Parameters
    ----------
    name : str
        As written: ``"passed"``, ``"cbind(k, n - k)"``, ``"(math >= 482)"``; for messages.
    values : ndarray, shape (n,)
        Numbers; of a categorical column the codes 0, 1, ...; of ``cbind(a, b)`` the first column.
    categories : tuple of str or None
        Labels of the codes; None for numbers.
    ordered : bool
        Whether the categories have an order that the table declares.
    failures : ndarray, shape (n,), or None
        Second column of ``cbind``.
    trials : ndarray, shape (n,), or None
        Column named by ``trials=``, for an outcome that is a proportion.
    rows : ndarray of int, shape (n,), or None
        Position of each row in the caller's table, for messages that name a row.
    beside : tuple of Outcome
        Further outcomes of the same rows. Where there are some, values may be missing: NaN, or -1 of a category.
    """

    name: str
    values: Array
    categories: tuple[str, ...] | None = None
    ordered: bool = False
    failures: Array | None = None
    trials: Array | None = None
    rows: Array | None = None
    beside: tuple[Outcome, ...] = ()


@dataclass(frozen=True)
class Response:
    """An outcome that a family has checked: all that its density needs.

    Parameters
    ----------
    y : ndarray, shape (n,)
        Float; successes, counts, category codes 0, 1, ..., numbers.
    extra : tuple of ndarray, each (n,)
        Float; further columns of the density, such as the number of trials. The same number for every outcome of a
        family (``Family.n_extra``).
    constant : ndarray, shape (n,)
        Part of the log-density that depends on nothing but the outcome, such as a log binomial coefficient.
    categories : tuple of str
        Of an ordinal or two-category outcome, in order.
    notes : tuple of str
        What the summary should say: which category counts as success.
    """

    y: Array
    extra: tuple[Array, ...]
    constant: Array
    categories: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
