"""A generalised model ready to be fitted: standardised columns in chunks, the objective, and the way back.

The counterpart of `estimate.Problem` for likelihoods without a closed form; numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.estimate import crossing_of, independent, layout_of, subset_transform
from pmwmix.families import FAMILIES, Family
from pmwmix.frame import DesignColumns, ModelFrame
from pmwmix.likelihood.chunkmodel import MarginalStructure
from pmwmix.likelihood.crossedobjective import CrossedObjective
from pmwmix.likelihood.integrated import IntegratedObjective, RowArrays, padded_columns
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.smallmat import UNROLL
from pmwmix.likelihood.standardise import RandomColumns, Transform, standardise
from pmwmix.likelihood.tiles import cut
from pmwmix.links import LINKS, Link
from pmwmix.outcome import Response
from pmwmix.weights import total_weights

Array = np.ndarray
CELLS = 400_000  # rows x nodes x parameters that are held at once for one intermediate of the Hessian
MIN_ROWS, MAX_ROWS = 512, 16_384  # per chunk


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


def node_numbers(
    n_agq: Any, layout: ThetaLayout, names: Sequence[str], crossed: bool = False
) -> tuple[int, ...] | None:
    """Check the numbers of nodes against the levels; None asks for the automatic choice.

    Crossed factors have one node, Laplace's approximation, whether it is asked for or not.

    Raises
    ------
    OptionError, NotSupportedError
    """
    if n_agq is None:
        return (1,) * len(layout.q) if crossed else None
    many = tuple(n_agq) if isinstance(n_agq, tuple | list) else (n_agq,) * len(layout.q)
    if len(many) != len(layout.q):
        raise OptionError(
            f"There is one number of nodes per level. Got n_agq={n_agq!r} for {len(layout.q)} levels "
            f"({', '.join(names)}). Give as many numbers, lowest level first, or a single one."
        )
    if crossed and max(many) > 1:
        raise NotSupportedError(
            f"Crossed random effects cannot be integrated out with several nodes: the integral does not fall apart. "
            f"Got n_agq={n_agq!r} for crossed {', '.join(map(repr, names))}. Use n_agq=1 (Laplace), or leave n_agq out."
        )
    for n, q, name in zip(many, layout.q, names, strict=True):
        if n > 1 and q > UNROLL:
            raise NotSupportedError(
                f"Several nodes per dimension work up to {UNROLL} random effects per group. Level {name!r} has "
                f"{q}, which would take {n}^{q} nodes. Use n_agq=1 (Laplace) there."
            )
        if n**q > 100_000:
            raise OptionError(
                f"So many nodes do not fit into memory. Level {name!r} with {q} random effects has {n}^{q} of them. "
                f"Use fewer."
            )
    return many


def make_general(
    frame: ModelFrame, design: DesignColumns, engine: str, n_agq: tuple[int, ...], chunk_cells: int | None = None
) -> GeneralProblem:
    """Standardise, drop collinear columns, cut the rows into chunks and set up the objective."""
    hierarchy = frame.hierarchy
    family = FAMILIES[frame.family]
    random = [RandomColumns(b.level, b.matrix.names, b.matrix.columns) for b in design.blocks]
    names = list(design.x.names)
    columns, transforms = standardise(design.x.columns, names, random, [np.zeros(frame.n)])
    top_scale = float(frame.w[-1].mean())
    w_levels = (*frame.w[1:-1], frame.w[-1] / top_scale)
    total = total_weights((frame.w[0], *w_levels), hierarchy.row_parents)[0]
    standard = {int(j): _standard(columns, int(j)) for j in {*columns.x.tolist(), *columns.z.tolist()}}
    X = [standard[int(j)] for j in columns.x]
    if family.has_intercept or "Intercept" in names:
        kept = independent(cross_products(X, total))
    else:  # thresholds stand in for an intercept that the formula leaves out
        kept = independent(cross_products([np.ones(frame.n), *X], total))[1:] - 1
    dropped = tuple(name for j, name in enumerate(names) if j not in set(kept.tolist()))
    transform = subset_transform(transforms[0], kept)
    in_model = kept if family.has_intercept else np.array([j for j in kept if names[j] != "Intercept"], dtype=int)
    layout = layout_of(frame)
    response = design.responses[0]
    structure = MarginalStructure(
        layout=layout,
        p=len(in_model),
        family=frame.family,
        link=frame.link,
        n_phi=family.n_phi(response),
        ones=tuple(name == "Intercept" for term in random for name in term.names),
        adaptive=tuple(n > 1 for n in n_agq),
    )
    rows = RowArrays(
        [X[j] for j in in_model],
        [standard[int(j)] for j in columns.z],
        np.zeros(frame.n) if design.offset is None else design.offset,
        frame.w[0],
        design.y,
        [one.extra for one in design.responses],
    )
    size = padded_columns(structure.p) + layout.n_theta + structure.n_phi
    nodes = int(np.prod([n**q for n, q in zip(n_agq, layout.q, strict=True)]))
    per_chunk = int(np.clip((chunk_cells or CELLS) // (nodes * size), MIN_ROWS, MAX_ROWS))
    objective: IntegratedObjective | CrossedObjective
    if hierarchy.crossed:
        objective = CrossedObjective(structure, crossing_of(frame, layout), rows, engine)
    else:
        chunks = cut(hierarchy.order, hierarchy.starts, hierarchy.parents, w_levels, per_chunk)
        objective = IntegratedObjective(structure, chunks, rows, n_agq, engine, chunk_cells or CELLS)
    return GeneralProblem(
        layout=layout,
        structure=structure,
        objective=objective,
        transform=transform,
        kept=in_model,
        dropped=dropped,
        top_scale=top_scale,
        responses=design.responses,
        constants=[float(total @ one.constant) for one in design.responses],
        means=[_mean(frame, one) for one in design.responses],
        names=tuple(names[j] for j in in_model),
        n_total=float(total.sum()),
        tree=(hierarchy.parents, w_levels),
    )


def _mean(frame: ModelFrame, response: Response) -> float:
    w = frame.cond or frame.w
    trials = response.extra[0] if frame.family == "binomial" else 1.0
    return float(np.average(response.y / trials, weights=total_weights(w, frame.hierarchy.row_parents)[0]))


def _standard(columns: Any, j: int) -> Array:
    scaler = columns.scaler
    return np.ascontiguousarray((columns.values[j] - scaler.shift[j]) / scaler.scale[j])


def cross_products(X: Sequence[Array], w: Array) -> Array:
    """Weighted cross-products (p, p) of columns (n,)."""
    S = np.zeros((len(X), len(X)))
    for i, left in enumerate(X):
        weighted = w * left
        S[i, : i + 1] = [float(weighted @ right) for right in X[: i + 1]]
    return S + np.tril(S, -1).T


def with_nodes(problem: GeneralProblem, n_agq: tuple[int, ...]) -> GeneralProblem:
    """Give the same problem with other numbers of nodes."""
    structure = replace(problem.structure, adaptive=tuple(n > 1 for n in n_agq))
    assert isinstance(problem.objective, IntegratedObjective)
    return replace(problem, structure=structure, objective=problem.objective.with_nodes(n_agq, structure))


@dataclass(frozen=True)
class RawMap:
    """Parameters on the raw scale, and the Jacobian of (coef, variance components, reported) in (beta, theta, phi).

    ``phi`` belongs to the raw predictors: thresholds are those of ``coef``.
    """

    terms: tuple[str, ...]
    coef: Array
    eta_beta: Array
    Psi: list[Array]
    theta: Array
    reported: dict[str, float]
    sigma: float
    jacobian: Array
    phi: Array


def raw_map(problem: GeneralProblem, k: int, psi: Array) -> RawMap:
    """Undo the standardisation (theory, eq. 39, with the Jacobian of eq. 15)."""
    layout, transform, family = problem.layout, problem.transform, problem.family
    p, t = problem.structure.p, layout.n_theta
    beta, theta, phi = psi[:p], psi[p : p + t], psi[p + t :]
    reported, J_phi = family.parameters(phi)
    A_x, shift = transform.A_x, np.zeros(p)
    if not family.has_intercept and transform.intercept is not None:
        others = np.arange(len(A_x)) != transform.intercept
        shift, A_x = A_x[transform.intercept, others], A_x[np.ix_(others, others)]
    raw, raw_phi = A_x @ beta, np.array(phi)
    base = replace(transform, A_x=np.zeros((0, 0)), intercept=None)
    J_theta = base.jacobian(layout, theta, 1.0)[:-1, :-1]
    if family.has_intercept:
        terms, coef = problem.names, raw
        J_coef = np.hstack([A_x, np.zeros((p, t + len(phi)))])
    else:
        labels = problem.responses[k].categories
        cuts = np.array(list(reported.values())) - shift @ beta
        terms = (*(f"{a}|{b}" for a, b in pairwise(labels)), *problem.names)
        coef = np.concatenate([cuts, raw])
        raw_phi[0] = cuts[0]  # the others are gaps, which a shift leaves as they are
        top = np.hstack([np.tile(-shift, (len(cuts), 1)), np.zeros((len(cuts), t)), J_phi])
        J_coef = np.vstack([top, np.hstack([A_x, np.zeros((p, t + len(phi)))])])
        reported, J_phi = {}, np.zeros((0, len(phi)))
    J = np.vstack(
        [
            J_coef,
            np.hstack([np.zeros((t, p)), J_theta, np.zeros((t, len(phi)))]),
            np.hstack([np.zeros((len(reported), p + t)), J_phi]),
        ]
    )
    sigma = reported.get("sigma", np.sqrt(reported["dispersion"]) if "dispersion" in reported else 1.0)
    Psi = transform.Psi(layout, theta, 1.0)
    return RawMap(terms, coef, raw, Psi, transform.theta(layout, theta), reported, float(sigma), J, raw_phi)


def level_one_variance(problem: GeneralProblem, k: int, phi: Array) -> tuple[float, Array]:
    """Variance of level 1 on the scale of the linear predictor (theory, eq. 53), and its derivatives in phi.

    NaN, with derivatives of zero, where the distribution has none.
    """
    family, h = problem.family, 1e-5

    def at(phi: Array) -> float:
        return family.latent_variance(problem.link, problem.means[k], phi)

    value, slope = at(phi), np.zeros(len(phi))
    if family.has_intercept and np.isfinite(value):
        slope = np.array([(at(phi + h * e) - at(phi - h * e)) / (2.0 * h) for e in np.eye(len(phi))])
    return value, slope


def all_parameters(problem: GeneralProblem, k: int, psi: Array, map_: RawMap | None = None) -> tuple[Array, Array]:
    """Give coefficients, variance components, level-1 variance and reported parameters (m,), and d / d psi (m, P)."""
    map_ = raw_map(problem, k, psi) if map_ is None else map_
    t, n_phi = problem.layout.n_theta, problem.structure.n_phi
    components = [map_.Psi[level][i, j] for level, entries in enumerate(problem.layout.entries) for i, j, _ in entries]
    latent, slope = level_one_variance(problem, k, map_.phi)
    n = len(map_.coef) + t
    row = np.concatenate([np.zeros(len(psi) - n_phi), slope])
    values = np.array([*map_.coef, *components, latent, *map_.reported.values()])
    return values, np.vstack([map_.jacobian[:n], row, map_.jacobian[n:]])
