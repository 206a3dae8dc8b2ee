"""What every likelihood answers: points with value, gradient, Hessian and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.spec.outcome import Response

LOG_2PI = float(np.log(2 * np.pi))
MANY = 6  # parameters, from which second derivatives are so much dearer that a climb does with few


class Likelihood:
    """Minus the pseudo-log-likelihood of one set of predictors; parameters are psi = (beta, theta, phi), P of them.

    Attributes
    ----------
    structure : object
        What decides its shape: ``layout``, ``p``, and more of its own.
    engine : str
        As it was asked for.
    closed_form : bool
        Whether the random effects of a Gaussian model are integrated out in closed form, and beta and sigma profiled
        out: theta alone is climbed, and phi is log sigma.
    crossed : bool
        Whether random effects of several factors meet in the rows: groups are then no independent units.
    composite : bool
        Whether it is a product of likelihoods of pairs, which is no likelihood of the sample.
    n_agq : tuple of int
        Nodes per dimension and level; none in closed form.
    n_rho : int
        Parameters of a residual structure, or of predictors with latent group means, which are climbed behind theta;
        only in closed form.
    of_block : bool
        Whether the information on the coefficients is that of their block, as in linear models, where they are
        independent of the other parameters if the model holds.
    many_maxima : bool
        Whether several maxima are the rule, so that every outcome is climbed from all `starts`.
    """

    structure: Any
    engine: str
    closed_form: bool = False
    crossed: bool = False
    composite: bool = False
    n_agq: tuple[int, ...] = ()
    n_rho: int = 0
    of_block: bool = True
    many_maxima: bool = False

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code evaluates it, whose data JAX can put on a device."""
        return False

    def at(self, free: Array, k: int = 0) -> Any:
        """Evaluate outcome ``k``: a `Point` or `IntegratedPoint`.

        Parameters
        ----------
        free : ndarray
            The parameters that are climbed, `free` of psi.
        k : int
        """
        raise NotImplementedError

    @property
    def free(self) -> slice:
        """Parameters of psi that are climbed."""
        p = self.structure.p
        return slice(p, p + self.structure.layout.n_theta + self.n_rho) if self.closed_form else slice(None)

    def report(self, climbed: Array) -> Any:
        """Give the parameters of a residual structure as they are reported; only where there are any."""
        raise NotImplementedError

    def renewed(self, point: Any, k: int) -> Any:
        """Give the same where what it is made from depends on the estimates and has moved; None where it has not."""
        return None

    def scores(self, point: Any, k: int = 0) -> Array:
        """Gradient of the log-likelihood of every independent unit in psi, weights included (G, P)."""
        raise NotImplementedError

    def row_scores(self, point: Any, k: int = 0) -> Array:
        """Gradient in the coefficients by rows (n, p), each linear in the row's own residual; of linear models."""
        raise NotImplementedError

    def information(self, point: Any, k: int = 0) -> Array:
        """Information of a covariance matrix (P, P): minus the Hessian of the log-likelihood, or its expectation."""
        information: Array = point.information
        return information

    def modes(self, point: Any, k: int = 0) -> list[tuple[Array, Array]]:
        """Conditional modes (G_l, q_l) of the random effects, and their covariances (G_l, q_l, q_l), bottom-up."""
        raise NotImplementedError

    def classes(self, point: Any, k: int = 0) -> list[Array] | None:
        """Probabilities of mass points given the outcomes, (G_l, k) per level, bottom-up; None without such points."""
        return None

    def start(self, k: int = 0) -> Array:
        """Give the parameters that a climb of outcome ``k`` starts from, `free` of psi."""
        raise NotImplementedError

    def starts(self, k: int = 0) -> list[Array]:
        """List points to climb from where there may be several maxima; the best end counts."""
        return [self.start(k)]

    def boundary(self, free: Array) -> list[Array]:
        """List points with one or all small variances at zero; the first is the point itself in its one spelling."""
        layout, p = self.structure.layout, self.structure.p
        if self.closed_form:
            return list(layout.boundary_candidates(free))
        t = layout.n_theta
        found = layout.boundary_candidates(free[p : p + t])
        return [np.concatenate([free[:p], theta, free[p + t :]]) for theta in found]

    def with_nodes(self, n_agq: tuple[int, ...]) -> Any:
        """Give the same with other numbers of nodes; only where there are any."""
        raise NotImplementedError


