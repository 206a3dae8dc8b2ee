"""Crossed grouping factors: independent parts of the sample, weights, clusters of the robust variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pmwmix._types import Array
from pmwmix.errors import DesignError, NotSupportedError, OptionError, some
from pmwmix.frame.clusters import Clusters, find_clusters
from pmwmix.frame.hierarchy import Hierarchy, Level
from pmwmix.spec.design import Design

PARTS = "independent parts"
MODEL_BASED = (
    "Standard errors of the coefficients are clustered by every crossed factor; those of the variance components are "
    "model-based."
)
LAPLACE = (
    "Crossed random effects are integrated out by the joint Laplace approximation (n_agq=1), as in lme4 and glmmTMB; "
    "with few rows per group and binary outcomes it makes variances too small."
)
SAMPLED = (
    "All random effects of the crossed factors were sampled with the parameters: the posterior does not rest on "
    "Laplace's approximation, which is that of the fit by maximum likelihood alone."
)
OF_COEFFICIENTS = (
    "Standard errors of the coefficients are clustered by every crossed factor. Variance components have none there: "
    "take those of fit.bootstrap()."
)


def independent_parts(index: Sequence[Array]) -> Array:
    """Find the parts of the sample that share no unit of any factor with each other: a number per row (n,).

    Examples
    --------
    >>> independent_parts([np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])])
    array([0, 0, 0, 1])
    """
    first = index[0]
    starts = np.cumsum([0, *(int(one.max()) + 1 for one in index)])
    others = [start + one for start, one in zip(starts, index, strict=False)]
    rows, columns = np.tile(first, len(index)), np.concatenate(others)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(starts[-1], starts[-1]))
    found = connected_components(graph, directed=False)[1][first]
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def parts_of(hierarchy: Hierarchy) -> Array:
    """Independent part of every row (n,) of a sample with crossed factors."""
    return independent_parts([level.index for level in hierarchy.levels])


def check_weights_of_crossed(by_level: Sequence[str | None], hierarchy: Hierarchy, scaling: str) -> None:
    """Refuse weights of crossed groups of a linear model, and scaling inside them; only rows can be weighted.

    Raises
    ------
    NotSupportedError
    """
    names = some([level.name for level in hierarchy.levels])
    for level, column in zip(hierarchy.levels, by_level[1:], strict=True):
        if column is not None:
            raise NotSupportedError(
                f"Crossed groups of a linear model have sampling weights in a pairwise likelihood alone: that of the "
                f"sample is no product over them. Column {column!r} weights {level.name!r}, and {names} are crossed. "
                f"Use method='pairwise', or weight the rows alone, weights={{\"obs\": ...}}, with the product of the "
                f"weights; {if_nested(hierarchy)}."
            )
    if by_level[0] is not None and scaling != "none":
        raise NotSupportedError(
            f"Scaling rescales weights inside the groups of one level, and crossed groups have no such level. Got "
            f"scaling={scaling!r} with column {by_level[0]!r} and crossed {names}. Divide the column by its mean and "
            f"pass scaling='none'."
        )


def check_pairwise(hierarchy: Hierarchy) -> None:
    """Refuse a pairwise likelihood without groups.

    Raises
    ------
    NotSupportedError
    """
    if not hierarchy.levels:
        raise NotSupportedError(
            "A pairwise likelihood is about rows that share a group. The formula has no random term. Add one, or use "
            "method='ml'."
        )


def check_named_weights(weights: Any, hierarchy: Hierarchy) -> None:
    """Refuse a list of weights of crossed groups, which have no order.

    Raises
    ------
    OptionError
    """
    if isinstance(weights, Sequence) and not isinstance(weights, str) and any(weights[1:]):
        names = [level.name for level in hierarchy.levels]
        raise OptionError(
            f"Weights of crossed groups are given by name, since none of the groups is below another. Got "
            f"weights={list(weights)!r}, and {some(names)} are crossed. Write weights="
            f'{{"obs": ..., "{names[0]}": ...}}.'
        )


def pairwise_notes(by_level: Sequence[str | None], hierarchy: Hierarchy) -> tuple[str, ...]:
    """Say what a reader should know of a pairwise likelihood: crossed factors, rows in no pair, missing weights."""
    notes = []
    if hierarchy.crossed:
        low, up = hierarchy.crossed
        notes.append(
            f"Grouping factors {low!r} and {up!r} are crossed: a unit of one stands in several of the other. "
            f"{if_nested(hierarchy).capitalize()}."
        )
    sizes = [np.bincount(level.index)[level.index] for level in hierarchy.levels]
    alone = int((np.max(sizes, axis=0) == 1).sum())
    if alone:
        notes.append(f"{alone} rows share no group with another row: they are in no pair and count for nothing.")
    if any(by_level):
        names = ["obs", *(level.name for level in hierarchy.levels)]
        notes += [
            f"Level {name!r} has no weight column: its conditional weight is 1."
            for name, column in zip(names, by_level, strict=True)
            if column is None
        ]
    return tuple(notes)


def crossing_notes(by_level: Sequence[str | None], hierarchy: Hierarchy, w: Array, linear: bool) -> tuple[str, ...]:
    """Say what a reader should know: that factors cross, how they are integrated out, what weights do."""
    low, up = hierarchy.crossed
    notes = [
        f"Grouping factors {low!r} and {up!r} are crossed: a unit of one stands in several of the other. "
        f"{if_nested(hierarchy).capitalize()}."
    ]
    if not linear:
        notes.append(LAPLACE)
    if by_level[0] is not None:
        mean = float(w.mean())
        if not 2 / 3 < mean < 1.5:
            notes.append(
                f"Weights of the rows average {mean:.3g}, far from 1: the fit then counts {mean:.3g} times the rows, "
                f"which biases variances and makes model-based standard errors meaningless. Divide the column "
                f"{by_level[0]!r} by its mean."
            )
    return tuple(notes)


def if_nested(hierarchy: Hierarchy) -> str:
    """Say how to write factors whose ids start again in every unit of another."""
    low, up = hierarchy.crossed
    inside = [_slashed(low, up), _slashed(up, low)]
    return (
        f"if the ids of {up!r} start again in every {low!r}, write (1 | {inside[0]}), if it is the other way round "
        f"(1 | {inside[1]})"
    )


def _slashed(outer: str, inner: str) -> str:
    names = dict.fromkeys((*outer.split(":")[::-1], *inner.split(":")[::-1]))
    return "/".join(name if name.isidentifier() else f"`{name}`" for name in names)


def crossed_clusters(design: Design, columns: Mapping[str, Any], hierarchy: Hierarchy) -> Clusters | None:
    """Find the units of a robust variance: PSUs that contain whole independent parts, or the parts themselves.

    None if there are none: one part, or a PSU or stratum that cuts a part.
    """
    part = parts_of(hierarchy)
    n = int(part.max()) + 1
    if n < 2:
        return None
    whole = Hierarchy((Level(PARTS, (), list(range(1, n + 1)), part),), None, np.zeros(1, dtype=np.int64), (), ())
    try:
        found = find_clusters(design, columns, whole)
    except DesignError:
        return None
    return found or Clusters(np.arange(n), np.zeros(n, dtype=np.int64), n, 1, (PARTS, None))


def ways_of(hierarchy: Hierarchy) -> Clusters:
    """Cluster rows by every crossed factor at once; the factor with the fewest units gives the degrees of freedom."""
    index, fewest = tuple(level.index for level in hierarchy.levels), min(level.n for level in hierarchy.levels)
    names = (" and ".join(level.name for level in hierarchy.levels), None)
    none = np.zeros(0, dtype=np.int64)
    return Clusters(none, none, fewest, 1, names, ways=index)


def vcov_of_crossed(
    vcov: str | None,
    clusters: Clusters | None,
    hierarchy: Hierarchy,
    psu: str | None,
    weighted: bool,
    method: str,
    linear: bool = True,
    of_groups: bool = False,
) -> tuple[str, tuple[str, ...]]:
    """Choose or check the variance, and say what a reader should know of it.

    By default it is model-based, and robust in a weighted sample whose PSUs contain whole independent parts, or whose
    parts have weights themselves (``of_groups``).

    Raises
    ------
    NotSupportedError
    """
    names = some([level.name for level in hierarchy.levels])
    if method == "pairwise" and vcov is None:
        return ("robust", ()) if clusters is not None else ("multiway", (OF_COEFFICIENTS,))
    if vcov is None and weighted and clusters is not None and (psu is not None or of_groups) and method == "ml":
        return "robust", ()
    if vcov is None and weighted:
        return "model", (
            f"Standard errors are model-based, as if a weight were a number of rows: crossed {names} leave no "
            f"independent clusters for a robust variance.",
        )
    if vcov in (None, "model"):
        return "model", ()
    if vcov == "multiway" and linear and method != "reml":
        return vcov, (OF_COEFFICIENTS if method == "pairwise" else MODEL_BASED,)
    if vcov not in ("robust", "robust-block"):
        raise NotSupportedError(
            f"This variance is not there for crossed random effects. Got vcov={vcov!r} with crossed {names}. "
            f"Use vcov='model', 'robust' where groups fall into independent parts, or 'multiway' (linear, by ML)."
        )
    if method == "reml":
        raise NotSupportedError(
            f"A robust variance of crossed random effects is there for maximum likelihood. Got vcov={vcov!r} with "
            f"method='reml' and crossed {names}. Use method='ml' or vcov='model'."
        )
    if clusters is not None:
        return vcov, ()
    n = int(parts_of(hierarchy).max()) + 1
    cut = psu is not None and n > 1
    held = f"which column {psu!r} does not keep whole" if cut else "so that there is nothing to compare"
    raise NotSupportedError(
        f"A robust variance needs clusters that share no group with each other. The groups of {names} hang together in "
        f"{n} {'part' if n == 1 else 'parts'}, {held}. Use vcov='model', 'multiway' for a linear model, or a PSU "
        f"column that contains whole groups of every factor."
    )
