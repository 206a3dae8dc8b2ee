"""What structured covariances leave free of theta: a curved surface, on which the climb goes. Numpy only.

Likelihoods know theta, all entries of Lambda. A structured term makes them functions of fewer parameters tau; exact
derivatives in tau follow from those in theta by the chain rule, whatever the likelihood (structured, eq. 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.linalg

from pmwmix._types import Array
from pmwmix.likelihood.covariances import COVARIANCES, Covariance, free_parameters
from pmwmix.likelihood.layout import ThetaLayout, semidefinite_cholesky

ZERO = 1e-5  # a standard deviation relative to sigma, or what a step of one along an angle changes
NEAR = 0.5


@dataclass(frozen=True)
class Term:
    """One random term: its structure (None: unstructured), its size, and its places in theta and tau."""

    structure: Covariance | None
    q: int
    theta: slice
    tau: slice

    @property
    def lower(self) -> tuple[Array, Array]:
        """Rows and columns of its entries of Lambda, in the order of theta."""
        columns, rows = np.triu_indices(self.q)
        return rows, columns

    def block(self, theta: Array) -> Array:
        """Give its Lambda (q, q)."""
        out = np.zeros((self.q, self.q))
        out[self.lower] = theta[self.theta]
        return out


@dataclass(frozen=True)
class Surface:
    """Theta at parameters tau, with first (t, n) and second (t, n, n) derivatives."""

    theta: Array
    first: Array
    second: Array


class Constraint:
    """The map from tau to theta of one layout."""

    def __init__(self, layout: ThetaLayout) -> None:
        self.layout = layout

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """All random terms, bottom-up."""
        out, t, n = [], 0, 0
        names = self.layout.structures or tuple(("us",) * len(sizes) for sizes in self.layout.blocks)
        for sizes, level in zip(self.layout.blocks, names, strict=True):
            for q, name in zip(sizes, level, strict=True):
                structure = None if name == "us" else COVARIANCES[name]
                full, free = q * (q + 1) // 2, free_parameters(name, q)
                out.append(Term(structure, q, slice(t, t + full), slice(n, n + free)))
                t, n = t + full, n + free
        return tuple(out)

    @property
    def n_free(self) -> int:
        """Number of free covariance parameters."""
        return self.terms[-1].tau.stop if self.terms else 0

    def surface(self, tau: Array) -> Surface:
        """Evaluate the map."""
        t, n = self.layout.n_theta, self.n_free
        theta, first, second = np.zeros(t), np.zeros((t, n)), np.zeros((t, n, n))
        for term in self.terms:
            if term.structure is None:
                theta[term.theta], first[term.theta, term.tau] = tau[term.tau], np.eye(term.tau.stop - term.tau.start)
                continue
            found = term.structure.Lambda(tau[term.tau], term.q)
            rows, columns = term.lower
            theta[term.theta] = found.value[rows, columns]
            first[term.theta, term.tau] = found.first[:, rows, columns].T
            second[term.theta, term.tau, term.tau] = np.moveaxis(found.second[:, :, rows, columns], -1, 0)
        return Surface(theta, first, second)

    def tau(self, theta: Array) -> Array:
        """Find the parameters of theta, or of a point of the surface like it."""
        out = np.zeros(self.n_free)
        for term in self.terms:
            L = term.block(theta)
            if term.structure is None:
                out[term.tau] = semidefinite_cholesky(L @ L.T)[term.lower]
            else:
                out[term.tau] = term.structure.tau(L @ L.T)
        return out

    def at_boundary(self, tau: Array) -> Array:
        """Mark parameters (n,) that are at the end of their range, or that nothing depends on there."""
        surface, out = self.surface(tau), np.zeros(self.n_free, dtype=bool)
        for term in self.terms:
            if term.structure is None:
                L = term.block(surface.theta)
                out[term.tau] = np.abs(np.diag(L))[term.lower[1]] <= ZERO
            else:
                out[term.tau] = np.abs(surface.first[term.theta, term.tau]).max(axis=0, initial=0.0) <= ZERO
                sd = slice(term.tau.start, term.tau.start + term.structure.n_sd(term.q))
                out[sd] = np.abs(tau[sd]) <= ZERO
        return out

    def candidates(self, tau: Array) -> list[Array]:
        """List points with one or all small standard deviations at zero; the first is tau in its one spelling."""
        own = self.tau(self.surface(tau).theta)
        small = [k for k in self._deviations() if 0.0 < own[k] < NEAR]
        out = [own]
        for group in [*([k] for k in small), small] if len(small) > 1 else [small] if small else []:
            changed = own.copy()
            changed[group] = 0.0
            out.append(self.tau(self.surface(changed).theta))
        return out

    def _deviations(self) -> Iterator[int]:
        for term in self.terms:
            if term.structure is None:
                columns = term.lower
                yield from (term.tau.start + i for i in np.flatnonzero(columns[0] == columns[1]))
            else:
                yield from range(term.tau.start, term.tau.start + term.structure.n_sd(term.q))

    def held(self, theta: Array) -> Array:
        """Orthonormal directions (t, m) in which theta may not move: off the surface, or over its boundary."""
        tau = self.tau(theta)
        free = self.surface(tau).first[:, ~self.at_boundary(tau)]
        return scipy.linalg.null_space(free.T) if free.size else np.eye(len(theta))

    def bend(self, theta: Array, gradient: Array) -> Array:
        """Give what the surface's own curvature adds to a Hessian (t, t) along it (structured, eq. 5)."""
        tau = self.tau(theta)
        surface, free = self.surface(tau), ~self.at_boundary(tau)
        back = np.linalg.pinv(surface.first[:, free])
        curved = np.einsum("k,kab->ab", gradient, surface.second)[np.ix_(free, free)]
        return back.T @ curved @ back


