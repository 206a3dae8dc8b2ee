"""Checks of an outcome that several families share, and the words of their messages."""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError, some
from pmwmix.links import Link
from pmwmix.spec.outcome import Outcome, Response

WHOLE = 1e-6  # how far from a whole number a count may be
CATEGORIES = 20  # distinct whole numbers that still pass for categories
MOST = 1e12  # expected count beyond which numpy draws none
SHAPES = (-9.2, 50.0)  # log of shapes and precisions: below 1e-4 (0 or 1, or zeros but for one in 1e4) nothing changes


def plain(value: float) -> str:
    """Write a number without needless digits: ``2``, ``0.25``."""
    return f"{value:.6g}"


def refuse(outcome: Outcome, bad: Array, rule: str, advice: str, values: Array | None = None) -> None:
    """Raise if any value is bad: the rule, the first bad value with its row and the count of the others, the advice."""
    if not bad.any():
        return
    first = int(np.argmax(bad))
    shown = plain(float((outcome.values if values is None else values)[first]))
    where = "" if outcome.rows is None else f" in row {int(outcome.rows[first])}"
    more = int(bad.sum()) - 1
    others = f" ({more} more like it)" if more else ""
    raise DataError(f"{rule} {outcome.name!r} has the value {shown}{where}{others}. {advice}")


def need_numbers(outcome: Outcome, family: str, advice: str = "") -> Array:
    """Give the values as floats; categories, ``cbind`` and ``trials=`` are refused, as are infinite values."""
    if outcome.categories is not None:
        raise DataError(
            f"The {family} family needs a numeric outcome. {outcome.name!r} is categorical: "
            f"{some(outcome.categories)}. {advice or hint_for_categories(outcome)}"
        )
    if outcome.failures is not None or outcome.trials is not None:
        how = "two columns, successes and failures" if outcome.failures is not None else "a column of trials"
        raise DataError(
            f"The {family} family knows no trials. {outcome.name!r} comes with {how}. "
            "Use family='binomial', or an outcome of one column."
        )
    values = np.asarray(outcome.values, dtype=float)
    refuse(outcome, ~np.isfinite(values), "The outcome must be finite.", "Make such values missing, or drop the rows.")
    return values


def positive(outcome: Outcome, family: str) -> Response:
    """Give positive values, their logarithms, and minus these and log(2 pi) / 2."""
    y = need_numbers(outcome, family)
    rule = f"The outcome of the {family} family must be positive."
    advice = "Leave out rows with zero or negative values if they are errors, or use family='gaussian'."
    refuse(outcome, y <= 0, rule, advice)
    need_variation(outcome, y)
    log_y = np.log(y)
    return Response(y, (log_y,), -log_y - 0.5 * np.log(2.0 * np.pi))


def categories_of(outcome: Outcome, family: str) -> tuple[Array, Array, tuple[str, ...]]:
    """Give the categories that occur, in order, the code 0, 1, ... of every row (n,), and their labels.

    Raises
    ------
    DataError
        If the outcome is numeric with other than whole numbers, or with many of them.
    """
    if outcome.categories is not None:
        used, codes = np.unique(outcome.values.astype(np.int64), return_inverse=True)
        return used, codes, tuple(str(outcome.categories[code]) for code in used)
    values = need_numbers(outcome, family)
    rule = f"The {family} family needs categories."
    advice = "Cut it into ordered categories (pandas.cut), or use family='gaussian'."
    refuse(outcome, np.abs(values - np.round(values)) > WHOLE * np.maximum(1.0, np.abs(values)), rule, advice)
    used, codes = np.unique(np.round(values), return_inverse=True)
    if len(used) > CATEGORIES:
        raise DataError(
            f"{rule} {outcome.name!r} has {len(used)} distinct numbers, from {plain(used[0])} to {plain(used[-1])}; at "
            f"most {CATEGORIES} pass for categories. {advice}"
        )
    return used, codes, tuple(plain(value) for value in used)


def hint_for_categories(outcome: Outcome) -> str:
    """Say which family suits a categorical outcome."""
    two = len(outcome.categories or ()) <= 2
    family = "binomial" if two else "cumulative" if outcome.ordered else "multinomial"
    return f"Use family={family!r}, or convert the column to numbers."


def need_counts(outcome: Outcome, family: str) -> Array:
    """Give the values as floats: whole numbers from 0 on, not all 0."""
    y = need_numbers(outcome, family)
    rule = f"The {family} family needs counts, whole numbers from 0 on."
    refuse(outcome, y < 0, rule, "Correct the negative values, or use family='gaussian'.")
    advice = "Use family='gamma' for a positive quantity, or family='binomial' with trials= for a proportion."
    refuse(outcome, np.abs(y - np.round(y)) > WHOLE * np.maximum(1.0, y), rule, advice)
    y = np.round(y)
    if not y.any():
        raise DataError(
            f"The {family} family cannot be fitted to zeros alone. All {len(y)} values of {outcome.name!r} are 0. "
            "Check the column, or the rows that are left after incomplete ones were dropped."
        )
    return y


def need_zeros(outcome: Outcome, y: Array, family: str, advice: str) -> None:
    """Refuse counts without a zero where zeros have a model of their own."""
    if (y > 0).all():
        raise DataError(
            f"The {family} family needs zeros. {outcome.name!r} has none in {len(y)} rows, its smallest value is "
            f"{plain(float(y.min()))}. {advice}"
        )


def bounded_counts(link: Link, eta: Array) -> Array:
    """Keep linear predictors where counts can be drawn."""
    high = float(link.eta(np.array(MOST)))
    return np.clip(eta, -high, high)


def weighted_moments(y: Array, w: Array) -> tuple[float, float]:
    """Give the weighted mean and variance."""
    mean = float(np.average(y, weights=w))
    return mean, float(np.average(np.square(y - mean), weights=w))


def need_variation(outcome: Outcome, y: Array) -> None:
    """Refuse an outcome that is the same in every row."""
    if len(y) and np.ptp(y) == 0.0:
        raise DataError(
            f"The outcome does not vary. {outcome.name!r} has the value {plain(float(y[0]))} in all {len(y)} rows. "
            "Check the column, or the rows that are left after incomplete ones were dropped."
        )
