"""PyTensor operations of our own, with their forms in JAX and numba; those of the links are registered here too."""

import sys

from pmwmix._registry import discover

discover(sys.modules[__name__])
