"""What is sampled: one model's log-likelihood as a graph of all its parameters, its data, and its fit by ML.

The bridge from the ML path: the same problem, blocks, weights and scales, for any plausible value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.judge import boundary_parameters, variance_input
from pmwmix.fitting.problem import Problem
from pmwmix.frame.components import component_names
from pmwmix.inference.icc import mean_squares
from pmwmix.likelihood.crossed.lineargraph import CrossedLinearStructure
from pmwmix.likelihood.crossed.unprofiled import CELLS, NAMES, crossed_joint_loglik
from pmwmix.likelihood.general.inside import InsideData, integrated_loglik
from pmwmix.likelihood.general.insidedata import inside_data
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Structure
from pmwmix.likelihood.linear.nested import Inputs
from pmwmix.likelihood.linear.unprofiled import joint_arrays, joint_loglik
from pmwmix.likelihood.standardise import Transform
from pmwmix.sample.model.explicit import Effects, check_sampled_crossed, explicit_density
from pmwmix.variance import VARIANCES


@dataclass(frozen=True)
class Target:
    """One model, for one plausible value.

    Parameters
    ----------
    linear : bool
    terms : tuple of str
        Fixed columns.
    components : tuple of (str, str, str or None)
        Entries of theta: group, term, other term.
    layout : ThetaLayout
    n_phi : int
        Further parameters of the family; 1 of a linear model, log sigma.
    transform : Transform
    intercept : int or None
        Position in ``terms``.
    A_x : ndarray, shape (p, p)
        Raw coefficients per standardised ones, without the outcome's scale; its diagonal, ``x_scale``, is that of
        coefficients of centred predictors.
    z_scale : tuple of ndarray
        The same per level of the random effects.
    arrays : dict
        Data by name. Shapes are those of all plausible values.
    static : dict
        Name -> static shape.
    structure : hashable
        What decides what ``loglik`` writes, besides the shapes of the data.
    loglik : callable
        (symbols by name, beta, theta, phi) -> scalar symbol; all on the standardised scale.
    ml : ndarray, shape (P,)
        (beta, theta, phi) at the maximum.
    information : ndarray, shape (P, P)
        Negative Hessian of the log-likelihood there, at the scale of weights that sum to the number of units.
    robust : ndarray, shape (P, P) or None
        Sandwich covariance there.
    boundary : ndarray of bool, shape (n_theta,)
    centre : ndarray, shape (1 + n_phi,)
        Of default priors: mean of the outcome, or of the starting linear predictor; then of phi.
    squares : tuple of ndarray
        Mean of z z' over the rows per level, for intraclass correlations.
    crossed : bool
        Whether the levels are crossed factors.
    effects : Effects or None
        Random effects that are sampled themselves; they follow phi in ``loglik`` and in draws of the parameters.
    """

    linear: bool
    terms: tuple[str, ...]
    components: tuple[tuple[str, str, str | None], ...]
    layout: ThetaLayout
    n_phi: int
    transform: Transform
    intercept: int | None
    A_x: Array
    z_scale: tuple[Array, ...]
    arrays: dict[str, Array]
    static: dict[str, tuple[int | None, ...]]
    structure: Any
    loglik: Callable[[Mapping[str, Any], Any, Any, Any], Any]
    ml: Array
    information: Array
    robust: Array | None
    boundary: Array
    centre: Array
    squares: tuple[Array, ...]
    crossed: bool = False
    effects: Effects | None = None

    @property
    def p(self) -> int:
        """Number of fixed columns."""
        return len(self.terms)

    @property
    def x_scale(self) -> Array:
        """Coefficient of a centred predictor per standardised one (p,)."""
        return np.diag(self.A_x)

    @property
    def n_theta(self) -> int:
        """Number of covariance parameters."""
        return self.layout.n_theta

    @property
    def y_scale(self) -> float:
        """Standard deviation by which the outcome was divided; 1 of generalised models."""
        return float(self.transform.y_scale)

    @property
    def y_shift(self) -> float:
        """What was subtracted from the outcome."""
        return float(self.transform.y_shift)


def target_of(fit: Any, corrected: bool) -> Target:
    """Read everything off the ML fit of one plausible value.

    Parameters
    ----------
    fit : FitResult
        With its `LiveRows`.
    corrected : bool
        Whether the sandwich covariance is wanted.

    Raises
    ------
    NotSupportedError
        For structured covariances, weights of crossed groups, and too many crossed effects of a generalised model.
    """
    rows = fit.rows
    _check(fit)
    problem, estimate, k = rows.problem, rows.fit, rows.k
    layout, p = problem.layout, problem.structure.p
    point = problem.objective.at(estimate.point.theta, k)
    boundary = boundary_parameters(layout, point.psi[p : p + layout.n_theta])
    given = variance_input(
        problem, point, np.eye(len(point.psi)), k, rows.frame.clusters, "robust" if corrected else "model"
    )
    transform = problem.transforms[k]
    A_x, intercept = transform.A_x, transform.intercept
    if not problem.has_intercept and intercept is not None:
        keep = np.arange(len(A_x)) != intercept
        A_x, intercept = A_x[np.ix_(keep, keep)], None
    if problem.objective.crossed and not problem.objective.closed_form:
        density = explicit_density(problem, k, point, rows.frame.level_names[1:])
    else:
        write = _closed_density if problem.objective.closed_form else _integrated_density
        density = (_crossed_density if problem.objective.crossed else write)(problem, k, point)
    return Target(
        linear=problem.objective.closed_form,
        terms=problem.names,
        components=tuple(component_names(rows.frame)),
        layout=layout,
        n_phi=len(point.psi) - p - layout.n_theta,
        transform=transform,
        intercept=intercept,
        A_x=A_x,
        z_scale=tuple(np.diag(A).copy() for A in transform.A_z),
        ml=np.array(point.psi),
        information=np.array(point.information),
        robust=_sandwich(given, boundary, p) if corrected else None,
        boundary=boundary,
        squares=mean_squares(rows.frame, rows.design),
        crossed=problem.objective.crossed,
        **density,
    )


def _check(fit: Any) -> None:
    """Refuse what is not sampled."""
    rows = fit.rows
    if rows.frame.hierarchy.crossed and not rows.problem.objective.closed_form:
        check_sampled_crossed(rows.frame)
    if rows.problem.layout.structures:
        raise NotSupportedError(
            f"Models with structured covariances of random effects are not sampled yet. The formula {fit.formula!r} "
            f"has one. Use method='ml' or 'reml', or a plain bar."
        )


def sharing(target: Target, others: Sequence[Target]) -> Target:
    """Let equal data of two plausible values be one array."""
    arrays = dict(target.arrays)
    for other in others:
        for name, value in other.arrays.items():
            if np.array_equal(value, arrays[name]):
                arrays[name] = value
    return replace(target, arrays=arrays)


def _closed_density(problem: Problem, k: int, point: Any) -> dict[str, Any]:
    """Arrays, shapes, log-likelihood and centre of a Gaussian model, nothing profiled out."""
    layout, transform, p = problem.layout, problem.transforms[k], problem.structure.p
    structure, Q = Structure(layout, p, False), sum(layout.q)

    def loglik(symbols: Mapping[str, Any], beta: Any, theta: Any, phi: Any) -> Any:
        levels = len(layout.q)

        def many(name: str, n: int) -> tuple[Any, ...]:
            return tuple(symbols[f"{name}{level}"] for level in range(n))

        below = max(levels - 1, 0)
        data = Inputs(
            symbols.get("zz"),
            symbols.get("zx"),
            symbols.get("zy"),
            symbols["S0"],
            parents=many("parent", below),
            to_top=many("to_top", below),
            w=many("w", levels),
            w_total=many("w_total", levels),
        )
        return joint_loglik(structure, data, symbols["n_total"], beta, theta, phi[0])

    return {
        "arrays": joint_arrays(problem.blocks, k),
        "static": {"zz": (Q * (Q + 1) // 2, None), "zx": (p, None), "zy": (Q, None), "S0": (p + 1, p + 1)},
        "structure": structure,
        "loglik": loglik,
        "centre": np.array([transform.y_shift, 0.0]),
    }


def _crossed_density(problem: Problem, k: int, point: Any) -> dict[str, Any]:
    """Give the same of a Gaussian model with crossed random effects."""
    objective, layout, p = problem.objective, problem.layout, problem.structure.p
    structure = CrossedLinearStructure(layout, p, False, sparse=objective.crossing.sparse)
    q, m = layout.q[0], max(layout.q[1:])

    def loglik(symbols: Mapping[str, Any], beta: Any, theta: Any, phi: Any) -> Any:
        return crossed_joint_loglik(structure, symbols, beta, theta, phi[0])

    names = [*NAMES, *(["cell_partner", *CELLS] if structure.sparse else [])]
    static: dict[str, tuple[int | None, ...]] = {
        "own": (q * (q + 1) // 2, None), "own_x": (q, p, None), "dense_x": (p, None), "own_y": (q, None),
        "S0": (p + 1, p + 1), "n": (1,), **{name: (m, None) for name in ("partner", "entry", "there", "dense_part")},
        "cross": (q, None) if structure.sparse else (q, None, None), "cell_partner": (m, None),
        "part": (None,), "units": (None,), "places": (None,), "parts": (None,),
    }  # fmt: skip
    arrays = dict(zip(names, objective.arrays(k), strict=True))
    centre = np.array([problem.transforms[k].y_shift, 0.0])
    return {"arrays": arrays, "static": static, "structure": structure, "loglik": loglik, "centre": centre}


def _integrated_density(problem: Problem, k: int, point: Any) -> dict[str, Any]:
    """Give the same of a model whose random effects, if it has some, are integrated out by quadrature."""
    structure, rows = problem.structure, problem.objective.rows
    eta, phi = problem.family.start(problem.link, problem.responses[k], rows.w)
    centre = np.concatenate([[np.average(eta - rows.offset, weights=rows.w)], phi])
    if not structure.layout.q:
        return {**_flat_density(structure, rows, k), "centre": centre}

    def loglik(symbols: Mapping[str, Any], beta: Any, theta: Any, phi: Any) -> Any:
        return integrated_loglik(
            structure, beta, theta, phi if structure.n_phi else None, InsideData.of(structure, symbols)
        )

    arrays = inside_data(problem, k, np.array(point.psi))
    return {"arrays": arrays, "static": {}, "structure": structure, "loglik": loglik, "centre": centre}


def _flat_density(structure: Any, rows: Any, k: int) -> dict[str, Any]:
    """Arrays, shapes and log-likelihood of a generalised model without random effects."""
    extra = {f"extra{i}": column for i, column in enumerate(rows.extra[k])}
    X = np.array(rows.X).reshape(structure.p, len(rows.w))

    def loglik(symbols: Mapping[str, Any], beta: Any, theta: Any, phi: Any) -> Any:
        etas = structure.fixed_parts(beta[:, None], symbols["X"], symbols["offset"])
        phis = [phi[i] for i in range(structure.n_phi)]
        density = structure.log_density(symbols["y"], tuple(symbols[name] for name in extra), etas, phis)
        return (symbols["w"] * density).sum()

    arrays = {"X": X, "offset": rows.offset, "y": rows.y[k], "w": rows.w, **extra}
    return {"arrays": arrays, "static": {"X": (structure.p, None)}, "structure": structure, "loglik": loglik}


def _sandwich(given: Any, boundary: Array, p: int) -> Array:
    """Robust covariance of all parameters, those on the boundary held fixed."""
    free = np.ones(len(given.information), dtype=bool)
    free[p : p + len(boundary)] = ~boundary
    return VARIANCES["robust"](replace(given, p=len(free), basis=np.eye(len(free))[:, free]))


__all__ = ["Target", "sharing", "target_of"]
