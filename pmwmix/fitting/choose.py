"""The choice of the likelihood, made once: from here on a problem is a problem.

Modules of likelihoods that are not chosen are not imported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pmwmix.errors import NotSupportedError
from pmwmix.fitting import linear
from pmwmix.fitting.effort import say_effort
from pmwmix.fitting.ladder import beyond, rungs
from pmwmix.fitting.problem import Problem, fixed_of, layout_of
from pmwmix.frame.modelframe import DesignColumns, ModelFrame
from pmwmix.likelihood.device import check_placed
from pmwmix.spec.fixed import refuse_fixed
from pmwmix.spec.latentmean import refuse_latent
from pmwmix.spec.measured import refuse_measured
from pmwmix.spec.random import check_random, is_discrete, refuse_random
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
    executor : object, optional
        Evaluates rows that stand on disk, in parts.
    again : bool
        Whether this follows from another fit: a device that was asked for there is left aside where numpy evaluates.
    """

    engine: str
    reml: bool = False
    n_agq: Any = None
    chunk_cells: int | None = None
    executor: Any = None
    again: bool = False

    def check(self, frame: ModelFrame, vcov: str) -> None:
        """Refuse what no likelihood of the frame can do.

        Raises
        ------
        NotSupportedError
        """
        refuse_latent(bool(frame.fixed and frame.formula.latent), "Holding variances", "Leave fixed= out")
        refuse_measured(bool(frame.fixed and frame.formula.measured), "Holding variances", "Leave fixed= out")
        if frame.hierarchy.crossed and frame.has_closed_form and vcov != "model":
            refuse_fixed(frame.fixed, "A robust variance of crossed factors", "Use vcov='model'")
        if frame.has_closed_form:
            if frame.formula.outcomes and vcov in KINDS:
                raise NotSupportedError(
                    f"Small-sample variances are not defined for several outcomes. Asked for vcov={vcov!r} with "
                    f"{', '.join(frame.formula.outcomes)}. Use vcov='robust', which has the factor J / (J - 1) of CR1."
                )
            if frame.residual is not None and vcov in KINDS:
                raise NotSupportedError(
                    f"Small-sample variances are not defined under a residual structure. Asked for vcov={vcov!r} with "
                    f"residual=. Use vcov='robust', which has the factor J / (J - 1) of CR1."
                )
            return
        if vcov in KINDS:
            from pmwmix.fitting.workingrows import check_working  # families come with PyTensor

            check_working(frame, f"vcov={vcov!r}")


def make_problem(frame: ModelFrame, design: DesignColumns, plan: Plan) -> Problem:
    """Set up the likelihood of a frame, one of nine."""
    if frame.residual is None and not frame.pairwise and not frame.hierarchy.crossed:
        say_effort(layout_of(frame), [level.n for level in frame.hierarchy.levels], plan.engine)
    made = _made(frame, design, plan)
    check_placed(made.objective.is_compiled or plan.again, plan.engine)
    return replace(made, fixed=fixed_of(frame))


def _made(frame: ModelFrame, design: DesignColumns, plan: Plan) -> Problem:
    crossed = bool(frame.hierarchy.crossed)
    if frame.formula.outcomes and frame.has_closed_form:
        from pmwmix.fitting import outcomes  # what one outcome does not wait for

        return outcomes.make_several(frame, design, plan.reml, plan.engine)
    if frame.has_closed_form:
        lay_out = linear.crossed if crossed else linear.nested if frame.hierarchy.levels else linear.flat
        lay_out = lay_out if frame.residual is None else linear.structured
        lay_out = linear.pairwise if frame.pairwise else lay_out
        lay_out = lay_out if frame.stream is None else partial(linear.streamed, design=design)
        if design.latent is not None:
            from pmwmix.fitting.latent import latent

            lay_out = partial(latent, design=design)
        if design.errors:
            from pmwmix.fitting.corrected import corrected

            lay_out = partial(corrected, design=design)
        return linear.make_linear(frame, design, plan.reml, plan.engine, lay_out)
    from pmwmix.fitting import general

    layout = layout_of(frame)
    nodes = general.node_numbers(plan.n_agq, layout, frame.level_names[1:], crossed)
    if is_discrete(frame.random):
        check_random(frame.random, "ml", "n_agq", plan.n_agq)
    by_hand = nodes is not None and plan.n_agq is not None and not crossed
    if exact := general.laplace_is_exact(frame, design) or is_discrete(frame.random):
        nodes = nodes or (1,) * len(layout.q)
    ladder = rungs(layout) if nodes is None and layout.q else ()
    likelihood: Any = general.crossed if crossed else general.nested if layout.q else general.flat
    if frame.stored is not None:
        refuse_random(frame.random, "Sorting rows into files", "Leave memory= out")
        likelihood = partial(general.partitioned, executor=plan.executor)
    problem = general.make_general(
        frame, design, plan.engine, nodes or (ladder[0] if ladder else ()), plan.chunk_cells, likelihood
    )
    return replace(problem, ladder=ladder, beyond=beyond(layout, nodes) if nodes and by_hand and not exact else ())
