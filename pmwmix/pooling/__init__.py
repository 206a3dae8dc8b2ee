"""Results of several plausible values or imputations combined: one file per rule, with its tests; numpy only."""

from pmwmix import _registry
from pmwmix.pooling._base import POOLINGS, Pooled, pool

__all__ = ["POOLINGS", "Pooled", "pool"]

_registry.discover(__import__(__name__, fromlist=["_"]))
