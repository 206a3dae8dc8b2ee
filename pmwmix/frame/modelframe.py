"""Record of all that a likelihood needs: outcome, columns, groups, weights."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.data.source import Source
from pmwmix.frame.centring import Means
from pmwmix.frame.clusters import Clusters
from pmwmix.frame.hierarchy import Hierarchy
from pmwmix.frame.latentmeans import LatentColumns
from pmwmix.frame.matrices import Matrix
from pmwmix.frame.residual import ResidualColumns
from pmwmix.spec.centring import Centring
from pmwmix.spec.formula import ModelFormula
from pmwmix.spec.outcome import Response
from pmwmix.spec.randomterms import RandomTerm
from pmwmix.weights.conditional import WeightStats
from pmwmix.weights.trimming import Trimmed


@dataclass(frozen=True)
class RandomBlock:
    """Design columns of one random term.

    Parameters
    ----------
    level : int
        Position in ``Hierarchy.levels``.
    term : RandomTerm
    matrix : Matrix
    predictor : int
        Linear predictor that the columns belong to; 0 is that of the mean.
    """

    level: int
    term: RandomTerm
    matrix: Matrix
    predictor: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, after that of their linear predictor unless it is the mean's: ``zi.Intercept``."""
        first = "" if self.term.predictor is None else f"{self.term.predictor}."
        return tuple(first + name for name in self.matrix.names)


def correlated(blocks: Sequence[RandomBlock]) -> list[list[RandomBlock]]:
    """Blocks whose random effects are correlated, together: those beside each other on one level with one label."""
    out: list[list[RandomBlock]] = []
    for block in blocks:
        last = out[-1][-1] if out else None
        same = last is not None and (last.level, last.term.label) == (block.level, block.term.label)
        if same and block.term.label is not None:
            out[-1].append(block)
        else:
            out.append([block])
    return out


@dataclass(frozen=True)
class DesignColumns:
    """Predictors of one data set, and the outcomes that share them.

    Parameters
    ----------
    x : Matrix
        Fixed columns of the mean.
    blocks : tuple of RandomBlock
        Bottom-up by level, in formula order inside a level.
    y : list of ndarray, each (n,)
        One per plausible value when only the outcome has them, else one. Of a gaussian model without the offset.
    responses : list of Response
        The outcomes as their family read them; empty for a gaussian model.
    offset : ndarray, shape (n,), or None
        Of the mean.
    further : tuple of Matrix
        Fixed columns of every further linear predictor, in the order of the family.
    beside : list of tuple of ndarray, each (n,)
        Of several outcomes those after the first, as ``y``; empty of one.
    bases : tuple
        Of every outcome what its transformation and that of the offset were learned from, ``scale(y)``; equal where
        these are the same.
    latent : LatentColumns or None
        Of the latent group means among the fixed columns.
    errors : tuple of (int, float)
        Fixed columns that are measured with error, and its variance.
    """

    x: Matrix
    blocks: tuple[RandomBlock, ...]
    y: list[Array]
    responses: list[Response] = field(default_factory=list)
    offset: Array | None = None
    further: tuple[Matrix, ...] = ()
    bases: tuple[Hashable, ...] = ()
    latent: LatentColumns | None = None
    errors: tuple[tuple[int, float], ...] = ()
    beside: list[tuple[Array, ...]] = field(default_factory=list)

    @property
    def fixed(self) -> tuple[Matrix, ...]:
        """Fixed columns of every linear predictor, those of the mean first."""
        return (self.x, *self.further)

    @property
    def of(self) -> Array:
        """Linear predictor of every fixed column, in the order of `fixed`."""
        return np.repeat(range(len(self.fixed)), [len(part.names) for part in self.fixed])