@lru_cache(maxsize=64)
def constraint_of(layout: ThetaLayout) -> Constraint:
    """Give the map of a layout."""
    return Constraint(layout)


@dataclass
class SurfacePoint:
    """A point of a likelihood as the climb sees it: its free parameters and the derivatives in them."""

    whole: Any
    theta: Array
    place: slice
    surface: Surface
    costly = False

    @property
    def value(self) -> float:
        """Minus the log-likelihood."""
        return float(self.whole.value)

    @cached_property
    def map(self) -> Array:
        """Derivatives of the parameters of the likelihood in the free ones."""
        before, after = self.place.start, len(self.whole.gradient) - self.place.stop
        return scipy.linalg.block_diag(np.eye(before), self.surface.first, np.eye(after))

    @property
    def gradient(self) -> Array:
        """Of ``value``."""
        return self.map.T @ self.whole.gradient

    @cached_property
    def hessian(self) -> Array:
        """Of ``value``."""
        H = self.map.T @ self.whole.hessian @ self.map
        start, n = self.place.start, self.surface.first.shape[1]
        own = slice(start, start + n)
        H[own, own] += np.einsum("k,kab->ab", self.whole.gradient[self.place], self.surface.second)
        return H


class OnSurface:
    """A likelihood whose climb goes along the surface; arguments and answers of `Likelihood.at`, in free parameters."""

    def __init__(self, objective: Any, layout: ThetaLayout) -> None:
        self.objective, self.constraint = objective, constraint_of(layout)
        start = 0 if objective.closed_form else objective.structure.p
        self.place = slice(start, start + layout.n_theta)

    def inside(self, whole: Array) -> Array:
        """Turn parameters of the likelihood that are climbed into free ones."""
        a, b = self.place.start, self.place.stop
        return np.concatenate([whole[:a], self.constraint.tau(whole[a:b]), whole[b:]])

    def at(self, free: Array, k: int = 0) -> SurfacePoint:
        """Evaluate outcome ``k``."""
        a, n = self.place.start, self.constraint.n_free
        surface = self.constraint.surface(free[a : a + n])
        whole = np.concatenate([free[:a], surface.theta, free[a + n :]])
        return SurfacePoint(self.objective.at(whole, k), free, self.place, surface)

    def start(self, k: int = 0) -> Array:
        """Give the parameters that a climb of outcome ``k`` starts from."""
        return self.inside(self.objective.start(k))

    def boundary(self, free: Array) -> list[Array]:
        """List points on the boundary near a point; the first is the point itself in its one spelling."""
        a, n = self.place.start, self.constraint.n_free
        return [np.concatenate([free[:a], tau, free[a + n :]]) for tau in self.constraint.candidates(free[a : a + n])]
