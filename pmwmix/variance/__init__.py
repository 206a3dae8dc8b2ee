"""Covariance of the estimates: one file per method, all on (beta, theta, log sigma) of the standardised data."""

from pmwmix import _registry
from pmwmix.variance._base import VARIANCES, VarianceInput, between_psu, inverse_along, meat

__all__ = ["VARIANCES", "VarianceInput", "between_psu", "inverse_along", "meat"]

_registry.discover(__import__(__name__, fromlist=["_"]))
