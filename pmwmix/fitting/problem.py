"""Record of a model ready to be fitted, whatever its likelihood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import OptionError
from pmwmix.frame.components import component_names, name_of
from pmwmix.frame.crossing import parts_of
from pmwmix.frame.modelframe import DesignColumns, ModelFrame, RandomBlock, correlated
from pmwmix.likelihood.covariances import COVARIANCES
from pmwmix.likelihood.crossed.units import Crossing
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.standardise import RandomColumns, Transform
from pmwmix.spec.fixed import RESIDUAL
from pmwmix.spec.outcome import Response

if TYPE_CHECKING:
    from pmwmix.families import Family
    from pmwmix.links import Link


@dataclass(frozen=True)
class Problem:
    """One set of predictors, ready to be fitted for each of its outcomes; parameters are psi = (beta, theta, phi).

    Parameters
    ----------
    objective : Likelihood
        Minus the pseudo-log-likelihood of standardised columns, top-level weights divided by ``top_scale``.
    layout : ThetaLayout
    transforms : list of Transform
        Between the standardised and the raw scale, one per outcome.
    kept : ndarray of int
        Fixed columns in the model, without an intercept that thresholds stand in for; the others are collinear.
    names : tuple of str
        Of the kept fixed columns.
    dropped : tuple of str
    top_scale : float
    n_total : float
        Weighted number of rows; under REML less the number of coefficients.
    tree : (tuple of ndarray, tuple of ndarray)
        Parents and weights of the units, bottom-up; those of crossed factors count for nothing.
    reml : bool
    blocks : Blocks, optional
        Cross-products, where the integral has a closed form.
    distribution : (str, str)
        Names of family and link.
    responses : list of Response
    constants : list of float
        Weighted sum of what the log-densities do not depend on, at the scale of the weights used.
    means : list of float
        Mean of each outcome per trial, by the rows' total weights before scaling.
    ladder : tuple of tuple of int
        Numbers of nodes per level that the automatic choice may go through; none where they are given or there are
        none.
    fixed : ndarray, shape (n_theta + 1,), or None
        Variances held at values on the raw scale, in the order of theta, that of the residual last; NaN where free.
    beyond : tuple of int
        Numbers of nodes with which given ones are compared; nothing if they are not.
    groups : tuple of str
        Names of the levels, bottom-up.
    """

    objective: Any
    layout: ThetaLayout
    transforms: Sequence[Transform]
    kept: Array
    names: tuple[str, ...]
    dropped: tuple[str, ...]
    top_scale: float
    n_total: float
    tree: tuple[tuple[Array, ...], tuple[Array, ...]]
    reml: bool = False
    blocks: Any = None
    distribution: tuple[str, str] = ("gaussian", "identity")
    responses: tuple[Response, ...] | list[Response] = ()
    constants: tuple[float, ...] | list[float] = ()
    means: tuple[float, ...] | list[float] = ()
    ladder: tuple[tuple[int, ...], ...] = ()
    fixed: Array | None = None
    beyond: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def held(self) -> Array:
        """Mark the entries (n_theta,) of theta whose variance is held at a value."""
        return np.zeros(self.layout.n_theta, dtype=bool) if self.fixed is None else np.isfinite(self.fixed[:-1])

    @property
    def structure(self) -> Any:
        """What decides the shape of the likelihood."""
        return self.objective.structure

    @property
    def transform(self) -> Transform:
        """The transform of the columns, the same for all outcomes."""
        return self.transforms[0]

    @property
    def family(self) -> Family:
        """The distribution."""
        from pmwmix.families import FAMILIES

        found: Family = FAMILIES[self.distribution[0]]
        return found

    @property
    def has_intercept(self) -> bool:
        """Whether the fixed part may hold an intercept; thresholds stand in its place. Asks a closed form no family."""
        return self.objective.closed_form or self.family.has_intercept  # families come with PyTensor

    @property
    def link(self) -> Link:
        """The link function."""
        from pmwmix.links import LINKS

        found: Link = LINKS[self.distribution[1]]
        return found

    def finer(self) -> Problem | None:
        """Give the same problem with the next larger numbers of nodes; None where that is not to be tried."""
        more = [n_agq for n_agq in self.ladder if n_agq > self.objective.n_agq]
        return replace(self, objective=self.objective.with_nodes(more[0])) if more else None

    def compared(self) -> Problem | None:
        """Give it with more nodes than were asked for, uncompiled; None where that is not to be tried."""
        objective = self.objective.uncompiled(self.beyond) if self.beyond else None
        return None if objective is None else replace(self, objective=objective)


def layout_of(frame: ModelFrame) -> ThetaLayout:
    """Read the sizes of the random terms, level by level."""
    terms = correlated(frame.designs[0].blocks)
    levels = range(len(frame.hierarchy.levels))
    sizes = tuple(
        tuple(sum(len(b.names) for b in term) for term in terms if term[0].level == level) for level in levels
    )
    structures = tuple(tuple(term[0].term.structure for term in terms if term[0].level == level) for level in levels)
    for block in frame.designs[0].blocks:
        _check_structure(block)
    return ThetaLayout(sizes, structures if {name for level in structures for name in level} - {"us"} else ())


def _check_structure(block: RandomBlock) -> None:
    """Refuse a structure of fewer effects than it is about."""
    name, q = block.term.structure, len(block.matrix.names)
    if name != "us" and q < COVARIANCES[name].fewest:
        raise OptionError(
            f"The covariance structure {name!r} is about correlations between effects. The term {block.term.text} has "
            f"a single one, {block.matrix.names[0]!r}. Write a factor, {name}(0 + occasion | subject), or a plain bar."
        )


def fixed_of(frame: ModelFrame) -> Array | None:
    """List the variances of a frame that are held at values, as `Problem` has them."""
    if not frame.fixed:
        return None
    names = [*(name_of(*one) for one in component_names(frame)), RESIDUAL]
    return np.array([frame.fixed.get(name, np.nan) for name in names])


def random_columns(design: DesignColumns) -> list[RandomColumns]:
    """List the columns of every random term, and how far they may be standardised.

    Centring mixes the effects of a term and rescaling changes their variances: a structured covariance does not survive
    the first, one with a common variance neither.
    """
    return [
        RandomColumns(
            b.level,
            b.matrix.names,
            b.matrix.columns,
            centred=b.term.structure == "us",
            scaled=b.term.structure == "us" or not COVARIANCES[b.term.structure].common,
        )
        for b in design.blocks
    ]


def crossing_of(frame: ModelFrame, layout: ThetaLayout, numbers_held: Callable[[Crossing], float]) -> Crossing:
    """Lay the crossed factors of a frame out, and check that the numbers to be held fit into memory."""
    levels = frame.hierarchy.levels
    index, n_units = tuple(level.index for level in levels), tuple(level.n for level in levels)
    crossing = Crossing(index, n_units, layout.q, parts_of(frame.hierarchy))
    crossing.check_size([level.name for level in levels], numbers_held(crossing))
    return crossing
