"""What a fit says about rows and groups: conditional modes, fitted values, predictions for new data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError
from pmwmix.fitting.judge import modes_of
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.frame.norows import NoRows
from pmwmix.prediction.blueprint import Blueprint
from pmwmix.prediction.modes import LevelModes, covariances
from pmwmix.spec.outcome import Response


@dataclass(frozen=True)
class LiveRows:
    """Everything about the rows and groups of one fit with its data, computed when asked for.

    Parameters
    ----------
    frame : ModelFrame
    design : DesignColumns
    problem : Problem
    k : int
        Outcome among those of ``design``.
    fit : Estimate
    blueprint : Blueprint
    stamp : float
        Sum over the columns at the time of the fit: they may belong to the caller's table.
    """

    is_live: ClassVar[Literal[True]] = True

    frame: ModelFrame
    design: DesignColumns
    problem: Any
    k: int
    fit: Any
    blueprint: Blueprint
    stamp: float = 0.0
    _memo: dict[str, Any] = field(default_factory=dict)

    def modes(self) -> list[LevelModes]:
        """Conditional modes of every level, bottom-up."""
        if "modes" not in self._memo:
            self._memo["modes"] = self._modes()
        return self._memo["modes"]

    def _modes(self) -> list[LevelModes]:
        found = self.fit.modes
        if found is None:  # a closed form: in no time, from the cross-products
            found = modes_of(self.problem, self.fit.point, self.k)
        out = []
        for position, ((b, se), Psi) in enumerate(zip(found, self.fit.Psi, strict=True)):
            level = self.frame.hierarchy.levels[position]
            names = tuple(n for block in self.design.blocks if block.level == position for n in block.names)
            classes = None if self.fit.classes is None else self.fit.classes[position]
            out.append(LevelModes(level.name, level.factors, level.labels, names, b, se, Psi, classes))
        return out

    @property
    def whole(self) -> LiveRows:
        """The same with its rows: those of a streamed fit are sorted into files by one more pass, which all share."""
        stream = self.frame.stream
        if stream is None:
            return self
        if "whole" not in self._memo:
            from pmwmix.frame.ondisk import on_disk  # what has its rows does without it

            if "rows" not in stream.memo:
                stream.memo["rows"] = on_disk(self.frame, None)
            frame = stream.memo["rows"]
            design = frame.designs[stream.number_of(self.design)]
            stamp = stamp_of(design, self.k)
            self._memo["whole"] = replace(self, frame=frame, design=design, stamp=stamp, _memo={})
        found: LiveRows = self._memo["whole"]
        return found

    @property
    def columns(self) -> dict[str, Array]:
        """Fixed columns of the mean in the model by name, without those dropped as collinear."""
        return {
            self.design.x.names[j]: self.design.x.columns[j] for j in self.problem.kept if j < len(self.design.x.names)
        }

    def columns_of(self) -> dict[str | None, dict[str, Array]]:
        """Give the fixed columns in the model by the name of their linear predictor, None for the mean."""
        formula = self.blueprint.formula
        names = [formula.first, *(part.predictor for part in formula.further)]
        every = [pair for part in self.design.fixed for pair in zip(part.names, part.columns, strict=True)]
        out: dict[str | None, dict[str, Array]] = {name: {} for name in names}
        for j, k in zip(self.problem.kept, self.blueprint.x_of, strict=True):
            out[names[k]][every[j][0]] = every[j][1]
        return out

    @property
    def design_number(self) -> int:
        """Position of ``design`` among those of the frame."""
        return next(d for d, one in enumerate(self.frame.designs) if one is self.design)

    @property
    def top_scale(self) -> float:
        """What the top-level weights were divided by."""
        return float(self.problem.top_scale)

    @property
    def engine(self) -> str:
        """Where the likelihood was compiled to."""
        return str(self.problem.objective.engine)

    @property
    def replicates(self) -> Any:
        """What replicate weights gave, for functions of the parameters; None without them."""
        return self.fit.replicates

    @property
    def response(self) -> Response | None:
        """The outcome as its family read it; None of a linear model."""
        self._unchanged()
        return self.design.responses[self.k] if self.design.responses else None

    @property
    def eta_beta(self) -> Array:
        """Coefficients of the linear predictor (p,)."""
        return self.fit.eta_beta

    def residual_sd(self) -> Array:
        """Give the residual standard deviation of every row (n,), of a linear model."""
        point, objective = self.fit.point, self.problem.objective
        if self.frame.residual is None:
            return np.full(self.frame.n, self.fit.sigma)
        return point.sigma * self.problem.transforms[self.k].y_scale * objective.relative_sd(point)

    def residuals_of(self, normalized: Array) -> Array:
        """Give residuals (n,) whose normalised ones are these: of independent numbers draws from their distribution."""
        if self.frame.residual is None:
            return self.fit.sigma * normalized
        point, scale = self.fit.point, self.problem.transforms[self.k].y_scale
        return np.asarray(point.sigma * scale * self.problem.objective.coloured(point, normalized))

    def normalized(self) -> Array:
        """Residuals about the conditional mean made uncorrelated, with variance 1 (n,) (residuals, eq. 10)."""
        if self.frame.stream is not None:
            return self.whole.normalized()
        gap = self.y - self.conditional()
        if self.frame.residual is None:
            return gap / self.fit.sigma
        point, scale = self.fit.point, self.problem.transforms[self.k].y_scale
        return self.problem.objective.whitened(point, gap / (point.sigma * scale))

    def random_covariance(self) -> Array:
        """Covariance z'Psi z of the random parts of the linear predictors of every row (K, K, n)."""
        if self.frame.stream is not None:
            return self.whole.random_covariance()
        K = self.blueprint.n_predictors
        out = np.zeros((K, K, self.frame.n))
        for position, modes in enumerate(self.modes()):
            columns = [c for block in self.design.blocks if block.level == position for c in block.matrix.columns]
            out += covariances(columns, self.blueprint.z_of(position), modes.Psi, K)
        return out

    @property
    def y(self) -> Array:
        """Outcome (n,)."""
        if self.frame.stream is not None:
            return self.whole.y
        self._unchanged()
        y, offset = self.design.y[self.k], self.design.offset
        return y if offset is None or self.design.responses else y + offset

    @property
    def ys(self) -> Array:
        """All outcomes (m, n) where there are several."""
        if (response := self.response) is not None:
            found: Array = self.problem.family.values(response)
            return found
        return np.array([self.design.y[self.k], *self.design.beside[self.k]])

    @property
    def outcome_sums(self) -> Array:
        """Number, sum and sum of squares of the outcome of a streamed fit (3,)."""
        stream = self.frame.stream
        found: Array = stream.memo["outcomes"][stream.number_of(self.design)][self.k]
        return found

    def _unchanged(self) -> None:
        """Refuse to compute with columns that were changed in place since the fit."""
        if stamp_of(self.design, self.k) != self.stamp:
            raise DataError(
                "The table was changed in place after the fit, so that fitted values and residuals would be wrong. A "
                "column of the model has other values now. Fit again, or change a copy of the table."
            )

    def etas(self, conditional: bool) -> Array:
        """Give the fixed part of every linear predictor, of the first with the offset; or with the modes (K, n)."""
        if self.frame.stream is not None:
            return self.whole.etas(conditional)
        self._unchanged()
        out = np.zeros((self.blueprint.n_predictors, self.frame.n))
        if self.design.offset is not None:
            out[0] += self.design.offset
        columns = [column for part in self.design.fixed for column in part.columns]
        for j, k, value in zip(self.problem.kept, self.blueprint.x_of, self.eta_beta, strict=True):
            out[k] += value * columns[j]
        if self.design.latent is not None:
            out[0] += self._beyond_observed()
        for position, modes in enumerate(self.modes() if conditional else ()):
            index, of = self.frame.hierarchy.levels[position].index, self.blueprint.z_of(position)
            columns = [c for block in self.design.blocks if block.level == position for c in block.matrix.columns]
            for k, column, b in zip(of, columns, modes.b.T, strict=True):
                out[k] += column * b[index]
        return out

    def _beyond_observed(self) -> Array:
        """Give what expected latent means, not observed ones, add to the linear predictor (n,)."""
        known, place = self.design.latent, {int(j): at for at, j in enumerate(self.problem.kept)}
        assert known is not None
        moved = self.group_means()[self.frame.hierarchy.levels[0].index].T - np.array(known.at)
        used = [(place[j], kappa, slope) for j, kappa, slope in known.slopes if j in place]
        return sum((self.eta_beta[j] * slope * moved[kappa] for j, kappa, slope in used), np.zeros(self.frame.n))

    def group_means(self) -> Array:
        """Give expected latent means (G, K), given the outcome and their predictors (latent-means, eq. 9)."""
        return self.problem.objective.group_means(self.fit.point, self.k)

    def marginal(self) -> Array:
        """Give the fixed part of the mean's linear predictor and the offset (n,)."""
        return self.etas(False)[0]

    def conditional(self) -> Array:
        """Add the conditional modes to the fixed part (n,)."""
        return self.etas(True)[0]


