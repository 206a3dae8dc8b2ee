"""Distributions of the outcome: one small file each, found by name in `FAMILIES`."""

import sys

from pmwmix._registry import discover
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._modelled import with_parameters
from pmwmix.spec.outcome import Outcome, Response

discover(sys.modules[__name__])

__all__ = ["FAMILIES", "Family", "Outcome", "Response", "with_parameters"]
