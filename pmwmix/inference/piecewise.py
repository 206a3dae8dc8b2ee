"""Averages over rows, all at once or piece by piece: those of a fit whose data were read in pieces are read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.pieces import Piece
from pmwmix.data.table import Table
from pmwmix.errors import DataError
from pmwmix.frame.kinds import Kinds
from pmwmix.frame.streamed import Streamed
from pmwmix.inference.samples import Sample, Spread, sample_of, samples_of
from pmwmix.prediction.abilities import check_one_outcome

Found = list[tuple[dict[str, Any], tuple[Array, Array]]]  # what was averaged, values (g, c) and gradients (g, c, P)


@dataclass(frozen=True)
class Averages:
    """Rows over which effects are averaged.

    Parameters
    ----------
    first : list of Sample
        One per plausible value: all rows, or those of the first piece.
    pieces : callable, optional
        Reads the rows again; None where ``first`` has all of them.
    """

    first: list[Sample]
    pieces: Callable[[], Iterator[list[Sample]]] | None = None

    @property
    def labels(self) -> list[Any]:
        """Groups of the averages."""
        return self.first[0].labels

    def of(self, effects: Callable[[Sample], Found]) -> tuple[list[dict[str, Any]], list[list[tuple[Array, Array]]]]:
        """Say what was averaged, and give values and gradients of every plausible value.

        Notes
        -----
        An average over all rows is the mean of those over pieces, each times the weight of its rows (effects, eq. 26).
        """
        if self.pieces is None:
            every = [effects(sample) for sample in self.first]
            return [head for head, _ in every[0]], [[values for _, values in one] for one in every]
        heads: list[dict[str, Any]] = []
        sums: list[list[list[Array]]] = []
        sizes = np.zeros((len(self.first), len(self.labels)))
        for samples in self.pieces():
            for k, sample in enumerate(samples):
                size = np.bincount(sample.group, sample.w, minlength=len(self.labels))
                with np.errstate(divide="ignore", invalid="ignore"):  # groups without rows here
                    found = effects(sample)
                heads = heads or [head for head, _ in found]
                own = [[_times(part, size) for part in values] for _, values in found]
                if k == len(sums):
                    sums.append(own)
                else:
                    sums[k] = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(sums[k], own, strict=True)]
                sizes[k] += size
        return heads, [
            [(values / size[:, None], G / size[:, None, None]) for values, G in one]
            for one, size in zip(sums, sizes, strict=True)
        ]


def _times(values: Array, size: Array) -> Array:
    factor = size.reshape(-1, *[1] * (values.ndim - 1))
    return np.where(factor > 0, factor * values, 0.0)


def averages_of(
    fit: Any, newdata: Any, by: str | None, weighted: bool, averaged: bool, type: str, verb: str
) -> Averages:
    """Rows of a new table, or those of the fit, which are read again where its data were read in pieces.

    Raises
    ------
    OptionError, DataError, NotSupportedError
        As `samples_of`.
    """
    streamed = [_streamed(one) for one in fit.fits]
    if newdata is not None or None in streamed:
        return Averages(samples_of(fit, newdata, by, weighted, averaged, type, verb))
    check_one_outcome(fit, verb)
    source: Any = streamed[0]
    how = (by, weighted, averaged, type)
    spreads, labels = _spreads(source, fit, how)

    def pieces() -> Iterator[list[Sample]]:
        for samples, _ in _samples(source, fit, how):
            yield [_known(one, own, labels) for one, own in zip(samples, spreads, strict=True)]

    return Averages(next(pieces()), pieces)


def _streamed(one: Any) -> Streamed | None:
    """Give what reads the rows of a single fit again; None of one in memory, or one that was loaded."""
    if not one.rows.is_live:
        return None
    frame = one.rows.frame
    found: Streamed | None = frame.stream if frame.stored is None else frame.stored.streamed
    return found


def _samples(source: Streamed, fit: Any, how: tuple[Any, ...]) -> Iterator[tuple[list[Sample], Piece]]:
    """Read the rows: one sample per plausible value of every piece that has rows which count, and its groups."""
    by, some_rows = how[0], False
    more = [by] if by is not None and by not in source.wanted.every else []
    for piece in source.columns_of(more, "by="):
        table = Table(pd.DataFrame(piece.columns, copy=False))
        made: dict[int, Sample | None] = {}
        out: list[Sample] = []
        for one in fit.fits:
            known = id(one.rows.blueprint)
            if known not in made:  # with plausible values of the outcome alone all see the same rows
                made[known] = sample_of(one, table, *how)
            sample = made[known]
            if sample is not None:
                out.append(sample.seen_by(one, *how[2:]))
        if out:
            some_rows = True
            groups = {} if by is None else {by: piece.columns[by]}
            dtypes = ((name, column.dtype) for name, column in groups.items())
            yield out, Piece(groups, {name: one for name, one in dtypes if isinstance(one, pd.CategoricalDtype)})
    if not some_rows:
        raise DataError(
            f"No row is left to average over. All {source.n} rows of the fit lack the column of by={by!r}. Check it."
        )


def _spreads(source: Streamed, fit: Any, how: tuple[Any, ...]) -> tuple[list[dict[str, Spread]], list[Any]]:
    """Find the range of every predictor, by plausible value, and all groups: one pass."""
    out: list[dict[str, Spread]] = [{} for _ in fit.fits]
    labels: dict[Any, None] = {}
    by, kinds = how[0], Kinds()
    for samples, groups in _samples(source, fit, how):
        kinds.meet(groups, list(groups.columns))
        for own, sample in zip(out, samples, strict=True):
            labels |= dict.fromkeys(sample.labels)
            for name in sample.blueprint.predictors:
                if name not in sample.blueprint.categories:
                    new = Spread.of(sample.columns[name].to_numpy(dtype=float))
                    own[name] = own[name].joined(new) if name in own else new
    if by not in kinds.categories:
        return out, sorted(labels)
    kinds.categories[by] = list(labels)
    return out, list(kinds.settle()[by].categories)


def _known(sample: Sample, spreads: dict[str, Spread], labels: Sequence[Any]) -> Sample:
    """Give a sample of a piece the ranges and the groups of all rows."""
    place = {label: number for number, label in enumerate(labels)}
    moved = np.array([place[label] for label in sample.labels], dtype=np.int64)
    return replace(sample, group=moved[sample.group], labels=list(labels), spreads=spreads)
