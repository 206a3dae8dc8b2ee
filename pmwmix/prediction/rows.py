"""What a fit says about rows and groups: conditional modes, fitted values, predictions for new data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError
from pmwmix.fitting.judge import modes_of
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.prediction.modes import LevelModes, quadratic
from pmwmix.prediction.newdata import Blueprint
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
            names = tuple(n for block in self.design.blocks if block.level == position for n in block.matrix.names)
            out.append(LevelModes(level.name, level.factors, level.labels, names, b, se, Psi))
        return out

    @property
    def columns(self) -> dict[str, Array]:
        """Fixed columns in the model by name, without those dropped as collinear."""
        return {self.design.x.names[j]: self.design.x.columns[j] for j in self.problem.kept}

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

    def random_variance(self) -> Array:
        """Variance z'Psi z of the random part of every row (n,)."""
        out = np.zeros(self.frame.n)
        for position, modes in enumerate(self.modes()):
            columns = [c for block in self.design.blocks if block.level == position for c in block.matrix.columns]
            out += quadratic(columns, modes.Psi)
        return out

    @property
    def y(self) -> Array:
        """Outcome (n,)."""
        self._unchanged()
        y, offset = self.design.y[self.k], self.design.offset
        return y if offset is None or self.design.responses else y + offset

    def _unchanged(self) -> None:
        """Refuse to compute with columns that were changed in place since the fit."""
        if stamp_of(self.design, self.k) != self.stamp:
            raise DataError(
                "The table was changed in place after the fit, so that fitted values and residuals would be wrong. A "
                "column of the model has other values now. Fit again, or change a copy of the table."
            )

    def marginal(self) -> Array:
        """Give the fixed part X beta and the offset (n,)."""
        self._unchanged()
        out = np.zeros(self.frame.n) if self.design.offset is None else self.design.offset.copy()
        for j, value in zip(self.problem.kept, self.eta_beta, strict=True):
            out += value * self.design.x.columns[j]
        return out

    def conditional(self) -> Array:
        """Add the conditional modes to the fixed part (n,)."""
        out = self.marginal()
        for position, modes in enumerate(self.modes()):
            index = self.frame.hierarchy.levels[position].index
            columns = [c for block in self.design.blocks if block.level == position for c in block.matrix.columns]
            for column, b in zip(columns, modes.b.T, strict=True):
                out += column * b[index]
        return out


@dataclass(frozen=True)
class SavedRows:
    """The same as `LiveRows`, read back from a file, which keeps no columns."""

    is_live: ClassVar[Literal[False]] = False

    saved_modes: list[LevelModes]
    y: Array
    saved_marginal: Array
    saved_conditional: Array
    blueprint: Blueprint
    eta_beta: Array
    response: Response | None = None
    saved_variance: Array | None = None

    def modes(self) -> list[LevelModes]:
        """Conditional modes of every level, bottom-up."""
        return self.saved_modes

    def marginal(self) -> Array:
        """Give the fixed part X beta (n,)."""
        return self.saved_marginal

    def conditional(self) -> Array:
        """Add the conditional modes to the fixed part (n,)."""
        return self.saved_conditional

    def random_variance(self) -> Array:
        """Variance z'Psi z of the random part of every row (n,)."""
        assert self.saved_variance is not None
        return self.saved_variance


def live_rows(fit: Any) -> list[LiveRows]:
    """Rows of every single fit inside a FitResult or BayesResult; empty if it was read from a file."""
    every = [one.rows for one in fit.fits]
    return every if all(rows.is_live for rows in every) else []


def stamp_of(design: DesignColumns, k: int) -> float:
    """Sum an outcome and its predictors, each column with another factor."""
    columns = [design.y[k], *design.x.columns, *(c for block in design.blocks for c in block.matrix.columns)]
    return float(sum((j + 1) * float(column.sum()) for j, column in enumerate(columns)))