@dataclass(frozen=True)
class SavedRows:
    """The same as `LiveRows`, read back from a file, which keeps no columns."""

    is_live: ClassVar[Literal[False]] = False

    saved_modes: list[LevelModes]
    y: Array
    saved_marginal: Array  # (K, n), as all that follow
    saved_conditional: Array
    blueprint: Blueprint
    eta_beta: Array
    response: Response | None = None
    saved_covariance: Array | None = None  # (K, K, n)
    saved_sd: Array | None = None
    saved_normalized: Array | None = None
    saved_ys: Array | None = None  # (m, n)

    def modes(self) -> list[LevelModes]:
        """Conditional modes of every level, bottom-up."""
        return self.saved_modes

    def etas(self, conditional: bool) -> Array:
        """Give the fixed part of every linear predictor, or with the modes (K, n)."""
        return self.saved_conditional if conditional else self.saved_marginal

    def marginal(self) -> Array:
        """Give the fixed part of the mean's linear predictor (n,)."""
        return self.saved_marginal[0]

    def conditional(self) -> Array:
        """Add the conditional modes to the fixed part (n,)."""
        return self.saved_conditional[0]

    @property
    def ys(self) -> Array:
        """All outcomes (m, n) where there are several."""
        assert self.saved_ys is not None
        return self.saved_ys

    def residual_sd(self) -> Array:
        """Give the residual standard deviation of every row (n,), of a linear model."""
        assert self.saved_sd is not None
        return self.saved_sd

    def normalized(self) -> Array:
        """Residuals about the conditional mean made uncorrelated, with variance 1 (n,)."""
        assert self.saved_normalized is not None
        return self.saved_normalized

    def random_covariance(self) -> Array:
        """Covariance z'Psi z of the random parts of the linear predictors of every row (K, K, n)."""
        assert self.saved_covariance is not None
        return self.saved_covariance


def live_rows(fit: Any) -> list[LiveRows]:
    """Rows of every single fit inside a FitResult or BayesResult; empty if it was read from a file."""
    every = [one.rows for one in fit.fits]
    return every if all(rows.is_live for rows in every) else []


def with_rows(fit: Any) -> Any:
    """Give a streamed fit its rows, sorted into files by one more pass; others are as they were."""
    if not any(rows.frame.stream is not None for rows in live_rows(fit)):
        return fit
    if not fit.each:
        return replace(fit, rows=fit.rows.whole)
    return replace(fit, each=[with_rows(one) for one in fit.each])


def stamp_of(design: DesignColumns, k: int) -> float:
    """Sum an outcome and its predictors, each column with another factor; nothing where the rows are not held."""
    if isinstance(design.y[k], NoRows):
        return 0.0
    fixed = [c for part in design.fixed for c in part.columns]
    outcomes = [design.y[k], *(design.beside[k] if design.beside else ())]
    columns = [*outcomes, *fixed, *(c for block in design.blocks for c in block.matrix.columns)]
    return float(sum((j + 1) * float(column.sum()) for j, column in enumerate(columns)))