@dataclass(frozen=True)
class ModelFrame:
    """Everything numeric that a fit needs, frozen.

    Parameters
    ----------
    formula : ModelFormula
    hierarchy : Hierarchy
    designs : list of DesignColumns
        One, or one per plausible value when predictors have them.
    w : tuple of ndarray
        Scaled conditional weights, rows first.
    weighted : tuple of bool
        Which levels have a weight column.
    weight_columns : tuple of str or None
    weight_stats : dict
        ``(level name, "total" | "used")`` to WeightStats.
    scaling : str
    n_read : int
    kept : ndarray of int, shape (n,), or None
        Positions of the used rows in the table; None if all are used.
    dropped : dict
        Column to number of rows left out because it is missing (first column that is).
    zero_weight : dict
        Weight column to number of rows that leave the likelihood with weight 0.
    clusters : Clusters or None
    means : list of Means
    centrings : list of Centring
    pv : dict
        Columns of every plausible-value set in the formula, one per fit.
    categories : dict
        Categories of every factor among the predictors.
    index : pandas.Index, shape (n,)
        Labels of the used rows in the caller's table.
    notes : tuple of str
    cond : tuple of ndarray
        Conditional weights before scaling, rows first.
    family, link : str
        With a formula for a parameter the family is ``"gaussian(sigma)"``.
    has_closed_form : bool
        Whether the likelihood is that of a linear model.
    residual : ResidualColumns or None
        Structure of the residuals; None where they are independent with one variance.
    nests : tuple of tuple of str
        Where the numbers of every plausible value come from, as `pooling.nested.sources_of` reads it; empty where
        they are exchangeable.
    source : Source or None
        The table.
    pairwise : bool
        Whether the likelihood is that of pairs of rows.
    own_w : tuple of ndarray
        Weights of the rows given their units, and of the units of crossed factors, for a pairwise likelihood; ``w`` has
        their products as weights of the rows. Empty where factors are nested.
    weights_top : str or None
        Scale of the top level's weights, if they are not as given.
    trimmed : tuple of Trimmed
        What was cut off the conditional weights, per level.
    fixed : dict
        Variances held at values, by their names in ``varcorr``.
    random : str
        Distribution of the random effects: ``"normal"``, ``"t"``, ``"t(5)"``, ``"discrete(3)"``.
    stream : Streamed or None
        Of data that are read piece by piece: what stands for the rows, which refuse to be looked at (`NoRows`).
    stored : RowsOnDisk or None
        Of rows that were sorted into files, whose columns are mapped into memory.
    """

    formula: ModelFormula
    hierarchy: Hierarchy
    designs: list[DesignColumns]
    w: tuple[Array, ...]
    weighted: tuple[bool, ...]
    weight_columns: tuple[str | None, ...]
    weight_stats: dict[tuple[str, str], WeightStats]
    scaling: str
    n_read: int
    kept: Array | None
    dropped: dict[str, int]
    zero_weight: dict[str, int]
    clusters: Clusters | None
    means: list[Means] = field(default_factory=list)
    centrings: list[Centring] = field(default_factory=list)
    pv: dict[str, list[str]] = field(default_factory=dict)
    categories: dict[str, list[str]] = field(default_factory=dict)
    index: Any = None
    notes: tuple[str, ...] = ()
    replicates: Any = None  # ReplicateScheme
    cond: tuple[Array, ...] = ()
    family: str = "gaussian"
    link: str = "identity"
    has_closed_form: bool = True
    residual: ResidualColumns | None = None
    nests: tuple[tuple[str, ...], ...] = ()
    source: Source | None = None
    pairwise: bool = False
    own_w: tuple[Array, ...] = ()
    weights_top: str | None = None
    trimmed: tuple[Trimmed, ...] = ()
    fixed: dict[str, float] = field(default_factory=dict)
    stream: Any = None  # Streamed
    stored: Any = None  # RowsOnDisk
    random: str = "normal"

    @property
    def n(self) -> int:
        """Number of rows in the likelihood."""
        return self.stream.n if self.stream is not None else len(self.designs[0].y[0])

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the levels, ``"obs"`` first."""
        return ("obs", *(level.name for level in self.hierarchy.levels))
