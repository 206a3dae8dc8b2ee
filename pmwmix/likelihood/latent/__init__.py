"""Distributions of the random effects, one file each, found by name in `LATENTS`."""

import sys

from pmwmix._registry import discover
from pmwmix.likelihood.latent._base import LATENTS, Latent, latent_of

discover(sys.modules[__name__])

__all__ = ["LATENTS", "Latent", "latent_of"]
