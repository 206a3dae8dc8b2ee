"""The posterior as PyMC reads it: target, priors, density, start."""
