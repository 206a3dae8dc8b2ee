"""Covariance of the estimates: one file per method, all on (beta, theta, log sigma) of the standardised data."""

import sys

from pmwmix._registry import discover
from pmwmix.variance._base import ALWAYS_CUT, VARIANCES, VarianceInput, between_psu, inverse_along, meat

discover(sys.modules[__name__])

__all__ = ["ALWAYS_CUT", "VARIANCES", "VarianceInput", "between_psu", "inverse_along", "meat"]
