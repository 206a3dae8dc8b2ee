"""What a fit says about rows and groups: conditional modes, fitted values, predictions for new data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from formulaic import ModelSpec

from pmwmix.centre import Centring, Means, apply_center
from pmwmix.errors import DataError, OptionError, PmwmixWarning, some
from pmwmix.formula import ModelFormula
from pmwmix.frame import DesignColumns, ModelFrame
from pmwmix.generalised import GeneralEstimate
from pmwmix.hierarchy import label_text
from pmwmix.likelihood.crossedlinear import CrossedLinearObjective
from pmwmix.likelihood.modes import conditional_modes
from pmwmix.matrices import again, offset_of
from pmwmix.outcome import Response
from pmwmix.table import Table

Array = np.ndarray
NEW_GROUPS = ("population", "missing", "error")


@dataclass(frozen=True)
class LevelModes:
    """Conditional modes of one level.

    Parameters
    ----------
    group : str
    factors : tuple of str
    labels : list
    terms : tuple of str
        Random columns.
    b, se : ndarray, shape (G, q)
        On the raw scale of the linear predictor.
    Psi : ndarray, shape (q, q)
        Covariance matrix of the random effects.
    """

    group: str
    factors: tuple[str, ...]
    labels: list[object]
    terms: tuple[str, ...]
    b: Array
    se: Array
    Psi: Array


@dataclass(frozen=True)
class RandomSpec:
    """How the random columns of one term are rebuilt from new data."""

    level: int
    variables: tuple[str, ...]
    names: tuple[str, ...]
    spec: ModelSpec | None


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
    """

    formula: ModelFormula
    x_spec: ModelSpec
    kept: Array
    random: list[RandomSpec]
    categories: dict[str, list[str]]
    centrings: list[Centring]
    means: Means
    pv: dict[str, str]

    @property
    def predictors(self) -> list[str]:
        """Columns of the right-hand side, group factors not counted."""
        added = {plan.mean_name for plan in self.centrings if plan.add_mean}
        slopes = [name for term in self.formula.random for name in term.variables]
        names = dict.fromkeys([*self.formula.fixed_variables, *self.formula.offset_variables, *slopes])
        return [name for name in names if name not in added]


@dataclass(frozen=True)
class Rows:
    """Everything about the rows and groups of one fit, computed when asked for.

    Parameters
    ----------
    frame : ModelFrame
    design : DesignColumns
    problem : Problem or GeneralProblem
    k : int
        Outcome among those of ``design``.
    fit : Estimate or GeneralEstimate
    blueprint : Blueprint
    stamp : float
        Sum over the columns at the time of the fit: they may belong to the caller's table.
    """

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
        found = self.fit.modes if isinstance(self.fit, GeneralEstimate) else self._linear_modes()
        out = []
        for position, ((b, se), Psi) in enumerate(zip(found, self.fit.Psi, strict=True)):
            level = self.frame.hierarchy.levels[position]
            names = tuple(n for block in self.design.blocks if block.level == position for n in block.matrix.names)
            out.append(LevelModes(level.name, level.factors, level.labels, names, b, se, Psi))
        return out

    def _linear_modes(self) -> list[tuple[Array, Array]]:
        problem, point, transform = self.problem, self.fit.point, self.fit.transform
        if isinstance(problem.objective, CrossedLinearObjective):
            found = problem.objective.random_effects(point, self.k)
        else:
            found = conditional_modes(problem.blocks, problem.layout, point.theta, point.beta, point.sigma, self.k)
        out = []
        for (b, V), A in zip(found, transform.A_z, strict=True):
            variance = transform.y_scale**2 * np.einsum("ia,gab,ib->gi", A, V, A)
            out.append((transform.y_scale * b @ A.T, np.sqrt(np.maximum(variance, 0))))
        return out

    @property
    def response(self) -> Response | None:
        """The outcome as its family read it; None of a linear model."""
        self._unchanged()
        return self.design.responses[self.k] if self.design.responses else None

    @property
    def eta_beta(self) -> Array:
        """Coefficients of the linear predictor (p,)."""
        return self.fit.eta_beta if isinstance(self.fit, GeneralEstimate) else self.fit.beta

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
    """The same as `Rows`, read back from a file."""

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


def stamp_of(design: DesignColumns, k: int) -> float:
    """Sum an outcome and its predictors, each column with another factor."""
    columns = [design.y[k], *design.x.columns, *(c for block in design.blocks for c in block.matrix.columns)]
    return float(sum((j + 1) * float(column.sum()) for j, column in enumerate(columns)))


