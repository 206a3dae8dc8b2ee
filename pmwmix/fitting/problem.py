"""Record of a model ready to be fitted, and the choice of its likelihood."""

from __future__ import annotations

from dataclasses import dataclass

from pmwmix._types import Array
from pmwmix.families import FAMILIES, Family
from pmwmix.frame.crossing import parts_of
from pmwmix.frame.modelframe import ModelFrame
from pmwmix.likelihood.crossed.general import CrossedObjective
from pmwmix.likelihood.crossed.linear import CrossedLinearObjective
from pmwmix.likelihood.crossed.units import Crossing
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.objective import IntegratedObjective
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.flat import FlatObjective
from pmwmix.likelihood.linear.objective import Objective
from pmwmix.likelihood.standardise import Transform
from pmwmix.links import LINKS, Link
from pmwmix.spec.outcome import Response


@dataclass(frozen=True)
class Problem:
    """One set of predictors with its cross-products, ready to be fitted for each of its outcomes.

    Parameters
    ----------
    blocks : Blocks
        With top-level weights divided by ``top_scale``.
    layout : ThetaLayout
    objective : Objective, FlatObjective or CrossedLinearObjective
    transforms : list of Transform
        One per outcome.
    kept : ndarray of int
        Fixed columns in the model; the others are collinear.
    dropped : tuple of str
    top_scale : float
    reml : bool
    """

    blocks: Blocks
    layout: ThetaLayout
    objective: Objective | FlatObjective | CrossedLinearObjective
    transforms: list[Transform]
    kept: Array
    dropped: tuple[str, ...]
    top_scale: float
    reml: bool


@dataclass(frozen=True)
class GeneralProblem:
    """One set of predictors, ready to be fitted for each of its outcomes.

    Parameters
    ----------
    layout : ThetaLayout
    structure : MarginalStructure
    objective : IntegratedObjective or CrossedObjective
    transform : Transform
        Between the standardised and the raw scale; the fixed columns of ``kept``, the intercept included.
    kept : ndarray of int
        Fixed columns in the model; without the intercept where thresholds stand in for it.
    dropped : tuple of str
    top_scale : float
    responses : list of Response
    constants : list of float
        Weighted sum of what the log-densities do not depend on, at the scale of the weights used.
    means : list of float
        Mean of each outcome per trial, by the rows' total weights before scaling.
    names : tuple of str
        Of the kept fixed columns.
    n_total : float
        Weighted number of rows.
    tree : (tuple of ndarray, tuple of ndarray)
        Parents and weights of the units, bottom-up; those of crossed factors count for nothing.
    """

    layout: ThetaLayout
    structure: MarginalStructure
    objective: IntegratedObjective | CrossedObjective
    transform: Transform
    kept: Array
    dropped: tuple[str, ...]
    top_scale: float
    responses: list[Response]
    constants: list[float]
    means: list[float]
    names: tuple[str, ...]
    n_total: float
    tree: tuple[tuple[Array, ...], tuple[Array, ...]]
    reml: bool = False

    @property
    def family(self) -> Family:
        """The distribution."""
        return FAMILIES[self.structure.family]

    @property
    def link(self) -> Link:
        """The link function."""
        return LINKS[self.structure.link]


def layout_of(frame: ModelFrame) -> ThetaLayout:
    """Read the sizes of the random terms, level by level."""
    blocks = frame.designs[0].blocks
    levels = range(len(frame.hierarchy.levels))
    return ThetaLayout(tuple(tuple(len(b.matrix.names) for b in blocks if b.level == level) for level in levels))


def crossing_of(frame: ModelFrame, layout: ThetaLayout) -> Crossing:
    """Lay the crossed factors of a frame out, and check that they fit into memory."""
    levels = frame.hierarchy.levels
    index, n_units = tuple(level.index for level in levels), tuple(level.n for level in levels)
    crossing = Crossing(index, n_units, layout.q, parts_of(frame.hierarchy))
    crossing.check_size([level.name for level in levels])
    return crossing
