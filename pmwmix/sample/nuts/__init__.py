"""Running the sampler."""