@dataclass
class IntegratedPoint:
    """The objective at one point. Parameters are ordered (beta, theta, phi); P of them.

    Parameters
    ----------
    theta : ndarray, shape (P,)
        All parameters; the name is that of `optimise.minimise`.
    value : float
        Minus the pseudo-log-likelihood, without the constant of the outcome.
    gradient : ndarray, shape (P,)
    scores : ndarray, shape (G_L, P)
        Gradient of the weighted log-likelihood of every top-level unit.
    modes : list of list of ndarray
        Per chunk and level, padded.
    """

    theta: Array
    value: float
    gradient: Array
    scores: Array
    modes: list[list[Array]]
    source: Any
    outcome: int
    _hessian: Any = None

    costly = True  # the Hessian takes several times as long as the rest

    @property
    def frugal(self) -> bool:
        """Whether second derivatives take so much longer than first ones that a climb should do with few of them."""
        return len(self.theta) >= MANY and not getattr(self.source, "direct", True)

    @property
    def psi(self) -> Array:
        """All parameters (P,)."""
        return self.theta

    @property
    def hessian(self) -> Array:
        """Exact second derivatives of ``value`` (P, P); computed when first asked for."""
        if self._hessian is None:
            self._hessian = self.source.hessian(self)
        return self._hessian

    @property
    def information(self) -> Array:
        """Negative Hessian of the pseudo-log-likelihood (P, P)."""
        return self.hessian

    def with_hessian(self, hessian: Array) -> IntegratedPoint:
        """Give the same point, its second derivatives known."""
        return replace(self, _hessian=hessian)

    def light(self) -> IntegratedPoint:
        """Keep the second derivatives, without what is as long as there are units."""
        bare = replace(self, modes=[], scores=np.zeros((0, len(self.theta))))
        return bare.with_hessian(self.hessian)


@dataclass(frozen=True)
class RowArrays:
    """Rows of the sample in the order of the table; standardised columns.

    Parameters
    ----------
    X : sequence of ndarray, each (n,)
    Z : sequence of ndarray, each (n,)
        Random columns of all levels, bottom-up.
    offset, w : ndarray, shape (n,)
    y : list of ndarray, each (n,)
        Outcomes.
    extra : list of tuple of ndarray
        Per outcome.
    responses : sequence of Response
        The outcomes as their family read them, for starting values.
    """

    X: Sequence[Array]
    Z: Sequence[Array]
    offset: Array
    w: Array
    y: list[Array]
    extra: list[tuple[Array, ...]]
    responses: Sequence[Response] = ()


@dataclass(frozen=True)
class Point:
    """The objective at one theta. Free parameters are ordered (beta, theta, log sigma); P of them.

    The parameters rho of a residual structure stand behind theta and count as part of it here.

    Parameters
    ----------
    theta, beta : ndarray, shape (n_theta,), (p,)
    sigma : float
        Profiled residual standard deviation.
    value : float
        Minus the (restricted) pseudo-log-likelihood, profiled over beta and sigma.
    gradient, hessian : ndarray, shape (n_theta,), (n_theta, n_theta)
        Of ``value``.
    information : ndarray, shape (P, P)
        Negative Hessian of the joint (restricted) pseudo-log-likelihood.
    """

    theta: Array
    beta: Array
    sigma: float
    value: float
    gradient: Array
    hessian: Array
    information: Array
    raw: dict[str, Any]

    @property
    def psi(self) -> Array:
        """All parameters (P,)."""
        return np.concatenate([self.beta, self.theta, [np.log(self.sigma)]])

    def light(self) -> Point:
        """Forget the raw outputs of the likelihood, which are as long as there are units."""
        return replace(self, raw={})


def joint_information(Sxx: Array, Q_tb: Array, second: Array, Q_t: Array, sigma2: float, n: float) -> Array:
    """Negative Hessian of the log-likelihood in (beta, theta, log sigma) at a profiled point (theory, eq. 13)."""
    p, t = len(Sxx), len(Q_t)
    A = np.zeros((p + t + 1, p + t + 1))
    A[:p, :p] = Sxx / sigma2
    A[p : p + t, :p] = 0.5 * Q_tb / sigma2
    A[:p, p : p + t] = A[p : p + t, :p].T
    A[p : p + t, p : p + t] = second
    A[p : p + t, -1] = A[-1, p : p + t] = -Q_t / sigma2
    A[-1, -1] = 2.0 * n
    return A


def schur_onto(A: Array, keep: slice) -> Array:
    """Profile a quadratic form onto some of its coordinates: A_kk - A_ko A_oo⁻¹ A_ok."""
    kept = np.zeros(len(A), dtype=bool)
    kept[keep] = True
    cross = A[np.ix_(kept, ~kept)]
    return A[np.ix_(kept, kept)] - cross @ np.linalg.solve(A[np.ix_(~kept, ~kept)], cross.T)
