"""A gradient and its products with directions as two graphs, of which the second reads what the first computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import jacobian
from pytensor.graph.basic import Constant
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.rewriting.basic import MergeOptimizer
from pytensor.graph.traversal import toposort


@dataclass(frozen=True)
class Graph:
    """Symbolic inputs and named outputs, ready to compile."""

    inputs: list[Any]
    outputs: dict[str, Any]


def with_hessian(
    inputs: list[Any], value: tuple[str, Any], names: Sequence[str], parameters: list[Any], scores: list[Any]
) -> tuple[Graph, Graph]:
    """Split value, scores and Hessian into two graphs.

    Parameters
    ----------
    inputs : list of symbols
    value : (str, variable)
        Name and variable of the value.
    names : sequence of str
        Of the parts of the parameter, such as ``"beta"``.
    parameters : list of symbols
        The parts, vectors of static length, none of them empty.
    scores : list of variables
        Per part and unit, ``(length, units)``.

    Returns
    -------
    Graph
        Outputs: the value, ``score_<name>``, then whatever the second graph reads.
    Graph
        Inputs: directions (d, P), then the outputs of the first graph after the scores. Outputs ``H_<name>`` (d, ·):
        the derivative of the summed scores along the directions. No density is evaluated again, so the cost of a
        Hessian is that of its multiplications, and directions can be taken a few at a time.
    """
    sizes = [x.type.shape[0] for x in parameters]
    along = pt.tensor("along", shape=(sum(sizes),))
    parts = [along[a:b] for a, b in pairwise(np.cumsum([0, *sizes]).tolist())]
    sums = [score.sum(axis=1) for score in scores]
    rows: Any = pytensor.grad(None, parameters, known_grads=dict(zip(sums, parts, strict=True)))
    merged = FunctionGraph(outputs=[value[1], *scores, *rows], clone=False)
    MergeOptimizer().rewrite(merged)
    found, scores, rows = merged.outputs[0], merged.outputs[1 : 1 + len(scores)], merged.outputs[1 + len(scores) :]
    known = _frontier(rows, along)
    stand_in = {v: v.type(f"known{k}") for k, v in enumerate(known)}
    batch = pt.tensor("alongs", shape=(None, sum(sizes)))
    many: Any = vectorize_graph(rows, {along: batch, **stand_in})
    first = {value[0]: found} | {f"score_{name}": score for name, score in zip(names, scores, strict=True)}
    first |= {f"known{k}": v for k, v in enumerate(known)}
    second = {f"H_{name}": h for name, h in zip(names, many, strict=True)}
    return Graph(inputs, first), Graph([batch, *stand_in.values()], second)


def _frontier(outputs: list[Any], source: Any) -> list[Any]:
    """List what a graph reads that does not depend on ``source``."""
    moving = {source}
    known: dict[Any, None] = {}
    for node in toposort(outputs):
        if moving.intersection(node.inputs):
            moving.update(node.outputs)
            known.update({v: None for v in node.inputs if v not in moving and not isinstance(v, Constant)})
    return list(known)


def gradient_graph(value: Any, wrt: Any, **options: Any) -> Any:
    """Gradient of a scalar as a graph."""
    return pytensor.grad(value, wrt, **options)


def jacobian_of(gradient: Any, wrt: list[Any]) -> list[Any]:
    """Differentiate a vector of static length, all its entries at once."""
    n = gradient.type.shape[0]
    if n == 1:
        only = gradient_graph(gradient[0], wrt, disconnected_inputs="ignore")
        return [row[None] for row in only]
    rows: Any = jacobian(gradient, wrt, vectorize=True, disconnected_inputs="ignore")
    return rows


def slopes_in(density: Any, etas: list[Any]) -> list[Any]:
    """Elementwise derivative of rows' log-densities in each of their linear predictors, of which one row has one."""
    found: Any = pytensor.grad(pt.sum(density), etas)
    return found


def curvatures_in(first: list[Any], etas: list[Any]) -> list[list[Any]]:
    """Elementwise second derivatives, given the first: a nested list, predictor by predictor, symmetric."""
    lower: list[Any] = []
    for k, slope in enumerate(first):
        lower.append(pytensor.grad(pt.sum(slope), etas[: k + 1], disconnected_inputs="ignore"))
    return [[lower[max(i, j)][min(i, j)] for j in range(len(etas))] for i in range(len(etas))]


def derivative(values: Any, eta: Any) -> Any:
    """Elementwise derivative; zero of values without ``eta``, as the third one of a quadratic."""
    return pytensor.grad(pt.sum(values), eta, disconnected_inputs="ignore")
