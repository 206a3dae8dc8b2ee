"""Successes in a number of trials; McCullagh & Nelder (1989), chapter 4."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from pmwmix._types import Array
from pmwmix.errors import DataError, some
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._outcomes import WHOLE, need_numbers, plain, refuse
from pmwmix.links import Link
from pmwmix.links._curves import softplus
from pmwmix.spec.outcome import Outcome, Response


class Binomial(Family):
    """Binomial distribution: y successes in n trials, each with probability p = F(eta).

    Notes
    -----
    log f = log C(n, y) + y log F(eta) + (n - y) log(1 - F(eta)) (McCullagh & Nelder 1989 [1]_, section 4.2). The
    outcome is 0/1, two categories (the first a failure, the second a success), ``cbind(successes, failures)``, or a
    proportion with a column of trials.

    References
    ----------
    .. [1] McCullagh, P. & Nelder, J. A. (1989). Generalized Linear Models, 2nd ed. Chapman & Hall.
    """

    name = "binomial"
    links: tuple[str, ...] = ("logit", "probit", "cloglog", "loglog", "cauchit")
    has_expected_information = True
    has_mean_score = True
    n_extra = 1
    per_trial = True

    def cumulant(self, link: Link) -> Any:
        """Give log(1 + exp(eta)) of the logit link."""
        return softplus if link.name == "logit" else None

    def trials(self, response: Response) -> Array:
        """Give them (n,)."""
        return response.extra[0]

    def mean_words(self, outcome: str, written: str, categories: tuple[str, ...]) -> str:
        """Give the category whose probability it is; a mean of ``cbind`` is one of shares."""
        if written.startswith("cbind"):
            return super().mean_words(outcome, written, categories)
        return f"Probability of {outcome}" + (f" = {categories[1]}" if len(categories) == 2 else "")

    def read(self, outcome: Outcome) -> Response:
        """Give successes, trials and the log binomial coefficient."""
        notes: tuple[str, ...] = ()
        categories: tuple[str, ...] = ()
        if outcome.failures is not None:
            y, n = _from_failures(outcome)
        elif outcome.trials is not None:
            y, n = _from_proportion(outcome)
        elif outcome.categories is not None:
            y, categories = _from_categories(outcome)
            n = np.ones_like(y)
            notes = (f"Success is {categories[1]!r} (column {outcome.name!r})",)
        else:
            y = _from_zeros_and_ones(outcome)
            n = np.ones_like(y)
        _need_both(outcome, y, n)
        constant = special.gammaln(n + 1.0) - special.gammaln(y + 1.0) - special.gammaln(n - y + 1.0)
        return Response(y, (n,), constant, categories, notes)

    def log_density(self, link: Any, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density without the binomial coefficient."""
        return link.log_binomial(y, extra[0] - y, eta)

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give the link of (y + 1/2) / (n + 1); no further parameters."""
        return link.eta((response.y + 0.5) / (response.extra[0] + 1.0)), np.zeros(0)

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give n p (1 - p)."""
        return extra[0] * mean * (1.0 - mean)

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give 2 [y log(y / np) + (n - y) log((n - y) / (n - np))]."""
        n = extra[0]
        hit = special.xlogy(y, y / n) - special.xlogy(y, mean)
        miss = special.xlogy(n - y, 1.0 - y / n) - special.xlog1py(n - y, -mean)
        return np.maximum(2.0 * (hit + miss), 0.0)

    def latent_variance(self, link: Any, mean: float, phi: Array) -> float:
        """Give the variance of the distribution F."""
        return float(link.latent_variance)

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw numbers of successes."""
        return rng.binomial(extra[0].astype(np.int64), link.mean(eta)).astype(float)


def _from_zeros_and_ones(outcome: Outcome) -> Array:
    y = need_numbers(outcome, "binomial")
    values = np.unique(y)
    if len(values) == 2 and set(values) == {1.0, 2.0}:
        advice = f"Subtract 1, or write ({outcome.name} == 2) as the outcome."
    elif y.min(initial=0.0) < 0:
        advice = f"Recode it, or write a condition as the outcome: ({outcome.name} > 0)."
    elif y.max(initial=0.0) <= 1:
        advice = "For a proportion, name the column of the number of trials: trials='n'."
    else:
        advice = "For successes out of n use cbind(successes, failures), for counts without limit family='poisson'."
    rule = "The outcome of the binomial family must be 0 or 1."
    refuse(outcome, (y != 0.0) & (y != 1.0), rule, advice)
    return y


