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
from pmwmix.likelihood.engine import Compiled, without_origins
from pmwmix.likelihood.graph import Graph, derivative
from pmwmix.links import LINKS


@cache
def partials(family: str, link: str, n_phi: int, order: int, in_phi: bool = True) -> Partials | Natural:
    """Give the derivatives of a family and link up to some order, written once per process."""
    curve = FAMILIES[family].cumulant(LINKS[link])
    if curve is not None:
        return Natural(type(curve), FAMILIES[family].per_trial, order)
    with without_origins():
        return Partials(family, link, n_phi, order, in_phi)


class Partials:
    """Derivatives of log f(y | eta, phi), elementwise, evaluated without a compiler.

    Parameters
    ----------
    family, link : str
    n_phi, order : int
        Number of further parameters; highest total order, with at most two derivatives in phi.
    in_phi : bool
        False: those in eta alone, ``l0``, ``l1``, ... With ``p<a>.<j>`` and ``p<a>.<b>.<j>``, b not above a, of j
        derivatives in eta.
    """

    def __init__(self, family: str, link: str, n_phi: int, order: int, in_phi: bool = True) -> None:
        f = FAMILIES[family]
        eta, y = pt.tensor("eta", shape=(None,)), pt.tensor("y", shape=(None,))
        extra = tuple(pt.tensor(f"extra{k}", shape=(None,)) for k in range(f.n_extra))
        phi = [pt.tensor(f"phi{k}", shape=(None,)) for k in range(n_phi)]
        in_eta = [f.log_density(LINKS[link], y, extra, eta, phi)]
        for _ in range(order):
            in_eta.append(derivative(in_eta[-1], eta))
        outputs: dict[str, Any] = {f"l{j}": value for j, value in enumerate(in_eta)}
        if in_phi and phi:
            for j, value in enumerate(in_eta[:order]):
                once = derivative(value, phi)  # of all at once, which share most of what they need
                outputs |= {f"p{a}.{j}": part for a, part in enumerate(once)}
                if j < order - 1:
                    for a, part in enumerate(once):
                        twice = derivative(part, phi[: a + 1])
                        outputs |= {f"p{a}.{b}.{j}": second for b, second in enumerate(twice)}
        outputs = {name: value + pt.zeros_like(eta) for name, value in outputs.items()}
        self.function = Compiled(Graph([eta, y, *extra, *phi], outputs), "python")

    def __call__(self, eta: Array, y: Array, extra: Sequence[Array], phi: Array) -> dict[str, Array]:
        """Evaluate at rows of any shape; ``y`` and ``extra`` are broadcast against ``eta``."""
        flat = [np.broadcast_to(part, eta.shape).ravel() for part in (y, *extra)]
        copies = [np.full(eta.size, value) for value in phi]
        found = self.function(eta.ravel(), [*flat, *copies])
        return {name: np.asarray(value).reshape(eta.shape) for name, value in found.items()}


class Natural:
    """The same of a natural exponential family with its canonical link, y eta - t b(eta), without any graph.

    Parameters
    ----------
    curve : type of Curve
        The cumulant function b.
    per_trial : bool
        Whether the first further column of the outcome has the trials t; else they are 1.
    order : int
    """

    def __init__(self, curve: Any, per_trial: bool, order: int) -> None:
        self.curve, self.per_trial, self.order = curve, per_trial, order

    def __call__(self, eta: Array, y: Array, extra: Sequence[Array], phi: Array) -> dict[str, Array]:
        """Evaluate at rows of any shape; as `Partials`."""
        trials = -extra[0] if self.per_trial else -1.0
        found = {f"l{j}": trials * part for j, part in enumerate(self.curve.up_to(eta, self.order))}
        found["l0"] += y * eta
        if self.order:
            found["l1"] += y
        return found


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
