"""The choice of the likelihood, made once: from here on a problem is a problem.

Modules of likelihoods that are not chosen are not imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.linear import make_linear, starting_theta
from pmwmix.fitting.problem import Problem, layout_of
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.variance.few_clusters import KINDS


@dataclass(frozen=True)
class Plan:
    """How to fit, as it was asked for.

    Parameters
    ----------
    engine : str
    reml : bool
    n_agq : int, tuple of int, or None
        Nodes per dimension; None is the automatic choice.
    chunk_cells : int, optional
        Rows times nodes times parameters that are evaluated at once.
    """

    engine: str
    reml: bool = False
    n_agq: Any = None
    chunk_cells: int | None = None

    def check(self, frame: ModelFrame, vcov: str) -> None:
        """Refuse what no likelihood of the frame can do.

        Raises
        ------
        NotSupportedError
        """
        if frame.has_closed_form:
            return
        if vcov in KINDS:
            raise NotSupportedError(
                f"Small-sample variances are defined for linear models. Asked for vcov={vcov!r} with family="
                f"{frame.family!r}. Use vcov='robust', which has the factor J / (J - 1) of CR1."
            )
        if not frame.hierarchy.levels:
            raise NotSupportedError(
                f"A generalised model needs a random term. The formula {frame.formula.text!r} has none. "
                f"Add one such as (1 | school), or use a package for generalised linear models."
            )


def make_problem(
    frame: ModelFrame, design: DesignColumns, plan: Plan, first: Callable[[ThetaLayout], tuple[int, ...]]
) -> Problem:
    """Set up the likelihood of a frame.

    Parameters
    ----------
    frame : ModelFrame
    design : DesignColumns
    plan : Plan
    first : callable
        Numbers of nodes that the automatic choice begins with.
    """
    if frame.has_closed_form:
        return make_linear(frame, design, plan.reml, plan.engine)
    from pmwmix.fitting.general import make_general, node_numbers

    layout = layout_of(frame)
    nodes = node_numbers(plan.n_agq, layout, frame.level_names[1:], bool(frame.hierarchy.crossed))
    return make_general(frame, design, plan.engine, nodes or first(layout), plan.chunk_cells)


def can_be_finer(problem: Problem, plan: Plan) -> bool:
    """Whether the number of nodes is ours to choose and matters."""
    return plan.n_agq is None and bool(problem.objective.n_agq) and not problem.objective.crossed


def starting_values(problem: Problem, k: int) -> Array:
    """Give the parameters that a climb starts from, those of `Likelihood.free`."""
    if not problem.objective.closed_form:
        from pmwmix.fitting.general import starting_point

        return starting_point(problem, k)
    if problem.objective.crossed:
        return problem.layout.start(0.4)
    return starting_theta(problem.blocks, problem.layout, k)
