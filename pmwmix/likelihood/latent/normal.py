"""Standard normal random effects."""

from pmwmix.likelihood.latent._base import LATENTS, Latent


class Normal(Latent):
    """The distribution that others are compared with; everything as in the base."""

    by_graph = True


LATENTS.add("normal", Normal())
