"""How the columns of a fitted model are rebuilt from new data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError
from pmwmix.frame.centring import Means
from pmwmix.frame.matrices import again
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.prediction.estimable import Aliases, aliases_of, joined
from pmwmix.spec.centring import Centring
from pmwmix.spec.formula import ModelFormula

if TYPE_CHECKING:
    from formulaic import ModelSpec


@dataclass(frozen=True)
class RandomSpec:
    """How the random columns of one term are rebuilt from new data."""

    level: int
    variables: tuple[str, ...]
    names: tuple[str, ...]
    spec: ModelSpec | None
    predictor: int = 0  # number of its linear predictor
    label: str | None = None  # terms of a level with one label are correlated

    def shown(self, formula: ModelFormula) -> tuple[str, ...]:
        """Names of the columns, after that of their linear predictor unless it is the mean's."""
        return tuple(formula.prefix(self.predictor) + name for name in self.names)


@dataclass(frozen=True)
class Blueprint:
    """How the columns of the model are rebuilt from new data.

    Parameters
    ----------
    formula : ModelFormula
    x_spec : formulaic.ModelSpec
    kept : ndarray of int
        Fixed columns in the model.
    random : list of RandomSpec
    categories : dict
        Categories of every factor column.
    centrings, means
        Of `centre`.
    pv : dict
        Column that stands for each plausible-value set in this fit.
    aliases : Aliases or None
        Dropped columns; None if none was.
    further : tuple of formulaic.ModelSpec
        Fixed columns of every further linear predictor, in the order of ``formula.further``.
    of : ndarray of int
        Linear predictor of every fixed column in the model; nothing if there is one.
    """

    formula: ModelFormula
    x_spec: ModelSpec
    kept: Array
    random: list[RandomSpec]
    categories: dict[str, list[str]]
    centrings: list[Centring]
    means: Means
    pv: dict[str, str]
    aliases: Aliases | None = None
    further: tuple[ModelSpec, ...] = ()
    of: Array = field(default_factory=lambda: np.zeros(0, dtype=int))

    @property
    def n_predictors(self) -> int:
        """Number of linear predictors of a row."""
        return 1 + len(self.further)

    @property
    def x_of(self) -> Array:
        """Linear predictor of every fixed column in the model (p,)."""
        return self.of if len(self.of) else np.zeros(len(self.kept), dtype=int)

    def z_of(self, level: int) -> list[int]:
        """Linear predictor of every random column of a level (q,)."""
        return [term.predictor for term in self.random if term.level == level for _ in term.names]

    def correlated(self) -> list[tuple[int, int]]:
        """Level and size of every set of correlated random effects: a term, or neighbours with one label."""
        out: list[tuple[int, int]] = []
        last: tuple[int, str | None] = (-1, None)
        for term in self.random:
            if term.label is not None and last == (term.level, term.label):
                out[-1] = (term.level, out[-1][1] + len(term.names))
            else:
                out.append((term.level, len(term.names)))
            last = term.level, term.label
        return out

    def fixed_columns(self, local: dict[str, Any], n: int) -> list[Array]:
        """Build the fixed columns (n,) of all linear predictors, those too that are not in the model."""
        x = again(self.x_spec, self.formula.fixed_variables, local, n)
        for part, spec in zip(self.formula.further, self.further, strict=True):
            x += again(spec, part.variables, local, n)
        return x

    def kept_of(self, x: list[Array]) -> list[Array]:
        """Choose those in the model."""
        if self.kept.max(initial=-1) >= len(x):  # only a file that was altered
            raise DataError(
                f"The formula gives other columns than the fit has. {self.formula.text!r} gives {len(x)}, the fit "
                f"uses number {self.kept.max() + 1}. Fit again, or use another copy of the saved fit."
            )
        return [x[j] for j in self.kept]

    @property
    def predictors(self) -> list[str]:
        """Columns of the right-hand side, group factors not counted."""
        added = {plan.mean_name for plan in self.centrings if plan.add_mean}
        slopes = [name for term in self.formula.random for name in term.variables]
        fixed = [*self.formula.fixed_variables, *self.formula.further_variables]
        names = dict.fromkeys([*fixed, *self.formula.offset_variables, *slopes])
        return [name for name in names if name not in added]


def _aliases(frame: ModelFrame, design: DesignColumns, problem: Any) -> Aliases | None:
    """Write down how dropped columns follow from others of the same linear predictor."""
    found = []
    design = design if frame.stream is None else frame.stream.sample_of(design)
    seen = problem.family.seen(problem.responses[0]) if problem.dropped and problem.responses else []
    for k, part in enumerate(design.fixed):
        names = [frame.formula.prefix(k) + name for name in part.names]
        columns = [column[seen[k] > 0.0] for column in part.columns] if seen else part.columns
        found.append((len(names), aliases_of(names, columns, problem.dropped, not problem.has_intercept)))
    return joined(found)


def blueprint_of(frame: ModelFrame, design: DesignColumns, problem: Any, means: Means, number: int) -> Blueprint:
    """Write down how to rebuild the columns of plausible value ``number``."""
    random = [
        RandomSpec(b.level, b.term.variables, b.matrix.names, b.matrix.spec, b.predictor, b.term.label)
        for b in design.blocks
    ]
    pv = {name: columns[number] for name, columns in frame.pv.items()}
    further = tuple(part.spec for part in design.further)
    return Blueprint(
        frame.formula,
        design.x.spec,
        problem.kept,
        random,
        frame.categories,
        frame.centrings,
        means,
        pv,
        _aliases(frame, design, problem),
        further,
        design.of[problem.kept] if further else np.zeros(0, dtype=int),
    )
