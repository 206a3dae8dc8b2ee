"""Derivatives of a row's log-density in the linear predictor and the family's further parameters, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.families import FAMILIES
from pmwmix.likelihood.engine import Compiled
from pmwmix.likelihood.graph import Graph, derivative
from pmwmix.links import LINKS


@cache
def partials(family: str, link: str, n_phi: int, order: int) -> Partials:
    """Give the derivatives of a family and link up to some order, written once per process."""
    return Partials(family, link, n_phi, order)


class Partials:
    """Derivatives of log f(y | eta, phi), elementwise, evaluated without a compiler.

    Parameters
    ----------
    family, link : str
    n_phi, order : int
        Number of further parameters; highest total order, with at most two derivatives in phi.
    """

    def __init__(self, family: str, link: str, n_phi: int, order: int) -> None:
        f = FAMILIES[family]
        eta, y = pt.tensor("eta", shape=(None,)), pt.tensor("y", shape=(None,))
        extra = tuple(pt.tensor(f"extra{k}", shape=(None,)) for k in range(f.n_extra))
        phi = [pt.tensor(f"phi{k}", shape=(None,)) for k in range(n_phi)]
        self.n_phi, self.order = n_phi, order
        outputs: dict[str, Any] = {}

        def differentiate(name: str, value: Any, most: int) -> None:
            for j in range(most + 1):
                outputs[f"{name}{j}"] = value + pt.zeros_like(eta)
                if j < most:
                    value = derivative(value, eta)

        density = f.log_density(LINKS[link], y, extra, eta, phi)
        differentiate("l", density, order)
        for a in range(n_phi):
            by_a = derivative(density, phi[a])
            differentiate(f"p{a}.", by_a, order - 1)
            for b in range(a + 1):
                differentiate(f"p{a}.{b}.", derivative(by_a, phi[b]), order - 2)
        self.function = Compiled(Graph([eta, y, *extra, *phi], outputs), "python")

    def __call__(self, eta: Array, y: Array, extra: Sequence[Array], phi: Array) -> dict[str, Array]:
        """Evaluate at rows of any shape; ``y`` and ``extra`` are broadcast against ``eta``."""
        flat = [np.broadcast_to(part, eta.shape).ravel() for part in (y, *extra)]
        copies = [np.full(eta.size, value) for value in phi]
        found = self.function(eta.ravel(), [*flat, *copies])
        return {name: np.asarray(value).reshape(eta.shape) for name, value in found.items()}


def slopes_graph(parts: tuple[str, tuple[str, ...], int]) -> Graph:
    """Write the log-density of rows and its derivatives in every linear predictor and further parameter.

    Parameters
    ----------
    parts : (str, tuple of str, int)
        Family, the link of every linear predictor, number of further parameters.

    Returns
    -------
    Graph
        Inputs: linear predictors, outcome, its further columns, further parameters, each (n,). Outputs: ``density``;
        ``first0``, ``first1``, ... (n,), predictors first.
    """
    inputs, arguments, density = _row_density(parts)
    first = [derivative(density, one) for one in arguments]
    return Graph(inputs, {"density": density, **{f"first{a}": part for a, part in enumerate(first)}})


def curvatures_graph(parts: tuple[str, tuple[str, ...], int]) -> Graph:
    """Write the second derivatives, ``second<a>.<b>`` (n,) with b not above a; inputs as `slopes_graph`."""
    inputs, arguments, density = _row_density(parts)
    outputs: dict[str, Any] = {}
    for a, one in enumerate(arguments):
        slope = derivative(density, one)
        for b, other in enumerate(arguments[: a + 1]):
            second: Any = pytensor.grad(pt.sum(slope), other, disconnected_inputs="ignore")
            outputs[f"second{a}.{b}"] = second + pt.zeros_like(one)
    return Graph(inputs, outputs)


def _row_density(parts: tuple[str, tuple[str, ...], int]) -> tuple[list[Any], list[Any], Any]:
    family, links, n_phi = FAMILIES[parts[0]], [LINKS[name] for name in parts[1]], parts[2]
    etas = [pt.tensor(f"eta{k}", shape=(None,)) for k in range(len(links))]
    y = pt.tensor("y", shape=(None,))
    extra = tuple(pt.tensor(f"extra{k}", shape=(None,)) for k in range(family.n_extra))
    phi = [pt.tensor(f"phi{k}", shape=(None,)) for k in range(n_phi)]
    return [*etas, y, *extra, *phi], [*etas, *phi], family.log_density_of(links, y, extra, etas, phi)
