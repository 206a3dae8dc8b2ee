"""Record of one fit of one outcome, on the raw scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pmwmix._types import Array
from pmwmix.fitting.optimise import Status
from pmwmix.likelihood.standardise import Transform


@dataclass(frozen=True)
class Estimate:
    """One fit of one outcome, on the raw scale.

    Parameters
    ----------
    beta : ndarray, shape (p,)
    Psi : tuple of ndarray
        Covariance matrix of the random effects per level.
    sigma : float
    theta : ndarray, shape (n_theta,)
        Cholesky factors of Psi / sigma², lme4's theta.
    loglik : float
        (Restricted) pseudo-log-likelihood.
    vcov : ndarray, shape (P, P)
        Covariance of (beta, variance components, sigma²).
    boundary : ndarray of bool, shape (n_theta,)
        Parameters held at the boundary.
    flat : ndarray of bool, shape (n_theta,)
        Parameters that the data do not identify.
    status : Status
    converged, singular : bool
    n_steps : int
    point : Point
        On the standardised scale.
    transform : Transform
    replicates : ReplicateEstimates or None
        What the replicates gave, for functions of the parameters.
    """

    beta: Array
    Psi: tuple[Array, ...]
    sigma: float
    theta: Array
    loglik: float
    vcov: Array
    boundary: Array
    flat: Array
    status: Status
    converged: bool
    singular: bool
    n_steps: int
    point: Any
    transform: Transform
    small_df: Array | None = None
    replicates: Any = None


@dataclass(frozen=True)
class GeneralEstimate(Estimate):
    """One fit of one outcome of a generalised model, on the raw scale.

    Parameters
    ----------
    terms : tuple of str
        Names of ``beta``: thresholds first in an ordinal model.
    eta_beta : ndarray, shape (p,)
        Coefficients of the linear predictor alone.
    phi : ndarray, shape (n_phi,)
        Further parameters of the family on the working scale.
    reported : dict
        The same as they are reported.
    latent : float
        Variance of level 1 on the scale of the linear predictor.
    joint : ndarray
        Covariance of (coefficients, variance components, ``latent``, ``reported``).
    n_agq : tuple of int
        Nodes per dimension and level.
    moved : float
        Largest change of an estimate, in standard errors, when the nodes are next increased; NaN if that was not
        tried.
    modes : list of (ndarray (G_l, q_l), ndarray (G_l, q_l))
        Conditional modes of the random effects on the raw scale and their standard errors, bottom-up.
    """

    terms: tuple[str, ...] = ()
    eta_beta: Any = None
    phi: Any = None
    reported: Any = None
    latent: float = float("nan")
    joint: Any = None
    n_agq: tuple[int, ...] = ()
    moved: float = float("nan")
    modes: Any = None  # list of (b, se), see `modes_of`

    @property
    def reported_vcov(self) -> Array:
        """Covariance of the reported parameters of the family."""
        return self.joint[len(self.vcov) + 1 :, len(self.vcov) + 1 :]

    def with_covariance(self, joint: Array) -> GeneralEstimate:
        """Give the same estimate with another covariance of everything."""
        return replace(self, joint=joint, vcov=joint[: len(self.vcov), : len(self.vcov)])
