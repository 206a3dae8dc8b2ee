"""Refusals of frames that no likelihood can take."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pmwmix._types import Array
from pmwmix.data.codes import printed
from pmwmix.errors import DataError, NotSupportedError, some
from pmwmix.frame.matrices import HUGE, too_large
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.spec.formula import ModelFormula
from pmwmix.spec.outcome import Distribution
from pmwmix.spec.random import check_terms
from pmwmix.spec.whitelist import fail


def check_same_categories(frame: ModelFrame) -> None:
    """Refuse plausible values with categories of their own: what is pooled would not mean the same."""
    every = [read.categories for part in frame.designs for read in part.responses]
    for number, found in enumerate(every, start=1):
        if found != every[0]:
            raise DataError(
                f"All plausible values of an outcome need the same categories. Number {number} of "
                f"{frame.formula.response!r} has {some(found)}, the first {some(every[0])}. "
                f"Merge categories that some of them lack with their neighbours."
            )


def check_frame_size(frame: ModelFrame, distribution: Distribution) -> None:
    """Refuse a model with as many fixed coefficients as rows."""
    p = len(frame.designs[0].of)
    if frame.n <= p:
        raise DataError(
            f"There are not enough rows. {frame.n} rows are left for {p} fixed columns. "
            f"Drop predictors, or check what the rows were lost to: {some([*frame.dropped]) or 'nothing'}."
        )
    for name, y in _outcomes(frame) if frame.stream is None else ():
        check_range(frame, float(y.min()), float(y.max()), name)
    right = [
        *frame.formula.fixed_columns,
        *frame.formula.offset_variables,
        *frame.formula.further_variables,
        *(v for term in frame.formula.random for v in term.variables),
    ]
    for name in frame.formula.outcomes or (frame.formula.response,):
        if name in right:
            raise DataError(f"The outcome cannot explain itself. {name!r} stands on both sides. Drop it on the right.")
    _check_groups(frame, distribution)


def _outcomes(frame: ModelFrame) -> Iterator[tuple[str, Array]]:
    """Yield every outcome (n,) with its name."""
    for part in frame.designs:
        yield from ((frame.formula.response, y) for y in part.y)
        yield from (pair for one in part.beside for pair in zip(frame.formula.outcomes[1:], one, strict=True))


def check_range(frame: ModelFrame, low: float, high: float, name: str | None = None) -> None:
    """Refuse an outcome, the first if none is named, of very large values, or one that does not vary."""
    name = name or frame.formula.response
    if not max(abs(low), abs(high)) < HUGE:
        raise too_large(name, np.array([low, high]))
    if frame.has_closed_form and low == high:
        raise DataError(
            f"The outcome does not vary. {name!r} is {low:g} in all {frame.n} rows. Check the column and the filter."
        )


def refuse_offset(formula: ModelFormula) -> None:
    """Refuse an offset of several linear outcomes.

    Raises
    ------
    FormulaError
    """
    if formula.offset is not None:
        fail("Several outcomes have no offset", formula.offset, "Subtract it from the outcome first")


def check_several(frame: ModelFrame) -> None:
    """Refuse models of several outcomes that are not built.

    Raises
    ------
    NotSupportedError
    """
    named = ", ".join(map(repr, frame.formula.outcomes))
    if frame.hierarchy.crossed or not frame.formula.random:
        what = f"crossed {some(frame.hierarchy.crossed)}" if frame.hierarchy.crossed else "no random term"
        raise NotSupportedError(
            f"Several outcomes need nested groups with random effects. The formulas for {named} have {what}. Add a "
            f"random term such as (1 | p | school) to each of them, or fit the outcomes one at a time."
        )
    for term in frame.formula.random:
        if term.structure != "us":
            raise NotSupportedError(
                f"Random effects of several outcomes have unstructured covariances. The formulas for {named} have "
                f"{term.text}. Write plain bars, or (x || g) for independent effects."
            )


def check_fixed_part(frame: ModelFrame, asked: str) -> None:
    """Refuse what is about fixed coefficients in a model without any; ``asked`` names it."""
    if not frame.designs[0].x.names:
        raise NotSupportedError(
            f"This needs a fixed coefficient. The fixed part is {frame.formula.fixed!r}, and {asked} was asked for. "
            f"Keep the intercept or a predictor, or leave {asked} out."
        )


def check_random_terms(frame: ModelFrame) -> None:
    """Refuse models whose random effects cannot have the distribution that was asked for."""
    blocks = frame.designs[0].blocks
    sizes = [sum(len(b.matrix.names) for b in blocks if b.level == level) for level in {b.level for b in blocks}]
    check_terms(
        frame.random,
        frame.formula.text,
        len(blocks),
        bool(frame.hierarchy.crossed),
        {block.term.structure for block in blocks},
        max(sizes, default=0),
    )


def _check_groups(frame: ModelFrame, distribution: Distribution) -> None:
    """Refuse groups whose variance cannot be found: of single rows, or fewer than two."""
    for block in frame.designs[0].blocks:
        level = frame.hierarchy.levels[block.level]
        if distribution.has_scale and level.n == frame.n and "Intercept" in block.matrix.names:
            raise DataError(
                f"Every row is its own group, so that the groups' variance cannot be told from the residual one. "
                f"{level.name!r} has {level.n} groups in {frame.n} rows. Drop {block.term.text} or group by a column "
                f"whose values repeat."
            )
    for level in frame.hierarchy.levels:
        if level.n < 2:
            raise DataError(
                f"A grouping factor needs two groups. {level.name!r} has only {some(printed(level.labels))}. "
                f"Drop its random term, or check the filter."
            )
