"""The objective of a generalised model without random effects: nothing is integrated out, rows are independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.contract import IntegratedPoint, Likelihood, RowArrays
from pmwmix.likelihood.engine import Compiled, compiled, graph_engine, is_direct
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.partials import curvatures_graph, slopes_graph
from pmwmix.likelihood.general.start import starting_point
from pmwmix.likelihood.graph import Graph

ROWS = 16_384  # that are evaluated at once
SECONDS = 1e-5  # that a fit takes in numpy per row, and per pair of parameters of the density


@dataclass(frozen=True)
class _Piece:
    """Some rows: their place, weights (m,), fixed columns (p, m), and what the graphs read, each (m,)."""

    rows: slice
    w: Array
    X: Array
    inputs: list[Array]


class FlatIntegratedObjective(Likelihood):
    """Minus the pseudo-log-likelihood of a generalised linear model (families, eq. 1).

    The weighted sum over rows of w log f(y | eta_1, eta_2, ..., phi), with a linear predictor eta = X b + offset for
    each parameter that has a formula. Rows are the units of the robust variance.

    Parameters
    ----------
    structure : MarginalStructure
        Its layout is empty.
    rows : RowArrays
    engine : str
        Densities of few rows are evaluated in numpy by ``"auto"``, before a compiler would have started.
    """

    def __init__(self, structure: MarginalStructure, rows: RowArrays, engine: str = "auto") -> None:
        self.structure, self.rows, self.engine, self.n_calls = structure, rows, engine, 0
        self._parts = (structure.family, (structure.link, *(name for name, _ in structure.further)), structure.n_phi)
        edges = [0, *(first for _, first in structure.further), structure.p]
        self._columns = [slice(a, b) for a, b in pairwise(edges)]
        seconds = SECONDS * len(rows.y) * len(rows.w) * (len(edges) - 1 + structure.n_phi) ** 2
        direct = is_direct(engine, seconds, self._parts, compiling=2.0)
        self._engine = "python" if direct else graph_engine(engine)

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code evaluates it."""
        return self._engine != "python"

    def with_weights(self, w_rows: Array, w: Sequence[Array]) -> FlatIntegratedObjective:
        """Give the same objective under other weights of rows (n,); there are no units."""
        return FlatIntegratedObjective(self.structure, replace(self.rows, w=w_rows), self.engine)

    def at(self, psi: Array, k: int = 0) -> IntegratedPoint:
        """Evaluate outcome ``k`` at parameters (P,)."""
        self.n_calls += 1
        psi = np.array(psi, dtype=float)
        value, gradient = 0.0, np.zeros(len(psi))
        for piece in self._pieces(psi, k):
            found = self._derivatives(slopes_graph, piece)
            value += float(piece.w @ found["density"])
            for a, (place, columns) in enumerate(self._designs(piece.X)):
                gradient[place] += columns @ (piece.w * found[f"first{a}"])
        return IntegratedPoint(psi, -value, -gradient, np.zeros((0, len(psi))), [], self, k)

    def hessian(self, point: IntegratedPoint) -> Array:
        """Second derivatives of minus the pseudo-log-likelihood (P, P)."""
        H = np.zeros((len(point.psi), len(point.psi)))
        for piece in self._pieces(point.psi, point.outcome):
            found, designs = self._derivatives(curvatures_graph, piece), self._designs(piece.X)
            for a, (place, columns) in enumerate(designs):
                for b, (other, across) in enumerate(designs[: a + 1]):
                    part = (columns * (piece.w * found[f"second{a}.{b}"])) @ across.T
                    H[place, other] -= part
                    if b < a:
                        H[other, place] -= part.T
        return H

    def information(self, point: IntegratedPoint, k: int = 0) -> Array:
        """Give the expected information of the coefficients where R's glm takes it, else minus the Hessian (P, P).

        They are the same under a canonical link.
        """
        family, link = self.structure.parts
        A, p = np.array(point.hessian), self.structure.p
        if not family.has_expected_information or self.structure.further:
            return A
        A[:p] = A[:, :p] = 0.0
        for piece in self._pieces(point.psi, k):
            extra = tuple(column[piece.rows] for column in self.rows.extra[k])
            curvature = family.expected_curvature(link, piece.inputs[0], point.psi[p:], extra)
            A[:p, :p] += (piece.X * (piece.w * curvature)) @ piece.X.T
        return A

    def scores(self, point: IntegratedPoint, k: int = 0) -> Array:
        """Gradient of the weighted log-likelihood of every row (n, P)."""
        out = np.zeros((len(self.rows.w), len(point.psi)))
        for piece in self._pieces(point.psi, k):
            found = self._derivatives(slopes_graph, piece)
            for a, (place, columns) in enumerate(self._designs(piece.X)):
                out[piece.rows, place] += (columns * (piece.w * found[f"first{a}"])).T
        return out

    def modes(self, point: IntegratedPoint, k: int = 0) -> list[tuple[Array, Array]]:
        """There are no random effects."""
        return []

    def start(self, k: int = 0) -> Array:
        """Least squares on the family's starting linear predictors."""
        return starting_point(self.structure, self.rows, k)

    def _derivatives(self, write: Callable[[Any], Graph], piece: _Piece) -> dict[str, Array]:
        """Evaluate one of the graphs."""
        function: Compiled = compiled(write, self._parts, self._engine)
        return {name: np.asarray(value) for name, value in function(piece.inputs[0], piece.inputs[1:]).items()}

    def _pieces(self, psi: Array, k: int) -> Iterator[_Piece]:
        """Cut the rows into pieces of one length, for which code is compiled once."""
        p, rows, n = self.structure.p, self.rows, len(self.rows.w)
        size = min(ROWS, n)
        for first in range(0, n, size):
            some = slice(min(first, n - size), min(first + size, n))
            w = rows.w[some]
            if some.start < first:  # rows that the piece before has counted
                w = np.where(np.arange(size) < first - some.start, 0.0, w)
            X = np.array([column[some] for column in rows.X]).reshape(p, size)
            etas = [psi[mine] @ X[mine] for mine in self._columns]
            etas[0] = etas[0] + rows.offset[some]
            phi = [np.full(size, value) for value in psi[p:]]
            inputs = [*etas, rows.y[k][some], *(column[some] for column in rows.extra[k]), *phi]
            yield _Piece(some, w, X, inputs)

    def _designs(self, X: Array) -> list[tuple[slice, Array]]:
        """Place in psi and columns (·, m) of every linear predictor, then of every further parameter."""
        p, one = self.structure.p, np.ones((1, X.shape[1]))
        phi = [(slice(p + a, p + a + 1), one) for a in range(self.structure.n_phi)]
        return [*((mine, X[mine]) for mine in self._columns), *phi]
