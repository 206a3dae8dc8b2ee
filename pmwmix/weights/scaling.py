"""How conditional weights below the top level are rescaled: one short function per method. Numpy only.

A scaling takes and returns the conditional weights of all levels, because `gk` changes two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pmwmix._registry import Registry
from pmwmix.errors import OptionError, WeightError
from pmwmix.weights.sums import RowSums

Weights = tuple[Any, ...]  # of arrays; the first may be RowSums, with the lowest units as their own parents
Scaling = Callable[[Weights, Weights], Weights]
SCALINGS = Registry("scaling")


def unscaled(w: Weights, parents: Weights) -> Weights:
    """Leave the conditional weights as they are; also the TIMSS method on unconditional columns (theory, eq. 4).

    Parameters
    ----------
    w : tuple of ndarray
        Conditional weights, bottom-up: ``w[0]`` (n,) of the rows, ``w[-1]`` (G_L,) of the top level.
    parents : tuple of ndarray of int
        ``parents[l]`` is the unit one level up of every member of level l; one entry fewer than ``w``.

    Returns
    -------
    tuple of ndarray
    """
    return w


def size(w: Weights, parents: Weights) -> Weights:
    """Scale to the cluster size, w* = w n_j / Σw: Method A (EdSurvey methods, eq. 3; theory, eq. 2).

    Parameters
    ----------
    w, parents
        As in `unscaled`.

    Returns
    -------
    tuple of ndarray
        Unit: members, so that the weights of unit j's members add to n_j. The top level is untouched.

    Notes
    -----
    Unchanged by a constant factor per unit, so that unconditional weights give the same answer.

    References
    ----------
    .. [1] Rabe-Hesketh, S. & Skrondal, A. (2006). Multilevel modelling of complex survey data. J. R. Stat. Soc. A,
       169(4), 805-827. doi:10.1111/j.1467-985X.2006.00426.x

    Examples
    --------
    >>> size((np.array([1.0, 3.0]), np.array([2.0])), (np.array([0, 0]),))[0]
    array([0.5, 1.5])
    """
    return _rescaled(w, parents, lambda n, total, squares: n / total)


def effective(w: Weights, parents: Weights) -> Weights:
    """Scale to the effective cluster size, w* = w Σw / Σw²: Method B (EdSurvey methods, eq. 4; theory, eq. 3).

    Parameters
    ----------
    w, parents
        As in `unscaled`.

    Returns
    -------
    tuple of ndarray
        The weights of unit j's members add to (Σw)² / Σw².

    Examples
    --------
    >>> effective((np.array([1.0, 3.0]), np.array([2.0])), (np.array([0, 0]),))[0]
    array([0.4, 1.2])
    """
    return _rescaled(w, parents, lambda n, total, squares: total / squares)


def gk(w: Weights, parents: Weights) -> Weights:
    """Move all weight to the top, as Stata's ``pwscale(gk)``: averages of the rows' total weights (theory, eq. 4b).

    Parameters
    ----------
    w, parents
        As in `unscaled`.

    Returns
    -------
    tuple of ndarray
        1 below the top level; a top-level unit gets the mean over its rows of the product of their weights.

    Notes
    -----
    Graubard & Korn (1996) [1]_ as StataCorp's manual of ``mixed`` describes them for two levels.

    References
    ----------
    .. [1] Graubard, B. I. & Korn, E. L. (1996). Modelling the sampling design in the analysis of health surveys.
       Statistical Methods in Medical Research, 5(3), 263-281. doi:10.1177/096228029600500304

    Examples
    --------
    >>> gk((np.array([1.0, 3.0]), np.array([2.0])), (np.array([0, 0]),))
    (array([1., 1.]), array([4.]))
    """
    return _at_the_top(w, parents, average=True)


def gk_sum(w: Weights, parents: Weights) -> Weights:
    """Move all weight to the top: a top-level unit gets the sum of its rows' total weights (theory, eq. 4c).

    Parameters
    ----------
    w, parents
        As in `unscaled`.

    Returns
    -------
    tuple of ndarray

    Examples
    --------
    >>> gk_sum((np.array([1.0, 3.0]), np.array([2.0])), (np.array([0, 0]),))
    (array([1., 1.]), array([8.]))
    """
    return _at_the_top(w, parents, average=False)


def size_lowest(w: Weights, parents: Weights) -> Weights:
    """Scale level one to the cluster size and leave the levels above: Method A as used for PISA (theory, eqs. 2, 4).

    Parameters
    ----------
    w, parents
        As in `unscaled`.

    Returns
    -------
    tuple of ndarray
        The same as `size` in a model with two levels.

    References
    ----------
    .. [1] Nguyen, T. & Kelley, C. (2018). Methods used for estimating mixed-effects models in EdSurvey, Table 1.
    """
    return (size(w, parents)[0], *w[1:])


def _at_the_top(w: Weights, parents: Weights, average: bool) -> Weights:
    """Ones below the top level, and there sums or averages of the rows' products of weights."""
    if len(w) == 1:
        return w
    known = isinstance(w[0], RowSums)
    total, count = (w[0].total, w[0].n) if known else (w[0], np.ones(len(w[0])))
    unit = np.arange(len(total))
    for parent, upper in zip(parents, w[1:], strict=True):
        unit = parent[unit]
        total = total * upper[unit]
    sums = np.bincount(unit, total, minlength=len(w[-1]))
    n = np.bincount(unit, count, minlength=len(w[-1])) if average else 1.0
    ones = RowSums.ones(w[0].n) if known else np.ones_like(w[0])
    return (ones, *(np.ones_like(one) for one in w[1:-1]), sums / n)


