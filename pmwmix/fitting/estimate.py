"""Record of one fit of one outcome, on the raw scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pmwmix._types import Array
from pmwmix.fitting.optimise import Status
from pmwmix.likelihood.standardise import Transform


@dataclass(frozen=True)
class Estimate:
    """One fit of one outcome, on the raw scale.

    Parameters
    ----------
    terms : tuple of str
        Names of ``beta``: thresholds first in an ordinal model.
    beta : ndarray, shape (p,)
    eta_beta : ndarray
        Coefficients of the linear predictor alone.
    Psi : tuple of ndarray
        Covariance matrix of the random effects per level.
    sigma : float
    theta : ndarray, shape (n_theta,)
        Cholesky factors of Psi / sigma², lme4's theta.
    phi : ndarray
        Further parameters on the working scale: log sigma of a Gaussian model, those of the family else.
    reported : dict
        Further parameters of the family as they are reported.
    latent : float
        Variance of level 1 on the scale of the linear predictor: sigma² of a Gaussian model.
    loglik : float
        (Restricted) pseudo-log-likelihood.
    joint : ndarray
        Covariance of (beta, variance components, ``latent``, ``reported``).
    boundary : ndarray of bool, shape (n_theta,)
        Parameters held at the boundary.
    flat : ndarray of bool, shape (n_theta,)
        Parameters that the data do not identify.
    status : Status
    converged, singular : bool
    n_steps : int
    point : Point
        On the standardised scale, without what is as long as there are units.
    transform : Transform
    n_agq : tuple of int
        Nodes per dimension and level; none where the integral has a closed form.
    moved : float
        Largest change of an estimate, in standard errors, when the nodes are next increased; NaN if that was not
        tried.
    loglik_error : float
        By how much the log-likelihood at the estimates changes when the nodes are next increased; NaN if that was not
        tried.
    gained : float
        By how much the log-likelihood is higher than where the climb from the usual start ended.
    n_starts : int
        Climbs, of which the best is reported.
    modes : list of (ndarray (G_l, q_l), ndarray (G_l, q_l)), optional
        Conditional modes of the random effects on the raw scale and their standard errors, bottom-up; None where they
        are found from the cross-products when they are asked for.
    shape : tuple of ndarray
        Parameters of the random effects' distribution on their working scale, per level; empty where they are normal.
    classes : list of ndarray (G_l, k), optional
        Probabilities of the masses of discrete random effects given the outcomes, bottom-up.
    n_of_shape : int
        How many of the last ``reported`` are those of that distribution.
    small_df : ndarray, shape (p,), optional
        Degrees of freedom of a small-sample variance.
    clipped : bool
        Whether a covariance by several clusterings had negative eigenvalues, which were set to zero.
    replicates : ReplicateEstimates, optional
        What the replicates gave, for functions of the parameters.
    """

    terms: tuple[str, ...]
    beta: Array
    eta_beta: Array
    Psi: tuple[Array, ...]
    sigma: float
    theta: Array
    phi: Array
    reported: dict[str, float]
    latent: float
    loglik: float
    joint: Array
    boundary: Array
    flat: Array
    status: Status
    converged: bool
    singular: bool
    n_steps: int
    point: Any
    transform: Transform
    n_agq: tuple[int, ...] = ()
    moved: float = float("nan")
    loglik_error: float = float("nan")
    gained: float = 0.0
    n_starts: int = 1
    modes: Any = None
    shape: tuple[Array, ...] = ()
    classes: list[Array] | None = None
    n_of_shape: int = 0
    small_df: Array | None = None
    clipped: bool = False
    replicates: Any = None

    @property
    def vcov(self) -> Array:
        """Covariance of (beta, variance components, ``latent``)."""
        m = len(self.beta) + len(self.theta) + 1
        return self.joint[:m, :m]

    @property
    def reported_vcov(self) -> Array:
        """Covariance of the reported parameters of the family."""
        m = len(self.beta) + len(self.theta) + 1
        return self.joint[m:, m:]