def quadratic(columns: Sequence[Array], Psi: Array) -> Array:
    """Compute z'Psi z of every row."""
    Z = np.array(columns)
    return np.einsum("an,ab,bn->n", Z, Psi, Z, optimize=True)


def blueprint_of(frame: ModelFrame, design: DesignColumns, problem: Any, means: Means, number: int) -> Blueprint:
    """Write down how to rebuild the columns of plausible value ``number``."""
    random = [RandomSpec(b.level, b.term.variables, b.matrix.names, b.matrix.spec) for b in design.blocks]
    pv = {name: columns[number] for name, columns in frame.pv.items()}
    return Blueprint(frame.formula, design.x.spec, problem.kept, random, frame.categories, frame.centrings, means, pv)


@dataclass(frozen=True)
class ModelColumns:
    """The columns of the model for some rows, built once for any number of coefficients and random effects.

    Parameters
    ----------
    index : pandas.Index, shape (n,)
        Labels of all rows.
    rows : ndarray of int, shape (m,)
        Those without missing predictors, which all that follows is about.
    x : list of ndarray, each (m,)
        Fixed columns.
    offset : ndarray, shape (m,), or None
    z : list of list of ndarray
        Random columns (m,) per level.
    group : list of ndarray of int, each (m,)
        Unit of each row per level; empty where no random effects are added.
    unseen : list of list of str
        Per level of ``group`` the units that the fit has not seen: they count from the number of its units on.
    """

    index: Any
    rows: Array
    x: list[Array]
    offset: Array | None
    z: list[list[Array]]
    group: list[Array]
    unseen: list[list[str]]

    def fixed(self, beta: Array) -> Array:
        """Give the fixed part and the offset (m,)."""
        out = np.zeros(len(self.rows)) if self.offset is None else self.offset.copy()
        for column, value in zip(self.x, beta, strict=True):
            out += value * column
        return out


def predict_new(
    blueprint: Blueprint, beta: Array, modes: Sequence[LevelModes], newdata: Any, conditional: bool, new_groups: str
) -> tuple[pd.Series, Array]:
    """Predict rows of new data.

    Parameters
    ----------
    blueprint : Blueprint
    beta : ndarray, shape (p,)
    modes : sequence of LevelModes
    newdata : table
    conditional : bool
        Add the random effects of known groups.
    new_groups : {"population", "missing", "error"}
        What a group that the fit has not seen gets: random effects of zero, a missing value, or an error.

    Returns
    -------
    Series (n,)
        Linear predictor; NaN where a predictor is missing.
    ndarray, shape (n,)
        Variance of the random part.
    """
    check_new_groups(new_groups)
    columns = new_columns(blueprint, modes, newdata, conditional, new_groups)
    out, variance = (np.full(len(columns.index), np.nan) for _ in range(2))
    rows = columns.rows
    variance[rows] = sum((quadratic(z, m.Psi) for z, m in zip(columns.z, modes, strict=True)), np.zeros(len(rows)))
    out[rows] = columns.fixed(beta)
    for z, level, group, unseen in zip(columns.z, modes, columns.group, columns.unseen, strict=False):
        others = np.full((len(unseen), len(z)), np.nan if new_groups == "missing" else 0.0)
        for column, b in zip(z, np.concatenate([level.b, others]).T, strict=True):
            out[rows] += column * b[group]
    return pd.Series(out, name="predicted", index=columns.index), variance


def check_new_groups(new_groups: Any, known: Sequence[str] = NEW_GROUPS) -> None:
    """Refuse a rule for unseen groups that does not exist.

    Raises
    ------
    OptionError
    """
    if new_groups not in known:
        raise OptionError(
            f"Unknown value for new_groups. Got {new_groups!r}. Use one of {', '.join(map(repr, known))}."
        )


