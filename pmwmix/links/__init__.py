"""Link functions: one small file each, found by name in `LINKS`."""

import sys

from pmwmix._registry import discover
from pmwmix.links._base import LINKS, Link, ProbabilityLink

discover(sys.modules[__name__])

__all__ = ["LINKS", "Link", "ProbabilityLink"]
