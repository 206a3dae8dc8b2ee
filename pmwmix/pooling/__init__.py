"""Results of several plausible values or imputations combined: one file per rule, with its tests; numpy only."""

import sys

from pmwmix._registry import discover
from pmwmix.pooling._base import POOLINGS, Pooled, pool

discover(sys.modules[__name__])

__all__ = ["POOLINGS", "Pooled", "pool"]