def _from_categories(outcome: Outcome) -> tuple[Array, tuple[str, ...]]:
    """Codes of the two categories that occur, and their labels."""
    labels = outcome.categories or ()
    used = np.unique(outcome.values.astype(int))
    found = tuple(str(labels[code]) for code in used)
    if len(used) > 2:
        raise DataError(
            f"The binomial family needs two categories. {outcome.name!r} has {len(used)}: {some(found)}. "
            f"Use family='cumulative' if they are ordered, 'multinomial' if not, or a condition as the outcome: "
            f"({outcome.name} == {found[-1]!r})."
        )
    if len(used) < 2:
        raise DataError(
            f"The outcome does not vary. {outcome.name!r} is {some(found)} in all {len(outcome.values)} rows. "
            "Check the column, or the rows that are left after incomplete ones were dropped."
        )
    return (outcome.values == used[1]).astype(float), found


def _from_failures(outcome: Outcome) -> tuple[Array, Array]:
    assert outcome.failures is not None
    if outcome.trials is not None or outcome.categories is not None:
        what = "trials=" if outcome.trials is not None else "text"
        raise DataError(
            f"cbind(successes, failures) needs two columns of counts. {outcome.name!r} comes with {what}. "
            "Give either cbind(...) or a proportion with trials=."
        )
    y, failures = np.asarray(outcome.values, dtype=float), np.asarray(outcome.failures, dtype=float)
    rule = "Successes and failures must be whole numbers from 0 on."
    for column, values in (("first", y), ("second", failures)):
        advice = f"Correct the {column} column of cbind(successes, failures)."
        if column == "second":
            advice += " Where it is a difference, there are more successes than trials."
        refuse(outcome, ~(values >= 0), rule, advice, values)
        whole = np.isfinite(values) & (np.abs(values - np.round(values)) <= WHOLE * np.maximum(1.0, values))
        refuse(outcome, ~whole, rule, f"Correct the {column} column; for a proportion use trials=.", values)
    y, n = np.round(y), np.round(y) + np.round(failures)
    refuse(outcome, n == 0, "Every row needs at least one trial. The total of", "Drop the rows without trials.", n)
    return y, n


def _from_proportion(outcome: Outcome) -> tuple[Array, Array]:
    assert outcome.trials is not None
    if outcome.categories is not None:
        raise DataError(
            f"An outcome with trials= must be a proportion. {outcome.name!r} is categorical: "
            f"{some(outcome.categories)}. Leave trials= out, or give a numeric column."
        )
    p, n = np.asarray(outcome.values, dtype=float), np.asarray(outcome.trials, dtype=float)
    rule = f"The trials of {outcome.name!r} must be whole numbers from 1 on."
    refuse(outcome, ~((n >= 1) & (n == np.round(n))), f"{rule} The column of trials beside", "Drop such rows.", n)
    rule = "An outcome with trials= must be a proportion between 0 and 1."
    refuse(outcome, ~((p >= 0) & (p <= 1)), rule, "For a number of successes write cbind(successes, n - successes).")
    y = p * n
    far = np.abs(y - np.round(y)) > WHOLE * np.maximum(1.0, n)
    if far.any():
        first = int(np.argmax(far))
        advice = f"With {plain(n[first])} trials this makes {plain(y[first])} successes: check the column of trials."
        refuse(outcome, far, "Proportion times trials must be a whole number.", advice)
    return np.round(y), n


def _need_both(outcome: Outcome, y: Array, n: Array) -> None:
    """Refuse an outcome without any success or without any failure."""
    if y.any() and (y < n).any():
        return
    what = "failure" if y.any() else "success"
    raise DataError(
        f"The outcome does not vary. {outcome.name!r} has not one {what} in {len(y)} rows. "
        "Check the column, or the rows that are left after incomplete ones were dropped."
    )


FAMILIES.add("binomial", Binomial())