def _rescaled(w: Weights, parents: Weights, rule: Callable[[Any, Any, Any], Any]) -> Weights:
    out = []
    for weight, parent, upper in zip(w[:-1], parents, w[1:], strict=True):
        if isinstance(weight, RowSums):
            out.append(weight.times(rule(weight.n, weight.total, weight.squares)))
            continue
        n = np.bincount(parent, minlength=len(upper))
        total = np.bincount(parent, weight, minlength=len(upper))
        squares = np.bincount(parent, weight**2, minlength=len(upper))
        out.append(weight * rule(n, total, squares)[parent])
    return (*out, w[-1])


SCALINGS.add("none", unscaled)
SCALINGS.add("size", size)
SCALINGS.add("size-lowest", size_lowest)
SCALINGS.add("effective", effective)
SCALINGS.add("gk", gk)
SCALINGS.add("gk-sum", gk_sum)
ALIASES = {"A": "size", "B": "effective", "a": "size", "b": "effective"}


def resolve_scaling(scaling: object) -> tuple[str, Scaling]:
    """Look a scaling up by name, alias or callable and return its name and function."""
    if callable(scaling):
        return getattr(scaling, "__name__", "custom"), _checked(scaling)
    if scaling is None:
        return "none", unscaled
    if not isinstance(scaling, str):
        raise OptionError(
            f"A scaling is a name or a function. Got {type(scaling).__name__} {scaling!r}. "
            f"Use one of {', '.join(map(repr, SCALINGS))}."
        )
    name = ALIASES.get(scaling, scaling)
    return name, SCALINGS[name]


def _checked(function: Callable[..., Any]) -> Scaling:
    """Wrap a user's scaling so that what it returns is checked."""
    name = getattr(function, "__name__", "custom")

    def scaling(w: Weights, parents: Weights) -> Weights:
        try:
            out = function(tuple(x.copy() for x in w), parents)
        except Exception as error:
            raise WeightError(
                f"The scaling function failed. {name!r} raised {type(error).__name__}: {error}. "
                f"It gets the conditional weights of every level, bottom-up, and the parents of every member."
            ) from error
        numeric = isinstance(out, tuple | list) and all(np.asarray(x).dtype.kind in "fiu" for x in out)
        if not numeric or [np.shape(x) for x in out] != [x.shape for x in w]:
            raise WeightError(
                f"A scaling returns the weights of every level in the shapes it was given. {name!r} did not. "
                f"Return a tuple of {len(w)} arrays of lengths {[len(x) for x in w]}."
            )
        for level, values in enumerate(out, start=1):
            if not (np.isfinite(values).all() and (np.asarray(values) > 0).all()):
                raise WeightError(
                    f"Scaled weights are positive and finite. {name!r} returned others at level {level}. "
                    f"Check the function for division by zero."
                )
        return tuple(np.asarray(x, dtype=float) for x in out)

    return scaling