def new_columns(
    blueprint: Blueprint, levels: Sequence[LevelModes], newdata: Any, conditional: bool, new_groups: str
) -> ModelColumns:
    """Build the columns of the model for rows of new data.

    Parameters
    ----------
    blueprint : Blueprint
    levels : sequence of LevelModes
        Bottom-up.
    newdata : table
    conditional : bool
        Look the groups up.
    new_groups : str
        Under ``"error"`` unseen groups are refused, under ``"population"`` they are warned of.

    Returns
    -------
    ModelColumns
    """
    table = Table(newdata)
    chosen = {name: column for name, column in blueprint.pv.items() if name in blueprint.predictors}
    factors = [name for level in levels for name in level.factors] if conditional else []
    by = [name for plan in blueprint.centrings for name in plan.columns]
    needed = [chosen.get(name, name) for name in blueprint.predictors]
    columns = table.columns([*needed, *factors, *by] or table.names[:1], "newdata")
    n = len(next(iter(columns.values())))
    local = {**columns, **{name: columns[column] for name, column in chosen.items()}}
    complete = np.ones(n, dtype=bool)
    for name in dict.fromkeys([*blueprint.predictors, *by, *factors]):
        complete &= ~local[name].isna().to_numpy()
        _check_kind(local[name], name, blueprint)
    rows = np.flatnonzero(complete)
    if not len(rows):
        nothing = [np.zeros(0) for _ in blueprint.kept]
        return ModelColumns(table.index, rows, nothing, None, _random_columns(blueprint, None, len(levels), 0), [], [])
    part = {name: column.take(rows).reset_index(drop=True) for name, column in local.items()}
    found = [_find_groups(level, part) for level in levels] if conditional else []
    local = _prepared(blueprint, part)
    x = again(blueprint.x_spec, blueprint.formula.fixed_variables, local, len(rows))
    offset = offset_of(blueprint.formula, local, len(rows))
    z = _random_columns(blueprint, local, len(levels), len(rows))
    for level, (_, unseen) in zip(levels, found, strict=False):
        _say_unseen(level, unseen, new_groups)
    kept = [x[j] for j in blueprint.kept]
    return ModelColumns(
        table.index, rows, kept, offset, z, [group for group, _ in found], [names for _, names in found]
    )


def _prepared(blueprint: Blueprint, columns: dict[str, pd.Series]) -> dict[str, pd.Series]:
    """Centre and recode as the fit did."""
    means = Means(dict(blueprint.means.values))
    local = apply_center(blueprint.centrings, columns, None, means, known=True)
    return {name: _recode(column, name, blueprint.categories) for name, column in local.items()}


def _random_columns(
    blueprint: Blueprint, local: dict[str, pd.Series] | None, n_levels: int, n: int
) -> list[list[Array]]:
    out: list[list[Array]] = [[] for _ in range(n_levels)]
    for term in blueprint.random:
        if local is None:
            out[term.level] += [np.zeros(0) for _ in term.names]
        else:
            out[term.level] += [np.ones(n)] if term.spec is None else again(term.spec, term.variables, local, n)
    return out


def _check_kind(column: pd.Series, name: str, blueprint: Blueprint) -> None:
    """Refuse text where the fit had numbers, and infinite values."""
    if name not in blueprint.predictors or name in blueprint.categories:
        return
    if isinstance(column.dtype, pd.CategoricalDtype):
        found = [str(c) for c in column.cat.categories]
        if found:
            raise DataError(
                f"New data have categories where the fit had numbers. Column {name!r} holds {some(found, 3)}. "
                f"Convert it to numbers."
            )
    elif np.isinf(column.to_numpy()).any():
        raise DataError(f"New data must be finite. Column {name!r} has infinite values. Replace them.")


def _recode(column: pd.Series, name: str, categories: Mapping[str, list[str]]) -> pd.Series:
    if name not in categories:
        return column
    known = categories[name]
    values = column.astype(str)
    unseen = sorted(set(values) - set(known))
    if unseen:
        raise DataError(
            f"New data have categories that the fit has not seen. Column {name!r} has {some(unseen)}; known are "
            f"{some(known)}. Recode or drop those rows."
        )
    return pd.Series(pd.Categorical(values, categories=known), name=name)


def _find_groups(level: LevelModes, columns: Mapping[str, pd.Series]) -> tuple[Array, list[str]]:
    """Units of the rows, those that the fit has not seen after its own, and the names of these."""
    texts = None
    for name in level.factors:
        part = columns[name].map(label_text).astype(str)
        texts = part if texts is None else texts + ":" + part
    assert texts is not None
    place = {label_text(label): position for position, label in enumerate(level.labels)}
    unseen = [text for text in dict.fromkeys(texts) if text not in place]
    place |= {text: len(level.labels) + position for position, text in enumerate(unseen)}
    return texts.map(place).to_numpy(dtype=np.int64), unseen


def _say_unseen(level: LevelModes, names: list[str], new_groups: str) -> None:
    if names and new_groups == "error":
        raise DataError(
            f"New data have groups that the fit has not seen. Of {level.group!r}: {some(names)}. "
            f"Pass new_groups='population' to predict them with random effects of zero."
        )
    if names and new_groups == "population":
        warnings.warn(
            f"{len(names)} groups of {level.group!r} are not in the fit ({some(names, 3)}): their random effects are "
            f"taken as zero. Pass new_groups='missing' or 'error' for another rule.",
            PmwmixWarning,
            stacklevel=5,
        )


__all__ = ["Blueprint", "LevelModes", "ModelColumns", "Rows", "SavedRows", "blueprint_of", "new_columns", "predict_new"]
