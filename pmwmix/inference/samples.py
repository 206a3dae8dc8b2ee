"""Rows over which effects are averaged, of a new table or of the one that was fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.data.table import Table
from pmwmix.errors import DataError, OptionError, near, some
from pmwmix.frame.matrices import MAX_CATEGORIES, offset_of
from pmwmix.inference.averages import MeanModel, PosteriorMeans, RowColumns, combined
from pmwmix.inference.severalmeans import OutcomeMeans, SeveralMeans
from pmwmix.prediction.blueprint import Blueprint
from pmwmix.prediction.estimable import lost_groups
from pmwmix.prediction.newdata import check_kind, prepared_table, random_columns
from pmwmix.spec.latentmean import refuse_latent
from pmwmix.spec.measured import refuse_measured

Columns = dict[str, pd.Series]
SAME = 1e-9  # of a column's size: what rebuilt columns may be off by


@dataclass(frozen=True)
class Spread:
    """Number, mean, sum of squares about it, smallest and largest of some numbers, and which they are, if few."""

    n: int
    mean: float
    squares: float
    low: float
    high: float
    values: frozenset[float] | None

    @classmethod
    def of(cls, x: Array) -> Spread:
        """Look at numbers (n,), of which there is one or more."""
        mean = float(x.mean())
        seen = np.unique(x)
        values = frozenset(seen.tolist()) if len(seen) <= MAX_CATEGORIES else None
        return cls(len(x), mean, float(((x - mean) ** 2).sum()), float(x.min()), float(x.max()), values)

    def joined(self, other: Spread) -> Spread:
        """Put two together."""
        n, gap = self.n + other.n, other.mean - self.mean
        values = None if self.values is None or other.values is None else self.values | other.values
        return Spread(
            n,
            self.mean + gap * other.n / n,
            self.squares + other.squares + gap**2 * self.n * other.n / n,
            min(self.low, other.low),
            max(self.high, other.high),
            values if values is not None and len(values) <= MAX_CATEGORIES else None,
        )

    @property
    def sd(self) -> float:
        """Standard deviation, with n below."""
        return float(np.sqrt(self.squares / self.n))


@dataclass(frozen=True)
class Sample:
    """Rows over which effects are averaged, as one plausible value sees them.

    Predictors before centring, total weights ``w``, ``group``, the place of the ``by`` value among ``labels``, and
    ``rows``, positions in the table; ``spreads`` of predictors over more rows than these, of a piece.
    """

    model: MeanModel
    blueprint: Blueprint
    columns: Columns
    w: Array
    group: Array
    labels: list[Any]
    rows: Array
    spreads: Mapping[str, Spread] = field(default_factory=dict)

    def spread(self, name: str) -> Spread:
        """Give the range of a numeric predictor over all rows."""
        return self.spreads[name] if name in self.spreads else Spread.of(self.columns[name].to_numpy(dtype=float))

    def seen_by(self, fit: Any, averaged: bool, type: str) -> Sample:
        """Give the same rows with the mean of another plausible value."""
        return replace(self, model=_model(fit, averaged, type))

    def design(self, **changed: Any) -> tuple[RowColumns, Array | None]:
        """Rebuild the columns of the model, with some predictors at other values, and `Aliases.gaps` of the rows."""
        n = len(self.w)
        columns = dict(self.columns)
        for name, value in changed.items():
            columns[name] = self._column(name, value, n)
        local = prepared_table(self.blueprint, columns)
        x = self.blueprint.fixed_columns(local, n)
        X = np.array(self.blueprint.kept_of(x)).reshape(-1, n).T
        offset = offset_of(self.blueprint.formula, local, n)
        n_levels = len(self.model.Psi)
        Z = random_columns(self.blueprint, local, n_levels, n) if n_levels else []
        aliases = self.blueprint.aliases
        gaps = None if aliases is None else aliases.gaps(x)
        return RowColumns(X, np.zeros(n) if offset is None else offset, Z), gaps

    def average(self, pieces: Sequence[tuple[Mapping[str, Any], Any]], total: float = 0.0) -> tuple[Array, Array]:
        """Average a sum of means, each with some predictors changed and times a factor: (g, c) and (g, c, P).

        NaN where the average is not estimable.
        """
        found = [(*self.design(**changed), factor) for changed, factor in pieces]
        rows = [(columns, factor) for columns, _, factor in found]
        values, G = self.model.outcomes(*combined(self.model, rows, self.w, self.group, len(self.labels)), total)
        gaps = [(gap, factor) for _, gap, factor in found if gap is not None]
        lost = lost_groups(gaps, self.w, self.group, len(self.labels), self.model.link is None)
        values[lost], G[lost] = np.nan, np.nan
        return values, G

    def _column(self, name: str, value: Any, n: int) -> pd.Series:
        known = self.blueprint.categories.get(name)
        if known is None:
            return pd.Series(np.broadcast_to(np.asarray(value, dtype=float), n).copy(), name=name)
        if str(value) not in known:
            raise OptionError(
                f"There is no category {value!r} of {name!r}.{near(str(value), known)} The fit knows {some(known)}."
            )
        return pd.Series(pd.Categorical([str(value)] * n, categories=known), name=name)


def samples_of(
    fit: Any, newdata: Any, by: str | None, weighted: bool, averaged: bool, type: str, verb: str
) -> list[Sample]:
    """Rows of a new table, or without one of the tables that were fitted, as every plausible value sees them.

    Raises
    ------
    OptionError
        If the fit has no table any more: it was loaded, pickled, or is one of a group.
    DataError
        If the table was changed since the fit.
    """
    if newdata is not None:
        table = Table(newdata)
        return [_sample(one, table, by, weighted, averaged, type) for one in fit.fits]
    own = fit.ml if fit.method == "bayes" else fit
    refuse_measured(own.has_measured, f"{verb} without newdata", "The effects are the coefficients")
    refuse_latent(
        own.latent_means is not None,
        f"{verb} without newdata",
        "The effects are the coefficients; or give newdata a column of that name with values of the latent mean",
    )
    return [_of_the_fit(one, by, weighted, averaged, type, verb) for one in fit.fits]


def table_of(fit: Any, verb: str) -> Table:
    """Give the table that a single fit was made from.

    Raises
    ------
    OptionError
    """
    frame = fit.rows.frame if fit.rows.is_live else None
    table = None if frame is None or frame.source is None else frame.source.table
    if frame is not None and (frame.stream is not None or frame.stored is not None):
        raise OptionError(
            f"{verb} looks at the rows of a table in memory. This fit read its {fit.nobs} rows in pieces and keeps "
            f"none. Pass newdata=: the rows to look at, such as a random part or one country of the data."
        )
    if table is None:
        raise OptionError(
            f"{verb} needs the table. This fit has lost sight of it: it was read from a file, copied, or is that of a "
            f"group or of another process. Pass newdata=data, the table of the fit, or other rows with the same "
            f"columns."
        )
    return table


def _of_the_fit(one: Any, by: str | None, weighted: bool, averaged: bool, type: str, verb: str) -> Sample:
    table, frame = table_of(one, verb), one.rows.frame
    kept = np.arange(frame.n) if frame.kept is None else frame.kept
    try:
        sample = _sample(one, table, by, weighted, averaged, type, kept)
        place, X = np.searchsorted(kept, sample.rows), sample.design()[0].X
    except DataError as error:
        raise _changed(verb, str(error)) from error
    except KeyError as error:  # the table knows its columns from the time of the fit
        raise _changed(verb, f"Column {error} is not there any more.") from error
    every = [column for part in one.rows.design.fixed for column in part.columns]
    for j, column in enumerate(every[k] for k in one.rows.problem.kept):
        if not np.allclose(X[:, j], column[place], rtol=SAME, atol=SAME * max(float(np.abs(column).max()), 1e-300)):
            raise _changed(verb, f"A column of {one.formula!r} has other values now.")
    return sample


def _changed(verb: str, what: str) -> DataError:
    return DataError(f"{verb} reads the table of the fit, which was changed since. {what} Pass newdata=, or fit again.")


def _sample(
    fit: Any, table: Table, by: str | None, weighted: bool, averaged: bool, type: str, kept: Array | None = None
) -> Sample:
    found = sample_of(fit, table, by, weighted, averaged, type, kept)
    if found is None:
        needed = [fit.rows.blueprint.pv.get(name, name) for name in fit.rows.blueprint.predictors]
        wanted = [*needed, *(_weight_columns(fit) if weighted else [])]
        raise DataError(
            f"No row is left to average over. All {table.n_rows} rows of newdata have a missing predictor or no "
            f"positive weight. Check the columns {some(wanted, 12)}."
        )
    return found


def sample_of(
    fit: Any, table: Table, by: str | None, weighted: bool, averaged: bool, type: str, kept: Array | None = None
) -> Sample | None:
    """Give the rows of a table that count, as a single fit sees them; None if there are none."""
    blueprint = fit.rows.blueprint
    pv = {name: column for name, column in blueprint.pv.items() if name in blueprint.predictors}
    factors = [name for plan in blueprint.centrings for name in plan.columns]
    weights = _weight_columns(fit) if weighted else []
    needed = [pv.get(name, name) for name in blueprint.predictors]
    columns = table.columns([*needed, *factors, *weights, *([by] if by else [])] or table.names[:1], "newdata")
    local = {**columns, **{name: columns[column] for name, column in pv.items()}}
    n = len(next(iter(columns.values())))
    w = np.prod([columns[name].to_numpy(dtype=float) for name in weights], axis=0) if weights else np.ones(n)
    keep = np.nan_to_num(w) > 0
    if kept is not None:
        keep &= np.isin(np.arange(n), kept)
    for name in dict.fromkeys([*blueprint.predictors, *factors, *([by] if by else [])]):
        check_kind(local[name], name, blueprint)
        keep &= ~local[name].isna().to_numpy()
    rows = np.flatnonzero(keep)
    if not len(rows):
        return None
    local = {name: column.take(rows).reset_index(drop=True) for name, column in local.items()}
    codes, labels = pd.factorize(local[by], sort=True) if by else (np.zeros(len(rows), dtype=np.int64), [None])
    return Sample(_model(fit, averaged, type), blueprint, local, w[rows], codes, list(labels), rows)


def _model(fit: Any, averaged: bool, type: str) -> Any:
    """Give the mean of a single fit as a function of its parameters."""
    blueprint, of_its_own = fit.rows.blueprint, fit.distribution[0].is_mixture  # the mean is not that of the link
    kind = SeveralMeans if blueprint.further or of_its_own else MeanModel
    kind = OutcomeMeans if fit.outcomes else kind
    return kind.of(fit if fit.method != "bayes" else PosteriorMeans.of(fit), blueprint, averaged, type)


def _weight_columns(fit: Any) -> list[str]:
    """Columns whose product is the total weight of a row."""
    named = [column for _, column in fit.settings.weights if column is not None]
    return named if fit.settings.conditional else named[:1]
