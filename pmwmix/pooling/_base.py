"""The registry of pooling rules, what they are given and what they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmwmix._registry import Registry
from pmwmix._types import Array

POOLINGS = Registry("pooling rule")


@dataclass(frozen=True)
class Pooled:
    """Pooled estimates of P parameters over K fits (EdSurvey methods, eqs. 6-8; theory, eqs. 22-25).

    Parameters
    ----------
    estimate : ndarray, shape (P,)
    vcov : ndarray, shape (P, P)
        Total covariance, by Rubin's rules V̄ + (1 + 1/K) B. Of numbers pooled one by one the variances (P,), and so
        below.
    within, between : ndarray, shape (P, P)
        Mean of the covariances, and covariance of the estimates between fits (without 1 + 1/K).
    fmi : ndarray, shape (P,)
        Fraction of missing information, (r + 2/(df + 3)) / (r + 1).
    df : ndarray, shape (P,)
        Degrees of freedom, by Rubin's rules Barnard and Rubin's.
    """

    estimate: Array
    vcov: Array
    within: Array
    between: Array
    fmi: Array
    df: Array

    @property
    def added(self) -> Array:
        """What differences between fits add to the covariances within them."""
        return self.vcov - self.within


def pool(values: Array, variances: Array, df: float | Array = np.inf, nests: Sequence[tuple[str, ...]] = ()) -> Pooled:
    """Pool K fits by the rule that their labels ask for: Rubin's without labels, ``POOLINGS["nested"]`` with them.

    Parameters
    ----------
    values : ndarray, shape (K, P)
    variances : ndarray, shape (K, P, P)
        Covariances; or, in the shape of ``values``, variances of numbers that are pooled one by one.
    df : float or ndarray
        Degrees of freedom of one fit: clusters minus strata under a robust variance.
    nests : sequence of tuple of str
        The nests of imputations that each fit belongs to, outermost first; empty where fits are exchangeable.

    Returns
    -------
    Pooled
    """
    return POOLINGS["nested"](values, variances, df, nests) if any(nests) else POOLINGS["rubin"](values, variances, df)
