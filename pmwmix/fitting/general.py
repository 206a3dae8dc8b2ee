"""A generalised model ready to be fitted: standardised columns in chunks, and the objective; numbers only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import DataError, NotSupportedError, OptionError
from pmwmix.families import FAMILIES
from pmwmix.fitting.collinear import cross_products, independent, subset_transform
from pmwmix.fitting.problem import Problem, crossing_of, layout_of, random_columns
from pmwmix.frame.modelframe import DesignColumns, ModelFrame, correlated
from pmwmix.frame.partweights import part_weights, weighted_factor
from pmwmix.likelihood.contract import Likelihood, RowArrays
from pmwmix.likelihood.crossed.general import CrossedObjective, numbers_held
from pmwmix.likelihood.engine import padded_columns
from pmwmix.likelihood.general.flat import FlatIntegratedObjective
from pmwmix.likelihood.general.mixture import MixtureObjective
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.objective import IntegratedObjective
from pmwmix.likelihood.general.singlechunks import knows
from pmwmix.likelihood.general.tiles import cut
from pmwmix.likelihood.latent import latent_of
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.ops.smallmat import UNROLL
from pmwmix.likelihood.rows import Same, standard
from pmwmix.likelihood.standardise import Transform, standardise
from pmwmix.links import LINKS
from pmwmix.spec.outcome import Response
from pmwmix.spec.random import NORMAL
from pmwmix.weights.conditional import total_weights

CELLS = 400_000  # rows x nodes x parameters that are held at once for one intermediate of the Hessian
MIN_ROWS, MAX_ROWS = 512, 16_384  # per chunk


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
    if isinstance(n_agq, tuple | list) and not layout.q:
        raise OptionError(
            f"Numbers of nodes per level belong to random effects. Got n_agq={n_agq!r}, and the formula has no random "
            f"term. Leave n_agq out."
        )
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


def laplace_is_exact(frame: ModelFrame, design: DesignColumns) -> bool:
    """Whether more nodes than one per dimension would give the same."""
    family, link = FAMILIES[frame.family], LINKS[frame.link]
    return frame.random == NORMAL and family.is_quadratic(link, sorted({block.predictor for block in design.blocks}))


def make_general(
    frame: ModelFrame,
    design: DesignColumns,
    engine: str,
    n_agq: tuple[int, ...],
    chunk_cells: int | None,
    likelihood: Callable[[ModelFrame, MarginalStructure, RowArrays, str, tuple[int, ...], int], Likelihood],
) -> Problem:
    """Standardise, drop collinear columns and set up the objective, `nested`, `crossed` or `flat`."""
    fixed, of = design.fixed, design.of
    raw = [name for part in fixed for name in part.names]
    values = [column for part in fixed for column in part.columns]
    names = _names(frame, raw, of)
    columns, transforms = standardise(values, raw, random_columns(design), [np.zeros(frame.n)], of.tolist())
    transform = replace(transforms[0], cuts=_thresholds(frame, raw, of))
    top_scale = float(frame.w[_top(frame)].mean())
    w = _relative_weights(frame)
    total = total_weights(w, frame.hierarchy.row_parents)[0]
    units = _units(frame, design)
    X = [_standard(frame, columns, int(j), units[k]) for j, k in zip(columns.x, of, strict=True)]
    of_random = [b.predictor for b in design.blocks for _ in b.names]
    kept, in_model = _columns_in_model(frame, raw, X, of, _by_predictor(frame, design, of, total))
    structure = _structure(frame, design, of[in_model], n_agq, units)
    no_offset: Any = np.zeros(frame.n) if frame.stored is None else Same(0.0, frame.n)
    rows = RowArrays(
        [X[j] for j in in_model],
        [_standard(frame, columns, int(j), units[k]) for j, k in zip(columns.z, of_random, strict=True)],
        no_offset if design.offset is None else design.offset,
        w[0],
        design.y,
        [one.extra for one in design.responses],
        design.responses,
    )
    return Problem(
        objective=likelihood(frame, structure, rows, engine, n_agq, chunk_cells or CELLS),
        layout=structure.layout,
        transforms=[subset_transform(_in_units(transform, of, design, units), kept)] * len(design.y),
        kept=in_model,
        names=tuple(names[j] for j in in_model),
        dropped=tuple(name for j, name in enumerate(names) if j not in set(kept.tolist())),
        top_scale=top_scale,
        n_total=float(total.sum()),
        tree=(frame.hierarchy.parents, w[1:]),
        distribution=(frame.family, frame.link),
        responses=design.responses,
        constants=[float(total @ one.constant) for one in design.responses],
        means=[_mean(frame, one) for one in design.responses],
        groups=tuple(level.name for level in frame.hierarchy.levels),
    )


def _units(frame: ModelFrame, design: DesignColumns) -> list[float]:
    """Sizes by which the columns of every linear predictor are multiplied, so that coefficients are ordinary."""
    family = FAMILIES[frame.family]
    if not family.further and frame.random == NORMAL:
        return [1.0]
    return family.units([LINKS[frame.link], *(LINKS[one.links[0]] for one in family.further)], design.responses[0])


def _in_units(transform: Transform, of: Array, design: DesignColumns, units: Sequence[float]) -> Transform:
    """Let coefficients and random effects of a linear predictor be multiples of its unit."""
    A_z = []
    for level, A in enumerate(transform.A_z):
        own = [b.predictor for b in design.blocks if b.level == level for _ in b.names]
        A_z.append(A * np.array([units[k] for k in own]))
    return replace(transform, A_x=transform.A_x * np.array([units[k] for k in of]), A_z=tuple(A_z))


def _names(frame: ModelFrame, raw: Sequence[str], of: Array) -> list[str]:
    """Name fixed columns, those of further linear predictors after them: ``zi.Intercept``."""
    return [frame.formula.prefix(int(k)) + name for name, k in zip(raw, of, strict=True)]


def _thresholds(frame: ModelFrame, raw: Sequence[str], of: Array) -> tuple[int, ...]:
    """Find the intercepts of further linear predictors that are thresholds: none of them has a coefficient."""
    if FAMILIES[frame.family].has_intercept:
        return ()
    return tuple(j for j, name in enumerate(raw) if name == "Intercept" and of[j] > 0)


def _by_predictor(frame: ModelFrame, design: DesignColumns, of: Array, total: Array) -> list[Array]:
    """Weights of the rows (n,) of every linear predictor: 0 where a row lacks its outcome and tells nothing of it."""
    seen = FAMILIES[frame.family].seen(design.responses[0])
    return [total * seen[k] if seen else total for k in range(1 + max(of, default=0))]


def _columns_in_model(
    frame: ModelFrame, raw: Sequence[str], X: Sequence[Array], of: Array, totals: Sequence[Array]
) -> tuple[Array, Array]:
    """Independent fixed columns, and those of them that have a coefficient: not the intercept beside thresholds."""
    every, total = np.arange(len(raw)), totals[0]
    if FAMILIES[frame.family].has_intercept:
        kept = np.concatenate([_independent(X, every[of == k], own) for k, own in enumerate(totals)])
        return kept, kept
    constant = [j for j, name in enumerate(raw) if name == "Intercept"]
    ones, parts = np.ones(frame.n), []
    for k in range(1 + max(of, default=0)):  # thresholds stand in for an intercept that the formula leaves out
        mine = np.array([j for j in every[of == k] if j not in constant], dtype=int)
        parts.append(_independent(X, mine, total, ones))
    _check_thresholds(frame, [[X[int(j)] for j in part] for part in parts], total)
    in_model = np.concatenate(parts)
    return np.sort(np.concatenate([np.array(constant, dtype=int), in_model])), in_model


def _independent(X: Sequence[Array], places: Array, total: Array, ones: Array | None = None) -> Array:
    """Choose from some places of columns; ``ones`` stands before them where it is given."""
    before = [] if ones is None else [ones]
    found = independent(cross_products([*before, *(X[int(j)] for j in places)], total)) - len(before)
    return np.array(places[found[found >= 0]], dtype=int)


def _check_thresholds(frame: ModelFrame, parts: Sequence[Sequence[Array]], total: Array) -> None:
    """Refuse predictors of thresholds that do not vary, and those that the mean has too: they move all thresholds.

    Raises
    ------
    DataError
    """
    if len(parts) < 2:
        return
    written = ", ".join(dict.fromkeys(frame.formula.further_variables))
    if not parts[1]:
        raise DataError(
            f"The predictors of the thresholds do not vary. The formula {frame.formula.text!r} has {written} for them. "
            f"Leave its second part out."
        )
    both = [np.ones(frame.n), *parts[1], *parts[0]]
    if len(independent(cross_products(both, total))) < len(both):
        raise DataError(
            f"A predictor of the thresholds stands among those of the mean too, which moves all thresholds alike. The "
            f"formula {frame.formula.text!r} has {written} for the thresholds. Leave it out of the first part."
        )


def _structure(
    frame: ModelFrame, design: DesignColumns, of: Array, n_agq: tuple[int, ...], units: Sequence[float]
) -> MarginalStructure:
    """Say what decides the shape of the likelihood; ``of`` (p,) is the linear predictor of every coefficient."""
    family = FAMILIES[frame.family]
    names = [name for block in design.blocks for name in block.matrix.names]
    of_random = [b.predictor for b in design.blocks for _ in b.names]
    shape = latent_of(frame.random).n_shape * len(frame.hierarchy.levels)
    firsts = [int(np.searchsorted(of, k)) for k in range(1, len(family.predictors))]
    return MarginalStructure(
        layout=layout_of(frame),
        p=len(of),
        family=frame.family,
        link=frame.link,
        n_phi=family.n_phi(design.responses[0]) + shape,
        ones=tuple(name == "Intercept" and units[k] == 1.0 for name, k in zip(names, of_random, strict=True)),
        adaptive=tuple(n > 1 for n in n_agq),
        further=tuple((one.links[0], first) for one, first in zip(family.further, firsts, strict=True)),
        predictors=tuple(of_random) if family.further else (),
        latent=frame.random,
    )


def nested(
    frame: ModelFrame, structure: MarginalStructure, rows: RowArrays, engine: str, n_agq: tuple[int, ...], cells: int
) -> Likelihood:
    """Cut the rows into chunks of whole top-level units."""
    hierarchy, per_chunk = frame.hierarchy, _rows_per_chunk(structure, n_agq, cells)
    chunks = cut(hierarchy.order, hierarchy.starts, hierarchy.parents, _relative_weights(frame)[1:], per_chunk)
    kind = MixtureObjective if structure.effects.is_discrete else IntegratedObjective
    return kind(structure, chunks, rows, n_agq, engine, cells)


def _rows_per_chunk(structure: MarginalStructure, n_agq: tuple[int, ...], cells: int) -> int:
    layout = structure.layout
    size = padded_columns(structure.p) + layout.n_theta + structure.n_phi
    nodes = int(np.prod([n**q for n, q in zip(n_agq, layout.q, strict=True)]))
    if knows(structure):  # second derivatives are formed by row, whatever the number of nodes
        nodes = 3
    return int(np.clip(cells // (nodes * size), MIN_ROWS, MAX_ROWS))


def partitioned(
    frame: ModelFrame,
    structure: MarginalStructure,
    rows: RowArrays,
    engine: str,
    n_agq: tuple[int, ...],
    cells: int,
    executor: Any = None,
) -> Likelihood:
    """Cut rows that stand on disk into parts of whole top-level units."""
    from pmwmix.likelihood.general.partitioned import PartitionedObjective  # what is in memory does without it

    hierarchy, of = frame.hierarchy, frame.stored
    tree = (hierarchy.starts, hierarchy.parents, _relative_weights(frame)[1:])
    per_chunk = _rows_per_chunk(structure, n_agq, cells)
    return PartitionedObjective(structure, tree, rows, n_agq, engine, cells, per_chunk, of.store, of.budget, executor)


def crossed(
    frame: ModelFrame, structure: MarginalStructure, rows: RowArrays, engine: str, n_agq: tuple[int, ...], cells: int
) -> Likelihood:
    """Lay the crossed factors out."""
    _check_one_predictor(frame)
    crossing = crossing_of(frame, structure.layout, lambda found: numbers_held(found, structure, engine))
    if weighted_factor(frame) is not None:
        crossing = replace(crossing, part_w=part_weights(frame, _relative_weights(frame)[_top(frame)]))
    return CrossedObjective(structure, crossing, rows, engine)


def _check_one_predictor(frame: ModelFrame) -> None:
    """Refuse correlations between linear predictors: the joint Laplace approximation knows the predictor of a column.

    Raises
    ------
    NotSupportedError
    """
    for blocks in correlated(frame.designs[0].blocks):
        if len({block.predictor for block in blocks}) > 1:
            term = blocks[0].term
            diagonal = f"diag({term.expr} | {':'.join(term.factors)})"
            cure = f"{diagonal}, which makes them independent" if term.shared else "the terms without a label"
            raise NotSupportedError(
                f"Random effects of crossed factors are correlated within a linear predictor only. Those of "
                f"{':'.join(term.factors)!r} belong to several: {', '.join(n for b in blocks for n in b.names)}. "
                f"Write {cure}."
            )


def flat(
    frame: ModelFrame, structure: MarginalStructure, rows: RowArrays, engine: str, n_agq: tuple[int, ...], cells: int
) -> Likelihood:
    """Take the rows as they are: there are no random effects."""
    return FlatIntegratedObjective(structure, rows, engine)


def _relative_weights(frame: ModelFrame) -> tuple[Array, ...]:
    """Weights of rows and units, bottom-up; those of the top level, or of rows without one, relative to their mean."""
    top = _top(frame)
    return (*frame.w[:top], frame.w[top] / float(frame.w[top].mean()), *frame.w[top + 1 :])


def _top(frame: ModelFrame) -> int:
    """Give the position of the top level's weights; of crossed factors those of the one that has weights."""
    at = weighted_factor(frame)
    return len(frame.w) - 1 if at is None else 1 + at


def _mean(frame: ModelFrame, response: Response) -> float:
    w = frame.cond or frame.w
    trials = FAMILIES[frame.family].trials(response)
    return float(np.average(response.y / trials, weights=total_weights(w, frame.hierarchy.row_parents)[0]))


def _standard(frame: ModelFrame, columns: Any, j: int, unit: float) -> Any:
    """Standardise a column (n,), times a unit."""
    scaler = columns.scaler
    return standard(columns.values[j], float(scaler.shift[j]), float(scaler.scale[j]) / unit, frame.stored is None)
