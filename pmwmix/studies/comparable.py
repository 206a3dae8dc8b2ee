"""Which fits can be compared by their likelihoods: same rows, outcomes and weights, and one model inside the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.frame.partweights import weighted_factor
from pmwmix.inference.criteria import check_whole
from pmwmix.prediction.rows import LiveRows, live_rows
from pmwmix.results.result import FitResult
from pmwmix.spec.fixed import words_of
from pmwmix.weights.conditional import total_weights

SPANNED = 1e-6  # of its length: what a column of the smaller model may have outside the span of the larger one's


def checked(fits: tuple[FitResult, ...]) -> list[FitResult]:
    """Give the fits as a list, refusing those whose likelihoods cannot be compared.

    Raises
    ------
    OptionError, NotSupportedError
    """
    wrong = [fit for fit in fits if not isinstance(fit, FitResult)]
    if wrong or len(fits) < 2:
        got = type(wrong[0]).__name__ if wrong else f"{len(fits)} fit"
        raise OptionError(f"A likelihood-ratio test compares two fits. Got {got}. Pass results of pmwmix.fit.")
    if not all(map(live_rows, fits)):
        raise NotSupportedError(
            "A loaded fit cannot be tested: it does not keep the data. One of the fits came from pmwmix.load. "
            "Call pmwmix.fit again."
        )
    for fit in fits:
        check_whole(fit, "A likelihood-ratio test")
    for other in fits[1:]:
        _check_outcomes(fits[0], other)
        _check_weights(fits[0], other)
    return list(fits)


def first_rows(fit: FitResult) -> LiveRows:
    """Give the rows of a checked fit; of a pooled one those of the first plausible value."""
    return live_rows(fit)[0]


def _check_outcomes(first: FitResult, other: FitResult) -> None:
    mine, theirs = ((fit.distribution[0].distribution_name, fit.link) for fit in (first, other))
    if mine != theirs:
        raise OptionError(
            f"Only models with one family and link can be nested. {first.formula!r} has {mine[0]!r} with "
            f"{first.link!r}, {other.formula!r} {theirs[0]!r} with {other.link!r}. Compare their predictions."
        )
    if first.random != other.random:
        raise NotSupportedError(
            f"Distributions of random effects are not compared by likelihood-ratio tests: one is at the edge of the "
            f"other. The fits have random={first.random!r} and random={other.random!r}. Compare fit.aic or fit.bic."
        )
    differ = first.index.symmetric_difference(other.index)
    if len(differ):
        raise OptionError(
            f"Likelihoods can be compared on the same rows only. {len(differ)} rows are in one fit and not in the "
            f"other ({first.nobs} and {other.nobs} rows), probably for missing values. Drop incomplete rows of the "
            f"largest model first."
        )
    if other.n_pv != first.n_pv or not all(map(_same_outcome, live_rows(first), live_rows(other))):
        raise OptionError(
            f"The fits have different outcomes. {first.formula!r} and {other.formula!r} cannot be compared. "
            f"Use the same outcome and plausible values."
        )


def _check_weights(first: FitResult, other: FitResult) -> None:
    mine, theirs = dict(first.settings.weights), dict(other.settings.weights)  # a dropped level has no weight there
    if first.settings.scaling != other.settings.scaling or any(mine[x] != theirs[x] for x in mine.keys() & theirs):
        raise OptionError(
            f"The fits are weighted differently. {first.formula!r} has {first.settings.weights!r} with scaling "
            f"{first.settings.scaling!r}, {other.formula!r} {other.settings.weights!r} with scaling "
            f"{other.settings.scaling!r}. Use the same weights."
        )
    if not _same_weights(first, other):
        raise OptionError(
            f"The rows count differently in the two fits: what a level's weights become depends on the levels. "
            f"{first.formula!r} and {other.formula!r} do not have the same levels. Use pmwmix.ranova(fit), which "
            f"keeps the weights of the larger model."
        )


def _same_weights(a: FitResult, b: FitResult) -> bool:
    """Whether the weights of the rows, multiplied over the levels, are those of the other fit."""
    frames = [first_rows(fit).frame for fit in (a, b)]
    streams = [frame.stream for frame in frames if frame.stream is not None]
    if streams:
        sums = [one.weight_sums for one in streams]
        return len(sums) == 2 and bool(np.allclose(sums[0], sums[1], rtol=1e-6, atol=0.0))
    parts = [weighted_factor(frame) is not None for frame in frames if frame.hierarchy.crossed]
    if len(set(parts)) > 1:  # independent parts count in one, their rows in the other
        return False
    mine, theirs = (total_weights(frame.w, frame.hierarchy.row_parents)[0] for frame in frames)
    return bool(np.allclose(mine, theirs, rtol=1e-6, atol=0.0))


def _same_outcome(a: LiveRows, b: LiveRows) -> bool:
    streamed = [rows.outcome_sums for rows in (a, b) if rows.frame.stream is not None]
    if streamed:
        return len(streamed) == 2 and bool(np.allclose(streamed[0], streamed[1], rtol=1e-12, atol=0.0))
    if a.frame.formula.outcomes != b.frame.formula.outcomes:
        return False
    if a.frame.formula.outcomes:
        return bool(np.allclose(a.ys, b.ys, rtol=1e-12, atol=0.0, equal_nan=True))
    mine, theirs = (([rows.y, *(rows.response.extra if rows.response else ())]) for rows in (a, b))
    return all(np.allclose(x, y, rtol=1e-12, atol=1e-12 * np.std(y)) for x, y in zip(mine, theirs, strict=True))


CONTAINED = {  # what is a special case of what
    "ar1": {"arma11", "toeplitz", "unstructured"},
    "ma1": {"arma11", "toeplitz", "unstructured"},
    "arma11": {"toeplitz", "unstructured"},
    "toeplitz": {"unstructured"},
    "compsymm": {"toeplitz", "unstructured"},
    "exponential": {"exponential with nugget"},
    "gaussian": {"gaussian with nugget"},
    "car1": {"ar1", "exponential with nugget", "unstructured"},
}


def check_residuals(smaller: FitResult, larger: FitResult) -> None:
    """Refuse residual structures of which one is not a special case of the other.

    Raises
    ------
    OptionError
    """
    mine, theirs = smaller.settings.residual, larger.settings.residual
    a, b = mine.get("correlation"), theirs.get("correlation")
    terms = [set(said["variance"].split(" * ")) if "variance" in said else set() for said in (mine, theirs)]
    same = a == b and all(mine.get(key) == theirs.get(key) for key in ("along", "group"))
    if (a is None or same or b in CONTAINED.get(a, ())) and terms[0] <= terms[1]:
        return
    raise OptionError(
        f"The models are not nested. The residuals of {smaller.formula!r} have {mine or 'no structure'}, those of "
        f"{larger.formula!r} {theirs or 'none'}. Compare models of which one contains the other, or their AIC."
    )


def check_fixed(smaller: FitResult, larger: FitResult) -> None:
    """Refuse a larger model that holds a variance which the smaller one does not hold at the same value.

    Raises
    ------
    OptionError
    """
    mine, theirs = smaller.settings.fixed, larger.settings.fixed
    free = {name: value for name, value in theirs.items() if mine.get(name) != value}
    if free:
        raise OptionError(
            f"The models are not nested. {larger.formula!r} holds {words_of(free)}, which {smaller.formula!r} does "
            f"not. Hold the same variances in both."
        )


def check_columns(smaller: FitResult, larger: FitResult) -> None:
    """Refuse fixed parts of which one does not contain the other, whatever the columns are called.

    Raises
    ------
    OptionError
    """
    a, b = first_rows(smaller), first_rows(larger)
    if a.frame.stream is not None:
        _check_names(smaller, larger, a, b)
        return
    mine, theirs = (rows.columns_of() for rows in (a, b))
    first = b.blueprint.formula.first
    _check_nested(smaller, larger, mine[first], theirs[first] | _of_thresholds(larger, theirs), (a, b))
    own = {*smaller.distribution[0].formulas} | {*larger.distribution[0].formulas}
    for name in (mine.keys() | theirs.keys()) - {first}:  # a parameter without a formula is one number
        constant = {"Intercept": np.ones(b.frame.n)} if name in own else {}
        _check_nested(smaller, larger, mine.get(name, constant), theirs.get(name, constant))


def _of_thresholds(larger: FitResult, theirs: Mapping[str | None, dict[str, Array]]) -> dict[str, Array]:
    """Columns of thresholds: with the same coefficients for all thresholds they are predictors of the mean."""
    if larger.distribution[0].has_intercept:
        return {}
    return {f"{name}.{column}": x for name in larger.named_predictors for column, x in theirs[name].items()}


def _check_names(smaller: FitResult, larger: FitResult, a: LiveRows, b: LiveRows) -> None:
    """Refuse streamed fits of which one has columns of other names, or centred otherwise, than the larger one."""
    new = [name for name in smaller.coef.index if name not in set(larger.coef.index)]
    plans = [{plan.column: (plan.by, plan.factors) for plan in rows.frame.centrings} for rows in (a, b)]
    new += [name for name, plan in plans[0].items() if plans[1].get(name) != plan]
    if new or (a.frame.formula.offset != b.frame.formula.offset):
        raise OptionError(
            f"The models are not nested, as far as the names of their columns say, and streamed fits hold no rows to "
            f"look at. {smaller.formula!r} has {', '.join(map(repr, new[:5])) or 'another offset'}, which "
            f"{larger.formula!r} has not. Compare models of which one contains the other's terms, or their AIC."
        )


def _check_nested(
    smaller: FitResult,
    larger: FitResult,
    small: Mapping[str, Array],
    large: Mapping[str, Array],
    rows: tuple[LiveRows, LiveRows] | None = None,
) -> None:
    """Refuse columns of a linear predictor that those of the larger model do not span; ``rows`` for the offsets."""
    new = {name: x for name, x in small.items() if name not in large or not np.array_equal(x, large[name])}
    if rows is not None:
        offsets = [0.0 if one.design.offset is None else one.design.offset for one in rows]
        if np.any(offsets[0] != offsets[1]):
            new["offset"] = offsets[0] - offsets[1] + np.zeros(rows[1].frame.n)
    if not new:
        return
    n, has_intercept = larger.nobs, larger.distribution[0].has_intercept
    basis = [*large.values()] if has_intercept or rows is None else [np.ones(n), *large.values()]
    X, Y = (np.column_stack(columns) for columns in (basis or [np.zeros(n)], [*new.values()]))
    X = X / np.maximum(np.linalg.norm(X, axis=0), 1e-300)
    left = np.linalg.norm(Y - X @ np.linalg.lstsq(X, Y)[0], axis=0)
    outside = [name for name, size in zip(new, left > SPANNED * np.linalg.norm(Y, axis=0), strict=True) if size]
    if outside:
        raise OptionError(
            f"The models are not nested. {smaller.formula!r} has {', '.join(map(repr, outside[:5]))}, which no "
            f"combination of the terms of {larger.formula!r} gives. Compare models of which one contains the other."
        )
